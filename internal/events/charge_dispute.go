package events

import "slices"

// Dispute is one dispute of a charge. Status and Reason are the provider's words.
type Dispute struct {
	Status            string `json:"status"`
	Reason            string `json:"reason,omitempty"`
	Amount            int64  `json:"amount"` // minor units
	ProviderDisputeID string `json:"providerDisputeId"`
}

// Closed tells whether the dispute has ended.
func (d Dispute) Closed() bool {
	return d.Status == "won" || d.Status == "lost" || d.Status == "warning_closed"
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
	case "warning_closed":
		return 3
	case "under_review":
		return 5
	case "won", "lost":
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

func (s *Charge) disputeOpen() bool {
	return slices.ContainsFunc(s.Disputes, func(d Dispute) bool { return !d.Closed() })
}

// observeDispute takes in a dispute: charge.disputed when its status or amount changed, charge.dispute_closed when it
// ended. A closed one stays as it is; only an inquiry that was closed can still become a chargeback.
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
	}
	i := slices.IndexFunc(s.Disputes, func(known Dispute) bool { return known.ProviderDisputeID == d.ProviderDisputeID })
	switch {
	case i < 0:
		s.Disputes = append(s.Disputes, d)
	case !d.follows(s.Disputes[i]):
		return nil, nil
	default:
		s.Disputes[i] = d
	}
	typ := ChargeDisputed
	if d.Closed() {
		typ = ChargeDisputeClosed
	}
	e := s.next(last, typ, c)
	e.Data.Dispute = &d
	return e, nil
}
