package sandbox

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// authRule says when a card asks for 3-D Secure.
type authRule int

const (
	authNever       authRule = iota
	authUntilSetUp           // at setup, and at payments until it was set up
	authAlways               // at setup and at every payment; off-session payments are declined
	authOnSession            // at on-session payments only: it counts as set up already
	authThenDecline          // on session first 3-D Secure, then the decline; off session the decline at once
)

// decline is why the issuer (or the card network's checks) says no.
type decline struct {
	code, declineCode, message, param string
	adviceCode                        string // what the issuer advises: do_not_try_again, …
}

// cardRule is how one test card behaves: https://stripe.com/docs/testing.
type cardRule struct {
	number      string
	name        string // pm_card_<name> and tok_<name>
	brand       string
	funding     string // empty: credit
	auth        authRule
	saveDecline *decline // when attached or set up
	payDecline  *decline // when charged
	blocked     bool     // the decline is Radar's, not the issuer's
	dispute     string   // reason of the dispute that follows a payment; "inquiry" for a warning
	fraudReport bool     // an early fraud warning follows a payment
	refundFirst string   // status of a new refund; empty: succeeded
	refundThen  string   // status it takes later; empty: it stays
	bank        bool     // no card but a bank account: money and decline come later
}

// cardRuleName is what the state file holds of a rule: never the number.
type cardRuleName struct {
	Name  string `json:"name,omitempty"` // of a test card
	Brand string `json:"brand"`
}

// MarshalJSON renders the rule by name.
func (r cardRule) MarshalJSON() ([]byte, error) {
	return json.Marshal(cardRuleName{Name: r.name, Brand: r.brand}) //nolint:wrapcheck // of this package's own encoding
}

// UnmarshalJSON finds the rule by its name.
func (r *cardRule) UnmarshalJSON(b []byte) error {
	var named cardRuleName
	if err := json.Unmarshal(b, &named); err != nil {
		return fmt.Errorf("card rule: %w", err)
	}
	*r = cardRule{brand: named.Brand}
	if named.Name == "" {
		return nil
	}
	rule, ok := ruleByName("pm_card_" + named.Name)
	if !ok {
		rule, ok = bankAccountByName(named.Name)
	}
	if !ok {
		return fmt.Errorf("no test card is called %q", named.Name)
	}
	*r = rule
	r.number = ""
	return nil
}

func declined(declineCode, message string) *decline {
	return &decline{code: codeCardDeclined, declineCode: declineCode, message: message}
}

func genericDecline() *decline { return declined("generic_decline", "Your card was declined.") }

func noFunds() *decline {
	return declined("insufficient_funds", "Your card has insufficient funds.")
}

func authenticationNeeded() *decline {
	return &decline{
		code: codeAuthRequired, declineCode: codeAuthRequired,
		message: "Your card was declined. This transaction requires authentication.",
	}
}

