package eventlog_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

// consuming runs Consume until the test or stop ends it.
type consuming struct {
	stop context.CancelFunc
	done chan error
}

func consume(t *testing.T, l *eventlog.Log, name eventlog.ConsumerName, o eventlog.ConsumeOptions) *consuming {
	t.Helper()
	if o.Lane == nil {
		o.Lane = customerLane
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	c := &consuming{stop: stop, done: make(chan error, 1)}
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		c.done <- l.Consume(ctx, name, o)
	}()
	t.Cleanup(func() {
		stop()
		<-finished
	})
	return c
}

func customerLane(m eventlog.Message) string {
	ev, err := m.Event()
	if err != nil {
		return ""
	}
	return ev.CustomerID()
}

// hurry shortens a consumer's times, which no test can wait for.
func hurry(t *testing.T, l *eventlog.Log, name eventlog.ConsumerName, ackWait, pin time.Duration) {
	t.Helper()
	j := js(t, l)
	c, err := j.Consumer(t.Context(), "PAYKIT_LOG", string(name))
	if err != nil {
		t.Fatal(err)
	}
	config := c.CachedInfo().Config
	config.AckWait, config.PinnedTTL = ackWait, pin
	if _, err := j.UpdateConsumer(t.Context(), "PAYKIT_LOG", config); err != nil {
		t.Fatal(err)
	}
}

// settled waits until everything was delivered and all but so many messages are acknowledged.
func settled(t *testing.T, l *eventlog.Log, stream string, name eventlog.ConsumerName, open int) {
	t.Helper()
	deadline := time.NewTimer(soon)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := js(t, l).Consumer(t.Context(), stream, string(name))
		if err != nil {
			t.Fatal(err)
		}
		info := c.CachedInfo()
		if info.NumPending == 0 && info.NumAckPending == open {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("still %d pending, %d not acknowledged", info.NumPending, info.NumAckPending)
		}
	}
}

func TestLanes(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	const customers, each = 4, 10
	for i := range each {
		for c := range customers {
			createCharge(t, l, fmt.Sprint("c", c), fmt.Sprint(c, "-", i))
		}
	}
	held := events.CustomerID("c0")
	release := make(chan struct{})
	handled := make(chan eventlog.Message, customers*each)
	var mu sync.Mutex
	running := map[string]int{}
	consume(t, l, eventlog.ConsumerRequests, eventlog.ConsumeOptions{
		Lanes: 4,
		Handle: func(_ context.Context, m eventlog.Message) eventlog.Result {
			lane := customerLane(m)
			mu.Lock()
			running[lane]++
			if running[lane] > 1 {
				t.Errorf("lane %s ran twice at once", lane)
			}
			mu.Unlock()
			if lane == held {
				<-release // as long as it takes: the others don't wait
			}
			mu.Lock()
			running[lane]--
			mu.Unlock()
			handled <- m
			return eventlog.Done()
		},
	})
	order := map[string][]uint64{}
	for range (customers - 1) * each {
		m := receive(t, handled, "the free lanes")
		if m.Attempt != 1 || m.Stream != "PAYKIT_LOG" || time.Since(m.Time) > time.Minute {
			t.Errorf("%+v", m)
		}
		order[customerLane(m)] = append(order[customerLane(m)], m.Sequence)
	}
	if len(order[held]) != 0 {
		t.Error("the held lane went on")
	}
	close(release)
	for range each {
		m := receive(t, handled, "the held lane")
		order[customerLane(m)] = append(order[customerLane(m)], m.Sequence)
	}
	for lane, sequences := range order {
		if !slices.IsSorted(sequences) || len(sequences) != each {
			t.Errorf("lane %s was handled as %v", lane, sequences)
		}
	}
	settled(t, l, "PAYKIT_LOG", eventlog.ConsumerRequests, 0)
}

