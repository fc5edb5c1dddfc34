package bench_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

const (
	fillGroup     = 500 // customers whose events stand between each other's
	fillCharges   = 12  // of each customer
	fillFlush     = 512 // messages between two that are waited for
	fillBuffered  = 1 << 17
	fillProvider  = "stripe"
	fillReference = "fill_%d"
)

// filled says what [fill] made. Its customers are numbered from 0, see [filledCustomer].
type filled struct {
	Events    int // in the LOG, sequences 1 to Events
	Customers int
	Bytes     uint64 // of the LOG, as the server counts them
}

// filledCustomer names the n-th customer that fill makes, and the customer's only method.
func filledCustomer(n int) (customerID, methodID string) {
	return events.CustomerID(fmt.Sprintf(fillReference, n)), events.PaymentMethodID(fillProvider, fmt.Sprintf("pm_fill_%d", n))
}

// fill writes a LOG of n events into dir/nats, where `paykit dev --data-dir dir` looks for it: customers with an account, a
// method and charges that succeeded, about one in six refunded; each decided by the events' own rules, so versions and digest
// chains are right, under the headers that guarded publishes have. The links are there and marked as complete, and the
// consumers stand behind the last event, as on a system that has worked it all off. Deterministic but for the environment's
// name. The server that it starts for this syncs nothing until it is shut down, which it is when fill returns.
func fill(b *testing.B, dir string, n int) filled {
	b.Helper()
	ns, err := server.NewServer(&server.Options{
		ServerName: "fill", Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: filepath.Join(dir, "nats"),
		SyncInterval: time.Hour, NoSigs: true, NoLog: true, MaxPayload: 2 << 20,
		StreamMaxBufferedMsgs: fillBuffered, StreamMaxBufferedSize: 1 << 30,
	})
	if err != nil {
		b.Fatal(err)
	}
	go ns.Start()
	defer func() { ns.Shutdown(); ns.WaitForShutdown() }()
	if !ns.ReadyForConnections(20 * time.Second) {
		b.Fatal("the server to be filled is not ready")
	}
	nc, err := nats.Connect("", nats.InProcessServer(ns))
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := eventlog.Provision(b.Context(), nc, eventlog.Config{}); err != nil {
		b.Fatal(err)
	}
	f := &filler{b: b, nc: nc, js: js, left: n, queue: make(chan fillMessage, 4*fillFlush), written: make(chan struct{})}
	go f.write()
	customers := 0
	for f.left > 0 {
		f.group(customers)
		customers += fillGroup
	}
	close(f.queue)
	<-f.written
	if b.Failed() {
		b.FailNow()
	}
	return filled{Events: n, Customers: customers, Bytes: f.settle(uint64(n))} //nolint:gosec // G115: n counts events
}

// fillMessage is one message to store: an event with its guard, or a link.
type fillMessage struct {
	subject, filter string
	data            []byte
	last            uint64 // the guard's sequence
}

// filler decides events in one goroutine and has another one write them.
type filler struct {
	b        *testing.B
	nc       *nats.Conn
	js       jetstream.JetStream
	left     int // events still to be made
	sequence uint64
	links    int
	queue    chan fillMessage
	written  chan struct{}
}

// one is an entity on its way: its last event and where that stands.
type one struct {
	event    *events.Event
	sequence uint64
}

// append decides an entity's next event and queues it. It does nothing once enough events were made.
func (f *filler) append(at *one, decide func(last *events.Event) (*events.Event, error)) {
	if f.left == 0 {
		return
	}
	ev, err := decide(at.event)
	if err != nil || ev == nil {
		f.b.Errorf("fill: nothing was decided: %v", err)
		f.left = 0
		return
	}
	raw, err := ev.Encode()
	if err != nil {
		f.b.Error(err)
	}
	prefix := "paykit.log." + string(ev.Entity()) + "."
	f.queue <- fillMessage{
		subject: prefix + ev.Type.Name() + "." + ev.Subject + "." + ev.CustomerID(),
		filter:  prefix + "*." + ev.Subject + ".*", data: raw, last: at.sequence,
	}
	f.left--
	f.sequence++
	at.event, at.sequence = ev, f.sequence
}

