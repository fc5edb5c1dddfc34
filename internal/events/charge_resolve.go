package events

import "time"

// Resolution is an operator's decision about a charge that stayed in doubt, or that was a second payment and stays paid:
// who, what and why, for ever.
type Resolution struct {
	Outcome  ChargeStatus `json:"outcome"` // succeeded, failed or canceled
	Operator string       `json:"operator"`
	Reason   string       `json:"reason"`
	At       time.Time    `json:"at"`
}

// ResolveCharge is the command charge.resolve: an operator, who has looked at the provider, says how a charge that is in
// doubt ended, or that a second payment, which a person was asked to look at, stays succeeded. ProviderPaymentID is the
// payment that took the money, where it is not the one that is known.
type ResolveCharge struct {
	Outcome           ChargeStatus
	Operator          string
	Reason            string
	ProviderPaymentID string
	RefundID          string // decides this refund, and not the charge
}

func (ResolveCharge) chargeInput() {}

// resolveCharge ends a charge by an operator's word. The event is the ordinary one, so whoever follows charges learns of
// it as of any other end: after failed and canceled the worker makes sure that the payment can never be paid, and a
// success that is reported later still wins, because it is money.
func resolveCharge(last *Event, in ResolveCharge, c Cause) (*Event, error) {
	if last == nil {
		return nil, refuse(CodeChargeNotFound, "chargeId", "there is no such charge")
	}
	s := copyCharge(last)
	switch {
	case c.repeated(last):
		return nil, nil
	case in.RefundID != "":
		return s.resolveRefund(last, in, c)
	case s.Review != nil && s.Review.Reason == ReviewSecondPayment && in.Outcome == ChargeStatusSucceeded:
		if in.ProviderPaymentID != "" && in.ProviderPaymentID != s.ProviderPaymentID {
			return nil, refuse(CodeChargeNotResolvable, "providerPaymentId", "the charge's payment is another")
		}
		s.Resolution = &Resolution{Outcome: in.Outcome, Operator: in.Operator, Reason: in.Reason, At: c.at(last)}
		return s.next(last, ChargeUpdated, c), nil // without the flag, whose reason is gone
	case !s.InDoubt() && s.Resolution.says(in) && (in.ProviderPaymentID == "" || in.ProviderPaymentID == s.ProviderPaymentID):
		return nil, nil // the same decision, sent again
	case !s.InDoubt():
		// Also of a charge that ended a moment ago, by whoever found out: the operator must see that nothing was decided.
		return nil, refuse(CodeChargeNotResolvable, "chargeId",
			"the charge is %s; only a charge that is in_doubt can be resolved", s.Status)
	case in.Outcome != ChargeStatusSucceeded && in.ProviderPaymentID != "" && in.ProviderPaymentID != s.ProviderPaymentID:
		return nil, refuse(CodeChargeNotResolvable, "providerPaymentId",
			"the charge's payment is another; only a success can have been paid by a payment that is not known")
	}
	again := s.Retrying() // it is a further attempt that is in doubt: the charge has failed before
	if again && in.Outcome == ChargeStatusCanceled {
		return nil, refuse(CodeChargeNotResolvable, "outcome", "an attempt of a charge that has failed is in doubt: it failed or succeeded")
	}
	s.Resolution = &Resolution{Outcome: in.Outcome, Operator: in.Operator, Reason: in.Reason, At: c.at(last)}
	switch in.Outcome {
	case ChargeStatusSucceeded:
		if in.ProviderPaymentID != "" && in.ProviderPaymentID != s.ProviderPaymentID {
			s.supersede(in.ProviderPaymentID)
			s.ProviderPaymentID, s.ProviderChargeID = in.ProviderPaymentID, "" // the other payment's is not known
		}
		return s.end(last, ChargeStatusSucceeded, ChargeSucceeded, c), nil
	case ChargeStatusCanceled:
		return s.end(last, ChargeStatusCanceled, ChargeCanceled, c), nil
	case ChargeStatusFailed:
		failure := NewFailure(FailureResolved, "")
		s.Failure = &failure
		if again {
			s.plan(Payment{}, c.at(last)) // which ends the ladder: a person has decided
		}
		return s.end(last, ChargeStatusFailed, ChargeFailed, c), nil
	case ChargeStatusRequested, ChargeStatusProcessing, ChargeStatusRequiresAction, ChargeStatusInDoubt:
	}
	return nil, refuse(CodeInvalidRequest, "outcome", "must be succeeded, failed or canceled")
}

// says tells whether a decision is the same as one that was made.
func (r *Resolution) says(in ResolveCharge) bool {
	return r != nil && r.Outcome == in.Outcome && r.Operator == in.Operator && r.Reason == in.Reason
}

// RefundDoubt is how long a refund stays unanswered, on a charge that is flagged for another reason, before an operator may
// decide it; else the flag in_doubt says that it was long enough.
const RefundDoubt = 24 * time.Hour

// resolveRefund ends a refund that nobody has answered by an operator's word. That it was made is the provider's to say,
// with its id, so an operator can only say that it was not. If the provider knows it after all, its report becomes a
// refund of its own (see findRefund), because it is money; and a try that is under way at this moment finds it ended.
func (s Charge) resolveRefund(last *Event, in ResolveCharge, c Cause) (*Event, error) {
	r := s.Refund(in.RefundID)
	switch {
	case in.Outcome != ChargeStatusFailed:
		return nil, refuse(CodeInvalidRequest, "outcome", "must be failed for a refund; that one was made is taken from the provider's report of it")
	case in.ProviderPaymentID != "":
		return nil, refuse(CodeInvalidRequest, "providerPaymentId", "does not go with refundId")
	case r == nil:
		return nil, refuse(CodeChargeNotResolvable, "refundId", "the charge has no such refund")
	case r.Resolution.says(in):
		return nil, nil // the same decision, sent again
	case r.Status != RefundRequested:
		return nil, refuse(CodeChargeNotResolvable, "refundId", "the refund is %s; only one that is requested can be resolved", r.Status)
	case s.Review == nil, s.Review.Reason != ReviewInDoubt && c.at(last).Sub(s.UpdatedAt) < RefundDoubt:
		return nil, refuse(CodeChargeNotResolvable, "refundId", "the refund is not in doubt for long enough; the worker still looks for it")
	}
	failure := NewRefundFailure(FailureResolved, "")
	r.Status, r.Failure = RefundFailed, &failure
	r.Resolution = &Resolution{Outcome: in.Outcome, Operator: in.Operator, Reason: in.Reason, At: c.at(last)}
	refund := *r
	e := s.next(last, ChargeRefundFailed, c)
	e.Data.Refund = &refund
	return e, nil
}
