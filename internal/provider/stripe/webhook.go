package stripe

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
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
//
// Its zero value has no secrets: it reads, and verifies nothing.
type Webhooks struct{ secrets atomic.Pointer[[]string] }

var _ provider.Webhooks = (*Webhooks)(nil)

// NewWebhooks takes the signing secrets of all endpoints, old ones included while they are rolled. It fails with
// [ErrWebhookSecret]: an empty secret would let in whatever is signed with an empty secret.
func NewWebhooks(secrets []string) (*Webhooks, error) {
	w := &Webhooks{}
	if err := w.SetSecrets(secrets); err != nil {
		return nil, err
	}
	return w, nil
}

// SetSecrets replaces all secrets at once: each delivery is checked against the old ones or the new ones. It fails with
// [ErrWebhookSecret] and then changes nothing.
func (w *Webhooks) SetSecrets(secrets []string) error {
	if len(secrets) == 0 {
		return ErrWebhookSecret
	}
	for _, s := range secrets {
		if s == "" || strings.ContainsAny(s, " \t\r\n\v\f") {
			return ErrWebhookSecret
		}
	}
	w.secrets.Store(new(append([]string(nil), secrets...)))
	return nil
}

// Verify implements [provider.Webhooks]. The signature is tested first, against every secret in constant time, so an
// unsigned body learns nothing of our clock; stripe-go's own check of the age looks only backwards, and is not used.
func (w *Webhooks) Verify(body []byte, header map[string][]string, now time.Time) (provider.Delivery, error) {
	lines := http.Header(header).Values(signatureHeader)
	if len(lines) != 1 {
		return provider.Delivery{}, provider.ErrBadSignature
	}
	signedAt, ok := signedAt(lines[0])
	if !ok || !w.signed(body, lines[0]) {
		return provider.Delivery{}, provider.ErrBadSignature
	}
	switch age := now.Sub(signedAt); {
	case age > maxAge:
		return provider.Delivery{}, provider.ErrTooOld
	case age < -maxAge:
		return provider.Delivery{}, provider.ErrTooEarly
	}
	return headOf(body)
}

func (w *Webhooks) signed(body []byte, header string) bool {
	secrets := w.secrets.Load()
	if secrets == nil {
		return false
	}
	for _, secret := range *secrets {
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
