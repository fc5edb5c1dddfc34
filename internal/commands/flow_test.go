package commands

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

// keyed is a request under a key that does not wait.
func keyed(key string) Meta { return Meta{IdempotencyKey: key} }

// asStored fails if the result is not the entity's snapshot and the sequence of its last event.
func (x *harness) asStored(r Result, entity events.Entity, id string) {
	x.tb.Helper()
	e, err := x.log.LoadFromLeader(x.tb.Context(), entity, id)
	if err != nil {
		x.tb.Fatal(err)
	}
	want, err := json.Marshal(e.Event.Snapshot())
	if err != nil {
		x.tb.Fatal(err)
	}
	if string(r.Body) != string(want) || r.Sequence != e.Sequence {
		x.tb.Errorf("got %s at %d\nwant %s at %d", r.Body, r.Sequence, want, e.Sequence)
	}
}

func TestCheckoutCreate(t *testing.T) {
	x := newHarness(t)
	customer := x.customer("user_1")
	body := fmt.Sprintf(`{"providerId":"stripe","customerId":%q,"amount":4900,"description":"Pro","successURL":"https://x.example/ok?s={CHECKOUT_SESSION_ID}",
		"cancelURL":null,"attachMethod":true,"metadata":{"order":"7"}}`, customer)
	r := x.run("checkout.create", body, keyed("order-7"))
	id := events.CheckoutID("order-7")
	e := x.load(events.EntityCheckout, id)
	c := e.Data.Checkout
	if e.Type != events.CheckoutRequested || c.Amount != 4900 || c.Currency != "usd" || !c.AttachMethod || c.CancelURL != "" || c.Metadata["order"] != "7" ||
		c.Status != events.StateRequested || c.CustomerID != customer || c.ProviderID != stripe {
		t.Errorf("%s: %+v", e.Type, c)
	}
	if e.CorrelationID != events.CommandID("checkout.create", "order-7") || e.Source != "/paykit/ingest" || e.Data.Customer.ReferenceID != "user_1" {
		t.Errorf("envelope: %+v", e)
	}
	x.asStored(r, events.EntityCheckout, id)

	// The same key and body, written differently: the same checkout, in its present state.
	x.append(events.EntityCheckout, id, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecideCheckout(last, events.CheckoutObserved{Session: session(events.SessionOpen)}, c)
	})
	before := x.last()
	again := x.run("checkout.create", strings.ReplaceAll(strings.Replace(body, `"cancelURL":null,`, "", 1), "\n", " "), keyed("order-7"))
	if got := decoded[events.Checkout](t, again); got.ID != id || got.URL == "" || got.Status != events.StateCreated || x.last() != before {
		t.Errorf("again: %s", again.Body)
	}
	x.asStored(again, events.EntityCheckout, id)
	// Another body is a conflict, and another key is another checkout.
	x.refused("checkout.create", strings.Replace(body, "4900", "4901", 1), keyed("order-7"), events.CodeIdempotencyConflict, "")
	x.refused("checkout.create", strings.Replace(body, `"amount":4900`, `"amount":4900,"currency":"usd"`, 1), keyed("order-7"), events.CodeIdempotencyConflict, "")
	if other := decoded[events.Checkout](t, x.run("checkout.create", body, keyed("order-8"))); other.ID == id {
		t.Error("another key gave the same checkout")
	}
	// Without a key two requests are two checkouts.
	one, two := decoded[events.Checkout](t, x.run("checkout.create", body, Meta{})), decoded[events.Checkout](t, x.run("checkout.create", body, Meta{}))
	if one.ID == two.ID {
		t.Error("without a key two requests gave one checkout")
	}
}

