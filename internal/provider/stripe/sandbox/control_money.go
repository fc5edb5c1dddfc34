package sandbox

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// moneyRequest names a charge by its own id or by its payment's, and says what happens to it.
type moneyRequest struct {
	Payment string `json:"payment"` // pi_…
	Charge  string `json:"charge"`  // ch_…
	Reason  string `json:"reason"`  // of a dispute; empty: fraudulent
	Amount  int64  `json:"amount"`  // of a dispute; 0: all of the charge
	Inquiry bool   `json:"inquiry"` // the bank only asks
}

// moveRequest gives a dispute or a refund its next state.
type moveRequest struct {
	Status        string `json:"status"`
	FailureReason string `json:"failureReason"` // of a refund
}

// registerMoney adds the calls that bring what the buyer's bank brings: disputes, warnings, and the further life of refunds.
func (s *Server) registerMoney() {
	s.mux.HandleFunc("POST /_sandbox/disputes", controlled(s, func(c *call, in moneyRequest) (any, *apiError) {
		ch, err := c.moneyCharge(in)
		if err != nil {
			return nil, err
		}
		if in.Amount < 0 || in.Amount > ch.AmountCaptured {
			return nil, refused("", "amount", "amount is %d: from 1 to the charge's %d", in.Amount, ch.AmountCaptured)
		}
		return c.newDispute(ch, orDefault(in.Reason, "fraudulent"), orDefault(in.Amount, ch.AmountCaptured), in.Inquiry), nil
	}))
	s.mux.HandleFunc("POST /_sandbox/disputes/{id}", controlled(s, (*call).moveDispute))
	s.mux.HandleFunc("POST /_sandbox/refunds/{id}", controlled(s, (*call).moveRefund))
	s.mux.HandleFunc("POST /_sandbox/fraud_warnings", controlled(s, func(c *call, in moneyRequest) (any, *apiError) {
		ch, err := c.moneyCharge(in)
		if err != nil {
			return nil, err
		}
		return c.warnOfFraud(ch), nil
	}))
}

// controlled is a control call that works like one of the API: as one step, its answer an object as the API shows it.
func controlled[T any](s *Server, do func(*call, T) (any, *apiError)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in T
		if !readControl(w, r, &in) {
			return
		}
		body, err := controlledStep(s, r.PathValue("id"), in, do)
		if err != nil {
			controlError(w, orDefault(err.status, http.StatusBadRequest), err)
			return
		}
		writeAnswer(w, answer{status: http.StatusOK, body: body})
	}
}

func controlledStep[T any](s *Server, id string, in T, do func(*call, T) (any, *apiError)) ([]byte, *apiError) {
	s.enter()
	defer s.leave()
	s.tick()
	c := s.newCall()
	c.id = id
	v, err := do(c, in)
	if err != nil {
		return nil, err
	}
	return encode(v), nil
}

// moneyCharge finds the succeeded charge that a control call is about.
func (c *call) moneyCharge(in moneyRequest) (*charge, *apiError) {
	id := in.Charge
	if in.Payment != "" {
		pi, ok := c.payments.find(in.Payment)
		if !ok {
			return nil, noSuch(http.StatusNotFound, "payment_intent", in.Payment, "payment")
		}
		id = string(pi.LatestCharge)
	}
	ch, ok := c.charges.find(id)
	if !ok {
		return nil, noSuch(http.StatusNotFound, "charge", id, "charge")
	}
	if ch.Status != chargeSucceeded || !ch.Captured {
		return nil, refused("", "charge", "The charge %s took no money.", ch.ID)
	}
	return ch, nil
}

// moveDispute brings a dispute on: to its end, or, from an inquiry, to a chargeback, which takes the money.
func (c *call) moveDispute(in moveRequest) (any, *apiError) {
	statuses := []string{
		disputeWarning, "warning_under_review", disputeWarningClosed, disputeNeedsResponse, "under_review", disputeWon, disputeLost, "prevented",
	}
	if !slices.Contains(statuses, in.Status) || in.FailureReason != "" {
		return nil, refused("", "status", "status is %q: one of %v", in.Status, statuses)
	}
	d, err := c.dispute()
	if err != nil {
		return nil, err
	}
	inquiry := strings.HasPrefix(d.Status, "warning_")
	switch {
	case inquiry && (in.Status == disputeNeedsResponse || in.Status == "under_review"):
		before := snapshot(d)
		d.Status, d.IsChargeRefundable = in.Status, false
		c.withdraw(d)
		c.emitChange("charge.dispute.updated", before, d)
		c.emit("charge.dispute.funds_withdrawn", d)
	case d.settled():
		return nil, refused("", "", "This dispute is already closed.")
	case in.Status == disputeWon, in.Status == disputeLost, in.Status == disputeWarningClosed, in.Status == "prevented":
		c.settleDispute(d, in.Status)
	default:
		before := snapshot(d)
		d.Status = in.Status
		c.emitIfChanged("charge.dispute.updated", before, d)
	}
	return d, nil
}

// moveRefund gives a refund another state, as a bank or a buyer would.
func (c *call) moveRefund(in moveRequest) (any, *apiError) {
	statuses := []string{refundPending, refundNeedsAction, refundSucceeded, refundFailed, intentCanceled}
	if !slices.Contains(statuses, in.Status) {
		return nil, refused("", "status", "status is %q: one of %v", in.Status, statuses)
	}
	r, err := c.refund()
	if err != nil {
		return nil, err
	}
	if r.Status == refundFailed || r.Status == intentCanceled {
		return nil, refused("", "", "%s", fmt.Sprintf("The refund %s is %s for good.", r.ID, r.Status))
	}
	c.moveRefundTo(r, in.Status, in.FailureReason)
	return r, nil
}
