package provider

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/paykit-go/paykit/internal/crashpoint"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

const (
	lateAfter       = time.Minute      // from which age on a delivery that did not come is missed, and not merely on its way
	silentAfter     = 10 * time.Minute // for how long deliveries may be missed, and none come, before someone must look
	backfillEvery   = 5 * time.Minute
	firstBackfill   = time.Minute
	backfillOverlap = time.Hour           // what the provider lists late
	backfillHold    = parkLife            // for how long the list is read from a delivery on that is to be tried again
	backfillReach   = 30 * 24 * time.Hour // Stripe lists events for 30 days: https://docs.stripe.com/api/events
)

// backfillMemory remembers which deliveries the last reading of each provider's list has seen stored, so that the
// overlap of two readings is not written to the INBOX only to be refused there.
type backfillMemory struct {
	mu   sync.Mutex
	seen map[string]map[string]struct{} // guarded by mu, by provider and delivery id
	// missed is when the first of the deliveries was made that had to be fetched while none came by itself; zero while they
	// come. Guarded by mu, by provider.
	missed map[string]time.Time
}

// fate is what the backfill found of a listed delivery.
type fate int

const (
	passedOver fate = iota // it is not to be stored
	toComeBack             // it can't be stored or taken in now: it is to be listed again
	arrived                // it was there
	fetched                // it was not, and is now
)

// forget begins anew.
func (m *backfillMemory) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.missed)
}

// backfillLoop fetches deliveries that never arrived, while this worker is the active one.
func (w *Worker) backfillLoop(ctx context.Context) error {
	// The first soon after the start: what was not delivered while no worker ran is most likely missing now.
	timer := time.NewTimer(min(w.cfg.BackfillEvery, firstBackfill))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		timer.Reset(w.cfg.BackfillEvery)
		if !w.active.Load() {
			w.backfill.forget() // another worker looks after it
			w.metrics.heard()
			continue
		}
		if err := w.Backfill(ctx); err != nil && ctx.Err() == nil {
			w.cfg.Logger.Warn().Err(err).Msg("backfill incomplete, goes on at the next")
		}
	}
}

// Backfill reads every provider's list of deliveries once, from an hour before the start of its last complete reading,
// and stores what is not in the INBOX yet. It is run every few minutes by [Worker.Run].
func (w *Worker) Backfill(ctx context.Context) error {
	w.backfill.mu.Lock()
	defer w.backfill.mu.Unlock()
	var errs []error
	for _, id := range w.providerIDs() {
		if hooks, ok := w.cfg.Webhooks[id]; ok {
			errs = append(errs, w.backfillFrom(ctx, w.providers[id], hooks))
		}
	}
	return errors.Join(errs...)
}

func (w *Worker) backfillFrom(ctx context.Context, p *guardedAPI, hooks Webhooks) error {
	started := w.cfg.Now()
	since, first, err := w.backfillSince(ctx, p.id, started)
	if err != nil {
		return err
	}
	missed := w.backfill.missed[p.id]
	seen := w.backfill.seen[p.id]
	next, mark := map[string]struct{}{}, started
	err = p.ListDeliveries(ctx, since, func(body []byte) error {
		d, err := hooks.Decode(body)
		if err != nil && (d.ID == "" || !errors.Is(err, ErrUnreadable)) {
			w.cfg.Logger.Warn().Err(err).Str("provider", p.id).Msg("a listed delivery is no event")
			return nil
		}
		became := arrived
		if _, ok := seen[d.ID]; !ok {
			if became, err = w.backfillOne(ctx, p.id, d, body); err != nil {
				return err
			}
			// Only of types that mean something: the list also holds those that the endpoint is not sent. The first
			// reading finds what was made before there was an endpoint.
			if !first && len(d.Observations) > 0 {
				missed = missedSince(missed, d, became, started)
			}
		}
		if became == toComeBack {
			if started.Sub(d.CreatedAt) < backfillHold && d.CreatedAt.Before(mark) {
				mark = d.CreatedAt
			}
			return nil
		}
		crashpoint.Hit("backfill.listed")
		next[d.ID] = struct{}{}
		return nil
	})
	if err != nil {
		return fmt.Errorf("backfill of %s: %w", p.id, err)
	}
	crashpoint.Hit("backfill.before_mark")
	// A crash right before leaves the deliveries stored and the mark where it was: they are listed once more, and the
	// INBOX refuses them. What could not be stored or taken in holds the mark back for a day: the next reading tries it again.
	if err := w.log.SetBackfillMark(ctx, p.id, mark); err != nil {
		return fmt.Errorf("backfill of %s: %w", p.id, err)
	}
	if w.backfill.seen == nil {
		w.backfill.seen = map[string]map[string]struct{}{}
	}
	w.backfill.seen[p.id] = next
	if w.backfill.missed == nil {
		w.backfill.missed = map[string]time.Time{}
	}
	w.backfill.missed[p.id] = missed
	w.metrics.missing(p.id, missed, started)
	return nil
}

