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

// ErrRestoring says that a restore was begun and not ended. The streams are there in part and nobody may work on them;
// the same restore once more throws them away and begins again.
var ErrRestoring = errors.New(`a restore was not completed; run "paykit restore" again`)

// ErrOtherRestore says that another restore into the same place was begun after this one. It goes on, and this one has ended.
var ErrOtherRestore = errors.New("another restore is under way and has taken over from this one: leave it alone until it is complete")

// NotEmptyError says that a restore found something to lose.
type NotEmptyError struct{ Stream string }

func (e *NotEmptyError) Error() string {
	return fmt.Sprintf("%s is there already: a restore needs a server without the streams of this prefix", e.Stream)
}

const (
	metadataRestoring = "paykit_restoring"     // in every stream's metadata until the restore is complete: the backup's id and the run's
	metadataQueues    = "paykit_earlier_queue" // in COMMANDS' stream metadata: [queueOrigin]s, see there
	metadataFloor     = "paykit_restored_at"   // in a consumer's metadata: where it starts since a restore
	metadataForgotten = "paykit_forgotten"     // in the LOG's stream metadata: [Forgotten]s, see there

	restoreChunk  = 128 << 10
	restoreWindow = 16               // chunks that the server has not taken yet
	restoreWait   = 30 * time.Second // for one of them
	restoreEnd    = 5 * time.Minute  // for the server to have a stream ready
	restoreAgain  = 500 * time.Millisecond
)

// notRestoring refuses a stream that a restore has not completed.
func notRestoring(config jetstream.StreamConfig) error {
	if config.Metadata[metadataRestoring] != "" {
		return ErrRestoring
	}
	return nil
}

// restoredAt tells where a consumer begins that a restore has made. The server accepts no other way to leave out what was
// done; both places must say the same, so that nobody skips messages by accident.
func restoredAt(got jetstream.ConsumerConfig) bool {
	return got.DeliverPolicy == jetstream.DeliverByStartSequencePolicy && got.OptStartSeq > 0 &&
		got.Metadata[metadataFloor] == strconv.FormatUint(got.OptStartSeq, 10)
}

// startAt has a consumer begin behind what was acknowledged.
func startAt(config *jetstream.ConsumerConfig, floor uint64) {
	config.DeliverPolicy, config.OptStartSeq, config.OptStartTime = jetstream.DeliverByStartSequencePolicy, floor+1, nil
	config.Metadata = maps.Clone(config.Metadata)
	if config.Metadata == nil {
		config.Metadata = map[string]string{}
	}
	config.Metadata[metadataFloor] = strconv.FormatUint(floor+1, 10)
}

// queueOrigin tells when COMMANDS was made as far as its older messages are concerned. A queued command without a key has
// its id from there, and must have the same after a restore; one that came later must not have the id of one that was
// done between the backup and the restore.
type queueOrigin struct {
	last    uint64 // of its messages
	created time.Time
}

// queueOrigins reads the metadata: "last@nanoseconds", oldest first, separated by spaces.
func queueOrigins(text string) ([]queueOrigin, error) {
	var list []queueOrigin
	for field := range strings.FieldsSeq(text) {
		last, created, ok := strings.Cut(field, "@")
		n, err := strconv.ParseUint(last, 10, 64)
		nanos, errAt := strconv.ParseInt(created, 10, 64)
		if !ok || err != nil || errAt != nil {
			return nil, &WeakenedError{Setting: "metadata." + metadataQueues, Want: "sequences and times of earlier queues", Got: strconv.Quote(text)}
		}
		list = append(list, queueOrigin{last: n, created: time.Unix(0, nanos).UTC()})
	}
	return list, nil
}

// tellQueuesApart gives each queue behind a restore a time that no queue before it has, and answers that of the last, which is
// created: older servers give a restored stream the creation time that it had, and a command that came after the restore would
// have the id of one that was done between the backup and the restore. There the restore's end takes the creation time's place. It
// looks at nothing but what is stored, so it finds the same for a message at every start, and after further restores.
func tellQueuesApart(queues []queueOrigin, created time.Time, forgotten []Forgotten) time.Time {
	if len(queues) != len(forgotten) { // one of each per restore
		return created
	}
	for i, q := range slices.Backward(queues) { // from the last on, so that each is compared with what is stored
		next := &created
		if i+1 < len(queues) {
			next = &queues[i+1].created
		}
		if !next.After(q.created) {
			*next = forgotten[i].Until
		}
	}
	return created
}

