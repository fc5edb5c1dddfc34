package provider_test

import (
	"net/url"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
	"github.com/paykit-go/paykit/internal/provider/stripe"
)

// dashboardRefund is one made in the provider's dashboard.
func (w *world) dashboardRefund(payment, amount string) (id string) {
	w.t.Helper()
	var made struct {
		ID string `json:"id"`
	}
	w.post("/v1/refunds", url.Values{"payment_intent": {payment}, "amount": {amount}}, &made)
	return made.ID
}

// fetched lets a worker read the provider's list of deliveries, of which none ever arrives by itself, until a charge
// satisfies ok.
func (w *world) fetched(worker *provider.Worker, chargeID string, ok func(*events.Charge) bool) *events.Charge {
	w.t.Helper()
	w.eventually("the charge's deliveries are fetched", func() bool {
		if err := worker.Backfill(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
		return ok(w.state(events.EntityCharge, chargeID).Data.Charge)
	})
	return w.state(events.EntityCharge, chargeID).Data.Charge
}

func (w *world) normalize() {
	w.t.Helper()
	w.runNormalizer(provider.NewNormalizer(w.log, map[string]provider.Webhooks{stripeID: &stripe.Webhooks{}}, provider.NormalizerConfig{Logger: zerolog.Nop()}))
}

// What was done at the provider meanwhile leaves less, or nothing, to be refunded: our refund fails and says why, and what
// was done there is known.
func TestRefundThatTheProviderRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		meddle   func(w *world, payment string)
		why      string
		refunded int64
	}{
		{"refunded in the dashboard", func(w *world, payment string) { w.dashboardRefund(payment, "4900") }, events.RefundAlreadyRefunded, 4900},
		{"less is left", func(w *world, payment string) { w.dashboardRefund(payment, "4500") }, events.RefundTooLarge, 4500},
		{"disputed", func(w *world, payment string) { w.control("/_sandbox/disputes", `{"payment":"`+payment+`"}`) }, events.RefundChargeDisputed, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.buyer("pm_card_visa")
			w.start()
			c := p.paid()
			tt.meddle(w, c.ProviderPaymentID)
			id := p.refund(c.ID)
			e := w.until(events.EntityCharge, c.ID, refundIs(id, events.RefundFailed))
			c = e.Data.Charge
			want := events.NewRefundFailure(events.FailureProviderRejected, tt.why)
			if diff := cmp.Diff(&want, c.Refund(id).Failure); diff != "" || want.Message == events.NewRefundFailure(events.FailureProviderRejected, "").Message {
				t.Errorf("failure: %s", diff)
			}
			if e.Type != events.ChargeRefundFailed || e.Data.Refund == nil || e.Data.Refund.ID != id {
				t.Errorf("%s about %+v", e.Type, e.Data.Refund)
			}
			if c.AmountRefunded != tt.refunded || c.Refundable() != 4900-tt.refunded || w.payments(c.ID)[0].AmountRefunded != tt.refunded {
				t.Errorf("%d are known as refunded, %d left, want %d refunded", c.AmountRefunded, c.Refundable(), tt.refunded)
			}
		})
	}
}

// Refunds asked for one after the other, before any is carried out, are each made once, with their reasons.
func TestRefundsInFlightTogether(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	stop := w.start()
	c := p.paid()
	stop()
	ids := map[string]string{}
	for _, reason := range []string{"duplicate", "fraudulent", "requested_by_customer", ""} {
		ids[reason] = events.RefundID(c.ID, "key "+reason)
		p.updateCharge(c.ID, events.RefundCharge{RefundID: ids[reason], Amount: 1225, Reason: reason, CommandDigest: events.Digest([]byte("x"))})
	}
	w.start()
	for reason, id := range ids {
		r := w.until(events.EntityCharge, c.ID, refundIs(id, events.RefundSucceeded)).Data.Charge.Refund(id)
		var shown struct {
			Reason string `json:"reason"`
			Amount int64  `json:"amount"`
		}
		w.get("/v1/refunds/"+r.ProviderRefundID, &shown)
		if shown.Reason != reason || shown.Amount != 1225 {
			t.Errorf("refund for %q: %+v at the provider", reason, shown)
		}
	}
	if c := w.state(events.EntityCharge, c.ID).Data.Charge; c.AmountRefunded != 4900 || w.payments(c.ID)[0].AmountRefunded != 4900 {
		t.Errorf("%+v", c)
	}
}

