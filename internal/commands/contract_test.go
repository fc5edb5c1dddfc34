package commands

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/paykit-go/paykit/internal/events"
)

// unsaid is what the decoder refuses and a schema can't say, by what the refusal tells.
func unsaid() map[string]*regexp.Regexp {
	return map[string]*regexp.Regexp{
		"personal data":                       regexp.MustCompile("^personal_data "),
		"currencies' minimums and steps":      regexp.MustCompile(`^invalid_request \(amount\): must be (at least|a multiple of)`),
		"1.0 and 1e2 are integers to JSON":    regexp.MustCompile(`^invalid_request \(amount\): must be an integer`),
		"lengths in bytes":                    regexp.MustCompile(`: must be at most \d+ bytes long`),
		"two fields that name one customer":   regexp.MustCompile(`^invalid_request \(referenceId\): names another customer`),
		"what makes an address of a URL":      regexp.MustCompile(`URL\): must (be an absolute https URL|be https|have a port|not hold credentials)`),
		"what makes an e-mail address":        regexp.MustCompile(`^invalid_request \(email\): must be an e-mail address`),
		"blank by characters that \\s is not": regexp.MustCompile(`: must not be blank`),
		"control characters":                  regexp.MustCompile(`\((operator|reason)\): must not hold control characters`),
	}
}

// edges are values that fields are filled with: what is well and what is not, at the edges.
func edges() []any {
	x := strings.Repeat
	number := func(s string) any { return json.Number(s) }
	list := []any{
		nil, true, false, "", " ", "\u00a0", "\u0085", "\v", "x", "ü", "a\nb", "usd", "USD", "jpy", "kwd", "xxx", "stripe", "cust_1", "pi_1", "pi 1",
		events.CustomerID("user_1"), "user_1", "duplicate", "fraudulent", "requested_by_customer", "canceled", "succeeded", "failed", "requires_action", "bob@example.com", "bob@example", "a@b@c.d",
		"4242 4242 4242 4242", "https://x.example/ok", "HTTPS://x.example", "http://x.example/", "http://localhost:3000/a", "http://[::1]/", "http://127.0.0.1:1/",
		"https://u:p@x.example/", "https:///x", "https://x.example:0/", "https://x.example/ü", "https://x.example/a b", "https://x.example/%zz", "ftp://x.example/",
		number("0"), number("1"), number("49"), number("50"), number("-0"), number("-1"), number("4900"), number("4901"), number("99999999"), number("100000000"),
		number("49.0"), number("49e2"), number("4900.5"), number("1e999"), number("18446744073709551716"),
		x("ü", 40), x("ü", 41), x("x", 100), x("x", 101), x("ü", 127), x("ü", 128), x("x", 255), x("x", 256), x("x", 257), x("x", 500), x("x", 501), x("x", 512), x("x", 1000),
		x("ü", 1000), x("x", 1001), "https://x.example/" + x("x", 2030), "https://x.example/" + x("x", 2031), "https://x.example/" + x("ü", 1020),
		[]any{},
		[]any{"x"},
		map[string]any{},
		map[string]any{"k": "v"},
		map[string]any{"k": nil},
		map[string]any{"k": number("1")},
		map[string]any{"": "v"},
		map[string]any{"a[b]": "v"},
		map[string]any{"paykit_env": "v"},
		map[string]any{"paykit": "v"},
		map[string]any{x("ü", 40): x("ü", 500)},
		map[string]any{x("k", 41): "v"},
		map[string]any{"k": x("v", 501)},
		entries(50), entries(51),
	}
	for _, c := range events.Currencies() {
		list = append(list, c)
	}
	return list
}

