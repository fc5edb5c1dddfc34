package events

import (
	"errors"
	"slices"

	"github.com/paykit-go/paykit/internal/plant"
)

// RefundStatus is where a refund stands: requested < pending < succeeded < failed, canceled. It never goes back; a
// refund that succeeded can still fail later, when the buyer's bank sends the money back.
type RefundStatus string

// The refund statuses.
const (
	RefundRequested RefundStatus = "requested"
	RefundPending   RefundStatus = "pending"
	RefundSucceeded RefundStatus = "succeeded"
	RefundFailed    RefundStatus = "failed"
	RefundCanceled  RefundStatus = "canceled"
)

func (s RefundStatus) rank() int {
	switch s {
	case RefundRequested:
		return 1
	case RefundPending:
		return 2
	case RefundSucceeded:
		return 3
	case RefundFailed, RefundCanceled:
		return 4
	}
	return 0
}

// Open tells whether the refund's outcome is still to come.
func (s RefundStatus) Open() bool { return s == RefundRequested || s == RefundPending }

// ended tells whether the refund returns no money.
func (s RefundStatus) ended() bool { return s == RefundFailed || s == RefundCanceled }

// Refund is one refund of a charge.
type Refund struct {
	ID               string       `json:"id"`
	Amount           int64        `json:"amount"` // minor units
	Status           RefundStatus `json:"status"`
	ProviderRefundID string       `json:"providerRefundId,omitempty"`
	Reason           string       `json:"reason,omitempty"`
	CommandDigest    string       `json:"commandDigest,omitempty"`
	Failure          *Failure     `json:"failure,omitempty"`    // why it failed or was canceled
	Resolution       *Resolution  `json:"resolution,omitempty"` // what an operator decided, where nobody answered
}

// Equal tells whether two refunds say the same.
func (r Refund) Equal(other Refund) bool {
	if !same(r.Failure, other.Failure) || !same(r.Resolution, other.Resolution) {
		return false
	}
	r.Failure, other.Failure, r.Resolution, other.Resolution = nil, nil, nil, nil
	return r == other
}

// same tells whether both are nothing or say the same.
func same[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }

// MaxRefunds is how many refunds a charge can have before a command for a further one is refused. What the provider says
// was given back counts all the same, up to [MaxKeptRefunds].
const MaxRefunds = 100

// MaxKeptRefunds is how many refunds a charge's snapshot holds: an event with that many of the largest stays below
// 256 KiB. Stripe names no limit.
const MaxKeptRefunds = 400

// ErrRefundsFull is returned by [DecideCharge] for a refund that the snapshot has no room for: amountRefunded is less than
// what was given back from there on, so the caller raises an alarm.
var ErrRefundsFull = errors.New("the charge has more refunds than its snapshot can hold")

// RefundCharge is the command charge.refund. Amount 0 means all that is left.
type RefundCharge struct {
	RefundID      string
	Amount        int64
	Reason        string
	CommandDigest string
}

// RefundObserved is what a provider said about one refund. RefundID is our id of it: from its reserved metadata, or
// [ReportedRefundID]. A Report without the provider's id is the worker's own verdict on a refund that was never made.
type RefundObserved struct {
	RefundID string
	Report   RefundReport
}

// RefundTotalObserved is the sum that a provider reports as refunded, without saying in which refunds.
type RefundTotalObserved struct{ Total int64 }

func (RefundCharge) chargeInput()        {}
func (RefundObserved) chargeInput()      {}
func (RefundTotalObserved) chargeInput() {}

// Refundable is what is left of a charge, never less than 0: its amount without all refunds that have not failed or been
// canceled, and without what its buyer got back through disputes. While a dispute is open no refund is made, whatever
// is left: see [Charge.DisputeOpen].
func (s *Charge) Refundable() int64 { return max(0, s.Amount-s.refundsAlive()-s.disputesLost()) }

func (s *Charge) refundsAlive() int64 {
	var sum int64
	for _, r := range s.Refunds {
		if !r.Status.ended() {
			sum += r.Amount
		}
	}
	return sum
}

// Refund finds a refund by our id, nil if the charge has none such.
func (s *Charge) Refund(id string) *Refund {
	i := slices.IndexFunc(s.Refunds, func(r Refund) bool { return r.ID == id })
	if i < 0 {
		return nil
	}
	return &s.Refunds[i]
}