func TestCheckoutExpire(t *testing.T) {
	x := newHarness(t)
	customer := x.customer("user_1")
	id := decoded[events.Checkout](t, x.run("checkout.create", payerCommands(customer)["checkout.create"], keyed("k"))).ID
	body := fmt.Sprintf(`{"checkoutId":%q}`, id)
	for _, bad := range []string{"nope", events.CheckoutID("nothing"), events.ChargeID("k"), "chk_*", "chk_.>"} {
		x.refused("checkout.expire", fmt.Sprintf(`{"checkoutId":%q}`, bad), Meta{}, events.CodeCheckoutNotFound, "checkoutId")
	}
	r := x.run("checkout.expire", body, Meta{})
	if e := x.load(events.EntityCheckout, id); e.Type != events.CheckoutExpireRequested {
		t.Errorf("got %s", e.Type)
	}
	x.asStored(r, events.EntityCheckout, id)
	before := x.last()
	x.run("checkout.expire", body, Meta{}) // asked already
	x.append(events.EntityCheckout, id, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecideCheckout(last, events.CheckoutObserved{Session: session(events.SessionExpired)}, c)
	})
	r = x.run("checkout.expire", body, Meta{Wait: MaxWait}) // final: as it is, at once
	if x.last() != before+1 || decoded[events.Checkout](t, r).Status != events.StateExpired {
		t.Errorf("final: %s", r.Body)
	}
}

func TestPaymentMethodAttach(t *testing.T) {
	x := newHarness(t)
	body := payerCommands(x.customer("user_1"))["payment_method.attach"]
	r := x.run("payment_method.attach", body, keyed("k"))
	id := events.SetupID("k")
	if e := x.load(events.EntitySetup, id); e.Type != events.SetupRequested || e.Data.Setup.ReturnURL != "https://x.example/ok" {
		t.Errorf("%s: %+v", e.Type, e.Data.Setup)
	}
	x.asStored(r, events.EntitySetup, id)
	x.refused("payment_method.attach", strings.Replace(body, "/ok", "/ok2", 1), keyed("k"), events.CodeIdempotencyConflict, "")
	x.refused("payment_method.attach", strings.Replace(body, `"stripe"`, `"paypal"`, 1), keyed("k2"), events.CodeProviderNotFound, "providerId")
}

func TestPaymentMethodDefaultAndDetach(t *testing.T) {
	x := newHarness(t)
	customer := x.customer("user_1")
	id := x.method(customer, "pm_1")
	commands := payerCommands(customer)
	r := x.run("payment_method.set_default", commands["payment_method.set_default"], Meta{})
	if e := x.load(events.EntityPaymentMethod, id); e.Type != events.PaymentMethodDefaultRequested {
		t.Errorf("got %s", e.Type)
	}
	x.asStored(r, events.EntityPaymentMethod, id)
	r = x.run("payment_method.detach", commands["payment_method.detach"], Meta{})
	if e := x.load(events.EntityPaymentMethod, id); e.Type != events.PaymentMethodDetachRequested {
		t.Errorf("got %s", e.Type)
	}
	x.asStored(r, events.EntityPaymentMethod, id)
	// One that is to be detached is neither charged nor made the default any more.
	x.refused("payment_method.set_default", commands["payment_method.set_default"], Meta{}, events.CodePaymentMethodNotFound, "paymentMethodId")
	x.refused("charge.create", commands["charge.create"], Meta{}, events.CodePaymentMethodNotFound, "paymentMethodId")
	x.append(events.EntityPaymentMethod, id, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecidePaymentMethod(last, events.MethodGone{}, c)
	})
	before := x.last()
	r = x.run("payment_method.detach", commands["payment_method.detach"], Meta{Wait: MaxWait}) // final: as it is
	if x.last() != before || decoded[events.PaymentMethod](t, r).DetachedAt == nil {
		t.Errorf("final: %s", r.Body)
	}
}

// TestReferences: provider, customer and method in this order; what belongs to somebody else does not exist.
func TestReferences(t *testing.T) {
	x := newHarness(t)
	mine, theirs := x.customer("user_1"), x.customer("user_2")
	x.method(mine, "pm_1")
	foreign := x.method(theirs, "pm_2")
	for verb, body := range payerCommands(mine) {
		swap := func(from, to string) string { return strings.Replace(body, from, to, 1) }
		x.refused(verb, swap(`"stripe"`, `"paypal"`), Meta{}, events.CodeProviderNotFound, "providerId")
		x.refused(verb, swap(mine, events.CustomerID("nobody")), Meta{}, events.CodeCustomerNotFound, "customerId")
		for _, bad := range []string{"nope", "*", "cust_.>", events.ChargeID("x")} {
			x.refused(verb, swap(mine, bad), Meta{}, events.CodeCustomerNotFound, "customerId")
		}
		x.refused(verb, strings.Replace(swap(mine, "nope"), `"stripe"`, `"paypal"`, 1), Meta{}, events.CodeProviderNotFound, "providerId")
		own := events.PaymentMethodID(stripe, "pm_1")
		if !strings.Contains(body, own) {
			continue
		}
		for _, bad := range []string{foreign, events.PaymentMethodID(stripe, "pm_9"), "nope", "*"} {
			x.refused(verb, swap(own, bad), Meta{}, events.CodePaymentMethodNotFound, "paymentMethodId")
		}
		x.refused(verb, swap(`"stripe"`, `"other"`), Meta{}, events.CodePaymentMethodNotFound, "paymentMethodId") // at another provider
		x.refused(verb, swap(mine, theirs), Meta{}, events.CodePaymentMethodNotFound, "paymentMethodId")
	}
}

