package projections

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/schema/schematest"
)

// live appends to a real LOG through the real decisions.
type live struct {
	*eventlog.Log

	t   testing.TB
	now time.Time
}

func newLive(tb testing.TB, log *eventlog.Log) *live {
	tb.Helper()
	return &live{Log: log, t: tb, now: time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)}
}

func (l *live) cause(customerID, referenceID string) events.Cause {
	l.now = l.now.Add(time.Second)
	return events.Cause{Now: l.now, Source: "/paykit/test", Customer: events.CustomerRef{ID: customerID, ReferenceID: referenceID}}
}

func (l *live) update(entity events.Entity, id string, decide func(*events.Event) (*events.Event, error)) eventlog.Entry {
	l.t.Helper()
	e, _, err := l.Update(l.t.Context(), entity, id, decide)
	if err != nil {
		l.t.Fatalf("append to %s: %v", id, err)
	}
	return e
}

// sync announces a customer with an e-mail address, and answers id and sequence.
func (l *live) sync(ref, email string) (string, uint64) {
	l.t.Helper()
	id := events.CustomerID(ref)
	var last uint64
	known, err := l.Profile(l.t.Context(), id)
	switch {
	case err == nil:
		last = known.Sequence
	case !errors.Is(err, eventlog.ErrNotFound):
		l.t.Fatalf("profile: %v", err)
	}
	revision, err := l.PutProfile(l.t.Context(), id, eventlog.Profile{
		Email: &email, Name: &ref, Metadata: map[string]string{"plan": ref},
	}, last)
	if err != nil {
		l.t.Fatalf("put profile: %v", err)
	}
	e := l.update(events.EntityCustomer, id, func(last *events.Event) (*events.Event, error) {
		return events.DecideCustomer(last, events.SyncCustomer{ReferenceID: ref, Revision: revision, Changed: []string{"email"}}, l.cause("", ""))
	})
	return id, e.Sequence
}

func (l *live) deleteCustomer(id string) uint64 {
	l.t.Helper()
	return l.update(events.EntityCustomer, id, func(last *events.Event) (*events.Event, error) {
		return events.DecideCustomer(last, events.DeleteCustomer{}, l.cause("", ""))
	}).Sequence
}

func (l *live) account(customer string, in events.ProviderAccountInput) {
	l.t.Helper()
	l.update(events.EntityProviderAccount, events.ProviderAccountID(customer, "stripe"), func(last *events.Event) (*events.Event, error) {
		return events.DecideProviderAccount(last, in, l.cause(customer, ""))
	})
}

func (l *live) attach(customer, provider, providerMethodID string) string {
	l.t.Helper()
	id := events.PaymentMethodID(provider, providerMethodID)
	l.method(customer, id, events.MethodObserved{ProviderID: provider, Method: events.Method{
		ID: providerMethodID, Attached: true, Type: "card", Brand: "visa", Last4: "4242",
	}})
	return id
}

func (l *live) method(customer, id string, in events.PaymentMethodInput) uint64 {
	l.t.Helper()
	return l.update(events.EntityPaymentMethod, id, func(last *events.Event) (*events.Event, error) {
		return events.DecidePaymentMethod(last, in, l.cause(customer, ""))
	}).Sequence
}

func (l *live) charge(customer, key string) (string, uint64) {
	l.t.Helper()
	id := events.ChargeID(key)
	e := l.update(events.EntityCharge, id, func(last *events.Event) (*events.Event, error) {
		return events.DecideCharge(last, events.CreateCharge{
			ID: id, ProviderID: "stripe", Amount: 4900, Currency: "usd", Description: "Pro",
		}, l.cause(customer, ""))
	})
	return id, e.Sequence
}

func (l *live) pay(customer, id string, status events.PaymentStatus) uint64 {
	l.t.Helper()
	return l.update(events.EntityCharge, id, func(last *events.Event) (*events.Event, error) {
		return events.DecideCharge(last, events.PaymentObserved{ID: id, ProviderID: "stripe", Payment: events.Payment{
			ID: "pi_" + id, Status: status, Amount: 4900, Currency: "usd",
		}}, l.cause(customer, ""))
	}).Sequence
}

