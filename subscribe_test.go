package paykit_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/paykit-go/paykit"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

// feed is a server with a bare LOG, into which a test writes what it wants subscribers to see.
type feed struct {
	t      *testing.T
	server *eventlogtest.Server
	js     jetstream.JetStream
	last   map[string]*events.Event // by customer's reference
}

func newFeed(t *testing.T) *feed {
	t.Helper()
	f := &feed{t: t, server: eventlogtest.Start(t), last: map[string]*events.Event{}}
	js, err := jetstream.New(f.server.Conn(t))
	if err != nil {
		t.Fatal(err)
	}
	f.js = js
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "PAYKIT_LOG", Subjects: []string{"paykit.log.>"}}); err != nil {
		t.Fatal(err)
	}
	return f
}

// client is an app of its own.
func (f *feed) client() *paykit.Client { return paykit.NewClient(f.server.Conn(f.t)) }

// customers appends events of customers, n each, in turns: created, then updated.
func (f *feed) customers(n int, references ...string) {
	f.t.Helper()
	for range n {
		for _, reference := range references {
			e, err := events.DecideCustomer(f.last[reference], events.SyncCustomer{ReferenceID: reference, Revision: 1, Changed: []string{"name"}}, events.Cause{Now: time.Now()})
			if err != nil {
				f.t.Fatal(err)
			}
			f.last[reference] = e
			f.store(e)
		}
	}
	f.sync()
}

func (f *feed) store(e *events.Event) {
	f.t.Helper()
	raw, err := e.Encode()
	if err != nil {
		f.t.Fatal(err)
	}
	customer := e.CustomerID()
	if customer == "" {
		customer = events.None
	}
	f.raw("paykit.log."+string(e.Entity())+"."+e.Type.Name()+"."+e.Subject+"."+customer, raw)
}

func (f *feed) raw(subject string, body []byte) {
	f.t.Helper()
	if _, err := f.js.PublishAsync(subject, body, jetstream.WithStallWait(10*time.Second)); err != nil {
		f.t.Fatal(err)
	}
}

// sync waits until all of it is stored.
func (f *feed) sync() {
	f.t.Helper()
	select {
	case <-f.js.PublishAsyncComplete():
	case <-time.After(30 * time.Second):
		f.t.Fatal("not stored")
	}
}

// consumer waits until a subscription's consumer is as it should be.
func (f *feed) consumer(name string, enough func(*jetstream.ConsumerInfo) bool) *jetstream.ConsumerInfo {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 20*time.Second)
	defer cancel()
	for {
		consumer, err := f.js.Consumer(ctx, "PAYKIT_LOG", "sub-"+name)
		if err == nil && enough(consumer.CachedInfo()) {
			return consumer.CachedInfo()
		}
		if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			f.t.Fatal(err)
		}
		select {
		case <-ctx.Done():
			f.t.Fatal("the consumer is not as it should be")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// seen is what handlers dealt with.
type seen struct {
	mu       sync.Mutex
	versions map[string][]int // by customer's reference, in the order in which they were dealt with
	changed  chan struct{}
}

func newSeen() *seen { return &seen{versions: map[string][]int{}, changed: make(chan struct{}, 1)} }

func (s *seen) add(e paykit.CustomerEvent) {
	s.mu.Lock()
	s.versions[e.Customer.ReferenceID] = append(s.versions[e.Customer.ReferenceID], e.Event.EntityVersion)
	s.mu.Unlock()
	s.poke()
}

// poke has until look again.
func (s *seen) poke() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *seen) of(reference string) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.versions[reference])
}

func (s *seen) total() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, v := range s.versions {
		n += len(v)
	}
	return n
}

// until waits until what was seen is enough.
func (s *seen) until(t *testing.T, what string, enough func() bool) {
	t.Helper()
	late := time.After(30 * time.Second)
	for !enough() {
		select {
		case <-s.changed:
		case <-late:
			s.mu.Lock()
			defer s.mu.Unlock()
			t.Fatalf("%s: not within 30 s; seen %v", what, summary(s.versions))
		}
	}
}

func summary(versions map[string][]int) map[string]int {
	counts := map[string]int{}
	for reference, v := range versions {
		counts[reference] = len(v)
	}
	return counts
}

// inOrder checks that nothing of a customer is missing and nothing was first dealt with out of order.
func (s *seen) inOrder(t *testing.T, reference string, n int) {
	t.Helper()
	want := 1
	got := s.of(reference)
	for _, v := range got {
		if v > want {
			t.Errorf("%s: version %d was dealt with before %d", reference, v, want)
			return
		}
		want = max(want, v+1)
	}
	if want != n+1 {
		t.Errorf("%s: %d of %d were dealt with: %v", reference, want-1, n, got)
	}
}

