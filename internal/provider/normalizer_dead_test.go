package provider_test

import (
	"bytes"
	"context"
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

// poisonedHooks panics over deliveries that hold the word, while it is not well.
type poisonedHooks struct {
	provider.Webhooks
	well atomic.Bool
}

func (p *poisonedHooks) Decode(body []byte) (provider.Delivery, error) {
	if bytes.Contains(body, []byte(poison)) && !p.well.Load() {
		panic("a bug")
	}
	return p.Webhooks.Decode(body)
}

// poisonable is a normalizer with hooks that may have a bug.
func (in *ingest) poisonable() (*provider.Normalizer, *poisonedHooks) {
	in.t.Helper()
	hooks := &poisonedHooks{Webhooks: in.hooks()[stripeID]}
	n := provider.NewNormalizer(in.log, map[string]provider.Webhooks{stripeID: hooks}, provider.NormalizerConfig{Logger: zerolog.New(in.logs), Lanes: 1})
	n.OnResult(5*time.Millisecond, func(result string) { in.results <- result })
	return n, hooks
}

// background runs f until the test ends.
func background(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (in *ingest) decisions(n *provider.Normalizer) {
	in.t.Helper()
	background(in.t, func(ctx context.Context) error {
		return in.log.ConsumeDecisions(ctx, eventlog.ConsumerIngestDecisions, eventlog.ConsumeOptions{Logger: zerolog.New(in.logs)},
			map[string]func(context.Context, eventlog.Decided) eventlog.Result{eventlog.StageNormalizer: n.CarryOutDecision})
	})
}

// A delivery that a bug panics on is tried five times beside those behind it, of the same customer too; set aside with
// its history, and retried once the bug is gone, it leads to what it would have led to.
func TestPoisonedDeliveryHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{asleep: true})
	b := in.buyer().charge("")
	n, hooks := in.poisonable()
	refund := b.refund("", "succeeded", 700)
	bad := b.event("refund.created", strings.Replace(refund, "{", `{"description":"`+poison+`",`, 1))
	in.store(bad, b.paid(), in.buyer().charge("").paid())
	background(t, n.Run)
	got := in.wait(7)
	slices.Sort(got)
	if want := []string{"buried", "changed", "changed", "failed", "failed", "failed", "failed"}; !slices.Equal(got, want) {
		t.Fatalf("results %v", got)
	}
	if c := in.chargeState(b.chargeID); c.Status != events.ChargeStatusSucceeded || c.AmountRefunded != 0 {
		t.Errorf("%+v", c)
	}
	list := in.letters()
	if len(list) != 1 || list[0].Attempts != 5 || len(list[0].History) != 5 || list[0].History[4].Attempt != 5 || !strings.Contains(list[0].History[0].Reason, "panic") {
		t.Fatalf("%+v", list)
	}
	// Retried too early it is another letter.
	d, err := in.log.Decide(t.Context(), list[0], eventlog.Decision{Decision: eventlog.DecisionRetry, Operator: "ana", Reason: "mended?"})
	if err != nil {
		t.Fatal(err)
	}
	in.decisions(n)
	in.wait(5)
	eventuallyTrue(t, "another letter", func() bool { return len(in.letters()) == 2 })
	list = in.letters()
	if again := list[1]; again.RetryOf != list[0].Sequence || again.Decision != nil || again.ID != list[0].ID {
		t.Fatalf("%+v", again)
	}
	hooks.well.Store(true)
	if _, err := in.log.Decide(t.Context(), list[1], eventlog.Decision{Decision: eventlog.DecisionRetry, Operator: "ana", Reason: "mended"}); err != nil {
		t.Fatal(err)
	}
	in.changed()
	if c := in.chargeState(b.chargeID); c.AmountRefunded != 700 {
		t.Errorf("%+v", c)
	}
	// Carried out once more, as after a crash before the acknowledgement, it finds nothing to do.
	last := in.last()
	if got := n.CarryOutDecision(t.Context(), eventlog.Decided{Letter: list[1], Decision: d, Attempt: 2}); got != eventlog.Done() || in.last() != last {
		t.Errorf("%+v, the log is at %d after %d", got, in.last(), last)
	}
	if len(in.letters()) != 2 {
		t.Errorf("%+v", in.letters())
	}
}

func (in *ingest) letters() []eventlog.DeadEntry {
	in.t.Helper()
	list, err := in.log.DeadLetters(in.t.Context(), "")
	if err != nil {
		in.t.Fatal(err)
	}
	return list
}

func eventuallyTrue(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		}
	}
}

