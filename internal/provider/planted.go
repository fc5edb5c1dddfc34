package provider

import (
	"context"

	"github.com/paykit-go/paykit/internal/events"
)

// plantedAgain is the bug planted against the first invariant, never of an ordinary build: what was not answered is charged once more.
func (w *Worker) plantedAgain(
	ctx context.Context, r request, p *guardedAPI, c *events.Charge, how ConfirmRequest,
) (events.Payment, bool, error) {
	a, err := w.findAccount(ctx, c.CustomerID, c.ProviderID)
	if err != nil {
		return events.Payment{}, false, err
	}
	again, err := p.CreatePayment(ctx, r.otherKey("again"), PaymentRequest{
		CustomerID: a.ProviderCustomerID, MethodID: how.MethodID, Owner: w.chargeOwner(c), Amount: c.Amount, Currency: c.Currency,
	})
	if err != nil {
		return again, false, err
	}
	again, err = p.ConfirmPayment(ctx, r.otherKey("again:confirm"), again.ID, how)
	return again, false, err
}
