package eventlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/paykit-go/paykit/internal/events"
)

// The stages that set messages aside.
const (
	StageWorker     = "worker"     // a request event of the LOG
	StageSettle     = "settle"     // an event of the LOG that left something open
	StageNormalizer = "normalizer" // a delivery of the INBOX
	StageCommands   = "commands"   // a queued command
)

// stageDecision stands in the place of a stage in the subject of a decision.
const stageDecision = "decision"

// DeadLetter is a message set aside after its last attempt: a reference to it, the reason, the attempts. Reason and
// History must hold no personal data.
type DeadLetter struct {
	Stage      string `json:"stage"` // "worker", "settle", "normalizer", "commands"
	ID         string `json:"id"`    // what it is known by: an event's, delivery's or command's id
	CustomerID string `json:"customerId,omitempty"`
	Stream     string `json:"stream"`
	Sequence   uint64 `json:"sequence"`
	Subject    string `json:"subject"`
	Body       []byte `json:"body,omitempty"` // of a command only, which leaves its own stream
	// Header is of a command only: the headers that make it the same command when it is put back, with the key under which
	// it was tried. A letter of an older version has none.
	Header   map[string][]string `json:"header,omitempty"`
	Reason   string              `json:"reason"`
	Attempts int                 `json:"attempts"`
	History  []Failure           `json:"history,omitempty"` // oldest first, at most 10: the first and the last
	RetryOf  uint64              `json:"retryOf,omitempty"` // the letter, by its sequence in DEAD, whose retry failed again
	At       time.Time           `json:"at"`
}

// DeadEntry is a dead letter, where it stands in DEAD, and what was decided about it.
type DeadEntry struct {
	DeadLetter
	Sequence uint64
	Decision *Decision // nil = open
}

const (
	maxReason  = 500 // bytes of a reason that are kept
	maxHistory = 10  // attempts that are kept: the first ones show how it began, the last ones how it ended
)

// deadToken is the letter's id in its subject. The retry of a letter may fail as it did, which is another letter; no
// [events.Token] holds a "~".
func deadToken(d DeadLetter) string {
	if d.RetryOf == 0 {
		return events.Token(d.ID)
	}
	return events.Token(d.ID) + "~" + strconv.FormatUint(d.RetryOf, 10)
}

// Bury stores a dead letter; the caller then ends the message itself. The same letter twice is one: a crash between
// the two repeats both. A reason over 500 bytes is cut, a history over 10 attempts loses those in its middle. Its errors
// are [ErrStorageFull], [ErrUnavailable] and [*UnknownError].
func (l *Log) Bury(ctx context.Context, d DeadLetter) error {
	if d.At.IsZero() {
		d.At = l.cfg.Now()
	}
	d = d.Bounded()
	body, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode a dead letter: %w", err)
	}
	subject := l.subject("dead", events.Token(d.Stage), deadToken(d), events.TokenOrNone(d.CustomerID))
	// Guarded by the id alone: whose it is may be known to one try and not to the next.
	filter := l.subject("dead", events.Token(d.Stage), deadToken(d), "*")
	if err := l.putOnce(ctx, streamDead, subject, filter, body, func(stored) error { return nil }); err != nil {
		return fmt.Errorf("bury %s: %w", d.ID, err)
	}
	return nil
}

// Bounded is a letter as it is stored: its reason and its history are cut to their lengths, its time is UTC.
func (d DeadLetter) Bounded() DeadLetter {
	d.At, d.Reason, d.History = d.At.UTC(), cut(d.Reason), bounded(d.History)
	return d
}

