package provider

import (
	"context"
	"errors"
	"fmt"

	"github.com/paykit-go/paykit/internal/crashpoint"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/plant"
)

// A charge is two calls. The first makes a payment that takes no money; its id goes into the LOG; the second confirms
// it. From then on the payment itself is the token under which the money is taken at most once, and it never expires:
// whatever is not known is found out by asking for the payment, never by charging again.

// chargeRequested carries out a charge, or goes on with it.
func (w *Worker) chargeRequested(ctx context.Context, r request) error {
	var e eventlog.Entry
	var err error
	var by paidBy
	w.cfg.AtOnce(
		func() { e, err = w.subject(ctx, r) },
		func() { by = w.paidBy(ctx, r.event.Data.Charge) }, // whose ids never change
	)
	if err != nil {
		return err
	}
	c := e.Event.Data.Charge
	switch c.Status {
	case events.ChargeStatusRequested, events.ChargeStatusProcessing:
	case events.ChargeStatusRequiresAction, events.ChargeStatusInDoubt:
		return nil // settling has it
	case events.ChargeStatusFailed, events.ChargeStatusCanceled:
		if r.attempt == 1 || c.ProviderPaymentID != "" {
			return nil
		}
	case events.ChargeStatusSucceeded:
		return nil
	}
	p, err := w.provider(c.ProviderID)
	if err != nil {
		return err
	}
	if c.Status.Final() {
		// An earlier try may have made a payment after the charge's end was carried out.
		return w.cancelOrphan(ctx, r, p, c)
	}
	if c.ProviderPaymentID == "" {
		return w.leftToSettling(r, w.beginPayment(ctx, r, p, e, by))
	}
	return w.leftToSettling(r, w.resumePayment(ctx, r, p, e))
}

// beginPayment makes a charge's payment, records it, and goes on to confirm it.
func (w *Worker) beginPayment(ctx context.Context, r request, p *guardedAPI, e eventlog.Entry, by paidBy) error {
	c := e.Event.Data.Charge
	if c.CancelRequestedAt != nil {
		return w.cancelUnmade(ctx, r, c)
	}
	switch {
	case by.err != nil:
		return by.err
	case by.customer.Deleted():
		return w.rejectCharge(ctx, r, c.ID, events.NewFailure(events.FailureCustomerDeleted, ""))
	case !by.method.Live():
		return w.rejectCharge(ctx, r, c.ID, events.NewFailure(events.FailureMethodDetached, ""))
	}
	payment, made, err := w.createPayment(ctx, r, p, c, by.method.ProviderMethodID)
	if refused(err) {
		w.logRefusal(r, err)
		return w.rejectCharge(ctx, r, c.ID, events.NewFailure(events.FailureProviderRejected, ""))
	}
	if err != nil {
		return err // unanswered or not sent: repeated with its key, and nothing is appended
	}
	if err := w.point("payment_created"); err != nil {
		return err
	}
	e, appended, ok, err := w.recordPayment(ctx, r, p, e, payment, made)
	if err != nil || !ok {
		return err
	}
	now := e.Event.Data.Charge
	if now.ProviderPaymentID != payment.ID {
		// The charge ended meanwhile, or goes on with another payment: this one must never be paid.
		_, err := w.cancelAt(ctx, r, p, c, payment.ID, false)
		return err
	}
	if !appended || r.attempt > 1 {
		return w.resumePayment(ctx, r, p, e)
	}
	// The answer was given a moment ago and nobody else has known the payment: there is no need to ask how it stands.
	return w.advance(ctx, r, p, e, payment, by.method.ProviderMethodID)
}

