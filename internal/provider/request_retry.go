package provider

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// A retry ladder is carried out by both consumers. Settling holds charge.failed until the next attempt is due and asks for
// it (charge.retry_requested); that request makes the attempt: the same payment is confirmed once more, under a key of its
// own. Whatever is not known of an attempt is found out by asking for the payment, as with the first one: it can be paid
// once only, whatever the key.
//
//	charge.failed appended            a crash leaves it with settling, which comes to it again
//	charge.retry_requested appended   a crash leaves the request open: the attempt is made by whoever takes it up
//	the payment looked at             changes nothing
//	confirmed                         a crash leaves the outcome at the provider: asking shows a charge of none of the
//	                                  earlier attempts, or the payment paid
//	outcome appended                  a crash leaves the request open: the attempt is not under way any more, nothing to do
//	the ladder ended                  the payment is canceled by charge.failed or charge.cancel_requested (requests) or
//	                                  charge.updated (settling), each again until it is done

// retryRequested makes an attempt of a ladder, or goes on with it.
func (w *Worker) retryRequested(ctx context.Context, r request) error {
	e, err := w.subject(ctx, r)
	if err != nil {
		return err
	}
	c := e.Event.Data.Charge
	if !c.Retrying() || c.Retry.Status != events.RetryAttempting || c.Retry.Attempt() != r.event.Data.Charge.Retry.Attempt() {
		return nil // done, or in doubt, and then settling has it
	}
	p, err := w.provider(c.ProviderID)
	if err != nil {
		return err
	}
	return w.leftToSettling(r, w.attempt(ctx, r, p, e))
}

// attempt takes the attempt that is under way as far as its payment allows. It asks first, and confirms only a payment
// that shows that this attempt was not made.
func (w *Worker) attempt(ctx context.Context, r request, p *guardedAPI, e eventlog.Entry) error {
	number := e.Event.Data.Charge.Retry.Attempt()
	payment, err := p.Payment(ctx, e.Event.Data.Charge.ProviderPaymentID)
	if err != nil {
		return &unseenError{lookUpFailed(err)}
	}
	if !untried(e.Event.Data.Charge, payment) {
		return w.attempted(ctx, r, e.Event.Data.Charge, number, payment)
	}
	// Money may be taken next: what was decided meanwhile, a cancellation above all, is read from the leader.
	e, err = w.log.LoadFromLeader(ctx, events.EntityCharge, e.Event.Subject)
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	c := e.Event.Data.Charge
	if !c.Retrying() || c.Retry.Attempt() != number {
		return nil
	}
	if c.CancelRequestedAt != nil {
		return w.cancelPayment(ctx, r, p, e, false)
	}
	method, gone, err := w.payer(ctx, c)
	if err != nil {
		return err
	}
	if gone != "" {
		return w.attemptRejected(ctx, r, c, number, events.NewFailure(gone, ""))
	}
	if err := w.point("retry_asked"); err != nil {
		return err
	}
	// A crash right before leaves the attempt unmade, which the payment shows.
	return w.confirmAttempt(ctx, r, p, c, number, method.ProviderMethodID)
}

// confirmAttempt sends the confirm of an attempt, the one call of it that takes money.
func (w *Worker) confirmAttempt(ctx context.Context, r request, p *guardedAPI, c *events.Charge, number int, methodID string) error {
	key := w.key(c.ID, "retry", strconv.Itoa(number))
	how := ConfirmRequest{MethodID: methodID}
	payment, err := p.ConfirmPayment(ctx, key, c.ProviderPaymentID, how)
	if keyIsSpent(err) {
		// The provider keeps a server error under this key. The earlier confirm has ended, so if the payment shows that it
		// did nothing, another key makes no second attempt of it.
		if now, lookErr := p.Payment(ctx, c.ProviderPaymentID); lookErr == nil {
			if payment, err = now, nil; untried(c, now) {
				payment, err = p.ConfirmPayment(ctx, r.otherKey(key), c.ProviderPaymentID, how)
			}
		}
	}
	if err == nil {
		if err := w.point("retry_answered"); err != nil {
			return err
		}
		return w.attempted(ctx, r, c, number, payment)
	}
	switch ClassOf(err) {
	case InDoubt:
		if ctx.Err() != nil {
			return err // ended by our own end: whoever goes on asks first
		}
		// A crash right after leaves the attempt in doubt and the request open; settling asks within seconds.
		w.logRefusal(r, err)
		_, _, updateErr := w.updateCharge(ctx, r, c.ID, events.AttemptUnanswered{Number: number})
		return updateErr
	case Declined, Invalid:
		return w.attemptRefused(ctx, r, p, c, number, err)
	case Transient, Blocked:
	}
	return err
}

// attemptRefused finds out what the refusal of a confirm means: perhaps the payment was paid or canceled before, and then
// how it stands is the answer.
func (w *Worker) attemptRefused(ctx context.Context, r request, p *guardedAPI, c *events.Charge, number int, refusal error) error {
	now, err := p.Payment(ctx, c.ProviderPaymentID)
	if err != nil {
		return lookUpFailed(err)
	}
	if !untried(c, now) {
		return w.attempted(ctx, r, c, number, now)
	}
	w.logRefusal(r, refusal)
	failure := events.NewFailure(events.FailureProviderRejected, "")
	if e, ok := errors.AsType[*Error](refusal); ok && e.Class == Declined {
		failure = events.NewFailure(e.Code, e.DeclineCode)
	}
	return w.attemptRejected(ctx, r, c, number, failure)
}

