package sandbox

import (
	"encoding/json"
	"fmt"
	"hash/maphash"
	"slices"
)

// table keeps one kind of object by id and in the order of creation. Guarded by Server.mu.
//
// get and find note what they hand out, since whoever has an object may change it; leave then saves what did change. Only
// all and peek hand out objects that are not noted: who changes one of those takes it by get.
type table[T any] struct {
	kind  string // its name in the state file
	rows  map[string]*row[T]
	order []string
	touch *touchList // nil: nothing is kept
}

type row[T any] struct {
	v       *T
	touched bool   // in the touchList
	saved   uint64 // hash of what the state file holds of it, 0: nothing, loaded: something
}

// touchList is what the present step may have changed, in the order in which it came to it. Guarded by Server.mu.
type touchList struct {
	rows []touchedRow
}

// loaded stands for the hash of a row that came from the file: its next change is written without comparing.
const loaded = 1

type touchedRow struct {
	in store
	id string
}

// store is a table of any kind, to the state file.
type store interface {
	name() string
	ids() []string
	// appendRecord appends what the state file does not hold yet of the object id, which may be nothing.
	appendRecord(b []byte, id string, seed maphash.Seed) []byte
	// appendRow appends the record of the object id as it is, whatever the state file holds.
	appendRow(b []byte, id string) []byte
	// load puts back an object, or its later state.
	load(id string, object, hidden json.RawMessage) error
	keepIn(*touchList)
}

// hider is an object with fields that the API does not show. hidden returns a pointer to a struct of pointers to them,
// with which they are encoded as well as decoded.
type hider interface{ hidden() any }

// passing is an object that is not always worth keeping.
type passing interface{ passing() bool }

func newTable[T any](kind string) table[T] { return table[T]{kind: kind, rows: map[string]*row[T]{}} }

// add puts in a new object.
func (t *table[T]) add(id string, v *T) {
	r := &row[T]{v: v}
	t.rows[id] = r
	t.order = append(t.order, id)
	t.note(id, r)
}

// get returns an object that the caller may change, nil when there is none.
func (t *table[T]) get(id string) *T {
	v, _ := t.find(id)
	return v
}

// find returns an object that the caller may change, and whether there is one.
func (t *table[T]) find(id string) (*T, bool) {
	r, ok := t.rows[id]
	if !ok {
		return nil, false
	}
	t.note(id, r)
	return r.v, true
}

// peek returns an object that the caller does not change, nil when there is none.
func (t *table[T]) peek(id string) *T {
	if r, ok := t.rows[id]; ok {
		return r.v
	}
	return nil
}

// remove takes an object out; one that is not there is fine.
func (t *table[T]) remove(id string) {
	r, ok := t.rows[id]
	if !ok {
		return
	}
	delete(t.rows, id)
	t.order = slices.DeleteFunc(t.order, func(other string) bool { return other == id })
	if r.saved != 0 && t.touch != nil {
		t.touch.rows = append(t.touch.rows, touchedRow{in: t, id: id})
	}
}

// all yields every object, newest first.
func (t *table[T]) all(yield func(string, *T) bool) {
	for _, id := range slices.Backward(t.order) {
		if r, ok := t.rows[id]; ok && !yield(id, r.v) {
			return
		}
	}
}

func (t *table[T]) note(id string, r *row[T]) {
	if t.touch == nil || r.touched {
		return
	}
	r.touched = true
	t.touch.rows = append(t.touch.rows, touchedRow{in: t, id: id})
}

func (t *table[T]) name() string { return t.kind }

func (t *table[T]) ids() []string { return t.order }

func (t *table[T]) keepIn(list *touchList) { t.touch = list }

func (t *table[T]) appendRecord(b []byte, id string, seed maphash.Seed) []byte {
	r, ok := t.rows[id]
	if !ok {
		return append(b, snapshot(record{Drop: t.kind, ID: id})...)
	}
	r.touched = false
	if p, ok := any(r.v).(passing); ok && p.passing() {
		return b
	}
	start := len(b)
	b = r.render(b, t.kind, id)
	sum := maphash.Bytes(seed, b[start:])
	if sum == r.saved {
		return b[:start]
	}
	r.saved = sum
	return b
}

func (t *table[T]) appendRow(b []byte, id string) []byte { return t.rows[id].render(b, t.kind, id) }

// render appends the record of a row as it is.
func (r *row[T]) render(b []byte, kind, id string) []byte {
	rec := record{Put: kind, ID: id, Object: snapshot(r.v)}
	if string(rec.Object) == "{}" {
		rec.Object = nil // nothing of it is shown
	}
	if h, ok := any(r.v).(hider); ok {
		rec.Hidden = snapshot(h.hidden())
	}
	return rec.append(b)
}

func (t *table[T]) load(id string, object, hidden json.RawMessage) error {
	r, ok := t.rows[id]
	if !ok {
		r = &row[T]{v: new(T)}
		t.rows[id] = r
		t.order = append(t.order, id)
	}
	var fresh T
	*r.v, r.saved = fresh, loaded
	if len(object) > 0 {
		if err := decodeExactly(object, r.v); err != nil {
			return fmt.Errorf("%s %s: %w", t.kind, id, err)
		}
	}
	if h, ok := any(r.v).(hider); ok && len(hidden) > 0 {
		if err := decodeExactly(hidden, h.hidden()); err != nil {
			return fmt.Errorf("%s %s: %w", t.kind, id, err)
		}
	}
	return nil
}

// tables is everything that a sandbox knows of the account that it plays. Guarded by Server.mu.
type tables struct {
	clock      table[clock] // one row, clockID
	customers  table[customer]
	methods    table[paymentMethod]
	payments   table[paymentIntent]
	setups     table[setupIntent]
	charges    table[charge]
	sessions   table[checkoutSession]
	refunds    table[refund]
	disputes   table[dispute]
	warnings   table[earlyFraudWarning]
	balances   table[balanceTransaction]
	events     table[event]
	endpoints  table[webhookEndpoint]
	deliveries table[delivery]     // until they are accepted or given up
	actions    table[action]       // 3-D Secure steps by their own id
	keys       table[storedAnswer] // by idempotency key
	tasks      table[task]         // what time will bring
}

func newTables() tables {
	t := tables{
		clock: newTable[clock]("clock"), customers: newTable[customer]("customers"), methods: newTable[paymentMethod]("payment_methods"),
		payments: newTable[paymentIntent]("payment_intents"), setups: newTable[setupIntent]("setup_intents"), charges: newTable[charge]("charges"),
		sessions: newTable[checkoutSession]("checkout_sessions"), refunds: newTable[refund]("refunds"), disputes: newTable[dispute]("disputes"),
		warnings: newTable[earlyFraudWarning]("early_fraud_warnings"),
		balances: newTable[balanceTransaction]("balance_transactions"), events: newTable[event]("events"),
		endpoints: newTable[webhookEndpoint]("webhook_endpoints"), deliveries: newTable[delivery]("deliveries"), actions: newTable[action]("actions"),
		keys: newTable[storedAnswer]("idempotency_keys"), tasks: newTable[task]("tasks"),
	}
	t.clock.add(clockID, &clock{})
	return t
}

// stores lists the tables, in the order in which a state file is written anew.
func (t *tables) stores() []store {
	return []store{
		&t.clock, &t.customers, &t.methods, &t.payments, &t.setups, &t.charges, &t.sessions, &t.refunds, &t.disputes, &t.warnings, &t.balances,
		&t.events, &t.endpoints, &t.deliveries, &t.actions, &t.keys, &t.tasks,
	}
}
