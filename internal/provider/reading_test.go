package provider_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/provider"
)

// listening is the real log that writes down what was asked of it.
type listening struct {
	*eventlog.Log

	mu    sync.Mutex
	asked []string
}

func (l *listening) note(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = append(l.asked, what)
}

func (l *listening) Load(ctx context.Context, entity events.Entity, id string) (eventlog.Entry, error) {
	l.note("load " + string(entity))
	return l.Log.Load(ctx, entity, id)
}

func (l *listening) Link(ctx context.Context, providerID, objectID string) (eventlog.Link, error) {
	l.note("link")
	return l.Log.Link(ctx, providerID, objectID)
}

func (l *listening) PutLink(ctx context.Context, providerID, objectID string, k eventlog.Link) error {
	l.note("put link")
	return l.Log.PutLink(ctx, providerID, objectID, k)
}

func (l *listening) UpdateFrom(ctx context.Context, entity events.Entity, id string, known eventlog.Entry,
	decide func(last *events.Event) (*events.Event, error),
) (eventlog.Entry, bool, error) {
	l.note("append to " + string(entity))
	return l.Log.UpdateFrom(ctx, entity, id, known, decide)
}

// handle has a normalizer work on one delivery and gives what it asked of the log, sorted.
func (l *listening) handle(t *testing.T, hooks provider.Webhooks, n *provider.Normalizer, body string, received time.Time) []string {
	t.Helper()
	d, err := hooks.Decode([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	l.asked = nil
	subject := "paykit.inbox.stripe." + events.Token(d.ID) + "." + events.TokenOrNone(d.CustomerID)
	if after, again := n.Handle(t.Context(), eventlog.Message{Stream: inbox, Sequence: 1, Subject: subject, Data: []byte(body), Attempt: 1, Time: time.Now(), Received: received}).Again(); again {
		t.Fatalf("to be tried again after %s", after)
	}
	slices.Sort(l.asked)
	return l.asked
}

// What a delivery costs: nothing is read twice, and a provider's customer is looked up once in a process's life.
func TestWhatADeliveryReads(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{asleep: true})
	b := in.buyer().charge("")
	l := &listening{Log: in.log}
	n := provider.NewNormalizer(l, in.hooks(), provider.NormalizerConfig{Logger: zerolog.Nop()})
	elsewhere := fields{"metadata": fields{}}
	for _, step := range []struct {
		name, body string
		want       []string
	}{
		{
			"the first of this customer", b.event("payment_intent.succeeded", b.intent("succeeded", elsewhere)),
			[]string{"append to charge", "link", "link", "link", "load charge", "load customer", "load provider_account", "put link"},
		},
		{
			"another of this customer, about a charge of ours",
			b.event("payment_intent.succeeded", b.intent("succeeded", fields{"id": "pi_ours", "latest_charge": nil})),
			[]string{"append to charge", "load charge", "load customer", "load provider_account", "put link"},
		},
		{
			"the first payment by another name", b.event("charge.succeeded", b.chargeObject("succeeded", elsewhere)),
			[]string{"link", "link", "load charge", "load customer", "load provider_account"},
		},
	} {
		if got := l.handle(t, in.hooks()[stripeID], n, step.body, time.Time{}); !slices.Equal(got, step.want) {
			t.Errorf("%s: asked %v, want %v", step.name, got, step.want)
		}
	}
}

// A delivery that was waiting here when a customer was read need not read it again; one that came later does, and so sees that
// the customer was deleted meanwhile.
func TestWaitingDeliveriesShareWhatIsRead(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{asleep: true})
	b := in.buyer().charge("")
	l := &listening{Log: in.log}
	hooks := in.hooks()[stripeID]
	n := provider.NewNormalizer(l, in.hooks(), provider.NormalizerConfig{Logger: zerolog.Nop()})
	nothing := func() string {
		return b.event("invoice.paid", object(fields{"id": "in_1", "object": "invoice", "customer": b.cus}))
	}
	both := []string{"load customer", "load provider_account"}
	waiting := time.Now()
	if got := l.handle(t, hooks, n, nothing(), waiting); !slices.Equal(got, append([]string{"link"}, both...)) {
		t.Errorf("the first: %v", got)
	}
	if got := l.handle(t, hooks, n, nothing(), waiting); len(got) > 0 {
		t.Errorf("one that waited: %v", got)
	}
	if got := l.handle(t, hooks, n, nothing(), time.Now()); !slices.Equal(got, both) {
		t.Errorf("one that came later: %v", got)
	}
	waiting = time.Now()
	l.handle(t, hooks, n, nothing(), waiting)
	if got := l.handle(t, hooks, n, b.event("customer.deleted", b.customerObject()), waiting); !slices.Contains(got, "load provider_account") {
		t.Errorf("one that unlinks: %v", got)
	}
	if got := l.handle(t, hooks, n, nothing(), waiting); len(got) > 0 {
		t.Errorf("one that waited, after the account was read again: %v", got)
	}
	b.delete()
	came := n.Handle(t.Context(), eventlog.Message{
		Stream: inbox, Sequence: 1, Subject: "paykit.inbox.stripe.evt_x." + b.cus, Data: []byte(nothing()), Attempt: 1, Received: time.Now(),
	})
	if !came.Erased() {
		t.Error("a delivery of a deleted customer is kept")
	}
}

