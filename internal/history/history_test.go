package history_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
	"github.com/paykit-go/paykit/internal/history"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// book writes a history into a real log through the real decisions, one event a second.
type book struct {
	*eventlog.Log

	t   *testing.T
	now time.Time
}

func newBook(t *testing.T, log *eventlog.Log) *book {
	t.Helper()
	return &book{Log: log, t: t, now: time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)}
}

func (b *book) change(entity events.Entity, id, ref string, decide func(*events.Event, events.Cause) (*events.Event, error)) {
	b.t.Helper()
	b.now = b.now.Add(time.Second)
	_, appended, err := b.Update(b.t.Context(), entity, id, func(last *events.Event) (*events.Event, error) {
		return decide(last, events.Cause{
			Now: b.now, Source: "/paykit/test", Customer: events.CustomerRef{ID: events.CustomerID(ref), ReferenceID: ref},
			CommandID: events.CommandID("test", b.now.String()),
		})
	})
	if err != nil || !appended {
		b.t.Fatalf("append to %s: appended %v, %v", id, appended, err)
	}
}

func (b *book) customer(ref string, in events.CustomerInput) {
	b.t.Helper()
	b.change(events.EntityCustomer, events.CustomerID(ref), ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecideCustomer(last, in, c)
	})
}

func (b *book) sync(ref string, revision uint64) {
	b.t.Helper()
	b.customer(ref, events.SyncCustomer{ReferenceID: ref, Revision: revision, Changed: []string{"email"}})
}

func (b *book) charge(ref, key string, in events.ChargeInput) {
	b.t.Helper()
	b.change(events.EntityCharge, events.ChargeID(key), ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecideCharge(last, in, c)
	})
}

func (b *book) ask(ref, key string) string {
	b.t.Helper()
	id := events.ChargeID(key)
	b.charge(ref, key, events.CreateCharge{ID: id, ProviderID: "stripe", Amount: 4900, Currency: "usd", Description: "Pro"})
	return id
}

func (b *book) pay(ref, key string, status events.PaymentStatus) {
	b.t.Helper()
	id := events.ChargeID(key)
	b.charge(ref, key, events.PaymentObserved{ID: id, ProviderID: "stripe", Payment: events.Payment{
		ID: "pi_" + key, Status: status, Amount: 4900, Currency: "usd",
	}})
}

func (b *book) attach(ref, method string) string {
	b.t.Helper()
	id := events.PaymentMethodID("stripe", method)
	b.change(events.EntityPaymentMethod, id, ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecidePaymentMethod(last, events.MethodObserved{ProviderID: "stripe", Method: events.Method{
			ID: method, Attached: true, Type: "card", Brand: "visa", Last4: "4242", ExpiryMonth: 12, ExpiryYear: 2030,
		}}, c)
	})
	return id
}

// last is where a log ends.
func last(t *testing.T, log *eventlog.Log) uint64 {
	t.Helper()
	info, err := log.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.LastSequence
}

