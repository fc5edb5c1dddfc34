package provider_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events/eventlogtest"
	"github.com/paykit-go/paykit/internal/provider"
)

const inbox = "PAYKIT_INBOX"

func TestDoorAnswers(t *testing.T) { //nolint:tparallel // its rows share one server, one after the other
	t.Parallel()
	in := newIngest(t, options{asleep: true})
	now := time.Now()
	good := `{"id":"evt_good","type":"charge.succeeded","data":{"object":{}}}`
	padded := func(size int) string {
		return `{"id":"evt_big","type":"some.thing","pad":"` + strings.Repeat("x", size) + `"}`
	}
	tests := []struct {
		name      string
		method    string
		path      string
		body      string
		signature func(body string) string
		status    int
		code      string
		stored    int
	}{
		{name: "good", body: good, status: 200, stored: 1},
		{name: "the same again", body: good, status: 200},
		{
			name: "signed with the older secret", body: `{"id":"evt_old","type":"a.b"}`, status: 200, stored: 1,
			signature: func(b string) string { return sign(b, oldOne, now) },
		},
		{name: "a type that means nothing", body: `{"id":"evt_x","type":"mystery.happened","data":null}`, status: 200, stored: 1},
		{name: "another API version", body: `{"id":"evt_v","type":"a.b","api_version":"2031-01-01.zebra"}`, status: 200, stored: 1},
		{name: "an object of the wrong shape", body: `{"id":"evt_s","type":"charge.succeeded","data":{"object":[1]}}`, status: 200, stored: 1},
		{name: "an id full of wildcards", body: `{"id":"*.> ü\u0000","type":"a.b"}`, status: 200, stored: 1},
		{name: "just not too large", body: padded(provider.MaxDelivery - 100), status: 200, stored: 1},
		{name: "too large", body: padded(provider.MaxDelivery), status: 413, code: "too_large"},
		{name: "unsigned", body: good, signature: func(string) string { return "" }, status: 400, code: "bad_signature"},
		{name: "no secret of ours", body: good, signature: func(b string) string { return sign(b, "whsec_other", now) }, status: 400, code: "bad_signature"},
		{name: "empty secret", body: good, signature: func(b string) string { return sign(b, "", now) }, status: 400, code: "bad_signature"},
		{name: "signed for another body", body: good, signature: func(string) string { return sign("{}", secret, now) }, status: 400, code: "bad_signature"},
		{name: "too old", body: good, signature: func(b string) string { return sign(b, secret, now.Add(-310*time.Second)) }, status: 400, code: "bad_signature"},
		{name: "from the future", body: good, signature: func(b string) string { return sign(b, secret, now.Add(310*time.Second)) }, status: 400, code: "bad_signature"},
		{name: "old, but not too old", body: `{"id":"evt_o","type":"a.b"}`, signature: func(b string) string { return sign(b, secret, now.Add(-280*time.Second)) }, status: 200, stored: 1},
		{name: "signed, no JSON", body: `{"id":"evt_j","type":`, status: 400, code: "malformed"},
		{name: "signed, an array", body: `[{"id":"evt_a","type":"a.b"}]`, status: 400, code: "malformed"},
		{name: "signed, empty", body: ``, status: 400, code: "malformed"},
		{name: "signed, null", body: `null`, status: 400, code: "malformed"},
		{name: "signed, no id", body: `{"type":"a.b"}`, status: 400, code: "malformed"},
		{name: "signed, no type", body: `{"id":"evt_n"}`, status: 400, code: "malformed"},
		{name: "signed, id is a number", body: `{"id":7,"type":"a.b"}`, status: 400, code: "malformed"},
		{name: "signed, too deep", body: strings.Repeat("[", 20_000), status: 400, code: "malformed"},
		{
			name: "signed, a thin event", status: 400, code: "thin_event",
			body: `{"id":"evt_t","object":"v2.core.event","type":"v1.billing.meter.no_meter_found","created":"2026-01-02T03:04:05.000Z",` +
				`"livemode":false,"related_object":{"id":"mtr_1","type":"billing.meter","url":"/v1/billing/meters/mtr_1"}}`,
		},
		{name: "unknown provider", path: "/webhooks/paypal", body: good, status: 404, code: "provider_not_found"},
		{name: "no provider", path: "/webhooks/", body: good, status: 404, code: "not_found"},
		{name: "deeper path", path: "/webhooks/stripe/x", body: good, status: 404, code: "not_found"},
		{name: "GET", method: http.MethodGet, status: 405, code: "method_not_allowed"},
		{name: "PUT", method: http.MethodPut, body: good, status: 405, code: "method_not_allowed"},
		{name: "DELETE", method: http.MethodDelete, status: 405, code: "method_not_allowed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in.t = t
			before := in.deliveries()
			if tt.method == "" {
				tt.method = http.MethodPost
			}
			if tt.path == "" {
				tt.path = "/webhooks/stripe"
			}
			if tt.signature == nil {
				tt.signature = func(b string) string { return sign(b, secret, now) }
			}
			res := in.send(tt.method, tt.path, tt.body, tt.signature(tt.body))
			if res.StatusCode != tt.status {
				t.Fatalf("status %d, want %d: %s", res.StatusCode, tt.status, res.text)
			}
			if got := in.deliveries() - before; got != tt.stored {
				t.Errorf("stored %d, want %d", got, tt.stored)
			}
			if tt.status == http.StatusMethodNotAllowed && res.Header.Get("Allow") != http.MethodPost {
				t.Errorf("Allow is %q", res.Header.Get("Allow"))
			}
			var answer struct {
				Stored bool `json:"stored"`
				Error  struct {
					Code    string `json:"code"`
					Message string `json:"message"`
				} `json:"error"`
			}
			if err := json.Unmarshal([]byte(res.text), &answer); err != nil {
				t.Fatalf("answer %q: %v", res.text, err)
			}
			if answer.Error.Code != tt.code || (tt.code == "") == (answer.Error.Message != "") || answer.Stored != (tt.status == 200) {
				t.Errorf("answer %s, want code %q", res.text, tt.code)
			}
		})
	}
	in.t = t
	if got := in.counted("paykit_webhook_deliveries_total", map[string]string{"provider": "stripe", "result": "bad_signature"}); got != 6 {
		t.Errorf("counted %v bad signatures, want 6", got)
	}
	if got := in.counted("paykit_webhook_deliveries_total", map[string]string{"provider": "stripe", "result": "thin_event"}); got != 1 {
		t.Errorf("counted %v thin events, want 1", got)
	}
	if got := in.counted("paykit_webhook_deliveries_total", map[string]string{"provider": "unknown", "result": "provider_not_found"}); got != 1 {
		t.Errorf("counted %v unknown providers, want 1", got)
	}
	if got := in.counted("paykit_webhook_seconds", map[string]string{"provider": "stripe"}); got < 20 {
		t.Errorf("timed %v deliveries", got)
	}
	if logs := in.logs.String(); strings.Contains(logs, "whsec") || strings.Contains(logs, "xxxxx") {
		t.Errorf("the log holds a secret or a body: %s", logs)
	}
}

