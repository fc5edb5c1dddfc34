package sim

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/commands"
	engine "github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/provider"
)

const (
	ackWait = 20 * time.Second // as the consumers have it
	pinLife = 10 * time.Second
)

// role is what a process does.
type role int

const (
	ingest role = iota
	worker
)

// process is one running program. Killed, it is made anew with nothing in memory.
type process struct {
	w       *World
	role    role
	name    string
	alive   bool
	life    int             // how often it was started
	ctx     context.Context //nolint:containedctx // the process: it ends when that is killed
	cancel  context.CancelFunc
	tasks   map[*task]func(killed bool) // that run, and who is told of their end
	order   []*task
	offset  time.Duration // of its clock
	cut     time.Time     // no server before
	lanes   map[string][]*pending
	handle  map[eventlog.ConsumerName]func(context.Context, eventlog.Message) eventlog.Result
	door    http.Handler
	command *commands.Handler
	worker  *provider.Worker
	filling bool // a backfill runs
}

func (p *process) now() time.Time { return p.w.sched.now.Add(p.offset) }

// start runs the program.
func (p *process) start() {
	if p.alive {
		return
	}
	p.alive = true
	p.life++
	p.filling = false
	p.w.trace("%s starts", p.name)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.tasks, p.order, p.lanes = map[*task]func(bool){}, nil, map[string][]*pending{}
	p.handle = map[eventlog.ConsumerName]func(context.Context, eventlog.Message) eventlog.Result{}
	log := NewLog(p.w.server, p)
	hooks := map[string]provider.Webhooks{providerID: Webhooks{p.w.stripe}}
	random := func(n int64) int64 { return p.w.random.Int64N(n) }
	switch p.role {
	case ingest:
		p.command = commands.New(log, commands.Config{
			Providers: []string{providerID}, Now: p.now, Logger: zerolog.Nop(),
			RetrySchedules: map[string][]time.Duration{"steps": {10 * time.Minute, 5 * time.Hour}}, AtOnce: p.inSomeOrder,
		})
		p.handle[eventlog.ConsumerCommands] = commands.QueueHandler(p.command)
		p.handle[eventlog.ConsumerNormalizer] = provider.NewNormalizer(log, hooks, provider.NormalizerConfig{
			Now: p.now, Random: random, Logger: zerolog.Nop(), AtOnce: p.inSomeOrder,
		}).Handle
		p.door = provider.NewDoor(log, hooks, provider.DoorConfig{Now: p.now, Logger: zerolog.Nop()})
	case worker:
		p.worker = provider.NewWorker(log, map[string]provider.API{providerID: NewAPI(p.w.stripe, p)}, provider.WorkerConfig{
			Webhooks: hooks, Now: p.now, Random: random, Rate: 1e9, TripAfter: 1 << 30, Logger: zerolog.Nop(),
			AtOnce: p.inSomeOrder,
		})
		for _, c := range []eventlog.ConsumerName{eventlog.ConsumerRequests, eventlog.ConsumerSettling} {
			p.handle[c] = func(ctx context.Context, m eventlog.Message) eventlog.Result { return p.worker.Handle(ctx, c, m) }
		}
	}
}

// inSomeOrder does one after the other what a process does at once: a task has one thread. A crash, or anything else, may come
// between any two.
func (p *process) inSomeOrder(work ...func()) {
	for _, i := range p.w.random.Perm(len(work)) {
		work[i]()
	}
}

// run starts a task of the process. ended is told whether the process died in it.
func (p *process) run(do func(ctx context.Context, t *task), ended func(killed bool)) {
	var t *task
	t = p.w.sched.start(func(own *task) {
		do(p.ctx, own)
		if !own.killed {
			delete(p.tasks, t)
			if ended != nil {
				p.w.sched.after(0, func() { ended(false) })
			}
		}
	})
	p.tasks[t] = ended
	p.order = append(p.order, t)
	if len(p.order) > 64 {
		kept := p.order[:0]
		for _, one := range p.order {
			if _, runs := p.tasks[one]; runs {
				kept = append(kept, one)
			}
		}
		p.order = kept
	}
}

// die ends the process where it is: nothing that its tasks still do has an effect.
func (p *process) die(back time.Duration) {
	if !p.alive {
		return
	}
	p.alive = false
	p.w.trace("%s dies, back in %s", p.name, back)
	p.cancel()
	for _, t := range p.order {
		ended, runs := p.tasks[t]
		if !runs {
			continue
		}
		t.kill()
		if ended != nil {
			p.w.sched.after(0, func() { ended(true) })
		}
	}
	for _, c := range p.w.consumers {
		for _, one := range c.inHandOf(p) {
			one.holder = nil
			one.comesAgain(ackWait)
		}
	}
	p.w.sched.after(back, p.start)
}

