package explain

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// dead adds the letters about what is told: what could not be processed, and what was decided.
func (s *story) dead(ctx context.Context) error {
	list, err := s.t.log.DeadLetters(ctx, "")
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	for _, d := range list {
		if !s.has(d.ID) {
			continue
		}
		n := Node{
			Time: d.At.UTC(), Kind: KindDead, ID: "dead " + strconv.FormatUint(d.Sequence, 10), Parent: d.ID, Sequence: d.Sequence,
			Stage: d.Stage, Reason: d.Reason, Letter: "open",
		}
		if d.Decision != nil {
			n.Letter = d.Decision.Decision + " by " + d.Decision.Operator
		}
		if i := s.index[d.ID]; s.Nodes[i].Kind == KindDelivery && s.Nodes[i].Result != "changed" {
			s.Nodes[i].Result = "dead"
		}
		s.add(n)
	}
	return nil
}

// view adds the row that the projector has of the entity.
func (s *story) view(ctx context.Context) error {
	row, ok, err := s.t.views.Row(ctx, s.Entity, s.EntityID)
	switch {
	case ctx.Err() != nil:
		return ctx.Err() //nolint:wrapcheck // the caller's own
	case err != nil:
		s.t.note("the views are not told: %v", err)
		return nil
	case !ok:
		return nil
	}
	n := Node{Kind: KindView, ID: "view " + row.View, Sequence: row.Sequence, Status: row.Status}
	for _, e := range s.entries {
		if e.Sequence == row.Sequence {
			n.Parent = e.Event.ID
		}
	}
	s.add(n)
	return nil
}

// references names the entities that the story touches; of a customer, all of them.
func (s *story) references(ctx context.Context) error {
	ids := s.neighbours()
	if s.Entity == events.EntityCustomer {
		return s.everything(ctx)
	}
	for _, id := range ids {
		entity, _ := events.EntityOf(id)
		history, err := s.t.history(ctx, start{entity: entity, id: id})
		if err != nil {
			return err
		}
		if len(history) > 0 {
			s.References = append(s.References, referenceTo(history[len(history)-1]))
		}
	}
	return nil
}

func referenceTo(e eventlog.Entry) Reference {
	return Reference{Entity: e.Event.Entity(), ID: e.Event.Subject, Status: StatusOf(e.Event), Detail: detailOf(e.Event)}
}

// everything lists what a customer has, the oldest first, each with its last status.
func (s *story) everything(ctx context.Context) error {
	for _, entity := range []events.Entity{
		events.EntityProviderAccount, events.EntityCheckout, events.EntitySetup, events.EntityPaymentMethod, events.EntityCharge,
	} {
		list, err := s.t.log.Latest(ctx, entity, s.EntityID)
		if err != nil {
			return err //nolint:wrapcheck // says what it was
		}
		slices.SortFunc(list, func(a, b eventlog.Entry) int { return created(a.Event).Compare(created(b.Event)) })
		for _, e := range list {
			s.References = append(s.References, referenceTo(e))
		}
	}
	return nil
}

// created is when the entity of an event began.
func created(e *events.Event) time.Time {
	switch d := e.Data; {
	case d.ProviderAccount != nil:
		return d.ProviderAccount.CreatedAt
	case d.Checkout != nil:
		return d.Checkout.CreatedAt
	case d.Setup != nil:
		return d.Setup.CreatedAt
	case d.PaymentMethod != nil:
		return d.PaymentMethod.CreatedAt
	case d.Charge != nil:
		return d.Charge.CreatedAt
	}
	return e.Time
}

// order sorts the nodes by their times. An event's time is a whole millisecond: among calls it counts as its middle. The view
// comes last.
func (s *story) order() {
	at := func(n Node) time.Time {
		if n.Kind == KindEvent {
			return n.Time.Add(500 * time.Microsecond)
		}
		return n.Time
	}
	slices.SortStableFunc(s.Nodes, func(a, b Node) int {
		if a.Kind == KindView || b.Kind == KindView {
			return cmp.Compare(boolRank(a.Kind == KindView), boolRank(b.Kind == KindView))
		}
		return at(a).Compare(at(b))
	})
}

