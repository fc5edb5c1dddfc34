//go:build crashpoints

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

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

		"projector.rebuild_finished": {once: true},
		"projector.next_ready":       {once: true},
		"projector.next_opened":      {once: true, during: rebuildBeside},
		"projector.next_swapping":    {once: true, during: rebuildBeside},
		"projector.next_swapped":     {once: true, during: rebuildBeside},

		"projector.set_aside":       {once: true, before: damageViews},
		"backfill.before_mark":      {once: true},
		"normalizer.buried":         {during: sendUnreadable},
		"worker.doubt_recorded":     {during: loseConfirms},
		"worker.buried":             {during: refuseProfiles},
		"queue.letter_done":         {during: retryCommands},
		"normalizer.letter_retried": {during: retryDeliveries},
		"worker.letter_retried":     {during: retryRequests},
		"worker.retry_requested":    {during: climbLadders},
		"worker.retry_asked":        {during: climbLadders},
		"worker.retry_answered":     {during: climbLadders},
		"worker.retry_recorded":     {during: climbLadders},
		"worker.retry_stopped":      {during: stopLadders},
		"worker.payment_unmade":     {before: cancelUnmade},
		"worker.page_unmade":        {before: expireUnmade},
	}
}

// rebuildBeside rebuilds the views while a projector runs, which is to take them over.
func rebuildBeside(l *load) {
	rebuild := start(l.s.t, append(l.s.env(), "PAYKIT_DATA_DIR="+l.s.viewsDir()), "paykit", "rebuild")
	select {
	case <-rebuild.done:
	case <-l.s.t.Context().Done():
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
	l.plant(func(d letter) bool { return d.Stage == "normalizer" && strings.HasPrefix(d.ID, "evt_"+l.name+"_") })
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

// refuseProfiles has the sandbox refuse what is pushed of customers: that leads to dead letters.
func refuseProfiles(l *load) {
	l.plant(func(d letter) bool {
		return d.Stage == "worker" && strings.HasPrefix(d.Reason, "customers.update: invalid (status 400")
	})
	l.s.fault(l.s.t, `{"operation":"customers.update","kind":"status","status":400,"times":6}`)
}

// climbLadders charges a card that declines each time, and one that declines once for each charge.
func climbLadders(l *load) {
	ctx, t := l.s.t.Context(), l.s.t
	customer, err := again(ctx, "sync", func() (*paykit.Customer, error) {
		return l.pk.Customer.Sync(ctx, paykit.CustomerSync{ReferenceID: l.name + "_ladder"})
	}, nil)
	if err != nil {
		t.Error(err)
		return
	}
	never, err := l.saveCard(ctx, customer.ID, l.name+" never", cardFailsLater, "0341")
	if err != nil {
		t.Error(err)
		return
	}
	once, err := l.saveCard(ctx, customer.ID, l.name+" once", card4242, "4242")
	if err != nil {
		t.Error(err)
		return
	}
	if _, err := l.climb(ctx, customer.ID, never, "quick", l.name+" never", paykit.ChargeFailed); err != nil {
		t.Error(err)
	}
	method, err := again(ctx, "method", func() (*paykit.PaymentMethod, error) { return l.pk.PaymentMethod.Get(ctx, once) }, nil)
	if err != nil {
		t.Error(err)
		return
	}
	for n := range 3 {
		url := l.s.sandbox + "/_sandbox/payment_methods/" + method.ProviderMethodID + "/decline"
		if status, body := post(t, url, `{"times":1}`, "Content-Type", "application/json"); status != 200 {
			t.Errorf("decline: %d %s", status, body)
		}
		if _, err := l.climb(ctx, customer.ID, once, "quick", fmt.Sprint(l.name, " once ", n), paykit.ChargeSucceeded); err != nil {
			t.Error(err)
		}
	}
}

// climb makes a charge with a ladder and waits until that has ended.
func (l *load) climb(ctx context.Context, customerID, methodID, schedule, key string, status paykit.ChargeStatus) (*paykit.Charge, error) {
	return again(ctx, "ladder "+key, func() (*paykit.Charge, error) {
		c, err := l.pk.Charge.Create(ctx, paykit.ChargeCreate{
			CustomerID: customerID, PaymentMethodID: methodID, Amount: 2700, Description: "Ladder", Retry: schedule,
		}, paykit.WithIdempotencyKey(key), paykit.WithWait(0))
		if err == nil {
			l.expect(c.ID, status)
		}
		return c, err
	}, func(c *paykit.Charge) bool {
		return c.Status.Final() && c.Retry != nil && c.Retry.Status == paykit.RetryEnded
	})
}

// stopLadders takes methods away while their charges wait for the next attempt.
func stopLadders(l *load) {
	var wg sync.WaitGroup
	for n := range 3 {
		wg.Go(func() {
			if err := l.stopLadder(l.s.t.Context(), fmt.Sprint(l.name, "_stop_", n)); err != nil {
				l.s.t.Error(err)
			}
		})
	}
	wg.Wait()
}

func (l *load) stopLadder(ctx context.Context, id string) error {
	customer, err := again(ctx, "sync", func() (*paykit.Customer, error) {
		return l.pk.Customer.Sync(ctx, paykit.CustomerSync{ReferenceID: id})
	}, nil)
	if err != nil {
		return err
	}
	method, err := l.saveCard(ctx, customer.ID, id, cardFailsLater, "0341")
	if err != nil {
		return err
	}
	in := paykit.ChargeCreate{CustomerID: customer.ID, PaymentMethodID: method, Amount: 2900, Description: "Ladder", Retry: "slow"}
	if _, err := l.charge(ctx, in, id, paykit.ChargeFailed); err != nil {
		return err
	}
	_, err = again(ctx, "detach", func() (*paykit.PaymentMethod, error) {
		return l.pk.PaymentMethod.Detach(ctx, paykit.PaymentMethodRef{CustomerID: customer.ID, PaymentMethodID: method}, paykit.WithWait(0))
	}, nil)
	if err != nil {
		return err
	}
	_, err = again(ctx, "the ladder has ended", func() (*paykit.Charge, error) {
		return l.pk.Charge.Create(ctx, in, paykit.WithIdempotencyKey(id), paykit.WithWait(0))
	}, func(c *paykit.Charge) bool { return c.Retry != nil && c.Retry.Status == paykit.RetryEnded })
	return err
}
