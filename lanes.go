package paykit

import (
	"cmp"
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	maxInHand  = 1024 // messages in hand of one process, at work and waiting
	leastLane  = 16   // of one key at least, before the others wait at the server
	pausedLane = 4    // the same, of a key whose handler fails

	firstPause, longestPause   = 250 * time.Millisecond, time.Minute      // between the calls of a handler that fails
	firstReturn, longestReturn = 500 * time.Millisecond, 20 * time.Second // until the server brings again what found its lane full
	wave                       = 100 * time.Millisecond                   // between the parts of a long list that is brought again

	// A message that this process has no handler for is offered to others of the same name, so many times: for about half
	// an hour, and one whose type is newer than this program for about a minute.
	roundsAsked, roundsUnknown = 2000, 60
	firstRound, longestRound   = 100 * time.Millisecond, time.Second
)

// lanes handle messages one after the other per key, and at most so many keys at once. A key whose handler fails waits
// without taking another's place, and holds few messages in hand: those behind are given back to the server, and their
// lane remembers them, so that nothing passes them when they come again. What is in hand is kept from being delivered
// again by a heartbeat, since the server counts the time from the moment it sent a message.
type lanes struct {
	nc     *nats.Conn
	ended  <-chan struct{} // closed when no handler is called any more
	handle func(context.Context, *item) verdict
	slots  chan struct{} // one per handler that runs
	freed  chan struct{} // holds one when there may be room again
	wait   time.Duration // the consumer's AckWait
	most   int           // messages in hand of one key
	wg     sync.WaitGroup

	mu     sync.Mutex
	byKey  map[string]*lane // guarded by mu, with all that is in it
	inHand map[uint64]*item // by stream sequence; guarded by mu
}

// lane is what is known of one key.
type lane struct {
	queue   []*item // in hand, in order
	running bool    // a goroutine works on the queue
	paused  bool    // its first message failed

	behind []givenBack   // by sequence; nothing later is taken in before them
	again  time.Time     // from when on they shall come
	delay  time.Duration // how far off the next such time is; grows until a message was dealt with
}

// givenBack is a message that waits at the server. One that has not come again by until was dealt with by another process
// of the same name.
type givenBack struct {
	sequence uint64
	until    time.Time
	reply    string // where its acknowledgements go
}

// item is a message in hand.
type item struct {
	sequence  uint64
	delivered uint64 // counts deliveries from 1
	data      []byte
	msg       jetstream.Msg // its newest delivery; guarded by lanes.mu
}

// verdict is what becomes of a message after its handler was called.
type verdict int

const (
	dealtWith verdict = iota
	again             // the handler is called again a little later
	notAsked          // this process has no handler for it, and another of the same name asked for it
	notKnown          // its type is newer than this program
	noEvent           // nobody will ever know what to do with it
)

func newLanes(
	nc *nats.Conn, ended <-chan struct{}, n int, wait time.Duration, handle func(context.Context, *item) verdict,
) *lanes {
	return &lanes{
		nc: nc, ended: ended, handle: handle, slots: make(chan struct{}, n), freed: make(chan struct{}, 1), wait: wait,
		most: max(maxInHand/n, leastLane), byKey: map[string]*lane{}, inHand: map[uint64]*item{},
	}
}

// room waits until messages may be taken in, and says how many; 0 if ctx ended.
func (l *lanes) room(ctx context.Context) int {
	for {
		l.mu.Lock()
		free := maxInHand - len(l.inHand)
		l.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return 0
		case free > 0:
			return free
		}
		select {
		case <-ctx.Done():
		case <-l.freed:
		}
	}
}

// put takes a message into its lane, or gives it back. It does not block.
func (l *lanes) put(ctx context.Context, key string, m jetstream.Msg) {
	meta, err := m.Metadata()
	if err != nil {
		return // no message of a consumer
	}
	it := &item{sequence: meta.Sequence.Stream, delivered: meta.NumDelivered, data: m.Data(), msg: m}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if known := l.inHand[it.sequence]; known != nil {
		known.msg = m // brought again, after a heartbeat was lost: it is in its place already
		return
	}
	ln := l.byKey[key]
	if ln == nil {
		ln = &lane{}
		l.byKey[key] = ln
	}
	ln.forget(now)
	most := l.most
	if ln.paused {
		most = pausedLane
	}
	if len(ln.queue) >= most || len(ln.behind) > 0 && ln.behind[0].sequence < it.sequence {
		l.giveBack(ln, it, now)
		return
	}
	if len(ln.behind) > 0 && ln.behind[0].sequence == it.sequence {
		ln.behind = ln.behind[1:]
	}
	ln.queue = append(ln.queue, it)
	l.inHand[it.sequence] = it
	if !ln.running {
		ln.running = true
		l.wg.Go(func() { l.run(ctx, key, ln) })
	}
}

// forget lets go of the first of those behind that were dealt with elsewhere.
func (ln *lane) forget(now time.Time) {
	for len(ln.behind) > 0 && ln.behind[0].until.Before(now) {
		ln.behind = ln.behind[1:]
	}
}

