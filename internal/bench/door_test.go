package bench_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stripe/stripe-go/v76/webhook"

	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
	"github.com/paykit-go/paykit/internal/provider"
	"github.com/paykit-go/paykit/internal/provider/stripe"
)

// stripeDelivery is what Stripe sends when a payment succeeded, %s is the event's id: of a customer that is nobody's here, so
// that it leads to nothing.
const stripeDelivery = `{
  "id": "%s",
  "object": "event",
  "api_version": "2023-10-16",
  "created": 1795328040,
  "data": {
    "object": {
      "id": "pi_3OaQp2LkdIwHu7ix0aB1cD2e",
      "object": "payment_intent",
      "amount": 4900,
      "amount_capturable": 0,
      "amount_details": {
        "tip": {
        }
      },
      "amount_received": 4900,
      "application": null,
      "application_fee_amount": null,
      "automatic_payment_methods": null,
      "canceled_at": null,
      "cancellation_reason": null,
      "capture_method": "automatic",
      "client_secret": "pi_3OaQp2LkdIwHu7ix0aB1cD2e_secret_none",
      "confirmation_method": "automatic",
      "created": 1795328038,
      "currency": "usd",
      "customer": "cus_PPFbSJ4dXo1q7R",
      "description": "Subscription of November",
      "invoice": null,
      "last_payment_error": null,
      "latest_charge": "ch_3OaQp2LkdIwHu7ix0zY9xW8v",
      "livemode": false,
      "metadata": {
        "order": "2026-11-22-000137",
        "plan": "team"
      },
      "next_action": null,
      "on_behalf_of": null,
      "payment_method": "pm_1OaQnzLkdIwHu7ixq1w2e3r4",
      "payment_method_configuration_details": null,
      "payment_method_options": {
        "card": {
          "installments": null,
          "mandate_options": null,
          "network": null,
          "request_three_d_secure": "automatic"
        }
      },
      "payment_method_types": [
        "card"
      ],
      "processing": null,
      "receipt_email": null,
      "review": null,
      "setup_future_usage": null,
      "shipping": null,
      "source": null,
      "statement_descriptor": null,
      "statement_descriptor_suffix": null,
      "status": "succeeded",
      "transfer_data": null,
      "transfer_group": null
    }
  },
  "livemode": false,
  "pending_webhooks": 1,
  "request": {
    "id": "req_Zk3Jq8sD1fG6hL",
    "idempotency_key": "4d1f6c0e-8a51-4f0a-9d0e-2f4f5a6b7c8d"
  },
  "type": "payment_intent.succeeded"
}`

// sender is one connection that delivers as a provider does, and costs as little as it can, because it shares the machine
// with what it measures: one write and one read for each delivery, nothing allocated; only the id and the signature change.
type sender struct {
	conn    net.Conn
	mac     hash.Hash
	request []byte // head and body; those below are parts of it, overwritten in place
	body    []byte
	id, sig []byte
	at      []byte // "<unix time>."
	sum     []byte
	answer  []byte
}

const (
	idLength  = 28 // "evt_" and a number
	sigLength = 2 * sha256.Size
)

func newSender(target string) (*sender, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	conn, err := net.DialTimeout("tcp", u.Host, 10*time.Second) //nolint:noctx // bounded, on this machine
	if err != nil {
		return nil, err
	}
	at := strconv.FormatInt(time.Now().Unix(), 10)
	blank := "evt_" + string(bytes.Repeat([]byte("0"), idLength-len("evt_")))
	body := fmt.Sprintf(stripeDelivery, blank)
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: Stripe/1.0 (+https://stripe.com/docs/webhooks)\r\n"+
		"Accept: */*; q=0.5, application/xml\r\nCache-Control: no-cache\r\nContent-Type: application/json; charset=utf-8\r\n"+
		"Content-Length: %d\r\nStripe-Signature: t=%s,v1=", u.RequestURI(), u.Host, len(body), at)
	request := []byte(head + string(bytes.Repeat([]byte("0"), sigLength)) + "\r\n\r\n" + body)
	s := &sender{
		conn: conn, mac: hmac.New(sha256.New, []byte(secret)), request: request, body: request[len(request)-len(body):],
		sig: request[len(head) : len(head)+sigLength], at: []byte(at + "."), answer: make([]byte, 4096),
	}
	from := bytes.Index(s.body, []byte(blank))
	s.id = s.body[from : from+idLength]
	return s, nil
}

