package schema_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"

	"github.com/paykit-go/paykit/internal/events"
)

// What the types can't say of their fields: the rest of the contract's rules.

const (
	digestPattern = "^sha256:[0-9a-f]{64}$"
	ulidPattern   = "[0-7][0-9A-HJKMNP-TV-Z]{25}"
)

func idPattern(prefixes ...string) string {
	if len(prefixes) == 1 {
		return "^" + prefixes[0] + ulidPattern + "$"
	}
	return "^(" + strings.Join(prefixes, "|") + ")" + ulidPattern + "$"
}

// idPrefix is read off an id of the entity.
func idPrefix(entity events.Entity) string {
	id := map[events.Entity]string{
		events.EntityCustomer: events.CustomerID("x"), events.EntityProviderAccount: events.ProviderAccountID("x", "x"),
		events.EntityCheckout: events.CheckoutID("x"), events.EntitySetup: events.SetupID("x"),
		events.EntityPaymentMethod: events.PaymentMethodID("x", "x"), events.EntityCharge: events.ChargeID("x"),
		events.EntityCommand: events.CommandID("x", "x"),
	}[entity]
	prefix, _, _ := strings.Cut(id, "_")
	return prefix + "_"
}

// ruled adds the rules of what is answered and told. Providers' own words and amounts are not bounded: they come as they
// are.
func ruled(t testing.TB, name string, s *jsonschema.Schema) {
	t.Helper()
	for p := s.Properties.Oldest(); p != nil; p = p.Next() {
		if rule := snapshotRules()[name+"."+p.Key]; rule != nil {
			rule(p.Value)
		} else if rule := snapshotRules()[p.Key]; rule != nil {
			rule(p.Value)
		}
	}
}

type rule func(*jsonschema.Schema)

func pattern(text string) rule { return func(s *jsonschema.Schema) { s.Pattern = text } }

func constant(v any) rule {
	return func(s *jsonschema.Schema) { s.Type, s.Const = "", v }
}

func words(v ...any) rule { return func(s *jsonschema.Schema) { s.Enum = v } }

func atLeast(n int64) rule {
	return func(s *jsonschema.Schema) { s.Minimum = json.Number(strconv.FormatInt(n, 10)) }
}

func upTo(most int64) rule {
	return func(s *jsonschema.Schema) {
		s.Minimum, s.Maximum = "1", json.Number(strconv.FormatInt(most, 10))
	}
}

func text(least, most uint64) rule {
	return func(s *jsonschema.Schema) {
		if least > 0 {
			s.MinLength = new(least)
		}
		s.MaxLength = new(most)
	}
}

func filled(s *jsonschema.Schema) { s.MinLength = new(uint64(1)) }

func address(s *jsonschema.Schema) { s.Format = "uri" }

func each(rules ...rule) rule {
	return func(s *jsonschema.Schema) {
		for _, r := range rules {
			r(s)
		}
	}
}

// metadata is a map of the app's own words.
func metadata(s *jsonschema.Schema) {
	s.Type, s.MaxProperties = "object", new(uint64(50))
	s.PropertyNames = &jsonschema.Schema{MinLength: new(uint64(1)), MaxLength: new(uint64(40)), Pattern: `^[^\[\]]*$`, Not: &jsonschema.Schema{Pattern: "^" + events.ReservedMetadata}}
	s.AdditionalProperties = &jsonschema.Schema{Type: "string", MaxLength: new(uint64(500))}
}

