package reconcile

import (
	"context"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
)

// payments compares the provider's payments with the charges, then the charges that no payment was listed for.
func (r *run) payments(ctx context.Context) error {
	err := r.there.ListPayments(ctx, r.Since, func(p events.Payment) error { return r.payment(ctx, p) })
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	var open []events.Charge
	for _, e := range r.state.last {
		c := e.Event.Data.Charge
		if c == nil || c.ProviderPaymentID == "" || r.seen[c.ProviderPaymentID] {
			continue
		}
		if !c.Status.Final() || !c.UpdatedAt.Before(r.Since) {
			open = append(open, *c)
		}
	}
	for _, c := range open {
		if err := r.unlistedPayment(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// unlistedPayment looks at a charge whose payment was not in the list: it is older than Since, or is not there.
func (r *run) unlistedPayment(ctx context.Context, c events.Charge) error {
	p, err := r.there.Payment(ctx, c.ProviderPaymentID)
	if err == nil {
		return r.payment(ctx, p)
	}
	if !notFound(err) {
		return err //nolint:wrapcheck // says what it was
	}
	return r.found(ctx, Difference{
		Kind: KindPayment, Cause: MissingThere, Message: "the log has a charge whose payment the provider does not know",
		ProviderObjectID: c.ProviderPaymentID, EntityID: c.ID, CustomerID: c.CustomerID, Here: string(c.Status) + " " + amount(c.Amount, c.Currency),
		Proposal: proposeOtherAccount,
	})
}

// payment compares one payment.
func (r *run) payment(ctx context.Context, p events.Payment) error {
	r.seen[p.ID] = true
	r.listed[p.ID] = &Payment{Payment: p}
	if !r.concerns(p) {
		return nil
	}
	r.report.Compared.Payments++
	if r.compare(p) != nil {
		fresh, err := r.again(ctx, p)
		if err != nil {
			return err
		}
		p = fresh
		r.listed[p.ID].Payment = p
	}
	if p.Status == events.PaymentSucceeded {
		r.add(p.Currency, "succeeded", false, p.Amount)
	}
	return nil
}

// again looks at a payment that differs once more: both sides may have moved since they were read.
func (r *run) again(ctx context.Context, p events.Payment) (events.Payment, error) {
	p, err := r.there.Payment(ctx, p.ID)
	if err != nil {
		return p, err //nolint:wrapcheck // says what it was
	}
	err = r.state.refresh(ctx, r.chargeID(p), p.Owner.Charge, events.ReportedChargeID(r.ProviderID, p.ID, p.ChargeID))
	if err != nil {
		return p, err
	}
	d := r.compare(p)
	if d == nil {
		return p, nil
	}
	if d.Cause != StatusDiffers && d.Cause != AmountDiffers {
		r.unpaid[p.ID] = d.CustomerID
	}
	return p, r.found(ctx, *d)
}

// concerns tells whether a payment is one that the LOG should know.
func (r *run) concerns(p events.Payment) bool {
	if r.foreign(p.Owner) {
		return false
	}
	return r.ours(p.Owner) || r.state.chargeOf(p.ID, p.ChargeID) != nil || r.state.linkedTo(p.ProviderCustomerID) != nil
}

// madeFor is the charge that a payment of ours was made for, "" if its metadata name none.
func (r *run) madeFor(p events.Payment) string {
	switch {
	case !r.ours(p.Owner):
		return ""
	case p.Owner.Charge != "":
		return p.Owner.Charge
	case p.Owner.Checkout != "":
		return events.CheckoutChargeID(p.Owner.Checkout)
	}
	return ""
}

// chargeID is the charge that a payment is about, "" if the LOG knows none.
func (r *run) chargeID(p events.Payment) string {
	if c := r.state.chargeOf(p.ID, ""); c != nil {
		return c.ID
	}
	if id := r.madeFor(p); r.state.charge(id) != nil {
		return id
	}
	if c := r.state.chargeOf("", p.ChargeID); c != nil {
		return c.ID
	}
	return ""
}

// compare compares one payment with its charge.
func (r *run) compare(p events.Payment) *Difference {
	there := string(p.Status) + " " + amount(p.Amount, p.Currency)
	d := &Difference{Kind: KindPayment, ProviderObjectID: p.ID, There: there}
	id := r.chargeID(p)
	if id == "" {
		return r.unknown(p, d)
	}
	last := r.state.event(id)
	c := last.Data.Charge
	d.EntityID, d.CustomerID, d.Here = c.ID, c.CustomerID, string(c.Status)+" "+amount(c.Amount, c.Currency)
	next, err := events.DecideCharge(last, events.PaymentObserved{ID: id, ProviderID: r.ProviderID, Payment: p}, r.cause())
	switch {
	case err != nil: // events.ErrOtherPayment
		d.Cause, d.Message = SecondPayment, "a charge that had succeeded was paid a second time, and the log does not have the second payment"
		d.EntityID = events.ReportedChargeID(r.ProviderID, p.ID, p.ChargeID)
		d.repair = provider.PaymentSeen{Payment: p}
		return d
	case next != nil:
		if !next.Data.Charge.Status.Final() {
			return nil // under way: the worker's to go on with
		}
		d.Cause, d.Message = StatusDiffers, "the payment has ended at the provider, and the log does not say so"
		d.repair = provider.PaymentSeen{Payment: p}
		return d
	case c.ProviderPaymentID != p.ID || c.Status != events.ChargeStatusSucceeded:
		return nil
	case p.Status != events.PaymentSucceeded:
		d.Cause, d.Message = StatusDiffers, "the log says that the charge succeeded, and the provider says something else of its payment"
		d.Proposal = "look at the payment at the provider: a success does not go away by itself, so one of the two was tampered with or belongs to another account"
		return d
	case p.Amount != c.Amount || p.Currency != c.Currency:
		d.Cause, d.Message = AmountDiffers, "the charge and its payment are not of the same amount or currency"
		d.Proposal = "the provider's is the money that moved; give back the difference, or charge it, as a person decides"
		return d
	}
	return nil
}

// unknown is a payment of which the LOG has no charge. Only one that took money matters: no other can be paid any more
// without PayKit, which does not know of it.
func (r *run) unknown(p events.Payment, d *Difference) *Difference {
	if p.Status != events.PaymentSucceeded {
		return nil
	}
	d.EntityID = events.ReportedChargeID(r.ProviderID, p.ID, p.ChargeID)
	if c := r.state.linkedTo(p.ProviderCustomerID); c != nil {
		d.CustomerID, d.repair = c.ID, provider.PaymentSeen{Payment: p}
		if r.ours(p.Owner) && p.Owner.Customer == c.ID && events.ValidID(events.EntityCharge, p.Owner.Charge) {
			d.EntityID = p.Owner.Charge // as the Applier begins it
		}
	}
	if !r.ours(p.Owner) {
		d.Cause, d.Message = MissingHere, "a customer of ours paid at the provider, outside PayKit, and the log does not have it"
		return d
	}
	if checkout := r.state.event(p.Owner.Checkout); checkout != nil {
		d.Cause, d.Message = MissingHere, "a checkout was paid, and the log does not have its charge"
		d.EntityID, d.CustomerID = events.CheckoutChargeID(p.Owner.Checkout), checkout.CustomerID()
		d.repair = provider.PaymentSeen{Payment: p}
		return d
	}
	d.Cause, d.Message = OrphanPayment, "PayKit made this payment, and the log has neither its charge nor its checkout"
	if d.repair == nil {
		d.EntityID, d.CustomerID = "", p.Owner.Customer
		d.Proposal = "was a backup restored that is older than the payment? its customer is not linked here, so it can't be recorded: " +
			"sync the customer and run again, or give the money back at the provider"
	}
	return d
}
