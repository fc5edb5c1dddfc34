package provider_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paykit-go/paykit/internal/events"
)

const backURL = "https://example.com/back"

// authenticate has the buyer act on a payment's page. Its page may be gone by then, which the buyer sees and nobody else.
func (w *world) authenticate(paymentID, outcome string) {
	w.t.Helper()
	body := strings.NewReader(`{"outcome":"` + outcome + `"}`)
	if _, _, err := w.send(http.MethodPost, "/_sandbox/3ds/"+paymentID, "application/json", body); err != nil {
		w.t.Fatal(err)
	}
}

// oneEnd checks that a charge ended once.
func (w *world) oneEnd(id string, want events.ChargeStatus) {
	w.t.Helper()
	ends := 0
	list := w.history(events.EntityCharge, id)
	for _, end := range []events.ChargeStatus{events.ChargeStatusSucceeded, events.ChargeStatusFailed, events.ChargeStatusCanceled} {
		if slices.Contains(list, string(end)) {
			ends++
		}
	}
	if ends != 1 || list[len(list)-1] != string(want) {
		w.t.Errorf("events are %v; want one end, %s", list, want)
	}
}

// Authentication is a way forward: whatever else happens while the buyer has the page, there is one charge and one end.
func TestAuthenticationRaces(t *testing.T) {
	t.Parallel()
	const card = "pm_card_authenticationRequired"
	for _, tt := range []struct {
		name, card string
		then       func(w *world, p *person, c *events.Charge) // while no worker runs
		want       events.ChargeStatus
		code       string
		captures   int
	}{
		{"link opened twice", card, func(w *world, _ *person, c *events.Charge) {
			w.authenticate(c.ProviderPaymentID, "complete")
			w.authenticate(c.ProviderPaymentID, "complete")
		}, events.ChargeStatusSucceeded, "", 1},
		{"link opened twice, failed in the second tab", card, func(w *world, _ *person, c *events.Charge) {
			w.authenticate(c.ProviderPaymentID, "complete")
			w.authenticate(c.ProviderPaymentID, "fail")
		}, events.ChargeStatusSucceeded, "", 1},
		{"expired", card, func(w *world, _ *person, _ *events.Charge) {
			w.advance(events.ActionLife + time.Minute)
		}, events.ChargeStatusCanceled, events.FailureActionExpired, 0},
		{"expired, authenticated in the last moment", card, func(w *world, _ *person, c *events.Charge) {
			w.authenticate(c.ProviderPaymentID, "complete")
			w.advance(events.ActionLife + time.Minute)
		}, events.ChargeStatusSucceeded, "", 1},
		{"canceled meanwhile", card, func(_ *world, p *person, c *events.Charge) {
			p.updateCharge(c.ID, events.CancelCharge{})
		}, events.ChargeStatusCanceled, "", 0},
		{"canceled, after the buyer's success", card, func(w *world, p *person, c *events.Charge) {
			w.authenticate(c.ProviderPaymentID, "complete")
			p.updateCharge(c.ID, events.CancelCharge{})
		}, events.ChargeStatusSucceeded, "", 1},
		{"authenticated and then declined", card, func(w *world, p *person, c *events.Charge) {
			p.declineNext(1)
			w.authenticate(c.ProviderPaymentID, "complete")
		}, events.ChargeStatusFailed, events.FailureCardDeclined, 0},
		{"authentication failed", card, func(w *world, _ *person, c *events.Charge) {
			w.authenticate(c.ProviderPaymentID, "fail")
		}, events.ChargeStatusFailed, events.FailureAuthenticationFailed, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.buyer(tt.card)
			stop := w.start()
			c := w.untilCharge(p.charge(backURL).Event.Subject, events.ChargeStatusRequiresAction)
			stop()
			tt.then(w, p, c)
			w.start()
			c = w.untilCharge(c.ID, tt.want)
			if tt.code != "" && (c.Failure == nil || c.Failure.Code != tt.code) {
				t.Errorf("failure is %+v", c.Failure)
			}
			if tt.want != events.ChargeStatusSucceeded {
				w.eventually("nobody can pay it any more", func() bool { return w.payments(c.ID)[0].Status == "canceled" })
			}
			if list := w.payments(c.ID); len(list) != 1 || list[0].Captures != tt.captures {
				t.Errorf("ledger is %+v", list)
			}
			w.oneEnd(c.ID, tt.want)
		})
	}
}

// The worker is killed at each point of the step; the buyer acts before or after the next one runs.
func TestAuthenticationAfterACrash(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"payment_recorded", "confirm_answered", "authenticate_answered", "payment_settled"} {
		for _, early := range []bool{false, true} {
			name := point + ", acted after the restart"
			if early {
				name = point + ", acted before the restart"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				p := w.buyer("pm_card_authenticationRequired")
				e := p.charge(backURL)
				w.runUntil(point)
				pi := w.state(events.EntityCharge, e.Event.Subject).Data.Charge.ProviderPaymentID
				if early {
					w.authenticate(pi, "complete") // where there is a page already
				}
				w.start()
				c := w.until(events.EntityCharge, e.Event.Subject, func(e *events.Event) bool {
					s := e.Data.Charge.Status
					return s == events.ChargeStatusRequiresAction || s.Final()
				}).Data.Charge
				w.authenticate(pi, "complete")
				c = w.untilCharge(c.ID, events.ChargeStatusSucceeded)
				w.oneCapture(c.ID)
				w.oneEnd(c.ID, events.ChargeStatusSucceeded)
			})
		}
	}
}

// The buyer is quicker than the answer: the success is delivered before the worker has recorded that the buyer is wanted.
func TestAuthenticationWebhookBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_authenticationRequired")
	e := p.charge(backURL)
	worker := w.worker()
	worker.StopAt(func(point string) error {
		if point == "authenticate_answered" {
			pi := w.state(events.EntityCharge, e.Event.Subject).Data.Charge.ProviderPaymentID
			w.authenticate(pi, "complete")
			p.updateCharge(e.Event.Subject, events.PaymentObserved{Payment: events.Payment{ID: pi, Status: events.PaymentSucceeded}})
		}
		return nil
	})
	worker.CarryOut(t.Context(), w.message(e, 1))
	w.last(e.Event.Subject, events.ChargeStatusSucceeded)
	w.oneCapture(e.Event.Subject)
	w.oneEnd(e.Event.Subject, events.ChargeStatusSucceeded)
}
