package eventlog

import (
	"context"
	"fmt"
)

// Backlog is what a durable consumer still has to do.
type Backlog struct {
	Waiting int // messages that were never delivered
	Open    int // messages that were delivered and are neither acknowledged nor let go of: in hand, or put off
	Limit   int // of Open: reached, nothing new is delivered, only what was put off comes again; -1 = none
}

// Full tells whether the consumer stands still: new messages wait until an open one is done.
func (b Backlog) Full() bool { return b.Limit > 0 && b.Open >= b.Limit }

// Backlog asks the server about a durable consumer. It returns [ErrNotProvisioned] if it is not there, or
// [ErrUnavailable].
func (l *Log) Backlog(ctx context.Context, consumer ConsumerName) (Backlog, error) {
	for _, c := range consumers(l.cfg) {
		if c.Durable != string(consumer) {
			continue
		}
		info, err := consumerInfo(ctx, l.js, c.stream, c.Durable)
		if err != nil {
			return Backlog{}, fmt.Errorf("backlog of %s: %w", consumer, err)
		}
		return Backlog{
			Waiting: int(info.NumPending), Open: info.NumAckPending, Limit: info.Config.MaxAckPending, //nolint:gosec // G115: counts messages
		}, nil
	}
	return Backlog{}, fmt.Errorf("backlog of %s: %w", consumer, ErrNotProvisioned)
}
