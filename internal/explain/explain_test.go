package explain_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
	"github.com/paykit-go/paykit/internal/explain"
)

// scene is a log on a real server and what the views say.
type scene struct {
	*testing.T
	log  *eventlog.Log
	ref  events.CustomerRef
	row  explain.Row
	fail error
}

// Row is the views.
func (s *scene) Row(context.Context, events.Entity, string) (explain.Row, bool, error) {
	return s.row, s.row.View != "", s.fail
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{T: t, log: eventlogtest.Provisioned(t), ref: events.CustomerRef{ID: events.CustomerID("user_1"), ReferenceID: "user_1"}}
	s.update(events.EntityCustomer, s.ref.ID, func(last *events.Event, c events.Cause) (*events.Event, error) {
		c.CommandID = "cmd_sync"
		return events.DecideCustomer(last, events.SyncCustomer{ReferenceID: "user_1"}, c)
	})
	return s
}

func (s *scene) update(entity events.Entity, id string, decide func(last *events.Event, c events.Cause) (*events.Event, error)) eventlog.Entry {
	s.Helper()
	e, appended, err := s.log.Update(s.Context(), entity, id, func(last *events.Event) (*events.Event, error) {
		return decide(last, events.Cause{Now: time.Now(), Source: "/paykit/test", Customer: s.ref})
	})
	if err != nil || !appended {
		s.Fatalf("%s: appended %v, %v", id, appended, err)
	}
	return e
}

// charge changes a charge, because of a command, or else of what the id names.
func (s *scene) charge(id, command, cause string, in events.ChargeInput) eventlog.Entry {
	s.Helper()
	return s.update(events.EntityCharge, id, func(last *events.Event, c events.Cause) (*events.Event, error) {
		c.CommandID, c.CausationID = command, cause
		return events.DecideCharge(last, in, c)
	})
}

// charged makes a charge, under the key "a", that the delivery evt_paid says has succeeded.
func (s *scene) charged() (id string, requested eventlog.Entry) {
	s.Helper()
	const key = "a"
	id = events.ChargeID(key)
	requested = s.charge(id, events.CommandID("charge.create", key), "", events.CreateCharge{ID: id, ProviderID: "stripe", Amount: 1900, Currency: "usd"})
	s.charge(id, "", "evt_paid", events.PaymentObserved{ID: id, ProviderID: "stripe", Payment: events.Payment{
		ID: "pi_" + key, ChargeID: "ch_" + key, Status: events.PaymentSucceeded, Amount: 1900, Currency: "usd",
		Owner: events.Owner{Env: s.log.Env(), Charge: id, Customer: s.ref.ID},
	}})
	return id, requested
}

// delivered stores a delivery; objects are ids that it mentions.
func (s *scene) delivered(id, typ string, objects ...string) {
	s.Helper()
	body := fmt.Sprintf(`{"id":%q,"type":%q,"created":1700000000,"data":{"object":{"email":"jane@example.com","ids":["%s"]}}}`, id, typ, strings.Join(objects, `","`))
	stored, err := s.log.StoreDelivery(s.Context(), eventlog.Delivery{ProviderID: "stripe", EventID: id, Body: []byte(body)})
	if err != nil || !stored {
		s.Fatalf("deliver %s: %v, %v", id, stored, err)
	}
}

func (s *scene) story(id string) *explain.Story {
	s.Helper()
	story, err := explain.Explain(s.Context(), s.log, s, id, explain.Options{ProviderID: "stripe"})
	if err != nil {
		s.Fatalf("%s: %v", id, err)
	}
	return story
}

// lines are a story's nodes in short.
func lines(s *explain.Story) []string {
	var list []string
	for _, n := range s.Nodes {
		line := string(n.Kind) + " " + n.Type
		if n.Kind == explain.KindDelivery {
			line += " " + n.ID + ": " + n.Result
		}
		list = append(list, line)
	}
	return list
}

