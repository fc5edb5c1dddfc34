package reconcile_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
	"github.com/paykit-go/paykit/internal/provider/stripe"
	"github.com/paykit-go/paykit/internal/reconcile"
)

// spoil stores what is no event, as who may write to the log could.
func (w *world) spoil(subject string) {
	w.Helper()
	if _, err := w.log.Conn().Request(subject, []byte("{}"), patience); err != nil {
		w.Fatal(err)
	}
}

// An event that can't be read is reported, and all else is compared and repaired. Nothing is appended behind it.
func TestDamage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.linked("pm_card_visa")
	damaged := b.charged()
	nobody := events.ChargeID("nobody")
	w.spoil("paykit.log.charge.succeeded." + damaged.ID + "." + b.ref.ID)
	w.spoil("paykit.log.charge.updated." + nobody + "." + b.ref.ID)
	whole := b.charged()
	w.post("/v1/refunds", "payment_intent", damaged.ProviderPaymentID, "amount", "900")
	w.post("/v1/refunds", "payment_intent", whole.ProviderPaymentID, "amount", "800")
	end := w.end()

	r := w.compare(reconcile.Options{Fix: true})
	var problems []string
	for _, p := range r.Problems {
		problems = append(problems, p.Entity+" "+p.ID)
	}
	if diff := cmp.Diff([]string{"charge " + damaged.ID, "charge " + nobody}, problems); diff != "" {
		t.Error(diff)
	}
	if r.OK || r.Repaired != 1 || r.Remaining != 1 {
		t.Errorf("report %+v", r)
	}
	for _, d := range r.Differences {
		if d.Kind != reconcile.KindRefund || d.Repaired != (d.EntityID == whole.ID) || d.Repairable != d.Repaired || d.Repaired == (d.Proposal != "") {
			t.Errorf("difference %+v", d)
		}
	}
	if now := w.end(); now != end+1 {
		t.Errorf("%d events were appended, want one", now-end)
	}
	if r := w.compare(reconcile.Options{Since: time.Now().Add(24 * time.Hour)}); r.OK || r.Remaining != 0 || len(r.Problems) != 2 {
		t.Errorf("without a difference: %+v", r)
	}
}

// without shows the sandbox as it is where charges were made without a payment, by other software.
func (w *world) without() *stripe.Client {
	w.Helper()
	to, err := url.Parse(w.sandbox)
	if err != nil {
		w.Fatal(err)
	}
	payment := regexp.MustCompile(`"payment_intent": ?"pi_\w+"`)
	proxy := httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) },
		ModifyResponse: func(res *http.Response) error {
			body, err := io.ReadAll(res.Body)
			if err != nil {
				return err
			}
			body = payment.ReplaceAll(body, []byte(`"payment_intent":null`))
			if res.Request.URL.Path == "/v1/payment_intents" {
				body = []byte(`{"object":"list","data":[],"has_more":false}`)
			}
			res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			res.Header.Del("Content-Length")
			return nil
		},
	}
	srv := httptest.NewServer(&proxy)
	w.Cleanup(srv.Close)
	api, err := stripe.New(stripe.Config{APIKey: testKey, APIBase: srv.URL, Env: w.log.Env(), Rate: 500})
	if err != nil {
		w.Fatal(err)
	}
	return api
}

// A charge without a payment is in no list of payments, so neither it nor what hangs on it is in the sums.
func TestChargesWithoutPayment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.linked("pm_card_visa")
	pi := b.paid(b.cus, 1500)
	p, err := w.api.Payment(t.Context(), pi)
	if err != nil {
		t.Fatal(err)
	}
	p.ID = ""
	w.observe(provider.PaymentSeen{Payment: p})
	w.post("/v1/refunds", "payment_intent", pi, "amount", "400")
	w.api = w.without()
	if r := w.compare(reconcile.Options{Fix: true}); !r.OK || r.Repaired != 1 || len(r.Sums) != 0 {
		t.Errorf("the refund is repaired: %+v", r)
	}
	if r := w.compare(reconcile.Options{Money: true}); !r.OK || len(r.Sums) != 0 || r.Compared.Refunds != 1 {
		t.Errorf("report %+v", r)
	}
	w.verified()
}
