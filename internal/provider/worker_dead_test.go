package provider_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/provider"
)

// poisoned is an API with bugs, for one customer.
type poisoned struct {
	provider.API
	customer string
	well     atomic.Bool
	panics   bool
}

func (p *poisoned) CreatePayment(ctx context.Context, key string, r provider.PaymentRequest) (events.Payment, error) {
	if r.CustomerID == p.customer && r.Description == poison && !p.well.Load() {
		if p.panics {
			panic("a bug")
		}
		return events.Payment{}, errors.New("a fault of ours")
	}
	return p.API.CreatePayment(ctx, key, r)
}

const poison = "poison"

// poisonCharge asks for a charge that the API has a bug with.
func (p *person) poisonCharge() eventlog.Entry {
	p.w.t.Helper()
	id := events.ChargeID(fmt.Sprintf("poison %d", p.w.n.Add(1)))
	return p.w.append(events.EntityCharge, id, p.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecideCharge(last, events.CreateCharge{
			ID: id, ProviderID: stripeID, PaymentMethodID: p.meth, Amount: 4900, Currency: "usd", Description: poison, CommandDigest: events.Digest([]byte("x")),
		}, c)
	})
}

// raw stores what is no event where a request would stand.
func (p *person) raw(id, body string) {
	p.w.t.Helper()
	subject := "paykit.log.charge.requested." + id + "." + p.ref.ID
	p.w.tap.Damaged(subject)
	msg, err := p.w.log.Conn().Request(subject, []byte(body), patience)
	if err != nil || strings.Contains(string(msg.Data), "error") {
		p.w.t.Fatal(err, string(msg.Data))
	}
}

func (w *world) letters(customerID string) []eventlog.DeadEntry {
	w.t.Helper()
	list, err := w.log.DeadLetters(w.t.Context(), customerID)
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

// A request that can't be read is set aside at once, and one that a bug of ours fails each time, or panics on, after some
// tries. Neither holds up those behind it, of the same customer or of others, both show, and retried once the bug is gone,
// it is done.
func TestPoisonHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	for _, panics := range []bool{true, false} {
		t.Run(fmt.Sprintf("panics %v", panics), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p, other := w.buyer("pm_card_visa"), w.buyer("pm_card_visa")
			p.raw(events.ChargeID("bad"), `{"not":"an event"}`)
			known := p.charge("") // of a type that this version does not know
			p.raw(events.ChargeID("unknown"), strings.Replace(string(known.Raw), `"charge.requested"`, `"charge.exploded"`, 1))
			bad := p.poisonCharge()
			behind, beside := p.charge(""), other.charge("")

			api := &poisoned{API: w.client(), customer: p.cus, panics: panics}
			run := func(faults int) (*provider.Worker, func()) {
				worker := provider.NewWorker(w.log, map[string]provider.API{stripeID: api}, provider.WorkerConfig{
					Logger: zerolog.New(w.logs), Now: w.now, Registerer: w.metrics,
				})
				worker.LookAfter(100*time.Millisecond, 300*time.Millisecond, 50*time.Millisecond)
				worker.WatchBacklogEvery(100 * time.Millisecond)
				worker.SetAsideAfter(faults)
				return worker, w.run(worker)
			}
			_, stop := run(1000)
			for _, e := range []eventlog.Entry{known, behind, beside} {
				w.untilCharge(e.Event.Subject, events.ChargeStatusSucceeded)
			}
			w.eventually("it is tried again and again", func() bool { return strings.Count(w.logs.String(), "failed, tried again later") >= 3 })
			w.eventually("two are set aside", func() bool { return len(w.letters("")) == 2 })
			w.eventually("the oldest shows", func() bool { return w.gauge("paykit_consumer_oldest_seconds", "requests") > 0 })
			stop()
			worker, _ := run(2)
			w.eventually("three are set aside", func() bool { return len(w.letters("")) == 3 })
			if c := w.state(events.EntityCharge, bad.Event.Subject).Data.Charge; c.Status != events.ChargeStatusRequested {
				t.Errorf("the poisoned charge is %s", c.Status)
			}
			var letter eventlog.DeadEntry
			for _, d := range w.letters("") {
				tries := 1
				if d.ID == bad.Event.ID {
					letter, tries = d, 2
				}
				if d.Stage != "worker" || len(d.History) != tries || d.History[0].Reason == "" || d.History[0].At.IsZero() || d.Attempts != d.History[tries-1].Attempt {
					t.Errorf("%+v", d)
				}
			}
			if letter.Attempts < 5 {
				t.Errorf("set aside after %d attempts", letter.Attempts)
			}
			w.eventually("nothing is left", func() bool {
				b, err := w.log.Backlog(t.Context(), eventlog.ConsumerRequests)
				return err == nil && b.Open == 0
			})
			api.well.Store(true)
			w.decide(letter, eventlog.DecisionRetry)
			w.decisions(worker)
			w.untilCharge(bad.Event.Subject, events.ChargeStatusSucceeded)
			w.oneCapture(bad.Event.Subject)
			w.eventually("nothing is old", func() bool { return w.gauge("paykit_consumer_oldest_seconds", "requests") == 0 })
		})
	}
}

