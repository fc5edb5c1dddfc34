package provider

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// reading is the log as one delivery sees it: a customer and an account that it has read stay as they were while it is
// worked on, unless it changes them itself, and so does what another delivery read of them since this one was received. That is
// enough to find whose a delivery is, and for money, which counts whatever becomes of the customer; and whoever deletes a
// customer erases the deliveries that were stored before. It is not enough to open anything of the customer's: an account
// that was unlinked since has had its methods detached, once. What may only change while the account is linked asks the
// leader again, right before it appends: see [Applier.updateOpen].
//
// What its payment's report will ask for is read ahead, all of it at once: the server answers reads and writes of a stream in
// turns, so each read after another costs a turn of everybody's writes. Each of these answers is given once; who asks again
// reads again.
//
// A reading belongs to one delivery and is not safe for concurrent use.
type reading struct {
	ApplierLog
	links   *customerLinks
	recent  *recentEntries
	since   time.Time                 // when the delivery was received; zero = what others read does not count
	entries map[string]eventlog.Entry // customers and accounts, by id
	ahead   map[string]*answer        // by id, or by the name of the provider's object
}

// answer is one read's.
type answer struct {
	entry eventlog.Entry
	link  eventlog.Link
	err   error
	at    time.Time // when it was asked for
}

// reading gives an Applier for one delivery.
func (n *Normalizer) reading(ctx context.Context, providerID string, d Delivery, since time.Time) *Applier {
	a, atOnce := n.applier, n.cfg.AtOnce
	one := *a
	r := &reading{ApplierLog: a.log, links: &n.links, recent: &n.recent, since: since, entries: map[string]eventlog.Entry{}, ahead: map[string]*answer{}}
	one.log = r
	work := []func(){}
	read := func(key string, do func(into *answer)) {
		into := &answer{err: eventlog.ErrUnavailable, at: time.Now()} // until it is there
		r.ahead[key] = into
		work = append(work, func() { do(into) })
	}
	entity := func(entity events.Entity, id string) {
		if _, known := r.recent.get(id, since); !known && events.ValidID(entity, id) {
			read(id, func(into *answer) { into.entry, into.err = a.log.Load(ctx, entity, id) })
		}
	}
	if k, err := r.Link(ctx, providerID, d.CustomerID); d.CustomerID != "" && err == nil && k.Entity == events.EntityCustomer {
		entity(events.EntityCustomer, k.ID)
		entity(events.EntityProviderAccount, events.ProviderAccountID(k.ID, providerID))
	}
	for _, o := range d.Observations {
		p, ok := o.(PaymentSeen)
		if !ok || a.foreign(p.Owner) {
			continue
		}
		if a.ours(p.Owner) && p.Owner.Charge != "" {
			entity(events.EntityCharge, p.Owner.Charge)
			break
		}
		entity(events.EntityCharge, events.ReportedChargeID(providerID, p.ID, p.ChargeID))
		for _, object := range []string{p.ID, p.ChargeID} {
			if object != "" {
				read(providerID+" "+object, func(into *answer) { into.link, into.err = a.log.Link(ctx, providerID, object) })
			}
		}
		break
	}
	if len(work) > 0 {
		atOnce(work...)
	}
	return &one
}

// read gives what was read ahead, once; ok is false if that was nothing, or failed.
func (r *reading) read(key string) (_ *answer, ok bool) {
	got, ok := r.ahead[key]
	delete(r.ahead, key)
	return got, ok && (got.err == nil || errors.Is(got.err, eventlog.ErrNotFound))
}

func (r *reading) Load(ctx context.Context, entity events.Entity, id string) (eventlog.Entry, error) {
	if e, ok := r.entries[id]; ok {
		return e, nil
	}
	if e, ok := r.recent.get(id, r.since); ok {
		r.entries[id] = e
		return e, nil
	}
	got, ok := r.read(id)
	if !ok {
		got = &answer{at: time.Now()}
		got.entry, got.err = r.ApplierLog.Load(ctx, entity, id)
	}
	if got.err == nil && (entity == events.EntityCustomer || entity == events.EntityProviderAccount) {
		r.entries[id] = got.entry
		r.recent.put(id, got.entry, got.at)
	}
	return got.entry, got.err //nolint:wrapcheck // as Load gave it
}

// LoadFromLeader asks again, whatever was read before.
func (r *reading) LoadFromLeader(ctx context.Context, entity events.Entity, id string) (eventlog.Entry, error) {
	at := time.Now()
	e, err := r.ApplierLog.LoadFromLeader(ctx, entity, id)
	if err == nil && (entity == events.EntityCustomer || entity == events.EntityProviderAccount) {
		r.entries[id] = e
		r.recent.put(id, e, at)
	}
	return e, err //nolint:wrapcheck // as LoadFromLeader gave it
}

