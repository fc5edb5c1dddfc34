package eventlog

import (
	"context"
	"fmt"
)

// Read reads the event at a sequence. It returns [ErrNotFound] if there is none.
func (l *Log) Read(ctx context.Context, sequence uint64) (Entry, error) {
	m, err := l.direct(ctx, l.stream(streamLog), getRequest{Sequence: sequence})
	if err != nil {
		return Entry{}, fmt.Errorf("read the event at sequence %d: %w", sequence, err)
	}
	return m.entry()
}
