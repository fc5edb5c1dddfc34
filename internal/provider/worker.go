package provider

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/paykit-go/paykit/internal/crashpoint"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/plant"
)

const (
	requestLanes  = 64
	settlingLanes = 32

	// lookUpAfter is the age of a request from which a creating call is preceded by a look-up: the provider remembers
	// idempotency keys for 24 h at least, and no longer than that is promised.
	// Source: https://docs.stripe.com/api/idempotent_requests
	lookUpAfter = 20 * time.Hour
	// clockSkew is how much earlier than our request the provider's clock may say that its object was made.
	clockSkew = 5 * time.Minute

	firstRetry   = 500 * time.Millisecond
	longestRetry = time.Minute
	tryMost      = 10 * time.Minute // for one try of a request; each call in it has a limit of its own
	// maxFaults is how often a request may fail through a fault of ours, which takes a quarter of an hour, before it is set
	// aside.
	maxFaults = 20
)

// WorkerConfig says how a worker works. The zero value of every field but Logger works.
type WorkerConfig struct {
	// Webhooks reads deliveries, by provider. A provider that is not in it is neither backfilled, nor are its
	// deliveries without a customer looked through when a customer is erased.
	Webhooks map[string]Webhooks
	Logger   zerolog.Logger
	// Now is the clock; nil = time.Now.
	Now func() time.Time
	// Rate is the number of calls a second to one provider; 0 = 80.
	Rate float64
	// BackfillEvery is the time between two readings of the providers' lists of deliveries; 0 = 5 minutes.
	BackfillEvery time.Duration
	// ReviewAfter is how long something may stay in doubt before a person is asked to look; 0 = 24 h.
	ReviewAfter time.Duration
	// Registerer takes the metrics; nil = none.
	Registerer prometheus.Registerer
	// Random spreads retries: a number from 0 to below n; nil = at random.
	Random func(n int64) int64
	// Calls keeps a record of each HTTP request to a provider, for "paykit explain"; nil = none is kept.
	Calls CallStore
	// AtOnce runs what does not depend on each other, all of it; nil = [eventlog.AtOnce].
	AtOnce func(...func())
	// TripAfter is how many failures in a row, by the provider's fault, open the breaker; 0 = 10.
	TripAfter uint32
}

// Worker carries out each requested provider call once, and asks about what is open until it is settled. It keeps no
// state that matters: killed at any point it leaves the LOG, from which the next one goes on.
type Worker struct {
	log       WorkerLog
	providers map[string]*guardedAPI
	cfg       WorkerConfig
	applier   *Applier
	metrics   *workerMetrics
	calls     *callRecorder // nil = none
	accounts  accountCache
	doubts    doubts
	absences  absences
	backfill  backfillMemory
	backlogs  []*backlog
	failures  map[eventlog.ConsumerName]*eventlog.Failures // of requests and settling
	spread
	active atomic.Bool // this worker, not one that stands by, has the requests

	carry     map[events.Type]func(context.Context, request) error
	doubtLook time.Duration // after which a charge in doubt is first asked about
	firstLook time.Duration // the same for anything else that is open

	expiringLook time.Duration // how often is asked whether methods that expire soon are to be looked for

	retryFirst time.Duration // the delay after a first failed try
	tryMost    time.Duration // for one try of a request
	maxFaults  int           // of a request, before it is set aside

	// What only tests set: reached is told where the work on a request is, and an error stops it there as a kill would;
	// concluded is told what became of each try.
	reached   func(point string) error
	concluded func(typ events.Type, outcome string)
}

