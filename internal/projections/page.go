package projections

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"

	"github.com/paykit-go/paykit/internal/events"
)

const (
	defaultLimit = 20
	maxLimit     = 100
)

// page collects a list's items until the limit, or until one more would make the answer too large for a message.
type page struct {
	kind     string   // of the cursor
	prefix   []uint64 // of the cursor: what a walk must remember beside its place
	limit    int
	budget   int    // bytes
	sequence uint64 // that the views had before they were read: they have it at least
	text     []byte // the answer so far
	count    int
	last     uint64 // the place of the last item
	more     bool   // there is a next page
}

// add takes in the item at a place, tail put behind it. It answers false, and takes nothing, if the page is full.
func (p *page) add(place uint64, item []byte, tail string) bool {
	if p.count == p.limit || p.count > 0 && len(p.text)+len(item)+len(tail) > p.budget {
		p.more = true
		return false
	}
	if p.count > 0 {
		p.text = append(p.text, ',')
	}
	p.text = append(p.text, item...)
	p.text = append(p.text, tail...)
	p.count++
	p.last = place
	return true
}

// answer is {"items":[…]}, and "nextCursor" if there is a next page.
func (p *page) answer() answer {
	p.text = append(p.text, ']')
	if p.more {
		p.text = append(p.text, `,"nextCursor":"`...)
		p.text = append(p.text, encodeCursor(p.kind, append(p.prefix, p.last)...)...)
		p.text = append(p.text, '"')
	}
	p.text = append(p.text, '}')
	return answer{Sequence: p.sequence, Data: p.text}
}

// encodeCursor makes a list's place opaque. kind keeps a cursor of one list from being used with another.
func encodeCursor(kind string, place ...uint64) string {
	b := []byte(kind)
	for _, n := range place {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// cursor reads the body's cursor of n numbers; nil if there is none.
func (b body) cursor(kind string, n int) ([]uint64, error) {
	text, err := b.text("cursor")
	if err != nil || text == "" {
		return nil, err
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != len(kind)+8*n || string(raw[:len(kind)]) != kind {
		return nil, invalid("cursor", "is not a cursor of this list; pass on nextCursor as it came, or leave it out")
	}
	place := make([]uint64, n)
	for i := range place {
		place[i] = binary.BigEndian.Uint64(raw[len(kind)+8*i:])
	}
	return place, nil
}

// newPage begins a page with the body's limit.
func (q *queries) newPage(b query, kind string) (*page, error) {
	p := &page{
		kind: kind, limit: defaultLimit, budget: q.budget, sequence: q.store.has(), text: append(b.buffer, `{"items":[`...),
	}
	raw := b.get("limit")
	if raw == nil {
		return p, nil
	}
	if err := json.Unmarshal(raw, &p.limit); err != nil || p.limit < 1 || p.limit > maxLimit {
		return nil, invalid("limit", "must be an integer from 1 to 100")
	}
	return p, nil
}

// page begins a page of a list whose place is one number, and tells the place behind which it goes on (0 = at the
// beginning).
func (q *queries) page(b query, kind string) (*page, uint64, error) {
	p, err := q.newPage(b, kind)
	if err != nil {
		return nil, 0, err
	}
	place, err := b.cursor(kind, 1)
	if err != nil || place == nil {
		return p, 0, err
	}
	return p, place[0], nil
}

// invalid is the refusal of a request whose field is at fault.
func invalid(param, message string) *events.Error {
	return &events.Error{Code: events.CodeInvalidRequest, Message: message, Param: param}
}
