package projections

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

// TestQueriesWhileAFileIsTakenOver: while rebuilt files are taken over, again and again, every query is answered and right,
// also one that began on the old file, and events go on being taken in.
func TestQueriesWhileAFileIsTakenOver(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	l := newLive(t, log)
	id, _ := l.sync("ada", "ada@example.com")
	dir := t.TempDir()
	p := startProjector(t, log, dir)
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	var asked, appended int
	var last uint64
	for range 2 {
		asking.Go(func() {
			for ctx.Err() == nil {
				answer, err := log.Conn().Request("paykit.query.customer.get", []byte(`{"customerId":"`+id+`"}`), 10*time.Second)
				if err != nil || !bytes.Contains(answer.Data, []byte(id)) {
					t.Errorf("a query during a handover: %v", err)
					return
				}
			}
		})
	}
	asking.Go(func() {
		for ; ctx.Err() == nil; appended++ {
			_, last = l.sync(fmt.Sprintf("while_%d", appended), "x@example.com") //nolint:contextcheck // it has the test's own
		}
	})
	// A reader that holds the old file for as long as it likes.
	reading, done := make(chan struct{}), make(chan error, 1)
	finish := make(chan struct{})
	go func() {
		done <- current{p}.view(func(tx *bbolt.Tx) error {
			close(reading)
			<-finish
			_, err := readCustomer(tx, id)
			return err
		})
	}()
	<-reading
	old := p.store.Load()
	for i := range 3 {
		if i == 1 {
			close(finish)
		}
		r, err := Rebuild(t.Context(), log, dir, RebuildOptions{})
		if err != nil || r.Handover.Outcome != HandoverTaken || r.Handover.Differs || r.Handover.OldDigest == "" {
			t.Fatalf("rebuild %d: %+v, %v", i, r.Handover, err)
		}
		asked++
	}
	cancel()
	asking.Wait()
	if err := <-done; err != nil {
		t.Errorf("a query that began before: %v", err)
	}
	if p.store.Load() == old || appended == 0 {
		t.Errorf("nothing was taken over, or in: %d events", appended)
	}
	waitSequence(t, p, last)
	if at := p.store.Load().has(); at < last {
		t.Errorf("the views that were taken over say that they are at %d of %d", at, last)
	}
	want, err := DigestAt(t.Context(), log, t.TempDir(), last, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sameViews(t, "after the handovers", got, want)
	if names := filesIn(t, dir); len(names) != 1 {
		t.Errorf("files %v", names)
	}
}

// TestViewsThatDiffer: live views that are not what the log says are replaced, reported, and kept.
func TestViewsThatDiffer(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	last := fillLog(t, log, 41, 100)
	want := stopped(t, log, t.TempDir(), last)
	for name, running := range map[string]bool{"a projector has them": true, "nobody has them": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			stopped(t, log, dir, last)
			s := openTestStore(t, filepath.Join(dir, FileName))
			if err := forge(s); err != nil {
				t.Fatal(err)
			}
			closeStore(t, s)
			if running {
				startProjector(t, log, dir)
			}
			r, err := Rebuild(t.Context(), log, dir, RebuildOptions{})
			if err != nil {
				t.Fatal(err)
			}
			sameViews(t, "rebuilt", Result{Digest: r.Digest, Sequence: r.Sequence, Rows: r.Rows}, want)
			h := r.Handover
			if !h.Differs || h.OldDigest == want.Digest || h.NewDigest != want.Digest || h.Sequence != last || h.Aside == "" {
				t.Fatalf("handover %+v", h)
			}
			if _, err := os.Stat(h.Aside); err != nil {
				t.Error(err)
			}
			if names := filesIn(t, dir); len(names) != 2 || !strings.HasPrefix(names[1], FileName+".differs-") {
				t.Errorf("files %v", names)
			}
		})
	}
}

// forge changes a row as a program with a bug would: with all checksums right.
func forge(s *store) error {
	return s.update(func(tx *bbolt.Tx) error {
		f := newFold(tx)
		k, v := tx.Bucket([]byte(bucketCustomers)).Cursor().First()
		r, err := decodeRow(k, v)
		if err != nil {
			return err
		}
		r.snapshot = bytes.Replace(r.snapshot, []byte(`"referenceId":"`), []byte(`"referenceId":"x`), 1)
		f.put(bucketCustomers, bytes.Clone(k), r.encode(k))
		_, f.digest, err = s.checkpoint()
		return errors.Join(err, f.flush())
	})
}

