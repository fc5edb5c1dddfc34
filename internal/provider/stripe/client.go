// Package stripe is the adapter for Stripe: it turns requests into API calls, and answers and webhook deliveries into
// observations. It owns the shapes of Stripe's objects, the classification of its errors and the check of its
// signatures. What an observation means is decided elsewhere, and when a call is made again is the worker's to say.
//
// It speaks through stripe-go v76 (API version 2023-10-16) with retries, telemetry and logging switched off, and reads
// every object by narrow structs of its own, so that deliveries of any API version since 2020-08-27 can be read.
package stripe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	stripego "github.com/stripe/stripe-go/v76"
	checkoutsession "github.com/stripe/stripe-go/v76/checkout/session"
	customers "github.com/stripe/stripe-go/v76/customer"
	"github.com/stripe/stripe-go/v76/paymentintent"
	"github.com/stripe/stripe-go/v76/paymentmethod"
	refunds "github.com/stripe/stripe-go/v76/refund"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
)

// LiveBase is the address of Stripe's own API, the only one that a live key is ever sent to.
const LiveBase = stripego.APIURL

const (
	defaultTimeout = 20 * time.Second // under the AckWait of the worker's consumer
	maxKey         = 255              // bytes of an idempotency key: https://stripe.com/docs/api/idempotent_requests
	pageSize       = 100              // the most that Stripe gives
	clockSkew      = 5 * time.Minute  // look-ups begin that much earlier than asked: Stripe's clock is not ours
	maxMetadata    = 50               // keys of one object: https://stripe.com/docs/api/metadata
)

// Errors of [New] and [Client.SetKey]. None names the key.
var (
	ErrKeyMissing  = errors.New("stripe: no API key")
	ErrKeyUnknown  = errors.New("stripe: the API key begins with none of sk_test_, rk_test_, sk_live_, rk_live_")
	ErrLiveKeyBase = errors.New("stripe: a live API key is only ever sent to " + LiveBase)
	ErrBase        = errors.New("stripe: the API base must be an http or https address")
	ErrKeyMode     = errors.New("stripe: the new API key is of the other mode, live or test, than the old one")
	ErrEnvMissing  = errors.New("stripe: no environment")
)

// Config says with which account to speak, and where.
type Config struct {
	APIKey     string         // sk_test_…, rk_test_…, sk_live_… or rk_live_…
	APIBase    string         // mandatory, so that a missing setting never reaches the real Stripe: LiveBase or a sandbox
	Env        string         // paykit_env of every object that is ours
	Timeout    time.Duration  // of one HTTP request; default 20 s
	Rate       float64        // most requests a second; 0 = no limit, as for the worker, which keeps one of its own
	Logger     zerolog.Logger // one debug line a call; never bodies
	HTTPClient *http.Client   // its transport is used; default: a transport of its own
}

// Client is one Stripe account. It is safe for concurrent use and implements [provider.API].
type Client struct {
	api     resources
	backend stripego.Backend
	key     string // at the start; what is sent is current's
	current *atomic.Pointer[string]
	base    string
	env     string
	log     zerolog.Logger
}

var _ provider.API = (*Client)(nil)

// resources are the parts of Stripe's API that are called. stripe-go's own list has all 130, each of which a program that
// holds it carries along: 3 MiB.
type resources struct {
	CheckoutSessions checkoutsession.Client
	Customers        customers.Client
	PaymentIntents   paymentintent.Client
	PaymentMethods   paymentmethod.Client
	Refunds          refunds.Client
}

func newResources(b stripego.Backend, key string) resources {
	return resources{
		CheckoutSessions: checkoutsession.Client{B: b, Key: key}, Customers: customers.Client{B: b, Key: key},
		PaymentIntents: paymentintent.Client{B: b, Key: key}, PaymentMethods: paymentmethod.Client{B: b, Key: key},
		Refunds: refunds.Client{B: b, Key: key},
	}
}

