// Package provider is what any payment provider promises, and the parts of the engine that speak with one: the webhook
// door that takes its deliveries in, the normalizer that turns them into events, and the worker that carries out each
// requested call once.
//
// A provider's adapter (internal/provider/stripe) turns requests into API calls and answers into observations; what an
// observation means is decided in internal/events alone.
package provider

import (
	"context"
	"time"

	"github.com/paykit-go/paykit/internal/events"
)

// API is a provider as the worker sees it: one set of credentials, every call bounded in time.
//
// Every write takes an idempotency key that is derived from the request event and is the same on every try, and
// parameters that are frozen in that event: the provider does the thing at most once while it remembers the key. Another
// key is only used where the provider keeps a server error under the first ([Error.Replayed]), and never for a refund.
// Every method fails with an [*Error]; what it does not classify is in doubt. Calls may run at once.
type API interface { //nolint:interfacebloat // seven small ones; whoever needs one of them takes that
	Customers
	Sessions
	Payments
	Methods
	Refunds
	Deliveries
	Witnesses
}

// Span is a time in which something was made, both ends included; a zero Until is now.
type Span struct{ Since, Until time.Time }

// Customers makes and keeps the provider's customers.
type Customers interface {
	// CreateCustomer makes a customer with reserved metadata only and returns the provider's id.
	CreateCustomer(ctx context.Context, key string, owner events.Owner) (string, error)
	// FindCustomer looks for a customer made with this owner in a time; "" if there is none.
	FindCustomer(ctx context.Context, owner events.Owner, made Span) (string, error)
	// CustomersMade lists this environment's customers that were made in a time: their ids by ours, of several the first made.
	// It gives up at more than most, complete false.
	CustomersMade(ctx context.Context, made Span, most int) (ids map[string]string, complete bool, err error)
	// UpdateCustomer sets the profile; an empty field is unset at the provider.
	UpdateCustomer(ctx context.Context, key, id string, p Profile) error
	// SetDefaultMethod mirrors the customer's default method.
	SetDefaultMethod(ctx context.Context, key, id, methodID string) error
	// DeleteCustomer deletes for good; a customer already gone is a success.
	DeleteCustomer(ctx context.Context, key, id string) error
}

// Profile is what the provider is told of a customer. Metadata never holds a reserved key; the adapter leaves the
// reserved ones as they are and removes the caller's that are gone.
type Profile struct {
	Email    string
	Name     string
	Metadata map[string]string
	Owner    events.Owner
}

// Sessions are hosted pages.
type Sessions interface {
	// CreateSession makes a hosted page.
	CreateSession(ctx context.Context, key string, r SessionRequest) (events.Session, error)
	// Session asks how a page stands; of a completed setup it names the saved method.
	Session(ctx context.Context, id string) (events.Session, error)
	// FindSession looks for a page made for this customer with this owner (its Checkout or Setup); ok is false if
	// there is none.
	FindSession(ctx context.Context, customerID string, owner events.Owner, made Span) (s events.Session, ok bool, err error)
	// ExpireSession closes an open page; one already final answers as it is.
	ExpireSession(ctx context.Context, key, id string) (events.Session, error)
}

// SessionRequest is a hosted page to be made. Setup pages have no amount.
type SessionRequest struct {
	Setup       bool
	CustomerID  string // the provider's
	Owner       events.Owner
	Amount      int64
	Currency    string
	Description string
	SuccessURL  string
	CancelURL   string
	SaveMethod  bool // payment mode: also save the method for later charges
	Metadata    map[string]string
}

// Payments are charges of saved methods, in two steps.
type Payments interface {
	// CreatePayment makes a payment that takes no money until it is confirmed.
	CreatePayment(ctx context.Context, key string, r PaymentRequest) (events.Payment, error)
	// ConfirmPayment takes the money. A decline is an answer (a Payment with its Failure), not an error.
	ConfirmPayment(ctx context.Context, key, id string, r ConfirmRequest) (events.Payment, error)
	// Payment asks how a payment stands.
	Payment(ctx context.Context, id string) (events.Payment, error)
	// FindPayment looks for a payment of this customer with this owner; ok is false if there is none.
	FindPayment(ctx context.Context, customerID string, owner events.Owner, made Span) (p events.Payment, ok bool, err error)
	// CancelPayment makes sure that a payment can never be paid; one already final answers as it is. abandoned says
	// that the buyer did not act in time.
	CancelPayment(ctx context.Context, key, id string, abandoned bool) (events.Payment, error)
}

// PaymentRequest is a payment to be made.
type PaymentRequest struct {
	CustomerID  string // the provider's
	MethodID    string // the provider's
	Owner       events.Owner
	Amount      int64
	Currency    string
	Description string
	Metadata    map[string]string
}

// ConfirmRequest says how a payment is confirmed: off session (the buyer is away), or, with a ReturnURL, on session,
// when the answer may send the buyer to a page and back.
type ConfirmRequest struct {
	MethodID  string // the provider's
	ReturnURL string
}