// missedSince is since when deliveries are missed, after one more was looked at. Only one that came by itself ends it.
func missedSince(missed time.Time, d Delivery, became fate, now time.Time) time.Time {
	switch {
	case became == arrived:
		return time.Time{}
	case became == fetched && missed.IsZero() && now.Sub(d.CreatedAt) >= lateAfter:
		return d.CreatedAt
	}
	return missed
}

// backfillSince is from when on a provider's list is read; first says that it is read for the first time.
func (w *Worker) backfillSince(ctx context.Context, providerID string, now time.Time) (since time.Time, first bool, err error) {
	mark, err := w.log.BackfillMark(ctx, providerID)
	if err == nil && mark.IsZero() {
		first = true
		info, infoErr := w.log.Info(ctx)
		mark, err = info.Created, infoErr
	}
	if err != nil {
		return time.Time{}, false, fmt.Errorf("backfill mark of %s: %w", providerID, err)
	}
	since = mark.Add(-backfillOverlap)
	if oldest := now.Add(-backfillReach); since.Before(oldest) {
		since = oldest
	}
	return since, first, nil
}

// backfillOne stores a delivery unless it is there. Of an owner who must be forgotten nothing is stored, but what it says
// of money is taken in; where that hangs on a charge that is not known, it is to come back.
func (w *Worker) backfillOne(ctx context.Context, providerID string, d Delivery, body []byte) (fate, error) {
	owner, err := w.applier.OwnerOf(ctx, providerID, d)
	if err != nil {
		return passedOver, err
	}
	erasable, err := w.applier.Erasable(ctx, providerID, owner, d.CustomerID)
	if err != nil {
		return passedOver, err
	}
	if erasable {
		known, err := w.takeMoneyIn(ctx, providerID, d)
		if err == nil && !known {
			return toComeBack, nil
		}
		return passedOver, err
	}
	stored, err := StoreDelivery(ctx, w.log, providerID, d, body)
	if errors.Is(err, eventlog.ErrTooLarge) {
		// Not for want of trying: it would hold up all that come after it, at every reading.
		w.cfg.Logger.Error().Str("provider", providerID).Str("delivery", d.ID).Str("type", d.Type).Int("bytes", len(body)).
			Msg("missing delivery not stored: larger than the NATS server's max_payload, raise it to 2MB")
		return toComeBack, nil
	}
	if err != nil {
		return passedOver, fmt.Errorf("store delivery %s: %w", d.ID, err)
	}
	if !stored {
		return arrived, nil
	}
	crashpoint.Hit("backfill.stored")
	w.metrics.backfill.WithLabelValues(providerID).Inc()
	w.cfg.Logger.Info().Str("provider", providerID).Str("delivery", d.ID).Str("type", d.Type).
		Str("customer_id", owner).Msg("missing delivery fetched")
	return fetched, nil
}
