package dev

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/paykit-go/paykit/internal/daemon"
	"github.com/paykit-go/paykit/internal/provider/stripe/sandbox"
)

// Sandbox is a running sandbox.
type Sandbox struct {
	URL string
	srv *sandbox.Server
	l   net.Listener
}

func randomText() string { return rand.Text() }

// startSandbox opens the sandbox and wires its webhooks to ingest.
func startSandbox(ctx context.Context, c Config, a Addresses) (*Sandbox, error) {
	cfg := SandboxConfig{
		Port: c.SandboxPort, Flag: "--sandbox-port", WebhookURL: a.HTTP + "/webhooks/stripe", WebhookSecret: a.WebhookSecret,
		Config: sandbox.Config{Logger: c.Logger.With().Str("service", "sandbox").Logger()},
	}
	if !a.Temporary {
		cfg.DataDir = a.DataDir
	}
	return NewSandbox(ctx, cfg)
}

// SandboxConfig says where a sandbox listens. A port of 0 is a free one.
type SandboxConfig struct {
	Host          string // "" = 127.0.0.1; another one is for containers
	Port          int
	Flag          string // named when the port is taken
	PublicURL     string // under which browsers reach the hosted pages; "" = where it listens
	WebhookURL    string // where events are delivered from the start; "" = nowhere
	WebhookSecret string // that signs them
	DataDir       string // where its state is kept, in sandbox.jsonl; "" = in memory only
	Config        sandbox.Config
}

// NewSandbox opens a sandbox, on loopback unless told otherwise. It answers once Run is called.
func NewSandbox(ctx context.Context, c SandboxConfig) (*Sandbox, error) {
	if c.Host == "" {
		c.Host = "127.0.0.1"
	}
	l, err := daemon.Listen(ctx, net.JoinHostPort(c.Host, strconv.Itoa(c.Port)), c.Flag)
	if err != nil {
		return nil, err
	}
	url := "http://" + l.Addr().String()
	if c.PublicURL != "" {
		url = c.PublicURL
	}
	c.Config.BaseURL = url
	if c.DataDir != "" {
		if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
			return nil, errors.Join(fmt.Errorf("data folder: %w", err), l.Close())
		}
		c.Config.StateFile = filepath.Join(c.DataDir, "sandbox.jsonl")
	}
	srv, err := sandbox.New(c.Config)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if c.WebhookURL != "" {
		srv.SetWebhookEndpoint("start", c.WebhookURL, c.WebhookSecret, "*") // after a restart the same one, perhaps elsewhere
	}
	return &Sandbox{URL: url, srv: srv, l: l}, nil
}

// Close lets go of the address and of the state file, of a sandbox that Run was not called for, or after it.
func (s *Sandbox) Close() {
	_ = s.l.Close() // Run may have closed it
	s.srv.Close()
}

// Run serves until ctx ends, or until the sandbox can't keep its state any more.
func (s *Sandbox) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer s.Close() // last: until then answers and deliveries are kept
	defer cancel()
	srv := &http.Server{Handler: s.srv, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	deliveries := make(chan error, 1)
	go func() { deliveries <- s.srv.Run(ctx) }()
	served := make(chan error, 1)
	go func() { served <- srv.Serve(s.l) }()
	var err error
	delivering := true
	select {
	case <-ctx.Done():
	case err = <-served:
		err = fmt.Errorf("sandbox: %w", err)
	case err = <-deliveries:
		delivering = false
	}
	stop, stopped := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer stopped()
	if srv.Shutdown(stop) != nil {
		_ = srv.Close()
	}
	cancel()
	if delivering {
		err = errors.Join(err, <-deliveries)
	}
	return err
}
