package sandbox

import "net/http"

const (
	refundPending     = "pending"
	refundNeedsAction = "requires_action" // it waits for the buyer's bank details
	refundSucceeded   = "succeeded"
	refundFailed      = "failed"
)

type refund struct {
	ID                        string            `json:"id"`
	Object                    string            `json:"object"`
	Amount                    int64             `json:"amount"`
	BalanceTransaction        nullable          `json:"balance_transaction"`
	Charge                    string            `json:"charge"`
	Created                   int64             `json:"created"`
	Currency                  string            `json:"currency"`
	DestinationDetails        refundDestination `json:"destination_details"`
	FailureReason             string            `json:"failure_reason,omitempty"`
	FailureBalanceTransaction string            `json:"failure_balance_transaction,omitempty"`
	Metadata                  map[string]string `json:"metadata"`
	PaymentIntent             nullable          `json:"payment_intent"`
	Reason                    nullable          `json:"reason"`
	ReceiptNumber             null              `json:"receipt_number"`
	SourceTransferReversal    null              `json:"source_transfer_reversal"`
	Status                    string            `json:"status"`
	TransferReversal          null              `json:"transfer_reversal"`
}

type refundDestination struct {
	Card refundedCard `json:"card"`
	Type string       `json:"type"`
}

type refundedCard struct {
	Type string `json:"type"`
}

func refundRoutes() []route {
	return []route{
		{"POST /v1/refunds", "refunds.create", createRefund},
		{"GET /v1/refunds", "refunds.list", listRefunds},
		{"GET /v1/refunds/{id}", "refunds.retrieve", retrieveRefund},
		{"POST /v1/refunds/{id}", "refunds.update", updateRefund},
		{"POST /v1/refunds/{id}/cancel", "refunds.cancel", cancelRefund},
		{"GET /v1/charges/{id}/refunds", "charges.list_refunds", listChargeRefunds},
	}
}

func createRefund(c *call) (any, *apiError) {
	p := c.params
	chargeID, paymentID := p.text("charge"), p.text("payment_intent")
	amount, sent := p.amount("amount")
	reason := p.enum("reason", "duplicate", "fraudulent", "requested_by_customer")
	metadata := p.metadata()
	currency := p.currency(false)
	p.ignore("refund_application_fee", "reverse_transfer", "instructions_email")
	if chargeID == "" && paymentID == "" {
		p.fail(badParam(codeMissingParam, "payment_intent", "One of the following params should be provided for this request: payment_intent or charge."))
	}
	if err := p.done(); err != nil {
		return nil, err
	}
	ch, err := c.refundable(chargeID, paymentID)
	if err != nil {
		return nil, err
	}
	left := ch.AmountCaptured - c.refundedOf(ch)
	switch {
	case left <= 0:
		return nil, refused("charge_already_refunded", "", "Charge %s has already been refunded.", ch.ID)
	case ch.Disputed && !c.mayRefund(ch):
		return nil, refused("charge_disputed", "", "Charge %s has been charged back; cannot issue a refund.", ch.ID)
	case currency != "" && currency != ch.Currency:
		return nil, refused("", "currency", "The currency of the refund must be that of the charge, %s.", ch.Currency)
	case !sent:
		amount = left
	case amount > left:
		return nil, refused("", "amount", "Refund amount %s is greater than unrefunded amount on charge %s", plainAmount(amount, ch.Currency), plainAmount(left, ch.Currency))
	}
	r := &refund{
		ID: c.newID("re_3", 23), Object: "refund", Amount: amount, Charge: ch.ID, Created: c.now().Unix(), Currency: ch.Currency,
		DestinationDetails: refundDestination{Type: "card", Card: refundedCard{Type: "refund"}}, Metadata: metadata.apply(nil),
		PaymentIntent: ch.PaymentIntent, Reason: nullable(reason), Status: orDefault(ch.rule.refundFirst, refundSucceeded),
	}
	r.BalanceTransaction = nullable(c.newBalanceTransaction(r.ID, r.Currency, "refund", -amount, 0).ID)
	c.refunds.add(r.ID, r)
	before := snapshot(ch)
	c.countRefunds(ch)
	c.emitChange("charge.refunded", before, ch)
	c.emit("refund.created", r)
	c.spendWarnings(ch)
	if ch.rule.refundThen != "" {
		c.after(c.cfg.SettleAfter, taskSettleRefund, r.ID, ch.rule.refundThen)
	}
	return r, nil
}

