package deploy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit"
	"github.com/paykit-go/paykit/internal/daemon"
	"github.com/paykit-go/paykit/internal/dev"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/provider/stripe/sandbox"
)

// journal is a log that several processes write to.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// as is how a process reaches the server as its role.
func as(t *testing.T, server, role string) daemon.NATS {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, password(role))
	return daemon.NATS{URL: u.String(), Prefix: "paykit"}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func provision(t *testing.T, server string) {
	t.Helper()
	nc, err := as(t, server, "provision").Connect("provision", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for range 2 { // the second finds everything
		if _, err := eventlog.Provision(t.Context(), nc, eventlog.Config{MaxBytes: 64 << 20}); err != nil {
			t.Fatalf("provision: %v", err)
		}
	}
	if nc.LastError() != nil {
		t.Errorf("provision: %v", nc.LastError())
	}
}

// system is ingest, worker and projector, each as its own user, and a sandbox.
type system struct {
	server  string
	sandbox string            // address
	http    map[string]string // address by process
	log     *journal
}

func run(t *testing.T) *system {
	t.Helper()
	s := &system{server: start(t).ClientURL(), http: map[string]string{}, log: &journal{}}
	provision(t, s.server)
	const secret = "whsec_deploy" //nolint:gosec // G101: the sandbox's
	ingest := freePort(t)
	sb, err := dev.NewSandbox(t.Context(), dev.SandboxConfig{
		Flag: "-", WebhookURL: "http://" + ingest + "/webhooks/stripe", WebhookSecret: secret,
		Config: sandbox.Config{Logger: zerolog.Nop()},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.sandbox = sb.URL
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var failed sync.Map
	begin := func(name string, f func() error) {
		wg.Go(func() {
			if err := f(); err != nil && !errors.Is(err, context.Canceled) {
				failed.Store(name, err)
			}
		})
	}
	t.Cleanup(func() {
		stop()
		wg.Wait()
		failed.Range(func(name, err any) bool {
			t.Errorf("%v: %v", name, err)
			return true
		})
		// At the very end: a process needs rights to stop, too.
		if text := s.log.String(); strings.Contains(strings.ToLower(text), "permissions violation") {
			t.Errorf("a process was refused something:\n%s", text)
		}
	})
	begin("sandbox", func() error { return sb.Run(ctx) })
	for name, part := range map[string]daemon.Part{
		"ingest":    daemon.Ingest{Secrets: []string{secret}, DefaultCurrency: "usd"},
		"worker":    daemon.Worker{Stripe: daemon.StripeAPI{Base: sb.URL, Key: "sk_test_deploy", Rate: 1000}},
		"projector": daemon.Projector{DataDir: t.TempDir()},
	} {
		addr := ingest
		if name != "ingest" {
			addr = freePort(t)
		}
		s.http[name] = addr
		log := zerolog.New(s.log).With().Str("service", name).Logger()
		begin(name, func() error { return daemon.Process(ctx, name, as(t, s.server, name), log, addr, part) })
	}
	for name, addr := range s.http {
		eventually(t, name+" is ready", func() error { return ask(t, "http://"+addr+"/readyz") })
	}
	return s
}

func ask(t *testing.T, address string) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", address, res.Status)
	}
	return nil
}

// eventually asks again and again until there is no error, at most for 40 s.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	late := time.After(40 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not yet: %s: %v", what, err)
		}
	}
}

