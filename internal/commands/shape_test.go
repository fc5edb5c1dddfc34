package commands

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/paykit-go/paykit/internal/events"
)

// wellShaped is a body of each command with every field in it.
func wellShaped() map[string]map[string]any {
	return map[string]map[string]any{
		"customer.sync":   {"referenceId": "user_1", "email": "a@b.example", "name": "A", "metadata": map[string]any{"k": "v"}},
		"customer.delete": {"customerId": events.CustomerID("user_1"), "referenceId": "user_1"},
		"checkout.create": {
			"providerId": "stripe", "customerId": "cust_1", "amount": 4900, "currency": "usd", "description": "Pro",
			"successURL": "https://x.example/ok", "cancelURL": "https://x.example/no", "attachMethod": true, "metadata": map[string]any{"k": "v"},
		},
		"checkout.expire":            {"checkoutId": "chk_1"},
		"payment_method.attach":      {"providerId": "stripe", "customerId": "cust_1", "returnURL": "https://x.example/ok"},
		"payment_method.set_default": {"providerId": "stripe", "customerId": "cust_1", "paymentMethodId": "meth_1"},
		"payment_method.detach":      {"providerId": "stripe", "customerId": "cust_1", "paymentMethodId": "meth_1"},
		"charge.create": {
			"providerId": "stripe", "customerId": "cust_1", "paymentMethodId": "meth_1", "amount": 4900, "currency": "usd",
			"description": "Pro", "metadata": map[string]any{"k": "v"}, "returnURL": "https://x.example/ok",
			"retry": "standard",
		},
		"charge.refund": {"chargeId": "chg_1", "amount": 100, "reason": "duplicate"},
		"charge.cancel": {"chargeId": "chg_1"},
		"charge.resolve": {
			"chargeId": "chg_1", "outcome": "failed", "operator": "anna", "reason": "not in the dashboard", "providerPaymentId": "pi_1",
			"refundId": "rfd_1",
		},
	}
}

// optional are the fields that may be left out.
func optional() map[string][]string {
	return map[string][]string{
		"customer.sync":   {"email", "name", "metadata"},
		"customer.delete": {"customerId", "referenceId"},
		"checkout.create": {"currency", "cancelURL", "attachMethod", "metadata"},
		"charge.create":   {"currency", "metadata", "returnURL", "retry"},
		"charge.refund":   {"amount", "reason"},
		"charge.resolve":  {"providerPaymentId", "refundId"},
	}
}

// shapeOf is what is wrong with a command's shape, nil if nothing is.
func shapeOf(tb testing.TB, verb string, body map[string]any) *events.Error {
	tb.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		tb.Fatal(err)
	}
	_, _, refusal := New(nil, config()).shape(verb, b, Meta{})
	return refusal
}

func with(body map[string]any, name string, value any) map[string]any {
	b := maps.Clone(body)
	b[name] = value
	return b
}

func without(body map[string]any, name string) map[string]any {
	b := maps.Clone(body)
	delete(b, name)
	return b
}

// TestShapeOfEveryCommand: each field may be there, only optional ones may be left out or null, none may be of another
// type, and no other may be there.
func TestShapeOfEveryCommand(t *testing.T) {
	bodies, optionals := wellShaped(), optional()
	for _, verb := range Verbs() {
		good, ok := bodies[verb]
		if !ok {
			t.Errorf("%s is not tested", verb)
		}
		t.Run(verb, func(t *testing.T) {
			if refusal := shapeOf(t, verb, good); refusal != nil {
				t.Errorf("every field: %v", refusal)
			}
			free := map[string]bool{}
			for _, name := range optionals[verb] {
				free[name] = true
			}
			for name, value := range good {
				for how, body := range map[string]map[string]any{"left out": without(good, name), "null": with(good, name, nil)} {
					refusal := shapeOf(t, verb, body)
					switch {
					case free[name] && refusal != nil:
						t.Errorf("%s %s: %v", name, how, refusal)
					case !free[name] && (refusal == nil || refusal.Code != events.CodeInvalidRequest || refusal.Param != name):
						t.Errorf("%s %s: got %v, want invalid_request (%s)", name, how, refusal, name)
					}
				}
				for _, other := range []any{"x", 7, 7.5, true, []any{"x"}, map[string]any{"x": 1}} {
					if fmt.Sprintf("%T", other) == fmt.Sprintf("%T", value) {
						continue
					}
					refusal := shapeOf(t, verb, with(good, name, other))
					if refusal == nil || refusal.Code != events.CodeInvalidRequest || refusal.Param != name {
						t.Errorf("%s = %v: got %v, want invalid_request (%s)", name, other, refusal, name)
					}
				}
			}
			for _, name := range []string{"nonsense", "", "Amount", "idempotencyKey", "ReferenceId"} {
				refusal := shapeOf(t, verb, with(good, name, nil))
				if refusal == nil || refusal.Code != events.CodeInvalidRequest || refusal.Param != name {
					t.Errorf("field %q: got %v, want invalid_request (%s)", name, refusal, name)
				}
			}
		})
	}
}