// link queues a link. A link without the event that it leads to would be one too many.
func (f *filler) link(objectID string, k eventlog.Link) {
	if f.left == 0 {
		return
	}
	data, err := json.Marshal(k)
	if err != nil {
		f.b.Error(err)
	}
	subject := "paykit.link." + fillProvider + "." + events.Token(objectID)
	f.links++
	f.queue <- fillMessage{subject: subject, filter: subject, data: data}
}

// group makes the events of the next customers from number first on.
func (f *filler) group(first int) {
	// Long ago, and each event a little later than the one before.
	clock := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(f.sequence) * time.Second) //nolint:gosec // G115: small
	refs := make([]events.CustomerRef, fillGroup)
	cause := func(source, command string, i int) events.Cause {
		clock = clock.Add(time.Second)
		return events.Cause{Now: clock, Source: source, CommandID: command, CausationID: fmt.Sprintf("evt_fill_%d", f.sequence), Customer: refs[i]}
	}
	for i := range fillGroup {
		number := first + i
		customerID, methodID := filledCustomer(number)
		reference, account := fmt.Sprintf(fillReference, number), fmt.Sprintf("cus_fill_%d", number)
		f.append(&one{}, func(last *events.Event) (*events.Event, error) {
			return events.DecideCustomer(last, events.SyncCustomer{ReferenceID: reference}, cause("/paykit/ingest", events.CommandID("customer.sync", reference), i))
		})
		refs[i] = events.CustomerRef{ID: customerID, ReferenceID: reference}
		f.append(&one{}, func(last *events.Event) (*events.Event, error) {
			return events.DecideProviderAccount(last, events.LinkAccount{ProviderID: fillProvider, ProviderCustomerID: account}, cause("/paykit/worker", "", i))
		})
		f.link(account, eventlog.Link{Entity: events.EntityCustomer, ID: customerID, CustomerID: customerID})
		fingerprint := fmt.Sprintf("fp_%d", number)
		f.append(&one{}, func(last *events.Event) (*events.Event, error) {
			return events.DecidePaymentMethod(last, events.MethodObserved{ProviderID: fillProvider, Method: events.Method{
				ID: fmt.Sprintf("pm_fill_%d", number), ProviderCustomerID: account, Attached: true, Type: "card", Brand: "visa",
				Last4: "4242", ExpiryMonth: 12, ExpiryYear: 2034, Fingerprint: fingerprint,
			}}, cause("/paykit/ingest", "", i))
		})
		f.link(eventlog.CardObject(customerID, fingerprint), eventlog.Link{Entity: events.EntityPaymentMethod, ID: methodID, CustomerID: customerID})
	}
	for round := range fillCharges {
		f.charges(first, round, cause)
	}
}

// charges makes one charge of each customer of a group. What one step does for all of them stands together.
func (f *filler) charges(first, round int, cause func(source, command string, i int) events.Cause) {
	charges := make([]one, fillGroup)
	step := func(source string, which func(i int) bool, input func(i int, key string) events.ChargeInput, command string) {
		for i := range charges {
			if !which(i) {
				continue
			}
			key := fmt.Sprintf("fill-%d-%d", first+i, round)
			id := ""
			if command != "" {
				id = events.CommandID(command, key)
			}
			f.append(&charges[i], func(last *events.Event) (*events.Event, error) {
				return events.DecideCharge(last, input(i, key), cause(source, id, i))
			})
		}
	}
	all := func(int) bool { return true }
	some := func(i int) bool { return (first+i+round)%6 == 0 }
	amount := func(i int) int64 { return int64(500 + (first+i)%9500) }
	payment := func(i int, key string, status events.PaymentStatus) events.ChargeInput {
		p := events.Payment{ID: "pi_" + key, Status: status, Amount: amount(i), Currency: "usd"}
		if status == events.PaymentSucceeded {
			p.ChargeID = "ch_" + key
		}
		return events.PaymentObserved{ID: events.ChargeID(key), ProviderID: fillProvider, Payment: p}
	}
	step("/paykit/ingest", all, func(i int, key string) events.ChargeInput {
		_, methodID := filledCustomer(first + i)
		return events.CreateCharge{
			ID: events.ChargeID(key), ProviderID: fillProvider, PaymentMethodID: methodID, Amount: amount(i), Currency: "usd",
			Description: "monthly plan", Metadata: map[string]string{"plan": "monthly"}, CommandDigest: events.Digest([]byte(key)),
		}
	}, "charge.create")
	step("/paykit/worker", all, func(i int, key string) events.ChargeInput {
		customerID, _ := filledCustomer(first + i)
		f.link("pi_"+key, eventlog.Link{Entity: events.EntityCharge, ID: events.ChargeID(key), CustomerID: customerID})
		return payment(i, key, events.PaymentRequiresConfirmation)
	}, "")
	step("/paykit/worker", all, func(i int, key string) events.ChargeInput { return payment(i, key, events.PaymentSucceeded) }, "")
	step("/paykit/ingest", some, func(_ int, key string) events.ChargeInput {
		return events.RefundCharge{RefundID: events.RefundID(events.ChargeID(key), key), CommandDigest: events.Digest([]byte(key))}
	}, "charge.refund")
	step("/paykit/worker", some, func(i int, key string) events.ChargeInput {
		return events.RefundObserved{RefundID: events.RefundID(events.ChargeID(key), key), Report: events.RefundReport{
			ID: "re_" + key, ProviderPaymentID: "pi_" + key, ProviderChargeID: "ch_" + key, Amount: amount(i), Currency: "usd", Status: events.RefundSucceeded,
		}}
	}, "")
}

