package provider

import (
	"context"
	"errors"
	"slices"

	"github.com/paykit-go/paykit/internal/events"
)

// refundRequested carries out one refund.
func (w *Worker) refundRequested(ctx context.Context, r request) error {
	e, err := w.subject(ctx, r)
	if err != nil {
		return err
	}
	c := e.Event.Data.Charge
	if r.event.Data.Refund == nil {
		return nil
	}
	refund := c.Refund(r.event.Data.Refund.ID)
	if refund == nil || refund.Status != events.RefundRequested {
		return nil // under way or ended; settling has it
	}
	p, err := w.provider(c.ProviderID)
	if err != nil {
		return err
	}
	found := false
	switch {
	case w.old(r):
		found, err = w.refundMadeLongAgo(ctx, r, p, c, refund.ID)
	case len(w.forgotten()) > 0: // the list of one payment's refunds is whole, whenever they were made
		found, err = w.madeRefund(ctx, r, p, c, refund.ID)
	}
	if found || err != nil {
		return err
	}
	// A crash right after leaves the refund made and its outcome unrecorded; the next try's key answers with it, and
	// settling asks for it too.
	report, err := p.CreateRefund(ctx, w.key(refund.ID, "create"), RefundRequest{
		PaymentID: c.ProviderPaymentID, ChargeID: withoutPayment(c), Amount: refund.Amount, Reason: refund.Reason,
		Owner: events.Owner{Env: w.log.Env(), Customer: c.CustomerID, Charge: c.ID, Refund: refund.ID},
	})
	if refused(err) || keyIsSpent(err) || notToBeRepeated(err) {
		// Refused, perhaps because the very refund was made under a key that was forgotten: what is there counts.
		found, lookErr := w.madeRefund(ctx, r, p, c, refund.ID)
		if found || lookErr != nil {
			return lookErr
		}
	}
	if refused(err) && keyIsSpent(err) {
		return lookUpFailed(err) // the key is another call's: it waits until that is forgotten
	}
	if refused(err) {
		w.logRefusal(r, err)
		failure := refundRefusal(err)
		report, err = events.RefundReport{Amount: refund.Amount, Status: events.RefundFailed, Failure: &failure}, nil
	}
	if err != nil {
		// An unanswered call appends nothing: it is repeated with its key, also with a spent one. A call that the provider
		// completes late, and another under another key, would give the money back twice.
		return err
	}
	if err := w.point("refund_created"); err != nil {
		return err
	}
	_, _, err = w.updateCharge(ctx, r, c.ID, events.RefundObserved{RefundID: refund.ID, Report: report})
	return err
}

// refundRefusal says why the provider refused a refund. What it found there has been taken in by then: a refund made in its
// dashboard, say, that leaves less than was asked for.
func refundRefusal(err error) events.Failure {
	why := ""
	if e, ok := errors.AsType[*Error](err); ok {
		why = e.Code
		if why == "" && e.Param == "amount" {
			why = events.RefundTooLarge
		}
	}
	return events.NewRefundFailure(events.FailureProviderRejected, why)
}

// withoutPayment is the provider's charge, for a charge that has no payment.
func withoutPayment(c *events.Charge) string {
	if c.ProviderPaymentID != "" {
		return ""
	}
	return c.ProviderChargeID
}

// madeRefund takes in all refunds that the provider has of a charge and tells whether the given one is among them.
func (w *Worker) madeRefund(ctx context.Context, r request, p *guardedAPI, c *events.Charge, refundID string) (bool, error) {
	ids, err := w.lookAtRefunds(ctx, r, p, c)
	return slices.Contains(ids, refundID), err
}

// lookAtRefunds asks for all refunds of a charge, takes them in and gives their ids. A crash after any of them leaves
// the rest for the next look.
func (w *Worker) lookAtRefunds(ctx context.Context, r request, p *guardedAPI, c *events.Charge) ([]string, error) {
	reports, err := p.RefundsOf(ctx, c.ProviderPaymentID, withoutPayment(c))
	if err != nil {
		return nil, lookUpFailed(err)
	}
	var ids []string
	for _, report := range reports {
		id := events.ReportedRefundID(c.ProviderID, report.ID)
		if o := report.Owner; o.Env == w.log.Env() && o.Refund != "" {
			id = o.Refund
		}
		_, _, err := w.updateCharge(ctx, r, c.ID, events.RefundObserved{RefundID: id, Report: report})
		if errors.Is(err, events.ErrRefundsFull) {
			w.applier.refundNotKept(c.ProviderID, c.ID, r.event.ID)
			continue
		}
		if err != nil {
			return ids, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// refundsRefreshRequested asks for the refunds of a charge whose total is more than what is known.
func (w *Worker) refundsRefreshRequested(ctx context.Context, r request) error {
	e, err := w.subject(ctx, r)
	if err != nil {
		return err
	}
	c := e.Event.Data.Charge
	p, err := w.provider(c.ProviderID)
	if err != nil {
		return err
	}
	_, err = w.lookAtRefunds(ctx, r, p, c)
	return err
}