func TestUnknownFieldBeforeMissing(t *testing.T) {
	body := without(wellShaped()["charge.create"], "amount")
	if refusal := shapeOf(t, "charge.create", with(body, "amout", 4900)); refusal == nil || refusal.Param != "amout" {
		t.Errorf("got %v, want the slip named", refusal)
	}
}

func entries(n int) map[string]any {
	m := map[string]any{}
	for i := range n {
		m[fmt.Sprintf("k%d", i)] = "v"
	}
	return m
}

func TestShapeRules(t *testing.T) {
	x := strings.Repeat
	const reserved = "paykit_env"
	number := func(s string) json.Number { return json.Number(s) }
	for _, tc := range []struct {
		verb, field string
		value       any
		code        events.Code // "" = taken
	}{
		{"charge.create", "amount", 50, ""},
		{"charge.create", "amount", 49, events.CodeInvalidRequest}, // Stripe's minimum for usd
		{"charge.create", "amount", 1, events.CodeInvalidRequest},
		{"charge.create", "amount", 0, events.CodeInvalidRequest},
		{"charge.create", "amount", number("-0"), events.CodeInvalidRequest},
		{"charge.create", "amount", -4900, events.CodeInvalidRequest},
		{"charge.create", "amount", 99_999_999, ""},
		{"charge.create", "amount", 100_000_000, events.CodeInvalidRequest},
		{"charge.create", "amount", number("4900.0"), events.CodeInvalidRequest},
		{"charge.create", "amount", number("49e2"), events.CodeInvalidRequest},
		{"charge.create", "amount", number("49E2"), events.CodeInvalidRequest},
		{"charge.create", "amount", number("1e999"), events.CodeInvalidRequest},
		{"charge.create", "amount", number("9223372036854775808"), events.CodeInvalidRequest},
		{"charge.create", "amount", number("18446744073709551716"), events.CodeInvalidRequest}, // 100 if it overflowed
		{"charge.create", "amount", number("-18446744073709551716"), events.CodeInvalidRequest},
		{"charge.create", "amount", "4900", events.CodeInvalidRequest},
		{"checkout.create", "amount", 49, events.CodeInvalidRequest},
		{"checkout.create", "amount", 50, ""},
		{"charge.refund", "amount", 1, ""},
		{"charge.refund", "amount", 0, events.CodeInvalidRequest},
		{"charge.refund", "amount", -1, events.CodeInvalidRequest},
		{"charge.refund", "amount", number("1.0"), events.CodeInvalidRequest},
		{"charge.refund", "amount", 99_999_999, ""},
		{"charge.refund", "amount", 100_000_000, events.CodeInvalidRequest},
		{"charge.refund", "amount", number("99999999999999999999"), events.CodeInvalidRequest},

		{"charge.create", "currency", "eur", ""},
		{"charge.create", "currency", "USD", events.CodeInvalidRequest},
		{"charge.create", "currency", "Usd", events.CodeInvalidRequest},
		{"charge.create", "currency", "xxx", events.CodeInvalidRequest},
		{"charge.create", "currency", "", events.CodeInvalidRequest},
		{"charge.create", "currency", " usd", events.CodeInvalidRequest},
		{"checkout.create", "currency", "usdx", events.CodeInvalidRequest},

		{"charge.create", "description", "", events.CodeInvalidRequest},
		{"charge.create", "description", " \t", events.CodeInvalidRequest},
		{"charge.create", "description", x("ü", maxDescription), ""},
		{"charge.create", "description", x("ü", maxDescription+1), events.CodeInvalidRequest},
		{"charge.create", "description", "for bob@example.com", events.CodePersonalData},
		{"checkout.create", "description", "card 4242 4242 4242 4242", events.CodePersonalData},

		{"charge.create", "metadata", map[string]any{}, ""},
		{"charge.create", "metadata", entries(maxMetadataKeys), ""},
		{"charge.create", "metadata", entries(maxMetadataKeys + 1), events.CodeInvalidRequest},
		{"charge.create", "metadata", map[string]any{x("ü", maxMetadataKey): "v"}, ""},
		{"charge.create", "metadata", map[string]any{x("k", maxMetadataKey+1): "v"}, events.CodeInvalidRequest},
		{"charge.create", "metadata", map[string]any{"": "v"}, events.CodeInvalidRequest},
		{"charge.create", "metadata", map[string]any{"a[b]": "v"}, events.CodeInvalidRequest},
		{"charge.create", "metadata", map[string]any{reserved: "v"}, events.CodeInvalidRequest},
		{"charge.create", "metadata", map[string]any{"paykit_": "v"}, events.CodeInvalidRequest},
		{"charge.create", "metadata", map[string]any{"paykit": "v"}, ""},
		{"charge.create", "metadata", map[string]any{"k": x("ü", maxMetadataValue)}, ""},
		{"charge.create", "metadata", map[string]any{"k": x("v", maxMetadataValue+1)}, events.CodeInvalidRequest},
		{"charge.create", "metadata", map[string]any{"k": ""}, ""},
		{"charge.create", "metadata", map[string]any{"k": nil}, events.CodeInvalidRequest},
		{"charge.create", "metadata", map[string]any{"k": 1}, events.CodeInvalidRequest},
		{"charge.create", "metadata", map[string]any{"k": map[string]any{}}, events.CodeInvalidRequest},
		{"charge.create", "metadata", map[string]any{"k": "bob@example.com"}, events.CodePersonalData},
		{"charge.create", "metadata", map[string]any{"bob@example.com": "k"}, events.CodePersonalData},
		{"checkout.create", "metadata", map[string]any{"k": "4242-4242-4242-4242"}, events.CodePersonalData},
		{"customer.sync", "metadata", map[string]any{"k": "bob@example.com"}, ""}, // a profile may name a person
		{"customer.sync", "metadata", map[string]any{reserved: "v"}, events.CodeInvalidRequest},
		{"customer.sync", "metadata", entries(maxMetadataKeys + 1), events.CodeInvalidRequest},
		{"customer.sync", "metadata", map[string]any{"k": nil}, events.CodeInvalidRequest},

		{"checkout.create", "successURL", "", events.CodeInvalidRequest},
		{"checkout.create", "successURL", "http://x.example/", events.CodeInvalidRequest},
		{"checkout.create", "successURL", "http://localhost:3000/", ""},
		{"checkout.create", "successURL", "https://u:p@x.example/", events.CodeInvalidRequest},
		{"checkout.create", "successURL", "https://x.example/?u=bob%40example.com", events.CodePersonalData},
		{"checkout.create", "cancelURL", "", events.CodeInvalidRequest},
		{"checkout.create", "cancelURL", "https://x.example/?u=bob@example.com", events.CodePersonalData},
		{"payment_method.attach", "returnURL", "ftp://x.example/", events.CodeInvalidRequest},
		{"payment_method.attach", "returnURL", "https://x.example/4242424242424242", events.CodePersonalData},
		{"charge.create", "retry", "", events.CodeInvalidRequest},
		{"charge.create", "retry", 3, events.CodeInvalidRequest},
		{"charge.create", "returnURL", "x", events.CodeInvalidRequest},
		{"charge.create", "returnURL", "https://x.example/" + x("x", maxURL), events.CodeInvalidRequest},
		{"charge.create", "returnURL", "https://x.example/?c=4242%204242%204242%204242", events.CodePersonalData},

		{"customer.sync", "referenceId", "", events.CodeInvalidRequest},
		{"customer.sync", "referenceId", x("x", maxReferenceBytes), ""},
		{"customer.sync", "referenceId", x("x", maxReferenceBytes+1), events.CodeInvalidRequest},
		{"customer.sync", "referenceId", "a\nb", events.CodeInvalidRequest},
		{"customer.sync", "referenceId", "a\u0085b", events.CodeInvalidRequest},
		{"customer.sync", "referenceId", "bob@example.com", ""}, // the app's own word, not tested
		{"customer.sync", "referenceId", "*.>", ""},
		{"customer.sync", "email", "bob@example.com", ""},
		{"customer.sync", "email", "", events.CodeInvalidRequest},
		{"customer.sync", "email", "bob", events.CodeInvalidRequest},
		{"customer.sync", "email", "bob@example", events.CodeInvalidRequest},
		{"customer.sync", "email", "bob @example.com", events.CodeInvalidRequest},
		{"customer.sync", "email", "a@b@c.d", events.CodeInvalidRequest},
		{"customer.sync", "email", x("x", maxEmail-9) + "@x.example", events.CodeInvalidRequest},
		{"customer.sync", "email", x("x", maxEmail-10) + "@x.example", ""},
		{"customer.sync", "name", "", events.CodeInvalidRequest},
		{"customer.sync", "name", x("ü", maxName), ""},
		{"customer.sync", "name", x("x", maxName+1), events.CodeInvalidRequest},
		{"customer.delete", "referenceId", "user_2", events.CodeInvalidRequest}, // names another than customerId
		{"customer.delete", "referenceId", "", events.CodeInvalidRequest},
		{"customer.delete", "customerId", "", events.CodeInvalidRequest},

		{"charge.refund", "reason", "fraudulent", ""},
		{"charge.refund", "reason", "requested_by_customer", ""},
		{"charge.refund", "reason", "because", events.CodeInvalidRequest},
		{"charge.refund", "reason", "", events.CodeInvalidRequest},
		{"charge.create", "providerId", "", events.CodeInvalidRequest},
		{"charge.create", "customerId", "", events.CodeInvalidRequest},
		{"charge.create", "paymentMethodId", "", events.CodeInvalidRequest},
		{"charge.create", "customerId", "bob@example.com", ""}, // an id, looked up and not found
	} {
		refusal := shapeOf(t, tc.verb, with(wellShaped()[tc.verb], tc.field, tc.value))
		switch {
		case tc.code == "" && refusal != nil:
			t.Errorf("%s %s = %.60q: %v", tc.verb, tc.field, fmt.Sprint(tc.value), refusal)
		case tc.code != "" && (refusal == nil || refusal.Code != tc.code || refusal.Param != tc.field):
			t.Errorf("%s %s = %.60q: got %v, want %s (%s)", tc.verb, tc.field, fmt.Sprint(tc.value), refusal, tc.code, tc.field)
		case tc.code != "":
			if s, ok := tc.value.(string); ok && len(s) > 4 && strings.Contains(refusal.Message, s) {
				t.Errorf("%s %s: the refusal repeats what was sent: %s", tc.verb, tc.field, refusal.Message)
			}
		}
	}
}

