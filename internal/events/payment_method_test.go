package events_test

import (
	"testing"
	"time"

	"github.com/paykit-go/paykit/internal/events"
)

// The last month of a card, to the moment: from a month before its last day, in a shorter month from that one's last day.
func TestExpiring(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		month, year int
		from, to    string
	}{
		{12, 2026, "2026-11-30T00:00:00Z", "2027-01-01T00:00:00Z"},
		{1, 2027, "2026-12-31T00:00:00Z", "2027-02-01T00:00:00Z"},
		{2, 2027, "2027-01-28T00:00:00Z", "2027-03-01T00:00:00Z"},
		{2, 2028, "2028-01-29T00:00:00Z", "2028-03-01T00:00:00Z"},
		{3, 2027, "2027-02-28T00:00:00Z", "2027-04-01T00:00:00Z"},
		{4, 2027, "2027-03-30T00:00:00Z", "2027-05-01T00:00:00Z"},
	} {
		m := events.PaymentMethod{ExpiryMonth: tt.month, ExpiryYear: tt.year}
		from, to := parse(t, tt.from), parse(t, tt.to)
		for at, want := range map[time.Time]bool{from.Add(-time.Millisecond): false, from: true, to.Add(-time.Millisecond): true, to: false} {
			if got := m.Expiring(at); got != want {
				t.Errorf("%s at %s: %v", m.Expiry(), at, got)
			}
		}
	}
	for _, m := range []events.PaymentMethod{{}, {ExpiryMonth: 12}, {ExpiryYear: 2026}, {ExpiryMonth: 13, ExpiryYear: 2026}} {
		if m.Expiry() != "" || m.Expiring(parse(t, "2026-12-15T00:00:00Z")) {
			t.Errorf("%d/%d expires", m.ExpiryMonth, m.ExpiryYear)
		}
	}
}

func parse(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// The end of a card is told once of each expiry: a card that is replaced is told of again when its new end comes, and not
// before; one that is to be detached is not told of.
func TestExpiringIsToldOnceOfEachExpiry(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	card := func(month, year int) events.MethodObserved {
		m := method(true, "4242")
		m.Method.ExpiryMonth, m.Method.ExpiryYear = month, year
		return m
	}
	decide := func(at string, in events.PaymentMethodInput) *events.Event {
		t.Helper()
		c := h.cause("")
		c.Now = parse(t, at)
		return h.add(events.DecidePaymentMethod(h.last(), in, c))
	}
	decide("2026-11-01T10:00:00Z", card(12, 2026))
	if e := decide("2026-11-29T10:00:00Z", events.MethodExpiring{}); e != nil {
		t.Errorf("%s too early", e.Type)
	}
	if e := decide("2026-11-30T10:00:00Z", events.MethodExpiring{}); e == nil || e.Data.PaymentMethod.ExpiringFor != "2026-12" {
		t.Fatalf("not told: %+v", e)
	}
	if e := decide("2026-12-01T10:00:00Z", events.MethodExpiring{}); e != nil {
		t.Errorf("%s twice", e.Type)
	}
	if e := decide("2026-12-02T10:00:00Z", card(1, 2027)); e == nil || e.Data.PaymentMethod.ExpiringFor != "2026-12" {
		t.Fatalf("the new card: %+v", e)
	}
	if e := decide("2026-12-03T10:00:00Z", events.MethodExpiring{}); e != nil {
		t.Errorf("%s: the new card lives", e.Type)
	}
	if e := decide("2026-12-31T10:00:00Z", events.MethodExpiring{}); e == nil || e.Data.PaymentMethod.ExpiringFor != "2027-01" {
		t.Fatalf("the new end is not told: %+v", e)
	}
	decide("2027-01-02T10:00:00Z", card(2, 2027))
	decide("2027-01-03T10:00:00Z", events.DetachMethod{})
	if e := decide("2027-02-10T10:00:00Z", events.MethodExpiring{}); e != nil {
		t.Errorf("%s of a method that is to be detached", e.Type)
	}
}

// A duplicate is one of the card that the method is: another card's report says anew, one of the same card changes nothing.
func TestDuplicateOf(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	earlier, self := events.PaymentMethodID(provider, "pm_0"), events.PaymentMethodID(provider, "pm_1")
	observe := func(fingerprint, duplicateOf, last4 string) string {
		t.Helper()
		in := method(true, last4)
		in.Method.Fingerprint, in.DuplicateOf = fingerprint, duplicateOf
		h.add(events.DecidePaymentMethod(h.last(), in, h.cause("")))
		return h.last().Data.PaymentMethod.DuplicateOf
	}
	if got := observe("f", earlier, "4242"); got != earlier {
		t.Errorf("saved as a duplicate of %q", got)
	}
	if got := observe("f", "", "4343"); got != earlier {
		t.Errorf("a report of the same card: %q", got)
	}
	if got := observe("g", "", "1881"); got != "" {
		t.Errorf("another card: %q", got)
	}
	if got := observe("f", self, "4242"); got != "" {
		t.Errorf("a duplicate of itself: %q", got)
	}
}

// What was made the default after the old one was detached stays it.
func TestPromotionNeverBeatsANewerDefault(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	h.add(events.DecidePaymentMethod(nil, method(true, "4242"), h.cause("")))
	detached := h.now
	h.now = h.now.Add(time.Minute)
	h.add(events.DecidePaymentMethod(h.last(), events.SetDefaultMethod{}, h.cause("")))
	if e, err := events.DecidePaymentMethod(h.last(), events.PromoteMethod{At: detached}, h.cause("")); e != nil || err != nil {
		t.Errorf("%+v, %v", e, err)
	}
}
