package eventlog

import (
	"context"
	"errors"
	"fmt"

	"github.com/paykit-go/paykit/internal/events"
)

// Guarded is a log as [Change] needs it: reads, and one write with a guard. A [Log] is one; the simulation has another.
type Guarded interface {
	// Load reads an entity's last event, LoadFromLeader does so and sees every acknowledged one. Both return [ErrNotFound].
	Load(ctx context.Context, entity events.Entity, id string) (Entry, error)
	LoadFromLeader(ctx context.Context, entity events.Entity, id string) (Entry, error)
	// Store is [Log.Append] that also answers the event's bytes.
	Store(ctx context.Context, ev *events.Event, last uint64) (sequence uint64, raw []byte, err error)
	// Successor reads the bytes of the entity's first event after a sequence, from the leader. It returns [ErrNotFound].
	Successor(ctx context.Context, entity events.Entity, id string, after uint64) ([]byte, error)
	// Pause waits a growing moment; false says that ctx ended.
	Pause(ctx context.Context, try int) bool
}

// attempt is an event that was sent and whose answer was lost.
type attempt struct {
	last   uint64 // its guard
	digest string
}

// Change loads an entity's last event, lets decide say what comes next, and appends it under the guard; on a lost guard or
// an unknown result it loads again from the leader and decides again, until decide says nothing (nil, nil), or refuses, or
// the append is acknowledged. It returns the entity's entry as it then is (the zero Entry if it does not exist) and whether
// this call appended.
//
// decide is called with nil for an entity that does not exist. It may be called several times and must answer nil when
// the effect is already there. Its error is returned as it is. Else the errors are those of [Log.Append], without
// [ErrConflict] unless 100 attempts were lost; it gives up with ctx.
//
// A crash after the append leaves the event stored and its caller without an answer: the caller's redelivery decides
// again and finds the effect there.
func Change(ctx context.Context, l Guarded, entity events.Entity, id string,
	decide func(last *events.Event) (*events.Event, error),
) (e Entry, appended bool, err error) {
	return change(ctx, l, entity, id, nil, decide)
}

// ChangeFrom is [Change] by who has read or appended the entity's last event a moment ago (the zero Entry: has found that
// there is none), which saves reading it again. Should it be the last no longer, the guard is lost and costs one more try.
// Nothing is believed of it but what the guard then proves: where decide says nothing or refuses, the entity is read and
// decided on once more.
func ChangeFrom(ctx context.Context, l Guarded, entity events.Entity, id string, known Entry,
	decide func(last *events.Event) (*events.Event, error),
) (e Entry, appended bool, err error) {
	return change(ctx, l, entity, id, &known, decide)
}

// change begins with what is known, nil for nothing.
func change(ctx context.Context, l Guarded, entity events.Entity, id string, known *Entry,
	decide func(last *events.Event) (*events.Event, error),
) (e Entry, appended bool, err error) {
	load := l.Load
	var open []attempt
	for try := 0; ; try++ {
		if known != nil {
			e, err = *known, nil
		} else {
			e, err = load(ctx, entity, id)
		}
		if errors.Is(err, ErrNotFound) {
			e, err = Entry{}, nil
		}
		if err == nil && len(open) > 0 {
			var ours bool
			if open, ours, err = resolve(ctx, l, entity, id, open); ours && err == nil {
				e, err = l.LoadFromLeader(ctx, entity, id)
				return e, true, err
			}
		}
		if err == nil {
			var done bool
			e, open, appended, done, err = decideOnce(ctx, l, entity, id, e, open, decide)
			if done && known != nil && !appended {
				known = nil
				continue
			}
			if done {
				return e, appended, err
			}
		}
		if !retryable(err) || try >= updateAttempts || !l.Pause(ctx, try) {
			return Entry{}, false, unresolved(err, open)
		}
		load, known = l.LoadFromLeader, nil
	}
}

// decideOnce is one turn of Change's loop; done says that the loop ends here.
func decideOnce(ctx context.Context, l Guarded, entity events.Entity, id string, e Entry, open []attempt,
	decide func(last *events.Event) (*events.Event, error),
) (_ Entry, _ []attempt, appended, done bool, err error) {
	ev, err := decide(e.Event)
	if (err != nil || ev == nil) && len(open) > 0 {
		// Decided otherwise than before, and what was decided before may still arrive.
		return Entry{}, open, false, true, &UnknownError{Err: errOpen}
	}
	if err != nil || ev == nil {
		return e, open, false, true, err
	}
	if ev.Entity() != entity || ev.Subject != id {
		return e, open, false, true, fmt.Errorf("update %s %s: decided on %s %s", entity, id, ev.Type, ev.Subject)
	}
	sequence, raw, err := l.Store(ctx, ev, e.Sequence)
	if err == nil {
		return Entry{Event: ev, Sequence: sequence, Raw: raw}, open, true, true, nil
	}
	if isUnknown(err) {
		open = append(open, attempt{last: e.Sequence, digest: events.Digest(raw)})
	}
	return e, open, false, false, err
}

// resolve asks what became of events whose answers were lost. Who won a guard at sequence n is the entity's next event
// after n, and that never changes; where there is none yet, the event may still be under way and stays open.
func resolve(ctx context.Context, l Guarded, entity events.Entity, id string, open []attempt) (still []attempt, ours bool, err error) {
	for _, a := range open {
		winner, err := l.Successor(ctx, entity, id, a.last)
		switch {
		case errors.Is(err, ErrNotFound):
			still = append(still, a)
		case err != nil:
			return open, false, err
		case events.Digest(winner) == a.digest:
			return nil, true, nil
		}
	}
	return still, false, nil
}

// errOpen says why nothing can be answered: the guard of an event that was sent is not lost yet.
var errOpen = errors.New("an event that was sent earlier may still be under way")
