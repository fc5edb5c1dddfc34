package sim

import (
	"context"
	"fmt"
	"slices"
	"time"

	engine "github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
)

// CreateRefund implements [provider.Refunds].
func (a *API) CreateRefund(ctx context.Context, key string, r provider.RefundRequest) (engine.RefundReport, error) {
	const op = "refunds.create"
	if err := writes(op, key, r.PaymentID+r.ChargeID); err != nil {
		return engine.RefundReport{}, err
	}
	if r.Amount <= 0 {
		return engine.RefundReport{}, invalid(op, "amount", "without an amount all would be refunded")
	}
	got, _, err := call(ctx, a, op, key, fmt.Sprint(r), func() (engine.RefundReport, *provider.Error) {
		p := a.s.payments[r.PaymentID]
		switch {
		case p == nil:
			return engine.RefundReport{}, missing(op, "payment_intent")
		case p.now.Status != engine.PaymentSucceeded, p.now.AmountRefunded+r.Amount > p.now.Amount:
			return engine.RefundReport{}, invalid(op, "amount", "more than is left")
		}
		status := engine.RefundSucceeded
		if r.Amount%5 == 1 {
			status = engine.RefundPending
		}
		one := a.s.giveBack(p, r.Owner, r.Amount, r.Reason, status)
		if status == engine.RefundPending {
			a.s.later(3*time.Hour, func() { a.s.endRefund(one, engine.RefundSucceeded) })
		} else if r.Amount%7 == 2 {
			a.s.later(20*time.Hour, func() { a.s.endRefund(one, engine.RefundFailed) })
		}
		return one.now, nil
	})
	return got, err
}

// RefundsOf implements [provider.Refunds].
func (a *API) RefundsOf(ctx context.Context, paymentID, chargeID string) ([]engine.RefundReport, error) {
	const op = "refunds.list"
	if err := needs(op, paymentID+chargeID); err != nil {
		return nil, err
	}
	got, _, err := call(ctx, a, op, "", "", func() ([]engine.RefundReport, *provider.Error) {
		var out []engine.RefundReport
		for _, r := range slices.Backward(a.s.order.refunds) {
			if r.now.ProviderPaymentID == paymentID || paymentID == "" && r.now.ProviderChargeID == chargeID {
				out = append(out, r.now)
			}
		}
		return out, nil
	})
	return got, err
}

// ListDeliveries implements [provider.Deliveries].
func (a *API) ListDeliveries(ctx context.Context, since time.Time, yield func(body []byte) error) error {
	list, _, err := call(ctx, a, "events.list", "", "", func() ([]*webhook, *provider.Error) {
		i := len(a.s.events)
		for i > 0 && !a.s.events[i-1].delivery.CreatedAt.Before(since.Truncate(time.Second)) {
			i--
		}
		return slices.Clone(a.s.events[i:]), nil
	})
	for _, w := range list {
		if err := yield(w.body); err != nil {
			return err
		}
	}
	return err
}

// SawPayment implements [provider.Witnesses].
func (a *API) SawPayment(ctx context.Context, s provider.Sought) (string, error) {
	got, _, err := call(ctx, a, "events.list", "", "", func() (string, *provider.Error) {
		for _, p := range slices.Backward(a.s.order.payments) {
			if owns(s.Owner, p.now.Owner) && !p.now.CreatedAt.Before(s.Since.Add(-skew)) {
				return p.now.ID, nil
			}
		}
		return "", nil
	})
	return got, err
}

// SawRefund implements [provider.Witnesses].
func (a *API) SawRefund(ctx context.Context, s provider.Sought) (engine.RefundReport, bool, error) {
	got, _, err := call(ctx, a, "events.list", "", "", func() (engine.RefundReport, *provider.Error) {
		for _, r := range slices.Backward(a.s.order.refunds) {
			if r.now.Owner.Refund != "" && r.now.Owner == s.Owner {
				return r.now, nil
			}
		}
		return engine.RefundReport{}, nil
	})
	return got, err == nil && got.ID != "", err
}
