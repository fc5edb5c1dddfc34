package sandbox

import (
	"net/http"
	"strings"
	"time"
)

const (
	disputeInquiry       = "inquiry" // a test card's word for a warning without a chargeback
	disputeNeedsResponse = "needs_response"
	disputeWarning       = "warning_needs_response"
	disputeWarningClosed = "warning_closed"
	disputeWon           = "won"
	disputeLost          = "lost"
	disputeFee           = 1500
	disputeTime          = 7 * 24 * time.Hour
)

type dispute struct {
	ID                   string                `json:"id"`
	Object               string                `json:"object"`
	Amount               int64                 `json:"amount"`
	BalanceTransactions  []*balanceTransaction `json:"balance_transactions"`
	Charge               string                `json:"charge"`
	Created              int64                 `json:"created"`
	Currency             string                `json:"currency"`
	Evidence             map[string]nullable   `json:"evidence"`
	EvidenceDetails      evidenceDetails       `json:"evidence_details"`
	IsChargeRefundable   bool                  `json:"is_charge_refundable"`
	Livemode             bool                  `json:"livemode"`
	Metadata             map[string]string     `json:"metadata"`
	PaymentIntent        nullable              `json:"payment_intent"`
	PaymentMethodDetails disputedMethod        `json:"payment_method_details"`
	Reason               string                `json:"reason"`
	Status               string                `json:"status"`
}

type evidenceDetails struct {
	DueBy           nullInt `json:"due_by"`
	HasEvidence     bool    `json:"has_evidence"`
	PastDue         bool    `json:"past_due"`
	SubmissionCount int     `json:"submission_count"`
}

type disputedMethod struct {
	Card disputedCard `json:"card"`
	Type string       `json:"type"`
}

type disputedCard struct {
	Brand             string   `json:"brand"`
	NetworkReasonCode nullable `json:"network_reason_code"`
}

// evidenceFields are the fields of a dispute's evidence.
func evidenceFields() []string {
	return strings.Fields(`access_activity_log billing_address cancellation_policy cancellation_policy_disclosure cancellation_rebuttal
		customer_communication customer_email_address customer_name customer_purchase_ip customer_signature duplicate_charge_documentation
		duplicate_charge_explanation duplicate_charge_id product_description receipt refund_policy refund_policy_disclosure
		refund_refusal_explanation service_date service_documentation shipping_address shipping_carrier shipping_date
		shipping_documentation shipping_tracking_number uncategorized_file uncategorized_text`)
}

func disputeRoutes() []route {
	return []route{
		{"GET /v1/disputes", "disputes.list", listDisputes},
		{"GET /v1/disputes/{id}", "disputes.retrieve", retrieveDispute},
		{"POST /v1/disputes/{id}", "disputes.update", updateDispute},
		{"POST /v1/disputes/{id}/close", "disputes.close", closeDispute},
	}
}

// openDispute begins what a test card brings.
func (c *call) openDispute(ch *charge, reason string) {
	if ch.Disputed || ch.Refunded {
		return
	}
	inquiry := reason == disputeInquiry
	if inquiry {
		reason = "fraudulent"
	}
	c.newDispute(ch, reason, ch.AmountCaptured, inquiry)
}

// newDispute makes a chargeback, which takes the money at once, or a warning, which does not. A charge can have several.
func (c *call) newDispute(ch *charge, reason string, amount int64, inquiry bool) *dispute {
	now := c.now()
	d := &dispute{
		ID: c.objectID("dp_"), Object: "dispute", Amount: amount, BalanceTransactions: []*balanceTransaction{}, Charge: ch.ID,
		Created: now.Unix(), Currency: ch.Currency, Evidence: map[string]nullable{}, Metadata: map[string]string{}, PaymentIntent: ch.PaymentIntent,
		EvidenceDetails:      evidenceDetails{DueBy: nullInt(now.Add(disputeTime).Unix())},
		PaymentMethodDetails: disputedMethod{Type: "card", Card: disputedCard{Brand: ch.PaymentMethodDetails.Card.Brand, NetworkReasonCode: "10.4"}},
		Reason:               reason, Status: disputeNeedsResponse,
	}
	for _, field := range evidenceFields() {
		d.Evidence[field] = ""
	}
	if inquiry {
		d.Status, d.IsChargeRefundable = disputeWarning, true
	} else {
		c.withdraw(d)
	}
	c.disputes.add(d.ID, d)
	before := snapshot(ch)
	ch.Disputed, ch.Dispute = true, nullable(d.ID)
	c.emit("charge.dispute.created", d)
	c.emitChange("charge.updated", before, ch)
	if !inquiry {
		c.emit("charge.dispute.funds_withdrawn", d)
	}
	c.spendWarnings(ch)
	return d
}

