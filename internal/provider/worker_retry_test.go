package provider_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/provider"
	"github.com/paykit-go/paykit/internal/provider/stripe"
)

// retryCharge asks for a charge with a ladder of short delays.
func (p *person) retryCharge(delays ...time.Duration) eventlog.Entry {
	p.w.t.Helper()
	id := events.ChargeID(fmt.Sprintf("charge %d", p.w.n.Add(1)))
	return p.w.append(events.EntityCharge, id, p.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecideCharge(last, events.CreateCharge{
			ID: id, ProviderID: stripeID, PaymentMethodID: p.meth, Amount: 4900, Currency: "usd", Description: "Pro plan",
			CommandDigest: events.Digest([]byte("x")), Retry: &events.RetrySchedule{Name: "test", Delays: delays},
		}, c)
	})
}

// declineNext has the next payments with the person's card declined.
func (p *person) declineNext(times int) {
	p.w.t.Helper()
	p.w.control("/_sandbox/payment_methods/"+p.pm+"/decline", fmt.Sprintf(`{"times":%d,"declineCode":"insufficient_funds"}`, times))
}

func retryIs(status events.RetryStatus) func(*events.Event) bool {
	return func(e *events.Event) bool { return e.Data.Charge.Retry != nil && e.Data.Charge.Retry.Status == status }
}

func (w *world) untilRetry(id string, status events.RetryStatus) *events.Charge {
	w.t.Helper()
	return w.until(events.EntityCharge, id, retryIs(status)).Data.Charge
}

// attemptsAtProvider counts the charges that were tried with a payment.
func (w *world) attemptsAtProvider(paymentID string) int {
	w.t.Helper()
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	w.get("/v1/charges?payment_intent="+paymentID, &list)
	return len(list.Data)
}

func (w *world) eventsOf(id string, want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.history(events.EntityCharge, id)); diff != "" {
		w.t.Errorf("events (-want +got)\n%s\n%s", diff, w.logs)
	}
}

const step = 300 * time.Millisecond

// A card that declines each time: every attempt is an event with a key of its own, and only after the last one the payment
// is canceled.
func TestRetryLadderIsExhausted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_chargeCustomerFail")
	w.called()
	worker := w.worker()
	worker.LookAfter(time.Hour, time.Hour, 50*time.Millisecond) // or a slow machine would look while the attempt is made
	w.run(worker)
	e := p.retryCharge(step, step)
	c := w.untilRetry(e.Event.Subject, events.RetryEnded)
	w.eventsOf(c.ID, "requested", "processing", "failed", "retry_requested", "failed", "retry_requested", "failed")
	w.eventually("the payment is canceled", func() bool { return w.payments(c.ID)[0].Status == "canceled" })
	charges := map[string]bool{}
	for i, a := range c.Retry.Attempts {
		if a.Number != i+1 || a.Failure == nil || a.Failure.DeclineCode != "generic_decline" || a.Failure.Message == "" || a.ProviderChargeID == "" {
			t.Errorf("attempt %d is %+v", i+1, a)
		}
		if i > 0 && a.At.Sub(c.Retry.Attempts[i-1].At) < step {
			t.Errorf("attempt %d came %s after the one before", i+1, a.At.Sub(c.Retry.Attempts[i-1].At))
		}
		charges[a.ProviderChargeID] = true
	}
	if len(charges) != 3 || w.attemptsAtProvider(c.ProviderPaymentID) != 3 || c.Status != events.ChargeStatusFailed {
		t.Errorf("charge is %+v with %+v", c, c.Retry)
	}
	var confirms []string
	canceled := false
	for _, call := range w.called() {
		canceled = canceled || strings.HasSuffix(strings.Fields(call)[1], "/cancel")
		if strings.HasSuffix(strings.Fields(call)[1], "/confirm") {
			confirms = append(confirms, strings.Fields(call)[2])
			if canceled {
				t.Error("confirmed after the payment was canceled")
			}
		}
	}
	key := "paykit:" + w.log.Env() + ":" + c.ID
	if diff := cmp.Diff([]string{key + ":confirm", key + ":retry:2", key + ":retry:3"}, confirms); diff != "" {
		t.Error("keys (-want +got)", diff)
	}
}

