package verify_test

import (
	"strings"
	"testing"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/verify"
)

// ledgerLog is a log in memory: one customer with a linked account, a charge that succeeded, of which 900 of 4900 were
// given back, and a charge that failed.
func ledgerLog(t *testing.T) []eventlog.Entry {
	t.Helper()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	customer := events.CustomerRef{ID: events.CustomerID("ledger"), ReferenceID: "ledger"}
	var entries []eventlog.Entry
	last := map[string]*events.Event{}
	cause := func() events.Cause {
		now = now.Add(time.Second)
		return events.Cause{Now: now, Source: "/paykit/test", Customer: customer}
	}
	keep := func(e *events.Event, err error) {
		t.Helper()
		if err != nil || e == nil {
			t.Fatalf("decided %v, %v", e, err)
		}
		raw, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		last[e.Subject] = e
		entries = append(entries, eventlog.Entry{Event: e, Sequence: uint64(len(entries) + 1), Subject: subject(e), Raw: raw})
	}
	charge := func(id string, inputs ...events.ChargeInput) {
		t.Helper()
		for _, in := range inputs {
			keep(events.DecideCharge(last[id], in, cause()))
		}
	}
	create := func(id string) events.CreateCharge {
		return events.CreateCharge{
			ID: id, ProviderID: provider, PaymentMethodID: events.PaymentMethodID(provider, "pm"), Amount: 4900, Currency: "usd", CommandDigest: "sha256:aa",
		}
	}
	seen := func(id, payment string, status events.PaymentStatus) events.PaymentObserved {
		return events.PaymentObserved{ID: id, ProviderID: provider, Payment: events.Payment{
			ID: payment, Status: status, Amount: 4900, Currency: "usd", Failure: &events.Failure{Code: events.FailureCardDeclined},
		}}
	}
	keep(events.DecideCustomer(nil, events.SyncCustomer{ReferenceID: "ledger"}, cause()))
	keep(events.DecideProviderAccount(nil, events.LinkAccount{ProviderID: provider, ProviderCustomerID: "cus_1"}, cause()))
	paid, failed := events.ChargeID("paid"), events.ChargeID("failed")
	charge(paid, create(paid), seen(paid, "pi_paid", events.PaymentProcessing), seen(paid, "pi_paid", events.PaymentSucceeded),
		events.RefundCharge{RefundID: events.RefundID(paid, "r"), Amount: 900, CommandDigest: "sha256:bb"},
		events.RefundObserved{RefundID: events.RefundID(paid, "r"), Report: events.RefundReport{ID: "re_1", Status: events.RefundSucceeded, Amount: 900}})
	charge(failed, create(failed), seen(failed, "pi_failed", events.PaymentProcessing), seen(failed, "pi_failed", events.PaymentRequiresMethod))
	return entries
}

// TestLedger: each difference between the log and the provider's list is reported, and nothing else.
func TestLedger(t *testing.T) {
	entries := ledgerLog(t)
	paid, failed := events.ChargeID("paid"), events.ChargeID("failed")
	good := func() []verify.Payment {
		return []verify.Payment{
			{ID: "pi_paid", Amount: 4900, Refunded: 900, Currency: "usd", Paid: true, Captures: 1, Customer: "cus_1", Env: "env", Charge: paid},
			{ID: "pi_failed", Amount: 4900, Currency: "usd", Customer: "cus_1", Env: "env", Charge: failed},
			{ID: "pi_elsewhere", Amount: 100, Currency: "usd", Paid: true, Customer: "cus_else", Env: "another", Charge: paid},
			{ID: "pi_nobody", Amount: 100, Currency: "usd", Paid: true, Customer: "cus_else"},
		}
	}
	young := time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name   string
		change func([]verify.Payment) []verify.Payment
		want   []string // in the problems, each at least once; none = no problem
	}{
		{"the same", func(p []verify.Payment) []verify.Payment { return p }, nil},
		{"charged twice", func(p []verify.Payment) []verify.Payment {
			again := p[0]
			again.ID = "pi_again"
			return append(p, again)
		}, []string{"charged twice: payments pi_paid and pi_again", "pi_again took 4900 usd and is no charge", "4900 usd taken"}},
		{"captured twice", func(p []verify.Payment) []verify.Payment { p[0].Captures = 2; return p }, []string{"took money 2 times"}},
		{"not there", func(p []verify.Payment) []verify.Payment { return p[1:] }, []string{"which the provider does not have"}},
		{"not paid", func(p []verify.Payment) []verify.Payment { p[0].Paid = false; return p }, []string{"took no money"}},
		{"another amount", func(p []verify.Payment) []verify.Payment { p[0].Amount = 5000; return p }, []string{"pi_paid took 5000 usd", "the provider 5000 and 900"}},
		{"another currency", func(p []verify.Payment) []verify.Payment { p[0].Currency = "eur"; return p }, []string{"took 4900 eur"}},
		{"another charge's", func(p []verify.Payment) []verify.Payment { p[0].Charge = failed; return p }, []string{"was made for charge " + failed}},
		{"a refund unknown", func(p []verify.Payment) []verify.Payment { p[0].Refunded = 1000; return p }, []string{"900 was given back, and the provider says 1000"}},
		{"paid after all", func(p []verify.Payment) []verify.Payment { p[1].Paid = true; return p }, []string{"pi_failed took 4900 usd, and the charge is failed"}},
		{"payable", func(p []verify.Payment) []verify.Payment { p[1].Payable = true; return p }, []string{"pi_failed can still be paid"}},
		{"in the dashboard", func(p []verify.Payment) []verify.Payment {
			return append(p, verify.Payment{ID: "pi_dash", Amount: 100, Currency: "usd", Paid: true, Customer: "cus_1"})
		}, []string{"pi_dash took 100 usd and is no charge"}},
		{"under way", func(p []verify.Payment) []verify.Payment {
			return append(p, verify.Payment{ID: "pi_new", Amount: 100, Currency: "usd", Paid: true, Customer: "cus_1", Env: "env", Created: young})
		}, nil},
	} {
		r := verify.Entries("paykit", entries)
		if !r.OK || r.Entities != 4 || r.LastSequence != uint64(len(entries)) {
			t.Fatalf("the log by itself: %+v", r)
		}
		r.Ledger(verify.LedgerOptions{ProviderID: provider, Env: "env", Quiet: true, Settled: young}, tt.change(good()))
		if r.OK != (len(tt.want) == 0) {
			t.Errorf("%s: %+v", tt.name, r.Problems)
		}
		for _, want := range tt.want {
			found := false
			for _, p := range r.Problems {
				found = found || strings.Contains(p.Problem, want)
			}
			if !found {
				t.Errorf("%s: no problem says %q: %+v", tt.name, want, r.Problems)
			}
		}
	}
}

// TestEntries: a hole in a log at hand is a problem; without books there is nothing to compare, and that is one too.
func TestEntries(t *testing.T) {
	entries := ledgerLog(t)
	r := verify.Entries("paykit", append(entries[:3:3], entries[4:]...))
	if r.OK || !strings.Contains(r.Problems[0].Problem, "missing") {
		t.Errorf("with a hole: %+v", r)
	}
	r = &verify.Report{OK: true}
	if r.Ledger(verify.LedgerOptions{ProviderID: provider}, nil); r.OK {
		t.Error("nothing was compared, and that is well")
	}
}
