package commands

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/paykit-go/paykit/internal/events"
)

func digestOf(tb testing.TB, body string) string {
	tb.Helper()
	o, refusal := decode([]byte(body))
	if refusal != nil {
		tb.Fatalf("%s: %v", body, refusal)
	}
	return commandDigest(o)
}

func TestCommandDigest(t *testing.T) {
	// Pinned: keys of commands stored by an older program must still match.
	const canonical = `{"a":1.50,"b":"é<\"","l":[null,true,false],"m":{"x":"1","y":"2"}}`
	if got, want := digestOf(t, `{"b":"\u00e9<\"","a":1.50,"c":null,"m":{"y":"2","x":"1"},"l":[null,true,false]}`),
		events.Digest([]byte(canonical)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	same := digestOf(t, `{"a":1,"b":"x"}`)
	for name, body := range map[string]string{
		"other order": `{"b":"x","a":1}`,
		"spaces":      "{ \"a\" : 1,\n\"b\":\"x\" }",
		"a null":      `{"a":1,"b":"x","c":null}`,
		"an escape":   `{"\u0061":1,"b":"\u0078"}`,
	} {
		if digestOf(t, body) != same {
			t.Errorf("%s: another digest", name)
		}
	}
	for name, body := range map[string]string{
		"another value":  `{"a":2,"b":"x"}`,
		"another type":   `{"a":"1","b":"x"}`,
		"another number": `{"a":1.0,"b":"x"}`,
		"one more field": `{"a":1,"b":"x","c":false}`,
		"one field less": `{"a":1}`,
		"an empty text":  `{"a":1,"b":"x","c":""}`,
		"an empty map":   `{"a":1,"b":"x","c":{}}`,
		"glued":          `{"a":1,"b":"x\",\"c\":\""}`,
	} {
		if digestOf(t, body) == same {
			t.Errorf("%s: the same digest", name)
		}
	}
}

func jsonOf(tb rapid.TB, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

// body writes a map as JSON with its names in the given order.
func body(tb rapid.TB, m map[string]any, names []string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, name := range names {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, " %s : %s", jsonOf(tb, name), jsonOf(tb, m[name]))
	}
	return b.String() + "}"
}

func TestCommandDigestProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		value := rapid.OneOf(
			rapid.Map(rapid.StringMatching(`[a-z"\\é<]{0,5}`), func(s string) any { return s }),
			rapid.Map(rapid.IntRange(-5, 5), func(i int) any { return i }),
			rapid.Map(rapid.Bool(), func(b bool) any { return b }),
			rapid.Map(rapid.MapOf(rapid.StringMatching(`[a-c]{1,2}`), rapid.StringMatching(`[a-c]{0,2}`)), func(m map[string]string) any { return m }),
		)
		m := rapid.MapOfN(rapid.StringMatching(`[a-f]{1,3}`), value, 1, 6).Draw(rt, "body")
		names := slices.Sorted(maps.Keys(m))
		first := digestOf(t, body(rt, m, names))

		// Order and nulls do not matter.
		shuffled := rapid.Permutation(names).Draw(rt, "order")
		withNull := maps.Clone(m)
		withNull["nothing"] = nil
		if digestOf(t, body(rt, withNull, append(shuffled, "nothing"))) != first {
			rt.Fatal("order or a null changed the digest")
		}
		// Values do.
		name := rapid.SampledFrom(names).Draw(rt, "name")
		other := value.Draw(rt, "other")
		changed := maps.Clone(m)
		changed[name] = other
		was, is := jsonOf(rt, m[name]), jsonOf(rt, other)
		if (digestOf(t, body(rt, changed, names)) == first) != (was == is) {
			rt.Fatalf("%s from %s to %s: the digest does not tell", name, was, is)
		}
	})
}
