package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/daemon"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/projections"
)

// viewsFolder is what the commands need that work on the views' folder.
type viewsFolder struct {
	DataDir string        `name:"data-dir" env:"PAYKIT_DATA_DIR" type:"path" required:"" help:"Folder of views.db (${env})."`
	Wait    time.Duration `default:"30s" help:"How long the running projector may take to hand over."`
}

// open connects to the log that the views are made from.
func (viewsFolder) open(a *app, name string) (*eventlog.Log, func(), error) {
	nc, err := a.nats.Connect(name, a.logger(), silentDisconnect())
	if err != nil {
		return nil, nil, err
	}
	log, err := eventlog.Open(a.ctx, nc, eventlog.Config{Prefix: a.nats.Prefix, Env: a.nats.Env, Logger: zerolog.Nop()})
	if err != nil {
		nc.Close()
		return nil, nil, err //nolint:wrapcheck // says what it was
	}
	return log, nc.Close, nil
}

type rebuildCmd struct {
	viewsFolder

	Fresh bool `help:"Begin at the first event, whatever an interrupted rebuild left."`
}

func (rebuildCmd) Help() string {
	return `Reads the log from its first event into a fresh file in the data folder and prints its digest. The views are a function
of the log alone, so the digest is the one of the running projector at the same sequence.

A running projector on that folder compares the new file with its own, brings it up to date and goes on with it; queries are
answered all the while. If the two differ, the old one is kept beside it. A rebuild that was interrupted is gone on with.

  paykit rebuild --data-dir /var/lib/paykit
  paykit rebuild --data-dir /var/lib/paykit -o json | jq .handover`
}

func (c rebuildCmd) Run(a *app) error {
	log, end, err := c.open(a, "rebuild")
	if err != nil {
		return err
	}
	defer end()
	o := projections.RebuildOptions{Fresh: c.Fresh, Wait: c.Wait}
	finish := func() {}
	if !a.json {
		o.Progress, finish = progress(a.err, terminal(a.err) && a.getenv("TERM") != "dumb", time.Now)
	}
	result, err := projections.Rebuild(a.ctx, log, c.DataDir, o)
	finish()
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	var rows []string
	for _, view := range slices.Sorted(maps.Keys(result.Rows)) {
		rows = append(rows, view, strconv.FormatUint(result.Rows[view], 10))
	}
	pairs := append([]string{
		"digest", result.Digest, "sequence", strconv.FormatUint(result.Sequence, 10), "file", result.Path,
	}, rows...)
	if err := a.fields(result, append(pairs, handover(result.Handover)...)...); err != nil {
		return err
	}
	return refused(result.Handover)
}

// refused is an error if the running projector put the new file aside.
func refused(h *projections.Handover) error {
	if h.Outcome == projections.HandoverRefused {
		return fmt.Errorf("the new views were refused: %s; they are kept as %s", h.Reason, h.Aside)
	}
	return nil
}

// handover says what became of a new file.
func handover(h *projections.Handover) []string {
	outcome := map[string]string{
		projections.HandoverReplaced: "it is in the live file's place; no projector was running",
		projections.HandoverTaken:    "the running projector answers from it",
		projections.HandoverRefused:  "the running projector refused it: " + h.Reason,
		projections.HandoverLeft:     "the process that holds the live file did not take it; the next start of a projector does",
	}[h.Outcome]
	pairs := []string{"handed over", outcome}
	switch {
	case h.OldDigest == "":
	case h.Differs:
		pairs = append(pairs, "compared", fmt.Sprintf("the old views DIFFERED at sequence %d: %s", h.Sequence, h.OldDigest))
	default:
		pairs = append(pairs, "compared", fmt.Sprintf("the old views were the same at sequence %d", h.Sequence))
	}
	return append(pairs, "kept", h.Aside)
}

const (
	barWidth  = 30
	barEvery  = 100 * time.Millisecond // on a terminal
	lineEvery = 3 * time.Second        // elsewhere
)

