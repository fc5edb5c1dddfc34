package commands

import (
	"context"

	"github.com/paykit-go/paykit/internal/events"
)

// checkoutCreate is the command checkout.create: a hosted page on which the buyer pays.
type checkoutCreate struct {
	providerID   string
	customerID   string
	amount       int64  // minor units
	currency     string // the default filled in
	description  string
	successURL   string
	cancelURL    string // "" if there is none
	attachMethod bool   // also save the method for later charges
	metadata     map[string]string
}

func parseCheckoutCreate(f *fields, cfg Config) command {
	c := checkoutCreate{providerID: f.text("providerId"), customerID: f.text("customerId")}
	c.amount, c.currency = f.money(cfg.DefaultCurrency)
	c.description = f.description()
	c.successURL = f.address("successURL", true)
	c.cancelURL = f.address("cancelURL", false)
	c.attachMethod = f.flag("attachMethod")
	c.metadata = f.lastingMetadata("metadata")
	return c
}

func (c checkoutCreate) plan(h *Handler, k call) plan {
	in := events.CreateCheckout{
		ID: events.CheckoutID(k.key), ProviderID: c.providerID, Amount: c.amount, Currency: c.currency,
		Description: c.description, SuccessURL: c.successURL, CancelURL: c.cancelURL, AttachMethod: c.attachMethod,
		Metadata: c.metadata, CommandDigest: k.digest,
	}
	return plan{
		entity: events.EntityCheckout, id: in.ID, begins: true,
		references: func(ctx context.Context) (events.CustomerRef, error) { return h.payer(ctx, c.providerID, c.customerID) },
		decide: func(_ context.Context, last *events.Event, cause events.Cause) (*events.Event, error) {
			return events.DecideCheckout(last, in, cause)
		},
		settled: func(e *events.Event) bool { return e.Data.Checkout.Status != events.StateRequested },
	}
}
