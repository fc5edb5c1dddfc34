package projections

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

// handOverFile hands a file of any kind over.
func handOverFile(t *testing.T, log *eventlog.Log, from, dir string) (*Handover, error) {
	t.Helper()
	if err := makeNext(dir, from); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), handoverWait)
	defer cancel()
	return awaitHandover(ctx, log, dir)
}

// nextFile makes the views anew and opens them as the next file of dir.
func nextFile(t *testing.T, log *eventlog.Log, dir string) *store {
	t.Helper()
	other := t.TempDir()
	if _, err := Rebuild(t.Context(), log, other, RebuildOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(other, FileName), filepath.Join(dir, nextName)); err != nil {
		t.Fatal(err)
	}
	return openTestStore(t, filepath.Join(dir, nextName))
}

// idle is a projector that has taken the LOG in once and does not run.
func idle(t *testing.T, log *eventlog.Log, dir string, last uint64) *Projector {
	t.Helper()
	stopped(t, log, dir, last)
	p, err := Open(dir, log, Config{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestDamageOfTheOldFile is no reason to put the one aside that took its place.
func TestDamageOfTheOldFile(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	l := newLive(t, log)
	id, last := l.sync("ada", "ada@example.com")
	dir := t.TempDir()
	p := startProjector(t, log, dir)
	old := p.store.Load()
	// A query that is at the damaged old file when the swap comes.
	reading, finish, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- current{p}.view(func(*bbolt.Tx) error {
			close(reading)
			<-finish
			return errDamaged
		})
	}()
	<-reading
	if r, err := Rebuild(t.Context(), log, dir, RebuildOptions{}); err != nil || r.Handover.Outcome != HandoverTaken {
		t.Fatalf("%+v, %v", r.Handover, err)
	}
	close(finish)
	err := <-done
	if refusal, ok := errors.AsType[*events.Error](err); !ok || refusal.Code != events.CodeTimeout {
		t.Errorf("the query was answered %v", err)
	}
	// And one that told of the damage just before it.
	taken := p.store.Load()
	if taken == old || taken.broken.Load() || !old.broken.Load() {
		t.Fatal("the damage is not the old file's")
	}
	if replaced, err := p.replace(unfit(errDamaged)); replaced || err != nil || p.store.Load() != taken {
		t.Errorf("the new file was put aside: %t, %v", replaced, err)
	}
	var c events.CustomerResult
	ask(t, log.Conn(), "customer.get", fields{"customerId": id}, last).into(t, &c)
	if names := filesIn(t, dir); len(names) != 1 {
		t.Errorf("files %v", names)
	}
}

// TestDamageOfTheNextFile that comes up after it was opened has it refused, and told so; and nobody who finds neither the file
// nor a word of what became of it takes it for taken over.
func TestDamageOfTheNextFile(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	last := fillLog(t, log, 48, 60)
	dir := t.TempDir()
	p := idle(t, log, dir, last)
	live := p.store.Load()
	n := nextFile(t, log, dir)
	if err := errors.Join(flipIn(n), p.takeOpened(t.Context(), filepath.Join(dir, nextName), n)); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), handoverWait)
	defer cancel()
	h, err := awaitHandover(ctx, log, dir)
	if err != nil || h.Outcome != HandoverRefused || !strings.Contains(h.Aside, nextName+".damaged-") || p.store.Load() != live {
		t.Errorf("%+v, %v", h, err)
	}
	if h, err := awaitHandover(ctx, log, dir); !errors.Is(err, errUnknown) {
		t.Errorf("nobody said what became of it, and yet: %+v, %v", h, err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if names := filesIn(t, dir); len(names) != 2 {
		t.Errorf("files %v", names)
	}
}

// TestWhatBecomesOfItIsToldFirst: whoever finds the next file gone finds what became of it.
func TestWhatBecomesOfItIsToldFirst(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	dir := t.TempDir()
	p := idle(t, log, dir, fillLog(t, log, 49, 20))
	closeStore(t, nextFile(t, log, dir))
	if err := p.refuseNext(filepath.Join(dir, "gone"), unfit(errDamaged)); err == nil {
		t.Error("a file that is not there was put aside")
	}
	if h, err := readSwapped(dir); err != nil || h.Outcome != HandoverRefused {
		t.Errorf("told before the file is put aside: %+v, %v", h, err)
	}
	// Nothing can be put there: a folder stands in its way.
	if err := os.MkdirAll(filepath.Join(dir, swappedName, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := p.takeNext(t.Context()); err == nil {
		t.Error("taken over, though nobody can be told")
	}
	if _, err := os.Stat(filepath.Join(dir, nextName)); err != nil {
		t.Errorf("the next file is gone: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// TestCaughtUpBeforeTheSwap: what came in since the comparing is in the new file before queries are answered from it.
func TestCaughtUpBeforeTheSwap(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	l := newLive(t, log)
	_, last := l.sync("ada", "ada@example.com")
	dir := t.TempDir()
	p := idle(t, log, dir, last)
	n, h := nextFile(t, log, dir), &Handover{Outcome: HandoverTaken}
	if err := p.compareNext(t.Context(), h, n); err != nil || h.Sequence != last || h.Differs {
		t.Fatalf("%+v, %v", h, err)
	}
	_, last = l.sync("bob", "bob@example.com")
	e, err := log.Read(t.Context(), last)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.apply(eventlog.Batch{Entries: []eventlog.Entry{e}}); err != nil {
		t.Fatal(err)
	}
	old, err := p.swap(t.Context(), h, n)
	if err != nil {
		t.Fatal(err)
	}
	if at, _, err := p.store.Load().checkpoint(); err != nil || at != last || (current{p}).has() != last {
		t.Errorf("the new views are at %d of %d, %v", at, last, err)
	}
	closeStore(t, old)
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// TestAttemptsGetSeldomer: a file that can't be taken over is read through ever seldomer, and another one at once.
func TestAttemptsGetSeldomer(t *testing.T) {
	t.Parallel()
	var files [2]os.FileInfo
	for i := range files {
		path := filepath.Join(t.TempDir(), "file")
		err := os.WriteFile(path, nil, 0o600)
		if err == nil {
			files[i], err = os.Stat(path)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var a attempts
	now := time.Unix(0, 0)
	var waits []time.Duration
	for range 10 {
		if !a.due(files[0], now) {
			t.Fatalf("not due after %v", waits)
		}
		a.failed(files[0], now)
		if a.due(files[0], now.Add(a.wait-1)) {
			t.Errorf("due before %s are over", a.wait)
		}
		now = now.Add(a.wait)
		waits = append(waits, a.wait)
	}
	if got := fmt.Sprint(waits); got != "[250ms 500ms 1s 2s 4s 8s 16s 32s 1m0s 1m0s]" {
		t.Error(got)
	}
	a.failed(files[0], now)
	if !a.due(files[1], now) {
		t.Error("another file waits for the first one's time")
	}
	if a.failed(files[1], now); a.wait != folderLook {
		t.Errorf("another file waits %s", a.wait)
	}
}
