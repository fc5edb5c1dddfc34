package sandbox_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/paykit-go/paykit/internal/provider/stripe/sandbox"
)

// BenchmarkCharge is what the worker does for one charge, over HTTP: a payment created, then confirmed, each with a key.
func BenchmarkCharge(b *testing.B) {
	for name, file := range map[string]string{"memory": "", "kept": "state.jsonl"} {
		b.Run(name, func(b *testing.B) {
			cfg := sandbox.Config{}
			if file != "" {
				cfg.StateFile = filepath.Join(b.TempDir(), file)
			}
			sand, err := sandbox.New(cfg)
			if err != nil {
				b.Fatal(err)
			}
			server := httptest.NewServer(sand)
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
			b.Cleanup(func() {
				client.CloseIdleConnections()
				server.Close()
				sand.Close()
			})
			call := func(path, form, key string) (id string) {
				req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, server.URL+"/v1/"+path, strings.NewReader(form))
				if err != nil {
					b.Fatal(err)
				}
				req.Header = http.Header{
					"Authorization": {"Bearer sk_test_1"}, "Content-Type": {"application/x-www-form-urlencoded"}, "Idempotency-Key": {key},
				}
				resp, err := client.Do(req)
				if err != nil {
					b.Error(err)
					return ""
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				var object struct {
					ID string `json:"id"`
				}
				if err != nil || resp.StatusCode != http.StatusOK || json.Unmarshal(body, &object) != nil {
					b.Errorf("%d %v %s", resp.StatusCode, err, body)
				}
				return object.ID
			}
			cus := call("customers", "", "c")
			card := call("payment_methods/pm_card_visa/attach", "customer="+cus, "a")
			var n atomic.Int64
			b.SetParallelism(4)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					key := strconv.FormatInt(n.Add(1), 10)
					id := call("payment_intents", "amount=1900&currency=usd&payment_method_types[]=card&customer="+cus+"&payment_method="+card, key+"-create")
					call("payment_intents/"+id+"/confirm", "off_session=true", key+"-confirm")
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "charges/s")
		})
	}
}
