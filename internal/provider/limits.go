package provider

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/sony/gobreaker/v2"
	"golang.org/x/time/rate"

	"github.com/paykit-go/paykit/internal/events"
)

const (
	defaultRate = 80 // calls a second; Stripe allows 100 in live mode: https://docs.stripe.com/rate-limits
	burstShare  = 8  // a burst is an eighth of a second's calls, so that no second holds more than rate and burst
	tripAfter   = 10 // failures in a row that open the breaker
	openFor     = 5 * time.Second
	limitedFor  = time.Second // after a 429 that does not say how long
	longestRest = 5 * time.Minute
)

// guardedAPI is one provider's API behind what all its callers share: a token bucket, a breaker that gives a failing
// provider a rest, and the memory that its credentials are refused. Calls may run at once.
type guardedAPI struct {
	id      string
	api     API
	limiter *rate.Limiter
	breaker *gobreaker.CircuitBreaker[struct{}]
	metrics *workerMetrics
	logger  zerolog.Logger
	calls   *callRecorder // nil = no records
	now     func() time.Time
	past    pastCustomers

	mu      sync.Mutex
	blocked *refusal            // guarded by mu: our credentials are refused for all calls; nil when they work
	refused map[string]*refusal // guarded by mu: by operation, what they do not allow
	paused  time.Time           // guarded by mu: the provider asked all calls to wait until then
}

func newGuardedAPI(id string, api API, perSecond float64, trip uint32, metrics *workerMetrics, now func() time.Time) *guardedAPI {
	if perSecond <= 0 {
		perSecond = defaultRate
	}
	if trip == 0 {
		trip = tripAfter
	}
	g := &guardedAPI{
		id: id, api: api, metrics: metrics, now: now, logger: zerolog.Nop(), refused: map[string]*refusal{},
		limiter: rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond)/burstShare)),
	}
	g.past = pastCustomers{list: g.CustomersMade, find: g.FindCustomer, now: now, most: pastMost}
	metrics.paused.WithLabelValues(id).Set(0)
	g.breaker = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Name: id, MaxRequests: 3, Timeout: openFor,
		ReadyToTrip:   func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= trip },
		IsSuccessful:  func(err error) bool { return !providerFailing(err) },
		IsExcluded:    func(err error) bool { return errors.Is(err, context.Canceled) || heldBack(err) },
		OnStateChange: func(_ string, from, to gobreaker.State) { g.breakerIs(from, to) },
	})
	return g
}

// breakerIs tells of the breaker's moves. Half open, a few calls go through and find out whether the provider answers.
func (g *guardedAPI) breakerIs(from, to gobreaker.State) {
	switch to {
	case gobreaker.StateOpen:
		g.metrics.paused.WithLabelValues(g.id).Set(1)
		if from == gobreaker.StateClosed {
			g.logger.Error().Str("provider", g.id).Msg("the provider does not answer: its calls pause")
		}
	case gobreaker.StateClosed:
		g.metrics.paused.WithLabelValues(g.id).Set(0)
		g.logger.Info().Str("provider", g.id).Msg("the provider answers again: its calls go on")
	case gobreaker.StateHalfOpen:
	}
}

// Codes of what is refused here: the call was not sent.
const (
	codeRateLimitHere = "rate_limit_here"
	codeAskedToWait   = "asked_to_wait"
	codeBreakerOpen   = "breaker_open"
)

// asked is the answer to a call while the provider has asked all of them to wait.
func (g *guardedAPI) asked(operation string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	left := g.paused.Sub(g.now())
	if left <= 0 {
		return nil
	}
	return &Error{Class: Transient, Operation: operation, Code: codeAskedToWait, RetryAfter: left}
}

// providerFailing tells whether an error says that the provider itself is in trouble. What it refuses, for whatever
// reason, it answers; being asked to slow down is the token bucket's business.
func providerFailing(err error) bool {
	if err == nil {
		return false
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return true
	}
	return (e.Class == InDoubt || e.Class == Transient) && (e.Status == 0 || e.Status >= 500)
}

