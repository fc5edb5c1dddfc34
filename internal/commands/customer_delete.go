package commands

import (
	"context"
	"errors"
	"fmt"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// customerDelete is the command customer.delete. The worker deletes the provider's customer and erases the personal
// data; history keeps the ids.
type customerDelete struct {
	customerID string
	param      string // the field that named the customer
}

func parseCustomerDelete(f *fields, _ Config) command {
	c := customerDelete{customerID: f.optionalID("customerId"), param: "customerId"}
	reference := f.optionalID("referenceId")
	switch {
	case c.customerID == "" && reference == "":
		f.refuse(invalid("customerId", "customerId or referenceId is required"))
	case reference == "":
	case c.customerID == "":
		c.customerID, c.param = events.CustomerID(reference), "referenceId"
	case c.customerID != events.CustomerID(reference):
		f.refuse(invalid("referenceId", "names another customer than customerId; one of the two is enough"))
	}
	if refusal := checkReference("referenceId", reference); refusal != nil {
		f.refuse(refusal)
	}
	return c
}

func (c customerDelete) plan(h *Handler, _ call) plan {
	return plan{
		entity: events.EntityCustomer, id: c.customerID,
		decide: func(ctx context.Context, last *events.Event, cause events.Cause) (*events.Event, error) {
			in := events.DeleteCustomer{}
			if last != nil {
				// Read after last: a sync that stores a revision later than this loses its guard to the deletion, and
				// then revives the customer with a revision of its own.
				newest, err := h.newestProfile(ctx, c.customerID)
				if err != nil {
					return nil, err
				}
				in.Revision = newest.Sequence
			}
			ev, err := events.DecideCustomer(last, in, cause)
			if refusal, ok := errors.AsType[*events.Error](err); ok {
				return nil, notFound(refusal.Code, c.param, refusal.Message)
			}
			return ev, err
		},
		answer: h.customerResult,
	}
}

// customerResult is a customer's event as the contract answers it: with the profile, of which nothing is left once the
// customer is deleted, and the accounts that are linked.
func (h *Handler) customerResult(ctx context.Context, e eventlog.Entry) (any, error) {
	c := e.Event.Data.Customer
	result := events.CustomerResult{
		ID: c.ID, ReferenceID: c.ReferenceID, Metadata: map[string]string{}, ProviderAccounts: []events.ProviderAccountRef{},
		CreatedAt: c.CreatedAt, UpdatedAt: c.UpdatedAt, DeletedAt: c.DeletedAt,
	}
	if !c.Deleted() {
		newest, err := h.newestProfile(ctx, c.ID)
		if err != nil {
			return nil, err
		}
		result.Email, result.Name = newest.Profile.Email, newest.Profile.Name
		if newest.Profile.Metadata != nil {
			result.Metadata = newest.Profile.Metadata
		}
	}
	for _, providerID := range h.cfg.Providers {
		account, err := h.log.Load(ctx, events.EntityProviderAccount, events.ProviderAccountID(c.ID, providerID))
		switch {
		case errors.Is(err, eventlog.ErrNotFound):
		case err != nil:
			return nil, fmt.Errorf("accounts of %s: %w", c.ID, err)
		case account.Event.Data.ProviderAccount.Status == events.AccountLinked:
			a := account.Event.Data.ProviderAccount
			result.ProviderAccounts = append(result.ProviderAccounts, events.ProviderAccountRef{
				ID: a.ID, ProviderID: a.ProviderID, ProviderCustomerID: a.ProviderCustomerID,
			})
		}
	}
	return result, nil
}
