package provider

import (
	"context"
	"time"

	"github.com/paykit-go/paykit/internal/events"
)

// Listing is all that a provider has, as it is compared with the LOG. It reads only. Each list is read to its end, page by
// page, newest first, to yield; it stops at yield's first error and returns it. Lists by time give what was made at or
// after since; the zero time means everything. Every method fails with an [*Error]; a page that failed for the moment was
// asked for again before that. Calls may run at once.
type Listing interface {
	// Customer asks for a customer; of one that was deleted only the id is left.
	Customer(ctx context.Context, id string) (CustomerSeen, error)
	// ListCustomers lists the customers that live.
	ListCustomers(ctx context.Context, since time.Time, yield func(CustomerSeen) error) error
	// ListMethods lists the methods attached to a customer. It fails with [NoCustomer] if there is no such customer.
	ListMethods(ctx context.Context, customerID string, yield func(events.Method) error) error
	// ListPayments lists payments, paid or not. What was refunded of them is in ListRefunds only.
	ListPayments(ctx context.Context, since time.Time, yield func(events.Payment) error) error
	ListRefunds(ctx context.Context, since time.Time, yield func(events.RefundReport) error) error
	ListDisputes(ctx context.Context, since time.Time, yield func(events.DisputeReport) error) error
}
