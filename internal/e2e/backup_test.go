package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/paykit-go/paykit"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/projections"
)

// traffic is what happens while a backup is made: charges, commands left in the queue, profiles that change.
type traffic struct {
	s      *system
	pk     *paykit.Client
	nc     *nats.Conn
	wg     sync.WaitGroup
	stop   context.CancelFunc
	mu     sync.Mutex
	keys   map[string]string // guarded by mu: charges that were accepted, by key
	queued int               // guarded by mu: commands without a key that were accepted
}

// begin lets some customers be busy until end is called.
func (s *system) begin(customers int) *traffic {
	s.t.Helper()
	x := &traffic{s: s, pk: s.client(), nc: s.conn(), keys: map[string]string{}}
	ctx, stop := context.WithCancel(s.t.Context())
	x.stop = stop
	for c := range customers {
		customerID, methodID := s.saved(x.pk, fmt.Sprint("busy_", c), card4242)
		x.wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := x.once(ctx, fmt.Sprintf("%d-%d", c, n), customerID, methodID); err != nil && ctx.Err() == nil {
					s.t.Errorf("customer %d: %v", c, err)
					return
				}
			}
		})
	}
	s.t.Cleanup(func() { stop(); x.wg.Wait() })
	return x
}

func (x *traffic) once(ctx context.Context, key, customerID, methodID string) error {
	charge, err := x.pk.Charge.Create(ctx, paykit.ChargeCreate{
		CustomerID: customerID, PaymentMethodID: methodID, Amount: 1000, Description: "keyed " + key,
	}, paykit.WithIdempotencyKey(key), paykit.WithWait(0))
	if err != nil {
		return err
	}
	body := fmt.Sprintf(`{"customerId":%q,"paymentMethodId":%q,"amount":500,"currency":"usd","description":"queued %s"}`, customerID, methodID, key)
	if _, err := x.nc.RequestWithContext(ctx, "paykit.cmd.charge.create", []byte(body)); err != nil {
		return err
	}
	x.mu.Lock()
	x.keys[key] = charge.ID
	x.queued++
	x.mu.Unlock()
	_, err = x.pk.Customer.Sync(ctx, paykit.CustomerSync{ReferenceID: "busy_" + key[:1], Name: "Name " + key})
	return err
}

func (x *traffic) accepted() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.keys)
}

func (x *traffic) more(n int) {
	x.s.t.Helper()
	target := x.accepted() + n
	eventually(x.s.t, "more traffic", func() bool { return x.accepted() >= target })
}

