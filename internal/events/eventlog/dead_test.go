package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

// bury buries a letter and gives it as it stands in DEAD.
func bury(t *testing.T, l *eventlog.Log, d eventlog.DeadLetter) eventlog.DeadEntry {
	t.Helper()
	if err := l.Bury(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	list := letters(t, l, "")
	return list[len(list)-1]
}

func letters(t *testing.T, l *eventlog.Log, customer string) []eventlog.DeadEntry {
	t.Helper()
	list, err := l.DeadLetters(t.Context(), customer)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// A letter keeps the beginning and the end of its history, and no more than a line of each reason.
func TestDeadLetterIsBounded(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	var f eventlog.Failures
	for i := range 25 {
		f.Note(7, eventlog.Failure{At: time.Now(), Attempt: i + 1, Reason: fmt.Sprint(i+1) + strings.Repeat("ä", 1000)}, i%2 == 0)
	}
	if n := f.Note(7, eventlog.Failure{Attempt: 26, Reason: "last"}, true); n != 14 {
		t.Errorf("%d failures count, want 14", n)
	}
	e := bury(t, l, eventlog.DeadLetter{Stage: "worker", ID: "01J", Reason: strings.Repeat("ä", 1000), History: f.History(7), Attempts: 26})
	var attempts []int
	for _, one := range e.History {
		attempts = append(attempts, one.Attempt)
		if len(one.Reason) > 500 || !utf8.ValidString(one.Reason) {
			t.Errorf("a reason of %d bytes", len(one.Reason))
		}
	}
	if fmt.Sprint(attempts) != "[1 2 19 20 21 22 23 24 25 26]" || len(e.Reason) != 500 || e.History[9].Reason != "last" {
		t.Errorf("attempts %v, reason of %d bytes", attempts, len(e.Reason))
	}
	f.Forget(7)
	if f.Len() != 0 || f.History(7) != nil {
		t.Error("what is forgotten is still there")
	}
}

// The same letter twice is one, whoever its customer is thought to be; the letter of a retry is another.
func TestDeadLetterOnce(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	d := eventlog.DeadLetter{Stage: "normalizer", ID: "evt.1", CustomerID: events.CustomerID("a"), Reason: "first"}
	first := bury(t, l, d)
	d.CustomerID, d.Reason = "", "second"
	if again := bury(t, l, d); again.Sequence != first.Sequence || again.Reason != "first" {
		t.Errorf("%+v after %+v", again, first)
	}
	d.RetryOf = first.Sequence
	if next := bury(t, l, d); next.Sequence == first.Sequence || next.RetryOf != first.Sequence {
		t.Errorf("the retry's letter: %+v", next)
	}
	d.Stage = "commands"
	bury(t, l, d)
	if list := letters(t, l, ""); len(list) != 3 {
		t.Errorf("%+v", list)
	}
	if list := letters(t, l, events.CustomerID("a")); len(list) != 1 || list[0].ID != "evt.1" {
		t.Errorf("of the customer: %+v", list)
	}
}

// One decision for each letter; it outlives the letter and keeps nothing of its body.
func TestDecideOnce(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	customer := events.CustomerID("a")
	e := bury(t, l, eventlog.DeadLetter{
		Stage: "commands", ID: "cmd_1", CustomerID: customer, Reason: "broken", Body: []byte("canary"), Header: map[string][]string{"K": {"v"}},
	})
	counter := l.OpenLetters()
	if n, err := counter.Count(t.Context()); err != nil || fmt.Sprint(n) != "map[commands:1 normalizer:0 settle:0 worker:0]" {
		t.Errorf("open: %v, %v", n, err)
	}
	want := eventlog.Decision{Decision: eventlog.DecisionDrop, Operator: "ana", Reason: "sent again by hand", At: time.Now()}
	for range 2 { // the second time after its answer was lost
		d, err := l.Decide(t.Context(), e, want)
		if err != nil || d.Letter != e.Sequence || d.About.ID != "cmd_1" || d.About.Body != nil || d.About.Header != nil {
			t.Fatalf("%+v, %v", d, err)
		}
	}
	_, err := l.Decide(t.Context(), e, eventlog.Decision{Decision: eventlog.DecisionRetry, Operator: "bob", Reason: "x"})
	decided, ok := errors.AsType[*eventlog.DecidedError](err)
	if !ok || decided.Existing.Operator != "ana" || decided.Existing.Decision != eventlog.DecisionDrop {
		t.Errorf("another decision: %v", err)
	}
	if n, err := counter.Count(t.Context()); err != nil || n["commands"] != 0 {
		t.Errorf("open: %v, %v", n, err)
	}
	for range 2 {
		for _, of := range []string{"", customer} {
			list := letters(t, l, of)
			if len(list) != 1 || list[0].Decision == nil || list[0].Decision.Operator != "ana" || list[0].Sequence != e.Sequence || list[0].Reason != "broken" {
				t.Fatalf("%+v", list)
			}
		}
		if err := l.EraseDead(t.Context(), e.Sequence); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.DeadLetter(t.Context(), e.Sequence); !errors.Is(err, eventlog.ErrNotFound) {
		t.Errorf("the erased letter: %v", err)
	}
	if _, err := l.DeadLetter(t.Context(), e.Sequence+1); !errors.Is(err, eventlog.ErrNotFound) {
		t.Errorf("the decision as a letter: %v", err)
	}
	if n, err := l.OpenLetters().Count(t.Context()); err != nil || n["commands"] != 0 {
		t.Errorf("open: %v, %v", n, err)
	}
}

// What a letter refers to is read only if it is the same message still.
func TestDeadMessage(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	charge := createCharge(t, l, "a", "a")
	subject := "paykit.log.charge.requested." + charge.Event.Subject + "." + charge.Event.CustomerID()
	d := eventlog.DeadLetter{Stage: "worker", ID: charge.Event.ID, Stream: "PAYKIT_LOG", Sequence: charge.Sequence, Subject: subject, Attempts: 3}
	m, err := l.DeadMessage(t.Context(), d)
	if err != nil || m.Sequence != charge.Sequence || m.Attempt != 3 || string(m.Data) != string(charge.Raw) || m.Subject != subject || m.Time.IsZero() {
		t.Errorf("%+v, %v", m, err)
	}
	for name, change := range map[string]func(*eventlog.DeadLetter){
		"another message":  func(d *eventlog.DeadLetter) { d.Subject += "X" },
		"no such message":  func(d *eventlog.DeadLetter) { d.Sequence = 99 },
		"another's stream": func(d *eventlog.DeadLetter) { d.Stream = "PAYKIT_PROFILES" },
	} {
		other := d
		change(&other)
		if _, err := l.DeadMessage(t.Context(), other); !errors.Is(err, eventlog.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Each of the two consumers gets every decision, lets go of the other's, and sees the letter with its body.
func TestConsumeDecisions(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	mine := bury(t, l, eventlog.DeadLetter{Stage: "worker", ID: "1"})
	other := bury(t, l, eventlog.DeadLetter{Stage: "commands", ID: "2", Body: []byte("body"), CustomerID: events.CustomerID("a")})
	gone := bury(t, l, eventlog.DeadLetter{Stage: "worker", ID: "3"})
	for _, e := range []eventlog.DeadEntry{mine, other, gone} {
		if _, err := l.Decide(t.Context(), e, eventlog.Decision{Decision: eventlog.DecisionRetry, Operator: "ana", Reason: "fixed"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.EraseDead(t.Context(), gone.Sequence); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Conn().Request("paykit.dead.decision.77.none", []byte(`{"letter":"none"}`), soon); err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 10)
	consumeDecisions := func(consumer eventlog.ConsumerName, stage string) {
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		done := make(chan error, 1)
		go func() {
			done <- l.ConsumeDecisions(ctx, consumer, eventlog.ConsumeOptions{}, map[string]func(context.Context, eventlog.Decided) eventlog.Result{
				stage: func(_ context.Context, d eventlog.Decided) eventlog.Result {
					got <- fmt.Sprintf("%s %s %s %d", d.Letter.ID, d.Letter.Body, d.Decision.Operator, d.Attempt)
					if d.Attempt == 1 {
						return eventlog.Retry(0)
					}
					return eventlog.Done()
				},
			})
		}()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	consumeDecisions(eventlog.ConsumerWorkerDecisions, "worker")
	if a, b := receive(t, got, "a decision"), receive(t, got, "it once more"); a != "1  ana 1" || b != "1  ana 2" {
		t.Errorf("%q, %q", a, b)
	}
	consumeDecisions(eventlog.ConsumerIngestDecisions, "commands")
	if a, b := receive(t, got, "a decision"), receive(t, got, "it once more"); a != "2 body ana 1" || b != "2 body ana 2" {
		t.Errorf("%q, %q", a, b)
	}
	settled(t, l, "PAYKIT_DEAD", eventlog.ConsumerWorkerDecisions, 0)
	settled(t, l, "PAYKIT_DEAD", eventlog.ConsumerIngestDecisions, 0)
	if len(got) != 0 {
		t.Errorf("more: %q", <-got)
	}
}

// A command that is put back is the same message for a while, and has the key that it had.
func TestPutBack(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	e := bury(t, l, eventlog.DeadLetter{
		Stage: "commands", ID: "cmd_1", Subject: "paykit.cmd.customer.sync", Body: []byte("body"), Header: map[string][]string{"Paykit-Idempotency-Key": {"k"}},
	})
	for range 2 {
		if err := l.PutBack(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	s, err := js(t, l).Stream(t.Context(), "PAYKIT_COMMANDS")
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetMsg(t.Context(), 1)
	if err != nil || string(m.Data) != "body" || m.Subject != "paykit.cmd.customer.sync" ||
		m.Header.Get("Paykit-Idempotency-Key") != "k" || m.Header.Get(eventlog.HeaderDeadLetter) != fmt.Sprint(e.Sequence) {
		t.Errorf("%+v, %v", m, err)
	}
	if n := s.CachedInfo().State.Msgs; n != 1 {
		t.Errorf("%d commands", n)
	}
	old := e
	old.Header = nil
	if err := l.PutBack(t.Context(), old); !errors.Is(err, eventlog.ErrNoKey) {
		t.Errorf("without a key: %v", err)
	}
	foreign := e
	foreign.Subject = "paykit.log.charge.succeeded.x.y"
	if err := l.PutBack(t.Context(), foreign); !errors.Is(err, eventlog.ErrNotFound) {
		t.Errorf("to the log: %v", err)
	}
}
