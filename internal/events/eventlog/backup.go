package eventlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/oklog/ulid/v2"
)

// How a backup that is made while everything runs is consistent, without stopping anything.
//
// The streams are read one after the other, each as it was when its turn came. That is sound because of the order, and
// because every input of PayKit (a delivery, a command, an event that asks for a call) may be worked on twice and must not
// be forgotten:
//
//  1. How far the durable consumers are, first. After a restore they begin behind that. What was acknowledged by then had
//     all its effects stored before anything else was read; what was acknowledged later is done again, and found done. Were
//     the consumers' own state restored, it could be ahead of what the streams hold, and that work would be lost.
//  2. LINKS holds the mark of the last backfill. It must not be younger than INBOX: what that backfill fetched would
//     be missing, and not fetched again. Links that were made later are put back from the LOG by what [Provision] does.
//  3. COMMANDS and INBOX, before the LOG. An input that is read here and was done meanwhile is done again. One that is
//     not there any more was done before, and the LOG, read later, has its events. The other way round it would be in neither.
//  4. LOG, of which nothing is ever deleted: a prefix of itself.
//  5. PROFILES after the LOG: the revision that an event names must be there, or a newer one. DEAD last: a letter is
//     buried before its message goes.
//
// One thing goes against the order: a command's letter that is retried goes from DEAD into COMMANDS. It is looked for
// afterwards, and if it left meanwhile, the backup fails and is to be made again.
//
// A customer who is erased while the backup is made may be in it in part, and is in it as long as it is kept.

// Progress tells how far a backup or a restore is with one stream.
type Progress struct {
	Stream   string
	Bytes    int64 // of its snapshot, which is compressed, until now
	Messages uint64
	Done     bool // with this stream
}

// ErrDecidedMeanwhile says that a command's dead letter was decided about while the backup was made, so it may be in
// none of the streams.
var ErrDecidedMeanwhile = errors.New("a dead letter was retried, dropped or erased while the backup was made: make it again")

const (
	snapshotWait   = 30 * time.Second // for the next part of a snapshot
	snapshotChunk  = 128 << 10
	snapshotWindow = 8 << 20
)

// backupOrder is explained above. A stream that is not named here is read last.
func backupOrder(prefix string, names []string) []string {
	order := []string{streamLinks, streamCommands, streamInbox, streamLog, streamProfiles, streamDead}
	rank := func(name string) int {
		i := slices.Index(order, strings.TrimPrefix(name, streamName(prefix, "")))
		if i < 0 {
			return len(order)
		}
		return i
	}
	slices.SortStableFunc(names, func(a, b string) int { return rank(a) - rank(b) })
	return names
}

// Backup writes every stream of an installation into w, while it runs. What it wrote is whole only if it returns no error.
// progress may be nil. It needs the rights of whoever provisions.
func Backup(ctx context.Context, nc *nats.Conn, cfg Config, w io.Writer, progress func(Progress)) (*Manifest, []BackupStream, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, nil, err
	}
	js, err := connect(ctx, nc)
	if err != nil {
		return nil, nil, fmt.Errorf("backup: %w", err)
	}
	b := &backup{l: &Log{cfg: cfg, nc: nc, js: js}, progress: progress}
	if b.progress == nil {
		b.progress = func(Progress) {}
	}
	m, err := b.manifest(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("backup: %w", err)
	}
	letters, err := b.letters(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("backup: %w", err)
	}
	b.out = newBackupWriter(w, m.Created)
	if err := b.out.json(manifestName, m); err != nil {
		return nil, nil, fmt.Errorf("backup: %w", err)
	}
	var list []BackupStream
	for _, name := range m.Streams {
		s, err := b.stream(ctx, name)
		if err != nil {
			return nil, nil, fmt.Errorf("back up %s: %w", name, err)
		}
		list = append(list, *s)
	}
	after, err := b.letters(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("backup: %w", err)
	}
	for subject := range letters {
		if _, there := after[subject]; !there {
			return nil, nil, fmt.Errorf("backup: %w", ErrDecidedMeanwhile)
		}
	}
	if err := b.out.close(); err != nil {
		return nil, nil, fmt.Errorf("backup: %w", err)
	}
	return m, list, nil
}

