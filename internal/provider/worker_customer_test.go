package provider_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/provider"
)

// stripeCustomer is a customer as the sandbox has it.
type stripeCustomer struct {
	Deleted  bool              `json:"deleted"`
	Email    string            `json:"email"`
	Name     string            `json:"name"`
	Metadata map[string]string `json:"metadata"`
	Invoice  struct {
		Default string `json:"default_payment_method"`
	} `json:"invoice_settings"`
}

func (p *person) atProvider() stripeCustomer {
	p.w.t.Helper()
	var c stripeCustomer
	p.w.get("/v1/customers/"+p.cus, &c)
	return c
}

func TestProfileIsPushed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.person()
	p.sync("ada@example.com", "Ada", map[string]string{"plan": "pro"})
	w.start()
	w.until(events.EntityCheckout, p.checkout().Event.Subject, checkoutIs(events.StateCreated))
	p.cus = w.state(events.EntityProviderAccount, p.account()).Data.ProviderAccount.ProviderCustomerID
	w.eventually("the profile follows the link", func() bool { return p.atProvider().Email == "ada@example.com" })

	p.sync("grace@example.com", "Grace", nil)
	w.eventually("the new profile is pushed", func() bool { return p.atProvider().Email == "grace@example.com" })
	want := map[string]string{"paykit_env": w.log.Env(), "paykit_customer": p.ref.ID}
	if diff := cmp.Diff(want, p.atProvider().Metadata); diff != "" {
		t.Error("metadata (-want +got)", diff)
	}
	w.eventually("the old profile is erased", func() bool { return !holds(w.t, w.server.StoreDir, "ada@example.com") })
}

// The push of an older revision, late and out of order, leaves the newest at the provider.
func TestProfilePushedLateIsTheNewest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	p.sync("old@example.com", "Old", nil)
	older, err := w.log.LoadFromLeader(t.Context(), events.EntityCustomer, p.ref.ID)
	if err != nil {
		t.Fatal(err)
	}
	p.sync("new@example.com", "New", nil)
	newer, err := w.log.LoadFromLeader(t.Context(), events.EntityCustomer, p.ref.ID)
	if err != nil {
		t.Fatal(err)
	}
	worker := w.worker()
	worker.CarryOut(t.Context(), w.message(newer, 1))
	// Something else overwrote it, as an overlapping worker's call in flight would.
	w.post("/v1/customers/"+p.cus, map[string][]string{"email": {"old@example.com"}}, nil)
	worker.CarryOut(t.Context(), w.message(older, 1))
	if got := p.atProvider().Email; got != "new@example.com" {
		t.Errorf("the provider has %q", got)
	}
}

func TestMethodsAreDefaultedAndDetached(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	otherPM, other := p.save("pm_card_mastercard")
	w.start()

	p.updateMethod(p.meth, events.SetDefaultMethod{})
	w.until(events.EntityPaymentMethod, p.meth, func(e *events.Event) bool { return e.Data.PaymentMethod.DefaultSettled() })
	if got := p.atProvider().Invoice.Default; got != p.pm {
		t.Errorf("the provider's default is %q, want %q", got, p.pm)
	}
	p.updateMethod(other, events.SetDefaultMethod{})
	w.until(events.EntityPaymentMethod, other, func(e *events.Event) bool { return e.Data.PaymentMethod.DefaultSettled() })
	if got := p.atProvider().Invoice.Default; got != otherPM {
		t.Errorf("the provider's default is %q, want %q", got, otherPM)
	}

	p.updateMethod(p.meth, events.DetachMethod{})
	w.until(events.EntityPaymentMethod, p.meth, func(e *events.Event) bool { return !e.Data.PaymentMethod.Live() })
	var m struct {
		Customer *string `json:"customer"`
	}
	w.get("/v1/payment_methods/"+p.pm, &m)
	if m.Customer != nil {
		t.Errorf("the method is still attached to %s", *m.Customer)
	}
}

