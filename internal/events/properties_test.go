package events_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/paykit-go/paykit/internal/events"
)

// drive feeds random inputs, in random order, with a clock that jumps, to a decide function, and checks what holds for
// every entity: versions without a gap and times that do not run back (history.add), no decision changes the event it
// was made from, each input again is nothing to do, updatedAt is the event's time and createdAt the first one's.
func drive[I any](
	t *testing.T, rt *rapid.T, inputs *rapid.Generator[I],
	decide func(*events.Event, I, events.Cause) (*events.Event, error), base func(*events.Event) events.Base,
	check func(before, after *events.Event),
) {
	t.Helper()
	h := newHistory(t)
	for n := rapid.IntRange(1, 25).Draw(rt, "n"); n > 0; n-- {
		h.now = h.now.Add(time.Duration(rapid.IntRange(-2, 2).Draw(rt, "hours")) * time.Hour)
		in := inputs.Draw(rt, "in")
		last := h.last()
		var raw []byte
		if last != nil {
			raw, _ = last.Encode()
		}
		e, err := decide(last, in, h.cause(""))
		if last != nil {
			if again, _ := last.Encode(); string(again) != string(raw) {
				rt.Fatalf("deciding on %T changed the last event", in)
			}
		}
		if err != nil || e == nil {
			continue
		}
		e = h.add(e, nil)
		b := base(e)
		if !b.UpdatedAt.Equal(e.Time) || !b.CreatedAt.Equal(h.list[0].Time) || b.ID != e.Subject || b.CustomerID != customer().ID {
			rt.Fatalf("%s at %s: %+v", e.Type, e.Time, b)
		}
		check(last, e)
		if again, err := decide(e, in, h.cause("")); again != nil && err == nil {
			rt.Fatalf("%T twice gives %s and %s", in, e.Type, again.Type)
		}
	}
}

// stateRank is the contract's order of a checkout's and a setup's statuses.
func stateRank(s events.SessionState) int {
	switch s {
	case events.StateRequested:
		return 0
	case events.StateCreated:
		return 1
	case events.StateExpired, events.StateFailed:
		return 2
	case events.StateCompleted:
	}
	return 3
}

func anySession() *rapid.Generator[events.Session] {
	return rapid.Custom(func(rt *rapid.T) events.Session {
		s := session(rapid.SampledFrom([]events.SessionStatus{events.SessionOpen, events.SessionComplete, events.SessionExpired}).Draw(rt, "status"))
		s.ID = rapid.SampledFrom([]string{"cs_1", "cs_1", "cs_2"}).Draw(rt, "session")
		switch rapid.IntRange(0, 3).Draw(rt, "how") {
		case 0:
			s.Paid = s.Status == events.SessionComplete
		case 1:
			s.PaymentFailed = s.Status == events.SessionComplete
		case 2:
			s.ExpiresAt = time.Time{}
		}
		return s
	})
}

func TestCheckoutProperties(t *testing.T) {
	t.Parallel()
	inputs := rapid.Custom(func(rt *rapid.T) events.CheckoutInput {
		switch rapid.IntRange(0, 5).Draw(rt, "kind") {
		case 0:
			return createCheckout()
		case 1:
			return events.ExpireCheckout{}
		case 2:
			return events.CheckoutRejected{Failure: events.NewFailure(events.FailureProviderRejected, "")}
		}
		return events.CheckoutObserved{Session: anySession().Draw(rt, "session")}
	})
	rapid.Check(t, func(rt *rapid.T) {
		drive(t, rt, inputs, events.DecideCheckout, func(e *events.Event) events.Base { return e.Data.Checkout.Base },
			func(before, after *events.Event) {
				c := after.Data.Checkout
				if (c.URL != "") != (c.Status == events.StateCreated) {
					rt.Fatalf("%s with the address %q", c.Status, c.URL)
				}
				if (c.ChargeID != "") != (c.Status == events.StateCompleted) || (c.Failure != nil) != (c.Status == events.StateFailed) {
					rt.Fatalf("%s: charge %q, failure %v", c.Status, c.ChargeID, c.Failure)
				}
				if before == nil {
					return
				}
				was := before.Data.Checkout
				if r := stateRank(c.Status) - stateRank(was.Status); r < 0 || r == 0 && c.Status != was.Status {
					rt.Fatalf("%s after %s", c.Status, was.Status)
				}
				if c.Amount != was.Amount || c.CommandDigest != was.CommandDigest || c.Metadata["plan"] != "starter" {
					rt.Fatalf("%s changed what was asked for: %+v", after.Type, c)
				}
			})
	})
}

