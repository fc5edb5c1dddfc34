package bench_test

import (
	"testing"
	"time"
)

// BenchmarkFill: what a plausible LOG costs to make, and how large an event is in it.
func BenchmarkFill(b *testing.B) {
	const n = 100_000
	began := time.Now()
	f := fill(b, b.TempDir(), n)
	report(b, n/time.Since(began).Seconds(), "events/s", float64(f.Bytes)/n, "bytes/event")
}
