package commands

import (
	"context"

	"github.com/paykit-go/paykit/internal/events"
)

// paymentMethodAttach is the command payment_method.attach: a hosted page on which the buyer saves a method without
// paying. It leads to a setup.
type paymentMethodAttach struct{ providerID, customerID, returnURL string }

func parsePaymentMethodAttach(f *fields, _ Config) command {
	return paymentMethodAttach{
		providerID: f.text("providerId"), customerID: f.text("customerId"), returnURL: f.address("returnURL", true),
	}
}

func (c paymentMethodAttach) plan(h *Handler, k call) plan {
	in := events.CreateSetup{
		ID: events.SetupID(k.key), ProviderID: c.providerID, ReturnURL: c.returnURL, CommandDigest: k.digest,
	}
	return plan{
		entity: events.EntitySetup, id: in.ID, begins: true,
		references: func(ctx context.Context) (events.CustomerRef, error) { return h.payer(ctx, c.providerID, c.customerID) },
		decide: func(_ context.Context, last *events.Event, cause events.Cause) (*events.Event, error) {
			return events.DecideSetup(last, in, cause)
		},
		settled: func(e *events.Event) bool { return e.Data.Setup.Status != events.StateRequested },
	}
}
