package e2e_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What is missing is said in one line, and nothing starts.
func TestRefuseToStart(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty")
	dead := fmt.Sprintf("NATS_URL=nats://127.0.0.1:%d", freePort(t))
	addr := "PAYKIT_HTTP_ADDR=127.0.0.1:0"
	if err := writeFile(empty, ""); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		program string
		args    []string
		env     []string
		status  int
		says    string
	}{
		{"no webhook secret", "ingest", nil, []string{addr}, 2, "STRIPE_WEBHOOK_SECRETS is not set"},
		{"an empty one among two", "ingest", nil, []string{addr, "STRIPE_WEBHOOK_SECRETS=whsec_a,"}, 2, "secret 2 of 2 is empty"},
		{"an empty file", "ingest", nil, []string{addr, "STRIPE_WEBHOOK_SECRETS_FILE=" + empty}, 2, "is empty"},
		{"a missing file", "ingest", nil, []string{addr, "STRIPE_WEBHOOK_SECRETS_FILE=" + empty + "x"}, 2, "no such file"},
		{"no key", "worker", nil, []string{addr}, 2, "STRIPE_API_KEY is not set"},
		{"key twice", "worker", nil, []string{addr, "STRIPE_API_KEY=sk_test_1", "STRIPE_API_KEY_FILE=" + empty}, 2, "unset one"},
		{"no data folder", "projector", nil, []string{addr}, 2, "data-dir"},
		{"no NATS", "ingest", nil, []string{addr, dead, "STRIPE_WEBHOOK_SECRETS=whsec_a"}, 1, "connect to NATS"},
		{"unknown flag", "worker", []string{"--nope"}, []string{addr}, 2, "unknown flag"},
		{"unknown command", "paykit", []string{"nope"}, nil, 2, "unexpected argument"},
		{"wrong port", "paykit", []string{"dev", "--http-port", "x"}, nil, 2, "http-port"},
		{"client without PayKit", "paykit", []string{"customer", "list"}, []string{dead}, 1, "connect to NATS"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, tc.env, tc.program, tc.args...)
			if status := p.status(15 * time.Second); status != tc.status {
				t.Errorf("status %d, want %d: %s", status, tc.status, p.out)
			}
			if !strings.Contains(p.out.String(), tc.says) {
				t.Errorf("it says %q, want %q in it", p.out, tc.says)
			}
			if lines := strings.Count(strings.TrimSpace(p.out.String()), "\n") + 1; tc.program != "paykit" && lines != 1 {
				t.Errorf("%d lines: %s", lines, p.out)
			}
		})
	}
}

// A taken port is said plainly, with the flag that changes it.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	taken := freePort(t)
	blocker := start(t, nil, "paykit", "sandbox", "--sandbox-port", fmt.Sprint(taken))
	blocker.awaitHTTP(fmt.Sprintf("http://127.0.0.1:%d/_sandbox/ledger", taken))
	for _, flag := range []string{"--nats-port", "--http-port", "--sandbox-port"} {
		args := []string{"dev", "--nats-port", "0", "--http-port", "0", "--sandbox-port", "0", flag, fmt.Sprint(taken)}
		p := start(t, nil, "paykit", args...)
		if status := p.status(15 * time.Second); status != 1 {
			t.Errorf("%s: status %d", flag, status)
		}
		if out := p.out.String(); !strings.Contains(out, flag) || !strings.Contains(out, fmt.Sprint(taken)) || !strings.Contains(out, "taken") {
			t.Errorf("%s taken: it says %q", flag, out)
		}
	}
}

// The processes end cleanly and soon, and say how they are while they run.
func TestHealthAndStop(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	for name, url := range map[string]string{"ingest": s.ingest, "worker": s.worker, "projector": s.views} {
		for path, want := range map[string]string{"/livez": `"ok"`, "/readyz": `"ready"`, "/metrics": "go_goroutines"} {
			status, body := get(t, url+path)
			if status != http.StatusOK || !strings.Contains(body, want) {
				t.Errorf("%s%s: %d %.200s", name, path, status, body)
			}
		}
	}
	s.nats.kill()
	for name, url := range map[string]string{"ingest": s.ingest, "worker": s.worker, "projector": s.views} {
		eventually(t, name+" is not ready without NATS", func() bool {
			status, body := get(t, url+"/readyz")
			return status == http.StatusServiceUnavailable && strings.Contains(body, "nats")
		})
		if status, _ := get(t, url+"/livez"); status != http.StatusOK {
			t.Errorf("%s is not alive without NATS: %d", name, status)
		}
	}
	for name, p := range map[string]*process{"ingest": s.in, "worker": s.wk, "projector": s.pr, "sandbox": s.sb} {
		if status, took := p.terminate(); status != 0 || took > 8*time.Second {
			t.Errorf("%s ended with %d after %s\n%s", name, status, took, p.out)
		}
	}
}
