package provider_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/provider"
	"github.com/paykit-go/paykit/internal/provider/stripe"
)

func methodLive(live bool) func(*events.Event) bool {
	return func(e *events.Event) bool { return e.Data.PaymentMethod.Live() == live }
}

// hear takes in what the provider has to tell, as its deliveries would.
func (w *world) hear(worker *provider.Worker) {
	w.t.Helper()
	if err := worker.Backfill(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// listen turns deliveries into events until the test ends.
func (w *world) listen() {
	w.t.Helper()
	w.runNormalizer(provider.NewNormalizer(w.log, map[string]provider.Webhooks{stripeID: &stripe.Webhooks{}},
		provider.NormalizerConfig{Logger: zerolog.Nop(), Now: w.now}))
}

// promoted checks that a method became the default by the worker itself, here and at the provider.
func (p *person) promoted(pm, meth string) {
	p.w.t.Helper()
	e := p.w.until(events.EntityPaymentMethod, meth, func(e *events.Event) bool { return e.Type == events.PaymentMethodDefaultSet })
	list, err := p.w.log.History(p.w.t.Context(), eventlog.HistoryFilter{Entity: events.EntityPaymentMethod, EntityID: meth}, 1, 100)
	if err != nil {
		p.w.t.Fatal(err)
	}
	asked := list[len(list)-2].Event
	if asked.Type != events.PaymentMethodDefaultRequested || asked.Source != provider.SourceWorker {
		p.w.t.Errorf("%s by %s came before %s", asked.Type, asked.Source, e.Type)
	}
	p.w.eventually("the provider's default is the promoted one", func() bool { return p.atProvider().Invoice.Default == pm })
}

// The default is detached by a command: the next one takes its place, and when that goes too nothing is left to promote.
func TestDetachedDefaultPromotesTheNext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	w.advance(time.Second)
	middlePM, middle := p.save("pm_card_mastercard")
	w.advance(time.Second)
	_, newest := p.save("pm_card_amex")
	worker := w.worker()
	done := make(chan string, 100)
	worker.OnConcluded(func(typ events.Type, outcome string) {
		if typ == events.PaymentMethodDetached {
			done <- outcome
		}
	})
	w.run(worker)
	p.updateMethod(newest, events.DetachMethod{})
	p.promoted(middlePM, middle)
	p.updateMethod(p.meth, events.DetachMethod{}) // not the default
	w.until(events.EntityPaymentMethod, p.meth, methodLive(false))
	p.updateMethod(middle, events.DetachMethod{})
	w.until(events.EntityPaymentMethod, middle, methodLive(false))
	for range 3 {
		select {
		case <-done:
		case <-time.After(patience):
			t.Fatalf("the detached ones were not looked after\n%s", w.logs)
		}
	}
	for id, want := range map[string][]string{
		p.meth: {"attached", "detach_requested", "detached"},
		middle: {"attached", "default_requested", "default_set", "detach_requested", "detached"},
		newest: {"attached", "detach_requested", "detached"},
	} {
		if diff := cmp.Diff(want, w.history(events.EntityPaymentMethod, id)); diff != "" {
			t.Error("method (-want +got)", diff)
		}
	}
}

// A method detached in the provider's dashboard disappears here, and the next one becomes the default.
func TestMethodDetachedInTheDashboard(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	otherPM, other := p.save("pm_card_mastercard")
	worker := w.worker()
	w.run(worker)
	w.listen()
	w.post("/v1/payment_methods/"+otherPM+"/detach", nil, nil)
	w.hear(worker)
	w.until(events.EntityPaymentMethod, other, methodLive(false))
	p.promoted(p.pm, p.meth)
}

// A method that is to be the default and is gone at the provider is gone here, and the next one takes its place.
func TestDefaultThatIsGoneAtTheProvider(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	otherPM, other := p.save("pm_card_mastercard")
	w.post("/v1/payment_methods/"+otherPM+"/detach", nil, nil)
	p.updateMethod(other, events.SetDefaultMethod{})
	w.start()
	w.until(events.EntityPaymentMethod, other, methodLive(false))
	p.promoted(p.pm, p.meth)
}

// Detaching what is gone at the provider already is done; what the provider refuses to detach stays, where someone looks.
func TestDetachOfWhatIsGoneOrRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	_, other := p.save("pm_card_mastercard")
	w.post("/v1/payment_methods/"+p.pm+"/detach", nil, nil)
	w.start()
	p.updateMethod(p.meth, events.DetachMethod{})
	w.until(events.EntityPaymentMethod, p.meth, methodLive(false))
	w.fault(`{"operation":"payment_methods.detach","times":1,"kind":"status","status":400}`)
	p.updateMethod(other, events.DetachMethod{})
	w.eventually("a dead letter", func() bool {
		list, err := w.log.DeadLetters(t.Context(), p.ref.ID)
		return err == nil && len(list) == 1
	})
	if e := w.state(events.EntityPaymentMethod, other); !e.Data.PaymentMethod.Live() {
		t.Error("detached here, and attached at the provider")
	}
}

