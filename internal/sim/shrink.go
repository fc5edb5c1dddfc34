package sim

import (
	"bytes"
	"slices"
)

// shrinkRounds bounds how often everything is tried again after something else was taken away.
const shrinkRounds = 3

// Shrink takes away from a failing scenario what it fails without: kinds of faults, commands, single faults, those behind
// the last one that matters. It begins at the end, since what is taken away changes what comes after it and nothing before.
// It is greedy, gives the same each time, and a scenario that fails.
func Shrink(sc Scenario) Scenario {
	return shrink(sc, func(try Scenario) bool { return len(NewWorld(try, nil).Run().Problems) > 0 })
}

// shrink is Shrink for what fails says.
func shrink(sc Scenario, fails func(try Scenario) bool) Scenario {
	keep := func(try Scenario) bool {
		if !fails(try) {
			return false
		}
		sc = try
		return true
	}
	for range shrinkRounds {
		before := sc.size()
		for most := range sc.faults() { // the first number that is enough
			try := sc
			if try.MaxFaults = most; most > 0 && keep(try) {
				break
			}
		}
		for i := commandsMost - 1; i >= 0; i-- {
			if try := sc; !slices.Contains(sc.DropCommands, i) {
				try.DropCommands = append(slices.Clone(sc.DropCommands), i)
				keep(try)
			}
		}
		for _, name := range kindNames() {
			if try := sc; !slices.Contains(sc.DropFaults, name) {
				try.DropFaults = append(slices.Clone(sc.DropFaults), name)
				keep(try)
			}
		}
		for n := min(sc.numbered(), 200); n > 0; n-- {
			if try := sc; !slices.Contains(sc.SkipFaults, n) {
				try.SkipFaults = append(slices.Clone(sc.SkipFaults), n)
				keep(try)
			}
		}
		if sc.size() == before {
			break
		}
	}
	sc = sc.tidy()
	if problems := NewWorld(sc, nil).Run().Problems; len(problems) > 0 {
		sc.Problem = problems[0]
	}
	return sc
}

// tidy leaves out of what was taken away what was not there.
func (sc Scenario) tidy() Scenario {
	want := NewWorld(sc, nil).Run()
	same := func(try Scenario) bool {
		got := NewWorld(try, nil).Run()
		return bytes.Equal(got.Log, want.Log) && slices.Equal(got.Problems, want.Problems) && got.Steps == want.Steps
	}
	for _, name := range sc.DropFaults {
		try := sc
		try.DropFaults = without(sc.DropFaults, name)
		if same(try) {
			sc = try
		}
	}
	for _, i := range sc.DropCommands {
		try := sc
		try.DropCommands = without(sc.DropCommands, i)
		if same(try) {
			sc = try
		}
	}
	for _, n := range sc.SkipFaults {
		try := sc
		try.SkipFaults = without(sc.SkipFaults, n)
		if same(try) {
			sc = try
		}
	}
	slices.Sort(sc.DropCommands)
	slices.Sort(sc.SkipFaults)
	return sc
}

func without[T comparable](list []T, one T) []T {
	return slices.DeleteFunc(slices.Clone(list), func(other T) bool { return other == one })
}

// size is how much happens in a scenario: faults and commands.
func (sc Scenario) size() int { return sc.faults() + commandsMost - len(sc.DropCommands) }

// faults counts those that hit, numbered also those that were skipped.
func (sc Scenario) faults() (n int) {
	for _, k := range NewWorld(sc, nil).play().mix.Injected {
		n += k
	}
	return n
}

func (sc Scenario) numbered() int { return NewWorld(sc, nil).play().mix.number }

// play runs a world and gives it back.
func (w *World) play() *World {
	w.Run()
	return w
}
