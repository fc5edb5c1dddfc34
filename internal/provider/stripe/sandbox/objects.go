package sandbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
)

// nullable is a string that Stripe shows as null when it is empty.
type nullable string

// MarshalJSON renders the empty value as null.
func (n nullable) MarshalJSON() ([]byte, error) {
	if n == "" {
		return []byte("null"), nil
	}
	return json.Marshal(string(n))
}

// nullInt is a number (mostly a Unix time) that Stripe shows as null when it is zero.
type nullInt int64

// MarshalJSON renders zero as null.
func (n nullInt) MarshalJSON() ([]byte, error) {
	if n == 0 {
		return []byte("null"), nil
	}
	return json.Marshal(int64(n))
}

// null is a field that the sandbox never fills.
type null struct{}

// MarshalJSON renders null.
func (null) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// nullIfSet is a field that the sandbox never fills, and that Stripe leaves out of some objects: true is null, false is
// not there (with omitzero).
type nullIfSet bool

// MarshalJSON renders null.
func (nullIfSet) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// UnmarshalJSON is called for a field that is there.
func (n *nullIfSet) UnmarshalJSON([]byte) error {
	*n = true
	return nil
}

// none is an empty object.
type none struct{}

type address struct {
	City       nullable `json:"city"`
	Country    nullable `json:"country"`
	Line1      nullable `json:"line1"`
	Line2      nullable `json:"line2"`
	PostalCode nullable `json:"postal_code"`
	State      nullable `json:"state"`
}

type billingDetails struct {
	Address address  `json:"address"`
	Email   nullable `json:"email"`
	Name    nullable `json:"name"`
	Phone   nullable `json:"phone"`
}

type shippingDetails struct {
	Address        *address `json:"address"`
	Carrier        nullable `json:"carrier"`
	Name           nullable `json:"name"`
	Phone          nullable `json:"phone"`
	TrackingNumber nullable `json:"tracking_number"`
}

// shipping reads the shipping hash of customers and payment intents.
func (p *params) shipping() (*shippingDetails, bool) {
	if !p.has("shipping") {
		return nil, false
	}
	sh := p.sub("shipping")
	if sh.n == nil {
		return nil, true
	}
	out := &shippingDetails{Address: sh.address("address")}
	sh.set("carrier", &out.Carrier)
	sh.set("name", &out.Name)
	sh.set("phone", &out.Phone)
	sh.set("tracking_number", &out.TrackingNumber)
	return out, true
}

type deletedObject struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Deleted bool   `json:"deleted"`
}

// snapshot renders an object as it is now.
func snapshot(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic("sandbox: snapshot: " + err.Error())
	}
	return b
}

// decodeExactly reads what snapshot wrote; numbers of no fixed type keep their digits.
func decodeExactly(raw []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("decode %T: %w", into, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("decode %T: something follows", into)
	}
	return nil
}

func decodeObject(raw []byte) map[string]any {
	var m map[string]any
	if err := decodeExactly(raw, &m); err != nil {
		panic("sandbox: " + err.Error())
	}
	return m
}

// changed returns what differs in next, with the values of prev: Stripe's previous_attributes. Objects are compared
// key by key, one level after the other; a key that was not there before is null.
func changed(prev, next map[string]any) map[string]any {
	out := map[string]any{}
	for k, now := range next {
		was, existed := prev[k]
		if !existed {
			out[k] = nil
			continue
		}
		wasMap, wasObject := was.(map[string]any)
		nowMap, nowObject := now.(map[string]any)
		if wasObject && nowObject {
			if diff := changed(wasMap, nowMap); len(diff) > 0 {
				out[k] = diff
			}
			continue
		}
		if !reflect.DeepEqual(was, now) {
			out[k] = was
		}
	}
	for k, was := range prev {
		if _, still := next[k]; !still {
			out[k] = was
		}
	}
	return out
}
