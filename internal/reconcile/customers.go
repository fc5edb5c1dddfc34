package reconcile

import (
	"context"
	"errors"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
)

// customers compares the provider's customers that were made for this environment with the linked accounts.
func (r *run) customers(ctx context.Context) error {
	return r.there.ListCustomers(ctx, r.Since, func(seen provider.CustomerSeen) error { //nolint:wrapcheck // says what it was
		if !r.ours(seen.Owner) || seen.Owner.Customer == "" {
			return nil
		}
		r.report.Compared.Customers++
		if r.customer(seen) == nil {
			return nil
		}
		// It may have been made or deleted this moment.
		fresh, err := r.there.Customer(ctx, seen.ID)
		if notFound(err) || err == nil && fresh.Deleted {
			return nil
		}
		if err != nil {
			return err //nolint:wrapcheck // says what it was
		}
		id := seen.Owner.Customer
		if err := r.state.refresh(ctx, id, events.ProviderAccountID(id, r.ProviderID)); err != nil {
			return err
		}
		if d := r.customer(fresh); d != nil {
			return r.found(ctx, *d)
		}
		return nil
	})
}

// customer compares one.
func (r *run) customer(seen provider.CustomerSeen) *Difference {
	id := seen.Owner.Customer
	d := &Difference{
		Kind: KindCustomer, ProviderObjectID: seen.ID, CustomerID: id, EntityID: events.ProviderAccountID(id, r.ProviderID),
		There: "live",
	}
	customer, account := r.state.event(id), r.state.event(d.EntityID)
	linked := account != nil && account.Data.ProviderAccount.Status == events.AccountLinked
	same := account != nil && account.Data.ProviderAccount.ProviderCustomerID == seen.ID
	switch {
	case customer == nil:
		d.Cause, d.Message, d.EntityID = MissingHere, "the provider has a customer that PayKit made, and the log has no such customer", ""
		d.Proposal = "was a backup restored that is older than the customer? sync it again under its reference, then run again; else delete it at the provider"
	case customer.Data.Customer.Deleted():
		d.Cause, d.Message, d.Here = DeletedHere, "the customer was deleted here and still is at the provider", "deleted"
		d.Proposal = "a running worker deletes it; if one runs and this stays, delete it at the provider"
	case linked && same:
		return nil
	case linked:
		d.Cause, d.Message = SecondCustomer, "the provider has a second customer for one of ours; the log is linked to the other"
		d.Here = account.Data.ProviderAccount.ProviderCustomerID
		d.Proposal = "look whether it has methods or payments; delete it at the provider if not"
	case same:
		d.Cause, d.Message, d.Here = StatusDiffers, "the account was unlinked here and its customer lives at the provider", events.AccountUnlinked
		d.Proposal = "a customer that was deleted can't come back; delete this one at the provider, a new one is made on the next need"
	default:
		d.Cause, d.Message, d.Here = NotLinked, "the provider has the customer, and its account is not linked here", "not linked"
		d.repair = seen
	}
	return d
}

// methods compares the methods of every linked account, and finds the accounts whose customer is gone. The provider lists
// methods by customer only, so each account is one call, whatever Since says.
func (r *run) methods(ctx context.Context) error {
	known := map[string][]string{} // account → our ids of its customer's methods
	var accounts []*events.Event
	for id, e := range r.state.last {
		switch ev := e.Event; {
		case ev.Data.ProviderAccount != nil && ev.Data.ProviderAccount.ProviderID == r.ProviderID:
			if ev.Data.ProviderAccount.Status == events.AccountLinked {
				accounts = append(accounts, ev)
			}
		case ev.Data.PaymentMethod != nil && ev.Data.PaymentMethod.ProviderID == r.ProviderID:
			account := events.ProviderAccountID(ev.CustomerID(), r.ProviderID)
			known[account] = append(known[account], id)
		}
	}
	for _, ev := range accounts {
		if err := r.account(ctx, ev, known[ev.Subject]); err != nil {
			return err
		}
	}
	return nil
}

// account compares one linked account's methods.
func (r *run) account(ctx context.Context, ev *events.Event, known []string) error {
	cus := ev.Data.ProviderAccount.ProviderCustomerID
	listed := map[string]bool{}
	var list []events.Method
	err := r.there.ListMethods(ctx, cus, func(m events.Method) error {
		list = append(list, m)
		listed[events.PaymentMethodID(r.ProviderID, m.ID)] = true
		return nil
	})
	if err != nil && !notFound(err) {
		return err //nolint:wrapcheck // says what it was
	}
	if len(list) == 0 {
		// No methods, or no customer: one that was deleted may be listed as one without.
		if gone, err := r.deleted(ctx, ev); err != nil || gone {
			return err
		}
	}
	for _, m := range list {
		if err := r.listedMethod(ctx, ev, m); err != nil {
			return err
		}
	}
	for _, id := range known {
		if m := r.state.event(id).Data.PaymentMethod; !listed[id] && m.Live() {
			if err := r.unlistedMethod(ctx, cus, m); err != nil {
				return err
			}
		}
	}
	return nil
}

