package projections

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"

	"go.etcd.io/bbolt"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// row is what a view keeps of an entity: its last snapshot, as the event carries it and ready to be sent, and where it
// stands in the LOG.
type row struct {
	sequence uint64 // of the entity's last event
	first    uint64 // of the entity's first event: the place in lists, which never changes
	version  uint32 // the last event's entityversion
	state    byte   // the view's own: a charge's status, to find rows without reading their JSON
	snapshot json.RawMessage
}

// header is the length of what stands before the snapshot: checksum (4), sequence (8), first (8), version (4), state (1).
const header = 4 + 8 + 8 + 4 + 1

// checksum covers the key too, so that a row under another's key shows.
func checksum(key, rest []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Update(0, table, key), table, rest)
}

func (r row) encode(key []byte) []byte {
	b := make([]byte, header, header+len(r.snapshot))
	binary.BigEndian.PutUint64(b[4:], r.sequence)
	binary.BigEndian.PutUint64(b[12:], r.first)
	binary.BigEndian.PutUint32(b[20:], r.version)
	b[24] = r.state
	b = append(b, r.snapshot...)
	binary.BigEndian.PutUint32(b, checksum(key, b[4:]))
	return b
}

// decodeRow reads a row. Its snapshot is part of b.
func decodeRow(key, b []byte) (row, error) {
	if len(b) <= header || binary.BigEndian.Uint32(b) != checksum(key, b[4:]) {
		return row{}, fmt.Errorf("%w: the checksum of row %q is wrong", errDamaged, key)
	}
	return row{
		sequence: binary.BigEndian.Uint64(b[4:]),
		first:    binary.BigEndian.Uint64(b[12:]),
		version:  binary.BigEndian.Uint32(b[20:]),
		state:    b[24],
		snapshot: b[header:],
	}, nil
}

// readRow finds a row; ok is false if there is none.
func readRow(b *bbolt.Bucket, key []byte) (r row, ok bool, err error) {
	v := b.Get(key)
	if v == nil {
		return row{}, false, nil
	}
	r, err = decodeRow(key, v)
	return r, err == nil, err
}

// readIndexed reads the row that an index names.
func readIndexed(b *bbolt.Bucket, key []byte) (row, error) {
	r, ok, err := readRow(b, key)
	if err == nil && !ok {
		err = fmt.Errorf("%w: row %q is in an index only", errDamaged, key)
	}
	return r, err
}

// VersionError stops the projector: an entity's events must count 1, 2, 3 … without gaps.
type VersionError struct {
	Sequence  uint64
	EntityID  string
	Want, Got int
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("event at sequence %d: entity %s has version %d where %d must follow", e.Sequence, e.EntityID, e.Got, e.Want)
}

// putRow replaces an entity's row by the snapshot of its next event. before is the row that stood there, new is true
// if there was none.
func putRow(f *fold, bucket string, key []byte, e eventlog.Entry, state byte) (after, before row, err error) {
	known := false
	if b := f.get(bucket, key); b != nil {
		if before, err = decodeRow(key, b); err != nil {
			return row{}, row{}, err
		}
		known = true
	}
	if want := int(before.version) + 1; e.Event.EntityVersion != want {
		return row{}, row{}, &VersionError{Sequence: e.Sequence, EntityID: e.Event.Subject, Want: want, Got: e.Event.EntityVersion}
	}
	after = row{sequence: e.Sequence, first: before.first, version: before.version + 1, state: state}
	if !known {
		after.first = e.Sequence
	}
	if after.snapshot, err = snapshotOf(e); err != nil {
		return row{}, row{}, err
	}
	f.put(bucket, key, after.encode(key))
	return after, before, nil
}

// snapshotOf is an event's snapshot in the current shape. It is not encoded anew, so fields that only a newer program knows
// stay, and views made by an older and by a newer program are the same.
func snapshotOf(e eventlog.Entry) (json.RawMessage, error) {
	snapshot := e.Event.RawSnapshot()
	if len(snapshot) < 2 || snapshot[0] != '{' {
		return nil, fmt.Errorf("event at sequence %d: %w: no snapshot", e.Sequence, events.ErrMalformed)
	}
	return snapshot, nil
}

// indexKey is a prefix and a sequence, so that the entries under a prefix stand in the order of their sequences.
func indexKey(prefix string, sequence uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte(prefix), sequence)
}

// owner is the prefix of a customer's entries.
func owner(customerID string) string {
	if customerID == "" {
		return events.None
	}
	return customerID
}

// newest walks an index's entries under a prefix backwards, from the one before the sequence "before" (0 = from the
// end).
func newest(b *bbolt.Bucket, prefix string, before uint64) iter.Seq2[uint64, []byte] {
	return func(yield func(uint64, []byte) bool) {
		c := b.Cursor()
		if before == 0 {
			before = ^uint64(0)
		}
		// Seek finds the first key not before the wanted one; behind the bucket's end it finds none.
		var k, v []byte
		if at, _ := c.Seek(indexKey(prefix, before)); at == nil {
			k, v = c.Last()
		} else {
			k, v = c.Prev()
		}
		for ; isUnder(k, prefix); k, v = c.Prev() {
			if !yield(sequenceOf(k[len(prefix):]), v) {
				return
			}
		}
	}
}

// oldest walks an index's entries under a prefix forwards, from the one after a sequence.
func oldest(b *bbolt.Bucket, prefix string, after uint64) iter.Seq2[uint64, []byte] {
	return func(yield func(uint64, []byte) bool) {
		c := b.Cursor()
		for k, v := c.Seek(indexKey(prefix, after+1)); isUnder(k, prefix); k, v = c.Next() {
			if !yield(sequenceOf(k[len(prefix):]), v) {
				return
			}
		}
	}
}

// isUnder tells whether k is prefix and a sequence.
func isUnder(k []byte, prefix string) bool {
	return len(k) == len(prefix)+8 && string(k[:len(prefix)]) == prefix
}

// errNoRow is a query's "there is none".
var errNoRow = errors.New("no such row")
