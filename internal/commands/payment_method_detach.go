package commands

import (
	"context"

	"github.com/paykit-go/paykit/internal/events"
)

// paymentMethodDetach is the command payment_method.detach, done at the provider too. A method already detached is
// answered as it is.
type paymentMethodDetach struct{ methodRef }

func parsePaymentMethodDetach(f *fields, _ Config) command {
	return paymentMethodDetach{parseMethodRef(f)}
}

func (c paymentMethodDetach) plan(h *Handler, _ call) plan {
	return plan{
		entity: events.EntityPaymentMethod, id: c.methodID,
		references: func(ctx context.Context) (events.CustomerRef, error) {
			return h.methodOf(ctx, c.methodRef, func(*events.PaymentMethod) bool { return true })
		},
		decide: func(_ context.Context, last *events.Event, cause events.Cause) (*events.Event, error) {
			return events.DecidePaymentMethod(last, events.DetachMethod{}, cause)
		},
		settled: func(e *events.Event) bool { return !e.Data.PaymentMethod.Live() },
	}
}
