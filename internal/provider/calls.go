package provider

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// Sent is one HTTP request of a call and what became of it, as an adapter tells it: nothing of its body, no secret.
type Sent struct {
	Operation string // "payment_intents.create"
	Key       string // the idempotency key that was sent, "" of a read
	ObjectID  string // the provider's object that it acted on or made, "" if there is none
	Began     time.Time
	Took      time.Duration
	Status    int    // of HTTP, 0 if no answer came
	RequestID string // the provider's
	Replayed  bool
	Err       *Error // nil = answered as wanted
}

// CallStore keeps records of calls. [eventlog.Log] is one.
type CallStore interface {
	// StoreCalls stores them in order; an error means that it is not known which of them are stored.
	StoreCalls(ctx context.Context, calls []eventlog.Call) error
}

type sentKey struct{}

// WithSent has told called with each HTTP request of the calls in ctx, once it is known what became of it. told must not block.
func WithSent(ctx context.Context, told func(Sent)) context.Context {
	return context.WithValue(ctx, sentKey{}, told)
}

// TellSent is called by an adapter with each HTTP request that it made.
func TellSent(ctx context.Context, s Sent) {
	if told, ok := ctx.Value(sentKey{}).(func(Sent)); ok {
		told(s)
	}
}

// unit is what the worker works on: whom calls are made for, and which event asked for them.
type unit struct{ entity, entityID, customerID, eventID string }

type unitKey struct{}

func withUnit(ctx context.Context, r request) context.Context {
	return context.WithValue(ctx, unitKey{}, &unit{
		entity: string(r.event.Entity()), entityID: r.event.Subject, customerID: r.event.CustomerID(), eventID: r.event.ID,
	})
}

const (
	callsQueued   = 4096             // records that wait to be stored; about 400 bytes each
	callsAtOnce   = 256              // of one write
	callsTries    = 5                // of one write while the storage can't be reached
	callsRetry    = time.Second      // doubled with each
	callsPatience = 10 * time.Second // for one write
	callsLast     = time.Second      // for what is left when the worker ends
)

// callRecorder keeps a record of each HTTP request to a provider, beside the work and never in its way: a record is put
// into a queue, and one that finds it full is dropped and counted. A crash loses what is queued, the last moment's; the
// records explain what happened and decide nothing.
type callRecorder struct {
	store   CallStore
	logger  zerolog.Logger
	queue   chan eventlog.Call
	dropped prometheus.Counter
	retry   time.Duration // the first wait after a write that failed
}

// newCallRecorder makes a recorder; without a store it is nil, which records nothing.
func newCallRecorder(store CallStore, logger zerolog.Logger, r prometheus.Registerer) *callRecorder {
	if store == nil {
		return nil
	}
	return &callRecorder{
		store: store, logger: logger, queue: make(chan eventlog.Call, callsQueued), retry: callsRetry,
		dropped: registered(r, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "paykit_call_records_dropped_total",
			Help: "Records of provider calls that were not stored: explain shows a gap, nothing else is missing.",
		})),
	}
}

// following has the calls in ctx recorded, as those of the event that is worked on.
func (c *callRecorder) following(ctx context.Context, providerID string) context.Context {
	if c == nil {
		return ctx
	}
	u, _ := ctx.Value(unitKey{}).(*unit)
	if u == nil {
		u = &unit{}
	}
	attempt := AttemptOf(ctx)
	return WithSent(ctx, func(s Sent) { c.record(u, providerID, attempt, s) })
}

func (c *callRecorder) record(u *unit, providerID string, attempt int, s Sent) {
	call := eventlog.Call{
		Time: s.Began.UTC(), Operation: s.Operation, IdempotencyKey: s.Key, RequestID: s.RequestID, Attempt: attempt, Outcome: "ok",
		Status: s.Status, Replayed: s.Replayed, DurationMs: s.Took.Round(time.Millisecond).Milliseconds(),
		Entity: u.entity, EntityID: u.entityID, CustomerID: u.customerID, ProviderID: providerID, ObjectID: s.ObjectID, EventID: u.eventID,
	}
	if s.Err != nil {
		call.Outcome, call.Code, call.DeclineCode = s.Err.Class.String(), s.Err.Code, s.Err.DeclineCode
	}
	select {
	case c.queue <- call:
	default:
		c.dropped.Inc()
	}
}

// start begins to store what is recorded. stop stores what is left, for a moment, and returns when that is done.
func (c *callRecorder) start(ctx context.Context) (stop func()) {
	if c == nil {
		return func() {}
	}
	stopped, ended := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(ended)
		c.run(ctx, stopped)
	}()
	return func() {
		close(stopped)
		last := time.AfterFunc(callsLast, cancel) // also a write that is under way to a store that does not answer
		<-ended
		last.Stop()
		cancel()
	}
}

// run stores what is queued until stop is closed, and then what is left, until ctx ends.
func (c *callRecorder) run(ctx context.Context, stop <-chan struct{}) {
	for {
		select {
		case call := <-c.queue:
			c.put(ctx, stop, c.batch(call))
		case <-stop:
			for {
				select {
				case call := <-c.queue:
					c.put(ctx, stop, c.batch(call))
				default:
					return
				}
			}
		}
	}
}

// batch takes what else is queued.
func (c *callRecorder) batch(first eventlog.Call) []eventlog.Call {
	list := append(make([]eventlog.Call, 0, min(1+len(c.queue), callsAtOnce)), first)
	for len(list) < callsAtOnce {
		select {
		case call := <-c.queue:
			list = append(list, call)
		default:
			return list
		}
	}
	return list
}

// put stores records, again for a while if the storage can't be reached; the queue holds what comes meanwhile. What was
// stored although it did not seem so is there twice then, and read once.
func (c *callRecorder) put(ctx context.Context, stop <-chan struct{}, list []eventlog.Call) {
	wait := c.retry
	for try := 1; ; try++ {
		within, cancel := context.WithTimeout(ctx, callsPatience)
		err := c.store.StoreCalls(within, list)
		cancel()
		if err == nil {
			return
		}
		again := try < callsTries && ctx.Err() == nil && eventlog.IsUnavailable(err) && !errors.Is(err, eventlog.ErrStorageFull)
		if again {
			select {
			case <-time.After(wait):
				wait *= 2
				continue
			case <-stop:
			}
		}
		c.dropped.Add(float64(len(list)))
		c.logger.Warn().Err(err).Int("records", len(list)).Msg("records of provider calls not stored")
		return
	}
}
