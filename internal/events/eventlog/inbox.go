package eventlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/paykit-go/paykit/internal/events"
)

// Delivery is a signed delivery as it came in. ProviderCustomerID is "" if it names none. Header is kept beside the
// body; its keys must not begin with "Nats-".
type Delivery struct {
	ProviderID, EventID, ProviderCustomerID string
	Body                                    []byte
	Header                                  map[string]string
}

// DeliveryLife is how long a delivery is kept.
const DeliveryLife = 35 * 24 * time.Hour

const (
	sweepAfter = DeliveryLife
	sweepEvery = 200 * time.Millisecond // at most 5 a second: each holds the stream's lock for about 11 ms
	sweepSleep = time.Hour
	sweepRetry = 30 * time.Second
)

// StoreDelivery appends a delivery to INBOX, once: for one that is there already it answers false, unless it may have been
// stored by this very call, of which a part had no answer. Its errors are
// [ErrStorageFull], [ErrUnavailable], [*UnknownError] and [ErrTooLarge]; after any but the last the provider tries again.
//
// Once it returns true the delivery is on disk: a crash before the provider got its answer makes it deliver again,
// which is then a duplicate.
func (l *Log) StoreDelivery(ctx context.Context, d Delivery) (stored bool, err error) {
	subject := l.subject("inbox", events.Token(d.ProviderID), events.Token(d.EventID), events.TokenOrNone(d.ProviderCustomerID))
	msg := &nats.Msg{Subject: subject, Data: d.Body, Header: nats.Header{}}
	for k, v := range d.Header {
		msg.Header.Set(k, v)
	}
	stored, err = l.storeInbox(ctx, msg)
	if err != nil {
		return false, fmt.Errorf("store delivery %s of %s: %w", d.EventID, d.ProviderID, err)
	}
	return stored, nil
}

// duplicate makes sure that a delivery whose guard was lost is stored: replicated streams refuse it also while another
// copy is being stored, which may yet fail.
func (l *Log) duplicate(ctx context.Context, subject string) error {
	if !l.replicated {
		return nil
	}
	_, err := l.fromLeader(ctx, l.stream(streamInbox), getRequest{Last: subject})
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: another copy is being stored", ErrUnavailable)
	}
	return err
}

// SweepInbox securely deletes deliveries older than 35 days, oldest first, at most five a second, until ctx ends. Several
// processes may sweep at once.
func (l *Log) SweepInbox(ctx context.Context) error {
	for {
		wait, err := l.sweepOnce(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			l.cfg.Logger.Warn().Err(err).Msg("sweeping the inbox failed")
			wait = sweepRetry
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
}

// sweepOnce erases the oldest delivery if its time has come, and says when to look again.
func (l *Log) sweepOnce(ctx context.Context) (wait time.Duration, err error) {
	oldest, err := l.direct(ctx, l.stream(streamInbox), getRequest{Sequence: 1, Next: l.subject("inbox", ">")})
	if errors.Is(err, ErrNotFound) {
		return sweepSleep, nil
	}
	if err != nil {
		return 0, err
	}
	if left := oldest.Time.Add(sweepAfter).Sub(l.cfg.Now()); left > 0 {
		return min(left, sweepSleep), nil
	}
	return sweepEvery, l.erase(ctx, l.stream(streamInbox), oldest.Sequence)
}

// StoredDelivery is a delivery as it stands in INBOX.
type StoredDelivery struct {
	Sequence uint64
	Time     time.Time // when it was stored
	Body     []byte
}

// WalkDeliveries calls yield with each delivery that names this customer of the provider's, or with "" that names none,
// oldest first, and securely deletes those that yield says to erase. It ends with yield's first error.
func (l *Log) WalkDeliveries(ctx context.Context, providerID, providerCustomerID string,
	yield func(d StoredDelivery) (erase bool, err error),
) error {
	filter := l.subject("inbox", events.Token(providerID), "*", events.TokenOrNone(providerCustomerID))
	err := l.walk(ctx, l.stream(streamInbox), filter, 1, func(m stored) (bool, error) {
		erase, err := yield(StoredDelivery{Sequence: m.Sequence, Time: m.Time, Body: m.Data})
		if err == nil && erase {
			err = l.erase(ctx, l.stream(streamInbox), m.Sequence)
		}
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("deliveries of %s: %w", providerID, err)
	}
	return nil
}
