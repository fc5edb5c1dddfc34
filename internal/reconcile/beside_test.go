package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/provider"
	"github.com/paykit-go/paykit/internal/provider/stripe"
	"github.com/paykit-go/paykit/internal/reconcile"
)

// processes runs the door with the sandbox's deliveries, a normalizer, a worker, and one repair after the other, until the
// test ends. It tells how much was repaired.
func (w *world) processes() *atomic.Int64 {
	w.Helper()
	const secret = "whsec_beside" //nolint:gosec // G101: the sandbox's
	hooks, err := stripe.NewWebhooks([]string{secret})
	if err != nil {
		w.Fatal(err)
	}
	webhooks := map[string]provider.Webhooks{stripeID: hooks}
	door := httptest.NewServer(provider.NewDoor(w.log, webhooks, provider.DoorConfig{Logger: zerolog.Nop()}))
	w.Cleanup(door.Close)
	w.box.AddWebhookEndpoint(door.URL+"/webhooks/stripe", secret, "*")

	repaired := &atomic.Int64{}
	normalizer := provider.NewNormalizer(w.log, webhooks, provider.NormalizerConfig{Logger: zerolog.Nop()})
	worker := provider.NewWorker(w.log, map[string]provider.API{stripeID: w.api}, provider.WorkerConfig{Logger: zerolog.Nop()})
	repair := func(ctx context.Context) error {
		for ctx.Err() == nil {
			r, err := reconcile.Run(ctx, w.log, w.api, reconcile.Options{ProviderID: stripeID, Fix: true})
			if err != nil && ctx.Err() == nil {
				return err
			}
			if err == nil {
				repaired.Add(int64(r.Repaired))
			}
		}
		return nil
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(w.Context()))
	ended := make(chan error)
	parts := []func(context.Context) error{w.box.Run, normalizer.Run, worker.Run, repair}
	for _, run := range parts {
		go func() { ended <- run(ctx) }()
	}
	w.Cleanup(func() {
		stop()
		for range parts {
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				w.Errorf("a process ended with %v", err)
			}
		}
	})
	return repaired
}

// count counts the events of one type.
func (w *world) count(kind events.Type) (n int) {
	w.Helper()
	list, err := w.log.History(w.Context(), eventlog.HistoryFilter{}, 1, 100_000)
	if err != nil {
		w.Fatal(err)
	}
	for _, e := range list {
		if e.Event.Type == kind {
			n++
		}
	}
	return n
}

// A repair runs beside a worker and a normalizer that hear of the same things at the same time, each twice: whoever is first,
// each happening is one event.
func TestFixBesideTheProcesses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, other := w.linked("pm_card_visa"), w.linked("pm_card_mastercard")
	repaired := w.processes()
	w.control(http.MethodPost, "/_sandbox/webhooks", `{"copies":2,"delay":"50ms"}`)
	charges, refunds := 0, 0
	round := func() {
		for _, one := range []*buyer{b, other} {
			asked := one.asked()
			w.post("/v1/refunds", "payment_intent", one.paid(one.cus, 1500), "amount", "400")
			w.until("the charge succeeds", func() bool { return w.event(asked).Data.Charge.Status == events.ChargeStatusSucceeded })
			w.post("/v1/refunds", "payment_intent", w.event(asked).Data.Charge.ProviderPaymentID, "amount", "900")
			charges, refunds = charges+2, refunds+2
		}
	}
	// Until each of the two was the first now and then.
	w.until("both the repair and the normalizer bring news", func() bool {
		round()
		return charges >= 16 && repaired.Load() > 2 && w.bySource(provider.SourceIngest) > 2
	})
	w.until("all of it is in the log", func() bool {
		return w.count(events.ChargeSucceeded) >= charges && w.count(events.ChargeRefunded) >= refunds
	})
	r := w.compare(reconcile.Options{})
	if got := fmt.Sprint(w.count(events.ChargeSucceeded), w.count(events.ChargeRefunded)); !r.OK || got != fmt.Sprint(charges, refunds) {
		t.Errorf("%s charges and refunds in the log, want %d and %d; then %+v", got, charges, refunds, r)
	}
	w.verified()
}

// bySource counts the successes that a process told of.
func (w *world) bySource(source string) (n int) {
	w.Helper()
	list, err := w.log.History(w.Context(), eventlog.HistoryFilter{Entity: events.EntityCharge}, 1, 100_000)
	if err != nil {
		w.Fatal(err)
	}
	for _, e := range list {
		if e.Event.Source == source && (e.Event.Type == events.ChargeSucceeded || e.Event.Type == events.ChargeRefunded) {
			n++
		}
	}
	return n
}
