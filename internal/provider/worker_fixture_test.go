package provider_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
	"github.com/paykit-go/paykit/internal/provider"
	"github.com/paykit-go/paykit/internal/provider/stripe"
	"github.com/paykit-go/paykit/internal/provider/stripe/sandbox"
	"github.com/paykit-go/paykit/internal/schema/schematest"
)

const testKey = "sk_test_worker"

// world is a LOG on a real server, and a sandbox that a real adapter speaks to over HTTP. Nothing is delivered: the
// worker has to manage without webhooks.
type world struct {
	t       *testing.T
	server  *eventlogtest.Server
	log     *eventlog.Log
	tap     *schematest.Seen
	sandbox string // address
	offset  atomic.Int64
	api     *stripe.Client
	refuse  atomic.Int64 // so many connections are refused from now on
	logs    *lockedBuffer
	metrics *prometheus.Registry
	changed chan struct{}
	n       atomic.Int64
	meddle  atomic.Pointer[func(r *http.Request)] // sees each call to the sandbox's API before it is made

	mu    sync.Mutex
	calls []string // guarded by mu: "POST /v1/payment_intents key"
}

func newWorld(t *testing.T, change ...func(*server.Options)) *world {
	t.Helper()
	w := &world{
		t: t, server: eventlogtest.Start(t, change...), logs: &lockedBuffer{}, metrics: prometheus.NewRegistry(),
		changed: make(chan struct{}, 1),
	}
	w.log = eventlogtest.Open(t, w.server.Conn(t))
	w.tap = schematest.Tap(t, w.server.Conn(t))
	box, err := sandbox.New(sandbox.Config{SettleAfter: time.Millisecond, DelayedAfter: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v1/") {
			w.mu.Lock()
			w.calls = append(w.calls, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.Header.Get("Idempotency-Key")))
			w.mu.Unlock()
			if f := w.meddle.Load(); f != nil {
				(*f)(r)
			}
		}
		box.ServeHTTP(rw, r)
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(box.Close)
	w.sandbox = srv.URL
	w.api = w.client()
	stop, err := w.log.Wake(func(events.Type, string, uint64) {
		select {
		case w.changed <- struct{}{}:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return w
}

// now is the worker's clock; advance moves it on.
func (w *world) now() time.Time          { return time.Now().Add(time.Duration(w.offset.Load())) }
func (w *world) advance(d time.Duration) { w.offset.Add(int64(d)) }

// client is a Stripe adapter for the sandbox, over connections that can be refused.
func (w *world) client() *stripe.Client {
	w.t.Helper()
	c, err := stripe.New(stripe.Config{
		APIKey: testKey, APIBase: w.sandbox, Env: w.log.Env(),
		HTTPClient: &http.Client{Transport: &refusing{world: w, next: http.DefaultTransport}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// refusing sends requests to a port where nobody listens, as long as the world says so.
type refusing struct {
	world *world
	next  http.RoundTripper
}

func (r *refusing) RoundTrip(req *http.Request) (*http.Response, error) {
	if r.world.refuse.Add(-1) >= 0 {
		req = req.Clone(req.Context())
		req.URL.Host = "127.0.0.1:1"
	}
	return r.next.RoundTrip(req)
}

// worker makes a worker that does not run yet.
func (w *world) worker() *provider.Worker {
	w.t.Helper()
	worker := provider.NewWorker(w.log, map[string]provider.API{stripeID: w.client()}, provider.WorkerConfig{
		Webhooks: map[string]provider.Webhooks{stripeID: &stripe.Webhooks{}},
		Logger:   zerolog.New(w.logs), Now: w.now, Registerer: w.metrics, Calls: w.log,
	})
	worker.LookAfter(100*time.Millisecond, 300*time.Millisecond, 50*time.Millisecond)
	return worker
}

// run starts a worker, until the test ends or the returned function is called.
func (w *world) run(worker *provider.Worker) (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	done := make(chan error, 1)
	go func() { done <- worker.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("the worker ended with %v", err)
		}
	})
	w.t.Cleanup(stop)
	return stop
}

// start runs a worker.
func (w *world) start() (stop func()) {
	w.t.Helper()
	return w.run(w.worker())
}

// runUntil runs a worker that is killed when it reaches a point.
func (w *world) runUntil(point string) {
	w.t.Helper()
	worker := w.worker()
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	defer cancel()
	worker.StopAt(func(p string) error {
		if p == point {
			cancel()
		}
		if ctx.Err() != nil {
			return provider.ErrStopped
		}
		return nil
	})
	done := make(chan error, 1)
	go func() { done <- worker.Run(ctx) }()
	select {
	case err := <-done:
		if err != nil {
			w.t.Fatalf("the worker ended with %v", err)
		}
	case <-time.After(patience):
		w.t.Fatalf("the worker never came to %q\n%s", point, w.logs)
	}
}

// until waits until an entity's last event satisfies ok.
func (w *world) until(entity events.Entity, id string, ok func(e *events.Event) bool) *events.Event {
	w.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		last := w.state(entity, id)
		if last != nil && ok(last) {
			return last
		}
		select {
		case <-w.changed:
		case <-tick.C:
		case <-deadline.C:
			w.t.Fatalf("%s %s is still %+v\n%s", entity, id, last, w.logs)
		}
	}
}

// eventually waits until ok.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			w.t.Fatalf("never: %s\n%s", what, w.logs)
		}
	}
}

func (w *world) state(entity events.Entity, id string) *events.Event {
	w.t.Helper()
	e, err := w.log.LoadFromLeader(w.t.Context(), entity, id)
	if errors.Is(err, eventlog.ErrNotFound) {
		return nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return e.Event
}

// history gives the types of an entity's events and checks their chain.
func (w *world) history(entity events.Entity, id string) []string {
	w.t.Helper()
	list, err := w.log.History(w.t.Context(), eventlog.HistoryFilter{Entity: entity, EntityID: id}, 1, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	var types []string
	for i, e := range list {
		if e.Event.EntityVersion != i+1 {
			w.t.Errorf("event %d of %s has version %d", i+1, id, e.Event.EntityVersion)
		}
		types = append(types, e.Event.Type.Name())
	}
	return types
}

// append decides on an entity as ingest would, and gives the stored event.
func (w *world) append(entity events.Entity, id string, ref events.CustomerRef, decide func(last *events.Event, c events.Cause) (*events.Event, error)) eventlog.Entry {
	w.t.Helper()
	e, appended, err := w.log.Update(w.t.Context(), entity, id, func(last *events.Event) (*events.Event, error) {
		return decide(last, events.Cause{
			Now: w.now(), Source: provider.SourceIngest, Customer: ref,
			CommandID: events.CommandID("test", fmt.Sprint(w.n.Add(1))),
		})
	})
	if err != nil || !appended {
		w.t.Fatalf("append to %s: appended %v, %v", id, appended, err)
	}
	return e
}

// message is a stored event as a consumer delivers it.
func (w *world) message(e eventlog.Entry, attempt int) eventlog.Message {
	ev := e.Event
	return eventlog.Message{
		Stream: "PAYKIT_LOG", Sequence: e.Sequence, Attempt: attempt, Data: e.Raw,
		Subject: fmt.Sprintf("paykit.log.%s.%s.%s.%s", ev.Entity(), ev.Type.Name(), ev.Subject, ev.CustomerID()),
	}
}

// person is a customer of the world.
type person struct {
	w    *world
	ref  events.CustomerRef
	cus  string // the provider's customer
	pm   string // the provider's method
	meth string

	charged string // a charge that a test came back to
}

// person makes a customer that no provider knows yet.
func (w *world) person() *person {
	w.t.Helper()
	reference := fmt.Sprintf("user_%d", w.n.Add(1))
	p := &person{w: w, ref: events.CustomerRef{ID: events.CustomerID(reference), ReferenceID: reference}}
	w.append(events.EntityCustomer, p.ref.ID, p.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecideCustomer(last, events.SyncCustomer{ReferenceID: reference}, c)
	})
	return p
}

// buyer makes a customer with a linked account and a saved card ("pm_card_visa").
func (w *world) buyer(card string) *person {
	w.t.Helper()
	p := w.person()
	cus, err := w.api.CreateCustomer(w.t.Context(), "setup:"+p.ref.ID, events.Owner{Env: w.log.Env(), Customer: p.ref.ID})
	if err != nil {
		w.t.Fatal(err)
	}
	p.cus = cus
	link := eventlog.Link{Entity: events.EntityCustomer, ID: p.ref.ID, CustomerID: p.ref.ID}
	if err := w.log.PutLink(w.t.Context(), stripeID, cus, link); err != nil {
		w.t.Fatal(err)
	}
	w.append(events.EntityProviderAccount, p.account(), p.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecideProviderAccount(last, events.LinkAccount{ProviderID: stripeID, ProviderCustomerID: cus}, c)
	})
	p.pm, p.meth = p.save(card)
	return p
}

// save attaches another card.
func (p *person) save(card string) (pm, meth string) {
	p.w.t.Helper()
	var attached struct {
		ID string `json:"id"`
	}
	p.w.post("/v1/payment_methods/"+card+"/attach", url.Values{"customer": {p.cus}}, &attached)
	meth = events.PaymentMethodID(stripeID, attached.ID)
	p.w.append(events.EntityPaymentMethod, meth, p.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecidePaymentMethod(last, events.MethodObserved{ProviderID: stripeID, Method: events.Method{
			ID: attached.ID, ProviderCustomerID: p.cus, Attached: true, Type: "card", Brand: "visa", Last4: "4242",
		}}, c)
	})
	return attached.ID, meth
}

