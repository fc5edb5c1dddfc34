package provider_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// doubtful makes a charge whose confirm was not carried out and not answered, and gives its in_doubt event.
func (w *world) doubtful(p *person) (id string, doubt eventlog.Entry) {
	w.t.Helper()
	w.fault(`{"operation":"payment_intents.confirm","times":2,"kind":"drop"}`)
	e := p.charge("")
	w.worker().CarryOut(w.t.Context(), w.message(e, 1))
	// net/http may or may not have sent the confirm once more by itself: what is left of the fault must strike nobody.
	w.do(http.MethodDelete, "/_sandbox/faults", "", http.NoBody, nil)
	return e.Event.Subject, w.last(e.Event.Subject, events.ChargeStatusInDoubt)
}

// last gives a charge's last event, which must have a status.
func (w *world) last(id string, status events.ChargeStatus) eventlog.Entry {
	w.t.Helper()
	e, err := w.log.LoadFromLeader(w.t.Context(), events.EntityCharge, id)
	if err != nil || e.Event.Data.Charge.Status != status {
		w.t.Fatalf("the charge is %+v, want %s (%v)\n%s", e.Event, status, err, w.logs)
	}
	return e
}

func (w *world) toReview() float64 { return w.gauge("paykit_charges_to_review", "") }

// confirms counts the confirms among the calls since the last time.
func (w *world) confirms() int {
	n := 0
	for _, call := range w.called() {
		if strings.HasPrefix(call, http.MethodPost) && strings.Contains(call, "/confirm") {
			n++
		}
	}
	return n
}

// While the key is remembered the payment is asked for and confirmed by the same call. After that it is only looked at,
// and after a day a person is asked, once, whose decision ends it.
func TestDoubtThatStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	id, doubt := w.doubtful(p)
	worker := w.worker()
	worker.HoldSettling(true)
	w.advance(21 * time.Hour)
	w.called()
	worker.Settle(t.Context(), w.message(doubt, 9))
	if got := w.last(id, events.ChargeStatusInDoubt).Event; w.confirms() != 0 || got.Data.Charge.Review != nil {
		t.Errorf("older than the key, it is %+v", got)
	}
	w.advance(4 * time.Hour)
	for attempt := 10; attempt <= 11; attempt++ {
		worker.Settle(t.Context(), w.message(doubt, attempt))
	}
	flagged := w.last(id, events.ChargeStatusInDoubt)
	if r := flagged.Event.Data.Charge.Review; r == nil || r.Reason != events.ReviewInDoubt || !r.RequestedAt.Equal(flagged.Event.Time) {
		t.Fatalf("after a day it is %+v", flagged.Event.Data.Charge)
	}
	if w.toReview() != 1 || w.inDoubt() != 1 || w.confirms() != 0 {
		t.Errorf("%v to review, %v in doubt", w.toReview(), w.inDoubt())
	}
	if got := worker.Settle(t.Context(), w.message(doubt, 12)); got != eventlog.Done() {
		t.Errorf("the flag's event looks after it, and yet: %+v", got)
	}
	if got := worker.Settle(t.Context(), w.message(flagged, 2)); got == eventlog.Done() || w.confirms() != 0 {
		t.Errorf("nobody looks any more, or it was confirmed: %+v", got)
	}
	p.updateCharge(id, events.ResolveCharge{Outcome: events.ChargeStatusFailed, Operator: "anna", Reason: "not in the dashboard"})
	w.start() // carries charge.failed out: nobody can pay it later
	w.eventually("the payment is canceled", func() bool { return w.payments(id)[0].Status == "canceled" })
	w.eventually("nothing is left to look at", func() bool { return w.toReview() == 0 && w.inDoubt() == 0 })
	want := []string{"requested", "processing", "in_doubt", "review_requested", "failed"}
	if diff := cmp.Diff(want, w.history(events.EntityCharge, id)); diff != "" {
		t.Error("events (-want +got)", diff)
	}
}

