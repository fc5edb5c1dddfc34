package eventlogtest

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats-server/v2/server/ats"
)

// standstill is how long, of real time, a test in virtual time may take.
const standstill = 10 * time.Minute

var virtual sync.Mutex //nolint:gochecknoglobals // there is one set of pools in a process

// Virtual runs f in a bubble of testing/synctest with a server of its own: time passes when everybody waits, so that days
// take a second. Clients connect with [Server.Conn], which goes through memory: sockets would stop time. Whoever f starts
// must have ended when it returns.
//
// Tests that use it have a package of their own and run one after the other: nats.go keeps timers for later, and one of a
// bubble must not be used outside of it.
//
// It works by a trick: one goroutine of nats-server, the ticker of its package ats, would be in the bubble and never wait
// there for good, so it is begun outside, before. Should another version of the server have more of the kind, time stands
// still; then the test is ended with a sentence instead of hanging, and TestVirtualTime is where to begin to look.
func Virtual(t *testing.T, f func(t *testing.T, s *Server)) {
	t.Helper()
	virtual.Lock()
	defer virtual.Unlock()
	for range 2 { // nothing of an earlier bubble is kept in a pool: what the first leaves, the second takes
		runtime.GC()
	}
	ats.Register()
	defer ats.Unregister()
	watch := time.AfterFunc(standstill, func() {
		panic("virtual time stands still, or the machine is very slow: does nats-server have a goroutine that never waits? (see eventlogtest.Virtual)")
	})
	defer watch.Stop()
	synctest.Test(t, func(t *testing.T) {
		s := &Server{tb: t, StoreDir: t.TempDir(), inProcess: true}
		s.options = server.Options{
			ServerName: "test", DontListen: true, JetStream: true, StoreDir: s.StoreDir, NoSigs: true, NoLog: true,
			MaxPayload: 2 << 20,
		}
		s.start()
		stop := sync.OnceFunc(s.Stop)
		t.Cleanup(stop)
		f(t, s)
	})
}
