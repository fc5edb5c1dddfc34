package explain

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// teller puts one story together.
type teller struct {
	log   Log
	views Views
	o     Options
	asked string
	notes []string
}

func (t *teller) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// start is where a story begins.
type start struct {
	entity   events.Entity
	id       string
	refund   string // only what is about it
	node     string // the node that was asked for, "" for the entity
	delivery *eventlog.StoredDelivery
	letter   *eventlog.DeadEntry // of a command that never led to an event
}

// known is a start with an entity that exists.
func (t *teller) known(ctx context.Context, id string) (start, bool, error) {
	entity, ok := events.EntityOf(id)
	if !ok {
		return start{}, false, nil
	}
	list, err := t.log.History(ctx, eventlog.HistoryFilter{Entity: entity, EntityID: id}, 1, 1)
	if err != nil {
		return start{}, false, err //nolint:wrapcheck // says what it was
	}
	return start{entity: entity, id: id}, len(list) > 0, nil
}

// providerForm tells whether an id has the form of a provider's ids.
func providerForm(id string) bool {
	return regexp.MustCompile(`^[a-z]{2,8}_[A-Za-z0-9_]+$`).MatchString(id)
}

// find says which entity an id is about. It asks first what is cheap, and searches whole streams last.
func (t *teller) find(ctx context.Context, id string) (start, error) {
	switch entity, ours := events.EntityOf(id); {
	case ours && entity == events.EntityCommand:
		return t.byCommand(ctx, id)
	case ours:
		at, ok, err := t.known(ctx, id)
		if err == nil && !ok {
			err = t.unknown("no event of such a %s is in the log", strings.ReplaceAll(string(entity), "_", " "))
		}
		return at, err
	case strings.HasPrefix(id, "rfd_"):
		return t.byRefund(ctx, id)
	case strings.HasPrefix(id, "evt_"):
		return t.byDelivery(ctx, id)
	case strings.HasPrefix(id, "req_"):
		return t.byRequest(ctx, id)
	case strings.HasPrefix(id, "paykit:"):
		return t.byKey(ctx, id)
	}
	if u, err := ulid.ParseStrict(id); err == nil {
		return t.byEvent(ctx, id, ulid.Time(u.Time()))
	}
	if at, ok, err := t.byOwnWord(ctx, id); err != nil || ok {
		return at, err
	}
	if providerForm(id) {
		return t.byObject(ctx, id)
	}
	return start{}, t.unknown("neither an id of PayKit or of Stripe, nor an idempotency key or a referenceId that was used; " +
		"ids begin with cust_, chg_, chk_, set_, meth_, pa_, rfd_, cmd_, or at Stripe with cus_, pi_, ch_, re_, pm_, seti_, cs_, evt_, dp_, req_")
}

func (t *teller) unknown(format string, args ...any) error {
	return &UnknownError{ID: t.asked, Why: fmt.Sprintf(format, args...)}
}

// search reads back through the LOG for the id as a whole JSON string, and says so: it is the last resort.
func (t *teller) search(ctx context.Context, id string, take func(e *events.Event) (better bool)) (*eventlog.Entry, error) {
	var hit *eventlog.Entry
	t.note("found by a search of the whole log, newest first")
	err := t.log.FindEvents(ctx, `"`+id+`"`, t.progress("LOG"), func(e eventlog.Entry) (bool, error) {
		done := take(e.Event)
		if hit == nil || done {
			hit = &e
		}
		return !done, nil
	})
	return hit, err //nolint:wrapcheck // says what it was
}

func (t *teller) progress(stream string) func(eventlog.Found) {
	if t.o.Progress == nil {
		return nil
	}
	return func(f eventlog.Found) { t.o.Progress(stream, f) }
}

func entityOf(e *eventlog.Entry) start { return start{entity: e.Event.Entity(), id: e.Event.Subject} }

// byCommand: a refused command has an event of its own, any other is named by the events that it led to. The one without a
// cause is the command's own; what followed from it carries the name on.
func (t *teller) byCommand(ctx context.Context, id string) (start, error) {
	if at, ok, err := t.known(ctx, id); err != nil || ok {
		return at, err
	}
	e, err := t.search(ctx, id, func(e *events.Event) bool { return e.CorrelationID == id && e.CausationID == "" })
	if err != nil {
		return start{}, err
	}
	if e == nil {
		letters, err := t.log.DeadLetters(ctx, "")
		if err != nil {
			return start{}, err //nolint:wrapcheck // says what it was
		}
		for _, d := range letters {
			if d.ID == id {
				return start{node: id, letter: &d}, nil
			}
		}
		return start{}, t.unknown("no event in the log is of such a command; one that was refused over paykit.api leaves nothing behind")
	}
	at := entityOf(e)
	at.node = id
	return at, nil
}

