package provider

import (
	"context"
	"sync"
	"time"

	"github.com/paykit-go/paykit/internal/events"
)

const (
	// pastSlice is how much of a past time is listed in one go: what was read of it stays if the next slice fails, or takes
	// longer than whoever asks may wait.
	pastSlice = 6 * time.Hour
	// pastAfter is how long ago a time must be for the provider to add nothing to it: its clock may be behind ours.
	pastAfter = 2 * clockSkew
	// pastMost bounds what is remembered of one provider, about 30 MB. A time that holds more is asked for each customer.
	pastMost = 200_000
)

// pastCustomers remembers whom the provider's customers belong to that were made in the times that restores have forgotten:
// every new customer may be among them, and the provider can only list them all. Such a time is past, so what it holds does not
// change, but for what is deleted there; whoever uses that finds out, as of any other account. Each is listed once in a
// process's life. It is safe for concurrent use.
type pastCustomers struct {
	list func(ctx context.Context, made Span, most int) (ids map[string]string, complete bool, err error)
	find func(ctx context.Context, owner events.Owner, made Span) (string, error)
	now  func() time.Time
	most int

	once sync.Once
	turn chan struct{} // holds one while nobody is at the two below
	held int           // remembered ids
	of   map[Span]*pastTime
}

type pastTime struct {
	ids     map[string]string // of the provider, by ours
	until   time.Time         // so far it is read
	tooMany bool
}

// customerMade is [Customers.FindCustomer] in a time that has an end.
func (c *pastCustomers) customerMade(ctx context.Context, owner events.Owner, made Span) (string, error) {
	c.once.Do(func() {
		c.turn, c.of = make(chan struct{}, 1), map[Span]*pastTime{}
		c.turn <- struct{}{}
	})
	select {
	case <-c.turn: // who comes while it is read waits for it, and reads nothing
	case <-ctx.Done():
		return "", &Error{Class: Transient, Operation: "customers.find", Err: context.Cause(ctx)} // nothing was sent
	}
	found, rest, err := c.remembered(ctx, owner.Customer, made)
	c.turn <- struct{}{}
	if found != "" || err != nil || !rest.Since.Before(rest.Until) {
		return found, err
	}
	return c.find(ctx, owner, rest)
}

// remembered reads what can be remembered and is not yet, and gives what it knows of a customer and the time of which it knows
// nothing. It is called by who has the turn.
func (c *pastCustomers) remembered(ctx context.Context, customerID string, made Span) (found string, rest Span, err error) {
	p := c.of[made]
	if p == nil {
		p = &pastTime{ids: map[string]string{}, until: made.Since}
		c.of[made] = p
	}
	settled := c.now().Add(-pastAfter)
	if settled.After(made.Until) {
		settled = made.Until
	}
	// The end, while it is not settled, is a short time, for which everybody asks alone.
	for !p.tooMany && p.until.Before(settled) && (settled.Equal(made.Until) || settled.Sub(p.until) >= pastAfter) {
		next := p.until.Add(pastSlice)
		if next.After(settled) {
			next = settled
		}
		ids, complete, err := c.list(ctx, Span{Since: p.until, Until: next}, c.most-c.held)
		if err != nil {
			return "", Span{}, err
		}
		if !complete {
			c.held -= len(p.ids)
			*p = pastTime{until: made.Since, tooMany: true}
			break
		}
		for ours, theirs := range ids {
			if _, older := p.ids[ours]; !older {
				p.ids[ours] = theirs
				c.held++
			}
		}
		p.until = next
	}
	return p.ids[customerID], Span{Since: p.until, Until: made.Until}, nil
}
