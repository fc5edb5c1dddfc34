// Package schematest holds what the program says against its schemas, in tests: events, answers and refusals. It takes the
// schemas as closed: an app must skip a field that it does not know, but here one that no schema has is a fault.
package schematest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/schema"
)

// Checker checks documents against closed schemas. It is safe for concurrent use.
type Checker struct {
	mu       sync.Mutex
	catalog  *schema.Catalog
	compiled map[string]*jsonschema.Schema // by id; guarded by mu
}

// shared compiles each schema once for all tests of a package.
var shared = sync.OnceValues(func() (*Checker, error) { //nolint:gochecknoglobals // made once, and only remembers
	catalog, err := schema.Open()
	return &Checker{catalog: catalog, compiled: map[string]*jsonschema.Schema{}}, err
})

// New gives the checker.
func New(t testing.TB) *Checker {
	t.Helper()
	c, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Event answers why an event is not as the schema of its type says; nil if it is.
func (c *Checker) Event(raw []byte) error {
	var e events.Event
	if err := json.Unmarshal(raw, &e); err != nil {
		return fmt.Errorf("no event: %w", err)
	}
	return c.Check(schema.KindEvent, string(e.Type), raw)
}

// Answer answers why what a command or a query was answered with, be it a refusal, is not as its schema says; nil if it is.
func (c *Checker) Answer(verb string, raw []byte) error {
	if bytes.HasPrefix(raw, []byte(`{"error":`)) {
		verb = "error"
	}
	return c.Check(schema.KindAnswer, verb, raw)
}

// Check answers why a document is not as a schema says; nil if it is.
func (c *Checker) Check(kind schema.Kind, name string, raw []byte) error {
	s, err := c.compile(kind, name)
	if err != nil {
		return err
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("%s %s: %w", kind, name, err)
	}
	if err := s.Validate(v); err != nil {
		return fmt.Errorf("%s %s: %w in %s", kind, name, err, raw)
	}
	return nil
}

func (c *Checker) compile(kind schema.Kind, name string) (*jsonschema.Schema, error) {
	n, err := c.catalog.Find(kind, name)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.compiled[n.ID]; ok {
		return s, nil
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource(n.ID, closed(c.catalog.Document(n))); err != nil {
		return nil, err
	}
	s, err := compiler.Compile(n.ID)
	if err != nil {
		return nil, err
	}
	c.compiled[n.ID] = s
	return s, nil
}

// closed is a schema in which each object has the fields that are listed and no others.
func closed(v any) any {
	switch v := v.(type) {
	case []any:
		list := make([]any, len(v))
		for i, one := range v {
			list[i] = closed(one)
		}
		return list
	case map[string]any:
		m := make(map[string]any, len(v)+1)
		for key, one := range v {
			m[key] = closed(one)
		}
		if m["type"] == "object" && m["properties"] != nil && m["additionalProperties"] == nil {
			m["additionalProperties"] = false
		}
		return m
	}
	return v
}
