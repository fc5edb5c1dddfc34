package commands

import (
	"fmt"
	"strings"
	"testing"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// TestChargeResolve: an operator ends what stays in doubt, once, and names no payment that is another charge's.
func TestChargeResolve(t *testing.T) {
	x := newHarness(t)
	customer := x.customer("user_1")
	x.method(customer, "pm_1")
	doubtful := func(key, paymentID string) string {
		t.Helper()
		id := decoded[events.Charge](t, x.run("charge.create", payerCommands(customer)["charge.create"], keyed(key))).ID
		x.append(events.EntityCharge, id, func(last *events.Event, c events.Cause) (*events.Event, error) {
			p := events.Payment{ID: paymentID, Status: events.PaymentRequiresConfirmation}
			return events.DecideCharge(last, events.PaymentObserved{ID: last.Subject, ProviderID: stripe, Payment: p}, c)
		})
		return id
	}
	confirmed := func(id string) string {
		t.Helper()
		x.append(events.EntityCharge, id, func(last *events.Event, c events.Cause) (*events.Event, error) {
			return events.DecideCharge(last, events.ConfirmUnanswered{}, c)
		})
		return id
	}
	body := func(id, outcome, more string) string {
		return fmt.Sprintf(`{"chargeId":%q,"outcome":%q,"operator":"anna","reason":"not in the dashboard"%s}`, id, outcome, more)
	}
	x.refused("charge.resolve", body("nope", "failed", ""), Meta{}, events.CodeChargeNotFound, "chargeId")
	first := doubtful("a", "pi_a")
	x.refused("charge.resolve", body(first, "failed", ""), Meta{}, events.CodeChargeNotResolvable, "chargeId")
	confirmed(first)
	x.refused("charge.resolve", body(first, "requires_action", ""), Meta{}, events.CodeInvalidRequest, "outcome")
	x.refused("charge.resolve", body(first, "failed", `,"providerPaymentId":"pi_else"`), Meta{}, events.CodeChargeNotResolvable, "providerPaymentId")
	got := decoded[events.Charge](t, x.run("charge.resolve", body(first, "failed", ""), Meta{}))
	if got.Status != events.ChargeStatusFailed || got.Resolution == nil || got.Resolution.Operator != "anna" || got.Resolution.Reason == "" {
		t.Errorf("resolved as %+v", got)
	}
	before := x.last()
	x.refused("charge.resolve", body(first, "succeeded", ""), Meta{}, events.CodeChargeNotResolvable, "chargeId")
	if again := decoded[events.Charge](t, x.run("charge.resolve", body(first, "failed", ""), Meta{})); again.Status != events.ChargeStatusFailed || x.last() != before {
		t.Errorf("the same decision, sent again: %+v", again)
	}
	second := confirmed(doubtful("b", "pi_b"))
	if err := x.log.PutLink(t.Context(), stripe, "pi_a", eventlog.Link{Entity: events.EntityCharge, ID: first, CustomerID: customer}); err != nil {
		t.Fatal(err)
	}
	x.refused("charge.resolve", body(second, "succeeded", `,"providerPaymentId":"pi_a"`), Meta{}, events.CodeChargeNotResolvable, "providerPaymentId")
	x.refused("charge.resolve", body(second, "succeeded", `,"providerPaymentId":"pi a"`), Meta{}, events.CodeInvalidRequest, "providerPaymentId")
	x.refused("charge.resolve", strings.Replace(body(second, "succeeded", ""), "anna", "anna@example.com", 1), Meta{}, events.CodePersonalData, "operator")
	got = decoded[events.Charge](t, x.run("charge.resolve", body(second, "succeeded", `,"providerPaymentId":"pi_c"`), Meta{}))
	if got.Status != events.ChargeStatusSucceeded || got.ProviderPaymentID != "pi_c" {
		t.Errorf("resolved as %+v", got)
	}
	if k, err := x.log.Link(t.Context(), stripe, "pi_c"); err != nil || k.ID != second {
		t.Errorf("the payment leads to %+v, %v", k, err)
	}
}

// TestChargeResolveRefund: an operator says of a refund that stayed unanswered that it was not made.
func TestChargeResolveRefund(t *testing.T) {
	x := newHarness(t)
	customer := x.customer("user_1")
	x.method(customer, "pm_1")
	id := decoded[events.Charge](t, x.run("charge.create", payerCommands(customer)["charge.create"], keyed("a"))).ID
	given := func(in events.ChargeInput) {
		t.Helper()
		x.append(events.EntityCharge, id, func(last *events.Event, c events.Cause) (*events.Event, error) {
			return events.DecideCharge(last, in, c)
		})
	}
	paid := events.Payment{ID: "pi_a", ChargeID: "ch_a", Status: events.PaymentSucceeded, Amount: 4900, Currency: "usd"}
	given(events.PaymentObserved{ID: id, ProviderID: stripe, Payment: paid})
	refund := decoded[events.Charge](t, x.run("charge.refund", fmt.Sprintf(`{"chargeId":%q,"amount":900}`, id), keyed("r"))).Refunds[0].ID
	body := func(outcome string) string {
		return fmt.Sprintf(`{"chargeId":%q,"refundId":%q,"outcome":%q,"operator":"anna","reason":"not in the dashboard"}`, id, refund, outcome)
	}
	x.refused("charge.resolve", body("failed"), Meta{}, events.CodeChargeNotResolvable, "refundId")
	given(events.RequestReview{Reason: events.ReviewInDoubt})
	x.refused("charge.resolve", body("succeeded"), Meta{}, events.CodeInvalidRequest, "outcome")
	got := decoded[events.Charge](t, x.run("charge.resolve", body("failed"), Meta{}))
	if r := got.Refunds[0]; r.Status != events.RefundFailed || r.Resolution == nil || r.Resolution.Operator != "anna" || got.Review != nil {
		t.Errorf("resolved as %+v", got)
	}
	before := x.last()
	if again := decoded[events.Charge](t, x.run("charge.resolve", body("failed"), Meta{})); len(again.Refunds) != 1 || x.last() != before {
		t.Errorf("the same decision, sent again: %+v", again)
	}
}

// TestChargeResolveSecondPayment: an operator says that a second payment stays, once.
func TestChargeResolveSecondPayment(t *testing.T) {
	x := newHarness(t)
	customer := x.customer("user_1")
	x.method(customer, "pm_1")
	id := decoded[events.Charge](t, x.run("charge.create", payerCommands(customer)["charge.create"], keyed("a"))).ID
	for _, in := range []events.ChargeInput{
		events.PaymentObserved{ID: id, ProviderID: stripe, Payment: events.Payment{ID: "pi_a", Status: events.PaymentSucceeded}},
		events.RequestReview{Reason: events.ReviewSecondPayment, RelatedChargeID: events.ChargeID("paid first"), Proposal: events.ProposalRefund},
	} {
		x.append(events.EntityCharge, id, func(last *events.Event, c events.Cause) (*events.Event, error) {
			return events.DecideCharge(last, in, c)
		})
	}
	body := func(outcome, more string) string {
		return fmt.Sprintf(`{"chargeId":%q,"outcome":%q,"operator":"anna","reason":"they bought two"%s}`, id, outcome, more)
	}
	x.refused("charge.resolve", body("failed", ""), Meta{}, events.CodeChargeNotResolvable, "chargeId") // the money was taken
	x.refused("charge.resolve", body("succeeded", `,"providerPaymentId":"pi_b"`), Meta{}, events.CodeChargeNotResolvable, "providerPaymentId")
	before := x.last()
	for range 2 {
		got := decoded[events.Charge](t, x.run("charge.resolve", body("succeeded", ""), Meta{}))
		if got.Status != events.ChargeStatusSucceeded || got.Review != nil || got.Resolution == nil || got.Resolution.Operator != "anna" || x.last() != before+1 {
			t.Errorf("kept: %+v", got)
		}
	}
}
