//go:build crashpoints

package e2e_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/paykit-go/paykit"
)

// takeover is how long a killed worker's calls may stay open, as shipped and without the help of a delivery.
const takeover = 40 * time.Second

// more starts another process of a program, on a port of its own, and waits until it is ready.
func (s *system) more(program string, env ...string) (p *process, url string) {
	s.t.Helper()
	url = fmt.Sprintf("http://127.0.0.1:%d", freePort(s.t))
	env = append(append(s.env(), "PAYKIT_HTTP_ADDR="+host(url)), env...)
	p = start(s.t, env, program)
	p.awaitHTTP(url + "/readyz")
	return p, url
}

func (s *system) moreWorker() (p *process, url string) {
	s.t.Helper()
	return s.more("worker", "STRIPE_API_KEY=sk_test_e2e", "STRIPE_API_BASE="+s.sandbox)
}

// working tells whether a worker has carried out a request.
func (s *system) working(url string) bool {
	s.t.Helper()
	_, body := get(s.t, url+"/metrics")
	return strings.Contains(body, `paykit_worker_events_total{consumer="requests"`)
}

// The active worker is killed in the middle of a confirm, and no delivery says what came of it: the stand-by takes over
// within its bound, and money was taken once.
func TestStandByTakesOver(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	other, otherURL := s.moreWorker()
	pk := s.client()
	customer, method := s.saved(pk, "user_standby", card4242)
	// A request is counted after its event is stored, so the card can be saved before the count shows it.
	eventually(t, "one worker is active, the other stands by", func() bool { return s.working(s.worker) != s.working(otherURL) })
	active, standby := s.wk, otherURL
	if s.working(otherURL) {
		active, standby = other, s.worker
	}
	s.deliveries(`{"drop":true}`)
	s.fault(t, `{"operation":"payment_intents.confirm","kind":"delay","when":"after","delay":"120s"}`)
	charge, err := pk.Charge.Create(t.Context(), paykit.ChargeCreate{
		CustomerID: customer, PaymentMethodID: method, Amount: 1900, Description: "Usage",
	}, paykit.WithWait(0))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the confirm is executed", func() bool { return s.captures(charge.ID) == 1 })
	active.kill()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 2*takeover)
	defer cancel()
	settled, err := pk.Charge.Settled(ctx, charge.ID)
	took := time.Since(began)
	if err != nil || settled.Status != paykit.ChargeSucceeded {
		t.Fatalf("after %s: %+v, %v", took, settled, err)
	}
	if took > takeover {
		t.Errorf("the stand-by took over after %s, want at most %s", took, takeover)
	}
	if n := s.captures(charge.ID); n != 1 || !s.working(standby) {
		t.Errorf("money was taken %d times; the stand-by works: %v", n, s.working(standby))
	}
	t.Logf("taken over after %s", took.Round(100*time.Millisecond))
	s.verify()
}

// Two workers, two ingests that both get every delivery, and three projectors share one server. Some of them are killed
// under load; then each projector that is left alone has the same views.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.quicken()
	s.moreWorker()
	second := fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	secret := s.addWebhook(second + "/webhooks/stripe")
	p := start(t, append(s.env(), "PAYKIT_HTTP_ADDR="+host(second), "STRIPE_WEBHOOK_SECRETS="+secret), "ingest")
	p.awaitHTTP(second + "/readyz")
	var projectors []*process
	for i := range 2 {
		p, _ := s.more("projector", "PAYKIT_DATA_DIR="+filepath.Join(s.dir, fmt.Sprint("views", i)))
		projectors = append(projectors, p)
	}
	l := s.newLoad("many")
	ctx, cancel := context.WithTimeout(t.Context(), 2*crashBound)
	defer cancel()
	done, told := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(told)
		l.run(ctx, 4, done)
	}()
	for which := range 3 {
		<-time.After(time.Second)
		s.killAndRestart(which)
	}
	close(done)
	<-told
	l.settle(ctx)
	s.pr.kill() // each of the others answers alone
	s.verify()
	projectors[0].kill()
	s.verify()
	// What is settled is put off for a minute or two, and then let go: nobody asks about it for ever.
	rest, stop := context.WithTimeout(t.Context(), 6*time.Minute)
	defer stop()
	if err := l.idle(rest, "PAYKIT_LOG.settling"); err != nil {
		t.Errorf("something is asked about again and again: %v", err)
	}
}
