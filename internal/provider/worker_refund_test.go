package provider_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/paykit-go/paykit/internal/events"
)

// paid makes a charge that succeeded.
func (p *person) paid() *events.Charge {
	p.w.t.Helper()
	return p.w.untilCharge(p.charge("").Event.Subject, events.ChargeStatusSucceeded)
}

// refund asks for a refund of 1000.
func (p *person) refund(chargeID string) string {
	p.w.t.Helper()
	id := events.RefundID(chargeID, "one")
	p.updateCharge(chargeID, events.RefundCharge{RefundID: id, Amount: 1000, Reason: "requested_by_customer", CommandDigest: events.Digest([]byte("x"))})
	return id
}

func refundIs(id string, status events.RefundStatus) func(*events.Event) bool {
	return func(e *events.Event) bool {
		r := e.Data.Charge.Refund(id)
		return r != nil && r.Status == status
	}
}

func TestRefunds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, card, fault string
		want              events.RefundStatus
		refunded          int64 // at the provider
	}{
		{"at once", "pm_card_visa", "", events.RefundSucceeded, 1000},
		{"pending first", "pm_card_pendingRefund", "", events.RefundSucceeded, 1000},
		{"429", "pm_card_visa", `{"operation":"refunds.create","times":2,"kind":"status","status":429}`, events.RefundSucceeded, 1000},
		{"unanswered, made", "pm_card_visa", `{"operation":"refunds.create","times":2,"kind":"drop","when":"after"}`, events.RefundSucceeded, 1000},
		{"unanswered, not made", "pm_card_visa", `{"operation":"refunds.create","times":2,"kind":"drop"}`, events.RefundSucceeded, 1000},
		{"500 for ever, made", "pm_card_visa", `{"operation":"refunds.create","kind":"status","status":500,"when":"after"}`, events.RefundSucceeded, 1000},
		{"refused", "pm_card_visa", `{"operation":"refunds.create","kind":"status","status":400}`, events.RefundFailed, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.buyer(tt.card)
			w.start()
			c := p.paid()
			if tt.fault != "" {
				w.fault(tt.fault)
			}
			id := p.refund(c.ID)
			c = w.until(events.EntityCharge, c.ID, refundIs(id, tt.want)).Data.Charge
			if tt.want == events.RefundSucceeded && (c.AmountRefunded != 1000 || c.Refund(id).ProviderRefundID == "") {
				t.Errorf("the charge is %+v", c)
			}
			if got := w.payments(c.ID)[0].AmountRefunded; got != tt.refunded {
				t.Errorf("%d refunded at the provider, want %d", got, tt.refunded)
			}
		})
	}
}

func TestRefundSurvivesKillsAndForgottenKeys(t *testing.T) {
	t.Parallel()
	for _, age := range []time.Duration{0, 30 * time.Hour} {
		t.Run(age.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.buyer("pm_card_visa")
			stop := w.start()
			c := p.paid()
			stop()
			id := p.refund(c.ID)
			w.runUntil("refund_created")
			w.control("/_sandbox/clock/advance", `{"by":"`+age.String()+`"}`)
			w.advance(age)
			w.start()
			w.until(events.EntityCharge, c.ID, refundIs(id, events.RefundSucceeded))
			if got := w.payments(c.ID)[0].AmountRefunded; got != 1000 {
				t.Errorf("%d refunded at the provider", got)
			}
			if diff := cmp.Diff([]string{"requested", "processing", "succeeded", "refund_requested", "refunded"}, w.history(events.EntityCharge, c.ID)); diff != "" {
				t.Error("events (-want +got)", diff)
			}
		})
	}
}

// A refund made in the provider's dashboard, of which only the total was delivered.
func TestRefundsAreRefreshed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	w.start()
	c := p.paid()
	var made struct {
		ID string `json:"id"`
	}
	w.post("/v1/refunds", url.Values{"payment_intent": {c.ProviderPaymentID}, "amount": {"700"}}, &made)
	p.updateCharge(c.ID, events.RefundTotalObserved{Total: 700})
	id := events.ReportedRefundID(stripeID, made.ID)
	c = w.until(events.EntityCharge, c.ID, refundIs(id, events.RefundSucceeded)).Data.Charge
	if c.AmountRefunded != 700 || c.Refund(id).ProviderRefundID != made.ID {
		t.Errorf("the charge is %+v", c)
	}
}
