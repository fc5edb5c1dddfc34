package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

func TestLoadFindsTheLastEvent(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	id := events.CustomerID("a")
	if _, err := l.Load(t.Context(), events.EntityCustomer, id); !errors.Is(err, eventlog.ErrNotFound) {
		t.Fatalf("load before the first event: %v", err)
	}
	if _, err := l.LoadFromLeader(t.Context(), events.EntityCustomer, id); !errors.Is(err, eventlog.ErrNotFound) {
		t.Fatalf("load from the leader before the first event: %v", err)
	}
	appendCustomer(t, l, "a", 3)
	appendCustomer(t, l, "b", 1)
	for _, load := range []func(context.Context, events.Entity, string) (eventlog.Entry, error){l.Load, l.LoadFromLeader} {
		e, err := load(t.Context(), events.EntityCustomer, id)
		if err != nil {
			t.Fatal(err)
		}
		if e.Sequence != 3 || e.Event.EntityVersion != 3 || e.Event.Subject != id || events.Digest(e.Raw) != e.Event.Digest() {
			t.Errorf("loaded %d, version %d of %s", e.Sequence, e.Event.EntityVersion, e.Event.Subject)
		}
	}
	if e, err := l.Read(t.Context(), 2); err != nil || e.Sequence != 2 || e.Event.EntityVersion != 2 {
		t.Errorf("read: %+v, %v", e, err)
	}
	if _, err := l.Read(t.Context(), 9); !errors.Is(err, eventlog.ErrNotFound) {
		t.Errorf("read behind the end: %v", err)
	}
}

func TestAppendIsGuarded(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	first := appendCustomer(t, l, "a", 1)
	next, err := syncCustomer("a", "cmd_2")(first.Event)
	if err != nil {
		t.Fatal(err)
	}
	for _, guard := range []uint64{0, 2, 7} {
		if _, err := l.Append(t.Context(), next, guard); !errors.Is(err, eventlog.ErrConflict) {
			t.Errorf("append guarded by %d: %v", guard, err)
		}
	}
	sequence, err := l.Append(t.Context(), next, first.Sequence)
	if err != nil || sequence != 2 {
		t.Fatalf("append: %d, %v", sequence, err)
	}
	// Doing it again is a lost guard and never a second event.
	if _, err := l.Append(t.Context(), next, first.Sequence); !errors.Is(err, eventlog.ErrConflict) {
		t.Errorf("append again: %v", err)
	}
	if got := checkChain(t, l)[first.Event.Subject]; got != 2 {
		t.Errorf("%d events", got)
	}
}