// note remembers what an answer says about our credentials, and how long it asks all calls to wait.
func (g *guardedAPI) note(operation string, err error) {
	e, isError := errors.AsType[*Error](err)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.accepts(operation, err)
	if isError && (e.Limited || e.Status >= 500 && e.RetryAfter > 0) {
		// It is not about this call alone, so no other is sent meanwhile. A call that was on its way at the same time
		// never shortens it.
		if until := g.now().Add(min(max(e.RetryAfter, limitedFor), longestRest)); until.After(g.paused) {
			g.paused = until
		}
	}
}

// guarded makes one call. What it refuses itself was never sent: Transient, or Blocked.
func guarded[T any](ctx context.Context, g *guardedAPI, operation string, call func(ctx context.Context) (T, error)) (T, error) {
	var answer T
	if err := g.turn(ctx, operation); err != nil {
		return answer, err
	}
	started := time.Now()
	_, err := g.breaker.Execute(func() (struct{}, error) {
		var err error
		answer, err = call(g.eachInTurn(ctx, operation))
		return struct{}{}, err
	})
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		return answer, &Error{Class: Transient, Operation: operation, Code: codeBreakerOpen, RetryAfter: openFor}
	}
	g.metrics.called(g.id, operation, AttemptOf(ctx), time.Since(started), err)
	g.note(operation, err)
	return answer, err
}

// guardedOnly is [guarded] for a call that answers nothing.
func guardedOnly(ctx context.Context, g *guardedAPI, operation string, call func(ctx context.Context) error) error {
	_, err := guarded(ctx, g, operation, func(ctx context.Context) (struct{}, error) { return struct{}{}, call(ctx) })
	return err
}

// found is the answer to a look-up.
type found[T any] struct {
	object T
	ok     bool
}

func (g *guardedAPI) CreateCustomer(ctx context.Context, key string, owner events.Owner) (string, error) {
	return guarded(ctx, g, "customers.create", func(ctx context.Context) (string, error) {
		return g.api.CreateCustomer(ctx, key, owner)
	})
}

func (g *guardedAPI) FindCustomer(ctx context.Context, owner events.Owner, made Span) (string, error) {
	return guarded(ctx, g, "customers.find", func(ctx context.Context) (string, error) {
		return g.api.FindCustomer(ctx, owner, made)
	})
}

func (g *guardedAPI) CustomersMade(ctx context.Context, made Span, most int) (map[string]string, bool, error) {
	got, err := guarded(ctx, g, "customers.find", func(ctx context.Context) (found[map[string]string], error) {
		ids, complete, err := g.api.CustomersMade(ctx, made, most)
		return found[map[string]string]{ids, complete}, err
	})
	return got.object, got.ok, err
}

func (g *guardedAPI) UpdateCustomer(ctx context.Context, key, id string, p Profile) error {
	return guardedOnly(ctx, g, "customers.update", func(ctx context.Context) error {
		return g.api.UpdateCustomer(ctx, key, id, p)
	})
}

func (g *guardedAPI) SetDefaultMethod(ctx context.Context, key, id, methodID string) error {
	return guardedOnly(ctx, g, "customers.set_default_method", func(ctx context.Context) error {
		return g.api.SetDefaultMethod(ctx, key, id, methodID)
	})
}

func (g *guardedAPI) DeleteCustomer(ctx context.Context, key, id string) error {
	return guardedOnly(ctx, g, "customers.delete", func(ctx context.Context) error {
		return g.api.DeleteCustomer(ctx, key, id)
	})
}

func (g *guardedAPI) CreateSession(ctx context.Context, key string, r SessionRequest) (events.Session, error) {
	return guarded(ctx, g, "sessions.create", func(ctx context.Context) (events.Session, error) {
		return g.api.CreateSession(ctx, key, r)
	})
}

func (g *guardedAPI) Session(ctx context.Context, id string) (events.Session, error) {
	return guarded(ctx, g, "sessions.retrieve", func(ctx context.Context) (events.Session, error) {
		return g.api.Session(ctx, id)
	})
}

