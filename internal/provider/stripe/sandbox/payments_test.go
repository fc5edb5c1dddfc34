package sandbox_test

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stripe/stripe-go/v76"
)

// outcome is what a card brings in one situation: "ok", "3ds", or "code/decline_code".
func outcomeOf(t *testing.T, err error, needsAction bool) string {
	t.Helper()
	if err != nil {
		var se *stripe.Error
		if !errors.As(err, &se) || se.HTTPStatusCode != http.StatusPaymentRequired || se.Type != stripe.ErrorTypeCard {
			t.Fatalf("not a decline: %v", err)
		}
		return string(se.Code) + "/" + string(se.DeclineCode)
	}
	if needsAction {
		return "3ds"
	}
	return "ok"
}

func TestCards(t *testing.T) {
	const none = ""
	rows := []struct {
		card, number               string
		attach, setup, off, onSite string // off: off-session charge of the attached card; onSite: an on-session one
	}{
		{"pm_card_visa", "4242424242424242", "ok", "ok", "ok", "ok"},
		{"pm_card_mastercard", "5555555555554444", "ok", "ok", "ok", "ok"},
		{"pm_card_chargeCustomerFail", "4000000000000341", "ok", "ok", "card_declined/generic_decline", "card_declined/generic_decline"},
		{"pm_card_visa_chargeDeclined", "4000000000000002", "card_declined/generic_decline", "card_declined/generic_decline", none, "card_declined/generic_decline"},
		{"pm_card_visa_chargeDeclinedInsufficientFunds", "4000000000009995", "card_declined/insufficient_funds", "card_declined/insufficient_funds", none, "card_declined/insufficient_funds"},
		{"pm_card_visa_chargeDeclinedLostCard", "4000000000009987", "card_declined/lost_card", "card_declined/lost_card", none, "card_declined/lost_card"},
		{"pm_card_visa_chargeDeclinedStolenCard", "4000000000009979", "card_declined/stolen_card", "card_declined/stolen_card", none, "card_declined/stolen_card"},
		{"pm_card_visa_chargeDeclinedVelocityLimitExceeded", "4000000000006975", "card_declined/card_velocity_exceeded", "card_declined/card_velocity_exceeded", none, "card_declined/card_velocity_exceeded"},
		{"pm_card_chargeDeclinedExpiredCard", "4000000000000069", "expired_card/", "expired_card/", none, "expired_card/"},
		{"pm_card_chargeDeclinedIncorrectCvc", "4000000000000127", "incorrect_cvc/", "incorrect_cvc/", none, "incorrect_cvc/"},
		{"pm_card_chargeDeclinedProcessingError", "4000000000000119", "processing_error/", "processing_error/", none, "processing_error/"},
		{"pm_card_authenticationRequiredOnSetup", "4000002500003155", "ok", "3ds", "authentication_required/authentication_required", "3ds"},
		{"pm_card_authenticationRequired", "4000002760003184", "ok", "3ds", "authentication_required/authentication_required", "3ds"},
		{"pm_card_authenticationRequiredSetupForOffSession", "4000003800000446", "ok", "ok", "ok", "3ds"},
		{"pm_card_authenticationRequiredChargeDeclinedInsufficientFunds", "4000008260003178", "ok", "3ds", "card_declined/insufficient_funds", "3ds"},
		{"pm_card_createDispute", "4000000000000259", "ok", "ok", "ok", "ok"},
		{"pm_card_createDisputeProductNotReceived", "4000000000002685", "ok", "ok", "ok", "ok"},
		{"pm_card_createDisputeInquiry", "4000000000001976", "ok", "ok", "ok", "ok"},
		{"pm_card_createIssuerFraudRecord", "4000000000005423", "ok", "ok", "ok", "ok"},
		{"pm_card_pendingRefund", "4000000000007726", "ok", "ok", "ok", "ok"},
		{"pm_card_refundFail", "4000000000005126", "ok", "ok", "ok", "ok"},
		{"pm_card_radarBlock", "4100000000000019", "ok", "ok", "card_declined/fraudulent", "card_declined/fraudulent"},
	}
	w := newWorld(t)
	for _, row := range rows {
		t.Run(row.number, func(t *testing.T) {
			cus := w.customer().ID
			m, err := w.api.PaymentMethods.Attach(row.card, &stripe.PaymentMethodAttachParams{Customer: &cus})
			if got := outcomeOf(t, err, false); got != row.attach {
				t.Errorf("attach: %s, want %s", got, row.attach)
			}
			if err == nil {
				_, err := w.confirmOffSession(w.payment(cus, m.ID).ID)
				if got := outcomeOf(t, err, false); got != row.off {
					t.Errorf("off session: %s, want %s", got, row.off)
				}
			}
			typed, err := w.api.PaymentMethods.New(&stripe.PaymentMethodParams{
				Type: new("card"),
				Card: &stripe.PaymentMethodCardParams{Number: &row.number, ExpMonth: stripe.Int64(12), ExpYear: stripe.Int64(2034), CVC: new("123")},
			})
			if err != nil {
				t.Fatal(err)
			}
			if m != nil && m.Card != nil && m.Card.Fingerprint != typed.Card.Fingerprint {
				t.Errorf("fingerprints differ: %s and %s", m.Card.Fingerprint, typed.Card.Fingerprint)
			}
			pi, err := w.api.PaymentIntents.Confirm(w.payment("", "").ID, &stripe.PaymentIntentConfirmParams{
				PaymentMethod: &typed.ID, ReturnURL: new("https://example.com/back"),
			})
			if got := outcomeOf(t, err, pi.NextAction != nil); got != row.onSite {
				t.Errorf("on session: %s, want %s", got, row.onSite)
			}
			si, err := w.api.SetupIntents.New(&stripe.SetupIntentParams{
				Customer: &cus, PaymentMethod: &row.card, Confirm: new(true),
				PaymentMethodTypes: []*string{new("card")}, ReturnURL: new("https://example.com/back"),
			})
			if got := outcomeOf(t, err, si.NextAction != nil); got != row.setup {
				t.Errorf("setup: %s, want %s", got, row.setup)
			}
		})
	}
	w.captures()
}

