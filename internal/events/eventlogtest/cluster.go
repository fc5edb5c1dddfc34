package eventlogtest

import (
	"context"
	"net"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Cluster is three servers that replicate.
type Cluster struct {
	Servers []*Server
}

const clusterTimeout = 30 * time.Second

// StartCluster runs three servers until the test ends. It returns once JetStream has a leader.
func StartCluster(tb testing.TB) *Cluster {
	tb.Helper()
	c := &Cluster{}
	var routes []*url.URL
	var ports []int
	for range 3 {
		port := freePort(tb)
		ports = append(ports, port)
		routes = append(routes, &url.URL{Scheme: "nats-route", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))})
	}
	for i, port := range ports {
		s := &Server{tb: tb, StoreDir: tb.TempDir()}
		s.options = server.Options{
			ServerName: "test-" + strconv.Itoa(i), Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true,
			StoreDir: s.StoreDir, SyncAlways: true, NoSigs: true, NoLog: true, Routes: routes,
			Cluster:          server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: port},
			LameDuckDuration: 50 * time.Millisecond, LameDuckGracePeriod: 10 * time.Millisecond,
		}
		c.Servers = append(c.Servers, s)
		s.start()
		tb.Cleanup(s.Stop)
	}
	js, err := jetstream.New(c.Conn(tb))
	if err != nil {
		tb.Fatal(err)
	}
	wait(tb, "a leader of JetStream", func() bool {
		_, err := js.AccountInfo(tb.Context())
		leader := false
		for _, s := range c.Servers {
			leader = leader || s.server.JetStreamIsLeader()
		}
		return err == nil && leader
	})
	return c
}

// Conn connects to the cluster until the test ends.
func (c *Cluster) Conn(tb testing.TB) *nats.Conn {
	tb.Helper()
	return (&Server{URL: c.URL()}).Conn(tb)
}

// URL is where clients find the servers.
func (c *Cluster) URL() string {
	var urls []string
	for _, s := range c.Servers {
		urls = append(urls, s.URL)
	}
	return strings.Join(urls, ",")
}

// Healthy waits until every replica of every stream has all there is.
func (c *Cluster) Healthy(tb testing.TB) {
	tb.Helper()
	js, err := jetstream.New(c.Conn(tb))
	if err != nil {
		tb.Fatal(err)
	}
	wait(tb, "all replicas", func() bool {
		ctx, cancel := context.WithTimeout(tb.Context(), 2*time.Second)
		defer cancel()
		list := js.ListStreams(ctx)
		n := 0
		for info := range list.Info() {
			n++
			if info.Cluster == nil || info.Cluster.Leader == "" || len(info.Cluster.Replicas) != len(c.Servers)-1 {
				return false
			}
			for _, replica := range info.Cluster.Replicas {
				if !replica.Current || replica.Offline {
					return false
				}
			}
		}
		return list.Err() == nil && n > 0
	})
}

// Roll restarts one server after the other as an operator does ("nats-server --signal ldm"): each first hands over what it
// leads, and the next waits until all replicas have all there is.
func (c *Cluster) Roll(tb testing.TB) {
	tb.Helper()
	for _, s := range c.Servers {
		s.server.LameDuckShutdown()
		s.server.WaitForShutdown()
		s.Resume()
		c.Healthy(tb)
	}
}

// StopLeader ends the server that leads a stream.
func (c *Cluster) StopLeader(tb testing.TB, stream string) {
	tb.Helper()
	for _, s := range c.Servers {
		if s.server.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, stream) {
			s.Stop()
			return
		}
	}
	tb.Fatalf("nobody leads %s", stream)
}

func freePort(tb testing.TB) int {
	tb.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	addr, ok := ln.Addr().(*net.TCPAddr)
	if !ok {
		tb.Fatalf("listening on %v", ln.Addr())
	}
	return addr.Port
}

// wait asks again and again until ok says yes.
func wait(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.NewTimer(clusterTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			tb.Fatalf("waited too long for %s", what)
		}
	}
}
