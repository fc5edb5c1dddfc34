package events_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/paykit-go/paykit/internal/events"
)

// What was decided before a payment was made must not end a charge whose payment was recorded meanwhile.
func TestCanceledBeforeAPaymentDoesNotEndOneThatHasIt(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	h.charge(createCharge(""))
	h.charge(events.CancelCharge{})
	h.charge(payment(events.PaymentRequiresConfirmation))
	unmade := events.PaymentObserved{ID: events.ChargeID("k"), ProviderID: provider, Payment: events.Payment{Status: events.PaymentCanceled}}
	if e := h.charge(unmade); e != nil {
		t.Errorf("%s, though payment %s can still be confirmed", e.Type, e.Data.Charge.ProviderPaymentID)
	}
	// The provider's own charge names its payment too.
	byCharge := payment(events.PaymentSucceeded)
	byCharge.Payment.ID = ""
	if e := h.charge(byCharge); e == nil || e.Data.Charge.ProviderPaymentID != "pi_1" {
		t.Errorf("a report about the charge's own provider charge: %v", e)
	}
}

// The snapshot of a charge that another payment paid is that payment's: its ids, and what was taken.
func TestAnotherPaymentsSuccessReplacesTheFirst(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	h.charge(createCharge(""))
	h.charge(payment(events.PaymentRequiresConfirmation))
	in := payment(events.PaymentSucceeded)
	in.Payment.ID, in.Payment.ChargeID, in.Payment.Amount, in.Payment.Currency = "pi_2", "", 2500, "eur"
	c := h.charge(in).Data.Charge
	if c.ProviderPaymentID != "pi_2" || c.ProviderChargeID != "" {
		t.Errorf("payment %s with charge %q, want pi_2 without the charge of pi_1", c.ProviderPaymentID, c.ProviderChargeID)
	}
	if c.Amount != 2500 || c.Currency != "eur" || c.Refundable() != 2500 {
		t.Errorf("%d %s, want what was taken: 2500 eur", c.Amount, c.Currency)
	}
	// A report that leaves the amount out says nothing about it.
	h = newHistory(t)
	h.charge(createCharge(""))
	in = payment(events.PaymentSucceeded)
	in.Payment.Amount, in.Payment.Currency = 0, ""
	if c := h.charge(in).Data.Charge; c.Amount != 1900 || c.Currency != "usd" {
		t.Errorf("%d %s, want 1900 usd", c.Amount, c.Currency)
	}
}

// On a hosted page a card is declined, then a delayed method is tried: the decline is detail, however late it comes.
func TestCheckoutsChargeAndAnEarlierTryOnItsPage(t *testing.T) {
	t.Parallel()
	checkout := &events.Checkout{Base: events.Base{ID: events.CheckoutID("k")}}
	on := func(in events.PaymentObserved, chargeID string) events.PaymentObserved {
		in.Checkout, in.Payment.ChargeID = checkout, chargeID
		return in
	}
	h := newHistory(t)
	h.charge(on(payment(events.PaymentProcessing), "py_2"))
	if e := h.charge(on(declined("card_declined", "generic_decline"), "ch_1")); e != nil {
		t.Errorf("%s by a try before the one that is under way", e.Type)
	}
	if e := h.charge(on(action("https://bank.example/1"), "py_2")); e != nil {
		t.Errorf("%s: the page asks the buyer itself", e.Type)
	}
	if e := h.charge(on(declined("payment_failed", ""), "py_2")); e == nil || e.Type != events.ChargeFailed {
		t.Errorf("the try under way failed: %v", e)
	}
}

func refundReport(id, providerID string, amount int64, status events.RefundStatus) events.RefundObserved {
	return events.RefundObserved{RefundID: id, Report: events.RefundReport{ID: providerID, Amount: amount, Status: status}}
}

func paidCharge(t *testing.T) *history {
	t.Helper()
	h := newHistory(t)
	h.charge(createCharge(""))
	h.charge(payment(events.PaymentSucceeded))
	return h
}

