package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/paykit-go/paykit/internal/daemon"
	"github.com/paykit-go/paykit/internal/dev"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/provider/stripe/sandbox"
)

type devCmd struct {
	NATSPort        int    `name:"nats-port" default:"4222" help:"Port of the embedded NATS server; 0 = a free one."`
	HTTPPort        int    `name:"http-port" default:"8420" help:"Port of webhooks, health and metrics; 0 = a free one."`
	SandboxPort     int    `name:"sandbox-port" default:"8421" help:"Port of the sandbox; 0 = a free one."`
	DataDir         string `name:"data-dir" env:"PAYKIT_DATA_DIR" type:"path" help:"Folder to keep everything in (${env}); default: a temporary one, removed at the end."`
	DefaultCurrency string `name:"default-currency" env:"PAYKIT_DEFAULT_CURRENCY" default:"usd" help:"Currency of commands that name none (${env})."`
	StripeBase      string `name:"stripe-api-base" env:"STRIPE_API_BASE" help:"With STRIPE_API_KEY: base URL of Stripe's API (${env})."`
	Livemode        string `name:"stripe-livemode" env:"PAYKIT_STRIPE_LIVEMODE" default:"" enum:",any,live,test" help:"Whose deliveries lead to events: live, test or any; default: the key's mode, with the sandbox test (${env})."`
	LogLevel        string `name:"log-level" env:"PAYKIT_LOG_LEVEL" default:"warn" enum:"debug,info,warn,error" help:"Least level to log (${env})."`
	daemon.Retry
}

func (devCmd) Help() string {
	return `Starts an embedded NATS server (every write is synced to disk), the sandbox, ingest, worker and projector in one process.

With STRIPE_API_KEY and STRIPE_WEBHOOK_SECRETS set it talks to Stripe instead of the sandbox:

  stripe listen --forward-to http://127.0.0.1:8420/webhooks/stripe --print-secret
  STRIPE_API_KEY=sk_test_… STRIPE_WEBHOOK_SECRETS=whsec_… paykit dev`
}

// errStripeSecrets says what a dev server with a Stripe key needs.
var errStripeSecrets = errors.New("STRIPE_API_KEY is set, so Stripe's webhooks are expected")

func (c devCmd) Run(a *app) error {
	started := time.Now()
	if err := c.Check(); err != nil {
		return err
	}
	log := daemon.Logging{LogLevel: c.LogLevel, LogFormat: "text"}.Logger(a.err, "dev")
	cfg := dev.Config{
		NATSPort: c.NATSPort, HTTPPort: c.HTTPPort, SandboxPort: c.SandboxPort, DataDir: c.DataDir,
		Prefix: a.nats.Prefix, Env: a.nats.Env, DefaultCurrency: c.DefaultCurrency, RetrySchedules: c.Schedules, StripeBase: c.StripeBase,
		Livemode: c.Livemode, Logger: log,
	}
	if key := a.getenv("STRIPE_API_KEY") + a.getenv("STRIPE_API_KEY_FILE"); key != "" {
		key, err := daemon.Secret(a.getenv, "STRIPE_API_KEY")
		if err != nil {
			return &daemon.UsageError{Err: err}
		}
		cfg.StripeKey = key
	}
	if cfg.StripeKey != "" || a.getenv("STRIPE_WEBHOOK_SECRETS")+a.getenv("STRIPE_WEBHOOK_SECRETS_FILE") != "" {
		secrets, err := daemon.WebhookSecrets(a.getenv)
		if err != nil {
			return &daemon.UsageError{Err: fmt.Errorf("%w: %w", errStripeSecrets, err)}
		}
		cfg.WebhookSecrets = secrets
	}
	return dev.Run(a.ctx, cfg, func(at dev.Addresses) { a.banner(at, time.Since(started)) }) //nolint:wrapcheck // says what it was
}

// banner prints what runs where, and the next command to type.
func (a *app) banner(at dev.Addresses, took time.Duration) {
	fmt.Fprintf(a.out, "PayKit is ready (%d ms)\n\n", took.Milliseconds())
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	row := func(name, value string) { fmt.Fprintf(w, "  %s\t%s\n", name, value) }
	row("NATS", at.NATS)
	row("Webhooks", at.HTTP+"/webhooks/stripe")
	row("Health", at.HTTP+"/readyz, "+at.HTTP+"/metrics")
	if at.Sandbox != "" {
		row("Sandbox", at.Sandbox+"  (an offline stand-in for Stripe; any key sk_test_…)")
	} else {
		row("Stripe", at.StripeBase)
	}
	row("Secret", at.WebhookSecret+"  (signs the webhooks)")
	if at.Temporary {
		row("Data", at.DataDir+"  (removed at the end; keep it with --data-dir DIR)")
	} else {
		row("Data", at.DataDir)
	}
	_ = w.Flush()
	env := ""
	if !strings.HasSuffix(at.NATS, ":4222") {
		env = "NATS_URL=" + at.NATS + " "
	}
	fmt.Fprintf(a.out, "\nNext, in another terminal:\n\n  %sgo run ./cmd/paykit customer sync user_123 --email jane@example.com --name \"Jane Doe\"\n\nCtrl-C ends it.\n", env)
}

