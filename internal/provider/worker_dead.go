package provider

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/paykit-go/paykit/internal/crashpoint"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// recovered makes a panic a failure like another, so that it is counted, kept in the history, and holds nobody up.
func (w *Worker) recovered(ctx context.Context, r request, do func(context.Context, request) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = eventlog.Panicked(p)
			w.cfg.Logger.Error().Err(err).Bytes("stack", debug.Stack()).Uint64("stream_seq", r.message.Sequence).Msg("handler panicked")
		}
	}()
	return do(ctx, r)
}

// note keeps what went wrong with a try, for the history of the dead letter that it may end as, and says how many failed
// through a fault of ours so far: neither the provider's, nor the storage's or the connection's. They are lost with the
// process, which only means more tries.
func (w *Worker) note(r request, err error) int {
	if _, ok := errors.AsType[*later](err); ok || errors.Is(err, errHalted) {
		return 0 // nothing failed
	}
	_, answered := errors.AsType[*Error](err)
	storage := eventlog.IsUnavailable(err) || errors.Is(err, eventlog.ErrConflict) || errors.Is(err, eventlog.ErrNotProvisioned) ||
		errors.Is(err, eventlog.ErrRecreated) || errors.Is(err, context.DeadlineExceeded)
	ours := !answered && !storage
	return w.failures[r.consumer].Note(r.message.Sequence, eventlog.Failure{At: w.cfg.Now(), Attempt: r.attempt, Reason: err.Error()}, ours)
}

// stageOf names the worker's stages in dead letters.
func stageOf(consumer eventlog.ConsumerName) string {
	if consumer == eventlog.ConsumerSettling {
		return eventlog.StageSettle
	}
	return eventlog.StageWorker
}

// bury sets a request aside. A crash between the dead letter and the acknowledgement brings the request once more, and the
// same letter twice is one.
func (w *Worker) bury(ctx context.Context, r request, reason error) eventlog.Result {
	m := r.message
	d := eventlog.DeadLetter{
		Stage: stageOf(r.consumer), ID: fmt.Sprint(m.Sequence), Stream: m.Stream, Sequence: m.Sequence, Subject: m.Subject,
		Reason: reason.Error(), Attempts: r.attempt, History: w.failures[r.consumer].History(m.Sequence), RetryOf: r.retryOf,
		At: w.cfg.Now(),
	}
	typ := "unknown"
	if r.event != nil {
		d.ID, d.CustomerID, typ = r.event.ID, r.event.CustomerID(), string(r.event.Type)
	}
	if err := w.log.Bury(ctx, d); err != nil {
		w.cfg.Logger.Warn().Err(err).Uint64("stream_seq", m.Sequence).Msg("dead letter not stored")
		return eventlog.Retry(w.backoff(w.retryFirst, r.attempt, longestRetry))
	}
	if err := w.point("buried"); err != nil {
		return eventlog.Retry(0)
	}
	w.failures[r.consumer].Forget(m.Sequence)
	w.metrics.dead.WithLabelValues(typ).Inc()
	return eventlog.Done()
}

// CarryOutDecision works once more on the event of a dead letter, with the handler and the keys of its first tries, for
// as long as it takes: the decision is acknowledged when the event would be. So a crash at any point leaves the
// decision, which comes again, and what was done finds itself done. A retry that ends as the first did is another letter.
func (w *Worker) CarryOutDecision(ctx context.Context, d eventlog.Decided) eventlog.Result {
	if d.Decision.Decision != eventlog.DecisionRetry {
		return eventlog.Done() // the decision is all there is to it
	}
	log := w.cfg.Logger.With().Str("stage", d.Letter.Stage).Str("event_id", d.Letter.ID).Uint64("letter", d.Letter.Sequence).
		Str("operator", d.Decision.Operator).Logger()
	m, err := w.log.DeadMessage(ctx, d.Letter.DeadLetter)
	if errors.Is(err, eventlog.ErrNotFound) {
		log.Error().Msg("dead letter can't be retried: its event is gone")
		err = w.log.BuryAgain(ctx, d.Letter, "the event it refers to is gone")
		if err == nil {
			return eventlog.Done()
		}
	}
	if err != nil {
		log.Warn().Err(err).Msg("dead letter not retried yet")
		return eventlog.Retry(w.backoff(w.retryFirst, d.Attempt, longestRetry))
	}
	// Attempts are counted on: a key that is used where the first one is spent must be a new one.
	r := request{message: m, consumer: eventlog.ConsumerRequests, attempt: d.Letter.Attempts + d.Attempt, retryOf: d.Letter.Sequence}
	do := w.carryOut
	if d.Letter.Stage == eventlog.StageSettle {
		r.consumer, do = eventlog.ConsumerSettling, w.settle
	}
	result := w.work(ctx, r, do)
	crashpoint.Hit("worker.letter_retried")
	return result
}

// spent tells whether a call that takes no money is not to be made under its key any more: see [keyIsSpent] and
// [notToBeRepeated]. When an operator has a dead letter tried again, that is also a refusal that the provider only repeats,
// though its reason may be gone.
func (r request) spent(err error) bool {
	if keyIsSpent(err) || notToBeRepeated(err) {
		return true
	}
	e, ok := errors.AsType[*Error](err)
	return ok && r.retryOf != 0 && e.Replayed && e.Class == Invalid
}
