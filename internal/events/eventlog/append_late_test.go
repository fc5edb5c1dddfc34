package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

// While an event of ours may still arrive, nothing else is answered: not that there is nothing to do, and no refusal.
func TestDecidedOtherwiseMeanwhile(t *testing.T) {
	t.Parallel()
	refusal := &events.Error{Code: events.CodeCustomerNotFound}
	for name, second := range map[string]error{"nothing to do": nil, "refused": refusal} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := eventlogtest.Start(t)
			other := eventlogtest.Open(t, srv.Conn(t))
			p := startProxy(t, srv.URL, nil)
			l, err := eventlog.Open(t.Context(), (&eventlogtest.Server{URL: p.URL}).Conn(t), eventlog.Config{})
			if err != nil {
				t.Fatal(err)
			}
			l.SetPatience(300 * time.Millisecond)
			id := events.CustomerID("a")
			lost := make(chan struct{})
			go func() {
				defer close(lost)
				<-p.taken
				p.loseClient()
			}()
			calls := 0
			e, appended, err := l.Update(t.Context(), events.EntityCustomer, id, func(last *events.Event) (*events.Event, error) {
				if calls++; calls > 1 {
					return nil, second
				}
				p.keepBack()
				return syncCustomer("a", "cmd_1")(last)
			})
			receive(t, lost, "the cut")
			if _, unknown := errors.AsType[*eventlog.UnknownError](err); !unknown || appended || e.Event != nil {
				t.Errorf("%+v, %v, %v", e, appended, err)
			}
			p.arrive(t)
			waitFor(t, "the late event", func() bool {
				_, err := other.LoadFromLeader(t.Context(), events.EntityCustomer, id)
				return err == nil
			})
		})
	}
}

