package schema_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/invopop/jsonschema"

	"github.com/paykit-go/paykit"
	"github.com/paykit-go/paykit/internal/commands"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/projections"
)

var write = flag.Bool("write", false, "write the generated files") //nolint:gochecknoglobals // a test's flag

const module = "github.com/paykit-go/paykit"

// generator makes the documents of the contract out of the Go types.
type generator struct {
	t         testing.TB
	reflector *jsonschema.Reflector
	words     map[string][]any // by named string type: its constants
	files     map[string]*jsonschema.Schema
}

func newGenerator(t testing.TB) *generator {
	t.Helper()
	g := &generator{t: t, words: constants(t, "../events"), files: map[string]*jsonschema.Schema{}}
	g.reflector = &jsonschema.Reflector{Anonymous: true, AllowAdditionalProperties: true, Mapper: g.enum, Namer: definitionName}
	for _, path := range []string{"../events", "../../services.go", "../../paykit.go", "bodies_test.go"} {
		if err := g.reflector.AddGoComments(module+"/internal/schema", path); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range g.reflector.CommentMap {
		g.reflector.CommentMap[strings.Replace(name, "/internal/schema.", "/internal/schema_test.", 1)] = plainWords(text)
	}
	return g
}

// plainWords takes Go's own marks out of a comment.
func plainWords(text string) string {
	text = regexp.MustCompile(`\[\*?([A-Za-z.]+)\]`).ReplaceAllString(text, "$1")
	return strings.Join(strings.Fields(text), " ")
}

// definitionName is the name of a type's definition: "paymentMethod" for a snapshot, "listedPaymentMethod" for the client's
// type of a list.
func definitionName(typ reflect.Type) string {
	if typ.Name() == "" {
		return ""
	}
	name := []rune(typ.Name())
	name[0] = unicode.ToLower(name[0])
	if typ == reflect.TypeFor[paykit.PaymentMethod]() {
		return "listedPaymentMethod"
	}
	return string(name)
}

// constants reads the constants of each named string type out of a package's source, so that a new one is not forgotten.
func constants(t testing.TB, dir string) map[string][]any {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	words := map[string][]any{}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			typ, named := spec.Type.(*ast.Ident)
			value, literal := spec.Values[0].(*ast.BasicLit)
			if !named || !literal || value.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(value.Value)
			if err != nil {
				t.Fatal(err)
			}
			words[typ.Name] = append(words[typ.Name], text)
			return true
		})
	}
	return words
}

// enum is what a named string type may be.
func (g *generator) enum(typ reflect.Type) *jsonschema.Schema {
	if typ.Kind() != reflect.String || !strings.HasPrefix(typ.PkgPath(), module) {
		return nil
	}
	words := g.words[typ.Name()]
	if typ == reflect.TypeFor[events.Type]() {
		words = nil
		for _, t := range events.Types() {
			words = append(words, t)
		}
	}
	if len(words) == 0 {
		g.t.Fatalf("%s has no constants", typ)
	}
	return &jsonschema.Schema{Type: "string", Enum: words}
}

// define puts the definitions of a type into a file, and answers a reference to it.
func (g *generator) define(file string, v any) *jsonschema.Schema {
	typ := reflect.TypeOf(v)
	s := g.reflector.ReflectFromType(typ)
	into := g.file(file)
	for name, def := range s.Definitions {
		if _, there := into.Definitions[name]; there {
			continue
		}
		def.Title = name
		ruled(g.t, name, def)
		into.Definitions[name] = def
	}
	return ref(definitionName(typ))
}

// body is the body of a request: no other fields, and null for whatever may be left out.
func (g *generator) body(file, name, title string, v any) *jsonschema.Schema {
	s := g.reflector.ReflectFromType(reflect.TypeOf(v))
	def := s.Definitions[definitionName(reflect.TypeOf(v))]
	def.AdditionalProperties = jsonschema.FalseSchema
	def.Title, def.Description = title, ""
	for p := def.Properties.Oldest(); p != nil; p = p.Next() {
		bodyRule(name, p.Key, p.Value)
		if !slices.Contains(def.Required, p.Key) {
			nullable(p.Value)
		}
	}
	g.file(file).Definitions[name] = def
	return def
}