// Forgotten is a time of which the LOG knows nothing any more, since a backup from before it was restored after it. What
// was done then was done: whoever asks for the same again, with the same ids, must find out first.
type Forgotten struct {
	From  time.Time // the backup was begun
	Until time.Time // the restore was complete
}

// forgottenTimes reads the metadata: "from@until" in nanoseconds, oldest first, separated by spaces. It comes with the backup,
// so restores of restores add up.
func forgottenTimes(text string) ([]Forgotten, error) {
	var list []Forgotten
	for field := range strings.FieldsSeq(text) {
		from, until, ok := strings.Cut(field, "@")
		begin, err := strconv.ParseInt(from, 10, 64)
		end, errEnd := strconv.ParseInt(until, 10, 64)
		if !ok || err != nil || errEnd != nil {
			return nil, &WeakenedError{Setting: "metadata." + metadataForgotten, Want: "times that restores have forgotten", Got: strconv.Quote(text)}
		}
		list = append(list, Forgotten{From: time.Unix(0, begin).UTC(), Until: time.Unix(0, end).UTC()})
	}
	return list, nil
}

// Forgotten gives the times that restores have made the LOG forget, oldest first.
func (l *Log) Forgotten() []Forgotten { return l.forgotten }

// RestoreReport is what a restore did.
type RestoreReport struct {
	Manifest *Manifest
	Streams  []BackupStream
	Env      string
	Links    int // that were put back from the LOG
}

// Restore makes the streams of a backup on a server that has none of this prefix, with the durable consumers where the
// backup says. cfg.Replicas and cfg.MaxBytes (of the LOG) may differ from what they were. open gives the backup, twice:
// the whole of it is checked before anything is made. Processes must not run. progress may be nil. It needs the rights of
// whoever provisions.
//
// A crash, or an error, in the middle leaves streams that carry a mark, with which nobody opens them ([ErrRestoring]). The
// next restore, of this or another backup, deletes what is marked and begins anew. The LOG loses its mark last: as long as
// it has one, all of it is a restore that was not completed.
func Restore(ctx context.Context, nc *nats.Conn, cfg Config, open func() (io.ReadCloser, error), progress func(Progress)) (*RestoreReport, error) {
	asked := cfg
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	m, list, err := check(open)
	if err != nil {
		return nil, err
	}
	for _, s := range list { // the server would take a limit below what is there, and then refuse every event
		if s.Name == streamName(cfg.Prefix, streamLog) && cfg.MaxBytes > 0 && uint64(cfg.MaxBytes) <= s.Bytes {
			return nil, fmt.Errorf("restore: --max-bytes %d: the log in the backup takes %d bytes, and must have room to grow", cfg.MaxBytes, s.Bytes)
		}
	}
	if m.Prefix != cfg.Prefix {
		return nil, fmt.Errorf("the backup is of the prefix %q, not %q: its subjects can't be changed; restore it with --prefix %s", m.Prefix, cfg.Prefix, m.Prefix)
	}
	if err := checkEnv(cfg, m.Env); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	js, err := connect(ctx, nc)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	r := &restore{l: &Log{cfg: cfg, nc: nc, js: js}, m: m, mark: m.ID + " " + ulid.Make().String(), progress: progress}
	if r.progress == nil {
		r.progress = func(Progress) {}
	}
	report, err := r.run(ctx, open, asked)
	if err != nil && ctx.Err() == nil && r.overtaken(ctx) {
		return nil, ErrOtherRestore // whatever it stumbled over
	}
	return report, err
}

func (r *restore) run(ctx context.Context, open func() (io.ReadCloser, error), asked Config) (*RestoreReport, error) {
	m := r.m
	if err := r.upload(ctx, open); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	floors := map[string]uint64{}
	for _, c := range m.Consumers {
		if c.Config == nil {
			floors[c.Stream+" "+c.Name] = c.Floor
		} else if err := r.consumer(ctx, c); err != nil {
			return nil, fmt.Errorf("restore consumer %s of %s: %w", c.Name, c.Stream, err)
		}
	}
	if r.overtaken(ctx) {
		return nil, ErrOtherRestore
	}
	report, err := provision(ctx, r.l.nc, asked, &completion{floors: floors})
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	if err := r.complete(ctx); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	return &RestoreReport{Manifest: m, Streams: r.done, Env: report.Env, Links: report.Links}, nil
}

