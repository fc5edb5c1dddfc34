package sim

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// LogBench is the model of the event store by itself, as the suite wants it that embedded NATS passes too: connections,
// one lost answer at a time, and consumers that hand out messages to processes which may die.
type LogBench struct {
	w    *World
	lose bool
}

// NewLogBench makes empty streams. No faults but those that are asked for.
func NewLogBench() *LogBench {
	b := &LogBench{w: NewWorld(Scenario{}, nil)}
	b.w.mix.on = false
	b.w.consumers = nil
	return b
}

// Log is a connection whose answers can be lost.
func (b *LogBench) Log() *Log { return NewLog(b.w.server, b) }

// Other is a connection that nothing happens to.
func (b *LogBench) Other() *Log { return NewLog(b.w.server, nil) }

// Lose carries out the next write of the connection that is [LogBench.Log], and loses its answer.
func (b *LogBench) Lose() { b.lose = true }

// Send implements [Wire].
func (b *LogBench) Send(_ context.Context, write bool, do func()) loss { //nolint:revive // unexported-return: for this package only
	b.w.sched.now = b.w.sched.now.Add(time.Millisecond)
	do()
	if write && b.lose {
		b.lose = false
		return lossAnswer
	}
	return lossNone
}

// Sleep implements [Wire].
func (b *LogBench) Sleep(_ context.Context, d time.Duration) bool {
	b.w.sched.now = b.w.sched.now.Add(d)
	return true
}

// Enqueue leaves a command.
func (b *LogBench) Enqueue(subject string, body []byte, header nats.Header) {
	b.w.server.enqueue(subject, body, header)
}

// Consume hands a consumer's messages to a process until the messages say that it is enough. die, called in a handler,
// kills the process there: the call does not come back to life, and another process goes on.
func (b *LogBench) Consume(name eventlog.ConsumerName, handle func(m eventlog.Message, die func()) eventlog.Result, enough func() bool) bool {
	fresh := NewWorld(Scenario{}, nil)
	for _, c := range fresh.consumers {
		if c.name == name {
			c.w = b.w
			b.w.consumers = []*consumer{c}
		}
	}
	c := b.w.consumers[0]
	for _, p := range b.w.processes {
		p.start()
		p.handle = map[eventlog.ConsumerName]func(context.Context, eventlog.Message) eventlog.Result{
			name: func(_ context.Context, m eventlog.Message) eventlog.Result {
				return handle(m, func() {
					b.w.sched.after(0, func() { p.die(never) })
					b.w.sched.cur.sleep(time.Hour)
				})
			},
		}
	}
	stored := max(len(b.w.server.entries), len(b.w.server.inbox.list), len(b.w.server.queue.list))
	for sequence := range uint64(stored) {
		m, ok := b.w.server.message(c.stream, sequence+1)
		if !ok {
			continue
		}
		if ev, err := m.Event(); c.wants == nil || err == nil && c.wants(ev.Type) {
			c.comes(sequence + 1)
		}
	}
	b.w.sched.run(b.w.sched.now.Add(time.Hour), func() bool { return enough() && len(c.open) == 0 })
	for _, p := range b.w.processes {
		p.die(never)
	}
	b.w.sched.end()
	return enough() && len(c.open) == 0
}
