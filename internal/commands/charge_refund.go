package commands

import (
	"context"

	"github.com/paykit-go/paykit/internal/events"
)

// chargeRefund is the command charge.refund: give a succeeded charge back, in whole or in part. A customer deleted
// since does not stand in the way: it is their money.
type chargeRefund struct {
	chargeID string
	amount   int64  // minor units; 0 = all that is left
	reason   string // "" = none given
}

func parseChargeRefund(f *fields, _ Config) command {
	c := chargeRefund{chargeID: f.text("chargeId"), amount: f.refundAmount("amount")}
	reason, given := f.optionalText("reason")
	switch {
	case !given:
	case reason == "duplicate", reason == "fraudulent", reason == "requested_by_customer":
		c.reason = reason
	default:
		f.refuse(invalid("reason", "must be duplicate, fraudulent or requested_by_customer"))
	}
	return c
}

func (c chargeRefund) plan(_ *Handler, k call) plan {
	in := events.RefundCharge{
		RefundID: events.RefundID(c.chargeID, k.key), Amount: c.amount, Reason: c.reason, CommandDigest: k.digest,
	}
	return plan{
		// The charge is there before, so the key is looked for in it, by decide.
		entity: events.EntityCharge, id: c.chargeID,
		decide: func(_ context.Context, last *events.Event, cause events.Cause) (*events.Event, error) {
			return events.DecideCharge(last, in, cause)
		},
		settled: func(e *events.Event) bool {
			r := e.Data.Charge.Refund(in.RefundID)
			return r != nil && r.Status != events.RefundRequested
		},
	}
}
