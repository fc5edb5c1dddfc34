package events_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/paykit-go/paykit/internal/events"
)

const provider = "stripe"

// start is the instant at which the tests' histories begin.
func start() time.Time { return time.Date(2026, 11, 22, 6, 14, 0, 123456789, time.UTC) }

func customer() events.CustomerRef {
	return events.CustomerRef{ID: events.CustomerID("user_123"), ReferenceID: "user_123"}
}

// history is one entity's events, stored as they are decided.
type history struct {
	t    testing.TB
	list []*events.Event
	now  time.Time
}

func newHistory(t testing.TB) *history { //nolint:thelper // makes the helper
	return &history{t: t, now: start()}
}

func (h *history) last() *events.Event {
	if len(h.list) == 0 {
		return nil
	}
	return h.list[len(h.list)-1]
}

func (h *history) cause(command string) events.Cause {
	h.now = h.now.Add(1500 * time.Millisecond)
	return events.Cause{Now: h.now, Source: "/paykit/test", CommandID: command, CausationID: "evt_1", Customer: customer()}
}

// add stores what was decided, through the bytes, and checks the envelope on the way.
func (h *history) add(e *events.Event, err error) *events.Event {
	h.t.Helper()
	if err != nil {
		h.t.Fatalf("decide: %v", err)
	}
	if e == nil {
		return nil
	}
	b, err := e.Encode()
	if err != nil {
		h.t.Fatal(err)
	}
	stored, err := events.Decode(b)
	if err != nil {
		h.t.Fatalf("decode %s: %v", b, err)
	}
	version, digest := 1, ""
	if last := h.last(); last != nil {
		version, digest = last.EntityVersion+1, last.Digest()
		if stored.Time.Before(last.Time) {
			h.t.Fatalf("%s runs back to %s", stored.Type, stored.Time)
		}
	}
	if stored.EntityVersion != version || stored.PreviousDigest != digest {
		h.t.Fatalf("%s has version %d and digest %q, want %d and %q", stored.Type, stored.EntityVersion, stored.PreviousDigest, version, digest)
	}
	if stored.Digest() != events.Digest(b) {
		h.t.Fatalf("digest of %s is not that of its bytes", stored.Type)
	}
	h.list = append(h.list, stored)
	return stored
}

func (h *history) charge(in events.ChargeInput) *events.Event {
	h.t.Helper()
	return h.add(events.DecideCharge(h.last(), in, h.cause("")))
}

func (h *history) types() []events.Type {
	var list []events.Type
	for _, e := range h.list {
		list = append(list, e.Type)
	}
	return list
}

func createCharge(returnURL string) events.CreateCharge {
	return events.CreateCharge{
		ID: events.ChargeID("k"), ProviderID: provider, PaymentMethodID: events.PaymentMethodID(provider, "pm_1"),
		Amount: 1900, Currency: "usd", Description: "March usage", ReturnURL: returnURL, CommandDigest: "sha256:aa",
	}
}

func payment(status events.PaymentStatus) events.PaymentObserved {
	return events.PaymentObserved{
		ID: events.ChargeID("k"), ProviderID: provider,
		Payment: events.Payment{
			ID: "pi_1", ChargeID: "ch_1", Status: status, Amount: 1900, Currency: "usd", ProviderMethodID: "pm_1",
		},
	}
}

func declined(code, declineCode string) events.PaymentObserved {
	p := payment(events.PaymentRequiresMethod)
	p.Payment.Failure = &events.Failure{Code: code, DeclineCode: declineCode, Message: "jane@example.com was declined"}
	return p
}

func action(url string) events.PaymentObserved {
	p := payment(events.PaymentRequiresAction)
	p.Payment.ActionURL = url
	return p
}

