package provider

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// pushTries is how often in one go a profile is read, to see whether it moved since it was pushed.
const pushTries = 5

// customerUpdated tells every provider that has the customer the newest profile, and erases the profiles before it.
func (w *Worker) customerUpdated(ctx context.Context, r request) error {
	e, err := w.subject(ctx, r)
	if err != nil {
		return err
	}
	customer := e.Event.Data.Customer
	if customer.Deleted() {
		return nil // the deletion's own request erases
	}
	// What a sync compares with is the revision last announced, so that one stays. A crash right after is repaired by
	// the next delivery of this request: erasing again finds nothing.
	if _, err := w.log.EraseProfiles(ctx, customer.ID, customer.ProfileRevision); err != nil {
		return fmt.Errorf("erase profiles before %d of %s: %w", customer.ProfileRevision, customer.ID, err)
	}
	for _, id := range w.providerIDs() {
		a, err := w.findAccount(ctx, customer.ID, id)
		if err != nil {
			return err
		}
		if a.Status != events.AccountLinked {
			continue // told when the account is linked
		}
		if err := w.pushProfile(ctx, r, w.providers[id], a); err != nil {
			return err
		}
	}
	return nil
}

func (w *Worker) providerIDs() []string {
	ids := make([]string, 0, len(w.providers))
	for id := range w.providers {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// pushProfile tells the provider the newest profile, and tells it again if it moved meanwhile: so whichever push comes
// last, it is of the newest. The key names the request and the revision, so that an older request that is late still
// pushes the newest and is not answered with what an earlier push of it did.
func (w *Worker) pushProfile(ctx context.Context, r request, p *guardedAPI, a events.ProviderAccount) error {
	told := uint64(0)
	for range pushTries {
		rev, err := w.log.Profile(ctx, a.CustomerID)
		if errors.Is(err, eventlog.ErrNotFound) {
			return nil // erased, or there never was one
		}
		if err != nil {
			return fmt.Errorf("profile of %s: %w", a.CustomerID, err)
		}
		if rev.Sequence == told {
			return nil
		}
		key := w.key(a.ID, "profile", r.id(), strconv.FormatUint(rev.Sequence, 10))
		// A crash right after leaves the provider told and the request open: it comes again and is answered from its key.
		err = set(r, key, func(key string) error {
			return p.UpdateCustomer(ctx, key, a.ProviderCustomerID, w.profile(a, rev.Profile))
		})
		if notFound(err) {
			return w.unlink(ctx, r, p.id, a.ProviderCustomerID)
		}
		if err != nil {
			return err
		}
		told = rev.Sequence
	}
	return &later{after: w.jitter(w.retryFirst), reason: "the profile keeps moving"}
}

func (w *Worker) profile(a events.ProviderAccount, p eventlog.Profile) Profile {
	profile := Profile{Metadata: p.Metadata, Owner: events.Owner{Env: w.log.Env(), Customer: a.CustomerID}}
	if p.Email != nil {
		profile.Email = *p.Email
	}
	if p.Name != nil {
		profile.Name = *p.Name
	}
	return profile
}
