package sim_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

func stepLoad(t *testing.T, w logWorld) {
	t.Helper()
	id := events.CustomerID("a")
	_, err := w.log.Load(t.Context(), events.EntityCustomer, id)
	is(t, "load nothing", err, eventlog.ErrNotFound)
	_, err = w.log.LoadFromLeader(t.Context(), events.EntityCustomer, id)
	is(t, "load nothing from the leader", err, eventlog.ErrNotFound)
	_, err = w.log.Load(t.Context(), events.EntityCustomer, "no.id>")
	is(t, "load no id", err, eventlog.ErrNotFound)
	_, err = w.log.Read(t.Context(), 1)
	is(t, "read nothing", err, eventlog.ErrNotFound)
	want := customer(t, w.log, "a", "cmd_1", "cmd_2")
	for _, got := range []eventlog.Entry{
		must(w.log.Load(t.Context(), events.EntityCustomer, id))(t), must(w.other.LoadFromLeader(t.Context(), events.EntityCustomer, id))(t),
		must(w.other.Read(t.Context(), 2))(t),
	} {
		same(t, "the entry", []any{got.Sequence, got.Event.EntityVersion, string(got.Raw)}, []any{2, 2, string(want.Raw)})
		same(t, "its subject", got.Subject, "paykit.log.customer.updated."+id+"."+id)
	}
	info := must(w.log.Info(t.Context()))(t)
	same(t, "info", []uint64{info.FirstSequence, info.LastSequence, info.Messages}, []uint64{1, 2, 2})
}

func stepGuard(t *testing.T, w logWorld) {
	t.Helper()
	first := must(syncs("a", "cmd_1")(nil))(t)
	same(t, "the first", must(w.log.Append(t.Context(), first, 0))(t), 1)
	_, err := w.log.Append(t.Context(), first, 0)
	is(t, "the same once more", err, eventlog.ErrConflict)
	second := must(syncs("a", "cmd_2")(first))(t)
	for _, last := range []uint64{0, 2, 7} {
		_, err = w.log.Append(t.Context(), second, last)
		is(t, fmt.Sprint("guard ", last), err, eventlog.ErrConflict)
	}
	same(t, "the second", must(w.log.Append(t.Context(), second, 1))(t), 2)
	if _, _, err := w.log.Update(t.Context(), events.EntityCustomer, events.CustomerID("b"), syncs("a", "cmd_3")); err == nil {
		t.Error("an event of another entity was appended")
	}
}

func stepConcurrent(t *testing.T, w logWorld) {
	t.Helper()
	customer(t, w.log, "a", "cmd_1")
	decided := 0
	e, appended, err := w.log.Update(t.Context(), events.EntityCustomer, events.CustomerID("a"), func(last *events.Event) (*events.Event, error) {
		if decided++; decided <= 2 {
			customer(t, w.other, "a", fmt.Sprint("other", decided))
		}
		return syncs("a", "cmd_2")(last)
	})
	if err != nil || !appended {
		t.Fatalf("appended %v, %v", appended, err)
	}
	same(t, "decided, version", []int{decided, e.Event.EntityVersion}, []int{3, 4})
	_, appended, err = w.log.Update(t.Context(), events.EntityCustomer, events.CustomerID("a"), syncs("a", "cmd_2"))
	same(t, "again", []any{appended, err}, []any{false, nil})
	refused := errors.New("refused")
	_, _, err = w.log.Update(t.Context(), events.EntityCustomer, events.CustomerID("a"), func(*events.Event) (*events.Event, error) { return nil, refused })
	is(t, "refused", err, refused)
	same(t, "the log", chain(t, w.other), []string{"1:customer.created:1", "2:customer.updated:2", "3:customer.updated:3", "4:customer.updated:4"})
}

// The event is stored and nobody said so. It is found and reported as our own, also behind others.
func stepLostUpdate(t *testing.T, w logWorld) {
	t.Helper()
	customer(t, w.log, "a", "cmd_1")
	decided := 0
	e, appended, err := w.log.Update(t.Context(), events.EntityCustomer, events.CustomerID("a"), func(last *events.Event) (*events.Event, error) {
		decided++
		w.lose()
		return syncs("a", "cmd_lost")(last)
	})
	if err != nil || !appended {
		t.Fatalf("appended %v, %v", appended, err)
	}
	same(t, "decided, version", []int{decided, e.Event.EntityVersion}, []int{1, 2})
	same(t, "the log", chain(t, w.other), []string{"1:customer.created:1", "2:customer.updated:2"})
}

