package events

import (
	"errors"
	"fmt"
	"strings"
)

// ErrUnknownType is returned for an event type that this version of the program does not know. A projector stops on
// it, because a view that skips an event is wrong for ever; an app skips it.
var ErrUnknownType = errors.New("unknown event type")

// Entity names a kind of thing that has events. It is a token of the LOG's subjects.
type Entity string

// The entities.
const (
	EntityCustomer        Entity = "customer"
	EntityProviderAccount Entity = "provider_account"
	EntityCheckout        Entity = "checkout"
	EntitySetup           Entity = "setup"
	EntityPaymentMethod   Entity = "payment_method"
	EntityCharge          Entity = "charge"
	EntityCommand         Entity = "command"
)

// Type is an event's type, "<entity>.<event>", as in "charge.succeeded".
type Type string

// The events, by entity. A request event (see [RequestTypes]) asks the worker for a provider call.
const (
	CustomerCreated Type = "customer.created"
	CustomerUpdated Type = "customer.updated"
	CustomerDeleted Type = "customer.deleted"

	ProviderAccountLinked   Type = "provider_account.linked"
	ProviderAccountUnlinked Type = "provider_account.unlinked"

	CheckoutRequested       Type = "checkout.requested"
	CheckoutCreated         Type = "checkout.created"
	CheckoutExpireRequested Type = "checkout.expire_requested"
	CheckoutCompleted       Type = "checkout.completed"
	CheckoutExpired         Type = "checkout.expired"
	CheckoutFailed          Type = "checkout.failed"

	SetupRequested        Type = "setup.requested"
	SetupCreated          Type = "setup.created"
	SetupRefreshRequested Type = "setup.refresh_requested"
	SetupCompleted        Type = "setup.completed"
	SetupExpired          Type = "setup.expired"
	SetupFailed           Type = "setup.failed"

	PaymentMethodAttached         Type = "payment_method.attached"
	PaymentMethodUpdated          Type = "payment_method.updated"
	PaymentMethodExpiring         Type = "payment_method.expiring"
	PaymentMethodDefaultRequested Type = "payment_method.default_requested"
	PaymentMethodDefaultSet       Type = "payment_method.default_set"
	PaymentMethodDetachRequested  Type = "payment_method.detach_requested"
	PaymentMethodDetached         Type = "payment_method.detached"

	ChargeRequested        Type = "charge.requested"
	ChargeProcessing       Type = "charge.processing"
	ChargeRequiresAction   Type = "charge.requires_action"
	ChargeInDoubt          Type = "charge.in_doubt"
	ChargeSucceeded        Type = "charge.succeeded"
	ChargeFailed           Type = "charge.failed"
	ChargeCancelRequested  Type = "charge.cancel_requested"
	ChargeCanceled         Type = "charge.canceled"
	ChargeRefundRequested  Type = "charge.refund_requested"
	ChargeRefunded         Type = "charge.refunded"
	ChargeRefundFailed     Type = "charge.refund_failed"
	ChargeDisputed         Type = "charge.disputed"
	ChargeDisputeClosed    Type = "charge.dispute_closed"
	ChargeRefreshRequested Type = "charge.refresh_requested"
	ChargeUpdated          Type = "charge.updated"
	ChargeReviewRequested  Type = "charge.review_requested"
	ChargeRetryRequested   Type = "charge.retry_requested"
	ChargeFraudWarned      Type = "charge.fraud_warned"

	CommandRejected Type = "command.rejected"
)

// Types lists every event type there is, grouped by entity. It is the registry that streams, views, schemas and tests
// are compared with.
func Types() []Type {
	return []Type{
		CustomerCreated, CustomerUpdated, CustomerDeleted,
		ProviderAccountLinked, ProviderAccountUnlinked,
		CheckoutRequested, CheckoutCreated, CheckoutExpireRequested, CheckoutCompleted, CheckoutExpired, CheckoutFailed,
		SetupRequested, SetupCreated, SetupRefreshRequested, SetupCompleted, SetupExpired, SetupFailed,
		PaymentMethodAttached, PaymentMethodUpdated, PaymentMethodExpiring, PaymentMethodDefaultRequested, PaymentMethodDefaultSet,
		PaymentMethodDetachRequested, PaymentMethodDetached,
		ChargeRequested, ChargeProcessing, ChargeRequiresAction, ChargeInDoubt, ChargeSucceeded, ChargeFailed,
		ChargeCancelRequested, ChargeCanceled, ChargeRefundRequested, ChargeRefunded, ChargeRefundFailed,
		ChargeDisputed, ChargeDisputeClosed, ChargeRefreshRequested, ChargeUpdated, ChargeReviewRequested, ChargeRetryRequested, ChargeFraudWarned,
		CommandRejected,
	}
}

