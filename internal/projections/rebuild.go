package projections

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sync/errgroup"

	"github.com/paykit-go/paykit/internal/crashpoint"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// rebuildName is the file that a rebuild writes beside the live one.
const rebuildName = FileName + ".rebuild"

// errReached ends following the LOG at the sequence where it ended when the rebuild began.
var errReached = errors.New("reached")

// Rebuild makes the views anew from the first event, up to where the LOG ends when it begins, in a fresh file, which then takes
// the live file's place: by itself if no process holds that, else a running projector takes it over, which answers queries all
// the while; see [Handover]. A rebuild that was interrupted is gone on with, unless fresh. progress, if not nil, is told after
// each transaction. It does not run twice at once in one directory: the second gets [ErrLocked].
func Rebuild(ctx context.Context, log *eventlog.Log, dir string, o RebuildOptions) (Result, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Result{}, fmt.Errorf("rebuild: %w", err)
	}
	s, result, err := rebuildInto(ctx, log, filepath.Join(dir, rebuildName), o)
	if err != nil {
		return Result{}, fmt.Errorf("rebuild: %w", err)
	}
	crashpoint.Hit("projector.rebuild_finished")
	if result.Handover, err = handOver(ctx, log, dir, s, o.Wait); err != nil {
		return Result{}, fmt.Errorf("rebuild: %w", err)
	}
	result.Path = filepath.Join(dir, FileName)
	if result.Handover.Outcome == HandoverLeft {
		result.Path = filepath.Join(dir, nextName)
	}
	return result, nil
}

// RebuildOptions say how to rebuild. The zero value is fine.
type RebuildOptions struct {
	Progress func(sequence, of uint64) // told after each transaction; nil = nobody
	Fresh    bool                      // begin at the first event, whatever an interrupted rebuild left
	Wait     time.Duration             // for a running projector to take the file over; 0 = 30 s
}

// rebuildInto builds the views at path, or goes on with what an interrupted rebuild left there. A crash leaves a file that the
// next rebuild goes on with. The file it answers is open: until it is handed over no other rebuild may have it.
func rebuildInto(ctx context.Context, log *eventlog.Log, path string, o RebuildOptions) (s *store, r Result, err error) {
	info, err := log.Info(ctx)
	if err != nil {
		return nil, Result{}, err
	}
	s, err = resumeStore(ctx, log, info, path, o.Fresh)
	if err != nil {
		return nil, Result{}, err
	}
	if at, _, err := s.checkpoint(); err != nil || at < info.LastSequence {
		if err := errors.Join(err, s.fill(ctx, log, info.LastSequence, o.Progress)); err != nil {
			return nil, Result{}, errors.Join(err, s.close())
		}
	}
	if err := s.db.Sync(); err != nil {
		return nil, Result{}, errors.Join(err, s.close())
	}
	if r, err = s.digest(ctx); err != nil {
		return nil, Result{}, errors.Join(err, s.close())
	}
	return s, r, nil
}

// resumeStore opens what an interrupted rebuild left at path, if it is sound and of this log; else a new file.
func resumeStore(ctx context.Context, log *eventlog.Log, info eventlog.LogInfo, path string, fresh bool) (*store, error) {
	s, err := openStore(path, storeOptions{noSync: true, walk: walkAlways})
	if err == nil && !fresh {
		if err = s.fits(ctx, log, info); err == nil {
			return s, nil
		}
	}
	if err == nil {
		err = s.close()
	}
	switch why := unfit(err); {
	case why != nil && s == nil, errors.Is(err, eventlog.ErrNotFound):
	case why != nil:
		if err := s.close(); err != nil {
			return nil, err
		}
	case err != nil && s != nil:
		return nil, errors.Join(err, s.close())
	case err != nil:
		return nil, err
	}
	// Nobody else has it, and of a damaged one that was opened the lock is still ours.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if s, err = openStore(path, storeOptions{noSync: true}); err != nil {
		return nil, err
	}
	if err := s.belong(identity(log, info), info.LastSequence); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// fits checks that the views are of this log: made from it, not ahead of it, and the event that they are at is the one that