func TestCards_checks(t *testing.T) {
	w := newWorld(t)
	rows := []struct{ name, number, month, year, cvc, code string }{
		{"good", "4242424242424242", "12", "2034", "123", ""},
		{"two-digit year", "4242424242424242", "12", "34", "123", ""},
		{"unnamed visa", "4000000000001000", "12", "2034", "123", ""},
		{"luhn", "4242424242424241", "12", "2034", "123", "incorrect_number"},
		{"too short", "424242424242", "12", "2034", "123", "incorrect_number"},
		{"letters", "4242-4242-4242-424x", "12", "2034", "123", "invalid_number"},
		{"month", "4242424242424242", "13", "2034", "123", "invalid_expiry_month"},
		{"past year", "4242424242424242", "12", "2019", "123", "invalid_expiry_year"},
		{"far year", "4242424242424242", "12", "2134", "123", "invalid_expiry_year"},
		{"short cvc", "4242424242424242", "12", "2034", "12", "invalid_cvc"},
		{"amex cvc has four", "378282246310005", "12", "2034", "123", "invalid_cvc"},
		{"amex", "378282246310005", "12", "2034", "1234", ""},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			form := url.Values{"type": {"card"}, "card[number]": {row.number}, "card[exp_month]": {row.month}, "card[exp_year]": {row.year}, "card[cvc]": {row.cvc}}
			status, _, body := w.raw("POST", "/v1/payment_methods", form.Encode(), "")
			code, _ := at(mustJSON(t, body), "error", "code").(string)
			if row.code == "" && status != 200 || row.code != "" && (status != 402 || code != row.code) {
				t.Errorf("%d %s", status, body)
			}
			if strings.Contains(string(body), row.number) {
				t.Error("the number is in the answer")
			}
		})
	}
}