// A provider that shows nothing for a day leaves the charge in doubt, for a person to look at.
func TestDoubtThatNobodyAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, doubt := w.doubtful(w.buyer("pm_card_visa"))
	w.fault(`{"operation":"payment_intents.retrieve","times":100,"kind":"status","status":500}`)
	w.advance(25 * time.Hour)
	w.worker().Settle(t.Context(), w.message(doubt, 9))
	if c := w.last(id, events.ChargeStatusInDoubt).Event.Data.Charge; c.Review == nil {
		t.Errorf("it is %+v", c)
	}
}

// An operator says that it failed, and the provider says later that money was taken: money wins, and the decision stays
// in the snapshot.
func TestResolvedAndPaidAfterAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	id, doubt := w.doubtful(p)
	pi := doubt.Event.Data.Charge.ProviderPaymentID
	w.post("/v1/payment_intents/"+pi+"/confirm", url.Values{"payment_method": {p.pm}, "off_session": {"true"}}, nil)
	p.updateCharge(id, events.ResolveCharge{Outcome: events.ChargeStatusFailed, Operator: "anna", Reason: "not in the dashboard"})
	w.start() // to cancel the payment it asks how that stands
	c := w.untilCharge(id, events.ChargeStatusSucceeded)
	w.oneCapture(id)
	if c.Resolution == nil || c.Resolution.Outcome != events.ChargeStatusFailed || c.Failure != nil {
		t.Errorf("the charge is %+v", c)
	}
}

// hide has the sandbox's lists under a path show nothing, as a list would that is late.
func (w *world) hide(path string) {
	hide := func(r *http.Request) {
		if r.Method == http.MethodGet && r.URL.Path == path {
			q := r.URL.Query()
			q.Set("created[gte]", "99999999999")
			r.URL.RawQuery = q.Encode()
		}
	}
	w.meddle.Store(&hide)
}

// The list does not show the payment that a killed worker made, and its key is forgotten: the provider's events tell.
func TestEventsAreTheThirdWitness(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	e := p.charge("")
	w.runUntil("payment_created")
	w.control("/_sandbox/clock/advance", `{"by":"30h"}`)
	w.advance(30 * time.Hour)
	w.hide("/v1/payment_intents")
	if got := w.worker().CarryOut(t.Context(), w.message(e, 2)); got != eventlog.Done() {
		t.Fatalf("%+v\n%s", got, w.logs)
	}
	w.last(e.Event.Subject, events.ChargeStatusSucceeded)
	w.oneCapture(e.Event.Subject)
}

// The same of a refund: it is recorded, and not made twice.
func TestEventsAreTheThirdWitnessOfRefunds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	stop := w.start()
	c := p.paid()
	stop()
	id := p.refund(c.ID)
	w.runUntil("refund_created")
	w.control("/_sandbox/clock/advance", `{"by":"30h"}`)
	w.advance(30 * time.Hour)
	requested := w.last(c.ID, events.ChargeStatusSucceeded)
	w.hide("/v1/refunds")
	if got := w.worker().CarryOut(t.Context(), w.message(requested, 2)); got != eventlog.Done() {
		t.Fatalf("%+v\n%s", got, w.logs)
	}
	if r := w.state(events.EntityCharge, c.ID).Data.Charge.Refund(id); r.Status != events.RefundSucceeded || r.ProviderRefundID == "" {
		t.Errorf("the refund is %+v", r)
	}
	if got := w.payments(c.ID)[0].AmountRefunded; got != 1000 {
		t.Errorf("%d refunded at the provider", got)
	}
}

// made counts the writes to a path since the last time.
func (w *world) made(path string) int {
	n := 0
	for _, call := range w.called() {
		if strings.HasPrefix(call, http.MethodPost+" "+path+" ") {
			n++
		}
	}
	return n
}