// startProjector runs a projector on dir until the test ends, and waits until it answers.
func startProjector(tb testing.TB, log *eventlog.Log, dir string) *Projector {
	tb.Helper()
	p, err := Open(dir, log, Config{})
	if err != nil {
		tb.Fatalf("open: %v", err)
	}
	stop := runProjector(tb, p)
	tb.Cleanup(func() {
		if err := stop(); err != nil {
			tb.Errorf("run: %v", err)
		}
		if err := p.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	waitReady(tb, p)
	return p
}

// waitReady waits until queries are answered, or the projector stopped.
func waitReady(tb testing.TB, p *Projector) {
	tb.Helper()
	deadline := time.After(20 * time.Second)
	for p.Ready() != nil {
		_, _, moved := p.progress.look()
		err := p.Ready()
		switch {
		case err == nil:
			return
		case strings.Contains(err.Error(), "stopped"):
			tb.Fatal(err)
		}
		select {
		case <-moved:
		case <-deadline:
			tb.Fatalf("not ready: %v", p.Ready())
		}
	}
}

// waitSequence waits until the views have a sequence.
func waitSequence(tb testing.TB, p *Projector, sequence uint64) {
	tb.Helper()
	if err := p.progress.wait(tb.Context(), sequence, 20*time.Second); err != nil {
		tb.Fatalf("sequence %d: %v, at %d", sequence, err, p.Sequence())
	}
}

// reply is a query's answer.
type reply struct {
	status   string // the error's, "" if there is none
	code     string
	sequence uint64
	data     []byte
}

func (r reply) into(tb testing.TB, v any) {
	tb.Helper()
	if r.status != "" {
		tb.Fatalf("answer %s %s: %s", r.status, r.code, r.data)
	}
	if err := json.Unmarshal(r.data, v); err != nil {
		tb.Fatalf("answer %s: %v", r.data, err)
	}
}

// wantError checks an answer against a refusal.
func (r reply) wantError(tb testing.TB, code events.Code, param string) {
	tb.Helper()
	var body struct {
		Error events.Error `json:"error"`
	}
	if err := json.Unmarshal(r.data, &body); err != nil {
		tb.Fatalf("answer %s: %v", r.data, err)
	}
	if r.status != strconv.Itoa(code.Status()) || r.code != string(code) || body.Error.Code != code ||
		body.Error.Param != param || body.Error.Message == "" {
		tb.Errorf("answer %s %s %s, want %s with param %q", r.status, r.code, r.data, code, param)
	}
}

// ask sends a query as any NATS client would.
func ask(tb testing.TB, nc *nats.Conn, query string, body any, least uint64) reply {
	tb.Helper()
	data, ok := body.(string)
	if !ok {
		b, err := json.Marshal(body)
		if err != nil {
			tb.Fatal(err)
		}
		data = string(b)
	}
	msg := nats.NewMsg("paykit.query." + query)
	msg.Data = []byte(data)
	if least > 0 {
		msg.Header.Set("Paykit-Min-Sequence", strconv.FormatUint(least, 10))
	}
	answer, err := nc.RequestMsg(msg, 10*time.Second)
	if err != nil {
		tb.Fatalf("%s: %v", query, err)
	}
	r := reply{
		status: answer.Header.Get("Nats-Service-Error-Code"), code: answer.Header.Get("Nats-Service-Error"), data: answer.Data,
	}
	verb := query
	if r.status != "" {
		verb = "error"
	}
	if err := schematest.New(tb).Answer(verb, r.data); err != nil {
		tb.Error(err)
	}
	if r.status == "" {
		if r.sequence, err = strconv.ParseUint(answer.Header.Get("Paykit-Sequence"), 10, 64); err != nil {
			tb.Fatalf("%s: header Paykit-Sequence: %v", query, err)
		}
	}
	return r
}

type fields map[string]any

// list is a page of a list.
type list struct {
	Items      []map[string]any `json:"items"`
	NextCursor *string          `json:"nextCursor"`
}

func (l list) ids() string {
	var ids []string
	for _, item := range l.Items {
		ids = append(ids, fmt.Sprint(item["id"]))
	}
	return strings.Join(ids, " ")
}

// walk reads a list to its end. between is called after each page.
func walk(tb testing.TB, nc *nats.Conn, query string, body fields, least uint64, between func()) []map[string]any {
	tb.Helper()
	var all []map[string]any
	for range 1000 {
		var page list
		ask(tb, nc, query, body, least).into(tb, &page)
		all = append(all, page.Items...)
		if page.NextCursor == nil {
			return all
		}
		if len(page.Items) == 0 || *page.NextCursor == "" {
			tb.Fatalf("%s: an empty page that is not the last", query)
		}
		body["cursor"] = *page.NextCursor
		if between != nil {
			between()
		}
	}
	tb.Fatalf("%s: the list has no end", query)
	return nil
}
