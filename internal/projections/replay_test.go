package projections

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

func openTestStore(tb testing.TB, path string) *store {
	tb.Helper()
	s, err := openStore(path, storeOptions{noSync: true, walk: walkAlways})
	if err != nil {
		tb.Fatalf("open: %v", err)
	}
	return s
}

func closeStore(tb testing.TB, s *store) {
	tb.Helper()
	if err := s.close(); err != nil {
		tb.Fatalf("close: %v", err)
	}
}

func applyAll(s *store, entries []eventlog.Entry) error {
	return s.apply(entries)
}

func testDigest(tb testing.TB, s *store) Result {
	tb.Helper()
	r, err := s.digest(tb.Context())
	if err != nil {
		tb.Fatalf("digest: %v", err)
	}
	return r
}

// FuzzReplay: any history, split anywhere by restarts, with events read again after each, gives the same views.
func FuzzReplay(f *testing.F) {
	f.Add(uint64(1), []byte{}, uint8(0))
	f.Add(uint64(2), []byte{10, 20, 30}, uint8(7))
	f.Add(uint64(3), []byte{1, 1, 1, 200, 255}, uint8(255))
	f.Fuzz(func(t *testing.T, seed uint64, cuts []byte, again uint8) {
		entries := randomHistory(t, seed, 150)
		if len(cuts) > 20 {
			cuts = cuts[:20]
		}
		whole := openTestStore(t, filepath.Join(t.TempDir(), FileName))
		defer closeStore(t, whole)
		if err := applyAll(whole, entries); err != nil {
			t.Fatalf("apply all at once: %v", err)
		}
		want := testDigest(t, whole)
		if want.Sequence != uint64(len(entries)) {
			t.Fatalf("checkpoint %d after %d events", want.Sequence, len(entries))
		}

		path := filepath.Join(t.TempDir(), FileName)
		for _, batch := range splits(entries, cuts) {
			first := max(int(batch[0].Sequence)-1-int(again), 0) //nolint:gosec // G115: small
			last := int(batch[len(batch)-1].Sequence)            //nolint:gosec // G115: small
			s := openTestStore(t, path)
			if err := applyAll(s, entries[first:last]); err != nil {
				t.Fatalf("apply %d to %d: %v", first, last, err)
			}
			closeStore(t, s)
		}
		split := openTestStore(t, path)
		defer closeStore(t, split)
		got := testDigest(t, split)
		if got.Digest != want.Digest || got.Sequence != want.Sequence {
			t.Errorf("split by restarts: %+v, all at once: %+v", got, want)
		}
	})
}

