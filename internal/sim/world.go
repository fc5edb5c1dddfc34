package sim

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	engine "github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// World is one run of a scenario.
type World struct {
	sc        Scenario
	sched     *sched
	server    *Server
	stripe    *Stripe
	mix       *mix
	random    *rand.Rand // of what is no fault: moments, who gets what
	processes []*process
	consumers []*consumer
	app       *app
	blocked   time.Time // until then the credentials are refused
	down      time.Time // until then Stripe answers nothing
	plans     int       // of what Stripe does by itself
	hooks     int       // deliveries that are not settled
	stored    map[string]bool
	problems  []string
	log       io.Writer // of the trace; nil = none
}

// Result is what a run came to.
type Result struct {
	Problems []string // none = all is well
	Log      []byte   // every event, in order: a run's fingerprint
	Events   int
	Steps    int
	Injected map[string]int
	Virtual  time.Duration
}

// faultsLast is for how long there are faults, at most.
const faultsLast = 50 * time.Hour

// quietWithin bounds the time after the last fault until nothing is open: pages expire after a day, deliveries come after
// up to three days, parked ones wait for a day, looks are an hour apart.
const quietWithin = 6 * 24 * time.Hour

// stepsMost bounds a run: many times what the longest ones take.
const stepsMost = 200_000

// NewWorld makes a world that has not begun. trace takes what happens, nil for nobody.
func NewWorld(sc Scenario, trace io.Writer) *World {
	w := &World{
		sc: sc, sched: &sched{now: epoch}, mix: newMix(sc, sc.stream(1)), random: sc.stream(2), stored: map[string]bool{}, log: trace,
	}
	now := func() time.Time { return w.sched.now }
	w.server = NewServer(now, w.appended)
	w.stripe = NewStripe(now, w.plan, w.emitted)
	types := func(list []engine.Type) func(engine.Type) bool {
		return func(t engine.Type) bool { return slices.Contains(list, t) }
	}
	for _, c := range []*consumer{
		{name: eventlog.ConsumerRequests, stream: streamLog, role: worker, pinned: true, wants: types(engine.RequestTypes())},
		{name: eventlog.ConsumerSettling, stream: streamLog, role: worker, pinned: true, wants: types(engine.SettlingTypes())},
		{name: eventlog.ConsumerNormalizer, stream: streamInbox, role: ingest},
		{name: eventlog.ConsumerCommands, stream: streamQueue, role: ingest},
	} {
		c.w, c.open = w, map[uint64]*pending{}
		w.consumers = append(w.consumers, c)
	}
	for i, r := range []role{ingest, ingest, worker, worker} {
		w.processes = append(w.processes, &process{w: w, role: r, name: []string{"ingest", "worker"}[r] + fmt.Sprint(i%2+1)})
	}
	w.app = newApp(w)
	return w
}

func (w *World) trace(format string, args ...any) {
	if w.log != nil {
		fmt.Fprintf(w.log, "%s "+format+"\n", append([]any{w.sched.now.Sub(epoch)}, args...)...)
	}
}

func (w *World) problem(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.trace("PROBLEM %s", text)
	if len(w.problems) < 20 {
		w.problems = append(w.problems, text)
	}
}

// plan has Stripe do something later.
func (w *World) plan(d time.Duration, do func()) {
	w.plans++
	w.sched.after(d, func() {
		w.plans--
		do()
	})
}

// appended hands a new message to the consumers.
func (w *World) appended(stream string, sequence uint64) {
	typ := engine.Type("")
	if stream == streamLog {
		ev := w.server.entries[sequence-1].Event
		typ = ev.Type
		w.trace("log %d: %s %s v%d by %s", sequence, ev.Type, ev.Subject, ev.EntityVersion, ev.Source)
	}
	for _, c := range w.consumers {
		if c.stream == stream && (c.wants == nil || c.wants(typ)) {
			c.comes(sequence)
		}
	}
}

