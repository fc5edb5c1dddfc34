package provider

import (
	"context"
	"fmt"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

func (w *Worker) updateCheckout(ctx context.Context, r request, id string, in events.CheckoutInput) (eventlog.Entry, error) {
	e, _, err := w.log.Update(ctx, events.EntityCheckout, id, func(last *events.Event) (*events.Event, error) {
		return events.DecideCheckout(last, in, w.cause(r))
	})
	if err != nil {
		return e, fmt.Errorf("update checkout %s: %w", id, err)
	}
	return e, nil
}

func (w *Worker) checkoutOwner(c *events.Checkout) events.Owner {
	return events.Owner{
		Env: w.log.Env(), Customer: c.CustomerID, Checkout: c.ID, Charge: events.CheckoutChargeID(c.ID),
	}
}

// checkoutRequested makes the checkout's page.
func (w *Worker) checkoutRequested(ctx context.Context, r request) error {
	e, err := w.subject(ctx, r)
	if err != nil {
		return err
	}
	c := e.Event.Data.Checkout
	if c.Status != events.StateRequested {
		return nil
	}
	p, err := w.provider(c.ProviderID)
	if err != nil {
		return err
	}
	customer, err := w.customer(ctx, c.CustomerID)
	if err != nil {
		return err
	}
	if customer.Deleted() {
		return w.rejectCheckout(ctx, r, c.ID, events.FailureCustomerDeleted)
	}
	if c.ExpireRequestedAt != nil {
		return w.expireUnmade(ctx, r, p, c)
	}
	s, err := w.session(ctx, r, p, SessionRequest{
		Owner: w.checkoutOwner(c), Amount: c.Amount, Currency: c.Currency, Description: c.Description,
		SuccessURL: c.SuccessURL, CancelURL: c.CancelURL, SaveMethod: c.AttachMethod, Metadata: c.Metadata,
	}, c.ID)
	if refused(err) {
		w.logRefusal(r, err)
		return w.rejectCheckout(ctx, r, c.ID, events.FailureProviderRejected)
	}
	if err != nil {
		return err // an unanswered call appends nothing: it is repeated with its key
	}
	if err := w.point("session_created"); err != nil {
		return err
	}
	// A crash right before leaves a page that nobody has the address of; the next try's key answers with it.
	e, err = w.updateCheckout(ctx, r, c.ID, events.CheckoutObserved{Session: s})
	if err != nil {
		return err
	}
	now := e.Event.Data.Checkout
	if s.Status == events.SessionOpen && (now.Status.Final() || now.ProviderSessionID != s.ID) {
		// It ended while its page was being made: the page is closed, or it could be paid after all.
		return w.expireSession(ctx, r, p, s.ID, now.ID)
	}
	return nil
}

// session makes a hosted page for the request's customer, or finds the one that an earlier try made.
func (w *Worker) session(ctx context.Context, r request, p *guardedAPI, s SessionRequest, id string) (events.Session, error) {
	return withAccount(ctx, w, r, p, func(a events.ProviderAccount) (events.Session, error) {
		s.CustomerID = a.ProviderCustomerID
		find := func(made Span) (events.Session, bool, error) {
			return p.FindSession(ctx, a.ProviderCustomerID, s.Owner, made)
		}
		return create(w, r, w.createKey(id, a), w.since(r), find, func(key string) (events.Session, error) {
			return p.CreateSession(ctx, key, s)
		})
	})
}

// since is from when on the provider's objects can have been made for a request.
func (w *Worker) since(r request) time.Time {
	since := r.event.Time
	if s, ok := createdAt(r.event); ok && s.Before(since) {
		since = s
	}
	return since.Add(-clockSkew)
}

// madeFor are the times in which the provider's objects can have been made for an entity that began at this moment.
func (w *Worker) madeFor(createdAt time.Time) []Span {
	return append([]Span{{Since: createdAt.Add(-clockSkew)}}, w.forgotten()...)
}

// createdAt is when the entity of an event began.
func createdAt(e *events.Event) (time.Time, bool) {
	switch {
	case e.Data.Charge != nil:
		return e.Data.Charge.CreatedAt, true
	case e.Data.Checkout != nil:
		return e.Data.Checkout.CreatedAt, true
	case e.Data.Setup != nil:
		return e.Data.Setup.CreatedAt, true
	}
	return time.Time{}, false
}

// refused tells whether the provider will never do what it was asked for.
func refused(err error) bool {
	return err != nil && (ClassOf(err) == Invalid || ClassOf(err) == Declined)
}

// rejectCheckout ends a checkout that can't be carried out. A crash right after leaves it ended and the request open:
// it comes again and finds nothing to do.
func (w *Worker) rejectCheckout(ctx context.Context, r request, id, code string) error {
	_, err := w.updateCheckout(ctx, r, id, events.CheckoutRejected{Failure: events.NewFailure(code, "")})
	return err
}

// checkoutExpireRequested closes the checkout's page.
func (w *Worker) checkoutExpireRequested(ctx context.Context, r request) error {
	e, err := w.subject(ctx, r)
	if err != nil {
		return err
	}
	c := e.Event.Data.Checkout
	if c.Status.Final() {
		return nil
	}
	p, err := w.provider(c.ProviderID)
	if err != nil {
		return err
	}
	if c.ProviderSessionID == "" {
		return w.expireUnmade(ctx, r, p, c)
	}
	return w.expireSession(ctx, r, p, c.ProviderSessionID, c.ID)
}

// expireUnmade ends a checkout whose page is not known. A try that was never answered may have made one.
func (w *Worker) expireUnmade(ctx context.Context, r request, p *guardedAPI, c *events.Checkout) error {
	a, err := w.findAccount(ctx, c.CustomerID, c.ProviderID)
	if err != nil {
		return err
	}
	if a.Status == events.AccountLinked {
		s, ok, err := lookIn(func(made Span) (events.Session, bool, error) {
			return p.FindSession(ctx, a.ProviderCustomerID, w.checkoutOwner(c), made)
		}, w.madeFor(c.CreatedAt)...)
		if err != nil && !NoCustomer(err) {
			return err
		}
		if ok {
			return w.expireSession(ctx, r, p, s.ID, c.ID)
		}
	}
	if err := w.point("page_unmade"); err != nil {
		return err
	}
	e, err := w.updateCheckout(ctx, r, c.ID, events.CheckoutObserved{Session: events.Session{Status: events.SessionExpired}})
	if err == nil && !e.Event.Data.Checkout.Status.Final() {
		return &later{after: w.jitter(w.retryFirst), reason: "its page was recorded meanwhile"}
	}
	return err
}

// expireSession closes a page and takes in how it then stands: it may have been paid a moment before. A crash between
// the two leaves it closed and the checkout open; the request comes again, and settling asks too.
func (w *Worker) expireSession(ctx context.Context, r request, p *guardedAPI, sessionID, checkoutID string) error {
	var s events.Session
	err := set(r, w.key(checkoutID, "expire", r.id()), func(key string) (err error) {
		s, err = p.ExpireSession(ctx, key, sessionID)
		return err
	})
	if err != nil {
		return err
	}
	e, err := w.updateCheckout(ctx, r, checkoutID, events.CheckoutObserved{Session: s})
	if err != nil {
		return err
	}
	return w.observeCheckoutPayment(ctx, r, p, e.Event.Data.Checkout, s)
}

// observeCheckoutPayment asks for the payment of a page that was completed, so that its charge is there even if the
// payment's delivery never comes.
func (w *Worker) observeCheckoutPayment(ctx context.Context, r request, p *guardedAPI, c *events.Checkout, s events.Session) error {
	if s.Status != events.SessionComplete || s.PaymentID == "" {
		return nil
	}
	payment, err := p.Payment(ctx, s.PaymentID)
	if err != nil {
		return err
	}
	payment.Owner = w.checkoutOwner(c)
	if _, err := w.applier.Observe(ctx, p.id, PaymentSeen{payment}, r.event.ID); err != nil {
		return err
	}
	if !c.AttachMethod || payment.Status != events.PaymentSucceeded {
		return nil
	}
	return w.observeMethod(ctx, r, p, payment.ProviderMethodID)
}
