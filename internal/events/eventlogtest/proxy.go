package eventlogtest

import (
	"context"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// Proxy stands between a client and a server and can keep one answer from the client.
type Proxy struct {
	URL    string
	target string
	ln     net.Listener
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
	mute  bool
}

// StartProxy puts a proxy before a server until the test ends.
func StartProxy(tb testing.TB, s *Server) *Proxy {
	tb.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		tb.Fatal(err)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{URL: "nats://" + ln.Addr().String(), target: u.Host, ln: ln}
	ctx := context.WithoutCancel(tb.Context())
	p.wg.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			p.serve(ctx, client)
		}
	})
	tb.Cleanup(func() {
		_ = ln.Close()
		p.cut()
		p.wg.Wait()
	})
	return p
}

// Conn connects through the proxy until the test ends.
func (p *Proxy) Conn(tb testing.TB) *nats.Conn {
	tb.Helper()
	return (&Server{URL: p.URL}).Conn(tb)
}

// LoseAnswer keeps the next thing that the server says from the client, whose connection then breaks; it may connect again.
func (p *Proxy) LoseAnswer() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute = true
}

func (p *Proxy) serve(ctx context.Context, client net.Conn) {
	var d net.Dialer
	server, err := d.DialContext(ctx, "tcp", p.target)
	if err != nil {
		_ = client.Close()
		return
	}
	p.mu.Lock()
	p.conns = append(p.conns, client, server)
	p.mu.Unlock()
	pipe := func(to, from net.Conn, answers bool) {
		p.wg.Go(func() {
			defer func() { _, _ = to.Close(), from.Close() }()
			buf := make([]byte, 32<<10)
			for {
				n, err := from.Read(buf)
				if answers && n > 0 && p.lost() {
					return
				}
				if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
					return
				}
			}
		})
	}
	pipe(server, client, false)
	pipe(client, server, true)
}

// lost tells whether this answer is the one to be lost.
func (p *Proxy) lost() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.mute
	p.mute = false
	return was
}

func (p *Proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

// Hurry shortens how long a consumer waits for an acknowledgement, as no test can.
func Hurry(tb testing.TB, l *eventlog.Log, stream string, name eventlog.ConsumerName, ackWait time.Duration) {
	tb.Helper()
	js, err := jetstream.New(l.Conn())
	if err != nil {
		tb.Fatal(err)
	}
	c, err := js.Consumer(tb.Context(), stream, string(name))
	if err != nil {
		tb.Fatal(err)
	}
	config := c.CachedInfo().Config
	config.AckWait = ackWait
	if _, err := js.UpdateConsumer(tb.Context(), stream, config); err != nil {
		tb.Fatal(err)
	}
}
