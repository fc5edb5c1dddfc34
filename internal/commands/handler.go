package commands

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/crashpoint"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

const (
	// source is who appends the events of commands.
	source = "/paykit/ingest"
	// DefaultWait is how long a request waits for the outcome when it does not say: plain NATS clients give up after 5 s.
	DefaultWait = 4 * time.Second
	// MaxWait is the longest wait; more counts as this.
	MaxWait = 60 * time.Second
)

// Config says what commands are checked against.
type Config struct {
	Providers       []string // ids of the configured providers ("stripe")
	DefaultCurrency string   // lower-case ISO 4217, for commands that name none; "" = "usd"
	// RetrySchedules are the delays between the attempts of a declined charge, by the schedule's name.
	RetrySchedules map[string][]time.Duration
	Version        string           // of the program, as the NATS service tells it; "" = "0.0.0"
	Logger         zerolog.Logger   // zero value = silent
	Now            func() time.Time // the clock of events and generated keys; nil = time.Now
	AtOnce         func(...func())  // runs what does not depend on each other; nil = [eventlog.AtOnce]
}

// Handler carries out commands. It keeps no state but who waits for what, so any number of them may work on one log.
// It is safe for concurrent use.
type Handler struct {
	cfg   Config
	log   Log
	waits *waits

	serving atomic.Bool // the api's endpoints are known to NATS
}

// errNotServing is what readiness says before the api's endpoints are known to NATS, and after they stopped.
var errNotServing = errors.New("the command service is not running")

// Ready tells whether commands are taken in over the api.
func (h *Handler) Ready() error {
	if !h.serving.Load() {
		return errNotServing
	}
	return nil
}

