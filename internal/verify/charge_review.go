package verify

import (
	"hash/maphash"
	"strings"
	"time"

	"github.com/paykit-go/paykit/internal/events"
)

// review checks that a charge is flagged by its own event only, and as long as there is a reason.
func (s *step) review(c *events.Charge) {
	asked := s.ev.Type == events.ChargeReviewRequested
	r := c.Review
	if r == nil {
		if asked {
			s.problem("%s without a review", s.ev.Type)
		}
		if s.was != nil && s.was.review != 0 && reviewStands(s.was.reason, c) {
			s.problem("the review for %s vanished since sequence %d, and its reason stands", s.was.reason, s.was.sequence)
		} else if s.secondPaymentStands(c) {
			s.problem("no review for %s, and its reason stands", events.ReviewSecondPayment)
		}
		return
	}
	if second := r.Reason == events.ReviewSecondPayment; second && c.SecondPaymentOf != "" && c.SecondPaymentOf != r.RelatedChargeID {
		s.problem("a review beside %s of a second payment of %s", r.RelatedChargeID, c.SecondPaymentOf)
	}
	s.is.review = maphash.String(seed, string(r.Reason)+" "+r.RequestedAt.Format(time.RFC3339Nano)+" "+r.RelatedChargeID+" "+r.Proposal)
	s.is.reason = string(r.Reason)
	news := s.was == nil || s.was.values != nil && s.was.review != s.is.review
	switch {
	case r.Reason != events.ReviewInDoubt && r.Reason != events.ReviewSecondPayment:
		s.problem("there is no review for %q", r.Reason)
	case !reviewStands(string(r.Reason), c):
		s.problem("a review for %s of a charge that is %s and needs none", r.Reason, c.Status)
	case news && !asked && s.secondPaymentStands(c) && r.Reason == events.ReviewSecondPayment && r.RequestedAt.Equal(s.ev.Time):
		// the money is ours again: the flag comes back with the event that says so
	case news && !asked:
		s.problem("a review for %s by %s", r.Reason, s.ev.Type)
	case asked && s.was != nil && s.was.review != 0 && s.was.reason == string(r.Reason):
		s.problem("%s again: for %s since sequence %d", s.ev.Type, r.Reason, s.was.sequence)
	case asked && !r.RequestedAt.Equal(s.ev.Time):
		s.problem("review.requestedAt is %s, the event's time %s", stamp(r.RequestedAt), stamp(s.ev.Time))
	}
}

// secondPaymentStands tells whether a charge that was known to be a second payment is one that a person must look at.
func (s *step) secondPaymentStands(c *events.Charge) bool {
	return s.was != nil && s.was.second && c.SecondPaymentOf != "" &&
		(c.Resolution == nil || c.Resolution.Outcome != events.ChargeStatusSucceeded) && reviewStands(string(events.ReviewSecondPayment), c)
}

// reviewStands tells whether there is still something to look at.
func reviewStands(reason string, c *events.Charge) bool {
	switch events.ReviewReason(reason) {
	case events.ReviewInDoubt:
		for _, r := range c.Refunds {
			if r.Status == events.RefundRequested {
				return true
			}
		}
		return c.Status == events.ChargeStatusInDoubt ||
			c.Status == events.ChargeStatusFailed && c.Retry != nil && c.Retry.Status == events.RetryInDoubt
	case events.ReviewSecondPayment:
		back := c.AmountRefunded
		for _, d := range c.Disputes {
			if lost(d) {
				back += d.Amount
			}
		}
		kept := c.Resolution != nil && c.Resolution.Outcome == events.ChargeStatusSucceeded
		return c.Status == events.ChargeStatusSucceeded && !kept && back < c.Amount
	}
	return false
}

// resolution checks an operator's decision: it ends what was in doubt, or keeps a second payment, as it says, with a name
// and a reason.
func (s *step) resolution(c *events.Charge) {
	r := c.Resolution
	if r == nil || s.was != nil && (s.was.values == nil || s.was.resolved) {
		s.is.resolved = r != nil
		return
	}
	s.is.resolved = true
	attempt := s.was != nil && s.was.retry != nil && s.was.retry.status == events.RetryInDoubt
	kept := s.was != nil && s.was.review != 0 && s.was.reason == string(events.ReviewSecondPayment) &&
		s.ev.Type == events.ChargeUpdated && r.Outcome == events.ChargeStatusSucceeded
	if s.was == nil || s.was.status != string(events.ChargeStatusInDoubt) && !attempt && !kept {
		s.problem("resolved by an operator, and it was not in doubt")
	}
	if r.Outcome != c.Status {
		s.problem("status is %s, and the operator's decision was %s", c.Status, r.Outcome)
	}
	if strings.TrimSpace(r.Operator) == "" || strings.TrimSpace(r.Reason) == "" {
		s.problem("resolved without the operator's name and reason")
	}
	if !r.At.Equal(s.ev.Time) {
		s.problem("resolution.at is %s, the event's time %s", stamp(r.At), stamp(s.ev.Time))
	}
	s.words("resolution", r.Operator)
	s.words("resolution", r.Reason)
}

// refundResolution checks an operator's decision about a refund: it ends one that nobody has answered, as failed.
func (s *step) refundResolution(r events.Refund, was *part) {
	d := r.Resolution
	if d == nil || was != nil && was.resolved != 0 || s.was != nil && s.was.values == nil {
		return
	}
	if was == nil || was.rank != refundRank(events.RefundRequested) || was.made != 0 {
		s.problem("refund %s: resolved by an operator, and it was not in doubt", r.ID)
	}
	if r.Status != events.RefundFailed || d.Outcome != events.ChargeStatusFailed || s.ev.Type != events.ChargeRefundFailed {
		s.problem("refund %s: %s by %s, and the operator's decision was %s", r.ID, r.Status, s.ev.Type, d.Outcome)
	}
	if strings.TrimSpace(d.Operator) == "" || strings.TrimSpace(d.Reason) == "" {
		s.problem("refund %s: resolved without the operator's name and reason", r.ID)
	}
	if !d.At.Equal(s.ev.Time) {
		s.problem("refund %s: resolution.at is %s, the event's time %s", r.ID, stamp(d.At), stamp(s.ev.Time))
	}
	s.words("resolution", d.Operator)
	s.words("resolution", d.Reason)
}

// resolutionText is a decision as one text, which never changes again.
func resolutionText(r *events.Resolution) string {
	if r == nil {
		return ""
	}
	return string(r.Outcome) + "\n" + r.Operator + "\n" + r.Reason + "\n" + r.At.Format(time.RFC3339Nano)
}
