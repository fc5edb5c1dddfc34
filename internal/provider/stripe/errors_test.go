package stripe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	stripego "github.com/stripe/stripe-go/v76"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
)

// The canaries stand in every answer of these tests, and must never come out in an error or a log line.
const (
	canaryMail   = "canary@example.com"
	canarySecret = "pi_1_secret_canary"
	canaryCard   = "4000000000000002"
)

func response(body string) *stripego.APIResponse { return &stripego.APIResponse{RawJSON: []byte(body)} }

func newClient(t testing.TB, base string, change func(*Config)) *Client {
	t.Helper()
	cfg := Config{APIKey: "sk_test_key", APIBase: base, Env: "env_test", Logger: zerolog.Nop()}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// serve answers every call with one handler, without keeping connections: net/http would replay a keyed POST on them.
func serve(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.SetKeepAlivesEnabled(false)
	s.Start()
	t.Cleanup(s.Close)
	return s.URL
}

func stripeError(typ, code string) string {
	return fmt.Sprintf(`{"error":{"type":%q,"code":%q,"message":"No such customer %s, card %s","param":"metadata[%s]",
		"payment_intent":{"id":"pi_1","object":"payment_intent","client_secret":%q,"receipt_email":%q}}}`,
		typ, code, canaryMail, canaryCard, canaryMail, canarySecret, canaryMail)
}

func TestClassify(t *testing.T) {
	const html = "<html>" + canaryMail + canarySecret + "</html>"
	tests := []struct {
		name        string
		status      int
		body        string
		header      map[string]string
		write, read provider.Class
		check       func(*provider.Error) bool
	}{
		{"declined", 402, stripeError("card_error", "card_declined"), nil, provider.Declined, provider.Declined, nil},
		{
			"declined, said to be repeatable", 402, stripeError("card_error", "card_declined"),
			map[string]string{"Stripe-Should-Retry": "true"},
			provider.Declined, provider.Declined, nil,
		},
		{
			"a wrong parameter", 400, stripeError("invalid_request_error", "parameter_missing"), nil, provider.Invalid, provider.Invalid,
			func(e *provider.Error) bool {
				return e.Code == "parameter_missing" && e.Param == "metadata" && !e.NotFound
			},
		},
		{
			"the key was used otherwise", 400, stripeError("idempotency_error", ""), nil, provider.Invalid, provider.Invalid,
			func(e *provider.Error) bool { return e.Code == "idempotency_error" && e.KeyTaken },
		},
		{
			"repeatable after all", 400, stripeError("invalid_request_error", ""),
			map[string]string{"Stripe-Should-Retry": "true"},
			provider.Transient, provider.Transient, nil,
		},
		{
			"no such thing", 404, stripeError("invalid_request_error", "resource_missing"), nil, provider.Invalid, provider.Invalid,
			func(e *provider.Error) bool { return e.NotFound },
		},
		{
			"no such thing named by a parameter", 400, stripeError("invalid_request_error", "resource_missing"), nil,
			provider.Invalid, provider.Invalid, func(e *provider.Error) bool { return e.NotFound },
		},
		{"unknown key", 401, stripeError("invalid_request_error", ""), nil, provider.Blocked, provider.Blocked, nil},
		{"forbidden", 403, stripeError("invalid_request_error", ""), nil, provider.Blocked, provider.Blocked, nil},
		{
			"the same is running", 409, stripeError("invalid_request_error", "idempotency_key_in_use"), nil,
			provider.Transient, provider.Transient,
			func(e *provider.Error) bool { return e.Code == "idempotency_key_in_use" && !e.KeyTaken && !e.NoRetry },
		},
		{
			"the same is running, in the type's words", 409, stripeError("idempotency_error", "idempotency_key_in_use"), nil,
			provider.Transient, provider.Transient, func(e *provider.Error) bool { return !e.KeyTaken },
		},
		{
			"another conflict", 409, stripeError("invalid_request_error", "resource_conflict"), nil, provider.Transient, provider.Transient,
			func(e *provider.Error) bool { return e.Code == "resource_conflict" && !e.Limited },
		},
		{
			"a conflict, not to be repeated", 409, stripeError("invalid_request_error", ""),
			map[string]string{"Stripe-Should-Retry": "false"},
			provider.Transient, provider.Transient, func(e *provider.Error) bool { return e.NoRetry && e.RetryAfter == unwantedRetry },
		},
		{
			"too many, not to be repeated", 429, stripeError("invalid_request_error", "rate_limit"),
			map[string]string{"Stripe-Should-Retry": "false", "Retry-After": "900"},
			provider.Transient, provider.Transient,
			func(e *provider.Error) bool { return e.NoRetry && e.Limited && e.RetryAfter == 15*time.Minute },
		},
		{
			"an error of Stripe's, not to be repeated", 500, stripeError("api_error", ""),
			map[string]string{"Stripe-Should-Retry": "false"},
			provider.InDoubt, provider.Transient, func(e *provider.Error) bool { return e.NoRetry && e.RetryAfter == 0 },
		},
		{
			"an error of Stripe's, to be repeated", 500, stripeError("api_error", ""),
			map[string]string{"Stripe-Should-Retry": "true"},
			provider.InDoubt, provider.Transient, func(e *provider.Error) bool { return !e.NoRetry && !e.Replayed },
		},
		{
			"an error of Stripe's, stored", 500, stripeError("api_error", ""),
			map[string]string{"Idempotent-Replayed": "true"},
			provider.InDoubt, provider.Transient, func(e *provider.Error) bool { return e.Replayed },
		},
		{
			"unavailable, not to be repeated", 503, stripeError("api_error", ""),
			map[string]string{"Stripe-Should-Retry": "false"},
			provider.InDoubt, provider.Transient, func(e *provider.Error) bool { return e.NoRetry },
		},
		{
			"unavailable for a while", 503, stripeError("api_error", ""),
			map[string]string{"Retry-After": "20"},
			provider.Transient, provider.Transient, func(e *provider.Error) bool { return e.RetryAfter == 20*time.Second && !e.Limited },
		},
		{
			"declined, not to be repeated", 402, stripeError("card_error", "card_declined"),
			map[string]string{"Stripe-Should-Retry": "false"},
			provider.Declined, provider.Declined, func(e *provider.Error) bool { return !e.NoRetry },
		},
		{
			"too many", 429, stripeError("invalid_request_error", "rate_limit"),
			map[string]string{"Retry-After": "7"},
			provider.Transient, provider.Transient, func(e *provider.Error) bool { return e.RetryAfter == 7*time.Second && e.Limited },
		},
		{
			"locked", 429, stripeError("invalid_request_error", "lock_timeout"), nil, provider.Transient, provider.Transient,
			func(e *provider.Error) bool { return e.Code == "lock_timeout" && e.RetryAfter == 0 && !e.Limited },
		},
		{
			"too many, by a proxy", 429, html, nil, provider.Transient, provider.Transient,
			func(e *provider.Error) bool { return e.Limited },
		},
		{"an error of Stripe's", 500, stripeError("api_error", ""), nil, provider.InDoubt, provider.Transient, nil},
		{"a gateway's", 502, stripeError("api_error", ""), nil, provider.InDoubt, provider.Transient, nil},
		{"unavailable", 503, stripeError("api_error", ""), nil, provider.Transient, provider.Transient, nil},
		{"a gateway's timeout", 504, stripeError("api_error", ""), nil, provider.InDoubt, provider.Transient, nil},
		{"a dependency failed", 424, stripeError("api_error", ""), nil, provider.InDoubt, provider.Transient, nil},
		{"a proxy's page", 502, html, nil, provider.InDoubt, provider.Transient, nil},
		{"a proxy's refusal", 403, html, nil, provider.InDoubt, provider.Transient, nil},
		{"a proxy's unavailable", 503, html, nil, provider.Transient, provider.Transient, nil},
		{"a page that looks like success", 200, html, nil, provider.InDoubt, provider.Transient, nil},
		{"an error without an error", 400, `{"message":"` + canaryMail + `"}`, nil, provider.InDoubt, provider.Transient, nil},
		{"a redirect", 302, html, map[string]string{"Location": "https://example.com/" + canarySecret}, provider.InDoubt, provider.Transient, nil},
		{"nonsense", 200, `{"id":7,"x":"` + canaryMail + `"}`, nil, provider.InDoubt, provider.Transient, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			base := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Request-Id", "req_abc")
				for k, v := range tt.header {
					w.Header().Set(k, v)
				}
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
			})
			var logged strings.Builder
			c := newClient(t, base, func(cfg *Config) { cfg.Logger = zerolog.New(&logged) })
			_, written := c.CreatePayment(t.Context(), "k", provider.PaymentRequest{CustomerID: "cus_1", Amount: 100, Currency: "usd"})
			_, asked := c.Payment(t.Context(), "pi_1")
			for _, got := range []struct {
				err  error
				want provider.Class
			}{{written, tt.write}, {asked, tt.read}} {
				e, ok := errors.AsType[*provider.Error](got.err)
				if !ok || e.Class != got.want || e.Status != tt.status || e.RequestID != "req_abc" {
					t.Fatalf("got %#v (%v), want %s", e, got.err, got.want)
				}
				if tt.check != nil && !tt.check(e) {
					t.Errorf("got %#v", e)
				}
				noCanary(t, fmt.Sprintf("%v %+v %#v", got.err, got.err, unwrapped(got.err)))
			}
			noCanary(t, logged.String())
			if !strings.Contains(logged.String(), "payment_intents.create") {
				t.Errorf("the call is not logged: %s", logged.String())
			}
		})
	}
}

