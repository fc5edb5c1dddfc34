package commands

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/paykit-go/paykit/internal/crashpoint"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

const (
	// maxFailures is how often a queued command may fail, not counting storage and connection, before it is set aside.
	maxFailures = 5
	retryFirst  = time.Second
	retryMost   = time.Minute
	// unknownVerb stands for a verb that is not worth keeping: it comes from outside and is stored for ever.
	unknownVerb = "unknown"
)

// ConsumeQueue carries out the commands that apps left on <prefix>.cmd.<entity>.<verb> without waiting, until ctx ends.
// Several processes may do so at once. One process carries out commands that name the same customer in the order in
// which they were sent, unless one has to be tried again; between processes there is no order, so a command that needs
// another's outcome is sent after it.
//
// A command that is refused becomes the event command.rejected; one that fails five times for a reason that is neither
// storage nor connection becomes a dead letter; either way, and when it is done, its bytes are erased from the queue,
// since they may hold an e-mail address. It returns the errors of [eventlog.Log.Consume].
func ConsumeQueue(ctx context.Context, h *Handler) error {
	q := newQueue(h)
	return h.log.Consume(ctx, eventlog.ConsumerCommands, eventlog.ConsumeOptions{
		Lane: q.lane, Handle: q.handle, Logger: h.cfg.Logger,
	})
}

// QueueHandler is what [ConsumeQueue] does with each message; it is for who hands them out himself, one at a time. The
// function keeps count of failures, so one is made for each run of a process.
func QueueHandler(h *Handler) func(ctx context.Context, m eventlog.Message) eventlog.Result {
	return newQueue(h).handle
}

func newQueue(h *Handler) *queue { return &queue{h: h} }

type queue struct {
	h *Handler
	// failures are of this process and this run: a command that moves between processes is tried a few times more, never
	// for ever.
	failures eventlog.Failures
	first    time.Duration // the wait after a first failure; 0 = retryFirst
}

// lane keeps what one customer is named in together, and else what names the same charge or checkout.
func (q *queue) lane(m eventlog.Message) string {
	var named struct {
		CustomerID  string `json:"customerId"`
		ReferenceID string `json:"referenceId"`
		ChargeID    string `json:"chargeId"`
		CheckoutID  string `json:"checkoutId"`
	}
	if err := json.Unmarshal(m.Data, &named); err != nil {
		return ""
	}
	switch {
	case named.CustomerID != "":
		return named.CustomerID
	case named.ReferenceID != "":
		return events.CustomerID(named.ReferenceID)
	case named.ChargeID != "":
		return named.ChargeID
	}
	return named.CheckoutID
}

// handle carries out one queued command. It is safe to be run again for the same message: the key, given or made from
// the message's place in the stream, makes it the same command.
func (q *queue) handle(ctx context.Context, m eventlog.Message) eventlog.Result {
	verb := strings.TrimPrefix(m.Subject, q.h.log.Prefix()+".cmd.")
	stream, created := q.h.log.CommandsCreated(ctx, m.Sequence)
	own := events.QueuedCommandKey(stream, created, m.Sequence)
	key, refused := keyOf(m.Header)
	if key == "" || refused != nil {
		key = own
	}
	id := events.CommandID(verb, key)
	logger := q.h.cfg.Logger.With().Str("command_id", id).Str("command_type", safeVerb(verb)).Uint64("stream_seq", m.Sequence).Logger()
	crashpoint.Hit("queue.fetched")
	err := q.execute(ctx, verb, key, m.Data, refused)
	if refusal, final := refusalOf(err); final {
		// A crash after this append and before the erasure delivers the command again, and it is refused again, which
		// appends nothing.
		logger.Info().Str("code", string(refusal.Code)).Msg("command rejected")
		err = q.reject(ctx, id, verb, m.Data, *refusal)
		crashpoint.Hit("queue.rejected")
	}
	switch {
	case err == nil:
		crashpoint.Hit("queue.before_erase")
		q.failures.Forget(m.Sequence)
		return eventlog.Erase()
	case temporary(err):
		q.note(m, err, false)
		logger.Warn().Err(err).Int("attempt", m.Attempt).Msg("command waits for the event log")
		return eventlog.Retry(q.backoff(m.Attempt))
	}
	failures := q.note(m, err, true)
	if failures < maxFailures {
		logger.Warn().Err(err).Int("attempt", failures).Msg("command failed")
		return eventlog.Retry(q.backoff(failures))
	}
	// A crash after the burial and before the erasure delivers the command again; buried again it is the same letter.
	// It is named after its message, not after its key: another command under the same key is another letter.
	letter := eventlog.DeadLetter{
		Stage: eventlog.StageCommands, ID: events.CommandID(verb, own), Stream: m.Stream, Sequence: m.Sequence, Subject: m.Subject,
		Body: m.Data, Header: map[string][]string{HeaderIdempotencyKey: {key}}, Reason: reasonOf(err), Attempts: failures,
		RetryOf: retryOf(m.Header),
	}
	if refused != nil {
		letter.Header[HeaderIdempotencyKey] = m.Header[HeaderIdempotencyKey] // to be refused again
	}
	if err := q.bury(ctx, m, letter); err != nil {
		logger.Warn().Err(err).Msg("command not set aside")
		return eventlog.Retry(retryMost)
	}
	logger.Error().Err(err).Int("attempt", failures).Msg("command set aside as a dead letter")
	q.failures.Forget(m.Sequence)
	return eventlog.Erase()
}

