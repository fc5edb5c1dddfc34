//go:build crashpoints

package e2e_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	crashSystems    = 3                // that serve one point after the other
	backfillSystems = 2                // a worker fills in a minute after its start: these mostly wait
	crashBound      = 90 * time.Second // to come by a point, and again to be as if nothing had happened
)

// crashJob is one death: at the nth hit of a point, of one program.
type crashJob struct {
	point   string
	nth     int
	program string
	crashRun
}

func (j crashJob) String() string { return fmt.Sprintf("%s:%d in %s", j.point, j.nth, j.program) }

// crashReport is what TestCrashPoints has seen. It is safe for concurrent use.
type crashReport struct {
	mu      sync.Mutex
	deaths  map[string]int // guarded by mu, by point
	slowest time.Duration  // guarded by mu
	at      string         // guarded by mu
}

func (r *crashReport) add(j crashJob, recovery time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deaths[j.point]++
	if recovery > r.slowest {
		r.slowest, r.at = recovery, j.String()
	}
}

// Each process is killed at each of its crash points, at the first and at a later hit, under load, and started again.
// When the dust has settled, every command has its one end, money was taken once for each charge that succeeded and for
// no other, and log and views are as the checker wants them.
//
// CRASH_HITS says at which hits, CRASH_POINTS at which points (the beginning of their names). When SOAK_TIME is over no
// further death begins: all points come at their first hit before any comes at a later one.
func TestCrashPoints(t *testing.T) {
	over := make(chan struct{})
	if bound := soakTime(t, 0); bound > 0 {
		defer time.AfterFunc(bound, func() { close(over) }).Stop()
	}
	jobs, slow := crashJobs(t)
	report := &crashReport{deaths: map[string]int{}}
	began := time.Now()
	t.Run("systems", func(t *testing.T) {
		for i := range crashSystems {
			serveCrashes(t, fmt.Sprint("system ", i+1), jobs, over, report)
		}
		for i := range backfillSystems {
			serveCrashes(t, fmt.Sprint("backfill ", i+1), slow, over, report)
		}
	})
	sum, hurried := 0, false
	select {
	case <-over:
		hurried = true
	default:
	}
	for point := range crashPoints() {
		sum += report.deaths[point]
		switch {
		case report.deaths[point] > 0 || !strings.HasPrefix(point, os.Getenv("CRASH_POINTS")):
		case hurried:
			t.Logf("no time was left for %s", point)
		default:
			t.Errorf("no process died at %s", point)
		}
	}
	t.Logf("%d crash points, %d deaths in %s, slowest recovery %s (%s)",
		len(report.deaths), sum, time.Since(began).Round(time.Second), report.slowest.Round(100*time.Millisecond), report.at)
}

// crashJobs lists the deaths: those that come soon, and those that a worker takes a minute for.
func crashJobs(t *testing.T) (jobs, slow chan crashJob) {
	t.Helper()
	hits := []int{1, 3}
	if text := os.Getenv("CRASH_HITS"); text != "" {
		hits = nil
		for one := range strings.SplitSeq(text, ",") {
			n, err := strconv.Atoi(one)
			if err != nil {
				t.Fatalf("CRASH_HITS: %v", err)
			}
			hits = append(hits, n)
		}
	}
	points, runs := crashPoints(), crashRuns()
	jobs, slow = make(chan crashJob, 4*len(hits)*len(points)), make(chan crashJob, len(hits)*len(points))
	for _, nth := range hits {
		for _, point := range slices.Sorted(maps.Keys(points)) {
			run := runs[point]
			if !strings.HasPrefix(point, os.Getenv("CRASH_POINTS")) || run.once && nth > 1 {
				continue
			}
			for _, program := range points[point] {
				j := crashJob{point: point, nth: nth, program: program, crashRun: run}
				if program == "backfill" {
					slow <- j
				} else {
					jobs <- j
				}
			}
		}
	}
	close(jobs)
	close(slow)
	return jobs, slow
}

