package projections

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/paykit-go/paykit/internal/crashpoint"
)

// FileName is the views' file in the data directory.
const FileName = "views.db"

// schema is the version of the file's layout. A file of another version is put aside and rebuilt, which costs seconds
// and needs no migration code.
const schema = 3

// application marks a bbolt file as ours.
const application = "paykit views"

// lockWait is how long opening waits for another process to let go of the file.
const lockWait = time.Second

// walkLimit is up to which size, in bytes, a file is read through before it is used. Reading through takes about two seconds
// per gigabyte; a larger file is read through while it is in use already.
const walkLimit = 64 << 20

// walkAlways has a file of any size read through.
const walkAlways = 1 << 62

// ErrLocked is returned by [Open] when another process holds the file.
var ErrLocked = errors.New("the views' file is in use by another process; is another projector running on this data directory?")

// errDamaged is what reading or writing a damaged file gives.
var errDamaged = errors.New("the views' file is damaged")

// unfitError says why an existing file can't be used and is put aside. Reason becomes part of its new name.
type unfitError struct {
	Reason string // damaged, foreign, newer, older, other-log, ahead
	Err    error
}

func (e *unfitError) Error() string { return "views' file is " + e.Reason + ": " + e.Err.Error() }
func (e *unfitError) Unwrap() error { return e.Err }

// The meta bucket says what the file is and how far it is. It is no part of the digest.
const (
	bucketMeta    = "meta"
	keyApp        = "application"
	keySchema     = "schema"
	keyLog        = "log"
	keyCheckpoint = "checkpoint"
	keyDigest     = "checkpoint_digest" // of the event there
	keySums       = "sums"              // of each bucket, see sum
	keySeal       = "seal"              // checksum of all the others
)

// store is the views' open file.
type store struct {
	db      *bbolt.DB
	path    string
	walked  bool          // it was read through when it was opened
	broken  atomic.Bool   // it was found damaged
	reached atomic.Uint64 // a sequence that the views have
}

// storeOptions say how a file is opened. NoSync is for a file that is thrown away if the process dies.
type storeOptions struct {
	noSync bool
	walk   int64 // read the whole file through if it is not larger, bytes
}

