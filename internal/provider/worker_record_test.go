package provider_test

import (
	"net/url"
	"testing"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// unconfirmed makes a charge's payment as a worker makes it that dies before it writes anything down.
func (p *person) unconfirmed(chargeID string) (paymentID string) {
	p.w.t.Helper()
	var made struct{ ID string }
	p.w.post("/v1/payment_intents", url.Values{
		"amount": {"4900"}, "currency": {"usd"}, "customer": {p.cus}, "payment_method": {p.pm}, "payment_method_types[]": {"card"},
		"metadata[paykit_env]": {p.w.log.Env()}, "metadata[paykit_charge]": {chargeID},
	}, &made)
	return made.ID
}

// Link and event of a payment are written at once. A worker that dies between them may leave the event alone: the payment
// is linked before it is confirmed, or a refund made elsewhere would find no charge.
func TestRecordedPaymentIsLinkedBeforeItIsConfirmed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	e := p.charge("")
	paymentID := p.unconfirmed(e.Event.Subject)
	p.updateCharge(e.Event.Subject, events.PaymentObserved{Payment: events.Payment{ID: paymentID, Status: events.PaymentRequiresConfirmation}})
	worker := w.worker()
	linkedBefore := false
	worker.StopAt(func(point string) error {
		if point == "confirm_answered" {
			k, err := w.log.Link(t.Context(), stripeID, paymentID)
			linkedBefore = err == nil && k.ID == e.Event.Subject
		}
		return nil
	})
	if got := worker.CarryOut(t.Context(), w.message(e, 2)); got != eventlog.Done() {
		t.Fatalf("%+v\n%s", got, w.logs)
	}
	if !linkedBefore {
		t.Error("the payment was confirmed without a link")
	}
	w.oneCapture(e.Event.Subject)
}

// A payment that turns out to be another charge's is neither confirmed nor canceled: this charge fails, that one is left alone.
func TestOthersPaymentIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	e := p.charge("")
	paymentID := p.unconfirmed(e.Event.Subject)
	other := events.ChargeID("other")
	err := w.log.PutLink(t.Context(), stripeID, paymentID, eventlog.Link{Entity: events.EntityCharge, ID: other, CustomerID: e.Event.CustomerID()})
	if err != nil {
		t.Fatal(err)
	}
	p.updateCharge(e.Event.Subject, events.PaymentObserved{Payment: events.Payment{ID: paymentID, Status: events.PaymentRequiresConfirmation}})
	worker := w.worker()
	if got := worker.CarryOut(t.Context(), w.message(e, 2)); got != eventlog.Done() {
		t.Fatalf("%+v\n%s", got, w.logs)
	}
	last := w.state(events.EntityCharge, e.Event.Subject)
	if c := last.Data.Charge; c.Status != events.ChargeStatusFailed || c.Failure.Code != events.FailureProviderRejected {
		t.Fatalf("the charge is %s, %+v", c.Status, c.Failure)
	}
	failed, err := w.log.LoadFromLeader(t.Context(), events.EntityCharge, e.Event.Subject)
	if err != nil {
		t.Fatal(err)
	}
	if got := worker.CarryOut(t.Context(), w.message(failed, 1)); got != eventlog.Done() { // charge.failed asks for the payment's end
		t.Fatalf("%+v\n%s", got, w.logs)
	}
	if got := w.payments(e.Event.Subject); len(got) != 1 || got[0].Status != "requires_confirmation" || got[0].Captures != 0 {
		t.Errorf("ledger is %+v; want the other's payment as it was", got)
	}
}