// dies has the process die at the next moment; the task that asks must wait for it.
func (p *process) dies() {
	back := time.Duration(p.w.mix.random.Int64N(int64(40 * time.Second)))
	if p.w.mix.hits(longKill, 6) {
		back = time.Hour + time.Duration(p.w.mix.random.Int64N(int64(29*time.Hour)))
	}
	life := p.life
	p.w.sched.after(0, func() {
		if p.life == life {
			p.die(back)
		}
	})
}

// waits passes a task's time, in which its process may die.
func (p *process) waits(d time.Duration) bool {
	t := p.w.sched.cur
	if t == nil || !p.alive {
		return false
	}
	if p.w.mix.hits(kill, 0.15) {
		p.w.trace("%s: kill", p.name)
		p.dies()
		t.sleep(d + time.Hour)
		return false
	}
	return t.sleep(d) && p.alive
}

func (p *process) moment() time.Duration {
	return time.Duration(100+p.w.random.Int64N(1900)) * time.Microsecond
}

// Sleep implements [Wire].
func (p *process) Sleep(_ context.Context, d time.Duration) bool { return p.waits(d) }

// Send implements [Wire].
func (p *process) Send(_ context.Context, write bool, do func()) loss {
	if !p.waits(p.moment()) {
		return lossDead
	}
	x := p.w.mix
	if p.w.sched.now.Before(p.cut) {
		if !p.waits(5 * time.Second) {
			return lossDead
		}
		return lossRequest
	}
	switch {
	case x.hits(natsRefused, 1):
		p.w.trace("%s: request refused", p.name)
		if !p.waits(2 * time.Second) {
			return lossDead
		}
		return lossRequest
	case write && x.hits(natsUnknown, 1):
		p.w.trace("%s: write lost, unanswered", p.name)
		if !p.waits(5 * time.Second) {
			return lossDead
		}
		return lossLate
	case write && x.hits(natsLate, 1):
		after := time.Duration(x.random.Int64N(int64(15 * time.Second)))
		p.w.trace("%s: write unanswered, arrives after %s", p.name, after)
		p.w.sched.after(after, do)
		if !p.waits(5 * time.Second) {
			return lossDead
		}
		return lossLate
	case write && x.hits(natsAnswer, 1):
		p.w.trace("%s: write done, answer lost", p.name)
		do()
		if !p.waits(5 * time.Second) {
			return lossDead
		}
		return lossAnswer
	}
	do()
	if write && !p.waits(p.moment()) {
		return lossDead
	}
	return lossNone
}

// Out implements [Net].
func (p *process) Out(ctx context.Context, operation string, write bool) (fate, error) {
	if !p.waits(20*p.moment()) || ctx.Err() != nil {
		return fate{}, context.Canceled
	}
	x, w := p.w.mix, p.w
	bad := func(class provider.Class, status int) *provider.Error {
		return &provider.Error{Class: class, Operation: operation, Status: status}
	}
	hit := func(k kind) bool {
		if !x.hits(k, 1) {
			return false
		}
		w.trace("%s: %s: %s", p.name, operation, k)
		return true
	}
	timeout := func(f fate) (fate, error) {
		if !p.waits(clientTimeout) {
			return f, context.Canceled
		}
		return f, nil
	}
	switch {
	case w.sched.now.Before(w.blocked):
		return fate{refused: bad(provider.Blocked, http.StatusUnauthorized)}, nil
	case w.sched.now.Before(w.down):
		return timeout(fate{refused: bad(provider.InDoubt, 0)})
	case hit(stripeTimeout):
		return timeout(fate{refused: bad(provider.InDoubt, 0)})
	case hit(stripeAfter):
		return fate{broken: bad(provider.InDoubt, 0)}, nil
	case write && hit(stripeLate):
		return fate{broken: bad(provider.InDoubt, 0), late: clientTimeout + time.Duration(x.random.Int64N(int64(2*time.Minute)))}, nil
	case hit(stripe500):
		return fate{refused: bad(provider.InDoubt, http.StatusInternalServerError), kept: true}, nil
	case hit(stripe500Done):
		return fate{broken: bad(provider.InDoubt, http.StatusInternalServerError), kept: true}, nil
	case hit(stripe502):
		return fate{broken: bad(provider.InDoubt, http.StatusBadGateway)}, nil
	case hit(stripe503):
		return fate{refused: bad(provider.Transient, http.StatusServiceUnavailable)}, nil
	case hit(stripe429):
		e := bad(provider.Transient, http.StatusTooManyRequests)
		e.RetryAfter = time.Duration(1+x.random.IntN(4)) * time.Second
		return fate{refused: e}, nil
	case hit(stripe409):
		return fate{refused: bad(provider.Transient, http.StatusConflict)}, nil
	}
	return fate{}, nil
}

// Back implements [Net].
func (p *process) Back(ctx context.Context) error {
	if !p.waits(20*p.moment()) || ctx.Err() != nil {
		return context.Canceled
	}
	return nil
}