// testCards lists Stripe's test cards. A card that declines does so when it is saved too, except …0341.
func testCards() []cardRule {
	refusedEverywhere := func(number, name string, d *decline) cardRule {
		return cardRule{number: number, name: name, brand: "visa", saveDecline: d, payDecline: d}
	}
	return []cardRule{
		{number: "4242424242424242", name: "visa", brand: "visa"},
		{number: "4000056655665556", name: "visa_debit", brand: "visa", funding: "debit"},
		{number: "5555555555554444", name: "mastercard", brand: "mastercard"},
		{number: "5200828282828210", name: "mastercard_debit", brand: "mastercard", funding: "debit"},
		{number: "5105105105105100", name: "mastercard_prepaid", brand: "mastercard", funding: "prepaid"},
		{number: "378282246310005", name: "amex", brand: "amex"},
		{number: "6011111111111117", name: "discover", brand: "discover"},
		{number: "3056930009020004", name: "diners", brand: "diners"},
		{number: "3566002020360505", name: "jcb", brand: "jcb"},
		{number: "6200000000000005", name: "unionpay", brand: "unionpay"},

		{number: "4000000000000341", name: "chargeCustomerFail", brand: "visa", payDecline: genericDecline()},
		refusedEverywhere("4000000000000002", "visa_chargeDeclined", genericDecline()),
		refusedEverywhere("4000000000009995", "visa_chargeDeclinedInsufficientFunds", noFunds()),
		refusedEverywhere("4000000000009987", "visa_chargeDeclinedLostCard", declined("lost_card", "Your card was declined.")),
		refusedEverywhere("4000000000009979", "visa_chargeDeclinedStolenCard", declined("stolen_card", "Your card was declined.")),
		refusedEverywhere("4000000000006975", "visa_chargeDeclinedVelocityLimitExceeded", declined("card_velocity_exceeded",
			"Your card was declined for making repeated attempts too frequently or exceeding its amount limit.")),
		refusedEverywhere("4000000000000069", "chargeDeclinedExpiredCard",
			&decline{code: "expired_card", message: "Your card has expired.", param: "exp_month"}),
		refusedEverywhere("4000000000000127", "chargeDeclinedIncorrectCvc",
			&decline{code: "incorrect_cvc", message: "Your card's security code is incorrect.", param: "cvc"}),
		refusedEverywhere("4000000000000119", "chargeDeclinedProcessingError",
			&decline{code: "processing_error", message: "An error occurred while processing your card. Try again in a little bit."}),
		{number: "4100000000000019", name: "radarBlock", brand: "visa", blocked: true, payDecline: declined("fraudulent", "Your card was declined.")},

		{number: "4000002500003155", name: "authenticationRequiredOnSetup", brand: "visa", auth: authUntilSetUp},
		{number: "4000002760003184", name: "authenticationRequired", brand: "visa", auth: authAlways},
		{number: "4000000000003220", name: "threeDSecure2Required", brand: "visa", auth: authAlways},
		{number: "4000003800000446", name: "authenticationRequiredSetupForOffSession", brand: "visa", auth: authOnSession},
		{
			number: "4000008260003178", name: "authenticationRequiredChargeDeclinedInsufficientFunds", brand: "visa",
			auth: authThenDecline, payDecline: noFunds(),
		},

		{number: "4000000000000259", name: "createDispute", brand: "visa", dispute: "fraudulent"},
		{number: "4000000000002685", name: "createDisputeProductNotReceived", brand: "visa", dispute: "product_not_received"},
		{number: "4000000000001976", name: "createDisputeInquiry", brand: "visa", dispute: disputeInquiry},
		{number: "4000000000005423", name: "createIssuerFraudRecord", brand: "visa", fraudReport: true},
		{number: "4000000000007726", name: "pendingRefund", brand: "visa", refundFirst: refundPending, refundThen: refundSucceeded},
		{number: "4000000000005126", name: "refundFail", brand: "visa", refundThen: refundFailed},
	}
}

// ruleByName finds the card behind pm_card_… or tok_…, or the bank account behind pm_usBankAccount_….
func ruleByName(token string) (cardRule, bool) {
	if account, ok := strings.CutPrefix(token, "pm_"); ok {
		if rule, ok := bankAccountByName(account); ok {
			return rule, true
		}
	}
	name, ok := strings.CutPrefix(token, "pm_card_")
	if !ok {
		if name, ok = strings.CutPrefix(token, "tok_"); !ok {
			return cardRule{}, false
		}
	}
	switch name { // other names that Stripe gives the same behaviour
	case "us":
		name = "visa"
	case "chargeDeclined":
		name = "visa_chargeDeclined"
	case "chargeDeclinedInsufficientFunds":
		name = "visa_chargeDeclinedInsufficientFunds"
	case "chargeDeclinedFraudulent":
		name = "radarBlock"
	}
	for _, rule := range testCards() {
		if rule.name == name {
			return rule, true
		}
	}
	return cardRule{}, false
}

// ruleByNumber finds a test card, or makes an ordinary card of any other number that a brand could have issued.
func ruleByNumber(number string) (cardRule, bool) {
	for _, rule := range testCards() {
		if rule.number == number {
			return rule, true
		}
	}
	brand := brandOf(number)
	return cardRule{number: number, brand: brand}, brand != "" && luhn(number)
}

