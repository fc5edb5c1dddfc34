package bench_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	idleAfter  = 5 * time.Second // of a process that is ready
	startLimit = 5 * time.Minute // a projector may have a long log to read first
	mib        = 1 << 20
)

// programs builds the four programs as they are shipped, stripped.
func programs(b *testing.B) (dir string) {
	b.Helper()
	dir = b.TempDir()
	build := exec.CommandContext(b.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", dir, "../../cmd/...") //nolint:gosec // G204: our own programs
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return dir
}

// child is a program that runs.
type child struct {
	b    *testing.B
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended

	mu    sync.Mutex
	lines []string // of its output so far; guarded by mu
}

// start runs a program until stop is called or the benchmark ends.
func start(b *testing.B, env []string, bin string, args ...string) *child {
	b.Helper()
	c := &child{b: b, cmd: exec.Command(bin, args...), done: make(chan struct{})} //nolint:gosec,noctx // our own program; ended by stop
	c.cmd.Env = append(os.Environ(), env...)
	r, w, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	c.cmd.Stdout, c.cmd.Stderr = w, w
	if err := c.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	_ = w.Close()
	go func() {
		defer close(c.done)
		for lines := bufio.NewScanner(r); lines.Scan(); {
			c.mu.Lock()
			c.lines = append(c.lines, lines.Text())
			c.mu.Unlock()
		}
		_, _ = io.Copy(io.Discard, r)
		_ = r.Close()
	}()
	b.Cleanup(c.stop)
	return c
}

func (c *child) stop() {
	if c.cmd.ProcessState != nil {
		return
	}
	_ = c.cmd.Process.Signal(os.Interrupt)
	_ = c.cmd.Wait()
	<-c.done
}

// says waits until the output matches, and answers the first group.
func (c *child) says(pattern string) string {
	c.b.Helper()
	re := regexp.MustCompile(pattern)
	for began := time.Now(); time.Since(began) < startLimit; time.Sleep(2 * time.Millisecond) {
		c.mu.Lock()
		found := re.FindStringSubmatch(strings.Join(c.lines, "\n"))
		c.mu.Unlock()
		if found != nil {
			return found[1]
		}
		select {
		case <-c.done:
			c.b.Fatalf("%s ended: %s", filepath.Base(c.cmd.Path), c.lines)
		default:
		}
	}
	c.b.Fatalf("%s does not say %s: %s", filepath.Base(c.cmd.Path), pattern, c.lines)
	return ""
}

// idle waits until a daemon is ready and has had some seconds.
func (c *child) idle(http string) {
	c.b.Helper()
	ctx, cancel := context.WithTimeout(c.b.Context(), startLimit)
	defer cancel()
	for !isReady(ctx, http) {
		select {
		case <-ctx.Done():
			c.b.Fatalf("%s is not ready", filepath.Base(c.cmd.Path))
		case <-time.After(20 * time.Millisecond):
		}
	}
	time.Sleep(idleAfter)
}

func isReady(ctx context.Context, base string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/readyz", nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// rss is the resident memory in MiB, the program's own pages included; anon is what of it no file stands behind.
func (c *child) rss() float64  { return c.status("VmRSS:") }
func (c *child) anon() float64 { return c.status("RssAnon:") }

func (c *child) status(field string) float64 {
	c.b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		c.b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, field); ok {
			kib, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
			if err != nil {
				c.b.Fatal(err)
			}
			return kib / 1024
		}
	}
	c.b.Fatal("no " + field)
	return 0
}

// memory is what each process takes, in MiB.
type memory struct{ dev, ingest, worker, projector float64 }

// processes runs `paykit dev` on a data folder ("" for a fresh one) and the three daemons beside it on the same server, each
// for itself, and answers what measure says of them when nothing happens, and how long dev took to be ready.
func processes(b *testing.B, bins, dir string, measure func(*child) float64) (m memory, ready time.Duration) {
	b.Helper()
	own := b.TempDir() // of the daemons; with the views, so that the projector need not read the whole log first
	if dir != "" {
		views, err := os.ReadFile(filepath.Join(dir, "views.db"))
		if err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(own, "views.db"), views, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	args := []string{"dev", "--nats-port", "0", "--http-port", "0", "--sandbox-port", "0"}
	if dir != "" {
		args = append(args, "--data-dir", dir)
	}
	began := time.Now()
	d := start(b, nil, filepath.Join(bins, "paykit"), args...)
	d.says(`(PayKit is ready)`)
	ready = time.Since(began)
	nats, health, sandbox := d.says(`NATS\s+(nats://\S+)`), d.says(`Health\s+(http://[^/]+)/`), d.says(`Sandbox\s+(http://[^\s/]+)`)
	d.idle(health)
	m.dev = measure(d)
	env := []string{
		"NATS_URL=" + nats, "PAYKIT_HTTP_ADDR=127.0.0.1:0", "STRIPE_WEBHOOK_SECRETS=" + secret, "STRIPE_API_KEY=sk_test_bench",
		"STRIPE_API_BASE=" + sandbox, "PAYKIT_DATA_DIR=" + own,
	}
	for name, into := range map[string]*float64{"ingest": &m.ingest, "worker": &m.worker, "projector": &m.projector} {
		c := start(b, env, filepath.Join(bins, name))
		c.idle("http://" + c.says(`http["=: ]+(127\.0\.0\.1:\d+)`))
		*into = measure(c)
		c.stop()
	}
	d.stop()
	return m, ready
}

// BenchmarkFootprint: how large the programs are, how soon `paykit dev` is ready, and what each process takes when idle.
func BenchmarkFootprint(b *testing.B) {
	bins := programs(b)
	for _, name := range []string{"paykit", "ingest", "worker", "projector"} {
		info, err := os.Stat(filepath.Join(bins, name))
		if err != nil {
			b.Fatal(err)
		}
		figure(name+", stripped", float64(info.Size())/mib, "MiB", atMost(30))
	}
	m, ready := processes(b, bins, "", (*child).rss)
	report(b, float64(ready.Milliseconds()), "ready-ms", m.dev, "dev-MiB", m.ingest, "ingest-MiB", m.worker, "worker-MiB", m.projector, "projector-MiB")
	figure("dev ready", ready.Seconds(), "s", atMost(1.5))
	figure("dev, idle", m.dev, "MiB", atMost(80))
	figure("ingest, idle", m.ingest, "MiB", atMost(30))
	figure("worker, idle", m.worker, "MiB", atMost(30))
	figure("projector, idle", m.projector, "MiB", atMost(30))
}
