package provider_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/provider"
)

// asked waits until a call was made since the last time.
func (w *world) asked(what string) {
	w.t.Helper()
	w.eventually(what, func() bool {
		return slices.ContainsFunc(w.called(), func(call string) bool { return strings.Contains(call, what) })
	})
}

// A worker that is told to end in the middle of a call ends in time and gives the request back at once; the next one asks
// how things stand.
func TestEndInTheMiddleOfACall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	// The provider is slow: the money is taken after the worker has gone.
	w.fault(`{"operation":"payment_intents.confirm","kind":"delay","delay":"7s"}`)
	start := func() (stop func()) {
		worker := w.worker()
		worker.LookAfter(time.Hour, time.Hour, 50*time.Millisecond) // so that only the request can do it
		return w.run(worker)
	}
	stop := start()
	e := p.charge("")
	w.asked("/confirm ")
	begin := time.Now()
	stop()
	if took := time.Since(begin); took > 7*time.Second {
		t.Errorf("ended after %s", took)
	}
	w.called()
	begin = time.Now()
	start()
	w.asked("GET /v1/payment_intents/")
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("the request was taken up after %s", took)
	}
	c := w.untilCharge(e.Event.Subject, events.ChargeStatusSucceeded)
	w.oneCapture(c.ID)
	if got := w.history(events.EntityCharge, c.ID); !slices.Equal(got, []string{"requested", "processing", "succeeded"}) {
		t.Errorf("events %v", got)
	}
}

// A try that takes too long is cut: nothing is decided from that, and it is tried again.
func TestTryIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	w.fault(`{"operation":"payment_intents.confirm","kind":"delay","delay":"2s"}`)
	worker := w.worker()
	worker.TryFor(500 * time.Millisecond)
	e := p.charge("")
	begin := time.Now()
	if got := worker.CarryOut(t.Context(), w.message(e, 1)); got == eventlog.Done() {
		t.Error("the request was given up")
	}
	if took := time.Since(begin); took > 1900*time.Millisecond {
		t.Errorf("cut after %s", took)
	}
	if got := w.history(events.EntityCharge, e.Event.Subject); !slices.Equal(got, []string{"requested", "processing"}) {
		t.Errorf("events %v", got)
	}
	w.start()
	w.oneCapture(w.untilCharge(e.Event.Subject, events.ChargeStatusSucceeded).ID)
}

// An event that can't be read is a fault: it is told as one, and tried again for some minutes. Then it is set aside.
func TestDamagedEventIsAFault(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	e := p.charge("")
	subject := "paykit.log.charge.updated." + e.Event.Subject + "." + p.ref.ID
	w.tap.Damaged(subject)
	if msg, err := w.log.Conn().RequestWithContext(t.Context(), subject, []byte(`{"not":"an event"}`)); err != nil || strings.Contains(string(msg.Data), "error") {
		t.Fatal(err, string(msg.Data))
	}
	outcomes := map[string]int{}
	worker := w.worker()
	worker.OnConcluded(func(_ events.Type, outcome string) { outcomes[outcome]++ })
	for attempt := 1; attempt <= 20; attempt++ {
		if got := worker.CarryOut(t.Context(), w.message(e, attempt)); (got == eventlog.Done()) != (attempt == 20) {
			t.Fatalf("attempt %d: %+v", attempt, got)
		}
		if n := len(w.letters("")); n != attempt/20 {
			t.Fatalf("%d letters after %d attempts", n, attempt)
		}
	}
	if outcomes["failed"] != 19 || outcomes["dead"] != 1 || !strings.Contains(w.logs.String(), `"level":"error"`) {
		t.Errorf("outcomes %v\n%s", outcomes, w.logs)
	}
}

// gauge is a gauge's value, of one consumer unless "".
func (w *world) gauge(name, consumer string) float64 {
	w.t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (consumer == "" || m.GetLabel()[0].GetValue() == consumer) {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	w.t.Fatalf("no gauge %s", name)
	return 0
}

func (w *world) inDoubt() float64 { return w.gauge("paykit_charges_in_doubt", "") }

// The gauge of charges in doubt goes down again, whoever settled them.
func TestDoubtsAreForgotten(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		settle events.Payment
	}{
		{"by a delivery", events.Payment{Status: events.PaymentSucceeded}},
		{"by another worker, and open still", events.Payment{Status: events.PaymentRequiresAction, ActionURL: "https://bank.example"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.buyer("pm_card_visa")
			w.fault(`{"operation":"payment_intents.confirm","kind":"status","stored":true}`)
			worker, other := w.worker(), w.worker()
			worker.HoldSettling(true)
			e := p.charge("")
			other.CarryOut(t.Context(), w.message(e, 1)) // which does not count: it would never see the end
			doubt, err := w.log.LoadFromLeader(t.Context(), events.EntityCharge, e.Event.Subject)
			if err != nil || w.inDoubt() != 0 {
				t.Fatalf("%v in doubt, %v", w.inDoubt(), err)
			}
			worker.Settle(t.Context(), w.message(doubt, 1))
			if w.inDoubt() != 1 {
				t.Fatalf("%v in doubt", w.inDoubt())
			}
			tt.settle.ID = doubt.Event.Data.Charge.ProviderPaymentID
			p.updateCharge(e.Event.Subject, events.PaymentObserved{Payment: tt.settle})
			if got := worker.Settle(t.Context(), w.message(doubt, 2)); got != eventlog.Done() || w.inDoubt() != 0 {
				t.Errorf("%+v, %v in doubt", got, w.inDoubt())
			}
		})
	}
	t.Run("by one that has ended", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		p := w.buyer("pm_card_visa")
		w.fault(`{"operation":"*","nth":2,"times":100000,"kind":"status","status":500}`)
		worker := w.worker()
		worker.LookAfter(time.Hour, time.Hour, 50*time.Millisecond)
		stop := w.run(worker)
		w.untilCharge(p.charge("").Event.Subject, events.ChargeStatusInDoubt)
		w.eventually("one is in doubt", func() bool { return w.inDoubt() == 1 })
		stop()
		if got := w.inDoubt(); got != 0 {
			t.Errorf("%v in doubt at a worker that has ended", got)
		}
	})
}