// Methods are saved payment methods.
type Methods interface {
	// DetachMethod takes a method off its customer; one already detached is a success.
	DetachMethod(ctx context.Context, key, id string) error
	// Method asks for a method.
	Method(ctx context.Context, id string) (events.Method, error)
}

// Refunds give money back.
type Refunds interface {
	// CreateRefund refunds part of a payment.
	CreateRefund(ctx context.Context, key string, r RefundRequest) (events.RefundReport, error)
	// RefundsOf lists all refunds of a payment, or of a charge that has no payment.
	RefundsOf(ctx context.Context, paymentID, chargeID string) ([]events.RefundReport, error)
}

// RefundRequest is a refund to be made.
type RefundRequest struct {
	PaymentID string
	ChargeID  string // instead of PaymentID, for a charge that has none
	Owner     events.Owner
	Amount    int64
	Reason    string
}

// Witnesses are the provider's own events, asked where its lists show nothing of a call that may have been carried out.
// They change nothing and may be asked again.
type Witnesses interface {
	// SawPayment gives the id of the payment that was made by a call, "" if no event tells of one. Of very many it reads the
	// newest only.
	SawPayment(ctx context.Context, s Sought) (paymentID string, err error)
	// SawRefund gives the refund that was made by a call as its newest event shows it, without an id if the events tell
	// that it was made and no more; ok is false if no event tells of one. If there are more events than it reads it fails,
	// as Transient: what it did not read might tell.
	SawRefund(ctx context.Context, s Sought) (r events.RefundReport, ok bool, err error)
}

// Sought is a call whose outcome is looked for in the provider's events: by the metadata that it put on the object, or
// by the idempotency key that it was made under.
type Sought struct {
	Owner events.Owner
	Key   string
	Since time.Time // of the call
}

// Deliveries are the provider's own list of what it has delivered or meant to.
type Deliveries interface {
	// ListDeliveries gives the bodies of all deliveries created at or after since, oldest first, to yield; it stops at
	// yield's first error and returns it.
	ListDeliveries(ctx context.Context, since time.Time, yield func(body []byte) error) error
}

// Webhooks is a provider as ingest sees it: it needs no API key.
type Webhooks interface {
	// Verify checks a delivery's signature against every configured secret, and its age against now on both sides, and reads
	// what it takes to store it: id, type, API version and customer. It fails with [ErrBadSignature], [ErrTooOld],
	// [ErrTooEarly] or [ErrNotAnEvent], or with [ErrThinEvent] and these four.
	Verify(body []byte, header map[string][]string, now time.Time) (Delivery, error)
	// Decode reads a delivery. It never needs to know the API version; of a type that means nothing it returns the
	// delivery without observations. It fails with [ErrNotAnEvent], or with [ErrUnreadable] or [ErrThinEvent] and a
	// delivery that has everything but its observations.
	Decode(body []byte) (Delivery, error)
}

// Delivery is one webhook event, understood.
type Delivery struct {
	ID           string // the provider's event id
	Type         string // the provider's word, "payment_intent.succeeded"
	APIVersion   string
	CustomerID   string // the provider's customer whom it is about; "" if it names none
	CreatedAt    time.Time
	Livemode     bool
	Account      string // connected account, "" for our own
	Observations []Observation
}

// Observation is what a delivery says about one object, in the order in which it is to be applied.
type Observation interface{ observation() }

// PaymentSeen is a report about a payment.
type PaymentSeen struct{ events.Payment }

// SessionSeen is a report about a hosted page.
type SessionSeen struct{ events.Session }

// SetupSeen is a report about a saved method's setup.
type SetupSeen struct{ events.SetupReport }

// MethodSeen is a report about a method. First marks the report of its attaching: of a method that is known already it
// says nothing new, or one delivered late would bring back what was updated since.
type MethodSeen struct {
	events.Method
	First bool
}

// RefundSeen is a report about a refund.
type RefundSeen struct{ events.RefundReport }

// RefundTotalSeen is the sum refunded of a payment, without the refunds.
type RefundTotalSeen struct {
	Payment events.Payment // whose total it is (its ids, owner and customer)
	Total   int64
}

// DisputeSeen is a report about a dispute.
type DisputeSeen struct{ events.DisputeReport }

// FraudWarningSeen is a report about an early fraud warning.
type FraudWarningSeen struct{ events.FraudWarningReport }

// CustomerSeen says that a customer was made for us, or deleted.
type CustomerSeen struct {
	Owner   events.Owner
	ID      string
	Deleted bool
}

func (PaymentSeen) observation()      {}
func (SessionSeen) observation()      {}
func (SetupSeen) observation()        {}
func (MethodSeen) observation()       {}
func (RefundSeen) observation()       {}
func (RefundTotalSeen) observation()  {}
func (DisputeSeen) observation()      {}
func (FraudWarningSeen) observation() {}
func (CustomerSeen) observation()     {}