// TestRowsAreTheLastSnapshots compares every row with a plain fold over the events.
func TestRowsAreTheLastSnapshots(t *testing.T) {
	t.Parallel()
	entries := randomHistory(t, 4, 2000)
	s := openTestStore(t, filepath.Join(t.TempDir(), FileName))
	defer closeStore(t, s)
	if err := applyAll(s, entries); err != nil {
		t.Fatal(err)
	}
	views := map[events.Entity]string{
		events.EntityCustomer: bucketCustomers, events.EntityCheckout: bucketCheckouts, events.EntitySetup: bucketSetups,
		events.EntityPaymentMethod: bucketPaymentMethods, events.EntityCharge: bucketCharges,
		events.EntityProviderAccount: bucketProviderAccounts,
	}
	want := wantViews(entries)
	rows := testDigest(t, s).Rows
	for entity, bucket := range views {
		if len(want[entity]) < 5 {
			t.Errorf("the history has only %d of %s: it proves nothing", len(want[entity]), entity)
		}
		if rows[viewName(bucket)] != uint64(len(want[entity])) {
			t.Errorf("%s: %d rows, %d entities", bucket, rows[viewName(bucket)], len(want[entity]))
		}
		err := s.view(func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte(bucket)).ForEach(func(k, v []byte) error {
				id := string(k)
				if entity == events.EntityProviderAccount {
					id = id[len(id)-len("pa_")-26:]
				}
				r, err := decodeRow(k, v)
				if got := string(r.snapshot); got != want[entity][id] {
					t.Errorf("%s:\n got %s\nwant %s", id, got, want[entity][id])
				}
				return err
			})
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// TestIndexesNameWhatThereIs: no entry is left behind when a row moves on.
func TestIndexesNameWhatThereIs(t *testing.T) {
	t.Parallel()
	entries := randomHistory(t, 8, 2000)
	s := openTestStore(t, filepath.Join(t.TempDir(), FileName))
	defer closeStore(t, s)
	if err := applyAll(s, entries); err != nil {
		t.Fatal(err)
	}
	last := map[string]*events.Event{}
	for _, e := range entries {
		last[e.Event.Subject] = e.Event
	}
	want := map[string]int{bucketEventsByEntity: len(entries), bucketEventsByCustomer: len(entries)}
	for _, e := range last {
		switch {
		case e.Entity() == events.EntityCustomer && !e.Data.Customer.Deleted():
			want[bucketCustomersByCreation]++
		case e.Entity() == events.EntityPaymentMethod && e.Data.PaymentMethod.Live():
			want[bucketPaymentMethodsByCustomer]++
		case e.Entity() == events.EntityCharge:
			want[bucketChargesByCreation]++
			want[bucketChargesByCustomer]++
			want[bucketChargesByStatus]++
		}
	}
	err := s.view(func(tx *bbolt.Tx) error {
		for bucket, n := range want {
			if got := tx.Bucket([]byte(bucket)).Inspect().KeyN; got != n {
				t.Errorf("%s has %d entries, want %d", bucket, got, n)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestProjectorNeverSkips: what must not be skipped changes nothing, and says what and where it is.
func TestProjectorNeverSkips(t *testing.T) { //nolint:tparallel // its rows share one server, one after the other
	t.Parallel()
	history := randomHistory(t, 5, 60)
	changed := func(i int, change func(*events.Event)) []eventlog.Entry {
		list := slices.Clone(history)
		e := *list[i].Event
		change(&e)
		list[i].Event = &e
		return list
	}
	repeated := slices.IndexFunc(history, func(e eventlog.Entry) bool { return e.Event.EntityVersion > 1 })
	tests := map[string]struct {
		entries []eventlog.Entry
		check   func(error) bool
	}{
		"a missing sequence": {
			entries: append(slices.Clone(history[:20]), history[21:]...),
			check: func(err error) bool {
				gap, ok := errors.AsType[*eventlog.GapError](err)
				return ok && gap.Want == 21 && gap.Got == 22
			},
		},
		"a missing beginning": {
			entries: history[1:],
			check: func(err error) bool {
				gap, ok := errors.AsType[*eventlog.GapError](err)
				return ok && gap.Want == 1 && gap.Got == 2
			},
		},
		"a version left out": {
			entries: changed(repeated, func(e *events.Event) { e.EntityVersion++ }),
			check: func(err error) bool {
				v, ok := errors.AsType[*VersionError](err)
				return ok && v.Sequence == uint64(repeated)+1 && v.Got == v.Want+1 && v.EntityID == history[repeated].Event.Subject //nolint:gosec // G115: small
			},
		},
		"a version twice": {
			entries: changed(repeated, func(e *events.Event) { e.EntityVersion-- }),
			check: func(err error) bool {
				v, ok := errors.AsType[*VersionError](err)
				return ok && v.Got == v.Want-1
			},
		},
		"an entity that nobody knows": {
			entries: changed(10, func(e *events.Event) { e.Type = "gadget.made" }),
			check:   func(err error) bool { return errors.Is(err, events.ErrUnknownType) },
		},
		"a command's second event": {
			entries: changed(10, func(e *events.Event) { e.Type, e.EntityVersion = events.CommandRejected, 2 }),
			check: func(err error) bool {
				_, ok := errors.AsType[*VersionError](err)
				return ok
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := openTestStore(t, filepath.Join(t.TempDir(), FileName))
			defer closeStore(t, s)
			before := testDigest(t, s)
			err := applyAll(s, tt.entries)
			if !tt.check(err) {
				t.Errorf("error %v", err)
			}
			if after := testDigest(t, s); after.Digest != before.Digest || after.Sequence != 0 {
				t.Errorf("the refused batch left %+v", after)
			}
		})
	}
}
