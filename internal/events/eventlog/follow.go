package eventlog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/paykit-go/paykit/internal/events"
)

// Batch is a stretch of the LOG, in order and without gaps. Pending is how many more events there were behind it.
type Batch struct {
	Entries []Entry
	Pending uint64
}

const (
	followBatch    = 2000
	followWait     = 50 * time.Millisecond
	followBuffer   = 4000
	followBytes    = 32 << 20
	followInactive = 30 * time.Second // then the server forgets a reader that went away
	reconnectFirst = 50 * time.Millisecond
	reconnectMost  = 2 * time.Second
)

// Follow reads the LOG in order from a sequence (0 and 1 are the beginning) and calls handle with batches of up to 2,000
// events or 50 ms, whichever is first. If there is nothing to read at the start, handle is called once with an empty
// batch, so that the caller knows that it has caught up: Pending is 0. It ends with ctx (returning its error) or with
// handle's error, and goes on by itself after a lost connection or a restarted server.
//
// It returns a [*GapError] if an event is missing or the LOG ends before the sequence, [ErrRecreated] if the LOG is
// another stream than at [Open], and an [*UnreadableError] for an event that can't be read.
func (l *Log) Follow(ctx context.Context, from uint64, handle func(Batch) error) error {
	return l.FollowGathering(ctx, from, Gathering{}, handle)
}

// Gathering says how long the LOG's last events wait for those behind them, so that what comes shortly after each other is one
// batch and costs its reader one commit. The zero value does not wait.
type Gathering struct {
	For     time.Duration   // after the first event
	Awaited func() bool     // somebody waits for what comes: there is no waiting then; nil = never
	Hurry   <-chan struct{} // somebody began to wait
}

// FollowGathering is [Log.Follow] that waits a moment for more at the end of the LOG.
func (l *Log) FollowGathering(ctx context.Context, from uint64, g Gathering, handle func(Batch) error) error {
	f := &follower{l: l, next: max(from, 1), handle: handle, gathering: g}
	wait := reconnectFirst
	for {
		before := f.next
		err := f.run(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !errors.Is(err, errInterrupted) {
			return err
		}
		if f.next > before {
			wait = reconnectFirst
		}
		l.cfg.Logger.Warn().Err(err).Uint64("stream_seq", f.next).Msg("following the log interrupted")
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
		wait = min(2*wait, reconnectMost)
	}
}

// errInterrupted wraps what is cured by starting again from the next sequence.
var errInterrupted = errors.New("interrupted")

type follower struct {
	l       *Log
	next    uint64 // the sequence to be handled next
	handle  func(Batch) error
	greeted bool // handle was called at least once

	gathering Gathering
}

func (f *follower) run(ctx context.Context) error {
	info, err := f.l.Info(ctx)
	if err != nil {
		if IsUnavailable(err) || errors.Is(err, ErrNotProvisioned) && !f.l.nc.IsConnected() {
			return fmt.Errorf("%w: %w", errInterrupted, err)
		}
		return err
	}
	switch {
	case !info.Created.Equal(f.l.created):
		return ErrRecreated
	case info.LastSequence+1 < f.next:
		return &GapError{Want: f.next, Got: info.LastSequence + 1}
	case info.LastSequence+1 == f.next && !f.greeted:
		f.greeted = true
		if err := f.handle(Batch{}); err != nil {
			return err
		}
	}
	return f.consume(ctx)
}

// received is one message on its way from the consumer's callback to the batch.
type received struct {
	entry    Entry
	delivery uint64 // counts what the server sent
	pending  uint64
	err      error
}

// consume reads from f.next on until something goes wrong. The client library's own ordered consumer would start again
// by itself, but holds a lock over requests to a server that may be down, so that it can't be stopped in time.
func (f *follower) consume(ctx context.Context) error {
	create, done := context.WithTimeout(ctx, 2*requestTry)
	defer done()
	cons, err := f.l.js.CreateConsumer(create, f.l.stream(streamLog), jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: f.next, AckPolicy: jetstream.AckNonePolicy,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: followInactive,
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errInterrupted, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	messages := make(chan received, followBatch)
	failed := make(chan error, 1)
	cc, err := cons.Consume(func(msg jetstream.Msg) {
		select {
		case messages <- f.l.received(msg):
		case <-ctx.Done():
		}
	}, jetstream.PullMaxMessagesWithBytesLimit(followBuffer, followBytes), jetstream.PullExpiry(10*time.Second),
		jetstream.PullHeartbeat(2*time.Second),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			// Whatever it is, starting again from the next sequence is right and simple.
			select {
			case failed <- err:
			default:
			}
		}))
	if err != nil {
		return fmt.Errorf("%w: %w", errInterrupted, err)
	}
	defer func() {
		cancel()
		cc.Stop()
		<-cc.Closed()
	}()
	return f.collect(ctx, messages, failed)
}