func TestPayments_declined_off_session(t *testing.T) {
	w := newWorld(t)
	cus := w.customer().ID
	m := w.saved(cus, "pm_card_authenticationRequired")
	pi := w.payment(cus, m.ID)
	if pi.Status != stripe.PaymentIntentStatusRequiresConfirmation {
		t.Fatalf("new: %s", pi.Status)
	}
	_, err := w.confirmOffSession(pi.ID)
	se := stripeError(t, err, 402, stripe.ErrorTypeCard, "authentication_required")
	if se.PaymentIntent == nil || se.PaymentIntent.ID != pi.ID || se.PaymentMethod.ID != m.ID || se.ChargeID == "" {
		t.Errorf("error names intent %v, method %v, charge %q", se.PaymentIntent, se.PaymentMethod, se.ChargeID)
	}
	got, err := w.api.PaymentIntents.Get(pi.ID, expand("latest_charge"))
	if err != nil {
		t.Fatal(err)
	}
	if got.Status != stripe.PaymentIntentStatusRequiresPaymentMethod || got.PaymentMethod != nil || got.LastPaymentError.PaymentMethod.ID != m.ID ||
		got.LatestCharge.ID != se.ChargeID || got.LatestCharge.Status != "failed" || got.LatestCharge.FailureCode != "authentication_required" {
		t.Errorf("after the decline: %+v, charge %+v", got, got.LatestCharge)
	}

	// The same intent, on session: the buyer is sent to 3-D Secure and comes back paid.
	again, err := w.api.PaymentIntents.Confirm(pi.ID, &stripe.PaymentIntentConfirmParams{PaymentMethod: &m.ID, ReturnURL: new("https://example.com/back?x=1")})
	if err != nil || again.Status != stripe.PaymentIntentStatusRequiresAction || !strings.HasPrefix(again.NextAction.RedirectToURL.URL, w.base+"/3ds/") {
		t.Fatalf("%+v %v", again, err)
	}
	var done struct{ RedirectURL string }
	if status := w.control("POST", "/_sandbox/3ds/"+pi.ID, `{"outcome":"complete"}`, &done); status != 200 {
		t.Fatalf("3ds: %d", status)
	}
	back, err := url.Parse(done.RedirectURL)
	if err != nil || back.Query().Get("payment_intent") != pi.ID || back.Query().Get("redirect_status") != "succeeded" || back.Query().Get("x") != "1" {
		t.Errorf("back to %s: %v", done.RedirectURL, err)
	}
	paid, err := w.api.PaymentIntents.Get(pi.ID, expand("latest_charge"))
	if err != nil || paid.Status != stripe.PaymentIntentStatusSucceeded || paid.AmountReceived != 4900 || !paid.LatestCharge.Captured ||
		paid.LatestCharge.Metadata["order"] != "42" || paid.NextAction != nil || paid.LastPaymentError != nil {
		t.Errorf("paid: %+v %v", paid, err)
	}
	want := []string{
		"payment_intent.created", "charge.failed", "payment_intent.payment_failed", "payment_intent.requires_action", "charge.succeeded", "payment_intent.succeeded",
	}
	if diff := cmp.Diff(want, w.eventTypes(want...)); diff != "" {
		t.Error(diff)
	}
	if n := w.captures(); n != 1 {
		t.Errorf("%d captures", n)
	}
}

func expand(paths ...string) *stripe.PaymentIntentParams {
	p := &stripe.PaymentIntentParams{}
	for _, path := range paths {
		p.AddExpand(path)
	}
	return p
}

func TestPayments_authentication_fails(t *testing.T) {
	w := newWorld(t)
	pi, err := w.api.PaymentIntents.Confirm(w.payment("", "").ID, &stripe.PaymentIntentConfirmParams{
		PaymentMethod: new("pm_card_authenticationRequired"), ReturnURL: new("https://example.com/back"),
	})
	if err != nil {
		t.Fatal(err)
	}
	var out struct {
		RedirectURL string
		Decline     struct{ Code string }
	}
	w.control("POST", "/_sandbox/3ds/"+pi.ID, `{"outcome":"fail"}`, &out)
	if !strings.Contains(out.RedirectURL, "redirect_status=failed") || out.Decline.Code != "payment_intent_authentication_failure" {
		t.Errorf("%+v", out)
	}
	got, err := w.api.PaymentIntents.Get(pi.ID, nil)
	if err != nil || got.Status != stripe.PaymentIntentStatusRequiresPaymentMethod || got.LastPaymentError.Code != "payment_intent_authentication_failure" || got.LatestCharge != nil {
		t.Errorf("%+v %v", got, err)
	}
	if status := w.control("POST", "/_sandbox/3ds/"+pi.ID, `{"outcome":"complete"}`, nil); status != 404 {
		t.Errorf("a second answer: %d", status)
	}
	if n := w.captures(); n != 0 {
		t.Errorf("%d captures", n)
	}
}

