package history

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// ReplayOptions say which stored events are given out again, and how fast.
type ReplayOptions struct {
	From, To   uint64  // sequences, both included; From 0 and 1 are the beginning
	Type       string  // a type or a pattern, "charge.succeeded", "charge.*"; "" = all
	CustomerID string  // "" = everyone's
	Speed      float64 // of the pace at which it happened, 2 = twice as fast; 0 = as fast as can be

	Progress func(sequence uint64) // told after each event that was looked at; may be nil
}

// Event is a stored event on its way out.
type Event struct {
	eventlog.Stored

	Entity, Name string // of its type: "charge", "succeeded"
	Customer     string // its id, or "none"
	Time         time.Time
}

// ValidPattern tells whether a type's pattern can match anything at all.
func ValidPattern(pattern string) bool {
	for _, t := range events.Types() {
		if ok, err := path.Match(pattern, string(t)); ok && err == nil {
			return true
		}
	}
	return false
}

// Replay calls give with stored events in order, as they are stored, and answers how many that were. It reads the log and
// does nothing else, so no provider hears of it. It ends with ctx, between two events.
func Replay(ctx context.Context, log *eventlog.Log, o ReplayOptions, give func(Event) error) (n uint64, err error) {
	filter := eventlog.HistoryFilter{CustomerID: o.CustomerID}
	if entity, _, ok := strings.Cut(o.Type, "."); ok && !strings.ContainsAny(entity, `*?[\`) {
		filter.Entity = events.Entity(entity)
	}
	clock := pace{speed: o.Speed}
	err = log.Range(ctx, filter, o.From, o.To, func(s eventlog.Stored) error {
		if o.Progress != nil {
			defer o.Progress(s.Sequence)
		}
		e, err := outgoing(s)
		if err != nil {
			return err
		}
		if o.Type != "" {
			if ok, err := path.Match(o.Type, e.Entity+"."+e.Name); !ok || err != nil {
				return err //nolint:wrapcheck // of a pattern that was checked
			}
		}
		if err := clock.wait(ctx, e.Time); err != nil {
			return err
		}
		if err := give(e); err != nil {
			return err
		}
		n++
		return nil
	})
	if err != nil {
		return n, fmt.Errorf("replay: %w", err)
	}
	return n, nil
}

// outgoing reads what an event's subject says of it. Its body is only looked into for the time, so that events of a newer
// program go out too.
func outgoing(s eventlog.Stored) (Event, error) {
	tokens := strings.Split(s.Subject, ".") // prefix, "log", entity, event, id, customer
	if len(tokens) != 6 {
		return Event{}, fmt.Errorf("event at sequence %d: %w: stored under %s", s.Sequence, events.ErrMalformed, s.Subject)
	}
	var attributes struct {
		Time time.Time `json:"time"`
	}
	if err := json.Unmarshal(s.Raw, &attributes); err != nil {
		return Event{}, fmt.Errorf("event at sequence %d: %w: %w", s.Sequence, events.ErrMalformed, err)
	}
	return Event{Stored: s, Entity: tokens[2], Name: tokens[3], Customer: tokens[5], Time: attributes.Time}, nil
}

// pace keeps the gaps between events as they were.
type pace struct {
	speed float64
	last  time.Time
}

func (p *pace) wait(ctx context.Context, at time.Time) error {
	if p.speed <= 0 {
		return nil
	}
	gap := at.Sub(p.last)
	first := p.last.IsZero()
	if gap < 0 && !first { // clocks that differ
		return nil
	}
	p.last = at
	if first || gap == 0 {
		return nil
	}
	t := time.NewTimer(time.Duration(float64(gap) / p.speed))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err() //nolint:wrapcheck // the caller's own
	}
}