func refundCharge(last *Event, in RefundCharge, c Cause) (*Event, error) {
	if last == nil {
		return nil, refuse(CodeChargeNotFound, "chargeId", "there is no such charge")
	}
	s := copyCharge(last)
	if known := s.Refund(in.RefundID); known != nil {
		// One without a digest was known from the provider first, as after a restore from a backup that lacks its
		// request: it is this command's, whose body is not known any more.
		if known.CommandDigest != "" && known.CommandDigest != in.CommandDigest {
			return nil, errConflict()
		}
		return nil, nil
	}
	left := s.Refundable()
	switch {
	case s.Status != ChargeStatusSucceeded:
		return nil, refuse(CodeChargeNotRefundable, "chargeId", "the charge is %s; only a succeeded charge can be refunded", s.Status)
	case s.DisputeOpen():
		return nil, refuse(CodeChargeNotRefundable, "chargeId", "%s", s.openDisputeText())
	case left <= 0 && s.disputesLost() > 0:
		return nil, refuse(CodeChargeNotRefundable, "chargeId",
			"nothing is left to refund: the buyer has got %d back through a dispute", s.disputesLost())
	case left <= 0:
		return nil, refuse(CodeChargeNotRefundable, "chargeId", "the charge is fully refunded")
	case in.Amount > left:
		return nil, refuse(CodeRefundTooLarge, "amount", "%d is more than the %d that is left to refund", in.Amount, left)
	case len(s.Refunds) >= MaxRefunds:
		return nil, refuse(CodeRefundLimit, "chargeId", "the charge has %d refunds, which is the most there can be", MaxRefunds)
	}
	amount := in.Amount
	if amount == 0 {
		amount = left
	}
	s.Refunds = append(s.Refunds, Refund{
		ID: in.RefundID, Amount: amount, Status: RefundRequested, Reason: in.Reason, CommandDigest: in.CommandDigest,
	})
	e := s.next(last, ChargeRefundRequested, c)
	e.Data.Refund = &s.Refunds[len(s.Refunds)-1]
	return e, nil
}

// observeRefund takes in one refund, known or made elsewhere.
func observeRefund(last *Event, in RefundObserved, c Cause) (*Event, error) {
	if last == nil {
		return nil, ErrNoCharge
	}
	s := copyCharge(last)
	if s.Status != ChargeStatusSucceeded {
		return nil, ErrNoCharge // its success is still to come; refunds hang on succeeded charges only
	}
	status := in.Report.Status
	if plant.Bug == 6 && status == RefundFailed {
		return nil, nil
	}
	r, id := s.findRefund(in)
	switch {
	case r == nil && in.Report.ID == "":
		return nil, nil
	case r == nil && len(s.Refunds) >= MaxKeptRefunds:
		return nil, ErrRefundsFull
	case r == nil:
		s.Refunds = append(s.Refunds, Refund{ID: id, Amount: in.Report.Amount, Reason: in.Report.Reason})
		r = &s.Refunds[len(s.Refunds)-1]
	case status.rank() <= r.Status.rank():
		return nil, nil
	}
	if in.Report.ID != "" {
		r.ProviderRefundID = in.Report.ID
	}
	r.Status = status
	if status.ended() {
		r.Failure = in.Report.Failure
	}
	typ := ChargeUpdated
	switch {
	case status == RefundSucceeded:
		typ = ChargeRefunded
	case status.ended():
		typ = ChargeRefundFailed
	}
	s.AmountRefunded = 0
	for _, one := range s.Refunds {
		if one.Status == RefundSucceeded {
			s.AmountRefunded += one.Amount
		}
	}
	refund := *r
	e := s.next(last, typ, c)
	e.Data.Refund = &refund
	return e, nil
}

// findRefund finds the refund a report is about, or, with nil, the id of the one that begins with it. The provider's id
// decides: two refunds made under one id of ours, which can happen when the provider has forgotten the key of the first,
// are two, because both are money. So is one that is found at the provider after it was given up as never made.
func (s *Charge) findRefund(in RefundObserved) (r *Refund, id string) {
	if in.Report.ID == "" { // our own verdict: it does not touch what the provider is known to have
		if r = s.Refund(in.RefundID); r == nil || r.ProviderRefundID != "" {
			return nil, ""
		}
		return r, r.ID
	}
	for i := range s.Refunds {
		if s.Refunds[i].ProviderRefundID == in.Report.ID {
			return &s.Refunds[i], s.Refunds[i].ID
		}
	}
	switch r = s.Refund(in.RefundID); {
	case r == nil:
		return nil, in.RefundID
	case r.ProviderRefundID == "" && r.Status.Open():
		return r, r.ID
	}
	return nil, ReportedRefundID(s.ProviderID, in.Report.ID)
}

// observeRefundTotal asks for a look when the provider reports more refunded than is known. The total is remembered, so
// the same report asks once.
func observeRefundTotal(last *Event, in RefundTotalObserved, c Cause) *Event {
	if last == nil {
		return nil
	}
	s := copyCharge(last)
	if s.Status != ChargeStatusSucceeded || in.Total <= s.ProviderAmountRefunded || in.Total <= s.refundsAlive() {
		return nil
	}
	s.ProviderAmountRefunded = in.Total
	return s.next(last, ChargeRefreshRequested, c)
}
