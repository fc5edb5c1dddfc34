package commands

import (
	"context"

	"github.com/paykit-go/paykit/internal/events"
)

// chargeCancel is the command charge.cancel: stop a charge that has not ended yet, or that is to be tried again. One
// that has ended is answered as it is.
type chargeCancel struct{ chargeID string }

func parseChargeCancel(f *fields, _ Config) command {
	return chargeCancel{chargeID: f.text("chargeId")}
}

func (c chargeCancel) plan(*Handler, call) plan {
	return plan{
		entity: events.EntityCharge, id: c.chargeID,
		decide: func(_ context.Context, last *events.Event, cause events.Cause) (*events.Event, error) {
			return events.DecideCharge(last, events.CancelCharge{}, cause)
		},
		settled: func(e *events.Event) bool {
			c := e.Data.Charge
			return c.Status.Final() && !c.Retrying() // an attempt that is under way may still pay
		},
	}
}
