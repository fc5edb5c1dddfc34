package bench_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/projections"
)

// rebuildEvents is how long the log is that views are rebuilt from; REBUILD_EVENTS says otherwise.
const rebuildEvents = 1_000_000

// BenchmarkRebuild: the rate of a rebuild against a bare ordered consumer on the same log, its time, memory and file.
func BenchmarkRebuild(b *testing.B) {
	n := rebuildEvents
	if text := os.Getenv("REBUILD_EVENTS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			b.Fatalf("REBUILD_EVENTS: %v", err)
		}
	}
	dir := b.TempDir()
	fill(b, dir, n)
	log := filledLog(b, dir)
	var ratios, rates, bares, times, heaps, sizes []float64
	for range rounds {
		bare := consumeBare(b, log.Conn(), uint64(n))
		into := b.TempDir()
		runtime.GC()
		peak := watchMemory(b)
		began := time.Now()
		r, err := projections.Rebuild(b.Context(), log, into, projections.RebuildOptions{})
		if err != nil || r.Sequence != uint64(n) {
			b.Fatalf("rebuild: %+v, %v", r, err)
		}
		took := time.Since(began)
		heaps = append(heaps, peak())
		info, err := os.Stat(filepath.Join(into, projections.FileName))
		if err != nil {
			b.Fatal(err)
		}
		sizes = append(sizes, float64(info.Size())/float64(n))
		bares, rates = append(bares, float64(n)/bare.Seconds()), append(rates, float64(n)/took.Seconds())
		ratios, times = append(ratios, bare.Seconds()/took.Seconds()), append(times, took.Seconds()*1e6/float64(n))
		if err := os.RemoveAll(into); err != nil {
			b.Fatal(err)
		}
	}
	report(b, median(ratios), "ratio", median(rates), "events/s", median(bares), "bare/s", median(heaps), "peak-MiB", median(sizes), "file-bytes/event")
	figure("rebuild, of a bare ordered consumer", median(ratios), "", atLeast(0.6))
	figure("rebuild of 1,000,000 events", median(times), "s", atMost(30))
	figure("rebuild, peak of anonymous memory, server included", slices.Max(heaps), "MiB", atMost(256))
	figure("views.db, for each event", median(sizes), "bytes", bound{})
}

// filledLog opens what fill has made.
func filledLog(b *testing.B, dir string) *eventlog.Log {
	b.Helper()
	ns, err := server.NewServer(&server.Options{
		ServerName: "fill", Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: filepath.Join(dir, "nats"),
		SyncAlways: true, NoSigs: true, NoLog: true, MaxPayload: 2 << 20,
	})
	if err != nil {
		b.Fatal(err)
	}
	go ns.Start()
	b.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(time.Minute) {
		b.Fatal("the filled server is not ready")
	}
	nc, err := nats.Connect(ns.ClientURL())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	log, err := eventlog.Open(b.Context(), nc, eventlog.Config{})
	if err != nil {
		b.Fatal(err)
	}
	return log
}

