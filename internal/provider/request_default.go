package provider

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// methodDetached looks after what a detached method leaves: the customer's next method becomes the default if it was the
// default, whoever detached it, and the way back from its card leads to another method of the same card. With a customer or
// an account that is gone all methods go, and nothing is promoted.
func (w *Worker) methodDetached(ctx context.Context, r request) error {
	gone := r.event.Data.PaymentMethod
	if gone.DefaultTime().IsZero() {
		return nil // it began with its end
	}
	customer, err := w.customer(ctx, gone.CustomerID)
	if err != nil || customer.Deleted() {
		return err
	}
	a, err := w.findAccount(ctx, gone.CustomerID, gone.ProviderID)
	if err != nil || a.Status != events.AccountLinked {
		return err
	}
	list, err := w.log.Latest(ctx, events.EntityPaymentMethod, gone.CustomerID)
	if err != nil {
		return fmt.Errorf("methods of %s: %w", gone.CustomerID, err)
	}
	var live []*events.PaymentMethod
	for _, e := range list {
		if m := e.Event.Data.PaymentMethod; m.Live() && m.ProviderID == gone.ProviderID {
			live = append(live, m)
		}
	}
	if err := w.relinkCard(ctx, gone, live); err != nil {
		return err
	}
	next := promoted(gone, live)
	if next == nil {
		return nil
	}
	// The default from when the old one went, and not from now: what the app makes the default meanwhile is newer, and stays
	// it, here and at the provider. A crash right after leaves the next method asked for, which is a request of its own;
	// this one comes again and finds the newer default.
	at := *gone.DetachedAt
	if old := gone.DefaultTime(); !at.After(old) {
		at = old.Add(time.Millisecond)
	}
	_, _, err = w.log.Update(ctx, events.EntityPaymentMethod, next.ID, func(last *events.Event) (*events.Event, error) {
		return events.DecidePaymentMethod(last, events.PromoteMethod{At: at}, w.cause(r))
	})
	if err != nil {
		return fmt.Errorf("promote method %s: %w", next.ID, err)
	}
	return nil
}

// promoted is the method that follows a detached default: the one that was the default, or was saved, last before it; the
// list of methods shows it as the default already. It is nil if the detached one was not the default or nothing is left.
func promoted(gone *events.PaymentMethod, live []*events.PaymentMethod) *events.PaymentMethod {
	var next *events.PaymentMethod
	for _, m := range live {
		switch {
		case m.DefaultTime().After(gone.DefaultTime()):
			return nil
		case m.Chargeable() && (next == nil || newer(m, next)):
			next = m
		}
	}
	return next
}

func newer(a, b *events.PaymentMethod) bool {
	if c := a.DefaultTime().Compare(b.DefaultTime()); c != 0 {
		return c > 0
	}
	return a.CreatedAt.After(b.CreatedAt)
}

// relinkCard has the card of a detached method lead to the earliest live one with the same. Where there is none the link
// stays: who saves the card next finds a detached method, and takes it over. So does a crash right before repair itself.
func (w *Worker) relinkCard(ctx context.Context, gone *events.PaymentMethod, live []*events.PaymentMethod) error {
	var first *events.PaymentMethod
	for _, m := range live {
		if gone.Fingerprint != "" && m.Fingerprint == gone.Fingerprint && (first == nil || m.CreatedAt.Before(first.CreatedAt)) {
			first = m
		}
	}
	if first == nil {
		return nil
	}
	object := eventlog.CardObject(gone.CustomerID, gone.Fingerprint)
	err := w.log.MoveLink(ctx, gone.ProviderID, object, methodLink(gone.ID, gone.CustomerID), methodLink(first.ID, gone.CustomerID))
	if _, taken := errors.AsType[*eventlog.LinkTakenError](err); taken || errors.Is(err, eventlog.ErrNotFound) {
		return nil // it leads to a live one, or nobody has looked for the card yet
	}
	if err != nil {
		return fmt.Errorf("card of method %s: %w", gone.ID, err)
	}
	return nil
}

func methodLink(id, customerID string) eventlog.Link {
	return eventlog.Link{Entity: events.EntityPaymentMethod, ID: id, CustomerID: customerID}
}
