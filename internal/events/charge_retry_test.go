package events_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/paykit-go/paykit/internal/events"
)

// retryDue stands for the moment at which the next attempt is due.
type retryDue struct{ events.RetryDue }

func laddered(delays ...time.Duration) events.CreateCharge {
	in := createCharge("")
	in.Retry = &events.RetrySchedule{Name: "standard", Delays: delays}
	return in
}

// of gives a report about another charge of the provider.
func of(p events.PaymentObserved, chargeID string) events.PaymentObserved {
	p.Payment.ChargeID = chargeID
	return p
}

func attempted(number int, p events.PaymentObserved) events.AttemptObserved {
	return events.AttemptObserved{Number: number, Payment: p.Payment}
}

// play feeds inputs; [retryDue] moves the clock to where the next attempt is due.
func (h *history) play(list ...events.ChargeInput) *events.Charge {
	h.t.Helper()
	for _, in := range list {
		if _, ok := in.(retryDue); ok {
			next := h.last().Data.Charge.Retry.NextAttemptAt
			if next == nil {
				h.t.Fatalf("nothing is due: %+v", h.last().Data.Charge.Retry)
			}
			h.now, in = *next, events.RetryDue{}
		}
		h.charge(in)
	}
	return h.last().Data.Charge
}

func TestRetryLadder(t *testing.T) {
	t.Parallel()
	create := laddered(time.Hour, 24*time.Hour)
	no := declined("card_declined", "insufficient_funds")
	paid := payment(events.PaymentSucceeded)
	other := paid
	other.Payment.ID, other.Payment.ChargeID = "pi_2", "ch_9"
	begun := []events.ChargeInput{create, payment(events.PaymentRequiresConfirmation)}
	second := append(slices.Clone(begun), no, retryDue{})
	advised := no
	advised.Payment.DoNotRetry = true
	for _, tt := range []struct {
		name   string
		in     []events.ChargeInput
		events string // after requested, processing
		ladder string // status, next attempt after the last event, and the attempts' charges and codes
	}{
		{"the first attempt pays", append(slices.Clone(begun), paid), "succeeded", "ended [ch_1:]"},
		{"declined", append(slices.Clone(begun), no), "failed", "waiting +1h0m0s [ch_1:insufficient_funds]"},
		{"declined, told twice", append(slices.Clone(begun), no, no), "failed", "waiting +1h0m0s [ch_1:insufficient_funds]"},
		{"not due yet", append(slices.Clone(begun), no, events.RetryDue{}), "failed", "waiting +1h0m0s [ch_1:insufficient_funds]"},
		{"due", second, "failed retry_requested", "attempting [ch_1:insufficient_funds :]"},
		{"due twice", append(slices.Clone(second), events.RetryDue{}), "failed retry_requested", "attempting [ch_1:insufficient_funds :]"},
		{
			"the second pays, told by the answer", append(slices.Clone(second), attempted(2, of(paid, "ch_2"))),
			"failed retry_requested succeeded", "ended [ch_1:insufficient_funds ch_2:]",
		},
		{
			"the second pays, told by a webhook", append(slices.Clone(second), of(paid, "ch_2"), attempted(2, of(paid, "ch_2"))),
			"failed retry_requested succeeded", "ended [ch_1:insufficient_funds ch_2:]",
		},
		{
			"a decline of the first, late", append(slices.Clone(second), no),
			"failed retry_requested", "attempting [ch_1:insufficient_funds :]",
		},
		{
			"the second declined: answer, webhook, backfill", append(slices.Clone(second), attempted(2, of(no, "ch_2")), of(no, "ch_2"), of(no, "ch_2"), no),
			"failed retry_requested failed", "waiting +24h0m0s [ch_1:insufficient_funds ch_2:insufficient_funds]",
		},
		{
			"the second declined: webhook, answer", append(slices.Clone(second), of(no, "ch_2"), attempted(2, of(no, "ch_2"))),
			"failed retry_requested failed", "waiting +24h0m0s [ch_1:insufficient_funds ch_2:insufficient_funds]",
		},
		{
			"the second declined without a charge of its own", append(slices.Clone(second), attempted(2, no)),
			"failed retry_requested failed", "waiting +24h0m0s [ch_1:insufficient_funds :insufficient_funds]",
		},
		{"an answer to another attempt", append(slices.Clone(second), attempted(3, of(no, "ch_2"))), "failed retry_requested", "attempting [ch_1:insufficient_funds :]"},
		{
			"exhausted", append(slices.Clone(second), of(no, "ch_2"), retryDue{}, of(no, "ch_3")),
			"failed retry_requested failed retry_requested failed", "ended [ch_1:insufficient_funds ch_2:insufficient_funds ch_3:insufficient_funds]",
		},
		{"lost card", append(slices.Clone(begun), declined("card_declined", "lost_card")), "failed", "ended [ch_1:lost_card]"},
		{"the bank advises against", append(slices.Clone(begun), advised), "failed", "ended [ch_1:insufficient_funds]"},
		{"wants the buyer, who is away", append(slices.Clone(begun), declined("authentication_required", "")), "failed", "ended [ch_1:authentication_required]"},
		{
			"the second wants the buyer", append(slices.Clone(second), attempted(2, of(declined("authentication_required", ""), "ch_2"))),
			"failed retry_requested failed", "ended [ch_1:insufficient_funds ch_2:authentication_required]",
		},
		{
			"unanswered", append(slices.Clone(second), events.AttemptUnanswered{Number: 2}, events.AttemptUnanswered{Number: 2}),
			"failed retry_requested updated", "in_doubt [ch_1:insufficient_funds :]",
		},
		{
			"unanswered, then declined", append(slices.Clone(second), events.AttemptUnanswered{Number: 2}, of(no, "ch_2"), events.AttemptUnanswered{Number: 2}),
			"failed retry_requested updated failed", "waiting +24h0m0s [ch_1:insufficient_funds ch_2:insufficient_funds]",
		},
		{
			"unanswered, then paid", append(slices.Clone(second), events.AttemptUnanswered{Number: 2}, of(paid, "ch_2")),
			"failed retry_requested updated succeeded", "ended [ch_1:insufficient_funds ch_2:]",
		},
		{"the first unanswered", append(slices.Clone(begun), events.ConfirmUnanswered{}), "in_doubt", "in_doubt [:]"},
		{"the first unanswered, then declined", append(slices.Clone(begun), events.ConfirmUnanswered{}, no), "in_doubt failed", "waiting +1h0m0s [ch_1:insufficient_funds]"},
		{"paid while it waits", append(slices.Clone(begun), no, of(paid, "ch_2")), "failed succeeded", "ended [ch_1:insufficient_funds]"},
		{"another payment while it waits", append(slices.Clone(begun), no, other), "failed succeeded", "ended [ch_1:insufficient_funds]"},
		{"a decline that nobody asked for", append(slices.Clone(begun), no, of(no, "ch_2")), "failed", "waiting +1h0m0s [ch_1:insufficient_funds]"},
		{"canceled while it waits", append(slices.Clone(begun), no, events.CancelCharge{}, events.RetryDue{}), "failed cancel_requested", "ended [ch_1:insufficient_funds]"},
		{
			"canceled while it waits, then at the provider", append(slices.Clone(begun), no, events.CancelCharge{}, payment(events.PaymentCanceled)),
			"failed cancel_requested", "ended [ch_1:insufficient_funds]",
		},
		{
			"canceled while an attempt is under way", append(slices.Clone(second), events.CancelCharge{}, events.CancelCharge{}),
			"failed retry_requested cancel_requested", "attempting [ch_1:insufficient_funds :]",
		},
		{
			"canceled while an attempt is under way, which is declined", append(slices.Clone(second), events.CancelCharge{}, of(no, "ch_2")),
			"failed retry_requested cancel_requested failed", "ended [ch_1:insufficient_funds ch_2:insufficient_funds]",
		},
		{
			"canceled before the attempt is made", append(slices.Clone(second), events.CancelCharge{}, payment(events.PaymentCanceled)),
			"failed retry_requested cancel_requested updated", "ended [ch_1:insufficient_funds :]",
		},
		{"its payment canceled elsewhere", append(slices.Clone(begun), no, payment(events.PaymentCanceled), payment(events.PaymentCanceled)), "failed updated", "ended [ch_1:insufficient_funds]"},
		{"the method gone", append(slices.Clone(begun), no, events.RetryStopped{}, events.RetryStopped{}), "failed updated", "ended [ch_1:insufficient_funds]"},
		{
			"the attempt refused", append(slices.Clone(second), events.AttemptRejected{Number: 2, Failure: events.NewFailure(events.FailureMethodDetached, "")}),
			"failed retry_requested failed", "ended [ch_1:insufficient_funds :payment_method_detached]",
		},
		{"the first refused", append(slices.Clone(begun), events.ChargeRejected{Failure: events.NewFailure(events.FailureProviderRejected, "")}), "failed", "ended [:provider_rejected]"},
		{"the first canceled", append(slices.Clone(begun), payment(events.PaymentCanceled)), "canceled", "ended [:]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHistory(t)
			c := h.play(tt.in...)
			var names []string
			for _, typ := range h.types()[2:] {
				names = append(names, typ.Name())
			}
			if got := strings.Join(names, " "); got != tt.events {
				t.Errorf("events: %s, want %s", got, tt.events)
			}
			if got := ladder(h.last()); got != tt.ladder {
				t.Errorf("ladder: %s, want %s", got, tt.ladder)
			}
			if want := strings.HasPrefix(tt.ladder, "waiting"); (c.Retry.NextAttemptAt != nil) != want {
				t.Errorf("next attempt at %v", c.Retry.NextAttemptAt)
			}
		})
	}
}

