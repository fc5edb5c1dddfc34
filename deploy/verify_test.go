package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// checked runs "paykit verify", with and without the provider, and "paykit reconcile" as the users that docs/operations.md names.
func checked(t *testing.T, s *system) {
	t.Helper()
	paykit := filepath.Join(t.TempDir(), "paykit")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", paykit, "../cmd/paykit").CombinedOutput(); err != nil { //nolint:gosec // G204: our own program
		t.Fatalf("build: %v\n%s", err, out)
	}
	for _, command := range []struct{ role, line string }{
		{"operator", "verify"},
		{"operator", "verify --provider"},
		{"worker", "reconcile --since all"},
		{"worker", "reconcile --fix"},
	} {
		cmd := exec.CommandContext(t.Context(), paykit, strings.Fields(command.line)...) //nolint:gosec // G204: our own program
		cmd.Env = append(os.Environ(), "NATS_URL="+as(t, s.server, command.role).URL, "STRIPE_API_KEY=sk_test_deploy", "STRIPE_API_BASE="+s.sandbox)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "ok") || strings.Contains(strings.ToLower(string(out)), "permissions violation") {
			t.Errorf("%s as %s: %v\n%s", command.line, command.role, err, out)
		}
	}
}