func TestRetryLadderSucceeds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	p.declineNext(2)
	w.start()
	c := w.untilCharge(p.retryCharge(step, step, time.Hour).Event.Subject, events.ChargeStatusSucceeded)
	w.eventsOf(c.ID, "requested", "processing", "failed", "retry_requested", "failed", "retry_requested", "succeeded")
	w.oneCapture(c.ID)
	last := c.Retry.Attempts[2]
	if c.Failure != nil || c.Retry.Status != events.RetryEnded || c.Retry.NextAttemptAt != nil || last.Failure != nil || last.ProviderChargeID != c.ProviderChargeID {
		t.Errorf("charge is %+v with %+v", c, c.Retry)
	}
}

// What must not be tried again is not, and its payment is canceled at once.
func TestRetryLadderEndsWithTheCode(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, card, decline string }{
		{"lost card", "pm_card_visa", `{"declineCode":"lost_card"}`},
		{"expired card", "pm_card_visa", `{"code":"expired_card"}`},
		{"advised against", "pm_card_visa", `{"declineCode":"generic_decline","adviceCode":"do_not_try_again"}`},
		{"wants the buyer", "pm_card_authenticationRequired", ""},
		{"blocked", "pm_card_radarBlock", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.buyer(tt.card)
			if tt.decline != "" {
				w.control("/_sandbox/payment_methods/"+p.pm+"/decline", tt.decline)
			}
			w.start()
			c := w.untilRetry(p.retryCharge(step).Event.Subject, events.RetryEnded)
			w.eventually("the payment is canceled", func() bool { return w.payments(c.ID)[0].Status == "canceled" })
			w.eventsOf(c.ID, "requested", "processing", "failed")
			if w.attemptsAtProvider(c.ProviderPaymentID) != 1 || c.Retry.Attempts[0].Failure == nil {
				t.Errorf("charge is %+v with %+v", c, c.Retry)
			}
		})
	}
}

// Each row is a second attempt that fails on the way; the money is taken once, and the card is tried twice in all.
func TestRetryFaults(t *testing.T) {
	t.Parallel()
	paid := []string{"requested", "processing", "failed", "retry_requested", "succeeded"}
	doubtPaid := []string{"requested", "processing", "failed", "retry_requested", "updated", "succeeded"}
	declined := []string{"requested", "processing", "failed", "retry_requested", "failed"}
	doubtDeclined := []string{"requested", "processing", "failed", "retry_requested", "updated", "failed"}
	for _, tt := range []struct {
		name, fault string
		declines    int
		want        []string
	}{
		{"429", `"times":2,"kind":"status","status":429`, 1, paid},
		{"503", `"kind":"status","status":503`, 1, paid},
		{"unanswered, paid", `"times":2,"kind":"drop","when":"after"`, 1, doubtPaid},
		{"unanswered, not made", `"times":2,"kind":"drop"`, 1, doubtPaid},
		{"cut off, paid", `"kind":"cut","when":"after"`, 1, doubtPaid},
		{"500 for ever, paid", `"kind":"status","status":500,"when":"after"`, 1, doubtPaid},
		{"500 for ever, not made", `"kind":"status","stored":true`, 1, doubtPaid},
		{"unanswered, declined", `"times":2,"kind":"drop","when":"after"`, 2, doubtDeclined},
		{"cut off, declined", `"kind":"cut","when":"after"`, 2, declined}, // a 402 is a 402, whatever its body
		{"500 for ever, declined", `"kind":"status","status":500,"when":"after"`, 2, doubtDeclined},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.buyer("pm_card_visa")
			p.declineNext(tt.declines)
			w.fault(`{"operation":"payment_intents.confirm","nth":2,` + tt.fault + `}`)
			w.start()
			id := p.retryCharge(step).Event.Subject
			c := w.untilRetry(id, events.RetryEnded)
			if got := w.history(events.EntityCharge, id); !slices.Equal(got, tt.want) && !slices.Equal(without(got, "updated"), without(tt.want, "updated")) {
				t.Errorf("events are %v, want %v\n%s", got, tt.want, w.logs)
			}
			if tt.want[len(tt.want)-1] == "succeeded" {
				w.oneCapture(id)
			} else if got := w.payments(id); len(got) != 1 || got[0].Captures != 0 {
				t.Errorf("ledger is %+v", got)
			}
			if n := w.attemptsAtProvider(c.ProviderPaymentID); n != 2 {
				t.Errorf("the card was tried %d times\n%s", n, w.logs)
			}
		})
	}
}

