package sim

import (
	"context"
	"errors"
	"net/http"
	"time"

	engine "github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
)

// Bench is the model of Stripe by itself, as the suite of every provider wants it: what a buyer does, what can be counted,
// and one broken answer at a time.
type Bench struct {
	stripe *Stripe
	now    time.Time
	broken map[string]fate
}

// NewBench makes an empty account at a moment.
func NewBench(now time.Time) *Bench {
	b := &Bench{now: now, broken: map[string]fate{}}
	b.stripe = NewStripe(func() time.Time {
		b.now = b.now.Add(time.Millisecond)
		return b.now
	}, func(time.Duration, func()) {}, func(*webhook) {})
	return b
}

// API is an adapter for the account.
func (b *Bench) API() *API { return NewAPI(b.stripe, b) }

// Webhooks reads the account's deliveries.
func (b *Bench) Webhooks() Webhooks { return Webhooks{b.stripe} }

// Out implements [Net].
func (b *Bench) Out(_ context.Context, operation string, _ bool) (fate, error) { //nolint:revive // unexported-return: for this package only
	f := b.broken[operation]
	delete(b.broken, operation)
	return f, nil
}

// Back implements [Net].
func (b *Bench) Back(context.Context) error { return nil }

// Later implements [Net].
func (b *Bench) Later(_ time.Duration, do func()) { do() }

// Break breaks the next call of an operation: before it is carried out, or after.
func (b *Bench) Break(operation string, status int, after bool) {
	e := &provider.Error{Operation: operation, Status: status}
	switch status {
	case http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusConflict:
		e.Class = provider.Transient
	case http.StatusUnauthorized:
		e.Class = provider.Blocked
	}
	if after {
		b.broken[operation] = fate{broken: e, kept: status == http.StatusInternalServerError}
	} else {
		b.broken[operation] = fate{refused: e}
	}
}

// Heal forgets what is broken.
func (b *Bench) Heal() { clear(b.broken) }

// The cards of the suite: good, declined, and one that wants the buyer.
func card(n int) behaviour { return []behaviour{cardGood, cardDeclined, cardAuthenticates}[n] }

// SaveMethod saves a card.
func (b *Bench) SaveMethod(customerID string, n int) string {
	return b.stripe.newMethod(customerID, card(n)).id
}

var errNone = errors.New("sim: there is none")

// Complete is what a buyer does on a page.
func (b *Bench) Complete(sessionID string, n int) error {
	x := b.stripe.sessions[sessionID]
	if x == nil {
		return errNone
	}
	b.stripe.complete(x, card(n))
	return nil
}

// Authenticate is what a buyer does at the bank's page.
func (b *Bench) Authenticate(paymentID string, passed bool) error {
	p := b.stripe.payments[paymentID]
	if p == nil {
		return errNone
	}
	b.stripe.authenticate(p, passed)
	return nil
}

// Profile is a customer's, as the account has it.
func (b *Bench) Profile(customerID string) (provider.Profile, error) {
	c := b.stripe.customers[customerID]
	if c == nil {
		return provider.Profile{}, errNone
	}
	return c.profile, nil
}

// Counts tells how often what takes effect was done for a customer: customers made for the same one of ours, pages,
// payments, captures, refunds.
func (b *Bench) Counts(customerID string) (customers, sessions, payments, captures, refunds int) {
	if one := b.stripe.customers[customerID]; one != nil {
		for _, c := range b.stripe.order.customers {
			if !c.deleted && c.owner.Customer == one.owner.Customer {
				customers++
			}
		}
	}
	for _, x := range b.stripe.order.sessions {
		if x.now.ProviderCustomerID == customerID {
			sessions++
		}
	}
	mine := map[string]bool{}
	for _, p := range b.stripe.order.payments {
		if p.now.ProviderCustomerID == customerID {
			payments++
			captures += p.captures
			mine[p.now.ID] = true
		}
	}
	for _, r := range b.stripe.order.refunds {
		if mine[r.now.ProviderPaymentID] && r.now.Status != engine.RefundFailed {
			refunds++
		}
	}
	return customers, sessions, payments, captures, refunds
}