// A provider in trouble is asked again soon, whatever the delay has grown to; one that refuses to show something is not.
func TestLookThatFails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		err     *provider.Error
		soon    bool
		class   provider.Class
		atLeast time.Duration
	}{
		{name: "no answer", err: &provider.Error{Class: provider.InDoubt}, soon: true, class: provider.Transient},
		{name: "500", err: &provider.Error{Class: provider.Transient, Status: http.StatusInternalServerError}, soon: true, class: provider.Transient},
		{name: "429", err: &provider.Error{Class: provider.Transient, Status: http.StatusTooManyRequests}, soon: true, class: provider.Transient},
		{name: "409", err: &provider.Error{Class: provider.Transient, Status: http.StatusConflict}, soon: true, class: provider.Transient},
		{name: "401", err: &provider.Error{Class: provider.Blocked, Status: http.StatusUnauthorized}, soon: true, class: provider.Blocked},
		{name: "404", err: &provider.Error{Class: provider.Invalid, Status: http.StatusNotFound}, class: provider.Transient},
		{
			name: "503 that says when", err: &provider.Error{Class: provider.Transient, Status: http.StatusServiceUnavailable, RetryAfter: 10 * time.Minute},
			class: provider.Transient, atLeast: 10 * time.Minute,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			before := *tt.err
			got, ok := errors.AsType[*provider.Error](provider.LookFailed(tt.err, time.Hour, time.Minute))
			if !ok || got.Class != tt.class || got.Status != tt.err.Status {
				t.Fatalf("%v", got)
			}
			soon := got.RetryAfter <= time.Minute
			if soon != tt.soon || got.RetryAfter < tt.atLeast || *tt.err != before {
				t.Errorf("asked again after %s", got.RetryAfter)
			}
		})
	}
	if err := provider.LookFailed(eventlog.ErrUnavailable, time.Hour, time.Minute); !errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("our own storage: %v", err)
	}
}

// limitSettling lets so many messages of the settling consumer be open.
func (w *world) limitSettling(most int) {
	w.t.Helper()
	ask := func(what string, request []byte) (answer struct {
		Config map[string]any `json:"config"`
		Error  map[string]any `json:"error"`
	},
	) {
		w.t.Helper()
		msg, err := w.log.Conn().RequestWithContext(w.t.Context(), "$JS.API.CONSUMER."+what+".PAYKIT_LOG.settling", request)
		if err == nil {
			err = json.Unmarshal(msg.Data, &answer)
		}
		if err != nil || answer.Error != nil {
			w.t.Fatalf("%s: %v %v", what, err, answer.Error)
		}
		return answer
	}
	config := ask("INFO", nil).Config
	config["max_ack_pending"] = most
	request, err := json.Marshal(map[string]any{"stream_name": "PAYKIT_LOG", "config": config, "action": "update"})
	if err != nil {
		w.t.Fatal(err)
	}
	ask("CREATE", request)
}

// At the limit of what may be open the worker says so: as an error in the log, in its figures, and to whoever asks.
func TestBacklogIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.person()
	w.limitSettling(2)
	worker := provider.NewWorker(w.log, map[string]provider.API{stripeID: w.client()}, provider.WorkerConfig{
		Logger: zerolog.New(w.logs), Now: w.now, Registerer: w.metrics,
	})
	worker.WatchBacklogEvery(20 * time.Millisecond)
	w.run(worker)
	for range 3 {
		w.until(events.EntityCheckout, p.checkout().Event.Subject, checkoutIs(events.StateCreated))
	}
	w.eventually("it is told", func() bool { return worker.KeepsUp() != nil })
	if text := worker.KeepsUp().Error(); !strings.Contains(text, "settling") || strings.Contains(text, "requests") {
		t.Error(text)
	}
	if worker.Ready() != nil {
		t.Error("the provider is not to blame")
	}
	w.eventually("the figures say so", func() bool {
		return w.gauge("paykit_consumer_open", "settling") == 2 && w.gauge("paykit_consumer_limit", "settling") == 2 &&
			w.gauge("paykit_consumer_waiting", "settling") == 1
	})
	w.limitSettling(1000)
	w.eventually("it goes on", func() bool { return worker.KeepsUp() == nil })
	if got := strings.Count(w.logs.String(), "as much is open as may be"); got != 1 {
		t.Errorf("told %d times", got)
	}
}
