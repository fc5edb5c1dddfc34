//go:build crashpoints

package e2e_test

import (
	"bufio"
	"strconv"
	"strings"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/nats-io/nats.go"
)

// sign tells whether a bad connection has been felt by the program behind it since watching began. What it says is for
// people: what was seen.
type sign func() (felt bool, said string)

// signOf begins to watch for what a kind of badness must lead to. A case without its sign has tested nothing.
func (s *system) signOf(link string, proxy *toxiproxy.Proxy, kind string) sign {
	s.t.Helper()
	slowed := kind == "latency" || kind == "bandwidth"
	switch {
	case link == "worker to Stripe" && slowed:
		return s.callsSlow()
	case link == "worker to Stripe":
		return s.callsFail()
	case link == "ingest to NATS" && slowed:
		return s.doorSlow()
	case slowed:
		return s.workerSlow(proxy)
	case link == "ingest to NATS":
		return reconnects(s.in)
	}
	return reconnects(s.wk)
}

// callsSlow wants the worker's calls to have taken a fifth of a second more often than not.
func (s *system) callsSlow() sign {
	seconds, calls := s.metric(s.worker, "paykit_provider_call_seconds_sum"), s.metric(s.worker, "paykit_provider_call_seconds_count")
	return func() (bool, string) {
		took := s.metric(s.worker, "paykit_provider_call_seconds_sum") - seconds
		n := s.metric(s.worker, "paykit_provider_call_seconds_count") - calls
		return n > 0 && took/n >= 0.2, figure(n) + " calls that took " + figure(took) + " s"
	}
}

// callsFail wants calls of the worker to have stayed without an answer. That they are made again shows sooner or later.
func (s *system) callsFail() sign {
	const calls, repeated = "paykit_provider_calls_total", "paykit_provider_repeated_calls_total"
	unanswered := func() float64 {
		return s.metric(s.worker, calls, `class="in_doubt"`) + s.metric(s.worker, calls, `class="transient"`)
	}
	failed, again := unanswered(), s.metric(s.worker, repeated)
	return func() (bool, string) {
		n := unanswered() - failed
		return n > 0, figure(n) + " calls without an answer, " + figure(s.metric(s.worker, repeated)-again) + " made again"
	}
}

// doorSlow wants deliveries to have waited for their storing.
func (s *system) doorSlow() sign {
	const metric = "paykit_webhook_seconds"
	seconds, stored := s.metric(s.ingest, metric+"_sum"), s.metric(s.ingest, metric+"_count")
	return func() (bool, string) {
		took, n := s.metric(s.ingest, metric+"_sum")-seconds, s.metric(s.ingest, metric+"_count")-stored
		return n > 0 && took/n >= 0.2, figure(n) + " deliveries that took " + figure(took) + " s"
	}
}

// workerSlow wants the worker to have handled events while whoever goes by its proxy has to wait: 8 KB to oneself and back
// take half a second at least.
func (s *system) workerSlow(proxy *toxiproxy.Proxy) sign {
	const metric = "paykit_worker_events_total"
	before := s.metric(s.worker, metric)
	return func() (bool, string) {
		handled, took := s.metric(s.worker, metric)-before, s.echo(proxy)
		return handled > 0 && took >= 200*time.Millisecond,
			figure(handled) + " events handled, and 8 KB take " + took.Round(time.Millisecond).String()
	}
}

// echo is how long 8 KB take through a proxy to NATS and back; 0 if they don't arrive.
func (s *system) echo(proxy *toxiproxy.Proxy) time.Duration {
	nc, err := nats.Connect("nats://"+proxy.Listen, nats.Timeout(10*time.Second))
	if err != nil {
		return 0
	}
	defer nc.Close()
	sub, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		return 0
	}
	began := time.Now()
	if err := nc.Publish(sub.Subject, make([]byte, 8<<10)); err != nil {
		return 0
	}
	if _, err := sub.NextMsg(20 * time.Second); err != nil {
		return 0
	}
	return time.Since(began)
}

// reconnects wants a program to have lost its connection to NATS, and to say so.
func reconnects(p *process) sign {
	const lost = `"nats disconnected"`
	before := strings.Count(p.out.String(), lost)
	return func() (bool, string) {
		n := strings.Count(p.out.String(), lost) - before
		return n > 0, strconv.Itoa(n) + " connections lost"
	}
}

// metric sums a metric of a process over its labels, or over those that hold all of some.
func (s *system) metric(url, name string, labels ...string) (sum float64) {
	s.t.Helper()
	_, body := get(s.t, url+"/metrics")
	lines := bufio.NewScanner(strings.NewReader(body))
next:
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, name+"{") && !strings.HasPrefix(line, name+" ") {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(line, label) {
				continue next
			}
		}
		v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			s.t.Errorf("metric %q: %v", line, err)
		}
		sum += v
	}
	return sum
}

func figure(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
