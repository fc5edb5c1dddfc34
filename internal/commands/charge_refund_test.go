package commands

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/paykit-go/paykit/internal/events"
)

// Refunds of the full amount that come at once, each under its own key, to two processes: one is accepted, the others
// are told that nothing is left.
func TestRefundsOfTheFullAmountAtOnce(t *testing.T) {
	x := newHarness(t)
	other, _ := ingest(t, x.server)
	customer := x.customer("user_1")
	x.method(customer, "pm_1")
	for round := range 5 {
		charge := decoded[events.Charge](t, x.run("charge.create", payerCommands(customer)["charge.create"], keyed(fmt.Sprint("k", round)))).ID
		x.append(events.EntityCharge, charge, payment(events.PaymentSucceeded))
		body := fmt.Sprintf(`{"chargeId":%q}`, charge)
		if round%2 == 1 { // the amount said, or left out
			body = fmt.Sprintf(`{"chargeId":%q,"amount":4900}`, charge)
		}
		const at = 6
		errs := make([]error, at)
		start := make(chan struct{})
		var g sync.WaitGroup
		for i := range at {
			h := x.h
			if i%2 == 1 {
				h = other
			}
			g.Go(func() {
				<-start
				_, errs[i] = h.Execute(t.Context(), "charge.refund", []byte(body), keyed(fmt.Sprint("refund ", i)))
			})
		}
		close(start)
		g.Wait()
		accepted := 0
		for _, err := range errs {
			var refusal *events.Error
			switch {
			case err == nil:
				accepted++
			case !errors.As(err, &refusal) || refusal.Code != events.CodeChargeNotRefundable || refusal.Message != "the charge is fully refunded":
				t.Errorf("refused with %v", err)
			}
		}
		c := x.load(events.EntityCharge, charge).Data.Charge
		if accepted != 1 || len(c.Refunds) != 1 || c.Refunds[0].Amount != 4900 || c.Refundable() != 0 {
			t.Errorf("%d accepted: %+v", accepted, c.Refunds)
		}
	}
}

// The same refund, sent at once to two processes under one key, is one refund.
func TestOneRefundSentAtOnce(t *testing.T) {
	x := newHarness(t)
	other, _ := ingest(t, x.server)
	customer := x.customer("user_1")
	x.method(customer, "pm_1")
	charge := decoded[events.Charge](t, x.run("charge.create", payerCommands(customer)["charge.create"], keyed("k"))).ID
	x.append(events.EntityCharge, charge, payment(events.PaymentSucceeded))
	var g sync.WaitGroup
	for i := range 6 {
		h := x.h
		if i%2 == 1 {
			h = other
		}
		g.Go(func() {
			if _, err := h.Execute(t.Context(), "charge.refund", fmt.Appendf(nil, `{"chargeId":%q,"amount":900}`, charge), keyed("r")); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	if c := x.load(events.EntityCharge, charge).Data.Charge; len(c.Refunds) != 1 || c.Refundable() != 4000 {
		t.Errorf("%+v", c.Refunds)
	}
}

// A refund is refused while an inquiry or a dispute is open, and the refusal says which; after a lost one the money is not
// given twice.
func TestRefundOfADisputedCharge(t *testing.T) {
	x := newHarness(t)
	customer := x.customer("user_1")
	x.method(customer, "pm_1")
	charge := decoded[events.Charge](t, x.run("charge.create", payerCommands(customer)["charge.create"], keyed("k"))).ID
	x.append(events.EntityCharge, charge, payment(events.PaymentSucceeded))
	body := fmt.Sprintf(`{"chargeId":%q,"amount":4900}`, charge)
	messages := map[string]bool{}
	for _, status := range []string{"warning_needs_response", "needs_response", "lost"} {
		x.append(events.EntityCharge, charge, func(last *events.Event, c events.Cause) (*events.Event, error) {
			return events.DecideCharge(last, events.DisputeObserved{Report: events.DisputeReport{ID: "dp_1", Amount: 4900, Status: status}}, c)
		})
		x.refused("charge.refund", body, keyed("r"), events.CodeChargeNotRefundable, "chargeId")
		_, err := x.h.Execute(t.Context(), "charge.refund", []byte(body), keyed("r"))
		if refusal, ok := errors.AsType[*events.Error](err); ok {
			messages[refusal.Message] = true
		}
	}
	if len(messages) != 3 {
		t.Errorf("the refusals say %v", messages)
	}
}
