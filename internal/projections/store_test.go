package projections

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// fileWith makes a closed views' file with a history in it.
func fileWith(t *testing.T, path string, entries []eventlog.Entry) Result {
	t.Helper()
	s := openTestStore(t, path)
	if err := applyAll(s, entries); err != nil {
		t.Fatal(err)
	}
	r := testDigest(t, s)
	closeStore(t, s)
	return r
}

func setMeta(t *testing.T, path, key string, value []byte) {
	t.Helper()
	s := openTestStore(t, path)
	defer closeStore(t, s)
	err := s.update(func(tx *bbolt.Tx) error {
		return errors.Join(tx.Bucket([]byte(bucketMeta)).Put([]byte(key), value), sealMeta(tx))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// overwrite puts zeroes into a file.
func overwrite(t *testing.T, path string, at int64, n int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(make([]byte, n), at)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestOpenTellsWhatIsWrongWithAFile(t *testing.T) {
	t.Parallel()
	page := os.Getpagesize()
	tests := map[string]struct {
		spoil func(t *testing.T, path string, size int64)
		want  string
	}{
		"cut in half": {func(t *testing.T, path string, size int64) {
			t.Helper()
			truncate(t, path, size/2)
		}, "damaged"},
		"cut to three pages": {func(t *testing.T, path string, _ int64) {
			t.Helper()
			truncate(t, path, int64(3*page))
		}, "damaged"},
		"cut to ten bytes": {func(t *testing.T, path string, _ int64) {
			t.Helper()
			truncate(t, path, 10)
		}, "damaged"},
		"both meta pages zeroed": {func(t *testing.T, path string, _ int64) {
			t.Helper()
			overwrite(t, path, 0, 2*page)
		}, "damaged"},
		"all but the meta pages zeroed": {func(t *testing.T, path string, size int64) {
			t.Helper()
			overwrite(t, path, int64(2*page), int(size)-2*page)
		}, "damaged"},
		"a text": {func(t *testing.T, path string, _ int64) {
			t.Helper()
			if err := os.WriteFile(path, bytes.Repeat([]byte("text\n"), page), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "damaged"},
		"a bbolt file of something else": {func(t *testing.T, path string, _ int64) {
			t.Helper()
			foreignFile(t, path)
		}, "foreign"},
		"a newer schema": {func(t *testing.T, path string, _ int64) {
			t.Helper()
			setMeta(t, path, keySchema, sequenceKey(schema+1))
		}, "newer"},
		"an older schema": {func(t *testing.T, path string, _ int64) {
			t.Helper()
			setMeta(t, path, keySchema, sequenceKey(schema-1))
		}, "older"},
		"a row with a flipped bit": {func(t *testing.T, path string, _ int64) {
			t.Helper()
			flipInRow(t, path)
		}, "damaged"},
	}
	source := filepath.Join(t.TempDir(), FileName)
	fileWith(t, source, randomHistory(t, 6, 1000))
	sound, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range tests {
		for _, readThrough := range []bool{false, true} {
			if !readThrough && name == "a row with a flipped bit" {
				continue // shows only when it is read
			}
			t.Run(fmt.Sprintf("%s, read through %v", name, readThrough), func(t *testing.T) {
				t.Parallel()
				path := filepath.Join(t.TempDir(), FileName)
				if err := os.WriteFile(path, sound, 0o600); err != nil {
					t.Fatal(err)
				}
				tt.spoil(t, path, int64(len(sound)))
				through := int64(0)
				if readThrough {
					through = walkAlways
				}
				s, err := openStore(path, storeOptions{walk: through})
				if err == nil {
					closeStore(t, s)
				}
				unfit, ok := errors.AsType[*unfitError](err)
				if !ok || unfit.Reason != tt.want {
					t.Errorf("opened with %v, want a file that is %s", err, tt.want)
				}
				if tt.want != "damaged" {
					if _, err := openStore(path, storeOptions{}); errors.Is(err, ErrLocked) {
						t.Error("the file was not let go of")
					}
				}
			})
		}
	}
}

// TestOpenAfterAnyCut: wherever the file was cut off, opening says that it is damaged, without reading it through and
// without a crash.
func TestOpenAfterAnyCut(t *testing.T) {
	t.Parallel()
	source := filepath.Join(t.TempDir(), FileName)
	for i := range 4 { // several transactions, so that the list of free pages stands at the end
		s := openTestStore(t, source)
		if err := applyAll(s, randomHistory(t, 6, 100+100*i)); err != nil {
			t.Fatal(err)
		}
		closeStore(t, s)
	}
	sound, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	s := openTestStore(t, source)
	defer closeStore(t, s)
	var used int // the file is larger than what is in use
	if err := s.view(func(tx *bbolt.Tx) error { used = int(tx.Size()); return nil }); err != nil {
		t.Fatal(err)
	}
	for size := 1; size < used; size += os.Getpagesize() / 2 {
		path := filepath.Join(t.TempDir(), FileName)
		if err := os.WriteFile(path, sound[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := openStore(path, storeOptions{})
		if err == nil {
			closeStore(t, s)
		}
		if unfit, ok := errors.AsType[*unfitError](err); !ok || unfit.Reason != "damaged" {
			t.Errorf("cut to %d of %d bytes: opened with %v", size, used, err)
		}
	}
}

// TestOpenAfterAnyZeroedPage: whichever page is lost, the file is put aside or has lost nothing.
func TestOpenAfterAnyZeroedPage(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), FileName)
	entries := randomHistory(t, 7, 400)
	want := fileWith(t, path, entries)
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	noticed := 0
	for at := 0; at < len(sound); at += page {
		if err := os.WriteFile(path, sound, 0o600); err != nil {
			t.Fatal(err)
		}
		overwrite(t, path, int64(at), page)
		s, err := openStore(path, storeOptions{walk: walkAlways, noSync: true})
		if _, ok := errors.AsType[*unfitError](err); ok {
			noticed++
			if err := os.Remove(path); err != nil { // its map may still be there: never write into the same file again
				t.Fatal(err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("page %d: %v", at/page, err)
		}
		// Without the newer meta page the file is as it was before its last transaction, checkpoint included.
		if err := applyAll(s, entries); err != nil {
			t.Fatalf("page %d: %v", at/page, err)
		}
		got := testDigest(t, s)
		closeStore(t, s)
		if got.Digest != want.Digest {
			t.Errorf("page %d zeroed: opened with digest %s, want %s", at/page, got.Digest, want.Digest)
		}
	}
	if noticed == 0 {
		t.Error("no zeroed page was noticed")
	}
}

func TestEmptyFileOpensAsNew(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), FileName)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := openTestStore(t, path)
	defer closeStore(t, s)
	if r := testDigest(t, s); r.Sequence != 0 || r.Rows["customers"] != 0 {
		t.Errorf("a new file is at %+v", r)
	}
}

func TestFolderOutOfReachIsNoDamage(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), FileName)
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := openStore(path, storeOptions{})
	if _, unfit := errors.AsType[*unfitError](err); err == nil || unfit {
		t.Errorf("opened a folder as a file: %v", err)
	}
}

func TestLockedFileIsLeftAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), FileName)
	s := openTestStore(t, path)
	defer closeStore(t, s)
	if _, err := openStore(path, storeOptions{}); !errors.Is(err, ErrLocked) {
		t.Errorf("opened twice: %v, want ErrLocked", err)
	}
	if names := filesIn(t, filepath.Dir(path)); len(names) != 1 {
		t.Errorf("files %v", names)
	}
}

func TestSetAsideKeepsEarlierFiles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), FileName)
	now := time.Date(2026, 11, 22, 6, 14, 0, 0, time.UTC)
	for range 3 {
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := setAside(path, "damaged", now); err != nil {
			t.Fatal(err)
		}
	}
	if names := filesIn(t, filepath.Dir(path)); len(names) != 3 {
		t.Errorf("files %v, want all three", names)
	}
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

