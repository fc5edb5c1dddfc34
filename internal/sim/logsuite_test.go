package sim_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/commands"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
	"github.com/paykit-go/paykit/internal/provider"
	"github.com/paykit-go/paykit/internal/sim"
)

// store is all that the parts of the engine ask of an event store.
type store interface {
	provider.WorkerLog
	commands.Log
	EraseDelivery(ctx context.Context, sequence uint64) error
	Read(ctx context.Context, sequence uint64) (eventlog.Entry, error)
	Append(ctx context.Context, ev *events.Event, last uint64) (uint64, error)
	graveyard
}

// graveyard is decisions about dead letters.
type graveyard interface {
	Decide(ctx context.Context, e eventlog.DeadEntry, d eventlog.Decision) (eventlog.Decision, error)
	DeadLetter(ctx context.Context, sequence uint64) (eventlog.DeadEntry, error)
}

// logWorld is an event store under test.
type logWorld struct {
	log, other store
	lose       func()                                                      // the answer to log's next write is lost
	enqueue    func(subject string, body []byte, header nats.Header) error // leaves a command, as an app does
	// consume hands a consumer's messages out until enough says so and nothing is open. die ends the process that has the
	// message, before it can say anything of it; another goes on.
	consume func(name eventlog.ConsumerName, handle func(m eventlog.Message, die func()) eventlog.Result, enough func() bool)
}

// TestLogSuite: the model of the event store does what the real one does on an embedded server.
func TestLogSuite(t *testing.T) {
	t.Parallel()
	worlds := map[string]func(t *testing.T) logWorld{"nats": natsWorld, "model": modelWorld}
	for name, world := range worlds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, step := range logSteps() {
				t.Run(step.name, func(t *testing.T) {
					t.Parallel()
					step.run(t, world(t))
				})
			}
		})
	}
}

func modelWorld(t *testing.T) logWorld {
	t.Helper()
	b := sim.NewLogBench()
	return logWorld{
		log: b.Log(), other: b.Other(), lose: b.Lose,
		enqueue: func(subject string, body []byte, header nats.Header) error {
			b.Enqueue(subject, body, header)
			return nil
		},
		consume: func(name eventlog.ConsumerName, handle func(m eventlog.Message, die func()) eventlog.Result, enough func() bool) {
			if !b.Consume(name, handle, enough) {
				t.Errorf("%s: never enough", name)
			}
		},
	}
}

// redelivery is how long the suite's consumers wait for an answer.
const redelivery = time.Second

