package sandbox_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/client"
	"github.com/stripe/stripe-go/v76/webhook"
	"go.uber.org/goleak"

	"github.com/paykit-go/paykit/internal/provider/stripe/sandbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// longEnough bounds every wait of these tests.
const longEnough = 20 * time.Second

// world is a running sandbox with Stripe's own client.
type world struct {
	t    *testing.T
	cfg  sandbox.Config
	sand *sandbox.Server
	base string
	http *http.Client
	api  *client.API

	now  atomic.Pointer[sandbox.Server] // answers at base
	stop func()
}

// newWorld starts a sandbox. Each test ends with the question what a kill would have lost.
func newWorld(t *testing.T, change ...func(*sandbox.Config)) *world {
	t.Helper()
	w := &world{t: t, cfg: sandbox.Config{SettleAfter: time.Millisecond, StateFile: filepath.Join(t.TempDir(), "state.jsonl")}}
	for _, f := range change {
		f(&w.cfg)
	}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.now.Load().ServeHTTP(rw, r) }))
	w.base = server.URL
	transport := &http.Transport{DisableKeepAlives: true} // net/http sends a keyed POST again on a reused connection that dies
	w.http = &http.Client{Transport: transport, Timeout: longEnough}
	w.api = newClient(w.base, "sk_test_123", w.http)
	w.begin()
	t.Cleanup(func() {
		if w.cfg.StateFile != "" {
			w.nothingLost()
		}
		w.stop()
		server.Close()
		transport.CloseIdleConnections()
	})
	return w
}

// begin starts a sandbox, on the state file if there is one.
func (w *world) begin() {
	w.t.Helper()
	sand, err := sandbox.New(w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	sand.SetBaseURL(w.base)
	w.sand = sand
	w.now.Store(sand)
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- sand.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("Run: %v", err)
		}
		sand.Close()
	}
}

// restart ends the sandbox and starts it again on its file.
func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.begin()
}

// kill ends the sandbox at this moment and starts it again on what that leaves.
func (w *world) kill() {
	w.t.Helper()
	left := filepath.Join(w.t.TempDir(), "left.jsonl")
	if diff, err := w.sand.KillNow(left); err != nil || diff != "" {
		w.t.Errorf("after a kill: %v\n%s", err, diff)
	}
	w.stop()
	w.cfg.StateFile = left
	w.begin()
}

// nothingLost kills a copy and looks at what is left.
func (w *world) nothingLost() {
	w.t.Helper()
	diff, err := w.sand.KillNow(filepath.Join(w.t.TempDir(), "killed.jsonl"))
	if err != nil || diff != "" {
		w.t.Errorf("after a kill: %v\n%s", err, diff)
	}
}

func newClient(base, key string, hc *http.Client) *client.API {
	backend := func() stripe.Backend {
		return stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{
			URL: new(base), MaxNetworkRetries: stripe.Int64(0), EnableTelemetry: new(false),
			HTTPClient: hc, LeveledLogger: &stripe.LeveledLogger{Level: stripe.LevelNull},
		})
	}
	return client.New(key, &stripe.Backends{API: backend(), Connect: backend(), Uploads: backend()})
}

// control makes a control call and decodes its answer into out. It returns the status.
func (w *world) control(method, path, body string, out any) int {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.base+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	return w.roundTrip(req, out)
}

func (w *world) roundTrip(req *http.Request, out any) int {
	w.t.Helper()
	resp, err := w.http.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if out != nil {
		if err := json.Unmarshal(body, out); err != nil {
			w.t.Fatalf("%s %s: %v: %s", req.Method, req.URL, err, body)
		}
	}
	return resp.StatusCode
}

// raw is an API call without a client library.
func (w *world) raw(method, path, form, key string) (int, http.Header, []byte) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.base+path, strings.NewReader(form))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer sk_test_123")
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := w.http.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, body
}