// recordPayment writes a new payment's link and event, the commit point of the charge: from here on its payment is known.
// Of one that was just made both are written at once, which spares the caller one fsync, and both are there before anything is
// confirmed. One that was found may be paid already, and be another charge's by now: its event is written only once the link
// says that it is this one's. ok is false if the payment belongs to another charge; this one was ended then.
//
// A crash right before leaves a payment that takes no money: the next try's key answers with it. A crash in between leaves
// either a link to a charge that does not know the payment, which the next try completes in the same way, or a charge whose
// payment has no link: whoever goes on with it, the next try or settling, links it before it is confirmed (resumePayment).
func (w *Worker) recordPayment(
	ctx context.Context, r request, p *guardedAPI, before eventlog.Entry, payment events.Payment, made bool,
) (e eventlog.Entry, appended, ok bool, err error) {
	c := before.Event.Data.Charge
	var linked bool
	var notLinked, notRecorded error
	link := func() {
		if linked, notLinked = w.linkPayment(ctx, p, c, payment.ID); notLinked == nil {
			notLinked = w.point("payment_linked")
		}
	}
	record := func() {
		if e, appended, notRecorded = w.observePayment(ctx, r, c, &before, payment); notRecorded == nil {
			notRecorded = w.point("payment_recorded")
		}
	}
	if made && payment.Status == events.PaymentRequiresConfirmation {
		w.cfg.AtOnce(link, record)
	} else if link(); linked && notLinked == nil {
		record()
	}
	if err := errors.Join(notLinked, notRecorded); err != nil {
		return e, appended, false, err
	}
	if !linked {
		return e, appended, false, w.rejectCharge(ctx, r, c.ID, events.NewFailure(events.FailureProviderRejected, ""))
	}
	return e, appended, true, nil
}

// linkPayment writes the way back from a payment to its charge. false says that the payment belongs to another charge: it
// would count for two, so nothing may be confirmed, and someone must look.
func (w *Worker) linkPayment(ctx context.Context, p *guardedAPI, c *events.Charge, paymentID string) (bool, error) {
	err := w.log.PutLink(ctx, p.id, paymentID, eventlog.Link{Entity: events.EntityCharge, ID: c.ID, CustomerID: c.CustomerID})
	if taken, ok := errors.AsType[*eventlog.LinkTakenError](err); ok {
		w.notOurPayment(c, paymentID, taken.Existing)
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("link %s: %w", paymentID, err)
	}
	return true, nil
}

func (w *Worker) notOurPayment(c *events.Charge, paymentID string, existing eventlog.Link) {
	w.cfg.Logger.Error().Str("entity_id", c.ID).Str("payment", paymentID).Str("linked_to", existing.ID).
		Msg("the payment belongs to another charge")
}

// paidBy is whom a charge takes money from.
type paidBy struct {
	customer events.Customer
	method   *events.PaymentMethod
	err      error // one of them could not be read
}

// paidBy reads a charge's customer and method, at once.
func (w *Worker) paidBy(ctx context.Context, c *events.Charge) (by paidBy) {
	var noCustomer, noMethod error
	w.cfg.AtOnce(
		func() { by.customer, noCustomer = w.customer(ctx, c.CustomerID) },
		func() { by.method, noMethod = w.method(ctx, c) },
	)
	by.err = errors.Join(noCustomer, noMethod)
	return by
}

// createPayment makes the payment, or finds the one that an earlier try made: made is false then.
func (w *Worker) createPayment(
	ctx context.Context, r request, p *guardedAPI, c *events.Charge, methodID string,
) (payment events.Payment, made bool, err error) {
	payment, err = withAccount(ctx, w, r, p, func(a events.ProviderAccount) (events.Payment, error) {
		find := func(made Span) (events.Payment, bool, error) {
			return p.FindPayment(ctx, a.ProviderCustomerID, w.chargeOwner(c), made)
		}
		key := w.createKey(c.ID, a)
		witness := func(made Span) (events.Payment, bool, error) {
			return w.witnessPayment(ctx, p, Sought{Owner: w.chargeOwner(c), Key: key, Since: made.Since})
		}
		made = false
		return create(w, r, key, w.since(r), find, func(key string) (events.Payment, error) {
			sent, err := p.CreatePayment(ctx, key, PaymentRequest{
				CustomerID: a.ProviderCustomerID, MethodID: methodID, Owner: w.chargeOwner(c),
				Amount: c.Amount, Currency: c.Currency, Description: c.Description, Metadata: c.Metadata,
			})
			made = err == nil
			return sent, err
		}, witness)
	})
	return payment, made, err
}

func (w *Worker) chargeOwner(c *events.Charge) events.Owner {
	return events.Owner{Env: w.log.Env(), Customer: c.CustomerID, Charge: c.ID}
}

