package events

import "time"

// ReviewReason says why a person must look at a charge.
type ReviewReason string

// The reasons.
const (
	ReviewInDoubt       ReviewReason = "in_doubt"       // whether money was taken, or given back, did not become clear in time
	ReviewSecondPayment ReviewReason = "second_payment" // money was taken a second time for what was paid already
)

// ProposalRefund is what [Review] proposes for money that was taken twice.
const ProposalRefund = "refund"

// Review says that a person must look at a charge, and why. It leaves the status as it is, and the snapshot once there
// is nothing to look at any more: what was in doubt became clear or was decided; the second payment was given back, by
// refunds or lost disputes, or a person has decided that it stays.
type Review struct {
	Reason          ReviewReason `json:"reason"`
	RequestedAt     time.Time    `json:"requestedAt"`
	RelatedChargeID string       `json:"relatedChargeId,omitempty"` // with second_payment: the charge that was paid first
	Proposal        string       `json:"proposal,omitempty"`        // [ProposalRefund]
}

// RequestReview asks for a person: once per reason while the reason stands.
type RequestReview struct {
	Reason          ReviewReason
	RelatedChargeID string
	Proposal        string
}

func (RequestReview) chargeInput() {}

// requestReview flags a charge, unless it is flagged for this reason, or there is no reason (any more). A second payment
// outranks a doubt about one of its refunds: the flag is one, and the money that was taken must not be forgotten.
func requestReview(last *Event, in RequestReview, c Cause) *Event {
	if last == nil {
		return nil
	}
	s := copyCharge(last)
	if s.Review != nil && (s.Review.Reason == in.Reason || s.Review.Reason == ReviewSecondPayment) || !s.needsReview(in.Reason) {
		return nil
	}
	s.Review = &Review{
		Reason: in.Reason, RequestedAt: c.at(last), RelatedChargeID: in.RelatedChargeID, Proposal: in.Proposal,
	}
	return s.next(last, ChargeReviewRequested, c)
}

// needsReview tells whether a reason stands.
func (s *Charge) needsReview(reason ReviewReason) bool {
	switch reason {
	case ReviewInDoubt:
		return s.Doubtful()
	case ReviewSecondPayment:
		return s.Status == ChargeStatusSucceeded && !s.resolvedAs(ChargeStatusSucceeded) && s.AmountRefunded+s.disputesLost() < s.Amount
	}
	return false
}

// resolvedAs tells whether an operator has decided that the charge ended so.
func (s *Charge) resolvedAs(outcome ChargeStatus) bool {
	return s.Resolution != nil && s.Resolution.Outcome == outcome
}

// InDoubt tells whether a confirm was sent whose outcome is not known: the charge's own, or that of a ladder's further
// attempt, which leaves the status as it is.
func (s *Charge) InDoubt() bool {
	return s.Status == ChargeStatusInDoubt || s.Retrying() && s.Retry.Status == RetryInDoubt
}

// Doubtful tells whether a call that moves money was sent, or may have been, and its outcome is not known: a confirm, or
// a refund that nobody has answered.
func (s *Charge) Doubtful() bool {
	if s.InDoubt() {
		return true
	}
	for i := range s.Refunds {
		if s.Refunds[i].Status == RefundRequested {
			return true
		}
	}
	return false
}

// reviewed drops the flag once its reason is gone, and brings that of a second payment back when the money is ours again: a
// refund that succeeded has failed. Every event of a charge passes here, so whoever brings the outcome takes the flag
// away with it, or gives it: there is no moment in which nobody is asked.
func (s *Charge) reviewed() {
	if s.Review != nil && s.Review.Reason == ReviewSecondPayment {
		s.SecondPaymentOf = s.Review.RelatedChargeID // also of a flag from before this was kept
	}
	if s.Review != nil && !s.needsReview(s.Review.Reason) {
		s.Review = nil
	}
	kept := s.Resolution != nil && s.Resolution.Outcome == ChargeStatusSucceeded // an operator has decided that it stays paid
	if s.Review == nil && s.SecondPaymentOf != "" && !kept && s.needsReview(ReviewSecondPayment) {
		s.Review = &Review{
			Reason: ReviewSecondPayment, RequestedAt: s.UpdatedAt, RelatedChargeID: s.SecondPaymentOf, Proposal: ProposalRefund,
		}
	}
}