// That there is nothing is believed when it was seen twice, some minutes apart, by one process.
func TestNothingIsMadeAnewBeforeItWasMissedTwice(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, path string
		request    func(w *world, p *person) eventlog.Entry
	}{
		{"a payment", "/v1/payment_intents", func(_ *world, p *person) eventlog.Entry { return p.charge("") }},
		{"a refund", "/v1/refunds", func(w *world, p *person) eventlog.Entry {
			stop := w.start()
			c := p.paid()
			stop()
			p.refund(c.ID)
			return w.last(c.ID, events.ChargeStatusSucceeded)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			e := tt.request(w, w.buyer("pm_card_visa"))
			w.advance(30 * time.Hour)
			worker := w.worker()
			worker.BelieveAbsenceAfter(5 * time.Minute)
			w.called()
			for _, step := range []struct {
				after time.Duration
				made  int
			}{{0, 0}, {time.Minute, 0}, {5 * time.Minute, 1}} {
				w.advance(step.after)
				got := worker.CarryOut(t.Context(), w.message(e, 2))
				if done := got == eventlog.Done(); done != (step.made > 0) {
					t.Fatalf("after %s: %+v\n%s", step.after, got, w.logs)
				}
				if made := w.made(tt.path); made != step.made {
					t.Errorf("after %s: made %d times", step.after, made)
				}
			}
			if tt.name == "a payment" {
				w.oneCapture(e.Event.Subject)
			}
		})
	}
}

// A refund that nobody answers for a day is flagged, and the flag goes with the answer.
func TestRefundThatStaysUnanswered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	stop := w.start()
	c := p.paid()
	stop()
	p.refund(c.ID)
	requested := w.last(c.ID, events.ChargeStatusSucceeded)
	w.fault(`{"operation":"refunds.list","times":100,"kind":"status","status":500}`)
	worker := w.worker()
	worker.HoldSettling(true)
	w.advance(25 * time.Hour)
	w.control("/_sandbox/clock/advance", `{"by":"25h"}`)
	for attempt := 2; attempt <= 3; attempt++ {
		worker.CarryOut(t.Context(), w.message(requested, attempt))
	}
	if now := w.last(c.ID, events.ChargeStatusSucceeded).Event.Data.Charge; now.Review == nil || now.Review.Reason != events.ReviewInDoubt || w.toReview() != 1 {
		t.Fatalf("after a day the charge is %+v", now)
	}
	w.do(http.MethodDelete, "/_sandbox/faults", "", http.NoBody, nil)
	w.start()
	w.until(events.EntityCharge, c.ID, func(e *events.Event) bool { return e.Data.Charge.AmountRefunded == 1000 && e.Data.Charge.Review == nil })
	want := []string{"requested", "processing", "succeeded", "refund_requested", "review_requested", "refunded"}
	if diff := cmp.Diff(want, w.history(events.EntityCharge, c.ID)); diff != "" {
		t.Error("events (-want +got)", diff)
	}
}

// A further attempt of a ladder that stays in doubt is looked at only, and flagged, as the first one is.
func TestAttemptThatStaysInDoubt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	p.declineNext(1)
	w.fault(`{"operation":"payment_intents.confirm","nth":2,"times":100,"kind":"drop"}`)
	stop := w.start()
	id := p.retryCharge(step).Event.Subject
	w.untilRetry(id, events.RetryInDoubt)
	stop()
	w.advance(25 * time.Hour)
	w.called()
	worker := w.worker()
	worker.HoldSettling(true)
	doubt := w.last(id, events.ChargeStatusFailed)
	worker.Settle(t.Context(), w.message(doubt, 9))
	flagged := w.last(id, events.ChargeStatusFailed)
	if r := flagged.Event.Data.Charge.Review; r == nil || w.confirms() != 0 || w.toReview() != 1 || w.inDoubt() != 1 {
		t.Fatalf("after a day it is %+v", flagged.Event.Data.Charge)
	}
	worker.Settle(t.Context(), w.message(flagged, 2))
	if n := w.confirms(); n != 0 {
		t.Errorf("%d confirms of what a person looks at", n)
	}
	p.updateCharge(id, events.ResolveCharge{Outcome: events.ChargeStatusFailed, Operator: "anna", Reason: "not in the dashboard"})
	w.start()
	w.eventually("the payment is canceled", func() bool { return w.payments(id)[0].Status == "canceled" })
}
