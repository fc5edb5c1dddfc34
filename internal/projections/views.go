package projections

import (
	"context"
	"errors"

	"go.etcd.io/bbolt"

	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// Views are a views' file without a projector: nothing follows a LOG, whoever has it hands in the events. It is for
// those whose LOG is not on NATS (internal/sim). What it folds is what a [Projector] folds. It is not durable: a file
// that the process has not closed may be anything.
type Views struct{ store *store }

// OpenViews opens or creates a file. It returns [ErrLocked] if another process has it.
func OpenViews(path string) (*Views, error) {
	s, err := openStore(path, storeOptions{noSync: true})
	if err != nil {
		return nil, err
	}
	return &Views{store: s}, nil
}

// Apply folds a stretch of the LOG into the views and moves their checkpoint, in one transaction: all of it or nothing.
// Events that they have already change nothing; one too far on is an [*eventlog.GapError].
func (v *Views) Apply(entries []eventlog.Entry) error { return v.store.apply(entries) }

// Digest walks all views and answers what they are.
func (v *Views) Digest(ctx context.Context) (Result, error) { return v.store.digest(ctx) }

// Clear makes the views what those of an empty LOG are.
func (v *Views) Clear() error {
	err := v.store.update(func(tx *bbolt.Tx) error {
		for _, name := range buckets() {
			if err := tx.DeleteBucket([]byte(name)); err != nil {
				return err
			}
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		meta := tx.Bucket([]byte(bucketMeta))
		return errors.Join(
			meta.Put([]byte(keyCheckpoint), sequenceKey(0)), meta.Put([]byte(keyDigest), nil),
			meta.Put([]byte(keySums), encodeSums(make([]sum, len(buckets())))), sealMeta(tx),
		)
	})
	if err == nil {
		v.store.reached.Store(0)
	}
	return err
}

// Close closes the file.
func (v *Views) Close() error { return v.store.close() }
