package provider

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Class says what a failed call means for the worker. The zero value is the careful one.
type Class int

// The classes.
const (
	InDoubt   Class = iota // may have been applied: ask the provider before anything else
	Declined               // the provider's final no
	Invalid                // our request is wrong; a retry gives the same answer
	Transient              // known not to have been applied: the same again later
	Blocked                // credentials or configuration of the account: no call will work
)

func (c Class) String() string {
	switch c {
	case InDoubt:
		return "in_doubt"
	case Declined:
		return "declined"
	case Invalid:
		return "invalid"
	case Transient:
		return "transient"
	case Blocked:
		return "blocked"
	}
	return "in_doubt"
}

// Error is a failed provider call. It holds no body and no secret of the provider's answer.
type Error struct {
	Class       Class
	Operation   string        // "payment_intents.create"
	Code        string        // the provider's code, "resource_missing"
	DeclineCode string        // with Declined
	Param       string        // the parameter at fault, with Invalid; "customer" whenever it is the customer that is NotFound
	Status      int           // HTTP status, 0 if no answer came
	RequestID   string        // the provider's id of the request, for its support
	RetryAfter  time.Duration // how long the provider asks to wait, 0 if it does not say
	NotFound    bool          // the object asked for does not exist
	Replayed    bool          // the stored answer of an earlier call with this key, which gets no other for a day
	NoRetry     bool          // the provider says that the same call must not be sent again
	KeyTaken    bool          // the key belongs to an earlier call with other parameters
	Limited     bool          // too many calls, whatever they are about: all shall wait
	Err         error         // the cause, already stripped of bodies; may be nil
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %s", e.Operation, e.Class)
	if e.Status != 0 {
		s += fmt.Sprintf(" (status %d", e.Status)
		if e.Code != "" {
			s += ", " + e.Code
		}
		if e.Param != "" {
			s += ", " + e.Param
		}
		if e.RequestID != "" {
			s += ", " + e.RequestID
		}
		s += ")"
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// ClassOf tells what a failed call means: [InDoubt] for anything that is not an [*Error].
func ClassOf(err error) Class {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Class
	}
	return InDoubt
}

// keyIsSpent tells whether a call's key is worth nothing any more: the provider keeps a server error under it, or another
// call's answer (one of an earlier version of this program, for example). The earlier call has ended, so asking shows what
// it did. Source: https://docs.stripe.com/api/idempotent_requests
func keyIsSpent(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (e.Class == InDoubt && e.Replayed || e.KeyTaken)
}

// notToBeRepeated tells whether the provider says of a call that was just in doubt that it must not be sent again. That
// call need not have ended: the provider may still carry it out, so what would take money is asked about first.
func notToBeRepeated(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Class == InDoubt && e.NoRetry
}

type attemptKey struct{}

// WithAttempt notes which try of a request the calls in ctx belong to, from 1.
func WithAttempt(ctx context.Context, n int) context.Context {
	return context.WithValue(ctx, attemptKey{}, n)
}

// AttemptOf is the try that a call belongs to: 1 if nobody says.
func AttemptOf(ctx context.Context) int {
	n, _ := ctx.Value(attemptKey{}).(int)
	return max(n, 1)
}

// NoCustomer tells whether a call failed because the provider's customer does not exist (any more).
func NoCustomer(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.NotFound && e.Param == "customer"
}

// What [Webhooks] refuses. All are the sender's fault; the first four mean that a delivery is not to be stored.
var (
	ErrBadSignature = errors.New("the delivery's signature is missing, unreadable or made with another secret")
	ErrTooOld       = errors.New("the delivery was signed too long ago")
	ErrTooEarly     = errors.New("the delivery was signed too far in the future")
	ErrNotAnEvent   = errors.New("the delivery is not a JSON object with id and type")
	ErrThinEvent    = errors.New("the delivery is a thin event, which holds no object")
	ErrUnreadable   = errors.New("the delivery's object has not the shape of its type")
)
