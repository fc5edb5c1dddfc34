package virtualtime_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/commands"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
	"github.com/paykit-go/paykit/internal/provider"
	"github.com/paykit-go/paykit/internal/provider/stripe"
	"github.com/paykit-go/paykit/internal/provider/stripe/sandbox"
	"github.com/paykit-go/paykit/internal/verify"
)

const (
	stripeID = "stripe"
	testKey  = "sk_test_days"
	day      = 24 * time.Hour
)

// world is an installation in virtual time: nothing of it listens on a port.
type world struct {
	t    *testing.T
	log  *eventlog.Log
	box  *sandbox.Server
	api  *http.Client // to the sandbox
	logs *logs

	secret string      // of the sandbox's deliveries
	closed atomic.Bool // the webhook door can't be reached
	silent atomic.Bool // the provider answers no look-ups
	n      int
}

// inVirtualTime runs a test with an installation, without worker and normalizer.
func inVirtualTime(t *testing.T, f func(w *world)) {
	t.Helper()
	eventlogtest.Virtual(t, func(t *testing.T, s *eventlogtest.Server) {
		t.Helper()
		w := &world{t: t, log: eventlogtest.Open(t, s.Conn(t)), logs: &logs{}}
		var door atomic.Pointer[http.Handler]
		var err error
		w.box, err = sandbox.New(sandbox.Config{
			SettleAfter: time.Millisecond, Transport: memory{func() http.Handler {
				if d := door.Load(); d != nil && !w.closed.Load() {
					return *d
				}
				return nil
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		w.api = &http.Client{Transport: memory{func() http.Handler { return w.box }}}
		var endpoint struct {
			Secret string `json:"secret"`
		}
		w.post("/v1/webhook_endpoints", url.Values{"url": {"http://door/webhooks/stripe"}, "enabled_events[]": {"*"}}, &endpoint)
		w.secret = endpoint.Secret
		hooks, err := stripe.NewWebhooks([]string{w.secret})
		if err != nil {
			t.Fatal(err)
		}
		d := provider.NewDoor(w.log, map[string]provider.Webhooks{stripeID: hooks}, provider.DoorConfig{Logger: zerolog.New(w.logs)})
		door.Store(&d)
		w.run("sandbox", w.box.Run)
		t.Cleanup(w.box.Close)
		f(w)
	})
}

// run runs something until the test ends or the returned function is called.
func (w *world) run(what string, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			w.t.Errorf("the %s ended with %v", what, err)
		}
	})
	w.t.Cleanup(stop)
	return stop
}

// worker runs a worker.
func (w *world) worker() (stop func()) {
	w.t.Helper()
	api, err := stripe.New(stripe.Config{
		APIKey: testKey, APIBase: "http://sandbox", Env: w.log.Env(),
		HTTPClient: &http.Client{Transport: memory{func() http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if w.silent.Load() && r.Method == http.MethodGet {
					panic(http.ErrAbortHandler)
				}
				w.box.ServeHTTP(rw, r)
			})
		}}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.run("worker", provider.NewWorker(w.log, map[string]provider.API{stripeID: api}, provider.WorkerConfig{
		Logger: zerolog.New(w.logs), Webhooks: map[string]provider.Webhooks{stripeID: &stripe.Webhooks{}},
	}).Run)
}

// normalizer runs a normalizer.
func (w *world) normalizer() (stop func()) {
	w.t.Helper()
	return w.run("normalizer", provider.NewNormalizer(w.log, map[string]provider.Webhooks{stripeID: &stripe.Webhooks{}},
		provider.NormalizerConfig{Logger: zerolog.New(w.logs)}).Run)
}

// pass lets time pass.
func (w *world) pass(d time.Duration) {
	select {
	case <-w.t.Context().Done():
	case <-time.After(d):
	}
}

// within waits until ok, for at most so long.
func (w *world) within(d time.Duration, what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(d); !ok(); w.pass(d / 500) {
		if time.Now().After(end) {
			w.t.Fatalf("not within %s: %s\n%s", d, what, w.logs)
		}
	}
}

// execute carries out a command as ingest does, without waiting for its outcome.
func (w *world) execute(verb, body string, into any) {
	w.t.Helper()
	h := commands.New(w.log, commands.Config{Providers: []string{stripeID}, Logger: zerolog.New(w.logs)})
	defer h.Close()
	w.n++
	result, err := h.Execute(w.t.Context(), verb, []byte(body), commands.Meta{IdempotencyKey: fmt.Sprint("key ", w.n)})
	if err == nil {
		err = json.Unmarshal(result.Body, into)
	}
	if err != nil {
		w.t.Fatalf("%s: %v", verb, err)
	}
}

// buyer is a customer with a saved card.
type buyer struct{ id, method string }

// buyer makes one, with worker and normalizer for as long as that takes.
func (w *world) buyer(card string) buyer {
	w.t.Helper()
	defer w.worker()()
	defer w.normalizer()()
	w.n++
	var customer struct{ ID string }
	w.execute("customer.sync", fmt.Sprintf(`{"referenceId":"user_%d"}`, w.n), &customer)
	var setup events.Setup
	w.execute("payment_method.attach", `{"providerId":"stripe","customerId":"`+customer.ID+`","returnURL":"https://example.com/back"}`, &setup)
	w.within(time.Minute, "the page is there", func() bool {
		e := w.state(events.EntitySetup, setup.ID)
		setup = *e.Data.Setup
		return setup.ProviderSessionID != ""
	})
	w.control("/_sandbox/checkout/"+setup.ProviderSessionID+"/complete", `{"card":"`+card+`"}`)
	w.within(time.Minute, "the card is saved", func() bool {
		setup = *w.state(events.EntitySetup, setup.ID).Data.Setup
		return setup.PaymentMethodID != "" && w.state(events.EntityPaymentMethod, setup.PaymentMethodID) != nil
	})
	return buyer{customer.ID, setup.PaymentMethodID}
}

// charge asks for a charge.
func (w *world) charge(b buyer, more string) (id string) {
	w.t.Helper()
	var c events.Charge
	w.execute("charge.create", `{"providerId":"stripe","customerId":"`+b.id+`","paymentMethodId":"`+b.method+
		`","amount":4900,"currency":"usd","description":"Pro plan"`+more+`}`, &c)
	return c.ID
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

func (w *world) chargeState(id string) *events.Charge {
	w.t.Helper()
	if e := w.state(events.EntityCharge, id); e != nil {
		return e.Data.Charge
	}
	return &events.Charge{}
}

// until waits until a charge has a status.
func (w *world) until(d time.Duration, id string, status events.ChargeStatus) *events.Charge {
	w.t.Helper()
	w.within(d, fmt.Sprintf("%s is %s", id, status), func() bool { return w.chargeState(id).Status == status })
	return w.chargeState(id)
}

// ended checks that a charge has one payment and how often money was taken with it, and the whole log.
func (w *world) ended(id string, captures int) {
	w.t.Helper()
	var ledger struct {
		Payments []struct {
			Captures int
			Metadata map[string]string
		}
	}
	w.get("/_sandbox/ledger", &ledger)
	made, taken := 0, 0
	for _, p := range ledger.Payments {
		if p.Metadata["paykit_charge"] == id {
			made++
			taken += p.Captures
		}
	}
	if made != 1 || taken != captures {
		w.t.Errorf("%s: %d payments, money taken %d times; want 1 and %d\n%s", id, made, taken, captures, w.logs)
	}
	report, err := verify.Log(w.t.Context(), w.log, verify.Options{})
	if err != nil || !report.OK {
		w.t.Errorf("the checker: %v %+v", err, report)
	}
}

// types are the types of the log's events from a sequence on.
func (w *world) types(from uint64) (list []events.Type) {
	w.t.Helper()
	page, err := w.log.History(w.t.Context(), eventlog.HistoryFilter{}, from, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range page {
		list = append(list, e.Event.Type)
	}
	return list
}

func (w *world) last() uint64 {
	w.t.Helper()
	info, err := w.log.Info(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return info.LastSequence
}

// memory is a transport without sockets. What its handler gives up on is a connection that ended without an answer; nil is
// nobody there.
type memory struct{ handler func() http.Handler }

var errNobody = errors.New("connection refused")

func (m memory) RoundTrip(req *http.Request) (*http.Response, error) {
	h := m.handler()
	if h == nil {
		return nil, errNobody
	}
	var body []byte
	if req.Body != nil {
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
		_ = req.Body.Close()
	}
	r := req.Clone(req.Context())
	r.Body, r.RequestURI, r.RemoteAddr = io.NopCloser(bytes.NewReader(body)), req.URL.RequestURI(), "memory"
	if r.Host == "" {
		r.Host = req.URL.Host
	}
	if trace := httptrace.ContextClientTrace(req.Context()); trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{}) // what comes now may have arrived
	}
	answer := make(chan *httptest.ResponseRecorder, 1)
	go func() {
		rec := httptest.NewRecorder()
		defer func() {
			if p := recover(); p != nil {
				rec = nil // as net/http does on http.ErrAbortHandler
			}
			answer <- rec
		}()
		h.ServeHTTP(rec, r)
	}()
	select {
	case rec := <-answer:
		if rec == nil {
			return nil, io.ErrUnexpectedEOF
		}
		res := rec.Result()
		res.Request = req
		return res, nil
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
}

func (w *world) do(method, path, contentType, body string, into any) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, "http://sandbox"+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+testKey)
	req.Header.Set("Content-Type", contentType)
	res, err := w.api.Do(req)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		w.t.Fatalf("%s %s: %d %s %v", method, path, res.StatusCode, text, err)
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			w.t.Fatalf("%s %s: %v", method, path, err)
		}
	}
}

func (w *world) post(path string, form url.Values, into any) {
	w.t.Helper()
	w.do(http.MethodPost, path, "application/x-www-form-urlencoded", form.Encode(), into)
}

func (w *world) control(path, body string) {
	w.t.Helper()
	w.do(http.MethodPost, path, "application/json", body, nil)
}

func (w *world) get(path string, into any) {
	w.t.Helper()
	w.do(http.MethodGet, path, "", "", into)
}

// logs collects log lines.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
