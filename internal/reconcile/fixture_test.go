package reconcile_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
	"github.com/paykit-go/paykit/internal/provider"
	"github.com/paykit-go/paykit/internal/provider/stripe"
	"github.com/paykit-go/paykit/internal/provider/stripe/sandbox"
	"github.com/paykit-go/paykit/internal/reconcile"
	"github.com/paykit-go/paykit/internal/verify"
)

const (
	stripeID = "stripe"
	testKey  = "sk_test_reconcile"
	patience = 30 * time.Second
)

// world is a LOG on a real server and a sandbox whose deliveries nobody gets.
type world struct {
	*testing.T
	log     *eventlog.Log
	box     *sandbox.Server
	sandbox string
	api     *stripe.Client
	seen    *provider.Applier // as ingest would have applied a delivery
	n       int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, log: eventlogtest.Provisioned(t)}
	box, err := sandbox.New(sandbox.Config{SettleAfter: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(box)
	t.Cleanup(srv.Close)
	t.Cleanup(box.Close)
	w.box, w.sandbox = box, srv.URL
	w.api, err = stripe.New(stripe.Config{APIKey: testKey, APIBase: srv.URL, Env: w.log.Env(), Rate: 500})
	if err != nil {
		t.Fatal(err)
	}
	w.seen = provider.NewApplier(w.log, provider.ApplierConfig{Source: provider.SourceIngest, Logger: zerolog.Nop()})
	return w
}

// send makes one call to the sandbox.
func (w *world) send(method, path, contentType string, body io.Reader) (int, []byte) {
	w.Helper()
	req, err := http.NewRequestWithContext(w.Context(), method, w.sandbox+path, body)
	if err != nil {
		w.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+testKey)
	req.Header.Set("Content-Type", contentType)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		w.Fatal(err)
	}
	return res.StatusCode, text
}

// post calls Stripe's API and gives the answer's id.
func (w *world) post(path string, pairs ...string) string {
	w.Helper()
	form := url.Values{}
	for pair := range slices.Chunk(pairs, 2) {
		form.Add(pair[0], pair[1])
	}
	status, text := w.send(http.MethodPost, path, "application/x-www-form-urlencoded", strings.NewReader(form.Encode()))
	var made struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(text, &made); err != nil || status != http.StatusOK {
		w.Fatalf("POST %s: %d %s %v", path, status, text, err)
	}
	return made.ID
}

func (w *world) control(method, path, body string) {
	w.Helper()
	if status, text := w.send(method, path, "application/json", strings.NewReader(body)); status != http.StatusOK {
		w.Fatalf("%s %s: %d %s", method, path, status, text)
	}
}

// until waits until ok.
func (w *world) until(what string, ok func() bool) {
	w.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			w.Fatalf("never: %s", what)
		}
	}
}

func (w *world) event(id string) *events.Event {
	w.Helper()
	entity, ok := events.EntityOf(id)
	if !ok {
		w.Fatalf("%q is no id", id)
	}
	e, err := w.log.LoadFromLeader(w.Context(), entity, id)
	if err != nil {
		return nil
	}
	return e.Event
}

// worker runs a worker until the test of done is true, and stops it.
func (w *world) worker(what string, done func() bool) {
	w.Helper()
	worker := provider.NewWorker(w.log, map[string]provider.API{stripeID: w.api}, provider.WorkerConfig{Logger: zerolog.Nop()})
	ctx, cancel := context.WithCancel(w.Context())
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			w.Errorf("the worker ended with %v", err)
		}
	}()
	w.until(what, done)
}

// append decides on an entity as ingest would.
func (w *world) append(entity events.Entity, id string, ref events.CustomerRef, decide func(last *events.Event, c events.Cause) (*events.Event, error)) {
	w.Helper()
	w.n++
	_, appended, err := w.log.Update(w.Context(), entity, id, func(last *events.Event) (*events.Event, error) {
		return decide(last, events.Cause{
			Now: time.Now(), Source: provider.SourceIngest, Customer: ref, CommandID: events.CommandID("test", fmt.Sprint(w.n)),
		})
	})
	if err != nil || !appended {
		w.Fatalf("append to %s: appended %v, %v", id, appended, err)
	}
}

// observe applies what a delivery would have said.
func (w *world) observe(o provider.Observation) {
	w.Helper()
	got, err := w.seen.Observe(w.Context(), stripeID, o, "evt_test")
	if err != nil || got.Outcome != provider.OutcomeChanged {
		w.Fatalf("observe %+v: %v, %v", o, got.Outcome, err)
	}
}

