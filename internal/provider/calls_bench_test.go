package provider_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
	"github.com/paykit-go/paykit/internal/provider"
	"github.com/paykit-go/paykit/internal/provider/stripe"
)

// answering answers every request at once, without a network.
type answering struct{}

func (answering) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Request-Id": {"req_1"}},
		Body: io.NopCloser(strings.NewReader(`{"id":"pi_1","object":"payment_intent","status":"requires_confirmation"}`)),
	}, nil
}

// nowhere takes records and keeps none.
type nowhere struct{}

func (nowhere) StoreCalls(context.Context, []eventlog.Call) error { return nil }

// BenchmarkCall is a call to the provider without a network: what recording it costs is the difference. "recorded" is what
// the caller pays, "stored" has the server on the same processors.
func BenchmarkCall(b *testing.B) {
	adapter, err := stripe.New(stripe.Config{APIKey: testKey, APIBase: "http://stripe.invalid", Env: "env", HTTPClient: &http.Client{Transport: answering{}}})
	if err != nil {
		b.Fatal(err)
	}
	for _, bb := range []struct {
		name  string
		store func(b *testing.B) provider.CallStore
	}{
		{"plain", func(*testing.B) provider.CallStore { return nil }},
		{"recorded", func(*testing.B) provider.CallStore { return nowhere{} }},
		{"stored", func(b *testing.B) provider.CallStore { b.Helper(); return eventlogtest.Provisioned(b) }},
	} {
		b.Run(bb.name, func(b *testing.B) {
			metrics := prometheus.NewRegistry()
			api, stop := provider.GuardRecorded(stripeID, adapter, bb.store(b), metrics)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := api.ConfirmPayment(b.Context(), "paykit:env:chg_1:confirm", "pi_1", provider.ConfirmRequest{MethodID: "pm_1"}); err != nil {
					b.Fatal(err)
				}
			}
			stop()
			families, err := metrics.Gather()
			if err != nil {
				b.Fatal(err)
			}
			for _, f := range families { // only the counter of what was dropped
				b.ReportMetric(f.GetMetric()[0].GetCounter().GetValue()/float64(b.N), "dropped/op")
			}
		})
	}
}
