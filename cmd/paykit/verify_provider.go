package main

import (
	"context"
	"fmt"
	"time"

	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/reconcile"
	"github.com/paykit-go/paykit/internal/verify"
)

// underWay is how long what the provider says may take to be in the log, if --wait does not say less.
const underWay = 10 * time.Second

// provider holds the log against the provider's money. On a system that runs something is always under way, so what is found
// is looked for a second time, after a while and on both sides: only what was there both times is a problem.
func (c verifyCmd) provider(ctx context.Context, a *app, log *eventlog.Log, report *verify.Report) (*reconcile.Report, error) {
	r, first, err := c.look(a, log, report)
	if err != nil || len(first) == 0 {
		return r, err
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err() //nolint:wrapcheck // the caller's own
	case <-time.After(min(c.Wait, underWay)):
	}
	again, err := verify.Log(ctx, log, verify.Options{Books: true})
	if err != nil {
		return nil, err //nolint:wrapcheck // says what it was
	}
	r, second, err := c.look(a, log, again)
	if err != nil {
		return nil, err
	}
	for _, p := range verify.Lasting(first, second) {
		report.Add(p)
	}
	return r, nil
}

// look compares once. The rules of money are the checker's; what the comparison adds is each refund and each dispute by
// itself, what was declined or canceled, and what is under dispute in all.
func (c verifyCmd) look(a *app, log *eventlog.Log, books *verify.Report) (*reconcile.Report, []verify.Problem, error) {
	var list []verify.Problem
	problem := func(entity, id, format string, args ...any) {
		list = append(list, verify.Problem{Sequence: books.LastSequence, Entity: entity, ID: id, Problem: fmt.Sprintf(format, args...)})
	}
	r, err := compareProvider(a, log, c.StripeAPI, reconcile.Options{Money: true})
	if err != nil {
		return nil, nil, err
	}
	if len(r.Problems) > 0 {
		problem("provider", "", "it is not compared: the log holds an event that can't be read")
		return r, list, nil
	}
	for _, d := range r.Differences {
		problem("charge", d.EntityID, "%s %s at the provider: %s (here %q, there %q)", d.Kind, d.ProviderObjectID, d.Message, d.Here, d.There)
	}
	for _, s := range r.Sums {
		if s.Status == "disputed" && s.Here != s.There {
			problem("provider", "", "%s %s: the log has %d with %s, the provider %d with %s", s.Currency, s.Status,
				s.Here.Count, money(s.Here.Amount, s.Currency), s.There.Count, money(s.There.Amount, s.Currency))
		}
	}
	if len(books.Problems) >= verify.MaxProblems {
		problem("ledger", "", "the log's money is not compared: it was not read to its end")
		return r, list, nil
	}
	o := verify.LedgerOptions{ProviderID: stripeID, Env: log.Env(), PaymentsOnly: true, Returned: true}
	return r, append(list, books.Compare(o, ledger(r))...), nil
}
