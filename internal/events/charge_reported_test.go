package events_test

import (
	"errors"
	"testing"

	"github.com/paykit-go/paykit/internal/events"
)

// A charge that a report began, since the log had lost its command, is answered to the same command, and to no other.
func TestCommandOfAReportedCharge(t *testing.T) {
	t.Parallel()
	h := &history{t: t}
	reported := h.charge(payment(events.PaymentSucceeded)).Data.Charge
	command := func(change func(*events.CreateCharge)) events.CreateCharge {
		in := createCharge("")
		in.CustomerID = reported.CustomerID
		if change != nil {
			change(&in)
		}
		return in
	}
	for name, tc := range map[string]struct {
		in       events.CreateCharge
		conflict bool
	}{
		"the same":          {in: command(nil)},
		"another body":      {in: command(func(in *events.CreateCharge) { in.Description, in.CommandDigest = "April usage", "sha256:bb" })},
		"another customer":  {in: command(func(in *events.CreateCharge) { in.CustomerID = events.CustomerID("another") }), conflict: true},
		"another provider":  {in: command(func(in *events.CreateCharge) { in.ProviderID = "other" }), conflict: true},
		"another amount":    {in: command(func(in *events.CreateCharge) { in.Amount++ }), conflict: true},
		"another currency":  {in: command(func(in *events.CreateCharge) { in.Currency = "eur" }), conflict: true},
		"no customer named": {in: command(func(in *events.CreateCharge) { in.CustomerID = "" }), conflict: true},
	} {
		e, err := events.DecideCharge(h.last(), tc.in, h.cause(""))
		refused, _ := errors.AsType[*events.Error](err)
		if e != nil || (refused != nil && refused.Code == events.CodeIdempotencyConflict) != tc.conflict || (err != nil) != tc.conflict {
			t.Errorf("%s: %v, %v; conflict %v is wanted", name, e, err, tc.conflict)
		}
	}
}