// All of a deleted customer's methods go, and none is promoted on the way.
func TestDeletedCustomerPromotesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	_, other := p.save("pm_card_mastercard")
	worker := w.worker()
	done := make(chan string, 100)
	worker.OnConcluded(func(typ events.Type, outcome string) {
		if typ == events.PaymentMethodDetached {
			done <- outcome
		}
	})
	w.run(worker)
	p.delete()
	for range 2 {
		select {
		case outcome := <-done:
			if outcome != "done" {
				t.Errorf("outcome %s", outcome)
			}
		case <-time.After(patience):
			t.Fatalf("the methods were not looked after\n%s", w.logs)
		}
	}
	for _, id := range []string{p.meth, other} {
		if diff := cmp.Diff([]string{"attached", "detached"}, w.history(events.EntityPaymentMethod, id)); diff != "" {
			t.Error("method (-want +got)", diff)
		}
	}
}

// The promotion again, and late: once is enough, and what the app made the default meanwhile stays it.
func TestPromotionComesOnceAndNeverLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	_, middle := p.save("pm_card_mastercard")
	w.advance(time.Second)
	_, newest := p.save("pm_card_amex")
	worker := w.worker()
	detached := p.updateMethod(newest, events.MethodGone{})
	for attempt := range 2 { // a worker that was killed before the acknowledgement
		if got := worker.CarryOut(t.Context(), w.message(detached, attempt+1)); got != eventlog.Done() {
			t.Fatalf("%+v\n%s", got, w.logs)
		}
	}
	if diff := cmp.Diff([]string{"attached", "default_requested"}, w.history(events.EntityPaymentMethod, middle)); diff != "" {
		t.Error("method (-want +got)", diff)
	}
	w.advance(time.Second)
	gone := p.updateMethod(middle, events.MethodGone{})
	w.advance(time.Second)
	pm, chosen := p.save("pm_card_discover")
	p.updateMethod(chosen, events.SetDefaultMethod{})
	if got := worker.CarryOut(t.Context(), w.message(gone, 1)); got != eventlog.Done() {
		t.Fatalf("%+v\n%s", got, w.logs)
	}
	if diff := cmp.Diff([]string{"attached"}, w.history(events.EntityPaymentMethod, p.meth)); diff != "" {
		t.Error("promoted past a newer default (-want +got)", diff)
	}
	w.start()
	w.eventually("the provider's default is the chosen one", func() bool { return p.atProvider().Invoice.Default == pm })
}

// A card replaced by its issuer is another card here too, without anybody's doing.
func TestCardIsUpdatedAutomatically(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	worker := w.worker()
	w.run(worker)
	w.listen()
	w.control("/_sandbox/payment_methods/"+p.pm+"/update", `{"exp_month":3,"exp_year":2044,"last4":"1881"}`)
	w.hear(worker)
	m := w.until(events.EntityPaymentMethod, p.meth, func(e *events.Event) bool { return e.Type == events.PaymentMethodUpdated }).Data.PaymentMethod
	if m.ExpiryMonth != 3 || m.ExpiryYear != 2044 || m.Last4 != "1881" || m.Fingerprint == "" {
		t.Errorf("the card is %+v", m)
	}
	w.oneCapture(w.untilCharge(p.charge("").Event.Subject, events.ChargeStatusSucceeded).ID)
}

