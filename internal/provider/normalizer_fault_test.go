package provider_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/provider"
)

// What can't be read is set aside at once; the ones behind it are not held up, and nothing of its body is kept twice.
func TestUnreadableDelivery(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{})
	b := in.buyer().charge("")
	bad := in.event("charge.succeeded", `{"id":"ch_1","customer":"`+b.cus+`","amount":"buyer@example.com"}`)
	if got := in.deliver(bad, b.paid()); !slices.Equal(got, []string{"buried", "changed"}) {
		t.Errorf("results %v", got)
	}
	dead, err := in.log.DeadLetters(t.Context(), "")
	if err != nil || len(dead) != 1 {
		t.Fatalf("dead letters %v, %v", dead, err)
	}
	d := dead[0].DeadLetter
	if d.Stage != "normalizer" || !strings.HasPrefix(d.ID, "evt_") || d.Stream != inbox || d.Sequence != 1 || d.CustomerID != b.ref.ID || d.Reason == "" || d.Attempts != 1 {
		t.Errorf("%+v", d)
	}
	if all := asJSON(t, d) + in.logs.String(); strings.Contains(all, "buyer@") {
		t.Errorf("personal data: %s", all)
	}
}

// A failure that is not the storage's is tried five times, then set aside.
func TestPoisonedDelivery(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{retryFirst: 5 * time.Millisecond})
	b := in.buyer().charge("")
	// An event that this program can't read, where the charge's state should be.
	subject := "paykit.log.charge.updated." + b.chargeID + "." + b.ref.ID
	in.tap.Damaged(subject)
	if msg, err := in.log.Conn().RequestWithContext(t.Context(), subject, []byte(`{"not":"an event"}`)); err != nil || strings.Contains(string(msg.Data), "error") {
		t.Fatal(err, string(msg.Data))
	}
	in.store(b.paid())
	if got, want := in.wait(5), []string{"failed", "failed", "failed", "failed", "buried"}; !slices.Equal(got, want) {
		t.Errorf("results %v, want %v", got, want)
	}
	if dead, err := in.log.DeadLetters(t.Context(), b.ref.ID); err != nil || len(dead) != 1 || dead[0].Attempts != 5 {
		t.Errorf("dead letters %+v, %v", dead, err)
	}
	other := in.buyer().charge("")
	if got := in.deliver(other.paid()); got[0] != "changed" {
		t.Errorf("the next one: %v", got)
	}
}

// Only failures count: a delivery that came often because the storage was away or the process ended is not set aside at
// its first failure.
func TestPoisonedDeliveryThatCameOften(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{asleep: true})
	b := in.buyer().charge("")
	subject := "paykit.log.charge.updated." + b.chargeID + "." + b.ref.ID
	in.tap.Damaged(subject)
	if msg, err := in.log.Conn().RequestWithContext(t.Context(), subject, []byte(`{"not":"an event"}`)); err != nil || strings.Contains(string(msg.Data), "error") {
		t.Fatal(err, string(msg.Data))
	}
	n := provider.NewNormalizer(in.log, in.hooks(), provider.NormalizerConfig{Logger: zerolog.Nop()})
	var results []string
	n.OnResult(time.Millisecond, func(result string) { results = append(results, result) })
	m := eventlog.Message{Stream: inbox, Sequence: 1, Subject: "paykit.inbox.stripe.evt_1." + b.cus, Data: []byte(b.paid()), Attempt: 100, Time: time.Now()}
	ended, end := context.WithCancel(t.Context())
	end()
	for range 10 {
		n.Handle(ended, m)
	}
	for range 5 {
		n.Handle(t.Context(), m)
	}
	want := append(slices.Repeat([]string{"waiting"}, 10), "failed", "failed", "failed", "failed", "buried")
	if !slices.Equal(results, want) {
		t.Errorf("results %v, want %v", results, want)
	}
}

// A crash after the append and before the acknowledgement brings the delivery again, and nothing happens twice.
func TestCrashBetweenAppendAndAcknowledgement(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{asleep: true})
	b := in.buyer().checkout()
	after := in.last()
	in.store(b.paid(), b.event("charge.refunded", b.chargeObject("succeeded", fields{"amount_refunded": 900})))
	// What a normalizer does before it dies, without the acknowledgement.
	died := provider.NewApplier(in.log, provider.ApplierConfig{Source: provider.SourceIngest, Logger: zerolog.Nop()})
	if _, err := died.Observe(t.Context(), stripeID, provider.PaymentSeen{Payment: events.Payment{
		Owner: events.OwnerOf(b.owned()), ID: "pi_" + b.n, ChargeID: "ch_" + b.n, ProviderCustomerID: b.cus,
		Status: events.PaymentSucceeded, Amount: 4900, Currency: "usd",
	}}, "evt_1"); err != nil {
		t.Fatal(err)
	}
	in.wake(options{})
	if got := in.wait(2); !slices.Equal(got, []string{"unchanged", "changed"}) {
		t.Errorf("results %v", got)
	}
	if got := in.types(after); !slices.Equal(got, []events.Type{events.ChargeSucceeded, events.ChargeRefreshRequested}) {
		t.Errorf("events %v", got)
	}
}

// A crash after the link and before the charge's first event leaves a link to nothing, which the next try completes.
func TestCrashBetweenLinkAndCharge(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{})
	b := in.buyer().checkout()
	id := events.CheckoutChargeID(b.checkoutID)
	if err := in.log.PutLink(t.Context(), stripeID, "pi_"+b.n, eventlog.Link{Entity: events.EntityCharge, ID: id, CustomerID: b.ref.ID}); err != nil {
		t.Fatal(err)
	}
	if got := in.deliver(b.event("refund.created", b.refund("", "succeeded", 100))); got[0] != "parked" {
		t.Errorf("refund of a charge that has no event: %v", got)
	}
	in.store(b.paid())
	in.changed()
	in.changed()
	if c := in.chargeState(id); c.AmountRefunded != 100 {
		t.Errorf("%+v", c)
	}
}

// The storage going away in the middle loses nothing and buries nothing.
func TestStorageOutage(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{retryFirst: 20 * time.Millisecond})
	b := in.buyer().checkout()
	after := in.last()
	in.deliver(b.paid())
	in.server.Restart()
	deadline := time.Now().Add(patience)
	for status := 0; status != 200; {
		status, _ = in.post(b.event("checkout.session.completed", b.session("complete", "paid")))
		if time.Now().After(deadline) {
			t.Fatal("the door did not come back")
		}
	}
	in.changed()
	if got := in.types(after); !slices.Equal(got, []events.Type{events.ChargeSucceeded, events.CheckoutCompleted}) {
		t.Errorf("events %v", got)
	}
	if dead, err := in.log.DeadLetters(t.Context(), ""); err != nil || len(dead) != 0 {
		t.Errorf("dead letters %v, %v", dead, err)
	}
}
