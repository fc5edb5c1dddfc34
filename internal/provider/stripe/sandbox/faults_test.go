package sandbox_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stripe/stripe-go/v76"
)

// fault injects a fault.
func (w *world) fault(body string) {
	w.t.Helper()
	var out struct{ ID string }
	if status := w.control("POST", "/_sandbox/faults", body, &out); status != 200 || !strings.HasPrefix(out.ID, "flt_") {
		w.t.Fatalf("fault: %d %+v", status, out)
	}
}

type faultState struct {
	ID, Operation string
	Calls, Hits   int
}

func (w *world) faults() []faultState {
	w.t.Helper()
	var out struct{ Faults []faultState }
	w.control("GET", "/_sandbox/faults", "", &out)
	return out.Faults
}

func (w *world) hits() (n int) {
	w.t.Helper()
	for _, f := range w.faults() {
		n += f.Hits
	}
	return n
}

// confirmOnce confirms with a key and reports what the caller saw.
func (w *world) confirmOnce(id, key string) error {
	p := &stripe.PaymentIntentConfirmParams{OffSession: new(true)}
	p.SetIdempotencyKey(key)
	_, err := w.api.PaymentIntents.Confirm(id, p)
	return err
}

func TestFaults_before_and_after(t *testing.T) {
	for _, kind := range []string{"drop", "cut", "reset", "status"} {
		for _, when := range []string{"before", "after"} {
			t.Run(kind+" "+when, func(t *testing.T) {
				w := newWorld(t)
				cus := w.customer().ID
				pi := w.payment(cus, w.saved(cus, "pm_card_visa").ID)
				w.fault(`{"operation":"payment_intents.confirm","kind":"` + kind + `","when":"` + when + `"}`)

				err := w.confirmOnce(pi.ID, "k1")
				var se *stripe.Error
				switch {
				case err == nil:
					t.Fatal("the fault did not strike")
				case kind == "status":
					wantError(t, err, 500, "api_error", "")
				case errors.As(err, &se):
					t.Fatalf("a broken connection looks like an answer: %v", err)
				}
				want := map[string]int{"before": 0, "after": 1}[when]
				if n := w.captures(); n != want {
					t.Errorf("%d captures, want %d", n, want)
				}

				// The same key again: after "before" it is executed, after "after" the stored answer comes; a stored 500 stays one.
				err = w.confirmOnce(pi.ID, "k1")
				if kind == "status" && when == "after" {
					wantError(t, err, 500, "api_error", "")
				} else if err != nil {
					t.Errorf("again: %v", err)
				}
				if n := w.captures(); n != 1 {
					t.Errorf("%d captures in the end", n)
				}
				if got := w.faults(); len(got) != 1 || got[0].Calls != 2 || got[0].Hits != 1 {
					t.Errorf("%+v", got)
				}
			})
		}
	}
}

// A 500 of something that was never executed is kept under its key all the same, until the key is forgotten.
func TestFaults_stored_and_not_executed(t *testing.T) {
	w := newWorld(t)
	cus := w.customer().ID
	pi := w.payment(cus, w.saved(cus, "pm_card_visa").ID)
	w.fault(`{"operation":"payment_intents.confirm","kind":"status","stored":true}`)
	for range 2 {
		wantError(t, w.confirmOnce(pi.ID, "k1"), 500, "api_error", "")
	}
	if n := w.captures(); n != 0 {
		t.Errorf("%d captures by a call that was not executed", n)
	}
	if err := w.confirmOnce(pi.ID, "k2"); err != nil {
		t.Errorf("another key: %v", err)
	}
	if n := w.captures(); n != 1 {
		t.Errorf("%d captures in the end", n)
	}
}

