package stripe

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
)

// The objects of testdata/deliveries as they are to be understood.

func ourCharge() events.Owner {
	return events.Owner{Env: "env_test", Customer: "cust_1", Charge: "chg_1"}
}

func seenPayment(change func(*events.Payment)) provider.PaymentSeen {
	p := events.Payment{
		Owner: ourCharge(), ID: "pi_1", ChargeID: "ch_1", ProviderCustomerID: "cus_1", ProviderMethodID: "pm_1",
		Status: events.PaymentSucceeded, Amount: 4900, Currency: "usd", CreatedAt: unix(1699999990),
	}
	change(&p)
	return provider.PaymentSeen{Payment: p}
}

func seenCharge(change func(*events.Payment)) provider.PaymentSeen {
	return seenPayment(func(p *events.Payment) {
		p.CreatedAt = unix(1699999991)
		change(p)
	})
}

func seenRefund(change func(*events.RefundReport)) provider.RefundSeen {
	r := events.RefundReport{
		Owner: events.Owner{Env: "env_test", Charge: "chg_1", Refund: "rfd_1"}, ID: "re_1",
		ProviderPaymentID: "pi_1", ProviderChargeID: "ch_1", Amount: 900, Currency: "usd",
		Status: events.RefundSucceeded, Reason: "requested_by_customer",
	}
	change(&r)
	return provider.RefundSeen{RefundReport: r}
}

func seenSession(change func(*events.Session)) provider.SessionSeen {
	s := events.Session{
		Owner: events.Owner{Env: "env_test", Customer: "cust_1", Checkout: "chk_1"}, ID: "cs_1", ProviderCustomerID: "cus_1",
		Status: events.SessionComplete, Paid: true, PaymentID: "pi_1", ExpiresAt: unix(1700086400), CreatedAt: unix(1700000000),
	}
	change(&s)
	return provider.SessionSeen{Session: s}
}

func seenMethod(change func(*events.Method)) provider.MethodSeen {
	m := events.Method{
		ID: "pm_1", ProviderCustomerID: "cus_1", Attached: true, Type: "card", Brand: "visa", Last4: "4242",
		ExpiryMonth: 12, ExpiryYear: 2034, Fingerprint: "fpr1", CreatedAt: unix(1700000000),
		ReportedAt: unix(1700000000), // the delivery's
	}
	change(&m)
	return provider.MethodSeen{Method: m}
}

func seenDispute(status string) provider.DisputeSeen {
	return provider.DisputeSeen{DisputeReport: events.DisputeReport{
		ID: "dp_1", ProviderPaymentID: "pi_1", ProviderChargeID: "ch_1", Amount: 4900, Currency: "usd",
		Status: status, Reason: "fraudulent",
	}}
}

func seenFunds(status string, funds events.DisputeFunds) provider.DisputeSeen {
	seen := seenDispute(status)
	seen.Funds = funds
	return seen
}

func seenWarning(actionable bool, payment string) provider.FraudWarningSeen {
	return provider.FraudWarningSeen{FraudWarningReport: events.FraudWarningReport{
		ID: "issfr_1", ProviderPaymentID: payment, ProviderChargeID: "ch_1", Type: "unauthorized_use_of_card", Actionable: actionable,
	}}
}

func failure(code, declineCode string) *events.Failure {
	f := events.NewFailure(code, declineCode)
	return &f
}

func same[T any](*T) {}