func (p *person) account() string { return events.ProviderAccountID(p.ref.ID, stripeID) }

// charge asks for a charge.
func (p *person) charge(returnURL string) eventlog.Entry {
	p.w.t.Helper()
	id := events.ChargeID(fmt.Sprintf("charge %d", p.w.n.Add(1)))
	return p.w.append(events.EntityCharge, id, p.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecideCharge(last, events.CreateCharge{
			ID: id, ProviderID: stripeID, PaymentMethodID: p.meth, Amount: 4900, Currency: "usd", Description: "Pro plan",
			Metadata: map[string]string{"plan": "pro"}, ReturnURL: returnURL, CommandDigest: events.Digest([]byte("x")),
		}, c)
	})
}

func (p *person) updateCharge(id string, in events.ChargeInput) {
	p.w.t.Helper()
	p.w.append(events.EntityCharge, id, p.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecideCharge(last, in, c)
	})
}

func (p *person) checkout() eventlog.Entry {
	p.w.t.Helper()
	id := events.CheckoutID(fmt.Sprintf("checkout %d", p.w.n.Add(1)))
	return p.w.append(events.EntityCheckout, id, p.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecideCheckout(last, events.CreateCheckout{
			ID: id, ProviderID: stripeID, Amount: 4900, Currency: "usd", Description: "Pro plan",
			SuccessURL: "https://example.com/ok", AttachMethod: true, CommandDigest: events.Digest([]byte("x")),
		}, c)
	})
}