func node(t *testing.T, s *explain.Story, id string) explain.Node {
	t.Helper()
	i := slices.IndexFunc(s.Nodes, func(n explain.Node) bool { return n.ID == id })
	if i < 0 {
		t.Fatalf("%s is not in the story: %v", id, lines(s))
	}
	return s.Nodes[i]
}

// normalized has the normalizer's consumer work off all that is stored.
func (s *scene) normalized() {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 20*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- s.log.Consume(ctx, eventlog.ConsumerNormalizer, eventlog.ConsumeOptions{
			Lane: func(m eventlog.Message) string { return m.Subject }, Handle: func(context.Context, eventlog.Message) eventlog.Result { return eventlog.Done() },
		})
	}()
	for ctx.Err() == nil {
		b, err := s.log.Backlog(ctx, eventlog.ConsumerNormalizer)
		if err == nil && b.Waiting+b.Open == 0 {
			break
		}
	}
	cancel()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		s.Fatal(err)
	}
}

func TestStoryOfACharge(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.row, s.fail = explain.Row{View: "charges", Status: "succeeded", Sequence: 3}, nil
	s.delivered("evt_before", "charge.succeeded", "pi_other")
	s.delivered("evt_paid", "payment_intent.succeeded", "pi_a", "ch_a")
	s.delivered("evt_more", "charge.updated", "ch_a")
	s.normalized()
	id, requested := s.charged()
	call := eventlog.Call{
		Time: time.Now(), Operation: "payment_intents.create", Attempt: 1, Outcome: "ok", Entity: "charge", EntityID: id, CustomerID: s.ref.ID, ProviderID: "stripe",
		EventID: requested.Event.ID, RequestID: "req_1", IdempotencyKey: "paykit:env:" + id + ":create",
	}
	if err := s.log.StoreCalls(t.Context(), []eventlog.Call{call, call}); err != nil { // as after a lost answer
		t.Fatal(err)
	}
	s.delivered("evt_late", "charge.updated", "ch_a")
	story := s.story(id)
	got := lines(story)
	slices.Sort(got)
	want := []string{
		"call payment_intents.create", "command charge.create", "delivery charge.updated evt_late: nothing yet: it may wait for its owner, or for its turn",
		"delivery charge.updated evt_more: nothing new", "delivery payment_intent.succeeded evt_paid: changed",
		"event charge.requested", "event charge.succeeded", "view ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the story (-want +got):\n%s", diff)
	}
	if story.Status != "succeeded" || story.Detail != "19.00 USD" || story.CustomerID != s.ref.ID || story.ReferenceID != "user_1" || len(story.Notes) > 0 {
		t.Errorf("told of %+v", story)
	}
	if n := node(t, story, "evt_paid"); n.Made.Unix() != 1700000000 || n.Sequence != 2 {
		t.Errorf("the delivery is %+v", n)
	}
	// Of what is not stored any more the name is left.
	if err := s.log.EraseDelivery(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	story = s.story("evt_paid")
	if n := node(t, story, "evt_paid"); story.EntityID != id || n.Result != "changed" || !n.Asked || n.Sequence != 0 || len(story.Notes) != 1 {
		t.Errorf("after it was erased: %s, %+v, %v", story.EntityID, n, story.Notes)
	}
	s.row, s.fail = explain.Row{}, errors.New("nobody answers")
	if story = s.story(id); len(story.Notes) != 1 || !strings.Contains(story.Notes[0], "nobody answers") {
		t.Errorf("without the views: %v", story.Notes)
	}
}

