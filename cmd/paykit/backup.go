package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/paykit-go/paykit/internal/daemon"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

type backupCmd struct {
	File           string   `arg:"" help:"New file to write; - for standard output."`
	Recipient      []string `placeholder:"AGE1…" help:"Encrypt to this age recipient; may be repeated."`
	RecipientsFile string   `type:"path" placeholder:"FILE" help:"Encrypt to the age recipients in this file."`
	PassphraseFile string   `type:"path" placeholder:"FILE" help:"Encrypt with the passphrase in this file."`
}

func (backupCmd) Help() string {
	return `Writes all streams into one file while everything runs, and a sum behind them. The log is in it up to its last event; what is
under way is worked on again after a restore and found done. The file holds personal data: encrypt it, and keep it no longer
than you may.

  paykit backup paykit-2026-11-29.age --recipient age1…
  paykit backup - --recipients-file ops.pub | ssh vault 'cat > paykit.age'`
}

// kept is what "backup" and "restore" answer.
type kept struct {
	File         string                  `json:"file"`
	Encrypted    bool                    `json:"encrypted"`
	Created      time.Time               `json:"created"` // of the backup
	Env          string                  `json:"env"`
	LastSequence uint64                  `json:"lastSequence"` // of the log
	Streams      []eventlog.BackupStream `json:"-"`
	Sizes        []keptStream            `json:"streams"`
	Links        *int                    `json:"links,omitempty"` // that a restore put back from the log
}

type keptStream struct {
	Name          string `json:"name"`
	Messages      uint64 `json:"messages"`
	FirstSequence uint64 `json:"firstSequence"`
	LastSequence  uint64 `json:"lastSequence"`
	Bytes         uint64 `json:"bytes"`
}

func (c backupCmd) Run(a *app) (err error) {
	recipients, err := c.recipients()
	if err != nil {
		return err
	}
	nc, err := a.nats.Connect("provision", a.logger(), silentDisconnect())
	if err != nil {
		return err
	}
	defer nc.Close()
	out, finish, err := c.create(a)
	if err != nil {
		return err
	}
	defer func() { err = finish(err) }()
	w := io.WriteCloser(unclosed{out})
	if len(recipients) > 0 {
		if w, err = age.Encrypt(out, recipients...); err != nil {
			return fmt.Errorf("encrypt: %w", err)
		}
	}
	cfg := eventlog.Config{Prefix: a.nats.Prefix, Env: a.nats.Env, Logger: a.logger()}
	m, list, err := eventlog.Backup(a.ctx, nc, cfg, w, a.rate("read"))
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	if err := w.Close(); err != nil { // writes the last part
		return fmt.Errorf("encrypt: %w", err)
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write %s: %w", c.File, err)
	}
	if c.File == "-" { // the answer would be in the backup
		a.out = a.err
	}
	return a.kept(kept{File: c.File, Encrypted: len(recipients) > 0, Created: m.Created, Env: m.Env, Streams: list})
}

// recipients are whoever may read the backup; none: everybody.
func (c backupCmd) recipients() ([]age.Recipient, error) {
	var list []age.Recipient
	for _, text := range c.Recipient {
		r, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil {
			return nil, &daemon.UsageError{Err: fmt.Errorf("--recipient %s: %w", text, err)}
		}
		list = append(list, r...)
	}
	if c.RecipientsFile != "" {
		f, err := os.Open(c.RecipientsFile)
		if err != nil {
			return nil, fmt.Errorf("--recipients-file: %w", err)
		}
		defer f.Close()
		r, err := age.ParseRecipients(f)
		if err != nil {
			return nil, &daemon.UsageError{Err: fmt.Errorf("--recipients-file %s: %w", c.RecipientsFile, err)}
		}
		list = append(list, r...)
	}
	if c.PassphraseFile == "" {
		return list, nil
	}
	if len(list) > 0 {
		return nil, &daemon.UsageError{Err: errors.New("--passphrase-file: a passphrase can't be beside recipients, leave one of them out")}
	}
	secret, err := passphrase(c.PassphraseFile)
	if err != nil {
		return nil, err
	}
	r, err := age.NewScryptRecipient(secret)
	if err != nil {
		return nil, &daemon.UsageError{Err: fmt.Errorf("--passphrase-file: %w", err)}
	}
	return []age.Recipient{r}, nil
}