func TestPayments_authenticated_then_declined(t *testing.T) {
	w := newWorld(t)
	pi, err := w.api.PaymentIntents.Confirm(w.payment("", "").ID, &stripe.PaymentIntentConfirmParams{
		PaymentMethod: new("pm_card_authenticationRequiredChargeDeclinedInsufficientFunds"), ReturnURL: new("https://example.com/back"),
	})
	if err != nil {
		t.Fatal(err)
	}
	var out struct {
		RedirectURL string
		Decline     struct{ Code, DeclineCode string }
	}
	w.control("POST", "/_sandbox/3ds/"+pi.ID, `{"outcome":"complete"}`, &out)
	if out.Decline.DeclineCode != "insufficient_funds" || !strings.Contains(out.RedirectURL, "redirect_status=failed") {
		t.Errorf("%+v", out)
	}
}

func TestPayments_error_on_requires_action(t *testing.T) {
	w := newWorld(t)
	_, err := w.api.PaymentIntents.Confirm(w.payment("", "").ID, &stripe.PaymentIntentConfirmParams{
		PaymentMethod: new("pm_card_authenticationRequired"), ErrorOnRequiresAction: new(true),
	})
	if se := stripeError(t, err, 402, stripe.ErrorTypeCard, "authentication_required"); se.DeclineCode != "authentication_not_handled" {
		t.Errorf("decline code %s", se.DeclineCode)
	}
}

func TestPayments_create_and_confirm(t *testing.T) {
	w := newWorld(t)
	cus := w.customer().ID
	m := w.saved(cus, "pm_card_visa")
	p := func() *stripe.PaymentIntentParams {
		return &stripe.PaymentIntentParams{
			Amount: stripe.Int64(4900), Currency: new("USD"), Customer: &cus, PaymentMethod: &m.ID, Confirm: new(true), OffSession: new(true),
		}
	}
	_, err := w.api.PaymentIntents.New(p())
	if se := stripeError(t, err, 400, stripe.ErrorTypeInvalidRequest, ""); se.Param != "return_url" {
		t.Errorf("automatic methods need a return_url: %+v", se)
	}
	never := p()
	never.AutomaticPaymentMethods = &stripe.PaymentIntentAutomaticPaymentMethodsParams{Enabled: new(true), AllowRedirects: new("never")}
	pi, err := w.api.PaymentIntents.New(never)
	if err != nil || pi.Status != stripe.PaymentIntentStatusSucceeded || pi.Currency != "usd" {
		t.Fatalf("%+v %v", pi, err)
	}
	bad := p()
	bad.PaymentMethodTypes = []*string{new("card")}
	bad.PaymentMethod = new(w.saved(cus, "pm_card_chargeCustomerFail").ID)
	_, err = w.api.PaymentIntents.New(bad)
	se := stripeError(t, err, 402, stripe.ErrorTypeCard, "card_declined")
	if got, err := w.api.PaymentIntents.Get(se.PaymentIntent.ID, nil); err != nil || got.Status != stripe.PaymentIntentStatusRequiresPaymentMethod {
		t.Errorf("the declined payment stays: %+v %v", got, err)
	}
	if n := w.captures(); n != 1 {
		t.Errorf("%d captures", n)
	}
}

