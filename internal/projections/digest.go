package projections

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"go.etcd.io/bbolt"
)

// Result names a state of the views: "sha256:…" over every bucket's name, keys and values in order, the sequence that
// they are at, and how many rows each view has. The views are a function of the LOG, so two results at one sequence
// have one digest, however the views came about.
type Result struct {
	Digest   string            `json:"digest"`
	Sequence uint64            `json:"sequence"`
	Rows     map[string]uint64 `json:"rows"`
	Path     string            `json:"-"`                  // of a rebuild: where the new file is
	Handover *Handover         `json:"handover,omitempty"` // of a rebuild: what became of it
}

// viewName is the name under which [Result] counts a bucket's rows; "" for an index.
func viewName(bucket string) string {
	switch bucket {
	case bucketCustomers:
		return "customers"
	case bucketProviderAccounts:
		return "providerAccounts"
	case bucketCheckouts:
		return "checkouts"
	case bucketSetups:
		return "setups"
	case bucketPaymentMethods:
		return "paymentMethods"
	case bucketCharges:
		return "charges"
	}
	return ""
}

// digest walks all views in one read transaction and checks each row's checksum and each bucket's sum on the way. Now and then it asks goOn
// whether to go on; its error ends the walk.
func digest(tx *bbolt.Tx, goOn func() error) (Result, error) {
	all := sha256.New()
	r := Result{Sequence: checkpoint(tx), Rows: map[string]uint64{}}
	sums, err := readSums(tx)
	if err != nil {
		return Result{}, err
	}
	for i, name := range buckets() {
		// A hash of hashes: where one bucket ends and the next begins can't be moved.
		hash, seen, err := digestBucket(tx.Bucket([]byte(name)), viewName(name) != "", sums[i].entries, goOn)
		if err != nil {
			return Result{}, err
		}
		if seen != sums[i] {
			return Result{}, fmt.Errorf("%w: %s has %d entries with another sum than the %d that it should have", errDamaged, name, seen.entries, sums[i].entries)
		}
		all.Write(hash)
		if view := viewName(name); view != "" {
			r.Rows[view] = seen.entries
		}
	}
	r.Digest = "sha256:" + hex.EncodeToString(all.Sum(nil))
	return r, nil
}

func digestBucket(b *bbolt.Bucket, rows bool, most uint64, goOn func() error) (hash []byte, seen sum, err error) {
	h := sha256.New()
	frame := func(b []byte) { // with its length before it: "ab","c" is not "a","bc"
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(b)))
		h.Write(size[:])
		h.Write(b)
	}
	err = b.ForEach(func(k, v []byte) error {
		frame(k)
		frame(v)
		if seen.add(k, v); seen.entries > most {
			return fmt.Errorf("%w: more entries than there should be", errDamaged) // or a damaged page leads in a circle
		}
		if seen.entries%4096 == 0 {
			if err := goOn(); err != nil {
				return err
			}
		}
		if !rows {
			return nil
		}
		_, err := decodeRow(k, v)
		return err
	})
	return h.Sum(nil), seen, err
}
