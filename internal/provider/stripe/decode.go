package stripe

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
)

// The types of deliveries that mean something to us; all others are taken in and lead to nothing. These are constants
// of our own because stripe-go v76 does not know them all.
const (
	typeChargeSucceeded       = "charge.succeeded"
	typeChargeFailed          = "charge.failed"
	typeChargeRefunded        = "charge.refunded"
	typeChargeRefundUpdated   = "charge.refund.updated"
	typeCustomerCreated       = "customer.created"
	typeCustomerUpdated       = "customer.updated"
	typeCustomerDeleted       = "customer.deleted"
	typeMethodAttached        = "payment_method.attached"
	typeMethodUpdated         = "payment_method.updated"
	typeMethodAutoUpdated     = "payment_method.automatically_updated"
	typeMethodCardAutoUpdated = "payment_method.card_automatically_updated" // until 2020-08-27
	typeMethodDetached        = "payment_method.detached"
	typePaymentSucceeded      = "payment_intent.succeeded"
	typePaymentFailed         = "payment_intent.payment_failed"
	typePaymentProcessing     = "payment_intent.processing"
	typePaymentCanceled       = "payment_intent.canceled"
	typeSessionCompleted      = "checkout.session.completed"
	typeSessionExpired        = "checkout.session.expired"
	typeSessionAsyncSucceeded = "checkout.session.async_payment_succeeded"
	typeSessionAsyncFailed    = "checkout.session.async_payment_failed"
	typeSetupSucceeded        = "setup_intent.succeeded"
	typeFundsWithdrawn        = "charge.dispute.funds_withdrawn"
	typeFundsReinstated       = "charge.dispute.funds_reinstated"
	prefixDispute             = "charge.dispute."
	prefixFraudWarning        = "radar.early_fraud_warning."
	prefixRefund              = "refund."
)

// envelope is what is common to all events. Only id and type must have their shape: the rest differs between versions
// and kinds of events ("created" is a text in thin events), and what can't be read is as if it were not there.
type envelope struct {
	ID         string          `json:"id"`
	Object     json.RawMessage `json:"object"` // "event"; of a thin event "v2.core.event"
	Type       string          `json:"type"`
	APIVersion json.RawMessage `json:"api_version"`
	Created    json.RawMessage `json:"created"`
	Livemode   json.RawMessage `json:"livemode"`
	Account    json.RawMessage `json:"account"`
	Data       json.RawMessage `json:"data"`
}

// parse reads the envelope; ok is false if body is not one JSON object with id and type.
func parse(body []byte) (e envelope, ok bool) {
	if err := json.Unmarshal(body, &e); err != nil {
		return e, false
	}
	return e, e.ID != "" && e.Type != ""
}

type eventData struct {
	Object   json.RawMessage `json:"object"`
	Previous json.RawMessage `json:"previous_attributes"`
}

// Decode implements [provider.Webhooks].
func (*Webhooks) Decode(body []byte) (provider.Delivery, error) { return decode(body) }

func decode(body []byte) (provider.Delivery, error) {
	e, ok := parse(body)
	if !ok {
		return provider.Delivery{}, provider.ErrNotAnEvent
	}
	data := lenient[eventData](e.Data)
	d := provider.Delivery{
		ID: e.ID, Type: e.Type, APIVersion: lenient[string](e.APIVersion), CreatedAt: createdAt(e.Created),
		Livemode: lenient[bool](e.Livemode), Account: lenient[string](e.Account), CustomerID: customerOf(e.Type, data),
	}
	if err := thin(lenient[string](e.Object)); err != nil {
		return d, err
	}
	seen, err := observe(d, data)
	if err != nil {
		return d, provider.ErrUnreadable // the cause could quote the body
	}
	d.Observations = seen
	return d, nil
}

// lenient reads a value, or gives the zero value of what has another shape.
func lenient[T any](raw json.RawMessage) T {
	var v, zero T
	if len(raw) == 0 || json.Unmarshal(raw, &v) != nil {
		return zero
	}
	return v
}

func createdAt(raw json.RawMessage) time.Time {
	if t := lenient[time.Time](raw); !t.IsZero() {
		return t.UTC()
	}
	return unix(lenient[int64](raw))
}

// customerOf names the customer whom a delivery is about.
func customerOf(typ string, data eventData) string {
	var object, previous struct {
		ID       string          `json:"id"`
		Object   string          `json:"object"`
		Customer json.RawMessage `json:"customer"`
	}
	if len(data.Object) > 0 && json.Unmarshal(data.Object, &object) != nil {
		return ""
	}
	if len(data.Previous) > 0 && json.Unmarshal(data.Previous, &previous) != nil {
		previous.Customer = nil
	}
	return whose(typ, object.ID, object.Object, lenient[ref](object.Customer).id, lenient[ref](previous.Customer).id)
}

// whose is the customer whom a delivery of this type is about: the object itself, or the one that the object names, or, when
// it has just been taken off, named.
func whose(typ, objectID, kind, customer, previous string) string {
	switch typ {
	case typeCustomerCreated, typeCustomerUpdated, typeCustomerDeleted:
		return objectID
	}
	switch {
	case kind == "customer":
		return objectID
	case customer != "":
		return customer
	}
	return previous
}

