package commands

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// lookEvery is how often a waiting request looks for itself: the wake-up is best effort.
const lookEvery = time.Second

// waits is who waits for which entity in this process. One plain subscription on the live feed wakes them, whichever
// process appended; what is so lost is seen by the look each second.
type waits struct {
	log    Log
	logger zerolog.Logger

	mu      sync.Mutex
	waiting map[string]map[chan uint64]func(events.Type) bool // by entity id, what does not wake; guarded by mu
	stop    func()                                            // ends the subscription, nil before the first wait; guarded by mu
	closed  bool                                              // guarded by mu
}

func newWaits(log Log, logger zerolog.Logger) *waits {
	return &waits{log: log, logger: logger, waiting: map[string]map[chan uint64]func(events.Type) bool{}}
}

// register makes known that somebody waits for the entity. The channel gets the sequence of the newest event seen, but not of
// types that passing tells are none of the outcome; nil = of all. done must be called.
func (w *waits) register(id string, passing func(events.Type) bool) (wake <-chan uint64, done func()) {
	w.subscribe()
	ch := make(chan uint64, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting[id] == nil {
		w.waiting[id] = map[chan uint64]func(events.Type) bool{}
	}
	w.waiting[id][ch] = passing
	return ch, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.waiting[id], ch)
		if len(w.waiting[id]) == 0 {
			delete(w.waiting, id)
		}
	}
}

// subscribe begins to listen with the first wait. If that fails the next wait tries again, and this one looks each
// second.
func (w *waits) subscribe() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stop != nil || w.closed {
		return
	}
	stop, err := w.log.Wake(w.wake)
	if err != nil {
		w.logger.Warn().Err(err).Msg("no wake-up for waiting requests")
		return
	}
	w.stop = stop
}

// wake tells those who wait for the entity that it has an event at sequence seq.
func (w *waits) wake(typ events.Type, id string, seq uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ch, passing := range w.waiting[id] {
		if passing != nil && passing(typ) {
			continue
		}
		select {
		case <-ch: // an older sequence that nobody has looked at yet
		default:
		}
		ch <- seq // has room: only this method writes, under mu
	}
}

func (w *waits) close() {
	w.mu.Lock()
	stop := w.stop
	w.stop, w.closed = nil, true
	w.mu.Unlock()
	if stop != nil {
		stop() // not under mu: a wake may be under way
	}
}

// await reads the entity on each wake-up and each second until it is settled, and answers it as it then is. It ends
// with until, with ctx, and with hurry; a look that fails is made good by the next.
func (h *Handler) await(ctx context.Context, p plan, e eventlog.Entry, wake <-chan uint64, until time.Time, hurry <-chan struct{},
) eventlog.Entry {
	late := time.NewTimer(time.Until(until))
	defer late.Stop()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for !p.settled(e.Event) {
		var seq uint64
		select {
		case <-ctx.Done():
			return e
		case <-hurry:
			return e
		case <-late.C:
			return e
		case <-look.C:
		case seq = <-wake:
		}
		now, err := h.log.Load(ctx, p.entity, p.id)
		if err == nil && now.Sequence < seq { // the replica that answered does not have it yet
			now, err = h.log.LoadFromLeader(ctx, p.entity, p.id)
		}
		if err == nil && now.Sequence > e.Sequence {
			e = now
		}
	}
	return e
}
