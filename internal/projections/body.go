package projections

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
)

// maxBody is the largest request, in bytes.
const maxBody = 64 << 10

// body is a request's fields. A field that is null counts as left out.
type body map[string]json.RawMessage

// parseBody reads one JSON object that has no other fields than the ones named. Nothing at all counts as {}.
func parseBody(data []byte, fields []string) (body, error) {
	if len(data) > maxBody {
		return nil, invalid("", "the body is larger than 64 KiB")
	}
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return body{}, nil
	}
	var b body
	if err := json.Unmarshal(data, &b); err != nil || data[0] != '{' {
		return nil, invalid("", "the body must be one JSON object")
	}
	for _, name := range slices.Sorted(maps.Keys(b)) {
		if !slices.Contains(fields, name) {
			return nil, invalid(name, "is not a field of this query")
		}
		if string(b[name]) == "null" {
			delete(b, name)
		}
	}
	return b, nil
}

// text is a string field, "" if it is left out.
func (b body) text(name string) (string, error) {
	raw, ok := b[name]
	if !ok {
		return "", nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", invalid(name, "must be a string")
	}
	return s, nil
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