// deliver sends the delivery of this number and reads the answer.
func (s *sender) deliver(n int64) error {
	for i := idLength - 1; n > 0; i-- {
		s.id[i] = byte('0' + n%10)
		n /= 10
	}
	s.mac.Reset()
	s.mac.Write(s.at)
	s.mac.Write(s.body)
	s.sum = s.mac.Sum(s.sum[:0])
	hex.Encode(s.sig, s.sum)
	if err := s.conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	if _, err := s.conn.Write(s.request); err != nil {
		return err
	}
	for got := 0; ; {
		n, err := s.conn.Read(s.answer[got:])
		if err != nil {
			return err
		}
		if got += n; got == len(s.answer) {
			return errors.New("an answer without end")
		}
		if whole(s.answer[:got]) {
			break
		}
	}
	if !bytes.HasPrefix(s.answer, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("answered %.60q", s.answer)
	}
	return nil
}

// whole tells whether an answer has come to its end.
func whole(answer []byte) bool {
	head, body, ok := bytes.Cut(answer, []byte("\r\n\r\n"))
	if !ok {
		return false
	}
	_, length, ok := bytes.Cut(head, []byte("Content-Length: "))
	if !ok {
		return true
	}
	length, _, _ = bytes.Cut(length, []byte("\r"))
	n := 0
	for _, c := range length {
		n = 10*n + int(c-'0')
	}
	return len(body) >= n
}

// load is what so many connections got through.
type load struct {
	perSecond float64
	p50, p99  time.Duration
	allocs    float64 // of this process, for each delivery; the senders make none
}

// deliveries keeps each delivery's id from coming twice.
var deliveries atomic.Int64 //nolint:gochecknoglobals // of this program's run

