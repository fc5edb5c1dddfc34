package projections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

// askAt asks as of a point, again while the views are being built.
func askAt(tb testing.TB, nc *nats.Conn, query string, body any, at string) reply {
	tb.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		tb.Fatal(err)
	}
	for range 20 {
		msg := nats.NewMsg("paykit.query." + query)
		msg.Data = data
		msg.Header.Set("Paykit-At", at)
		answer, err := nc.RequestMsg(msg, 10*time.Second)
		if err != nil {
			tb.Fatalf("%s: %v", query, err)
		}
		r := reply{
			status: answer.Header.Get("Nats-Service-Error-Code"), code: answer.Header.Get("Nats-Service-Error"), data: answer.Data,
		}
		if r.code == string(events.CodeTimeout) {
			continue
		}
		if r.status == "" {
			if r.sequence, err = strconv.ParseUint(answer.Header.Get("Paykit-Sequence"), 10, 64); err != nil {
				tb.Fatalf("%s: header Paykit-Sequence: %v", query, err)
			}
		}
		return r
	}
	tb.Fatalf("%s at %s: never built", query, at)
	return reply{}
}

// pastFiles are the files of views of the past.
func pastFiles(tb testing.TB, dir string) []string {
	tb.Helper()
	list, err := filepath.Glob(filepath.Join(dir, pastPattern))
	if err != nil {
		tb.Fatal(err)
	}
	return list
}

// moment is what a projector answered when it was at a sequence.
type moment struct {
	sequence uint64
	views    Result
	answers  map[string]reply
}

// TestQueriesAtAnEarlierSequence: a query as of a sequence, or of a time, answers what the projector answered when it was
// there, byte for byte, and the views are those of a projector that was stopped there and of a rebuild to there.
func TestQueriesAtAnEarlierSequence(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	nc, l, dir := log.Conn(), newLive(t, log), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "views.at-7.db"), []byte("of a process that was killed"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startProjector(t, log, dir)
	if left := pastFiles(t, dir); len(left) > 0 {
		t.Errorf("left at the start: %v", left)
	}
	ada, _ := l.sync("ada", "ada@example.com")
	l.attach(ada, "stripe", "pm_1")
	charge, _ := l.charge(ada, "one")
	asked := map[string]fields{
		"charge.get": {"chargeId": charge}, "charge.list": {"customerId": ada}, "payment_method.list": {"customerId": ada},
		"event.list": {"customerId": ada, "limit": 100}, "customer.list": {},
	}
	var moments []moment
	var timeOf []time.Time
	for _, step := range []func(){
		func() {},
		func() { l.pay(ada, charge, events.PaymentProcessing) },
		func() { l.attach(ada, "stripe", "pm_2") },
		func() { l.pay(ada, charge, events.PaymentSucceeded); l.charge(ada, "two") },
		func() { l.deleteCustomer(ada) },
	} {
		step()
		info, err := log.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		waitSequence(t, p, info.LastSequence)
		m := moment{sequence: info.LastSequence, answers: map[string]reply{}}
		if m.views, err = p.Digest(t.Context()); err != nil {
			t.Fatal(err)
		}
		for query, body := range asked {
			m.answers[query] = ask(t, nc, query, body, 0)
		}
		moments, timeOf = append(moments, m), append(timeOf, l.now)
	}
	stops := t.TempDir()
	for i := range moments { // not in their order, and one after the other has to make room
		m := moments[(i*3)%len(moments)]
		at := strconv.FormatUint(m.sequence, 10)
		if i%2 == 1 {
			at = timeOf[(i*3)%len(moments)].Add(400 * time.Millisecond).Format(time.RFC3339Nano)
		}
		var got Result
		askAt(t, nc, "view.status", fields{}, at).into(t, &got)
		sameViews(t, "view.status at "+at, got, m.views)
		again, err := DigestAt(t.Context(), log, stops, m.sequence, nil)
		if err != nil {
			t.Fatal(err)
		}
		sameViews(t, "a rebuild to "+at, again, got)
		for query, body := range asked {
			want := m.answers[query]
			got := askAt(t, nc, query, body, at)
			if query == "customer.list" {
				noProfile(t, got, want)
				continue
			}
			if string(got.data) != string(want.data) || got.sequence != want.sequence || got.code != want.code {
				t.Errorf("%s at %s: %s %s (%d), want %s (%d)", query, at, got.code, got.data, got.sequence, want.data, want.sequence)
			}
		}
	}
	if n := len(pastFiles(t, dir)); n != pastMost {
		t.Errorf("%d views of the past are kept, want %d", n, pastMost)
	}
	first := timeOf[0].Add(-time.Hour).Format(time.RFC3339)
	askAt(t, nc, "customer.get", fields{"customerId": ada}, first).wantError(t, events.CodeCustomerNotFound, "customerId")
	if got := askAt(t, nc, "customer.list", fields{}, "0"); string(got.data) != `{"items":[]}` {
		t.Errorf("before the first event: %s", got.data)
	}
}

// noProfile checks that the same customers are listed, without what is personal.
func noProfile(t *testing.T, got, want reply) {
	t.Helper()
	var then, now list
	got.into(t, &then)
	want.into(t, &now)
	if then.ids() != now.ids() {
		t.Errorf("customers %s, want %s", then.ids(), now.ids())
	}
	for _, c := range then.Items {
		if c["email"] != nil || c["name"] != nil || fmt.Sprint(c["metadata"]) != "map[]" {
			t.Errorf("a customer of the past with a profile: %v", c)
		}
	}
}