func without(list []string, word string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == word })
}

// A worker is killed between any two steps of a ladder; the next one goes on, and asks before it confirms.
func TestRetrySurvivesKills(t *testing.T) {
	t.Parallel()
	paid := []string{"requested", "processing", "failed", "retry_requested", "succeeded"}
	declined := []string{"requested", "processing", "failed", "retry_requested", "failed"}
	for _, tt := range []struct {
		point    string
		declines int
		want     []string
	}{
		{"payment_settled", 1, paid}, // the first decline is at the provider only
		{"retry_requested", 1, paid},
		{"retry_asked", 1, paid},
		{"retry_answered", 1, paid},
		{"retry_answered", 2, declined},
		{"retry_recorded", 2, declined},
		{"payment_canceled", 2, declined},
	} {
		t.Run(fmt.Sprintf("%s %d", tt.point, tt.declines), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.buyer("pm_card_visa")
			p.declineNext(tt.declines)
			id := p.retryCharge(step).Event.Subject
			w.runUntil(tt.point)
			w.called()
			w.start()
			c := w.untilRetry(id, events.RetryEnded)
			w.eventsOf(id, tt.want...)
			if calls := w.called(); len(calls) > 0 && !strings.HasPrefix(calls[0], "GET /v1/payment_intents/pi_") {
				t.Errorf("the first call is not a look at the payment: %v", calls)
			}
			if n := w.attemptsAtProvider(c.ProviderPaymentID); n != 2 {
				t.Errorf("the card was tried %d times", n)
			}
			if tt.declines == 1 {
				w.oneCapture(id)
				return
			}
			w.eventually("the payment is canceled", func() bool { return w.payments(id)[0].Status == "canceled" })
		})
	}
}

// Whatever ends a ladder ends it for good, and the payment can't be paid any more.
func TestRetryLadderIsEnded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		end  func(w *world, p *person, c *events.Charge)
		want string // the last event
	}{
		{"charge.cancel", func(_ *world, p *person, c *events.Charge) { p.updateCharge(c.ID, events.CancelCharge{}) }, "cancel_requested"},
		{"the method is detached", func(_ *world, p *person, _ *events.Charge) { p.updateMethod(p.meth, events.MethodGone{}) }, "updated"},
		{"its detaching is asked for", func(_ *world, p *person, _ *events.Charge) { p.updateMethod(p.meth, events.DetachMethod{}) }, "updated"},
		{"the customer is deleted", func(_ *world, p *person, _ *events.Charge) { p.delete() }, "updated"},
		{"the payment is canceled elsewhere", func(w *world, _ *person, c *events.Charge) {
			w.post("/v1/payment_intents/"+c.ProviderPaymentID+"/cancel", url.Values{}, nil)
			w.advance(time.Hour) // it is found out when the next attempt is due
		}, "updated"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.buyer("pm_card_chargeCustomerFail")
			w.start()
			c := w.untilRetry(p.retryCharge(time.Hour).Event.Subject, events.RetryWaiting)
			if c.Status != events.ChargeStatusFailed || c.Retry.NextAttemptAt == nil || w.payments(c.ID)[0].Status == "canceled" {
				t.Fatalf("charge is %+v with %+v", c, c.Retry)
			}
			tt.end(w, p, c)
			c = w.untilRetry(c.ID, events.RetryEnded)
			w.eventually("the payment is canceled", func() bool { return w.payments(c.ID)[0].Status == "canceled" })
			if c.Status != events.ChargeStatusFailed || c.Retry.NextAttemptAt != nil || w.attemptsAtProvider(c.ProviderPaymentID) != 1 {
				t.Errorf("charge is %+v with %+v", c, c.Retry)
			}
			if got := w.history(events.EntityCharge, c.ID); got[len(got)-1] != tt.want {
				t.Errorf("events are %v", got)
			}
		})
	}
}

