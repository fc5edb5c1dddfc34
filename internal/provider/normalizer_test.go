package provider_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/provider"
)

// A paid checkout is told four times, in any order: it leads to the same three events in the same words.
func TestPaidCheckoutInEveryOrder(t *testing.T) { //nolint:tparallel // its rows share one server, one after the other
	t.Parallel()
	in := newIngest(t, options{lanes: 8})
	for _, order := range permutations(4) {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			in.t = t
			b := in.buyer().checkout()
			after := in.last()
			all := []string{
				b.event("checkout.session.completed", b.session("complete", "paid")),
				b.event("payment_intent.succeeded", b.intent("succeeded")),
				b.event("charge.succeeded", b.chargeObject("succeeded")),
				b.event("payment_method.attached", b.method()),
			}
			for _, i := range order {
				in.store(all[i])
			}
			in.wait(len(all))
			types := in.types(after)
			slices.Sort(types)
			if want := []events.Type{events.ChargeSucceeded, events.CheckoutCompleted, events.PaymentMethodAttached}; !slices.Equal(types, want) {
				t.Fatalf("events %v, want %v", types, want)
			}
			c := *in.chargeState(events.CheckoutChargeID(b.checkoutID))
			want := events.Charge{
				Base:   events.Base{ID: c.ID, CustomerID: b.ref.ID, ProviderID: stripeID, CreatedAt: c.CreatedAt, UpdatedAt: c.CreatedAt},
				Amount: 4900, Currency: "usd", Description: "Pro plan", Metadata: map[string]string{"plan": "pro"},
				PaymentMethodID: events.PaymentMethodID(stripeID, "pm_"+b.n), CheckoutID: b.checkoutID,
				ProviderPaymentID: "pi_" + b.n, ProviderChargeID: "ch_" + b.n, Status: events.ChargeStatusSucceeded,
				Refunds: []events.Refund{}, Disputes: []events.Dispute{},
			}
			if got, want := asJSON(t, c), asJSON(t, want); got != want {
				t.Errorf("charge\n%s\nwant\n%s", got, want)
			}
			if e := in.state(events.EntityCharge, c.ID); e.CorrelationID != events.CommandID("test", b.checkoutID) {
				t.Errorf("the charge does not belong to the checkout's command: %q", e.CorrelationID)
			}
			k, err := in.log.Link(t.Context(), stripeID, "pi_"+b.n)
			if err != nil || k != (eventlog.Link{Entity: events.EntityCharge, ID: c.ID, CustomerID: b.ref.ID}) {
				t.Errorf("link %+v, %v", k, err)
			}
		})
	}
}

func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{{}}
	}
	var all [][]int
	for _, p := range permutations(n - 1) {
		for i := range n {
			all = append(all, slices.Insert(slices.Clone(p), i, n-1))
		}
	}
	return all
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The same fact under 200 event ids, worked on at once by two normalizers, is one event.
func TestTwoHundredReportsOfOneFactAtOnce(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{asleep: true})
	b := in.buyer().checkout()
	after := in.last()
	for i := range 200 {
		// Without a customer each has a lane of its own.
		anonymous := fields{"customer": nil}
		if i%2 == 0 {
			in.store(b.event("payment_intent.succeeded", b.intent("succeeded", anonymous)))
		} else {
			in.store(b.event("charge.succeeded", b.chargeObject("succeeded", anonymous)))
		}
	}
	in.wake(options{lanes: 32})
	in.wake(options{lanes: 32})
	in.wait(200)
	if got := in.types(after); !slices.Equal(got, []events.Type{events.ChargeSucceeded}) {
		t.Errorf("events %v", got)
	}
}

