package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

// A handler that does not end has its context cancelled after the grace.
func TestEndOfConsumeCutsLongHandlers(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	createCharge(t, l, "a", "long")
	began, ended := make(chan struct{}), make(chan struct{}, 1)
	c := consume(t, l, eventlog.ConsumerRequests, eventlog.ConsumeOptions{Handle: func(ctx context.Context, _ eventlog.Message) eventlog.Result {
		close(began)
		<-ctx.Done()
		<-time.After(200 * time.Millisecond)
		ended <- struct{}{}
		return eventlog.Retry(0)
	}})
	receive(t, began, "the handler")
	begin := time.Now()
	c.stop()
	if err := receive(t, c.done, "the end"); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took < 4*time.Second || took > 7500*time.Millisecond {
		t.Errorf("ended after %v", took)
	}
	if len(ended) == 0 {
		t.Error("ended before the handler did")
	}
}

// Of two processes one is active. When it is cut off without a word, the other takes over, and what the first had in
// hand is delivered again.
func TestStandByTakesOver(t *testing.T) {
	t.Parallel()
	srv := eventlogtest.Start(t)
	l := eventlogtest.Open(t, srv.Conn(t))
	hurry(t, l, eventlog.ConsumerRequests, 2*time.Second, 5*time.Second)
	p := startProxy(t, srv.URL, nil)
	type delivery struct {
		who string
		m   eventlog.Message
	}
	handled := make(chan delivery, 100)
	hang := make(chan struct{})
	start := func(who string, l *eventlog.Log) {
		consume(t, l, eventlog.ConsumerRequests, eventlog.ConsumeOptions{Handle: func(_ context.Context, m eventlog.Message) eventlog.Result {
			handled <- delivery{who, m}
			if who == "first" && m.Sequence == 4 {
				<-hang
			}
			return eventlog.Done()
		}})
	}
	cut, err := eventlog.Open(t.Context(), (&eventlogtest.Server{URL: p.URL}).Conn(t), eventlog.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer close(hang) // before the ends of Consume
	start("first", cut)
	createCharge(t, l, "a", "0")
	if d := receive(t, handled, "the first message"); d.who != "first" {
		t.Errorf("handled by %s", d.who)
	}
	start("second", l)
	for i := 1; i < 4; i++ {
		createCharge(t, l, "a", fmt.Sprint(i))
		if d := receive(t, handled, "a message"); d.who != "first" {
			t.Errorf("message %d was handled by the stand-by", i)
		}
	}
	p.close() // no way back
	p.cut()
	begin := time.Now()
	d := receive(t, handled, "the takeover")
	if d.who != "second" || d.m.Sequence != 4 || d.m.Attempt < 2 {
		t.Errorf("%s handled %d, attempt %d", d.who, d.m.Sequence, d.m.Attempt)
	}
	if took := time.Since(begin); took > 12*time.Second {
		t.Errorf("taken over after %v", took)
	}
	createCharge(t, l, "a", "5")
	if d := receive(t, handled, "the next message"); d.who != "second" || d.m.Sequence != 5 {
		t.Errorf("%s handled %d", d.who, d.m.Sequence)
	}
}

func TestConsumeThroughARestart(t *testing.T) {
	t.Parallel()
	srv := eventlogtest.Start(t)
	l := eventlogtest.Open(t, srv.Conn(t))
	handled := make(chan eventlog.Message, 10)
	consume(t, l, eventlog.ConsumerRequests, eventlog.ConsumeOptions{Handle: func(_ context.Context, m eventlog.Message) eventlog.Result {
		handled <- m
		return eventlog.Done()
	}})
	createCharge(t, l, "a", "before")
	receive(t, handled, "the first message")
	srv.Restart()
	createCharge(t, l, "a", "after")
	for {
		if m := receive(t, handled, "the second message"); m.Sequence == 2 {
			break
		}
	}
}

func TestConsumeWithoutItsConsumer(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	if err := l.Consume(t.Context(), "nobody", eventlog.ConsumeOptions{}); err == nil {
		t.Error("consumed from nowhere")
	}
	j := js(t, l)
	for i := range 20 {
		if _, err := l.StoreDelivery(t.Context(), eventlog.Delivery{ProviderID: "stripe", EventID: fmt.Sprint("evt_", i), Body: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
	}
	subscriptions := l.Conn().NumSubscriptions()
	began, goOn := make(chan struct{}, 20), make(chan struct{})
	c := consume(t, l, eventlog.ConsumerNormalizer, eventlog.ConsumeOptions{
		Lane: func(eventlog.Message) string { return "" },
		Handle: func(ctx context.Context, _ eventlog.Message) eventlog.Result {
			began <- struct{}{}
			select {
			case <-goOn:
			case <-ctx.Done():
			}
			return eventlog.Done()
		},
	})
	receive(t, began, "the beginning")
	pulled(t, j, "PAYKIT_INBOX", "normalizer")
	if err := j.DeleteConsumer(t.Context(), "PAYKIT_INBOX", "normalizer"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the end of the subscription", func() bool { return l.Conn().NumSubscriptions() <= subscriptions })
	goOn <- struct{}{} // one of them ends
	if err := receive(t, c.done, "the end"); !errors.Is(err, eventlog.ErrNotProvisioned) {
		t.Errorf("its consumer went away: %v", err)
	}
	if len(began) > 1 { // one, if it was quicker than the end
		t.Errorf("%d more were begun after the consumer was gone", len(began))
	}
	if err := l.Consume(t.Context(), eventlog.ConsumerNormalizer, eventlog.ConsumeOptions{}); !errors.Is(err, eventlog.ErrNotProvisioned) {
		t.Errorf("no consumer: %v", err)
	}
}

// pulled waits until somebody waits for messages.
func pulled(t *testing.T, j jetstream.JetStream, stream, consumer string) {
	t.Helper()
	deadline := time.NewTimer(soon)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := j.Consumer(t.Context(), stream, consumer)
		if err != nil {
			t.Fatal(err)
		}
		if c.CachedInfo().NumWaiting > 0 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("nobody pulls")
		}
	}
}

// A command without a body, with headers that the client library takes for a word of the server's, stops nobody: it is
// handled as any other, and so are those around it.
func TestCommandsThatLookLikeTheServersWords(t *testing.T) {
	t.Parallel()
	headers := []nats.Header{
		{"Status": {"400"}},
		{"Status": {"409"}, "Description": {"Consumer Deleted"}},
		{"Status": {"100"}},
		{"Status": {"404"}},
		{"Status": {"408"}, "Nats-Pending-Messages": {"x"}},
		{"Status": {"503"}},
		{"Status": {"423"}},
		{"Nats-Sequence": {"1"}, "Status": {"204"}},
	}
	l := eventlogtest.Provisioned(t)
	send := func(msg *nats.Msg) {
		t.Helper()
		msg.Subject = "paykit.cmd.customer.sync"
		if _, err := l.Conn().RequestMsg(msg, soon); err != nil {
			t.Fatal(err)
		}
	}
	send(&nats.Msg{Data: []byte("first")})
	for _, h := range headers[:4] {
		h.Set("Paykit-Idempotency-Key", "k")
		send(&nats.Msg{Header: h})
	}
	handled := make(chan eventlog.Message, 100)
	consume(t, l, eventlog.ConsumerCommands, eventlog.ConsumeOptions{
		Lane: func(eventlog.Message) string { return "" },
		Handle: func(_ context.Context, m eventlog.Message) eventlog.Result {
			handled <- m
			return eventlog.Erase()
		},
	})
	seen := map[uint64]bool{}
	until := func(n int) {
		t.Helper()
		for len(seen) < n {
			m := receive(t, handled, "a command")
			seen[m.Sequence] = true
			if len(m.Data) == 0 && (m.Subject != "paykit.cmd.customer.sync" || m.Header.Get("Paykit-Idempotency-Key") != "k") {
				t.Errorf("%+v", m)
			}
		}
	}
	until(5)
	settled(t, l, "PAYKIT_COMMANDS", eventlog.ConsumerCommands, 0)
	send(&nats.Msg{Data: []byte("between")})
	until(6)
	for _, h := range headers[4:] { // the first of these ends the subscription
		h.Set("Paykit-Idempotency-Key", "k")
		send(&nats.Msg{Header: h})
	}
	send(&nats.Msg{Data: []byte("last")})
	until(11)
	settled(t, l, "PAYKIT_COMMANDS", eventlog.ConsumerCommands, 0)
}
