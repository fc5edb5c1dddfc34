package provider

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/paykit-go/paykit/internal/crashpoint"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// NormalizerConfig says how deliveries are turned into events. The zero value is good.
type NormalizerConfig struct {
	Env    string // whose objects are ours; "" = the log's
	Logger zerolog.Logger
	Now    func() time.Time // nil = time.Now
	Lanes  int              // how many deliveries are worked on at once; 0 = 32
	// ExpectLivemode, if set, is the mode of the provider's credentials: deliveries of the other mode, as those of a
	// connected account, are not ours. They stay stored, are counted, and lead to nothing.
	ExpectLivemode *bool
	Registerer     prometheus.Registerer // nil = no metrics
	// AtOnce runs what does not depend on each other, all of it; nil = [eventlog.AtOnce].
	AtOnce func(...func())
	// Random spreads retries: a number from 0 to below n; nil = at random.
	Random func(n int64) int64
}

// Normalizer turns stored deliveries into events. Any number may run at once, in any number of processes: they share
// one durable consumer of INBOX, and the guard of each append decides.
type Normalizer struct {
	log      NormalizerLog
	webhooks map[string]Webhooks // by the token of their id in subjects
	ids      map[string]string   // token → id
	applier  *Applier
	cfg      NormalizerConfig
	results  *prometheus.CounterVec
	modes    *prometheus.CounterVec
	told     [2]sync.Once // that deliveries of a mode, test or live, were seen
	backlog  *backlog
	spread

	retryFirst time.Duration       // first wait after a failure; doubled with each
	parkFirst  time.Duration       // first wait for an owner; doubled with each
	onResult   func(result string) // tells tests what became of a delivery

	failures eventlog.Failures // by sequence in INBOX; those that are not the storage's count
	looks    looks             // at reports that wait for their owner
	links    customerLinks
	recent   recentEntries
}

const (
	deliveryTimeout = 30 * time.Second // for one delivery; each request within has a limit of its own
	firstWait       = time.Second
	retryMost       = 30 * time.Second
	maxFailures     = 5 // of a delivery, not counting storage and connection
)

// NewNormalizer makes the normalizer of these providers' deliveries, by provider id.
func NewNormalizer(log NormalizerLog, webhooks map[string]Webhooks, cfg NormalizerConfig) *Normalizer {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.AtOnce == nil {
		cfg.AtOnce = eventlog.AtOnce
	}
	if cfg.Lanes == 0 {
		cfg.Lanes = 32
	}
	n := &Normalizer{
		log: log, webhooks: map[string]Webhooks{}, ids: map[string]string{}, cfg: cfg,
		spread:     spreadBy(cfg.Random),
		retryFirst: firstWait, parkFirst: firstWait, onResult: func(string) {},
		backlog: newBacklog(log, eventlog.ConsumerNormalizer, cfg.Logger, cfg.Registerer),
		applier: NewApplier(log, ApplierConfig{
			Source: SourceIngest, Env: cfg.Env, Logger: cfg.Logger, Now: cfg.Now, Registerer: cfg.Registerer,
		}),
		results: registered(cfg.Registerer, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paykit_normalizer_deliveries_total",
			Help: "Deliveries taken from INBOX, by what became of them; a parked or failed one is counted each time.",
		}, []string{"provider", "result"})),
		modes: registered(cfg.Registerer, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paykit_deliveries_livemode_total",
			Help: "Deliveries of the provider's own account, by whether they are of live mode; one that is tried again counts again.",
		}, []string{"provider", "livemode"})),
	}
	for id, hooks := range webhooks {
		n.webhooks[events.Token(id)] = hooks
		n.ids[events.Token(id)] = id
	}
	return n
}

// Run works until ctx ends. A delivery is acknowledged only after all its events are appended, so a crash anywhere
// before leaves it to be delivered again, and each append that was done already finds nothing to do.
func (n *Normalizer) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return n.log.Consume(ctx, eventlog.ConsumerNormalizer, eventlog.ConsumeOptions{
			Lanes: n.cfg.Lanes, Lane: lane, Handle: n.Handle, Logger: n.cfg.Logger,
		})
	})
	g.Go(func() error { return n.backlog.watch(ctx) })
	return g.Wait() //nolint:wrapcheck // says what it was doing
}

// lane keeps what is about one provider customer in order, which saves lost guards; nothing depends on it.
func lane(m eventlog.Message) string {
	provider, event, customer := inboxTokens(m.Subject)
	if customer == events.None {
		return provider + "." + event
	}
	return provider + "." + customer
}

