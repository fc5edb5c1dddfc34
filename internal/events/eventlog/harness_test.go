package eventlog_test

import (
	"bytes"
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// soon bounds every wait of a test.
const soon = 20 * time.Second

// sync returns a decision that changes the customer's profile, done once per command.
func syncCustomer(ref, command string) func(*events.Event) (*events.Event, error) {
	return func(last *events.Event) (*events.Event, error) {
		return events.DecideCustomer(last, events.SyncCustomer{ReferenceID: ref, Revision: 1, Changed: []string{"email"}},
			events.Cause{Now: time.Now(), Source: "/paykit/test", CommandID: command})
	}
}

// appendCustomer appends n events of one customer.
func appendCustomer(t *testing.T, l *eventlog.Log, ref string, n int) eventlog.Entry {
	t.Helper()
	var e eventlog.Entry
	for i := range n {
		var appended bool
		var err error
		e, appended, err = l.Update(t.Context(), events.EntityCustomer, events.CustomerID(ref),
			syncCustomer(ref, events.CommandID(ref, fmt.Sprint(time.Now().UnixNano(), i))))
		if err != nil || !appended {
			t.Fatalf("append to %s: appended %v, %v", ref, appended, err)
		}
	}
	return e
}

// createCharge appends a charge.requested.
func createCharge(t *testing.T, l *eventlog.Log, ref, key string) eventlog.Entry {
	t.Helper()
	id := events.ChargeID(key)
	e, _, err := l.Update(t.Context(), events.EntityCharge, id, func(last *events.Event) (*events.Event, error) {
		return events.DecideCharge(last, events.CreateCharge{ID: id, ProviderID: "stripe", Amount: 4900, Currency: "usd"},
			events.Cause{
				Now: time.Now(), Source: "/paykit/test", CommandID: events.CommandID("charge.create", key),
				Customer: events.CustomerRef{ID: events.CustomerID(ref), ReferenceID: ref},
			})
	})
	if err != nil {
		t.Fatalf("create charge %s: %v", key, err)
	}
	return e
}

// checkChain reads the whole log and checks every entity's versions and digests.
func checkChain(t *testing.T, l *eventlog.Log) map[string]int {
	t.Helper()
	list, err := l.History(t.Context(), eventlog.HistoryFilter{}, 0, 1_000_000)
	if err != nil {
		t.Fatalf("history: %v", err)
	}
	versions := map[string]int{}
	digests := map[string]string{}
	for i, e := range list {
		id := e.Event.Subject
		if e.Sequence != uint64(i)+1 {
			t.Errorf("event %d stands at %d", i+1, e.Sequence)
		}
		if e.Event.EntityVersion != versions[id]+1 {
			t.Errorf("%s: version %d follows %d", id, e.Event.EntityVersion, versions[id])
		}
		if e.Event.PreviousDigest != digests[id] {
			t.Errorf("%s: version %d does not name the digest of the event before it", id, e.Event.EntityVersion)
		}
		versions[id] = e.Event.EntityVersion
		digests[id] = events.Digest(e.Raw)
	}
	return versions
}

func js(t *testing.T, l *eventlog.Log) jetstream.JetStream {
	t.Helper()
	j, err := jetstream.New(l.Conn())
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// receive waits for one value.
func receive[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(soon):
		t.Fatalf("waited too long for %s", what)
		panic("unreachable")
	}
}

// waitFor asks again and again until ok says yes.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(soon)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// proxy is a TCP proxy that can keep the server's answers from the client.
type proxy struct {
	URL     string
	target  string
	ln      net.Listener
	mute    atomic.Bool // the server's bytes are dropped, the client's go through
	muted   chan struct{}
	rewrite func([]byte) []byte // of the server's bytes; may be nil
	once    sync.Once
	wg      sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
	hold  bool // the client's bytes are kept back
	held  []byte
	to    net.Conn      // where they belong
	taken chan struct{} // something is held
}

func startProxy(t *testing.T, target string, rewrite func([]byte) []byte) *proxy {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{URL: "nats://" + ln.Addr().String(), target: u.Host, ln: ln, muted: make(chan struct{}), taken: make(chan struct{}, 1), rewrite: rewrite}
	p.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			p.serve(c)
		}
	})
	t.Cleanup(func() {
		p.close()
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) serve(client net.Conn) {
	var d net.Dialer
	server, err := d.Dial("tcp", p.target)
	if err != nil {
		_ = client.Close()
		return
	}
	p.mu.Lock()
	p.conns = append(p.conns, client, server)
	p.mu.Unlock()
	p.wg.Go(func() {
		buf := make([]byte, 32<<10)
		for {
			n, err := client.Read(buf)
			if err == nil {
				err = p.forward(server, buf[:n])
			}
			if err != nil {
				if !p.holding(server) {
					_ = server.Close()
				}
				return
			}
		}
	})
	p.wg.Go(func() {
		buf := make([]byte, 32<<10)
		for {
			n, err := server.Read(buf)
			if n > 0 {
				out := buf[:n]
				if p.rewrite != nil {
					out = p.rewrite(out)
				}
				if p.mute.Load() {
					p.once.Do(func() { close(p.muted) })
				} else if _, werr := client.Write(out); werr != nil {
					err = werr
				}
			}
			if err != nil {
				_ = client.Close()
				return
			}
		}
	})
}

func (p *proxy) forward(server net.Conn, b []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hold {
		p.held, p.to = append(p.held, b...), server
		select {
		case p.taken <- struct{}{}:
		default:
		}
		return nil
	}
	_, err := server.Write(b)
	return err
}

func (p *proxy) holding(server net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.to == server
}

// holds tells whether what is held has this in it.
func (p *proxy) holds(text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Contains(p.held, []byte(text))
}

// keepBack holds the client's bytes from now on.
func (p *proxy) keepBack() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hold = true
}

// letGo sends on what was held, and holds what comes next.
func (p *proxy) letGo() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.to.Write(p.held); err == nil {
		p.held = nil
	}
}

// goOn sends on what was held and holds nothing more.
func (p *proxy) goOn(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hold = false
	if _, err := p.to.Write(p.held); err != nil {
		t.Errorf("what was held did not arrive: %v", err)
	}
	p.held, p.to = nil, nil
}

// loseClient ends the clients' connections and lets new ones through. What was held is still under way to the server.
func (p *proxy) loseClient() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hold = false
	for _, c := range p.conns {
		if c.LocalAddr().String() == p.ln.Addr().String() {
			_ = c.Close()
		}
	}
}

// arrive lets what was held reach the server.
func (p *proxy) arrive(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.to.Write(p.held); err != nil {
		t.Errorf("what was held did not arrive: %v", err)
	}
}

// close takes no more connections.
func (p *proxy) close() { _ = p.ln.Close() }

// cut ends every connection; the clients connect again.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}
