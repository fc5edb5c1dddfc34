package commands

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/paykit-go/paykit/internal/events"
)

// The limits of the public contract; lengths are in characters where no unit is said.
const (
	maxDescription    = 1000
	maxReferenceBytes = 255
	maxEmail          = 512
	maxName           = 256
	maxMetadataKeys   = 50
	maxMetadataKey    = 40
	maxMetadataValue  = 500
)

// fields reads a command's body field by field. It remembers the first thing wrong, so that a command reads all of its
// fields in a row and asks once, with refused. A field that is null counts as left out.
type fields struct {
	values object
	known  []string
	first  *events.Error
}

// refused is what is wrong with the body: a field that the command does not have (a slip in a name makes the field
// under its right name missing, so this is said first), else the first fault found; nil if nothing is.
func (f *fields) refused() *events.Error {
	for _, name := range slices.Sorted(maps.Keys(f.values)) {
		if !slices.Contains(f.known, name) {
			return invalid(name, "is not a field of this command")
		}
	}
	return f.first
}

func (f *fields) refuse(refusal *events.Error) {
	if f.first == nil {
		f.first = refusal
	}
}

// value is a field as it was sent, nil if it is left out or null.
func (f *fields) value(name string) any {
	f.known = append(f.known, name)
	return f.values[name]
}

// sent tells whether a field is there, be it null.
func (f *fields) sent(name string) bool {
	_, sent := f.values[name]
	return sent
}

// optionalText is a string field; ok is false if it is left out or no string.
func (f *fields) optionalText(name string) (s string, ok bool) {
	v := f.value(name)
	if v == nil {
		return "", false
	}
	s, ok = v.(string)
	if !ok {
		f.refuse(invalid(name, "must be a string"))
	}
	return s, ok
}

// text is a string field that must be there and not empty.
func (f *fields) text(name string) string {
	s, ok := f.optionalText(name)
	if s == "" && (ok || f.values[name] == nil) {
		f.refuse(invalid(name, "is required"))
	}
	return s
}

// optionalID is the id of something of ours, "" if it is left out. Whether it exists is asked later.
func (f *fields) optionalID(name string) string {
	s, ok := f.optionalText(name)
	if ok && s == "" {
		f.refuse(invalid(name, "must not be empty"))
	}
	return s
}

// flag is a boolean field, false if it is left out.
func (f *fields) flag(name string) bool {
	v := f.value(name)
	b, ok := v.(bool)
	if v != nil && !ok {
		f.refuse(invalid(name, "must be true or false"))
	}
	return b
}

// optionalAmount is an integer in minor units; ok is false if it is left out or no integer of at most 64 bits. Only
// plain digits count: 49.0, 4.9e3 and "4900" are refused, because who sends them may mean something else.
func (f *fields) optionalAmount(name string) (amount int64, ok bool) {
	v := f.value(name)
	if v == nil {
		return 0, false
	}
	n, isNumber := v.(json.Number)
	if !isNumber || strings.ContainsAny(n.String(), ".eE") {
		f.refuse(invalid(name, "must be an integer in minor units (4900 for 49.00 usd)"))
		return 0, false
	}
	amount, err := strconv.ParseInt(n.String(), 10, 64)
	if err != nil { // too many digits, on either side of zero
		amount = events.MaxAmount + 1
		if strings.HasPrefix(n.String(), "-") {
			amount = -1
		}
	}
	return amount, true
}

// money reads amount and currency, which are judged together.
func (f *fields) money(defaultCurrency string) (amount int64, currency string) {
	amount, hasAmount := f.optionalAmount("amount")
	if !hasAmount && f.values["amount"] == nil {
		f.refuse(invalid("amount", "is required"))
	}
	currency, hasCurrency := f.optionalText("currency")
	if f.values["currency"] == nil {
		currency, hasCurrency = defaultCurrency, true
	}
	c := events.Currency(currency)
	switch {
	case !hasCurrency: // refused as no string
	case c.Known():
		if !hasAmount {
			break
		}
		if refusal := c.CheckAmount(amount); refusal != nil {
			f.refuse(refusal)
		}
	case events.Currency(strings.ToLower(currency)).Known():
		f.refuse(invalid("currency", `must be in lower case ("usd")`))
	default:
		f.refuse(invalid("currency", "must be a lower-case ISO 4217 code that the provider takes"))
	}
	return amount, currency
}

