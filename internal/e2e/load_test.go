//go:build crashpoints

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/paykit-go/paykit"
	"github.com/paykit-go/paykit/internal/events"
)

const cardAsksAlways = "4000002760003184" // for authentication

// load is what apps do with PayKit while its processes die: whole stories of customers, each step repeated under its
// key until it is answered.
type load struct {
	s    *system
	pk   *paykit.Client
	nc   *nats.Conn
	name string

	mu   sync.Mutex
	want map[string]paykit.ChargeStatus // guarded by mu: how charges must end, by id
	n    int                            // guarded by mu: stories begun

	began    time.Time
	deleted  []string          // guarded by mu: the provider's ids of customers
	detached []string          // guarded by mu: the provider's ids of methods
	letters  []letter          // guarded by mu: the dead letters that were stored meanwhile
	planted  func(letter) bool // guarded by mu: which of them are meant to be; nil = none
}

func (s *system) newLoad(name string) *load {
	s.t.Helper()
	nc, err := nats.Connect(s.natsURL, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(nc.Close)
	l := &load{s: s, pk: paykit.NewClient(nc), nc: nc, name: name, want: map[string]paykit.ChargeStatus{}, began: time.Now()}
	l.watchLetters()
	return l
}

// run tells stories, so many at once, until done is closed, and ends when those begun have ended.
func (l *load) run(ctx context.Context, atOnce int, done <-chan struct{}) {
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for {
				l.mu.Lock()
				l.n++
				id := fmt.Sprintf("%s_%d", l.name, l.n)
				l.mu.Unlock()
				if err := l.story(ctx, id); err != nil {
					l.s.t.Errorf("story %s: %v", id, err)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	wg.Wait()
}

// expect notes how a charge must end.
func (l *load) expect(id string, status paykit.ChargeStatus) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.want[id] = status
}

// again repeats a call until it is answered; a refusal that repeating does not mend ends it.
func again[T any](ctx context.Context, what string, call func() (*T, error), good func(*T) bool) (*T, error) {
	var last error
	for {
		v, err := call()
		if err == nil && (good == nil || good(v)) {
			return v, nil
		}
		if refusal, ok := errors.AsType[*paykit.Error](err); ok {
			passing := []paykit.Code{paykit.CodeTimeout, paykit.CodeOverloaded, paykit.CodeInternal, paykit.CodeStorageFull}
			if !slices.Contains(passing, refusal.Code) {
				return nil, fmt.Errorf("%s: %w", what, err)
			}
		}
		last = err
		select {
		case <-ctx.Done():
			return v, fmt.Errorf("%s: not in time: %w (last: %w)", what, ctx.Err(), last)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// story is one customer's life: cards saved, charged, refused, refunded, a page paid and one closed, a queued charge, a
// refused command, a changed profile, and the end.
func (l *load) story(ctx context.Context, id string) error {
	customer, err := again(ctx, "sync", func() (*paykit.Customer, error) {
		return l.pk.Customer.Sync(ctx, paykit.CustomerSync{ReferenceID: id, Email: id + "@example.com"})
	}, nil)
	if err != nil {
		return err
	}
	plain, err := l.saveCard(ctx, customer.ID, id+" plain", card4242, "4242")
	if err != nil {
		return err
	}
	asks, err := l.saveCard(ctx, customer.ID, id+" asks", cardAsksAlways, "3184")
	if err != nil {
		return err
	}
	owner, there, err := l.atProvider(ctx, plain, asks)
	if err != nil {
		return err
	}
	for _, step := range []func(context.Context, string, string, string, string) error{
		l.chargeAndRefund, l.chargeThroughQueue, l.chargeAndCancel, l.payPage, l.closePage, l.tidyMethods,
	} {
		if err := step(ctx, id, customer.ID, plain, asks); err != nil {
			return err
		}
	}
	_, err = again(ctx, "sync again", func() (*paykit.Customer, error) {
		return l.pk.Customer.Sync(ctx, paykit.CustomerSync{ReferenceID: id, Name: "Jane " + id, Metadata: map[string]string{"plan": "pro"}})
	}, nil)
	if err != nil {
		return err
	}
	// A request that is still to be carried out when its customer is deleted ends as failed.
	if _, err := l.ended(ctx, events.ChargeID(id+" queued")); err != nil {
		return err
	}
	_, err = again(ctx, "delete", func() (*paykit.Customer, error) { return l.pk.Customer.Delete(ctx, customer.ID) }, nil)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deleted = append(l.deleted, owner)
	l.detached = append(l.detached, there...)
	return nil
}

// atProvider gives the provider's ids of methods, and of the customer whose they are.
func (l *load) atProvider(ctx context.Context, methods ...string) (owner string, there []string, err error) {
	for _, id := range methods {
		m, err := again(ctx, "method", func() (*paykit.PaymentMethod, error) { return l.pk.PaymentMethod.Get(ctx, id) }, nil)
		if err != nil {
			return "", nil, err
		}
		o := l.s.object("payment_methods/" + m.ProviderMethodID) //nolint:contextcheck // the test's own
		if o.Customer == "" {
			return "", nil, fmt.Errorf("method %s is nobody's: %s", id, o.answer) //nolint:err113 // a test's
		}
		owner, there = o.Customer, append(there, m.ProviderMethodID)
	}
	return owner, there, nil
}

// saveCard saves a card on the provider's page and gives the method's id.
func (l *load) saveCard(ctx context.Context, customerID, key, card, last4 string) (methodID string, err error) {
	setup, err := again(ctx, "attach "+key, func() (*paykit.Setup, error) {
		return l.pk.PaymentMethod.Attach(ctx, paykit.PaymentMethodAttach{CustomerID: customerID, ReturnURL: "https://app.example.com/back"},
			paykit.WithIdempotencyKey(key), paykit.WithWait(2*time.Second))
	}, func(s *paykit.Setup) bool { return s.ProviderSessionID != "" })
	if err != nil {
		return "", err
	}
	if status, body := l.s.pay(setup.ProviderSessionID, card); status != 200 { //nolint:contextcheck // the test's own
		return "", fmt.Errorf("save card %s: %d %s", last4, status, body) //nolint:err113 // a test's
	}
	_, err = again(ctx, "the card is saved", func() (*paykit.List[paykit.PaymentMethod], error) {
		return l.pk.PaymentMethod.List(ctx, paykit.PaymentMethodList{CustomerID: customerID})
	}, func(list *paykit.List[paykit.PaymentMethod]) bool {
		i := slices.IndexFunc(list.Items, func(m paykit.PaymentMethod) bool { return m.Last4 == last4 })
		if i >= 0 {
			methodID = list.Items[i].ID
		}
		return i >= 0
	})
	return methodID, err
}

func (l *load) charge(ctx context.Context, in paykit.ChargeCreate, key string, status paykit.ChargeStatus) (*paykit.Charge, error) {
	return again(ctx, "charge "+key, func() (*paykit.Charge, error) {
		c, err := l.pk.Charge.Create(ctx, in, paykit.WithIdempotencyKey(key), paykit.WithWait(2*time.Second))
		if err == nil {
			l.expect(c.ID, status)
		}
		return c, err
	}, func(c *paykit.Charge) bool { return c.Status == status || c.Status.Final() })
}

func (l *load) chargeAndRefund(ctx context.Context, id, customerID, plain, _ string) error {
	c, err := l.charge(ctx, paykit.ChargeCreate{
		CustomerID: customerID, PaymentMethodID: plain, Amount: 1900, Description: "Usage",
	}, id+" charge", paykit.ChargeSucceeded)
	if err != nil || c.Status != paykit.ChargeSucceeded {
		return fmt.Errorf("charge %+v: %w", c, err)
	}
	_, err = again(ctx, "refund", func() (*paykit.Charge, error) {
		return l.pk.Charge.Refund(ctx, paykit.ChargeRefund{ChargeID: c.ID, Amount: 700},
			paykit.WithIdempotencyKey(id+" refund"), paykit.WithWait(2*time.Second))
	}, func(c *paykit.Charge) bool { return c.AmountRefunded == 700 })
	return err
}

// chargeThroughQueue leaves a charge, the same again, and one that is refused, without waiting for any.
func (l *load) chargeThroughQueue(ctx context.Context, id, customerID, plain, _ string) error {
	key := id + " queued"
	body, err := json.Marshal(paykit.ChargeCreate{
		ProviderID: "stripe", CustomerID: customerID, PaymentMethodID: plain, Amount: 2100, Description: "Queued",
	})
	if err != nil {
		return err
	}
	for _, one := range []struct {
		key  string
		body []byte
	}{{key, body}, {key, body}, {id + " refused", []byte(`{"nope":1}`)}} {
		_, err := again(ctx, "queue "+one.key, func() (*nats.Msg, error) {
			msg := nats.NewMsg("paykit.cmd.charge.create")
			msg.Header.Set("Paykit-Idempotency-Key", one.key)
			msg.Data = one.body
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			return l.nc.RequestMsgWithContext(ctx, msg)
		}, nil)
		if err != nil {
			return err
		}
	}
	l.expect(events.ChargeID(key), paykit.ChargeSucceeded)
	return nil
}

// chargeAndCancel charges a card whose bank wants the buyer, who does not come.
func (l *load) chargeAndCancel(ctx context.Context, id, customerID, _, asks string) error {
	c, err := l.charge(ctx, paykit.ChargeCreate{
		CustomerID: customerID, PaymentMethodID: asks, Amount: 2300, Description: "Usage", ReturnURL: "https://app.example.com/back",
	}, id+" asks", paykit.ChargeRequiresAction)
	if err != nil {
		return err
	}
	_, err = again(ctx, "cancel", func() (*paykit.Charge, error) {
		return l.pk.Charge.Cancel(ctx, c.ID, paykit.WithWait(2*time.Second))
	}, func(c *paykit.Charge) bool { return c.Status.Final() })
	l.expect(c.ID, paykit.ChargeCanceled)
	return err
}

func (l *load) page(ctx context.Context, customerID, key string) (*paykit.Checkout, error) {
	return again(ctx, "checkout", func() (*paykit.Checkout, error) {
		return l.pk.Checkout.Create(ctx, paykit.CheckoutCreate{
			CustomerID: customerID, Amount: 4900, Description: "Starter plan", SuccessURL: "https://app.example.com/ok",
		}, paykit.WithIdempotencyKey(key), paykit.WithWait(2*time.Second))
	}, func(c *paykit.Checkout) bool { return c.ProviderSessionID != "" })
}

func (l *load) payPage(ctx context.Context, id, customerID, _, _ string) error {
	c, err := l.page(ctx, customerID, id+" page")
	if err != nil {
		return err
	}
	if status, body := l.s.pay(c.ProviderSessionID, card4242); status != 200 { //nolint:contextcheck // the test's own
		return fmt.Errorf("pay: %d %s", status, body) //nolint:err113 // a test's
	}
	l.expect(events.CheckoutChargeID(c.ID), paykit.ChargeSucceeded)
	// The customer is deleted at the story's end, and the checkout's end must be seen before.
	_, err = again(ctx, "the checkout is completed", func() (*paykit.Checkout, error) { return l.pk.Checkout.Get(ctx, c.ID) },
		func(c *paykit.Checkout) bool { return c.Status == "completed" })
	return err
}

func (l *load) closePage(ctx context.Context, id, customerID, _, _ string) error {
	c, err := l.page(ctx, customerID, id+" closed")
	if err != nil {
		return err
	}
	_, err = again(ctx, "expire", func() (*paykit.Checkout, error) {
		return l.pk.Checkout.Expire(ctx, c.ID, paykit.WithWait(2*time.Second))
	}, func(c *paykit.Checkout) bool { return c.Status == "expired" })
	return err
}

// tidyMethods makes a method the default and detaches the other. Half of the stories wait until that is done, which shows
// that the method leaves the provider while its customer lives; the other half have it race with the customer's deletion.
func (l *load) tidyMethods(ctx context.Context, id, customerID, plain, asks string) error {
	_, err := again(ctx, "set default", func() (*paykit.PaymentMethod, error) {
		return l.pk.PaymentMethod.SetDefault(ctx, paykit.PaymentMethodRef{CustomerID: customerID, PaymentMethodID: plain}, paykit.WithWait(2*time.Second))
	}, nil)
	if err != nil {
		return err
	}
	_, err = again(ctx, "detach", func() (*paykit.PaymentMethod, error) {
		return l.pk.PaymentMethod.Detach(ctx, paykit.PaymentMethodRef{CustomerID: customerID, PaymentMethodID: asks}, paykit.WithWait(2*time.Second))
	}, nil)
	if err != nil || id[len(id)-1]%2 == 0 {
		return err
	}
	m, err := again(ctx, "the method is detached", func() (*paykit.PaymentMethod, error) { return l.pk.PaymentMethod.Get(ctx, asks) },
		func(m *paykit.PaymentMethod) bool { return m.DetachedAt != nil })
	if err != nil {
		return err
	}
	if o := l.s.object("payment_methods/" + m.ProviderMethodID); o.ID == "" || o.Customer != "" { //nolint:contextcheck // the test's own
		return fmt.Errorf("method %s is detached here and attached there: %s", asks, o.answer) //nolint:err113 // a test's
	}
	return nil
}

// settle waits until nothing is open any more, and holds log, views and the provider's books against each other and
// against what the stories asked for.
func (l *load) settle(ctx context.Context) {
	l.s.t.Helper()
	l.s.noFaults() //nolint:contextcheck // the test's own
	b := l.closeBooks()
	for id := range b.want {
		if _, err := l.ended(ctx, id); err != nil {
			l.s.t.Errorf("charge %s: %v", id, err)
		}
	}
	for _, consumer := range []string{
		"PAYKIT_LOG.requests", "PAYKIT_INBOX.normalizer", "PAYKIT_COMMANDS.commands", "PAYKIT_DEAD.worker_decisions", "PAYKIT_DEAD.ingest_decisions",
	} {
		if err := l.idle(ctx, consumer); err != nil {
			l.s.t.Errorf("%s: %v", consumer, err)
		}
	}
	if err := l.nothingOpen(ctx); err != nil {
		l.s.t.Error(err)
	}
	if err := l.delivered(ctx, "PAYKIT_LOG.settling"); err != nil {
		l.s.t.Error(err)
	}
	l.holdMoney(ctx, b)
	l.holdLetters(b)
	l.holdGone(b) //nolint:contextcheck // the test's own
	l.s.verify()
	l.s.reconcile(l.began.Add(-time.Minute)) // a minute for clocks that count in seconds, and for what was made before the load
}

// delivered waits until a durable consumer has delivered all there is; what is put off may be in hand.
func (l *load) delivered(ctx context.Context, consumer string) error {
	_, err := again(ctx, consumer+" is delivered", func() (*consumerInfo, error) { return l.consumer(ctx, consumer) },
		func(i *consumerInfo) bool { return i.Pending == 0 })
	return err
}

// ended waits until a charge has its end.
func (l *load) ended(ctx context.Context, id string) (*paykit.Charge, error) {
	return again(ctx, "charge "+id, func() (*paykit.Charge, error) {
		c, err := l.pk.Charge.Get(ctx, id)
		if refusal, ok := errors.AsType[*paykit.Error](err); ok && refusal.Code == paykit.CodeChargeNotFound {
			return nil, errNotYet // it stands in the queue, or its delivery is on its way
		}
		return c, err
	}, func(c *paykit.Charge) bool { return c.Status.Final() })
}

// consumerInfo is what is needed of a consumer's state.
type consumerInfo struct {
	Config  map[string]any `json:"config"`
	Pending int            `json:"num_pending"`
	InHand  int            `json:"num_ack_pending"`
}

func (l *load) consumer(ctx context.Context, name string) (*consumerInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	answer, err := l.nc.RequestWithContext(ctx, "$JS.API.CONSUMER.INFO."+name, nil)
	if err != nil {
		return nil, err
	}
	info := &consumerInfo{}
	return info, json.Unmarshal(answer.Data, info)
}

// idle waits until a durable consumer has nothing to deliver.
func (l *load) idle(ctx context.Context, consumer string) error {
	var last *consumerInfo
	_, err := again(ctx, "nothing is open", func() (*consumerInfo, error) { return l.consumer(ctx, consumer) },
		func(i *consumerInfo) bool {
			last = i
			return i.Pending == 0 && i.InHand == 0
		})
	if err != nil && last != nil {
		return fmt.Errorf("%d pending, %d in hand: %w", last.Pending, last.InHand, err)
	}
	return err
}

// quicken has the broker give what a killed process had in hand to the next one after seconds, so that many kills fit
// into a test. How long it takes as shipped is what TestStandByTakesOver measures.
func (s *system) quicken() {
	s.t.Helper()
	l := s.newLoad("quicken")
	for _, name := range []string{"PAYKIT_LOG.requests", "PAYKIT_LOG.settling", "PAYKIT_INBOX.normalizer", "PAYKIT_COMMANDS.commands"} {
		info, err := l.consumer(s.t.Context(), name)
		if err != nil {
			s.t.Fatal(err)
		}
		info.Config["ack_wait"] = int64(3 * time.Second)
		if _, pinned := info.Config["priority_timeout"]; pinned {
			info.Config["priority_timeout"] = int64(5 * time.Second) // a pull lasts 4 s
		}
		stream, _, _ := strings.Cut(name, ".")
		body, err := json.Marshal(map[string]any{"stream_name": stream, "config": info.Config, "action": "update"})
		if err != nil {
			s.t.Fatal(err)
		}
		answer, err := l.nc.Request("$JS.API.CONSUMER.CREATE."+name, body, 5*time.Second)
		if err != nil {
			s.t.Fatal(err)
		}
		var refused struct {
			Error *struct {
				Description string `json:"description"`
			} `json:"error"`
		}
		if err := json.Unmarshal(answer.Data, &refused); err != nil || refused.Error != nil {
			s.t.Fatalf("quicken %s: %v %s", name, err, answer.Data)
		}
	}
}

// deliveries sets how the sandbox delivers from now on.
func (s *system) deliveries(how string) {
	s.t.Helper()
	if status, body := post(s.t, s.sandbox+"/_sandbox/webhooks", how, "Content-Type", "application/json"); status != 200 {
		s.t.Fatalf("webhooks: %d %s", status, body)
	}
}

// noFaults has the sandbox forget the faults that have not struck: they were this load's.
func (s *system) noFaults() {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodDelete, s.sandbox+"/_sandbox/faults", http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	if status, body := send(req); status != http.StatusOK && status != http.StatusNoContent {
		s.t.Errorf("faults: %d %s", status, body)
	}
}

// fault has the sandbox fail calls.
func (s *system) fault(t testing.TB, body string) {
	t.Helper()
	if status, answer := post(t, s.sandbox+"/_sandbox/faults", body, "Content-Type", "application/json"); status != 200 {
		t.Errorf("fault: %d %s", status, answer)
	}
}
