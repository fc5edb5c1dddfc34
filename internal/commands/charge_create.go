package commands

import (
	"context"

	"github.com/paykit-go/paykit/internal/events"
)

// chargeCreate is the command charge.create: take money from a saved method.
type chargeCreate struct {
	method      methodRef
	amount      int64  // minor units
	currency    string // the default filled in
	description string
	metadata    map[string]string
	retry       string // name of a retry schedule; "" = a declined charge is not tried again
	returnURL   string // where the buyer comes back to after authenticating; "" = the buyer is away
}

func parseChargeCreate(f *fields, cfg Config) command {
	c := chargeCreate{method: parseMethodRef(f)}
	c.amount, c.currency = f.money(cfg.DefaultCurrency)
	c.description = f.description()
	c.metadata = f.lastingMetadata("metadata")
	c.returnURL = f.address("returnURL", false)
	c.retry = f.optionalID("retry")
	return c
}

func (c chargeCreate) plan(h *Handler, k call) plan {
	schedule, known := h.schedule(c.retry)
	in := events.CreateCharge{
		ID: events.ChargeID(k.key), CustomerID: c.method.customerID, ProviderID: c.method.providerID, PaymentMethodID: c.method.methodID,
		Amount: c.amount, Currency: c.currency, Description: c.description, Metadata: c.metadata,
		ReturnURL: c.returnURL, CommandDigest: k.digest, Retry: schedule,
	}
	return plan{
		entity: events.EntityCharge, id: in.ID, begins: true,
		references: func(ctx context.Context) (events.CustomerRef, error) {
			if !known { // asked here, so that a charge that was made under a schedule since removed is still answered
				return events.CustomerRef{}, invalid("retry", "names no retry schedule of this installation")
			}
			return h.methodOf(ctx, c.method, (*events.PaymentMethod).Chargeable)
		},
		decide: func(_ context.Context, last *events.Event, cause events.Cause) (*events.Event, error) {
			return events.DecideCharge(last, in, cause)
		},
		settled: func(e *events.Event) bool {
			s := e.Data.Charge.Status
			return s.Final() || s == events.ChargeStatusRequiresAction
		},
		passing: func(t events.Type) bool { return t == events.ChargeRequested || t == events.ChargeProcessing },
	}
}

// schedule finds a retry schedule; "" is none, and known.
func (h *Handler) schedule(name string) (s *events.RetrySchedule, known bool) {
	if name == "" {
		return nil, true
	}
	delays, known := h.cfg.RetrySchedules[name]
	if !known {
		return nil, false
	}
	return &events.RetrySchedule{Name: name, Delays: delays}, true
}