type backup struct {
	l        *Log
	out      *backupWriter
	progress func(Progress)
	created  map[string]time.Time // of the streams
}

// manifest notes what there is, and how far the consumers are.
func (b *backup) manifest(ctx context.Context) (*Manifest, error) {
	cfg := b.l.cfg
	m := &Manifest{
		Format: backupFormat, Version: backupVersion, ID: ulid.Make().String(), Created: cfg.Now().UTC(),
		Server: b.l.nc.ConnectedServerVersion(), Prefix: cfg.Prefix, Consumers: []BackupConsumer{},
	}
	b.created = map[string]time.Time{}
	for _, want := range streams(cfg) {
		info, err := streamInfo(ctx, b.l.js, want.Name)
		if err == nil {
			err = notRestoring(info.Config)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", want.Name, err)
		}
		m.Streams = append(m.Streams, want.Name)
		b.created[want.Name] = info.Created
		if want.Name == b.l.stream(streamLog) {
			m.Env = info.Config.Metadata[metadataEnv]
		}
	}
	if err := checkEnv(cfg, m.Env); err != nil {
		return nil, err
	}
	m.Streams = backupOrder(cfg.Prefix, m.Streams)
	for _, name := range m.Streams {
		list, err := b.consumers(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("consumers of %s: %w", name, err)
		}
		m.Consumers = append(m.Consumers, list...)
	}
	return m, nil
}

// consumers lists the durable consumers of a stream that acknowledge: ours, and those of apps.
func (b *backup) consumers(ctx context.Context, stream string) ([]BackupConsumer, error) {
	ours := consumers(b.l.cfg)
	var list []BackupConsumer
	for offset := 0; ; {
		var page struct {
			Total     int `json:"total"`
			Consumers []struct {
				Name      string                 `json:"name"`
				Config    json.RawMessage        `json:"config"`
				AckFloor  jetstream.SequenceInfo `json:"ack_floor"`
				Delivered jetstream.SequenceInfo `json:"delivered"`
				Pending   int                    `json:"num_ack_pending"`
			} `json:"consumers"`
		}
		if err := b.l.ask(ctx, "$JS.API.CONSUMER.LIST."+stream, map[string]int{"offset": offset}, &page); err != nil {
			return nil, err
		}
		for _, c := range page.Consumers {
			var config jetstream.ConsumerConfig
			if err := json.Unmarshal(c.Config, &config); err != nil {
				return nil, fmt.Errorf("consumer %s: %w", c.Name, err)
			}
			if config.Durable == "" || config.AckPolicy == jetstream.AckNonePolicy {
				continue
			}
			entry := BackupConsumer{Stream: stream, Name: c.Name, Floor: c.AckFloor.Stream, Config: c.Config}
			if c.Pending == 0 { // one that had nothing yet has no floor, and may not begin at the first
				entry.Floor = max(entry.Floor, c.Delivered.Stream)
			}
			if slices.ContainsFunc(ours, func(o consumerConfig) bool { return o.stream == stream && o.Durable == c.Name }) {
				entry.Config = nil
			}
			list = append(list, entry)
		}
		offset += len(page.Consumers)
		if len(page.Consumers) == 0 || offset >= page.Total {
			return list, nil
		}
	}
}

// letters gives the subjects of the dead letters of commands.
func (b *backup) letters(ctx context.Context) (map[string]uint64, error) {
	s, err := b.l.js.Stream(ctx, b.l.stream(streamDead))
	if err != nil {
		return nil, readError(err)
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(b.l.subject("dead", StageCommands, "*", "*")))
	if err != nil {
		return nil, readError(err)
	}
	return maps.Clone(info.State.Subjects), nil
}