// A worker that is killed right after it ended a ladder leaves a payment that could be paid; the next one cancels it.
func TestRetryLadderIsEndedByOneThatDies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_chargeCustomerFail")
	stop := w.start()
	c := w.untilRetry(p.retryCharge(time.Hour).Event.Subject, events.RetryWaiting)
	stop()
	p.updateMethod(p.meth, events.MethodGone{})
	w.runUntil("retry_stopped")
	if got := w.payments(c.ID)[0].Status; got == "canceled" {
		t.Fatalf("the payment is %s already", got)
	}
	w.start()
	w.eventually("the payment is canceled", func() bool { return w.payments(c.ID)[0].Status == "canceled" })
}

// The cancellation, or the end of the method, comes while the attempt is being made: no money is taken after that.
func TestRetryCanceledWhileItIsLookedAt(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		meddle func(p *person, id string)
	}{
		{"charge.cancel", func(p *person, id string) { p.updateCharge(id, events.CancelCharge{}) }},
		{"method detached", func(p *person, _ string) { p.updateMethod(p.meth, events.MethodGone{}) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.buyer("pm_card_visa")
			p.declineNext(1)
			id := p.retryCharge(step).Event.Subject
			w.runUntil("retry_requested")
			var once sync.Once // settling looks at the same moment: it too gets its answer only after this
			meddle := func(r *http.Request) {
				if r.Method == http.MethodGet {
					once.Do(func() { tt.meddle(p, id) })
				}
			}
			w.meddle.Store(&meddle)
			w.start()
			c := w.untilRetry(id, events.RetryEnded)
			w.eventually("the payment is canceled", func() bool { return w.payments(id)[0].Status == "canceled" })
			if c.Status != events.ChargeStatusFailed || w.payments(id)[0].Captures != 0 || w.attemptsAtProvider(c.ProviderPaymentID) != 1 {
				t.Errorf("charge is %+v with %+v", c, c.Retry)
			}
		})
	}
}

// Two workers that overlap, each told of the same attempt several times.
func TestRetryByTwoWorkersAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	one, two := w.worker(), w.worker()
	for _, declines := range []int{1, 2} {
		p.declineNext(declines)
		first := p.retryCharge(time.Millisecond)
		if got := one.CarryOut(t.Context(), w.message(first, 1)); got != eventlog.Done() {
			t.Fatalf("%+v\n%s", got, w.logs)
		}
		due := w.append(events.EntityCharge, first.Event.Subject, p.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
			c.Now = c.Now.Add(time.Second)
			return events.DecideCharge(last, events.RetryDue{}, c)
		})
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				worker := one
				if i%2 == 1 {
					worker = two
				}
				for attempt := 1; attempt < 200; attempt++ {
					if worker.CarryOut(t.Context(), w.message(due, attempt)) == eventlog.Done() {
						return
					}
				}
				t.Error("never done")
			})
		}
		wg.Wait()
		c := w.untilRetry(first.Event.Subject, events.RetryEnded)
		end := "succeeded"
		if declines == 2 {
			end = "failed"
		}
		w.eventsOf(c.ID, "requested", "processing", "failed", "retry_requested", end)
		if n := w.attemptsAtProvider(c.ProviderPaymentID); n != 2 {
			t.Errorf("the card was tried %d times", n)
		}
	}
}

