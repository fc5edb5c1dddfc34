package provider_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

func TestChargeSucceeds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	w.called()
	worker := w.worker()
	worker.LookAfter(time.Hour, time.Hour, 50*time.Millisecond) // or a slow machine would look while the charge is made
	w.run(worker)
	e := p.charge("")
	c := w.untilCharge(e.Event.Subject, events.ChargeStatusSucceeded)

	if diff := cmp.Diff([]string{"requested", "processing", "succeeded"}, w.history(events.EntityCharge, c.ID)); diff != "" {
		t.Error("events (-want +got)", diff)
	}
	// Two calls and no more: the answers themselves say how the payment stands.
	want := []string{
		"POST /v1/payment_intents paykit:" + w.log.Env() + ":" + c.ID + ":create",
		"POST /v1/payment_intents/" + c.ProviderPaymentID + "/confirm paykit:" + w.log.Env() + ":" + c.ID + ":confirm",
	}
	if diff := cmp.Diff(want, w.called()); diff != "" {
		t.Error("calls (-want +got)", diff)
	}
	w.oneCapture(c.ID)
	paid := w.payments(c.ID)[0]
	if paid.Metadata["paykit_customer"] != p.ref.ID || paid.Metadata["paykit_env"] != w.log.Env() || paid.Metadata["plan"] != "pro" {
		t.Errorf("metadata at the provider is %v", paid.Metadata)
	}
	link, err := w.log.Link(t.Context(), stripeID, c.ProviderPaymentID)
	if err != nil || link != (eventlog.Link{Entity: events.EntityCharge, ID: c.ID, CustomerID: p.ref.ID}) {
		t.Errorf("link of the payment is %+v, %v", link, err)
	}
	if c.ProviderChargeID == "" {
		t.Error("the provider's charge is not recorded")
	}
}

func TestChargeDeclined(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_chargeCustomerFail")
	w.start()
	c := w.untilCharge(p.charge("").Event.Subject, events.ChargeStatusFailed)
	if c.Failure == nil || c.Failure.Code != "card_declined" || c.Failure.DeclineCode != "generic_decline" || c.Failure.Message == "" {
		t.Errorf("failure is %+v", c.Failure)
	}
	if diff := cmp.Diff([]string{"requested", "processing", "failed"}, w.history(events.EntityCharge, c.ID)); diff != "" {
		t.Error("events (-want +got)", diff)
	}
	// A declined payment could still be paid with another card: it is made sure that it never is.
	w.eventually("the declined payment is canceled", func() bool { return w.payments(c.ID)[0].Status == "canceled" })
	if got := w.payments(c.ID)[0].Captures; got != 0 {
		t.Errorf("%d captures", got)
	}
	if got := w.history(events.EntityCharge, c.ID); len(got) != 3 {
		t.Errorf("canceling the payment of a failed charge appended an event: %v", got)
	}
}

func TestChargeAsksForTheBuyer(t *testing.T) {
	t.Parallel()
	t.Run("without a page to come back to", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		p := w.buyer("pm_card_authenticationRequired")
		w.start()
		c := w.untilCharge(p.charge("").Event.Subject, events.ChargeStatusFailed)
		if c.Failure.Code != events.FailureAuthenticationRequired {
			t.Errorf("failure is %+v", c.Failure)
		}
	})
	for _, tt := range []struct {
		name, outcome string
		want          events.ChargeStatus
		code          string
		captures      int
	}{
		{"the buyer authenticates", "complete", events.ChargeStatusSucceeded, "", 1},
		{"the buyer fails to", "fail", events.ChargeStatusFailed, events.FailureAuthenticationFailed, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.buyer("pm_card_authenticationRequired")
			w.start()
			c := w.untilCharge(p.charge("https://example.com/back").Event.Subject, events.ChargeStatusRequiresAction)
			if c.Action == nil || !strings.HasPrefix(c.Action.URL, "http") || c.Action.ExpiresAt.Sub(c.UpdatedAt) != events.ActionLife {
				t.Fatalf("action is %+v", c.Action)
			}
			// The buyer acts, and no webhook ever says so.
			w.control("/_sandbox/3ds/"+c.ProviderPaymentID, `{"outcome":"`+tt.outcome+`"}`)
			c = w.untilCharge(c.ID, tt.want)
			if got := w.payments(c.ID); len(got) != 1 || got[0].Captures != tt.captures {
				t.Errorf("ledger is %+v", got)
			}
			if tt.code != "" && (c.Failure == nil || c.Failure.Code != tt.code) {
				t.Errorf("failure is %+v", c.Failure)
			}
			if c.Action != nil {
				t.Error("an ended charge still has a page")
			}
		})
	}
	t.Run("the buyer never comes", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		p := w.buyer("pm_card_authenticationRequired")
		w.start()
		c := w.untilCharge(p.charge("https://example.com/back").Event.Subject, events.ChargeStatusRequiresAction)
		w.advance(events.ActionLife + time.Minute)
		c = w.untilCharge(c.ID, events.ChargeStatusCanceled)
		if c.Failure == nil || c.Failure.Code != events.FailureActionExpired {
			t.Errorf("failure is %+v", c.Failure)
		}
		if got := w.payments(c.ID); len(got) != 1 || got[0].Status != "canceled" {
			t.Errorf("ledger is %+v", got)
		}
	})
}

