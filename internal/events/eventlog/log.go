package eventlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events"
)

// Config names the streams of one installation and says how they are made.
type Config struct {
	Prefix   string           // of subjects, and in upper case of streams; "" = "paykit"
	Env      string           // the environment's name (PAYKIT_ENV); "" = the one in the LOG's metadata (Provision makes a random one)
	MaxBytes int64            // of the LOG, bytes; 0 = 80 % of what the server still has to give (Provision only)
	Replicas int              // of every stream, 1 or 3; 0 = 1 (Provision only)
	Logger   zerolog.Logger   // zero value = silent
	Now      func() time.Time // nil = time.Now

	// Upcasters make old events new when they are read; nil = [events.Released].
	Upcasters events.Upcasters
}

func (c Config) withDefaults() (Config, error) {
	if c.Prefix == "" {
		c.Prefix = "paykit"
	}
	for _, r := range c.Prefix {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' && r != '-' {
			return c, fmt.Errorf("prefix %q: only a to z, 0 to 9, _ and - may stand in it", c.Prefix)
		}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Upcasters == nil {
		c.Upcasters = events.Released()
	}
	return c, nil
}

// Log is an open installation: its LOG and the streams beside it. It is safe for concurrent use.
type Log struct {
	cfg        Config
	nc         *nats.Conn
	js         jetstream.JetStream
	env        string
	created    time.Time     // of the LOG
	commands   time.Time     // when COMMANDS was created, or restored: see tellQueuesApart
	queues     []queueOrigin // before it was restored, oldest first
	forgotten  []Forgotten   // by restores, oldest first
	patience   time.Duration // for one write's acknowledgement
	replicated bool          // the LOG is replicated: a direct get may be answered by one that lags behind
	inbox      inboxBatch    // deliveries on their way
}

// Entry is a stored event: where it stands and its bytes. Subject is "" for one that was just appended.
type Entry struct {
	Event    *events.Event
	Sequence uint64
	Subject  string
	Raw      []byte
}

// LogInfo is the state of the LOG.
type LogInfo struct {
	FirstSequence uint64
	LastSequence  uint64
	Created       time.Time // of the stream: another time is another log
	Bytes         uint64    // stored
	MaxBytes      int64     // room, bytes; -1 = no limit
	Messages      uint64
}

// Open opens an installation that was provisioned. It compares the settings of every stream and consumer with the
// expected ones and returns a [*WeakenedError] for one that breaks a promise; a [*VersionError] for a server that is
// too old; [ErrNotProvisioned]; or [ErrUnavailable]. It needs no right to create anything. Streams of a restore that was not
// completed are [ErrRestoring].
func Open(ctx context.Context, nc *nats.Conn, cfg Config) (*Log, error) {
	return openLog(ctx, nc, cfg, false)
}

