package sim_test

import (
	"os"
	"strings"
	"testing"

	"github.com/paykit-go/paykit/internal/plant"
	"github.com/paykit-go/paykit/internal/sim"
)

// plantedSeeds is how many seeds a planted bug may survive.
const plantedSeeds = 1500

// TestPlanted proves the judge: built with a bug planted against an invariant (make planted), some seed must show that very
// invariant broken.
func TestPlanted(t *testing.T) {
	want := map[int]string{
		1: "charged twice", 2: "I2: ", 3: "charge.succeeded again", 4: "which took no money", 5: "I5: ", 6: "was given back",
		7: "status went back", 8: "I8: ", 9: "I9: ", 10: "I10: ", 11: "I11: ",
	}[plant.Bug]
	if plant.Bug == 0 {
		if os.Getenv("PLANT_BUG") != "" {
			t.Error("PLANT_BUG does nothing: the build lacks the tag \"planted\"")
		}
		return // nothing is planted: TestSeeds is the test of that
	}
	check := newViews(t)
	for seed := range uint64(plantedSeeds) {
		w := sim.NewWorld(sim.Scenario{Seed: seed}, nil)
		problems := w.Run().Problems
		if plant.Bug == 5 {
			problems = append(problems, check(w)...)
		}
		for _, p := range problems {
			if strings.Contains(p, want) {
				t.Logf("I%d: caught by seed %d: %s", plant.Bug, seed, p)
				return
			}
		}
	}
	t.Errorf("I%d: the planted bug survives %d seeds", plant.Bug, plantedSeeds)
}
