package stripe

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
	"github.com/paykit-go/paykit/internal/provider/providertest"
	"github.com/paykit-go/paykit/internal/provider/stripe/sandbox"
)

func TestSuite(t *testing.T)  { providertest.Run(t, newWorld) }
func TestFaults(t *testing.T) { providertest.RunFaults(t, newWorld) }

// simulator is a sandbox over HTTP, and what can be done there beside the adapter.
type simulator struct{ base string }

func newWorld(t *testing.T) providertest.World {
	t.Helper()
	s := newSimulator(t)
	c := newClient(t, s.base, func(cfg *Config) {
		// net/http repeats a keyed POST by itself when a kept connection dies, and would hide the fault.
		cfg.HTTPClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	})
	w, err := NewWebhooks([]string{"whsec_test"})
	if err != nil {
		t.Fatal(err)
	}
	return providertest.World{
		API: c, Webhooks: w, Env: "env_test", Start: time.Now(),
		SaveMethod: s.saveMethod, Complete: s.complete, Authenticate: s.authenticate, Profile: s.profile, Count: s.count,
		Fault: s.fault, Heal: s.heal,
	}
}

func newSimulator(t testing.TB) simulator {
	t.Helper()
	box, err := sandbox.New(sandbox.Config{Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(box)
	server.Config.ErrorLog = nil
	server.Start()
	t.Cleanup(server.Close)
	t.Cleanup(box.Close)
	return simulator{base: server.URL}
}

// do makes a call as a foreign program would, and reads the answer into out unless that is nil.
func (s simulator) do(ctx context.Context, method, path, contentType, body string, out any) error {
	r, err := http.NewRequestWithContext(ctx, method, s.base+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer sk_test_other")
	r.Header.Set("Content-Type", contentType)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return err
	case res.StatusCode != http.StatusOK && res.StatusCode != http.StatusNoContent:
		return fmt.Errorf("%s %s: %d %s", method, path, res.StatusCode, answer)
	case out == nil:
		return nil
	}
	return json.Unmarshal(answer, out)
}

func (s simulator) get(ctx context.Context, path string, out any) error {
	return s.do(ctx, http.MethodGet, path, "", "", out)
}

func (s simulator) control(ctx context.Context, path string, in any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return s.do(ctx, http.MethodPost, path, "application/json", string(body), nil)
}

func testCard(c providertest.Card) string {
	switch c {
	case providertest.CardDeclined:
		return "pm_card_chargeCustomerFail"
	case providertest.CardAuthenticates:
		return "pm_card_authenticationRequired"
	case providertest.CardGood:
	}
	return "pm_card_visa"
}

func (s simulator) saveMethod(ctx context.Context, customerID string, c providertest.Card) (string, error) {
	var m struct{ ID string }
	form := url.Values{"customer": {customerID}}.Encode()
	err := s.do(ctx, http.MethodPost, "/v1/payment_methods/"+testCard(c)+"/attach", "application/x-www-form-urlencoded", form, &m)
	return m.ID, err
}

func (s simulator) complete(ctx context.Context, sessionID string, c providertest.Card) error {
	return s.control(ctx, "/_sandbox/checkout/"+sessionID+"/complete", map[string]string{"card": testCard(c)})
}

func (s simulator) authenticate(ctx context.Context, paymentID string, passed bool) error {
	outcome := "fail"
	if passed {
		outcome = "complete"
	}
	return s.control(ctx, "/_sandbox/3ds/"+paymentID, map[string]string{"outcome": outcome})
}

type rawCustomer struct {
	ID, Email, Name string
	Metadata        map[string]string
}

func (s simulator) profile(ctx context.Context, customerID string) (provider.Profile, error) {
	var c rawCustomer
	err := s.get(ctx, "/v1/customers/"+customerID, &c)
	return provider.Profile{Email: c.Email, Name: c.Name, Metadata: c.Metadata}, err
}

func (s simulator) count(ctx context.Context, op providertest.Operation, customerID string) (int, error) {
	if op == providertest.CreateCustomer {
		return s.countCustomers(ctx, customerID)
	}
	if op == providertest.CreateSession {
		var list struct{ Data []struct{ ID string } }
		err := s.get(ctx, "/v1/checkout/sessions?limit=100&customer="+customerID, &list)
		return len(list.Data), err
	}
	return s.countMoney(ctx, op, customerID)
}

// countCustomers counts the customers made for the same one of ours.
func (s simulator) countCustomers(ctx context.Context, customerID string) (int, error) {
	var one rawCustomer
	if err := s.get(ctx, "/v1/customers/"+customerID, &one); err != nil {
		return 0, err
	}
	var list struct{ Data []rawCustomer }
	err := s.get(ctx, "/v1/customers?limit=100", &list)
	n := 0
	for _, c := range list.Data {
		if c.Metadata[events.MetadataCustomer] == one.Metadata[events.MetadataCustomer] {
			n++
		}
	}
	return n, err
}

func (s simulator) countMoney(ctx context.Context, op providertest.Operation, customerID string) (int, error) {
	var ledger struct {
		Payments []struct {
			ID, Customer string
			Captures     int
		}
	}
	if err := s.get(ctx, "/_sandbox/ledger", &ledger); err != nil {
		return 0, err
	}
	n := 0
	for _, p := range ledger.Payments {
		if p.Customer != customerID {
			continue
		}
		if op == providertest.CreatePayment {
			n++
		}
		if op == providertest.ConfirmPayment {
			n += p.Captures
		}
		if op == providertest.CreateRefund {
			var list struct{ Data []struct{ ID string } }
			if err := s.get(ctx, "/v1/refunds?limit=100&payment_intent="+p.ID, &list); err != nil {
				return 0, err
			}
			n += len(list.Data)
		}
	}
	return n, nil
}

func (s simulator) fault(ctx context.Context, f providertest.Fault) error {
	when := "before"
	if f.After {
		when = "after"
	}
	return s.control(ctx, "/_sandbox/faults", map[string]any{
		"operation": f.Operation, "kind": f.Kind, "status": f.Status, "when": when,
	})
}

func (s simulator) heal(ctx context.Context) error {
	return s.do(ctx, http.MethodDelete, "/_sandbox/faults", "", "", nil)
}

// sentRequest is what went over the wire.
type sentRequest struct {
	method, path, key string
	body              url.Values
}

// wiretap passes calls on and keeps what was sent.
type wiretap struct {
	mu   sync.Mutex
	sent []sentRequest
}

func (w *wiretap) RoundTrip(r *http.Request) (*http.Response, error) {
	one := sentRequest{method: r.Method, path: r.URL.Path, key: r.Header.Get("Idempotency-Key"), body: r.URL.Query()}
	if r.Body != nil {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(raw))
		if len(raw) > 0 {
			if one.body, err = url.ParseQuery(string(raw)); err != nil {
				return nil, err
			}
		}
	}
	w.mu.Lock()
	w.sent = append(w.sent, one)
	w.mu.Unlock()
	return http.DefaultTransport.RoundTrip(r)
}

// last is the newest request to a path that ends so.
func (w *wiretap) last(t *testing.T, method, suffix string) sentRequest {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range slices.Backward(w.sent) {
		if one.method == method && strings.HasSuffix(one.path, suffix) {
			return one
		}
	}
	t.Fatalf("no %s …%s was sent", method, suffix)
	return sentRequest{}
}

// everything makes each call of the adapter once, and answers with the keys that its writes were given.
func everything(t *testing.T, c *Client, saveMethod func(customerID string) string) map[string]bool {
	t.Helper()
	ctx, now := t.Context(), time.Now()
	keys := map[string]bool{}
	key := func(k string) string {
		keys[k] = true
		return k
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Errorf("refused: %v", err)
		}
	}
	us := events.Owner{Env: "env_test", Customer: "cust_1"}
	of := func(change func(*events.Owner)) events.Owner {
		o := us
		change(&o)
		return o
	}
	cus, err := c.CreateCustomer(ctx, key("k:customer"), us)
	check(err)
	_, err = c.FindCustomer(ctx, us, provider.Span{Since: now})
	check(err)
	check(c.UpdateCustomer(ctx, key("k:profile"), cus, provider.Profile{Email: "a@example.com", Metadata: map[string]string{"a": "1"}, Owner: us}))
	method := saveMethod(cus)
	check(c.SetDefaultMethod(ctx, key("k:default"), cus, method))
	charge := of(func(o *events.Owner) { o.Charge = "chg_1" })
	p, err := c.CreatePayment(ctx, key("k:payment"), provider.PaymentRequest{
		CustomerID: cus, MethodID: method, Owner: charge, Amount: 4900, Currency: "usd", Description: "d", Metadata: map[string]string{"order": "42"},
	})
	check(err)
	_, err = c.ConfirmPayment(ctx, key("k:confirm"), p.ID, provider.ConfirmRequest{MethodID: method})
	check(err)
	_, err = c.ConfirmPayment(ctx, key("k:confirm:return"), p.ID, provider.ConfirmRequest{MethodID: method, ReturnURL: "https://example.com/r"})
	check(err)
	_, _, err = c.FindPayment(ctx, cus, charge, provider.Span{Since: now})
	check(err)
	_, err = c.CreateRefund(ctx, key("k:refund"), provider.RefundRequest{
		PaymentID: p.ID, Owner: of(func(o *events.Owner) { o.Charge, o.Refund = "chg_1", "rfd_1" }), Amount: 900, Reason: "requested_by_customer",
	})
	check(err)
	_, err = c.RefundsOf(ctx, p.ID, "")
	check(err)
	_, err = c.RefundsOf(ctx, "", "ch_1")
	check(err)
	second, err := c.CreatePayment(ctx, key("k:payment:2"), provider.PaymentRequest{CustomerID: cus, MethodID: method, Owner: charge, Amount: 100, Currency: "usd"})
	check(err)
	_, err = c.CancelPayment(ctx, key("k:cancel"), second.ID, true)
	check(err)
	checkout := of(func(o *events.Owner) { o.Checkout, o.Charge = "chk_1", "chg_2" })
	cs, err := c.CreateSession(ctx, key("k:checkout"), provider.SessionRequest{
		CustomerID: cus, Owner: checkout, Amount: 4900, Currency: "usd", Description: strings.Repeat("é", 300),
		SuccessURL: "https://example.com/s", SaveMethod: true, Metadata: map[string]string{"order": "42"},
	})
	check(err)
	_, _, err = c.FindSession(ctx, cus, checkout, provider.Span{Since: now})
	check(err)
	_, err = c.ExpireSession(ctx, key("k:expire"), cs.ID)
	check(err)
	_, err = c.CreateSession(ctx, key("k:setup"), provider.SessionRequest{
		Setup: true, CustomerID: cus, Owner: of(func(o *events.Owner) { o.Setup = "set_1" }), SuccessURL: "https://example.com/r",
	})
	check(err)
	check(c.DetachMethod(ctx, key("k:detach"), method))
	check(c.ListDeliveries(ctx, now.Add(-time.Hour), func([]byte) error { return nil }))
	check(c.DeleteCustomer(ctx, key("k:delete"), cus))
	return keys
}