// Two refunds that carry one id of ours, made when the provider had forgotten the first one's key, are both money.
func TestASecondRefundUnderOneIDCounts(t *testing.T) {
	t.Parallel()
	h := paidCharge(t)
	h.charge(events.RefundCharge{RefundID: "rfd_a", Amount: 500, CommandDigest: "1"})
	h.charge(refundReport("rfd_a", "re_1", 500, events.RefundSucceeded))
	e := h.charge(refundReport("rfd_a", "re_2", 500, events.RefundSucceeded))
	if e == nil || e.Data.Charge.AmountRefunded != 1000 || e.Data.Charge.Refundable() != 900 {
		t.Fatalf("the second refund does not count: %+v", h.last().Data.Charge)
	}
	second := events.ReportedRefundID(provider, "re_2")
	if e.Data.Refund.ID != second || e.Data.Refund.ProviderRefundID != "re_2" || e.Data.Charge.Refund("rfd_a").ProviderRefundID != "re_1" {
		t.Errorf("refunds %+v", e.Data.Charge.Refunds)
	}
	if e := h.charge(refundReport("rfd_a", "re_2", 500, events.RefundSucceeded)); e != nil {
		t.Errorf("the same report again: %s", e.Type)
	}
	// Its later word is its own, and not the first one's.
	e = h.charge(refundReport("rfd_a", "re_2", 500, events.RefundFailed))
	if e == nil || e.Type != events.ChargeRefundFailed || e.Data.Refund.ID != second || e.Data.Charge.AmountRefunded != 500 {
		t.Errorf("the second refund failed: %+v", e)
	}
}

// A refund that we gave up as never made can turn up at the provider after all: it is money, and counts.
func TestARefundGivenUpAndFoundLater(t *testing.T) {
	t.Parallel()
	h := paidCharge(t)
	h.charge(events.RefundCharge{RefundID: "rfd_a", Amount: 500, CommandDigest: "1"})
	if e := h.charge(refundReport("rfd_a", "", 500, events.RefundFailed)); e == nil || e.Type != events.ChargeRefundFailed {
		t.Fatalf("given up: %v", e)
	}
	e := h.charge(refundReport("rfd_a", "re_1", 500, events.RefundSucceeded))
	if e == nil || e.Type != events.ChargeRefunded || e.Data.Charge.AmountRefunded != 500 {
		t.Fatalf("found at the provider: %+v", h.last().Data.Charge)
	}
	if r := e.Data.Charge.Refund("rfd_a"); r.Status != events.RefundFailed {
		t.Errorf("the one given up went back to %s", r.Status)
	}
	// And a verdict of ours does not end a refund that the provider is known to have.
	h = paidCharge(t)
	h.charge(events.RefundCharge{RefundID: "rfd_a", Amount: 500, CommandDigest: "1"})
	h.charge(refundReport("rfd_a", "re_1", 500, events.RefundPending))
	if e := h.charge(refundReport("rfd_a", "", 500, events.RefundFailed)); e != nil {
		t.Errorf("%s against the provider's own word", e.Type)
	}
}

// Refunds made elsewhere count, also beyond the charge's amount; then there is nothing left, and never less.
func TestRefundsMadeElsewhereBeyondTheAmount(t *testing.T) {
	t.Parallel()
	h := paidCharge(t)
	h.charge(events.RefundCharge{RefundID: "rfd_a", Amount: 1000, CommandDigest: "1"})
	h.charge(refundReport(events.ReportedRefundID(provider, "re_9"), "re_9", 1900, events.RefundSucceeded))
	_, err := events.DecideCharge(h.last(), events.RefundCharge{RefundID: "rfd_b", Amount: 1, CommandDigest: "2"}, h.cause(""))
	wantCode(t, err, events.CodeChargeNotRefundable)
	if e := h.charge(events.RefundTotalObserved{Total: 1900}); e != nil {
		t.Errorf("%s, though all of the total is known", e.Type)
	}
	e := h.charge(refundReport("rfd_a", "", 1000, events.RefundFailed)) // the provider refused it
	if e.Data.Charge.AmountRefunded != 1900 || e.Data.Charge.Refundable() != 0 {
		t.Errorf("refunded %d, %d left", e.Data.Charge.AmountRefunded, e.Data.Charge.Refundable())
	}
	// Succeeded, then sent back by the buyer's bank: it can be refunded again.
	h.charge(refundReport(events.ReportedRefundID(provider, "re_9"), "re_9", 1900, events.RefundFailed))
	if c := h.last().Data.Charge; c.AmountRefunded != 0 || c.Refundable() != 1900 {
		t.Errorf("refunded %d, %d left", c.AmountRefunded, c.Refundable())
	}
}

