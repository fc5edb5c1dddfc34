package paykit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/paykit-go/paykit/internal/events"
)

// Handlers says what an app does with which event; a field left nil is not asked for. A handler that returns nil has
// dealt with its event for good. One that returns an error, or panics, is called again with the same event, a little
// later each time and at last each minute; [OnError] is told. The customer's later events wait for it, other customers' do
// not. A handler should end with its context, which ends with the subscription's: as long as it runs it holds one of the
// places of [WithConcurrency].
//
// Delivery is at least once: an event can come twice (Event.ID is the same both times), after a crash or when a process
// could not reach the server for a while. A process handles one customer's events in order and one at a time, from the first
// event of history to those that happen now; only after a crash, or when several processes share a name, can an older event
// come after a newer one of its entity: then its Event.EntityVersion is the smaller. [InOrder] keeps the order there too.
type Handlers struct {
	CustomerCreated func(context.Context, CustomerEvent) error
	CustomerUpdated func(context.Context, CustomerEvent) error
	CustomerDeleted func(context.Context, CustomerEvent) error

	ProviderAccountLinked   func(context.Context, ProviderAccountEvent) error
	ProviderAccountUnlinked func(context.Context, ProviderAccountEvent) error

	CheckoutRequested       func(context.Context, CheckoutEvent) error
	CheckoutCreated         func(context.Context, CheckoutEvent) error
	CheckoutExpireRequested func(context.Context, CheckoutEvent) error
	CheckoutCompleted       func(context.Context, CheckoutEvent) error
	CheckoutExpired         func(context.Context, CheckoutEvent) error
	CheckoutFailed          func(context.Context, CheckoutEvent) error

	SetupRequested        func(context.Context, SetupEvent) error
	SetupCreated          func(context.Context, SetupEvent) error
	SetupRefreshRequested func(context.Context, SetupEvent) error
	SetupCompleted        func(context.Context, SetupEvent) error
	SetupExpired          func(context.Context, SetupEvent) error
	SetupFailed           func(context.Context, SetupEvent) error

	PaymentMethodAttached         func(context.Context, PaymentMethodEvent) error
	PaymentMethodUpdated          func(context.Context, PaymentMethodEvent) error
	PaymentMethodExpiring         func(context.Context, PaymentMethodEvent) error // its last month begins
	PaymentMethodDefaultRequested func(context.Context, PaymentMethodEvent) error
	PaymentMethodDefaultSet       func(context.Context, PaymentMethodEvent) error
	PaymentMethodDetachRequested  func(context.Context, PaymentMethodEvent) error
	PaymentMethodDetached         func(context.Context, PaymentMethodEvent) error

	ChargeRequested        func(context.Context, ChargeEvent) error
	ChargeProcessing       func(context.Context, ChargeEvent) error
	ChargeRequiresAction   func(context.Context, ChargeEvent) error
	ChargeInDoubt          func(context.Context, ChargeEvent) error
	ChargeSucceeded        func(context.Context, ChargeEvent) error
	ChargeFailed           func(context.Context, ChargeEvent) error
	ChargeCancelRequested  func(context.Context, ChargeEvent) error
	ChargeCanceled         func(context.Context, ChargeEvent) error
	ChargeRefundRequested  func(context.Context, ChargeEvent) error // Refund is set
	ChargeRefunded         func(context.Context, ChargeEvent) error // Refund is set
	ChargeRefundFailed     func(context.Context, ChargeEvent) error // Refund is set
	ChargeDisputed         func(context.Context, ChargeEvent) error // Dispute is set
	ChargeDisputeClosed    func(context.Context, ChargeEvent) error // Dispute is set
	ChargeRefreshRequested func(context.Context, ChargeEvent) error
	ChargeUpdated          func(context.Context, ChargeEvent) error // Refund is set: it is pending; or Dispute: its money was moved; or Charge.Retry moved, or Charge.Resolution keeps a second payment
	ChargeFraudWarned      func(context.Context, ChargeEvent) error // FraudWarning is set
	ChargeReviewRequested  func(context.Context, ChargeEvent) error // a person must look: Charge.Review says why
	ChargeRetryRequested   func(context.Context, ChargeEvent) error // the next attempt of a declined charge is made

	CommandRejected func(context.Context, CommandEvent) error // a queued command was refused

	// Any is called for every event that no other field takes.
	Any func(context.Context, Event) error
}

