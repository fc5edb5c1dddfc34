package sandbox_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stripe/stripe-go/v76"
)

func sessionParams(cus string) *stripe.CheckoutSessionParams {
	p := &stripe.CheckoutSessionParams{
		Mode: new("payment"), SuccessURL: new("https://shop.example/ok?s={CHECKOUT_SESSION_ID}"), CancelURL: new("https://shop.example/no"),
		ClientReferenceID: new("order-42"), Metadata: map[string]string{"where": "session"},
		LineItems: []*stripe.CheckoutSessionLineItemParams{{
			Quantity: stripe.Int64(1),
			PriceData: &stripe.CheckoutSessionLineItemPriceDataParams{
				Currency: new("usd"), UnitAmount: stripe.Int64(4900),
				ProductData: &stripe.CheckoutSessionLineItemPriceDataProductDataParams{Name: new("Pro plan")},
			},
		}},
		PaymentIntentData: &stripe.CheckoutSessionPaymentIntentDataParams{Description: new("Pro plan"), Metadata: map[string]string{"where": "payment"}},
	}
	if cus != "" {
		p.Customer = new(cus)
	}
	return p
}

func setupParams(cus string) *stripe.CheckoutSessionParams {
	return &stripe.CheckoutSessionParams{
		Mode: new("setup"), Customer: new(cus), SuccessURL: new("https://shop.example/ok"), Currency: new("usd"),
		CancelURL:       new("https://shop.example/no"), // optional since a version after that of the schema test
		SetupIntentData: &stripe.CheckoutSessionSetupIntentDataParams{Metadata: map[string]string{"where": "setup"}},
	}
}

func (w *world) checkout(p *stripe.CheckoutSessionParams) *stripe.CheckoutSession {
	w.t.Helper()
	cs, err := w.api.CheckoutSessions.New(p)
	if err != nil {
		w.t.Fatal(err)
	}
	return cs
}

func (w *world) complete(session, card string) (int, map[string]any) {
	w.t.Helper()
	var out map[string]any
	return w.control("POST", "/_sandbox/checkout/"+session+"/complete", `{"card":"`+card+`"}`, &out), out
}

func TestCheckout_payment(t *testing.T) {
	w := newWorld(t)
	cus := w.customer().ID
	p := sessionParams(cus)
	p.PaymentIntentData.SetupFutureUsage = new("off_session")
	cs := w.checkout(p)
	if cs.Status != "open" || cs.PaymentIntent != nil || cs.PaymentStatus != "unpaid" || cs.AmountTotal != 4900 || cs.URL != w.base+"/c/pay/"+cs.ID ||
		cs.ExpiresAt-cs.Created != 24*3600 || !strings.HasPrefix(cs.ID, "cs_test_") {
		t.Fatalf("new: %+v", cs)
	}
	items := w.api.CheckoutSessions.ListLineItems(&stripe.CheckoutSessionListLineItemsParams{Session: &cs.ID})
	if !items.Next() || items.LineItem().Description != "Pro plan" || items.LineItem().AmountTotal != 4900 {
		t.Errorf("line items: %v", items.Err())
	}

	status, body := w.complete(cs.ID, "4000000000000002")
	if status != 402 || at(body, "error", "code") != "card_declined" || at(body, "error", "decline_code") != "generic_decline" {
		t.Fatalf("decline: %d %v", status, body)
	}
	if got, err := w.api.CheckoutSessions.Get(cs.ID, nil); err != nil || got.Status != "open" {
		t.Fatalf("still open: %+v %v", got, err)
	}
	status, body = w.complete(cs.ID, "4242424242424242")
	if status != 200 || body["status"] != "complete" || body["payment_status"] != "paid" || body["url"] != nil || body["customer"] != cus {
		t.Fatalf("%d %v", status, body)
	}
	pi, err := w.api.PaymentIntents.Get(as[string](t, body["payment_intent"]), expand("latest_charge", "payment_method"))
	if err != nil || pi.Status != "succeeded" || pi.Metadata["where"] != "payment" || pi.LatestCharge.Metadata["where"] != "payment" || pi.PaymentMethod.Customer.ID != cus {
		t.Errorf("%+v %v", pi, err)
	}
	if status, _ := w.complete(cs.ID, "4242424242424242"); status != 400 {
		t.Errorf("paid twice: %d", status)
	}
	if _, err := w.confirmOffSession(w.payment(cus, pi.PaymentMethod.ID).ID); err != nil {
		t.Errorf("the saved card: %v", err)
	}
	if n := w.captures(); n != 2 {
		t.Errorf("%d captures", n)
	}
}

