package eventlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/paykit-go/paykit/internal/events"
)

// Link leads from a provider's object back to ours.
type Link struct {
	Entity     events.Entity `json:"entity"`
	ID         string        `json:"id"`
	CustomerID string        `json:"customerId,omitempty"`
}

// backfillToken stands where a provider's object would; [events.Token] never makes it.
const backfillToken = "_backfill"

// CardObject stands for a customer's card where a provider's object would, by the card's fingerprint: its link leads to the
// method of the customer's that was saved with it first.
func CardObject(customerID, fingerprint string) string {
	return "card:" + customerID + ":" + fingerprint
}

func (l *Log) linkSubject(providerID, objectID string) string {
	return l.subject("link", events.Token(providerID), events.Token(objectID))
}

// Link reads where the provider's object leads. It returns [ErrNotFound].
func (l *Log) Link(ctx context.Context, providerID, objectID string) (Link, error) {
	subject := l.linkSubject(providerID, objectID)
	m, err := l.unchanging(ctx, l.stream(streamLinks), getRequest{Last: subject})
	if err != nil {
		return Link{}, fmt.Errorf("link of %s %s: %w", providerID, objectID, err)
	}
	return decodeLink(m)
}

func decodeLink(m stored) (Link, error) {
	var k Link
	if err := json.Unmarshal(m.Data, &k); err != nil {
		return Link{}, fmt.Errorf("link %s: %w", m.Subject, err)
	}
	return k, nil
}

// PutLink remembers where the provider's object leads. The same link again is fine; another is a [*LinkTakenError].
// Else its errors are [ErrStorageFull], [ErrUnavailable] or [*UnknownError].
//
// A link is written before the event that it leads to: a crash in between leaves a link to an entity without that
// event, which the repetition of the same work finds again and completes.
func (l *Log) PutLink(ctx context.Context, providerID, objectID string, k Link) error {
	if !events.ValidID(k.Entity, k.ID) {
		return fmt.Errorf("link %s %s: %q is no id of a %s", providerID, objectID, k.ID, k.Entity)
	}
	body, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("encode a link: %w", err)
	}
	subject := l.linkSubject(providerID, objectID)
	return l.putOnce(ctx, streamLinks, subject, subject, body, func(m stored) error {
		existing, err := decodeLink(m)
		if err == nil && existing != k {
			err = &LinkTakenError{Existing: existing}
		}
		return err
	})
}

// MoveLink has a link lead to another entity, if it still leads to from. A link that leads to "to" already is fine, one that
// leads elsewhere is a [*LinkTakenError], and one that is not there [ErrNotFound]. Else its errors are those of [Log.PutLink].
func (l *Log) MoveLink(ctx context.Context, providerID, objectID string, from, to Link) error {
	if !events.ValidID(to.Entity, to.ID) {
		return fmt.Errorf("link %s %s: %q is no id of a %s", providerID, objectID, to.ID, to.Entity)
	}
	body, err := json.Marshal(to)
	if err != nil {
		return fmt.Errorf("encode a link: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, updateTimeout)
	defer cancel()
	subject := l.linkSubject(providerID, objectID)
	for try := 0; ; try++ {
		m, err := l.fromLeader(ctx, l.stream(streamLinks), getRequest{Last: subject})
		if err == nil {
			existing, decodeErr := decodeLink(m)
			switch {
			case decodeErr != nil:
				return decodeErr
			case existing == to:
				return nil
			case existing != from:
				return &LinkTakenError{Existing: existing}
			}
			// A crash right after leaves it moved and its caller without an answer: moved again it is found so.
			_, err = l.publish(ctx, l.stream(streamLinks), &nats.Msg{Subject: subject, Data: body}, m.Sequence, subject)
		}
		if err == nil {
			return nil
		}
		if !retryable(err) || try >= updateAttempts || !pause(ctx, try) {
			return fmt.Errorf("move link %s: %w", subject, err)
		}
	}
}

// putOnce stores the first message under a filter, which the subject matches. Where there is one already, or the answer was
// lost, there decides.
func (l *Log) putOnce(ctx context.Context, stream, subject, filter string, body []byte, there func(stored) error) error {
	ctx, cancel := context.WithTimeout(ctx, updateTimeout)
	defer cancel()
	unknown := false // an earlier try may still arrive
	for try := 0; ; try++ {
		_, err := l.publish(ctx, l.stream(stream), &nats.Msg{Subject: subject, Data: body}, 0, filter)
		if err == nil {
			return nil
		}
		if unknown = unknown || isUnknown(err); unknown && !isUnknown(err) {
			err = &UnknownError{Err: err}
		}
		if !retryable(err) {
			return fmt.Errorf("put %s: %w", subject, err)
		}
		if !errors.Is(err, ErrUnavailable) {
			m, loadErr := l.fromLeader(ctx, l.stream(stream), getRequest{Last: filter})
			if loadErr == nil {
				return there(m)
			}
			if !errors.Is(loadErr, ErrNotFound) && !IsUnavailable(loadErr) {
				return fmt.Errorf("put %s: %w", subject, loadErr)
			}
		}
		if try >= updateAttempts || !pause(ctx, try) {
			return fmt.Errorf("put %s: %w", subject, err)
		}
	}
}

// BackfillMark reads when the last complete backfill of a provider began; the zero time if there was none.
func (l *Log) BackfillMark(ctx context.Context, providerID string) (time.Time, error) {
	subject := l.subject("link", events.Token(providerID), backfillToken)
	m, err := l.fromLeader(ctx, l.stream(streamLinks), getRequest{Last: subject})
	if errors.Is(err, ErrNotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("backfill mark of %s: %w", providerID, err)
	}
	var mark struct {
		At time.Time `json:"at"`
	}
	if err := json.Unmarshal(m.Data, &mark); err != nil {
		return time.Time{}, fmt.Errorf("backfill mark of %s: %w", providerID, err)
	}
	return mark.At, nil
}

// SetBackfillMark remembers when the last complete backfill began. A lost mark only makes the next run read more.
func (l *Log) SetBackfillMark(ctx context.Context, providerID string, at time.Time) error {
	body, err := json.Marshal(map[string]time.Time{"at": at.UTC()})
	if err != nil {
		return fmt.Errorf("encode a backfill mark: %w", err)
	}
	if err := l.connected(ctx); err != nil {
		return err
	}
	_, err = l.js.Publish(ctx, l.subject("link", events.Token(providerID), backfillToken), body,
		jetstream.WithExpectStream(l.stream(streamLinks)))
	if err != nil {
		return fmt.Errorf("backfill mark of %s: %w", providerID, writeError(err))
	}
	return nil
}