func TestChargeHistories(t *testing.T) {
	t.Parallel()
	refund := func(id string, status events.RefundStatus) events.RefundObserved {
		return events.RefundObserved{RefundID: id, Report: events.RefundReport{ID: "re_" + id, Amount: 900, Status: status}}
	}
	dispute := func(status string) events.DisputeObserved {
		return events.DisputeObserved{Report: events.DisputeReport{ID: "dp_1", Amount: 1900, Status: status, Reason: "fraudulent"}}
	}
	other := payment(events.PaymentCanceled)
	other.Payment.ID = "pi_2"
	otherPaid := payment(events.PaymentSucceeded)
	otherPaid.Payment.ID = "pi_2"
	abandoned := payment(events.PaymentCanceled)
	abandoned.Payment.Abandoned = true
	create, back := createCharge(""), createCharge("https://app.example.com/back")
	for _, tc := range []struct {
		name   string
		in     []events.ChargeInput
		want   []events.Type
		status events.ChargeStatus
	}{
		{
			"two steps",
			[]events.ChargeInput{create, payment(events.PaymentRequiresConfirmation), payment(events.PaymentSucceeded)},
			[]events.Type{"charge.requested", "charge.processing", "charge.succeeded"},
			"succeeded",
		},
		{
			"every report twice",
			[]events.ChargeInput{
				create, create, payment(events.PaymentRequiresConfirmation), payment(events.PaymentRequiresConfirmation),
				payment(events.PaymentSucceeded), payment(events.PaymentSucceeded),
			},
			[]events.Type{"charge.requested", "charge.processing", "charge.succeeded"},
			"succeeded",
		},
		{
			"webhook before the answer",
			[]events.ChargeInput{create, payment(events.PaymentSucceeded), payment(events.PaymentRequiresConfirmation), payment(events.PaymentProcessing)},
			[]events.Type{"charge.requested", "charge.succeeded"},
			"succeeded",
		},
		{
			"declined",
			[]events.ChargeInput{create, payment(events.PaymentRequiresConfirmation), declined("card_declined", "generic_decline"), payment(events.PaymentCanceled)},
			[]events.Type{"charge.requested", "charge.processing", "charge.failed"},
			"failed",
		},
		{
			"declined and yet paid",
			[]events.ChargeInput{create, declined("card_declined", ""), payment(events.PaymentSucceeded)},
			[]events.Type{"charge.requested", "charge.failed", "charge.succeeded"},
			"succeeded",
		},
		{
			"authentication without a way back",
			[]events.ChargeInput{create, payment(events.PaymentRequiresConfirmation), declined("authentication_required", "")},
			[]events.Type{"charge.requested", "charge.processing", "charge.failed"},
			"failed",
		},
		{
			"authentication with a way back",
			[]events.ChargeInput{
				back, payment(events.PaymentRequiresConfirmation), declined("authentication_required", ""), action("https://bank"), action("https://bank"),
				declined("authentication_required", ""), payment(events.PaymentSucceeded),
			},
			[]events.Type{"charge.requested", "charge.processing", "charge.requires_action", "charge.succeeded"},
			"succeeded",
		},
		{
			"authentication failed",
			[]events.ChargeInput{back, action("https://bank"), declined("payment_intent_authentication_failure", "")},
			[]events.Type{"charge.requested", "charge.requires_action", "charge.failed"},
			"failed",
		},
		{
			"action expired",
			[]events.ChargeInput{back, action("https://bank"), abandoned},
			[]events.Type{"charge.requested", "charge.requires_action", "charge.canceled"},
			"canceled",
		},
		{
			"unanswered, then settled",
			[]events.ChargeInput{create, payment(events.PaymentRequiresConfirmation), events.ConfirmUnanswered{}, payment(events.PaymentProcessing), payment(events.PaymentSucceeded)},
			[]events.Type{"charge.requested", "charge.processing", "charge.in_doubt", "charge.succeeded"},
			"succeeded",
		},
		{
			"in doubt and action change places",
			[]events.ChargeInput{back, events.ConfirmUnanswered{}, action("https://bank"), events.ConfirmUnanswered{}},
			[]events.Type{"charge.requested", "charge.in_doubt", "charge.requires_action", "charge.in_doubt"},
			"in_doubt",
		},
		{
			"a doubt after the end is none",
			[]events.ChargeInput{create, payment(events.PaymentSucceeded), events.ConfirmUnanswered{}, events.ChargeRejected{}, events.CancelCharge{}},
			[]events.Type{"charge.requested", "charge.succeeded"},
			"succeeded",
		},
		{
			"canceled",
			[]events.ChargeInput{create, events.CancelCharge{}, events.CancelCharge{}, payment(events.PaymentCanceled), events.CancelCharge{}},
			[]events.Type{"charge.requested", "charge.cancel_requested", "charge.canceled"},
			"canceled",
		},
		{
			"another payment is ignored unless it is money",
			[]events.ChargeInput{create, payment(events.PaymentRequiresConfirmation), other, otherPaid},
			[]events.Type{"charge.requested", "charge.processing", "charge.succeeded"},
			"succeeded",
		},
		{
			"a foreign charge begins at its success",
			[]events.ChargeInput{payment(events.PaymentProcessing), declined("card_declined", ""), payment(events.PaymentSucceeded)},
			[]events.Type{"charge.succeeded"},
			"succeeded",
		},
		{
			"rejected",
			[]events.ChargeInput{create, events.ChargeRejected{Failure: events.NewFailure(events.FailureProviderRejected, "")}},
			[]events.Type{"charge.requested", "charge.failed"},
			"failed",
		},
		{
			"refunds",
			[]events.ChargeInput{
				create, payment(events.PaymentSucceeded),
				events.RefundCharge{RefundID: "a", Amount: 900, CommandDigest: "1"},
				events.RefundCharge{RefundID: "a", Amount: 900, CommandDigest: "1"},
				refund("a", events.RefundPending), refund("a", events.RefundSucceeded), refund("a", events.RefundPending),
				events.RefundTotalObserved{Total: 900},
				events.RefundTotalObserved{Total: 1800},
				events.RefundTotalObserved{Total: 1800},
				refund("b", events.RefundSucceeded), refund("a", events.RefundFailed), refund("a", events.RefundSucceeded),
			},
			[]events.Type{
				"charge.requested", "charge.succeeded", "charge.refund_requested", "charge.updated", "charge.refunded",
				"charge.refresh_requested", "charge.refunded", "charge.refund_failed",
			},
			"succeeded",
		},
		{
			"disputes",
			[]events.ChargeInput{
				create, payment(events.PaymentSucceeded), dispute("needs_response"), dispute("needs_response"), dispute("under_review"),
				dispute("won"), dispute("under_review"), dispute("won"),
			},
			[]events.Type{"charge.requested", "charge.succeeded", "charge.disputed", "charge.disputed", "charge.dispute_closed"},
			"succeeded",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h := newHistory(t)
			for _, in := range tc.in {
				h.charge(in)
			}
			if got := h.types(); !slices.Equal(got, tc.want) {
				t.Fatalf("events\n got %v\nwant %v", got, tc.want)
			}
			if got := h.last().Data.Charge.Status; got != tc.status {
				t.Errorf("status %s, want %s", got, tc.status)
			}
		})
	}
}

