package bench_test

import (
	"context"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/paykit-go/paykit"
)

// BenchmarkSubscribe: how fast a new subscriber takes in a LOG of 100,000 events from the first on, one handler call each, in
// order per customer, beside a bare consumer that only acknowledges what it gets.
func BenchmarkSubscribe(b *testing.B) {
	const n = 100_000
	dir := b.TempDir()
	fill(b, dir, n)
	ns, err := server.NewServer(&server.Options{
		ServerName: "bench", Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: filepath.Join(dir, "nats"),
		SyncAlways: true, NoSigs: true, NoLog: true,
	})
	if err != nil {
		b.Fatal(err)
	}
	go ns.Start()
	b.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(20 * time.Second) {
		b.Fatal("the server is not ready")
	}
	var bare, ours []float64
	for round := range rounds {
		name := string(rune('a' + round))
		bare = append(bare, n/bareConsumer(b, ns.ClientURL(), "bare-"+name, n).Seconds())
		ours = append(ours, n/subscriber(b, ns.ClientURL(), name, n).Seconds())
	}
	report(b, median(ours), "events/s", median(bare), "bare/s")
	figure("new subscriber catches up", median(ours), "events/s", bound{})
	figure("… of a bare consumer's rate", median(ours)/median(bare), "", bound{})
}

// bareConsumer acknowledges n events of a durable consumer of its own.
func bareConsumer(b *testing.B, url, name string, n int64) time.Duration {
	b.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	consumer, err := js.CreateConsumer(b.Context(), "PAYKIT_LOG", jetstream.ConsumerConfig{
		Durable: name, DeliverPolicy: jetstream.DeliverAllPolicy, AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 50_000,
	})
	if err != nil {
		b.Fatal(err)
	}
	var seen atomic.Int64
	done := make(chan struct{})
	cc, err := consumer.Consume(func(m jetstream.Msg) {
		if err := m.Ack(); err != nil {
			b.Error(err)
		}
		if seen.Add(1) == n {
			close(done)
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	defer cc.Stop()
	wait(b, done)
	return time.Since(began)
}

// subscriber handles n events from the first on.
func subscriber(b *testing.B, url, name string, n int64) time.Duration {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	pk, err := paykit.Connect(ctx, url)
	if err != nil {
		b.Fatal(err)
	}
	defer pk.Close()
	var seen atomic.Int64
	done, ended := make(chan struct{}), make(chan error, 1)
	began := time.Now()
	go func() {
		ended <- pk.Subscribe(ctx, name, paykit.Handlers{Any: func(context.Context, paykit.Event) error {
			if seen.Add(1) == n {
				close(done)
			}
			return nil
		}}, paykit.FromBeginning())
	}()
	wait(b, done)
	took := time.Since(began)
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	return took
}

func wait(b *testing.B, done <-chan struct{}) {
	b.Helper()
	select {
	case <-done:
	case <-time.After(5 * time.Minute):
		b.Fatal("not caught up within five minutes")
	}
}