func TestSetupProperties(t *testing.T) {
	t.Parallel()
	inputs := rapid.Custom(func(rt *rapid.T) events.SetupInput {
		switch rapid.IntRange(0, 5).Draw(rt, "kind") {
		case 0:
			return createSetup()
		case 1:
			return events.SetupRejected{Failure: events.NewFailure(events.FailureProviderRejected, "")}
		case 2:
			return events.SetupIntentObserved{Report: events.SetupReport{
				ID: "seti_1", Succeeded: rapid.Bool().Draw(rt, "succeeded"), ProviderMethodID: "pm_1",
			}}
		}
		s := anySession().Draw(rt, "session")
		s.Setup, s.Paid, s.PaymentFailed = true, false, false
		if s.Status == events.SessionComplete {
			s.ProviderMethodID = rapid.SampledFrom([]string{"", "pm_1"}).Draw(rt, "method")
		}
		return events.SetupSessionObserved{Session: s}
	})
	rapid.Check(t, func(rt *rapid.T) {
		drive(t, rt, inputs, events.DecideSetup, func(e *events.Event) events.Base { return e.Data.Setup.Base },
			func(before, after *events.Event) {
				s := after.Data.Setup
				if (s.URL != "") != (s.Status == events.StateCreated) {
					rt.Fatalf("%s with the address %q", s.Status, s.URL)
				}
				if (s.PaymentMethodID != "") != (s.Status == events.StateCompleted) || (s.Failure != nil) != (s.Status == events.StateFailed) {
					rt.Fatalf("%s: method %q, failure %v", s.Status, s.PaymentMethodID, s.Failure)
				}
				if before == nil {
					return
				}
				was := before.Data.Setup
				if r := stateRank(s.Status) - stateRank(was.Status); r < 0 || r == 0 && s.Status != was.Status {
					rt.Fatalf("%s after %s", s.Status, was.Status)
				}
			})
	})
}

func TestPaymentMethodProperties(t *testing.T) {
	t.Parallel()
	inputs := rapid.Custom(func(rt *rapid.T) events.PaymentMethodInput {
		switch rapid.IntRange(0, 6).Draw(rt, "kind") {
		case 0:
			return events.DetachMethod{}
		case 1:
			return events.MethodGone{}
		case 2:
			return events.DefaultSet{RequestedAt: start().Add(time.Duration(rapid.IntRange(-1000, 1000).Draw(rt, "µs")) * time.Microsecond)}
		}
		in := method(rapid.IntRange(0, 5).Draw(rt, "attached") > 0, rapid.SampledFrom([]string{"4242", "4444"}).Draw(rt, "last4"))
		if rapid.IntRange(0, 3).Draw(rt, "bare") == 0 {
			in.Method.Type, in.Method.Brand, in.Method.Last4 = "", "", ""
		}
		return in
	})
	rapid.Check(t, func(rt *rapid.T) {
		drive(t, rt, inputs, events.DecidePaymentMethod, func(e *events.Event) events.Base { return e.Data.PaymentMethod.Base },
			func(before, after *events.Event) {
				m := after.Data.PaymentMethod
				if before == nil {
					if m.Live() != (m.DefaultAt != nil) {
						rt.Fatalf("begun with %+v", m)
					}
					return
				}
				was := before.Data.PaymentMethod
				if !was.Live() {
					rt.Fatalf("%s after it was detached", after.Type)
				}
				if was.DetachRequestedAt != nil && m.DetachRequestedAt == nil || was.Type != "" && m.Type == "" {
					rt.Fatalf("%s forgot something: %+v", after.Type, m)
				}
				if was.DefaultAt != nil && (m.DefaultAt == nil || m.DefaultAt.Before(*was.DefaultAt)) {
					rt.Fatalf("defaultAt went from %v to %v", was.DefaultAt, m.DefaultAt)
				}
				if after.Type == events.PaymentMethodUpdated && m.Last4 == was.Last4 && m.Type == was.Type {
					rt.Fatalf("updated without a change: %+v", m)
				}
			})
	})
}

