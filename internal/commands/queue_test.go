package commands

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// leave puts a command into the queue, acknowledged, as an app would.
func (x *harness) leave(verb, body string, headers ...string) {
	x.tb.Helper()
	msg := &nats.Msg{Subject: "paykit.cmd." + verb, Data: []byte(body), Header: nats.Header{}}
	for pair := range slices.Chunk(headers, 2) {
		msg.Header.Add(pair[0], pair[1])
	}
	ack, err := x.log.Conn().RequestMsg(msg, patience)
	if err != nil {
		x.tb.Fatal(err)
	}
	if !strings.Contains(string(ack.Data), `"PAYKIT_COMMANDS"`) {
		x.tb.Fatalf("not stored: %s", ack.Data)
	}
}

// consume runs the queue until the test ends.
func (x *harness) consume(h *Handler) {
	x.tb.Helper()
	ctx, cancel := context.WithCancel(x.tb.Context())
	ended := make(chan error, 1)
	go func() { ended <- ConsumeQueue(ctx, h) }()
	x.tb.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				x.tb.Errorf("ConsumeQueue: %v", err)
			}
		case <-time.After(patience):
			x.tb.Error("ConsumeQueue did not end")
		}
	})
}

// follow collects the events that come after those there now.
func (x *harness) follow() <-chan *events.Event {
	x.tb.Helper()
	ctx, cancel := context.WithCancel(x.tb.Context())
	ch := make(chan *events.Event, 1000)
	ended := make(chan struct{})
	from := x.last() + 1
	go func() {
		defer close(ended)
		err := x.log.Follow(ctx, from, func(b eventlog.Batch) error {
			for _, e := range b.Entries {
				ch <- e.Event
			}
			return nil
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			x.tb.Errorf("follow: %v", err)
		}
	}()
	x.tb.Cleanup(func() { cancel(); <-ended })
	return ch
}

// next is the next event of the type.
func next(tb testing.TB, ch <-chan *events.Event, typ events.Type) *events.Event {
	tb.Helper()
	late := time.After(patience)
	for {
		select {
		case e := <-ch:
			if e.Type == typ {
				return e
			}
			if e.Type == events.CommandRejected {
				tb.Fatalf("rejected: %+v", e.Data.Command)
			}
		case <-late:
			tb.Fatalf("no %s", typ)
		}
	}
}

func TestQueue(t *testing.T) {
	x := newHarness(t)
	feed := x.follow()
	x.leave("customer.sync", `{"referenceId":"user_1","email":"canary@x.example"}`)
	x.consume(x.h)
	created := next(t, feed, events.CustomerCreated)
	if created.CorrelationID == "" || created.Source != "/paykit/ingest" {
		t.Errorf("envelope: %+v", created)
	}
	customer := events.CustomerID("user_1")
	x.method(customer, "pm_1")
	body := payerCommands(customer)["charge.create"]

	// A key counts as for a request, and for both together.
	x.leave("charge.create", body, "Paykit-Idempotency-Key", "k")
	charge := next(t, feed, events.ChargeRequested)
	if charge.Subject != events.ChargeID("k") || charge.CorrelationID != events.CommandID("charge.create", "k") {
		t.Errorf("got %s of %s", charge.Subject, charge.CorrelationID)
	}
	before := x.last()
	x.run("charge.create", body, keyed("k"))
	x.leave("charge.create", body, "Paykit-Idempotency-Key", "k")
	if x.last() != before {
		t.Error("the same key appended an event")
	}
	// Without a key two messages are two commands.
	x.leave("charge.create", body)
	x.leave("charge.create", body)
	one, two := next(t, feed, events.ChargeRequested), next(t, feed, events.ChargeRequested)
	if one.Subject == two.Subject || one.Subject == charge.Subject {
		t.Errorf("%s, %s and %s", charge.Subject, one.Subject, two.Subject)
	}
	// One customer's commands keep their order.
	for i := range 10 {
		x.leave("customer.sync", fmt.Sprintf(`{"referenceId":"user_1","name":"N%d"}`, i))
	}
	for range 10 {
		next(t, feed, events.CustomerUpdated)
	}
	if p := x.profile(customer).Profile; p.Name == nil || *p.Name != "N9" {
		t.Errorf("the last of ten is %+v", p)
	}
	x.emptied()
	x.gone("canary@x.example", "PAYKIT_COMMANDS")
}

// emptied waits until the queue holds nothing.
func (x *harness) emptied() {
	x.tb.Helper()
	deadline := time.Now().Add(patience)
	for {
		msg, err := x.log.Conn().Request("$JS.API.STREAM.INFO.PAYKIT_COMMANDS", nil, patience)
		if err != nil {
			x.tb.Fatal(err)
		}
		if strings.Contains(string(msg.Data), `"messages":0,`) {
			return
		}
		if time.Now().After(deadline) {
			x.tb.Fatalf("the queue is not empty: %s", msg.Data)
		}
	}
}

// gone looks for bytes in the files of a stream.
func (x *harness) gone(canary, stream string) {
	x.tb.Helper()
	root, err := os.OpenRoot(x.server.StoreDir)
	if err != nil {
		x.tb.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	files := 0
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(name, stream) {
			return err
		}
		b, err := fs.ReadFile(root.FS(), name)
		files++
		if bytes.Contains(b, []byte(canary)) {
			x.tb.Errorf("%s is still in %s", canary, path.Base(name))
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		x.tb.Fatal(err)
	}
	if files == 0 {
		x.tb.Errorf("no files of %s found", stream)
	}
}

func TestQueueRejects(t *testing.T) {
	x := newHarness(t)
	customer := x.customer("user_1")
	x.consume(x.h)
	feed := x.follow()
	good := payerCommands(customer)["charge.create"]
	for name, tc := range map[string]struct {
		verb, body string
		headers    []string
		typ        string
		code       events.Code
		param      string
		customer   string
	}{
		"an unknown verb":         {"charge.void", `{}`, nil, "charge.void", events.CodeInvalidRequest, "", ""},
		"an operator's verb":      {"charge.resolve", `{"chargeId":"chg_1","outcome":"failed","operator":"canary","reason":"canary"}`, nil, "charge.resolve", events.CodeInvalidRequest, "", ""},
		"a strange verb":          {"Canary.x", `{}`, nil, "unknown", events.CodeInvalidRequest, "", ""},
		"a bad body":              {"charge.create", `{"x`, nil, "charge.create", events.CodeInvalidRequest, "", ""},
		"no body":                 {"charge.create", ``, nil, "charge.create", events.CodeInvalidRequest, "", ""},
		"too large a body":        {"charge.create", strings.Repeat(" ", maxBody) + good, nil, "charge.create", events.CodeInvalidRequest, "", ""},
		"a field too many":        {"charge.create", `{"amout":1}`, nil, "charge.create", events.CodeInvalidRequest, "amout", ""},
		"a field named after Bob": {"charge.create", `{"canary@x.example":1}`, nil, "charge.create", events.CodeInvalidRequest, "", ""},
		"a field with a card":     {"charge.create", `{"x4242424242424242":1}`, nil, "charge.create", events.CodeInvalidRequest, "", ""},
		"an amount":               {"charge.create", strings.Replace(good, "4900", `"canary"`, 1), nil, "charge.create", events.CodeInvalidRequest, "amount", customer},
		"personal data":           {"charge.create", strings.Replace(good, "Pro", "for canary@x.example", 1), nil, "charge.create", events.CodePersonalData, "description", customer},
		"an unknown customer":     {"charge.create", strings.Replace(good, customer, "canary", 1), nil, "charge.create", events.CodeCustomerNotFound, "customerId", ""},
		"an unknown method":       {"charge.create", good, nil, "charge.create", events.CodePaymentMethodNotFound, "paymentMethodId", customer},
		"an unknown charge":       {"charge.cancel", `{"chargeId":"canary"}`, nil, "charge.cancel", events.CodeChargeNotFound, "chargeId", ""},
		"a bad reference":         {"customer.sync", `{"referenceId":"user_1","email":"canary"}`, nil, "customer.sync", events.CodeInvalidRequest, "email", customer},
		"too long a key":          {"customer.sync", `{"referenceId":"user_2"}`, []string{"Paykit-Idempotency-Key", strings.Repeat("k", 256)}, "customer.sync", events.CodeInvalidRequest, "Paykit-Idempotency-Key", ""},
	} {
		x.leave(tc.verb, tc.body, tc.headers...)
		var e *events.Event
		select {
		case e = <-feed:
		case <-time.After(patience):
			t.Fatalf("%s: no event", name)
		}
		c := e.Data.Command
		if e.Type != events.CommandRejected || c.Type != tc.typ || c.Error.Code != tc.code || c.Error.Param != tc.param || c.Error.Message == "" || c.CustomerID != tc.customer {
			t.Errorf("%s: got %s %+v", name, e.Type, c)
		}
		if raw, err := e.Encode(); err != nil || bytes.Contains(raw, []byte("canary")) {
			t.Errorf("%s: the event repeats what was sent: %s (%v)", name, raw, err)
		}
	}
	x.emptied()
	x.gone("canary", "PAYKIT_COMMANDS")
	x.gone("canary", "PAYKIT_LOG")
}

// TestQueueTwice: a command delivered again, as after a crash between its events and its erasure, does nothing again.
func TestQueueTwice(t *testing.T) {
	x := newHarness(t)
	customer := x.customer("user_1")
	x.method(customer, "pm_1")
	q := &queue{h: x.h}
	erased := eventlog.Erase()
	for verb, body := range map[string]string{
		"customer.sync": `{"referenceId":"user_2","name":"A"}`, "charge.create": payerCommands(customer)["charge.create"],
		"payment_method.set_default": payerCommands(customer)["payment_method.set_default"], "charge.cancel": `{"chargeId":"nope"}`,
		"payment_method.detach": payerCommands(customer)["payment_method.detach"], "customer.delete": `{"referenceId":"user_1"}`,
	} {
		m := eventlog.Message{Stream: "PAYKIT_COMMANDS", Sequence: 7, Subject: "paykit.cmd." + verb, Data: []byte(body), Attempt: 1}
		before := x.last()
		if got := q.handle(t.Context(), m); got != erased {
			t.Errorf("%s: got %+v", verb, got)
		}
		if verb != "customer.delete" && x.last() != before+1 {
			t.Errorf("%s: %d events", verb, x.last()-before)
		}
		once := x.last()
		if got := q.handle(t.Context(), m); got != erased {
			t.Errorf("%s again: got %+v", verb, got)
		}
		if x.last() != once {
			t.Errorf("%s again: an event was appended", verb)
		}
	}
}

// TestQueueBuries: a command that keeps failing is set aside with its body after five failures, and not because the
// event log was away.
func TestQueueBuries(t *testing.T) {
	x := newHarness(t)
	customer := x.customer("user_1")
	q := &queue{h: x.h}
	m := eventlog.Message{
		Stream: "PAYKIT_COMMANDS", Sequence: 7, Subject: "paykit.cmd.checkout.create",
		Data: []byte(payerCommands(customer)["checkout.create"]), Header: nats.Header{"Paykit-Idempotency-Key": {"k"}},
	}
	// A damaged event under the command's entity can't be read, however often it is tried.
	damaged := "paykit.log.checkout.requested." + events.CheckoutID("k") + "." + customer
	x.tap.Damaged(damaged)
	if ack, err := x.log.Conn().Request(damaged, []byte(`{}`), patience); err != nil || strings.Contains(string(ack.Data), "error") {
		t.Fatalf("%v %v", ack, err)
	}
	x.server.Stop()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for m.Attempt = 1; m.Attempt <= 2*maxFailures; m.Attempt++ {
		if got := q.handle(canceled, m); got != eventlog.Retry(backoff(m.Attempt)) {
			t.Fatalf("without an event log: got %+v", got)
		}
	}
	x.server.Resume()
	if err := x.log.Conn().FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	for i := range maxFailures - 1 {
		if got := q.handle(t.Context(), m); got != eventlog.Retry(backoff(i+1)) {
			t.Fatalf("failure %d: got %+v", i+1, got)
		}
	}
	if got := q.handle(t.Context(), m); got != eventlog.Erase() {
		t.Fatalf("failure %d: got %+v", maxFailures, got)
	}
	letters, err := x.log.DeadLetters(t.Context(), customer)
	if err != nil || len(letters) != 1 {
		t.Fatalf("%d dead letters (%v), want 1", len(letters), err)
	}
	d := letters[0]
	if d.Stage != "commands" || d.Sequence == 0 || d.DeadLetter.Sequence != m.Sequence || d.Subject != m.Subject || !bytes.Equal(d.Body, m.Data) ||
		d.Attempts != maxFailures || d.Reason == "" || d.Stream != m.Stream {
		t.Errorf("got %+v", d)
	}
	if q.failures.Len() != 0 {
		t.Error("it is remembered")
	}
}

// TestQueueSurvivesAPanic: a bug in a command counts as a failure and ends nothing else.
func TestQueueSurvivesAPanic(t *testing.T) {
	q := &queue{h: New(nil, config())} // no log: looking anything up panics
	err := q.execute(t.Context(), "charge.cancel", "k", []byte(`{"chargeId":"chg_1"}`), nil)
	if !errors.Is(err, errPanicked) {
		t.Errorf("got %v", err)
	}
}

func TestBackoff(t *testing.T) {
	if got := []time.Duration{backoff(0), backoff(1), backoff(2), backoff(5), backoff(1000)}; got[0] != time.Second || got[1] != time.Second ||
		got[2] != 2*time.Second || got[3] != 16*time.Second || got[4] != time.Minute {
		t.Errorf("got %v", got)
	}
}
