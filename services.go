package paykit

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/paykit-go/paykit/internal/events"
)

// Customer is a customer with its profile. Email and Name are nil when unset.
type Customer = events.CustomerResult

// CustomerSync is what is to be stored of a customer. What is left out keeps its value; Remove lists what shall have
// none any more ("email", "name", "metadata"). Metadata replaces the whole map.
type CustomerSync struct {
	ReferenceID string // the app's own id of the customer
	Email       string
	Name        string
	Metadata    map[string]string
	Remove      []string
}

// MarshalJSON writes the patch: a removed field is null.
func (s CustomerSync) MarshalJSON() ([]byte, error) {
	m := map[string]any{"referenceId": s.ReferenceID}
	if s.Email != "" {
		m["email"] = s.Email
	}
	if s.Name != "" {
		m["name"] = s.Name
	}
	if s.Metadata != nil {
		m["metadata"] = maps.Clone(s.Metadata)
	}
	for _, field := range s.Remove {
		m[field] = nil
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("paykit: encode customer: %w", err)
	}
	return b, nil
}

// CustomerService keeps customers.
type CustomerService struct{ c *Client }

// Sync stores a customer: made on first sight, changed where something differs, revived if it was deleted.
func (s *CustomerService) Sync(ctx context.Context, in CustomerSync, o ...CallOption) (*Customer, error) {
	return command[Customer](ctx, s.c, "customer.sync", in, o)
}

// Get answers a customer by PayKit's id.
func (s *CustomerService) Get(ctx context.Context, customerID string, o ...QueryOption) (*Customer, error) {
	return query[Customer](ctx, s.c, "customer.get", map[string]string{"customerId": customerID}, o)
}

// GetByReference answers a customer by the app's own id.
func (s *CustomerService) GetByReference(ctx context.Context, referenceID string, o ...QueryOption) (*Customer, error) {
	return query[Customer](ctx, s.c, "customer.get", map[string]string{"referenceId": referenceID}, o)
}

// List answers the customers, newest first.
func (s *CustomerService) List(ctx context.Context, p Page, o ...QueryOption) (*List[Customer], error) {
	return query[List[Customer]](ctx, s.c, "customer.list", p, o)
}

// Delete deletes a customer and has its personal data erased, here and at the provider. History stays, without it.
func (s *CustomerService) Delete(ctx context.Context, customerID string, o ...CallOption) (*Customer, error) {
	return command[Customer](ctx, s.c, "customer.delete", map[string]string{"customerId": customerID}, o)
}

// Checkout is a hosted payment page: send the buyer to its URL.
type Checkout = events.Checkout

// CheckoutCreate is a checkout to be opened. Description, URLs and Metadata stay in history for ever: they must not
// name a person.
type CheckoutCreate struct {
	ProviderID   string            `json:"providerId"` // "" = "stripe"
	CustomerID   string            `json:"customerId"`
	Amount       int64             `json:"amount"`             // minor units
	Currency     string            `json:"currency,omitempty"` // lower-case ISO 4217; "" = the installation's default
	Description  string            `json:"description"`
	SuccessURL   string            `json:"successURL"` // https, or http on loopback
	CancelURL    string            `json:"cancelURL,omitempty"`
	AttachMethod bool              `json:"attachMethod,omitempty"` // also save the method, for charges later
	Metadata     map[string]string `json:"metadata,omitempty"`
}

// CheckoutService opens and closes hosted payment pages.
type CheckoutService struct{ c *Client }

// Create opens a hosted payment page.
func (s *CheckoutService) Create(ctx context.Context, in CheckoutCreate, o ...CallOption) (*Checkout, error) {
	in.ProviderID = providerOr(in.ProviderID)
	return command[Checkout](ctx, s.c, "checkout.create", in, o)
}

// Expire closes an open page; a checkout that has ended comes back as it is.
func (s *CheckoutService) Expire(ctx context.Context, checkoutID string, o ...CallOption) (*Checkout, error) {
	return command[Checkout](ctx, s.c, "checkout.expire", map[string]string{"checkoutId": checkoutID}, o)
}

// Get answers a checkout.
func (s *CheckoutService) Get(ctx context.Context, checkoutID string, o ...QueryOption) (*Checkout, error) {
	return query[Checkout](ctx, s.c, "checkout.get", map[string]string{"checkoutId": checkoutID}, o)
}

// Setup is a hosted page that saves a payment method: send the buyer to its URL.
type Setup = events.Setup

// SetupService answers how setups stand; they are begun with PaymentMethod.Attach.
type SetupService struct{ c *Client }

// Get answers a setup.
func (s *SetupService) Get(ctx context.Context, setupID string, o ...QueryOption) (*Setup, error) {
	return query[Setup](ctx, s.c, "setup.get", map[string]string{"setupId": setupID}, o)
}

// PaymentMethod is a saved method.
type PaymentMethod struct {
	events.PaymentMethod
	IsDefault bool `json:"isDefault"` // in lists only
}

