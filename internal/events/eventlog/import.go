package eventlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/paykit-go/paykit/internal/events"
)

// HeaderImported stands on each event that was imported and not decided here: it is history, and nothing is to be done about
// it. It is stored with the event, so there is no moment at which a worker could see the one without the other.
const HeaderImported = "Paykit-Imported"

// metadataImported, in the LOG's stream metadata, is the sequence up to which the LOG is, or is to be, imported.
const metadataImported = "paykit_imported"

// Imported tells whether a message of the LOG came in by an import.
func (m Message) Imported() bool { return m.Header.Get(HeaderImported) != "" }

// Imported is the sequence up to which the LOG was imported, or is being imported; 0 if it was not.
func (l *Log) Imported(ctx context.Context) (uint64, error) {
	info, err := streamInfo(ctx, l.js, l.stream(streamLog))
	if err != nil {
		return 0, fmt.Errorf("what was imported: %w", err)
	}
	text := info.Config.Metadata[metadataImported]
	if text == "" {
		return 0, nil
	}
	sequence, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("what was imported: metadata %s: %w", metadataImported, err)
	}
	return sequence, nil
}

// SetImported writes down up to which sequence the LOG is to be imported; 0 takes that back. It needs the rights of an
// administrator.
func (l *Log) SetImported(ctx context.Context, last uint64) error {
	info, err := streamInfo(ctx, l.js, l.stream(streamLog))
	if err != nil {
		return fmt.Errorf("mark what is imported: %w", err)
	}
	config := info.Config
	config.Metadata = maps.Clone(config.Metadata)
	if config.Metadata == nil {
		config.Metadata = map[string]string{}
	}
	delete(config.Metadata, metadataImported)
	if last > 0 {
		config.Metadata[metadataImported] = strconv.FormatUint(last, 10)
	}
	if _, err := l.js.UpdateStream(ctx, config); err != nil {
		return fmt.Errorf("mark what is imported: %w", readError(err))
	}
	return nil
}

// ErrProfilesThere says that profiles are stored whose revisions could be taken for those that imported customers name.
var ErrProfilesThere = errors.New("there are profiles already, of customers that the log does not have")

// ReserveRevisions makes the next profile's revision come after all that imported events name: a revision is a sequence of
// PROFILES, and must never lead from a customer to somebody else's profile. Where it is not so already it returns
// [ErrProfilesThere] if there is any profile. It needs the rights of an administrator.
func (l *Log) ReserveRevisions(ctx context.Context, newest uint64) error {
	s, err := l.js.Stream(ctx, l.stream(streamProfiles))
	if err != nil {
		return fmt.Errorf("reserve profile revisions: %w", readError(err))
	}
	state := s.CachedInfo().State
	if state.LastSeq >= newest {
		return nil
	}
	if state.Msgs > 0 {
		return ErrProfilesThere
	}
	// Of a stream without messages nothing is purged: it only goes on counting from there.
	if err := s.Purge(ctx, jetstream.WithPurgeSequence(newest+1)); err != nil {
		return fmt.Errorf("reserve profile revisions: %w", readError(err))
	}
	return nil
}

// Import appends events as they are, the first right behind the sequence after, as history: [HeaderImported]. next gives
// one after the other, and io.EOF behind the last. Each is guarded by the sequence of the one before it, so nothing else
// gets in between: then the error is [ErrConflict], and what was appended stays. progress, if not nil, is told the sequence
// up to which they are stored.
//
// One is on its way at a time: if several were, an event of somebody else's would cost only the one whose place it takes,
// and the next would be stored behind it as if nothing were missing.
//
// A crash, or an error, at any point leaves the LOG with the first of the events and nothing else of them: importing the
// same again goes on behind these. It needs the right to write to the LOG.
func (l *Log) Import(ctx context.Context, after uint64, next func() (*events.Event, []byte, error), progress func(uint64)) error {
	for {
		ev, raw, err := next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = l.importOne(ctx, after, ev, raw)
		}
		if err != nil {
			return fmt.Errorf("import event %d: %w", after+1, err)
		}
		after++
		if progress != nil {
			progress(after)
		}
	}
}

func (l *Log) importOne(ctx context.Context, after uint64, ev *events.Event, raw []byte) error {
	subject, err := l.SubjectOf(ev)
	if err != nil {
		return err
	}
	if len(raw) > maxEvent {
		return fmt.Errorf("%w (%d bytes)", ErrTooLarge, len(raw))
	}
	if err := l.connected(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, l.patience)
	defer cancel()
	msg := &nats.Msg{Subject: subject, Data: raw, Header: nats.Header{HeaderImported: {"1"}}}
	stream := l.stream(streamLog)
	ack, err := l.js.PublishMsg(ctx, msg, jetstream.WithExpectStream(stream), jetstream.WithExpectLastSequence(after))
	switch {
	case err != nil:
		return writeError(err)
	case ack.Duplicate || ack.Stream != stream || ack.Sequence != after+1:
		return &UnknownError{Err: fmt.Errorf("acknowledged at %d by stream %q", ack.Sequence, ack.Stream)}
	}
	return nil
}

// RebuildLinks puts back the links that the LOG implies and that are missing, as [Provision] does, and answers how many.
func RebuildLinks(ctx context.Context, l *Log) (int, error) {
	p := &provisioner{js: l.js, cfg: l.cfg, report: &Report{}}
	n, err := p.rebuildLinks(ctx, l)
	if err != nil {
		return n, fmt.Errorf("rebuild the links: %w", err)
	}
	return n, nil
}

// FirstImported tells whether the LOG begins with an imported event.
func (l *Log) FirstImported(ctx context.Context) (bool, error) {
	m, err := l.fromLeader(ctx, l.stream(streamLog), getRequest{Sequence: 1})
	if err != nil {
		return false, fmt.Errorf("read the first event: %w", err)
	}
	return m.Header.Get(HeaderImported) != "", nil
}
