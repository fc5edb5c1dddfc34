package commands

import (
	"context"
	"errors"
	"fmt"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// errPanicked is a bug of ours in a command.
var errPanicked = errors.New("the command panicked")

// AsError turns what [Handler.Execute] failed with into the refusal that callers of the public contract see. Failures
// of ours become storage_full, timeout or internal, and say nothing about the inside.
func AsError(err error) *events.Error {
	if refusal, ok := errors.AsType[*events.Error](err); ok {
		return refusal
	}
	switch {
	case errors.Is(err, eventlog.ErrStorageFull):
		return &events.Error{
			Code:    events.CodeStorageFull,
			Message: "the event log's storage is full, nothing was stored; try again when the operator has made room",
		}
	case temporary(err):
		return &events.Error{
			Code: events.CodeTimeout,
			Message: "the event log did not answer, and it is not known whether the command was stored; " +
				"send it again with the same idempotency key",
		}
	}
	return &events.Error{Code: events.CodeInternal, Message: "the command could not be carried out; ingest's log says why"}
}

// temporary tells whether a failure is one of storage or connection, which ends by itself.
func temporary(err error) bool {
	return eventlog.IsUnavailable(err) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// refusalOf is the refusal in err if it is one that sending the same command again would meet again.
func refusalOf(err error) (*events.Error, bool) {
	refusal, ok := errors.AsType[*events.Error](err)
	if !ok {
		return nil, false
	}
	switch refusal.Code {
	case events.CodeOverloaded, events.CodeStorageFull, events.CodeTimeout, events.CodeInternal:
		return nil, false
	case events.CodeInvalidRequest, events.CodeCustomerNotFound, events.CodeProviderNotFound,
		events.CodePaymentMethodNotFound, events.CodeChargeNotFound, events.CodeCheckoutNotFound,
		events.CodeSetupNotFound, events.CodeIdempotencyConflict, events.CodeChargeNotRefundable, events.CodeChargeNotResolvable,
		events.CodeRefundTooLarge, events.CodeRefundLimit, events.CodePersonalData:
		return refusal, true
	}
	return refusal, true
}

// invalid is the refusal of a body or a header. Its message never repeats what was sent: of a queued command it is
// stored for ever.
func invalid(param, format string, args ...any) *events.Error {
	return &events.Error{Code: events.CodeInvalidRequest, Message: fmt.Sprintf(format, args...), Param: param}
}

func notFound(code events.Code, param, message string) *events.Error {
	return &events.Error{Code: code, Message: message, Param: param}
}
