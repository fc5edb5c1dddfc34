package sim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	engine "github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// The names of the model's installation.
const (
	prefix      = "paykit"
	env         = "sim"
	providerID  = "stripe"
	streamLog   = "PAYKIT_LOG"
	streamInbox = "PAYKIT_INBOX"
	streamQueue = "PAYKIT_COMMANDS"
	putTries    = 100
	sameMessage = 2 * time.Minute // the window in which the queue knows a message again
)

// Server is what a NATS server keeps: the streams. What is in it is stored.
type Server struct {
	now      func() time.Time
	appended func(stream string, sequence uint64) // is told of each message of LOG, INBOX and COMMANDS
	entries  []eventlog.Entry
	times    []time.Time
	byEntity map[string][]int // by entity and id: places in entries
	links    map[string]eventlog.Link
	marks    map[string]time.Time
	inbox    box
	queue    box
	profiles []profile
	dead     box
	full     bool // refuses writes for want of room
}

type profile struct {
	customer string
	gone     bool
	what     eventlog.Profile
	at       time.Time
}

// message is one of a stream that messages can leave.
type message struct {
	subject string
	data    []byte
	header  nats.Header
	at      time.Time
	gone    bool
}

// box is a stream that messages can leave.
type box struct {
	list []message
	by   map[string]int // by guard: the place of the message that was first
}

func (b *box) put(guard string, m message) (sequence uint64, isNew bool) {
	if i, ok := b.by[guard]; ok && guard != "" && !b.list[i].gone {
		return uint64(i + 1), false //nolint:gosec // G115: counts up
	}
	if b.by == nil {
		b.by = map[string]int{}
	}
	b.list = append(b.list, m)
	b.by[guard] = len(b.list) - 1
	return uint64(len(b.list)), true
}

func (b *box) at(sequence uint64) *message {
	if sequence < 1 || sequence > uint64(len(b.list)) || b.list[sequence-1].gone {
		return nil
	}
	return &b.list[sequence-1]
}

func (b *box) erase(sequence uint64) {
	if m := b.at(sequence); m != nil {
		m.gone, m.data = true, nil
	}
}

// NewServer makes empty streams.
func NewServer(now func() time.Time, appended func(stream string, sequence uint64)) *Server {
	return &Server{now: now, appended: appended, byEntity: map[string][]int{}, links: map[string]eventlog.Link{}, marks: map[string]time.Time{}}
}

// loss is what becomes of one request to the server.
type loss int

const (
	lossNone    loss = iota
	lossRequest      // it never arrives, and that is known
	lossAnswer       // it is carried out, and its answer never arrives
	lossLate         // nobody knows, and it arrives later
	lossDead         // the process is no more
)

// Wire is what requests to the server go through. nil lets everything through at once.
type Wire interface {
	// Send takes a request there: do is carried out unless it is lost. Sleep waits.
	Send(ctx context.Context, write bool, do func()) loss
	Sleep(ctx context.Context, d time.Duration) bool
}

// Log is one process's connection to a server. It has all that the parts of the engine need of an event store.
type Log struct {
	s    *Server
	wire Wire
}

// NewLog makes a connection.
func NewLog(s *Server, wire Wire) *Log { return &Log{s: s, wire: wire} }

var errLost = errors.New("the answer was lost")

// read asks for something.
func (l *Log) read(ctx context.Context, do func() error) error {
	var err error
	switch l.send(ctx, false, func() { err = do() }) {
	case lossNone:
		return err
	case lossDead:
		return context.Canceled
	case lossRequest, lossAnswer, lossLate:
	}
	return eventlog.ErrUnavailable
}

// write stores something: do is not called, or called and its answer lost.
func (l *Log) write(ctx context.Context, do func() error) error {
	var err error
	guarded := func() {
		if l.s.full {
			err = eventlog.ErrStorageFull
			return
		}
		err = do()
	}
	switch l.send(ctx, true, guarded) {
	case lossNone:
		return err
	case lossRequest:
		return eventlog.ErrUnavailable
	case lossAnswer, lossLate:
		return &eventlog.UnknownError{Err: errLost}
	case lossDead:
	}
	return context.Canceled
}

