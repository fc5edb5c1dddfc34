//go:build crashpoints

package e2e_test

import (
	"errors"
	"fmt"
	"path/filepath"

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
