package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
)

// refunds compares the provider's refunds with those of the charges, both ways.
func (r *run) refunds(ctx context.Context) error {
	err := r.there.ListRefunds(ctx, r.Since, func(one events.RefundReport) error { return r.refund(ctx, one) })
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	for _, c := range r.recent() {
		var there []events.RefundReport
		asked := false
		for _, known := range c.Refunds {
			if known.ProviderRefundID == "" || r.seen[known.ProviderRefundID] {
				continue
			}
			if !asked {
				if there, err = r.there.RefundsOf(ctx, c.ProviderPaymentID, c.ProviderChargeID); err != nil && !notFound(err) {
					return err //nolint:wrapcheck // says what it was
				}
				asked = true
			}
			if err := r.unlistedRefund(ctx, c, known, there); err != nil {
				return err
			}
		}
	}
	return nil
}

// recent are the succeeded charges that changed since Since.
func (r *run) recent() []events.Charge {
	var list []events.Charge
	for _, e := range r.state.last {
		if c := e.Event.Data.Charge; c != nil && c.Status == events.ChargeStatusSucceeded && !c.UpdatedAt.Before(r.Since) {
			list = append(list, *c)
		}
	}
	return list
}

func (r *run) unlistedRefund(ctx context.Context, c events.Charge, known events.Refund, there []events.RefundReport) error {
	for _, one := range there {
		if one.ID == known.ProviderRefundID {
			return r.refund(ctx, one)
		}
	}
	return r.found(ctx, Difference{
		Kind: KindRefund, Cause: MissingThere, Message: "the log has a refund that the provider does not know",
		ProviderObjectID: known.ProviderRefundID, EntityID: c.ID, CustomerID: c.CustomerID,
		Here:     string(known.Status) + " " + amount(known.Amount, c.Currency),
		Proposal: proposeOtherAccount,
	})
}

// refund compares one refund.
func (r *run) refund(ctx context.Context, one events.RefundReport) error {
	r.seen[one.ID] = true
	if p := r.listed[one.ProviderPaymentID]; p != nil && one.Status != events.RefundFailed && one.Status != events.RefundCanceled {
		p.Refunded += one.Amount
	}
	c := r.state.chargeOf(one.ProviderPaymentID, one.ProviderChargeID)
	customer, unpaid := r.unpaid[one.ProviderPaymentID]
	if r.foreign(one.Owner) || c == nil && !unpaid {
		return nil
	}
	r.report.Compared.Refunds++
	if one.Status == events.RefundSucceeded && summed(c, one.ProviderPaymentID) {
		r.add(one.Currency, "refunded", false, one.Amount)
	}
	if c == nil {
		return r.found(ctx, Difference{
			Kind: KindRefund, Cause: MissingHere, Message: "a payment that is not in the log was refunded", ProviderObjectID: one.ID,
			CustomerID: customer, There: string(one.Status) + " " + amount(one.Amount, one.Currency),
			repair: provider.RefundSeen{RefundReport: one},
		})
	}
	if r.compareRefund(c.ID, one) == nil {
		return nil
	}
	list, err := r.there.RefundsOf(ctx, one.ProviderPaymentID, one.ProviderChargeID)
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	if i := slices.IndexFunc(list, func(f events.RefundReport) bool { return f.ID == one.ID }); i >= 0 {
		one = list[i]
	}
	if err := r.state.refresh(ctx, c.ID); err != nil {
		return err
	}
	if d := r.compareRefund(c.ID, one); d != nil {
		return r.found(ctx, *d)
	}
	return nil
}

// summed tells whether a refund or a dispute counts in the sums: those of charges without a payment are left out on both
// sides, because payments are what is listed.
func summed(c *events.Charge, paymentID string) bool {
	if c != nil {
		paymentID = c.ProviderPaymentID
	}
	return paymentID != ""
}

