package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// The headers of a replayed event.
const (
	HeaderSequence = "Paykit-Sequence" // where it stands in the log
	HeaderTime     = "Paykit-Time"     // when it was decided, RFC 3339
)

// SubjectError says why events are not replayed to a subject.
type SubjectError struct{ Subject, Reason string }

func (e *SubjectError) Error() string { return fmt.Sprintf("subject %q: %s", e.Subject, e.Reason) }

// flushEach is after how many events the server is asked whether it has them.
const flushEach = 1000

// askWait bounds one question to the server.
const askWait = 5 * time.Second

// Publisher publishes events to subjects of their own under one, for whoever listens there. It is plain NATS: JetStream is
// not needed, and nothing acknowledges.
type Publisher struct {
	nc      *nats.Conn
	subject string
	n       int
}

// NewPublisher refuses, with a [*SubjectError], subjects that live subscribers, a log or the server itself listen to: those
// under the prefix of an installation, on this server any, and those that have a meaning of their own.
func NewPublisher(ctx context.Context, nc *nats.Conn, prefix, subject string) (*Publisher, error) {
	if reason := unfitSubject(prefix, subject); reason != "" {
		return nil, &SubjectError{Subject: subject, Reason: reason}
	}
	first, _, _ := strings.Cut(subject, ".")
	taken, err := installation(ctx, nc, first)
	if err != nil {
		return nil, fmt.Errorf("is %q an installation's prefix: %w", first, err)
	}
	if taken {
		return nil, &SubjectError{Subject: subject, Reason: strconv.Quote(first) + " is the prefix of another installation"}
	}
	return &Publisher{nc: nc, subject: subject}, nil
}

// unfitSubject says what is wrong with a subject by itself, "" if nothing is.
func unfitSubject(prefix, subject string) string {
	tokens := strings.Split(subject, ".")
	for _, token := range tokens {
		switch {
		case token == "":
			return "no token of it may be empty"
		case strings.ContainsAny(token, "*>"):
			return "it must name one place, without the wildcards * and >"
		case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r == 0x7f }):
			return "no space or control character may stand in it"
		}
	}
	switch first := tokens[0]; {
	case first == prefix:
		return "what is under " + prefix + ". goes to live subscribers and into the log; take another first token, as replay." + subject
	case strings.HasPrefix(first, "$"):
		return "subjects that begin with $ are the server's own"
	case strings.HasPrefix(first, "_INBOX"), strings.HasPrefix(first, "_R_"):
		return "that is where answers go"
	}
	return ""
}

// installation tells whether a subject's first token is the prefix of an installation on this server: whether a stream takes
// in what is published under its log.
func installation(ctx context.Context, nc *nats.Conn, first string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	body, err := json.Marshal(map[string]string{"subject": first + ".log.*.*.*.*"})
	if err != nil {
		return false, err //nolint:wrapcheck // of two strings: can't happen
	}
	msg, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.NAMES", body)
	if errors.Is(err, nats.ErrNoResponders) {
		return false, nil // no JetStream, no installation
	}
	if err != nil {
		return false, err //nolint:wrapcheck // the caller says what it was
	}
	var answer struct {
		Streams []string `json:"streams"`
		Error   *struct {
			Code        int    `json:"code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return false, err //nolint:wrapcheck // the caller says what it was
	}
	if answer.Error != nil && answer.Error.Code != 503 { // 503: JetStream is off
		return false, fmt.Errorf("%w: %s", errors.ErrUnsupported, answer.Error.Description)
	}
	return len(answer.Streams) > 0, nil
}

// Give publishes an event.
func (p *Publisher) Give(ctx context.Context, e Event) error {
	msg := &nats.Msg{
		Subject: strings.Join([]string{p.subject, e.Entity, e.Name, e.Customer}, "."), Data: e.Raw,
		Header: nats.Header{
			HeaderSequence: {strconv.FormatUint(e.Sequence, 10)}, HeaderTime: {e.Time.UTC().Format(time.RFC3339Nano)},
		},
	}
	if err := p.nc.PublishMsg(msg); err != nil {
		return fmt.Errorf("publish to %s: %w", msg.Subject, err)
	}
	if p.n++; p.n%flushEach == 0 {
		return p.Flush(ctx)
	}
	return nil
}

// Flush returns when the server has all that was published, and says if it refused it.
func (p *Publisher) Flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	if err := p.nc.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("publish to %s: %w", p.subject, err)
	}
	if err := p.nc.LastError(); errors.Is(err, nats.ErrPermissionViolation) {
		return fmt.Errorf("publish to %s: %w", p.subject, err)
	}
	return nil
}
