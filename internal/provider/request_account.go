package provider

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// account gives the request's customer's account at the provider, made on first need.
func (w *Worker) account(ctx context.Context, r request, p *guardedAPI) (events.ProviderAccount, error) {
	id := events.ProviderAccountID(r.event.CustomerID(), p.id)
	if a, ok := w.accounts.find(id); ok {
		return a, nil
	}
	a, err := w.findAccount(ctx, r.event.CustomerID(), p.id)
	if err != nil {
		return a, err
	}
	if a.Status == events.AccountLinked {
		w.accounts.put(a)
		return a, nil
	}
	return w.makeAccount(ctx, r, p, id, a)
}

// findAccount loads an account without making one; a zero one if the customer never had any.
func (w *Worker) findAccount(ctx context.Context, customerID, providerID string) (events.ProviderAccount, error) {
	e, err := w.load(ctx, events.EntityProviderAccount, events.ProviderAccountID(customerID, providerID), 0)
	switch {
	case errors.Is(err, eventlog.ErrNotFound):
		return events.ProviderAccount{}, nil
	case err != nil:
		return events.ProviderAccount{}, err
	}
	return *e.Event.Data.ProviderAccount, nil
}

// makeAccount makes the provider's customer, with reserved metadata only, and links it; before is the account as it
// was, zero if there was none.
func (w *Worker) makeAccount(ctx context.Context, r request, p *guardedAPI, id string, before events.ProviderAccount) (events.ProviderAccount, error) {
	customerID := r.event.CustomerID()
	owner := events.Owner{Env: w.log.Env(), Customer: customerID}
	find := func(made Span) (string, bool, error) {
		look := p.FindCustomer
		if !made.Until.IsZero() {
			look = p.past.customerMade // a time that a restore has forgotten
		}
		found, err := look(ctx, owner, made)
		return found, found != "" && found != before.ProviderCustomerID, err // the one that was unlinked is not taken again
	}
	// A crash right after leaves a provider customer that we don't know. The next try has the same key and is answered
	// with the same one; its delivery would link it too.
	key := w.key(id, strconv.Itoa(before.Version+1), "create")
	providerCustomerID, err := create(w, r, key, w.accountSince(r), find, func(key string) (string, error) {
		return p.CreateCustomer(ctx, key, owner)
	})
	if err != nil {
		return events.ProviderAccount{}, err
	}
	if err := w.point("customer_created"); err != nil {
		return events.ProviderAccount{}, err
	}
	// A crash right after leaves a link that proves nothing until the account is linked; the next try finds it there.
	err = w.log.PutLink(ctx, p.id, providerCustomerID, eventlog.Link{
		Entity: events.EntityCustomer, ID: customerID, CustomerID: customerID,
	})
	if taken, ok := errors.AsType[*eventlog.LinkTakenError](err); ok {
		// Two customers of ours must never share one at the provider: one would be charged for the other.
		return events.ProviderAccount{}, &Error{Class: Invalid, Operation: "customers.link", Code: "link_taken", Err: taken}
	}
	if err != nil {
		return events.ProviderAccount{}, fmt.Errorf("link %s: %w", providerCustomerID, err)
	}
	if err := w.point("customer_linked"); err != nil {
		return events.ProviderAccount{}, err
	}
	// A crash right after leaves the account linked and the request open: it comes again and finds the account.
	e, _, err := w.log.Update(ctx, events.EntityProviderAccount, id, func(last *events.Event) (*events.Event, error) {
		in := events.LinkAccount{ProviderID: p.id, ProviderCustomerID: providerCustomerID}
		return events.DecideProviderAccount(last, in, w.cause(r))
	})
	if err != nil {
		return events.ProviderAccount{}, fmt.Errorf("link account %s: %w", id, err)
	}
	// Another worker, or the customer's delivery, may have been first: what is linked counts.
	a := *e.Event.Data.ProviderAccount
	if a.Status != events.AccountLinked {
		return a, &later{after: w.jitter(w.retryFirst), reason: "the account was unlinked meanwhile"}
	}
	if a.ProviderCustomerID != providerCustomerID {
		w.cfg.Logger.Warn().Str("provider", p.id).Str("account", providerCustomerID).Str("customer_id", customerID).
			Msg("a second provider customer was made and is not used")
	}
	w.accounts.put(a)
	return a, nil
}

