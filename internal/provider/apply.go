package provider

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/crashpoint"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// ErrOwnerUnknown is returned by [Applier.Observe] for a refund, a dispute, a fraud warning or a method whose charge or customer is not
// known yet. The report may have overtaken what makes it known: try it again later, and in the end let it go.
var ErrOwnerUnknown = errors.New("the owner is not known yet")

// Sources of events, as their envelopes name them.
const (
	SourceIngest = "/paykit/ingest"
	SourceWorker = "/paykit/worker"
	// SourceReconcile is a comparison of provider and LOG that found something missing.
	SourceReconcile = "/paykit/reconcile"
)

// Outcome says what an observation led to.
type Outcome string

// The outcomes.
const (
	OutcomeChanged   Outcome = "changed"    // an event was appended
	OutcomeUnchanged Outcome = "unchanged"  // the entity says so already, or the report does not matter to it
	OutcomeNotOurs   Outcome = "not_ours"   // another environment's object, or nobody's
	OutcomeOwnerGone Outcome = "owner_gone" // the customer was deleted, or the account unlinked
)

// Applied is what became of an observation: the entity as it now is (a zero Entry if there is none) and whose it is.
type Applied struct {
	Outcome    Outcome
	Entry      eventlog.Entry
	CustomerID string
}

// ApplierConfig says for whom observations are applied.
type ApplierConfig struct {
	// Source goes into the events: [SourceIngest] for deliveries, [SourceWorker] for the answers to our own calls,
	// [SourceReconcile] for what a comparison found, which counts as a delivery does.
	// Deliveries about sessions and methods of a deleted customer or an unlinked account change nothing; our own
	// answers do, or what is open could never be settled.
	Source     string
	Env        string // whose objects are ours; "" = the log's
	Logger     zerolog.Logger
	Now        func() time.Time      // nil = time.Now
	Registerer prometheus.Registerer // nil = no metrics
}

// Applier turns observations into events: it finds the entity that an observation is about and appends what the
// entity's decide function finds new. It is the one way in for everything that a provider says, be it a delivery, the
// answer to a call or an item of a listing, so each real-world happening leads to one event whoever reports it first.
//
// An Applier keeps no state; its methods may run at once, in any number of processes.
type Applier struct {
	log           ApplierLog
	cfg           ApplierConfig
	otherPayments *prometheus.CounterVec
	refundsLost   *prometheus.CounterVec
}

// NewApplier makes an Applier on log.
func NewApplier(log ApplierLog, cfg ApplierConfig) *Applier {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Env == "" {
		cfg.Env = log.Env()
	}
	return &Applier{
		log: log, cfg: cfg, otherPayments: registered(cfg.Registerer, prometheus.NewCounterVec(
			prometheus.CounterOpts{
				Name: "paykit_other_payments_total",
				Help: "Successes of a further payment of a charge that had succeeded already: someone must look.",
			}, []string{"provider"})),
		refundsLost: registered(cfg.Registerer, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paykit_refunds_not_kept_total",
			Help: "Reports of refunds of charges that have more of them than an event holds: amountRefunded is too low, someone must look.",
		}, []string{"provider"})),
	}
}

// sighting is where an observation comes from.
type sighting struct {
	providerID  string
	causationID string
}

// Observe applies one observation; causationID is the id of the delivery or of the request event that led to it. Done
// again it finds nothing new, so a crash in it is repaired by whoever brings the observation again. It returns
// [ErrOwnerUnknown] where trying again later can help, and else errors of the storage (eventlog.IsUnavailable).
//
// The entity is found by the reserved metadata if it is of our environment, else by the id derived from the provider's,
// else by the links. An object of another environment is never ours.
func (a *Applier) Observe(ctx context.Context, providerID string, o Observation, causationID string) (Applied, error) {
	at := sighting{providerID: providerID, causationID: causationID}
	switch o := o.(type) {
	case PaymentSeen:
		return a.payment(ctx, at, o.Payment)
	case RefundSeen:
		return a.refund(ctx, at, o.RefundReport)
	case RefundTotalSeen:
		return a.refundTotal(ctx, at, o)
	case DisputeSeen:
		return a.dispute(ctx, at, o.DisputeReport)
	case FraudWarningSeen:
		return a.fraudWarning(ctx, at, o.FraudWarningReport)
	case SessionSeen:
		return a.session(ctx, at, o.Session)
	case SetupSeen:
		return a.setup(ctx, at, o.SetupReport)
	case MethodSeen:
		return a.method(ctx, at, o)
	case CustomerSeen:
		return a.customer(ctx, at, o)
	}
	return Applied{}, fmt.Errorf("observation of unknown kind %T", o)
}

