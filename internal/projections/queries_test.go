package projections

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

func TestCustomerQueries(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	l, nc := newLive(t, log), log.Conn()
	ada, created := l.sync("ada", "ada@example.com")
	bob, _ := l.sync("bob", "bob@example.com")
	l.account(ada, events.LinkAccount{ProviderID: "stripe", ProviderCustomerID: "cus_1"})
	startProjector(t, log, t.TempDir())

	want := fmt.Sprintf(`{"id":%q,"referenceId":"ada","email":"ada@example.com","name":"ada","metadata":{"plan":"ada"},`+
		`"providerAccounts":[{"id":%q,"providerId":"stripe","providerCustomerId":"cus_1"}],`+
		`"createdAt":"2026-11-22T06:00:01Z","updatedAt":"2026-11-22T06:00:01Z","deletedAt":null}`,
		ada, events.ProviderAccountID(ada, "stripe"))
	for _, body := range []fields{{"customerId": ada}, {"referenceId": "ada"}, {"referenceId": "ada", "customerId": nil}} {
		got := ask(t, nc, "customer.get", body, 0)
		if string(got.data) != want || got.sequence != created {
			t.Errorf("customer.get %v at %d\n got %s\nwant %s at %d", body, got.sequence, got.data, want, created)
		}
	}
	if got := walk(t, nc, "customer.list", fields{}, 0, nil); len(got) != 2 || got[0]["id"] != bob || got[1]["email"] != "ada@example.com" {
		t.Errorf("customer.list %v, want bob and ada", got)
	}

	// A revision that no event announced yet is not shown; one that was announced is.
	other := "new@example.com"
	revision, err := log.Profile(t.Context(), bob)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := log.PutProfile(t.Context(), bob, eventlog.Profile{Email: &other}, revision.Sequence); err != nil {
		t.Fatal(err)
	}
	var c events.CustomerResult
	ask(t, nc, "customer.get", fields{"customerId": bob}, 0).into(t, &c)
	if c.Email == nil || *c.Email != "bob@example.com" {
		t.Errorf("email %v before it was announced", c.Email)
	}
	_, announced := l.sync("bob", other)
	c = events.CustomerResult{}
	ask(t, nc, "customer.get", fields{"customerId": bob}, announced).into(t, &c)
	if c.Email == nil || *c.Email != other {
		t.Errorf("email %v after it was announced", c.Email)
	}

	// An unlinked account goes, a deleted customer has no profile and is not listed, a revived one is back in its place.
	l.account(ada, events.UnlinkAccount{ProviderCustomerID: "cus_1"})
	deleted := l.deleteCustomer(ada)
	gone := ask(t, nc, "customer.get", fields{"customerId": ada}, deleted)
	c = events.CustomerResult{}
	gone.into(t, &c)
	if c.DeletedAt == nil || c.Email != nil || c.Name != nil || len(c.Metadata) != 0 || len(c.ProviderAccounts) != 0 {
		t.Errorf("deleted customer %s", gone.data)
	}
	if !strings.Contains(string(gone.data), `"email":null,"name":null,"metadata":{},"providerAccounts":[]`) {
		t.Errorf("a key is missing in %s", gone.data)
	}
	var page list
	ask(t, nc, "customer.list", fields{}, deleted).into(t, &page)
	if page.ids() != bob {
		t.Errorf("customer.list %s after the deletion", page.ids())
	}
	_, revived := l.sync("ada", "again@example.com")
	ask(t, nc, "customer.list", fields{}, revived).into(t, &page)
	if page.ids() != bob+" "+ada {
		t.Errorf("customer.list %s after the revival", page.ids())
	}
}

