package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/paykit-go/paykit"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
	"github.com/paykit-go/paykit/internal/schema/schematest"
)

const (
	card4242       = "4242424242424242"
	cardFailsLater = "4000000000000341"
	webhookSecret  = "whsec_e2e" //nolint:gosec // G101: of a sandbox in this test
	retrySchedules = "quick=1s,1s,1s;slow=8s"
)

// system is PayKit as it runs on servers: a NATS server, the sandbox and the three processes.
type system struct {
	t       *testing.T
	dir     string
	natsURL string
	sandbox string
	ingest  string // HTTP
	worker  string
	views   string
	secret  string   // of the sandbox's webhook endpoint
	folders []string // of the servers, and of the projector

	nats, sb, in, wk, pr *process

	books books            // what the loads have left behind
	seen  *schematest.Seen // what was held against the contract's schemas
}

// newSystem starts all of it and waits until it is ready.
func newSystem(t *testing.T) *system {
	t.Helper()
	s := &system{t: t, dir: t.TempDir()}
	s.natsURL = fmt.Sprintf("nats://127.0.0.1:%d", freePort(t))
	s.folders = []string{filepath.Join(s.dir, "nats"), s.viewsDir()}
	s.startNATS()
	s.provision()
	s.startRest()
	return s
}

// newSystemOn is newSystem on three servers.
func newSystemOn(t *testing.T, c *eventlogtest.Cluster) *system {
	t.Helper()
	s := &system{t: t, dir: t.TempDir(), natsURL: c.URL()}
	s.folders = []string{s.viewsDir()}
	for _, server := range c.Servers {
		s.folders = append(s.folders, server.StoreDir)
	}
	s.provision("--replicas", "3", "--max-bytes", "100000000")
	s.startRest()
	return s
}

func (s *system) provision(args ...string) {
	s.t.Helper()
	eventually(s.t, "provisioned", func() bool {
		p := start(s.t, s.env(), "paykit", append([]string{"provision"}, args...)...)
		return p.status(60*time.Second) == 0
	})
}

// startRest starts the sandbox and the three processes, and waits until they are ready.
func (s *system) startRest() {
	s.t.Helper()
	t := s.t
	s.sandbox = fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	s.ingest = fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	s.worker = fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	s.views = fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	s.tap()
	s.sb = start(t, nil, "paykit", "sandbox", "--sandbox-port", port(s.sandbox))
	s.sb.awaitHTTP(s.sandbox + "/_sandbox/ledger")
	s.secret = s.addWebhook(s.ingest + "/webhooks/stripe")
	s.startIngest()
	s.startWorker()
	s.startProjector()
	s.in.awaitHTTP(s.ingest + "/readyz")
	s.wk.awaitHTTP(s.worker + "/readyz")
	s.pr.awaitHTTP(s.views + "/readyz")
}

// tap holds each event and each answer against the contract's schemas, until the test ends.
func (s *system) tap() {
	s.t.Helper()
	nc, err := nats.Connect(s.natsURL, nats.MaxReconnects(-1))
	if err != nil {
		s.t.Fatal(err)
	}
	s.seen = schematest.Tap(s.t, nc)
}

// books is what the stories told so far have left behind, across the loads of a system: a later death must not touch it.
type books struct {
	want      map[string]paykit.ChargeStatus // how charges must have ended, by id
	customers []string                       // the provider's ids of those that were deleted
	methods   []string                       // the provider's ids of those that were detached, or whose customer was deleted
	letters   map[string]bool                // the dead letters that were planted, by stage and id
}

func (s *system) env() []string { return []string{"NATS_URL=" + s.natsURL} }

// stripeEnv is of a tool that asks the provider too. The sandbox has no limit.
func (s *system) stripeEnv() []string {
	return append(s.env(), "STRIPE_API_KEY=sk_test_e2e", "STRIPE_API_BASE="+s.sandbox, "PAYKIT_STRIPE_RATE=2000")
}