// set_default asks anew each time, and its answer is told from older ones, whatever the clock does.
func TestSetDefaultProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		h := newHistory(t)
		h.add(events.DecidePaymentMethod(nil, method(true, "4242"), h.cause("")))
		for n := rapid.IntRange(1, 8).Draw(rt, "n"); n > 0; n-- {
			h.now = h.now.Add(time.Duration(rapid.IntRange(-3000, 3000).Draw(rt, "ms")) * time.Millisecond)
			e := h.add(events.DecidePaymentMethod(h.last(), events.SetDefaultMethod{}, h.cause("")))
			if e.Data.PaymentMethod.DefaultSettled() {
				rt.Fatal("settled before the provider was told")
			}
			if rapid.Bool().Draw(rt, "answered") {
				asked := *e.Data.PaymentMethod.DefaultRequestedAt
				e = h.add(events.DecidePaymentMethod(h.last(), events.DefaultSet{RequestedAt: asked}, h.cause("")))
				if !e.Data.PaymentMethod.DefaultSettled() {
					rt.Fatal("not settled by its own answer")
				}
			}
		}
	})
}

func goldenFiles(tb testing.TB) map[string][]byte {
	tb.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", "v*", "*.json"))
	if err != nil || len(paths) < len(events.Types()) {
		tb.Fatalf("%d golden files: %v", len(paths), err)
	}
	files := map[string][]byte{}
	for _, path := range paths {
		if files[path], err = os.ReadFile(path); err != nil {
			tb.Fatal(err)
		}
	}
	return files
}

// Whatever can be decoded can be decided on: a log written by another version, or damaged and repaired by hand, stops
// nobody with a panic, and what follows from it can be read again.
func FuzzDecide(f *testing.F) {
	for _, b := range goldenFiles(f) {
		f.Add(b)
	}
	for _, typ := range []string{"charge", "checkout", "setup", "paymentMethod", "providerAccount", "customer", "command"} {
		entity := map[string]string{"paymentMethod": "payment_method.attached", "providerAccount": "provider_account.linked"}[typ]
		if entity == "" {
			entity = map[string]string{"customer": "customer.created", "command": "command.rejected"}[typ]
		}
		if entity == "" {
			entity = typ + ".requested"
		}
		f.Add([]byte(`{"specversion":"1.0","id":"1","type":"` + entity + `","subject":"x","entityversion":1,"data":{"` + typ + `":{"id":"x"}}}`))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		last, err := events.Decode(b)
		if err != nil {
			return
		}
		c := events.Cause{Now: start(), Source: "/paykit/test", CommandID: "cmd_1", Customer: customer()}
		report := c
		report.CommandID = ""
		for _, decide := range decisions(last) {
			for _, c := range []events.Cause{c, report} {
				e, err := decide(last, c)
				if err != nil || e == nil {
					continue
				}
				raw, err := e.Encode()
				if err != nil {
					return // a year that JSON can't write came in
				}
				back, err := events.Decode(raw)
				if err != nil {
					t.Fatalf("%s: %v", raw, err)
				}
				if back.EntityVersion != last.EntityVersion+1 || back.PreviousDigest != last.Digest() || back.Time.Before(last.Time) {
					t.Fatalf("after %s:\n%s", b, raw)
				}
			}
		}
	})
}