// deleted tells whether a linked account's customer is gone there, and reports it. Only the provider's own word that it was
// deleted can be repaired: that it does not know the customer is what another account's key, or the other mode's, gets to
// hear about each of them, and what follows an unlinked account (its methods are detached) can't be taken back.
func (r *run) deleted(ctx context.Context, ev *events.Event) (bool, error) {
	account := ev.Data.ProviderAccount
	seen, err := r.there.Customer(ctx, account.ProviderCustomerID)
	unknown := notFound(err)
	if err != nil && !unknown {
		return false, err //nolint:wrapcheck // says what it was
	}
	if !unknown && !seen.Deleted {
		return false, nil
	}
	if err := r.state.refresh(ctx, ev.Subject); err != nil {
		return false, err
	}
	if r.state.event(ev.Subject).Data.ProviderAccount.Status != events.AccountLinked {
		return true, nil
	}
	if unknown {
		return true, r.found(ctx, Difference{
			Kind: KindCustomer, Cause: MissingThere, Message: "the log has a linked customer that the provider does not know",
			ProviderObjectID: account.ProviderCustomerID, EntityID: ev.Subject, CustomerID: ev.CustomerID(),
			Here: events.AccountLinked, Proposal: proposeOtherAccount,
		})
	}
	return true, r.found(ctx, Difference{
		Kind: KindCustomer, Cause: DeletedThere, Message: "the customer was deleted at the provider, and its account is linked here",
		ProviderObjectID: account.ProviderCustomerID, EntityID: ev.Subject, CustomerID: ev.CustomerID(),
		Here: events.AccountLinked, There: "deleted",
		repair: provider.CustomerSeen{
			ID: account.ProviderCustomerID, Deleted: true, Owner: events.Owner{Env: r.env, Customer: ev.CustomerID()},
		},
	})
}

// listedMethod compares a method that the provider has on a customer.
func (r *run) listedMethod(ctx context.Context, account *events.Event, m events.Method) error {
	r.report.Compared.Methods++
	m.ProviderCustomerID = account.Data.ProviderAccount.ProviderCustomerID
	if r.method(account, m) == nil {
		return nil
	}
	if err := r.state.refresh(ctx, events.PaymentMethodID(r.ProviderID, m.ID)); err != nil {
		return err
	}
	fresh, err := r.there.Method(ctx, m.ID)
	if notFound(err) || err == nil && !fresh.Attached {
		return nil // detached since
	}
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	if d := r.method(account, fresh); d != nil {
		return r.found(ctx, *d)
	}
	return nil
}

func (r *run) method(account *events.Event, m events.Method) *Difference {
	d := &Difference{
		Kind: KindMethod, ProviderObjectID: m.ID, EntityID: events.PaymentMethodID(r.ProviderID, m.ID),
		CustomerID: account.CustomerID(), There: "attached",
	}
	last := r.state.event(d.EntityID)
	if last != nil && !last.Data.PaymentMethod.Live() {
		d.Cause, d.Message, d.Here = DetachedHere, "the method was detached here, which is final, and is attached at the provider", "detached"
		d.Proposal = "detach it at the provider; PayKit charges it no more either way"
		return d
	}
	cause := r.cause()
	cause.Customer = account.Data.Customer.Ref()
	next, err := events.DecidePaymentMethod(last, events.MethodObserved{ProviderID: r.ProviderID, Method: m}, cause)
	if err != nil || next == nil {
		return nil
	}
	d.repair = provider.MethodSeen{Method: m, First: last == nil}
	if last == nil {
		d.Cause, d.Message = MissingHere, "the provider has a method on a customer of ours that is not in the log"
		return d
	}
	d.Cause, d.Message = DetailsDiffer, "the method's card is another one, or expires at another time, at the provider"
	d.Here, d.There = card(last.Data.PaymentMethod), card(next.Data.PaymentMethod)
	return d
}

func card(m *events.PaymentMethod) string {
	return m.Brand + " " + m.Last4 + " " + time.Date(m.ExpiryYear, time.Month(m.ExpiryMonth), 1, 0, 0, 0, 0, time.UTC).Format("01/2006")
}

// unlistedMethod looks at a method that lives here and was not listed there. Detached is what the provider shows without
// the customer; one that it does not know is never taken for that, because detached is final.
func (r *run) unlistedMethod(ctx context.Context, cus string, m *events.PaymentMethod) error {
	there, err := r.there.Method(ctx, m.ProviderMethodID)
	unknown := notFound(err)
	switch {
	case unknown:
	case err != nil:
		return err //nolint:wrapcheck // says what it was
	case there.Attached && there.ProviderCustomerID == cus:
		return nil // attached since
	}
	if err := r.state.refresh(ctx, m.ID); err != nil {
		return err
	}
	if !r.state.event(m.ID).Data.PaymentMethod.Live() {
		return nil
	}
	if unknown {
		return r.found(ctx, Difference{
			Kind: KindMethod, Cause: MissingThere, Message: "the log has a method that the provider does not know",
			ProviderObjectID: m.ProviderMethodID, EntityID: m.ID, CustomerID: m.CustomerID, Here: "attached", Proposal: proposeOtherAccount,
		})
	}
	there.Attached, there.ProviderCustomerID = false, cus
	return r.found(ctx, Difference{
		Kind: KindMethod, Cause: DetachedThere, Message: "the method lives here and is no longer on the customer at the provider",
		ProviderObjectID: m.ProviderMethodID, EntityID: m.ID, CustomerID: m.CustomerID, Here: "attached", There: "detached",
		repair: provider.MethodSeen{Method: there},
	})
}

// notFound tells whether a look-up failed because there is no such object.
func notFound(err error) bool {
	e, ok := errors.AsType[*provider.Error](err)
	return ok && e.NotFound
}
