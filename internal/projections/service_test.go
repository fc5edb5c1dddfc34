package projections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
	"github.com/paykit-go/paykit/internal/natsapi"
)

func TestRefusedQueries(t *testing.T) { //nolint:tparallel // its rows share one server, one after the other
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	l := newLive(t, log)
	ada, _ := l.sync("ada", "ada@example.com")
	startProjector(t, log, t.TempDir())
	nobody := events.CustomerID("nobody")
	tests := []struct {
		query, body string
		code        events.Code
		param       string
	}{
		{"customer.get", ``, events.CodeInvalidRequest, "customerId"},
		{"customer.get", `{}`, events.CodeInvalidRequest, "customerId"},
		{"customer.get", `{"customerId":""}`, events.CodeInvalidRequest, "customerId"},
		{"customer.get", `{"customerId":null}`, events.CodeInvalidRequest, "customerId"},
		{"customer.get", `{"customerId":7}`, events.CodeInvalidRequest, "customerId"},
		{"customer.get", `{"customerID":"` + ada + `"}`, events.CodeInvalidRequest, "customerID"},
		{"customer.get", `{"referenceId":["ada"]}`, events.CodeInvalidRequest, "referenceId"},
		{"customer.get", `{"customerId":"` + ada + `","referenceId":"ada"}`, events.CodeInvalidRequest, "referenceId"},
		{"customer.get", `{"customerId":"` + ada + `","colour":"red"}`, events.CodeInvalidRequest, "colour"},
		{"customer.get", `{"customerId":"` + ada + `","colour":null}`, events.CodeInvalidRequest, "colour"},
		{"customer.get", `[]`, events.CodeInvalidRequest, ""},
		{"customer.get", `null`, events.CodeInvalidRequest, ""},
		{"customer.get", `{"customerId":"` + ada + `"}{}`, events.CodeInvalidRequest, ""},
		{"customer.get", `{"customerId":`, events.CodeInvalidRequest, ""},
		{"customer.get", `{"customerId":"` + strings.Repeat("x", 64<<10) + `"}`, events.CodeInvalidRequest, ""},
		{"customer.get", `{"customerId":"` + nobody + `"}`, events.CodeCustomerNotFound, "customerId"},
		{"customer.get", `{"customerId":"cust_"}`, events.CodeCustomerNotFound, "customerId"},
		{"customer.get", `{"referenceId":"nobody"}`, events.CodeCustomerNotFound, "referenceId"},
		{"customer.list", `{"limit":0}`, events.CodeInvalidRequest, "limit"},
		{"customer.list", `{"limit":101}`, events.CodeInvalidRequest, "limit"},
		{"customer.list", `{"limit":1.5}`, events.CodeInvalidRequest, "limit"},
		{"customer.list", `{"limit":"20"}`, events.CodeInvalidRequest, "limit"},
		{"customer.list", `{"cursor":"!"}`, events.CodeInvalidRequest, "cursor"},
		{"customer.list", `{"cursor":7}`, events.CodeInvalidRequest, "cursor"},
		{"customer.list", `{"cursor":"` + encodeCursor("hl", 3) + `"}`, events.CodeInvalidRequest, "cursor"},
		{"payment_method.list", `{}`, events.CodeInvalidRequest, "customerId"},
		{"payment_method.list", `{"customerId":"` + nobody + `"}`, events.CodeCustomerNotFound, "customerId"},
		{"payment_method.list", `{"customerId":"` + ada + `","providerId":{}}`, events.CodeInvalidRequest, "providerId"},
		{"payment_method.list", `{"customerId":"` + ada + `","cursor":"` + encodeCursor("ml", 3) + `"}`, events.CodeInvalidRequest, "cursor"},
		{"payment_method.get", `{}`, events.CodeInvalidRequest, "paymentMethodId"},
		{"payment_method.get", `{"paymentMethodId":"meth_x"}`, events.CodePaymentMethodNotFound, "paymentMethodId"},
		{"charge.get", `{"chargeId":true}`, events.CodeInvalidRequest, "chargeId"},
		{"charge.get", `{"chargeId":"chg_x"}`, events.CodeChargeNotFound, "chargeId"},
		{"charge.list", `{"status":"paid"}`, events.CodeInvalidRequest, "status"},
		{"charge.list", `{"customerId":"` + nobody + `"}`, events.CodeCustomerNotFound, "customerId"},
		{"checkout.get", `{"checkoutId":"chk_x"}`, events.CodeCheckoutNotFound, "checkoutId"},
		{"setup.get", `{"setupId":"set_x"}`, events.CodeSetupNotFound, "setupId"},
		{"event.list", `{}`, events.CodeInvalidRequest, "customerId"},
		{"event.list", `{"customerId":"` + nobody + `"}`, events.CodeCustomerNotFound, "customerId"},
		{"view.status", `{"all":true}`, events.CodeInvalidRequest, "all"},
	}
	for _, tt := range tests {
		t.Run(tt.query+" "+tt.body[:min(len(tt.body), 40)], func(t *testing.T) {
			ask(t, log.Conn(), tt.query, tt.body, 0).wantError(t, tt.code, tt.param)
		})
	}
	if got := ask(t, log.Conn(), "customer.list", "", 0); string(got.data[:10]) != `{"items":[` || strings.Contains(string(got.data), "nextCursor") {
		t.Errorf("an empty body: %s", got.data)
	}
	if got := ask(t, log.Conn(), "charge.list", " {\"limit\": 1} ", 0); string(got.data) != `{"items":[]}` {
		t.Errorf("no charges: %s", got.data)
	}
}