// TestTheLoopRunsWithLeastPrivilege walks the whole loop, erasing included, and wants no process to be refused anything.
func TestTheLoopRunsWithLeastPrivilege(t *testing.T) {
	s := run(t)
	ctx := t.Context()
	pk, err := paykit.Connect(ctx, s.server, paykit.WithNATS(
		nats.UserInfo("app", password("app")), nats.CustomInboxPrefix("_INBOX_app")))
	if err != nil {
		t.Fatal(err)
	}
	defer pk.Close()

	patient := paykit.WithWait(30 * time.Second) // a busy machine is no fault
	succeeded := make(chan paykit.ChargeEvent, 1)
	listening, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- pk.Subscribe(listening, "receipts", paykit.Handlers{
			ChargeSucceeded: func(_ context.Context, e paykit.ChargeEvent) error {
				select {
				case succeeded <- e:
				default:
				}
				return nil
			},
		}, paykit.FromBeginning())
	}()

	customer, err := pk.Customer.Sync(ctx, paykit.CustomerSync{ReferenceID: "user_1", Email: "jane@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pk.Customer.Sync(ctx, paykit.CustomerSync{ReferenceID: "user_1", Email: "joan@example.com"}); err != nil {
		t.Fatal(err)
	}
	setup, err := pk.PaymentMethod.Attach(ctx, paykit.PaymentMethodAttach{CustomerID: customer.ID, ReturnURL: "https://app.example.com/"}, patient)
	if err != nil || setup.ProviderSessionID == "" {
		t.Fatalf("attach: %+v, %v", setup, err)
	}
	complete(t, setup.URL, setup.ProviderSessionID)
	var method string
	eventually(t, "the card is saved", func() error {
		list, err := pk.PaymentMethod.List(ctx, paykit.PaymentMethodList{CustomerID: customer.ID})
		if err == nil && len(list.Items) == 0 {
			err = errors.New("none")
		}
		if err == nil {
			method = list.Items[0].ID
		}
		return err
	})
	charge, err := pk.Charge.Create(ctx, paykit.ChargeCreate{
		CustomerID: customer.ID, PaymentMethodID: method, Amount: 1900, Description: "March usage",
	}, paykit.WithIdempotencyKey("march"), patient)
	if err != nil || charge.Status != paykit.ChargeSucceeded {
		t.Fatalf("charge: %+v, %v", charge, err)
	}
	select {
	case e := <-succeeded:
		if e.Charge.ID != charge.ID {
			t.Errorf("told of %s, want %s", e.Charge.ID, charge.ID)
		}
	case <-time.After(30 * time.Second):
		t.Error("the app's subscription saw no charge.succeeded")
	}
	if _, err := pk.Charge.Refund(ctx, paykit.ChargeRefund{ChargeID: charge.ID, Amount: 900}, patient); err != nil {
		t.Errorf("refund: %v", err)
	}
	compared(t, s)
	checked(t, s)
	leaveCommand(t, s.server)
	decide(t, s.server)
	if _, err := pk.Customer.Delete(ctx, customer.ID); err != nil {
		t.Errorf("delete: %v", err)
	}
	eventually(t, "the deleted customer's method is detached", func() error {
		list, err := pk.PaymentMethod.List(ctx, paykit.PaymentMethodList{CustomerID: customer.ID})
		if err == nil && len(list.Items) > 0 {
			err = errors.New("still listed")
		}
		return err
	})
	erased(t, s.server, customer.ID)
	seenErased(t, s.server, customer.ID)
	keptAndRestored(t, s.server)
	stop()
	if err := <-ended; err != nil {
		t.Errorf("subscription: %v", err)
	}
}

// erased waits until the worker has erased a customer's profile and deliveries.
func erased(t *testing.T, server, customerID string) {
	t.Helper()
	nc := connect(t, server, "provision")
	log, err := eventlog.Open(t.Context(), nc, eventlog.Config{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the deleted customer is erased", func() error {
		if _, err := log.Profile(t.Context(), customerID); !errors.Is(err, eventlog.ErrNotFound) {
			return fmt.Errorf("the profile: %w", err)
		}
		js, err := jetstream.New(nc)
		if err != nil {
			return err
		}
		inbox, err := js.Stream(t.Context(), "PAYKIT_INBOX")
		if err != nil {
			return err
		}
		if left := inbox.CachedInfo().State.Msgs; left > 0 { // there was no other customer at the provider
			return fmt.Errorf("%d deliveries are left", left)
		}
		return nil
	})
}

