package projections

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// compareName is the file that DigestAt writes: never a rebuild's, which another may be at.
const compareName = FileName + ".compare"

// DigestAt makes the views anew from the first event up to a sequence, in a file of its own in dir, which it removes
// afterwards, and answers what they are: what a projector at that sequence must have too. It touches no live file.
// progress, if not nil, is told after each transaction.
func DigestAt(ctx context.Context, log *eventlog.Log, dir string, sequence uint64, progress func(sequence, of uint64)) (r Result, err error) {
	info, err := log.Info(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("rebuild to compare: %w", err)
	}
	if sequence > info.LastSequence { // it would be waited for
		return Result{}, fmt.Errorf("rebuild to compare: %w", &eventlog.GapError{Want: sequence, Got: info.LastSequence + 1})
	}
	s, err := emptyStore(filepath.Join(dir, compareName))
	if err != nil {
		return Result{}, fmt.Errorf("rebuild to compare: %w", err)
	}
	defer func() { err = errors.Join(err, s.close(), os.Remove(s.path)) }()
	if err := s.fill(ctx, log, sequence, progress); err != nil {
		return Result{}, fmt.Errorf("rebuild to compare: %w", err)
	}
	return s.digest(ctx)
}
