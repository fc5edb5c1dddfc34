package provider_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/provider"
)

func TestChargeThatCannotBegin(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		prepare func(p *person, chargeID string)
		want    events.ChargeStatus
		code    string
	}{
		{"customer deleted", func(p *person, _ string) { p.delete() }, events.ChargeStatusFailed, events.FailureCustomerDeleted},
		{"method detached", func(p *person, _ string) {
			p.updateMethod(p.meth, events.MethodGone{})
		}, events.ChargeStatusFailed, events.FailureMethodDetached},
		{"cancel asked for", func(p *person, id string) {
			p.updateCharge(id, events.CancelCharge{})
		}, events.ChargeStatusCanceled, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.buyer("pm_card_visa")
			e := p.charge("")
			tt.prepare(p, e.Event.Subject)
			w.start()
			c := w.untilCharge(e.Event.Subject, tt.want)
			if tt.code != "" && (c.Failure == nil || c.Failure.Code != tt.code) {
				t.Errorf("failure is %+v", c.Failure)
			}
			if got := w.payments(c.ID); len(got) != 0 {
				t.Errorf("ledger is %+v; want nothing", got)
			}
		})
	}
}

// Cancel and confirm race; whichever wins, charge and ledger say the same.
func TestChargeCanceledWhileUnderWay(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"payment_created", "payment_linked", "payment_recorded", "confirm_answered"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.buyer("pm_card_visa")
			e := p.charge("")
			w.runUntil(point)
			p.updateCharge(e.Event.Subject, events.CancelCharge{})
			w.start()
			c := w.until(events.EntityCharge, e.Event.Subject, func(e *events.Event) bool { return e.Data.Charge.Status.Final() }).Data.Charge
			want := events.ChargeStatusCanceled
			if point == "confirm_answered" {
				want = events.ChargeStatusSucceeded
			}
			if c.Status != want {
				t.Errorf("the charge is %s, want %s", c.Status, want)
			}
			w.eventually("ledger agrees", func() bool {
				list := w.payments(c.ID)
				return len(list) == 1 && list[0].Status == string(want)
			})
		})
	}
	t.Run("requires_action", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		p := w.buyer("pm_card_authenticationRequired")
		w.start()
		c := w.untilCharge(p.charge("https://example.com/back").Event.Subject, events.ChargeStatusRequiresAction)
		p.updateCharge(c.ID, events.CancelCharge{})
		w.untilCharge(c.ID, events.ChargeStatusCanceled)
		if got := w.payments(c.ID); got[0].Status != "canceled" {
			t.Errorf("ledger is %+v", got)
		}
	})
}

// The cancellation is asked for while the provider is being asked how the payment stands: no money is taken after that.
func TestChargeCanceledWhileItIsLookedAt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	e := p.charge("")
	w.runUntil("payment_recorded")
	meddle := func(r *http.Request) {
		if r.Method == http.MethodGet {
			w.meddle.Store(nil)
			p.updateCharge(e.Event.Subject, events.CancelCharge{})
		}
	}
	w.meddle.Store(&meddle)
	if got := w.worker().CarryOut(t.Context(), w.message(e, 2)); got != eventlog.Done() {
		t.Fatalf("%+v\n%s", got, w.logs)
	}
	c := w.state(events.EntityCharge, e.Event.Subject).Data.Charge
	if list := w.payments(c.ID); c.Status != events.ChargeStatusCanceled || list[0].Captures != 0 || list[0].Status != "canceled" {
		t.Errorf("the charge is %s, ledger is %+v", c.Status, list)
	}
}

// The payment is recorded, by a worker that dies then, between the look at the charge and its cancellation: the payment is
// canceled too.
func TestChargeCanceledWhileItsPaymentIsRecorded(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"the cancellation", "the charge's request"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.buyer("pm_card_visa")
			e := p.charge("")
			p.updateCharge(e.Event.Subject, events.CancelCharge{})
			asked, err := w.log.LoadFromLeader(t.Context(), events.EntityCharge, e.Event.Subject)
			if err != nil {
				t.Fatal(err)
			}
			var made struct{ ID string }
			w.post("/v1/payment_intents", url.Values{
				"amount": {"4900"}, "currency": {"usd"}, "customer": {p.cus}, "payment_method": {p.pm}, "payment_method_types[]": {"card"},
				"metadata[paykit_env]": {w.log.Env()}, "metadata[paykit_charge]": {e.Event.Subject},
			}, &made)
			worker := w.worker()
			recorded := false
			worker.StopAt(func(point string) error {
				if point == "payment_unmade" && !recorded {
					recorded = true
					p.updateCharge(e.Event.Subject, events.PaymentObserved{Payment: events.Payment{ID: made.ID, Status: events.PaymentRequiresConfirmation}})
				}
				return nil
			})
			message := w.message(asked, 1)
			if by == "the charge's request" {
				message = w.message(e, 1)
			}
			if worker.CarryOut(t.Context(), message) == eventlog.Done() {
				t.Fatal("done, and the payment can still be paid")
			}
			message.Attempt++
			if got := worker.CarryOut(t.Context(), message); got != eventlog.Done() {
				t.Fatalf("%+v\n%s", got, w.logs)
			}
			c := w.state(events.EntityCharge, e.Event.Subject).Data.Charge
			if list := w.payments(c.ID); c.Status != events.ChargeStatusCanceled || len(list) != 1 || list[0].Status != "canceled" {
				t.Errorf("the charge is %s, ledger is %+v", c.Status, list)
			}
		})
	}
}

