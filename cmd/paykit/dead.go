package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/commands"
	"github.com/paykit-go/paykit/internal/daemon"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

type deadCmd struct {
	List  deadList  `cmd:"" help:"List what was set aside and waits for a decision."`
	Show  deadShow  `cmd:"" help:"Show a dead letter, with its history and what was decided about it."`
	Retry deadRetry `cmd:"" help:"Have dead letters worked on once more."`
	Drop  deadDrop  `cmd:"" help:"Decide that nothing more is done about dead letters."`
}

// letter is a dead letter as it is printed.
type letter struct {
	Sequence uint64              `json:"sequence"` // in DEAD: what "show", "retry" and "drop" take
	Letter   eventlog.DeadLetter `json:"letter"`
	Decision *eventlog.Decision  `json:"decision,omitempty"`
}

func letterOf(e eventlog.DeadEntry, body bool) letter {
	v := letter{Sequence: e.Sequence, Letter: e.DeadLetter, Decision: e.Decision}
	if !body {
		v.Letter.Body = nil
	}
	return v
}

// eventLog opens the log itself, for what no process is asked about.
func (a *app) eventLog() (log *eventlog.Log, done func(), err error) {
	nc, err := a.nats.Connect("cli", a.logger(), silentDisconnect())
	if err != nil {
		return nil, nil, fmt.Errorf("%w; is PayKit running? (paykit dev)", err)
	}
	log, err = eventlog.Open(a.ctx, nc, eventlog.Config{Prefix: a.nats.Prefix, Env: a.nats.Env, Logger: zerolog.Nop()})
	if err != nil {
		nc.Close()
		return nil, nil, err //nolint:wrapcheck // says what it was
	}
	return log, nc.Close, nil
}

type deadList struct {
	Stage    string `help:"Only of this stage: worker, settle, normalizer or commands." enum:",worker,settle,normalizer,commands" default:""`
	Customer string `help:"Only this customer's: cust_… or your own id."`
	All      bool   `help:"Also those about which was decided."`
}

func (deadList) Help() string {
	return `  paykit dead list
  paykit dead list --stage worker --all -o json`
}

func (c deadList) Run(a *app) error {
	log, done, err := a.eventLog()
	if err != nil {
		return err
	}
	defer done()
	customer := ""
	if c.Customer != "" {
		pk, err := a.client()
		if err != nil {
			return err
		}
		defer pk.Close()
		if customer, err = a.customerID(pk, c.Customer); err != nil {
			return err
		}
	}
	list, err := log.DeadLetters(a.ctx, customer)
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	items := []letter{}
	for _, e := range list {
		if (c.All || e.Decision == nil) && (c.Stage == "" || c.Stage == e.Stage) {
			items = append(items, letterOf(e, false))
		}
	}
	return a.letters(items)
}

// letters prints a list.
func (a *app) letters(items []letter) error {
	var rows [][]string
	for _, v := range items {
		decision := ""
		if v.Decision != nil {
			decision = v.Decision.Decision + " by " + v.Decision.Operator
		}
		rows = append(rows, []string{
			strconv.FormatUint(v.Sequence, 10), v.Letter.Stage, v.Letter.ID, strconv.Itoa(v.Letter.Attempts), when(v.Letter.At), decision, v.Letter.Reason,
		})
	}
	return a.show(struct {
		Items []letter `json:"items"`
	}{items}, []string{"SEQUENCE", "STAGE", "ID", "ATTEMPTS", "SET ASIDE", "DECISION", "REASON"}, rows...)
}

type deadShow struct {
	Letter string `arg:"" help:"Sequence or id, as listed."`
}

func (deadShow) Help() string {
	return `The body of a command may hold personal data: only -o json prints it (base64).`
}

func (c deadShow) Run(a *app) error {
	log, done, err := a.eventLog()
	if err != nil {
		return err
	}
	defer done()
	list, err := log.DeadLetters(a.ctx, "")
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	e, err := find(list, c.Letter)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(letterOf(e, true))
	}
	body, refers := "", e.Stream+" "+strconv.FormatUint(e.DeadLetter.Sequence, 10)+" ("+e.Subject+")"
	if len(e.Body) > 0 {
		body = strconv.Itoa(len(e.Body)) + " bytes, printed with -o json"
	}
	pairs := []string{
		"sequence", strconv.FormatUint(e.Sequence, 10), "stage", e.Stage, "id", e.ID, "customerId", e.CustomerID, "message", refers, "body", body,
		"reason", e.Reason, "attempts", strconv.Itoa(e.Attempts), "set aside", when(e.At),
	}
	if e.RetryOf != 0 {
		pairs = append(pairs, "retry of", strconv.FormatUint(e.RetryOf, 10))
	}
	if strings.HasSuffix(e.Subject, ".cmd.customer.sync") {
		pairs = append(pairs, "note", "a retry sets the profile as it was then, also over a newer one")
	}
	for _, f := range e.History {
		pairs = append(pairs, "attempt "+strconv.Itoa(f.Attempt), when(f.At)+"  "+f.Reason)
	}
	if d := e.Decision; d != nil {
		pairs = append(pairs, "decision", d.Decision, "operator", d.Operator, "why", d.Reason, "decided", when(d.At))
	}
	return a.fields(letterOf(e, false), pairs...)
}

// errNoLetter says that there is no such letter.
var errNoLetter = errors.New("there is no such dead letter")

