package schema_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/schema"
	"github.com/paykit-go/paykit/internal/schema/schematest"
)

func open(t testing.TB) (*schema.Catalog, *schema.Validator) {
	t.Helper()
	c, err := schema.Open()
	if err != nil {
		t.Fatal(err)
	}
	v, err := c.Validator()
	if err != nil {
		t.Fatal(err)
	}
	return c, v
}

// TestAllCompile: each schema, and each as the document that is served, can be used.
func TestAllCompile(t *testing.T) {
	t.Parallel()
	c, v := open(t)
	seen := map[string]bool{}
	for _, n := range c.Names() {
		if seen[n.ID] {
			t.Errorf("%s is the id of two schemas", n.ID)
		}
		seen[n.ID] = true
		if _, err := v.Compile(n); err != nil {
			t.Error(err)
		}
		if found, err := c.Find(n.Kind, n.Name); err != nil || found != n {
			t.Errorf("%s %s is found as %v, %v", n.Kind, n.Name, found, err)
		}
		if found, err := c.Find("", n.ID); err != nil || found != n {
			t.Errorf("%s is found as %v, %v", n.ID, found, err)
		}
	}
	for _, entity := range events.Entities() {
		if !seen["urn:paykit:"+string(entity)+":1"] {
			t.Errorf("the dataschema of %s leads nowhere", entity)
		}
	}
	if len(seen) < 2*len(events.Types()) {
		t.Errorf("%d schemas", len(seen))
	}
}

// madeUp are ids in the golden files of version 1 that PayKit would not make, and what it would: the files are older than the
// schemas and are never edited.
func madeUp() *strings.Replacer {
	digest := events.Digest(nil)
	return strings.NewReplacer(
		`"cmd_0"`, `"`+events.CommandID("x", "0")+`"`, `"cmd_1"`, `"`+events.CommandID("x", "1")+`"`, `"cmd_2"`, `"`+events.CommandID("x", "2")+`"`,
		`"rfd_1"`, `"`+events.RefundID("x", "x")+`"`, `"sha256:aa"`, `"`+digest+`"`, `"sha256:bb"`, `"`+digest+`"`,
	)
}

// TestGoldenEvents: what has been stored is what the schemas say, of its type and of no other.
func TestGoldenEvents(t *testing.T) {
	t.Parallel()
	c, v := open(t)
	for _, typ := range events.Types() {
		b, err := os.ReadFile(filepath.Join("../events/testdata/v1", string(typ)+".json"))
		if err != nil {
			t.Fatal(err)
		}
		b = []byte(madeUp().Replace(string(b)))
		for _, other := range events.Types() {
			n, err := c.Find(schema.KindEvent, string(other))
			if err != nil {
				t.Fatal(err)
			}
			problems, err := v.Validate(n, b)
			if err != nil {
				t.Fatal(err)
			}
			if other == typ && len(problems) > 0 {
				t.Errorf("%s: %v", typ, problems)
			}
			if other != typ && len(problems) == 0 {
				t.Errorf("%s is valid as %s", typ, other)
			}
		}
		var e struct {
			DataSchema string          `json:"dataschema"`
			Data       json.RawMessage `json:"data"`
		}
		if err := json.NewDecoder(bytes.NewReader(b)).Decode(&e); err != nil {
			t.Fatal(err)
		}
		n, err := c.Find("", e.DataSchema)
		if err != nil {
			t.Fatal(err)
		}
		if problems, err := v.Validate(n, e.Data); err != nil || len(problems) > 0 {
			t.Errorf("data of %s: %v %v", typ, problems, err)
		}
	}
}

// TestClosed: a field that no schema has is seen, at any depth, and so is one that is missing.
func TestClosed(t *testing.T) {
	t.Parallel()
	c := schematest.New(t)
	b, err := os.ReadFile("../events/testdata/v1/charge.refund_requested.json")
	if err != nil {
		t.Fatal(err)
	}
	good := madeUp().Replace(string(b))
	if err := c.Event([]byte(good)); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]string{
		"of the envelope":  strings.Replace(good, `"specversion"`, `"more": 1, "specversion"`, 1),
		"of the data":      strings.Replace(good, `"charge": {`, `"more": 1, "charge": {`, 1),
		"of the snapshot":  strings.Replace(good, `"charge": {`, `"charge": {"more": 1, `, 1),
		"of a refund":      strings.Replace(good, `"refund": {`, `"refund": {"more": 1, `, 1),
		"amount missing":   strings.Replace(good, `"amountRefunded"`, `"amountReturned"`, 1),
		"refund missing":   strings.Replace(good, `"refund": {`, `"dispute": {`, 1),
		"another's schema": strings.Replace(good, `urn:paykit:charge:1`, `urn:paykit:checkout:1`, 1),
	} {
		if bad == good {
			t.Errorf("%s: nothing was changed", name)
		}
		if c.Event([]byte(bad)) == nil {
			t.Errorf("a field %s is not noticed", name)
		}
	}
}