func (r *run) compareRefund(chargeID string, one events.RefundReport) *Difference {
	last := r.state.event(chargeID)
	c := last.Data.Charge
	d := &Difference{
		Kind: KindRefund, ProviderObjectID: one.ID, EntityID: c.ID, CustomerID: c.CustomerID,
		There: string(one.Status) + " " + amount(one.Amount, one.Currency),
	}
	id := events.ReportedRefundID(r.ProviderID, one.ID)
	if r.ours(one.Owner) && one.Owner.Refund != "" {
		id = one.Owner.Refund
	}
	known := findRefund(c, one.ID)
	if known != nil {
		d.Here = string(known.Status) + " " + amount(known.Amount, c.Currency)
	}
	next, err := events.DecideCharge(last, events.RefundObserved{RefundID: id, Report: one}, r.cause())
	switch {
	case errors.Is(err, events.ErrRefundsFull):
		d.Cause, d.Message = MissingHere, "the charge has more refunds at the provider than the log takes"
		d.Proposal = fmt.Sprintf("a charge has at most %d refunds in the log; look at it at the provider", events.MaxKeptRefunds)
	case err != nil: // the charge has not succeeded here: that is the payment's difference
		return nil
	case next != nil && known == nil:
		d.Cause, d.Message, d.repair = MissingHere, "the charge was refunded at the provider, and the log does not have the refund", provider.RefundSeen{RefundReport: one}
	case next != nil:
		d.Cause, d.Message, d.repair = StatusDiffers, "the refund has come further at the provider than in the log", provider.RefundSeen{RefundReport: one}
	case known.Amount != one.Amount:
		d.Cause, d.Message = AmountDiffers, "the refund is not of the same amount here and there"
		d.Proposal = "the provider's is the money that moved; look at the refund there"
	case known.Status != one.Status:
		d.Cause, d.Message = StatusDiffers, "the log says of the refund what the provider does not say"
		d.Proposal = "a refund's status never goes back in the log; look at the refund at the provider"
	default:
		return nil
	}
	return d
}

func findRefund(c *events.Charge, providerRefundID string) *events.Refund {
	i := slices.IndexFunc(c.Refunds, func(known events.Refund) bool { return known.ProviderRefundID == providerRefundID })
	if i < 0 {
		return nil
	}
	return &c.Refunds[i]
}

