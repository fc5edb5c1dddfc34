package provider

import (
	"context"
	"sync"
	"time"

	"github.com/paykit-go/paykit/internal/events/eventlog"
)

const (
	parkMost = time.Hour
	parkLife = 24 * time.Hour // how long a report waits for its owner at least, from when it was stored
	// parkLooks is for how long a report must have been looked at, time and again, before it is let go: by then the
	// reports that the standstill of a day has piled up are long read, whichever comes first.
	parkLooks = 3 * time.Hour
	// parkGap is the time between two looks from which on we stood still: looks are at most [parkMost] and a quarter apart.
	parkGap = 2 * time.Hour
	// parkKept bounds the memory, about 100 bytes each.
	parkKept = 100_000
)

// park keeps a report whose owner is not known until it is, or until it is too old to matter. Age alone does not make it
// that: what waited for us, because nobody read deliveries or the storage was full, has its owner among those that waited
// too. A report that an operator has tried again is not let go: it becomes another letter.
func (n *Normalizer) park(ctx context.Context, w *work) eventlog.Result {
	now := n.cfg.Now()
	left := max(parkLife-now.Sub(w.since), parkLooks-n.looks.at(w.Sequence, now))
	switch {
	case left <= 0 && w.retryOf != 0:
		return n.bury(ctx, w, ErrOwnerUnknown)
	case left <= 0:
		w.log.Info().Msg("delivery let go: its owner never became known")
		return n.finish(ctx, w, "let_go")
	}
	n.count(w, "parked")
	w.log.Debug().Msg("delivery parked: its owner is not known yet")
	return eventlog.Retry(min(n.backoff(n.parkFirst, w.Attempt, parkMost), max(left, n.parkFirst)))
}

// looks remembers for how long reports have been looked at in vain. It is forgotten with the process, and then begins
// anew, which keeps them for some hours more and loses none.
type looks struct {
	mu        sync.Mutex
	disturbed time.Time          // guarded by mu: when the storage last failed
	of        map[uint64]looking // guarded by mu, by sequence in INBOX
}

type looking struct{ since, last time.Time }

// at notes a look and gives for how long there have been looks without a pause, and with a storage that worked: what
// waits for the storage may be the very event that is missed.
func (l *looks) at(sequence uint64, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil {
		l.of = map[uint64]looking{}
	}
	one, known := l.of[sequence]
	if !known && len(l.of) >= parkKept {
		for sequence, other := range l.of { // those that another process has ended
			if now.Sub(other.last) > parkGap {
				delete(l.of, sequence)
			}
		}
		if len(l.of) >= parkKept {
			return 0 // its turn comes when others are let go of
		}
	}
	if !known || now.Sub(one.last) > parkGap || !one.since.After(l.disturbed) {
		one.since = now
	}
	one.last = now
	l.of[sequence] = one
	return now.Sub(one.since)
}

// disturb has all looks begin anew.
func (l *looks) disturb(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.disturbed = now
}

func (l *looks) forget(sequence uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.of, sequence)
}