// NewWorker makes a worker for the providers, named by provider id.
func NewWorker(log WorkerLog, providers map[string]API, cfg WorkerConfig) *Worker {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.BackfillEvery <= 0 {
		cfg.BackfillEvery = backfillEvery
	}
	if cfg.ReviewAfter <= 0 {
		cfg.ReviewAfter = reviewAfter
	}
	if cfg.AtOnce == nil {
		cfg.AtOnce = eventlog.AtOnce
	}
	metrics := newWorkerMetrics(cfg.Registerer)
	w := &Worker{
		log: log, providers: make(map[string]*guardedAPI, len(providers)), cfg: cfg, metrics: metrics, spread: spreadBy(cfg.Random),
		applier: NewApplier(log, ApplierConfig{
			Source: SourceWorker, Logger: cfg.Logger, Now: cfg.Now, Registerer: cfg.Registerer,
		}),
		failures: map[eventlog.ConsumerName]*eventlog.Failures{eventlog.ConsumerRequests: {}, eventlog.ConsumerSettling: {}},
		doubts:   doubts{inDoubt: metrics.inDoubt, toReview: metrics.toReview}, absences: absences{gap: absenceGap},
		doubtLook: firstLookInDoubt, firstLook: firstLook, retryFirst: firstRetry, tryMost: tryMost, maxFaults: maxFaults,
		expiringLook: expiringLook,
	}
	for _, consumer := range []eventlog.ConsumerName{
		eventlog.ConsumerRequests, eventlog.ConsumerSettling, eventlog.ConsumerWorkerDecisions,
	} {
		w.backlogs = append(w.backlogs, newBacklog(log, consumer, cfg.Logger, cfg.Registerer))
	}
	w.carry = w.requests()
	w.calls = newCallRecorder(cfg.Calls, cfg.Logger, cfg.Registerer)
	for id, api := range providers {
		w.providers[id] = newGuardedAPI(id, api, cfg.Rate, cfg.TripAfter, metrics, cfg.Now)
		w.providers[id].logger, w.providers[id].calls = cfg.Logger, w.calls
	}
	return w
}

// Run works until ctx ends: it carries out requests, settles what is open, and fetches deliveries that never arrived.
// What is in hand when ctx ends is given back. It returns nil when it ended with ctx.
func (w *Worker) Run(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return w.log.Consume(gctx, eventlog.ConsumerRequests, eventlog.ConsumeOptions{
			Lanes: requestLanes, Lane: laneOf, Handle: w.handleRequest, Logger: w.cfg.Logger, OnActive: w.active.Store,
		})
	})
	g.Go(func() error {
		return w.log.Consume(gctx, eventlog.ConsumerSettling, eventlog.ConsumeOptions{
			Lanes: settlingLanes, Lane: laneOf, Handle: w.handleSettling, Logger: w.cfg.Logger,
			OnActive: w.doubts.hold,
		})
	})
	g.Go(func() error { return w.backfillLoop(gctx) })
	g.Go(func() error { return w.expiringLoop(gctx) })
	for _, b := range w.backlogs {
		g.Go(func() error { return b.watch(gctx) })
	}
	stopRecording := w.calls.start(ctx)
	err := g.Wait()
	stopRecording() // after the calls in hand
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the end of ctx is how a worker is told to end
	}
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	return nil
}

// Ready says why the worker can't do its work: a provider refuses our credentials. It returns nil if it can.
func (w *Worker) Ready() error {
	var errs []error
	for _, p := range w.providers {
		errs = append(errs, p.ready())
	}
	return errors.Join(errs...)
}

// KeepsUp says that so much is open that nothing new is worked on. It returns nil otherwise.
func (w *Worker) KeepsUp() error {
	var errs []error
	for _, b := range w.backlogs {
		errs = append(errs, b.ready())
	}
	return errors.Join(errs...)
}

// laneOf puts all of one customer's calls into one lane; what has no customer goes by its entity.
func laneOf(m eventlog.Message) string {
	tokens := strings.Split(m.Subject, ".")
	last := len(tokens) - 1
	if last > 0 && tokens[last] == events.None {
		last--
	}
	return tokens[last]
}

// request is one delivery of an event that asks the worker for something.
type request struct {
	message  eventlog.Message
	event    *events.Event
	consumer eventlog.ConsumerName
	attempt  int
	retryOf  uint64 // the dead letter that an operator has tried again; 0 = none
}

// id is what idempotency keys of calls that belong to this very request are made from.
func (r request) id() string { return r.event.ID }

// otherKey is for one more call where the key itself is spent: see [keyIsSpent].
func (r request) otherKey(key string) string {
	return key + ":" + r.id() + ":" + strconv.Itoa(r.attempt)
}

// old tells whether the provider may have forgotten the keys of an earlier try.
func (w *Worker) old(r request) bool { return w.cfg.Now().Sub(r.event.Time) > lookUpAfter }

// finder looks for what an earlier try may have made in a time; ok is false if it finds nothing.
type finder[T any] func(made Span) (found T, ok bool, err error)

// forgotten are the times of which the LOG, restored from a backup, knows nothing. Whatever a request asks for may have
// been made in one of them, by a request that is not there any more, under a key that the provider has long forgotten. What
// is that old is in the provider's lists, and what is not has its key: one look tells. It is made for ever, since a command
// may be repeated at any time, but only at these times, so it does not become dearer.
func (w *Worker) forgotten() []Span {
	var list []Span
	for _, f := range w.log.Forgotten() {
		list = append(list, Span{Since: f.From.Add(-clockSkew), Until: f.Until.Add(clockSkew)})
	}
	return list
}

