package virtualtime_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
	"github.com/paykit-go/paykit/internal/provider/stripe"
)

// The provider forgets idempotency keys after 24 hours. A worker that was cut off in a call, and another that comes a day
// later: no second payment, and money is taken once.
func TestKeyExpires(t *testing.T) { //nolint:paralleltest // see eventlogtest.Virtual
	for _, operation := range []string{"payment_intents.create", "payment_intents.confirm"} {
		t.Run(operation, func(t *testing.T) {
			inVirtualTime(t, func(w *world) {
				b := w.buyer("4242424242424242")
				w.closed.Store(true) // no delivery helps
				w.control("/_sandbox/faults", `{"operation":"`+operation+`","kind":"delay","when":"after","delay":"10m"}`)
				stop := w.worker()
				id := w.charge(b, "")
				w.within(time.Minute, "the call is carried out", func() bool {
					var list struct{ Faults []struct{ Hits int } }
					w.get("/_sandbox/faults", &list)
					return len(list.Faults) == 1 && list.Faults[0].Hits == 1
				})
				stop()
				w.pass(25 * time.Hour)
				w.worker()
				w.until(time.Hour, id, events.ChargeStatusSucceeded)
				w.ended(id, 1)
			})
		})
	}
}

// Stripe delivers for three days. A page is paid while we are away; what tells of it comes three days late and twice, and
// leads to each event once.
func TestDeliveriesThreeDaysLate(t *testing.T) { //nolint:paralleltest // see eventlogtest.Virtual
	inVirtualTime(t, func(w *world) {
		b := w.buyer("4242424242424242")
		stop := w.worker()
		var c events.Checkout
		w.execute("checkout.create", `{"providerId":"stripe","customerId":"`+b.id+`","amount":4900,"currency":"usd",
			"description":"Pro plan","successURL":"https://example.com/ok","attachMethod":true}`, &c)
		w.within(time.Minute, "the page is there", func() bool {
			c = *w.state(events.EntityCheckout, c.ID).Data.Checkout
			return c.ProviderSessionID != ""
		})
		stop()
		w.closed.Store(true)
		before := w.last()
		w.control("/_sandbox/checkout/"+c.ProviderSessionID+"/complete", `{"card":"4242424242424242"}`)
		w.pass(3 * day)
		if got := w.types(before + 1); len(got) > 0 {
			t.Fatalf("told by nobody: %v", got)
		}
		w.normalizer()
		for range 2 {
			w.deliverAll()
		}
		charge := events.CheckoutChargeID(c.ID)
		w.until(time.Minute, charge, events.ChargeStatusSucceeded)
		w.pass(time.Minute)
		got := w.types(before + 1)
		slices.Sort(got)
		if want := []events.Type{events.ChargeSucceeded, events.CheckoutCompleted, events.PaymentMethodAttached}; !slices.Equal(got, want) {
			t.Errorf("events %v, want %v", got, want)
		}
		w.worker() // and what it asks about changes nothing
		w.pass(10 * time.Minute)
		if n := len(w.types(before + 1)); n != 3 {
			t.Errorf("%d events after the worker has looked", n)
		}
		w.ended(charge, 1)
	})
}

// deliverAll delivers everything that ever happened at the provider, signed now.
func (w *world) deliverAll() {
	w.t.Helper()
	hooks, err := stripe.NewWebhooks([]string{w.secret})
	if err != nil {
		w.t.Fatal(err)
	}
	door := provider.NewDoor(w.log, map[string]provider.Webhooks{stripeID: hooks}, provider.DoorConfig{Logger: zerolog.New(w.logs)})
	var list struct{ Data []json.RawMessage }
	w.get("/v1/events?limit=100", &list)
	for _, body := range slices.Backward(list.Data) {
		at := time.Now().Unix()
		mac := hmac.New(sha256.New, []byte(w.secret))
		fmt.Fprintf(mac, "%d.%s", at, body)
		req := httptest.NewRequestWithContext(w.t.Context(), http.MethodPost, "/webhooks/stripe", bytes.NewReader(body))
		req.Header.Set("Stripe-Signature", fmt.Sprintf("t=%d,v1=%x", at, mac.Sum(nil)))
		rec := httptest.NewRecorder()
		door.ServeHTTP(rec, req)
		if rec.Code != http.StatusOK {
			w.t.Fatalf("the door answers %d %s", rec.Code, rec.Body)
		}
	}
}

