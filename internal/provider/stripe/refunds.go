package stripe

import (
	"context"

	stripego "github.com/stripe/stripe-go/v76"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
)

// CreateRefund implements [provider.Refunds].
func (c *Client) CreateRefund(ctx context.Context, key string, r provider.RefundRequest) (events.RefundReport, error) {
	const operation = "refunds.create"
	if err := needID(operation, "payment_intent", r.PaymentID+r.ChargeID); err != nil {
		return events.RefundReport{}, err
	}
	if r.Amount <= 0 {
		return events.RefundReport{}, refused(operation, "amount", "without an amount Stripe would refund all that is left")
	}
	var out stripeRefund
	_, err := c.write(ctx, operation, key, func(p stripego.Params) error {
		params := &stripego.RefundParams{
			Params: p, PaymentIntent: text(r.PaymentID), Amount: new(r.Amount), Reason: text(r.Reason),
			Metadata: c.metadata(r.Owner, nil),
		}
		if r.PaymentID == "" {
			params.Charge = text(r.ChargeID)
		}
		made, err := c.api.Refunds.New(params)
		if err != nil {
			return err
		}
		toldMade(p.Context, made.ID)
		return answered(made.LastResponse, &out)
	})
	if err != nil {
		return events.RefundReport{}, err
	}
	return out.report(), nil
}

// RefundsOf implements [provider.Refunds].
func (c *Client) RefundsOf(ctx context.Context, paymentID, chargeID string) ([]events.RefundReport, error) {
	const operation = "refunds.list"
	if err := needID(operation, "payment_intent", paymentID+chargeID); err != nil {
		return nil, err // a list without a filter would be everybody's refunds
	}
	var out []events.RefundReport
	err := c.read(ctx, operation, func(p stripego.Params) error {
		params := &stripego.RefundListParams{ListParams: listParams(p), PaymentIntent: text(paymentID)}
		if paymentID == "" {
			params.Charge = text(chargeID)
		}
		it := c.api.Refunds.List(params)
		for it.Next() {
			out = append(out, refundOf(it.Refund()))
		}
		return it.Err()
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func refundOf(r *stripego.Refund) events.RefundReport {
	one := stripeRefund{
		ID: r.ID, Amount: r.Amount, Currency: string(r.Currency), Status: string(r.Status), Reason: string(r.Reason),
		FailureReason: string(r.FailureReason), Metadata: r.Metadata,
	}
	if r.Charge != nil {
		one.Charge.id = r.Charge.ID
	}
	if r.PaymentIntent != nil {
		one.PaymentIntent.id = r.PaymentIntent.ID
	}
	return one.report()
}
