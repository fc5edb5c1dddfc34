package provider

import (
	"context"
	"errors"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// target is the charge that a payment is about, begun or not.
type target struct {
	id       string
	entry    eventlog.Entry // zero if the charge has no event yet
	customer events.CustomerRef
	checkout *events.Event // the last event of the checkout that the payment was made on, if any
	unknown  bool          // nothing was known of the payment but its customer
}

func (t target) customerID() string {
	if t.entry.Event != nil {
		return t.entry.Event.CustomerID()
	}
	return t.customer.ID
}

// payment applies a report about a payment. Neither a deleted customer nor an unlinked account stops it: money wins.
func (a *Applier) payment(ctx context.Context, at sighting, p events.Payment) (Applied, error) {
	if a.foreign(p.Owner) {
		return Applied{Outcome: OutcomeNotOurs}, nil
	}
	t, err := a.chargeOfPayment(ctx, at, p)
	if err != nil {
		return Applied{}, err
	}
	if t.id == "" {
		return Applied{Outcome: OutcomeNotOurs}, nil
	}
	got, err := a.observePayment(ctx, at, t, p)
	if errors.Is(err, events.ErrOtherPayment) {
		return a.otherPayment(ctx, at, t, p)
	}
	return got, err
}

// observePayment applies a report to the charge that it is about.
func (a *Applier) observePayment(ctx context.Context, at sighting, t target, p events.Payment) (Applied, error) {
	in := events.PaymentObserved{ID: t.id, ProviderID: at.providerID, Payment: p}
	if t.checkout != nil {
		in.Checkout = t.checkout.Data.Checkout
	}
	decide := func(last *events.Event) (*events.Event, error) {
		c := a.cause(at, t.customer)
		if last == nil && t.checkout != nil {
			c.CommandID = t.checkout.CorrelationID // the charge belongs to the command that opened the page
		}
		return events.DecideCharge(last, in, c)
	}
	// Decided once without appending, to know whether a link is needed: a report that changes nothing writes nothing.
	ev, err := decide(t.entry.Event)
	if err != nil {
		return Applied{}, err
	}
	if ev == nil {
		return unchanged(t.entry), nil
	}
	if known := t.entry.Event; known == nil || known.Data.Charge.ProviderPaymentID != p.ID {
		// Before the charge's event, so that a charge whose payment is known can always be found by it. A crash right
		// after leaves a link to a charge that does not know the payment yet; the report comes again and goes on here.
		objectID := p.ID
		if objectID == "" {
			objectID = p.ChargeID
		}
		k := eventlog.Link{Entity: events.EntityCharge, ID: t.id, CustomerID: t.customerID()}
		other, err := a.linkOrOther(ctx, at.providerID, objectID, k)
		if err != nil {
			return Applied{}, err
		}
		if paid, err := a.paidAs(ctx, at, t, other, p); err != nil || paid.Event != nil {
			return unchanged(paid), err
		}
		if err := a.linkedMeanwhile(ctx, at, t, other); err != nil {
			return Applied{}, err
		}
	}
	return a.updateFrom(ctx, t.entry, events.EntityCharge, t.id, decide)
}

// paidAs finds the charge that this very payment has paid already, if it is another one: the money would count twice. That
// happens where a payment was reported before the charge or the checkout that it was made for began again. Nothing is
// written, so a crash leaves nothing.
func (a *Applier) paidAs(ctx context.Context, at sighting, t target, other *eventlog.Link, p events.Payment) (eventlog.Entry, error) {
	if other == nil || other.Entity != events.EntityCharge || other.ID == t.id || other.CustomerID != t.customerID() {
		return eventlog.Entry{}, nil
	}
	e, err := a.load(ctx, events.EntityCharge, other.ID)
	if err != nil || e.Event == nil {
		return eventlog.Entry{}, err
	}
	c := e.Event.Data.Charge
	if c.ProviderID != at.providerID || c.Status != events.ChargeStatusSucceeded || p.ID == "" || c.ProviderPaymentID != p.ID {
		return eventlog.Entry{}, nil
	}
	return e, nil
}

// errLinkedMeanwhile says that a payment of which nothing was known has become another charge's.
var errLinkedMeanwhile = errors.New("the payment was linked to another charge a moment ago")

// linkedMeanwhile refuses to begin a charge with a payment that an operator has just named as another charge's: it would be
// two charges. Applied again, the report follows the link to that charge. Nothing was written, so a crash leaves nothing.
func (a *Applier) linkedMeanwhile(ctx context.Context, at sighting, t target, other *eventlog.Link) error {
	if !t.unknown || other == nil || other.Entity != events.EntityCharge || other.ID == t.id || other.CustomerID != t.customerID() {
		return nil
	}
	e, err := a.load(ctx, events.EntityCharge, other.ID)
	if err != nil || e.Event == nil || e.Event.Data.Charge.ProviderID != at.providerID {
		return err
	}
	return errLinkedMeanwhile
}

// otherPayment makes the success of a further payment a charge of its own: the money was taken, so it must show, and
// someone must decide whether to give it back.
func (a *Applier) otherPayment(ctx context.Context, at sighting, t target, p events.Payment) (Applied, error) {
	id := events.ReportedChargeID(at.providerID, p.ID, p.ChargeID)
	entry, err := a.load(ctx, events.EntityCharge, id)
	if err != nil {
		return Applied{}, err
	}
	ref := t.customer
	if t.entry.Event != nil {
		ref = refOf(t.entry.Event)
	}
	got, err := a.observePayment(ctx, at, target{id: id, entry: entry, customer: ref}, p)
	if err == nil && got.Outcome == OutcomeChanged {
		a.otherPayments.WithLabelValues(at.providerID).Inc()
		a.cfg.Logger.Error().Str("provider", at.providerID).Str("payment", p.ID).Str("entity_id", t.id).
			Str("charge_id", id).Str("customer_id", got.CustomerID).Str("causation_id", at.causationID).
			Msg("a charge was paid twice: the second payment is a charge of its own")
	}
	if err != nil {
		return got, err
	}
	// A crash right before leaves the second charge without the flag; the report comes again and finds that missing.
	flagged, err := a.update(ctx, events.EntityCharge, id, func(last *events.Event) (*events.Event, error) {
		return events.DecideCharge(last, events.RequestReview{
			Reason: events.ReviewSecondPayment, RelatedChargeID: t.id, Proposal: events.ProposalRefund,
		}, a.cause(at, ref))
	})
	if err == nil && flagged.Outcome == OutcomeChanged {
		got = flagged
	}
	return got, err
}

// chargeOfPayment finds the charge of a payment, or the one that would begin with it. The target's id is "" if the
// payment is nobody's.
func (a *Applier) chargeOfPayment(ctx context.Context, at sighting, p events.Payment) (target, error) {
	if a.ours(p.Owner) {
		t, err := a.chargeOfOwner(ctx, at.providerID, p.Owner)
		if err != nil || t.id != "" {
			return t, err
		}
	}
	reported := events.ReportedChargeID(at.providerID, p.ID, p.ChargeID)
	entry, err := a.load(ctx, events.EntityCharge, reported)
	if err != nil || entry.Event != nil {
		return target{id: reported, entry: entry}, err
	}
	for _, objectID := range []string{p.ID, p.ChargeID} {
		k, ok, err := a.link(ctx, at.providerID, objectID, events.EntityCharge)
		if err != nil {
			return target{}, err
		}
		if !ok {
			continue
		}
		entry, err := a.load(ctx, events.EntityCharge, k.ID)
		if err != nil || entry.Event != nil {
			return target{id: k.ID, entry: entry}, err
		}
	}
	// A payment made elsewhere for a customer of ours, in the provider's dashboard for example.
	customer, standing, err := a.customerOf(ctx, at.providerID, p.ProviderCustomerID)
	if err != nil || standing != accountLinked {
		return target{}, err
	}
	t := target{id: reported, customer: customer.Ref(), unknown: true}
	if o := p.Owner; a.ours(o) && o.Customer == t.customer.ID && events.ValidID(events.EntityCharge, o.Charge) {
		// PayKit made it, in a time that the LOG has forgotten since an older backup was restored. The charge gets the id that it
		// had then, so that its command, should it come again, finds it done; under another one it would be a second charge.
		t.id = o.Charge
	}
	return t, nil
}

// chargeOfOwner finds the charge that the reserved metadata names: its own id, or the checkout that it comes from.
func (a *Applier) chargeOfOwner(ctx context.Context, providerID string, o events.Owner) (target, error) {
	entry, err := a.load(ctx, events.EntityCharge, o.Charge)
	if err != nil {
		return target{}, err
	}
	if entry.Event != nil && entry.Event.Data.Charge.ProviderID == providerID {
		return target{id: o.Charge, entry: entry}, nil
	}
	checkout, err := a.load(ctx, events.EntityCheckout, o.Checkout)
	if err != nil || checkout.Event == nil || checkout.Event.Data.Checkout.ProviderID != providerID {
		return target{}, err
	}
	t := target{
		id: events.CheckoutChargeID(o.Checkout), customer: refOf(checkout.Event), checkout: checkout.Event,
	}
	if t.id == o.Charge {
		return t, nil // looked for already
	}
	t.entry, err = a.load(ctx, events.EntityCharge, t.id)
	return t, err
}

// knownCharge finds the charge that a refund or a dispute hangs on. A candidate counts only if it knows the payment:
// a link may name a charge that was paid by another payment in the end.
func (a *Applier) knownCharge(ctx context.Context, at sighting, o events.Owner, paymentID, chargeID string) (eventlog.Entry, error) {
	fits := func(e eventlog.Entry) bool {
		if e.Event == nil || e.Event.Data.Charge.ProviderID != at.providerID {
			return false
		}
		known := e.Event.Data.Charge.ProviderPaymentID
		return known == "" || paymentID == "" || known == paymentID
	}
	if a.ours(o) {
		t, err := a.chargeOfOwner(ctx, at.providerID, o)
		if err != nil || fits(t.entry) {
			return t.entry, err
		}
	}
	for _, objectID := range []string{paymentID, chargeID} {
		k, ok, err := a.link(ctx, at.providerID, objectID, events.EntityCharge)
		if err != nil {
			return eventlog.Entry{}, err
		}
		if !ok {
			continue
		}
		entry, err := a.load(ctx, events.EntityCharge, k.ID)
		if err != nil || fits(entry) {
			return entry, err
		}
	}
	entry, err := a.load(ctx, events.EntityCharge, events.ReportedChargeID(at.providerID, paymentID, chargeID))
	if err != nil || fits(entry) {
		return entry, err
	}
	return eventlog.Entry{}, ErrOwnerUnknown
}

// hang applies what hangs on a charge. A charge that is not known, or has not succeeded yet, may be soon.
func (a *Applier) hang(ctx context.Context, at sighting, charge eventlog.Entry, in events.ChargeInput) (Applied, error) {
	got, err := a.updateFrom(ctx, charge, events.EntityCharge, charge.Event.Subject, func(last *events.Event) (*events.Event, error) {
		return events.DecideCharge(last, in, a.cause(at, refOf(charge.Event)))
	})
	if errors.Is(err, events.ErrNoCharge) {
		return Applied{}, ErrOwnerUnknown
	}
	if errors.Is(err, events.ErrRefundsFull) {
		a.refundNotKept(at.providerID, charge.Event.Subject, at.causationID)
		return unchanged(charge), nil
	}
	return got, err
}

// refundNotKept raises the alarm for a refund that its charge has no room for. Nothing is stored, so each further report
// raises it again.
func (a *Applier) refundNotKept(providerID, chargeID, causationID string) {
	a.refundsLost.WithLabelValues(providerID).Inc()
	a.cfg.Logger.Error().Str("provider", providerID).Str("entity_id", chargeID).Str("causation_id", causationID).
		Msg("a refund is not kept: the charge has more than its snapshot can hold, and amountRefunded is too low")
}

func (a *Applier) refund(ctx context.Context, at sighting, r events.RefundReport) (Applied, error) {
	if a.foreign(r.Owner) {
		return Applied{Outcome: OutcomeNotOurs}, nil
	}
	charge, err := a.knownCharge(ctx, at, r.Owner, r.ProviderPaymentID, r.ProviderChargeID)
	if err != nil {
		return Applied{}, err
	}
	id := events.ReportedRefundID(at.providerID, r.ID)
	if a.ours(r.Owner) && r.Owner.Refund != "" {
		id = r.Owner.Refund
	}
	return a.hang(ctx, at, charge, events.RefundObserved{RefundID: id, Report: r})
}

func (a *Applier) refundTotal(ctx context.Context, at sighting, o RefundTotalSeen) (Applied, error) {
	if a.foreign(o.Payment.Owner) {
		return Applied{Outcome: OutcomeNotOurs}, nil
	}
	charge, err := a.knownCharge(ctx, at, o.Payment.Owner, o.Payment.ID, o.Payment.ChargeID)
	if err != nil {
		return Applied{}, err
	}
	return a.hang(ctx, at, charge, events.RefundTotalObserved{Total: o.Total})
}

func (a *Applier) dispute(ctx context.Context, at sighting, d events.DisputeReport) (Applied, error) {
	charge, err := a.knownCharge(ctx, at, events.Owner{}, d.ProviderPaymentID, d.ProviderChargeID)
	if err != nil {
		return Applied{}, err
	}
	return a.hang(ctx, at, charge, events.DisputeObserved{Report: d})
}

func (a *Applier) fraudWarning(ctx context.Context, at sighting, f events.FraudWarningReport) (Applied, error) {
	charge, err := a.knownCharge(ctx, at, events.Owner{}, f.ProviderPaymentID, f.ProviderChargeID)
	if err != nil {
		return Applied{}, err
	}
	return a.hang(ctx, at, charge, events.FraudWarningObserved{Report: f})
}
