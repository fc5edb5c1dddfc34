package provider_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/provider"
)

// stopAt carries out a request until a point, as a worker that is killed there.
func (w *world) stopAt(point string, e eventlog.Entry) {
	w.t.Helper()
	worker, stopped := w.worker(), false
	worker.StopAt(func(p string) error {
		if stopped = stopped || p == point; stopped {
			return provider.ErrStopped
		}
		return nil
	})
	worker.CarryOut(w.t.Context(), w.message(e, 1))
	if !stopped {
		w.t.Fatalf("it never came to %q\n%s", point, w.logs)
	}
}

// A worker was killed after the confirm went out, or its confirm was never carried out, and since then nobody can see how
// the payment stands: after a day that is a doubt, a person is asked, and can decide.
func TestMoneyThatNobodyCanSee(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{`"status":500`, `"status":401`, `"status":404,"code":"resource_missing"`} {
		for _, tt := range []struct {
			name, card string
			leave      func(w *world, p *person) string // gives the charge
			now        events.ChargeStatus
			events     []string
		}{
			{"processing", "pm_card_visa", func(w *world, p *person) string {
				e := p.charge("")
				w.stopAt("confirm_answered", e)
				return e.Event.Subject
			}, events.ChargeStatusInDoubt, []string{"requested", "processing", "in_doubt", "review_requested"}},
			{"confirm refused for the moment", "pm_card_visa", func(w *world, p *person) string {
				w.fault(`{"operation":"payment_intents.confirm","kind":"status","status":503}`)
				e := p.charge("")
				w.worker().CarryOut(w.t.Context(), w.message(e, 1))
				return e.Event.Subject
			}, events.ChargeStatusInDoubt, []string{"requested", "processing", "in_doubt", "review_requested"}},
			{"an attempt", "pm_card_visa", func(w *world, p *person) string {
				p.declineNext(1)
				id := p.retryCharge(step).Event.Subject
				w.runUntil("retry_requested")
				w.stopAt("retry_answered", w.last(id, events.ChargeStatusFailed))
				return id
			}, events.ChargeStatusFailed, []string{"requested", "processing", "failed", "retry_requested", "updated", "review_requested"}},
			{"a buyer who did not act", "pm_card_authenticationRequired", func(w *world, p *person) string {
				stop := w.start()
				defer stop()
				return w.untilCharge(p.charge(backURL).Event.Subject, events.ChargeStatusRequiresAction).ID
			}, events.ChargeStatusInDoubt, []string{"requested", "processing", "requires_action", "in_doubt", "review_requested"}},
		} {
			t.Run(tt.name+" "+fault, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				p := w.buyer(tt.card)
				id := tt.leave(w, p)
				open, err := w.log.LoadFromLeader(t.Context(), events.EntityCharge, id)
				if err != nil {
					t.Fatal(err)
				}
				w.fault(`{"operation":"payment_intents.retrieve","times":1000,"kind":"status",` + fault + `}`)
				worker := w.worker()
				worker.BelieveAbsenceAfter(5 * time.Minute)
				worker.HoldSettling(true)
				look := func(after time.Duration, flagged bool) {
					t.Helper()
					w.advance(after)
					worker.Settle(t.Context(), w.message(open, 9))
					c := w.state(events.EntityCharge, id).Data.Charge
					if (c.Review != nil) != flagged || c.InDoubt() != flagged {
						t.Fatalf("%+v\n%s", c, w.logs)
					}
				}
				look(23*time.Hour, false)
				look(2*time.Hour, false) // the first look after the bound may be the first of all
				look(time.Minute, false)
				look(6*time.Minute, true)
				if w.toReview() != 1 || w.inDoubt() != 1 {
					t.Errorf("%v to review, %v in doubt", w.toReview(), w.inDoubt())
				}
				w.last(id, tt.now)
				if diff := cmp.Diff(tt.events, w.history(events.EntityCharge, id)); diff != "" {
					t.Error("events (-want +got)", diff)
				}
				if got := worker.Settle(t.Context(), w.message(open, 10)); got != eventlog.Done() {
					t.Errorf("the flag's event looks after it, and yet: %+v", got)
				}
				p.updateCharge(id, events.ResolveCharge{Outcome: events.ChargeStatusSucceeded, Operator: "anna", Reason: "in the dashboard"})
				w.last(id, events.ChargeStatusSucceeded)
			})
		}
	}
}

// The provider says that the payment does not exist: the request is done with, since settling looks at it too.
func TestPaymentThatIsNotThereIsLeftToSettling(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	e := p.charge("")
	w.runUntil("payment_recorded")
	w.fault(`{"operation":"payment_intents.retrieve","times":3,"kind":"status","status":404,"code":"resource_missing"}`)
	worker := w.worker()
	if got := worker.CarryOut(t.Context(), w.message(e, 2)); got != eventlog.Done() {
		t.Fatalf("%+v\n%s", got, w.logs)
	}
	open := w.last(e.Event.Subject, events.ChargeStatusProcessing)
	if got := worker.Settle(t.Context(), w.message(open, 3)); got == eventlog.Done() {
		t.Error("nobody looks any more")
	}
	w.do(http.MethodDelete, "/_sandbox/faults", "", http.NoBody, nil)
	worker.Settle(t.Context(), w.message(open, 4)) // it is there after all
	w.last(e.Event.Subject, events.ChargeStatusSucceeded)
	w.oneCapture(e.Event.Subject)
}

// What has an alarm is looked at often enough that the alarm of a worker that was just started is soon right.
func TestAlarmsAreSoonRightAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, doubt := w.doubtful(w.buyer("pm_card_visa"))
	w.fault(`{"operation":"payment_intents.retrieve","times":1000,"kind":"status","status":404}`)
	soon := func(e eventlog.Entry) {
		t.Helper()
		worker := w.worker()
		got := worker.Settle(t.Context(), w.message(e, 40))
		if retriesAfter(got, 10*time.Minute) || !retriesAfter(got, time.Minute) {
			t.Errorf("looked at again %+v", got)
		}
	}
	soon(doubt)
	w.advance(25 * time.Hour)
	w.worker().Settle(t.Context(), w.message(doubt, 41))
	soon(w.last(id, events.ChargeStatusInDoubt))
}
