package events

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// ErrMalformed is returned by [Decode] for bytes that are not an event: no JSON, a missing attribute, data that
// lacks the snapshot its type promises, or holds another entity's.
var ErrMalformed = errors.New("malformed event")

// Event is the envelope and its data: CloudEvents 1.0 in structured JSON. EntityVersion counts an entity's events from 1
// without gaps; PreviousDigest is the SHA-256 of the bytes of the event before it ("" for the first), so a changed or
// missing earlier event shows.
type Event struct {
	SpecVersion     string    `json:"specversion"`     // "1.0"
	ID              string    `json:"id"`              // ULID
	Source          string    `json:"source"`          // who appended it: "/paykit/ingest", "/paykit/worker", …
	Type            Type      `json:"type"`            // "charge.succeeded"
	Subject         string    `json:"subject"`         // the entity's id
	Time            time.Time `json:"time"`            // when it was decided, UTC, milliseconds
	DataContentType string    `json:"datacontenttype"` // "application/json"
	DataSchema      string    `json:"dataschema"`      // "urn:paykit:charge:1"
	CorrelationID   string    `json:"correlationid,omitempty"`
	CausationID     string    `json:"causationid,omitempty"`
	EntityVersion   int       `json:"entityversion"`
	PreviousDigest  string    `json:"previousdigest"`
	Data            Data      `json:"data"`

	digest   string          // of the bytes it was decoded from or encoded to
	snapshot json.RawMessage // its own bytes in those
}

// Data is the customer's reference and the entity's snapshot under its camelCase name. In a customer's own events
// Customer is the whole snapshot.
type Data struct {
	Customer        Customer         `json:"customer,omitzero"`
	ProviderAccount *ProviderAccount `json:"providerAccount,omitempty"`
	Checkout        *Checkout        `json:"checkout,omitempty"`
	Setup           *Setup           `json:"setup,omitempty"`
	PaymentMethod   *PaymentMethod   `json:"paymentMethod,omitempty"`
	Charge          *Charge          `json:"charge,omitempty"`
	Command         *Command         `json:"command,omitempty"`

	Changed []string `json:"changed,omitzero"`  // customer created, updated: which fields changed, never their values
	Refund  *Refund  `json:"refund,omitempty"`  // refund events: the refund it is about
	Dispute *Dispute `json:"dispute,omitempty"` // dispute events: the dispute it is about

	FraudWarning *FraudWarning `json:"fraudWarning,omitempty"` // charge.fraud_warned: the warning it is about
}

// Base is what every snapshot begins with. CreatedAt and UpdatedAt are the times of the entity's first and last event.
type Base struct {
	ID         string    `json:"id"`
	CustomerID string    `json:"customerId,omitempty"`
	ProviderID string    `json:"providerId,omitempty"`
	CreatedAt  time.Time `json:"createdAt,omitzero"`
	UpdatedAt  time.Time `json:"updatedAt,omitzero"`
}

// CustomerRef is how an event of another entity names its customer.
type CustomerRef struct {
	ID          string `json:"id"`
	ReferenceID string `json:"referenceId"`
}

// Entity is the kind of thing the event is about.
func (e *Event) Entity() Entity { return e.Type.Entity() }

// CustomerID is the id of the customer whom the event belongs to, "" if none.
func (e *Event) CustomerID() string { return e.Data.Customer.ID }

// Digest is "sha256:" and the hex SHA-256 of the event's bytes: what the next event of the entity names as its
// PreviousDigest. It is "" for an event that was neither decoded nor encoded.
func (e *Event) Digest() string { return e.digest }

// Digest is "sha256:" and the hex SHA-256 of b.
func Digest(b []byte) string {
	sum := sha256.Sum256(b)
	text := make([]byte, 0, len("sha256:")+2*sha256.Size)
	text = append(text, "sha256:"...)
	return string(hex.AppendEncode(text, sum[:]))
}

// Encode gives the event's bytes as they are stored, and remembers their digest.
func (e *Event) Encode() ([]byte, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", e.Type, err)
	}
	e.digest = Digest(b)
	e.snapshot = cut(cut(b, "data"), e.Entity().field())
	return b, nil
}

// Decode reads an event's stored bytes, of whichever schema version, into the current shape (see [Upcasters]). Attributes
// and fields that it does not know are skipped, so that an older program can read a newer event of a known type. It returns
// [ErrMalformed], [ErrUnknownType] or [ErrUnknownSchema].
func Decode(b []byte) (*Event, error) { return Released().Decode(b) }

// RawSnapshot is the snapshot's own bytes, in the current shape, as they stand in what the event was decoded from
// (fields that only a newer program knows are still there) or encoded to; nil for an event that was neither. It must not be
// changed.
func (e *Event) RawSnapshot() json.RawMessage { return e.snapshot }

// snapshotID is the id in the snapshot that the event's type promises, "" if there is none.
func (e *Event) snapshotID() string {
	d := e.Data
	switch entity := e.Entity(); {
	case entity == EntityCustomer:
		return d.Customer.ID
	case entity == EntityProviderAccount && d.ProviderAccount != nil:
		return d.ProviderAccount.ID
	case entity == EntityCheckout && d.Checkout != nil:
		return d.Checkout.ID
	case entity == EntitySetup && d.Setup != nil:
		return d.Setup.ID
	case entity == EntityPaymentMethod && d.PaymentMethod != nil:
		return d.PaymentMethod.ID
	case entity == EntityCharge && d.Charge != nil:
		return d.Charge.ID
	case entity == EntityCommand && d.Command != nil:
		return d.Command.ID
	}
	return ""
}

