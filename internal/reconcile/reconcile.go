package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/provider"
)

// Provider is what is asked of a provider. All of it only reads.
type Provider interface {
	provider.Listing
	Payment(ctx context.Context, id string) (events.Payment, error)
	Method(ctx context.Context, id string) (events.Method, error)
	Session(ctx context.Context, id string) (events.Session, error)
	ListFraudWarnings(ctx context.Context, since time.Time, yield func(events.FraudWarningReport) error) error
	RefundsOf(ctx context.Context, paymentID, chargeID string) ([]events.RefundReport, error)
}

// Options say what is compared and whether it is put right.
type Options struct {
	ProviderID string
	// Since leaves out what the provider made before, and charges that ended before. Linked accounts, their methods and
	// what is open here are always compared. The zero time compares everything.
	Since time.Time
	Fix   bool // append the events that are missing
	Money bool // only payments, refunds and disputes

	Logger zerolog.Logger
	Now    func() time.Time // nil = time.Now
}

// run is one comparison.
type run struct {
	Options
	there   Provider
	applier *provider.Applier
	env     string
	state   *state
	report  *Report
	seen    map[string]bool     // the provider's ids that were compared
	unpaid  map[string]string   // payments that are not in the LOG → the customer they are of
	listed  map[string]*Payment // by the provider's id
	sums    map[[2]string]*Sum
}

// ErrOtherAccount is returned by [Run] for a repair against a provider that knows none of the log's customers.
var ErrOtherAccount = errors.New("the provider knows none of the customers that are linked in the log: is this the key of another account, " +
	"or of the other mode (test, live)? nothing was changed; without --fix it is compared all the same")

// proposeOtherAccount is said of what the LOG has and the provider does not know.
const proposeOtherAccount = "is this the key of another account, or were the provider's test data removed? an event of the log is never taken back"

// proposeDamaged is said of what hangs on an event that can't be read.
const proposeDamaged = "the log holds an event of it that can't be read: nothing is appended behind that; run \"paykit verify\""

// Run compares. A comparison under way sees things change; what differs is therefore looked at once more, on both sides,
// before it is called a difference. Without Fix it writes nothing. An error says that the comparison itself failed; with
// Fix, what was repaired until then stays repaired, and a repair done again finds nothing to do. With Fix it returns
// [ErrOtherAccount], having changed nothing, if the provider is not the one that the log is about.
func Run(ctx context.Context, log *eventlog.Log, there Provider, o Options) (*Report, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	r := &run{
		Options: o, there: there, env: log.Env(), state: newState(log, o.ProviderID),
		applier: provider.NewApplier(log, provider.ApplierConfig{Source: provider.SourceReconcile, Logger: o.Logger, Now: o.Now}),
		report:  &Report{ProviderID: o.ProviderID, Since: o.Since.UTC(), Differences: []Difference{}},
		seen:    map[string]bool{}, unpaid: map[string]string{}, listed: map[string]*Payment{}, sums: map[[2]string]*Sum{},
	}
	if err := r.state.load(ctx); err != nil {
		return nil, fmt.Errorf("reconcile: %w", err)
	}
	if r.Fix {
		if err := r.sameAccount(ctx); err != nil {
			return nil, fmt.Errorf("reconcile: %w", err)
		}
	}
	// In this order, because each may hang on what was repaired before it.
	steps := []func(context.Context) error{r.payments, r.refunds, r.disputes}
	if !o.Money {
		steps = slices.Concat([]func(context.Context) error{r.customers, r.methods}, steps, []func(context.Context) error{r.warnings, r.pages})
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("reconcile: %w", err)
		}
	}
	r.finish()
	return r.report, nil
}

// accountSample is how many linked customers are asked for at most before the provider counts as another one.
const accountSample = 20

// sameAccount fails with [ErrOtherAccount] if the provider knows none of the customers that are linked here. One that it
// knows, be it as deleted, is proof enough, since no two accounts have an id in common; the youngest are asked for first.
func (r *run) sameAccount(ctx context.Context) error {
	var linked []eventlog.Entry
	for _, e := range r.state.last {
		if a := e.Event.Data.ProviderAccount; a != nil && a.ProviderID == r.ProviderID && a.Status == events.AccountLinked {
			linked = append(linked, e)
		}
	}
	slices.SortFunc(linked, func(a, b eventlog.Entry) int { return cmp.Compare(b.Sequence, a.Sequence) })
	linked = linked[:min(len(linked), accountSample)]
	for _, e := range linked {
		_, err := r.there.Customer(ctx, e.Event.Data.ProviderAccount.ProviderCustomerID)
		if err == nil {
			return nil
		}
		if !notFound(err) {
			return err //nolint:wrapcheck // says what it was
		}
	}
	if len(linked) > 0 {
		return ErrOtherAccount
	}
	return nil
}