// observe gives what a delivery says, in the order in which it is to be applied. Every delivery is first an observation
// of its whole object: of a refunded charge, that it succeeded.
func observe(d provider.Delivery, data eventData) ([]provider.Observation, error) {
	switch d.Type {
	case typePaymentSucceeded, typePaymentFailed, typePaymentProcessing, typePaymentCanceled:
		p, err := object[paymentIntent](data)
		return []provider.Observation{provider.PaymentSeen{Payment: p.payment()}}, err
	case typeChargeSucceeded, typeChargeFailed, typeChargeRefunded:
		c, err := object[stripeCharge](data)
		return observeCharge(d.Type, c), err
	case typeSessionCompleted, typeSessionExpired, typeSessionAsyncSucceeded, typeSessionAsyncFailed:
		s, err := object[checkoutSession](data)
		return observeSession(d.Type, s), err
	case typeSetupSucceeded:
		s, err := object[setupIntent](data)
		return []provider.Observation{provider.SetupSeen{SetupReport: s.report()}}, err
	case typeMethodAttached, typeMethodUpdated, typeMethodAutoUpdated, typeMethodCardAutoUpdated, typeMethodDetached:
		m, err := object[paymentMethod](data)
		return observeMethod(d, m), err
	case typeCustomerCreated, typeCustomerDeleted:
		c, err := object[customer](data)
		return observeCustomer(d.Type, c), err
	case typeChargeRefundUpdated:
		r, err := object[stripeRefund](data)
		return []provider.Observation{provider.RefundSeen{RefundReport: r.report()}}, err
	}
	switch {
	case strings.HasPrefix(d.Type, prefixRefund):
		r, err := object[stripeRefund](data)
		return []provider.Observation{provider.RefundSeen{RefundReport: r.report()}}, err
	case strings.HasPrefix(d.Type, prefixDispute):
		one, err := object[dispute](data)
		return observeDispute(d.Type, one), err
	case strings.HasPrefix(d.Type, prefixFraudWarning):
		one, err := object[fraudWarning](data)
		return []provider.Observation{provider.FraudWarningSeen{FraudWarningReport: one.report()}}, err
	}
	return nil, nil
}

// observeDispute takes from the delivery's type where the money is, should its object not show that yet.
func observeDispute(typ string, d dispute) []provider.Observation {
	seen := d.report()
	switch {
	case typ == typeFundsReinstated:
		seen.Funds = events.FundsReinstated
	case typ == typeFundsWithdrawn && seen.Funds == "":
		seen.Funds = events.FundsWithdrawn
	}
	return []provider.Observation{provider.DisputeSeen{DisputeReport: seen}}
}

// object reads the delivery's object, which must have an id.
func object[T any](data eventData) (v T, err error) {
	var named struct {
		ID string `json:"id"`
	}
	if len(data.Object) == 0 || json.Unmarshal(data.Object, &named) != nil || named.ID == "" {
		return v, provider.ErrUnreadable
	}
	return v, json.Unmarshal(data.Object, &v)
}

func observeCharge(typ string, c stripeCharge) []provider.Observation {
	p := c.payment()
	if typ != typeChargeFailed && p.Status != events.PaymentSucceeded {
		return nil // an authorization, or its release: no money moved
	}
	seen := []provider.Observation{provider.PaymentSeen{Payment: p}}
	if typ != typeChargeRefunded {
		return seen
	}
	for _, r := range c.Refunds.items {
		report := r.report()
		if report.ProviderChargeID == "" {
			report.ProviderChargeID = c.ID
		}
		if report.ProviderPaymentID == "" {
			report.ProviderPaymentID = p.ID
		}
		seen = append(seen, provider.RefundSeen{RefundReport: report})
	}
	return append(seen, provider.RefundTotalSeen{Payment: p, Total: c.AmountRefunded})
}

// observeSession never says that a payment succeeded: of a paid session the payment's own delivery does.
func observeSession(typ string, s checkoutSession) []provider.Observation {
	if s.Mode == "" {
		s.Mode = "payment"
		if s.SetupIntent.id != "" {
			s.Mode = "setup"
		}
	}
	if s.Mode == "subscription" {
		return nil // none of ours
	}
	if s.Status == "" { // not there in old versions
		s.Status = string(events.SessionComplete)
		if typ == typeSessionExpired {
			s.Status = string(events.SessionExpired)
		}
	}
	seen := s.session()
	if typ == typeSessionAsyncFailed {
		seen.PaymentFailed = true
	}
	return []provider.Observation{provider.SessionSeen{Session: seen}}
}

func observeMethod(d provider.Delivery, m paymentMethod) []provider.Observation {
	seen := m.method()
	seen.ReportedAt = d.CreatedAt
	if d.Type == typeMethodDetached {
		seen.Attached, seen.ProviderCustomerID = false, d.CustomerID
	} else if !seen.Attached {
		return nil // a method that never was anybody's must not read as one that has left
	}
	return []provider.Observation{provider.MethodSeen{Method: seen, First: d.Type == typeMethodAttached}}
}

func observeCustomer(typ string, c customer) []provider.Observation {
	seen := c.seen(typ == typeCustomerDeleted)
	if !seen.Deleted && seen.Owner.Env == "" {
		return nil // made elsewhere
	}
	return []provider.Observation{seen}
}
