package sandbox_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stripe/stripe-go/v76"

	"github.com/paykit-go/paykit/internal/provider/stripe/sandbox"
)

// paid makes a succeeded payment with a test card.
func (w *world) paid(card string) *stripe.PaymentIntent {
	w.t.Helper()
	pi, err := w.confirmOffSession(w.payment("", card).ID)
	if err != nil || pi.Status != "succeeded" {
		w.t.Fatalf("%+v %v", pi, err)
	}
	return pi
}

func (w *world) charge(pi *stripe.PaymentIntent) *stripe.Charge {
	w.t.Helper()
	ch, err := w.api.Charges.Get(pi.LatestCharge.ID, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return ch
}

// slowly keeps what settles by itself from doing so until the clock is advanced.
func slowly(c *sandbox.Config) { c.SettleAfter = time.Hour }

func TestRefunds(t *testing.T) {
	w := newWorld(t)
	pi := w.paid("pm_card_visa")
	part, err := w.api.Refunds.New(&stripe.RefundParams{
		PaymentIntent: &pi.ID, Amount: stripe.Int64(1000), Reason: new("requested_by_customer"), Metadata: map[string]string{"a": "b"},
	})
	if err != nil || part.Status != "succeeded" || part.Amount != 1000 || part.Charge.ID != pi.LatestCharge.ID || part.PaymentIntent.ID != pi.ID {
		t.Fatalf("%+v %v", part, err)
	}
	if ch := w.charge(pi); ch.AmountRefunded != 1000 || ch.Refunded {
		t.Errorf("%+v", ch)
	}
	_, err = w.api.Refunds.New(&stripe.RefundParams{PaymentIntent: &pi.ID, Amount: stripe.Int64(4000)})
	if se := stripeError(t, err, 400, stripe.ErrorTypeInvalidRequest, ""); se.Param != "amount" || !strings.Contains(se.Msg, "($40.00) is greater than unrefunded amount on charge ($39.00)") {
		t.Errorf("%+v", se)
	}
	rest, err := w.api.Refunds.New(&stripe.RefundParams{Charge: &pi.LatestCharge.ID})
	if err != nil || rest.Amount != 3900 {
		t.Fatalf("%+v %v", rest, err)
	}
	_, err = w.api.Refunds.New(&stripe.RefundParams{PaymentIntent: &pi.ID})
	wantError(t, err, 400, stripe.ErrorTypeInvalidRequest, "charge_already_refunded")
	if ch := w.charge(pi); ch.AmountRefunded != 4900 || !ch.Refunded {
		t.Errorf("%+v", ch)
	}
	it := w.api.Refunds.List(&stripe.RefundListParams{PaymentIntent: &pi.ID})
	var ids []string
	for it.Next() {
		ids = append(ids, it.Refund().ID)
	}
	if !slices.Equal(ids, []string{rest.ID, part.ID}) {
		t.Errorf("%v", ids)
	}
	up, err := w.api.Refunds.Update(part.ID, &stripe.RefundParams{Metadata: map[string]string{"c": "d"}})
	if err != nil || up.Metadata["a"] != "b" || up.Metadata["c"] != "d" {
		t.Errorf("%+v %v", up, err)
	}
	if got := w.ledger()[0].AmountRefunded; got != 4900 {
		t.Errorf("ledger: %d", got)
	}
	events := w.events()
	i := slices.IndexFunc(events, func(e *stripe.Event) bool { return e.Type == "charge.refunded" })
	if i < 0 || events[i].Data.Object["amount_refunded"] != float64(1000) || events[i].Data.PreviousAttributes["amount_refunded"] != float64(0) {
		t.Errorf("charge.refunded: %+v", events)
	}
	want := []string{"charge.refunded", "refund.created", "charge.refunded", "refund.created", "refund.updated", "charge.refund.updated"}
	if diff := cmp.Diff(want, w.eventTypes(want...)); diff != "" {
		t.Error(diff)
	}
	unpaid := w.payment("", "pm_card_visa")
	_, err = w.api.Refunds.New(&stripe.RefundParams{PaymentIntent: &unpaid.ID})
	wantError(t, err, 400, stripe.ErrorTypeInvalidRequest, "")
	_, err = w.api.Refunds.New(&stripe.RefundParams{})
	wantError(t, err, 400, stripe.ErrorTypeInvalidRequest, "parameter_missing")
}

func TestRefunds_second_answers(t *testing.T) {
	w := newWorld(t, slowly)
	refund := func(pi *stripe.PaymentIntent) *stripe.Refund {
		r, err := w.api.Refunds.New(&stripe.RefundParams{PaymentIntent: &pi.ID})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	slow, failing, canceled := w.paid("pm_card_pendingRefund"), w.paid("pm_card_refundFail"), w.paid("pm_card_pendingRefund")
	a, b, c := refund(slow), refund(failing), refund(canceled)
	if a.Status != "pending" || b.Status != "succeeded" || c.Status != "pending" {
		t.Errorf("at first: %s, %s, %s", a.Status, b.Status, c.Status)
	}
	if _, err := w.api.Refunds.Cancel(c.ID, nil); err != nil {
		t.Error(err)
	}
	_, err := w.api.Refunds.Cancel(b.ID, nil)
	wantError(t, err, 400, stripe.ErrorTypeInvalidRequest, "")
	w.advance("2h")
	state := func(r *stripe.Refund) string {
		got, err := w.api.Refunds.Get(r.ID, nil)
		if err != nil {
			t.Fatal(err)
		}
		return string(got.Status) + " " + string(got.FailureReason)
	}
	if got := []string{state(a), state(b), state(c)}; !slices.Equal(got, []string{"succeeded ", "failed expired_or_canceled_card", "canceled "}) {
		t.Errorf("later: %q", got)
	}
	for _, row := range []struct {
		pi   *stripe.PaymentIntent
		want int64
	}{{slow, 4900}, {failing, 0}, {canceled, 0}} {
		if got := w.charge(row.pi).AmountRefunded; got != row.want {
			t.Errorf("charge says %d refunded, want %d", got, row.want)
		}
	}
	if got := w.eventTypes("refund.failed", "refund.updated"); !slices.Equal(got, []string{"refund.updated", "refund.updated", "refund.updated", "refund.failed"}) {
		t.Errorf("%v", got)
	}
	if e := w.event("refund.failed"); e.Data.Object["id"] != b.ID || e.Data.PreviousAttributes["status"] != "succeeded" || e.Request.ID != "" {
		t.Errorf("%+v", e.Data)
	}
}

func (w *world) dispute(pi *stripe.PaymentIntent) *stripe.Dispute {
	w.t.Helper()
	var found *stripe.Dispute
	w.until("a dispute", func() bool {
		it := w.api.Disputes.List(&stripe.DisputeListParams{PaymentIntent: &pi.ID})
		if it.Next() {
			found = it.Dispute()
		}
		return found != nil
	})
	return found
}

func TestDisputes(t *testing.T) {
	rows := []struct {
		card, evidence string
		close          bool
		reason, first  string
		last           string
	}{
		{"pm_card_createDispute", "winning_evidence", false, "fraudulent", "needs_response", "won"},
		{"pm_card_createDispute", "losing_evidence", false, "fraudulent", "needs_response", "lost"},
		{"pm_card_createDisputeProductNotReceived", "", true, "product_not_received", "needs_response", "lost"},
		{"pm_card_createDisputeInquiry", "", true, "fraudulent", "warning_needs_response", "warning_closed"},
		{"pm_card_createDisputeInquiry", "winning_evidence", false, "fraudulent", "warning_needs_response", "warning_closed"},
	}
	for _, row := range rows {
		t.Run(row.card+" "+row.last, func(t *testing.T) {
			w := newWorld(t)
			pi := w.paid(row.card)
			d := w.dispute(pi)
			if string(d.Reason) != row.reason || string(d.Status) != row.first || d.Amount != 4900 || d.Charge.ID != pi.LatestCharge.ID {
				t.Fatalf("%+v", d)
			}
			if !w.charge(pi).Disputed {
				t.Error("the charge is not disputed")
			}
			_, err := w.api.Refunds.New(&stripe.RefundParams{PaymentIntent: &pi.ID, Amount: stripe.Int64(100)})
			if warning := strings.HasPrefix(row.first, "warning"); warning != (err == nil) {
				t.Errorf("refund: %v", err)
			} else if !warning {
				wantError(t, err, 400, stripe.ErrorTypeInvalidRequest, "charge_disputed")
			}
			if row.close {
				if _, err := w.api.Disputes.Close(d.ID, nil); err != nil {
					t.Fatal(err)
				}
			} else if _, err := w.api.Disputes.Update(d.ID, &stripe.DisputeParams{Evidence: &stripe.DisputeEvidenceParams{UncategorizedText: &row.evidence}}); err != nil {
				t.Fatal(err)
			}
			w.until("the verdict", func() bool {
				got, err := w.api.Disputes.Get(d.ID, nil)
				return err == nil && string(got.Status) == row.last
			})
			if e := w.event("charge.dispute.closed"); e.Data.Object["status"] != row.last {
				t.Errorf("closed: %v", e.Data.Object["status"])
			}
			withdrawn := len(w.eventTypes("charge.dispute.funds_withdrawn"))
			if row.first == "needs_response" && withdrawn != 1 || row.first != "needs_response" && withdrawn != 0 {
				t.Errorf("%d times funds_withdrawn", withdrawn)
			}
			if n := len(w.eventTypes("charge.dispute.funds_reinstated")); (row.last == "won") != (n == 1) {
				t.Errorf("%d times funds_reinstated", n)
			}
			_, err = w.api.Disputes.Close(d.ID, nil)
			wantError(t, err, 400, stripe.ErrorTypeInvalidRequest, "")
		})
	}
}

func TestFraudWarning(t *testing.T) {
	w := newWorld(t)
	pi := w.paid("pm_card_createIssuerFraudRecord")
	w.until("a warning", func() bool { return len(w.eventTypes("radar.early_fraud_warning.created")) == 1 })
	if e := w.event("radar.early_fraud_warning.created"); e.Data.Object["charge"] != pi.LatestCharge.ID {
		t.Errorf("%+v", e.Data.Object)
	}
}

func TestCharges(t *testing.T) {
	w := newWorld(t)
	cus := w.customer().ID
	bad := w.payment(cus, w.saved(cus, "pm_card_chargeCustomerFail").ID)
	if _, err := w.confirmOffSession(bad.ID); err == nil {
		t.Fatal("not declined")
	}
	pi, err := w.api.PaymentIntents.Confirm(bad.ID, &stripe.PaymentIntentConfirmParams{PaymentMethod: new("pm_card_visa")})
	if err != nil {
		t.Fatal(err)
	}
	list := func(p *stripe.ChargeListParams) (statuses []string) {
		for it := w.api.Charges.List(p); it.Next(); {
			statuses = append(statuses, string(it.Charge().Status))
		}
		return statuses
	}
	if got := list(&stripe.ChargeListParams{PaymentIntent: &pi.ID}); !slices.Equal(got, []string{"succeeded", "failed"}) {
		t.Errorf("of the payment: %v", got)
	}
	if got := list(&stripe.ChargeListParams{Customer: new("cus_none")}); got != nil {
		t.Errorf("of nobody: %v", got)
	}
	up, err := w.api.Charges.Update(pi.LatestCharge.ID, &stripe.ChargeParams{Description: new("new"), Metadata: map[string]string{"x": "y"}})
	if err != nil || up.Description != "new" || up.Metadata["x"] != "y" || up.Metadata["order"] != "42" {
		t.Errorf("%+v %v", up, err)
	}
	if prev := w.event("charge.updated").Data.PreviousAttributes; !cmp.Equal(prev, map[string]any{"description": "Pro plan", "metadata": map[string]any{"x": nil}}) {
		t.Errorf("previous: %v", prev)
	}
}
