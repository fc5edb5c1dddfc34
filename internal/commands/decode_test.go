package commands

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestDecodeRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ body, param string }{
		"nothing":                 {"", ""},
		"space":                   {"  ", ""},
		"null":                    {"null", ""},
		"a list":                  {"[]", ""},
		"a string":                {`"x"`, ""},
		"a number":                {"1", ""},
		"cut off":                 {`{"a":1`, ""},
		"two objects":             {`{}{}`, ""},
		"something behind":        {`{} x`, ""},
		"a comma too many":        {`{"a":1,}`, ""},
		"NaN":                     {`{"a":NaN}`, ""},
		"infinity":                {`{"a":Infinity}`, ""},
		"a hex number":            {`{"a":0x10}`, ""},
		"a leading zero":          {`{"a":01}`, ""},
		"single quotes":           {`{'a':1}`, ""},
		"a comment":               {`{"a":1/*b*/}`, ""},
		"a byte order mark":       {"\ufeff{}", ""},
		"invalid UTF-8":           {"{\"a\":\"\xff\"}", ""},
		"invalid UTF-8 in a name": {"{\"\xc3\x28\":1}", ""},
		"a raw NUL":               {"{\"a\":\"\x00\"}", ""},
		"an escaped NUL":          {`{"a":"x\u0000"}`, ""},
		"a NUL in a name":         {`{"a\u0000":1}`, ""},
		"half a surrogate pair":   {`{"a":"\ud800"}`, ""},
		"the other half":          {`{"a":"\udc00"}`, ""},
		"two first halves":        {`{"a":"\ud800\ud800"}`, ""},
		"half, then a letter":     {`{"a":"\ud800\u0041"}`, ""},
		"a name twice":            {`{"a":1,"b":2,"a":1}`, "a"},
		"a name twice, escaped":   {`{"a":1,"\u0061":1}`, "a"},
		"a name twice inside":     {`{"m":{"a":"1","a":"2"}}`, "m"},
		"a name twice in a list":  {`{"m":[{"a":1,"a":2}]}`, "m"},
		"nested deeply":           {`{"m":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}`, "m"},
		"nested very deeply":      {`{"m":` + strings.Repeat("[", 30000) + strings.Repeat("]", 30000) + `}`, ""},
		"a byte too large":        {`{"a":"` + strings.Repeat("x", maxBody-7) + `"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			o, refusal := decode([]byte(tc.body))
			if refusal == nil {
				t.Fatalf("decoded as %v", o)
			}
			if refusal.Code != "invalid_request" || refusal.Param != tc.param {
				t.Errorf("got %v, want invalid_request (%s)", refusal, tc.param)
			}
		})
	}
}

func TestDecode(t *testing.T) {
	body := ` {"s":"ü\u0041\ud83d\ude00\\u0000","n":1.50,"t":true,"z":null,"l":[1,{"a":"b"},null],"o":{"k":"v"}} `
	o, refusal := decode([]byte(body))
	if refusal != nil {
		t.Fatal(refusal)
	}
	if o["s"] != `üA😀\u0000` || o["n"] != json.Number("1.50") || o["t"] != true {
		t.Errorf("got %v", o)
	}
	if z, sent := o["z"]; z != nil || !sent {
		t.Error("a null is lost")
	}
	if list, ok := o["l"].([]any); !ok || len(list) != 3 {
		t.Errorf("list: got %v", o["l"])
	}
	if sub, ok := o["o"].(object); !ok || sub["k"] != "v" {
		t.Errorf("object: got %v", o["o"])
	}
	if _, refusal := decode([]byte(`{"a":"` + strings.Repeat("x", maxBody-8) + `"}`)); refusal != nil {
		t.Errorf("64 KiB: %v", refusal)
	}
}

// FuzzDecode: no bytes make the decoder panic; what it takes is what encoding/json takes too, and written again it is
// the same command.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":1}`, `{"a":{"b":[1,2.5e3,"x",null,true]}}`, `{"a":1,"a":2}`, `{"\u0061":"\ud83d\ude00"}`, `[]`, `{"a":"\ud800"}`,
		`{"amount":1e999}`, "{\"a\":\"\xff\"}", `{"a":{}}{}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		o, refusal := decode(body)
		if refusal != nil {
			if refusal.Code != "invalid_request" || refusal.Message == "" {
				t.Errorf("refused with %v", refusal)
			}
			return
		}
		if !utf8.Valid(body) || len(body) > maxBody {
			t.Fatal("taken, and must not be")
		}
		var std map[string]any
		d := json.NewDecoder(bytes.NewReader(body))
		d.UseNumber()
		if err := d.Decode(&std); err != nil {
			t.Fatalf("taken, and yet: %v", err)
		}
		if len(std) != len(o) {
			t.Errorf("%d names, want %d", len(o), len(std))
		}
		again, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		if o2, refusal := decode(again); refusal == nil && commandDigest(o) != commandDigest(o2) {
			t.Errorf("%s and %s have two digests", body, again)
		}
		for _, s := range registry() { // no body makes a command panic
			fields := &fields{values: o}
			s.parse(fields, config())
			_ = fields.refused()
		}
	})
}
