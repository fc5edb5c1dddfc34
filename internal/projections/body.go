package projections

import (
	"bytes"
	"encoding/json"
	"slices"
	"unicode/utf8"

	"github.com/paykit-go/paykit/internal/events"
)

// maxBody is the largest request, in bytes.
const maxBody = 64 << 10

// body is a request's fields. A field that is null counts as left out.
type body []field

type field struct {
	name string
	raw  []byte // a JSON value
}

// parseBody reads one JSON object that has no other fields than the ones named. Nothing at all counts as {}. Of a
// field that is there twice the last counts.
//
// It cuts the text into fields by itself: decoding into a map costs more than all the rest of a query.
func parseBody(data []byte, fields []string) (body, error) {
	if len(data) > maxBody {
		return nil, invalid("", "the body is larger than 64 KiB")
	}
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return nil, nil
	}
	if data[0] != '{' || !utf8.Valid(data) || !json.Valid(data) {
		return nil, invalid("", "the body must be one JSON object in UTF-8")
	}
	b := make(body, 0, len(fields))
	for f, rest := nextField(data[1:]); f.name != nil; f, rest = nextField(rest) {
		name, err := knownField(f.name, fields)
		if err != nil {
			return nil, err
		}
		b = slices.DeleteFunc(b, func(known field) bool { return known.name == name })
		if string(f.value) != "null" {
			b = append(b, field{name: name, raw: f.value})
		}
	}
	return b, nil
}

// knownField is the one of the fields that a JSON string names, or the refusal of it.
func knownField(raw []byte, fields []string) (string, error) {
	for _, name := range fields {
		if string(raw[1:len(raw)-1]) == name { // as nearly all are written; it costs no copy
			return name, nil
		}
	}
	name, err := text(raw)
	if err == nil && !slices.Contains(fields, name) {
		err = invalid(name, "is not a field of this query")
	}
	return name, err
}

// rawField is a name and a value as they stand in the text.
type rawField struct{ name, value []byte }

// nextField cuts the next field off the inside of a valid object; the name is nil at its end.
func nextField(s []byte) (f rawField, rest []byte) {
	s = bytes.TrimLeft(s, ", \t\r\n")
	if s[0] == '}' {
		return rawField{}, nil
	}
	n := events.ValueLength(s)
	f.name, s = s[:n], bytes.TrimLeft(s[n:], ": \t\r\n")
	n = events.ValueLength(s)
	f.value = s[:n]
	return f, s[n:]
}

// get is a field's value, nil if it is left out.
func (b body) get(name string) []byte {
	for _, f := range b {
		if f.name == name {
			return f.raw
		}
	}
	return nil
}

// text is a string field, "" if it is left out.
func (b body) text(name string) (string, error) {
	raw := b.get(name)
	if raw == nil {
		return "", nil
	}
	s, err := text(raw)
	if err != nil {
		return "", invalid(name, "must be a string")
	}
	return s, nil
}

// text decodes a JSON string.
func text(raw []byte) (string, error) {
	if raw[0] == '"' && bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), nil
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err
}

// required is a string field that must be there and not empty.
func (b body) required(name string) (string, error) {
	s, err := b.text(name)
	if err == nil && s == "" {
		err = invalid(name, "is required")
	}
	return s, err
}

// oneOf is the one of two string fields that is there.
func (b body) oneOf(first, second string) (name, value string, err error) {
	one, err := b.text(first)
	if err != nil {
		return "", "", err
	}
	other, err := b.text(second)
	switch {
	case err != nil:
		return "", "", err
	case one != "" && other != "":
		return "", "", invalid(second, "give either "+first+" or "+second)
	case one != "":
		return first, one, nil
	case other != "":
		return second, other, nil
	}
	return "", "", invalid(first, first+" or "+second+" is required")
}
