package schema_test

import (
	"github.com/paykit-go/paykit"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/projections"
)

// request is a verb of the contract: its body and what it is answered with.
type request struct {
	kind   string // "command" or "query"
	verb   string
	file   string // the entity whose snapshot answers it
	body   any
	answer any
	list   bool     // the answer is a page of such
	either []string // one of these fields must be there
}

// The bodies that the Go client has no type for.

type customerSync struct {
	ReferenceID string            `json:"referenceId"` // your own id of the customer
	Email       string            `json:"email,omitempty"`
	Name        string            `json:"name,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"` // replaces the whole map
}

type customerRef struct {
	CustomerID  string `json:"customerId,omitempty"`
	ReferenceID string `json:"referenceId,omitempty"`
}

type checkoutRef struct {
	CheckoutID string `json:"checkoutId"`
}

type setupRef struct {
	SetupID string `json:"setupId"`
}

type methodRef struct {
	PaymentMethodID string `json:"paymentMethodId"`
}

type chargeRef struct {
	ChargeID string `json:"chargeId"`
}

type nothing struct{}

// requests lists every command and query.
func requests() []request {
	return []request{
		{kind: "command", verb: "customer.sync", file: "customer", body: customerSync{}, answer: events.CustomerResult{}},
		{kind: "command", verb: "customer.delete", file: "customer", body: customerRef{}, answer: events.CustomerResult{}, either: []string{"customerId", "referenceId"}},
		{kind: "command", verb: "checkout.create", file: "checkout", body: paykit.CheckoutCreate{}, answer: events.Checkout{}},
		{kind: "command", verb: "checkout.expire", file: "checkout", body: checkoutRef{}, answer: events.Checkout{}},
		{kind: "command", verb: "payment_method.attach", file: "setup", body: paykit.PaymentMethodAttach{}, answer: events.Setup{}},
		{kind: "command", verb: "payment_method.set_default", file: "payment_method", body: paykit.PaymentMethodRef{}, answer: events.PaymentMethod{}},
		{kind: "command", verb: "payment_method.detach", file: "payment_method", body: paykit.PaymentMethodRef{}, answer: events.PaymentMethod{}},
		{kind: "command", verb: "charge.create", file: "charge", body: paykit.ChargeCreate{}, answer: events.Charge{}},
		{kind: "command", verb: "charge.refund", file: "charge", body: paykit.ChargeRefund{}, answer: events.Charge{}},
		{kind: "command", verb: "charge.cancel", file: "charge", body: chargeRef{}, answer: events.Charge{}},
		{kind: "command", verb: "charge.resolve", file: "charge", body: paykit.ChargeResolve{}, answer: events.Charge{}},

		{kind: "query", verb: "customer.get", file: "customer", body: customerRef{}, answer: events.CustomerResult{}, either: []string{"customerId", "referenceId"}},
		{kind: "query", verb: "customer.list", file: "customer", body: paykit.Page{}, answer: events.CustomerResult{}, list: true},
		{kind: "query", verb: "payment_method.get", file: "payment_method", body: methodRef{}, answer: events.PaymentMethod{}},
		{kind: "query", verb: "payment_method.list", file: "payment_method", body: paykit.PaymentMethodList{}, answer: paykit.PaymentMethod{}, list: true},
		{kind: "query", verb: "charge.get", file: "charge", body: chargeRef{}, answer: events.Charge{}},
		{kind: "query", verb: "charge.list", file: "charge", body: paykit.ChargeList{}, answer: events.Charge{}, list: true},
		{kind: "query", verb: "checkout.get", file: "checkout", body: checkoutRef{}, answer: events.Checkout{}},
		{kind: "query", verb: "setup.get", file: "setup", body: setupRef{}, answer: events.Setup{}},
		{kind: "query", verb: "event.list", file: "event", body: paykit.EventList{}, answer: events.Event{}, list: true, either: []string{"customerId", "entityId"}},
		{kind: "query", verb: "view.status", file: "view", body: nothing{}, answer: projections.Result{}},
	}
}