// passphrase reads the first line of a file.
func passphrase(file string) (string, error) {
	b, err := os.ReadFile(file) //nolint:gosec // G304: the operator names the file
	if err != nil {
		return "", fmt.Errorf("--passphrase-file: %w", err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	if line = strings.TrimRight(line, "\r"); line == "" {
		return "", &daemon.UsageError{Err: fmt.Errorf("--passphrase-file: the first line of %s is empty", file)}
	}
	return line, nil
}

// create opens what is written to. finish puts the file in its place if all went well: what stands under its name is whole,
// and of two backups of one name one fails. A crash before leaves a file with .partial- in its name, which nobody takes for
// a backup.
func (c backupCmd) create(a *app) (out *bufio.Writer, finish func(error) error, err error) {
	if c.File == "-" {
		return bufio.NewWriter(a.out), func(err error) error { return err }, nil
	}
	if _, err := os.Lstat(c.File); err == nil {
		return nil, nil, fmt.Errorf("%s is there already: a backup overwrites nothing", c.File)
	}
	f, err := os.CreateTemp(filepath.Dir(c.File), filepath.Base(c.File)+".partial-*") // readable by its owner only
	if err != nil {
		return nil, nil, fmt.Errorf("backup: %w", err)
	}
	return bufio.NewWriterSize(f, 1<<20), func(err error) error {
		if err == nil {
			err = f.Sync()
		}
		err = errors.Join(err, f.Close())
		if err == nil {
			err = os.Link(f.Name(), c.File) // overwrites nothing, as a rename would
		}
		if err = errors.Join(err, os.Remove(f.Name())); err != nil {
			return err //nolint:wrapcheck // says what it was
		}
		return syncDir(filepath.Dir(c.File))
	}, nil
}

// syncDir makes a new name in a folder last.
func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // G304: of the operator's own file
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// unclosed is a writer that has nothing to do at the end.
type unclosed struct{ io.Writer }

func (unclosed) Close() error { return nil }

type restoreCmd struct {
	File           string   `arg:"" help:"Backup to read; - for standard input."`
	Identity       []string `type:"path" placeholder:"FILE" help:"Decrypt with the age identities in this file; may be repeated."`
	PassphraseFile string   `type:"path" placeholder:"FILE" help:"Decrypt with the passphrase in this file."`
	MaxBytes       int64    `name:"max-bytes" help:"Most that the log may take, in bytes; default: as it was."`
	Replicas       int      `help:"Copies of every stream: 1, or 3 on a cluster; default: as many as there were."`
}

func (restoreCmd) Help() string {
	return `Makes the streams of a backup, on a server that has none of this prefix. The whole file is checked before anything is made.
Stop ingest, worker and projector first; start them when it is done, the views are built anew. A restore that was
interrupted leaves streams that nobody can open: run it again, it takes them away and begins anew.

  paykit restore paykit-2026-11-29.age --identity key.txt
  paykit restore paykit.backup --replicas 3`
}

func (c restoreCmd) Run(a *app) error {
	if c.Replicas < 0 || c.MaxBytes < 0 {
		return &daemon.UsageError{Err: errors.New("--replicas and --max-bytes can't be negative")}
	}
	identities, err := c.identities()
	if err != nil {
		return err
	}
	open := func() (io.ReadCloser, error) { return os.Open(c.File) }
	if c.File == "-" { // it is read twice
		kept, size, err := spool(os.Stdin)
		if err != nil {
			return err
		}
		defer kept.Close()
		open = func() (io.ReadCloser, error) { //nolint:unparam // a file's can fail
			return io.NopCloser(io.NewSectionReader(kept, 0, size)), nil
		}
	}
	nc, err := a.nats.Connect("provision", a.logger(), silentDisconnect())
	if err != nil {
		return err
	}
	defer nc.Close()
	encrypted := false
	report, err := eventlog.Restore(a.ctx, nc, eventlog.Config{
		Prefix: a.nats.Prefix, Env: a.nats.Env, MaxBytes: c.MaxBytes, Replicas: c.Replicas, Logger: a.logger(),
	}, func() (io.ReadCloser, error) {
		f, err := open()
		if err != nil {
			return nil, err
		}
		r, found, err := decrypt(f, identities)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		encrypted = found
		return plain{r, f}, nil
	}, a.rate("written"))
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	m := report.Manifest
	return a.kept(kept{File: c.File, Encrypted: encrypted, Created: m.Created, Env: report.Env, Streams: report.Streams, Links: &report.Links})
}

// plain is a backup in the clear and the file that it is read from.
type plain struct {
	io.Reader
	io.Closer
}

// ageHeader is how an encrypted file begins. Source: https://age-encryption.org/v1
const ageHeader = "age-encryption.org/v1\n"

// decrypt takes off the encryption, if there is one.
func decrypt(f io.Reader, identities []age.Identity) (r io.Reader, encrypted bool, err error) {
	in := bufio.NewReaderSize(f, 1<<20)
	begin, _ := in.Peek(len(ageHeader)) // a shorter file is no backup, which is found out later
	switch encrypted = bytes.Equal(begin, []byte(ageHeader)); {
	case !encrypted && len(identities) > 0:
		return nil, false, errors.New("the backup is not encrypted: leave --identity and --passphrase-file out, if it is the one that you mean")
	case !encrypted:
		return in, false, nil
	case len(identities) == 0:
		return nil, true, errors.New("the backup is encrypted: give --identity or --passphrase-file")
	}
	if r, err = age.Decrypt(in, identities...); err != nil {
		return nil, true, fmt.Errorf("decrypt: %w", err)
	}
	return whole{r}, true, nil
}

// whole says of what can't be decrypted to its end what it is: age keeps a sum of each part.
type whole struct{ io.Reader }

func (w whole) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if _, read := errors.AsType[*fs.PathError](err); err != nil && !errors.Is(err, io.EOF) && !read {
		err = &eventlog.DamagedBackupError{Reason: "it was cut off or changed since it was encrypted: " + err.Error()}
	}
	return n, err //nolint:wrapcheck // of the file, or the end
}

func (c restoreCmd) identities() ([]age.Identity, error) {
	var list []age.Identity
	for _, name := range c.Identity {
		f, err := os.Open(name) //nolint:gosec // G304: the operator names the file
		if err != nil {
			return nil, fmt.Errorf("--identity: %w", err)
		}
		ids, err := age.ParseIdentities(f)
		_ = f.Close()
		if err != nil {
			return nil, &daemon.UsageError{Err: fmt.Errorf("--identity %s: %w", name, err)}
		}
		list = append(list, ids...)
	}
	if c.PassphraseFile == "" {
		return list, nil
	}
	secret, err := passphrase(c.PassphraseFile)
	if err != nil {
		return nil, err
	}
	id, err := age.NewScryptIdentity(secret)
	if err != nil {
		return nil, &daemon.UsageError{Err: fmt.Errorf("--passphrase-file: %w", err)}
	}
	return append(list, id), nil
}

// spool keeps what comes in once, as it comes: what is encrypted stays so on disk. The file has no name any more when the
// first byte is written, so nothing is left of it whatever ends this process.
func spool(in io.Reader) (kept *os.File, size int64, err error) {
	f, err := os.CreateTemp("", "paykit-restore-")
	if err != nil {
		return nil, 0, fmt.Errorf("a place for the backup: %w", err)
	}
	if err = os.Remove(f.Name()); err == nil {
		size, err = io.Copy(f, in)
	}
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("keep the backup in %s: %w", filepath.Dir(f.Name()), err), f.Close())
	}
	return f, size, nil
}

