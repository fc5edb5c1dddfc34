package provider

import (
	"context"
	"time"

	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// Handle works on one delivery, as Run does.
func (n *Normalizer) Handle(ctx context.Context, m eventlog.Message) eventlog.Result {
	return n.handle(ctx, m)
}

// OnResult has f told of each time that a delivery was worked on, and makes retries quick. Call it before Run.
func (n *Normalizer) OnResult(retryFirst time.Duration, f func(result string)) {
	n.retryFirst, n.parkFirst, n.onResult = retryFirst, retryFirst, f
}
