package e2e_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/paykit-go/paykit"
)

// startDev runs `paykit dev` on a data folder, on ports of its own each time.
func startDev(t *testing.T, dir string) (*process, *system) {
	t.Helper()
	at := [3]int{freePort(t), freePort(t), freePort(t)}
	p := start(t, nil, "paykit", "dev", "--data-dir", dir,
		"--nats-port", fmt.Sprint(at[0]), "--http-port", fmt.Sprint(at[1]), "--sandbox-port", fmt.Sprint(at[2]))
	s := &system{
		t: t, natsURL: fmt.Sprintf("nats://127.0.0.1:%d", at[0]), ingest: fmt.Sprintf("http://127.0.0.1:%d", at[1]),
		sandbox: fmt.Sprintf("http://127.0.0.1:%d", at[2]),
	}
	p.awaitHTTP(s.ingest + "/readyz")
	s.tap()
	return p, s
}

// bought makes a customer who paid a checkout and whose card was charged once more.
func (s *system) bought(pk *paykit.Client) (customerID, methodID, chargeID string) {
	s.t.Helper()
	customer, err := pk.Customer.Sync(s.t.Context(), paykit.CustomerSync{ReferenceID: "user_123", Email: "jane@example.com"})
	if err != nil {
		s.t.Fatal(err)
	}
	checkout, err := pk.Checkout.Create(s.t.Context(), paykit.CheckoutCreate{
		CustomerID: customer.ID, Amount: 4900, Description: "Starter plan", AttachMethod: true, SuccessURL: "https://app.example.com/ok",
	}, paykit.WithWait(20*time.Second))
	if err != nil || checkout.URL == "" {
		s.t.Fatalf("checkout: %+v, %v", checkout, err)
	}
	if status, body := s.pay(checkout.ProviderSessionID, card4242); status != 200 {
		s.t.Fatalf("pay: %d %s", status, body)
	}
	eventually(s.t, "the card is saved", func() bool {
		list, err := pk.PaymentMethod.List(s.t.Context(), paykit.PaymentMethodList{CustomerID: customer.ID})
		if err == nil && len(list.Items) == 1 {
			methodID = list.Items[0].ID
		}
		return methodID != ""
	})
	checkoutCharge(s.t, pk, checkout.ID)
	return customer.ID, methodID, s.charged(pk, customer.ID, methodID, "march")
}

// charged charges a saved card under a key.
func (s *system) charged(pk *paykit.Client, customerID, methodID, key string) string {
	s.t.Helper()
	charge, err := pk.Charge.Create(s.t.Context(), paykit.ChargeCreate{
		CustomerID: customerID, PaymentMethodID: methodID, Amount: 1900, Description: "Usage",
	}, paykit.WithIdempotencyKey(key), paykit.WithWait(20*time.Second))
	if err != nil || charge.Status != paykit.ChargeSucceeded {
		s.t.Fatalf("charge %s: %+v, %v", key, charge, err)
	}
	if n := s.captures(charge.ID); n != 1 {
		s.t.Errorf("money was taken %d times for %s", n, key)
	}
	return charge.ID
}

// quiet fails if anything is appended within d.
func (s *system) quiet(d time.Duration) {
	s.t.Helper()
	nc, err := nats.Connect(s.natsURL)
	if err != nil {
		s.t.Fatal(err)
	}
	defer nc.Close()
	news := make(chan *nats.Msg, 100)
	if _, err := nc.ChanSubscribe("paykit.events.>", news); err != nil {
		s.t.Fatal(err)
	}
	select {
	case m := <-news:
		s.t.Errorf("appended by itself: %s %s", m.Subject, m.Data)
	case <-time.After(d):
	}
}

