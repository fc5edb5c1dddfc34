package stripe

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v76/webhook"

	"github.com/paykit-go/paykit/internal/provider"
)

const goodBody = `{"id":"evt_1","type":"charge.succeeded","data":{}}`

func sign(t time.Time, body, secret string) string {
	return fmt.Sprintf("v1=%x", webhook.ComputeSignature(t, []byte(body), secret))
}

func signedHeader(line string) map[string][]string {
	return map[string][]string{"Stripe-Signature": {line}}
}

func TestVerify(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	at := func(d time.Duration) string { return fmt.Sprintf("t=%d", now.Add(d).Unix()) }
	good := sign(now, goodBody, "whsec_new")
	old := sign(now, goodBody, "whsec_old")
	bad := sign(now, goodBody, "whsec_other")
	tests := []struct {
		name, body string
		header     map[string][]string
		want       error
	}{
		{"good", goodBody, signedHeader(at(0) + "," + good), nil},
		{"the second secret", goodBody, signedHeader(at(0) + "," + old), nil},
		{"the second signature", goodBody, signedHeader(at(0) + "," + bad + "," + good), nil},
		{"an unknown scheme beside it", goodBody, signedHeader(at(0) + "," + good + ",v0=00"), nil},
		{"300 s old", goodBody, signedHeader(at(-maxAge) + "," + sign(now.Add(-maxAge), goodBody, "whsec_new")), nil},
		{"300 s early", goodBody, signedHeader(at(maxAge) + "," + sign(now.Add(maxAge), goodBody, "whsec_new")), nil},
		{
			"301 s old", goodBody, signedHeader(at(-maxAge-time.Second) + "," + sign(now.Add(-maxAge-time.Second), goodBody, "whsec_new")),
			provider.ErrTooOld,
		},
		{
			"301 s early", goodBody, signedHeader(at(maxAge+time.Second) + "," + sign(now.Add(maxAge+time.Second), goodBody, "whsec_new")),
			provider.ErrTooEarly,
		},
		{"old and wrong says wrong", goodBody, signedHeader(at(-time.Hour) + "," + bad), provider.ErrBadSignature},
		{"wrong secret", goodBody, signedHeader(at(0) + "," + bad), provider.ErrBadSignature},
		{"empty secret", goodBody, signedHeader(at(0) + "," + sign(now, goodBody, "")), provider.ErrBadSignature},
		{"another body", goodBody + " ", signedHeader(at(0) + "," + good), provider.ErrBadSignature},
		{"another time", goodBody, signedHeader(at(time.Second) + "," + good), provider.ErrBadSignature},
		{"no header", goodBody, nil, provider.ErrBadSignature},
		{"two headers", goodBody, map[string][]string{"Stripe-Signature": {at(0) + "," + good, at(0) + "," + good}}, provider.ErrBadSignature},
		{"no time", goodBody, signedHeader(good), provider.ErrBadSignature},
		{"two times", goodBody, signedHeader(at(-time.Hour) + "," + at(0) + "," + good), provider.ErrBadSignature},
		{"time is no number", goodBody, signedHeader("t=now," + good), provider.ErrBadSignature},
		{"v0 only", goodBody, signedHeader(at(0) + "," + strings.Replace(good, "v1", "v0", 1)), provider.ErrBadSignature},
		{"signature is no hex", goodBody, signedHeader(at(0) + ",v1=xyz"), provider.ErrBadSignature},
		{"a signed text", "hello", signedHeader(at(0) + "," + sign(now, "hello", "whsec_new")), provider.ErrNotAnEvent},
		{"a signed array", "[]", signedHeader(at(0) + "," + sign(now, "[]", "whsec_new")), provider.ErrNotAnEvent},
		{"no type", `{"id":"evt_1"}`, signedHeader(at(0) + "," + sign(now, `{"id":"evt_1"}`, "whsec_new")), provider.ErrNotAnEvent},
	}
	w, err := NewWebhooks([]string{"whsec_new", "whsec_old"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := w.Verify([]byte(tt.body), tt.header, now); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestNewWebhooksRefuses(t *testing.T) {
	for _, secrets := range [][]string{nil, {}, {""}, {"whsec_a", ""}, {"whsec_a\n"}, {" whsec_a"}, {"whsec a"}} {
		if _, err := NewWebhooks(secrets); !errors.Is(err, ErrWebhookSecret) {
			t.Errorf("%q: %v", secrets, err)
		}
	}
}

func TestWebhooksKeepTheirSecrets(t *testing.T) {
	secrets := []string{"whsec_a"}
	w, err := NewWebhooks(secrets)
	if err != nil {
		t.Fatal(err)
	}
	secrets[0] = ""
	now := time.Unix(1_700_000_000, 0)
	header := signedHeader(fmt.Sprintf("t=%d,%s", now.Unix(), sign(now, goodBody, "")))
	if _, err := w.Verify([]byte(goodBody), header, now); !errors.Is(err, provider.ErrBadSignature) {
		t.Errorf("got %v", err)
	}
}

// FuzzVerify: without the secret no header and body get in.
func FuzzVerify(f *testing.F) {
	now := time.Unix(1_700_000_000, 0)
	f.Add(goodBody, "t=1700000000,"+sign(now, goodBody, "whsec_other"))
	f.Add(goodBody, "t=1700000000,"+sign(now, goodBody, ""))
	f.Add("", "t=,v1=")
	f.Add("{}", "t=-1,t=1700000000,v1=00,,=,v1")
	f.Add(goodBody, "t=9223372036854775807,v1="+strings.Repeat("00", 32))
	w, err := NewWebhooks([]string{"whsec_" + strings.Repeat("k", 32)})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body, header string) {
		if _, err := w.Verify([]byte(body), signedHeader(header), now); !errors.Is(err, provider.ErrBadSignature) {
			t.Errorf("got %v", err)
		}
	})
}