// unwrapped is everything that errors.Unwrap would show.
func unwrapped(err error) []error {
	var all []error
	for ; err != nil; err = errors.Unwrap(err) {
		all = append(all, err)
	}
	return all
}

func noCanary(t *testing.T, s string) {
	t.Helper()
	for _, c := range []string{"canary", canaryMail, canarySecret, canaryCard, "sk_test_key"} {
		if strings.Contains(s, c) {
			t.Errorf("%q comes out in %s", c, s)
		}
	}
}

func TestClassifyBrokenConnections(t *testing.T) {
	hijack := func(after func(net.Conn)) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			after(conn)
			_ = conn.Close()
		}
	}
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	tlsOnly := httptest.NewTLSServer(http.NotFoundHandler())
	tlsOnly.Config.ErrorLog = nil
	t.Cleanup(tlsOnly.Close)
	held := make(chan struct{})
	slow := serve(t, func(http.ResponseWriter, *http.Request) { <-held })
	t.Cleanup(func() { close(held) }) // before the server waits for its handlers
	tests := []struct {
		name  string
		base  string
		write provider.Class
	}{
		{"refused", gone.URL, provider.Transient},
		{"no such host", "http://paykit.invalid", provider.Transient},
		{"a certificate that is not trusted", tlsOnly.URL, provider.Transient},
		{"closed without an answer", serve(t, hijack(func(net.Conn) {})), provider.InDoubt},
		{"reset", serve(t, hijack(func(c net.Conn) {
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
		})), provider.InDoubt},
		{"cut in the middle", serve(t, hijack(func(c net.Conn) {
			_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 500\r\nContent-Type: application/json\r\n\r\n{\"id\":\"pi_1\","))
		})), provider.InDoubt},
		{"not HTTP", serve(t, hijack(func(c net.Conn) {
			_, _ = c.Write([]byte("220 " + canaryMail + " ESMTP\r\n"))
		})), provider.InDoubt},
		{"no answer in time", slow, provider.InDoubt},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(t, tt.base, func(cfg *Config) { cfg.Timeout = 300 * time.Millisecond })
			_, written := c.CreatePayment(t.Context(), "k", provider.PaymentRequest{CustomerID: "cus_1", Amount: 100, Currency: "usd"})
			if got := provider.ClassOf(written); got != tt.write {
				t.Errorf("write: got %s (%v), want %s", got, written, tt.write)
			}
			_, asked := c.Payment(t.Context(), "pi_1")
			if got := provider.ClassOf(asked); got != provider.Transient || asked == nil {
				t.Errorf("read: got %s (%v)", got, asked)
			}
			noCanary(t, fmt.Sprint(written, asked))
		})
	}
}

