//go:build crashpoints

package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// toxic is something that goes wrong in a connection: https://github.com/Shopify/toxiproxy#toxics
type toxic struct{ kind, stream, attributes string }

// networkCase is one way for a connection to be bad, for so long.
type networkCase struct {
	name   string
	toxics []toxic
	lasts  time.Duration
}

const down, up = "downstream", "upstream" // from the server, to the server

// slow is latency of 300 ± 200 ms, each way.
func slow() []toxic {
	return []toxic{
		{"latency", down, `{"latency":300,"jitter":200}`},
		{"latency", up, `{"latency":300,"jitter":200}`},
	}
}

// networkCases are the ways in which the connection of a program to a server goes bad under load.
func networkCases() map[string][]networkCase {
	lostAnswers := []toxic{{"timeout", down, `{"timeout":300}`}} // nothing comes back; after 0.3 s of silence the connection ends
	lostWords := []toxic{{"timeout", up, `{"timeout":300}`}}     // nothing arrives; after 0.3 s of silence the connection ends
	silent := []toxic{{"timeout", down, `{"timeout":0}`}, {"timeout", up, `{"timeout":0}`}}
	reset := []toxic{{"reset_peer", down, `{"timeout":200}`}}
	return map[string][]networkCase{
		"worker to NATS": {
			{"latency", slow(), 5 * time.Second},
			{"bandwidth of 8 KB/s", []toxic{{"bandwidth", down, `{"rate":8}`}, {"bandwidth", up, `{"rate":8}`}}, 5 * time.Second},
			{"lost PubAcks", lostAnswers, 5 * time.Second},
			{"lost acks", lostWords, 5 * time.Second},
			{"resets", reset, 4 * time.Second},
			{"half-open", silent, 35 * time.Second}, // until both sides have given it up
		},
		"worker to Stripe": {
			{"latency", slow(), 5 * time.Second},
			{"bandwidth of 1 KB/s", []toxic{{"bandwidth", down, `{"rate":1}`}}, 5 * time.Second},
			{"lost answers", lostAnswers, 5 * time.Second},
			{"answers cut in the middle", []toxic{{"limit_data", down, `{"bytes":700}`}}, 4 * time.Second},
			{"resets", reset, 4 * time.Second},
			{"half-open", silent, 15 * time.Second},
		},
		"ingest to NATS": {
			{"latency", slow(), 5 * time.Second},
			{"lost PubAcks", lostAnswers, 5 * time.Second},
			{"lost acks", lostWords, 5 * time.Second},
			{"resets", reset, 4 * time.Second},
			{"half-open", silent, 35 * time.Second},
		},
	}
}

// The connections between the processes and what they stand on go bad in every way, one after the other, under load. When
// they are good again, everything ends as if nothing had happened.
func TestNetwork(t *testing.T) {
	t.Parallel()
	for link, cases := range networkCases() {
		t.Run(link, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t)
			s.quicken()
			proxy := s.through(link)
			for _, c := range cases {
				s.endure(link, proxy, c)
				if t.Failed() {
					t.Fatalf("the failure is of %s", c.name)
				}
			}
		})
	}
}

// endure tells stories while the connection is bad, for as long as the case says and until the program has felt it, and
// wants all well once it is good again.
func (s *system) endure(link string, proxy *toxiproxy.Proxy, c networkCase) {
	s.t.Helper()
	l := s.newLoad(strings.NewReplacer(" ", "_", "/", "_").Replace(link + "_" + c.name))
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*crashBound)
	defer cancel()
	good, told := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(told)
		l.run(ctx, 2, good)
	}()
	<-time.After(300 * time.Millisecond) // in the middle of it
	felt, began := s.signOf(link, proxy, c.toxics[0].kind), time.Now()
	for i, t := range c.toxics {
		body := fmt.Sprintf(`{"name":"t%d","type":%q,"stream":%q,"toxicity":1,"attributes":%s}`, i, t.kind, t.stream, t.attributes)
		if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(body)); err != nil {
			s.t.Fatalf("%s: %v", c.name, err)
		}
	}
	<-time.After(c.lasts)
	var seen string
	eventually(s.t, link+", "+c.name+": the program feels it", func() (yes bool) {
		yes, seen = felt()
		return yes
	})
	lasted := time.Since(began)
	proxy.Toxics.ResetToxics(ctx)
	at := time.Now()
	close(good)
	<-told
	l.settle(ctx)
	s.t.Logf("%s, %s for %s: %s; well again after %s", link, c.name, lasted.Round(100*time.Millisecond), seen, time.Since(at).Round(100*time.Millisecond))
}

// through puts a proxy into a connection: of a program to NATS, or of the worker to the sandbox.
func (s *system) through(link string) *toxiproxy.Proxy {
	s.t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	upstream := host(strings.Replace(s.natsURL, "nats://", "http://", 1))
	if link == "worker to Stripe" {
		upstream = host(s.sandbox)
	}
	proxy := toxiproxy.NewProxy(server, link, "127.0.0.1:0", upstream)
	if err := proxy.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(proxy.Stop)
	switch link {
	case "worker to Stripe":
		s.wk.kill()
		s.startWorker("STRIPE_API_BASE=http://" + proxy.Listen)
		s.wk.awaitHTTP(s.worker + "/readyz")
	case "worker to NATS":
		s.wk.kill()
		s.startWorker("NATS_URL=nats://" + proxy.Listen)
		s.wk.awaitHTTP(s.worker + "/readyz")
	default:
		s.in.kill()
		s.startIngest("NATS_URL=nats://" + proxy.Listen)
		s.in.awaitHTTP(s.ingest + "/readyz")
	}
	return proxy
}
