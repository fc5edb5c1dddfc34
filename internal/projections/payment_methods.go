package projections

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

const (
	bucketPaymentMethods           = "payment_methods"             // method id → row
	bucketPaymentMethodsByCustomer = "payment_methods_by_customer" // customer id + first sequence → methodRef; live ones
)

// usualMethods is how many methods most customers have at most.
const usualMethods = 4

// methodRef is what a list must know of a live method before it reads any row. Listing a customer's methods is the
// query of every checkout page, so it reads no JSON. Of one that was read id and providerID belong to the transaction.
type methodRef struct {
	first      uint64
	defaultAt  uint64 // milliseconds; 0 = never
	id         []byte
	providerID []byte
}

func (m methodRef) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, m.defaultAt)
	b = append(b, byte(len(m.id))) //nolint:gosec // G115: an id is 31 bytes long
	b = append(b, m.id...)
	return append(b, m.providerID...)
}

func decodeMethodRef(first uint64, b []byte) (methodRef, error) {
	if len(b) < 9 || len(b) < 9+int(b[8]) {
		return methodRef{}, fmt.Errorf("%w: the methods' index at %d", errDamaged, first)
	}
	end := 9 + int(b[8])
	return methodRef{
		first: first, defaultAt: binary.BigEndian.Uint64(b), id: b[9:end], providerID: b[end:],
	}, nil
}

func applyPaymentMethod(f *fold, e eventlog.Entry) error {
	after, _, err := putRow(f, bucketPaymentMethods, []byte(e.Event.Subject), e, 0)
	if err != nil {
		return err
	}
	m := e.Event.Data.PaymentMethod
	key := indexKey(owner(e.Event.CustomerID()), after.first)
	if !m.Live() {
		f.remove(bucketPaymentMethodsByCustomer, key)
		return nil
	}
	ref := methodRef{id: []byte(e.Event.Subject), providerID: []byte(m.ProviderID), defaultAt: millis(m.DefaultAt)}
	f.put(bucketPaymentMethodsByCustomer, key, ref.encode())
	return nil
}

// millis is t in whole milliseconds since 1970, 0 for none.
func millis(t *time.Time) uint64 {
	if t == nil || t.UnixMilli() < 0 {
		return 0
	}
	return uint64(t.UnixMilli())
}

// paymentMethodGet answers payment_method.get {paymentMethodId}, detached ones too.
func (q *queries) paymentMethodGet(_ context.Context, b query) (answer, error) {
	return q.snapshot(b, bucketPaymentMethods, "paymentMethodId",
		events.Error{Code: events.CodePaymentMethodNotFound, Message: "there is no such payment method"})
}

// paymentMethodList answers payment_method.list {providerId?, customerId}: the live methods, the default first, then
// the newest. A page's cursor names the default that the first page began with, so that a walk shows each method once
// even if the default moves meanwhile.
func (q *queries) paymentMethodList(_ context.Context, b query) (answer, error) {
	customerID, err := b.required("customerId")
	if err != nil {
		return answer{}, err
	}
	providerID, err := b.text("providerId")
	if err != nil {
		return answer{}, err
	}
	pg, err := q.newPage(b, "ml")
	if err != nil {
		return answer{}, err
	}
	at, err := b.cursor("ml", 2)
	if err != nil {
		return answer{}, err
	}
	err = q.store.view(func(tx *bbolt.Tx) error {
		refs, current, err := liveMethods(tx, customerID, providerID)
		if err != nil {
			return err
		}
		if len(refs) == 0 {
			return requireCustomer(tx, customerID)
		}
		shown, before := current, uint64(0)
		if at != nil {
			shown, before = at[0], at[1]
		}
		pg.prefix = []uint64{shown}
		rows := tx.Bucket([]byte(bucketPaymentMethods))
		if at == nil {
			if err := addMethod(pg, rows, refs, func(m methodRef) bool { return m.first == shown }, current); err != nil {
				return err
			}
			pg.last = 0 // the rest begins with the newest, wherever the default stands
		}
		return addMethod(pg, rows, refs, func(m methodRef) bool {
			return m.first != shown && (before == 0 || m.first < before)
		}, current)
	})
	if err != nil {
		return answer{}, err
	}
	return pg.answer(), nil
}

// liveMethods lists a customer's methods, the newest first, and tells which of them is the default: the one with the
// newest defaultAt, of two the newer.
func liveMethods(tx *bbolt.Tx, customerID, providerID string) (refs []methodRef, current uint64, err error) {
	refs = make([]methodRef, 0, usualMethods)
	var newestDefault uint64
	for first, v := range newest(tx.Bucket([]byte(bucketPaymentMethodsByCustomer)), customerID, 0) {
		m, err := decodeMethodRef(first, v)
		if err != nil {
			return nil, 0, err
		}
		if providerID != "" && string(m.providerID) != providerID {
			continue
		}
		refs = append(refs, m)
		if m.defaultAt > newestDefault {
			newestDefault, current = m.defaultAt, m.first
		}
	}
	return refs, current, nil
}

// addMethod adds the wanted methods to the page, with isDefault put in before the snapshot's closing brace.
func addMethod(pg *page, rows *bbolt.Bucket, refs []methodRef, want func(methodRef) bool, current uint64) error {
	for _, m := range refs {
		if !want(m) {
			continue
		}
		r, err := readIndexed(rows, m.id)
		if err != nil {
			return err
		}
		flag := `,"isDefault":false}`
		if m.first == current {
			flag = `,"isDefault":true}`
		}
		if !pg.add(m.first, r.snapshot[:len(r.snapshot)-1], flag) {
			return nil
		}
	}
	return nil
}
