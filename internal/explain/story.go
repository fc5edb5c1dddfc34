// Package explain tells why things are as they are: from any id, ours or the provider's, it finds the entity that the id is
// about and puts together its story, what happened and what led to what: commands, events, calls to the provider, deliveries,
// dead letters, and the view's row. It reads only, and decides nothing.
//
// It shows nothing personal: events hold none, of a delivery only what kind it is and when it came is told, of a call no body.
package explain

import (
	"context"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// History is the LOG as it is read here. [eventlog.Log] has it.
type History interface {
	// History reads at most limit events that match, oldest first, from a sequence.
	History(ctx context.Context, f eventlog.HistoryFilter, from uint64, limit int) ([]eventlog.Entry, error)
	// Latest reads the last event of each of a customer's entities of one kind.
	Latest(ctx context.Context, entity events.Entity, customerID string) ([]eventlog.Entry, error)
	// EventByID finds an event by its id and the time in it. It returns [eventlog.ErrNotFound].
	EventByID(ctx context.Context, id string, decided time.Time) (eventlog.Entry, error)
	// FindEvents reads back from the newest those that hold a text, until yield says stop.
	FindEvents(ctx context.Context, text string, progress func(eventlog.Found), yield func(e eventlog.Entry) (bool, error)) error
}

// Calls are the records of calls to providers.
type Calls interface {
	// CallsOf reads those for an entity, oldest first.
	CallsOf(ctx context.Context, entity events.Entity, id string) ([]eventlog.StoredCall, error)
	// FindCalls reads back from the newest those that hold a text, until yield says stop.
	FindCalls(ctx context.Context, text string, progress func(eventlog.Found), yield func(c eventlog.StoredCall) (bool, error)) error
}

// Deliveries are what providers delivered, and what became of it.
type Deliveries interface {
	// DeliveryOf reads one by the provider's id of it. It returns [eventlog.ErrNotFound].
	DeliveryOf(ctx context.Context, providerID, eventID string) (eventlog.StoredDelivery, error)
	// FindDeliveries gives those that hold one of some texts; complete is false if not all were read.
	FindDeliveries(ctx context.Context, s eventlog.DeliverySearch, yield func(d eventlog.StoredDelivery) error) (complete bool, err error)
	// Backlog tells what a consumer still has to do.
	Backlog(ctx context.Context, consumer eventlog.ConsumerName) (eventlog.Backlog, error)
	// DeadLetters lists what was set aside: of a customer, or all for "".
	DeadLetters(ctx context.Context, customerID string) ([]eventlog.DeadEntry, error)
}

// Log is all of the event store that stories are told from.
type Log interface {
	History
	Calls
	Deliveries
	// Link reads where a provider's object leads. It returns [eventlog.ErrNotFound].
	Link(ctx context.Context, providerID, objectID string) (eventlog.Link, error)
}

// Row is an entity as the views have it.
type Row struct {
	View     string // "charges"
	Status   string
	Sequence uint64 // of the event that it stands for
}

// Views is the running projector.
type Views interface {
	// Row asks for an entity's row; ok is false if the views have none, or none of that kind.
	Row(ctx context.Context, entity events.Entity, id string) (r Row, ok bool, err error)
}

// Kind is what a node of a story is.
type Kind string

// The kinds of nodes.
const (
	KindCommand  Kind = "command"
	KindEvent    Kind = "event"
	KindCall     Kind = "call"
	KindDelivery Kind = "delivery"
	KindView     Kind = "view"
	KindDead     Kind = "dead"
)

// Node is one thing that happened. Which fields it has depends on its kind.
type Node struct {
	Time   time.Time `json:"time,omitzero"`    // of a command, of its event; of a call, when it was sent; of a delivery, when it was stored
	Kind   Kind      `json:"kind"`             // "command", "event", "call", "delivery", "dead", "view"
	ID     string    `json:"id"`               // cmd_…, ULID, "call 12", evt_…, "dead 3", "view charges"
	Type   string    `json:"type,omitempty"`   // "charge.create", "charge.succeeded", "payment_intents.create", "payment_intent.succeeded"
	Parent string    `json:"parent,omitempty"` // the id of the node that led to it
	Asked  bool      `json:"asked,omitempty"`  // the id that was asked about is this node's

	Sequence uint64 `json:"sequence,omitempty"` // in its stream; of a view, of the event that its row stands for
	Version  int    `json:"version,omitempty"`  // event: the entity's version
	Status   string `json:"status,omitempty"`   // event, view: the entity's status then
	EntityID string `json:"entityId,omitempty"` // event of another entity, which is told in full by a story of its own
	Detail   string `json:"detail,omitempty"`   // event: what else matters about it

	Call   *eventlog.Call `json:"call,omitempty"`   // as it is recorded
	Result string         `json:"result,omitempty"` // delivery: "changed", "nothing new", "waits", "dead", "not stored any more"
	LedTo  []string       `json:"ledTo,omitempty"`  // delivery: events of other entities, "checkout.completed chk_…"
	Made   time.Time      `json:"made,omitzero"`    // delivery: when the provider made it
	Stage  string         `json:"stage,omitempty"`  // dead: who set it aside
	Reason string         `json:"reason,omitempty"` // dead: why
	Letter string         `json:"letter,omitempty"` // dead: "open", or what was decided by whom
}

// Reference is another entity that the story touches.
type Reference struct {
	Entity events.Entity `json:"entity"`
	ID     string        `json:"id"`
	Status string        `json:"status,omitempty"`
	Detail string        `json:"detail,omitempty"`
}

// Story is what there is to tell about an entity.
type Story struct {
	ID          string        `json:"id"` // as it was asked for
	Entity      events.Entity `json:"entity,omitempty"`
	EntityID    string        `json:"entityId,omitempty"`
	RefundID    string        `json:"refundId,omitempty"` // only the part of the charge's story that is about it
	Status      string        `json:"status,omitempty"`
	Detail      string        `json:"detail,omitempty"` // "19.00 USD"
	CustomerID  string        `json:"customerId,omitempty"`
	ReferenceID string        `json:"referenceId,omitempty"` // of the customer
	References  []Reference   `json:"references,omitempty"`
	Notes       []string      `json:"notes,omitempty"` // what the reader must know: a search, a gap
	Nodes       []Node        `json:"nodes"`           // in the order of their times
}

// Options say how a story is looked for.
type Options struct {
	ProviderID string // whose ids are meant
	// Progress is told how far a search of a whole stream is; nil = nobody.
	Progress func(stream string, f eventlog.Found)
}

// UnknownError says that nothing is known of an id, and where it was looked for.
type UnknownError struct{ ID, Why string }

func (e *UnknownError) Error() string { return e.ID + ": " + e.Why }

// Explain finds what an id is about and tells its story. It returns an [*UnknownError]; all other errors are of the log's.
func Explain(ctx context.Context, log Log, views Views, id string, o Options) (*Story, error) {
	t := &teller{log: log, views: views, o: o, asked: id}
	at, err := t.find(ctx, id)
	if err != nil {
		return nil, err
	}
	return t.tell(ctx, at)
}
