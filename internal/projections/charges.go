package projections

import (
	"context"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

const (
	bucketCharges           = "charges"             // charge id → row
	bucketChargesByCreation = "charges_by_creation" // first sequence → charge id
	bucketChargesByCustomer = "charges_by_customer" // customer id + first sequence → charge id
	bucketChargesByStatus   = "charges_by_status"   // status code + first sequence → charge id
)

// chargeState is a status as one byte: the state of a charge's row and the prefix in the index by status. 0 is no
// status. The numbers are part of the file's layout.
func chargeState(s events.ChargeStatus) byte {
	switch s {
	case events.ChargeStatusRequested:
		return 1
	case events.ChargeStatusProcessing:
		return 2
	case events.ChargeStatusRequiresAction:
		return 3
	case events.ChargeStatusInDoubt:
		return 4
	case events.ChargeStatusFailed:
		return 5
	case events.ChargeStatusCanceled:
		return 6
	case events.ChargeStatusSucceeded:
		return 7
	}
	return 0
}

func applyCharge(f *fold, e eventlog.Entry) error {
	key := []byte(e.Event.Subject)
	state := chargeState(e.Event.Data.Charge.Status)
	if state == 0 {
		return fmt.Errorf("event at sequence %d: %w: charge status %q", e.Sequence, events.ErrMalformed, e.Event.Data.Charge.Status)
	}
	after, before, err := putRow(f, bucketCharges, key, e, state)
	if err != nil {
		return err
	}
	if before.version == 0 {
		f.put(bucketChargesByCreation, sequenceKey(after.first), key)
		f.put(bucketChargesByCustomer, indexKey(owner(e.Event.CustomerID()), after.first), key)
	}
	if before.state == after.state {
		return nil
	}
	if before.version > 0 {
		f.remove(bucketChargesByStatus, indexKey(string([]byte{before.state}), after.first))
	}
	f.put(bucketChargesByStatus, indexKey(string([]byte{state}), after.first), key)
	return nil
}

// chargeGet answers charge.get {chargeId}.
func (q *queries) chargeGet(_ context.Context, b query) (answer, error) {
	return q.snapshot(b, bucketCharges, "chargeId",
		events.Error{Code: events.CodeChargeNotFound, Message: "there is no such charge"})
}

// chargeList answers charge.list {customerId?, status?}, the newest first. Each combination has an index to walk, but
// for both together: then a customer's charges are looked through.
func (q *queries) chargeList(_ context.Context, b query) (answer, error) {
	customerID, err := b.text("customerId")
	if err != nil {
		return answer{}, err
	}
	status, err := b.text("status")
	if err != nil {
		return answer{}, err
	}
	state := chargeState(events.ChargeStatus(status))
	if status != "" && state == 0 {
		return answer{}, invalid("status",
			"must be requested, processing, requires_action, in_doubt, failed, canceled or succeeded")
	}
	pg, before, err := q.page(b, "hl")
	if err != nil {
		return answer{}, err
	}
	err = q.store.view(func(tx *bbolt.Tx) error {
		index, prefix := bucketChargesByCreation, ""
		switch {
		case customerID != "":
			if err := requireCustomer(tx, customerID); err != nil {
				return err
			}
			index, prefix = bucketChargesByCustomer, customerID
		case status != "":
			index, prefix = bucketChargesByStatus, string([]byte{state})
		}
		rows := tx.Bucket([]byte(bucketCharges))
		for first, id := range newest(tx.Bucket([]byte(index)), prefix, before) {
			r, err := readIndexed(rows, id)
			if err != nil {
				return err
			}
			if status != "" && r.state != state {
				continue
			}
			if !pg.add(first, r.snapshot, "") {
				return nil
			}
		}
		return nil
	})
	if err != nil {
		return answer{}, err
	}
	return pg.answer(), nil
}