// Everything that the provider has to tell of a ladder, told again and in any order: it is known already.
func TestRetryDeliveriesSayNothingNew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_chargeCustomerFail")
	w.start()
	c := w.untilRetry(p.retryCharge(step, time.Hour).Event.Subject, events.RetryWaiting)
	c = w.until(events.EntityCharge, c.ID, func(e *events.Event) bool {
		return len(e.Data.Charge.Retry.Attempts) == 2 && e.Data.Charge.Retry.Status == events.RetryWaiting
	}).Data.Charge
	before := w.history(events.EntityCharge, c.ID)
	var bodies [][]byte
	if err := w.api.ListDeliveries(t.Context(), time.Now().Add(-time.Hour), func(body []byte) error {
		bodies = append(bodies, slices.Clone(body))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	applier := provider.NewApplier(w.log, provider.ApplierConfig{Source: provider.SourceIngest})
	told := 0
	for range 2 {
		slices.Reverse(bodies)
		for _, body := range bodies {
			d, err := (&stripe.Webhooks{}).Decode(body)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range d.Observations {
				seen, ok := o.(provider.PaymentSeen)
				if !ok || seen.ID != c.ProviderPaymentID {
					continue
				}
				told++
				if _, err := applier.Observe(t.Context(), stripeID, o, d.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if told < 8 { // charge.failed and payment_intent.payment_failed of both attempts, twice
		t.Errorf("%d reports", told)
	}
	if diff := cmp.Diff(before, w.history(events.EntityCharge, c.ID)); diff != "" {
		t.Error("events (-before +after)", diff)
	}
}

// The webhook of an attempt comes before its answer: it records exactly that attempt, and the answer adds nothing.
func TestRetryWebhookOvertakesTheAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_chargeCustomerFail")
	id := p.retryCharge(step, time.Hour).Event.Subject
	w.runUntil("retry_answered") // confirmed, and nothing recorded
	c := w.state(events.EntityCharge, id).Data.Charge
	payment, err := w.api.Payment(t.Context(), c.ProviderPaymentID)
	if err != nil {
		t.Fatal(err)
	}
	applier := provider.NewApplier(w.log, provider.ApplierConfig{Source: provider.SourceIngest})
	if _, err := applier.Observe(t.Context(), stripeID, provider.PaymentSeen{Payment: payment}, "evt_1"); err != nil {
		t.Fatal(err)
	}
	if c = w.state(events.EntityCharge, id).Data.Charge; c.Retry.Status != events.RetryWaiting || c.Retry.Attempts[1].ProviderChargeID != payment.ChargeID {
		t.Fatalf("charge is %+v with %+v", c, c.Retry)
	}
	worker := w.worker()
	due := w.entry(t, id, events.ChargeRetryRequested)
	if got := worker.CarryOut(t.Context(), w.message(due, 2)); got != eventlog.Done() {
		t.Errorf("%+v\n%s", got, w.logs)
	}
	w.eventsOf(id, "requested", "processing", "failed", "retry_requested", "failed")
}

// entry gives an entity's last event of a type.
func (w *world) entry(t *testing.T, id string, typ events.Type) eventlog.Entry {
	t.Helper()
	list, err := w.log.History(t.Context(), eventlog.HistoryFilter{Entity: typ.Entity(), EntityID: id}, 1, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range slices.Backward(list) {
		if e.Event.Type == typ {
			return e
		}
	}
	t.Fatalf("%s has no %s", id, typ)
	return eventlog.Entry{}
}
