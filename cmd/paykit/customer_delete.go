package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit"
	"github.com/paykit-go/paykit/internal/daemon"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

type customerDelete struct {
	Customer string        `arg:"" help:"Customer: cust_… or your own id."`
	Wait     bool          `help:"Wait until the personal data are erased, and say what stays where."`
	Timeout  time.Duration `default:"1m" help:"How long --wait waits."`
}

func (customerDelete) Help() string {
	return `The customer is gone at once; the worker then erases its profile, deliveries, dead letters and the provider's customer. With
--wait the exit status is 1 if something is left when the time is over; doing it again waits on.

  paykit customer delete user_123 --wait
  paykit customer delete user_123 --wait --timeout 10m -o json | jq .left`
}

func (c customerDelete) Run(a *app) error {
	if c.Timeout <= 0 {
		return &daemon.UsageError{Err: errors.New("--timeout must be over 0")}
	}
	pk, err := a.client()
	if err != nil {
		return err
	}
	defer pk.Close()
	id, err := a.customerID(pk, c.Customer)
	if err != nil {
		return err
	}
	customer, err := pk.Customer.Delete(a.ctx, id)
	if err != nil {
		return err
	}
	if !c.Wait {
		return a.customer(customer)
	}
	report, err := c.await(a, customer)
	if err != nil {
		return err
	}
	if err := a.erasure(report); err != nil {
		return err
	}
	if !report.Done {
		return fmt.Errorf("%w after %s: %s", errNotErased, c.Timeout, strings.Join(report.waitsFor(), ", "))
	}
	return nil
}

// errNotErased says that the time was over.
var errNotErased = errors.New("not all is erased")

// erasure is what "customer delete --wait" answers.
type erasure struct {
	Customer *paykit.Customer `json:"customer"`
	Done     bool             `json:"done"`
	Sequence uint64           `json:"sequence"` // of customer.deleted
	Left     erasureLeft      `json:"left"`
	Stays    []erasureStays   `json:"stays"`
}

// erasureLeft counts what must still go.
type erasureLeft struct {
	Profiles     uint64                      `json:"profileRevisions"`
	Deliveries   uint64                      `json:"deliveries"`
	DeadLetters  uint64                      `json:"deadLetters"`
	Commands     uint64                      `json:"queuedCommands"` // at most; whose they are is not looked at
	Accounts     []eventlog.ProviderCustomer `json:"providerCustomers"`
	Confirmation bool                        `json:"workerConfirmation"` // is still to come
}

// erasureStays is what nobody here erases.
type erasureStays struct {
	Where string `json:"where"`
	What  string `json:"what"`
}

const erasureLook = 250 * time.Millisecond

// await looks until nothing is left or the time is over.
func (c customerDelete) await(a *app, customer *paykit.Customer) (*erasure, error) {
	nc, err := a.nats.Connect("cli", a.logger(), silentDisconnect())
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	log, err := eventlog.Open(a.ctx, nc, eventlog.Config{Prefix: a.nats.Prefix, Env: a.nats.Env, Logger: zerolog.Nop()})
	if err != nil {
		return nil, err //nolint:wrapcheck // says what it was
	}
	d, err := log.Deletion(a.ctx, customer.ID)
	if err != nil {
		return nil, err //nolint:wrapcheck // says what it was
	}
	report := &erasure{Customer: customer, Sequence: d.Sequence, Stays: stays(d)}
	over := time.NewTimer(c.Timeout)
	defer over.Stop()
	tick := time.NewTicker(erasureLook)
	defer tick.Stop()
	for {
		left, err := d.Left(a.ctx)
		if err != nil {
			return nil, err //nolint:wrapcheck // says what it was
		}
		report.Done = left.Done()
		report.Left = erasureLeft{
			Profiles: left.Profiles, Deliveries: left.Deliveries, DeadLetters: left.DeadLetters, Commands: left.Commands,
			Accounts: append([]eventlog.ProviderCustomer{}, left.Accounts...), Confirmation: !left.Confirmed,
		}
		if report.Done {
			return report, nil
		}
		select {
		case <-a.ctx.Done():
			return nil, a.ctx.Err() //nolint:wrapcheck // the caller's own
		case <-over.C:
			return report, nil
		case <-tick.C:
		}
	}
}

// waitsFor names what is left, for people.
func (e *erasure) waitsFor() []string {
	var list []string
	for _, row := range e.rows() {
		if row[1] != "0" {
			list = append(list, row[1]+" "+row[0])
		}
	}
	return list
}

func (e *erasure) rows() [][]string {
	n := func(n uint64) string { return strconv.FormatUint(n, 10) }
	var ids []string
	for _, account := range e.Left.Accounts {
		ids = append(ids, account.ProviderID+" "+account.ID)
	}
	confirmation := "0"
	if e.Left.Confirmation {
		confirmation = "1"
	}
	return [][]string{
		{"profile revisions", n(e.Left.Profiles), "PROFILES"},
		{"deliveries", n(e.Left.Deliveries), "INBOX"},
		{"dead letters", n(e.Left.DeadLetters), "DEAD"},
		{"queued commands", n(e.Left.Commands), "COMMANDS, of before the deletion, whoever they are about"},
		{"provider's customers", strconv.Itoa(len(ids)), strings.Join(ids, ", ")},
		{"confirmation by the worker", confirmation, "that it is done, deliveries that name nobody included"},
	}
}

// stays is what is beyond our reach.
func stays(d *eventlog.Deletion) []erasureStays {
	var s []erasureStays
	for _, provider := range d.Providers {
		s = append(s, erasureStays{provider, "payments, refunds and disputes, with what the buyer gave for them; of a sandbox, its data folder"})
	}
	s = append(s,
		erasureStays{"backups", "those made before " + when(time.Now()) + ": drop them in time, and delete again after a restore of one"},
		erasureStays{"log", "ids, and what your app wrote into referenceId, descriptions and metadata of charges"},
	)
	if d.Replicas > 1 {
		s = append(s, erasureStays{"raft logs", fmt.Sprintf("of %d servers, until NATS compacts them: some minutes on quiet streams, at once when the servers are restarted one after the other", d.Replicas)})
	}
	return append(s, erasureStays{"disks", "blocks that a file system, an SSD or a snapshot of the disk keeps; all of it, in cipher, where NATS itself encrypts"})
}

func (a *app) erasure(e *erasure) error {
	if a.json {
		return a.printJSON(e)
	}
	if err := a.show(e, []string{"TO BE ERASED", "LEFT", "WHERE"}, e.rows()...); err != nil {
		return err
	}
	fmt.Fprintln(a.out)
	var rows [][]string
	for _, s := range e.Stays {
		rows = append(rows, []string{s.Where, s.What})
	}
	return a.show(e, []string{"STAYS IN", "WHAT"}, rows...)
}
