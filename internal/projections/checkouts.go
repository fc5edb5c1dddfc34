package projections

import (
	"context"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// bucketCheckouts has checkout id → row.
const bucketCheckouts = "checkouts"

func applyCheckout(f *fold, e eventlog.Entry) error {
	_, _, err := putRow(f, bucketCheckouts, []byte(e.Event.Subject), e, 0)
	return err
}

// checkoutGet answers checkout.get {checkoutId}.
func (q *queries) checkoutGet(_ context.Context, b query) (answer, error) {
	return q.snapshot(b, bucketCheckouts, "checkoutId",
		events.Error{Code: events.CodeCheckoutNotFound, Message: "there is no such checkout"})
}
