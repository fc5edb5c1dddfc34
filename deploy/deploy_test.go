// Package deploy_test holds the shipped configuration against the server that reads it and the programs that run under it.
package deploy_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// The users of permissions.conf, in its order.
var roles = []string{"provision", "ingest", "worker", "projector", "app", "operator"} //nolint:gochecknoglobals // never changes

// password is the test's password of a role. It begins with a letter, as permissions.conf asks.
func password(role string) string { return "p4f0e1d2c3" + role }

func setPasswords(t *testing.T) {
	t.Helper()
	for _, role := range roles {
		t.Setenv("PAYKIT_"+strings.ToUpper(role)+"_PASSWORD", password(role))
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// options reads a shipped configuration as nats-server does.
func options(t *testing.T, name string) *server.Options {
	t.Helper()
	setPasswords(t)
	t.Setenv("PAYKIT_NATS_NAME", "n1")
	t.Setenv("PAYKIT_NATS_HOST", "127.0.0.1")
	o, err := server.ProcessConfigFile(name)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return o
}

// start runs a server with a shipped configuration; only its addresses and its folder are the test's.
func start(t *testing.T) *server.Server {
	t.Helper()
	o := options(t, "nats-server.conf")
	o.Port, o.HTTPPort, o.StoreDir = server.RANDOM_PORT, 0, t.TempDir()
	o.NoSigs, o.NoLog = true, true
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("the server is not ready")
	}
	return s
}

func TestNATSConfigurationKeepsItsPromises(t *testing.T) {
	for _, name := range []string{"nats-server.conf", "nats-server.cluster.conf"} {
		t.Run(name, func(t *testing.T) {
			o := options(t, name)
			if !o.JetStream || !o.SyncAlways {
				t.Errorf("jetstream %v, sync_interval always %v: want both", o.JetStream, o.SyncAlways)
			}
			if o.StoreDir != "/var/lib/nats/jetstream" {
				t.Errorf("store_dir is %q", o.StoreDir)
			}
			if o.MaxPayload != 2<<20 {
				t.Errorf("max_payload is %d, want 2 MiB: a delivery may be 1 MiB", o.MaxPayload)
			}
			if o.Host != "127.0.0.1" || o.HTTPHost != "127.0.0.1" {
				t.Errorf("it listens on %q and %q, want loopback", o.Host, o.HTTPHost)
			}
			if len(o.Users) != len(roles) || o.NoAuthUser != "" {
				t.Errorf("%d users, no_auth_user %q; want one for each of %v and no door without a password", len(o.Users), o.NoAuthUser, roles)
			}
			for _, u := range o.Users { // accounts are read from a map: in any order
				if !slices.Contains(roles, u.Username) || u.Password != password(u.Username) {
					t.Errorf("user %q is none of %v with the password of its variable", u.Username, roles)
				}
			}
		})
	}
}

func TestClusterConfigurationHasThreeServers(t *testing.T) {
	o := options(t, "nats-server.cluster.conf")
	if o.ServerName != "n1" || o.Cluster.Name != "paykit" || o.Cluster.Host != "127.0.0.1" || len(o.Routes) != 3 {
		t.Errorf("server %q, cluster %q on %q with %d routes", o.ServerName, o.Cluster.Name, o.Cluster.Host, len(o.Routes))
	}
}

func TestConfigurationWithoutPasswordsIsRefused(t *testing.T) {
	setPasswords(t)
	if err := os.Unsetenv("PAYKIT_WORKER_PASSWORD"); err != nil {
		t.Fatal(err)
	}
	if _, err := server.ProcessConfigFile("nats-server.conf"); err == nil {
		t.Error("a server would start with a user without password")
	}
}

func TestNoSecretIsShipped(t *testing.T) {
	for line := range strings.SplitSeq(read(t, "permissions.conf"), "\n") {
		_, value, found := strings.Cut(strings.TrimSpace(line), "password:")
		if found && !strings.HasPrefix(strings.TrimSpace(value), "$PAYKIT_") {
			t.Errorf("a password is written out: %s", line)
		}
	}
	for line := range strings.SplitSeq(read(t, ".env.example"), "\n") {
		name, value, found := strings.Cut(line, "=")
		secret := strings.Contains(name, "PASSWORD") || strings.Contains(name, "SECRET") || strings.Contains(name, "KEY")
		if found && secret && !strings.HasPrefix(name, "#") && value != "" {
			t.Errorf("%s has a value in .env.example", name)
		}
	}
}

// services takes the services of the compose file apart: the lines under each name of "services".
func services(t *testing.T) map[string]string {
	t.Helper()
	list := map[string]string{}
	inside, name := false, ""
	for line := range strings.SplitSeq(read(t, "docker-compose.yml"), "\n") {
		switch {
		case strings.Contains(line, "\t"):
			t.Errorf("YAML has no tabs: %q", line)
		case strings.TrimSpace(line) == "" || strings.HasPrefix(strings.TrimSpace(line), "#"):
		case !strings.HasPrefix(line, " "):
			inside = line == "services:"
		case inside && strings.HasPrefix(line, "  ") && line[2] != ' ':
			name = strings.TrimSuffix(strings.TrimSpace(line), ":")
			list[name] = ""
		case inside:
			list[name] += line + "\n"
		}
	}
	return list
}

func TestComposeFile(t *testing.T) {
	list := services(t)
	for _, name := range []string{"nats", "provision", "ingest", "worker", "projector", "sandbox"} {
		text, ok := list[name]
		if !ok {
			t.Errorf("there is no service %s in %v", name, list)
			continue
		}
		// provision runs to its end; what waits for it waits for its success.
		if once := strings.Contains(text, `restart: "no"`); once == strings.Contains(text, "healthcheck:") {
			t.Errorf("%s: a service that stays has a healthcheck, one that ends has none", name)
		}
		// The base may hold what all have in common.
		for _, want := range []string{"<<: ", "restart:"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %q", name, want)
			}
		}
	}
	for _, name := range []string{"ingest", "worker", "projector"} {
		for _, want := range []string{"/readyz", "service_completed_successfully"} {
			if !strings.Contains(list[name], want) {
				t.Errorf("%s lacks %q", name, want)
			}
		}
	}
	for _, name := range []string{"docker-compose.yml", "Dockerfile"} {
		if strings.Contains(read(t, name), ":latest") {
			t.Errorf("%s: a tag that moves", name)
		}
	}
	for line := range strings.SplitSeq(read(t, "docker-compose.yml"), "\n") {
		// Ports are published on loopback: TLS, and whoever is let in, is a proxy's business.
		if port := strings.TrimSpace(line); strings.HasPrefix(port, `- "`) && strings.Contains(port, ":842") && !strings.HasPrefix(port, `- "127.0.0.1:`) {
			t.Errorf("published to everybody: %s", port)
		}
	}
}

