package eventlog

import (
	"context"
	"errors"
	"time"
)

// strays finds commands that never arrive. A message with headers and without a body looks to the client library like a
// word of the server's: by its header "Status" it is swallowed, or ends the subscription ("Status: 400"), each time that
// it is delivered. Every app may leave one in the queue, so they are read from the stream and handled beside the rest.
type strays struct {
	l      *Log
	stream string
	work   *lanes
	due    chan struct{}
	next   uint64 // the first sequence that was not looked at; of run's goroutine
}

const (
	straysEvery  = 30 * time.Second
	headerStatus = "Status"
)

func newStrays(l *Log, stream string, work *lanes) *strays {
	return &strays{l: l, stream: stream, work: work, due: make(chan struct{}, 1), next: 1}
}

// look has the stream looked through soon.
func (s *strays) look() {
	select {
	case s.due <- struct{}{}:
	default:
	}
}

// run looks through the stream now and then, until ctx ends.
func (s *strays) run(ctx context.Context) {
	t := time.NewTicker(straysEvery)
	defer t.Stop()
	for {
		if err := s.handle(ctx); err != nil && ctx.Err() == nil {
			s.work.o.Logger.Warn().Err(err).Str("stream", s.stream).Msg("looking for strays failed")
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-s.due:
		}
	}
}

// handle handles the strays among the messages that were not looked at. One that is to be tried again stays the next one.
func (s *strays) handle(ctx context.Context) error {
	for {
		// From the leader, whose answer keeps the message's own headers apart from the server's.
		m, err := s.l.fromLeader(ctx, s.stream, getRequest{Sequence: s.next, Next: s.l.subject("cmd", ">")})
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if s.next = m.Sequence; len(m.Data) == 0 && m.Header.Get(headerStatus) != "" {
			r := s.work.handle(Message{Stream: s.stream, Sequence: m.Sequence, Subject: m.Subject, Header: m.Header, Attempt: 1, Time: m.Time})
			if r.verdict == verdictRetry {
				return nil
			}
			if err := s.l.erase(ctx, s.stream, m.Sequence); err != nil {
				return err
			}
		}
		s.next = m.Sequence + 1
	}
}