// withdraw takes the disputed money, and the fee.
func (c *call) withdraw(d *dispute) {
	d.BalanceTransactions = append(d.BalanceTransactions, c.newBalanceTransaction(d.ID, d.Currency, "adjustment", -d.Amount, disputeFee))
}

// mayRefund says whether a disputed charge can still be refunded: warnings allow it, and disputes that were won.
func (s *Server) mayRefund(ch *charge) bool {
	for _, d := range s.disputes.all {
		if d.Charge == ch.ID && !d.IsChargeRefundable && d.Status != disputeWon {
			return false
		}
	}
	return true
}

// settleDispute ends a dispute; winning gives the money back.
func (c *call) settleDispute(d *dispute, status string) {
	before := snapshot(d)
	d.Status = status
	if status == disputeWon && len(d.BalanceTransactions) > 0 {
		d.BalanceTransactions = append(d.BalanceTransactions, c.newBalanceTransaction(d.ID, d.Currency, "adjustment", d.Amount, 0))
		c.emit("charge.dispute.funds_reinstated", d)
	}
	c.emitChange("charge.dispute.updated", before, d)
	c.emit("charge.dispute.closed", d)
}

func (d *dispute) settled() bool {
	return d.Status == disputeWon || d.Status == disputeLost || d.Status == disputeWarningClosed
}

func (c *call) dispute() (*dispute, *apiError) {
	d, ok := c.disputes.find(c.id)
	if !ok {
		return nil, noSuch(http.StatusNotFound, "dispute", c.id, "id")
	}
	return d, nil
}

func retrieveDispute(c *call) (any, *apiError) {
	if err := c.params.done(); err != nil {
		return nil, err
	}
	return c.dispute()
}

// updateDispute takes evidence. As with Stripe's test mode the text winning_evidence or losing_evidence decides the case.
func updateDispute(c *call) (any, *apiError) {
	p := c.params
	metadata := p.metadata()
	submit, sent := p.boolean("submit")
	in := p.sub("evidence")
	evidence := map[string]string{}
	for _, field := range evidenceFields() {
		if v, ok := in.value(field); ok {
			evidence[field] = v
		}
	}
	if err := p.done(); err != nil {
		return nil, err
	}
	d, err := c.dispute()
	if err != nil {
		return nil, err
	}
	if len(evidence) > 0 && d.settled() {
		return nil, refused("", "", "This dispute is already closed.")
	}
	if err := checkMetadata(d.Metadata, metadata); err != nil {
		return nil, err
	}
	before := snapshot(d)
	d.Metadata = metadata.apply(d.Metadata)
	for field, v := range evidence {
		d.Evidence[field] = nullable(v)
		d.EvidenceDetails.HasEvidence = true
	}
	submitted := (submit || !sent) && d.EvidenceDetails.HasEvidence && !d.settled() && (len(evidence) > 0 || submit)
	if submitted {
		d.EvidenceDetails.SubmissionCount++
		if d.Status == disputeWarning {
			d.Status = "warning_under_review"
		} else {
			d.Status = "under_review"
		}
	}
	c.emitIfChanged("charge.dispute.updated", before, d)
	if submitted {
		c.judge(d)
	}
	return d, nil
}

// judge plans the issuer's decision about submitted evidence.
func (c *call) judge(d *dispute) {
	var verdict string
	switch d.Evidence["uncategorized_text"] {
	case "winning_evidence":
		verdict = disputeWon
	case "losing_evidence":
		verdict = disputeLost
	default:
		return
	}
	if d.Status == "warning_under_review" {
		verdict = disputeWarningClosed
	}
	c.after(c.cfg.SettleAfter, taskJudgeDispute, d.ID, verdict)
}

// closeDispute gives in.
func closeDispute(c *call) (any, *apiError) {
	if err := c.params.done(); err != nil {
		return nil, err
	}
	d, err := c.dispute()
	if err != nil {
		return nil, err
	}
	if d.settled() {
		return nil, refused("", "", "This dispute is already closed.")
	}
	if strings.HasPrefix(d.Status, "warning_") {
		c.settleDispute(d, disputeWarningClosed)
	} else {
		c.settleDispute(d, disputeLost)
	}
	return d, nil
}

func listDisputes(c *call) (any, *apiError) {
	chargeID, paymentID := c.params.text("charge"), c.params.text("payment_intent")
	return listOf(c, &c.disputes, "/v1/disputes", "dispute", func(d *dispute) int64 { return d.Created }, func(d *dispute) bool {
		return (chargeID == "" || d.Charge == chargeID) && (paymentID == "" || string(d.PaymentIntent) == paymentID)
	})
}
