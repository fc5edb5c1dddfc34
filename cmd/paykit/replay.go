package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/paykit-go/paykit/internal/daemon"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/history"
)

type replayCmd struct {
	From     point  `placeholder:"POINT" help:"Begin with this event, or at this time; default: with the first."`
	To       point  `placeholder:"POINT" help:"End with this event, or at this time; default: where the log ends now."`
	Type     string `help:"Only these: a type or a pattern, as charge.succeeded or charge.*"`
	Customer string `help:"Only this customer's: cust_… or your own id."`
	File     string `type:"path" help:"Write to this file, which must not be there yet, instead of standard output." xor:"where"`
	Subject  string `help:"Publish to NATS subjects under this one instead: <subject>.<entity>.<event>.<customer>." xor:"where"`
	Pace     string `enum:"full,original" default:"full" help:"full: as fast as can be. original: with the gaps that were between them."`
	Speed    string `default:"1x" help:"With --pace original: so many times as fast, as 10x."`
}

func (replayCmd) Help() string {
	return `Gives stored events out again, one a line, the stored bytes exactly. It reads the log and nothing else: no provider is called, and
what it publishes never gets to live subscribers.

  paykit replay | jq .type
  paykit replay --file all.ndjson                            a whole log, for "paykit import"
  paykit replay --from 2026-11-01 --to 2026-12-01 --type 'charge.*' --customer user_123
  paykit replay --subject replay.november --from 2026-11-01 --pace original --speed 100x`
}

var (
	errPattern   = errors.New("matches no type of event")
	errSpeed     = errors.New("must be a number over 0, as 10x")
	errFileThere = errors.New("is there already")
	errBackwards = errors.New("is before --from")
)

func (c replayCmd) Run(a *app) error {
	o, err := c.options()
	if err != nil {
		return &daemon.UsageError{Err: err}
	}
	log, done, err := a.openLog()
	if err != nil {
		return err
	}
	defer done()
	if o.From, o.To, err = c.span(a.ctx, log); err != nil {
		return err
	}
	if c.Customer != "" {
		pk, err := a.client()
		if err != nil {
			return err
		}
		defer pk.Close()
		if o.CustomerID, err = a.customerID(pk, c.Customer); err != nil {
			return err
		}
	}
	switch {
	case c.Subject != "":
		return c.publish(a, log, o)
	case c.File != "":
		return c.file(a, log, o)
	}
	out := &wholeLines{out: a.out, each: o.Speed > 0}
	_, err = history.Replay(a.ctx, log, o, func(e history.Event) error { return out.line(e.Raw) })
	return errors.Join(err, out.flush())
}

// options are the flags that stand for themselves.
func (c replayCmd) options() (o history.ReplayOptions, err error) {
	o.Type = c.Type
	if c.Type != "" && !history.ValidPattern(c.Type) {
		return o, fmt.Errorf("--type: %q %w", c.Type, errPattern)
	}
	speed, err := strconv.ParseFloat(strings.TrimSuffix(c.Speed, "x"), 64)
	if err != nil || speed <= 0 || speed > 1e9 {
		return o, fmt.Errorf("--speed: %q %w", c.Speed, errSpeed)
	}
	if c.Pace == "original" {
		o.Speed = speed
	} else if speed != 1 {
		return o, fmt.Errorf("--speed: %w; it goes with --pace original", errSpeed)
	}
	return o, nil
}

// span is where the replay begins and ends. An event at exactly the time of --from is part of it.
func (c replayCmd) span(ctx context.Context, log *eventlog.Log) (from, to uint64, err error) {
	if to, err = c.To.at(ctx, log, "--to"); err != nil {
		return 0, 0, err
	}
	begin := c.From
	if !begin.set {
		return 1, to, nil
	}
	if !begin.time.IsZero() {
		begin.time = begin.time.Add(-time.Nanosecond)
	}
	if from, err = begin.at(ctx, log, "--from"); err != nil {
		return 0, 0, err
	}
	if !begin.time.IsZero() {
		from++
	}
	if from > to+1 {
		return 0, 0, &daemon.UsageError{Err: fmt.Errorf("--to: sequence %d %w, which is %d", to, errBackwards, from)}
	}
	return max(from, 1), to, nil
}

