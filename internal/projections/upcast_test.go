package projections

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
	"github.com/paykit-go/paykit/internal/verify"
)

// later is a program's table in which charges are of version 2: what was their description is their purpose, and the
// description is made of it.
func later() events.Upcasters {
	return events.Upcasters{events.EntityCharge: {func(data json.RawMessage) (json.RawMessage, error) {
		var d, charge map[string]json.RawMessage
		if err := json.Unmarshal(data, &d); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(d["charge"], &charge); err != nil {
			return nil, err
		}
		charge["description"] = json.RawMessage(`"upcast ` + strings.Trim(string(charge["description"]), `"`) + `"`)
		var err error
		if d["charge"], err = json.Marshal(charge); err != nil {
			return nil, err
		}
		return json.Marshal(d)
	}}}
}

// TestOldEventsAreMadeNew: a program that knows a later schema projects, rebuilds, answers and verifies a log of both; one
// that does not know it stops at its first event.
func TestOldEventsAreMadeNew(t *testing.T) {
	t.Parallel()
	now := eventlogtest.Provisioned(t)
	then, err := eventlog.Open(t.Context(), now.Conn(), eventlog.Config{Upcasters: later()})
	if err != nil {
		t.Fatal(err)
	}
	l := newLive(t, now)
	customer, _ := l.sync("ada", "ada@example.com")
	old, last := l.charge(customer, "old")
	var status Result
	p := startProjector(t, then, t.TempDir())
	waitSequence(t, p, last)
	description := func(id string) string {
		var c events.Charge
		ask(t, now.Conn(), "charge.get", fields{"chargeId": id}, last).into(t, &c)
		return c.Description
	}
	if got := description(old); got != "upcast Pro" {
		t.Errorf("an old charge is shown as %q", got)
	}
	written := newLive(t, then)
	written.now = l.now.Add(time.Second)
	id := events.ChargeID("new")
	ev, err := events.DecideCharge(nil, events.CreateCharge{ID: id, ProviderID: "stripe", Amount: 100, Currency: "usd", Description: "Pro"}, written.cause(customer, "ada"))
	if err != nil {
		t.Fatal(err)
	}
	ev.DataSchema = later().Schema(events.EntityCharge)
	if last, err = then.Append(t.Context(), ev, 0); err != nil {
		t.Fatal(err)
	}
	waitSequence(t, p, last)
	if got := description(id); got != "Pro" {
		t.Errorf("a new charge is shown as %q", got)
	}
	ask(t, now.Conn(), "view.status", "", last).into(t, &status)
	again, err := Rebuild(t.Context(), then, t.TempDir(), RebuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sameViews(t, "rebuild", again, status)
	report, err := verify.Log(t.Context(), then, verify.Options{})
	if err != nil || !report.OK || report.Events != last {
		t.Errorf("verify: %+v, %v", report, err)
	}

	if _, err := Rebuild(t.Context(), now, t.TempDir(), RebuildOptions{}); !errors.Is(err, events.ErrUnknownSchema) {
		t.Errorf("a program that does not know the schema: %v", err)
	}
	report, err = verify.Log(t.Context(), now, verify.Options{})
	if err != nil || report.OK || len(report.Problems) != 1 || report.Problems[0].Sequence != last || report.Problems[0].ID != id {
		t.Errorf("verify without the table: %+v, %v", report, err)
	}
}
