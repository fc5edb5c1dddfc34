package sim_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paykit-go/paykit/internal/plant"
	"github.com/paykit-go/paykit/internal/projections"
	"github.com/paykit-go/paykit/internal/sim"
)

var (
	seedFlag  = flag.Uint64("seed", 1, "the seed that TestSeed plays")                            //nolint:gochecknoglobals // a flag of the test binary
	traceFlag = flag.Bool("trace", false, "print what happens in TestSeed")                       //nolint:gochecknoglobals // a flag of the test binary
	firstFlag = flag.Uint64("first", 1, "the first seed of TestSeeds")                            //nolint:gochecknoglobals // a flag of the test binary
	seedsFlag = flag.Int("seeds", 200, "how many seeds TestSeeds plays")                          //nolint:gochecknoglobals // a flag of the test binary
	keepFlag  = flag.Bool("keep", false, "shrink what fails and keep it in testdata/regressions") //nolint:gochecknoglobals // a flag of the test binary
	timeFlag  = flag.Duration("for", 0, "how long TestSeeds plays at most; 0 = to the last seed") //nolint:gochecknoglobals // a flag of the test binary
)

// TestMain lets garbage lie a little longer: a run makes much and keeps nothing.
func TestMain(m *testing.M) {
	flag.Parse()
	debug.SetGCPercent(800)
	os.Exit(m.Run())
}

// TestSeed plays one seed: the command line that a failing seed prints.
func TestSeed(t *testing.T) {
	var trace io.Writer
	if *traceFlag {
		trace = os.Stdout
	}
	r := sim.NewWorld(sim.Scenario{Seed: *seedFlag}, trace).Run()
	for _, p := range r.Problems {
		t.Error(p)
	}
	t.Logf("%d events, %d steps, %s, faults %v", r.Events, r.Steps, r.Virtual.Round(time.Second), r.Injected)
}

// TestSeeds plays many, on as many processors as there are. A seed that fails is shrunk and written where it stays: the
// next run plays it again.
func TestSeeds(t *testing.T) {
	begun := time.Now()
	var (
		next atomic.Uint64
		wg   sync.WaitGroup
		mu   sync.Mutex
		sum  = tally{injected: map[string]int{}}
	)
	next.Store(*firstFlag)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			check := newViews(t)
			for {
				seed := next.Add(1) - 1
				if seed >= *firstFlag+uint64(*seedsFlag) || *timeFlag > 0 && time.Since(begun) > *timeFlag { //nolint:gosec // G115: a count
					return
				}
				sc := sim.Scenario{Seed: seed}
				w := sim.NewWorld(sc, nil)
				r := w.Run()
				if seed%viewsEvery == 0 {
					r.Problems = append(r.Problems, check(w)...)
				}
				mu.Lock()
				sum.add(sc, r)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d seeds, %d bad, %d events, %d faults, %s", sum.played, len(sum.bad), sum.events, sum.faults, time.Since(begun).Round(time.Millisecond))
	for _, k := range slices.Sorted(maps.Keys(sum.injected)) {
		t.Logf("%9d %s", sum.injected[k], k)
	}
	slices.SortFunc(sum.bad, func(a, b sim.Scenario) int { return cmp.Compare(a.Seed, b.Seed) })
	for i, sc := range sum.bad {
		t.Errorf("seed %d: %s\n%s", sc.Seed, sc.Problem, sc.Command())
		if i < 3 && *keepFlag {
			keep(t, sim.Shrink(sc))
		}
	}
}

// viewsEvery: of every so many runs the views are made too, which takes as long as the run itself.
const viewsEvery = 20

// tally is what many runs came to.
type tally struct {
	played, events, faults int
	bad                    []sim.Scenario
	injected               map[string]int
}

func (s *tally) add(sc sim.Scenario, r sim.Result) {
	s.played++
	s.events += r.Events
	for k, n := range r.Injected {
		s.injected[k] += n
		s.faults += n
	}
	if len(r.Problems) > 0 {
		sc.Problem = strings.Join(r.Problems, "; ")
		s.bad = append(s.bad, sc)
	}
}

// newViews gives a check of the views of a run.
func newViews(t *testing.T) func(w *sim.World) []string {
	t.Helper()
	dir := t.TempDir()
	open := func(name string) *projections.Views {
		v, err := projections.OpenViews(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			return nil
		}
		t.Cleanup(func() { _ = v.Close() }) // thrown away
		return v
	}
	live, fresh := open("live.db"), open("fresh.db")
	return func(w *sim.World) []string {
		if live == nil || fresh == nil {
			return []string{"no views"}
		}
		if err := w.CheckViews(t.Context(), live, fresh); err != nil {
			return []string{err.Error()}
		}
		return nil
	}
}

// regressions is where scenarios stay that have failed once.
const regressions = "testdata/regressions"

func keep(t *testing.T, sc sim.Scenario) {
	t.Helper()
	body, err := json.MarshalIndent(sc, "", "  ")
	if err == nil {
		err = os.MkdirAll(regressions, 0o750)
	}
	name := filepath.Join(regressions, fmt.Sprintf("%d.json", sc.Seed))
	if err == nil {
		err = os.WriteFile(name, append(body, '\n'), 0o600)
	}
	if err != nil {
		t.Error(err)
		return
	}
	t.Logf("shrunk to %s: %s", name, body)
}

// TestRegressions plays what has failed once, whole and as it was shrunk.
func TestRegressions(t *testing.T) {
	if plant.Bug != 0 {
		return
	}
	files, err := filepath.Glob(regressions + "/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d regressions, %v", len(files), err)
	}
	for _, name := range files {
		body, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var sc sim.Scenario
		if err := json.Unmarshal(body, &sc); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, sc := range []sim.Scenario{sc, {Seed: sc.Seed}} {
			if r := sim.NewWorld(sc, nil).Run(); len(r.Problems) > 0 {
				t.Errorf("%s: %q", name, r.Problems)
			}
		}
	}
}

// TestSameSeedSameLog: a seed is a run, to the byte.
func TestSameSeedSameLog(t *testing.T) {
	for seed := range uint64(30) {
		a, b := sim.NewWorld(sim.Scenario{Seed: seed}, nil).Run(), sim.NewWorld(sim.Scenario{Seed: seed}, io.Discard).Run()
		if !bytes.Equal(a.Log, b.Log) || a.Steps != b.Steps || len(a.Log) == 0 {
			t.Errorf("seed %d: %d and %d bytes, %d and %d steps", seed, len(a.Log), len(b.Log), a.Steps, b.Steps)
		}
	}
}