// refundAmount is the part of a charge to give back, 0 if it is left out: all that is left.
func (f *fields) refundAmount(name string) int64 {
	amount, ok := f.optionalAmount(name)
	if ok && amount < 1 {
		f.refuse(invalid(name, "must be a positive integer in minor units; leave it out to refund what is left"))
	}
	if amount > events.MaxAmount {
		f.refuse(invalid(name, "must be at most %d", int64(events.MaxAmount)))
	}
	return amount
}

// description is a required text of the app's own, which stays for ever.
func (f *fields) description() string {
	const name = "description"
	s := f.text(name)
	if s != "" && strings.TrimSpace(s) == "" {
		f.refuse(invalid(name, "must not be blank"))
	}
	if utf8.RuneCountInString(s) > maxDescription {
		f.refuse(invalid(name, "must be at most %d characters long", maxDescription))
	}
	f.impersonal(name, personalData(s))
	return s
}

// address is a URL that the buyer is sent to; "" if it is left out and need not be there.
func (f *fields) address(name string, required bool) string {
	s, ok := f.optionalText(name)
	switch {
	case f.values[name] == nil:
		if required {
			f.refuse(invalid(name, "is required"))
		}
		return ""
	case !ok: // refused as no string
		return ""
	}
	if fault := checkURL(s); fault != "" {
		f.refuse(invalid(name, "%s", fault))
	}
	f.impersonal(name, personalDataInURL(s))
	return s
}

// lastingMetadata is the metadata of a charge or a checkout: events carry it, so it must not name a person.
func (f *fields) lastingMetadata(name string) map[string]string {
	m := f.metadata(name)
	for k, v := range m {
		f.impersonal(name, personalData(k))
		f.impersonal(name, personalData(v))
	}
	return m
}

// metadata is a map of strings, nil if it is left out.
func (f *fields) metadata(name string) map[string]string {
	v := f.value(name)
	if v == nil {
		return nil
	}
	o, ok := v.(object)
	if !ok {
		f.refuse(invalid(name, "must be an object of strings"))
		return nil
	}
	if len(o) > maxMetadataKeys {
		f.refuse(invalid(name, "must have at most %d keys", maxMetadataKeys))
	}
	m := make(map[string]string, len(o))
	for _, k := range slices.Sorted(maps.Keys(o)) {
		s, ok := o[k].(string)
		switch {
		case !ok:
			f.refuse(invalid(name, "must have strings as values"))
		case k == "", utf8.RuneCountInString(k) > maxMetadataKey:
			f.refuse(invalid(name, "must have keys of 1 to %d characters", maxMetadataKey))
		case strings.ContainsAny(k, "[]"):
			f.refuse(invalid(name, "must not have brackets in its keys; the provider reserves them"))
		case strings.HasPrefix(k, events.ReservedMetadata):
			f.refuse(invalid(name, "must not have keys that begin with %s; they are reserved", events.ReservedMetadata))
		case utf8.RuneCountInString(s) > maxMetadataValue:
			f.refuse(invalid(name, "must have values of at most %d characters", maxMetadataValue))
		}
		m[k] = s
	}
	return m
}

// impersonal refuses a field in which personal data was found.
func (f *fields) impersonal(name, found string) {
	if found == "" {
		return
	}
	f.refuse(&events.Error{
		Code: events.CodePersonalData, Param: name,
		Message: "seems to hold " + found + "; events keep it for ever, so it must not name a person",
	})
}

// checkReference says what is wrong with the app's own word for a customer; nil if nothing is.
func checkReference(name, s string) *events.Error {
	switch {
	case len(s) > maxReferenceBytes:
		return invalid(name, "must be at most %d bytes long", maxReferenceBytes)
	case strings.ContainsFunc(s, unicode.IsControl):
		return invalid(name, "must not hold control characters")
	}
	return nil
}