// byRefund: a refund is part of its charge.
func (t *teller) byRefund(ctx context.Context, id string) (start, error) {
	e, err := t.search(ctx, id, func(e *events.Event) bool { return refundOf(e, id) != nil })
	if err != nil {
		return start{}, err
	}
	if e == nil || refundOf(e.Event, id) == nil {
		return start{}, t.unknown("no charge in the log has such a refund")
	}
	at := entityOf(e)
	at.refund = id
	return at, nil
}

// refundOf is a charge's refund by our id or the provider's, nil if it has none.
func refundOf(e *events.Event, id string) *events.Refund {
	if e.Data.Charge == nil {
		return nil
	}
	for i, r := range e.Data.Charge.Refunds {
		if r.ID == id || r.ProviderRefundID == id && id != "" {
			return &e.Data.Charge.Refunds[i]
		}
	}
	return nil
}

func (t *teller) byEvent(ctx context.Context, id string, decided time.Time) (start, error) {
	found, err := t.log.EventByID(ctx, id, decided)
	e := &found
	if errors.Is(err, eventlog.ErrNotFound) {
		e, err = t.search(ctx, id, func(e *events.Event) bool { return e.ID == id })
		if err == nil && (e == nil || e.Event.ID != id) {
			err = t.unknown("no event in the log has this id")
		}
	}
	if err != nil {
		return start{}, err
	}
	at := entityOf(e)
	at.node = id
	return at, nil
}

// byRequest: the provider's id of a request stands in the record of the call.
func (t *teller) byRequest(ctx context.Context, id string) (start, error) {
	var hit *eventlog.StoredCall
	err := t.log.FindCalls(ctx, `"requestId":"`+id+`"`, t.progress("CALLS"), func(c eventlog.StoredCall) (bool, error) {
		hit = &c
		return false, nil
	})
	switch {
	case err != nil:
		return start{}, err //nolint:wrapcheck // says what it was
	case hit == nil:
		return start{}, t.unknown("no call of the worker's in the records of the last year has this request id; requests of the " +
			"dashboard, of hosted pages and of \"paykit reconcile\" are not recorded")
	case hit.EntityID == "":
		return start{}, t.unknown("the worker's request %s at %s (%s, %s): it reads what was delivered and is for nobody in particular",
			hit.Operation, hit.Time.Format(time.RFC3339), hit.Outcome, took(hit.DurationMs))
	}
	at, ok, err := t.known(ctx, hit.EntityID)
	if err == nil && !ok {
		err = t.unknown("a call for %s, of which no event is in the log", hit.EntityID)
	}
	at.node = callID(*hit)
	return at, err
}

// byKey: our idempotency keys name the entity, or the event, that the call is for.
func (t *teller) byKey(ctx context.Context, key string) (start, error) {
	parts := strings.Split(key, ":")
	for _, part := range parts {
		if strings.HasPrefix(part, "rfd_") {
			at, err := t.byRefund(ctx, part)
			at.node = key
			return at, err
		}
		at, ok, err := t.known(ctx, part)
		if err != nil {
			return start{}, err
		}
		if ok {
			return t.calledWith(ctx, key, at)
		}
	}
	for _, part := range parts {
		if strings.HasPrefix(part, "cus_") {
			return t.byObject(ctx, part)
		}
	}
	return start{}, t.unknown("an idempotency key that names no entity in the log; is it of another environment?")
}

// calledWith is where the call with a key was made for: mostly what the key names, but a customer's account is made for the
// charge or page that needs it first.
func (t *teller) calledWith(ctx context.Context, key string, named start) (start, error) {
	named.node = key
	list, err := t.log.CallsOf(ctx, named.entity, named.id)
	if err != nil || slices.ContainsFunc(list, func(c eventlog.StoredCall) bool { return c.IdempotencyKey == key }) {
		return named, err //nolint:wrapcheck // says what it was
	}
	at := named
	err = t.log.FindCalls(ctx, `"idempotencyKey":"`+key+`"`, t.progress("CALLS"), func(c eventlog.StoredCall) (bool, error) {
		var ok bool
		var err error
		if at, ok, err = t.known(ctx, c.EntityID); !ok {
			at = named
		}
		at.node = key
		return !ok, err
	})
	return at, err //nolint:wrapcheck // says what it was
}

