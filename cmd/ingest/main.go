// Command ingest turns commands and webhooks into events.
package main

import (
	"context"
	"io"

	"github.com/paykit-go/paykit/internal/daemon"
)

func main() { daemon.Main("ingest", run) }

type config struct {
	daemon.NATS
	daemon.Logging
	daemon.Retry
	HTTPAddr        string `name:"http-addr" env:"PAYKIT_HTTP_ADDR" default:"127.0.0.1:8420" help:"Address of webhooks, health and metrics (${env})."`
	DefaultCurrency string `name:"default-currency" env:"PAYKIT_DEFAULT_CURRENCY" default:"usd" help:"Currency of commands that name none, lower-case ISO 4217 (${env})."`
	Livemode        string `name:"stripe-livemode" env:"PAYKIT_STRIPE_LIVEMODE" default:"any" enum:"any,live,test" help:"Whose deliveries lead to events: live, test or any; those of the other mode are kept and counted (${env})."`
}

func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	var c config
	if err := daemon.Parse(&c, "ingest", "Turns commands and webhooks into events. Needs STRIPE_WEBHOOK_SECRETS (or STRIPE_WEBHOOK_SECRETS_FILE).", args, stdout, stderr); err != nil {
		return err
	}
	if err := c.Check(); err != nil {
		return err
	}
	secrets, err := daemon.WebhookSecrets(getenv)
	if err != nil {
		return &daemon.UsageError{Err: err}
	}
	return daemon.Process(ctx, "ingest", c.NATS, c.Logger(stderr, "ingest"), c.HTTPAddr, daemon.Ingest{
		Secrets: secrets, SecretsFile: getenv("STRIPE_WEBHOOK_SECRETS_FILE"), DefaultCurrency: c.DefaultCurrency,
		RetrySchedules: c.Schedules, Livemode: c.Livemode,
	})
}
