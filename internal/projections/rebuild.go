package projections

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/paykit-go/paykit/internal/crashpoint"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// rebuildName is the file that a rebuild writes beside the live one.
const rebuildName = FileName + ".rebuild"

// rebuildBatch is how many events one transaction of a rebuild takes in: the keys come in no order, and the more of
// them are put in at once, the fewer pages are written twice.
const rebuildBatch = 20_000

// errReached ends following the LOG at the sequence where it ended when the rebuild began.
var errReached = errors.New("reached")

// Rebuild makes the views anew from the first event, up to where the LOG ends when it begins, in a fresh file, which
// then takes the live file's place, unless a running projector holds that: then the new one is left beside it. Path in the
// result says which. progress, if not nil, is told after each transaction. It does not run twice at once in one
// directory: the second gets [ErrLocked].
func Rebuild(ctx context.Context, log *eventlog.Log, dir string, progress func(sequence, of uint64)) (Result, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Result{}, fmt.Errorf("rebuild: %w", err)
	}
	path := filepath.Join(dir, rebuildName)
	result, err := rebuildInto(ctx, log, path, progress)
	if err != nil {
		return Result{}, fmt.Errorf("rebuild: %w", err)
	}
	live := filepath.Join(dir, FileName)
	replaced, err := replace(path, live)
	if err != nil {
		return Result{}, fmt.Errorf("rebuild: %w", err)
	}
	result.Path = path
	if replaced {
		result.Path = live
	}
	return result, nil
}

// rebuildInto builds the views at path. A crash leaves a file there that nobody opens and the next rebuild removes.
func rebuildInto(ctx context.Context, log *eventlog.Log, path string, progress func(sequence, of uint64)) (r Result, err error) {
	s, err := emptyStore(path)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	info, err := log.Info(ctx)
	if err != nil {
		return Result{}, err
	}
	if err := s.belong(identity(log, info), info.LastSequence); err != nil {
		return Result{}, err
	}
	if err := s.fill(ctx, log, info.LastSequence, progress); err != nil {
		return Result{}, err
	}
	if err := s.db.Sync(); err != nil {
		return Result{}, err
	}
	return s.digest(ctx)
}

// emptyStore removes what an earlier rebuild left at path and opens a new file there.
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

// fill takes in the events up to a sequence.
func (s *store) fill(ctx context.Context, log *eventlog.Log, last uint64, progress func(sequence, of uint64)) error {
	if last == 0 {
		return nil
	}
	var waiting []eventlog.Entry
	flush := func() error {
		if err := s.apply(waiting); err != nil {
			return err
		}
		crashpoint.Hit("projector.rebuild_applied")
		if progress != nil {
			progress(waiting[len(waiting)-1].Sequence, last)
		}
		clear(waiting)
		waiting = waiting[:0]
		return nil
	}
	err := log.Follow(ctx, 1, func(b eventlog.Batch) error {
		for _, e := range b.Entries {
			waiting = append(waiting, e)
			switch {
			case e.Sequence >= last:
				if err := flush(); err != nil {
					return err
				}
				return errReached
			case len(waiting) >= rebuildBatch:
				if err := flush(); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if errors.Is(err, errReached) {
		err = nil
	}
	return err
}

// replace puts the new file in the live one's place, unless a process holds that: then it answers false.
func replace(path, live string) (bool, error) {
	held, err := openStore(live, storeOptions{})
	switch {
	case errors.Is(err, ErrLocked):
		return false, nil
	case err == nil:
		defer held.close() // of the file that was replaced: nothing is lost if it fails
	default:
		// Damaged, foreign: what the projector would put aside is kept here too.
		if unfit, ok := errors.AsType[*unfitError](err); ok {
			if _, err := setAside(live, unfit.Reason, time.Now()); err != nil {
				return false, err
			}
			break
		}
		return false, err
	}
	crashpoint.Hit("projector.before_swap")
	// A crash before this leaves the live file as it was; after it the new one is the live one.
	if err := os.Rename(path, live); err != nil {
		return false, err
	}
	crashpoint.Hit("projector.after_swap")
	return true, syncDir(filepath.Dir(live))
}

// identity names a LOG. Its creation time keeps a stream apart from one of the same name that was made anew.
func identity(log *eventlog.Log, info eventlog.LogInfo) string {
	return log.Prefix() + " " + strconv.FormatInt(info.Created.UnixNano(), 10)
}
