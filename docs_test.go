package paykit_test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/paykit-go/paykit/internal/commands"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/schema/schematest"
)

func readDoc(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// code tells whether a word stands in a text as code.
func code(text, word string) bool {
	return regexp.MustCompile("`" + regexp.QuoteMeta(word) + "`").MatchString(text)
}

// errorCodes reads the constants of type Code out of the source, so that a new one is not forgotten.
func errorCodes(t *testing.T) []events.Code {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "internal/events/event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var codes []events.Code
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		name, ok := spec.Type.(*ast.Ident)
		if !ok || name.Name != "Code" || len(spec.Values) != 1 {
			return true
		}
		if value, ok := spec.Values[0].(*ast.BasicLit); ok {
			text, err := strconv.Unquote(value.Value)
			if err != nil {
				t.Fatal(err)
			}
			codes = append(codes, events.Code(text))
		}
		return true
	})
	if len(codes) < 15 {
		t.Fatalf("only %d error codes found in the source: %v", len(codes), codes)
	}
	return codes
}

func TestReferenceNamesEverything(t *testing.T) {
	text := readDoc(t, "reference.md")
	_, eventTable, _ := strings.Cut(text, "| type | it says |")
	for _, typ := range events.Types() {
		if !code(eventTable, string(typ)) {
			t.Errorf("event %s is not in the table", typ)
		}
	}
	for _, c := range errorCodes(t) {
		row := "| `" + string(c) + "` | " + strconv.Itoa(c.Status()) + " |"
		if !strings.Contains(text, row) {
			t.Errorf("error %s is not in the table with its status: want %q", c, row)
		}
	}
	for _, verb := range commands.Verbs() {
		if !regexp.MustCompile(`(?m)^### .*\b` + regexp.QuoteMeta(verb) + `\b`).MatchString(text) {
			t.Errorf("command %s has no section", verb)
		}
	}
	for _, header := range []string{commands.HeaderIdempotencyKey, commands.HeaderWait, commands.HeaderSequence, "Paykit-Min-Sequence"} {
		if !code(text, header) {
			t.Errorf("header %s is not named", header)
		}
	}
	_, snapshots, _ := strings.Cut(text, "| snapshot | under `data.` |")
	for name, snapshot := range map[string]any{
		"customer": events.Customer{}, "providerAccount": events.ProviderAccount{}, "checkout": events.Checkout{}, "setup": events.Setup{},
		"paymentMethod": events.PaymentMethod{}, "charge": events.Charge{}, "command": events.Command{},
	} {
		row := regexp.MustCompile("(?m)^\\| [a-z ]+ \\| `" + name + "` \\| .*$").FindString(snapshots)
		own, inner := fieldsOf(reflect.TypeOf(snapshot))
		for _, field := range own {
			if !code(row, field) {
				t.Errorf("snapshot %s: field %s is not in its row %q", name, field, row)
			}
		}
		for _, field := range inner {
			if !code(snapshots, field) {
				t.Errorf("snapshot %s: field %s is in no row", name, field)
			}
		}
	}
}

