package main

import (
	"fmt"

	"github.com/paykit-go/paykit/internal/daemon"
	"github.com/paykit-go/paykit/internal/history"
)

type diffCmd struct {
	From     point  `required:"" placeholder:"POINT" help:"The first point: a sequence, a time, a day, or how long ago, as -2h."`
	To       point  `placeholder:"POINT" help:"The second; default: now."`
	Customer string `help:"Only this customer: cust_… or your own id."`
}

func (diffCmd) Help() string {
	return `Says in words what changed, for whom, between two points of history: what is different at the second from what was at the first. The
events in between are read, and nothing else.

  paykit diff --from -1h
  paykit diff --from 2026-11-22 --to 2026-11-23 --customer user_123
  paykit diff --from 1200 --to 1300 -o json`
}

func (c diffCmd) Run(a *app) error {
	log, done, err := a.openLog()
	if err != nil {
		return err
	}
	defer done()
	from, err := c.From.at(a.ctx, log, "--from")
	if err != nil {
		return err
	}
	to, err := c.To.at(a.ctx, log, "--to")
	if err != nil {
		return err
	}
	if to < from {
		return &daemon.UsageError{Err: fmt.Errorf("--to: sequence %d %w, which is %d", to, errBackwards, from)}
	}
	customerID := ""
	if c.Customer != "" {
		pk, err := a.client()
		if err != nil {
			return err
		}
		defer pk.Close()
		if customerID, err = a.customerID(pk, c.Customer); err != nil {
			return err
		}
	}
	changes, err := history.Diff(a.ctx, log, customerID, from, to)
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	if a.json {
		return a.printJSON(changes)
	}
	if len(changes) == 0 {
		fmt.Fprintf(a.out, "nothing changed between sequences %d and %d\n", from, to)
	}
	for i, one := range changes {
		if i > 0 && changes[i-1].CustomerID != one.CustomerID {
			fmt.Fprintln(a.out)
		}
		fmt.Fprintln(a.out, one.Sentence)
	}
	return nil
}
