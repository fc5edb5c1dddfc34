package eventlog_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

// limit sets how many messages of a consumer may be open at once.
func limit(t *testing.T, l *eventlog.Log, name eventlog.ConsumerName, most int) {
	t.Helper()
	j := js(t, l)
	c, err := j.Consumer(t.Context(), "PAYKIT_LOG", string(name))
	if err != nil {
		t.Fatal(err)
	}
	config := c.CachedInfo().Config
	config.MaxAckPending = most
	if _, err := j.UpdateConsumer(t.Context(), "PAYKIT_LOG", config); err != nil {
		t.Fatal(err)
	}
}

// storedAt is when a message of the LOG was stored.
func storedAt(t *testing.T, l *eventlog.Log, sequence uint64) time.Time {
	t.Helper()
	s, err := js(t, l).Stream(t.Context(), "PAYKIT_LOG")
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetMsg(t.Context(), sequence)
	if err != nil {
		t.Fatal(err)
	}
	return m.Time
}

// What is put off counts as open. At the limit nothing new comes, and what was put off comes again.
func TestBacklog(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	if b, err := l.Backlog(t.Context(), eventlog.ConsumerNormalizer); err != nil || b.Limit < 1000 || b.Open+b.Waiting != 0 || b.Full() {
		t.Errorf("an idle consumer: %+v, %v", b, err)
	}
	limit(t, l, eventlog.ConsumerRequests, 2)
	for _, key := range []string{"a", "b", "c"} {
		createCharge(t, l, key, key)
	}
	oldest := storedAt(t, l, 1)
	if b, err := l.Backlog(t.Context(), eventlog.ConsumerRequests); err != nil || b != (eventlog.Backlog{Waiting: 3, Limit: 2, Oldest: oldest}) {
		t.Errorf("nobody works: %+v, %v", b, err)
	}
	handled := make(chan eventlog.Message, 10)
	consume(t, l, eventlog.ConsumerRequests, eventlog.ConsumeOptions{Handle: func(_ context.Context, m eventlog.Message) eventlog.Result {
		handled <- m
		if m.Attempt < 2 {
			return eventlog.Retry(time.Second)
		}
		return eventlog.Done()
	}})
	first := []uint64{receive(t, handled, "one").Sequence, receive(t, handled, "another").Sequence}
	if b, err := l.Backlog(t.Context(), eventlog.ConsumerRequests); err != nil || b != (eventlog.Backlog{Waiting: 1, Open: 2, Limit: 2, Oldest: oldest}) || !b.Full() {
		t.Errorf("both put off: %+v, %v", b, err)
	}
	if m := receive(t, handled, "what was put off"); m.Attempt != 2 || m.Sequence == 3 || first[0] == first[1] {
		t.Errorf("at the limit came %d, attempt %d", m.Sequence, m.Attempt)
	}
	for receive(t, handled, "the third").Sequence != 3 {
		t.Log("not yet")
	}
	limit(t, l, eventlog.ConsumerRequests, -1)
	if b, err := l.Backlog(t.Context(), eventlog.ConsumerRequests); err != nil || b.Full() {
		t.Errorf("without a limit: %+v, %v", b, err)
	}
	if _, err := l.Backlog(t.Context(), "nobody"); !errors.Is(err, eventlog.ErrNotProvisioned) {
		t.Errorf("no consumer: %v", err)
	}
	if err := js(t, l).DeleteConsumer(t.Context(), "PAYKIT_LOG", string(eventlog.ConsumerSettling)); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Fatal(err)
	}
	if _, err := l.Backlog(t.Context(), eventlog.ConsumerSettling); !errors.Is(err, eventlog.ErrNotProvisioned) {
		t.Errorf("a deleted one: %v", err)
	}
}

// The oldest message that is not done shows, whatever was done after it, also what no filter of the consumer takes in.
func TestOldest(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	for _, key := range []string{"a", "b", "c"} {
		createCharge(t, l, key, key)
	}
	done := make(chan uint64, 10)
	consume(t, l, eventlog.ConsumerRequests, eventlog.ConsumeOptions{Handle: func(_ context.Context, m eventlog.Message) eventlog.Result {
		defer func() { done <- m.Sequence }()
		if m.Sequence == 2 {
			return eventlog.Retry(time.Hour)
		}
		return eventlog.Done()
	}})
	for range 3 {
		receive(t, done, "a message")
	}
	settled(t, l, "PAYKIT_LOG", eventlog.ConsumerRequests, 1)
	if b, err := l.Backlog(t.Context(), eventlog.ConsumerRequests); err != nil || !b.Oldest.Equal(storedAt(t, l, 2)) {
		t.Errorf("%+v, %v", b, err)
	}
}
