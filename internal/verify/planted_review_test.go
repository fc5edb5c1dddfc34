package verify_test

import "github.com/paykit-go/paykit/internal/events"

// reviews are what can be wrong with a flag for people, and with their decision.
func reviews() []row {
	doubt := func(more ...events.ChargeInput) func(*story) {
		return func(s *story) {
			s.charge(s.create())
			s.charge(s.payment(events.PaymentRequiresConfirmation))
			s.charge(events.ConfirmUnanswered{})
			for _, in := range more {
				s.charge(in)
			}
		}
	}
	flag := events.RequestReview{Reason: events.ReviewInDoubt}
	second := events.RequestReview{Reason: events.ReviewSecondPayment, RelatedChargeID: "chg_0", Proposal: events.ProposalRefund}
	after := func(begin func(*story), typ events.Type, change func(*events.Charge)) func(*story) {
		return func(s *story) {
			begin(s)
			s.plant(s.chargeID(), typ, func(e *events.Event) { change(e.Data.Charge) })
		}
	}
	flagged := func(c *events.Charge) {
		c.Review = &events.Review{Reason: events.ReviewInDoubt, RequestedAt: c.UpdatedAt}
	}
	decided := func(c *events.Charge) {
		failure := events.NewFailure(events.FailureResolved, "")
		c.Status, c.Failure, c.Review = events.ChargeStatusFailed, &failure, nil
		c.Resolution = &events.Resolution{Outcome: c.Status, Operator: "anna", Reason: "seen", At: c.UpdatedAt}
	}
	twice := func(s *story) {
		s.paid()
		s.charge(second)
	}
	kept := func(c *events.Charge) {
		c.Review = nil
		c.Resolution = &events.Resolution{Outcome: c.Status, Operator: "anna", Reason: "they bought two", At: c.UpdatedAt}
	}
	return []row{
		{"second payment's flag lost", after(twice, events.ChargeUpdated, func(c *events.Charge) { c.Review = nil }), []string{"and its reason stands"}},
		{"second payment kept by another event", after(twice, events.ChargeRefreshRequested, kept), []string{"it was not in doubt"}},
		{"second payment kept, not flagged", after((*story).paid, events.ChargeUpdated, kept), []string{"it was not in doubt"}},
		{"flagged by another event", after(doubt(), events.ChargeCancelRequested, flagged), []string{"a review for in_doubt by charge.cancel_requested"}},
		{"flagged twice", after(doubt(flag), events.ChargeReviewRequested, flagged), []string{"charge.review_requested again"}},
		{"flagged without a review", after(doubt(), events.ChargeReviewRequested, func(*events.Charge) {}), []string{"without a review"}},
		{"flagged for nothing", after((*story).paid, events.ChargeReviewRequested, flagged), []string{"needs none"}},
		{"flag lost", after(doubt(flag), events.ChargeCancelRequested, func(c *events.Charge) { c.Review = nil }), []string{"and its reason stands"}},
		{"flag outlives its reason", after(doubt(flag), events.ChargeFailed, func(c *events.Charge) {
			failure := events.NewFailure("card_declined", "")
			c.Status, c.Failure = events.ChargeStatusFailed, &failure
		}), []string{"needs none"}},
		{"decided otherwise", after(doubt(), events.ChargeFailed, func(c *events.Charge) {
			decided(c)
			c.Resolution.Outcome = events.ChargeStatusSucceeded
		}), []string{"the operator's decision was succeeded"}},
		{"decided by nobody", after(doubt(), events.ChargeFailed, func(c *events.Charge) {
			decided(c)
			c.Resolution.Operator = " "
		}), []string{"without the operator's name"}},
		{"decided without a doubt", after(func(s *story) {
			s.charge(s.create())
			s.charge(s.payment(events.PaymentRequiresConfirmation))
		}, events.ChargeFailed, decided), []string{"it was not in doubt"}},
		{"second payment forgotten", func(s *story) {
			s.paid()
			s.charge(second, all(s, events.RefundSucceeded))
			s.plant(s.chargeID(), events.ChargeRefundFailed, func(e *events.Event) {
				e.Data.Charge.Refunds[0].Status, e.Data.Charge.AmountRefunded = events.RefundFailed, 0
				e.Data.Refund = &e.Data.Charge.Refunds[0]
			})
		}, []string{"no review for second_payment, and its reason stands"}},
		{"second payment again", func(s *story) {
			s.paid()
			s.charge(second, all(s, events.RefundSucceeded), all(s, events.RefundFailed))
		}, nil},
		{"second payment of another", func(s *story) {
			s.paid()
			s.charge(second)
			s.plant(s.chargeID(), events.ChargeUpdated, func(e *events.Event) { e.Data.Charge.SecondPaymentOf = "chg_1" })
		}, []string{"secondPaymentOf changed", "of a second payment of chg_1"}},
		{"refund decided", func(s *story) { unanswered(s); s.charge(refundDecision(s)) }, nil},
		{"refund decided without a doubt", func(s *story) {
			unanswered(s)
			s.charge(s.refund(events.RefundPending))
			s.plant(s.chargeID(), events.ChargeRefundFailed, func(e *events.Event) {
				decideRefund(e, events.RefundFailed)
				e.Data.Charge.Refunds[0].ProviderRefundID = "re_" + s.name
			})
		}, []string{"resolved by an operator, and it was not in doubt"}},
		{"refund decided otherwise", func(s *story) {
			unanswered(s)
			s.plant(s.chargeID(), events.ChargeRefundFailed, func(e *events.Event) { decideRefund(e, events.RefundCanceled) })
		}, []string{"and the operator's decision was failed"}},
		{"refund's decision rewritten", func(s *story) {
			unanswered(s)
			s.charge(refundDecision(s))
			s.plant(s.chargeID(), events.ChargeUpdated, func(e *events.Event) {
				d := *e.Data.Charge.Refunds[0].Resolution
				d.Operator = "bert"
				e.Data.Charge.Refunds[0].Resolution = &d
			})
		}, []string{"resolution changed"}},
		{"decision rewritten", after(doubt(events.ResolveCharge{Outcome: events.ChargeStatusFailed, Operator: "anna", Reason: "seen"}), events.ChargeSucceeded, func(c *events.Charge) {
			c.Status, c.Failure = events.ChargeStatusSucceeded, nil
			c.Resolution = &events.Resolution{Outcome: events.ChargeStatusFailed, Operator: "bert", Reason: "seen", At: c.Resolution.At}
		}), []string{"resolution changed"}},
	}
}

// unanswered has a refund that stayed unanswered.
func unanswered(s *story) {
	s.paid()
	s.charge(events.RefundCharge{RefundID: s.refundID(), Amount: 900, CommandDigest: "sha256:bb"}, events.RequestReview{Reason: events.ReviewInDoubt})
}

func refundDecision(s *story) events.ResolveCharge {
	return events.ResolveCharge{RefundID: s.refundID(), Outcome: events.ChargeStatusFailed, Operator: "anna", Reason: "seen"}
}

// decideRefund plants a decision on a charge's first refund.
func decideRefund(e *events.Event, status events.RefundStatus) {
	r := &e.Data.Charge.Refunds[0]
	r.Status, e.Data.Charge.Review = status, nil
	r.Resolution = &events.Resolution{Outcome: events.ChargeStatusFailed, Operator: "anna", Reason: "seen", At: e.Time}
	e.Data.Refund = r
}

// all is a refund of the whole charge.
func all(s *story, status events.RefundStatus) events.RefundObserved {
	in := s.refund(status)
	in.Report.Amount = 4900
	return in
}