// Each row is a call that fails once or more; the money is taken once whatever happens.
func TestChargeFaults(t *testing.T) {
	t.Parallel()
	happy := []string{"requested", "processing", "succeeded"}
	doubt := []string{"requested", "processing", "in_doubt", "succeeded"}
	// net/http itself sends a request with a key once more when a reused connection breaks before the answer's first
	// byte; so what shall stay unanswered breaks twice.
	for _, tt := range []struct {
		name, fault string
		refuse      int64
		want        []string
	}{
		{"429 at create", `{"operation":"payment_intents.create","times":2,"kind":"status","status":429}`, 0, happy},
		{"503 at create", `{"operation":"payment_intents.create","kind":"status","status":503}`, 0, happy},
		{"500 at create", `{"operation":"payment_intents.create","kind":"status","status":500}`, 0, happy},
		{"create unanswered, not made", `{"operation":"payment_intents.create","times":2,"kind":"drop"}`, 0, happy},
		{"create unanswered, made", `{"operation":"payment_intents.create","times":2,"kind":"drop","when":"after"}`, 0, happy},
		{"create 500 for ever, made", `{"operation":"payment_intents.create","kind":"status","status":500,"when":"after"}`, 0, happy},
		{"create 500 for ever, not made", `{"operation":"payment_intents.create","kind":"status","stored":true}`, 0, happy},
		{"create cut off, made", `{"operation":"payment_intents.create","kind":"cut","when":"after"}`, 0, happy},
		{"429 at confirm", `{"operation":"payment_intents.confirm","times":2,"kind":"status","status":429}`, 0, happy},
		{"503 at confirm", `{"operation":"payment_intents.confirm","kind":"status","status":503}`, 0, happy},
		{"confirm unanswered, paid", `{"operation":"payment_intents.confirm","times":2,"kind":"drop","when":"after"}`, 0, doubt},
		{"confirm cut off, paid", `{"operation":"payment_intents.confirm","kind":"cut","when":"after"}`, 0, doubt},
		{"confirm reset, paid", `{"operation":"payment_intents.confirm","times":2,"kind":"reset","when":"after"}`, 0, doubt},
		{"confirm 500 for ever, paid", `{"operation":"payment_intents.confirm","kind":"status","status":500,"when":"after"}`, 0, doubt},
		{"confirm 500 for ever, not paid", `{"operation":"payment_intents.confirm","kind":"status","stored":true}`, 0, doubt},
		{"confirm 500 for ever, the next key's too", `{"operation":"payment_intents.confirm","times":3,"kind":"status","stored":true}`, 0, doubt},
		{"confirm unanswered, not paid", `{"operation":"payment_intents.confirm","times":2,"kind":"drop"}`, 0, doubt},
		{"confirm unanswered, and the first look too", `{"operation":"*","nth":2,"times":4,"kind":"drop","when":"after"}`, 0, doubt},
		{"connections refused", "", 3, happy},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.buyer("pm_card_visa")
			if tt.fault != "" {
				w.fault(tt.fault)
			}
			w.refuse.Store(tt.refuse)
			w.start()
			c := w.untilCharge(p.charge("").Event.Subject, events.ChargeStatusSucceeded)
			if diff := cmp.Diff(tt.want, w.history(events.EntityCharge, c.ID)); diff != "" {
				t.Errorf("events (-want +got)\n%s\n%s", diff, w.logs)
			}
			w.oneCapture(c.ID)
		})
	}
}

