package commands

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

// serve runs the service until the test ends, or until stop, which waits for its end.
func serve(tb testing.TB, h *Handler, nc *nats.Conn) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, nc, h) }()
	stopped := false
	stop = func() {
		tb.Helper()
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				tb.Errorf("Serve: %v", err)
			}
		case <-time.After(patience):
			tb.Error("Serve did not end")
		}
	}
	tb.Cleanup(stop)
	return stop
}

// client is an app in another language: it knows subjects, headers and JSON.
type client struct {
	tb testing.TB
	nc *nats.Conn
}

// newClient waits until the service of every given handler is there.
func newClient(tb testing.TB, server *eventlogtest.Server, services int) *client {
	tb.Helper()
	c := &client{tb: tb, nc: server.Conn(tb)}
	deadline := time.Now().Add(patience)
	for {
		ready := 0
		for _, msg := range c.monitor("INFO") {
			var info micro.Info
			if err := json.Unmarshal(msg, &info); err != nil {
				tb.Fatal(err)
			}
			if info.Name == "paykit-api" && len(info.Endpoints) == len(Verbs()) {
				ready++
			}
		}
		if ready >= services {
			return c
		}
		if time.Now().After(deadline) {
			tb.Fatalf("%d of %d services are there", ready, services)
		}
	}
}

