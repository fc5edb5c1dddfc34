package sandbox

import (
	"strconv"
	"strings"
)

// currencyExponent is the number of decimals in which Stripe counts a currency. ISK and UGX have none in daily life,
// but Stripe still takes them in hundredths: https://docs.stripe.com/currencies#special-cases.
func currencyExponent(currency string) int {
	switch strings.ToLower(currency) {
	case "bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf":
		return 0
	case "bhd", "jod", "kwd", "omr", "tnd":
		return 3
	default:
		return 2
	}
}

// formatMoney writes an amount in minor units as a customer reads it: "$1,234.50", "¥4,900", "BHD 4.900".
func formatMoney(amount int64, currency string) string {
	sign, digits := "", strconv.FormatInt(amount, 10)
	if digits[0] == '-' {
		sign, digits = "-", digits[1:]
	}
	exponent := currencyExponent(currency)
	if missing := exponent + 1 - len(digits); missing > 0 {
		digits = strings.Repeat("0", missing) + digits
	}
	units, fraction := digits[:len(digits)-exponent], digits[len(digits)-exponent:]

	var b strings.Builder
	b.WriteString(sign)
	b.WriteString(currencySymbol(currency))
	for i, digit := range units {
		if i > 0 && (len(units)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(digit)
	}
	if fraction != "" {
		b.WriteByte('.')
		b.WriteString(fraction)
	}
	return b.String()
}

// currencySymbol is what stands before the number; a currency without a sign of its own is named by its code and a
// space that does not break the line.
func currencySymbol(currency string) string {
	switch strings.ToLower(currency) {
	case "usd":
		return "$"
	case "eur":
		return "€"
	case "gbp":
		return "£"
	case "jpy":
		return "¥"
	case "inr":
		return "₹"
	case "krw":
		return "₩"
	case "aud":
		return "A$"
	case "cad":
		return "CA$"
	case "nzd":
		return "NZ$"
	default:
		return strings.ToUpper(currency) + "\u00a0"
	}
}
