package eventlog_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

// lagging answers direct gets of a stream as a replica would that has its messages only up to a sequence.
type lagging struct {
	t      *testing.T
	nc     *nats.Conn
	stream string
	known  uint64
}

func lag(t *testing.T, srv *eventlogtest.Server, stream string, known uint64) {
	t.Helper()
	r := &lagging{t: t, nc: srv.Conn(t), stream: stream, known: known}
	if _, err := r.nc.Subscribe("lagging."+stream, r.answer); err != nil {
		t.Fatal(err)
	}
	if err := r.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	srv.Divert("$JS.API.DIRECT.GET."+stream, "lagging."+stream)
}

type getRequest struct {
	Sequence  uint64   `json:"seq,omitempty"`
	Next      string   `json:"next_by_subj,omitempty"`
	Last      string   `json:"last_by_subj,omitempty"`
	MultiLast []string `json:"multi_last,omitempty"`
	Batch     int      `json:"batch,omitempty"`
}

// get asks the leader; nil if there is no such message, or the replica has it not yet.
func (r *lagging) get(g getRequest) (sequence uint64, msg *nats.Msg) {
	body, err := json.Marshal(g)
	if err != nil {
		r.t.Error(err)
	}
	answer, err := r.nc.Request("$JS.API.STREAM.MSG.GET."+r.stream, body, soon)
	if err != nil {
		r.t.Error(err)
		return 0, nil
	}
	var found struct {
		Message struct {
			Subject  string `json:"subject"`
			Sequence uint64 `json:"seq"`
			Data     string `json:"data"`
			Time     string `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(answer.Data, &found); err != nil {
		r.t.Error(err)
	}
	m := found.Message
	if m.Sequence == 0 || m.Sequence > r.known {
		return 0, nil
	}
	data, err := base64.StdEncoding.DecodeString(m.Data)
	if err != nil {
		r.t.Error(err)
	}
	return m.Sequence, &nats.Msg{Data: data, Header: nats.Header{
		"Nats-Subject": {m.Subject}, "Nats-Sequence": {strconv.FormatUint(m.Sequence, 10)}, "Nats-Time-Stamp": {m.Time},
	}}
}

func (r *lagging) answer(m *nats.Msg) {
	var g getRequest
	if err := json.Unmarshal(m.Data, &g); err != nil {
		r.t.Error(err)
	}
	send := func(out *nats.Msg) {
		if err := m.RespondMsg(out); err != nil {
			r.t.Error(err)
		}
	}
	if g.Batch == 0 && g.MultiLast == nil {
		if _, found := r.get(g); found != nil {
			send(found)
			return
		}
		send(&nats.Msg{Header: nats.Header{"Status": {"404"}}})
		return
	}
	filter := g.Next
	if g.MultiLast != nil {
		filter = g.MultiLast[0] // all of them: the last ones are among them
	}
	for from := max(g.Sequence, 1); ; {
		sequence, found := r.get(getRequest{Sequence: from, Next: filter})
		if found == nil {
			break
		}
		send(found)
		from = sequence + 1
	}
	send(&nats.Msg{Header: nats.Header{"Status": {"204"}, "Nats-Num-Pending": {"0"}}})
}

// What was acknowledged is seen by whoever must see all of it, also when a replica answers that does not have it yet:
// nothing is left unerased, no link and no method is left out, and nothing comes twice.
func TestReadsBehindALaggingReplica(t *testing.T) {
	t.Parallel()
	srv := eventlogtest.Start(t)
	l := eventlogtest.Open(t, srv.Conn(t))
	l.SetReplicated()
	a := events.CustomerID("a")
	appendCustomer(t, l, "a", 2)
	first, second := createCharge(t, l, "a", "k1"), createCharge(t, l, "a", "k2")
	lag(t, srv, "PAYKIT_LOG", first.Sequence)
	var revision uint64
	for i := range 4 {
		var err error
		if revision, err = l.PutProfile(t.Context(), a, eventlog.Profile{Name: new(fmt.Sprint("canary-name-", i))}, revision); err != nil {
			t.Fatal(err)
		}
	}
	lag(t, srv, "PAYKIT_PROFILES", 1)
	for i := range 3 {
		d := eventlog.Delivery{ProviderID: "stripe", EventID: fmt.Sprint("evt_", i), ProviderCustomerID: "cus_a", Body: fmt.Append(nil, "canary-evt-", i)}
		if stored, err := l.StoreDelivery(t.Context(), d); err != nil || !stored {
			t.Fatal(stored, err)
		}
		if stored, err := l.StoreDelivery(t.Context(), d); err != nil || stored {
			t.Errorf("a duplicate: %v, %v", stored, err)
		}
		if err := l.Bury(t.Context(), eventlog.DeadLetter{Stage: "worker", ID: fmt.Sprint(i), CustomerID: a, At: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	lag(t, srv, "PAYKIT_INBOX", 2)
	lag(t, srv, "PAYKIT_DEAD", 0)
	link := eventlog.Link{Entity: events.EntityCharge, ID: first.Event.Subject}
	lag(t, srv, "PAYKIT_LINKS", 0)
	if err := l.PutLink(t.Context(), "stripe", "pi_1", link); err != nil {
		t.Fatal(err)
	}

	last := fmt.Appendf(nil, `{"last_by_subj":"paykit.log.charge.*.%s.*"}`, second.Event.Subject)
	if m, err := srv.Conn(t).Request("$JS.API.DIRECT.GET.PAYKIT_LOG", last, soon); err != nil || m.Header.Get("Status") != "404" {
		t.Fatalf("the replica does not lag: %+v, %v", m, err)
	}
	if e, err := l.Load(t.Context(), events.EntityCharge, second.Event.Subject); err != nil || e.Sequence != second.Sequence {
		t.Errorf("what the replica does not have yet is %+v, %v: not the leader's word", e, err)
	}
	if n, err := l.EraseProfiles(t.Context(), a, revision+1); err != nil || n != 4 {
		t.Errorf("erased %d profiles of 4, %v", n, err)
	}
	var seen []string
	err := l.WalkDeliveries(t.Context(), "stripe", "cus_a", func(d eventlog.StoredDelivery) (bool, error) {
		seen = append(seen, string(d.Body))
		return true, nil
	})
	if err != nil || fmt.Sprint(seen) != "[canary-evt-0 canary-evt-1 canary-evt-2]" {
		t.Errorf("deliveries %v, %v", seen, err)
	}
	if inFiles(t, srv, "canary") {
		t.Error("bytes are left")
	}
	if dead, err := l.DeadLetters(t.Context(), a); err != nil || len(dead) != 3 {
		t.Errorf("%d dead letters of 3, %v", len(dead), err)
	}
	if got, err := l.Link(t.Context(), "stripe", "pi_1"); err != nil || got != link {
		t.Errorf("link %+v, %v", got, err)
	}
	if e, err := l.Read(t.Context(), second.Sequence); err != nil || e.Sequence != second.Sequence {
		t.Errorf("read %d, %v", e.Sequence, err)
	}
	list, err := l.History(t.Context(), eventlog.HistoryFilter{CustomerID: a}, 0, 100)
	if err != nil || len(list) != 4 || list[3].Sequence != second.Sequence {
		t.Errorf("history of %d events, %v", len(list), err)
	}
	latest, err := l.Latest(t.Context(), events.EntityCharge, a)
	if err != nil || len(latest) != 2 || latest[1].Sequence != second.Sequence {
		t.Errorf("latest %+v, %v", latest, err)
	}
	if _, appended, err := l.Update(t.Context(), events.EntityCustomer, a, syncCustomer("a", "cmd_x")); err != nil || !appended {
		t.Errorf("update: %v, %v", appended, err)
	}
	checkChain(t, l)
}

// A guard that is lost to a copy which is still being stored is no duplicate: that copy may yet fail.
func TestDuplicateOfNothing(t *testing.T) {
	t.Parallel()
	srv := eventlogtest.Start(t)
	l := eventlogtest.Open(t, srv.Conn(t))
	l.SetReplicated()
	d := eventlog.Delivery{ProviderID: "stripe", EventID: "evt_1", Body: []byte("{}")}
	if stored, err := l.StoreDelivery(t.Context(), d); err != nil || !stored {
		t.Fatal(stored, err)
	}
	srv.Divert("$JS.API.STREAM.MSG.GET.PAYKIT_INBOX", "leader") // the server has it, its leader not yet
	sub, err := l.Conn().Subscribe("leader", func(m *nats.Msg) {
		if err := m.Respond([]byte(`{"error":{"code":404,"err_code":10037,"description":"no message found"}}`)); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if stored, err := l.StoreDelivery(t.Context(), d); stored || !errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("stored %v, %v", stored, err)
	}
	if err := sub.Unsubscribe(); err != nil {
		t.Error(err)
	}
}