// history is the log up to an event, with the views' digest there.
func (s *system) history(upTo uint64) (list []eventlog.Entry, digest string) {
	s.t.Helper()
	log := s.eventLog(s.conn())
	list, err := log.History(s.t.Context(), eventlog.HistoryFilter{}, 0, int(upTo)) //nolint:gosec // G115: a test's log
	if err != nil {
		s.t.Fatal(err)
	}
	views, err := projections.DigestAt(s.t.Context(), log, s.t.TempDir(), upTo, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return list, views.Digest
}

// A backup made while everything runs, restored on an empty server: the same log byte for byte, the same views, and what was
// under way goes on without anybody being charged twice.
func TestBackupOfARunningSystem(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	x := s.begin(3)
	x.more(10)
	file := filepath.Join(s.dir, "backup")
	p := start(t, s.env(), "paykit", "backup", file, "-o", "json")
	if status := p.status(2 * time.Minute); status != 0 {
		t.Fatalf("backup: status %d: %s", status, p.out)
	}
	during := x.accepted()
	x.more(5)
	x.stop()
	x.wg.Wait()
	var made struct {
		Last    uint64 `json:"lastSequence"`
		Streams []struct {
			Name     string `json:"name"`
			Messages uint64 `json:"messages"`
		} `json:"streams"`
	}
	restored := start(t, s.env(), "paykit", "restore", file)
	if status := restored.status(time.Minute); status != 1 {
		t.Errorf("restored over what runs: status %d: %s", status, restored.out)
	}
	before, digest := s.history(lastOf(t, p, &made))

	// The server is lost with all that happened since; the provider knows it.
	for _, process := range []*process{s.in, s.wk, s.pr, s.nats} {
		process.kill()
	}
	s.dir = t.TempDir()
	s.startNATS()
	// A restore that is killed once it has begun is begun anew by the next.
	var killed *process
	eventually(t, "a restore has begun", func() bool {
		if killed == nil || killed.ended() {
			killed = start(t, s.env(), "paykit", "restore", file)
		}
		return s.messages("PAYKIT_LOG") >= 0
	})
	killed.kill()
	eventually(t, "restored", func() bool {
		if killed.cmd.ProcessState.Success() { // it was faster
			return true
		}
		restored = start(t, s.env(), "paykit", "restore", file, "-o", "json")
		return restored.status(2*time.Minute) == 0
	})
	after, again := s.history(made.Last)
	if len(before) != len(after) || len(after) != int(made.Last) || digest != again { //nolint:gosec // G115: a test's log
		t.Fatalf("%d events with digest %s became %d with %s", len(before), digest, len(after), again)
	}
	open := 0
	ids := map[string]bool{}
	for i := range after {
		if string(before[i].Raw) != string(after[i].Raw) || before[i].Sequence != after[i].Sequence || before[i].Subject != after[i].Subject {
			t.Fatalf("event %d is another one", i+1)
		}
		if after[i].Event.Entity() == events.EntityCharge && !ids[after[i].Event.Subject] {
			ids[after[i].Event.Subject] = true
			open++
		}
		if after[i].Event.Type == events.ChargeSucceeded {
			open--
		}
	}
	t.Logf("%d charges were accepted with a key, %d of them by the end of the backup; it holds %d events, %d charges were open", len(x.keys), during, made.Last, open)

	s.startIngest()
	s.startWorker()
	s.startProjector()
	s.pr.awaitHTTP(s.views + "/readyz")
	pk := s.client()
	for id := range ids {
		eventually(t, "charge "+id+" is settled", func() bool {
			c, err := pk.Charge.Get(t.Context(), id)
			return err == nil && c.Status == paykit.ChargeSucceeded
		})
	}
	eventually(t, "the queue is empty", func() bool { return s.messages("PAYKIT_COMMANDS") == 0 })
	s.once()
	p = start(t, s.env(), "paykit", "verify", "-o", "json")
	if status := p.status(2 * time.Minute); status != 0 {
		t.Errorf("verify: status %d: %s", status, p.out)
	}
}

// lastOf reads what a backup said.
func lastOf(t *testing.T, p *process, made any) uint64 {
	t.Helper()
	text := p.out.String()
	for i := range text { // behind the lines about progress
		if text[i] == '{' && json.Unmarshal([]byte(text[i:]), made) == nil {
			break
		}
	}
	var m struct {
		Last uint64 `json:"lastSequence"`
	}
	b, err := json.Marshal(made)
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil || m.Last == 0 {
		t.Fatalf("backup printed %s: %v", text, err)
	}
	return m.Last
}

// messages counts a stream's; -1 = it is not there.
func (s *system) messages(stream string) int {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	nc, err := nats.Connect(s.natsURL)
	if err != nil {
		return -1
	}
	defer nc.Close()
	msg, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.INFO."+stream, nil)
	if err != nil {
		return -1
	}
	var info struct {
		State *struct {
			Messages int `json:"messages"`
		} `json:"state"`
	}
	if err := json.Unmarshal(msg.Data, &info); err != nil || info.State == nil {
		return -1
	}
	return info.State.Messages
}

// once wants no money taken twice: of no payment, for no charge, and for no command, which has its own description.
func (s *system) once() {
	s.t.Helper()
	said := map[string]int{}
	for after := ""; ; {
		var page struct {
			More bool `json:"has_more"`
			Data []struct {
				ID          string `json:"id"`
				Description string `json:"description"`
				Status      string `json:"status"`
			} `json:"data"`
		}
		_, body := get(s.t, s.sandbox+"/v1/payment_intents?limit=100"+after, "Authorization", "Bearer sk_test_e2e")
		if err := json.Unmarshal([]byte(body), &page); err != nil || len(page.Data) == 0 {
			s.t.Fatalf("payments: %v: %s", err, body)
		}
		for _, p := range page.Data {
			if p.Status == "succeeded" {
				said[p.Description]++
			}
			after = "&starting_after=" + p.ID
		}
		if !page.More {
			break
		}
	}
	for description, n := range said {
		if n > 1 {
			s.t.Errorf("%q was paid %d times", description, n)
		}
	}
	captured := map[string]int{}
	for _, p := range s.ledger() {
		captured[p.Metadata["paykit_charge"]] += p.Captures
	}
	for id, n := range captured {
		if n > 1 {
			s.t.Errorf("money was taken %d times for %s", n, id)
		}
	}
}