// cause is what the decisions are told.
func (a *Applier) cause(at sighting, customer events.CustomerRef) events.Cause {
	return events.Cause{Now: a.cfg.Now(), Source: a.cfg.Source, CausationID: at.causationID, Customer: customer}
}

// ours tells whether an object is marked as made by this environment; only then its other reserved metadata counts.
func (a *Applier) ours(o events.Owner) bool { return o.Env != "" && o.Env == a.cfg.Env }

// foreign tells whether an object is marked as made by another environment.
func (a *Applier) foreign(o events.Owner) bool { return o.Env != "" && o.Env != a.cfg.Env }

// load gives an entity's last event, or a zero Entry if it has none. An id that can't be ours finds nothing.
func (a *Applier) load(ctx context.Context, entity events.Entity, id string) (eventlog.Entry, error) {
	if !events.ValidID(entity, id) {
		return eventlog.Entry{}, nil
	}
	e, err := a.log.Load(ctx, entity, id)
	switch {
	case errors.Is(err, eventlog.ErrNotFound):
		return eventlog.Entry{}, nil
	case err != nil:
		return eventlog.Entry{}, fmt.Errorf("load %s %s: %w", entity, id, err)
	}
	return e, nil
}

// link gives what a provider's object is linked to, if that is of the wanted kind.
func (a *Applier) link(ctx context.Context, providerID, objectID string, want events.Entity) (k eventlog.Link, ok bool, err error) {
	if objectID == "" {
		return k, false, nil
	}
	k, err = a.log.Link(ctx, providerID, objectID)
	switch {
	case errors.Is(err, eventlog.ErrNotFound):
		return k, false, nil
	case err != nil:
		return k, false, fmt.Errorf("link of %s: %w", objectID, err)
	}
	return k, k.Entity == want, nil
}

// putLink writes the way back from a provider's object. A link that names another entity stays: whoever reads a link
// checks that the entity it leads to knows the object.
func (a *Applier) putLink(ctx context.Context, providerID, objectID string, k eventlog.Link) error {
	_, err := a.linkOrOther(ctx, providerID, objectID, k)
	return err
}

// linkOrOther is putLink that gives the link that stays, nil if it is the one that was to be written.
func (a *Applier) linkOrOther(ctx context.Context, providerID, objectID string, k eventlog.Link) (*eventlog.Link, error) {
	err := a.log.PutLink(ctx, providerID, objectID, k)
	if taken, ok := errors.AsType[*eventlog.LinkTakenError](err); ok {
		a.cfg.Logger.Warn().Str("provider", providerID).Str("object", objectID).Str("entity_id", k.ID).
			Str("linked_to", taken.Existing.ID).Msg("link kept")
		return &taken.Existing, nil
	}
	if err != nil {
		return nil, fmt.Errorf("link %s: %w", objectID, err)
	}
	crashpoint.Hit("normalizer.linked")
	return nil, nil
}

// decision is an entity's decide function with everything but the last event filled in.
type decision func(last *events.Event) (*events.Event, error)

// update appends what decide finds new. A crash right after the append leaves the event stored and its cause
// unacknowledged: whoever brings the observation again finds nothing to do.
func (a *Applier) update(ctx context.Context, entity events.Entity, id string, decide decision) (Applied, error) {
	e, appended, err := a.log.Update(ctx, entity, id, decide)
	return applied(e, appended, err, entity, id)
}

// updateFrom is update for an entity that was just loaded.
func (a *Applier) updateFrom(ctx context.Context, known eventlog.Entry, entity events.Entity, id string, decide decision) (Applied, error) {
	e, appended, err := a.log.UpdateFrom(ctx, entity, id, known, decide)
	return applied(e, appended, err, entity, id)
}

func applied(e eventlog.Entry, appended bool, err error, entity events.Entity, id string) (Applied, error) {
	if err != nil {
		return Applied{}, fmt.Errorf("update %s %s: %w", entity, id, err)
	}
	got := unchanged(e)
	if appended {
		got.Outcome = OutcomeChanged
	}
	return got, nil
}

func unchanged(e eventlog.Entry) Applied {
	got := Applied{Outcome: OutcomeUnchanged, Entry: e}
	if e.Event != nil {
		got.CustomerID = e.Event.CustomerID()
	}
	return got
}

func gone(customerID string) Applied {
	return Applied{Outcome: OutcomeOwnerGone, CustomerID: customerID}
}

func refOf(e *events.Event) events.CustomerRef { return e.Data.Customer.Ref() }
