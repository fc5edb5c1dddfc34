package provider_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/provider"
)

// inSmallPages has the sandbox give its events one a page, and tells of each page that is asked for.
func (w *world) inSmallPages(asked func(n int)) {
	n := 0
	small := func(r *http.Request) {
		if r.Method == http.MethodGet && r.URL.Path == "/v1/events" {
			q := r.URL.Query()
			q.Set("limit", "1")
			r.URL.RawQuery = q.Encode()
			n++
			asked(n)
		}
	}
	w.meddle.Store(&small)
}

// longReads are the calls that read page by page.
func longReads(api provider.API) map[string]func(ctx context.Context) error {
	sought := provider.Sought{Owner: events.Owner{Charge: "chg_none"}, Since: time.Now().Add(-time.Hour)}
	return map[string]func(ctx context.Context) error{
		"deliveries": func(ctx context.Context) error {
			return api.ListDeliveries(ctx, sought.Since, func([]byte) error { return nil })
		},
		"payments' events": func(ctx context.Context) error {
			_, err := api.SawPayment(ctx, sought)
			return err
		},
		"refunds' events": func(ctx context.Context) error {
			_, _, err := api.SawRefund(ctx, sought)
			return err
		},
	}
}

// eventful has the sandbox hold some events of each of these kinds.
func (w *world) eventful() {
	w.t.Helper()
	p := w.buyer("pm_card_visa")
	for range 3 {
		var pi struct{ ID string }
		w.post("/v1/payment_intents", url.Values{
			"amount": {"100"}, "currency": {"usd"}, "customer": {p.cus}, "payment_method": {p.pm}, "confirm": {"true"}, "off_session": {"true"}, "payment_method_types[]": {"card"},
		}, &pi)
		w.post("/v1/refunds", url.Values{"payment_intent": {pi.ID}}, nil)
	}
}

// Every page waits for its turn, as the one call of another read would.
func TestEachPageWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	for name := range longReads(nil) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.eventful()
			w.inSmallPages(func(int) {})
			read := longReads(provider.Guard(stripeID, w.api, 0.001, time.Now))[name] // one call, and the next in a quarter of an hour
			w.called()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := read(ctx)
			e, ok := errors.AsType[*provider.Error](err)
			if n := len(w.called()); n != 1 || !ok || e.Code != "rate_limit_here" || e.Class != provider.Transient {
				t.Errorf("after %d pages: %v", n, err)
			}
		})
	}
}

// A pause that is asked for, or a key that is refused, between two pages ends the reading; and none begins meanwhile.
func TestPagesKeepThePause(t *testing.T) {
	t.Parallel()
	for name := range longReads(nil) {
		for _, tt := range []struct{ fault, code string }{
			{`"status":429,"code":"rate_limit","headers":{"Retry-After":"30"}`, "asked_to_wait"},
			{`"status":401,"code":"api_key_expired"`, "api_key_expired"},
		} {
			t.Run(name+" "+tt.code, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.eventful()
				api := provider.Guard(stripeID, w.api, 1000, time.Now)
				read := longReads(api)[name]
				w.fault(`{"operation":"payment_intents.retrieve","kind":"status",` + tt.fault + `}`)
				pages := 0
				w.inSmallPages(func(n int) {
					pages = n
					if n == 2 {
						_, _ = api.Payment(t.Context(), "pi_1")
					}
				})
				for range 2 {
					err := read(t.Context())
					if e, ok := errors.AsType[*provider.Error](err); pages != 2 || !ok || e.Code != tt.code {
						t.Errorf("after %d pages: %v", pages, err)
					}
				}
			})
		}
	}
}

// The call that finds out whether the key works again may be many requests.
func TestTheCallThatFindsOutReadsToItsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.eventful()
	w.inSmallPages(func(int) {})
	api := provider.Guard(stripeID, w.api, 1000, w.now)
	w.fault(`{"operation":"payment_intents.retrieve","kind":"status","status":401}`)
	if _, err := api.Payment(t.Context(), "pi_1"); provider.ClassOf(err) != provider.Blocked {
		t.Fatal(err)
	}
	w.advance(time.Minute)
	if err := longReads(api)["payments' events"](t.Context()); err != nil || api.Ready() != nil {
		t.Errorf("it ended with %v, ready: %v", err, api.Ready())
	}
}

// A long read that fails says nothing against the provider; and an open breaker holds it back like any call.
func TestWitnessesAndTheBreaker(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	api := provider.Guard(stripeID, w.api, 1000, time.Now)
	w.fault(`{"operation":"events.list","times":1000,"kind":"status","status":500}`)
	for range 11 { // one more than opens it
		for name, read := range longReads(api) {
			if err := read(t.Context()); err == nil {
				t.Fatal(name, "has no error")
			}
		}
	}
	if _, err := api.Payment(t.Context(), "pi_1"); provider.ClassOf(err) != provider.Invalid {
		t.Errorf("it paused all calls: %v", err)
	}
	w.fault(`{"operation":"payment_intents.retrieve","times":1000,"kind":"status","status":500}`)
	for range 10 {
		_, _ = api.Payment(t.Context(), "pi_1")
	}
	w.called()
	for name, read := range longReads(api) {
		err := read(t.Context())
		if e, ok := errors.AsType[*provider.Error](err); !ok || e.Code != "breaker_open" || len(w.called()) != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A refund whose key is forgotten, in an account with more events than are read: it is not made again, and a person is
// asked to look.
func TestRefundThatTheEventsAreTooManyFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	stop := w.start()
	c := p.paid()
	stop()
	p.refund(c.ID)
	requested := w.last(c.ID, events.ChargeStatusSucceeded)
	var pi struct{ ID string }
	w.post("/v1/payment_intents", url.Values{
		"amount": {"2500"}, "currency": {"usd"}, "customer": {p.cus}, "payment_method": {p.pm}, "confirm": {"true"}, "off_session": {"true"}, "payment_method_types[]": {"card"},
	}, &pi)
	for range 21 {
		w.post("/v1/refunds", url.Values{"payment_intent": {pi.ID}, "amount": {"100"}}, nil)
	}
	w.inSmallPages(func(int) {})
	w.advance(25 * time.Hour)
	worker := w.worker()
	w.called()
	for attempt := 2; attempt <= 4; attempt++ {
		if got := worker.CarryOut(t.Context(), w.message(requested, attempt)); !retriesAfter(got, 30*time.Minute) {
			t.Errorf("%+v\n%s", got, w.logs)
		}
	}
	if n := w.made("/v1/refunds"); n != 0 {
		t.Errorf("made %d times", n)
	}
	if now := w.last(c.ID, events.ChargeStatusSucceeded).Event.Data.Charge; now.Review == nil {
		t.Errorf("nobody is asked to look: %+v", now)
	}
}

// A payment takes no money before it is confirmed, so there the events that are read are enough.
func TestPaymentThatTheEventsAreTooManyFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	for range 21 {
		w.post("/v1/payment_intents", url.Values{"amount": {"100"}, "currency": {"usd"}, "customer": {p.cus}}, nil)
	}
	e := p.charge("")
	w.inSmallPages(func(int) {})
	w.advance(25 * time.Hour)
	worker := w.worker()
	worker.CarryOut(t.Context(), w.message(e, 2))
	w.advance(6 * time.Minute)
	if got := worker.CarryOut(t.Context(), w.message(e, 3)); got != eventlog.Done() {
		t.Fatalf("%+v\n%s", got, w.logs)
	}
	w.last(e.Event.Subject, events.ChargeStatusSucceeded)
	w.oneCapture(e.Event.Subject)
}
