package eventlogtest_test

import (
	"context"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

// The canary of virtual time: a message that is put off for a day comes after a day, one that is not answered comes after
// AckWait, and real time does not pass with it (the helper ends what does). If it fails or ends with a panic after an update of nats-server, virtual time does not
// work with it.
func TestVirtualTime(t *testing.T) { //nolint:paralleltest // see Virtual
	eventlogtest.Virtual(t, func(t *testing.T, s *eventlogtest.Server) {
		t.Helper()
		l := eventlogtest.Open(t, s.Conn(t))
		start := time.Now()
		id := events.CustomerID("user_1")
		_, appended, err := l.Update(t.Context(), events.EntityCustomer, id, func(last *events.Event) (*events.Event, error) {
			return events.DecideCustomer(last, events.SyncCustomer{ReferenceID: "user_1"}, events.Cause{Now: time.Now(), Source: "/test"})
		})
		if err != nil || !appended {
			t.Fatalf("append: %v, %v", appended, err)
		}
		_, _, err = l.Update(t.Context(), events.EntityCharge, events.ChargeID("1"), func(last *events.Event) (*events.Event, error) {
			return events.DecideCharge(last, events.CreateCharge{ID: events.ChargeID("1"), ProviderID: "stripe", Amount: 4900, Currency: "usd"},
				events.Cause{Now: time.Now(), Source: "/test", Customer: events.CustomerRef{ID: id, ReferenceID: "user_1"}})
		})
		if err != nil {
			t.Fatal(err)
		}
		attempts := make(chan time.Time)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- l.Consume(ctx, eventlog.ConsumerRequests, eventlog.ConsumeOptions{
				Lane: func(m eventlog.Message) string { return m.Subject }, Logger: zerolog.Nop(),
				Handle: func(_ context.Context, m eventlog.Message) eventlog.Result {
					attempts <- time.Now()
					if m.Attempt == 1 {
						return eventlog.Retry(24 * time.Hour)
					}
					return eventlog.Done()
				},
			})
		}()
		first, second := <-attempts, <-attempts
		if waited := second.Sub(first); waited < 24*time.Hour || waited > 24*time.Hour+time.Minute {
			t.Errorf("put off for a day, it came after %s", waited)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("consume: %v", err)
		}
		if passed := time.Since(start); passed < 24*time.Hour {
			t.Errorf("only %s have passed", passed)
		}
	})
}
