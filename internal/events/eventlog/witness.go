package eventlog

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// WalkLinks gives each link and when it was written. Links know of the LOG's past: a server cuts a stream whose file is
// damaged at the damage and goes on with what is left, consumers included, and such a LOG looks whole to whoever reads only it.
func (l *Log) WalkLinks(ctx context.Context, yield func(k Link, written time.Time) error) error {
	err := l.walk(ctx, l.stream(streamLinks), l.subject("link", "*", "*"), 1, func(m stored) (bool, error) {
		if strings.HasSuffix(m.Subject, "."+backfillToken) {
			return true, nil
		}
		k, err := decodeLink(m)
		if err == nil {
			err = yield(k, m.Time)
		}
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("links: %w", err)
	}
	return nil
}