// Run lets the scenario happen.
func (w *World) Run() Result {
	for _, p := range w.processes {
		p.start()
	}
	w.app.begin()
	end := 20*time.Minute + time.Duration(w.random.Int64N(int64(time.Hour)))
	if w.random.IntN(3) == 0 {
		end = time.Duration(w.random.Int64N(int64(faultsLast)))
	}
	for i := range 40 {
		w.sched.after(end*time.Duration(i+1)/41, w.trouble)
	}
	for at := 10 * time.Minute; at < end; at += end/8 + 10*time.Minute {
		w.sched.after(at, w.backfill)
	}
	tired := func() bool { return w.sched.steps > stepsMost }
	w.sched.run(epoch.Add(end), tired)
	w.heal()
	for _, at := range []time.Duration{2 * time.Minute, 40 * time.Minute, 3 * time.Hour} {
		w.sched.after(at, w.backfill)
	}
	// The last backfill may be all that brings a delivery.
	least := w.sched.now.Add(4 * time.Hour)
	w.sched.run(w.sched.now.Add(quietWithin), func() bool { return tired() || w.quiet() && w.sched.now.After(least) })
	if tired() {
		w.problem("I9: %d steps, and no end", w.sched.steps)
	}
	for _, p := range w.processes { // ends the tasks that still run
		if p.alive {
			p.die(never)
		}
	}
	w.sched.end()
	w.judge()
	r := Result{Problems: w.problems, Events: len(w.server.entries), Steps: w.sched.steps, Injected: map[string]int{}, Virtual: w.sched.now.Sub(epoch)}
	for k, n := range w.mix.Injected {
		if n > 0 {
			r.Injected[kind(k).String()] = n
		}
	}
	var all bytes.Buffer
	for _, e := range w.server.entries {
		all.WriteString(e.Subject)
		all.WriteByte(' ')
		all.Write(e.Raw)
		all.WriteByte('\n')
	}
	r.Log = all.Bytes()
	return r
}

// trouble is what befalls whole processes or services.
func (w *World) trouble() {
	x := w.mix
	span := func(most time.Duration) time.Time {
		return w.sched.now.Add(time.Duration(x.random.Int64N(int64(most))))
	}
	if x.hits(stripe401, 3) {
		w.blocked = span(10 * time.Minute)
		w.trace("credentials are refused until %s", w.blocked.Sub(epoch))
	}
	if x.hits(stripeDown, 3) {
		w.down = span(20 * time.Minute)
		w.trace("stripe is down until %s", w.down.Sub(epoch))
	}
	if x.hits(natsFull, 3) {
		w.server.full = true
		w.trace("the server is full")
		w.sched.after(time.Duration(x.random.Int64N(int64(time.Minute))), func() { w.server.full = false })
	}
	if x.hits(hookForged, 8) {
		w.forge()
	}
	for _, p := range w.processes {
		if x.hits(clockJump, 2) {
			p.offset = time.Duration(x.random.Int64N(int64(2*time.Hour))) - time.Hour
			w.trace("%s: clock is off by %s", p.name, p.offset)
		}
		if x.hits(partition, 2) {
			p.cut = span(time.Minute)
			w.trace("%s is cut off until %s", p.name, p.cut.Sub(epoch))
			// What it has in hand is delivered to others meanwhile; it goes on working.
			for _, c := range w.consumers {
				for _, one := range c.inHandOf(p) {
					w.sched.after(ackWait, func() {
						if !one.done && one.holder == p && w.sched.now.Before(p.cut) {
							one.holder = nil
							if c.holder == p {
								c.holder = nil
							}
							c.deliver(one)
						}
					})
				}
			}
		}
	}
}

// heal ends all trouble.
func (w *World) heal() {
	w.trace("faults end")
	w.mix.on = false
	w.blocked, w.down, w.server.full = time.Time{}, time.Time{}, false
	for _, p := range w.processes {
		p.offset, p.cut = 0, time.Time{}
		p.start()
	}
}

// backfill has the active worker read the list of events.
func (w *World) backfill() {
	for _, p := range w.processes {
		if p.role == worker && p.alive && !p.filling {
			p.filling = true
			p.run(func(ctx context.Context, _ *task) {
				_ = p.worker.Backfill(ctx) // incomplete, it goes on at the next
				p.filling = false
			}, nil)
			return
		}
	}
}

// quiet tells whether nothing is open.
func (w *World) quiet() bool {
	if w.plans > 0 || w.hooks > 0 || w.app.open > 0 {
		return false
	}
	for _, c := range w.consumers {
		if len(c.open) > 0 {
			return false
		}
	}
	return true
}

