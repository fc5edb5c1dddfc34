package eventlog

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"time"
)

// A backup is a tar file and one line behind it:
//
//	manifest.json                       [Manifest]
//	PAYKIT_LINKS/stream.json            [BackupStream]: the stream's configuration and state
//	PAYKIT_LINKS/000000, …/000001, …    what the server's snapshot of it holds, in pieces
//	PAYKIT_COMMANDS/stream.json, …      the next stream, in the manifest's order
//	sha256 <64 hexadecimal digits>      of every byte before this line
//
// The snapshots are NATS's own and are given back to NATS as they are. The line at the end tells a whole file from one that
// was cut off or changed; programs for tar files do not read that far.
const (
	backupFormat  = "paykit-backup"
	backupVersion = 1
	manifestName  = "manifest.json"
	streamFile    = "/stream.json"
	sumPrefix     = "sha256 "
	sumLength     = len(sumPrefix) + 2*sha256.Size + 1
	pieceBytes    = 4 << 20  // of a snapshot in one member
	memberMost    = 16 << 20 // bytes of a member; more is no backup of ours
)

// Manifest is what a backup says of itself, before anything else.
type Manifest struct {
	Format    string           `json:"format"`  // "paykit-backup"
	Version   int              `json:"version"` // of the format
	ID        string           `json:"id"`      // a random one, of this backup
	Created   time.Time        `json:"created"` // when it was begun: what happened later may or may not be in it
	Server    string           `json:"server"`  // NATS's version
	Prefix    string           `json:"prefix"`
	Env       string           `json:"env"`
	Streams   []string         `json:"streams"`   // by name, in the order in which they were read
	Consumers []BackupConsumer `json:"consumers"` // the durable ones, with how far they were when it was begun
}

// BackupConsumer is a durable consumer and where it goes on after a restore.
type BackupConsumer struct {
	Stream string          `json:"stream"`
	Name   string          `json:"name"`
	Floor  uint64          `json:"floor"`            // everything up to here was acknowledged
	Config json.RawMessage `json:"config,omitempty"` // of an app's consumer; PayKit's own are made by what [Provision] knows
}

// BackupStream is one stream of a backup.
type BackupStream struct {
	Name    string          `json:"name"`
	Created time.Time       `json:"created"` // of the stream
	Config  json.RawMessage `json:"config"`  // as NATS gives it
	State   json.RawMessage `json:"state"`   // as NATS gives it, when its snapshot was begun

	Messages      uint64 `json:"messages"`
	FirstSequence uint64 `json:"firstSequence"`
	LastSequence  uint64 `json:"lastSequence"`
	Bytes         uint64 `json:"bytes"` // stored in the stream; its snapshot is compressed
}

// DamagedBackupError says that a file is no backup, not all of one, or not as it was written.
type DamagedBackupError struct{ Reason string }

func (e *DamagedBackupError) Error() string { return "this is not a whole backup: " + e.Reason }

func damaged(format string, args ...any) error {
	return &DamagedBackupError{Reason: fmt.Sprintf(format, args...)}
}

// backupWriter writes a backup's members.
type backupWriter struct {
	out io.Writer
	sum hash.Hash
	tar *tar.Writer
	at  time.Time // of every member
}

func newBackupWriter(w io.Writer, at time.Time) *backupWriter {
	sum := sha256.New()
	return &backupWriter{out: w, sum: sum, tar: tar.NewWriter(io.MultiWriter(w, sum)), at: at.Truncate(time.Second)}
}

