package provider_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
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
	"github.com/paykit-go/paykit/internal/schema/schematest"
)

const (
	stripeID = "stripe"
	secret   = "whsec_current" //nolint:gosec // G101: a test's own
	oldOne   = "whsec_rolled"
	patience = 20 * time.Second // for what happens on its own; a test that works waits milliseconds
)

// ingest is the webhook door and the normalizer on a real server.
type ingest struct {
	t       *testing.T
	log     *eventlog.Log
	tap     *schematest.Seen
	server  *eventlogtest.Server
	url     string
	results chan string // one word each time that a delivery was worked on
	metrics *prometheus.Registry
	logs    *lockedBuffer
	ids     atomic.Int64
}

type options struct {
	now        func() time.Time // of the normalizer
	lanes      int
	live       *bool
	retryFirst time.Duration
	asleep     bool // no normalizer yet; start it with wake
}

func newIngest(t *testing.T, o options) *ingest {
	t.Helper()
	srv := eventlogtest.Start(t, func(o *server.Options) { o.MaxPayload = 2 << 20 }) // the shipped configuration's
	in := &ingest{
		t: t, server: srv, log: eventlogtest.Open(t, srv.Conn(t)), results: make(chan string, 10_000),
		metrics: prometheus.NewRegistry(), logs: &lockedBuffer{},
	}
	in.tap = schematest.Tap(t, srv.Conn(t))
	door := httptest.NewServer(provider.NewDoor(in.log, in.hooks(), provider.DoorConfig{
		Logger: zerolog.New(in.logs), Registerer: in.metrics,
	}))
	t.Cleanup(door.Close)
	in.url = door.URL
	if !o.asleep {
		in.wake(o)
	}
	return in
}

// wake starts a normalizer, until the test ends.
func (in *ingest) wake(o options) {
	in.t.Helper()
	if o.lanes == 0 {
		o.lanes = 1 // in the order of delivery, unless a test is about the opposite
	}
	if o.retryFirst == 0 {
		o.retryFirst = 100 * time.Millisecond
	}
	n := provider.NewNormalizer(in.log, in.hooks(), provider.NormalizerConfig{
		Logger: zerolog.New(in.logs), Now: o.now, Lanes: o.lanes, ExpectLivemode: o.live, Registerer: in.metrics,
	})
	n.OnResult(o.retryFirst, func(result string) { in.results <- result })
	ctx, cancel := context.WithCancel(context.WithoutCancel(in.t.Context()))
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	in.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			in.t.Errorf("the normalizer ended with %v", err)
		}
	})
}

func (in *ingest) hooks() map[string]provider.Webhooks {
	in.t.Helper()
	hooks, err := stripe.NewWebhooks([]string{secret, oldOne})
	if err != nil {
		in.t.Fatal(err)
	}
	return map[string]provider.Webhooks{stripeID: hooks}
}

// sign makes a delivery's signature header as Stripe describes it: https://docs.stripe.com/webhooks#verify-manually
func sign(body, secret string, at time.Time) string {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = fmt.Fprintf(mac, "%d.%s", at.Unix(), body)
	return fmt.Sprintf("t=%d,v1=%x", at.Unix(), mac.Sum(nil))
}

// post sends a delivery as Stripe does and gives the answer's status and body.
func (in *ingest) post(body string) (int, string) {
	in.t.Helper()
	res := in.send(http.MethodPost, "/webhooks/stripe", body, sign(body, secret, time.Now()))
	return res.StatusCode, res.text
}

type response struct {
	*http.Response
	text string
}

func (in *ingest) send(method, path, body, signature string) response {
	in.t.Helper()
	req, err := http.NewRequestWithContext(in.t.Context(), method, in.url+path, strings.NewReader(body))
	if err != nil {
		in.t.Fatal(err)
	}
	if signature != "" {
		req.Header.Set("Stripe-Signature", signature)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		in.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		in.t.Fatal(err)
	}
	return response{res, string(text)}
}

// deliver sends deliveries one after the other, each when the one before was worked on, and gives what became of them.
func (in *ingest) deliver(bodies ...string) []string {
	in.t.Helper()
	var list []string
	for _, body := range bodies {
		in.store(body)
		list = append(list, in.wait(1)...)
	}
	return list
}

