package eventlog_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

// appendAt appends an event of a customer that was decided at a time.
func appendAt(t *testing.T, l *eventlog.Log, ref string, at time.Time) eventlog.Entry {
	t.Helper()
	e, _, err := l.Update(t.Context(), events.EntityCustomer, events.CustomerID(ref), func(last *events.Event) (*events.Event, error) {
		return events.DecideCustomer(last, events.SyncCustomer{ReferenceID: ref, Revision: 1, Changed: []string{"email"}},
			events.Cause{Now: at, Source: "/paykit/test", CommandID: events.CommandID(ref, at.String())})
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestSequenceAt: a time is the last event decided by then, wherever in the log; what comes later never changes that, and
// clocks that differ change it by no more than they differ.
func TestSequenceAt(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	start := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC) // long before the stream stored them
	if at, err := l.SequenceAt(t.Context(), time.Now()); at != 0 || err != nil {
		t.Errorf("of an empty log: %d, %v", at, err)
	}
	answered := map[time.Time]uint64{}
	for i := range 41 {
		appendAt(t, l, fmt.Sprint("user_", i%7), start.Add(time.Duration(i)*time.Minute))
		for n := range i + 1 {
			for _, after := range []time.Duration{0, 30 * time.Second} {
				point := start.Add(time.Duration(n)*time.Minute + after)
				if i%10 != 0 {
					continue
				}
				got, err := l.SequenceAt(t.Context(), point)
				if err != nil || got != uint64(n)+1 {
					t.Fatalf("%d events, at %s: %d, %v, want %d", i+1, point, got, err, n+1)
				}
				answered[point] = got
			}
		}
	}
	if at, err := l.SequenceAt(t.Context(), start.Add(-time.Millisecond)); at != 0 || err != nil {
		t.Errorf("before the first event: %d, %v", at, err)
	}
	// From another process whose clock is 90 s behind.
	for i := range 20 {
		appendAt(t, l, fmt.Sprint("late_", i), start.Add(41*time.Minute+time.Duration(i)*time.Minute-90*time.Second))
		appendAt(t, l, fmt.Sprint("user_", i%7), start.Add(41*time.Minute+time.Duration(i)*time.Minute))
	}
	for point, want := range answered {
		if point.After(start.Add(39 * time.Minute)) {
			continue
		}
		if got, err := l.SequenceAt(t.Context(), point); got != want || err != nil {
			t.Errorf("at %s: %d, %v, before it was %d", point, got, err, want)
		}
	}
	for i := range uint64(20) {
		point := start.Add(41*time.Minute + time.Duration(i)*time.Minute)
		got, err := l.SequenceAt(t.Context(), point)
		if want := 41 + 2*i + 2; err != nil || got < want-4 || got > want+4 {
			t.Errorf("with clocks apart, at %s: %d, %v, want about %d", point, got, err, want)
		}
	}
}

// TestRangeAndLoadAt: a stretch of the log comes whole and in order, and an entity is what it was at a sequence.
func TestRangeAndLoadAt(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	var all []eventlog.Entry
	for i := range 700 { // more than one batch
		all = append(all, appendCustomer(t, l, fmt.Sprint("user_", i%50), 1))
	}
	all = append(all, createCharge(t, l, "user_1", "one"))
	last := uint64(len(all))
	want := uint64(3)
	err := l.Range(t.Context(), eventlog.HistoryFilter{}, 3, last-1, func(s eventlog.Stored) error {
		if s.Sequence != want || string(s.Raw) != string(all[want-1].Raw) {
			t.Errorf("%d came where %d was expected", s.Sequence, want)
		}
		want++
		return nil
	})
	if err != nil || want != last {
		t.Errorf("read up to %d, %v, want %d", want-1, err, last-1)
	}
	var gap *eventlog.GapError
	err = l.Range(t.Context(), eventlog.HistoryFilter{}, 1, last+1, func(eventlog.Stored) error { return nil })
	if !errors.As(err, &gap) || gap.Want != last+1 {
		t.Errorf("beyond the end: %v", err)
	}
	n := 0
	err = l.Range(t.Context(), eventlog.HistoryFilter{CustomerID: events.CustomerID("user_1")}, 0, last, func(s eventlog.Stored) error {
		e, err := s.Entry()
		if err == nil && e.Event.CustomerID() != events.CustomerID("user_1") {
			t.Errorf("an event of %s", e.Event.CustomerID())
		}
		n++
		return err
	})
	if err != nil || n != 15 {
		t.Errorf("%d events of one customer, %v", n, err)
	}
	stop := errors.New("stop")
	if err := l.Range(t.Context(), eventlog.HistoryFilter{}, 1, last, func(eventlog.Stored) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("ended with %v", err)
	}
	id := events.CustomerID("user_7")
	for sequence := uint64(1); sequence < last; sequence += 37 {
		e, err := l.LoadAt(t.Context(), events.EntityCustomer, id, sequence)
		if sequence < 8 {
			if !errors.Is(err, eventlog.ErrNotFound) {
				t.Errorf("at %d, before it was: %v", sequence, err)
			}
			continue
		}
		if want := 8 + (sequence-8)/50*50; err != nil || e.Sequence != want {
			t.Errorf("at %d: %d, %v, want %d", sequence, e.Sequence, err, want)
		}
	}
	if _, err := l.LoadAt(t.Context(), events.EntityCustomer, id, 0); !errors.Is(err, eventlog.ErrNotFound) {
		t.Errorf("at the beginning: %v", err)
	}
}
