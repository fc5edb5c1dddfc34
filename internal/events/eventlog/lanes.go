package eventlog

import (
	"context"
	"runtime/debug"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/paykit-go/paykit/internal/crashpoint"
)

// lanes works on messages: one goroutine per key that has any, at most so many handlers at once.
type lanes struct {
	l      *Log
	stream string
	o      ConsumeOptions
	ctx    context.Context //nolint:containedctx // the handlers' lifetime, which outlasts Consume's own context by the grace
	cancel context.CancelFunc
	slots  chan struct{}   // one per running handler
	freed  chan struct{}   // there may be room again
	ended  <-chan struct{} // no more work is begun
	end    context.CancelFunc
	beats  chan struct{} // closed when no more heartbeats are needed
	wg     sync.WaitGroup

	mu     sync.Mutex
	bytes  int // of what is in hand
	queues map[string][]*item
	inHand map[uint64]*item // by stream sequence
}

// item is a message in hand. msg is guarded by lanes.mu: a delivery of the same message again replaces it.
type item struct {
	msg jetstream.Msg
	m   Message
}

// size is about what it takes of memory, bytes.
func (it *item) size() int { return len(it.m.Data) + itemOverhead }

func newLanes(ctx context.Context, l *Log, stream string, o ConsumeOptions) *lanes {
	if o.Lanes <= 0 {
		o.Lanes = defaultLanes
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ending, end := context.WithCancel(ctx)
	return &lanes{
		l: l, stream: stream, o: o, ctx: run, cancel: cancel, ended: ending.Done(), end: end,
		slots: make(chan struct{}, o.Lanes), freed: make(chan struct{}, 1), beats: make(chan struct{}),
		queues: map[string][]*item{}, inHand: map[uint64]*item{},
	}
}

// closed tells whether no more work is begun.
func (w *lanes) closed() bool {
	select {
	case <-w.ended:
		return true
	default:
		return false
	}
}

// add puts a message into its lane. It blocks while too much is in hand: then no more is pulled.
func (w *lanes) add(msg jetstream.Msg) {
	meta, err := msg.Metadata()
	if err != nil {
		w.o.Logger.Error().Err(err).Msg("message without metadata")
		return
	}
	it := &item{msg: msg, m: Message{
		Stream: meta.Stream, Sequence: meta.Sequence.Stream, Subject: msg.Subject(), Data: msg.Data(),
		Header: msg.Headers(), Attempt: int(meta.NumDelivered), Time: meta.Timestamp, Received: time.Now(), //nolint:gosec // G115: counts from 1 by ones
		upcasters: w.l.cfg.Upcasters,
	}}
	w.mu.Lock()
	if known := w.inHand[it.m.Sequence]; known != nil {
		known.msg = msg // delivered again while in hand: a late heartbeat; it is answered once
		w.mu.Unlock()
		return
	}
	w.mu.Unlock()
	key := w.o.Lane(it.m)
	w.waitForRoom(it)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed() {
		w.reply(it, nak(msg, 0))
		return
	}
	w.inHand[it.m.Sequence] = it
	w.bytes += it.size()
	queue, running := w.queues[key]
	w.queues[key] = append(queue, it)
	if !running {
		w.wg.Go(func() { w.run(key) })
	}
}

// waitForRoom returns when the message may be taken in, or no more is. There is one caller at a time.
func (w *lanes) waitForRoom(it *item) {
	for {
		w.mu.Lock()
		full := len(w.inHand) > 0 && (len(w.inHand) >= inHandMost || w.bytes+it.size() > inHandBytes)
		w.mu.Unlock()
		if !full {
			return
		}
		select {
		case <-w.ended:
			return
		case <-w.freed:
		}
	}
}

// release lets go of a message right before it is answered, or what the server sends next would be taken for another
// delivery of what is in hand. It answers the delivery to reply to.
func (w *lanes) release(it *item) jetstream.Msg {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.inHand, it.m.Sequence)
	w.bytes -= it.size()
	select {
	case w.freed <- struct{}{}:
	default:
	}
	return it.msg
}

