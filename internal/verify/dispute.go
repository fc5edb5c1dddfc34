package verify

import (
	"hash/maphash"

	"github.com/paykit-go/paykit/internal/events"
)

// disputeRank orders what the provider says of a dispute: an inquiry may become a chargeback, and never the other way.
// A word that is not known counts as an open chargeback.
// Source: https://docs.stripe.com/disputes/how-disputes-work
func disputeRank(status string) int {
	switch status {
	case "warning_needs_response":
		return 1
	case "warning_under_review":
		return 2
	case "warning_closed":
		return 3
	case "under_review":
		return 5
	case "won", "lost", "charge_refunded", "prevented":
		return 6
	}
	return 4
}

func disputeOver(status string) bool { return disputeRank(status) == 3 || disputeRank(status) == 6 }

// fundsRank orders where the disputed money is; -1 for a word that is none.
func fundsRank(f events.DisputeFunds) int {
	switch f {
	case "":
		return 0
	case events.FundsWithdrawn:
		return 1
	case events.FundsReinstated:
		return 2
	}
	return -1
}

// disputes checks that disputes only go on.
func (s *step) disputes(c *events.Charge) {
	if len(c.Disputes) > 0 && c.Status != events.ChargeStatusSucceeded {
		s.problem("disputes on a charge that is %s", c.Status)
	}
	for _, d := range c.Disputes {
		s.dispute(d)
		if d.Currency != "" && d.Currency == c.Currency {
			s.problem("dispute %s: names the charge's own currency", d.ProviderDisputeID)
		}
	}
	if s.was != nil {
		for _, before := range s.was.disputes {
			if find(s.is.disputes, before.id) == nil {
				s.problem("a dispute of %d vanished since sequence %d", before.amount, s.was.sequence)
			}
		}
	}
	s.disputeNamed(c)
	s.refundWhileDisputed(c)
}

func (s *step) dispute(d events.Dispute) {
	is := part{
		id: maphash.String(seed, d.ProviderDisputeID), amount: d.Amount, rank: disputeRank(d.Status), status: maphash.String(seed, d.Status),
		funds: fundsRank(d.Funds),
	}
	if find(s.is.disputes, is.id) != nil {
		s.problem("dispute %s is there twice", d.ProviderDisputeID)
	}
	if is.funds < 0 {
		s.problem("dispute %s: there are no funds %q", d.ProviderDisputeID, d.Funds)
	}
	s.is.disputes = append(s.is.disputes, is)
	if s.was == nil {
		return
	}
	was := find(s.was.disputes, is.id)
	if was == nil {
		return
	}
	if is.rank < was.rank || is.rank == was.rank && is.status != was.status && disputeOver(d.Status) {
		s.problem("dispute %s: status went back to %s since sequence %d", d.ProviderDisputeID, d.Status, s.was.sequence)
	}
	if is.funds < was.funds {
		s.problem("dispute %s: funds went back to %q since sequence %d", d.ProviderDisputeID, d.Funds, s.was.sequence)
	}
}

// disputeNamed checks the dispute that an event is about: it stands in the snapshot, it is news, and the event's type says
// what kind of news.
func (s *step) disputeNamed(c *events.Charge) {
	named := s.ev.Data.Dispute
	asked := s.ev.Type == events.ChargeDisputed || s.ev.Type == events.ChargeDisputeClosed
	if named == nil {
		if asked {
			s.problem("%s names no dispute", s.ev.Type)
		}
		return
	}
	stands := false
	for _, d := range c.Disputes {
		stands = stands || d == *named
	}
	if !stands {
		s.problem("%s names the dispute %s, which is not so in the charge", s.ev.Type, named.ProviderDisputeID)
		return
	}
	if over := disputeOver(named.Status); asked && over != (s.ev.Type == events.ChargeDisputeClosed) {
		s.problem("%s of a dispute that is %s", s.ev.Type, named.Status)
	}
	if s.was == nil {
		return
	}
	is, was := find(s.is.disputes, maphash.String(seed, named.ProviderDisputeID)), find(s.was.disputes, maphash.String(seed, named.ProviderDisputeID))
	if was != nil && *was == *is {
		s.problem("%s again: the dispute %s was %s at sequence %d", s.ev.Type, named.ProviderDisputeID, named.Status, s.was.sequence)
	}
}

// refundWhileDisputed checks that no refund was asked for that could pay the buyer twice.
func (s *step) refundWhileDisputed(c *events.Charge) {
	if s.ev.Type != events.ChargeRefundRequested {
		return
	}
	var alive, taken int64
	for _, d := range c.Disputes {
		if !disputeOver(d.Status) {
			s.problem("a refund was asked for while the dispute %s is %s", d.ProviderDisputeID, d.Status)
		}
		if lost(d) {
			taken += d.Amount
		}
	}
	for _, r := range c.Refunds {
		if refundRank(r.Status) < refundRank(events.RefundFailed) {
			alive += r.Amount
		}
	}
	if taken > 0 && alive+taken > c.Amount {
		s.problem("refunds of %d and lost disputes of %d on a charge of %d", alive, taken, c.Amount)
	}
}

// warnings checks that early fraud warnings stay, and that each is told once, and once more when nothing is left to be
// done about it.
func (s *step) warnings(c *events.Charge) {
	if len(c.FraudWarnings) > 0 && c.Status != events.ChargeStatusSucceeded {
		s.problem("fraud warnings on a charge that is %s", c.Status)
	}
	for _, f := range c.FraudWarnings {
		is := part{id: maphash.String(seed, f.ProviderWarningID), rank: 1}
		if f.Actionable {
			is.rank = 0
		}
		if find(s.is.warnings, is.id) != nil {
			s.problem("fraud warning %s is there twice", f.ProviderWarningID)
		}
		s.is.warnings = append(s.is.warnings, is)
		if s.was == nil {
			continue
		}
		if was := find(s.was.warnings, is.id); was != nil && is.rank < was.rank {
			s.problem("fraud warning %s: actionable again since sequence %d", f.ProviderWarningID, s.was.sequence)
		}
	}
	if s.was != nil {
		for _, before := range s.was.warnings {
			if find(s.is.warnings, before.id) == nil {
				s.problem("a fraud warning vanished since sequence %d", s.was.sequence)
			}
		}
	}
	s.warningNamed(c)
}

func (s *step) warningNamed(c *events.Charge) {
	named := s.ev.Data.FraudWarning
	if named == nil {
		if s.ev.Type == events.ChargeFraudWarned {
			s.problem("%s names no fraud warning", s.ev.Type)
		}
		return
	}
	stands := false
	for _, f := range c.FraudWarnings {
		stands = stands || f == *named
	}
	if !stands {
		s.problem("%s names the fraud warning %s, which is not so in the charge", s.ev.Type, named.ProviderWarningID)
		return
	}
	if s.was == nil {
		return
	}
	id := maphash.String(seed, named.ProviderWarningID)
	if was := find(s.was.warnings, id); was != nil && *was == *find(s.is.warnings, id) {
		s.problem("%s again: nothing is new about the fraud warning %s since sequence %d", s.ev.Type, named.ProviderWarningID, s.was.sequence)
	}
}

// lost tells whether a dispute has given the buyer the money of the charge for good.
func lost(d events.Dispute) bool {
	return d.Currency == "" && (d.Status == "lost" && d.Funds != events.FundsReinstated || d.Status == "prevented" && d.Funds == events.FundsWithdrawn)
}