func stepHistory(t *testing.T, w logWorld) {
	t.Helper()
	customer(t, w.log, "a", "c1", "c2") // 1 2
	customer(t, w.log, "b", "c3")       // 3
	charge(t, w.log, "a", "k1")         // 4
	charge(t, w.log, "b", "k2")         // 5
	charge(t, w.log, "a", "k3")         // 6
	customer(t, w.log, "b", "c4")       // 7
	a, b := events.CustomerID("a"), events.CustomerID("b")
	sequences := func(list []eventlog.Entry) (out []uint64) {
		for _, e := range list {
			out = append(out, e.Sequence)
		}
		return out
	}
	for _, row := range []struct {
		f     eventlog.HistoryFilter
		from  uint64
		limit int
		want  string
	}{
		{eventlog.HistoryFilter{}, 0, 100, "[1 2 3 4 5 6 7]"},
		{eventlog.HistoryFilter{}, 3, 2, "[3 4]"},
		{eventlog.HistoryFilter{}, 8, 2, "[]"},
		{eventlog.HistoryFilter{}, 1, 0, "[]"},
		{eventlog.HistoryFilter{CustomerID: a}, 0, 100, "[1 2 4 6]"},
		{eventlog.HistoryFilter{CustomerID: b, Entity: events.EntityCharge}, 0, 100, "[5]"},
		{eventlog.HistoryFilter{Entity: events.EntityCustomer}, 2, 100, "[2 3 7]"},
		{eventlog.HistoryFilter{Entity: events.EntityCharge, EntityID: events.ChargeID("k3")}, 0, 100, "[6]"},
	} {
		got := must(w.other.History(t.Context(), row.f, row.from, row.limit))(t)
		same(t, fmt.Sprintf("%+v from %d, %d", row.f, row.from, row.limit), sequences(got), row.want)
	}
	for _, f := range []eventlog.HistoryFilter{{CustomerID: "x"}, {Entity: "x"}, {Entity: events.EntityCustomer, EntityID: events.ChargeID("k1")}} {
		_, err := w.log.History(t.Context(), f, 0, 1)
		is(t, fmt.Sprintf("%+v", f), err, eventlog.ErrNotFound)
	}
	same(t, "latest charges of a", sequences(must(w.log.Latest(t.Context(), events.EntityCharge, a))(t)), "[4 6]")
	same(t, "latest of customer b", sequences(must(w.log.Latest(t.Context(), events.EntityCustomer, b))(t)), "[7]")
	var scanned []uint64
	stop := errors.New("stop")
	err := w.log.Scan(t.Context(), events.EntityCharge, func(e eventlog.Entry) error {
		if scanned = append(scanned, e.Sequence); e.Sequence == 5 {
			return stop
		}
		return nil
	})
	is(t, "scan", err, stop)
	same(t, "scanned", scanned, "[4 5]")
}

func linkOf(ref string) eventlog.Link {
	return eventlog.Link{Entity: events.EntityCustomer, ID: events.CustomerID(ref), CustomerID: events.CustomerID(ref)}
}

func taken(t *testing.T, what string, err error, want eventlog.Link) {
	t.Helper()
	if got, ok := errors.AsType[*eventlog.LinkTakenError](err); !ok || got.Existing != want {
		t.Errorf("%s: %v, want taken by %+v", what, err, want)
	}
}