// TestRefusedKeyIsNotUsedUp: a refused command leaves its key free; a known key is answered although its references
// are gone.
func TestRefusedKeyIsNotUsedUp(t *testing.T) {
	x := newHarness(t)
	customer := x.customer("user_1")
	body := payerCommands(customer)["charge.create"]
	x.refused("charge.create", body, keyed("k"), events.CodePaymentMethodNotFound, "paymentMethodId")
	method := x.method(customer, "pm_1")
	first := x.run("charge.create", body, keyed("k"))
	x.run("payment_method.detach", payerCommands(customer)["payment_method.detach"], Meta{})
	x.run("customer.delete", `{"referenceId":"user_1"}`, Meta{})
	if again := x.run("charge.create", body, keyed("k")); string(again.Body) != string(first.Body) || again.Sequence != first.Sequence {
		t.Errorf("known key: got %s, want %s", again.Body, first.Body)
	}
	x.refused("charge.create", strings.Replace(body, method, "meth_x", 1), keyed("k"), events.CodeIdempotencyConflict, "")
	x.refused("charge.create", body, keyed("k2"), events.CodeCustomerNotFound, "customerId")
}

func TestChargeRefund(t *testing.T) {
	x := newHarness(t)
	customer := x.customer("user_1")
	x.method(customer, "pm_1")
	charge := decoded[events.Charge](t, x.run("charge.create", payerCommands(customer)["charge.create"], keyed("k"))).ID
	refund := func(rest string) string { return fmt.Sprintf(`{"chargeId":%q%s}`, charge, rest) }
	for _, bad := range []string{"nope", events.ChargeID("nothing"), customer} {
		x.refused("charge.refund", fmt.Sprintf(`{"chargeId":%q}`, bad), Meta{}, events.CodeChargeNotFound, "chargeId")
	}
	x.refused("charge.refund", refund(""), keyed("r1"), events.CodeChargeNotRefundable, "chargeId") // not succeeded
	x.append(events.EntityCharge, charge, payment(events.PaymentSucceeded))
	x.refused("charge.refund", refund(`,"amount":4901`), keyed("r1"), events.CodeRefundTooLarge, "amount")

	r := x.run("charge.refund", refund(`,"amount":900,"reason":"duplicate"`), keyed("r1"))
	e := x.load(events.EntityCharge, charge)
	got := e.Data.Charge.Refund(events.RefundID(charge, "r1"))
	if e.Type != events.ChargeRefundRequested || got == nil || got.Amount != 900 || got.Reason != "duplicate" || got.Status != events.RefundRequested {
		t.Errorf("%s: %+v", e.Type, e.Data.Charge.Refunds)
	}
	x.asStored(r, events.EntityCharge, charge)
	before := x.last()
	x.run("charge.refund", refund(`,"reason":"duplicate","amount":900`), keyed("r1"))
	x.refused("charge.refund", refund(`,"amount":901,"reason":"duplicate"`), keyed("r1"), events.CodeIdempotencyConflict, "")
	if x.last() != before {
		t.Error("the same refund again appended an event")
	}
	x.refused("charge.refund", refund(`,"amount":4001`), keyed("r2"), events.CodeRefundTooLarge, "amount")
	x.run("charge.refund", refund(""), keyed("r2")) // what is left
	if got := x.load(events.EntityCharge, charge).Data.Charge.Refund(events.RefundID(charge, "r2")); got == nil || got.Amount != 4000 {
		t.Errorf("what is left: %+v", got)
	}
	x.refused("charge.refund", refund(""), keyed("r3"), events.CodeChargeNotRefundable, "chargeId") // nothing left
	// A key counts within its charge.
	second := decoded[events.Charge](t, x.run("charge.create", payerCommands(customer)["charge.create"], keyed("k2"))).ID
	x.append(events.EntityCharge, second, payment(events.PaymentSucceeded))
	x.run("charge.refund", fmt.Sprintf(`{"chargeId":%q,"amount":5}`, second), keyed("r1"))
	// A dispute holds the money back already.
	x.append(events.EntityCharge, second, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecideCharge(last, events.DisputeObserved{Report: events.DisputeReport{ID: "dp_1", Amount: 4900, Status: "needs_response", Reason: "fraudulent"}}, c)
	})
	x.refused("charge.refund", fmt.Sprintf(`{"chargeId":%q,"amount":5}`, second), keyed("r9"), events.CodeChargeNotRefundable, "chargeId")
	// Refunds of a deleted customer's charge go on: it is their money.
	third := decoded[events.Charge](t, x.run("charge.create", payerCommands(customer)["charge.create"], keyed("k3"))).ID
	x.append(events.EntityCharge, third, payment(events.PaymentSucceeded))
	x.run("customer.delete", `{"referenceId":"user_1"}`, Meta{})
	for i := range events.MaxRefunds {
		x.run("charge.refund", fmt.Sprintf(`{"chargeId":%q,"amount":1}`, third), keyed(fmt.Sprintf("n%d", i)))
	}
	x.refused("charge.refund", fmt.Sprintf(`{"chargeId":%q,"amount":1}`, third), keyed("one more"), events.CodeRefundLimit, "chargeId")
}