func openLog(ctx context.Context, nc *nats.Conn, cfg Config, restoring bool) (*Log, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	js, err := connect(ctx, nc)
	if err != nil {
		return nil, fmt.Errorf("open the event log: %w", err)
	}
	l := &Log{cfg: cfg, nc: nc, js: js, patience: appendTimeout}
	for _, want := range streams(cfg) {
		info, err := streamInfo(ctx, js, want.Name)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", want.Name, err)
		}
		if err := notRestoring(info.Config); err != nil && !restoring {
			return nil, fmt.Errorf("open %s: %w", want.Name, err)
		}
		if err := errors.Join(compareStream(want, info.Config)...); err != nil {
			return nil, err
		}
		switch want.Name {
		case streamName(cfg.Prefix, streamLog):
			l.created, l.env, l.replicated = info.Created, info.Config.Metadata[metadataEnv], info.Config.Replicas > 1
			if l.forgotten, err = forgottenTimes(info.Config.Metadata[metadataForgotten]); err != nil {
				return nil, fmt.Errorf("open %s: %w", want.Name, err)
			}
		case streamName(cfg.Prefix, streamCommands):
			l.commands = info.Created
			if l.queues, err = queueOrigins(info.Config.Metadata[metadataQueues]); err != nil {
				return nil, fmt.Errorf("open %s: %w", want.Name, err)
			}
		}
	}
	l.commands = tellQueuesApart(l.queues, l.commands, l.forgotten)
	if err := checkEnv(cfg, l.env); err != nil {
		return nil, err
	}
	for _, want := range consumers(cfg) {
		info, err := consumerInfo(ctx, js, want.stream, want.Durable)
		if err != nil {
			return nil, fmt.Errorf("open consumer %s of %s: %w", want.Durable, want.stream, err)
		}
		if err := errors.Join(compareConsumer(want, info.Config)...); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// connect makes sure that there is a server, and one that is new enough.
func connect(ctx context.Context, nc *nats.Conn) (jetstream.JetStream, error) {
	if err := (&Log{nc: nc}).connected(ctx); err != nil {
		return nil, err
	}
	if err := checkVersion(nc.ConnectedServerVersion()); err != nil {
		return nil, err
	}
	return jetstream.New(nc)
}

func checkEnv(cfg Config, got string) error {
	name := streamName(cfg.Prefix, streamLog)
	if got == "" {
		return &WeakenedError{Stream: name, Setting: "metadata." + metadataEnv, Want: "the environment's name", Got: "missing"}
	}
	if cfg.Env != "" && cfg.Env != got {
		return &WeakenedError{Stream: name, Setting: "metadata." + metadataEnv, Want: strconv.Quote(cfg.Env), Got: strconv.Quote(got)}
	}
	return nil
}

// Env is the environment's name: provider objects of another one are not ours.
func (l *Log) Env() string { return l.env }

// Prefix is the first token of every subject.
func (l *Log) Prefix() string { return l.cfg.Prefix }

// Conn is the connection that the Log was opened with.
func (l *Log) Conn() *nats.Conn { return l.nc }

// CommandsCreated names the queue's stream and tells when it was made, as far as one of its messages is concerned, for
// [events.QueuedCommandKey]: what came from a backup is as old as the stream that it was read from.
func (l *Log) CommandsCreated(_ context.Context, sequence uint64) (stream string, created time.Time) {
	for _, q := range l.queues {
		if sequence <= q.last {
			return l.stream(streamCommands), q.created
		}
	}
	return l.stream(streamCommands), l.commands
}

// Info is the LOG's state now.
func (l *Log) Info(ctx context.Context) (LogInfo, error) {
	var info jetstream.StreamInfo
	if err := l.ask(ctx, "$JS.API.STREAM.INFO."+l.stream(streamLog), struct{}{}, &info); err != nil {
		return LogInfo{}, fmt.Errorf("state of the event log: %w", err)
	}
	return LogInfo{
		FirstSequence: info.State.FirstSeq, LastSequence: info.State.LastSeq, Created: info.Created,
		Bytes: info.State.Bytes, MaxBytes: info.Config.MaxBytes, Messages: info.State.Msgs,
	}, nil
}

const (
	requestTimeout = 6 * time.Second // one question to the server, with its repetitions
	requestTry     = time.Second     // the first one; a connection that breaks takes the answer with it
)

// request asks the server something that may be asked twice.
func (l *Log) request(ctx context.Context, subject string, body []byte) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for wait := requestTry; ; wait += requestTry {
		try, done := context.WithTimeout(ctx, wait)
		msg, err := l.nc.RequestWithContext(try, subject, body)
		done()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return msg, readError(err)
		}
	}
}

func (l *Log) stream(name string) string { return streamName(l.cfg.Prefix, name) }

// subject joins tokens behind the prefix.
func (l *Log) subject(tokens ...string) string {
	return l.cfg.Prefix + "." + strings.Join(tokens, ".")
}

// entityFilter matches every event of one entity. The id stands before the customer on purpose: with a wildcard before
// the id the server would walk every entity.
func (l *Log) entityFilter(entity events.Entity, id string) (string, error) {
	if !events.ValidID(entity, id) {
		return "", fmt.Errorf("%w: %q is no id of a %s", ErrNotFound, id, entity)
	}
	return l.subject("log", string(entity), "*", id, "*"), nil
}

// ask sends one JetStream API request and decodes its answer.
func (l *Log) ask(ctx context.Context, subject string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("encode a request: %w", err)
	}
	msg, err := l.request(ctx, subject, body)
	if err != nil {
		return err
	}
	var failed struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &failed); err != nil {
		return fmt.Errorf("answer of %s: %w", subject, err)
	}
	if failed.Error != nil {
		return readError(failed.Error)
	}
	if err := json.Unmarshal(msg.Data, answer); err != nil {
		return fmt.Errorf("answer of %s: %w", subject, err)
	}
	return nil
}

func streamInfo(ctx context.Context, js jetstream.JetStream, name string) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s, err := js.Stream(ctx, name)
	if err != nil {
		return nil, readError(err)
	}
	return s.CachedInfo(), nil
}

func consumerInfo(ctx context.Context, js jetstream.JetStream, stream, name string) (*jetstream.ConsumerInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	c, err := js.Consumer(ctx, stream, name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, ErrNotProvisioned
	}
	if err != nil {
		return nil, readError(err)
	}
	return c.CachedInfo(), nil
}