func TestPayments_states(t *testing.T) {
	w := newWorld(t)
	cus := w.customer().ID
	m := w.saved(cus, "pm_card_visa")
	pi := w.payment(cus, "")
	if pi.Status != stripe.PaymentIntentStatusRequiresPaymentMethod {
		t.Errorf("new: %s", pi.Status)
	}
	_, err := w.confirmOffSession(pi.ID)
	wantError(t, err, 400, stripe.ErrorTypeInvalidRequest, "payment_intent_unexpected_state")
	pi, err = w.api.PaymentIntents.Update(pi.ID, &stripe.PaymentIntentParams{PaymentMethod: &m.ID, Amount: stripe.Int64(5000)})
	if err != nil || pi.Status != stripe.PaymentIntentStatusRequiresConfirmation || pi.Amount != 5000 {
		t.Fatalf("%+v %v", pi, err)
	}
	if pi, err = w.confirmOffSession(pi.ID); err != nil || pi.Status != stripe.PaymentIntentStatusSucceeded {
		t.Fatalf("%+v %v", pi, err)
	}
	_, err = w.confirmOffSession(pi.ID)
	se := stripeError(t, err, 400, stripe.ErrorTypeInvalidRequest, "payment_intent_unexpected_state")
	if se.PaymentIntent == nil || se.PaymentIntent.Status != stripe.PaymentIntentStatusSucceeded {
		t.Errorf("the error carries no succeeded intent: %+v", se.PaymentIntent)
	}
	_, err = w.api.PaymentIntents.Cancel(pi.ID, nil)
	wantError(t, err, 400, stripe.ErrorTypeInvalidRequest, "payment_intent_unexpected_state")
	_, err = w.api.PaymentIntents.Update(pi.ID, &stripe.PaymentIntentParams{Amount: stripe.Int64(100)})
	wantError(t, err, 400, stripe.ErrorTypeInvalidRequest, "payment_intent_unexpected_state")

	open := w.payment(cus, m.ID)
	gone, err := w.api.PaymentIntents.Cancel(open.ID, &stripe.PaymentIntentCancelParams{CancellationReason: new("abandoned")})
	if err != nil || gone.Status != stripe.PaymentIntentStatusCanceled || gone.CancellationReason != "abandoned" || gone.CanceledAt == 0 {
		t.Errorf("%+v %v", gone, err)
	}
	_, err = w.confirmOffSession(open.ID)
	wantError(t, err, 400, stripe.ErrorTypeInvalidRequest, "payment_intent_unexpected_state")
	_, err = w.api.PaymentIntents.Cancel(open.ID, nil)
	wantError(t, err, 400, stripe.ErrorTypeInvalidRequest, "payment_intent_unexpected_state")
	if n := w.captures(); n != 1 {
		t.Errorf("%d captures", n)
	}
}

func TestPayments_methods_of_others(t *testing.T) {
	w := newWorld(t)
	mine, theirs := w.customer().ID, w.customer().ID
	m := w.saved(theirs, "pm_card_visa")
	for name, p := range map[string]*stripe.PaymentIntentParams{
		"another customer": {Customer: &mine, PaymentMethod: &m.ID},
		"no customer":      {PaymentMethod: &m.ID},
	} {
		p.Amount, p.Currency = stripe.Int64(4900), new("usd")
		_, err := w.api.PaymentIntents.New(p)
		if se := stripeError(t, err, 400, stripe.ErrorTypeInvalidRequest, ""); se.Param != "payment_method" {
			t.Errorf("%s: %+v", name, se)
		}
	}
	_, err := w.api.PaymentIntents.Confirm(w.payment(mine, "").ID, &stripe.PaymentIntentConfirmParams{PaymentMethod: &m.ID})
	wantError(t, err, 400, stripe.ErrorTypeInvalidRequest, "")
}

func TestPayments_manual_capture(t *testing.T) {
	w := newWorld(t)
	pay := func() *stripe.PaymentIntent {
		pi, err := w.api.PaymentIntents.New(&stripe.PaymentIntentParams{
			Amount: stripe.Int64(4900), Currency: new("usd"), CaptureMethod: new("manual"), Confirm: new(true),
			PaymentMethod: new("pm_card_visa"), PaymentMethodTypes: []*string{new("card")},
		})
		if err != nil || pi.Status != stripe.PaymentIntentStatusRequiresCapture || pi.AmountCapturable != 4900 {
			t.Fatalf("%+v %v", pi, err)
		}
		return pi
	}
	pi := pay()
	if n := w.captures(); n != 0 {
		t.Errorf("authorized: %d captures", n)
	}
	_, err := w.api.PaymentIntents.Capture(pi.ID, &stripe.PaymentIntentCaptureParams{AmountToCapture: stripe.Int64(5000)})
	wantError(t, err, 400, stripe.ErrorTypeInvalidRequest, "amount_too_large")
	got, err := w.api.PaymentIntents.Capture(pi.ID, &stripe.PaymentIntentCaptureParams{AmountToCapture: stripe.Int64(4000)})
	if err != nil || got.Status != stripe.PaymentIntentStatusSucceeded || got.AmountReceived != 4000 {
		t.Errorf("%+v %v", got, err)
	}
	_, err = w.api.PaymentIntents.Capture(pi.ID, nil)
	wantError(t, err, 400, stripe.ErrorTypeInvalidRequest, "payment_intent_unexpected_state")
	void := pay()
	if _, err := w.api.PaymentIntents.Cancel(void.ID, nil); err != nil {
		t.Fatal(err)
	}
	if n := w.captures(); n != 1 {
		t.Errorf("%d captures", n)
	}
	if got := w.eventTypes("charge.captured", "charge.refunded", "payment_intent.canceled"); !slices.Equal(got, []string{"charge.captured", "charge.refunded", "payment_intent.canceled"}) {
		t.Errorf("%v", got)
	}
}