// stream writes one stream.
func (b *backup) stream(ctx context.Context, name string) (*BackupStream, error) {
	var s *BackupStream
	out := &pieces{to: b.out, stream: name}
	var total int64
	err := b.l.snapshot(ctx, name, func(found BackupStream) error {
		s = &found
		s.Created = b.created[name]
		return b.out.json(name+streamFile, s)
	}, func(chunk []byte) error {
		total += int64(len(chunk))
		b.progress(Progress{Stream: name, Bytes: total, Messages: s.Messages})
		return out.write(chunk)
	})
	if err == nil {
		err = out.flush()
	}
	if err != nil {
		return nil, err
	}
	b.progress(Progress{Stream: name, Bytes: total, Messages: s.Messages, Done: true})
	return s, nil
}

// snapshot has the server send a stream as it is now, without its consumers. The client library has nothing for it.
// Source of the protocol: https://github.com/nats-io/nats-architecture-and-design (JetStream API), server/jetstream_api.go
func (l *Log) snapshot(ctx context.Context, stream string, begin func(BackupStream) error, chunk func([]byte) error) error {
	inbox := l.nc.NewInbox()
	sub, err := l.nc.SubscribeSync(inbox)
	if err != nil {
		return readError(err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only on a closed connection, which ends it too
	request, err := json.Marshal(map[string]any{
		"deliver_subject": inbox, "no_consumers": true, "jsck": true, "chunk_size": snapshotChunk, "window_size": snapshotWindow,
	})
	if err != nil {
		return fmt.Errorf("encode a request: %w", err)
	}
	s, err := l.askOnce(ctx, "$JS.API.STREAM.SNAPSHOT."+stream, request)
	if err != nil {
		return err
	}
	s.Name = stream
	if err := begin(*s); err != nil {
		return err
	}
	for n := 1; ; n++ {
		wait, cancel := context.WithTimeout(ctx, snapshotWait)
		msg, err := sub.NextMsgWithContext(wait)
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("%w: the server stopped sending", readError(err))
		}
		if len(msg.Data) == 0 {
			return snapshotEnd(msg.Header)
		}
		// Each part but the last says which it is: one that was lost with a connection must not go unnoticed.
		if msg.Reply != "" && !strings.HasSuffix(msg.Reply, "."+strconv.Itoa(len(msg.Data))+"."+strconv.Itoa(n)) {
			return fmt.Errorf("%w: a part of the snapshot was lost", ErrUnavailable)
		}
		if err := chunk(msg.Data); err != nil {
			return err
		}
		if msg.Reply == "" {
			continue
		}
		if err := msg.Respond(nil); err != nil {
			return readError(err)
		}
	}
}

// ErrStalled says that a backup was not taken in as fast as it must be: the server waits 10 s for the next part to be wanted.
var ErrStalled = errors.New("the output took nothing for too long, so the server gave up: let what reads the backup keep up, or write it to a file")

// snapshotEnd reads the message behind a snapshot's last part.
func snapshotEnd(h nats.Header) error {
	switch status := h.Get("Status"); status {
	case "", "204":
		return nil
	case "408":
		return ErrStalled
	default:
		return fmt.Errorf("%w: the server gave up: %s %s", ErrUnavailable, status, h.Get("Description"))
	}
}

// askOnce asks for a snapshot. Asked twice, the server would send it twice.
func (l *Log) askOnce(ctx context.Context, subject string, request []byte) (*BackupStream, error) {
	wait, cancel := context.WithTimeout(ctx, snapshotWait)
	defer cancel()
	msg, err := l.nc.RequestWithContext(wait, subject, request)
	if err != nil {
		return nil, readError(err)
	}
	var answer struct {
		Error  *jetstream.APIError `json:"error"`
		Config json.RawMessage     `json:"config"`
		State  json.RawMessage     `json:"state"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return nil, fmt.Errorf("answer of %s: %w", subject, err)
	}
	if answer.Error != nil {
		return nil, readError(answer.Error)
	}
	var state jetstream.StreamState
	if err := json.Unmarshal(answer.State, &state); err != nil {
		return nil, fmt.Errorf("answer of %s: %w", subject, err)
	}
	return &BackupStream{
		Config: answer.Config, State: answer.State, Messages: state.Msgs, FirstSequence: state.FirstSeq,
		LastSequence: state.LastSeq, Bytes: state.Bytes,
	}, nil
}
