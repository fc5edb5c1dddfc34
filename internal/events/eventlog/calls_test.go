package eventlog_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/oklog/ulid/v2"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

// callOf is a call for a charge.
func callOf(key string, n int) eventlog.Call {
	return eventlog.Call{
		Time: time.Date(2026, 1, 2, 3, 4, 5, n, time.UTC), Operation: "payment_intents.create", IdempotencyKey: "key " + key,
		RequestID: fmt.Sprintf("req_%s_%d", key, n), Attempt: 1, Outcome: "ok", Status: 200, DurationMs: 12, Entity: "charge",
		EntityID: events.ChargeID(key), CustomerID: events.CustomerID("a"), ProviderID: "stripe", ObjectID: "pi_1", EventID: "01",
	}
}

func TestCalls(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	calls := []eventlog.Call{callOf("a", 1), callOf("b", 2), {ProviderID: "stripe", Operation: "events.list"}, callOf("a", 3)}
	if err := l.StoreCalls(t.Context(), calls); err != nil {
		t.Fatal(err)
	}
	list, err := l.CallsOf(t.Context(), events.EntityCharge, events.ChargeID("a"))
	if err != nil {
		t.Fatal(err)
	}
	want := []eventlog.StoredCall{{Call: calls[0], Sequence: 1}, {Call: calls[3], Sequence: 4}}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Error("calls for a charge (-want +got)", diff)
	}
	for _, tt := range []struct {
		sequence uint64
		subject  string
	}{
		{1, "paykit.call.charge." + events.ChargeID("a") + "." + events.CustomerID("a")},
		{3, "paykit.call.none.none.none"},
	} {
		s, err := js(t, l).Stream(t.Context(), "PAYKIT_CALLS")
		if err != nil {
			t.Fatal(err)
		}
		if m, err := s.GetMsg(t.Context(), tt.sequence); err != nil || m.Subject != tt.subject {
			t.Errorf("the record at %d: %+v, %v; want subject %s", tt.sequence, m, err, tt.subject)
		}
	}
}

// The stream keeps its records for a year, without a sync of each, and may be told to drop its oldest.
func TestCallsStream(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	s, err := js(t, l).Stream(t.Context(), "PAYKIT_CALLS")
	if err != nil {
		t.Fatal(err)
	}
	c := s.CachedInfo().Config
	if c.PersistMode != jetstream.AsyncPersistMode || c.MaxAge != 365*24*time.Hour || !c.AllowDirect || c.Storage != jetstream.FileStorage {
		t.Errorf("made as %+v", c)
	}
	// An installation of before it is told what to do.
	deleteStream(t, l.Conn(), "PAYKIT_CALLS")
	if _, err := eventlog.Open(t.Context(), l.Conn(), eventlog.Config{}); !errors.Is(err, eventlog.ErrNotProvisioned) ||
		!strings.Contains(err.Error(), "PAYKIT_CALLS") || !strings.Contains(err.Error(), "paykit provision") {
		t.Errorf("without it: %v", err)
	}
	if r, err := eventlog.Provision(t.Context(), l.Conn(), eventlog.Config{}); err != nil || !slices.Equal(r.Created, []string{"PAYKIT_CALLS"}) {
		t.Errorf("provisioned again: %+v, %v", r, err)
	}
	// What one server keeps unsynced can't be replicated, and that is said with what to do.
	if _, err := eventlog.Provision(t.Context(), l.Conn(), eventlog.Config{Replicas: 3}); err == nil {
		t.Error("replicated on one server")
	}
	if err := l.StoreCalls(t.Context(), []eventlog.Call{callOf("a", 1)}); err != nil {
		t.Error(err)
	}
	deleteStream(t, l.Conn(), "PAYKIT_CALLS")
	if err := l.StoreCalls(t.Context(), []eventlog.Call{callOf("a", 1), callOf("a", 2)}); err == nil {
		t.Error("stored in a stream that is not there")
	}
}

// A search goes back from the newest, over more than one stretch, and says how far it is.
func TestFindCalls(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	const n = 4500
	for i := 0; i < n; i += 250 {
		var calls []eventlog.Call
		for j := range 250 {
			calls = append(calls, callOf(fmt.Sprint((i+j)%1000), i+j))
		}
		if err := l.StoreCalls(t.Context(), calls); err != nil {
			t.Fatal(err)
		}
	}
	var got []int
	var progress []eventlog.Found
	note := func(f eventlog.Found) { progress = append(progress, f) }
	err := l.FindCalls(t.Context(), `"key 7"`, note, func(c eventlog.StoredCall) (bool, error) {
		got = append(got, c.Time.Nanosecond())
		return true, nil
	})
	if diff := cmp.Diff([]int{4007, 3007, 2007, 1007, 7}, got); err != nil || diff != "" {
		t.Errorf("found (-want +got) %s, %v", diff, err)
	}
	if diff := cmp.Diff([]eventlog.Found{{Searched: 2000, Total: n}, {Searched: 4000, Total: n}, {Searched: n, Total: n}}, progress); diff != "" {
		t.Error("progress (-want +got)", diff)
	}
	got = nil
	err = l.FindCalls(t.Context(), `"key 7"`, note, func(c eventlog.StoredCall) (bool, error) {
		got = append(got, c.Time.Nanosecond())
		return len(got) < 2, nil
	})
	if diff := cmp.Diff([]int{4007, 3007}, got); err != nil || diff != "" {
		t.Errorf("found until told to stop (-want +got) %s, %v", diff, err)
	}
	// A message that somebody deleted does not shift what a stretch is.
	s, err := js(t, l).Stream(t.Context(), "PAYKIT_CALLS")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMsg(t.Context(), 1000); err != nil {
		t.Fatal(err)
	}
	got = nil
	err = l.FindCalls(t.Context(), `"key 500"`, nil, func(c eventlog.StoredCall) (bool, error) {
		got = append(got, c.Time.Nanosecond())
		return true, nil
	})
	if diff := cmp.Diff([]int{3500, 2500, 1500, 500}, got); err != nil || diff != "" {
		t.Errorf("found beside a gap (-want +got) %s, %v", diff, err)
	}
	failed := errors.New("failed")
	if err := l.FindCalls(t.Context(), "req_8_", nil, func(eventlog.StoredCall) (bool, error) { return true, failed }); !errors.Is(err, failed) {
		t.Errorf("a reader's error: %v", err)
	}
	if err := l.FindCalls(t.Context(), "nowhere", nil, func(c eventlog.StoredCall) (bool, error) {
		return false, fmt.Errorf("found %+v", c)
	}); err != nil {
		t.Error(err)
	}
}

