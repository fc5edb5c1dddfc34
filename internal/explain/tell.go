package explain

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// historyMost is how many events of one entity are told.
const historyMost = 10_000

func callID(c eventlog.StoredCall) string { return "call " + strconv.FormatUint(c.Sequence, 10) }

func took(ms int64) string { return strconv.FormatInt(ms, 10) + " ms" }

func (t *teller) history(ctx context.Context, at start) ([]eventlog.Entry, error) {
	list, err := t.log.History(ctx, eventlog.HistoryFilter{Entity: at.entity, EntityID: at.id}, 1, historyMost)
	if _, ok := errors.AsType[*eventlog.UnreadableError](err); ok {
		t.note("an event of %s can't be read; run \"paykit verify\"", at.id)
		return list, nil
	}
	return list, err //nolint:wrapcheck // says what it was
}

// story is a story in the making.
type story struct {
	*Story
	t       *teller
	entries []eventlog.Entry // of the entity that are told
	index   map[string]int   // nodes by id
}

// add adds a node unless it is there.
func (s *story) add(n Node) {
	if !s.has(n.ID) {
		s.index[n.ID] = len(s.Nodes)
		s.Nodes = append(s.Nodes, n)
	}
}

func (s *story) has(id string) bool {
	_, ok := s.index[id]
	return ok
}

