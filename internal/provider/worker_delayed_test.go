package provider_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/provider"
)

// A page is completed with a delayed method: unpaid at first, with a charge under way; then the money comes, or does not,
// told by deliveries or found by asking, and also if the page was to be closed meanwhile.
func TestDelayedMethod(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		method   string
		checkout events.SessionState
		charge   events.ChargeStatus
		captures int
	}{
		{"delayed_success", events.StateCompleted, events.ChargeStatusSucceeded, 1},
		{"delayed_failure", events.StateFailed, events.ChargeStatusFailed, 0},
	} {
		for _, how := range []string{"delivered", "asked", "asked, to be expired"} {
			t.Run(tt.method+" "+how, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				p := w.person()
				worker := w.worker()
				w.run(worker)
				w.listen()
				c := w.until(events.EntityCheckout, p.checkout().Event.Subject, checkoutIs(events.StateCreated)).Data.Checkout
				w.control("/_sandbox/checkout/"+c.ProviderSessionID+"/complete", `{"method":"`+tt.method+`"}`)
				id := events.CheckoutChargeID(c.ID)
				if how == "delivered" {
					w.hear(worker)
				}
				w.untilCharge(id, events.ChargeStatusProcessing)
				if how == "asked, to be expired" {
					w.append(events.EntityCheckout, c.ID, p.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
						return events.DecideCheckout(last, events.ExpireCheckout{}, c)
					})
				}
				if s := w.state(events.EntityCheckout, c.ID).Data.Checkout.Status; s != events.StateCreated {
					t.Errorf("the checkout is %s while the money is under way", s)
				}
				w.control("/_sandbox/clock/advance", `{"by":"2h"}`)
				if how == "delivered" {
					w.hear(worker)
				}
				w.until(events.EntityCheckout, c.ID, checkoutIs(tt.checkout))
				charge := w.untilCharge(id, tt.charge)
				if tt.captures == 0 && (charge.Failure == nil || charge.Failure.Code != "payment_method_customer_decline") {
					t.Errorf("its failure is %+v", charge.Failure)
				}
				list := w.payments(id)
				if len(list) != 1 || list[0].Captures != tt.captures {
					t.Errorf("ledger %+v", list)
				}
				if diff := cmp.Diff([]string{"processing", string(tt.charge)}, w.history(events.EntityCharge, id)); diff != "" {
					t.Error("charge (-want +got)", diff)
				}
			})
		}
	}
}

// Two pages of one checkout are paid: the second payment is a charge of its own, flagged with a refund proposed; the flag
// goes when the money was given back. A crash before the flag leaves the report, which comes again.
func TestSecondPaidPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	worker := w.worker()
	w.run(worker)
	w.listen()
	c := w.until(events.EntityCheckout, p.checkout().Event.Subject, checkoutIs(events.StateCreated)).Data.Checkout
	page, err := w.api.CreateSession(t.Context(), "second page", provider.SessionRequest{
		CustomerID: p.cus, Owner: events.Owner{Env: w.log.Env(), Customer: p.ref.ID, Checkout: c.ID, Charge: events.CheckoutChargeID(c.ID)},
		Amount: 4900, Currency: "usd", Description: "Pro plan", SuccessURL: "https://example.com/ok",
	})
	if err != nil {
		t.Fatal(err)
	}
	w.control("/_sandbox/checkout/"+c.ProviderSessionID+"/complete", `{"card":"4242424242424242"}`)
	first := w.untilCharge(events.CheckoutChargeID(c.ID), events.ChargeStatusSucceeded)
	w.control("/_sandbox/checkout/"+page.ID+"/complete", `{"card":"4242424242424242"}`)
	var session struct {
		Payment string `json:"payment_intent"`
	}
	w.get("/v1/checkout/sessions/"+page.ID, &session)
	w.hear(worker)
	id := events.ReportedChargeID(stripeID, session.Payment, "")
	second := w.until(events.EntityCharge, id, func(e *events.Event) bool { return e.Data.Charge.Review != nil }).Data.Charge
	if r := second.Review; r.Reason != events.ReviewSecondPayment || r.RelatedChargeID != first.ID || r.Proposal != events.ProposalRefund || r.RequestedAt.IsZero() {
		t.Errorf("review %+v", r)
	}
	if second.CustomerID != p.ref.ID || second.Amount != 4900 || !second.ReportedByProvider || second.Status != events.ChargeStatusSucceeded {
		t.Errorf("the second charge is %+v", second)
	}
	if diff := cmp.Diff([]string{"succeeded", "review_requested"}, w.history(events.EntityCharge, id)); diff != "" {
		t.Error("charge (-want +got)", diff)
	}
	if w.state(events.EntityCharge, first.ID).Data.Charge.Review != nil {
		t.Error("the first charge is flagged")
	}
	p.updateCharge(id, events.RefundCharge{RefundID: events.RefundID(id, "back"), CommandDigest: events.Digest([]byte("x"))})
	w.until(events.EntityCharge, id, func(e *events.Event) bool { return e.Type == events.ChargeRefunded && e.Data.Charge.Review == nil })
}

