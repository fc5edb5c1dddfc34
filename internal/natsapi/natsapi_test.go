package natsapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
	"github.com/paykit-go/paykit/internal/natsapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// soon bounds every wait of a test.
const soon = 10 * time.Second

// serve runs a service until stop, which answers what Serve returned, or the test's end.
func serve(t *testing.T, nc *nats.Conn, c natsapi.Config) (stop func() error) {
	t.Helper()
	c.Name, c.Version, c.Subject, c.Overloaded = "test", "1.0.0", "test.api", "too many"
	if c.MayAnswer == nil {
		c.MayAnswer = func(reply string) bool { return reply != "" }
	}
	if c.Finish == 0 {
		c.Finish = soon
	}
	ready := make(chan struct{})
	c.Ready = func() { close(ready) }
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- natsapi.Serve(ctx, nc, c) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = stop() })
	receive(t, ready, "the service")
	return stop
}

func receive[T any](t *testing.T, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(soon):
		t.Fatalf("waited too long for %s", what)
	}
	return v
}

// code is an answer's error, "" if it is none.
func code(t *testing.T, m *nats.Msg) events.Code {
	t.Helper()
	c := events.Code(m.Header.Get("Nats-Service-Error"))
	if c == "" {
		return ""
	}
	var body struct {
		Error events.Error `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &body); err != nil || body.Error.Code != c || body.Error.Message == "" ||
		m.Header.Get("Nats-Service-Error-Code") != fmt.Sprint(c.Status()) {
		t.Errorf("refusal %v %s", m.Header, m.Data)
	}
	return c
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	srv := eventlogtest.Start(t)
	var log bytes.Buffer
	handle := func(_ context.Context, r natsapi.Request) (natsapi.Answer, *events.Error) {
		switch {
		case r.Header.Get("Panic") != "":
			panic("a bug")
		case len(r.Data) == 0:
			return natsapi.Answer{}, &events.Error{Code: events.CodeInvalidRequest, Message: "empty", Param: "p"}
		}
		return natsapi.Answer{Sequence: 7, Data: append(append(r.Buffer, "you said "...), r.Data...)}, nil
	}
	stop := serve(t, srv.Conn(t), natsapi.Config{
		Logger:    zerolog.New(&log),
		Endpoints: []natsapi.Endpoint{{Verb: "thing.do", Handle: handle}, {Verb: "thing.look_at", Quick: true, Handle: handle}},
	})
	nc := srv.Conn(t)
	for _, verb := range []string{"thing.do", "thing.look_at"} {
		for i := range 50 { // buffers are used again, answers are not
			said := fmt.Sprint("hello ", i, strings.Repeat("x", 100-2*i))
			m, err := nc.Request("test.api."+verb, []byte(said), soon)
			if err != nil || string(m.Data) != "you said "+said || m.Header.Get("Paykit-Sequence") != "7" || code(t, m) != "" {
				t.Fatalf("%s: %v %v", verb, m, err)
			}
		}
		if m, err := nc.Request("test.api."+verb, nil, soon); err != nil || code(t, m) != events.CodeInvalidRequest {
			t.Errorf("%s refused: %v %v", verb, m, err)
		}
		if m, err := nc.RequestMsg(&nats.Msg{Subject: "test.api." + verb, Header: nats.Header{"Panic": {"x"}}}, soon); err != nil || code(t, m) != events.CodeInternal {
			t.Errorf("%s panicked: %v %v", verb, m, err)
		}
	}
	stats, err := nc.Request("$SRV.STATS.test", nil, soon)
	if err != nil {
		t.Fatal(err)
	}
	var told struct {
		Endpoints []struct {
			Name       string         `json:"name"`
			Subject    string         `json:"subject"`
			QueueGroup string         `json:"queue_group"`
			Data       map[string]int `json:"data"`
		} `json:"endpoints"`
	}
	if err := json.Unmarshal(stats.Data, &told); err != nil || len(told.Endpoints) != 2 {
		t.Fatalf("%s %v", stats.Data, err)
	}
	if e := told.Endpoints[1]; e.Name != "thing-look-at" || e.Subject != "test.api.thing.look_at" || e.QueueGroup != "test" || e.Data["answered"] != 50 || e.Data["refused"] != 2 {
		t.Errorf("%+v", e)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	// What it panicked with may quote a caller's words: its type and the stack must do.
	if text := log.String(); strings.Contains(text, "a bug") || !strings.Contains(text, `"panic":"string"`) || !strings.Contains(text, "thing.do") {
		t.Errorf("the log does not tell of the panic, or too much: %s", text)
	}
	if _, err := nc.Request("test.api.thing.do", []byte("x"), soon); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("after the end: %v", err)
	}
}

// 256 are in hand at once, more are refused; a quick request waits for none of them.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	srv := eventlogtest.Start(t)
	goOn, began := make(chan struct{}), make(chan struct{}, natsapi.AtOnce)
	wait := func() {
		began <- struct{}{}
		<-goOn
	}
	serve(t, srv.Conn(t), natsapi.Config{WaitHeaders: []string{"Wait"}, Endpoints: []natsapi.Endpoint{
		{Verb: "slow", Handle: func(context.Context, natsapi.Request) (natsapi.Answer, *events.Error) {
			wait()
			return natsapi.Answer{}, nil
		}},
		{Verb: "quick", Quick: true, Handle: func(_ context.Context, r natsapi.Request) (natsapi.Answer, *events.Error) {
			if r.Header.Get("Wait") != "" {
				wait()
			}
			return natsapi.Answer{}, nil
		}},
	}})
	nc := srv.Conn(t)
	answers := make(chan events.Code, natsapi.AtOnce)
	ask := func(msg *nats.Msg) {
		m, err := nc.RequestMsg(msg, soon)
		if err != nil {
			t.Error(err)
			answers <- "none"
			return
		}
		answers <- code(t, m)
	}
	for i := range natsapi.AtOnce - 1 {
		msg := &nats.Msg{Subject: "test.api.slow"}
		if i%2 == 0 {
			msg = &nats.Msg{Subject: "test.api.quick", Header: nats.Header{"Wait": {"a while"}}}
		}
		go ask(msg)
	}
	for range natsapi.AtOnce - 1 {
		receive(t, began, "the requests")
	}
	ask(&nats.Msg{Subject: "test.api.quick"})
	if c := receive(t, answers, "the quick one"); c != "" {
		t.Errorf("the quick one: %s", c)
	}
	go ask(&nats.Msg{Subject: "test.api.slow"})
	receive(t, began, "the last one")
	for range 3 {
		ask(&nats.Msg{Subject: "test.api.quick"})
		if c := receive(t, answers, "one too many"); c != events.CodeOverloaded {
			t.Errorf("one too many: %q", c)
		}
	}
	close(goOn)
	for range natsapi.AtOnce {
		if c := receive(t, answers, "an answer"); c != "" {
			t.Errorf("in hand: %s", c)
		}
	}
	ask(&nats.Msg{Subject: "test.api.quick"})
	if c := receive(t, answers, "room again"); c != "" {
		t.Errorf("afterwards: %s", c)
	}
}

// The end waits for what is in hand, and for what was sent before anybody knew of it; not for ever.
func TestEnd(t *testing.T) {
	t.Parallel()
	srv := eventlogtest.Start(t)
	goOn, began := make(chan struct{}), make(chan struct{}, natsapi.AtOnce)
	endpoints := []natsapi.Endpoint{{Verb: "slow", Handle: func(ctx context.Context, _ natsapi.Request) (natsapi.Answer, *events.Error) {
		began <- struct{}{}
		<-goOn
		if ctx.Err() != nil {
			t.Error("what is in hand was cut off")
		}
		return natsapi.Answer{Data: []byte("done")}, nil
	}}}
	stop := serve(t, srv.Conn(t), natsapi.Config{Endpoints: endpoints})
	nc := srv.Conn(t)
	answer := make(chan *nats.Msg, 1)
	go func() {
		m, err := nc.Request("test.api.slow", nil, soon)
		if err != nil {
			t.Error(err)
		}
		answer <- m
	}()
	receive(t, began, "the request")
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	gone := func() bool {
		_, err := nc.Request("test.api.slow", nil, 100*time.Millisecond)
		return errors.Is(err, nats.ErrNoResponders)
	}
	for deadline := time.Now().Add(soon); !gone(); {
		if time.Now().After(deadline) {
			t.Fatal("still taken in")
		}
	}
	select {
	case err := <-ended:
		t.Errorf("ended with a request in hand: %v", err)
	default:
	}
	close(goOn)
	if m := receive(t, answer, "the answer"); string(m.Data) != "done" {
		t.Errorf("answer %s", m.Data)
	}
	if err := receive(t, ended, "the end"); err != nil {
		t.Error(err)
	}

	hang, hangs := make(chan struct{}), make(chan struct{}, 1)
	stop = serve(t, srv.Conn(t), natsapi.Config{Finish: 100 * time.Millisecond, Endpoints: []natsapi.Endpoint{
		{Verb: "slow", Handle: func(context.Context, natsapi.Request) (natsapi.Answer, *events.Error) {
			hangs <- struct{}{}
			<-hang
			return natsapi.Answer{}, nil
		}},
	}})
	if err := nc.Publish("test.api.slow", nil); err != nil {
		t.Fatal(err)
	}
	receive(t, hangs, "the request")
	if err := stop(); err != nil {
		t.Error(err)
	}
	close(hang)
}

// Answers go where the installation allows it, and nowhere else.
func TestMayAnswer(t *testing.T) {
	t.Parallel()
	srv := eventlogtest.Start(t)
	handled := make(chan bool, 10)
	serve(t, srv.Conn(t), natsapi.Config{
		MayAnswer: func(reply string) bool { return reply == "mine" },
		Endpoints: []natsapi.Endpoint{{Verb: "v", Handle: func(_ context.Context, r natsapi.Request) (natsapi.Answer, *events.Error) {
			handled <- r.Waits
			if len(r.Data) > 0 {
				return natsapi.Answer{}, &events.Error{Code: events.CodeInvalidRequest, Message: "no"}
			}
			return natsapi.Answer{}, nil
		}}},
	})
	nc := srv.Conn(t)
	seen := make(chan *nats.Msg, 10)
	for _, subject := range []string{"mine", "other"} {
		if _, err := nc.ChanSubscribe(subject, seen); err != nil {
			t.Fatal(err)
		}
	}
	for _, reply := range []string{"", "other", "mine"} {
		for _, data := range []string{"", "x"} {
			if err := nc.PublishMsg(&nats.Msg{Subject: "test.api.v", Reply: reply, Data: []byte(data)}); err != nil {
				t.Fatal(err)
			}
			if waits := receive(t, handled, "a request"); waits != (reply != "") {
				t.Errorf("reply %q waits: %v", reply, waits)
			}
		}
	}
	for range 2 {
		if m := receive(t, seen, "an answer"); m.Subject != "mine" {
			t.Errorf("answered to %s", m.Subject)
		}
	}
	if _, err := nc.Request("$SRV.PING.test", nil, soon); err != nil || len(seen) != 0 {
		t.Errorf("%d more answers, %v", len(seen), err)
	}
}

func TestNameTaken(t *testing.T) {
	t.Parallel()
	nc := eventlogtest.Start(t).Conn(t)
	err := natsapi.Serve(t.Context(), nc, natsapi.Config{
		Name: "test", Version: "1.0.0", Subject: "not a subject", Endpoints: []natsapi.Endpoint{{Verb: "v"}}, Finish: time.Second,
	})
	if !errors.Is(err, micro.ErrConfigValidation) {
		t.Errorf("%v", err)
	}
}