// Two workers that carry out the same refund at once make one.
func TestRefundByTwoWorkersAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	stop := w.start()
	c := p.paid()
	stop()
	id := events.RefundID(c.ID, "one")
	e := w.append(events.EntityCharge, c.ID, p.ref, func(last *events.Event, cause events.Cause) (*events.Event, error) {
		return events.DecideCharge(last, events.RefundCharge{RefundID: id, CommandDigest: events.Digest([]byte("x"))}, cause)
	})
	var g sync.WaitGroup
	for range 4 {
		worker := w.worker()
		g.Go(func() {
			for attempt := 1; attempt < 10; attempt++ { // a key in use is tried again
				worker.CarryOut(t.Context(), w.message(e, attempt))
			}
		})
	}
	g.Wait()
	c = w.state(events.EntityCharge, c.ID).Data.Charge
	if len(c.Refunds) != 1 || c.AmountRefunded != 4900 || w.payments(c.ID)[0].AmountRefunded != 4900 {
		t.Errorf("%+v", c)
	}
	if diff := cmp.Diff([]string{"requested", "processing", "succeeded", "refund_requested", "refunded"}, w.history(events.EntityCharge, c.ID)); diff != "" {
		t.Error("events (-want +got)", diff)
	}
}

// A refund that succeeded and then fails, of which only the provider's list tells.
func TestRefundFailsAfterItSucceeded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_refundFail")
	worker := w.worker()
	w.run(worker)
	c := p.paid()
	id := p.refund(c.ID)
	w.until(events.EntityCharge, c.ID, func(e *events.Event) bool { return e.Data.Charge.AmountRefunded == 1000 })
	w.normalize()
	c = w.fetched(worker, c.ID, func(c *events.Charge) bool { return c.Refund(id).Status == events.RefundFailed })
	if f := c.Refund(id).Failure; f == nil || f.Code != "expired_or_canceled_card" || c.AmountRefunded != 0 || c.Refundable() != 4900 {
		t.Errorf("%+v, refund %+v", c, c.Refund(id))
	}
	if diff := cmp.Diff([]string{"requested", "processing", "succeeded", "refund_requested", "refunded", "refund_failed"}, w.history(events.EntityCharge, c.ID)); diff != "" {
		t.Error("events (-want +got)", diff)
	}
}

// A refund made in the dashboard of which nothing was ever delivered.
func TestDashboardRefundThatWasNeverDelivered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	worker := w.worker()
	w.run(worker)
	c := p.paid()
	made := w.dashboardRefund(c.ProviderPaymentID, "700")
	w.normalize()
	c = w.fetched(worker, c.ID, func(c *events.Charge) bool { return c.AmountRefunded == 700 })
	if len(c.Refunds) != 1 || c.Refunds[0].ProviderRefundID != made || c.Refunds[0].ID != events.ReportedRefundID(stripeID, made) {
		t.Errorf("%+v", c.Refunds)
	}
}

// A refund that waits for the buyer is looked at until it is canceled, and then counts no more.
func TestRefundThatWaitsAndIsCanceled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	w.start()
	c := p.paid()
	made := w.dashboardRefund(c.ProviderPaymentID, "700")
	w.control("/_sandbox/refunds/"+made, `{"status":"requires_action"}`)
	p.updateCharge(c.ID, events.RefundTotalObserved{Total: 700})
	id := events.ReportedRefundID(stripeID, made)
	if c := w.until(events.EntityCharge, c.ID, refundIs(id, events.RefundPending)).Data.Charge; c.Refundable() != 4200 || c.AmountRefunded != 0 {
		t.Errorf("%+v", c)
	}
	w.post("/v1/refunds/"+made+"/cancel", nil, nil)
	e := w.until(events.EntityCharge, c.ID, refundIs(id, events.RefundCanceled))
	if e.Type != events.ChargeRefundFailed || e.Data.Charge.Refundable() != 4900 {
		t.Errorf("%s %+v", e.Type, e.Data.Charge)
	}
}

