package paykit_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/paykit-go/paykit"
	"github.com/paykit-go/paykit/internal/events"
)

// Each event type has a handler's field of its own, which is called for it and for nothing else.
func TestHandlersNameEveryEvent(t *testing.T) {
	t.Parallel()
	typ := reflect.TypeFor[paykit.Handlers]()
	fields := map[paykit.EventType]string{}
	for f := range typ.Fields() {
		if f.Name == "Any" {
			continue
		}
		var h paykit.Handlers
		none := reflect.MakeFunc(f.Type, func([]reflect.Value) []reflect.Value { return []reflect.Value{reflect.Zero(f.Type.Out(0))} })
		reflect.ValueOf(&h).Elem().FieldByIndex(f.Index).Set(none)
		handled := h.HandledTypes()
		name := strings.NewReplacer(".", "", "_", "").Replace(string(slices.Concat(handled, []paykit.EventType{""})[0]))
		if len(handled) != 1 || !strings.EqualFold(name, f.Name) {
			t.Errorf("%s is called for %v", f.Name, handled)
			continue
		}
		fields[handled[0]] = f.Name
	}
	for _, typ := range events.Types() {
		if fields[typ] == "" {
			t.Errorf("%s has no handler", typ)
		}
	}
}

// What is in hand, at work or waiting, is not delivered again however long it takes.
func TestSlowHandlersMessagesAreKept(t *testing.T) {
	t.Parallel()
	const wait = time.Second
	f := newFeed(t)
	f.customers(3, "a", "b")
	s := newSeen()
	listen(t, f.client(), "slow", both(func(_ context.Context, e paykit.CustomerEvent) error {
		if e.Event.EntityVersion == 1 {
			<-time.After(5 * wait / 2) // work that takes longer than the server waits
		}
		s.add(e)
		return nil
	}), paykit.WithAckWait(wait))
	s.until(t, "all", func() bool { return s.total() >= 6 })
	info := f.consumer("slow", func(i *jetstream.ConsumerInfo) bool { return i.NumAckPending == 0 && i.AckFloor.Consumer >= 6 })
	if info.NumRedelivered != 0 || info.Delivered.Consumer != 6 {
		t.Errorf("%d deliveries of 6 messages, %d again", info.Delivered.Consumer, info.NumRedelivered)
	}
	for _, reference := range []string{"a", "b"} {
		if got := s.of(reference); !slices.Equal(got, []int{1, 2, 3}) {
			t.Errorf("%s: %v", reference, got)
		}
	}
}

// When Subscribe has returned the server has its acknowledgements: the process may end, and nothing comes twice.
func TestAcknowledgementsArriveBeforeTheEnd(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	f.customers(5, "a", "b", "c", "d")
	s := newSeen()
	nc := f.server.Conn(t)
	l := listen(t, paykit.NewClient(nc), "acks", both(func(_ context.Context, e paykit.CustomerEvent) error {
		s.add(e)
		return nil
	}))
	s.until(t, "all", func() bool { return s.total() == 20 })
	if err := l.ended(t); err != nil {
		t.Fatal(err)
	}
	info := f.consumer("acks", func(*jetstream.ConsumerInfo) bool { return true })
	if info.NumAckPending != 0 || info.AckFloor.Stream != 20 {
		t.Errorf("%d are not acknowledged, all up to %d are", info.NumAckPending, info.AckFloor.Stream)
	}
}

// Two processes of one name share the work: each event is dealt with by one of them.
func TestProcessesShareAName(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	var references []string
	for i := range 30 {
		references = append(references, fmt.Sprint("user ", i))
	}
	s := newSeen()
	handle := both(func(_ context.Context, e paykit.CustomerEvent) error {
		s.add(e)
		return nil
	})
	one := listen(t, f.client(), "shared", handle)
	f.customers(2, references...)
	listen(t, f.client(), "shared", handle)
	f.customers(2, references...)
	s.until(t, "all", func() bool { return s.total() >= 120 })
	if err := one.ended(t); err != nil {
		t.Error(err)
	}
	f.customers(1, references...)
	s.until(t, "what the other one is left with", func() bool { return s.total() >= 150 })
	for _, reference := range references {
		if got := slices.Sorted(slices.Values(s.of(reference))); !slices.Equal(got, []int{1, 2, 3, 4, 5}) {
			t.Errorf("%s: %v", reference, got)
		}
	}
}

