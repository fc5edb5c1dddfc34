package eventlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/paykit-go/paykit/internal/events"
)

// SequenceAt turns a time into a place in the LOG: the sequence of the last event that had been decided by then, 0 if none
// had. It goes by the events' own times, not by when the stream stored them: a log that was imported or restored stores
// everything later than it happened.
//
// It reads about as many events as the last sequence has bits. Their times are almost in order: two processes whose clocks
// differ may append events of two entities the other way round, by as much as their clocks are apart. That is fine: within
// that span nobody can say what was first, each entity's own events are in order all the same, and views at any sequence
// are views that there once were. The places that are looked at do not depend on where the log ends, so a time that has
// passed has the same answer for ever.
func (l *Log) SequenceAt(ctx context.Context, t time.Time) (uint64, error) {
	info, err := l.Info(ctx)
	if err != nil {
		return 0, err
	}
	var at uint64
	for step := uint64(1) << bits.Len64(info.LastSequence); step > 0; step /= 2 {
		if at+step > info.LastSequence {
			continue
		}
		decided, err := l.decidedAt(ctx, at+step)
		if err != nil {
			return 0, fmt.Errorf("what the log was at %s: %w", t.Format(time.RFC3339), err)
		}
		if !decided.After(t) {
			at += step
		}
	}
	return at, nil
}

// decidedAt is the time of the event at a sequence, also of one of a type that only a newer program knows.
func (l *Log) decidedAt(ctx context.Context, sequence uint64) (time.Time, error) {
	m, err := l.unchanging(ctx, l.stream(streamLog), getRequest{Sequence: sequence})
	if err != nil {
		return time.Time{}, fmt.Errorf("read the event at sequence %d: %w", sequence, err)
	}
	var attributes struct {
		Time time.Time `json:"time"`
	}
	if err := json.Unmarshal(m.Data, &attributes); err != nil {
		return time.Time{}, &UnreadableError{Sequence: m.Sequence, Subject: m.Subject, Raw: m.Data, Err: err}
	}
	return attributes.Time, nil
}

// Stored is a message of the LOG as it is stored, not decoded.
type Stored struct {
	Sequence uint64
	Subject  string
	Raw      []byte

	log *Log // that it was read from
}

// Entry decodes it. An event that can't be read is an [*UnreadableError].
func (s Stored) Entry() (Entry, error) {
	return s.log.entry(stored{Subject: s.Subject, Sequence: s.Sequence, Data: s.Raw})
}

// Range reads what is stored from one sequence (0 and 1 are the beginning) up to another, both included, and calls yield
// with one message after the other until it fails, whose error it returns. Without a filter it returns a [*GapError] where
// a message is missing. It keeps one batch in memory and ends with ctx.
func (l *Log) Range(ctx context.Context, f HistoryFilter, from, to uint64, yield func(Stored) error) error {
	subject, err := l.historySubject(f)
	if err != nil {
		return err
	}
	next := max(from, 1)
	if next > to {
		return nil
	}
	whole := f == (HistoryFilter{})
	err = l.walk(ctx, l.stream(streamLog), subject, next, func(m stored) (bool, error) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if whole && m.Sequence != next {
			return false, &GapError{Want: next, Got: m.Sequence}
		}
		if m.Sequence > to {
			return false, nil
		}
		next = m.Sequence + 1
		if err := yield(Stored{Sequence: m.Sequence, Subject: m.Subject, Raw: m.Data, log: l}); err != nil {
			return false, err
		}
		return m.Sequence < to, nil
	})
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	if whole && next <= to {
		return &GapError{Want: next, Got: to + 1}
	}
	return nil
}

// LoadAt reads what an entity's last event was at a sequence: the last one at or before it. It returns [ErrNotFound] if the
// entity did not exist then.
func (l *Log) LoadAt(ctx context.Context, entity events.Entity, id string, sequence uint64) (Entry, error) {
	filter, err := l.entityFilter(entity, id)
	if err != nil {
		return Entry{}, err
	}
	if sequence == 0 {
		return Entry{}, fmt.Errorf("%s %s at the beginning: %w", entity, id, ErrNotFound)
	}
	// Each type of event of the entity is a subject of its own: of each the last one up to the sequence is given, and the
	// last of these is the entity's.
	list, _, err := l.directBatch(ctx, l.stream(streamLog), getRequest{MultiLast: []string{filter}, UpTo: sequence, MaxBytes: latestBytes})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Entry{}, fmt.Errorf("%s %s at sequence %d: %w", entity, id, sequence, err)
	}
	var last stored
	for _, m := range list {
		if m.Sequence > last.Sequence && m.Sequence <= sequence {
			last = m
		}
	}
	if last.Sequence == 0 {
		return Entry{}, fmt.Errorf("%s %s at sequence %d: %w", entity, id, sequence, ErrNotFound)
	}
	return l.entry(last)
}