// An amount of a currency without minor units is the same number at the provider.
func TestRefundOfACurrencyWithoutMinorUnits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	w.start()
	id := events.ChargeID("yen")
	w.append(events.EntityCharge, id, p.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecideCharge(last, events.CreateCharge{
			ID: id, ProviderID: stripeID, PaymentMethodID: p.meth, Amount: 4900, Currency: "jpy", Description: "Pro plan", CommandDigest: events.Digest([]byte("x")),
		}, c)
	})
	w.untilCharge(id, events.ChargeStatusSucceeded)
	c := w.until(events.EntityCharge, id, refundIs(p.refund(id), events.RefundSucceeded)).Data.Charge
	if c.AmountRefunded != 1000 || c.Refundable() != 3900 || w.payments(id)[0].AmountRefunded != 1000 {
		t.Errorf("%+v", c)
	}
}

// A dispute with all that the sandbox's card brings, through the provider's own events: opened, its money taken, won, its
// money back.
func TestDisputeOfATestCard(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		card, evidence, first, last string
		funds                       [2]events.DisputeFunds // at first, and at last
	}{
		{"pm_card_createDispute", "winning_evidence", "needs_response", "won", [2]events.DisputeFunds{events.FundsWithdrawn, events.FundsReinstated}},
		{"pm_card_createDisputeProductNotReceived", "losing_evidence", "needs_response", "lost", [2]events.DisputeFunds{events.FundsWithdrawn, events.FundsWithdrawn}},
		{"pm_card_createDisputeInquiry", "winning_evidence", "warning_needs_response", "warning_closed", [2]events.DisputeFunds{}},
	} {
		t.Run(tt.card, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.buyer(tt.card)
			worker := w.worker()
			w.run(worker)
			c := p.paid()
			w.normalize()
			is := func(status string, funds events.DisputeFunds) func(*events.Charge) bool {
				return func(c *events.Charge) bool {
					return len(c.Disputes) == 1 && c.Disputes[0].Status == status && c.Disputes[0].Funds == funds
				}
			}
			c = w.fetched(worker, c.ID, is(tt.first, tt.funds[0]))
			if !c.DisputeOpen() || c.Status != events.ChargeStatusSucceeded {
				t.Errorf("%+v", c)
			}
			w.post("/v1/disputes/"+c.Disputes[0].ProviderDisputeID, url.Values{"evidence[uncategorized_text]": {tt.evidence}}, nil)
			c = w.fetched(worker, c.ID, is(tt.last, tt.funds[1]))
			left := int64(4900)
			if tt.last == "lost" {
				left = 0
			}
			if c.DisputeOpen() || c.Refundable() != left {
				t.Errorf("%d is left, want %d: %+v", c.Refundable(), left, c)
			}
		})
	}
}

// The issuer's warning, and that nothing is left to be done about it once the charge is refunded.
func TestFraudWarningOfATestCard(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_createIssuerFraudRecord")
	worker := w.worker()
	w.run(worker)
	c := p.paid()
	w.normalize()
	warned := func(actionable bool) func(*events.Charge) bool {
		return func(c *events.Charge) bool {
			return len(c.FraudWarnings) == 1 && c.FraudWarnings[0].Actionable == actionable
		}
	}
	c = w.fetched(worker, c.ID, warned(true))
	if c.FraudWarnings[0].Type != "misc" || c.DisputeOpen() {
		t.Errorf("%+v", c)
	}
	w.dashboardRefund(c.ProviderPaymentID, "4900")
	w.fetched(worker, c.ID, warned(false))
}