// byOwnWord: what the app calls a thing gives our id of it.
func (t *teller) byOwnWord(ctx context.Context, word string) (start, bool, error) {
	for _, id := range []string{events.ChargeID(word), events.CheckoutID(word), events.SetupID(word), events.CustomerID(word)} {
		if at, ok, err := t.known(ctx, id); err != nil || ok {
			if at.entity == events.EntityCustomer {
				t.note("%s is the app's id of this customer", word)
			} else {
				t.note("%s is the idempotency key of the command", word)
			}
			return at, ok, err
		}
	}
	return start{}, false, nil
}

// candidates are the entities that a provider's object may lead to without a search.
func (t *teller) candidates(ctx context.Context, object string) ([]start, error) {
	var ids []string
	k, err := t.log.Link(ctx, t.o.ProviderID, object)
	switch {
	case err == nil && k.Entity == events.EntityCustomer:
		ids = append(ids, events.ProviderAccountID(k.ID, t.o.ProviderID), k.ID)
	case err == nil:
		ids = append(ids, k.ID)
	case !errors.Is(err, eventlog.ErrNotFound):
		return nil, err //nolint:wrapcheck // says what it was
	}
	ids = append(ids, events.PaymentMethodID(t.o.ProviderID, object), events.ReportedChargeID(t.o.ProviderID, object, ""),
		events.ReportedChargeID(t.o.ProviderID, "", object))
	var list []start
	for _, id := range ids {
		at, ok, err := t.known(ctx, id)
		if err != nil {
			return nil, err
		}
		if ok && !slices.ContainsFunc(list, func(s start) bool { return s.id == at.id }) {
			list = append(list, at)
		}
	}
	return list, nil
}

// byObject: an object of the provider's.
func (t *teller) byObject(ctx context.Context, object string) (start, error) {
	list, err := t.candidates(ctx, object)
	if err != nil {
		return start{}, err
	}
	if strings.HasPrefix(object, "cus_") && len(list) > 1 {
		list = list[1:] // the customer, who has the account
	}
	if len(list) > 0 {
		return list[0], nil
	}
	e, err := t.search(ctx, object, func(*events.Event) bool { return true })
	if err != nil {
		return start{}, err
	}
	if e != nil {
		at := entityOf(e)
		if r := refundOf(e.Event, object); r != nil {
			at.refund = r.ID
		}
		return at, nil
	}
	return t.byMention(ctx, object)
}

// byMention looks for an object that no event names in the records of calls and in what was delivered.
func (t *teller) byMention(ctx context.Context, object string) (start, error) {
	t.notes = nil
	var at start
	found := false
	err := t.log.FindCalls(ctx, `"objectId":"`+object+`"`, t.progress("CALLS"), func(c eventlog.StoredCall) (bool, error) {
		var err error
		at, found, err = t.known(ctx, c.EntityID)
		at.node = callID(c)
		return !found, err
	})
	if err != nil {
		return start{}, err //nolint:wrapcheck // says what it was
	}
	if found {
		t.note("no event names %s; a call for this %s was about it", object, at.entity)
		return at, nil
	}
	var hit *eventlog.StoredDelivery
	stop := errors.New("found")
	_, err = t.log.FindDeliveries(ctx, eventlog.DeliverySearch{
		ProviderID: t.o.ProviderID, Anyone: true, Texts: []string{`"` + object + `"`}, Most: deliveriesAll,
	}, func(d eventlog.StoredDelivery) error {
		hit = &d
		return stop
	})
	if err != nil && !errors.Is(err, stop) {
		return start{}, err //nolint:wrapcheck // says what it was
	}
	if hit == nil {
		return start{}, t.unknown("no link, no event in the log, no recorded call and no stored delivery names it; an object that was made " +
			"outside of PayKit, or in another environment, is not known here")
	}
	t.note("no event names %s; found in what was delivered", object)
	return t.ofDelivery(ctx, headOf(hit.Body).ID, *hit)
}
