package provider_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/commands"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
	"github.com/paykit-go/paykit/internal/provider"
)

// handler takes commands in, until the test ends or the returned function is called, also those that were left in the queue.
func (w *world) handler() (h *commands.Handler, stop func()) {
	w.t.Helper()
	h = commands.New(w.log, commands.Config{Providers: []string{stripeID}, Logger: zerolog.New(w.logs), Now: w.now})
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- commands.ConsumeQueue(ctx, h) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			w.t.Errorf("the queue ended with %v", err)
		}
		h.Close()
	})
	w.t.Cleanup(stop)
	return h, stop
}

// execute carries a command out and answers the id of what it is about.
func (w *world) execute(h *commands.Handler, verb, key, body string) string {
	w.t.Helper()
	result, err := h.Execute(w.t.Context(), verb, []byte(body), commands.Meta{IdempotencyKey: key})
	var about struct {
		ID string `json:"id"`
	}
	if err == nil {
		err = json.Unmarshal(result.Body, &about)
	}
	if err != nil {
		w.t.Fatalf("%s: %v", verb, err)
	}
	return about.ID
}

// later moves the clocks of the worker and of the provider on: after more than a day it knows no key any more.
func (w *world) later(d time.Duration) {
	w.t.Helper()
	w.advance(d)
	w.control("/_sandbox/clock/advance", fmt.Sprintf(`{"by":%q}`, d))
}

// backup makes a backup.
func (w *world) backup() []byte {
	w.t.Helper()
	var file bytes.Buffer
	if _, _, err := eventlog.Backup(w.t.Context(), w.log.Conn(), eventlog.Config{Now: w.now}, &file, nil); err != nil {
		w.t.Fatal(err)
	}
	return file.Bytes()
}

// restore goes on with an empty server that a backup is restored into.
func (w *world) restore(file []byte) {
	w.t.Helper()
	w.server = eventlogtest.Start(w.t)
	nc := w.server.Conn(w.t)
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(file)), nil }
	if _, err := eventlog.Restore(w.t.Context(), nc, eventlog.Config{Now: w.now}, open, nil); err != nil {
		w.t.Fatal(err)
	}
	if _, err := eventlog.Provision(w.t.Context(), nc, eventlog.Config{}); err != nil { // as every deployment does
		w.t.Fatal(err)
	}
	l, err := eventlog.Open(w.t.Context(), nc, eventlog.Config{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.log = l
}

// What was done between a backup and its restore is not in the LOG, and the provider has forgotten its keys. Whoever asks for
// it again, or has left it in the queue, gets what was made then: nothing is paid, refunded or made twice.
func TestNothingIsDoneTwiceAfterARestore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	stranger := w.person() // whom the provider does not know yet
	stopWorker := w.start()
	known := w.untilCharge(p.charge("").Event.Subject, events.ChargeStatusSucceeded)
	create := fmt.Sprintf(`{"customerId":%q,"providerId":"stripe","paymentMethodId":%q,"amount":4900,"description":"Pro plan"}`, p.ref.ID, p.meth)
	if ack, err := w.log.Conn().Request("paykit.cmd.charge.create", []byte(create), patience); err != nil || !bytes.Contains(ack.Data, []byte("PAYKIT_COMMANDS")) {
		t.Fatalf("%v, %v", ack, err)
	}
	file := w.backup()

	var queued, charge, refund, checkout, setup string
	// ask asks for all of it, and waits until it is done.
	ask := func() {
		h, stop := w.handler()
		defer stop()
		charge = w.execute(h, "charge.create", "after", create)
		w.execute(h, "charge.refund", "ref1", fmt.Sprintf(`{"chargeId":%q,"amount":1000}`, known.ID))
		refund = events.RefundID(known.ID, "ref1")
		checkout = w.execute(h, "checkout.create", "page", fmt.Sprintf(`{"customerId":%q,"providerId":"stripe","amount":4900,"description":"Pro plan","successURL":"https://example.com/ok"}`, stranger.ref.ID))
		setup = w.execute(h, "payment_method.attach", "card", fmt.Sprintf(`{"customerId":%q,"providerId":"stripe","returnURL":"https://example.com/back"}`, stranger.ref.ID))
		w.untilCharge(charge, events.ChargeStatusSucceeded)
		w.until(events.EntityCharge, known.ID, refundIs(refund, events.RefundSucceeded))
		w.until(events.EntityCheckout, checkout, func(e *events.Event) bool { return e.Data.Checkout.ProviderSessionID != "" })
		w.until(events.EntitySetup, setup, func(e *events.Event) bool { return e.Data.Setup.ProviderSessionID != "" })
		w.eventually("the queued command is carried out", func() bool {
			list, err := w.log.Latest(t.Context(), events.EntityCharge, p.ref.ID)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range list {
				if id := e.Event.Subject; id != charge && id != known.ID {
					queued = id
					return e.Event.Data.Charge.Status == events.ChargeStatusSucceeded
				}
			}
			return false
		})
	}
	ask()
	stopWorker()
	before := []string{queued, charge, refund, checkout, setup}
	page := w.state(events.EntityCheckout, checkout).Data.Checkout.ProviderSessionID

	w.later(26 * time.Hour)
	w.restore(file)
	stopWorker = w.start()
	ask()
	if again := []string{queued, charge, refund, checkout, setup}; fmt.Sprint(again) != fmt.Sprint(before) {
		t.Errorf("the same commands are about %v, were about %v", again, before)
	}
	w.oneCapture(queued)
	w.oneCapture(charge)
	if got := w.payments(known.ID)[0].AmountRefunded; got != 1000 {
		t.Errorf("%d refunded, want 1000\n%s", got, w.logs)
	}
	var sessions, customers struct{ Data []struct{ ID string } }
	w.get("/v1/checkout/sessions", &sessions)
	w.get("/v1/customers", &customers)
	if len(sessions.Data) != 2 || len(customers.Data) != 2 || w.state(events.EntityCheckout, checkout).Data.Checkout.ProviderSessionID != page {
		t.Errorf("sessions %+v, of which the checkout had %s, customers %+v", sessions, page, customers)
	}

	// A backup of what was restored, restored once more, has forgotten both times; what is new is made all the same.
	stopWorker()
	again := w.backup()
	w.later(26 * time.Hour)
	w.restore(again)
	w.start()
	if n := len(w.log.Forgotten()); n != 2 {
		t.Errorf("%d times are forgotten", n)
	}
	made := w.untilCharge(p.charge("").Event.Subject, events.ChargeStatusSucceeded)
	w.oneCapture(made.ID)
	back := p.refund(made.ID)
	w.until(events.EntityCharge, made.ID, refundIs(back, events.RefundSucceeded))
}

