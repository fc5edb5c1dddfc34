package explain

import (
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// head is what is read of a delivery: what it is and which call it followed from. Nothing else of it is shown.
type head struct {
	ID      string          `json:"id"`
	Type    string          `json:"type"`
	Created int64           `json:"created"` // Unix seconds
	Request json.RawMessage `json:"request"` // an object; until 2017-05-25 the request's id
}

func headOf(body []byte) head {
	var h head
	_ = json.Unmarshal(body, &h) // what can't be read has no head, and is shown as that
	return h
}

// request gives the call that it followed from, if it was one of an API.
func (h head) request() (id, key string) {
	var r struct {
		ID  string `json:"id"`
		Key string `json:"idempotency_key"`
	}
	if json.Unmarshal(h.Request, &r) != nil {
		_ = json.Unmarshal(h.Request, &r.ID)
	}
	return r.ID, r.Key
}

// idsIn finds what may be ids in a delivery: those of ours in its metadata, and those of the provider.
func idsIn(body []byte) (ours, theirs []string) {
	for _, id := range regexp.MustCompile(`"(?:chg|chk|set|cust)_[0-9A-Z]{26}"`).FindAllString(string(body), -1) {
		ours = append(ours, strings.Trim(id, `"`))
	}
	slices.SortStableFunc(ours, func(a, b string) int { return ownRank(a) - ownRank(b) })
	for _, id := range regexp.MustCompile(`"[a-z]{2,4}_[A-Za-z0-9_]{4,}"`).FindAllString(string(body), -1) {
		if id = strings.Trim(id, `"`); !strings.HasPrefix(id, "evt_") {
			theirs = append(theirs, id)
		}
	}
	slices.SortStableFunc(theirs, func(a, b string) int { return theirRank(a) - theirRank(b) })
	return slices.Compact(ours), slices.Compact(theirs)
}

// ownRank puts before the customer what is the customer's.
func ownRank(id string) int {
	prefix, _, _ := strings.Cut(id, "_")
	return slices.Index([]string{"chg", "chk", "set", "cust"}, prefix)
}

// theirRank puts the payment first, the customer last: the first is whom a delivery is about most likely.
func theirRank(id string) int {
	prefix, _, _ := strings.Cut(id, "_")
	if i := slices.Index([]string{"pi", "ch", "py", "pm"}, prefix); i >= 0 {
		return i
	}
	if prefix == "cus" {
		return 9
	}
	return 5
}

// byDelivery: the entity that it changed, else the one that it is about.
func (t *teller) byDelivery(ctx context.Context, id string) (start, error) {
	d, err := t.log.DeliveryOf(ctx, t.o.ProviderID, id)
	if errors.Is(err, eventlog.ErrNotFound) {
		e, err := t.search(ctx, id, func(e *events.Event) bool { return e.CausationID == id })
		if err != nil {
			return start{}, err
		}
		if e == nil {
			return start{}, t.unknown("no such delivery is stored (they are kept for 35 days), and no event in the log followed from it")
		}
		at := entityOf(e)
		at.node = id
		return at, nil
	}
	if err != nil {
		return start{}, err //nolint:wrapcheck // says what it was
	}
	return t.ofDelivery(ctx, id, d)
}

// ofDelivery finds whom a delivery is about.
func (t *teller) ofDelivery(ctx context.Context, id string, d eventlog.StoredDelivery) (start, error) {
	list, err := t.mentioned(ctx, d)
	if err != nil {
		return start{}, err
	}
	best := start{}
	for _, at := range list {
		history, err := t.history(ctx, at)
		if err != nil {
			return start{}, err
		}
		if slices.ContainsFunc(history, func(e eventlog.Entry) bool { return e.Event.CausationID == id }) {
			best = at
			break
		}
	}
	if best.id == "" && len(list) > 0 {
		best = slices.MinFunc(list, func(a, b start) int { return entityRank(a.entity) - entityRank(b.entity) })
	}
	best.node, best.delivery = id, &d
	return best, nil
}

// mentioned are the entities that a delivery names.
func (t *teller) mentioned(ctx context.Context, d eventlog.StoredDelivery) ([]start, error) {
	var list []start
	add := func(more ...start) {
		for _, s := range more {
			if !slices.ContainsFunc(list, func(o start) bool { return o.id == s.id }) {
				list = append(list, s)
			}
		}
	}
	ours, theirs := idsIn(d.Body)
	for _, own := range ours {
		ids := []string{own}
		if strings.HasPrefix(own, "cust_") {
			ids = []string{events.ProviderAccountID(own, t.o.ProviderID), own}
		}
		for _, id := range ids {
			at, ok, err := t.known(ctx, id)
			if err != nil {
				return nil, err
			}
			if ok {
				add(at)
			}
		}
	}
	for _, object := range theirs[:min(len(theirs), idsTried)] {
		more, err := t.candidates(ctx, object)
		if err != nil {
			return nil, err
		}
		add(more...)
	}
	return list, nil
}

func entityRank(e events.Entity) int {
	return slices.Index([]events.Entity{
		events.EntityCharge, events.EntityCheckout, events.EntitySetup, events.EntityPaymentMethod, events.EntityProviderAccount, events.EntityCustomer,
	}, e)
}

const (
	idsTried        = 20        // of what looks like one in a delivery
	deliveriesAll   = 1_000_000 // that are read at most for an object that nothing else names
	deliveriesMost  = 50_000    // that are read for one story and provider customer
	deliveryEarlier = time.Hour // than the entity's first event
)

// deliveryNode shows a delivery. done says until when the normalizer has worked off what was stored.
func (t *teller) deliveryNode(d eventlog.StoredDelivery, notDone time.Time) Node {
	h := headOf(d.Body)
	n := Node{Time: d.Time.UTC(), Kind: KindDelivery, ID: h.ID, Type: h.Type, Sequence: d.Sequence, Result: "nothing new"}
	if h.Created > 0 {
		n.Made = time.Unix(h.Created, 0).UTC()
	}
	if !notDone.IsZero() && !d.Time.Before(notDone) {
		n.Result = "nothing yet: it may wait for its owner, or for its turn"
	}
	return n
}
