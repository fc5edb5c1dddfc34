package paykit_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/paykit-go/paykit"
)

func connect(t *testing.T) *paykit.Client {
	t.Helper()
	pk, err := paykit.Connect(t.Context(), at.NATS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pk.Close)
	return pk
}

// A client reads what it wrote: its queries wait for the views.
func TestReadYourWrites(t *testing.T) {
	t.Parallel()
	pk := connect(t)
	for i := range 50 {
		name := fmt.Sprint("Name ", i)
		if _, err := pk.Customer.Sync(t.Context(), paykit.CustomerSync{ReferenceID: "user_ryw", Name: name}); err != nil {
			t.Fatal(err)
		}
		got, err := pk.Customer.GetByReference(t.Context(), "user_ryw")
		if err != nil || got.Name == nil || *got.Name != name {
			t.Fatalf("read %d: %+v, %v", i, got, err)
		}
	}
}

func TestPatch(t *testing.T) {
	t.Parallel()
	pk := connect(t)
	sync := func(in paykit.CustomerSync) *paykit.Customer {
		in.ReferenceID = "user_patch"
		c, err := pk.Customer.Sync(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	sync(paykit.CustomerSync{Email: "jane@example.com", Name: "Jane", Metadata: map[string]string{"a": "1", "b": "2"}})
	c := sync(paykit.CustomerSync{Metadata: map[string]string{"c": "3"}})
	if *c.Email != "jane@example.com" || *c.Name != "Jane" || len(c.Metadata) != 1 || c.Metadata["c"] != "3" {
		t.Errorf("what is left out stays, metadata is replaced: %+v", c)
	}
	c = sync(paykit.CustomerSync{Remove: []string{"email", "metadata"}})
	if c.Email != nil || *c.Name != "Jane" || len(c.Metadata) != 0 {
		t.Errorf("removed: %+v", c)
	}
}

func TestErrorsAreTyped(t *testing.T) {
	t.Parallel()
	pk := connect(t)
	_, err := pk.Customer.Get(t.Context(), "cust_00000000000000000000000000")
	if refusal, ok := errors.AsType[*paykit.Error](err); !ok || refusal.Code != paykit.CodeCustomerNotFound {
		t.Errorf("got %v", err)
	}
	_, err = pk.Charge.Get(t.Context(), "chg_00000000000000000000000000")
	if refusal, ok := errors.AsType[*paykit.Error](err); !ok || refusal.Code != paykit.CodeChargeNotFound {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := paykit.Connect(ctx, "nats://127.0.0.1:1"); !errors.Is(err, paykit.ErrUnavailable) {
		t.Errorf("no server: %v", err)
	}
	nobody := paykit.NewClient(conn(t), paykit.WithPrefix("elsewhere"))
	if _, err := nobody.Customer.List(ctx, paykit.Page{}); !errors.Is(err, paykit.ErrUnavailable) {
		t.Errorf("nobody answers: %v", err)
	}
}

func TestPaging(t *testing.T) {
	t.Parallel()
	pk := connect(t)
	for i := range 7 {
		if _, err := pk.Customer.Sync(t.Context(), paykit.CustomerSync{ReferenceID: fmt.Sprint("user_page_", i)}); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	for p := (paykit.Page{Limit: 3}); ; {
		list, err := pk.Customer.List(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list.Items {
			if seen[c.ID] {
				t.Errorf("%s comes twice", c.ReferenceID)
			}
			seen[c.ID] = true
		}
		if p.Cursor = list.NextCursor; p.Cursor == "" {
			break
		}
	}
	for i := range 7 {
		c, err := pk.Customer.GetByReference(t.Context(), fmt.Sprint("user_page_", i))
		if err != nil || !seen[c.ID] {
			t.Errorf("customer %d is not listed: %v", i, err)
		}
	}
}

// A subscription goes on where it was, retries what failed, keeps a customer's order, and shares its name's work.
func TestSubscribe(t *testing.T) {
	t.Parallel()
	pk := connect(t)
	const references = 5
	var mu sync.Mutex
	got := map[string][]int{} // by customer, the versions in the order they were dealt with
	failed := map[string]bool{}
	total := 0
	subscribe := func(ctx context.Context, enough int) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		handle := func(_ context.Context, e paykit.CustomerEvent) error {
			mu.Lock()
			defer mu.Unlock()
			if len(e.Customer.ReferenceID) < 9 || e.Customer.ReferenceID[:9] != "user_sub_" {
				return nil
			}
			if !failed[e.Event.ID] && e.Event.EntityVersion == 2 {
				failed[e.Event.ID] = true
				if e.Customer.ReferenceID == "user_sub_0" {
					panic("a handler's mistake")
				}
				return errors.New("not now")
			}
			got[e.Customer.ID] = append(got[e.Customer.ID], e.Event.EntityVersion)
			if total++; total == enough {
				cancel()
			}
			return nil
		}
		return pk.Subscribe(ctx, "TestSubscribe", paykit.Handlers{CustomerCreated: handle, CustomerUpdated: handle}, paykit.FromBeginning())
	}
	write := func(version int) {
		for i := range references {
			in := paykit.CustomerSync{ReferenceID: fmt.Sprint("user_sub_", i), Name: fmt.Sprint("Name ", version)}
			if _, err := pk.Customer.Sync(t.Context(), in); err != nil {
				t.Fatal(err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	write(1)
	write(2)
	if err := subscribe(ctx, 2*references); err != nil {
		t.Fatal(err)
	}
	write(3) // while nobody listens
	if err := subscribe(ctx, 3*references); err != nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatalf("not everything arrived: %v", got)
	}
	for id, versions := range got {
		want := 1
		for _, v := range versions {
			if v > want {
				t.Errorf("%s: %v is out of order", id, versions)
			}
			want = max(want, v+1)
		}
		if want != 4 {
			t.Errorf("%s: %v misses some", id, versions)
		}
	}
	if err := pk.Subscribe(t.Context(), "no.such name", paykit.Handlers{Any: func(context.Context, paykit.Event) error { return nil }}); !errors.Is(err, paykit.ErrSubscriptionName) {
		t.Errorf("a bad name: %v", err)
	}
}

// A caller chooses where its answer goes. An answer must never become an event or a delivery: the services have rights
// that their callers have not.
func TestAnswersNeverReachTheStreams(t *testing.T) {
	t.Parallel()
	nc := conn(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	replies := map[string]string{
		"paykit.log.charge.succeeded.chg_X.cust_X": "PAYKIT_LOG", "paykit.inbox.stripe.evt_1.none": "PAYKIT_INBOX",
		"paykit.events.charge.succeeded.cust_X": "",
	}
	for reply, stream := range replies {
		heard, err := nc.SubscribeSync(reply)
		if err != nil {
			t.Fatal(err)
		}
		for _, request := range [][2]string{
			{"paykit.api.customer.sync", `{"referenceId":"user_reply"}`},
			{"paykit.api.charge.create", `{}`},
			{"paykit.query.customer.get", `{"referenceId":"user_reply"}`},
			{"paykit.query.charge.get", `{"nope":1}`},
		} {
			if err := nc.PublishRequest(request[0], reply, []byte(request[1])); err != nil {
				t.Fatal(err)
			}
		}
		// Asked the ordinary way after them, the services have begun with all of them.
		for _, subject := range []string{"paykit.api.customer.sync", "paykit.query.customer.get"} {
			if _, err := nc.Request(subject, []byte(`{"referenceId":"user_reply"}`), 10*time.Second); err != nil {
				t.Fatalf("%s: %v", subject, err)
			}
		}
		if m, err := heard.NextMsg(300 * time.Millisecond); err == nil {
			t.Errorf("%s got an answer: %s", reply, m.Data)
		}
		if stream == "" {
			continue
		}
		s, err := js.Stream(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := s.GetLastMsgForSubject(t.Context(), reply); err == nil {
			t.Errorf("%s holds an answer: %s", stream, m.Data)
		}
	}
}