// What is stored is what was sent, byte for byte, under a subject that names provider, event and customer.
func TestDoorStoresTheBodyAsItCame(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{asleep: true})
	body := "{ \"type\":\"payment_method.detached\",\n\"id\":\"evt_1\", \"api_version\":\"2020-08-27\"," +
		`"data":{"object":{"id":"pm_1","type":"card","customer":null},"previous_attributes":{"customer":"cus_7"}}}`
	if status, text := in.post(body); status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	msg, err := in.log.Conn().RequestWithContext(t.Context(), "$JS.API.DIRECT.GET."+inbox,
		[]byte(`{"last_by_subj":"paykit.inbox.stripe.evt_1.cus_7"}`))
	if err != nil {
		t.Fatal(err)
	}
	if string(msg.Data) != body || msg.Header.Get("Paykit-Api-Version") != "2020-08-27" {
		t.Errorf("stored %q %v", msg.Data, msg.Header)
	}
	if msg.Header.Get("Stripe-Signature") != "" {
		t.Error("the signature was kept")
	}
}

func TestDoorWhenTheStorageIsAway(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{asleep: true})
	in.server.Stop()
	body := `{"id":"evt_1","type":"a.b"}`
	res := in.send(http.MethodPost, "/webhooks/stripe", body, sign(body, secret, time.Now()))
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" || !strings.Contains(res.text, "unavailable") {
		t.Errorf("%d %v %s", res.StatusCode, res.Header, res.text)
	}
	in.server.Resume()
	deadline := time.Now().Add(patience)
	for status := 0; status != http.StatusOK; {
		status, _ = in.post(body)
		if time.Now().After(deadline) {
			t.Fatalf("still %d after the server came back", status)
		}
	}
	if got := in.deliveries(); got != 1 {
		t.Errorf("stored %d", got)
	}
}

func TestDoorWhenTheStorageIsFull(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{asleep: true})
	in.limitInbox(in.deliveries() + 1)
	first, second := `{"id":"evt_1","type":"a.b"}`, `{"id":"evt_2","type":"a.b"}`
	if status, text := in.post(first); status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	res := in.send(http.MethodPost, "/webhooks/stripe", second, sign(second, secret, time.Now()))
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" || !strings.Contains(res.text, "storage_full") {
		t.Errorf("%d %v %s", res.StatusCode, res.Header, res.text)
	}
	if status, text := in.post(first); status != http.StatusOK || !strings.Contains(text, "duplicate") {
		t.Errorf("a delivery that is there already: %d %s", status, text)
	}
}

