package commands

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"

	"github.com/paykit-go/paykit/internal/events"
)

const (
	// maxBody is the largest body of a command, in bytes.
	maxBody = 64 << 10
	// maxDepth is far more than any command needs; it keeps a hostile body from costing stack.
	maxDepth = 16
)

// object is a JSON object as it was sent: its values are nil, bool, json.Number, string, []any or object. Numbers keep
// their text, so nothing is rounded on the way.
type object = map[string]any

// decode reads a command's body strictly: one JSON object, at most 64 KiB, valid UTF-8, no name twice, no NUL. Each is
// refused with an [*events.Error].
func decode(body []byte) (object, *events.Error) {
	switch {
	case len(body) > maxBody:
		return nil, invalid("", "the body is larger than %d KiB", maxBody>>10)
	case !utf8.Valid(body):
		return nil, invalid("", "the body is not valid UTF-8")
	case !json.Valid(body):
		return nil, invalid("", "the body must be one JSON object")
	case !wholeEscapes(body):
		return nil, invalid("", `the body holds a NUL or half of a surrogate pair (\u0000, \ud800–\udfff)`)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	v, refusal := decodeValue(d, "", 0)
	if refusal != nil {
		return nil, refusal
	}
	o, ok := v.(object)
	if !ok {
		return nil, invalid("", "the body must be one JSON object")
	}
	return o, nil
}

// wholeEscapes tells whether every \u escape of a valid JSON text stands for a character: the decoder would turn half
// a surrogate pair into U+FFFD, and two different bodies would look the same. A backslash stands only in strings.
func wholeEscapes(body []byte) bool {
	for i := 0; i < len(body); i++ {
		if body[i] != '\\' {
			continue
		}
		i++ // the escape's letter; the text is valid, so it is there
		if body[i] != 'u' {
			continue
		}
		r := hex4(body[i+1:])
		i += 4
		switch {
		case r == 0, r >= 0xdc00 && r <= 0xdfff:
			return false
		case r >= 0xd800 && r <= 0xdbff:
			rest := body[i+1:]
			if len(rest) < 6 || rest[0] != '\\' || rest[1] != 'u' {
				return false
			}
			if low := hex4(rest[2:]); low < 0xdc00 || low > 0xdfff {
				return false
			}
			i += 6
		}
	}
	return true
}

// hex4 reads four hex digits.
func hex4(b []byte) uint64 {
	r, err := strconv.ParseUint(string(b[:4]), 16, 16)
	if err != nil {
		return 0
	}
	return r
}

// decodeValue reads the next value of a valid JSON text. field is the top-level field it belongs to.
func decodeValue(d *json.Decoder, field string, depth int) (any, *events.Error) {
	if depth > maxDepth {
		return nil, invalid(field, "is nested too deeply")
	}
	token, err := d.Token()
	if err != nil {
		return nil, invalid(field, "the body must be one JSON object")
	}
	switch token {
	case json.Delim('{'):
		return decodeObject(d, field, depth)
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, refusal := decodeValue(d, field, depth+1)
			if refusal != nil {
				return nil, refusal
			}
			list = append(list, v)
		}
		_, err = d.Token()
		if err != nil {
			return nil, invalid(field, "the body must be one JSON object")
		}
		return list, nil
	}
	return token, nil // nil, bool, json.Number or string
}

func decodeObject(d *json.Decoder, field string, depth int) (any, *events.Error) {
	o := object{}
	for d.More() {
		token, err := d.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return nil, invalid(field, "the body must be one JSON object")
		}
		of := field
		if depth == 0 {
			of = name
		}
		if _, twice := o[name]; twice {
			if depth == 0 {
				return nil, invalid(of, "is there twice")
			}
			return nil, invalid(of, "has a name twice")
		}
		v, refusal := decodeValue(d, of, depth+1)
		if refusal != nil {
			return nil, refusal
		}
		o[name] = v
	}
	if _, err := d.Token(); err != nil {
		return nil, invalid(field, "the body must be one JSON object")
	}
	return o, nil
}