// The worker's answers and the deliveries go through one door: whichever is first, the other has nothing to say.
func TestDeliveryBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{})
	b := in.buyer().charge("")
	after := in.last()
	in.deliver(b.paid())
	worker := provider.NewApplier(in.log, provider.ApplierConfig{Source: provider.SourceWorker, Logger: zerolog.Nop()})
	answer := events.Payment{
		Owner: events.OwnerOf(b.owned()), ID: "pi_" + b.n, ChargeID: "ch_" + b.n, ProviderCustomerID: b.cus,
		ProviderMethodID: "pm_" + b.n, Amount: 4900, Currency: "usd",
	}
	for _, status := range []events.PaymentStatus{events.PaymentRequiresConfirmation, events.PaymentProcessing, events.PaymentSucceeded} {
		answer.Status = status
		got, err := worker.Observe(t.Context(), stripeID, provider.PaymentSeen{Payment: answer}, "cause")
		if err != nil || got.Outcome != provider.OutcomeUnchanged || got.CustomerID != b.ref.ID || got.Entry.Event.Subject != b.chargeID {
			t.Errorf("%s: %+v, %v", status, got, err)
		}
	}
	if got := in.types(after); !slices.Equal(got, []events.Type{events.ChargeSucceeded}) {
		t.Errorf("events %v", got)
	}

	// And the other way round: the answer first, in two steps, with the link before the confirm.
	c := in.buyer().charge("")
	after = in.last()
	answer = events.Payment{
		Owner: events.OwnerOf(c.owned()), ID: "pi_" + c.n, ProviderCustomerID: c.cus, ProviderMethodID: "pm_" + c.n,
		Amount: 4900, Currency: "usd", Status: events.PaymentRequiresConfirmation,
	}
	got, err := worker.Observe(t.Context(), stripeID, provider.PaymentSeen{Payment: answer}, "cause")
	if err != nil || got.Outcome != provider.OutcomeChanged || got.Entry.Event.Type != events.ChargeProcessing || got.Entry.Event.Source != "/paykit/worker" {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := in.log.Link(t.Context(), stripeID, "pi_"+c.n); err != nil {
		t.Error("no link before the confirm:", err)
	}
	in.deliver(c.paid(), c.event("charge.succeeded", c.chargeObject("succeeded")))
	if got := in.types(after); !slices.Equal(got, []events.Type{events.ChargeProcessing, events.ChargeSucceeded}) {
		t.Errorf("events %v", got)
	}
}

