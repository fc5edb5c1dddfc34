package sandbox

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

// triggerRequest asks for a chain of objects that ends in an event.
type triggerRequest struct {
	Event    string `json:"event"`
	Customer string `json:"customer"` // an existing customer; empty: a new one
	Amount   int64  `json:"amount"`   // minor units; 0: 2000
	Currency string `json:"currency"` // empty: usd
}

// triggerRun makes the objects of one trigger, by the same handlers that serve the API.
type triggerRun struct {
	*call
	in     triggerRequest
	made   map[string]string // kind of object → id, as answered
	failed *apiError         // the first refusal that is not a decline
}

const (
	goodCard    = "pm_card_visa"
	badCard     = "pm_card_chargeCustomerFail"
	secureCard  = "pm_card_authenticationRequired"
	refusedCard = "pm_card_visa_chargeDeclined"
)

// triggers lists the events that can be triggered, each with what makes it happen.
func triggers() map[string]func(*triggerRun) {
	return map[string]func(*triggerRun){
		"customer.created": func(t *triggerRun) { t.customerID() },
		"customer.updated": func(t *triggerRun) { t.do(updateCustomer, t.customerID(), "description", "Updated by a trigger") },
		"customer.deleted": func(t *triggerRun) { t.do(deleteCustomer, t.customerID()) },

		"payment_method.attached": func(t *triggerRun) { t.save() },
		"payment_method.updated": func(t *triggerRun) {
			t.do(updateMethod, t.save(), "card[exp_month]", "12", "metadata[updated]", "yes")
		},
		"payment_method.automatically_updated": func(t *triggerRun) { t.replaceCard(t.save()) },
		"payment_method.detached":              func(t *triggerRun) { t.do(detachMethod, t.save()) },

		"payment_intent.processing":                func(t *triggerRun) { t.debit("delayed_success") },
		"payment_intent.created":                   func(t *triggerRun) { t.begin() },
		"payment_intent.succeeded":                 func(t *triggerRun) { t.pay(goodCard) },
		"payment_intent.payment_failed":            func(t *triggerRun) { t.pay(badCard) },
		"payment_intent.requires_action":           func(t *triggerRun) { t.pay(secureCard) },
		"payment_intent.canceled":                  func(t *triggerRun) { t.do(cancelPayment, t.begin(), "cancellation_reason", "requested_by_customer") },
		"payment_intent.amount_capturable_updated": func(t *triggerRun) { t.pay(goodCard, "capture_method", "manual") },

		"charge.succeeded": func(t *triggerRun) { t.pay(goodCard) },
		"charge.failed":    func(t *triggerRun) { t.pay(badCard) },
		"charge.captured":  func(t *triggerRun) { t.do(capturePayment, t.pay(goodCard, "capture_method", "manual")) },
		"charge.refunded":  func(t *triggerRun) { t.refundOf(goodCard) },

		"refund.created":        func(t *triggerRun) { t.refundOf(goodCard) },
		"refund.updated":        func(t *triggerRun) { t.refundOf("pm_card_pendingRefund") },
		"charge.refund.updated": func(t *triggerRun) { t.refundOf("pm_card_pendingRefund") },
		"refund.failed":         func(t *triggerRun) { t.refundOf("pm_card_refundFail") },

		"charge.dispute.created":         func(t *triggerRun) { t.disputeOf() },
		"charge.dispute.funds_withdrawn": func(t *triggerRun) { t.disputeOf() },
		"charge.dispute.updated":         func(t *triggerRun) { t.do(updateDispute, t.disputeOf(), "evidence[product_description]", "A test") },
		"charge.dispute.closed":          func(t *triggerRun) { t.do(closeDispute, t.disputeOf()) },
		"charge.dispute.funds_reinstated": func(t *triggerRun) {
			t.do(updateDispute, t.disputeOf(), "evidence[uncategorized_text]", "winning_evidence")
		},

		"radar.early_fraud_warning.updated": func(t *triggerRun) {
			t.pay(goodCard)
			if ch, ok := t.charges.find(t.made["charge"]); ok {
				t.warnOfFraud(ch)
			}
			t.do(createRefund, "", "payment_intent", t.made["payment_intent"])
		},
		"radar.early_fraud_warning.created": func(t *triggerRun) { t.pay("pm_card_createIssuerFraudRecord") },

		"setup_intent.created":         func(t *triggerRun) { t.setupWith("") },
		"setup_intent.succeeded":       func(t *triggerRun) { t.setupWith(goodCard) },
		"setup_intent.setup_failed":    func(t *triggerRun) { t.setupWith(refusedCard) },
		"setup_intent.requires_action": func(t *triggerRun) { t.setupWith(secureCard) },
		"setup_intent.canceled":        func(t *triggerRun) { t.do(cancelSetup, t.setupWith("")) },

		"checkout.session.completed":               func(t *triggerRun) { t.buy(t.checkout()) },
		"checkout.session.async_payment_succeeded": func(t *triggerRun) { t.debit("delayed_success") },
		"checkout.session.async_payment_failed":    func(t *triggerRun) { t.debit("delayed_failure") },
		"checkout.session.expired":                 func(t *triggerRun) { t.do(expireSession, t.checkout()) },
	}
}