func (l *Log) send(ctx context.Context, write bool, do func()) loss {
	if ctx.Err() != nil {
		return lossDead
	}
	if l.wire == nil {
		do()
		return lossNone
	}
	return l.wire.Send(ctx, write, do)
}

func (l *Log) sleep(ctx context.Context, d time.Duration) bool {
	return ctx.Err() == nil && (l.wire == nil || l.wire.Sleep(ctx, d))
}

// Env is the environment's name.
func (l *Log) Env() string { return env }

// Prefix is the first token of every subject.
func (l *Log) Prefix() string { return prefix }

func entityKey(entity engine.Entity, id string) string { return string(entity) + " " + id }

// Load reads an entity's last event.
func (l *Log) Load(ctx context.Context, entity engine.Entity, id string) (e eventlog.Entry, err error) {
	err = l.read(ctx, func() error {
		if !engine.ValidID(entity, id) {
			return eventlog.ErrNotFound
		}
		places := l.s.byEntity[entityKey(entity, id)]
		if len(places) == 0 {
			return eventlog.ErrNotFound
		}
		e = l.s.entries[places[len(places)-1]]
		return nil
	})
	return e, err
}

// LoadFromLeader is Load: the model has one server.
func (l *Log) LoadFromLeader(ctx context.Context, entity engine.Entity, id string) (eventlog.Entry, error) {
	return l.Load(ctx, entity, id)
}

// Read reads the event at a sequence.
func (l *Log) Read(ctx context.Context, sequence uint64) (e eventlog.Entry, err error) {
	err = l.read(ctx, func() error {
		if sequence < 1 || sequence > uint64(len(l.s.entries)) {
			return eventlog.ErrNotFound
		}
		e = l.s.entries[sequence-1]
		return nil
	})
	return e, err
}

// Append stores an event under its guard.
func (l *Log) Append(ctx context.Context, ev *engine.Event, last uint64) (uint64, error) {
	sequence, _, err := l.Store(ctx, ev, last)
	return sequence, err
}

// Store implements [eventlog.Guarded].
func (l *Log) Store(ctx context.Context, ev *engine.Event, last uint64) (sequence uint64, raw []byte, err error) {
	if !ev.Type.Known() {
		return 0, nil, fmt.Errorf("%w: %q", engine.ErrUnknownType, ev.Type)
	}
	if !engine.ValidID(ev.Entity(), ev.Subject) {
		return 0, nil, fmt.Errorf("append %s: %q is no id of a %s", ev.Type, ev.Subject, ev.Entity())
	}
	if id := ev.CustomerID(); id != "" && !engine.ValidID(engine.EntityCustomer, id) {
		return 0, nil, fmt.Errorf("append %s: %q is no id of a customer", ev.Type, id)
	}
	if raw, err = ev.Encode(); err != nil {
		return 0, nil, err
	}
	if len(raw) > 256<<10 {
		return 0, nil, eventlog.ErrTooLarge
	}
	err = l.write(ctx, func() error {
		var conflict error
		sequence, conflict = l.s.append(ev, raw, last)
		return conflict
	})
	return sequence, raw, err
}

// append is what the server does with an event.
func (s *Server) append(ev *engine.Event, raw []byte, last uint64) (uint64, error) {
	key := entityKey(ev.Entity(), ev.Subject)
	at := uint64(0)
	if places := s.byEntity[key]; len(places) > 0 {
		at = s.entries[places[len(places)-1]].Sequence
	}
	if at != last {
		return 0, eventlog.ErrConflict
	}
	customer := engine.None
	if id := ev.CustomerID(); id != "" {
		customer = id
	}
	e := eventlog.Entry{Event: ev, Sequence: uint64(len(s.entries) + 1), Raw: raw, Subject: strings.Join(
		[]string{prefix, "log", string(ev.Entity()), ev.Type.Name(), ev.Subject, customer}, ".",
	)}
	s.byEntity[key] = append(s.byEntity[key], len(s.entries))
	s.entries = append(s.entries, e)
	s.times = append(s.times, s.now())
	s.appended(streamLog, e.Sequence)
	return e.Sequence, nil
}

