package history

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/verify"
)

// ErrNotEmpty says that the log has events that the file does not begin with, or that were not imported.
var ErrNotEmpty = errors.New("only an empty log can be imported into, or one that holds the first events of this file because an import of it was interrupted")

// Imported is what an import did.
type Imported struct {
	Events   uint64 `json:"events"`   // in the file
	Appended uint64 `json:"appended"` // by this import; the others were there
	Entities int    `json:"entities"`
	Links    int    `json:"links"` // put back
}

// Progress is told how far the work is: checking, or appending.
type Progress func(doing string, done, of uint64)

// Import takes a whole log, as [Replay] wrote it, into an installation whose log is empty: with the same events at the same
// sequences its views are the same. The whole file is checked before anything is written ([ErrNotWhole]). The events are
// history: no worker does anything about them, whenever it sees them.
//
// Repeated after an interruption, it goes on where it was. It needs the rights of an administrator, and the right to write
// to the log.
func Import(ctx context.Context, log *eventlog.Log, file io.ReadSeeker, progress Progress) (Imported, error) {
	r, newest, err := check(ctx, log, file, progress)
	if err != nil {
		return Imported{}, err
	}
	there, err := present(ctx, log, file, r.Events, progress)
	if err != nil {
		return Imported{}, err
	}
	if there < r.Events {
		r.Appended = r.Events - there
		if err := appendAll(ctx, log, file, there, r.Events, newest, progress); err != nil {
			return Imported{}, err
		}
	}
	// A crash before this leaves links missing: the next import, or provisioning, puts them back.
	if r.Links, err = eventlog.RebuildLinks(ctx, log); err != nil {
		return Imported{}, fmt.Errorf("import: %w", err)
	}
	return r, nil
}

// check reads the file once, and holds each event against the rules that a log keeps, since what is in the log stays there.
func check(ctx context.Context, log *eventlog.Log, file io.ReadSeeker, progress Progress) (r Imported, newest uint64, err error) {
	l, err := rewound(file)
	if err != nil {
		return Imported{}, 0, err
	}
	rules := verify.NewStream(log.Prefix())
	for {
		e, raw, err := l.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = errors.Join(ctx.Err(), l.keeps(log, rules, e, raw))
		}
		if err != nil {
			return Imported{}, 0, err
		}
		progress("checked", l.line, 0)
	}
	if l.line == 0 {
		return Imported{}, 0, fmt.Errorf("the file has no event: %w", ErrNotWhole)
	}
	return Imported{Events: l.line, Entities: len(l.entities)}, l.newest, nil
}

// keeps holds an event against the rules.
func (l *lines) keeps(log *eventlog.Log, rules *verify.Stream, e *events.Event, raw []byte) error {
	subject, err := log.SubjectOf(e)
	if err != nil {
		return l.wrong("%v", err)
	}
	rules.Take(eventlog.Entry{Event: e, Sequence: l.line, Subject: subject, Raw: raw})
	if problems := rules.Report().Problems; len(problems) > 0 {
		return l.wrong("%s of %s: %s", e.Type, e.Subject, problems[0].Problem)
	}
	return nil
}

func rewound(file io.ReadSeeker) (*lines, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read the file again: %w", err)
	}
	return newLines(file), nil
}

// present compares what the log has with the file's beginning, byte for byte, and answers how many events that are.
func present(ctx context.Context, log *eventlog.Log, file io.ReadSeeker, n uint64, progress Progress) (uint64, error) {
	info, err := log.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("import: %w", err)
	}
	there := info.LastSequence
	if there == 0 {
		return 0, nil
	}
	marked, err := log.Imported(ctx)
	if err != nil {
		return 0, fmt.Errorf("import: %w", err)
	}
	if there > n {
		return 0, fmt.Errorf("the log has %d events, the file %d: %w", there, n, ErrNotEmpty)
	}
	if there > marked && there < n {
		// What stands there was decided here, and a worker may still have to do something about it.
		return 0, fmt.Errorf("the log has %d events that were not imported: %w", there-marked, ErrNotEmpty)
	}
	l, err := rewound(file)
	if err != nil {
		return 0, err
	}
	err = log.Range(ctx, eventlog.HistoryFilter{}, 1, there, func(s eventlog.Stored) error {
		b, err := l.raw()
		if err != nil {
			return err
		}
		if !bytes.Equal(b, s.Raw) {
			return fmt.Errorf("the event at sequence %d is another in the file: %w", s.Sequence, ErrNotEmpty)
		}
		progress("compared", s.Sequence, there)
		return nil
	})
	return there, err
}

// appendAll appends what is behind the first events of the file.
func appendAll(ctx context.Context, log *eventlog.Log, file io.ReadSeeker, there, n, newest uint64, progress Progress) error {
	if err := log.ReserveRevisions(ctx, newest); err != nil {
		return fmt.Errorf("import: %w", err)
	}
	// Before the first event, so that the mark is there whatever happens afterwards. A crash right after it leaves a mark and
	// an empty log, which works as one without a mark: what a worker lets be are the events that say themselves that they
	// were imported.
	if err := log.SetImported(ctx, n); err != nil {
		return fmt.Errorf("import: %w", err)
	}
	l, err := rewound(file)
	if err != nil {
		return err
	}
	for range there {
		if _, _, err := l.next(); err != nil {
			return err
		}
	}
	next := func() (*events.Event, []byte, error) {
		if err := ctx.Err(); err != nil {
			return nil, nil, err //nolint:wrapcheck // the caller's own
		}
		return l.next()
	}
	err = log.Import(ctx, there, next, func(stored uint64) { progress("stored", stored, n) })
	if errors.Is(err, eventlog.ErrConflict) {
		err = fmt.Errorf("something else was appended meanwhile; stop ingest and worker, and apps: %w", err)
		if info, infoErr := log.Info(ctx); infoErr == nil && there == 0 && info.LastSequence > 0 {
			if first, readErr := log.FirstImported(ctx); readErr == nil && !first {
				err = errors.Join(err, log.SetImported(ctx, 0)) // nothing was imported
			}
		}
	}
	return err
}
