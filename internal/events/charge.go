package events

import (
	"errors"
	"slices"
	"time"

	"github.com/paykit-go/paykit/internal/plant"
)

// ErrOtherPayment is returned by [DecideCharge] for the success of a further payment of a charge that has succeeded
// already: it is money, so the caller makes it a charge of its own and raises an alarm.
var ErrOtherPayment = errors.New("another payment of a succeeded charge")

// ErrNoCharge is returned by [DecideCharge] for a refund or a dispute of a charge that is not known (yet).
var ErrNoCharge = errors.New("the charge is not known")

// ChargeStatus is where a charge stands. An event never lowers its rank: requested < processing < requires_action,
// in_doubt < failed, canceled < succeeded, which beats everything because it is money.
type ChargeStatus string

// The charge statuses.
const (
	ChargeStatusRequested      ChargeStatus = "requested"
	ChargeStatusProcessing     ChargeStatus = "processing"
	ChargeStatusRequiresAction ChargeStatus = "requires_action"
	ChargeStatusInDoubt        ChargeStatus = "in_doubt"
	ChargeStatusFailed         ChargeStatus = "failed"
	ChargeStatusCanceled       ChargeStatus = "canceled"
	ChargeStatusSucceeded      ChargeStatus = "succeeded"
)

func (s ChargeStatus) rank() int {
	switch s {
	case ChargeStatusRequested:
		return 1
	case ChargeStatusProcessing:
		return 2
	case ChargeStatusRequiresAction, ChargeStatusInDoubt:
		return 3
	case ChargeStatusFailed, ChargeStatusCanceled:
		return 4
	case ChargeStatusSucceeded:
		return 5
	}
	return 0
}

// Final tells whether the status is an end: succeeded, failed or canceled.
func (s ChargeStatus) Final() bool { return s.rank() >= ChargeStatusFailed.rank() }

// reaches tells whether an event may move the status to "to": up in rank, or between requires_action and in_doubt.
func (s ChargeStatus) reaches(to ChargeStatus) bool {
	if plant.Bug == 7 || plant.Bug == 3 && to == ChargeStatusSucceeded {
		return true
	}
	if s.rank() == to.rank() {
		return s != to && s.rank() == ChargeStatusInDoubt.rank()
	}
	return to.rank() > s.rank()
}

// Charge is a charge's snapshot.
type Charge struct { //nolint:recvcheck // deciding works on copies, asking on the snapshot itself
	Base
	Amount                 int64             `json:"amount"`         // minor units
	AmountRefunded         int64             `json:"amountRefunded"` // minor units, the sum of the succeeded refunds
	Currency               string            `json:"currency"`       // lower-case ISO 4217
	Description            string            `json:"description,omitempty"`
	Metadata               map[string]string `json:"metadata"`
	ReturnURL              string            `json:"returnURL,omitempty"`
	PaymentMethodID        string            `json:"paymentMethodId,omitempty"`
	CheckoutID             string            `json:"checkoutId,omitempty"`
	ProviderPaymentID      string            `json:"providerPaymentId,omitempty"`
	ProviderChargeID       string            `json:"providerChargeId,omitempty"`
	ReportedByProvider     bool              `json:"reportedByProvider"`               // true: PayKit did not start it
	ProviderAmountRefunded int64             `json:"providerAmountRefunded,omitempty"` // the largest total the provider reported
	CancelRequestedAt      *time.Time        `json:"cancelRequestedAt,omitempty"`
	Status                 ChargeStatus      `json:"status"`
	Failure                *Failure          `json:"failure,omitempty"`
	Action                 *Action           `json:"action,omitempty"`
	Refunds                []Refund          `json:"refunds"`
	Disputes               []Dispute         `json:"disputes"`
	FraudWarnings          []FraudWarning    `json:"fraudWarnings,omitempty"`
	CommandDigest          string            `json:"commandDigest,omitempty"`
	Review                 *Review           `json:"review,omitempty"`              // a person must look
	SupersededPaymentID    string            `json:"supersededPaymentId,omitempty"` // the charge's payment before another one paid it: to be canceled
	SecondPaymentOf        string            `json:"secondPaymentOf,omitempty"`     // our id of the charge that was paid first, for the same thing
	Resolution             *Resolution       `json:"resolution,omitempty"`          // what an operator decided
	Retry                  *Retry            `json:"retry,omitempty"`               // the retry ladder, if the command asked for one
}