func TestStoryOfARefund(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id, _ := s.charged()
	first, second := events.RefundID(id, "1"), events.RefundID(id, "2")
	for _, refund := range []string{first, second} {
		s.charge(id, "cmd_"+refund, "", events.RefundCharge{RefundID: refund, Amount: 100})
	}
	s.charge(id, "", "evt_back", events.RefundObserved{RefundID: first, Report: events.RefundReport{
		ID: "re_1", ProviderPaymentID: "pi_a", Amount: 100, Currency: "usd", Status: events.RefundSucceeded,
	}})
	for _, name := range []string{first, "re_1", "paykit:" + s.log.Env() + ":" + first + ":create"} {
		story := s.story(name)
		got := lines(story)
		slices.Sort(got)
		want := []string{"command charge.refund", "delivery  evt_back: changed", "event charge.refund_requested", "event charge.refunded"}
		if diff := cmp.Diff(want, got); diff != "" || story.RefundID != first || story.EntityID != id || story.Status != "succeeded" {
			t.Errorf("by %s: %s of %s is %s (-want +got):\n%s", name, story.RefundID, story.EntityID, story.Status, diff)
		}
	}
	if story := s.story(second); len(story.Nodes) != 2 || story.Status != "requested" {
		t.Errorf("the other refund: %v, %s", lines(story), story.Status)
	}
}

// An event's time is a whole millisecond; among calls it counts as the middle of it.
func TestOrderWithinAMillisecond(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id, _ := s.charged()
	e, err := s.log.Load(t.Context(), events.EntityCharge, id)
	if err != nil {
		t.Fatal(err)
	}
	call := func(operation string, after time.Duration) eventlog.Call {
		return eventlog.Call{Time: e.Event.Time.Add(after), Operation: operation, Entity: "charge", EntityID: id, ProviderID: "stripe"}
	}
	if err := s.log.StoreCalls(t.Context(), []eventlog.Call{call("late", 900*time.Microsecond), call("early", 100*time.Microsecond)}); err != nil {
		t.Fatal(err)
	}
	got := lines(s.story(id))
	early, event, late := slices.Index(got, "call early"), slices.Index(got, "event charge.succeeded"), slices.Index(got, "call late")
	if early < 0 || early > event || event > late {
		t.Errorf("the order is %v", got)
	}
}

// What the worker finds on its own is of no command, though it carries the name of the last one on.
func TestWhatIsOfNoCommand(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id := events.PaymentMethodID("stripe", "pm_1")
	now := time.Now().UTC()
	method := func(command, cause string, in events.PaymentMethodInput) eventlog.Entry {
		return s.update(events.EntityPaymentMethod, id, func(last *events.Event, c events.Cause) (*events.Event, error) {
			c.CommandID, c.CausationID = command, cause
			return events.DecidePaymentMethod(last, in, c)
		})
	}
	method("", "evt_1", events.MethodObserved{ProviderID: "stripe", Method: events.Method{
		ID: "pm_1", Attached: true, Type: "card", Brand: "visa", Last4: "4242", ExpiryMonth: int(now.Month()), ExpiryYear: now.Year(),
	}})
	asked := method("cmd_default", "", events.SetDefaultMethod{})
	expiring := method("", "", events.MethodExpiring{})
	if expiring.Event.CorrelationID != "cmd_default" {
		t.Fatalf("the name is not carried on: %+v", expiring.Event)
	}
	story := s.story("pm_1")
	if n := node(t, story, asked.Event.ID); n.Parent != "cmd_default" {
		t.Errorf("asked by %+v", n)
	}
	if n := node(t, story, expiring.Event.ID); n.Parent != "" {
		t.Errorf("expiring because of %+v", n)
	}
}