// serveCrashes runs a system that serves jobs until none are left, or the time is over. After a failure it takes no more:
// what it would find could be the failure's.
func serveCrashes(t *testing.T, name string, jobs <-chan crashJob, over <-chan struct{}, report *crashReport) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		var s *system
		for j := range jobs {
			select {
			case <-over:
				return
			default:
			}
			if s == nil {
				s = newSystem(t)
				s.quicken()
				s.deliveries(`{"copies":2,"reorder":true,"window":"100ms"}`)
			}
			recovery := s.crash(j)
			t.Logf("%s: recovered in %s", j, recovery.Round(100*time.Millisecond))
			if t.Failed() {
				t.Logf("the failure is of %s", j)
				return
			}
			report.add(j, recovery)
		}
	})
}

// crash has a process die as the job says, and says how long it took from then until all was as it should be.
func (s *system) crash(j crashJob) time.Duration {
	s.t.Helper()
	l := s.newLoad(strings.ReplaceAll(fmt.Sprint(j.point, "_", j.nth, j.program), ".", "_"))
	plan := fmt.Sprintf("PAYKIT_CRASH=%s:%d", j.point, j.nth)
	if j.program == "backfill" {
		s.missDeliveries(l)
	}
	if j.program == "rebuild" {
		s.tell(l) // a rebuild of nothing comes by nothing
	}
	old := s.running(j.program)
	(*old).kill()
	if j.before != nil {
		j.before(l, j.nth)
	}
	var dying *process
	if j.program == "rebuild" {
		dying = start(s.t, append(s.env(), "PAYKIT_DATA_DIR="+s.viewsDir(), plan), "paykit", "rebuild")
	} else {
		s.startProgram(j.program, plan)
		dying = *s.running(j.program)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*crashBound)
	defer cancel()
	told := make(chan struct{})
	go func() {
		defer close(told)
		if j.program != "rebuild" && j.program != "backfill" && j.point != "projector.set_aside" {
			if j.during != nil {
				j.during(l)
			}
			l.run(ctx, 3, dying.done)
		}
	}()
	died := false
	select {
	case <-dying.done:
		died = true
	case <-time.After(crashBound):
	}
	at := time.Now()
	if !died {
		s.t.Errorf("%s: it never came by", j)
		cancel()
		<-told
		return 0
	}
	status, ok := dying.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if said := fmt.Sprintf("crash point %s, hit %d", j.point, j.nth); !ok || status.Signal() != syscall.SIGKILL || !strings.Contains(dying.out.String(), said) {
		s.t.Errorf("%s: it died of something else: %v\n%s", j, dying.err, dying.out)
	}
	s.startProgram(j.program)
	<-told
	l.settle(ctx)
	return time.Since(at)
}

// tell tells one story, for what takes in no load of its own.
func (s *system) tell(l *load) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), crashBound)
	defer cancel()
	told := make(chan struct{})
	close(told)
	l.run(ctx, 1, told)
}

// running is where the system keeps the process of a program.
func (s *system) running(program string) **process {
	switch program {
	case "ingest":
		return &s.in
	case "worker", "backfill":
		return &s.wk
	}
	return &s.pr
}

func (s *system) startProgram(program string, env ...string) {
	s.t.Helper()
	switch program {
	case "ingest":
		s.startIngest(env...)
	case "worker", "backfill":
		s.startWorker(env...)
	default:
		s.startProjector(env...)
	}
}

// missDeliveries charges a card while nothing is delivered, so that the worker has to fetch what it says.
func (s *system) missDeliveries(l *load) {
	s.t.Helper()
	customer, method := s.saved(l.pk, l.name, card4242)
	s.deliveries(`{"drop":true}`)
	defer s.deliveries(`{}`)
	for n := range 3 {
		l.expect(s.charged(l.pk, customer, method, fmt.Sprint(l.name, " missed ", n)), "succeeded")
	}
}
