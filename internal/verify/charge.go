package verify

import (
	"hash/maphash"
	"strings"

	"github.com/paykit-go/paykit/internal/events"
)

func charges() ladder {
	return ladder{swap: 3, rank: func(status string) int {
		switch events.ChargeStatus(status) {
		case events.ChargeStatusRequested:
			return 1
		case events.ChargeStatusProcessing:
			return 2
		case events.ChargeStatusRequiresAction, events.ChargeStatusInDoubt:
			return 3
		case events.ChargeStatusFailed, events.ChargeStatusCanceled:
			return 4
		case events.ChargeStatusSucceeded:
			return 5
		}
		return 0
	}}
}

// chargeSets is the status that an event of a charge leads to.
func chargeSets(t events.Type) events.ChargeStatus {
	switch t { //nolint:exhaustive // the others leave it
	case events.ChargeRequested:
		return events.ChargeStatusRequested
	case events.ChargeProcessing:
		return events.ChargeStatusProcessing
	case events.ChargeRequiresAction:
		return events.ChargeStatusRequiresAction
	case events.ChargeInDoubt:
		return events.ChargeStatusInDoubt
	case events.ChargeFailed:
		return events.ChargeStatusFailed
	case events.ChargeCanceled:
		return events.ChargeStatusCanceled
	case events.ChargeSucceeded:
		return events.ChargeStatusSucceeded
	}
	return ""
}

func (s *step) charge(c *events.Charge) {
	sets := chargeSets(s.ev.Type)
	if s.failedAgain(c) {
		sets = ""
	}
	s.statusIs(string(c.Status), string(sets), charges())
	succeeded := c.Status == events.ChargeStatusSucceeded
	asked, paid := frozen, kept
	if s.ev.Type == events.ChargeSucceeded {
		asked, paid = free, free // what was taken, and by which payment, is known only now
	}
	provider := free // another try on an open page has another one
	if succeeded {
		provider = paid
	}
	s.facts(c.Base, number("amount", asked, c.Amount), text("currency", asked, c.Currency), text("commandDigest", frozen, c.CommandDigest),
		text("description", frozen, c.Description), text("returnURL", frozen, c.ReturnURL), text("checkoutId", frozen, c.CheckoutID),
		flag("reportedByProvider", frozen, c.ReportedByProvider), text("paymentMethodId", kept, c.PaymentMethodID),
		text("providerPaymentId", paid, c.ProviderPaymentID), text("providerChargeId", provider, c.ProviderChargeID),
		moment("cancelRequestedAt", kept, c.CancelRequestedAt), number("providerAmountRefunded", grows, c.ProviderAmountRefunded),
		text("resolution", kept, resolutionText(c.Resolution)), text("secondPaymentOf", kept, c.SecondPaymentOf),
		text("supersededPaymentId", kept, c.SupersededPaymentID))
	s.superseded(c)
	s.is.second = c.SecondPaymentOf != ""
	s.money(c.Amount, c.Currency)
	if c.CheckoutID != "" && c.ID != events.CheckoutChargeID(c.CheckoutID) {
		s.problem("the id is not the one of its checkout's charge")
	}
	if succeeded && c.ProviderPaymentID == "" && c.ProviderChargeID == "" {
		s.problem("succeeded without a payment of the provider")
	}
	if failed := c.Status == events.ChargeStatusFailed; failed && c.Failure == nil || succeeded && c.Failure != nil {
		s.problem("status %s does not go with its failure", c.Status)
	}
	if payment := s.claim("payment", c.ProviderID, c.ProviderPaymentID); payment != s.is.payment {
		if s.claims[s.is.payment] == s.ev.Subject {
			delete(s.claims, s.is.payment) // the first success was another payment; this one can become a charge of its own
		}
		s.is.payment = payment
	}
	s.refunds(c)
	s.disputes(c)
	s.review(c)
	s.resolution(c)
	s.report.books.charge(s.entry.Sequence, c)
	s.retry(c)
	s.warnings(c)
	s.words("description", c.Description)
	s.address("returnURL", c.ReturnURL)
	s.metadata(c.Metadata)
}

// superseded checks that a payment is put aside by the success of another one only.
func (s *step) superseded(c *events.Charge) {
	s.is.superseded = c.SupersededPaymentID != ""
	if !s.is.superseded || s.was == nil || s.was.values == nil || s.was.superseded {
		return
	}
	before := maphash.String(seed, "payment "+c.ProviderID+" "+c.SupersededPaymentID)
	if s.ev.Type != events.ChargeSucceeded || s.was.payment != before || c.SupersededPaymentID == c.ProviderPaymentID {
		s.problem("payment %s is superseded by %s, by payment %s", c.SupersededPaymentID, s.ev.Type, c.ProviderPaymentID)
	}
}

// part is what is remembered of a refund or a dispute.
type part struct {
	id       uint64
	amount   int64
	rank     int
	status   uint64
	made     uint64 // the provider's id of it
	digest   uint64 // of its command
	resolved uint64 // an operator's decision
	funds    int    // of a dispute: how far its money was moved
}

func refundRank(status events.RefundStatus) int {
	switch status {
	case events.RefundRequested:
		return 1
	case events.RefundPending:
		return 2
	case events.RefundSucceeded:
		return 3
	case events.RefundFailed, events.RefundCanceled:
		return 4
	}
	return 0
}