// dev on a kept folder goes on where it was, on whatever ports, after SIGTERM as after kill -9, and appends nothing by itself.
func TestDevGoesOn(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		end  func(*testing.T, *process)
	}{
		{"killed", func(_ *testing.T, p *process) { p.kill() }},
		{"terminated", terminated},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			p, s := startDev(t, dir)
			pk := s.client()
			customerID, methodID, first := s.bought(pk)
			eventually(t, "events and answers are held against their schemas", func() bool { return s.seen.Events() >= 10 && s.seen.Answers() >= 3 })
			var before digest
			eventually(t, "every delivery has led to what it leads to", func() bool {
				before = s.rebuild()
				return before.Sequence == 10
			})
			pk.Close()
			tc.end(t, p)

			p, s = startDev(t, dir)
			s.quiet(3 * time.Second)
			if after := s.rebuild(); after.Digest != before.Digest || after.Sequence != before.Sequence {
				t.Errorf("before %+v, after %+v", before, after)
			}
			pk = s.client()
			if again := s.charged(pk, customerID, methodID, "march"); again != first {
				t.Errorf("the key gives %s, then %s", first, again)
			}
			second := s.charged(pk, customerID, methodID, "april")
			if n := len(s.ledger()); n != 3 || s.captures(first) != 1 || s.captures(second) != 1 {
				t.Errorf("the books: %+v", s.ledger())
			}
			pk.Close()
			tc.end(t, p)

			p, s = startDev(t, dir)
			if again := s.charged(s.client(), customerID, methodID, "april"); again != second {
				t.Errorf("the key gives %s, then %s", second, again)
			}
			terminated(t, p)
		})
	}
}

// A data folder belongs to one dev: a second one says so, and harms nothing.
func TestDevOneFolderOneProcess(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	p, s := startDev(t, dir)
	pk := s.client()
	customerID, methodID := s.saved(pk, "user_123", card4242)
	second := start(t, nil, "paykit", "dev", "--data-dir", dir, "--nats-port", "0", "--http-port", "0", "--sandbox-port", "0")
	if status := second.status(15 * time.Second); status != 1 || !strings.Contains(second.out.String(), "sandbox.jsonl: in use by another process") {
		t.Errorf("status %d: %s", status, second.out)
	}
	s.charged(pk, customerID, methodID, "march")
	pk.Close()
	terminated(t, p)
}

// terminated ends a program as Ctrl-C does.
func terminated(t *testing.T, p *process) {
	t.Helper()
	if status, took := p.terminate(); status != 0 || took > 8*time.Second {
		t.Errorf("%s ended with %d after %s", p.name, status, took)
	}
}

// dev killed between the provider's confirm and its answer: the payment is in the sandbox's books, and the charge finds it.
func TestDevKilledInCharge(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	p, s := startDev(t, dir)
	pk := s.client()
	customerID, methodID := s.saved(pk, "user_killed", card4242)
	if status, body := post(t, s.sandbox+"/_sandbox/webhooks", `{"drop":true}`, "Content-Type", "application/json"); status != 200 {
		t.Fatalf("drop: %d %s", status, body)
	}
	status, body := post(t, s.sandbox+"/_sandbox/faults", `{"operation":"payment_intents.confirm","kind":"delay","when":"after","delay":"60s"}`, "Content-Type", "application/json")
	if status != 200 {
		t.Fatalf("fault: %d %s", status, body)
	}
	charge, err := pk.Charge.Create(t.Context(), paykit.ChargeCreate{
		CustomerID: customerID, PaymentMethodID: methodID, Amount: 1900, Description: "Usage",
	}, paykit.WithWait(0))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the confirm is executed", func() bool { return s.captures(charge.ID) == 1 })
	pk.Close()
	p.kill()

	_, s = startDev(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	settled, err := s.client().Charge.Settled(ctx, charge.ID)
	if err != nil || settled.Status != paykit.ChargeSucceeded {
		t.Fatalf("after the kill: %+v, %v", settled, err)
	}
	if n := s.captures(charge.ID); n != 1 {
		t.Errorf("money was taken %d times", n)
	}
}