// Later implements [Net].
func (p *process) Later(d time.Duration, do func()) { p.w.plan(d, do) }

// consumer is a durable consumer of the server.
type consumer struct {
	w      *World
	name   eventlog.ConsumerName
	stream string
	role   role
	pinned bool
	wants  func(typ engine.Type) bool
	holder *process // the active one, of a pinned consumer
	open   map[uint64]*pending
}

// pending is a message that is not done.
type pending struct {
	c        *consumer
	sequence uint64
	attempt  int
	holder   *process // who has it in hand
	done     bool
	turn     int // of its deliveries that are planned only the last one counts
}

// comesAgain plans the next delivery.
func (one *pending) comesAgain(after time.Duration) {
	one.turn++
	turn := one.turn
	one.c.w.sched.after(after, func() {
		if one.turn == turn {
			one.c.deliver(one)
		}
	})
}

func (c *consumer) inHandOf(p *process) (list []*pending) {
	for _, one := range c.open {
		if one.holder == p {
			list = append(list, one)
		}
	}
	sortPending(list)
	return list
}

// comes takes in a new message of the stream.
func (c *consumer) comes(sequence uint64) {
	one := &pending{c: c, sequence: sequence}
	c.open[sequence] = one
	one.comesAgain(time.Millisecond)
}

// who gets the next message; nil for nobody at the moment.
func (c *consumer) who() *process {
	if c.pinned && c.holder != nil && c.holder.alive {
		return c.holder
	}
	var free []*process
	for _, p := range c.w.processes {
		if p.role == c.role && p.alive && !c.w.sched.now.Before(p.cut) {
			free = append(free, p)
		}
	}
	if len(free) == 0 {
		return nil
	}
	p := free[c.w.random.IntN(len(free))]
	if c.pinned {
		c.holder = p
	}
	return p
}

// deliver hands a message to a process.
func (c *consumer) deliver(one *pending) {
	if one.done || one.holder != nil {
		return
	}
	p := c.who()
	if p == nil {
		one.comesAgain(15 * time.Second)
		return
	}
	one.attempt++
	one.holder = p
	p.receive(one)
	if c.w.mix.hits(deliveredTwo, 1) { // a heartbeat was late, or the pin went to another
		for _, other := range c.w.processes {
			if other != p && other.role == c.role && other.alive {
				c.w.trace("%s %d also to %s", c.name, one.sequence, other.name)
				one.attempt++
				other.receive(one)
				return
			}
		}
	}
}

// receive sorts a message into its lane.
func (p *process) receive(one *pending) {
	m, ok := p.w.server.message(one.c.stream, one.sequence)
	if !ok { // erased
		one.finish()
		return
	}
	key := string(one.c.name) + " " + lane(one.c, m)
	queue, runs := p.lanes[key]
	p.lanes[key] = append(queue, one)
	if runs {
		return
	}
	p.run(func(ctx context.Context, t *task) {
		for len(p.lanes[key]) > 0 {
			next := p.lanes[key][0]
			p.lanes[key] = p.lanes[key][1:]
			p.work(ctx, next)
			if t.killed {
				return
			}
		}
		delete(p.lanes, key)
	}, nil)
}

// lane keeps what is one customer's in order.
func lane(c *consumer, m eventlog.Message) string {
	if c.stream == streamQueue {
		return ""
	}
	tokens := strings.Split(m.Subject, ".")
	if tokens[len(tokens)-1] == engine.None {
		return tokens[len(tokens)-2]
	}
	return tokens[len(tokens)-1]
}

// work has a message handled and takes in what is said of it.
func (p *process) work(ctx context.Context, one *pending) {
	if one.done {
		return
	}
	m, ok := p.w.server.message(one.c.stream, one.sequence)
	if !ok {
		one.finish()
		return
	}
	m.Attempt = one.attempt
	p.w.trace("%s: %s %d attempt %d: %s", p.name, one.c.name, one.sequence, one.attempt, m.Subject)
	result := p.handle[one.c.name](ctx, m)
	if t := p.w.sched.cur; t == nil || t.killed || !p.alive {
		return
	}
	after, again := result.Again()
	lost := p.w.mix.hits(ackLost, 1)
	if result.Erased() && !again {
		if one.c.stream == streamQueue {
			p.w.server.queue.erase(one.sequence)
		} else {
			p.w.server.inbox.erase(one.sequence)
		}
	}
	if lost {
		p.w.trace("%s: answer to %s %d lost", p.name, one.c.name, one.sequence)
		after, again = ackWait, true
	}
	if !again {
		one.finish()
		return
	}
	if one.holder == p {
		one.holder = nil
	}
	one.comesAgain(after)
}

func (one *pending) finish() {
	one.done = true
	delete(one.c.open, one.sequence)
}
