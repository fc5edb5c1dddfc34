package eventlog_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

// reader follows the log and checks that what comes is in order and whole.
type reader struct {
	t      *testing.T
	stop   context.CancelFunc
	done   chan error
	signal chan struct{} // something was read

	mu      sync.Mutex
	next    uint64
	batches []eventlog.Batch
}

func follow(t *testing.T, l *eventlog.Log, from uint64) *reader {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	r := &reader{t: t, stop: stop, done: make(chan error, 1), signal: make(chan struct{}, 1), next: from}
	go func() { r.done <- l.Follow(ctx, from, r.handle) }()
	t.Cleanup(func() {
		stop()
		if err := <-r.done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("following ended with %v", err)
		}
	})
	return r
}

func (r *reader) handle(b eventlog.Batch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(b.Entries) == 0 && len(r.batches) > 0 {
		r.t.Error("an empty batch that is not the first")
	}
	for _, e := range b.Entries {
		if e.Sequence != r.next {
			r.t.Errorf("read %d, want %d", e.Sequence, r.next)
		}
		if e.Event == nil || e.Event.Digest() != events.Digest(e.Raw) {
			r.t.Errorf("event %d is not what was stored", e.Sequence)
		}
		r.next++
	}
	r.batches = append(r.batches, b)
	select {
	case r.signal <- struct{}{}:
	default:
	}
	return nil
}

