package provider_test

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/provider"
)

// A provider that asks for a pause gets none of the calls, whatever they are about; one whose object is busy gets the
// others.
func TestWhoIsAskedToWait(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, fault string
		rest        time.Duration
	}{
		{"too many calls", `"status":429,"code":"rate_limit","headers":{"Retry-After":"30"}`, 30 * time.Second},
		{"too many calls, for as long as it takes", `"status":429,"code":"rate_limit"`, time.Second},
		{"unavailable for a while", `"status":503,"headers":{"Retry-After":"20"}`, 20 * time.Second},
		{"for longer than it may ask", `"status":429,"headers":{"Retry-After":"3600"}`, 5 * time.Minute},
		{"a busy object", `"status":429,"code":"lock_timeout","headers":{"Retry-After":"30"}`, 0},
		{"a conflict", `"status":409,"code":"idempotency_key_in_use","headers":{"Retry-After":"30"}`, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			var offset atomic.Int64
			api := provider.Guard(stripeID, w.api, 1000, func() time.Time { return time.Unix(1_800_000_000, 0).Add(time.Duration(offset.Load())) })
			w.fault(`{"operation":"payment_intents.retrieve","kind":"status",` + tt.fault + `}`)
			call := func() *provider.Error {
				_, err := api.Payment(t.Context(), "pi_1")
				e, ok := errors.AsType[*provider.Error](err)
				if !ok {
					t.Fatalf("got %v", err)
				}
				return e
			}
			if e := call(); e.Class != provider.Transient {
				t.Fatalf("the first call: %v", e)
			}
			if tt.rest > 0 {
				offset.Store(int64(tt.rest - time.Millisecond))
				w.called()
				if e := call(); e.Code != "asked_to_wait" || e.Class != provider.Transient || e.RetryAfter != time.Millisecond || len(w.called()) != 0 {
					t.Errorf("a moment before the end of the pause: %v, again after %s", e, e.RetryAfter)
				}
				offset.Store(int64(tt.rest))
			}
			if e := call(); !e.NotFound {
				t.Errorf("after it: %v", e)
			}
		})
	}
}

// The pause is kept by the worker's retries too: the same call, under the same key, not before its time.
func TestRetriesKeepThePause(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	w.fault(`{"operation":"payment_intents.create","kind":"status","status":429,"headers":{"Retry-After":"600","Stripe-Should-Retry":"true"}}`)
	worker := w.worker()
	e := p.charge("")
	got := worker.CarryOut(t.Context(), w.message(e, 1))
	if !retriesAfter(got, 10*time.Minute) {
		t.Errorf("%+v", got)
	}
	w.called()
	worker.CarryOut(t.Context(), w.message(e, 2))
	if calls := w.called(); len(calls) != 0 {
		t.Errorf("called meanwhile: %v", calls)
	}
	w.advance(11 * time.Minute)
	worker.CarryOut(t.Context(), w.message(e, 3))
	w.last(e.Event.Subject, events.ChargeStatusSucceeded)
	w.oneCapture(e.Event.Subject)
}

// Stripe-Should-Retry: false on a server error, whether or not the call was carried out: the confirm is not sent again, the
// charge is in doubt, and the payment is asked for.
func TestConfirmThatMustNotBeRepeated(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"before", "after"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.buyer("pm_card_visa")
			w.fault(`{"operation":"payment_intents.confirm","kind":"status","status":500,"when":"` + when + `","headers":{"Stripe-Should-Retry":"false"}}`)
			e := p.charge("")
			w.worker().CarryOut(t.Context(), w.message(e, 1))
			w.last(e.Event.Subject, events.ChargeStatusInDoubt)
			if n := w.confirms(); n != 1 {
				t.Errorf("%d confirms", n)
			}
			w.start()
			w.untilCharge(e.Event.Subject, events.ChargeStatusSucceeded)
			w.oneCapture(e.Event.Subject)
		})
	}
}