// trigger makes a real chain of objects in the sandbox and answers with their ids. Disputes, fraud warnings and the second
// answers of refunds follow after Config.SettleAfter, as they do for any test card.
func (s *Server) trigger(w http.ResponseWriter, r *http.Request) {
	var in triggerRequest
	if !readControl(w, r, &in) {
		return
	}
	chain, ok := triggers()[in.Event]
	if !ok {
		controlError(w, http.StatusBadRequest, fmt.Errorf("event %q can't be triggered: one of %v", in.Event, slices.Sorted(maps.Keys(triggers()))))
		return
	}
	in.Amount, in.Currency = orDefault(in.Amount, 2000), orDefault(in.Currency, "usd")
	t := s.runTrigger(chain, in, "http://"+r.Host)
	if t.failed != nil {
		controlError(w, http.StatusBadRequest, t.failed)
		return
	}
	writeJSON(w, map[string]any{"event": in.Event, "objects": t.made})
}

func (s *Server) runTrigger(chain func(*triggerRun), in triggerRequest, base string) *triggerRun {
	s.enter()
	defer s.leave()
	s.tick()
	t := &triggerRun{call: s.newCall(), in: in, made: map[string]string{}}
	t.base = orDefault(t.base, base)
	chain(t)
	return t
}

// do calls an API handler as a request of its own would, with name, value, name, value … as its form.
func (t *triggerRun) do(handler func(*call) (any, *apiError), id string, form ...string) {
	if t.failed != nil {
		return
	}
	values := url.Values{}
	for pair := range slices.Chunk(form, 2) {
		values.Set(pair[0], pair[1])
	}
	f, err := parseForm(values.Encode())
	if err != nil {
		t.failed = err
		return
	}
	v, err := handler(&call{Server: t.Server, base: t.base, requestID: t.newID("req_", 14), id: id, params: f.params()})
	switch {
	case err == nil:
	case err.PaymentIntent != nil:
		v = err.PaymentIntent
	case err.SetupIntent != nil:
		v = err.SetupIntent
	default:
		t.failed = err
		return
	}
	t.note(v)
}

// note remembers the ids of what was made.
func (t *triggerRun) note(v any) {
	switch v := v.(type) {
	case *customer:
		t.made["customer"] = v.ID
	case *paymentMethod:
		t.made["payment_method"] = v.ID
	case *paymentIntent:
		t.made["payment_intent"] = v.ID
		if v.LatestCharge != "" {
			t.made["charge"] = string(v.LatestCharge)
		}
	case *setupIntent:
		t.made["setup_intent"] = v.ID
	case *checkoutSession:
		t.made["checkout.session"] = v.ID
	case *refund:
		t.made["refund"] = v.ID
	case *dispute:
		t.made["dispute"] = v.ID
	}
}

