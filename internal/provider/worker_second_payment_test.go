package provider_test

import (
	"testing"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// A second payment whose refund comes back is counted again among what a person must look at, whoever took the report in.
func TestSecondPaymentIsCountedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	stop := w.start()
	c := p.paid()
	stop()
	p.updateCharge(c.ID, events.RequestReview{Reason: events.ReviewSecondPayment, RelatedChargeID: events.ChargeID("paid first"), Proposal: events.ProposalRefund})
	refund := func(status events.RefundStatus) {
		p.updateCharge(c.ID, events.RefundObserved{
			RefundID: events.ReportedRefundID(stripeID, "re_1"),
			Report:   events.RefundReport{ID: "re_1", Amount: c.Amount, Status: status},
		})
	}
	refund(events.RefundSucceeded)
	w.start()
	w.eventually("nothing is to be looked at", func() bool { return w.toReview() == 0 })
	refund(events.RefundFailed)
	w.eventually("a person must look", func() bool { return w.toReview() == 1 })
}

// A refund that failed and leaves nothing open is not looked at.
func TestRefundThatFailedIsSettled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	stop := w.start()
	c := p.paid()
	stop()
	p.updateCharge(c.ID, events.RefundObserved{
		RefundID: events.ReportedRefundID(stripeID, "re_1"), Report: events.RefundReport{ID: "re_1", Amount: 1, Status: events.RefundFailed},
	})
	w.called()
	failed := w.last(c.ID, events.ChargeStatusSucceeded)
	if got := w.worker().Settle(t.Context(), w.message(failed, 1)); got != eventlog.Done() || len(w.called()) != 0 {
		t.Errorf("%+v", got)
	}
}

// An operator says of a refund that nobody answers that it was not made: it ends, the worker does not make it any more.
func TestRefundResolvedByAnOperator(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	stop := w.start()
	c := p.paid()
	stop()
	id := p.refund(c.ID)
	requested := w.last(c.ID, events.ChargeStatusSucceeded)
	w.fault(`{"operation":"refunds.list","times":100,"kind":"status","status":500}`)
	worker := w.worker()
	w.advance(25 * time.Hour)
	worker.CarryOut(t.Context(), w.message(requested, 2))
	w.called()
	p.updateCharge(c.ID, events.ResolveCharge{RefundID: id, Outcome: events.ChargeStatusFailed, Operator: "anna", Reason: "not in the dashboard"})
	if got := worker.CarryOut(t.Context(), w.message(requested, 3)); got != eventlog.Done() || w.made("/v1/refunds") != 0 {
		t.Errorf("the request goes on: %+v", got)
	}
	now := w.last(c.ID, events.ChargeStatusSucceeded).Event.Data.Charge
	if r := now.Refund(id); r.Status != events.RefundFailed || r.Resolution == nil || now.Review != nil {
		t.Errorf("it is %+v", now)
	}
}