// refundable finds the charge that a refund is about.
func (c *call) refundable(chargeID, paymentID string) (*charge, *apiError) {
	if paymentID != "" {
		pi, ok := c.payments.find(paymentID)
		if !ok {
			return nil, noSuch(http.StatusNotFound, "payment_intent", paymentID, "payment_intent")
		}
		if pi.Status != intentSucceeded {
			return nil, refused("", "payment_intent", "This PaymentIntent (%s) does not have a successful charge to refund.", pi.ID)
		}
		if chargeID != "" && chargeID != string(pi.LatestCharge) {
			return nil, refused("", "charge", "The charge %s does not belong to the PaymentIntent %s.", chargeID, paymentID)
		}
		chargeID = string(pi.LatestCharge)
	}
	ch, ok := c.charges.find(chargeID)
	if !ok {
		return nil, noSuch(http.StatusNotFound, "charge", chargeID, "charge")
	}
	if ch.Status != chargeSucceeded || !ch.Captured {
		return nil, refused("", "charge", "This charge (%s) has not been captured and cannot be refunded.", ch.ID)
	}
	return ch, nil
}

// refundedOf sums what was refunded and not given back.
func (s *Server) refundedOf(ch *charge) int64 {
	var sum int64
	for _, r := range s.refunds.all {
		if r.Charge == ch.ID && r.Status != refundFailed && r.Status != intentCanceled {
			sum += r.Amount
		}
	}
	return sum
}

// countRefunds brings a charge's totals up to date. What an authorization released counts as refunded, as with Stripe.
func (s *Server) countRefunds(ch *charge) {
	ch.AmountRefunded = ch.Amount - ch.AmountCaptured + s.refundedOf(ch)
	ch.Refunded = ch.AmountRefunded == ch.Amount
}

// settleRefund gives a refund its second answer.
func (c *call) settleRefund(r *refund, status string) {
	if r.Status == intentCanceled || r.Status == refundFailed {
		return
	}
	c.moveRefundTo(r, status, "")
}

// moveRefundTo sets a refund's state; the money of one that ends without success comes back.
func (c *call) moveRefundTo(r *refund, status, reason string) {
	before := snapshot(r)
	r.Status = status
	if status == refundFailed {
		r.FailureReason = orDefault(reason, "expired_or_canceled_card")
		r.FailureBalanceTransaction = c.newBalanceTransaction(r.ID, r.Currency, "refund_failure", r.Amount, 0).ID
	}
	c.returnRefund(r)
	c.emitChange("refund.updated", before, r)
	c.emitChange("charge.refund.updated", before, r)
	if status == refundFailed {
		c.emitChange("refund.failed", before, r)
	}
}

// returnRefund lets a charge know that the state of one of its refunds changed.
func (c *call) returnRefund(r *refund) {
	ch := c.charges.get(r.Charge)
	before := snapshot(ch)
	c.countRefunds(ch)
	c.emitIfChanged("charge.updated", before, ch)
}

func (c *call) refund() (*refund, *apiError) {
	r, ok := c.refunds.find(c.id)
	if !ok {
		return nil, noSuch(http.StatusNotFound, "refund", c.id, "id")
	}
	return r, nil
}

func retrieveRefund(c *call) (any, *apiError) {
	if err := c.params.done(); err != nil {
		return nil, err
	}
	return c.refund()
}

func updateRefund(c *call) (any, *apiError) {
	metadata := c.params.metadata()
	if err := c.params.done(); err != nil {
		return nil, err
	}
	r, err := c.refund()
	if err != nil {
		return nil, err
	}
	if err := checkMetadata(r.Metadata, metadata); err != nil {
		return nil, err
	}
	before := snapshot(r)
	r.Metadata = metadata.apply(r.Metadata)
	c.emitIfChanged("refund.updated", before, r)
	c.emitIfChanged("charge.refund.updated", before, r)
	return r, nil
}

func cancelRefund(c *call) (any, *apiError) {
	if err := c.params.done(); err != nil {
		return nil, err
	}
	r, err := c.refund()
	if err != nil {
		return nil, err
	}
	if r.Status != refundPending && r.Status != refundNeedsAction {
		return nil, refused("", "", "The refund %s has a status of %s and cannot be canceled.", r.ID, r.Status)
	}
	c.settleRefund(r, intentCanceled)
	return r, nil
}

func listRefunds(c *call) (any, *apiError) {
	chargeID, paymentID := c.params.text("charge"), c.params.text("payment_intent")
	return c.refundsOf(chargeID, paymentID, "/v1/refunds")
}

func listChargeRefunds(c *call) (any, *apiError) {
	if _, err := c.charge(); err != nil {
		return nil, err
	}
	return c.refundsOf(c.id, "", "/v1/charges/"+c.id+"/refunds")
}

func (c *call) refundsOf(chargeID, paymentID, url string) (any, *apiError) {
	return listOf(c, &c.refunds, url, "refund", func(r *refund) int64 { return r.Created }, func(r *refund) bool {
		return (chargeID == "" || r.Charge == chargeID) && (paymentID == "" || string(r.PaymentIntent) == paymentID)
	})
}
