package bench_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/paykit-go/paykit"
	"github.com/paykit-go/paykit/internal/dev"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
	"github.com/paykit-go/paykit/internal/provider/stripe"
)

const (
	inFlight    = 64 // charges at once
	singleRuns  = 150
	apart       = 20 * time.Millisecond // between what is measured in turn: nothing meets the deliveries of what was before it
	chargeLimit = 20 * time.Second      // of a charge among many
)

// payer is a customer with a saved card, as the engine and as the provider know them.
type payer struct{ customerID, methodID string }

func (p payer) charge(ctx context.Context, pk *paykit.Client) error {
	c, err := pk.Charge.Create(ctx, paykit.ChargeCreate{
		CustomerID: p.customerID, PaymentMethodID: p.methodID, Amount: 1900, Description: "bench",
	}, paykit.WithWait(chargeLimit))
	if err == nil && c.Status != paykit.ChargeSucceeded {
		err = fmt.Errorf("charge is %s", c.Status)
	}
	return err
}

// BenchmarkChargeBeyond: a lone charge's time beyond the two bare Stripe calls. One fsync is a bare guarded publish of an event's
// size into a stream of its own; the three are measured in turn, one every 20 ms.
func BenchmarkChargeBeyond(b *testing.B) {
	at, pk := engine(b)
	calls, charges, syncs := beyond(b, at, pk)
	over := (median(charges) - median(calls)) / median(syncs)
	report(b, median(charges)/1e6, "charge-ms", median(calls)/1e6, "two-calls-ms", median(syncs)/1e6, "fsync-ms", over, "beyond-in-fsyncs")
	figure("a charge, median", median(charges)/1e6, "ms", bound{})
	figure("the two bare Stripe calls, median", median(calls)/1e6, "ms", bound{})
	figure("a bare guarded publish (one fsync), median", median(syncs)/1e6, "ms", bound{})
	figure("a charge beyond the two calls", over, "fsyncs", atMost(5))
}

// beyond measures, in turn, the two bare calls of a charge, a charge, and a bare guarded publish, each in nanoseconds.
func beyond(b *testing.B, at dev.Addresses, pk *paykit.Client) (calls, charges, syncs []float64) {
	b.Helper()
	customerID, methodID := customer(b, at, pk, "bench")
	c, err := pk.Customer.Get(b.Context(), customerID)
	if err != nil {
		b.Fatal(err)
	}
	m, err := pk.PaymentMethod.Get(b.Context(), methodID)
	if err != nil {
		b.Fatal(err)
	}
	api, err := stripe.New(stripe.Config{APIKey: "sk_test_bench", APIBase: at.Sandbox, Env: "bench"}) //nolint:gosec // G101: any key will do
	if err != nil {
		b.Fatal(err)
	}
	who, publish := payer{customerID, methodID}, guardedPublish(b, at)
	pace := time.NewTicker(apart)
	defer pace.Stop()
	for i := range singleRuns {
		<-pace.C
		t := time.Now()
		p, err := api.CreatePayment(b.Context(), fmt.Sprintf("bare-%d", i), provider.PaymentRequest{
			CustomerID: c.ProviderAccounts[0].ProviderCustomerID, MethodID: m.ProviderMethodID, Amount: 1900, Currency: "usd",
			Description: "bench", Owner: events.Owner{Env: "bench"},
		})
		if err == nil {
			p, err = api.ConfirmPayment(b.Context(), fmt.Sprintf("bare-confirm-%d", i), p.ID, provider.ConfirmRequest{MethodID: m.ProviderMethodID})
		}
		if err != nil || p.Status != events.PaymentSucceeded {
			b.Fatalf("bare charge: %+v, %v", p, err)
		}
		calls = append(calls, float64(time.Since(t)))
		<-pace.C
		t = time.Now()
		if err := who.charge(b.Context(), pk); err != nil {
			b.Fatal(err)
		}
		charges = append(charges, float64(time.Since(t)))
		<-pace.C
		t = time.Now()
		publish()
		syncs = append(syncs, float64(time.Since(t)))
	}
	return calls, charges, syncs
}

// BenchmarkCharges: charges a second with 64 asked for at once, of as many customers, and of one, whose charges wait for each
// other on purpose.
func BenchmarkCharges(b *testing.B) {
	for _, customers := range []int{inFlight, 1} {
		b.Run(fmt.Sprintf("customers=%d", customers), func(b *testing.B) {
			at, pk := engine(b)
			payers := make([]payer, customers)
			for i := range payers {
				payers[i].customerID, payers[i].methodID = customer(b, at, pk, fmt.Sprintf("bench-%d", i))
			}
			var rates, p99 []float64
			for range rounds {
				perSecond, times := rate(b, inFlight, func(n int) error { return payers[n%customers].charge(b.Context(), pk) })
				rates, p99 = append(rates, perSecond), append(p99, float64(p99of(times))/1e6)
			}
			report(b, median(rates), "charges/s", median(p99), "p99-ms")
			name, want := fmt.Sprintf("charges at %d in flight, %d customers", inFlight, customers), atLeast(500)
			if customers == 1 {
				name, want = fmt.Sprintf("charges at %d in flight, one customer: one after the other", inFlight), bound{}
			}
			figure(name, median(rates), "/s", want)
			figure(name+", p99", median(p99), "ms", bound{})
		})
	}
}

// guardedPublish is one bare guarded publish, of an event's size, into a stream of its own on the same server.
func guardedPublish(b *testing.B, at dev.Addresses) func() {
	b.Helper()
	nc, err := nats.Connect(at.NATS)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := js.CreateStream(b.Context(), jetstream.StreamConfig{Name: "BENCH", Subjects: []string{"bench.>"}}); err != nil {
		b.Fatal(err)
	}
	payload, n := bytes.Repeat([]byte("x"), 1000), 0
	return func() {
		n++
		subject := fmt.Sprintf("bench.%d.x", n)
		if _, err := js.Publish(b.Context(), subject, payload, jetstream.WithExpectLastSequenceForSubject(0, fmt.Sprintf("bench.%d.*", n))); err != nil {
			b.Fatal(err)
		}
	}
}
