package commands

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"

	"github.com/paykit-go/paykit/internal/events"
)

// commandDigest names what was asked under an idempotency key: "sha256:" and the SHA-256 of the body as it was sent,
// parsed, names sorted, nulls left out, before any default is filled in. The same request written differently has the
// same digest; numbers are kept by their text.
func commandDigest(o object) string {
	var b bytes.Buffer
	writeCanonical(&b, o)
	return events.Digest(b.Bytes())
}

func writeCanonical(b *bytes.Buffer, v any) {
	switch v := v.(type) {
	case nil:
		b.WriteString("null") // only in lists; of an object it is left out
	case bool:
		if v {
			b.WriteString("true")
		} else {
			b.WriteString("false")
		}
	case json.Number:
		b.WriteString(v.String())
	case string:
		writeString(b, v)
	case []any:
		b.WriteByte('[')
		for i, one := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			writeCanonical(b, one)
		}
		b.WriteByte(']')
	case object:
		b.WriteByte('{')
		first := true
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if v[name] == nil {
				continue
			}
			if !first {
				b.WriteByte(',')
			}
			first = false
			writeString(b, name)
			b.WriteByte(':')
			writeCanonical(b, v[name])
		}
		b.WriteByte('}')
	}
}

// writeString writes s as a JSON string, with no more escapes than JSON needs.
func writeString(b *bytes.Buffer, s string) {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err == nil { // a string always encodes
		b.Truncate(b.Len() - 1) // the line's end
	}
}
