package provider

import (
	"context"
	"fmt"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// accountHistory bounds how many events of one account are read in one go.
const accountHistory = 1000

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
		if d.At.After(r.event.Time) {
			continue // of its new life
		}
		if err := w.log.EraseDead(ctx, d.Sequence); err != nil {
			return fmt.Errorf("erase dead letter of %s: %w", customer.ID, err)
		}
	}
	if err := w.point("erased_here"); err != nil {
		return err
	}
	for _, providerID := range w.providerIDs() {
		if err := w.eraseAt(ctx, r, w.providers[providerID]); err != nil {
			return err
		}
	}
	return nil
}

// eraseAt deletes all that a provider has of the customer, and all that we have from the provider.
func (w *Worker) eraseAt(ctx context.Context, r request, p *guardedAPI) error {
	ids, err := w.accountsBefore(ctx, r, p.id)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := w.deleteAccount(ctx, r, p, id); err != nil {
			return err
		}
		if _, err := w.log.EraseDeliveries(ctx, p.id, id); err != nil {
			return fmt.Errorf("erase deliveries of %s: %w", id, err)
		}
	}
	return w.eraseUnowned(ctx, r, p.id)
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
func (w *Worker) eraseUnowned(ctx context.Context, r request, providerID string) error {
	hooks, ok := w.cfg.Webhooks[providerID]
	if !ok {
		return nil
	}
	err := w.log.UnownedDeliveries(ctx, providerID, func(_ uint64, body []byte) (bool, error) {
		d, err := hooks.Decode(body)
		if err != nil || d.CreatedAt.After(r.event.Time) {
			return false, nil //nolint:nilerr // what can't be read can't be shown to be theirs; age limits take it
		}
		owner, err := w.applier.OwnerOf(ctx, providerID, d)
		return owner == r.event.CustomerID(), err
	})
	if err != nil {
		return fmt.Errorf("erase deliveries without a customer: %w", err)
	}
	return nil
}