// rateEvery is how often progress is told.
const rateEvery = time.Second

// rate tells on standard error how far it is.
func (a *app) rate(done string) func(eventlog.Progress) {
	var stream string
	var began, told time.Time
	return func(p eventlog.Progress) {
		now := time.Now()
		if p.Stream != stream {
			stream, began, told = p.Stream, now, now
		}
		if !p.Done && now.Sub(told) < rateEvery {
			return
		}
		told = now
		line := fmt.Sprintf("%s: %d messages, %s %s", p.Stream, p.Messages, size(float64(p.Bytes)), done)
		if took := now.Sub(began).Seconds(); took > 0.001 {
			line += fmt.Sprintf(", %s/s", size(float64(p.Bytes)/took))
		}
		fmt.Fprintln(a.err, line)
	}
}

// size is a number of bytes for people.
func size(n float64) string {
	for _, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if n < 1024 {
			return strconv.FormatFloat(n, 'f', 1, 64) + " " + unit
		}
		n /= 1024
	}
	return strconv.FormatFloat(n, 'f', 1, 64) + " TiB"
}

func (a *app) kept(k kept) error {
	var rows [][]string
	for _, s := range k.Streams {
		k.Sizes = append(k.Sizes, keptStream{s.Name, s.Messages, s.FirstSequence, s.LastSequence, s.Bytes})
		rows = append(rows, []string{s.Name, strconv.FormatUint(s.Messages, 10), strconv.FormatUint(s.LastSequence, 10), size(float64(s.Bytes))})
		if strings.HasSuffix(s.Name, "_LOG") {
			k.LastSequence = s.LastSequence
		}
	}
	if err := a.show(k, []string{"STREAM", "MESSAGES", "LAST SEQUENCE", "SIZE"}, rows...); err != nil || a.json {
		return err
	}
	fmt.Fprintf(a.out, "\n%s: made %s, environment %s\n", k.File, when(k.Created), k.Env)
	if !k.Encrypted {
		fmt.Fprintln(a.out, "It is not encrypted and holds personal data.")
	}
	return nil
}
