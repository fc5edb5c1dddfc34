package eventlog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/paykit-go/paykit/internal/crashpoint"
	"github.com/paykit-go/paykit/internal/events"
)

const (
	appendTimeout  = 5 * time.Second  // one publish and its acknowledgement
	updateTimeout  = 20 * time.Second // all attempts of one Update; a replicated stream is without a leader for up to 10 s
	updateAttempts = 100
	retryFirst     = 2 * time.Millisecond
	retryMost      = 500 * time.Millisecond
	connectWait    = 2 * time.Second
)

// subjectOf is where an event is stored. No token comes from outside: the ids are checked to be ours.
func (l *Log) subjectOf(ev *events.Event) (string, error) {
	if !ev.Type.Known() {
		return "", fmt.Errorf("%w: %q", events.ErrUnknownType, ev.Type)
	}
	if !events.ValidID(ev.Entity(), ev.Subject) {
		return "", fmt.Errorf("append %s: %q is no id of a %s", ev.Type, ev.Subject, ev.Entity())
	}
	customer := events.None
	if id := ev.CustomerID(); id != "" {
		if !events.ValidID(events.EntityCustomer, id) {
			return "", fmt.Errorf("append %s: %q is no id of a customer", ev.Type, id)
		}
		customer = id
	}
	return l.subject("log", string(ev.Entity()), ev.Type.Name(), ev.Subject, customer), nil
}

// parseSubject takes a subject of the LOG apart.
func (l *Log) parseSubject(subject string) (entity events.Entity, id string, ok bool) {
	rest, found := strings.CutPrefix(subject, l.cfg.Prefix+".log.")
	tokens := strings.Split(rest, ".")
	if !found || len(tokens) != 4 {
		return "", "", false
	}
	return events.Entity(tokens[0]), tokens[2], true
}

// Append stores an event if the entity's last event is still the one at sequence last (0 = there is none yet), and
// answers the sequence that it got. It is one guarded publish, without a second try: [ErrConflict] says that the guard
// was lost; [*UnknownError], that it is not known whether the event was stored; [ErrStorageFull], [ErrUnavailable] and
// [ErrTooLarge], that it was not. Once it returns nil the event is on disk.
func (l *Log) Append(ctx context.Context, ev *events.Event, last uint64) (uint64, error) {
	sequence, _, err := l.append(ctx, ev, last)
	return sequence, err
}

func (l *Log) append(ctx context.Context, ev *events.Event, last uint64) (uint64, []byte, error) {
	subject, err := l.subjectOf(ev)
	if err != nil {
		return 0, nil, err
	}
	filter, err := l.entityFilter(ev.Entity(), ev.Subject)
	if err != nil {
		return 0, nil, err
	}
	raw, err := ev.Encode()
	if err != nil {
		return 0, nil, err
	}
	if len(raw) > maxEvent {
		return 0, nil, fmt.Errorf("append %s %s: %w (%d bytes)", ev.Type, ev.Subject, ErrTooLarge, len(raw))
	}
	sequence, err := l.publish(ctx, l.stream(streamLog), &nats.Msg{Subject: subject, Data: raw}, last, filter)
	if err != nil {
		return 0, raw, fmt.Errorf("append %s %s: %w", ev.Type, ev.Subject, err)
	}
	return sequence, raw, nil
}

// publish stores one message under a guard. No Nats-Msg-Id is sent: the guard alone decides, with no time window.
func (l *Log) publish(ctx context.Context, stream string, msg *nats.Msg, last uint64, filter string) (uint64, error) {
	if err := l.connected(ctx); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, l.patience)
	defer cancel()
	if msg.Header == nil {
		msg.Header = nats.Header{}
	}
	crashpoint.Hit("eventlog.before_publish")
	ack, err := l.js.PublishMsg(ctx, msg, jetstream.WithExpectStream(stream), jetstream.WithExpectLastSequenceForSubject(last, filter))
	switch {
	case err != nil:
		return 0, writeError(err)
	case ack.Duplicate || ack.Stream != stream:
		return 0, &UnknownError{Err: fmt.Errorf("acknowledged as a duplicate, or by stream %q", ack.Stream)}
	}
	crashpoint.Hit("eventlog.published")
	return ack.Sequence, nil
}

// connected waits a moment for a connection that is being made again. Without it the client would keep the message in
// its buffer and send it at any time later.
func (l *Log) connected(ctx context.Context) error {
	if l.nc.IsConnected() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, connectWait)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: the connection is %s", ErrUnavailable, l.nc.Status())
		case <-tick.C:
			if l.nc.IsConnected() {
				return nil
			}
			if l.nc.IsClosed() {
				return fmt.Errorf("%w: %w", ErrUnavailable, nats.ErrConnectionClosed)
			}
		}
	}
}

// attempt is an event that was sent and whose answer was lost.
type attempt struct {
	last   uint64 // its guard
	digest string
}