// seenErased looks as the operator does, who may read nothing of it, until nothing is left.
func seenErased(t *testing.T, server, customerID string) {
	t.Helper()
	nc, err := as(t, server, "operator").Connect("cli", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	log, err := eventlog.Open(t.Context(), nc, eventlog.Config{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := log.Deletion(t.Context(), customerID)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the operator sees that it is erased", func() error {
		left, err := d.Left(t.Context())
		if err == nil && !left.Done() {
			err = fmt.Errorf("left: %+v", left)
		}
		return err
	})
	if nc.LastError() != nil {
		t.Errorf("operator: %v", nc.LastError())
	}
}

// keptAndRestored makes a backup as the one who may, and restores it on another server with the same users.
func keptAndRestored(t *testing.T, server string) {
	t.Helper()
	var file bytes.Buffer
	nc, err := as(t, server, "provision").Connect("provision", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, _, err := eventlog.Backup(t.Context(), nc, eventlog.Config{}, &file, nil); err != nil {
		t.Error(err)
	}
	other, err := as(t, start(t).ClientURL(), "provision").Connect("provision", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	_, err = eventlog.Restore(t.Context(), other, eventlog.Config{}, func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(file.Bytes())), nil
	}, nil)
	if err := errors.Join(err, nc.LastError(), other.LastError()); err != nil {
		t.Error(err)
	}
}

// complete does what the hosted page's form does.
func complete(t *testing.T, page, session string) {
	t.Helper()
	u, err := url.Parse(page)
	if err != nil {
		t.Fatal(err)
	}
	address := u.Scheme + "://" + u.Host + "/_sandbox/checkout/" + session + "/complete"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(`{"card":"4242424242424242"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		t.Fatalf("%s answers %s", address, res.Status)
	}
}

// leaveCommand leaves a command in the queue as an app in any language would, and waits for what it leads to.
func leaveCommand(t *testing.T, server string) {
	t.Helper()
	nc := connect(t, server, "app")
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	seen, err := nc.SubscribeSync("paykit.events.customer.created.*")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	ack, err := js.Publish(t.Context(), "paykit.cmd.customer.sync", []byte(`{"referenceId":"user_2","name":"John"}`))
	if err != nil || ack.Stream != "PAYKIT_COMMANDS" {
		t.Fatalf("queue a command: %+v, %v", ack, err)
	}
	if _, err := seen.NextMsg(30 * time.Second); err != nil {
		t.Errorf("the queued command led to no event on the live feed: %v", err)
	}
	if nc.LastError() != nil {
		t.Errorf("app: %v", nc.LastError())
	}
}

// TestAnswersGoToNobodyElse: a request names the subject of its answer, and what answers may publish to the log. Nobody
// may use that to write there.
func TestAnswersGoToNobodyElse(t *testing.T) {
	s := run(t)
	admin := connect(t, s.server, "provision")
	js, err := jetstream.New(admin)
	if err != nil {
		t.Fatal(err)
	}
	messages := func(stream string) uint64 {
		info, err := js.Stream(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		return info.CachedInfo().State.Msgs
	}
	nc := connect(t, s.server, "app")
	answer := func() error {
		_, err := nc.Request("paykit.query.customer.list", []byte("{}"), 10*time.Second)
		return err
	}
	if err := answer(); err != nil {
		t.Fatal(err)
	}
	// What is asked of everybody is answered by everybody, from the other account too.
	inbox := nc.NewInbox()
	answers, err := nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.PublishRequest("$SRV.PING", inbox, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := answers.NextMsg(5 * time.Second); err != nil {
			t.Fatalf("answers to $SRV.PING: %v", err)
		}
	}
	for _, reply := range []string{"paykit.log.charge.succeeded.chg_1.none", "paykit.link.stripe.cus_1", "paykit.profile.cust_1", "paykit.inbox.stripe.evt_1.none"} {
		for _, subject := range []string{"paykit.api.charge.get", "paykit.api.charge.cancel", "paykit.query.charge.list", "$SRV.PING", "$SRV.INFO.paykit-api"} {
			if err := nc.PublishRequest(subject, reply, []byte("{}")); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Each service has dealt with the requests before this one.
	if err := answer(); err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Request("paykit.api.customer.delete", []byte("{}"), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	for _, stream := range []string{"PAYKIT_LOG", "PAYKIT_LINKS", "PAYKIT_PROFILES", "PAYKIT_INBOX"} {
		if n := messages(stream); n != 0 {
			t.Errorf("%s holds %d answers", stream, n)
		}
	}
}

func TestNobodyThereIsSaidAtOnce(t *testing.T) {
	nc := connect(t, start(t).ClientURL(), "app")
	for _, subject := range []string{"paykit.api.customer.sync", "paykit.query.customer.get"} {
		if _, err := nc.Request(subject, []byte("{}"), 5*time.Second); !errors.Is(err, nats.ErrNoResponders) {
			t.Errorf("%s without a process behind it: %v", subject, err)
		}
	}
}

// decide does what "paykit dead" does, as the operator, about letters of each process, and waits until that is carried out.
func decide(t *testing.T, server string) {
	t.Helper()
	open := func(role, inbox string) *eventlog.Log {
		t.Helper()
		nc, err := as(t, server, role).Connect(inbox, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		log, err := eventlog.Open(t.Context(), nc, eventlog.Config{})
		if err != nil {
			t.Fatalf("%s opens the log: %v", role, err)
		}
		t.Cleanup(func() {
			if err := nc.LastError(); errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("%s was refused something: %v", role, err)
			}
		})
		return log
	}
	worker := open("worker", "worker")
	for _, d := range []eventlog.DeadLetter{
		{Stage: "worker", ID: "1", Stream: "PAYKIT_LOG", Sequence: 9999, Reason: "x"},
		{Stage: "normalizer", ID: "2", Stream: "PAYKIT_INBOX", Sequence: 9999, Reason: "x"},
		{
			Stage: "commands", ID: "3", Stream: "PAYKIT_COMMANDS", Subject: "paykit.cmd.customer.sync", Reason: "x",
			Body: []byte(`{"referenceId":"user_dead"}`), Header: map[string][]string{"Paykit-Idempotency-Key": {"k"}},
		},
	} {
		if err := worker.Bury(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	operator := open("operator", "cli")
	list, err := operator.DeadLetters(t.Context(), "")
	if err != nil || len(list) != 3 {
		t.Fatalf("dead letters: %+v, %v", list, err)
	}
	for _, e := range list {
		if _, err := operator.Decide(t.Context(), e, eventlog.Decision{Decision: eventlog.DecisionRetry, Operator: "ana", Reason: "x"}); err != nil {
			t.Fatalf("decide: %v", err)
		}
	}
	// The first two say that what they refer to is gone, the third is erased.
	eventually(t, "the decisions are carried out", func() error {
		list, err := operator.DeadLetters(t.Context(), "")
		if err == nil && (len(list) != 5 || list[2].Body != nil) {
			err = fmt.Errorf("%+v", list)
		}
		return err
	})
	eventually(t, "the command is carried out", func() error {
		_, err := worker.Load(t.Context(), events.EntityCustomer, events.CustomerID("user_dead"))
		return err
	})
}
