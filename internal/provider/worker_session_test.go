package provider_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/provider"
)

func checkoutIs(status events.SessionState) func(*events.Event) bool {
	return func(e *events.Event) bool { return e.Data.Checkout.Status == status }
}

func setupIs(status events.SessionState) func(*events.Event) bool {
	return func(e *events.Event) bool { return e.Data.Setup.Status == status }
}

// A checkout on a customer that no provider knows yet, paid without a single webhook.
func TestCheckoutIsMadeAndSettled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.person()
	w.start()
	id := p.checkout().Event.Subject
	c := w.until(events.EntityCheckout, id, checkoutIs(events.StateCreated)).Data.Checkout
	if !strings.HasPrefix(c.URL, "http") || c.ProviderSessionID == "" || c.ExpiresAt == nil {
		t.Fatalf("the created checkout is %+v", c)
	}
	if diff := cmp.Diff([]string{"linked"}, w.history(events.EntityProviderAccount, p.account())); diff != "" {
		t.Error("account (-want +got)", diff)
	}
	w.control("/_sandbox/checkout/"+c.ProviderSessionID+"/complete", `{"card":"4242424242424242"}`)
	c = w.until(events.EntityCheckout, id, checkoutIs(events.StateCompleted)).Data.Checkout
	if c.ChargeID != events.CheckoutChargeID(id) || c.URL != "" {
		t.Errorf("the completed checkout is %+v", c)
	}
	charge := w.untilCharge(c.ChargeID, events.ChargeStatusSucceeded)
	if charge.CheckoutID != id || charge.CustomerID != p.ref.ID || charge.ReportedByProvider {
		t.Errorf("its charge is %+v", charge)
	}
	w.oneCapture(charge.ID)
	if link, err := w.log.Link(t.Context(), stripeID, charge.ProviderPaymentID); err != nil || link.ID != charge.ID {
		t.Errorf("the payment's link is %+v, %v", link, err)
	}
	// attachMethod: the card is saved, and can be charged.
	m := w.until(events.EntityPaymentMethod, charge.PaymentMethodID, func(e *events.Event) bool { return e.Data.PaymentMethod.Live() })
	p.meth = m.Subject
	again := w.untilCharge(p.charge("").Event.Subject, events.ChargeStatusSucceeded)
	w.oneCapture(again.ID)
}

func TestCheckoutSurvivesKills(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"customer_created", "customer_linked", "session_created"} {
		for _, age := range []time.Duration{0, 30 * time.Hour} {
			t.Run(point+" "+age.String(), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				p := w.person()
				id := p.checkout().Event.Subject
				w.runUntil(point)
				w.control("/_sandbox/clock/advance", `{"by":"`+age.String()+`"}`)
				w.advance(age)
				w.start()
				want := events.StateCreated
				if age > 0 && point == "session_created" {
					want = events.StateExpired // the page was found, and its day is over
				}
				w.until(events.EntityCheckout, id, checkoutIs(want))
				var customers, sessions struct {
					Data []struct {
						ID string `json:"id"`
					} `json:"data"`
				}
				w.get("/v1/customers", &customers)
				w.get("/v1/checkout/sessions", &sessions)
				if len(customers.Data) != 1 || len(sessions.Data) != 1 {
					t.Errorf("%d customers and %d pages were made", len(customers.Data), len(sessions.Data))
				}
			})
		}
	}
}

func TestCheckoutExpires(t *testing.T) {
	t.Parallel()
	expire := func(p *person, id string) {
		p.w.append(events.EntityCheckout, id, p.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
			return events.DecideCheckout(last, events.ExpireCheckout{}, c)
		})
	}
	t.Run("on demand", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		p := w.person()
		w.start()
		c := w.until(events.EntityCheckout, p.checkout().Event.Subject, checkoutIs(events.StateCreated)).Data.Checkout
		expire(p, c.ID)
		w.until(events.EntityCheckout, c.ID, checkoutIs(events.StateExpired))
		if got := w.sessionStatus(c.ProviderSessionID); got != "expired" {
			t.Errorf("the page is %s", got)
		}
	})
	t.Run("paid a moment before", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		p := w.person()
		stop := w.start()
		c := w.until(events.EntityCheckout, p.checkout().Event.Subject, checkoutIs(events.StateCreated)).Data.Checkout
		stop()
		w.control("/_sandbox/checkout/"+c.ProviderSessionID+"/complete", `{"card":"4242424242424242"}`)
		expire(p, c.ID)
		w.start()
		w.until(events.EntityCheckout, c.ID, checkoutIs(events.StateCompleted))
		w.untilCharge(events.CheckoutChargeID(c.ID), events.ChargeStatusSucceeded)
	})
	t.Run("before its page is known", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		p := w.person()
		id := p.checkout().Event.Subject
		w.runUntil("session_created")
		expire(p, id)
		w.start()
		c := w.until(events.EntityCheckout, id, checkoutIs(events.StateExpired)).Data.Checkout
		if got := w.sessionStatus(c.ProviderSessionID); got != "expired" {
			t.Errorf("the page that nobody knew is %s", got)
		}
	})
	t.Run("by itself, unseen", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		p := w.person()
		w.start()
		id := p.checkout().Event.Subject
		w.until(events.EntityCheckout, id, checkoutIs(events.StateCreated))
		w.control("/_sandbox/clock/advance", `{"by":"25h"}`)
		w.until(events.EntityCheckout, id, checkoutIs(events.StateExpired))
	})
}