// Update is the one way to change an entity: load its last event, let decide say what comes next, append it under the
// guard; on a lost guard or an unknown result load again from the leader and decide again, until decide says nothing
// (nil, nil), or refuses, or the append is acknowledged. It returns the entity's entry as it then is (the zero Entry
// if it does not exist) and whether this call appended.
//
// decide is called with nil for an entity that does not exist. It may be called several times and must answer nil when
// the effect is already there. Its error is returned as it is. Else the errors are those of [Log.Append], without
// [ErrConflict] unless 100 attempts were lost; it gives up after 20 s or with ctx.
//
// A crash after the append leaves the event stored and its caller without an answer: the caller's redelivery decides
// again and finds the effect there.
func (l *Log) Update(ctx context.Context, entity events.Entity, id string,
	decide func(last *events.Event) (*events.Event, error),
) (e Entry, appended bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, updateTimeout)
	defer cancel()
	// A direct get may answer from a replica that lags, and "nothing to do" would be decided on the past.
	load := l.Load
	if l.replicated {
		load = l.LoadFromLeader
	}
	var open []attempt
	for try := 0; ; try++ {
		e, err = load(ctx, entity, id)
		if errors.Is(err, ErrNotFound) {
			e, err = Entry{}, nil
		}
		if err == nil && len(open) > 0 {
			var ours bool
			if open, ours, err = l.resolve(ctx, entity, id, open); ours && err == nil {
				e, err = l.LoadFromLeader(ctx, entity, id)
				return e, true, err
			}
		}
		if err == nil {
			var done bool
			if e, open, appended, done, err = l.decideOnce(ctx, entity, id, e, open, decide); done {
				return e, appended, err
			}
		}
		if !retryable(err) || try >= updateAttempts || !pause(ctx, try) {
			return Entry{}, false, unresolved(err, open)
		}
		load = l.LoadFromLeader
	}
}

// decideOnce is one turn of Update's loop; done says that the loop ends here.
func (l *Log) decideOnce(ctx context.Context, entity events.Entity, id string, e Entry, open []attempt,
	decide func(last *events.Event) (*events.Event, error),
) (_ Entry, _ []attempt, appended, done bool, err error) {
	ev, err := decide(e.Event)
	if (err != nil || ev == nil) && len(open) > 0 {
		// Decided otherwise than before, and what was decided before may still arrive.
		return Entry{}, open, false, true, &UnknownError{Err: errOpen}
	}
	if err != nil || ev == nil {
		return e, open, false, true, err
	}
	if ev.Entity() != entity || ev.Subject != id {
		return e, open, false, true, fmt.Errorf("update %s %s: decided on %s %s", entity, id, ev.Type, ev.Subject)
	}
	sequence, raw, err := l.append(ctx, ev, e.Sequence)
	if err == nil {
		return Entry{Event: ev, Sequence: sequence, Raw: raw}, open, true, true, nil
	}
	if isUnknown(err) {
		open = append(open, attempt{last: e.Sequence, digest: events.Digest(raw)})
	}
	return e, open, false, false, err
}

// resolve asks what became of events whose answers were lost. Who won a guard at sequence n is the entity's next event
// after n, and that never changes; where there is none yet, the event may still be under way and stays open.
func (l *Log) resolve(ctx context.Context, entity events.Entity, id string, open []attempt) (still []attempt, ours bool, err error) {
	filter, err := l.entityFilter(entity, id)
	if err != nil {
		return open, false, err
	}
	for _, a := range open {
		winner, err := l.fromLeader(ctx, l.stream(streamLog), getRequest{Sequence: a.last + 1, Next: filter})
		switch {
		case errors.Is(err, ErrNotFound):
			still = append(still, a)
		case err != nil:
			return open, false, err
		case events.Digest(winner.Data) == a.digest:
			return nil, true, nil
		}
	}
	return still, false, nil
}

// errOpen says why nothing can be answered: the guard of an event that was sent is not lost yet.
var errOpen = errors.New("an event that was sent earlier may still be under way")

// retryable tells whether trying again can help.
func retryable(err error) bool {
	return !errors.Is(err, nats.ErrConnectionClosed) &&
		(errors.Is(err, ErrConflict) || isUnknown(err) || errors.Is(err, ErrUnavailable))
}

// unresolved makes any error an [*UnknownError] while an event may still be under way.
func unresolved(err error, open []attempt) error {
	if len(open) == 0 || isUnknown(err) {
		return err
	}
	return &UnknownError{Err: err}
}

// pause waits a growing, jittered moment; false says that ctx ended.
func pause(ctx context.Context, try int) bool {
	most := min(retryFirst<<min(try, 10), retryMost)
	t := time.NewTimer(rand.N(most) + time.Millisecond) //nolint:gosec // G404: jitter, not a secret
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
