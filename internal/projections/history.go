package projections

import (
	"context"

	"go.etcd.io/bbolt"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// The history's indexes hold sequences only; the events themselves stay in the LOG.
const (
	bucketEventsByCustomer = "events_by_customer" // customer id + sequence → nothing
	bucketEventsByEntity   = "events_by_entity"   // entity id + sequence → nothing
)

func applyHistory(f *fold, e eventlog.Entry) {
	if id := e.Event.CustomerID(); id != "" {
		f.put(bucketEventsByCustomer, indexKey(id, e.Sequence), nil)
	}
	f.put(bucketEventsByEntity, indexKey(e.Event.Subject, e.Sequence), nil)
}

// eventList answers event.list {customerId | entityId}: the events as they are stored, the oldest first. An entity that
// never was has no history.
func (q *queries) eventList(ctx context.Context, b query) (answer, error) {
	param, id, err := b.oneOf("customerId", "entityId")
	if err != nil {
		return answer{}, err
	}
	pg, after, err := q.page(b, "el")
	if err != nil {
		return answer{}, err
	}
	var sequences []uint64
	err = q.store.view(func(tx *bbolt.Tx) error {
		index := bucketEventsByEntity
		if param == "customerId" {
			if err := requireCustomer(tx, id); err != nil {
				return err
			}
			index = bucketEventsByCustomer
		} else if _, ok := events.EntityOf(id); !ok {
			return nil
		}
		for sequence := range oldest(tx.Bucket([]byte(index)), id, after) {
			if sequences = append(sequences, sequence); len(sequences) > pg.limit {
				break // one more than is shown: there is a next page
			}
		}
		return nil
	})
	if err != nil {
		return answer{}, err
	}
	for i, sequence := range sequences {
		if i == pg.limit {
			pg.more = true
			break
		}
		entry, err := q.log.Read(ctx, sequence)
		if err != nil {
			return answer{}, err
		}
		if !pg.add(sequence, entry.Raw, "") {
			break
		}
	}
	return pg.answer(), nil
}