// giveBack lets a message wait at the server, which brings those that are due together in order. Called with mu held.
func (l *lanes) giveBack(ln *lane, it *item, now time.Time) {
	if !ln.again.After(now) {
		ln.delay = min(max(2*ln.delay, firstReturn), longestReturn)
		ln.again = now.Add(ln.delay)
	}
	i, known := slices.BinarySearchFunc(ln.behind, it.sequence, func(b givenBack, s uint64) int { return cmp.Compare(b.sequence, s) })
	due := ln.again.Add(time.Duration(i/l.most) * wave)
	b := givenBack{sequence: it.sequence, until: due.Add(2 * l.wait), reply: it.msg.Reply()}
	if known {
		ln.behind[i] = b
	} else {
		ln.behind = slices.Insert(ln.behind, i, b)
	}
	_ = it.msg.NakWithDelay(due.Sub(now)) // if it is lost the message comes again after AckWait
}

// run works on a lane until it is empty. When ctx ends, after the fetching, the server gets back what is left, in order:
// before that it would bring it back to where nobody works on it.
func (l *lanes) run(ctx context.Context, key string, ln *lane) {
	for {
		l.mu.Lock()
		if len(ln.queue) == 0 {
			ln.running = false
			if len(ln.behind) == 0 {
				delete(l.byKey, key)
			}
			l.mu.Unlock()
			return
		}
		it := ln.queue[0]
		l.mu.Unlock()
		v := l.work(ctx, ln, it)
		l.mu.Lock()
		ln.queue = ln.queue[1:]
		ln.paused = false
		delete(l.inHand, it.sequence)
		if v == dealtWith {
			ln.delay = 0
		}
		l.settle(it, v)
		l.mu.Unlock()
		l.free()
	}
}

func (l *lanes) free() {
	select {
	case l.freed <- struct{}{}:
	default:
	}
}

// work calls the handler until it is content, or the subscription ends. While it waits it takes no other key's place.
func (l *lanes) work(ctx context.Context, ln *lane, it *item) verdict {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		select {
		case <-l.ended:
		case l.slots <- struct{}{}:
			v := again
			if !l.over() {
				v = l.handle(ctx, it)
			}
			<-l.slots
			if v != again {
				return v
			}
		}
		if pause > firstPause {
			l.shed(ln)
		}
		timer := time.NewTimer(pause)
		select {
		case <-l.ended:
			timer.Stop()
			<-ctx.Done() // until nothing is fetched any more
			return again
		case <-timer.C:
		}
	}
}

func (l *lanes) over() bool {
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}

// shed makes room for others: a lane that fails keeps few of the messages that wait in it.
func (l *lanes) shed(ln *lane) {
	l.mu.Lock()
	ln.paused = true
	now := time.Now()
	for len(ln.queue) > pausedLane {
		it := ln.queue[len(ln.queue)-1]
		ln.queue = ln.queue[:len(ln.queue)-1]
		delete(l.inHand, it.sequence)
		l.giveBack(ln, it, now)
	}
	l.mu.Unlock()
	l.free()
}

// settle tells the server what became of a message. If that is lost the message comes again. Called with mu held.
func (l *lanes) settle(it *item, v verdict) {
	switch v {
	case dealtWith:
		_ = it.msg.Ack()
	case again: // ctx ended: another process may have it at once
		_ = it.msg.Nak()
	case notAsked, notKnown:
		rounds := uint64(roundsAsked)
		if v == notKnown {
			rounds = roundsUnknown
		}
		if it.delivered >= rounds {
			_ = it.msg.Ack()
			return
		}
		// Jittered, or it could come to the same process each time.
		round := min(firstRound<<min(it.delivered-1, 10), longestRound)
		_ = it.msg.NakWithDelay(round/2 + rand.N(round)) //nolint:gosec // G404: jitter, not a secret
	case noEvent:
		_ = it.msg.TermWithReason("not an event")
	}
}

// beat tells the server that what is in hand is being worked on, until stop is closed.
func (l *lanes) beat(stop <-chan struct{}) {
	tick := time.NewTicker(l.wait / 3)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		l.mu.Lock()
		// In order: after a crash the server brings again what runs out first first.
		list := make([]jetstream.Msg, 0, len(l.inHand))
		for _, sequence := range slices.Sorted(maps.Keys(l.inHand)) {
			list = append(list, l.inHand[sequence].msg)
		}
		for key, ln := range l.byKey {
			if ln.forget(time.Now()); len(ln.behind) == 0 && !ln.running {
				delete(l.byKey, key)
			}
		}
		l.mu.Unlock()
		for _, m := range list { // without the lock: a slow connection must not stop the lanes
			_ = m.InProgress()
		}
	}
}

// finish waits for the handlers that run, after ctx ended, and lets other processes have at once what was given back for
// later, behind what was in hand.
func (l *lanes) finish() {
	l.wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ln := range l.byKey {
		for _, b := range ln.behind {
			_ = l.nc.Publish(b.reply, []byte("-NAK"))
		}
	}
}
