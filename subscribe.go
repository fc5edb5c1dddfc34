package paykit

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/paykit-go/paykit/internal/events"
)

// Handlers says what an app does with which event; a field left nil is not asked for. A handler that returns nil has
// dealt with its event for good. One that returns an error, or panics, is called again with the same event, a little later each
// time, and the customer's later events wait for it.
//
// Delivery is at least once: an event can come twice (Event.ID is the same both times), after a crash or when a
// handler takes longer than the process lives.
type Handlers struct {
	CustomerCreated func(context.Context, CustomerEvent) error
	CustomerUpdated func(context.Context, CustomerEvent) error
	CustomerDeleted func(context.Context, CustomerEvent) error

	CheckoutCreated   func(context.Context, CheckoutEvent) error
	CheckoutCompleted func(context.Context, CheckoutEvent) error
	CheckoutExpired   func(context.Context, CheckoutEvent) error
	CheckoutFailed    func(context.Context, CheckoutEvent) error

	SetupCompleted func(context.Context, SetupEvent) error
	SetupExpired   func(context.Context, SetupEvent) error
	SetupFailed    func(context.Context, SetupEvent) error

	PaymentMethodAttached   func(context.Context, PaymentMethodEvent) error
	PaymentMethodUpdated    func(context.Context, PaymentMethodEvent) error
	PaymentMethodDefaultSet func(context.Context, PaymentMethodEvent) error
	PaymentMethodDetached   func(context.Context, PaymentMethodEvent) error

	ChargeProcessing     func(context.Context, ChargeEvent) error
	ChargeRequiresAction func(context.Context, ChargeEvent) error
	ChargeSucceeded      func(context.Context, ChargeEvent) error
	ChargeFailed         func(context.Context, ChargeEvent) error
	ChargeCanceled       func(context.Context, ChargeEvent) error
	ChargeRefunded       func(context.Context, ChargeEvent) error // Refund is set
	ChargeRefundFailed   func(context.Context, ChargeEvent) error // Refund is set
	ChargeDisputed       func(context.Context, ChargeEvent) error // Dispute is set
	ChargeDisputeClosed  func(context.Context, ChargeEvent) error // Dispute is set

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
}

// CommandEvent is the refusal of a queued command.
type CommandEvent struct {
	Event   Event
	Command events.Command
}

// SubscribeOption changes a subscription.
type SubscribeOption func(*subscription)

// FromBeginning makes a new subscription start with the first event there ever was; without it, it starts with the
// events after its creation. A subscription that exists already goes on where it was.
func FromBeginning() SubscribeOption { return func(s *subscription) { s.beginning = true } }

// WithConcurrency bounds how many customers' events are handled at once (default 16). One customer's events are always
// handled one after the other, in order.
func WithConcurrency(n int) SubscribeOption { return func(s *subscription) { s.lanes = max(n, 1) } }

// ErrSubscriptionName is returned by [Client.Subscribe] for a name that can't name a consumer.
var ErrSubscriptionName = errors.New("a subscription's name is 1–64 letters, digits, - and _")

const (
	ackWait     = 30 * time.Second
	maxInFlight = 512
)

type subscription struct {
	c         *Client
	handle    map[events.Type]func(context.Context, Event) error
	any       func(context.Context, Event) error
	beginning bool
	lanes     int
}