// run works on one lane until it is empty.
func (w *lanes) run(key string) {
	for {
		w.mu.Lock()
		queue := w.queues[key]
		if len(queue) == 0 {
			delete(w.queues, key)
			w.mu.Unlock()
			return
		}
		it := queue[0]
		w.queues[key] = queue[1:]
		w.mu.Unlock()
		w.work(it)
	}
}

func (w *lanes) work(it *item) {
	select {
	case <-w.ended:
		w.handBack(it)
		return
	case w.slots <- struct{}{}:
	}
	defer func() { <-w.slots }()
	if w.closed() {
		w.handBack(it)
		return
	}
	w.answer(it, w.handle(it.m))
}

// handle runs the handler; a panic counts as a retry.
func (w *lanes) handle(m Message) (r Result) {
	defer func() {
		if p := recover(); p != nil {
			w.o.Logger.Error().Err(Panicked(p)).Bytes("stack", debug.Stack()).Str("stream", m.Stream).
				Uint64("stream_seq", m.Sequence).Int("attempt", m.Attempt).Msg("handler panicked")
			r = Retry(min(panicRetryFirst<<min(m.Attempt-1, 10), panicRetryMost))
		}
	}()
	return w.o.Handle(w.ctx, m)
}

// answer tells the server what became of the message.
func (w *lanes) answer(it *item, r Result) {
	if r.verdict == verdictErase {
		// Erased first: an acknowledgement of a work queue removes the message and leaves its bytes in the file. A crash in
		// between leaves nothing to deliver again.
		if err := w.l.erase(w.ctx, w.stream, it.m.Sequence); err != nil {
			w.o.Logger.Warn().Err(err).Uint64("stream_seq", it.m.Sequence).Msg("secure deletion failed")
			r = Retry(eraseRetry)
		}
		crashpoint.Hit("eventlog.erased")
	}
	msg := w.release(it)
	if r.verdict == verdictRetry {
		w.reply(it, nak(msg, r.after))
		return
	}
	crashpoint.Hit("eventlog.before_ack")
	w.reply(it, msg.Ack())
	crashpoint.Hit("eventlog.acked")
}

// handBack lets another process have the message at once.
func (w *lanes) handBack(it *item) { w.reply(it, nak(w.release(it), 0)) }

// reply logs an answer that could not be sent. It leads to another delivery, which handlers are made for.
func (w *lanes) reply(it *item, err error) {
	if err != nil {
		w.o.Logger.Warn().Err(err).Str("stream", it.m.Stream).Uint64("stream_seq", it.m.Sequence).Msg("message not answered")
	}
}

func nak(msg jetstream.Msg, after time.Duration) error {
	if after <= 0 {
		return msg.Nak()
	}
	return msg.NakWithDelay(after)
}

// heartbeat keeps what is in hand from being delivered again.
func (w *lanes) heartbeat(every time.Duration) {
	t := time.NewTicker(max(every, time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-w.beats:
			return
		case <-t.C:
		}
		w.mu.Lock()
		list := make([]jetstream.Msg, 0, len(w.inHand))
		for _, it := range w.inHand {
			list = append(list, it.msg)
		}
		w.mu.Unlock()
		for _, msg := range list {
			if err := msg.InProgress(); err != nil { // answered meanwhile, or no connection: nothing to be done
				continue
			}
		}
	}
}

// drain waits for running handlers, cancels their context after the grace, and ends the heartbeat.
func (w *lanes) drain() {
	defer close(w.beats)
	defer w.cancel()
	w.mu.Lock() // whoever takes a message in has seen the end, or is waited for
	w.end()
	w.mu.Unlock()
	done := make(chan struct{})
	go func() {
		w.wg.Wait()
		close(done)
	}()
	grace := time.NewTimer(drainGrace)
	defer grace.Stop()
	select {
	case <-done:
		return
	case <-grace.C:
	}
	w.cancel()
	cut := time.NewTimer(drainCut)
	defer cut.Stop()
	select {
	case <-done:
	case <-cut.C:
		w.o.Logger.Error().Msg("handlers did not end")
	}
}