// inboxTokens takes an INBOX subject apart: <prefix>.inbox.<provider>.<event>.<customer>.
func inboxTokens(subject string) (provider, event, customer string) {
	tokens := strings.Split(subject, ".")
	if len(tokens) != 5 {
		return "", "", events.None
	}
	return tokens[2], tokens[3], tokens[4]
}

// work is one delivery in hand.
type work struct {
	eventlog.Message
	applier    *Applier // reads customers and accounts once
	token      string   // of the provider, in the subject
	providerID string
	delivery   Delivery
	outcome    Outcome   // the most that an observation led to
	customerID string    // whose it is, once known
	retryOf    uint64    // the dead letter that an operator has tried again; 0 = none
	since      time.Time // from when on it waits for its owner: when it was stored, or when it was decided to try it again
	log        zerolog.Logger
}

// Handle turns one delivery into events and says what becomes of the message, as Run does with each.
func (n *Normalizer) Handle(ctx context.Context, m eventlog.Message) eventlog.Result {
	return n.work(ctx, &work{Message: m, since: m.Time})
}

func (n *Normalizer) work(ctx context.Context, w *work) eventlog.Result {
	ctx, cancel := context.WithTimeout(ctx, deliveryTimeout)
	defer cancel()
	token, event, _ := inboxTokens(w.Subject)
	w.token, w.providerID, w.outcome, w.applier = token, n.ids[token], OutcomeUnchanged, n.applier
	w.log = n.cfg.Logger.With().Str("provider", token).Str("event_id", event).Uint64("stream_seq", w.Sequence).
		Int("attempt", w.Attempt).Logger()
	err := n.normalize(ctx, w)
	switch {
	case err == nil:
		return n.finish(ctx, w, string(w.outcome))
	case errors.Is(err, ErrOwnerUnknown):
		return n.park(ctx, w)
	case eventlog.IsUnavailable(err), ctx.Err() != nil:
		n.failed(w, err, false)
		return n.wait(w, err, "delivery waits for the storage")
	}
	failed := n.failed(w, err, true)
	if errors.Is(err, errUndecodable) {
		return n.bury(ctx, w, err) // another attempt reads the same bytes
	}
	if failed >= maxFailures {
		return n.bury(ctx, w, err)
	}
	w.log.Warn().Err(err).Msg("delivery failed, will be tried again")
	n.count(w, "failed")
	return eventlog.Retry(n.backoff(n.retryFirst, w.Attempt, retryMost))
}

// wait has a delivery come again when the storage may work again.
func (n *Normalizer) wait(w *work, err error, why string) eventlog.Result {
	w.log.Warn().Err(err).Msg(why)
	n.looks.disturb(n.cfg.Now())
	n.count(w, "waiting")
	return eventlog.Retry(n.backoff(n.retryFirst, w.Attempt, retryMost))
}

var errUndecodable = errors.New("the delivery can't be read")

// normalize applies each of the delivery's observations, in order. A report that must wait for its owner does not hold
// up those behind it.
func (n *Normalizer) normalize(ctx context.Context, w *work) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = eventlog.Panicked(r)
		}
	}()
	hooks, ok := n.webhooks[w.token]
	if !ok {
		return fmt.Errorf("no provider %q is configured", w.token)
	}
	w.delivery, err = hooks.Decode(w.Data)
	if err != nil && !errors.Is(err, ErrThinEvent) { // the door refuses those; one that an older door let in says nothing
		return fmt.Errorf("%w: %w", errUndecodable, err)
	}
	crashpoint.Hit("normalizer.fetched")
	w.log = w.log.With().Str("delivery_type", w.delivery.Type).Logger()
	n.noteMode(w)
	if n.otherMode(w.delivery) {
		w.outcome = outcomeOtherMode
		return nil
	}
	w.applier = n.reading(ctx, w.providerID, w.delivery, w.Received)
	var parked error
	for i, o := range w.delivery.Observations {
		// A crash between two observations leaves the first one's event and the delivery unacknowledged: delivered
		// again, the first finds nothing to do.
		got, err := w.applier.Observe(ctx, w.providerID, o, w.delivery.ID)
		if errors.Is(err, ErrOwnerUnknown) {
			parked = err
			continue
		}
		if err != nil {
			return fmt.Errorf("observation %d of %s: %w", i+1, w.delivery.Type, err)
		}
		crashpoint.Hit("normalizer.observed")
		w.take(got)
	}
	return parked
}