// deadDetach has a request to detach a method fail for good.
func (p *person) deadDetach() eventlog.DeadEntry {
	p.w.t.Helper()
	p.w.fault(`{"operation":"payment_methods.detach","kind":"status","status":400}`)
	e := p.updateMethod(p.meth, events.DetachMethod{})
	if got := p.w.worker().CarryOut(p.w.t.Context(), p.w.message(e, 2)); got != eventlog.Done() {
		p.w.t.Fatalf("%+v\n%s", got, p.w.logs)
	}
	list := p.w.letters(p.ref.ID)
	if len(list) != 1 || list[0].Attempts != 2 || list[0].ID != e.Event.ID {
		p.w.t.Fatalf("dead letters %+v", list)
	}
	return list[0]
}

func (w *world) decide(e eventlog.DeadEntry, decision string) eventlog.Decision {
	w.t.Helper()
	d, err := w.log.Decide(w.t.Context(), e, eventlog.Decision{Decision: decision, Operator: "ana", Reason: "mended"})
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// decisions carries out decisions as the worker's process does, until the test ends or the returned function is called.
func (w *world) decisions(worker *provider.Worker) (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	done := make(chan error, 1)
	go func() {
		done <- w.log.ConsumeDecisions(ctx, eventlog.ConsumerWorkerDecisions, eventlog.ConsumeOptions{Logger: zerolog.New(w.logs)},
			map[string]func(context.Context, eventlog.Decided) eventlog.Result{
				eventlog.StageWorker: worker.CarryOutDecision, eventlog.StageSettle: worker.CarryOutDecision,
			})
	}()
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	}
	w.t.Cleanup(stop)
	return stop
}

// carriedOut waits until no decision is left to be carried out.
func (w *world) carriedOut(consumer eventlog.ConsumerName) {
	w.t.Helper()
	w.eventually("the decision is carried out", func() bool {
		b, err := w.log.Backlog(w.t.Context(), consumer)
		return err == nil && b.Open+b.Waiting == 0
	})
}

// A retry works on the request with the same handler and keys, and is done once whatever is killed between two writes.
func TestRetriedRequest(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"", "decided", "method_detached"} {
		t.Run("killed at "+point, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.buyer("pm_card_visa")
			e := p.deadDetach()
			first := w.called()
			d := w.decide(e, eventlog.DecisionRetry) // killed right after: nobody has carried it out
			if point == "method_detached" {
				worker := w.worker() // dies after its call, before it is recorded and acknowledged
				died := make(chan struct{}, 1)
				worker.StopAt(func(at string) error {
					if at != point {
						return nil
					}
					select {
					case died <- struct{}{}:
					default:
					}
					return provider.ErrStopped
				})
				stop := w.decisions(worker)
				select {
				case <-died:
				case <-time.After(patience):
					t.Fatalf("never came to %s\n%s", point, w.logs)
				}
				stop()
			}
			w.decisions(w.worker())
			w.until(events.EntityPaymentMethod, p.meth, func(e *events.Event) bool { return !e.Data.PaymentMethod.Live() })
			w.carriedOut(eventlog.ConsumerWorkerDecisions)
			if got := w.history(events.EntityPaymentMethod, p.meth); !slices.Equal(got, []string{"attached", "detach_requested", "detached"}) {
				t.Errorf("events %v", got)
			}
			detach := func(calls []string) string {
				return calls[slices.IndexFunc(calls, func(c string) bool { return strings.Contains(c, "/detach paykit:") })]
			}
			if again := w.called(); detach(again) != detach(first) {
				t.Errorf("called %q, first %q", detach(again), detach(first))
			}
			// Once more, as after a lost acknowledgement.
			if got := w.worker().CarryOutDecision(t.Context(), eventlog.Decided{Letter: e, Decision: d, Attempt: 9}); got != eventlog.Done() {
				t.Errorf("%+v", got)
			}
			if calls := w.called(); len(calls) != 0 {
				t.Errorf("called %q", calls)
			}
			if list := w.letters(""); len(list) != 1 || list[0].Decision == nil {
				t.Errorf("dead letters %+v", list)
			}
		})
	}
}