// ladder is a charge's ladder in one line.
func ladder(e *events.Event) string {
	r := e.Data.Charge.Retry
	text := string(r.Status)
	if r.NextAttemptAt != nil {
		text += " +" + r.NextAttemptAt.Sub(e.Time).String()
	}
	var attempts []string
	for i, a := range r.Attempts {
		if a.Number != i+1 {
			return fmt.Sprintf("attempt %d is number %d", i+1, a.Number)
		}
		code := ""
		if a.Failure != nil {
			code = a.Failure.Code
			if a.Failure.DeclineCode != "" {
				code = a.Failure.DeclineCode
			}
		}
		attempts = append(attempts, a.ProviderChargeID+":"+code)
	}
	return text + " [" + strings.Join(attempts, " ") + "]"
}

// With a page to come back to, a bank that asks for the buyer is no decline, neither at first nor told late; and a second
// attempt, made while the buyer is away, ends the ladder with it.
func TestRetryLadderWithAReturnURL(t *testing.T) {
	t.Parallel()
	create := laddered(time.Hour)
	create.ReturnURL = "https://app.example.com/back"
	wants := declined("authentication_required", "")
	h := newHistory(t)
	h.play(create, payment(events.PaymentRequiresConfirmation), wants, action("https://bank.example/1"), of(declined("card_declined", "insufficient_funds"), "ch_2"))
	if got := ladder(h.last()); got != "waiting +1h0m0s [ch_2:insufficient_funds]" {
		t.Fatal(got)
	}
	h.play(retryDue{}, wants)
	if got := ladder(h.last()); got != "attempting [ch_2:insufficient_funds :]" {
		t.Errorf("a late report of the first: %s", got)
	}
	h.play(attempted(2, of(wants, "ch_3")))
	if got := ladder(h.last()); got != "ended [ch_2:insufficient_funds ch_3:authentication_required]" {
		t.Error(got)
	}
}

