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