// A retry that fails as the first try did is another letter, also when it is buried twice.
func TestRetriedRequestFailsAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	e := p.deadDetach()
	d := w.decide(e, eventlog.DecisionRetry)
	w.fault(`{"operation":"payment_methods.detach","kind":"status","status":400,"times":2}`)
	worker := w.worker()
	for attempt := range 2 { // the second after a crash between burial and acknowledgement
		if got := worker.CarryOutDecision(t.Context(), eventlog.Decided{Letter: e, Decision: d, Attempt: attempt + 1}); got != eventlog.Done() {
			t.Fatalf("%+v", got)
		}
	}
	list := w.letters(p.ref.ID)
	if len(list) != 2 || list[1].RetryOf != e.Sequence || list[1].Decision != nil || list[1].ID != e.ID || list[1].Attempts != 3 || len(list[1].History) != 1 {
		t.Fatalf("%+v", list)
	}
	// Erasing the customer takes letters and decisions with it.
	p.delete()
	w.start()
	w.eventually("nothing is left of the customer", func() bool { return len(w.letters("")) == 0 })
	if n := (&ingest{t: t, log: w.log}).streamMessages("PAYKIT_DEAD"); n != 0 {
		t.Errorf("%d messages are left", n)
	}
}

// A letter of settling is settled; what can't be retried says so; a dropped one leads to nothing.
func TestDecisionsOfOtherKinds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.buyer("pm_card_visa")
	setup := p.setup()
	w.worker().CarryOut(t.Context(), w.message(setup, 1))
	created := w.state(events.EntitySetup, setup.Event.Subject)
	list, err := w.log.History(t.Context(), eventlog.HistoryFilter{Entity: events.EntitySetup, EntityID: created.Subject}, 1, 10)
	if err != nil {
		t.Fatal(err)
	}
	m := w.message(list[len(list)-1], 1)
	bury := func(d eventlog.DeadLetter) eventlog.DeadEntry {
		t.Helper()
		if err := w.log.Bury(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		all := w.letters("")
		return all[len(all)-1]
	}
	open := bury(eventlog.DeadLetter{Stage: "settle", ID: created.ID, Stream: m.Stream, Sequence: m.Sequence, Subject: m.Subject, Attempts: 4})
	gone := bury(eventlog.DeadLetter{Stage: "worker", ID: "01J", Stream: "PAYKIT_LOG", Sequence: 9999, Subject: "paykit.log.x.y.z.none"})
	dropped := bury(eventlog.DeadLetter{Stage: "worker", ID: "01K", Stream: "PAYKIT_LOG", Sequence: 9999, Subject: "paykit.log.x.y.z.none"})
	d := eventlog.Decided{Letter: open, Decision: eventlog.Decision{Decision: eventlog.DecisionRetry}, Attempt: 1}
	if got := w.worker().CarryOutDecision(t.Context(), d); got == eventlog.Done() {
		t.Error("an open page was let go of")
	}
	w.control("/_sandbox/checkout/"+created.Data.Setup.ProviderSessionID+"/complete", `{"card":"4242424242424242"}`)
	w.decide(open, eventlog.DecisionRetry)
	w.decide(gone, eventlog.DecisionRetry)
	w.decide(dropped, eventlog.DecisionDrop)
	w.decisions(w.worker())
	w.until(events.EntitySetup, created.Subject, func(e *events.Event) bool { return e.Data.Setup.Status == events.StateCompleted })
	w.carriedOut(eventlog.ConsumerWorkerDecisions)
	all := w.letters("")
	if len(all) != 4 || all[3].RetryOf != gone.Sequence || !strings.Contains(all[3].Reason, "can't be retried: the event it refers to is gone") {
		t.Errorf("%+v", all)
	}
}
