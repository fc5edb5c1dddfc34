package stripe

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	stripego "github.com/stripe/stripe-go/v76"

	"github.com/paykit-go/paykit/internal/provider"
)

// Codes of Stripe that change what an error means.
const (
	codeResourceMissing = "resource_missing"
	codeLockTimeout     = "lock_timeout" // another call works on the same object: https://docs.stripe.com/rate-limits
	codeUnexpectedState = "payment_intent_unexpected_state"
)

// The causes that stand in for texts which could quote a body.
var (
	errUnreadable = errors.New("the answer could not be read")
	errBroken     = errors.New("the connection broke")
)

// watch is what can be known of a call beside stripe-go's error: whether it left this machine, and the answer's head.
// Except for connected it belongs to the goroutine that makes the call.
type watch struct {
	operation string
	connected atomic.Bool // a connection was there, so something may have been sent
	status    int         // of the last answer, 0 if none came
	header    http.Header

	began  time.Time // when the request was sent that is not told of yet; zero = there is none
	key    string    // its idempotency key
	object string    // the object it acts on, or made
}

type watchKey struct{}

func (w *watch) attach(ctx context.Context) context.Context {
	ctx = context.WithValue(ctx, watchKey{}, w)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { w.connected.Store(true) },
	})
}

func (w *watch) requestID() string { return word(w.header.Get("Request-Id")) }

// replayed tells whether Stripe gave the stored answer of an earlier request with this key: true then, perhaps not now.
func (w *watch) replayed() bool { return w.header.Get("Idempotent-Replayed") == "true" }

// send notes a request that is about to be sent.
func (w *watch) send(r *http.Request) {
	w.began, w.key, w.object = time.Now(), r.Header.Get("Idempotency-Key"), objectIn(r.URL.Path)
	w.status, w.header = 0, nil
}

// tell tells of the request that was sent last, if that is not done yet; failed is nil for one that was answered as wanted.
func (w *watch) tell(ctx context.Context, failed *provider.Error) {
	if w.began.IsZero() {
		return // nothing was sent
	}
	provider.TellSent(ctx, provider.Sent{
		Operation: w.operation, Key: w.key, ObjectID: w.object, Began: w.began, Took: time.Since(w.began),
		Status: w.status, RequestID: w.requestID(), Replayed: w.replayed(), Err: failed,
	})
	w.began = time.Time{}
}

// toldMade notes the object that the call in ctx made, which its path does not name.
func toldMade(ctx context.Context, id string) {
	if w, ok := ctx.Value(watchKey{}).(*watch); ok {
		w.object = word(id)
	}
}

// objectIn finds the object that a path is about: /v1/payment_intents/pi_…/confirm. Every id of Stripe's has a prefix and "_",
// and is no word of the API's, which has no digit and no capital letter.
func objectIn(path string) string {
	for part := range strings.SplitSeq(path, "/") {
		if strings.Contains(part, "_") && strings.ContainsAny(part, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
			return word(part)
		}
	}
	return ""
}

// headerAttempt tells whoever looks at the traffic which try a write belongs to. Stripe does not read it, and it is no
// parameter, so the tries stay the same call.
const headerAttempt = "Paykit-Attempt"

// watchTransport has each request wait for its turn, and notes the head of its answer in the call's watch.
type watchTransport struct{ base http.RoundTripper }

func (t watchTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	w, watched := r.Context().Value(watchKey{}).(*watch)
	if watched {
		w.tell(r.Context(), nil) // of a list's page before this one
	}
	if err := provider.Turn(r.Context()); err != nil {
		return nil, err //nolint:wrapcheck // the caller's own
	}
	if watched {
		w.send(r)
	}
	if r.Method != http.MethodGet {
		attempt := provider.AttemptOf(r.Context())
		r = r.Clone(r.Context()) // a round tripper must not change its request
		r.Header.Set(headerAttempt, strconv.Itoa(attempt))
	}
	res, err := t.base.RoundTrip(r)
	if watched && err == nil {
		w.status, w.header = res.StatusCode, res.Header
	}
	return res, err
}

