package provider

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// ErrStopped is what a function given to StopAt stops the worker with.
var ErrStopped = errStopped

// Backoff is a delay that grows.
func Backoff(first time.Duration, attempt int, longest time.Duration) time.Duration {
	return spreadBy(nil).backoff(first, attempt, longest)
}

// Jitter is a delay, a little longer.
func Jitter(d time.Duration) time.Duration { return spreadBy(nil).jitter(d) }

// LaneOf names a message's lane.
func LaneOf(m eventlog.Message) string { return laneOf(m) }

// ProviderFailing tells whether an error counts against a provider.
func ProviderFailing(err error) bool { return providerFailing(err) }

// StopAt has f told where the work is, one at a time; its error stops it there. Call it before Run.
func (w *Worker) StopAt(f func(point string) error) {
	var one sync.Mutex // some of the work is done at once
	w.reached = func(point string) error {
		one.Lock()
		defer one.Unlock()
		return f(point)
	}
}

// OneAfterTheOther has the worker do in the order of its source what it would do at once. Call it before Run.
func (w *Worker) OneAfterTheOther() {
	w.cfg.AtOnce = func(work ...func()) {
		for _, do := range work {
			do()
		}
	}
}

// OnConcluded has f told what became of each try. Call it before Run.
func (w *Worker) OnConcluded(f func(typ events.Type, outcome string)) { w.concluded = f }

// LookAfter makes first looks quick, and retries. Call it before Run.
func (w *Worker) LookAfter(doubt, other, retry time.Duration) {
	w.doubtLook, w.firstLook, w.retryFirst = doubt, other, retry
	w.absences.gap = retry
}

// LookForExpiringEvery makes it frequent that is asked whether methods that expire soon are to be looked for. Call it
// before Run.
func (w *Worker) LookForExpiringEvery(d time.Duration) { w.expiringLook = d }

// TryFor bounds each try. Call it before any.
func (w *Worker) TryFor(d time.Duration) { w.tryMost = d }

// WatchBacklogEvery makes looks at the backlog frequent. Call it before Run.
func (w *Worker) WatchBacklogEvery(d time.Duration) {
	for _, b := range w.backlogs {
		b.every = d
	}
}

// LookFailed is what a look that failed leads to.
func LookFailed(err error, wait, soon time.Duration) error { return lookFailed(err, wait, soon) }

// CarryOut handles one delivery of the requests' consumer, as Run does.
func (w *Worker) CarryOut(ctx context.Context, m eventlog.Message) eventlog.Result {
	return w.handleRequest(ctx, m)
}

// Settle handles one delivery of the settling consumer, as Run does.
func (w *Worker) Settle(ctx context.Context, m eventlog.Message) eventlog.Result {
	return w.handleSettling(ctx, m)
}

// CarriedOut lists the requests that the worker knows.
func (w *Worker) CarriedOut() []events.Type { return slices.Sorted(maps.Keys(w.carry)) }

// Guard puts an API behind the limits that a worker puts it behind.
func Guard(id string, api API, perSecond float64, now func() time.Time) interface {
	API
	Ready() error
} {
	return guardedForTest{newGuardedAPI(id, api, perSecond, 0, newWorkerMetrics(nil), now)}
}

// GuardRecorded is Guard whose calls are recorded until stop, as a worker's are for an event.
func GuardRecorded(id string, api API, store CallStore, r prometheus.Registerer) (guarded API, stop func()) {
	g := newGuardedAPI(id, api, 100_000_000, 0, newWorkerMetrics(nil), time.Now)
	g.calls = newCallRecorder(store, zerolog.Nop(), r)
	return g, g.calls.start(context.Background())
}

// QueueOfCalls is how many records of calls wait at most.
const QueueOfCalls = callsQueued

type guardedForTest struct{ *guardedAPI }

func (g guardedForTest) Ready() error { return g.ready() }

// BelieveAbsenceAfter sets the time between two looks that find nothing. Call it before any.
func (w *Worker) BelieveAbsenceAfter(d time.Duration) { w.absences.gap = d }

// HoldSettling tells the worker that it settles, or no longer, as Run does.
func (w *Worker) HoldSettling(active bool) { w.doubts.hold(active) }

// SetAsideAfter sets how many faults of ours set a request aside. Call it before Run.
func (w *Worker) SetAsideAfter(faults int) { w.maxFaults = faults }

// Looks is what the normalizer remembers of reports that wait: see [looks].
type Looks struct{ l looks }

// At notes a look.
func (l *Looks) At(sequence uint64, now time.Time) time.Duration { return l.l.at(sequence, now) }

// Disturb has all begin anew.
func (l *Looks) Disturb(now time.Time) { l.l.disturb(now) }

// RememberPast is the memory of the customers made in past times.
func RememberPast(api API, most int, now func() time.Time) func(ctx context.Context, owner events.Owner, made Span) (string, error) {
	return (&pastCustomers{list: api.CustomersMade, find: api.FindCustomer, now: now, most: most}).customerMade
}
