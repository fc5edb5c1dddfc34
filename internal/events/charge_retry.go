package events

import (
	"fmt"
	"slices"
	"time"
)

// A retry ladder tries a declined charge again, later, with the same method and the same payment. It is data: the delays
// are frozen into the charge when it is asked for, each attempt stands in the snapshot, and when the next one is due is
// read from the charge's last event. While the ladder goes on the charge is failed, because each attempt was; a success
// may still follow, because money wins.

// RetryStatus is where a retry ladder stands.
type RetryStatus string

// The retry statuses.
const (
	RetryAttempting RetryStatus = "attempting" // the last attempt was asked for, its outcome is to come
	RetryInDoubt    RetryStatus = "in_doubt"   // the last attempt was sent and not answered
	RetryWaiting    RetryStatus = "waiting"    // the last attempt was declined, the next one is at nextAttemptAt
	RetryEnded      RetryStatus = "ended"      // there will be no further attempt
)

// Retry is a charge's retry ladder.
type Retry struct {
	Schedule      string      `json:"schedule"`                // its name when the charge was asked for
	Delays        []string    `json:"delays"`                  // Go durations, each counted from the decline before it
	Attempts      []Attempt   `json:"attempts"`                // the first one included
	NextAttemptAt *time.Time  `json:"nextAttemptAt,omitempty"` // with waiting
	Status        RetryStatus `json:"status"`
}

// Attempt is one try to take the money. At is when it was asked for. One without a failure is under way, succeeded, or
// was never made because the ladder ended first.
type Attempt struct {
	Number           int       `json:"number"` // from 1
	At               time.Time `json:"at"`
	ProviderChargeID string    `json:"providerChargeId,omitempty"`
	Failure          *Failure  `json:"failure,omitempty"`
}

// RetrySchedule is a named list of delays.
type RetrySchedule struct {
	Name   string
	Delays []time.Duration
}

// What a schedule can be.
const (
	MaxRetries    = 10 // beside the first attempt
	MinRetryDelay = time.Second
	MaxRetryDelay = 30 * 24 * time.Hour
)

// Check says what is wrong with a schedule, nil if nothing is.
func (s RetrySchedule) Check() error {
	if !validSchedule(s.Name) {
		return fmt.Errorf("%q is no name for a schedule: up to 40 lower-case letters, digits, _ and -", s.Name)
	}
	if len(s.Delays) == 0 || len(s.Delays) > MaxRetries {
		return fmt.Errorf("%s has %d delays: 1 to %d are allowed", s.Name, len(s.Delays), MaxRetries)
	}
	for _, d := range s.Delays {
		if d < MinRetryDelay || d > MaxRetryDelay {
			return fmt.Errorf("%s has a delay of %s: it must be from %s to 720h (30 days)", s.Name, d, MinRetryDelay)
		}
	}
	return nil
}

