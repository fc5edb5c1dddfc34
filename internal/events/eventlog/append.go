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

// SubjectOf is where an event is stored. No token comes from outside: the ids are checked to be ours.
func (l *Log) SubjectOf(ev *events.Event) (string, error) {
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
func (l *Log) parseSubject(subject string) (typ events.Type, id string, ok bool) {
	rest, found := strings.CutPrefix(subject, l.cfg.Prefix+".log.")
	tokens := strings.Split(rest, ".")
	if !found || len(tokens) != 4 {
		return "", "", false
	}
	return events.Type(tokens[0] + "." + tokens[1]), tokens[2], true
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
	subject, err := l.SubjectOf(ev)
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

// Update is the one way to change an entity: see [Change], which it is on this log. It gives up after 20 s or with ctx.
func (l *Log) Update(ctx context.Context, entity events.Entity, id string,
	decide func(last *events.Event) (*events.Event, error),
) (e Entry, appended bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, updateTimeout)
	defer cancel()
	return Change(ctx, guarded{l}, entity, id, decide)
}

// UpdateFrom is [Log.Update] that does not read what its caller knows already: see [ChangeFrom].
func (l *Log) UpdateFrom(ctx context.Context, entity events.Entity, id string, known Entry,
	decide func(last *events.Event) (*events.Event, error),
) (e Entry, appended bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, updateTimeout)
	defer cancel()
	return ChangeFrom(ctx, guarded{l}, entity, id, known, decide)
}

// guarded is what [Change] needs of a Log.
type guarded struct{ *Log }

// Load may be answered by a replica that lags, and "nothing to do" would be decided on the past.
func (g guarded) Load(ctx context.Context, entity events.Entity, id string) (Entry, error) {
	if g.replicated {
		return g.LoadFromLeader(ctx, entity, id)
	}
	return g.Log.Load(ctx, entity, id)
}

func (g guarded) Store(ctx context.Context, ev *events.Event, last uint64) (uint64, []byte, error) {
	return g.append(ctx, ev, last)
}

func (g guarded) Successor(ctx context.Context, entity events.Entity, id string, after uint64) ([]byte, error) {
	filter, err := g.entityFilter(entity, id)
	if err != nil {
		return nil, err
	}
	m, err := g.fromLeader(ctx, g.stream(streamLog), getRequest{Sequence: after + 1, Next: filter})
	return m.Data, err
}

func (guarded) Pause(ctx context.Context, try int) bool { return pause(ctx, try) }

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