func TestAppendRefusesWhatMustNotBeInASubject(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	good := appendCustomer(t, l, "a", 1).Event
	for name, change := range map[string]func(*events.Event){
		"wildcard as id":       func(e *events.Event) { e.Subject = "*" },
		"more tokens":          func(e *events.Event) { e.Subject += ".x" },
		"another entity's id":  func(e *events.Event) { e.Subject = events.ChargeID("k") },
		"customer from afar":   func(e *events.Event) { e.Data.Customer.ID = "none" },
		"type nobody knows of": func(e *events.Event) { e.Type = "customer.>" },
	} {
		ev := *good
		change(&ev)
		if _, err := l.Append(t.Context(), &ev, 1); err == nil {
			t.Errorf("%s: appended", name)
		}
	}
	big := *good
	big.Data.Customer.ReferenceID = strings.Repeat("x", 256<<10)
	if _, err := l.Append(t.Context(), &big, 1); !errors.Is(err, eventlog.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if n := checkChain(t, l)[good.Subject]; n != 1 {
		t.Errorf("%d events", n)
	}
}

// race lets 16 writers, each with a connection of its own, add several events each to one entity.
func race(t *testing.T, conns []*nats.Conn, cfg eventlog.Config) {
	t.Helper()
	const writers, each = 16, 4
	id := events.CustomerID("raced")
	var wg sync.WaitGroup
	var decided, appendedCount atomic.Int64
	begin := make(chan struct{})
	for w := range writers {
		l, err := eventlog.Open(t.Context(), conns[w%len(conns)], cfg)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			<-begin
			for i := range each {
				decide := syncCustomer("raced", fmt.Sprintf("cmd_%d_%d", w, i))
				_, appended, err := l.Update(t.Context(), events.EntityCustomer, id, func(last *events.Event) (*events.Event, error) {
					decided.Add(1)
					return decide(last)
				})
				if err != nil || !appended {
					t.Errorf("writer %d: appended %v, %v", w, appended, err)
				}
				appendedCount.Add(1)
			}
		})
	}
	close(begin)
	wg.Wait()
	l, err := eventlog.Open(t.Context(), conns[0], cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got := checkChain(t, l)[id]; got != writers*each {
		t.Errorf("%d versions, want %d", got, writers*each)
	}
	if decided.Load() <= writers*each {
		t.Errorf("decided %d times: nobody ever lost a guard", decided.Load())
	}
	list, err := l.History(t.Context(), eventlog.HistoryFilter{EntityID: id}, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	commands := map[string]int{}
	for _, e := range list {
		commands[e.Event.CorrelationID]++
	}
	if len(commands) != writers*each {
		t.Errorf("%d commands had an effect, want %d", len(commands), writers*each)
	}
}

func TestSixteenWritersRace(t *testing.T) {
	t.Parallel()
	srv := eventlogtest.Start(t)
	conns := make([]*nats.Conn, 16)
	for i := range conns {
		conns[i] = srv.Conn(t)
	}
	eventlogtest.Open(t, conns[0])
	race(t, conns, eventlog.Config{})
}

func TestOneBeginning(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	var wg sync.WaitGroup
	var won atomic.Int64
	for range 16 {
		wg.Go(func() {
			_, appended, err := l.Update(t.Context(), events.EntityCustomer, events.CustomerID("a"), syncCustomer("a", "cmd_same"))
			if err != nil {
				t.Error(err)
			}
			if appended {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d writers began the same entity", won.Load())
	}
	checkChain(t, l)
}

func TestUpdateDoesWhatDecideSays(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	id := events.CustomerID("a")
	refusal := &events.Error{Code: events.CodeCustomerNotFound}
	tests := map[string]struct {
		decide func(*events.Event) (*events.Event, error)
		want   error
		exists bool
	}{
		"refused, not there":    {decide: func(*events.Event) (*events.Event, error) { return nil, refusal }, want: refusal},
		"nothing to do, absent": {decide: func(*events.Event) (*events.Event, error) { return nil, nil }},
	}
	for name, tt := range tests {
		e, appended, err := l.Update(t.Context(), events.EntityCustomer, id, tt.decide)
		if !errors.Is(err, tt.want) || appended || e.Event != nil || e.Sequence != 0 {
			t.Errorf("%s: %+v, %v, %v", name, e, appended, err)
		}
	}
	appendCustomer(t, l, "a", 1)
	e, appended, err := l.Update(t.Context(), events.EntityCustomer, id, func(*events.Event) (*events.Event, error) {
		return nil, refusal
	})
	if !errors.Is(err, refusal) || appended || e.Sequence != 1 {
		t.Errorf("refused, there: %+v, %v, %v", e, appended, err)
	}
	_, _, err = l.Update(t.Context(), events.EntityCustomer, id, syncCustomer("b", "cmd_x"))
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = l.Update(t.Context(), events.EntityCustomer, events.CustomerID("c"), syncCustomer("b", "cmd_x"))
	if err == nil {
		t.Error("an event of another entity was appended")
	}
}

// A publish whose acknowledgement is lost: stored, but nobody said so. Update finds its own event and reports it as its
// own; it neither appends twice nor calls it somebody else's.
func TestLostAcknowledgement(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		meanwhile int // events that another writer adds before the answer is sought
	}{
		"found as the last event": {},
		"found behind others":     {meanwhile: 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := eventlogtest.Start(t)
			other := eventlogtest.Open(t, srv.Conn(t))
			p := startProxy(t, srv.URL, nil)
			nc := (&eventlogtest.Server{URL: p.URL}).Conn(t)
			l, err := eventlog.Open(t.Context(), nc, eventlog.Config{})
			if err != nil {
				t.Fatal(err)
			}
			l.SetPatience(500 * time.Millisecond)
			appendCustomer(t, l, "a", 1)
			calls := 0
			decide := syncCustomer("a", "cmd_lost")
			after := make(chan struct{})
			go func() {
				defer close(after)
				<-p.muted // the acknowledgement was on its way
				for range tt.meanwhile {
					appendCustomer(t, other, "a", 1)
				}
				p.mute.Store(false)
				p.cut()
			}()
			e, appended, err := l.Update(t.Context(), events.EntityCustomer, events.CustomerID("a"), func(last *events.Event) (*events.Event, error) {
				calls++
				if calls == 1 {
					p.mute.Store(true)
				}
				return decide(last)
			})
			receive(t, after, "the other writer")
			if err != nil || !appended {
				t.Fatalf("appended %v, %v", appended, err)
			}
			if calls != 1 {
				t.Errorf("decided %d times", calls)
			}
			want := 2 + tt.meanwhile
			if e.Event.EntityVersion != want {
				t.Errorf("answered version %d, want %d", e.Event.EntityVersion, want)
			}
			if got := checkChain(t, other)[e.Event.Subject]; got != want {
				t.Errorf("%d events, want %d", got, want)
			}
		})
	}
}

// A publish that is lost on its way, or comes so late that it was sent again meanwhile: one event, reported as our own.
func TestLostPublish(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]bool{"never arrives": false, "arrives after it was decided again": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := eventlogtest.Start(t)
			other := eventlogtest.Open(t, srv.Conn(t))
			p := startProxy(t, srv.URL, nil)
			l, err := eventlog.Open(t.Context(), (&eventlogtest.Server{URL: p.URL}).Conn(t), eventlog.Config{})
			if err != nil {
				t.Fatal(err)
			}
			l.SetPatience(500 * time.Millisecond)
			appendCustomer(t, l, "a", 1)
			id := events.CustomerID("a")
			woken := make(chan uint64, 10)
			stop, err := other.Wake(func(_ events.Type, _ string, sequence uint64) { woken <- sequence })
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
			lost := make(chan struct{})
			go func() {
				defer close(lost)
				<-p.taken
				p.loseClient()
			}()
			calls := 0
			decide := syncCustomer("a", "cmd_late")
			e, appended, err := l.Update(t.Context(), events.EntityCustomer, id, func(last *events.Event) (*events.Event, error) {
				calls++
				switch {
				case calls == 1:
					p.keepBack()
				case late:
					p.arrive(t)
					if sequence := receive(t, woken, "the late event"); sequence != 2 {
						t.Errorf("event %d came late", sequence)
					}
				}
				return decide(last)
			})
			receive(t, lost, "the cut")
			if err != nil || !appended || e.Event.EntityVersion != 2 {
				t.Errorf("appended %v, %+v, %v", appended, e.Event, err)
			}
			if calls != 2 {
				t.Errorf("decided %d times", calls)
			}
			if got := checkChain(t, other)[id]; got != 2 {
				t.Errorf("%d events, want 2", got)
			}
		})
	}
}