// CustomerRef names an event's customer; its profile can be had from the client.
type CustomerRef struct {
	events.CustomerRef
	c *Client
}

// Profile answers the customer as it is now, with e-mail, name and metadata. They are not part of history.
func (r CustomerRef) Profile(ctx context.Context) (*Customer, error) {
	return r.c.Customer.Get(ctx, r.ID)
}

// CustomerEvent is an event of a customer. Changed names the fields that changed.
type CustomerEvent struct {
	Event    Event
	Customer CustomerRef
	Changed  []string
}

// ProviderAccountEvent is an event of a customer's account at a provider.
type ProviderAccountEvent struct {
	Event           Event
	Customer        CustomerRef
	ProviderAccount events.ProviderAccount
}

// CheckoutEvent is an event of a checkout.
type CheckoutEvent struct {
	Event    Event
	Customer CustomerRef
	Checkout Checkout
}

// SetupEvent is an event of a setup.
type SetupEvent struct {
	Event    Event
	Customer CustomerRef
	Setup    Setup
}

// PaymentMethodEvent is an event of a saved method.
type PaymentMethodEvent struct {
	Event         Event
	Customer      CustomerRef
	PaymentMethod events.PaymentMethod
}

// ChargeEvent is an event of a charge.
type ChargeEvent struct {
	Event    Event
	Customer CustomerRef
	Charge   Charge
	Refund   *Refund  // in refund events, the refund it is about
	Dispute  *Dispute // in dispute events, the dispute it is about

	FraudWarning *FraudWarning // in ChargeFraudWarned, the warning it is about
}

// CommandEvent is the refusal of a queued command. Customer is whom the command named, if there is such a one.
type CommandEvent struct {
	Event    Event
	Customer CustomerRef
	Command  events.Command
}

// SubscribeOption changes a subscription.
type SubscribeOption func(*subscription)

// FromBeginning makes a new subscription start with the first event there ever was; without it, it starts with the
// events after its creation. A subscription that exists already goes on where it was; a handler that is added to it gets
// the events from then on.
func FromBeginning() SubscribeOption { return func(s *subscription) { s.beginning = true } }

// InOrder keeps each customer's events in order also where several processes share the name, and after a crash: one of them
// works, the others stand by and take over 35 seconds after it was last heard of, when all that it had in hand is delivered
// again. Only a process that is cut off from the server and goes on with what it has in hand can then still be at work beside
// them. It is decided when the subscription is made, and for all processes: on one that was made without it, Subscribe fails.
func InOrder() SubscribeOption { return func(s *subscription) { s.inOrder = true } }

// WithConcurrency bounds how many customers' events are handled at once (default 16).
func WithConcurrency(n int) SubscribeOption {
	return func(s *subscription) { s.lanes = min(max(n, 1), maxInHand) }
}

// OnError is told of each error that a handler returned, and of each panic, before the handler is called again. It may be
// called by several goroutines at once.
func OnError(f func(Event, error)) SubscribeOption { return func(s *subscription) { s.onError = f } }

// ErrSubscriptionName is returned by [Client.Subscribe] for a name that can't name a consumer.
var ErrSubscriptionName = errors.New("a subscription's name is 1–64 letters, digits, - and _")

// ErrNotInOrder is returned by [Client.Subscribe] with [InOrder] for a subscription that was made without it.
var ErrNotInOrder = errors.New("the subscription was made without InOrder; take another name, or delete its consumer")

const (
	ackWait       = 30 * time.Second
	maxAckPending = 50_000 // of all processes, with what waits behind a customer whose handler fails
	fetchMost     = 256
	fetchWait     = time.Second // short, because a fetch is never cut off: the server would lose its place in the order
	flushWait     = time.Second

	// Of [InOrder]: the group of the one that works, how long after the end of AckWait the next may begin, so that what the last
	// one had in hand comes before anything newer, and how often one that has no room shows that it is there.
	orderGroup = "in-order"
	orderSlack = 5 * time.Second
	headerTurn = "Nats-Pin-Id" // the server's
	// After so many new messages in a row there are none of the last one's left.
	freshEnough = 64
	orderSign   = 10 * time.Second

	longestFetchPause = 2 * time.Second // between fetches that fail
)

