package events_test

import (
	"slices"
	"testing"
	"time"

	"github.com/paykit-go/paykit/internal/events"
)

func resolve(to events.ChargeStatus) events.ResolveCharge {
	return events.ResolveCharge{Outcome: to, Operator: "anna", Reason: "seen in the dashboard"}
}

// What stays unclear is flagged once and can be decided once, whatever comes before, between and after.
func TestChargeReviewMatrix(t *testing.T) {
	t.Parallel()
	back := createCharge("https://app.example.com/back")
	made := payment(events.PaymentRequiresConfirmation)
	paid := payment(events.PaymentSucceeded)
	other := payment(events.PaymentSucceeded)
	other.Payment.ID, other.Payment.ChargeID = "pi_2", "ch_2"
	refund := func(s events.RefundStatus, amount int64) events.RefundObserved {
		return events.RefundObserved{RefundID: "r", Report: events.RefundReport{ID: "re_1", Amount: amount, Status: s}}
	}
	doubt := []events.ChargeInput{back, made, events.ConfirmUnanswered{}}
	flagged := slices.Concat(doubt, []events.ChargeInput{events.RequestReview{Reason: events.ReviewInDoubt}})
	twice := events.RequestReview{Reason: events.ReviewSecondPayment, RelatedChargeID: "chg_0", Proposal: events.ProposalRefund}
	columns := []column[events.ChargeInput]{
		{"nothing", nil},
		{"processing", []events.ChargeInput{back, made}},
		{"in_doubt", doubt},
		{"in_doubt, flagged", flagged},
		{"resolved as failed", slices.Concat(flagged, []events.ChargeInput{resolve(events.ChargeStatusFailed)})},
		{"resolved as succeeded", slices.Concat(flagged, []events.ChargeInput{resolve(events.ChargeStatusSucceeded)})},
		{"succeeded", []events.ChargeInput{back, made, paid}},
		{"refund unanswered", []events.ChargeInput{back, made, paid, events.RefundCharge{RefundID: "r", Amount: 900}}},
		{"second payment, flagged", []events.ChargeInput{back, made, paid, twice}},
		{"second payment, refunded", []events.ChargeInput{back, made, paid, twice, refund(events.RefundSucceeded, 1900)}},
	}
	rows := []row[events.ChargeInput]{
		{"in doubt for long", events.RequestReview{Reason: events.ReviewInDoubt}, "- | - | review_requested | - | - | - | - | review_requested | - | -"},
		{"paid twice", twice, "- | - | - | - | - | review_requested | review_requested | review_requested | - | -"},
		{"resolve as failed", resolve(events.ChargeStatusFailed), "charge_not_found | charge_not_resolvable | failed | failed | - | - | - | - | - | -"},
		{"resolve as canceled", resolve(events.ChargeStatusCanceled), "charge_not_found | charge_not_resolvable | canceled | canceled | - | - | - | - | - | -"},
		{"resolve as succeeded", resolve(events.ChargeStatusSucceeded), "charge_not_found | charge_not_resolvable | succeeded | succeeded | - | - | - | - | - | -"},
		{"resolve as nonsense", resolve(events.ChargeStatusProcessing), "charge_not_found | charge_not_resolvable | invalid_request | invalid_request | - | - | - | - | - | -"},
		{"payment succeeded", paid, "succeeded | succeeded | succeeded | succeeded | succeeded | - | - | - | - | -"},
		{"payment canceled", payment(events.PaymentCanceled), "- | canceled | canceled | canceled | - | - | - | - | - | -"},
		{"another payment succeeded", other, "succeeded | succeeded | succeeded | succeeded | succeeded | ErrOtherPayment | ErrOtherPayment | ErrOtherPayment | ErrOtherPayment | ErrOtherPayment"},
		{"confirm unanswered", events.ConfirmUnanswered{}, "- | in_doubt | - | - | - | - | - | - | - | -"},
	}
	matrix(t, columns, rows, events.DecideCharge, func(e *events.Event) string { return string(e.Data.Charge.Status) })
}

