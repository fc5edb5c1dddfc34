package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// buggy is a log that has a bug with one entity, while it is not well.
type buggy struct {
	Log
	id   string
	well atomic.Bool
}

func (b *buggy) UpdateFrom(ctx context.Context, entity events.Entity, id string, known eventlog.Entry,
	decide func(last *events.Event) (*events.Event, error),
) (eventlog.Entry, bool, error) {
	if id == b.id && !b.well.Load() {
		panic("a bug")
	}
	return b.Log.UpdateFrom(ctx, entity, id, known, decide)
}

// background runs f until the test ends.
func background(tb testing.TB, f func(context.Context) error) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
}

func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			tb.Fatalf("never: %s", what)
		}
	}
}

func (x *harness) letters() []eventlog.DeadEntry {
	x.tb.Helper()
	list, err := x.log.DeadLetters(x.tb.Context(), "")
	if err != nil {
		x.tb.Fatal(err)
	}
	return list
}

// poisoned runs a queue on a log with a bug, with a command that meets it and others before and behind, until that
// command is set aside.
func poisoned(t *testing.T, key string) (*harness, *Handler, *buggy, eventlog.DeadEntry) {
	t.Helper()
	x := newHarness(t)
	customer := x.customer("user_1")
	x.method(customer, "pm_1")
	headers := []string{HeaderIdempotencyKey, key}
	if key == "" { // the charge's id comes from its key; without one from the message's place in the queue
		stream, created := x.log.CommandsCreated(t.Context(), 1)
		key, headers = events.QueuedCommandKey(stream, created, 1), nil
	}
	log := &buggy{Log: x.log, id: events.ChargeID(key)}
	h := New(log, config())
	t.Cleanup(h.Close)
	q := newQueue(h)
	q.first = 20 * time.Millisecond
	x.leave("charge.create", payerCommands(customer)["charge.create"], headers...)
	for _, reference := range []string{"user_1", "user_2"} { // its own lane, and another
		x.leave("customer.sync", `{"referenceId":"`+reference+`","name":"behind"}`)
	}
	background(t, func(ctx context.Context) error {
		return x.log.Consume(ctx, eventlog.ConsumerCommands, eventlog.ConsumeOptions{Lane: q.lane, Handle: q.handle})
	})
	for _, reference := range []string{"user_1", "user_2"} {
		eventually(t, reference+" is synced", func() bool {
			p, err := x.log.Profile(t.Context(), events.CustomerID(reference))
			return err == nil && p.Profile.Name != nil && *p.Profile.Name == "behind"
		})
	}
	eventually(t, "it is set aside", func() bool { return len(x.letters()) == 1 })
	e := x.letters()[0]
	if e.Attempts != maxFailures || len(e.History) != maxFailures || e.History[4].Reason != errPanicked.Error() || e.CustomerID != customer || e.RetryOf != 0 {
		t.Fatalf("%+v", e)
	}
	if got := e.Header[HeaderIdempotencyKey]; len(got) != 1 || got[0] != key {
		t.Fatalf("the key is %q, want %q", got, key)
	}
	x.emptied()
	return x, h, log, e
}

func decided(x *harness, e eventlog.DeadEntry, decision string) eventlog.Decided {
	x.tb.Helper()
	d, err := x.log.Decide(x.tb.Context(), e, eventlog.Decision{Decision: decision, Operator: "ana", Reason: "mended"})
	if err != nil {
		x.tb.Fatal(err)
	}
	return eventlog.Decided{Letter: e, Decision: d, Attempt: 1}
}

