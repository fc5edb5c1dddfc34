package schematest

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
)

// Tap listens on a server and holds against its schema each event on the live feed, and the answers and refusals of commands
// and queries, until the test ends. nc is the tap's own from then on; it is closed at the end.
//
// The inbox of a client is listened on from its first request on, whose answer is missed. To listen on all inboxes would be
// simpler, but then the server takes the inbox of a killed process for alive and goes on delivering to it.
func Tap(t testing.TB, nc *nats.Conn) *Seen {
	t.Helper()
	s := &Seen{}
	c := New(t)
	// One channel for all: the copies of requests and answers come in the order in which the server had them.
	messages := make(chan *nats.Msg, 64<<10)
	for _, subject := range []string{"paykit.events.>", "paykit.api.>", "paykit.query.>"} {
		if _, err := nc.ChanSubscribe(subject, messages); err != nil {
			t.Fatalf("tap %s: %v", subject, err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatalf("tap: %v", err)
	}
	ended := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := inboxes{nc: nc, messages: messages, verbs: map[string]string{}, known: map[string]bool{}}
		for {
			select {
			case m := <-messages:
				s.hold(t, c, b, m)
				continue
			default:
			}
			select {
			case m := <-messages:
				s.hold(t, c, b, m)
			case <-ended:
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = nc.Flush() // of a server that is gone nothing more comes
		close(ended)
		<-done
		nc.Close()
	})
	return s
}

// Seen counts what a tap has held against the schemas.
type Seen struct {
	events, answers atomic.Int64
	damaged         sync.Map // stored subjects under which a test writes what the program never would
}

// Damaged says that a test writes under a stored subject what is no event.
func (s *Seen) Damaged(subject string) { s.damaged.Store(subject, true) }

// Events is how many events there were.
func (s *Seen) Events() int64 { return s.events.Load() }

// Answers is how many answers and refusals there were.
func (s *Seen) Answers() int64 { return s.answers.Load() }

// inboxes are where answers go. Only the tap's goroutine uses them.
type inboxes struct {
	nc       *nats.Conn
	messages chan *nats.Msg
	verbs    map[string]string // of requests in hand, by reply subject
	known    map[string]bool
}

func (b inboxes) asked(t testing.TB, reply, verb string) {
	t.Helper()
	b.verbs[reply] = verb
	end := strings.LastIndexByte(reply, '.')
	if !strings.HasPrefix(reply, "_INBOX.") || end < len("_INBOX.") || b.known[reply[:end]] {
		return
	}
	b.known[reply[:end]] = true
	if _, err := b.nc.ChanSubscribe(reply[:end]+".*", b.messages); err != nil {
		t.Errorf("tap %s: %v", reply, err)
	}
}

func (s *Seen) hold(t testing.TB, c *Checker, b inboxes, m *nats.Msg) {
	t.Helper()
	entity, rest, _ := strings.Cut(strings.TrimPrefix(m.Subject, "paykit."), ".")
	switch {
	case strings.HasPrefix(m.Subject, "_INBOX"):
		verb, asked := b.verbs[m.Subject]
		if !asked || m.Header.Get("Status") != "" { // JetStream's own answers; nobody was there
			return
		}
		delete(b.verbs, m.Subject)
		s.answers.Add(1)
		if m.Header.Get("Nats-Service-Error") != "" {
			verb = "error"
		}
		if err := c.Answer(verb, m.Data); err != nil {
			t.Errorf("an answer is not as its schema says: %v", err)
		}
	case entity == "events":
		if _, meant := s.damaged.Load(m.Header.Get("Nats-Subject")); meant {
			return
		}
		s.events.Add(1)
		if err := c.Event(m.Data); err != nil {
			t.Errorf("an event is not as its schema says: %v", err)
		}
	case m.Reply != "":
		b.asked(t, m.Reply, rest)
	}
}