func boolRank(b bool) int {
	if b {
		return 1
	}
	return 0
}

// StatusOf is the word for how an entity stands after an event.
func StatusOf(e *events.Event) string {
	switch d := e.Data; {
	case d.Charge != nil:
		return string(d.Charge.Status)
	case d.Checkout != nil:
		return string(d.Checkout.Status)
	case d.Setup != nil:
		return string(d.Setup.Status)
	case d.ProviderAccount != nil:
		return d.ProviderAccount.Status
	case d.PaymentMethod != nil && d.PaymentMethod.Live():
		return "attached"
	case d.PaymentMethod != nil:
		return "detached"
	case d.Command != nil:
		return "rejected"
	case d.Customer.Deleted():
		return "deleted"
	}
	return ""
}

// detailOf says what an entity is, in a few words that hold nothing personal.
func detailOf(e *events.Event) string {
	switch d := e.Data; {
	case d.Charge != nil:
		text := events.FormatAmount(d.Charge.Amount, d.Charge.Currency)
		if d.Charge.AmountRefunded > 0 {
			text += ", " + events.FormatAmount(d.Charge.AmountRefunded, d.Charge.Currency) + " refunded"
		}
		return text
	case d.Checkout != nil:
		return events.FormatAmount(d.Checkout.Amount, d.Checkout.Currency)
	case d.PaymentMethod != nil && d.PaymentMethod.Last4 != "":
		return d.PaymentMethod.Brand + " …" + d.PaymentMethod.Last4
	case d.ProviderAccount != nil:
		return d.ProviderAccount.ProviderCustomerID
	case d.Command != nil:
		return d.Command.Type
	}
	return ""
}

// eventDetail says what else matters about an event: why it failed, which refund, what changed.
func eventDetail(e *events.Event) string {
	var words []string
	add := func(list ...string) { words = append(words, strings.Join(list, " ")) }
	switch d := e.Data; {
	case d.Charge != nil:
		if f := d.Charge.Failure; f != nil {
			add(strings.TrimSpace(f.Code + " " + f.DeclineCode))
		}
		if r := d.Refund; r != nil {
			add(r.ID, string(r.Status), events.FormatAmount(r.Amount, d.Charge.Currency))
		}
		if p := d.Dispute; p != nil {
			add(p.ProviderDisputeID, p.Status, events.FormatAmount(p.Amount, cmp.Or(p.Currency, d.Charge.Currency)))
		}
		if w := d.FraudWarning; w != nil {
			add(w.ProviderWarningID)
		}
	case d.Checkout != nil && d.Checkout.Failure != nil:
		add(d.Checkout.Failure.Code)
	case d.Setup != nil && d.Setup.Failure != nil:
		add(d.Setup.Failure.Code)
	case d.ProviderAccount != nil:
		add(d.ProviderAccount.ProviderCustomerID)
	case d.Command != nil:
		add(d.Command.Type + ": " + string(d.Command.Error.Code))
	case len(d.Changed) > 0:
		add(strings.Join(d.Changed, ", "))
	}
	return strings.Join(words, "; ")
}

// verbOf is the command that an event of a command is of.
func verbOf(e *events.Event) string {
	switch e.Type { //nolint:exhaustive // the others are of no command of their own
	case events.CustomerCreated, events.CustomerUpdated:
		return "customer.sync"
	case events.CustomerDeleted:
		return "customer.delete"
	case events.CheckoutRequested:
		return "checkout.create"
	case events.CheckoutExpireRequested:
		return "checkout.expire"
	case events.SetupRequested:
		return "payment_method.attach"
	case events.PaymentMethodDefaultRequested:
		return "payment_method.set_default"
	case events.PaymentMethodDetachRequested:
		return "payment_method.detach"
	case events.ChargeRequested:
		return "charge.create"
	case events.ChargeRefundRequested:
		return "charge.refund"
	case events.ChargeCancelRequested:
		return "charge.cancel"
	case events.CommandRejected:
		return e.Data.Command.Type
	}
	if e.Data.Charge != nil && e.Data.Charge.Resolution != nil {
		return "charge.resolve"
	}
	return ""
}