// outcomeOtherMode is a delivery of the other mode or of a connected account.
const outcomeOtherMode Outcome = "other_mode"

func (n *Normalizer) otherMode(d Delivery) bool {
	return d.Account != "" || n.cfg.ExpectLivemode != nil && *n.cfg.ExpectLivemode != d.Livemode
}

// noteMode makes visible of which mode deliveries are, once for each: without an expected mode both lead to events, and two
// in one installation mean that an endpoint of the other mode has this address and a secret of ours.
func (n *Normalizer) noteMode(w *work) {
	if w.delivery.Account != "" {
		return
	}
	mode := 0
	if w.delivery.Livemode {
		mode = 1
	}
	n.modes.WithLabelValues(w.providerID, strconv.FormatBool(w.delivery.Livemode)).Inc()
	n.told[mode].Do(func() {
		w.log.Info().Bool("livemode", w.delivery.Livemode).Bool("ignored", n.otherMode(w.delivery)).Msg("first delivery of a mode")
	})
}

// take notes what an observation led to.
func (w *work) take(got Applied) {
	if got.CustomerID != "" {
		w.customerID = got.CustomerID
	}
	if got.Outcome == OutcomeChanged {
		e := got.Entry.Event
		w.log.Info().Str("event_type", string(e.Type)).Str("entity_id", e.Subject).Str("customer_id", e.CustomerID()).
			Msg("delivery normalized")
	}
	if w.outcome != OutcomeChanged && got.Outcome != OutcomeUnchanged {
		w.outcome = got.Outcome
	}
}

// finish lets go of a delivery. One about a deleted customer is erased: its events are appended, and nothing of the
// customer may stay. A crash right before leaves it unacknowledged, to come again.
func (n *Normalizer) finish(ctx context.Context, w *work, result string) eventlog.Result {
	erase, err := n.erasable(ctx, w)
	if err != nil {
		return n.wait(w, err, "delivery waits for the storage")
	}
	crashpoint.Hit("normalizer.before_ack")
	n.failures.Forget(w.Sequence)
	n.looks.forget(w.Sequence)
	n.count(w, result)
	if erase {
		w.log.Debug().Msg("delivery of a deleted customer erased")
		return eventlog.Erase()
	}
	return eventlog.Done()
}

func (n *Normalizer) erasable(ctx context.Context, w *work) (bool, error) {
	if w.providerID == "" || w.outcome == outcomeOtherMode {
		return false, nil
	}
	id, err := w.applier.OwnerOf(ctx, w.providerID, w.delivery)
	if err != nil {
		return false, err
	}
	if id == "" {
		id = w.customerID
	}
	w.customerID = id
	return w.applier.Erasable(ctx, w.providerID, id, w.delivery.CustomerID)
}

// bury sets a delivery aside with the reason. A crash between the dead letter and the acknowledgement leaves both: the
// delivery comes again and is buried again under the same subject.
func (n *Normalizer) bury(ctx context.Context, w *work, cause error) eventlog.Result {
	id := w.delivery.ID
	if id == "" {
		_, id, _ = inboxTokens(w.Subject)
	}
	owner := ""
	if w.providerID != "" {
		// Found where it can be, so that erasing the customer finds the dead letter; it holds no body either way.
		owner, _ = w.applier.OwnerOf(ctx, w.providerID, w.delivery)
	}
	err := n.log.Bury(ctx, eventlog.DeadLetter{
		Stage: "normalizer", ID: id, CustomerID: owner, Stream: w.Stream, Sequence: w.Sequence, Subject: w.Subject,
		Reason: cause.Error(), Attempts: w.Attempt, History: n.failures.History(w.Sequence), RetryOf: w.retryOf, At: n.cfg.Now(),
	})
	if err != nil {
		return n.wait(w, err, "dead letter not stored, the delivery will be tried again")
	}
	crashpoint.Hit("normalizer.buried")
	w.log.Error().Err(cause).Msg("delivery set aside as a dead letter")
	return n.finish(ctx, w, "buried")
}

// failed keeps a failure of a delivery and says how many count. They are lost with the process, which only means a few
// more attempts.
func (n *Normalizer) failed(w *work, err error, counts bool) int {
	return n.failures.Note(w.Sequence, eventlog.Failure{At: n.cfg.Now(), Attempt: w.Attempt, Reason: err.Error()}, counts)
}

func (n *Normalizer) count(w *work, result string) {
	provider := w.providerID
	if provider == "" {
		provider = "unknown"
	}
	n.results.WithLabelValues(provider, result).Inc()
	n.onResult(result)
}