// lookIn looks into one time after the other.
func lookIn[T any](find finder[T], times ...Span) (found T, ok bool, err error) {
	for _, made := range times {
		if found, ok, err = find(made); ok || err != nil {
			break
		}
	}
	return found, ok, err
}

// create makes what takes no money. The key is the same on every try, so a try that was not answered is not made twice.
// Where the key does not help, because it may be forgotten or is spent, the provider is asked whether it has the object,
// and only then is it made, under another key if need be. Should the call that spent the key still take effect, the second
// object is one that nobody knows of and that nothing is paid with. Where the key may be forgotten, every witness is
// heard, and that there is nothing must be seen twice, some minutes apart. own is from when on it can have been made for this
// request; for another one, see forgotten.
func create[T any](
	w *Worker, r request, key string, own time.Time, find finder[T], send func(key string) (T, error), more ...finder[T],
) (T, error) {
	if found, ok, err := lookIn(find, w.forgotten()...); ok || err != nil {
		return found, err
	}
	if w.old(r) {
		for _, witness := range append([]finder[T]{find}, more...) {
			if found, ok, err := witness(Span{Since: own}); ok || err != nil {
				return found, err
			}
		}
		if err := w.absent(key); err != nil {
			var none T
			return none, err
		}
	}
	made, err := send(key)
	if !r.spent(err) {
		return made, err
	}
	if found, ok, err := find(Span{Since: own}); ok || err != nil {
		return found, err
	}
	return send(r.otherKey(key))
}

// set makes a call that brings something into a state, under another key if its own is spent: done twice is done once.
func set(r request, key string, send func(key string) error) error {
	err := send(key)
	if r.spent(err) {
		return send(r.otherKey(key))
	}
	return err
}

// later asks for another delivery after a while; it is an outcome, not a failure.
type later struct {
	after  time.Duration
	reason string
}

func (l *later) Error() string { return l.reason }

// errStopped is what a test's reached function ends the work with.
var errStopped = errors.New("stopped here")

// point is a place where the worker may die: see internal/crashpoint, where its name begins with "worker.".
func (w *Worker) point(name string) error {
	if crashpoint.Enabled {
		crashpoint.Hit("worker." + name)
	}
	if w.reached == nil {
		return nil
	}
	return w.reached(name)
}

// key is the idempotency key of a step. It is the same on every try and holds nothing personal.
func (w *Worker) key(parts ...string) string {
	return "paykit:" + w.log.Env() + ":" + strings.Join(parts, ":")
}

// cause is what decisions are told: what the worker finds out belongs to the request that made it look.
func (w *Worker) cause(r request) events.Cause {
	return events.Cause{
		Now: w.cfg.Now(), Source: SourceWorker, CausationID: r.event.ID, Customer: refOf(r.event),
	}
}

func (w *Worker) provider(id string) (*guardedAPI, error) {
	p, ok := w.providers[id]
	if !ok {
		// Kept, not refused: the worker of another configuration can do it.
		return nil, &Error{Class: Blocked, Operation: "worker", Code: "provider_not_configured"}
	}
	return p, nil
}

// load gives an entity's last event, at least as new as sequence, which is known to exist: a replica that is behind is
// not believed.
func (w *Worker) load(ctx context.Context, entity events.Entity, id string, sequence uint64) (eventlog.Entry, error) {
	e, err := w.log.Load(ctx, entity, id)
	if errors.Is(err, eventlog.ErrNotFound) || err == nil && e.Sequence < sequence {
		e, err = w.log.LoadFromLeader(ctx, entity, id)
	}
	if err != nil {
		return eventlog.Entry{}, fmt.Errorf("load %s %s: %w", entity, id, err)
	}
	return e, nil
}

// subject loads the entity that a request is about, as it is now.
func (w *Worker) subject(ctx context.Context, r request) (eventlog.Entry, error) {
	return w.load(ctx, r.event.Entity(), r.event.Subject, r.message.Sequence)
}

// customer loads a customer. Every event of a customer follows the customer's own, so there is always one.
func (w *Worker) customer(ctx context.Context, id string) (events.Customer, error) {
	e, err := w.load(ctx, events.EntityCustomer, id, 0)
	if err != nil {
		return events.Customer{}, err
	}
	return e.Event.Data.Customer, nil
}

func (w *Worker) updateCharge(ctx context.Context, r request, id string, in events.ChargeInput) (eventlog.Entry, bool, error) {
	return w.updateChargeFrom(ctx, r, id, nil, in)
}

