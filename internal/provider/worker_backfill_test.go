package provider_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
	"github.com/paykit-go/paykit/internal/provider/stripe"
)

// Nothing was ever delivered; the provider's list brings it all, and the normalizer makes of it what it would have made
// of the deliveries.
func TestBackfillBringsWhatWasNeverDelivered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	worker := w.worker()
	ctx := t.Context()
	// A payment made in the provider's dashboard: nobody asks for it, only its delivery tells.
	var made struct {
		ID string `json:"id"`
	}
	w.post("/v1/payment_intents", map[string][]string{
		"amount": {"1500"}, "currency": {"usd"}, "customer": {p.cus}, "payment_method": {p.pm}, "confirm": {"true"}, "off_session": {"true"},
		"payment_method_types[]": {"card"},
	}, &made)
	if err := worker.Backfill(ctx); err != nil {
		t.Fatal(err)
	}
	stored := w.inbox()
	if stored == 0 {
		t.Fatal("nothing was stored")
	}
	n := provider.NewNormalizer(w.log, map[string]provider.Webhooks{stripeID: &stripe.Webhooks{}}, provider.NormalizerConfig{Logger: zerolog.Nop()})
	w.runNormalizer(n)
	c := w.untilCharge(events.ReportedChargeID(stripeID, made.ID, ""), events.ChargeStatusSucceeded)
	if !c.ReportedByProvider || c.Amount != 1500 {
		t.Errorf("the charge is %+v", c)
	}

	// Read again, by this worker and by one that remembers nothing: nothing new is stored.
	for _, again := range []*provider.Worker{worker, w.worker()} {
		if err := again.Backfill(ctx); err != nil {
			t.Fatal(err)
		}
		if got := w.inbox(); got != stored {
			t.Errorf("%d deliveries are stored, before there were %d", got, stored)
		}
	}
	mark, err := w.log.BackfillMark(ctx, stripeID)
	if err != nil || time.Since(mark) > time.Minute {
		t.Errorf("mark is %v, %v", mark, err)
	}
}

// A deleted customer's deliveries are not fetched back after they were erased.
func TestBackfillLeavesTheDeletedAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	p.delete()
	if err := w.worker().Backfill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if holds(t, w.server.StoreDir, p.cus+`"`) && w.inbox() > 0 {
		t.Error("a deleted customer's delivery was fetched")
	}
	if got := w.inbox(); got != 0 {
		t.Errorf("%d deliveries were stored", got)
	}
}

// A run that ends early leaves the mark where it was, so that the next one reads the same again.
func TestBackfillIncompleteKeepsItsMark(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.buyer("pm_card_visa")
	w.fault(`{"operation":"events.list","kind":"status","status":500}`)
	if err := w.worker().Backfill(t.Context()); err == nil {
		t.Fatal("an unanswered list is no error")
	}
	if mark, err := w.log.BackfillMark(t.Context(), stripeID); err != nil || !mark.IsZero() {
		t.Errorf("mark is %v, %v", mark, err)
	}
	if err := w.worker().Backfill(t.Context()); err != nil || w.inbox() == 0 {
		t.Errorf("the next run: %v, %d stored", err, w.inbox())
	}
}

// A delivery that the storage can't take for its size does not hold up those behind it.
func TestBackfillGoesPastWhatIsTooLarge(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *server.Options) { o.MaxPayload = 16 << 10 })
	p := w.buyer("pm_card_visa")
	large := url.Values{"amount": {"1500"}, "currency": {"usd"}, "customer": {p.cus}}
	for i := range 40 {
		large.Set(fmt.Sprintf("metadata[key %d]", i), strings.Repeat("x", 500))
	}
	w.post("/v1/payment_intents", large, nil)
	w.post("/v1/customers/"+p.cus, url.Values{"name": {"Ada"}}, nil)
	worker := w.worker()
	if err := worker.Backfill(t.Context()); err != nil {
		t.Fatal(err)
	}
	var listed struct{ Data []struct{ ID string } }
	w.get("/v1/events", &listed)
	if got, want := w.inbox(), len(listed.Data)-1; got != want {
		t.Errorf("%d deliveries are stored, want %d", got, want)
	}
	if mark, err := w.log.BackfillMark(t.Context(), stripeID); err != nil || mark.IsZero() {
		t.Errorf("mark is %v, %v", mark, err)
	}
}

// listed is an API whose list of deliveries is this one, and remembers from when on it was asked for.
type listed struct {
	provider.API
	bodies []string
	since  time.Time
}