func foreignFile(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("other"))
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// flipInRow flips one bit in a customer's snapshot.
func flipInRow(t *testing.T, path string) {
	t.Helper()
	s := openTestStore(t, path)
	defer closeStore(t, s)
	if err := flipIn(s); err != nil {
		t.Fatal(err)
	}
}

func flipIn(s *store) error {
	return s.update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucketCustomers))
		k, v := b.Cursor().First()
		v = bytes.Clone(v)
		v[len(v)-5] ^= 1
		return b.Put(bytes.Clone(k), v)
	})
}

func filesIn(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestBugIsNoDamage: what panics in our own code is an error, and the file stays in use.
func TestBugIsNoDamage(t *testing.T) {
	t.Parallel()
	s := openTestStore(t, filepath.Join(t.TempDir(), FileName))
	defer closeStore(t, s)
	var none []byte
	for name, bug := range map[string]func(*bbolt.Tx) error{
		"index": func(*bbolt.Tx) error { _ = none[3]; return nil },
		"nil":   func(*bbolt.Tx) error { _ = (*store)(nil).path; return nil },
		"text":  func(*bbolt.Tx) error { panic("a bug") },
		"in a callback of bbolt's": func(tx *bbolt.Tx) error {
			return tx.ForEach(func([]byte, *bbolt.Bucket) error { panic("a bug") })
		},
	} {
		for _, run := range []func(func(*bbolt.Tx) error) error{s.view, s.update} {
			if err := run(bug); err == nil || errors.Is(err, errDamaged) || s.broken.Load() {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if err := s.update(func(tx *bbolt.Tx) error { _ = tx.Bucket([]byte(bucketMeta)).Tx().Commit(); return nil }); !errors.Is(err, errDamaged) {
		t.Errorf("a panic of bbolt's: %v", err)
	}
}

// TestFlippedBits: a bit that flips anywhere in the file, page after page, is noticed when it is read through, or has changed
// nothing: then the views are what they were, and go on as they should.
func TestFlippedBits(t *testing.T) {
	t.Parallel()
	source := filepath.Join(t.TempDir(), FileName)
	entries := randomHistory(t, 21, 500)
	const half = 250
	for at := 0; at < half; at += 50 { // several transactions, so that pages are free
		s := openTestStore(t, source)
		if err := applyAll(s, entries[at:at+50]); err != nil {
			t.Fatal(err)
		}
		closeStore(t, s)
	}
	want := fileWith(t, filepath.Join(t.TempDir(), FileName), entries)
	sound, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // G404: a test's places, repeatable on purpose
	page := os.Getpagesize()
	dir := t.TempDir()
	noticed, harmless := 0, 0
	for at := 0; at < len(sound); at += page {
		// The page's header, its first elements, and a place anywhere.
		for i, place := range []int{r.IntN(16), 16 + r.IntN(64), r.IntN(page)} {
			path := filepath.Join(dir, fmt.Sprintf("%d-%d", at, i)) // a damaged file's map stays: never write into it again
			spoilt := bytes.Clone(sound)
			spoilt[at+place] ^= 1 << r.IntN(8)
			if err := os.WriteFile(path, spoilt, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := openStore(path, storeOptions{walk: walkAlways, noSync: true})
			if _, unfit := errors.AsType[*unfitError](err); unfit {
				noticed++
			} else if err != nil {
				t.Fatalf("page %d byte %d: %v", at/page, place, err)
			} else {
				harmless++
				if err := applyAll(s, entries); err != nil {
					t.Errorf("page %d byte %d: unnoticed, and later: %v", at/page, place, err)
				} else if got, err := s.digest(t.Context()); err != nil || got.Digest != want.Digest {
					t.Errorf("page %d byte %d: unnoticed, and then %+v, %v", at/page, place, got, err)
				}
				closeStore(t, s)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d pages: %d flips noticed, %d changed nothing", len(sound)/page, noticed, harmless)
	if noticed < len(sound)/page/2 {
		t.Errorf("only %d flips noticed in %d pages", noticed, len(sound)/page)
	}
}
