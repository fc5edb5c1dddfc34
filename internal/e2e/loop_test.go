package e2e_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/paykit-go/paykit"
)

// The whole loop through the real programs: sync, checkout, pay, see the method, charge it, watch the events.
func TestLoop(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	pk := s.client()
	events := s.collect(pk, "all")
	customer, err := pk.Customer.Sync(t.Context(), paykit.CustomerSync{
		ReferenceID: "user_123", Email: "jane@example.com", Name: "Jane Doe", Metadata: map[string]string{"plan": "pro"},
	})
	if err != nil || customer.Email == nil || *customer.Email != "jane@example.com" {
		t.Fatalf("sync: %+v, %v", customer, err)
	}
	create := paykit.CheckoutCreate{
		CustomerID: customer.ID, Amount: 4900, Description: "Starter plan", AttachMethod: true,
		SuccessURL: "https://app.example.com/ok", CancelURL: "https://app.example.com/no", Metadata: map[string]string{"order": "1"},
	}
	checkout, err := pk.Checkout.Create(t.Context(), create, paykit.WithIdempotencyKey("order-1"), paykit.WithWait(20*time.Second))
	if err != nil || checkout.URL == "" || checkout.Status != "created" {
		t.Fatalf("checkout: %+v, %v", checkout, err)
	}
	again, err := pk.Checkout.Create(t.Context(), create, paykit.WithIdempotencyKey("order-1"))
	if err != nil || again.ID != checkout.ID || again.URL != checkout.URL {
		t.Fatalf("the same key gives %+v, %v", again, err)
	}
	create.Amount = 5000
	_, err = pk.Checkout.Create(t.Context(), create, paykit.WithIdempotencyKey("order-1"))
	if refusal, ok := errors.AsType[*paykit.Error](err); !ok || refusal.Code != paykit.CodeIdempotencyConflict {
		t.Fatalf("the same key with another amount gives %v", err)
	}
	if status, body := s.pay(checkout.ProviderSessionID, card4242); status != 200 {
		t.Fatalf("pay: %d %s", status, body)
	}
	var method paykit.PaymentMethod
	eventually(t, "the method is saved", func() bool {
		list, err := pk.PaymentMethod.List(t.Context(), paykit.PaymentMethodList{CustomerID: customer.ID})
		if err == nil && len(list.Items) == 1 {
			method = list.Items[0]
		}
		return method.ID != ""
	})
	if method.Last4 != "4242" || method.Brand != "visa" || !method.IsDefault {
		t.Errorf("method %+v", method)
	}
	charge, err := pk.Charge.Create(t.Context(), paykit.ChargeCreate{
		CustomerID: customer.ID, PaymentMethodID: method.ID, Amount: 1900, Description: "March usage",
	}, paykit.WithIdempotencyKey("march"), paykit.WithWait(20*time.Second))
	if err != nil || charge.Status != paykit.ChargeSucceeded {
		t.Fatalf("charge: %+v, %v", charge, err)
	}
	refunded, err := pk.Charge.Refund(t.Context(), paykit.ChargeRefund{ChargeID: charge.ID, Amount: 900}, paykit.WithWait(20*time.Second))
	if err != nil || refunded.AmountRefunded != 900 {
		t.Errorf("refund: %+v, %v", refunded, err)
	}
	want := []paykit.EventType{
		"customer.created", "provider_account.linked", "checkout.requested", "checkout.created", "payment_method.attached",
		"checkout.completed", "charge.succeeded", "charge.requested", "charge.processing", "charge.succeeded",
		"charge.refund_requested", "charge.refunded",
	}
	slices.Sort(want)
	got := receive(t, events, len(want))
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("events\n got %v\nwant %v", got, want)
	}
	if n := s.captures(charge.ID); n != 1 {
		t.Errorf("money was taken %d times for the charge", n)
	}
	if s.captures(checkoutCharge(t, pk, checkout.ID)) != 1 {
		t.Errorf("the checkout's payment is not in the ledger once: %+v", s.ledger())
	}
	a, b := s.rebuild(), s.rebuild()
	if a.Digest != b.Digest || a.Rows["customers"] != 1 || a.Rows["charges"] != 2 {
		t.Errorf("rebuilt %+v and %+v", a, b)
	}
	s.verify()
}

func checkoutCharge(t *testing.T, pk *paykit.Client, checkoutID string) string {
	t.Helper()
	var id string
	eventually(t, "the checkout is completed", func() bool {
		c, err := pk.Checkout.Get(t.Context(), checkoutID)
		if err == nil {
			id = c.ChargeID
		}
		return id != ""
	})
	return id
}

// receive takes n events, and a little longer to see that no more come.
func receive(t *testing.T, events <-chan paykit.Event, n int) []paykit.EventType {
	t.Helper()
	var got []paykit.EventType
	bound := time.After(30 * time.Second)
	for len(got) < n {
		select {
		case e := <-events:
			got = append(got, e.Type)
		case <-bound:
			t.Fatalf("only %v", got)
		}
	}
	select {
	case e := <-events:
		got = append(got, e.Type)
	case <-time.After(500 * time.Millisecond):
	}
	return got
}

// A declined card is no error of the engine.
func TestDeclinedCharge(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	pk := s.client()
	customerID, methodID := s.saved(pk, "user_declined", cardFailsLater)
	charge, err := pk.Charge.Create(t.Context(), paykit.ChargeCreate{
		CustomerID: customerID, PaymentMethodID: methodID, Amount: 1900, Description: "March usage",
	}, paykit.WithWait(20*time.Second))
	if err != nil || charge.Status != paykit.ChargeFailed || charge.Failure == nil || charge.Failure.Code != "card_declined" {
		t.Fatalf("charge: %+v, %v", charge, err)
	}
	if n := s.captures(charge.ID); n != 0 {
		t.Errorf("money was taken %d times", n)
	}
}

// A worker killed in the middle of a confirm: the next one settles it, and money is taken once.
func TestKilledWorker(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	pk := s.client()
	customerID, methodID := s.saved(pk, "user_killed", card4242)
	status, body := post(t, s.sandbox+"/_sandbox/faults", `{"operation":"payment_intents.confirm","nth":1,"times":1,"kind":"delay","when":"after","delay":"30s"}`, "Content-Type", "application/json")
	if status != 200 {
		t.Fatalf("fault: %d %s", status, body)
	}
	charge, err := pk.Charge.Create(t.Context(), paykit.ChargeCreate{
		CustomerID: customerID, PaymentMethodID: methodID, Amount: 1900, Description: "March usage",
	}, paykit.WithWait(0))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the confirm is executed", func() bool { return s.captures(charge.ID) == 1 })
	s.wk.kill()
	s.startWorker()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	settled, err := pk.Charge.Settled(ctx, charge.ID)
	if err != nil || settled.Status != paykit.ChargeSucceeded {
		t.Fatalf("after the kill: %+v, %v", settled, err)
	}
	if n := s.captures(charge.ID); n != 1 {
		t.Errorf("money was taken %d times", n)
	}
	s.verify()
}