func (s *system) startNATS() {
	s.t.Helper()
	conf := filepath.Join(s.dir, "nats.conf")
	text := fmt.Sprintf("listen: 127.0.0.1:%s\nmax_payload: 2MB\njetstream { store_dir: %q, sync_interval: always }\n", port(s.natsURL), filepath.Join(s.dir, "nats"))
	if err := writeFile(conf, text); err != nil {
		s.t.Fatal(err)
	}
	s.nats = start(s.t, nil, "nats-server", "-c", conf)
}

// startIngest starts ingest with two secrets, as while one is rolled.
func (s *system) startIngest(env ...string) {
	s.in = start(s.t, append(append(s.env(), "PAYKIT_HTTP_ADDR="+host(s.ingest), "STRIPE_WEBHOOK_SECRETS="+webhookSecret+","+s.secret,
		"PAYKIT_RETRY_SCHEDULES="+retrySchedules), env...), "ingest")
}

func (s *system) startWorker(env ...string) {
	s.wk = start(s.t, append(append(s.env(), "PAYKIT_HTTP_ADDR="+host(s.worker), "STRIPE_API_KEY=sk_test_e2e", "STRIPE_API_BASE="+s.sandbox), env...), "worker")
}

func (s *system) startProjector(env ...string) {
	s.pr = start(s.t, append(append(s.env(), "PAYKIT_HTTP_ADDR="+host(s.views), "PAYKIT_DATA_DIR="+s.viewsDir()), env...), "projector")
}

func (s *system) viewsDir() string { return filepath.Join(s.dir, "views") }

// addWebhook makes an endpoint as an app would on Stripe, and gives its signing secret.
func (s *system) addWebhook(url string) string {
	s.t.Helper()
	status, body := post(s.t, s.sandbox+"/v1/webhook_endpoints", "url="+url+"&enabled_events[]=*",
		"Authorization", "Bearer sk_test_e2e", "Content-Type", "application/x-www-form-urlencoded")
	var endpoint struct {
		Secret string `json:"secret"`
	}
	if err := json.Unmarshal([]byte(body), &endpoint); err != nil || status != 200 || endpoint.Secret == "" {
		s.t.Fatalf("webhook endpoint: %d %s", status, body)
	}
	return endpoint.Secret
}

func (s *system) client() *paykit.Client {
	s.t.Helper()
	pk, err := paykit.Connect(s.t.Context(), s.natsURL)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(pk.Close)
	return pk
}

// pay does what the hosted page's form does.
func (s *system) pay(session, card string) (status int, body string) {
	s.t.Helper()
	return post(s.t, s.sandbox+"/_sandbox/checkout/"+session+"/complete", `{"card":"`+card+`"}`, "Content-Type", "application/json")
}

// saved makes a customer with a saved card.
func (s *system) saved(pk *paykit.Client, reference, card string) (customerID, methodID string) {
	s.t.Helper()
	customer, err := pk.Customer.Sync(s.t.Context(), paykit.CustomerSync{ReferenceID: reference, Email: reference + "@example.com"})
	if err != nil {
		s.t.Fatal(err)
	}
	return s.savedFor(pk, customer.ID, card)
}

// savedFor saves a card of a customer's.
func (s *system) savedFor(pk *paykit.Client, customerID, card string) (_, methodID string) {
	s.t.Helper()
	setup, err := pk.PaymentMethod.Attach(s.t.Context(), paykit.PaymentMethodAttach{CustomerID: customerID, ReturnURL: "https://app.example.com/back"}, paykit.WithWait(20*time.Second))
	if err != nil || setup.URL == "" {
		s.t.Fatalf("attach: %+v, %v", setup, err)
	}
	if status, body := s.pay(setup.ProviderSessionID, card); status != 200 {
		s.t.Fatalf("setup: %d %s", status, body)
	}
	eventually(s.t, "the card is saved", func() bool {
		list, err := pk.PaymentMethod.List(s.t.Context(), paykit.PaymentMethodList{CustomerID: customerID})
		if err == nil && len(list.Items) == 1 {
			methodID = list.Items[0].ID
		}
		return methodID != ""
	})
	return customerID, methodID
}

