package provider_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// A provider keeps a 500 under its key and gives it again for a day, whether the call was carried out or not. No request
// is stuck on it.

// both are the two kinds of such a fault of an operation.
func both(operation string) map[string]string {
	return map[string]string{
		"carried out":     `{"operation":"` + operation + `","kind":"status","when":"after"}`,
		"not carried out": `{"operation":"` + operation + `","kind":"status","stored":true}`,
	}
}

// What was made is found; what was not is made under another key, and nothing is made twice.
func TestStored500OfMaking(t *testing.T) {
	t.Parallel()
	for _, operation := range []string{"customers.create", "checkout_sessions.create"} {
		for name, fault := range both(operation) {
			t.Run(operation+" "+name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				p := w.person()
				w.fault(fault)
				w.start()
				c := w.until(events.EntityCheckout, p.checkout().Event.Subject, checkoutIs(events.StateCreated)).Data.Checkout
				var sessions, customers struct{ Data []struct{ ID string } }
				w.get("/v1/checkout/sessions", &sessions)
				if len(sessions.Data) != 1 || sessions.Data[0].ID != c.ProviderSessionID {
					t.Errorf("sessions %+v, the checkout has %s", sessions, c.ProviderSessionID)
				}
				w.get("/v1/customers", &customers)
				if len(customers.Data) != 1 {
					t.Errorf("customers %+v", customers)
				}
			})
		}
	}
}

// A customer that another request made under the same key, long before this one, is found too.
func TestStored500OfAnEarlierRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.person()
	w.fault(`{"operation":"customers.create","kind":"status","when":"after"}`)
	worker := w.worker()
	worker.CarryOut(t.Context(), w.message(p.checkout(), 1))
	w.advance(3 * time.Hour)
	w.control("/_sandbox/clock/advance", `{"by":"3h"}`)
	e := p.checkout()
	for attempt := 1; worker.CarryOut(t.Context(), w.message(e, attempt)) != eventlog.Done(); attempt++ {
		if attempt == 5 {
			t.Fatalf("never done\n%s", w.logs)
		}
	}
	var customers struct{ Data []struct{ ID string } }
	w.get("/v1/customers", &customers)
	if len(customers.Data) != 1 {
		t.Errorf("customers %+v", customers)
	}
}

// What sets a state is set again under another key.
func TestStored500OfSetting(t *testing.T) {
	t.Parallel()
	live := func(w *world, id string) *events.PaymentMethod {
		return w.state(events.EntityPaymentMethod, id).Data.PaymentMethod
	}
	for _, tt := range []struct {
		operation string
		ask       func(p *person)
		done      func(p *person) bool
	}{
		{"customers.update", func(p *person) { p.sync("ada@example.com", "Ada", nil) }, func(p *person) bool {
			return p.atProvider().Email == "ada@example.com"
		}},
		{"customers.update", func(p *person) { p.updateMethod(p.meth, events.SetDefaultMethod{}) }, func(p *person) bool {
			return live(p.w, p.meth).DefaultSettled() && p.atProvider().Invoice.Default == p.pm
		}},
		{"payment_methods.detach", func(p *person) { p.updateMethod(p.meth, events.DetachMethod{}) }, func(p *person) bool {
			var m struct{ Customer *string }
			p.w.get("/v1/payment_methods/"+p.pm, &m)
			return !live(p.w, p.meth).Live() && m.Customer == nil
		}},
		{"payment_intents.cancel", func(p *person) {
			id := p.charge("https://example.com/back").Event.Subject
			p.w.untilCharge(id, events.ChargeStatusRequiresAction)
			p.updateCharge(id, events.CancelCharge{})
			p.charged = id
		}, func(p *person) bool {
			list := p.w.payments(p.charged)
			return p.w.state(events.EntityCharge, p.charged).Data.Charge.Status == events.ChargeStatusCanceled && list[0].Status == "canceled"
		}},
	} {
		for name, fault := range both(tt.operation) {
			t.Run(tt.operation+" "+name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				p := w.buyer("pm_card_authenticationRequired")
				w.fault(fault)
				w.start()
				tt.ask(p)
				w.eventually("it is done", func() bool { return tt.done(p) })
			})
		}
	}
	for name, fault := range both("checkout_sessions.expire") {
		t.Run("checkout_sessions.expire "+name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.person()
			w.fault(fault)
			worker := w.worker()
			worker.LookAfter(time.Hour, time.Hour, 50*time.Millisecond) // so that only the request can do it
			w.run(worker)
			c := w.until(events.EntityCheckout, p.checkout().Event.Subject, checkoutIs(events.StateCreated)).Data.Checkout
			w.append(events.EntityCheckout, c.ID, p.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
				return events.DecideCheckout(last, events.ExpireCheckout{}, c)
			})
			w.until(events.EntityCheckout, c.ID, checkoutIs(events.StateExpired))
			if got := w.sessionStatus(c.ProviderSessionID); got != "expired" {
				t.Errorf("the page is %s", got)
			}
		})
	}
}