func TestDockerfile(t *testing.T) {
	text := read(t, "Dockerfile")
	for line := range strings.SplitSeq(text, "\n") {
		if image, ok := strings.CutPrefix(line, "FROM "); ok && !strings.Contains(strings.Fields(image)[0], ":") {
			t.Errorf("an image without a tag: %s", line)
		}
	}
	for _, want := range []string{"CGO_ENABLED=0", "USER 10001", " AS build"} {
		if !strings.Contains(text, want) {
			t.Errorf("Dockerfile lacks %q", want)
		}
	}
}

func TestSystemdUnitsAreHardened(t *testing.T) {
	for _, name := range []string{"paykit-nats", "paykit-ingest", "paykit-worker", "paykit-projector"} {
		t.Run(name, func(t *testing.T) {
			text := read(t, "systemd/"+name+".service")
			lines := map[string]bool{}
			for line := range strings.SplitSeq(text, "\n") {
				lines[line] = true
			}
			for _, want := range []string{
				"DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes",
				"PrivateDevices=yes", "ProtectKernelTunables=yes", "ProtectKernelModules=yes", "ProtectControlGroups=yes",
				"RestrictNamespaces=yes", "RestrictRealtime=yes", "LockPersonality=yes", "MemoryDenyWriteExecute=yes",
				"SystemCallFilter=@system-service", "CapabilityBoundingSet=", "UMask=0077",
				"Restart=always", "TimeoutStopSec=10", "EnvironmentFile=/etc/paykit/" + strings.TrimPrefix(name, "paykit-") + ".env",
			} {
				if !lines[want] {
					t.Errorf("lacks %s", want)
				}
			}
		})
	}
	for unit, credential := range map[string][2]string{
		"ingest": {"LoadCredential=stripe-webhook-secrets:", "Environment=STRIPE_WEBHOOK_SECRETS_FILE=%d/stripe-webhook-secrets"},
		"worker": {"LoadCredential=stripe-api-key:", "Environment=STRIPE_API_KEY_FILE=%d/stripe-api-key"},
	} {
		text := read(t, "systemd/paykit-"+unit+".service")
		for _, want := range credential {
			if !strings.Contains(text, "\n"+want) {
				t.Errorf("%s lacks %s", unit, want)
			}
		}
	}
}
