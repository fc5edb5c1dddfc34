package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
	"github.com/paykit-go/paykit/internal/schema/schematest"
)

const (
	stripe    = "stripe"
	patience  = 20 * time.Second // of a test for what must happen
	cardsName = "card"
)

func config() Config { return Config{Providers: []string{stripe, "other"}} }

// ingest is one process: a handler with a connection of its own.
func ingest(tb testing.TB, server *eventlogtest.Server) (*Handler, *eventlog.Log) {
	tb.Helper()
	log := eventlogtest.Open(tb, server.Conn(tb))
	h := New(log, config())
	tb.Cleanup(h.Close)
	return h, log
}

// harness is an ingest, and a worker played by the test.
type harness struct {
	tb     testing.TB
	server *eventlogtest.Server
	h      *Handler
	log    *eventlog.Log
	tap    *schematest.Seen
}

func newHarness(tb testing.TB) *harness {
	tb.Helper()
	server := eventlogtest.Start(tb)
	h, log := ingest(tb, server)
	return &harness{tb: tb, server: server, h: h, log: log, tap: schematest.Tap(tb, server.Conn(tb))}
}

// run carries out a command that must go well.
func (x *harness) run(verb, body string, meta Meta) Result {
	x.tb.Helper()
	r, err := x.h.Execute(x.tb.Context(), verb, []byte(body), meta)
	if err != nil {
		x.tb.Fatalf("%s %s: %v", verb, body, err)
	}
	if err := schematest.New(x.tb).Answer(verb, r.Body); err != nil {
		x.tb.Error(err)
	}
	return r
}

// refused carries out a command that must be refused with a code and a param, and must write nothing.
func (x *harness) refused(verb, body string, meta Meta, code events.Code, param string) {
	x.tb.Helper()
	before := x.last()
	_, err := x.h.Execute(x.tb.Context(), verb, []byte(body), meta)
	var refusal *events.Error
	if !errors.As(err, &refusal) {
		x.tb.Fatalf("%s %s: got %v, want %s", verb, body, err, code)
	}
	if refusal.Code != code || refusal.Param != param {
		x.tb.Errorf("%s %s: got %s (%q), want %s (%q)", verb, body, refusal.Code, refusal.Param, code, param)
	}
	if refusal.Message == "" {
		x.tb.Errorf("%s %s: refused without a word", verb, body)
	}
	if after := x.last(); after != before {
		x.tb.Errorf("%s %s: refused, and yet the log went from %d to %d", verb, body, before, after)
	}
}

// last is the sequence of the log's last event.
func (x *harness) last() uint64 {
	x.tb.Helper()
	info, err := x.log.Info(x.tb.Context())
	if err != nil {
		x.tb.Fatal(err)
	}
	return info.LastSequence
}

func (x *harness) load(entity events.Entity, id string) *events.Event {
	x.tb.Helper()
	e, err := x.log.LoadFromLeader(x.tb.Context(), entity, id)
	if err != nil {
		x.tb.Fatalf("load %s %s: %v", entity, id, err)
	}
	return e.Event
}

// customer makes a customer and answers its id.
func (x *harness) customer(reference string) string {
	x.tb.Helper()
	x.run("customer.sync", fmt.Sprintf(`{"referenceId":%q}`, reference), Meta{})
	return events.CustomerID(reference)
}

// append plays the worker or the normalizer: what they decide is appended.
func (x *harness) append(entity events.Entity, id string, decide func(last *events.Event, c events.Cause) (*events.Event, error)) {
	x.tb.Helper()
	if err := play(x.tb.Context(), x.log, entity, id, decide); err != nil {
		x.tb.Fatal(err)
	}
}

func play(ctx context.Context, log *eventlog.Log, entity events.Entity, id string,
	decide func(last *events.Event, c events.Cause) (*events.Event, error),
) error {
	_, appended, err := log.Update(ctx, entity, id, func(last *events.Event) (*events.Event, error) {
		return decide(last, events.Cause{Now: time.Now(), Source: "/paykit/worker"})
	})
	if err == nil && !appended {
		err = fmt.Errorf("nothing was appended to %s %s", entity, id)
	}
	return err
}

// method attaches a card of the customer and answers its id.
func (x *harness) method(customerID, providerMethodID string) string {
	x.tb.Helper()
	id := events.PaymentMethodID(stripe, providerMethodID)
	x.append(events.EntityPaymentMethod, id, func(last *events.Event, c events.Cause) (*events.Event, error) {
		c.Customer = x.load(events.EntityCustomer, customerID).Data.Customer.Ref()
		return events.DecidePaymentMethod(last, events.MethodObserved{ProviderID: stripe, Method: events.Method{
			ID: providerMethodID, Attached: true, Type: cardsName, Brand: "visa", Last4: "4242", ExpiryMonth: 12, ExpiryYear: 2030,
		}}, c)
	})
	return id
}

func payment(status events.PaymentStatus) func(last *events.Event, c events.Cause) (*events.Event, error) {
	return func(last *events.Event, c events.Cause) (*events.Event, error) {
		p := events.Payment{ID: "pi_1", ChargeID: "ch_1", Status: status}
		if status == events.PaymentRequiresAction {
			p.ActionURL = "https://bank.example/3ds"
		}
		return events.DecideCharge(last, events.PaymentObserved{ID: last.Subject, ProviderID: stripe, Payment: p}, c)
	}
}

func session(status events.SessionStatus) events.Session {
	return events.Session{ID: "cs_1", URL: "https://pay.example/cs_1", Status: status, ExpiresAt: time.Now().Add(time.Hour)}
}

// decoded reads a result's body.
func decoded[T any](tb testing.TB, r Result) T {
	tb.Helper()
	var v T
	if err := json.Unmarshal(r.Body, &v); err != nil {
		tb.Fatalf("result %s: %v", r.Body, err)
	}
	return v
}

// within waits for what must happen soon.
func within(tb testing.TB, what string, ch <-chan struct{}) {
	tb.Helper()
	select {
	case <-ch:
	case <-time.After(patience):
		tb.Fatalf("%s did not happen", what)
	}
}