// Subscribe calls handlers for events, durably: under its name the installation remembers what was dealt with, so a
// process that was away catches up. Several processes may share a name and its work. It returns when ctx ends (nil, after
// the running handlers) or when the subscription can't go on.
func (c *Client) Subscribe(ctx context.Context, name string, h Handlers, options ...SubscribeOption) error {
	if !regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`).MatchString(name) {
		return fmt.Errorf("%w: %q", ErrSubscriptionName, name)
	}
	s := &subscription{c: c, handle: h.byType(c), any: h.Any, lanes: 16}
	for _, option := range options {
		option(s)
	}
	if len(s.handle) == 0 && s.any == nil {
		return errors.New("paykit: Subscribe without a handler")
	}
	consumer, err := s.consumer(ctx, name)
	if err != nil {
		return err
	}
	return s.run(ctx, consumer)
}

// consumer makes the durable consumer, or finds it and brings its filters up to date. Where it starts is decided once,
// when it is made.
func (s *subscription) consumer(ctx context.Context, name string) (jetstream.Consumer, error) {
	js, err := jetstream.New(s.c.nc)
	if err != nil {
		return nil, fmt.Errorf("paykit: jetstream: %w", err)
	}
	stream := strings.ToUpper(s.c.prefix) + "_LOG"
	config := jetstream.ConsumerConfig{
		Durable:        "sub-" + name,
		Description:    "subscription " + name,
		DeliverPolicy:  jetstream.DeliverNewPolicy,
		AckPolicy:      jetstream.AckExplicitPolicy,
		AckWait:        ackWait,
		MaxAckPending:  maxInFlight,
		FilterSubjects: s.filters(),
	}
	if s.beginning {
		config.DeliverPolicy = jetstream.DeliverAllPolicy
	}
	consumer, err := js.Consumer(ctx, stream, config.Durable)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		consumer, err = js.CreateConsumer(ctx, stream, config)
		if errors.Is(err, jetstream.ErrConsumerExists) { // another process of this name was faster
			consumer, err = js.Consumer(ctx, stream, config.Durable)
		}
	case err == nil && !slices.Equal(filtersOf(consumer.CachedInfo().Config), config.FilterSubjects):
		config.DeliverPolicy = consumer.CachedInfo().Config.DeliverPolicy
		consumer, err = js.UpdateConsumer(ctx, stream, config)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: subscription %s: %w", ErrUnavailable, name, err)
	}
	return consumer, nil
}

// filters are the subjects of the events asked for; all of the LOG for Any.
func (s *subscription) filters() []string {
	if s.any != nil {
		return []string{s.c.prefix + ".log.>"}
	}
	var list []string
	for t := range s.handle {
		list = append(list, s.c.prefix+".log."+string(t)+".*.*")
	}
	slices.Sort(list)
	return list
}

func filtersOf(c jetstream.ConsumerConfig) []string {
	if c.FilterSubject != "" {
		return []string{c.FilterSubject}
	}
	return slices.Sorted(slices.Values(c.FilterSubjects))
}

// run pulls messages into lanes, one a customer, so that a slow or failing handler holds up that customer only.
func (s *subscription) run(ctx context.Context, consumer jetstream.Consumer) error {
	messages, err := consumer.Messages(jetstream.PullMaxMessages(s.lanes*2), jetstream.PullExpiry(5*time.Second))
	if err != nil {
		return fmt.Errorf("%w: subscribe: %w", ErrUnavailable, err)
	}
	stop := context.AfterFunc(ctx, messages.Stop)
	defer stop()
	lanes := newLanes(s.lanes, func(m jetstream.Msg) { s.deal(ctx, m) })
	defer lanes.wait()
	beating := make(chan struct{})
	defer close(beating)
	go lanes.beat(beating)
	for {
		m, err := messages.Next()
		switch {
		case ctx.Err() != nil || errors.Is(err, jetstream.ErrMsgIteratorClosed):
			return nil
		case errors.Is(err, jetstream.ErrConsumerDeleted), errors.Is(err, jetstream.ErrConsumerNotFound):
			return fmt.Errorf("%w: the subscription was deleted: %w", ErrUnavailable, err)
		case err != nil: // a missed heartbeat, a reconnect: the iterator goes on by itself
			continue
		}
		lanes.put(ctx, customerToken(m.Subject()), m)
	}
}

func customerToken(subject string) string { return subject[strings.LastIndexByte(subject, '.')+1:] }

// deal calls the handler until it is content, acknowledges, and keeps the message ours meanwhile. A crash before the
// acknowledgement leaves the message to be delivered again.
func (s *subscription) deal(ctx context.Context, m jetstream.Msg) {
	e, err := events.Decode(m.Data())
	if errors.Is(err, events.ErrUnknownType) { // of a newer version; an app skips it
		_ = m.Ack()
		return
	}
	if err != nil {
		_ = m.TermWithReason("not an event")
		return
	}
	handler := s.handle[e.Type]
	if handler == nil {
		handler = s.any
	}
	if handler == nil {
		_ = m.Ack()
		return
	}
	pause := 250 * time.Millisecond
	for {
		if ctx.Err() == nil && guarded(ctx, handler, *e) == nil {
			_ = m.Ack()
			return
		}
		select {
		case <-ctx.Done():
			_ = m.Nak()
			return
		case <-time.After(pause):
			pause = min(2*pause, time.Minute)
		}
	}
}

// guarded turns a handler's panic into an error, so that one event does not end the app's subscription.
func guarded(ctx context.Context, handler func(context.Context, Event) error, e Event) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("handler of %s panicked: %v", e.Type, p)
		}
	}()
	return handler(ctx, e)
}

// lanes run jobs one after the other per key, and at most n keys at once. What is in them is kept from being delivered
// again, since JetStream counts the time from the moment it sent a message.
type lanes struct {
	do    func(jetstream.Msg)
	slots chan struct{} // keys at work
	room  chan struct{} // messages in hand
	wg    sync.WaitGroup

	mu     sync.Mutex
	queue  map[string][]jetstream.Msg // guarded by mu; a key with an entry has a goroutine
	inHand map[jetstream.Msg]struct{} // guarded by mu
}

func newLanes(n int, do func(jetstream.Msg)) *lanes {
	return &lanes{
		do: do, slots: make(chan struct{}, n), room: make(chan struct{}, maxInFlight/2),
		queue: map[string][]jetstream.Msg{}, inHand: map[jetstream.Msg]struct{}{},
	}
}

// put queues a message, and waits while too many are in hand.
func (l *lanes) put(ctx context.Context, key string, m jetstream.Msg) {
	select {
	case l.room <- struct{}{}:
	case <-ctx.Done():
		_ = m.Nak()
		return
	}
	l.mu.Lock()
	waiting, running := l.queue[key]
	l.queue[key] = append(waiting, m)
	l.inHand[m] = struct{}{}
	l.mu.Unlock()
	if !running {
		l.wg.Go(func() { l.run(key) })
	}
}

func (l *lanes) run(key string) {
	l.slots <- struct{}{}
	defer func() { <-l.slots }()
	for {
		l.mu.Lock()
		waiting := l.queue[key]
		if len(waiting) == 0 {
			delete(l.queue, key)
			l.mu.Unlock()
			return
		}
		m := waiting[0]
		l.queue[key] = waiting[1:]
		l.mu.Unlock()
		l.do(m)
		l.mu.Lock()
		delete(l.inHand, m)
		l.mu.Unlock()
		<-l.room
	}
}

// beat tells the server that what is in hand is being worked on.
func (l *lanes) beat(stop <-chan struct{}) {
	tick := time.NewTicker(ackWait / 3)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			l.mu.Lock()
			for m := range l.inHand {
				_ = m.InProgress()
			}
			l.mu.Unlock()
		}
	}
}

func (l *lanes) wait() { l.wg.Wait() }
