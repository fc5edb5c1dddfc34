package events_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/paykit-go/paykit/internal/events"
)

func errorIs(err, target error) bool { return errors.Is(err, target) }

// NATS takes a consumer filter of an event that does not exist, and it matches nothing: the tables are held against
// the registry instead.
func TestTablesNameKnownEvents(t *testing.T) {
	t.Parallel()
	for name, table := range map[string][]events.Type{"requests": events.RequestTypes(), "settling": events.SettlingTypes()} {
		for _, typ := range table {
			if !typ.Known() {
				t.Errorf("%s: %s is no event", name, typ)
			}
		}
		if len(slices.Compact(slices.Sorted(slices.Values(table)))) != len(table) {
			t.Errorf("%s: an event is listed twice", name)
		}
	}
	for _, typ := range events.Types() {
		if len(typ.Name()) > len("_requested") && typ.Name()[len(typ.Name())-len("requested"):] == "requested" && !slices.Contains(events.RequestTypes(), typ) {
			t.Errorf("%s is a request that no worker hears", typ)
		}
		got, err := events.ParseType(string(typ.Entity()), typ.Name())
		if err != nil || got != typ {
			t.Errorf("ParseType of %s: %s, %v", typ, got, err)
		}
	}
	if _, err := events.ParseType("charge", "exploded"); !errors.Is(err, events.ErrUnknownType) {
		t.Errorf("got %v", err)
	}
}