// advance moves the sandbox's clock.
func (w *world) advance(by string) {
	w.t.Helper()
	if status := w.control(http.MethodPost, "/_sandbox/clock/advance", `{"by":"`+by+`"}`, nil); status != http.StatusOK {
		w.t.Fatalf("advance: %d", status)
	}
}

type ledgerPayment struct {
	ID             string
	Amount         int64
	Currency       string
	Status         string
	Captures       int
	AmountRefunded int64
	Customer       string
	PaymentMethod  string
	Metadata       map[string]string
}

func (w *world) ledger() []ledgerPayment {
	w.t.Helper()
	var out struct{ Payments []ledgerPayment }
	if status := w.control(http.MethodGet, "/_sandbox/ledger", "", &out); status != http.StatusOK {
		w.t.Fatalf("ledger: %d", status)
	}
	return out.Payments
}

// captures sums how often money was taken.
func (w *world) captures() int {
	w.t.Helper()
	n := 0
	for _, p := range w.ledger() {
		if p.Captures > 1 {
			w.t.Errorf("payment %s took money %d times", p.ID, p.Captures)
		}
		n += p.Captures
	}
	return n
}

func (w *world) customer() *stripe.Customer {
	w.t.Helper()
	cus, err := w.api.Customers.New(&stripe.CustomerParams{Email: new("jenny@example.com"), Name: new("Jenny Rosen")})
	if err != nil {
		w.t.Fatal(err)
	}
	return cus
}

// saved attaches a new card to a customer.
func (w *world) saved(cus, card string) *stripe.PaymentMethod {
	w.t.Helper()
	m, err := w.api.PaymentMethods.Attach(card, &stripe.PaymentMethodAttachParams{Customer: new(cus)})
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

// payment makes an unconfirmed payment of 49.00 USD.
func (w *world) payment(cus, method string) *stripe.PaymentIntent {
	w.t.Helper()
	p := &stripe.PaymentIntentParams{
		Amount: stripe.Int64(4900), Currency: new("usd"), PaymentMethodTypes: []*string{new("card")},
		Description: new("Pro plan"), Metadata: map[string]string{"order": "42"},
	}
	if cus != "" {
		p.Customer = new(cus)
	}
	if method != "" {
		p.PaymentMethod = new(method)
	}
	pi, err := w.api.PaymentIntents.New(p)
	if err != nil {
		w.t.Fatal(err)
	}
	return pi
}

func (w *world) confirmOffSession(id string) (*stripe.PaymentIntent, error) {
	return w.api.PaymentIntents.Confirm(id, &stripe.PaymentIntentConfirmParams{OffSession: new(true)})
}

// eventTypes lists the log, oldest first.
func (w *world) eventTypes(wanted ...string) []string {
	w.t.Helper()
	var out []string
	for _, e := range w.events() {
		if len(wanted) == 0 || slices.Contains(wanted, string(e.Type)) {
			out = append(out, string(e.Type))
		}
	}
	return out
}

func (w *world) events() []*stripe.Event {
	w.t.Helper()
	p := &stripe.EventListParams{}
	p.Limit = stripe.Int64(100)
	var out []*stripe.Event
	it := w.api.Events.List(p)
	for it.Next() {
		out = append(out, it.Event())
	}
	if it.Err() != nil {
		w.t.Fatal(it.Err())
	}
	slices.Reverse(out)
	return out
}

// event returns the only event of a type.
func (w *world) event(eventType string) *stripe.Event {
	w.t.Helper()
	var found *stripe.Event
	for _, e := range w.events() {
		if string(e.Type) == eventType {
			if found != nil {
				w.t.Fatalf("more than one %s", eventType)
			}
			found = e
		}
	}
	if found == nil {
		w.t.Fatalf("no %s among %v", eventType, w.eventTypes())
	}
	return found
}

// until asks again, as a poller would, until good says so. The sandbox settles things in its own time.
func (w *world) until(what string, good func() bool) {
	w.t.Helper()
	deadline := time.After(longEnough)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !good() {
		select {
		case <-tick.C:
		case <-deadline:
			w.t.Fatalf("timed out: %s", what)
		}
	}
}

// stripeError unwraps Stripe's error and checks what it is.
func stripeError(t *testing.T, err error, status int, errorType stripe.ErrorType, code string) *stripe.Error {
	t.Helper()
	var se *stripe.Error
	if !errors.As(err, &se) {
		t.Fatalf("got %v, want Stripe's error %d %s %s", err, status, errorType, code)
	}
	if se.HTTPStatusCode != status || se.Type != errorType || string(se.Code) != code {
		t.Fatalf("got %d %s %q (%s), want %d %s %q", se.HTTPStatusCode, se.Type, se.Code, se.Msg, status, errorType, code)
	}
	return se
}

// wantError is stripeError for whoever needs no more of it.
func wantError(t *testing.T, err error, status int, errorType stripe.ErrorType, code string) {
	t.Helper()
	_ = stripeError(t, err, status, errorType, code)
}

// receiver is a webhook receiver that checks signatures.
type receiver struct {
	url    string
	secret string
	seen   chan *stripe.Event

	mu     sync.Mutex
	answer func(attempt int, e *stripe.Event) int // status of the n-th attempt of an event, from 1
	tries  map[string]int
	stamps map[string][]string // signature headers by event
}

func newReceiver(t *testing.T, secret string) *receiver {
	t.Helper()
	r := &receiver{
		secret: secret, seen: make(chan *stripe.Event, 1000), tries: map[string]int{}, stamps: map[string][]string{},
		answer: func(int, *stripe.Event) int { return http.StatusOK },
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Errorf("receive: %v", err)
		}
		r.mu.Lock()
		secret := r.secret
		r.mu.Unlock()
		e, err := webhook.ConstructEvent(body, req.Header.Get("Stripe-Signature"), secret)
		if err != nil {
			t.Errorf("signature: %v", err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		r.tries[e.ID]++
		r.stamps[e.ID] = append(r.stamps[e.ID], req.Header.Get("Stripe-Signature"))
		status := r.answer(r.tries[e.ID], &e)
		r.mu.Unlock()
		w.WriteHeader(status)
		r.seen <- &e
	}))
	t.Cleanup(server.Close)
	r.url = server.URL + "/hook"
	return r
}

