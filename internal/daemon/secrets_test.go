package daemon

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

const patience = 30 * time.Second // for what happens on its own

// until tries until ok.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// counted sums a metric's samples with these labels.
func counted(t *testing.T, reg *prometheus.Registry, name string, labels map[string]string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	samples:
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if want, ok := labels[l.GetName()]; ok && want != l.GetValue() {
					continue samples
				}
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

// replace puts a new text in a file's place at once.
func replace(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// door is a running ingest, and Stripe at its door.
type door struct {
	t    *testing.T
	url  string
	http *HTTP
	logs *lockedBuffer
	n    atomic.Int64
}

// runIngest runs ingest until the test ends.
func runIngest(t *testing.T, p Ingest) *door {
	t.Helper()
	srv := eventlogtest.Start(t)
	nc := srv.Conn(t)
	d := &door{t: t, http: NewHTTP(), logs: &lockedBuffer{}}
	e := Env{Conn: nc, Log: eventlogtest.Open(t, nc), Logger: zerolog.New(d.logs), HTTP: d.http}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.url = "http://" + l.Addr().String() + "/webhooks/stripe"
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ready, done := make(chan struct{}), make(chan error, 1)
	p.DefaultCurrency = "usd"
	go func() { done <- Serve(ctx, l, e, func() { close(ready) }, p) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("ingest ended with %v", err)
		}
	})
	select {
	case <-ready:
	case <-time.After(patience):
		t.Fatalf("ingest is not ready\n%s", d.logs)
	}
	return d
}