// completion is what [Provision] does otherwise as the end of a restore: it works on streams that still carry the mark, and
// the consumers begin behind these sequences, by stream and name.
type completion struct{ floors map[string]uint64 }

func check(open func() (io.ReadCloser, error)) (*Manifest, []BackupStream, error) {
	in, err := open()
	if err != nil {
		return nil, nil, fmt.Errorf("restore: %w", err)
	}
	defer in.Close()
	return CheckBackup(in)
}

type restore struct {
	l        *Log
	m        *Manifest
	mark     string // of this run: another one, also with the same backup, has another
	reserved bool   // the place has the mark: whoever puts another one there has taken over
	done     []BackupStream
	progress func(Progress)
}

// names are all streams that could be in the way.
func (r *restore) names() []string {
	list := slices.Clone(r.m.Streams)
	for _, s := range streams(r.l.cfg) {
		if !slices.Contains(list, s.Name) {
			list = append(list, s.Name)
		}
	}
	return list
}

// clear makes sure that nothing is there, and takes away what an earlier restore has left.
func (r *restore) clear(ctx context.Context) error {
	found := map[string]*jetstream.StreamInfo{}
	for _, name := range r.names() {
		info, err := streamInfo(ctx, r.l.js, name)
		if errors.Is(err, ErrNotProvisioned) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		found[name] = info
	}
	log := found[r.l.stream(streamLog)]
	if r.reserved && log != nil && log.Config.Metadata[metadataRestoring] != r.mark {
		return ErrOtherRestore // what else is there may be the late end of one that was killed
	}
	unfinished := log != nil && notRestoring(log.Config) != nil
	for name, info := range found {
		if !unfinished && notRestoring(info.Config) == nil {
			return &NotEmptyError{Stream: name}
		}
	}
	// The LOG last, which tells that the others may go.
	for _, name := range append(slices.DeleteFunc(r.names(), func(s string) bool { return s == r.l.stream(streamLog) }), r.l.stream(streamLog)) {
		if found[name] == nil {
			continue
		}
		if err := r.still(ctx, name, found[name].Config.Metadata[metadataRestoring]); errors.Is(err, ErrNotProvisioned) {
			continue
		} else if err != nil {
			return err
		}
		if err := r.l.js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("delete %s, which an earlier restore has left: %w", name, readError(err))
		}
	}
	return r.reserve(ctx)
}

// still makes sure that a stream has the mark that it was seen with. One that is gone is [ErrNotProvisioned].
func (r *restore) still(ctx context.Context, name, mark string) error {
	info, err := streamInfo(ctx, r.l.js, name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if info.Config.Metadata[metadataRestoring] != mark {
		return ErrOtherRestore
	}
	return nil
}

// overtaken tells whether the LOG carries another run's mark, or none any more.
func (r *restore) overtaken(ctx context.Context) bool {
	return r.reserved && errors.Is(r.still(ctx, r.l.stream(streamLog), r.mark), ErrOtherRestore)
}

// reserve marks the place: the server does not list a stream while it takes it in, and nobody is to provision meanwhile.
func (r *restore) reserve(ctx context.Context) error {
	log := r.l.stream(streamLog)
	i := slices.IndexFunc(streams(r.l.cfg), func(s jetstream.StreamConfig) bool { return s.Name == log })
	config := streams(r.l.cfg)[i]
	config.Metadata = map[string]string{metadataRestoring: r.mark}
	_, err := r.l.js.CreateStream(ctx, config)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return ErrOtherRestore
	}
	if err != nil {
		return fmt.Errorf("reserve %s: %w", log, readError(err))
	}
	r.reserved = true
	return nil
}