// disputes compares the provider's disputes with those of the charges. A dispute is younger than its charge, so of a
// charge that began since Since all of them were listed.
func (r *run) disputes(ctx context.Context) error {
	err := r.there.ListDisputes(ctx, r.Since, func(one events.DisputeReport) error { return r.dispute(ctx, one) })
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	for _, c := range r.recent() {
		for _, known := range c.Disputes {
			if r.seen[known.ProviderDisputeID] || c.CreatedAt.Before(r.Since) {
				continue
			}
			err := r.found(ctx, Difference{
				Kind: KindDispute, Cause: MissingThere, Message: "the log has a dispute that the provider does not know",
				ProviderObjectID: known.ProviderDisputeID, EntityID: c.ID, CustomerID: c.CustomerID,
				Here:     known.Status + " " + amount(known.Amount, c.Currency),
				Proposal: proposeOtherAccount,
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// dispute compares one dispute.
func (r *run) dispute(ctx context.Context, one events.DisputeReport) error {
	r.seen[one.ID] = true
	c := r.state.chargeOf(one.ProviderPaymentID, one.ProviderChargeID)
	customer, unpaid := r.unpaid[one.ProviderPaymentID]
	if c == nil && !unpaid {
		return nil
	}
	r.report.Compared.Disputes++
	if summed(c, one.ProviderPaymentID) {
		r.add(one.Currency, "disputed", false, one.Amount)
	}
	if c == nil {
		return r.found(ctx, Difference{
			Kind: KindDispute, Cause: MissingHere, Message: "a payment that is not in the log is disputed", ProviderObjectID: one.ID,
			CustomerID: customer, There: one.Status + " " + amount(one.Amount, one.Currency),
			repair: provider.DisputeSeen{DisputeReport: one},
		})
	}
	if r.compareDispute(c.ID, one) == nil {
		return nil
	}
	if err := r.state.refresh(ctx, c.ID); err != nil {
		return err
	}
	if d := r.compareDispute(c.ID, one); d != nil {
		return r.found(ctx, *d)
	}
	return nil
}

func (r *run) compareDispute(chargeID string, one events.DisputeReport) *Difference {
	last := r.state.event(chargeID)
	c := last.Data.Charge
	d := &Difference{
		Kind: KindDispute, ProviderObjectID: one.ID, EntityID: c.ID, CustomerID: c.CustomerID,
		There: one.Status + " " + amount(one.Amount, one.Currency),
	}
	i := slices.IndexFunc(c.Disputes, func(known events.Dispute) bool { return known.ProviderDisputeID == one.ID })
	if i >= 0 {
		d.Here = c.Disputes[i].Status + " " + amount(c.Disputes[i].Amount, c.Currency)
	}
	next, err := events.DecideCharge(last, events.DisputeObserved{Report: one}, r.cause())
	switch {
	case err != nil: // the charge has not succeeded here: that is the payment's difference
		return nil
	case next != nil:
		d.Cause, d.Message = StatusDiffers, "the dispute has come further at the provider than in the log"
		if i < 0 {
			d.Cause, d.Message = MissingHere, "the charge is disputed at the provider, and the log does not have the dispute"
		}
		d.repair = provider.DisputeSeen{DisputeReport: one}
	case i < 0 || c.Disputes[i].Status == one.Status && c.Disputes[i].Amount == one.Amount:
		return nil
	default:
		d.Cause, d.Message = StatusDiffers, "the log says of the dispute what the provider does not say"
		d.Proposal = "a dispute does not go back in the log; look at it at the provider"
	}
	return d
}

// pages asks about the checkouts and setups that are open here: a page may have been paid or have expired meanwhile.
func (r *run) pages(ctx context.Context) error {
	type page struct{ id, session string }
	var open []page
	for id, e := range r.state.last {
		switch d := e.Event.Data; {
		case d.Checkout != nil && !d.Checkout.Status.Final() && d.Checkout.ProviderID == r.ProviderID:
			open = append(open, page{id, d.Checkout.ProviderSessionID})
		case d.Setup != nil && !d.Setup.Status.Final() && d.Setup.ProviderID == r.ProviderID:
			open = append(open, page{id, d.Setup.ProviderSessionID})
		}
	}
	for _, p := range open {
		if p.session == "" {
			continue // not made yet, or its answer was lost: the worker's to go on with
		}
		if err := r.page(ctx, p.id, p.session); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) page(ctx context.Context, id, session string) error {
	r.report.Compared.Pages++
	s, err := r.there.Session(ctx, session)
	if err != nil && !notFound(err) {
		return err //nolint:wrapcheck // says what it was
	}
	if refreshErr := r.state.refresh(ctx, id); refreshErr != nil {
		return refreshErr
	}
	last := r.state.event(id)
	d := Difference{
		Kind: KindCheckout, ProviderObjectID: session, EntityID: id, CustomerID: last.CustomerID(), There: string(s.Status),
		Cause: StatusDiffers, Message: "the page has ended at the provider, and the log does not say so",
	}
	var next *events.Event
	if setup := last.Data.Setup; setup != nil {
		d.Kind, d.Here = KindSetup, string(setup.Status)
		next, _ = events.DecideSetup(last, events.SetupSessionObserved{Session: s}, r.cause()) // refuses commands only
	} else {
		d.Here = string(last.Data.Checkout.Status)
		next, _ = events.DecideCheckout(last, events.CheckoutObserved{Session: s}, r.cause()) // refuses commands only
	}
	if err != nil {
		d.Cause, d.Message, d.There = MissingThere, "the log has an open page that the provider does not know", ""
		d.Proposal = proposeOtherAccount
		return r.found(ctx, d)
	}
	if next == nil {
		return nil
	}
	d.repair = provider.SessionSeen{Session: s}
	return r.found(ctx, d)
}
