package events_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/paykit-go/paykit/internal/events"
)

func session(status events.SessionStatus) events.Session {
	s := events.Session{ID: "cs_1", Status: status, ExpiresAt: start().Add(24 * time.Hour)}
	if status == events.SessionOpen {
		s.URL = "https://pay.example/cs_1"
	}
	return s
}

func paidSession() events.Session {
	s := session(events.SessionComplete)
	s.Paid = true
	return s
}

func createCheckout() events.CreateCheckout {
	return events.CreateCheckout{
		ID: events.CheckoutID("k"), ProviderID: provider, Amount: 4900, Currency: "usd", Description: "Starter plan",
		SuccessURL: "https://app.example.com/ok", AttachMethod: true, Metadata: map[string]string{"plan": "starter"},
		CommandDigest: "sha256:aa",
	}
}

func TestCheckoutHistories(t *testing.T) {
	t.Parallel()
	seen := func(s events.Session) events.CheckoutObserved { return events.CheckoutObserved{Session: s} }
	failedPayment := session(events.SessionComplete)
	failedPayment.PaymentFailed = true
	stranger := session(events.SessionExpired)
	stranger.ID = "cs_2"
	for _, tc := range []struct {
		name string
		in   []events.CheckoutInput
		want []events.Type
	}{
		{"paid", []events.CheckoutInput{createCheckout(), seen(session(events.SessionOpen)), seen(paidSession())}, []events.Type{"checkout.requested", "checkout.created", "checkout.completed"}},
		{"paid before the answer", []events.CheckoutInput{createCheckout(), seen(paidSession()), seen(session(events.SessionOpen)), seen(paidSession())}, []events.Type{"checkout.requested", "checkout.completed"}},
		{"delayed, then paid", []events.CheckoutInput{createCheckout(), seen(session(events.SessionOpen)), seen(session(events.SessionComplete)), seen(paidSession())}, []events.Type{"checkout.requested", "checkout.created", "checkout.completed"}},
		{"delayed, then failed", []events.CheckoutInput{createCheckout(), seen(session(events.SessionOpen)), seen(failedPayment), seen(session(events.SessionExpired))}, []events.Type{"checkout.requested", "checkout.created", "checkout.failed"}},
		{"completed beats expired", []events.CheckoutInput{createCheckout(), seen(session(events.SessionExpired)), seen(paidSession()), seen(session(events.SessionExpired))}, []events.Type{"checkout.requested", "checkout.expired", "checkout.completed"}},
		{"first end stays", []events.CheckoutInput{createCheckout(), seen(session(events.SessionExpired)), events.CheckoutRejected{}, seen(failedPayment)}, []events.Type{"checkout.requested", "checkout.expired"}},
		{"expire twice", []events.CheckoutInput{createCheckout(), seen(session(events.SessionOpen)), events.ExpireCheckout{}, events.ExpireCheckout{}, seen(session(events.SessionExpired)), events.ExpireCheckout{}}, []events.Type{"checkout.requested", "checkout.created", "checkout.expire_requested", "checkout.expired"}},
		{"another session's end", []events.CheckoutInput{createCheckout(), seen(session(events.SessionOpen)), seen(stranger)}, []events.Type{"checkout.requested", "checkout.created"}},
		{"rejected", []events.CheckoutInput{createCheckout(), events.CheckoutRejected{Failure: events.NewFailure(events.FailureProviderRejected, "")}, seen(session(events.SessionOpen))}, []events.Type{"checkout.requested", "checkout.failed"}},
		{"a report without a checkout", []events.CheckoutInput{seen(paidSession())}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h := newHistory(t)
			for _, in := range tc.in {
				h.add(events.DecideCheckout(h.last(), in, h.cause("")))
			}
			if got := h.types(); !slices.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
			for _, e := range h.list {
				if c := e.Data.Checkout; c.Status.Final() == (c.URL != "") && c.Status != events.StateRequested {
					t.Errorf("%s with url %q", e.Type, c.URL)
				}
			}
		})
	}
}

func TestCheckoutRefusals(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	h.add(events.DecideCheckout(nil, createCheckout(), h.cause("")))
	other := createCheckout()
	other.CommandDigest = "sha256:bb"
	_, err := events.DecideCheckout(h.last(), other, h.cause(""))
	wantCode(t, err, events.CodeIdempotencyConflict)
	_, err = events.DecideCheckout(nil, events.ExpireCheckout{}, h.cause(""))
	wantCode(t, err, events.CodeCheckoutNotFound)
}