// disagreement is how decoder and schema judge a body differently; "" if they do not. taken is what the decoder says.
func disagreement(h *Handler, verb string, body map[string]any) (text string, taken bool) {
	b, err := json.Marshal(body)
	if err != nil {
		return err.Error(), false
	}
	o, broken := decode(b)
	if broken != nil {
		return "", false // no JSON that the contract takes, whatever the command
	}
	f := &fields{values: o}
	registry()[slices.IndexFunc(registry(), func(s spec) bool { return s.verb == verb })].parse(f, h.cfg)
	mine, schemas := f.refused(), published(verb, o)
	switch {
	case mine == nil && schemas != nil:
		return fmt.Sprintf("%s %.300s: taken by the decoder, refused by the schema: %v", verb, b, schemas), true
	case mine != nil && schemas == nil && !named(mine):
		return fmt.Sprintf("%s %.300s: taken by the schema, refused by the decoder: %v", verb, b, mine), false
	}
	return "", mine == nil
}

// TestDecoderAndSchemaAgree: the decoder takes no body that the published schema refuses, and refuses only such bodies besides as
// no schema can describe. Each field with each edge, then some together.
func TestDecoderAndSchemaAgree(t *testing.T) {
	h := New(nil, config())
	good := wellShaped()
	judged := map[bool]int{}
	judge := func(verb string, body map[string]any) string {
		text, taken := disagreement(h, verb, body)
		judged[taken]++
		return text
	}
	for _, verb := range Verbs() {
		for name := range good[verb] {
			for _, value := range edges() {
				if text := judge(verb, with(good[verb], name, value)); text != "" {
					t.Error(text)
				}
			}
		}
	}
	value := rapid.OneOf(rapid.SampledFrom(edges()), rapid.Map(rapid.String(), func(s string) any { return s }))
	rapid.Check(t, func(t *rapid.T) {
		verb := rapid.SampledFrom(Verbs()).Draw(t, "verb")
		body := maps.Clone(good[verb])
		names := append(slices.Sorted(maps.Keys(body)), "nonsense", "Amount")
		for range rapid.IntRange(0, 3).Draw(t, "changes") {
			name := rapid.SampledFrom(names).Draw(t, "field")
			if rapid.Bool().Draw(t, "leave it out") {
				delete(body, name)
			} else {
				body[name] = value.Draw(t, "value")
			}
		}
		if text := judge(verb, body); text != "" {
			t.Fatal(text)
		}
	})
	if judged[true] < 100 || judged[false] < 100 {
		t.Errorf("%v: too few of one kind", judged)
	}
}

func named(refusal *events.Error) bool {
	for _, r := range unsaid() {
		if r.MatchString(refusal.Error()) {
			return true
		}
	}
	return false
}

// TestSchemaNamesTheField: what gets past the decoder is refused by the field, the code and without what was sent.
func TestSchemaNamesTheField(t *testing.T) {
	for field, value := range map[string]any{
		"amount": "secret", "nonsense": "secret", "metadata": map[string]any{"k": []any{"secret"}}, "customerId": nil, "currency": "secret",
	} {
		refusal := published("charge.create", with(wellShaped()["charge.create"], field, value))
		if refusal == nil || refusal.Code != events.CodeInvalidRequest || refusal.Param != field || strings.Contains(refusal.Message, "secret") {
			t.Errorf("%s = %v: %v", field, value, refusal)
		}
	}
	if refusal := published("customer.delete", object{}); refusal == nil || refusal.Code != events.CodeInvalidRequest {
		t.Errorf("nobody named: %v", refusal)
	}
}

// BenchmarkShape is what reading a command costs, and what of it the schema does.
func BenchmarkShape(b *testing.B) {
	for _, verb := range []string{"charge.create", "charge.cancel", "customer.sync"} {
		body, err := json.Marshal(wellShaped()[verb])
		if err != nil {
			b.Fatal(err)
		}
		o, refusal := decode(body)
		if refusal != nil {
			b.Fatal(refusal)
		}
		h := New(nil, config())
		b.Run(fmt.Sprint(verb, " whole"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, refusal := h.shape(verb, body, Meta{IdempotencyKey: "k"}); refusal != nil {
					b.Fatal(refusal)
				}
			}
		})
		b.Run(fmt.Sprint(verb, " schema"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if refusal := published(verb, o); refusal != nil {
					b.Fatal(refusal)
				}
			}
		})
	}
}
