package provider

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// What the provider's answers do not make clear is found out by looking: at the object whose id is known, at the list, at
// the provider's own events. While the provider remembers the key of a call, the same call may be repeated; after that
// there are looks only, and that there is nothing is believed when it was seen twice, some minutes apart. What stays
// unclear is a person's to decide.

const (
	// reviewAfter is how long something may stay in doubt before a person is asked to look.
	reviewAfter = 24 * time.Hour
	// absenceGap is the time between two looks that find nothing, before the provider is believed to have nothing.
	absenceGap = 5 * time.Minute
)

// settleOpen looks at a charge whose payment is open and takes it as far as that allows. One that is in doubt for longer
// than the provider remembers the confirm's key, or that a person has been asked to look at, is looked at only: it is not
// confirmed any more.
func (w *Worker) settleOpen(ctx context.Context, r request, p *guardedAPI, e eventlog.Entry) error {
	c := e.Event.Data.Charge
	if c.Status != events.ChargeStatusInDoubt {
		return w.unseen(ctx, r, c, w.resumePayment(ctx, r, p, e))
	}
	if c.Review != nil || w.old(r) {
		return w.overdue(ctx, r, c.ID, w.lookAtPayment(ctx, r, p, e))
	}
	return w.overdue(ctx, r, c.ID, w.resumePayment(ctx, r, p, e))
}

// lookAtPayment records how a charge's payment stands, and sends nothing that could take money.
func (w *Worker) lookAtPayment(ctx context.Context, r request, p *guardedAPI, e eventlog.Entry) error {
	c := e.Event.Data.Charge
	payment, err := p.Payment(ctx, c.ProviderPaymentID)
	if err != nil {
		return lookUpFailed(err)
	}
	waits := payment.Status == events.PaymentRequiresConfirmation || wantsBuyer(c, payment)
	if waits && c.CancelRequestedAt == nil {
		return nil // an operator decides; canceling is one way
	}
	return w.advance(ctx, r, p, e, payment, "")
}

// settleAttempt looks at an attempt of a ladder in the same way.
func (w *Worker) settleAttempt(ctx context.Context, r request, p *guardedAPI, e eventlog.Entry) error {
	c := e.Event.Data.Charge
	if c.Retry.Status != events.RetryInDoubt {
		return w.unseen(ctx, r, c, w.attempt(ctx, r, p, e))
	}
	if c.Review == nil && !w.old(r) || c.CancelRequestedAt != nil {
		return w.overdue(ctx, r, c.ID, w.attempt(ctx, r, p, e))
	}
	payment, err := p.Payment(ctx, c.ProviderPaymentID)
	if err != nil {
		return w.overdue(ctx, r, c.ID, lookUpFailed(err))
	}
	if !untried(c, payment) {
		err = w.attempted(ctx, r, c, c.Retry.Attempt(), payment)
	}
	return w.overdue(ctx, r, c.ID, err)
}

// unseenError is a look at a charge's payment that failed: how it stands is not known.
type unseenError struct{ err error }

func (u *unseenError) Error() string { return u.err.Error() }
func (u *unseenError) Unwrap() error { return u.err }

// unseen puts a charge in doubt whose payment could not be looked at for too long, and asks a person to look: its confirm
// may have been sent by a worker that was killed right after, so money may have been taken. It must have failed twice, some
// minutes apart, since after an outage of our own the first look may be the only one that was made for a day. A crash
// between the two events leaves it in doubt with its alarm, and the new event with settling, which flags it a day later.
func (w *Worker) unseen(ctx context.Context, r request, c *events.Charge, err error) error {
	if _, ok := errors.AsType[*unseenError](err); !ok || ctx.Err() != nil || w.cfg.Now().Sub(r.event.Time) <= w.cfg.ReviewAfter {
		return err
	}
	if _, twice := w.absences.believed("look "+c.ID, w.cfg.Now()); !twice {
		return err
	}
	var doubt events.ChargeInput = events.ConfirmUnanswered{}
	if c.Retrying() {
		doubt = events.AttemptUnanswered{Number: c.Retry.Attempt()}
	}
	if _, _, updateErr := w.updateCharge(ctx, r, c.ID, doubt); updateErr != nil {
		return updateErr
	}
	return w.overdue(ctx, r, c.ID, err)
}

// cancelUnpaid cancels the payment of a charge whose buyer did not act in time. A failed cancel says nothing of how the
// payment stands: that it can't be seen is found out by looking.
func (w *Worker) cancelUnpaid(ctx context.Context, r request, p *guardedAPI, e eventlog.Entry) error {
	err := w.cancelPayment(ctx, r, p, e, true)
	if _, failed := errors.AsType[*Error](err); !failed || ctx.Err() != nil || w.cfg.Now().Sub(r.event.Time) <= w.cfg.ReviewAfter {
		return err
	}
	if _, lookErr := p.Payment(ctx, e.Event.Data.Charge.ProviderPaymentID); lookErr != nil {
		err = &unseenError{lookUpFailed(lookErr)}
	}
	return w.unseen(ctx, r, e.Event.Data.Charge, err)
}

// leftToSettling ends a request whose payment the provider says does not exist: it is recorded, so settling looks at it
// too, ever less often, and asks a person in the end. More of the same question brings nothing.
func (w *Worker) leftToSettling(r request, err error) error {
	if _, ok := errors.AsType[*unseenError](err); !ok {
		return err
	}
	if e, ok := errors.AsType[*Error](err); !ok || !e.NotFound {
		return err
	}
	w.logRefusal(r, err)
	return nil
}