// nullable lets a schema of one type be null as well.
func nullable(s *jsonschema.Schema) {
	if s.Type == "" {
		return
	}
	s.Extras = map[string]any{"type": []string{s.Type, "null"}}
	s.Type = ""
	if s.Enum != nil {
		s.Enum = append(slices.Clone(s.Enum), nil)
	}
}

func (g *generator) file(name string) *jsonschema.Schema {
	if g.files[name] == nil {
		g.files[name] = &jsonschema.Schema{
			Version: jsonschema.Version, ID: jsonschema.ID("urn:paykit:" + name + ":1"), Definitions: jsonschema.Definitions{},
		}
	}
	return g.files[name]
}

func ref(name string) *jsonschema.Schema { return &jsonschema.Schema{Ref: "#/$defs/" + name} }

func object(title string, required []string, properties ...any) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "object", Title: title, Required: required, Properties: jsonschema.NewProperties()}
	for i := 0; i+1 < len(properties); i += 2 {
		s.Properties.Set(properties[i].(string), properties[i+1].(*jsonschema.Schema)) //nolint:forcetypeassert // our own list
	}
	return s
}

// narrowed says more of the properties of an object that another schema describes.
func narrowed(properties ...any) *jsonschema.Schema {
	s := object("", nil, properties...)
	s.Type = ""
	return s
}

// snapshots are the entities' own types.
func snapshots() map[events.Entity]any {
	return map[events.Entity]any{
		events.EntityCustomer: events.Customer{}, events.EntityProviderAccount: events.ProviderAccount{},
		events.EntityCheckout: events.Checkout{}, events.EntitySetup: events.Setup{},
		events.EntityPaymentMethod: events.PaymentMethod{}, events.EntityCharge: events.Charge{}, events.EntityCommand: events.Command{},
	}
}

// beside are the fields of an event's data beside the customer and the snapshot, and the types that always have them.
func beside() map[string][]events.Type {
	return map[string][]events.Type{
		"changed":      {events.CustomerCreated, events.CustomerUpdated},
		"refund":       {events.ChargeRefundRequested, events.ChargeRefunded, events.ChargeRefundFailed},
		"dispute":      {events.ChargeDisputed, events.ChargeDisputeClosed},
		"fraudWarning": {events.ChargeFraudWarned},
	}
}

// statusAfter is the snapshot's status after an event that sets it, which is then named after it; "" for the others.
func (g *generator) statusAfter(typ events.Type) string {
	statuses := map[events.Entity][]any{
		events.EntityProviderAccount: {events.AccountLinked, events.AccountUnlinked},
		events.EntityCheckout:        g.words["SessionState"], events.EntitySetup: g.words["SessionState"],
		events.EntityCharge: g.words["ChargeStatus"],
	}
	if slices.Contains(statuses[typ.Entity()], any(typ.Name())) {
		return typ.Name()
	}
	return ""
}

func (g *generator) entities() {
	says := sayings(g.t)
	for _, entity := range events.Entities() {
		file := string(entity)
		typ := reflect.TypeOf(snapshots()[entity])
		g.define(file, snapshots()[entity])
		snapshot := definitionName(typ)
		var envelope events.Event
		g.envelope(file, envelope)
		data := g.data(file, entity, snapshot)
		g.file(file).Definitions["data"] = data
		g.file(file).Ref = "#/$defs/data"
		g.file(file).Title = "data of the events of a " + strings.ReplaceAll(file, "_", " ")
		for _, t := range events.Types() {
			if t.Entity() != entity {
				continue
			}
			g.file(file).Definitions["event."+string(t)] = event(t, snapshot, g.statusAfter(t), says[t])
		}
	}
}