// they took in. A LOG that was restored from a backup and went on differently has the name and the age of the first.
func (s *store) fits(ctx context.Context, log *eventlog.Log, info eventlog.LogInfo) error {
	if err := s.belong(identity(log, info), info.LastSequence); err != nil {
		return err
	}
	at, digest, err := s.checkpoint()
	if err != nil || at == 0 {
		return err
	}
	e, err := log.Read(ctx, at)
	switch {
	case err != nil:
		return fmt.Errorf("the event that the views are at: %w", err)
	case e.Event.Digest() != digest:
		return &unfitError{Reason: "other-log", Err: fmt.Errorf("the event at sequence %d is not the one that they hold", at)}
	}
	return nil
}

// emptyStore removes what is at path, unless a process holds it, and opens a new file there.
func emptyStore(path string) (*store, error) {
	old, err := openStore(path, storeOptions{})
	if errors.Is(err, ErrLocked) {
		return nil, err
	}
	if err == nil {
		if err := old.close(); err != nil {
			return nil, err
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return openStore(path, storeOptions{noSync: true})
}

const (
	// fillBytes is how much a transaction of a rebuild keeps beside the tree before it is put in: keys come in no order, so the
	// more of them at once, the fewer pages are written twice.
	fillBytes = 24 << 20
	// fillAhead is how many batches of the log are decoded while a transaction is written.
	fillAhead = 4
	// fillSync is how often a file that is written without syncing is synced: what a power cut may cost a rebuild. A kill costs
	// it the transaction in hand.
	fillSync = 5 * time.Second
)

// fill takes in the events behind the checkpoint up to a sequence.
func (s *store) fill(ctx context.Context, log *eventlog.Log, last uint64, progress func(sequence, of uint64)) error {
	at, _, err := s.checkpoint()
	if err != nil || at >= last {
		return err
	}
	batches := make(chan []eventlog.Entry, fillAhead)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(batches)
		err := log.Follow(ctx, at+1, func(b eventlog.Batch) error {
			n := len(b.Entries)
			for n > 0 && b.Entries[n-1].Sequence > last {
				n--
			}
			select {
			case batches <- b.Entries[:n]:
			case <-ctx.Done():
				return ctx.Err()
			}
			if n > 0 && b.Entries[n-1].Sequence == last || n < len(b.Entries) {
				return errReached
			}
			return nil
		})
		if errors.Is(err, errReached) {
			err = nil
		}
		return err
	})
	g.Go(func() error {
		synced := time.Now()
		for more := true; more; {
			var err error
			if at, more, err = s.fillOnce(batches); err != nil {
				return err
			}
			crashpoint.Hit("projector.rebuild_applied")
			if progress != nil {
				progress(at, last)
			}
			if time.Since(synced) > fillSync {
				if err := s.db.Sync(); err != nil {
					return err
				}
				synced = time.Now()
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return err
	}
	if at < last {
		return &eventlog.GapError{Want: at + 1, Got: last + 1}
	}
	return nil
}

// fillOnce is one transaction of a rebuild. What is decoded already is folded in, whole batches only. It answers false when no
// more comes.
func (s *store) fillOnce(batches <-chan []eventlog.Entry) (at uint64, more bool, err error) {
	err = s.update(func(tx *bbolt.Tx) error {
		f := newFold(tx)
		for more = true; more && f.size < fillBytes; {
			var entries []eventlog.Entry
			if entries, more = <-batches; !more {
				break
			}
			if err := f.take(entries); err != nil {
				return err
			}
		}
		at = f.at
		return f.flush()
	})
	if err == nil {
		s.reached.Store(at)
	}
	return at, more, err
}

// identity names a LOG. Its creation time keeps a stream apart from one of the same name that was made anew.
func identity(log *eventlog.Log, info eventlog.LogInfo) string {
	return log.Prefix() + " " + strconv.FormatInt(info.Created.UnixNano(), 10)
}
