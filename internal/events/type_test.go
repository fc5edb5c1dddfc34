package events_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
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
	people := []events.Type{events.ChargeReviewRequested} // asked of a person, not of the worker
	for _, typ := range events.Types() {
		if slices.Contains(people, typ) {
			if slices.Contains(events.RequestTypes(), typ) {
				t.Errorf("%s is no request to the worker", typ)
			}
			continue
		}
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

// The registry names every constant of type Type, and knows no other; so do the entities.
func TestRegistryIsComplete(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "type.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	declared := map[string][]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		typ, ok := spec.Type.(*ast.Ident)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value) //nolint:forcetypeassert // a constant's text
		if err != nil {
			t.Fatal(err)
		}
		declared[typ.Name] = append(declared[typ.Name], text)
		return true
	})
	var types, entities []string
	for _, typ := range events.Types() {
		types = append(types, string(typ))
		if !typ.Known() {
			t.Errorf("%s is not known", typ)
		}
	}
	for _, e := range events.Entities() {
		entities = append(entities, string(e))
	}
	if !slices.Equal(types, declared["Type"]) {
		t.Errorf("the registry lists\n%v\nand declared are\n%v", types, declared["Type"])
	}
	if !slices.Equal(entities, declared["Entity"]) {
		t.Errorf("the registry lists %v and declared are %v", entities, declared["Entity"])
	}
	for _, typ := range events.Types() {
		if !slices.Contains(events.Entities(), typ.Entity()) {
			t.Errorf("%s is of no entity", typ)
		}
	}
	for _, unknown := range []events.Type{"", ".", "charge", "charge.", "charge.Succeeded", "charge.succeeded.", "setup.succeeded"} {
		if unknown.Known() {
			t.Errorf("%q is known", unknown)
		}
	}
}
