package sandbox_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stripe/stripe-go/v76"
)

// An inquiry becomes a chargeback, which takes the money, and another dispute of the same charge goes on by itself.
func TestControlDisputes(t *testing.T) {
	w := newWorld(t, slowly)
	pi := w.paid("pm_card_visa")
	var first, second stripe.Dispute
	if status := w.control("POST", "/_sandbox/disputes", `{"payment":"`+pi.ID+`","inquiry":true,"amount":500}`, &first); status != 200 {
		t.Fatalf("open: %d", status)
	}
	if first.Status != "warning_needs_response" || first.Amount != 500 || len(first.BalanceTransactions) != 0 || !first.IsChargeRefundable {
		t.Errorf("inquiry: %+v", first)
	}
	if status := w.control("POST", "/_sandbox/disputes/"+first.ID, `{"status":"warning_closed"}`, &first); status != 200 || first.Status != "warning_closed" {
		t.Errorf("closed: %d %+v", status, first)
	}
	if status := w.control("POST", "/_sandbox/disputes/"+first.ID, `{"status":"needs_response"}`, &first); status != 200 || first.IsChargeRefundable || len(first.BalanceTransactions) != 1 || first.BalanceTransactions[0].Amount != -500 {
		t.Errorf("chargeback: %d %+v", status, first)
	}
	w.control("POST", "/_sandbox/disputes", `{"charge":"`+pi.LatestCharge.ID+`","reason":"duplicate"}`, &second)
	w.control("POST", "/_sandbox/disputes/"+first.ID, `{"status":"won"}`, &first)
	if len(first.BalanceTransactions) != 2 || first.BalanceTransactions[1].Amount != 500 || second.Status != "needs_response" || second.Reason != "duplicate" {
		t.Errorf("won %+v, and %+v", first, second)
	}
	// The second one still stands in the way of a refund.
	_, err := w.api.Refunds.New(&stripe.RefundParams{PaymentIntent: &pi.ID, Amount: stripe.Int64(100)})
	wantError(t, err, 400, stripe.ErrorTypeInvalidRequest, "charge_disputed")
	w.control("POST", "/_sandbox/disputes/"+second.ID, `{"status":"won"}`, &second)
	if _, err := w.api.Refunds.New(&stripe.RefundParams{PaymentIntent: &pi.ID, Amount: stripe.Int64(100)}); err != nil {
		t.Errorf("refund of a charge whose disputes were won: %v", err)
	}
	want := []string{
		"charge.dispute.created", "charge.dispute.updated", "charge.dispute.closed", "charge.dispute.updated", "charge.dispute.funds_withdrawn",
		"charge.dispute.created", "charge.dispute.funds_withdrawn",
		"charge.dispute.funds_reinstated", "charge.dispute.updated", "charge.dispute.closed",
		"charge.dispute.funds_reinstated", "charge.dispute.updated", "charge.dispute.closed",
	}
	if diff := cmp.Diff(want, w.eventTypes("charge.dispute.created", "charge.dispute.updated", "charge.dispute.closed", "charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated")); diff != "" {
		t.Error(diff)
	}
	for path, body := range map[string]string{
		"/_sandbox/disputes":              `{"payment":"pi_none"}`,
		"/_sandbox/disputes/dp_none":      `{"status":"won"}`,
		"/_sandbox/disputes/" + second.ID: `{"status":"lost"}`,
		"/_sandbox/disputes/" + first.ID:  `{"status":"gone"}`,
	} {
		if status := w.control("POST", path, body, nil); status < 400 {
			t.Errorf("%s %s: %d", path, body, status)
		}
	}
}

// A warning can be acted on until the charge is disputed or fully refunded, and says so when it no longer can.
func TestFraudWarningsEnd(t *testing.T) {
	w := newWorld(t, slowly)
	refunded, disputed := w.paid("pm_card_createIssuerFraudRecord"), w.paid("pm_card_visa")
	w.advance("2h")
	w.control("POST", "/_sandbox/fraud_warnings", `{"payment":"`+disputed.ID+`"}`, nil)
	actionable := func() (out []bool) {
		for it := w.api.RadarEarlyFraudWarnings.List(&stripe.RadarEarlyFraudWarningListParams{}); it.Next(); {
			out = append(out, it.RadarEarlyFraudWarning().Actionable)
		}
		return out
	}
	if got := actionable(); !slices.Equal(got, []bool{true, true}) {
		t.Fatalf("at first: %v", got)
	}
	if _, err := w.api.Refunds.New(&stripe.RefundParams{PaymentIntent: &refunded.ID, Amount: stripe.Int64(100)}); err != nil {
		t.Fatal(err)
	}
	if got := actionable(); !slices.Equal(got, []bool{true, true}) {
		t.Errorf("partly refunded: %v", got)
	}
	if _, err := w.api.Refunds.New(&stripe.RefundParams{PaymentIntent: &refunded.ID}); err != nil {
		t.Fatal(err)
	}
	w.control("POST", "/_sandbox/disputes", `{"payment":"`+disputed.ID+`"}`, nil)
	if got := actionable(); !slices.Equal(got, []bool{false, false}) {
		t.Errorf("refunded, and disputed: %v", got)
	}
	want := []string{"radar.early_fraud_warning.created", "radar.early_fraud_warning.created", "radar.early_fraud_warning.updated", "radar.early_fraud_warning.updated"}
	if diff := cmp.Diff(want, w.eventTypes("radar.early_fraud_warning.created", "radar.early_fraud_warning.updated")); diff != "" {
		t.Error(diff)
	}
	it := w.api.RadarEarlyFraudWarnings.List(&stripe.RadarEarlyFraudWarningListParams{PaymentIntent: &disputed.ID})
	if !it.Next() || it.RadarEarlyFraudWarning().Charge.ID != disputed.LatestCharge.ID {
		t.Error("it is not listed by its payment")
	}
	if _, err := w.api.RadarEarlyFraudWarnings.Get(it.RadarEarlyFraudWarning().ID, nil); err != nil {
		t.Error(err)
	}
}

// A refund that waits for the buyer can be canceled, one that failed stays so, and the money comes back.
func TestControlRefunds(t *testing.T) {
	w := newWorld(t, slowly)
	pi := w.paid("pm_card_visa")
	refund := func() *stripe.Refund {
		r, err := w.api.Refunds.New(&stripe.RefundParams{PaymentIntent: &pi.ID, Amount: stripe.Int64(1000)})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	waiting, failing := refund(), refund()
	if status := w.control("POST", "/_sandbox/refunds/"+waiting.ID, `{"status":"requires_action"}`, waiting); status != 200 || waiting.Status != "requires_action" {
		t.Fatalf("%d %+v", status, waiting)
	}
	if got, err := w.api.Refunds.Cancel(waiting.ID, nil); err != nil || got.Status != "canceled" {
		t.Errorf("%+v %v", got, err)
	}
	w.control("POST", "/_sandbox/refunds/"+failing.ID, `{"status":"failed","failureReason":"lost_or_stolen_card"}`, failing)
	if failing.Status != "failed" || failing.FailureReason != "lost_or_stolen_card" || w.charge(pi).AmountRefunded != 0 {
		t.Errorf("%+v", failing)
	}
	if status := w.control("POST", "/_sandbox/refunds/"+failing.ID, `{"status":"succeeded"}`, nil); status != 400 {
		t.Errorf("a failed refund succeeded: %d", status)
	}
	if e := w.event("refund.failed"); e.Data.Object["failure_reason"] != "lost_or_stolen_card" {
		t.Errorf("%+v", e.Data.Object)
	}
}
