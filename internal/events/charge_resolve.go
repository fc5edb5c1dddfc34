package events

import "time"

// Resolution is an operator's decision about a charge that stayed in doubt: who, what and why, for ever.
type Resolution struct {
	Outcome  ChargeStatus `json:"outcome"` // succeeded, failed or canceled
	Operator string       `json:"operator"`
	Reason   string       `json:"reason"`
	At       time.Time    `json:"at"`
}

// ResolveCharge is the command charge.resolve: an operator, who has looked at the provider, says how a charge that is in
// doubt ended. ProviderPaymentID is the payment that took the money, where it is not the one that is known.
type ResolveCharge struct {
	Outcome           ChargeStatus
	Operator          string
	Reason            string
	ProviderPaymentID string
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
	case c.repeated(last), s.Status.Final() && !s.InDoubt():
		return nil, nil
	case !s.InDoubt():
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