// PaymentMethodAttach is a setup to be opened.
type PaymentMethodAttach struct {
	ProviderID string `json:"providerId"` // "" = "stripe"
	CustomerID string `json:"customerId"`
	ReturnURL  string `json:"returnURL"`
}

// PaymentMethodRef names a customer's saved method.
type PaymentMethodRef struct {
	ProviderID      string `json:"providerId"` // "" = "stripe"
	CustomerID      string `json:"customerId"`
	PaymentMethodID string `json:"paymentMethodId"`
}

// PaymentMethodList asks for a customer's saved methods. ProviderID "" = of all providers.
type PaymentMethodList struct {
	ProviderID string `json:"providerId,omitempty"`
	CustomerID string `json:"customerId"`
	Page
}

// PaymentMethodService keeps saved methods.
type PaymentMethodService struct{ c *Client }

// Attach opens a hosted page that saves a method without taking money.
func (s *PaymentMethodService) Attach(ctx context.Context, in PaymentMethodAttach, o ...CallOption) (*Setup, error) {
	in.ProviderID = providerOr(in.ProviderID)
	return command[Setup](ctx, s.c, "payment_method.attach", in, o)
}

// List answers the live methods, the default first, then the newest.
func (s *PaymentMethodService) List(ctx context.Context, in PaymentMethodList, o ...QueryOption) (*List[PaymentMethod], error) {
	return query[List[PaymentMethod]](ctx, s.c, "payment_method.list", in, o)
}

// Get answers a method, also a detached one.
func (s *PaymentMethodService) Get(ctx context.Context, paymentMethodID string, o ...QueryOption) (*PaymentMethod, error) {
	return query[PaymentMethod](ctx, s.c, "payment_method.get", map[string]string{"paymentMethodId": paymentMethodID}, o)
}

// SetDefault makes a method the customer's default, here and at the provider.
func (s *PaymentMethodService) SetDefault(ctx context.Context, in PaymentMethodRef, o ...CallOption) (*PaymentMethod, error) {
	in.ProviderID = providerOr(in.ProviderID)
	return command[PaymentMethod](ctx, s.c, "payment_method.set_default", in, o)
}

// Detach takes a method off its customer, here and at the provider, for good.
func (s *PaymentMethodService) Detach(ctx context.Context, in PaymentMethodRef, o ...CallOption) (*PaymentMethod, error) {
	in.ProviderID = providerOr(in.ProviderID)
	return command[PaymentMethod](ctx, s.c, "payment_method.detach", in, o)
}

// Charge is money taken, or on its way. Look at Status; a decline is Status "failed" with its Failure.
type Charge = events.Charge

// ChargeStatus is where a charge stands.
type ChargeStatus = events.ChargeStatus

// The charge statuses.
const (
	ChargeRequested      = events.ChargeStatusRequested
	ChargeProcessing     = events.ChargeStatusProcessing
	ChargeRequiresAction = events.ChargeStatusRequiresAction
	ChargeInDoubt        = events.ChargeStatusInDoubt
	ChargeFailed         = events.ChargeStatusFailed
	ChargeCanceled       = events.ChargeStatusCanceled
	ChargeSucceeded      = events.ChargeStatusSucceeded
)

// Failure says why something ended without success.
type Failure = events.Failure

// Retry is a charge's retry ladder: while NextAttemptAt is set, a failed charge will be tried again.
type Retry = events.Retry

// RetryStatus is where a retry ladder stands.
type RetryStatus = events.RetryStatus

// The retry statuses.
const (
	RetryAttempting = events.RetryAttempting
	RetryInDoubt    = events.RetryInDoubt
	RetryWaiting    = events.RetryWaiting
	RetryEnded      = events.RetryEnded
)

// Attempt is one attempt of a charge with a retry ladder.
type Attempt = events.Attempt

// Refund is one refund of a charge.
type Refund = events.Refund

// Review says that a person must look at a charge, and why.
type Review = events.Review

// Resolution is an operator's decision about a charge that stayed in doubt.
type Resolution = events.Resolution

// Dispute is one dispute of a charge.
type Dispute = events.Dispute

// DisputeFunds says where the disputed money is.
type DisputeFunds = events.DisputeFunds

// Where the disputed money is; it is "" while nothing was moved.
const (
	FundsWithdrawn  = events.FundsWithdrawn
	FundsReinstated = events.FundsReinstated
)

// FraudWarning is an early warning of the card's issuer that a charge may be fraudulent.
type FraudWarning = events.FraudWarning

// ChargeCreate is a charge of a saved method while the buyer is away. With a ReturnURL a bank that asks for
// authentication leads to Status "requires_action" and an Action.URL to send the buyer to; without one the charge fails.
type ChargeCreate struct {
	ProviderID      string            `json:"providerId"` // "" = "stripe"
	CustomerID      string            `json:"customerId"`
	PaymentMethodID string            `json:"paymentMethodId"`
	Amount          int64             `json:"amount"`             // minor units
	Currency        string            `json:"currency,omitempty"` // lower-case ISO 4217; "" = the installation's default
	Description     string            `json:"description"`
	Metadata        map[string]string `json:"metadata,omitempty"`
	ReturnURL       string            `json:"returnURL,omitempty"`
	Retry           string            `json:"retry,omitempty"` // name of a retry schedule of the installation; "" = no further attempt
}