// The keys on the wire are the caller's, every write has one, and the requests say what facts about Stripe ask for.
func TestRequests(t *testing.T) {
	s := newSimulator(t)
	tap := &wiretap{}
	c := newClient(t, s.base, func(cfg *Config) { cfg.HTTPClient = &http.Client{Transport: tap} })
	keys := everything(t, c, func(customerID string) string {
		id, err := s.saveMethod(t.Context(), customerID, providertest.CardGood)
		if err != nil {
			t.Fatal(err)
		}
		return id
	})
	used := map[string]bool{}
	for _, one := range tap.sent {
		switch {
		case one.method == http.MethodGet && one.key != "":
			t.Errorf("GET %s has a key", one.path)
		case one.method != http.MethodGet && !keys[one.key]:
			t.Errorf("%s %s: the key %q is not ours", one.method, one.path, one.key)
		}
		used[one.key] = true
	}
	for k := range keys {
		if !used[k] {
			t.Errorf("%s was not sent", k)
		}
	}
	checkRequests(t, tap)
}

func checkRequests(t *testing.T, tap *wiretap) {
	t.Helper()
	const post = http.MethodPost
	sent := map[string]sentRequest{
		"customer": tap.first(t, "k:customer"), "payment": tap.first(t, "k:payment"), "confirm": tap.first(t, "k:confirm"),
		"return": tap.first(t, "k:confirm:return"), "cancel": tap.first(t, "k:cancel"), "checkout": tap.first(t, "k:checkout"),
		"setup": tap.first(t, "k:setup"), "update": tap.first(t, "k:profile"), "list": tap.last(t, http.MethodGet, "/v1/payment_intents"),
		"refund": tap.last(t, post, "/v1/refunds"),
	}
	const absent = "\x00"
	for _, tt := range []struct{ request, field, want string }{
		{"customer", "metadata[paykit_env]", "env_test"},
		{"customer", "metadata[paykit_customer]", "cust_1"},
		{"customer", "email", absent},
		{"update", "name", ""},
		{"payment", "payment_method_types[0]", "card"},
		{"payment", "confirm", absent},
		{"payment", "off_session", absent},
		{"payment", "metadata[order]", "42"},
		{"payment", "metadata[paykit_charge]", "chg_1"},
		{"confirm", "off_session", "true"},
		{"confirm", "return_url", absent},
		{"return", "off_session", absent},
		{"return", "return_url", "https://example.com/r"},
		{"cancel", "cancellation_reason", "abandoned"},
		{"checkout", "mode", "payment"},
		{"checkout", "expires_at", absent},
		{"checkout", "line_items[0][price_data][currency]", "usd"},
		{"checkout", "line_items[0][price_data][product_data][name]", strings.Repeat("é", 250)},
		{"checkout", "payment_intent_data[setup_future_usage]", "off_session"},
		{"checkout", "payment_intent_data[metadata][paykit_checkout]", "chk_1"},
		{"checkout", "payment_intent_data[metadata][order]", "42"},
		{"checkout", "payment_intent_data[description]", strings.Repeat("é", 300)},
		{"checkout", "metadata[paykit_checkout]", "chk_1"},
		{"checkout", "client_reference_id", "chk_1"},
		{"checkout", "cancel_url", "https://example.com/s"},
		{"setup", "mode", "setup"},
		{"setup", "payment_method_types[0]", "card"},
		{"setup", "setup_intent_data[metadata][paykit_setup]", "set_1"},
		{"setup", "success_url", "https://example.com/r"},
		{"setup", "cancel_url", "https://example.com/r"},
		{"setup", "line_items[0][quantity]", absent},
		{"refund", "metadata[paykit_refund]", "rfd_1"},
		{"refund", "charge", absent},
		{"list", "limit", "100"},
	} {
		got, ok := absent, false
		if values, found := sent[tt.request].body[tt.field]; found {
			got, ok = values[0], true
		}
		if got != tt.want {
			t.Errorf("%s: %s is %q (sent: %t), want %q", tt.request, tt.field, got, ok, tt.want)
		}
	}
}

// first is the first request with a key.
func (w *wiretap) first(t *testing.T, key string) sentRequest {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range w.sent {
		if one.key == key {
			return one
		}
	}
	t.Fatalf("nothing was sent under %s", key)
	return sentRequest{}
}