// data is what the events of an entity carry.
func (g *generator) data(file string, entity events.Entity, snapshot string) *jsonschema.Schema {
	if entity == events.EntityCustomer {
		changed := &jsonschema.Schema{
			Type: "array", UniqueItems: true, Items: &jsonschema.Schema{Type: "string", Enum: []any{"email", "metadata", "name"}},
			Description: "Which fields of the profile changed, never their values.",
		}
		return object("data", []string{"customer"}, "customer", ref(snapshot), "changed", changed)
	}
	g.define(file, events.CustomerRef{})
	s := object("data", []string{snapshot}, "customer", ref("customerRef"), snapshot, ref(snapshot))
	if entity == events.EntityCharge {
		s.Properties.Set("refund", ref("refund"))
		s.Properties.Set("dispute", ref("dispute"))
		s.Properties.Set("fraudWarning", ref("fraudWarning"))
	}
	return s
}

// envelope is what all events have outside of their data.
func (g *generator) envelope(file string, v any) {
	s := g.reflector.ReflectFromType(reflect.TypeOf(v)).Definitions["event"]
	s.Title = "event"
	s.Description = "CloudEvents 1.0 in structured JSON."
	s.Properties.Set("data", &jsonschema.Schema{Type: "object", Description: "The customer's reference, and the entity's whole snapshot under its name."})
	ruled(g.t, "event", s)
	g.file(file).Definitions["event"] = s
}

// event narrows the envelope to one type; status is the snapshot's, where the type tells it.
func event(t events.Type, snapshot, status, says string) *jsonschema.Schema {
	data := &jsonschema.Schema{AllOf: []*jsonschema.Schema{ref("data")}}
	for _, field := range slices.Sorted(maps.Keys(beside())) {
		if slices.Contains(beside()[field], t) {
			data.AllOf = append(data.AllOf, &jsonschema.Schema{Required: []string{field}})
		}
	}
	if status != "" {
		data.AllOf = append(data.AllOf, narrowed(snapshot, narrowed("status", &jsonschema.Schema{Const: status})))
	}
	if len(data.AllOf) == 1 {
		data = ref("data")
	}
	return &jsonschema.Schema{
		Title: string(t), Description: says,
		AllOf: []*jsonschema.Schema{ref("event"), narrowed(
			"type", &jsonschema.Schema{Const: t},
			"dataschema", &jsonschema.Schema{Const: "urn:paykit:" + string(t.Entity()) + ":1"},
			"subject", &jsonschema.Schema{Pattern: idPattern(idPrefix(t.Entity()))},
			"data", data,
		)},
	}
}

// sayings is the table of docs/reference.md: what each event says.
func sayings(t testing.TB) map[events.Type]string {
	t.Helper()
	b, err := os.ReadFile("../../docs/reference.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(b), "| type | it says |")
	table, _, _ = strings.Cut(table, "\n\n")
	says := map[events.Type]string{}
	link := regexp.MustCompile(`\[([^\]]+)\]\([^)]+\)`)
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		text := strings.NewReplacer("**", "", "`", "").Replace(link.ReplaceAllString(strings.TrimSpace(cells[2]), "$1"))
		for _, m := range regexp.MustCompile("`([a-z_.]+)`").FindAllStringSubmatch(cells[1], -1) {
			says[events.Type(m[1])] = text
		}
	}
	for _, typ := range events.Types() {
		if says[typ] == "" {
			t.Errorf("docs/reference.md does not say what %s says", typ)
		}
	}
	return says
}

