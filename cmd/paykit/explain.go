package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/explain"
)

type explainCmd struct {
	ID       string `arg:"" help:"Any id: of PayKit, of Stripe, an event's, a request's, an idempotency key, or your own referenceId."`
	Provider string `default:"stripe" help:"Whose ids are meant."`
}

func (explainCmd) Help() string {
	return `Tells the story around an id: which command led to which event, which calls to the provider were made for it (request id,
idempotency key, attempt, outcome, duration), what was delivered and what that led to, dead letters, and what the views
have. Of a customer it lists what there is, each with its last status. It changes nothing.

  paykit explain chg_4H2MVM8KYDVS17Y742B4K49QKD
  paykit explain pi_3QJ5nG                  (also ch_, re_, pm_, cs_, cus_, dp_, evt_, req_)
  paykit explain order_1                    (the idempotency key of the command, or a customer's referenceId)
  paykit explain req_9mXw -o json | jq '.nodes[] | select(.kind == "call") | .call.requestId'

Most ids are found at once. What nothing leads from (cmd_, rfd_, re_, cs_, req_) is searched for through a whole stream, the
newest first, which the story notes.`
}

func (c explainCmd) Run(a *app) error {
	log, done, err := a.eventLog()
	if err != nil {
		return err
	}
	defer done()
	o := explain.Options{ProviderID: c.Provider}
	quiet := time.Now().Add(time.Second) // a search that takes longer says how far it is
	o.Progress = func(stream string, f eventlog.Found) {
		if time.Now().After(quiet) {
			fmt.Fprintf(a.err, "searching %s: %d of %d\n", stream, f.Searched, f.Total)
			quiet = time.Now().Add(time.Second)
		}
	}
	story, err := explain.Explain(a.ctx, log, viewRows{log}, c.ID, o)
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	if a.json {
		return a.printJSON(story)
	}
	return explain.WriteTree(a.out, story, a.style()) //nolint:wrapcheck // says what it was
}

// style dresses up the kinds of things on a terminal; elsewhere text stays plain.
func (a *app) style() func(explain.Kind, string) string {
	f, ok := a.out.(*os.File)
	if !ok || a.getenv("NO_COLOR") != "" || a.getenv("TERM") == "dumb" {
		return nil
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	return func(k explain.Kind, text string) string {
		color := map[explain.Kind]string{
			explain.KindCommand: "35", explain.KindEvent: "32", explain.KindCall: "36", explain.KindDelivery: "34",
			explain.KindDead: "31", explain.KindView: "2",
		}[k]
		return "\x1b[" + color + "m" + text + "\x1b[0m"
	}
}

// viewRows asks the running projector. Of an answer only the status is kept: a customer's holds personal data.
type viewRows struct{ log *eventlog.Log }

// viewPatience is how long the projector may take.
const viewPatience = 5 * time.Second

// Row asks for an entity's row.
func (v viewRows) Row(ctx context.Context, entity events.Entity, id string) (explain.Row, bool, error) {
	verbs := map[events.Entity][2]string{
		events.EntityCustomer: {"customer", "customerId"}, events.EntityCheckout: {"checkout", "checkoutId"},
		events.EntitySetup: {"setup", "setupId"}, events.EntityPaymentMethod: {"payment_method", "paymentMethodId"},
		events.EntityCharge: {"charge", "chargeId"},
	}
	verb, ok := verbs[entity]
	if !ok {
		return explain.Row{}, false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, viewPatience)
	defer cancel()
	body, err := json.Marshal(map[string]string{verb[1]: id})
	if err != nil {
		return explain.Row{}, false, fmt.Errorf("encode a query: %w", err)
	}
	subject := v.log.Prefix() + ".query." + verb[0] + ".get"
	answer, err := v.log.Conn().RequestWithContext(ctx, subject, body)
	if err != nil {
		return explain.Row{}, false, fmt.Errorf("%s: %w; is the projector running?", subject, err)
	}
	switch code := answer.Header.Get("Nats-Service-Error"); {
	case strings.HasSuffix(code, "_not_found"):
		return explain.Row{}, false, nil
	case code != "":
		return explain.Row{}, false, fmt.Errorf("%s answers %s", subject, code)
	}
	var row struct {
		Status string `json:"status"`
	}
	if err := json.Unmarshal(answer.Data, &row); err != nil {
		return explain.Row{}, false, fmt.Errorf("the answer of %s can't be read", subject) // its text could quote it
	}
	sequence, err := strconv.ParseUint(answer.Header.Get("Paykit-Sequence"), 10, 64)
	if err != nil {
		return explain.Row{}, false, fmt.Errorf("the answer of %s has no sequence", subject)
	}
	return explain.Row{View: verb[0] + "s", Status: row.Status, Sequence: sequence}, true, nil
}