// The same of a further attempt.
func TestAttemptThatMustNotBeRepeated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	p.declineNext(1)
	id := p.retryCharge(step).Event.Subject
	w.runUntil("retry_requested")
	w.fault(`{"operation":"payment_intents.confirm","kind":"status","status":500,"when":"before","headers":{"Stripe-Should-Retry":"false"}}`)
	w.called()
	due := w.last(id, events.ChargeStatusFailed)
	w.worker().CarryOut(t.Context(), w.message(due, 1))
	if c := w.last(id, events.ChargeStatusFailed).Event.Data.Charge; c.Retry.Status != events.RetryInDoubt || w.confirms() != 1 {
		t.Fatalf("it is %+v\n%s", c.Retry, w.logs)
	}
	w.start()
	w.untilCharge(id, events.ChargeStatusSucceeded)
	w.oneCapture(id)
}

// The key was used with other parameters, as by an earlier version of this program: that call has ended, so the provider
// is asked what there is, and goes on under another key.
func TestKeyThatWasUsedOtherwise(t *testing.T) {
	t.Parallel()
	for _, taken := range []string{"create", "confirm"} {
		t.Run(taken, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.buyer("pm_card_visa")
			e := p.charge("")
			key := "paykit:" + w.log.Env() + ":" + e.Event.Subject + ":" + taken
			_, err := w.api.CreatePayment(t.Context(), key, provider.PaymentRequest{
				CustomerID: p.cus, MethodID: p.pm, Amount: 100, Currency: "usd", Owner: events.Owner{Env: w.log.Env(), Charge: "chg_other"},
			})
			if err != nil {
				t.Fatal(err)
			}
			w.worker().CarryOut(t.Context(), w.message(e, 1))
			w.last(e.Event.Subject, events.ChargeStatusSucceeded)
			w.oneCapture(e.Event.Subject)
		})
	}
}

// Each write says which try it belongs to, in the request and in the figures.
func TestAttemptsAreShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	var mu sync.Mutex
	var shown []string
	see := func(r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path == "/v1/payment_intents" {
			mu.Lock()
			defer mu.Unlock()
			shown = append(shown, r.Header.Get("Paykit-Attempt"))
		}
	}
	w.fault(`{"operation":"payment_intents.create","times":2,"kind":"status","status":409}`)
	w.meddle.Store(&see)
	worker := w.worker()
	e := p.charge("")
	for attempt := 1; attempt <= 3; attempt++ {
		worker.CarryOut(t.Context(), w.message(e, attempt))
	}
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(shown, " "); got != "1 2 3" {
		t.Errorf("attempts shown: %s", got)
	}
	if got := w.gauge("paykit_provider_repeated_calls_total", "payments.create"); got != 2 {
		t.Errorf("%v repeated calls counted", got)
	}
	if !strings.Contains(w.logs.String(), `"attempt":2`) {
		t.Errorf("no attempt in the log\n%s", w.logs)
	}
	w.oneCapture(e.Event.Subject)
}

// A provider that is down gets a rest, and its requests go on by themselves when it is back.
func TestProviderThatIsDownComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	w.fault(`{"operation":"*","times":3,"kind":"status","status":503}`)
	worker := provider.NewWorker(w.log, map[string]provider.API{stripeID: w.client()}, provider.WorkerConfig{
		Logger: zerolog.New(w.logs), Now: w.now, Registerer: w.metrics, TripAfter: 3,
	})
	worker.LookAfter(100*time.Millisecond, 300*time.Millisecond, 50*time.Millisecond)
	e := p.charge("")
	for attempt := 1; attempt <= 3; attempt++ {
		worker.CarryOut(t.Context(), w.message(e, attempt))
	}
	w.called()
	got := worker.CarryOut(t.Context(), w.message(e, 1000))
	if w.gauge("paykit_provider_paused", stripeID) != 1 || len(w.called()) != 0 || !retriesAfter(got, 5*time.Second) || retriesAfter(got, 10*time.Second) {
		t.Errorf("while it is down: %+v\n%s", got, w.logs)
	}
	if err := worker.Ready(); err != nil {
		t.Errorf("a provider that is down is no refused key: %v", err)
	}
	w.run(worker)
	w.untilCharge(e.Event.Subject, events.ChargeStatusSucceeded)
	w.eventually("the pause is over", func() bool { return w.gauge("paykit_provider_paused", stripeID) == 0 })
	w.oneCapture(e.Event.Subject)
}

// retriesAfter tells whether a message comes again, and not before a while.
func retriesAfter(r eventlog.Result, least time.Duration) bool {
	after, again := r.Again()
	return again && after >= least
}
