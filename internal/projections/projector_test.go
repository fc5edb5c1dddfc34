package projections

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

// runProjector runs a projector; stop ends it and answers what Run returned.
func runProjector(tb testing.TB, p *Projector) (stop func() error) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	return func() error {
		cancel()
		return <-done
	}
}

// fillLog appends a random history to a real LOG and answers its last sequence.
func fillLog(tb testing.TB, log *eventlog.Log, seed uint64, steps int) uint64 {
	tb.Helper()
	s := newScript(tb)
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // G404: a test's script, repeatable on purpose
	guard := map[string]uint64{}
	var last uint64
	for range steps {
		from := len(s.entries)
		s.step(r)
		for _, e := range s.entries[from:] {
			sequence, err := log.Append(tb.Context(), e.Event, guard[e.Event.Subject])
			if err != nil {
				tb.Fatalf("append: %v", err)
			}
			guard[e.Event.Subject], last = sequence, sequence
		}
	}
	return last
}

// stopped runs a projector on dir until it has a sequence, and answers the digest it ended with.
func stopped(tb testing.TB, log *eventlog.Log, dir string, sequence uint64) Result {
	tb.Helper()
	p, err := Open(dir, log, Config{})
	if err != nil {
		tb.Fatalf("open: %v", err)
	}
	stop := runProjector(tb, p)
	waitReady(tb, p)
	waitSequence(tb, p, sequence)
	r, err := p.Digest(tb.Context())
	if err := errors.Join(err, stop(), p.Close()); err != nil {
		tb.Fatal(err)
	}
	return r
}

func sameViews(tb testing.TB, what string, got, want Result) {
	tb.Helper()
	if got.Digest != want.Digest || got.Sequence != want.Sequence || fmt.Sprint(got.Rows) != fmt.Sprint(want.Rows) {
		tb.Errorf("%s: %+v, want %+v", what, got, want)
	}
}

