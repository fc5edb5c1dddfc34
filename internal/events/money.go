package events

import (
	"strconv"
	"strings"
)

// MaxAmount is the largest amount of one charge, in minor units (Stripe: eight digits).
// Source: https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts
const MaxAmount = 99_999_999

// Currency is a lower-case ISO 4217 code with Stripe's own rules, which differ from ISO's: amounts of ISK and UGX are
// sent with two decimals that must be zero, those of the three-decimal currencies end in 0.
// Source: https://docs.stripe.com/currencies#special-cases
type Currency string

// currencies that Stripe takes payments in, three letters and a space each. Those of three decimals, and some others, only
// for accounts of some countries: Stripe refuses the rest.
// Source: https://docs.stripe.com/currencies#presentment-currencies
const currencies = "usd aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd bwp byn bzd cad cdf chf clp " +
	"cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gnf gtq gyd hkd hnl htg huf idr ils inr isk " +
	"jmd jod jpy kes kgs khr kmf krw kwd kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop mur mvr mwk mxn myr mzn " +
	"nad ngn nio nok npr nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr sek sgd shp sle sos srd std " +
	"szl thb tjs tnd top try ttd twd tzs uah ugx uyu uzs vnd vuv wst xaf xcd xcg xof xpf yer zar zmw"

// Currencies lists the currencies that Stripe takes payments in.
func Currencies() []string { return strings.Fields(currencies) }

// Known tells whether Stripe takes payments in the currency.
func (c Currency) Known() bool {
	return len(c) == 3 && strings.Index(currencies, string(c))%4 == 0
}

// Exponent is how many decimals the currency's minor unit stands for: 0, 2 or 3.
func (c Currency) Exponent() int {
	switch c {
	case "bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf":
		return 0
	case "bhd", "jod", "kwd", "omr", "tnd":
		return 3
	}
	return 2
}

// step is what an amount must be a multiple of.
func (c Currency) step() int64 {
	switch c {
	case "isk", "ugx":
		return 100
	case "bhd", "jod", "kwd", "omr", "tnd":
		return 10
	}
	return 1
}

// Minimum is Stripe's smallest charge, in minor units; 1 where Stripe names none. Stripe itself measures in the currency
// that the account is paid out in, so it may refuse more than this.
// Source: https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts
func (c Currency) Minimum() int64 {
	switch c {
	case "usd", "ars", "aud", "brl", "cad", "chf", "cop", "eur", "idr", "ils", "inr", "jpy", "krw", "nzd", "php", "rub", "sgd", "zar":
		return 50 // of yen and won, which have no smaller unit, 50 whole ones
	case "gbp":
		return 30
	case "bgn":
		return 100
	case "aed", "myr", "pln", "ron":
		return 200
	case "dkk":
		return 250
	case "nok", "sek":
		return 300
	case "hkd":
		return 400
	case "mxn", "thb":
		return 1000
	case "czk":
		return 1500
	case "huf":
		return 17500
	}
	return 1
}

// CheckAmount tells why amount can't be charged in the currency; nil if it can.
func (c Currency) CheckAmount(amount int64) *Error {
	switch {
	case amount < 1:
		return refuse(CodeInvalidRequest, "amount", "must be a positive integer in minor units (4900 for 49.00 usd)")
	case amount > MaxAmount:
		return refuse(CodeInvalidRequest, "amount", "must be at most %d", MaxAmount)
	case amount < c.Minimum():
		return refuse(CodeInvalidRequest, "amount", "must be at least %d for %s", c.Minimum(), c)
	case amount%c.step() != 0:
		return refuse(CodeInvalidRequest, "amount", "must be a multiple of %d for %s", c.step(), c)
	}
	return nil
}

// FormatAmount writes an amount for people: "49.00 USD", "4900 JPY".
func FormatAmount(amount int64, currency string) string {
	digits := strconv.FormatInt(amount, 10)
	sign := ""
	if amount < 0 {
		sign, digits = "-", digits[1:]
	}
	if exp := Currency(currency).Exponent(); exp > 0 {
		if pad := exp + 1 - len(digits); pad > 0 {
			digits = strings.Repeat("0", pad) + digits
		}
		digits = digits[:len(digits)-exp] + "." + digits[len(digits)-exp:]
	}
	return sign + digits + " " + strings.ToUpper(currency)
}
