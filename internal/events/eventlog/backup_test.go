package eventlog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

// filled has something of everything: events, profiles (one superseded), deliveries, a queued command, a letter, links, work
// that was done and work that was not, and an app that listens.
func filled(t *testing.T, l *eventlog.Log) {
	t.Helper()
	id := events.CustomerID("a")
	appendCustomer(t, l, "a", 3)
	charge := createCharge(t, l, "a", "k1")
	createCharge(t, l, "a", "k2")
	var revision uint64
	for _, name := range []string{"first", "second"} {
		var err error
		if revision, err = l.PutProfile(t.Context(), id, eventlog.Profile{Name: &name}, revision); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.EraseProfiles(t.Context(), id, revision); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		d := eventlog.Delivery{ProviderID: "stripe", EventID: fmt.Sprint("evt_", i), ProviderCustomerID: "cus_a", Body: bytes.Repeat([]byte("body"), 50_000)}
		if _, err := l.StoreDelivery(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.PutLink(t.Context(), "stripe", "pi_1", eventlog.Link{Entity: events.EntityCharge, ID: charge.Event.Subject, CustomerID: id}); err != nil {
		t.Fatal(err)
	}
	if err := l.Bury(t.Context(), eventlog.DeadLetter{Stage: eventlog.StageCommands, ID: "cmd_1", CustomerID: id, Body: []byte("{}"), At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	j := js(t, l)
	for i := range 2 { // the second was done, so the queue's last message is gone
		if _, err := j.Publish(t.Context(), "paykit.cmd.charge.create", fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	erased(t, j, "PAYKIT_COMMANDS", 2)
	if err := l.StoreCalls(t.Context(), []eventlog.Call{{Entity: "charge", EntityID: charge.Event.Subject, CustomerID: id, Operation: "payment_intents.create"}}); err != nil {
		t.Fatal(err)
	}
	acknowledge(t, j, "PAYKIT_INBOX", "normalizer", 3)
	acknowledge(t, j, "PAYKIT_LOG", "requests", 1)
	if _, err := j.CreateConsumer(t.Context(), "PAYKIT_LOG", jetstream.ConsumerConfig{Durable: "sub-app", AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
		t.Fatal(err)
	}
	acknowledge(t, j, "PAYKIT_LOG", "sub-app", 4)
	// From now on, and nothing came yet.
	if _, err := j.CreateConsumer(t.Context(), "PAYKIT_LOG", jetstream.ConsumerConfig{
		Durable: "sub-new", AckPolicy: jetstream.AckExplicitPolicy, DeliverPolicy: jetstream.DeliverNewPolicy,
	}); err != nil {
		t.Fatal(err)
	}
}

func erased(t *testing.T, j jetstream.JetStream, stream string, sequence uint64) {
	t.Helper()
	s, err := j.Stream(t.Context(), stream)
	if err == nil {
		err = s.SecureDeleteMsg(t.Context(), sequence)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// take gives the sequences of a durable's next messages, and acknowledges them if it is to.
func take(t *testing.T, j jetstream.JetStream, stream, durable string, n int, ack bool) (sequences []uint64) {
	t.Helper()
	c, err := j.Consumer(t.Context(), stream, durable)
	if err != nil {
		t.Fatal(err)
	}
	req := fmt.Sprintf(`{"batch":%d,"no_wait":true}`, n)
	if len(c.CachedInfo().Config.PriorityGroups) > 0 {
		req = fmt.Sprintf(`{"batch":%d,"no_wait":true,"group":"active"}`, n)
	}
	sub, err := j.Conn().SubscribeSync(j.Conn().NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := j.Conn().PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+stream+"."+durable, sub.Subject, []byte(req)); err != nil {
		t.Fatal(err)
	}
	for len(sequences) < n {
		m, err := sub.NextMsg(soon)
		if err != nil {
			t.Fatal(err)
		}
		if m.Header.Get("Status") != "" {
			break
		}
		meta, err := m.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		sequences = append(sequences, meta.Sequence.Stream)
		if !ack {
			continue
		}
		if err := m.AckSync(); err != nil {
			t.Fatal(err)
		}
	}
	return sequences
}

func acknowledge(t *testing.T, j jetstream.JetStream, stream, durable string, n int) {
	t.Helper()
	if got := take(t, j, stream, durable, n, true); len(got) != n {
		t.Fatalf("%s has only %v", durable, got)
	}
}

// backedUp makes a backup of it all.
func backedUp(t *testing.T, nc *nats.Conn) []byte {
	t.Helper()
	var file bytes.Buffer
	m, list, err := eventlog.Backup(t.Context(), nc, eventlog.Config{}, &file, nil)
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, s := range list {
		order = append(order, strings.TrimPrefix(s.Name, "PAYKIT_"))
	}
	// Why in this order: see backup.go.
	if got := strings.Join(order[:6], " "); got != "LINKS COMMANDS INBOX LOG PROFILES DEAD" || !slices.Equal(m.Streams[:1], []string{"PAYKIT_LINKS"}) {
		t.Errorf("the streams were read as %s", got)
	}
	return file.Bytes()
}

// from gives a backup as often as it is asked.
func from(file []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(file)), nil }
}

// messages reads a whole stream: subject, headers, body, sequence and time of each message.
func messages(t *testing.T, nc *nats.Conn, stream string) (list []string, last uint64) {
	t.Helper()
	j, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := j.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	state := s.CachedInfo().State
	for sequence := uint64(1); sequence <= state.LastSeq; sequence++ {
		m, err := s.GetMsg(t.Context(), sequence)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, fmt.Sprint(m.Subject, m.Sequence, m.Time.UnixNano(), m.Header, string(m.Data)))
	}
	return list, state.LastSeq
}

// sameStreams holds every stream's messages against each other's.
func sameStreams(t *testing.T, a, b *nats.Conn) {
	t.Helper()
	for _, stream := range []string{"LINKS", "COMMANDS", "INBOX", "LOG", "PROFILES", "DEAD", "CALLS"} {
		was, lastWas := messages(t, a, "PAYKIT_"+stream)
		is, lastIs := messages(t, b, "PAYKIT_"+stream)
		if !slices.Equal(was, is) || lastWas != lastIs || len(was) == 0 {
			t.Errorf("%s: %d messages up to %d became %d up to %d, or others", stream, len(was), lastWas, len(is), lastIs)
		}
	}
}

func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	old := eventlogtest.Start(t).Conn(t)
	l := eventlogtest.Open(t, old)
	filled(t, l)
	file := backedUp(t, old)
	nc := eventlogtest.Start(t).Conn(t)
	var seen []eventlog.Progress
	report, err := eventlog.Restore(t.Context(), nc, eventlog.Config{}, from(file), func(p eventlog.Progress) {
		if p.Done {
			seen = append(seen, p)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(seen) != len(report.Streams) || seen[0].Bytes == 0 || report.Env != l.Env() {
		t.Errorf("%+v, %+v", report, seen)
	}
	sameStreams(t, old, nc)
	again, err := eventlog.Open(t.Context(), nc, eventlog.Config{})
	if err != nil {
		t.Fatal(err)
	}
	checkChain(t, again)
	p, err := eventlog.Provision(t.Context(), nc, eventlog.Config{})
	if err != nil || len(p.Created)+len(p.Updated) > 0 {
		t.Errorf("provision afterwards: %+v, %v", p, err)
	}

	// What was acknowledged does not come again, all else does.
	j := js(t, again)
	for _, tt := range []struct {
		stream, durable string
		want            []uint64
	}{
		{"PAYKIT_INBOX", "normalizer", []uint64{4}},
		{"PAYKIT_COMMANDS", "commands", []uint64{1}},
		{"PAYKIT_LOG", "sub-app", []uint64{5}},
		{"PAYKIT_LOG", "sub-new", nil},
		{"PAYKIT_LOG", "requests", []uint64{3, 4, 5}}, // the first was customer.updated at 2
	} {
		if got := take(t, j, tt.stream, tt.durable, 10, false); !slices.Equal(got, tt.want) {
			t.Errorf("%s begins with %v, want %v", tt.durable, got, tt.want)
		}
	}

	// A command without a key is the same command after the restore; a new one is not one that was done since the backup.
	stream, created := l.CommandsCreated(t.Context(), 2)
	if s, at := again.CommandsCreated(t.Context(), 2); s != stream || !at.Equal(created) {
		t.Errorf("the queue is %s of %v, was %s of %v", s, at, stream, created)
	}
	if _, at := again.CommandsCreated(t.Context(), 3); at.Equal(created) {
		t.Error("a new command takes the place of one that the old queue had later")
	}
	// Once more, from the restored one: both times are remembered.
	third := eventlogtest.Start(t).Conn(t)
	if _, err := eventlog.Restore(t.Context(), third, eventlog.Config{}, from(backedUp(t, nc)), nil); err != nil {
		t.Fatal(err)
	}
	last, err := eventlog.Open(t.Context(), third, eventlog.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, at := last.CommandsCreated(t.Context(), 1); !at.Equal(created) {
		t.Errorf("after two restores the queue is of %v, was of %v", at, created)
	}
}

// A consumer that begins anywhere else than a restore said is a weakened one.
func TestConsumerThatSkips(t *testing.T) {
	t.Parallel()
	nc := eventlogtest.Start(t).Conn(t)
	l := eventlogtest.Open(t, nc)
	appendCustomer(t, l, "a", 3)
	c, err := js(t, l).Consumer(t.Context(), "PAYKIT_LOG", "requests")
	if err != nil {
		t.Fatal(err)
	}
	config := c.CachedInfo().Config
	if err := js(t, l).DeleteConsumer(t.Context(), "PAYKIT_LOG", "requests"); err != nil {
		t.Fatal(err)
	}
	config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, 3
	if _, err := js(t, l).CreateConsumer(t.Context(), "PAYKIT_LOG", config); err != nil {
		t.Fatal(err)
	}
	weak, ok := errors.AsType[*eventlog.WeakenedError](openError(t, nc))
	if !ok || weak.Setting != "deliver_policy" {
		t.Errorf("opened: %v", weak)
	}
}

func openError(t *testing.T, nc *nats.Conn) error {
	t.Helper()
	_, err := eventlog.Open(t.Context(), nc, eventlog.Config{})
	return err
}

// A file that is not whole, was changed or is something else is refused before anything is made.
func TestDamagedBackup(t *testing.T) {
	t.Parallel()
	old := eventlogtest.Start(t).Conn(t)
	filled(t, eventlogtest.Open(t, old))
	file := backedUp(t, old)
	nc := eventlogtest.Start(t).Conn(t)
	refused := func(name string, bad []byte) {
		t.Helper()
		_, err := eventlog.Restore(t.Context(), nc, eventlog.Config{}, from(bad), nil)
		if _, ok := errors.AsType[*eventlog.DamagedBackupError](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	for n := 0; n < len(file); n += 509 {
		refused(fmt.Sprintf("cut off at %d of %d", n, len(file)), file[:n])
		bad := slices.Clone(file)
		bad[n] ^= 1
		refused(fmt.Sprintf("bit flipped at %d of %d", n, len(file)), bad)
	}
	refused("all but the last byte", file[:len(file)-1])
	refused("one byte more", append(slices.Clone(file), '\n'))
	refused("twice", append(slices.Clone(file), file...))
	refused("another file", []byte("PK\x03\x04, as a zip file begins"))
	if _, err := eventlog.Restore(t.Context(), nc, eventlog.Config{Prefix: "other"}, from(file), nil); err == nil || !strings.Contains(err.Error(), `the prefix "paykit", not "other"`) {
		t.Errorf("another prefix: %v", err)
	}
	if _, err := eventlog.Restore(t.Context(), nc, eventlog.Config{Env: "env_other"}, from(file), nil); err == nil || !strings.Contains(err.Error(), "paykit_env") {
		t.Errorf("another environment: %v", err)
	}
	j, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for name := range j.StreamNames(t.Context()).Name() {
		t.Errorf("%s was made", name)
	}
}

// interrupting ends a context after some bytes were read, as a kill would end a restore.
type interrupting struct {
	io.Reader
	left   int
	cancel context.CancelFunc
}

func (r *interrupting) Read(p []byte) (int, error) {
	if r.left -= len(p); r.left < 0 {
		r.cancel()
	}
	return r.Reader.Read(p)
}

func (r *interrupting) Close() error { return nil }

// A restore that ends in the middle leaves nothing that anybody would work on, and is begun anew by another one.
func TestInterruptedRestore(t *testing.T) {
	t.Parallel()
	old := eventlogtest.Start(t).Conn(t)
	l := eventlogtest.Open(t, old)
	filled(t, l)
	file := backedUp(t, old)
	nc := eventlogtest.Start(t).Conn(t)
	for _, part := range []int{4, 2, 1} { // of the file, the last time to its end
		ctx, cancel := context.WithCancel(t.Context())
		opened := 0
		_, err := eventlog.Restore(ctx, nc, eventlog.Config{}, func() (io.ReadCloser, error) {
			if opened++; opened == 1 {
				return from(file)()
			}
			return &interrupting{Reader: bytes.NewReader(file), left: len(file)/part - 100, cancel: cancel}, nil
		}, nil)
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("interrupted at a part of %d: %v", part, err)
		}
		if err := openError(t, nc); !errors.Is(err, eventlog.ErrRestoring) && !errors.Is(err, eventlog.ErrNotProvisioned) {
			t.Errorf("opened: %v", err)
		}
		if _, err := eventlog.Provision(t.Context(), nc, eventlog.Config{}); !errors.Is(err, eventlog.ErrRestoring) {
			t.Errorf("provisioned: %v", err)
		}
		if _, _, err := eventlog.Backup(t.Context(), nc, eventlog.Config{}, io.Discard, nil); !errors.Is(err, eventlog.ErrRestoring) {
			t.Errorf("backed up: %v", err)
		}
	}
	if _, err := eventlog.Restore(t.Context(), nc, eventlog.Config{}, from(file), nil); err != nil {
		t.Fatal(err)
	}
	sameStreams(t, old, nc)
	if err := openError(t, nc); err != nil {
		t.Errorf("open: %v", err)
	}
	_, err := eventlog.Restore(t.Context(), nc, eventlog.Config{}, from(file), nil)
	if _, ok := errors.AsType[*eventlog.NotEmptyError](err); !ok {
		t.Errorf("over what is there: %v", err)
	}
	sameStreams(t, old, nc)
}

// A command's letter that is retried goes against the order in which the streams are read.
func TestBackupBesideARetriedLetter(t *testing.T) {
	t.Parallel()
	nc := eventlogtest.Start(t).Conn(t)
	l := eventlogtest.Open(t, nc)
	filled(t, l)
	_, _, err := eventlog.Backup(t.Context(), nc, eventlog.Config{}, io.Discard, func(p eventlog.Progress) {
		if p.Stream == "PAYKIT_LOG" && p.Done {
			erased(t, js(t, l), "PAYKIT_DEAD", 1)
		}
	})
	if !errors.Is(err, eventlog.ErrDecidedMeanwhile) {
		t.Errorf("%v", err)
	}
}

// From one server to three replicas, and from those to one server.
func TestBackupOfThreeReplicas(t *testing.T) {
	t.Parallel()
	old := eventlogtest.Start(t).Conn(t)
	l := eventlogtest.Open(t, old)
	filled(t, l)
	file := backedUp(t, old)
	for _, tt := range []struct {
		nc       *nats.Conn
		replicas int
	}{{eventlogtest.StartCluster(t).Conn(t), 3}, {eventlogtest.Start(t).Conn(t), 1}} {
		_, err := eventlog.Restore(t.Context(), tt.nc, eventlog.Config{Replicas: tt.replicas}, from(file), nil)
		for tries := 0; eventlog.IsUnavailable(err) && tries < 5; tries++ { // servers that lost touch for a moment: it is begun anew
			_, err = eventlog.Restore(t.Context(), tt.nc, eventlog.Config{Replicas: tt.replicas}, from(file), nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		sameStreams(t, old, tt.nc)
		again, err := eventlog.Open(t.Context(), tt.nc, eventlog.Config{})
		if err != nil {
			t.Fatal(err)
		}
		for name := range js(t, again).ListStreams(t.Context()).Info() {
			if name.Config.Replicas != tt.replicas {
				t.Errorf("%s has %d replicas, want %d", name.Config.Name, name.Config.Replicas, tt.replicas)
			}
		}
		file = backedUp(t, tt.nc)
		if got := take(t, js(t, again), "PAYKIT_INBOX", "normalizer", 10, false); !slices.Equal(got, []uint64{4}) {
			t.Errorf("the normalizer begins with %v", got)
		}
	}
}

// Of two restores at once the later one goes on; the earlier one notices before it deletes or completes anything of it.
func TestTwoRestoresAtOnce(t *testing.T) {
	t.Parallel()
	old := eventlogtest.Start(t).Conn(t)
	filled(t, eventlogtest.Open(t, old))
	file := backedUp(t, old)
	for name, wait := range map[string]bool{"completed meanwhile": false, "in the middle of it": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := eventlogtest.Start(t)
			nc, otherNC := server.Conn(t), server.Conn(t)
			begun, earlierEnded, laterEnded := make(chan struct{}), make(chan struct{}), make(chan error, 1)
			begin := sync.OnceFunc(func() { close(begun) })
			later := func() {
				_, err := eventlog.Restore(t.Context(), otherNC, eventlog.Config{}, from(file), func(p eventlog.Progress) {
					if wait && p.Done {
						begin()
						<-earlierEnded
					}
				})
				laterEnded <- err
				begin()
			}
			started := false
			_, err := eventlog.Restore(t.Context(), nc, eventlog.Config{}, from(file), func(p eventlog.Progress) {
				if p.Done && !started {
					started = true
					go later()
					<-begun
				}
			})
			close(earlierEnded)
			if !errors.Is(err, eventlog.ErrOtherRestore) {
				t.Errorf("the earlier one ended with %v", err)
			}
			if err := <-laterEnded; err != nil {
				t.Errorf("the later one ended with %v", err)
			}
			if err := openError(t, nc); err != nil {
				t.Errorf("open: %v", err)
			}
		})
	}
}

// A limit that the log has outgrown would be kept by the server, and refuse every event.
func TestRestoreIntoTooLittleRoom(t *testing.T) {
	t.Parallel()
	old := eventlogtest.Start(t).Conn(t)
	filled(t, eventlogtest.Open(t, old))
	file := backedUp(t, old)
	nc := eventlogtest.Start(t).Conn(t)
	_, err := eventlog.Restore(t.Context(), nc, eventlog.Config{MaxBytes: 1000}, from(file), nil)
	if err == nil || !strings.Contains(err.Error(), "--max-bytes 1000") {
		t.Errorf("%v", err)
	}
	if err := openError(t, nc); !errors.Is(err, eventlog.ErrNotProvisioned) {
		t.Errorf("opened: %v", err)
	}
}

// The server gives up after 10 s in which nothing was taken: that is told apart from a server that can't be reached.
func TestStalledBackup(t *testing.T) {
	t.Parallel()
	for status, want := range map[string]error{"": nil, "204": nil, "408": eventlog.ErrStalled, "500": eventlog.ErrUnavailable} {
		if err := eventlog.SnapshotEnd(nats.Header{"Status": {status}}); !errors.Is(err, want) {
			t.Errorf("%q: %v", status, err)
		}
	}
}
