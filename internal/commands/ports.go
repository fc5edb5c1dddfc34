package commands

import (
	"context"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// What commands need of the event store. [eventlog.Log] has all of it, and says on each method what is durable when it
// returns and which errors it has; the simulation (internal/sim) has it in memory, with the same meaning. All methods may
// run at once.

// Log is what a [Handler] needs.
type Log interface {
	Entities
	Profiles
	Links
	Queue
	Graveyard
	Feed
}

// Feed is how the waiting are woken and answered.
type Feed interface {
	// Wake has f told of each new event, best effort, until stop is called.
	Wake(f func(typ events.Type, id string, sequence uint64)) (stop func(), err error)
	// MayAnswer tells whether an answer may be published on a reply subject.
	MayAnswer(reply string) bool
}

// Entities are read and changed one at a time.
type Entities interface {
	// Load reads an entity's last event; a replica may lag behind by a moment. It returns [eventlog.ErrNotFound].
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

// Profiles are customers' personal data.
type Profiles interface {
	// Profile reads the newest revision, ProfileAt one of them. Both return [eventlog.ErrNotFound].
	Profile(ctx context.Context, customerID string) (eventlog.Revision, error)
	ProfileAt(ctx context.Context, sequence uint64) (eventlog.Revision, error)
	// PutProfile stores a revision if the newest is still the one at last. Once it returns, that is durable.
	PutProfile(ctx context.Context, customerID string, p eventlog.Profile, last uint64) (uint64, error)
	// EraseProfiles overwrites the revisions older than before, and may be repeated.
	EraseProfiles(ctx context.Context, customerID string, before uint64) (int, error)
}

// Links lead from a provider's object back to ours.
type Links interface {
	// PutLink remembers one for good; another one that was there first is an [*eventlog.LinkTakenError].
	PutLink(ctx context.Context, providerID, objectID string, k eventlog.Link) error
}

// Queue is where commands are left by apps that do not wait.
type Queue interface {
	// Prefix is the first token of every subject.
	Prefix() string
	// CommandsCreated names the queue's stream and tells when it was made, as far as one of its messages is concerned.
	CommandsCreated(ctx context.Context, sequence uint64) (stream string, created time.Time)
	// Consume works on a durable consumer's messages until ctx ends.
	Consume(ctx context.Context, consumer eventlog.ConsumerName, o eventlog.ConsumeOptions) error
}

// Graveyard keeps the commands that can't be processed.
type Graveyard interface {
	// Bury stores a dead letter; the same letter twice is one.
	Bury(ctx context.Context, d eventlog.DeadLetter) error
	// BuryAgain says of a letter why it can't be retried, as another letter.
	BuryAgain(ctx context.Context, e eventlog.DeadEntry, why string) error
	// PutBack leaves a letter's command in the queue again; twice is the same command.
	PutBack(ctx context.Context, e eventlog.DeadEntry) error
	// EraseDead overwrites one letter; one that is gone already is fine.
	EraseDead(ctx context.Context, sequence uint64) error
}
