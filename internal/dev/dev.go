// Package dev is the whole engine in one process: an embedded NATS server with fsync on, the sandbox, ingest, worker
// and projector, each wired as its own program wires it.
package dev

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/paykit-go/paykit/internal/daemon"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// Config says where things listen and where they keep what they keep. A port of 0 is a free one.
type Config struct {
	NATSPort    int
	HTTPPort    int
	SandboxPort int
	DataDir     string // "" = a temporary folder, removed at the end

	Prefix          string // "" = paykit
	Env             string
	DefaultCurrency string // "" = usd
	RetrySchedules  daemon.RetrySchedules
	StripeKey       string   // "" = the sandbox
	StripeBase      string   // "" = Stripe, or the sandbox
	WebhookSecrets  []string // none = one is made
	Livemode        string   // "" = the key's mode; the sandbox knows only test mode
	Logger          zerolog.Logger
}

// Addresses is what runs where.
type Addresses struct {
	NATS          string // nats://127.0.0.1:4222
	HTTP          string // http://127.0.0.1:8420
	Sandbox       string // http://127.0.0.1:8421, "" if Stripe is used
	WebhookSecret string
	StripeBase    string
	DataDir       string
	Temporary     bool // the data folder is removed at the end
}

// Run starts everything, calls ready once all of it works, and runs until ctx ends. It then stops in reverse order:
// the parts finish what they have in hand, the sandbox and the broker last.
func Run(ctx context.Context, c Config, ready func(Addresses)) (err error) {
	c = c.withDefaults()
	a := Addresses{DataDir: c.DataDir, Temporary: c.DataDir == ""}
	if a.Temporary {
		if a.DataDir, err = os.MkdirTemp("", "paykit-dev-"); err != nil {
			return fmt.Errorf("temporary data folder: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(a.DataDir)) }()
	}
	if err := os.MkdirAll(a.DataDir, 0o700); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	httpListener, err := daemon.Listen(ctx, address(c.HTTPPort), "--http-port")
	if err != nil {
		return err
	}
	defer httpListener.Close()
	a.HTTP = "http://" + httpListener.Addr().String()

	secrets := c.WebhookSecrets
	if len(secrets) == 0 {
		secret, err := webhookSecret(a.DataDir)
		if err != nil {
			return err
		}
		secrets = []string{secret}
	}
	a.WebhookSecret = secrets[0]

	// Before the broker, because the sandbox knows whether another process has the data folder.
	var sb *Sandbox
	if c.StripeKey == "" {
		if sb, err = startSandbox(ctx, c, a); err != nil {
			return err
		}
		defer sb.Close()
	}
	ns, err := startNATS(ctx, c.NATSPort, filepath.Join(a.DataDir, "nats"), c.Logger)
	if err != nil {
		return err
	}
	defer func() { ns.Shutdown(); ns.WaitForShutdown() }()
	a.NATS = ns.ClientURL()

	stripe := daemon.StripeAPI{Base: c.StripeBase, Key: c.StripeKey, Rate: 80}
	g, gctx := errgroup.WithContext(ctx)
	sandboxCtx, stopSandbox := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSandbox()
	if sb != nil {
		a.Sandbox, stripe.Base, stripe.Key = sb.URL, sb.URL, "sk_test_paykit_dev"
		stripe.Rate = 20_000 // nobody else pays for the sandbox
		g.Go(func() error { return sb.Run(sandboxCtx) })
	} else if stripe.Base == "" {
		stripe.Base = "https://api.stripe.com"
	}
	a.StripeBase = stripe.Base

	g.Go(func() error {
		defer stopSandbox() // last, so that calls in hand get their answers
		return runParts(gctx, c, a, httpListener, secrets, stripe, func() { ready(a) })
	})
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.Prefix == "" {
		c.Prefix = "paykit"
	}
	if c.DefaultCurrency == "" {
		c.DefaultCurrency = "usd"
	}
	if c.Livemode == "" {
		c.Livemode = daemon.TestMode
		if strings.Contains(c.StripeKey, "_live_") {
			c.Livemode = daemon.LiveMode
		}
	}
	return c
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// runParts provisions the streams and runs ingest, worker and projector on connections of their own.
func runParts(ctx context.Context, c Config, a Addresses, l net.Listener, secrets []string, stripe daemon.StripeAPI, ready func()) error {
	n := daemon.NATS{URL: a.NATS, Prefix: c.Prefix, Env: c.Env}
	nc, err := n.Connect("dev", c.Logger)
	if err != nil {
		return err
	}
	defer daemon.Drain(nc)
	cfg := eventlog.Config{Prefix: c.Prefix, Env: c.Env, Logger: c.Logger}
	if _, err := eventlog.Provision(ctx, nc, cfg); err != nil {
		return err
	}
	h := daemon.NewHTTP()
	h.Check(daemon.NATSCheck(nc))
	parts := []daemon.Part{
		daemon.Ingest{Secrets: secrets, DefaultCurrency: c.DefaultCurrency, RetrySchedules: c.RetrySchedules, Livemode: c.Livemode},
		daemon.Worker{Stripe: stripe},
		daemon.Projector{DataDir: a.DataDir},
	}
	var log *eventlog.Log
	for i, part := range parts {
		own := nc
		if i > 0 {
			if own, err = n.Connect("dev", c.Logger); err != nil {
				return err
			}
			defer daemon.Drain(own)
		}
		if log, err = eventlog.Open(ctx, own, cfg); err != nil {
			return err
		}
		parts[i] = daemon.OnConn{Part: part, Conn: own, Log: log}
	}
	return daemon.Serve(ctx, l, daemon.Env{Conn: nc, Log: log, Logger: c.Logger, HTTP: h}, ready, parts...) //nolint:wrapcheck // already says what it was
}

// startNATS embeds a broker that syncs every write to disk before it acknowledges it.
func startNATS(ctx context.Context, port int, dir string, log zerolog.Logger) (*server.Server, error) {
	if port == 0 {
		port = server.RANDOM_PORT
	} else {
		// The server itself would only log that the port is taken.
		l, err := daemon.Listen(ctx, address(port), "--nats-port")
		if err != nil {
			return nil, err
		}
		_ = l.Close()
	}
	ns, err := server.NewServer(&server.Options{
		ServerName: "paykit-dev",
		Host:       "127.0.0.1",
		Port:       port,
		JetStream:  true,
		StoreDir:   dir,
		SyncAlways: true,
		NoSigs:     true,
		MaxPayload: 2 << 20, // a delivery may be 1 MiB
	})
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	ns.SetLoggerV2(serverLog{log.With().Str("service", "nats").Logger()}, false, false, false)
	go ns.Start()
	if !ns.ReadyForConnections(20 * time.Second) {
		ns.Shutdown()
		return nil, fmt.Errorf("embedded NATS is not ready after 20s: is another process using %s?", dir)
	}
	return ns, nil
}

// serverLog passes the broker's warnings and errors on; its notices are not this program's news.
type serverLog struct{ zerolog.Logger }

func (s serverLog) Noticef(string, ...any)        {}
func (s serverLog) Debugf(string, ...any)         {}
func (s serverLog) Tracef(string, ...any)         {}
func (s serverLog) Warnf(format string, v ...any) { s.Warn().Msg(fmt.Sprintf(format, v...)) }
func (s serverLog) Errorf(format string, v ...any) {
	s.Error().Msg(fmt.Sprintf(format, v...))
}

func (s serverLog) Fatalf(format string, v ...any) {
	s.Error().Bool("fatal", true).Msg(fmt.Sprintf(format, v...))
}

// webhookSecret is the folder's signing secret: the same after a restart, so that deliveries under way still verify.
func webhookSecret(dir string) (string, error) {
	file := filepath.Join(dir, "webhook-secret")
	b, err := os.ReadFile(file) //nolint:gosec // G304: our own folder
	if err == nil && strings.HasPrefix(string(b), "whsec_") {
		return strings.TrimSpace(string(b)), nil
	}
	secret := "whsec_" + randomText()
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("webhook secret: %w", err)
	}
	return secret, nil
}