// Every new customer may be one that was made in a time which a restore has forgotten, and the provider can only list all of
// that time: it is listed once, not for each customer, but for its end as long as more may come to it.
func TestForgottenCustomersAreListedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	known, other, lost := w.person(), w.person(), w.person()
	file := w.backup()
	stop := w.start()
	lost.checkout()
	account := w.until(events.EntityProviderAccount, lost.account(), func(*events.Event) bool { return true }).Data.ProviderAccount
	stop()
	w.later(26 * time.Hour)
	w.restore(file)
	lists := func(who *person) (n int) {
		t.Helper()
		w.called()
		checkout := who.checkout()
		w.until(events.EntityCheckout, checkout.Event.Subject, func(e *events.Event) bool { return e.Data.Checkout.ProviderSessionID != "" })
		for _, call := range w.called() {
			if call == "GET /v1/customers" {
				n++
			}
		}
		return n
	}
	stop = w.start()
	// 26 hours in slices of six, and the end of it.
	if n := lists(known); n != 6 {
		t.Errorf("the first customer lists %d times", n)
	}
	if n := lists(other); n != 1 {
		t.Errorf("the second customer lists %d times, want the end only", n)
	}
	w.later(20 * time.Minute)
	if n := lists(w.person()); n != 1 {
		t.Errorf("a customer of after the time is settled lists %d times, want the end only", n)
	}
	if n := lists(lost); n != 0 {
		t.Errorf("one that was made in that time lists %d times", n)
	}
	if n := lists(w.person()); n != 0 {
		t.Errorf("a new customer lists %d times", n)
	}
	if got := w.state(events.EntityProviderAccount, lost.account()).Data.ProviderAccount.ProviderCustomerID; got != account.ProviderCustomerID {
		t.Errorf("the customer got account %s, had %s", got, account.ProviderCustomerID)
	}
	var customers struct{ Data []struct{ ID string } }
	w.get("/v1/customers", &customers)
	if len(customers.Data) != 6 {
		t.Errorf("%d customers, want %s, the lost one and four more", len(customers.Data), p.cus)
	}
	stop()
}

// What can't be remembered is asked for: of too many customers none is remembered, and a reading that breaks off goes on where
// it was.
func TestPastCustomers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made := provider.Span{Since: w.now()}
	var first string
	owner := func(name string) events.Owner {
		return events.Owner{Env: w.log.Env(), Customer: events.CustomerID(name)}
	}
	for i, name := range []string{"ann", "ann", "bob"} {
		id, err := w.api.CreateCustomer(t.Context(), fmt.Sprint("key", i), owner(name))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = id
		}
		w.later(7 * time.Hour)
	}
	made.Until = w.now()
	w.later(time.Hour)
	for _, tt := range []struct {
		name, whose   string
		most, breakAt int
		want, lists   int
	}{
		{"of several the first", "ann", 100, 0, 3, 4},
		{"in a later slice", "bob", 100, 0, 3, 4},
		{"nobody's", "eve", 100, 0, 0, 4},
		{"too many", "ann", 1, 0, 3, 2 + 3},
		{"broken off", "ann", 100, 3, 2, 5},
	} {
		past := provider.RememberPast(w.api, tt.most, w.now)
		ctx, cancel := context.WithCancel(t.Context())
		lists := 0
		w.called()
		stop := func(*http.Request) {
			if lists++; lists == tt.breakAt {
				cancel()
			}
		}
		w.meddle.Store(&stop)
		got := 0
		for i := range 3 {
			if i > 0 {
				ctx = t.Context()
			}
			id, err := past(ctx, owner(tt.whose), made)
			if err != nil && (tt.breakAt == 0 || i > 0) {
				t.Errorf("%s: %v", tt.name, err)
			}
			if id != "" {
				got++
			}
			if tt.whose == "ann" && id != "" && id != first {
				t.Errorf("%s: %s, want %s", tt.name, id, first)
			}
		}
		cancel()
		n := len(w.called())
		if tt.breakAt > 0 && n == tt.lists-1 {
			n++ // its answer was there before it was broken off: then none is asked for again
		}
		if n != tt.lists || got != tt.want {
			t.Errorf("%s: found %d times with %d lists, want %d and %d", tt.name, got, n, tt.want, tt.lists)
		}
	}
}