// streams reads the backup a second time and gives it to the server.
func (r *restore) streams(ctx context.Context, open func() (io.ReadCloser, error)) error {
	in, err := open()
	if err != nil {
		return err
	}
	defer in.Close()
	b := newBackupReader(in)
	again, err := b.manifest()
	if err != nil {
		return err
	}
	if again.ID != r.m.ID {
		return damaged("it is another file than a moment ago")
	}
	var up *upload
	defer func() {
		if up != nil {
			up.close()
		}
	}()
	return b.streams(r.m, func(s BackupStream) error {
		config, err := r.config(s)
		if err != nil {
			return err
		}
		if s.Name == r.l.stream(streamLog) { // which was only reserved; by now others carry the mark
			if err := r.still(ctx, s.Name, r.mark); err != nil {
				return err
			}
			if err := r.l.js.DeleteStream(ctx, s.Name); err != nil {
				return fmt.Errorf("%s: %w", s.Name, readError(err))
			}
		}
		up, err = r.l.upload(ctx, s, config)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name, roomHint(err))
		}
		r.done = append(r.done, s)
		return nil
	}, func(piece []byte) error {
		s := r.done[len(r.done)-1]
		for chunk := range slices.Chunk(piece, restoreChunk) {
			if err := up.send(ctx, chunk); err != nil {
				return fmt.Errorf("%s: %w", s.Name, roomHint(err))
			}
			r.progress(Progress{Stream: s.Name, Bytes: up.bytes, Messages: s.Messages})
		}
		return nil
	}, func() error {
		s := r.done[len(r.done)-1]
		defer func() { up.close(); up = nil }()
		if err := up.finish(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.Name, roomHint(err))
		}
		r.progress(Progress{Stream: s.Name, Bytes: up.bytes, Messages: s.Messages, Done: true})
		return r.compare(ctx, s)
	})
}

// upload makes the streams, on a cleared place. What a restore that was killed has left there is not listed, can't be deleted
// and is in the way until the server gives up waiting for the rest of it, after 5 s: so it may take some tries.
func (r *restore) upload(ctx context.Context, open func() (io.ReadCloser, error)) error {
	bound, cancel := context.WithTimeout(ctx, restoreWait)
	defer cancel()
	for {
		if err := r.clear(ctx); err != nil {
			return err
		}
		r.done = nil
		err := r.streams(ctx, open)
		api, refused := errors.AsType[*jetstream.APIError](err)
		if !refused || api.ErrorCode != codeRestoreNameInUse && api.ErrorCode != codeRestoreFailed {
			return err
		}
		select {
		case <-bound.Done():
			return err
		case <-time.After(restoreAgain):
		}
	}
}

func roomHint(err error) error {
	if errors.Is(err, ErrStorageFull) {
		return fmt.Errorf("%w; --max-bytes says how much the log may take", err)
	}
	return err
}

// config is a stream's configuration as it was, with the mark, and with what was asked for.
func (r *restore) config(s BackupStream) (map[string]any, error) {
	var config map[string]any
	if err := json.Unmarshal(s.Config, &config); err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	metadata := map[string]any{}
	if had, ok := config["metadata"].(map[string]any); ok {
		for k, v := range had {
			if !strings.HasPrefix(k, "_nats.") { // the server's own
				metadata[k] = v
			}
		}
	}
	metadata[metadataRestoring] = r.mark
	config["metadata"] = metadata
	if r.l.cfg.Replicas > 0 {
		config["num_replicas"] = r.l.cfg.Replicas
	}
	if r.l.cfg.Replicas > 1 { // of records of calls: one server may sync them later, replicas can't be told to
		delete(config, "persist_mode")
	}
	if s.Name == r.l.stream(streamLog) && r.l.cfg.MaxBytes > 0 {
		config["max_bytes"] = r.l.cfg.MaxBytes
	}
	return config, nil
}

// compare holds what the server made of a snapshot against what it was. Only the LOG is exact: elsewhere messages may have
// been erased while the snapshot was made, or be too old by now.
func (r *restore) compare(ctx context.Context, s BackupStream) error {
	info, err := streamInfo(ctx, r.l.js, s.Name)
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	got := info.State
	exact := s.Name == r.l.stream(streamLog)
	if got.LastSeq != s.LastSequence || got.Msgs > s.Messages || exact && (got.Msgs != s.Messages || got.FirstSeq != s.FirstSequence) {
		return fmt.Errorf("%s: it has %d messages up to sequence %d, the backup %d up to %d", s.Name, got.Msgs, got.LastSeq, s.Messages, s.LastSequence)
	}
	return nil
}

// consumer makes an app's durable consumer again.
func (r *restore) consumer(ctx context.Context, c BackupConsumer) error {
	var config jetstream.ConsumerConfig
	if err := json.Unmarshal(c.Config, &config); err != nil {
		return fmt.Errorf("its configuration: %w", err)
	}
	maps.DeleteFunc(config.Metadata, func(k, _ string) bool { return strings.HasPrefix(k, "_nats.") })
	startAt(&config, c.Floor)
	if r.l.cfg.Replicas > 0 && config.Replicas > 0 {
		config.Replicas = r.l.cfg.Replicas
	}
	_, err := r.l.js.CreateConsumer(ctx, c.Stream, config)
	return readError(err)
}

