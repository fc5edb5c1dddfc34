package commands

import (
	"strings"
	"testing"
)

func TestPersonalData(t *testing.T) {
	for _, s := range []string{
		"a@b.c", "bob@example.com", "for bob@example.com, thanks", "mailto:bob+x@mail.example.org.", "bob@exämple.de", "Ünal@x.y",
		"<bob@example.com>", "a@@b.c",
		"4242424242424242", "4242 4242 4242 4242", "4242-4242-4242-4242", "card:4242424242424242;", "x4242424242424242y",
		"order 12345 4242424242424242", "4242 4242 4242 4242 12/28", "4242424242424242 123", "42 42 42 42 42 42 42 42", "4242  4242 - 4242 4242",
		"4222222222222",                      // Visa of 13
		"4000000000000000006",                // Visa of 19
		"5555555555554444",                   // Mastercard
		"2223003122003222",                   // Mastercard, 2 series
		"378282246310005",                    // American Express
		"3782 822463 10005",                  // as printed
		"6011111111111117",                   // Discover
		"3056930009020004",                   // Diners Club of 16
		"36227206271667",                     // Diners Club of 14
		"6200000000000005",                   // UnionPay
		"6205500000000000004",                // UnionPay of 19
		"3566002020360505",                   // JCB
		"6759649826438453",                   // Maestro
		"2200000000000004",                   // Mir
		"4242\u00a04242\u20134242\u20134242", // a space that does not break, dashes of a typesetter
	} {
		if personalData(s) == "" {
			t.Errorf("%q was not found out", s)
		}
	}
	for _, s := range []string{
		"", "Pro plan, March", "@bob", "bob@", "bob@localhost", "5 @ 4.50 each", "meet at 5 @ the.pub", "a @b.c", "v1@2.3",
		"4242424242424241",     // fails Luhn
		"424242424242",         // 12 digits
		"0000000000000000",     // no brand
		"9999999999999995",     // no brand
		"42424242424242424242", // 20 digits: no card's length, and no piece of it counts
		"4242.4242.4242.4242",  // dots
		"4242a4242a4242a4242",  // letters
		"2026-11-22 06:14:00",  //
		"+49 30 1234567, invoice 2026-000123",
		"01JDABCDEFGHJKMNPQRSTVWXYZ",
		"6f1ed002-ab5c-41d2-8d3c-0123456789ab",
		"424242424242424 2424",
	} {
		if found := personalData(s); found != "" {
			t.Errorf("%q was taken for %s", s, found)
		}
	}
}

func TestPersonalDataInURL(t *testing.T) {
	for _, s := range []string{
		"https://x.example/?u=bob@example.com", "https://x.example/?u=bob%40example.com", "https://x.example/bob%2540example.com",
		"https://x.example/?u=bob%40example%2Ecom", "https://x.example/?c=4242+4242+4242+4242", "https://x.example/?c=4242%204242%204242%204242",
		"https://x.example/?c=%34242424242424242", "https://x.example/%zz?u=bob%40example.com",
		"https://x.example/?next=https%253A%252F%252Fy.example%252F%253Fu%253Dbob%252540example.com",
	} {
		if personalDataInURL(s) == "" {
			t.Errorf("%q was not found out", s)
		}
	}
	for _, s := range []string{
		"https://x.example/ok?session={CHECKOUT_SESSION_ID}", "https://x.example/%zz", "https://x.example/a%2Fb?x=1%20000+2", "",
	} {
		if found := personalDataInURL(s); found != "" {
			t.Errorf("%q was taken for %s", s, found)
		}
	}
}

func TestCheckURL(t *testing.T) {
	const prefix = "https://x.example/"
	for _, s := range []string{
		"https://x.example", "https://x.example/ok?a=b#c", "https://x.example:8443/ok?session={CHECKOUT_SESSION_ID}", "HTTPS://x.example/",
		"http://localhost:3000/ok", "http://LOCALHOST/", "http://127.0.0.1/", "http://127.8.9.1:80/", "http://[::1]:3000/",
		prefix + strings.Repeat("x", maxURL-len(prefix)),
	} {
		if fault := checkURL(s); fault != "" {
			t.Errorf("%q: %s", s, fault)
		}
	}
	for _, s := range []string{
		"", " ", "x", "/ok", "//x.example/ok", "x.example/ok", "https:", "https://", "https:///ok", "https:x.example", "https://:443/",
		"http://x.example/ok", "http://localhost.x.example/", "http://192.168.1.1/", "http://0.0.0.0/", "http://[::2]/", "ftp://x.example/", "javascript:alert(1)",
		"data:text/html,x", "https://u@x.example/", "https://u:p@x.example/", "http://u@localhost/", "https://x.example/a b", "https://x.example/\n",
		"https://x.example\\@y.example/", "https://x.example:0/", "https://x.example:99999/", "https://x.example:x/", "https://[::1/", " https://x.example/",
		prefix + strings.Repeat("x", maxURL-len(prefix)+1),
	} {
		if checkURL(s) == "" {
			t.Errorf("%q was taken", s)
		}
	}
}
