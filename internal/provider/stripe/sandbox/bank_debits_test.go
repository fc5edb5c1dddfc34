package sandbox_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stripe/stripe-go/v76"

	"github.com/paykit-go/paykit/internal/provider/stripe/sandbox"
)

func delayed(c *sandbox.Config) { c.DelayedAfter = time.Hour }

// A bank debit on a hosted page: complete and unpaid at once; the money comes, or does not, later; each step is told.
func TestBankDebit(t *testing.T) {
	for _, tt := range []struct {
		method, status, payment string
		captures                int
		then                    []string
	}{
		{"delayed_success", "succeeded", "paid", 1, []string{"charge.succeeded", "payment_intent.succeeded", "checkout.session.async_payment_succeeded"}},
		{"delayed_failure", "requires_payment_method", "unpaid", 0, []string{"charge.failed", "payment_intent.payment_failed", "checkout.session.async_payment_failed"}},
	} {
		t.Run(tt.method, func(t *testing.T) {
			w := newWorld(t, delayed)
			cus := w.customer().ID
			cs := w.checkout(sessionParams(cus))
			if !slices.Contains(cs.PaymentMethodTypes, "us_bank_account") {
				t.Fatalf("the page takes %v", cs.PaymentMethodTypes)
			}
			var body map[string]any
			if status := w.control("POST", "/_sandbox/checkout/"+cs.ID+"/complete", `{"method":"`+tt.method+`"}`, &body); status != 200 ||
				body["status"] != "complete" || body["payment_status"] != "unpaid" {
				t.Fatalf("%d %v", status, body)
			}
			begun := []string{"customer.created", "payment_intent.created", "payment_intent.processing", "charge.pending", "checkout.session.completed"}
			if diff := cmp.Diff(begun, w.eventTypes()); diff != "" {
				t.Error(diff)
			}
			id := as[string](t, body["payment_intent"])
			pi, err := w.api.PaymentIntents.Get(id, expand("latest_charge"))
			if err != nil || pi.Status != "processing" || pi.LatestCharge.Status != "pending" || pi.LatestCharge.Paid || w.captures() != 0 {
				t.Fatalf("under way: %+v %v", pi, err)
			}
			if _, err := w.api.PaymentIntents.Cancel(id, nil); err == nil {
				t.Error("canceled while it is under way")
			}
			w.restart()
			w.advance("2h")
			if diff := cmp.Diff(append(begun, tt.then...), w.eventTypes()); diff != "" {
				t.Error(diff)
			}
			if pi, err = w.api.PaymentIntents.Get(id, nil); err != nil || string(pi.Status) != tt.status || w.captures() != tt.captures {
				t.Errorf("ended: %+v %v, %d captures", pi, err, w.captures())
			}
			if tt.captures == 0 && (pi.LastPaymentError == nil || pi.LastPaymentError.DeclineCode != "insufficient_funds") {
				t.Errorf("its failure is %+v", pi.LastPaymentError)
			}
			if got, err := w.api.CheckoutSessions.Get(cs.ID, nil); err != nil || string(got.PaymentStatus) != tt.payment || got.Status != "complete" {
				t.Errorf("the session is %+v %v", got, err)
			}
		})
	}
}

// What takes no bank debit says so.
func TestBankDebit_refused(t *testing.T) {
	w := newWorld(t)
	cus := w.customer().ID
	cards := sessionParams(cus)
	cards.PaymentMethodTypes = stripe.StringSlice([]string{"card"})
	for session, method := range map[string]string{
		w.checkout(cards).ID: "delayed_success", w.checkout(setupParams(cus)).ID: "delayed_success",
		w.checkout(sessionParams(cus)).ID: "delayed_gift",
	} {
		if status := w.control("POST", "/_sandbox/checkout/"+session+"/complete", `{"method":"`+method+`"}`, nil); status != 400 {
			t.Errorf("%s: %d", method, status)
		}
	}
}

// The page's buttons do the same.
func TestBankDebit_page(t *testing.T) {
	w := newWorld(t, delayed)
	cs := w.checkout(sessionParams(w.customer().ID))
	if _, _, page := w.raw("GET", "/c/pay/"+cs.ID, "", ""); strings.Count(string(page), `name="bankAccount"`) != 2 {
		t.Errorf("the page offers no bank debit:\n%s", page)
	}
	post := func(account string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.base+"/c/pay/"+cs.ID, strings.NewReader(url.Values{"bankAccount": {account}}.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res.StatusCode
	}
	if status := post("gift"); status != http.StatusBadRequest {
		t.Errorf("an unknown account: %d", status)
	}
	for range 2 { // the second click leads on like the first
		if status := post("delayed_success"); status != http.StatusSeeOther {
			t.Errorf("the button: %d", status)
		}
	}
	if got, err := w.api.CheckoutSessions.Get(cs.ID, nil); err != nil || got.Status != "complete" || got.PaymentStatus != "unpaid" {
		t.Errorf("the session is %+v %v", got, err)
	}
}

// A card network's update keeps the method's id; only another number has another fingerprint.
func TestAutomaticUpdate(t *testing.T) {
	w := newWorld(t)
	cus := w.customer().ID
	m := w.saved(cus, "pm_card_visa")
	update := func(id, body string) int {
		return w.control("POST", "/_sandbox/payment_methods/"+id+"/update", body, nil)
	}
	if status := update(m.ID, `{"exp_year":2040}`); status != 200 {
		t.Fatalf("%d", status)
	}
	got, err := w.api.PaymentMethods.Get(m.ID, nil)
	if err != nil || got.Card.ExpYear != 2040 || got.Card.ExpMonth != m.Card.ExpMonth || got.Card.Last4 != "4242" || got.Card.Fingerprint != m.Card.Fingerprint {
		t.Errorf("%+v %v", got.Card, err)
	}
	if e := w.event("payment_method.automatically_updated"); e.Data.Object["id"] != m.ID || at(e.Data.PreviousAttributes, "card", "exp_year") == nil {
		t.Errorf("%+v", e.Data)
	}
	if status := update(m.ID, `{"exp_month":2,"exp_year":2041,"last4":"1881"}`); status != 200 {
		t.Fatalf("%d", status)
	}
	if got, err = w.api.PaymentMethods.Get(m.ID, nil); err != nil || got.Card.ExpMonth != 2 || got.Card.Last4 != "1881" || got.Card.Fingerprint == m.Card.Fingerprint {
		t.Errorf("%+v %v", got.Card, err)
	}
	if n := len(w.eventTypes("payment_method.automatically_updated")); n != 2 {
		t.Errorf("%d events", n)
	}
	if status := update(m.ID, `{"last4":"1881"}`); status != 200 || len(w.eventTypes("payment_method.automatically_updated")) != 2 {
		t.Errorf("%d: nothing changed, and it is told", status)
	}
	for body, want := range map[string]int{`{"exp_month":13}`: 400, `{"exp_year":41}`: 400, `{"last4":"12345"}`: 400, `{"year":2040}`: 400} {
		if status := update(m.ID, body); status != want {
			t.Errorf("%s: %d", body, status)
		}
	}
	if status := update("pm_none", `{"exp_year":2040}`); status != 404 {
		t.Errorf("unknown: %d", status)
	}
	if _, err := w.api.PaymentMethods.Detach(m.ID, nil); err != nil {
		t.Fatal(err)
	}
	if status := update(m.ID, `{"exp_year":2042}`); status != 400 {
		t.Errorf("detached: %d", status)
	}
}
