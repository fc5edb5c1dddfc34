package eventlog_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

// On three replicas a lost guard has another error code, reads may lag behind, and a leader can go away in the middle.
func TestThreeReplicas(t *testing.T) {
	t.Parallel()
	c := eventlogtest.StartCluster(t)
	conns := make([]*nats.Conn, 4)
	for i := range conns {
		conns[i] = c.Conn(t)
	}
	cfg := eventlog.Config{Replicas: 3, MaxBytes: 64 << 20}
	if _, err := eventlog.Provision(t.Context(), conns[0], cfg); err != nil {
		t.Fatal(err)
	}
	race(t, conns, cfg)

	l, err := eventlog.Open(t.Context(), conns[0], cfg)
	if err != nil {
		t.Fatal(err)
	}
	last, err := l.LoadFromLeader(t.Context(), events.EntityCustomer, events.CustomerID("raced"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), last.Event, last.Sequence-1); !errors.Is(err, eventlog.ErrConflict) {
		t.Errorf("a lost guard: %v", err)
	}
	if stored, err := l.StoreDelivery(t.Context(), eventlog.Delivery{ProviderID: "stripe", EventID: "evt_1", Body: []byte("{}")}); err != nil || !stored {
		t.Errorf("a delivery: %v, %v", stored, err)
	}
	if stored, err := l.StoreDelivery(t.Context(), eventlog.Delivery{ProviderID: "stripe", EventID: "evt_1", Body: []byte("{}")}); err != nil || stored {
		t.Errorf("the same delivery: %v, %v", stored, err)
	}

	var wg sync.WaitGroup
	half := make(chan struct{}, 4)
	for w := range conns {
		wg.Go(func() {
			l, err := eventlog.Open(t.Context(), conns[w], cfg)
			if err != nil {
				t.Error(err)
				return
			}
			for i := range 10 {
				_, appended, err := l.Update(t.Context(), events.EntityCustomer, events.CustomerID("led"), syncCustomer("led", fmt.Sprintf("cmd_%d_%d", w, i)))
				if err != nil || !appended {
					t.Errorf("writer %d, %d: appended %v, %v", w, i, appended, err)
				}
				if i == 4 {
					half <- struct{}{}
				}
			}
		})
	}
	receive(t, half, "the writers")
	c.StopLeader(t, "PAYKIT_LOG")
	wg.Wait()
	if got := checkChain(t, l)[events.CustomerID("led")]; got != 40 {
		t.Errorf("%d versions, want 40", got)
	}
}