// A refund that was known from the provider first is found by the key that led to it.
func TestARefundKnownBeforeItsRequest(t *testing.T) {
	t.Parallel()
	h := paidCharge(t)
	h.charge(refundReport("rfd_a", "re_1", 500, events.RefundSucceeded))
	e, err := events.DecideCharge(h.last(), events.RefundCharge{RefundID: "rfd_a", Amount: 500, CommandDigest: "1"}, h.cause(""))
	if e != nil || err != nil {
		t.Errorf("got %v, %v; want the refund that is there", e, err)
	}
}

// Reports of one dispute in every order end with the last word of its life, and none opens or closes it wrongly.
func TestDisputeInAnyOrder(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		life  []string // as it goes
		final string
	}{
		{"chargeback", []string{"needs_response", "under_review", "won"}, "won"},
		{"inquiry", []string{"warning_needs_response", "warning_under_review", "warning_closed"}, "warning_closed"},
		{"inquiry that becomes a chargeback", []string{"warning_needs_response", "warning_closed", "needs_response", "lost"}, "lost"},
		{"chargeback that is still open", []string{"warning_under_review", "warning_closed", "needs_response"}, "needs_response"},
		{"a word of a later time", []string{"warning_closed", "escalated", "under_review"}, "under_review"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			permutations(tc.life, func(order []string) {
				h := paidCharge(t)
				for _, status := range order {
					report := events.DisputeReport{ID: "dp_1", Amount: 1900, Status: status, Reason: "fraudulent"}
					if e := h.charge(events.DisputeObserved{Report: report}); e != nil {
						closed := slices.Contains([]string{"won", "lost", "warning_closed"}, status)
						if closed != (e.Type == events.ChargeDisputeClosed) {
							t.Errorf("%v: %s by %s", order, e.Type, status)
						}
					}
				}
				if d := h.last().Data.Charge.Disputes; len(d) != 1 || d[0].Status != tc.final {
					t.Errorf("%v ends with %v, want %s", order, d, tc.final)
				}
			})
		})
	}
	// While a chargeback is open, an inquiry's late end must not let a refund through.
	h := paidCharge(t)
	for _, status := range []string{"needs_response", "warning_closed"} {
		h.charge(events.DisputeObserved{Report: events.DisputeReport{ID: "dp_1", Amount: 1900, Status: status}})
	}
	_, err := events.DecideCharge(h.last(), events.RefundCharge{RefundID: "r"}, h.cause(""))
	wantCode(t, err, events.CodeChargeNotRefundable)
	// The disputed amount can change while it is open, and not after.
	h = paidCharge(t)
	var got []events.Type
	for _, r := range []events.DisputeReport{
		{ID: "dp_1", Amount: 1900, Status: "needs_response"},
		{ID: "dp_1", Amount: 1000, Status: "needs_response"},
		{ID: "dp_1", Amount: 1000, Status: "lost"},
		{ID: "dp_1", Amount: 1900, Status: "lost"},
		{ID: "dp_1", Amount: 1900, Status: "won"},
		{ID: "dp_2", Amount: 900, Status: "needs_response"},
	} {
		if e := h.charge(events.DisputeObserved{Report: r}); e != nil {
			got = append(got, e.Type)
		}
	}
	want := []events.Type{"charge.disputed", "charge.disputed", "charge.dispute_closed", "charge.disputed"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func permutations[T any](list []T, yield func([]T)) {
	var walk func(int)
	list = slices.Clone(list)
	walk = func(n int) {
		if n == len(list) {
			yield(slices.Clone(list))
			return
		}
		for i := n; i < len(list); i++ {
			list[n], list[i] = list[i], list[n]
			walk(n + 1)
			list[n], list[i] = list[i], list[n]
		}
	}
	walk(0)
}

// engine is a log of several entities, told of reports as ingest and the worker tell it.
type engine struct {
	t    *testing.T
	last map[string]*events.Event
	all  []*events.Event
	now  time.Time
}

func (g *engine) update(id string, decide func(*events.Event, events.Cause) (*events.Event, error)) {
	g.t.Helper()
	e, err := decide(g.last[id], events.Cause{Now: g.now, Source: "/paykit/test", Customer: customer()})
	if err != nil {
		g.t.Fatal(err)
	}
	if e == nil {
		return
	}
	raw, err := e.Encode()
	if err != nil {
		g.t.Fatal(err)
	}
	stored, err := events.Decode(raw)
	if err != nil {
		g.t.Fatal(err)
	}
	g.last[id] = stored
	g.all = append(g.all, stored)
}

// A paid checkout that saves its method: whatever the order in which its reports come, each once or twice, the final
// snapshots are the same, and each thing that happened is one event.
func TestPaidCheckoutInAnyOrder(t *testing.T) {
	t.Parallel()
	checkout := events.CheckoutID("k")
	charge := events.CheckoutChargeID(checkout)
	saved := events.PaymentMethodID(provider, "pm_1")
	type report struct {
		name  string
		apply func(*engine)
	}
	pays := func(name string, p events.Payment) report {
		return report{name, func(g *engine) {
			g.update(charge, func(last *events.Event, c events.Cause) (*events.Event, error) {
				return events.DecideCharge(last, events.PaymentObserved{
					ID: charge, ProviderID: provider, Checkout: g.last[checkout].Data.Checkout, Payment: p,
				}, c)
			})
		}}
	}
	shows := func(name string, s events.Session) report {
		return report{name, func(g *engine) {
			g.update(checkout, func(last *events.Event, c events.Cause) (*events.Event, error) {
				return events.DecideCheckout(last, events.CheckoutObserved{Session: s}, c)
			})
		}}
	}
	paid := events.Payment{
		ID: "pi_1", ChargeID: "ch_2", ProviderCustomerID: "cus_1", ProviderMethodID: "pm_1",
		Status: events.PaymentSucceeded, Amount: 4900, Currency: "usd",
	}
	declinedFirst := paid
	declinedFirst.ChargeID, declinedFirst.Status = "ch_1", events.PaymentRequiresMethod
	declinedFirst.Failure = &events.Failure{Code: "card_declined"}
	underWay := paid
	underWay.Status = events.PaymentProcessing
	reports := []report{
		shows("session made", session(events.SessionOpen)),
		pays("card declined", declinedFirst),
		pays("payment under way", underWay),
		pays("payment succeeded", paid),
		pays("charge succeeded", paid),
		shows("session completed", paidSession()),
		{"method attached", func(g *engine) {
			g.update(saved, func(last *events.Event, c events.Cause) (*events.Event, error) {
				return events.DecidePaymentMethod(last, method(true, "4242"), c)
			})
		}},
	}
	var want string
	tried := 0
	permutations(reports, func(order []report) {
		tried++
		g := &engine{t: t, last: map[string]*events.Event{}, now: start()}
		g.update(checkout, func(last *events.Event, c events.Cause) (*events.Event, error) {
			return events.DecideCheckout(last, createCheckout(), c)
		})
		var names []string
		for i, r := range order {
			names = append(names, r.name)
			r.apply(g)
			if i%2 == tried%2 {
				r.apply(g)
			}
		}
		var snapshots []string
		for _, id := range []string{checkout, charge, saved} {
			b, err := json.Marshal(g.last[id].Snapshot())
			if err != nil {
				t.Fatal(err)
			}
			snapshots = append(snapshots, string(b))
		}
		counts := map[events.Type]int{}
		for _, e := range g.all {
			counts[e.Type]++
		}
		for _, once := range []events.Type{events.CheckoutCompleted, events.ChargeSucceeded, events.PaymentMethodAttached} {
			if counts[once] != 1 {
				t.Fatalf("%v: %d × %s", names, counts[once], once)
			}
		}
		if counts[events.ChargeFailed] != 0 {
			t.Fatalf("%v: the declined card failed the charge", names)
		}
		got := strings.Join(snapshots, "\n")
		if want == "" {
			want = got
		}
		if got != want {
			t.Fatalf("%v:\n%s", names, cmp.Diff(want, got))
		}
	})
	if tried != 5040 || !strings.Contains(want, `"status":"succeeded"`) || !strings.Contains(want, `"status":"completed"`) {
		t.Errorf("%d orders, ending with\n%s", tried, want)
	}
}

// The same for a setup page.
func TestSetupInAnyOrder(t *testing.T) {
	t.Parallel()
	named := session(events.SessionComplete)
	named.ProviderMethodID = "pm_1"
	reports := []events.SetupInput{
		events.SetupSessionObserved{Session: session(events.SessionOpen)},
		events.SetupSessionObserved{Session: session(events.SessionComplete)},
		events.SetupSessionObserved{Session: named},
		events.SetupIntentObserved{Report: events.SetupReport{ID: "seti_1", Succeeded: true, ProviderMethodID: "pm_1"}},
		events.SetupSessionObserved{Session: session(events.SessionExpired)},
	}
	permutations(reports, func(order []events.SetupInput) {
		h := newHistory(t)
		h.add(events.DecideSetup(nil, createSetup(), h.cause("")))
		for _, in := range order {
			h.add(events.DecideSetup(h.last(), in, h.cause("")))
		}
		s := h.last().Data.Setup
		if s.Status != events.StateCompleted || s.PaymentMethodID != events.PaymentMethodID(provider, "pm_1") || s.URL != "" {
			t.Errorf("%T %v ends with %+v", order[0], h.types(), s)
		}
	})
}

// A clock that runs back does not turn history round, and what is counted from an instant is counted from the later one.
func TestClockRunsBack(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	h.charge(createCharge("https://app.example.com/back"))
	created := h.last().Time
	h.now = h.now.Add(-48 * time.Hour)
	e := h.charge(action("https://bank.example/1"))
	if c := e.Data.Charge; !e.Time.Equal(created) || !c.UpdatedAt.Equal(created) || !c.CreatedAt.Equal(created) ||
		!c.Action.ExpiresAt.Equal(created.Add(events.ActionLife)) {
		t.Errorf("at %s: %+v", e.Time, c)
	}
	if e.ID <= h.list[0].ID[:10] {
		t.Errorf("id %s is of an earlier time than %s", e.ID, h.list[0].ID)
	}
	h.now = created.Add(time.Hour)
	e = h.charge(events.CancelCharge{})
	if c := e.Data.Charge; !c.UpdatedAt.Equal(e.Time) || !c.CancelRequestedAt.Equal(e.Time) || !e.Time.After(created) {
		t.Errorf("at %s: %+v", e.Time, c)
	}
}

// What a request is carried out as, counted in finer time than events carry, is still the same request.
func TestDefaultSetTwiceInFinerTime(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	h.add(events.DecidePaymentMethod(nil, method(true, "4242"), h.cause("")))
	asked := events.DefaultSet{RequestedAt: h.now.Add(time.Hour + 123456*time.Nanosecond)}
	h.add(events.DecidePaymentMethod(h.last(), asked, h.cause("")))
	if e := h.add(events.DecidePaymentMethod(h.last(), asked, h.cause(""))); e != nil {
		t.Errorf("%s twice", e.Type)
	}
}

// correlationid is carried on until another command; causationid is each event's own; one command is not done twice.
func TestCorrelation(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	decide := func(in events.ChargeInput, command, cause string) {
		c := h.cause(command)
		c.CausationID = cause
		h.add(events.DecideCharge(h.last(), in, c))
	}
	decide(createCharge(""), "cmd_create", "")
	decide(payment(events.PaymentRequiresConfirmation), "", "01A")
	decide(events.CancelCharge{}, "cmd_cancel", "")
	decide(payment(events.PaymentSucceeded), "", "evt_1")
	decide(events.RefundCharge{RefundID: "r", Amount: 100}, "cmd_refund", "")
	decide(refundReport("r", "re_1", 100, events.RefundSucceeded), "", "evt_2")
	want := []string{"cmd_create ", "cmd_create 01A", "cmd_cancel ", "cmd_cancel evt_1", "cmd_refund ", "cmd_refund evt_2"}
	var got []string
	for _, e := range h.list {
		got = append(got, e.CorrelationID+" "+e.CausationID)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// A report is never taken for a command, whatever the last event's correlation.
	open := newHistory(t)
	open.add(events.DecideCheckout(nil, createCheckout(), open.cause("")))
	if e := open.add(events.DecideCheckout(open.last(), events.CheckoutObserved{Session: session(events.SessionOpen)}, open.cause(""))); e == nil {
		t.Error("a report about an entity without a command was taken for a repeated one")
	}
	for name, again := range map[string]func(*events.Event, events.Cause) (*events.Event, error){
		"customer": func(last *events.Event, c events.Cause) (*events.Event, error) {
			return events.DecideCustomer(last, events.SyncCustomer{ReferenceID: "user_123", Revision: 1, Changed: []string{"email"}}, c)
		},
		"method": func(last *events.Event, c events.Cause) (*events.Event, error) {
			if last == nil {
				return events.DecidePaymentMethod(nil, method(true, "4242"), c)
			}
			return events.DecidePaymentMethod(last, events.SetDefaultMethod{}, c)
		},
		"rejection": func(last *events.Event, c events.Cause) (*events.Event, error) {
			return events.DecideCommand(last, events.RejectCommand{ID: events.CommandID("v", "k"), Type: "v"}, c)
		},
	} {
		h := newHistory(t)
		h.add(again(nil, h.cause("cmd_1")))
		if e := h.add(again(h.last(), h.cause("cmd_1"))); e != nil {
			t.Errorf("%s: a command delivered twice gave %s", name, e.Type)
		}
	}
}

// The keys of an event are always there where a client looks for them: lists and maps are [] and {}, never null.
func TestNothingIsNull(t *testing.T) {
	t.Parallel()
	all := oneOfEach(t)
	h := newHistory(t)
	bare := newHistory(t)
	bare.add(events.DecideCustomer(nil, events.SyncCustomer{ReferenceID: "user_1"}, bare.cause("")))
	all["bare customer"] = bare.last()
	foreign := h.charge(payment(events.PaymentSucceeded))
	all["foreign charge"] = foreign
	for typ, e := range all {
		raw, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(raw), "null") {
			t.Errorf("%s holds null: %s", typ, raw)
		}
	}
	for _, want := range []string{`"refunds":[]`, `"disputes":[]`, `"metadata":{}`, `"reportedByProvider":true`} {
		if raw, _ := foreign.Encode(); !strings.Contains(string(raw), want) {
			t.Errorf("foreign charge lacks %s", want)
		}
	}
	if raw, _ := bare.last().Encode(); !strings.Contains(string(raw), `"changed":[]`) {
		t.Errorf("a customer of whom nothing is known yet: %s", raw)
	}
}

// An error's code has its status, and prints what a program's log needs.
func TestErrors(t *testing.T) {
	t.Parallel()
	for code, status := range map[events.Code]int{
		"invalid_request": 400, "customer_not_found": 404, "provider_not_found": 404, "payment_method_not_found": 404,
		"charge_not_found": 404, "checkout_not_found": 404, "idempotency_conflict": 409, "charge_not_refundable": 422,
		"refund_too_large": 422, "refund_limit": 422, "personal_data": 422, "overloaded": 429, "internal": 500,
		"storage_full": 503, "timeout": 503,
	} {
		if got := code.Status(); got != status {
			t.Errorf("%s has status %d, want %d", code, got, status)
		}
	}
	_, err := events.DecideCharge(nil, events.CancelCharge{}, events.Cause{Now: start()})
	refusal, ok := errors.AsType[*events.Error](err)
	if !ok {
		t.Fatal(err)
	}
	if b, err := json.Marshal(refusal); err != nil || string(b) != `{"code":"charge_not_found","message":"there is no such charge","param":"chargeId"}` {
		t.Errorf("in JSON %s", b)
	}
	if text := fmt.Sprint(err); !strings.Contains(text, "charge_not_found") {
		t.Errorf("prints as %q", text)
	}
}