// The confirm with the buyer present is a step of its own.
func TestStored500OfAuthenticating(t *testing.T) {
	t.Parallel()
	for name, fault := range both("payment_intents.confirm") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.buyer("pm_card_authenticationRequired")
			w.fault(strings.Replace(fault, "{", `{"nth":2,`, 1))
			w.start()
			c := w.untilCharge(p.charge("https://example.com/back").Event.Subject, events.ChargeStatusRequiresAction)
			w.control("/_sandbox/3ds/"+c.ProviderPaymentID, `{"outcome":"complete"}`)
			w.untilCharge(c.ID, events.ChargeStatusSucceeded)
			w.oneCapture(c.ID)
		})
	}
}

// Between the question and the spent key's answer the payment is declined: the card is not tried a second time.
func TestStored500OfAConfirmThatIsOverByNow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	bad, _ := p.save("pm_card_chargeCustomerFail")
	w.fault(`{"operation":"payment_intents.confirm","kind":"status","stored":true}`)
	worker := w.worker()
	e := p.charge("")
	worker.CarryOut(t.Context(), w.message(e, 1))
	doubt, err := w.log.LoadFromLeader(t.Context(), events.EntityCharge, e.Event.Subject)
	if err != nil {
		t.Fatal(err)
	}
	confirm := "/v1/payment_intents/" + doubt.Event.Data.Charge.ProviderPaymentID + "/confirm"
	meddle := func(r *http.Request) {
		if r.URL.Path != confirm {
			return
		}
		w.meddle.Store(nil)
		body := url.Values{"payment_method": {bad}, "off_session": {"true"}}.Encode()
		status, text, err := w.send(http.MethodPost, confirm, "application/x-www-form-urlencoded", strings.NewReader(body))
		if err != nil || status != http.StatusPaymentRequired {
			t.Errorf("not declined: %d %s %v", status, text, err)
		}
	}
	w.meddle.Store(&meddle)
	worker.Settle(t.Context(), w.message(doubt, 2))
	c := w.untilCharge(e.Event.Subject, events.ChargeStatusFailed)
	if got := w.payments(c.ID); len(got) != 1 || got[0].Captures != 0 {
		t.Errorf("ledger is %+v", got)
	}
}

// A confirm whose 500 is kept, of a payment that was canceled or cancel-requested meanwhile, is not sent under another key.
func TestStored500OfAConfirmThatIsNoLongerWanted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	w.fault(`{"operation":"payment_intents.confirm","kind":"status","stored":true}`)
	worker := w.worker()
	e := p.charge("")
	worker.CarryOut(t.Context(), w.message(e, 1))
	doubt, err := w.log.LoadFromLeader(t.Context(), events.EntityCharge, e.Event.Subject)
	if err != nil || doubt.Event.Data.Charge.Status != events.ChargeStatusInDoubt {
		t.Fatalf("the charge is %+v, %v", doubt.Event, err)
	}
	p.updateCharge(e.Event.Subject, events.CancelCharge{})
	worker.Settle(t.Context(), w.message(doubt, 2))
	w.untilCharge(e.Event.Subject, events.ChargeStatusCanceled)
	if got := w.payments(e.Event.Subject); len(got) != 1 || got[0].Captures != 0 || got[0].Status != "canceled" {
		t.Errorf("ledger is %+v", got)
	}
}

// A refund that was made all the same is found by the request itself.
func TestStored500OfARefundThatWasMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	stop := w.start()
	c := p.paid()
	stop()
	w.fault(`{"operation":"refunds.create","kind":"status","when":"after"}`)
	id := p.refund(c.ID)
	requested, err := w.log.LoadFromLeader(t.Context(), events.EntityCharge, c.ID)
	if err != nil {
		t.Fatal(err)
	}
	worker := w.worker()
	worker.CarryOut(t.Context(), w.message(requested, 1))
	if got := worker.CarryOut(t.Context(), w.message(requested, 2)); got != eventlog.Done() {
		t.Errorf("%+v\n%s", got, w.logs)
	}
	if r := w.state(events.EntityCharge, c.ID).Data.Charge.Refund(id); r.Status != events.RefundSucceeded {
		t.Errorf("the refund is %+v", r)
	}
}

// A refund is the one thing that another key could do twice: it waits until the provider has forgotten the first.
func TestStored500OfARefund(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	stop := w.start()
	c := p.paid()
	stop()
	w.fault(`{"operation":"refunds.create","kind":"status","stored":true}`)
	id := p.refund(c.ID)
	requested, err := w.log.LoadFromLeader(t.Context(), events.EntityCharge, c.ID)
	if err != nil {
		t.Fatal(err)
	}
	worker := w.worker()
	w.called()
	for attempt := 1; attempt <= 4; attempt++ {
		worker.CarryOut(t.Context(), w.message(requested, attempt))
	}
	keys := map[string]bool{}
	for _, call := range w.called() {
		if key, ok := strings.CutPrefix(call, http.MethodPost+" /v1/refunds "); ok {
			keys[key] = true
		}
	}
	if len(keys) != 1 || w.payments(c.ID)[0].AmountRefunded != 0 {
		t.Errorf("asked under %v; ledger is %+v", keys, w.payments(c.ID))
	}
	w.advance(25 * time.Hour)
	w.control("/_sandbox/clock/advance", `{"by":"25h"}`)
	w.start()
	w.until(events.EntityCharge, c.ID, refundIs(id, events.RefundSucceeded))
	if got := w.payments(c.ID)[0].AmountRefunded; got != 1000 {
		t.Errorf("%d refunded at the provider", got)
	}
}