func TestDecode(t *testing.T) {
	refunded := seenCharge(func(p *events.Payment) { p.AmountRefunded = 900 })
	us := events.Owner{Env: "env_test", Customer: "cust_1"}
	setup := events.Owner{Env: "env_test", Customer: "cust_1", Setup: "set_1"}
	tests := []struct {
		file     string
		customer string
		want     []provider.Observation
	}{
		{"payment_intent.succeeded", "cus_1", []provider.Observation{seenPayment(same)}},
		{"payment_intent.succeeded.2020-08-27", "cus_1", []provider.Observation{
			seenPayment(func(p *events.Payment) { p.AmountRefunded = 900 }),
		}},
		{"payment_intent.succeeded.expanded", "cus_1", []provider.Observation{
			seenPayment(func(p *events.Payment) { p.AmountRefunded = 100 }),
		}},
		{"payment_intent.payment_failed", "cus_1", []provider.Observation{seenPayment(func(p *events.Payment) {
			p.Status, p.Failure = events.PaymentRequiresMethod, failure("card_declined", "insufficient_funds")
		})}},
		{"payment_intent.processing", "cus_1", []provider.Observation{seenPayment(func(p *events.Payment) {
			p.Status, p.ChargeID = events.PaymentProcessing, ""
		})}},
		{"payment_intent.canceled", "cus_1", []provider.Observation{seenPayment(func(p *events.Payment) {
			p.Status, p.Abandoned = events.PaymentCanceled, true
		})}},
		{"payment_intent.requires_action", "cus_1", nil},
		{"charge.succeeded", "cus_1", []provider.Observation{seenCharge(same)}},
		{"charge.succeeded.uncaptured", "cus_1", nil},
		{"charge.succeeded.foreign", "cus_1", []provider.Observation{seenCharge(func(p *events.Payment) {
			p.Owner, p.ID, p.ChargeID, p.ProviderMethodID = events.Owner{}, "", "py_1", ""
		})}},
		{"charge.failed", "cus_1", []provider.Observation{seenCharge(func(p *events.Payment) {
			p.Status, p.Failure = events.PaymentRequiresMethod, failure("card_declined", "generic_decline")
		})}},
		{"charge.refunded", "cus_1", []provider.Observation{
			refunded, provider.RefundTotalSeen{Payment: refunded.Payment, Total: 900},
		}},
		{"charge.refunded.2020-08-27", "cus_1", []provider.Observation{
			refunded,
			seenRefund(func(r *events.RefundReport) { r.Owner, r.Reason = events.Owner{}, "" }),
			provider.RefundTotalSeen{Payment: refunded.Payment, Total: 900},
		}},
		{"charge.refund.updated", "", []provider.Observation{seenRefund(func(r *events.RefundReport) { r.Status = events.RefundFailed })}},
		{"refund.created", "", []provider.Observation{seenRefund(func(r *events.RefundReport) { r.Status = events.RefundPending })}},
		{"refund.failed", "", []provider.Observation{seenRefund(func(r *events.RefundReport) { r.Status = events.RefundFailed })}},
		{"charge.dispute.created", "", []provider.Observation{seenDispute("needs_response")}},
		{"refund.failed.reason", "", []provider.Observation{seenRefund(func(r *events.RefundReport) {
			failure := events.NewRefundFailure("expired_or_canceled_card", "")
			r.Status, r.Failure = events.RefundFailed, &failure
		})}},
		{"charge.dispute.closed", "", []provider.Observation{seenDispute("won")}},
		{"charge.dispute.created.withdrawn", "", []provider.Observation{seenFunds("needs_response", events.FundsWithdrawn)}},
		{"charge.dispute.closed.reinstated", "", []provider.Observation{seenFunds("won", events.FundsReinstated)}},
		{"charge.dispute.funds_withdrawn", "", []provider.Observation{seenFunds("needs_response", events.FundsWithdrawn)}},
		{"charge.dispute.funds_withdrawn.2020-08-27", "", []provider.Observation{seenFunds("needs_response", events.FundsWithdrawn)}},
		{"charge.dispute.funds_reinstated", "", []provider.Observation{seenFunds("won", events.FundsReinstated)}},
		{"radar.early_fraud_warning.created", "", []provider.Observation{seenWarning(true, "pi_1")}},
		{"radar.early_fraud_warning.created.chargeonly", "", []provider.Observation{seenWarning(true, "")}},
		{"radar.early_fraud_warning.updated.expanded", "", []provider.Observation{seenWarning(false, "pi_1")}},
		{"checkout.session.completed", "cus_1", []provider.Observation{seenSession(same)}},
		{"checkout.session.completed.unpaid", "cus_1", []provider.Observation{seenSession(func(s *events.Session) { s.Paid = false })}},
		{"checkout.session.completed.2020-08-27", "cus_1", []provider.Observation{seenSession(same)}},
		{"checkout.session.completed.setup", "cus_1", []provider.Observation{seenSession(func(s *events.Session) {
			s.Owner, s.Setup, s.Paid, s.PaymentID = setup, true, false, ""
		})}},
		{"checkout.session.completed.subscription", "cus_1", nil},
		{"checkout.session.async_payment_failed", "cus_1", []provider.Observation{seenSession(func(s *events.Session) {
			s.Paid, s.PaymentFailed = false, true
		})}},
		{"checkout.session.async_payment_succeeded", "cus_1", []provider.Observation{seenSession(same)}},
		{"checkout.session.expired", "cus_1", []provider.Observation{seenSession(func(s *events.Session) {
			s.Status, s.Paid, s.PaymentID = events.SessionExpired, false, ""
		})}},
		{"setup_intent.succeeded", "", []provider.Observation{provider.SetupSeen{SetupReport: events.SetupReport{
			Owner: setup, ID: "seti_1", Succeeded: true, ProviderMethodID: "pm_1",
		}}}},
		{"payment_method.attached", "cus_1", []provider.Observation{provider.MethodSeen{Method: seenMethod(same).Method, First: true}}},
		{"payment_method.updated.sepa", "cus_1", []provider.Observation{seenMethod(func(m *events.Method) {
			m.Type, m.Brand, m.Last4, m.ExpiryMonth, m.ExpiryYear, m.Fingerprint = "sepa_debit", "", "3000", 0, 0, "fpr2"
		})}},
		{"payment_method.updated.nobodys", "", nil},
		{"payment_method.detached", "cus_1", []provider.Observation{seenMethod(func(m *events.Method) { m.Attached = false })}},
		{"customer.created", "cus_1", []provider.Observation{provider.CustomerSeen{Owner: us, ID: "cus_1"}}},
		{"customer.created.foreign", "cus_1", nil},
		{"customer.updated", "cus_1", nil},
		{"customer.deleted", "cus_1", []provider.Observation{provider.CustomerSeen{Owner: us, ID: "cus_1", Deleted: true}}},
		{"customer.subscription.created", "cus_1", nil},
	}
	tried := map[string]bool{}
	for _, tt := range tests {
		tried[tt.file+".json"] = true
		t.Run(tt.file, func(t *testing.T) {
			body, err := os.ReadFile(filepath.Join("testdata", "deliveries", tt.file+".json"))
			if err != nil {
				t.Fatal(err)
			}
			d, err := decode(body)
			if err != nil {
				t.Fatal(err)
			}
			if d.ID != "evt_1" || d.CreatedAt.IsZero() || d.CustomerID != tt.customer {
				t.Errorf("id %q, created %s, customer %q; want evt_1, a time, %q", d.ID, d.CreatedAt, d.CustomerID, tt.customer)
			}
			if diff := cmp.Diff(tt.want, d.Observations, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
	files, err := filepath.Glob(filepath.Join("testdata", "deliveries", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !tried[filepath.Base(f)] && filepath.Base(f) != "thin.json" { // TestDecodeThin
			t.Errorf("%s has no row", f)
		}
	}
}

// A thin event is told from one that means nothing: what it is about would have to be asked for.
func TestDecodeThin(t *testing.T) {
	body, err := os.ReadFile(filepath.Join("testdata", "deliveries", "thin.json"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := decode(body)
	if !errors.Is(err, provider.ErrThinEvent) || d.ID != "evt_1" || d.CreatedAt.IsZero() || len(d.Observations) != 0 {
		t.Errorf("got %+v, %v", d, err)
	}
}

func TestDecodeEnvelope(t *testing.T) {
	body, err := os.ReadFile(filepath.Join("testdata", "deliveries", "payment_intent.succeeded.expanded.json"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := decode(body)
	if err != nil {
		t.Fatal(err)
	}
	d.Observations = nil
	want := provider.Delivery{
		ID: "evt_1", Type: "payment_intent.succeeded", APIVersion: "2026-09-30.dahlia", CustomerID: "cus_1",
		CreatedAt: time.Unix(1700000000, 0).UTC(), Livemode: true, Account: "acct_1",
	}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeRefuses(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 20_000) + "1" + strings.Repeat("}", 20_000)
	tests := []struct {
		name, body string
		want       error
		customer   string // what is still known
	}{
		{"empty", ``, provider.ErrNotAnEvent, ""},
		{"an array", `[]`, provider.ErrNotAnEvent, ""},
		{"null", `null`, provider.ErrNotAnEvent, ""},
		{"no id", `{"type":"charge.succeeded"}`, provider.ErrNotAnEvent, ""},
		{"id is a number", `{"id":1,"type":"charge.succeeded"}`, provider.ErrNotAnEvent, ""},
		{"type is empty", `{"id":"evt_1","type":""}`, provider.ErrNotAnEvent, ""},
		{"two objects", `{"id":"evt_1","type":"a"}{"id":"evt_2","type":"a"}`, provider.ErrNotAnEvent, ""},
		{"too deep", deep, provider.ErrNotAnEvent, ""},
		{"no data", `{"id":"evt_1","type":"charge.succeeded"}`, provider.ErrUnreadable, ""},
		{"data is a text", `{"id":"evt_1","type":"charge.succeeded","data":"x"}`, provider.ErrUnreadable, ""},
		{"object has no id", `{"id":"evt_1","type":"charge.succeeded","data":{"object":{}}}`, provider.ErrUnreadable, ""},
		{
			"amount is a text", `{"id":"evt_1","type":"charge.succeeded","data":{"object":{"id":"ch_1","customer":"cus_1","amount":"canary"}}}`,
			provider.ErrUnreadable, "cus_1",
		},
		{
			"customer is a number", `{"id":"evt_1","type":"refund.updated","data":{"object":{"id":"re_1","charge":7}}}`,
			provider.ErrUnreadable, "",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := decode([]byte(tt.body))
			if !errors.Is(err, tt.want) || len(d.Observations) != 0 || d.CustomerID != tt.customer {
				t.Errorf("got %+v, %v; want %v", d, err, tt.want)
			}
			if errors.Is(err, provider.ErrUnreadable) && (d.ID != "evt_1" || d.Type == "") {
				t.Errorf("the envelope is lost: %+v", d)
			}
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("the error quotes the body: %v", err)
			}
		})
	}
}

func TestDecodeMeansNothing(t *testing.T) {
	// Whatever the object of an unknown type is, it is not looked at.
	for _, object := range []string{`null`, `7`, `[]`, `{"id":7,"customer":{}}`} {
		d, err := decode([]byte(`{"id":"evt_1","type":"invoice.paid","data":{"object":` + object + `}}`))
		if err != nil || len(d.Observations) != 0 || d.ID != "evt_1" {
			t.Errorf("%s: %+v, %v", object, d, err)
		}
	}
}

func TestNextActionURL(t *testing.T) {
	tests := []struct{ name, action, want string }{
		{"redirect", `{"type":"redirect_to_url","redirect_to_url":{"url":"https://example.com/3ds"}}`, "https://example.com/3ds"},
		{"for scripts", `{"type":"use_stripe_sdk","use_stripe_sdk":{"stripe_js":"https://example.com"}}`, ""},
		{"none", `null`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var pi paymentIntent
			if err := answered(response(`{"id":"pi_1","status":"requires_action","next_action":`+tt.action+`}`), &pi); err != nil {
				t.Fatal(err)
			}
			if got := pi.payment().ActionURL; got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestPaymentOfIntent(t *testing.T) {
	tests := []struct {
		name, json string
		want       events.Payment
	}{
		{
			"a stale error of a payment that went through is no failure",
			`{"id":"pi_1","status":"succeeded","amount":500,"amount_received":300,"last_payment_error":{"code":"card_declined","charge":"ch_0"},"latest_charge":"ch_1"}`,
			events.Payment{ID: "pi_1", ChargeID: "ch_1", Status: events.PaymentSucceeded, Amount: 300},
		},
		{
			"never tried", `{"id":"pi_1","status":"requires_payment_method"}`,
			events.Payment{ID: "pi_1", Status: events.PaymentRequiresMethod},
		},
		{
			"an error without a usable code", `{"id":"pi_1","status":"requires_payment_method","last_payment_error":{"code":"who@example.com"}}`,
			events.Payment{ID: "pi_1", Status: events.PaymentRequiresMethod, Failure: failure("payment_failed", "")},
		},
		{
			"authorized only", `{"id":"pi_1","status":"requires_capture"}`,
			events.Payment{ID: "pi_1", Status: events.PaymentProcessing},
		},
		{
			"canceled by us", `{"id":"pi_1","status":"canceled","cancellation_reason":"requested_by_customer"}`,
			events.Payment{ID: "pi_1", Status: events.PaymentCanceled},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var pi paymentIntent
			if err := answered(response(tt.json), &pi); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, pi.payment()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPaymentOfCharge(t *testing.T) {
	tests := []struct {
		name, json string
		want       events.Payment
	}{
		{
			"a part was captured", `{"id":"ch_1","status":"succeeded","amount":500,"amount_captured":300,"captured":true}`,
			events.Payment{ChargeID: "ch_1", Status: events.PaymentSucceeded, Amount: 300},
		},
		{
			"before captures were told", `{"id":"ch_1","status":"succeeded","amount":500}`,
			events.Payment{ChargeID: "ch_1", Status: events.PaymentSucceeded, Amount: 500},
		},
		{
			"authorized", `{"id":"ch_1","status":"succeeded","amount":500,"captured":false}`,
			events.Payment{ChargeID: "ch_1", Status: events.PaymentProcessing, Amount: 500},
		},
		{
			"only a decline has a decline code", `{"id":"ch_1","status":"failed","failure_code":"expired_card","outcome":{"reason":"expired_card"}}`,
			events.Payment{ChargeID: "ch_1", Status: events.PaymentRequiresMethod, Failure: failure("expired_card", "")},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var c stripeCharge
			if err := answered(response(tt.json), &c); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, c.payment()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRefundStatus(t *testing.T) {
	for word, want := range map[string]events.RefundStatus{
		"pending": events.RefundPending, "requires_action": events.RefundPending, "succeeded": events.RefundSucceeded,
		"failed": events.RefundFailed, "canceled": events.RefundCanceled,
	} {
		if got := refundStatus(word); got != want {
			t.Errorf("%s: got %s, want %s", word, got, want)
		}
	}
}

func TestSessionOfADelayedPayment(t *testing.T) {
	tests := []struct {
		name, intent string
		failed       bool
	}{
		{"under way", `{"id":"pi_1","status":"processing"}`, false},
		{"did not arrive", `{"id":"pi_1","status":"requires_payment_method","last_payment_error":{"code":"x"}}`, true},
		{"canceled", `{"id":"pi_1","status":"canceled"}`, true},
		{"not expanded", `"pi_1"`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s checkoutSession
			body := `{"id":"cs_1","mode":"payment","status":"complete","payment_status":"unpaid","payment_intent":` + tt.intent + `}`
			if err := answered(response(body), &s); err != nil {
				t.Fatal(err)
			}
			if got := s.session(); got.Paid || got.PaymentFailed != tt.failed || got.PaymentID != "pi_1" {
				t.Errorf("got %+v, want failed %t", got, tt.failed)
			}
		})
	}
}

// FuzzDecode: whatever is signed, decoding gives a delivery or an error, the same each time, and never a panic.
func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "deliveries", "*.json"))
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, name := range files {
		body, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Add([]byte(`{"id":"evt_1","type":"payment_method.detached","data":{"object":{"id":"pm_1","type":"id"}}}`))
	f.Add([]byte(`{"id":"evt_1","type":"charge.refunded","data":{"object":{"id":"ch_1","refunds":[null]}}}`))
	f.Add([]byte(`{"id":"evt_1","type":"charge.refunded","data":{"object":{"id":"ch_1","status":"succeeded","refunds":{"data":{}}}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := decode(body)
		if err == nil && (d.ID == "" || d.Type == "") {
			t.Errorf("a delivery without id or type: %+v", d)
		}
		if errors.Is(err, provider.ErrNotAnEvent) != (d.ID == "") {
			t.Errorf("%v, but id %q", err, d.ID)
		}
		again, _ := decode(body)
		if diff := cmp.Diff(d, again); diff != "" {
			t.Error(diff)
		}
	})
}