// until waits until everything up to a sequence was read.
func (r *reader) until(last uint64) {
	r.t.Helper()
	for {
		r.mu.Lock()
		next := r.next
		r.mu.Unlock()
		if next > last {
			return
		}
		receive(r.t, r.signal, "an event")
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	empty := follow(t, l, 0)
	empty.next = 1
	receive(t, empty.signal, "the first batch")
	if b := empty.batches[0]; len(b.Entries) != 0 || b.Pending != 0 {
		t.Errorf("the first batch of an empty log: %+v", b)
	}
	appendCustomer(t, l, "a", 5)
	for _, from := range []uint64{1, 3, 5, 6} {
		r := follow(t, l, from)
		if from <= 5 {
			r.until(5)
		} else {
			receive(t, r.signal, "the first batch")
		}
		r.mu.Lock()
		last := r.batches[len(r.batches)-1]
		r.mu.Unlock()
		if last.Pending != 0 {
			t.Errorf("from %d: caught up with %d pending", from, last.Pending)
		}
		e := appendCustomer(t, l, "b", 1)
		r.until(e.Sequence)
		r.stop()
		if err := receive(t, r.done, "the end"); !errors.Is(err, context.Canceled) {
			t.Errorf("from %d: ended with %v", from, err)
		}
		r.done <- nil
		if from == 5 {
			break // the next begins behind the end
		}
	}
	empty.until(8)
}

func TestFollowInBatches(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	j := js(t, l)
	first, err := syncCustomer("a", "cmd")(nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := first.Encode()
	if err != nil {
		t.Fatal(err)
	}
	const n = 2100
	for range n {
		if _, err := j.PublishAsync("paykit.log.customer.created."+first.Subject+"."+first.Subject, raw); err != nil {
			t.Fatal(err)
		}
	}
	receive(t, j.PublishAsyncComplete(), "the acknowledgements")
	r := follow(t, l, 1)
	r.until(n)
	for i, b := range r.batches {
		if len(b.Entries) > 2000 || len(b.Entries) == 0 {
			t.Errorf("batch %d of %d events", i, len(b.Entries))
		}
	}
	if len(r.batches) > 100 {
		t.Errorf("%d events came in %d batches", n, len(r.batches))
	}
}

func TestFollowThroughRestarts(t *testing.T) {
	t.Parallel()
	srv := eventlogtest.Start(t)
	l := eventlogtest.Open(t, srv.Conn(t))
	appendCustomer(t, l, "a", 3)
	r := follow(t, l, 2)
	r.until(3)
	for range 2 {
		srv.Restart()
		e := appendCustomer(t, l, "a", 2)
		r.until(e.Sequence)
	}
	checkChain(t, l)
}

func TestFollowEndsWithTheHandler(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	appendCustomer(t, l, "a", 1)
	broken := errors.New("the view is broken")
	if err := l.Follow(t.Context(), 1, func(eventlog.Batch) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("ended with %v", err)
	}
}

func TestFollowSeesDamage(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	nc := l.Conn()
	remake(t, nc, "PAYKIT_LOG", func(c *jetstream.StreamConfig) { c.DenyDelete = false })
	if err := l.Follow(t.Context(), 1, func(eventlog.Batch) error { return nil }); !errors.Is(err, eventlog.ErrRecreated) {
		t.Errorf("another log: %v", err)
	}
	appendCustomer(t, l, "a", 5)
	s, err := js(t, l).Stream(t.Context(), "PAYKIT_LOG")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMsg(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	l = eventlogtest.Open(t, nc) // puts the setting right
	var got []uint64
	err = l.Follow(t.Context(), 1, func(b eventlog.Batch) error {
		for _, e := range b.Entries {
			got = append(got, e.Sequence)
		}
		return nil
	})
	var gap *eventlog.GapError
	if !errors.As(err, &gap) || gap.Want != 3 || gap.Got != 4 || len(got) != 2 {
		t.Errorf("a missing event: %v after %v", err, got)
	}
	if err := l.Follow(t.Context(), 9, func(eventlog.Batch) error { return nil }); !errors.As(err, &gap) || gap.Want != 9 || gap.Got != 6 {
		t.Errorf("a log that ends before: %v", err)
	}
	if _, err := nc.Request("paykit.log.customer.created."+events.CustomerID("x")+".none", []byte(`{"type":"nonsense"}`), soon); err != nil {
		t.Fatal(err)
	}
	err = l.Follow(t.Context(), 4, func(eventlog.Batch) error { return nil })
	if !errors.Is(err, events.ErrUnknownType) {
		t.Errorf("an event that can't be read: %v", err)
	}
}

func TestWakeTellsOnlyWhatWasStored(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	type woken struct {
		typ      events.Type
		id       string
		sequence uint64
	}
	seen := make(chan woken, 10)
	stop, err := l.Wake(func(typ events.Type, id string, sequence uint64) { seen <- woken{typ, id, sequence} })
	if err != nil {
		t.Fatal(err)
	}
	feed := make(chan *nats.Msg, 10)
	sub, err := l.Conn().ChanSubscribe("paykit.events.>", feed)
	if err != nil {
		t.Fatal(err)
	}
	first := appendCustomer(t, l, "a", 1)
	if _, err := l.Append(t.Context(), first.Event, 0); !errors.Is(err, eventlog.ErrConflict) {
		t.Fatal(err)
	}
	charge := createCharge(t, l, "a", "k")
	for _, want := range []woken{
		{events.CustomerCreated, first.Event.Subject, 1}, {events.ChargeRequested, charge.Event.Subject, 2},
	} {
		if got := receive(t, seen, "a wake-up"); got != want {
			t.Errorf("woken by %+v, want %+v", got, want)
		}
	}
	for _, want := range []string{
		"paykit.events.customer.created." + first.Event.Subject, "paykit.events.charge.requested." + first.Event.Subject,
	} {
		if msg := receive(t, feed, "the feed"); msg.Subject != want {
			t.Errorf("fed %s, want %s", msg.Subject, want)
		}
	}
	stop()
	if err := sub.Unsubscribe(); err != nil {
		t.Error(err)
	}
}

func TestInfo(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	before, err := l.Info(t.Context())
	if err != nil || before.LastSequence != 0 || before.Created.IsZero() || before.MaxBytes <= 0 {
		t.Fatalf("%+v, %v", before, err)
	}
	appendCustomer(t, l, "a", 3)
	after, err := l.Info(t.Context())
	if err != nil || after.FirstSequence != 1 || after.LastSequence != 3 || after.Messages != 3 || after.Bytes == 0 || !after.Created.Equal(before.Created) {
		t.Errorf("%+v, %v", after, err)
	}
}

// Events that come while a batch is handled are the next batch, however many they are: a reader whose every batch costs
// an fsync must not fall behind a writer.
func TestFollowGathersWhatCameMeanwhile(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	const n = 60
	began, goOn := make(chan struct{}), make(chan struct{})
	sizes := make(chan int, n)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		first := true
		done <- l.Follow(ctx, 1, func(b eventlog.Batch) error {
			if len(b.Entries) > 0 && first {
				first = false
				close(began)
				<-goOn
			}
			sizes <- len(b.Entries)
			return nil
		})
	}()
	appendCustomer(t, l, "a", 1)
	receive(t, began, "the first event")
	for range n {
		appendCustomer(t, l, "a", 1) // each is the log's last when it is sent
	}
	close(goOn)
	batches := 0
	for got := 0; got < 1+n; batches++ {
		got += receive(t, sizes, "a batch")
	}
	if batches > 1+1+n/4 { // the empty one, the first, and the rest in a few
		t.Errorf("%d events came in %d batches", 1+n, batches)
	}
	stop()
	if err := receive(t, done, "the end"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