func TestCheckout_one_event_of_each_type(t *testing.T) {
	w := newWorld(t)
	cus := w.customer().ID
	p := sessionParams(cus)
	p.PaymentIntentData.SetupFutureUsage = new("off_session")
	cs := w.checkout(p)
	if status, body := w.complete(cs.ID, "4242 4242 4242 4242"); status != 200 {
		t.Fatalf("%d %v", status, body)
	}
	want := []string{"customer.created", "payment_intent.created", "charge.succeeded", "payment_intent.succeeded", "payment_method.attached", "checkout.session.completed"}
	if diff := cmp.Diff(want, w.eventTypes()); diff != "" {
		t.Error(diff)
	}
	for _, e := range w.events()[1:] {
		if e.Data.Object["customer"] != cus {
			t.Errorf("%s: customer %v", e.Type, e.Data.Object["customer"])
		}
		if e.Request.ID != "" || e.Request.IdempotencyKey != "" {
			t.Errorf("%s: the buyer made it, but it names request %q", e.Type, e.Request.ID)
		}
	}
}

func TestCheckout_setup(t *testing.T) {
	w := newWorld(t)
	cus := w.customer().ID
	cs := w.checkout(setupParams(cus))
	if cs.SetupIntent == nil || cs.PaymentStatus != "no_payment_required" || cs.AmountTotal != 0 {
		t.Fatalf("%+v", cs)
	}
	status, body := w.complete(cs.ID, "4000000000009995")
	if status != 402 || at(body, "error", "decline_code") != "insufficient_funds" {
		t.Fatalf("decline: %d %v", status, body)
	}
	if status, body = w.complete(cs.ID, "4000002500003155"); status != 200 || body["status"] != "complete" {
		t.Fatalf("%d %v", status, body)
	}
	p := &stripe.CheckoutSessionParams{}
	p.AddExpand("setup_intent.payment_method")
	got, err := w.api.CheckoutSessions.Get(cs.ID, p)
	if err != nil || got.SetupIntent.Status != "succeeded" || got.SetupIntent.Metadata["where"] != "setup" || got.SetupIntent.PaymentMethod.Card.Last4 != "3155" {
		t.Fatalf("%+v %v", got, err)
	}
	if _, err := w.confirmOffSession(w.payment(cus, got.SetupIntent.PaymentMethod.ID).ID); err != nil {
		t.Errorf("off session after a setup with 3-D Secure: %v", err)
	}
	want := []string{
		"setup_intent.created", "setup_intent.setup_failed", "setup_intent.requires_action", "payment_method.attached", "setup_intent.succeeded", "checkout.session.completed",
	}
	if diff := cmp.Diff(want, w.eventTypes(want...)); diff != "" {
		t.Error(diff)
	}
}

func TestCheckout_authentication(t *testing.T) {
	w := newWorld(t)
	cs := w.checkout(sessionParams(""))
	var body map[string]any
	status := w.control("POST", "/_sandbox/checkout/"+cs.ID+"/complete", `{"card":"4000002500003155","authentication":"fail"}`, &body)
	if status != 402 || at(body, "error", "code") != "payment_intent_authentication_failure" {
		t.Errorf("failed: %d %v", status, body)
	}
	if status, body := w.complete(cs.ID, "4000002500003155"); status != 200 {
		t.Errorf("passed: %d %v", status, body)
	}
	if n := w.captures(); n != 1 {
		t.Errorf("%d captures", n)
	}
}

