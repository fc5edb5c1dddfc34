package eventlog_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

// The LOG's last events wait for those behind them, until somebody hurries; while somebody waits they don't.
func TestFollowGathers(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	var awaited atomic.Bool
	hurry := make(chan struct{}, 1)
	batches := make(chan eventlog.Batch, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		g := eventlog.Gathering{For: time.Hour, Awaited: awaited.Load, Hurry: hurry}
		done <- l.FollowGathering(ctx, 1, g, func(b eventlog.Batch) error { batches <- b; return nil })
	}()
	if b := receive(t, batches, "the greeting"); len(b.Entries) != 0 {
		t.Fatalf("%d events of an empty log", len(b.Entries))
	}
	appendCustomer(t, l, "a", 1)
	appendCustomer(t, l, "b", 1)
	got := 0
	for got < 2 { // a hurry that comes before the events are there finds nothing to hurry
		select {
		case hurry <- struct{}{}:
		case b := <-batches:
			got += len(b.Entries)
		case <-time.After(20 * time.Second):
			t.Fatal("what was gathered never came")
		}
	}
	awaited.Store(true)
	appendCustomer(t, l, "c", 1)
	if b := receive(t, batches, "what is awaited"); len(b.Entries) != 1 || b.Entries[0].Sequence != 3 {
		t.Errorf("%+v; want the third event at once", b)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