func wantCode(t *testing.T, err error, code events.Code) {
	t.Helper()
	if refusal, ok := errors.AsType[*events.Error](err); !ok || refusal.Code != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

func TestSetupHistories(t *testing.T) {
	t.Parallel()
	create := events.CreateSetup{ID: events.SetupID("k"), ProviderID: provider, ReturnURL: "https://app.example.com/back", CommandDigest: "1"}
	seen := func(s events.Session) events.SetupSessionObserved {
		s.Setup = true
		return events.SetupSessionObserved{Session: s}
	}
	named := session(events.SessionComplete)
	named.ProviderMethodID = "pm_1"
	saved := events.SetupIntentObserved{Report: events.SetupReport{ID: "seti_1", Succeeded: true, ProviderMethodID: "pm_1"}}
	for _, tc := range []struct {
		name string
		in   []events.SetupInput
		want []events.Type
	}{
		{"completed by the intent", []events.SetupInput{create, seen(session(events.SessionOpen)), saved, seen(session(events.SessionComplete)), saved}, []events.Type{"setup.requested", "setup.created", "setup.completed"}},
		{"completed by the session, asked once", []events.SetupInput{create, seen(session(events.SessionOpen)), seen(session(events.SessionComplete)), seen(session(events.SessionComplete)), seen(named)}, []events.Type{"setup.requested", "setup.created", "setup.refresh_requested", "setup.completed"}},
		{"completed beats expired", []events.SetupInput{create, seen(session(events.SessionExpired)), saved}, []events.Type{"setup.requested", "setup.expired", "setup.completed"}},
		{"rejected", []events.SetupInput{create, events.SetupRejected{Failure: events.NewFailure(events.FailureProviderRejected, "")}, seen(session(events.SessionOpen))}, []events.Type{"setup.requested", "setup.failed"}},
		{"nothing without a setup", []events.SetupInput{saved, seen(named)}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h := newHistory(t)
			for _, in := range tc.in {
				h.add(events.DecideSetup(h.last(), in, h.cause("")))
			}
			if got := h.types(); !slices.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
			if last := h.last(); last != nil && last.Type == events.SetupCompleted && last.Data.Setup.PaymentMethodID != events.PaymentMethodID(provider, "pm_1") {
				t.Errorf("method %q", last.Data.Setup.PaymentMethodID)
			}
		})
	}
}

func method(attached bool, last4 string) events.MethodObserved {
	return events.MethodObserved{ProviderID: provider, Method: events.Method{
		ID: "pm_1", ProviderCustomerID: "cus_1", Attached: attached, Type: "card", Brand: "visa", Last4: last4,
		ExpiryMonth: 12, ExpiryYear: 2034, Fingerprint: "f",
	}}
}