// listening is a running subscription.
type listening struct {
	stop context.CancelFunc
	end  chan error
}

// listen subscribes until the test ends or stop is called.
func listen(t *testing.T, pk *paykit.Client, name string, h paykit.Handlers, options ...paykit.SubscribeOption) *listening {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &listening{stop: cancel, end: make(chan error, 1)}
	go func() { l.end <- pk.Subscribe(ctx, name, h, append(options, paykit.FromBeginning())...) }()
	t.Cleanup(func() { _ = l.ended(t) })
	return l
}

// ended stops it and gives how it ended.
func (l *listening) ended(t *testing.T) error {
	t.Helper()
	l.stop()
	select {
	case err := <-l.end:
		l.end <- err
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("Subscribe does not return")
		return nil
	}
}

func both(f func(context.Context, paykit.CustomerEvent) error) paykit.Handlers {
	return paykit.Handlers{CustomerCreated: f, CustomerUpdated: f}
}

var errNotNow = errors.New("not now")

// Customers whose handler fails, more than are handled at once, hold up nobody else; and they are called again.
func TestFailingCustomersHoldUpNobodyElse(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	var poor, good []string
	for i := range 40 {
		poor = append(poor, fmt.Sprint("poor ", i))
	}
	for i := range 5 {
		good = append(good, fmt.Sprint("good ", i))
	}
	f.customers(2, poor...)
	f.customers(3, good...)
	s := newSeen()
	var mu sync.Mutex
	tries := map[string]int{}
	l := listen(t, f.client(), "failing", both(func(_ context.Context, e paykit.CustomerEvent) error {
		reference := e.Customer.ReferenceID
		if slices.Contains(poor, reference) {
			mu.Lock()
			defer mu.Unlock()
			if tries[reference]++; tries[reference] <= 4 {
				return errNotNow
			}
		}
		s.add(e)
		return nil
	}))
	s.until(t, "the good customers' events", func() bool { return s.total() >= 15 })
	for _, reference := range good {
		s.inOrder(t, reference, 3)
	}
	s.until(t, "all events", func() bool { return s.total() == 95 })
	for _, reference := range poor {
		s.inOrder(t, reference, 2)
	}
	if err := l.ended(t); err != nil {
		t.Errorf("ended with %v", err)
	}
}

// One customer with a long list of events that wait holds up nobody else, and has them in order once it goes on.
func TestOneCustomersBacklogHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	const n = 800
	f := newFeed(t)
	f.customers(n, "poor")
	f.customers(2, "good")
	s := newSeen()
	open := make(chan struct{})
	listen(t, f.client(), "backlog", both(func(_ context.Context, e paykit.CustomerEvent) error {
		if e.Customer.ReferenceID == "poor" {
			select {
			case <-open:
			default:
				return errNotNow
			}
		}
		s.add(e)
		return nil
	}))
	s.until(t, "the good customer's events", func() bool { return len(s.of("good")) == 2 })
	close(open)
	s.until(t, "the others", func() bool { return len(s.of("poor")) >= n })
	s.inOrder(t, "poor", n)
}

// While two versions of an app share a name, neither takes from the other what it has no handler for.
func TestAnOlderProcessLeavesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	s, old := newSeen(), newSeen()
	first := paykit.Handlers{CustomerCreated: func(_ context.Context, e paykit.CustomerEvent) error {
		old.add(e)
		s.add(e)
		return nil
	}}
	listen(t, f.client(), "deploy", first)
	f.customers(1, "before")
	old.until(t, "the first event", func() bool { return old.total() == 1 })
	listen(t, f.client(), "deploy", both(func(_ context.Context, e paykit.CustomerEvent) error {
		s.add(e)
		return nil
	}))
	f.consumer("deploy", func(i *jetstream.ConsumerInfo) bool { return len(i.Config.FilterSubjects) == 2 })
	var references []string
	for i := range 8 {
		references = append(references, fmt.Sprint("user ", i))
	}
	f.customers(3, references...)
	s.until(t, "all that the newer process asks for", func() bool { return s.total() >= 25 })
	// The older version is started once more, while the newer one runs: it takes nothing from it either.
	again := listen(t, f.client(), "deploy", first)
	f.consumer("deploy", func(i *jetstream.ConsumerInfo) bool { return i.NumWaiting == 3 })
	f.customers(1, references...)
	s.until(t, "what came after the older one's start", func() bool { return s.total() >= 33 })
	if err := again.ended(t); err != nil {
		t.Error(err)
	}
	for _, reference := range references {
		got := slices.Sorted(slices.Values(s.of(reference)))
		if !slices.Equal(got, []int{1, 2, 3, 4}) {
			t.Errorf("%s: %v", reference, got)
		}
	}
}