func TestPointsThatAreNone(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	l, dir := newLive(t, log), t.TempDir()
	l.sync("ada", "ada@example.com")
	startProjector(t, log, dir)
	for _, at := range []string{
		"2", "99999999999999999999", "-1", "1.5", "yesterday", "2026-11-22", "2026-13-01T00:00:00Z", "0x1",
		time.Now().Add(time.Hour).Format(time.RFC3339),
	} {
		for _, query := range []string{"customer.list", "charge.get"} {
			askAt(t, log.Conn(), query, fields{}, at).wantError(t, events.CodeInvalidRequest, "Paykit-At")
		}
	}
	if left := pastFiles(t, dir); len(left) > 0 {
		t.Errorf("views were built: %v", left)
	}
	// What the query itself says wrong is told as ever.
	askAt(t, log.Conn(), "charge.get", fields{}, "1").wantError(t, events.CodeInvalidRequest, "chargeId")
	askAt(t, log.Conn(), "charge.get", fields{"colour": "red"}, "1").wantError(t, events.CodeInvalidRequest, "colour")
}

// TestViewsOfThePastComeAndGo: who asks is answered within its wait while they are built, four are kept, the one that was
// not used for longest makes room, one that nobody asks for is removed, and at the end nothing is left.
func TestViewsOfThePastComeAndGo(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	last := fillLog(t, log, 5, 60)
	dir := t.TempDir()
	metrics := newPastMetrics(nil)
	p := newPast(dir, log, zerolog.Nop(), metrics)
	now := time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)
	p.now = func() time.Time { return now }
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	wantRefusal := func(sequence uint64, code events.Code) {
		t.Helper()
		_, _, err := p.view(ended, sequence)
		refusal, ok := errors.AsType[*events.Error](err)
		if !ok || refusal.Code != code || refusal.Param != headerAt {
			t.Errorf("sequence %d: %v, want %s", sequence, err, code)
		}
	}
	for sequence := range uint64(pastMost) {
		wantRefusal(last-sequence, events.CodeTimeout) // nobody builds yet
		wantRefusal(last-sequence, events.CodeTimeout)
	}
	wantRefusal(1, events.CodeOverloaded)

	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { p.run(ctx); close(done) }()
	use := func(sequence uint64) *pastView {
		t.Helper()
		now = now.Add(time.Second)
		wait, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		v, release, err := p.view(wait, sequence)
		if err != nil {
			t.Fatalf("sequence %d: %v", sequence, err)
		}
		defer release()
		r, err := v.store.digest(t.Context())
		if err != nil || r.Sequence != sequence {
			t.Errorf("views at %d, %v, want %d", r.Sequence, err, sequence)
		}
		return v
	}
	for sequence := range uint64(pastMost) {
		use(last - sequence)
	}
	kept := use(last)
	use(last / 2) // makes room: last-1 was not used for longest
	if _, err := os.Stat(filepath.Join(dir, fmt.Sprintf("%s%d.db", pastPrefix, last-1))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the view that was not used for longest is still there: %v", err)
	}
	if use(last) != kept || len(pastFiles(t, dir)) != pastMost {
		t.Errorf("not kept: %v", pastFiles(t, dir))
	}

	// While it is being read it can make room, and be read to the end.
	held, release, err := p.view(t.Context(), last)
	if err != nil {
		t.Fatal(err)
	}
	p.discard(held)
	if r, err := held.store.digest(t.Context()); err != nil || r.Sequence != last {
		t.Errorf("taken out while it was read: %v %v", r, err)
	}
	release()
	if _, _, err := held.store.checkpoint(); err == nil {
		t.Error("it was not closed")
	}
	now = now.Add(p.idle)
	use(last / 2)
	now = now.Add(2 * time.Second)
	p.letGoOfIdle()
	if left := pastFiles(t, dir); len(left) != 1 {
		t.Errorf("idle ones are still there: %v", left)
	}
	stop()
	<-done
	p.end()
	if left := pastFiles(t, dir); len(left) > 0 || len(p.views) > 0 {
		t.Errorf("left at the end: %v, %d", left, len(p.views))
	}
}

// TestViewsOfThePastFromOneAnother: views that are copied from earlier ones and folded on are those of a rebuild, and one
// whose copy is damaged is built from the first event.
func TestViewsOfThePastFromOneAnother(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	last := fillLog(t, log, 8, 120)
	dir, other := t.TempDir(), t.TempDir()
	p := newPast(dir, log, zerolog.Nop(), newPastMetrics(nil))
	for i, sequence := range []uint64{last / 3, last / 2, last} {
		v := &pastView{sequence: sequence, path: filepath.Join(dir, fmt.Sprintf("%s%d.db", pastPrefix, sequence)), ready: make(chan struct{})}
		p.views[sequence] = v
		if i == 2 {
			p.views[last/2].path = "" // can't be copied any more, nor removed
			p.views[last/2].store.broken.Store(true)
		}
		p.finish(t.Context(), v)
		if v.err != nil {
			t.Fatal(v.err)
		}
		got, err := v.store.digest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want, err := DigestAt(t.Context(), log, other, sequence, nil)
		if err != nil {
			t.Fatal(err)
		}
		sameViews(t, fmt.Sprint("at ", sequence), got, want)
	}
	missing := &pastView{sequence: last + 1, path: filepath.Join(dir, "views.at-x.db"), ready: make(chan struct{})}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	p.finish(ctx, missing)
	if missing.err == nil {
		t.Error("views of a sequence that is not there were built")
	}
	if _, err := os.Stat(missing.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what could not be built is left: %v", err)
	}
	p.end()
}
