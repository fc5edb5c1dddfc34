package events_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/paykit-go/paykit/internal/events"
)

func disputeSeen(id, status string, funds events.DisputeFunds) events.DisputeObserved {
	return events.DisputeObserved{Report: events.DisputeReport{ID: id, Amount: 1900, Status: status, Reason: "fraudulent", Funds: funds}}
}

// A dispute's deliveries in every order, each once or twice, end with the same snapshot, and its end is one event.
func TestDisputeDeliveriesInAnyOrder(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		reports []events.DisputeObserved
		want    events.Dispute
	}{
		{"lost", []events.DisputeObserved{
			disputeSeen("dp_1", "needs_response", ""), disputeSeen("dp_1", "under_review", events.FundsWithdrawn),
			disputeSeen("dp_1", "needs_response", events.FundsWithdrawn), disputeSeen("dp_1", "lost", events.FundsWithdrawn),
		}, events.Dispute{Status: "lost", Funds: events.FundsWithdrawn}},
		{"won", []events.DisputeObserved{
			disputeSeen("dp_1", "needs_response", ""), disputeSeen("dp_1", "needs_response", events.FundsWithdrawn),
			disputeSeen("dp_1", "under_review", ""), disputeSeen("dp_1", "won", events.FundsReinstated), disputeSeen("dp_1", "won", ""),
		}, events.Dispute{Status: "won", Funds: events.FundsReinstated}},
		{"an inquiry that becomes a chargeback", []events.DisputeObserved{
			disputeSeen("dp_1", "warning_needs_response", ""), disputeSeen("dp_1", "warning_closed", ""),
			disputeSeen("dp_1", "needs_response", ""), disputeSeen("dp_1", "needs_response", events.FundsWithdrawn), disputeSeen("dp_1", "lost", ""),
		}, events.Dispute{Status: "lost", Funds: events.FundsWithdrawn}},
		{"an inquiry that closes", []events.DisputeObserved{
			disputeSeen("dp_1", "warning_needs_response", ""), disputeSeen("dp_1", "warning_under_review", ""), disputeSeen("dp_1", "warning_closed", ""),
		}, events.Dispute{Status: "warning_closed"}},
		{"prevented", []events.DisputeObserved{
			disputeSeen("dp_1", "needs_response", ""), disputeSeen("dp_1", "prevented", ""),
		}, events.Dispute{Status: "prevented"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			want := tc.want
			want.Amount, want.Reason, want.ProviderDisputeID = 1900, "fraudulent", "dp_1"
			tried := 0
			permutations(tc.reports, func(order []events.DisputeObserved) {
				tried++
				h := paidCharge(t)
				for i, in := range order {
					h.charge(in)
					if i%2 == tried%2 {
						if e := h.charge(in); e != nil {
							t.Fatalf("%v: %s by a duplicate", order, e.Type)
						}
					}
				}
				if diff := cmp.Diff([]events.Dispute{want}, h.last().Data.Charge.Disputes); diff != "" {
					t.Fatalf("%v:\n%s", order, diff)
				}
				ended := 0
				for _, e := range h.list {
					if e.Type == events.ChargeDisputeClosed && e.Data.Dispute.Status == want.Status {
						ended++
					}
				}
				if ended != 1 {
					t.Fatalf("%v: it ended %d times", order, ended)
				}
			})
			if tried < 2 {
				t.Fatal("no orders")
			}
		})
	}
}

