package provider

import (
	"context"

	"github.com/paykit-go/paykit/internal/events"
)

// cancelSuperseded makes sure that the payment which a charge had, before another one paid it, can never be paid. It adds
// no event and no consumer: a charge whose payment is known has a message in settling, or in the requests once it ended,
// until what is open is settled, and each of those looks here before it is done with the charge.
//
// A crash before the cancel leaves that message open, to come again; a crash right after leaves the payment canceled, and
// the next look sees that. If it was paid a moment before, that is money, and becomes a charge of its own.
func (w *Worker) cancelSuperseded(ctx context.Context, r request, c *events.Charge) error {
	if c.SupersededPaymentID == "" {
		return nil
	}
	p, err := w.provider(c.ProviderID)
	if err != nil {
		return err
	}
	payment, err := p.Payment(ctx, c.SupersededPaymentID)
	if notFound(err) {
		return nil
	}
	if err != nil {
		return lookUpFailed(err)
	}
	if payment.Status != events.PaymentCanceled && payment.Status != events.PaymentSucceeded {
		payment, err = w.cancelAt(ctx, r, p, c, c.SupersededPaymentID, false)
		if err != nil {
			return err
		}
	}
	if payment.Status != events.PaymentSucceeded {
		return nil
	}
	_, _, err = w.observePayment(ctx, r, c, nil, payment)
	return err
}