func (t *triggerRun) customerID() string {
	if t.in.Customer != "" {
		t.do(retrieveCustomer, t.in.Customer)
	} else {
		t.do(createCustomer, "", "description", "Made by a trigger")
	}
	return t.made["customer"]
}

func (t *triggerRun) save() string {
	t.do(attachMethod, goodCard, "customer", t.customerID())
	return t.made["payment_method"]
}

func (t *triggerRun) begin(more ...string) string {
	form := []string{
		"amount", strconv.FormatInt(t.in.Amount, 10), "currency", t.in.Currency, "customer", t.customerID(),
		"payment_method_types[]", "card", "description", "Made by a trigger",
	}
	t.do(createPayment, "", append(form, more...)...)
	return t.made["payment_intent"]
}

// pay makes a payment on session; a card that declines leaves the failed payment behind.
func (t *triggerRun) pay(card string, more ...string) string {
	return t.begin(append([]string{"confirm", "true", "return_url", "https://example.com/return", "payment_method", card}, more...)...)
}

func (t *triggerRun) refundOf(card string) {
	t.do(createRefund, "", "payment_intent", t.pay(card))
}

func (t *triggerRun) disputeOf() string {
	t.pay(goodCard)
	ch, ok := t.charges.find(t.made["charge"])
	if !ok {
		return ""
	}
	t.openDispute(ch, "fraudulent")
	t.made["dispute"] = string(ch.Dispute)
	return t.made["dispute"]
}

func (t *triggerRun) setupWith(card string) string {
	form := []string{"customer", t.customerID(), "payment_method_types[]", "card"}
	if card != "" {
		form = append(form, "confirm", "true", "return_url", "https://example.com/return", "payment_method", card)
	}
	t.do(createSetup, "", form...)
	return t.made["setup_intent"]
}

func (t *triggerRun) checkout() string {
	t.do(createSession, "", "mode", "payment", "customer", t.customerID(), "success_url", "https://example.com/success",
		"cancel_url", "https://example.com/cancel",
		"line_items[0][quantity]", "1", "line_items[0][price_data][currency]", t.in.Currency,
		"line_items[0][price_data][unit_amount]", strconv.FormatInt(t.in.Amount, 10),
		"line_items[0][price_data][product_data][name]", "Made by a trigger")
	return t.made["checkout.session"]
}

// buy pays a session as its buyer would.
func (t *triggerRun) buy(session string) {
	if t.failed != nil {
		return
	}
	if _, err := t.submit(session, cardInput{Number: "4242424242424242", Expiry: "12/34", CVC: "123", Name: "Jenny Rosen"}); err != nil {
		t.failed = refused("", "", "%v", err)
		return
	}
	t.note(t.sessions.get(session))
	t.note(t.payments.get(string(t.sessions.get(session).PaymentIntent)))
}

// debit pays a session by bank debit; it ends after Config.DelayedAfter.
func (t *triggerRun) debit(method string) {
	cs, ok := t.sessions.find(t.checkout())
	rule, known := bankAccountByName(delayedMethods()[method])
	if t.failed != nil || !ok || !known {
		return
	}
	t.use(cs, t.newMethod(typedCard{rule: rule}, billingDetails{}))
	t.note(cs)
	t.note(t.payments.get(string(cs.PaymentIntent)))
}

// replaceCard gives a saved card two more years, as its issuer would.
func (t *triggerRun) replaceCard(id string) {
	m, ok := t.methods.find(id)
	if t.failed != nil || !ok {
		return
	}
	t.failed = t.automaticUpdate(m, cardReplacement{ExpYear: m.Card.ExpYear + 2})
}
