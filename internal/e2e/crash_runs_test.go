//go:build crashpoints

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/paykit-go/paykit"
)

// crashRun is what it takes for a process to come by a point, where the ordinary load is not enough.
type crashRun struct {
	once   bool                   // one process comes by once only
	before func(l *load, nth int) // done while the process is down; may be nil
	during func(l *load)          // done besides the ordinary load; may be nil
}

func crashRuns() map[string]crashRun {
	return map[string]crashRun{
		"projector.rebuild_applied": {once: true},
		"projector.before_swap":     {once: true},
		"projector.after_swap":      {once: true},
		"projector.set_aside":       {once: true, before: damageViews},
		"backfill.before_mark":      {once: true},
		"normalizer.buried":         {during: sendUnreadable},
		"worker.doubt_recorded":     {during: loseConfirms},
		"worker.payment_unmade":     {before: cancelUnmade},
		"worker.page_unmade":        {before: expireUnmade},
		"worker.retry_requested":    {during: climbLadders},
		"worker.retry_asked":        {during: climbLadders},
		"worker.retry_answered":     {during: climbLadders},
		"worker.retry_recorded":     {during: climbLadders},
		"worker.retry_stopped":      {during: stopLadders},
	}
}

// damageViews breaks the views' file.
func damageViews(l *load, _ int) {
	if err := writeFile(filepath.Join(l.s.viewsDir(), "views.db"), "no database"); err != nil {
		l.s.t.Error(err)
	}
}

// sendUnreadable delivers what is signed and can't be understood.
func sendUnreadable(l *load) {
	for n := range 5 {
		body := fmt.Sprintf(`{"id":"evt_%s_%d","object":"event","type":"charge.succeeded","data":"x"}`, l.name, n)
		_, err := again(l.s.t.Context(), "deliver", func() (*int, error) {
			status, answer := post(l.s.t, l.s.ingest+"/webhooks/stripe", body, "Stripe-Signature", signed(body, webhookSecret))
			if status != 200 {
				return nil, fmt.Errorf("%d %s: %w", status, answer, errNotYet)
			}
			return &status, nil
		}, nil)
		if err != nil {
			l.s.t.Error(err)
		}
	}
}

var errNotYet = errors.New("not yet")

// loseConfirms has the sandbox take money and keep silent about it, a few times.
func loseConfirms(l *load) {
	l.s.fault(l.s.t, `{"operation":"payment_intents.confirm","kind":"cut","when":"after","times":4}`)
}

// cancelUnmade leaves charges that are canceled before a worker has seen them.
func cancelUnmade(l *load, nth int) {
	ctx := l.s.t.Context()
	l.s.startWorker()
	customer, method := l.s.saved(l.pk, l.name, card4242)
	l.s.wk.kill()
	for n := range nth {
		c, err := l.pk.Charge.Create(ctx, paykit.ChargeCreate{
			CustomerID: customer, PaymentMethodID: method, Amount: 1000, Description: "never",
		}, paykit.WithIdempotencyKey(fmt.Sprint(l.name, n)), paykit.WithWait(0))
		if err == nil {
			l.expect(c.ID, paykit.ChargeCanceled)
			_, err = l.pk.Charge.Cancel(ctx, c.ID, paykit.WithWait(0))
		}
		if err != nil {
			l.s.t.Error(err)
		}
	}
}

// expireUnmade leaves pages that are closed before a worker has seen them.
func expireUnmade(l *load, nth int) {
	ctx := l.s.t.Context()
	customer, err := l.pk.Customer.Sync(ctx, paykit.CustomerSync{ReferenceID: l.name})
	if err != nil {
		l.s.t.Error(err)
		return
	}
	for n := range nth {
		c, err := l.pk.Checkout.Create(ctx, paykit.CheckoutCreate{
			CustomerID: customer.ID, Amount: 1000, Description: "never", SuccessURL: "https://app.example.com/ok",
		}, paykit.WithIdempotencyKey(fmt.Sprint(l.name, n)), paykit.WithWait(0))
		if err == nil {
			_, err = l.pk.Checkout.Expire(ctx, c.ID, paykit.WithWait(0))
		}
		if err != nil {
			l.s.t.Error(err)
		}
	}
}

// climbLadders charges a card that declines each time, and waits until the last attempt of the ladder.
func climbLadders(l *load) {
	ctx, cancel := context.WithTimeout(l.s.t.Context(), 2*crashBound)
	defer cancel()
	_, _, id := l.ladder(ctx, "quick", l.name+"_climbs")
	c := l.climbed(ctx, id)
	if c != nil && len(c.Retry.Attempts) != 4 {
		l.s.t.Errorf("the ladder of %s ended after %d attempts", id, len(c.Retry.Attempts))
	}
}

// stopLadders takes the cards away from ladders that wait, one after the other.
func stopLadders(l *load) {
	ctx, cancel := context.WithTimeout(l.s.t.Context(), 2*crashBound)
	defer cancel()
	for n := range 3 {
		customer, method, id := l.ladder(ctx, "slow", fmt.Sprint(l.name, "_stops_", n))
		_, err := again(ctx, "detach", func() (*paykit.PaymentMethod, error) {
			return l.pk.PaymentMethod.Detach(ctx, paykit.PaymentMethodRef{CustomerID: customer, PaymentMethodID: method}, paykit.WithWait(time.Second))
		}, nil)
		if err != nil {
			l.s.t.Error(err)
		}
		l.climbed(ctx, id)
	}
}

// ladder charges a new customer's card, which declines each time, with a retry schedule, and waits for the first decline.
func (l *load) ladder(ctx context.Context, schedule, name string) (customerID, methodID, chargeID string) {
	customer, err := again(ctx, "sync", func() (*paykit.Customer, error) {
		return l.pk.Customer.Sync(ctx, paykit.CustomerSync{ReferenceID: name})
	}, nil)
	if err != nil {
		l.s.t.Error(err)
		return "", "", ""
	}
	method, err := l.saveCard(ctx, customer.ID, name, cardFailsLater, "0341")
	if err != nil {
		l.s.t.Error(err)
		return "", "", ""
	}
	c, err := l.charge(ctx, paykit.ChargeCreate{
		CustomerID: customer.ID, PaymentMethodID: method, Amount: 1500, Description: "Dunned", Retry: schedule,
	}, name, paykit.ChargeFailed)
	if err != nil {
		l.s.t.Error(err)
		return "", "", ""
	}
	return customer.ID, method, c.ID
}

// climbed waits until a ladder has ended.
func (l *load) climbed(ctx context.Context, chargeID string) *paykit.Charge {
	c, err := again(ctx, "the ladder ends", func() (*paykit.Charge, error) { return l.pk.Charge.Get(ctx, chargeID) },
		func(c *paykit.Charge) bool { return c.Retry != nil && c.Retry.Status == paykit.RetryEnded })
	if err != nil {
		l.s.t.Error(err)
		return nil
	}
	return c
}