// overdue asks a person to look at a charge that a try has left in doubt for too long; unanswered is what the try ended
// with. Whether there is a doubt is the decision's to say. A crash right after leaves the charge flagged and the request
// open: it comes again, asks again, and finds the flag.
func (w *Worker) overdue(ctx context.Context, r request, chargeID string, unanswered error) error {
	_, refused := errors.AsType[*Error](unanswered)
	if ctx.Err() != nil || unanswered != nil && !refused || w.cfg.Now().Sub(r.event.Time) <= w.cfg.ReviewAfter {
		return unanswered
	}
	_, appended, err := w.updateCharge(ctx, r, chargeID, events.RequestReview{Reason: events.ReviewInDoubt})
	if err != nil {
		return err
	}
	if appended {
		w.cfg.Logger.Error().Str("entity_id", chargeID).Str("customer_id", r.event.CustomerID()).Str("event_id", r.event.ID).
			Int("attempt", r.attempt).Msg("in doubt for too long: a person must look")
	}
	return unanswered
}

// refundOrReview carries out one refund, and asks a person to look at one that nobody has answered for too long.
func (w *Worker) refundOrReview(ctx context.Context, r request) error {
	err := w.refundRequested(ctx, r)
	if err == nil {
		return nil
	}
	return w.overdue(ctx, r, r.event.Subject, err)
}

// witnessPayment asks the provider's own events for the payment that an earlier try may have made, where its list shows
// none.
func (w *Worker) witnessPayment(ctx context.Context, p *guardedAPI, s Sought) (events.Payment, bool, error) {
	id, err := p.SawPayment(ctx, s)
	if err != nil || id == "" {
		return events.Payment{}, false, lookUpFailed(err)
	}
	payment, err := p.Payment(ctx, id)
	if err != nil {
		return payment, false, lookUpFailed(err)
	}
	return payment, true, nil
}

// errWitnessed says that the provider's events know of a refund that its list does not show.
var errWitnessed = errors.New("the provider's events know the refund, its list does not show it (yet)")

// refundMadeLongAgo looks for a refund whose key may be forgotten: in the list, in the provider's own events, and, if
// neither has it, some minutes later once more. Only then it answers that it was not made.
func (w *Worker) refundMadeLongAgo(ctx context.Context, r request, p *guardedAPI, c *events.Charge, refundID string) (bool, error) {
	found, err := w.madeRefund(ctx, r, p, c, refundID)
	if found || err != nil {
		return found, err
	}
	key := w.key(refundID, "create")
	owner := events.Owner{Env: w.log.Env(), Customer: c.CustomerID, Charge: c.ID, Refund: refundID}
	report, found, err := p.SawRefund(ctx, Sought{Owner: owner, Key: key, Since: r.event.Time.Add(-clockSkew)})
	switch {
	case err != nil:
		return false, lookUpFailed(err)
	case !found:
		return false, w.absent(key)
	case report.ID == "": // that it was made is known, and no more
		return false, &Error{Class: Transient, Operation: "refunds.find", Code: "refund_not_listed", Err: errWitnessed}
	}
	_, _, err = w.updateCharge(ctx, r, c.ID, events.RefundObserved{RefundID: refundID, Report: report})
	return true, err
}

// absences remembers what the provider was found not to have. It is forgotten with the process, and then begins anew,
// which costs two more looks and no more.
type absences struct {
	gap   time.Duration
	mu    sync.Mutex
	first map[string]time.Time // guarded by mu, by what was looked for
}

// manyAbsences bounds the memory; at the bound all begin anew.
const manyAbsences = 10_000

// believed tells whether something that was just not found is not there: it was not there some minutes ago either. Else
// it answers when to look again.
func (a *absences) believed(what string, now time.Time) (left time.Duration, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	first, seen := a.first[what]
	if seen && now.Sub(first) >= a.gap {
		delete(a.first, what) // whatever is sent now makes it a new question
		return 0, true
	}
	if !seen {
		if a.first == nil || len(a.first) >= manyAbsences {
			a.first = map[string]time.Time{}
		}
		a.first[what], first = now, now
	}
	return a.gap - now.Sub(first), false
}

// absent is asked after a look that found nothing, for something whose key may be forgotten. It answers nil if that is
// believed, so that the call may be made anew.
func (w *Worker) absent(key string) error {
	left, ok := w.absences.believed(key, w.cfg.Now())
	if ok {
		return nil
	}
	return &later{after: w.jitter(left), reason: "not found, and looked for once more before it is made anew"}
}

// doubts counts the charges of which it is not known whether money was taken, and those that a person must look at. Only
// the worker that settles counts: it sees each of them end, while one that only carries out requests would see them begin.
type doubts struct {
	inDoubt, toReview prometheus.Gauge

	mu     sync.Mutex
	held   bool                // guarded by mu: this worker settles
	open   map[string]struct{} // guarded by mu, by charge id
	review map[string]struct{} // guarded by mu, by charge id
}

func (d *doubts) note(c *events.Charge) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.held {
		return
	}
	if d.open == nil {
		d.open, d.review = map[string]struct{}{}, map[string]struct{}{}
	}
	keep(d.open, c.ID, c.InDoubt())
	keep(d.review, c.ID, c.Review != nil)
	d.inDoubt.Set(float64(len(d.open)))
	d.toReview.Set(float64(len(d.review)))
}

func keep(set map[string]struct{}, id string, in bool) {
	if in {
		set[id] = struct{}{}
	} else {
		delete(set, id)
	}
}

// hold says whether this worker settles. Whoever begins to is told of all that is open by the settling consumer.
func (d *doubts) hold(active bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held = active
	if active {
		return
	}
	clear(d.open)
	clear(d.review)
	d.inDoubt.Set(0)
	d.toReview.Set(0)
}