// attach attaches a card at the provider, as a page would, and waits until it is known.
func (p *person) attach(worker *provider.Worker, card string) *events.PaymentMethod {
	p.w.t.Helper()
	var attached struct {
		ID string `json:"id"`
	}
	p.w.post("/v1/payment_methods/"+card+"/attach", url.Values{"customer": {p.cus}}, &attached)
	p.w.hear(worker)
	e := p.w.until(events.EntityPaymentMethod, events.PaymentMethodID(stripeID, attached.ID), methodLive(true))
	return e.Data.PaymentMethod
}

// A card saved again is recognised, by whichever of its methods is live and was saved first.
func TestCardSavedTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_amex")
	worker := w.worker()
	w.run(worker)
	w.listen()
	first := p.attach(worker, "pm_card_visa")
	second := p.attach(worker, "pm_card_visa")
	other := p.attach(worker, "pm_card_mastercard")
	stranger := w.buyer("pm_card_amex")
	theirs := stranger.attach(worker, "pm_card_visa")
	if first.DuplicateOf != "" || second.DuplicateOf != first.ID || other.DuplicateOf != "" || theirs.DuplicateOf != "" {
		t.Fatalf("duplicates of %q, %q, %q, %q; want only the second of %s",
			first.DuplicateOf, second.DuplicateOf, other.DuplicateOf, theirs.DuplicateOf, first.ID)
	}
	leadsTo := func(id string) func() bool {
		return func() bool {
			k, err := w.log.Link(t.Context(), stripeID, eventlog.CardObject(p.ref.ID, first.Fingerprint))
			return err == nil && k.ID == id && k.CustomerID == p.ref.ID
		}
	}
	// The first goes: the second is the earlier one from now on.
	p.updateMethod(first.ID, events.DetachMethod{})
	w.eventually("the way leads to the second", leadsTo(second.ID))
	if third := p.attach(worker, "pm_card_visa"); third.DuplicateOf != second.ID {
		t.Errorf("the third is a duplicate of %q, want %s", third.DuplicateOf, second.ID)
	}
}

// When the only method of a card was detached, the next one that is saved with it takes its place.
func TestCardSavedAgainAfterItWasDetached(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_amex")
	worker := w.worker()
	w.run(worker)
	w.listen()
	first := p.attach(worker, "pm_card_visa")
	p.updateMethod(first.ID, events.DetachMethod{})
	w.until(events.EntityPaymentMethod, first.ID, methodLive(false))
	second := p.attach(worker, "pm_card_visa")
	third := p.attach(worker, "pm_card_visa")
	if second.DuplicateOf != "" || third.DuplicateOf != second.ID {
		t.Errorf("duplicates of %q and %q, want none and %s", second.DuplicateOf, third.DuplicateOf, second.ID)
	}
}

// A link whose method has no event yet is of one that is being saved at this moment: it was first. A crash between the link
// and the event leaves the report, which comes again and is no duplicate of itself.
func TestCardThatIsBeingSaved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_amex")
	applier := provider.NewApplier(w.log, provider.ApplierConfig{Source: provider.SourceIngest, Logger: zerolog.Nop(), Now: w.now})
	see := func(pm string) *events.PaymentMethod {
		t.Helper()
		got, err := applier.Observe(t.Context(), stripeID, provider.MethodSeen{First: true, Method: events.Method{
			ID: pm, ProviderCustomerID: p.cus, Attached: true, Type: "card", Brand: "visa", Last4: "4242", Fingerprint: "fp",
		}}, "evt_"+pm)
		if err != nil {
			t.Fatal(err)
		}
		return got.Entry.Event.Data.PaymentMethod
	}
	first := events.PaymentMethodID(stripeID, "pm_first")
	link := eventlog.Link{Entity: events.EntityPaymentMethod, ID: first, CustomerID: p.ref.ID}
	if err := w.log.PutLink(t.Context(), stripeID, eventlog.CardObject(p.ref.ID, "fp"), link); err != nil {
		t.Fatal(err)
	}
	if m := see("pm_second"); m.DuplicateOf != first {
		t.Errorf("the second is a duplicate of %q", m.DuplicateOf)
	}
	if m := see("pm_first"); m.DuplicateOf != "" {
		t.Errorf("the first is a duplicate of %q", m.DuplicateOf)
	}
}