func TestChargeCancel(t *testing.T) {
	x := newHarness(t)
	customer := x.customer("user_1")
	x.method(customer, "pm_1")
	charge := decoded[events.Charge](t, x.run("charge.create", payerCommands(customer)["charge.create"], keyed("k"))).ID
	body := fmt.Sprintf(`{"chargeId":%q}`, charge)
	x.refused("charge.cancel", `{"chargeId":"nope"}`, Meta{}, events.CodeChargeNotFound, "chargeId")
	r := x.run("charge.cancel", body, Meta{})
	if e := x.load(events.EntityCharge, charge); e.Type != events.ChargeCancelRequested {
		t.Errorf("got %s", e.Type)
	}
	x.asStored(r, events.EntityCharge, charge)
	before := x.last()
	x.run("charge.cancel", body, Meta{})
	if x.last() != before {
		t.Error("asked already, and yet an event was appended")
	}
	x.append(events.EntityCharge, charge, payment(events.PaymentSucceeded)) // money wins
	before = x.last()
	r = x.run("charge.cancel", body, Meta{Wait: MaxWait})
	if got := decoded[events.Charge](t, r); got.Status != events.ChargeStatusSucceeded || x.last() != before {
		t.Errorf("final: %s", r.Body)
	}
}

// TestWaitsEnd: each command's wait ends with its outcome, appended through another process, and not before.
func TestWaitsEnd(t *testing.T) {
	x := newHarness(t)
	_, worker := ingest(t, x.server)
	customer := x.customer("user_1")
	method := x.method(customer, "pm_1")
	bodies := payerCommands(customer)
	charge := func(key string) string { // in any state
		t.Helper()
		return decoded[events.Charge](t, x.run("charge.create", bodies["charge.create"], keyed(key))).ID
	}
	refundable := charge("refundable")
	x.append(events.EntityCharge, refundable, payment(events.PaymentSucceeded))
	checkout := decoded[events.Checkout](t, x.run("checkout.create", bodies["checkout.create"], keyed("open"))).ID
	cancelable := charge("cancelable")
	observe := func(status events.SessionStatus) func(*events.Event, events.Cause) (*events.Event, error) {
		return func(last *events.Event, c events.Cause) (*events.Event, error) {
			if last.Entity() == events.EntitySetup {
				return events.DecideSetup(last, events.SetupSessionObserved{Session: session(status)}, c)
			}
			return events.DecideCheckout(last, events.CheckoutObserved{Session: session(status)}, c)
		}
	}
	refunded := func(status events.RefundStatus) func(*events.Event, events.Cause) (*events.Event, error) {
		return func(last *events.Event, c events.Cause) (*events.Event, error) {
			return events.DecideCharge(last, events.RefundObserved{RefundID: events.RefundID(refundable, "r"), Report: events.RefundReport{ID: "re_1", Amount: 5, Status: status}}, c)
		}
	}
	type step = func(*events.Event, events.Cause) (*events.Event, error)
	for name, tc := range map[string]struct {
		verb, body, key string
		entity          events.Entity
		id              string
		on              []step // does not end the wait
		end             step
	}{
		"checkout created": {"checkout.create", bodies["checkout.create"], "w", events.EntityCheckout, events.CheckoutID("w"), nil, observe(events.SessionOpen)},
		"checkout failed": {
			"checkout.create", bodies["checkout.create"], "f", events.EntityCheckout, events.CheckoutID("f"), nil,
			func(last *events.Event, c events.Cause) (*events.Event, error) {
				return events.DecideCheckout(last, events.CheckoutRejected{Failure: events.NewFailure(events.FailureProviderRejected, "")}, c)
			},
		},
		"checkout expired":   {"checkout.expire", fmt.Sprintf(`{"checkoutId":%q}`, checkout), "", events.EntityCheckout, checkout, []step{observe(events.SessionOpen)}, observe(events.SessionExpired)},
		"setup created":      {"payment_method.attach", bodies["payment_method.attach"], "w", events.EntitySetup, events.SetupID("w"), nil, observe(events.SessionOpen)},
		"charge succeeded":   {"charge.create", bodies["charge.create"], "s", events.EntityCharge, events.ChargeID("s"), []step{payment(events.PaymentRequiresConfirmation)}, payment(events.PaymentSucceeded)},
		"charge failed":      {"charge.create", bodies["charge.create"], "d", events.EntityCharge, events.ChargeID("d"), nil, declined},
		"charge canceled":    {"charge.create", bodies["charge.create"], "c", events.EntityCharge, events.ChargeID("c"), nil, payment(events.PaymentCanceled)},
		"charge wants buyer": {"charge.create", bodies["charge.create"], "a", events.EntityCharge, events.ChargeID("a"), []step{payment(events.PaymentRequiresConfirmation)}, payment(events.PaymentRequiresAction)},
		"refund pending":     {"charge.refund", fmt.Sprintf(`{"chargeId":%q,"amount":5}`, refundable), "r", events.EntityCharge, refundable, nil, refunded(events.RefundPending)},
		"cancel":             {"charge.cancel", fmt.Sprintf(`{"chargeId":%q}`, cancelable), "", events.EntityCharge, cancelable, []step{payment(events.PaymentRequiresConfirmation)}, payment(events.PaymentCanceled)},
		"default set": {
			"payment_method.set_default", bodies["payment_method.set_default"], "", events.EntityPaymentMethod, method, nil,
			func(last *events.Event, c events.Cause) (*events.Event, error) {
				return events.DecidePaymentMethod(last, events.DefaultSet{RequestedAt: *last.Data.PaymentMethod.DefaultRequestedAt}, c)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			waitsFor(t, x, worker, tc.verb, tc.body, Meta{IdempotencyKey: tc.key, Wait: MaxWait}, tc.entity, tc.id, tc.on, tc.end)
		})
	}
	// Last, since nothing goes with the method after it.
	waitsFor(t, x, worker, "payment_method.detach", bodies["payment_method.detach"], Meta{Wait: MaxWait}, events.EntityPaymentMethod, method, nil,
		func(last *events.Event, c events.Cause) (*events.Event, error) {
			return events.DecidePaymentMethod(last, events.MethodGone{}, c)
		})
}