// What overtakes its owner waits for it.
func TestParkedUntilTheOwnerIsKnown(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		early   func(b *buyer) []string
		owner   func(b *buyer) string
		want    []events.Type
		prepare func(in *ingest) *buyer
	}{
		{
			"refund before the payment", func(b *buyer) []string {
				return []string{b.event("refund.created", b.refund("", "succeeded", 900))}
			}, (*buyer).paid, []events.Type{events.ChargeRefunded, events.ChargeSucceeded}, shopping,
		},
		{
			"dispute before the payment", func(b *buyer) []string {
				return []string{b.event("charge.dispute.created", b.dispute("needs_response"))}
			}, (*buyer).paid, []events.Type{events.ChargeDisputed, events.ChargeSucceeded}, asked,
		},
		{
			"dispute of a payment that is still under way", func(b *buyer) []string {
				return []string{b.event("charge.dispute.created", b.dispute("needs_response"))}
			}, (*buyer).paid, []events.Type{events.ChargeDisputed, events.ChargeSucceeded}, underWay,
		},
		{
			"dispute of a foreign payment before it", func(b *buyer) []string {
				return []string{b.event("charge.dispute.closed", b.dispute("lost"))}
			}, func(b *buyer) string { return b.event("payment_intent.succeeded", b.intent("succeeded", foreign())) },
			[]events.Type{events.ChargeDisputeClosed, events.ChargeSucceeded},
			known,
		},
		{
			"fraud warning before the payment", func(b *buyer) []string {
				return []string{b.event("radar.early_fraud_warning.created", b.warning(true))}
			}, (*buyer).paid, []events.Type{events.ChargeFraudWarned, events.ChargeSucceeded}, shopping,
		},
		{
			"refund of a payment that is still under way", func(b *buyer) []string {
				return []string{b.event("refund.created", b.refund("", "succeeded", 900))}
			}, (*buyer).paid,
			[]events.Type{events.ChargeRefunded, events.ChargeSucceeded},
			underWay,
		},
		{
			"refunds of a foreign payment before it", func(b *buyer) []string {
				return []string{
					b.event("refund.created", b.refund("a", "succeeded", 100)),
					b.event("refund.created", b.refund("b", "succeeded", 200)),
				}
			}, func(b *buyer) string { return b.event("payment_intent.succeeded", b.intent("succeeded", foreign())) },
			[]events.Type{events.ChargeRefunded, events.ChargeRefunded, events.ChargeSucceeded},
			known,
		},
		{
			"method before the account is linked", func(b *buyer) []string {
				return []string{b.event("payment_method.attached", b.method())}
			}, func(b *buyer) string { return b.event("customer.created", b.customerObject()) },
			[]events.Type{events.PaymentMethodAttached, events.ProviderAccountLinked},
			(*ingest).unlinkedBuyer,
		},
		{
			"detached before the account is linked", func(b *buyer) []string { return []string{b.detached()} },
			func(b *buyer) string { return b.event("customer.created", b.customerObject()) },
			[]events.Type{events.PaymentMethodDetached, events.ProviderAccountLinked},
			(*ingest).unlinkedBuyer,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in := newIngest(t, options{})
			b := tt.prepare(in)
			after := in.last()
			early := tt.early(b)
			for _, r := range in.deliver(early...) {
				if r != "parked" {
					t.Fatalf("result %q, want parked", r)
				}
			}
			if got := in.types(after); len(got) != 0 {
				t.Fatalf("events %v before the owner is known", got)
			}
			in.store(tt.owner(b))
			for range len(early) + 1 {
				in.changed()
			}
			got := in.types(after)
			slices.Sort(got)
			if !slices.Equal(got, tt.want) {
				t.Errorf("events %v, want %v", got, tt.want)
			}
		})
	}
}

// The link of an account that is not linked yet proves nothing: the method waits.
func TestMethodWaitsWhileTheAccountIsBeingLinked(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{})
	b := in.unlinkedBuyer()
	link := eventlog.Link{Entity: events.EntityCustomer, ID: b.ref.ID, CustomerID: b.ref.ID}
	if err := in.log.PutLink(t.Context(), stripeID, b.cus, link); err != nil {
		t.Fatal(err)
	}
	if got := in.deliver(b.event("payment_method.attached", b.method())); got[0] != "parked" {
		t.Fatalf("result %v", got)
	}
	in.store(b.event("customer.created", b.customerObject()))
	in.changed()
	in.changed()
	if m := in.state(events.EntityPaymentMethod, events.PaymentMethodID(stripeID, "pm_"+b.n)); m == nil {
		t.Error("no method")
	}
}