// One lane that stands still does not keep the others waiting, however much has gathered in it.
func TestLongLane(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	j := js(t, l)
	const held = 3000
	for i := range held {
		if _, err := j.PublishAsync(fmt.Sprint("paykit.inbox.stripe.evt_", i, ".held"), []byte("{}")); err != nil {
			t.Fatal(err)
		}
		if i%1000 == 999 {
			receive(t, j.PublishAsyncComplete(), "the acknowledgements")
		}
	}
	if _, err := l.StoreDelivery(t.Context(), eventlog.Delivery{ProviderID: "stripe", EventID: "evt_free", ProviderCustomerID: "free", Body: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	handled := make(chan string, held+1)
	consume(t, l, eventlog.ConsumerNormalizer, eventlog.ConsumeOptions{
		Lane: func(m eventlog.Message) string { return m.Subject[strings.LastIndexByte(m.Subject, '.'):] },
		Handle: func(_ context.Context, m eventlog.Message) eventlog.Result {
			if strings.HasSuffix(m.Subject, ".held") {
				<-release
			}
			handled <- m.Subject
			return eventlog.Done()
		},
	})
	if subject := receive(t, handled, "the free lane"); subject != "paykit.inbox.stripe.evt_free.free" {
		t.Errorf("handled %s", subject)
	}
	close(release)
	for i := range held {
		if subject, want := receive(t, handled, "the long lane"), fmt.Sprint("paykit.inbox.stripe.evt_", i, ".held"); subject != want {
			t.Fatalf("handled %s, want %s", subject, want)
		}
	}
}

// What is given back is delivered again at once, and not taken for another delivery of what is in hand.
func TestRetryAtOnce(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	const messages, tries = 20, 150
	for i := range messages {
		createCharge(t, l, fmt.Sprint("c", i), fmt.Sprint("k", i))
	}
	done := make(chan uint64, messages)
	consume(t, l, eventlog.ConsumerRequests, eventlog.ConsumeOptions{Handle: func(_ context.Context, m eventlog.Message) eventlog.Result {
		if m.Attempt < tries {
			return eventlog.Retry(0)
		}
		done <- m.Sequence
		return eventlog.Done()
	}})
	limit := time.After(eventlog.AckWait - time.Second) // then what was lost comes again
	for range messages {
		select {
		case <-done:
		case <-limit:
			t.Fatal("a message that was given back got lost")
		}
	}
}

// A process counts as active while nobody else is, also on a system without work: what only the active one does must
// not wait for a message.
func TestActiveWithoutWork(t *testing.T) {
	t.Parallel()
	srv := eventlogtest.Start(t)
	l := eventlogtest.Open(t, srv.Conn(t))
	handle := func(context.Context, eventlog.Message) eventlog.Result { return eventlog.Done() }
	first, second := make(chan bool, 10), make(chan bool, 10)
	consume(t, l, eventlog.ConsumerRequests, eventlog.ConsumeOptions{Handle: handle, OnActive: func(now bool) { first <- now }})
	if !receive(t, first, "becoming active") {
		t.Error("not active, and nobody else is")
	}
	createCharge(t, l, "a", "k") // now the pin is the first one's
	settled(t, l, "PAYKIT_LOG", eventlog.ConsumerRequests, 0)
	other, err := eventlog.Open(t.Context(), srv.Conn(t), eventlog.Config{})
	if err != nil {
		t.Fatal(err)
	}
	c := consume(t, other, eventlog.ConsumerRequests, eventlog.ConsumeOptions{Handle: handle, OnActive: func(now bool) { second <- now }})
	waitFor(t, "the second's pull", func() bool {
		c, err := js(t, l).Consumer(t.Context(), "PAYKIT_LOG", string(eventlog.ConsumerRequests))
		return err == nil && c.CachedInfo().NumWaiting > 1
	})
	createCharge(t, l, "a", "k2")
	settled(t, l, "PAYKIT_LOG", eventlog.ConsumerRequests, 0)
	c.stop()
	if err := receive(t, c.done, "the end"); err != nil {
		t.Error(err)
	}
	if len(first) != 0 || len(second) != 0 {
		t.Errorf("%d and %d changes, want none: the first is the active one", len(first), len(second))
	}
}

func TestOnlyItsEvents(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	appendCustomer(t, l, "a", 2) // created, updated
	e := createCharge(t, l, "a", "k")
	got := make(chan events.Type, 10)
	handle := func(_ context.Context, m eventlog.Message) eventlog.Result {
		ev, err := m.Event()
		if err != nil {
			t.Error(err)
		}
		got <- ev.Type
		return eventlog.Done()
	}
	consume(t, l, eventlog.ConsumerRequests, eventlog.ConsumeOptions{Handle: handle, Lane: func(eventlog.Message) string { return "" }})
	for _, want := range []events.Type{events.CustomerUpdated, events.ChargeRequested} {
		if typ := receive(t, got, "a request"); typ != want {
			t.Errorf("got %s, want %s", typ, want)
		}
	}
	settling := make(chan events.Type, 10)
	consume(t, l, eventlog.ConsumerSettling, eventlog.ConsumeOptions{Handle: func(_ context.Context, m eventlog.Message) eventlog.Result {
		ev, err := m.Event()
		if err != nil {
			t.Error(err)
		}
		settling <- ev.Type
		return eventlog.Done()
	}})
	_, _, err := l.Update(t.Context(), events.EntityCharge, e.Event.Subject, func(last *events.Event) (*events.Event, error) {
		return events.DecideCharge(last, events.ConfirmUnanswered{}, events.Cause{Now: time.Now()})
	})
	if err != nil {
		t.Fatal(err)
	}
	if typ := receive(t, settling, "what is open"); typ != events.ChargeInDoubt {
		t.Errorf("settling got %s", typ)
	}
}

// A handler that takes longer than AckWait, and a message that waits for it in the same lane, are delivered once.
func TestHeartbeat(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	const wait = 600 * time.Millisecond
	hurry(t, l, eventlog.ConsumerRequests, wait, 10*time.Second)
	createCharge(t, l, "a", "slow")
	createCharge(t, l, "a", "queued")
	handled := make(chan eventlog.Message, 10)
	consume(t, l, eventlog.ConsumerRequests, eventlog.ConsumeOptions{Handle: func(_ context.Context, m eventlog.Message) eventlog.Result {
		if m.Sequence == 1 {
			<-time.After(3 * wait)
		}
		handled <- m
		return eventlog.Done()
	}})
	for sequence := uint64(1); sequence <= 2; sequence++ {
		if m := receive(t, handled, "a message"); m.Sequence != sequence || m.Attempt != 1 {
			t.Errorf("handled %d, attempt %d", m.Sequence, m.Attempt)
		}
	}
	settled(t, l, "PAYKIT_LOG", eventlog.ConsumerRequests, 0)
	c, err := js(t, l).Consumer(t.Context(), "PAYKIT_LOG", string(eventlog.ConsumerRequests))
	if err != nil {
		t.Fatal(err)
	}
	if n := c.CachedInfo().Delivered.Consumer; n != 2 || len(handled) != 0 {
		t.Errorf("%d deliveries of 2 messages", n)
	}
}

func TestRetryLetsOthersPass(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	createCharge(t, l, "a", "first")
	createCharge(t, l, "a", "second")
	const delay = 700 * time.Millisecond
	var failed time.Time
	handled := make(chan eventlog.Message, 10)
	consume(t, l, eventlog.ConsumerRequests, eventlog.ConsumeOptions{Handle: func(_ context.Context, m eventlog.Message) eventlog.Result {
		if m.Sequence == 1 && m.Attempt == 1 {
			failed = time.Now()
			return eventlog.Retry(delay)
		}
		handled <- m
		return eventlog.Done()
	}})
	if m := receive(t, handled, "the second"); m.Sequence != 2 {
		t.Errorf("first came %d", m.Sequence)
	}
	m := receive(t, handled, "the first again")
	if m.Sequence != 1 || m.Attempt != 2 {
		t.Errorf("then came %d, attempt %d", m.Sequence, m.Attempt)
	}
	if after := time.Since(failed); after < delay {
		t.Errorf("again after %v", after)
	}
}

func TestPanicIsARetry(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	createCharge(t, l, "a", "k")
	handled := make(chan eventlog.Message, 10)
	consume(t, l, eventlog.ConsumerRequests, eventlog.ConsumeOptions{Handle: func(_ context.Context, m eventlog.Message) eventlog.Result {
		if m.Attempt == 1 {
			panic("a bug")
		}
		handled <- m
		return eventlog.Done()
	}})
	if m := receive(t, handled, "the message again"); m.Attempt != 2 {
		t.Errorf("attempt %d", m.Attempt)
	}
}

// At its end Consume lets a running handler finish and hands back what it did not begin, and the pin.
func TestEndOfConsume(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	createCharge(t, l, "a", "running")
	createCharge(t, l, "a", "queued")
	began := make(chan struct{})
	finish := make(chan struct{})
	active := make(chan bool, 10)
	first := consume(t, l, eventlog.ConsumerRequests, eventlog.ConsumeOptions{
		OnActive: func(now bool) { active <- now },
		Handle: func(ctx context.Context, m eventlog.Message) eventlog.Result {
			if m.Sequence != 1 {
				t.Errorf("began %d at the end", m.Sequence)
			}
			close(began)
			<-finish
			if ctx.Err() != nil {
				t.Error("the handler's context ended before the grace")
			}
			return eventlog.Done()
		},
	})
	receive(t, began, "the handler")
	if !receive(t, active, "becoming active") {
		t.Error("not active")
	}
	first.stop()
	close(finish)
	if err := receive(t, first.done, "the end"); err != nil {
		t.Errorf("ended with %v", err)
	}
	if receive(t, active, "standing down") {
		t.Error("active after the end")
	}
	handled := make(chan eventlog.Message, 10)
	begin := time.Now()
	consume(t, l, eventlog.ConsumerRequests, eventlog.ConsumeOptions{Handle: func(_ context.Context, m eventlog.Message) eventlog.Result {
		handled <- m
		return eventlog.Done()
	}})
	if m := receive(t, handled, "what was handed back"); m.Sequence != 2 || m.Attempt != 2 {
		t.Errorf("handled %d, attempt %d", m.Sequence, m.Attempt)
	}
	if waited := time.Since(begin); waited > 5*time.Second {
		t.Errorf("only after %v: the pin or the message was kept", waited)
	}
	settled(t, l, "PAYKIT_LOG", eventlog.ConsumerRequests, 0)
	if len(handled) != 0 {
		t.Error("what was done came again")
	}
}