func TestCheckout_makes_a_customer_when_asked(t *testing.T) {
	w := newWorld(t)
	p := sessionParams("")
	p.CustomerCreation, p.CustomerEmail = new("always"), new("new@example.com")
	cs := w.checkout(p)
	_, body := w.complete(cs.ID, "4242424242424242")
	id, _ := body["customer"].(string)
	cus, err := w.api.Customers.Get(id, nil)
	if err != nil || cus.Email != "new@example.com" {
		t.Errorf("%+v %v", cus, err)
	}
	if at(body, "customer_details", "email") != "new@example.com" {
		t.Errorf("%v", body["customer_details"])
	}
	guest := w.checkout(sessionParams(""))
	if _, body := w.complete(guest.ID, "4242424242424242"); body["customer"] != nil {
		t.Errorf("a guest got customer %v", body["customer"])
	}
}

func TestCheckout_expires(t *testing.T) {
	w := newWorld(t)
	early := w.checkout(sessionParams(""))
	p := sessionParams("")
	p.ExpiresAt = new(time.Now().Add(40 * time.Minute).Unix())
	short := w.checkout(p)
	begun := w.checkout(sessionParams(""))
	if status, _ := w.complete(begun.ID, "4000000000000002"); status != 402 {
		t.Fatalf("decline: %d", status)
	}
	state := func(id string) string {
		cs, err := w.api.CheckoutSessions.Get(id, nil)
		if err != nil {
			t.Fatal(err)
		}
		if (cs.Status == "open") != (cs.URL != "") {
			t.Errorf("status %s with url %q", cs.Status, cs.URL)
		}
		return string(cs.Status)
	}
	w.advance("41m")
	if a, b := state(early.ID), state(short.ID); a != "open" || b != "expired" {
		t.Errorf("after 41 min: %s and %s", a, b)
	}
	w.advance("24h")
	if a := state(early.ID); a != "expired" {
		t.Errorf("after 24 h: %s", a)
	}
	if status, _ := w.complete(early.ID, "4242424242424242"); status != 400 {
		t.Errorf("paid an expired session: %d", status)
	}
	_, err := w.api.CheckoutSessions.Expire(early.ID, nil)
	wantError(t, err, 400, stripe.ErrorTypeInvalidRequest, "")
	closed := w.checkout(sessionParams(""))
	if got, err := w.api.CheckoutSessions.Expire(closed.ID, nil); err != nil || got.Status != "expired" || got.URL != "" {
		t.Errorf("%+v %v", got, err)
	}
	if got := w.eventTypes("checkout.session.expired"); len(got) != 4 {
		t.Errorf("%v", got)
	}
	for _, p := range w.ledger() {
		if p.Status != "canceled" {
			t.Errorf("a payment of an expired session is %s", p.Status)
		}
	}
}