func (b *backupWriter) member(name string, content []byte) error {
	header := &tar.Header{Name: name, Mode: 0o600, Size: int64(len(content)), ModTime: b.at, Format: tar.FormatUSTAR}
	if err := b.tar.WriteHeader(header); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if _, err := b.tar.Write(content); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func (b *backupWriter) json(name string, v any) error {
	content, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	return b.member(name, content)
}

// pieces writes a stream of bytes of unknown length as members of a bounded size.
type pieces struct {
	to     *backupWriter
	stream string
	n      int
	buffer bytes.Buffer
}

func (p *pieces) write(chunk []byte) error {
	p.buffer.Write(chunk)
	if p.buffer.Len() < pieceBytes {
		return nil
	}
	return p.flush()
}

func (p *pieces) flush() error {
	if p.buffer.Len() == 0 {
		return nil
	}
	err := p.to.member(p.stream+"/"+pieceNumber(p.n), p.buffer.Bytes())
	p.n++
	p.buffer.Reset()
	return err
}

// close ends the file with the sum of it all.
func (b *backupWriter) close() error {
	if err := b.tar.Close(); err != nil {
		return fmt.Errorf("write the end: %w", err)
	}
	if _, err := fmt.Fprintf(b.out, "%s%x\n", sumPrefix, b.sum.Sum(nil)); err != nil {
		return fmt.Errorf("write the sum: %w", err)
	}
	return nil
}

// backupReader reads what backupWriter wrote.
type backupReader struct {
	in  io.Reader
	sum hash.Hash
	tar *tar.Reader
}

func newBackupReader(r io.Reader) *backupReader {
	sum := sha256.New()
	return &backupReader{in: r, sum: sum, tar: tar.NewReader(io.TeeReader(r, sum))}
}

// next reads the next member; name is "" at the end, which is then known to be the right one.
func (b *backupReader) next() (name string, content []byte, err error) {
	header, err := b.tar.Next()
	if errors.Is(err, io.EOF) {
		return "", nil, b.end()
	}
	if err != nil {
		return "", nil, readDamage(err)
	}
	if header.Typeflag != tar.TypeReg || header.Size > memberMost {
		return "", nil, damaged("it holds %q, which no backup has", header.Name)
	}
	content, err = io.ReadAll(b.tar)
	if err != nil {
		return "", nil, readDamage(err)
	}
	return header.Name, content, nil
}

// readDamage tells a file that ends or makes no sense from one that can't be read.
func readDamage(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return damaged("it was cut off")
	case errors.Is(err, tar.ErrHeader):
		return damaged("it was changed, or is another kind of file")
	}
	return fmt.Errorf("read the backup: %w", err)
}

// end compares the sum. Nothing may follow it.
func (b *backupReader) end() error {
	sum := hex.EncodeToString(b.sum.Sum(nil)) // the reader has read up to the end of the tar file and no further
	line, err := io.ReadAll(io.LimitReader(b.in, int64(sumLength)+1))
	switch {
	case err != nil:
		return readDamage(err)
	case len(line) < sumLength:
		return damaged("it was cut off")
	case string(line) != sumPrefix+sum+"\n":
		return damaged("it was changed after it was written")
	}
	return nil
}

// manifest reads the first member.
func (b *backupReader) manifest() (*Manifest, error) {
	name, content, err := b.next()
	if err != nil {
		return nil, err
	}
	m := &Manifest{}
	if name != manifestName || json.Unmarshal(content, m) != nil || m.Format != backupFormat {
		return nil, damaged(`it does not begin with the %s of "paykit backup"`, manifestName)
	}
	if m.Version != backupVersion {
		return nil, fmt.Errorf("the backup has version %d of its format, this program reads %d: use the version of PayKit that made it, or a newer one", m.Version, backupVersion)
	}
	return m, nil
}

// streams reads the rest. It calls begin for each stream, piece for each part of its snapshot, and end after the last.
func (b *backupReader) streams(m *Manifest, begin func(BackupStream) error, piece func([]byte) error, end func() error) error {
	name, content, err := b.next()
	for _, stream := range m.Streams {
		if err != nil {
			return err
		}
		var s BackupStream
		if name != stream+streamFile || json.Unmarshal(content, &s) != nil || s.Name != stream {
			return damaged("%s is not where it should be", stream)
		}
		if err := begin(s); err != nil {
			return err
		}
		for n := 0; ; n++ {
			if name, content, err = b.next(); err != nil {
				return err
			}
			if name != stream+"/"+pieceNumber(n) {
				break
			}
			if err := piece(content); err != nil {
				return err
			}
		}
		if err := end(); err != nil {
			return err
		}
	}
	if err == nil && name != "" {
		err = damaged("it holds %q, which no backup has", name)
	}
	return err
}

func pieceNumber(n int) string {
	s := strconv.Itoa(n)
	for len(s) < 6 {
		s = "0" + s
	}
	return s
}

// CheckBackup reads a backup to its end and answers what is in it, if it is whole and as it was written; else its error
// is a [*DamagedBackupError], or says what could not be read.
func CheckBackup(r io.Reader) (*Manifest, []BackupStream, error) {
	b := newBackupReader(r)
	m, err := b.manifest()
	if err != nil {
		return nil, nil, err
	}
	var list []BackupStream
	pieces := 0
	err = b.streams(m, func(s BackupStream) error {
		list, pieces = append(list, s), 0
		return nil
	}, func([]byte) error {
		pieces++
		return nil
	}, func() error {
		if pieces == 0 {
			return damaged("%s is empty", list[len(list)-1].Name)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return m, list, nil
}
