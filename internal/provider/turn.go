package provider

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

type turnKey struct{}

// WithTurns has next called before each HTTP request of the calls in ctx. What next fails with ends the call; its request
// was not sent.
func WithTurns(ctx context.Context, next func(ctx context.Context) error) context.Context {
	return context.WithValue(ctx, turnKey{}, next)
}

// Turn is called by an adapter before each HTTP request, and waits until it may be sent: one call may be many requests,
// the pages of a list for example, and it is those that the provider counts.
func Turn(ctx context.Context) error {
	if next, ok := ctx.Value(turnKey{}).(func(ctx context.Context) error); ok {
		return next(ctx)
	}
	return nil
}

// turn waits until a call may be sent. What it refuses was never sent: Transient, or Blocked.
func (g *guardedAPI) turn(ctx context.Context, operation string) error {
	if err := g.halted(operation); err != nil {
		return err
	}
	return g.paced(ctx, operation)
}

func (g *guardedAPI) paced(ctx context.Context, operation string) error {
	if err := g.asked(operation); err != nil {
		return err
	}
	if err := g.limiter.Wait(ctx); err != nil {
		return &Error{Class: Transient, Operation: operation, Code: codeRateLimitHere, Err: err}
	}
	return nil
}

// eachInTurn has every request of a call wait as the first one did, for which the caller has waited, and recorded: no call
// of the worker's goes another way.
func (g *guardedAPI) eachInTurn(ctx context.Context, operation string) context.Context {
	began := g.now()
	var further atomic.Bool
	return WithTurns(g.calls.following(ctx, g.id), func(ctx context.Context) error {
		if !further.Swap(true) {
			return nil
		}
		if err := g.haltedSince(operation, began); err != nil {
			return err
		}
		return g.paced(ctx, operation)
	})
}

// heldBack tells whether a call, or the rest of it, was not sent by our own decision, which says nothing of the provider.
func heldBack(err error) bool {
	if errors.Is(err, errHalted) {
		return true
	}
	e, ok := errors.AsType[*Error](err)
	return ok && (e.Code == codeRateLimitHere || e.Code == codeAskedToWait || e.Code == codeBreakerOpen)
}

// guardedRead makes a read of many pages. It keeps to an open breaker and counts for nothing in it: that a long read was
// ended, by our own time limit or by whoever takes in what is read, is no sign of a provider that is down.
func guardedRead[T any](ctx context.Context, g *guardedAPI, operation string, read func(ctx context.Context) (T, error)) (T, error) {
	var none T
	if err := g.turn(ctx, operation); err != nil {
		return none, err
	}
	if g.breaker.State() == gobreaker.StateOpen {
		return none, &Error{Class: Transient, Operation: operation, Code: codeBreakerOpen, RetryAfter: openFor}
	}
	started := time.Now()
	answer, err := read(g.eachInTurn(ctx, operation))
	if _, ok := errors.AsType[*Error](err); ok || err == nil {
		g.metrics.called(g.id, operation, AttemptOf(ctx), time.Since(started), err)
		g.note(operation, err)
	}
	return answer, err
}
