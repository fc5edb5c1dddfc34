package eventlog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

// crowd is deliveries that wait behind one whose write does not get through.
type crowd struct {
	*eventlog.Log
	proxy *proxy
	done  sync.WaitGroup

	mu     sync.Mutex
	stored map[string]int // by event id: how often the answer was "stored"
	again  map[string]int // the same, "was there"
	failed map[string]error
}

func newCrowd(t *testing.T, rewrite func(fromServer []byte) []byte) *crowd {
	t.Helper()
	srv := eventlogtest.Start(t)
	eventlogtest.Open(t, srv.Conn(t))
	p := startProxy(t, srv.URL, rewrite)
	l, err := eventlog.Open(t.Context(), (&eventlogtest.Server{URL: p.URL}).Conn(t), eventlog.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return &crowd{Log: l, proxy: p, stored: map[string]int{}, again: map[string]int{}, failed: map[string]error{}}
}

func (c *crowd) store(ctx context.Context, id string) {
	ok, err := c.StoreDelivery(ctx, eventlog.Delivery{ProviderID: "stripe", EventID: id, Body: []byte(`{"id":"` + id + `"}`), Header: map[string]string{"A": "b"}})
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil:
		c.failed[id] = err
	case ok:
		c.stored[id]++
	default:
		c.again[id]++
	}
}

// gather has the first delivery's write held, and n others wait behind it, each also as so many copies.
func (c *crowd) gather(t *testing.T, n, copies int) {
	t.Helper()
	c.InboxMeasured(time.Second, time.Millisecond) // always a batch
	c.proxy.keepBack()
	c.done.Go(func() { c.store(t.Context(), "evt_first") })
	receive(t, c.proxy.taken, "the first write")
	for i := range n {
		for range copies {
			c.done.Go(func() { c.store(t.Context(), fmt.Sprint("evt_", i)) })
		}
	}
	waitFor(t, "all others wait", func() bool { return c.InboxUnanswered() == n+1 })
}

// inbox gives the stored deliveries' subjects, how often each is there, and how many came in a batch.
func (c *crowd) inbox(t *testing.T) (subjects map[string]int, batched int) {
	t.Helper()
	s, err := js(t, c.Log).Stream(t.Context(), "PAYKIT_INBOX")
	if err != nil {
		t.Fatal(err)
	}
	subjects = map[string]int{}
	for seq := uint64(1); ; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return subjects, batched
		}
		if err != nil {
			t.Fatal(err)
		}
		subjects[m.Subject]++
		if m.Header.Get("Nats-Batch-Id") != "" {
			batched++
		}
		if m.Header.Get("A") != "b" {
			t.Errorf("%s lost its header", m.Subject)
		}
	}
}

// Deliveries that come while one is being written go together as one batch; each is stored once and told apart from its
// copies.
func TestDeliveriesShareABatch(t *testing.T) {
	t.Parallel()
	c := newCrowd(t, nil)
	const n, copies = 40, 3
	c.gather(t, n, copies)
	c.proxy.goOn(t)
	c.done.Wait()
	subjects, batched := c.inbox(t)
	if len(subjects) != n+1 || batched != n || len(c.failed) != 0 {
		t.Errorf("%d subjects, %d batched, failed: %v", len(subjects), batched, c.failed)
	}
	for i := range n {
		id := fmt.Sprint("evt_", i)
		if subjects["paykit.inbox.stripe."+id+".none"] != 1 || c.stored[id] != 1 || c.again[id] != copies-1 {
			t.Errorf("%s: %d times in the stream, %d times stored, %d times there before", id, subjects["paykit.inbox.stripe."+id+".none"], c.stored[id], c.again[id])
		}
	}
	if c.InboxUnanswered() != 0 {
		t.Error("somebody still waits")
	}
	c.store(t.Context(), "evt_later") // a lone one again
	if c.stored["evt_later"] != 1 {
		t.Errorf("later: %v", c.failed)
	}
}

// One delivery that is there already spoils the batch, not the others.
func TestABatchWithWhatIsThere(t *testing.T) {
	t.Parallel()
	c := newCrowd(t, nil)
	c.store(t.Context(), "evt_7")
	const n = 20
	c.gather(t, n, 1)
	c.proxy.goOn(t)
	c.done.Wait()
	subjects, _ := c.inbox(t)
	if len(subjects) != n+1 || c.again["evt_7"] != 1 || len(c.again) != 1 || len(c.stored) != n+1 || len(c.failed) != 0 {
		t.Errorf("%d subjects, stored %v, there %v, failed %v", len(subjects), c.stored, c.again, c.failed)
	}
	for subject, times := range subjects {
		if times != 1 {
			t.Errorf("%s is there %d times", subject, times)
		}
	}
}

