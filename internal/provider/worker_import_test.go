package provider_test

import (
	"bytes"
	"testing"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/history"
)

// TestImportedHistoryIsLetBe: whatever an imported history had left undone or open, a worker makes no provider call about
// it, the one that runs during the import as little as one that starts after it; and what is asked for afterwards is done.
func TestImportedHistoryIsLetBe(t *testing.T) {
	t.Parallel()
	there := newWorld(t)
	old := there.buyer("pm_card_visa")
	old.sync("ada@example.com", "Ada", nil)
	old.charge("")
	old.checkout()
	old.setup()
	open := old.charge("").Event.Subject
	old.updateCharge(open, events.PaymentObserved{ID: open, ProviderID: stripeID, Payment: events.Payment{
		ID: "pi_open", Status: events.PaymentProcessing, Amount: 4900, Currency: "usd",
	}})
	there.buyer("pm_card_visa").delete()
	var file bytes.Buffer
	info, err := there.log.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n, err := history.Replay(t.Context(), there.log, history.ReplayOptions{To: info.LastSequence}, func(e history.Event) error {
		file.Write(append(e.Raw, '\n'))
		return nil
	})
	if err != nil || n != info.LastSequence {
		t.Fatalf("%d events, %v", n, err)
	}

	here := newWorld(t)
	here.n.Store(1000) // its own customers are others
	stop := here.start()
	if _, err := history.Import(t.Context(), here.log, bytes.NewReader(file.Bytes()), func(string, uint64, uint64) {}); err != nil {
		t.Fatal(err)
	}
	idle := func() bool {
		for _, consumer := range []eventlog.ConsumerName{eventlog.ConsumerRequests, eventlog.ConsumerSettling} {
			b, err := here.log.Backlog(t.Context(), consumer)
			if err != nil {
				t.Fatal(err)
			}
			if b.Waiting+b.Open > 0 {
				return false
			}
		}
		return true
	}
	here.eventually("the worker lets go of all of it", idle)
	stop()
	here.start() // another one
	if calls := here.called(); len(calls) > 0 {
		t.Errorf("the provider was called: %v", calls)
	}
	if info, err := here.log.Info(t.Context()); err != nil || info.LastSequence != n {
		t.Errorf("the log ends at %d, %v, want %d", info.LastSequence, err, n)
	}
	link, err := here.log.Link(t.Context(), stripeID, "pi_open")
	if err != nil || link.ID != open {
		t.Errorf("link of an imported payment: %+v, %v", link, err)
	}

	somebody := here.buyer("pm_card_visa")
	c := here.untilCharge(somebody.charge("").Event.Subject, events.ChargeStatusSucceeded)
	here.oneCapture(c.ID)
	// A profile that is stored now can't be taken for one that an imported event names.
	e, err := here.log.Load(t.Context(), events.EntityCustomer, old.ref.ID)
	if err != nil {
		t.Fatal(err)
	}
	somebody.sync("new@example.com", "New", nil)
	revision, err := here.log.Profile(t.Context(), somebody.ref.ID)
	if err != nil || revision.Sequence <= e.Event.Data.Customer.ProfileRevision || e.Event.Data.Customer.ProfileRevision == 0 {
		t.Errorf("revision %d, %v, an imported customer names %d", revision.Sequence, err, e.Event.Data.Customer.ProfileRevision)
	}
}
