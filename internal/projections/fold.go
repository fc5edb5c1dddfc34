package projections

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/paykit-go/paykit/internal/crashpoint"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/plant"
)

// fold takes events into the views within one write transaction. What changes is kept beside the tree and put into it by
// flush, in the order of the keys and each key once, however many of its events there were: a rebuild would write most pages
// many times otherwise.
type fold struct {
	tx     *bbolt.Tx
	tables map[string]*table
	size   int    // bytes that are kept beside the tree, about
	at     uint64 // of the last event taken in
	digest string // that event's; "" = none was taken in
}

// table is a bucket and what was changed in it.
type table struct {
	bucket *bbolt.Bucket
	cells  map[string]cell
}

// cell is an entry as it is to be.
type cell struct {
	value []byte
	gone  bool
}

// cellCost is what a cell takes in memory beside its key and its value, in bytes, about.
const cellCost = 100

func newFold(tx *bbolt.Tx) *fold {
	f := &fold{tx: tx, tables: map[string]*table{}, at: checkpoint(tx)}
	for _, name := range buckets() {
		t := &table{bucket: tx.Bucket([]byte(name)), cells: map[string]cell{}}
		if strings.HasSuffix(name, "_by_creation") {
			t.bucket.FillPercent = 0.9 // only ever appended to, but for revived customers
		}
		f.tables[name] = t
	}
	return f
}

// get is an entry's value as it is after all that was taken in; nil if there is none. It is valid until the transaction ends.
func (f *fold) get(bucket string, key []byte) []byte {
	t := f.tables[bucket]
	if c, ok := t.cells[string(key)]; ok {
		return c.value
	}
	return t.bucket.Get(key)
}

func (f *fold) put(bucket string, key, value []byte) {
	if value == nil {
		value = []byte{}
	}
	f.tables[bucket].cells[string(key)] = cell{value: value}
	f.size += len(key) + len(value) + cellCost
}

func (f *fold) remove(bucket string, key []byte) {
	f.tables[bucket].cells[string(key)] = cell{gone: true}
	f.size += len(key) + cellCost
}

// take folds events in. Events before the checkpoint were read again, by a consumer that was made anew, and change nothing.
func (f *fold) take(entries []eventlog.Entry) error {
	for _, e := range entries {
		if e.Sequence <= f.at {
			continue
		}
		if e.Sequence != f.at+1 {
			return &eventlog.GapError{Want: f.at + 1, Got: e.Sequence}
		}
		if plant.Bug == 5 && f.at > 0 && e.Sequence == entries[0].Sequence {
			f.at, f.digest = e.Sequence, e.Event.Digest()
			continue
		}
		if err := f.apply(e); err != nil {
			return err
		}
		f.at, f.digest = e.Sequence, e.Event.Digest()
	}
	return nil
}

// apply folds one event into every view that it concerns. It depends on nothing but the event and the views.
func (f *fold) apply(e eventlog.Entry) error {
	applyHistory(f, e)
	switch e.Event.Entity() {
	case events.EntityCustomer:
		return applyCustomer(f, e)
	case events.EntityProviderAccount:
		return applyProviderAccount(f, e)
	case events.EntityCheckout:
		return applyCheckout(f, e)
	case events.EntitySetup:
		return applySetup(f, e)
	case events.EntityPaymentMethod:
		return applyPaymentMethod(f, e)
	case events.EntityCharge:
		return applyCharge(f, e)
	case events.EntityCommand: // history only
		if e.Event.EntityVersion != 1 {
			return &VersionError{Sequence: e.Sequence, EntityID: e.Event.Subject, Want: 1, Got: e.Event.EntityVersion}
		}
		return nil
	}
	return fmt.Errorf("event at sequence %d: %w: %q", e.Sequence, events.ErrUnknownType, e.Event.Type)
}

// flush puts what was changed into the tree, and moves the sums and the checkpoint.
func (f *fold) flush() error {
	if f.digest == "" {
		return nil // nothing new
	}
	sums, err := readSums(f.tx)
	if err != nil {
		return err
	}
	for i, name := range buckets() {
		if err := f.tables[name].flush(&sums[i]); err != nil {
			return err
		}
	}
	crashpoint.Hit("projector.tx_open")
	meta := f.tx.Bucket([]byte(bucketMeta))
	if err := errors.Join(
		meta.Put([]byte(keyCheckpoint), sequenceKey(f.at)), meta.Put([]byte(keyDigest), []byte(f.digest)),
		meta.Put([]byte(keySums), encodeSums(sums)),
	); err != nil {
		return err
	}
	return sealMeta(f.tx)
}

func (t *table) flush(sum *sum) error {
	for _, key := range slices.Sorted(maps.Keys(t.cells)) {
		c, k := t.cells[key], []byte(key)
		if old := t.bucket.Get(k); old != nil {
			sum.take(k, old)
		}
		if c.gone {
			if err := t.bucket.Delete(k); err != nil {
				return err
			}
			continue
		}
		sum.add(k, c.value)
		if err := t.bucket.Put(k, c.value); err != nil {
			return err
		}
	}
	return nil
}

// sum tells a bucket's entries: how many there are, and the sum of their checksums. bbolt has no checksums, so this is what
// shows that an entry rotted, or that a page that leads to entries did: then some are missing, or there twice.
type sum struct{ entries, checks uint64 }

func (s *sum) add(key, value []byte) {
	s.entries++
	s.checks += entryCheck(key, value)
}

func (s *sum) take(key, value []byte) {
	s.entries--
	s.checks -= entryCheck(key, value)
}

// entryCheck begins with the key's length: a byte that moves from the key to the value shows.
func entryCheck(key, value []byte) uint64 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return uint64(crc32.Update(crc32.Update(uint32(len(key)), table, key), table, value)) //nolint:gosec // G115: keys are short
}

func encodeSums(sums []sum) []byte {
	b := make([]byte, 0, 16*len(sums))
	for _, s := range sums {
		b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, s.entries), s.checks)
	}
	return b
}

// readSums reads the sums of all buckets, in their order.
func readSums(tx *bbolt.Tx) ([]sum, error) {
	b := tx.Bucket([]byte(bucketMeta)).Get([]byte(keySums))
	if len(b) != 16*len(buckets()) {
		return nil, fmt.Errorf("%w: the sums are not there", errDamaged)
	}
	sums := make([]sum, len(buckets()))
	for i := range sums {
		sums[i] = sum{entries: binary.BigEndian.Uint64(b[16*i:]), checks: binary.BigEndian.Uint64(b[16*i+8:])}
	}
	return sums, nil
}

// sealMeta puts the meta bucket's checksum into it, after whatever was changed in it.
func sealMeta(tx *bbolt.Tx) error {
	meta := tx.Bucket([]byte(bucketMeta))
	return meta.Put([]byte(keySeal), metaCheck(meta))
}

func metaCheck(meta *bbolt.Bucket) []byte {
	var s sum
	c := meta.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if string(k) != keySeal {
			s.add(k, v)
		}
	}
	return encodeSums([]sum{s})
}

// checkMeta tells whether the meta bucket is as it was sealed.
func checkMeta(tx *bbolt.Tx) error {
	meta := tx.Bucket([]byte(bucketMeta))
	if string(meta.Get([]byte(keySeal))) != string(metaCheck(meta)) {
		return fmt.Errorf("%w: the checksum of what the file is made from is wrong", errDamaged)
	}
	return nil
}