func TestChargeDetails(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	h.charge(createCharge("https://app.example.com/back"))
	e := h.charge(action("https://bank.example/1"))
	if a := e.Data.Charge.Action; a == nil || a.URL != "https://bank.example/1" || a.ExpiresAt.Sub(e.Time) != events.ActionLife {
		t.Errorf("action %+v", a)
	}
	e = h.charge(declined("card_declined", "insufficient_funds"))
	f := e.Data.Charge.Failure
	if f == nil || f.Code != "card_declined" || f.DeclineCode != "insufficient_funds" || f.Message != events.FailureMessage("card_declined", "insufficient_funds") {
		t.Errorf("failure %+v: the provider's own text must not be copied", f)
	}
	if e.Data.Charge.Action != nil {
		t.Error("the action is still there after the end")
	}
	e = h.charge(payment(events.PaymentSucceeded))
	if c := e.Data.Charge; c.Failure != nil || c.ProviderPaymentID != "pi_1" || c.ProviderChargeID != "ch_1" || c.Amount != 1900 {
		t.Errorf("succeeded %+v", c)
	}
	otherPaid := payment(events.PaymentSucceeded)
	otherPaid.Payment.ID = "pi_2"
	if _, err := events.DecideCharge(h.last(), otherPaid, h.cause("")); !errors.Is(err, events.ErrOtherPayment) {
		t.Errorf("a second paid payment gives %v, want ErrOtherPayment", err)
	}
	abandoned := payment(events.PaymentCanceled)
	abandoned.Payment.Abandoned = true
	g := newHistory(t)
	g.charge(createCharge("https://app.example.com/back"))
	g.charge(action("https://bank.example/1"))
	if e := g.charge(abandoned); e.Data.Charge.Failure == nil || e.Data.Charge.Failure.Code != events.FailureActionExpired {
		t.Errorf("failure of an abandoned charge: %+v", e.Data.Charge.Failure)
	}
}

