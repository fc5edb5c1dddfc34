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
	lost := events.DisputeObserved{Report: events.DisputeReport{ID: "dp_1", Amount: 1900, Status: "lost"}}
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
		{"second payment, kept", []events.ChargeInput{back, made, paid, twice, resolve(events.ChargeStatusSucceeded)}},
		{"second payment, lost", []events.ChargeInput{back, made, paid, twice, lost}},
	}
	rows := []row[events.ChargeInput]{
		{"in doubt for long", events.RequestReview{Reason: events.ReviewInDoubt}, "- | - | review_requested | - | - | - | - | review_requested | - | - | - | -"},
		{"paid twice", twice, "- | - | - | - | - | - | review_requested | review_requested | - | - | - | -"},
		{"resolve as failed", resolve(events.ChargeStatusFailed), "charge_not_found | charge_not_resolvable | failed | failed | - | charge_not_resolvable | charge_not_resolvable | charge_not_resolvable | charge_not_resolvable | charge_not_resolvable | charge_not_resolvable | charge_not_resolvable"},
		{"resolve as canceled", resolve(events.ChargeStatusCanceled), "charge_not_found | charge_not_resolvable | canceled | canceled | charge_not_resolvable | charge_not_resolvable | charge_not_resolvable | charge_not_resolvable | charge_not_resolvable | charge_not_resolvable | charge_not_resolvable | charge_not_resolvable"},
		{"resolve as succeeded", resolve(events.ChargeStatusSucceeded), "charge_not_found | charge_not_resolvable | succeeded | succeeded | charge_not_resolvable | - | charge_not_resolvable | charge_not_resolvable | updated | charge_not_resolvable | - | charge_not_resolvable"},
		{"resolve as nonsense", resolve(events.ChargeStatusProcessing), "charge_not_found | charge_not_resolvable | invalid_request | invalid_request | charge_not_resolvable | charge_not_resolvable | charge_not_resolvable | charge_not_resolvable | charge_not_resolvable | charge_not_resolvable | charge_not_resolvable | charge_not_resolvable"},
		{"payment succeeded", paid, "succeeded | succeeded | succeeded | succeeded | succeeded | - | - | - | - | - | - | -"},
		{"payment canceled", payment(events.PaymentCanceled), "- | canceled | canceled | canceled | - | - | - | - | - | - | - | -"},
		{"another payment succeeded", other, "succeeded | succeeded | succeeded | succeeded | succeeded | ErrOtherPayment | ErrOtherPayment | ErrOtherPayment | ErrOtherPayment | ErrOtherPayment | ErrOtherPayment | ErrOtherPayment"},
		{"confirm unanswered", events.ConfirmUnanswered{}, "- | in_doubt | - | - | - | - | - | - | - | - | - | -"},
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

// A decision that comes too late, after another or after the worker's own finding, is refused; the same one sent again is
// not.
func TestResolvedTooLate(t *testing.T) {
	t.Parallel()
	begin := []events.ChargeInput{createCharge(""), payment(events.PaymentRequiresConfirmation), events.ConfirmUnanswered{}}
	other := resolve(events.ChargeStatusFailed)
	other.Operator = "bert"
	elsewhere := resolve(events.ChargeStatusSucceeded)
	elsewhere.ProviderPaymentID = "pi_9"
	for _, tc := range []struct {
		name   string
		before events.ChargeInput
		in     events.ResolveCharge
		ok     bool
	}{
		{"succeeded after the worker wrote failed", declined("card_declined", ""), resolve(events.ChargeStatusSucceeded), false},
		{"failed after the worker wrote failed", declined("card_declined", ""), resolve(events.ChargeStatusFailed), false},
		{"the same again", resolve(events.ChargeStatusFailed), resolve(events.ChargeStatusFailed), true},
		{"another's", resolve(events.ChargeStatusFailed), other, false},
		{"another outcome", resolve(events.ChargeStatusFailed), resolve(events.ChargeStatusSucceeded), false},
		{"another payment", resolve(events.ChargeStatusSucceeded), elsewhere, false},
	} {
		h := newHistory(t)
		for _, in := range slices.Concat(begin, []events.ChargeInput{tc.before}) {
			h.charge(in)
		}
		e, err := events.DecideCharge(h.last(), tc.in, h.cause("cmd_late"))
		if tc.ok {
			if e != nil || err != nil {
				t.Errorf("%s: %+v, %v", tc.name, e, err)
			}
			continue
		}
		wantCode(t, err, events.CodeChargeNotResolvable)
	}
}

// An operator can say of a refund that stayed unanswered that it was not made, once it is flagged. If the provider knows
// it after all, that is money: a refund of its own.
func TestResolveRefund(t *testing.T) {
	t.Parallel()
	say := func(refundID string, to events.ChargeStatus) events.ResolveCharge {
		in := resolve(to)
		in.RefundID = refundID
		return in
	}
	flag := events.RequestReview{Reason: events.ReviewInDoubt}
	h := paidCharge(t)
	h.charge(events.RefundCharge{RefundID: "rfd_a", Amount: 900, CommandDigest: "1"})
	refused := func(in events.ResolveCharge, code events.Code) {
		t.Helper()
		_, err := events.DecideCharge(h.last(), in, h.cause("cmd_x"))
		wantCode(t, err, code)
	}
	refused(say("rfd_a", events.ChargeStatusFailed), events.CodeChargeNotResolvable) // not for long enough
	h.charge(flag)
	refused(say("rfd_b", events.ChargeStatusFailed), events.CodeChargeNotResolvable)
	refused(say("rfd_a", events.ChargeStatusSucceeded), events.CodeInvalidRequest)
	refused(resolve(events.ChargeStatusFailed), events.CodeChargeNotResolvable) // of the charge itself nothing is in doubt
	paid := say("rfd_a", events.ChargeStatusFailed)
	paid.ProviderPaymentID = "pi_1"
	refused(paid, events.CodeInvalidRequest)

	e := h.charge(say("rfd_a", events.ChargeStatusFailed))
	r := e.Data.Refund
	if e.Type != events.ChargeRefundFailed || r == nil || r.Status != events.RefundFailed || r.Failure.Code != events.FailureResolved ||
		r.Resolution == nil || r.Resolution.Operator != "anna" || !r.Resolution.At.Equal(e.Time) || e.Data.Charge.Review != nil || e.Data.Charge.Refundable() != 1900 {
		t.Fatalf("resolved as %+v, %+v", r, e.Data.Charge)
	}
	if again, err := events.DecideCharge(h.last(), say("rfd_a", events.ChargeStatusFailed), h.cause("cmd_y")); again != nil || err != nil {
		t.Errorf("the same again: %+v, %v", again, err)
	}
	bert := say("rfd_a", events.ChargeStatusFailed)
	bert.Operator = "bert"
	refused(bert, events.CodeChargeNotResolvable)

	e = h.charge(refundReport("rfd_a", "re_1", 900, events.RefundSucceeded))
	c := e.Data.Charge
	if len(c.Refunds) != 2 || c.AmountRefunded != 900 || c.Refunds[0].Status != events.RefundFailed || c.Refunds[0].Resolution == nil ||
		c.Refunds[1].ID != events.ReportedRefundID(provider, "re_1") || c.Refunds[1].Resolution != nil {
		t.Errorf("the provider knows it after all: %+v", c.Refunds)
	}
}

// On a charge that is flagged as a second payment the flag says nothing of the refund: the time does.
func TestResolveRefundOfASecondPayment(t *testing.T) {
	t.Parallel()
	h := paidCharge(t)
	h.charge(events.RequestReview{Reason: events.ReviewSecondPayment, RelatedChargeID: "chg_0", Proposal: events.ProposalRefund})
	h.charge(events.RefundCharge{RefundID: "rfd_a", Amount: 1900, CommandDigest: "1"})
	in := resolve(events.ChargeStatusFailed)
	in.RefundID = "rfd_a"
	_, err := events.DecideCharge(h.last(), in, h.cause("cmd_x"))
	wantCode(t, err, events.CodeChargeNotResolvable)
	h.now = h.now.Add(events.RefundDoubt)
	if e := h.charge(in); e.Data.Charge.Review == nil || e.Data.Charge.Review.Reason != events.ReviewSecondPayment {
		t.Errorf("the second payment is still there: %+v", e.Data.Charge)
	}
}

// A second payment whose refund comes back is a second payment again, and a person is asked in the same event.
func TestReviewOfASecondPaymentComesBack(t *testing.T) {
	t.Parallel()
	twice := events.RequestReview{Reason: events.ReviewSecondPayment, RelatedChargeID: "chg_0", Proposal: events.ProposalRefund}
	h := paidCharge(t)
	h.charge(twice)
	refunded := h.charge(refundReport("rfd_a", "re_1", 1900, events.RefundSucceeded)).Data.Charge
	if refunded.Review != nil || refunded.SecondPaymentOf != "chg_0" {
		t.Fatalf("refunded: %+v", refunded)
	}
	h.now = h.now.Add(time.Hour)
	e := h.charge(refundReport("rfd_a", "re_1", 1900, events.RefundFailed))
	want := events.Review{Reason: events.ReviewSecondPayment, RequestedAt: e.Time, RelatedChargeID: "chg_0", Proposal: events.ProposalRefund}
	if got := e.Data.Charge.Review; e.Type != events.ChargeRefundFailed || got == nil || *got != want {
		t.Errorf("%s: the review is %+v, want %+v", e.Type, got, want)
	}
	if again := h.charge(twice); again != nil {
		t.Errorf("asked twice: %s", again.Type)
	}
}

// That a second payment stays is an operator's to say, also after a part of it was refunded; then nothing is left to look
// at. It names no other payment.
func TestSecondPaymentIsKept(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	for _, in := range []events.ChargeInput{
		createCharge(""), payment(events.PaymentRequiresConfirmation), payment(events.PaymentSucceeded),
		events.RequestReview{Reason: events.ReviewSecondPayment, RelatedChargeID: "chg_0", Proposal: events.ProposalRefund},
		events.RefundObserved{RefundID: "r", Report: events.RefundReport{ID: "re_1", Amount: 900, Status: events.RefundSucceeded}},
	} {
		h.charge(in)
	}
	other := resolve(events.ChargeStatusSucceeded)
	other.ProviderPaymentID = "pi_9"
	if e, err := events.DecideCharge(h.last(), other, h.cause("cmd_1")); e != nil || err == nil {
		t.Errorf("by another payment: %+v", e)
	}
	h.charge(resolve(events.ChargeStatusSucceeded))
	e := h.last()
	c := e.Data.Charge
	if e.Type != events.ChargeUpdated || c.Status != events.ChargeStatusSucceeded || c.Review != nil || c.Resolution == nil ||
		c.Resolution.Operator != "anna" || c.Resolution.Outcome != events.ChargeStatusSucceeded || !c.Resolution.At.Equal(e.Time) {
		t.Errorf("%s: %+v", e.Type, c)
	}
}
