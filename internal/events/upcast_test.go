package events_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/paykit-go/paykit/internal/events"
)

// renamed is a table as a later program would have it: what was "fee" is "cost" from version 2 on, and from version 3 it is
// in whole units. It stands for any change of shape; the program itself has none yet.
func renamed() events.Upcasters {
	change := func(f func(charge map[string]json.RawMessage)) events.Upcast {
		return func(data json.RawMessage) (json.RawMessage, error) {
			var d, charge map[string]json.RawMessage
			if err := json.Unmarshal(data, &d); err != nil {
				return nil, err
			}
			if err := json.Unmarshal(d["charge"], &charge); err != nil {
				return nil, err
			}
			f(charge)
			var err error
			if d["charge"], err = json.Marshal(charge); err != nil {
				return nil, err
			}
			return json.Marshal(d)
		}
	}
	return events.Upcasters{events.EntityCharge: {
		change(func(charge map[string]json.RawMessage) {
			charge["amount"] = charge["cents"]
			delete(charge, "cents")
		}),
		change(func(charge map[string]json.RawMessage) {
			charge["description"] = json.RawMessage(`"v3 ` + strings.Trim(string(charge["description"]), `"`) + `"`)
		}),
	}}
}

func versioned(schema, charge string) []byte {
	return []byte(`{"specversion":"1.0","id":"1","type":"charge.requested","subject":"chg_1","entityversion":1,"dataschema":"` + schema +
		`","data":{"customer":{"id":"cust_1"},"charge":` + charge + `}}`)
}

// An event of each version is read in the current shape; its digest is of the bytes that are stored.
func TestUpcast(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		raw         []byte
		description string
	}{
		"of version 1": {versioned("urn:paykit:charge:1", `{"id":"chg_1","cents":1900,"description":"Pro","new":1}`), "v3 Pro"},
		"of version 2": {versioned("urn:paykit:charge:2", `{"id":"chg_1","amount":1900,"description":"Pro","new":1}`), "v3 Pro"},
		"of version 3": {versioned("urn:paykit:charge:3", `{"id":"chg_1","amount":1900,"description":"Pro","new":1}`), "Pro"},
		"of none":      {versioned("", `{"id":"chg_1","cents":1900,"description":"Pro","new":1}`), "v3 Pro"},
	} {
		before := bytes.Clone(tc.raw)
		e, err := renamed().Decode(tc.raw)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if c := e.Data.Charge; c.Amount != 1900 || c.Description != tc.description || e.Data.Customer.ID != "cust_1" {
			t.Errorf("%s: read as %+v", name, c)
		}
		var raw map[string]any
		if err := json.Unmarshal(e.RawSnapshot(), &raw); err != nil || raw["amount"] != 1900.0 || raw["cents"] != nil || raw["new"] != 1.0 {
			t.Errorf("%s: the snapshot's bytes are %s, %v", name, e.RawSnapshot(), err)
		}
		if e.Digest() != events.Digest(before) || !bytes.Equal(before, tc.raw) {
			t.Errorf("%s: the digest is not of the stored bytes", name)
		}
	}
}

func TestUpcastRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		table events.Upcasters
		raw   []byte
		want  error
	}{
		"a newer version":            {renamed(), versioned("urn:paykit:charge:4", `{"id":"chg_1"}`), events.ErrUnknownSchema},
		"a newer version, no table":  {events.Released(), versioned("urn:paykit:charge:2", `{"id":"chg_1"}`), events.ErrUnknownSchema},
		"version 0":                  {renamed(), versioned("urn:paykit:charge:0", `{"id":"chg_1"}`), events.ErrMalformed},
		"no number":                  {renamed(), versioned("urn:paykit:charge:x", `{"id":"chg_1"}`), events.ErrMalformed},
		"a step that fails":          {renamed(), versioned("urn:paykit:charge:1", `"none"`), events.ErrMalformed},
		"no snapshot after the step": {renamed(), versioned("urn:paykit:charge:1", `{"id":"chg_2"}`), events.ErrMalformed},
	} {
		e, err := tc.table.Decode(tc.raw)
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %+v, %v, want %v", name, e, err, tc.want)
		}
	}
	_, err := renamed().Decode(versioned("urn:paykit:charge:4", `{"id":"chg_1"}`))
	if text := err.Error(); !strings.Contains(text, "charge is of version 4") || !strings.Contains(text, "up to 3") {
		t.Errorf("a newer version's error is %q", text)
	}
}

// What is written names the version that the table leads to.
func TestSchemaIsTheTables(t *testing.T) {
	t.Parallel()
	if got := renamed().Schema(events.EntityCharge); got != "urn:paykit:charge:3" {
		t.Errorf("charge: %s", got)
	}
	if got := renamed().Schema(events.EntityPaymentMethod); got != "urn:paykit:payment_method:1" {
		t.Errorf("payment method: %s", got)
	}
	for typ, e := range oneOfEach(t) {
		if e.DataSchema != events.Released().Schema(e.Entity()) {
			t.Errorf("%s is written with %s", typ, e.DataSchema)
		}
	}
}

// The snapshot's bytes are cut out whatever stands around them.
func TestRawSnapshot(t *testing.T) {
	t.Parallel()
	const snapshot = `{"id":"chg_1","amount":19, "x" : [ {"}":"]"} , "\"{" ]}`
	for name, raw := range map[string]string{
		"packed":           `{"specversion":"1.0","id":"1","type":"charge.requested","subject":"chg_1","entityversion":1,"data":{"charge":` + snapshot + `}}`,
		"with white space": "{\n \"specversion\" : \"1.0\" , \"id\":\"1\",\t\"type\":\"charge.requested\",\"subject\":\"chg_1\",\"entityversion\":1,\r\n\"data\" : {\n \"x\" : [1 , -2.5e3 ] ,\"y\": null , \"charge\" :\n" + snapshot + "\n , \"z\" : true } }",
		"escaped":          `{"specversion":"1.0","id":"1","type":"charge.requested","subject":"chg_1","entityversion":1,"data":{"\\":"\\\"","ch\u0061rge":` + snapshot + `}}`,
		"twice":            `{"specversion":"1.0","id":"1","type":"charge.requested","subject":"chg_1","entityversion":1,"data":{"charge":{"id":"chg_1"},"charge":` + snapshot + `}}`,
		"unknown fields":   `{"new":{"data":1},"specversion":"1.0","id":"1","type":"charge.requested","subject":"chg_1","entityversion":1,"data":{"charges":2,"charge":` + snapshot + `,"other":{"charge":3}}}`,
	} {
		e, err := events.Decode([]byte(raw))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if string(e.RawSnapshot()) != snapshot || e.Data.Charge.Amount != 19 {
			t.Errorf("%s: cut %s", name, e.RawSnapshot())
		}
	}
}