type decider func(*events.Event, events.Cause) (*events.Event, error)

// decisions are one of each kind of input to the decide function of an event's entity.
func decisions(last *events.Event) []decider {
	var list []decider
	switch last.Entity() {
	case events.EntityCustomer:
		for _, in := range []events.CustomerInput{events.SyncCustomer{ReferenceID: "user_123", Revision: 9, Changed: []string{"name"}}, events.DeleteCustomer{Revision: 9}} {
			list = append(list, func(e *events.Event, c events.Cause) (*events.Event, error) { return events.DecideCustomer(e, in, c) })
		}
	case events.EntityProviderAccount:
		for _, in := range []events.ProviderAccountInput{events.LinkAccount{ProviderID: provider, ProviderCustomerID: "cus_9"}, events.UnlinkAccount{ProviderCustomerID: "cus_1"}} {
			list = append(list, func(e *events.Event, c events.Cause) (*events.Event, error) {
				return events.DecideProviderAccount(e, in, c)
			})
		}
	case events.EntityCheckout:
		for _, in := range []events.CheckoutInput{createCheckout(), events.ExpireCheckout{}, events.CheckoutRejected{}, events.CheckoutObserved{Session: paidSession()}, events.CheckoutObserved{Session: session(events.SessionOpen)}} {
			list = append(list, func(e *events.Event, c events.Cause) (*events.Event, error) { return events.DecideCheckout(e, in, c) })
		}
	case events.EntitySetup:
		for _, in := range []events.SetupInput{createSetup(), events.SetupRejected{}, events.SetupSessionObserved{Session: session(events.SessionComplete)}, events.SetupIntentObserved{Report: events.SetupReport{Succeeded: true, ProviderMethodID: "pm_1"}}} {
			list = append(list, func(e *events.Event, c events.Cause) (*events.Event, error) { return events.DecideSetup(e, in, c) })
		}
	case events.EntityPaymentMethod:
		for _, in := range []events.PaymentMethodInput{method(true, "4444"), method(false, "4242"), events.SetDefaultMethod{}, events.DefaultSet{RequestedAt: start()}, events.DetachMethod{}, events.MethodGone{}} {
			list = append(list, func(e *events.Event, c events.Cause) (*events.Event, error) {
				return events.DecidePaymentMethod(e, in, c)
			})
		}
	case events.EntityCharge:
		for _, in := range []events.ChargeInput{
			createCharge(""),
			events.CancelCharge{},
			events.ConfirmUnanswered{},
			events.ChargeRejected{},
			events.RetryDue{},
			events.RetryStopped{},
			events.AttemptUnanswered{Number: 2},
			events.AttemptRejected{Number: 2},
			events.AttemptObserved{Number: 2, Payment: declined("card_declined", "").Payment},
			payment(events.PaymentSucceeded),
			payment(events.PaymentCanceled), payment(events.PaymentProcessing), declined("card_declined", ""), action("https://bank.example/1"),
			events.RefundCharge{RefundID: "r", Amount: 1},
			refundReport("r", "re_1", 1, events.RefundSucceeded),
			events.RefundTotalObserved{Total: 1},
			events.DisputeObserved{Report: events.DisputeReport{ID: "dp_1", Status: "needs_response"}},
			events.FraudWarningObserved{Report: events.FraudWarningReport{ID: "issfr_1"}},
		} {
			list = append(list, func(e *events.Event, c events.Cause) (*events.Event, error) { return events.DecideCharge(e, in, c) })
		}
	case events.EntityCommand:
		list = append(list, func(e *events.Event, c events.Cause) (*events.Event, error) {
			return events.DecideCommand(e, events.RejectCommand{ID: e.Subject}, c)
		})
	}
	return list
}