// A worker is killed between any two steps; the next one goes on.
func TestChargeSurvivesKills(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		point, card, returnURL string
		want                   events.ChargeStatus
	}{
		{"payment_created", "pm_card_visa", "", events.ChargeStatusSucceeded},
		{"payment_linked", "pm_card_visa", "", events.ChargeStatusSucceeded},
		{"payment_recorded", "pm_card_visa", "", events.ChargeStatusSucceeded},
		{"confirm_answered", "pm_card_visa", "", events.ChargeStatusSucceeded},
		{"payment_settled", "pm_card_visa", "", events.ChargeStatusSucceeded},
		{"confirm_answered", "pm_card_authenticationRequired", "https://example.com/back", events.ChargeStatusRequiresAction},
		{"authenticate_answered", "pm_card_authenticationRequired", "https://example.com/back", events.ChargeStatusRequiresAction},
		{"payment_canceled", "pm_card_chargeCustomerFail", "", events.ChargeStatusFailed},
	} {
		t.Run(tt.point+" "+tt.card, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.buyer(tt.card)
			e := p.charge(tt.returnURL)
			w.runUntil(tt.point)
			w.called()
			w.start()
			c := w.untilCharge(e.Event.Subject, tt.want)
			// The next worker asks how the payment stands before it confirms anything.
			for _, call := range w.called() {
				if strings.HasPrefix(call, "GET /v1/payment_intents/pi_") {
					break
				}
				if strings.Contains(call, "/confirm") {
					t.Errorf("confirmed without asking: %s", call)
				}
			}
			if tt.want == events.ChargeStatusSucceeded {
				w.oneCapture(c.ID)
				if diff := cmp.Diff([]string{"requested", "processing", "succeeded"}, w.history(events.EntityCharge, c.ID)); diff != "" {
					t.Error("events (-want +got)", diff)
				}
			}
			if got := w.payments(c.ID); len(got) != 1 {
				t.Errorf("ledger is %+v; want one payment", got)
			}
		})
	}
}

// Keys are forgotten after a day. What was made before is found by looking, not made again.
func TestChargeSurvivesForgottenKeys(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"payment_created", "payment_recorded", "confirm_answered"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.buyer("pm_card_visa")
			e := p.charge("")
			w.runUntil(point)
			w.control("/_sandbox/clock/advance", `{"by":"30h"}`)
			w.advance(30 * time.Hour)
			w.start()
			c := w.untilCharge(e.Event.Subject, events.ChargeStatusSucceeded)
			w.oneCapture(c.ID)
		})
	}
}

// Two workers that overlap, each told of the same request several times.
func TestChargeByTwoWorkersAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	one, two := w.worker(), w.worker()
	for range 5 {
		e := p.charge("")
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				worker := one
				if i%2 == 1 {
					worker = two
				}
				for attempt := 1; attempt < 200; attempt++ {
					if worker.CarryOut(t.Context(), w.message(e, attempt)) == eventlog.Done() {
						return
					}
				}
				t.Error("never done")
			})
		}
		wg.Wait()
		w.untilCharge(e.Event.Subject, events.ChargeStatusSucceeded)
		w.oneCapture(e.Event.Subject)
		if diff := cmp.Diff([]string{"requested", "processing", "succeeded"}, w.history(events.EntityCharge, e.Event.Subject)); diff != "" {
			t.Error("events (-want +got)", diff)
		}
	}
}