// classify is the one place that says what a failed call means. It lets nothing of Stripe's body through but codes,
// the parameter's name and the request id: stripe-go's errors print the whole body, client secrets and e-mail included.
//
//	402                                     Declined
//	401, 403                                Blocked
//	409, 425, 429, 503                      Transient; Limited if 429 and not lock_timeout
//	408, 424, 500, 502, 504, other 5xx      InDoubt
//	400, 404 and other 4xx                  Invalid; Transient with Stripe-Should-Retry: true
//	400 idempotency_error                   Invalid, KeyTaken
//	409, 425, 429 with Should-Retry: false  Transient, after a long while
//	5xx with Stripe-Should-Retry: false     InDoubt, NoRetry
//	429, 503 that are not Stripe's JSON     Transient
//	all else that is not Stripe's JSON      InDoubt
//	no answer, never connected              Transient
//	no answer, cut off                      InDoubt
//
// A read has done nothing, so it is Transient where a write would be InDoubt.
//
// 503 is Transient although a 503 could come after the call was carried out: it is repeated with its key, which is
// right for both.
func classify(operation string, write bool, err error, w *watch) *provider.Error {
	if own, ok := errors.AsType[*provider.Error](err); ok {
		return own
	}
	e := &provider.Error{Operation: operation, Status: w.status, RequestID: w.requestID(), RetryAfter: retryAfter(w.header), Replayed: w.replayed()}
	answer, ok := errors.AsType[*stripego.Error](err)
	if !ok {
		e.Err = cause(err, w)
		switch {
		case !write, w.status == http.StatusTooManyRequests, w.status == http.StatusServiceUnavailable:
			e.Class = provider.Transient
			e.Limited = w.status == http.StatusTooManyRequests
		case w.status == 0 && !w.connected.Load():
			e.Class = provider.Transient
		}
		return e
	}
	e.Code, e.DeclineCode, e.Param = word(string(answer.Code)), word(string(answer.DeclineCode)), paramName(answer.Param)
	if answer.Type == stripego.ErrorTypeIdempotency {
		e.KeyTaken = w.status == http.StatusBadRequest // the same key with other parameters
		if e.Code == "" {
			e.Code = string(answer.Type)
		}
	}
	e.Class = classOfStatus(w.status, w.header.Get("Stripe-Should-Retry") == "true")
	e.Limited = w.status == http.StatusTooManyRequests && e.Code != codeLockTimeout
	if w.header.Get("Stripe-Should-Retry") == "false" {
		notAgain(e)
	}
	if e.Class == provider.InDoubt && !write {
		e.Class = provider.Transient
	}
	if w.status == http.StatusNotFound || (e.Class == provider.Invalid && e.Code == codeResourceMissing) {
		e.NotFound = true
		if strings.HasPrefix(operation, "customers.") && (e.Param == "" || e.Param == "id") {
			e.Param = "customer" // named by the path, Stripe calls it id
		}
	}
	return e
}

// notAgain takes in that Stripe does not want the same call again. What was not carried out is kept for a long while,
// since no command may be lost; of what may have been, only asking tells.
func notAgain(e *provider.Error) {
	switch {
	case e.Status >= http.StatusInternalServerError:
		e.Class, e.NoRetry = provider.InDoubt, true
	case e.Class == provider.Transient:
		e.NoRetry = true
		e.RetryAfter = max(e.RetryAfter, unwantedRetry)
	}
}

// unwantedRetry is when a call is made again that was refused with Stripe-Should-Retry: false and can't be given up.
const unwantedRetry = 5 * time.Minute

func classOfStatus(status int, shouldRetry bool) provider.Class {
	switch status {
	case http.StatusPaymentRequired:
		// Final even where Stripe says "retry": under the same key the same answer is stored.
		return provider.Declined
	case http.StatusUnauthorized, http.StatusForbidden:
		return provider.Blocked
	case http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return provider.Transient
	case http.StatusRequestTimeout, http.StatusFailedDependency:
		return provider.InDoubt
	}
	switch {
	case status < 400 || status >= 500:
		return provider.InDoubt
	case shouldRetry:
		return provider.Transient
	}
	return provider.Invalid
}

// cause keeps errors that come from this machine or from the network, whose texts quote no body, and replaces the rest.
func cause(err error, w *watch) error {
	if w.status != 0 {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return io.ErrUnexpectedEOF
		}
		return errUnreadable
	}
	for _, known := range []error{context.Canceled, context.DeadlineExceeded, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, known) {
			return known
		}
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns
	}
	if no, ok := errors.AsType[syscall.Errno](err); ok {
		return no
	}
	if ca, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return ca
	}
	return errBroken
}

// retryAfter reads how long to wait, as seconds or as a moment against the answer's own Date; 0 if it is not said.
func retryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if s, err := strconv.Atoi(v); err == nil {
		return time.Duration(min(max(s, 0), int(maxRetryAfter/time.Second))) * time.Second
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}

// maxRetryAfter bounds what an answer can ask for.
const maxRetryAfter = time.Hour

// word lets through what can only be a code or an id; anything else could be a person's data.
func word(s string) string {
	if len(s) > 100 {
		return ""
	}
	for _, c := range []byte(s) {
		if c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return ""
		}
	}
	return s
}

// paramName lets through a parameter's name; of metadata not the key, which is the caller's own word.
func paramName(s string) string {
	if strings.HasPrefix(s, "metadata[") {
		return "metadata"
	}
	if word(strings.NewReplacer("[", "_", "]", "_").Replace(s)) == "" {
		return ""
	}
	return s
}