// cut shortens a reason, between two characters.
func cut(s string) string {
	if len(s) <= maxReason {
		return s
	}
	n := maxReason
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// bounded keeps the first two and the last attempts.
func bounded(list []Failure) []Failure {
	const first = 2
	if len(list) <= maxHistory {
		return list
	}
	return slices.Concat(list[:first], list[len(list)-maxHistory+first:])
}

// DeadLetters lists dead letters with what was decided about them, oldest first: those of a customer, or all of them
// for "". A letter that was erased after the decision about it is listed as the decision remembers it: without a body.
func (l *Log) DeadLetters(ctx context.Context, customerID string) ([]DeadEntry, error) {
	filter := l.subject("dead", "*", "*", "*")
	if customerID != "" {
		filter = l.subject("dead", "*", "*", events.Token(customerID))
	}
	list := []DeadEntry{}
	decisions := map[uint64]*Decision{}
	err := l.walk(ctx, l.stream(streamDead), filter, 1, func(m stored) (bool, error) {
		if _, ok := l.decisionOn(m.Subject); ok {
			d, err := decodeDecision(m)
			if err != nil {
				return false, err
			}
			decisions[d.Letter] = d
			return true, nil
		}
		e, err := decodeLetter(m)
		if err != nil {
			return false, err
		}
		list = append(list, e)
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("dead letters: %w", err)
	}
	for i := range list {
		list[i].Decision = decisions[list[i].Sequence]
		delete(decisions, list[i].Sequence)
	}
	for sequence, d := range decisions {
		list = append(list, DeadEntry{DeadLetter: d.About, Sequence: sequence, Decision: d})
	}
	slices.SortFunc(list, func(a, b DeadEntry) int { return int(a.Sequence) - int(b.Sequence) }) //nolint:gosec // G115: sequences are far below 2^63
	return list, nil
}

func decodeLetter(m stored) (DeadEntry, error) {
	e := DeadEntry{Sequence: m.Sequence}
	if err := json.Unmarshal(m.Data, &e.DeadLetter); err != nil {
		return DeadEntry{}, fmt.Errorf("dead letter %d can't be read", m.Sequence) // the error's text may quote what it read
	}
	return e, nil
}

// DeadLetter reads one letter from the leader, by its sequence in DEAD. It returns [ErrNotFound], also for one that
// was erased.
func (l *Log) DeadLetter(ctx context.Context, sequence uint64) (DeadEntry, error) {
	m, err := l.fromLeader(ctx, l.stream(streamDead), getRequest{Sequence: sequence})
	if err != nil {
		return DeadEntry{}, fmt.Errorf("dead letter %d: %w", sequence, err)
	}
	if _, ok := l.decisionOn(m.Subject); ok {
		return DeadEntry{}, fmt.Errorf("dead letter %d: %w", sequence, ErrNotFound)
	}
	return decodeLetter(m)
}

// DeadMessage reads the message that a letter refers to, from the leader. It returns [ErrNotFound] if it is gone, or if
// the letter refers to none because it holds the command itself.
func (l *Log) DeadMessage(ctx context.Context, d DeadLetter) (Message, error) {
	if d.Stream != l.stream(streamLog) && d.Stream != l.stream(streamInbox) {
		return Message{}, fmt.Errorf("message of dead letter %s: %w", d.ID, ErrNotFound)
	}
	m, err := l.fromLeader(ctx, d.Stream, getRequest{Sequence: d.Sequence})
	if err == nil && m.Subject != d.Subject {
		err = fmt.Errorf("%w: another message is in its place", ErrNotFound) // the stream was made anew
	}
	if err != nil {
		return Message{}, fmt.Errorf("message of dead letter %s: %w", d.ID, err)
	}
	return Message{
		Stream: d.Stream, Sequence: m.Sequence, Subject: m.Subject, Data: m.Data, Header: m.Header,
		Attempt: d.Attempts, Time: m.Time, upcasters: l.cfg.Upcasters,
	}, nil
}

// EraseDead securely deletes one message of DEAD; one that is gone already is fine.
func (l *Log) EraseDead(ctx context.Context, sequence uint64) error {
	return l.erase(ctx, l.stream(streamDead), sequence)
}

// EraseDelivery securely deletes one delivery; one that is gone already is fine.
func (l *Log) EraseDelivery(ctx context.Context, sequence uint64) error {
	return l.erase(ctx, l.stream(streamInbox), sequence)
}

// OpenLetters counts the dead letters about which nothing was decided. It reads what is new since its last count, and
// all of it from time to time, since a letter may also leave by erasure. It is for one goroutine.
type OpenLetters struct {
	l      *Log
	counts int
	next   uint64
	open   map[uint64]string // stage by sequence
}

// recount is after how many counts everything is read again.
const recount = 60

// OpenLetters begins to count.
func (l *Log) OpenLetters() *OpenLetters { return &OpenLetters{l: l} }

// Count gives how many are open, by stage; every stage is there.
func (o *OpenLetters) Count(ctx context.Context) (map[string]int, error) {
	if o.counts%recount == 0 {
		o.next, o.open = 1, map[uint64]string{}
	}
	err := o.l.walk(ctx, o.l.stream(streamDead), o.l.subject("dead", "*", "*", "*"), o.next, func(m stored) (bool, error) {
		o.next = m.Sequence + 1
		if letter, ok := o.l.decisionOn(m.Subject); ok {
			delete(o.open, letter)
		} else {
			stage, _, _ := strings.Cut(strings.TrimPrefix(m.Subject, o.l.subject("dead", "")), ".")
			o.open[m.Sequence] = stage
		}
		return true, nil
	})
	if err != nil {
		o.counts = 0
		return nil, fmt.Errorf("count dead letters: %w", err)
	}
	o.counts++
	n := map[string]int{StageWorker: 0, StageSettle: 0, StageNormalizer: 0, StageCommands: 0}
	for _, stage := range o.open {
		n[stage]++
	}
	return n, nil
}

// decisionOn tells whether a subject of DEAD is that of a decision, and about which letter.
func (l *Log) decisionOn(subject string) (letter uint64, ok bool) {
	rest, ok := strings.CutPrefix(subject, l.subject("dead", stageDecision, ""))
	if !ok {
		return 0, false
	}
	number, _, _ := strings.Cut(rest, ".")
	letter, err := strconv.ParseUint(number, 10, 64)
	return letter, err == nil
}

// errForeign says that something under a decision's subject is none.
var errForeign = errors.New("can't be read")
