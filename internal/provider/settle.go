package provider

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/paykit-go/paykit/internal/crashpoint"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/plant"
)

const (
	firstLookInDoubt = 5 * time.Second
	firstLook        = time.Minute
	longestLook      = time.Hour
	// longestAlarm is the same for what is in doubt or waits for a person: a worker that was just started, or takes over,
	// learns of it from the next look only, and until then its alarm is silent.
	longestAlarm = 5 * time.Minute
)

// handleSettling looks at one thing that was left open. The consumer's redeliveries are the list of what is open, and
// their delays its timers.
func (w *Worker) handleSettling(ctx context.Context, m eventlog.Message) eventlog.Result {
	return w.handle(ctx, m, eventlog.ConsumerSettling, w.settle)
}

// settle asks about one open entity. A look that fails changes nothing.
func (w *Worker) settle(ctx context.Context, r request) error {
	if settlesNothing(r.event) {
		return nil
	}
	first := w.firstLook
	if c := r.event.Data.Charge; c != nil && c.InDoubt() {
		first = w.doubtLook
	}
	look := first
	if ladder, ok := w.firstLadderLook(r.event); ok {
		look = ladder
	}
	if left := look - w.cfg.Now().Sub(r.event.Time); left > 0 && r.attempt <= 1 {
		if c := r.event.Data.Charge; c != nil {
			w.doubts.note(c) // as it was; the look says how it is
		}
		// Its webhook is most likely on its way. A clock that is behind must not put the look off for long.
		return &later{after: min(left, look), reason: "first look is still to come"}
	}
	e, err := w.subject(ctx, r)
	if err != nil {
		return err
	}
	if c := e.Event.Data.Charge; c != nil {
		w.doubts.note(c) // a delivery may have settled it
	}
	if superseded(r, e) {
		return nil
	}
	var next time.Time
	switch {
	case e.Event.Data.Charge != nil:
		next, err = w.settleCharge(ctx, r, e)
	case e.Event.Data.Checkout != nil:
		err = w.settleCheckout(ctx, r, e)
	case e.Event.Data.Setup != nil:
		err = w.settleSetup(ctx, r, e)
	}
	crashpoint.Hit("worker.settle_asked")
	if plant.Bug == 9 && errors.Is(err, errSettled) {
		return &later{after: time.Hour, reason: "planted"}
	}
	if errors.Is(err, errSettled) {
		return nil
	}
	longest := longestLook
	if c := e.Event.Data.Charge; c != nil && (c.InDoubt() || c.Review != nil) {
		longest = longestAlarm
	}
	wait := w.backoff(first, r.attempt-1, longest)
	if err != nil {
		return lookFailed(err, wait, w.jitter(max(longestRetry, 5*first)))
	}
	if !next.IsZero() {
		wait = min(wait, max(next.Sub(w.cfg.Now()), time.Second))
	}
	return &later{after: wait, reason: "still open"}
}

// errSettled says that there is nothing left to ask about.
var errSettled = errors.New("settled")

// superseded tells whether a later event of the entity stands in the same consumer and looks after all of it.
func superseded(r request, e eventlog.Entry) bool {
	return e.Sequence > r.message.Sequence && slices.Contains(events.SettlingTypes(), e.Event.Type)
}

// lookFailed asks again later, whatever the provider answered: a look-up decides nothing. Only what it refuses to show
// is asked for as rarely as what is still open: a provider that did not answer says nothing of how long it will take, and
// when it is back, what is open shall not have to wait longer than soon. Our own storage is tried again at once.
func lookFailed(err error, wait, soon time.Duration) error {
	pe, ok := errors.AsType[*Error](lookUpFailed(err))
	if !ok {
		return err
	}
	again := *pe
	switch {
	case again.Class == Blocked, again.Status == 0, again.Status >= http.StatusInternalServerError,
		again.Status == http.StatusTooManyRequests, again.Status == http.StatusConflict:
		wait = min(wait, soon)
	}
	again.RetryAfter = max(again.RetryAfter, wait)
	return &again
}