// Two defaults carried out in the wrong order: the provider ends with the newer.
func TestDefaultsOutOfOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	otherPM, other := p.save("pm_card_mastercard")
	first := p.updateMethod(p.meth, events.SetDefaultMethod{})
	w.advance(time.Second)
	second := p.updateMethod(other, events.SetDefaultMethod{})
	worker := w.worker()
	for _, e := range []eventlog.Entry{second, first} {
		if got := worker.CarryOut(t.Context(), w.message(e, 1)); got != eventlog.Done() {
			t.Fatalf("%+v\n%s", got, w.logs)
		}
	}
	if got := p.atProvider().Invoice.Default; got != otherPM {
		t.Errorf("the provider's default is %q, want the newer %q", got, otherPM)
	}
}

func TestMethodChangesSurviveKills(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		point string
		in    events.PaymentMethodInput
		want  func(m *events.PaymentMethod) bool
	}{
		{"default_set", events.SetDefaultMethod{}, (*events.PaymentMethod).DefaultSettled},
		{"method_detached", events.DetachMethod{}, func(m *events.PaymentMethod) bool { return !m.Live() }},
	} {
		t.Run(tt.point, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.buyer("pm_card_visa")
			p.updateMethod(p.meth, tt.in)
			w.runUntil(tt.point)
			w.start()
			w.until(events.EntityPaymentMethod, p.meth, func(e *events.Event) bool { return tt.want(e.Data.PaymentMethod) })
		})
	}
}

// holds tells whether any file of the store holds the text.
func holds(t *testing.T, dir, text string) bool {
	t.Helper()
	found := false
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // the server makes and removes files meanwhile
		}
		b, err := os.ReadFile(path) //nolint:gosec // G304: a file of the test's own folder
		if err == nil && strings.Contains(string(b), text) {
			found = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A deleted customer's personal bytes leave every stream's files, and the provider; what is not theirs stays.
func TestDeletedCustomerIsErased(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"", "erased_here", "customer_erased"} {
		t.Run("killed at "+point, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p, other := w.buyer("pm_card_visa"), w.buyer("pm_card_visa")
			p.sync("canary-one@example.com", "Canary", nil)
			p.sync("canary-two@example.com", "Canary", nil)
			other.sync("bystander@example.com", "Bystander", nil)
			w.deliver("evt_own", p.cus, "payment_method.updated", `{"id":"`+p.pm+`","object":"payment_method","customer":"`+p.cus+`","billing_details":{"email":"canary-own@example.com"}}`)
			w.deliver("evt_none", "", "payment_intent.payment_failed", `{"id":"pi_1","object":"payment_intent","customer":null,"receipt_email":"canary-none@example.com","metadata":{"paykit_env":"`+w.log.Env()+`","paykit_customer":"`+p.ref.ID+`"}}`)
			w.deliver("evt_other", "", "payment_intent.payment_failed", `{"id":"pi_2","object":"payment_intent","customer":null,"receipt_email":"bystander-none@example.com","metadata":{"paykit_env":"`+w.log.Env()+`","paykit_customer":"`+other.ref.ID+`"}}`)
			if err := w.log.Bury(t.Context(), eventlog.DeadLetter{
				Stage: "commands", ID: "cmd_1", CustomerID: p.ref.ID, Body: []byte(`{"email":"canary-dead@example.com"}`), Reason: "x", At: w.now(),
			}); err != nil {
				t.Fatal(err)
			}
			p.delete()
			if point != "" {
				w.runUntil(point)
			}
			w.start()
			w.until(events.EntityProviderAccount, p.account(), func(e *events.Event) bool {
				return e.Data.ProviderAccount.Status == events.AccountUnlinked
			})
			w.until(events.EntityPaymentMethod, p.meth, func(e *events.Event) bool { return !e.Data.PaymentMethod.Live() })
			w.eventually("no canary is left", func() bool { return !holds(t, w.server.StoreDir, "canary") })
			if dead, err := w.log.DeadLetters(t.Context(), p.ref.ID); err != nil || len(dead) != 0 {
				t.Errorf("dead letters: %+v, %v", dead, err)
			}
			if !p.atProvider().Deleted {
				t.Error("the provider still has the customer")
			}
			for _, kept := range []string{"bystander@example.com", "bystander-none@example.com"} {
				if !holds(t, w.server.StoreDir, kept) {
					t.Errorf("%s was erased too", kept)
				}
			}
			if other.atProvider().Deleted {
				t.Error("another customer was deleted")
			}
		})
	}
}

