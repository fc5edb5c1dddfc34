// Command worker carries out requested provider calls, each once, and settles what is open.
package main

import (
	"context"
	"io"

	"github.com/paykit-go/paykit/internal/daemon"
)

func main() { daemon.Main("worker", run) }

type config struct {
	daemon.NATS
	daemon.Logging
	daemon.StripeAPI
	HTTPAddr string `name:"http-addr" env:"PAYKIT_HTTP_ADDR" default:"127.0.0.1:8422" help:"Address of health and metrics (${env})."`
}

func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	var c config
	if err := daemon.Parse(&c, "worker", "Carries out requested provider calls, each once. Needs STRIPE_API_KEY (or STRIPE_API_KEY_FILE).", args, stdout, stderr); err != nil {
		return err
	}
	key, err := daemon.Secret(getenv, "STRIPE_API_KEY")
	if err != nil {
		return &daemon.UsageError{Err: err}
	}
	c.Key, c.KeyFile = key, getenv("STRIPE_API_KEY_FILE")
	return daemon.Process(ctx, "worker", c.NATS, c.Logger(stderr, "worker"), c.HTTPAddr, daemon.Worker{Stripe: c.StripeAPI})
}
