package provider

import (
	"math/rand/v2"
	"time"
)

// spread makes delays that differ, so that what failed together does not come back together.
type spread struct {
	random func(n int64) int64 // 0 to below n
}

// spreadBy is a spread with this source of randomness; nil is the real one.
func spreadBy(random func(n int64) int64) spread {
	if random == nil {
		random = rand.Int64N
	}
	return spread{random: random}
}

// backoff grows from first, doubling with each attempt (from 1) up to longest, with jitter.
func (s spread) backoff(first time.Duration, attempt int, longest time.Duration) time.Duration {
	d := first
	for i := 1; i < attempt && d < longest; i++ {
		d *= 2
	}
	return s.jitter(min(d, longest))
}

// jitter is d, up to a quarter more.
func (s spread) jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d + time.Duration(s.random(int64(d)/4+1))
}
