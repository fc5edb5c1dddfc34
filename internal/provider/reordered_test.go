package provider_test

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"testing"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/provider"
)

var createdAt = regexp.MustCompile(`"created":\d+,"livemode"`)

// madeAt gives a delivery the time at which the provider made it.
func madeAt(body string, second int) string {
	return createdAt.ReplaceAllString(body, fmt.Sprintf(`"created":%d,"livemode"`, 1_700_000_000+second))
}

// A card's deliveries in every order leave the card as the provider reported it last, and detached if it was.
func TestCardDeliveriesInAnyOrder(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{})
	expires := func(year int) fields {
		return fields{"card": fields{"brand": "visa", "last4": "4242", "exp_month": 12, "exp_year": year, "fingerprint": "fp"}}
	}
	for _, detached := range []bool{false, true} {
		n := 3
		if detached {
			n = 4
		}
		var orders [][]int
		permute(n, func(order []int) { orders = append(orders, append([]int{}, order...)) })
		for _, order := range orders {
			b := in.buyer()
			bodies := []string{
				madeAt(b.event("payment_method.attached", b.method(expires(2030))), 0),
				madeAt(b.event("payment_method.automatically_updated", b.method(expires(2031))), 10),
				madeAt(b.event("payment_method.automatically_updated", b.method(expires(2032))), 20),
				madeAt(b.detached(), 30),
			}
			for _, i := range order {
				in.deliver(bodies[i])
			}
			m := in.state(events.EntityPaymentMethod, events.PaymentMethodID(stripeID, "pm_"+b.n)).Data.PaymentMethod
			if m.Live() == detached || !detached && m.ExpiryYear != 2032 {
				t.Errorf("in the order %v it expires %d, live %v", order, m.ExpiryYear, m.Live())
			}
		}
	}
}

func permute(n int, do func([]int)) {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	var at func(k int)
	at = func(k int) {
		if k == n {
			do(list)
			return
		}
		for i := k; i < n; i++ {
			list[k], list[i] = list[i], list[k]
			at(k + 1)
			list[k], list[i] = list[i], list[k]
		}
	}
	at(0)
}

// claiming is a log in which, right before a link is written, an operator's decision has written another.
type claiming struct {
	*eventlog.Log
	claim eventlog.Link
}

func (c claiming) PutLink(ctx context.Context, providerID, objectID string, k eventlog.Link) error {
	if err := c.Log.PutLink(ctx, providerID, objectID, c.claim); err != nil {
		return err
	}
	return c.Log.PutLink(ctx, providerID, objectID, k)
}

// An operator names a payment as a charge's at the very moment in which its delivery would begin a charge of its own: it is
// one charge, not two.
func TestPaymentClaimedAtTheSameMoment(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{asleep: true})
	b := in.buyer().charge("")
	log := claiming{in.log, eventlog.Link{Entity: events.EntityCharge, ID: b.chargeID, CustomerID: b.ref.ID}}
	a := provider.NewApplier(log, provider.ApplierConfig{Source: provider.SourceIngest})
	seen := provider.PaymentSeen{Payment: events.Payment{
		ID: "pi_else", ChargeID: "ch_else", ProviderCustomerID: b.cus, Status: events.PaymentSucceeded, Amount: 4900, Currency: "usd",
	}}
	if got, err := a.Observe(t.Context(), stripeID, seen, "evt_1"); err == nil {
		t.Fatalf("it began a charge of its own: %+v", got)
	}
	got, err := a.Observe(t.Context(), stripeID, seen, "evt_1")
	if err != nil || got.Entry.Event.Subject != b.chargeID || got.Entry.Event.Data.Charge.Status != events.ChargeStatusSucceeded {
		t.Errorf("applied again: %+v, %v", got, err)
	}
	if e := in.state(events.EntityCharge, events.ReportedChargeID(stripeID, "pi_else", "ch_else")); e != nil {
		t.Errorf("one payment is two charges: %+v", e)
	}
}

// A charge in doubt that another payment paid leaves its own payment payable at the provider: settling cancels it.
func TestSupersededPaymentIsCanceled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	id, doubt := w.doubtful(p)
	pi := doubt.Event.Data.Charge.ProviderPaymentID
	var other struct {
		ID string `json:"id"`
	}
	w.post("/v1/payment_intents", url.Values{
		"amount": {"1000"}, "currency": {"usd"}, "customer": {p.cus}, "payment_method": {p.pm}, "confirm": {"true"}, "off_session": {"true"}, "payment_method_types[]": {"card"},
	}, &other)
	p.updateCharge(id, events.ResolveCharge{Outcome: events.ChargeStatusSucceeded, Operator: "anna", Reason: "paid by hand", ProviderPaymentID: other.ID})
	if c := w.last(id, events.ChargeStatusSucceeded).Event.Data.Charge; c.SupersededPaymentID != pi || c.ProviderPaymentID != other.ID {
		t.Fatalf("the charge is %+v", c)
	}
	w.fault(`{"operation":"payment_intents.cancel","times":1,"kind":"status","status":500}`)
	worker := w.worker()
	if got := worker.Settle(t.Context(), w.message(doubt, 9)); got == eventlog.Done() {
		t.Errorf("a cancel that failed was let go: %+v", got)
	}
	if got := worker.Settle(t.Context(), w.message(doubt, 10)); got != eventlog.Done() {
		t.Errorf("it goes on: %+v\n%s", got, w.logs)
	}
	if got := w.payments(id)[0]; got.ID != pi || got.Status != "canceled" {
		t.Errorf("its own payment is %+v", got)
	}
	w.called()
	if got := worker.Settle(t.Context(), w.message(doubt, 11)); got != eventlog.Done() || w.made("/v1/payment_intents/"+pi+"/cancel") != 0 {
		t.Errorf("canceled again: %+v", got)
	}
}