// fieldsOf lists the JSON names of a snapshot's own fields, and of those of the structs in it.
func fieldsOf(typ reflect.Type) (own, inner []string) {
	for f := range typ.Fields() {
		if f.Anonymous { // what all snapshots have
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		own = append(own, name)
		elem := f.Type
		for elem.Kind() == reflect.Pointer || elem.Kind() == reflect.Slice {
			elem = elem.Elem()
		}
		if elem.Kind() == reflect.Struct && strings.HasPrefix(elem.PkgPath(), "github.com/paykit-go/") {
			names, deeper := fieldsOf(elem)
			inner = slices.Concat(inner, names, deeper)
		}
	}
	return own, inner
}

// examples gives the JSON blocks of a document.
func examples(text string) []string {
	var list []string
	for _, m := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(text, -1) {
		list = append(list, m[1])
	}
	return list
}

// TestReferenceExamples reads each example as what it shows: an event, a snapshot, a customer, an error.
func TestReferenceExamples(t *testing.T) {
	list := examples(readDoc(t, "reference.md"))
	if len(list) < 20 {
		t.Fatalf("%d examples found", len(list))
	}
	kinds := map[string]int{}
	for _, text := range list {
		var object map[string]json.RawMessage
		if err := json.Unmarshal([]byte(text), &object); err != nil {
			t.Errorf("%v in\n%s", err, text)
			continue
		}
		kind, into := kindOf(t, object)
		kinds[kind]++
		if err := holdExample(t, kind, text); err != nil {
			t.Errorf("the example of a %s: %v", kind, err)
		}
		if into == nil {
			continue
		}
		d := json.NewDecoder(bytes.NewReader([]byte(text)))
		d.DisallowUnknownFields()
		if err := d.Decode(into); err != nil {
			t.Errorf("the example of a %s: %v in\n%s", kind, err, text)
		}
		if e, ok := into.(*events.Event); ok {
			if _, err := events.Decode([]byte(text)); err != nil || !events.ValidID(e.Entity(), e.Subject) {
				t.Errorf("the example of an event: %v", err)
			}
		}
	}
	for _, kind := range []string{"event", "customer", "checkout", "setup", "method", "charge", "refund", "failure", "error", "list", "request"} {
		if kinds[kind] == 0 {
			t.Errorf("there is no example of a %s", kind)
		}
	}
}

// holdExample holds an example against its schema.
func holdExample(t *testing.T, kind, text string) error {
	t.Helper()
	c := schematest.New(t)
	if kind == "event" {
		return c.Event([]byte(text))
	}
	verb, whole := map[string]string{
		"customer": "customer.sync", "checkout": "checkout.create", "setup": "payment_method.attach", "method": "payment_method.detach",
		"charge": "charge.create", "list": "charge.list", "error": "error",
	}[kind]
	if !whole {
		return nil
	}
	return c.Answer(verb, []byte(text))
}

// kindOf tells by an example's fields what it is.
func kindOf(t *testing.T, o map[string]json.RawMessage) (kind string, into any) {
	t.Helper()
	var id, status string
	for field, text := range map[string]*string{"id": &id, "status": &status} {
		if raw, ok := o[field]; ok {
			if err := json.Unmarshal(raw, text); err != nil {
				t.Fatalf("%s: %v", field, err)
			}
		}
	}
	prefix, _, _ := strings.Cut(id, "_")
	switch {
	case o["specversion"] != nil:
		return "event", &events.Event{}
	case o["error"] != nil:
		return "error", &struct{ Error events.Error }{}
	case o["items"] != nil:
		return "list", &struct {
			Items      []events.Charge `json:"items"`
			NextCursor string          `json:"nextCursor"`
		}{}
	case o["code"] != nil:
		return "failure", &events.Failure{}
	case id == "":
		return "request", nil
	}
	if _, known := events.EntityOf(id); !known && prefix != "rfd" {
		t.Errorf("%q is no id of ours", id)
	}
	switch prefix {
	case "cust":
		return "customer", &events.CustomerResult{}
	case "chk":
		return "checkout", &events.Checkout{}
	case "set":
		return "setup", &events.Setup{}
	case "meth":
		return "method", &events.PaymentMethod{}
	case "rfd":
		return "refund", &events.Refund{}
	}
	return "charge", &events.Charge{}
}

// settings are the environment variables and flags that the source names.
func settings(t *testing.T) (envs, flags []string) {
	t.Helper()
	files, err := filepath.Glob("cmd/*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	shared, err := filepath.Glob("internal/daemon/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, shared...) {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\benv:"([A-Z_]+)"`).FindAllStringSubmatch(string(b), -1) {
			envs = append(envs, m[1])
		}
		for _, m := range regexp.MustCompile("`name:\"([a-z-]+)\" env:").FindAllStringSubmatch(string(b), -1) {
			flags = append(flags, "--"+m[1])
		}
	}
	envs = append(envs, "STRIPE_API_KEY", "STRIPE_API_KEY_FILE", "STRIPE_WEBHOOK_SECRETS", "STRIPE_WEBHOOK_SECRETS_FILE") // read by hand
	return envs, flags
}

func TestConfigurationNamesEverySetting(t *testing.T) {
	text := readDoc(t, "configuration.md")
	envs, flags := settings(t)
	if len(envs) < 15 || len(flags) < 8 {
		t.Fatalf("only %v and %v found in the source", envs, flags)
	}
	for _, name := range slices.Concat(envs, flags) {
		if !code(text, name) {
			t.Errorf("%s is not named", name)
		}
	}
	for _, m := range regexp.MustCompile("`((?:PAYKIT|STRIPE|NATS)_[A-Z_]+)`").FindAllStringSubmatch(text, -1) {
		if !slices.Contains(envs, m[1]) {
			t.Errorf("%s is named but no program reads it", m[1])
		}
	}
}

// TestOperationsNamesEveryMetric reads the metrics' names out of the source.
func TestOperationsNamesEveryMetric(t *testing.T) {
	text := readDoc(t, "operations.md")
	files, err := filepath.Glob("internal/*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var metrics []string
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`Name:\s+"(paykit_[a-z_]+)"`).FindAllStringSubmatch(string(b), -1) {
			metrics = append(metrics, m[1])
		}
	}
	if len(metrics) < 10 {
		t.Fatalf("only %v found in the source", metrics)
	}
	for _, name := range metrics {
		if !code(text, name) {
			t.Errorf("%s is not named", name)
		}
	}
	for _, m := range regexp.MustCompile("`(paykit_[a-z_]+)`").FindAllStringSubmatch(text, -1) {
		if !slices.Contains(metrics, m[1]) {
			t.Errorf("%s is named but there is no such metric", m[1])
		}
	}
}

// TestDocumentsNameCommandsThatExist looks for `paykit <command>` in what people read.
func TestDocumentsNameCommandsThatExist(t *testing.T) {
	known := commandsOf(t)
	for _, name := range []string{"docs/reference.md", "docs/configuration.md", "docs/operations.md", "deploy/README.md"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("(?m)(?:`|^|cmd/)paykit ([a-z]+)").FindAllStringSubmatch(string(b), -1) {
			if !slices.Contains(known, m[1]) {
				t.Errorf("%s names the command %q; there are %v", name, m[1], known)
			}
		}
	}
}

// commandsOf reads the first level of the command line out of the source.
func commandsOf(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile("cmd/paykit/main.go")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range regexp.MustCompile("(?m)^\t([A-Z][a-z]+) +[a-z]+Cmd +`cmd:").FindAllStringSubmatch(string(b), -1) {
		names = append(names, strings.ToLower(m[1]))
	}
	if len(names) < 8 {
		t.Fatalf("only %v found in the source", names)
	}
	return names
}