// tell puts the story together, from the entity's events outwards.
func (t *teller) tell(ctx context.Context, at start) (*Story, error) {
	s := &story{
		Story: &Story{ID: t.asked, Entity: at.entity, EntityID: at.id, RefundID: at.refund, Nodes: []Node{}},
		t:     t, index: map[string]int{},
	}
	var err error
	if at.entity != "" {
		if s.entries, err = t.history(ctx, at); err != nil {
			return nil, err
		}
		s.describe()
		if at.refund != "" {
			s.onlyRefund(at.refund)
		}
		s.events()
	}
	steps := []func(context.Context) error{s.calls, s.deliveries, s.outside, s.dead, s.view, s.references}
	if at.entity == "" {
		steps = []func(context.Context) error{s.dead}
	}
	if at.letter != nil {
		s.add(Node{Time: at.letter.At.UTC(), Kind: KindCommand, ID: at.node})
	}
	if at.delivery != nil && at.entity == "" {
		s.add(t.deliveryNode(*at.delivery, time.Time{}))
		t.note("the delivery is about nobody that is known here")
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	if at.delivery != nil && !s.has(at.node) { // it mentions the entity, but is about something else
		s.add(t.deliveryNode(*at.delivery, time.Time{}))
	}
	s.ask(at.node)
	s.order()
	s.Notes = t.notes
	return s.Story, nil
}

// ask marks the node that was asked about: by its id, or calls by their key.
func (s *story) ask(id string) {
	for i := range s.Nodes {
		n := &s.Nodes[i]
		n.Asked = id != "" && (n.ID == id || n.Call != nil && n.Call.IdempotencyKey == id)
	}
}

// onlyRefund keeps the events that are about a refund: those that brought it or changed it.
func (s *story) onlyRefund(id string) {
	var kept []eventlog.Entry
	var before *events.Refund
	for _, e := range s.entries {
		now := refundOf(e.Event, id)
		if now != nil && (before == nil || !now.Equal(*before)) {
			kept = append(kept, e)
		}
		before = now
	}
	s.entries = kept
	if before != nil {
		s.Status, s.Detail = string(before.Status), "refund of "+events.FormatAmount(before.Amount, kept[0].Event.Data.Charge.Currency)
	}
}

// describe says what the entity is, as of its last event.
func (s *story) describe() {
	if len(s.entries) == 0 {
		return
	}
	last := s.entries[len(s.entries)-1].Event
	s.Status, s.Detail = StatusOf(last), detailOf(last)
	s.CustomerID, s.ReferenceID = last.CustomerID(), last.Data.Customer.ReferenceID
}

// events adds the entity's events and what led to each: the command that it is the first of, or its cause.
func (s *story) events() {
	command := ""
	for _, e := range s.entries {
		ev := e.Event
		n := Node{
			Time: ev.Time, Kind: KindEvent, ID: ev.ID, Type: string(ev.Type), Parent: ev.CausationID, Sequence: e.Sequence,
			Version: ev.EntityVersion, Status: StatusOf(ev), Detail: eventDetail(ev),
		}
		// Without a cause it is a command's, unless the name was only carried on: then the worker did it on its own.
		if ev.CausationID == "" && ev.CorrelationID != "" && ev.CorrelationID != command {
			n.Parent = ev.CorrelationID
			s.add(Node{Time: ev.Time, Kind: KindCommand, ID: ev.CorrelationID, Type: verbOf(ev)})
		}
		command = ev.CorrelationID
		s.add(n)
	}
}

// calls adds the calls to the provider that were made for the entity.
func (s *story) calls(ctx context.Context) error {
	list, err := s.t.log.CallsOf(ctx, s.Entity, s.EntityID)
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	seen := map[eventlog.Call]bool{} // a batch whose answer was lost is there twice
	for _, c := range list {
		if seen[c.Call] || s.RefundID != "" && !s.aboutRefund(c) {
			continue
		}
		seen[c.Call] = true
		s.add(Node{
			Time: c.Time.UTC(), Kind: KindCall, ID: callID(c), Type: c.Operation, Parent: c.EventID, Sequence: c.Sequence, Call: &c.Call,
		})
	}
	return nil
}

// aboutRefund tells whether a call of the charge's was made for the refund that is told.
func (s *story) aboutRefund(c eventlog.StoredCall) bool {
	return s.has(c.EventID) || strings.Contains(c.IdempotencyKey, s.RefundID)
}

// deliveries adds those that led to an event, and those that mention the entity's objects and led to nothing.
func (s *story) deliveries(ctx context.Context) error {
	backlog, err := s.t.log.Backlog(ctx, eventlog.ConsumerNormalizer)
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	take := func(d eventlog.StoredDelivery) {
		n := s.t.deliveryNode(d, backlog.Oldest)
		if n.ID == "" || s.has(n.ID) {
			return
		}
		n.Parent = s.callBehind(headOf(d.Body))
		s.add(n)
	}
	for _, e := range s.entries {
		id := e.Event.CausationID
		if !strings.HasPrefix(id, "evt_") || s.has(id) {
			continue
		}
		d, err := s.t.log.DeliveryOf(ctx, s.t.o.ProviderID, id)
		switch {
		case err == nil:
			take(d)
		case errors.Is(err, eventlog.ErrNotFound):
			s.add(Node{Time: e.Event.Time, Kind: KindDelivery, ID: id, Result: "not stored any more"})
		default:
			return err //nolint:wrapcheck // says what it was
		}
		s.Nodes[s.index[id]].Result = "changed"
	}
	if len(s.entries) == 0 {
		return nil
	}
	texts, kinds := s.objects()
	if len(texts) == 0 {
		return nil
	}
	customers, err := s.providerCustomers(ctx)
	if err != nil {
		return err
	}
	for _, customer := range customers {
		complete, err := s.t.log.FindDeliveries(ctx, eventlog.DeliverySearch{
			ProviderID: s.t.o.ProviderID, ProviderCustomerID: customer, Since: s.entries[0].Event.Time.Add(-deliveryEarlier),
			Texts: texts, Most: deliveriesMost,
		}, func(d eventlog.StoredDelivery) error {
			if strings.HasPrefix(headOf(d.Body).Type, kinds) {
				take(d)
			}
			return nil
		})
		if err != nil {
			return err //nolint:wrapcheck // says what it was
		}
		if !complete {
			s.t.note("more than %d deliveries came since: those that led to nothing are not all told", deliveriesMost)
		}
	}
	return nil
}

// objects are the provider's ids by which a delivery is about the entity, as they stand in one, and how the types of such
// deliveries begin.
func (s *story) objects() (texts []string, kinds string) {
	var ids []string
	for _, e := range s.entries {
		switch d := e.Event.Data; {
		case s.RefundID != "":
			if r := refundOf(e.Event, s.RefundID); r != nil {
				ids = append(ids, r.ProviderRefundID)
			}
		case d.Charge != nil:
			ids = append(ids, d.Charge.ProviderPaymentID, d.Charge.ProviderChargeID)
		case d.Checkout != nil:
			ids = append(ids, d.Checkout.ProviderSessionID)
		case d.Setup != nil:
			ids = append(ids, d.Setup.ProviderSessionID)
		case d.PaymentMethod != nil: // charges mention it too
			ids, kinds = append(ids, d.PaymentMethod.ProviderMethodID), "payment_method."
		case d.ProviderAccount != nil: // everything mentions it
			ids, kinds = append(ids, d.ProviderAccount.ProviderCustomerID), "customer."
		}
	}
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		if id != "" {
			texts = append(texts, `"`+id+`"`)
		}
	}
	return texts, kinds
}