// Successor implements [eventlog.Guarded].
func (l *Log) Successor(ctx context.Context, entity engine.Entity, id string, after uint64) (raw []byte, err error) {
	err = l.read(ctx, func() error {
		for _, i := range l.s.byEntity[entityKey(entity, id)] {
			if l.s.entries[i].Sequence > after {
				raw = l.s.entries[i].Raw
				return nil
			}
		}
		return eventlog.ErrNotFound
	})
	return raw, err
}

// Pause implements [eventlog.Guarded].
func (l *Log) Pause(ctx context.Context, try int) bool {
	return try < 40 && l.sleep(ctx, min(2*time.Millisecond<<min(try, 10), 500*time.Millisecond))
}

// Update is the engine's own loop on this log.
func (l *Log) Update(ctx context.Context, entity engine.Entity, id string,
	decide func(last *engine.Event) (*engine.Event, error),
) (eventlog.Entry, bool, error) {
	return eventlog.Change(ctx, l, entity, id, decide)
}

// UpdateFrom is Update that begins with what is known.
func (l *Log) UpdateFrom(ctx context.Context, entity engine.Entity, id string, known eventlog.Entry,
	decide func(last *engine.Event) (*engine.Event, error),
) (eventlog.Entry, bool, error) {
	return eventlog.ChangeFrom(ctx, l, entity, id, known, decide)
}

// Link reads where the provider's object leads.
func (l *Log) Link(ctx context.Context, providerID, objectID string) (k eventlog.Link, err error) {
	err = l.read(ctx, func() error {
		var ok bool
		if k, ok = l.s.links[providerID+" "+objectID]; !ok {
			return eventlog.ErrNotFound
		}
		return nil
	})
	return k, err
}

// PutLink remembers where the provider's object leads.
func (l *Log) PutLink(ctx context.Context, providerID, objectID string, k eventlog.Link) error {
	if !engine.ValidID(k.Entity, k.ID) {
		return fmt.Errorf("link %s: %q is no id of a %s", objectID, k.ID, k.Entity)
	}
	return l.once(ctx, func() error {
		name := providerID + " " + objectID
		if there, ok := l.s.links[name]; ok {
			if there != k {
				return &eventlog.LinkTakenError{Existing: there}
			}
			return nil
		}
		l.s.links[name] = k
		return nil
	})
}

// once tries until it is known what became of a write that may be done twice.
func (l *Log) once(ctx context.Context, do func() error) error {
	unknown := false
	for try := 0; ; try++ {
		err := l.write(ctx, do)
		if _, lost := errors.AsType[*eventlog.UnknownError](err); lost {
			unknown = true
		} else if !errors.Is(err, eventlog.ErrUnavailable) {
			if unknown && errors.Is(err, eventlog.ErrStorageFull) {
				err = &eventlog.UnknownError{Err: err}
			}
			return err
		}
		if try >= putTries || !l.Pause(ctx, try) {
			if unknown {
				err = &eventlog.UnknownError{Err: errLost}
			}
			return err
		}
	}
}

// checkFilter refuses what can match nothing.
func checkFilter(f eventlog.HistoryFilter) error {
	entity, ok := engine.EntityOf(f.EntityID)
	switch {
	case f.Entity != "" && !slices.Contains(engine.Entities(), f.Entity),
		f.EntityID != "" && (!ok || f.Entity != "" && f.Entity != entity),
		f.CustomerID != "" && !engine.ValidID(engine.EntityCustomer, f.CustomerID):
		return eventlog.ErrNotFound
	}
	return nil
}