func (p *person) setup() eventlog.Entry {
	p.w.t.Helper()
	id := events.SetupID(fmt.Sprintf("setup %d", p.w.n.Add(1)))
	return p.w.append(events.EntitySetup, id, p.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecideSetup(last, events.CreateSetup{
			ID: id, ProviderID: stripeID, ReturnURL: "https://example.com/back", CommandDigest: events.Digest([]byte("x")),
		}, c)
	})
}

func (p *person) updateMethod(id string, in events.PaymentMethodInput) eventlog.Entry {
	p.w.t.Helper()
	return p.w.append(events.EntityPaymentMethod, id, p.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecidePaymentMethod(last, in, c)
	})
}

func (p *person) delete() {
	p.w.t.Helper()
	p.w.append(events.EntityCustomer, p.ref.ID, p.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
		rev := uint64(0)
		if r, err := p.w.log.Profile(p.w.t.Context(), p.ref.ID); err == nil {
			rev = r.Sequence
		}
		return events.DecideCustomer(last, events.DeleteCustomer{Revision: rev}, c)
	})
}

// sync stores a profile and announces it.
func (p *person) sync(email, name string, metadata map[string]string) {
	p.w.t.Helper()
	last := uint64(0)
	if r, err := p.w.log.Profile(p.w.t.Context(), p.ref.ID); err == nil {
		last = r.Sequence
	}
	rev, err := p.w.log.PutProfile(p.w.t.Context(), p.ref.ID, eventlog.Profile{Email: &email, Name: &name, Metadata: metadata}, last)
	if err != nil {
		p.w.t.Fatal(err)
	}
	p.w.append(events.EntityCustomer, p.ref.ID, p.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecideCustomer(last, events.SyncCustomer{ReferenceID: p.ref.ReferenceID, Revision: rev, Changed: []string{"email"}}, c)
	})
}