func TestPaymentMethodQueries(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	l, nc := newLive(t, log), log.Conn()
	ada, _ := l.sync("ada", "ada@example.com")
	bob, _ := l.sync("bob", "bob@example.com")
	one, two, three := l.attach(ada, "stripe", "pm_1"), l.attach(ada, "stripe", "pm_2"), l.attach(ada, "stripe", "pm_3")
	l.attach(bob, "stripe", "pm_bob")
	elsewhere := l.attach(ada, "other", "pm_4")
	startProjector(t, log, t.TempDir())

	check := func(when string, body fields, least uint64, want ...string) {
		t.Helper()
		body["limit"] = 1
		items := walk(t, nc, "payment_method.list", body, least, nil)
		var ids []string
		for i, item := range items {
			ids = append(ids, fmt.Sprint(item["id"]))
			if item["isDefault"] != (i == 0) {
				t.Errorf("%s: item %d of %d has isDefault %v", when, i, len(items), item["isDefault"])
			}
			if item["last4"] != "4242" || item["customerId"] != ada {
				t.Errorf("%s: item %v", when, item)
			}
		}
		if !slices.Equal(ids, want) {
			t.Errorf("%s: %v, want %v", when, ids, want)
		}
	}
	check("attached", fields{"customerId": ada}, 0, elsewhere, three, two, one)
	check("of one provider", fields{"customerId": ada, "providerId": "stripe"}, 0, three, two, one)
	asked := l.now
	at := l.method(ada, one, events.DefaultSet{RequestedAt: asked})
	check("made the default", fields{"customerId": ada, "providerId": "stripe"}, at, one, three, two)
	at = l.method(ada, one, events.DetachMethod{})
	check("to be detached", fields{"customerId": ada, "providerId": "stripe"}, at, one, three, two)
	at = l.method(ada, one, events.MethodGone{})
	check("the default detached", fields{"customerId": ada, "providerId": "stripe"}, at, three, two)
	// Between the times at which two and three were attached.
	at = l.method(ada, two, events.DefaultSet{RequestedAt: asked.Add(-2500 * time.Millisecond)})
	check("an older request carried out late", fields{"customerId": ada, "providerId": "stripe"}, at, three, two)

	got := ask(t, nc, "payment_method.get", fields{"paymentMethodId": one}, at)
	var m events.PaymentMethod
	got.into(t, &m)
	if m.DetachedAt == nil || m.Brand != "visa" || got.sequence >= at {
		t.Errorf("payment_method.get at %d: %s", got.sequence, got.data)
	}
	ask(t, nc, "payment_method.list", fields{"customerId": events.CustomerID("nobody")}, 0).
		wantError(t, events.CodeCustomerNotFound, "customerId")
}

// TestDefaultMovesDuringAWalk: each method is shown once, whatever becomes the default meanwhile.
func TestDefaultMovesDuringAWalk(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	l, nc := newLive(t, log), log.Conn()
	ada, _ := l.sync("ada", "ada@example.com")
	var methods []string
	for i := range 7 {
		methods = append(methods, l.attach(ada, "stripe", fmt.Sprintf("pm_%d", i)))
	}
	l.method(ada, methods[3], events.DefaultSet{RequestedAt: l.now.Add(time.Second)})
	p := startProjector(t, log, t.TempDir())
	n := 0
	items := walk(t, nc, "payment_method.list", fields{"customerId": ada, "limit": 2}, 0, func() {
		n++
		l.attach(ada, "stripe", fmt.Sprintf("late_%d", n))
		waitSequence(t, p, l.method(ada, methods[3-n], events.DefaultSet{RequestedAt: l.now.Add(time.Second)}))
	})
	var ids []string
	for _, item := range items {
		ids = append(ids, fmt.Sprint(item["id"]))
	}
	want := []string{methods[3], methods[6], methods[5], methods[4], methods[2], methods[1], methods[0]}
	if n != 3 || !slices.Equal(ids, want) {
		t.Errorf("walked %v in %d pages, want %v", ids, n+1, want)
	}
}