// ChargeRefund is money to be given back. Amount 0 = all that is left.
type ChargeRefund struct {
	ChargeID string `json:"chargeId"`
	Amount   int64  `json:"amount,omitempty"` // minor units
	Reason   string `json:"reason,omitempty"` // "duplicate", "fraudulent" or "requested_by_customer"
}

// ChargeResolve is an operator's decision about a charge that stayed in doubt. Operator and Reason stay in history for
// ever: they must not hold an e-mail address. ProviderPaymentID is the payment that took the money, where it is not the
// one that is known. With RefundID it is about a refund of the charge that stayed unanswered, and Outcome is failed: it was
// not made. Where the NATS server has users, only the operator's may send it.
type ChargeResolve struct {
	ChargeID          string       `json:"chargeId"`
	Outcome           ChargeStatus `json:"outcome"` // succeeded, failed or canceled
	Operator          string       `json:"operator"`
	Reason            string       `json:"reason"`
	ProviderPaymentID string       `json:"providerPaymentId,omitempty"`
	RefundID          string       `json:"refundId,omitempty"`
}

// ChargeList asks for charges, newest first.
type ChargeList struct {
	CustomerID string       `json:"customerId,omitempty"`
	Status     ChargeStatus `json:"status,omitempty"`
	Page
}

// ChargeService charges saved methods.
type ChargeService struct{ c *Client }

// Create charges a saved method, once per idempotency key.
func (s *ChargeService) Create(ctx context.Context, in ChargeCreate, o ...CallOption) (*Charge, error) {
	in.ProviderID = providerOr(in.ProviderID)
	return command[Charge](ctx, s.c, "charge.create", in, o)
}

// Refund gives money back, once per idempotency key.
func (s *ChargeService) Refund(ctx context.Context, in ChargeRefund, o ...CallOption) (*Charge, error) {
	return command[Charge](ctx, s.c, "charge.refund", in, o)
}

// Cancel stops a charge that has not ended; one that has comes back as it is.
func (s *ChargeService) Cancel(ctx context.Context, chargeID string, o ...CallOption) (*Charge, error) {
	return command[Charge](ctx, s.c, "charge.cancel", map[string]string{"chargeId": chargeID}, o)
}

// Resolve ends a charge, or a refund, that stayed in doubt by an operator's word, or says that a second
// payment stays ("succeeded"). Where nothing is in doubt (any more) it is
// refused with charge_not_resolvable; the same decision sent again comes back as it was.
func (s *ChargeService) Resolve(ctx context.Context, in ChargeResolve, o ...CallOption) (*Charge, error) {
	return command[Charge](ctx, s.c, "charge.resolve", in, o)
}

// Get answers a charge.
func (s *ChargeService) Get(ctx context.Context, chargeID string, o ...QueryOption) (*Charge, error) {
	return query[Charge](ctx, s.c, "charge.get", map[string]string{"chargeId": chargeID}, o)
}

// List answers charges, newest first.
func (s *ChargeService) List(ctx context.Context, in ChargeList, o ...QueryOption) (*List[Charge], error) {
	return query[List[Charge]](ctx, s.c, "charge.list", in, o)
}

// Event is one stored event: CloudEvents attributes and data.
type Event = events.Event

// EventType is an event's type, as in "charge.succeeded".
type EventType = events.Type

// EventList asks for history, oldest first: of a customer, or of one entity (any id of ours).
type EventList struct {
	CustomerID string `json:"customerId,omitempty"`
	EntityID   string `json:"entityId,omitempty"`
	Page
}

// EventService reads history.
type EventService struct{ c *Client }

// List answers events, oldest first.
func (s *EventService) List(ctx context.Context, in EventList, o ...QueryOption) (*List[Event], error) {
	return query[List[Event]](ctx, s.c, "event.list", in, o)
}

// Settled waits until a charge has ended or needs the buyer, or ctx ends. It asks the views every half second.
func (s *ChargeService) Settled(ctx context.Context, chargeID string) (*Charge, error) {
	for {
		charge, err := s.Get(ctx, chargeID)
		if err != nil || charge.Status.Final() || charge.Status == ChargeRequiresAction {
			return charge, err
		}
		select {
		case <-ctx.Done():
			return charge, fmt.Errorf("charge %s is %s: %w", chargeID, charge.Status, ctx.Err())
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func providerOr(id string) string {
	if id == "" {
		return defaultProvider
	}
	return id
}

func command[T any](ctx context.Context, c *Client, verb string, in any, o []CallOption) (*T, error) {
	var out T
	if err := c.command(ctx, verb, in, &out, o); err != nil {
		return nil, err
	}
	return &out, nil
}

func query[T any](ctx context.Context, c *Client, name string, in any, o []QueryOption) (*T, error) {
	var out T
	if err := c.query(ctx, name, in, &out, o); err != nil {
		return nil, err
	}
	return &out, nil
}