// The buyer does not come to authenticate: after a day the link is no way to pay any more, the charge is canceled, and the
// payment with it.
func TestAuthenticationLinkExpires(t *testing.T) { //nolint:paralleltest // see eventlogtest.Virtual
	inVirtualTime(t, func(w *world) {
		b := w.buyer("4000002760003184")
		w.closed.Store(true)
		stop := w.worker()
		id := w.charge(b, `,"returnURL":"https://example.com/back"`)
		c := w.until(time.Minute, id, events.ChargeStatusRequiresAction)
		if left := time.Until(c.Action.ExpiresAt); left < 23*time.Hour || left > 25*time.Hour {
			t.Errorf("the link holds for %s", left)
		}
		stop()
		w.pass(23 * time.Hour)
		stop = w.worker()
		w.pass(10 * time.Minute)
		if now := w.chargeState(id); now.Status != events.ChargeStatusRequiresAction {
			t.Errorf("after 23 hours it is %s", now.Status)
		}
		w.pass(time.Until(c.Action.ExpiresAt))
		c = w.until(2*time.Hour, id, events.ChargeStatusCanceled)
		if c.Failure == nil || c.Failure.Code != events.FailureActionExpired {
			t.Errorf("failure %+v", c.Failure)
		}
		stop()
		w.ended(id, 0)
	})
}

// Nobody knows what became of a confirm, and the provider can't be asked for more than a day: a person is asked to look, no
// money is taken again, and the answer is taken in when there is one.
func TestInDoubtForMoreThanADay(t *testing.T) { //nolint:paralleltest // see eventlogtest.Virtual
	inVirtualTime(t, func(w *world) {
		b := w.buyer("4242424242424242")
		w.closed.Store(true)
		w.silent.Store(true)
		w.control("/_sandbox/faults", `{"operation":"payment_intents.confirm","kind":"drop","when":"after"}`)
		stop := w.worker()
		id := w.charge(b, "")
		w.until(time.Minute, id, events.ChargeStatusInDoubt)
		stop()
		w.pass(25 * time.Hour)
		stop = w.worker()
		w.within(2*time.Hour, "a person is asked to look", func() bool { return w.chargeState(id).Review != nil })
		if c := w.chargeState(id); c.Status != events.ChargeStatusInDoubt {
			t.Errorf("it is %s", c.Status)
		}
		w.silent.Store(false)
		c := w.until(2*time.Hour, id, events.ChargeStatusSucceeded)
		if c.Review != nil {
			t.Errorf("still to be looked at: %+v", c.Review)
		}
		stop()
		w.ended(id, 1)
	})
}

