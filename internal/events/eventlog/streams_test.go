package eventlog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

// inFiles tells whether the server's files hold the text.
func inFiles(t *testing.T, srv *eventlogtest.Server, text string) bool {
	t.Helper()
	found := false
	root := os.DirFS(srv.StoreDir)
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(root, path)
		found = found || bytes.Contains(b, []byte(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestProfiles(t *testing.T) {
	t.Parallel()
	srv := eventlogtest.Start(t)
	l := eventlogtest.Open(t, srv.Conn(t))
	a, b := events.CustomerID("a"), events.CustomerID("b")
	if _, err := l.Profile(t.Context(), a); !errors.Is(err, eventlog.ErrNotFound) {
		t.Fatalf("before the first: %v", err)
	}
	var last uint64
	for i, email := range []string{"canary-one@example.com", "canary-two@example.com", "canary-three@example.com"} {
		p := eventlog.Profile{Email: new(email), Metadata: map[string]string{"n": fmt.Sprint(i)}}
		sequence, err := l.PutProfile(t.Context(), a, p, last)
		if err != nil || sequence <= last {
			t.Fatalf("revision %d: %d, %v", i, sequence, err)
		}
		if _, err := l.PutProfile(t.Context(), a, p, last); !errors.Is(err, eventlog.ErrConflict) {
			t.Errorf("the same again: %v", err)
		}
		last = sequence
		if i == 0 { // only the customer's own revisions count
			if _, err := l.PutProfile(t.Context(), b, eventlog.Profile{Name: new("other-canary")}, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := l.Profile(t.Context(), a)
	if err != nil || got.Sequence != last || *got.Profile.Email != "canary-three@example.com" || got.Profile.Name != nil {
		t.Errorf("newest: %+v, %v", got, err)
	}
	if first, err := l.ProfileAt(t.Context(), 1); err != nil || *first.Profile.Email != "canary-one@example.com" {
		t.Errorf("first: %+v, %v", first, err)
	}
	for _, canary := range []string{"canary-one", "canary-two", "canary-three", "other-canary"} {
		if !inFiles(t, srv, canary) {
			t.Fatalf("%s is nowhere: the test looks at the wrong files", canary)
		}
	}
	if n, err := l.EraseProfiles(t.Context(), a, last); err != nil || n != 2 {
		t.Errorf("erased %d, %v", n, err)
	}
	if n, err := l.EraseProfiles(t.Context(), a, last); err != nil || n != 0 {
		t.Errorf("erased again %d, %v", n, err)
	}
	for canary, want := range map[string]bool{"canary-one": false, "canary-two": false, "canary-three": true, "other-canary": true} {
		if inFiles(t, srv, canary) != want {
			t.Errorf("%s in the files: %v", canary, !want)
		}
	}
	if _, err := l.ProfileAt(t.Context(), 1); !errors.Is(err, eventlog.ErrNotFound) {
		t.Errorf("an erased revision: %v", err)
	}
	if n, err := l.EraseProfiles(t.Context(), a, last+1); err != nil || n != 1 {
		t.Errorf("erased the newest: %d, %v", n, err)
	}
	if _, err := l.Profile(t.Context(), a); !errors.Is(err, eventlog.ErrNotFound) {
		t.Errorf("after all were erased: %v", err)
	}
	if _, err := l.PutProfile(t.Context(), a, eventlog.Profile{}, 0); err != nil {
		t.Errorf("begun anew: %v", err)
	}
	for _, id := range []string{"", "*", ">", "cust_x.y"} {
		if _, err := l.PutProfile(t.Context(), id, eventlog.Profile{}, 0); err == nil {
			t.Errorf("a profile for %q", id)
		}
	}
}

// A link is moved from where it leads, by one only; moved again it is found so.
func TestMoveLink(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	method := func(id string) eventlog.Link {
		return eventlog.Link{Entity: events.EntityPaymentMethod, ID: events.PaymentMethodID("stripe", id), CustomerID: events.CustomerID("a")}
	}
	object := eventlog.CardObject(events.CustomerID("a"), "fp")
	if err := l.MoveLink(t.Context(), "stripe", object, method("1"), method("2")); !errors.Is(err, eventlog.ErrNotFound) {
		t.Errorf("what is not there: %v", err)
	}
	if err := l.PutLink(t.Context(), "stripe", object, method("1")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.MoveLink(t.Context(), "stripe", object, method("1"), method("2")); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := l.Link(t.Context(), "stripe", object); err != nil || got != method("2") {
		t.Errorf("%+v, %v", got, err)
	}
	var taken *eventlog.LinkTakenError
	if err := l.MoveLink(t.Context(), "stripe", object, method("1"), method("3")); !errors.As(err, &taken) || taken.Existing != method("2") {
		t.Errorf("moved from where it does not lead: %v", err)
	}
	if err := l.MoveLink(t.Context(), "stripe", object, method("2"), eventlog.Link{Entity: events.EntityPaymentMethod, ID: "x"}); err == nil {
		t.Error("moved to nothing")
	}
	// Many at once: one of them wins.
	won := make(chan string, 8)
	var g sync.WaitGroup
	for i := range cap(won) {
		g.Go(func() {
			if l.MoveLink(t.Context(), "stripe", object, method("2"), method(fmt.Sprint("many ", i))) == nil {
				won <- method(fmt.Sprint("many ", i)).ID
			}
		})
	}
	g.Wait()
	if got, err := l.Link(t.Context(), "stripe", object); err != nil || len(won) != 1 || got.ID != <-won {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestLinks(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	k := eventlog.Link{Entity: events.EntityCharge, ID: events.ChargeID("k"), CustomerID: events.CustomerID("a")}
	if _, err := l.Link(t.Context(), "stripe", "pi_1"); !errors.Is(err, eventlog.ErrNotFound) {
		t.Fatalf("before: %v", err)
	}
	for range 2 {
		if err := l.PutLink(t.Context(), "stripe", "pi_1", k); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := l.Link(t.Context(), "stripe", "pi_1"); err != nil || got != k {
		t.Errorf("%+v, %v", got, err)
	}
	other := k
	other.ID = events.ChargeID("other")
	var taken *eventlog.LinkTakenError
	if err := l.PutLink(t.Context(), "stripe", "pi_1", other); !errors.As(err, &taken) || taken.Existing != k {
		t.Errorf("another link: %v", err)
	}
	if err := l.PutLink(t.Context(), "stripe", "pi_2", eventlog.Link{Entity: events.EntityCharge, ID: "x"}); err == nil {
		t.Error("a link to nothing")
	}
	// No input reaches a subject raw, and no object is another's or the mark.
	for i, object := range []string{"pi.1", "*", ">", "", "_backfill", "none", strings.Repeat("x", 300), "ü"} {
		link := eventlog.Link{Entity: events.EntityCharge, ID: events.ChargeID(fmt.Sprint(i))}
		if err := l.PutLink(t.Context(), "stripe", object, link); err != nil {
			t.Errorf("%q: %v", object, err)
		}
		if got, err := l.Link(t.Context(), "stripe", object); err != nil || got != link {
			t.Errorf("%q: %+v, %v", object, got, err)
		}
	}
	if at, err := l.BackfillMark(t.Context(), "stripe"); err != nil || !at.IsZero() {
		t.Errorf("mark before the first run: %v, %v", at, err)
	}
	for _, want := range []time.Time{time.Unix(1700000000, 0).UTC(), time.Unix(1800000000, 0).UTC()} {
		if err := l.SetBackfillMark(t.Context(), "stripe", want); err != nil {
			t.Fatal(err)
		}
		if at, err := l.BackfillMark(t.Context(), "stripe"); err != nil || !at.Equal(want) {
			t.Errorf("mark: %v, %v", at, err)
		}
	}
}

func TestDeliveries(t *testing.T) {
	t.Parallel()
	srv := eventlogtest.Start(t)
	l := eventlogtest.Open(t, srv.Conn(t))
	store := func(event, customer, body string, want bool) {
		t.Helper()
		d := eventlog.Delivery{ProviderID: "stripe", EventID: event, ProviderCustomerID: customer, Body: []byte(body), Header: map[string]string{"Paykit-Received": "now"}}
		if stored, err := l.StoreDelivery(t.Context(), d); err != nil || stored != want {
			t.Errorf("%s: stored %v, %v", event, stored, err)
		}
	}
	store("evt_1", "cus_a", "canary-evt-1", true)
	store("evt_1", "cus_a", "canary-evt-1", false)
	store("evt_2", "cus_a", "canary-evt-2", true)
	store("evt_3", "cus_b", "canary-evt-3", true)
	store("evt_4", "", "canary-evt-4", true)
	store("evt_5", "", "canary-evt-5", true)
	store("evt.*.6", ">", "canary-evt-6", true)

	handled := make(chan eventlog.Message, 10)
	c := consume(t, l, eventlog.ConsumerNormalizer, eventlog.ConsumeOptions{
		Lane: func(eventlog.Message) string { return "" },
		Handle: func(_ context.Context, m eventlog.Message) eventlog.Result {
			handled <- m
			return eventlog.Done()
		},
	})
	for i := 1; i <= 6; i++ {
		m := receive(t, handled, "a delivery")
		if want := fmt.Sprint("canary-evt-", i); string(m.Data) != want || m.Header.Get("Paykit-Received") != "now" || m.Sequence != uint64(i) {
			t.Errorf("%s instead of %s", m.Data, want)
		}
	}
	settled(t, l, "PAYKIT_INBOX", eventlog.ConsumerNormalizer, 0)
	c.stop()

	walk := func(customer, erase string) (seen []string) {
		t.Helper()
		err := l.WalkDeliveries(t.Context(), "stripe", customer, func(d eventlog.StoredDelivery) (bool, error) {
			if d.Sequence == 0 || time.Since(d.Time) > time.Minute {
				t.Errorf("%+v", d)
			}
			seen = append(seen, string(d.Body))
			return strings.Contains(string(d.Body), erase), nil
		})
		if err != nil {
			t.Error(err)
		}
		return seen
	}
	if seen := walk("cus_a", "canary"); len(seen) != 2 {
		t.Errorf("a customer's: %v", seen)
	}
	if seen := walk("cus_a", "canary"); len(seen) != 0 {
		t.Errorf("erased, and there again: %v", seen)
	}
	if seen := walk("", "canary-evt-4"); fmt.Sprint(seen) != "[canary-evt-4 canary-evt-5]" {
		t.Errorf("without a customer: %v", seen)
	}
	broken := errors.New("broken")
	err := l.WalkDeliveries(t.Context(), "stripe", "", func(eventlog.StoredDelivery) (bool, error) { return true, broken })
	if !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	for i, want := range []bool{1: false, 2: false, 3: true, 4: false, 5: true, 6: true} {
		if canary := fmt.Sprint("canary-evt-", i); i > 0 && inFiles(t, srv, canary) != want {
			t.Errorf("%s in the files: %v", canary, !want)
		}
	}
}

// Deliveries older than 35 days are erased, oldest first and not faster than five a second; younger ones stay.
func TestSweep(t *testing.T) {
	t.Parallel()
	srv := eventlogtest.Start(t)
	nc := srv.Conn(t)
	eventlogtest.Open(t, nc)
	age := 35*24*time.Hour - time.Minute
	now := func() time.Time { return time.Now().Add(age) }
	l, err := eventlog.Open(t.Context(), nc, eventlog.Config{Now: func() time.Time { return now() }})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		d := eventlog.Delivery{ProviderID: "stripe", EventID: fmt.Sprint("evt_", i), Body: []byte("canary-old")}
		if _, err := l.StoreDelivery(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	sweep := func(d time.Duration) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		if err := l.SweepInbox(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("ended with %v", err)
		}
	}
	left := func() uint64 {
		t.Helper()
		s, err := js(t, l).Stream(t.Context(), "PAYKIT_INBOX")
		if err != nil {
			t.Fatal(err)
		}
		return s.CachedInfo().State.Msgs
	}
	sweep(300 * time.Millisecond)
	if n := left(); n != 3 {
		t.Errorf("%d left, a minute before their time", n)
	}
	age += 2 * time.Minute
	sweep(100 * time.Millisecond)
	if n := left(); n != 2 {
		t.Errorf("%d left after the first", n)
	}
	sweep(900 * time.Millisecond)
	if n := left(); n != 0 {
		t.Errorf("%d left after all", n)
	}
	if inFiles(t, srv, "canary-old") {
		t.Error("the bytes are still in the files")
	}
}

// A done command is overwritten instead of acknowledged; one that failed too often goes to DEAD first.
func TestCommandsLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	srv := eventlogtest.Start(t)
	l := eventlogtest.Open(t, srv.Conn(t))
	for _, body := range []string{"canary-good", "canary-bad", "canary-kept"} {
		if _, err := l.Conn().Request("paykit.cmd.customer.sync", []byte(body), soon); err != nil {
			t.Fatal(err)
		}
	}
	at := time.Now().UTC().Truncate(time.Second)
	letter := eventlog.DeadLetter{
		Stage: "commands", ID: "cmd.1", CustomerID: events.CustomerID("a"), Stream: "PAYKIT_COMMANDS", Sequence: 2,
		Subject: "paykit.cmd.customer.sync", Body: []byte("canary-bad"), Reason: "broken", Attempts: 5, At: at,
	}
	done := make(chan struct{}, 10)
	consume(t, l, eventlog.ConsumerCommands, eventlog.ConsumeOptions{
		Lane: func(m eventlog.Message) string { return m.Subject },
		Handle: func(ctx context.Context, m eventlog.Message) eventlog.Result {
			defer func() { done <- struct{}{} }()
			if string(m.Data) == "canary-kept" { // an empty stream's files would vanish by themselves
				return eventlog.Retry(time.Hour)
			}
			if string(m.Data) == "canary-bad" {
				if err := l.Bury(ctx, letter); err != nil {
					t.Error(err)
				}
				if err := l.Bury(ctx, letter); err != nil { // after a crash between the two
					t.Error(err)
				}
			}
			return eventlog.Erase()
		},
	})
	for range 3 {
		receive(t, done, "a command")
	}
	settled(t, l, "PAYKIT_COMMANDS", eventlog.ConsumerCommands, 1)
	if !inFiles(t, srv, "canary-kept") {
		t.Fatal("the commands are nowhere: the test looks at the wrong files")
	}
	if inFiles(t, srv, "canary-good") || inFiles(t, srv, "canary-bad") { // in DEAD it is in base 64
		t.Error("a command's bytes are still in the files")
	}
	other := eventlog.DeadLetter{Stage: "worker", ID: "01J", Stream: "PAYKIT_LOG", Sequence: 7, Reason: "rejected", Attempts: 1}
	if err := l.Bury(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	list, err := l.DeadLetters(t.Context(), letter.CustomerID)
	if err != nil || len(list) != 1 || fmt.Sprint(list[0].DeadLetter) != fmt.Sprint(letter) {
		t.Fatalf("%+v, %v", list, err)
	}
	if all, err := l.DeadLetters(t.Context(), ""); err != nil || len(all) != 2 || all[1].ID != "01J" || all[1].At.IsZero() {
		t.Errorf("all: %+v, %v", all, err)
	}
	const encoded = "Y2FuYXJ5LWJhZA" // canary-bad
	if !inFiles(t, srv, encoded) {
		t.Fatal("the dead letter is nowhere: the test looks at the wrong files")
	}
	for range 2 {
		if err := l.EraseDead(t.Context(), list[0].Sequence); err != nil {
			t.Fatal(err)
		}
	}
	if inFiles(t, srv, encoded) {
		t.Error("the dead letter's bytes are still in the files")
	}
	if list, err := l.DeadLetters(t.Context(), letter.CustomerID); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// Nobody can take an event out of the log.
func TestTheLogKeepsEverything(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	appendCustomer(t, l, "a", 3)
	s, err := js(t, l).Stream(t.Context(), "PAYKIT_LOG")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMsg(t.Context(), 1); err == nil {
		t.Error("an event was deleted")
	}
	if err := s.SecureDeleteMsg(t.Context(), 1); err == nil {
		t.Error("an event was securely deleted")
	}
	if err := s.Purge(t.Context()); err == nil {
		t.Error("the log was purged")
	}
	rollup := &nats.Msg{Subject: "paykit.log.customer.updated." + events.CustomerID("a") + ".none", Header: nats.Header{"Nats-Rollup": {"all"}}}
	if _, err := js(t, l).PublishMsg(t.Context(), rollup); err == nil {
		t.Error("the log was rolled up")
	}
	if got := checkChain(t, l)[events.CustomerID("a")]; got != 3 {
		t.Errorf("%d events", got)
	}
}
