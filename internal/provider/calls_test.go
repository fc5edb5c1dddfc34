package provider_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/provider"
	"github.com/paykit-go/paykit/internal/provider/stripe"
)

// recorded reads all records of calls, oldest first.
func (w *world) recorded() []eventlog.StoredCall {
	w.t.Helper()
	var list []eventlog.StoredCall
	err := w.log.FindCalls(w.t.Context(), "", nil, func(c eventlog.StoredCall) (bool, error) {
		list = append(list, c)
		return true, nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	slices.Reverse(list)
	return list
}

// callsFor waits until an entity has as many records as wanted and gives them as "operation attempt outcome".
func (w *world) callsFor(entity events.Entity, id string, n int) (list []eventlog.StoredCall, lines []string) {
	w.t.Helper()
	w.eventually(fmt.Sprintf("%d calls for %s are recorded", n, id), func() bool {
		var err error
		if list, err = w.log.CallsOf(w.t.Context(), entity, id); err != nil {
			w.t.Fatal(err)
		}
		return len(list) >= n
	})
	for _, c := range list {
		lines = append(lines, fmt.Sprintf("%s %d %s", c.Operation, c.Attempt, c.Outcome))
	}
	return list, lines
}

// TestEveryCallIsRecorded makes each call that a provider has, and holds the records against the requests that were made.
func TestEveryCallIsRecorded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	api, stop := provider.GuardRecorded(stripeID, w.api, w.log, nil)
	ctx := t.Context()
	owner := events.Owner{Env: w.log.Env(), Customer: p.ref.ID}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	payment, err := api.CreatePayment(ctx, "payment", provider.PaymentRequest{CustomerID: p.cus, MethodID: p.pm, Owner: owner, Amount: 4900, Currency: "usd"})
	must(err)
	session, err := api.CreateSession(ctx, "session", provider.SessionRequest{CustomerID: p.cus, Owner: owner, Amount: 100, Currency: "usd", SuccessURL: "https://example.com"})
	must(err)
	long := time.Now().Add(-time.Hour)
	type step struct {
		method string
		call   func() error
	}
	steps := []step{
		{"CreateCustomer", func() error { _, err := api.CreateCustomer(ctx, "customer", owner); return err }},
		{"FindCustomer", func() error { _, err := api.FindCustomer(ctx, owner, provider.Span{Since: long}); return err }},
		{"CustomersMade", func() error { _, _, err := api.CustomersMade(ctx, provider.Span{Since: long}, 10); return err }},
		{"UpdateCustomer", func() error {
			return api.UpdateCustomer(ctx, "profile", p.cus, provider.Profile{Email: "canary@example.com", Name: "Canary Bird", Owner: owner})
		}},
		{"SetDefaultMethod", func() error { return api.SetDefaultMethod(ctx, "default", p.cus, p.pm) }},
		{"CreateSession", func() error {
			_, err := api.CreateSession(ctx, "setup", provider.SessionRequest{Setup: true, CustomerID: p.cus, Owner: owner, SuccessURL: "https://example.com"})
			return err
		}},
		{"Session", func() error { _, err := api.Session(ctx, session.ID); return err }},
		{"FindSession", func() error { _, _, err := api.FindSession(ctx, p.cus, owner, provider.Span{Since: long}); return err }},
		{"ExpireSession", func() error { _, err := api.ExpireSession(ctx, "expire", session.ID); return err }},
		{"CreatePayment", func() error {
			_, err := api.CreatePayment(ctx, "other", provider.PaymentRequest{CustomerID: p.cus, MethodID: p.pm, Owner: owner, Amount: 100, Currency: "usd"})
			return err
		}},
		{"ConfirmPayment", func() error {
			_, err := api.ConfirmPayment(ctx, "confirm", payment.ID, provider.ConfirmRequest{MethodID: p.pm})
			return err
		}},
		{"Payment", func() error { _, err := api.Payment(ctx, payment.ID); return err }},
		{"FindPayment", func() error { _, _, err := api.FindPayment(ctx, p.cus, owner, provider.Span{Since: long}); return err }},
		{"CancelPayment", func() error { _, err := api.CancelPayment(ctx, "cancel", payment.ID, false); return err }},
		{"CreateRefund", func() error {
			_, err := api.CreateRefund(ctx, "refund", provider.RefundRequest{PaymentID: payment.ID, Owner: owner, Amount: 100})
			return err
		}},
		{"RefundsOf", func() error { _, err := api.RefundsOf(ctx, payment.ID, ""); return err }},
		{"SawPayment", func() error { _, err := api.SawPayment(ctx, provider.Sought{Owner: owner, Since: long}); return err }},
		{"SawRefund", func() error {
			_, _, err := api.SawRefund(ctx, provider.Sought{Owner: owner, Key: "refund", Since: long})
			return err
		}},
		{"ListDeliveries", func() error { return api.ListDeliveries(ctx, long, func([]byte) error { return nil }) }},
		{"Method", func() error { _, err := api.Method(ctx, p.pm); return err }},
		{"DetachMethod", func() error { return api.DetachMethod(ctx, "detach", p.pm) }},
		{"DeleteCustomer", func() error { return api.DeleteCustomer(ctx, "delete", p.cus) }},
	}
	var tried []string
	w.called()
	var made []string
	at := map[string]int{} // where a method's requests begin
	for _, s := range steps {
		tried = append(tried, s.method)
		at[s.method] = len(made)
		must(s.call())
		calls := w.called()
		if len(calls) == 0 {
			t.Errorf("%s made no request", s.method)
		}
		made = append(made, calls...)
	}
	stop()
	var all []string
	for m := range reflect.TypeFor[provider.API]().Methods() {
		all = append(all, m.Name)
	}
	slices.Sort(tried)
	if diff := cmp.Diff(all, tried); diff != "" {
		t.Fatal("not every operation was tried (-all +tried)", diff)
	}
	records := w.recorded()[2:] // behind the two that prepared
	if len(records) != len(made) {
		t.Fatalf("%d records of %d requests:\n%v", len(records), len(made), made)
	}
	for i, r := range records {
		_, path, _ := strings.Cut(made[i], " ")
		_, key, _ := strings.Cut(path, " ")
		if r.IdempotencyKey != key || !strings.HasPrefix(r.RequestID, "req_") || r.Outcome != "ok" || r.Status != 200 || r.Operation == "" ||
			r.Attempt != 1 || r.ProviderID != stripeID || time.Since(r.Time) > time.Hour || r.DurationMs < 0 {
			t.Errorf("%s: recorded as %+v", made[i], r)
		}
	}
	for method, want := range map[string]string{
		"ConfirmPayment": payment.ID, "Session": session.ID, "DetachMethod": p.pm, "CreateCustomer": "cus_", "CreatePayment": "pi_",
		"CreateSession": "cs_", "CreateRefund": "re_",
	} {
		if got := records[at[method]].ObjectID; !strings.HasPrefix(got, want) {
			t.Errorf("%s acted on %q, want %s", method, got, want)
		}
	}
	w.noPersonalBytes(records)
}

// noPersonalBytes looks for what must be in no record.
func (w *world) noPersonalBytes(records []eventlog.StoredCall) {
	w.t.Helper()
	text, err := json.Marshal(records)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, canary := range []string{"canary@example.com", "Canary", "sk_test", "example.com", "4242"} {
		if strings.Contains(string(text), canary) {
			w.t.Errorf("%q is in the records", canary)
		}
	}
}

// A list of several pages is several requests, each with its own record.
func TestEachPageIsRecorded(t *testing.T) {
	t.Parallel()
	var n int
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		n++
		rw.Header().Set("Request-Id", fmt.Sprintf("req_%d", n))
		if n == 3 { // the third page fails, and what it says is nobody's business
			rw.WriteHeader(http.StatusForbidden)
			fmt.Fprint(rw, `{"error":{"type":"invalid_request_error","code":"secret_code","message":"canary@example.com may not"}}`)
			return
		}
		fmt.Fprintf(rw, `{"object":"list","has_more":true,"data":[{"id":"re_%d","object":"refund","amount":1}]}`, n)
	}))
	t.Cleanup(srv.Close)
	api, err := stripe.New(stripe.Config{APIKey: testKey, APIBase: srv.URL, Env: "env"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	ctx := provider.WithSent(t.Context(), func(s provider.Sent) {
		line := fmt.Sprintf("%s %d %s", s.Operation, s.Status, s.RequestID)
		if s.Err != nil {
			line += " " + s.Err.Class.String() + " " + s.Err.Code
		}
		got = append(got, line)
	})
	if _, err := api.RefundsOf(ctx, "pi_1", ""); provider.ClassOf(err) != provider.Blocked {
		t.Fatal(err)
	}
	want := []string{"refunds.list 200 req_1", "refunds.list 200 req_2", "refunds.list 403 req_3 blocked secret_code"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("told (-want +got)", diff)
	}
}

func TestChargesCallsAreRecorded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, card, fault string
		refuse            int64
		status            events.ChargeStatus
		want              []string
		check             func(t *testing.T, list []eventlog.StoredCall)
	}{
		{
			name: "ok", card: "pm_card_visa", status: events.ChargeStatusSucceeded,
			want: []string{"payment_intents.create 1 ok", "payment_intents.confirm 1 ok"},
		},
		{
			name: "declined", card: "pm_card_chargeCustomerFail", status: events.ChargeStatusFailed,
			want: []string{
				"payment_intents.create 1 ok", "payment_intents.confirm 1 declined",
				"payment_intents.retrieve 1 ok", "payment_intents.cancel 1 ok",
			},
			check: func(t *testing.T, list []eventlog.StoredCall) {
				t.Helper()
				if c := list[1]; c.Status != 402 || c.Code != "card_declined" || c.DeclineCode != "generic_decline" || c.RequestID == "" {
					t.Errorf("the decline is %+v", c)
				}
				if list[1].EventID == list[2].EventID {
					t.Error("what asked for the confirm and what asked for the cancel is the same")
				}
			},
		},
		{
			name: "not reached, then again", card: "pm_card_visa", refuse: 1, status: events.ChargeStatusSucceeded,
			want: []string{ // a second try asks before it confirms
				"payment_intents.create 1 transient", "payment_intents.create 2 ok", "payment_intents.retrieve 2 ok",
				"payment_intents.confirm 2 ok",
			},
			check: func(t *testing.T, list []eventlog.StoredCall) {
				t.Helper()
				if c := list[0]; c.Status != 0 || c.RequestID != "" || c.IdempotencyKey == "" || c.IdempotencyKey != list[1].IdempotencyKey {
					t.Errorf("the first try is %+v, the second %+v", c, list[1])
				}
			},
		},
		{
			name: "in doubt", card: "pm_card_visa", status: events.ChargeStatusSucceeded,
			fault: `{"operation":"payment_intents.confirm","nth":1,"times":1,"kind":"cut","when":"after"}`,
			want:  []string{"payment_intents.create 1 ok", "payment_intents.confirm 1 in_doubt", "payment_intents.retrieve 1 ok"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.buyer(tt.card)
			worker := w.worker()
			worker.LookAfter(100*time.Millisecond, time.Hour, 50*time.Millisecond)
			w.refuse.Store(tt.refuse)
			if tt.fault != "" {
				w.fault(tt.fault)
			}
			e := p.charge("")
			w.run(worker)
			c := w.untilCharge(e.Event.Subject, tt.status)
			list, lines := w.callsFor(events.EntityCharge, c.ID, len(tt.want))
			if tt.name == "in doubt" { // the request itself and the settling both ask; who does first is open
				lines = lines[:3]
				lines[2] = strings.Replace(lines[2], " 2 ", " 1 ", 1)
			}
			if diff := cmp.Diff(tt.want, lines); diff != "" {
				t.Fatal("recorded (-want +got)", diff)
			}
			for _, r := range list {
				if r.Entity != "charge" || r.EntityID != c.ID || r.CustomerID != p.ref.ID || r.EventID == "" || r.ProviderID != stripeID {
					t.Errorf("%+v is not told to be for %s of %s", r, c.ID, p.ref.ID)
				}
				if r.ObjectID != c.ProviderPaymentID && r.Status == 200 {
					t.Errorf("%+v acted on another object than %s", r, c.ProviderPaymentID)
				}
			}
			if list[0].EventID != e.Event.ID {
				t.Errorf("the first call was asked for by %s, want %s", list[0].EventID, e.Event.ID)
			}
			if tt.check != nil {
				tt.check(t, list)
			}
		})
	}
}