func stepLinks(t *testing.T, w logWorld) {
	t.Helper()
	ctx := t.Context()
	_, err := w.log.Link(ctx, "stripe", "cus_1")
	is(t, "no link", err, eventlog.ErrNotFound)
	is(t, "move no link", w.log.MoveLink(ctx, "stripe", "cus_1", linkOf("a"), linkOf("b")), eventlog.ErrNotFound)
	if err := w.log.PutLink(ctx, "stripe", "cus_1", eventlog.Link{Entity: events.EntityCustomer, ID: "x"}); err == nil {
		t.Error("a link to what is no id")
	}
	is(t, "put", w.log.PutLink(ctx, "stripe", "cus_1", linkOf("a")), nil)
	is(t, "put again", w.log.PutLink(ctx, "stripe", "cus_1", linkOf("a")), nil)
	taken(t, "put another", w.log.PutLink(ctx, "stripe", "cus_1", linkOf("b")), linkOf("a"))
	is(t, "of another provider", w.log.PutLink(ctx, "other", "cus_1", linkOf("b")), nil)
	same(t, "the link", must(w.other.Link(ctx, "stripe", "cus_1"))(t), linkOf("a"))
	taken(t, "move from elsewhere", w.log.MoveLink(ctx, "stripe", "cus_1", linkOf("c"), linkOf("b")), linkOf("a"))
	is(t, "move", w.log.MoveLink(ctx, "stripe", "cus_1", linkOf("a"), linkOf("b")), nil)
	is(t, "move again", w.log.MoveLink(ctx, "stripe", "cus_1", linkOf("a"), linkOf("b")), nil)
	same(t, "moved", must(w.log.Link(ctx, "stripe", "cus_1"))(t), linkOf("b"))
}

func stepLostLink(t *testing.T, w logWorld) {
	t.Helper()
	w.lose()
	is(t, "put", w.log.PutLink(t.Context(), "stripe", "cus_1", linkOf("a")), nil)
	taken(t, "another", w.log.PutLink(t.Context(), "stripe", "cus_1", linkOf("b")), linkOf("a"))
}

func delivery(id, customer string) eventlog.Delivery {
	return eventlog.Delivery{
		ProviderID: "stripe", EventID: id, ProviderCustomerID: customer, Body: []byte("body of " + id), Header: map[string]string{"Paykit-Received": "now"},
	}
}

// walk gives the bodies of a customer's deliveries and erases what ends so.
func walk(t *testing.T, w logWorld, customer, erase string) (seen []string) {
	t.Helper()
	err := w.log.WalkDeliveries(t.Context(), "stripe", customer, func(d eventlog.StoredDelivery) (bool, error) {
		seen = append(seen, string(d.Body))
		return erase != "" && strings.HasSuffix(string(d.Body), erase), nil
	})
	if err != nil {
		t.Error(err)
	}
	return seen
}

func stepDeliveries(t *testing.T, w logWorld) {
	t.Helper()
	for _, row := range []struct {
		id, customer string
		stored       bool
	}{{"evt_1", "cus_a", true}, {"evt_1", "cus_a", false}, {"evt_2", "cus_b", true}, {"evt_3", "cus_a", true}, {"evt_4", "", true}, {"evt.*.5", ">", true}} {
		same(t, row.id, must(w.log.StoreDelivery(t.Context(), delivery(row.id, row.customer)))(t), row.stored)
	}
	same(t, "of a", walk(t, w, "cus_a", "evt_1"), "[body of evt_1 body of evt_3]")
	same(t, "without the erased one", walk(t, w, "cus_a", ""), "[body of evt_3]")
	same(t, "of nobody", walk(t, w, "", ""), "[body of evt_4]")
	same(t, "a strange name", walk(t, w, ">", ""), "[body of evt.*.5]")
	is(t, "erase", w.log.EraseDelivery(t.Context(), 3), nil)
	is(t, "erase again", w.log.EraseDelivery(t.Context(), 3), nil)
	same(t, "none is left", len(walk(t, w, "cus_a", "")), 0)
	same(t, "erased, it is new again", must(w.log.StoreDelivery(t.Context(), delivery("evt_1", "cus_a")))(t), true)
	broken := errors.New("broken")
	is(t, "a walk ends with the first error", w.log.WalkDeliveries(t.Context(), "stripe", "", func(eventlog.StoredDelivery) (bool, error) {
		return true, broken
	}), broken)
	same(t, "and erases nothing then", walk(t, w, "", ""), "[body of evt_4]")
}

func stepLostDelivery(t *testing.T, w logWorld) {
	t.Helper()
	w.lose()
	if stored, err := w.log.StoreDelivery(t.Context(), delivery("evt_1", "cus_a")); err == nil || stored {
		t.Errorf("stored %v, %v: nobody knows", stored, err)
	}
	same(t, "again", must(w.log.StoreDelivery(t.Context(), delivery("evt_1", "cus_a")))(t), false)
	same(t, "stored once", walk(t, w, "cus_a", ""), "[body of evt_1]")
}

