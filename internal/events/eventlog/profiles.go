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

// Profile is a customer's personal data. null means that there is none.
type Profile struct {
	Email    *string           `json:"email"`
	Name     *string           `json:"name"`
	Metadata map[string]string `json:"metadata"`
}

// Revision is a profile as it stands in PROFILES.
type Revision struct {
	Profile  Profile
	Sequence uint64
	Time     time.Time // when it was stored
}

func (l *Log) profileSubject(customerID string) (string, error) {
	if !events.ValidID(events.EntityCustomer, customerID) {
		return "", fmt.Errorf("%w: %q is no id of a customer", ErrNotFound, customerID)
	}
	return l.subject("profile", customerID), nil
}

func decodeProfile(m stored) (Revision, error) {
	r := Revision{Sequence: m.Sequence, Time: m.Time}
	if err := json.Unmarshal(m.Data, &r.Profile); err != nil {
		// The error's text may quote what it read.
		return Revision{}, fmt.Errorf("profile revision %d can't be read", m.Sequence)
	}
	return r, nil
}

// Profile reads a customer's newest profile from the leader. It returns [ErrNotFound].
func (l *Log) Profile(ctx context.Context, customerID string) (Revision, error) {
	subject, err := l.profileSubject(customerID)
	if err != nil {
		return Revision{}, err
	}
	m, err := l.fromLeader(ctx, l.stream(streamProfiles), getRequest{Last: subject})
	if err != nil {
		return Revision{}, fmt.Errorf("profile of %s: %w", customerID, err)
	}
	return decodeProfile(m)
}

// ProfileAt reads one revision. It returns [ErrNotFound] also for one that was erased.
func (l *Log) ProfileAt(ctx context.Context, sequence uint64) (Revision, error) {
	if sequence == 0 {
		return Revision{}, ErrNotFound
	}
	m, err := l.fromLeader(ctx, l.stream(streamProfiles), getRequest{Sequence: sequence})
	if err != nil {
		return Revision{}, fmt.Errorf("profile revision %d: %w", sequence, err)
	}
	return decodeProfile(m)
}

// PutProfile stores a new revision if the newest is still the one at sequence last (0 = none), and answers its
// sequence. Its errors are those of [Log.Append].
//
// A crash after it leaves a revision that no event announces: the command's repetition finds it as the newest and
// announces it.
func (l *Log) PutProfile(ctx context.Context, customerID string, p Profile, last uint64) (uint64, error) {
	subject, err := l.profileSubject(customerID)
	if err != nil {
		return 0, err
	}
	body, err := json.Marshal(p)
	if err != nil {
		return 0, fmt.Errorf("encode the profile of %s: %w", customerID, err)
	}
	sequence, err := l.publish(ctx, l.stream(streamProfiles), &nats.Msg{Subject: subject, Data: body}, last, subject)
	if err != nil {
		return 0, fmt.Errorf("put the profile of %s: %w", customerID, err)
	}
	return sequence, nil
}

// EraseProfiles erases a customer's revisions older than before (exclusive) and answers how many there were. The bytes
// are overwritten. It may be repeated; the newest revision stays if before is its sequence.
//
// A crash in the middle leaves some of the older revisions; the worker erases them again on the customer's event.
func (l *Log) EraseProfiles(ctx context.Context, customerID string, before uint64) (int, error) {
	subject, err := l.profileSubject(customerID)
	if err != nil {
		return 0, err
	}
	n := 0
	err = l.walk(ctx, l.stream(streamProfiles), subject, 1, func(m stored) (bool, error) {
		if m.Sequence >= before {
			return false, nil
		}
		err := l.erase(ctx, l.stream(streamProfiles), m.Sequence)
		if err == nil {
			n++
		}
		return err == nil, err
	})
	if err != nil {
		return n, fmt.Errorf("erase profiles of %s: %w", customerID, err)
	}
	return n, nil
}

// erase overwrites one message's bytes. A message that is gone already is fine. Never purge, limits or an
// acknowledgement: those leave the bytes in the file.
func (l *Log) erase(ctx context.Context, stream string, sequence uint64) error {
	var answer struct {
		Success bool `json:"success"`
	}
	// Without "no_erase" the server writes random bytes over the message.
	err := l.ask(ctx, "$JS.API.STREAM.MSG.DELETE."+stream, map[string]uint64{"seq": sequence}, &answer)
	if err == nil {
		return nil
	}
	if _, refused := errors.AsType[*jetstream.APIError](err); refused { // the server has several answers for a message that is not there
		if _, gone := l.fromLeader(ctx, stream, getRequest{Sequence: sequence}); errors.Is(gone, ErrNotFound) {
			return nil
		}
	}
	return fmt.Errorf("erase message %d of %s: %w", sequence, stream, err)
}