// replayed is what is said at the end where the events went elsewhere.
type replayed struct {
	Events uint64 `json:"events"`
	From   uint64 `json:"from"`
	To     uint64 `json:"to"`
}

func (a *app) replayed(n uint64, o history.ReplayOptions) error {
	return a.fields(replayed{n, o.From, o.To}, "events", strconv.FormatUint(n, 10),
		"from sequence", strconv.FormatUint(o.From, 10), "to sequence", strconv.FormatUint(o.To, 10))
}

func (c replayCmd) publish(a *app, log *eventlog.Log, o history.ReplayOptions) error {
	p, err := history.NewPublisher(a.ctx, log.Conn(), log.Prefix(), c.Subject)
	if refusal, ok := errors.AsType[*history.SubjectError](err); ok {
		return &daemon.UsageError{Err: fmt.Errorf("--subject: %w", refusal)}
	}
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	n, err := history.Replay(a.ctx, log, o, func(e history.Event) error { return p.Give(a.ctx, e) })
	if err := errors.Join(err, p.Flush(context.WithoutCancel(a.ctx))); err != nil {
		return err
	}
	return a.replayed(n, o)
}

// file writes to another name first: what stands under the name that was asked for is complete.
func (c replayCmd) file(a *app, log *eventlog.Log, o history.ReplayOptions) (err error) {
	if _, err := os.Lstat(c.File); !errors.Is(err, fs.ErrNotExist) {
		return &daemon.UsageError{Err: fmt.Errorf("--file: %s %w", c.File, errFileThere)}
	}
	f, err := os.CreateTemp(filepath.Dir(c.File), filepath.Base(c.File)+".part-*") // readable by its owner only
	if err != nil {
		return fmt.Errorf("--file: %w", err)
	}
	// A crash before the rename leaves the part under its own name, which nobody takes for the whole.
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	tell := a.progress("replayed")
	o.Progress = func(sequence uint64) { tell(sequence, o.To) }
	out := &wholeLines{out: f}
	n, err := history.Replay(a.ctx, log, o, func(e history.Event) error { return out.line(e.Raw) })
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	if err := errors.Join(out.flush(), f.Sync()); err != nil {
		return fmt.Errorf("--file: %w", err)
	}
	if err := os.Rename(f.Name(), c.File); err != nil {
		return fmt.Errorf("--file: %w", err)
	}
	return errors.Join(f.Close(), a.replayed(n, o))
}

// wholeLines writes lines, many at once, and never a part of one.
type wholeLines struct {
	out  io.Writer
	each bool // one at a time
	text []byte
}

const writeAt = 64 << 10

func (w *wholeLines) line(b []byte) error {
	w.text = append(append(w.text, b...), '\n')
	if w.each || len(w.text) >= writeAt {
		return w.flush()
	}
	return nil
}

func (w *wholeLines) flush() error {
	if len(w.text) == 0 {
		return nil
	}
	_, err := w.out.Write(w.text)
	w.text = w.text[:0]
	if err != nil {
		return fmt.Errorf("write events: %w", err)
	}
	return nil
}

// progressEach is the time between two lines that tell how far something is.
const progressEach = time.Second

// progress tells people on standard error how far something is. of 0 is not known.
func (a *app) progress(doing string) func(done, of uint64) {
	next := time.Now().Add(progressEach)
	return func(done, of uint64) {
		if a.json || time.Now().Before(next) && (done != of) {
			return
		}
		next = time.Now().Add(progressEach)
		if of == 0 {
			fmt.Fprintf(a.err, "%s %d\n", doing, done)
			return
		}
		fmt.Fprintf(a.err, "%s %d of %d\n", doing, done, of)
	}
}