// brandOf tells the brand by prefix and length, "" when there is none.
func brandOf(number string) string {
	for _, b := range []struct{ brand, pattern string }{
		{"visa", `^4(\d{12}|\d{15}|\d{18})$`},
		{"mastercard", `^(5[1-5]\d{14}|2(22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12})$`},
		{"amex", `^3[47]\d{13}$`},
		{"discover", `^(6011\d{12}|64[4-9]\d{13}|65\d{14})$`},
		{"diners", `^3(0[0-5]|[689]\d)\d{11,16}$`},
		{"jcb", `^35\d{14}$`},
		{"unionpay", `^62\d{14,17}$`},
	} {
		if regexp.MustCompile(b.pattern).MatchString(number) {
			return b.brand
		}
	}
	return ""
}

// luhn checks the last digit of a card number.
func luhn(number string) bool {
	sum := 0
	for i := range len(number) {
		d := int(number[len(number)-1-i] - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

// typedCard is a card as a buyer or a caller typed it, checked.
type typedCard struct {
	rule     cardRule
	expMonth int64
	expYear  int64
	cvcGiven bool
}

func cardError(code, param, message string) *apiError {
	return &apiError{status: 402, Type: typeCard, Code: code, Param: param, Message: message}
}

// plainNumber takes the spaces and dashes out of a typed card number.
func plainNumber(typed string) string { return strings.NewReplacer(" ", "", "-", "").Replace(typed) }

// checkCard refuses what no card can be. An empty cvc is allowed, as Stripe allows it.
func checkCard(number string, expMonth, expYear int64, cvc string, now time.Time) (typedCard, *apiError) {
	number = plainNumber(number)
	rule, ok := ruleByNumber(number)
	if expYear >= 0 && expYear < 100 {
		expYear += 2000
	}
	_, cvcErr := strconv.ParseUint(cvc, 10, 32)
	switch {
	case number == "" || strings.Trim(number, "0123456789") != "":
		return typedCard{}, cardError("invalid_number", "number", "The card number is not a valid credit card number.")
	case !ok:
		return typedCard{}, cardError("incorrect_number", "number", "Your card number is incorrect.")
	case expMonth < 1 || expMonth > 12:
		return typedCard{}, cardError("invalid_expiry_month", "exp_month", "Your card's expiration month is invalid.")
	case expYear < int64(now.Year()) || expYear > int64(now.Year())+50:
		return typedCard{}, cardError("invalid_expiry_year", "exp_year", "Your card's expiration year is invalid.")
	case expYear == int64(now.Year()) && expMonth < int64(now.Month()):
		return typedCard{}, cardError("invalid_expiry_month", "exp_month", "Your card's expiration month is invalid.")
	case cvc != "" && (cvcErr != nil || len(cvc) != cvcLength(rule.brand)):
		return typedCard{}, cardError("invalid_cvc", "cvc", "Your card's security code is invalid.")
	}
	return typedCard{rule: rule, expMonth: expMonth, expYear: expYear, cvcGiven: cvc != ""}, nil
}

func cvcLength(brand string) int {
	if brand == "amex" {
		return 4
	}
	return 3
}

// parseExpiry reads MM/YY or MM/YYYY.
func parseExpiry(expiry string) (month, year int64) {
	m, y, _ := strings.Cut(expiry, "/")
	month, errM := strconv.ParseInt(strings.TrimSpace(m), 10, 32)
	year, errY := strconv.ParseInt(strings.TrimSpace(y), 10, 32)
	if errM != nil {
		month = 0
	}
	if errY != nil {
		year = -1
	}
	return month, year
}

// needsAuthentication says whether a payment with this method goes through 3-D Secure first.
func (m *paymentMethod) needsAuthentication(offSession bool) bool {
	switch m.rule.auth {
	case authUntilSetUp:
		return !m.setUp
	case authAlways:
		return true
	case authOnSession, authThenDecline:
		return !offSession
	case authNever:
	}
	return false
}

// setupNeedsAuthentication says whether saving this method for later goes through 3-D Secure.
func (m *paymentMethod) setupNeedsAuthentication() bool {
	return m.rule.auth == authUntilSetUp || m.rule.auth == authAlways || m.rule.auth == authThenDecline
}