// snapshotRules are by definition and field, or by field wherever it stands.
func snapshotRules() map[string]rule {
	id := func(entity events.Entity) rule { return pattern(idPattern(idPrefix(entity))) }
	refund, _, _ := strings.Cut(events.RefundID("x", "x"), "_")
	return map[string]rule{
		"event.id": pattern("^" + ulidPattern + "$"), "event.specversion": constant("1.0"), "event.datacontenttype": constant("application/json"),
		"event.source": pattern("^/paykit/[a-z-]+$"), "event.correlationid": id(events.EntityCommand), "event.causationid": filled,
		"event.subject": filled, "event.dataschema": pattern("^urn:paykit:[a-z_]+:1$"), "event.entityversion": atLeast(1),
		"event.previousdigest": pattern("^(sha256:[0-9a-f]{64})?$"),

		"customer.id": id(events.EntityCustomer), "customerRef.id": id(events.EntityCustomer), "customerResult.id": id(events.EntityCustomer),
		"providerAccount.id": id(events.EntityProviderAccount), "providerAccountRef.id": id(events.EntityProviderAccount),
		"checkout.id": id(events.EntityCheckout), "setup.id": id(events.EntitySetup), "paymentMethod.id": id(events.EntityPaymentMethod),
		"listedPaymentMethod.id": id(events.EntityPaymentMethod), "charge.id": id(events.EntityCharge), "command.id": id(events.EntityCommand),
		"refund.id": pattern(idPattern(refund + "_")),

		"customerId": id(events.EntityCustomer), "paymentMethodId": id(events.EntityPaymentMethod), "duplicateOf": id(events.EntityPaymentMethod),
		"checkoutId": id(events.EntityCheckout), "chargeId": id(events.EntityCharge), "secondPaymentOf": id(events.EntityCharge),
		"relatedChargeId": id(events.EntityCharge),

		"providerId": filled, "providerCustomerId": filled, "providerSessionId": filled, "providerMethodId": filled, "providerPaymentId": filled,
		"providerChargeId": filled, "providerRefundId": filled, "providerDisputeId": filled, "providerWarningId": filled, "supersededPaymentId": filled,

		"amount": atLeast(0), "amountRefunded": atLeast(0), "providerAmountRefunded": atLeast(1), "checkout.amount": upTo(events.MaxAmount),
		"currency": pattern("^[a-z]{3}$"), "commandDigest": pattern(digestPattern), "description": text(1, 1000), "referenceId": text(1, 255),
		"metadata": metadata, "url": address, "successURL": text(1, 2048), "cancelURL": text(1, 2048), "returnURL": text(1, 2048), "profileRevision": atLeast(1), "version": atLeast(1), "number": atLeast(1),
		"expiryMonth": upTo(12), "expiryYear": upTo(9999), "last4": text(4, 4), "expiringFor": pattern("^[0-9]{4}-[0-9]{2}$"),
		"charge.refunds":         func(s *jsonschema.Schema) { s.MaxItems = new(uint64(events.MaxKeptRefunds)) },
		"providerAccount.status": words(events.AccountLinked, events.AccountUnlinked), "refund.reason": filled,
		"review.proposal":    words(events.ProposalRefund),
		"resolution.outcome": words(events.ChargeStatusSucceeded, events.ChargeStatusFailed, events.ChargeStatusCanceled),
		"command.type":       pattern("^[a-z_]+(\\.[a-z_]+)?$"), "failure.code": filled, "failure.message": filled, "error.message": filled,

		"customerResult.email": nullable, "customerResult.name": nullable, "customerResult.deletedAt": nullable,
		"result.digest": pattern(digestPattern), "result.sequence": atLeast(0),
	}
}

// bodyRule adds what the decoders of commands and queries ask of a field. An id is not asked for its shape: one that is
// none of ours is not found.
func bodyRule(name, field string, s *jsonschema.Schema) {
	rules := commandRules()
	if strings.HasPrefix(name, "query.") {
		rules = queryRules()
	}
	for _, key := range []string{name + "." + field, field} {
		if rule := rules[key]; rule != nil {
			rule(s)
			return
		}
	}
	if s.Type == "string" && strings.HasPrefix(name, "command.") {
		filled(s)
	}
}

// sendable is where a buyer can be sent. https, or http on a loopback host; the rest is the decoder's.
func sendable(s *jsonschema.Schema) {
	text(1, 2048)(s)
	s.Pattern = `^([Hh][Tt][Tt][Pp][Ss]://|[Hh][Tt][Tt][Pp]://(127\.|\[|[Ll][Oo][Cc][Aa][Ll][Hh][Oo][Ss][Tt]))[^ \\]+$`
}

// notBlank holds something that can be seen.
const notBlank = `[^\s\p{Z}]`

func commandRules() map[string]rule {
	var currencies []any
	for _, c := range events.Currencies() {
		currencies = append(currencies, c)
	}
	return map[string]rule{
		"referenceId": each(text(1, 255), pattern(`^\P{Cc}*$`)), "name": text(1, 256),
		"email":    each(text(1, 512), pattern(`^[^\s@]+@[^\s@]+\.[^\s@.]+$`)),
		"metadata": metadata, "amount": upTo(events.MaxAmount), "currency": words(currencies...),
		"description": each(text(1, 1000), pattern(notBlank)), "successURL": sendable, "cancelURL": sendable, "returnURL": sendable,
		"command.charge.refund.reason":    words("duplicate", "fraudulent", "requested_by_customer"),
		"command.charge.resolve.reason":   each(text(1, 1000), pattern(notBlank)),
		"command.charge.resolve.operator": each(text(1, 100), pattern(notBlank)),
		"command.charge.resolve.outcome":  words(events.ChargeStatusSucceeded, events.ChargeStatusFailed, events.ChargeStatusCanceled),
		"providerPaymentId":               pattern("^[A-Za-z0-9_]{1,255}$"),
	}
}

func queryRules() map[string]rule {
	return map[string]rule{
		"limit": upTo(100), "cursor": pattern("^[A-Za-z0-9_-]*$"),
		"query.charge.list.status":             func(s *jsonschema.Schema) { s.Enum = append(s.Enum, "") },
		"query.payment_method.list.customerId": filled, "paymentMethodId": filled, "chargeId": filled, "checkoutId": filled, "setupId": filled,
	}
}