// A report whose owner is not known waits for a day: known in time, it is taken in; later, it is let go. A day in which nobody
// looked does not count.
func TestParkedForADay(t *testing.T) { //nolint:paralleltest // see eventlogtest.Virtual
	for _, tt := range []struct {
		name  string
		after time.Duration
		still bool // the normalizer does not run in between
		want  int64
	}{
		{"known in time", 23 * time.Hour, true, 900},
		{"known after a standstill", 25 * time.Hour, true, 900},
		{"too late", 28 * time.Hour, false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inVirtualTime(t, func(w *world) {
				b := w.buyer("4242424242424242")
				w.store("evt_refund", `"refund.created"`, `{"id":"re_1","object":"refund","amount":900,"currency":"usd","status":"succeeded",
					"charge":"ch_1","payment_intent":"pi_1","metadata":{}}`)
				stop := w.normalizer()
				w.pass(time.Minute)
				if tt.still {
					stop()
				}
				w.pass(tt.after - time.Minute)
				if tt.still {
					w.normalizer()
				}
				w.pass(time.Minute)
				cus := w.state(events.EntityProviderAccount, events.ProviderAccountID(b.id, stripeID)).Data.ProviderAccount.ProviderCustomerID
				w.store("evt_charge", `"charge.succeeded"`, `{"id":"ch_1","object":"charge","amount":4900,"amount_captured":4900,"captured":true,
					"currency":"usd","customer":"`+cus+`","payment_intent":"pi_1","paid":true,"status":"succeeded","metadata":{}}`)
				w.pass(2 * time.Hour) // the longest that a parked one waits, and more
				c := w.chargeState(events.ReportedChargeID(stripeID, "pi_1", "ch_1"))
				if c.Status != events.ChargeStatusSucceeded || c.AmountRefunded != tt.want {
					t.Errorf("charge %+v, want %d refunded", c, tt.want)
				}
			})
		})
	}
}

// store puts a delivery into the INBOX.
func (w *world) store(id, typ, object string) {
	w.t.Helper()
	body := fmt.Sprintf(`{"id":%q,"object":"event","api_version":"2023-10-16","created":%d,"type":%s,"data":{"object":%s}}`,
		id, time.Now().Unix(), typ, object)
	d, err := (&stripe.Webhooks{}).Decode([]byte(body))
	if err == nil {
		_, err = provider.StoreDelivery(w.t.Context(), w.log, stripeID, d, []byte(body))
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// A card that declines climbs a ladder of an hour, a day and three days: each attempt when it is due, none after the last.
func TestLadderOfDays(t *testing.T) { //nolint:paralleltest // see eventlogtest.Virtual
	inVirtualTime(t, func(w *world) {
		b := w.buyer("4000000000000341")
		w.closed.Store(true)
		id := events.ChargeID("ladder")
		began := time.Now()
		customer := w.state(events.EntityCustomer, b.id).Data.Customer.Ref()
		_, _, err := w.log.Update(w.t.Context(), events.EntityCharge, id, func(last *events.Event) (*events.Event, error) {
			return events.DecideCharge(last, events.CreateCharge{
				ID: id, ProviderID: stripeID, PaymentMethodID: b.method, Amount: 4900, Currency: "usd", Description: "Pro plan",
				CommandDigest: "sha256:x", Retry: &events.RetrySchedule{Name: "days", Delays: []time.Duration{time.Hour, day, 3 * day}},
			}, events.Cause{Now: time.Now(), Source: provider.SourceIngest, Customer: customer, CommandID: events.CommandID("charge.create", id)})
		})
		if err != nil {
			t.Fatal(err)
		}
		due := began
		for n, wait := range []time.Duration{0, time.Hour, day, 3 * day} {
			// Before it is due nobody works, so that the days are short; the last hour somebody does, and must not be early.
			if early := time.Until(due.Add(wait)) - 20*time.Minute; early > 0 {
				w.pass(early)
			}
			stop := w.worker()
			w.within(3*time.Hour, fmt.Sprintf("attempt %d", n+1), func() bool {
				r := w.chargeState(id).Retry
				return r != nil && len(r.Attempts) == n+1 && r.Attempts[n].Failure != nil
			})
			at := w.chargeState(id).Retry.Attempts[n].At
			if early := at.Sub(due); early < wait {
				t.Errorf("attempt %d came after %s, want %s", n+1, early, wait)
			}
			due = w.chargeState(id).Retry.Attempts[n].At
			stop()
		}
		w.worker()
		w.pass(3 * time.Hour)
		c := w.chargeState(id)
		if c.Status != events.ChargeStatusFailed || c.Retry.Status != events.RetryEnded || len(c.Retry.Attempts) != 4 {
			t.Errorf("%s after %d attempts, the ladder is %s", c.Status, len(c.Retry.Attempts), c.Retry.Status)
		}
		w.ended(id, 0)
	})
}
