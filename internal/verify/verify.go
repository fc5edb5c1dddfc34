package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// MaxProblems is how many problems a report holds. The walk ends there: a log with more is not looked through for
// details.
const MaxProblems = 1000

// patience is how long nothing may come of a log that is not at its end.
const patience = 5 * time.Second

// Options say how to walk. The zero value is fine.
type Options struct {
	Patience time.Duration             // until a log that yields nothing more is asked why; 0 = 5 s
	Progress func(sequence, of uint64) // told after each batch; nil = nobody
	Grace    time.Duration             // how long a link may be there without its event; 0 = 10 min
	Books    bool                      // keep what the log says of money, for [Report.Ledger]: about 300 bytes a charge
}

// Problem is one thing that is wrong with the log. Entity and ID are "" where it is about no single entity.
type Problem struct {
	Sequence uint64 `json:"sequence"` // where it shows
	Entity   string `json:"entity"`
	ID       string `json:"id"`
	Problem  string `json:"problem"`
}

// Report is what [Log] found.
type Report struct {
	OK           bool      `json:"ok"`           // no problems
	LastSequence uint64    `json:"lastSequence"` // where the log ended when the walk began
	Events       uint64    `json:"events"`       // that were read
	Entities     int       `json:"entities"`     // that they are of
	Problems     []Problem `json:"problems"`     // in the order of the log, at most [MaxProblems]

	books *books // nil = not kept
}

// Add puts a problem on the report, which is not OK from then on.
func (r *Report) Add(p Problem) {
	r.OK = false
	r.Problems = append(r.Problems, p)
}

// Log walks the log from its first event to where it ends now. Damage is reported and walked past; an error says that the
// walk itself failed: ctx ended, the server can't be reached, the stream was made anew meanwhile.
func Log(ctx context.Context, log *eventlog.Log, o Options) (*Report, error) {
	if o.Patience == 0 {
		o.Patience = patience
	}
	if o.Grace == 0 {
		o.Grace = grace
	}
	if o.Progress == nil {
		o.Progress = func(uint64, uint64) {}
	}
	info, err := log.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	w := &walk{
		Options: o, log: log, next: 1, last: info.LastSequence,
		check: newChecker(log.Prefix(), &Report{OK: true, LastSequence: info.LastSequence, Problems: []Problem{}}),
	}
	if o.Books {
		w.check.report.books = newBooks()
	}
	if err := w.run(ctx); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	if err := w.witnesses(ctx); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	w.check.report.Entities = len(w.check.entities)
	return w.check.report, nil
}

// Entries checks a log that is at hand from its first event to its last, by the same rules as [Log], and keeps what it
// says of money for [Report.Ledger].
func Entries(prefix string, entries []eventlog.Entry) *Report {
	s := NewStream(prefix)
	s.check.report.books = newBooks()
	for _, e := range entries {
		s.Take(e)
	}
	return s.Report()
}

// Stream checks a log that is handed over event by event, from its first to its last, by the same rules as [Log].
type Stream struct{ check *checker }

// NewStream begins with an empty log whose subjects have a prefix.
func NewStream(prefix string) *Stream {
	return &Stream{check: newChecker(prefix, &Report{OK: true, Problems: []Problem{}})}
}

// Take checks the next event. Behind [MaxProblems] it looks at nothing any more.
func (s *Stream) Take(e eventlog.Entry) {
	r := s.check.report
	if len(r.Problems) >= MaxProblems {
		return
	}
	if want := r.LastSequence + 1; e.Sequence != want {
		r.Add(Problem{Sequence: want, Problem: fmt.Sprintf("missing: the log goes on with event %d", e.Sequence)})
	}
	r.LastSequence = e.Sequence
	s.check.entry(e)
}

// Report is what was found so far.
func (s *Stream) Report() *Report {
	s.check.report.Entities = len(s.check.entities)
	return s.check.report
}

// walk is one way through the log.
type walk struct {
	Options
	log    *eventlog.Log
	check  *checker
	next   uint64 // sequence
	last   uint64
	stalls int // in a row
}

var (
	errReached = errors.New("the end is reached")
	errStalled = errors.New("the log is not read to its end: nothing more comes")
)