// method loads the method that a charge is made with.
func (w *Worker) method(ctx context.Context, c *events.Charge) (*events.PaymentMethod, error) {
	e, err := w.load(ctx, events.EntityPaymentMethod, c.PaymentMethodID, 0)
	if err != nil {
		return nil, err
	}
	return e.Event.Data.PaymentMethod, nil
}

// resumePayment goes on with a charge whose payment is known: it asks how the payment stands and takes the charge as far
// as that allows.
func (w *Worker) resumePayment(ctx context.Context, r request, p *guardedAPI, e eventlog.Entry) error {
	payment, err := p.Payment(ctx, e.Event.Data.Charge.ProviderPaymentID)
	if err != nil {
		return &unseenError{lookUpFailed(err)}
	}
	if payment.Status == events.PaymentRequiresConfirmation || payment.Status == events.PaymentRequiresMethod {
		// Money may be taken next: what was decided meanwhile, a cancellation above all, is read from the leader.
		e, err = w.log.LoadFromLeader(ctx, events.EntityCharge, e.Event.Subject)
		if err != nil {
			return fmt.Errorf("load charge: %w", err)
		}
		// Whoever recorded the payment may have died before it was linked. Linked it nearly always is: that is found out.
		if ours, err := w.linkPayment(ctx, p, e.Event.Data.Charge, payment.ID); err != nil || !ours {
			return errors.Join(err, w.rejectCharge(ctx, r, e.Event.Subject, events.NewFailure(events.FailureProviderRejected, "")))
		}
	}
	return w.advance(ctx, r, p, e, payment, "")
}

// lookUpFailed makes a failed look-up what it is: it changed nothing and says nothing about the charge, so it is asked
// again later, whatever its class.
func lookUpFailed(err error) error {
	if e, ok := errors.AsType[*Error](err); ok && e.Class != Blocked && e.Class != Transient {
		again := *e
		again.Class = Transient
		return &again
	}
	return err
}

// advance takes a charge as far as its payment, seen a moment ago, allows: it confirms what waits for its confirm,
// sends the buyer to authenticate where that is asked for, and records what came of it.
func (w *Worker) advance(ctx context.Context, r request, p *guardedAPI, e eventlog.Entry, payment events.Payment, methodID string) error {
	c := e.Event.Data.Charge
	waits := payment.Status == events.PaymentRequiresConfirmation || wantsBuyer(c, payment)
	ours := c.CheckoutID == "" && !c.ReportedByProvider // a page's payment is its buyer's to confirm
	if waits && ours && !c.Status.Final() {
		if c.CancelRequestedAt != nil {
			return w.cancelPayment(ctx, r, p, e, false)
		}
		confirmed, done, err := w.takeMoney(ctx, r, p, c, payment, methodID)
		if err != nil || done {
			return err
		}
		payment = confirmed
	}
	if ours && payment.Status == events.PaymentRequiresAction && payment.ActionURL == "" && !c.Status.Final() {
		// The bank wants the buyer, and there is no page to send them to: waiting would be for ever.
		return w.rejectCharge(ctx, r, c.ID, events.NewFailure(events.FailureAuthenticationRequired, ""))
	}
	if err := w.point("payment_settled"); err != nil {
		return err
	}
	// A crash right before leaves the outcome at the provider only; the request or settling asks for it.
	_, _, err := w.observePayment(ctx, r, c, &e, payment)
	return err
}

// takeMoney confirms a payment: off session, and on session where the bank wants the buyer. methodID is the provider's,
// "" if it is still to be looked up. done says that there is nothing to record.
func (w *Worker) takeMoney(
	ctx context.Context, r request, p *guardedAPI, c *events.Charge, payment events.Payment, methodID string,
) (now events.Payment, done bool, err error) {
	if methodID == "" {
		method, err := w.method(ctx, c)
		if err != nil {
			return payment, false, err
		}
		methodID = method.ProviderMethodID
	}
	if payment.Status == events.PaymentRequiresConfirmation {
		// The one call that takes money. A crash right after leaves the charge processing: whoever takes it up asks for
		// the payment first, and confirms only one that still waits for it.
		payment, done, err = w.confirm(ctx, r, p, c, ConfirmRequest{MethodID: methodID}, stepConfirm)
		if err != nil || done {
			return payment, done, err
		}
	}
	if !wantsBuyer(c, payment) {
		return payment, false, nil
	}
	// The same payment once more, with the buyer present. A crash right after leaves it at the provider waiting for the
	// buyer: asking shows requires_action and the page.
	payment, done, err = w.confirm(ctx, r, p, c, ConfirmRequest{MethodID: methodID, ReturnURL: c.ReturnURL}, stepAuthenticate)
	if err != nil || done || !wantsBuyer(c, payment) {
		return payment, done, err
	}
	// Asked with the buyer present, the bank wants the buyer: there is no way on.
	return payment, true, w.rejectCharge(ctx, r, c.ID, *payment.Failure)
}

