package bench_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
)

// bound is what a figure is to keep: at least or at most so much. The zero value asks nothing.
type bound struct {
	sign  string // "≥", "≤" or ""
	limit float64
}

func atLeast(limit float64) bound { return bound{"≥", limit} }
func atMost(limit float64) bound  { return bound{"≤", limit} }

func (w bound) kept(got float64) bool {
	switch w.sign {
	case "≥":
		return got >= w.limit
	case "≤":
		return got <= w.limit
	}
	return true
}

// table is what `make bench` ends with: a row for each figure, in the order in which they were measured.
var table struct { //nolint:gochecknoglobals // filled by the benchmarks, printed by TestMain
	mu   sync.Mutex
	rows []string
}

// figure puts a measured figure into the table, beside what it is to keep. Figures are shown, not judged: a machine that
// does other work is no reason to fail.
func figure(name string, got float64, unit string, want bound) {
	limit, verdict := "", ""
	if want.sign != "" {
		limit = fmt.Sprintf("%s %.4g", want.sign, want.limit)
		if verdict = "kept"; !want.kept(got) {
			verdict = "missed"
		}
	}
	table.mu.Lock()
	defer table.mu.Unlock()
	table.rows = append(table.rows, fmt.Sprintf("%s\t%.4g\t%s\t%s\t%s", name, got, unit, limit, verdict))
}

func TestMain(m *testing.M) {
	code := m.Run()
	if len(table.rows) > 0 {
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "\nFIGURE\tMEASURED\tUNIT\tTARGET\t")
		fmt.Fprintln(w, strings.Join(table.rows, "\n"))
		if err := w.Flush(); err != nil {
			code = 1
		}
	}
	os.Exit(code)
}
