package stripe

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/paykit-go/paykit/internal/provider"
)

// headOf is what the door needs of a delivery, as decode reads it. It reads the body once, where decode does so about eight
// times; decode has the word on any body that the two could read differently.
func headOf(body []byte) (provider.Delivery, error) {
	var h head
	if h.read(body) && h.id != "" && h.typ != "" {
		d := provider.Delivery{ID: h.id, Type: h.typ, APIVersion: h.version}
		d.CustomerID = whose(h.typ, h.object.id, h.object.kind, h.object.customer, h.previous.customer)
		return d, thin(h.kind)
	}
	d, err := decode(body)
	if errors.Is(err, provider.ErrUnreadable) {
		err = nil // its head is good
	}
	return provider.Delivery{ID: d.ID, Type: d.Type, APIVersion: d.APIVersion, CustomerID: d.CustomerID}, err
}

// thin refuses an event that only names an object.
func thin(kind string) error {
	if strings.HasPrefix(kind, "v2.") {
		return provider.ErrThinEvent
	}
	return nil
}

// head is the parts of a body that tell what it is and whose.
type head struct {
	id, typ, kind, version string
	object, previous       headObject
}

type headObject struct{ id, kind, customer string }

// read gives up on a body that is no JSON object, on names in other letters, twice or escaped, and on values of another shape
// than Stripe's.
func (h *head) read(body []byte) bool {
	dec := jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true))
	ok := fields(dec, func(name string) bool {
		switch name {
		case "id":
			return plain(dec, &h.id)
		case "type":
			return plain(dec, &h.typ)
		case "object":
			return plain(dec, &h.kind)
		case "api_version":
			return plain(dec, &h.version)
		}
		return fields(dec, func(name string) bool {
			if name == "object" {
				return h.object.read(dec)
			}
			return h.previous.read(dec)
		}, "object", "previous_attributes")
	}, "id", "type", "object", "api_version", "data")
	_, err := dec.ReadToken()
	return ok && errors.Is(err, io.EOF)
}

func (o *headObject) read(dec *jsontext.Decoder) bool {
	return fields(dec, func(name string) bool {
		switch name {
		case "id":
			return plain(dec, &o.id)
		case "object":
			return plain(dec, &o.kind)
		}
		if dec.PeekKind() != '{' {
			return plain(dec, &o.customer)
		}
		return fields(dec, func(string) bool { return plain(dec, &o.customer) }, "id") // expanded
	}, "id", "object", "customer")
}

// fields reads an object and has read take in the value of each field that is named; the others are passed over.
func fields(dec *jsontext.Decoder, read func(name string) bool, names ...string) bool {
	if start, err := dec.ReadToken(); err != nil || start.Kind() != '{' {
		return false
	}
	seen := 0
	for dec.PeekKind() == '"' {
		raw, err := dec.ReadValue()
		if err != nil || bytes.IndexByte(raw, '\\') >= 0 {
			return false
		}
		known := -1
		for i, name := range names {
			switch got := raw[1 : len(raw)-1]; {
			case string(got) == name:
				known = i
			case bytes.EqualFold(got, []byte(name)): // encoding/json takes it for that field
				return false
			}
		}
		if known < 0 {
			if _, err := dec.ReadValue(); err != nil {
				return false
			}
			continue
		}
		if seen&(1<<known) != 0 || !read(names[known]) {
			return false
		}
		seen |= 1 << known
	}
	end, err := dec.ReadToken()
	return err == nil && end.Kind() == '}'
}

// plain reads a text without escapes, or null.
func plain(dec *jsontext.Decoder, into *string) bool {
	raw, err := dec.ReadValue()
	if err != nil || bytes.IndexByte(raw, '\\') >= 0 {
		return false
	}
	switch raw.Kind() {
	case 'n':
		return true
	case '"':
		*into = string(raw[1 : len(raw)-1])
		return true
	}
	return false
}
