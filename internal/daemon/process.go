package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/alecthomas/kong"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// Parse reads a program's settings: flag > environment > file > default. It returns a [*UsageError].
func Parse(config any, name, description string, args []string, stdout, stderr io.Writer) error {
	parser, err := kong.New(config, kong.Name(name), kong.Description(description), kong.Writers(stdout, stderr), ConfigFiles())
	if err != nil {
		return fmt.Errorf("settings of %s: %w", name, err)
	}
	if _, err := parser.Parse(args); err != nil {
		return &UsageError{Err: err}
	}
	return nil
}

// Env is what a part of the engine is wired to.
type Env struct {
	Conn   *nats.Conn
	Log    *eventlog.Log
	Logger zerolog.Logger
	HTTP   *HTTP
}

// Part is ingest, worker or projector: Start wires it up, adds its checks and its routes, and gives what runs until
// its context ends.
type Part interface {
	Start(ctx context.Context, e Env) (run func(context.Context) error, err error)
}

// OnConn is a part with a connection of its own beside others in the same process. The server answers one connection's reads
// one after the other, each behind whatever write it has to wait for: parts that share one wait for each other.
type OnConn struct {
	Part
	Conn *nats.Conn
	Log  *eventlog.Log // on Conn
}

// Start wires the part up on its connection.
func (p OnConn) Start(ctx context.Context, e Env) (run func(context.Context) error, err error) {
	e.Conn, e.Log = p.Conn, p.Log
	return p.Part.Start(ctx, e)
}

// Process runs one part as a process of its own: connect, check the streams, serve, and on the way out stop in reverse
// order.
func Process(ctx context.Context, name string, n NATS, log zerolog.Logger, httpAddr string, part Part) error {
	l, err := Listen(ctx, httpAddr, "--http-addr")
	if err != nil {
		return err
	}
	defer l.Close()
	nc, err := n.Connect(name, log)
	if err != nil {
		return err
	}
	defer Drain(nc)
	elog, err := eventlog.Open(ctx, nc, eventlog.Config{Prefix: n.Prefix, Env: n.Env, Logger: log})
	if err != nil {
		return err
	}
	h := NewHTTP()
	h.Check(NATSCheck(nc))
	return Serve(ctx, l, Env{Conn: nc, Log: elog, Logger: log, HTTP: h}, nil, part)
}

// readyWithin is how long a process that is told of its readiness may take to get there.
const readyWithin = 20 * time.Second

// Serve runs parts and their HTTP side until ctx ends or one of them fails. ready, if not nil, is called once, when
// every part works.
func Serve(ctx context.Context, l net.Listener, e Env, ready func(), parts ...Part) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, part := range parts {
		run, err := part.Start(ctx, e)
		if err != nil {
			g.Go(func() error { return err }) // ends those that run already, before what they stand on is closed
			_ = g.Wait()
			return err
		}
		g.Go(func() error { return run(ctx) })
	}
	g.Go(func() error { return e.HTTP.Serve(ctx, l) })
	if ready != nil {
		g.Go(func() error { // only now: the parts have added their checks
			if err := e.HTTP.WaitReady(ctx, readyWithin); err != nil {
				return err
			}
			ready()
			return nil
		})
	}
	e.Logger.Info().Str("http", l.Addr().String()).Msg("started")
	err := g.Wait()
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	e.Logger.Info().Msg("stopped")
	return nil
}
