package eventlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/paykit-go/paykit/internal/events"
)

// stored is a message as it stands in a stream.
type stored struct {
	Subject  string
	Sequence uint64
	Data     []byte
	Header   nats.Header // as the leader gives it; of a direct get it is nil
	Time     time.Time
}

// entry decodes a message of the LOG.
func (l *Log) entry(s stored) (Entry, error) {
	ev, err := l.cfg.Upcasters.Decode(s.Data)
	if err != nil {
		return Entry{}, &UnreadableError{Sequence: s.Sequence, Subject: s.Subject, Raw: s.Data, Err: err}
	}
	return Entry{Event: ev, Sequence: s.Sequence, Subject: s.Subject, Raw: s.Data}, nil
}

// getRequest is the body of a (direct) get. Source: https://github.com/nats-io/nats-architecture-and-design ADR-31
type getRequest struct {
	Sequence  uint64   `json:"seq,omitempty"`
	Last      string   `json:"last_by_subj,omitempty"`
	Next      string   `json:"next_by_subj,omitempty"`
	MultiLast []string `json:"multi_last,omitempty"`
	UpTo      uint64   `json:"up_to_seq,omitempty"` // of MultiLast: nothing behind it
	Batch     int      `json:"batch,omitempty"`
	MaxBytes  int      `json:"max_bytes,omitempty"`

	StartTime *time.Time `json:"start_time,omitempty"` // with Next, in place of Sequence
}

// direct reads one message, from whichever server has it: after a write to a replicated stream it may answer what was
// before. It returns [ErrNotFound].
func (l *Log) direct(ctx context.Context, stream string, r getRequest) (stored, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return stored{}, fmt.Errorf("encode a request: %w", err)
	}
	msg, err := l.request(ctx, "$JS.API.DIRECT.GET."+stream, body)
	if err != nil {
		return stored{}, err
	}
	return decodeDirect(msg)
}

// unchanging reads one message that, once it is there, stays as it is: the leader is asked only for one that is not found.
func (l *Log) unchanging(ctx context.Context, stream string, r getRequest) (stored, error) {
	m, err := l.direct(ctx, stream, r)
	if errors.Is(err, ErrNotFound) && l.replicated {
		return l.fromLeader(ctx, stream, r)
	}
	return m, err
}

