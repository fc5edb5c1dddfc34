package stripe

import (
	"bufio"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/paykit-go/paykit/internal/provider"
)

// mockModule is Stripe's own stateless server. It knows every parameter of its API and refuses what it does not know,
// so it tells what the sandbox can't: that our requests are Stripe's, and not only ours.
const mockModule = "github.com/stripe/stripe-mock@v0.197.0"

// startMock builds stripe-mock and starts it on a free port of this machine.
func startMock(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "install", mockModule)
	build.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s could not be built; the test needs the go command and a module proxy: %v\n%s", mockModule, err, out)
	}
	// Both addresses are given: without the second one it listens for HTTPS on all interfaces.
	//nolint:gosec // G204: built above
	mock := exec.CommandContext(t.Context(), filepath.Join(dir, "stripe-mock"), "-http-addr", "127.0.0.1:0", "-https-addr", "127.0.0.1:0")
	out, err := mock.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	mock.Stderr = os.Stderr
	if err := mock.Start(); err != nil {
		t.Fatal(err)
	}
	addresses := make(chan string, 1)
	go func() {
		defer close(addresses)
		listening := regexp.MustCompile(`HTTP at address: (127\.0\.0\.1:\d+)`)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				select {
				case addresses <- "http://" + m[1]:
				default:
				}
			}
		}
	}()
	t.Cleanup(func() {
		_ = mock.Process.Kill()
		for range addresses { // until its output ends
		}
		_ = mock.Wait()
	})
	select {
	case address, ok := <-addresses:
		if !ok {
			t.Fatal("stripe-mock ended before it listened")
		}
		return address
	case <-time.After(30 * time.Second):
		t.Fatal("stripe-mock does not listen after 30 s")
	}
	return ""
}

func TestRequestsAreStripes(t *testing.T) {
	base := startMock(t)
	tap := &wiretap{}
	c := newClient(t, base, func(cfg *Config) { cfg.HTTPClient = &http.Client{Transport: tap} })
	keys := everything(t, c, func(string) string { return "pm_card_visa" })
	for k := range keys {
		tap.first(t, k)
	}
	// The oracle must be able to say no.
	_, err := c.CreateRefund(t.Context(), "k:wrong", provider.RefundRequest{PaymentID: "pi_1", Amount: 900, Reason: "because"})
	if err == nil || provider.ClassOf(err) != provider.Invalid {
		t.Errorf("a refund with an unknown reason is taken: %v", err)
	}
}
