package projections

import (
	"context"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// bucketSetups has setup id → row.
const bucketSetups = "setups"

func applySetup(f *fold, e eventlog.Entry) error {
	_, _, err := putRow(f, bucketSetups, []byte(e.Event.Subject), e, 0)
	return err
}

// setupGet answers setup.get {setupId}.
func (q *queries) setupGet(_ context.Context, b query) (answer, error) {
	return q.snapshot(b, bucketSetups, "setupId",
		events.Error{Code: events.CodeSetupNotFound, Message: "there is no such setup"})
}
