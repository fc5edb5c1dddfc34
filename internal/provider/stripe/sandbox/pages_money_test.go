package sandbox

import "testing"

func TestFormatMoney(t *testing.T) {
	rows := []struct {
		amount   int64
		currency string
		want     string
	}{
		{0, "usd", "$0.00"},
		{5, "usd", "$0.05"},
		{4900, "usd", "$49.00"},
		{123456789, "USD", "$1,234,567.89"},
		{99999999, "eur", "€999,999.99"},
		{-1050, "gbp", "-£10.50"},
		{4900, "jpy", "¥4,900"},
		{1, "krw", "₩1"},
		{1234567, "bhd", "BHD\u00a01,234.567"},
		{5, "kwd", "KWD\u00a00.005"},
		{500, "isk", "ISK\u00a05.00"},
		{100000, "chf", "CHF\u00a01,000.00"},
	}
	for _, row := range rows {
		if got := formatMoney(row.amount, row.currency); got != row.want {
			t.Errorf("formatMoney(%d, %q) = %q, want %q", row.amount, row.currency, got, row.want)
		}
	}
}

func TestReadExpiry(t *testing.T) {
	for text, want := range map[string]string{
		"12/34": "12/34", "12 / 34": "12/34", "1/34": "01/34", "1234": "12/34", "12/2034": "12/2034", "122034": "12/2034", "12-34": "12/34",
		"": "", "13/34": "", "00/34": "", "12/3": "", "12/345": "", "ab/cd": "", "12": "", "12/34/56": "", "١٢/٣٤": "",
	} {
		if got, ok := readExpiry(text); got != want || ok != (want != "") {
			t.Errorf("readExpiry(%q) = %q, %v, want %q", text, got, ok, want)
		}
	}
}

func TestGroupDigits(t *testing.T) {
	for number, want := range map[string]string{
		"4242424242424242": "4242 4242 4242 4242", "4242 4242 4242 4242": "4242 4242 4242 4242", "378282246310005": "3782 822463 10005",
		"42424": "4242 4", "": "", "12x4": "12x4",
	} {
		if got := groupDigits(number); got != want {
			t.Errorf("groupDigits(%q) = %q, want %q", number, got, want)
		}
	}
}

func TestWithDecline(t *testing.T) {
	no := &hostedDecline{Code: "card_declined", DeclineCode: "insufficient_funds"}
	lost := &hostedDecline{Code: "card_declined", DeclineCode: "lost_card"}
	rows := []struct {
		to      string
		decline *hostedDecline
		want    string
	}{
		{"http://here/c/pay/cs_1", no, "http://here/c/pay/cs_1?declined=insufficient_funds"},
		{"/c/pay/cs_1", lost, "/c/pay/cs_1?declined=card_declined"},
		{"/c/pay/cs_1", nil, "/c/pay/cs_1"},
		{"https://shop.example/c/pay/x", no, "https://shop.example/c/pay/x"},
		{"https://shop.example/back?a=1", no, "https://shop.example/back?a=1"},
	}
	for _, row := range rows {
		if got := withDecline(row.to, "here", row.decline); got != row.want {
			t.Errorf("withDecline(%q) = %q, want %q", row.to, got, row.want)
		}
	}
}