func stepProfiles(t *testing.T, w logWorld) {
	t.Helper()
	ctx, id := t.Context(), events.CustomerID("a")
	mail := func(s string) eventlog.Profile {
		return eventlog.Profile{Email: &s, Metadata: map[string]string{"k": s}}
	}
	newest := func() string {
		r := must(w.other.Profile(ctx, id))(t)
		return fmt.Sprint(r.Sequence, *r.Profile.Email, r.Profile.Metadata["k"])
	}
	_, err := w.log.Profile(ctx, id)
	is(t, "none", err, eventlog.ErrNotFound)
	for _, sequence := range []uint64{0, 1} {
		_, err = w.log.ProfileAt(ctx, sequence)
		is(t, fmt.Sprint("none at ", sequence), err, eventlog.ErrNotFound)
	}
	same(t, "first", must(w.log.PutProfile(ctx, id, mail("one"), 0))(t), 1)
	_, err = w.log.PutProfile(ctx, id, mail("two"), 0)
	is(t, "over another", err, eventlog.ErrConflict)
	same(t, "second", must(w.log.PutProfile(ctx, id, mail("two"), 1))(t), 2)
	same(t, "of another customer", must(w.log.PutProfile(ctx, events.CustomerID("b"), mail("b"), 0))(t), 3)
	same(t, "newest", newest(), "2two"+"two")
	same(t, "erased", must(w.log.EraseProfiles(ctx, id, 2))(t), 1)
	same(t, "erased again", must(w.log.EraseProfiles(ctx, id, 2))(t), 0)
	_, err = w.log.ProfileAt(ctx, 1)
	is(t, "the erased one", err, eventlog.ErrNotFound)
	same(t, "the other stays", newest(), "2two"+"two")
	same(t, "all", must(w.log.EraseProfiles(ctx, id, 100))(t), 1)
	same(t, "begin anew", must(w.log.PutProfile(ctx, id, mail("new"), 0))(t), 4)
}

func stepLostProfile(t *testing.T, w logWorld) {
	t.Helper()
	id, mail := events.CustomerID("a"), "one"
	w.lose()
	_, err := w.log.PutProfile(t.Context(), id, eventlog.Profile{Email: &mail}, 0)
	if _, unknown := errors.AsType[*eventlog.UnknownError](err); !unknown {
		t.Errorf("%v: nobody knows", err)
	}
	_, err = w.log.PutProfile(t.Context(), id, eventlog.Profile{Email: &mail}, 0)
	is(t, "again", err, eventlog.ErrConflict)
	same(t, "it is there", *must(w.log.Profile(t.Context(), id))(t).Profile.Email, mail)
}

func letter(id, customer string) eventlog.DeadLetter {
	return eventlog.DeadLetter{
		Stage: eventlog.StageWorker, ID: id, CustomerID: customer, Stream: "PAYKIT_LOG", Sequence: 1, Subject: "x", Reason: strings.Repeat("ä", 400), Attempts: 3,
	}
}

// dead gives the letters as their sequence, id, what they are a retry of, and the decision.
func dead(t *testing.T, w logWorld, customer string) (out []string) {
	t.Helper()
	for _, e := range must(w.log.DeadLetters(t.Context(), customer))(t) {
		one := fmt.Sprintf("%d:%s:%d", e.Sequence, e.ID, e.RetryOf)
		if e.Decision != nil {
			one += ":" + e.Decision.Decision
		}
		out = append(out, one)
	}
	return out
}