func TestPayments_list(t *testing.T) {
	w := newWorld(t)
	cus := w.customer().ID
	a, b := w.payment(cus, ""), w.payment(cus, "")
	w.payment(w.customer().ID, "")
	it := w.api.PaymentIntents.List(&stripe.PaymentIntentListParams{Customer: &cus, CreatedRange: &stripe.RangeQueryParams{GreaterThanOrEqual: a.Created}})
	var ids []string
	for it.Next() {
		ids = append(ids, it.PaymentIntent().ID)
	}
	if !slices.Equal(ids, []string{b.ID, a.ID}) {
		t.Errorf("%v", ids)
	}
}

func TestPayments_save_the_card(t *testing.T) {
	w := newWorld(t)
	cus := w.customer().ID
	pi, err := w.api.PaymentIntents.New(&stripe.PaymentIntentParams{
		Amount: stripe.Int64(4900), Currency: new("usd"), Customer: &cus, SetupFutureUsage: new("off_session"), Confirm: new(true),
		PaymentMethod: new("pm_card_visa"), PaymentMethodTypes: []*string{new("card")},
	})
	if err != nil {
		t.Fatal(err)
	}
	it := w.api.PaymentMethods.List(&stripe.PaymentMethodListParams{Customer: &cus, Type: new("card")})
	if !it.Next() || it.PaymentMethod().ID != pi.PaymentMethod.ID {
		t.Errorf("the card was not saved: %v", it.Err())
	}
	once := w.payment("", "pm_card_visa")
	if _, err := w.confirmOffSession(once.ID); err != nil {
		t.Fatal(err)
	}
	_, err = w.api.PaymentMethods.Attach(once.PaymentMethod.ID, &stripe.PaymentMethodAttachParams{Customer: &cus})
	if se := stripeError(t, err, 400, stripe.ErrorTypeInvalidRequest, ""); !strings.Contains(se.Msg, "may not be used again") {
		t.Errorf("a card used once can't be attached: %s", se.Msg)
	}
}

func TestMethods_attach_and_detach(t *testing.T) {
	w := newWorld(t)
	cus, other := w.customer().ID, w.customer().ID
	m := w.saved(cus, "pm_card_visa")
	if again := w.saved(cus, m.ID); again.ID != m.ID {
		t.Errorf("attached twice: %s and %s", again.ID, m.ID)
	}
	_, err := w.api.PaymentMethods.Attach(m.ID, &stripe.PaymentMethodAttachParams{Customer: &other})
	wantError(t, err, 400, stripe.ErrorTypeInvalidRequest, "")
	second := w.saved(cus, "pm_card_mastercard")
	it := w.api.Customers.ListPaymentMethods(&stripe.CustomerListPaymentMethodsParams{Customer: &cus})
	var ids []string
	for it.Next() {
		ids = append(ids, it.PaymentMethod().ID)
	}
	if !slices.Equal(ids, []string{second.ID, m.ID}) {
		t.Errorf("newest first: %v", ids)
	}
	gone, err := w.api.PaymentMethods.Detach(m.ID, &stripe.PaymentMethodDetachParams{})
	if err != nil || gone.Customer != nil {
		t.Errorf("%+v %v", gone, err)
	}
	_, err = w.api.PaymentMethods.Detach(m.ID, nil)
	wantError(t, err, 400, stripe.ErrorTypeInvalidRequest, "")
	_, err = w.api.PaymentMethods.Attach(m.ID, &stripe.PaymentMethodAttachParams{Customer: &cus})
	wantError(t, err, 400, stripe.ErrorTypeInvalidRequest, "")
	_, err = w.api.PaymentIntents.New(&stripe.PaymentIntentParams{Amount: stripe.Int64(4900), Currency: new("usd"), Customer: &cus, PaymentMethod: &m.ID})
	wantError(t, err, 400, stripe.ErrorTypeInvalidRequest, "")
	e := w.event("payment_method.detached")
	if e.Data.Object["customer"] != nil || e.Data.PreviousAttributes["customer"] != cus {
		t.Errorf("detached: customer %v, before %v", e.Data.Object["customer"], e.Data.PreviousAttributes)
	}
	month := second.Card.ExpMonth%12 + 1
	upd, err := w.api.PaymentMethods.Update(second.ID, &stripe.PaymentMethodParams{Card: &stripe.PaymentMethodCardParams{ExpMonth: &month}})
	if err != nil || upd.Card.ExpMonth != month {
		t.Errorf("%+v %v", upd, err)
	}
	if prev := w.event("payment_method.updated").Data.PreviousAttributes["card"]; !cmp.Equal(prev, any(map[string]any{"exp_month": float64(second.Card.ExpMonth)})) {
		t.Errorf("previous: %v", prev)
	}
}