// accountSince is from when on the provider's customer can have been made. The key is the account's: any request of the
// customer's may have sent it before this one.
func (w *Worker) accountSince(r request) time.Time {
	since := w.cfg.Now().Add(-2 * lookUpAfter)
	if r.event.Time.Before(since) {
		since = r.event.Time
	}
	return since.Add(-clockSkew)
}

// unlink says that the provider no longer has the customer of an account. A crash right after leaves the account
// unlinked; the event makes the worker detach its methods, and the request that found it out comes again.
func (w *Worker) unlink(ctx context.Context, r request, providerID, providerCustomerID string) error {
	id := events.ProviderAccountID(r.event.CustomerID(), providerID)
	w.accounts.drop(id)
	_, _, err := w.log.Update(ctx, events.EntityProviderAccount, id, func(last *events.Event) (*events.Event, error) {
		return events.DecideProviderAccount(last, events.UnlinkAccount{ProviderCustomerID: providerCustomerID}, w.cause(r))
	})
	if err != nil {
		return fmt.Errorf("unlink account %s: %w", id, err)
	}
	return nil
}

// notFound tells whether a call failed because the object it is about does not exist.
func notFound(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.NotFound
}

// withAccount calls do with the account of the request's customer. If the provider has no such customer any more, the
// account is unlinked, and do is called once more with a new one.
func withAccount[T any](
	ctx context.Context, w *Worker, r request, p *guardedAPI, do func(a events.ProviderAccount) (T, error),
) (T, error) {
	var none T
	for again := true; ; again = false {
		a, err := w.account(ctx, r, p)
		if err != nil {
			return none, err
		}
		made, err := do(a)
		if !again || !NoCustomer(err) {
			return made, err
		}
		if err := w.unlink(ctx, r, p.id, a.ProviderCustomerID); err != nil {
			return none, err
		}
	}
}

// createKey is the key of a creating call. A customer made anew makes it another call, because the customer is one of
// its parameters.
func (w *Worker) createKey(id string, a events.ProviderAccount) string {
	if a.Version <= 1 {
		return w.key(id, "create")
	}
	return w.key(id, "create", strconv.Itoa(a.Version))
}

// accountLinked tells the provider the profile of a customer that it has just got.
func (w *Worker) accountLinked(ctx context.Context, r request) error {
	e, err := w.subject(ctx, r)
	if err != nil {
		return err
	}
	a := *e.Event.Data.ProviderAccount
	p, err := w.provider(a.ProviderID)
	if err != nil {
		return err
	}
	customer, err := w.customer(ctx, a.CustomerID)
	if err != nil {
		return err
	}
	if customer.Deleted() {
		// Linked while the deletion was on its way: it is deleted as the others were.
		kept, err := w.eraseAccounts(ctx, r, p, []string{r.event.Data.ProviderAccount.ProviderCustomerID})
		if err != nil {
			return err
		}
		return w.allErased(r, kept, 0)
	}
	if a.Status != events.AccountLinked {
		return nil
	}
	return w.pushProfile(ctx, r, p, a)
}

// accountUnlinked detaches the account's methods: they belonged to the provider's customer and went with it.
func (w *Worker) accountUnlinked(ctx context.Context, r request) error {
	gone := r.event.Data.ProviderAccount
	w.accounts.drop(gone.ID)
	methods, err := w.log.Latest(ctx, events.EntityPaymentMethod, gone.CustomerID)
	if err != nil {
		return fmt.Errorf("methods of %s: %w", gone.CustomerID, err)
	}
	for _, e := range methods {
		m := e.Event.Data.PaymentMethod
		// A method that is newer than the unlinking belongs to the account's next provider customer.
		if m.ProviderID != gone.ProviderID || !m.Live() || m.CreatedAt.After(r.event.Time) {
			continue
		}
		if err := w.methodGone(ctx, r, m.ID); err != nil {
			return err
		}
	}
	return nil
}