// consumeBare reads the whole log and does nothing with it.
func consumeBare(b *testing.B, nc *nats.Conn, n uint64) time.Duration {
	b.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	c, err := js.OrderedConsumer(b.Context(), "PAYKIT_LOG", jetstream.OrderedConsumerConfig{})
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	var got uint64
	cc, err := c.Consume(func(jetstream.Msg) {
		if got++; got == n {
			close(done)
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	defer cc.Stop()
	select {
	case <-done:
	case <-time.After(5 * time.Minute):
		b.Fatal("the bare consumer does not get to the end")
	}
	return time.Since(began)
}

// watchMemory looks at the process's anonymous memory until it is asked for the most that it was, in MiB. What is mapped of
// files is not counted: the system takes it back when it needs it.
func watchMemory(b *testing.B) func() float64 {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	most := make(chan float64, 1)
	go func() {
		peak := 0.0
		for ctx.Err() == nil {
			status, err := os.ReadFile("/proc/self/status")
			if err != nil {
				break
			}
			for line := range strings.Lines(string(status)) {
				if value, ok := strings.CutPrefix(line, "RssAnon:"); ok {
					kib, _ := strconv.ParseFloat(strings.Fields(value)[0], 64)
					peak = max(peak, kib/1024)
				}
			}
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
		most <- peak
	}()
	return func() float64 { cancel(); return <-most }
}

// BenchmarkPaymentMethodList: a query's rate against a bare NATS echo of the same answer.
func BenchmarkPaymentMethodList(b *testing.B) {
	at, pk := engine(b)
	customerID, _ := customer(b, at, pk, "bench")
	nc, err := nats.Connect(at.NATS)
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	body := fmt.Appendf(nil, `{"customerId":%q}`, customerID)
	answer, err := nc.Request("paykit.query.payment_method.list", body, 5*time.Second)
	if err != nil {
		b.Fatal(err)
	}
	server, err := nats.Connect(at.NATS)
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	if _, err := server.Subscribe("bench.echo", func(m *nats.Msg) { _ = m.Respond(answer.Data) }); err != nil {
		b.Fatal(err)
	}
	if err := server.Flush(); err != nil {
		b.Fatal(err)
	}
	ask := func(subject string) func(int) error {
		return func(int) error {
			m, err := nc.Request(subject, body, 5*time.Second)
			if err == nil && len(m.Data) != len(answer.Data) {
				err = fmt.Errorf("answer %s", m.Data)
			}
			return err
		}
	}
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			var ratios, list, echo, p99 []float64
			for range rounds {
				echoRate, echoTimes := rate(b, callers, ask("bench.echo"))
				listRate, listTimes := rate(b, callers, ask("paykit.query.payment_method.list"))
				ratios = append(ratios, listRate/echoRate)
				list, echo = append(list, listRate), append(echo, echoRate)
				p99 = append(p99, float64(p99of(listTimes))/float64(p99of(echoTimes)))
			}
			name := fmt.Sprintf("payment_method.list, %d callers, of a bare echo", callers)
			figure(name, median(ratios), "", atLeast(0.7))
			figure(name+", p99", median(p99), "", atMost(2))
			report(b, median(ratios), "ratio", median(list), "list/s", median(echo), "echo/s", median(p99), "p99-ratio")
		})
	}
}

// BenchmarkVisible: from an event's acknowledgement to a view that shows it, for whoever looks again and again, and for whoever
// asks with Paykit-Min-Sequence.
func BenchmarkVisible(b *testing.B) {
	at, _ := engine(b)
	nc, err := nats.Connect(at.NATS)
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	ask := func(subject, body, least string) *nats.Msg {
		b.Helper()
		msg := &nats.Msg{Subject: subject, Data: []byte(body), Header: nats.Header{}}
		if least != "" {
			msg.Header.Set("Paykit-Min-Sequence", least)
		}
		answer, err := nc.RequestMsg(msg, 10*time.Second)
		if err != nil {
			b.Fatal(err)
		}
		return answer
	}
	var looks, waits []time.Duration
	for i := range 600 {
		email := fmt.Sprintf("%d@example.com", i)
		stored := ask("paykit.api.customer.sync", fmt.Sprintf(`{"referenceId":"visible","email":%q}`, email), "")
		sequence, began := stored.Header.Get("Paykit-Sequence"), time.Now()
		if sequence == "" {
			b.Fatalf("sync: %s", stored.Data)
		}
		if i%2 == 0 {
			for ask("paykit.query.customer.get", `{"referenceId":"visible"}`, "").Header.Get("Paykit-Sequence") != sequence {
				if time.Since(began) > 10*time.Second {
					b.Fatal("the event is not visible")
				}
			}
			looks = append(looks, time.Since(began))
			continue
		}
		if answer := ask("paykit.query.customer.get", `{"referenceId":"visible"}`, sequence); answer.Header.Get("Paykit-Sequence") != sequence {
			b.Fatalf("asked for %s: %s", sequence, answer.Data)
		}
		waits = append(waits, time.Since(began))
	}
	slices.Sort(looks)
	slices.Sort(waits)
	ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
	report(b, ms(p99of(looks)), "look-p99-ms", ms(p99of(waits)), "wait-p99-ms", ms(waits[len(waits)/2]), "wait-p50-ms")
	figure("event to view visible, p99", ms(p99of(looks)), "ms", atMost(60))
	figure("the same, asked with Paykit-Min-Sequence, p99", ms(p99of(waits)), "ms", atMost(5))
}