// The delivery of a deleted customer is erased once it was retried, and the decision is not; one that is gone says so.
func TestRetriedDeliveryOfTheDeleted(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{asleep: true})
	b := in.buyer().charge("")
	n, hooks := in.poisonable()
	in.store(b.event("charge.succeeded", strings.Replace(b.chargeObject("succeeded", nil), "{", `{"description":"`+poison+`",`, 1)))
	background(t, n.Run)
	in.wait(5)
	eventuallyTrue(t, "a letter", func() bool { return len(in.letters()) == 1 })
	e := in.letters()[0]
	hooks.well.Store(true)
	b.delete()
	b.unlink()
	d := eventlog.Decided{Letter: e, Decision: eventlog.Decision{Decision: eventlog.DecisionDrop}, Attempt: 1}
	if got := n.CarryOutDecision(t.Context(), d); got != eventlog.Done() || in.deliveries() != 1 {
		t.Errorf("dropped: %+v, %d deliveries", got, in.deliveries())
	}
	d.Decision.Decision = eventlog.DecisionRetry
	if got := n.CarryOutDecision(t.Context(), d); got != eventlog.Done() || in.deliveries() != 0 {
		t.Errorf("retried: %+v, %d deliveries", got, in.deliveries())
	}
	for range 2 {
		if got := n.CarryOutDecision(t.Context(), d); got != eventlog.Done() {
			t.Errorf("retried again: %+v", got)
		}
	}
	if list := in.letters(); len(list) != 2 || list[1].RetryOf != e.Sequence || list[1].Reason != "can't be retried: the delivery it refers to is gone" {
		t.Errorf("%+v", list)
	}
}

// Letters of a charge's success and of its refund, days old, are retried, the refund's first: it waits for the charge as
// if it had just come. Without the charge it ends as another letter, not as nothing.
func TestRetriedOldReportsWaitForEachOther(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{asleep: true})
	b := in.buyer().charge("")
	poisoned := func(object string) string { return strings.Replace(object, "{", `{"description":"`+poison+`",`, 1) }
	in.store(b.event("charge.succeeded", poisoned(b.chargeObject("succeeded", nil))))
	in.store(b.event("refund.created", poisoned(b.refund("", "succeeded", 700))))
	before, hooks := in.poisonable()
	background(t, before.Run)
	in.wait(10)
	eventuallyTrue(t, "two letters", func() bool { return len(in.letters()) == 2 })
	var charge, refund eventlog.DeadEntry
	for _, e := range in.letters() {
		if e.DeadLetter.Sequence == 1 {
			charge = e
		} else {
			refund = e
		}
	}
	hooks.well.Store(true)

	var later atomic.Int64
	later.Store(int64(72 * time.Hour))
	clock := func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	n := provider.NewNormalizer(in.log, in.hooks(), provider.NormalizerConfig{Logger: zerolog.New(in.logs), Now: clock})
	decision := eventlog.Decision{Decision: eventlog.DecisionRetry, Operator: "ana", Reason: "mended", At: clock()}
	carry := func(e eventlog.DeadEntry, attempt int) eventlog.Result {
		return n.CarryOutDecision(t.Context(), eventlog.Decided{Letter: e, Decision: decision, Attempt: attempt})
	}
	if got := carry(refund, 1); got == eventlog.Done() {
		t.Fatal("the refund was let go of")
	}
	// A day on, and still nobody has retried the charge.
	for i := 1; i <= 24; i++ {
		later.Add(int64(time.Hour))
		if got := carry(refund, 1+i); (got == eventlog.Done()) != (i == 24) || len(in.letters()) != 2+i/24 {
			t.Fatalf("after %d hours: %+v, %d letters", i, got, len(in.letters()))
		}
	}
	again := in.letters()[2]
	if again.RetryOf != refund.Sequence || again.ID != refund.ID || again.Decision != nil || again.DeadLetter.Sequence != refund.DeadLetter.Sequence {
		t.Fatalf("%+v", again)
	}
	decision.At = clock()
	if got := carry(again, 1); got == eventlog.Done() {
		t.Fatal("the refund was let go of")
	}
	if got := carry(charge, 1); got != eventlog.Done() {
		t.Fatalf("%+v", got)
	}
	if got := carry(again, 2); got != eventlog.Done() {
		t.Fatalf("%+v", got)
	}
	if c := in.chargeState(b.chargeID); c.Status != events.ChargeStatusSucceeded || c.AmountRefunded != 700 || len(in.letters()) != 3 {
		t.Errorf("%+v, %d letters", c, len(in.letters()))
	}
}