// complete takes the marks away, from the LOG last.
func (r *restore) complete(ctx context.Context) error {
	log := r.l.stream(streamLog)
	for _, name := range append(slices.DeleteFunc(slices.Clone(r.m.Streams), func(s string) bool { return s == log }), log) {
		info, err := streamInfo(ctx, r.l.js, name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if info.Config.Metadata[metadataRestoring] != r.mark {
			return ErrOtherRestore
		}
		config := info.Config
		config.Metadata = maps.Clone(config.Metadata)
		delete(config.Metadata, metadataRestoring)
		if name == r.l.stream(streamCommands) {
			i := slices.IndexFunc(r.done, func(s BackupStream) bool { return s.Name == name })
			origin := fmt.Sprintf("%d@%d", info.State.LastSeq, r.done[i].Created.UnixNano())
			config.Metadata[metadataQueues] = strings.TrimSpace(config.Metadata[metadataQueues] + " " + origin)
		}
		if name == log { // at once with its mark going: nobody can open it without
			forgotten := fmt.Sprintf("%d@%d", r.m.Created.UnixNano(), r.l.cfg.Now().UnixNano())
			config.Metadata[metadataForgotten] = strings.TrimSpace(config.Metadata[metadataForgotten] + " " + forgotten)
		}
		if _, err := r.l.js.UpdateStream(ctx, config); err != nil {
			return fmt.Errorf("complete %s: %w", name, readError(err))
		}
	}
	return nil
}

// upload is a snapshot on its way to the server. Source of the protocol: as of [Log.snapshot].
type upload struct {
	nc      *nats.Conn
	to      string
	inbox   string
	answers *nats.Subscription
	waiting int // chunks that the server has not taken yet
	bytes   int64
}

// upload has the server begin a stream.
func (l *Log) upload(ctx context.Context, s BackupStream, config map[string]any) (*upload, error) {
	request, err := json.Marshal(map[string]any{"config": config, "state": s.State})
	if err != nil {
		return nil, fmt.Errorf("encode a request: %w", err)
	}
	wait, cancel := context.WithTimeout(ctx, restoreWait)
	defer cancel()
	msg, err := l.nc.RequestWithContext(wait, "$JS.API.STREAM.RESTORE."+s.Name, request)
	if err != nil {
		return nil, readError(err)
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Deliver string              `json:"deliver_subject"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return nil, fmt.Errorf("the server's answer: %w", err)
	}
	if answer.Error != nil {
		return nil, readError(answer.Error)
	}
	u := &upload{nc: l.nc, to: answer.Deliver, inbox: l.nc.NewInbox()}
	if u.answers, err = l.nc.SubscribeSync(u.inbox); err != nil {
		return nil, readError(err)
	}
	return u, nil
}

func (u *upload) close() { _ = u.answers.Unsubscribe() } // fails only on a closed connection, which ends it too

// send sends one chunk, and waits while the server has too many.
func (u *upload) send(ctx context.Context, chunk []byte) error {
	for u.waiting >= restoreWindow {
		if _, err := u.answer(ctx, restoreWait); err != nil {
			return err
		}
		u.waiting--
	}
	if err := u.nc.PublishRequest(u.to, u.inbox, chunk); err != nil {
		return readError(err)
	}
	u.waiting++
	u.bytes += int64(len(chunk))
	return nil
}

// finish says that this was all, and waits until the stream is there.
func (u *upload) finish(ctx context.Context) error {
	if err := u.nc.PublishRequest(u.to, u.inbox, nil); err != nil {
		return readError(err)
	}
	for {
		if made, err := u.answer(ctx, restoreEnd); err != nil || made {
			return err
		}
	}
}

// answer takes one answer: an empty one for each chunk, then one that describes the stream; made is true for that.
func (u *upload) answer(ctx context.Context, bound time.Duration) (made bool, err error) {
	wait, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	msg, err := u.answers.NextMsgWithContext(wait)
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case err != nil:
		return false, fmt.Errorf("%w: the server stopped taking the snapshot", readError(err))
	case len(msg.Data) == 0:
		return false, nil
	}
	var answer struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return false, fmt.Errorf("the server's answer: %w", err)
	}
	if answer.Error != nil {
		return false, readError(answer.Error)
	}
	return true, nil
}