// fromLeader reads one message from the stream's leader: never stale. It returns [ErrNotFound].
func (l *Log) fromLeader(ctx context.Context, stream string, r getRequest) (stored, error) {
	var answer struct {
		Message struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Data     []byte    `json:"data"`
			Header   []byte    `json:"hdrs"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	if err := l.ask(ctx, "$JS.API.STREAM.MSG.GET."+stream, r, &answer); err != nil {
		return stored{}, err
	}
	m := stored{
		Subject: answer.Message.Subject, Sequence: answer.Message.Sequence, Data: answer.Message.Data, Time: answer.Message.Time,
	}
	if len(answer.Message.Header) > 0 {
		var err error
		if m.Header, err = nats.DecodeHeadersMsg(answer.Message.Header); err != nil {
			return stored{}, fmt.Errorf("message %d of %s: %w", m.Sequence, stream, err)
		}
	}
	return m, nil
}

// errEndOfBatch marks the message behind the last of a batch; errTooMany, that there are more than one answer may hold.
var (
	errEndOfBatch = errors.New("end of batch")
	errTooMany    = errors.New("too many results")
)

func decodeDirect(msg *nats.Msg) (stored, error) {
	switch status := msg.Header.Get("Status"); status {
	case "":
	case "204":
		return stored{}, errEndOfBatch
	case "404":
		return stored{}, ErrNotFound
	case "413":
		return stored{}, errTooMany
	case "503":
		return stored{}, fmt.Errorf("%w: %w", ErrUnavailable, nats.ErrNoResponders)
	default:
		return stored{}, fmt.Errorf("direct get: status %s %s", status, msg.Header.Get("Description"))
	}
	sequence, err := strconv.ParseUint(msg.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return stored{}, fmt.Errorf("direct get: sequence: %w", err)
	}
	at, err := time.Parse(time.RFC3339Nano, msg.Header.Get(jetstream.TimeStampHeaer))
	if err != nil {
		return stored{}, fmt.Errorf("direct get: time: %w", err)
	}
	return stored{Subject: msg.Header.Get(jetstream.SubjectHeader), Sequence: sequence, Data: msg.Data, Time: at}, nil
}

// directBatch reads several messages with one request. more tells that the answer was cut short; a batch may end early
// because of its size.
func (l *Log) directBatch(ctx context.Context, stream string, r getRequest) (list []stored, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	body, err := json.Marshal(r)
	if err != nil {
		return nil, false, fmt.Errorf("encode a request: %w", err)
	}
	inbox := l.nc.NewInbox()
	sub, err := l.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, false, readError(err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only on a closed connection, which ends it too
	if err := l.nc.PublishRequest("$JS.API.DIRECT.GET."+stream, inbox, body); err != nil {
		return nil, false, readError(err)
	}
	for {
		msg, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return nil, false, readError(err)
		}
		m, err := decodeDirect(msg)
		switch {
		case errors.Is(err, errEndOfBatch):
			pending := msg.Header.Get("Nats-Num-Pending")
			return list, pending != "" && pending != "0", nil
		case errors.Is(err, ErrNotFound):
			return list, false, nil
		case err != nil:
			return nil, false, err
		}
		list = append(list, m)
	}
}

// What bounds one answer.
const (
	batchSize   = 256
	batchBytes  = 8 << 20
	latestBytes = 32 << 20
)

// walk reads a stream's messages that match the filter, oldest first, from a sequence, until yield says stop. It sees
// every message that was acknowledged before it began: batches may come from a replica that lags behind, so what is
// behind them is asked of the leader. What a batch shows may be erased already.
func (l *Log) walk(ctx context.Context, stream, filter string, from uint64, yield func(stored) (bool, error)) error {
	for {
		r := getRequest{Sequence: max(from, 1), Next: filter, Batch: batchSize, MaxBytes: batchBytes}
		list, more, err := l.directBatch(ctx, stream, r)
		if err != nil {
			return err
		}
		for _, m := range list {
			from = m.Sequence + 1
			if goOn, err := yield(m); err != nil || !goOn {
				return err
			}
		}
		if !more || len(list) == 0 {
			return l.tail(ctx, stream, filter, from, yield)
		}
	}
}

// tail reads on where the batches of a replicated stream ended.
func (l *Log) tail(ctx context.Context, stream, filter string, from uint64, yield func(stored) (bool, error)) error {
	for l.replicated {
		m, err := l.fromLeader(ctx, stream, getRequest{Sequence: max(from, 1), Next: filter})
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		from = m.Sequence + 1
		if goOn, err := yield(m); err != nil || !goOn {
			return err
		}
	}
	return nil
}

// Load reads an entity's last event: its state. It returns [ErrNotFound] for an entity that does not exist, on the leader's
// word. On a replicated stream what it reads may lag behind by a moment; [Log.LoadFromLeader] never does.
func (l *Log) Load(ctx context.Context, entity events.Entity, id string) (Entry, error) {
	filter, err := l.entityFilter(entity, id)
	if err != nil {
		return Entry{}, err
	}
	m, err := l.unchanging(ctx, l.stream(streamLog), getRequest{Last: filter})
	if err != nil {
		return Entry{}, fmt.Errorf("load %s %s: %w", entity, id, err)
	}
	return l.entry(m)
}

// LoadFromLeader is [Log.Load] from the stream's leader: it sees every acknowledged event.
func (l *Log) LoadFromLeader(ctx context.Context, entity events.Entity, id string) (Entry, error) {
	if !l.replicated {
		return l.Load(ctx, entity, id) // there is nobody who could lag behind, and a direct get costs half
	}
	filter, err := l.entityFilter(entity, id)
	if err != nil {
		return Entry{}, err
	}
	m, err := l.fromLeader(ctx, l.stream(streamLog), getRequest{Last: filter})
	if err != nil {
		return Entry{}, fmt.Errorf("load %s %s: %w", entity, id, err)
	}
	return l.entry(m)
}

// Read reads the event at a sequence. It returns [ErrNotFound] if there is none.
func (l *Log) Read(ctx context.Context, sequence uint64) (Entry, error) {
	m, err := l.unchanging(ctx, l.stream(streamLog), getRequest{Sequence: sequence})
	if err != nil {
		return Entry{}, fmt.Errorf("read the event at sequence %d: %w", sequence, err)
	}
	return l.entry(m)
}

// HistoryFilter says whose events are wanted; empty fields match everything. An EntityID needs its Entity.
type HistoryFilter struct {
	CustomerID string
	Entity     events.Entity
	EntityID   string
}

func (l *Log) historySubject(f HistoryFilter) (string, error) {
	tokens := []string{"log", "*", "*", "*", "*"}
	if f.Entity != "" {
		if !slices.Contains(events.Entities(), f.Entity) {
			return "", fmt.Errorf("%w: there is no entity %q", ErrNotFound, f.Entity)
		}
		tokens[1] = string(f.Entity)
	}
	if f.EntityID != "" {
		entity, ok := events.EntityOf(f.EntityID)
		if !ok || f.Entity != "" && f.Entity != entity {
			return "", fmt.Errorf("%w: %q is no id of a %s", ErrNotFound, f.EntityID, f.Entity)
		}
		tokens[1], tokens[3] = string(entity), f.EntityID
	}
	if f.CustomerID != "" {
		if !events.ValidID(events.EntityCustomer, f.CustomerID) {
			return "", fmt.Errorf("%w: %q is no id of a customer", ErrNotFound, f.CustomerID)
		}
		tokens[4] = f.CustomerID
	}
	return l.subject(tokens...), nil
}

// History reads events, oldest first, at most limit, from a sequence (0 and 1 are the beginning). At one that can't be read it
// ends with an [UnreadableError], and gives those before it all the same: whoever can do without goes on behind it.
func (l *Log) History(ctx context.Context, f HistoryFilter, from uint64, limit int) ([]Entry, error) {
	subject, err := l.historySubject(f)
	if err != nil {
		return nil, err
	}
	list := []Entry{}
	if limit <= 0 {
		return list, nil
	}
	err = l.walk(ctx, l.stream(streamLog), subject, from, func(m stored) (bool, error) {
		e, err := l.entry(m)
		if err != nil {
			return false, err
		}
		list = append(list, e)
		return len(list) < limit, nil
	})
	if _, unreadable := errors.AsType[*UnreadableError](err); err != nil && !unreadable {
		return nil, fmt.Errorf("history: %w", err)
	}
	return list, err
}

// Scan reads every event of one kind of entity, oldest first, and calls yield with one after the other until it fails,
// whose error it returns. It keeps nothing but one batch in memory and ends with ctx. An entity's last event that it gives is
// the entity's state; whether more will come of an entity is not known before the end, so who wants to act on a state
// decides on it again under the guard. An event that can't be read is logged and passed over: "paykit verify" reports it.
//
// Its cost is that of reading these events, in batches of 256: for what is done once a day, or by an operator.
func (l *Log) Scan(ctx context.Context, entity events.Entity, yield func(e Entry) error) error {
	subject, err := l.historySubject(HistoryFilter{Entity: entity})
	if err != nil {
		return err
	}
	err = l.walk(ctx, l.stream(streamLog), subject, 1, func(m stored) (bool, error) {
		e, err := l.entry(m)
		if err != nil {
			l.cfg.Logger.Warn().Err(err).Uint64("stream_seq", m.Sequence).Msg("event passed over: it can't be read")
			return true, nil
		}
		return true, yield(e)
	})
	if err != nil {
		return fmt.Errorf("scan %s: %w", entity, err)
	}
	return nil
}

// Latest reads the last event of each of a customer's entities of one kind, oldest first. It is for rare operations:
// the id's wildcard makes the server look at every entity of the kind.
func (l *Log) Latest(ctx context.Context, entity events.Entity, customerID string) ([]Entry, error) {
	subject, err := l.historySubject(HistoryFilter{Entity: entity, CustomerID: customerID})
	if err != nil {
		return nil, err
	}
	last := map[string]stored{}
	seen := uint64(0)
	take := func(m stored) (bool, error) {
		seen = max(seen, m.Sequence)
		// The subject's fourth token behind the prefix is the entity's id; each of its events has a subject of its own.
		if _, id, ok := l.parseSubject(m.Subject); ok && m.Sequence > last[id].Sequence {
			last[id] = m
		}
		return true, nil
	}
	list, more, err := l.directBatch(ctx, l.stream(streamLog), getRequest{MultiLast: []string{subject}, MaxBytes: latestBytes})
	for _, m := range list {
		_, _ = take(m) // never fails
	}
	if errors.Is(err, errTooMany) || err == nil && more { // over 1,024 subjects, or too large for one answer
		err = l.walk(ctx, l.stream(streamLog), subject, 1, take)
	} else if err == nil {
		err = l.tail(ctx, l.stream(streamLog), subject, seen+1, take)
	}
	if err != nil {
		return nil, fmt.Errorf("latest %s of %s: %w", entity, customerID, err)
	}
	entries := make([]Entry, 0, len(last))
	for _, m := range slices.SortedFunc(maps.Values(last), func(a, b stored) int { return int(a.Sequence) - int(b.Sequence) }) { //nolint:gosec // G115: sequences are far below 2^63
		e, err := l.entry(m)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}