func TestPaymentMethodHistories(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		in   []events.PaymentMethodInput
		want []events.Type
	}{
		{"attached and updated", []events.PaymentMethodInput{method(true, "4242"), method(true, "4242"), method(true, "4444")}, []events.Type{"payment_method.attached", "payment_method.updated"}},
		{"begins with its end", []events.PaymentMethodInput{method(false, "4242"), method(true, "4242")}, []events.Type{"payment_method.detached"}},
		{"detach", []events.PaymentMethodInput{method(true, "4242"), events.DetachMethod{}, events.DetachMethod{}, events.MethodGone{}, events.MethodGone{}, events.DetachMethod{}}, []events.Type{"payment_method.attached", "payment_method.detach_requested", "payment_method.detached"}},
		{"gone without ever being here", []events.PaymentMethodInput{events.MethodGone{}}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h := newHistory(t)
			for _, in := range tc.in {
				h.add(events.DecidePaymentMethod(h.last(), in, h.cause("")))
			}
			if got := h.types(); !slices.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestDefaultMethod(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	m := h.add(events.DecidePaymentMethod(nil, method(true, "4242"), h.cause(""))).Data.PaymentMethod
	if m.DefaultAt == nil || !m.DefaultAt.Equal(events.Millis(h.now)) {
		t.Fatalf("a method just attached has defaultAt %v", m.DefaultAt)
	}
	// At the very instant of its attachment: the request must still be told from what is settled.
	cause := h.cause("cmd_1")
	cause.Now = *m.DefaultAt
	e, err := events.DecidePaymentMethod(h.last(), events.SetDefaultMethod{}, cause)
	m = h.add(e, err).Data.PaymentMethod
	if m.DefaultSettled() {
		t.Fatalf("settled before the provider was told: %v, %v", m.DefaultRequestedAt, m.DefaultAt)
	}
	asked := *m.DefaultRequestedAt
	m = h.add(events.DecidePaymentMethod(h.last(), events.DefaultSet{RequestedAt: asked}, h.cause(""))).Data.PaymentMethod
	if !m.DefaultSettled() || !m.DefaultAt.Equal(asked) {
		t.Errorf("defaultAt %v, want the time of the request %v", m.DefaultAt, asked)
	}
	if e := h.add(events.DecidePaymentMethod(h.last(), events.DefaultSet{RequestedAt: asked}, h.cause(""))); e != nil {
		t.Errorf("default_set twice: %s", e.Type)
	}
	if h.last().CorrelationID != "cmd_1" {
		t.Errorf("correlation %q was not carried on", h.last().CorrelationID)
	}
	if e, err := events.DecidePaymentMethod(h.last(), events.SetDefaultMethod{}, events.Cause{Now: h.now, CommandID: "cmd_1"}); e != nil || err != nil {
		t.Errorf("the same command twice: %v, %v", e, err)
	}
	h.add(events.DecidePaymentMethod(h.last(), events.DetachMethod{}, h.cause("cmd_2")))
	_, err = events.DecidePaymentMethod(h.last(), events.SetDefaultMethod{}, h.cause("cmd_3"))
	wantCode(t, err, events.CodePaymentMethodNotFound)
}

func TestCustomerHistory(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	sync := func(revision uint64, changed ...string) {
		h.add(events.DecideCustomer(h.last(), events.SyncCustomer{ReferenceID: "user_123", Revision: revision, Changed: changed}, h.cause("")))
	}
	remove := func(revision uint64) {
		h.add(events.DecideCustomer(h.last(), events.DeleteCustomer{Revision: revision}, h.cause("")))
	}
	sync(1, "email")
	sync(1)
	sync(2, "name")
	remove(3)
	remove(3)
	if c := h.last().Data.Customer; c.ProfileRevision != 3 || !c.Deleted() {
		t.Errorf("deleted %+v", c)
	}
	sync(0)
	if c := h.last().Data.Customer; c.Deleted() || c.ProfileRevision != 0 || c.ReferenceID != "user_123" {
		t.Errorf("revived %+v", c)
	}
	want := []events.Type{"customer.created", "customer.updated", "customer.deleted", "customer.updated"}
	if diff := cmp.Diff(want, h.types()); diff != "" {
		t.Error(diff)
	}
	_, err := events.DecideCustomer(nil, events.DeleteCustomer{}, h.cause(""))
	wantCode(t, err, events.CodeCustomerNotFound)
}

func TestProviderAccountHistory(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	for _, in := range []events.ProviderAccountInput{
		events.UnlinkAccount{ProviderCustomerID: "cus_1"},
		events.LinkAccount{ProviderID: provider, ProviderCustomerID: "cus_1"},
		events.LinkAccount{ProviderID: provider, ProviderCustomerID: "cus_2"},
		events.UnlinkAccount{ProviderCustomerID: "cus_2"},
		events.UnlinkAccount{ProviderCustomerID: "cus_1"},
		events.LinkAccount{ProviderID: provider, ProviderCustomerID: "cus_1"}, // a late report of the one that is gone
		events.LinkAccount{ProviderID: provider, ProviderCustomerID: "cus_2"},
	} {
		h.add(events.DecideProviderAccount(h.last(), in, h.cause("")))
	}
	want := []events.Type{"provider_account.linked", "provider_account.unlinked", "provider_account.linked"}
	if diff := cmp.Diff(want, h.types()); diff != "" {
		t.Error(diff)
	}
	if a := h.last().Data.ProviderAccount; a.Version != 2 || a.ProviderCustomerID != "cus_2" {
		t.Errorf("%+v", a)
	}
}

func TestAmounts(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		currency events.Currency
		amount   int64
		ok       bool
	}{
		{"usd", 50, true},
		{"usd", 49, false},
		{"usd", 0, false},
		{"usd", -1, false},
		{"usd", 99_999_999, true},
		{"usd", 100_000_000, false},
		{"gbp", 30, true},
		{"gbp", 29, false},
		{"jpy", 50, true},
		{"jpy", 49, false},
		{"isk", 100, true},
		{"isk", 150, false},
		{"bhd", 1000, true},
		{"bhd", 1001, false},
	} {
		if err := tc.currency.CheckAmount(tc.amount); (err == nil) != tc.ok {
			t.Errorf("%d %s: %v, want ok = %v", tc.amount, tc.currency, err, tc.ok)
		}
	}
	for currency, want := range map[string]string{"usd": "49.00 USD", "jpy": "4900 JPY", "bhd": "4.900 BHD", "isk": "49.00 ISK"} {
		if got := events.FormatAmount(4900, currency); got != want {
			t.Errorf("4900 %s is written %q, want %q", currency, got, want)
		}
	}
	if got := events.FormatAmount(5, "usd"); got != "0.05 USD" {
		t.Errorf("got %q", got)
	}
	for _, c := range []events.Currency{"", "USD", "xxx", "us", "usd eur", "sd ", " us", "d a", "hrk"} {
		if c.Known() {
			t.Errorf("%q is known", c)
		}
	}
}

// As Stripe's page of currencies had it in July 2026: minimums in minor units, and the decimals of those that differ.
func TestCurrenciesAsStripeHasThem(t *testing.T) {
	t.Parallel()
	minimums := map[events.Currency]int64{
		"usd": 50, "aed": 200, "ars": 50, "aud": 50, "brl": 50, "cad": 50, "chf": 50, "cop": 50, "czk": 1500, "dkk": 250,
		"eur": 50, "gbp": 30, "hkd": 400, "huf": 17500, "idr": 50, "ils": 50, "inr": 50, "jpy": 50, "krw": 50, "mxn": 1000,
		"myr": 200, "nok": 300, "nzd": 50, "php": 50, "pln": 200, "ron": 200, "rub": 50, "sek": 300, "sgd": 50, "thb": 1000,
		"zar": 50,
	}
	exponents := map[events.Currency]int{
		"bif": 0, "clp": 0, "djf": 0, "gnf": 0, "jpy": 0, "kmf": 0, "krw": 0, "mga": 0, "pyg": 0, "rwf": 0, "vnd": 0, "vuv": 0,
		"xaf": 0, "xof": 0, "xpf": 0, "isk": 2, "ugx": 2, "huf": 2, "twd": 2, "bhd": 3, "jod": 3, "kwd": 3, "omr": 3, "tnd": 3,
	}
	for c, want := range minimums {
		if got := c.Minimum(); got != want || !c.Known() {
			t.Errorf("%s: at least %d (known: %v), want %d", c, got, c.Known(), want)
		}
		if err := c.CheckAmount(want); err != nil {
			t.Errorf("%d %s: %v", want, c, err)
		}
		if err := c.CheckAmount(want - 1); err == nil {
			t.Errorf("%d %s is taken", want-1, c)
		}
	}
	for c, want := range exponents {
		if got := c.Exponent(); got != want || !c.Known() {
			t.Errorf("%s: %d decimals (known: %v), want %d", c, got, c.Known(), want)
		}
	}
	for _, c := range []events.Currency{"zmw", "xcg", "sle", "byn", "mmk", "kzt"} {
		if !c.Known() || c.Minimum() != 1 || c.Exponent() != 2 {
			t.Errorf("%s: known %v, at least %d, %d decimals", c, c.Known(), c.Minimum(), c.Exponent())
		}
	}
	for c, amounts := range map[events.Currency][2]int64{"ugx": {500, 550}, "isk": {500, 501}, "kwd": {5120, 5124}, "tnd": {10, 5}} {
		if c.CheckAmount(amounts[0]) != nil || c.CheckAmount(amounts[1]) == nil {
			t.Errorf("%s: %v, %v", c, c.CheckAmount(amounts[0]), c.CheckAmount(amounts[1]))
		}
	}
}
