package provider

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// accountHistory bounds how many events of one account are read in one go.
const accountHistory = 1000

// keptLook is when deliveries that wait for their owner are first looked at again.
const keptLook = 10 * time.Second

// customerDeleted erases a deleted customer, here and at every provider. Each step finds nothing when it is done again,
// so a crash after any of them is repaired by the request, which comes until all is done.
//
// A customer may have been revived since. What belongs to the new life stays: profiles after the event's revision, and
// provider customers that were linked after the event.
func (w *Worker) customerDeleted(ctx context.Context, r request) error {
	customer := r.event.Data.Customer
	// Our own copies first: they don't depend on any provider's being there.
	if _, err := w.log.EraseProfiles(ctx, customer.ID, customer.ProfileRevision+1); err != nil {
		return fmt.Errorf("erase profiles of %s: %w", customer.ID, err)
	}
	dead, err := w.log.DeadLetters(ctx, customer.ID)
	if err != nil {
		return fmt.Errorf("dead letters of %s: %w", customer.ID, err)
	}
	for _, d := range dead {
		// Events' times are cut to milliseconds: a letter from right before the deletion is "after" it by a part of one.
		if events.Millis(d.At).After(r.event.Time) {
			continue // of its new life
		}
		if err := w.log.EraseDead(ctx, d.Sequence); err != nil {
			return fmt.Errorf("erase dead letter of %s: %w", customer.ID, err)
		}
		// The decision after its letter: a crash between the two leaves it, and with it what was remembered of the letter.
		if d.Decision == nil {
			continue
		}
		if err := w.log.EraseDead(ctx, d.Decision.Sequence); err != nil {
			return fmt.Errorf("erase a decision about a dead letter of %s: %w", customer.ID, err)
		}
	}
	if err := w.point("erased_here"); err != nil {
		return err
	}
	kept := 0
	for _, providerID := range w.providerIDs() {
		p := w.providers[providerID]
		ids, err := w.accountsBefore(ctx, r, p.id)
		if err != nil {
			return err
		}
		n, err := w.eraseAccounts(ctx, r, p, ids)
		if err != nil {
			return err
		}
		kept += n
	}
	left, err := w.strayProfile(ctx, r)
	if err != nil {
		return err
	}
	return w.allErased(r, kept, left)
}

// allErased has the request come again while deliveries are kept, or a profile that may yet be announced.
func (w *Worker) allErased(r request, kept int, stray time.Duration) error {
	switch {
	case kept > 0:
		return &later{after: w.backoff(keptLook, r.attempt, time.Hour), reason: "deliveries wait for what they are about"}
	case stray > 0:
		return &later{after: w.jitter(stray), reason: "a profile was stored beside the deletion"}
	}
	return nil
}

// strayProfile looks for a revision newer than the deletion that no event names. A sync stores it before its event: it may
// be about to revive the customer, which takes it seconds, or it died, and then nobody else ever erases it. It says when to
// look again.
func (w *Worker) strayProfile(ctx context.Context, r request) (again time.Duration, err error) {
	customer := r.event.Data.Customer
	newest, err := w.log.Profile(ctx, customer.ID)
	if errors.Is(err, eventlog.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("profile of %s: %w", customer.ID, err)
	}
	last, err := w.log.LoadFromLeader(ctx, events.EntityCustomer, customer.ID)
	if err != nil {
		return 0, fmt.Errorf("customer %s: %w", customer.ID, err)
	}
	if last.Sequence != r.message.Sequence {
		return 0, nil // it lives, or was deleted again
	}
	if left := strayLife - w.cfg.Now().Sub(newest.Time); left > 0 {
		return left, nil
	}
	// A crash before leaves it for the request, which comes again.
	if _, err := w.log.EraseProfiles(ctx, customer.ID, newest.Sequence+1); err != nil {
		return 0, fmt.Errorf("erase profiles of %s: %w", customer.ID, err)
	}
	return 0, nil
}

// strayLife is how old a profile revision without an event must be to be nobody's: a sync gives up after 20 s.
const strayLife = 2 * time.Minute

// eraseAccounts deletes provider customers, and the deliveries about them and those that name none. It says how many
// deliveries must be kept for now.
//
// The deliveries go first: what is not taken in yet may be a payment that is found by its account only while that is
// linked, and a provider that refuses to delete must not keep us from erasing. Then once more, for those that came
// meanwhile; whatever comes still later the normalizer erases when it has read it.
func (w *Worker) eraseAccounts(ctx context.Context, r request, p *guardedAPI, ids []string) (kept int, err error) {
	mine := func(Delivery) (bool, error) { return true, nil }
	for _, id := range ids {
		if _, err := w.eraseDeliveries(ctx, r, p.id, id, mine); err != nil {
			return 0, err
		}
	}
	if kept, err = w.eraseUnowned(ctx, r, p.id); err != nil {
		return kept, err
	}
	for _, id := range ids {
		if err := w.deleteAccount(ctx, r, p, id); err != nil {
			return kept, err
		}
		n, err := w.eraseDeliveries(ctx, r, p.id, id, mine)
		if err != nil {
			return kept, err
		}
		kept += n
	}
	return kept, nil
}