func TestSetups(t *testing.T) {
	w := newWorld(t)
	cus := w.customer().ID
	si, err := w.api.SetupIntents.New(&stripe.SetupIntentParams{Customer: &cus, PaymentMethodTypes: []*string{new("card")}, Metadata: map[string]string{"a": "b"}})
	if err != nil || si.Status != stripe.SetupIntentStatusRequiresPaymentMethod {
		t.Fatalf("%+v %v", si, err)
	}
	_, err = w.api.SetupIntents.Confirm(si.ID, &stripe.SetupIntentConfirmParams{PaymentMethod: new("pm_card_visa_chargeDeclined")})
	se := stripeError(t, err, 402, stripe.ErrorTypeCard, "card_declined")
	if se.SetupIntent == nil || se.SetupIntent.LastSetupError.DeclineCode != "generic_decline" {
		t.Errorf("%+v", se.SetupIntent)
	}
	si, err = w.api.SetupIntents.Confirm(si.ID, &stripe.SetupIntentConfirmParams{
		PaymentMethod: new("pm_card_authenticationRequiredOnSetup"), ReturnURL: new("https://example.com/back"),
	})
	if err != nil || si.Status != stripe.SetupIntentStatusRequiresAction {
		t.Fatalf("%+v %v", si, err)
	}
	w.control("POST", "/_sandbox/3ds/"+si.ID, `{"outcome":"fail"}`, nil)
	if si, err = w.api.SetupIntents.Get(si.ID, nil); err != nil || si.LastSetupError.Code != "setup_intent_authentication_failure" {
		t.Fatalf("%+v %v", si.LastSetupError, err)
	}
	if si, err = w.api.SetupIntents.Confirm(si.ID, &stripe.SetupIntentConfirmParams{
		PaymentMethod: new("pm_card_authenticationRequiredOnSetup"), ReturnURL: new("https://example.com/back"),
	}); err != nil {
		t.Fatal(err)
	}
	w.control("POST", "/_sandbox/3ds/"+si.ID, `{"outcome":"complete"}`, nil)
	p := &stripe.SetupIntentParams{}
	p.AddExpand("payment_method")
	if si, err = w.api.SetupIntents.Get(si.ID, p); err != nil || si.Status != stripe.SetupIntentStatusSucceeded || si.PaymentMethod.Customer.ID != cus {
		t.Fatalf("%+v %v", si, err)
	}
	// Set up with 3-D Secure, the card can be charged later without it.
	if pi, err := w.confirmOffSession(w.payment(cus, si.PaymentMethod.ID).ID); err != nil || pi.Status != stripe.PaymentIntentStatusSucceeded {
		t.Errorf("off session after setup: %+v %v", pi, err)
	}
	_, err = w.api.SetupIntents.Cancel(si.ID, nil)
	wantError(t, err, 400, stripe.ErrorTypeInvalidRequest, "setup_intent_unexpected_state")
	want := []string{
		"setup_intent.created", "setup_intent.setup_failed", "setup_intent.requires_action", "setup_intent.setup_failed", "setup_intent.requires_action",
		"payment_method.attached", "setup_intent.succeeded",
	}
	if diff := cmp.Diff(want, w.eventTypes(want...)); diff != "" {
		t.Error(diff)
	}
	if got := w.event("setup_intent.succeeded").Data.Object["customer"]; got != cus {
		t.Errorf("customer of the event: %v", got)
	}
	other, err := w.api.SetupIntents.New(&stripe.SetupIntentParams{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := w.api.SetupIntents.Cancel(other.ID, &stripe.SetupIntentCancelParams{CancellationReason: new("abandoned")}); err != nil || got.Status != "canceled" {
		t.Errorf("%+v %v", got, err)
	}
}
