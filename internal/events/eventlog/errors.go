package eventlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The kinds of failure that a caller acts on; test with [errors.Is].
var (
	// ErrNotFound says that there is no such message: the entity, link, profile or revision does not exist.
	ErrNotFound = errors.New("not found")
	// ErrConflict says that the guard was lost: somebody else appended first, nothing was stored.
	ErrConflict = errors.New("somebody else appended first")
	// ErrStorageFull says that the server has no room: nothing was stored, it may be tried again later.
	ErrStorageFull = errors.New("the event store is full")
	// ErrUnavailable says that NATS or JetStream can't be reached. A write that failed with it was not stored.
	ErrUnavailable = errors.New("the event store can't be reached")
	// ErrNotProvisioned says that streams or consumers are missing. "paykit provision" makes them.
	ErrNotProvisioned = errors.New(`the streams are not there; run "paykit provision" first`)
	// ErrRecreated says that the LOG is another one than it was: its stream was deleted and made anew.
	ErrRecreated = errors.New("the event log was made anew since it was opened")
	// ErrTooLarge says that an event is over 256 KiB, which is a bug of whoever made it.
	ErrTooLarge = errors.New("the event is over 256 KiB")
)

// UnknownError says that a write was sent and that it is not known whether it was stored. It counts as unavailable
// ([IsUnavailable]) but is not [ErrUnavailable], which promises that nothing was stored.
type UnknownError struct{ Err error }

func (e *UnknownError) Error() string { return "not known whether it was stored: " + e.Err.Error() }

// Unwrap gives what cut the answer off.
func (e *UnknownError) Unwrap() error { return e.Err }

// WeakenedError says that a live setting of a stream or consumer breaks a promise.
type WeakenedError struct {
	Stream  string // "PAYKIT_LOG", "PAYKIT_LOG consumer requests"
	Setting string // as JetStream's JSON names it: "deny_delete"
	Want    string
	Got     string
}

func (e *WeakenedError) Error() string {
	return fmt.Sprintf("%s: %s is %s, want %s", e.Stream, e.Setting, e.Got, e.Want)
}

// VersionError says that the NATS server is too old.
type VersionError struct{ Found, Needed string }

func (e *VersionError) Error() string {
	return fmt.Sprintf("the NATS server is version %s, %s or newer is needed", e.Found, e.Needed)
}

// GapError says that an event that should be in the LOG is not: nothing is ever deleted there, so this is damage, or
// the reader has read another log. Got is the sequence that came instead of Want; if the log ends before Want, it is
// the sequence that the log's next event will have.
type GapError struct{ Want, Got uint64 }

func (e *GapError) Error() string {
	return fmt.Sprintf("the event log has a gap: want sequence %d, got %d", e.Want, e.Got)
}

// UnreadableError says that what is stored at a sequence of the LOG is not an event that this version can read. It
// unwraps to the error of [events.Decode].
type UnreadableError struct {
	Sequence uint64
	Subject  string
	Raw      []byte
	Err      error
}

func (e *UnreadableError) Error() string {
	return fmt.Sprintf("event %d (%s): %v", e.Sequence, e.Subject, e.Err)
}

// Unwrap gives what is wrong with it.
func (e *UnreadableError) Unwrap() error { return e.Err }

// LinkTakenError says that the provider's object already leads somewhere else.
type LinkTakenError struct{ Existing Link }

func (e *LinkTakenError) Error() string {
	return fmt.Sprintf("the provider's object already belongs to %s %s", e.Existing.Entity, e.Existing.ID)
}

// IsUnavailable tells whether err is about storage or connection and not about what was asked: trying the same again
// later may go well.
func IsUnavailable(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrStorageFull) || isUnknown(err)
}

func isUnknown(err error) bool {
	_, ok := errors.AsType[*UnknownError](err)
	return ok
}

// The server's error codes that mean something here. A lost guard has two, the second on replicated streams.
// Source: https://github.com/nats-io/nats-server/blob/main/server/errors.json
const (
	codeWrongLastSequence         = 10071
	codeWrongLastSequenceConstant = 10164
	codeStoreFailed               = 10077 // max_bytes reached, disk full
	codeInsufficientResources     = 10023
	codeStorageResourcesExceeded  = 10047
	codeMessageExceedsMaximum     = 10054
	codeMessageNotFound           = 10037
	codeStreamNotFound            = 10059
	codeRestoreNameInUse          = 10130
	codeRestoreFailed             = 10062
)

// writeError says what a failed publish means.
func writeError(err error) error {
	if err == nil {
		return nil
	}
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		switch int(api.ErrorCode) {
		case codeWrongLastSequence, codeWrongLastSequenceConstant:
			return ErrConflict
		case codeStoreFailed, codeInsufficientResources, codeStorageResourcesExceeded:
			return fmt.Errorf("%w: %w", ErrStorageFull, err)
		case codeMessageExceedsMaximum:
			return fmt.Errorf("%w: %w", ErrTooLarge, err)
		}
		if api.Code < 500 {
			return err // refused for what it is
		}
		return &UnknownError{Err: err} // a server in trouble may have stored it all the same
	}
	switch {
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders),
		errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrConnectionDraining):
		// It left nobody's hands. A connection that was closed is not among these: it may be the answer that was lost with it.
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return &UnknownError{Err: err}
}

// readError says what a failed read or an administrative request means.
func readError(err error) error {
	if err == nil {
		return nil
	}
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		switch {
		case api.ErrorCode == codeMessageNotFound:
			return ErrNotFound
		case api.ErrorCode == codeStreamNotFound:
			return fmt.Errorf("%w: %w", ErrNotProvisioned, err)
		case api.ErrorCode == codeInsufficientResources, api.ErrorCode == codeStorageResourcesExceeded:
			return fmt.Errorf("%w: %w", ErrStorageFull, err)
		case api.Code >= 500:
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		return err
	}
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout), errors.Is(err, nats.ErrNoResponders),
		errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrDisconnected), errors.Is(err, io.EOF),
		errors.Is(err, nats.ErrConnectionReconnecting), errors.Is(err, jetstream.ErrNoStreamResponse),
		errors.Is(err, nats.ErrConnectionDraining):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// checkVersion refuses a server older than 2.12, the first with guards on wildcard subjects in atomic batches and with
// the pinned consumers that the worker stands by on.
func checkVersion(version string) error {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) >= 2 {
		major, errMajor := strconv.Atoi(parts[0])
		minor, errMinor := strconv.Atoi(parts[1])
		if errMajor == nil && errMinor == nil && (major > 2 || major == 2 && minor >= 12) {
			return nil
		}
	}
	return &VersionError{Found: version, Needed: "2.12"}
}

// Panicked turns what a handler panicked with into an error that quotes nothing of what it worked on: the value of a panic
// may be a part of a message.
func Panicked(value any) error {
	if err, ok := value.(runtime.Error); ok {
		return fmt.Errorf("panic: %w", err)
	}
	return fmt.Errorf("panic: %T", value)
}
