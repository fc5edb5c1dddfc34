package commands

import (
	"strings"
	"testing"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

// A schedule's delays are frozen into the charge; what the configuration says later changes neither the charge nor the
// answer to its command.
func TestChargeWithARetrySchedule(t *testing.T) {
	t.Parallel()
	server := eventlogtest.Start(t)
	log := eventlogtest.Open(t, server.Conn(t))
	handler := func(schedules map[string][]time.Duration) *harness {
		cfg := config()
		cfg.RetrySchedules = schedules
		h := New(log, cfg)
		t.Cleanup(h.Close)
		return &harness{tb: t, server: server, h: h, log: log}
	}
	x := handler(map[string][]time.Duration{"weekly": {24 * time.Hour, 168 * time.Hour}})
	customer := x.customer("user_1")
	x.method(customer, "pm_1")
	body := strings.TrimSuffix(payerCommands(customer)["charge.create"], "}") + `,"retry":"weekly"}`
	x.refused("charge.create", strings.Replace(body, "weekly", "daily", 1), keyed("other"), events.CodeInvalidRequest, "retry")

	charge := decoded[events.Charge](t, x.run("charge.create", body, keyed("k")))
	r := charge.Retry
	if r == nil || r.Schedule != "weekly" || strings.Join(r.Delays, " ") != "24h0m0s 168h0m0s" || r.Status != events.RetryAttempting || len(r.Attempts) != 1 {
		t.Fatalf("retry is %+v", r)
	}
	x = handler(nil) // another configuration
	again := decoded[events.Charge](t, x.run("charge.create", body, keyed("k")))
	if again.ID != charge.ID || strings.Join(again.Retry.Delays, " ") != "24h0m0s 168h0m0s" {
		t.Errorf("again: %+v", again.Retry)
	}
	x.refused("charge.create", body, keyed("k2"), events.CodeInvalidRequest, "retry")
	x.refused("charge.create", payerCommands(customer)["charge.create"], keyed("k"), events.CodeIdempotencyConflict, "")

	// Declined, the wait is over; canceled, the ladder is.
	x.append(events.EntityCharge, charge.ID, payment(events.PaymentRequiresConfirmation))
	x.append(events.EntityCharge, charge.ID, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecideCharge(last, events.PaymentObserved{ID: last.Subject, ProviderID: stripe, Payment: events.Payment{
			ID: "pi_1", ChargeID: "ch_1", Status: events.PaymentRequiresMethod, Failure: &events.Failure{Code: "card_declined"},
		}}, c)
	})
	failed := decoded[events.Charge](t, x.run("charge.create", body, Meta{IdempotencyKey: "k", Wait: MaxWait}))
	if failed.Status != events.ChargeStatusFailed || failed.Retry.NextAttemptAt == nil || failed.Retry.Status != events.RetryWaiting {
		t.Errorf("declined: %+v", failed.Retry)
	}
	cancel := `{"chargeId":"` + charge.ID + `"}`
	canceled := decoded[events.Charge](t, x.run("charge.cancel", cancel, Meta{Wait: MaxWait}))
	if canceled.Status != events.ChargeStatusFailed || canceled.Retry.NextAttemptAt != nil || canceled.Retry.Status != events.RetryEnded {
		t.Errorf("canceled: %s %+v", canceled.Status, canceled.Retry)
	}
	before := x.last()
	x.run("charge.cancel", cancel, Meta{Wait: MaxWait})
	if after := x.last(); after != before {
		t.Errorf("canceled again: from %d to %d", before, after)
	}
}