// store sends deliveries that the door takes in.
func (in *ingest) store(bodies ...string) {
	in.t.Helper()
	for _, body := range bodies {
		if status, text := in.post(body); status != http.StatusOK {
			in.t.Fatalf("the door answered %d %s to %s", status, text, body)
		}
	}
}

// wait gives the next n results of the normalizer.
func (in *ingest) wait(n int) []string {
	in.t.Helper()
	var list []string
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for len(list) < n {
		select {
		case r := <-in.results:
			list = append(list, r)
		case <-deadline.C:
			in.t.Fatalf("the normalizer said only %v; want %d results", list, n)
		}
	}
	return list
}

// changed waits until a delivery appends an event, skipping other results.
func (in *ingest) changed() {
	in.t.Helper()
	for in.wait(1)[0] != string(provider.OutcomeChanged) {
		in.t.Log("not yet")
	}
}

// event is the body of a delivery. Each call gives it another id, as another event about the same thing has.
func (in *ingest) event(typ, object string) string {
	return in.eventWith(typ, object, "")
}

func (in *ingest) eventWith(typ, object, more string) string {
	n := in.ids.Add(1)
	return fmt.Sprintf(`{"id":"evt_%06d","object":"event","api_version":"2023-10-16","created":%d,"livemode":false,
		"pending_webhooks":1,"request":{"id":null,"idempotency_key":null},"type":%q,"data":{"object":%s}%s}`,
		n, time.Now().Unix(), typ, object, more)
}

// again is the same happening under another event id, which Stripe sometimes sends.
func (in *ingest) again(body string) string {
	in.t.Helper()
	var e struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		in.t.Fatal(err)
	}
	return strings.Replace(body, e.ID, fmt.Sprintf("evt_%06d", in.ids.Add(1)), 1)
}

// buyer is a customer with a linked account, and what they bought.
type buyer struct {
	in         *ingest
	n          string // what their ids end in
	ref        events.CustomerRef
	cus        string // the provider's customer
	checkoutID string
	setupID    string
	chargeID   string
}

// buyer makes a customer whose account is linked, the way that sync and worker do.
func (in *ingest) buyer() *buyer {
	in.t.Helper()
	b := in.unlinkedBuyer()
	if err := in.log.PutLink(in.t.Context(), stripeID, b.cus, eventlog.Link{Entity: events.EntityCustomer, ID: b.ref.ID, CustomerID: b.ref.ID}); err != nil {
		in.t.Fatal(err)
	}
	b.update(events.EntityProviderAccount, events.ProviderAccountID(b.ref.ID, stripeID), func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecideProviderAccount(last, events.LinkAccount{ProviderID: stripeID, ProviderCustomerID: b.cus}, c)
	})
	return b
}

func (in *ingest) unlinkedBuyer() *buyer {
	in.t.Helper()
	b := &buyer{in: in, n: strconv.FormatInt(in.ids.Add(1), 10)}
	b.cus = "cus_" + b.n
	b.ref = events.CustomerRef{ID: events.CustomerID("user_" + b.n), ReferenceID: "user_" + b.n}
	b.update(events.EntityCustomer, b.ref.ID, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecideCustomer(last, events.SyncCustomer{ReferenceID: b.ref.ReferenceID}, c)
	})
	return b
}

func (b *buyer) update(entity events.Entity, id string, decide func(*events.Event, events.Cause) (*events.Event, error)) {
	b.in.t.Helper()
	_, appended, err := b.in.log.Update(b.in.t.Context(), entity, id, func(last *events.Event) (*events.Event, error) {
		return decide(last, events.Cause{Now: time.Now(), Source: "/paykit/test", CommandID: events.CommandID("test", id), Customer: b.ref})
	})
	if err != nil || !appended {
		b.in.t.Fatalf("prepare %s: appended %v, %v", id, appended, err)
	}
}

// delete appends customer.deleted.
func (b *buyer) delete() {
	b.in.t.Helper()
	b.update(events.EntityCustomer, b.ref.ID, func(last *events.Event, c events.Cause) (*events.Event, error) {
		c.CommandID = ""
		return events.DecideCustomer(last, events.DeleteCustomer{}, c)
	})
}

// unlink appends provider_account.unlinked.
func (b *buyer) unlink() {
	b.in.t.Helper()
	b.update(events.EntityProviderAccount, events.ProviderAccountID(b.ref.ID, stripeID), func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecideProviderAccount(last, events.UnlinkAccount{ProviderCustomerID: b.cus}, c)
	})
}

