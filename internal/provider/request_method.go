package provider

import (
	"context"
	"fmt"

	"github.com/paykit-go/paykit/internal/events"
)

// methodGone says that the provider no longer has a method on its customer. A crash right after leaves it detached and
// the request open: it comes again and finds nothing to do.
func (w *Worker) methodGone(ctx context.Context, r request, id string) error {
	_, _, err := w.log.Update(ctx, events.EntityPaymentMethod, id, func(last *events.Event) (*events.Event, error) {
		return events.DecidePaymentMethod(last, events.MethodGone{}, w.cause(r))
	})
	if err != nil {
		return fmt.Errorf("detach method %s: %w", id, err)
	}
	return nil
}

// methodDetachRequested takes a method off its customer at the provider.
func (w *Worker) methodDetachRequested(ctx context.Context, r request) error {
	e, err := w.subject(ctx, r)
	if err != nil {
		return err
	}
	m := e.Event.Data.PaymentMethod
	if !m.Live() {
		return nil
	}
	p, err := w.provider(m.ProviderID)
	if err != nil {
		return err
	}
	// A crash right after leaves it detached at the provider and live here: the request comes again, and the provider
	// answers that it is detached already.
	err = set(r, w.key(m.ID, "detach", r.id()), func(key string) error {
		return p.DetachMethod(ctx, key, m.ProviderMethodID)
	})
	if err != nil && !notFound(err) {
		return err
	}
	if err := w.point("method_detached"); err != nil {
		return err
	}
	return w.methodGone(ctx, r, m.ID)
}

// methodDefaultRequested makes a method its customer's default at the provider.
func (w *Worker) methodDefaultRequested(ctx context.Context, r request) error {
	e, err := w.subject(ctx, r)
	if err != nil {
		return err
	}
	m := e.Event.Data.PaymentMethod
	asked := r.event.Data.PaymentMethod.DefaultRequestedAt
	if !m.Live() || asked == nil {
		return nil
	}
	p, err := w.provider(m.ProviderID)
	if err != nil {
		return err
	}
	a, err := w.findAccount(ctx, m.CustomerID, m.ProviderID)
	if err != nil {
		return err
	}
	if a.Status != events.AccountLinked {
		return nil // its methods are being detached
	}
	// A crash right after leaves it the default at the provider only; the request comes again and is answered from its
	// key.
	err = set(r, w.key(m.ID, "default", r.id()), func(key string) error {
		return p.SetDefaultMethod(ctx, key, a.ProviderCustomerID, m.ProviderMethodID)
	})
	switch {
	case NoCustomer(err):
		return w.unlink(ctx, r, p.id, a.ProviderCustomerID)
	case refused(err):
		return w.defaultRefused(ctx, r, p, m, err)
	case err != nil:
		return err
	}
	if err := w.point("default_set"); err != nil {
		return err
	}
	_, _, err = w.log.Update(ctx, events.EntityPaymentMethod, m.ID, func(last *events.Event) (*events.Event, error) {
		return events.DecidePaymentMethod(last, events.DefaultSet{RequestedAt: *asked}, w.cause(r))
	})
	if err != nil {
		return fmt.Errorf("default method %s: %w", m.ID, err)
	}
	return w.mirrorDefault(ctx, r, p, a, m.ID)
}

// defaultRefused finds out whether a method could not be made the default because it is gone.
func (w *Worker) defaultRefused(ctx context.Context, r request, p *guardedAPI, m *events.PaymentMethod, refusal error) error {
	now, err := p.Method(ctx, m.ProviderMethodID)
	if notFound(err) || err == nil && !now.Attached {
		return w.methodGone(ctx, r, m.ID)
	}
	if err != nil {
		return err
	}
	return refusal
}

// mirrorDefault makes sure that the provider was last told of the customer's newest default: two requests carried out
// by two workers at once may reach it in either order, and each looks after its own call.
func (w *Worker) mirrorDefault(ctx context.Context, r request, p *guardedAPI, a events.ProviderAccount, told string) error {
	methods, err := w.log.Latest(ctx, events.EntityPaymentMethod, a.CustomerID)
	if err != nil {
		return fmt.Errorf("methods of %s: %w", a.CustomerID, err)
	}
	var newest *events.PaymentMethod
	for _, e := range methods {
		m := e.Event.Data.PaymentMethod
		if m.ProviderID != p.id || !m.Live() {
			continue
		}
		if newest == nil || m.DefaultTime().After(newest.DefaultTime()) {
			newest = m
		}
	}
	if newest == nil || newest.ID == told {
		return nil
	}
	err = set(r, w.key(newest.ID, "mirror", r.id()), func(key string) error {
		return p.SetDefaultMethod(ctx, key, a.ProviderCustomerID, newest.ProviderMethodID)
	})
	if refused(err) {
		return nil // it is gone, or its own request will say what is wrong
	}
	return err
}