// Money that moves without a change of the dispute itself is charge.updated, which names the dispute.
func TestDisputeWhoseMoneyIsMoved(t *testing.T) {
	t.Parallel()
	h := paidCharge(t)
	var got []string
	for _, in := range []events.DisputeObserved{
		disputeSeen("dp_1", "needs_response", ""),
		disputeSeen("dp_1", "needs_response", events.FundsWithdrawn),
		disputeSeen("dp_1", "needs_response", ""), // an older report
		disputeSeen("dp_1", "won", ""),
		disputeSeen("dp_1", "won", events.FundsReinstated),
		disputeSeen("dp_1", "needs_response", events.FundsWithdrawn), // another older one
	} {
		if e := h.charge(in); e != nil {
			if e.Data.Dispute == nil || *e.Data.Dispute != e.Data.Charge.Disputes[0] {
				t.Fatalf("%s names %+v, the charge has %+v", e.Type, e.Data.Dispute, e.Data.Charge.Disputes)
			}
			got = append(got, string(e.Type)+" "+e.Data.Dispute.Status+" "+string(e.Data.Dispute.Funds))
		}
	}
	want := []string{
		"charge.disputed needs_response ", "charge.updated needs_response withdrawn", "charge.dispute_closed won withdrawn",
		"charge.updated won reinstated",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Old events, which know nothing of where the money is, are read and written as they were.
func TestDisputeWithoutFundsKeepsItsBytes(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(events.Dispute{Status: "won", Amount: 5, ProviderDisputeID: "dp_1"})
	if want := `{"status":"won","amount":5,"providerDisputeId":"dp_1"}`; err != nil || string(b) != want {
		t.Errorf("%s %v", b, err)
	}
}

// Several disputes of one charge go on each by itself; while any is open, nothing is refunded.
func TestSeveralDisputesOfACharge(t *testing.T) {
	t.Parallel()
	h := paidCharge(t)
	part := func(id, status string, amount int64) events.DisputeObserved {
		in := disputeSeen(id, status, "")
		in.Report.Amount = amount
		return in
	}
	refund := func(amount int64) (*events.Event, error) {
		return events.DecideCharge(h.last(), events.RefundCharge{RefundID: "rfd_a", Amount: amount, CommandDigest: "1"}, h.cause(""))
	}
	h.charge(part("dp_1", "needs_response", 400))
	h.charge(part("dp_2", "warning_needs_response", 500))
	h.charge(part("dp_1", "lost", 400))
	_, err := refund(1)
	wantCode(t, err, events.CodeChargeNotRefundable)
	h.charge(part("dp_2", "warning_closed", 500))
	c := h.last().Data.Charge
	if len(c.Disputes) != 2 || c.Disputes[0].Status != "lost" || c.Disputes[1].Status != "warning_closed" || c.DisputeOpen() {
		t.Fatalf("%+v", c.Disputes)
	}
	// What the buyer has got through the lost one is not given twice.
	if c.Refundable() != 1500 {
		t.Errorf("%d is left, want 1500", c.Refundable())
	}
	_, err = refund(1501)
	wantCode(t, err, events.CodeRefundTooLarge)
	if e, err := refund(0); err != nil || e.Data.Refund.Amount != 1500 {
		t.Errorf("all that is left: %+v, %v", e, err)
	}
}

// What can be refunded by how a dispute of the whole amount stands, and what a refusal says.
func TestRefundableWhileAndAfterADispute(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		status string
		funds  events.DisputeFunds
		left   int64
		text   string // of the refusal; "" if it is refunded
	}{
		{"needs_response", events.FundsWithdrawn, 1900, "a dispute of the charge is open; the money is already held back, so a refund now could pay the buyer twice"},
		{"under_review", "", 1900, "a dispute of the charge is open; the money is already held back, so a refund now could pay the buyer twice"},
		{"warning_needs_response", "", 1900, "an inquiry about the charge is open and can become a dispute, which would take the money as well; answer it at the provider first"},
		{"warning_under_review", "", 1900, "an inquiry about the charge is open and can become a dispute, which would take the money as well; answer it at the provider first"},
		{"warning_closed", "", 1900, ""},
		{"won", events.FundsWithdrawn, 1900, ""},
		{"won", events.FundsReinstated, 1900, ""},
		{"charge_refunded", "", 1900, ""},
		{"prevented", "", 1900, ""},
		{"prevented", events.FundsWithdrawn, 0, "nothing is left to refund: the buyer has got 1900 back through a dispute"},
		{"lost", events.FundsWithdrawn, 0, "nothing is left to refund: the buyer has got 1900 back through a dispute"},
		{"lost", "", 0, "nothing is left to refund: the buyer has got 1900 back through a dispute"},
		{"lost", events.FundsReinstated, 1900, ""}, // the bank has taken it back
	} {
		h := paidCharge(t)
		h.charge(disputeSeen("dp_1", tc.status, tc.funds))
		if got := h.last().Data.Charge.Refundable(); got != tc.left {
			t.Errorf("%s %s: %d is left, want %d", tc.status, tc.funds, got, tc.left)
		}
		e, err := events.DecideCharge(h.last(), events.RefundCharge{RefundID: "rfd_a", CommandDigest: "1"}, h.cause(""))
		if tc.text == "" {
			if err != nil || e.Type != events.ChargeRefundRequested {
				t.Errorf("%s: refund: %v", tc.status, err)
			}
			continue
		}
		wantCode(t, err, events.CodeChargeNotRefundable)
		if want := "charge_not_refundable (chargeId): " + tc.text; err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", tc.status, err, want)
		}
	}
}