func natsWorld(t *testing.T) logWorld {
	t.Helper()
	srv := eventlogtest.Start(t)
	other := eventlogtest.Open(t, srv.Conn(t))
	p := eventlogtest.StartProxy(t, srv)
	open := func(nc *nats.Conn) *eventlog.Log {
		l, err := eventlog.Open(t.Context(), nc, eventlog.Config{Logger: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	w := logWorld{log: open(p.Conn(t)), other: other, lose: p.LoseAnswer}
	nc := srv.Conn(t)
	w.enqueue = func(subject string, body []byte, header nats.Header) error {
		_, err := nc.RequestMsg(&nats.Msg{Subject: subject, Data: body, Header: header}, 20*time.Second)
		return err
	}
	w.consume = func(name eventlog.ConsumerName, handle func(m eventlog.Message, die func()) eventlog.Result, enough func() bool) {
		stream := map[eventlog.ConsumerName]string{
			eventlog.ConsumerRequests: "PAYKIT_LOG", eventlog.ConsumerNormalizer: "PAYKIT_INBOX", eventlog.ConsumerCommands: "PAYKIT_COMMANDS",
		}[name]
		eventlogtest.Hurry(t, other, stream, name, redelivery)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var run func(nc *nats.Conn)
		run = func(nc *nats.Conn) {
			l := open(nc)
			wg.Go(func() {
				err := l.Consume(ctx, name, eventlog.ConsumeOptions{
					Lane: func(m eventlog.Message) string { return m.Subject }, Logger: zerolog.Nop(),
					Handle: func(_ context.Context, m eventlog.Message) eventlog.Result {
						return handle(m, func() {
							nc.Close() // what it says of the message goes nowhere
							run(srv.Conn(t))
						})
					},
				})
				if err != nil && !nc.IsClosed() {
					t.Errorf("consume %s: %v", name, err)
				}
			})
		}
		run(srv.Conn(t))
		patient(t, string(name), func() bool {
			b, err := other.Backlog(t.Context(), name)
			return enough() && err == nil && b.Waiting+b.Open == 0
		})
		stop()
		wg.Wait()
	}
	return w
}

// patient asks until ok says yes.
func patient(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(60 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Errorf("waited too long for %s", what)
			return
		}
	}
}

// logStep is something that both stores do alike.
type logStep struct {
	name string
	run  func(t *testing.T, w logWorld)
}

func logSteps() []logStep {
	return []logStep{
		{"load what is there and what is not", stepLoad},
		{"append under a guard", stepGuard},
		{"update against another writer", stepConcurrent},
		{"update whose answer is lost", stepLostUpdate},
		{"history, latest, scan", stepHistory},
		{"links", stepLinks},
		{"a link whose answer is lost", stepLostLink},
		{"deliveries once", stepDeliveries},
		{"a delivery whose answer is lost", stepLostDelivery},
		{"profiles", stepProfiles},
		{"a profile whose answer is lost", stepLostProfile},
		{"dead letters", stepDead},
		{"a dead letter whose answer is lost", stepLostDead},
		{"decisions", stepDecisions},
		{"commands put back", stepPutBack},
		{"backfill marks", stepMarks},
		{"messages: order, attempts, again after a while", stepRetry},
		{"messages: their process dies", stepDeath},
		{"messages: erased instead of acknowledged", stepErase},
		{"messages: only its events", stepOnlyItsEvents},
	}
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func is(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// moment is when everything is decided.
func moment() time.Time { return time.Date(2026, 1, 5, 8, 0, 0, 0, time.UTC) }

func syncs(ref, command string) func(*events.Event) (*events.Event, error) {
	return func(last *events.Event) (*events.Event, error) {
		return events.DecideCustomer(last, events.SyncCustomer{ReferenceID: ref, Revision: 1, Changed: []string{"email"}},
			events.Cause{Now: moment(), Source: "/paykit/test", CommandID: command})
	}
}

// customer appends an event of a customer for each command.
func customer(t *testing.T, s store, ref string, commands ...string) (e eventlog.Entry) {
	t.Helper()
	for _, c := range commands {
		var appended bool
		var err error
		if e, appended, err = s.Update(t.Context(), events.EntityCustomer, events.CustomerID(ref), syncs(ref, c)); err != nil || !appended {
			t.Fatalf("%s %s: appended %v, %v", ref, c, appended, err)
		}
	}
	return e
}

// charge appends a charge.requested.
func charge(t *testing.T, s store, ref, key string) eventlog.Entry {
	t.Helper()
	id := events.ChargeID(key)
	e, _, err := s.Update(t.Context(), events.EntityCharge, id, func(last *events.Event) (*events.Event, error) {
		return events.DecideCharge(last, events.CreateCharge{ID: id, ProviderID: "stripe", Amount: 4900, Currency: "usd"}, events.Cause{
			Now: moment(), Source: "/paykit/test", CommandID: events.CommandID("charge.create", key),
			Customer: events.CustomerRef{ID: events.CustomerID(ref), ReferenceID: ref},
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// chain gives each event as its sequence, type and version.
func chain(t *testing.T, s store) []string {
	t.Helper()
	var out []string
	for _, e := range must(s.History(t.Context(), eventlog.HistoryFilter{}, 0, 1000))(t) {
		out = append(out, fmt.Sprintf("%d:%s:%d", e.Sequence, e.Event.Type, e.Event.EntityVersion))
	}
	return out
}

// heard is which messages came, and with which attempts.
type heard struct {
	mu sync.Mutex
	by map[uint64][]int
}

func newHeard() *heard { return &heard{by: map[uint64][]int{}} }

func (h *heard) note(m eventlog.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.by[m.Sequence] = append(h.by[m.Sequence], m.Attempt)
}

func (h *heard) times(sequence uint64) int { return len(h.attempts(sequence)) }

func (h *heard) attempts(sequence uint64) []int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]int(nil), h.by[sequence]...)
}
