package verify_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
	"github.com/paykit-go/paykit/internal/verify"
)

// foreignLog makes the LOG's stream as somebody else would, without what denies deletion.
func foreignLog(t *testing.T, nc *nats.Conn) {
	t.Helper()
	request(t, nc, "$JS.API.STREAM.CREATE.PAYKIT_LOG", []byte(`{"name":"PAYKIT_LOG","subjects":["paykit.log.*.*.*.*"],"storage":"file",
		"retention":"limits","discard":"new","max_msgs":-1,"max_bytes":-1,"max_age":0,"max_consumers":-1,"max_msg_size":-1,"max_msgs_per_subject":-1,
		"num_replicas":1,"allow_direct":true,"metadata":{"paykit_env":"env_elsewhere"},
		"republish":{"src":"paykit.log.*.*.*.*","dest":"paykit.events.{{wildcard(1)}}.{{wildcard(2)}}.{{wildcard(4)}}"}}`))
}

// check brings a foreign log under our settings and verifies it.
func check(t *testing.T, nc *nats.Conn) *verify.Report {
	t.Helper()
	report, err := verify.Log(t.Context(), eventlogtest.Open(t, nc), verify.Options{Patience: soon / 40})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// charged writes a customer with a charge that succeeded and gives what is stored, in order.
func charged(t *testing.T, nc *nats.Conn, name string) *story {
	t.Helper()
	s := newStory(t, nc, name)
	s.keep(events.DecideCustomer(nil, events.SyncCustomer{ReferenceID: name, Revision: 1, Changed: []string{"email"}}, s.cause()))
	id := s.chargeID()
	for _, in := range []events.ChargeInput{
		events.CreateCharge{ID: id, ProviderID: provider, Amount: 1900, Currency: "usd", Description: "March", CommandDigest: events.Digest([]byte(name))},
		payment(id, events.PaymentRequiresConfirmation), payment(id, events.PaymentSucceeded),
	} {
		s.keep(events.DecideCharge(s.last[id], in, s.cause()))
	}
	return s
}

func payment(id string, status events.PaymentStatus) events.PaymentObserved {
	return events.PaymentObserved{ID: id, ProviderID: provider, Payment: events.Payment{
		ID: "pi_" + id, ChargeID: "ch_" + id, Status: status, Amount: 1900, Currency: "usd",
	}}
}

func problems(r *verify.Report) string {
	b, _ := json.Marshal(r.Problems) //nolint:errchkjson // for a reader
	return string(b)
}

// A message that an administrator deleted from a stream that let him is missing, and the entity is named whose chain it breaks.
func TestDeletedMessage(t *testing.T) {
	t.Parallel()
	nc := eventlogtest.Start(t).Conn(t)
	foreignLog(t, nc)
	charged(t, nc, "ada")
	bob := charged(t, nc, "bob")
	request(t, nc, "$JS.API.STREAM.MSG.DELETE.PAYKIT_LOG", []byte(`{"seq":7}`)) // bob's charge.processing
	r := check(t, nc)
	if r.OK || !slices.ContainsFunc(r.Problems, func(p verify.Problem) bool { return p.Sequence == 7 && strings.Contains(p.Problem, "missing") }) {
		t.Errorf("the hole is not reported: %s", problems(r))
	}
	if !slices.ContainsFunc(r.Problems, func(p verify.Problem) bool {
		return p.ID == bob.chargeID() && strings.Contains(p.Problem, "entityversion")
	}) {
		t.Errorf("whose it was is not said: %s", problems(r))
	}
	for _, p := range r.Problems {
		if p.Sequence <= 4 {
			t.Errorf("a sound entity is reported: %+v", p)
		}
	}
}

// A copy of a log, made elsewhere with one event changed, or with the last ones left out, or with white space and unknown fields.
func TestCopiesMadeElsewhere(t *testing.T) {
	t.Parallel()
	source := eventlogtest.Start(t).Conn(t)
	log := eventlogtest.Open(t, source)
	ada := charged(t, source, "ada")
	var stored []eventlog.Stored
	if err := log.Range(t.Context(), eventlog.HistoryFilter{}, 1, 4, func(m eventlog.Stored) error { stored = append(stored, m); return nil }); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(i int, raw []byte) []byte
		want   string // of a problem with ada's charge; "" = none
		at     uint64
	}{
		"unchanged": {func(_ int, raw []byte) []byte { return raw }, "", 0},
		"an amount": {func(i int, raw []byte) []byte {
			if i == 2 {
				return bytes.ReplaceAll(raw, []byte("1900"), []byte("1901"))
			}
			return raw
		}, "previousdigest is not of the event at sequence 3", 4},
		"white space after it was stored": {func(i int, raw []byte) []byte {
			if i == 1 {
				return append(raw, ' ')
			}
			return raw
		}, "previousdigest is not of the event at sequence 2", 3},
		"the second left out": {func(i int, raw []byte) []byte {
			if i == 2 {
				return nil
			}
			return raw
		}, "entityversion is 3 after 1", 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nc := eventlogtest.Start(t).Conn(t)
			foreignLog(t, nc)
			for i, m := range stored {
				if raw := tc.change(i, bytes.Clone(m.Raw)); raw != nil {
					request(t, nc, m.Subject, raw)
				}
			}
			r := check(t, nc)
			if tc.want == "" {
				if !r.OK || r.Events != 4 {
					t.Errorf("%+v", r)
				}
				return
			}
			if r.OK || !slices.ContainsFunc(r.Problems, func(p verify.Problem) bool {
				return p.ID == ada.chargeID() && p.Sequence == tc.at && strings.Contains(p.Problem, tc.want)
			}) {
				t.Errorf("not reported: %s", problems(r))
			}
		})
	}
}