// A subscription that exists goes on where it was; a new one begins with what comes, or with the first event.
func TestWhereASubscriptionBegins(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	f.customers(2, "a")
	s := newSeen()
	handle := both(func(_ context.Context, e paykit.CustomerEvent) error {
		s.add(e)
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	end := make(chan error, 1)
	go func() { end <- f.client().Subscribe(ctx, "now", handle) }()
	info := f.consumer("now", func(*jetstream.ConsumerInfo) bool { return true })
	if c := info.Config; c.AckPolicy != jetstream.AckExplicitPolicy || c.MaxDeliver != -1 || c.InactiveThreshold != 0 {
		t.Errorf("%+v", c)
	}
	f.customers(1, "a")
	s.until(t, "what came after the beginning", func() bool { return s.total() >= 1 })
	cancel()
	if err := <-end; err != nil {
		t.Fatal(err)
	}
	f.customers(1, "a") // while nobody listens
	listen(t, f.client(), "now", handle)
	s.until(t, "what came meanwhile", func() bool { return s.total() >= 2 })
	if got := s.of("a"); !slices.Equal(got, []int{3, 4}) {
		t.Errorf("%v, want what came after the beginning", got)
	}
}

// The app is told of its handlers' errors and panics; its context ends with the subscription's.
func TestOnError(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	f.customers(1, "error", "panic")
	told := make(chan string, 10)
	var mu sync.Mutex
	tries := map[string]int{}
	waiting := make(chan struct{})
	l := listen(t, f.client(), "errors", both(func(ctx context.Context, e paykit.CustomerEvent) error {
		mu.Lock()
		tries[e.Customer.ReferenceID]++
		n := tries[e.Customer.ReferenceID]
		mu.Unlock()
		switch {
		case e.Customer.ReferenceID == "error" && n == 1:
			return errNotNow
		case e.Customer.ReferenceID == "panic" && n == 1:
			panic("a handler's mistake")
		case e.Customer.ReferenceID == "error":
			close(waiting)
			<-ctx.Done()
			return ctx.Err() // its end is no error to be told of
		}
		return nil
	}), paykit.OnError(func(e paykit.Event, err error) {
		told <- fmt.Sprint(e.Data.Customer.ReferenceID, ": ", errors.Is(err, errNotNow), strings.Contains(err.Error(), "a handler's mistake"))
	}))
	<-waiting
	if err := l.ended(t); err != nil {
		t.Fatal(err)
	}
	close(told)
	got := slices.Sorted(func(yield func(string) bool) {
		for text := range told {
			yield(text)
		}
	})
	if want := []string{"error: true false", "panic: false true"}; !slices.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
}

// Events without a customer do not wait for each other.
func TestEventsWithoutACustomer(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	for i := range 3 {
		id := events.CommandID("charge.create", fmt.Sprint(i))
		e, err := events.DecideCommand(nil, events.RejectCommand{ID: id, Type: "charge.create"}, events.Cause{Now: time.Now(), CommandID: id})
		if err != nil {
			t.Fatal(err)
		}
		f.store(e)
	}
	f.sync()
	good := make(chan string, 10)
	bad := events.CommandID("charge.create", "0")
	listen(t, f.client(), "rejected", paykit.Handlers{CommandRejected: func(_ context.Context, e paykit.CommandEvent) error {
		if e.Command.ID == bad {
			return errNotNow
		}
		good <- e.Command.ID
		return nil
	}})
	for range 2 {
		select {
		case <-good:
		case <-time.After(20 * time.Second):
			t.Fatal("they wait for one that fails")
		}
	}
}

// What waits behind a customer whose handler fails is there at once for the next process, and in order.
func TestEndGivesBackWhatWaits(t *testing.T) {
	t.Parallel()
	const n = 200
	f := newFeed(t)
	f.customers(n, "poor")
	failed := make(chan struct{}, 100)
	l := listen(t, f.client(), "waits", both(func(context.Context, paykit.CustomerEvent) error { return errNotNow }),
		paykit.OnError(func(paykit.Event, error) { failed <- struct{}{} }))
	for range 4 { // by then nearly all of them wait at the server, for seconds
		select {
		case <-failed:
		case <-time.After(20 * time.Second):
			t.Fatal("the handler is not called again")
		}
	}
	if err := l.ended(t); err != nil {
		t.Fatal(err)
	}
	s := newSeen()
	listen(t, f.client(), "waits", both(func(_ context.Context, e paykit.CustomerEvent) error {
		s.add(e)
		return nil
	}))
	s.until(t, "all", func() bool { return s.total() >= n })
	s.inOrder(t, "poor", n)
	if s.total() != n {
		t.Errorf("%d of %d were dealt with", s.total(), n)
	}
}
