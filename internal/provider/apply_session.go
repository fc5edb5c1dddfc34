package provider

import (
	"context"

	"github.com/paykit-go/paykit/internal/events"
)

// session applies a report about a hosted page. PayKit makes its pages itself, so the reserved metadata is the only
// way to find whose it is. What was paid on it is the payment's report to tell.
func (a *Applier) session(ctx context.Context, at sighting, s events.Session) (Applied, error) {
	if !a.ours(s.Owner) {
		return Applied{Outcome: OutcomeNotOurs}, nil
	}
	if s.Setup {
		return a.updateSetup(ctx, at, s.Owner.Setup, s.ProviderCustomerID, events.SetupSessionObserved{Session: s})
	}
	entry, err := a.load(ctx, events.EntityCheckout, s.Owner.Checkout)
	if err != nil {
		return Applied{}, err
	}
	if entry.Event == nil || entry.Event.Data.Checkout.ProviderID != at.providerID {
		return Applied{Outcome: OutcomeNotOurs}, nil
	}
	ref := refOf(entry.Event)
	closed, err := a.closed(ctx, at, ref.ID, s.ProviderCustomerID)
	if err != nil {
		return Applied{}, err
	}
	if closed {
		return gone(ref.ID), nil
	}
	return a.updateOpen(ctx, at, events.EntityCheckout, s.Owner.Checkout, ref.ID, s.ProviderCustomerID, func(last *events.Event) (*events.Event, error) {
		return events.DecideCheckout(last, events.CheckoutObserved{Session: s}, a.cause(at, ref))
	})
}

// setup applies a report about the saving of a method.
func (a *Applier) setup(ctx context.Context, at sighting, r events.SetupReport) (Applied, error) {
	if !a.ours(r.Owner) {
		return Applied{Outcome: OutcomeNotOurs}, nil
	}
	return a.updateSetup(ctx, at, r.Owner.Setup, r.ProviderCustomerID, events.SetupIntentObserved{Report: r})
}

func (a *Applier) updateSetup(ctx context.Context, at sighting, id, providerCustomerID string, in events.SetupInput) (Applied, error) {
	entry, err := a.load(ctx, events.EntitySetup, id)
	if err != nil {
		return Applied{}, err
	}
	if entry.Event == nil || entry.Event.Data.Setup.ProviderID != at.providerID {
		return Applied{Outcome: OutcomeNotOurs}, nil
	}
	ref := refOf(entry.Event)
	closed, err := a.closed(ctx, at, ref.ID, providerCustomerID)
	if err != nil {
		return Applied{}, err
	}
	if closed {
		return gone(ref.ID), nil
	}
	return a.updateOpen(ctx, at, events.EntitySetup, id, ref.ID, providerCustomerID, func(last *events.Event) (*events.Event, error) {
		return events.DecideSetup(last, in, a.cause(at, ref))
	})
}
