package provider_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/provider"
	"github.com/paykit-go/paykit/internal/provider/stripe"
)

// deleted appends customer.deleted and gives it as the worker gets it.
func (p *person) deleted() eventlog.Message {
	p.w.t.Helper()
	p.delete()
	e, err := p.w.log.LoadFromLeader(p.w.t.Context(), events.EntityCustomer, p.ref.ID)
	if err != nil {
		p.w.t.Fatal(err)
	}
	return p.w.message(e, 1)
}

// underWay is a charge whose payment is known and not settled yet.
func (p *person) underWay() (chargeID, payment string) {
	p.w.t.Helper()
	chargeID = p.charge("").Event.Subject
	payment = "pi_" + chargeID
	link := eventlog.Link{Entity: events.EntityCharge, ID: chargeID, CustomerID: p.ref.ID}
	if err := p.w.log.PutLink(p.w.t.Context(), stripeID, payment, link); err != nil {
		p.w.t.Fatal(err)
	}
	p.updateCharge(chargeID, events.PaymentObserved{Payment: events.Payment{ID: payment, Status: events.PaymentRequiresConfirmation}})
	return chargeID, payment
}

// Deliveries that nobody has read yet when their customer is erased: what they say of money is taken in first.
func TestErasingTakesMoneyInFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	id, pi := p.underWay()
	w.deliver("evt_paid", p.cus, "payment_intent.succeeded", fmt.Sprintf(
		`{"id":%q,"object":"payment_intent","status":"succeeded","amount":4900,"amount_received":4900,"currency":"usd","customer":%q,"receipt_email":"canary-1@example.com"}`, pi, p.cus))
	// Made in the provider's dashboard: only the account says whose it is, and the account is about to go.
	w.deliver("evt_foreign", p.cus, "payment_intent.succeeded", fmt.Sprintf(
		`{"id":"pi_foreign","object":"payment_intent","status":"succeeded","amount":700,"amount_received":700,"currency":"usd","customer":%q,"receipt_email":"canary-2@example.com"}`, p.cus))
	// These two name no customer.
	w.deliver("evt_refund", "", "refund.created", fmt.Sprintf(
		`{"id":"re_1","object":"refund","amount":900,"currency":"usd","status":"succeeded","payment_intent":%q,"description":"canary-3@example.com"}`, pi))
	w.deliver("evt_dispute", "", "charge.dispute.created", fmt.Sprintf(
		`{"id":"dp_1","object":"dispute","amount":4900,"currency":"usd","status":"needs_response","reason":"fraudulent","payment_intent":%q,"evidence":{"customer_email_address":"canary-4@example.com"}}`, pi))
	w.deliver("evt_warning", "", "radar.early_fraud_warning.created", fmt.Sprintf(
		`{"id":"issfr_1","object":"radar.early_fraud_warning","actionable":true,"fraud_type":"misc","payment_intent":%q,"charge":"ch_unheard"}`, pi))
	// Not money: of a deleted customer it changes nothing.
	w.deliver("evt_method", p.cus, "payment_method.attached", fmt.Sprintf(
		`{"id":"pm_late","object":"payment_method","type":"card","card":{"last4":"4242"},"customer":%q,"billing_details":{"email":"canary-5@example.com"}}`, p.cus))

	if got := w.worker().CarryOut(t.Context(), p.deleted()); got != eventlog.Done() {
		t.Fatalf("%+v\n%s", got, w.logs)
	}
	c := w.untilCharge(id, events.ChargeStatusSucceeded)
	if c.AmountRefunded != 900 || len(c.Disputes) != 1 || len(c.FraudWarnings) != 1 {
		t.Errorf("the charge is %+v", c)
	}
	foreign := w.state(events.EntityCharge, events.ReportedChargeID(stripeID, "pi_foreign", ""))
	if foreign == nil || foreign.Data.Charge.Amount != 700 || foreign.CustomerID() != p.ref.ID || foreign.CausationID != "evt_foreign" {
		t.Errorf("the payment made elsewhere is %+v", foreign)
	}
	if m := w.state(events.EntityPaymentMethod, events.PaymentMethodID(stripeID, "pm_late")); m != nil {
		t.Errorf("a deleted customer's method was taken in: %+v", m)
	}
	if n := w.inbox(); n != 0 || holds(t, w.server.StoreDir, "canary-") {
		t.Errorf("%d deliveries are left", n)
	}
	if got := w.history(events.EntityCharge, id); !slices.Equal(got, []string{"requested", "processing", "succeeded", "refunded", "disputed", "fraud_warned"}) {
		t.Errorf("events %v", got)
	}
}

