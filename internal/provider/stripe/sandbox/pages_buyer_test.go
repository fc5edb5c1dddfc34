package sandbox_test

import (
	"encoding/json"
	"html"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/paykit-go/paykit/internal/provider/stripe/sandbox"
)

// buyer walks the pages as a browser without script does: it follows links, sends forms, keeps no cookies, and stops at
// every redirect so that a test sees where it leads.
type buyer struct {
	t      *testing.T
	base   string
	client *http.Client
}

// reply is what came back.
type reply struct {
	status   int
	location string
	header   http.Header
	body     string
}

func newBuyer(t *testing.T) *buyer {
	t.Helper()
	s, err := sandbox.New(sandbox.Config{MerchantName: "Acme & Sons"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	client := server.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &buyer{t: t, base: server.URL, client: client}
}

func (b *buyer) send(method, target string, form url.Values, header http.Header) reply {
	b.t.Helper()
	if strings.HasPrefix(target, "/") {
		target = b.base + target
	}
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(b.t.Context(), method, target, body)
	if err != nil {
		b.t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	maps.Copy(req.Header, header)
	resp, err := b.client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return reply{status: resp.StatusCode, location: resp.Header.Get("Location"), header: resp.Header, body: string(text)}
}

func (b *buyer) get(target string) reply {
	b.t.Helper()
	return b.send(http.MethodGet, target, nil, nil)
}

func (b *buyer) post(target string, form url.Values) reply {
	b.t.Helper()
	return b.send(http.MethodPost, target, form, nil)
}

// api calls the sandbox as an app does and decodes the answer into out.
func (b *buyer) api(method, path string, form url.Values, out any) {
	b.t.Helper()
	r := b.send(method, path, form, http.Header{"Authorization": {"Bearer sk_test_pages"}})
	if r.status != http.StatusOK {
		b.t.Fatalf("%s %s: status %d: %s", method, path, r.status, r.body)
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal([]byte(r.body), out); err != nil {
		b.t.Fatalf("%s %s: %v", method, path, err)
	}
}

type session struct {
	ID, URL string
	Status  string
}

const (
	successURL = "https://shop.example/thanks?session={CHECKOUT_SESSION_ID}"
	cancelURL  = "https://shop.example/basket"
)

func thanks(s session) string { return "https://shop.example/thanks?session=" + s.ID }

// checkout opens a session in payment mode; changes are names and values that overwrite single parameters.
func (b *buyer) checkout(changes ...string) session {
	b.t.Helper()
	form := url.Values{
		"mode": {"payment"}, "success_url": {successURL}, "cancel_url": {cancelURL},
		"line_items[0][quantity]": {"1"}, "line_items[0][price_data][currency]": {"usd"},
		"line_items[0][price_data][unit_amount]":        {"4900"},
		"line_items[0][price_data][product_data][name]": {"Pro plan"},
	}
	for pair := range slices.Chunk(changes, 2) {
		form.Set(pair[0], pair[1])
	}
	var s session
	b.api(http.MethodPost, "/v1/checkout/sessions", form, &s)
	return s
}

// setup opens a session in setup mode; changes as in checkout.
func (b *buyer) setup(changes ...string) session {
	b.t.Helper()
	var customer struct{ ID string }
	b.api(http.MethodPost, "/v1/customers", url.Values{"email": {"jenny@example.com"}}, &customer)
	form := url.Values{
		"mode": {"setup"}, "currency": {"usd"}, "customer": {customer.ID}, "success_url": {successURL}, "cancel_url": {cancelURL},
	}
	for pair := range slices.Chunk(changes, 2) {
		form.Set(pair[0], pair[1])
	}
	var s session
	b.api(http.MethodPost, "/v1/checkout/sessions", form, &s)
	return s
}

func (b *buyer) status(s session) string {
	b.t.Helper()
	var now session
	b.api(http.MethodGet, "/v1/checkout/sessions/"+s.ID, nil, &now)
	return now.Status
}

type ledger struct {
	Payments []struct {
		Amount   int64
		Status   string
		Captures int
	}
}

// taken is the number of captures over all payments.
func (b *buyer) taken() int {
	b.t.Helper()
	var l ledger
	b.api(http.MethodGet, "/_sandbox/ledger", nil, &l)
	sum := 0
	for _, p := range l.Payments {
		sum += p.Captures
	}
	return sum
}

func card(number string) url.Values {
	return url.Values{"cardNumber": {number}, "cardExpiry": {"12 / 39"}, "cardCvc": {"123"}, "billingName": {"Jenny Rosen"}}
}

var (
	inputTag = regexp.MustCompile(`<input [^>]*name="([^"]+)"[^>]*? value="([^"]*)"`)
	formTag  = regexp.MustCompile(`<form method="post" action="([^"]+)"`)
	cardLink = regexp.MustCompile(`<a class="testcard (\w+)" href="([^"]+)"`)
	anyTag   = regexp.MustCompile(`<[^>]*>`)
	spaces   = regexp.MustCompile(`\s+`)
)

// filled is what the page's form would send as it stands.
func (r reply) filled() (action string, form url.Values) {
	form = url.Values{}
	for _, m := range inputTag.FindAllStringSubmatch(r.body, -1) {
		form.Set(m[1], html.UnescapeString(m[2]))
	}
	if m := formTag.FindStringSubmatch(r.body); m != nil {
		action = html.UnescapeString(m[1])
	}
	return action, form
}

// text is the page as it is read.
func (r reply) text() string {
	return spaces.ReplaceAllString(html.UnescapeString(anyTag.ReplaceAllString(r.body, " ")), " ")
}

func (r reply) mustSay(t *testing.T, phrases ...string) {
	t.Helper()
	for _, phrase := range phrases {
		if !strings.Contains(r.text(), phrase) {
			t.Errorf("the page does not say %q; it says: %s", phrase, r.text())
		}
	}
}

// advance moves the sandbox's clock.
func (b *buyer) advance(by string) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.base+"/_sandbox/clock/advance", strings.NewReader(`{"by":"`+by+`"}`))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := b.client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
		b.t.Fatalf("clock: status %d, %v", resp.StatusCode, err)
	}
}
