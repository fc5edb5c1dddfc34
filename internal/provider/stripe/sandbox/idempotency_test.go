package sandbox_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stripe/stripe-go/v76"
)

func TestIdempotency_replay(t *testing.T) {
	w := newWorld(t)
	status, first, body := w.raw("POST", "/v1/customers", "name=Jenny&email=j@example.com&metadata[a]=1&metadata[b]=2", "key-1")
	if status != 200 || first.Get("Idempotency-Key") != "key-1" || first.Get("Original-Request") != first.Get("Request-Id") || first.Get("Idempotent-Replayed") != "" ||
		first.Get("Stripe-Version") != "2023-10-16" || first.Get("Stripe-Should-Retry") != "false" || !strings.HasPrefix(first.Get("Request-Id"), "req_") {
		t.Fatalf("%d %v", status, first)
	}
	// The same parameters in another order mean the same.
	status, again, replayed := w.raw("POST", "/v1/customers", "metadata[b]=2&metadata[a]=1&email=j%40example.com&name=Jenny", "key-1")
	if status != 200 || string(replayed) != string(body) {
		t.Errorf("%d %s", status, replayed)
	}
	if again.Get("Idempotent-Replayed") != "true" || again.Get("Original-Request") != first.Get("Request-Id") || again.Get("Request-Id") == first.Get("Request-Id") {
		t.Errorf("%v", again)
	}
	if n := len(w.eventTypes("customer.created")); n != 1 {
		t.Errorf("%d customers", n)
	}
	if e := w.event("customer.created"); e.Request.IdempotencyKey != "key-1" || e.Request.ID != first.Get("Request-Id") {
		t.Errorf("the event names %+v", e.Request)
	}
}

func TestIdempotency_other_request(t *testing.T) {
	w := newWorld(t)
	cus := w.customer().ID
	if status, _, _ := w.raw("POST", "/v1/customers", "name=Jenny", "key-1"); status != 200 {
		t.Fatal(status)
	}
	for name, call := range map[string][2]string{"other parameters": {"/v1/customers", "name=Jane"}, "other path": {"/v1/customers/" + cus, "name=Jenny"}} {
		status, _, body := w.raw("POST", call[0], call[1], "key-1")
		m := mustJSON(t, body)
		if status != 400 || at(m, "error", "type") != "idempotency_error" || at(m, "error", "code") != nil {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}

func TestIdempotency_only_for_posts(t *testing.T) {
	w := newWorld(t)
	cus := w.customer().ID
	for range 2 {
		if status, h, _ := w.raw("GET", "/v1/customers/"+cus, "", "key-1"); status != 200 || h.Get("Idempotent-Replayed") != "" {
			t.Errorf("%d %v", status, h)
		}
	}
	if status, h, _ := w.raw("DELETE", "/v1/customers/"+cus, "", "key-1"); status != 200 || h.Get("Idempotency-Key") != "" {
		t.Errorf("%d %v", status, h)
	}
	if status, _, _ := w.raw("POST", "/v1/customers", "name=x", "key-1"); status != 200 {
		t.Errorf("the key was taken: %d", status)
	}
}

func TestIdempotency_what_is_stored(t *testing.T) {
	w := newWorld(t)
	cus := w.customer().ID
	failing := w.saved(cus, "pm_card_chargeCustomerFail").ID
	pi := w.payment(cus, failing)

	// A decline is stored: asking again does not try again.
	for i := range 2 {
		status, h, body := w.raw("POST", "/v1/payment_intents/"+pi.ID+"/confirm", "off_session=true", "decline")
		if status != 402 || (h.Get("Idempotent-Replayed") == "true") != (i == 1) {
			t.Errorf("decline %d: %d %v %s", i, status, h, body)
		}
	}
	if n := len(w.eventTypes("charge.failed")); n != 1 {
		t.Errorf("%d attempts", n)
	}

	// Refused parameters and unknown objects leave the key free.
	for name, bad := range map[string]string{"parameters": "/v1/customers?nme=x", "object": "/v1/customers/cus_none"} {
		key := "free-" + name
		path, form, _ := strings.Cut(bad, "?")
		if status, _, _ := w.raw("POST", path, form, key); status != 400 && status != 404 {
			t.Errorf("%s: %d", name, status)
		}
		if status, h, body := w.raw("POST", "/v1/customers", "name=x", key); status != 200 || h.Get("Idempotent-Replayed") != "" {
			t.Errorf("%s: the key was not free: %d %s", name, status, body)
		}
	}

	// An injected 429 stands for Stripe's limiter: nothing executed, nothing stored.
	w.fault(`{"operation":"customers.create","kind":"status","status":429}`)
	if status, _, body := w.raw("POST", "/v1/customers", "name=y", "limited"); status != 429 || at(mustJSON(t, body), "error", "code") != "rate_limit" {
		t.Errorf("%d %s", status, body)
	}
	if status, h, _ := w.raw("POST", "/v1/customers", "name=y", "limited"); status != 200 || h.Get("Idempotent-Replayed") != "" {
		t.Errorf("after the limit: %d", status)
	}
}

func TestIdempotency_expires(t *testing.T) {
	w := newWorld(t)
	create := func() (string, string) {
		_, h, body := w.raw("POST", "/v1/customers", "name=Jenny", "key-1")
		return as[string](t, mustJSON(t, body)["id"]), h.Get("Idempotent-Replayed")
	}
	first, _ := create()
	w.advance("23h59m")
	if same, replayed := create(); same != first || replayed != "true" {
		t.Errorf("within a day: %s, replayed %q", same, replayed)
	}
	w.advance("2m")
	if other, replayed := create(); other == first || replayed != "" {
		t.Errorf("after a day the key is new, but: %s, replayed %q", other, replayed)
	}
}

func TestIdempotency_in_use(t *testing.T) {
	w := newWorld(t)
	w.fault(`{"operation":"customers.create","kind":"delay","delay":"1m","when":"before"}`)
	slow := make(chan int, 1)
	go func() {
		status, _, _ := w.raw("POST", "/v1/customers", "name=Jenny", "key-1")
		slow <- status
	}()
	w.until("the slow call to begin", func() bool { return w.hits() == 1 })
	status, _, body := w.raw("POST", "/v1/customers", "name=Jenny", "key-1")
	if status != http.StatusConflict || at(mustJSON(t, body), "error", "code") != "idempotency_key_in_use" {
		t.Errorf("%d %s", status, body)
	}
	if status, _, _ := w.raw("POST", "/v1/customers", "name=Jenny", "key-2"); status != 200 {
		t.Errorf("another key waits: %d", status)
	}
	w.sand.Close() // lets go of the delay
	if status := <-slow; status != 200 {
		t.Errorf("the slow call: %d", status)
	}
}

func TestIdempotency_too_long(t *testing.T) {
	w := newWorld(t)
	if status, _, _ := w.raw("POST", "/v1/customers", "", strings.Repeat("k", 256)); status != 400 {
		t.Errorf("%d", status)
	}
}

func TestIdempotency_survives_a_concurrent_storm(t *testing.T) {
	w := newWorld(t)
	cus := w.customer().ID
	pi := w.payment(cus, w.saved(cus, "pm_card_visa").ID)
	results := make(chan error, 20)
	for range cap(results) {
		go func() {
			p := &stripe.PaymentIntentConfirmParams{OffSession: new(true)}
			p.SetIdempotencyKey("confirm-1")
			_, err := w.api.PaymentIntents.Confirm(pi.ID, p)
			results <- err
		}()
	}
	for range cap(results) {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if n := w.captures(); n != 1 {
		t.Errorf("%d captures", n)
	}
}