func stepDead(t *testing.T, w logWorld) {
	t.Helper()
	ctx := t.Context()
	long := letter("L1", "cust_a")
	for i := range 15 {
		long.History = append(long.History, eventlog.Failure{Attempt: i + 1})
	}
	is(t, "bury", w.log.Bury(ctx, long), nil)
	is(t, "bury again", w.log.Bury(ctx, letter("L1", "")), nil)
	is(t, "bury another", w.log.Bury(ctx, letter("L2", "cust_b")), nil)
	first := must(w.log.DeadLetter(ctx, 1))(t)
	same(t, "reason, history", []int{len(first.Reason), len(first.History), first.History[2].Attempt}, []int{500, 10, 8})
	is(t, "bury again", w.log.BuryAgain(ctx, first, "so"), nil)
	is(t, "bury again twice", w.log.BuryAgain(ctx, first, "so"), nil)
	same(t, "all", dead(t, w, ""), "[1:L1:0 2:L2:0 3:L1:1]")
	same(t, "of a", dead(t, w, "cust_a"), "[1:L1:0 3:L1:1]")
	same(t, "why", must(w.log.DeadLetter(ctx, 3))(t).Reason, "can't be retried: so")
	is(t, "erase", w.log.EraseDead(ctx, 1), nil)
	is(t, "erase again", w.log.EraseDead(ctx, 1), nil)
	_, err := w.log.DeadLetter(ctx, 1)
	is(t, "the erased one", err, eventlog.ErrNotFound)
	same(t, "the rest", dead(t, w, ""), "[2:L2:0 3:L1:1]")

	customer(t, w.log, "a", "cmd_1")
	e := must(w.log.Load(ctx, events.EntityCustomer, events.CustomerID("a")))(t)
	about := eventlog.DeadLetter{Stage: "worker", ID: "L3", Stream: "PAYKIT_LOG", Sequence: e.Sequence, Subject: e.Subject, Attempts: 7}
	m := must(w.log.DeadMessage(ctx, about))(t)
	same(t, "its message", []any{m.Subject, string(m.Data), m.Attempt}, []any{e.Subject, string(e.Raw), 7})
	about.Subject = "another"
	_, err = w.log.DeadMessage(ctx, about)
	is(t, "another message in its place", err, eventlog.ErrNotFound)
	about.Stream = "PAYKIT_COMMANDS"
	_, err = w.log.DeadMessage(ctx, about)
	is(t, "a command is in its letter", err, eventlog.ErrNotFound)
}

func stepLostDead(t *testing.T, w logWorld) {
	t.Helper()
	w.lose()
	is(t, "bury", w.log.Bury(t.Context(), letter("L1", "cust_a")), nil)
	is(t, "again", w.log.Bury(t.Context(), letter("L1", "cust_a")), nil)
	same(t, "one letter", dead(t, w, ""), "[1:L1:0]")
}

func stepDecisions(t *testing.T, w logWorld) {
	t.Helper()
	ctx := t.Context()
	is(t, "bury", w.log.Bury(ctx, letter("L1", "cust_a")), nil)
	is(t, "bury", w.log.Bury(ctx, letter("L2", "cust_a")), nil)
	e := must(w.log.DeadLetter(ctx, 1))(t)
	d := eventlog.Decision{Decision: eventlog.DecisionRetry, Operator: "ada", Reason: "mended", At: moment()}
	same(t, "decide", must(w.log.Decide(ctx, e, d))(t).Letter, 1)
	must(w.log.Decide(ctx, e, d))(t)
	other := d
	other.Decision = eventlog.DecisionDrop
	_, err := w.log.Decide(ctx, e, other)
	if got, ok := errors.AsType[*eventlog.DecidedError](err); !ok || got.Existing.Operator != "ada" {
		t.Errorf("decided otherwise: %v", err)
	}
	same(t, "decided", dead(t, w, "cust_a"), "[1:L1:0:retry 2:L2:0]")
	is(t, "erase the letter", w.log.EraseDead(ctx, 1), nil)
	same(t, "the decision remembers it", dead(t, w, "cust_a"), "[1:L1:0:retry 2:L2:0]")
	_, err = w.log.DeadLetter(ctx, 3)
	is(t, "a decision is no letter", err, eventlog.ErrNotFound)
}

func stepPutBack(t *testing.T, w logWorld) {
	t.Helper()
	e := eventlog.DeadEntry{Sequence: 4, DeadLetter: eventlog.DeadLetter{Subject: "paykit.cmd.charge.create", Body: []byte("{}")}}
	is(t, "without a key", w.log.PutBack(t.Context(), e), eventlog.ErrNoKey)
	e.Header = map[string][]string{"Idempotency-Key": {"k"}}
	is(t, "put back", w.log.PutBack(t.Context(), e), nil)
	is(t, "put back again", w.log.PutBack(t.Context(), e), nil)
	e.Subject = "elsewhere"
	is(t, "not a command's", w.log.PutBack(t.Context(), e), eventlog.ErrNotFound)
	var got []string
	w.consume(eventlog.ConsumerCommands, func(m eventlog.Message, _ func()) eventlog.Result {
		got = append(got, fmt.Sprint(m.Sequence, m.Subject, m.Header.Get("Idempotency-Key"), m.Header.Get(eventlog.HeaderDeadLetter)))
		return eventlog.Erase()
	}, func() bool { return true })
	same(t, "the queue", got, "[1"+"paykit.cmd.charge.create"+"k"+"4]")
}