// Action is where the buyer authenticates, and until when.
type Action struct {
	URL       string    `json:"url"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// ActionLife is how long a buyer has to act on requires_action. After it the worker cancels the payment.
const ActionLife = 24 * time.Hour

// ChargeInput is something that a charge's next event is decided from.
type ChargeInput interface{ chargeInput() }

// CreateCharge is the command charge.create with its defaults filled in.
type CreateCharge struct {
	ID              string
	CustomerID      string // whom the command names
	ProviderID      string
	PaymentMethodID string
	Amount          int64
	Currency        string
	Description     string
	Metadata        map[string]string
	ReturnURL       string
	CommandDigest   string
	Retry           *RetrySchedule // nil = a declined charge is not tried again
}

// CancelCharge is the command charge.cancel.
type CancelCharge struct{}

// PaymentObserved is what the provider said about the charge's payment. ID is the charge's id, for a charge that
// begins with this report; Checkout is the checkout it came from, if any.
type PaymentObserved struct {
	ID         string
	ProviderID string
	Checkout   *Checkout
	Payment    Payment
}

// ConfirmUnanswered says that the confirm was sent and no answer came: money may have been taken.
type ConfirmUnanswered struct{}

// ChargeRejected says that the charge can't be carried out: the provider refuses the request itself, or the customer
// or the method is gone.
type ChargeRejected struct{ Failure Failure }

func (CreateCharge) chargeInput()      {}
func (CancelCharge) chargeInput()      {}
func (PaymentObserved) chargeInput()   {}
func (ConfirmUnanswered) chargeInput() {}
func (ChargeRejected) chargeInput()    {}

// DecideCharge answers a charge's next event, nil for nothing to do, an [*Error] for a command that is refused, or
// [ErrOtherPayment] or [ErrNoCharge].
func DecideCharge(last *Event, in ChargeInput, c Cause) (*Event, error) {
	switch in := in.(type) {
	case retryInput:
		return decideRetry(last, in, c)
	case CreateCharge:
		return createCharge(last, in, c)
	case PaymentObserved:
		return observePayment(last, in, c)
	case RefundCharge:
		return refundCharge(last, in, c)
	case RefundObserved:
		return observeRefund(last, in, c)
	case RefundTotalObserved:
		return observeRefundTotal(last, in, c), nil
	case DisputeObserved:
		return observeDispute(last, in, c)
	case RequestReview:
		return requestReview(last, in, c), nil
	case ResolveCharge:
		return resolveCharge(last, in, c)
	case FraudWarningObserved:
		return observeFraudWarning(last, in, c)
	case CancelCharge:
		if last == nil {
			return nil, refuse(CodeChargeNotFound, "chargeId", "there is no such charge")
		}
		s := copyCharge(last)
		if c.repeated(last) || s.Status.Final() && !s.Retrying() || s.CancelRequestedAt != nil {
			return nil, nil
		}
		now := c.at(last)
		s.CancelRequestedAt = &now
		s.Retry.cancel()
		return s.next(last, ChargeCancelRequested, c), nil
	case ConfirmUnanswered:
		if last == nil {
			return nil, nil
		}
		s := copyCharge(last)
		if !s.Status.reaches(ChargeStatusInDoubt) {
			return nil, nil
		}
		s.Status = ChargeStatusInDoubt
		return s.next(last, ChargeInDoubt, c), nil
	case ChargeRejected:
		if last == nil {
			return nil, nil
		}
		s := copyCharge(last)
		if !s.Status.reaches(ChargeStatusFailed) {
			return nil, nil
		}
		s.Failure = &in.Failure
		return s.end(last, ChargeStatusFailed, ChargeFailed, c), nil
	}
	return nil, nil
}

// copyCharge gives a snapshot that can be changed without changing the event it came from.
func copyCharge(last *Event) Charge {
	s := *last.Data.Charge
	s.Metadata = cloneMetadata(s.Metadata)
	s.Refunds = slices.Clone(s.Refunds)
	s.Disputes = slices.Clone(s.Disputes)
	s.Retry = s.Retry.clone()
	s.FraudWarnings = slices.Clone(s.FraudWarnings)
	return s
}

// next makes the charge's next event around s.
func (s Charge) next(last *Event, typ Type, c Cause) *Event {
	s.UpdatedAt = c.at(last)
	s.Retry.follow(&s)
	s.reviewed()
	if s.Refunds == nil {
		s.Refunds = []Refund{}
	}
	if s.Disputes == nil {
		s.Disputes = []Dispute{}
	}
	return next(last, typ, s.ID, c, Data{Charge: &s})
}

// end closes the charge; the buyer's page is dropped, since there is nothing left to act on.
func (s Charge) end(last *Event, to ChargeStatus, typ Type, c Cause) *Event {
	s.Status = to
	s.Action = nil
	if to == ChargeStatusSucceeded {
		s.Failure = nil
	}
	return s.next(last, typ, c)
}

func createCharge(last *Event, in CreateCharge, c Cause) (*Event, error) {
	if last != nil {
		if !in.begins(last.Data.Charge) {
			return nil, errConflict()
		}
		return nil, nil
	}
	s := Charge{
		Base:   Base{ID: in.ID, CustomerID: c.Customer.ID, ProviderID: in.ProviderID, CreatedAt: c.at(nil)},
		Amount: in.Amount, Currency: in.Currency, Description: in.Description, Metadata: cloneMetadata(in.Metadata),
		ReturnURL: in.ReturnURL, PaymentMethodID: in.PaymentMethodID,
		Status: ChargeStatusRequested, CommandDigest: in.CommandDigest, Retry: newRetry(in.Retry, c.at(nil)),
	}
	return s.next(nil, ChargeRequested, c), nil
}

// begins tells whether a charge is the one that this command begins. One that a report began, as after a restore from a backup
// that lacks its command, has no body to compare with: it is this command's if the same customer paid the same.
func (in CreateCharge) begins(s *Charge) bool {
	if s.ReportedByProvider && s.CommandDigest == "" {
		return s.CustomerID == in.CustomerID && s.ProviderID == in.ProviderID && s.Amount == in.Amount && s.Currency == in.Currency
	}
	return s.CommandDigest == in.CommandDigest
}

// observePayment takes in a report about a payment, whoever brought it.
func observePayment(last *Event, in PaymentObserved, c Cause) (*Event, error) {
	if last == nil {
		return beginCharge(in, c), nil
	}
	p := in.Payment
	s := copyCharge(last)
	if !s.isOwnPayment(p) {
		// Another payment counts only if it is money: the first success is the charge.
		if p.Status != PaymentSucceeded {
			return nil, nil
		}
		if s.Status == ChargeStatusSucceeded {
			return nil, ErrOtherPayment
		}
		s.supersede(p.ID)
		s.ProviderChargeID = "" // the other payment's
	}
	switch p.Status {
	case PaymentSucceeded:
		if !s.Status.reaches(ChargeStatusSucceeded) {
			return nil, nil
		}
		s.take(p)
		if p.Amount > 0 { // what was taken, should it differ from what was asked for: refunds are counted against it
			s.Amount, s.Currency = p.Amount, p.Currency
		}
		return s.end(last, ChargeStatusSucceeded, ChargeSucceeded, c), nil
	case PaymentCanceled:
		return s.canceled(last, p, c), nil
	case PaymentRequiresMethod:
		return s.declined(last, p, c), nil
	case PaymentRequiresAction:
		return s.requiresAction(last, p, c), nil
	case PaymentRequiresConfirmation, PaymentProcessing:
		// Of a payment that waits for its confirm this event is the commit point of the two-step charge: from here on
		// the payment's id is known, and settling is asking.
		if !s.Status.reaches(ChargeStatusProcessing) {
			return nil, nil
		}
		s.take(p)
		s.Status = ChargeStatusProcessing
		return s.next(last, ChargeProcessing, c), nil
	}
	return nil, nil
}

// isOwnPayment tells whether a report is about the charge's own payment, or may be. One without a payment's id is about a
// charge whose payment is known only if the provider's charge is the same: what was decided before a payment was made
// must not end a charge whose payment was recorded meanwhile.
func (s *Charge) isOwnPayment(p Payment) bool {
	switch {
	case s.ProviderPaymentID == "":
		return true
	case p.ID == "":
		return p.ChargeID != "" && p.ChargeID == s.ProviderChargeID
	}
	return p.ID == s.ProviderPaymentID
}

// supersede keeps the id of a payment that PayKit made, and that another one paid for: it can still be paid, so the worker
// cancels it. A crash right after leaves that in the snapshot: whoever settles the charge, or carries its end out, reads it
// there. A payment made on a page is its page's to end.
func (s *Charge) supersede(by string) {
	if by != "" && s.ProviderPaymentID != "" && s.ProviderPaymentID != by && s.CheckoutID == "" && !s.ReportedByProvider {
		s.SupersededPaymentID = s.ProviderPaymentID
	}
}

// take copies the provider's ids; what it leaves out stays.
func (s *Charge) take(p Payment) {
	if p.ID != "" {
		s.ProviderPaymentID = p.ID
	}
	if p.ChargeID != "" {
		s.ProviderChargeID = p.ChargeID
	}
	if s.PaymentMethodID == "" && p.ProviderMethodID != "" {
		s.PaymentMethodID = PaymentMethodID(s.ProviderID, p.ProviderMethodID)
	}
}

// beginCharge begins a charge with a report. A checkout's begins at its success or when it is under way, a foreign one
// only at its success; a declined card on an open page is detail.
func beginCharge(in PaymentObserved, c Cause) *Event {
	p := in.Payment
	typ, status := ChargeSucceeded, ChargeStatusSucceeded
	switch {
	case p.Status == PaymentSucceeded:
	case p.Status == PaymentProcessing && in.Checkout != nil:
		typ, status = ChargeProcessing, ChargeStatusProcessing
	default:
		return nil
	}
	s := Charge{
		Base:   Base{ID: in.ID, CustomerID: c.Customer.ID, ProviderID: in.ProviderID, CreatedAt: c.at(nil)},
		Amount: p.Amount, Currency: p.Currency, Metadata: map[string]string{},
		ReportedByProvider: in.Checkout == nil, Status: status,
	}
	if in.Checkout != nil {
		s.CheckoutID = in.Checkout.ID
		s.Description = in.Checkout.Description
		s.Metadata = cloneMetadata(in.Checkout.Metadata)
	}
	s.take(p)
	return s.next(nil, typ, c)
}

func (s Charge) canceled(last *Event, p Payment, c Cause) *Event {
	if !s.Status.reaches(ChargeStatusCanceled) {
		return s.stopRetrying(last, c)
	}
	s.take(p)
	if p.Abandoned {
		s.Failure = &Failure{Code: FailureActionExpired, Message: FailureMessage(FailureActionExpired, "")}
	}
	return s.end(last, ChargeStatusCanceled, ChargeCanceled, c)
}

// requiresAction takes in a payment that waits for its buyer. On a hosted page the buyer acts there.
func (s Charge) requiresAction(last *Event, p Payment, c Cause) *Event {
	if s.CheckoutID != "" || p.ActionURL == "" || !s.Status.reaches(ChargeStatusRequiresAction) {
		return nil
	}
	s.take(p)
	s.Status = ChargeStatusRequiresAction
	if s.Action == nil || s.Action.URL != p.ActionURL {
		s.Action = &Action{URL: p.ActionURL, ExpiresAt: c.at(last).Add(ActionLife)}
	}
	return s.next(last, ChargeRequiresAction, c)
}

// declined takes in a payment that wants a method: it was never tried, or its last try was declined.
func (s Charge) declined(last *Event, p Payment, c Cause) *Event {
	switch {
	case p.Failure == nil:
		return nil // never tried
	case s.CheckoutID != "" && p.ChargeID != "" && s.ProviderChargeID != "" && p.ChargeID != s.ProviderChargeID:
		return nil // a card declined on the page before the try that is under way, delivered late
	case s.ReturnURL != "" && p.Failure.Code == FailureAuthenticationRequired:
		return nil // the worker goes on: the same payment is confirmed again with the buyer present
	case !s.Status.reaches(ChargeStatusFailed):
		return s.declinedAgain(last, p, 0, c)
	}
	s.take(p)
	failure := *p.Failure
	failure.Message = FailureMessage(failure.Code, failure.DeclineCode)
	s.Failure = &failure
	s.plan(p, c.at(last))
	return s.end(last, ChargeStatusFailed, ChargeFailed, c)
}
