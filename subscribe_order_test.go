package paykit_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/paykit-go/paykit"
	"github.com/paykit-go/paykit/internal/events"
)

// several names customers.
func several(n int) []string {
	var references []string
	for i := range n {
		references = append(references, fmt.Sprint("user ", i))
	}
	return references
}

// A new subscription begins with the first event, catches up while more happens, and goes on with what happens then: each
// customer's events in order, each once, at catching up, at the change to what is new, and afterwards. One customer has more
// events than are held in hand of one.
func TestCatchUpInOrderWhileMoreHappens(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	references := several(40)
	f.customers(20, references...)
	f.customers(400, "busy")
	s := newSeen()
	listen(t, f.client(), "catch-up", both(func(_ context.Context, e paykit.CustomerEvent) error {
		s.add(e)
		return nil
	}))
	for range 20 {
		f.customers(1, references...)
		f.customers(5, "busy")
	}
	s.until(t, "history and what happened meanwhile", func() bool { return s.total() >= 40*40+500 })
	f.customers(1, references...)
	s.until(t, "what is new", func() bool { return s.total() >= 41*40+500 })
	for _, reference := range append(references, "busy") {
		want := 41
		if reference == "busy" {
			want = 500
		}
		for i, version := range s.of(reference) {
			if version != i+1 {
				t.Errorf("%s: version %d came as number %d", reference, version, i+1)
				break
			}
		}
		if got := len(s.of(reference)); got != want {
			t.Errorf("%s: %d events, want %d", reference, got, want)
		}
	}
}

// Of several processes one works, and each customer's events stay in order, also when it is gone from one moment to the
// next, in the middle of history and with others under way. One that ends in peace makes room at once.
func TestInOrderWithSeveralProcesses(t *testing.T) {
	t.Parallel()
	const wait = time.Second
	f := newFeed(t)
	references := several(20)
	f.customers(20, references...)
	s := newSeen()
	var handled [3]atomic.Int64 // events, by process
	process := func(n int, nc *nats.Conn) *listening {
		return listen(t, paykit.NewClient(nc), "ordered", both(func(ctx context.Context, e paykit.CustomerEvent) error {
			select { // work of its own, of some milliseconds
			case <-time.After(rand.N(3 * time.Millisecond)): //nolint:gosec // G404: work takes its time
			case <-ctx.Done():
				return ctx.Err()
			}
			if nc.IsClosed() {
				return errNotNow // it is gone
			}
			s.add(e)
			handled[n].Add(1)
			return nil
		}), paykit.InOrder(), paykit.WithAckWait(wait))
	}
	first := f.server.Conn(t)
	process(0, first)
	f.consumer("ordered", func(i *jetstream.ConsumerInfo) bool { return i.Delivered.Consumer > 0 })
	second := process(1, f.server.Conn(t))
	process(2, f.server.Conn(t))
	s.until(t, "a part of it", func() bool { return s.total() >= 100 })
	first.Close()
	f.customers(10, references...)
	s.until(t, "the next has taken over", func() bool { return s.total() >= 20*30-50 })
	_ = second.ended(t) // whether it is the one or stands by
	f.customers(5, references...)
	s.until(t, "all", func() bool {
		for _, reference := range references {
			if got := s.of(reference); len(got) == 0 || got[len(got)-1] != 35 {
				return false
			}
		}
		return true
	})
	for _, reference := range references {
		s.inOrder(t, reference, 35)
	}
	if one, next := handled[0].Load(), handled[1].Load()+handled[2].Load(); one == 0 || next == 0 {
		t.Errorf("%d were handled by the first process, %d by those after it", one, next)
	}
}

// What was made without the order can't be given it, and is told so; without the option a process keeps to what was made.
func TestInOrderIsDecidedOnce(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	f.customers(1, "a")
	s := newSeen()
	handle := both(func(_ context.Context, e paykit.CustomerEvent) error {
		s.add(e)
		return nil
	})
	l := listen(t, f.client(), "plain", handle)
	s.until(t, "the event", func() bool { return s.total() == 1 })
	if err := l.ended(t); err != nil {
		t.Error(err)
	}
	if err := f.client().Subscribe(t.Context(), "plain", handle, paykit.InOrder()); !errors.Is(err, paykit.ErrNotInOrder) {
		t.Errorf("%v", err)
	}
	l = listen(t, f.client(), "strict", handle, paykit.InOrder(), paykit.WithAckWait(20*time.Second))
	s.until(t, "the event again", func() bool { return s.total() == 2 })
	if err := l.ended(t); err != nil {
		t.Error(err)
	}
	begin := time.Now()
	listen(t, f.client(), "strict", handle, paykit.WithAckWait(20*time.Second))
	f.customers(1, "a")
	s.until(t, "the next event", func() bool { return s.total() == 3 })
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("a process that ended in peace was waited for %s", took)
	}
}

// The consumer that docs/reference.md gives for other languages begins with the first event, goes on with what is new, and
// brings each customer's events in order.
func TestPlainConsumerOfTheReference(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	_, text, _ := strings.Cut(readDoc(t, "reference.md"), "### From the beginning of time")
	config := strings.NewReplacer("paykit.log.charge.succeeded.*.*", "paykit.log.customer.created.*.*",
		"paykit.log.charge.refunded.*.*", "paykit.log.customer.updated.*.*").Replace(examples(text)[0])
	references := several(10)
	f.customers(5, references...)
	nc := f.server.Conn(t)
	answer, err := nc.Request("$JS.API.CONSUMER.DURABLE.CREATE.PAYKIT_LOG.receipts", []byte(config), 10*time.Second)
	if err != nil || strings.Contains(string(answer.Data), `"error"`) {
		t.Fatalf("%v: %s", err, answer.Data)
	}
	consumer, err := f.js.Consumer(t.Context(), "PAYKIT_LOG", "receipts")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{}
	next := func(n int) {
		t.Helper()
		for n > 0 {
			batch, err := consumer.Fetch(n, jetstream.FetchMaxWait(10*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			for m := range batch.Messages() {
				e, err := events.Decode(m.Data())
				if err != nil {
					t.Fatal(err)
				}
				if want[e.Subject]++; e.EntityVersion != want[e.Subject] {
					t.Errorf("%s: version %d came as number %d", e.Subject, e.EntityVersion, want[e.Subject])
				}
				if err := m.DoubleAck(t.Context()); err != nil {
					t.Fatal(err)
				}
				n--
			}
			if err := batch.Error(); err != nil {
				t.Fatalf("%d are missing: %v", n, err)
			}
		}
	}
	next(50)
	f.customers(2, references...)
	next(20)
	info, err := consumer.Info(t.Context())
	if err != nil || info.NumAckPending != 0 || info.NumPending != 0 || info.NumRedelivered != 0 {
		t.Errorf("%+v, %v", info, err)
	}
}
