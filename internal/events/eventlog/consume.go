package eventlog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events"
)

// Message is one delivery of a durable consumer.
type Message struct {
	Stream   string
	Sequence uint64
	Subject  string
	Data     []byte
	Header   nats.Header
	Attempt  int       // counts deliveries from 1, also those that a shutdown or a crash cut short
	Time     time.Time // when it was stored
	Received time.Time // when it came here, by this process's clock; zero = not known

	event     *events.Event    // decoded already; nil = not
	upcasters events.Upcasters // nil = the program's own
}

// Message is an entry as a consumer would deliver it for the first time, for who hands out messages himself.
func (e Entry) Message(stream string, at time.Time) Message {
	return Message{Stream: stream, Sequence: e.Sequence, Subject: e.Subject, Data: e.Raw, Attempt: 1, Time: at, event: e.Event}
}

// Event decodes a message of the LOG. Its errors are those of [events.Decode].
func (m Message) Event() (*events.Event, error) {
	if m.event != nil {
		return m.event, nil
	}
	if m.upcasters == nil {
		return events.Decode(m.Data)
	}
	return m.upcasters.Decode(m.Data)
}

// Result says what becomes of a message; the zero value is [Done].
type Result struct {
	verdict verdict
	after   time.Duration
}

type verdict int

const (
	verdictDone verdict = iota
	verdictRetry
	verdictErase
)

// Done acknowledges the message: every event that it leads to is appended.
func Done() Result { return Result{} }

// Retry has the message delivered again after a while. Later messages of its lane may pass it.
func Retry(after time.Duration) Result {
	return Result{verdict: verdictRetry, after: max(after, 0)}
}

// Erase securely deletes the message instead of acknowledging it, which would leave its bytes in the file: for commands
// and for deliveries of a deleted customer.
func Erase() Result { return Result{verdict: verdictErase} }

// Again tells whether the message is to be delivered again, and after how long.
func (r Result) Again() (after time.Duration, again bool) { return r.after, r.verdict == verdictRetry }

// Erased tells whether the message is to be securely deleted.
func (r Result) Erased() bool { return r.verdict == verdictErase }

// ConsumeOptions say how messages are worked on.
type ConsumeOptions struct {
	Lanes    int                                         // handlers that run at once; 0 = 16
	Lane     func(Message) string                        // messages of one lane are handled in order, one at a time
	Handle   func(ctx context.Context, m Message) Result // must be safe to run again for the same message
	Logger   zerolog.Logger                              //
	OnActive func(active bool)                           // this process became the active one (nobody else is), or a stand-by; may be nil
}

const (
	defaultLanes    = 16
	inHandMost      = 16_384          // messages in hand, running and queued: so many of one lane before the others wait for it
	inHandBytes     = 32 << 20        // and their size
	itemOverhead    = 1 << 10         // of each, beside its body
	pullMessages    = 128             // asked for ahead
	pullExpiry      = 4 * time.Second // under the pinned TTL: each pull renews the pin
	pullHeartbeat   = 1 * time.Second // of the server while a pull waits
	pullAgain       = 200 * time.Millisecond
	drainGrace      = 5 * time.Second // for running handlers at the end
	drainCut        = time.Second     // for handlers whose context was cancelled
	panicRetryFirst = time.Second     // after a panic of the handler, growing
	panicRetryMost  = time.Minute
	eraseRetry      = 5 * time.Second // after a failed secure deletion
	pinLook         = 5 * time.Second
	headerPin       = "Nats-Pin-Id" // the server's
)

// Consume works on a durable consumer's messages until ctx ends, then stops taking messages, gives running handlers 5 s
// to finish (after that their context is cancelled) and hands back the rest. It returns nil after such an end,
// [ErrNotProvisioned] if the consumer is not there, or what stopped it.
//
// Messages are sorted into lanes by key; a lane's are handled in order and one at a time, lanes at once up to
// o.Lanes. What is in hand, running or queued, is kept from being delivered again by a heartbeat every third of the
// consumer's AckWait. Of [ConsumerRequests], [ConsumerSettling] and [ConsumerWorkerDecisions] one process is active at a
// time; the others stand by and take over within 10 s. Delivery is at least once, and after a takeover out of order: handlers must be safe for
// both. A panic of a handler is logged and counts as [Retry].
func (l *Log) Consume(ctx context.Context, consumer ConsumerName, o ConsumeOptions) error {
	stream := l.stream(streamLog)
	switch consumer {
	case ConsumerNormalizer:
		stream = l.stream(streamInbox)
	case ConsumerCommands:
		stream = l.stream(streamCommands)
	case ConsumerWorkerDecisions, ConsumerIngestDecisions:
		stream = l.stream(streamDead)
	case ConsumerRequests, ConsumerSettling:
	default:
		return fmt.Errorf("consume: there is no consumer %q", consumer)
	}
	cons, err := l.js.Consumer(ctx, stream, string(consumer))
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("consume %s: %w", consumer, ErrNotProvisioned)
	}
	if err != nil {
		return fmt.Errorf("consume %s: %w", consumer, readError(err))
	}
	config := cons.CachedInfo().Config
	pinned := config.PriorityPolicy == jetstream.PriorityPolicyPinned
	active := &activity{on: o.OnActive}
	work := newLanes(ctx, l, stream, o)
	var beside sync.WaitGroup
	beside.Go(func() { work.heartbeat(config.AckWait / 3) })
	watching, stopWatching := context.WithCancel(ctx)
	if pinned {
		beside.Go(func() { l.watchPin(watching, cons, active) })
	}
	strays := newStrays(l, stream, work)
	if consumer == ConsumerCommands {
		beside.Go(func() { strays.run(watching) })
	}
	for {
		err = l.pull(ctx, cons, pinned, work, active)
		if err == nil || !l.again(ctx, cons, err) {
			break
		}
		o.Logger.Warn().Err(err).Str("consumer", string(consumer)).Msg("consuming interrupted")
		strays.look()
	}
	stopWatching()
	work.drain()
	beside.Wait()
	if hadPin := active.end(); hadPin {
		l.unpin(ctx, stream, consumer)
	}
	if err != nil {
		return fmt.Errorf("consume %s: %w", consumer, err)
	}
	return nil
}