// providerCustomers are the ids under which the provider knows the entity's customer, and "", under which deliveries are
// stored that name no customer: of refunds and disputes.
func (s *story) providerCustomers(ctx context.Context) ([]string, error) {
	list := []string{""}
	if s.CustomerID == "" {
		return list, nil
	}
	at := start{entity: events.EntityProviderAccount, id: events.ProviderAccountID(s.CustomerID, s.t.o.ProviderID)}
	history, err := s.t.history(ctx, at)
	for _, e := range history {
		if id := e.Event.Data.ProviderAccount.ProviderCustomerID; id != "" && !slices.Contains(list, id) {
			list = append(list, id)
		}
	}
	return list, err
}

// callBehind finds the call of the story that a delivery followed from.
func (s *story) callBehind(h head) string {
	request, key := h.request()
	byKey := ""
	for _, n := range s.Nodes {
		switch {
		case n.Call == nil:
		case request != "" && n.Call.RequestID == request:
			return n.ID
		case key != "" && n.Call.IdempotencyKey == key:
			byKey = n.ID
		}
	}
	return byKey
}

// outside brings in the events of other entities that led to something here, and says what the deliveries led to elsewhere.
func (s *story) outside(ctx context.Context) error {
	for _, n := range slices.Clone(s.Nodes) {
		u, err := ulid.ParseStrict(n.Parent)
		if err != nil || s.has(n.Parent) {
			continue
		}
		e, err := s.t.log.EventByID(ctx, n.Parent, ulid.Time(u.Time()))
		if errors.Is(err, eventlog.ErrNotFound) {
			continue
		}
		if err != nil {
			return err //nolint:wrapcheck // says what it was
		}
		node := Node{
			Time: e.Event.Time, Kind: KindEvent, ID: e.Event.ID, Type: string(e.Event.Type), Sequence: e.Sequence,
			Version: e.Event.EntityVersion, Status: StatusOf(e.Event),
		}
		if e.Event.Subject != s.EntityID {
			node.EntityID = e.Event.Subject
		}
		s.add(node)
	}
	for _, id := range s.neighbours() {
		entity, _ := events.EntityOf(id)
		history, err := s.t.history(ctx, start{entity: entity, id: id})
		if err != nil {
			return err
		}
		for _, e := range history {
			if i, ok := s.index[e.Event.CausationID]; ok && s.Nodes[i].Kind == KindDelivery {
				s.Nodes[i].Result = "changed"
				s.Nodes[i].LedTo = append(s.Nodes[i].LedTo, string(e.Event.Type)+" "+e.Event.Subject)
			}
		}
	}
	return nil
}

// neighbours are the entities that this one hangs on.
func (s *story) neighbours() []string {
	var ids []string
	for _, e := range s.entries {
		switch d := e.Event.Data; {
		case d.Charge != nil:
			ids = append(ids, d.Charge.CheckoutID, d.Charge.PaymentMethodID, d.Charge.SecondPaymentOf)
		case d.Checkout != nil:
			ids = append(ids, d.Checkout.ChargeID)
		case d.Setup != nil:
			ids = append(ids, d.Setup.PaymentMethodID)
		case d.PaymentMethod != nil:
			ids = append(ids, d.PaymentMethod.DuplicateOf)
		}
	}
	if s.Entity == events.EntityPaymentMethod || s.Entity == events.EntityCharge {
		ids = append(ids, events.ProviderAccountID(s.CustomerID, s.t.o.ProviderID))
	}
	slices.Sort(ids)
	return slices.DeleteFunc(slices.Compact(ids), func(id string) bool { return id == "" })
}
