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