// buyer is a customer of ours.
type buyer struct {
	*world
	ref  events.CustomerRef
	cus  string // the provider's
	pm   string // the provider's
	meth string
}

func (w *world) customer() *buyer {
	w.Helper()
	w.n++
	reference := fmt.Sprintf("user_%d", w.n)
	b := &buyer{world: w, ref: events.CustomerRef{ID: events.CustomerID(reference), ReferenceID: reference}}
	w.append(events.EntityCustomer, b.ref.ID, b.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecideCustomer(last, events.SyncCustomer{ReferenceID: reference}, c)
	})
	return b
}

// made makes the customer at the provider, and nothing of it is told here.
func (b *buyer) made() string {
	b.Helper()
	b.n++
	cus, err := b.api.CreateCustomer(b.Context(), fmt.Sprint("key ", b.n), events.Owner{Customer: b.ref.ID})
	if err != nil {
		b.Fatal(err)
	}
	return cus
}

// linked is a customer with a linked account and a saved card.
func (w *world) linked(card string) *buyer {
	w.Helper()
	b := w.customer()
	b.cus = b.made()
	w.observe(provider.CustomerSeen{ID: b.cus, Owner: events.Owner{Env: w.log.Env(), Customer: b.ref.ID}})
	b.pm = w.post("/v1/payment_methods/"+card+"/attach", "customer", b.cus)
	b.meth = events.PaymentMethodID(stripeID, b.pm)
	m, err := w.api.Method(w.Context(), b.pm)
	if err != nil {
		w.Fatal(err)
	}
	w.observe(provider.MethodSeen{Method: m, First: true})
	return b
}

// asked is a charge that is asked for.
func (b *buyer) asked() string { return b.askedWith(nil) }

func (b *buyer) askedWith(retry *events.RetrySchedule) string {
	b.Helper()
	b.n++
	id := events.ChargeID(fmt.Sprint("charge ", b.n))
	b.append(events.EntityCharge, id, b.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecideCharge(last, events.CreateCharge{
			ID: id, ProviderID: stripeID, PaymentMethodID: b.meth, Amount: 4900, Currency: "usd", CommandDigest: "sha256:x", Retry: retry,
		}, c)
	})
	return id
}

// charged is a charge that succeeded.
func (b *buyer) charged() *events.Charge {
	b.Helper()
	id := b.asked()
	b.worker("the charge succeeds", func() bool { return b.event(id).Data.Charge.Status == events.ChargeStatusSucceeded })
	return b.event(id).Data.Charge
}

// begun is a charge whose payment was made and not confirmed: the worker died before.
func (b *buyer) begun() *events.Charge {
	b.Helper()
	id := b.asked()
	b.control(http.MethodPost, "/_sandbox/faults", `{"operation":"payment_intents.confirm","kind":"status","status":503,"times":1000}`)
	b.worker("the payment is made", func() bool { return b.event(id).Data.Charge.ProviderPaymentID != "" })
	b.control(http.MethodDelete, "/_sandbox/faults", "")
	return b.event(id).Data.Charge
}

// confirm takes a payment's money behind PayKit's back; a decline is fine.
func (b *buyer) confirm(pi string) {
	b.Helper()
	form := url.Values{"payment_method": {b.pm}, "off_session": {"true"}}
	b.send(http.MethodPost, "/v1/payment_intents/"+pi+"/confirm", "application/x-www-form-urlencoded", strings.NewReader(form.Encode()))
}

// paid is a payment made at the provider by hand.
func (b *buyer) paid(cus string, amount int64, metadata ...string) string {
	b.Helper()
	pairs := []string{
		"amount", fmt.Sprint(amount), "currency", "usd", "customer", cus, "payment_method", b.pm, "confirm", "true", "off_session", "true",
		"payment_method_types[]", "card",
	}
	for pair := range slices.Chunk(metadata, 2) {
		pairs = append(pairs, "metadata["+pair[0]+"]", pair[1])
	}
	return b.post("/v1/payment_intents", pairs...)
}

// compare runs the comparison.
func (w *world) compare(o reconcile.Options) *reconcile.Report {
	w.Helper()
	o.ProviderID = stripeID
	r, err := reconcile.Run(w.Context(), w.log, w.api, o)
	if err != nil {
		w.Fatal(err)
	}
	return r
}

// verified checks the log.
func (w *world) verified() {
	w.Helper()
	report, err := verify.Log(w.Context(), w.log, verify.Options{})
	if err != nil || !report.OK {
		w.Errorf("verify: %+v, %v", report, err)
	}
}
