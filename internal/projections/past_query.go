package projections

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/paykit-go/paykit/internal/events"
)

// headerAt asks for an answer from the views as they were: digits are a sequence, anything else is a time.
const headerAt = "Paykit-At"

// clockSlack is how far a caller's "now" may be ahead of our clock.
const clockSlack = 2 * time.Second

// answerAt answers a query from the views at an earlier point. wait bounds how long it waits for them, inHand the query.
func (s *service) answerAt(wait, inHand context.Context, verb, at string, q query) (answer, error) {
	wait, cancel := context.WithTimeout(wait, sequenceWait)
	defer cancel()
	sequence, err := s.sequenceAt(wait, at)
	if err != nil {
		return answer{}, err
	}
	v, release, err := s.past.view(wait, sequence)
	if err != nil {
		return answer{}, err
	}
	defer release()
	a, err := v.answers[verb](inHand, q)
	if errors.Is(err, errDamaged) {
		s.past.discard(v)
		// Not the live file's damage: that one stays.
		return answer{}, fmt.Errorf("views at sequence %d: %w", sequence, &events.Error{
			Code: events.CodeTimeout, Param: headerAt, Message: "the views were damaged and are built anew; ask again",
		})
	}
	return a, err
}

// sequenceAt is the sequence that a header names.
func (s *service) sequenceAt(ctx context.Context, at string) (uint64, error) {
	if strings.Trim(at, "0123456789") == "" {
		sequence, err := strconv.ParseUint(at, 10, 64)
		if err != nil {
			return 0, invalid(headerAt, "is a sequence that no log ever has")
		}
		info, err := s.log.Info(ctx)
		if err != nil {
			return 0, err
		}
		if sequence > info.LastSequence {
			return 0, invalid(headerAt, "is behind the end of the log, which is at sequence "+strconv.FormatUint(info.LastSequence, 10))
		}
		return sequence, nil
	}
	t, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return 0, invalid(headerAt, "must be a sequence, as in the header Paykit-Sequence of an answer, or a time in RFC 3339, as 2026-11-22T06:14:00Z")
	}
	if t.After(s.past.now().Add(clockSlack)) {
		return 0, invalid(headerAt, "is in the future")
	}
	return s.log.SequenceAt(ctx, t)
}