// file replays a log.
func file(t *testing.T, log *eventlog.Log, o history.ReplayOptions) []byte {
	t.Helper()
	if o.To == 0 {
		o.To = last(t, log)
	}
	var b bytes.Buffer
	if _, err := history.Replay(t.Context(), log, o, func(e history.Event) error {
		b.Write(append(e.Raw, '\n'))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// bytesOf are a log's events as they are stored.
func bytesOf(t *testing.T, log *eventlog.Log) []string {
	t.Helper()
	var list []string
	if err := log.Range(t.Context(), eventlog.HistoryFilter{}, 1, last(t, log), func(s eventlog.Stored) error {
		list = append(list, s.Subject+" "+string(s.Raw))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return list
}

func quiet(string, uint64, uint64) {}

// filled is a log with some of everything.
func filled(t *testing.T) *eventlog.Log {
	t.Helper()
	b := newBook(t, eventlogtest.Provisioned(t))
	for i := range 40 {
		ref := fmt.Sprint("user_", i)
		b.sync(ref, uint64(i)*3+1)
		b.ask(ref, ref)
		if i%2 == 0 {
			b.pay(ref, ref, events.PaymentProcessing)
			b.attach(ref, "pm_"+ref)
		}
		if i%3 == 0 {
			b.pay(ref, ref, events.PaymentSucceeded)
			b.customer(ref, events.DeleteCustomer{})
		}
	}
	return b.Log
}

// TestImportGivesTheSameLog: event by event and byte by byte, however often it was interrupted, and only then something new
// can be added.
func TestImportGivesTheSameLog(t *testing.T) {
	t.Parallel()
	log := filled(t)
	whole := file(t, log, history.ReplayOptions{})
	n := last(t, log)
	server := eventlogtest.Start(t)
	into := eventlogtest.Open(t, server.Conn(t))
	for _, at := range []uint64{1, n / 3, n - 1} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := history.Import(ctx, into, bytes.NewReader(whole), func(doing string, done, _ uint64) {
			if doing == "stored" && done >= at {
				cancel()
			}
		})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("interrupted at %d: %v", at, err)
		}
		if there := last(t, into); there != at {
			t.Fatalf("interrupted at %d: the log ends at %d", at, there)
		}
	}
	r, err := history.Import(t.Context(), into, bytes.NewReader(whole), quiet)
	if err != nil || r.Events != n || r.Appended != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	if !slices.Equal(bytesOf(t, log), bytesOf(t, into)) {
		t.Error("the imported log is another one")
	}
	if r, err := history.Import(t.Context(), into, bytes.NewReader(whole), quiet); err != nil || r.Appended != 0 || r.Links != 0 {
		t.Errorf("once more: %+v, %v", r, err)
	}
	if marked, err := into.Imported(t.Context()); marked != n || err != nil {
		t.Errorf("imported up to %d, %v", marked, err)
	}
	// The mark stays what it is when the installation is provisioned again.
	again := eventlogtest.Open(t, server.Conn(t))
	if marked, err := again.Imported(t.Context()); marked != n || err != nil {
		t.Errorf("after provisioning: imported up to %d, %v", marked, err)
	}
	b := newBook(t, into)
	b.now = time.Now()
	b.pay("user_2", "user_2", events.PaymentSucceeded)
	if _, err := history.Import(t.Context(), into, bytes.NewReader(whole), quiet); !errors.Is(err, history.ErrNotEmpty) {
		t.Errorf("into a log that went on: %v", err)
	}
}

// TestImportAloneAppends: what somebody else appends meanwhile stops it, and it does not go on behind that.
func TestImportAloneAppends(t *testing.T) {
	t.Parallel()
	whole := file(t, filled(t), history.ReplayOptions{})
	into := eventlogtest.Provisioned(t)
	n := bytes.Count(whole, []byte("\n"))
	meddled := false
	_, err := history.Import(t.Context(), into, bytes.NewReader(whole), func(doing string, done, _ uint64) {
		if doing == "checked" && done == uint64(n) { //nolint:gosec // G115: a count
			meddled = true
			newBook(t, into).sync("somebody", 1)
		}
	})
	if !meddled || !errors.Is(err, history.ErrNotEmpty) {
		t.Errorf("an event before it: %v", err)
	}

	into = eventlogtest.Provisioned(t)
	_, err = history.Import(t.Context(), into, &meddling{Reader: bytes.NewReader(whole), on: 3, do: func() { newBook(t, into).sync("somebody", 1) }}, quiet)
	if err == nil || !errors.Is(err, eventlog.ErrConflict) || last(t, into) != 1 {
		t.Errorf("an event right before the first: %v, the log ends at %d", err, last(t, into))
	}
	if marked, err := into.Imported(t.Context()); marked != 0 || err != nil {
		t.Errorf("nothing was imported, and the mark says %d, %v", marked, err)
	}
}

// meddling does something when it is read from the beginning for the n-th time.
type meddling struct {
	*bytes.Reader

	on int
	do func()
}

func (m *meddling) Seek(offset int64, whence int) (int64, error) {
	if m.on--; m.on == 1 { // checked, then appended
		m.do()
	}
	return m.Reader.Seek(offset, whence)
}

// TestImportRefuses: a file that is not a whole log, before anything is written.
func TestImportRefuses(t *testing.T) { //nolint:tparallel // its rows share one server
	t.Parallel()
	log := filled(t)
	whole := string(file(t, log, history.ReplayOptions{}))
	list := strings.SplitAfter(strings.TrimSuffix(whole, "\n"), "\n")
	without := func(i int) string { return strings.Join(slices.Delete(slices.Clone(list), i, i+1), "") + "\n" }
	_, ofOne, _ := strings.Cut(string(file(t, log, history.ReplayOptions{CustomerID: events.CustomerID("user_1")})), "\n")
	// altered changes an entity's last event, which no later one vouches for.
	altered := func(kind, old, now string) string {
		i := strings.LastIndex(whole, kind)
		if !strings.Contains(whole[i:], old) {
			t.Fatalf("nothing to alter behind the last %s", kind)
		}
		return whole[:i] + strings.Replace(whole[i:], old, now, 1)
	}
	into := eventlogtest.Provisioned(t)
	for name, text := range map[string]string{
		"an e-mail address":     altered(`"type":"customer.`, `"customer":{`, `"customer":{"email":"a@example.com",`),
		"another status":        altered(`"type":"charge.succeeded"`, `"status":"succeeded"`, `"status":"processing"`),
		"another schema":        altered(`"type":"customer.`, `"dataschema":"urn:paykit:customer:1"`, `"dataschema":"urn:acme:thing:1"`),
		"no event":              "",
		"the first is missing":  without(0),
		"one is missing":        without(2),
		"cut off":               whole[:len(whole)-1],
		"cut off in an event":   whole[:len(whole)-20],
		"other line ends":       strings.ReplaceAll(whole, "\n", "\r\n"),
		"an empty line":         strings.Replace(whole, "\n", "\n\n", 1),
		"spaces":                strings.Replace(whole, "\n", " \n", 1),
		"one was changed":       strings.Replace(whole, `"changed":["email"]`, `"changed":["name"]`, 1),
		"one twice":             list[0] + whole,
		"not in order":          list[1] + list[0] + strings.Join(list[2:], "") + "\n",
		"only some types":       string(file(t, log, history.ReplayOptions{Type: "charge.*"})),
		"not from the first":    string(file(t, log, history.ReplayOptions{From: 3})),
		"a line without end":    strings.Repeat("x", 300<<10),
		"something else":        "{\"hello\":\"world\"}\n",
		"a document":            "# Log\n",
		"a customer is missing": ofOne,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := history.Import(t.Context(), into, strings.NewReader(text), quiet)
			if !errors.Is(err, history.ErrNotWhole) && !errors.Is(err, events.ErrMalformed) && !errors.Is(err, events.ErrUnknownType) {
				t.Errorf("%v", err)
			}
			if n := last(t, into); n != 0 {
				t.Errorf("%d events were written", n)
			}
		})
	}
}

// TestReplay: from where and up to where it is asked for, of whom and what it is asked for, the stored bytes exactly.
func TestReplay(t *testing.T) {
	t.Parallel()
	log := filled(t)
	all := bytesOf(t, log)
	for name, tt := range map[string]struct {
		o    history.ReplayOptions
		want func(subject string, sequence int) bool
	}{
		"all":        {history.ReplayOptions{}, func(string, int) bool { return true }},
		"a stretch":  {history.ReplayOptions{From: 10, To: 20}, func(_ string, n int) bool { return n >= 10 && n <= 20 }},
		"a type":     {history.ReplayOptions{Type: "charge.succeeded"}, func(s string, _ int) bool { return strings.Contains(s, ".charge.succeeded.") }},
		"types":      {history.ReplayOptions{Type: "charge.*"}, func(s string, _ int) bool { return strings.Contains(s, ".log.charge.") }},
		"many types": {history.ReplayOptions{Type: "*.*ed"}, func(s string, _ int) bool { return strings.HasSuffix(strings.Split(s, ".")[3], "ed") }},
		"one of a person": {history.ReplayOptions{Type: "charge.*", CustomerID: events.CustomerID("user_6")}, func(s string, _ int) bool {
			return strings.Contains(s, ".log.charge.") && strings.HasSuffix(s, events.CustomerID("user_6"))
		}},
	} {
		var want strings.Builder
		for i, line := range all {
			subject, raw, _ := strings.Cut(line, " ")
			if tt.want(subject, i+1) {
				want.WriteString(raw + "\n")
			}
		}
		if got := string(file(t, log, tt.o)); got != want.String() || got == "" {
			t.Errorf("%s: %d bytes, want %d", name, len(got), want.Len())
		}
	}
	for pattern, ok := range map[string]bool{"charge.*": true, "*": true, "charge.paid": false, "[": false, "chargesucceeded": false} {
		if history.ValidPattern(pattern) != ok {
			t.Errorf("pattern %q: valid %v", pattern, !ok)
		}
	}
}

// TestReplayKeepsThePace: with the gaps as they were, faster or slower, and it can be stopped in the middle of one.
func TestReplayKeepsThePace(t *testing.T) {
	t.Parallel()
	b := newBook(t, eventlogtest.Provisioned(t))
	for range 4 { // a second apart
		b.sync("user", 1)
	}
	begin := time.Now()
	n, err := history.Replay(t.Context(), b.Log, history.ReplayOptions{To: 4, Speed: 20}, func(history.Event) error { return nil })
	if took := time.Since(begin); err != nil || n != 4 || took < 150*time.Millisecond {
		t.Errorf("%d events in %s, %v", n, took, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n, err = history.Replay(ctx, b.Log, history.ReplayOptions{To: 4, Speed: 1e-6}, func(history.Event) error {
		cancel()
		return nil
	})
	if n != 1 || !errors.Is(err, context.Canceled) {
		t.Errorf("stopped after %d, %v", n, err)
	}
}
