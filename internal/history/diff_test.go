package history_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
	"github.com/paykit-go/paykit/internal/history"
)

// TestDiffInWords: what changed between two points, by customer, in words.
func TestDiffInWords(t *testing.T) {
	t.Parallel()
	b := newBook(t, eventlogtest.Provisioned(t))
	b.sync("ada", 1)
	b.sync("bob", 2)
	first := b.ask("ada", "first")
	card := b.attach("ada", "pm_1")
	page := events.CheckoutID("page")
	checkout := func(in events.CheckoutInput) {
		b.change(events.EntityCheckout, page, "bob", func(last *events.Event, c events.Cause) (*events.Event, error) {
			return events.DecideCheckout(last, in, c)
		})
	}
	checkout(events.CreateCheckout{ID: page, ProviderID: "stripe", Amount: 500, Currency: "jpy", SuccessURL: "https://app.example.com/ok"})
	middle := last(t, b.Log)

	b.pay("ada", "first", events.PaymentProcessing)
	b.pay("ada", "first", events.PaymentSucceeded)
	refund := events.RefundID(first, "back")
	b.charge("ada", "first", events.RefundCharge{RefundID: refund, Amount: 900})
	checkout(events.CheckoutObserved{Session: events.Session{ID: "cs_1", Status: events.SessionExpired}})
	b.sync("ada", 3)
	b.sync("cleo", 4)
	b.customer("bob", events.DeleteCustomer{})
	second := b.ask("cleo", "second")
	b.charge("cleo", "second", events.PaymentObserved{ID: second, ProviderID: "stripe", Payment: events.Payment{
		ID: "pi_second", Status: events.PaymentCanceled, Amount: 4900, Currency: "usd",
	}})
	other := b.attach("ada", "pm_2")
	b.change(events.EntityPaymentMethod, card, "ada", func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecidePaymentMethod(last, events.MethodGone{}, c)
	})
	end := last(t, b.Log)

	want := []string{
		"charge " + first + " of ada: requested → succeeded, 49.00 USD; refund " + refund + ": new → requested, 9.00 USD",
		"customer ada: profile changed",
		"payment method " + other + " visa …4242 of ada saved, became the default",
		"payment method " + card + " visa …4242 of ada detached",
		"checkout " + page + " of bob: requested → expired, 500 JPY",
		"customer bob deleted",
		"customer cleo created",
		"charge " + second + " of cleo: new → canceled, 49.00 USD",
	}
	changes, err := history.Diff(t.Context(), b.Log, "", middle, end)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range changes {
		got = append(got, c.Sentence)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("sentences (-want +got)", diff)
	}
	ofAda, err := history.Diff(t.Context(), b.Log, events.CustomerID("ada"), middle, end)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(changes[:4], ofAda); diff != "" {
		t.Error("of one customer (-want +got)", diff)
	}
	if none, err := history.Diff(t.Context(), b.Log, "", end, end); err != nil || none == nil || len(none) > 0 {
		t.Errorf("between a point and itself: %v, %v", none, err)
	}
}

// TestDiffIsTheDifference: for any two points, what Diff tells is what the entities' last events before them differ by.
func TestDiffIsTheDifference(t *testing.T) {
	t.Parallel()
	log := filled(t)
	end := last(t, log)
	at := map[uint64]map[string]string{0: {}} // by sequence, then by entity: the last event's data
	state := map[string]string{}
	for i, line := range bytesOf(t, log) {
		_, raw, _ := strings.Cut(line, " ")
		e, err := events.Decode([]byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		state[e.Subject] = raw
		at[uint64(i)+1] = maps.Clone(state)
	}
	for from := uint64(0); from <= end; from += 31 {
		for to := from; to <= end; to += 29 {
			changes, err := history.Diff(t.Context(), log, "", from, to)
			if err != nil {
				t.Fatalf("from %d to %d: %v", from, to, err)
			}
			told := map[string]history.Change{}
			for _, c := range changes {
				told[c.ID] = c
				if c.Sentence == "" || strings.Contains(c.Sentence, "%!") || len(c.Changes) == 0 {
					t.Errorf("%s: %q, %v", c.ID, c.Sentence, c.Changes)
				}
			}
			for id, raw := range at[to] {
				was := at[from][id]
				if was == raw {
					if _, wrong := told[id]; wrong {
						t.Errorf("from %d to %d: %s did not change", from, to, id)
					}
					continue
				}
				for point, both := range map[string][2]string{"from": {was, string(told[id].From)}, "to": {raw, string(told[id].To)}} {
					if !holds(t, both[0], both[1]) {
						t.Errorf("from %d to %d: %s, %s: %q", from, to, id, point, both[1])
					}
				}
			}
		}
	}
}

// holds tells whether an event holds a snapshot; neither does too.
func holds(t *testing.T, event, snapshot string) bool {
	t.Helper()
	if event == "" || snapshot == "" || snapshot == "null" {
		return event == "" && (snapshot == "" || snapshot == "null")
	}
	if !json.Valid([]byte(snapshot)) {
		return false
	}
	return strings.Contains(event, fmt.Sprintf(":%s", snapshot))
}