// The flag goes with its reason, whoever takes the reason away, and stays with it whatever else happens.
func TestReviewGoesWithItsReason(t *testing.T) {
	t.Parallel()
	flag := events.RequestReview{Reason: events.ReviewInDoubt}
	refund := func(s events.RefundStatus) events.RefundObserved {
		return events.RefundObserved{RefundID: "rfd_1", Report: events.RefundReport{ID: "re_1", Amount: 900, Status: s}}
	}
	dispute := events.DisputeObserved{Report: events.DisputeReport{ID: "dp_1", Amount: 1900, Status: "needs_response"}}
	begin := []events.ChargeInput{createCharge("https://app.example.com/back"), payment(events.PaymentRequiresConfirmation)}
	for name, tc := range map[string]struct {
		in     []events.ChargeInput
		stands bool
	}{
		"asked to cancel":       {[]events.ChargeInput{events.ConfirmUnanswered{}, flag, events.CancelCharge{}}, true},
		"found to have failed":  {[]events.ChargeInput{events.ConfirmUnanswered{}, flag, declined("card_declined", "")}, false},
		"found to have paid":    {[]events.ChargeInput{events.ConfirmUnanswered{}, flag, payment(events.PaymentSucceeded)}, false},
		"found to want a buyer": {[]events.ChargeInput{events.ConfirmUnanswered{}, flag, action("https://bank.example/1")}, false},
		"decided":               {[]events.ChargeInput{events.ConfirmUnanswered{}, flag, resolve(events.ChargeStatusCanceled)}, false},
		"a refund's, disputed meanwhile": {[]events.ChargeInput{
			payment(events.PaymentSucceeded), events.RefundCharge{RefundID: "rfd_1", Amount: 900}, flag, dispute,
		}, true},
		"a refund's, answered": {[]events.ChargeInput{
			payment(events.PaymentSucceeded), events.RefundCharge{RefundID: "rfd_1", Amount: 900}, flag, refund(events.RefundPending),
		}, false},
	} {
		h := newHistory(t)
		for _, in := range slices.Concat(begin, tc.in) {
			h.charge(in)
		}
		if got := h.last().Data.Charge.Review; (got != nil) != tc.stands {
			t.Errorf("%s: review is %+v, want one: %v", name, got, tc.stands)
		}
	}
}

// A decision names who, what and why, and stays in the snapshot when the provider knows better later.
func TestResolutionStays(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	for _, in := range []events.ChargeInput{
		createCharge(""), payment(events.PaymentRequiresConfirmation), events.ConfirmUnanswered{}, resolve(events.ChargeStatusFailed),
	} {
		h.charge(in)
	}
	c := h.last().Data.Charge
	if c.Resolution == nil || c.Resolution.Operator != "anna" || c.Resolution.Reason == "" || c.Resolution.Outcome != c.Status ||
		!c.Resolution.At.Equal(h.last().Time) || c.Failure == nil || c.Failure.Code != events.FailureResolved {
		t.Fatalf("resolved as %+v, %+v", c, c.Resolution)
	}
	h.charge(payment(events.PaymentSucceeded))
	c = h.last().Data.Charge
	if c.Status != events.ChargeStatusSucceeded || c.Failure != nil || c.Resolution == nil {
		t.Errorf("after the money was seen: %+v", c)
	}
}

// A success can have been paid by a payment that was not known; nothing else can.
func TestResolveNamesAPayment(t *testing.T) {
	t.Parallel()
	for to, want := range map[events.ChargeStatus]string{
		events.ChargeStatusSucceeded: "pi_9", events.ChargeStatusFailed: "", events.ChargeStatusCanceled: "",
	} {
		h := newHistory(t)
		for _, in := range []events.ChargeInput{createCharge(""), payment(events.PaymentRequiresConfirmation), events.ConfirmUnanswered{}} {
			h.charge(in)
		}
		in := resolve(to)
		in.ProviderPaymentID = "pi_9"
		e, err := events.DecideCharge(h.last(), in, h.cause("cmd_1"))
		switch {
		case want == "" && err == nil:
			t.Errorf("%s by another payment: %+v", to, e)
		case want != "" && (err != nil || e.Data.Charge.ProviderPaymentID != want):
			t.Errorf("%s by another payment: %v", to, err)
		}
	}
}

// A ladder's further attempt can be in doubt too: the charge stays failed, a person is asked, and the decision ends the
// ladder.
func TestAttemptInDoubtIsReviewedAndResolved(t *testing.T) {
	t.Parallel()
	for to, want := range map[events.ChargeStatus]events.Type{
		events.ChargeStatusSucceeded: events.ChargeSucceeded, events.ChargeStatusFailed: events.ChargeFailed, events.ChargeStatusCanceled: "",
	} {
		create := createCharge("")
		create.Retry = &events.RetrySchedule{Name: "test", Delays: []time.Duration{time.Second, time.Second}}
		h := newHistory(t)
		for _, in := range []events.ChargeInput{create, payment(events.PaymentRequiresConfirmation), declined("card_declined", "insufficient_funds")} {
			h.charge(in)
		}
		h.now = h.now.Add(time.Minute)
		h.charge(events.RetryDue{})
		h.charge(events.AttemptUnanswered{Number: 2})
		h.charge(events.RequestReview{Reason: events.ReviewInDoubt})
		e, err := events.DecideCharge(h.last(), resolve(to), h.cause("cmd_1"))
		if want == "" {
			if err == nil {
				t.Errorf("%s: %+v", to, e)
			}
			continue
		}
		if err != nil || e.Type != want {
			t.Fatalf("%s: %+v, %v", to, e, err)
		}
		if c := e.Data.Charge; c.Status != to || c.Review != nil || c.Resolution == nil || c.Retry.Status != events.RetryEnded || c.Retrying() {
			t.Errorf("%s: %+v, %+v", to, c, c.Retry)
		}
	}
}
