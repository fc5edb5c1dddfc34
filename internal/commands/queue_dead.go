package commands

import (
	"context"
	"errors"

	"github.com/paykit-go/paykit/internal/crashpoint"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// CarryOutDecision does what was decided about the dead letter of a queued command, and then erases the letter, which holds
// the command's body; what else it said stands in the decision.
func (h *Handler) CarryOutDecision(ctx context.Context, d eventlog.Decided) eventlog.Result {
	log := h.cfg.Logger.With().Str("stage", d.Letter.Stage).Str("command_id", d.Letter.ID).Uint64("letter", d.Letter.Sequence).
		Str("decision", d.Decision.Decision).Str("operator", d.Decision.Operator).Logger()
	if d.Decision.Decision == eventlog.DecisionRetry {
		err := h.log.PutBack(ctx, d.Letter)
		if errors.Is(err, eventlog.ErrNoKey) || errors.Is(err, eventlog.ErrNotFound) {
			// A crash right after the burial has it buried again, which is the same letter.
			log.Error().Err(err).Msg("dead letter can't be retried")
			err = h.log.BuryAgain(ctx, d.Letter, "its idempotency key was not kept; send the command again under its key")
		}
		if err != nil {
			log.Warn().Err(err).Msg("dead letter not put back yet")
			return eventlog.Retry(backoff(d.Attempt))
		}
	}
	crashpoint.Hit("queue.letter_done")
	// A crash between putting back and erasing puts it back again: see PutBack. One after the erasure finds no letter.
	if err := h.log.EraseDead(ctx, d.Letter.Sequence); err != nil {
		log.Warn().Err(err).Msg("dead letter not erased yet")
		return eventlog.Retry(backoff(d.Attempt))
	}
	log.Info().Msg("dead letter of a command done with")
	return eventlog.Done()
}

// PersonalData says what personal data a text holds that is to be kept: "an e-mail address", "a card number", or "".
func PersonalData(s string) string { return personalData(s) }