func (g *guardedAPI) FindSession(ctx context.Context, customerID string, owner events.Owner, made Span) (events.Session, bool, error) {
	f, err := guarded(ctx, g, "sessions.find", func(ctx context.Context) (found[events.Session], error) {
		s, ok, err := g.api.FindSession(ctx, customerID, owner, made)
		return found[events.Session]{s, ok}, err
	})
	return f.object, f.ok, err
}

func (g *guardedAPI) ExpireSession(ctx context.Context, key, id string) (events.Session, error) {
	return guarded(ctx, g, "sessions.expire", func(ctx context.Context) (events.Session, error) {
		return g.api.ExpireSession(ctx, key, id)
	})
}

func (g *guardedAPI) CreatePayment(ctx context.Context, key string, r PaymentRequest) (events.Payment, error) {
	return guarded(ctx, g, "payments.create", func(ctx context.Context) (events.Payment, error) {
		return g.api.CreatePayment(ctx, key, r)
	})
}

func (g *guardedAPI) ConfirmPayment(ctx context.Context, key, id string, r ConfirmRequest) (events.Payment, error) {
	return guarded(ctx, g, "payments.confirm", func(ctx context.Context) (events.Payment, error) {
		return g.api.ConfirmPayment(ctx, key, id, r)
	})
}

func (g *guardedAPI) Payment(ctx context.Context, id string) (events.Payment, error) {
	return guarded(ctx, g, "payments.retrieve", func(ctx context.Context) (events.Payment, error) {
		return g.api.Payment(ctx, id)
	})
}

func (g *guardedAPI) FindPayment(ctx context.Context, customerID string, owner events.Owner, made Span) (events.Payment, bool, error) {
	f, err := guarded(ctx, g, "payments.find", func(ctx context.Context) (found[events.Payment], error) {
		p, ok, err := g.api.FindPayment(ctx, customerID, owner, made)
		return found[events.Payment]{p, ok}, err
	})
	return f.object, f.ok, err
}

func (g *guardedAPI) CancelPayment(ctx context.Context, key, id string, abandoned bool) (events.Payment, error) {
	return guarded(ctx, g, "payments.cancel", func(ctx context.Context) (events.Payment, error) {
		return g.api.CancelPayment(ctx, key, id, abandoned)
	})
}

func (g *guardedAPI) DetachMethod(ctx context.Context, key, id string) error {
	return guardedOnly(ctx, g, "methods.detach", func(ctx context.Context) error {
		return g.api.DetachMethod(ctx, key, id)
	})
}

func (g *guardedAPI) Method(ctx context.Context, id string) (events.Method, error) {
	return guarded(ctx, g, "methods.retrieve", func(ctx context.Context) (events.Method, error) {
		return g.api.Method(ctx, id)
	})
}

func (g *guardedAPI) CreateRefund(ctx context.Context, key string, r RefundRequest) (events.RefundReport, error) {
	return guarded(ctx, g, "refunds.create", func(ctx context.Context) (events.RefundReport, error) {
		return g.api.CreateRefund(ctx, key, r)
	})
}

func (g *guardedAPI) RefundsOf(ctx context.Context, paymentID, chargeID string) ([]events.RefundReport, error) {
	return guarded(ctx, g, "refunds.list", func(ctx context.Context) ([]events.RefundReport, error) {
		return g.api.RefundsOf(ctx, paymentID, chargeID)
	})
}

func (g *guardedAPI) SawPayment(ctx context.Context, s Sought) (string, error) {
	return guardedRead(ctx, g, "events.find_payment", func(ctx context.Context) (string, error) {
		return g.api.SawPayment(ctx, s)
	})
}

func (g *guardedAPI) SawRefund(ctx context.Context, s Sought) (events.RefundReport, bool, error) {
	f, err := guardedRead(ctx, g, "events.find_refund", func(ctx context.Context) (found[events.RefundReport], error) {
		r, ok, err := g.api.SawRefund(ctx, s)
		return found[events.RefundReport]{r, ok}, err
	})
	return f.object, f.ok, err
}