// TestReadYourWrites: a query waits for the sequence that it asks for, and no longer than it may.
func TestReadYourWrites(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	l := newLive(t, log)
	p := startProjector(t, log, t.TempDir())
	for i := range 50 {
		id, sequence := l.sync(fmt.Sprintf("user_%d", i), "u@example.com")
		got := ask(t, log.Conn(), "customer.get", fields{"customerId": id}, sequence)
		if got.status != "" || got.sequence != sequence {
			t.Fatalf("round %d: %s at %d, want it at %d", i, got.data, got.sequence, sequence)
		}
	}
	// One who waits for what is not there yet is woken by the append.
	at := p.Sequence()
	waiting := make(chan reply)
	go func() { waiting <- ask(t, log.Conn(), "customer.get", fields{"referenceId": "late"}, at+1) }()
	if _, sequence := l.sync("late", "l@example.com"); sequence != at+1 {
		t.Fatalf("sequence %d", sequence)
	}
	var c events.CustomerResult
	got := <-waiting
	got.into(t, &c)
	if c.ReferenceID != "late" {
		t.Errorf("answer %s", got.data)
	}
	start := time.Now()
	ask(t, log.Conn(), "customer.list", "", at+1000).wantError(t, events.CodeTimeout, headerMinSequence)
	if d := time.Since(start); d < sequenceWait-time.Second || d > sequenceWait+time.Second {
		t.Errorf("waited %s, want %s", d, sequenceWait)
	}
	msg := nats.NewMsg("paykit.query.customer.list")
	msg.Header.Set("Paykit-Min-Sequence", "soon")
	answer, err := log.Conn().RequestMsg(msg, 5*time.Second)
	if err != nil || answer.Header.Get("Nats-Service-Error-Code") != "400" {
		t.Errorf("an unreadable sequence: %v %v", answer, err)
	}
}

