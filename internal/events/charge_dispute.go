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

// DisputeObserved is what a provider said about one dispute.
type DisputeObserved struct{ Report DisputeReport }

func (DisputeObserved) chargeInput() {}

func (s *Charge) disputeOpen() bool {
	return slices.ContainsFunc(s.Disputes, func(d Dispute) bool { return !d.Closed() })
}

// observeDispute takes in a dispute: charge.disputed when its status or amount changed, charge.dispute_closed when it
// ended. A closed dispute stays closed, so a late report can't open it again.
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
	case s.Disputes[i].Closed():
		return nil, nil
	case s.Disputes[i].Status == d.Status && s.Disputes[i].Amount == d.Amount:
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