func TestFindEvents(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	appendCustomer(t, l, "a", 3)
	charge := createCharge(t, l, "a", "order_1")
	appendCustomer(t, l, "b", 400) // more than a batch behind it

	e, err := l.EventByID(t.Context(), charge.Event.ID, idTime(t, charge.Event.ID))
	if err != nil || e.Sequence != charge.Sequence || e.Event.ID != charge.Event.ID {
		t.Errorf("by its id: %+v, %v", e, err)
	}
	first, err := l.Read(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := l.EventByID(t.Context(), first.Event.ID, idTime(t, first.Event.ID)); err != nil || e.Sequence != 1 {
		t.Errorf("the first by its id: %+v, %v", e, err)
	}
	absent := ulid.MustNew(ulid.Now(), nil).String()
	for _, at := range []time.Time{time.Now(), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)} {
		if _, err := l.EventByID(t.Context(), absent, at); !errors.Is(err, eventlog.ErrNotFound) {
			t.Errorf("an absent id at %s: %v", at, err)
		}
	}

	var found []uint64
	err = l.FindEvents(t.Context(), charge.Event.CorrelationID, nil, func(e eventlog.Entry) (bool, error) {
		found = append(found, e.Sequence)
		return true, nil
	})
	if err != nil || !slices.Equal(found, []uint64{charge.Sequence}) {
		t.Errorf("by its command: %v, %v", found, err)
	}
	if stored, err := l.StoreDelivery(t.Context(), eventlog.Delivery{ProviderID: "stripe", EventID: "evt_1", ProviderCustomerID: "cus_1", Body: []byte("{}")}); err != nil || !stored {
		t.Fatal(err)
	}
	if d, err := l.DeliveryOf(t.Context(), "stripe", "evt_1"); err != nil || string(d.Body) != "{}" || d.Sequence != 1 || d.Time.IsZero() {
		t.Errorf("a delivery: %+v, %v", d, err)
	}
	if _, err := l.DeliveryOf(t.Context(), "stripe", "evt_2"); !errors.Is(err, eventlog.ErrNotFound) {
		t.Errorf("a delivery that is not there: %v", err)
	}
}

func idTime(t *testing.T, id string) time.Time {
	t.Helper()
	u, err := ulid.ParseStrict(id)
	if err != nil {
		t.Fatal(err)
	}
	return ulid.Time(u.Time())
}

func TestFindDeliveries(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	for i := range 600 { // more than two batches
		customer := []string{"cus_1", "", "cus_2"}[i%3]
		_, err := l.StoreDelivery(t.Context(), eventlog.Delivery{
			ProviderID: "stripe", EventID: fmt.Sprint("evt_", i), ProviderCustomerID: customer, Body: fmt.Appendf(nil, `{"id":"pi_%d"}`, i%60),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name     string
		search   eventlog.DeliverySearch
		n        int
		complete bool
	}{
		{"of a customer", eventlog.DeliverySearch{ProviderCustomerID: "cus_1", Texts: []string{`"pi_3"`, `"pi_33"`}, Most: 1000}, 20, true},
		{"of another", eventlog.DeliverySearch{ProviderCustomerID: "cus_2", Texts: []string{`"pi_3"`}, Most: 1000}, 0, true},
		{"of nobody", eventlog.DeliverySearch{Texts: []string{`"pi_1"`}, Most: 1000}, 10, true},
		{"of anyone", eventlog.DeliverySearch{Anyone: true, Texts: []string{`"pi_1"`, `"pi_2"`, `"pi_3"`}, Most: 1000}, 30, true},
		{"no more than", eventlog.DeliverySearch{Anyone: true, Texts: []string{`"pi_1"`}, Most: 599}, 10, false},
		{"no more than a few", eventlog.DeliverySearch{Anyone: true, Texts: []string{`"pi_1"`}, Most: 61}, 1, false},
		{"all of them", eventlog.DeliverySearch{Anyone: true, Texts: []string{`"pi_1"`}, Most: 600}, 10, true},
		{"since tomorrow", eventlog.DeliverySearch{Anyone: true, Since: time.Now().Add(time.Hour), Texts: []string{"pi"}, Most: 600}, 0, true},
	} {
		tt.search.ProviderID = "stripe"
		n := 0
		complete, err := l.FindDeliveries(t.Context(), tt.search, func(eventlog.StoredDelivery) error { n++; return nil })
		if err != nil || n != tt.n || complete != tt.complete {
			t.Errorf("%s: %d found, complete %v, %v; want %d, %v", tt.name, n, complete, err, tt.n, tt.complete)
		}
	}
	failed := errors.New("failed")
	if _, err := l.FindDeliveries(t.Context(), eventlog.DeliverySearch{ProviderID: "stripe", Anyone: true, Texts: []string{"pi"}, Most: 10},
		func(eventlog.StoredDelivery) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("a reader's error: %v", err)
	}
}
