package verify

import (
	"hash/maphash"
	"strings"
	"time"

	"github.com/paykit-go/paykit/internal/events"
)

// rungs is what is remembered of a charge's retry ladder.
type rungs struct {
	frozen   uint64 // schedule and delays
	attempts []rung
	status   events.RetryStatus
	next     int64 // when the next attempt is due, in ms; 0 for none
}

// rung is one attempt. outcome is 0 until it was declined.
type rung struct {
	at      int64
	outcome uint64
}

// retry checks that a ladder only goes on: its schedule is frozen, its attempts are counted and keep what they were, each
// is asked for when it is due and not before, and none after the end.
func (s *step) retry(c *events.Charge) {
	var was *rungs
	if s.was != nil {
		was = s.was.retry
	}
	if c.Retry == nil {
		if was != nil {
			s.problem("the retry ladder vanished since sequence %d", s.was.sequence)
		}
		if s.ev.Type == events.ChargeRetryRequested {
			s.problem("%s of a charge without a retry ladder", s.ev.Type)
		}
		return
	}
	is := s.rungs(c.Retry)
	s.is.retry = is
	s.retryStands(c, is)
	if s.was == nil || s.was.values == nil {
		if s.was == nil && len(is.attempts) != 1 {
			s.problem("the retry ladder begins with %d attempts", len(is.attempts))
		}
		return
	}
	if was == nil {
		s.problem("a retry ladder appeared since sequence %d", s.was.sequence)
		return
	}
	s.retryMoved(was, is)
}

// rungs reads a ladder and checks its attempts one by one.
func (s *step) rungs(r *events.Retry) *rungs {
	is := &rungs{status: r.Status}
	words := []string{r.Schedule}
	for _, delay := range r.Delays {
		if _, err := time.ParseDuration(delay); err != nil {
			s.problem("retry: %q is no duration", delay)
		}
		words = append(words, delay)
	}
	is.frozen = maphash.String(seed, strings.Join(words, " "))
	if r.NextAttemptAt != nil {
		is.next = r.NextAttemptAt.UnixMilli()
	}
	charges := map[string]bool{}
	for i, a := range r.Attempts {
		if a.Number != i+1 {
			s.problem("retry: attempt %d has the number %d", i+1, a.Number)
		}
		one := rung{at: a.At.UnixMilli()}
		if a.Failure != nil {
			one.outcome = maphash.String(seed, a.ProviderChargeID+" "+a.Failure.Code+" "+a.Failure.DeclineCode)
		}
		if i > 0 && (one.at < is.attempts[i-1].at || is.attempts[i-1].outcome == 0) {
			s.problem("retry: attempt %d began before attempt %d was declined", i+1, i)
		}
		if a.ProviderChargeID != "" && charges[a.ProviderChargeID] {
			s.problem("retry: the provider's charge %s belongs to two attempts", a.ProviderChargeID)
		}
		charges[a.ProviderChargeID] = true
		is.attempts = append(is.attempts, one)
	}
	return is
}

// retryStands checks what holds of a ladder in every event.
func (s *step) retryStands(c *events.Charge, is *rungs) {
	r := c.Retry
	if len(is.attempts) == 0 || len(is.attempts) > len(r.Delays)+1 {
		s.problem("retry: %d attempts on a schedule of %d", len(is.attempts), len(r.Delays)+1)
		return
	}
	waits := r.Status == events.RetryWaiting
	if waits != (is.next != 0) {
		s.problem("retry: %s does not go with nextAttemptAt", r.Status)
	}
	last := r.Attempts[len(r.Attempts)-1]
	failed := c.Status == events.ChargeStatusFailed
	switch r.Status {
	case events.RetryWaiting:
		if !failed || last.Failure == nil || len(r.Attempts) > len(r.Delays) {
			s.problem("retry: waiting on a charge that is %s after attempt %d of %d", c.Status, last.Number, len(r.Delays)+1)
		} else if !events.Retriable(*last.Failure) {
			s.problem("retry: waiting after %s %s, which must not be tried again", last.Failure.Code, last.Failure.DeclineCode)
		}
	case events.RetryAttempting, events.RetryInDoubt:
		if last.Failure != nil || c.Status.Final() && !failed || failed && last.Number == 1 {
			s.problem("retry: %s on a charge that is %s", r.Status, c.Status)
		}
	case events.RetryEnded:
		if !c.Status.Final() {
			s.problem("retry: ended on a charge that is %s", c.Status)
		}
	default:
		s.problem("retry: there is no status %q", r.Status)
	}
	if c.CancelRequestedAt != nil && waits {
		s.problem("retry: waiting on a charge whose cancellation was asked for")
	}
}

// retryMoved checks what an event did to a ladder.
func (s *step) retryMoved(was, is *rungs) {
	if is.frozen != was.frozen {
		s.problem("the retry schedule changed since sequence %d", s.was.sequence)
	}
	if was.status == events.RetryEnded && is.status != events.RetryEnded {
		s.problem("retry: %s after the ladder ended at sequence %d", is.status, s.was.sequence)
	}
	asked := s.ev.Type == events.ChargeRetryRequested
	added := len(is.attempts) - len(was.attempts)
	switch {
	case added < 0:
		s.problem("retry: an attempt vanished since sequence %d", s.was.sequence)
		return
	case added > 1, added == 1 && !asked, added == 0 && asked:
		s.problem("retry: %d new attempts by %s", added, s.ev.Type)
	case asked && was.status != events.RetryWaiting:
		s.problem("retry: an attempt after %s", was.status)
	case asked && is.attempts[len(is.attempts)-1].at < was.next:
		s.problem("retry: attempt %d began before it was due", len(is.attempts))
	}
	for i, before := range was.attempts {
		if now := is.attempts[i]; now.at != before.at || before.outcome != 0 && now.outcome != before.outcome {
			s.problem("retry: attempt %d changed since sequence %d", i+1, s.was.sequence)
		}
	}
}

// failedAgain tells whether the event is the decline of a ladder's further attempt, which leaves a failed charge failed.
func (s *step) failedAgain(c *events.Charge) bool {
	if s.ev.Type != events.ChargeFailed || c.Retry == nil || s.was == nil || s.was.retry == nil || s.was.status != string(events.ChargeStatusFailed) {
		return false
	}
	n := len(c.Retry.Attempts)
	return n > 1 && n == len(s.was.retry.attempts) && s.was.retry.attempts[n-1].outcome == 0 && c.Retry.Attempts[n-1].Failure != nil
}
