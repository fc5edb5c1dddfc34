package events

import (
	"bytes"
	"encoding/json"
	"strings"
)

// cut gives a field's own bytes out of a JSON object that is known to be valid, the last of several of one name, as
// decoding does; nil if there is none. Decoding into a map costs several times as much, and every event is cut.
func cut(object []byte, name string) (found json.RawMessage) {
	s := bytes.TrimSpace(object)
	if len(s) == 0 || s[0] != '{' {
		return nil
	}
	for s = skip(s[1:], ", \t\r\n"); len(s) > 0 && s[0] != '}'; s = skip(s, ", \t\r\n") {
		n := ValueLength(s)
		key := s[:n]
		s = skip(s[n:], ": \t\r\n")
		n = ValueLength(s)
		if isName(key, name) {
			found = s[:n:n]
		}
		s = s[n:]
	}
	return found
}

// isName tells whether a JSON string is a name, in any case, as decoding takes it.
func isName(key []byte, name string) bool {
	if bytes.IndexByte(key, '\\') < 0 {
		return strings.EqualFold(string(key[1:len(key)-1]), name)
	}
	var text string
	return json.Unmarshal(key, &text) == nil && strings.EqualFold(text, name)
}

func skip(s []byte, what string) []byte { return bytes.TrimLeft(s, what) }

// ValueLength is the length of the JSON value that a valid text begins with.
func ValueLength(s []byte) int {
	depth, inString := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
			if !inString && depth == 0 {
				return i + 1
			}
		case inString:
		case c == '{' || c == '[':
			depth++
		case (c == '}' || c == ']') && depth > 0:
			if depth--; depth == 0 {
				return i + 1
			}
		case depth == 0 && strings.IndexByte(",}] \t\r\n", c) >= 0:
			return i // behind a number, true, false or null
		}
	}
	return len(s)
}