// openStore opens or creates a views' file and checks that it is one that can be used. It returns [ErrLocked], an
// *unfitError for a file to put aside, or what the operating system said. An empty file opens as a new one.
func openStore(path string, o storeOptions) (*store, error) {
	db, err := openBolt(path, o)
	for again := 0; errors.Is(err, errMoved) && again < 10; again++ {
		db, err = openBolt(path, o)
	}
	switch {
	case errors.Is(err, errMoved), errors.Is(err, bbolterrors.ErrTimeout):
		return nil, ErrLocked
	case err != nil && fromSystem(err):
		return nil, fmt.Errorf("open the views: %w", err)
	case err != nil:
		return nil, &unfitError{Reason: "damaged", Err: err}
	}
	s := &store{db: db, path: path}
	if err := s.prepare(o.walk); err != nil {
		if errors.Is(err, errDamaged) {
			err = &unfitError{Reason: "damaged", Err: err}
		}
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// fromSystem tells an error of the operating system (no such folder, no right, no space), which another file would meet
// too, from one of bbolt, which does not like the file; not all of the latter have a name.
func fromSystem(err error) bool {
	_, path := errors.AsType[*fs.PathError](err)
	_, number := errors.AsType[syscall.Errno](err)
	return path || number
}

// openBolt opens the file; a panic of bbolt on a damaged one becomes errDamaged and lets go of the file.
func openBolt(path string, o storeOptions) (*bbolt.DB, error) {
	var file *os.File
	var db *bbolt.DB
	err := guard(func() error {
		var err error
		db, err = bbolt.Open(path, 0o600, &bbolt.Options{
			Timeout:      lockWait,
			NoSync:       o.noSync,
			FreelistType: bbolt.FreelistMapType,
			NoStatistics: true, InitialMmapSize: mapped(o),
			// Not NoFreelistSync: opening such a file scans it in a goroutine of bbolt's own, and a damaged page would
			// panic there, where nobody can recover.
			OpenFile: func(name string, flag int, perm os.FileMode) (*os.File, error) {
				var err error
				file, err = os.OpenFile(name, flag, perm) //nolint:gosec // G304: the operator's own data directory
				return file, err
			},
		})
		return err
	})
	if errors.Is(err, errDamaged) && file != nil {
		_ = file.Close() // the lock goes with it
	}
	if err == nil {
		db.AllocSize = growth
		// Who waited for the lock may have it of a file that another took the place of meanwhile.
		if moved, statErr := replaced(file, path); statErr != nil || moved {
			return nil, errors.Join(statErr, db.Close(), errMoved)
		}
	}
	return db, err
}

// errMoved says that a file's name was another file's by the time its lock was had.
var errMoved = errors.New("another file took the place of the views")

// replaced tells whether an open file is not the one under its name any more.
func replaced(file *os.File, path string) (bool, error) {
	is, err := file.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	return err == nil && !os.SameFile(is, named), err
}

// mapped is how much of a file in use is mapped into memory from the start, most of which is not there yet. A file that outgrows
// its map is mapped anew, for which bbolt waits for all who read, and has all who come later wait.
func mapped(o storeOptions) int {
	if o.noSync {
		return 0
	}
	return int(min(int64(16)<<30, math.MaxInt/4))
}

// growth is by how much a file grows at once, in bytes.
const growth = 1 << 20

// prepare tells what kind of file it is: a new one gets its buckets, another is checked.
func (s *store) prepare(walk int64) error {
	fresh := false
	err := s.view(func(tx *bbolt.Tx) error {
		info, err := os.Stat(s.path)
		if err != nil {
			return err
		}
		if tx.Size() > info.Size() {
			return fmt.Errorf("%w: %d bytes of %d are there", errDamaged, info.Size(), tx.Size())
		}
		if first, _ := tx.Cursor().First(); first == nil {
			fresh = true
			return nil
		}
		if err := identify(tx); err != nil {
			return err
		}
		s.reached.Store(checkpoint(tx))
		if walk < info.Size() {
			return nil
		}
		s.walked = true
		// The pages first: a damaged one could lead the other walk in a circle.
		if err := checkPages(tx, false); err != nil {
			return err
		}
		_, err = digest(tx, func() error { return nil })
		return err
	})
	if err != nil || !fresh {
		return err
	}
	// A crash before this commit leaves a new file, which the next start takes for a new one again.
	return s.update(func(tx *bbolt.Tx) error {
		for _, name := range buckets() {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		meta, err := tx.CreateBucket([]byte(bucketMeta))
		if err != nil {
			return err
		}
		return errors.Join(
			meta.Put([]byte(keyApp), []byte(application)),
			meta.Put([]byte(keySchema), sequenceKey(schema)),
			meta.Put([]byte(keyCheckpoint), sequenceKey(0)),
			meta.Put([]byte(keySums), encodeSums(make([]sum, len(buckets())))),
			sealMeta(tx),
		)
	})
}

// identify checks that a file with content is ours and of this schema.
func identify(tx *bbolt.Tx) error {
	meta := tx.Bucket([]byte(bucketMeta))
	if meta == nil || string(meta.Get([]byte(keyApp))) != application {
		return &unfitError{Reason: "foreign", Err: errors.New("it is a bbolt file of something else")}
	}
	switch version := sequenceOf(meta.Get([]byte(keySchema))); {
	case version > schema:
		return &unfitError{Reason: "newer", Err: fmt.Errorf("schema %d, this program knows %d", version, schema)}
	case version < schema:
		return &unfitError{Reason: "older", Err: fmt.Errorf("schema %d, this program writes %d", version, schema)}
	}
	for _, name := range buckets() {
		if tx.Bucket([]byte(name)) == nil {
			return fmt.Errorf("%w: bucket %s is missing", errDamaged, name)
		}
	}
	return checkMeta(tx)
}

// buckets lists the buckets that make up the views, sorted: what a digest is made of.
func buckets() []string {
	return []string{
		bucketCharges, bucketChargesByCreation, bucketChargesByCustomer, bucketChargesByStatus,
		bucketCheckouts,
		bucketCustomers, bucketCustomersByCreation,
		bucketEventsByCustomer, bucketEventsByEntity,
		bucketPaymentMethods, bucketPaymentMethodsByCustomer,
		bucketProviderAccounts,
		bucketSetups,
	}
}

// checkpoint is the sequence that the views in tx are at.
func checkpoint(tx *bbolt.Tx) uint64 {
	return sequenceOf(tx.Bucket([]byte(bucketMeta)).Get([]byte(keyCheckpoint)))
}

// belong ties a new file to a LOG, and refuses one that was made from another or that is ahead of it (the LOG was
// restored from a backup: what comes next will differ from what the views hold).
func (s *store) belong(identity string, lastSequence uint64) error {
	return s.update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket([]byte(bucketMeta))
		known := meta.Get([]byte(keyLog))
		if known == nil {
			return errors.Join(meta.Put([]byte(keyLog), []byte(identity)), sealMeta(tx))
		}
		if string(known) != identity {
			return &unfitError{Reason: "other-log", Err: fmt.Errorf("made from %s, this is %s", known, identity)}
		}
		if at := checkpoint(tx); at > lastSequence {
			return &unfitError{Reason: "ahead", Err: fmt.Errorf("at sequence %d, the log ends at %d", at, lastSequence)}
		}
		return nil
	})
}

// checkpoint is the sequence that the views are at, and the digest of the event there.
func (s *store) checkpoint() (at uint64, digest string, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		at, digest = checkpoint(tx), string(tx.Bucket([]byte(bucketMeta)).Get([]byte(keyDigest)))
		return nil
	})
	return at, digest, err
}