func TestFaults_key_expired_is_a_second_attempt(t *testing.T) {
	w := newWorld(t)
	cus := w.customer().ID
	m := w.saved(cus, "pm_card_visa").ID
	create := func() error {
		p := &stripe.PaymentIntentParams{
			Amount: stripe.Int64(4900), Currency: new("usd"), Customer: &cus, PaymentMethod: &m, Confirm: new(true), OffSession: new(true),
			PaymentMethodTypes: []*string{new("card")},
		}
		p.SetIdempotencyKey("charge-1")
		_, err := w.api.PaymentIntents.New(p)
		return err
	}
	w.fault(`{"operation":"payment_intents.create","kind":"drop","when":"after"}`)
	if err := create(); err == nil {
		t.Fatal("not dropped")
	}
	w.advance("25h")
	if err := create(); err != nil {
		t.Fatal(err)
	}
	if n := w.captures(); n != 2 {
		t.Errorf("one-step charging after the key's end: %d captures, the trap that the sandbox must show", n)
	}
}

func TestFaults_nth_and_times(t *testing.T) {
	w := newWorld(t)
	w.fault(`{"operation":"customers.create","kind":"status","status":503,"nth":2,"times":2}`)
	var got []int
	for range 5 {
		status, _, _ := w.raw("POST", "/v1/customers", "", "")
		got = append(got, status)
	}
	if diff := cmp.Diff([]int{200, 503, 503, 200, 200}, got); diff != "" {
		t.Error(diff)
	}
	if got := w.faults(); got[0].Calls != 5 || got[0].Hits != 2 {
		t.Errorf("%+v", got)
	}
	if status := w.control("DELETE", "/_sandbox/faults", "", nil); status != 200 || len(w.faults()) != 0 {
		t.Errorf("not cleared: %+v", w.faults())
	}
}

func TestFaults_of_one_customer(t *testing.T) {
	w := newWorld(t)
	a, b := w.customer().ID, w.customer().ID
	pa, pb := w.payment(a, w.saved(a, "pm_card_visa").ID), w.payment(b, w.saved(b, "pm_card_visa").ID)
	w.fault(`{"operation":"*","kind":"status","status":500,"customer":"` + a + `","times":100}`)
	statuses := func(path ...string) (got []int) {
		for _, p := range path {
			method, path, _ := strings.Cut(p, " ")
			status, _, _ := w.raw(method, path, "", "")
			got = append(got, status)
		}
		return got
	}
	if diff := cmp.Diff([]int{500, 500, 500, 500}, statuses("GET /v1/customers/"+a, "GET /v1/payment_intents/"+pa.ID, "GET /v1/payment_intents?customer="+a,
		"POST /v1/payment_intents/"+pa.ID+"/confirm")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int{200, 200, 200, 200, 200}, statuses("GET /v1/customers/"+b, "GET /v1/payment_intents/"+pb.ID, "GET /v1/payment_intents?customer="+b,
		"POST /v1/payment_intents/"+pb.ID+"/confirm", "GET /v1/events")); diff != "" {
		t.Error(diff)
	}
}

func TestFaults_delay(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		t.Run(when, func(t *testing.T) {
			w := newWorld(t)
			cus := w.customer().ID
			pi := w.payment(cus, w.saved(cus, "pm_card_visa").ID)
			w.fault(`{"operation":"payment_intents.confirm","kind":"delay","delay":"300ms","when":"` + when + `"}`)
			hasty := newClient(w.base, "sk_test_123", &http.Client{Transport: w.http.Transport, Timeout: 50 * time.Millisecond})
			if _, err := hasty.PaymentIntents.Confirm(pi.ID, &stripe.PaymentIntentConfirmParams{OffSession: new(true)}); err == nil {
				t.Fatal("not slow")
			}
			// Whoever gave up waiting has still been charged.
			w.until("the charge", func() bool { return w.captures() == 1 })
		})
	}
}

func TestFaults_details(t *testing.T) {
	w := newWorld(t)
	w.fault(`{"operation":"customers.create","kind":"status","status":429,"code":"lock_timeout","headers":{"Retry-After":"7","Stripe-Should-Retry":"true"}}`)
	status, h, body := w.raw("POST", "/v1/customers", "", "")
	if status != 429 || h.Get("Retry-After") != "7" || h.Get("Stripe-Should-Retry") != "true" || at(mustJSON(t, body), "error", "code") != "lock_timeout" {
		t.Errorf("%d %v %s", status, h, body)
	}
	for _, status := range []string{"400", "401", "402", "403", "404", "409", "500", "502", "503"} {
		w.fault(`{"operation":"customers.list","kind":"status","status":` + status + `}`)
		_, _, body := w.raw("GET", "/v1/customers", "", "")
		w.control("DELETE", "/_sandbox/faults", "", nil)
		if m := mustJSON(t, body); at(m, "error", "message") == "" || at(m, "error", "type") == "" {
			t.Errorf("%s: %s", status, body)
		}
	}
}

