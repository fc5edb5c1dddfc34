package eventlog_test

import (
	"errors"
	"testing"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

// What a caller knows is believed only as far as the guard proves it: an entity that has moved on is read and decided on again.
func TestUpdateFromWhatIsKnown(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	id := events.CustomerID("a")
	first, appended, err := l.UpdateFrom(t.Context(), events.EntityCustomer, id, eventlog.Entry{}, syncCustomer("a", "cmd_1"))
	if err != nil || !appended || first.Sequence != 1 {
		t.Fatalf("%+v, %v, %v", first, appended, err)
	}
	second, appended, err := l.UpdateFrom(t.Context(), events.EntityCustomer, id, first, syncCustomer("a", "cmd_2"))
	if err != nil || !appended || second.Sequence != 2 || second.Event.PreviousDigest != first.Event.Digest() {
		t.Fatalf("%+v, %v, %v", second, appended, err)
	}
	for name, known := range map[string]eventlog.Entry{"an older event": first, "nothing": {}} {
		e, appended, err := l.UpdateFrom(t.Context(), events.EntityCustomer, id, known, syncCustomer("a", "cmd_2"))
		if err != nil || appended || e.Sequence != 2 {
			t.Errorf("repeated, known was %s: %+v, %v, %v; want what is there", name, e, appended, err)
		}
	}
	third, appended, err := l.UpdateFrom(t.Context(), events.EntityCustomer, id, first, syncCustomer("a", "cmd_3"))
	if err != nil || !appended || third.Event.PreviousDigest != second.Event.Digest() || third.Event.EntityVersion != 3 {
		t.Errorf("%+v, %v, %v; want it behind the last event", third, appended, err)
	}
	refusal := &events.Error{Code: events.CodeCustomerNotFound}
	_, _, err = l.UpdateFrom(t.Context(), events.EntityCustomer, id, eventlog.Entry{}, func(last *events.Event) (*events.Event, error) {
		if last == nil {
			return nil, refusal
		}
		return nil, nil
	})
	if err != nil {
		t.Errorf("refused for what was known and is not so: %v", err)
	}
	_, _, err = l.UpdateFrom(t.Context(), events.EntityCustomer, id, third, func(*events.Event) (*events.Event, error) { return nil, refusal })
	if !errors.Is(err, refusal) {
		t.Errorf("got %v, want the refusal", err)
	}
	checkChain(t, l)
}
