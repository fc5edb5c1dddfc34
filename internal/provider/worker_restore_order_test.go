package provider_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/commands"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/provider"
	"github.com/paykit-go/paykit/internal/provider/stripe"
)

// forgottenMoney is a charge and a paid page of which the restored LOG knows nothing, and what asks for them.
type forgottenMoney struct {
	*world
	p            *person
	charge, page string // the commands' bodies
	chargeID     string
	checkoutID   string
}

// forget has a charge and a page paid, and restores a backup from before.
func forget(t *testing.T) *forgottenMoney {
	t.Helper()
	f := &forgottenMoney{world: newWorld(t)}
	f.p = f.buyer("pm_card_visa")
	f.charge = fmt.Sprintf(`{"customerId":%q,"providerId":"stripe","paymentMethodId":%q,"amount":4900,"description":"Pro plan"}`, f.p.ref.ID, f.p.meth)
	f.page = fmt.Sprintf(`{"customerId":%q,"providerId":"stripe","amount":1900,"description":"Book","successURL":"https://example.com/ok"}`, f.p.ref.ID)
	file := f.backup()
	stopWorker := f.start()
	f.ask()
	f.untilCharge(f.chargeID, events.ChargeStatusSucceeded)
	made := f.until(events.EntityCheckout, f.checkoutID, checkoutIs(events.StateCreated)).Data.Checkout
	f.control("/_sandbox/checkout/"+made.ProviderSessionID+"/complete", `{"card":"4242424242424242"}`)
	f.until(events.EntityCheckout, f.checkoutID, checkoutIs(events.StateCompleted))
	f.untilCharge(events.CheckoutChargeID(f.checkoutID), events.ChargeStatusSucceeded)
	stopWorker()
	f.later(26 * time.Hour)
	f.restore(file)
	return f
}

// ask sends both commands.
func (f *forgottenMoney) ask() {
	f.t.Helper()
	h, stop := f.handler()
	defer stop()
	f.chargeID = f.execute(h, "charge.create", "after", f.charge)
	f.checkoutID = f.execute(h, "checkout.create", "page", f.page)
}

// counted checks that each payment is one charge that succeeded, and gives the charges by their payment.
func (f *forgottenMoney) counted() map[string]*events.Charge {
	f.t.Helper()
	list, err := f.log.Latest(f.t.Context(), events.EntityCharge, f.p.ref.ID)
	if err != nil {
		f.t.Fatal(err)
	}
	paid := map[string]*events.Charge{}
	for _, e := range list {
		c := e.Event.Data.Charge
		if c.Status != events.ChargeStatusSucceeded {
			continue
		}
		if other := paid[c.ProviderPaymentID]; other != nil {
			f.t.Errorf("payment %s is the success of %s and of %s\n%s", c.ProviderPaymentID, other.ID, c.ID, f.logs)
		}
		paid[c.ProviderPaymentID] = c
	}
	if len(paid) != 2 {
		f.t.Errorf("%d payments succeeded, want 2\n%s", len(paid), f.logs)
	}
	return paid
}

// What was paid between the backup and the restore is brought by the provider's list before its commands come again: they
// find it done, under the ids that it had.
func TestPaidBeforeTheRestoreAndReportedFirst(t *testing.T) {
	t.Parallel()
	f := forget(t)
	charge, checkout := f.chargeID, f.checkoutID
	if err := f.worker().Backfill(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.runNormalizer(provider.NewNormalizer(f.log, map[string]provider.Webhooks{stripeID: &stripe.Webhooks{}}, provider.NormalizerConfig{Logger: zerolog.Nop()}))
	for _, id := range []string{charge, events.CheckoutChargeID(checkout)} {
		if c := f.untilCharge(id, events.ChargeStatusSucceeded); !c.ReportedByProvider {
			t.Errorf("%+v", c)
		}
	}
	f.ask()
	if f.chargeID != charge || f.checkoutID != checkout {
		t.Errorf("the commands are about %s and %s, were about %s and %s", f.chargeID, f.checkoutID, charge, checkout)
	}
	f.start()
	f.until(events.EntityCheckout, checkout, checkoutIs(events.StateCompleted))
	f.counted()
	f.oneCapture(charge)
	h, stop := f.handler()
	defer stop()
	_, err := h.Execute(t.Context(), "charge.create", []byte(fmt.Sprintf(
		`{"customerId":%q,"providerId":"stripe","paymentMethodId":%q,"amount":4901,"description":"Pro plan"}`, f.p.ref.ID, f.p.meth,
	)), commands.Meta{IdempotencyKey: "after"})
	if refused, ok := errors.AsType[*events.Error](err); !ok || refused.Code != events.CodeIdempotencyConflict {
		t.Errorf("another amount under the key: %v", err)
	}
}

// Where the payments stand in the LOG as charges of their own, as they do if they were reported before their metadata named a
// charge, neither the commands nor a further report makes a second success of one.
func TestPaidBeforeTheRestoreAndKnownAsAnother(t *testing.T) {
	t.Parallel()
	f := forget(t)
	var payments []events.Payment
	for _, id := range []string{f.chargeID, events.CheckoutChargeID(f.checkoutID)} {
		payment, err := f.api.Payment(t.Context(), f.payments(id)[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		payments = append(payments, payment)
		reported := events.ReportedChargeID(stripeID, payment.ID, "")
		if err := f.log.PutLink(t.Context(), stripeID, payment.ID, eventlog.Link{Entity: events.EntityCharge, ID: reported, CustomerID: f.p.ref.ID}); err != nil {
			t.Fatal(err)
		}
		f.append(events.EntityCharge, reported, f.p.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
			return events.DecideCharge(last, events.PaymentObserved{ID: reported, ProviderID: stripeID, Payment: payment}, c)
		})
	}
	f.ask()
	f.start()
	f.untilCharge(f.chargeID, events.ChargeStatusFailed)
	f.until(events.EntityCheckout, f.checkoutID, checkoutIs(events.StateCompleted))
	a := provider.NewApplier(f.log, provider.ApplierConfig{Source: provider.SourceReconcile, Now: f.now})
	for _, payment := range payments {
		if got, err := a.Observe(t.Context(), stripeID, provider.PaymentSeen{Payment: payment}, "evt_again"); err != nil || got.Outcome != provider.OutcomeUnchanged {
			t.Errorf("%+v, %v", got, err)
		}
	}
	for id, c := range f.counted() {
		if c.ID != events.ReportedChargeID(stripeID, id, "") {
			t.Errorf("payment %s is now of %s", id, c.ID)
		}
	}
	f.oneCapture(f.chargeID)
}