// limitInbox lets INBOX hold so many messages.
func (in *ingest) limitInbox(messages int) {
	in.t.Helper()
	msg, err := in.log.Conn().RequestWithContext(in.t.Context(), "$JS.API.STREAM.INFO."+inbox, nil)
	if err != nil {
		in.t.Fatal(err)
	}
	var info struct {
		Config map[string]json.RawMessage `json:"config"`
	}
	if err := json.Unmarshal(msg.Data, &info); err != nil {
		in.t.Fatal(err)
	}
	info.Config["max_msgs"] = json.RawMessage(fmt.Sprint(messages))
	body, err := json.Marshal(info.Config)
	if err != nil {
		in.t.Fatal(err)
	}
	msg, err = in.log.Conn().RequestWithContext(in.t.Context(), "$JS.API.STREAM.UPDATE."+inbox, body)
	if err != nil || strings.Contains(string(msg.Data), `"error"`) {
		in.t.Fatalf("limit the inbox: %v %s", err, msg.Data)
	}
}

// A body that does not come to its end holds nobody up for long, and one that is announced too large is not read.
func TestDoorBoundsTheRead(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	in := &ingest{t: t, log: log}
	door := httptest.NewServer(provider.NewDoor(log, in.hooks(), provider.DoorConfig{ReadTimeout: 200 * time.Millisecond}))
	t.Cleanup(door.Close)
	for _, tt := range []struct {
		name, request string
		status        int
	}{
		{"a body that stops", "POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{", http.StatusRequestTimeout},
		{"a chunked body that stops", "POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", http.StatusRequestTimeout},
		{"announced too large", "POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", http.StatusRequestEntityTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(door.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, tt.request); err != nil {
				t.Fatal(err)
			}
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = res.Body.Close() }()
			if res.StatusCode != tt.status || !res.Close {
				t.Errorf("status %d, close %v", res.StatusCode, res.Close)
			}
		})
	}
}

// A chunked body has no announced length; the limit holds all the same.
func TestDoorBoundsChunkedBodies(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{asleep: true})
	body := strings.Repeat("x", provider.MaxDelivery+1)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, in.url+"/webhooks/stripe", io.MultiReader(strings.NewReader(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Stripe-Signature", sign(body, secret, time.Now()))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", res.StatusCode)
	}
}

// 200 copies at once are one stored delivery, one event, and 200 good answers.
func TestDoorTwoHundredCopiesAtOnce(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{})
	b := in.buyer().charge("")
	after := in.last()
	body := b.event("payment_intent.succeeded", b.intent("succeeded"))
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	answers := make(chan string, 200)
	for range 200 {
		wg.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, in.url+"/webhooks/stripe", strings.NewReader(body))
			if err != nil {
				answers <- err.Error()
				return
			}
			req.Header.Set("Stripe-Signature", sign(body, secret, time.Now()))
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				answers <- err.Error()
				return
			}
			defer func() { _ = res.Body.Close() }()
			text, err := io.ReadAll(res.Body)
			answers <- fmt.Sprint(res.StatusCode, " ", strings.TrimSpace(string(text)), " ", err)
		})
	}
	wg.Wait()
	close(answers)
	got := map[string]int{}
	for a := range answers {
		got[a]++
	}
	if got[`200 {"stored":true} <nil>`] != 1 || got[`200 {"stored":true,"duplicate":true} <nil>`] != 199 {
		t.Errorf("answers %v", got)
	}
	in.changed()
	if types := in.types(after); len(types) != 1 || in.deliveries() != 1 {
		t.Errorf("events %v, deliveries %d", types, in.deliveries())
	}
}

// How long nothing came is told from the last good delivery on; a refused one is none.
func TestDoorTellsItsSilence(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{asleep: true})
	metrics, start := prometheus.NewRegistry(), time.Now()
	var passed atomic.Int64
	now := func() time.Time { return start.Add(time.Duration(passed.Load())) }
	in.metrics = metrics
	door := httptest.NewServer(provider.NewDoor(in.log, in.hooks(), provider.DoorConfig{
		Logger: zerolog.Nop(), Registerer: metrics, Now: now,
	}))
	defer door.Close()
	in.url = door.URL
	silence := func(want float64) {
		t.Helper()
		if got := in.counted("paykit_webhook_silence_seconds", map[string]string{"provider": stripeID}); got != want {
			t.Errorf("silent for %v s, want %v", got, want)
		}
	}
	send := func(body, secret string) {
		t.Helper()
		_ = in.send(http.MethodPost, "/webhooks/stripe", body, sign(body, secret, now()))
	}
	silence(0)
	passed.Add(int64(70 * time.Second))
	silence(70)
	send(`{"id":"evt_1","type":"a.b"}`, "whsec_other")
	silence(70)
	send(`{"id":"evt_1","type":"a.b"}`, secret)
	silence(0)
	passed.Add(int64(30 * time.Second))
	send(`{"id":"evt_1","type":"a.b"}`, secret) // a duplicate is a sign of life too
	silence(0)
}