// TestStopEndsWaits: one who waits for a sequence that will not come any more is told so before the connection goes.
func TestStopEndsWaits(t *testing.T) {
	t.Parallel()
	server := eventlogtest.Start(t)
	log := eventlogtest.Open(t, server.Conn(t))
	p, err := Open(t.TempDir(), log, Config{})
	if err != nil {
		t.Fatal(err)
	}
	stop := runProjector(t, p)
	waitReady(t, p)
	nc := server.Conn(t)
	asked := make(chan reply)
	for _, query := range []string{"customer.list", "charge.get"} { // one of the quick ones
		go func() { asked <- ask(t, nc, query, fields{}, 1000) }()
	}
	waitFor(t, "the queries in hand", func() bool { return inHand(t, nc) == 2 })
	began := time.Now()
	if err := errors.Join(stop(), p.Close()); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > finishTime/2 {
		t.Errorf("stopped after %v", took)
	}
	for range 2 {
		(<-asked).wantError(t, events.CodeTimeout, headerMinSequence)
	}
}

// inHand is how many queries the service says that it has in hand.
func inHand(tb testing.TB, nc *nats.Conn) int {
	tb.Helper()
	answer, err := nc.Request("$SRV.STATS.paykit-query", nil, 5*time.Second)
	if err != nil {
		tb.Fatal(err)
	}
	var stats struct {
		Endpoints []struct {
			Data map[string]int `json:"data"`
		} `json:"endpoints"`
	}
	if err := json.Unmarshal(answer.Data, &stats); err != nil {
		tb.Fatal(err)
	}
	return stats.Endpoints[0].Data["in_hand"]
}

// waitFor asks again and again until ok says yes.
func waitFor(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			tb.Fatalf("waited too long for %s", what)
		}
	}
}

// TestOneWalkAtATime: whoever asks for the digest meanwhile is to ask again.
func TestOneWalkAtATime(t *testing.T) {
	t.Parallel()
	s := openTestStore(t, filepath.Join(t.TempDir(), FileName))
	defer closeStore(t, s)
	q := &queries{store: s}
	q.walking.Lock()
	_, err := q.viewStatus(t.Context(), query{})
	if refusal, ok := errors.AsType[*events.Error](err); !ok || refusal.Code != events.CodeOverloaded {
		t.Errorf("a second walk: %v", err)
	}
	q.walking.Unlock()
	if a, err := q.viewStatus(t.Context(), query{}); err != nil || !strings.Contains(string(a.Data), `"digest":"sha256:`) {
		t.Errorf("%s, %v", a.Data, err)
	}
}

// TestOverloaded: 256 queries at once, more are refused, and room is given again.
func TestOverloaded(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	l := newLive(t, log)
	l.sync("ada", "ada@example.com")
	p := startProjector(t, log, t.TempDir())
	answers := make(chan reply)
	at := p.Sequence()
	var asked sync.WaitGroup
	for range natsapi.AtOnce + 44 {
		asked.Go(func() { answers <- ask(t, log.Conn(), "customer.get", fields{"referenceId": "ada"}, at+1) })
	}
	for range 44 {
		(<-answers).wantError(t, events.CodeOverloaded, "")
	}
	l.sync("bob", "bob@example.com")
	for range natsapi.AtOnce {
		if r := <-answers; r.status != "" {
			t.Errorf("answer %s", r.data)
		}
	}
	asked.Wait()
	if r := ask(t, log.Conn(), "customer.get", fields{"referenceId": "ada"}, 0); r.status != "" {
		t.Errorf("afterwards: %s", r.data)
	}
}