// A batch whose answer is lost is not known to be stored, for none of its deliveries; told again, each is there once.
func TestABatchWithoutAnswer(t *testing.T) {
	t.Parallel()
	c := newCrowd(t, nil)
	const n = 20
	c.SetPatience(time.Second)
	c.gather(t, n, 1)
	c.proxy.mute.Store(true)
	c.proxy.goOn(t)
	c.done.Wait()
	for id, err := range c.failed {
		if !eventlog.IsUnavailable(err) || errors.Is(err, eventlog.ErrUnavailable) {
			t.Errorf("%s: %v", id, err)
		}
	}
	if len(c.failed) != n+1 || len(c.stored) != 0 {
		t.Errorf("failed %v, stored %v", c.failed, c.stored)
	}
	c.proxy.mute.Store(false)
	c.proxy.cut()
	waitFor(t, "the deliveries that come again", func() bool {
		clear(c.failed)
		c.store(t.Context(), "evt_first")
		for i := range n {
			c.store(t.Context(), fmt.Sprint("evt_", i))
		}
		return len(c.failed) == 0
	})
	subjects, _ := c.inbox(t)
	for subject, times := range subjects {
		if times != 1 {
			t.Errorf("%s is there %d times", subject, times)
		}
	}
	if len(subjects) != n+1 {
		t.Errorf("%d subjects", len(subjects))
	}
}

// An answer that does not say that the whole batch is stored counts for nothing: written singly, each delivery is found there,
// and was stored by whom it is from as far as anybody knows.
func TestABatchWithAHalfAnswer(t *testing.T) {
	t.Parallel()
	const n = 20
	c := newCrowd(t, func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(`"count":20}`), []byte(`"count":19}`)) })
	c.gather(t, n, 2)
	c.proxy.goOn(t)
	c.done.Wait()
	subjects, batched := c.inbox(t)
	if len(subjects) != n+1 || batched != n || len(c.failed) != 0 || len(c.stored) != n+1 {
		t.Errorf("%d subjects, %d batched, stored %v, failed %v", len(subjects), batched, c.stored, c.failed)
	}
	for i := range n {
		if id := fmt.Sprint("evt_", i); subjects["paykit.inbox.stripe."+id+".none"] != 1 || c.stored[id] != 1 || c.again[id] != 1 {
			t.Errorf("%s: %d times in the stream, %d times there before", id, subjects["paykit.inbox.stripe."+id+".none"], c.again[id])
		}
	}
}

// A batch's first that is not answered does not hold up what was gathered behind it for as long as its callers wait: all of it
// is written singly.
func TestABatchThatDoesNotOpen(t *testing.T) {
	t.Parallel()
	opened := regexp.MustCompile(`MSG _INBOX\.\S+ \d+ 0\r\n\r\n`) // the answer has no body
	var lost atomic.Int64
	c := newCrowd(t, func(b []byte) []byte {
		return opened.ReplaceAllFunc(b, func([]byte) []byte { lost.Add(1); return nil })
	})
	c.SetPatience(time.Hour)
	const n = 20
	c.gather(t, n, 1)
	c.proxy.goOn(t)
	c.done.Wait()
	subjects, batched := c.inbox(t)
	if lost.Load() != 1 || len(subjects) != n+1 || batched != 0 || len(c.stored) != n+1 || len(c.failed) != 0 {
		t.Errorf("%d answers lost, %d subjects, %d batched, stored %v, failed %v", lost.Load(), len(subjects), batched, c.stored, c.failed)
	}
}

// A connection that breaks before a batch is committed leaves nothing of it. Its deliveries are written singly, and the rest
// of the batch is refused when it arrives in the end.
func TestABatchThatBreaks(t *testing.T) {
	t.Parallel()
	c := newCrowd(t, nil)
	const n = 20
	c.gather(t, n, 1)
	waitFor(t, "the batch is opened", func() bool { return c.proxy.holds("Nats-Batch-Sequence: 1\r\n") })
	c.proxy.letGo() // the first delivery and the batch's first go through; the server answers both
	waitFor(t, "the batch is committed", func() bool { return c.proxy.holds("Nats-Batch-Commit: 1") })
	c.proxy.loseClient()
	c.done.Wait()
	if subjects, batched := c.inbox(t); len(subjects) != n+1 || batched != 0 || len(c.failed) != 0 {
		t.Errorf("%d subjects, %d batched, failed: %v", len(subjects), batched, c.failed)
	}
	c.proxy.arrive(t)
	c.store(t.Context(), "evt_later") // the server is through with what arrived before
	c.store(t.Context(), "evt_5")
	subjects, batched := c.inbox(t)
	if len(subjects) != n+2 || batched != 0 || c.again["evt_5"] != 1 {
		t.Errorf("%d subjects, %d batched, there before: %v", len(subjects), batched, c.again)
	}
	for subject, times := range subjects {
		if times != 1 {
			t.Errorf("%s is there %d times", subject, times)
		}
	}
}

