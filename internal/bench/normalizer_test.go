package bench_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
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

// payment fills in the n-th delivery of a burst: payment_intent.succeeded, each of another payment.
func payment(n int, providerCustomerID, metadata string) eventlog.Delivery {
	id := fmt.Sprintf("evt_burst%016d", n)
	body := strings.NewReplacer(
		"%s", id, "pi_3OaQp2LkdIwHu7ix0aB1cD2e", paymentID(n), "ch_3OaQp2LkdIwHu7ix0zY9xW8v", fmt.Sprintf("ch_burst%019d", n),
		"cus_PPFbSJ4dXo1q7R", providerCustomerID, `"order": "2026-11-22-000137",`, metadata,
	).Replace(stripeDelivery)
	return eventlog.Delivery{ProviderID: "stripe", EventID: id, ProviderCustomerID: providerCustomerID, Body: []byte(body)}
}

func paymentID(n int) string { return fmt.Sprintf("pi_burst%019d", n) }

// ourCharge makes a charge of ours whose payment is on its way at the provider, as the worker leaves it behind.
func ourCharge(ctx context.Context, log *eventlog.Log, n, customer int) (metadata string, err error) {
	reference := fmt.Sprint("user_", customer)
	ref := events.CustomerRef{ID: events.CustomerID(reference), ReferenceID: reference}
	id := events.ChargeID(fmt.Sprint("burst ", n))
	cause := events.Cause{Now: time.Now(), Source: "/paykit/bench", CommandID: events.CommandID("charge.create", fmt.Sprint("burst ", n)), Customer: ref}
	requested, _, err := log.UpdateFrom(ctx, events.EntityCharge, id, eventlog.Entry{}, func(last *events.Event) (*events.Event, error) {
		return events.DecideCharge(last, events.CreateCharge{
			ID: id, ProviderID: "stripe", PaymentMethodID: events.PaymentMethodID("stripe", "pm_1OaQnzLkdIwHu7ixq1w2e3r4"),
			Amount: 4900, Currency: "usd", Description: "Subscription of November", CommandDigest: "sha256:x",
		}, cause)
	})
	if err != nil {
		return "", err
	}
	_, appended, err := log.UpdateFrom(ctx, events.EntityCharge, id, requested, func(last *events.Event) (*events.Event, error) {
		return events.DecideCharge(last, events.PaymentObserved{ID: id, ProviderID: "stripe", Payment: events.Payment{
			Owner: events.Owner{Env: log.Env(), Customer: ref.ID, Charge: id}, ID: paymentID(n), Status: events.PaymentProcessing,
			Amount: 4900, Currency: "usd", CreatedAt: time.Now(),
		}}, cause)
	})
	if err == nil && !appended {
		err = fmt.Errorf("charge %d is not on its way", n)
	}
	return fmt.Sprintf(`"paykit_env": %q, "paykit_customer": %q, "paykit_charge": %q,`, log.Env(), ref.ID, id), err
}

// each does something for each delivery of a burst, many at once.
func each(b *testing.B, do func(n int) error) {
	b.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	for range 256 {
		all.Go(func() {
			for n := int(next.Add(1)); n <= burst; n = int(next.Add(1)) {
				if err := do(n); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if b.Failed() {
		b.FailNow()
	}
}

// BenchmarkNormalizer: how fast a burst of deliveries becomes events, beside bare guarded publishes of events as large.
func BenchmarkNormalizer(b *testing.B) {
	b.Run("charges of ours", func(b *testing.B) {
		target, log := doorAlone(b)
		of := knownCustomers(b, log)
		each(b, func(n int) error {
			metadata, err := ourCharge(b.Context(), log, n, n%customers)
			if err == nil {
				_, err = log.StoreDelivery(b.Context(), payment(n, of[n%customers], metadata))
			}
			return err
		})
		workOff(b, "burst of 50,000 about our charges", target, log, atLeast(0.7))
	})
	b.Run("payments made elsewhere", func(b *testing.B) {
		target, log := doorAlone(b)
		of := knownCustomers(b, log)
		each(b, func(n int) error {
			_, err := log.StoreDelivery(b.Context(), payment(n, of[n%customers], ""))
			return err
		})
		workOff(b, "burst of 50,000 about payments made elsewhere", target, log, bound{})
	})
}

// workOff measures how fast the normalizer makes one event of each delivery that waits, while the door stays open.
func workOff(b *testing.B, name, target string, log *eventlog.Log, want bound) {
	b.Helper()
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
	size := int((after.Bytes - before.Bytes) / burst) //nolint:gosec // G115: of one event
	published := appendBare(b, log, size)
	perSecond := burst / took.Seconds()
	figure(name+": made events", perSecond, "1/s", bound{})
	figure(name+": bare guarded publishes of such events", published.perSecond, "1/s", bound{})
	figure(name+": made events to bare guarded publishes", perSecond/published.perSecond, "ratio", want)
	figure(name+": the door's p99 meanwhile", float64(p99of(times))/1e6, "ms", bound{})
	report(b, perSecond/published.perSecond, "ratio", perSecond, "normalized/s", published.perSecond, "published/s", float64(size), "bytes/event")
}

// appendBare publishes into the LOG what takes as much room as an event, under the guard that an event has, as many at once as
// the normalizer does.
func appendBare(b *testing.B, log *eventlog.Log, size int) load {
	b.Helper()
	js, err := jetstream.New(log.Conn())
	if err != nil {
		b.Fatal(err)
	}
	customer := events.CustomerID("user_0")
	prefix := log.Prefix() + ".log.charge."
	body := bytes.Repeat([]byte("x"), size-len(prefix)-100) // beside it stand the subject, the guard and the record's own fields
	perSecond, times := rate(b, lanes, func(n int) error {
		id := events.ChargeID(fmt.Sprint("bare ", deliveries.Add(1), n))
		_, err := js.Publish(b.Context(), prefix+"succeeded."+id+"."+customer, body,
			jetstream.WithExpectLastSequenceForSubject(0, prefix+"*."+id+".*"))
		return err
	})
	return load{perSecond: perSecond, p50: times[len(times)/2], p99: p99of(times)}
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