// What others read of a customer says nothing of what came after: a delivery that waited meanwhile saves no method and opens no
// page once the account is unlinked or the customer deleted, while money counts all the same.
func TestWaitingDeliveriesOpenNothingThatWasClosed(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(b *buyer){"unlinked": (*buyer).unlink, "deleted": (*buyer).delete} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := newIngest(t, options{asleep: true})
			b := in.buyer().charge("")
			known := in.buyer().checkout().setup()
			l := &listening{Log: in.log}
			hooks := in.hooks()[stripeID]
			n := provider.NewNormalizer(l, in.hooks(), provider.NormalizerConfig{Logger: zerolog.Nop()})
			work := func(body string, received time.Time) { l.handle(t, hooks, n, body, received) }
			saved := events.PaymentMethodID(stripeID, "pm_"+known.n)
			work(known.event("payment_method.attached", known.method()), time.Time{})

			waiting := time.Now()
			for _, b := range []*buyer{b, known} {
				work(b.event("invoice.paid", object(fields{"id": "in_1", "object": "invoice", "customer": b.cus})), waiting)
				end(b)
			}
			before := in.last()
			work(b.event("payment_method.attached", b.method()), waiting)
			for _, body := range []string{
				known.event("payment_method.updated", known.method(fields{"card": fields{"brand": "visa", "last4": "1881", "exp_month": 1, "exp_year": 2035, "fingerprint": "other"}})),
				known.event("checkout.session.completed", known.session("complete", "paid")),
				known.event("checkout.session.completed", known.setupSession("complete")),
				known.event("setup_intent.succeeded", known.setupIntent()),
			} {
				work(body, waiting)
			}
			if got := in.types(before); len(got) > 0 {
				t.Errorf("events %v were appended", got)
			}
			if m := in.state(events.EntityPaymentMethod, events.PaymentMethodID(stripeID, "pm_"+b.n)); m != nil {
				t.Errorf("a method is saved: %+v", m)
			}
			if m := in.state(events.EntityPaymentMethod, saved); m == nil || m.Data.PaymentMethod.Last4 != "4242" {
				t.Errorf("the saved method is %+v", m)
			}
			work(b.event("payment_intent.succeeded", b.intent("succeeded")), waiting)
			if c := in.chargeState(b.chargeID); c.Status != events.ChargeStatusSucceeded {
				t.Errorf("the charge is %s", c.Status)
			}
		})
	}
}

// Nothing is linked to a deleted customer, also by a delivery that waited while others found the customer living.
func TestWaitingDeliveriesLinkNothingToTheDeleted(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{asleep: true})
	b := in.unlinkedBuyer()
	if err := in.log.PutLink(t.Context(), stripeID, b.cus, eventlog.Link{Entity: events.EntityCustomer, ID: b.ref.ID, CustomerID: b.ref.ID}); err != nil {
		t.Fatal(err)
	}
	l := &listening{Log: in.log}
	n := provider.NewNormalizer(l, in.hooks(), provider.NormalizerConfig{Logger: zerolog.Nop()})
	waiting := time.Now()
	l.handle(t, in.hooks()[stripeID], n, b.event("invoice.paid", object(fields{"id": "in_1", "object": "invoice", "customer": b.cus})), waiting)
	b.delete()
	l.handle(t, in.hooks()[stripeID], n, b.event("customer.created", b.customerObject()), waiting)
	if account := in.state(events.EntityProviderAccount, events.ProviderAccountID(b.ref.ID, stripeID)); account != nil {
		t.Errorf("the account is %+v", account)
	}
}
