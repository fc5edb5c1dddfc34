// Package eventlogtest gives tests a real nats-server with JetStream: embedded, on a random port of the loopback, its
// files in a temporary folder, fsync always on, ended with the test. It is imported by test files only.
package eventlogtest

import (
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events/eventlog"
)

const startTimeout = 20 * time.Second

// Server is a running nats-server.
type Server struct {
	URL      string
	StoreDir string

	tb      testing.TB
	options server.Options
	server  *server.Server

	inProcess bool // clients connect through memory
}

// Start runs a server until the test ends. Each change may set options before it starts.
func Start(tb testing.TB, change ...func(*server.Options)) *Server {
	tb.Helper()
	s := &Server{tb: tb, StoreDir: tb.TempDir()}
	s.options = server.Options{
		ServerName: "test", Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: s.StoreDir,
		SyncAlways: true, NoSigs: true, NoLog: true,
	}
	for _, f := range change {
		f(&s.options)
	}
	s.start()
	tb.Cleanup(s.Stop)
	return s
}

func (s *Server) start() {
	s.tb.Helper()
	options := s.options
	srv, err := server.NewServer(&options)
	if err != nil {
		s.tb.Fatalf("start nats-server: %v", err)
	}
	go srv.Start()
	if !srv.ReadyForConnections(startTimeout) {
		s.tb.Fatal("nats-server is not ready")
	}
	s.server = srv
	s.URL = srv.ClientURL()
}

// Stop ends the server; its files stay until the test ends.
func (s *Server) Stop() {
	s.server.Shutdown()
	s.server.WaitForShutdown()
}

// Restart ends the server and starts it again on the same port and files.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Stop()
	s.Resume()
}

// Resume starts a stopped server again on the same port and files.
func (s *Server) Resume() {
	s.tb.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		s.tb.Fatalf("the server's address: %v", err)
	}
	if s.options.Port, err = strconv.Atoi(u.Port()); err != nil {
		s.tb.Fatalf("the server's port: %v", err)
	}
	s.start()
}

// Conn connects to the server until the test ends. It reconnects quickly and for ever.
func (s *Server) Conn(tb testing.TB, options ...nats.Option) *nats.Conn {
	tb.Helper()
	options = append([]nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(20 * time.Millisecond), nats.ReconnectJitter(0, 0)}, options...)
	if s.inProcess {
		options = append(options, nats.InProcessServer(s.server))
	}
	nc, err := nats.Connect(s.URL, options...)
	if err != nil {
		tb.Fatalf("connect to nats-server: %v", err)
	}
	tb.Cleanup(nc.Close)
	return nc
}

// Provisioned starts a server with everything that an installation needs and opens it.
func Provisioned(tb testing.TB) *eventlog.Log {
	tb.Helper()
	return Open(tb, Start(tb).Conn(tb))
}

// Open provisions an installation over nc and opens it.
func Open(tb testing.TB, nc *nats.Conn) *eventlog.Log {
	tb.Helper()
	cfg := eventlog.Config{Logger: zerolog.Nop(), MaxBytes: 256 << 20}
	if _, err := eventlog.Provision(tb.Context(), nc, cfg); err != nil {
		tb.Fatalf("provision: %v", err)
	}
	l, err := eventlog.Open(tb.Context(), nc, cfg)
	if err != nil {
		tb.Fatalf("open the event log: %v", err)
	}
	return l
}

// Divert sends what clients publish on a subject to another one from now on, so that a test can answer in the server's
// place.
func (s *Server) Divert(from, to string) {
	s.tb.Helper()
	if err := s.server.GlobalAccount().AddMapping(from, to); err != nil {
		s.tb.Fatalf("divert %s: %v", from, err)
	}
}
