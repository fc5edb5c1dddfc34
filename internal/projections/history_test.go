package projections

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// script makes histories through the real decisions, without a LOG.
type script struct {
	tb      testing.TB
	now     time.Time
	entries []eventlog.Entry
	last    map[string]*events.Event
	ids     map[events.Entity][]string
}

func newScript(tb testing.TB) *script {
	tb.Helper()
	return &script{
		tb: tb, now: time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC),
		last: map[string]*events.Event{}, ids: map[events.Entity][]string{},
	}
}

func (s *script) cause(customerID string) events.Cause {
	s.now = s.now.Add(time.Second)
	c := events.Cause{Now: s.now, Source: "/paykit/test"}
	if customerID != "" {
		c.Customer = s.last[customerID].Data.Customer.Ref()
	}
	return c
}

// store appends what was decided, as the LOG would.
func (s *script) store(ev *events.Event, err error) {
	s.tb.Helper()
	if err != nil {
		s.tb.Fatalf("decide: %v", err)
	}
	if ev == nil {
		return
	}
	raw, err := ev.Encode()
	if err != nil {
		s.tb.Fatalf("encode: %v", err)
	}
	decoded, err := events.Decode(raw)
	if err != nil {
		s.tb.Fatalf("decode: %v", err)
	}
	if s.last[ev.Subject] == nil {
		s.ids[ev.Entity()] = append(s.ids[ev.Entity()], ev.Subject)
	}
	s.last[ev.Subject] = decoded
	s.entries = append(s.entries, eventlog.Entry{Event: decoded, Sequence: uint64(len(s.entries)) + 1, Raw: raw})
}

// any picks one of an entity's ids.
func (s *script) any(r *rand.Rand, entity events.Entity) string {
	if list := s.ids[entity]; len(list) > 0 {
		return list[r.IntN(len(list))]
	}
	return ""
}

// step lets something happen to somebody.
func (s *script) step(r *rand.Rand) {
	s.tb.Helper()
	customer := s.any(r, events.EntityCustomer)
	if customer == "" || r.IntN(6) == 0 {
		ref := fmt.Sprintf("user_%d", r.IntN(30))
		id := events.CustomerID(ref)
		s.store(events.DecideCustomer(s.last[id], events.SyncCustomer{
			ReferenceID: ref, Revision: r.Uint64N(99) + 1, Changed: []string{"email"},
		}, s.cause("")))
		return
	}
	method := s.any(r, events.EntityPaymentMethod)
	charge := s.any(r, events.EntityCharge)
	switch r.IntN(10) {
	case 0:
		s.store(events.DecideCustomer(s.last[customer], events.DeleteCustomer{}, s.cause("")))
	case 1:
		id := events.ProviderAccountID(customer, "stripe")
		var in events.ProviderAccountInput = events.LinkAccount{
			ProviderID: "stripe", ProviderCustomerID: fmt.Sprintf("cus_%d", len(s.entries)),
		}
		if last := s.last[id]; last != nil && r.IntN(2) == 0 {
			in = events.UnlinkAccount{ProviderCustomerID: last.Data.ProviderAccount.ProviderCustomerID}
		}
		s.store(events.DecideProviderAccount(s.last[id], in, s.cause(customer)))
	case 2, 3:
		s.attach(customer, fmt.Sprintf("pm_%d", len(s.entries)))
	case 4:
		if method != "" {
			s.method(method, []events.PaymentMethodInput{
				events.DetachMethod{}, events.MethodGone{}, events.DefaultSet{RequestedAt: s.now},
			}[r.IntN(3)])
		}
	case 5:
		s.checkout(customer, fmt.Sprintf("checkout %d", r.IntN(40)))
	case 6:
		id := events.SetupID(fmt.Sprintf("setup %d", r.IntN(40)))
		s.store(events.DecideSetup(s.last[id], events.CreateSetup{ID: id, ProviderID: "stripe"}, s.cause(customer)))
	case 7, 8:
		s.charge(customer, fmt.Sprintf("charge %d", len(s.entries)), "")
	case 9:
		if charge != "" {
			s.pay(charge, []events.PaymentStatus{
				events.PaymentProcessing, events.PaymentSucceeded, events.PaymentCanceled,
			}[r.IntN(3)])
		}
	}
}

func (s *script) attach(customer, providerMethodID string) {
	s.tb.Helper()
	id := events.PaymentMethodID("stripe", providerMethodID)
	s.store(events.DecidePaymentMethod(s.last[id], events.MethodObserved{ProviderID: "stripe", Method: events.Method{
		ID: providerMethodID, Attached: true, Type: "card", Brand: "visa", Last4: "4242", ExpiryMonth: 12, ExpiryYear: 2030,
	}}, s.cause(customer)))
}

func (s *script) method(id string, in events.PaymentMethodInput) {
	s.tb.Helper()
	s.store(events.DecidePaymentMethod(s.last[id], in, s.cause(s.last[id].CustomerID())))
}

func (s *script) checkout(customer, key string) string {
	s.tb.Helper()
	id := events.CheckoutID(key)
	s.store(events.DecideCheckout(s.last[id], events.CreateCheckout{
		ID: id, ProviderID: "stripe", Amount: 4900, Currency: "usd", Description: "Pro", SuccessURL: "https://app.example/ok",
	}, s.cause(customer)))
	return id
}

func (s *script) charge(customer, key, methodID string) string {
	s.tb.Helper()
	id := events.ChargeID(key)
	s.store(events.DecideCharge(s.last[id], events.CreateCharge{
		ID: id, ProviderID: "stripe", PaymentMethodID: methodID, Amount: 4900, Currency: "usd", Description: "Pro",
	}, s.cause(customer)))
	return id
}

func (s *script) pay(id string, status events.PaymentStatus) {
	s.tb.Helper()
	last := s.last[id]
	s.store(events.DecideCharge(last, events.PaymentObserved{ID: id, ProviderID: "stripe", Payment: events.Payment{
		ID: "pi_" + id, ChargeID: "ch_" + id, Status: status, Amount: 4900, Currency: "usd",
	}}, s.cause(last.CustomerID())))
}

// randomHistory is the same history for the same seed.
func randomHistory(tb testing.TB, seed uint64, steps int) []eventlog.Entry {
	tb.Helper()
	s := newScript(tb)
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // G404: a test's script, repeatable on purpose
	for range steps {
		s.step(r)
	}
	return s.entries
}

// wantViews folds events the plain way: the last snapshot per entity.
func wantViews(entries []eventlog.Entry) map[events.Entity]map[string]string {
	want := map[events.Entity]map[string]string{}
	for _, e := range entries {
		if want[e.Event.Entity()] == nil {
			want[e.Event.Entity()] = map[string]string{}
		}
		snapshot, _ := json.Marshal(e.Event.Snapshot()) //nolint:errchkjson // the test compares what comes out
		want[e.Event.Entity()][e.Event.Subject] = string(snapshot)
	}
	return want
}

// splits cuts entries into batches at the places that cuts name.
func splits(entries []eventlog.Entry, cuts []byte) [][]eventlog.Entry {
	var places []int
	for i, c := range cuts {
		places = append(places, (int(c)+256*i)%(len(entries)+1))
	}
	slices.Sort(places)
	var batches [][]eventlog.Entry
	from := 0
	for _, to := range append(places, len(entries)) {
		if to > from {
			batches = append(batches, entries[from:to])
			from = to
		}
	}
	return batches
}
