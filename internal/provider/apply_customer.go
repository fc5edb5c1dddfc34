package provider

import (
	"context"
	"errors"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// standing is where a provider customer stands with us.
type standing int

const (
	accountUnknown standing = iota // nobody's, or its account is not linked yet
	accountLinked                  // it is its customer's account now
	accountGone                    // it was its customer's account, or the customer was deleted
)

// customerOf finds the customer of a provider customer, and how the two stand. The link alone proves nothing: it is
// written before the account is linked, and stays when the account is gone.
func (a *Applier) customerOf(ctx context.Context, providerID, providerCustomerID string) (events.Customer, standing, error) {
	k, ok, err := a.link(ctx, providerID, providerCustomerID, events.EntityCustomer)
	if err != nil || !ok {
		return events.Customer{}, accountUnknown, err
	}
	return a.stands(ctx, providerID, k.ID, providerCustomerID)
}

// stands tells how a customer stands with a provider customer of theirs; "" asks about whichever is linked.
func (a *Applier) stands(ctx context.Context, providerID, customerID, providerCustomerID string) (events.Customer, standing, error) {
	customer, err := a.load(ctx, events.EntityCustomer, customerID)
	if err != nil || customer.Event == nil {
		return events.Customer{}, accountUnknown, err
	}
	c := customer.Event.Data.Customer
	entry, err := a.load(ctx, events.EntityProviderAccount, events.ProviderAccountID(customerID, providerID))
	if err != nil || entry.Event == nil {
		return c, accountUnknown, err
	}
	account := entry.Event.Data.ProviderAccount
	same := providerCustomerID == "" || account.ProviderCustomerID == providerCustomerID
	switch {
	case same && account.Status == events.AccountLinked:
		return c, accountLinked, nil
	case same || account.Status == events.AccountLinked: // unlinked, or another took its place
		return c, accountGone, nil
	}
	return c, accountUnknown, nil // its link was written a moment ago; "linked" follows
}

// closed tells whether a delivery must leave an entity of this customer alone: the customer was deleted, or the account
// is not linked to that provider customer any more. Answers to our own calls are never held back.
func (a *Applier) closed(ctx context.Context, at sighting, customerID, providerCustomerID string) (bool, error) {
	if a.cfg.Source == SourceWorker {
		return false, nil
	}
	c, standing, err := a.stands(ctx, at.providerID, customerID, providerCustomerID)
	return c.Deleted() || standing == accountGone, err
}

var errClosed = errors.New("the customer was deleted or the account unlinked")

// updateOpen is update for what a delivery may change only while the customer is there and the account linked. Both are asked
// for once more right before something is appended: what was read of them before may be older than the unlinking, and the
// worker, which then takes everything off the account, has been there already.
func (a *Applier) updateOpen(
	ctx context.Context, at sighting, entity events.Entity, id, customerID, providerCustomerID string, decide decision,
) (Applied, error) {
	got, err := a.update(ctx, entity, id, func(last *events.Event) (*events.Event, error) {
		e, err := decide(last)
		if err != nil || e == nil || a.cfg.Source == SourceWorker {
			return e, err
		}
		c, standing, err := a.fresh().stands(ctx, at.providerID, customerID, providerCustomerID)
		switch {
		case err != nil:
			return nil, err
		case c.Deleted() || standing == accountGone:
			return nil, errClosed
		case last == nil && standing != accountLinked: // it has no owner but the account
			return nil, ErrOwnerUnknown
		}
		return e, nil
	})
	if errors.Is(err, errClosed) {
		return gone(customerID), nil
	}
	return got, err
}

// fresh is the applier that reads from the leader, past what was read before.
func (a *Applier) fresh() *Applier {
	one := *a
	one.log = leading{a.log}
	return &one
}

// leading reads from the leader.
type leading struct{ ApplierLog }

func (l leading) Load(ctx context.Context, entity events.Entity, id string) (eventlog.Entry, error) {
	return l.LoadFromLeader(ctx, entity, id) //nolint:wrapcheck // as LoadFromLeader gave it
}

// customer applies the making or deleting of a provider customer. The app owns the profile, so nothing else matters.
func (a *Applier) customer(ctx context.Context, at sighting, o CustomerSeen) (Applied, error) {
	if a.foreign(o.Owner) {
		return Applied{Outcome: OutcomeNotOurs}, nil
	}
	if o.Deleted {
		return a.customerDeleted(ctx, at, o)
	}
	if !a.ours(o.Owner) {
		return Applied{Outcome: OutcomeNotOurs}, nil
	}
	// What others read of the customer may be from before its deletion, and nothing is linked to a deleted one.
	entry, err := a.fresh().load(ctx, events.EntityCustomer, o.Owner.Customer)
	if err != nil {
		return Applied{}, err
	}
	if entry.Event == nil {
		return Applied{Outcome: OutcomeNotOurs}, nil
	}
	customer := entry.Event.Data.Customer
	// Also for a deleted customer: later deliveries about this provider customer must be found to be theirs and erased.
	// A crash right after leaves a link whose account is not linked, which nobody takes for an account; the delivery
	// comes again, or the worker's next call for this customer finds the provider customer by its metadata.
	err = a.putLink(ctx, at.providerID, o.ID, eventlog.Link{Entity: events.EntityCustomer, ID: customer.ID, CustomerID: customer.ID})
	if err != nil {
		return Applied{}, err
	}
	if customer.Deleted() {
		return gone(customer.ID), nil
	}
	return a.update(ctx, events.EntityProviderAccount, events.ProviderAccountID(customer.ID, at.providerID),
		func(last *events.Event) (*events.Event, error) {
			return events.DecideProviderAccount(last,
				events.LinkAccount{ProviderID: at.providerID, ProviderCustomerID: o.ID}, a.cause(at, customer.Ref()))
		})
}

// customerDeleted unlinks the account of a provider customer that is no more. It does so for a deleted customer too:
// the worker detaches an account's methods when it is unlinked.
func (a *Applier) customerDeleted(ctx context.Context, at sighting, o CustomerSeen) (Applied, error) {
	id := ""
	if a.ours(o.Owner) {
		id = o.Owner.Customer
	}
	if id == "" {
		k, ok, err := a.link(ctx, at.providerID, o.ID, events.EntityCustomer)
		if err != nil {
			return Applied{}, err
		}
		if !ok {
			return Applied{Outcome: OutcomeNotOurs}, nil
		}
		id = k.ID
	}
	customer, err := a.load(ctx, events.EntityCustomer, id)
	if err != nil {
		return Applied{}, err
	}
	if customer.Event == nil {
		return Applied{Outcome: OutcomeNotOurs}, nil
	}
	return a.update(ctx, events.EntityProviderAccount, events.ProviderAccountID(id, at.providerID),
		func(last *events.Event) (*events.Event, error) {
			return events.DecideProviderAccount(last,
				events.UnlinkAccount{ProviderCustomerID: o.ID}, a.cause(at, refOf(customer.Event)))
		})
}