// ledgerPayment is one payment in the sandbox's books.
type ledgerPayment struct {
	ID             string            `json:"id"`
	Amount         int64             `json:"amount"`
	Status         string            `json:"status"`
	Captures       int               `json:"captures"`
	AmountRefunded int64             `json:"amountRefunded"`
	Metadata       map[string]string `json:"metadata"`
}

func (s *system) ledger() []ledgerPayment {
	s.t.Helper()
	_, body := get(s.t, s.sandbox+"/_sandbox/ledger")
	var l struct {
		Payments []ledgerPayment `json:"payments"`
	}
	if err := json.Unmarshal([]byte(body), &l); err != nil {
		s.t.Fatalf("ledger: %v: %s", err, body)
	}
	return l.Payments
}

// captures is how often money was taken for a charge.
func (s *system) captures(chargeID string) int {
	n := 0
	for _, p := range s.ledger() {
		if p.Metadata["paykit_charge"] == chargeID {
			n += p.Captures
		}
	}
	return n
}

func host(url string) string { return strings.TrimPrefix(url, "http://") }
func port(url string) string { return url[strings.LastIndexByte(url, ':')+1:] }

// digest is what `paykit rebuild` prints.
type digest struct {
	Digest   string         `json:"digest"`
	Sequence uint64         `json:"sequence"`
	Rows     map[string]int `json:"rows"`
}

// rebuild builds the views anew in a folder of their own.
func (s *system) rebuild() digest {
	s.t.Helper()
	p := start(s.t, append(s.env(), "PAYKIT_DATA_DIR="+s.t.TempDir()), "paykit", "rebuild", "-o", "json")
	if status := p.status(60 * time.Second); status != 0 {
		s.t.Fatalf("rebuild: status %d: %s", status, p.out)
	}
	var d digest
	if err := json.Unmarshal([]byte(p.out.String()), &d); err != nil {
		s.t.Fatalf("rebuild printed %s: %v", p.out, err)
	}
	return d
}

// verify runs the checker of the log, the views and the provider's money, and wants no problem.
func (s *system) verify() {
	s.t.Helper()
	p := start(s.t, s.stripeEnv(), "paykit", "verify", "--provider", "-o", "json")
	status := p.status(2 * time.Minute)
	var v struct {
		OK       bool   `json:"ok"`
		Events   uint64 `json:"events"`
		Last     uint64 `json:"lastSequence"`
		Problems []any  `json:"problems"`
		Views    digest `json:"views"`
	}
	if err := json.Unmarshal([]byte(p.out.String()), &v); err != nil {
		s.t.Errorf("verify: status %d: %v: %s", status, err, p.out)
		return
	}
	if status != 0 || !v.OK || len(v.Problems) > 0 || v.Events == 0 || v.Events != v.Last || v.Views.Sequence < v.Last || v.Views.Digest == "" {
		s.t.Errorf("verify: status %d: %s", status, p.out)
	}
}

// collect subscribes under a name and gives what arrives until the test ends.
func (s *system) collect(pk *paykit.Client, name string) <-chan paykit.Event {
	s.t.Helper()
	ch := make(chan paykit.Event, 1000)
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	done := make(chan error, 1)
	go func() {
		done <- pk.Subscribe(ctx, name, paykit.Handlers{Any: func(_ context.Context, e paykit.Event) error {
			ch <- e
			return nil
		}}, paykit.FromBeginning())
	}()
	s.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("subscribe: %v", err)
		}
	})
	return ch
}

// object is one of the provider's objects.
type object struct {
	ID       string `json:"id"`
	Customer string `json:"customer"`
	Deleted  bool   `json:"deleted"`
	answer   string
}

func (s *system) object(path string) object {
	s.t.Helper()
	status, body := get(s.t, s.sandbox+"/v1/"+path, "Authorization", "Bearer sk_test_e2e")
	o := object{answer: fmt.Sprint(status, " ", body)}
	if err := json.Unmarshal([]byte(body), &o); err != nil {
		o.answer += " " + err.Error()
	}
	return o
}