// found takes in a difference and, if it shall be and can be, repairs it.
func (r *run) found(ctx context.Context, d Difference) error {
	if r.state.damaged[d.EntityID] != 0 {
		d.repair, d.Proposal = nil, proposeDamaged
	}
	d.Repairable = d.repair != nil
	if r.Fix && d.Repairable {
		if err := r.fix(ctx, &d); err != nil {
			return err
		}
	}
	r.report.Differences = append(r.report.Differences, d)
	return nil
}

// fix appends what is missing, by the same way as a delivery. A crash right after the append leaves it repaired; the next
// run finds no difference.
func (r *run) fix(ctx context.Context, d *Difference) error {
	got, err := r.applier.Observe(ctx, r.ProviderID, d.repair, d.ProviderObjectID)
	_, unreadable := errors.AsType[*eventlog.UnreadableError](err)
	switch {
	case errors.Is(err, provider.ErrOwnerUnknown):
		d.Repairable, d.Proposal = false, "what it belongs to is not in the log either: repair that first, then run again"
		return nil
	case unreadable:
		d.Repairable, d.Proposal = false, proposeDamaged
		return nil
	case err != nil:
		return fmt.Errorf("repair %s %s: %w", d.Kind, d.ProviderObjectID, err)
	case got.Outcome == provider.OutcomeNotOurs, got.Outcome == provider.OutcomeOwnerGone:
		d.Repairable, d.Proposal = false, "its customer was deleted here or is not linked, so it leads to no event; look at it at the provider"
		return nil
	}
	r.state.put(got.Entry)
	d.Repaired = true
	if e := got.Entry.Event; e != nil {
		d.EntityID, d.CustomerID = e.Subject, e.CustomerID()
		if got.Outcome == provider.OutcomeChanged {
			d.Event = string(e.Type)
			r.Logger.Info().Str("event_type", d.Event).Str("entity_id", e.Subject).Str("customer_id", e.CustomerID()).
				Str("object", d.ProviderObjectID).Msg("difference repaired")
		}
	}
	return nil
}

// cause is what the decisions are told when it is only asked what they would say.
func (r *run) cause() events.Cause {
	return events.Cause{Now: r.Now(), Source: provider.SourceReconcile}
}

// ours tells whether an object is marked as made by this environment.
func (r *run) ours(o events.Owner) bool { return o.Env != "" && o.Env == r.env }

// foreign tells whether an object is marked as made by another environment: never ours, whatever else it says.
func (r *run) foreign(o events.Owner) bool { return o.Env != "" && o.Env != r.env }

// add counts an amount into a sum.
func (r *run) add(currency, status string, here bool, amount int64) {
	key := [2]string{currency, status}
	s := r.sums[key]
	if s == nil {
		s = &Sum{Currency: currency, Status: status}
		r.sums[key] = s
	}
	t := &s.There
	if here {
		t = &s.Here
	}
	t.Count++
	t.Amount += amount
}

// finish sums up.
func (r *run) finish() {
	for _, d := range r.report.Differences {
		if d.Repaired {
			r.report.Repaired++
		}
	}
	r.report.Remaining = len(r.report.Differences) - r.report.Repaired
	r.report.Problems = r.state.problems
	r.report.OK = r.report.Remaining == 0 && len(r.report.Problems) == 0
	for _, id := range slices.Sorted(maps.Keys(r.listed)) {
		r.report.Payments = append(r.report.Payments, *r.listed[id])
	}
	if !r.Since.IsZero() {
		return
	}
	r.here()
	for _, s := range r.sums {
		r.report.Sums = append(r.report.Sums, *s)
	}
	slices.SortFunc(r.report.Sums, func(a, b Sum) int {
		return strings.Compare(a.Currency+" "+a.Status, b.Currency+" "+b.Status)
	})
}

// here sums up what the LOG says. Charges without a payment (made by other means than PayKit's, years ago) are left out,
// because payments are what is listed.
func (r *run) here() {
	for _, e := range r.state.last {
		c := e.Event.Data.Charge
		if c == nil || c.Status != events.ChargeStatusSucceeded || c.ProviderPaymentID == "" {
			continue
		}
		r.add(c.Currency, "succeeded", true, c.Amount)
		for _, refund := range c.Refunds {
			if refund.Status == events.RefundSucceeded {
				r.add(c.Currency, "refunded", true, refund.Amount)
			}
		}
		for _, d := range c.Disputes {
			r.add(c.Currency, "disputed", true, d.Amount)
		}
	}
}

// amount is a sum of money as a report says it.
func amount(minor int64, currency string) string { return events.FormatAmount(minor, currency) }