func declined(last *events.Event, c events.Cause) (*events.Event, error) {
	failure := events.NewFailure(events.FailureCardDeclined, "insufficient_funds")
	return events.DecideCharge(last, events.PaymentObserved{ID: last.Subject, ProviderID: stripe, Payment: events.Payment{
		ID: "pi_1", Status: events.PaymentRequiresMethod, Failure: &failure,
	}}, c)
}

// waitsFor runs a command that waits, plays the worker through another process's log, and fails unless the answer is
// the entity at its outcome.
func waitsFor(t *testing.T, x *harness, worker *eventlog.Log, verb, body string, meta Meta, entity events.Entity, id string,
	on []func(*events.Event, events.Cause) (*events.Event, error), end func(*events.Event, events.Cause) (*events.Event, error),
) {
	t.Helper()
	before := uint64(0)
	if e, err := x.log.LoadFromLeader(t.Context(), entity, id); err == nil {
		before = e.Sequence
	}
	asked := make(chan struct{})
	var once sync.Once
	stop, err := worker.Wake(func(_ events.Type, got string, seq uint64) {
		if got == id && seq > before {
			once.Do(func() { close(asked) })
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if err := worker.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	type outcome struct {
		r   Result
		err error
	}
	answered := make(chan outcome, 1)
	go func() {
		r, err := x.h.Execute(t.Context(), verb, []byte(body), meta)
		answered <- outcome{r, err}
	}()
	within(t, "the request event of "+verb, asked)
	for _, step := range on {
		if err := play(t.Context(), worker, entity, id, step); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case o := <-answered:
		t.Fatalf("%s: answered before its outcome: %s %v", verb, o.r.Body, o.err)
	default:
	}
	if err := play(t.Context(), worker, entity, id, end); err != nil {
		t.Fatal(err)
	}
	select {
	case o := <-answered:
		if o.err != nil {
			t.Fatal(o.err)
		}
		x.asStored(o.r, entity, id)
	case <-time.After(patience):
		t.Fatalf("%s was not answered", verb)
	}
}

func woken(tb testing.TB, wake <-chan uint64) uint64 {
	tb.Helper()
	select {
	case seq := <-wake:
		return seq
	case <-time.After(patience):
		tb.Fatal("nobody was woken")
		return 0
	}
}

// TestWakeUpIsFast: the event that another process appends ends the wait, not the look each second.
func TestWakeUpIsFast(t *testing.T) {
	x := newHarness(t)
	_, worker := ingest(t, x.server)
	customer := x.customer("user_1")
	x.method(customer, "pm_1")
	fastest := time.Hour
	for i := range 5 {
		key := fmt.Sprintf("k%d", i)
		id := events.ChargeID(key)
		wake, done := x.h.waits.register(id, nil)
		if err := x.log.Conn().Flush(); err != nil {
			t.Fatal(err)
		}
		x.run("charge.create", payerCommands(customer)["charge.create"], keyed(key))
		woken(t, wake) // the request itself
		if err := play(t.Context(), worker, events.EntityCharge, id, payment(events.PaymentSucceeded)); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		seq := woken(t, wake)
		fastest = min(fastest, time.Since(start))
		if e, err := x.log.LoadFromLeader(t.Context(), events.EntityCharge, id); err != nil || e.Sequence != seq {
			t.Errorf("woken by %d, want %d (%v)", seq, e.Sequence, err)
		}
		done()
	}
	if fastest > lookEvery/2 {
		t.Errorf("the fastest of five wake-ups took %s", fastest)
	}
	if n := len(x.h.waits.waiting); n != 0 {
		t.Errorf("%d are still registered", n)
	}
}

// TestWaitLooksByItself: with the wake-up lost, the outcome is seen within about a second.
func TestWaitLooksByItself(t *testing.T) {
	x := newHarness(t)
	_, worker := ingest(t, x.server)
	customer := x.customer("user_1")
	x.method(customer, "pm_1")
	x.h.Close() // no wake-ups from here on
	waitsFor(t, x, worker, "charge.create", payerCommands(customer)["charge.create"], Meta{IdempotencyKey: "k", Wait: MaxWait}, events.EntityCharge, events.ChargeID("k"),
		nil, payment(events.PaymentSucceeded))
}

// TestWaitIsBounded: not settled in time is the entity as it is, and no error.
func TestWaitIsBounded(t *testing.T) {
	x := newHarness(t)
	customer := x.customer("user_1")
	x.method(customer, "pm_1")
	start := time.Now()
	const wait = 300 * time.Millisecond
	r := x.run("charge.create", payerCommands(customer)["charge.create"], Meta{IdempotencyKey: "k", Wait: wait})
	if took := time.Since(start); took < wait || took > patience {
		t.Errorf("waited %s, want about %s", took, wait)
	}
	if got := decoded[events.Charge](t, r); got.Status != events.ChargeStatusRequested {
		t.Errorf("got %s", r.Body)
	}
	x.asStored(r, events.EntityCharge, events.ChargeID("k"))
}

// TestOneKeyAtOnce: sixteen callers with one key, at two processes, get one charge.
func TestOneKeyAtOnce(t *testing.T) {
	x := newHarness(t)
	other, _ := ingest(t, x.server)
	customer := x.customer("user_1")
	x.method(customer, "pm_1")
	body := payerCommands(customer)["charge.create"]
	before := x.last()
	const n = 16
	type outcome struct {
		r   Result
		err error
	}
	outcomes := make(chan outcome, n)
	for i := range n {
		h := []*Handler{x.h, other}[i%2]
		go func() {
			r, err := h.Execute(t.Context(), "charge.create", []byte(body), keyed("once"))
			outcomes <- outcome{r, err}
		}()
	}
	for range n {
		o := <-outcomes
		if o.err != nil {
			t.Fatal(o.err)
		}
		x.asStored(o.r, events.EntityCharge, events.ChargeID("once"))
	}
	if got := x.last() - before; got != 1 {
		t.Errorf("%d events, want 1", got)
	}
	// Different bodies under one key: one wins, the others are told.
	results := make(chan error, n)
	for i := range n {
		h := []*Handler{x.h, other}[i%2]
		go func() {
			_, err := h.Execute(t.Context(), "charge.create", []byte(strings.Replace(body, "4900", fmt.Sprint(5000+i), 1)), keyed("contested"))
			results <- err
		}()
	}
	won := 0
	for range n {
		err := <-results
		switch {
		case err == nil:
			won++
		case AsError(err).Code != events.CodeIdempotencyConflict:
			t.Error(err)
		}
	}
	if won != 1 || x.last() != before+2 {
		t.Errorf("%d of %d bodies won, %d events", won, n, x.last()-before-1)
	}
}

// TestUnavailable: what is not known to be stored is a timeout, what is not stored for lack of room says so.
func TestUnavailable(t *testing.T) {
	x := newHarness(t)
	customer := x.customer("user_1")
	x.server.Stop()
	defer x.server.Resume() // the harness stops it again
	_, err := x.h.Execute(t.Context(), "checkout.create", []byte(payerCommands(customer)["checkout.create"]), keyed("k"))
	if got := AsError(err); got.Code != events.CodeTimeout {
		t.Errorf("got %v (%v), want timeout", got, err)
	}
	if !temporary(err) {
		t.Errorf("%v does not count as temporary: a queued command would become a dead letter", err)
	}
}

func TestAsError(t *testing.T) {
	for err, want := range map[error]events.Code{
		invalid("x", "y"):                             events.CodeInvalidRequest,
		fmt.Errorf("x: %w", invalid("x", "y")):        events.CodeInvalidRequest,
		fmt.Errorf("x: %w", eventlog.ErrStorageFull):  events.CodeStorageFull,
		&eventlog.UnknownError{Err: context.Canceled}: events.CodeTimeout,
		fmt.Errorf("x: %w", eventlog.ErrUnavailable):  events.CodeTimeout,
		fmt.Errorf("x: %w", context.DeadlineExceeded): events.CodeTimeout,
		fmt.Errorf("secret: %w", events.ErrMalformed): events.CodeInternal,
		errPanicked: events.CodeInternal,
	} {
		got := AsError(err)
		if got.Code != want || got.Message == "" || strings.Contains(got.Message, "secret") {
			t.Errorf("%v: got %v, want %s", err, got, want)
		}
	}
}

// TestStorageFull: without room nothing is stored, and the caller is told so.
func TestStorageFull(t *testing.T) {
	nc := eventlogtest.Start(t).Conn(t)
	cfg := eventlog.Config{MaxBytes: 16 << 10}
	if _, err := eventlog.Provision(t.Context(), nc, cfg); err != nil {
		t.Fatal(err)
	}
	log, err := eventlog.Open(t.Context(), nc, cfg)
	if err != nil {
		t.Fatal(err)
	}
	h := New(log, config())
	t.Cleanup(h.Close)
	for i := range 100 {
		_, err = h.Execute(t.Context(), "customer.sync", fmt.Appendf(nil, `{"referenceId":"user_%d"}`, i), Meta{})
		if err != nil {
			break
		}
	}
	if got := AsError(err); got.Code != events.CodeStorageFull || got.Code.Status() != 503 {
		t.Errorf("got %v (%v), want storage_full", got, err)
	}
	if !temporary(err) {
		t.Errorf("%v does not count as temporary: a queued command would become a dead letter", err)
	}
	if _, final := refusalOf(err); final {
		t.Errorf("%v counts as a refusal: a queued command would be rejected", err)
	}
}
