package eventlog

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Backlog is what a durable consumer still has to do.
type Backlog struct {
	Waiting int // messages that were never delivered
	Open    int // messages that were delivered and are neither acknowledged nor let go of: in hand, or put off
	Limit   int // of Open: reached, nothing new is delivered, only what was put off comes again; -1 = none
	// Oldest is when the oldest message that is not done was stored; zero = there is none.
	Oldest time.Time
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
		b := Backlog{
			Waiting: int(info.NumPending), Open: info.NumAckPending, Limit: info.Config.MaxAckPending, //nolint:gosec // G115: counts messages
		}
		if b.Waiting+b.Open > 0 {
			if b.Oldest, err = l.oldest(ctx, c, info.AckFloor.Stream+1); err != nil {
				return Backlog{}, fmt.Errorf("oldest message of %s: %w", consumer, err)
			}
		}
		return b, nil
	}
	return Backlog{}, fmt.Errorf("backlog of %s: %w", consumer, ErrNotProvisioned)
}

// oldest tells when the first of a consumer's messages from a sequence on was stored: everything before it is done, and
// it is not. The zero time if it is done meanwhile.
func (l *Log) oldest(ctx context.Context, c consumerConfig, from uint64) (time.Time, error) {
	filters := c.FilterSubjects
	if len(filters) == 0 {
		filters = []string{l.cfg.Prefix + ".>"}
	}
	var first stored
	for _, filter := range filters {
		// From the leader, which also tells of COMMANDS, where nobody but the consumer reads.
		m, err := l.fromLeader(ctx, c.stream, getRequest{Sequence: from, Next: filter})
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return time.Time{}, err
		}
		if first.Sequence == 0 || m.Sequence < first.Sequence {
			first = m
		}
		if first.Sequence == from {
			break // nothing comes before it
		}
	}
	return first.Time, nil
}