func TestDeadLettersAreTold(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.delivered("evt_bad", "charge.updated", "pi_a")
	id, requested := s.charged()
	for _, d := range []eventlog.DeadLetter{
		{Stage: eventlog.StageWorker, ID: requested.Event.ID, Reason: "why", Attempts: 3},
		{Stage: eventlog.StageNormalizer, ID: "evt_bad", Reason: "unreadable"},
		{Stage: eventlog.StageCommands, ID: "cmd_" + strings.Repeat("0", 26), Reason: "broken"},
		{Stage: eventlog.StageWorker, ID: "another", Reason: "not here"},
	} {
		if err := s.log.Bury(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	letters, err := s.log.DeadLetters(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.log.Decide(t.Context(), letters[0], eventlog.Decision{Decision: eventlog.DecisionDrop, Operator: "ana", Reason: "x"}); err != nil {
		t.Fatal(err)
	}
	story := s.story(id)
	if n := node(t, story, "dead 1"); n.Parent != requested.Event.ID || n.Reason != "why" || n.Letter != "drop by ana" || n.Stage != "worker" {
		t.Errorf("the event's letter is %+v", n)
	}
	if n := node(t, story, "dead 2"); n.Parent != "evt_bad" || n.Letter != "open" || node(t, story, "evt_bad").Result != "dead" {
		t.Errorf("the delivery's letter is %+v", n)
	}
	if len(story.Nodes) != 7 {
		t.Errorf("the story: %v", lines(story))
	}
	// A command that never led to an event.
	story = s.story("cmd_" + strings.Repeat("0", 26))
	if n := node(t, story, "dead 3"); n.Reason != "broken" || story.Entity != "" || len(story.Nodes) != 2 {
		t.Errorf("the command's letter is %+v in %v", n, lines(story))
	}
}

func TestNamesThatLeadNowhere(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.delivered("evt_nobody", "charge.succeeded", "pi_nobody", "seti_1")
	story := s.story("evt_nobody")
	if n := node(t, story, "evt_nobody"); story.Entity != "" || !n.Asked || n.Type != "charge.succeeded" || len(story.Notes) != 1 {
		t.Errorf("a delivery about nobody: %+v", story)
	}
	if story := s.story("seti_1"); len(story.Nodes) != 1 || story.Nodes[0].ID != "evt_nobody" || len(story.Notes) != 2 {
		t.Errorf("what only a delivery names: %+v", story)
	}
	if err := s.log.StoreCalls(t.Context(), []eventlog.Call{
		{Operation: "events.list", RequestID: "req_list", Outcome: "ok", ProviderID: "stripe"},
		{Operation: "x", ProviderID: "stripe", ObjectID: "pm_made", Entity: "customer", EntityID: s.ref.ID},
	}); err != nil {
		t.Fatal(err)
	}
	if story := s.story("pm_made"); story.EntityID != s.ref.ID || len(story.Notes) != 1 {
		t.Errorf("what only a call names: %+v", story)
	}
	for id, want := range map[string]string{
		"nobody":                            "neither an id of PayKit or of Stripe",
		events.ChargeID("nobody"):           "no event of such a charge is in the log",
		events.CommandID("x", "y"):          "no event in the log is of such a command",
		"rfd_" + strings.Repeat("0", 26):    "no charge in the log has such a refund",
		"01M8MAYEXZ8Q7GX94XTVZWNMW2":        "no event in the log has this id",
		"evt_absent":                        "kept for 35 days",
		"req_absent":                        "has this request id",
		"req_list":                          "for nobody in particular",
		"pi_absent":                         "no stored delivery names it",
		"paykit:env:chg_absent:create":      "names no entity in the log",
		"":                                  "neither an id",
		"rfd_":                              "no charge in the log",
		strings.Repeat("x", 300):            "neither an id",
		"chg_" + strings.Repeat("0", 25):    "no stored delivery names it",
		"user 1; rm -rf > * \x00 \" \\ ../": "neither an id",
	} {
		_, err := explain.Explain(t.Context(), s.log, s, id, explain.Options{ProviderID: "stripe"})
		unknown, ok := errors.AsType[*explain.UnknownError](err)
		if !ok || !strings.Contains(unknown.Why, want) {
			t.Errorf("%s: %v, want %q", id, err, want)
		}
	}
}

// A long search tells how far it is.
func TestProgress(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	var told []string
	_, err := explain.Explain(t.Context(), s.log, s, events.CommandID("x", "y"), explain.Options{ProviderID: "stripe", Progress: func(stream string, f eventlog.Found) {
		told = append(told, fmt.Sprintf("%s %d of %d", stream, f.Searched, f.Total))
	}})
	if diff := cmp.Diff([]string{"LOG 1 of 1"}, told); diff != "" {
		t.Errorf("told (-want +got) %s, %v", diff, err)
	}
}