// New makes a Handler. Close it when it is no longer used.
func New(log Log, cfg Config) *Handler {
	if cfg.DefaultCurrency == "" {
		cfg.DefaultCurrency = "usd"
	}
	if cfg.Version == "" {
		cfg.Version = "0.0.0"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.AtOnce == nil {
		cfg.AtOnce = eventlog.AtOnce
	}
	return &Handler{cfg: cfg, log: log, waits: newWaits(log, cfg.Logger)}
}

// Close ends the subscription that wakes the waiting.
func (h *Handler) Close() { h.waits.close() }

// Meta is what comes with a command beside its body.
type Meta struct {
	IdempotencyKey string        // 1–255 bytes; "" = none was given, the command is one of its own
	Wait           time.Duration // how long to wait for the outcome after the append; at most [MaxWait] counts
}

// Result is what a command is answered with.
type Result struct {
	Body     []byte // the entity as it is, JSON
	Sequence uint64 // of the entity's last event
}

// spec is one verb of the registry.
type spec struct {
	verb   string // "<entity>.<verb>", the last two tokens of its subjects
	parse  func(*fields, Config) command
	begins bool // its key names what it begins: the same key finds the same thing
}

// command is a request whose shape was found right.
type command interface {
	plan(h *Handler, k call) plan
}

// call is one request for a command.
type call struct {
	verb   string
	key    string // the caller's, or one of its own
	given  bool   // the key is the caller's: somebody may have used it before
	digest string // of the body
	id     string // the command's
}

// plan is how a command is carried out.
type plan struct {
	entity events.Entity
	id     string // the entity's; checked by the plan's maker where it comes from outside
	// begins tells that decide answers a known entity without looking at anything else.
	begins bool
	// references checks what the body refers to and names the customer; nil for a command about something known.
	references func(context.Context) (events.CustomerRef, error)
	// decide answers the entity's next event, nil for nothing to do, or a refusal. It may be called more than once.
	decide func(ctx context.Context, last *events.Event, c events.Cause) (*events.Event, error)
	// stored is called once the outcome of decide is stored, also when there was nothing to do; nil for none.
	stored func(context.Context, eventlog.Entry) error
	// settled tells whether the outcome is there; nil if the append itself is the outcome.
	settled func(*events.Event) bool
	// passing tells of which events that is known without reading the entity: they are on the way to it. nil = of none.
	passing func(events.Type) bool
	// answer makes the result's body; nil for the entity's snapshot.
	answer func(context.Context, eventlog.Entry) (any, error)
}

// registry lists every command.
func registry() []spec {
	return []spec{
		{"customer.sync", parseCustomerSync, false},
		{"customer.delete", parseCustomerDelete, false},
		{"checkout.create", parseCheckoutCreate, true},
		{"checkout.expire", parseCheckoutExpire, false},
		{"payment_method.attach", parsePaymentMethodAttach, true},
		{"payment_method.set_default", parsePaymentMethodSetDefault, false},
		{"payment_method.detach", parsePaymentMethodDetach, false},
		{"charge.create", parseChargeCreate, true},
		{"charge.refund", parseChargeRefund, true},
		{"charge.cancel", parseChargeCancel, false},
		{"charge.resolve", parseChargeResolve, false},
	}
}

// forOperators tells whether a verb is for people at the api only. Apps have no right to its subject; the queue, whose
// messages do not say who sent them, does not take it from anybody.
func forOperators(verb string) bool { return verb == "charge.resolve" }

// Verbs lists the commands as "<entity>.<verb>".
func Verbs() []string {
	var verbs []string
	for _, s := range registry() {
		verbs = append(verbs, s.verb)
	}
	return verbs
}

// Execute carries out a command and waits for its outcome. An outcome that is not there in time is no error: the
// result is the entity as it is. When it returns a result, what the command asked for is stored, with fsync.
//
// It fails with an [*events.Error] for a refused command, which stored nothing, or with a failure of storage or
// connection; [AsError] says either in the words of the public contract. A ctx that ends during the wait ends the wait.
func (h *Handler) Execute(ctx context.Context, verb string, body []byte, meta Meta) (Result, error) {
	return h.execute(ctx, verb, body, meta, nil)
}

// execute also ends the wait, and nothing else, when hurry is closed.
func (h *Handler) execute(ctx context.Context, verb string, body []byte, meta Meta, hurry <-chan struct{}) (Result, error) {
	k, cmd, refusal := h.shape(verb, body, meta)
	if refusal != nil {
		return Result{}, refusal
	}
	crashpoint.Hit("commands.validated")
	wait := min(max(meta.Wait, 0), MaxWait)
	start := time.Now()
	p := cmd.plan(h, k)
	var wake <-chan uint64
	if p.settled != nil && wait > 0 {
		var done func()
		wake, done = h.waits.register(p.id, p.passing) // before the append, or an outcome could slip in between
		defer done()
	}
	e, err := h.store(ctx, p, k, max(wait, DefaultWait))
	if err != nil {
		return Result{}, err
	}
	if wake != nil {
		e = h.await(ctx, p, e, wake, start.Add(wait), hurry)
	}
	return h.answer(ctx, p, e)
}

// shape reads a command: verb, key and body. What it refuses nobody has looked up anywhere.
func (h *Handler) shape(verb string, body []byte, meta Meta) (call, command, *events.Error) {
	i := slices.IndexFunc(registry(), func(s spec) bool { return s.verb == verb })
	if i < 0 {
		return call{}, nil, invalid("", "there is no such command")
	}
	s := registry()[i]
	if refusal := checkKey(meta.IdempotencyKey); refusal != nil {
		return call{}, nil, refusal
	}
	o, refusal := decode(body)
	if refusal != nil {
		return call{}, nil, refusal
	}
	f := &fields{values: o}
	cmd := s.parse(f, h.cfg)
	if refusal := f.refused(); refusal != nil {
		return call{}, nil, refusal
	}
	if refusal := published(verb, o); refusal != nil {
		return call{}, nil, refusal
	}
	k := call{verb: verb, key: meta.IdempotencyKey, given: meta.IdempotencyKey != "", digest: commandDigest(o)}
	if !k.given {
		k.key = ulid.MustNew(ulid.Timestamp(h.cfg.Now()), rand.Reader).String()
	}
	k.id = events.CommandID(verb, k.key)
	if !s.begins {
		// Of a verb that sets a state nothing remembers the body that its key came with, so the body is part of what
		// the command is: another body under the same key is another command, and must not be taken for a repetition.
		k.id = events.CommandID(verb, k.key+" "+k.digest)
	}
	return k, cmd, nil
}

// store checks what the command refers to and appends its event, within limit.
func (h *Handler) store(ctx context.Context, p plan, k call, limit time.Duration) (eventlog.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c := events.Cause{Now: h.cfg.Now(), Source: source, CommandID: k.id}
	begun, err := h.look(ctx, p, k, &c)
	if begun.Event != nil || err != nil {
		return begun, err
	}
	// A crash right after the append leaves the event stored and the caller without an answer: the same command under
	// the same key finds it there, and the worker carries it out meanwhile.
	decide := func(last *events.Event) (*events.Event, error) { return p.decide(ctx, last, c) }
	var e eventlog.Entry
	if p.begins {
		// Looked for a moment ago, or its key is a new one: most likely there is nothing. If there is, the guard is lost.
		e, _, err = h.log.UpdateFrom(ctx, p.entity, p.id, eventlog.Entry{}, decide)
	} else {
		e, _, err = h.log.Update(ctx, p.entity, p.id, decide)
	}
	if err != nil {
		return eventlog.Entry{}, err
	}
	crashpoint.Hit("commands.appended")
	if p.stored != nil {
		if err := p.stored(ctx, e); err != nil {
			return eventlog.Entry{}, err
		}
	}
	return e, nil
}

// look asks, at once, whether the command's key began something before and whether what it refers to is there. What was begun
// is answered whatever became of the references since. It fills in the cause's customer.
func (h *Handler) look(ctx context.Context, p plan, k call, c *events.Cause) (begun eventlog.Entry, err error) {
	var ref events.CustomerRef
	var refused error
	var asks []func()
	if p.begins && k.given {
		before := *c
		asks = append(asks, func() { begun, _, err = h.known(ctx, p, before) })
	}
	if p.references != nil {
		asks = append(asks, func() { ref, refused = p.references(ctx) })
	}
	h.cfg.AtOnce(asks...)
	if begun.Event != nil || err != nil {
		return begun, err
	}
	c.Customer = ref
	return eventlog.Entry{}, refused
}

// known looks for what the key began before. It answers as it is, or with idempotency_conflict; a reference that has
// gone since must not matter.
func (h *Handler) known(ctx context.Context, p plan, c events.Cause) (eventlog.Entry, bool, error) {
	e, err := h.log.LoadFromLeader(ctx, p.entity, p.id)
	if errors.Is(err, eventlog.ErrNotFound) {
		return eventlog.Entry{}, false, nil
	}
	if err != nil {
		return eventlog.Entry{}, false, fmt.Errorf("look for %s: %w", p.id, err)
	}
	if _, err := p.decide(ctx, e.Event, c); err != nil {
		return eventlog.Entry{}, false, err
	}
	return e, true, nil
}

// answer writes the result.
func (h *Handler) answer(ctx context.Context, p plan, e eventlog.Entry) (Result, error) {
	body := e.Event.Snapshot()
	if p.answer != nil {
		var err error
		if body, err = p.answer(ctx, e); err != nil {
			return Result{}, err
		}
	}
	b, err := json.Marshal(body)
	if err != nil {
		return Result{}, fmt.Errorf("encode %s: %w", p.id, err)
	}
	return Result{Body: b, Sequence: e.Sequence}, nil
}
