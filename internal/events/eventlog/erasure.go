package eventlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/paykit-go/paykit/internal/events"
)

// Erasure is what is left of a deleted customer, as it can be seen from outside and without reading any of it. All zero and
// Confirmed is the end.
type Erasure struct {
	Profiles    uint64 // revisions
	Deliveries  uint64 // that name one of its provider customers
	DeadLetters uint64 // of before the deletion, or with a body, which somebody must decide about
	Commands    uint64 // at most so many that were queued before the deletion; whose they are is not known
	Accounts    []ProviderCustomer
	Confirmed   bool // the worker has acknowledged the deletion, which it does last; deliveries that name nobody are gone too
}

// ProviderCustomer is a customer of a provider's that is not deleted there yet, or not known to be.
type ProviderCustomer struct {
	ProviderID string `json:"providerId"`
	ID         string `json:"id"`
}

// Done tells that nothing is left.
func (e Erasure) Done() bool {
	return e.Confirmed && e.Profiles+e.Deliveries+e.DeadLetters+e.Commands == 0 && len(e.Accounts) == 0
}

// ErrRevived says that the customer was synced again since it was deleted: what there is of it may be of its new life.
var ErrRevived = errors.New("the customer was synced again since it was deleted")

// Deletion is a customer's deletion whose end is waited for.
type Deletion struct {
	CustomerID string
	Sequence   uint64    // of customer.deleted
	At         time.Time // of customer.deleted
	Providers  []string  // at which it had a customer
	Replicas   int       // of the streams

	l        *Log
	ids      []string // of its customers at the providers, of all times
	commands uint64   // the last that was queued when it was looked at first
}

// Deletion looks at a deleted customer. It returns [ErrNotFound], and [ErrRevived] for one that lives.
func (l *Log) Deletion(ctx context.Context, customerID string) (*Deletion, error) {
	d := &Deletion{CustomerID: customerID, l: l}
	e, err := l.LoadFromLeader(ctx, events.EntityCustomer, customerID)
	if err != nil {
		return nil, fmt.Errorf("deletion of %s: %w", customerID, err)
	}
	if !e.Event.Data.Customer.Deleted() {
		return nil, fmt.Errorf("deletion of %s: %w", customerID, ErrRevived)
	}
	d.Sequence, d.At = e.Sequence, e.Event.Time
	seen := map[string]bool{}
	filter := l.subject("log", string(events.EntityProviderAccount), "*", "*", customerID)
	err = l.walk(ctx, l.stream(streamLog), filter, 1, func(m stored) (bool, error) {
		e, err := l.entry(m)
		if err != nil {
			return false, err
		}
		a := e.Event.Data.ProviderAccount
		if !seen[a.ProviderID] {
			seen[a.ProviderID] = true
			d.Providers = append(d.Providers, a.ProviderID)
		}
		if a.ProviderCustomerID != "" && !seen[a.ProviderCustomerID] {
			seen[a.ProviderCustomerID] = true
			d.ids = append(d.ids, a.ProviderCustomerID)
		}
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("accounts of %s: %w", customerID, err)
	}
	info, err := streamInfo(ctx, l.js, l.stream(streamCommands))
	if err != nil {
		return nil, fmt.Errorf("deletion of %s: %w", customerID, err)
	}
	d.commands, d.Replicas = info.State.LastSeq, info.Config.Replicas
	return d, nil
}

// Left counts what is left. It returns [ErrRevived].
func (d *Deletion) Left(ctx context.Context) (Erasure, error) {
	left, err := d.left(ctx)
	if err != nil {
		return Erasure{}, fmt.Errorf("erasure of %s: %w", d.CustomerID, err)
	}
	return left, nil
}

func (d *Deletion) left(ctx context.Context) (left Erasure, err error) {
	l := d.l
	// First: what is confirmed has happened before the rest is counted.
	if left.Confirmed, err = d.confirmed(ctx); err != nil {
		return left, err
	}
	e, err := l.LoadFromLeader(ctx, events.EntityCustomer, d.CustomerID)
	if err != nil {
		return left, err
	}
	if !e.Event.Data.Customer.Deleted() {
		return left, ErrRevived
	}
	if left.Profiles, err = l.count(ctx, streamProfiles, l.subject("profile", d.CustomerID)); err != nil {
		return left, err
	}
	letters, err := l.DeadLetters(ctx, d.CustomerID)
	if err != nil {
		return left, err
	}
	for _, letter := range letters {
		if !events.Millis(letter.At).After(d.At) || len(letter.Body) > 0 {
			left.DeadLetters++
		}
	}
	for _, id := range d.ids {
		n, err := l.count(ctx, streamInbox, l.subject("inbox", "*", "*", events.Token(id)))
		if err != nil {
			return left, err
		}
		left.Deliveries += n
	}
	info, err := streamInfo(ctx, l.js, l.stream(streamCommands))
	if err != nil {
		return left, err
	}
	if first := info.State.FirstSeq; info.State.Msgs > 0 && first <= d.commands {
		left.Commands = min(info.State.Msgs, d.commands-first+1)
	}
	for _, provider := range d.Providers {
		e, err := l.LoadFromLeader(ctx, events.EntityProviderAccount, events.ProviderAccountID(d.CustomerID, provider))
		if err != nil {
			return left, err
		}
		if a := e.Event.Data.ProviderAccount; a.Status == events.AccountLinked {
			left.Accounts = append(left.Accounts, ProviderCustomer{ProviderID: provider, ID: a.ProviderCustomerID})
		}
	}
	return left, nil
}

// confirmed tells whether the worker has acknowledged the deletion. Its consumer tells only up to where everything is
// acknowledged, so a request of somebody else's that is older and open keeps it from being known.
func (d *Deletion) confirmed(ctx context.Context) (bool, error) {
	info, err := consumerInfo(ctx, d.l.js, d.l.stream(streamLog), string(ConsumerRequests))
	if err != nil {
		return false, err
	}
	floor := info.AckFloor.Stream
	if info.NumAckPending == 0 {
		floor = max(floor, info.Delivered.Stream)
	}
	return floor >= d.Sequence, nil
}

// count tells how many messages there are under a subject.
func (l *Log) count(ctx context.Context, stream, filter string) (n uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s, err := l.js.Stream(ctx, l.stream(stream))
	if err != nil {
		return 0, readError(err)
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return 0, readError(err)
	}
	for _, messages := range info.State.Subjects {
		n += messages
	}
	return n, nil
}