// pull hands messages to the lanes until ctx ends or the consumer is gone.
func (l *Log) pull(ctx context.Context, cons jetstream.Consumer, pinned bool, work *lanes, active *activity) error {
	gone := make(chan error, 1)
	options := []jetstream.PullConsumeOpt{
		jetstream.PullMaxMessages(pullMessages), jetstream.PullExpiry(pullExpiry), jetstream.PullHeartbeat(pullHeartbeat),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			switch {
			case errors.Is(err, jetstream.ErrPinIDMismatch):
				active.lost()
			case errors.Is(err, jetstream.ErrConsumerDeleted), errors.Is(err, jetstream.ErrBadRequest),
				errors.Is(err, jetstream.ErrConnectionClosed):
				select {
				case gone <- err:
				default:
				}
			}
		}),
	}
	if pinned {
		options = append(options, jetstream.PullPriorityGroup(pinnedGroup))
	} else {
		active.holder("")
	}
	cc, err := cons.Consume(func(msg jetstream.Msg) {
		if pinned {
			active.got(msg.Headers().Get(headerPin))
		}
		work.add(msg)
	}, options...)
	if err != nil {
		return readError(err)
	}
	select {
	case <-ctx.Done():
	case <-cc.Closed():
	}
	// What was delivered already still comes through and is handed back by the lanes. Without a connection the client would
	// wait for it too long.
	cc.Drain()
	bound := time.NewTimer(drainCut)
	defer bound.Stop()
	select {
	case <-cc.Closed():
	case <-bound.C:
	}
	if ctx.Err() != nil {
		return nil
	}
	select {
	case err := <-gone:
		if errors.Is(err, jetstream.ErrConsumerDeleted) {
			return fmt.Errorf("%w: %w", ErrNotProvisioned, err)
		}
		return readError(err)
	default:
		return fmt.Errorf("%w: the subscription was closed", ErrUnavailable)
	}
}

// again tells, after a moment, whether pulling goes on after it ended with err: not if the consumer or the connection is
// gone.
func (l *Log) again(ctx context.Context, cons jetstream.Consumer, err error) bool {
	if errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, jetstream.ErrConnectionClosed) {
		return false
	}
	if _, err := cons.Info(ctx); errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return false
	}
	t := time.NewTimer(pullAgain)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return !l.nc.IsClosed()
	}
}

// unpin lets a stand-by take over at once and not only when the pin has run out; best effort.
func (l *Log) unpin(ctx context.Context, stream string, consumer ConsumerName) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainCut)
	defer cancel()
	s, err := l.js.Stream(ctx, stream)
	if err == nil {
		err = s.UnpinConsumer(ctx, string(consumer), pinnedGroup)
	}
	if err != nil {
		l.cfg.Logger.Debug().Err(err).Str("consumer", string(consumer)).Msg("pin not given back")
	}
}

// watchPin looks at who has the pin, until ctx ends. The server gives it with a message and takes it back from a process
// that went away. While nobody has it, on a quiet system, this process is as good as any.
func (l *Log) watchPin(ctx context.Context, cons jetstream.Consumer, active *activity) {
	t := time.NewTicker(pinLook)
	defer t.Stop()
	for {
		if info, err := cons.Info(ctx); err == nil { // else what was known still counts
			for _, group := range info.PriorityGroups {
				if group.Group == pinnedGroup {
					active.holder(group.PinnedClientID)
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// activity knows whether this process is the active one, and tells changes only.
type activity struct {
	mu   sync.Mutex
	on   func(bool)
	now  bool
	mine string // our pin, as the last message named it
}

// got notes that a message came under a pin.
func (a *activity) got(pin string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mine = pin
	a.set(true)
}

// lost notes that the server refused our pin.
func (a *activity) lost() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mine = ""
	a.set(false)
}

// holder notes whose pin it is, "" for nobody's.
func (a *activity) holder(pin string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.set(pin == "" || pin == a.mine)
}

// end tells whether the pin was ours until now.
func (a *activity) end() (hadPin bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	hadPin = a.now && a.mine != ""
	a.set(false)
	return hadPin
}

// set expects a.mu.
func (a *activity) set(now bool) {
	if a.now != now && a.on != nil {
		a.on(now)
	}
	a.now = now
}
