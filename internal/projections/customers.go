package projections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
	"golang.org/x/sync/errgroup"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

const (
	bucketCustomers           = "customers"             // customer id → row
	bucketCustomersByCreation = "customers_by_creation" // first sequence → customer id; those not deleted
)

// The states of a customer's row.
const (
	customerLive    = 1
	customerDeleted = 2
)

// profileReads is how many profiles one list reads at once.
const profileReads = 8

func applyCustomer(f *fold, e eventlog.Entry) error {
	key := []byte(e.Event.Subject)
	state := byte(customerLive)
	if e.Event.Data.Customer.Deleted() {
		state = customerDeleted
	}
	after, before, err := putRow(f, bucketCustomers, key, e, state)
	if err != nil || before.state == after.state {
		return err
	}
	if state == customerDeleted {
		f.remove(bucketCustomersByCreation, sequenceKey(after.first))
		return nil
	}
	f.put(bucketCustomersByCreation, sequenceKey(after.first), key)
	return nil
}

// customerRow is what the views know of a customer: all but the profile.
type customerRow struct {
	customer events.Customer
	accounts []events.ProviderAccountRef
	sequence uint64
	first    uint64
}

func readCustomer(tx *bbolt.Tx, id string) (customerRow, error) {
	r, ok, err := readRow(tx.Bucket([]byte(bucketCustomers)), []byte(id))
	if err != nil {
		return customerRow{}, err
	}
	if !ok {
		return customerRow{}, errNoRow
	}
	c := customerRow{sequence: r.sequence, first: r.first}
	if err := json.Unmarshal(r.snapshot, &c.customer); err != nil {
		return customerRow{}, fmt.Errorf("%w: customer %s: %w", errDamaged, id, err)
	}
	c.accounts, err = linkedAccounts(tx, id)
	return c, err
}

// requireCustomer refuses a query about a customer who never was.
func requireCustomer(tx *bbolt.Tx, id string) error {
	if tx.Bucket([]byte(bucketCustomers)).Get([]byte(id)) == nil {
		return errCustomerNotFound("customerId")
	}
	return nil
}

func errCustomerNotFound(param string) error {
	return &events.Error{Code: events.CodeCustomerNotFound, Message: "there is no such customer", Param: param}
}

// withProfile puts a customer's profile beside the row: the revision that the row's event announced. A newer one may be
// there that no event announces yet; the announced one may be gone, because a still newer event that the views do not
// have superseded it, or because the customer is being erased: then the newest there is, or none.
func (q *queries) withProfile(ctx context.Context, c customerRow) (events.CustomerResult, error) {
	result := events.CustomerResult{
		ID: c.customer.ID, ReferenceID: c.customer.ReferenceID,
		Metadata: map[string]string{}, ProviderAccounts: c.accounts,
		CreatedAt: c.customer.CreatedAt, UpdatedAt: c.customer.UpdatedAt, DeletedAt: c.customer.DeletedAt,
	}
	// Profiles are no history: what a person had erased, or changed, is gone, and today's would stand beside what was true
	// then.
	if q.past || c.customer.Deleted() || c.customer.ProfileRevision == 0 {
		return result, nil
	}
	revision, err := q.log.Profile(ctx, c.customer.ID)
	if err == nil && revision.Sequence > c.customer.ProfileRevision {
		announced, atErr := q.log.ProfileAt(ctx, c.customer.ProfileRevision)
		switch {
		case atErr == nil:
			revision = announced
		case !errors.Is(atErr, eventlog.ErrNotFound):
			err = atErr
		}
	}
	if errors.Is(err, eventlog.ErrNotFound) {
		return result, nil
	}
	if err != nil {
		return events.CustomerResult{}, fmt.Errorf("read the profile of %s: %w", c.customer.ID, err)
	}
	result.Email, result.Name = revision.Profile.Email, revision.Profile.Name
	if revision.Profile.Metadata != nil {
		result.Metadata = revision.Profile.Metadata
	}
	return result, nil
}

// customerGet answers customer.get {customerId | referenceId}, deleted ones too.
func (q *queries) customerGet(ctx context.Context, b query) (answer, error) {
	param, value, err := b.oneOf("customerId", "referenceId")
	if err != nil {
		return answer{}, err
	}
	id := value
	if param == "referenceId" {
		id = events.CustomerID(value) // derived, so no index is needed
	}
	var c customerRow
	err = q.store.view(func(tx *bbolt.Tx) error {
		var err error
		c, err = readCustomer(tx, id)
		return err
	})
	if errors.Is(err, errNoRow) {
		return answer{}, errCustomerNotFound(param)
	}
	if err != nil {
		return answer{}, err
	}
	result, err := q.withProfile(ctx, c)
	if err != nil {
		return answer{}, err
	}
	data, err := json.Marshal(result)
	return answer{Sequence: c.sequence, Data: data}, err
}

// customerList answers customer.list: those not deleted, the newest first.
func (q *queries) customerList(ctx context.Context, b query) (answer, error) {
	pg, before, err := q.page(b, "cl")
	if err != nil {
		return answer{}, err
	}
	var found []customerRow
	err = q.store.view(func(tx *bbolt.Tx) error {
		for _, id := range newest(tx.Bucket([]byte(bucketCustomersByCreation)), "", before) {
			c, err := readCustomer(tx, string(id))
			if errors.Is(err, errNoRow) {
				return fmt.Errorf("%w: customer %q is in an index only", errDamaged, id)
			}
			if err != nil {
				return err
			}
			if found = append(found, c); len(found) > pg.limit {
				break // one more than is shown: there is a next page
			}
		}
		return nil
	})
	if err != nil {
		return answer{}, err
	}
	items := make([]json.RawMessage, min(len(found), pg.limit))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(profileReads)
	for i := range items {
		g.Go(func() error {
			result, err := q.withProfile(ctx, found[i])
			if err != nil {
				return err
			}
			items[i], err = json.Marshal(result)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return answer{}, err
	}
	for i, item := range items {
		if !pg.add(found[i].first, item, "") {
			break
		}
	}
	pg.more = pg.more || len(found) > pg.limit
	return pg.answer(), nil
}