// The page is recorded, by a worker that knows nothing of the wish, between the look for it and the checkout's end.
func TestCheckoutExpiresWhileItsPageIsRecorded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.person()
	id := p.checkout().Event.Subject
	asked := w.append(events.EntityCheckout, id, p.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecideCheckout(last, events.ExpireCheckout{}, c)
	})
	cus, err := w.api.CreateCustomer(t.Context(), "setup", events.Owner{Env: w.log.Env(), Customer: p.ref.ID})
	if err != nil {
		t.Fatal(err)
	}
	page, err := w.api.CreateSession(t.Context(), "page", provider.SessionRequest{
		CustomerID: cus, Owner: events.Owner{Customer: p.ref.ID, Checkout: id}, Amount: 4900, Currency: "usd", SuccessURL: "https://example.com/ok",
	})
	if err != nil {
		t.Fatal(err)
	}
	worker := w.worker()
	recorded := false
	worker.StopAt(func(point string) error {
		if point == "page_unmade" && !recorded {
			recorded = true
			w.append(events.EntityCheckout, id, p.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
				return events.DecideCheckout(last, events.CheckoutObserved{Session: page}, c)
			})
		}
		return nil
	})
	message := w.message(asked, 1)
	if worker.CarryOut(t.Context(), message) == eventlog.Done() {
		t.Error("done, and the page is open")
	}
	message.Attempt++
	if got := worker.CarryOut(t.Context(), message); got != eventlog.Done() {
		t.Errorf("%+v\n%s", got, w.logs)
	}
	w.until(events.EntityCheckout, id, checkoutIs(events.StateExpired))
	if got := w.sessionStatus(page.ID); got != "expired" {
		t.Errorf("the page is %s", got)
	}
}

func (w *world) sessionStatus(id string) string {
	w.t.Helper()
	var s struct {
		Status string `json:"status"`
	}
	w.get("/v1/checkout/sessions/"+id, &s)
	return s.Status
}

func TestCheckoutRejected(t *testing.T) {
	t.Parallel()
	t.Run("customer deleted", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		p := w.person()
		checkout, setup := p.checkout().Event.Subject, p.setup().Event.Subject
		p.delete()
		w.start()
		c := w.until(events.EntityCheckout, checkout, checkoutIs(events.StateFailed)).Data.Checkout
		s := w.until(events.EntitySetup, setup, setupIs(events.StateFailed)).Data.Setup
		if c.Failure.Code != events.FailureCustomerDeleted || s.Failure.Code != events.FailureCustomerDeleted {
			t.Errorf("failures are %+v and %+v", c.Failure, s.Failure)
		}
	})
	t.Run("refused by the provider", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		p := w.person()
		w.fault(`{"operation":"checkout_sessions.create","times":2,"kind":"status","status":400}`)
		w.start()
		c := w.until(events.EntityCheckout, p.checkout().Event.Subject, checkoutIs(events.StateFailed)).Data.Checkout
		s := w.until(events.EntitySetup, p.setup().Event.Subject, setupIs(events.StateFailed)).Data.Setup
		if c.Failure.Code != events.FailureProviderRejected || s.Failure.Code != events.FailureProviderRejected {
			t.Errorf("failures are %+v and %+v", c.Failure, s.Failure)
		}
	})
}

func TestCheckoutOfAVanishedCustomer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	w.do("DELETE", "/v1/customers/"+p.cus, "", strings.NewReader(""), nil)
	w.start()
	w.until(events.EntityCheckout, p.checkout().Event.Subject, checkoutIs(events.StateCreated))
	if diff := cmp.Diff([]string{"linked", "unlinked", "linked"}, w.history(events.EntityProviderAccount, p.account())); diff != "" {
		t.Error("account (-want +got)", diff)
	}
}

func TestSetupIsMadeAndSettled(t *testing.T) {
	t.Parallel()
	for _, asked := range []bool{false, true} {
		name := "settled"
		if asked {
			name = "refreshed"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.person()
			worker := w.worker()
			if asked {
				worker.LookAfter(time.Hour, time.Hour, time.Second) // so that only the request can do it
			}
			w.run(worker)
			id := p.setup().Event.Subject
			s := w.until(events.EntitySetup, id, setupIs(events.StateCreated)).Data.Setup
			w.control("/_sandbox/checkout/"+s.ProviderSessionID+"/complete", `{"card":"4242424242424242"}`)
			if asked {
				// A delivery that does not name the method.
				w.append(events.EntitySetup, id, p.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
					return events.DecideSetup(last, events.SetupSessionObserved{Session: events.Session{
						ID: s.ProviderSessionID, Setup: true, Status: events.SessionComplete,
					}}, c)
				})
			}
			s = w.until(events.EntitySetup, id, setupIs(events.StateCompleted)).Data.Setup
			m := w.state(events.EntityPaymentMethod, s.PaymentMethodID)
			if m == nil || m.Data.PaymentMethod.Last4 != "4242" || m.CustomerID() != p.ref.ID {
				t.Fatalf("the saved method is %+v", m)
			}
			p.meth = m.Subject
			w.oneCapture(w.untilCharge(p.charge("").Event.Subject, events.ChargeStatusSucceeded).ID)
		})
	}
}
