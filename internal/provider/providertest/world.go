// Package providertest is the suite that every provider's adapter passes against a simulator of that provider, and the
// table of faults: what each kind of broken answer must be called, and that doing the call again never does the thing
// twice.
//
// It owns no simulator and knows no provider: an adapter's own test builds a [World] and calls [Run] and [RunFaults].
package providertest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
)

// Card is a test card by what it does when it is charged.
type Card int

// The cards. Each can be saved.
const (
	CardGood          Card = iota
	CardDeclined           // declined whenever it is charged
	CardAuthenticates      // wants the buyer each time
)

// World is a fresh, empty account at a provider's simulator, and what the suite must be able to do there beside the
// adapter. The functions report simulator failures as errors; the suite fails on them.
type World struct {
	API          provider.API
	Webhooks     provider.Webhooks
	Env          string                                                                         // the environment of API
	Start        time.Time                                                                      // no object is older
	SaveMethod   func(ctx context.Context, customerID string, c Card) (string, error)           // saves a method, answers its id
	Complete     func(ctx context.Context, sessionID string, c Card) error                      // does what a buyer does on a page
	Authenticate func(ctx context.Context, paymentID string, passed bool) error                 // does what a buyer does at ActionURL
	Profile      func(ctx context.Context, customerID string) (provider.Profile, error)         // as the provider has it, without Owner
	Count        func(ctx context.Context, operation Operation, customerID string) (int, error) // how often it took effect
	Fault        func(ctx context.Context, f Fault) error                                       // breaks the next call of an operation
	Heal         func(ctx context.Context) error                                                // forgets all faults
}

// Operation names a creating call, in the words of the simulator's faults.
type Operation string

// The operations that can be broken. Only those that create or take something are counted.
const (
	CreateCustomer Operation = "customers.create"
	UpdateCustomer Operation = "customers.update"
	DeleteCustomer Operation = "customers.delete"
	CreateSession  Operation = "checkout_sessions.create"
	ExpireSession  Operation = "checkout_sessions.expire"
	CreatePayment  Operation = "payment_intents.create"
	ConfirmPayment Operation = "payment_intents.confirm"
	CancelPayment  Operation = "payment_intents.cancel"
	DetachMethod   Operation = "payment_methods.detach"
	CreateRefund   Operation = "refunds.create"
	GetPayment     Operation = "payment_intents.retrieve"
)

// Fault is one broken answer.
type Fault struct {
	Operation Operation
	Kind      string // "drop", "cut", "reset" or "status"
	Status    int    // with "status"
	After     bool   // the call was carried out before its answer broke
}

// scene is a world with a customer, as most tests begin.
type scene struct {
	*testing.T
	World
	owner    events.Owner
	customer string
}

func newScene(t *testing.T, w World) *scene {
	t.Helper()
	s := &scene{T: t, World: w, owner: events.Owner{Env: w.Env, Customer: "cust_" + t.Name()}}
	id, err := w.API.CreateCustomer(t.Context(), s.key("customer"), s.owner)
	if err != nil || id == "" {
		t.Fatalf("create a customer: %q, %v", id, err)
	}
	s.customer = id
	return s
}

// key is an idempotency key of this test's own.
func (s *scene) key(what string) string { return s.Name() + " " + what }

func (s *scene) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *scene) class(err error, want provider.Class) {
	s.Helper()
	if err == nil || provider.ClassOf(err) != want {
		s.Fatalf("got %v, want class %s", err, want)
	}
}

// charge is the owner of a charge's objects.
func (s *scene) charge(id string) events.Owner {
	o := s.owner
	o.Charge = "chg_" + id
	return o
}

func (s *scene) method(c Card) string {
	s.Helper()
	id, err := s.SaveMethod(s.Context(), s.customer, c)
	if err != nil || id == "" {
		s.Fatalf("save a method: %q, %v", id, err)
	}
	return id
}

func (s *scene) payment(methodID, charge string) events.Payment {
	s.Helper()
	p, err := s.API.CreatePayment(s.Context(), s.key("payment "+charge), s.paymentRequest(methodID, charge))
	s.must(err)
	return p
}

func (s *scene) paymentRequest(methodID, charge string) provider.PaymentRequest {
	return provider.PaymentRequest{
		CustomerID: s.customer, MethodID: methodID, Owner: s.charge(charge), Amount: 4900, Currency: "usd",
		Description: "Pro plan", Metadata: map[string]string{"order": "42"},
	}
}

// paid is a payment that took money.
func (s *scene) paid(charge string) events.Payment {
	s.Helper()
	m := s.method(CardGood)
	p, err := s.API.ConfirmPayment(s.Context(), s.key("confirm "+charge), s.payment(m, charge).ID, provider.ConfirmRequest{MethodID: m})
	s.must(err)
	if p.Status != events.PaymentSucceeded {
		s.Fatalf("the payment did not succeed: %+v", p)
	}
	return p
}

func (s *scene) sessionRequest(checkout string) provider.SessionRequest {
	o := s.owner
	o.Checkout, o.Charge = "chk_"+checkout, "chg_of_"+checkout
	return provider.SessionRequest{
		CustomerID: s.customer, Owner: o, Amount: 4900, Currency: "usd", Description: "Pro plan",
		SuccessURL: "https://example.com/thanks", CancelURL: "https://example.com/back", SaveMethod: true,
		Metadata: map[string]string{"order": "42"},
	}
}

func (s *scene) session() events.Session {
	s.Helper()
	one, err := s.API.CreateSession(s.Context(), s.key("session"), s.sessionRequest("1"))
	s.must(err)
	return one
}

func (s *scene) counted(op Operation, want int) {
	s.Helper()
	n, err := s.Count(s.Context(), op, s.customer)
	s.must(err)
	if n != want {
		s.Fatalf("%s took effect %d times, want %d", op, n, want)
	}
}

var errNotFound = errors.New("not found")

// found makes an error of "there is none".
func found(id string, ok bool, err error) (string, error) {
	switch {
	case err != nil:
		return "", err
	case !ok || id == "":
		return "", errNotFound
	}
	return id, nil
}

func sameID(got, want string) error {
	if got != want || got == "" {
		return fmt.Errorf("got %q, want %q", got, want)
	}
	return nil
}
