package provider_test

import (
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/provider"
)

func TestBackoff(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		attempt int
		want    time.Duration
	}{{0, time.Second}, {1, time.Second}, {2, 2 * time.Second}, {4, 8 * time.Second}, {7, time.Minute}, {1_000_000, time.Minute}} {
		for range 50 {
			got := provider.Backoff(time.Second, tt.attempt, time.Minute)
			if got < tt.want || got > tt.want+tt.want/4 {
				t.Errorf("attempt %d waits %s; want %s and up to a quarter more", tt.attempt, got, tt.want)
			}
		}
	}
	if got := provider.Jitter(0); got != 0 {
		t.Errorf("jitter of nothing is %s", got)
	}
}

func TestLanes(t *testing.T) {
	t.Parallel()
	for subject, want := range map[string]string{
		"paykit.log.charge.requested.chg_1.cust_1":   "cust_1",
		"paykit.log.charge.refunded.chg_1.none":      "chg_1",
		"paykit.log.customer.updated.cust_1.cust_1":  "cust_1",
		"paykit.log.checkout.requested.chk_1.cust_1": "cust_1",
	} {
		if got := provider.LaneOf(eventlog.Message{Subject: subject}); got != want {
			t.Errorf("%s is in lane %s, want %s", subject, got, want)
		}
	}
}

func TestWhatCountsAsFailing(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{errors.New("unclassified"), true},
		{&provider.Error{Class: provider.InDoubt}, true},
		{&provider.Error{Class: provider.InDoubt, Status: 500}, true},
		{&provider.Error{Class: provider.Transient}, true},
		{&provider.Error{Class: provider.Transient, Status: 503}, true},
		{&provider.Error{Class: provider.Transient, Status: 429}, false},
		{&provider.Error{Class: provider.Transient, Status: 409}, false},
		{&provider.Error{Class: provider.Declined, Status: 402}, false},
		{&provider.Error{Class: provider.Invalid, Status: 400}, false},
		{&provider.Error{Class: provider.Blocked, Status: 401}, false},
	} {
		if got := provider.ProviderFailing(tt.err); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.err, got, tt.want)
		}
	}
}

// The breaker gives a failing provider a rest: what it holds back was never sent, and says so.
func TestBreakerHoldsCallsBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	api := provider.Guard(stripeID, w.api, 1000, time.Now)
	w.fault(`{"operation":"payment_intents.retrieve","times":1000,"kind":"status","status":500}`)
	for range 10 {
		if _, err := api.Payment(t.Context(), "pi_1"); err == nil {
			t.Fatal("no error")
		}
	}
	w.called()
	_, err := api.Payment(t.Context(), "pi_1")
	failed, ok := errors.AsType[*provider.Error](err)
	if !ok || failed.Class != provider.Transient || failed.Code != "breaker_open" || failed.RetryAfter <= 0 {
		t.Errorf("an open breaker answers %v", err)
	}
	if got := w.called(); len(got) != 0 {
		t.Errorf("calls past an open breaker: %v", got)
	}
	if err := api.Ready(); err != nil {
		t.Errorf("a failing provider is not a refused key: %v", err)
	}
}

func TestRateIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	api := provider.Guard(stripeID, w.api, 40, time.Now)
	begin := time.Now()
	for range 25 { // 5 at once, 20 at 40 a second
		if _, err := api.Payment(t.Context(), "pi_1"); provider.ClassOf(err) != provider.Invalid {
			t.Fatal(err)
		}
	}
	if took := time.Since(begin); took < 450*time.Millisecond {
		t.Errorf("25 calls took %s at 40 a second", took)
	}
}

// While credentials are refused no call is made, but one in a while, which finds out when they work again.
func TestRefusedCredentials(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var offset atomic.Int64
	api := provider.Guard(stripeID, w.api, 1000, func() time.Time { return time.Now().Add(time.Duration(offset.Load())) })
	w.fault(`{"operation":"payment_intents.retrieve","times":2,"kind":"status","status":401}`)
	call := func() error {
		_, err := api.Payment(t.Context(), "pi_1")
		return err
	}
	for i, want := range []struct {
		wait  time.Duration
		class provider.Class
		calls int
		ready bool
	}{
		{0, provider.Blocked, 1, false},
		{0, provider.Blocked, 0, false},
		{time.Minute, provider.Blocked, 1, false},
		{time.Minute, provider.Invalid, 1, true}, // the key works: there is no such payment
		{0, provider.Invalid, 1, true},
	} {
		offset.Add(int64(want.wait))
		w.called()
		if got := provider.ClassOf(call()); got != want.class {
			t.Errorf("call %d is %s, want %s", i, got, want.class)
		}
		if got := len(w.called()); got != want.calls {
			t.Errorf("call %d: %d calls were made, want %d", i, got, want.calls)
		}
		if got := api.Ready() == nil; got != want.ready {
			t.Errorf("call %d: ready %v, want %v", i, got, want.ready)
		}
	}
}

// Of many calls at the end of the rest one goes through; the others wait for what it finds out.
func TestRefusedCredentialsAreTriedByOneCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var offset atomic.Int64
	api := provider.Guard(stripeID, w.api, 1000, func() time.Time { return time.Now().Add(time.Duration(offset.Load())) })
	w.fault(`{"operation":"payment_intents.retrieve","kind":"status","status":401}`)
	if _, err := api.Payment(t.Context(), "pi_1"); provider.ClassOf(err) != provider.Blocked {
		t.Fatal(err)
	}
	offset.Add(int64(time.Minute))
	var beside error
	meddle := func(*http.Request) {
		w.meddle.Store(nil)
		_, beside = api.Payment(t.Context(), "pi_1")
	}
	w.meddle.Store(&meddle)
	w.called()
	if _, err := api.Payment(t.Context(), "pi_1"); provider.ClassOf(err) != provider.Invalid {
		t.Errorf("the one that goes through: %v", err)
	}
	if got := len(w.called()); got != 1 || provider.ClassOf(beside) != provider.Blocked {
		t.Errorf("%d calls were made; the one beside it: %v", got, beside)
	}
}