func (l *listed) ListDeliveries(_ context.Context, since time.Time, each func([]byte) error) error {
	l.since = since
	for _, body := range l.bodies {
		if err := each([]byte(body)); err != nil {
			return err
		}
	}
	return nil
}

// What could not be taken in or stored at one reading of the list is tried again at the next, for a day: the refund of a
// deleted customer's charge that was not known yet, and what was larger than NATS takes.
func TestBackfillComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *server.Options) { o.MaxPayload = 16 << 10 })
	p := w.buyer("pm_card_visa")
	id, pi := p.underWay()
	p.delete()
	made := w.now()
	event := func(id, typ, object string) string {
		return fmt.Sprintf(`{"id":%q,"object":"event","api_version":"2023-10-16","created":%d,"type":%q,"data":{"object":%s}}`, id, made.Unix(), typ, object)
	}
	refund := event("evt_refund", "refund.created", fmt.Sprintf(
		`{"id":"re_1","object":"refund","amount":900,"currency":"usd","status":"succeeded","payment_intent":%q}`, pi))
	product := func(description string) string {
		return event("evt_large", "product.created", `{"id":"prod_1","object":"product","description":"`+description+`"}`)
	}
	api := &listed{API: w.client(), bodies: []string{refund, product(strings.Repeat("x", 20_000))}}
	worker := provider.NewWorker(w.log, map[string]provider.API{stripeID: api}, provider.WorkerConfig{
		Webhooks: map[string]provider.Webhooks{stripeID: &stripe.Webhooks{}}, Logger: zerolog.New(w.logs), Now: w.now,
	})
	read := func() {
		t.Helper()
		if err := worker.Backfill(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	read()
	if n := w.inbox(); n != 0 {
		t.Fatalf("%d deliveries were stored", n)
	}
	for range 2 {
		w.advance(5 * time.Hour)
		read()
	}
	if n := w.inbox(); n != 0 {
		t.Fatalf("%d deliveries were stored", n)
	}
	w.advance(5 * time.Hour)
	p.updateCharge(id, events.PaymentObserved{Payment: events.Payment{ID: pi, Status: events.PaymentSucceeded}})
	api.bodies[1] = product("as if max_payload had been raised")
	read()
	if api.since.After(made) {
		t.Errorf("the list was read from %s on, the deliveries were made at %s", api.since, made)
	}
	if c := w.state(events.EntityCharge, id).Data.Charge; c.AmountRefunded != 900 || w.inbox() != 1 {
		t.Errorf("%d deliveries are stored, the charge is %+v", w.inbox(), c)
	}
	read()
	if ago := w.now().Sub(api.since); ago > 2*time.Hour {
		t.Errorf("the list is still read from %s ago on", ago)
	}
}

// Deliveries that had to be fetched while none came by itself raise an alarm after a while; one that came ends it.
func TestBackfillNoticesSilence(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	worker := w.worker()
	gauges := func(wantMissed, wantSilent float64) {
		t.Helper()
		if err := worker.Backfill(t.Context()); err != nil {
			t.Fatal(err)
		}
		in := &ingest{t: t, metrics: w.metrics}
		missed := in.counted("paykit_deliveries_missed_seconds", map[string]string{"provider": stripeID})
		silent := in.counted("paykit_deliveries_silent", map[string]string{"provider": stripeID})
		if missed < wantMissed || missed > wantMissed+60 || silent != wantSilent {
			t.Errorf("missed for %v s, silent %v; want %v, %v", missed, silent, wantMissed, wantSilent)
		}
	}
	pay := func() {
		t.Helper()
		w.post("/v1/payment_intents", url.Values{
			"amount": {"1500"}, "currency": {"usd"}, "customer": {p.cus}, "payment_method": {p.pm}, "confirm": {"true"}, "off_session": {"true"},
			"payment_method_types[]": {"card"},
		}, nil)
	}
	w.advance(20 * time.Minute)
	gauges(0, 0) // the first reading finds what was made before there was an endpoint
	w.advance(-20 * time.Minute)
	pay()
	gauges(0, 0) // it may be on its way
	pay()
	w.advance(2 * time.Minute)
	gauges(120, 0)
	w.advance(9 * time.Minute)
	gauges(660, 1)
	gauges(660, 1)

	pay()
	var listed struct{ Data []json.RawMessage }
	w.get("/v1/events", &listed)
	for _, body := range listed.Data[:3] {
		d, err := (&stripe.Webhooks{}).Decode(body)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := provider.StoreDelivery(t.Context(), w.log, stripeID, d, body); err != nil {
			t.Fatal(err)
		}
	}
	gauges(0, 0)
}
