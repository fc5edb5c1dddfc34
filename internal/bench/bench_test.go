package bench_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit"
	"github.com/paykit-go/paykit/internal/dev"
)

const secret = "whsec_bench" //nolint:gosec // G101: of a sandbox on this machine

// span is how long each side of a ratio is measured, per round; rounds alternate.
const (
	span   = 2 * time.Second
	rounds = 3
)

// engine is `paykit dev` in this process, on free ports.
func engine(b *testing.B) (dev.Addresses, *paykit.Client) {
	b.Helper()
	return engineOn(b, "")
}

// engineOn is engine on a data folder that is there already, "" for one of its own.
func engineOn(b *testing.B, dir string) (dev.Addresses, *paykit.Client) {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan dev.Addresses, 1), make(chan error, 1)
	go func() {
		done <- dev.Run(ctx, dev.Config{DataDir: dir, WebhookSecrets: []string{secret}, Logger: zerolog.Nop()}, func(a dev.Addresses) { ready <- a })
	}()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	select {
	case at := <-ready:
		pk, err := paykit.Connect(ctx, at.NATS)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(pk.Close)
		return at, pk
	case err := <-done:
		done <- err
		b.Fatalf("dev: %v", err)
	}
	return dev.Addresses{}, nil
}

// rate is how often per second do succeeds with so many callers at once.
func rate(b *testing.B, callers int, do func(n int) error) (perSecond float64, latencies []time.Duration) {
	b.Helper()
	var next, failed atomic.Int64
	var mu sync.Mutex
	var wg sync.WaitGroup
	began := time.Now()
	for range callers {
		wg.Go(func() {
			var mine []time.Duration
			for time.Since(began) < span {
				t := time.Now()
				if err := do(int(next.Add(1))); err != nil {
					failed.Add(1)
					b.Error(err)
					return
				}
				mine = append(mine, time.Since(t))
			}
			mu.Lock()
			latencies = append(latencies, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	took := time.Since(began)
	slices.Sort(latencies)
	return float64(len(latencies)) / took.Seconds(), latencies
}

func p99of(sorted []time.Duration) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(float64(len(sorted))*0.99), len(sorted)-1)]
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

func report(b *testing.B, pairs ...any) {
	b.Helper()
	b.ReportMetric(0, "ns/op")
	for i := 0; i+1 < len(pairs); i += 2 {
		b.ReportMetric(pairs[i].(float64), pairs[i+1].(string)) //nolint:forcetypeassert // our own calls
	}
}

// customer makes a customer with a saved card.
func customer(b *testing.B, at dev.Addresses, pk *paykit.Client, reference string) (customerID, methodID string) {
	b.Helper()
	c, err := pk.Customer.Sync(b.Context(), paykit.CustomerSync{ReferenceID: reference, Email: reference + "@example.com"})
	if err != nil {
		b.Fatal(err)
	}
	setup, err := pk.PaymentMethod.Attach(b.Context(), paykit.PaymentMethodAttach{CustomerID: c.ID, ReturnURL: "https://example.com/back"}, paykit.WithWait(10*time.Second))
	if err != nil {
		b.Fatal(err)
	}
	req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, at.Sandbox+"/_sandbox/checkout/"+setup.ProviderSessionID+"/complete", strings.NewReader(`{"card":"4242424242424242"}`))
	if err != nil {
		b.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	_ = res.Body.Close()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		list, err := pk.PaymentMethod.List(b.Context(), paykit.PaymentMethodList{CustomerID: c.ID})
		if err != nil {
			b.Fatal(err)
		}
		if len(list.Items) > 0 {
			return c.ID, list.Items[0].ID
		}
	}
	b.Fatal("the card was not saved")
	return "", ""
}
