package eventlog

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/paykit-go/paykit/internal/events"
)

// Call is one HTTP request to a provider, as it is kept for explanations. It holds no body, no secret and nothing personal.
type Call struct {
	Time           time.Time `json:"time"`                     // when it was sent
	Operation      string    `json:"operation"`                // "payment_intents.create"
	IdempotencyKey string    `json:"idempotencyKey,omitempty"` // of a write, as the provider got it
	RequestID      string    `json:"requestId,omitempty"`      // the provider's, "" if no answer came
	Attempt        int       `json:"attempt"`                  // the try of the event that asked for it, from 1
	Outcome        string    `json:"outcome"`                  // "ok", "declined", "invalid", "transient", "blocked", "in_doubt"
	Status         int       `json:"status,omitempty"`         // of HTTP, 0 if no answer came
	Code           string    `json:"code,omitempty"`           // the provider's, of a failure
	DeclineCode    string    `json:"declineCode,omitempty"`
	Replayed       bool      `json:"replayed,omitempty"` // the stored answer of an earlier call with this key
	DurationMs     int64     `json:"durationMs"`
	Entity         string    `json:"entity,omitempty"` // for whom; "" for nobody in particular: lists of deliveries
	EntityID       string    `json:"entityId,omitempty"`
	CustomerID     string    `json:"customerId,omitempty"`
	ProviderID     string    `json:"providerId"`
	ObjectID       string    `json:"objectId,omitempty"` // the provider's object that it acted on or made
	EventID        string    `json:"eventId,omitempty"`  // the event that asked for it
}

// StoredCall is a call where it stands in CALLS.
type StoredCall struct {
	Call
	Sequence uint64 `json:"sequence"`
}

func (l *Log) callSubject(c Call) string {
	return l.subject("call", events.TokenOrNone(c.Entity), events.TokenOrNone(c.EntityID), events.TokenOrNone(c.CustomerID))
}

// StoreCalls stores records of calls. They are sent at once and only the last one's acknowledgement is waited for, since the
// stream takes them in order: an error means that it is not known of any whether it was stored. It needs one goroutine only.
func (l *Log) StoreCalls(ctx context.Context, calls []Call) error {
	if err := l.connected(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, l.patience)
	defer cancel()
	for i, c := range calls {
		body, err := json.Marshal(c)
		if err != nil {
			return fmt.Errorf("encode the record of a call: %w", err)
		}
		msg := &nats.Msg{Subject: l.callSubject(c), Data: body}
		if i < len(calls)-1 {
			err = l.nc.PublishMsg(msg)
		} else {
			_, err = l.js.PublishMsg(ctx, msg, jetstream.WithExpectStream(l.stream(streamCalls)))
		}
		if err != nil {
			return fmt.Errorf("store records of calls: %w", writeError(err))
		}
	}
	return nil
}