// While one batch is being committed the next is gathered; no delivery is in both, and none is forgotten.
func TestBatchesFollowOneAnother(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Open(t, eventlogtest.Start(t).Conn(t))
	c := &crowd{Log: l, stored: map[string]int{}, again: map[string]int{}, failed: map[string]error{}}
	c.InboxMeasured(time.Second, time.Millisecond) // always a batch
	const callers, each, copies = 40, 10, 2
	for i := range callers {
		for range copies {
			c.done.Go(func() {
				for k := range each {
					c.store(t.Context(), fmt.Sprint("evt_", i, "_", k))
				}
			})
		}
	}
	c.done.Wait()
	subjects, batched := c.inbox(t)
	// How many go by batches is the machine's: what both ways take is measured as it goes.
	if len(subjects) != callers*each || batched == 0 || len(c.failed) != 0 || c.InboxUnanswered() != 0 {
		t.Errorf("%d subjects, %d batched, %d unanswered, failed %v", len(subjects), batched, c.InboxUnanswered(), c.failed)
	}
	for i := range callers {
		for k := range each {
			id := fmt.Sprint("evt_", i, "_", k)
			if subjects["paykit.inbox.stripe."+id+".none"] != 1 || c.stored[id] != 1 || c.again[id] != copies-1 {
				t.Errorf("%s: %d times in the stream, %d stored, %d there before", id, subjects["paykit.inbox.stripe."+id+".none"], c.stored[id], c.again[id])
			}
		}
	}
}

// A caller that goes away while its delivery waits is not told that it was not stored; the delivery is stored all the same,
// and a copy of it that came meanwhile has its answer from it.
func TestAWaitingDeliveryOutlivesItsCaller(t *testing.T) {
	t.Parallel()
	c := newCrowd(t, nil)
	c.InboxMeasured(time.Second, time.Millisecond) // the second one waits
	c.proxy.keepBack()
	c.done.Go(func() { c.store(t.Context(), "evt_first") })
	receive(t, c.proxy.taken, "the first write")
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		c.store(ctx, "evt_1")
	}()
	waitFor(t, "the other waits", func() bool { return c.InboxUnanswered() == 2 })
	c.done.Go(func() { c.store(t.Context(), "evt_1") })
	cancel()
	receive(t, gone, "the caller's end")
	if err := c.failed["evt_1"]; !eventlog.IsUnavailable(err) || errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("told %v", err)
	}
	c.proxy.goOn(t)
	c.done.Wait()
	waitFor(t, "both are stored", func() bool {
		subjects, _ := c.inbox(t)
		return len(subjects) == 2
	})
	if c.again["evt_1"] != 1 {
		t.Errorf("the copy was told: %v, failed %v", c.again, c.failed)
	}
}

// A full server may give a batch no answer at all, and store a part of it: its deliveries are then sent singly and each has an
// answer of its own. Whoever was told that it is stored is stored, nobody else.
func TestABatchOnAFullServer(t *testing.T) {
	t.Parallel()
	nc := eventlogtest.Start(t, func(o *server.Options) { o.JetStreamMaxStore = 4 << 20 }).Conn(t)
	if _, err := eventlog.Provision(t.Context(), nc, eventlog.Config{}); err != nil {
		t.Fatal(err)
	}
	l, err := eventlog.Open(t.Context(), nc, eventlog.Config{})
	if err != nil {
		t.Fatal(err)
	}
	l.InboxMeasured(time.Second, time.Millisecond) // always a batch
	filler := strings.Repeat("x", 60<<10)
	var all sync.WaitGroup
	var mu sync.Mutex
	told := map[string]bool{}
	full := 0
	for i := range 100 {
		all.Go(func() {
			id := fmt.Sprint("evt_", i)
			ok, err := l.StoreDelivery(t.Context(), eventlog.Delivery{ProviderID: "stripe", EventID: id, Body: []byte(`{"filler":"` + filler + `"}`), Header: map[string]string{"A": "b"}})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, eventlog.ErrStorageFull):
				full++
			case err != nil:
				t.Errorf("%s: %v, %v", id, ok, err)
			default: // not ok: it is there because of a batch that was not answered
				told["paykit.inbox.stripe."+id+".none"] = true
			}
		})
	}
	all.Wait()
	c := &crowd{Log: l}
	subjects, _ := c.inbox(t)
	if full == 0 || len(told) == 0 || len(subjects) != len(told) {
		t.Errorf("%d refused, %d told stored, %d in the stream", full, len(told), len(subjects))
	}
	for subject := range told {
		if subjects[subject] != 1 {
			t.Errorf("%s is there %d times", subject, subjects[subject])
		}
	}
}

// What is measured decides: a batch is made when it is expected to be done sooner than the single writes.
func TestWhenABatchPays(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Open(t, eventlogtest.Start(t).Conn(t))
	for n, want := range map[int]bool{1: false, 2: false, 15: false, 16: true, 100: true} {
		if got := l.InboxPays(n); got != want {
			t.Errorf("before anything was measured, %d: %v", n, got)
		}
	}
	l.InboxMeasured(time.Millisecond, 20*time.Millisecond)
	for n, want := range map[int]bool{1: false, 20: false, 21: true} {
		if got := l.InboxPays(n); got != want {
			t.Errorf("a batch costs 20 single writes, %d: %v", n, got)
		}
	}
	l.InboxMeasured(time.Millisecond, 5*time.Second) // one that was stuck
	for range 10_000 {
		l.InboxSingle(1, time.Millisecond)
	}
	if !l.InboxPays(100) {
		t.Error("a batch that was slow once is never tried again")
	}
}