// settleCharge looks at a charge: at its payment while that is open, then at its refunds. It answers when the charge
// must be looked at again at the latest, if there is such a time.
func (w *Worker) settleCharge(ctx context.Context, r request, e eventlog.Entry) (time.Time, error) {
	c := e.Event.Data.Charge
	if err := w.cancelSuperseded(ctx, r, c); err != nil {
		return time.Time{}, err
	}
	ladder := c.Retry != nil && c.Status == events.ChargeStatusFailed
	if chargeSettled(c) && !ladder {
		return time.Time{}, errSettled
	}
	p, err := w.provider(c.ProviderID)
	if err != nil {
		return time.Time{}, err
	}
	var due time.Time
	switch {
	case ladder:
		due, err = w.settleLadder(ctx, r, p, e)
	case c.Status.Final():
		_, err = w.lookAtRefunds(ctx, r, p, c)
	case c.ProviderPaymentID == "" && c.ProviderChargeID == "":
		return time.Time{}, nil // its request is still to be carried out
	case c.Status == events.ChargeStatusRequiresAction && c.Action != nil && !w.cfg.Now().Before(c.Action.ExpiresAt):
		// The buyer did not act in time. A payment made in the last moment wins: the answer shows it.
		err = w.cancelUnpaid(ctx, r, p, e)
	default:
		err = w.settleOpen(ctx, r, p, e)
	}
	if err != nil {
		return time.Time{}, err
	}
	e, err = w.subject(ctx, r)
	if err != nil {
		return time.Time{}, err
	}
	c = e.Event.Data.Charge
	if chargeSettled(c) || superseded(r, e) {
		return time.Time{}, errSettled
	}
	if c.Status == events.ChargeStatusRequiresAction && c.Action != nil {
		return c.Action.ExpiresAt, nil
	}
	return due, nil
}

// chargeSettled tells whether nothing about a charge is to be waited for: its status is final, it is not tried again, no
// refund is open, and nobody has to look at it.
func chargeSettled(c *events.Charge) bool {
	return c.Status.Final() && !c.Retrying() && c.Review == nil &&
		!slices.ContainsFunc(c.Refunds, func(one events.Refund) bool { return one.Status.Open() })
}

// settleCheckout looks at a checkout's page until it is final, and at its payment until its charge has succeeded.
func (w *Worker) settleCheckout(ctx context.Context, r request, e eventlog.Entry) error {
	c := e.Event.Data.Checkout
	if c.Status.Final() && c.Status != events.StateCompleted {
		return errSettled
	}
	if c.Status == events.StateCompleted {
		done, err := w.checkoutPaid(ctx, c)
		if done || err != nil {
			return errors.Join(err, settledIf(done))
		}
	}
	p, err := w.provider(c.ProviderID)
	if err != nil {
		return err
	}
	if c.ProviderSessionID == "" {
		return nil
	}
	s, err := p.Session(ctx, c.ProviderSessionID)
	if err != nil {
		return err
	}
	e, err = w.updateCheckout(ctx, r, c.ID, events.CheckoutObserved{Session: s})
	if err != nil {
		return err
	}
	c = e.Event.Data.Checkout
	if err := w.observeCheckoutPayment(ctx, r, p, c, s); err != nil {
		return err
	}
	if c.Status != events.StateCompleted {
		return settledIf(c.Status.Final())
	}
	done, err := w.checkoutPaid(ctx, c)
	return errors.Join(err, settledIf(done || s.Status == events.SessionComplete && s.PaymentID == ""))
}

func settledIf(done bool) error {
	if done {
		return errSettled
	}
	return nil
}

// checkoutPaid tells whether the charge of a completed checkout has succeeded.
func (w *Worker) checkoutPaid(ctx context.Context, c *events.Checkout) (bool, error) {
	e, err := w.load(ctx, events.EntityCharge, events.CheckoutChargeID(c.ID), 0)
	if errors.Is(err, eventlog.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return e.Event.Data.Charge.Status == events.ChargeStatusSucceeded, nil
}

// settleSetup looks at a setup's page until it is final.
func (w *Worker) settleSetup(ctx context.Context, r request, e eventlog.Entry) error {
	set := e.Event.Data.Setup
	if set.Status.Final() {
		return errSettled
	}
	p, err := w.provider(set.ProviderID)
	if err != nil {
		return err
	}
	if set.ProviderSessionID == "" {
		return nil
	}
	if err := w.lookAtSetup(ctx, r, p, set); err != nil {
		return err
	}
	e, err = w.subject(ctx, r)
	if err != nil {
		return err
	}
	return settledIf(e.Event.Data.Setup.Status.Final())
}
