package eventlog_test

import (
	"context"
	"errors"
	"testing"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

// A scan gives every event of its kind and no other, in order, over many batches; it ends with its reader or its context,
// and passes over what can't be read.
func TestScan(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	const n = 600 // several batches
	for i := range 3 {
		appendCustomer(t, l, "scan", n/3)
		createCharge(t, l, "scan", string(rune('a'+i)))
	}
	broken := events.CustomerID("broken")
	if _, err := js(t, l).Publish(t.Context(), "paykit.log.customer.updated."+broken+"."+broken, []byte("{")); err != nil {
		t.Fatal(err)
	}
	appendCustomer(t, l, "behind", 1)
	count, last := map[string]int{}, uint64(0)
	err := l.Scan(t.Context(), events.EntityCustomer, func(e eventlog.Entry) error {
		if e.Event.Entity() != events.EntityCustomer || e.Sequence <= last {
			t.Errorf("%s at %d after %d", e.Event.Type, e.Sequence, last)
		}
		count[e.Event.Subject]++
		last = e.Sequence
		return nil
	})
	if err != nil || count[events.CustomerID("scan")] != n || count[events.CustomerID("behind")] != 1 || len(count) != 2 {
		t.Errorf("%v, %v", count, err)
	}

	enough, seen := errors.New("enough"), 0
	err = l.Scan(t.Context(), events.EntityCharge, func(eventlog.Entry) error {
		seen++
		return enough
	})
	if !errors.Is(err, enough) || seen != 1 {
		t.Errorf("after the reader's end: %d, %v", seen, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	seen = 0
	err = l.Scan(ctx, events.EntityCustomer, func(eventlog.Entry) error {
		seen++
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) || seen >= n {
		t.Errorf("after its context's end: %d, %v", seen, err)
	}
}
