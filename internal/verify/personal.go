package verify

import (
	"encoding/json"
	"net/url"
	"regexp"
	"strings"
)

// email is non-space "@" non-space "." letter.
var email = regexp.MustCompile(`[^\s\pZ]@[^\s\pZ]+\.\pL`)

// card is what the cards that most people have look like. Commands refuse more than this; what is found here is a card
// for sure, so that a report is no false alarm.
var card = regexp.MustCompile(`\b(?:4\d{3}|5[1-5]\d{2})[ -]?\d{4}[ -]?\d{4}[ -]?\d{4}\b|\b3[47]\d{2}[ -]?\d{6}[ -]?\d{5}\b`)

// words looks for personal data in the app's own words. The problem does not repeat them.
func (s *step) words(field, text string) {
	switch {
	case email.MatchString(text):
		s.problem("%s holds an e-mail address", field)
	case holdsCard(text):
		s.problem("%s holds a card number", field)
	}
}

// address looks in an address, and in what it says once it is decoded.
func (s *step) address(field, address string) {
	plain, err := url.QueryUnescape(address)
	if err != nil || email.MatchString(address) || holdsCard(address) {
		plain = address
	}
	s.words(field, plain)
}

// profile looks for what a customer's event must never hold, since it stays for ever: a reader would skip the fields.
func (s *step) profile() {
	var stored struct {
		Data struct {
			Customer map[string]json.RawMessage `json:"customer"`
		} `json:"data"`
	}
	if err := json.Unmarshal(s.entry.Raw, &stored); err != nil {
		s.problem("the customer can't be read")
		return
	}
	for _, field := range []string{"email", "name", "phone", "address", "metadata"} {
		if value, ok := stored.Data.Customer[field]; ok && string(value) != "null" {
			s.problem("the customer's %s is in the log", field)
		}
	}
}

func (s *step) metadata(m map[string]string) {
	for k, v := range m {
		s.words("a key of metadata", k)
		s.words("metadata", v)
	}
}

func holdsCard(text string) bool {
	for _, number := range card.FindAllString(text, -1) {
		if luhn(strings.NewReplacer(" ", "", "-", "").Replace(number)) {
			return true
		}
	}
	return false
}

// luhn tests the check digit that every card number ends with.
func luhn(number string) bool {
	sum := 0
	for i := range len(number) {
		d := int(number[len(number)-1-i] - '0')
		if i%2 == 1 {
			d *= 2
			if d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}
