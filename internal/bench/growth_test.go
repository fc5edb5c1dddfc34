package bench_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/paykit-go/paykit"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/projections"
)

const (
	growthSmall  = 10_000
	growthLarge  = 1_000_000 // unless BENCH_GROWTH says otherwise
	growthRuns   = 300
	growthViews  = 10 * time.Minute // for the views of a large log
	growthFactor = 1.2
)

// grown is what was measured on a log of a certain length.
type grown struct {
	appendMS, queryMS, chargeMS float64
	logBytes, viewBytes         float64
	memory                      memory
}

// BenchmarkGrowth: what an append, a query and a charge cost on a long log against a short one, and what each process takes
// of memory per million events. BENCH_GROWTH is the long one's length.
func BenchmarkGrowth(b *testing.B) {
	large := growthLarge
	if text := os.Getenv("BENCH_GROWTH"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n <= growthSmall {
			b.Fatalf("BENCH_GROWTH=%q: want a number of events over %d", text, growthSmall)
		}
		large = n
	}
	bins := programs(b)
	var short, long grown
	b.Run(fmt.Sprintf("events=%d", growthSmall), func(b *testing.B) { short = grow(b, bins, growthSmall) })
	b.Run(fmt.Sprintf("events=%d", large), func(b *testing.B) { long = grow(b, bins, large) })
	millions := float64(large-growthSmall) / 1e6
	name := func(what string) string { return fmt.Sprintf("%s at %d events, against %d", what, large, growthSmall) }
	figure(name("an append"), long.appendMS/short.appendMS, "times", atMost(growthFactor))
	figure(name("a query"), long.queryMS/short.queryMS, "times", atMost(growthFactor))
	figure(name("a charge"), long.chargeMS/short.chargeMS, "times", atMost(growthFactor))
	figure("the LOG, an event", long.logBytes/float64(large), "bytes", bound{})
	figure("the views, an event", (long.viewBytes-short.viewBytes)/float64(large-growthSmall), "bytes", bound{})
	for _, one := range []struct {
		name        string
		short, long float64
	}{
		{"dev, which has the server in it", short.memory.dev, long.memory.dev},
		{"ingest", short.memory.ingest, long.memory.ingest},
		{"worker", short.memory.worker, long.memory.worker},
		{"projector", short.memory.projector, long.memory.projector},
	} {
		figure("memory per million events, "+one.name, (one.long-one.short)/millions, "MiB", bound{})
	}
}

// grow measures on a log of n events.
func grow(b *testing.B, bins string, n int) (g grown) {
	b.Helper()
	dir := b.TempDir()
	f := fill(b, dir, n)
	g.logBytes = float64(f.Bytes)
	foldViews(b, dir)
	info, err := os.Stat(filepath.Join(dir, "views.db"))
	if err != nil {
		b.Fatal(err)
	}
	g.viewBytes = float64(info.Size())
	b.Run("times", func(b *testing.B) {
		at, pk := engineOn(b, dir)
		nc, err := nats.Connect(at.NATS)
		if err != nil {
			b.Fatal(err)
		}
		defer nc.Close()
		log, err := eventlog.Open(b.Context(), nc, eventlog.Config{})
		if err != nil {
			b.Fatal(err)
		}
		who := payer{}
		who.customerID, who.methodID = customer(b, at, pk, "bench")
		var appends, queries, charges []float64
		for i := range growthRuns {
			appends = append(appends, timed(b, func() error { return appendOne(b.Context(), log, i) }))
		}
		for i := range growthRuns {
			queries = append(queries, timed(b, func() error {
				id, methodID := filledCustomer(i * 7919 % f.Customers)
				list, err := pk.PaymentMethod.List(b.Context(), paykit.PaymentMethodList{CustomerID: id})
				if err == nil && i*7919%f.Customers < f.Customers-fillGroup && (len(list.Items) != 1 || list.Items[0].ID != methodID) {
					err = fmt.Errorf("methods of %s: %+v", id, list.Items)
				}
				return err
			}))
		}
		for range growthRuns {
			charges = append(charges, timed(b, func() error { return who.charge(b.Context(), pk) }))
		}
		g.appendMS, g.queryMS, g.chargeMS = median(appends), median(queries), median(charges)
		report(b, g.appendMS, "append-ms", g.queryMS, "query-ms", g.chargeMS, "charge-ms")
	})
	b.Run("memory", func(b *testing.B) {
		g.memory, _ = processes(b, bins, dir, (*child).anon)
		report(b, g.memory.dev, "dev-MiB", g.memory.ingest, "ingest-MiB", g.memory.worker, "worker-MiB", g.memory.projector, "projector-MiB")
	})
	return g
}

func timed(b *testing.B, do func() error) (ms float64) {
	b.Helper()
	began := time.Now()
	if err := do(); err != nil {
		b.Fatal(err)
	}
	return float64(time.Since(began)) / 1e6
}

// appendOne begins a customer of its own: a read that finds nothing and a guarded publish.
func appendOne(ctx context.Context, log *eventlog.Log, i int) error {
	reference := fmt.Sprintf("grow_%d", i)
	id := events.CustomerID(reference)
	_, appended, err := log.Update(ctx, events.EntityCustomer, id, func(last *events.Event) (*events.Event, error) {
		return events.DecideCustomer(last, events.SyncCustomer{ReferenceID: reference}, events.Cause{
			Now: time.Now(), Source: "/paykit/ingest", CommandID: events.CommandID("customer.sync", reference),
		})
	})
	if err == nil && !appended {
		err = errors.New("nothing was appended")
	}
	return err
}

// foldViews makes the views of a filled log, as a projector that was away does.
func foldViews(b *testing.B, dir string) {
	b.Helper()
	ns, err := server.NewServer(&server.Options{
		ServerName: "fold", Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: filepath.Join(dir, "nats"),
		SyncAlways: true, NoSigs: true, NoLog: true,
	})
	if err != nil {
		b.Fatal(err)
	}
	go ns.Start()
	defer func() { ns.Shutdown(); ns.WaitForShutdown() }()
	if !ns.ReadyForConnections(2 * time.Minute) {
		b.Fatal("the server of a filled log is not ready")
	}
	nc, err := nats.Connect(ns.ClientURL())
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	log, err := eventlog.Open(b.Context(), nc, eventlog.Config{})
	if err != nil {
		b.Fatal(err)
	}
	views, err := projections.Open(dir, log, projections.Config{})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.Context(), growthViews)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- views.Run(ctx) }()
	for views.Ready() != nil && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	late := ctx.Err()
	cancel()
	if err := errors.Join(late, <-ended, views.Close()); err != nil {
		b.Fatal(err)
	}
}
