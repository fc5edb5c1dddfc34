package history

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/paykit-go/paykit/internal/events"
)

// maxLine is the most that an event may have, in bytes.
const maxLine = 256 << 10

// ErrNotWhole says that a file is not what a replay of a whole log is.
var ErrNotWhole = errors.New("this is not a whole log, from its first event on, as `paykit replay --file` writes it")

// lines reads a file of events, one a line, and checks that they are a log's: from its first event on, nothing left out,
// nothing changed.
type lines struct {
	in       *bufio.Reader
	line     uint64 // of the last one read; it is also its sequence
	entities map[string]end
	// newest is the highest profile revision that a customer's event names.
	newest uint64
}

// end is how far an entity is.
type end struct {
	version int
	digest  string
}

func newLines(r io.Reader) *lines {
	return &lines{in: bufio.NewReaderSize(r, maxLine+2), entities: map[string]end{}}
}

// raw reads the next line, without its end. It is io.EOF behind the last. The bytes are valid until the next call.
func (l *lines) raw() ([]byte, error) {
	b, err := l.in.ReadSlice('\n')
	l.line++
	switch {
	case errors.Is(err, io.EOF) && len(b) == 0:
		l.line--
		return nil, io.EOF
	case errors.Is(err, io.EOF):
		return nil, l.wrong("the line has no end: the file was cut off")
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, l.wrong("the line is longer than an event can be")
	case err != nil:
		return nil, fmt.Errorf("line %d: %w", l.line, err)
	}
	return b[:len(b)-1], nil
}

func (l *lines) wrong(format string, args ...any) error {
	return fmt.Errorf("line %d: %s: %w", l.line, fmt.Sprintf(format, args...), ErrNotWhole)
}

// next reads the next event and the bytes that it is stored as; io.EOF behind the last.
func (l *lines) next() (*events.Event, []byte, error) {
	b, err := l.raw()
	if err != nil {
		return nil, nil, err
	}
	if len(b) > maxLine || len(b) == 0 || b[0] != '{' || b[len(b)-1] != '}' {
		return nil, nil, l.wrong("it is not one event, exactly as it was stored")
	}
	raw := bytes.Clone(b)
	ev, err := events.Decode(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("line %d: %w", l.line, err)
	}
	if !events.ValidID(ev.Entity(), ev.Subject) {
		return nil, nil, l.wrong("%q is no id of a %s", ev.Subject, ev.Entity())
	}
	was := l.entities[ev.Subject]
	switch {
	case ev.EntityVersion != was.version+1:
		return nil, nil, l.wrong("%s of %s has version %d, and the one before it in the file %d", ev.Type, ev.Subject, ev.EntityVersion, was.version)
	case ev.PreviousDigest != was.digest:
		return nil, nil, l.wrong("%s of %s does not follow on the event of %s before it, which was changed", ev.Type, ev.Subject, ev.Subject)
	}
	// Every event of a customer follows the customer's own. A refused command may name one that never was.
	if owner := ev.CustomerID(); owner != "" && ev.Entity() != events.EntityCommand && ev.Subject != owner && l.entities[owner].version == 0 {
		return nil, nil, l.wrong("%s of %s belongs to %s, who is not in the file before it", ev.Type, ev.Subject, owner)
	}
	l.entities[ev.Subject] = end{version: ev.EntityVersion, digest: ev.Digest()}
	if ev.Entity() == events.EntityCustomer {
		l.newest = max(l.newest, ev.Data.Customer.ProfileRevision)
	}
	return ev, raw, nil
}