// A refund whose charge is not known yet is kept while it may become known, as the normalizer keeps it, and no longer.
func TestErasingWaitsForAnOwner(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		after time.Duration
		kept  int
	}{
		{"the payment may still come", 23 * time.Hour, 1},
		{"nobody will come", 25 * time.Hour, 0},
		{"the delivery waited for us before the deletion", -25 * time.Hour, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.buyer("pm_card_visa")
			w.deliver("evt_refund", p.cus, "refund.created",
				`{"id":"re_1","object":"refund","amount":900,"currency":"usd","status":"succeeded","payment_intent":"pi_unheard","customer":"`+p.cus+`"}`)
			if tt.after < 0 {
				w.advance(-tt.after)
			}
			message := p.deleted()
			w.advance(max(tt.after, 0))
			if done := w.worker().CarryOut(t.Context(), message) == eventlog.Done(); done != (tt.kept == 0) || w.inbox() != tt.kept {
				t.Errorf("done: %v, %d deliveries are left, want %d\n%s", done, w.inbox(), tt.kept, w.logs)
			}
			if w.state(events.EntityProviderAccount, p.account()).Data.ProviderAccount.Status != events.AccountUnlinked {
				t.Error("the rest had to wait")
			}
		})
	}
	t.Run("the payment comes", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		p := w.buyer("pm_card_visa")
		id, pi := p.underWay()
		w.deliver("evt_refund", p.cus, "refund.created", fmt.Sprintf(
			`{"id":"re_1","object":"refund","amount":900,"currency":"usd","status":"succeeded","payment_intent":%q,"customer":%q}`, pi, p.cus))
		message := p.deleted()
		if w.worker().CarryOut(t.Context(), message) == eventlog.Done() {
			t.Fatal("the refund of a charge under way was not waited for")
		}
		p.updateCharge(id, events.PaymentObserved{Payment: events.Payment{ID: pi, Status: events.PaymentSucceeded}})
		// The normalizer, whose delivery it is, erases what it has read for a deleted customer.
		w.runNormalizer(provider.NewNormalizer(w.log, map[string]provider.Webhooks{stripeID: &stripe.Webhooks{}}, provider.NormalizerConfig{Logger: zerolog.Nop()}))
		w.until(events.EntityCharge, id, func(e *events.Event) bool { return e.Data.Charge.AmountRefunded == 900 })
		w.eventually("the delivery is erased", func() bool { return w.inbox() == 0 })
		if got := w.worker().CarryOut(t.Context(), message); got != eventlog.Done() {
			t.Errorf("%+v\n%s", got, w.logs)
		}
	})
}

// A provider that refuses to delete the customer does not keep us from erasing what we have.
func TestErasingGoesOnWhereTheProviderRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	w.deliver("evt_1", p.cus, "customer.updated", `{"id":"`+p.cus+`","object":"customer","email":"canary@example.com"}`)
	w.fault(`{"operation":"customers.delete","kind":"status","status":400}`)
	w.worker().CarryOut(t.Context(), p.deleted())
	if w.inbox() != 0 {
		t.Error("the delivery is still there")
	}
	dead, err := w.log.DeadLetters(t.Context(), p.ref.ID)
	if err != nil || len(dead) != 1 {
		t.Errorf("dead letters %+v, %v", dead, err)
	}
}

// What the provider's list brings of a deleted customer's money counts, and is not stored.
func TestBackfillTakesMoneyOfTheDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	stop := w.start()
	c := p.paid()
	stop()
	p.delete()
	w.post("/v1/refunds", map[string][]string{"payment_intent": {c.ProviderPaymentID}, "amount": {"700"}}, nil)
	if err := w.worker().Backfill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.state(events.EntityCharge, c.ID).Data.Charge; got.AmountRefunded != 700 {
		t.Errorf("the charge is %+v", got)
	}
	if n := w.inbox(); n != 0 {
		t.Errorf("%d deliveries of a deleted customer were stored", n)
	}
}

// A profile that a sync stored beside the deletion and did not announce before it died: it is erased once it is old enough
// to be nobody's. One that a sync announces stays.
func TestErasingAProfileThatNobodyAnnounces(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	message := p.deleted()
	worker := w.worker()
	if _, err := w.log.PutProfile(t.Context(), p.ref.ID, eventlog.Profile{Name: new("canary-stray")}, w.profile(p).Sequence); err != nil {
		t.Fatal(err)
	}
	if got := worker.CarryOut(t.Context(), message); got == eventlog.Done() {
		t.Error("the profile may be announced any moment, and nobody would look again")
	}
	if !holds(t, w.server.StoreDir, "canary-stray") {
		t.Error("it was erased while a sync may be about to announce it")
	}
	w.advance(3 * time.Minute)
	if got := worker.CarryOut(t.Context(), message); got != eventlog.Done() || holds(t, w.server.StoreDir, "canary-stray") {
		t.Errorf("after three minutes: %+v, in the files: %v\n%s", got, holds(t, w.server.StoreDir, "canary-stray"), w.logs)
	}
	p.sync("back@example.com", "Back", nil)
	w.advance(3 * time.Minute)
	if got := worker.CarryOut(t.Context(), message); got != eventlog.Done() || w.profile(p).Profile.Name == nil {
		t.Errorf("a new life: %+v, %+v", got, w.profile(p))
	}
}

// profile is the person's newest, the zero one if there is none.
func (w *world) profile(p *person) eventlog.Revision {
	w.t.Helper()
	r, err := w.log.Profile(w.t.Context(), p.ref.ID)
	if err != nil && !errors.Is(err, eventlog.ErrNotFound) {
		w.t.Fatal(err)
	}
	return r
}

// A dead letter of before the deletion is erased, also one of the same millisecond, which is as exact as an event's time is; one
// of a new life stays.
func TestErasingLettersOfTheSameMillisecond(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	message := p.deleted()
	deleted, err := w.log.LoadFromLeader(t.Context(), events.EntityCustomer, p.ref.ID)
	if err != nil {
		t.Fatal(err)
	}
	for id, after := range map[string]time.Duration{"cmd_before": time.Millisecond - 1, "cmd_later": time.Millisecond} {
		err := w.log.Bury(t.Context(), eventlog.DeadLetter{
			Stage: "commands", ID: id, CustomerID: p.ref.ID, Body: []byte(`{}`), Reason: "x", At: deleted.Event.Time.Add(after),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := w.worker().CarryOut(t.Context(), message); got != eventlog.Done() {
		t.Fatalf("%+v\n%s", got, w.logs)
	}
	dead, err := w.log.DeadLetters(t.Context(), p.ref.ID)
	if err != nil || len(dead) != 1 || dead[0].ID != "cmd_later" {
		t.Errorf("letters %+v, %v", dead, err)
	}
}
