package provider

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// method applies a report about a saved method. One that is not known belongs to whom its provider customer is linked.
func (a *Applier) method(ctx context.Context, at sighting, o MethodSeen) (Applied, error) {
	m := o.Method
	if m.ReportedAt.IsZero() { // an answer of our own; in whole seconds, as deliveries are
		m.ReportedAt = a.cfg.Now().Truncate(time.Second)
	}
	id := events.PaymentMethodID(at.providerID, m.ID)
	known, err := a.load(ctx, events.EntityPaymentMethod, id)
	if err != nil {
		return Applied{}, err
	}
	var ref events.CustomerRef
	if known.Event != nil {
		ref = refOf(known.Event)
		closed, err := a.closed(ctx, at, ref.ID, m.ProviderCustomerID)
		if err != nil {
			return Applied{}, err
		}
		switch {
		case closed:
			return gone(ref.ID), nil
		case o.First:
			return unchanged(known), nil
		}
	} else {
		customer, standing, err := a.customerOf(ctx, at.providerID, m.ProviderCustomerID)
		switch {
		case err != nil:
			return Applied{}, err
		case standing == accountGone || customer.Deleted():
			return gone(customer.ID), nil
		case standing != accountLinked:
			return Applied{}, ErrOwnerUnknown
		}
		ref = customer.Ref()
	}
	duplicateOf := ""
	if newCard(known.Event, m) {
		if duplicateOf, err = a.duplicateOf(ctx, at, ref.ID, id, m.Fingerprint); err != nil {
			return Applied{}, err
		}
	}
	return a.updateOpen(ctx, at, events.EntityPaymentMethod, id, ref.ID, m.ProviderCustomerID, func(last *events.Event) (*events.Event, error) {
		return events.DecidePaymentMethod(last,
			events.MethodObserved{ProviderID: at.providerID, Method: m, DuplicateOf: duplicateOf}, a.cause(at, ref))
	})
}

// newCard tells whether a report names a card that the method is not known to be.
func newCard(last *events.Event, m events.Method) bool {
	if !m.Attached || m.Type == "" || m.Fingerprint == "" {
		return false
	}
	return last == nil || last.Data.PaymentMethod.Live() && last.Data.PaymentMethod.Fingerprint != m.Fingerprint
}

// cardTries is how often a way that others move at the same moment is looked at again.
const cardTries = 3

// duplicateOf finds the customer's earlier live method of the same card, "" if there is none, and makes the way back from
// the card lead to the earlier of the two. Whoever comes first has the link; it is taken over from a method that was
// detached or is another card by now. Nothing but what is shown depends on it.
//
// A crash right after the link is written leaves one to a method that has no event yet, or not this card yet: the report
// comes again and finds its own link. Until then it counts as the earlier one.
func (a *Applier) duplicateOf(ctx context.Context, at sighting, customerID, id, fingerprint string) (string, error) {
	object, ours := eventlog.CardObject(customerID, fingerprint), methodLink(id, customerID)
	for range cardTries {
		k, ok, err := a.link(ctx, at.providerID, object, events.EntityPaymentMethod)
		if err != nil {
			return "", err
		}
		if !ok {
			err = a.log.PutLink(ctx, at.providerID, object, ours)
		} else if k.ID != id {
			earlier, loadErr := a.load(ctx, events.EntityPaymentMethod, k.ID)
			if loadErr != nil {
				return "", loadErr
			}
			if earlier.Event == nil || isCard(earlier.Event.Data.PaymentMethod, fingerprint) {
				return k.ID, nil
			}
			err = a.log.MoveLink(ctx, at.providerID, object, k, ours)
		}
		if _, taken := errors.AsType[*eventlog.LinkTakenError](err); taken {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("link the card of %s: %w", id, err)
		}
		return "", nil
	}
	return "", nil
}

// isCard tells whether a method can be charged for a card with this fingerprint.
func isCard(m *events.PaymentMethod, fingerprint string) bool {
	return m.Live() && m.Fingerprint == fingerprint
}