// updateChargeFrom begins with what was read or appended a moment ago, nil for nothing.
func (w *Worker) updateChargeFrom(ctx context.Context, r request, id string, known *eventlog.Entry, in events.ChargeInput,
) (e eventlog.Entry, appended bool, err error) {
	decide := func(last *events.Event) (*events.Event, error) { return events.DecideCharge(last, in, w.cause(r)) }
	if known == nil {
		e, appended, err = w.log.Update(ctx, events.EntityCharge, id, decide)
	} else {
		e, appended, err = w.log.UpdateFrom(ctx, events.EntityCharge, id, *known, decide)
	}
	if err != nil {
		return e, appended, fmt.Errorf("update charge %s: %w", id, err)
	}
	if e.Event != nil {
		w.doubts.note(e.Event.Data.Charge)
	}
	return e, appended, nil
}

// Handle works on one message of [eventlog.ConsumerRequests] or [eventlog.ConsumerSettling], as Run does with each: it
// returns what becomes of the message. It is for who hands out the messages himself, one at a time.
func (w *Worker) Handle(ctx context.Context, consumer eventlog.ConsumerName, m eventlog.Message) eventlog.Result {
	if consumer == eventlog.ConsumerSettling {
		return w.handleSettling(ctx, m)
	}
	return w.handleRequest(ctx, m)
}

// handleRequest carries out one request event.
func (w *Worker) handleRequest(ctx context.Context, m eventlog.Message) eventlog.Result {
	return w.handle(ctx, m, eventlog.ConsumerRequests, w.carryOut)
}

func (w *Worker) handle(
	ctx context.Context, m eventlog.Message, consumer eventlog.ConsumerName, do func(context.Context, request) error,
) eventlog.Result {
	return w.work(ctx, request{message: m, consumer: consumer, attempt: m.Attempt}, do)
}

// work makes one try of a request, whose event is still to be read.
func (w *Worker) work(ctx context.Context, r request, do func(context.Context, request) error) eventlog.Result {
	started := time.Now()
	ev, err := r.message.Event()
	if err != nil {
		w.cfg.Logger.Error().Err(err).Str("stage", string(r.consumer)).Uint64("stream_seq", r.message.Sequence).Msg("event not understood")
		w.note(r, err)
		return w.bury(ctx, r, err)
	}
	r.event = ev
	if r.message.Imported() {
		// History: what it asked for was done, or not, where it happened.
		w.metrics.requests.WithLabelValues(string(r.consumer), string(ev.Type), "imported").Inc()
		return eventlog.Done()
	}
	crashpoint.Hit("worker.fetched")
	try, cancel := context.WithTimeout(ctx, w.tryMost)
	defer cancel()
	err = w.recovered(withUnit(WithAttempt(try, r.attempt), r), r, do)
	return w.conclude(ctx, r, err, time.Since(started))
}

// requests is what the worker does for each of [events.RequestTypes].
func (w *Worker) requests() map[events.Type]func(context.Context, request) error {
	return map[events.Type]func(context.Context, request) error{
		events.ChargeRequested:               w.chargeRequested,
		events.ChargeCancelRequested:         w.chargeCancelRequested,
		events.ChargeFailed:                  w.chargeEnded,
		events.ChargeCanceled:                w.chargeEnded,
		events.ChargeRefundRequested:         w.refundOrReview,
		events.ChargeRefreshRequested:        w.refundsRefreshRequested,
		events.ChargeRetryRequested:          w.retryRequested,
		events.CheckoutRequested:             w.checkoutRequested,
		events.CheckoutExpireRequested:       w.checkoutExpireRequested,
		events.SetupRequested:                w.setupRequested,
		events.SetupRefreshRequested:         w.setupRefreshRequested,
		events.PaymentMethodDefaultRequested: w.methodDefaultRequested,
		events.PaymentMethodDetachRequested:  w.methodDetachRequested,
		events.PaymentMethodDetached:         w.methodDetached,
		events.CustomerUpdated:               w.customerUpdated,
		events.CustomerDeleted:               w.customerDeleted,
		events.ProviderAccountLinked:         w.accountLinked,
		events.ProviderAccountUnlinked:       w.accountUnlinked,
	}
}

func (w *Worker) carryOut(ctx context.Context, r request) error {
	do, ok := w.carry[r.event.Type]
	if !ok { // the consumer of another version delivers it: set aside, where an operator sees it
		return &Error{Class: Invalid, Operation: "worker", Code: "request_unknown"}
	}
	return do(ctx, r)
}