// TestRebuildEqualsLive: the views of a running projector and those of a rebuild are the same, byte for byte, also
// after the LOG went on, and the rebuilt file is one that the projector goes on with.
func TestRebuildEqualsLive(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	nc := log.Conn()
	dir := t.TempDir()
	fillLog(t, log, 11, 150)
	p := startProjector(t, log, dir)
	last := newLiveEvents(t, log)
	waitSequence(t, p, last)
	live, err := p.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if live.Sequence != last || live.Rows["customers"] == 0 || !strings.HasPrefix(live.Digest, "sha256:") {
		t.Errorf("live %+v", live)
	}
	var status Result
	ask(t, nc, "view.status", "", 0).into(t, &status)
	sameViews(t, "view.status", status, live)

	// A running projector takes the new file over.
	var told []uint64
	rebuilt, err := Rebuild(t.Context(), log, dir, RebuildOptions{Progress: func(sequence, of uint64) { told = append(told, sequence, of) }})
	if err != nil {
		t.Fatal(err)
	}
	sameViews(t, "rebuild beside a projector", rebuilt, live)
	if len(told) < 2 || fmt.Sprint(told[len(told)-2:]) != fmt.Sprint([]uint64{last, last}) {
		t.Errorf("progress %v", told)
	}
	if h := rebuilt.Handover; h.Outcome != HandoverTaken || h.Differs || h.OldDigest != live.Digest || h.NewDigest != live.Digest || h.Sequence != last {
		t.Errorf("handover %+v", h)
	}
	if names := filesIn(t, dir); len(names) != 1 {
		t.Errorf("files %v", names)
	}

	other := t.TempDir()
	rebuilt, err = Rebuild(t.Context(), log, other, RebuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sameViews(t, "rebuild", rebuilt, live)
	if names := filesIn(t, other); len(names) != 1 || rebuilt.Path != filepath.Join(other, FileName) {
		t.Errorf("files %v, path %s", names, rebuilt.Path)
	}
	last = newLiveEvents(t, log)
	waitSequence(t, p, last)
	if live, err = p.Digest(t.Context()); err != nil {
		t.Fatal(err)
	}
	sameViews(t, "projector on a rebuilt file", stopped(t, log, other, last), live)
	if names := filesIn(t, other); len(names) != 1 {
		t.Errorf("the rebuilt file was not taken: %v", names)
	}
}

// newLiveEvents appends a few events that no fillLog makes.
func newLiveEvents(tb testing.TB, log *eventlog.Log) uint64 {
	tb.Helper()
	l := newLive(tb, log)
	info, err := log.Info(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	ref := fmt.Sprintf("late_%d", info.LastSequence)
	id, _ := l.sync(ref, "late@example.com")
	charge, _ := l.charge(id, ref)
	return l.pay(id, charge, events.PaymentSucceeded)
}

func TestRebuildOfAnEmptyLog(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	r, err := Rebuild(t.Context(), log, filepath.Join(t.TempDir(), "new"), RebuildOptions{})
	if err != nil || r.Sequence != 0 {
		t.Errorf("rebuild %+v, %v", r, err)
	}
	p := startProjector(t, log, t.TempDir())
	got, err := p.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sameViews(t, "projector", got, r)
}

// TestGoesOnWhereItWas: the second run reads only what came since, and ends with the views of one run.
func TestGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	dir := t.TempDir()
	var last uint64
	for range 4 {
		last = newLiveEvents(t, log)
		stopped(t, log, dir, last)
	}
	want, err := Rebuild(t.Context(), log, t.TempDir(), RebuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sameViews(t, "after four runs", stopped(t, log, dir, last), want)
	if names := filesIn(t, dir); len(names) != 1 {
		t.Errorf("files %v", names)
	}
}

// childEnv makes the test's binary a projector, to be killed.
const childEnv = "PAYKIT_TEST_PROJECTOR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv) + os.Getenv(rebuildEnv); dir != "" {
		if err := child(dir, os.Getenv("NATS_URL")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child runs a projector and prints each sequence that it reaches.
func child(dir, url string) error {
	ctx := context.Background()
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	log, err := eventlog.Open(ctx, nc, eventlog.Config{})
	if err != nil {
		return err
	}
	if os.Getenv(rebuildEnv) != "" {
		return childRebuild(dir, log)
	}
	p, err := Open(dir, log, Config{})
	if err != nil {
		return err
	}
	go func() {
		for {
			at, _, moved := p.progress.look()
			_, _ = fmt.Fprintln(os.Stdout, at)
			<-moved
		}
	}()
	return p.Run(ctx)
}

// TestKilled kills a projector with SIGKILL while it is folding, again and again: what it leaves is always a state that
// the next one goes on from, and the views end as a rebuild's.
func TestKilled(t *testing.T) {
	t.Parallel()
	server := eventlogtest.Start(t)
	log := eventlogtest.Open(t, server.Conn(t))
	dir := t.TempDir()
	last := fillLog(t, log, 30, 600)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	appending, stop := make(chan uint64, 1), make(chan struct{})
	go func() { appending <- appendUntil(t, log, stop) }() // so that batches are small and kills meet commits
	bound, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	reached := uint64(0)
	for range 8 {
		cmd := exec.CommandContext(bound, exe) //nolint:gosec // G204: the test's own binary
		cmd.Env = append(os.Environ(), childEnv+"="+dir, "NATS_URL="+server.URL)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		at, lines := watch(out, 5)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait() // "signal: killed"
		if at < reached || lines < 5 {
			t.Fatalf("went back from %d to %d after %d steps: %s", reached, at, lines, stderr.String())
		}
		reached = at
	}
	close(stop)
	last = max(last, <-appending)
	want, err := Rebuild(t.Context(), log, t.TempDir(), RebuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sameViews(t, "after the kills", stopped(t, log, dir, last), want)
	if names := filesIn(t, dir); len(names) != 1 {
		t.Errorf("a kill left a file that could not be used: %v", names)
	}
}

// watch reads sequences until the n-th change.
func watch(out io.Reader, n int) (at uint64, lines int) {
	for scanner := bufio.NewScanner(out); lines < n && scanner.Scan(); lines++ {
		at, _ = strconv.ParseUint(scanner.Text(), 10, 64)
	}
	return at, lines
}

func appendUntil(tb testing.TB, log *eventlog.Log, stop <-chan struct{}) uint64 {
	tb.Helper()
	l := newLive(tb, log)
	var last uint64
	for i := 0; tb.Context().Err() == nil; i++ {
		select {
		case <-stop:
			return last
		default:
			_, last = l.sync(fmt.Sprintf("while_%d", i), "while@example.com")
		}
	}
	return last
}

// TestAnswersOnlyWhenCaughtUp: a projector with an empty file and a log with events is "rebuilding": nobody answers.
func TestAnswersOnlyWhenCaughtUp(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	last := newLiveEvents(t, log)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, FileName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := Open(dir, log, Config{})
	if err != nil {
		t.Fatal(err)
	}
	if p.Ready() == nil {
		t.Error("ready before it ran")
	}
	p.progress.change(func(g *progress) { g.target = last })
	if err := p.Ready(); err == nil || !strings.Contains(err.Error(), "rebuilding") {
		t.Errorf("Ready says %v, want rebuilding", err)
	}
	if _, err := log.Conn().Request("paykit.query.customer.list", nil, time.Second); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("query before it ran: %v", err)
	}
	stop := runProjector(t, p)
	waitReady(t, p)
	if p.Sequence() != last {
		t.Errorf("ready at %d of %d", p.Sequence(), last)
	}
	if err := errors.Join(stop(), p.Close()); err != nil {
		t.Fatal(err)
	}
	if p.Ready() == nil {
		t.Error("ready after it was stopped")
	}
	if _, err := log.Conn().Request("paykit.query.customer.list", nil, time.Second); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("query after it was stopped: %v", err)
	}
}

// TestStopsAtWhatItDoesNotKnow: an event of a later version of the program stops it, with its place; nothing behind it
// is folded in, and it stays not ready.
func TestStopsAtWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	last := newLiveEvents(t, log)
	body := `{"specversion":"1.0","id":"x","type":"customer.promoted","subject":"cust_x","entityversion":1,"data":{}}`
	if _, err := log.Conn().Request("paykit.log.customer.promoted.cust_x.none", []byte(body), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	newLiveEvents(t, log)
	p, err := Open(t.TempDir(), log, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	err = p.Run(t.Context())
	if !errors.Is(err, events.ErrUnknownType) || !strings.Contains(err.Error(), strconv.FormatUint(last+1, 10)) ||
		!strings.Contains(err.Error(), "customer.promoted") {
		t.Errorf("Run ended with %v", err)
	}
	if p.Sequence() != last || p.Ready() == nil {
		t.Errorf("at %d, ready %v, want %d and not ready", p.Sequence(), p.Ready(), last)
	}
	if _, err := Rebuild(t.Context(), log, t.TempDir(), RebuildOptions{}); !errors.Is(err, events.ErrUnknownType) {
		t.Errorf("Rebuild ended with %v", err)
	}
}

// TestFilesPutAside: whatever is wrong with the file, the views are rebuilt and the file is kept under another name.
func TestFilesPutAside(t *testing.T) { //nolint:tparallel // its rows share one server, one after the other
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	last := fillLog(t, log, 40, 200)
	want := stopped(t, log, t.TempDir(), last)
	tests := map[string]struct {
		spoil func(t *testing.T, path string)
		aside string // "" = nothing is put aside
	}{
		"a part of it": {func(t *testing.T, path string) {
			t.Helper()
			truncate(t, path, int64(8*os.Getpagesize()))
		}, "damaged"},
		"both meta pages zeroed": {func(t *testing.T, path string) {
			t.Helper()
			overwrite(t, path, 0, 2*os.Getpagesize())
		}, "damaged"},
		"a flipped bit":                  {flipInRow, "damaged"},
		"a bbolt file of something else": {foreignFile, "foreign"},
		"a newer schema": {func(t *testing.T, path string) {
			t.Helper()
			setMeta(t, path, keySchema, sequenceKey(schema+1))
		}, "newer"},
		"made from another log": {func(t *testing.T, path string) {
			t.Helper()
			setMeta(t, path, keyLog, []byte("paykit 123"))
		}, "other-log"},
		"made from the same log before it was restored and went on differently": {func(t *testing.T, path string) {
			t.Helper()
			setMeta(t, path, keyDigest, []byte(events.Digest([]byte("what was lost"))))
		}, "other-log"},
		"ahead of the log": {func(t *testing.T, path string) {
			t.Helper()
			setMeta(t, path, keyCheckpoint, sequenceKey(last+1))
		}, "ahead"},
		"empty": {func(t *testing.T, path string) {
			t.Helper()
			truncate(t, path, 0)
		}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			stopped(t, log, dir, last)
			tt.spoil(t, filepath.Join(dir, FileName))
			sameViews(t, "rebuilt", stopped(t, log, dir, last), want)
			names := filesIn(t, dir)
			switch {
			case tt.aside == "" && len(names) == 1:
			case tt.aside != "" && len(names) == 2 && strings.HasPrefix(names[1], FileName+"."+tt.aside+"-"):
			default:
				t.Errorf("files %v", names)
			}
		})
	}
}

// TestDamageWhileRunning: a row that rotted is never answered; the views are rebuilt while the process goes on.
func TestDamageWhileRunning(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	l := newLive(t, log)
	id, last := l.sync("ada", "ada@example.com")
	dir := t.TempDir()
	p := startProjector(t, log, dir)
	want, err := p.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := flipIn(p.store.Load()); err != nil {
		t.Fatal(err)
	}
	_, _, moved := p.progress.look()
	ask(t, log.Conn(), "customer.get", fields{"customerId": id}, 0).wantError(t, events.CodeTimeout, "")
	<-moved // not ready any more
	waitReady(t, p)
	waitSequence(t, p, last)
	var c events.CustomerResult
	ask(t, log.Conn(), "customer.get", fields{"customerId": id}, 0).into(t, &c)
	got, err := p.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sameViews(t, "rebuilt", got, want)
	if names := filesIn(t, dir); len(names) != 2 {
		t.Errorf("files %v", names)
	}
}

// TestNoPersonalData: nothing of a profile is in the views' file.
func TestNoPersonalData(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	l := newLive(t, log)
	id := events.CustomerID("ada")
	canary := "canary-3f9a"
	email, name := canary+"@example.com", canary+" Lovelace"
	revision, err := log.PutProfile(t.Context(), id, eventlog.Profile{
		Email: &email, Name: &name, Metadata: map[string]string{"note": canary},
	}, 0)
	if err != nil {
		t.Fatal(err)
	}
	last := l.update(events.EntityCustomer, id, func(last *events.Event) (*events.Event, error) {
		return events.DecideCustomer(last, events.SyncCustomer{
			ReferenceID: "ada", Revision: revision, Changed: []string{"email", "name", "metadata"},
		}, l.cause("", ""))
	}).Sequence
	dir := t.TempDir()
	p := startProjector(t, log, dir)
	waitSequence(t, p, last)
	got := ask(t, log.Conn(), "customer.get", fields{"customerId": id}, 0)
	if strings.Count(string(got.data), canary) != 3 {
		t.Fatalf("the answer lacks the profile: %s", got.data)
	}
	for _, name := range filesIn(t, dir) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(canary)) {
			t.Errorf("%s holds the profile", name)
		}
		if !bytes.Contains(b, []byte(id)) {
			t.Errorf("%s does not hold the customer: the test looks at the wrong file", name)
		}
	}
}