func (l *Log) received(msg jetstream.Msg) received {
	meta, err := msg.Metadata()
	if err != nil {
		return received{err: fmt.Errorf("%w: %w", errInterrupted, err)}
	}
	e, err := l.entry(stored{Subject: msg.Subject(), Sequence: meta.Sequence.Stream, Data: msg.Data()})
	e.Sequence = meta.Sequence.Stream
	return received{entry: e, delivery: meta.Sequence.Consumer, pending: meta.NumPending, err: err}
}

// collect puts messages together until a batch is full, 50 ms old or the LOG's last and has gathered what comes behind it.
func (f *follower) collect(ctx context.Context, messages <-chan received, failed <-chan error) error {
	var b Batch
	var delivered uint64
	flush := time.NewTimer(time.Hour)
	defer flush.Stop()
	gathering := false
	hand := func() error {
		gathering = false
		if len(b.Entries) == 0 {
			return nil
		}
		f.greeted = true
		err := f.handle(b)
		f.next += uint64(len(b.Entries))
		b = Batch{}
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failed:
			if err := hand(); err != nil {
				return err
			}
			return fmt.Errorf("%w: %w", errInterrupted, err)
		case <-flush.C:
			if err := hand(); err != nil {
				return err
			}
		case <-f.gathering.Hurry:
			if !gathering {
				continue
			}
			if err := hand(); err != nil {
				return err
			}
		case m := <-messages:
			delivered++
			want := f.next + uint64(len(b.Entries))
			switch {
			case m.delivery != 0 && m.delivery != delivered:
				m.err = fmt.Errorf("%w: a delivery was lost", errInterrupted)
			case m.entry.Sequence != 0 && m.entry.Sequence != want:
				m.err = &GapError{Want: want, Got: m.entry.Sequence}
			}
			if m.err != nil {
				if err := hand(); err != nil {
					return err
				}
				return m.err
			}
			if len(b.Entries) == 0 {
				flush.Reset(followWait)
			}
			b.Entries = append(b.Entries, m.entry)
			b.Pending = m.pending
			// What arrived while the last batch was handled goes into one batch, though each was the log's last when it was sent.
			if (m.pending > 0 || len(messages) > 0) && len(b.Entries) < followBatch {
				continue
			}
			if len(b.Entries) < followBatch && f.gathers() {
				if !gathering {
					gathering = true
					flush.Reset(f.gathering.For)
				}
				continue
			}
			if err := hand(); err != nil {
				return err
			}
		}
	}
}

// gathers tells whether the LOG's last event waits for more.
func (f *follower) gathers() bool {
	return f.gathering.For > 0 && (f.gathering.Awaited == nil || !f.gathering.Awaited())
}

// Wake calls f with the type of each event on the live feed, its entity's id and its sequence. It is a wake-up and nothing more: it
// misses events while the connection is down. f is called by one goroutine at a time and must not block. stop ends it.
func (l *Log) Wake(f func(typ events.Type, entityID string, sequence uint64)) (stop func(), err error) {
	sub, err := l.nc.Subscribe(l.subject("events", ">"), func(msg *nats.Msg) {
		// The feed's own subject has no entity id; the server adds the stored one.
		typ, id, ok := l.parseSubject(msg.Header.Get(jetstream.SubjectHeader))
		sequence, err := strconv.ParseUint(msg.Header.Get(jetstream.SequenceHeader), 10, 64)
		if ok && err == nil {
			f(typ, id, sequence)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("listen to the live feed: %w", readError(err))
	}
	return func() { _ = sub.Unsubscribe() }, nil // fails only on a closed connection, which ends it too
}
