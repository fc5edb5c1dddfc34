package commands

import (
	"context"

	"github.com/paykit-go/paykit/internal/events"
)

// paymentMethodSetDefault is the command payment_method.set_default, done at the provider too.
type paymentMethodSetDefault struct{ methodRef }

func parsePaymentMethodSetDefault(f *fields, _ Config) command {
	return paymentMethodSetDefault{parseMethodRef(f)}
}

func (c paymentMethodSetDefault) plan(h *Handler, _ call) plan {
	return plan{
		entity: events.EntityPaymentMethod, id: c.methodID,
		references: func(ctx context.Context) (events.CustomerRef, error) {
			return h.methodOf(ctx, c.methodRef, (*events.PaymentMethod).Chargeable)
		},
		decide: func(_ context.Context, last *events.Event, cause events.Cause) (*events.Event, error) {
			return events.DecidePaymentMethod(last, events.SetDefaultMethod{}, cause)
		},
		settled: func(e *events.Event) bool {
			m := e.Data.PaymentMethod
			return m.DefaultSettled() || !m.Live()
		},
	}
}