// next waits for a delivery.
func (r *receiver) next(t *testing.T) *stripe.Event {
	t.Helper()
	select {
	case e := <-r.seen:
		return e
	case <-time.After(longEnough):
		t.Fatal("no delivery")
		return nil
	}
}

// quiet fails if something was delivered. It is called when everything that could be delivered has been.
func (r *receiver) quiet(t *testing.T) {
	t.Helper()
	select {
	case e := <-r.seen:
		t.Errorf("unexpected delivery of %s", e.Type)
	default:
	}
}

// attempts is how often an event was delivered.
func (r *receiver) attempts(id string) (n int, stamps []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tries[id], slices.Clone(r.stamps[id])
}

func mustJSON(t *testing.T, raw []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&m); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	return m
}

// as is a checked type assertion.
func as[T any](t *testing.T, v any) T {
	t.Helper()
	typed, ok := v.(T)
	if !ok {
		t.Fatalf("%v is a %T, not a %T", v, v, typed)
	}
	return typed
}

// items are the objects of a list answer.
func items(t *testing.T, body []byte) (out []map[string]any) {
	t.Helper()
	for _, item := range as[[]any](t, mustJSON(t, body)["data"]) {
		out = append(out, as[map[string]any](t, item))
	}
	return out
}

// at reads a value deep in decoded JSON: at(m, "error", "code").
func at(m map[string]any, path ...string) any {
	var v any = m
	for _, key := range path {
		object, ok := v.(map[string]any)
		if !ok {
			return fmt.Sprintf("no object at %s", key)
		}
		v = object[key]
	}
	return v
}