// write sends what is queued. Only now and then it waits for an answer, which comes after everything before it was stored.
func (f *filler) write() {
	defer close(f.written)
	sent := 0
	for m := range f.queue {
		msg := &nats.Msg{Subject: m.subject, Data: m.data, Header: nats.Header{
			"Nats-Expected-Last-Subject-Sequence":         {fmt.Sprint(m.last)},
			"Nats-Expected-Last-Subject-Sequence-Subject": {m.filter},
		}}
		stream := "PAYKIT_LOG"
		if strings.HasPrefix(m.subject, "paykit.link.") {
			stream = "PAYKIT_LINKS"
		}
		msg.Header["Nats-Expected-Stream"] = []string{stream}
		sent++
		if sent%fillFlush != 0 {
			if err := f.nc.PublishMsg(msg); err != nil {
				f.b.Error(err)
			}
			continue
		}
		if _, err := f.js.PublishMsg(f.b.Context(), msg); err != nil {
			f.b.Errorf("fill: %v", err)
			for range f.queue { // whoever decides must not be blocked
				continue
			}
			return
		}
	}
}

// settle makes sure that all is stored, marks the links as complete and moves the worker's consumers behind the last event.
func (f *filler) settle(want uint64) (bytes uint64) {
	ctx := f.b.Context()
	log, err := f.js.Stream(ctx, "PAYKIT_LOG")
	if err != nil {
		f.b.Fatal(err)
	}
	// The tail that was not waited for.
	for began := time.Now(); log.CachedInfo().State.LastSeq < want && time.Since(began) < time.Minute; {
		if _, err := log.Info(ctx); err != nil {
			f.b.Fatal(err)
		}
	}
	if got := log.CachedInfo().State; got.LastSeq != want || got.Msgs != want {
		f.b.Fatalf("the LOG has %d messages up to %d, want %d", got.Msgs, got.LastSeq, want)
	}
	links, err := f.js.Stream(ctx, "PAYKIT_LINKS")
	if err != nil {
		f.b.Fatal(err)
	}
	config := links.CachedInfo().Config
	config.Metadata["paykit_links_rebuilt_to"] = fmt.Sprintf("%d with %d links, cards too", want, links.CachedInfo().State.Msgs)
	if _, err := f.js.UpdateStream(ctx, config); err != nil {
		f.b.Fatal(err)
	}
	for _, name := range []eventlog.ConsumerName{eventlog.ConsumerRequests, eventlog.ConsumerSettling} {
		body := fmt.Appendf(nil, `{"seq":%d}`, want+1)
		m, err := f.nc.Request("$JS.API.CONSUMER.RESET.PAYKIT_LOG."+string(name), body, 5*time.Second)
		if err != nil {
			f.b.Fatal(err)
		}
		if strings.Contains(string(m.Data), `"error"`) {
			f.b.Fatalf("reset of %s: %s", name, m.Data)
		}
	}
	return log.CachedInfo().State.Bytes
}