// run follows the log and goes on behind everything that ends following it.
func (w *walk) run(ctx context.Context) error {
	for w.next <= w.last && len(w.check.report.Problems) < MaxProblems {
		err := w.follow(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if w.next > w.last { // also if patience was over in the moment in which the end was reached
			return nil
		}
		if gap, ok := errors.AsType[*eventlog.GapError](err); ok && gap.Got > gap.Want {
			w.missing(gap.Got - 1)
			continue
		}
		if bad, ok := errors.AsType[*eventlog.UnreadableError](err); ok {
			w.unreadable(bad)
			if err := w.singly(ctx); err != nil {
				return err
			}
			continue
		}
		if errors.Is(err, errStalled) {
			err = w.stalled(ctx)
		}
		if err != nil && !errors.Is(err, errReached) {
			return err
		}
	}
	return nil
}

// follow reads until the end or whatever comes before it.
func (w *walk) follow(ctx context.Context) error {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(w.Patience, func() { cancel(errStalled) })
	defer watch.Stop()
	err := w.log.Follow(inner, w.next, func(b eventlog.Batch) error {
		defer watch.Reset(w.Patience)
		for _, e := range b.Entries {
			w.check.entry(e)
			w.stalls = 0
			w.next = e.Sequence + 1
			if w.next > w.last || len(w.check.report.Problems) >= MaxProblems {
				return errReached
			}
		}
		w.Progress(w.next-1, w.last)
		return nil
	})
	if cause := context.Cause(inner); ctx.Err() == nil && errors.Is(cause, errStalled) && !errors.Is(err, errReached) {
		return errStalled
	}
	return err //nolint:wrapcheck // run looks at what it is
}

func (w *walk) unreadable(bad *eventlog.UnreadableError) {
	w.check.unreadable(bad)
	w.next = bad.Sequence + 1
}

// singles is how many events are read one by one behind one that can't be read: where one is, there are often more, and
// following costs the server a new reader each time.
const singles = 64

// singly reads some events one by one. What it can't get is left to following.
func (w *walk) singly(ctx context.Context) error {
	for range singles {
		if w.next > w.last || len(w.check.report.Problems) >= MaxProblems {
			return nil
		}
		e, err := w.log.Read(ctx, w.next)
		if bad, ok := errors.AsType[*eventlog.UnreadableError](err); ok {
			w.unreadable(bad)
			continue
		}
		if errors.Is(err, eventlog.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err //nolint:wrapcheck // says what it was
		}
		w.check.entry(e)
		w.next = e.Sequence + 1
	}
	return nil
}

// missing reports the events from the next to the one at a sequence.
func (w *walk) missing(to uint64) {
	to = min(to, w.last)
	w.check.report.Add(Problem{Sequence: w.next, Problem: fmt.Sprintf("missing: the log has no events %d to %d", w.next, to)})
	w.next = to + 1
}

// stalled finds out why nothing comes: there may be nothing, at the log's end, where no later event shows the gap.
func (w *walk) stalled(ctx context.Context) error {
	if w.stalls++; w.stalls > 3 {
		return errStalled
	}
	_, err := w.log.Read(ctx, w.next)
	if errors.Is(err, eventlog.ErrNotFound) {
		w.missing(w.last)
		return nil
	}
	if _, unreadable := errors.AsType[*eventlog.UnreadableError](err); unreadable {
		return nil
	}
	return err //nolint:wrapcheck // says what it was
}

// entity is all that is remembered of an entity: what its next event is held against.
type entity struct {
	version    int
	sequence   uint64 // of its last event
	digest     string // of its last event's bytes
	at         time.Time
	status     string
	ended      bool     // no event may follow
	values     []uint64 // of the facts that have rules, in their order
	refunds    []part
	disputes   []part
	retry      *rungs
	warnings   []part
	payment    uint64 // the claim on the provider's payment
	review     uint64 // that stands; 0 = none
	reason     string // of the review
	resolved   bool   // by an operator
	superseded bool   // its first payment, by another
	second     bool   // known to be a second payment
}

// checker holds one event after the other against what came before.
type checker struct {
	prefix   string
	report   *Report
	entities map[string]*entity
	claims   map[uint64]string // what belongs to one entity only → its id
}

func newChecker(prefix string, r *Report) *checker {
	return &checker{prefix: prefix, report: r, entities: map[string]*entity{}, claims: map[uint64]string{}}
}

// step is one event on its way through the rules.
type step struct {
	*checker
	entry eventlog.Entry
	ev    *events.Event
	was   *entity // as before the event; nil for an entity's first
	is    *entity
}

// problem reports what is wrong with the event.
func (s *step) problem(format string, args ...any) {
	s.report.Add(Problem{
		Sequence: s.entry.Sequence, Entity: string(s.ev.Entity()), ID: s.ev.Subject, Problem: fmt.Sprintf(format, args...),
	})
}

// entry checks one event and remembers it.
func (c *checker) entry(e eventlog.Entry) {
	c.report.Events++
	key := string(e.Event.Entity()) + " " + e.Event.Subject
	s := &step{checker: c, entry: e, ev: e.Event, was: c.entities[key]}
	s.is = &entity{version: e.Event.EntityVersion, sequence: e.Sequence, digest: e.Event.Digest(), at: e.Event.Time}
	if s.was != nil && s.was.values != nil {
		s.is.payment = s.was.payment
	}
	s.envelope()
	s.chain()
	s.snapshot()
	if s.was == nil {
		c.entities[key] = s.is
		return
	}
	*s.was = *s.is
}

// unreadable reports an event that can't be read, and goes on behind it as if it were well.
func (c *checker) unreadable(bad *eventlog.UnreadableError) {
	c.report.Events++
	p := Problem{Sequence: bad.Sequence, Problem: fmt.Sprintf("unreadable: %v", bad.Err)}
	if errors.Is(bad.Err, events.ErrMalformed) {
		p.Problem = "unreadable: " + events.ErrMalformed.Error() // what the decoder says may repeat what is stored
	}
	if tokens := strings.Split(bad.Subject, "."); len(tokens) == subjectTokens {
		p.Entity, p.ID = tokens[2], tokens[4]
		e := c.entities[p.Entity+" "+p.ID]
		if e == nil {
			e = &entity{}
			c.entities[p.Entity+" "+p.ID] = e
		}
		e.version++
		e.sequence, e.digest = bad.Sequence, events.Digest(bad.Raw)
	}
	c.report.Add(p)
}
