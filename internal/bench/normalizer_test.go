package bench_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/provider"
	"github.com/paykit-go/paykit/internal/provider/stripe"
)

const (
	burst     = 50_000
	lanes     = 32   // the normalizer's own default
	customers = 1000 // that the burst's payments are of
)

// knownCustomers makes customers whose accounts at the provider are linked.
func knownCustomers(b *testing.B, log *eventlog.Log) (providerIDs []string) {
	b.Helper()
	var all sync.WaitGroup
	providerIDs = make([]string, customers)
	for part := range 16 {
		all.Go(func() {
			for i := part; i < customers; i += 16 {
				providerIDs[i] = fmt.Sprintf("cus_bench%08d", i)
				if err := knownCustomer(b.Context(), log, fmt.Sprint("user_", i), providerIDs[i]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	return providerIDs
}

func knownCustomer(ctx context.Context, log *eventlog.Log, reference, providerID string) error {
	id := events.CustomerID(reference)
	ref := events.CustomerRef{ID: id, ReferenceID: reference}
	cause := events.Cause{Now: time.Now(), Source: "/paykit/bench", CommandID: events.CommandID("customer.sync", reference), Customer: ref}
	_, _, err := log.Update(ctx, events.EntityCustomer, id, func(last *events.Event) (*events.Event, error) {
		return events.DecideCustomer(last, events.SyncCustomer{ReferenceID: reference, Revision: 1, Changed: []string{"email"}}, cause)
	})
	if err != nil {
		return err
	}
	if err := log.PutLink(ctx, "stripe", providerID, eventlog.Link{Entity: events.EntityCustomer, ID: id, CustomerID: id}); err != nil {
		return err
	}
	_, _, err = log.Update(ctx, events.EntityProviderAccount, events.ProviderAccountID(id, "stripe"), func(last *events.Event) (*events.Event, error) {
		return events.DecideProviderAccount(last, events.LinkAccount{ProviderID: "stripe", ProviderCustomerID: providerID}, cause)
	})
	return err
}

// payments is a body for each payment of the burst: payment_intent.succeeded, each of another payment, as from a dashboard.
func payments(of []string) func(n int) (id string, body []byte) {
	return func(n int) (string, []byte) {
		id := fmt.Sprintf("evt_burst%016d", n)
		body := fmt.Sprintf(stripeDelivery, id)
		body = strings.ReplaceAll(body, "3OaQp2LkdIwHu7ix0aB1cD2e", fmt.Sprintf("burst%019d", n))
		body = strings.ReplaceAll(body, "3OaQp2LkdIwHu7ix0zY9xW8v", fmt.Sprintf("burst%019d", n))
		return id, []byte(strings.ReplaceAll(body, "cus_PPFbSJ4dXo1q7R", of[n%len(of)]))
	}
}

// BenchmarkNormalizer: how fast a burst of deliveries becomes events, beside bare guarded publishes of events as large.
func BenchmarkNormalizer(b *testing.B) {
	target, log := doorAlone(b)
	of := knownCustomers(b, log)
	make1 := payments(of)
	var next atomic.Int64
	var all sync.WaitGroup
	for range 256 {
		all.Go(func() {
			for n := next.Add(1); n <= burst; n = next.Add(1) {
				id, body := make1(int(n))
				if _, err := log.StoreDelivery(b.Context(), eventlog.Delivery{ProviderID: "stripe", EventID: id, ProviderCustomerID: of[int(n)%len(of)], Body: body}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if b.Failed() {
		return
	}
	before, err := log.Info(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	ended := make(chan error, 1)
	normalizer := provider.NewNormalizer(log, map[string]provider.Webhooks{"stripe": &stripe.Webhooks{}}, provider.NormalizerConfig{Logger: zerolog.Nop(), Lanes: lanes})
	began := time.Now()
	go func() { ended <- normalizer.Run(ctx) }()
	times, err := knock(b.Context(), target, func() (bool, error) {
		left, err := log.Backlog(b.Context(), eventlog.ConsumerNormalizer)
		return left.Waiting+left.Open > 1, err // one may be the one that has just been delivered
	})
	took := time.Since(began)
	if err != nil {
		b.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		b.Fatal(err)
	}
	after, err := log.Info(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	if made := after.LastSequence - before.LastSequence; made != burst {
		b.Fatalf("%d events of %d deliveries", made, burst)
	}
	size := int(after.Bytes-before.Bytes) / burst
	published := publish(b, log.Conn(), lanes, size)
	perSecond := burst / took.Seconds()
	figure("burst of 50,000 deliveries: made events", perSecond, "1/s", bound{})
	figure("burst of 50,000 deliveries: bare guarded publishes of such events", published.perSecond, "1/s", bound{})
	figure("burst of 50,000 deliveries: made events to bare guarded publishes", perSecond/published.perSecond, "ratio", atLeast(0.7))
	figure("burst of 50,000 deliveries: the door's p99 meanwhile", float64(p99of(times))/1e6, "ms", bound{})
	report(b, perSecond/published.perSecond, "ratio", perSecond, "normalized/s", published.perSecond, "published/s", float64(size), "bytes/event")
}

// knock delivers one after the other while more says so, a fiftieth of a second apart.
func knock(ctx context.Context, target string, more func() (bool, error)) ([]time.Duration, error) {
	s, err := newSender(target)
	if err != nil {
		return nil, err
	}
	defer s.conn.Close()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var times []time.Duration
	for n := 0; ; n++ {
		if n%10 == 0 {
			if goOn, err := more(); err != nil || !goOn {
				slices.Sort(times)
				return times, err
			}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
		t := time.Now()
		if err := s.deliver(deliveries.Add(1)); err != nil {
			return nil, err
		}
		times = append(times, time.Since(t))
	}
}

