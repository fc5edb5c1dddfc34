package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/paykit-go/paykit/internal/events"
)

// checked runs "paykit verify", with and without the provider, and "paykit reconcile" as the users that docs/operations.md names.
func checked(t *testing.T, s *system) {
	t.Helper()
	paykit := filepath.Join(t.TempDir(), "paykit")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", paykit, "../cmd/paykit").CombinedOutput(); err != nil { //nolint:gosec // G204: our own program
		t.Fatalf("build: %v\n%s", err, out)
	}
	for _, command := range []struct{ role, line, says string }{
		{"operator", "verify", "ok"},
		{"operator", "verify --provider", "ok"},
		{"operator", "explain march", "payment_intents.confirm"},
		{"operator", "explain user_1", "succeeded"},
		{"operator", "explain " + events.CommandID("charge.create", "march"), "found by a search"},
		{"operator", "diff --from 0", "created"},
		{"operator", "replay --to 1", "specversion"},
		{"operator", "customer list --at 0 -o json", "items"},
		{"worker", "reconcile --since all", "ok"},
		{"worker", "reconcile --fix", "ok"},
		{"provision", "import " + replayed(t, s, paykit), "appended"},
	} {
		cmd := exec.CommandContext(t.Context(), paykit, strings.Fields(command.line)...) //nolint:gosec // G204: our own program
		cmd.Env = append(os.Environ(), "NATS_URL="+as(t, s.server, command.role).URL, "STRIPE_API_KEY=sk_test_deploy", "STRIPE_API_BASE="+s.sandbox)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), command.says) || strings.Contains(strings.ToLower(string(out)), "permissions violation") {
			t.Errorf("%s as %s: %v\n%s", command.line, command.role, err, out)
		}
	}
}

// replayed is a file with the system's log. There is nothing to be appended of it where it comes from.
func replayed(t *testing.T, s *system, paykit string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "log.ndjson")
	cmd := exec.CommandContext(t.Context(), paykit, "replay", "--file", file) //nolint:gosec // G204: our own program
	cmd.Env = append(os.Environ(), "NATS_URL="+as(t, s.server, "operator").URL)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("replay: %v\n%s", err, out)
	}
	return file
}