// A crash between the second charge and its flag: the report comes again and brings the flag, and then nothing more. An
// operator keeps it, and the report comes once more.
func TestSecondPaymentIsFlaggedAfterACrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	w.start()
	first := w.untilCharge(p.charge("").Event.Subject, events.ChargeStatusSucceeded)
	second := events.Payment{
		Owner: events.Owner{Env: w.log.Env(), Customer: p.ref.ID, Charge: first.ID}, ID: "pi_second", ChargeID: "ch_second",
		ProviderCustomerID: p.cus, Status: events.PaymentSucceeded, Amount: 4900, Currency: "usd",
	}
	id := events.ReportedChargeID(stripeID, second.ID, "")
	p.updateCharge(id, events.PaymentObserved{ID: id, ProviderID: stripeID, Payment: second})
	applier := provider.NewApplier(w.log, provider.ApplierConfig{Source: provider.SourceIngest, Now: w.now})
	for _, want := range []provider.Outcome{provider.OutcomeChanged, provider.OutcomeUnchanged} {
		got, err := applier.Observe(t.Context(), stripeID, provider.PaymentSeen{Payment: second}, "evt_1")
		if err != nil || got.Outcome != want {
			t.Errorf("%s, %v; want %s", got.Outcome, err, want)
		}
	}
	flagged := w.last(id, events.ChargeStatusSucceeded)
	worker := w.worker()
	if got := worker.Settle(t.Context(), w.message(flagged, 2)); got == eventlog.Done() {
		t.Error("nobody waits for the decision")
	}
	p.updateCharge(id, events.ResolveCharge{Outcome: events.ChargeStatusSucceeded, Operator: "anna", Reason: "they bought two"})
	if got, err := applier.Observe(t.Context(), stripeID, provider.PaymentSeen{Payment: second}, "evt_1"); err != nil || got.Outcome != provider.OutcomeUnchanged {
		t.Errorf("%s, %v", got.Outcome, err)
	}
	for _, e := range []eventlog.Entry{flagged, w.last(id, events.ChargeStatusSucceeded)} {
		if got := worker.Settle(t.Context(), w.message(e, 2)); got != eventlog.Done() {
			t.Errorf("%s: it is still looked at: %+v", e.Event.Type, got)
		}
	}
	if diff := cmp.Diff([]string{"succeeded", "review_requested", "updated"}, w.history(events.EntityCharge, id)); diff != "" {
		t.Error("charge (-want +got)", diff)
	}
}

// Closing a page twice is closing it once, and closing one that is paid changes nothing.
func TestExpireTwiceAndAfterPayment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.person()
	w.start()
	expire := func(id string) (eventlog.Entry, bool) {
		e, appended, err := w.log.Update(t.Context(), events.EntityCheckout, id, func(last *events.Event) (*events.Event, error) {
			return events.DecideCheckout(last, events.ExpireCheckout{}, events.Cause{Now: w.now(), Source: provider.SourceIngest, Customer: p.ref})
		})
		if err != nil {
			t.Fatal(err)
		}
		return e, appended
	}
	c := w.until(events.EntityCheckout, p.checkout().Event.Subject, checkoutIs(events.StateCreated)).Data.Checkout
	expire(c.ID)
	w.until(events.EntityCheckout, c.ID, checkoutIs(events.StateExpired))
	if e, appended := expire(c.ID); appended {
		t.Errorf("%s after the end", e.Event.Type)
	}
	paid := w.until(events.EntityCheckout, p.checkout().Event.Subject, checkoutIs(events.StateCreated)).Data.Checkout
	w.control("/_sandbox/checkout/"+paid.ProviderSessionID+"/complete", `{"card":"4242424242424242"}`)
	w.until(events.EntityCheckout, paid.ID, checkoutIs(events.StateCompleted))
	if e, appended := expire(paid.ID); appended {
		t.Errorf("%s after the payment", e.Event.Type)
	}
	status, body, err := w.send(http.MethodPost, "/_sandbox/checkout/"+c.ProviderSessionID+"/complete", "application/json", strings.NewReader(`{"card":"4242424242424242"}`))
	if err != nil || status == http.StatusOK {
		t.Errorf("the closed page was paid: %d %s %v", status, body, err)
	}
}