// attempted records what came of an attempt that was made.
func (w *Worker) attempted(ctx context.Context, r request, c *events.Charge, number int, payment events.Payment) error {
	switch payment.Status {
	case events.PaymentRequiresAction:
		// The bank wants the buyer, who is away, and the charge has failed: there is no page to send anybody to.
		return w.attemptRejected(ctx, r, c, number, events.NewFailure(events.FailureAuthenticationRequired, ""))
	case events.PaymentRequiresMethod:
		if _, _, err := w.updateCharge(ctx, r, c.ID, events.AttemptObserved{Number: number, Payment: payment}); err != nil {
			return err
		}
		return w.point("retry_recorded")
	case events.PaymentSucceeded, events.PaymentCanceled, events.PaymentProcessing, events.PaymentRequiresConfirmation:
	}
	// Under way is nothing to record: settling asks until it is paid or declined.
	_, _, err := w.observePayment(ctx, r, c, nil, payment)
	return err
}

// attemptRejected ends the ladder with an attempt that can't be carried out. A crash right after leaves the charge failed
// and the request open; charge.failed is itself a request to make sure that the payment can never be paid.
func (w *Worker) attemptRejected(ctx context.Context, r request, c *events.Charge, number int, failure events.Failure) error {
	_, _, err := w.updateCharge(ctx, r, c.ID, events.AttemptRejected{Number: number, Failure: failure})
	return err
}

// untried tells whether a payment shows that the attempt under way was not made: it wants a method, and its last decline,
// if any, is that of an earlier attempt.
func untried(c *events.Charge, payment events.Payment) bool {
	switch payment.Status {
	case events.PaymentRequiresConfirmation:
		return true
	case events.PaymentRequiresMethod:
		return payment.Failure == nil || payment.ChargeID == "" || c.Retry.Knows(payment.ChargeID)
	case events.PaymentSucceeded, events.PaymentCanceled, events.PaymentProcessing, events.PaymentRequiresAction:
	}
	return false
}

// payer finds what a charge is paid with. gone is the failure's code if that, or its customer, is not there any more.
func (w *Worker) payer(ctx context.Context, c *events.Charge) (method *events.PaymentMethod, gone string, err error) {
	by := w.paidBy(ctx, c)
	switch {
	case by.err != nil:
		return nil, "", by.err
	case by.customer.Deleted():
		gone = events.FailureCustomerDeleted
	case !by.method.Chargeable():
		gone = events.FailureMethodDetached
	}
	return by.method, gone, nil
}

// settleLadder looks at a failed charge with a ladder: it asks for the attempt that is due, settles the one that is under
// way, and cancels the payment of a ladder that ended by charge.updated. It answers when the next attempt is due.
func (w *Worker) settleLadder(ctx context.Context, r request, p *guardedAPI, e eventlog.Entry) (time.Time, error) {
	c := e.Event.Data.Charge
	switch c.Retry.Status {
	case events.RetryWaiting:
		return w.settleWaiting(ctx, r, c)
	case events.RetryAttempting, events.RetryInDoubt:
		return time.Time{}, w.settleAttempt(ctx, r, p, e)
	case events.RetryEnded:
		if r.event.Type == events.ChargeUpdated {
			return time.Time{}, w.cancelPayment(ctx, r, p, e, false)
		}
	}
	return time.Time{}, nil
}

// settleWaiting asks for the next attempt when it is due. What the charge would be paid with may have gone meanwhile: that
// ends the ladder at the first look that sees it, at the latest after [longestLook].
func (w *Worker) settleWaiting(ctx context.Context, r request, c *events.Charge) (time.Time, error) {
	_, gone, err := w.payer(ctx, c)
	if err != nil {
		return time.Time{}, err
	}
	if gone != "" {
		// A crash right after leaves the ladder ended and the payment still payable: charge.updated stands in the same
		// consumer, which cancels it.
		w.cfg.Logger.Info().Str("entity_id", c.ID).Str("customer_id", c.CustomerID).Str("reason", gone).Msg("retry ladder ended")
		if _, _, err := w.updateCharge(ctx, r, c.ID, events.RetryStopped{}); err != nil {
			return time.Time{}, err
		}
		return time.Time{}, w.point("retry_stopped")
	}
	next := c.Retry.NextAttemptAt
	if next != nil && w.cfg.Now().Before(*next) {
		return *next, nil
	}
	// A crash right after leaves the attempt asked for; its request is delivered, and this message finds it so.
	if _, _, err := w.updateCharge(ctx, r, c.ID, events.RetryDue{}); err != nil {
		return time.Time{}, err
	}
	return time.Time{}, w.point("retry_requested")
}

// firstLadderLook is when an event of a charge with a ladder is first looked at; ok is false if the event is no such.
func (w *Worker) firstLadderLook(ev *events.Event) (after time.Duration, ok bool) {
	c := ev.Data.Charge
	if c == nil || c.Retry == nil || c.Status != events.ChargeStatusFailed {
		return 0, false
	}
	switch c.Retry.Status {
	case events.RetryWaiting:
		if c.Retry.NextAttemptAt != nil {
			return min(w.firstLook, c.Retry.NextAttemptAt.Sub(ev.Time)), true
		}
	case events.RetryInDoubt:
		return w.doubtLook, true
	case events.RetryEnded:
		return 0, true
	case events.RetryAttempting:
	}
	return w.firstLook, true
}

// settlesNothing tells whether a settling event leaves nothing open: most failed charges have no ladder, and what became
// of one that ended is seen to by the request of the same event. A refund that failed leaves something where another is
// under way, whose look is this event's from here on, or where its charge is a second payment again.
func settlesNothing(ev *events.Event) bool {
	c := ev.Data.Charge
	return ev.Type == events.ChargeFailed && !c.Retrying() || ev.Type == events.ChargeRefundFailed && chargeSettled(c) && c.SupersededPaymentID == ""
}