// find takes a letter by its sequence, else by its id, which may be a number too. Of several with an id, as a retry that failed again leaves them, it
// is the one that is open, else the last.
func find(list []eventlog.DeadEntry, name string) (eventlog.DeadEntry, error) {
	if sequence, err := strconv.ParseUint(name, 10, 64); err == nil {
		for _, e := range list {
			if e.Sequence == sequence {
				return e, nil
			}
		}
	}
	for _, e := range slices.Backward(list) {
		if e.ID == name && e.Decision == nil {
			return e, nil
		}
	}
	for _, e := range slices.Backward(list) {
		if e.ID == name {
			return e, nil
		}
	}
	return eventlog.DeadEntry{}, fmt.Errorf("%w: %s", errNoLetter, name)
}

// deciding is what "retry" and "drop" share.
type deciding struct {
	Letters  []string `arg:"" optional:"" help:"Sequences or ids, as listed."`
	AllOf    string   `name:"all-of" help:"All open letters of a stage: worker, settle, normalizer or commands." enum:",worker,settle,normalizer,commands" default:""`
	Operator string   `required:"" env:"USER" help:"Who decides. It is kept, as the reason is: no e-mail address."`
	Reason   string   `required:"" help:"Why."`
}

// maxDecisionText bounds what is kept of an operator and a reason, bytes.
const maxDecisionText = 500

func (c deciding) check() error {
	for name, text := range map[string]string{"--operator": c.Operator, "--reason": c.Reason} {
		if found := commands.PersonalData(text); found != "" {
			return &daemon.UsageError{Err: fmt.Errorf("%s holds %s; it is kept, and must not name a person that way", name, found)} //nolint:err113 // what was typed
		}
		if strings.TrimSpace(text) == "" || len(text) > maxDecisionText {
			return &daemon.UsageError{Err: fmt.Errorf("%s must be 1 to %d bytes long", name, maxDecisionText)} //nolint:err113 // what was typed
		}
	}
	if (len(c.Letters) == 0) == (c.AllOf == "") {
		return &daemon.UsageError{Err: errors.New("name the letters, or a stage with --all-of")} //nolint:err113 // what was typed
	}
	return nil
}

// decide stores a decision about each letter that allowed lets through, and prints those.
func (c deciding) decide(a *app, decision string, allowed func(eventlog.DeadEntry) error) error {
	if err := c.check(); err != nil {
		return err
	}
	log, done, err := a.eventLog()
	if err != nil {
		return err
	}
	defer done()
	list, err := log.DeadLetters(a.ctx, "")
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	var chosen []eventlog.DeadEntry
	for _, e := range list {
		if c.AllOf != "" && e.Stage == c.AllOf && e.Decision == nil {
			chosen = append(chosen, e)
		}
	}
	for _, name := range c.Letters {
		e, err := find(list, name)
		if err != nil {
			return err
		}
		chosen = append(chosen, e)
	}
	items, errs := []letter{}, []error{}
	for _, e := range chosen {
		d, err := c.one(a.ctx, log, e, decision, allowed)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		e.Decision = &d
		items = append(items, letterOf(e, false))
	}
	if err := a.letters(items); err != nil {
		return err
	}
	return errors.Join(errs...)
}

func (c deciding) one(ctx context.Context, log *eventlog.Log, e eventlog.DeadEntry, decision string,
	allowed func(eventlog.DeadEntry) error,
) (eventlog.Decision, error) {
	if e.Decision != nil {
		return eventlog.Decision{}, &eventlog.DecidedError{Existing: *e.Decision}
	}
	if err := allowed(e); err != nil {
		return eventlog.Decision{}, fmt.Errorf("dead letter %d: %w", e.Sequence, err)
	}
	return log.Decide(ctx, e, eventlog.Decision{Decision: decision, Operator: c.Operator, Reason: c.Reason, At: time.Now()}) //nolint:wrapcheck // says what it was
}

type deadRetry struct{ deciding }

func (deadRetry) Help() string {
	return `Decides, once for each letter, that it is worked on again: a request by the worker, with the same handler and
idempotency keys; a delivery by the normalizer; a command under the key that it had. Whatever was done before is found
done. If it fails again, that is another letter; the old one stays in "paykit dead list --all" with the decision.

A command that sets a state, as customer.sync, sets it as it was then, also over a newer one: look at the body first, and drop
the letter if the app has sent another command since.

  paykit dead retry 17 --reason "the key has the right now"
  paykit dead retry --all-of normalizer --reason "upgraded to 1.4"`
}

// errTooOld says that a delivery is not stored any more.
var errTooOld = fmt.Errorf("can't be retried: deliveries are kept for %d days", int(eventlog.DeliveryLife.Hours()/24))

func (c deadRetry) Run(a *app) error {
	return c.decide(a, eventlog.DecisionRetry, func(e eventlog.DeadEntry) error {
		switch {
		case e.Stage == eventlog.StageNormalizer && time.Since(e.At) > eventlog.DeliveryLife:
			return errTooOld
		case e.Stage == eventlog.StageCommands && len(e.Header) == 0:
			return fmt.Errorf("can't be retried: %w; send it again under its key", eventlog.ErrNoKey)
		}
		return nil
	})
}

type deadDrop struct{ deciding }

func (deadDrop) Help() string {
	return `Decides, once for each letter, that nothing more is done. The body of a command is overwritten on disk.

  paykit dead drop 17 --reason "refunded by hand at the provider"`
}

func (c deadDrop) Run(a *app) error {
	return c.decide(a, eventlog.DecisionDrop, func(eventlog.DeadEntry) error { return nil })
}
