package events

import "slices"

// DisputeFunds says where the disputed money is. It only goes on: Stripe moves it once each way at most.
// Source: https://docs.stripe.com/api/disputes/object#dispute_object-balance_transactions
type DisputeFunds string

// Where the disputed money is. It is "" while nothing was moved, as in an inquiry.
const (
	FundsWithdrawn  DisputeFunds = "withdrawn"  // taken back from us, until the dispute is decided or for good
	FundsReinstated DisputeFunds = "reinstated" // given to us again
)

func (f DisputeFunds) rank() int {
	switch f {
	case FundsWithdrawn:
		return 1
	case FundsReinstated:
		return 2
	}
	return 0
}

// Dispute is one dispute of a charge. Status and Reason are the provider's words.
type Dispute struct {
	Status            string       `json:"status"`
	Reason            string       `json:"reason,omitempty"`
	Amount            int64        `json:"amount"`             // minor units
	Currency          string       `json:"currency,omitempty"` // of the amount, where it is not the charge's
	ProviderDisputeID string       `json:"providerDisputeId"`
	Funds             DisputeFunds `json:"funds,omitempty"`
}

// The words of a dispute's end. The last two are Stripe's for ends without a judgment: in API versions until 2017, and
// since 2025.
const (
	disputeWon           = "won"
	disputeLost          = "lost"
	disputeWarningClosed = "warning_closed"
	disputeRefunded      = "charge_refunded"
	disputePrevented     = "prevented"
)

// Closed tells whether the dispute has ended.
func (d Dispute) Closed() bool {
	switch d.Status {
	case disputeWon, disputeLost, disputeWarningClosed, disputeRefunded, disputePrevented:
		return true
	}
	return false
}

// Inquiry tells whether it is a question of the buyer's bank, which can still become a chargeback: no money was moved.
func (d Dispute) Inquiry() bool { return d.rank() <= Dispute{Status: disputeWarningClosed}.rank() }

// paid is what the buyer got through the dispute for good. What was given to us again was not paid, whatever the
// dispute's status: a loss can be taken back. An amount in another currency than the charge's can't be counted against
// it; should a refund be asked for nevertheless, the provider is who refuses it (charge_disputed).
func (d Dispute) paid() int64 {
	over := d.Status == disputeLost && d.Funds != FundsReinstated || d.Status == disputePrevented && d.Funds == FundsWithdrawn
	if !over || d.Currency != "" {
		return 0
	}
	return d.Amount
}

// rank orders a dispute's statuses: an inquiry can become a chargeback and never the other way, and both begin by
// waiting for an answer. A word that is not known here counts as an open chargeback.
// Source: https://docs.stripe.com/disputes/how-disputes-work
func (d Dispute) rank() int {
	switch d.Status {
	case "warning_needs_response":
		return 1
	case "warning_under_review":
		return 2
	case disputeWarningClosed:
		return 3
	case "under_review":
		return 5
	case disputeWon, disputeLost, disputeRefunded, disputePrevented:
		return 6
	}
	return 4
}

// follows tells whether d is news about a dispute known as before: further on, or another amount. Reports come in any
// order; an older one must neither open a dispute again nor, as an inquiry's late end, close the chargeback that it
// became: while a dispute is open no refund is made, or the buyer would be paid twice.
func (d Dispute) follows(before Dispute) bool {
	if d.rank() != before.rank() {
		return d.rank() > before.rank()
	}
	return !before.Closed() && (d.Status != before.Status || d.Amount != before.Amount)
}

// DisputeObserved is what a provider said about one dispute.
type DisputeObserved struct{ Report DisputeReport }

func (DisputeObserved) chargeInput() {}

// DisputeOpen tells whether a dispute of the charge has not ended; inquiries count. Until it has, no refund is made.
func (s *Charge) DisputeOpen() bool {
	return slices.ContainsFunc(s.Disputes, func(d Dispute) bool { return !d.Closed() })
}

// openDisputeText says why a charge with an open dispute is not refunded.
func (s *Charge) openDisputeText() string {
	if slices.ContainsFunc(s.Disputes, func(d Dispute) bool { return !d.Closed() && !d.Inquiry() }) {
		return "a dispute of the charge is open; the money is already held back, so a refund now could pay the buyer twice"
	}
	return "an inquiry about the charge is open and can become a dispute, which would take the money as well; answer it at the provider first"
}

// disputesLost is what the buyer has got back through disputes.
func (s *Charge) disputesLost() int64 {
	var sum int64
	for _, d := range s.Disputes {
		sum += d.paid()
	}
	return sum
}

// observeDispute takes in a dispute: charge.disputed when its status or amount changed, charge.dispute_closed when it
// ended, charge.updated when only its money was moved. Status and money go on each by themselves, because the reports of
// both come in any order. A closed dispute stays as it is; only an inquiry that was closed can still become a chargeback.
func observeDispute(last *Event, in DisputeObserved, c Cause) (*Event, error) {
	if last == nil {
		return nil, ErrNoCharge
	}
	s := copyCharge(last)
	if s.Status != ChargeStatusSucceeded {
		return nil, ErrNoCharge
	}
	d := Dispute{
		Status: in.Report.Status, Reason: in.Report.Reason, Amount: in.Report.Amount, ProviderDisputeID: in.Report.ID,
		Funds: in.Report.Funds,
	}
	if in.Report.Currency != s.Currency {
		d.Currency = in.Report.Currency
	}
	typ := ChargeDisputed
	if d.Closed() {
		typ = ChargeDisputeClosed
	}
	i := slices.IndexFunc(s.Disputes, func(known Dispute) bool { return known.ProviderDisputeID == d.ProviderDisputeID })
	if i < 0 {
		s.Disputes = append(s.Disputes, d)
	} else {
		known := s.Disputes[i]
		if in.Report.Currency == "" {
			d.Currency = known.Currency
		}
		moved := d.Funds.rank() > known.Funds.rank()
		switch {
		case d.follows(known):
			if !moved {
				d.Funds = known.Funds
			}
		case moved:
			known.Funds, typ = d.Funds, ChargeUpdated
			d = known
		default:
			return nil, nil
		}
		s.Disputes[i] = d
	}
	e := s.next(last, typ, c)
	e.Data.Dispute = &d
	return e, nil
}