func chargeIs(status events.ChargeStatus) func(*events.Event) bool {
	return func(e *events.Event) bool { return e.Data.Charge.Status == status }
}

// untilCharge waits for a charge's status.
func (w *world) untilCharge(id string, status events.ChargeStatus) *events.Charge {
	w.t.Helper()
	return w.until(events.EntityCharge, id, chargeIs(status)).Data.Charge
}

// ledgerPayment is a payment of the sandbox's ledger.
type ledgerPayment struct {
	ID             string            `json:"id"`
	Amount         int64             `json:"amount"`
	Status         string            `json:"status"`
	Captures       int               `json:"captures"`
	AmountRefunded int64             `json:"amountRefunded"`
	Metadata       map[string]string `json:"metadata"`
}

// payments are the sandbox's payments for one of our charges.
func (w *world) payments(chargeID string) []ledgerPayment {
	w.t.Helper()
	var ledger struct {
		Payments []ledgerPayment `json:"payments"`
	}
	w.get("/_sandbox/ledger", &ledger)
	var list []ledgerPayment
	for _, p := range ledger.Payments {
		if p.Metadata["paykit_charge"] == chargeID {
			list = append(list, p)
		}
	}
	return list
}

// oneCapture checks that a charge took money once, with one payment.
func (w *world) oneCapture(chargeID string) {
	w.t.Helper()
	list := w.payments(chargeID)
	if len(list) != 1 || list[0].Captures != 1 || list[0].Amount != 4900 || list[0].Status != "succeeded" {
		w.t.Errorf("ledger of %s is %+v; want one payment of 4900, captured once\n%s", chargeID, list, w.logs)
	}
}

// fault has the sandbox fail calls of an operation.
func (w *world) fault(body string) {
	w.t.Helper()
	w.do(http.MethodPost, "/_sandbox/faults", "application/json", strings.NewReader(body), nil)
}

func (w *world) post(path string, form url.Values, into any) {
	w.t.Helper()
	w.do(http.MethodPost, path, "application/x-www-form-urlencoded", strings.NewReader(form.Encode()), into)
}

func (w *world) control(path, body string) {
	w.t.Helper()
	w.do(http.MethodPost, path, "application/json", strings.NewReader(body), nil)
}

func (w *world) get(path string, into any) {
	w.t.Helper()
	w.do(http.MethodGet, path, "", http.NoBody, into)
}

// send makes one call to the sandbox.
func (w *world) send(method, path, contentType string, body io.Reader) (status int, text []byte, err error) {
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.sandbox+path, body)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+testKey)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	text, err = io.ReadAll(res.Body)
	return res.StatusCode, text, err
}

func (w *world) do(method, path, contentType string, body io.Reader, into any) {
	w.t.Helper()
	status, text, err := w.send(method, path, contentType, body)
	if err != nil || status != http.StatusOK {
		w.t.Fatalf("%s %s: %d %s %v", method, path, status, text, err)
	}
	if into != nil {
		if err := json.NewDecoder(bytes.NewReader(text)).Decode(into); err != nil {
			w.t.Fatalf("%s %s: %v", method, path, err)
		}
	}
}

// called lists the calls to the sandbox's API since the last time, and forgets them.
func (w *world) called() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.calls
	w.calls = nil
	return list
}

// inbox counts the stored deliveries.
func (w *world) inbox() int {
	w.t.Helper()
	return (&ingest{t: w.t, log: w.log}).streamMessages("PAYKIT_INBOX")
}

// runNormalizer runs a normalizer until the test ends.
func (w *world) runNormalizer(n *provider.Normalizer) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("the normalizer ended with %v", err)
		}
	})
}