// A write that never reached the server is appended by a later attempt, once.
func TestServerAwayForAMoment(t *testing.T) {
	t.Parallel()
	srv := eventlogtest.Start(t)
	away := make(chan struct{}, 10)
	l := eventlogtest.Open(t, srv.Conn(t, nats.DisconnectErrHandler(func(*nats.Conn, error) { away <- struct{}{} })))
	appendCustomer(t, l, "a", 1)
	srv.Stop()
	receive(t, away, "the end of the connection")
	ev, err := syncCustomer("b", "cmd_1")(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), ev, 0); !errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("append without a server: %v", err)
	}
	done := make(chan error, 1)
	go func() {
		_, _, err := l.Update(t.Context(), events.EntityCustomer, events.CustomerID("a"), syncCustomer("a", "cmd_away"))
		done <- err
	}()
	srv.Resume()
	if err := receive(t, done, "the update"); err != nil {
		t.Error(err)
	}
	if got := checkChain(t, l)[events.CustomerID("a")]; got != 2 {
		t.Errorf("%d events", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	srv.Stop()
	if _, _, err := l.Update(ctx, events.EntityCustomer, events.CustomerID("a"), syncCustomer("a", "cmd_never")); !eventlog.IsUnavailable(err) {
		t.Errorf("update without a server: %v", err)
	}
	srv.Resume()
}

func TestStorageFull(t *testing.T) {
	t.Parallel()
	t.Run("of the log", func(t *testing.T) {
		t.Parallel()
		nc := eventlogtest.Start(t).Conn(t)
		cfg := eventlog.Config{MaxBytes: 20 << 10}
		if _, err := eventlog.Provision(t.Context(), nc, cfg); err != nil {
			t.Fatal(err)
		}
		l, err := eventlog.Open(t.Context(), nc, cfg)
		if err != nil {
			t.Fatal(err)
		}
		fill(t, l)
	})
	t.Run("of the server", func(t *testing.T) {
		t.Parallel()
		nc := eventlogtest.Start(t, func(o *server.Options) { o.JetStreamMaxStore = 4 << 20 }).Conn(t)
		if _, err := eventlog.Provision(t.Context(), nc, eventlog.Config{}); err != nil {
			t.Fatal(err)
		}
		l, err := eventlog.Open(t.Context(), nc, eventlog.Config{})
		if err != nil {
			t.Fatal(err)
		}
		body := []byte(`{"filler":"` + strings.Repeat("x", 512<<10) + `"}`)
		for i := range 50 {
			_, err = l.StoreDelivery(t.Context(), eventlog.Delivery{ProviderID: "stripe", EventID: fmt.Sprint("evt_", i), Body: body})
			if err != nil {
				break
			}
		}
		if !errors.Is(err, eventlog.ErrStorageFull) || !eventlog.IsUnavailable(err) {
			t.Errorf("a full server: %v", err)
		}
	})
}

// fill appends until the log is full; it must say so, and keep everything that it has.
func fill(t *testing.T, l *eventlog.Log) {
	t.Helper()
	for i := range 1000 {
		_, _, err := l.Update(t.Context(), events.EntityCustomer, events.CustomerID("a"), syncCustomer("a", fmt.Sprint("cmd_", i)))
		if err == nil {
			continue
		}
		if !errors.Is(err, eventlog.ErrStorageFull) || !eventlog.IsUnavailable(err) {
			t.Fatalf("append %d: %v", i, err)
		}
		if got := checkChain(t, l)[events.CustomerID("a")]; got != i {
			t.Errorf("%d events left of %d", got, i)
		}
		return
	}
	t.Error("the log never filled")
}

func TestHistoryAndLatest(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	appendCustomer(t, l, "a", 3)
	appendCustomer(t, l, "b", 1)
	first := createCharge(t, l, "a", "k1")
	createCharge(t, l, "b", "k2")
	canceled, _, err := l.Update(t.Context(), events.EntityCharge, first.Event.Subject, func(last *events.Event) (*events.Event, error) {
		return events.DecideCharge(last, events.CancelCharge{}, events.Cause{Now: time.Now(), CommandID: "cmd_c"})
	})
	if err != nil {
		t.Fatal(err)
	}
	last := createCharge(t, l, "a", "k3")
	a := events.CustomerID("a")
	tests := map[string]struct {
		filter eventlog.HistoryFilter
		from   uint64
		limit  int
		want   []uint64
	}{
		"all":              {limit: 100, want: []uint64{1, 2, 3, 4, 5, 6, 7, 8}},
		"customer":         {filter: eventlog.HistoryFilter{CustomerID: a}, limit: 100, want: []uint64{1, 2, 3, 5, 7, 8}},
		"customer, page":   {filter: eventlog.HistoryFilter{CustomerID: a}, from: 3, limit: 2, want: []uint64{3, 5}},
		"entity":           {filter: eventlog.HistoryFilter{EntityID: first.Event.Subject}, limit: 100, want: []uint64{5, 7}},
		"kind of customer": {filter: eventlog.HistoryFilter{CustomerID: a, Entity: events.EntityCharge}, limit: 100, want: []uint64{5, 7, 8}},
		"none":             {limit: 0, want: []uint64{}},
	}
	for name, tt := range tests {
		list, err := l.History(t.Context(), tt.filter, tt.from, tt.limit)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		got := []uint64{}
		for _, e := range list {
			got = append(got, e.Sequence)
		}
		if fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
	for _, f := range []eventlog.HistoryFilter{{CustomerID: "*"}, {EntityID: ">"}, {Entity: "*"}, {Entity: events.EntityCustomer, EntityID: first.Event.Subject}} {
		if _, err := l.History(t.Context(), f, 0, 1); !errors.Is(err, eventlog.ErrNotFound) {
			t.Errorf("%+v: %v", f, err)
		}
	}
	latest, err := l.Latest(t.Context(), events.EntityCharge, a)
	if err != nil || len(latest) != 2 || latest[0].Sequence != canceled.Sequence || latest[1].Sequence != last.Sequence {
		t.Errorf("latest: %+v, %v", latest, err)
	}
	if none, err := l.Latest(t.Context(), events.EntityCharge, events.CustomerID("z")); err != nil || len(none) != 0 {
		t.Errorf("latest of nobody: %+v, %v", none, err)
	}
}
