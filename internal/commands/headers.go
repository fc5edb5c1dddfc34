package commands

import (
	"time"

	"github.com/nats-io/nats.go"

	"github.com/paykit-go/paykit/internal/events"
)

// The headers of requests and answers. NATS compares header names with their case.
const (
	HeaderIdempotencyKey = "Paykit-Idempotency-Key"
	HeaderWait           = "Paykit-Wait"
	HeaderSequence       = "Paykit-Sequence"
)

const maxKeyBytes = 255

// checkKey says what is wrong with an idempotency key; "" is no key.
func checkKey(key string) *events.Error {
	if len(key) > maxKeyBytes {
		return invalid(HeaderIdempotencyKey, "must be at most %d bytes long", maxKeyBytes)
	}
	return nil
}

// keyOf reads the idempotency key of a message, "" if it has none.
func keyOf(header nats.Header) (string, *events.Error) {
	values, given := header[HeaderIdempotencyKey]
	switch {
	case !given || len(values) == 0:
		return "", nil
	case len(values) > 1:
		return "", invalid(HeaderIdempotencyKey, "is there more than once")
	case values[0] == "":
		return "", invalid(HeaderIdempotencyKey, "must be 1 to %d bytes long", maxKeyBytes)
	}
	return values[0], checkKey(values[0])
}

// waitOf reads how long a request waits for its outcome.
func waitOf(header nats.Header) (time.Duration, *events.Error) {
	values, given := header[HeaderWait]
	if !given || len(values) == 0 {
		return DefaultWait, nil
	}
	wait, err := time.ParseDuration(values[0])
	if err != nil || wait < 0 || len(values) > 1 {
		return 0, invalid(HeaderWait, `must be a duration such as "4s" or "500ms"; "0s" does not wait`)
	}
	return min(wait, MaxWait), nil
}

// metaOf reads what comes with a request beside its body.
func metaOf(header nats.Header) (Meta, *events.Error) {
	key, refusal := keyOf(header)
	if refusal != nil {
		return Meta{}, refusal
	}
	wait, refusal := waitOf(header)
	if refusal != nil {
		return Meta{}, refusal
	}
	return Meta{IdempotencyKey: key, Wait: wait}, nil
}