// A report of a day's age is let go once it was looked at for hours, and not because it waited for us: as long as nobody
// has read it, or the storage has failed, its owner may be among what waited with it.
func TestParkedReportsAreLetGo(t *testing.T) {
	t.Parallel()
	var now atomic.Int64 // how much later than it is
	clock := func() time.Time { return time.Now().Add(time.Duration(now.Load())) }
	in := newIngest(t, options{asleep: true})
	b := in.buyer()
	in.store(b.event("refund.created", b.refund("", "succeeded", 900)))
	after := in.last()
	now.Store(int64(48 * time.Hour)) // nobody read for two days
	n := provider.NewNormalizer(in.log, in.hooks(), provider.NormalizerConfig{Logger: zerolog.New(in.logs), Now: clock})
	n.OnResult(time.Minute, func(result string) { in.results <- result })
	m := in.stored(1)
	for i, step := range []struct {
		later time.Duration
		want  string
	}{
		{0, "parked"},
		{time.Hour, "parked"},
		{time.Hour, "parked"},
		{time.Hour, "waiting"}, // the storage does not answer, and takes no other delivery either
		{time.Second, "parked"},
		{time.Hour, "parked"},
		{time.Hour, "parked"},
		{5 * time.Hour, "parked"}, // nobody has looked for hours: that was our standstill
		{time.Hour, "parked"},
		{time.Hour, "parked"},
		{time.Hour, "let_go"},
	} {
		now.Add(int64(step.later))
		m.Attempt = i + 1
		ctx, cancel := context.WithCancel(t.Context())
		if step.want == "waiting" {
			cancel()
		}
		got := n.Handle(ctx, m)
		cancel()
		if result := in.wait(1)[0]; result != step.want || (got == eventlog.Done()) != (step.want == "let_go") {
			t.Fatalf("look %d: %s, %+v", i+1, result, got)
		}
	}
	now.Store(0)
	young := provider.NewNormalizer(in.log, in.hooks(), provider.NormalizerConfig{Logger: zerolog.New(in.logs), Now: clock})
	for i := range 23 {
		m.Attempt = i + 1
		if got := young.Handle(t.Context(), m); got == eventlog.Done() {
			t.Fatalf("let go after %d hours", i)
		}
		now.Add(int64(time.Hour))
	}
	if got := in.types(after); len(got) != 0 {
		t.Errorf("events %v", got)
	}
}

// What a report was looked at for counts only while looks follow each other and the storage works.
func TestLooksBeginAnew(t *testing.T) {
	t.Parallel()
	var l provider.Looks
	at := time.Now()
	look := func(later, want time.Duration) {
		t.Helper()
		at = at.Add(later)
		if got := l.At(1, at); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	look(0, 0)
	look(time.Hour, time.Hour)
	look(time.Hour, 2*time.Hour)
	l.Disturb(at.Add(time.Minute))
	look(time.Hour, 0)
	look(time.Hour, time.Hour)
	look(3*time.Hour, 0)
	if got := l.At(2, at); got != 0 {
		t.Errorf("of another: %s", got)
	}
}

// stored is a stored delivery as the normalizer is given it.
func (in *ingest) stored(sequence uint64) eventlog.Message {
	in.t.Helper()
	msg, err := in.log.Conn().RequestWithContext(in.t.Context(), "$JS.API.STREAM.MSG.GET."+inbox, fmt.Appendf(nil, `{"seq":%d}`, sequence))
	if err != nil {
		in.t.Fatal(err)
	}
	var got struct {
		Message struct {
			Subject string    `json:"subject"`
			Data    []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(msg.Data, &got); err != nil || got.Message.Subject == "" {
		in.t.Fatal(err, string(msg.Data))
	}
	m := got.Message
	return eventlog.Message{Stream: inbox, Sequence: sequence, Subject: m.Subject, Data: m.Data, Time: m.Time, Attempt: 1}
}

// A customer who was deleted before the provider's was heard of is not linked; what comes about it is erased.
func TestDeletedBeforeItWasLinked(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{})
	b := in.unlinkedBuyer()
	b.delete()
	after := in.last()
	if got := in.deliver(b.event("customer.created", b.customerObject())); got[0] != "owner_gone" {
		t.Errorf("result %v", got)
	}
	in.deliver(b.event("customer.updated", b.customerObject(foreign())))
	if got := in.types(after); len(got) != 0 {
		t.Errorf("events %v", got)
	}
	in.erasedTo(0)
}

// For a deleted customer money still counts, nothing else does, and no delivery is kept.
func TestDeletedCustomer(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{})
	b := in.buyer().checkout().setup()
	in.deliver(b.event("payment_method.attached", b.method()))
	if got := in.deliveries(); got != 1 {
		t.Fatalf("%d deliveries", got)
	}
	b.delete()
	after := in.last()
	in.deliver(
		b.event("checkout.session.completed", b.session("complete", "paid")),
		b.event("setup_intent.succeeded", b.setupIntent(fields{"customer": nil})),
		b.event("checkout.session.completed", b.setupSession("complete")),
		b.event("payment_method.attached", b.method(fields{"id": "pm_new" + b.n})),
		b.event("payment_method.updated", b.method(fields{"card": fields{"brand": "visa", "last4": "1111"}})),
		b.detached(),
		b.event("customer.updated", b.customerObject()),
		b.event("customer.created", b.customerObject()),
	)
	if got := in.types(after); len(got) != 0 {
		t.Errorf("events %v", got)
	}
	in.deliver(
		b.paid(), b.event("refund.created", b.refund("", "succeeded", 900)),
		b.event("charge.dispute.created", b.dispute("needs_response", fields{"customer": nil})),
		b.event("customer.deleted", b.customerObject()),
	)
	want := []events.Type{events.ChargeSucceeded, events.ChargeRefunded, events.ChargeDisputed, events.ProviderAccountUnlinked}
	if got := in.types(after); !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
	in.erasedTo(1) // the one from before the deletion is the worker's to erase
}

// erasedTo waits until INBOX holds only so many deliveries; the last one is erased just after its result is told.
func (in *ingest) erasedTo(n int) {
	in.t.Helper()
	deadline := time.Now().Add(patience)
	for in.deliveries() != n {
		if time.Now().After(deadline) {
			in.t.Fatalf("INBOX holds %d deliveries, want %d", in.deliveries(), n)
		}
	}
}

// A customer who came back has another provider customer; what still comes about the old one is erased too.
func TestRevivedCustomer(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{})
	b := in.buyer()
	b.unlink()
	cus := b.cus
	b.cus = "cus_again" + b.n
	in.deliver(b.event("customer.created", b.customerObject()))
	after := in.last()
	before := in.deliveries()
	b.cus = cus
	in.deliver(b.event("customer.updated", b.customerObject()), b.event("payment_method.attached", b.method()))
	if got := in.types(after); len(got) != 0 {
		t.Errorf("events %v", got)
	}
	in.erasedTo(before)
}