func TestCurrenciesOfOtherKinds(t *testing.T) {
	good := wellShaped()["charge.create"]
	for currency, amounts := range map[string]map[int]bool{ // amount → taken
		"jpy": {49: false, 50: true},
		"kwd": {4901: false, 4900: true}, // three decimals, the last is 0
		"isk": {4950: false, 4900: true}, // two decimals, both are 0
	} {
		for amount, taken := range amounts {
			refusal := shapeOf(t, "charge.create", with(with(good, "currency", currency), "amount", amount))
			if (refusal == nil) != taken || refusal != nil && refusal.Param != "amount" {
				t.Errorf("%d %s: got %v", amount, currency, refusal)
			}
		}
	}
}

func TestDefaultCurrencyComesAfterTheDigest(t *testing.T) {
	body := []byte(`{"providerId":"stripe","customerId":"c","paymentMethodId":"m","amount":50,"description":"Pro"}`)
	digests := map[string]string{}
	for _, currency := range []string{"usd", "eur"} {
		k, cmd, refusal := New(nil, Config{DefaultCurrency: currency}).shape("charge.create", body, Meta{IdempotencyKey: "k"})
		if refusal != nil {
			t.Fatal(refusal)
		}
		c, ok := cmd.(chargeCreate)
		if !ok || c.currency != currency {
			t.Errorf("got %v, want %s", cmd, currency)
		}
		digests[currency] = k.digest
	}
	if digests["usd"] != digests["eur"] {
		t.Error("the default changes the digest: a known key would be a conflict once the default is changed")
	}
}

