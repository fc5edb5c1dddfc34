package paykit_test

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/paykit-go/paykit"
)

// A point is sent as a sequence or as a time in UTC, without the sequence that the client has seen; while its views are being
// built the client asks again, and nothing else that is refused does it ask for twice.
func TestAtIsAskedAgainWhileItIsBuilt(t *testing.T) {
	t.Parallel()
	nc := conn(t)
	pk := paykit.NewClient(nc, paykit.WithPrefix("past"))
	var mu sync.Mutex
	var asked []string
	refusals := []string{
		`{"error":{"code":"timeout","message":"being built","param":"Paykit-At"}}`,
		`{"error":{"code":"timeout","message":"being built","param":"Paykit-At"}}`,
	}
	sub, err := nc.Subscribe("past.query.charge.get", func(m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, m.Header.Get("Paykit-At")+m.Header.Get("Paykit-Min-Sequence"))
		answer := nats.NewMsg(m.Reply)
		answer.Data = []byte(`{"id":"chg_1","status":"succeeded"}`)
		answer.Header.Set("Paykit-Sequence", "77")
		if len(refusals) > 0 {
			answer.Data, refusals = []byte(refusals[0]), refusals[1:]
			answer.Header.Set("Nats-Service-Error-Code", "503")
		}
		if err := nc.PublishMsg(answer); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	charge, err := pk.Charge.Get(t.Context(), "chg_1", paykit.At(1200))
	if err != nil || charge.Status != paykit.ChargeSucceeded {
		t.Fatalf("%+v, %v", charge, err)
	}
	moment := time.Date(2026, 11, 22, 7, 14, 0, 5e6, time.FixedZone("", 3600))
	if _, err := pk.Charge.Get(t.Context(), "chg_1", paykit.At(moment)); err != nil {
		t.Fatal(err)
	}
	refusals = []string{`{"error":{"code":"timeout","message":"behind","param":"Paykit-Min-Sequence"}}`}
	if _, err := pk.Charge.Get(t.Context(), "chg_1", paykit.At(uint64(1))); !errors.As(err, new(*paykit.Error)) {
		t.Errorf("%v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"1200", "1200", "1200", "2026-11-22T06:14:00.005Z", "1"}; !slices.Equal(asked, want) {
		t.Errorf("asked for %v, want %v", asked, want)
	}
}

// An app asks how things stood after an event that it has seen, and at a time.
func TestAtAPoint(t *testing.T) {
	t.Parallel()
	pk, err := paykit.Connect(t.Context(), at.NATS)
	if err != nil {
		t.Fatal(err)
	}
	defer pk.Close()
	before := time.Now().Add(-time.Minute)
	customer, err := pk.Customer.Sync(t.Context(), paykit.CustomerSync{ReferenceID: "traveller", Email: "ada@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pk.Customer.Get(t.Context(), customer.ID, paykit.At(before)); !notFound(err) {
		t.Errorf("before it was: %v", err)
	}
	if _, err := pk.Customer.Get(t.Context(), customer.ID, paykit.At(0)); !notFound(err) {
		t.Errorf("before everything: %v", err)
	}
	then, err := pk.Customer.Get(t.Context(), customer.ID, paykit.At(time.Now()))
	if err != nil || then.ReferenceID != "traveller" || then.Email != nil {
		t.Errorf("now, as history has it: %+v, %v", then, err)
	}
	if now, err := pk.Customer.Get(t.Context(), customer.ID); err != nil || now.Email == nil {
		t.Errorf("now: %+v, %v", now, err)
	}
}

func notFound(err error) bool {
	var refusal *paykit.Error
	return errors.As(err, &refusal) && refusal.Code == paykit.CodeCustomerNotFound
}