func TestCanceledCallSaysSo(t *testing.T) {
	started := make(chan struct{})
	base := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then the server sees that the caller has gone
		close(started)
		<-r.Context().Done()
	})
	c := newClient(t, base, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-started
		cancel()
	}()
	_, err := c.CreateCustomer(ctx, "k", events.Owner{Customer: "cust_1"})
	if !errors.Is(err, context.Canceled) || provider.ClassOf(err) != provider.InDoubt {
		t.Errorf("in flight: %v", err)
	}
	_, err = c.CreateCustomer(ctx, "k", events.Owner{Customer: "cust_1"})
	if !errors.Is(err, context.Canceled) || provider.ClassOf(err) != provider.Transient {
		t.Errorf("never sent: %v", err)
	}
}

// A connection that dies while it is reused is replayed by net/http; that the replay can't connect does not mean that
// nothing was sent.
func TestReusedConnectionIsInDoubt(t *testing.T) {
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls++; calls == 1 {
			_, _ = w.Write([]byte(`{"id":"cus_1","object":"customer"}`))
			return
		}
		_ = l.Close() // the request came; from here on nobody can connect
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = conn.Close()
		}
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	c := newClient(t, "http://"+l.Addr().String(), nil)
	for i, want := range []string{"cus_1", ""} {
		id, err := c.CreateCustomer(t.Context(), "k", events.Owner{Customer: "cust_1"})
		if id != want {
			t.Errorf("call %d: %q, %v", i, id, err)
		}
		if i == 1 && (err == nil || provider.ClassOf(err) != provider.InDoubt) {
			t.Errorf("got %v, want in doubt", err)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	tests := []struct {
		name, value, date string
		want              time.Duration
	}{
		{"none", "", "", 0},
		{"seconds", "12", "", 12 * time.Second},
		{"negative", "-3", "", 0},
		{"endless", "99999999999", "", time.Hour},
		{"a moment", "Mon, 02 Nov 2026 10:00:30 GMT", "Mon, 02 Nov 2026 10:00:00 GMT", 30 * time.Second},
		{"a moment without a date", "Mon, 02 Nov 2026 10:00:30 GMT", "", 0},
		{"nonsense", "soon", "Mon, 02 Nov 2026 10:00:00 GMT", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := retryAfter(http.Header{"Retry-After": {tt.value}, "Date": {tt.date}}); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	const local = "http://127.0.0.1:1"
	tests := []struct {
		name string
		cfg  Config
		want error
	}{
		{"a test key", Config{APIKey: "sk_test_x", APIBase: local, Env: "e"}, nil},
		{"a restricted test key", Config{APIKey: "rk_test_x", APIBase: local, Env: "e"}, nil},
		{"a live key at Stripe's", Config{APIKey: "sk_live_x", APIBase: LiveBase + "/", Env: "e"}, nil},
		{"a live key elsewhere", Config{APIKey: "sk_live_x", APIBase: local, Env: "e"}, ErrLiveKeyBase},
		{"a restricted live key elsewhere", Config{APIKey: "rk_live_x", APIBase: local, Env: "e"}, ErrLiveKeyBase},
		{"a live key at a lookalike", Config{APIKey: "sk_live_x", APIBase: LiveBase + ".example.com", Env: "e"}, ErrLiveKeyBase},
		{"a live key in the clear", Config{APIKey: "sk_live_x", APIBase: "http://api.stripe.com", Env: "e"}, ErrLiveKeyBase},
		{"a live key and no base", Config{APIKey: "sk_live_x", Env: "e"}, ErrLiveKeyBase},
		{"no key", Config{APIBase: local, Env: "e"}, ErrKeyMissing},
		{"a blank key", Config{APIKey: " \n", APIBase: local, Env: "e"}, ErrKeyMissing},
		{"a publishable key", Config{APIKey: "pk_test_x", APIBase: local, Env: "e"}, ErrKeyUnknown},
		{"a prefix only", Config{APIKey: "sk_test_", APIBase: local, Env: "e"}, ErrKeyUnknown},
		{"a key with a line's end", Config{APIKey: "sk_test_x" + "\n", APIBase: local, Env: "e"}, ErrKeyUnknown},
		{"no base", Config{APIKey: "sk_test_x", Env: "e"}, ErrBase},
		{"a base without a scheme", Config{APIKey: "sk_test_x", APIBase: "localhost:8421", Env: "e"}, ErrBase},
		{"no environment", Config{APIKey: "sk_test_x", APIBase: local}, ErrEnvMissing},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(tt.cfg)
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if key := strings.TrimSpace(tt.cfg.APIKey); err != nil && len(key) > len("sk_test_") && strings.Contains(err.Error(), key) {
				t.Errorf("the error names the key: %v", err)
			}
		})
	}
}

// Nothing may reach the standard streams: stripe-go's default logger writes whole bodies there.
func TestNothingIsPrinted(t *testing.T) {
	base := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(stripeError("invalid_request_error", "parameter_missing")))
	})
	c := newClient(t, base, func(cfg *Config) {
		cfg.HTTPClient = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}}
	})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = w, w
	_, failed := c.CreateCustomer(t.Context(), "k", events.Owner{Customer: "cust_1"})
	os.Stdout, os.Stderr = stdout, stderr
	_ = w.Close()
	printed := make([]byte, 4096)
	n, _ := r.Read(printed)
	if failed == nil || n > 0 {
		t.Errorf("%v, printed %q", failed, printed[:n])
	}
}
