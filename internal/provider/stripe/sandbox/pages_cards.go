package sandbox

import (
	"fmt"
	"net/url"
	"strings"
	"time"
)

// testCard is a card that fills the form with one click.
type testCard struct {
	Number, Label string
	Outcome       string // good, ask, bad or later: the colour of its mark
	Expiry, CVC   string
	Name          string
	Href          string // fills the form without script
	Chosen        bool
}

// Short is the number as a button shows it.
func (c testCard) Short() string { return "•••• " + c.Number[len(c.Number)-4:] }

// Pretty is the number in groups, as it stands on a card.
func (c testCard) Pretty() string { return groupDigits(c.Number) }

// commonCards are the ones that most people want; all of them are in the table of test cards in Stripe's documentation.
func commonCards() []testCard {
	return []testCard{
		{Number: "4242424242424242", Label: "Succeeds", Outcome: "good"},
		{Number: "4000002500003155", Label: "3-D Secure", Outcome: "ask"},
		{Number: "4000000000000002", Label: "Is declined", Outcome: "bad"},
		{Number: "4000000000009995", Label: "Insufficient funds", Outcome: "bad"},
	}
}

// rareCards are shown on demand.
func rareCards() []testCard {
	return []testCard{
		{Number: "5555555555554444", Label: "Succeeds, Mastercard", Outcome: "good"},
		{Number: "378282246310005", Label: "Succeeds, American Express", Outcome: "good"},
		{Number: "4000002760003184", Label: "3-D Secure every time", Outcome: "ask"},
		{Number: "4000008260003178", Label: "3-D Secure, then no funds", Outcome: "ask"},
		{Number: "4000000000000069", Label: "Expired card", Outcome: "bad"},
		{Number: "4000000000000127", Label: "Incorrect CVC", Outcome: "bad"},
		{Number: "4000000000000119", Label: "Processing error", Outcome: "bad"},
		{Number: "4000000000009987", Label: "Lost card", Outcome: "bad"},
		{Number: "4000000000009979", Label: "Stolen card", Outcome: "bad"},
		{Number: "4000000000006975", Label: "Too many attempts", Outcome: "bad"},
		{Number: failsWhenCharged, Label: "Can be saved, fails when charged", Outcome: "later"},
		{Number: "4000000000000259", Label: "Succeeds, then disputed", Outcome: "later"},
		{Number: "4000000000007726", Label: "A refund takes a while", Outcome: "later"},
		{Number: "4000000000005126", Label: "A refund fails later", Outcome: "later"},
	}
}

// failsWhenCharged is the card that a setup saves and every payment declines.
const failsWhenCharged = "4000000000000341"

// offerCards completes cards for one session's page, which saves a card (setup) or charges it. Expiry lies some years after now, the sandbox's time, so that the
// buttons still work when its clock was moved ahead.
func offerCards(cards []testCard, sessionID, chosen string, setup bool, now time.Time) []testCard {
	for i := range cards {
		card := &cards[i]
		card.Expiry = fmt.Sprintf("12 / %02d", (now.Year()+4)%100)
		card.CVC = "123"
		if strings.HasPrefix(card.Number, "37") {
			card.CVC = "1234"
		}
		card.Name = "Jenny Rosen"
		if card.Number == failsWhenCharged && !setup {
			card.Label, card.Outcome = "Can be saved, not charged", "bad"
		}
		card.Href = checkoutPath(sessionID) + "?" + url.Values{"card": {card.Number}}.Encode() + "#card-form"
		card.Chosen = card.Number == chosen
	}
	return cards
}

// groupDigits writes a card number in the groups in which it is printed; anything but digits and spaces stays as it is.
func groupDigits(number string) string {
	digits := strings.ReplaceAll(number, " ", "")
	if !onlyDigits(digits) {
		return number
	}
	amex := strings.HasPrefix(digits, "34") || strings.HasPrefix(digits, "37")
	var b strings.Builder
	for i, digit := range digits {
		if amex && (i == 4 || i == 10) || !amex && i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(digit)
	}
	return b.String()
}

func onlyDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// brandName is a brand as a bank writes it.
func brandName(brand string) string {
	switch brand {
	case "visa":
		return "Visa"
	case "mastercard":
		return "Mastercard"
	case "amex":
		return "American Express"
	case "discover":
		return "Discover"
	case "diners":
		return "Diners Club"
	case "jcb":
		return "JCB"
	case "unionpay":
		return "UnionPay"
	default:
		return "Card"
	}
}
