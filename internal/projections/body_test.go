package projections

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"unicode/utf8"
)

// FuzzParseBody compares the fields that were cut out of a body with what encoding/json finds in it.
func FuzzParseBody(f *testing.F) {
	for _, seed := range []string{
		``, ` `, `{}`, ` { } `, `{"a":"b"}`, "{\n\t\"a\" : \"b\" ,\r\n \"c\":1}", `{"a":null,"b":true,"c":false,"d":-1.5e3}`,
		`{"a":{"b":["}",{"c":"]"}]},"d":[1,[2,"\""]]}`, `{"a\"b":"c\\","d\u0041":"\ud83d\ude00"}`, `{"a":1,"a":2}`, `{"a":1,"a":null}`,
		`{"a":"\\\""}`, `{"a":[]}`, `{"":""}`, `[]`, `null`, `"a"`, `{"a":1}{}`, `{"a"}`, `{"a":1,}`, "{\"a\":\"\xff\"}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var want map[string]json.RawMessage
		wantErr := json.Unmarshal(data, &want)
		names := slices.Collect(maps.Keys(want))
		got, err := parseBody(data, names)
		if !utf8.Valid(data) {
			if err == nil {
				t.Error("not UTF-8, and taken")
			}
			return
		}
		if (wantErr != nil || want == nil) != (err != nil) {
			if len(got) == 0 && err == nil {
				return // nothing at all counts as {}
			}
			t.Fatalf("parseBody says %v, encoding/json %v", err, wantErr)
		}
		for name, raw := range want {
			if string(raw) == "null" {
				raw = nil
			}
			if string(got.get(name)) != string(raw) {
				t.Errorf("field %q is %s, want %s", name, got.get(name), raw)
			}
			var wantText string
			isText := raw != nil && json.Unmarshal(raw, &wantText) == nil
			gotText, err := got.text(name)
			if raw != nil && (err == nil) != isText || isText && json.Valid([]byte(gotText)) != json.Valid([]byte(wantText)) {
				t.Errorf("field %q reads as %q (%v), want %q", name, gotText, err, wantText)
			}
		}
		if len(want) > 0 {
			if _, err := parseBody(data, names[1:]); err == nil {
				t.Errorf("field %q is not refused", names[0])
			}
		}
	})
}
