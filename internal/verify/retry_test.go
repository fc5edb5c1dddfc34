package verify_test

import (
	"testing"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

func (s *story) ladder() events.CreateCharge {
	in := s.create()
	in.Retry = &events.RetrySchedule{Name: "standard", Delays: []time.Duration{time.Hour, 2 * time.Hour}}
	return in
}

// declined is a decline by a charge of the provider.
func (s *story) declined(charge, code string) events.PaymentObserved {
	p := s.payment(events.PaymentRequiresMethod)
	p.Payment.ChargeID += charge
	p.Payment.Failure = &events.Failure{Code: "card_declined", DeclineCode: code}
	return p
}

// due asks for the next attempt when its time has come.
func (s *story) due() {
	s.t.Helper()
	s.now = *s.last[s.chargeID()].Data.Charge.Retry.NextAttemptAt
	s.charge(events.RetryDue{})
}

// Ladders that go every way they can.
func TestCleanLadders(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	story := func(name string) *story { return newStory(t, l.Conn(), name) }
	const funds = "insufficient_funds"

	s := story("exhausted")
	s.charge(s.ladder(), s.payment(events.PaymentProcessing), s.declined("1", funds))
	s.due()
	s.charge(s.declined("2", funds))
	s.due()
	s.charge(events.AttemptUnanswered{Number: 3}, s.declined("3", "do_not_honor"))

	s = story("paid at last")
	s.charge(s.ladder(), s.payment(events.PaymentProcessing), events.ConfirmUnanswered{}, s.declined("1", funds))
	s.due()
	s.charge(s.payment(events.PaymentSucceeded), events.RefundCharge{RefundID: s.refundID(), Amount: 900, CommandDigest: "sha256:bb"})

	s = story("canceled")
	s.charge(s.ladder(), s.payment(events.PaymentProcessing), s.declined("1", funds), events.CancelCharge{}, s.payment(events.PaymentSucceeded))

	s = story("stopped")
	s.charge(s.ladder(), s.payment(events.PaymentProcessing), s.declined("1", funds), events.RetryStopped{})

	s = story("refused")
	s.charge(s.ladder(), s.payment(events.PaymentProcessing), s.declined("1", funds))
	s.due()
	s.charge(events.AttemptRejected{Number: 2, Failure: events.NewFailure(events.FailureMethodDetached, "")})

	s = story("canceled at first")
	s.charge(s.ladder(), events.CancelCharge{}, s.payment(events.PaymentCanceled))

	if r := run(t, l); !r.OK || r.Entities != 6 {
		t.Errorf("%+v", r)
	}
}

func ladders() []row {
	// waiting plants on a ladder that waits, attempting on one whose second attempt is under way, ended on one that is over.
	waiting := func(typ events.Type, change func(*events.Charge)) func(*story) {
		return func(s *story) {
			s.charge(s.ladder(), s.payment(events.PaymentProcessing), s.declined("1", "insufficient_funds"))
			s.plant(s.chargeID(), typ, func(e *events.Event) { change(e.Data.Charge) })
		}
	}
	attempting := func(typ events.Type, change func(*events.Charge)) func(*story) {
		return func(s *story) {
			s.charge(s.ladder(), s.payment(events.PaymentProcessing), s.declined("1", "insufficient_funds"))
			s.due()
			s.plant(s.chargeID(), typ, func(e *events.Event) { change(e.Data.Charge) })
		}
	}
	ended := func(typ events.Type, change func(*events.Charge)) func(*story) {
		return func(s *story) {
			s.charge(s.ladder(), s.payment(events.PaymentProcessing), s.declined("1", "lost_card"))
			s.plant(s.chargeID(), typ, func(e *events.Event) { change(e.Data.Charge) })
		}
	}
	attempt := func(c *events.Charge, at time.Time) {
		c.Retry.Attempts = append(c.Retry.Attempts, events.Attempt{Number: len(c.Retry.Attempts) + 1, At: at})
		c.Retry.Status, c.Retry.NextAttemptAt = events.RetryAttempting, nil
	}
	soon := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	return []row{
		{"retry: the schedule changes", waiting(events.ChargeUpdated, func(c *events.Charge) { c.Retry.Delays[1] = "1s" }), []string{"the retry schedule changed"}},
		{"retry: the ladder vanishes", waiting(events.ChargeUpdated, func(c *events.Charge) { c.Retry = nil }), []string{"the retry ladder vanished"}},
		{"retry: a ladder appears", charge(func(c *events.Charge) {
			c.Retry = &events.Retry{Schedule: "standard", Delays: []string{"1h0m0s"}, Attempts: []events.Attempt{{Number: 1}}, Status: events.RetryEnded}
		}), []string{"a retry ladder appeared"}},
		{"retry: asked without a ladder", updated(func(e *events.Event) { e.Type = events.ChargeRetryRequested }), []string{"without a retry ladder"}},
		{"retry: failed again without an attempt", waiting(events.ChargeFailed, func(*events.Charge) {}), []string{"charge.failed again"}},
		{"retry: an attempt too early", waiting(events.ChargeRetryRequested, func(c *events.Charge) { attempt(c, c.UpdatedAt) }), []string{"began before it was due"}},
		{"retry: an attempt by another event", waiting(events.ChargeUpdated, func(c *events.Charge) { attempt(c, soon) }), []string{"1 new attempts by charge.updated"}},
		{"retry: asked and no attempt", waiting(events.ChargeRetryRequested, func(*events.Charge) {}), []string{"0 new attempts"}},
		{"retry: waiting and not for a time", waiting(events.ChargeUpdated, func(c *events.Charge) { c.Retry.NextAttemptAt = nil }), []string{"does not go with nextAttemptAt"}},
		{"retry: an attempt counted wrongly", waiting(events.ChargeRetryRequested, func(c *events.Charge) {
			attempt(c, soon)
			c.Retry.Attempts[1].Number = 3
		}), []string{"has the number 3"}},
		{"retry: an outcome changes", waiting(events.ChargeUpdated, func(c *events.Charge) { c.Retry.Attempts[0].ProviderChargeID = "ch_x" }), []string{"attempt 1 changed"}},
		{"retry: two at once", attempting(events.ChargeRetryRequested, func(c *events.Charge) { attempt(c, soon) }), []string{"began before attempt 2 was declined", "an attempt after attempting"}},
		{"retry: one charge for two attempts", attempting(events.ChargeFailed, func(c *events.Charge) {
			c.Retry.Attempts[1].Failure, c.Retry.Attempts[1].ProviderChargeID = c.Failure, c.Retry.Attempts[0].ProviderChargeID
			c.Retry.Status = events.RetryEnded
		}), []string{"belongs to two attempts"}},
		{"retry: an attempt vanishes", attempting(events.ChargeUpdated, func(c *events.Charge) {
			c.Retry.Attempts = c.Retry.Attempts[:1]
			c.Retry.Status = events.RetryEnded
		}), []string{"an attempt vanished"}},
		{"retry: goes on after success", attempting(events.ChargeSucceeded, func(c *events.Charge) {
			c.Status, c.Failure = events.ChargeStatusSucceeded, nil
		}), []string{"attempting on a charge that is succeeded"}},
		{"retry: after a code that forbids it", func(s *story) {
			s.charge(s.ladder(), s.payment(events.PaymentProcessing))
			s.plant(s.chargeID(), events.ChargeFailed, func(e *events.Event) {
				c := e.Data.Charge
				failure := events.NewFailure("card_declined", "stolen_card")
				c.Status, c.Failure, c.Retry.Status, c.Retry.NextAttemptAt = events.ChargeStatusFailed, &failure, events.RetryWaiting, &soon
				c.Retry.Attempts[0].Failure = &failure
			})
		}, []string{"must not be tried again"}},
		{"retry: after its end", ended(events.ChargeRetryRequested, func(c *events.Charge) { attempt(c, soon) }), []string{"after the ladder ended", "an attempt after ended"}},
		{"retry: no such status", ended(events.ChargeUpdated, func(c *events.Charge) { c.Retry.Status = "over" }), []string{`there is no status "over"`, "after the ladder ended"}},
		{"retry: more than the schedule has", ended(events.ChargeUpdated, func(c *events.Charge) {
			for range 3 {
				attempt(c, soon)
				c.Retry.Attempts[len(c.Retry.Attempts)-1].Failure = c.Failure
			}
			c.Retry.Status = events.RetryEnded
		}), []string{"4 attempts on a schedule of 3", "3 new attempts"}},
	}
}