// CallsOf reads the recorded calls for an entity, oldest first.
func (l *Log) CallsOf(ctx context.Context, entity events.Entity, id string) ([]StoredCall, error) {
	var list []StoredCall
	filter := l.subject("call", events.Token(string(entity)), events.Token(id), "*")
	err := l.walk(ctx, l.stream(streamCalls), filter, 1, func(m stored) (bool, error) {
		if c, ok := decodeCall(m); ok {
			list = append(list, c)
		}
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("calls for %s %s: %w", entity, id, err)
	}
	return list, nil
}

// decodeCall reads a record; what can't be read explains nothing and is passed over.
func decodeCall(m stored) (StoredCall, bool) {
	c := StoredCall{Sequence: m.Sequence}
	return c, json.Unmarshal(m.Data, &c.Call) == nil
}

// Found is what a search has come to: Searched of Total messages.
type Found struct{ Searched, Total uint64 }

// FindCalls reads the recorded calls back from the newest, and gives those whose record holds the text to yield, until yield
// says stop or all are read. progress, if not nil, is told after each stretch. Its cost is that of reading so many records.
func (l *Log) FindCalls(ctx context.Context, text string, progress func(Found), yield func(c StoredCall) (bool, error)) error {
	return l.findBack(ctx, streamCalls, text, progress, func(m stored) (bool, error) {
		c, ok := decodeCall(m)
		if !ok {
			return true, nil
		}
		return yield(c)
	})
}

// FindEvents is [Log.FindCalls] for the events of the LOG. Of a stretch the newest come first.
func (l *Log) FindEvents(ctx context.Context, text string, progress func(Found), yield func(e Entry) (bool, error)) error {
	return l.findBack(ctx, streamLog, text, progress, func(m stored) (bool, error) {
		e, err := l.entry(m)
		if err != nil {
			return true, nil //nolint:nilerr // "paykit verify" reports it; it can't be the one that is looked for
		}
		return yield(e)
	})
}

// findStretch is how many messages a search reads at once, and how far it goes back for it.
const findStretch = 2000

// findBack searches a stream from its end, since what is asked about is mostly of today.
func (l *Log) findBack(ctx context.Context, stream, text string, progress func(Found), yield func(m stored) (bool, error)) error {
	info, err := streamInfo(ctx, l.js, l.stream(stream))
	if err != nil {
		return fmt.Errorf("search %s: %w", l.stream(stream), err)
	}
	first, end := max(info.State.FirstSeq, 1), info.State.LastSeq+1
	total := end - min(first, end)
	for end > first {
		from := max(first, end-min(end-first, findStretch))
		hits, err := l.stretch(ctx, stream, from, end, text)
		if err != nil {
			return fmt.Errorf("search %s: %w", l.stream(stream), err)
		}
		for _, hit := range slices.Backward(hits) {
			if more, err := yield(hit); err != nil || !more {
				return err
			}
		}
		end = from
		if progress != nil {
			progress(Found{Searched: total - (end - first), Total: total})
		}
	}
	return nil
}

// everything is the filter that the server need not match subjects with.
const everything = ">"

// stretch gives the messages from one sequence up to below another that hold the text.
func (l *Log) stretch(ctx context.Context, stream string, from, end uint64, text string) ([]stored, error) {
	var hits []stored
	for from < end {
		r := getRequest{Sequence: from, Next: everything, Batch: int(end - from), MaxBytes: batchBytes} //nolint:gosec // G115: at most findStretch
		list, more, err := l.directBatch(ctx, l.stream(stream), r)
		if err != nil {
			return nil, err
		}
		for _, m := range list {
			from = m.Sequence + 1
			if m.Sequence < end && bytes.Contains(m.Data, []byte(text)) {
				hits = append(hits, m)
			}
		}
		if !more || len(list) == 0 {
			break
		}
	}
	return hits, nil
}

// DeliveryOf reads a stored delivery by the provider's id of it. It returns [ErrNotFound], also for one that was erased.
func (l *Log) DeliveryOf(ctx context.Context, providerID, eventID string) (StoredDelivery, error) {
	filter := l.subject("inbox", events.Token(providerID), events.Token(eventID), "*")
	m, err := l.fromLeader(ctx, l.stream(streamInbox), getRequest{Last: filter})
	if err != nil {
		return StoredDelivery{}, fmt.Errorf("delivery %s of %s: %w", eventID, providerID, err)
	}
	return StoredDelivery{Sequence: m.Sequence, Time: m.Time, Body: m.Data}, nil
}

// EventByID finds an event by its ULID, which tells when it was decided: what was stored from a moment before on is read, up
// to a while after. It returns [ErrNotFound] if it is not there; a search of the whole LOG may still find it, since clocks
// of processes differ.
func (l *Log) EventByID(ctx context.Context, id string, decided time.Time) (Entry, error) {
	start := decided.Add(-eventClockSkew)
	var found *Entry
	r := getRequest{StartTime: &start, Next: everything, Batch: batchSize, MaxBytes: batchBytes}
	for found == nil {
		list, more, err := l.directBatch(ctx, l.stream(streamLog), r)
		if err != nil {
			return Entry{}, fmt.Errorf("event %s: %w", id, err)
		}
		for _, m := range list {
			if e, err := l.entry(m); err == nil && e.Event.ID == id {
				found = &e
				break
			}
			r = getRequest{Sequence: m.Sequence + 1, Next: r.Next, Batch: batchSize, MaxBytes: batchBytes}
			if m.Time.After(decided.Add(eventStoredWithin)) {
				more = false
			}
		}
		if found == nil && (!more || len(list) == 0) {
			return Entry{}, fmt.Errorf("event %s: %w", id, ErrNotFound)
		}
	}
	return *found, nil
}

// Where in the LOG an event is looked for by the time in its id.
const (
	eventClockSkew    = 2 * time.Second
	eventStoredWithin = time.Minute
)

// DeliverySearch says which stored deliveries are wanted: those of a provider about this customer of the provider's, "" for
// those that name none, or about anyone, stored since a time, whose body holds one of the texts.
type DeliverySearch struct {
	ProviderID, ProviderCustomerID string
	Anyone                         bool
	Since                          time.Time
	Texts                          []string
	Most                           int // deliveries that are read at most
}

// FindDeliveries gives the wanted deliveries to yield, oldest first. complete is false if there are more than were read.
// Its cost is that of reading them: INBOX keeps them for 35 days.
func (l *Log) FindDeliveries(ctx context.Context, s DeliverySearch, yield func(d StoredDelivery) error) (complete bool, err error) {
	filter := l.subject("inbox", events.Token(s.ProviderID), "*", events.TokenOrNone(s.ProviderCustomerID))
	if s.Anyone {
		filter = l.subject("inbox", events.Token(s.ProviderID), "*", "*")
	}
	r := getRequest{StartTime: &s.Since, Next: filter, Batch: batchSize, MaxBytes: batchBytes}
	for read := 0; ; {
		list, more, err := l.directBatch(ctx, l.stream(streamInbox), r)
		if err != nil {
			return false, fmt.Errorf("search deliveries: %w", err)
		}
		for _, m := range list {
			if read++; read > s.Most {
				return false, nil
			}
			r = getRequest{Sequence: m.Sequence + 1, Next: filter, Batch: batchSize, MaxBytes: batchBytes}
			if slices.ContainsFunc(s.Texts, func(text string) bool { return bytes.Contains(m.Data, []byte(text)) }) {
				if err := yield(StoredDelivery{Sequence: m.Sequence, Time: m.Time, Body: m.Data}); err != nil {
					return false, err
				}
			}
		}
		if !more || len(list) == 0 {
			return true, nil
		}
	}
}
