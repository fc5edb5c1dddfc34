package sim

import (
	"slices"
)

// Shrink takes away from a failing scenario what it fails without: kinds of faults, commands, the faults behind the last
// one that matters, single faults. It is greedy and always ends with the same, and with a scenario that fails.
func Shrink(sc Scenario) Scenario {
	fails := func(try Scenario) bool { return len(NewWorld(try, nil).Run().Problems) > 0 }
	names := kindNames()
	for _, name := range names {
		if try := sc; !slices.Contains(sc.DropFaults, name) {
			try.DropFaults = append(slices.Clone(sc.DropFaults), name)
			if fails(try) {
				sc = try
			}
		}
	}
	for i := range commandsMost {
		if try := sc; !slices.Contains(sc.DropCommands, i) {
			try.DropCommands = append(slices.Clone(sc.DropCommands), i)
			if fails(try) {
				sc = try
			}
		}
	}
	hits := 0
	for _, n := range NewWorld(sc, nil).play().mix.Injected {
		hits += n
	}
	for most := 1; most < hits; most++ { // the first number that is enough
		try := sc
		try.MaxFaults = most
		if fails(try) {
			sc, hits = try, most
			break
		}
	}
	for n := 1; n < hits && n <= 200; n++ {
		try := sc
		try.SkipFaults = append(slices.Clone(sc.SkipFaults), n)
		if fails(try) {
			sc = try
		}
	}
	if problems := NewWorld(sc, nil).Run().Problems; len(problems) > 0 {
		sc.Problem = problems[0]
	}
	return sc
}

// play runs a world and gives it back.
func (w *World) play() *World {
	w.Run()
	return w
}