func TestCheckoutsChargeCopiesTheAppsWords(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	in := payment(events.PaymentSucceeded)
	in.Checkout = &events.Checkout{Base: events.Base{ID: events.CheckoutID("k")}, Description: "Starter plan", Metadata: map[string]string{"plan": "starter"}}
	c := h.charge(in).Data.Charge
	if c.CheckoutID != events.CheckoutID("k") || c.Description != "Starter plan" || c.Metadata["plan"] != "starter" || c.ReportedByProvider {
		t.Errorf("%+v", c)
	}
	h = newHistory(t)
	c = h.charge(payment(events.PaymentSucceeded)).Data.Charge
	if !c.ReportedByProvider || c.Description != "" || c.PaymentMethodID != events.PaymentMethodID(provider, "pm_1") {
		t.Errorf("foreign %+v", c)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	open := newHistory(t)
	open.charge(createCharge(""))
	paid := newHistory(t)
	paid.charge(createCharge(""))
	paid.charge(payment(events.PaymentSucceeded))
	disputed := newHistory(t)
	disputed.charge(createCharge(""))
	disputed.charge(payment(events.PaymentSucceeded))
	disputed.charge(events.DisputeObserved{Report: events.DisputeReport{ID: "dp_1", Status: "needs_response", Amount: 1900}})
	spent := newHistory(t)
	spent.charge(createCharge(""))
	spent.charge(payment(events.PaymentSucceeded))
	spent.charge(events.RefundCharge{RefundID: "all", CommandDigest: "sha256:aa"})
	many := newHistory(t)
	many.charge(createCharge(""))
	many.charge(payment(events.PaymentSucceeded))
	for i := range events.MaxRefunds {
		many.charge(events.RefundCharge{RefundID: fmt.Sprint(i), Amount: 1})
	}
	otherBody := createCharge("")
	otherBody.CommandDigest = "sha256:bb"
	for _, tc := range []struct {
		name string
		last *events.Event
		in   events.ChargeInput
		code events.Code
	}{
		{"same key, other body", open.last(), otherBody, events.CodeIdempotencyConflict},
		{"refund of nothing", nil, events.RefundCharge{RefundID: "r"}, events.CodeChargeNotFound},
		{"refund before success", open.last(), events.RefundCharge{RefundID: "r"}, events.CodeChargeNotRefundable},
		{"refund too large", paid.last(), events.RefundCharge{RefundID: "r", Amount: 1901}, events.CodeRefundTooLarge},
		{"refund while disputed", disputed.last(), events.RefundCharge{RefundID: "r"}, events.CodeChargeNotRefundable},
		{"nothing left", spent.last(), events.RefundCharge{RefundID: "r"}, events.CodeChargeNotRefundable},
		{"refund key with another body", spent.last(), events.RefundCharge{RefundID: "all", CommandDigest: "x"}, events.CodeIdempotencyConflict},
		{"too many refunds", many.last(), events.RefundCharge{RefundID: "r", Amount: 1}, events.CodeRefundLimit},
		{"cancel of nothing", nil, events.CancelCharge{}, events.CodeChargeNotFound},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			e, err := events.DecideCharge(tc.last, tc.in, events.Cause{Now: start(), Customer: customer()})
			refusal, ok := errors.AsType[*events.Error](err)
			if e != nil || !ok || refusal.Code != tc.code {
				t.Errorf("got %v, %v; want %s", e, err, tc.code)
			}
		})
	}
}

