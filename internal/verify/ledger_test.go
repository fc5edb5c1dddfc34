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
	live := verify.LedgerOptions{ProviderID: provider, Env: "env", PaymentsOnly: true, Returned: true}
	again := func(p verify.Payment, id string, returned int64) verify.Payment {
		p.ID, p.Refunded = id, returned
		return p
	}
	for _, tt := range []struct {
		name   string
		o      *verify.LedgerOptions // nil = of a system at rest
		change func([]verify.Payment) []verify.Payment
		want   []string // in the problems, each at least once; none = no problem
	}{
		{"the same", nil, func(p []verify.Payment) []verify.Payment { return p }, nil},
		{"charged twice", nil, func(p []verify.Payment) []verify.Payment {
			again := p[0]
			again.ID = "pi_again"
			return append(p, again)
		}, []string{"charged twice: payments pi_paid and pi_again", "pi_again took 4900 usd and is no charge", "4900 usd taken"}},
		{"captured twice", nil, func(p []verify.Payment) []verify.Payment { p[0].Captures = 2; return p }, []string{"took money 2 times"}},
		{"not there", nil, func(p []verify.Payment) []verify.Payment { return p[1:] }, []string{"which the provider does not have"}},
		{"not paid", nil, func(p []verify.Payment) []verify.Payment { p[0].Paid = false; return p }, []string{"took no money"}},
		{"another amount", nil, func(p []verify.Payment) []verify.Payment { p[0].Amount = 5000; return p }, []string{"pi_paid took 5000 usd", "the provider 5000 and 900"}},
		{"another currency", nil, func(p []verify.Payment) []verify.Payment { p[0].Currency = "eur"; return p }, []string{"took 4900 eur"}},
		{"another charge's", nil, func(p []verify.Payment) []verify.Payment { p[0].Charge = failed; return p }, []string{"was made for charge " + failed}},
		{"a refund unknown", nil, func(p []verify.Payment) []verify.Payment { p[0].Refunded = 1000; return p }, []string{"900 was given back, and the provider says 1000"}},
		{"paid after all", nil, func(p []verify.Payment) []verify.Payment { p[1].Paid = true; return p }, []string{"pi_failed took 4900 usd, and the charge is failed"}},
		{"payable", nil, func(p []verify.Payment) []verify.Payment { p[1].Payable = true; return p }, []string{"pi_failed can still be paid"}},
		{"in the dashboard", nil, func(p []verify.Payment) []verify.Payment {
			return append(p, verify.Payment{ID: "pi_dash", Amount: 100, Currency: "usd", Paid: true, Customer: "cus_1"})
		}, []string{"pi_dash took 100 usd and is no charge"}},
		{"paid twice", &live, func(p []verify.Payment) []verify.Payment {
			return append(p, again(p[0], "pi_again", 900))
		}, []string{"charged twice: payments pi_again, pi_paid have money", "pi_again took 4900 usd and is no charge"}},
		{"paid twice and given back", nil, func(p []verify.Payment) []verify.Payment {
			return append(p, again(p[0], "pi_again", 4900))
		}, []string{"charged twice: payments pi_paid and pi_again"}},
		{"a checkout paid twice", &live, func(p []verify.Payment) []verify.Payment {
			one := verify.Payment{ID: "pi_one", Amount: 100, Currency: "usd", Paid: true, Customer: "cus_1", Env: "env", Checkout: events.CheckoutID("x")}
			return append(p, one, again(one, "pi_two", 0))
		}, []string{"charged twice: payments pi_one, pi_two have money"}},
		{"payable, of a customer who is gone", nil, func(p []verify.Payment) []verify.Payment {
			p[1].Payable, p[1].Customer = true, "cus_gone"
			return p
		}, nil},
	} {
		r := verify.Entries("paykit", entries)
		if !r.OK || r.Entities != 4 || r.LastSequence != uint64(len(entries)) {
			t.Fatalf("the log by itself: %+v", r)
		}
		o := verify.LedgerOptions{ProviderID: provider, Env: "env"}
		if tt.o != nil {
			o = *tt.o
		}
		r.Ledger(o, tt.change(good()))
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

// TestLasting: what was under way at the first look, or begins at the second, is no problem, whatever the payment's age;
// what both looks find is one.
func TestLasting(t *testing.T) {
	r := verify.Entries("paykit", ledgerLog(t))
	o := verify.LedgerOptions{ProviderID: provider, Env: "env"}
	look := func(refunded int64, failedPaid bool) []verify.Problem {
		return r.Compare(o, []verify.Payment{
			{ID: "pi_paid", Amount: 4900, Refunded: refunded, Currency: "usd", Paid: true, Customer: "cus_1", Env: "env", Charge: events.ChargeID("paid")},
			{ID: "pi_failed", Amount: 4900, Currency: "usd", Paid: failedPaid, Customer: "cus_1", Env: "env", Charge: events.ChargeID("failed")},
		})
	}
	underWay, other := look(1000, false), look(900, true)
	if len(underWay) == 0 || len(other) == 0 || !r.OK {
		t.Fatalf("a refund under way: %+v; paid after all: %+v; report %+v", underWay, other, r)
	}
	if left := verify.Lasting(underWay, other); len(left) != 0 {
		t.Errorf("what came and went is reported: %+v", left)
	}
	if left := verify.Lasting(append(underWay, other...), other); len(left) != len(other) {
		t.Errorf("of %+v is left %+v", other, left)
	}
}

// TestPaymentsOnly: a charge without a payment is left out of a comparison with payments.
func TestPaymentsOnly(t *testing.T) {
	entries := ledgerLog(t)
	last := entries[1].Event
	e, err := events.DecideCharge(nil, events.PaymentObserved{
		ID: events.ReportedChargeID(provider, "", "ch_old"), ProviderID: provider,
		Payment: events.Payment{ChargeID: "ch_old", Status: events.PaymentSucceeded, Amount: 100, Currency: "usd"},
	}, events.Cause{Now: last.Time, Source: "/paykit/test", Customer: last.Data.Customer.Ref()})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r := verify.Entries("paykit", append(entries, eventlog.Entry{Event: e, Sequence: uint64(len(entries) + 1), Subject: subject(e), Raw: raw}))
	payments := []verify.Payment{{ID: "pi_paid", Amount: 4900, Refunded: 900, Currency: "usd", Paid: true, Customer: "cus_1", Env: "env", Charge: events.ChargeID("paid")}}
	o := verify.LedgerOptions{ProviderID: provider, Env: "env"}
	if found := r.Compare(o, payments); !r.OK || len(found) != 2 {
		t.Errorf("all charges: %+v, %+v", r.Problems, found)
	}
	o.PaymentsOnly = true
	if found := r.Compare(o, payments); len(found) != 0 {
		t.Errorf("payments only: %+v", found)
	}
}