func TestLostAcknowledgementOfAppend(t *testing.T) {
	t.Parallel()
	srv := eventlogtest.Start(t)
	eventlogtest.Open(t, srv.Conn(t))
	p := startProxy(t, srv.URL, nil)
	l, err := eventlog.Open(t.Context(), (&eventlogtest.Server{URL: p.URL}).Conn(t), eventlog.Config{})
	if err != nil {
		t.Fatal(err)
	}
	l.SetPatience(300 * time.Millisecond)
	ev, err := syncCustomer("a", "cmd_1")(nil)
	if err != nil {
		t.Fatal(err)
	}
	p.mute.Store(true)
	_, err = l.Append(t.Context(), ev, 0)
	var unknown *eventlog.UnknownError
	if !errors.As(err, &unknown) || !eventlog.IsUnavailable(err) || errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("append without an answer: %v", err)
	}
	p.mute.Store(false)
	p.cut()
	if e, err := l.LoadFromLeader(t.Context(), events.EntityCustomer, ev.Subject); err != nil || e.Event.ID != ev.ID {
		t.Errorf("it was stored: %v", err)
	}
}

// A connection that is closed while the answer is under way: nobody knows, and nobody says that nothing was stored.
func TestClosedBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	ev, err := syncCustomer("a", "cmd_1")(nil)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]func(l *eventlog.Log) error{
		"append": func(l *eventlog.Log) error {
			_, err := l.Append(t.Context(), ev, 0)
			return err
		},
		"update": func(l *eventlog.Log) error {
			_, appended, err := l.Update(t.Context(), events.EntityCustomer, ev.Subject, func(*events.Event) (*events.Event, error) { return ev, nil })
			if appended {
				t.Error("appended, without an answer")
			}
			return err
		},
		"link": func(l *eventlog.Log) error {
			return l.PutLink(t.Context(), "stripe", "cus_1", eventlog.Link{Entity: events.EntityCustomer, ID: ev.Subject})
		},
		"delivery": func(l *eventlog.Log) error {
			_, err := l.StoreDelivery(t.Context(), eventlog.Delivery{ProviderID: "stripe", EventID: "evt_1", Body: []byte("{}")})
			return err
		},
	}
	for name, write := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := eventlogtest.Start(t)
			eventlogtest.Open(t, srv.Conn(t))
			p := startProxy(t, srv.URL, nil)
			nc := (&eventlogtest.Server{URL: p.URL}).Conn(t)
			l, err := eventlog.Open(t.Context(), nc, eventlog.Config{})
			if err != nil {
				t.Fatal(err)
			}
			p.keepBack()
			closed := make(chan struct{})
			go func() {
				defer close(closed)
				<-p.taken // sent, for all that the client knows
				if name == "update" {
					p.letGo()
					<-p.taken
				}
				nc.Close()
			}()
			err = write(l)
			receive(t, closed, "the end of the connection")
			if _, unknown := errors.AsType[*eventlog.UnknownError](err); !unknown || errors.Is(err, eventlog.ErrUnavailable) {
				t.Errorf("%v", err)
			}
			if err := write(l); !errors.Is(err, eventlog.ErrUnavailable) {
				t.Errorf("on a closed connection: %v", err)
			}
		})
	}
}
