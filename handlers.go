package paykit

import (
	"context"

	"github.com/paykit-go/paykit/internal/events"
)

// byType is the handlers by event type, each taking the plain event.
func (h Handlers) byType(c *Client) map[events.Type]func(context.Context, Event) error {
	m := map[events.Type]func(context.Context, Event) error{}
	customer := func(t events.Type, f func(context.Context, CustomerEvent) error) {
		if f != nil {
			m[t] = func(ctx context.Context, e Event) error {
				return f(ctx, CustomerEvent{Event: e, Customer: c.ref(e), Changed: e.Data.Changed})
			}
		}
	}
	account := func(t events.Type, f func(context.Context, ProviderAccountEvent) error) {
		if f != nil {
			m[t] = func(ctx context.Context, e Event) error {
				return f(ctx, ProviderAccountEvent{Event: e, Customer: c.ref(e), ProviderAccount: *e.Data.ProviderAccount})
			}
		}
	}
	checkout := func(t events.Type, f func(context.Context, CheckoutEvent) error) {
		if f != nil {
			m[t] = func(ctx context.Context, e Event) error {
				return f(ctx, CheckoutEvent{Event: e, Customer: c.ref(e), Checkout: *e.Data.Checkout})
			}
		}
	}
	setup := func(t events.Type, f func(context.Context, SetupEvent) error) {
		if f != nil {
			m[t] = func(ctx context.Context, e Event) error {
				return f(ctx, SetupEvent{Event: e, Customer: c.ref(e), Setup: *e.Data.Setup})
			}
		}
	}
	method := func(t events.Type, f func(context.Context, PaymentMethodEvent) error) {
		if f != nil {
			m[t] = func(ctx context.Context, e Event) error {
				return f(ctx, PaymentMethodEvent{Event: e, Customer: c.ref(e), PaymentMethod: *e.Data.PaymentMethod})
			}
		}
	}
	charge := func(t events.Type, f func(context.Context, ChargeEvent) error) {
		if f != nil {
			m[t] = func(ctx context.Context, e Event) error {
				return f(ctx, ChargeEvent{
					Event: e, Customer: c.ref(e), Charge: *e.Data.Charge, Refund: e.Data.Refund, Dispute: e.Data.Dispute,
					FraudWarning: e.Data.FraudWarning,
				})
			}
		}
	}
	customer(events.CustomerCreated, h.CustomerCreated)
	customer(events.CustomerUpdated, h.CustomerUpdated)
	customer(events.CustomerDeleted, h.CustomerDeleted)
	account(events.ProviderAccountLinked, h.ProviderAccountLinked)
	account(events.ProviderAccountUnlinked, h.ProviderAccountUnlinked)
	checkout(events.CheckoutRequested, h.CheckoutRequested)
	checkout(events.CheckoutCreated, h.CheckoutCreated)
	checkout(events.CheckoutExpireRequested, h.CheckoutExpireRequested)
	checkout(events.CheckoutCompleted, h.CheckoutCompleted)
	checkout(events.CheckoutExpired, h.CheckoutExpired)
	checkout(events.CheckoutFailed, h.CheckoutFailed)
	setup(events.SetupRequested, h.SetupRequested)
	setup(events.SetupCreated, h.SetupCreated)
	setup(events.SetupRefreshRequested, h.SetupRefreshRequested)
	setup(events.SetupCompleted, h.SetupCompleted)
	setup(events.SetupExpired, h.SetupExpired)
	setup(events.SetupFailed, h.SetupFailed)
	method(events.PaymentMethodAttached, h.PaymentMethodAttached)
	method(events.PaymentMethodUpdated, h.PaymentMethodUpdated)
	method(events.PaymentMethodExpiring, h.PaymentMethodExpiring)
	method(events.PaymentMethodDefaultRequested, h.PaymentMethodDefaultRequested)
	method(events.PaymentMethodDefaultSet, h.PaymentMethodDefaultSet)
	method(events.PaymentMethodDetachRequested, h.PaymentMethodDetachRequested)
	method(events.PaymentMethodDetached, h.PaymentMethodDetached)
	charge(events.ChargeRequested, h.ChargeRequested)
	charge(events.ChargeProcessing, h.ChargeProcessing)
	charge(events.ChargeRequiresAction, h.ChargeRequiresAction)
	charge(events.ChargeInDoubt, h.ChargeInDoubt)
	charge(events.ChargeSucceeded, h.ChargeSucceeded)
	charge(events.ChargeFailed, h.ChargeFailed)
	charge(events.ChargeCancelRequested, h.ChargeCancelRequested)
	charge(events.ChargeCanceled, h.ChargeCanceled)
	charge(events.ChargeRefundRequested, h.ChargeRefundRequested)
	charge(events.ChargeRefunded, h.ChargeRefunded)
	charge(events.ChargeRefundFailed, h.ChargeRefundFailed)
	charge(events.ChargeDisputed, h.ChargeDisputed)
	charge(events.ChargeDisputeClosed, h.ChargeDisputeClosed)
	charge(events.ChargeRefreshRequested, h.ChargeRefreshRequested)
	charge(events.ChargeUpdated, h.ChargeUpdated)
	charge(events.ChargeReviewRequested, h.ChargeReviewRequested)
	charge(events.ChargeRetryRequested, h.ChargeRetryRequested)
	charge(events.ChargeFraudWarned, h.ChargeFraudWarned)
	if h.CommandRejected != nil {
		m[events.CommandRejected] = func(ctx context.Context, e Event) error {
			return h.CommandRejected(ctx, CommandEvent{Event: e, Customer: c.ref(e), Command: *e.Data.Command})
		}
	}
	return m
}

func (c *Client) ref(e Event) CustomerRef {
	return CustomerRef{CustomerRef: e.Data.Customer.Ref(), c: c}
}
