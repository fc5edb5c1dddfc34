package sim

import (
	"encoding/json"
	"testing"
)

// A scenario that fails is shrunk to what it needs to fail, the same each time: here by a predicate that holds as long as a
// worker's write loses its answer, which takes one fault and next to no command.
func TestShrink(t *testing.T) {
	t.Parallel()
	fails := func(try Scenario) bool { return NewWorld(try, nil).play().mix.Injected[natsAnswer] > 0 }
	shrunk := 0
	for seed := uint64(0); shrunk < 3; seed++ {
		sc := Scenario{Seed: seed}
		if !fails(sc) || sc.faults() < 15 {
			continue
		}
		shrunk++
		small, again := shrink(sc, fails), shrink(sc, fails)
		a, errA := json.Marshal(small)
		b, errB := json.Marshal(again)
		if errA != nil || errB != nil || string(a) != string(b) {
			t.Errorf("seed %d is shrunk to %s, then to %s", seed, a, b)
		}
		if !fails(small) {
			t.Errorf("seed %d: %s does not fail any more", seed, a)
		}
		if n := small.faults(); n != 1 {
			t.Errorf("seed %d: %d faults of %d are left: %s", seed, n, sc.faults(), a)
		}
		if len(small.DropCommands) == 0 {
			t.Errorf("seed %d: no command was taken away: %s", seed, a)
		}
		t.Logf("seed %d: %d faults, then %d: %s", seed, sc.faults(), small.faults(), a)
	}
}