// checkout opens a checkout.
func (b *buyer) checkout() *buyer {
	b.in.t.Helper()
	b.checkoutID = events.CheckoutID("key " + b.n)
	b.update(events.EntityCheckout, b.checkoutID, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecideCheckout(last, events.CreateCheckout{
			ID: b.checkoutID, ProviderID: stripeID, Amount: 4900, Currency: "usd", Description: "Pro plan",
			SuccessURL: "https://example.com/ok", AttachMethod: true, Metadata: map[string]string{"plan": "pro"}, CommandDigest: events.Digest([]byte("x")),
		}, c)
	})
	return b
}

// setup opens a page that saves a method.
func (b *buyer) setup() *buyer {
	b.in.t.Helper()
	b.setupID = events.SetupID("key " + b.n)
	b.update(events.EntitySetup, b.setupID, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecideSetup(last, events.CreateSetup{
			ID: b.setupID, ProviderID: stripeID, ReturnURL: "https://example.com/back", CommandDigest: events.Digest([]byte("x")),
		}, c)
	})
	return b
}

// charge asks for a charge of a saved method.
func (b *buyer) charge(returnURL string) *buyer {
	b.in.t.Helper()
	b.chargeID = events.ChargeID("key " + b.n)
	b.update(events.EntityCharge, b.chargeID, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecideCharge(last, events.CreateCharge{
			ID: b.chargeID, ProviderID: stripeID, PaymentMethodID: events.PaymentMethodID(stripeID, "pm_"+b.n), Amount: 4900,
			Currency: "usd", Description: "Pro plan", ReturnURL: returnURL, CommandDigest: events.Digest([]byte("x")),
		}, c)
	})
	return b
}

// last is the sequence of the LOG's last event.
func (in *ingest) last() uint64 {
	in.t.Helper()
	info, err := in.log.Info(in.t.Context())
	if err != nil {
		in.t.Fatal(err)
	}
	return info.LastSequence
}

// types of all events of the LOG after a sequence, whosever they are, in their order.
func (in *ingest) types(after uint64) []events.Type {
	in.t.Helper()
	list, err := in.log.History(in.t.Context(), eventlog.HistoryFilter{}, after+1, 10_000)
	if err != nil {
		in.t.Fatal(err)
	}
	types := []events.Type{}
	for _, e := range list {
		types = append(types, e.Event.Type)
	}
	return types
}

// state is an entity's last event, nil if there is none.
func (in *ingest) state(entity events.Entity, id string) *events.Event {
	in.t.Helper()
	e, err := in.log.LoadFromLeader(in.t.Context(), entity, id)
	if errors.Is(err, eventlog.ErrNotFound) {
		return nil
	}
	if err != nil {
		in.t.Fatal(err)
	}
	return e.Event
}

func (in *ingest) chargeState(id string) *events.Charge {
	in.t.Helper()
	e := in.state(events.EntityCharge, id)
	if e == nil {
		in.t.Fatalf("there is no charge %s", id)
	}
	return e.Data.Charge
}

// deliveries counts what INBOX holds.
func (in *ingest) deliveries() int { return in.streamMessages(inbox) }

// streamMessages counts what a stream holds.
func (in *ingest) streamMessages(name string) int {
	in.t.Helper()
	msg, err := in.log.Conn().RequestWithContext(in.t.Context(), "$JS.API.STREAM.INFO."+name, nil)
	if err != nil {
		in.t.Fatal(err)
	}
	var info struct {
		State struct {
			Messages int `json:"messages"`
		} `json:"state"`
	}
	if err := json.Unmarshal(msg.Data, &info); err != nil {
		in.t.Fatal(err)
	}
	return info.State.Messages
}

// counted is a counter's value, summed over the labels that are not given.
func (in *ingest) counted(name string, labels map[string]string) float64 {
	in.t.Helper()
	families, err := in.metrics.Gather()
	if err != nil {
		in.t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			fits := 0
			for _, l := range m.GetLabel() {
				if want, ok := labels[l.GetName()]; ok && want == l.GetValue() {
					fits++
				}
			}
			if fits == len(labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

// lockedBuffer collects log lines of several goroutines.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