// deleteAccount deletes a provider customer and says so. A crash between the two leaves it deleted there and linked
// here; deleting what is gone is a success.
func (w *Worker) deleteAccount(ctx context.Context, r request, p *guardedAPI, providerCustomerID string) error {
	err := p.DeleteCustomer(ctx, w.key(providerCustomerID, "delete"), providerCustomerID)
	if err != nil && !notFound(err) {
		return err
	}
	if err := w.point("customer_erased"); err != nil {
		return err
	}
	return w.unlink(ctx, r, p.id, providerCustomerID)
}

// accountsBefore lists every provider customer that the customer had when it was deleted.
func (w *Worker) accountsBefore(ctx context.Context, r request, providerID string) ([]string, error) {
	filter := eventlog.HistoryFilter{
		Entity: events.EntityProviderAccount, EntityID: events.ProviderAccountID(r.event.CustomerID(), providerID),
	}
	var ids []string
	for from := uint64(1); ; {
		page, err := w.log.History(ctx, filter, from, accountHistory)
		if err != nil {
			return nil, fmt.Errorf("accounts of %s: %w", r.event.CustomerID(), err)
		}
		for _, e := range page {
			if e.Sequence < r.message.Sequence && e.Event.Type == events.ProviderAccountLinked {
				ids = append(ids, e.Event.Data.ProviderAccount.ProviderCustomerID)
			}
			from = e.Sequence + 1
		}
		if len(page) < accountHistory {
			return ids, nil
		}
	}
}

// eraseUnowned erases the deliveries that name no provider customer and are about this customer all the same. Those of
// a new life stay.
func (w *Worker) eraseUnowned(ctx context.Context, r request, providerID string) (kept int, err error) {
	return w.eraseDeliveries(ctx, r, providerID, "", func(d Delivery) (bool, error) {
		if d.ID == "" || d.CreatedAt.After(r.event.Time) {
			return false, nil // what can't be read can't be shown to be theirs; age limits take it
		}
		owner, err := w.applier.OwnerOf(ctx, providerID, d)
		return owner == r.event.CustomerID(), err
	})
}

// eraseDeliveries erases the stored deliveries that name a provider customer, or none, and are the customer's. The
// normalizer may not have come to them yet, and money wins: what they say of it is taken in first. One whose charge is not
// known yet is kept for a day, counted from the deletion if that came later: what is old by then waited for us, and so may
// its charge.
//
// A crash between taking in and erasing leaves the delivery: taken in again, it finds nothing to do.
func (w *Worker) eraseDeliveries(
	ctx context.Context, r request, providerID, providerCustomerID string, mine func(Delivery) (bool, error),
) (kept int, err error) {
	hooks, ok := w.cfg.Webhooks[providerID]
	if !ok {
		return 0, nil
	}
	err = w.log.WalkDeliveries(ctx, providerID, providerCustomerID, func(stored eventlog.StoredDelivery) (bool, error) {
		d, err := hooks.Decode(stored.Body)
		if err != nil {
			d = Delivery{} // nobody can take it in
		}
		if erase, err := mine(d); err != nil || !erase {
			return false, err
		}
		known, err := w.takeMoneyIn(ctx, providerID, d)
		since := stored.Time
		if r.event.Time.After(since) {
			since = r.event.Time
		}
		if err == nil && !known && w.cfg.Now().Sub(since) < parkLife {
			kept++
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return kept, fmt.Errorf("erase: %w", err)
	}
	return kept, nil
}

// takeMoneyIn applies what a delivery says of charges, refunds, disputes and fraud warnings; for a deleted customer nothing else counts.
// It answers false if something hangs on a charge that is not known.
func (w *Worker) takeMoneyIn(ctx context.Context, providerID string, d Delivery) (known bool, err error) {
	known = true
	if d.Account != "" {
		return known, nil // a connected account's is nobody's here
	}
	for _, o := range d.Observations {
		switch o.(type) {
		case PaymentSeen, RefundSeen, RefundTotalSeen, DisputeSeen, FraudWarningSeen:
		default:
			continue
		}
		_, err := w.applier.Observe(ctx, providerID, o, d.ID)
		if errors.Is(err, ErrOwnerUnknown) {
			known = false
			continue
		}
		if err != nil {
			return false, err
		}
	}
	return known, nil
}