// A log that another program wrote, with white space in its JSON and fields that we do not know, is whole.
func TestLogWithForeignJSON(t *testing.T) {
	t.Parallel()
	nc := eventlogtest.Start(t).Conn(t)
	foreignLog(t, nc)
	s := newStory(t, nc, "ada")
	foreign := func(e *events.Event, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		b, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		var wide bytes.Buffer
		if err := json.Indent(&wide, b, " ", "\t"); err != nil {
			t.Fatal(err)
		}
		raw := bytes.Replace(wide.Bytes(), []byte("{"), []byte(`{ "traceparent" : "00-1", "extra": {"data": [1, {"charge": null}]} ,`), 1)
		s.store(subject(e), raw)
		s.remember(raw)
	}
	foreign(events.DecideCustomer(nil, events.SyncCustomer{ReferenceID: "ada", Revision: 1, Changed: []string{"email"}}, s.cause()))
	id := s.chargeID()
	for _, in := range []events.ChargeInput{
		events.CreateCharge{ID: id, ProviderID: provider, Amount: 1900, Currency: "usd", Description: "March", CommandDigest: "sha256:aa"},
		payment(id, events.PaymentSucceeded),
	} {
		foreign(events.DecideCharge(s.last[id], in, s.cause()))
	}
	if r := check(t, nc); !r.OK || r.Events != 3 || r.Entities != 2 {
		t.Errorf("%+v", r)
	}
}

// A bit that flips in the stream's own file on disk, anywhere in an event, is reported: the server gives the message no more, or
// what it gives is not what was stored.
func TestFlippedBitInTheStreamsFile(t *testing.T) {
	t.Parallel()
	server := eventlogtest.Start(t)
	nc := server.Conn(t)
	eventlogtest.Open(t, nc)
	for i := range 3 {
		charged(t, nc, fmt.Sprintf("user_%d", i))
	}
	server.Stop()
	blocks, err := filepath.Glob(filepath.Join(server.StoreDir, "jetstream", "*", "streams", "PAYKIT_LOG", "msgs", "*.blk"))
	if err != nil || len(blocks) == 0 {
		t.Fatalf("the stream's blocks: %v, %v", blocks, err)
	}
	b, err := os.ReadFile(blocks[0])
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, []byte(`"amount":1900`))
	if at < 0 {
		t.Fatal("no event in the block")
	}
	b[at+len(`"amount":19`)] ^= 1
	if err := os.WriteFile(blocks[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	server.Resume()
	r := check(t, server.Conn(t))
	if r.OK || len(r.Problems) == 0 {
		t.Errorf("%+v", r)
	}
	t.Logf("%d events up to %d: %s", r.Events, r.LastSequence, problems(r))
}

// A server whose index is gone reads a stream's files up to the first damage, and goes on with what stands before it. The log
// looks whole then; a link leads to what is gone.
func TestLogThatLostItsEnd(t *testing.T) {
	t.Parallel()
	server := eventlogtest.Start(t)
	nc := server.Conn(t)
	log := eventlogtest.Open(t, nc)
	for i := range 3 {
		s := charged(t, nc, fmt.Sprintf("user_%d", i))
		charge := s.chargeID()
		err := log.PutLink(t.Context(), provider, "pi_"+charge, eventlog.Link{Entity: events.EntityCharge, ID: charge, CustomerID: events.CustomerID(fmt.Sprintf("user_%d", i))})
		if err != nil {
			t.Fatal(err)
		}
	}
	sound, err := verify.Log(t.Context(), log, verify.Options{Grace: time.Nanosecond})
	if err != nil || !sound.OK {
		t.Fatalf("%s, %v", problems(sound), err)
	}
	server.Stop()
	folder := filepath.Join(server.StoreDir, "jetstream", "*", "streams", "PAYKIT_LOG", "msgs")
	blocks, err := filepath.Glob(filepath.Join(folder, "*.blk"))
	if err != nil || len(blocks) != 1 {
		t.Fatalf("the stream's blocks: %v, %v", blocks, err)
	}
	b, err := os.ReadFile(blocks[0])
	if err != nil {
		t.Fatal(err)
	}
	b[bytes.LastIndex(b, []byte(`"type":"customer.created"`))] ^= 1
	if err := os.WriteFile(blocks[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	index, err := filepath.Glob(filepath.Join(folder, "index.db"))
	if err != nil || len(index) != 1 {
		t.Fatalf("the stream's index: %v, %v", index, err)
	}
	if err := os.Remove(index[0]); err != nil {
		t.Fatal(err)
	}
	server.Resume()
	r, err := verify.Log(t.Context(), eventlogtest.Open(t, server.Conn(t)), verify.Options{Grace: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	if r.LastSequence >= sound.LastSequence {
		t.Fatalf("the server kept %d of %d events: nothing is tested", r.LastSequence, sound.LastSequence)
	}
	lost := 0
	for _, p := range r.Problems {
		if p.Entity == string(events.EntityCharge) && strings.HasPrefix(p.Problem, "lost: a link") {
			lost++
		}
	}
	if r.OK || lost != 1 {
		t.Errorf("the log lost its last charge: %s", problems(r))
	}
}
