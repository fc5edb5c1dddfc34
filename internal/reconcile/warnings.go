package reconcile

import (
	"context"
	"slices"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
)

// warnings compares the provider's early fraud warnings with those of the charges. A warning is younger than its charge, so
// of a charge that began since Since all of them were listed.
func (r *run) warnings(ctx context.Context) error {
	err := r.there.ListFraudWarnings(ctx, r.Since, func(one events.FraudWarningReport) error { return r.warning(ctx, one) })
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	for _, c := range r.recent() {
		for _, known := range c.FraudWarnings {
			if r.seen[known.ProviderWarningID] || c.CreatedAt.Before(r.Since) {
				continue
			}
			err := r.found(ctx, Difference{
				Kind: KindFraudWarning, Cause: MissingThere, Message: "the log has a fraud warning that the provider does not know",
				ProviderObjectID: known.ProviderWarningID, EntityID: c.ID, CustomerID: c.CustomerID, Here: actionable(known.Actionable),
				Proposal: proposeOtherAccount,
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// warning compares one fraud warning. One whose charge the log does not have is nobody's, or hangs on a payment that is a
// difference itself.
func (r *run) warning(ctx context.Context, one events.FraudWarningReport) error {
	r.seen[one.ID] = true
	c := r.state.chargeOf(one.ProviderPaymentID, one.ProviderChargeID)
	customer, unpaid := r.unpaid[one.ProviderPaymentID]
	if c == nil && !unpaid {
		return nil
	}
	r.report.Compared.Warnings++
	if c == nil {
		return r.found(ctx, Difference{
			Kind: KindFraudWarning, Cause: MissingHere, Message: "a payment that is not in the log has a fraud warning",
			ProviderObjectID: one.ID, CustomerID: customer, There: actionable(one.Actionable),
			repair: provider.FraudWarningSeen{FraudWarningReport: one},
		})
	}
	if r.compareWarning(c.ID, one) == nil {
		return nil
	}
	if err := r.state.refresh(ctx, c.ID); err != nil {
		return err
	}
	if d := r.compareWarning(c.ID, one); d != nil {
		return r.found(ctx, *d)
	}
	return nil
}

// compareWarning compares one with its charge. That a warning could be acted on does not come back, so one that is spent
// here only was read before it was spent there.
func (r *run) compareWarning(chargeID string, one events.FraudWarningReport) *Difference {
	last := r.state.event(chargeID)
	c := last.Data.Charge
	next, err := events.DecideCharge(last, events.FraudWarningObserved{Report: one}, r.cause())
	if err != nil || next == nil { // an error: the charge has not succeeded here, which is the payment's difference
		return nil
	}
	d := &Difference{
		Kind: KindFraudWarning, Cause: MissingHere, Message: "the charge has a fraud warning at the provider that is not in the log",
		ProviderObjectID: one.ID, EntityID: c.ID, CustomerID: c.CustomerID, There: actionable(one.Actionable),
		repair: provider.FraudWarningSeen{FraudWarningReport: one},
	}
	i := slices.IndexFunc(c.FraudWarnings, func(known events.FraudWarning) bool { return known.ProviderWarningID == one.ID })
	if i >= 0 {
		d.Cause, d.Message = StatusDiffers, "nothing is left to be done about the fraud warning at the provider, and the log does not say so"
		d.Here = actionable(c.FraudWarnings[i].Actionable)
	}
	return d
}

func actionable(yes bool) string {
	if yes {
		return "actionable"
	}
	return "not actionable"
}
