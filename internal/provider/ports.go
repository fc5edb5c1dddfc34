package provider

import (
	"context"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// What the parts of this package need of the event store, each no more than it uses. [eventlog.Log] has all of it, and
// says on each method what is durable when it returns, which errors it has and who tries again; the simulation
// (internal/sim) has it in memory, with the same meaning. All methods may run at once.

// Entities are read and changed one at a time.
type Entities interface {
	// Env is the environment's name: provider objects of another one are not ours.
	Env() string
	// Load reads an entity's last event; a replica may lag behind by a moment. It returns [eventlog.ErrNotFound], which is
	// the leader's word.
	Load(ctx context.Context, entity events.Entity, id string) (eventlog.Entry, error)
	// LoadFromLeader is Load that sees every acknowledged event.
	LoadFromLeader(ctx context.Context, entity events.Entity, id string) (eventlog.Entry, error)
	// Update appends what decide finds new, under a guard. Once it returns, that is durable.
	Update(ctx context.Context, entity events.Entity, id string,
		decide func(last *events.Event) (*events.Event, error)) (e eventlog.Entry, appended bool, err error)
	// UpdateFrom is Update that begins with an entry that the caller has just read or appended, instead of reading it again.
	UpdateFrom(ctx context.Context, entity events.Entity, id string, known eventlog.Entry,
		decide func(last *events.Event) (*events.Event, error)) (e eventlog.Entry, appended bool, err error)
}

// Links lead from a provider's object back to ours.
type Links interface {
	// Link reads where the provider's object leads. It returns [eventlog.ErrNotFound].
	Link(ctx context.Context, providerID, objectID string) (eventlog.Link, error)
	// PutLink remembers it for good; another one that was there first is an [*eventlog.LinkTakenError].
	PutLink(ctx context.Context, providerID, objectID string, k eventlog.Link) error
	// MoveLink has a link lead elsewhere if it still leads to from; else it is an [*eventlog.LinkTakenError], or
	// [eventlog.ErrNotFound].
	MoveLink(ctx context.Context, providerID, objectID string, from, to eventlog.Link) error
}

// Histories are what has happened.
type Histories interface {
	// History reads at most limit events that match, oldest first, from a sequence.
	History(ctx context.Context, f eventlog.HistoryFilter, from uint64, limit int) ([]eventlog.Entry, error)
	// Latest reads the last event of each of a customer's entities of one kind.
	Latest(ctx context.Context, entity events.Entity, customerID string) ([]eventlog.Entry, error)
	// Scan gives every event of one kind of entity, oldest first, until yield fails: an entity's last one is its state.
	Scan(ctx context.Context, entity events.Entity, yield func(e eventlog.Entry) error) error
}

// DeliveryStore takes deliveries in.
type DeliveryStore interface {
	// StoreDelivery appends a delivery once: false says that it was there before. Once it returns, the delivery is durable.
	StoreDelivery(ctx context.Context, d eventlog.Delivery) (stored bool, err error)
}

// Inbox is the deliveries that are stored.
type Inbox interface {
	DeliveryStore
	// WalkDeliveries gives each delivery that names this provider customer, or with "" that names none, oldest first,
	// and overwrites those that yield says to erase.
	WalkDeliveries(ctx context.Context, providerID, providerCustomerID string,
		yield func(d eventlog.StoredDelivery) (erase bool, err error)) error
}

// Marks remember how far the backfill has come.
type Marks interface {
	// BackfillMark reads when the last complete backfill began; the zero time if there was none.
	BackfillMark(ctx context.Context, providerID string) (time.Time, error)
	// SetBackfillMark remembers it. A lost mark only makes the next run read more.
	SetBackfillMark(ctx context.Context, providerID string, at time.Time) error
	// Forgotten gives the times of which a restored LOG knows nothing: what was asked for then may be asked for again.
	Forgotten() []eventlog.Forgotten
	// Info is the state of the LOG; the backfill wants to know since when there is one.
	Info(ctx context.Context) (eventlog.LogInfo, error)
}

// Profiles are customers' personal data.
type Profiles interface {
	// Profile reads the newest one. It returns [eventlog.ErrNotFound].
	Profile(ctx context.Context, customerID string) (eventlog.Revision, error)
	// EraseProfiles overwrites the revisions older than before, and may be repeated.
	EraseProfiles(ctx context.Context, customerID string, before uint64) (int, error)
}

// Burial sets aside what can't be processed.
type Burial interface {
	// Bury stores a dead letter; the same letter twice is one.
	Bury(ctx context.Context, d eventlog.DeadLetter) error
	// BuryAgain says of a letter why it can't be retried, as another letter.
	BuryAgain(ctx context.Context, e eventlog.DeadEntry, why string) error
	// DeadMessage reads the message that a letter refers to. It returns [eventlog.ErrNotFound].
	DeadMessage(ctx context.Context, d eventlog.DeadLetter) (eventlog.Message, error)
}

// Graveyard is what was set aside.
type Graveyard interface {
	Burial
	// DeadLetters lists those of a customer, oldest first.
	DeadLetters(ctx context.Context, customerID string) ([]eventlog.DeadEntry, error)
	// EraseDead overwrites one, or a decision about one; one that is gone already is fine.
	EraseDead(ctx context.Context, sequence uint64) error
}

// Consumers hand out messages to be worked on.
type Consumers interface {
	// Consume works on a durable consumer's messages until ctx ends.
	Consume(ctx context.Context, consumer eventlog.ConsumerName, o eventlog.ConsumeOptions) error
	// Backlog tells what a consumer still has to do.
	Backlog(ctx context.Context, consumer eventlog.ConsumerName) (eventlog.Backlog, error)
}

// ApplierLog is what an [Applier] needs.
type ApplierLog interface {
	Entities
	Links
}

// NormalizerLog is what a [Normalizer] needs.
type NormalizerLog interface {
	ApplierLog
	Burial
	Consumers
	// EraseDelivery overwrites one; one that is gone already is fine.
	EraseDelivery(ctx context.Context, sequence uint64) error
}

// WorkerLog is what a [Worker] needs.
type WorkerLog interface {
	ApplierLog
	Histories
	Inbox
	WorkerMemory
	Graveyard
	Consumers
}

// WorkerMemory is what a worker remembers beside the events.
type WorkerMemory interface {
	Marks
	Profiles
}
