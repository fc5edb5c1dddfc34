package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/paykit-go/paykit/internal/dev"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/explain"
)

// devWorld is everything in this process, with what a run of all triggers left in it.
type devWorld struct {
	at     dev.Addresses
	log    *eventlog.Log
	secret []string // what must be in no story
}

const (
	canaryEmail = "canary.bird@example.com"
	canaryName  = "Canary Bird"
)

// paykit runs the command line against the world.
func (w *devWorld) paykit(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	args = append(args, "--nats-url", w.at.NATS)
	if err := run(t.Context(), args, func(string) string { return "" }, &out, &errs); err != nil {
		t.Fatalf("paykit %v: %v\n%s", args, err, errs.String())
	}
	return out.String()
}

func startDevWorld(t *testing.T) *devWorld {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ready, ended := make(chan dev.Addresses, 1), make(chan error, 1)
	go func() {
		ended <- dev.Run(ctx, dev.Config{DataDir: t.TempDir(), Logger: zerolog.Nop()}, func(a dev.Addresses) { ready <- a })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("dev ended with %v", err)
		}
	})
	w := &devWorld{}
	select {
	case w.at = <-ready:
	case err := <-ended:
		ended <- err
		t.Fatal(err)
	case <-time.After(time.Minute):
		t.Fatal("dev is not ready after a minute")
	}
	w.secret = []string{canaryEmail, canaryName, "@example", w.at.WebhookSecret, "sk_test_", "client_secret"}
	a := &app{ctx: t.Context(), out: io.Discard, err: io.Discard}
	a.nats.URL, a.nats.Prefix = w.at.NATS, "paykit"
	log, done, err := a.eventLog()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(done)
	w.log = log
	return w
}

