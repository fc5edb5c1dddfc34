package projections

import (
	"encoding/json"
	"fmt"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// bucketProviderAccounts has customer id + account id → row: nobody asks for an account by its id, all for those of a
// customer.
const bucketProviderAccounts = "provider_accounts"

// The states of an account's row.
const (
	accountLinked   = 1
	accountUnlinked = 2
)

func applyProviderAccount(f *fold, e eventlog.Entry) error {
	state := byte(accountUnlinked)
	if e.Event.Data.ProviderAccount.Status == events.AccountLinked {
		state = accountLinked
	}
	key := []byte(owner(e.Event.CustomerID()) + e.Event.Subject)
	_, _, err := putRow(f, bucketProviderAccounts, key, e, state)
	return err
}

// linkedAccounts lists a customer's accounts that are linked, in the order of their ids.
func linkedAccounts(tx *bbolt.Tx, customerID string) ([]events.ProviderAccountRef, error) {
	list := []events.ProviderAccountRef{}
	c := tx.Bucket([]byte(bucketProviderAccounts)).Cursor()
	for k, v := c.Seek([]byte(customerID)); strings.HasPrefix(string(k), customerID); k, v = c.Next() {
		r, err := decodeRow(k, v)
		if err != nil {
			return nil, err
		}
		if r.state != accountLinked {
			continue
		}
		var a events.ProviderAccount
		if err := json.Unmarshal(r.snapshot, &a); err != nil {
			return nil, fmt.Errorf("%w: account %q: %w", errDamaged, k, err)
		}
		list = append(list, events.ProviderAccountRef{
			ID: a.ID, ProviderID: a.ProviderID, ProviderCustomerID: a.ProviderCustomerID,
		})
	}
	return list, nil
}