func (g *guardedAPI) ListDeliveries(ctx context.Context, since time.Time, yield func(body []byte) error) error {
	_, err := guardedRead(ctx, g, "deliveries.list", func(ctx context.Context) (struct{}, error) {
		return struct{}{}, g.api.ListDeliveries(ctx, since, yield)
	})
	return err
}

// workerMetrics are the worker's figures. None is labelled with anything that a customer or a caller chose.
type workerMetrics struct {
	calls    *prometheus.CounterVec
	repeated *prometheus.CounterVec
	duration *prometheus.HistogramVec
	requests *prometheus.CounterVec
	inDoubt  prometheus.Gauge
	toReview prometheus.Gauge
	blocked  *prometheus.GaugeVec
	paused   *prometheus.GaugeVec
	dead     *prometheus.CounterVec
	backfill *prometheus.CounterVec
	missed   *prometheus.GaugeVec
	silent   *prometheus.GaugeVec
}

func newWorkerMetrics(r prometheus.Registerer) *workerMetrics {
	return &workerMetrics{
		calls: registered(r, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paykit_provider_calls_total", Help: "Calls to a provider by operation and class of the answer.",
		}, []string{"provider", "operation", "class"})),
		duration: registered(r, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "paykit_provider_call_seconds", Help: "How long calls to a provider took.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"provider", "operation"})),
		requests: registered(r, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paykit_worker_events_total", Help: "Events handled by the worker, by consumer, type and outcome.",
		}, []string{"consumer", "type", "outcome"})),
		inDoubt: registered(r, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "paykit_charges_in_doubt", Help: "Charges of which this worker does not know whether money was taken.",
		})),
		toReview: registered(r, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "paykit_charges_to_review", Help: "Charges that this worker knows a person must look at.",
		})),
		blocked: registered(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "paykit_provider_blocked", Help: "1 while a provider refuses our credentials, for all calls or for an operation: someone must look.",
		}, []string{"provider"})),
		paused: registered(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "paykit_provider_paused", Help: "1 while a provider does not answer and gets no calls but a few that find out when it does.",
		}, []string{"provider"})),
		repeated: registered(r, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paykit_provider_repeated_calls_total", Help: "Calls of a further try of a request.",
		}, []string{"provider", "operation"})),
		dead: registered(r, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paykit_worker_dead_letters_total", Help: "Requests set aside because they can't be carried out: someone must look.",
		}, []string{"type"})),
		backfill: registered(r, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paykit_backfilled_deliveries_total", Help: "Deliveries that never arrived and were fetched from the provider.",
		}, []string{"provider"})),
		missed: registered(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "paykit_deliveries_missed_seconds", Help: "For how long deliveries had to be fetched while none came by itself.",
		}, []string{"provider"})),
		silent: registered(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "paykit_deliveries_silent", Help: "1 while deliveries are missed for over 10 minutes and none came by itself: someone must look.",
		}, []string{"provider"})),
	}
}

// missing says since when a provider's deliveries are missed, the zero time for not at all.
func (m *workerMetrics) missing(providerID string, since, now time.Time) {
	seconds, silent := 0.0, 0.0
	if !since.IsZero() {
		seconds = now.Sub(since).Seconds()
		if now.Sub(since) > silentAfter {
			silent = 1
		}
	}
	m.missed.WithLabelValues(providerID).Set(seconds)
	m.silent.WithLabelValues(providerID).Set(silent)
}

// heard says that this worker knows of no missed delivery.
func (m *workerMetrics) heard() {
	m.missed.Reset()
	m.silent.Reset()
}

func (m *workerMetrics) called(providerID, operation string, attempt int, took time.Duration, err error) {
	class := "ok"
	if err != nil {
		class = ClassOf(err).String()
	}
	m.calls.WithLabelValues(providerID, operation, class).Inc()
	if attempt > 1 {
		m.repeated.WithLabelValues(providerID, operation).Inc()
	}
	m.duration.WithLabelValues(providerID, operation).Observe(took.Seconds())
}
