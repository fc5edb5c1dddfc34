package deploy_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/provider"
	"github.com/paykit-go/paykit/internal/provider/stripe"
	"github.com/paykit-go/paykit/internal/reconcile"
)

// compared repairs, with the worker's rights, a payment that no delivery told of: all that "paykit reconcile --fix" needs.
func compared(t *testing.T, s *system) {
	t.Helper()
	post := func(path, kind, body string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.sandbox+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", kind)
		req.Header.Set("Authorization", "Bearer sk_test_deploy")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", path, res.Status)
		}
	}
	nc, err := as(t, s.server, "worker").Connect("worker", zerolog.New(s.log))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	log, err := eventlog.Open(t.Context(), nc, eventlog.Config{})
	if err != nil {
		t.Fatal(err)
	}
	client, err := stripe.New(stripe.Config{APIKey: "sk_test_deploy", APIBase: s.sandbox, Env: log.Env()}) //nolint:gosec // G101: the sandbox takes any
	if err != nil {
		t.Fatal(err)
	}
	paid := url.Values{"amount": {"1500"}, "currency": {"usd"}, "confirm": {"true"}, "off_session": {"true"}, "payment_method_types[]": {"card"}}
	err = client.ListCustomers(t.Context(), time.Time{}, func(c provider.CustomerSeen) error {
		paid.Set("customer", c.ID)
		return client.ListMethods(t.Context(), c.ID, func(m events.Method) error {
			paid.Set("payment_method", m.ID)
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	post("/_sandbox/webhooks", "application/json", `{"drop":true}`)
	post("/v1/payment_intents", "application/x-www-form-urlencoded", paid.Encode())
	post("/_sandbox/webhooks", "application/json", `{}`)
	report, err := reconcile.Run(t.Context(), log, client, reconcile.Options{ProviderID: "stripe", Fix: true, Logger: zerolog.New(s.log)})
	if err != nil || report.Repaired == 0 || !report.OK {
		t.Errorf("reconcile: %+v, %v", report, err)
	}
	if nc.LastError() != nil {
		t.Errorf("reconcile: %v", nc.LastError())
	}
}