// A worker that is killed in the middle leaves the records of its calls, and the next one adds its own.
func TestRecordsOfTwoWorkers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	e := p.charge("")
	w.runUntil("confirm_answered")
	w.start()
	c := w.untilCharge(e.Event.Subject, events.ChargeStatusSucceeded)
	list, lines := w.callsFor(events.EntityCharge, c.ID, 3)
	want := []string{"payment_intents.create ok", "payment_intents.confirm ok", "payment_intents.retrieve ok"}
	for i := range lines {
		first, last := strings.Index(lines[i], " "), strings.LastIndex(lines[i], " ")
		lines[i] = lines[i][:first] + lines[i][last:] // the settling of the second worker counts its own tries
	}
	if diff := cmp.Diff(want, lines[:3]); diff != "" {
		t.Errorf("recorded (-want +got) %s\n%+v", diff, list)
	}
	w.oneCapture(c.ID)
}

func TestBackfillsCallsAreRecorded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.buyer("pm_card_visa")
	worker := w.worker()
	w.run(worker)
	if err := worker.Backfill(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.eventually("the list of deliveries is recorded", func() bool {
		return slices.ContainsFunc(w.recorded(), func(c eventlog.StoredCall) bool {
			return c.Operation == "events.list" && c.Entity == "" && c.EventID == "" && c.Outcome == "ok"
		})
	})
}