func TestChargeQueries(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	l, nc := newLive(t, log), log.Conn()
	ada, _ := l.sync("ada", "ada@example.com")
	bob, _ := l.sync("bob", "bob@example.com")
	var paid, open []string
	var last uint64
	for i := range 9 {
		id, _ := l.charge(ada, fmt.Sprintf("ada %d", i))
		if i%3 == 0 {
			last = l.pay(ada, id, events.PaymentSucceeded)
			paid = append(paid, id)
			continue
		}
		open = append(open, id)
	}
	bobs, _ := l.charge(bob, "bob")
	startProjector(t, log, t.TempDir())

	ids := func(body fields) []string {
		t.Helper()
		body["limit"] = 2
		var ids []string
		for _, item := range walk(t, nc, "charge.list", body, last, nil) {
			ids = append(ids, fmt.Sprint(item["id"]))
		}
		slices.Reverse(ids)
		return ids
	}
	if got := ids(fields{}); len(got) != 10 || got[9] != bobs {
		t.Errorf("all charges: %v", got)
	}
	if got := ids(fields{"customerId": bob}); !slices.Equal(got, []string{bobs}) {
		t.Errorf("bob's charges: %v", got)
	}
	if got := ids(fields{"status": "succeeded"}); !slices.Equal(got, paid) {
		t.Errorf("paid: %v, want %v", got, paid)
	}
	if got := ids(fields{"status": "requested"}); !slices.Equal(got, append(slices.Clone(open), bobs)) {
		t.Errorf("requested: %v", got)
	}
	if got := ids(fields{"status": "requested", "customerId": ada}); !slices.Equal(got, open) {
		t.Errorf("ada's requested: %v, want %v", got, open)
	}
	if got := ids(fields{"status": "in_doubt"}); len(got) != 0 {
		t.Errorf("in doubt: %v", got)
	}

	got := ask(t, nc, "charge.get", fields{"chargeId": paid[2]}, last)
	entry, err := log.Load(t.Context(), events.EntityCharge, paid[2])
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(entry.Event.Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	if string(got.data) != string(want) || got.sequence != entry.Sequence {
		t.Errorf("charge.get at %d\n got %s\nwant %s at %d", got.sequence, got.data, want, entry.Sequence)
	}
}

func TestSessionQueries(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	l, nc := newLive(t, log), log.Conn()
	ada, _ := l.sync("ada", "ada@example.com")
	checkout, setup := events.CheckoutID("k"), events.SetupID("k")
	l.update(events.EntityCheckout, checkout, func(last *events.Event) (*events.Event, error) {
		return events.DecideCheckout(last, events.CreateCheckout{
			ID: checkout, ProviderID: "stripe", Amount: 4900, Currency: "usd", Description: "Pro", SuccessURL: "https://app.example/ok",
			CommandDigest: events.Digest(nil),
		}, l.cause(ada, "ada"))
	})
	l.update(events.EntityCheckout, checkout, func(last *events.Event) (*events.Event, error) {
		return events.DecideCheckout(last, events.CheckoutObserved{Session: events.Session{
			ID: "cs_1", Status: events.SessionOpen, URL: "https://pay.example/cs_1",
		}}, l.cause(ada, "ada"))
	})
	last := l.update(events.EntitySetup, setup, func(last *events.Event) (*events.Event, error) {
		return events.DecideSetup(last, events.CreateSetup{ID: setup, ProviderID: "stripe", ReturnURL: "https://app.example", CommandDigest: events.Digest(nil)}, l.cause(ada, "ada"))
	})
	startProjector(t, log, t.TempDir())
	var c events.Checkout
	got := ask(t, nc, "checkout.get", fields{"checkoutId": checkout}, 0)
	got.into(t, &c)
	if c.URL != "https://pay.example/cs_1" || c.Status != events.StateCreated || got.sequence != last.Sequence-1 {
		t.Errorf("checkout.get at %d: %s", got.sequence, got.data)
	}
	var s events.Setup
	got = ask(t, nc, "setup.get", fields{"setupId": setup}, 0)
	got.into(t, &s)
	if s.ReturnURL != "https://app.example" || got.sequence != last.Sequence {
		t.Errorf("setup.get at %d: %s", got.sequence, got.data)
	}
}

func TestEventList(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	l, nc := newLive(t, log), log.Conn()
	ada, _ := l.sync("ada", "ada@example.com")
	l.sync("bob", "bob@example.com")
	charge, _ := l.charge(ada, "k")
	l.pay(ada, charge, events.PaymentProcessing)
	l.attach(ada, "stripe", "pm_1")
	last := l.pay(ada, charge, events.PaymentSucceeded)
	startProjector(t, log, t.TempDir())

	types := func(body fields) string {
		t.Helper()
		body["limit"] = 2
		var types []string
		for _, item := range walk(t, nc, "event.list", body, last, nil) {
			types = append(types, fmt.Sprint(item["type"]))
		}
		return strings.Join(types, " ")
	}
	if got, want := types(fields{"customerId": ada}),
		"customer.created charge.requested charge.processing payment_method.attached charge.succeeded"; got != want {
		t.Errorf("of the customer: %s, want %s", got, want)
	}
	if got, want := types(fields{"entityId": charge}), "charge.requested charge.processing charge.succeeded"; got != want {
		t.Errorf("of the charge: %s, want %s", got, want)
	}
	if got := types(fields{"entityId": charge[:len(charge)-1]}); got != "" {
		t.Errorf("of a part of an id: %s", got)
	}
	var page struct {
		Items []json.RawMessage `json:"items"`
	}
	ask(t, nc, "event.list", fields{"entityId": charge}, 0).into(t, &page)
	entry, err := log.Load(t.Context(), events.EntityCharge, charge)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(page.Items[len(page.Items)-1]); got != string(entry.Raw) {
		t.Errorf("the event is not as it was stored:\n got %s\nwant %s", got, entry.Raw)
	}
}

// TestWalkWhileRowsArrive: a walk shows what was there when it began, each once, newest first.
func TestWalkWhileRowsArrive(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	l, nc := newLive(t, log), log.Conn()
	ada, _ := l.sync("ada", "ada@example.com")
	var want []string
	for i := range 25 {
		l.sync(fmt.Sprintf("user_%d", i), "u@example.com")
		id, _ := l.charge(ada, fmt.Sprintf("charge %d", i))
		want = append(want, id)
	}
	slices.Reverse(want)
	p := startProjector(t, log, t.TempDir())
	n := 0
	arrive := func() {
		n++
		l.sync(fmt.Sprintf("late_%d", n), "late@example.com")
		_, at := l.charge(ada, fmt.Sprintf("late %d", n))
		waitSequence(t, p, at)
	}
	for _, body := range []fields{{"limit": 3}, {"limit": 4, "customerId": ada}, {"limit": 7, "status": "requested"}} {
		var got []string
		for _, item := range walk(t, nc, "charge.list", body, 0, arrive) {
			got = append(got, fmt.Sprint(item["id"]))
		}
		// The charges that came during earlier walks stand before those of the beginning.
		if late := len(got) - len(want); late < 0 || !slices.Equal(got[late:], want) {
			t.Errorf("%v: walked %d charges, want at least the first %d in order", body, len(got), len(want))
		}
		if sorted := slices.Compact(slices.Sorted(slices.Values(got))); len(sorted) != len(got) {
			t.Errorf("%v: a charge was shown twice", body)
		}
	}
	seen := map[string]bool{}
	for _, item := range walk(t, nc, "customer.list", fields{"limit": 5}, 0, arrive) {
		ref := fmt.Sprint(item["referenceId"])
		if seen[ref] {
			t.Errorf("%s was shown twice", ref)
		}
		seen[ref] = true
	}
	for i := range 25 {
		if ref := fmt.Sprintf("user_%d", i); !seen[ref] {
			t.Errorf("%s was left out", ref)
		}
	}
	// Events are listed oldest first: those that arrive during the walk come at its end.
	before := p.Sequence()
	var last string
	count := uint64(0)
	for _, item := range walk(t, nc, "event.list", fields{"limit": 50, "customerId": ada}, 0, arrive) {
		count++
		if at := fmt.Sprint(item["time"]); at < last {
			t.Errorf("event %v is out of order", item["id"])
		} else {
			last = at
		}
	}
	if p.Sequence() == before || count < 26 {
		t.Errorf("walked %d events", count)
	}
}
