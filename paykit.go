// Package paykit is what a Go app calls: commands, queries and subscriptions of the PayKit billing engine over NATS.
//
//	pk, err := paykit.Connect(ctx, "nats://127.0.0.1:4222")
//	customer, err := pk.Customer.Sync(ctx, paykit.CustomerSync{ReferenceID: "user_123", Email: "jane@example.com"})
//	checkout, err := pk.Checkout.Create(ctx, paykit.CheckoutCreate{CustomerID: customer.ID, Amount: 4900, …})
//
// Amounts are integers in the currency's minor unit (4900 is 49.00 usd). Every creating call carries an idempotency key;
// give your own with [WithIdempotencyKey] so that a repeated call, even days later, finds the same thing instead of
// doing it twice. A refusal is an [*Error] with a code; a declined card is none: the charge comes back failed.
//
// A client remembers the newest event its own calls led to, and its queries wait until the views have it, so an app
// reads its own writes. A client is safe for use by several goroutines.
package paykit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/oklog/ulid/v2"

	"github.com/paykit-go/paykit/internal/events"
)

// Error is a refusal: a code for programs, a sentence for people, and the field at fault. Find it with
// errors.AsType[*paykit.Error](err) or errors.As.
type Error = events.Error

// Code says what kind of refusal an [Error] is.
type Code = events.Code

// The codes of refusals.
const (
	CodeInvalidRequest        = events.CodeInvalidRequest
	CodeCustomerNotFound      = events.CodeCustomerNotFound
	CodeProviderNotFound      = events.CodeProviderNotFound
	CodePaymentMethodNotFound = events.CodePaymentMethodNotFound
	CodeChargeNotFound        = events.CodeChargeNotFound
	CodeCheckoutNotFound      = events.CodeCheckoutNotFound
	CodeSetupNotFound         = events.CodeSetupNotFound
	CodeIdempotencyConflict   = events.CodeIdempotencyConflict
	CodeChargeNotRefundable   = events.CodeChargeNotRefundable
	CodeChargeNotResolvable   = events.CodeChargeNotResolvable
	CodeRefundTooLarge        = events.CodeRefundTooLarge
	CodeRefundLimit           = events.CodeRefundLimit
	CodePersonalData          = events.CodePersonalData
	CodeOverloaded            = events.CodeOverloaded
	CodeStorageFull           = events.CodeStorageFull
	CodeTimeout               = events.CodeTimeout
	CodeInternal              = events.CodeInternal
)

// ErrUnavailable is returned when no ingest or projector answers: none is running, or NATS can't be reached. What was
// asked may or may not have been stored; ask again with the same idempotency key.
var ErrUnavailable = errors.New("paykit is not reachable")

const (
	headerKey         = "Paykit-Idempotency-Key"
	headerWait        = "Paykit-Wait"
	headerSequence    = "Paykit-Sequence"
	headerMinSequence = "Paykit-Min-Sequence"
	headerAt          = "Paykit-At"
	headerErrorCode   = "Nats-Service-Error-Code"

	defaultProvider = "stripe"
	defaultWait     = 4 * time.Second
	maxWait         = 60 * time.Second
	answerSlack     = 3 * time.Second // beyond the wait, for the way there and back
	buildWait       = 5 * time.Minute // for views of the past that are being built
	queryTimeout    = 10 * time.Second
	buildPause      = 100 * time.Millisecond // between two questions about views that are being built
	attempts        = 4
)

// Client speaks with one PayKit installation.
type Client struct {
	Customer      *CustomerService
	Checkout      *CheckoutService
	PaymentMethod *PaymentMethodService
	Setup         *SetupService
	Charge        *ChargeService
	Event         *EventService

	nc     *nats.Conn
	own    bool // the connection was opened by Connect
	prefix string
	seen   atomic.Uint64 // newest sequence that an answer of ours named
}

// ClientOption changes how a client is made.
type ClientOption func(*clientOptions)

type clientOptions struct {
	prefix string
	nats   []nats.Option
}

// WithPrefix is for an installation whose subjects don't begin with "paykit".
func WithPrefix(prefix string) ClientOption { return func(o *clientOptions) { o.prefix = prefix } }

// WithNATS adds options of the NATS connection: credentials, TLS, a name.
func WithNATS(opts ...nats.Option) ClientOption {
	return func(o *clientOptions) { o.nats = append(o.nats, opts...) }
}

// Connect opens a connection to the NATS server(s) at url and makes a client on it. Close it when done. It fails when no
// server answers before ctx ends, at the latest after five seconds.
func Connect(ctx context.Context, url string, options ...ClientOption) (*Client, error) {
	o := clientOptions{prefix: "paykit"}
	for _, option := range options {
		option(&o)
	}
	timeout := 5 * time.Second
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline))
	}
	opts := append([]nats.Option{nats.Name("paykit client"), nats.Timeout(timeout), nats.MaxReconnects(-1)}, o.nats...)
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		return nil, fmt.Errorf("%w: connect to NATS at %s: %w", ErrUnavailable, url, err)
	}
	c := NewClient(nc, options...)
	c.own = true
	return c, nil
}

// NewClient makes a client on a connection that the app has already. Close leaves that connection open.
func NewClient(nc *nats.Conn, options ...ClientOption) *Client {
	o := clientOptions{prefix: "paykit"}
	for _, option := range options {
		option(&o)
	}
	c := &Client{nc: nc, prefix: o.prefix}
	c.Customer = &CustomerService{c}
	c.Checkout = &CheckoutService{c}
	c.PaymentMethod = &PaymentMethodService{c}
	c.Setup = &SetupService{c}
	c.Charge = &ChargeService{c}
	c.Event = &EventService{c}
	return c
}