// monitor asks all services something.
func (c *client) monitor(verb string) [][]byte {
	c.tb.Helper()
	sub, err := c.nc.SubscribeSync(c.nc.NewRespInbox())
	if err != nil {
		c.tb.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := c.nc.PublishRequest("$SRV."+verb, sub.Subject, nil); err != nil {
		c.tb.Fatal(err)
	}
	var answers [][]byte
	for {
		msg, err := sub.NextMsg(100 * time.Millisecond)
		if err != nil {
			return answers
		}
		answers = append(answers, msg.Data)
	}
}

// ask sends a request with headers given as name, value, name, value.
func (c *client) ask(verb, body string, headers ...string) *nats.Msg {
	c.tb.Helper()
	msg := &nats.Msg{Subject: "paykit.api." + verb, Data: []byte(body), Header: nats.Header{}}
	for pair := range slices.Chunk(headers, 2) {
		msg.Header.Add(pair[0], pair[1])
	}
	reply, err := c.nc.RequestMsg(msg, patience)
	if err != nil {
		c.tb.Fatalf("%s: %v", verb, err)
	}
	return reply
}

// refused fails unless a request is refused as said, the way NATS services refuse.
func (c *client) refused(reply *nats.Msg, status int, code, param string) {
	c.tb.Helper()
	var body struct {
		Error events.Error `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &body); err != nil {
		c.tb.Errorf("body %q: %v", reply.Data, err)
	}
	got := fmt.Sprintf("%s %s %s (%s)", reply.Header.Get("Nats-Service-Error-Code"), reply.Header.Get("Nats-Service-Error"), body.Error.Code, body.Error.Param)
	if want := fmt.Sprintf("%d %s %s (%s)", status, code, code, param); got != want || body.Error.Message == "" {
		c.tb.Errorf("got %s %q, want %s", got, body.Error.Message, want)
	}
	if reply.Header.Get("Paykit-Sequence") != "" {
		c.tb.Error("a refusal has a sequence")
	}
}

func TestServiceAnswers(t *testing.T) {
	x := newHarness(t)
	serve(t, x.h, x.log.Conn())
	c := newClient(t, x.server, 1)

	reply := c.ask("customer.sync", `{"referenceId":"user_1","email":"a@x.example"}`)
	if reply.Header.Get("Nats-Service-Error-Code") != "" || !strings.Contains(string(reply.Data), `"email":"a@x.example"`) {
		t.Errorf("got %s %v", reply.Data, reply.Header)
	}
	if got := reply.Header.Get("Paykit-Sequence"); got != strconv.FormatUint(x.last(), 10) {
		t.Errorf("sequence %s, want %d", got, x.last())
	}
	customer := events.CustomerID("user_1")
	x.method(customer, "pm_1")
	body := payerCommands(customer)["charge.create"]

	reply = c.ask("charge.create", body, "Paykit-Idempotency-Key", "k", "Paykit-Wait", "0s")
	if !strings.Contains(string(reply.Data), `"status":"requested"`) || reply.Header.Get("Paykit-Sequence") == "" {
		t.Errorf("got %s", reply.Data)
	}
	before := x.last()
	c.refused(c.ask("charge.create", `{`), 400, "invalid_request", "")
	c.refused(c.ask("charge.create", `{"amount":0}`), 400, "invalid_request", "providerId")
	c.refused(c.ask("charge.create", strings.Replace(body, `"amount"`, `"amout"`, 1)), 400, "invalid_request", "amout")
	c.refused(c.ask("charge.create", strings.Repeat(" ", maxBody)+body), 400, "invalid_request", "")
	c.refused(c.ask("charge.create", strings.Replace(body, "stripe", "paypal", 1)), 404, "provider_not_found", "providerId")
	c.refused(c.ask("charge.create", strings.Replace(body, "4900", "4901", 1), "Paykit-Idempotency-Key", "k"), 409, "idempotency_conflict", "")
	c.refused(c.ask("charge.create", strings.Replace(body, "Pro", "for a@b.example", 1)), 422, "personal_data", "description")
	c.refused(c.ask("charge.refund", fmt.Sprintf(`{"chargeId":%q}`, events.ChargeID("k"))), 422, "charge_not_refundable", "chargeId")
	for _, wait := range []string{"", "4", "soon", "-1s"} {
		c.refused(c.ask("charge.create", body, "Paykit-Idempotency-Key", "k", "Paykit-Wait", wait), 400, "invalid_request", "Paykit-Wait")
	}
	for _, key := range []string{"", strings.Repeat("k", 256)} {
		c.refused(c.ask("charge.create", body, "Paykit-Idempotency-Key", key), 400, "invalid_request", "Paykit-Idempotency-Key")
		c.refused(c.ask("customer.sync", `{"referenceId":"user_2"}`, "Paykit-Idempotency-Key", key), 400, "invalid_request", "Paykit-Idempotency-Key")
	}
	c.refused(c.ask("charge.create", body, "Paykit-Idempotency-Key", "a", "Paykit-Idempotency-Key", "b"), 400, "invalid_request", "Paykit-Idempotency-Key")
	if x.last() != before {
		t.Errorf("refused requests took the log from %d to %d", before, x.last())
	}
	// A wait that has nothing to wait for is over at once, however long it may be.
	x.append(events.EntityCharge, events.ChargeID("k"), payment(events.PaymentSucceeded))
	reply = c.ask("charge.create", body, "Paykit-Idempotency-Key", "k", "Paykit-Wait", "24h")
	if !strings.Contains(string(reply.Data), `"status":"succeeded"`) {
		t.Errorf("got %s", reply.Data)
	}
}

// TestServiceIsANATSService: two processes share the requests and answer $SRV.PING, INFO and STATS.
func TestServiceIsANATSService(t *testing.T) {
	x := newHarness(t)
	other, otherLog := ingest(t, x.server)
	serve(t, x.h, x.log.Conn())
	serve(t, other, otherLog.Conn())
	c := newClient(t, x.server, 2)
	const n = 40
	for i := range n {
		c.ask("customer.sync", fmt.Sprintf(`{"referenceId":"user_%d"}`, i))
	}
	c.refused(c.ask("customer.sync", `{}`), 400, "invalid_request", "referenceId")
	if pings := c.monitor("PING"); len(pings) != 2 {
		t.Errorf("%d answer a ping, want 2", len(pings))
	}
	total := map[string]int{}
	for _, answer := range c.monitor("STATS") {
		var stats micro.Stats
		if err := json.Unmarshal(answer, &stats); err != nil {
			t.Fatal(err)
		}
		for _, e := range stats.Endpoints {
			if e.Subject != "paykit.api.customer.sync" {
				continue
			}
			var data struct {
				Answered int `json:"answered"`
				Refused  int `json:"refused"`
			}
			if err := json.Unmarshal(e.Data, &data); err != nil {
				t.Fatal(err)
			}
			if e.NumRequests == 0 {
				t.Error("one of two processes got no request of 41")
			}
			total["requests"] += e.NumRequests
			total["answered"] += data.Answered
			total["refused"] += data.Refused
		}
	}
	if total["requests"] != n+1 || total["answered"] != n || total["refused"] != 1 {
		t.Errorf("got %v", total)
	}
}

// TestServiceAtOnce: 256 requests wait at once without standing in each other's way; one more is refused.
func TestServiceAtOnce(t *testing.T) {
	x := newHarness(t)
	stop := serve(t, x.h, x.log.Conn())
	c := newClient(t, x.server, 1)
	customer := x.customer("user_1")
	x.method(customer, "pm_1")
	x.run("charge.create", payerCommands(customer)["charge.create"], keyed("k"))

	inbox := c.nc.NewRespInbox()
	answers, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	for range atOnce + 1 {
		msg := &nats.Msg{
			Subject: "paykit.api.charge.create", Reply: inbox, Data: []byte(payerCommands(customer)["charge.create"]),
			Header: nats.Header{"Paykit-Idempotency-Key": {"k"}, "Paykit-Wait": {"60s"}},
		}
		if err := c.nc.PublishMsg(msg); err != nil {
			t.Fatal(err)
		}
	}
	first, err := answers.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	c.refused(first, 429, "overloaded", "")
	if msg, err := answers.NextMsg(200 * time.Millisecond); err == nil {
		t.Errorf("answered before its time: %s", msg.Data)
	}
	// Stopping ends the waits, and everybody is answered before the connection goes.
	stop()
	if n := len(x.h.waits.waiting); n != 0 {
		t.Errorf("stopped with waits for %d entities in hand", n)
	}
	x.log.Conn().Close()
	for i := range atOnce {
		msg, err := answers.NextMsg(patience)
		if err != nil {
			t.Fatalf("answer %d of %d: %v", i+1, atOnce, err)
		}
		if !strings.Contains(string(msg.Data), `"status":"requested"`) || msg.Header.Get("Paykit-Sequence") == "" {
			t.Fatalf("got %s", msg.Data)
		}
	}
	if reply, err := c.nc.Request("paykit.api.customer.sync", []byte(`{"referenceId":"late"}`), time.Second); err == nil {
		t.Errorf("stopped, and yet it answers %s", reply.Data)
	}
}

// TestServiceStopsBetweenTwo: when one of two processes stops under load, no request is lost.
func TestServiceStopsBetweenTwo(t *testing.T) {
	x := newHarness(t)
	other, otherLog := ingest(t, x.server)
	stop := serve(t, x.h, x.log.Conn())
	serve(t, other, otherLog.Conn())
	c := newClient(t, x.server, 2)
	const n = 60
	failed := make(chan error, n)
	for i := range n {
		go func() {
			reply, err := c.nc.Request("paykit.api.customer.sync", fmt.Appendf(nil, `{"referenceId":"user_%d"}`, i), patience)
			if err == nil && reply.Header.Get("Paykit-Sequence") == "" {
				err = fmt.Errorf("%s", reply.Data)
			}
			failed <- err
		}()
	}
	stop()
	for range n {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
}

// TestServiceFinishesWhatIsInHand: Serve ends after the last request in hand was answered, so the connection may go.
func TestServiceFinishesWhatIsInHand(t *testing.T) {
	x := newHarness(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, x.log.Conn(), x.h) }()
	c := newClient(t, x.server, 1)
	body := payerCommands(x.customer("user_1"))["checkout.create"]

	x.h.waits.mu.Lock() // holds the request where it registers its wait
	inbox := c.nc.NewRespInbox()
	answers, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.nc.PublishRequest("paykit.api.checkout.create", inbox, []byte(body)); err != nil {
		t.Fatal(err)
	}
	inHand := false
	for deadline := time.Now().Add(patience); !inHand && time.Now().Before(deadline); {
		for _, answer := range c.monitor("STATS") {
			inHand = inHand || strings.Contains(string(answer), `"in_hand":1`)
		}
	}
	if !inHand {
		t.Error("the request did not come")
	}
	cancel()
	select {
	case err := <-ended:
		t.Errorf("ended with a request in hand (%v)", err)
	case <-time.After(500 * time.Millisecond):
	}
	x.h.waits.mu.Unlock()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("Serve did not end")
	}
	x.log.Conn().Close()
	if msg, err := answers.NextMsg(patience); err != nil || !strings.Contains(string(msg.Data), `"status":"requested"`) {
		t.Errorf("not answered: %v %v", msg, err)
	}
}