// The end of ctx gives back at once what is not dealt with, in order; what a handler finished is not delivered again.
func TestEndGivesBack(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	f.customers(5, "a", "b", "c")
	s := newSeen()
	started, finish := make(chan string, 10), make(chan struct{})
	l := listen(t, f.client(), "end", both(func(_ context.Context, e paykit.CustomerEvent) error {
		started <- e.Customer.ReferenceID
		<-finish // a handler that does not look at its context
		s.add(e)
		return nil
	}))
	running := map[string]bool{}
	for len(running) < 3 {
		select {
		case reference := <-started:
			running[reference] = true
		case <-time.After(10 * time.Second):
			t.Fatalf("only %v are handled", slices.Collect(maps.Keys(running)))
		}
	}
	l.stop()
	close(finish)
	if err := l.ended(t); err != nil {
		t.Fatal(err)
	}
	if s.total() != 3 {
		t.Errorf("%d were dealt with after the end", s.total())
	}
	begin := time.Now()
	listen(t, f.client(), "end", both(func(_ context.Context, e paykit.CustomerEvent) error {
		s.add(e)
		return nil
	}))
	s.until(t, "the rest", func() bool { return s.total() >= 15 })
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("the next process had to wait %s", took)
	}
	for _, reference := range []string{"a", "b", "c"} {
		if got := s.of(reference); !slices.Equal(got, []int{1, 2, 3, 4, 5}) {
			t.Errorf("%s: %v", reference, got)
		}
	}
}

// A subscription whose connection or consumer is gone says so and ends; it does not turn in circles.
func TestSubscriptionThatCannotGoOn(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	s := newSeen()
	handle := both(func(_ context.Context, e paykit.CustomerEvent) error {
		s.add(e)
		return nil
	})
	f.customers(1, "a")
	nc := f.server.Conn(t)
	closed := listen(t, paykit.NewClient(nc), "closed", handle)
	deleted := listen(t, f.client(), "deleted", handle)
	s.until(t, "an event in each", func() bool { return s.total() == 2 })
	nc.Close()
	if err := f.js.DeleteConsumer(t.Context(), "PAYKIT_LOG", "sub-deleted"); err != nil {
		t.Fatal(err)
	}
	for name, l := range map[string]*listening{"closed": closed, "deleted": deleted} {
		select {
		case err := <-l.end:
			l.end <- err
			if !errors.Is(err, paykit.ErrUnavailable) {
				t.Errorf("%s: ended with %v", name, err)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s: goes on", name)
		}
	}
}

// A server that is away for a while is waited for.
func TestSubscriptionOutlivesTheServer(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	s := newSeen()
	f.customers(1, "a")
	listen(t, f.client(), "restart", both(func(_ context.Context, e paykit.CustomerEvent) error {
		s.add(e)
		return nil
	}))
	s.until(t, "the first event", func() bool { return s.total() == 1 })
	f.server.Restart()
	f.customers(3, "a", "b")
	s.until(t, "what came after the restart", func() bool { return len(s.of("a")) >= 4 && len(s.of("b")) >= 3 })
	s.inOrder(t, "a", 4)
	s.inOrder(t, "b", 3)
}

// What is no event, or of a type that only a newer version knows, is passed over.
func TestWhatIsNoEventIsPassedOver(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	f.raw("paykit.log.customer.created.x.cust_1", []byte("{"))
	f.customers(1, "a")
	s := newSeen()
	rest := 0
	var mu sync.Mutex
	f.raw("paykit.log.charge.exploded.x."+f.last["a"].CustomerID(), []byte(`{"specversion":"1.0","id":"1","type":"charge.exploded","subject":"x","entityversion":1,"data":{}}`))
	f.customers(2, "a")
	listen(t, f.client(), "odd", paykit.Handlers{
		CustomerCreated: func(_ context.Context, e paykit.CustomerEvent) error {
			s.add(e)
			return nil
		},
		Any: func(context.Context, paykit.Event) error {
			mu.Lock()
			rest++
			mu.Unlock()
			s.poke()
			return nil
		},
	})
	s.until(t, "the event after it", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return s.total() == 1 && rest == 2
	})
}
