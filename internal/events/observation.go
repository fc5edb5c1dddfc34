package events

import "time"

// An observation is what a provider said about one of its objects, in words that are no provider's own: the answer to
// a call, a delivery, an item of a listing. Adapters make them; decisions read them.

// Owner is the reserved metadata that PayKit puts on every object it makes at a provider. An object whose Env is not
// ours is not ours, whatever the rest says.
type Owner struct {
	Env      string // paykit_env
	Customer string // paykit_customer
	Charge   string // paykit_charge
	Checkout string // paykit_checkout
	Setup    string // paykit_setup
	Refund   string // paykit_refund
}

// The reserved metadata keys. A caller can neither set nor overwrite them.
const (
	MetadataEnv      = "paykit_env"
	MetadataCustomer = "paykit_customer"
	MetadataCharge   = "paykit_charge"
	MetadataCheckout = "paykit_checkout"
	MetadataSetup    = "paykit_setup"
	MetadataRefund   = "paykit_refund"
)

// ReservedMetadata is the prefix of every reserved key, refused in metadata that a caller sends.
const ReservedMetadata = "paykit_"

// Metadata is the owner as provider metadata, without empty values.
func (o Owner) Metadata() map[string]string {
	m := map[string]string{}
	for k, v := range map[string]string{
		MetadataEnv: o.Env, MetadataCustomer: o.Customer, MetadataCharge: o.Charge,
		MetadataCheckout: o.Checkout, MetadataSetup: o.Setup, MetadataRefund: o.Refund,
	} {
		if v != "" {
			m[k] = v
		}
	}
	return m
}

// OwnerOf reads the reserved keys out of a provider object's metadata.
func OwnerOf(metadata map[string]string) Owner {
	return Owner{
		Env: metadata[MetadataEnv], Customer: metadata[MetadataCustomer], Charge: metadata[MetadataCharge],
		Checkout: metadata[MetadataCheckout], Setup: metadata[MetadataSetup], Refund: metadata[MetadataRefund],
	}
}

// PaymentStatus is where a payment stands at its provider.
type PaymentStatus string

// The payment statuses, in Stripe's words because they are the field's.
const (
	PaymentRequiresMethod       PaymentStatus = "requires_payment_method" // never tried, or declined (Failure says why)
	PaymentRequiresConfirmation PaymentStatus = "requires_confirmation"   // made, and takes no money until confirmed
	PaymentRequiresAction       PaymentStatus = "requires_action"         // waits for the buyer, at ActionURL
	PaymentProcessing           PaymentStatus = "processing"              // under way, will succeed or fail later
	PaymentSucceeded            PaymentStatus = "succeeded"               // money was taken
	PaymentCanceled             PaymentStatus = "canceled"                // can never be paid
)

// Payment is one payment (Stripe: PaymentIntent, or a Charge without one).
type Payment struct {
	Owner              Owner
	ID                 string // the provider's id of the payment; "" for a charge that has none
	ChargeID           string // the provider's id of the latest charge, if any
	ProviderCustomerID string
	ProviderMethodID   string
	Status             PaymentStatus
	Amount             int64 // minor units
	AmountRefunded     int64 // minor units; 0 if the report does not say
	Currency           string
	Failure            *Failure // the last decline, while Status is requires_payment_method or canceled
	DoNotRetry         bool     // with Failure: the bank advises never to try this method again
	Abandoned          bool     // canceled because the buyer did not act in time
	ActionURL          string   // where the buyer acts, with requires_action
	CreatedAt          time.Time
}

// SessionStatus is where a hosted session stands.
type SessionStatus string

// The session statuses.
const (
	SessionOpen     SessionStatus = "open"
	SessionComplete SessionStatus = "complete"
	SessionExpired  SessionStatus = "expired"
)

// Session is one hosted page (Stripe: Checkout Session), in payment or setup mode.
type Session struct {
	Owner              Owner
	ID                 string
	Setup              bool // setup mode: saves a method, takes no money
	ProviderCustomerID string
	URL                string
	Status             SessionStatus
	Paid               bool // payment mode, complete: false while a delayed method is still under way
	PaymentFailed      bool // the delayed payment of a complete session failed
	PaymentID          string
	ProviderMethodID   string // setup mode, complete: the saved method, if the report holds it
	ExpiresAt          time.Time
	CreatedAt          time.Time
}

// SetupReport is one completed attempt to save a method (Stripe: SetupIntent).
type SetupReport struct {
	Owner              Owner
	ID                 string
	ProviderCustomerID string
	Succeeded          bool
	ProviderMethodID   string
}

// Method is one saved payment method. Attached is false once it left its customer, which is final.
type Method struct {
	ID                 string
	ProviderCustomerID string
	Attached           bool
	Type               string // "card"
	Brand              string // "visa"
	Last4              string
	ExpiryMonth        int // 1–12
	ExpiryYear         int // four digits
	Fingerprint        string
	CreatedAt          time.Time
	ReportedAt         time.Time // when the provider said so, by its clock in whole seconds; zero = not known, counts as the newest
}

// RefundReport is one refund as its provider shows it.
type RefundReport struct {
	Owner             Owner
	ID                string
	ProviderPaymentID string
	ProviderChargeID  string
	Amount            int64
	Currency          string
	Status            RefundStatus
	Reason            string
	Failure           *Failure // why it failed or was canceled, if the provider says
}

// DisputeReport is one dispute as its provider shows it.
type DisputeReport struct {
	ID                string
	ProviderPaymentID string
	ProviderChargeID  string
	Amount            int64
	Currency          string
	Status            string // the provider's word
	Reason            string
	Funds             DisputeFunds // "" if the report does not say
}

// FraudWarningReport is an issuer's early warning of fraud as its provider shows it.
type FraudWarningReport struct {
	ID                string
	ProviderPaymentID string
	ProviderChargeID  string
	Type              string // the provider's word
	Actionable        bool
}
