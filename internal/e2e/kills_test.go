//go:build crashpoints

package e2e_test

import (
	"context"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// All processes, the broker included, are killed at random under load, 10 to 500 ms one after the other, for 20 s or
// SOAK_TIME. Every half minute all is to be settled.
func TestKillsAtRandom(t *testing.T) {
	t.Parallel()
	lasts := soakTime(t, 20*time.Second)
	s := newSystem(t)
	s.quicken()
	s.deliveries(`{"copies":2,"reorder":true,"window":"100ms"}`)
	random := killRandom(t)
	kills, slowest := 0, time.Duration(0)
	for end, round := time.Now().Add(lasts), 1; time.Now().Before(end) && !t.Failed(); round++ {
		n, recovery := s.killFor(random, min(time.Until(end), 30*time.Second))
		kills += n
		slowest = max(slowest, recovery)
	}
	t.Logf("%d kills in %s, slowest recovery %s", kills, lasts, slowest.Round(100*time.Millisecond))
}

// soakTime is SOAK_TIME, or so long if that is not set.
func soakTime(t *testing.T, otherwise time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv("SOAK_TIME")
	if text == "" {
		return otherwise
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("SOAK_TIME: %v", err)
	}
	return d
}

// killFor kills processes for so long, and says how many, and how long it took afterwards until all was settled.
func (s *system) killFor(random *rand.Rand, lasts time.Duration) (kills int, recovery time.Duration) {
	s.t.Helper()
	l := s.newLoad("random_" + time.Now().UTC().Format("150405"))
	ctx, cancel := context.WithTimeout(s.t.Context(), lasts+2*crashBound)
	defer cancel()
	done, told := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(told)
		l.run(ctx, 3, done)
	}()
	for end := time.Now().Add(lasts); time.Now().Before(end); kills++ {
		<-time.After(time.Duration(10+random.IntN(490)) * time.Millisecond)
		s.killAndRestart(random.IntN(4))
	}
	at := time.Now()
	close(done)
	<-told
	l.settle(ctx)
	return kills, time.Since(at)
}
