package eventlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/paykit-go/paykit/internal/events"
)

// What can be decided about a dead letter.
const (
	DecisionRetry = "retry" // work on the message again
	DecisionDrop  = "drop"  // nothing more is done; the body of a command is erased
)

// Decision is what somebody decided about a dead letter. Operator and Reason must hold no personal data: they are kept
// as long as the letter.
type Decision struct {
	Decision string     `json:"decision"` // "retry", "drop"
	Operator string     `json:"operator"`
	Reason   string     `json:"reason"`
	At       time.Time  `json:"at"`
	Letter   uint64     `json:"letter"` // by its sequence in DEAD
	About    DeadLetter `json:"about"`  // the letter without body and headers, which outlives it

	Sequence uint64 `json:"-"` // where the decision stands in DEAD
}

// DecidedError says that something was decided about the letter already.
type DecidedError struct{ Existing Decision }

func (e *DecidedError) Error() string {
	d := e.Existing
	return fmt.Sprintf("dead letter %d: %s was decided by %s at %s", d.Letter, d.Decision, d.Operator, d.At.Format(time.RFC3339))
}

// Decide stores a decision about a letter; d.Letter and d.About are filled in. There is one for each letter: another one is
// a [*DecidedError], the same once more is fine. Else its errors are those of [Log.Bury].
//
// A crash right after it leaves the decision for the consumer that carries it out.
func (l *Log) Decide(ctx context.Context, e DeadEntry, d Decision) (Decision, error) {
	d.Letter, d.About = e.Sequence, e.DeadLetter
	d.About.Body, d.About.Header = nil, nil
	if d.At.IsZero() {
		d.At = l.cfg.Now()
	}
	d.At = events.Millis(d.At)
	body, err := json.Marshal(d)
	if err != nil {
		return Decision{}, fmt.Errorf("encode a decision: %w", err)
	}
	number := strconv.FormatUint(e.Sequence, 10)
	subject := l.subject("dead", stageDecision, number, events.TokenOrNone(e.CustomerID))
	err = l.putOnce(ctx, streamDead, subject, l.subject("dead", stageDecision, number, "*"), body, func(m stored) error {
		got, err := decodeDecision(m)
		if err != nil {
			return err
		}
		if got.Decision != d.Decision || got.Operator != d.Operator || got.Reason != d.Reason || !got.At.Equal(d.At) {
			return &DecidedError{Existing: *got}
		}
		return nil
	})
	if err != nil {
		return Decision{}, fmt.Errorf("decide on a dead letter: %w", err)
	}
	return d, nil
}

func decodeDecision(m stored) (*Decision, error) {
	d := &Decision{Sequence: m.Sequence}
	if err := json.Unmarshal(m.Data, d); err != nil || d.Letter == 0 {
		return nil, fmt.Errorf("decision %d of %w", m.Sequence, errForeign)
	}
	return d, nil
}

// Decision decodes a message of a decisions' consumer. Its error says only that it is none.
func (m Message) Decision() (*Decision, error) {
	return decodeDecision(stored{Sequence: m.Sequence, Data: m.Data})
}

// HeaderDeadLetter tells on a command that was put back which letter it was, by the letter's sequence in DEAD.
const HeaderDeadLetter = "Paykit-Dead-Letter"

// ErrNoKey says that a command's letter was written by an older version, which did not keep the key.
var ErrNoKey = errors.New("the letter holds no idempotency key, so the command would become another one")

// PutBack puts the command of a letter back into COMMANDS, under the key that it had. It returns [ErrNoKey], or the
// errors of [Log.Bury].
//
// A crash right after it leaves the letter, and the decision that comes again puts the command back once more: within two
// minutes the stream takes it for the same message, and later it is the same command under its key.
func (l *Log) PutBack(ctx context.Context, e DeadEntry) error {
	if len(e.Header) == 0 {
		return fmt.Errorf("put back dead letter %d: %w", e.Sequence, ErrNoKey)
	}
	if !strings.HasPrefix(e.Subject, l.subject("cmd", "")) {
		return fmt.Errorf("put back dead letter %d: %w", e.Sequence, ErrNotFound)
	}
	msg := &nats.Msg{Subject: e.Subject, Data: e.Body, Header: nats.Header(maps.Clone(e.Header))}
	number := strconv.FormatUint(e.Sequence, 10)
	msg.Header.Set(HeaderDeadLetter, number)
	if err := l.connected(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, l.patience)
	defer cancel()
	_, err := l.js.PublishMsg(ctx, msg, jetstream.WithExpectStream(l.stream(streamCommands)), jetstream.WithMsgID(l.stream(streamDead)+" "+number))
	if err != nil {
		return fmt.Errorf("put back dead letter %d: %w", e.Sequence, writeError(err))
	}
	return nil
}

// Decided is a dead letter and what was decided about it.
type Decided struct {
	Letter   DeadEntry // with its body
	Decision Decision
	Attempt  int // at carrying the decision out, from 1
}

// ConsumeDecisions carries out what is decided about the dead letters of some stages, until ctx ends; of the others'
// decisions it lets go. It is [Log.Consume] of one of the two consumers of decisions, and o's Lane and Handle are its own.
//
// A decision is acknowledged when its stage says so, after all its effects; a crash before brings it again. One whose
// letter is gone, because the effects were complete but for that, or because its customer was erased, leads to nothing.
func (l *Log) ConsumeDecisions(ctx context.Context, consumer ConsumerName, o ConsumeOptions, stages map[string]func(context.Context, Decided) Result) error {
	o.Lane = func(m Message) string { return m.Subject }
	o.Handle = func(ctx context.Context, m Message) Result {
		log := o.Logger.With().Uint64("stream_seq", m.Sequence).Int("attempt", m.Attempt).Logger()
		d, err := m.Decision()
		if err != nil {
			log.Error().Err(err).Msg("decision about a dead letter not understood")
			return Done()
		}
		handle, mine := stages[d.About.Stage]
		if !mine {
			return Done()
		}
		log = log.With().Str("stage", d.About.Stage).Str("decision", d.Decision).Str("operator", d.Operator).Uint64("letter", d.Letter).Logger()
		e, err := l.DeadLetter(ctx, d.Letter)
		if errors.Is(err, ErrNotFound) {
			log.Info().Msg("the dead letter is gone, nothing is left to be done")
			return Done()
		}
		if err != nil {
			log.Warn().Err(err).Msg("dead letter not read")
			return Retry(decisionRetry)
		}
		e.Decision = d
		return handle(ctx, Decided{Letter: e, Decision: *d, Attempt: m.Attempt})
	}
	return l.Consume(ctx, consumer, o)
}

// decisionRetry is when a decision comes again after its letter could not be read or written.
const decisionRetry = 5 * time.Second

// BuryAgain says of a letter whose retry can't be carried out why not: as a new letter, which stands open in its place.
func (l *Log) BuryAgain(ctx context.Context, e DeadEntry, why string) error {
	again := e.DeadLetter
	again.RetryOf, again.Reason, again.At = e.Sequence, "can't be retried: "+why, l.cfg.Now()
	return l.Bury(ctx, again)
}
