// Command paykit runs PayKit on one machine and is its operator's tool.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/paykit-go/paykit"
	"github.com/paykit-go/paykit/internal/daemon"
)

func main() { daemon.Main("paykit", run) }

// cli is the whole command line.
type cli struct {
	NATS   daemon.NATS `embed:"" group:"Everywhere:"`
	Output string      `short:"o" group:"Everywhere:" enum:"table,json" default:"table" help:"table for people, json for programs."`

	Dev       devCmd       `cmd:"" help:"Run everything on this machine: NATS, sandbox, ingest, worker, projector."`
	Sandbox   sandboxCmd   `cmd:"" help:"Run only the sandbox, an offline stand-in for Stripe."`
	Provision provisionCmd `cmd:"" help:"Make the streams and durable consumers on a NATS server, or bring them up to date."`

	Customer customerCmd `cmd:"" help:"Customers: sync, get, list, delete."`
	Checkout checkoutCmd `cmd:"" help:"Hosted payment pages: create, get, expire, pay (sandbox)."`
	Method   methodCmd   `cmd:"" help:"Saved payment methods: attach, list, get, set-default, detach."`
	Charge   chargeCmd   `cmd:"" help:"Charges: create, get, list, refund, cancel."`
	Events   eventsCmd   `cmd:"" help:"What happened: tail, list, show."`
	Dead     deadCmd     `cmd:"" help:"What could not be processed: list, show, retry, drop."`
	Trigger  triggerCmd  `cmd:"" help:"Make an event happen in the sandbox, with the real chain of objects behind it."`

	Diff       diffCmd       `cmd:"" help:"What changed for whom between two points of history, in words."`
	Replay     replayCmd     `cmd:"" help:"Give stored events out again: to standard output, a file or a NATS subject."`
	Import     importCmd     `cmd:"" help:"Take a replayed log into an empty installation."`
	Rebuild    rebuildCmd    `cmd:"" help:"Build the views anew from the first event, into a fresh file."`
	Shadow     shadowCmd     `cmd:"" help:"Views of a projector that runs beside the live one: diff, switch."`
	Verify     verifyCmd     `cmd:"" help:"Check the log and the views: nothing missing, nothing changed, no money twice."`
	Explain    explainCmd    `cmd:"" help:"Tell the story around any id: commands, events, provider calls, deliveries."`
	Reconcile  reconcileCmd  `cmd:"" help:"Compare the log with what Stripe has, and append the events that are missing."`
	Schema     schemaCmd     `cmd:"" help:"Print the JSON Schemas of the public contract, and check documents against them."`
	Backup     backupCmd     `cmd:"" help:"Write all streams into one file, encrypted if you like, while everything runs."`
	Restore    restoreCmd    `cmd:"" help:"Make the streams of a backup on an empty server."`
	Completion completionCmd `cmd:"" help:"Print a completion script for bash, zsh or fish."`
}

// app is what every command gets: where to write, and how to reach PayKit.
type app struct {
	ctx    context.Context //nolint:containedctx // a command's whole life is one call
	nats   daemon.NATS
	json   bool
	getenv func(string) string
	out    io.Writer
	err    io.Writer
	model  *kong.Application
}

const description = `PayKit, an event-sourced billing engine on NATS JetStream.

Begin with "paykit dev": it runs everything and says what to type next.`

func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	var c cli
	exited := false
	parser, err := kong.New(&c, kong.Name("paykit"), kong.Description(description), kong.Writers(stdout, stderr),
		kong.UsageOnError(), kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.Exit(func(int) { exited = true }), daemon.ConfigFiles())
	if err != nil {
		return fmt.Errorf("command line: %w", err)
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(agoArgs(args))
	if exited { // --help was printed
		return nil
	}
	if err != nil {
		if perr, ok := errors.AsType[*kong.ParseError](err); ok {
			_ = perr.Context.PrintUsage(true)
		}
		return &daemon.UsageError{Err: err}
	}
	a := &app{
		ctx: ctx, nats: c.NATS, json: c.Output == "json", getenv: getenv,
		out: stdout, err: stderr, model: parser.Model,
	}
	return ended(ctx, command.Command(), command.Run(a))
}

// errInterrupted says that a command was told to end before it had done what it was asked for: its status must not be that
// of one that did it.
var errInterrupted = errors.New("interrupted before it was done")

// ended is what a command's error means to whoever called the program.
func ended(ctx context.Context, command string, err error) error {
	name, _, _ := strings.Cut(command, " <")
	switch {
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		if name == "dev" || name == "sandbox" || name == "events tail" { // they run until they are told to end
			return nil
		}
		return errInterrupted
	case refusesPoint(err):
		return &daemon.UsageError{Err: fmt.Errorf("--at: %w", err)}
	}
	return err
}

// refusesPoint tells whether the query service finds fault with the point in history that it was asked about.
func refusesPoint(err error) bool {
	refusal, ok := errors.AsType[*paykit.Error](err)
	return ok && refusal.Param == "Paykit-At" && refusal.Code == paykit.CodeInvalidRequest
}

// client connects to PayKit.
func (a *app) client() (*paykit.Client, error) {
	nc, err := a.nats.Connect("cli", a.logger(), silentDisconnect())
	if err != nil {
		return nil, fmt.Errorf("%w; is PayKit running? (paykit dev)", err)
	}
	return paykit.NewClient(nc, paykit.WithPrefix(a.nats.Prefix)), nil
}

// customerID takes PayKit's id or the app's own of a customer.
func (a *app) customerID(pk *paykit.Client, s string) (string, error) {
	if strings.HasPrefix(s, "cust_") {
		return s, nil
	}
	c, err := pk.Customer.GetByReference(a.ctx, s)
	if err != nil {
		return "", fmt.Errorf("customer %s: %w", s, err)
	}
	return c.ID, nil
}
