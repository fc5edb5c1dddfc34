package provider

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"
)

const (
	blockedFor = 30 * time.Second
	// refusalShown is for how long an operation that was refused, and not made since, shows. What is still wanted is tried
	// more often: a request about twice a minute, the backfill every five.
	refusalShown = 15 * time.Minute
)

// refusal is an answer that refused our credentials, for all calls or for one operation.
type refusal struct {
	err   *Error
	at    time.Time
	until time.Time // no call before
}

// stopsAll names the operations that move money or begin with it: a key that may not make one of these is no key for
// charging, so nothing is begun that it can't end.
func stopsAll(operation string) bool {
	switch operation {
	case "customers.create", "payments.create", "payments.confirm", "refunds.create":
		return true
	}
	return false
}

// errHalted says that a call was not made because the credentials are known to be refused.
var errHalted = errors.New("not sent: the provider refuses our credentials")

// halted is the answer to a call while the credentials are known to be refused, for all calls or for this operation. One
// call in a while goes through, to see whether they are accepted again.
func (g *guardedAPI) halted(operation string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	known := []*refusal{g.blocked, g.refused[operation]}
	for _, r := range known {
		if r != nil && r.until.After(now) {
			return r.halts(operation, now)
		}
	}
	for _, r := range known {
		if r != nil {
			r.until = now.Add(blockedFor) // this one; those behind it wait for what it finds out
		}
	}
	return nil
}

// haltedSince is the same for a further request of a call that began at a time: it may be the very one that finds out.
func (g *guardedAPI) haltedSince(operation string, began time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range []*refusal{g.blocked, g.refused[operation]} {
		if r != nil && r.at.After(began) {
			return r.halts(operation, g.now())
		}
	}
	return nil
}

func (r *refusal) halts(operation string, now time.Time) error {
	return &Error{
		Class: Blocked, Operation: operation, Code: r.err.Code, Status: r.err.Status, RetryAfter: max(r.until.Sub(now), 0), Err: errHalted,
	}
}

// accepts remembers what an answer says of our credentials. A 401 is about all calls. A 403 is about the operation that it
// answers: a restricted key lacks the right to it, and the others go on; but where nothing can be charged without it, all
// wait. It must be called under mu.
func (g *guardedAPI) accepts(operation string, err error) {
	e, isError := errors.AsType[*Error](err)
	switch {
	case errors.Is(err, errHalted):
	case err == nil, isError && e.Status != 0 && e.Class != Blocked:
		g.blocked = nil
		delete(g.refused, operation)
	case isError && e.Class == Blocked:
		r := refusal{err: e, at: g.now(), until: g.now().Add(blockedFor)}
		if e.Status == http.StatusForbidden {
			g.refused[operation] = new(r)
		}
		if e.Status != http.StatusForbidden || stopsAll(operation) {
			g.blocked = new(r)
		}
	}
	shown := 0.0
	if g.blocked != nil || len(g.refusedOperations()) > 0 {
		shown = 1
	}
	g.metrics.blocked.WithLabelValues(g.id).Set(shown)
}

// refusedOperations lists what our credentials were refused for of late. It must be called under mu.
func (g *guardedAPI) refusedOperations() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(g.refused)), func(operation string) bool {
		return g.now().Sub(g.refused[operation].at) > refusalShown
	})
}

// ready says what will not work, nil if nothing is known against it.
func (g *guardedAPI) ready() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var errs []error
	if g.blocked != nil {
		errs = append(errs, fmt.Errorf("provider %s refuses our credentials: %w", g.id, g.blocked.err))
	}
	for _, operation := range g.refusedOperations() {
		errs = append(errs, fmt.Errorf("provider %s refuses our credentials for %s: %w", g.id, operation, g.refused[operation].err))
	}
	return errors.Join(errs...)
}