func (r *reading) Update(ctx context.Context, entity events.Entity, id string,
	decide func(last *events.Event) (*events.Event, error),
) (eventlog.Entry, bool, error) {
	r.forget(id)
	defer r.forget(id) // what another read meanwhile
	return r.ApplierLog.Update(ctx, entity, id, decide)
}

func (r *reading) UpdateFrom(ctx context.Context, entity events.Entity, id string, known eventlog.Entry,
	decide func(last *events.Event) (*events.Event, error),
) (eventlog.Entry, bool, error) {
	r.forget(id)
	defer r.forget(id) // what another read meanwhile
	return r.ApplierLog.UpdateFrom(ctx, entity, id, known, decide)
}

func (r *reading) PutLink(ctx context.Context, providerID, objectID string, k eventlog.Link) error {
	delete(r.ahead, providerID+" "+objectID)
	return r.ApplierLog.PutLink(ctx, providerID, objectID, k) //nolint:wrapcheck // as PutLink gave it
}

// forget has an entity that is about to change read again.
func (r *reading) forget(id string) {
	delete(r.entries, id)
	delete(r.ahead, id)
	if entity, _ := events.EntityOf(id); entity == events.EntityCustomer || entity == events.EntityProviderAccount {
		r.recent.drop(id)
	}
}

func (r *reading) Link(ctx context.Context, providerID, objectID string) (eventlog.Link, error) {
	if k, ok := r.links.get(providerID, objectID); ok {
		return k, nil
	}
	if got, ok := r.read(providerID + " " + objectID); ok {
		return got.link, got.err
	}
	k, err := r.ApplierLog.Link(ctx, providerID, objectID)
	if err == nil && k.Entity == events.EntityCustomer {
		r.links.put(providerID, objectID, k)
	}
	return k, err //nolint:wrapcheck // as Link gave it
}

// customerLinks remembers whose a provider's customers are, which never changes: the links of payments can be moved, those
// of customers are written once. It holds ids only, of at most the last 2 × linksMost customers that were asked for (4 MiB).
// It is safe for concurrent use.
type customerLinks struct {
	mu           sync.Mutex
	newer, older map[string]eventlog.Link
}

const linksMost = 8192

func (c *customerLinks) get(providerID, objectID string) (eventlog.Link, bool) {
	key := providerID + " " + objectID
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.newer[key]
	if !ok {
		if k, ok = c.older[key]; ok {
			c.keep(key, k)
		}
	}
	return k, ok
}

func (c *customerLinks) put(providerID, objectID string, k eventlog.Link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep(providerID+" "+objectID, k)
}

// keep is called with mu held.
func (c *customerLinks) keep(key string, k eventlog.Link) {
	if c.newer == nil || len(c.newer) >= linksMost {
		c.newer, c.older = map[string]eventlog.Link{}, c.newer
	}
	c.newer[key] = k
}

// recentEntries remembers customers and accounts as they were read a moment ago, for the deliveries that were waiting here by
// then: in a burst many are about the same customer. It holds at most the last 2 × recentMost (about 4 MiB). It is safe for
// concurrent use.
type recentEntries struct {
	mu           sync.Mutex
	newer, older map[string]recentEntry
}

type recentEntry struct {
	entry eventlog.Entry // zero if it has changed since
	at    time.Time      // when it was asked for, or when it changed
}

const recentMost = 1024

// get gives what was asked for after a time, if anything was.
func (c *recentEntries) get(id string, since time.Time) (eventlog.Entry, bool) {
	if since.IsZero() {
		return eventlog.Entry{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.find(id)
	return e.entry, e.entry.Event != nil && e.at.After(since)
}

func (c *recentEntries) put(id string, e eventlog.Entry, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.find(id).at.Before(at) {
		c.keep(id, recentEntry{e, at})
	}
}

// drop forgets what was asked for until now.
func (c *recentEntries) drop(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep(id, recentEntry{at: time.Now()})
}

func (c *recentEntries) find(id string) recentEntry {
	if e, ok := c.newer[id]; ok {
		return e
	}
	return c.older[id]
}

func (c *recentEntries) keep(id string, e recentEntry) {
	if c.newer == nil || len(c.newer) >= recentMost {
		c.newer, c.older = map[string]recentEntry{}, c.newer
	}
	c.newer[id] = e
}