// stalled is a store that never answers until it is let go.
type stalled struct{ goOn chan struct{} }

func (s stalled) StoreCalls(ctx context.Context, _ []eventlog.Call) error {
	select {
	case <-s.goOn:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", eventlog.ErrUnavailable, ctx.Err())
	}
}

// With the records' stream stalled and their queue full, calls go on as if nobody recorded them: what finds no room is
// dropped and counted. The calls would never end if one of them waited, since nothing lets the store go before they did.
func TestStalledRecordsDelayNoCall(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(rw, `{"id":"pi_1","object":"payment_intent","status":"succeeded"}`)
	}))
	t.Cleanup(srv.Close)
	adapter, err := stripe.New(stripe.Config{APIKey: testKey, APIBase: srv.URL, Env: "env"})
	if err != nil {
		t.Fatal(err)
	}
	store, metrics := stalled{make(chan struct{})}, prometheus.NewRegistry()
	api, stop := provider.GuardRecorded(stripeID, adapter, store, metrics)
	const more = 300 // than the queue and one batch in hand take
	for range provider.QueueOfCalls + more {
		if _, err := api.Payment(t.Context(), "pi_1"); err != nil {
			t.Fatal(err)
		}
	}
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	dropped := families[0].GetMetric()[0].GetCounter().GetValue()
	if dropped < 1 || dropped > more {
		t.Errorf("%v records dropped, want 1 to %d", dropped, more)
	}
	// Nor does a worker that ends wait for it: a process has 8 s to end.
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		stop()
	}()
	select {
	case <-ended:
	case <-time.After(8 * time.Second):
		t.Error("it does not end while the records' stream is stalled")
		close(store.goOn)
		<-ended
	}
}
