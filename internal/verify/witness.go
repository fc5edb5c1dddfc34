package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// grace is how long a link may be there without an event of its entity: it is written before it, and a crash in between is
// repaired by the repetition of the same work.
const grace = 10 * time.Minute

// errEnough ends the walk through the links.
var errEnough = errors.New("enough problems")

// witnesses holds the log against the links that lead into it. A server whose file is damaged goes on with what stands before
// the damage, and a log that lost its last events looks whole.
func (w *walk) witnesses(ctx context.Context) error {
	r := w.check.report
	end := r.LastSequence + 1
	reported := map[string]bool{}
	err := w.log.WalkLinks(ctx, func(k eventlog.Link, written time.Time) error {
		id := string(k.Entity) + " " + k.ID
		if w.check.entities[id] != nil || reported[id] || time.Since(written) < w.Grace {
			return nil
		}
		if len(r.Problems) >= MaxProblems {
			return errEnough
		}
		reported[id] = true
		r.Add(Problem{Sequence: end, Entity: string(k.Entity), ID: k.ID, Problem: fmt.Sprintf(
			"lost: a link of %s leads here, and the log has no event of it", stamp(written))})
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err //nolint:wrapcheck // says what it was
}
