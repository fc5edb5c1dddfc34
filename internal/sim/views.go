package sim

import (
	"context"
	"fmt"

	"github.com/paykit-go/paykit/internal/projections"
)

// CheckViews is I5: the log of a run that is over, folded in pieces by a projector that is killed before and after its
// commits and reads again what it has, gives the views that a fresh rebuild gives. Both views are cleared first.
func (w *World) CheckViews(ctx context.Context, live, fresh *projections.Views) error {
	random := w.sc.stream(4)
	for _, v := range []*projections.Views{live, fresh} {
		if err := v.Clear(); err != nil {
			return err
		}
	}
	all := w.server.entries
	for at := 0; at < len(all); {
		from := max(at-random.IntN(4), 0) // read again, as after a kill behind the commit
		to := min(at+1+random.IntN(12), len(all))
		if err := live.Apply(all[from:to]); err != nil {
			return fmt.Errorf("I5: events %d to %d: %w", from+1, to, err)
		}
		at = to
	}
	if err := fresh.Apply(all); err != nil {
		return fmt.Errorf("I5: rebuild: %w", err)
	}
	got, err := live.Digest(ctx)
	if err != nil {
		return err
	}
	want, err := fresh.Digest(ctx)
	if err != nil {
		return err
	}
	if got.Digest != want.Digest || got.Sequence != want.Sequence || got.Sequence != uint64(len(all)) {
		return fmt.Errorf("I5: the views are %s at %d, a rebuild is %s at %d", got.Digest, got.Sequence, want.Digest, want.Sequence) //nolint:err113 // for a reader
	}
	return nil
}