// find gives the part with an id, nil if there is none.
func find(list []part, id uint64) *part {
	for i := range list {
		if list[i].id == id {
			return &list[i]
		}
	}
	return nil
}

// refunds checks that refunds only go on, and that the sums are theirs.
func (s *step) refunds(c *events.Charge) {
	if len(c.Refunds) > 0 && c.Status != events.ChargeStatusSucceeded {
		s.problem("refunds on a charge that is %s", c.Status)
	}
	most := events.MaxKeptRefunds
	if s.ev.Type == events.ChargeRefundRequested {
		most = events.MaxRefunds // a command is refused before; what the provider reports is so
	}
	if len(c.Refunds) > most {
		s.problem("%d refunds, at most %d are allowed", len(c.Refunds), most)
	}
	var succeeded, alive, ours int64
	for _, r := range c.Refunds {
		s.refund(c, r)
		if r.Status == events.RefundSucceeded {
			succeeded += r.Amount
		}
		if refundRank(r.Status) < refundRank(events.RefundFailed) {
			alive += r.Amount
			if r.CommandDigest != "" {
				ours += r.Amount
			}
		}
	}
	if c.AmountRefunded != succeeded {
		s.problem("amountRefunded is %d, the succeeded refunds are %d", c.AmountRefunded, succeeded)
	}
	// What the provider says that it has paid back is so. What was asked for here can't be too much.
	if alive > max(c.Amount, 0) && (s.ev.Type == events.ChargeRefundRequested || ours > c.Amount || ours == alive) {
		s.problem("refunds of %d on a charge of %d", alive, c.Amount)
	}
	if s.was != nil {
		for _, before := range s.was.refunds {
			if find(s.is.refunds, before.id) == nil {
				s.problem("a refund of %d vanished since sequence %d", before.amount, s.was.sequence)
			}
		}
	}
	s.refundNamed(c)
}

// refundNamed checks the refund that an event is about: it stands in the snapshot, and it is news.
func (s *step) refundNamed(c *events.Charge) {
	named := s.ev.Data.Refund
	switch s.ev.Type { //nolint:exhaustive // the others need name none
	case events.ChargeRefundRequested, events.ChargeRefunded, events.ChargeRefundFailed:
		if named == nil {
			s.problem("%s names no refund", s.ev.Type)
		}
	}
	if named == nil {
		return
	}
	r := c.Refund(named.ID)
	if r == nil || !r.Equal(*named) {
		s.problem("%s names the refund %s, which is not so in the charge", s.ev.Type, named.ID)
		return
	}
	if s.was == nil {
		return
	}
	if before := find(s.was.refunds, maphash.String(seed, r.ID)); before != nil && before.status == maphash.String(seed, string(r.Status)) {
		s.problem("%s again: the refund %s was %s at sequence %d", s.ev.Type, r.ID, r.Status, s.was.sequence)
	}
}

func (s *step) refund(c *events.Charge, r events.Refund) {
	is := part{
		id: maphash.String(seed, r.ID), amount: r.Amount, rank: refundRank(r.Status), status: maphash.String(seed, string(r.Status)),
		made: text("", kept, r.ProviderRefundID).value, digest: text("", frozen, r.CommandDigest).value,
		resolved: text("", kept, resolutionText(r.Resolution)).value,
	}
	if rest, ok := strings.CutPrefix(r.ID, "rfd_"); !ok || !ulid(rest) {
		s.problem("%q is no id of a refund", r.ID)
	}
	if is.rank == 0 {
		s.problem("refund %s: there is no status %q", r.ID, r.Status)
	}
	if r.Amount <= 0 {
		s.problem("refund %s: amount is %d", r.ID, r.Amount)
	}
	if r.Failure != nil && is.rank < refundRank(events.RefundFailed) {
		s.problem("refund %s: %s, with a failure", r.ID, r.Status)
	}
	if find(s.is.refunds, is.id) != nil {
		s.problem("refund %s is there twice", r.ID)
	}
	for _, other := range s.is.refunds {
		if is.made != 0 && other.made == is.made {
			s.problem("refund %s: the provider's refund %s is also of another", r.ID, r.ProviderRefundID)
		}
	}
	s.is.refunds = append(s.is.refunds, is)
	s.claim("refund", c.ProviderID, r.ProviderRefundID)
	if s.was == nil {
		return
	}
	was := find(s.was.refunds, is.id)
	s.refundResolution(r, was)
	switch {
	case was == nil:
		return
	case is.rank < was.rank, is.rank == was.rank && is.status != was.status:
		s.problem("refund %s: status went back to %s since sequence %d", r.ID, r.Status, s.was.sequence)
	}
	if is.amount != was.amount {
		s.problem("refund %s: amount changed since sequence %d", r.ID, s.was.sequence)
	}
	if was.made != 0 && is.made != was.made {
		s.problem("refund %s: providerRefundId changed since sequence %d", r.ID, s.was.sequence)
	}
	if was.resolved != 0 && is.resolved != was.resolved {
		s.problem("refund %s: resolution changed since sequence %d", r.ID, s.was.sequence)
	}
	if is.digest != was.digest {
		s.problem("refund %s: commandDigest changed since sequence %d", r.ID, s.was.sequence)
	}
}
