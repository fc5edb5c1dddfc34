package schema

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// Problem is something that a document has not as its schema says.
type Problem struct {
	Field   string `json:"field"` // "metadata.order", "items.0.amount"; "" = the document itself
	Message string `json:"message"`
}

// Validator checks documents against schemas. It is safe for concurrent use.
type Validator struct {
	mu       sync.Mutex
	compiler *jsonschema.Compiler          // guarded by mu
	compiled map[string]*jsonschema.Schema // by location; guarded by mu
}

// Validator makes a validator, which compiles each schema when it is first asked for. Formats ("date-time", "uri") count.
func (c *Catalog) Validator() (*Validator, error) {
	v := &Validator{compiler: jsonschema.NewCompiler(), compiled: map[string]*jsonschema.Schema{}}
	v.compiler.AssertFormat()
	for file, doc := range c.files {
		if err := v.compiler.AddResource(fileID(file), doc); err != nil {
			return nil, fmt.Errorf("schema %s: %w", file, err)
		}
	}
	return v, nil
}

// Schema is a compiled schema.
type Schema struct{ compiled *jsonschema.Schema }

// Compile prepares a schema for being used often.
func (v *Validator) Compile(n Name) (Schema, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s, ok := v.compiled[n.location()]; ok {
		return Schema{s}, nil
	}
	s, err := v.compiler.Compile(n.location())
	if err != nil {
		return Schema{}, fmt.Errorf("schema %s: %w", n.ID, err)
	}
	v.compiled[n.location()] = s
	return Schema{s}, nil
}

// Validate checks a JSON document. It answers what is wrong, the field first in the alphabet first.
func (v *Validator) Validate(n Name, document []byte) ([]Problem, error) {
	s, err := v.Compile(n)
	if err != nil {
		return nil, err
	}
	var value any
	wrong := decode(document, &value)
	if wrong != nil {
		return []Problem{{Message: "is not one JSON value: " + wrong.Error()}}, nil //nolint:nilerr // it is what was found
	}
	return s.Check(value), nil
}

// Check checks a value as encoding/json decodes it (numbers as [json.Number] or float64).
func (s Schema) Check(value any) []Problem {
	err := s.compiled.Validate(value)
	if err == nil {
		return nil
	}
	wrong, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return []Problem{{Message: err.Error()}}
	}
	var found []Problem
	leaves(wrong, message.NewPrinter(language.English), &found)
	slices.SortFunc(found, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.Field, b.Field), strings.Compare(a.Message, b.Message))
	})
	return slices.Compact(found)
}

// Fault names the field of an object that is not as the schema says: the first in the alphabet, "" for the object itself. ok
// tells that nothing is wrong.
func (s Schema) Fault(object map[string]any) (field string, ok bool) {
	err := s.compiled.Validate(object)
	if err == nil {
		return "", true
	}
	wrong, is := errors.AsType[*jsonschema.ValidationError](err)
	if !is {
		return "", false
	}
	var fields []string
	faults(wrong, &fields)
	return slices.Min(fields), false
}

// faults collects the fields of the object itself that faults are in.
func faults(e *jsonschema.ValidationError, fields *[]string) {
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		*fields = append(*fields, k.Missing...)
	case *kind.AdditionalProperties:
		*fields = append(*fields, k.Properties...)
	default:
		switch {
		case len(e.InstanceLocation) > 0:
			*fields = append(*fields, e.InstanceLocation[0])
		case len(e.Causes) == 0:
			*fields = append(*fields, "")
		}
		for _, cause := range e.Causes {
			faults(cause, fields)
		}
	}
}

// leaves collects the faults that have no further cause: the others only say on which way they were found.
func leaves(e *jsonschema.ValidationError, p *message.Printer, found *[]Problem) {
	if len(e.Causes) > 0 {
		for _, cause := range e.Causes {
			leaves(cause, p, found)
		}
		return
	}
	at := func(more ...string) string {
		return strings.Join(append(slices.Clone(e.InstanceLocation), more...), ".")
	}
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		for _, name := range k.Missing {
			*found = append(*found, Problem{Field: at(name), Message: "is required"})
		}
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			*found = append(*found, Problem{Field: at(name), Message: "is not a field here"})
		}
	default:
		*found = append(*found, Problem{Field: at(), Message: e.ErrorKind.LocalizedString(p)})
	}
}