// The steps of a charge that can take money, as its idempotency keys name them.
const (
	stepConfirm      = "confirm"
	stepAuthenticate = "authenticate"
)

// wantsBuyer tells whether a payment was declined because the bank wants the buyer, who has a page to come back to.
func wantsBuyer(c *events.Charge, payment events.Payment) bool {
	return c.ReturnURL != "" && payment.Status == events.PaymentRequiresMethod &&
		payment.Failure != nil && payment.Failure.Code == events.FailureAuthenticationRequired
}

// confirm sends one confirm. done says that there is nothing to record: the charge was put in doubt or rejected.
func (w *Worker) confirm(
	ctx context.Context, r request, p *guardedAPI, c *events.Charge, how ConfirmRequest, step string,
) (payment events.Payment, done bool, err error) {
	payment, err = p.ConfirmPayment(ctx, w.key(c.ID, step), c.ProviderPaymentID, how)
	if keyIsSpent(err) {
		payment, err = w.confirmAgain(ctx, r, p, c, how, step, err)
	}
	if err == nil {
		if step == stepAuthenticate {
			return payment, false, w.point("authenticate_answered")
		}
		return payment, false, w.point("confirm_answered")
	}
	switch ClassOf(err) {
	case InDoubt:
		switch plant.Bug {
		case 1:
			return w.plantedAgain(ctx, r, p, c, how)
		case 4:
			return events.Payment{ID: c.ProviderPaymentID, Status: events.PaymentSucceeded, Amount: c.Amount, Currency: c.Currency}, false, nil
		}
		if ctx.Err() != nil {
			return payment, false, err // ended by our own end: whoever goes on asks first
		}
		// A crash right after leaves the charge in doubt and the request open; settling asks within seconds.
		_, _, updateErr := w.updateCharge(ctx, r, c.ID, events.ConfirmUnanswered{})
		crashpoint.Hit("worker.doubt_recorded")
		w.logRefusal(r, err)
		return payment, true, updateErr
	case Declined, Invalid:
		return w.confirmRefused(ctx, r, p, c, step, err)
	case Transient, Blocked:
	}
	return payment, false, err
}

// confirmAgain sends a confirm under another key, because the provider keeps a server error under its own. It is the
// payment that takes money once only, whatever the key; and the earlier confirm has ended, so if the payment still waits
// for one, this is not a second attempt at the card.
func (w *Worker) confirmAgain(
	ctx context.Context, r request, p *guardedAPI, c *events.Charge, how ConfirmRequest, step string, unanswered error,
) (events.Payment, error) {
	now, err := p.Payment(ctx, c.ProviderPaymentID)
	if err != nil {
		return now, unanswered // it stays in doubt
	}
	if !waitsFor(step, c, now) {
		return now, nil
	}
	return p.ConfirmPayment(ctx, r.otherKey(w.key(c.ID, step)), c.ProviderPaymentID, how)
}

// waitsFor tells whether a payment still waits for this step.
func waitsFor(step string, c *events.Charge, now events.Payment) bool {
	if step == stepAuthenticate {
		return wantsBuyer(c, now)
	}
	return now.Status == events.PaymentRequiresConfirmation
}