func matches(e eventlog.Entry, f eventlog.HistoryFilter) bool {
	ev := e.Event
	return (f.Entity == "" || ev.Entity() == f.Entity) && (f.EntityID == "" || ev.Subject == f.EntityID) &&
		(f.CustomerID == "" || ev.CustomerID() == f.CustomerID)
}

// History reads events that match, oldest first.
func (l *Log) History(ctx context.Context, f eventlog.HistoryFilter, from uint64, limit int) (list []eventlog.Entry, err error) {
	if err := checkFilter(f); err != nil {
		return nil, err
	}
	err = l.read(ctx, func() error {
		for _, e := range l.s.entries[min(max(from, 1)-1, uint64(len(l.s.entries))):] {
			if len(list) < limit && matches(e, f) {
				list = append(list, e)
			}
		}
		return nil
	})
	return list, err
}

// Latest reads the last event of each of a customer's entities of one kind.
func (l *Log) Latest(ctx context.Context, entity engine.Entity, customerID string) (list []eventlog.Entry, err error) {
	if err := checkFilter(eventlog.HistoryFilter{Entity: entity, CustomerID: customerID}); err != nil {
		return nil, err
	}
	err = l.read(ctx, func() error {
		for _, e := range l.s.entries {
			if !matches(e, eventlog.HistoryFilter{Entity: entity, CustomerID: customerID}) {
				continue
			}
			list = slices.DeleteFunc(list, func(one eventlog.Entry) bool { return one.Event.Subject == e.Event.Subject })
			list = append(list, e)
		}
		return nil
	})
	return list, err
}

// StoreDelivery appends a delivery once.
func (l *Log) StoreDelivery(ctx context.Context, d eventlog.Delivery) (isNew bool, err error) {
	subject := strings.Join([]string{
		prefix, "inbox", engine.Token(d.ProviderID), engine.Token(d.EventID), engine.TokenOrNone(d.ProviderCustomerID),
	}, ".")
	header := nats.Header{}
	for k, v := range d.Header {
		header.Set(k, v)
	}
	err = l.write(ctx, func() error {
		var sequence uint64
		if sequence, isNew = l.s.inbox.put(subject, message{subject: subject, data: d.Body, header: header, at: l.s.now()}); isNew {
			l.s.appended(streamInbox, sequence)
		}
		return nil
	})
	return isNew && err == nil, err
}

// WalkDeliveries gives the deliveries that name a provider customer, or none.
func (l *Log) WalkDeliveries(ctx context.Context, providerID, providerCustomerID string,
	yield func(d eventlog.StoredDelivery) (erase bool, err error),
) error {
	for i := uint64(1); i <= uint64(len(l.s.inbox.list)); i++ {
		m := l.s.inbox.at(i)
		if m == nil {
			continue
		}
		tokens := strings.Split(m.subject, ".")
		if tokens[2] != engine.Token(providerID) || tokens[4] != engine.TokenOrNone(providerCustomerID) {
			continue
		}
		if err := l.read(ctx, func() error { return nil }); err != nil {
			return err
		}
		erase, err := yield(eventlog.StoredDelivery{Sequence: i, Time: m.at, Body: m.data})
		if err != nil {
			return err
		}
		if erase {
			if err := l.EraseDelivery(ctx, i); err != nil {
				return err
			}
		}
	}
	return nil
}

// EraseDelivery overwrites a delivery.
func (l *Log) EraseDelivery(ctx context.Context, sequence uint64) error {
	return l.read(ctx, func() error {
		l.s.inbox.erase(sequence)
		return nil
	})
}

// BackfillMark reads when the last complete backfill began.
func (l *Log) BackfillMark(ctx context.Context, providerID string) (at time.Time, err error) {
	err = l.read(ctx, func() error {
		at = l.s.marks[providerID]
		return nil
	})
	return at, err
}

// SetBackfillMark remembers it.
func (l *Log) SetBackfillMark(ctx context.Context, providerID string, at time.Time) error {
	return l.write(ctx, func() error {
		l.s.marks[providerID] = at
		return nil
	})
}