func TestKeys(t *testing.T) {
	h := New(nil, config())
	for key, ok := range map[string]bool{"k": true, strings.Repeat("k", 255): true, strings.Repeat("k", 256): false} {
		_, _, refusal := h.shape("charge.cancel", []byte(`{"chargeId":"chg_1"}`), Meta{IdempotencyKey: key})
		if (refusal == nil) != ok || refusal != nil && refusal.Param != HeaderIdempotencyKey {
			t.Errorf("a key of %d bytes: %v", len(key), refusal)
		}
	}
	one, _, _ := h.shape("charge.cancel", []byte(`{"chargeId":"chg_1"}`), Meta{})
	two, _, _ := h.shape("charge.cancel", []byte(`{"chargeId":"chg_1"}`), Meta{})
	if one.key == two.key || one.id == two.id {
		t.Error("without a key two requests are two commands")
	}
	create, _, _ := h.shape("payment_method.attach", []byte(`{"providerId":"s","customerId":"c","returnURL":"https://x.example"}`), Meta{IdempotencyKey: "k"})
	if want := events.CommandID("payment_method.attach", "k"); create.id != want {
		t.Errorf("command id: got %s, want %s", create.id, want)
	}
	if _, _, refusal := h.shape("charge.void", []byte(`{}`), Meta{}); refusal == nil || refusal.Code != events.CodeInvalidRequest {
		t.Errorf("an unknown verb: %v", refusal)
	}
}

func TestFractionIsNamed(t *testing.T) {
	for _, text := range []string{"49.0", "4900.5", "49e2"} {
		refusal := shapeOf(t, "charge.create", with(wellShaped()["charge.create"], "amount", json.Number(text)))
		if refusal == nil || !strings.Contains(refusal.Message, "integer") {
			t.Errorf("%s: got %v, want it said that it is no integer", text, refusal)
		}
	}
}
