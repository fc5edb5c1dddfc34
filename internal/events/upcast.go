package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrUnknownSchema is returned for an event of a schema version that this program does not know: a newer one wrote it, and
// gave a field a new meaning. It is treated as [ErrUnknownType] is: a projector stops on it, an app skips it.
var ErrUnknownSchema = errors.New("unknown schema version")

// Upcast turns an event's data of one schema version into that of the next: the JSON object that stands under "data", of
// an event of any type of its entity. It returns new bytes and leaves its argument as it is. It is pure, and never changes
// again once a program with it was released: views are a function of what it gives.
type Upcast func(data json.RawMessage) (json.RawMessage, error)

// Upcasters are the steps from each entity's schema version 1 to the one that the program writes: the first of an entity
// leads from version 1 to version 2. It is the one place where old events are made new; whatever reads an event sees the
// current shape only. The stored bytes stay, and so do digests, which are of the stored bytes.
//
// A field that is added needs no step: what an older event lacks is the zero value. A step is for a field that is renamed,
// split, or given another meaning or type.
type Upcasters map[Entity][]Upcast

// Released are the steps of this program: none, since no released shape was ever changed but by adding fields. Whoever adds
// the first makes golden files of the new version (testdata/v2) and keeps those of the old.
func Released() Upcasters { return nil }

// schemaPrefix stands before the version in an event's dataschema.
func schemaPrefix(entity Entity) string { return "urn:paykit:" + string(entity) + ":" }

// Schema is the dataschema of the events that the program writes of an entity.
func (u Upcasters) Schema(entity Entity) string {
	return schemaPrefix(entity) + strconv.Itoa(u.current(entity))
}

// current is the version that the program writes.
func (u Upcasters) current(entity Entity) int { return len(u[entity]) + 1 }

// version reads an event's dataschema. One that names no version of the entity's is taken for the first: the log may hold
// what somebody else wrote, and "paykit verify" reports it.
func (u Upcasters) version(entity Entity, dataschema string) (int, error) {
	text, ok := strings.CutPrefix(dataschema, schemaPrefix(entity))
	if !ok {
		return 1, nil
	}
	n, err := strconv.Atoi(text)
	switch {
	case err != nil || n < 1:
		return 0, fmt.Errorf("%w: dataschema %q names no version", ErrMalformed, dataschema)
	case n > u.current(entity):
		return 0, fmt.Errorf("%w: %s is of version %d, this program knows up to %d; a newer one is needed",
			ErrUnknownSchema, entity, n, u.current(entity))
	}
	return n, nil
}

// data is an event's data in the current shape.
func (u Upcasters) data(entity Entity, from int, data json.RawMessage) (json.RawMessage, error) {
	for i, step := range u[entity] {
		if i+1 < from {
			continue
		}
		next, err := step(data)
		if err != nil {
			return nil, fmt.Errorf("%w: %s from schema %d to %d: %w", ErrMalformed, entity, i+1, i+2, err)
		}
		data = next
	}
	return data, nil
}

// envelope is an event whose data is not read yet. Its Data hides the event's.
type envelope struct {
	Event

	Data json.RawMessage `json:"data"`
}

// Decode reads an event's stored bytes; see [Decode].
func (u Upcasters) Decode(b []byte) (*Event, error) {
	if len(u) == 0 {
		// Nothing is ever taken through a step, so all is read at once: reading the data by itself costs half as much again.
		e := &Event{}
		if err := json.Unmarshal(b, e); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		if _, err := u.check(e); err != nil {
			return nil, err
		}
		return e.read(b, cut(b, "data"))
	}
	var e envelope
	if err := json.Unmarshal(b, &e); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	version, err := u.check(&e.Event)
	if err != nil {
		return nil, err
	}
	data, err := u.data(e.Entity(), version, e.Data)
	if err != nil {
		return nil, err
	}
	if len(data) > 0 {
		ev := &e.Event // whose Data the envelope's hides
		if err := json.Unmarshal(data, &ev.Data); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
	}
	return e.read(b, data)
}

// check looks at the attributes and answers the schema version.
func (u Upcasters) check(e *Event) (int, error) {
	if !e.Type.Known() {
		return 0, fmt.Errorf("%w: %q", ErrUnknownType, e.Type)
	}
	if e.ID == "" || e.Subject == "" || e.EntityVersion < 1 || e.SpecVersion != "1.0" {
		return 0, fmt.Errorf("%w: an attribute is missing", ErrMalformed)
	}
	return u.version(e.Entity(), e.DataSchema)
}

// read remembers what the event was decoded from: the stored bytes, and its data in the current shape.
func (e *Event) read(stored, data []byte) (*Event, error) {
	if e.snapshotID() != e.Subject {
		return nil, fmt.Errorf("%w: %s without the snapshot of its entity", ErrMalformed, e.Type)
	}
	e.digest, e.snapshot = Digest(stored), cut(data, e.Entity().field())
	return e, nil
}

// field is the name under which an entity's snapshot stands in an event's data.
func (e Entity) field() string {
	switch e {
	case EntityProviderAccount:
		return "providerAccount"
	case EntityPaymentMethod:
		return "paymentMethod"
	case EntityCustomer, EntityCheckout, EntitySetup, EntityCharge, EntityCommand:
	}
	return string(e)
}