// digest walks all views.
func (s *store) digest(ctx context.Context) (r Result, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		var err error
		r, err = digest(tx, ctx.Err)
		return err
	})
	return r, err
}

// walkPause is how long a walk of a file that is in use rests after each 4,096 entries.
const walkPause = 5 * time.Millisecond

// walk reads a file through that is in use, without haste. Pages that it reads stay as they are until it is done.
func (s *store) walk(ctx context.Context) error {
	return s.view(func(tx *bbolt.Tx) error {
		if err := checkPages(tx, true); err != nil {
			return err
		}
		_, err := digest(tx, func() error {
			t := time.NewTimer(walkPause)
			defer t.Stop()
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-t.C:
				return nil
			}
		})
		return err
	})
}

// view runs a read transaction. Slices that f sees are valid until it returns.
func (s *store) view(f func(*bbolt.Tx) error) error {
	return s.note(guard(func() error { return s.db.View(f) }))
}

// update runs a write transaction: all of f, durable when it returns nil, or nothing.
func (s *store) update(f func(*bbolt.Tx) error) error {
	return s.note(guard(func() error { return s.db.Update(f) }))
}

func (s *store) note(err error) error {
	if errors.Is(err, errDamaged) {
		s.broken.Store(true)
	}
	return err
}

// close closes the file. A damaged one is only let go of when the process ends: what panicked in it may have left a
// lock of bbolt's behind, which closing would wait for.
func (s *store) close() error {
	if s.broken.Load() {
		return nil
	}
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close %s: %w", s.path, err)
	}
	return nil
}

// guard turns what bbolt does on a damaged file into errDamaged: it panics on a page of the wrong kind, and faults
// where the file ends before its map does, which without SetPanicOnFault would end the process. A panic of our own is a
// bug, and no reason to put a sound file aside.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch r := recover(); {
		case r == nil:
		case fault(r) || panickedInBolt():
			err = fmt.Errorf("%w: %v", errDamaged, r)
		default:
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return f()
}

// fault tells whether a panic is about memory that is not there. (A nil pointer's has no address.)
func fault(r any) bool {
	_, ok := r.(interface{ Addr() uintptr })
	return ok
}

// panickedInBolt is for a deferred function: it tells whether bbolt's code panicked.
func panickedInBolt() bool {
	callers := make([]uintptr, 32)
	frames := runtime.CallersFrames(callers[:runtime.Callers(0, callers)])
	for panicking, more := false, true; more; {
		var frame runtime.Frame
		frame, more = frames.Next()
		inRuntime := strings.HasPrefix(frame.Function, "runtime.")
		if panicking && !inRuntime {
			return strings.HasPrefix(frame.Function, "go.etcd.io/bbolt")
		}
		panicking = panicking || frame.Function == "runtime.gopanic"
	}
	return false
}

// setAside renames a file that can't be used, so that someone can look at it, and answers its new path.
func setAside(path, reason string, now time.Time) (string, error) {
	to := asideName(path, reason, now)
	// A crash after the rename leaves no views' file: the next start makes a new one.
	if err := os.Rename(path, to); err != nil {
		return "", fmt.Errorf("set %s aside: %w", path, err)
	}
	crashpoint.Hit("projector.set_aside")
	return to, syncDir(filepath.Dir(path))
}

// asideName is a name that no file has yet.
func asideName(path, reason string, now time.Time) string {
	base := path + "." + reason + "-" + now.UTC().Format("20060102T150405.000Z")
	to := base
	for n := 2; ; n++ {
		if _, err := os.Lstat(to); errors.Is(err, os.ErrNotExist) {
			return to
		}
		to = base + "-" + strconv.Itoa(n)
	}
}

// syncDir makes renames in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // G304: the operator's own data directory
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// sequenceKey is n as 8 bytes that sort as numbers do.
func sequenceKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// sequenceOf reads [sequenceKey]; 0 for anything that is none.
func sequenceOf(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}