// The provider's customer was deleted behind our back: its methods went with it, and a new one is made.
func TestChargeOfAVanishedCustomer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	w.do("DELETE", "/v1/customers/"+p.cus, "", strings.NewReader(""), nil)
	w.start()
	e := p.charge("")
	c := w.untilCharge(e.Event.Subject, events.ChargeStatusFailed)
	if c.Failure.Code != events.FailureProviderRejected {
		t.Errorf("failure is %+v", c.Failure)
	}
	if diff := cmp.Diff([]string{"linked", "unlinked", "linked"}, w.history(events.EntityProviderAccount, p.account())); diff != "" {
		t.Error("account (-want +got)", diff)
	}
	w.until(events.EntityPaymentMethod, p.meth, func(e *events.Event) bool { return !e.Data.PaymentMethod.Live() })
	// The new one works.
	account := w.state(events.EntityProviderAccount, p.account()).Data.ProviderAccount
	if account.ProviderCustomerID == p.cus || account.Version != 2 {
		t.Fatalf("account is %+v", account)
	}
	p.cus = account.ProviderCustomerID
	p.pm, p.meth = p.save("pm_card_visa")
	c = w.untilCharge(p.charge("").Event.Subject, events.ChargeStatusSucceeded)
	w.oneCapture(c.ID)
	if !w.state(events.EntityPaymentMethod, p.meth).Data.PaymentMethod.Live() {
		t.Error("the new account's method was detached with the old one's")
	}
}

// The unlinking of an old account, carried out late, leaves the methods of the next one alone.
func TestAccountUnlinkedLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	old := p.meth
	unlinked := w.append(events.EntityProviderAccount, p.account(), p.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecideProviderAccount(last, events.UnlinkAccount{ProviderCustomerID: p.cus}, c)
	})
	w.advance(time.Second)
	_, p.meth = p.save("pm_card_visa")
	if got := w.worker().CarryOut(t.Context(), w.message(unlinked, 1)); got != eventlog.Done() {
		t.Fatalf("%+v\n%s", got, w.logs)
	}
	if w.state(events.EntityPaymentMethod, old).Data.PaymentMethod.Live() {
		t.Error("the old account's method is still live")
	}
	if !w.state(events.EntityPaymentMethod, p.meth).Data.PaymentMethod.Live() {
		t.Error("the new account's method was detached")
	}
}

// Refused credentials stop the calls and turn the worker red; nothing is lost.
func TestChargeWithRefusedCredentials(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	worker := w.worker()
	w.fault(`{"operation":"payment_intents.create","kind":"status","status":401}`)
	e := p.charge("")
	w.called()
	if got := worker.CarryOut(t.Context(), w.message(e, 1)); got == eventlog.Done() {
		t.Fatal("the request was given up")
	}
	if err := worker.Ready(); err == nil || !strings.Contains(err.Error(), stripeID) {
		t.Errorf("Ready is %v; want it to name the provider", err)
	}
	worker.CarryOut(t.Context(), w.message(e, 2))
	if got := w.called(); len(got) != 1 {
		t.Errorf("calls while blocked: %v", got)
	}
	w.advance(time.Minute)
	if got := worker.CarryOut(t.Context(), w.message(e, 3)); got != eventlog.Done() {
		t.Errorf("after the credentials work again: %+v\n%s", got, w.logs)
	}
	if err := worker.Ready(); err != nil {
		t.Errorf("Ready is %v", err)
	}
	w.oneCapture(e.Event.Subject)
}

// The log of a charge says who, what and how long, and nothing that is secret or personal.
func TestChargeIsLogged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	w.fault(`{"operation":"payment_intents.create","kind":"status","status":503}`)
	w.start()
	c := w.untilCharge(p.charge("").Event.Subject, events.ChargeStatusSucceeded)
	for _, want := range []string{
		`"message":"command executed"`, `"event_type":"charge.requested"`, `"entity_id":"` + c.ID + `"`, `"attempt":2`, `"dur_ms":`,
		`"class":"transient"`, `"operation":"payment_intents.create"`,
	} {
		w.eventually("the log holds "+want, func() bool { return strings.Contains(w.logs.String(), want) })
	}
	logs := w.logs.String()
	for _, secret := range []string{testKey, "_secret_", "Pro plan"} {
		if strings.Contains(logs, secret) {
			t.Errorf("the log holds %q:\n%s", secret, logs)
		}
	}
	families, err := w.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
		if text := fmt.Sprint(f); strings.Contains(text, p.ref.ID) || strings.Contains(text, c.ID) {
			t.Errorf("metric %s names a customer or a charge", f.GetName())
		}
	}
	for _, want := range []string{"paykit_provider_calls_total", "paykit_provider_call_seconds", "paykit_charges_in_doubt"} {
		if !slices.Contains(names, want) {
			t.Errorf("no metric %s in %v", want, names)
		}
	}
}
