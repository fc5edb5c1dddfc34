package eventlog

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/paykit-go/paykit/internal/events"
)

// DeadLetter is a message set aside after its last attempt: a reference to it, the reason, the attempts. Reason must
// hold no personal data.
type DeadLetter struct {
	Stage      string    `json:"stage"` // "worker", "settle", "normalizer", "commands"
	ID         string    `json:"id"`    // what it is known by: an event's, delivery's or command's id
	CustomerID string    `json:"customerId,omitempty"`
	Stream     string    `json:"stream"`
	Sequence   uint64    `json:"sequence"`
	Subject    string    `json:"subject"`
	Body       []byte    `json:"body,omitempty"` // of a command only, which leaves its own stream
	Reason     string    `json:"reason"`
	Attempts   int       `json:"attempts"`
	At         time.Time `json:"at"`
}

// DeadEntry is a dead letter and where it stands in DEAD.
type DeadEntry struct {
	DeadLetter
	Sequence uint64
}

func (l *Log) deadSubject(d DeadLetter) string {
	return l.subject("dead", events.Token(d.Stage), events.Token(d.ID), events.TokenOrNone(d.CustomerID))
}

// Bury stores a dead letter; the caller then ends the message itself. The same letter twice is one: a crash between
// the two repeats both. Its errors are [ErrStorageFull], [ErrUnavailable] and [*UnknownError].
func (l *Log) Bury(ctx context.Context, d DeadLetter) error {
	if d.At.IsZero() {
		d.At = l.cfg.Now()
	}
	d.At = d.At.UTC()
	body, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode a dead letter: %w", err)
	}
	if err := l.putOnce(ctx, streamDead, l.deadSubject(d), body, func(stored) error { return nil }); err != nil {
		return fmt.Errorf("bury %s: %w", d.ID, err)
	}
	return nil
}

// DeadLetters lists dead letters, oldest first: those of a customer, or all of them for "".
func (l *Log) DeadLetters(ctx context.Context, customerID string) ([]DeadEntry, error) {
	filter := l.subject("dead", "*", "*", "*")
	if customerID != "" {
		filter = l.subject("dead", "*", "*", events.Token(customerID))
	}
	list := []DeadEntry{}
	err := l.walk(ctx, l.stream(streamDead), filter, 1, func(m stored) (bool, error) {
		e := DeadEntry{Sequence: m.Sequence}
		if err := json.Unmarshal(m.Data, &e.DeadLetter); err != nil {
			return false, fmt.Errorf("dead letter %d can't be read", m.Sequence)
		}
		list = append(list, e)
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("dead letters: %w", err)
	}
	return list, nil
}

// EraseDead securely deletes one dead letter; one that is gone already is fine.
func (l *Log) EraseDead(ctx context.Context, sequence uint64) error {
	return l.erase(ctx, l.stream(streamDead), sequence)
}
