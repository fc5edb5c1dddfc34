package commands

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// personalData says what personal data a text holds that would stay in the event log for ever: "an e-mail address", "a
// card number", or "" for none. Both tests rather refuse too much: a text can be put in other words, an event can't
// be taken back.
func personalData(s string) string {
	switch {
	case holdsEmail(s):
		return "an e-mail address"
	case holdsCardNumber(s):
		return "a card number"
	}
	return ""
}

// personalDataInURL also looks at what the address says once percent-encoding is undone, "+" for a space included.
func personalDataInURL(s string) string {
	// Encoding can be wrapped in encoding (a return address inside a return address).
	for range 4 {
		if found := personalData(s); found != "" {
			return found
		}
		if found := personalData(strings.ReplaceAll(s, "+", " ")); found != "" {
			return found
		}
		decoded := unescape(s)
		if decoded == s {
			return ""
		}
		s = decoded
	}
	return personalData(s)
}

// unescape undoes percent-encoding; an escape that is none stays as it is and does not shield the others.
func unescape(s string) string {
	if whole, err := url.PathUnescape(s); err == nil {
		return whole
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// email is non-space "@" non-space "." letter.
var email = regexp.MustCompile(`[^\s\pZ]@[^\s\pZ]+\.\pL`)

func holdsEmail(s string) bool { return email.MatchString(s) }

// cardDigits bounds how many digits a card number has.
const (
	minCardDigits = 13
	maxCardDigits = 19
)

// holdsCardNumber looks for 13 to 19 digits, with spaces and dashes allowed between them, that have a card brand's
// prefix and length and pass the Luhn test. A number begins and ends where a group of digits does, so a card beside
// another number is found, and a piece of a long number is not taken for a card.
func holdsCardNumber(s string) bool {
	var run []string // groups of digits with nothing but spaces and dashes between them
	var group strings.Builder
	flush := func() {
		if group.Len() > 0 {
			run = append(run, group.String())
			group.Reset()
		}
	}
	for _, r := range s {
		switch {
		case r >= '0' && r <= '9':
			group.WriteRune(r)
		case unicode.IsSpace(r), unicode.Is(unicode.Pd, r):
			flush()
		default:
			flush()
			if cardAmong(run) {
				return true
			}
			run = run[:0]
		}
	}
	flush()
	return cardAmong(run)
}

// cardAmong tells whether neighbouring groups of digits together are a card number.
func cardAmong(groups []string) bool {
	for i := range groups {
		number := ""
		for _, g := range groups[i:] {
			if len(number)+len(g) > maxCardDigits {
				break
			}
			number += g
			if len(number) >= minCardDigits && cardBrand(number) && luhn(number) {
				return true
			}
		}
	}
	return false
}

// cardBrand tells whether a card brand has numbers with this prefix and length.
// Source: https://en.wikipedia.org/wiki/Payment_card_number#Issuer_identification_number_(IIN)
func cardBrand(number string) bool {
	prefix := func(n int) int {
		p, err := strconv.Atoi(number[:n])
		if err != nil {
			return -1
		}
		return p
	}
	within := func(v, from, to int) bool { return v >= from && v <= to }
	n := len(number)
	two, three, four := prefix(2), prefix(3), prefix(4)
	switch {
	case number[0] == '4': // Visa
		return n == 13 || n == 16 || n == 19
	case within(two, 51, 55), within(four, 2221, 2720): // Mastercard
		return n == 16
	case two == 34, two == 37: // American Express
		return n == 15
	case within(three, 300, 305), four == 3095, two == 36, two == 38, two == 39: // Diners Club
		return n >= 14
	case within(four, 3528, 3589): // JCB
		return n >= 16
	case four == 6011, within(three, 644, 649), two == 65: // Discover
		return n >= 16
	case two == 62, two == 81: // UnionPay
		return n >= 16
	case within(four, 2200, 2204): // Mir
		return n >= 16
	case four == 5018, four == 5020, four == 5038, four == 5893, four == 6304, four == 6759, within(four, 6761, 6763): // Maestro
		return true
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