func stepMarks(t *testing.T, w logWorld) {
	t.Helper()
	same(t, "none", must(w.log.BackfillMark(t.Context(), "stripe"))(t).IsZero(), true)
	for _, at := range []time.Time{moment(), moment().Add(time.Hour)} {
		is(t, "set", w.log.SetBackfillMark(t.Context(), "stripe", at), nil)
		same(t, "mark", must(w.other.BackfillMark(t.Context(), "stripe"))(t).Equal(at), true)
	}
	same(t, "of another", must(w.log.BackfillMark(t.Context(), "other"))(t).IsZero(), true)
}

// What is to come again passes nobody by, and counts its attempts.
func stepRetry(t *testing.T, w logWorld) {
	t.Helper()
	for i := range 3 {
		must(w.log.StoreDelivery(t.Context(), delivery(fmt.Sprint("evt_", i+1), "cus_a")))(t)
	}
	heard := newHeard()
	w.consume(eventlog.ConsumerNormalizer, func(m eventlog.Message, _ func()) eventlog.Result {
		heard.note(m)
		if m.Header.Get("Paykit-Received") != "now" || m.Time.IsZero() || m.Stream != "PAYKIT_INBOX" {
			t.Errorf("%+v", m)
		}
		if m.Sequence == 2 && m.Attempt < 4 {
			return eventlog.Retry(time.Duration(m.Attempt) * 10 * time.Millisecond)
		}
		return eventlog.Done()
	}, func() bool { return heard.times(2) == 4 })
	for sequence, want := range map[uint64]string{1: "[1]", 2: "[1 2 3 4]", 3: "[1]"} {
		same(t, fmt.Sprint("attempts at ", sequence), heard.attempts(sequence), want)
	}
}

func stepDeath(t *testing.T, w logWorld) {
	t.Helper()
	header := nats.Header{"Idempotency-Key": {"k"}}
	is(t, "enqueue", w.enqueue("paykit.cmd.charge.create", []byte("{}"), header), nil)
	heard := newHeard()
	w.consume(eventlog.ConsumerCommands, func(m eventlog.Message, die func()) eventlog.Result {
		heard.note(m)
		if m.Attempt == 1 {
			die()
		}
		return eventlog.Done()
	}, func() bool { return heard.times(1) == 2 })
	same(t, "attempts", heard.attempts(1), "[1 2]")
}

func stepErase(t *testing.T, w logWorld) {
	t.Helper()
	for i := range 2 {
		must(w.log.StoreDelivery(t.Context(), delivery(fmt.Sprint("evt_", i+1), "cus_a")))(t)
	}
	heard := newHeard()
	w.consume(eventlog.ConsumerNormalizer, func(m eventlog.Message, _ func()) eventlog.Result {
		heard.note(m)
		if m.Sequence == 1 {
			return eventlog.Erase()
		}
		return eventlog.Done()
	}, func() bool { return heard.times(1)+heard.times(2) == 2 })
	same(t, "the acknowledged one stays", walk(t, w, "cus_a", ""), "[body of evt_2]")
}

func stepOnlyItsEvents(t *testing.T, w logWorld) {
	t.Helper()
	customer(t, w.log, "a", "c1", "c2")
	charge(t, w.log, "a", "k1")
	heard := newHeard()
	w.consume(eventlog.ConsumerRequests, func(m eventlog.Message, _ func()) eventlog.Result {
		heard.note(m)
		return eventlog.Done()
	}, func() bool { return heard.times(2)+heard.times(3) == 2 })
	for sequence, want := range map[uint64]string{1: "[]", 2: "[1]", 3: "[1]"} { // created, updated: told to the provider, and the charge
		same(t, fmt.Sprint("attempts at ", sequence), heard.attempts(sequence), want)
	}
}