// TestQueuePoisonHoldsNobodyUp: a command that a bug panics on is set aside beside those behind it; put back it is the same
// command, with the key that it had or with that of its place; its letter is erased.
func TestQueuePoisonHoldsNobodyUp(t *testing.T) {
	for name, key := range map[string]string{"with a key": "k", "without": ""} {
		t.Run(name, func(t *testing.T) {
			x, h, log, e := poisoned(t, key)
			// Put back too early it is another letter.
			d := decided(x, e, eventlog.DecisionRetry)
			if got := h.CarryOutDecision(t.Context(), d); got != eventlog.Done() {
				t.Fatalf("%+v", got)
			}
			eventually(t, "another letter", func() bool { return len(x.letters()) == 2 })
			list := x.letters()
			if list[0].Body != nil || list[0].Decision == nil || list[1].RetryOf != e.Sequence || list[1].Decision != nil || !bytes.Equal(list[1].Body, e.Body) {
				t.Fatalf("%+v", list)
			}
			log.well.Store(true)
			d = decided(x, list[1], eventlog.DecisionRetry)
			before := x.last()
			// Killed after putting back and before erasing, and again after erasing.
			if err := x.log.PutBack(t.Context(), list[1]); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if got := h.CarryOutDecision(t.Context(), d); got != eventlog.Done() {
					t.Fatalf("%+v", got)
				}
			}
			eventually(t, "the charge is requested", func() bool {
				_, err := x.log.Load(t.Context(), events.EntityCharge, log.id)
				return err == nil
			})
			x.emptied()
			if x.last() != before+1 {
				t.Errorf("%d events", x.last()-before)
			}
			if _, err := x.log.DeadLetter(t.Context(), list[1].Sequence); !errors.Is(err, eventlog.ErrNotFound) {
				t.Errorf("the letter: %v", err)
			}
		})
	}
}

// TestQueueDrop: nothing of a dropped command's bytes is left.
func TestQueueDrop(t *testing.T) {
	x := newHarness(t)
	letter := eventlog.DeadLetter{Stage: eventlog.StageCommands, ID: "cmd_1", Body: []byte("canary-dropped"), Reason: "x"}
	if err := x.log.Bury(t.Context(), letter); err != nil {
		t.Fatal(err)
	}
	const encoded = "Y2FuYXJ5LWRyb3BwZW" // canary-droppe
	if raw, err := json.Marshal(x.letters()[0].DeadLetter); err != nil || !strings.Contains(string(raw), encoded) {
		t.Fatalf("the letter is stored otherwise: %s, %v", raw, err)
	}
	d := decided(x, x.letters()[0], eventlog.DecisionDrop)
	for range 2 {
		if got := x.h.CarryOutDecision(t.Context(), d); got != eventlog.Done() {
			t.Fatalf("%+v", got)
		}
	}
	x.gone(encoded, "PAYKIT_DEAD")
	if list := x.letters(); len(list) != 1 || list[0].Decision.Decision != eventlog.DecisionDrop {
		t.Errorf("%+v", list)
	}
}

// TestQueueRetryWithoutKey: the letter of an older version stays, since its command would become another one.
func TestQueueRetryWithoutKey(t *testing.T) {
	x := newHarness(t)
	letter := eventlog.DeadLetter{Stage: eventlog.StageCommands, ID: "cmd_1", Subject: "paykit.cmd.charge.create", Body: []byte("{}"), Reason: "x"}
	if err := x.log.Bury(t.Context(), letter); err != nil {
		t.Fatal(err)
	}
	d := decided(x, x.letters()[0], eventlog.DecisionRetry)
	for range 2 {
		if got := x.h.CarryOutDecision(t.Context(), d); got != eventlog.Done() {
			t.Fatalf("%+v", got)
		}
	}
	list := x.letters()
	if len(list) != 2 || list[1].RetryOf != list[0].Sequence || string(list[1].Body) != "{}" || !strings.HasPrefix(list[1].Reason, "can't be retried: ") {
		t.Errorf("%+v", list)
	}
}

// TestReasonHoldsNothingPersonal: an error may quote the command.
func TestReasonHoldsNothingPersonal(t *testing.T) {
	if got := reasonOf(errors.New("bad value jane@example.com")); strings.Contains(got, "jane") || !strings.Contains(got, "an e-mail address") {
		t.Error(got)
	}
	if got := reasonOf(errPanicked); got != errPanicked.Error() {
		t.Error(got)
	}
}