// confirmRefused finds out what the refusal of a confirm means: perhaps the payment was confirmed or canceled before, and
// then how it stands is the answer.
func (w *Worker) confirmRefused(
	ctx context.Context, r request, p *guardedAPI, c *events.Charge, step string, refusal error,
) (now events.Payment, done bool, err error) {
	now, err = p.Payment(ctx, c.ProviderPaymentID)
	if err != nil {
		return now, false, lookUpFailed(err)
	}
	unmoved := waitsFor(step, c, now) || now.Status == events.PaymentRequiresConfirmation || // not confirmed
		now.Status == events.PaymentRequiresMethod && now.Failure == nil // not tried
	if !unmoved {
		return now, false, nil
	}
	w.logRefusal(r, refusal)
	failure := events.NewFailure(events.FailureProviderRejected, "")
	if e, ok := errors.AsType[*Error](refusal); ok && e.Class == Declined {
		failure = events.NewFailure(e.Code, e.DeclineCode)
	}
	return now, true, w.rejectCharge(ctx, r, c.ID, failure)
}

// observePayment records what a charge's payment shows; known is the charge as it was read or appended a moment ago, nil for
// not at all. A crash right after leaves it recorded and the request open:
// it comes again and finds nothing to do.
func (w *Worker) observePayment(
	ctx context.Context, r request, c *events.Charge, known *eventlog.Entry, payment events.Payment,
) (eventlog.Entry, bool, error) {
	e, appended, err := w.updateChargeFrom(ctx, r, c.ID, known, events.PaymentObserved{ID: c.ID, ProviderID: c.ProviderID, Payment: payment})
	if errors.Is(err, events.ErrOtherPayment) {
		// Money all the same: it becomes a charge of its own, with an alarm.
		payment.Owner = w.chargeOwner(c)
		if _, err := w.applier.Observe(ctx, c.ProviderID, PaymentSeen{payment}, r.event.ID); err != nil {
			return e, false, err
		}
		e, err = w.load(ctx, events.EntityCharge, c.ID, 0)
	}
	return e, appended, err
}

// rejectCharge ends a charge that can't be carried out. A crash right after leaves it failed and the request open; the
// failure is itself a request to make sure that a payment that was made can never be paid.
func (w *Worker) rejectCharge(ctx context.Context, r request, id string, failure events.Failure) error {
	failure.Message = events.FailureMessage(failure.Code, failure.DeclineCode)
	_, _, err := w.updateCharge(ctx, r, id, events.ChargeRejected{Failure: failure})
	return err
}

// chargeCancelRequested cancels a charge's payment. Racing with the confirm, the provider decides which of the two wins.
func (w *Worker) chargeCancelRequested(ctx context.Context, r request) error {
	e, err := w.subject(ctx, r)
	if err != nil {
		return err
	}
	c := e.Event.Data.Charge
	if c.Status.Final() && (c.Retry == nil || c.Status != events.ChargeStatusFailed) { // a ladder leaves its payment payable
		return nil
	}
	p, err := w.provider(c.ProviderID)
	if err != nil {
		return err
	}
	if c.ProviderPaymentID == "" {
		return w.cancelUnmade(ctx, r, c)
	}
	return w.cancelPayment(ctx, r, p, e, false)
}

// cancelPayment makes sure that a charge's payment can never be paid, and records how it then stands: it may have been
// paid a moment before. A crash between the two leaves it canceled at the provider only; asking shows it.
func (w *Worker) cancelPayment(ctx context.Context, r request, p *guardedAPI, e eventlog.Entry, abandoned bool) error {
	c := e.Event.Data.Charge
	if theirs, err := w.othersPayment(ctx, p, c); err != nil || theirs {
		return err
	}
	payment, err := w.cancelAt(ctx, r, p, c, c.ProviderPaymentID, abandoned)
	if err != nil {
		return err
	}
	if err := w.point("payment_canceled"); err != nil {
		return err
	}
	_, _, err = w.observePayment(ctx, r, c, &e, payment)
	return err
}

