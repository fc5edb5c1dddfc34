package events_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/paykit-go/paykit/internal/events"
)

// The limit is for commands. What the provider says was given back counts, as far as an event can hold it: below 256 KiB
// with the largest of everything.
func TestRefundsBeyondTheCommandsLimit(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	create := createCharge("https://app.example.com/" + strings.Repeat("r", 1900))
	create.Amount, create.Description, create.Metadata = 99_999_999, strings.Repeat("d", 1000), map[string]string{}
	for i := range 50 {
		create.Metadata[fmt.Sprintf("%040d", i)] = strings.Repeat("m", 500)
	}
	h.charge(create)
	paid := payment(events.PaymentSucceeded)
	paid.Payment.Amount = create.Amount
	h.charge(paid)
	digest := events.Digest(nil)
	for i := range events.MaxRefunds {
		h.charge(events.RefundCharge{RefundID: events.RefundID("chg", fmt.Sprint(i)), Amount: 100_000, Reason: "requested_by_customer", CommandDigest: digest})
	}
	_, err := events.DecideCharge(h.last(), events.RefundCharge{RefundID: "one more", Amount: 1}, h.cause(""))
	wantCode(t, err, events.CodeRefundLimit)
	reported := func(i int) events.RefundObserved {
		id := fmt.Sprintf("re_%027d", i)
		in := refundReport(events.ReportedRefundID(provider, id), id, 100_000, events.RefundSucceeded)
		in.Report.Reason = "requested_by_customer"
		return in
	}
	for i := range events.MaxKeptRefunds - events.MaxRefunds {
		h.charge(reported(i))
	}
	c := h.last().Data.Charge
	if want := int64(events.MaxKeptRefunds-events.MaxRefunds) * 100_000; c.AmountRefunded != want || len(c.Refunds) != events.MaxKeptRefunds {
		t.Errorf("%d refunded in %d refunds, want %d", c.AmountRefunded, len(c.Refunds), want)
	}
	if e, err := events.DecideCharge(h.last(), reported(events.MaxKeptRefunds), h.cause("")); !errors.Is(err, events.ErrRefundsFull) {
		t.Errorf("one that there is no room for: %+v, %v", e, err)
	}
	for i, r := range c.Refunds { // the largest they can become
		failed := refundReport(r.ID, fmt.Sprintf("re_x%026d", i), r.Amount, events.RefundFailed)
		if r.ProviderRefundID != "" {
			failed.Report.ID = r.ProviderRefundID
		}
		failure := events.NewRefundFailure("charge_for_pending_refund_disputed", "")
		failed.Report.Failure = &failure
		if h.charge(failed) == nil {
			t.Fatalf("refund %d did not fail", i)
		}
	}
	b, err := h.last().Encode()
	if err != nil || len(b) > 256<<10 {
		t.Errorf("the event has %d bytes, %v", len(b), err)
	}
	t.Logf("%d bytes with %d refunds", len(b), events.MaxKeptRefunds)
}

// A dispute in another currency is not subtracted from what is left of the charge, and its currency is told.
func TestDisputeInAnotherCurrency(t *testing.T) {
	t.Parallel()
	for currency, left := range map[string]int64{"": 1000, "usd": 1000, "jpy": 1900} {
		h := paidCharge(t)
		lost := disputeSeen("dp_1", "lost", events.FundsWithdrawn)
		lost.Report.Amount, lost.Report.Currency = 900, currency
		open := lost
		open.Report.Status = "needs_response"
		h.charge(open)
		h.charge(lost)
		c := h.last().Data.Charge
		want := currency
		if currency == c.Currency {
			want = ""
		}
		if got := c.Refundable(); got != left || c.Disputes[0].Currency != want {
			t.Errorf("%q: %d is left, want %d: %+v", currency, got, left, c.Disputes)
		}
		if e, err := events.DecideCharge(h.last(), events.RefundCharge{RefundID: "rfd_a", CommandDigest: "1"}, h.cause("")); err != nil || e.Data.Refund.Amount != left {
			t.Errorf("%q: refund of the rest: %+v, %v", currency, e, err)
		}
		old := lost
		old.Report.Currency = ""
		if e := h.charge(old); e != nil {
			t.Errorf("%q: %s by a report that names no currency", currency, e.Type)
		}
	}
}