// everyTrigger makes everything happen that the sandbox can make happen.
func (w *devWorld) everyTrigger(t *testing.T) {
	t.Helper()
	w.paykit(t, "customer", "sync", "canary", "--email", canaryEmail, "--name", canaryName)
	g := errgroup.Group{}
	g.SetLimit(32)
	for _, name := range strings.Fields(w.paykit(t, "trigger", "--list"))[1:] {
		g.Go(func() error {
			args := []string{"trigger", name, "--sandbox", w.at.Sandbox, "--nats-url", w.at.NATS, "--timeout", "60s"}
			if err := run(t.Context(), args, func(string) string { return "" }, io.Discard, io.Discard); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// settled waits until nothing is waiting to be worked on, and gives the events that there are then.
func (w *devWorld) settled(t *testing.T) []eventlog.Entry {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		var open int
		for _, c := range []eventlog.ConsumerName{eventlog.ConsumerRequests, eventlog.ConsumerNormalizer} {
			b, err := w.log.Backlog(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			open += b.Waiting + b.Open
		}
		if open == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d messages are still open", open)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
	list, err := w.log.History(t.Context(), eventlog.HistoryFilter{}, 1, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// story tells the story of an id, checks its shape, and looks for what must not be in it.
func (w *devWorld) story(t *testing.T, id string) *explain.Story {
	t.Helper()
	s, err := explain.Explain(t.Context(), w.log, viewRows{w.log}, id, explain.Options{ProviderID: "stripe"})
	if err != nil {
		t.Errorf("%s: %v", id, err)
		return &explain.Story{}
	}
	var tree bytes.Buffer
	if err := explain.WriteTree(&tree, s, nil); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range w.secret {
		if strings.Contains(tree.String(), word) || bytes.Contains(text, []byte(word)) {
			t.Errorf("the story of %s holds %q:\n%s", id, word, text)
		}
	}
	for line := range strings.Lines(tree.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > explain.Width {
			t.Errorf("a line of %d columns in the story of %s: %s", n, id, line)
		}
	}
	ids := map[string]bool{}
	for _, n := range s.Nodes {
		if ids[n.ID] {
			t.Errorf("%s stands twice in the story of %s", n.ID, id)
		}
		ids[n.ID] = true
		if n.ID == "" || n.Kind == "" || n.Time.IsZero() != (n.Kind == explain.KindView) {
			t.Errorf("in the story of %s: %+v", id, n)
		}
		// What only the customer's own words stand for in a tree is its id and its kind: nothing is left out.
		if n.Call == nil && !strings.Contains(tree.String(), strings.TrimPrefix(n.ID, "view ")) {
			if n.EntityID == "" {
				t.Errorf("%s is not in the tree of %s:\n%s", n.ID, id, tree.String())
			}
		}
	}
	return s
}

func nodeOf(s *explain.Story, id string) *explain.Node {
	for i := range s.Nodes {
		if s.Nodes[i].ID == id {
			return &s.Nodes[i]
		}
	}
	return nil
}

// Whatever happened is in a story, under each name that it has: every event of the log, every command, every delivery, every
// request and key of a call, after a run of everything that the sandbox can make happen.
func TestEverythingIsInItsStory(t *testing.T) {
	t.Parallel()
	w := startDevWorld(t)
	w.everyTrigger(t)
	list := w.settled(t)
	if len(list) < 100 {
		t.Fatalf("only %d events happened", len(list))
	}
	stories := map[string]*explain.Story{}
	commands := map[string]string{}
	for _, e := range list {
		ev := e.Event
		s, ok := stories[ev.Subject]
		if !ok {
			s = w.story(t, ev.Subject)
			stories[ev.Subject] = s
			if s.EntityID != ev.Subject {
				t.Errorf("the story of %s is of %s", ev.Subject, s.EntityID)
			}
		}
		n := nodeOf(s, ev.ID)
		if n == nil || n.Sequence != e.Sequence || n.Type != string(ev.Type) {
			t.Errorf("%s %s is not in the story of %s: %+v", ev.Type, ev.ID, ev.Subject, n)
			continue
		}
		if ev.CausationID != "" && n.Parent != ev.CausationID || ev.CausationID != "" && nodeOf(s, ev.CausationID) == nil {
			t.Errorf("what led to %s %s, %s, is not in the story of %s", ev.Type, ev.ID, ev.CausationID, ev.Subject)
		}
		if ev.CausationID == "" && ev.CorrelationID != "" {
			commands[ev.CorrelationID] = ev.Subject
		}
	}
	for id, subject := range commands {
		if n := nodeOf(stories[subject], id); n == nil || n.Kind != explain.KindCommand || n.Type == "" {
			t.Errorf("command %s is not in the story of %s: %+v", id, subject, n)
		}
	}
	w.byOtherNames(t, list, commands)
	w.eachCall(t, stories)
	w.eachDelivery(t)
}

// byOtherNames asks for some events by all that they can be asked by.
func (w *devWorld) byOtherNames(t *testing.T, list []eventlog.Entry, commands map[string]string) {
	t.Helper()
	asked := map[events.Type]bool{}
	for _, e := range list {
		ev := e.Event
		if asked[ev.Type] { // one of each type
			continue
		}
		asked[ev.Type] = true
		names := []string{ev.ID}
		if commands[ev.CorrelationID] == ev.Subject {
			names = append(names, ev.CorrelationID)
		}
		if strings.HasPrefix(ev.CausationID, "evt_") {
			names = append(names, ev.CausationID)
		}
		for _, name := range names {
			s := w.story(t, name)
			if n := nodeOf(s, name); s.EntityID != ev.Subject || n == nil || !n.Asked {
				t.Errorf("%s leads to %s (%+v), want %s", name, s.EntityID, n, ev.Subject)
			}
		}
		w.byObjects(t, ev)
	}
}

// byObjects asks for an entity by the provider's ids of it.
func (w *devWorld) byObjects(t *testing.T, ev *events.Event) {
	t.Helper()
	want := map[string]string{}
	switch d := ev.Data; {
	case d.Charge != nil:
		want[d.Charge.ProviderPaymentID], want[d.Charge.ProviderChargeID] = d.Charge.ID, d.Charge.ID
		for _, r := range d.Charge.Refunds {
			want[r.ID], want[r.ProviderRefundID] = d.Charge.ID, d.Charge.ID
		}
		for _, p := range d.Charge.Disputes {
			want[p.ProviderDisputeID] = d.Charge.ID
		}
	case d.Checkout != nil:
		want[d.Checkout.ProviderSessionID] = d.Checkout.ID
	case d.Setup != nil:
		want[d.Setup.ProviderSessionID] = d.Setup.ID
	case d.PaymentMethod != nil:
		want[d.PaymentMethod.ProviderMethodID] = d.PaymentMethod.ID
	case d.ProviderAccount != nil:
		want[d.ProviderAccount.ProviderCustomerID] = d.Customer.ID
	}
	for id, subject := range want {
		if id == "" {
			continue
		}
		s := w.story(t, id)
		if s.EntityID != subject {
			t.Errorf("%s leads to %s, want %s", id, s.EntityID, subject)
		}
		if refund := strings.HasPrefix(id, "rfd_") || strings.HasPrefix(id, "re_"); refund != (s.RefundID != "") {
			t.Errorf("%s leads to the refund %q", id, s.RefundID)
		}
	}
}

// eachCall looks for every recorded call in the story of whom it was for, and asks for some by their request and key.
func (w *devWorld) eachCall(t *testing.T, stories map[string]*explain.Story) {
	t.Helper()
	asked := map[string]bool{}
	n := 0
	err := w.log.FindCalls(t.Context(), "", nil, func(c eventlog.StoredCall) (bool, error) {
		if c.EntityID == "" {
			return true, nil
		}
		n++
		s := stories[c.EntityID]
		node := nodeOf(s, fmt.Sprintf("call %d", c.Sequence))
		if node == nil || node.Parent != c.EventID || nodeOf(s, c.EventID) == nil {
			t.Errorf("%+v is not in the story of %s, or nothing asked for it: %+v", c, c.EntityID, node)
		}
		if !asked[c.Operation] {
			asked[c.Operation] = true
			for _, name := range slices.DeleteFunc([]string{c.RequestID, c.IdempotencyKey}, func(s string) bool { return s == "" }) {
				s := w.story(t, name)
				if !slices.ContainsFunc(s.Nodes, func(n explain.Node) bool {
					return n.Asked && n.Call != nil && (n.Call.RequestID == name || n.Call.IdempotencyKey == name)
				}) {
					t.Errorf("%s of %s leads to %s without it", name, c.Operation, s.EntityID)
				}
			}
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n < 50 {
		t.Errorf("only %d calls are recorded", n)
	}
}

// eachDelivery asks for one delivery of each type; those that led to nothing have a story too.
func (w *devWorld) eachDelivery(t *testing.T) {
	t.Helper()
	asked := map[string]bool{}
	nothing := 0
	_, err := w.log.FindDeliveries(t.Context(), eventlog.DeliverySearch{ProviderID: "stripe", Anyone: true, Texts: []string{"evt_"}, Most: 100_000},
		func(d eventlog.StoredDelivery) error {
			var head struct {
				ID   string `json:"id"`
				Type string `json:"type"`
			}
			if err := json.Unmarshal(d.Body, &head); err != nil || asked[head.Type] {
				return err
			}
			asked[head.Type] = true
			s := w.story(t, head.ID)
			n := nodeOf(s, head.ID)
			if n == nil || !n.Asked || n.Type != head.Type || n.Result == "" || s.EntityID == "" {
				t.Errorf("%s %s leads to %s: %+v", head.Type, head.ID, s.EntityID, n)
				return nil
			}
			if n.Result == "nothing new" {
				nothing++
			}
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	if len(asked) < 15 || nothing == 0 {
		t.Errorf("only %d types of deliveries, %d led to nothing", len(asked), nothing)
	}
}
