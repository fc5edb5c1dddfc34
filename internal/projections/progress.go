package projections

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/paykit-go/paykit/internal/events"
)

// progress is how far the views are, and wakes those who wait for a sequence.
type progress struct {
	mu       sync.Mutex
	sequence uint64        // guarded by mu
	target   uint64        // guarded by mu: the log's last sequence when the run began
	running  bool          // guarded by mu: queries are answered
	err      error         // guarded by mu: why the projector stopped
	moved    chan struct{} // guarded by mu: closed and replaced at each change

	waiting atomic.Int64  // who waits for a sequence
	hurry   chan struct{} // told when somebody begins to
}

func newProgress() *progress {
	return &progress{moved: make(chan struct{}), hurry: make(chan struct{}, 1)}
}

// awaited tells whether somebody waits for a sequence.
func (p *progress) awaited() bool { return p.waiting.Load() > 0 }

// change runs f under the lock and wakes all who wait.
func (p *progress) change(f func(p *progress)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p)
	close(p.moved)
	p.moved = make(chan struct{})
}

// look answers the sequence, the target, and a channel that is closed at the next change.
func (p *progress) look() (sequence, target uint64, moved <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sequence, p.target, p.moved
}

// wait returns when the views have the sequence; after d it is the refusal "timeout".
func (p *progress) wait(ctx context.Context, sequence uint64, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	p.waiting.Add(1)
	defer p.waiting.Add(-1)
	for {
		at, _, moved := p.look()
		if at >= sequence {
			return nil
		}
		select {
		case p.hurry <- struct{}{}:
		default:
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return &events.Error{
				Code: events.CodeTimeout, Param: headerMinSequence, Message: "the views do not have that sequence yet; try again",
			}
		}
	}
}

// caughtUp returns when the views are where the log ended when the run began.
func (p *progress) caughtUp(ctx context.Context) error {
	for {
		at, target, moved := p.look()
		if at >= target {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