// Any order of reports, duplicates and asks: attempts never repeat and never change, at most one success, no attempt
// after the end, never more than the schedule allows.
func TestRetryLadderProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		delays := rapid.SliceOfN(rapid.Just(time.Hour), 1, 4).Draw(rt, "delays")
		h := newHistory(t)
		h.play(laddered(delays...), payment(events.PaymentRequiresConfirmation))
		for n := rapid.IntRange(1, 40).Draw(rt, "n"); n > 0; n-- {
			number := rapid.IntRange(1, 6).Draw(rt, "attempt")
			p := of(declined("card_declined", rapid.SampledFrom([]string{"insufficient_funds", "do_not_honor", "do_not_honor", "stolen_card"}).Draw(rt, "code")), fmt.Sprintf("ch_%d", number))
			h.now = h.now.Add(time.Duration(rapid.IntRange(0, 40).Draw(rt, "minutes")) * time.Minute)
			h.charge(rapid.SampledFrom([]events.ChargeInput{
				p, p, p, attempted(number, p), attempted(number, p),
				events.RetryDue{},
				events.RetryDue{},
				events.RetryDue{},
				of(payment(events.PaymentSucceeded), fmt.Sprintf("ch_%d", number)),
				events.AttemptUnanswered{Number: number},
				events.AttemptRejected{Number: number, Failure: events.NewFailure(events.FailureProviderRejected, "")},
				events.CancelCharge{},
				payment(events.PaymentCanceled),
				events.RetryStopped{},
				events.ConfirmUnanswered{},
			}).Draw(rt, "input"))
		}
		checkLadder(rt, h, len(delays))
	})
}