// deliver has so many connections deliver, each one after the other, for a span.
func deliver(b *testing.B, target string, connections int) load {
	b.Helper()
	senders := make([]*sender, connections)
	for i := range senders {
		s, err := newSender(target)
		if err != nil {
			b.Fatal(err)
		}
		defer s.conn.Close()
		senders[i] = s
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var all []time.Duration
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	for _, s := range senders {
		wg.Go(func() {
			mine := make([]time.Duration, 0, 4096)
			for t := began; t.Sub(began) < span; {
				if err := s.deliver(deliveries.Add(1)); err != nil {
					b.Error(err)
					return
				}
				now := time.Now()
				mine = append(mine, now.Sub(t))
				t = now
			}
			mu.Lock()
			all = append(all, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	took := time.Since(began)
	runtime.ReadMemStats(&after)
	if len(all) == 0 {
		b.Fatal("nothing was delivered")
	}
	slices.Sort(all)
	return load{
		perSecond: float64(len(all)) / took.Seconds(), p50: all[len(all)/2], p99: p99of(all),
		allocs: float64(after.Mallocs-before.Mallocs) / float64(len(all)),
	}
}

// bare is what a user of stripe-go writes: it reads a delivery, verifies its signature and parses it, and does nothing more.
func bare(b *testing.B) string {
	b.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err == nil {
			_, err = webhook.ConstructEventWithOptions(body, r.Header.Get("Stripe-Signature"), secret,
				webhook.ConstructEventOptions{IgnoreAPIVersionMismatch: true})
		}
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	b.Cleanup(srv.Close)
	return srv.URL
}

// verifying is the least that a handler can do: it reads a delivery and verifies its signature with stripe-go.
func verifying(b *testing.B) string {
	b.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil || webhook.ValidatePayload(body, r.Header.Get("Stripe-Signature"), secret) != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	b.Cleanup(srv.Close)
	return srv.URL
}

// doorAlone is the webhook door on a broker of its own that syncs every write, without whatever reads the deliveries.
func doorAlone(b *testing.B) (target string, log *eventlog.Log) {
	b.Helper()
	broker := eventlogtest.Start(b, func(o *server.Options) { o.MaxPayload = 2 << 20 })
	log = eventlogtest.Open(b, broker.Conn(b))
	hooks, err := stripe.NewWebhooks([]string{secret})
	if err != nil {
		b.Fatal(err)
	}
	srv := httptest.NewServer(provider.NewDoor(log, map[string]provider.Webhooks{"stripe": hooks}, provider.DoorConfig{Logger: zerolog.Nop()}))
	b.Cleanup(srv.Close)
	return srv.URL + "/webhooks/stripe", log
}

// publish stores bodies of a size, each guarded by a subject of its own, so many at once: what the broker takes
// without a door before it and without batches.
func publish(b *testing.B, nc *nats.Conn, atOnce, size int) load {
	b.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := js.CreateOrUpdateStream(b.Context(), jetstream.StreamConfig{Name: "BARE", Subjects: []string{"bare.>"}}); err != nil {
		b.Fatal(err)
	}
	body := bytes.Repeat([]byte("x"), size)
	perSecond, times := rate(b, atOnce, func(int) error {
		subject := "bare." + strconv.FormatInt(deliveries.Add(1), 10)
		_, err := js.Publish(b.Context(), subject, body, jetstream.WithExpectLastSequenceForSubject(0, subject))
		return err
	})
	return load{perSecond: perSecond, p50: times[len(times)/2], p99: p99of(times)}
}

// over gives the median over the rounds of how one side stands to the other.
func over(one, other []load, of func(load) float64) float64 {
	ratios := make([]float64, len(one))
	for i := range one {
		ratios[i] = of(one[i]) / of(other[i])
	}
	return median(ratios)
}

func middle(list []load, of func(load) float64) float64 {
	values := make([]float64, len(list))
	for i := range list {
		values[i] = of(list[i])
	}
	return median(values)
}

func perSecond(l load) float64 { return l.perSecond }
func p50(l load) float64       { return float64(l.p50) }
func p99(l load) float64       { return float64(l.p99) }
func allocs(l load) float64    { return l.allocs }

// BenchmarkWebhooks: deliveries durably accepted per second, beside a handler that keeps nothing.
func BenchmarkWebhooks(b *testing.B) {
	door, log := doorAlone(b)
	handler, least := bare(b), verifying(b)
	ratio := map[int]bound{16: atLeast(0.3), 128: atLeast(0.8)}
	for _, connections := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("connections=%d", connections), func(b *testing.B) {
			var kept, parsed, verified, published []load
			for range rounds {
				parsed = append(parsed, deliver(b, handler, connections))
				kept = append(kept, deliver(b, door, connections))
				verified = append(verified, deliver(b, least, connections))
				published = append(published, publish(b, log.Conn(), connections, len(stripeDelivery)))
			}
			name := fmt.Sprintf("deliveries, %d connections", connections)
			figure(name+": durably accepted", middle(kept, perSecond), "1/s", bound{})
			figure(name+": by a bare handler with stripe-go", middle(parsed, perSecond), "1/s", bound{})
			figure(name+": accepted to bare handler", over(kept, parsed, perSecond), "ratio", ratio[connections])
			figure(name+": accepted to only verifying", over(kept, verified, perSecond), "ratio", bound{})
			figure(name+": accepted to single guarded publishes", over(kept, published, perSecond), "ratio", map[int]bound{16: atLeast(1)}[connections])
			figure(name+": p99 to the bare handler's", over(kept, parsed, p99), "ratio", map[int]bound{16: atMost(3), 128: atMost(3)}[connections])
			figure(name+": p99", middle(kept, p99)/1e6, "ms", bound{})
			figure(name+": allocations each, the broker's included", middle(kept, allocs), "", bound{})
			if connections == 1 {
				figure("a lone delivery to a bare handler and a bare publish",
					middle(kept, p50)/(middle(parsed, p50)+middle(published, p50)), "ratio", atMost(1.1))
			}
			report(b, over(kept, parsed, perSecond), "ratio", middle(kept, perSecond), "door/s")
		})
	}
}

// BenchmarkWebhooksBeside is the door of `paykit dev`, which normalizes meanwhile what came in: all on the same cores.
func BenchmarkWebhooksBeside(b *testing.B) {
	at, _ := engine(b)
	kept := deliver(b, at.HTTP+"/webhooks/stripe", 128)
	figure("deliveries, 128 connections: accepted while they are normalized", kept.perSecond, "1/s", bound{})
	figure("deliveries, 128 connections: p99 while they are normalized", p99(kept)/1e6, "ms", bound{})
	report(b, kept.perSecond, "door/s")
}