// TestServiceTellsOfItself: the micro protocol's PING and INFO are answered.
func TestServiceTellsOfItself(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	startProjector(t, log, t.TempDir())
	answer, err := log.Conn().Request("$SRV.INFO.paykit-query", nil, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var info micro.Info
	if err := json.Unmarshal(answer.Data, &info); err != nil {
		t.Fatal(err)
	}
	var subjects []string
	for _, e := range info.Endpoints {
		subjects = append(subjects, e.Subject+" "+e.QueueGroup)
	}
	for _, query := range []string{
		"customer.get", "customer.list", "payment_method.list", "payment_method.get", "charge.get", "charge.list",
		"checkout.get", "setup.get", "event.list", "view.status",
	} {
		if !strings.Contains(strings.Join(subjects, "\n"), "paykit.query."+query+" paykit-query") {
			t.Errorf("%s is not served: %v", query, subjects)
		}
	}
}

// TestLargePages: a page ends before it is larger than a message, and the walk goes on.
func TestLargePages(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	l := newLive(t, log)
	ada, _ := l.sync("ada", "ada@example.com")
	metadata := map[string]string{}
	for i := range 50 {
		metadata[fmt.Sprintf("key_%d", i)] = strings.Repeat("x", 500)
	}
	for i := range 60 {
		id := events.ChargeID(fmt.Sprint(i))
		l.update(events.EntityCharge, id, func(last *events.Event) (*events.Event, error) {
			return events.DecideCharge(last, events.CreateCharge{ID: id, Amount: 1, Currency: "usd", Metadata: metadata}, l.cause(ada, "ada"))
		})
	}
	startProjector(t, log, t.TempDir())
	for _, query := range []string{"charge.list", "event.list"} {
		body := fields{"customerId": ada, "limit": 100}
		var first list
		ask(t, log.Conn(), query, body, 0).into(t, &first)
		if n := len(first.Items); n == 0 || n >= 60 || first.NextCursor == nil {
			t.Errorf("%s: a first page of %d items", query, n)
		}
		if all := walk(t, log.Conn(), query, body, 0, nil); len(all) < 60 {
			t.Errorf("%s: walked %d items", query, len(all))
		}
	}
}

// TestProfilesOutOfReach: a query that can't read a profile says "try again" and not that there is none.
func TestProfilesOutOfReach(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	l := newLive(t, log)
	l.sync("ada", "ada@example.com")
	p := startProjector(t, log, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	q := &queries{store: p.store.Load(), log: log, budget: 1 << 20}
	b, err := parseBody([]byte(`{"referenceId":"ada"}`), []string{"customerId", "referenceId"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.customerGet(ctx, query{body: b}); !errors.Is(err, context.Canceled) {
		t.Errorf("customer.get without PROFILES: %v", err)
	}
	if _, err := q.customerList(ctx, query{}); !errors.Is(err, context.Canceled) {
		t.Errorf("customer.list without PROFILES: %v", err)
	}
}

// BenchmarkPaymentMethodList compares the query of every checkout page with a bare NATS echo.
func BenchmarkPaymentMethodList(b *testing.B) {
	server := eventlogtest.Start(b)
	log := eventlogtest.Open(b, server.Conn(b))
	l := newLive(b, log)
	ada, _ := l.sync("ada", "ada@example.com")
	for i := range 3 {
		l.attach(ada, "stripe", fmt.Sprintf("pm_%d", i))
	}
	startProjector(b, log, b.TempDir())
	nc := server.Conn(b)
	body := []byte(`{"providerId":"stripe","customerId":"` + ada + `"}`)
	answer, err := nc.Request("paykit.query.payment_method.list", body, 5*time.Second)
	if err != nil {
		b.Fatal(err)
	}
	echo, err := server.Conn(b).Subscribe("echo", func(m *nats.Msg) { _ = m.Respond(answer.Data) })
	if err != nil {
		b.Fatal(err)
	}
	defer echo.Unsubscribe() //nolint:errcheck // the connection is closed next
	for _, callers := range []int{1, 32} {
		b.Run(fmt.Sprintf("%d at once", callers), func(b *testing.B) {
			// In turns, so that whatever else the machine does meets both.
			var list, plain time.Duration
			for b.Loop() {
				list += timed(b, nc, "paykit.query.payment_method.list", body, callers)
				plain += timed(b, nc, "echo", body, callers)
			}
			b.ReportMetric(plain.Seconds()/list.Seconds(), "of_echo")
		})
	}
}

// timed makes 2,000 requests, some at once.
func timed(b *testing.B, nc *nats.Conn, subject string, body []byte, callers int) time.Duration {
	b.Helper()
	const requests = 2000
	start := time.Now()
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range requests / callers {
				if _, err := nc.Request(subject, body, 5*time.Second); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}
