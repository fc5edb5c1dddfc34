package schema

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

//go:embed files/*.json
var files embed.FS

// ErrUnknown is returned for a name that no schema has.
var ErrUnknown = errors.New("no such schema")

// errNoComponents says that the program was built with a broken document.
var errNoComponents = errors.New("it has no components")

// Kind says what a schema is of.
type Kind string

// The kinds, in the order in which they are listed.
const (
	KindCommand  Kind = "command"  // the body of a command
	KindQuery    Kind = "query"    // the body of a query
	KindAnswer   Kind = "answer"   // the body of what a command or a query is answered with
	KindEvent    Kind = "event"    // a whole event of one type
	KindSnapshot Kind = "snapshot" // an entity as events carry it
	KindData     Kind = "data"     // the data of an entity's events: what their "dataschema" names
)

// Name names a schema.
type Name struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"` // a verb ("charge.create"), a type ("charge.succeeded") or an entity ("charge")
	ID   string `json:"id"`   // for ever: "urn:paykit:command:charge.create:1"

	file       string // the file that has it, without ".json"
	definition string // its name there
}

// location is where a compiler finds the definition.
func (n Name) location() string { return fileID(n.file) + "#/$defs/" + n.definition }

func fileID(file string) string { return "urn:paykit:" + file + ":1" }

// Catalog is every schema there is. It is not changed once made, and safe for concurrent use.
type Catalog struct {
	files map[string]map[string]any // parsed, by name without ".json"
	names []Name
}

// Open reads the embedded files. It fails only for a program that was built with broken ones.
func Open() (*Catalog, error) {
	c := &Catalog{files: map[string]map[string]any{}}
	entries, err := files.ReadDir("files")
	if err != nil {
		return nil, fmt.Errorf("schemas: %w", err)
	}
	for _, e := range entries {
		b, err := files.ReadFile("files/" + e.Name())
		if err != nil {
			return nil, fmt.Errorf("schemas: %w", err)
		}
		var doc map[string]any
		if err := decode(b, &doc); err != nil {
			return nil, fmt.Errorf("schemas: %s: %w", e.Name(), err)
		}
		file := strings.TrimSuffix(e.Name(), path.Ext(e.Name()))
		c.files[file] = doc
		c.names = append(c.names, namesIn(file, doc)...)
	}
	slices.SortFunc(c.names, func(a, b Name) int {
		if by := slices.Index(Kinds(), a.Kind) - slices.Index(Kinds(), b.Kind); by != 0 {
			return by
		}
		return strings.Compare(a.Name, b.Name)
	})
	return c, nil
}

// Kinds lists the kinds in the order in which a name is looked for.
func Kinds() []Kind {
	return []Kind{KindCommand, KindQuery, KindAnswer, KindEvent, KindSnapshot, KindData}
}

// namesIn lists what a file defines under a name of the contract.
func namesIn(file string, doc map[string]any) []Name {
	var names []Name
	defs, _ := doc["$defs"].(map[string]any)
	for definition := range defs {
		kind, name, dotted := strings.Cut(definition, ".")
		n := Name{Kind: Kind(kind), Name: name, file: file, definition: definition}
		switch {
		case dotted:
			n.ID = "urn:paykit:" + kind + ":" + name + ":1"
		case definition == "data":
			n.Name, n.ID = file, fileID(file)
		case definition == camel(file) && defs["data"] != nil:
			n.Kind, n.Name = KindSnapshot, file
			n.ID = "urn:paykit:snapshot:" + file + ":1"
		default:
			continue
		}
		names = append(names, n)
	}
	return names
}

// camel is an entity's name in JSON: "payment_method" is "paymentMethod".
func camel(entity string) string {
	words := strings.Split(entity, "_")
	for i, w := range words[1:] {
		words[i+1] = strings.ToUpper(w[:1]) + w[1:]
	}
	return strings.Join(words, "")
}

// Names lists all schemas by kind and name.
func (c *Catalog) Names() []Name { return slices.Clone(c.names) }

// Find answers the schema of a kind and a name. A kind of "" finds a name that only one kind has, a command before its
// answer, a snapshot before the data that it is in, and an id. It returns [ErrUnknown].
func (c *Catalog) Find(kind Kind, name string) (Name, error) {
	for _, n := range c.names { // in the order of Kinds
		if n.Name == name && (kind == "" || kind == n.Kind) || kind == "" && n.ID == name {
			return n, nil
		}
	}
	return Name{}, fmt.Errorf("%w: %s", ErrUnknown, strings.TrimSpace(string(kind)+" "+name))
}

// Document is a schema that stands by itself: what it refers to is in it.
func (c *Catalog) Document(n Name) map[string]any {
	defs, _ := c.files[n.file]["$defs"].(map[string]any)
	used := map[string]any{}
	collect(defs[n.definition], defs, used)
	doc := map[string]any{"$schema": c.files[n.file]["$schema"], "$id": n.ID}
	if own, ok := defs[n.definition].(map[string]any); ok {
		maps.Copy(doc, own)
	}
	if len(used) > 0 {
		doc["$defs"] = used
	}
	return doc
}

// collect adds the definitions that a schema refers to, and those that they refer to.
func collect(v any, defs, used map[string]any) {
	switch v := v.(type) {
	case []any:
		for _, one := range v {
			collect(one, defs, used)
		}
	case map[string]any:
		for key, one := range v {
			ref, isText := one.(string)
			name, local := strings.CutPrefix(ref, "#/$defs/")
			if key != "$ref" || !isText || !local {
				collect(one, defs, used)
				continue
			}
			if _, known := used[name]; !known {
				used[name] = defs[name]
				collect(defs[name], defs, used)
			}
		}
	}
}

// Description is what a schema says that it is of; it may say nothing.
func (c *Catalog) Description(n Name) string {
	defs, _ := c.files[n.file]["$defs"].(map[string]any)
	own, _ := defs[n.definition].(map[string]any)
	text, _ := own["description"].(string)
	return text
}

// decode reads JSON and keeps the text of its numbers.
func decode(b []byte, into any) error {
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return errors.New("there is more than one JSON value")
	}
	return nil
}
