package projections

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

// TestShadow: a shadow with other views runs beside the live projector, differences are listed, and the switch leaves the live
// one answering from the shadow's.
func TestShadow(t *testing.T) {
	t.Parallel()
	log := eventlogtest.Provisioned(t)
	l := newLive(t, log)
	customer, _ := l.sync("ada", "ada@example.com")
	charge, _ := l.charge(customer, "one")
	dir := t.TempDir()
	p := startProjector(t, log, dir)
	if _, err := ShadowSwitch(t.Context(), log, dir, time.Second); err == nil {
		t.Error("switched without a shadow")
	}
	later, err := eventlog.Open(t.Context(), log.Conn(), eventlog.Config{Upcasters: later()})
	if err != nil {
		t.Fatal(err)
	}
	shadow, err := Open(dir, later, Config{Shadow: true})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- shadow.Run(t.Context()) }()
	waitReady(t, shadow)
	second, last := l.charge(customer, "two")
	waitSequence(t, p, last)
	// The upcast description would come up in one answer of two, if the shadow answered too.
	for range 30 {
		var c events.Charge
		ask(t, log.Conn(), "charge.get", fields{"chargeId": charge}, last).into(t, &c)
		if strings.HasPrefix(c.Description, "upcast") {
			t.Fatal("the shadow answers queries")
		}
	}
	var found []Difference
	at, err := ShadowDiff(t.Context(), later, dir, 0, func(d Difference) error { found = append(found, d); return nil })
	if err != nil || at < last {
		t.Fatalf("compared at %d, %v", at, err)
	}
	want := map[string]bool{charge: true, second: true}
	for _, d := range found {
		if d.View != "charges" || !want[d.ID] || d.Only != "" || fmt.Sprint(d.Differs) != "[description]" {
			t.Errorf("difference %+v", d)
		}
		delete(want, d.ID)
	}
	if len(want) > 0 {
		t.Errorf("no difference in %v", want)
	}
	h, err := ShadowSwitch(t.Context(), log, dir, 0)
	if err != nil || h.Outcome != HandoverTaken || !h.Differs {
		t.Fatalf("switch: %+v, %v", h, err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the shadow ended with %v", err)
	}
	if err := shadow.Ready(); err == nil || !strings.Contains(err.Error(), "handed over") {
		t.Errorf("the shadow is %v", err)
	}
	if err := shadow.Close(); err != nil {
		t.Error(err)
	}
	var c events.Charge
	ask(t, log.Conn(), "charge.get", fields{"chargeId": charge}, last).into(t, &c)
	if c.Description != "upcast Pro" {
		t.Errorf("after the switch the charge is %q", c.Description)
	}
	if names := filesIn(t, dir); len(names) != 2 || !strings.HasPrefix(names[1], FileName+".differs-") {
		t.Errorf("files %v", names)
	}
}

// TestDifferences lists rows that only one side has, and what the two sides of a row do not share.
func TestDifferences(t *testing.T) {
	t.Parallel()
	entries := randomHistory(t, 46, 60)
	dir := t.TempDir()
	here, there := openTestStore(t, filepath.Join(dir, "a")), openTestStore(t, filepath.Join(dir, "b"))
	defer closeStore(t, here)
	defer closeStore(t, there)
	if err := errors.Join(applyAll(here, entries), applyAll(there, entries[:len(entries)-20])); err != nil {
		t.Fatal(err)
	}
	list := func(was, is *store) (found []Difference) {
		err := was.view(func(was *bbolt.Tx) error {
			return is.view(func(is *bbolt.Tx) error {
				return differences(t.Context(), was, is, func(d Difference) error { found = append(found, d); return nil })
			})
		})
		if err != nil {
			t.Error(err)
		}
		return found
	}
	if found := list(here, here); len(found) > 0 {
		t.Errorf("of the same views: %v", found)
	}
	want := map[string]bool{}
	for _, e := range entries[len(entries)-20:] {
		if e.Event.Entity() != events.EntityCommand {
			want[e.Event.Subject] = true
		}
	}
	found, back := list(here, there), list(there, here)
	if len(found) != len(want) || len(back) != len(want) {
		t.Errorf("%d differences, %d the other way, of %d entities", len(found), len(back), len(want))
	}
	only := 0
	for i, d := range found {
		if d.Only != "" {
			only++
			if d.Only != "live" || back[i].Only != "shadow" {
				t.Errorf("%+v and %+v", d, back[i])
			}
		} else if len(d.Differs) == 0 || d.Differs[0] != "(place)" {
			t.Errorf("%+v", d)
		}
	}
	if only == 0 || only == len(found) {
		t.Errorf("%d of %d rows are on one side only: it proves little", only, len(found))
	}
}