// The charge ends between the making of its payment and the recording of it: the payment must never be paid.
func TestChargeEndedWhileItsPaymentIsMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	e := p.charge("")
	worker := w.worker()
	worker.OneAfterTheOther()
	worker.StopAt(func(point string) error {
		if point == "payment_linked" {
			p.updateCharge(e.Event.Subject, events.PaymentObserved{Payment: events.Payment{Status: events.PaymentCanceled}})
		}
		return nil
	})
	if got := worker.CarryOut(t.Context(), w.message(e, 1)); got != eventlog.Done() {
		t.Fatalf("%+v\n%s", got, w.logs)
	}
	if got := w.payments(e.Event.Subject); len(got) != 1 || got[0].Status != "canceled" {
		t.Errorf("ledger is %+v; want the payment canceled", got)
	}
	if diff := cmp.Diff([]string{"requested", "canceled"}, w.history(events.EntityCharge, e.Event.Subject)); diff != "" {
		t.Error("events (-want +got)", diff)
	}
}

// The same, by a worker that is killed before it comes to that: the next one finds the payment and cancels it.
func TestChargeEndedWhileItsPaymentIsMadeByOneThatDies(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		end  events.ChargeInput
		want events.ChargeStatus
	}{
		{"canceled", events.PaymentObserved{Payment: events.Payment{Status: events.PaymentCanceled}}, events.ChargeStatusCanceled},
		{"failed", events.ChargeRejected{Failure: events.NewFailure(events.FailureCustomerDeleted, "")}, events.ChargeStatusFailed},
	} {
		for _, first := range []string{"its end", "its request"} {
			t.Run(tt.name+", then "+first, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				p := w.buyer("pm_card_visa")
				e := p.charge("")
				dying := w.worker()
				dying.StopAt(func(point string) error {
					if point == "payment_created" {
						return provider.ErrStopped
					}
					return nil
				})
				dying.CarryOut(t.Context(), w.message(e, 1))
				p.updateCharge(e.Event.Subject, tt.end)
				next := w.message(e, 2)
				if first == "its end" {
					ended, err := w.log.LoadFromLeader(t.Context(), events.EntityCharge, e.Event.Subject)
					if err != nil {
						t.Fatal(err)
					}
					next = w.message(ended, 1)
				}
				if got := w.worker().CarryOut(t.Context(), next); got != eventlog.Done() {
					t.Fatalf("%+v\n%s", got, w.logs)
				}
				if got := w.payments(e.Event.Subject); len(got) != 1 || got[0].Status != "canceled" {
					t.Errorf("ledger is %+v; want the payment canceled", got)
				}
				if c := w.state(events.EntityCharge, e.Event.Subject).Data.Charge; c.Status != tt.want {
					t.Errorf("the charge is %s", c.Status)
				}
			})
		}
	}
}

// A charge that ended before anything was made: the request that comes again makes nothing.
func TestChargeEndedBeforeItsPaymentIsMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	e := p.charge("")
	p.updateCharge(e.Event.Subject, events.PaymentObserved{Payment: events.Payment{Status: events.PaymentCanceled}})
	for attempt := 1; attempt <= 2; attempt++ {
		if got := w.worker().CarryOut(t.Context(), w.message(e, attempt)); got != eventlog.Done() {
			t.Errorf("%+v\n%s", got, w.logs)
		}
	}
	if got := w.payments(e.Event.Subject); len(got) != 0 {
		t.Errorf("ledger is %+v", got)
	}
}

// A payment that wants the buyer and has no page for it ends; nobody could ever act on it.
func TestChargeThatWantsTheBuyerWithoutAPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_authenticationRequired")
	e := p.charge("")
	w.runUntil("payment_recorded")
	pi := w.state(events.EntityCharge, e.Event.Subject).Data.Charge.ProviderPaymentID
	w.post("/v1/payment_intents/"+pi+"/confirm", url.Values{"payment_method": {p.pm}}, nil)
	w.start()
	c := w.untilCharge(e.Event.Subject, events.ChargeStatusFailed)
	if c.Failure == nil || c.Failure.Code != events.FailureAuthenticationRequired {
		t.Errorf("failure is %+v", c.Failure)
	}
	w.eventually("the payment is canceled", func() bool { return w.payments(c.ID)[0].Status == "canceled" })
}