func TestControl_refuses(t *testing.T) {
	w := newWorld(t)
	rows := []struct{ name, method, path, body, says string }{
		{"stored, of what is executed", "POST", "/_sandbox/faults", `{"operation":"customers.create","kind":"status","when":"after","stored":true}`, "stored goes"},
		{"stored, of a broken connection", "POST", "/_sandbox/faults", `{"operation":"customers.create","kind":"drop","stored":true}`, "stored goes"},
		{"unknown operation", "POST", "/_sandbox/faults", `{"operation":"customers.frobnicate","kind":"drop"}`, "unknown operation"},
		{"unknown kind", "POST", "/_sandbox/faults", `{"operation":"customers.create","kind":"explode"}`, "kind is"},
		{"unknown moment", "POST", "/_sandbox/faults", `{"operation":"customers.create","kind":"drop","when":"during"}`, "when is"},
		{"unknown field", "POST", "/_sandbox/faults", `{"operation":"customers.create","kind":"drop","tmies":3}`, "tmies"},
		{"no delay", "POST", "/_sandbox/faults", `{"operation":"customers.create","kind":"delay"}`, "delay is"},
		{"status out of range", "POST", "/_sandbox/faults", `{"operation":"customers.create","kind":"status","status":200}`, "status is"},
		{"not JSON", "POST", "/_sandbox/webhooks", `copies=3`, "body"},
		{"too many copies", "POST", "/_sandbox/webhooks", `{"copies":1000}`, "copies is"},
		{"copies below none", "POST", "/_sandbox/webhooks", `{"copies":-1}`, "copies is"},
		{"clock goes back", "POST", "/_sandbox/clock/advance", `{"by":"-1h"}`, "does not go back"},
		{"no duration", "POST", "/_sandbox/clock/advance", `{}`, "a duration"},
		{"outcome", "POST", "/_sandbox/3ds/pi_1", `{}`, "complete or fail"},
		{"trigger", "POST", "/_sandbox/trigger", `{"event":"invoice.paid"}`, "can't be triggered"},
		{"no such call", "GET", "/_sandbox/nothing", ``, "no control call"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			var out map[string]any
			status := w.control(row.method, row.path, row.body, &out)
			message, _ := at(out, "error", "message").(string)
			if status < 400 || status > 499 || !strings.Contains(message, row.says) {
				t.Errorf("%d %v", status, out)
			}
		})
	}
}

func TestControl_ledger(t *testing.T) {
	w := newWorld(t)
	cus := w.customer().ID
	m := w.saved(cus, "pm_card_visa").ID
	paid, open := w.payment(cus, m), w.payment(cus, "")
	if _, err := w.confirmOffSession(paid.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := w.api.Refunds.New(&stripe.RefundParams{PaymentIntent: &paid.ID, Amount: stripe.Int64(100)}); err != nil {
		t.Fatal(err)
	}
	var got map[string][]map[string]any
	w.control("GET", "/_sandbox/ledger", "", &got)
	var want map[string][]map[string]any
	if err := json.Unmarshal([]byte(`{"payments":[
		{"id":"`+paid.ID+`","amount":4900,"currency":"usd","status":"succeeded","captures":1,"amountRefunded":100,"customer":"`+cus+`","paymentMethod":"`+m+`","metadata":{"order":"42"}},
		{"id":"`+open.ID+`","amount":4900,"currency":"usd","status":"requires_payment_method","captures":0,"amountRefunded":0,"customer":"`+cus+`","paymentMethod":null,"metadata":{"order":"42"}}
	]}`), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
