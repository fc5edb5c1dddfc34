package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/daemon"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/provider/stripe"
	"github.com/paykit-go/paykit/internal/reconcile"
	"github.com/paykit-go/paykit/internal/verify"
)

type reconcileCmd struct {
	daemon.StripeAPI
	Since string `name:"since" default:"30d" help:"How far back the provider's objects are compared: 30d, 12h, a date (2026-11-22), or all."`
	Fix   bool   `name:"fix" help:"Append the events that are missing; never charges, cancels or refunds."`
}

func (reconcileCmd) Help() string {
	return `Compares what Stripe has with what the log says, both ways: customers, methods, payments, refunds, disputes, early fraud
warnings, and pages that are open here. Prints every difference with its cause. With --fix what an event can put right is put right; of the rest it
says what to do. The exit status is 1 if differences remain. Needs STRIPE_API_KEY (or STRIPE_API_KEY_FILE) and NATS as the
worker does, and takes a quarter of --stripe-rate.

  paykit reconcile --since 7d
  paykit reconcile --fix -o json | jq .remaining`
}

var (
	// errDiffer says that provider and log differ.
	errDiffer = errors.New("differences remain")
	// errUnread says that the log is not whole.
	errUnread = errors.New("events of the log can't be read")
)

func (c reconcileCmd) Run(a *app) error {
	since, err := parseSince(c.Since, time.Now())
	if err != nil {
		return &daemon.UsageError{Err: err}
	}
	// The worker's name, because its NATS user may read all that is read here and append events.
	nc, err := a.nats.Connect("worker", a.logger(), silentDisconnect())
	if err != nil {
		return err
	}
	defer nc.Close()
	log, err := eventlog.Open(a.ctx, nc, eventlog.Config{Prefix: a.nats.Prefix, Env: a.nats.Env, Logger: zerolog.Nop()})
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	report, err := compareProvider(a, log, c.StripeAPI, reconcile.Options{Since: since, Fix: c.Fix, Logger: a.logger()})
	if err != nil {
		return err
	}
	if err := a.differences(report); err != nil {
		return err
	}
	if report.Remaining > 0 {
		return fmt.Errorf("%w: %d", errDiffer, report.Remaining)
	}
	if !report.OK {
		return fmt.Errorf("%w: %d", errUnread, len(report.Problems))
	}
	return nil
}

// compareProvider compares the log with Stripe, or the sandbox.
func compareProvider(a *app, log *eventlog.Log, s daemon.StripeAPI, o reconcile.Options) (*reconcile.Report, error) {
	key, err := daemon.Secret(a.getenv, "STRIPE_API_KEY")
	if err != nil {
		return nil, &daemon.UsageError{Err: err}
	}
	// A quarter of the rate: the worker goes on beside it, and Stripe counts both.
	client, err := stripe.New(stripe.Config{APIKey: key, APIBase: s.Base, Env: log.Env(), Rate: max(s.Rate/4, 1), Logger: zerolog.Nop()})
	if err != nil {
		return nil, &daemon.UsageError{Err: fmt.Errorf("STRIPE_API_KEY, STRIPE_API_BASE: %w", err)}
	}
	o.ProviderID = stripeID
	report, err := reconcile.Run(a.ctx, log, client, o)
	if err != nil {
		return nil, err //nolint:wrapcheck // says what it was
	}
	twice := verify.PaidTwice(log.Env(), ledger(report))
	for _, id := range slices.Sorted(maps.Keys(twice)) {
		report.PaidTwice = append(report.PaidTwice, reconcile.Paid{ChargeID: id, Payments: twice[id]})
	}
	return report, nil
}

const stripeID = "stripe"

// ledger is the provider's payments as the checker of the log wants them. How often money was taken Stripe does not count.
func ledger(r *reconcile.Report) []verify.Payment {
	list := make([]verify.Payment, 0, len(r.Payments))
	for _, p := range r.Payments {
		list = append(list, verify.Payment{
			ID: p.ID, ChargeID: p.ChargeID, Amount: p.Amount, Refunded: p.Refunded, Currency: p.Currency,
			Paid:     p.Status == events.PaymentSucceeded,
			Payable:  p.Status == events.PaymentRequiresMethod || p.Status == events.PaymentRequiresAction,
			Customer: p.ProviderCustomerID, Env: p.Owner.Env, Charge: p.Owner.Charge, Checkout: p.Owner.Checkout,
		})
	}
	return list
}

// errSince is what --since can't be.
var errSince = errors.New("--since: want a duration (30d, 12h), a date (2026-11-22), a time (RFC 3339) or all")

// parseSince reads how far back is looked; the zero time is all.
func parseSince(s string, now time.Time) (time.Time, error) {
	if s == "all" {
		return time.Time{}, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n >= 0 && n < 100_000 {
			return now.AddDate(0, 0, -n), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(layout, s); err == nil {
			return at, nil
		}
	}
	return time.Time{}, errSince
}

// differences prints a report.
func (a *app) differences(r *reconcile.Report) error {
	if a.json {
		return a.printJSON(r)
	}
	var rows [][]string
	for _, d := range r.Differences {
		state := d.Proposal
		switch {
		case d.Repaired:
			state = "repaired " + d.Event
		case d.Repairable:
			state = "--fix repairs it"
		}
		rows = append(rows, []string{string(d.Kind), d.ProviderObjectID, d.EntityID, d.Here, d.There, d.Message, state})
	}
	if len(rows) > 0 {
		if err := a.show(r, []string{"KIND", "THERE", "HERE", "HERE IT IS", "THERE IT IS", "CAUSE", "WHAT TO DO"}, rows...); err != nil {
			return err
		}
		fmt.Fprintln(a.out)
	}
	for _, p := range r.Problems {
		fmt.Fprintf(a.out, "at sequence %d (%s %s) %s\n\n", p.Sequence, p.Entity, p.ID, p.Problem)
	}
	for _, p := range r.PaidTwice {
		fmt.Fprintf(a.out, "%s was paid %d times: %s; give back all but one\n\n", p.ChargeID, len(p.Payments), strings.Join(p.Payments, ", "))
	}
	n := r.Compared
	return a.fields(r, "ok", strconv.FormatBool(r.OK), "since", when(r.Since),
		"compared", fmt.Sprintf("%d customers, %d methods, %d payments, %d refunds, %d disputes, %d fraud warnings, %d open pages",
			n.Customers, n.Methods, n.Payments, n.Refunds, n.Disputes, n.Warnings, n.Pages),
		"differences", strconv.Itoa(len(r.Differences)), "repaired", strconv.Itoa(r.Repaired), "remaining", strconv.Itoa(r.Remaining))
}