// TestNextThatDoesNotFit is put aside, and the live views stay.
func TestNextThatDoesNotFit(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	last := fillLog(t, log, 42, 60)
	dir := t.TempDir()
	p := startProjector(t, log, dir)
	want, err := p.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(t *testing.T, path string){
		"damaged": flipInRow,
		"foreign": foreignFile,
		"other-log: a restored one, that went on differently": func(t *testing.T, path string) {
			t.Helper()
			setMeta(t, path, keyDigest, []byte(events.Digest([]byte("another"))))
		},
		"other-log": func(t *testing.T, path string) {
			t.Helper()
			setMeta(t, path, keyLog, []byte("paykit 123"))
		},
		"ahead": func(t *testing.T, path string) {
			t.Helper()
			setMeta(t, path, keyCheckpoint, sequenceKey(last+1))
		},
	} {
		other := t.TempDir()
		if _, err := Rebuild(t.Context(), log, other, RebuildOptions{}); err != nil {
			t.Fatal(err)
		}
		spoil(t, filepath.Join(other, FileName))
		h, err := handOverFile(t, log, filepath.Join(other, FileName), dir)
		reason, _, _ := strings.Cut(name, ":")
		if err != nil || h.Outcome != HandoverRefused || !strings.Contains(h.Aside, nextName+"."+reason+"-") {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
	}
	got, err := p.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sameViews(t, "live", got, want)
}

// TestNextIsTakenAtStart: what was rebuilt while nothing ran, or by a program that a crash ended before the handover, takes the
// place of a file that can't be used, which an older schema's is, without reading the log again.
func TestNextIsTakenAtStart(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	last := fillLog(t, log, 43, 60)
	want := stopped(t, log, t.TempDir(), last)
	for name, tt := range map[string]struct {
		spoil func(t *testing.T, path string)
		aside int
	}{
		"missing": {func(t *testing.T, path string) {
			t.Helper()
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, 0},
		"of an older schema": {func(t *testing.T, path string) {
			t.Helper()
			setMeta(t, path, keySchema, sequenceKey(schema-1))
		}, 1},
		"damaged": {flipInRow, 1},
	} {
		dir := t.TempDir()
		stopped(t, log, dir, last)
		if err := os.Rename(filepath.Join(dir, FileName), filepath.Join(dir, nextName)); err != nil {
			t.Fatal(err)
		}
		stopped(t, log, t.TempDir(), last)
		live := filepath.Join(dir, FileName)
		fileWith(t, live, randomHistory(t, 1, 20))
		tt.spoil(t, live)
		p, err := Open(dir, log, Config{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := p.Digest(t.Context()) // before it ran: not one event was read
		if err := errors.Join(err, p.Close()); err != nil {
			t.Fatal(err)
		}
		sameViews(t, name, got, want)
		if h, err := readSwapped(dir); err != nil || h.Outcome != HandoverTaken {
			t.Errorf("%s: a rebuild that waits is told %+v, %v", name, h, err)
		}
		if names := filesIn(t, dir); len(names) != 1+tt.aside {
			t.Errorf("%s: files %v", name, names)
		}
	}
}

// TestKilledRebuild: a rebuild that is killed goes on where it was, again and again.
func TestKilledRebuild(t *testing.T) {
	t.Parallel()
	server := eventlogtest.Start(t)
	log := eventlogtest.Open(t, server.Conn(t))
	last := fillLog(t, log, 31, 500)
	want := stopped(t, log, t.TempDir(), last)
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	reached := uint64(0)
	for range 3 {
		cmd := exec.CommandContext(t.Context(), exe) //nolint:gosec // G204: the test's own binary
		cmd.Env = append(os.Environ(), rebuildEnv+"="+dir, "NATS_URL="+server.URL)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var from, to uint64
		scanner := bufio.NewScanner(out)
		for lines := 0; lines < 3 && scanner.Scan(); lines++ {
			_, _ = fmt.Sscan(scanner.Text(), &to)
			if lines == 0 {
				from = to
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // "signal: killed"
		if from <= reached || to >= last {
			t.Fatalf("began at %d after %d had been reached, ended at %d of %d: %s", from, reached, to, last, stderr.String())
		}
		reached = to
	}
	s := openTestStore(t, filepath.Join(dir, rebuildName))
	at, _, err := s.checkpoint()
	if err != nil || at < reached {
		t.Errorf("what was left is at %d, %v, it had been at %d", at, err, reached)
	}
	closeStore(t, s)
	first := uint64(0)
	r, err := Rebuild(t.Context(), log, dir, RebuildOptions{Progress: func(at, _ uint64) {
		if first == 0 {
			first = at
		}
	}})
	if err != nil || first <= reached {
		t.Errorf("went on at %d, %v", first, err)
	}
	r.Handover = nil
	sameViews(t, "after the kills", r, want)
}

// rebuildEnv makes the test's binary a rebuild, to be killed: it folds a few events at a time.
const rebuildEnv = "PAYKIT_TEST_REBUILD"

// childRebuild rebuilds a piece at a time and prints where it is.
func childRebuild(dir string, log *eventlog.Log) error {
	ctx := context.Background()
	info, err := log.Info(ctx)
	if err != nil {
		return err
	}
	s, err := resumeStore(ctx, log, info, filepath.Join(dir, rebuildName), false)
	if err != nil {
		return err
	}
	at, _, err := s.checkpoint()
	for ; err == nil && at < info.LastSequence; at += 20 {
		if err = s.fill(ctx, log, min(at+20, info.LastSequence), nil); err == nil {
			_, err = fmt.Fprintln(os.Stdout, at+20)
		}
	}
	return err
}

// TestInterruptedRebuildThatDoesNotFit begins anew.
func TestInterruptedRebuildThatDoesNotFit(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	last := fillLog(t, log, 44, 60)
	want := stopped(t, log, t.TempDir(), last)
	for name, spoil := range map[string]func(t *testing.T, path string){
		"damaged": flipInRow,
		"of another log": func(t *testing.T, path string) {
			t.Helper()
			setMeta(t, path, keyDigest, []byte(events.Digest([]byte("another"))))
		},
		"of an older schema": func(t *testing.T, path string) {
			t.Helper()
			setMeta(t, path, keySchema, sequenceKey(schema-1))
		},
		"no views": func(t *testing.T, path string) {
			t.Helper()
			if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		dir := t.TempDir()
		stopped(t, log, dir, last)
		if err := os.Rename(filepath.Join(dir, FileName), filepath.Join(dir, rebuildName)); err != nil {
			t.Fatal(err)
		}
		spoil(t, filepath.Join(dir, rebuildName))
		r, err := Rebuild(t.Context(), log, dir, RebuildOptions{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		r.Handover = nil
		sameViews(t, name, r, want)
	}
}

// TestLargeFileIsReadThroughInUse: damage in a file that is too large to be read through before it is used is noticed while it is.
func TestLargeFileIsReadThroughInUse(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	last := fillLog(t, log, 45, 60)
	dir := t.TempDir()
	want := stopped(t, log, dir, last)
	flipInRow(t, filepath.Join(dir, FileName))
	s, err := openStore(filepath.Join(dir, FileName), storeOptions{})
	if err != nil {
		t.Fatalf("opened without being read through: %v", err)
	}
	p := &Projector{
		path: filepath.Join(dir, FileName), log: log, now: time.Now, progress: newProgress(), past: newPastMetrics(nil),
		metrics: newMetrics(nil), walkEvery: walkEvery,
	}
	p.store.Store(s)
	stop := runProjector(t, p)
	waitUntil(t, "the damage is noticed", func() bool { return len(filesIn(t, dir)) >= 2 })
	waitReady(t, p)
	waitSequence(t, p, last)
	got, err := p.Digest(t.Context())
	if err := errors.Join(err, stop(), p.Close()); err != nil {
		t.Fatal(err)
	}
	sameViews(t, "rebuilt", got, want)
}

func waitUntil(t *testing.T, what string, so func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := await(ctx, so); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// TestDigestBehindTheLogsEnd is an error at once: the log's last events are gone.
func TestDigestBehindTheLogsEnd(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	last := fillLog(t, log, 47, 10)
	_, err := DigestAt(t.Context(), log, t.TempDir(), last+5, nil)
	if gap, ok := errors.AsType[*eventlog.GapError](err); !ok || gap.Want != last+5 || gap.Got != last+1 {
		t.Errorf("%v", err)
	}
}
