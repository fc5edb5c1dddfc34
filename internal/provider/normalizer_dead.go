package provider

import (
	"context"
	"errors"

	"github.com/paykit-go/paykit/internal/crashpoint"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// CarryOutDecision does what was decided about a dead letter of the normalizer's: a retry reads the delivery once more, as often
// as one that was just taken in, and is acknowledged when that is done. So a crash at any point leaves the decision,
// which comes again, and each append that was done finds nothing to do. A retry that ends as the first did is another
// letter, and so is one whose owner has not become known within a day of the decision.
func (n *Normalizer) CarryOutDecision(ctx context.Context, d eventlog.Decided) eventlog.Result {
	if d.Decision.Decision != eventlog.DecisionRetry {
		return eventlog.Done() // the decision is all there is to it; the delivery ages in its stream
	}
	log := n.cfg.Logger.With().Str("stage", d.Letter.Stage).Str("event_id", d.Letter.ID).Uint64("letter", d.Letter.Sequence).
		Str("operator", d.Decision.Operator).Logger()
	wait := n.backoff(n.retryFirst, d.Attempt, retryMost)
	m, err := n.log.DeadMessage(ctx, d.Letter.DeadLetter)
	if errors.Is(err, eventlog.ErrNotFound) {
		// It may have been erased with its customer, or be older than the inbox keeps deliveries.
		log.Error().Msg("dead letter can't be retried: its delivery is gone")
		if err = n.log.BuryAgain(ctx, d.Letter, "the delivery it refers to is gone"); err == nil {
			return eventlog.Done()
		}
	}
	if err != nil {
		log.Warn().Err(err).Msg("dead letter not retried yet")
		return eventlog.Retry(wait)
	}
	m.Attempt = d.Letter.Attempts + d.Attempt
	result := n.work(ctx, &work{Message: m, since: d.Decision.At, retryOf: d.Letter.Sequence})
	crashpoint.Hit("normalizer.letter_retried")
	if result != eventlog.Erase() {
		return result
	}
	// That is about the delivery, not about the decision. A crash right before or after has it done again.
	if err := n.log.EraseDelivery(ctx, m.Sequence); err != nil {
		log.Warn().Err(err).Msg("delivery of a deleted customer not erased yet")
		return eventlog.Retry(wait)
	}
	return eventlog.Done()
}