// Snapshot is the entity's state after the event, ready to be shown as JSON: a [Customer], [*Charge], …
func (e *Event) Snapshot() any {
	switch e.Entity() {
	case EntityCustomer:
		return e.Data.Customer
	case EntityProviderAccount:
		return e.Data.ProviderAccount
	case EntityCheckout:
		return e.Data.Checkout
	case EntitySetup:
		return e.Data.Setup
	case EntityPaymentMethod:
		return e.Data.PaymentMethod
	case EntityCharge:
		return e.Data.Charge
	case EntityCommand:
		return e.Data.Command
	}
	return nil
}

// Cause is what a decision is told beside its input: when it is made, by whom, and what led to it.
type Cause struct {
	Now         time.Time   // the event's time, if there is one
	Source      string      // "/paykit/ingest", "/paykit/worker", …
	CommandID   string      // of a command; "" for anything else, then the correlation of the last event is carried on
	CausationID string      // id of the event, delivery or provider request that led here
	Customer    CustomerRef // whose entity it is; empty for none
}

// repeated tells whether the last event is already this command's: it was delivered twice, or its caller saw no answer.
func (c Cause) repeated(last *Event) bool {
	return last != nil && c.CommandID != "" && last.CorrelationID == c.CommandID
}

// Millis is t as events carry it: UTC, whole milliseconds.
func Millis(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

// at is the decision's time, never before the entity's last event: clocks of two processes differ, history does not
// run backwards.
func (c Cause) at(last *Event) time.Time {
	now := Millis(c.Now)
	if last != nil && now.Before(last.Time) {
		return last.Time
	}
	return now
}

// next makes the envelope around an entity's new snapshot.
func next(last *Event, typ Type, id string, c Cause, data Data) *Event {
	e := &Event{
		SpecVersion:     "1.0",
		Source:          c.Source,
		Type:            typ,
		Subject:         id,
		Time:            c.at(last),
		DataContentType: "application/json",
		DataSchema:      Released().Schema(typ.Entity()),
		CorrelationID:   c.CommandID,
		CausationID:     c.CausationID,
		EntityVersion:   1,
		Data:            data,
	}
	if typ.Entity() != EntityCustomer {
		e.Data.Customer = Customer{Base: Base{ID: c.Customer.ID}, ReferenceID: c.Customer.ReferenceID}
		if last != nil {
			e.Data.Customer = last.Data.Customer
		}
	}
	if last != nil {
		e.EntityVersion = last.EntityVersion + 1
		e.PreviousDigest = last.digest
		if e.CorrelationID == "" {
			e.CorrelationID = last.CorrelationID
		}
	}
	e.ID = eventID(e.Time, typ, id, e.EntityVersion, e.PreviousDigest)
	return e
}

// Error is a command's refusal, in the words of the public contract: a code that programs act on, a sentence for
// people, and the field at fault where there is one.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	Param   string `json:"param,omitempty"`
}

func (e *Error) Error() string {
	if e.Param != "" {
		return string(e.Code) + " (" + e.Param + "): " + e.Message
	}
	return string(e.Code) + ": " + e.Message
}

// Code says what kind of refusal an [Error] is.
type Code string

// The codes of the public contract.
const (
	CodeInvalidRequest        Code = "invalid_request"
	CodeCustomerNotFound      Code = "customer_not_found"
	CodeProviderNotFound      Code = "provider_not_found"
	CodePaymentMethodNotFound Code = "payment_method_not_found"
	CodeChargeNotFound        Code = "charge_not_found"
	CodeCheckoutNotFound      Code = "checkout_not_found"
	CodeSetupNotFound         Code = "setup_not_found" // setup.get only; the contract's list has no word for it
	CodeIdempotencyConflict   Code = "idempotency_conflict"
	CodeChargeNotRefundable   Code = "charge_not_refundable"
	CodeChargeNotResolvable   Code = "charge_not_resolvable"
	CodeRefundTooLarge        Code = "refund_too_large"
	CodeRefundLimit           Code = "refund_limit"
	CodePersonalData          Code = "personal_data"
	CodeOverloaded            Code = "overloaded"
	CodeStorageFull           Code = "storage_full"
	CodeTimeout               Code = "timeout"
	CodeInternal              Code = "internal"
)

// Status is the HTTP-like status that goes with a code: 400, 404, 409, 422, 429, 500 or 503.
func (c Code) Status() int {
	switch c {
	case CodeInvalidRequest:
		return 400
	case CodeCustomerNotFound, CodeProviderNotFound, CodePaymentMethodNotFound, CodeChargeNotFound,
		CodeCheckoutNotFound, CodeSetupNotFound:
		return 404
	case CodeIdempotencyConflict:
		return 409
	case CodeChargeNotRefundable, CodeChargeNotResolvable, CodeRefundTooLarge, CodeRefundLimit, CodePersonalData:
		return 422
	case CodeOverloaded:
		return 429
	case CodeStorageFull, CodeTimeout:
		return 503
	case CodeInternal:
		return 500
	}
	return 500
}

// refuse makes an [Error].
func refuse(code Code, param, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Param: param}
}
