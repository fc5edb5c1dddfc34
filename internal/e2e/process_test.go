package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// programs are the binaries under test, built once for all tests.
type programs struct {
	dir string
	err error
}

func (p programs) path(name string) string { return filepath.Join(p.dir, name) }

var built = sync.OnceValue(func() programs { //nolint:gochecknoglobals // built once, read by all tests
	dir, err := os.MkdirTemp("", "paykit-e2e-")
	if err != nil {
		return programs{err: err}
	}
	for _, target := range []string{"../../cmd/...", "github.com/nats-io/nats-server/v2"} {
		out, err := exec.Command("go", "build", "-tags", buildTags, "-o", dir+"/", target).CombinedOutput() //nolint:gosec // the go command, our own arguments
		if err != nil {
			return programs{dir: dir, err: fmt.Errorf("go build %s: %w\n%s", target, err, out)}
		}
	}
	return programs{dir: dir}
})

func TestMain(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(built().dir)
	os.Exit(code)
}

// process is a running program. Its output is kept, and shown when the test fails.
type process struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	out  *output
	done chan struct{}
	err  error // how it ended, after done
}

type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// start runs a program; it is killed at the end of the test if it still runs.
func start(t testing.TB, env []string, name string, args ...string) *process {
	t.Helper()
	bin := built()
	if bin.err != nil {
		t.Fatal(bin.err)
	}
	p := &process{t: t, name: name, out: &output{}, done: make(chan struct{})}
	p.cmd = exec.Command(bin.path(name), args...) //nolint:noctx,gosec // ends by a signal, our own program
	p.cmd.Env = append(cleanEnv(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, p.out)
		}
	})
	return p
}

// cleanEnv is this process's environment without anything that is PayKit's.
func cleanEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "PAYKIT_") && !strings.HasPrefix(kv, "STRIPE_") && !strings.HasPrefix(kv, "NATS_") {
			env = append(env, kv)
		}
	}
	return env
}

// kill ends the process as a power cut would: SIGKILL.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// terminate asks the process to end and gives its exit status and how long it took.
func (p *process) terminate() (status int, took time.Duration) {
	p.t.Helper()
	began := time.Now()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	return p.status(10 * time.Second), time.Since(began)
}

// status waits until the process has ended and gives its exit status.
func (p *process) status(bound time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(bound):
		p.t.Fatalf("%s did not end within %s", p.name, bound)
	}
	if exit, ok := errors.AsType[*exec.ExitError](p.err); ok {
		return exit.ExitCode()
	}
	return 0
}

// ended tells whether the process is no more.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// eventually tries until ok. The bound is for machines that have much else to do.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	const bound = 60 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within %s: %s", bound, what)
		case <-tick.C:
		}
	}
}

// awaitHTTP waits until url answers 200; it fails at once if the process ends.
func (p *process) awaitHTTP(url string) {
	p.t.Helper()
	eventually(p.t, p.name+" at "+url, func() bool {
		select {
		case <-p.done:
			p.t.Fatalf("%s ended: %v\n%s", p.name, p.err, p.out)
		default:
		}
		status, _ := get(p.t, url)
		return status == http.StatusOK
	})
}

func get(t testing.TB, url string, header ...string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return send(req)
}

func post(t testing.TB, url, body string, header ...string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return send(req)
}

func send(req *http.Request) (status int, body string) {
	client := http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(b)
}

// freePort is a loopback port that nobody listens on right now.
func freePort(t testing.TB) int {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // a TCP listener's address
}

func writeFile(name, text string) error { return os.WriteFile(name, []byte(text), 0o600) }
