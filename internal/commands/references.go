package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// checkProvider refuses a provider that is not configured.
func (h *Handler) checkProvider(id string) error {
	if !slices.Contains(h.cfg.Providers, id) {
		return notFound(events.CodeProviderNotFound, "providerId", "there is no such provider")
	}
	return nil
}

// customer finds a live customer. A deleted one counts as not found.
func (h *Handler) customer(ctx context.Context, id string) (events.CustomerRef, error) {
	e, ok, err := h.find(ctx, events.EntityCustomer, id, func(e *events.Event) bool { return !e.Data.Customer.Deleted() })
	if err != nil {
		return events.CustomerRef{}, err
	}
	if !ok {
		return events.CustomerRef{}, notFound(events.CodeCustomerNotFound, "customerId", "there is no such customer")
	}
	return e.Event.Data.Customer.Ref(), nil
}

// payer checks provider and customer, in this order.
func (h *Handler) payer(ctx context.Context, providerID, customerID string) (events.CustomerRef, error) {
	if err := h.checkProvider(providerID); err != nil {
		return events.CustomerRef{}, err
	}
	return h.customer(ctx, customerID)
}

// methodOf checks provider, customer and method, in this order. Another customer's method, and one at another
// provider, is as unknown as one that never was: the answer must not tell who has which method.
func (h *Handler) methodOf(ctx context.Context, r methodRef, fit func(*events.PaymentMethod) bool) (events.CustomerRef, error) {
	var ref events.CustomerRef
	var ok bool
	var noPayer, err error
	h.cfg.AtOnce(
		func() { ref, noPayer = h.payer(ctx, r.providerID, r.customerID) },
		func() {
			_, ok, err = h.find(ctx, events.EntityPaymentMethod, r.methodID, func(e *events.Event) bool {
				m := e.Data.PaymentMethod
				return m.CustomerID == r.customerID && m.ProviderID == r.providerID && fit(m)
			})
		},
	)
	if noPayer != nil {
		return events.CustomerRef{}, noPayer
	}
	if err != nil {
		return events.CustomerRef{}, err
	}
	if !ok {
		return events.CustomerRef{}, notFound(events.CodePaymentMethodNotFound, "paymentMethodId",
			"the customer has no such payment method")
	}
	return ref, nil
}

// methodRef is how a body names a payment method.
type methodRef struct{ providerID, customerID, methodID string }

func parseMethodRef(f *fields) methodRef {
	return methodRef{
		providerID: f.text("providerId"), customerID: f.text("customerId"), methodID: f.text("paymentMethodId"),
	}
}

// find loads an entity that fits; ok is false if there is none. Before that is said the stream's leader is asked: a
// direct get may be answered by a replica that lags behind what the caller has just seen.
func (h *Handler) find(ctx context.Context, entity events.Entity, id string, fits func(*events.Event) bool,
) (e eventlog.Entry, ok bool, err error) {
	for _, load := range []func(context.Context, events.Entity, string) (eventlog.Entry, error){
		h.log.Load, h.log.LoadFromLeader,
	} {
		e, err = load(ctx, entity, id) // an id that is none of ours is not found, and never gets into a subject
		switch {
		case errors.Is(err, eventlog.ErrNotFound):
		case err != nil:
			return eventlog.Entry{}, false, fmt.Errorf("look for a %s: %w", entity, err)
		case fits(e.Event):
			return e, true, nil
		}
	}
	return eventlog.Entry{}, false, nil
}
