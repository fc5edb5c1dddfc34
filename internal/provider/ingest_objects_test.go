package provider_test

import (
	"encoding/json"
	"maps"

	"github.com/paykit-go/paykit/internal/events"
)

// fields are a Stripe object's, or what differs from the usual in it.
type fields map[string]any

func object(usual fields, changes ...fields) string {
	for _, c := range changes {
		maps.Copy(usual, c)
	}
	b, err := json.Marshal(usual)
	if err != nil {
		panic(err) // a test's own literal
	}
	return string(b)
}

// metadata is the reserved metadata of this environment with these keys.
func (b *buyer) metadata(o events.Owner) map[string]string {
	o.Env = b.in.log.Env()
	if o.Customer == "" {
		o.Customer = b.ref.ID
	}
	return o.Metadata()
}

// owned is the metadata of a payment of ours: of the charge if there is one, else of the checkout.
func (b *buyer) owned() map[string]string {
	if b.chargeID != "" {
		return b.metadata(events.Owner{Charge: b.chargeID})
	}
	return b.metadata(events.Owner{Checkout: b.checkoutID, Charge: events.CheckoutChargeID(b.checkoutID)})
}

// intent is the buyer's PaymentIntent, by status.
func (b *buyer) intent(status string, changes ...fields) string {
	usual := fields{
		"id": "pi_" + b.n, "object": "payment_intent", "amount": 4900, "amount_received": 0, "currency": "usd",
		"customer": b.cus, "payment_method": "pm_" + b.n, "latest_charge": nil, "status": status,
		"last_payment_error": nil, "next_action": nil, "cancellation_reason": nil, "metadata": b.owned(), "created": 1700000000,
	}
	if status == "succeeded" {
		usual["amount_received"], usual["latest_charge"] = 4900, "ch_"+b.n
	}
	return object(usual, changes...)
}

// declined is what makes an intent a declined one.
func declined(code, declineCode string) fields {
	return fields{"payment_method": nil, "last_payment_error": fields{"code": code, "decline_code": declineCode, "type": "card_error"}}
}

// foreign is what makes an object one that PayKit did not make.
func foreign() fields {
	return fields{"metadata": fields{"order": "17", "note": "buyer@example.com"}, "description": "made elsewhere"}
}

// chargeObject is the buyer's Charge, by status.
func (b *buyer) chargeObject(status string, changes ...fields) string {
	return object(fields{
		"id": "ch_" + b.n, "object": "charge", "amount": 4900, "amount_captured": 4900, "amount_refunded": 0, "captured": status == "succeeded",
		"currency": "usd", "customer": b.cus, "payment_intent": "pi_" + b.n, "payment_method": "pm_" + b.n,
		"paid": status == "succeeded", "refunded": false, "status": status, "failure_code": nil, "metadata": b.owned(), "created": 1700000000,
	}, changes...)
}

// session is the buyer's Checkout Session in payment mode.
func (b *buyer) session(status, paymentStatus string, changes ...fields) string {
	return object(fields{
		"id": "cs_" + b.n, "object": "checkout.session", "mode": "payment", "status": status, "payment_status": paymentStatus,
		"payment_intent": "pi_" + b.n, "setup_intent": nil, "customer": b.cus, "url": nil, "expires_at": 1700086400,
		"metadata": b.metadata(events.Owner{Checkout: b.checkoutID}), "created": 1700000000,
	}, changes...)
}

// setupSession is the buyer's Checkout Session in setup mode.
func (b *buyer) setupSession(status string) string {
	return object(fields{
		"id": "cs_" + b.n, "object": "checkout.session", "mode": "setup", "status": status, "payment_status": "no_payment_required",
		"payment_intent": nil, "setup_intent": "seti_" + b.n, "customer": b.cus, "url": nil, "expires_at": 1700086400,
		"metadata": b.metadata(events.Owner{Setup: b.setupID}), "created": 1700000000,
	})
}

func (b *buyer) setupIntent(changes ...fields) string {
	return object(fields{
		"id": "seti_" + b.n, "object": "setup_intent", "status": "succeeded", "customer": b.cus, "payment_method": "pm_" + b.n,
		"metadata": b.metadata(events.Owner{Setup: b.setupID}),
	}, changes...)
}

// method is the buyer's card.
func (b *buyer) method(changes ...fields) string {
	return object(fields{
		"id": "pm_" + b.n, "object": "payment_method", "type": "card", "customer": b.cus, "created": 1700000000, "metadata": fields{},
		"billing_details": fields{"email": "buyer@example.com", "name": "A Buyer"},
		"card":            fields{"brand": "visa", "last4": "4242", "exp_month": 12, "exp_year": 2034, "fingerprint": "fp" + b.n},
	}, changes...)
}

// refund is a refund of the buyer's payment; suffix keeps several apart.
func (b *buyer) refund(suffix, status string, amount int, changes ...fields) string {
	return object(fields{
		"id": "re_" + b.n + suffix, "object": "refund", "amount": amount, "currency": "usd", "status": status,
		"reason": "requested_by_customer", "charge": "ch_" + b.n, "payment_intent": "pi_" + b.n, "metadata": fields{},
	}, changes...)
}

func (b *buyer) dispute(status string, changes ...fields) string {
	return object(fields{
		"id": "dp_" + b.n, "object": "dispute", "amount": 4900, "currency": "usd", "status": status, "reason": "fraudulent",
		"charge": "ch_" + b.n, "payment_intent": "pi_" + b.n, "metadata": fields{},
	}, changes...)
}

func (b *buyer) warning(actionable bool, changes ...fields) string {
	return object(fields{
		"id": "issfr_" + b.n, "object": "radar.early_fraud_warning", "actionable": actionable, "charge": "ch_" + b.n,
		"payment_intent": "pi_" + b.n, "fraud_type": "made_with_stolen_card", "created": 1700000000,
	}, changes...)
}

func (b *buyer) customerObject(changes ...fields) string {
	return object(fields{
		"id": b.cus, "object": "customer", "email": "buyer@example.com", "name": "A Buyer", "metadata": b.metadata(events.Owner{}),
	}, changes...)
}

// event is a delivery about one of the buyer's objects.
func (b *buyer) event(typ, object string) string { return b.in.event(typ, object) }

// detached is the delivery of a method that left its customer, who stands in previous_attributes only.
func (b *buyer) detached() string {
	return b.event("payment_method.detached", b.method(fields{"customer": nil})+
		`,"previous_attributes":{"customer":"`+b.cus+`"}`)
}
