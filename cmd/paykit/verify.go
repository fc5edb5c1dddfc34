package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/daemon"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/projections"
	"github.com/paykit-go/paykit/internal/reconcile"
	"github.com/paykit-go/paykit/internal/verify"
)

type verifyCmd struct {
	daemon.StripeAPI

	Provider bool `help:"Also compare the log with Stripe's payments, refunds and disputes; needs STRIPE_API_KEY."`

	Views bool          `default:"true" negatable:"" help:"Also compare the running projector's views with a rebuild to the same event."`
	Wait  time.Duration `default:"30s" help:"How long the projector may take to have the log's last event, and to answer. What differs at the provider is looked at again after it, or after 10 s."`
}

func (verifyCmd) Help() string {
	return `Reads the whole log and checks that no event is missing or was changed, that each entity's history is one that the rules
allow, and that no money is there twice. Changes nothing; fit for a cron job: the exit status is 1 if anything is wrong.

  paykit verify
  paykit verify --provider
  paykit verify --no-views -o json | jq .problems`
}

// errProblems says that the log or the views are not as they should be.
var errProblems = errors.New("problems were found")

// verdict is what "verify" answers.
type verdict struct {
	*verify.Report
	Views    *projections.Result `json:"views,omitempty"`    // that the running projector has; nil = not asked, or no answer
	Provider *reconcile.Report   `json:"provider,omitempty"` // what the comparison with the provider found; nil = not asked
}

func (c verifyCmd) Run(a *app) error {
	// The operator's inbox; all that is read here the operator may read.
	nc, err := a.nats.Connect("cli", a.logger(), silentDisconnect())
	if err != nil {
		return err
	}
	defer nc.Close()
	log, err := eventlog.Open(a.ctx, nc, eventlog.Config{Prefix: a.nats.Prefix, Env: a.nats.Env, Logger: zerolog.Nop()})
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	report, err := verify.Log(a.ctx, log, verify.Options{Books: c.Provider})
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	v := verdict{Report: report}
	if c.Views {
		if v.Views, err = c.compare(a.ctx, log, report); err != nil {
			return err
		}
	}
	if c.Provider {
		if v.Provider, err = c.provider(a.ctx, a, log, report); err != nil {
			return err
		}
	}
	if err := a.verdict(v); err != nil {
		return err
	}
	if !v.OK {
		return fmt.Errorf("%w: %d", errProblems, len(v.Problems))
	}
	return nil
}

// compare asks the projector for its views' digest and holds it against a rebuild to the same sequence.
func (c verifyCmd) compare(ctx context.Context, log *eventlog.Log, report *verify.Report) (*projections.Result, error) {
	problem := func(at uint64, format string, args ...any) {
		report.Add(verify.Problem{Sequence: at, Entity: "views", Problem: fmt.Sprintf(format, args...)})
	}
	live, err := c.status(ctx, log, report.LastSequence)
	if ctx.Err() != nil {
		return nil, ctx.Err() //nolint:wrapcheck // the caller's own
	}
	if err != nil {
		problem(report.LastSequence, "the projector does not tell its views: %v", err)
		return nil, nil //nolint:nilnil // none is the answer, and a problem is reported
	}
	if live.Sequence < report.LastSequence {
		problem(live.Sequence, "the views are at sequence %d, the log ended at %d %s ago", live.Sequence, report.LastSequence, c.Wait)
	}
	info, err := log.Info(ctx)
	if err != nil {
		return nil, err //nolint:wrapcheck // says what it was
	}
	if live.Sequence > info.LastSequence {
		problem(live.Sequence, "the views are at sequence %d, the log ends at %d: its last events are gone, or it was restored from a backup", live.Sequence, info.LastSequence)
		return live, nil
	}
	if report.Events < report.LastSequence {
		problem(live.Sequence, "the views are not compared: a log that is not whole can't be rebuilt from")
		return live, nil
	}
	dir, err := os.MkdirTemp("", "paykit-verify-")
	if err != nil {
		return nil, fmt.Errorf("a folder to rebuild in: %w", err)
	}
	defer os.RemoveAll(dir)
	again, err := projections.DigestAt(ctx, log, dir, live.Sequence, nil)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err() //nolint:wrapcheck // the caller's own
	case err != nil:
		problem(live.Sequence, "the views can't be rebuilt: %v", err)
	case again.Digest != live.Digest:
		problem(live.Sequence, "the views have digest %s and rows %v, a rebuild gives %s and %v", live.Digest, live.Rows, again.Digest, again.Rows)
	}
	return live, nil
}

// status asks until the projector has an event. When the time is over, the last answer counts.
func (c verifyCmd) status(ctx context.Context, log *eventlog.Log, least uint64) (*projections.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Wait)
	defer cancel()
	subject := log.Prefix() + ".query.view.status"
	var live *projections.Result
	for {
		answer, err := log.Conn().RequestWithContext(ctx, subject, []byte("{}"))
		if err == nil && answer.Header.Get("Nats-Service-Error-Code") != "" {
			err = fmt.Errorf("%w: %s", nats.ErrNoResponders, answer.Data)
		}
		if err == nil {
			live = &projections.Result{}
			if err := json.Unmarshal(answer.Data, live); err != nil {
				return nil, fmt.Errorf("the answer of %s: %w", subject, err)
			}
			if live.Sequence >= least {
				return live, nil
			}
		}
		select {
		case <-ctx.Done():
			if live != nil {
				return live, nil
			}
			return nil, errors.Join(err, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// verdict prints what was found: first what is wrong.
func (a *app) verdict(v verdict) error {
	if a.json {
		return a.printJSON(v)
	}
	var rows [][]string
	for _, p := range v.Problems {
		rows = append(rows, []string{strconv.FormatUint(p.Sequence, 10), p.Entity, p.ID, p.Problem})
	}
	if len(rows) > 0 {
		if err := a.show(v, []string{"SEQUENCE", "ENTITY", "ID", "PROBLEM"}, rows...); err != nil {
			return err
		}
		fmt.Fprintln(a.out)
	}
	pairs := []string{
		"ok", strconv.FormatBool(v.OK), "last sequence", strconv.FormatUint(v.LastSequence, 10),
		"events", strconv.FormatUint(v.Events, 10), "entities", strconv.Itoa(v.Entities),
	}
	if v.Views != nil {
		pairs = append(pairs, "views", v.Views.Digest+" at sequence "+strconv.FormatUint(v.Views.Sequence, 10))
		for _, view := range slices.Sorted(maps.Keys(v.Views.Rows)) {
			pairs = append(pairs, view, strconv.FormatUint(v.Views.Rows[view], 10))
		}
	}
	if p := v.Provider; p != nil {
		pairs = append(pairs, "at the provider", fmt.Sprintf("%d payments, %d refunds, %d disputes compared",
			p.Compared.Payments, p.Compared.Refunds, p.Compared.Disputes))
		for _, s := range p.Sums {
			pairs = append(pairs, s.Status+" "+s.Currency, fmt.Sprintf("%d with %s here, %d with %s there",
				s.Here.Count, money(s.Here.Amount, s.Currency), s.There.Count, money(s.There.Amount, s.Currency)))
		}
	}
	return a.fields(v, pairs...)
}