func TestCheckout_refusals(t *testing.T) {
	w := newWorld(t)
	cus := w.customer().ID
	rows := []struct {
		name   string
		change func(*stripe.CheckoutSessionParams)
		code   string
		param  string
	}{
		{"no mode", func(p *stripe.CheckoutSessionParams) { p.Mode = nil }, "parameter_missing", "mode"},
		{"no items", func(p *stripe.CheckoutSessionParams) { p.LineItems = nil }, "parameter_missing", "line_items"},
		{"no success_url", func(p *stripe.CheckoutSessionParams) { p.SuccessURL = nil }, "parameter_missing", "success_url"},
		{"bad url", func(p *stripe.CheckoutSessionParams) { p.SuccessURL = new("shop") }, "url_invalid", "success_url"},
		{"no name", func(p *stripe.CheckoutSessionParams) { p.LineItems[0].PriceData.ProductData.Name = nil }, "parameter_missing", "line_items[0][price_data][product_data]"},
		{"too small", func(p *stripe.CheckoutSessionParams) { p.LineItems[0].PriceData.UnitAmount = stripe.Int64(49) }, "amount_too_small", ""},
		{"too large", func(p *stripe.CheckoutSessionParams) { p.LineItems[0].Quantity = stripe.Int64(99999) }, "amount_too_large", "line_items"},
		{"unknown price", func(p *stripe.CheckoutSessionParams) {
			p.LineItems = []*stripe.CheckoutSessionLineItemParams{{Price: new("price_1"), Quantity: stripe.Int64(1)}}
		}, "resource_missing", "line_items[0][price]"},
		{"unknown customer", func(p *stripe.CheckoutSessionParams) { p.Customer = new("cus_none") }, "resource_missing", "customer"},
		{"two customers", func(p *stripe.CheckoutSessionParams) { p.CustomerEmail = new("a@example.com") }, "", "customer_email"},
		{"setup data", func(p *stripe.CheckoutSessionParams) {
			p.SetupIntentData = &stripe.CheckoutSessionSetupIntentDataParams{Description: new("x")}
		}, "", "setup_intent_data"},
		{"expires soon", func(p *stripe.CheckoutSessionParams) {
			p.ExpiresAt = new(time.Now().Add(5 * time.Minute).Unix())
		}, "", "expires_at"},
		{"expires late", func(p *stripe.CheckoutSessionParams) {
			p.ExpiresAt = new(time.Now().Add(25 * time.Hour).Unix())
		}, "", "expires_at"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			p := sessionParams(cus)
			row.change(p)
			_, err := w.api.CheckoutSessions.New(p)
			if se := stripeError(t, err, 400, stripe.ErrorTypeInvalidRequest, row.code); se.Param != row.param {
				t.Errorf("param %q, want %q (%s)", se.Param, row.param, se.Msg)
			}
		})
	}
	p := setupParams(cus)
	p.Currency = nil
	_, err := w.api.CheckoutSessions.New(p)
	wantError(t, err, 400, stripe.ErrorTypeInvalidRequest, "parameter_missing")
	if status, body := w.complete("cs_test_none", "4242424242424242"); status != http.StatusNotFound || at(body, "error", "code") != "resource_missing" {
		t.Errorf("%d %v", status, body)
	}
}

func TestCheckout_list(t *testing.T) {
	w := newWorld(t)
	cus := w.customer().ID
	open := w.checkout(sessionParams(cus))
	paid := w.checkout(sessionParams(cus))
	w.checkout(sessionParams(""))
	w.complete(paid.ID, "4242424242424242")
	list := func(p *stripe.CheckoutSessionListParams) (ids []string) {
		for it := w.api.CheckoutSessions.List(p); it.Next(); {
			ids = append(ids, it.CheckoutSession().ID)
		}
		return ids
	}
	if got := list(&stripe.CheckoutSessionListParams{Customer: &cus}); !slices.Equal(got, []string{paid.ID, open.ID}) {
		t.Errorf("by customer: %v", got)
	}
	if got := list(&stripe.CheckoutSessionListParams{Customer: &cus, Status: new("complete")}); !slices.Equal(got, []string{paid.ID}) {
		t.Errorf("by status: %v", got)
	}
	cs, err := w.api.CheckoutSessions.Get(paid.ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := list(&stripe.CheckoutSessionListParams{PaymentIntent: &cs.PaymentIntent.ID}); !slices.Equal(got, []string{paid.ID}) {
		t.Errorf("by payment: %v", got)
	}
}

func TestCheckout_payment_of_an_open_session_can_not_be_canceled(t *testing.T) {
	w := newWorld(t)
	cs := w.checkout(sessionParams(""))
	w.complete(cs.ID, "4000000000000002")
	cs, err := w.api.CheckoutSessions.Get(cs.ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.api.PaymentIntents.Cancel(cs.PaymentIntent.ID, nil)
	wantError(t, err, 400, stripe.ErrorTypeInvalidRequest, "payment_intent_unexpected_state")
}
