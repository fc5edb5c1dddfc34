package provider

import "time"

// OnResult has f told of each time that a delivery was worked on, and makes retries quick. Call it before Run.
func (n *Normalizer) OnResult(retryFirst time.Duration, f func(result string)) {
	n.retryFirst, n.parkFirst, n.onResult = retryFirst, retryFirst, f
}