// Forgotten gives nothing: here nothing is restored.
func (l *Log) Forgotten() []eventlog.Forgotten { return nil }

// Info is the state of the LOG.
func (l *Log) Info(ctx context.Context) (info eventlog.LogInfo, err error) {
	err = l.read(ctx, func() error {
		n := uint64(len(l.s.entries))
		info = eventlog.LogInfo{FirstSequence: 1, LastSequence: n, Messages: n, Created: epoch, MaxBytes: -1}
		return nil
	})
	return info, err
}

// enqueue leaves a command.
func (s *Server) enqueue(subject string, body []byte, header nats.Header) {
	sequence, _ := s.queue.put("", message{subject: subject, data: body, header: header, at: s.now()})
	s.appended(streamQueue, sequence)
}

// CommandsCreated names the queue's stream and tells when it was made.
func (l *Log) CommandsCreated(context.Context, uint64) (string, time.Time) { return streamQueue, epoch }

// Wake tells nobody: in a simulation nobody waits.
func (l *Log) Wake(func(engine.Type, string, uint64)) (stop func(), err error) {
	return func() {}, nil
}

// MayAnswer is never asked: a simulation has no reply subjects.
func (l *Log) MayAnswer(string) bool { return false }

// Backlog is never full.
func (l *Log) Backlog(context.Context, eventlog.ConsumerName) (eventlog.Backlog, error) {
	return eventlog.Backlog{Limit: -1}, nil
}

// message reads what a consumer delivers.
func (s *Server) message(stream string, sequence uint64) (m eventlog.Message, ok bool) {
	m = eventlog.Message{Stream: stream, Sequence: sequence, Attempt: 1}
	switch stream {
	case streamLog:
		if sequence < 1 || sequence > uint64(len(s.entries)) {
			return m, false
		}
		return s.entries[sequence-1].Message(stream, s.times[sequence-1]), true
	case streamInbox, streamQueue:
		b := &s.inbox
		if stream == streamQueue {
			b = &s.queue
		}
		one := b.at(sequence)
		if one == nil {
			return m, false
		}
		m.Subject, m.Data, m.Header, m.Time = one.subject, one.data, one.header, one.at
		return m, true
	}
	return m, false
}

// never is further away than any simulation goes.
const never = time.Duration(math.MaxInt64)

func linkTo(customerID string) eventlog.Link {
	return eventlog.Link{Entity: engine.EntityCustomer, ID: customerID, CustomerID: customerID}
}

// ErrConsume says that the model hands out messages itself.
var ErrConsume = errors.New("sim: messages are handed out by the world")

// Consume is none of a connection's: the world hands out messages, one at a time.
func (l *Log) Consume(context.Context, eventlog.ConsumerName, eventlog.ConsumeOptions) error {
	return ErrConsume
}

// MoveLink leads a provider's object elsewhere, if it still leads where it did.
func (l *Log) MoveLink(ctx context.Context, providerID, objectID string, from, to eventlog.Link) error {
	if !engine.ValidID(to.Entity, to.ID) {
		return fmt.Errorf("link %s: %q is no id of a %s", objectID, to.ID, to.Entity)
	}
	return l.once(ctx, func() error {
		name := providerID + " " + objectID
		there, ok := l.s.links[name]
		switch {
		case ok && there == to:
			return nil
		case !ok:
			return eventlog.ErrNotFound
		case there != from:
			return &eventlog.LinkTakenError{Existing: there}
		}
		l.s.links[name] = to
		return nil
	})
}

// Scan gives every event of one kind of entity, oldest first.
func (l *Log) Scan(ctx context.Context, entity engine.Entity, yield func(e eventlog.Entry) error) error {
	list, err := l.History(ctx, eventlog.HistoryFilter{Entity: entity}, 1, len(l.s.entries)+1)
	if err != nil {
		return err
	}
	for _, e := range list {
		if err := yield(e); err != nil {
			return err
		}
	}
	return nil
}
