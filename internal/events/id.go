package events

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
)

// The prefixes of ids. An id is a prefix and 26 characters of Crockford's base 32 (a ULID's alphabet and length).
const (
	prefixCustomer        = "cust_"
	prefixProviderAccount = "pa_"
	prefixPaymentMethod   = "meth_"
	prefixCheckout        = "chk_"
	prefixSetup           = "set_"
	prefixCharge          = "chg_"
	prefixRefund          = "rfd_"
	prefixCommand         = "cmd_"
)

// derive makes the same id from the same parts, for ever: doing a thing again finds the thing. Each part goes into the
// hash with its length before it, so no two lists of parts look the same to it ("ab","c" is not "a","bc"), and the
// kind keeps the ids of different entities apart. 128 bits of SHA-256 remain: a collision is out of anyone's reach.
func derive(prefix, kind string, parts ...string) string {
	h := sha256.New()
	var n [8]byte
	for _, part := range append([]string{prefix, kind}, parts...) {
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write([]byte(part))
	}
	var id ulid.ULID
	copy(id[:], h.Sum(nil))
	return prefix + id.String()
}

// CustomerID is the id of the customer whom the app knows as referenceID.
func CustomerID(referenceID string) string { return derive(prefixCustomer, "reference", referenceID) }

// ProviderAccountID is the id of a customer's account at a provider. After "unlinked" the same entity goes on with the
// next version.
func ProviderAccountID(customerID, providerID string) string {
	return derive(prefixProviderAccount, "account", customerID, providerID)
}

// PaymentMethodID is the id of the method that a provider knows as providerMethodID.
func PaymentMethodID(providerID, providerMethodID string) string {
	return derive(prefixPaymentMethod, "provider", providerID, providerMethodID)
}

// CheckoutID is the id of the checkout begun under an idempotency key.
func CheckoutID(key string) string { return derive(prefixCheckout, "checkout.create", key) }

// SetupID is the id of the setup begun under an idempotency key.
func SetupID(key string) string { return derive(prefixSetup, "payment_method.attach", key) }

// ChargeID is the id of the charge begun under an idempotency key.
func ChargeID(key string) string { return derive(prefixCharge, "charge.create", key) }

// CheckoutChargeID is the id of the charge that a checkout leads to.
func CheckoutChargeID(checkoutID string) string { return derive(prefixCharge, "checkout", checkoutID) }

// ReportedChargeID is the id of a charge that PayKit did not start: from the provider's payment, or from its charge if
// there is no payment.
func ReportedChargeID(providerID, providerPaymentID, providerChargeID string) string {
	if providerPaymentID == "" {
		return derive(prefixCharge, "provider charge", providerID, providerChargeID)
	}
	return derive(prefixCharge, "provider payment", providerID, providerPaymentID)
}

// RefundID is the id of the refund asked for under an idempotency key, which counts within its charge.
func RefundID(chargeID, key string) string {
	return derive(prefixRefund, "charge.refund", chargeID, key)
}

// ReportedRefundID is the id of a refund that was made elsewhere, as in the provider's dashboard.
func ReportedRefundID(providerID, providerRefundID string) string {
	return derive(prefixRefund, "provider", providerID, providerRefundID)
}

// CommandID is the id of the command of a verb ("charge.create") under an idempotency key.
func CommandID(verb, key string) string { return derive(prefixCommand, verb, key) }

// QueuedCommandKey stands in for the idempotency key of a queued command that came without one: the same message gives
// the same key however often it is delivered, and the stream's creation time keeps a recreated stream apart.
func QueuedCommandKey(stream string, created time.Time, sequence uint64) string {
	// A space can't stand in a stream's name, so no caller's stream makes another's key; a caller's own key could
	// look like this one, and would then mean just this command.
	return strings.Join([]string{"queued", stream, strconv.FormatInt(created.UnixNano(), 10), strconv.FormatUint(sequence, 10)}, " ")
}

// eventID makes an event's ULID from its time and from what it is. An event is stored under a guard that lets one
// event of an entity have a version, so entity, version and time name it; no randomness is needed, and deciding the
// same thing at the same instant gives the same bytes.
func eventID(now time.Time, typ Type, entityID string, version int, previousDigest string) string {
	sum := sha256.Sum256([]byte(string(typ) + " " + entityID + " " + strconv.Itoa(version) + " " + previousDigest))
	var id ulid.ULID
	// Refused only after the year 10889.
	_ = id.SetTime(uint64(max(now.UnixMilli(), 0)))
	_ = id.SetEntropy(sum[:10]) // refused only if not 10 bytes
	return id.String()
}

// validID tells whether s is prefix and 26 characters of the alphabet.
func validID(prefix, s string) bool {
	rest, ok := strings.CutPrefix(s, prefix)
	if !ok {
		return false
	}
	_, err := ulid.ParseStrict(rest)
	return err == nil
}

// idPrefix is the prefix of an entity's ids.
func idPrefix(entity Entity) string {
	switch entity {
	case EntityCustomer:
		return prefixCustomer
	case EntityProviderAccount:
		return prefixProviderAccount
	case EntityCheckout:
		return prefixCheckout
	case EntitySetup:
		return prefixSetup
	case EntityPaymentMethod:
		return prefixPaymentMethod
	case EntityCharge:
		return prefixCharge
	case EntityCommand:
		return prefixCommand
	}
	return ""
}

// ValidID tells whether id is one that PayKit makes for that entity. Only such an id may stand in a subject.
func ValidID(entity Entity, id string) bool {
	prefix := idPrefix(entity)
	return prefix != "" && validID(prefix, id)
}

// EntityOf finds an entity by the prefix of its id; ok is false if no entity has such ids.
func EntityOf(id string) (entity Entity, ok bool) {
	prefix, _, _ := strings.Cut(id, "_")
	switch prefix + "_" {
	case prefixCustomer:
		entity = EntityCustomer
	case prefixProviderAccount:
		entity = EntityProviderAccount
	case prefixCheckout:
		entity = EntityCheckout
	case prefixSetup:
		entity = EntitySetup
	case prefixPaymentMethod:
		entity = EntityPaymentMethod
	case prefixCharge:
		entity = EntityCharge
	case prefixCommand:
		entity = EntityCommand
	}
	if !ValidID(entity, id) {
		return "", false
	}
	return entity, true
}

// None stands in a subject where there is no customer.
const None = "none"

// maxToken keeps subjects short of NATS's limits, whatever a provider sends.
const maxToken = 200

// Token turns text from outside into one token of a subject. Letters, digits, "-" and "_" stay as they are, every
// other byte becomes "=" and two hex digits, so no dot, wildcard, space or control character is left and no two texts
// give one token. Text that would read as a reserved token ("none", or beginning with "_") is escaped in its first
// byte. Text longer than 200 bytes becomes "==" and its SHA-256; empty text becomes "=".
func Token(s string) string {
	if s == "" {
		return "="
	}
	if len(s) > maxToken {
		sum := sha256.Sum256([]byte(s))
		return "==" + hex.EncodeToString(sum[:])
	}
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
		if i == 0 && (c == '_' || s == None) {
			plain = false
		}
		if plain {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('=')
		b.WriteString(strings.ToUpper(hex.EncodeToString([]byte{c})))
	}
	return b.String()
}

// TokenOrNone is [Token], with [None] for empty text.
func TokenOrNone(s string) string {
	if s == "" {
		return None
	}
	return Token(s)
}