// A customer revived before the erasing was done keeps the new life's profile and account.
func TestRevivedCustomerKeepsTheNewLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	p.sync("canary@example.com", "Old", nil)
	p.delete()
	p.sync("revived@example.com", "New", nil)
	w.start()
	w.until(events.EntityProviderAccount, p.account(), func(e *events.Event) bool {
		return e.Data.ProviderAccount.Status == events.AccountUnlinked
	})
	w.eventually("the old profile is gone", func() bool { return !holds(t, w.server.StoreDir, "canary@example.com") })
	rev, err := w.log.Profile(t.Context(), p.ref.ID)
	if err != nil || rev.Profile.Email == nil || *rev.Profile.Email != "revived@example.com" {
		t.Fatalf("profile is %+v, %v", rev, err)
	}
	w.until(events.EntityCheckout, p.checkout().Event.Subject, checkoutIs(events.StateCreated))
	p.cus = w.state(events.EntityProviderAccount, p.account()).Data.ProviderAccount.ProviderCustomerID
	w.eventually("the new account has the new profile", func() bool { return p.atProvider().Email == "revived@example.com" })
}

// The erasing of an old life, carried out after the new one has an account.
func TestErasingLateLeavesTheNewAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	p.sync("canary@example.com", "Old", nil)
	p.delete()
	deleted, err := w.log.LoadFromLeader(t.Context(), events.EntityCustomer, p.ref.ID)
	if err != nil {
		t.Fatal(err)
	}
	w.append(events.EntityProviderAccount, p.account(), p.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecideProviderAccount(last, events.UnlinkAccount{ProviderCustomerID: p.cus}, c)
	})
	p.sync("revived@example.com", "New", nil)
	worker := w.worker()
	if got := worker.CarryOut(t.Context(), w.message(p.checkout(), 1)); got != eventlog.Done() {
		t.Fatalf("%+v\n%s", got, w.logs)
	}
	if got := worker.CarryOut(t.Context(), w.message(deleted, 1)); got != eventlog.Done() {
		t.Fatalf("%+v\n%s", got, w.logs)
	}
	if !p.atProvider().Deleted {
		t.Error("the old life's provider customer is still there")
	}
	account := w.state(events.EntityProviderAccount, p.account()).Data.ProviderAccount
	p.cus = account.ProviderCustomerID
	if account.Status != events.AccountLinked || p.atProvider().Deleted {
		t.Errorf("the new life's account is %+v", account)
	}
}

// deliver stores a delivery as the webhook door does.
func (w *world) deliver(id, customer, typ, object string) {
	w.t.Helper()
	body := `{"id":"` + id + `","object":"event","api_version":"2023-10-16","created":1700000000,"type":"` + typ + `","data":{"object":` + object + `}}`
	stored, err := w.log.StoreDelivery(w.t.Context(), eventlog.Delivery{
		ProviderID: stripeID, EventID: id, ProviderCustomerID: customer, Body: []byte(body),
	})
	if err != nil || !stored {
		w.t.Fatalf("store delivery: %v, %v", stored, err)
	}
}

func TestWorkerKnowsEveryRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	known := map[events.Type]bool{}
	for _, typ := range w.worker().CarriedOut() {
		known[typ] = true
	}
	want := map[events.Type]bool{}
	for _, typ := range events.RequestTypes() {
		want[typ] = true
	}
	if diff := cmp.Diff(want, known); diff != "" {
		t.Error("requests (-registry +worker)", diff)
	}
}

func TestRequestOfAnUnconfiguredProviderIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.person()
	e := p.checkout()
	worker := provider.NewWorker(w.log, nil, provider.WorkerConfig{Now: w.now})
	if got := worker.CarryOut(t.Context(), w.message(e, 1)); got == eventlog.Done() {
		t.Error("the request was given up")
	}
	if got := w.history(events.EntityCheckout, e.Event.Subject); len(got) != 1 {
		t.Errorf("events %v", got)
	}
}
