package sandbox

import (
	"slices"
	"strings"
)

// currencies lists what Stripe can charge: https://stripe.com/docs/currencies.
func currencies() []string {
	return strings.Fields(`usd aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd bwp byn bzd cad cdf chf
		clp cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gnf gtq gyd hkd hnl htg huf idr ils inr isk jmd jod
		jpy kes kgs khr kmf krw kwd kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn nio nok npr
		nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr sek sgd shp sle sos srd std svc szl thb tjs tnd top try ttd
		twd tzs uah ugx uyu uzs vnd vuv wst xaf xcd xcg xof xpf yer zar zmw`)
}

// currency reads a currency, which Stripe takes in either case.
func (p *params) currency(required bool) string {
	const name = "currency"
	v := p.text(name)
	if required {
		v = p.need(name)
	}
	v = strings.ToLower(v)
	if v != "" && !slices.Contains(currencies(), v) {
		p.fail(badParam("", p.full(name), "Invalid currency: %s. Stripe currently supports these currencies: %s", v, strings.Join(currencies(), ", ")))
	}
	return v
}

// minimumAmount is the least that Stripe charges in a currency, in minor units:
// https://stripe.com/docs/currencies#minimum-and-maximum-charge-amounts. A currency that is not in its table has none here.
func minimumAmount(currency string) int64 {
	switch currency {
	case "usd", "ars", "aud", "brl", "cad", "chf", "cop", "eur", "idr", "ils", "inr", "jpy", "krw", "nzd", "php", "rub", "sgd", "zar":
		return 50
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

func tooSmall(amount int64, currency string) *apiError {
	least := minimumAmount(currency)
	if amount >= least {
		return nil
	}
	return badParam("amount_too_small", "amount", "Amount must be at least %s %s", formatMoney(least, currency), currency)
}
