package events_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/paykit-go/paykit/internal/events"
)

// Text from outside, with what breaks subjects in it.
func outside() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.String(),
		rapid.SampledFrom([]string{"", "none", "None", "_backfill", "=", "=6E", "*", ">", "a.b", "$SYS", "\x00", "\r\n", "Ａ", strings.Repeat("x", 10_000), strings.Repeat("x", 10_001)}),
		rapid.StringMatching(`[a-z_=.*> ]{0,8}`),
	)
}

func TestTokenIsOneTokenAndInjective(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := outside().Draw(t, "a"), outside().Draw(t, "b")
		ta, tb := events.Token(a), events.Token(b)
		if (a == b) != (ta == tb) {
			t.Fatalf("%q → %q and %q → %q", a, ta, b, tb)
		}
		if ta == "" || strings.ContainsAny(ta, ".*> \t\r\n\x00") || len(ta) > 600 {
			t.Fatalf("%q → %q is not one token", a, ta)
		}
		if ta == events.None || strings.HasPrefix(ta, "_") {
			t.Fatalf("%q → %q reads as a reserved token", a, ta)
		}
	})
}

func TestDerivedIDs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := outside().Draw(t, "a"), outside().Draw(t, "b")
		c, d := outside().Draw(t, "c"), outside().Draw(t, "d")
		if (a == b) != (events.CustomerID(a) == events.CustomerID(b)) {
			t.Fatalf("customers of %q and %q", a, b)
		}
		same := a == c && b == d
		for name, derive := range map[string]func(string, string) string{
			"method": events.PaymentMethodID, "refund": events.RefundID, "account": events.ProviderAccountID,
			"command": events.CommandID, "reported refund": events.ReportedRefundID,
		} {
			if same != (derive(a, b) == derive(c, d)) {
				t.Fatalf("%s of (%q,%q) and (%q,%q)", name, a, b, c, d)
			}
		}
		all := map[string]string{
			"customer": events.CustomerID(a), "checkout": events.CheckoutID(a), "setup": events.SetupID(a),
			"charge": events.ChargeID(a), "checkout's charge": events.CheckoutChargeID(a),
		}
		seen := map[string]string{}
		for name, id := range all {
			_, rest, _ := strings.Cut(id, "_")
			if other, taken := seen[rest]; taken {
				t.Fatalf("%s and %s of %q share %s", name, other, a, rest)
			}
			seen[rest] = name
		}
	})
}

func TestIDShape(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		entity events.Entity
		id     string
		prefix string
	}{
		{events.EntityCustomer, events.CustomerID("user_123"), "cust_"},
		{events.EntityProviderAccount, events.ProviderAccountID("cust_x", "stripe"), "pa_"},
		{events.EntityPaymentMethod, events.PaymentMethodID("stripe", "pm_1"), "meth_"},
		{events.EntityCheckout, events.CheckoutID("k"), "chk_"},
		{events.EntitySetup, events.SetupID("k"), "set_"},
		{events.EntityCharge, events.ChargeID("k"), "chg_"},
		{events.EntityCharge, events.ReportedChargeID("stripe", "", "ch_1"), "chg_"},
		{events.EntityCommand, events.CommandID("charge.create", "k"), "cmd_"},
	} {
		rest, ok := strings.CutPrefix(tc.id, tc.prefix)
		if !ok || len(rest) != 26 || strings.Trim(rest, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") != "" {
			t.Errorf("%s is not %s and 26 characters of Crockford's base 32", tc.id, tc.prefix)
		}
		if !events.ValidID(tc.entity, tc.id) {
			t.Errorf("ValidID(%s, %s) = false", tc.entity, tc.id)
		}
		if got, ok := events.EntityOf(tc.id); !ok || got != tc.entity {
			t.Errorf("EntityOf(%s) = %s, %v", tc.id, got, ok)
		}
	}
	for _, bad := range []string{"", "chg_", "chg_*", "chg_0123456789ABCDEFGHJKMNPQR.", "xyz_01JD0000000000000000000000", "chg_01JD00000000000000000000000"} {
		if events.ValidID(events.EntityCharge, bad) {
			t.Errorf("ValidID(charge, %q) = true", bad)
		}
	}
}

// Ids are public: what was derived once must be derived for ever.
func TestDerivationNeverChanges(t *testing.T) {
	t.Parallel()
	created := time.Date(2026, 11, 22, 6, 14, 0, 0, time.UTC)
	for got, want := range map[string]string{
		events.CustomerID("user_123"):                          "cust_0J6DPCVDSKT8X2Y273TDP3E6JV",
		events.ChargeID("order-1"):                             "chg_0XSADBN8EGPC6ZFQARZWE0AAW1",
		events.PaymentMethodID("stripe", "pm_1"):               "meth_1DX2T2DRCVKYW7H0F52V19KKNM",
		events.QueuedCommandKey("PAYKIT_COMMANDS", created, 7): "queued PAYKIT_COMMANDS 1795328040000000000 7",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