type subscription struct {
	c         *Client
	handle    map[events.Type]func(context.Context, Event) error
	any       func(context.Context, Event) error
	onError   func(Event, error)
	beginning bool
	inOrder   bool

	// Of those that work in order one after the other, and of the fetching goroutine:
	turn    string          // what the server calls ours
	taking  []jetstream.Msg // what the one before us had in hand, while it comes; nil = it came
	fresh   int             // of the last of these, how many nobody ever had in hand
	lanes   int
	ackWait time.Duration
}

// Subscribe calls handlers for events, durably: under its name the installation remembers what was dealt with, so a
// process that was away catches up. It returns when ctx ends (nil, after the running handlers), or when the subscription
// can't go on: its consumer was deleted, or the connection closed. A server that is away for a while is waited for.
//
// Several processes may share a name and its work. An event that only some of them have a handler for, as while a new
// version is being rolled out, is left to those.
func (c *Client) Subscribe(ctx context.Context, name string, h Handlers, options ...SubscribeOption) error {
	if !regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`).MatchString(name) {
		return fmt.Errorf("%w: %q", ErrSubscriptionName, name)
	}
	s := &subscription{c: c, handle: h.byType(c), any: h.Any, onError: func(Event, error) {}, lanes: 16, ackWait: ackWait}
	for _, option := range options {
		option(s)
	}
	if len(s.handle) == 0 && s.any == nil {
		return errors.New("paykit: Subscribe without a handler")
	}
	consumer, err := s.consumer(ctx, name)
	if errors.Is(err, ErrNotInOrder) {
		return fmt.Errorf("subscription %s: %w", name, err)
	}
	if err != nil {
		return fmt.Errorf("%w: subscription %s: %w", ErrUnavailable, name, err)
	}
	if err := s.run(ctx, consumer); err != nil {
		return fmt.Errorf("%w: subscription %s: %w", ErrUnavailable, name, err)
	}
	return nil
}

// consumer makes the durable consumer, or finds it and brings it up to date. Where it starts is decided once, when it is
// made.
func (s *subscription) consumer(ctx context.Context, name string) (jetstream.Consumer, error) {
	js, err := jetstream.New(s.c.nc)
	if err != nil {
		return nil, err
	}
	stream := strings.ToUpper(s.c.prefix) + "_LOG"
	config := jetstream.ConsumerConfig{
		Durable:        "sub-" + name,
		Description:    "subscription " + name,
		DeliverPolicy:  jetstream.DeliverNewPolicy,
		AckPolicy:      jetstream.AckExplicitPolicy,
		AckWait:        s.ackWait,
		MaxAckPending:  maxAckPending,
		FilterSubjects: s.filters(),
	}
	if s.beginning {
		config.DeliverPolicy = jetstream.DeliverAllPolicy
	}
	if s.inOrder {
		config.PriorityPolicy, config.PriorityGroups = jetstream.PriorityPolicyPinned, []string{orderGroup}
		config.PinnedTTL = s.ackWait + orderSlack
	}
	// Processes that start at once may change the consumer between our look and our change: then we look again.
	for range 5 {
		var found jetstream.Consumer
		found, err = js.Consumer(ctx, stream, config.Durable)
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			if found, err = js.CreateConsumer(ctx, stream, config); err == nil {
				return found, nil
			}
			if errors.Is(err, jetstream.ErrConsumerExists) {
				continue // another process of this name was faster
			}
		}
		if err != nil {
			return nil, err
		}
		pinned := found.CachedInfo().Config.PriorityPolicy == jetstream.PriorityPolicyPinned
		if s.inOrder && !pinned {
			return nil, ErrNotInOrder
		}
		s.inOrder = pinned // as it was made, by whomever
		want, same := s.upToDate(found.CachedInfo(), config)
		if same {
			return found, nil
		}
		if _, err = js.UpdateConsumer(ctx, stream, want); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("its consumer is changed by others all the time")
}

// upToDate is the configuration that a found consumer should have, and whether it has it. While other processes wait for
// messages nothing that they asked for is taken away: what is skipped for one of the name is skipped for all.
func (s *subscription) upToDate(info *jetstream.ConsumerInfo, ours jetstream.ConsumerConfig) (want jetstream.ConsumerConfig, same bool) {
	has := info.Config
	filters := has.FilterSubjects
	if has.FilterSubject != "" {
		filters = []string{has.FilterSubject}
	}
	want = has
	want.FilterSubject, want.FilterSubjects = "", ours.FilterSubjects
	if info.NumWaiting > 0 {
		all := s.everything()
		if slices.Contains(filters, all) || slices.Contains(ours.FilterSubjects, all) {
			want.FilterSubjects = []string{all}
		} else {
			want.FilterSubjects = slices.Compact(slices.Sorted(slices.Values(slices.Concat(filters, ours.FilterSubjects))))
		}
	}
	want.AckWait, want.MaxAckPending = ours.AckWait, ours.MaxAckPending
	same = has.AckWait == want.AckWait && has.MaxAckPending == want.MaxAckPending &&
		slices.Equal(slices.Sorted(slices.Values(filters)), want.FilterSubjects)
	return want, same
}

// everything is the filter of all events.
func (s *subscription) everything() string { return s.c.prefix + ".log.>" }

// filters are the subjects of the events asked for, sorted; all of the LOG for Any.
func (s *subscription) filters() []string {
	if s.any != nil {
		return []string{s.everything()}
	}
	var list []string
	for t := range s.handle {
		list = append(list, s.c.prefix+".log."+string(t)+".*.*")
	}
	slices.Sort(list)
	return list
}

// run fetches messages into lanes, one a customer, until ctx ends or nothing can come any more.
func (s *subscription) run(ctx context.Context, consumer jetstream.Consumer) error {
	// The lanes end after the last fetch, at most a second later: what they give back must not be brought again to an
	// inbox that nobody reads any more.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l := newLanes(s.c.nc, ctx.Done(), s.lanes, s.ackWait, s.deal)
	stop := make(chan struct{})
	var heart sync.WaitGroup
	heart.Go(func() { l.beat(stop) })
	defer func() {
		cancel()
		l.finish()
		close(stop) // what runs is kept from being delivered again until it has ended
		heart.Wait()
		s.flush(work)
		s.giveUpTurn(work, consumer)
	}()
	for pause := firstPause; ; {
		n := s.room(ctx, l) // before messages are asked for, so that none waits where no heartbeat covers it
		if ctx.Err() != nil {
			return nil
		}
		err := nats.ErrDisconnected // nothing is asked for then: requests would pile up until it is back
		if s.c.nc.IsConnected() {
			err = s.fetch(consumer, min(n, fetchMost), func(m jetstream.Msg) { l.put(work, laneOf(m.Subject()), m) })
		}
		if err == nil {
			pause = firstPause
			continue
		}
		if err := s.gone(ctx, consumer, err); err != nil && ctx.Err() == nil {
			return err
		}
		select { // a new leader, a server that restarts
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
			pause = min(2*pause, longestFetchPause)
		}
	}
}

// room is how many messages may be asked for, 0 when ctx ends. Who works in order alone asks for one now and then even without
// room, or it would be taken for gone.
func (s *subscription) room(ctx context.Context, l *lanes) int {
	if !s.inOrder {
		return l.room(ctx)
	}
	sign, cancel := context.WithTimeout(ctx, min(orderSign, s.ackWait/3))
	defer cancel()
	if n := l.room(sign); n > 0 || ctx.Err() != nil {
		return n
	}
	return 1
}

// held tells whether a message is kept back for now: it is among those that another process had in hand before it was our
// turn. The server brings these before what is new, but for a few, and in no order.
func (s *subscription) held(m jetstream.Msg) bool {
	if turn := m.Headers().Get(headerTurn); turn != s.turn {
		s.turn = turn
		if s.taking == nil {
			s.taking = []jetstream.Msg{}
		}
	}
	if s.taking == nil {
		return false
	}
	s.taking = append(s.taking, m)
	s.fresh++
	if meta, err := m.Metadata(); err == nil && meta.NumDelivered > 1 {
		s.fresh = 0
	}
	return true
}

// letGo hands over what was kept back, in order.
func (s *subscription) letGo(put func(jetstream.Msg)) {
	bySequence := func(a, b jetstream.Msg) int {
		one, errOne := a.Metadata()
		other, errOther := b.Metadata()
		if errOne != nil || errOther != nil {
			return 0 // they had metadata when they were kept back
		}
		return cmp.Compare(one.Sequence.Stream, other.Sequence.Stream)
	}
	slices.SortStableFunc(s.taking, bySequence)
	for _, m := range s.taking {
		put(m)
	}
	s.taking, s.fresh = nil, 0
}

// giveUpTurn lets the next process begin at once, if it is this one that works in order. All that it had in hand was given
// back before. Best effort: without it the next one begins when nothing was heard of this one for long enough.
func (s *subscription) giveUpTurn(ctx context.Context, consumer jetstream.Consumer) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushWait)
	defer cancel()
	if !s.inOrder || s.turn == "" || !s.c.nc.IsConnected() {
		return
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		return
	}
	for _, group := range info.PriorityGroups {
		if group.Group != orderGroup || group.PinnedClientID != s.turn {
			continue
		}
		if js, err := jetstream.New(s.c.nc); err == nil {
			if stream, err := js.Stream(ctx, info.Stream); err == nil {
				_ = stream.UnpinConsumer(ctx, info.Name, orderGroup)
			}
		}
	}
}

// fetch asks for up to n messages and hands over those that come in time.
func (s *subscription) fetch(consumer jetstream.Consumer, n int, put func(jetstream.Msg)) error {
	// Jittered: of processes that ask in step the server would answer the same one each time.
	wait := fetchWait/2 + rand.N(fetchWait/2) //nolint:gosec // G404: jitter, not a secret
	options := []jetstream.FetchOpt{jetstream.FetchMaxWait(wait)}
	if s.inOrder {
		options = append(options, jetstream.FetchPriorityGroup(orderGroup))
	}
	batch, err := consumer.Fetch(n, options...)
	if err != nil {
		return err
	}
	came := 0
	for m := range batch.Messages() {
		came++
		if s.inOrder && s.held(m) {
			if s.fresh >= freshEnough {
				s.letGo(put)
			}
			continue
		}
		put(m)
	}
	if batch.Error() == nil && came < n {
		s.letGo(put) // nothing more is there
	}
	return batch.Error()
}

// gone tells whether a failed fetch means that no message will ever come again.
func (s *subscription) gone(ctx context.Context, consumer jetstream.Consumer, cause error) error {
	switch {
	case s.c.nc.IsClosed():
		return nats.ErrConnectionClosed
	case !s.c.nc.IsConnected():
		return nil
	case errors.Is(cause, jetstream.ErrConsumerDeleted):
		return cause
	}
	_, err := consumer.Info(ctx)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	return nil
}

// flush waits until the server has the last acknowledgements: the process may end right after Subscribe.
func (s *subscription) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushWait)
	defer cancel()
	if s.c.nc.IsConnected() {
		_ = s.c.nc.FlushWithContext(ctx) // what is lost is delivered again
	}
}

// laneOf is the last token of a subject, the customer; of an event without one, the entity before it.
func laneOf(subject string) string {
	tokens := strings.Split(subject, ".")
	last := len(tokens) - 1
	if last > 0 && tokens[last] == events.None {
		last--
	}
	return tokens[last]
}

// deal calls the handler of a message's event once.
func (s *subscription) deal(ctx context.Context, it *item) verdict {
	e, err := events.Decode(it.data)
	if errors.Is(err, events.ErrUnknownType) || errors.Is(err, events.ErrUnknownSchema) {
		return notKnown // an app skips it, unless another of its processes is newer
	}
	if err != nil {
		return noEvent
	}
	handler := s.handle[e.Type]
	if handler == nil {
		handler = s.any
	}
	if handler == nil {
		return notAsked
	}
	if err := guarded(ctx, handler, *e); err != nil {
		if ctx.Err() == nil {
			s.onError(*e, err)
		}
		return again
	}
	return dealtWith
}

// guarded turns a handler's panic into an error, so that one event does not end the app's subscription.
func guarded(ctx context.Context, handler func(context.Context, Event) error, e Event) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("handler of %s panicked: %v\n%s", e.Type, p, debug.Stack())
		}
	}()
	return handler(ctx, e)
}
