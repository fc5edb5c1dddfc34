package main

import (
	"testing"

	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// A number names the letter with that sequence, whatever ids others have.
func TestLettersAreFoundBySequenceFirst(t *testing.T) {
	t.Parallel()
	list := []eventlog.DeadEntry{
		{Sequence: 16, DeadLetter: eventlog.DeadLetter{ID: "16b"}},
		{Sequence: 17, DeadLetter: eventlog.DeadLetter{ID: "evt_1"}},
		{Sequence: 18, DeadLetter: eventlog.DeadLetter{ID: "17"}},
		{Sequence: 19, DeadLetter: eventlog.DeadLetter{ID: "40"}},
		{Sequence: 20, DeadLetter: eventlog.DeadLetter{ID: "40"}, Decision: &eventlog.Decision{}},
	}
	for name, want := range map[string]uint64{"17": 17, "evt_1": 17, "40": 19, "16b": 16} {
		if got, err := find(list, name); err != nil || got.Sequence != want {
			t.Errorf("%s: %d, %v; want %d", name, got.Sequence, err, want)
		}
	}
	if _, err := find(list, "77"); err == nil {
		t.Error("a letter that is not there was found")
	}
}