// expires has a method be a card that expires at the end of a month.
func (p *person) expires(id string, at time.Time) {
	p.w.t.Helper()
	pm := p.w.state(events.EntityPaymentMethod, id).Data.PaymentMethod.ProviderMethodID
	p.updateMethod(id, events.MethodObserved{ProviderID: stripeID, Method: events.Method{
		ID: pm, ProviderCustomerID: p.cus, Attached: true, Type: "card", Brand: "visa", Last4: "4242",
		ExpiryMonth: int(at.Month()), ExpiryYear: at.Year(),
	}})
}

func monthOf(t time.Time, months int) time.Time {
	return time.Date(t.UTC().Year(), t.UTC().Month()+time.Month(months), 1, 0, 0, 0, 0, time.UTC)
}

func (w *world) advanceTo(at time.Time) { w.advance(at.Sub(w.now())) }

// What expires soon is told by the worker that is active, once, and again when a new card comes to its end; what is to be
// detached, or whose customer is deleted, is not.
func TestExpiringIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	_, leaving := p.save("pm_card_mastercard")
	deleted := w.buyer("pm_card_visa")
	end, next := monthOf(w.now(), 3), monthOf(w.now(), 5)
	p.expires(p.meth, end)
	p.expires(leaving, end)
	deleted.expires(deleted.meth, end)
	p.updateMethod(leaving, events.DetachMethod{})
	deleted.delete()
	idle := w.worker() // the whole log, without the worker's other work
	scan := func() {
		t.Helper()
		if err := idle.TellExpiring(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	expiring := func(id string) []string {
		return slices.DeleteFunc(w.history(events.EntityPaymentMethod, id), func(typ string) bool { return typ != "expiring" })
	}
	scan()
	if got := expiring(p.meth); len(got) != 0 {
		t.Errorf("told long before")
	}
	w.advanceTo(end)
	for range 2 {
		scan()
	}
	e := w.state(events.EntityPaymentMethod, p.meth)
	if m := e.Data.PaymentMethod; len(expiring(p.meth)) != 1 || e.Type != events.PaymentMethodExpiring || e.Source != provider.SourceWorker || m.ExpiringFor != end.Format("2006-01") {
		t.Errorf("%s by %s of %q, %d times", e.Type, e.Source, m.ExpiringFor, len(expiring(p.meth)))
	}
	p.expires(p.meth, next)
	scan()
	if n := len(expiring(p.meth)); n != 1 {
		t.Errorf("told of a new card: %d", n)
	}
	w.advanceTo(next)
	for range 2 {
		scan()
	}
	if m := w.state(events.EntityPaymentMethod, p.meth).Data.PaymentMethod; m.ExpiringFor != next.Format("2006-01") || len(expiring(p.meth)) != 2 {
		t.Errorf("the new card's end: %q, told %d times", m.ExpiringFor, len(expiring(p.meth)))
	}
	if len(expiring(leaving)) != 0 || len(expiring(deleted.meth)) != 0 {
		t.Errorf("told of one that leaves, or whose customer has left")
	}
}

// The running worker looks soon after it became active, and then once a day; a killed one leaves it to the next.
func TestExpiringIsLookedForDaily(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	end := monthOf(w.now(), 3)
	p.expires(p.meth, end)
	w.advanceTo(end)
	worker := w.worker()
	worker.LookForExpiringEvery(20 * time.Millisecond)
	stop := w.run(worker)
	told := func(e *events.Event) bool { return e.Data.PaymentMethod.ExpiringFor == end.Format("2006-01") }
	w.until(events.EntityPaymentMethod, p.meth, told)
	_, second := p.save("pm_card_mastercard")
	p.expires(second, end)
	w.advance(25 * time.Hour)
	w.until(events.EntityPaymentMethod, second, told)
	stop()
	_, third := p.save("pm_card_amex")
	p.expires(third, end)
	again := w.worker()
	again.LookForExpiringEvery(20 * time.Millisecond)
	w.run(again)
	w.until(events.EntityPaymentMethod, third, told)
	w.eventually("three scans told of something: at the start, a day later, at the next worker's start", func() bool {
		return strings.Count(w.logs.String(), "told of methods that expire soon") == 3
	})
}
