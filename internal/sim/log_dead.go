package sim

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	engine "github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// Bury stores a dead letter.
func (l *Log) Bury(ctx context.Context, d eventlog.DeadLetter) error {
	if d.At.IsZero() {
		d.At = l.s.now()
	}
	d = d.Bounded()
	body, err := json.Marshal(d)
	if err != nil {
		return err
	}
	guard := strings.Join([]string{prefix, "dead", engine.Token(d.Stage), engine.Token(d.ID) + "~" + strconv.FormatUint(d.RetryOf, 10)}, ".")
	subject := guard + "." + engine.TokenOrNone(d.CustomerID)
	return l.once(ctx, func() error {
		l.s.dead.put(guard, message{subject: subject, data: body, at: l.s.now()})
		return nil
	})
}

// BuryAgain says of a letter why it can't be retried.
func (l *Log) BuryAgain(ctx context.Context, e eventlog.DeadEntry, why string) error {
	again := e.DeadLetter
	again.RetryOf, again.Reason, again.At = e.Sequence, "can't be retried: "+why, l.s.now()
	return l.Bury(ctx, again)
}

// DeadMessage reads the message that a letter refers to.
func (l *Log) DeadMessage(ctx context.Context, d eventlog.DeadLetter) (m eventlog.Message, err error) {
	err = l.read(ctx, func() error {
		var ok bool
		if m, ok = l.s.message(d.Stream, d.Sequence); !ok || m.Subject != d.Subject || d.Stream == streamQueue {
			return eventlog.ErrNotFound
		}
		m.Attempt = d.Attempts
		return nil
	})
	return m, err
}

// PutBack leaves a letter's command in the queue again.
func (l *Log) PutBack(ctx context.Context, e eventlog.DeadEntry) error {
	switch {
	case len(e.Header) == 0:
		return eventlog.ErrNoKey
	case !strings.HasPrefix(e.Subject, prefix+".cmd."):
		return eventlog.ErrNotFound
	}
	return l.once(ctx, func() error {
		header := nats.Header(maps.Clone(e.Header))
		header.Set(eventlog.HeaderDeadLetter, strconv.FormatUint(e.Sequence, 10))
		for _, m := range l.s.queue.list { // within two minutes it is the same message
			if m.header.Get(eventlog.HeaderDeadLetter) == header.Get(eventlog.HeaderDeadLetter) && l.s.now().Sub(m.at) < sameMessage {
				return nil
			}
		}
		l.s.enqueue(e.Subject, e.Body, header)
		return nil
	})
}

// decisionGuard is the guard of the one decision about a letter.
func decisionGuard(letter uint64) string {
	return strings.Join([]string{prefix, "dead", "decision", strconv.FormatUint(letter, 10)}, ".")
}

func isDecision(m message) bool { return strings.HasPrefix(m.subject, prefix+".dead.decision.") }

// Decide stores a decision about a letter.
func (l *Log) Decide(ctx context.Context, e eventlog.DeadEntry, d eventlog.Decision) (eventlog.Decision, error) {
	d.Letter, d.About = e.Sequence, e.DeadLetter
	d.About.Body, d.About.Header = nil, nil
	if d.At.IsZero() {
		d.At = l.s.now()
	}
	d.At = engine.Millis(d.At)
	body, err := json.Marshal(d)
	if err != nil {
		return eventlog.Decision{}, err
	}
	guard := decisionGuard(e.Sequence)
	err = l.once(ctx, func() error {
		m := message{subject: guard + "." + engine.TokenOrNone(e.CustomerID), data: body, at: l.s.now()}
		sequence, isNew := l.s.dead.put(guard, m)
		if isNew {
			return nil
		}
		var there eventlog.Decision
		if err := json.Unmarshal(l.s.dead.at(sequence).data, &there); err != nil {
			return err
		}
		there.Sequence = sequence
		if there.Decision != d.Decision || there.Operator != d.Operator || there.Reason != d.Reason || !there.At.Equal(d.At) {
			return &eventlog.DecidedError{Existing: there}
		}
		return nil
	})
	if err != nil {
		return eventlog.Decision{}, err
	}
	return d, nil
}

// DeadLetter reads one letter.
func (l *Log) DeadLetter(ctx context.Context, sequence uint64) (e eventlog.DeadEntry, err error) {
	err = l.read(ctx, func() error {
		m := l.s.dead.at(sequence)
		if m == nil || isDecision(*m) {
			return eventlog.ErrNotFound
		}
		e.Sequence = sequence
		return json.Unmarshal(m.data, &e.DeadLetter)
	})
	return e, err
}

// DeadLetters lists dead letters with what was decided about them.
func (l *Log) DeadLetters(ctx context.Context, customerID string) (list []eventlog.DeadEntry, err error) {
	err = l.read(ctx, func() error {
		decisions := map[uint64]*eventlog.Decision{}
		for i, m := range l.s.dead.list {
			if m.gone || customerID != "" && !strings.HasSuffix(m.subject, "."+engine.Token(customerID)) {
				continue
			}
			sequence := uint64(i + 1)
			if isDecision(m) {
				d := &eventlog.Decision{Sequence: sequence}
				if err := json.Unmarshal(m.data, d); err != nil {
					return err
				}
				decisions[d.Letter] = d
				continue
			}
			e := eventlog.DeadEntry{Sequence: sequence}
			if err := json.Unmarshal(m.data, &e.DeadLetter); err != nil {
				return err
			}
			list = append(list, e)
		}
		for i := range list {
			list[i].Decision = decisions[list[i].Sequence]
			delete(decisions, list[i].Sequence)
		}
		for sequence, d := range decisions {
			list = append(list, eventlog.DeadEntry{DeadLetter: d.About, Sequence: sequence, Decision: d})
		}
		slices.SortFunc(list, func(a, b eventlog.DeadEntry) int { return int(a.Sequence) - int(b.Sequence) }) //nolint:gosec // G115: small
		return nil
	})
	return list, err
}

// EraseDead overwrites a letter, or a decision.
func (l *Log) EraseDead(ctx context.Context, sequence uint64) error {
	return l.read(ctx, func() error {
		l.s.dead.erase(sequence)
		return nil
	})
}