// progress draws a bar on a terminal, with the rate and the time left, and prints a line now and then elsewhere.
func progress(w io.Writer, tty bool, now func() time.Time) (tell func(at, of uint64), finish func()) {
	every := lineEvery
	if tty {
		every = barEvery
	}
	began, drawn := now(), now()
	var first uint64
	told, drew := false, false
	tell = func(at, of uint64) {
		if !told {
			told, first = true, at // a rebuild that goes on: what was done before says nothing of the rate
		}
		t := now()
		if t.Sub(drawn) < every && at < of || of == 0 {
			return
		}
		drawn = t
		rate := float64(at-first) / max(t.Sub(began).Seconds(), 1e-9)
		left := "?"
		if rate > 0 {
			left = (time.Duration(float64(of-at)/rate) * time.Second).String()
		}
		text := fmt.Sprintf("%d of %d events (%d %%), %.0f/s, %s left", at, of, at*100/of, rate, left)
		if tty {
			full := int(at * barWidth / of) //nolint:gosec // G115: at most barWidth
			fmt.Fprintf(w, "\r\x1b[K[%s%s] %s", strings.Repeat("=", full), strings.Repeat(" ", barWidth-full), text)
			drew = true
		} else {
			fmt.Fprintln(w, "rebuilding: "+text)
		}
	}
	return tell, func() {
		if drew {
			fmt.Fprintln(w)
		}
	}
}

// terminal tells whether somebody watches.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

type shadowCmd struct {
	Diff   shadowDiffCmd   `cmd:"" help:"List the rows in which the shadow's views differ from the live ones."`
	Switch shadowSwitchCmd `cmd:"" help:"Put the shadow's views into the live ones' place."`
}

type shadowDiffCmd struct {
	viewsFolder

	Limit int `default:"1000" help:"How many differences to list at most; 0 = all."`
}

func (shadowDiffCmd) Help() string {
	return `Compares the views of "projector --shadow" with the live ones at one sequence, row by row. Both go on meanwhile: it works on
copies in the data folder, which it removes. The exit status is 1 if anything differs.

  paykit shadow diff --data-dir /var/lib/paykit
  paykit shadow diff --data-dir /var/lib/paykit -o json | jq -r '.differences[].id'`
}

// errDiffers says that the shadow's views are not the live ones.
var errDiffers = errors.New("the shadow's views differ")

func (c shadowDiffCmd) Run(a *app) error {
	if c.Limit < 0 {
		return &daemon.UsageError{Err: errors.New("--limit must be 0 or more")}
	}
	log, end, err := c.open(a, "shadow")
	if err != nil {
		return err
	}
	defer end()
	answer := struct {
		Sequence    uint64                   `json:"sequence"` // that both were at
		Count       int                      `json:"count"`    // of all, also those that are not listed
		Differences []projections.Difference `json:"differences"`
	}{Differences: []projections.Difference{}}
	answer.Sequence, err = projections.ShadowDiff(a.ctx, log, c.DataDir, c.Wait, func(d projections.Difference) error {
		if answer.Count++; c.Limit == 0 || answer.Count <= c.Limit {
			answer.Differences = append(answer.Differences, d)
		}
		return nil
	})
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	var rows [][]string
	for _, d := range answer.Differences {
		what := strings.Join(d.Differs, ", ")
		if d.Only != "" {
			what = "only " + d.Only
		}
		rows = append(rows, []string{d.View, d.ID, what})
	}
	if len(rows) == 0 {
		rows = [][]string{{"none", "", "at sequence " + strconv.FormatUint(answer.Sequence, 10)}}
	}
	if err := a.show(answer, []string{"VIEW", "ID", "DIFFERS"}, rows...); err != nil {
		return err
	}
	if answer.Count > 0 {
		return fmt.Errorf("%w: %d rows at sequence %d", errDiffers, answer.Count, answer.Sequence)
	}
	return nil
}

type shadowSwitchCmd struct{ viewsFolder }

func (shadowSwitchCmd) Help() string {
	return `The running shadow lets go of its file and ends its work; the live projector takes the file over while it answers queries, as
after "paykit rebuild". If the live one is an older program that can't read it, the next start of the new one takes it
instead of rebuilding. If it can read it (the layout is the same, only what is made of the events differs), it takes it
over at once and goes on in its own way with what comes: start the new program in its place right after, or end the old
one before the switch.

  paykit shadow switch --data-dir /var/lib/paykit`
}

func (c shadowSwitchCmd) Run(a *app) error {
	log, end, err := c.open(a, "shadow")
	if err != nil {
		return err
	}
	defer end()
	h, err := projections.ShadowSwitch(a.ctx, log, c.DataDir, c.Wait)
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	if err := a.fields(h, handover(h)...); err != nil {
		return err
	}
	return refused(h)
}