func TestUnlinkedAccount(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{})
	b := in.buyer().checkout().setup()
	in.deliver(b.paid())
	b.unlink()
	after, stored := in.last(), in.deliveries()
	got := in.deliver(
		b.event("checkout.session.completed", b.session("complete", "paid")),
		b.event("setup_intent.succeeded", b.setupIntent()),
		b.event("payment_method.attached", b.method()),
		b.detached(),
		b.event("payment_intent.succeeded", b.intent("succeeded", foreign(), fields{"id": "pi_z" + b.n})),
		b.event("refund.created", b.refund("", "succeeded", 900)),
	)
	if want := []string{"owner_gone", "owner_gone", "owner_gone", "owner_gone", "not_ours", "changed"}; !slices.Equal(got, want) {
		t.Errorf("results %v, want %v", got, want)
	}
	if got := in.types(after); !slices.Equal(got, []events.Type{events.ChargeRefunded}) {
		t.Errorf("events %v", got)
	}
	if got := in.deliveries(); got != stored+6 {
		t.Errorf("%d deliveries, want %d: only a deleted customer's are erased", got, stored+6)
	}
}

// A second payment of a checkout is money too: a charge of its own, and an alarm; what hangs on it finds it.
func TestPaidTwice(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{})
	b := in.buyer().checkout()
	after := in.last()
	second := fields{"id": "pi_second" + b.n, "latest_charge": "ch_second" + b.n}
	in.deliver(
		b.paid(),
		b.event("payment_intent.succeeded", b.intent("succeeded", second)),
		b.event("charge.succeeded", b.chargeObject("succeeded", fields{"id": "ch_second" + b.n, "payment_intent": "pi_second" + b.n})),
		b.event("refund.created", b.refund("", "succeeded", 4900, fields{"payment_intent": "pi_second" + b.n, "charge": "ch_second" + b.n})),
		b.event("charge.refunded", b.chargeObject("succeeded", fields{
			"id": "ch_second" + b.n, "payment_intent": "pi_second" + b.n, "amount_refunded": 4900,
		})),
	)
	if got, want := in.types(after), []events.Type{events.ChargeSucceeded, events.ChargeSucceeded, events.ChargeReviewRequested, events.ChargeRefunded}; !slices.Equal(got, want) {
		t.Fatalf("events %v, want %v", got, want)
	}
	first := in.chargeState(events.CheckoutChargeID(b.checkoutID))
	if first.ProviderPaymentID != "pi_"+b.n || first.AmountRefunded != 0 || first.ReportedByProvider {
		t.Errorf("first %+v", first)
	}
	other := in.chargeState(events.ReportedChargeID(stripeID, "pi_second"+b.n, ""))
	if other.CustomerID != b.ref.ID || other.AmountRefunded != 4900 || !other.ReportedByProvider || other.CheckoutID != "" {
		t.Errorf("other %+v", other)
	}
	if got := in.counted("paykit_other_payments_total", nil); got != 1 {
		t.Errorf("counted %v alarms", got)
	}
	if got := strings.Count(in.logs.String(), `"level":"error"`); got != 1 {
		t.Errorf("%d errors in the log", got)
	}
}