// New checks the configuration and makes no call. It fails with one of [ErrKeyMissing], [ErrKeyUnknown],
// [ErrLiveKeyBase], [ErrBase] and [ErrEnvMissing].
func New(cfg Config) (*Client, error) {
	base := strings.TrimRight(cfg.APIBase, "/")
	if err := checkKey(cfg.APIKey, base); err != nil {
		return nil, err
	}
	if cfg.Env == "" {
		return nil, ErrEnvMissing
	}
	timeout := cfg.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	current := &atomic.Pointer[string]{}
	current.Store(&cfg.APIKey)
	httpClient := &http.Client{
		Timeout:       timeout,
		Transport:     watchTransport{base: keyTransport{key: current, base: paced(transport(cfg.HTTPClient), cfg.Rate)}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	backend := stripego.GetBackendWithConfig(stripego.APIBackend, &stripego.BackendConfig{
		URL: new(base), HTTPClient: httpClient, LeveledLogger: silent{},
		MaxNetworkRetries: new(int64(0)), EnableTelemetry: new(false),
	})
	return &Client{
		api: newResources(backend, cfg.APIKey), backend: backend, key: cfg.APIKey, current: current, base: base,
		env: cfg.Env, log: cfg.Logger,
	}, nil
}

// SetKey changes the key that calls are made with from now on; those under way end with the old one. It refuses what
// [New] refuses, and a key of the other mode with [ErrKeyMode]: there, nothing that the LOG knows exists.
func (c *Client) SetKey(key string) error {
	if err := checkKey(key, c.base); err != nil {
		return err
	}
	if strings.Contains(key, "_live_") != strings.Contains(c.key, "_live_") {
		return ErrKeyMode
	}
	c.current.Store(&key)
	return nil
}

// keyTransport sends each request with the current key, so that it can change while calls are made.
type keyTransport struct {
	key  *atomic.Pointer[string]
	base http.RoundTripper
}

func (t keyTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+*t.key.Load())
	return t.base.RoundTrip(r)
}

func checkKey(key, base string) error {
	if strings.TrimSpace(key) == "" {
		return ErrKeyMissing
	}
	live := hasSecret(key, "sk_live_") || hasSecret(key, "rk_live_")
	if !live && !hasSecret(key, "sk_test_") && !hasSecret(key, "rk_test_") {
		return ErrKeyUnknown
	}
	u, err := url.Parse(base)
	switch {
	case live && base != LiveBase:
		return ErrLiveKeyBase
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		return ErrBase
	}
	return nil
}

// hasSecret tells whether key is prefix and something more, without white space (which a file's end often brings).
func hasSecret(key, prefix string) bool {
	rest, ok := strings.CutPrefix(key, prefix)
	return ok && rest != "" && !strings.ContainsAny(rest, " \t\r\n")
}

func transport(c *http.Client) http.RoundTripper {
	if c != nil && c.Transport != nil {
		return c.Transport
	}
	if t, ok := http.DefaultTransport.(*http.Transport); ok {
		return t.Clone()
	}
	return http.DefaultTransport
}

// silent is stripe-go's logger, which says nothing: what it logs of a failed call is the whole body.
type silent struct{}

func (silent) Debugf(string, ...any) {}
func (silent) Infof(string, ...any)  {}
func (silent) Warnf(string, ...any)  {}
func (silent) Errorf(string, ...any) {}

// read makes a call that changes nothing. f is given the parameters that belong to every read.
func (c *Client) read(ctx context.Context, operation string, f func(p stripego.Params) error) error {
	_, err := c.call(ctx, operation, false, func(ctx context.Context) error { return f(stripego.Params{Context: ctx}) })
	return err
}

// write makes a call under an idempotency key. f is given the parameters that belong to every write, and must pass
// them on: without them stripe-go would send a key of its own, or none.
func (c *Client) write(ctx context.Context, operation, key string, f func(p stripego.Params) error) (*watch, error) {
	if key == "" || len(key) > maxKey || strings.TrimSpace(key) != key {
		return nil, refused(operation, "idempotency_key", "an idempotency key has 1 to 255 bytes and no space at its ends")
	}
	return c.call(ctx, operation, true, func(ctx context.Context) error {
		return f(stripego.Params{Context: ctx, IdempotencyKey: &key})
	})
}

// call makes a call. It is the one way to Stripe: each HTTP request of it is told to whoever keeps records.
func (c *Client) call(ctx context.Context, operation string, write bool, f func(context.Context) error) (*watch, error) {
	w := &watch{operation: operation}
	start := time.Now()
	err := f(w.attach(ctx))
	line := c.log.Debug().Str("operation", operation).Int("status", w.status).Str("request_id", w.requestID()).
		Int("attempt", provider.AttemptOf(ctx)).Int64("dur_ms", time.Since(start).Milliseconds())
	if err != nil {
		failed := classify(operation, write, err, w)
		w.tell(ctx, failed)
		line.Stringer("class", failed.Class).Msg("provider call failed")
		return w, failed
	}
	w.tell(ctx, nil)
	line.Msg("provider call answered")
	return w, nil
}

// answered reads an answer of Stripe's into one of our own structs.
func answered[T any](r *stripego.APIResponse, into *T) error {
	if r == nil {
		return errUnreadable
	}
	if err := json.Unmarshal(r.RawJSON, into); err != nil {
		return errUnreadable // its own text could quote the body
	}
	return nil
}

// needID refuses an empty id: in a path it would turn a call about one object into one about all of them.
func needID(operation, param, id string) error {
	if id == "" {
		return refused(operation, param, "an id is missing")
	}
	return nil
}

// metadata is what an object of ours carries: the caller's words, and the reserved keys on top. Stripe takes 50 keys;
// if the caller's and ours are more, the caller's last ones by name stay with PayKit only.
func (c *Client) metadata(o events.Owner, callers map[string]string) map[string]string {
	o.Env = c.env
	m := o.Metadata()
	room := maxMetadata - len(m)
	for _, k := range sortedKeys(callers) {
		if strings.HasPrefix(k, events.ReservedMetadata) {
			continue
		}
		if room == 0 {
			break
		}
		m[k] = callers[k]
		room--
	}
	return m
}

// owns tells whether an object with this metadata was made for this owner: our environment and every id that the owner
// names, exactly.
func (c *Client) owns(o events.Owner, metadata map[string]string) bool {
	o.Env = c.env
	want := o.Metadata()
	if len(want) < 2 {
		return false // nobody in particular
	}
	for k, v := range want {
		if metadata[k] != v {
			return false
		}
	}
	return true
}

// createdIn is the filter of a look-up.
func createdIn(made provider.Span) *stripego.RangeQueryParams {
	r := &stripego.RangeQueryParams{GreaterThanOrEqual: max(made.Since.Add(-clockSkew).Unix(), 1)}
	if !made.Until.IsZero() {
		r.LesserThanOrEqual = max(made.Until.Add(clockSkew).Unix(), 1)
	}
	return r
}

// listParams are the parameters that belong to every look-up.
func listParams(p stripego.Params) stripego.ListParams {
	return stripego.ListParams{Context: p.Context, Limit: new(int64(pageSize))}
}

// text is a parameter that is left out when empty.
func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// refused is our own refusal of a request that Stripe would misunderstand.
func refused(operation, param, why string) *provider.Error {
	return &provider.Error{Class: provider.Invalid, Operation: operation, Param: param, Err: fmt.Errorf("not sent: %s", why)}
}
