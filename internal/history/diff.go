package history

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// Change is what became of one entity between two points of the log.
type Change struct {
	CustomerID  string          `json:"customerId,omitempty"`
	ReferenceID string          `json:"referenceId,omitempty"`
	Entity      events.Entity   `json:"entity"`
	ID          string          `json:"id"`
	From        json.RawMessage `json:"from"` // its snapshot at the first point; null if it did not exist
	To          json.RawMessage `json:"to"`   // its snapshot at the second
	Changes     []Field         `json:"changes"`
	Sentence    string          `json:"sentence"`
}

// Field is a field of the snapshot that differs. A value is null where there is none.
type Field struct {
	Field string          `json:"field"`
	From  json.RawMessage `json:"from"`
	To    json.RawMessage `json:"to"`
}

// lookUps is how many entities are looked up at once.
const lookUps = 8

// span is the events of one entity between the two points.
type span struct {
	first  int    // the version of the first
	before string // the digest of the event before the first
	last   eventlog.Stored
	change Change
	was    *events.Event // its event at the first point, nil if it did not exist
	is     *events.Event
}

// Diff compares two points of the log: what is different once the events behind from, up to to, had happened. It reads these
// events, and of each entity in them that existed before the last event up to from, so a short span is cheap however long
// the log is. customerID limits it to one customer's entities; "" = all. The changes come by customer, in the order in
// which they first changed.
func Diff(ctx context.Context, log *eventlog.Log, customerID string, from, to uint64) ([]Change, error) {
	spans := map[string]*span{}
	var order []*span
	err := log.Range(ctx, eventlog.HistoryFilter{CustomerID: customerID}, from+1, to, func(s eventlog.Stored) error {
		e, err := s.Entry()
		if err != nil {
			return err //nolint:wrapcheck // says which event
		}
		known := spans[e.Event.Subject]
		if known == nil {
			known = &span{first: e.Event.EntityVersion, before: e.Event.PreviousDigest}
			spans[e.Event.Subject] = known
			order = append(order, known)
		}
		known.last, known.is = s, e.Event
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(lookUps)
	for _, s := range order {
		g.Go(func() error { return s.compare(ctx, log, from) })
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	list := []Change{}
	for _, customer := range customers(order) {
		list = append(list, customer...)
	}
	return list, nil
}

// customers groups what changed by customer, each in its order.
func customers(order []*span) [][]Change {
	var groups [][]Change
	at := map[string]int{}
	for _, s := range order {
		if len(s.change.Changes) == 0 {
			continue // what changed was changed back
		}
		i, known := at[s.change.CustomerID]
		if !known {
			i = len(groups)
			at[s.change.CustomerID] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], s.change)
	}
	return groups
}

// compare fills in the change.
func (s *span) compare(ctx context.Context, log *eventlog.Log, from uint64) error {
	var before json.RawMessage
	if s.first > 1 {
		e, err := log.LoadAt(ctx, s.is.Entity(), s.is.Subject, from)
		if err != nil {
			return fmt.Errorf("what %s was at sequence %d: %w", s.is.Subject, from, err)
		}
		if e.Event.Digest() != s.before {
			return fmt.Errorf("event at sequence %d: %w: it is not the one before version %d of %s", e.Sequence, events.ErrMalformed, s.first, s.is.Subject)
		}
		s.was = e.Event
		if before, err = snapshot(e.Raw, e.Event.Entity()); err != nil {
			return err
		}
	}
	after, err := snapshot(s.last.Raw, s.is.Entity())
	if err != nil {
		return err
	}
	fields, err := differing(before, after)
	if err != nil {
		return err
	}
	s.change = Change{
		CustomerID: s.is.CustomerID(), ReferenceID: s.is.Data.Customer.ReferenceID, Entity: s.is.Entity(), ID: s.is.Subject,
		From: before, To: after, Changes: fields, Sentence: sentence(s.was, s.is, fields),
	}
	return nil
}

// snapshot cuts an entity's snapshot out of an event, with all its fields, also those that only a newer program knows.
func snapshot(raw []byte, entity events.Entity) (json.RawMessage, error) {
	var envelope struct {
		Data map[string]json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(raw, &envelope); err != nil {
		return nil, fmt.Errorf("%w: %w", events.ErrMalformed, err)
	}
	name := string(entity)
	switch entity {
	case events.EntityProviderAccount:
		name = "providerAccount"
	case events.EntityPaymentMethod:
		name = "paymentMethod"
	case events.EntityCustomer, events.EntityCheckout, events.EntitySetup, events.EntityCharge, events.EntityCommand:
	}
	return envelope.Data[name], nil
}

// differing lists the fields that differ, by name. When an entity was last updated is no change of its own.
func differing(from, to json.RawMessage) ([]Field, error) {
	var was, is map[string]json.RawMessage
	if len(from) > 0 {
		if err := json.Unmarshal(from, &was); err != nil {
			return nil, fmt.Errorf("%w: %w", events.ErrMalformed, err)
		}
	}
	if err := json.Unmarshal(to, &is); err != nil {
		return nil, fmt.Errorf("%w: %w", events.ErrMalformed, err)
	}
	names := slices.Collect(maps.Keys(is))
	for name := range was {
		if _, both := is[name]; !both {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	fields := []Field{}
	for _, name := range names {
		if name != "updatedAt" && !bytes.Equal(was[name], is[name]) { // both as our encoder wrote them
			fields = append(fields, Field{Field: name, From: was[name], To: is[name]})
		}
	}
	return fields, nil
}