// deliver sends a new delivery as Stripe does while it signs with these secrets, and gives the status. more goes into the
// event.
func (d *door) deliver(ctx context.Context, more string, secrets ...string) (int, error) {
	body := fmt.Sprintf(`{"id":"evt_%d","object":"event","type":"balance.available","data":{"object":{}}%s}`, d.n.Add(1), more)
	at := time.Now().Unix()
	signature := fmt.Sprintf("t=%d", at)
	for _, s := range secrets {
		mac := hmac.New(sha256.New, []byte(s))
		_, _ = fmt.Fprintf(mac, "%d.%s", at, body)
		signature += fmt.Sprintf(",v1=%x", mac.Sum(nil))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Stripe-Signature", signature)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	return res.StatusCode, res.Body.Close()
}

func (d *door) status(secrets ...string) int {
	d.t.Helper()
	status, err := d.deliver(d.t.Context(), "", secrets...)
	if err != nil {
		d.t.Fatal(err)
	}
	return status
}

func (d *door) reloads(result string) float64 {
	d.t.Helper()
	return counted(d.t, d.http.Metrics, "paykit_secret_reloads_total", map[string]string{"secret": webhookSecrets, "result": result})
}

// A secret is rolled while deliveries come without a pause: old only, old and new, new only. None of them is refused.
func TestSecretsRollWithoutALostDelivery(t *testing.T) {
	t.Parallel()
	const oldSecret, newSecret = "whsec_old", "whsec_new"
	path := filepath.Join(t.TempDir(), "secrets")
	replace(t, path, oldSecret+"\n")
	d := runIngest(t, Ingest{Secrets: []string{oldSecret}, SecretsFile: path, poll: 20 * time.Millisecond})

	// Stripe, which signs with what is its secret, or secrets, at the time.
	var signing atomic.Pointer[[]string]
	signing.Store(&[]string{oldSecret})
	ctx, stop := context.WithCancel(t.Context())
	sender := make(chan error, 1)
	var sent atomic.Int64
	go func() {
		for ctx.Err() == nil {
			status, err := d.deliver(t.Context(), "", *signing.Load()...) //nolint:contextcheck // the one in hand is finished, then it ends
			if err != nil || status != http.StatusOK {
				sender <- fmt.Errorf("delivery %d was answered %d %w", sent.Load(), status, err)
				return
			}
			sent.Add(1)
		}
		sender <- nil
	}()
	defer stop()
	some := func() {
		t.Helper()
		n := sent.Load()
		until(t, "deliveries go on", func() bool { return sent.Load() > n+3 || len(sender) > 0 })
	}

	some()
	if got := d.status(newSecret); got != http.StatusBadRequest {
		t.Errorf("signed with the secret to come: %d", got)
	}
	replace(t, path, newSecret+","+oldSecret+"\n")
	until(t, "both are in use", func() bool { return d.reloads("changed") == 1 })
	some()
	signing.Store(&[]string{oldSecret, newSecret})
	some()
	signing.Store(&[]string{newSecret})
	some()
	replace(t, path, newSecret)
	until(t, "only the new one is in use", func() bool { return d.reloads("changed") == 2 })
	some()
	if got := d.status(oldSecret); got != http.StatusBadRequest {
		t.Errorf("signed with the secret that was taken out: %d", got)
	}
	stop()
	if err := <-sender; err != nil {
		t.Error(err)
	}
	stored := counted(t, d.http.Metrics, "paykit_webhook_deliveries_total", map[string]string{"result": "stored"})
	if int64(stored) != sent.Load() {
		t.Errorf("%v deliveries are stored, %d were sent", stored, sent.Load())
	}
	if strings.Contains(d.logs.String(), "whsec_") {
		t.Errorf("the log holds a secret: %s", d.logs)
	}
}

// A file that can't be used changes nothing but the metric, and is said once. SIGHUP has it read at once, however long
// the next look would take.
func TestBrokenSecretsFileKeepsTheOldOnes(t *testing.T) {
	const secret = "whsec_kept"
	path := filepath.Join(t.TempDir(), "secrets")
	replace(t, path, secret)
	d := runIngest(t, Ingest{Secrets: []string{secret}, SecretsFile: path, poll: time.Hour})
	broken := func() float64 {
		return counted(t, d.http.Metrics, "paykit_secret_file_broken", map[string]string{"secret": webhookSecrets})
	}
	hangUp := func() {
		t.Helper()
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	for i, text := range []string{"", "\n", "whsec_a,,whsec_b", "whsec a"} {
		replace(t, path, text)
		hangUp()
		until(t, fmt.Sprintf("%q is refused", text), func() bool { return d.reloads("refused") == float64(i+1) })
		if got := d.status(secret); got != http.StatusOK || broken() != 1 {
			t.Errorf("%q: a good delivery is answered %d, broken is %v", text, got, broken())
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	hangUp()
	until(t, "a file that is gone is refused", func() bool { return d.reloads("refused") == 5 })
	if n := strings.Count(d.logs.String(), "the old one stays in use"); n != 5 || strings.Contains(d.logs.String(), "whsec") {
		t.Errorf("said %d times: %s", n, d.logs)
	}
	replace(t, path, "whsec_next")
	hangUp()
	until(t, "the good file is in use", func() bool { return d.status("whsec_next") == http.StatusOK })
	if broken() != 0 {
		t.Error("still broken")
	}
}

// Deliveries of the other mode are stored and counted, and that is all.
func TestLivemode(t *testing.T) {
	t.Parallel()
	const secret = "whsec_mode" //nolint:gosec // G101: a test's own
	d := runIngest(t, Ingest{Secrets: []string{secret}, Livemode: TestMode})
	normalized := func(result string) float64 {
		return counted(t, d.http.Metrics, "paykit_normalizer_deliveries_total", map[string]string{"result": result})
	}
	for _, mode := range []string{"false", "true"} {
		if status, err := d.deliver(t.Context(), `,"livemode":`+mode, secret); status != http.StatusOK || err != nil {
			t.Fatalf("livemode %s: %d, %v", mode, status, err)
		}
	}
	until(t, "one is of the other mode, one is not", func() bool {
		return normalized("other_mode") == 1 && normalized("unchanged") == 1
	})
	if _, err := expectLivemode("production"); err == nil {
		t.Error("an unknown mode is taken")
	} else if _, usage := errors.AsType[*UsageError](err); !usage {
		t.Errorf("an unknown mode: %v", err)
	}
}
