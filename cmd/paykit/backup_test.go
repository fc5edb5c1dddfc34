package main

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// Two backups of one name at once: one is whole under the name, readable by its owner only, the other fails.
func TestTwoBackupsOfOneName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := backupCmd{File: filepath.Join(dir, "b")}
	if err := os.WriteFile(c.File+".partial", nil, 0o644); err != nil { //nolint:gosec // G306: that it is open to all is the point
		t.Fatal(err)
	}
	var finish []func() error
	for _, text := range []string{"first", "second"} {
		out, end, err := c.create(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := out.WriteString(strings.Repeat(text, 1000)); err != nil {
			t.Fatal(err)
		}
		finish = append(finish, func() error { return end(out.Flush()) })
	}
	if err := finish[1](); err != nil {
		t.Fatal(err)
	}
	if err := finish[0](); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the one that came late ended with %v", err)
	}
	got, err := os.ReadFile(c.File)
	if err != nil || string(got) != strings.Repeat("second", 1000) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	info, err := os.Stat(c.File)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 2 { // with the file that is nobody's
		t.Errorf("left are %v, %v", list, err)
	}
}

// A changed or cut off encrypted backup is damaged, in the same words as one that is not encrypted.
func TestDamagedEncryptedBackup(t *testing.T) {
	t.Parallel()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, id.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(bytes.Repeat([]byte("a backup"), 20_000)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(sealed.Bytes())
	flipped[len(flipped)-1000] ^= 1
	for name, file := range map[string][]byte{"flipped": flipped, "cut off": sealed.Bytes()[:sealed.Len()-1000]} {
		r, _, err := decrypt(bytes.NewReader(file), []age.Identity{id})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err == nil {
			t.Errorf("%s: read to its end", name)
		} else if _, ok := errors.AsType[*eventlog.DamagedBackupError](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What comes from standard input has no name in the temporary folder while it is read, twice.
func TestSpoolLeavesNothing(t *testing.T) { //nolint:paralleltest // sets the environment
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	f, size, err := spool(strings.NewReader("a backup"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
		t.Errorf("there are %v, %v", list, err)
	}
	for range 2 {
		if got, err := io.ReadAll(io.NewSectionReader(f, 0, size)); err != nil || string(got) != "a backup" {
			t.Errorf("%q, %v", got, err)
		}
	}
}