// A declined first payment of a page and a paid second one: the success is the charge, whatever was linked before.
func TestSecondPaymentOfAPageSucceeds(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{})
	b := in.buyer().checkout()
	after := in.last()
	second := fields{"id": "pi_second" + b.n, "latest_charge": "ch_second" + b.n}
	in.deliver(
		b.event("payment_intent.processing", b.intent("processing")),
		b.event("payment_intent.succeeded", b.intent("succeeded", second)),
		b.paid(), // and then the first one succeeds after all
		b.event("refund.created", b.refund("", "succeeded", 4900)),
	)
	want := []events.Type{events.ChargeProcessing, events.ChargeSucceeded, events.ChargeSucceeded, events.ChargeReviewRequested, events.ChargeRefunded}
	if got := in.types(after); !slices.Equal(got, want) {
		t.Fatalf("events %v, want %v", got, want)
	}
	if c := in.chargeState(events.CheckoutChargeID(b.checkoutID)); c.ProviderPaymentID != "pi_second"+b.n || c.AmountRefunded != 0 {
		t.Errorf("first %+v", c)
	}
	if c := in.chargeState(events.ReportedChargeID(stripeID, "pi_"+b.n, "")); c.AmountRefunded != 4900 {
		t.Errorf("other %+v", c)
	}
}

func TestOtherMode(t *testing.T) {
	t.Parallel()
	live := true
	in := newIngest(t, options{live: &live})
	b := in.buyer().charge("")
	after := in.last()
	if got := in.deliver(b.paid()); got[0] != "other_mode" {
		t.Errorf("result %v", got)
	}
	if got := in.types(after); len(got) != 0 || in.deliveries() != 1 {
		t.Errorf("events %v, deliveries %d", got, in.deliveries())
	}
	if got := in.deliver(strings.Replace(b.paid(), `"livemode":false`, `"livemode":true`, 1)); got[0] != "changed" {
		t.Errorf("result %v", got)
	}
	in.deliver(b.paid())
	for mode, want := range map[string]int{"true": 1, "false": 2} {
		if n := in.counted("paykit_deliveries_livemode_total", map[string]string{"livemode": mode}); int(n) != want {
			t.Errorf("livemode %s was counted %v times, want %d", mode, n, want)
		}
	}
	if n := strings.Count(in.logs.String(), "first delivery of a mode"); n != 2 {
		t.Errorf("%d first deliveries were logged, want one of each mode", n)
	}
}
