package dev

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
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
	sb, err := NewSandbox(ctx, SandboxConfig{Port: c.SandboxPort, Flag: "--sandbox-port", Config: sandbox.Config{Logger: c.Logger.With().Str("service", "sandbox").Logger()}})
	if err != nil {
		return nil, err
	}
	sb.srv.AddWebhookEndpoint(a.HTTP+"/webhooks/stripe", a.WebhookSecret, "*")
	return sb, nil
}

// SandboxConfig says where a sandbox listens. A port of 0 is a free one.
type SandboxConfig struct {
	Host          string // "" = 127.0.0.1; another one is for containers
	Port          int
	Flag          string // named when the port is taken
	PublicURL     string // under which browsers reach the hosted pages; "" = where it listens
	WebhookURL    string // where events are delivered from the start; "" = nowhere
	WebhookSecret string // that signs them
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
	srv, err := sandbox.New(c.Config)
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	if c.WebhookURL != "" {
		srv.AddWebhookEndpoint(c.WebhookURL, c.WebhookSecret, "*")
	}
	return &Sandbox{URL: url, srv: srv, l: l}, nil
}

// Run serves until ctx ends.
func (s *Sandbox) Run(ctx context.Context) error {
	srv := &http.Server{Handler: s.srv, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	deliveries := make(chan error, 1)
	go func() { deliveries <- s.srv.Run(ctx) }()
	served := make(chan error, 1)
	go func() { served <- srv.Serve(s.l) }()
	var err error
	select {
	case <-ctx.Done():
	case err = <-served:
		err = fmt.Errorf("sandbox: %w", err)
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if srv.Shutdown(stop) != nil {
		_ = srv.Close()
	}
	if derr := <-deliveries; derr != nil && !errors.Is(derr, context.Canceled) {
		err = errors.Join(err, fmt.Errorf("sandbox deliveries: %w", derr))
	}
	return err
}