type sandboxCmd struct {
	Port       int    `name:"sandbox-port" default:"8421" help:"Port; 0 = a free one."`
	Host       string `name:"sandbox-host" env:"PAYKIT_SANDBOX_HOST" default:"127.0.0.1" help:"Address to listen on; another than loopback is for containers (${env})."`
	PublicURL  string `name:"public-url" env:"PAYKIT_SANDBOX_PUBLIC_URL" help:"URL under which browsers reach the hosted pages; default: where it listens (${env})."`
	WebhookURL string `name:"webhook-url" env:"PAYKIT_SANDBOX_WEBHOOK_URL" help:"Where events go from the start, signed with the first of STRIPE_WEBHOOK_SECRETS (${env})."`
	DataDir    string `name:"data-dir" env:"PAYKIT_SANDBOX_DATA_DIR" type:"path" help:"Folder to keep its state in, as sandbox.jsonl (${env}); default: in memory, gone at the end."`
	LogLevel   string `name:"log-level" env:"PAYKIT_LOG_LEVEL" default:"warn" enum:"debug,info,warn,error" help:"Least level to log (${env})."`
}

func (sandboxCmd) Help() string {
	return `A stateful look-alike of Stripe's API on loopback: any key sk_test_…, test cards, hosted pages, signed webhooks.
It has no webhook target until one is made (POST /v1/webhook_endpoints). docs/sandbox.md has the whole list.`
}

func (c sandboxCmd) Run(a *app) error {
	log := daemon.Logging{LogLevel: c.LogLevel, LogFormat: "text"}.Logger(a.err, "sandbox")
	cfg := dev.SandboxConfig{
		Host: c.Host, Port: c.Port, Flag: "--sandbox-port", PublicURL: c.PublicURL, WebhookURL: c.WebhookURL, DataDir: c.DataDir,
		Config: sandbox.Config{Logger: log},
	}
	if c.WebhookURL != "" {
		secrets, err := daemon.WebhookSecrets(a.getenv)
		if err != nil {
			return &daemon.UsageError{Err: fmt.Errorf("--webhook-url: %w", err)}
		}
		cfg.WebhookSecret = secrets[0]
	}
	sb, err := dev.NewSandbox(a.ctx, cfg)
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	fmt.Fprintf(a.out, "The sandbox is ready at %s\n\n  STRIPE_API_BASE=%s STRIPE_API_KEY=sk_test_anything\n\nCtrl-C ends it.\n", sb.URL, sb.URL)
	return sb.Run(a.ctx) //nolint:wrapcheck // says what it was
}

type provisionCmd struct {
	MaxBytes int64 `name:"max-bytes" help:"Most that the log may take, in bytes; default: 80 % of what the server has left."`
	Replicas int   `help:"Copies of every stream: 1, or 3 on a cluster; default: as many as there are, of new streams 1."`
}

func (c provisionCmd) Run(a *app) error {
	nc, err := a.nats.Connect("provision", a.logger(), silentDisconnect())
	if err != nil {
		return err
	}
	defer nc.Close()
	report, err := eventlog.Provision(a.ctx, nc, eventlog.Config{
		Prefix: a.nats.Prefix, Env: a.nats.Env, MaxBytes: c.MaxBytes, Replicas: c.Replicas, Logger: a.logger(),
	})
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	return a.fields(map[string]any{
		"env": report.Env, "maxBytes": report.MaxBytes, "links": report.Links,
		"created": list(report.Created), "updated": list(report.Updated), "unchanged": list(report.Unchanged),
	}, "environment", report.Env, "log may take", strconv.FormatInt(report.MaxBytes, 10)+" bytes",
		"made", strings.Join(report.Created, ", "), "brought up to date", strings.Join(report.Updated, ", "),
		"as they were", strings.Join(report.Unchanged, ", "), "links put back", strconv.Itoa(report.Links))
}

// list is never null in JSON.
func list(names []string) []string { return append([]string{}, names...) }