func validSchedule(name string) bool {
	for _, c := range []byte(name) {
		if c != '_' && c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return name != "" && len(name) <= 40
}

// retryInput is what only a charge with a ladder takes in.
type retryInput interface {
	ChargeInput
	retryInput()
}

// RetryDue asks for the next attempt, if its time has come.
type RetryDue struct{}

// RetryStopped ends a ladder that waits and can't go on: the method or the customer is gone.
type RetryStopped struct{}

// AttemptObserved is what the provider said about the payment in answer to an attempt, or after a look that shows the
// attempt to have been made.
type AttemptObserved struct {
	Number  int
	Payment Payment
}

// AttemptRejected says that an attempt can't be carried out.
type AttemptRejected struct {
	Number  int
	Failure Failure
}

// AttemptUnanswered says that an attempt was sent and no answer came: money may have been taken.
type AttemptUnanswered struct{ Number int }

func (RetryDue) chargeInput()          {}
func (RetryStopped) chargeInput()      {}
func (AttemptObserved) chargeInput()   {}
func (AttemptRejected) chargeInput()   {}
func (AttemptUnanswered) chargeInput() {}
func (RetryDue) retryInput()           {}
func (RetryStopped) retryInput()       {}
func (AttemptObserved) retryInput()    {}
func (AttemptRejected) retryInput()    {}
func (AttemptUnanswered) retryInput()  {}

// Retrying tells whether the charge failed and will, or may, be tried again.
func (s *Charge) Retrying() bool { return s.Status == ChargeStatusFailed && s.Retry.open() }

// Attempt is the number of the attempt whose outcome is to come, 0 if there is none.
func (r *Retry) Attempt() int {
	if r == nil || r.Status != RetryAttempting && r.Status != RetryInDoubt {
		return 0
	}
	return len(r.Attempts)
}

// Knows tells whether a charge of the provider belongs to an attempt.
func (r *Retry) Knows(providerChargeID string) bool {
	return providerChargeID != "" && slices.ContainsFunc(r.Attempts, func(a Attempt) bool { return a.ProviderChargeID == providerChargeID })
}

func (r *Retry) open() bool { return r != nil && r.Status != RetryEnded }

func (r *Retry) clone() *Retry {
	if r == nil {
		return nil
	}
	c := *r
	c.Attempts = slices.Clone(r.Attempts)
	return &c
}

// newRetry begins a ladder with the charge itself as its first attempt.
func newRetry(s *RetrySchedule, now time.Time) *Retry {
	if s == nil {
		return nil
	}
	r := &Retry{Schedule: s.Name, Delays: []string{}, Attempts: []Attempt{{Number: 1, At: now}}, Status: RetryAttempting}
	for _, d := range s.Delays {
		r.Delays = append(r.Delays, d.String())
	}
	return r
}

// decideRetry decides what only a ladder takes in. Of a charge without one, or whose ladder is over, it is nothing to do,
// except that money wins.
func decideRetry(last *Event, in retryInput, c Cause) (*Event, error) {
	if last == nil {
		return nil, nil
	}
	s := copyCharge(last)
	switch in := in.(type) {
	case AttemptObserved:
		if in.Payment.Status == PaymentRequiresMethod && s.isOwnPayment(in.Payment) {
			return s.declinedAgain(last, in.Payment, in.Number, c), nil
		}
		return observePayment(last, PaymentObserved{ID: s.ID, ProviderID: s.ProviderID, Payment: in.Payment}, c)
	case AttemptRejected:
		if !s.Retrying() || s.Retry.Attempt() != in.Number {
			return nil, nil
		}
		s.Failure = &in.Failure
		s.plan(Payment{}, c.at(last))
		return s.end(last, ChargeStatusFailed, ChargeFailed, c), nil
	case AttemptUnanswered:
		if !s.Retrying() || s.Retry.Attempt() != in.Number || s.Retry.Status == RetryInDoubt {
			return nil, nil
		}
		s.Retry.Status = RetryInDoubt
		return s.next(last, ChargeUpdated, c), nil
	case RetryStopped:
		if !s.Retrying() || s.Retry.Status != RetryWaiting {
			return nil, nil
		}
		return s.stopRetrying(last, c), nil
	case RetryDue:
		return s.retryDue(last, c), nil
	}
	return nil, nil
}

// retryDue asks for the next attempt. The event is the commit point of the attempt: its number stands in the snapshot,
// and the key of its confirm is made from that.
func (s Charge) retryDue(last *Event, c Cause) *Event {
	now := c.at(last)
	if !s.Retrying() || s.Retry.Status != RetryWaiting || s.CancelRequestedAt != nil {
		return nil
	}
	if due := s.Retry.NextAttemptAt; due == nil || now.Before(*due) {
		return nil
	}
	s.Retry.Attempts = append(s.Retry.Attempts, Attempt{Number: len(s.Retry.Attempts) + 1, At: now})
	s.Retry.NextAttemptAt = nil
	s.Retry.Status = RetryAttempting
	return s.next(last, ChargeRetryRequested, c)
}

// declinedAgain takes in a decline of a charge that has failed before: it is news only if it is the decline of the attempt
// that is under way. number is that attempt's where the report is known to be about it, else 0; then the provider's charge
// says so: it belongs to none of the earlier attempts.
func (s Charge) declinedAgain(last *Event, p Payment, number int, c Cause) *Event {
	under := 0
	if s.Retrying() {
		under = s.Retry.Attempt()
	}
	if under == 0 || p.Failure == nil || number != 0 && number != under {
		return nil
	}
	earlier := s.Retry.Knows(p.ChargeID)
	if number == 0 && (p.ChargeID == "" || earlier) {
		return nil // late, or it can't be told
	}
	if earlier {
		p.ChargeID = "" // this decline has no charge of its own
	}
	s.take(p)
	failure := NewFailure(p.Failure.Code, p.Failure.DeclineCode)
	s.Failure = &failure
	s.plan(p, c.at(last))
	return s.end(last, ChargeStatusFailed, ChargeFailed, c)
}

// plan records the failure of the attempt that is under way, and when the next one is made, if there is to be one.
func (s *Charge) plan(p Payment, now time.Time) {
	r := s.Retry
	if r.Attempt() == 0 {
		return
	}
	done := len(r.Attempts)
	failure := *s.Failure
	r.Attempts[done-1].ProviderChargeID, r.Attempts[done-1].Failure = p.ChargeID, &failure
	r.Status = RetryEnded
	if done > len(r.Delays) || p.DoNotRetry || !Retriable(failure) || s.CancelRequestedAt != nil || s.ProviderPaymentID == "" {
		return
	}
	delay, err := time.ParseDuration(r.Delays[done-1])
	if err != nil {
		return // of a program that is not this one: nothing is charged on a guess
	}
	next := Millis(now.Add(delay))
	r.Status, r.NextAttemptAt = RetryWaiting, &next
}

// cancel ends a ladder that waits. One whose attempt is under way ends with that attempt: it may have taken money.
func (r *Retry) cancel() {
	if r != nil && r.Status == RetryWaiting {
		r.Status, r.NextAttemptAt = RetryEnded, nil
	}
}

// stopRetrying ends the ladder of a failed charge where no attempt can follow: its payment was canceled, or what it is
// paid with is gone. The status stays.
func (s Charge) stopRetrying(last *Event, c Cause) *Event {
	if !s.Retrying() {
		return nil
	}
	s.Retry.Status, s.Retry.NextAttemptAt = RetryEnded, nil
	return s.next(last, ChargeUpdated, c)
}

// follow keeps the ladder in step with the charge's status, whichever decision led to it: success and cancellation end
// it, and so does a first attempt that failed otherwise than by a decline.
func (r *Retry) follow(s *Charge) {
	if r == nil {
		return
	}
	first := len(r.Attempts) == 1
	under := r.Attempt() != 0
	switch {
	case s.Status == ChargeStatusInDoubt:
		r.Status = RetryInDoubt
	case !s.Status.Final():
		r.Status = RetryAttempting
	case s.Status == ChargeStatusFailed && under && first:
		r.Attempts[0].Failure = s.Failure
		r.Status = RetryEnded
	case s.Status != ChargeStatusFailed:
		if s.Status == ChargeStatusSucceeded && under && !r.Knows(s.ProviderChargeID) {
			r.Attempts[len(r.Attempts)-1].ProviderChargeID = s.ProviderChargeID
		}
		r.Status, r.NextAttemptAt = RetryEnded, nil
	}
}

// Retriable tells whether a charge that failed like this may be tried again with the same method. What the issuer will
// never approve, what needs the buyer, and what is wrong with the request itself is not: card networks fine those who
// try all the same. A code that is not known is retried, as most declines that name no reason are worth it.
//
// Sources: https://docs.stripe.com/declines/codes and
// https://docs.stripe.com/billing/revenue-recovery/smart-retries (which codes Stripe itself does not retry).
func Retriable(f Failure) bool { return !neverRetried(f.Code) && !neverRetried(f.DeclineCode) }

// neverRetried is the table of codes, Stripe's decline codes, error codes and outcome reasons and our own.
// do_not_honor, generic_decline, insufficient_funds, card_velocity_exceeded, withdrawal_count_limit_exceeded,
// processing_error, issuer_not_available, try_again_later, reenter_transaction, approve_with_id, call_issuer and
// no_action_taken may go well another day.
func neverRetried(code string) bool {
	switch code {
	case "lost_card", "stolen_card", "pickup_card", "restricted_card", // the card is gone
		"fraudulent", "merchant_blacklist", "highest_risk_level", "rule", "security_violation", // blocked, by the issuer or by Radar
		"revocation_of_authorization", "revocation_of_all_authorizations", "stop_payment_order", // the buyer forbade it
		"transaction_not_allowed", "not_permitted", "service_not_allowed", "card_not_supported", "currency_not_supported",
		"invalid_account", "new_account_information_available", "do_not_try_again", "invalid_amount",
		"duplicate_transaction", "testmode_decline",
		FailureExpiredCard, // a card that was renewed is charged anew: the method tells of it by payment_method.updated
		"incorrect_number", "invalid_number", "invalid_expiry_month", "invalid_expiry_year",
		FailureIncorrectCVC, "invalid_cvc", "incorrect_zip", "incorrect_address",
		"incorrect_pin", "invalid_pin", "pin_try_exceeded", "offline_pin_required", "online_or_offline_pin_required":
		return true
	case FailureAuthenticationRequired, FailureAuthenticationFailed, "authentication_not_handled": // needs the buyer
		return true
	case FailureProviderRejected, FailureActionExpired, FailureCustomerDeleted, FailureMethodDetached, FailureCanceledBeforeSent,
		FailureResolved:
		return true
	}
	return false
}