// conclude says what becomes of a request after a try. It is the one place that logs a request.
func (w *Worker) conclude(ctx context.Context, r request, err error, took time.Duration) eventlog.Result {
	fields := func(e *zerolog.Event) *zerolog.Event {
		e = e.Str("event_type", string(r.event.Type)).Str("event_id", r.event.ID).Str("command_id", r.event.CorrelationID).
			Str("entity_id", r.event.Subject).Str("customer_id", r.event.CustomerID()).
			Uint64("stream_seq", r.message.Sequence).Int("attempt", r.attempt).Int64("dur_ms", took.Milliseconds())
		if pe, ok := errors.AsType[*Error](err); ok {
			e = e.Str("class", pe.Class.String()).Str("operation", pe.Operation).Str("code", pe.Code).Str("request_id", pe.RequestID)
		}
		return e
	}
	outcome := func(name string) {
		w.metrics.requests.WithLabelValues(string(r.consumer), string(r.event.Type), name).Inc()
		if w.concluded != nil {
			w.concluded(r.event.Type, name)
		}
	}
	log := w.cfg.Logger
	if err == nil {
		crashpoint.Hit("worker.carried_out")
		w.failures[r.consumer].Forget(r.message.Sequence)
		outcome("done")
		if r.consumer == eventlog.ConsumerRequests {
			fields(log.Info()).Msg("command executed")
		} else {
			fields(log.Debug()).Msg("settled")
		}
		return eventlog.Done()
	}
	if ctx.Err() != nil || errors.Is(err, errStopped) {
		outcome("stopped")
		return eventlog.Retry(0)
	}
	faults := w.note(r, err)
	if wait, ok := errors.AsType[*later](err); ok {
		outcome("later")
		fields(log.Debug()).Dur("after", wait.after).Str("reason", wait.reason).Msg("to be looked at later")
		return eventlog.Retry(wait.after)
	}
	pe, ok := errors.AsType[*Error](err)
	switch {
	case !ok && eventlog.IsUnavailable(err):
		outcome("retry")
		fields(log.Warn()).Err(err).Msg("tried again later")
		return eventlog.Retry(w.backoff(w.retryFirst, r.attempt, longestRetry))
	case !ok && faults < w.maxFaults:
		// A fault of ours, a panic, or a damaged event. It waits outside its lane, so nobody waits for it.
		outcome("failed")
		fields(log.Error()).Err(err).Msg("failed, tried again later")
		return eventlog.Retry(w.backoff(w.retryFirst, r.attempt, longestRetry))
	case !ok:
		// Nothing is given up: the letter stands open, with an alarm, until somebody has it tried again.
		outcome("dead")
		fields(log.Error()).Err(err).Msg("dead letter")
		return w.bury(ctx, r, err)
	case pe.Class == Invalid || pe.Class == Declined:
		outcome("dead")
		fields(log.Error()).Err(err).Msg("dead letter")
		return w.bury(ctx, r, err)
	case pe.Class == Blocked:
		outcome("blocked")
		if errors.Is(err, errHalted) {
			fields(log.Debug()).Msg("waits for the provider to take our credentials")
		} else {
			fields(log.Error()).Err(err).Msg("provider refuses our credentials")
		}
		return eventlog.Retry(max(pe.RetryAfter, w.jitter(blockedFor)))
	}
	if plant.Bug == 2 {
		return eventlog.Done()
	}
	outcome("retry")
	fields(log.Warn()).Err(err).Msg("tried again later")
	if pe.Code == codeBreakerOpen || pe.Code == codeAskedToWait {
		// Nothing was sent, so there is nothing to be more patient about each time: it goes on when the provider is back.
		return eventlog.Retry(w.jitter(max(pe.RetryAfter, w.retryFirst)))
	}
	return eventlog.Retry(max(w.jitter(pe.RetryAfter), w.backoff(w.retryFirst, r.attempt, longestRetry)))
}

// accountCache remembers which provider customer an account is linked to, because every charge needs it. An answer
// that says "no such customer" empties its entry.
type accountCache struct {
	mu       sync.RWMutex
	accounts map[string]events.ProviderAccount // guarded by mu, by account id
}

// cachedAccounts bounds the cache; about 300 bytes each.
const cachedAccounts = 50_000

func (c *accountCache) find(id string) (events.ProviderAccount, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	a, ok := c.accounts[id]
	return a, ok
}

func (c *accountCache) put(a events.ProviderAccount) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.accounts == nil || len(c.accounts) >= cachedAccounts {
		c.accounts = map[string]events.ProviderAccount{}
	}
	c.accounts[a.ID] = a
}

func (c *accountCache) drop(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.accounts, id)
}