// othersPayment tells whether the payment that a charge knows belongs to another charge, which is found out at the same time
// as it is recorded: canceling it would end that one.
func (w *Worker) othersPayment(ctx context.Context, p *guardedAPI, c *events.Charge) (bool, error) {
	k, err := w.log.Link(ctx, p.id, c.ProviderPaymentID)
	switch {
	case errors.Is(err, eventlog.ErrNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("link of %s: %w", c.ProviderPaymentID, err)
	case k.Entity != events.EntityCharge || k.ID == c.ID:
		return false, nil
	}
	// The end of the request hangs on it, so the log's leader says it once more, which a link of our own asks in passing: it
	// is written only where there is none.
	ours, err := w.linkPayment(ctx, p, c, c.ProviderPaymentID)
	return err == nil && !ours, err
}

// cancelAt cancels a payment at the provider only.
func (w *Worker) cancelAt(
	ctx context.Context, r request, p *guardedAPI, c *events.Charge, paymentID string, abandoned bool,
) (now events.Payment, err error) {
	err = set(r, w.key(c.ID, "cancel", paymentID, r.id()), func(key string) (err error) {
		now, err = p.CancelPayment(ctx, key, paymentID, abandoned)
		return err
	})
	return now, err
}

// cancelUnmade cancels a charge whose payment is not known. A crash right before leaves the charge open; the request
// comes again. Whoever is making the payment at this moment finds the charge ended when it records it, and cancels it;
// one that an unanswered try made takes no money, and is canceled when charge.canceled is carried out.
func (w *Worker) cancelUnmade(ctx context.Context, r request, c *events.Charge) error {
	if err := w.point("payment_unmade"); err != nil {
		return err
	}
	e, _, err := w.observePayment(ctx, r, c, nil, events.Payment{Status: events.PaymentCanceled})
	if err == nil && !e.Event.Data.Charge.Status.Final() {
		return &later{after: w.jitter(w.retryFirst), reason: "its payment was recorded meanwhile"}
	}
	return err
}

// cancelOrphan cancels the payment of a charge that ended without knowing it, if there is one: an unanswered try may have
// made it, or a worker that was killed before it recorded it.
func (w *Worker) cancelOrphan(ctx context.Context, r request, p *guardedAPI, c *events.Charge) error {
	a, err := w.findAccount(ctx, c.CustomerID, c.ProviderID)
	if err != nil || a.Status != events.AccountLinked {
		return err
	}
	payment, ok, err := lookIn(func(made Span) (events.Payment, bool, error) {
		return p.FindPayment(ctx, a.ProviderCustomerID, w.chargeOwner(c), made)
	}, w.madeFor(c.CreatedAt)...)
	if NoCustomer(err) {
		return nil
	}
	if err != nil || !ok {
		return err
	}
	_, err = w.cancelAt(ctx, r, p, c, payment.ID, false)
	return err
}

// chargeEnded makes sure that what ended without success can never be paid: a declined payment still could.
func (w *Worker) chargeEnded(ctx context.Context, r request) error {
	e, err := w.subject(ctx, r)
	if err != nil {
		return err
	}
	c := e.Event.Data.Charge
	if c.Status == events.ChargeStatusSucceeded {
		return w.cancelSuperseded(ctx, r, c) // another payment paid before this end was carried out
	}
	if c.ReportedByProvider || c.Retrying() {
		return nil
	}
	p, err := w.provider(c.ProviderID)
	if err != nil {
		return err
	}
	if c.CheckoutID != "" {
		checkout, err := w.load(ctx, events.EntityCheckout, c.CheckoutID, 0)
		if err != nil {
			return err
		}
		if s := checkout.Event.Data.Checkout; s.ProviderSessionID != "" && !s.Status.Final() {
			return w.expireSession(ctx, r, p, s.ProviderSessionID, s.ID)
		}
		return nil
	}
	if c.ProviderPaymentID != "" {
		return w.cancelPayment(ctx, r, p, e, false)
	}
	return w.cancelOrphan(ctx, r, p, c)
}

// logRefusal logs what the provider refused or did not answer, where the request itself goes on: its failure message is
// our own text, so this line is where the provider's request id stands.
func (w *Worker) logRefusal(r request, err error) {
	ev := w.cfg.Logger.Warn().Err(err).Str("event_type", string(r.event.Type)).Str("event_id", r.event.ID).
		Str("command_id", r.event.CorrelationID).Str("entity_id", r.event.Subject).
		Str("customer_id", r.event.CustomerID()).Int("attempt", r.attempt)
	if e, ok := errors.AsType[*Error](err); ok {
		ev = ev.Str("class", e.Class.String()).Str("operation", e.Operation).Str("code", e.Code).Str("request_id", e.RequestID)
	}
	ev.Msg("provider call refused or unanswered")
}