// RequestTypes lists the events that the worker's first durable consumer listens to. Each asks for a provider call, or
// tells of something that the provider must be told too.
func RequestTypes() []Type {
	return []Type{
		CheckoutRequested, CheckoutExpireRequested,
		SetupRequested, SetupRefreshRequested,
		ChargeRequested, ChargeRefundRequested, ChargeCancelRequested, ChargeRefreshRequested,
		ChargeFailed, ChargeCanceled, // a payment that is ours and can still be paid is canceled
		ChargeRetryRequested,
		PaymentMethodDefaultRequested, PaymentMethodDetachRequested,
		PaymentMethodDetached,            // the next method becomes the default
		CustomerUpdated, CustomerDeleted, // push the profile; erase
		ProviderAccountLinked, ProviderAccountUnlinked, // push the profile; detach the account's methods
	}
}

// SettlingTypes lists the events that the worker's second durable consumer listens to: each leaves something open that
// the provider is asked about until it is settled.
func SettlingTypes() []Type {
	return []Type{
		ChargeInDoubt, ChargeProcessing, ChargeRequiresAction, ChargeRefundRequested, ChargeUpdated, ChargeReviewRequested,
		ChargeFailed, ChargeRetryRequested, // of a charge with a retry ladder
		ChargeRefundFailed, // of a second payment, which a person must look at again
		CheckoutCreated, CheckoutCompleted, SetupCreated,
	}
}

// Entities lists the entities in the order of the registry.
func Entities() []Entity {
	return []Entity{
		EntityCustomer, EntityProviderAccount, EntityCheckout, EntitySetup, EntityPaymentMethod, EntityCharge, EntityCommand,
	}
}

// Entity is the part of the type before the dot.
func (t Type) Entity() Entity {
	entity, _, _ := strings.Cut(string(t), ".")
	return Entity(entity)
}

// Name is the part of the type after the dot: the event's token in a subject.
func (t Type) Name() string {
	_, name, _ := strings.Cut(string(t), ".")
	return name
}

// Known tells whether the registry has the type. It is asked on every decode, so it is a switch and not a search of
// [Types]; a test holds the two against each other.
func (t Type) Known() bool {
	switch t {
	case CustomerCreated, CustomerUpdated, CustomerDeleted,
		ProviderAccountLinked, ProviderAccountUnlinked,
		CheckoutRequested, CheckoutCreated, CheckoutExpireRequested, CheckoutCompleted, CheckoutExpired, CheckoutFailed,
		SetupRequested, SetupCreated, SetupRefreshRequested, SetupCompleted, SetupExpired, SetupFailed,
		PaymentMethodAttached, PaymentMethodUpdated, PaymentMethodExpiring, PaymentMethodDefaultRequested, PaymentMethodDefaultSet,
		PaymentMethodDetachRequested, PaymentMethodDetached,
		ChargeRequested, ChargeProcessing, ChargeRequiresAction, ChargeInDoubt, ChargeSucceeded, ChargeFailed,
		ChargeCancelRequested, ChargeCanceled, ChargeRefundRequested, ChargeRefunded, ChargeRefundFailed,
		ChargeDisputed, ChargeDisputeClosed, ChargeRefreshRequested, ChargeUpdated, ChargeReviewRequested, ChargeRetryRequested, ChargeFraudWarned,
		CommandRejected:
		return true
	}
	return false
}

// ParseType finds the type of an entity and an event's name. It returns [ErrUnknownType] if there is none.
func ParseType(entity, name string) (Type, error) {
	t := Type(entity + "." + name)
	if !t.Known() {
		return "", fmt.Errorf("%w: %q", ErrUnknownType, t)
	}
	return t, nil
}