// A warning is told once, and once more when nothing is left to be done about it, whatever the order of its reports.
func TestFraudWarnings(t *testing.T) {
	t.Parallel()
	seen := func(id string, actionable bool) events.FraudWarningObserved {
		return events.FraudWarningObserved{Report: events.FraudWarningReport{ID: id, Type: "made_with_stolen_card", Actionable: actionable}}
	}
	permutations([]events.FraudWarningObserved{seen("issfr_1", true), seen("issfr_1", true), seen("issfr_1", false), seen("issfr_2", true)}, func(order []events.FraudWarningObserved) {
		h := paidCharge(t)
		for _, in := range order {
			e := h.charge(in)
			if e == nil {
				continue
			}
			if e.Type != events.ChargeFraudWarned || !slices.Contains(e.Data.Charge.FraudWarnings, *e.Data.FraudWarning) || e.Data.Charge.Status != events.ChargeStatusSucceeded {
				t.Fatalf("%v: %s %+v", order, e.Type, e.Data)
			}
			if e := h.charge(in); e != nil {
				t.Fatalf("%v: %s by a duplicate", order, e.Type)
			}
		}
		got := slices.Clone(h.last().Data.Charge.FraudWarnings)
		slices.SortFunc(got, func(a, b events.FraudWarning) int {
			if a.ProviderWarningID < b.ProviderWarningID {
				return -1
			}
			return 1
		})
		want := []events.FraudWarning{
			{ProviderWarningID: "issfr_1", Type: "made_with_stolen_card"},
			{ProviderWarningID: "issfr_2", Type: "made_with_stolen_card", Actionable: true},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%v:\n%s", order, diff)
		}
	})
	if h := paidCharge(t); h.charge(seen("issfr_1", true)).Data.Charge.DisputeOpen() {
		t.Error("a warning is no dispute: the charge can be refunded")
	}
}

// A refund's life: what failed it, and what of it counts.
func TestRefundFailures(t *testing.T) {
	t.Parallel()
	report := func(status events.RefundStatus, failure *events.Failure) events.RefundObserved {
		in := refundReport("rfd_a", "re_1", 500, status)
		in.Report.Failure = failure
		return in
	}
	expired := events.NewRefundFailure("expired_or_canceled_card", "")
	for _, tc := range []struct {
		name   string
		life   []events.RefundObserved
		events []events.Type
		want   *events.Failure
	}{
		{"failed after it succeeded", []events.RefundObserved{report(events.RefundSucceeded, nil), report(events.RefundFailed, &expired), report(events.RefundSucceeded, nil)}, []events.Type{"charge.refunded", "charge.refund_failed"}, &expired},
		{"failed while pending", []events.RefundObserved{report(events.RefundPending, nil), report(events.RefundFailed, &expired)}, []events.Type{"charge.updated", "charge.refund_failed"}, &expired},
		{"canceled while it waited for the buyer", []events.RefundObserved{report(events.RefundPending, nil), report(events.RefundPending, nil), report(events.RefundCanceled, nil), report(events.RefundFailed, &expired)}, []events.Type{"charge.updated", "charge.refund_failed"}, nil},
	} {
		h := paidCharge(t)
		h.charge(events.RefundCharge{RefundID: "rfd_a", Amount: 500, CommandDigest: "1"})
		var got []events.Type
		for _, in := range tc.life {
			if e := h.charge(in); e != nil {
				got = append(got, e.Type)
			}
		}
		if diff := cmp.Diff(tc.events, got); diff != "" {
			t.Errorf("%s: %s", tc.name, diff)
		}
		c := h.last().Data.Charge
		if diff := cmp.Diff(tc.want, c.Refund("rfd_a").Failure); diff != "" || c.AmountRefunded != 0 || c.Refundable() != 1900 {
			t.Errorf("%s: %+v %s", tc.name, c, diff)
		}
	}
	if expired.Message == events.NewFailure("expired_or_canceled_card", "").Message {
		t.Error("the text is that of a payment")
	}
}

// A refund that is asked for while another is under way can take what is left beside it, and no more.
func TestRefundWhileAnotherIsUnderWay(t *testing.T) {
	t.Parallel()
	h := paidCharge(t)
	h.charge(events.RefundCharge{RefundID: "rfd_a", Amount: 1500, CommandDigest: "1"})
	_, err := events.DecideCharge(h.last(), events.RefundCharge{RefundID: "rfd_b", Amount: 401, CommandDigest: "2"}, h.cause(""))
	wantCode(t, err, events.CodeRefundTooLarge)
	if e := h.charge(events.RefundCharge{RefundID: "rfd_b", CommandDigest: "2"}); e.Data.Refund.Amount != 400 || e.Data.Charge.Refundable() != 0 {
		t.Fatalf("%+v", e.Data.Refund)
	}
	// The first fails: what it held can be asked for again, and each goes on by itself.
	h.charge(refundReport("rfd_a", "", 1500, events.RefundFailed))
	h.charge(refundReport("rfd_b", "re_b", 400, events.RefundSucceeded))
	if c := h.last().Data.Charge; c.AmountRefunded != 400 || c.Refundable() != 1500 {
		t.Errorf("%+v", c)
	}
}