// Whatever is reported, in whatever order and however often: the rank never falls, success stays, versions have no
// gap, the refunded sum is the sum, and no decision changes the event it was made from.
func TestChargeProperties(t *testing.T) {
	t.Parallel()
	ranks := []events.ChargeStatus{"requested", "processing", "requires_action", "failed", "succeeded"}
	rank := func(s events.ChargeStatus) int {
		if s == events.ChargeStatusInDoubt {
			s = events.ChargeStatusRequiresAction
		}
		if s == events.ChargeStatusCanceled {
			s = events.ChargeStatusFailed
		}
		return slices.Index(ranks, s)
	}
	rapid.Check(t, func(rt *rapid.T) {
		h := newHistory(t)
		create := createCharge(rapid.SampledFrom([]string{"", "https://app.example.com/back"}).Draw(rt, "back"))
		n := rapid.IntRange(1, 30).Draw(rt, "n")
		before := -1
		for range n {
			in := anyChargeInput(create).Draw(rt, "in")
			last := h.last()
			var bytes []byte
			if last != nil {
				bytes, _ = last.Encode()
			}
			e, err := events.DecideCharge(last, in, h.cause(""))
			if last != nil {
				if after, _ := last.Encode(); string(after) != string(bytes) {
					rt.Fatalf("deciding on %T changed the last event", in)
				}
			}
			if err != nil {
				continue
			}
			if e = h.add(e, nil); e == nil {
				continue
			}
			c := e.Data.Charge
			if r := rank(c.Status); r < before {
				rt.Fatalf("%T lowered the rank: %v", in, h.types())
			} else {
				before = r
			}
			var refunded int64
			for _, r := range c.Refunds {
				if r.Status == events.RefundSucceeded {
					refunded += r.Amount
				}
			}
			if refunded != c.AmountRefunded {
				rt.Fatalf("amountRefunded %d, refunds sum to %d", c.AmountRefunded, refunded)
			}
			// The same again is nothing to do.
			if _, again := in.(events.ConfirmUnanswered); !again {
				if e2, err := events.DecideCharge(e, in, h.cause("")); e2 != nil && err == nil {
					rt.Fatalf("%T twice gives %s twice", in, e2.Type)
				}
			}
		}
	})
}

func anyChargeInput(create events.CreateCharge) *rapid.Generator[events.ChargeInput] {
	return rapid.Custom(func(t *rapid.T) events.ChargeInput {
		id := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "refund")
		switch rapid.IntRange(0, 10).Draw(t, "kind") {
		case 0:
			return create
		case 1:
			return events.CancelCharge{}
		case 2:
			return events.ConfirmUnanswered{}
		case 3:
			return events.RefundCharge{RefundID: id, Amount: rapid.Int64Range(0, 2000).Draw(t, "amount")}
		case 4:
			return events.RefundObserved{RefundID: id, Report: events.RefundReport{
				ID: "re_" + id, Amount: 300, Status: rapid.SampledFrom([]events.RefundStatus{
					events.RefundPending, events.RefundSucceeded, events.RefundFailed, events.RefundCanceled,
				}).Draw(t, "status"),
			}}
		case 5:
			return events.RefundTotalObserved{Total: rapid.Int64Range(0, 2000).Draw(t, "total")}
		case 6:
			return events.DisputeObserved{Report: events.DisputeReport{
				ID: "dp_" + id, Amount: 1900, Status: rapid.SampledFrom([]string{"needs_response", "under_review", "won", "lost"}).Draw(t, "status"),
			}}
		case 7:
			return declined(rapid.SampledFrom([]string{"card_declined", "authentication_required", "payment_intent_authentication_failure"}).Draw(t, "code"), "")
		case 8:
			return action("https://bank.example/" + id)
		case 9:
			return events.ChargeRejected{Failure: events.NewFailure(events.FailureProviderRejected, "")}
		}
		p := payment(rapid.SampledFrom([]events.PaymentStatus{
			events.PaymentRequiresConfirmation, events.PaymentProcessing, events.PaymentSucceeded, events.PaymentCanceled, events.PaymentRequiresMethod,
		}).Draw(t, "status"))
		p.Payment.ID = rapid.SampledFrom([]string{"pi_1", "pi_1", "pi_2"}).Draw(t, "payment")
		return p
	})
}
