package commands

import (
	"context"

	"github.com/paykit-go/paykit/internal/events"
)

// checkoutExpire is the command checkout.expire: nobody shall pay on the page any more.
type checkoutExpire struct{ checkoutID string }

func parseCheckoutExpire(f *fields, _ Config) command {
	return checkoutExpire{checkoutID: f.text("checkoutId")}
}

func (c checkoutExpire) plan(*Handler, call) plan {
	return plan{
		entity: events.EntityCheckout, id: c.checkoutID,
		decide: func(_ context.Context, last *events.Event, cause events.Cause) (*events.Event, error) {
			return events.DecideCheckout(last, events.ExpireCheckout{}, cause)
		},
		settled: func(e *events.Event) bool { return e.Data.Checkout.Status.Final() },
	}
}