// execute turns a panic into a failure that counts.
func (q *queue) execute(ctx context.Context, verb, key string, body []byte, refusal *events.Error) (err error) {
	if refusal != nil {
		return refusal
	}
	if forOperators(verb) {
		return invalid("", "is for operators, and not taken from the queue")
	}
	defer func() {
		if p := recover(); p != nil {
			q.h.cfg.Logger.Error().Str("command_type", safeVerb(verb)).Err(eventlog.Panicked(p)).Msg("command panicked")
			err = errPanicked
		}
	}()
	_, err = q.h.Execute(ctx, verb, body, Meta{IdempotencyKey: key})
	return err
}

// reject stores that the command was refused. Nothing of its body goes into the event: not even a name that it gave to
// a field, unless that could be one of ours.
func (q *queue) reject(ctx context.Context, id, verb string, body []byte, refusal events.Error) error {
	if !fieldName.MatchString(refusal.Param) || personalData(refusal.Param) != "" {
		refusal.Param = ""
	}
	ref, err := q.customerIn(ctx, body)
	if err != nil {
		return err
	}
	cause := events.Cause{Now: q.h.cfg.Now(), Source: source, CommandID: id, Customer: ref}
	in := events.RejectCommand{ID: id, Type: safeVerb(verb), Error: refusal}
	_, _, err = q.h.log.Update(ctx, events.EntityCommand, id, func(last *events.Event) (*events.Event, error) {
		return events.DecideCommand(last, in, cause)
	})
	return err
}

// fieldName is what the name of a field, or of a header of ours, looks like.
var fieldName = regexp.MustCompile(`^[A-Za-z][A-Za-z-]{0,39}$`)

// customerIn finds the customer whom the refused body named, if there is one, so that the rejection shows among the
// customer's events.
func (q *queue) customerIn(ctx context.Context, body []byte) (events.CustomerRef, error) {
	o, _ := decode(body) // of a body that can't be read nothing is found
	id, _ := o["customerId"].(string)
	if reference, ok := o["referenceId"].(string); ok && id == "" {
		id = events.CustomerID(reference)
	}
	e, err := q.h.log.Load(ctx, events.EntityCustomer, id)
	if errors.Is(err, eventlog.ErrNotFound) {
		return events.CustomerRef{}, nil
	}
	if err != nil {
		return events.CustomerRef{}, fmt.Errorf("look for the customer: %w", err)
	}
	return e.Event.Data.Customer.Ref(), nil
}

// bury sets the command aside, with its body: the queue keeps nothing.
func (q *queue) bury(ctx context.Context, m eventlog.Message, letter eventlog.DeadLetter) error {
	ref, err := q.customerIn(ctx, m.Data)
	if err != nil {
		return err
	}
	letter.CustomerID, letter.At, letter.History = ref.ID, events.Millis(q.h.cfg.Now()), q.failures.History(m.Sequence)
	return q.h.log.Bury(ctx, letter)
}

// note keeps a failure for the command's history and says how many count.
func (q *queue) note(m eventlog.Message, err error, counts bool) int {
	return q.failures.Note(m.Sequence, eventlog.Failure{At: q.h.cfg.Now(), Attempt: m.Attempt, Reason: reasonOf(err)}, counts)
}

// reasonOf is what is kept of an error, which could quote the command.
func reasonOf(err error) string {
	text := err.Error()
	if found := personalData(text); found != "" {
		return "the reason holds " + found + " and is not kept"
	}
	return text
}

// retryOf tells which dead letter the command was, if it was put back. It only says so: an app may have written the
// header, and nothing depends on it.
func retryOf(header nats.Header) uint64 {
	n, err := strconv.ParseUint(header.Get(eventlog.HeaderDeadLetter), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// backoff is how long the n-th try waits for the next.
func backoff(n int) time.Duration { return backoffFrom(retryFirst, n) }

func backoffFrom(first time.Duration, n int) time.Duration {
	return min(first<<min(max(n-1, 0), 10), retryMost)
}

func (q *queue) backoff(n int) time.Duration { return backoffFrom(cmp.Or(q.first, retryFirst), n) }

// safeVerb is the verb if it is one of ours or could be: letters and underscores around one dot.
func safeVerb(verb string) string {
	if verbShape.MatchString(verb) {
		return verb
	}
	return unknownVerb
}

var verbShape = regexp.MustCompile(`^[a-z_]{1,40}\.[a-z_]{1,40}$`)