func checkLadder(rt *rapid.T, h *history, delays int) {
	rt.Helper()
	succeeded, ended := 0, false
	for i, e := range h.list {
		c := e.Data.Charge
		r := c.Retry
		if e.Type == events.ChargeSucceeded {
			succeeded++
		}
		waits := r.Status == events.RetryWaiting
		if waits != (r.NextAttemptAt != nil) || waits && c.Status != events.ChargeStatusFailed {
			rt.Fatalf("event %d: %s %s, next at %v", i, c.Status, ladder(e), r.NextAttemptAt)
		}
		if len(r.Attempts) > delays+1 || len(r.Delays) != delays {
			rt.Fatalf("event %d: %s", i, ladder(e))
		}
		charges := map[string]bool{}
		for _, a := range r.Attempts {
			if a.ProviderChargeID != "" && charges[a.ProviderChargeID] {
				rt.Fatalf("event %d: a charge belongs to two attempts: %s", i, ladder(e))
			}
			charges[a.ProviderChargeID] = true
		}
		if i == 0 {
			continue
		}
		before := h.list[i-1].Data.Charge.Retry
		added := len(r.Attempts) - len(before.Attempts)
		if added != 0 && (added != 1 || e.Type != events.ChargeRetryRequested || ended) {
			rt.Fatalf("event %d, %s: from %s to %s", i, e.Type, ladder(h.list[i-1]), ladder(e))
		}
		for j, a := range before.Attempts {
			if a.Failure != nil && (*a.Failure != *r.Attempts[j].Failure || a.ProviderChargeID != r.Attempts[j].ProviderChargeID) {
				rt.Fatalf("event %d: attempt %d changed from %s to %s", i, j+1, ladder(h.list[i-1]), ladder(e))
			}
		}
		if ended && r.Status != events.RetryEnded {
			rt.Fatalf("event %d: the ladder goes on after its end: %s", i, ladder(e))
		}
		ended = r.Status == events.RetryEnded
		if c.Status.Final() && c.Status != events.ChargeStatusFailed && !ended {
			rt.Fatalf("event %d: %s and %s", i, c.Status, ladder(e))
		}
	}
	if succeeded > 1 {
		rt.Fatalf("%d successes", succeeded)
	}
}

func TestRetriable(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		code, declineCode string
		want              bool
	}{
		{"card_declined", "insufficient_funds", true},
		{"card_declined", "generic_decline", true},
		{"card_declined", "do_not_honor", true},
		{"card_declined", "try_again_later", true},
		{"card_declined", "card_velocity_exceeded", true},
		{"card_declined", "something_new", true},
		{"card_declined", "", true},
		{"processing_error", "", true},
		{"payment_failed", "", true},
		{"card_declined", "lost_card", false},
		{"card_declined", "stolen_card", false},
		{"card_declined", "pickup_card", false},
		{"card_declined", "restricted_card", false},
		{"card_declined", "fraudulent", false},
		{"card_declined", "highest_risk_level", false},
		{"card_declined", "invalid_account", false},
		{"card_declined", "transaction_not_allowed", false},
		{"card_declined", "revocation_of_authorization", false},
		{"card_declined", "revocation_of_all_authorizations", false},
		{"card_declined", "do_not_try_again", false},
		{"expired_card", "", false},
		{"card_declined", "expired_card", false},
		{"incorrect_number", "", false},
		{"authentication_required", "", false},
		{"authentication_required", "authentication_required", false},
		{"payment_intent_authentication_failure", "", false},
		{"provider_rejected", "", false},
		{"customer_deleted", "", false},
	} {
		if got := events.Retriable(events.NewFailure(tt.code, tt.declineCode)); got != tt.want {
			t.Errorf("%s/%s: %v", tt.code, tt.declineCode, got)
		}
	}
}

func TestRetryScheduleCheck(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		delays []time.Duration
		ok     bool
	}{
		{"standard", []time.Duration{time.Hour}, true},
		{"a-b_9", slices.Repeat([]time.Duration{events.MaxRetryDelay}, events.MaxRetries), true},
		{"", []time.Duration{time.Hour}, false},
		{"Standard", []time.Duration{time.Hour}, false},
		{strings.Repeat("a", 41), []time.Duration{time.Hour}, false},
		{"none", nil, false},
		{"many", slices.Repeat([]time.Duration{time.Hour}, events.MaxRetries+1), false},
		{"short", []time.Duration{time.Hour, 999 * time.Millisecond}, false},
		{"long", []time.Duration{events.MaxRetryDelay + 1}, false},
	} {
		if err := (events.RetrySchedule{Name: tt.name, Delays: tt.delays}).Check(); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