// requests are the bodies of commands and queries, and what they are answered with.
func (g *generator) requests() {
	for _, r := range requests() {
		g.body(r.file, r.kind+"."+r.verb, r.verb, r.body)
		if r.either != nil {
			either(g.file(r.file).Definitions[r.kind+"."+r.verb], r.kind == "query", r.either...)
		}
		answer := g.answer(r)
		if r.list {
			answer = object("", []string{"items"}, "items", &jsonschema.Schema{Type: "array", MaxItems: new(uint64(100)), Items: answer},
				"nextCursor", &jsonschema.Schema{Type: "string", Pattern: "^[A-Za-z0-9_-]+$", Description: "Of the next page; missing on the last."})
		} else {
			answer = &jsonschema.Schema{Ref: answer.Ref}
		}
		answer.Title = "answer to " + r.verb
		g.file(r.file).Definitions["answer."+r.verb] = answer
	}
	refusal := g.define("error", events.Error{})
	f := g.file("error")
	f.Definitions["answer.error"] = object("a refusal", []string{"error"}, "error", refusal)
	f.Ref, f.Title = "#/$defs/answer.error", "the answer to a refused request"
	f = g.file("event")
	f.Ref, f.Title = "#/$defs/event", "an event of any type"
}

// answer is what a request is answered with, or each item of a list.
func (g *generator) answer(r request) *jsonschema.Schema {
	if _, whole := r.answer.(events.Event); whole {
		g.envelope(r.file, r.answer)
		return ref("event")
	}
	return g.define(r.file, r.answer)
}

// either says that one of two fields must be there: of a query exactly one, with something in it.
func either(s *jsonschema.Schema, exactly bool, fields ...string) {
	var ways []*jsonschema.Schema
	for _, name := range fields {
		way := narrowed(name, &jsonschema.Schema{Type: "string", MinLength: new(uint64(1))})
		way.Required = []string{name}
		ways = append(ways, way)
	}
	if exactly {
		s.OneOf = ways
	} else {
		s.AnyOf = ways
	}
}

// generate makes all documents, by file name.
func generate(t testing.TB) map[string][]byte {
	t.Helper()
	g := newGenerator(t)
	g.entities()
	g.requests()
	files := map[string][]byte{}
	for name, s := range g.files {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.SetIndent("", " ")
		if err := e.Encode(s); err != nil {
			t.Fatal(err)
		}
		files[name+".json"] = b.Bytes()
	}
	return files
}

// TestCurrent: the files are what the types say. Write them with "make schema".
func TestCurrent(t *testing.T) {
	t.Parallel()
	files := generate(t)
	for name, want := range files {
		path := filepath.Join("files", name)
		if *write {
			if err := os.WriteFile(path, want, 0o644); err != nil { //nolint:gosec // G306: a file of the repository
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			continue
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the types say: run \"make schema\" and look at the difference", path)
		}
	}
	kept, err := filepath.Glob("files/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range kept {
		if files[filepath.Base(path)] == nil {
			t.Errorf("%s is generated no more", path)
		}
	}
}

// TestRegistries: each command and each query has its schemas, and a query's body the fields that are read.
func TestRegistries(t *testing.T) {
	t.Parallel()
	var verbs, queries []string
	g := newGenerator(t)
	g.requests()
	for _, r := range requests() {
		if r.kind == "command" {
			verbs = append(verbs, r.verb)
			continue
		}
		queries = append(queries, r.verb)
		var fields []string
		for p := g.file(r.file).Definitions["query."+r.verb].Properties.Oldest(); p != nil; p = p.Next() {
			fields = append(fields, p.Key)
		}
		if got, want := sorted(fields), sorted(projections.QueryFields()[r.verb]); got != want {
			t.Errorf("%s: fields with a schema: %s, fields that are read: %s", r.verb, got, want)
		}
	}
	if got, want := sorted(verbs), sorted(commands.Verbs()); got != want {
		t.Errorf("commands with a schema: %s, commands: %s", got, want)
	}
	if got, want := sorted(queries), sorted(slices.Collect(maps.Keys(projections.QueryFields()))); got != want {
		t.Errorf("queries with a schema: %s, queries: %s", got, want)
	}
}

func sorted(list []string) string { return fmt.Sprint(slices.Sorted(slices.Values(list))) }
