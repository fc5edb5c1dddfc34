package stripe

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/stripe/stripe-go/v76/webhook"

	"github.com/paykit-go/paykit/internal/provider"
)

// signatureHeader carries "t=<unix seconds>,v1=<hex>[,v1=<hex>…]": https://stripe.com/docs/webhooks#signatures
const signatureHeader = "Stripe-Signature"

// maxAge is how far a signature's time may be from ours, on both sides. Stripe signs every retry anew.
const maxAge = 300 * time.Second

// ErrWebhookSecret is returned by [NewWebhooks].
var ErrWebhookSecret = errors.New("stripe: at least one webhook secret is needed, and none may be empty or hold white space")

// Webhooks checks and reads Stripe's deliveries. It is safe for concurrent use and implements [provider.Webhooks].
type Webhooks struct{ secrets []string }

var _ provider.Webhooks = (*Webhooks)(nil)

// NewWebhooks takes the signing secrets of all endpoints, old ones included while they are rolled. It fails with
// [ErrWebhookSecret]: an empty secret would let in whatever is signed with an empty secret.
func NewWebhooks(secrets []string) (*Webhooks, error) {
	if len(secrets) == 0 {
		return nil, ErrWebhookSecret
	}
	for _, s := range secrets {
		if s == "" || strings.ContainsAny(s, " \t\r\n\v\f") {
			return nil, ErrWebhookSecret
		}
	}
	return &Webhooks{secrets: append([]string(nil), secrets...)}, nil
}

// Verify implements [provider.Webhooks]. The signature is tested first, against every secret in constant time, so an
// unsigned body learns nothing of our clock; stripe-go's own check of the age looks only backwards, and is not used.
func (w *Webhooks) Verify(body []byte, header map[string][]string, now time.Time) error {
	lines := http.Header(header).Values(signatureHeader)
	if len(lines) != 1 {
		return provider.ErrBadSignature
	}
	signedAt, ok := signedAt(lines[0])
	if !ok || !w.signed(body, lines[0]) {
		return provider.ErrBadSignature
	}
	switch age := now.Sub(signedAt); {
	case age > maxAge:
		return provider.ErrTooOld
	case age < -maxAge:
		return provider.ErrTooEarly
	}
	if _, ok := parse(body); !ok {
		return provider.ErrNotAnEvent
	}
	return nil
}

func (w *Webhooks) signed(body []byte, header string) bool {
	for _, secret := range w.secrets {
		if webhook.ValidatePayloadIgnoringTolerance(body, header, secret) == nil {
			return true
		}
	}
	return false
}

// signedAt reads the header's one time. Two times are refused: it must not be open which of them was signed.
func signedAt(header string) (at time.Time, ok bool) {
	for part := range strings.SplitSeq(header, ",") {
		v, found := strings.CutPrefix(part, "t=")
		if !found {
			continue
		}
		seconds, err := strconv.ParseInt(v, 10, 64)
		if ok || err != nil || seconds < 0 {
			return time.Time{}, false
		}
		at, ok = time.Unix(seconds, 0), true
	}
	return at, ok
}
