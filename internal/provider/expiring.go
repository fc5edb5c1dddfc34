package provider

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

const (
	expiringEvery = 24 * time.Hour
	expiringLook  = time.Minute // how often is asked whether a scan is due
)

// expiringLoop tells of the methods that expire soon: once a day while this worker is the active one, and soon after it
// has become that. When it last did so is not kept anywhere, since a scan more tells nothing twice.
func (w *Worker) expiringLoop(ctx context.Context) error {
	t := time.NewTicker(w.expiringLook)
	defer t.Stop()
	var scanned time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if !w.active.Load() {
			scanned = time.Time{}
			continue
		}
		now := w.cfg.Now()
		if !scanned.IsZero() && now.Sub(scanned) < expiringEvery {
			continue
		}
		if err := w.TellExpiring(ctx); err != nil {
			if ctx.Err() == nil {
				w.cfg.Logger.Warn().Err(err).Msg("methods that expire soon not all looked for, goes on at the next look")
			}
			continue
		}
		scanned = now
	}
}

// TellExpiring reads every method's events from the LOG and appends payment_method.expiring where a method is in its last
// month and that was not told yet: nothing but the LOG says what is due. It is run once a day by [Worker.Run]; a crash
// anywhere in it leaves the rest to the next run.
//
// Cost: one reading of all events of payment methods, in batches, about a second for each 100,000 of them on one core, and
// two reads and a write for each method that is due. An event that looks due and is not its method's last costs one read:
// the methods that were told of in the last month.
func (w *Worker) TellExpiring(ctx context.Context) error {
	told := 0
	err := w.log.Scan(ctx, events.EntityPaymentMethod, func(e eventlog.Entry) error {
		c := events.Cause{Now: w.cfg.Now(), Source: SourceWorker}
		// Whether this is the method's last event is not known, and does not matter: the update decides on the last one.
		if due, err := events.DecidePaymentMethod(e.Event, events.MethodExpiring{}, c); due == nil || err != nil {
			return err //nolint:wrapcheck // Scan says what it was doing
		}
		customer, err := w.customer(ctx, e.Event.CustomerID())
		if errors.Is(err, eventlog.ErrNotFound) || err == nil && customer.Deleted() {
			return nil // nobody is to be told; its methods go with it
		}
		if err != nil {
			return err
		}
		// A crash right after leaves it told, which the next scan sees.
		_, appended, err := w.log.Update(ctx, events.EntityPaymentMethod, e.Event.Subject, func(last *events.Event) (*events.Event, error) {
			return events.DecidePaymentMethod(last, events.MethodExpiring{}, c)
		})
		if appended {
			told++
		}
		return err //nolint:wrapcheck // says what it was doing
	})
	if told > 0 {
		w.cfg.Logger.Info().Int("methods", told).Msg("told of methods that expire soon")
	}
	if err != nil {
		return fmt.Errorf("methods that expire soon: %w", err)
	}
	return nil
}