// Close closes the connection that Connect opened.
func (c *Client) Close() {
	if c.own {
		c.nc.Close()
	}
}

// CallOption changes one call.
type CallOption func(*call)

type call struct {
	key  string
	wait time.Duration
}

// WithIdempotencyKey names what the call is about in the app's own words (1–255 bytes, as an order's number): the same
// key and the same request give the same thing for ever. Another request under the key is refused with
// [CodeIdempotencyConflict]. Without it each call gets a random key, which protects its own retries only.
func WithIdempotencyKey(key string) CallOption { return func(c *call) { c.key = key } }

// WithWait bounds how long a command waits for its outcome: default 4 s, at most 60 s, 0 = only until it is stored.
// What is not settled by then comes back as it is, without an error.
func WithWait(d time.Duration) CallOption { return func(c *call) { c.wait = d } }

// command sends a command and decodes the entity it answers with. It is asked again under the same key when nobody
// answered: the key makes that the same command.
func (c *Client) command(ctx context.Context, verb string, in, out any, options []CallOption) error {
	o := call{key: ulid.Make().String(), wait: defaultWait}
	for _, option := range options {
		option(&o)
	}
	msg := nats.NewMsg(c.prefix + ".api." + verb)
	msg.Header.Set(headerKey, o.key)
	msg.Header.Set(headerWait, o.wait.String())
	return c.ask(ctx, msg, in, out, min(max(o.wait, 0), maxWait)+answerSlack)
}

// QueryOption changes one query.
type QueryOption func(*nats.Msg)

// Point is a place in history: a sequence of the log, as answers and events name it, or a time.
type Point interface {
	int | int64 | uint64 | time.Time
}

// At has a query answered from the views as they were at a point: with everything up to that event, or up to that time. The
// first query about a point waits until its views are built, which takes the longer the more events there are before it
// (bound it by ctx; at most five minutes); those after it are as quick as any. Profiles are no history: customers come
// without e-mail, name and metadata. A point that is still to come is refused.
func At[P Point](point P) QueryOption {
	text := fmt.Sprint(point)
	if t, ok := any(point).(time.Time); ok {
		text = t.UTC().Format(time.RFC3339Nano)
	}
	return func(msg *nats.Msg) { msg.Header.Set(headerAt, text) }
}

// query asks the views, which answer once they have what this client wrote.
func (c *Client) query(ctx context.Context, name string, in, out any, options []QueryOption) error {
	msg := nats.NewMsg(c.prefix + ".query." + name)
	for _, option := range options {
		option(msg)
	}
	if msg.Header.Get(headerAt) != "" {
		return c.askPast(ctx, msg, in, out)
	}
	if seen := c.seen.Load(); seen > 0 {
		msg.Header.Set(headerMinSequence, strconv.FormatUint(seen, 10))
	}
	return c.ask(ctx, msg, in, out, queryTimeout)
}

// askPast asks again while the views are being built.
func (c *Client) askPast(ctx context.Context, msg *nats.Msg, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, buildWait)
	defer cancel()
	for {
		err := c.ask(ctx, msg, in, out, queryTimeout)
		refusal, ok := errors.AsType[*Error](err)
		if !ok || refusal.Code != CodeTimeout || refusal.Param != headerAt || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(buildPause): // it has waited for seconds already
		}
	}
}

func (c *Client) ask(ctx context.Context, msg *nats.Msg, in, out any, timeout time.Duration) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("paykit: encode: %w", err)
	}
	msg.Data = body
	pause := 100 * time.Millisecond
	for attempt := 1; ; attempt++ {
		answer, err := c.once(ctx, msg, timeout)
		if err == nil {
			return c.read(answer, out)
		}
		retry := errors.Is(err, nats.ErrNoResponders) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout)
		if ctx.Err() != nil || !retry || attempt == attempts {
			return fmt.Errorf("%w: %s: %w", ErrUnavailable, msg.Subject, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s: %w", ErrUnavailable, msg.Subject, ctx.Err())
		case <-time.After(pause):
			pause *= 3
		}
	}
}

func (c *Client) once(ctx context.Context, msg *nats.Msg, timeout time.Duration) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return c.nc.RequestMsgWithContext(ctx, msg)
}

// read decodes an answer, or the error it is.
func (c *Client) read(answer *nats.Msg, out any) error {
	if answer.Header.Get(headerErrorCode) != "" {
		var body struct {
			Error *Error `json:"error"`
		}
		if err := json.Unmarshal(answer.Data, &body); err != nil || body.Error == nil {
			return fmt.Errorf("paykit: error %s without a readable body", answer.Header.Get(headerErrorCode))
		}
		return body.Error
	}
	if seq, err := strconv.ParseUint(answer.Header.Get(headerSequence), 10, 64); err == nil {
		for seen := c.seen.Load(); seq > seen && !c.seen.CompareAndSwap(seen, seq); {
			seen = c.seen.Load()
		}
	}
	if err := json.Unmarshal(answer.Data, out); err != nil {
		return fmt.Errorf("paykit: decode answer: %w", err)
	}
	return nil
}

// Page asks for part of a list. Limit is 1–100, 0 = 20; Cursor is the NextCursor of the page before.
type Page struct {
	Limit  int    `json:"limit,omitempty"`
	Cursor string `json:"cursor,omitempty"`
}

// List is one page. NextCursor is "" on the last.
type List[T any] struct {
	Items      []T    `json:"items"`
	NextCursor string `json:"nextCursor"`
}