// emitted delivers an event of Stripe's, as often and as late as it comes.
func (w *World) emitted(h *webhook) {
	w.trace("stripe: %s %s", h.delivery.ID, h.delivery.Type)
	x := w.mix
	if x.hits(hookDropped, 1) {
		w.trace("%s is never delivered", h.delivery.ID)
		return
	}
	copies := 1
	if x.hits(hookTwice, 1) {
		copies = 2 + x.random.IntN(4)
	}
	for range copies {
		d := time.Duration(50+w.random.IntN(3000)) * time.Millisecond
		if x.hits(hookSlow, 3) {
			d = time.Minute + time.Duration(x.random.Int64N(int64(time.Hour)))
		}
		if x.hits(hookLate, 1) {
			d = time.Hour + time.Duration(x.random.Int64N(int64(71*time.Hour)))
		}
		w.hooks++
		w.sched.after(d, func() { w.post(h, 1) })
	}
}

// answerTo is the answer of the door.
type answerTo struct {
	header http.Header
	status int
}

func (a *answerTo) Header() http.Header         { return a.header }
func (a *answerTo) Write(b []byte) (int, error) { return len(b), nil }
func (a *answerTo) WriteHeader(status int)      { a.status = status }

// post brings a delivery to the door until it is taken in, or for three days.
func (w *World) post(h *webhook, try int) {
	again := func() {
		if try > 16 {
			w.hooks--
			return
		}
		w.sched.after(min(time.Minute<<min(try, 9), 6*time.Hour), func() { w.post(h, try+1) })
	}
	w.knock(h.body, signature, func(status int) {
		if status != http.StatusOK {
			again()
			return
		}
		w.hooks--
		if !w.server.inboxHas(h.delivery.ID) {
			w.problem("I8: delivery %s was answered 200 and is not stored", h.delivery.ID)
		}
	})
}

// knock sends a request to a door; 0 is no answer.
func (w *World) knock(body []byte, signed string, then func(status int)) {
	var doors []*process
	for _, p := range w.processes {
		if p.role == ingest && p.alive {
			doors = append(doors, p)
		}
	}
	if len(doors) == 0 {
		then(0)
		return
	}
	p := doors[w.random.IntN(len(doors))]
	at := w.sched.now
	status := 0
	p.run(func(ctx context.Context, _ *task) {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "/webhooks/"+providerID, bytes.NewReader(body))
		if err != nil {
			panic(err) // the address is a constant
		}
		r.Header.Set(signatureHeader, signed)
		r.Header.Set(timeHeader, at.UTC().Format(time.RFC3339))
		answer := &answerTo{header: http.Header{}}
		p.door.ServeHTTP(answer, r)
		status = answer.status
	}, func(killed bool) {
		if killed {
			status = 0
		}
		then(status)
	})
}

// forge sends what looks like the success of a payment and is signed by somebody else.
func (w *World) forge() {
	ids := sorted(w.stripe.customers)
	if len(ids) == 0 {
		return
	}
	id := w.stripe.id("evt")
	customerID := ids[w.mix.random.IntN(len(ids))]
	forged := &webhook{body: []byte(`{"id":"` + id + `"}`)}
	forged.delivery.ID, forged.delivery.Type, forged.delivery.CustomerID = id, "payment_intent.succeeded", customerID
	p := payment{now: engine.Payment{
		ID: "pi_forged" + id, ChargeID: "ch_forged" + id, ProviderCustomerID: customerID, Status: engine.PaymentSucceeded, Amount: 666, Currency: "usd",
	}}
	forged.delivery.Observations = append(forged.delivery.Observations, p.seen())
	w.stripe.byID[id] = forged
	w.trace("forged %s", id)
	w.knock(forged.body, "somebody else", func(status int) {
		if status == http.StatusOK || w.server.inboxHas(id) {
			w.problem("I11: the forged delivery %s was taken in", id)
		}
	})
}

// inboxHas tells whether a delivery was ever stored.
func (s *Server) inboxHas(eventID string) bool {
	for i := range s.inbox.list {
		if tokens := bytes.Split([]byte(s.inbox.list[i].subject), []byte(".")); string(tokens[3]) == engine.Token(eventID) {
			return true
		}
	}
	return false
}

func sortPending(list []*pending) {
	slices.SortFunc(list, func(a, b *pending) int { return cmp.Compare(a.sequence, b.sequence) })
}
