package commands

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// sync carries out customer.sync and answers what it says.
func (x *harness) sync(body string) events.CustomerResult {
	x.tb.Helper()
	return decoded[events.CustomerResult](x.tb, x.run("customer.sync", body, Meta{}))
}

// profile is the customer's newest revision.
func (x *harness) profile(id string) eventlog.Revision {
	x.tb.Helper()
	r, err := x.log.Profile(x.tb.Context(), id)
	if err != nil {
		x.tb.Fatal(err)
	}
	return r
}

// revisions is how many revisions of the profile there are: erasing all before a far sequence would say, so each is
// looked at by its sequence.
func (x *harness) revisions(upTo uint64) []uint64 {
	x.tb.Helper()
	var there []uint64
	for seq := uint64(1); seq <= upTo; seq++ {
		_, err := x.log.ProfileAt(x.tb.Context(), seq)
		switch {
		case err == nil:
			there = append(there, seq)
		case !errors.Is(err, eventlog.ErrNotFound):
			x.tb.Fatal(err)
		}
	}
	return there
}

func TestCustomerSync(t *testing.T) {
	x := newHarness(t)
	id := events.CustomerID("user_1")

	r := x.run("customer.sync", `{"referenceId":"user_1"}`, Meta{})
	first := decoded[map[string]any](t, r)
	want := map[string]any{
		"id": id, "referenceId": "user_1", "email": nil, "name": nil, "metadata": map[string]any{}, "providerAccounts": []any{},
		"createdAt": first["createdAt"], "updatedAt": first["createdAt"], "deletedAt": nil,
	}
	if d := cmp.Diff(want, first); d != "" {
		t.Errorf("first sync (-want +got):\n%s", d)
	}
	if at, err := time.Parse(time.RFC3339, fmt.Sprint(first["createdAt"])); err != nil || at.Location() != time.UTC {
		t.Errorf("createdAt is %v", first["createdAt"])
	}
	if r.Sequence != x.last() {
		t.Errorf("sequence %d, want %d", r.Sequence, x.last())
	}

	for _, step := range []struct {
		body     string
		email    *string
		name     *string
		metadata map[string]string
		changed  []string // nil = no event
	}{
		{`{"referenceId":"user_1","email":"a@x.example","name":"A","metadata":{"k":"v"}}`, new("a@x.example"), new("A"), map[string]string{"k": "v"}, []string{"email", "name", "metadata"}},
		{`{"referenceId":"user_1"}`, new("a@x.example"), new("A"), map[string]string{"k": "v"}, nil},
		{`{"referenceId":"user_1","email":"a@x.example","name":"A","metadata":{"k":"v"}}`, new("a@x.example"), new("A"), map[string]string{"k": "v"}, nil},
		{`{"referenceId":"user_1","name":"B"}`, new("a@x.example"), new("B"), map[string]string{"k": "v"}, []string{"name"}},
		{`{"referenceId":"user_1","email":null}`, nil, new("B"), map[string]string{"k": "v"}, []string{"email"}},
		{`{"referenceId":"user_1","email":null}`, nil, new("B"), map[string]string{"k": "v"}, nil},
		{`{"referenceId":"user_1","metadata":{"l":"w"}}`, nil, new("B"), map[string]string{"l": "w"}, []string{"metadata"}},
		{`{"referenceId":"user_1","metadata":null,"name":null}`, nil, nil, map[string]string{}, []string{"name", "metadata"}},
		{`{"referenceId":"user_1","metadata":{}}`, nil, nil, map[string]string{}, nil},
	} {
		before, was := x.last(), x.profile(id).Sequence
		r := x.run("customer.sync", step.body, Meta{})
		c := decoded[events.CustomerResult](t, r)
		if d := cmp.Diff([]any{step.email, step.name, step.metadata}, []any{c.Email, c.Name, c.Metadata}); d != "" {
			t.Errorf("%s (-want +got):\n%s", step.body, d)
		}
		e := x.load(events.EntityCustomer, id)
		revision := x.profile(id).Sequence
		if step.changed == nil {
			if x.last() != before || revision != was {
				t.Errorf("%s: nothing changed, and yet something was stored", step.body)
			}
		} else if !slices.Equal(e.Data.Changed, step.changed) || x.last() != before+1 {
			t.Errorf("%s: changed %v, want %v", step.body, e.Data.Changed, step.changed)
		}
		if e.Data.Customer.ProfileRevision != revision {
			t.Errorf("%s: the event announces revision %d, the newest is %d", step.body, e.Data.Customer.ProfileRevision, revision)
		}
		if there := x.revisions(revision); !slices.Equal(there, []uint64{revision}) {
			t.Errorf("%s: revisions %v are there, want only %d", step.body, there, revision)
		}
		if r.Sequence != x.last() {
			t.Errorf("%s: sequence %d, want %d", step.body, r.Sequence, x.last())
		}
	}
}

// TestCustomerSyncAfterACrash stops the command at each of its steps, as a crash would, and repeats it.
func TestCustomerSyncAfterACrash(t *testing.T) {
	x := newHarness(t)
	ctx := t.Context()
	put := func(id string, p eventlog.Profile) uint64 {
		t.Helper()
		last := uint64(0)
		if r, err := x.log.Profile(ctx, id); err == nil {
			last = r.Sequence
		}
		seq, err := x.log.PutProfile(ctx, id, p, last)
		if err != nil {
			t.Fatal(err)
		}
		return seq
	}
	bob := eventlog.Profile{Email: new("bob@x.example"), Metadata: map[string]string{}}

	t.Run("first sync, after the revision", func(t *testing.T) {
		id := events.CustomerID("crash_1")
		revision := put(id, bob)
		c := x.sync(`{"referenceId":"crash_1","email":"bob@x.example"}`)
		e := x.load(events.EntityCustomer, id)
		if e.Type != events.CustomerCreated || e.Data.Customer.ProfileRevision != revision || !slices.Equal(e.Data.Changed, []string{"email"}) {
			t.Errorf("got %s with revision %d, changed %v", e.Type, e.Data.Customer.ProfileRevision, e.Data.Changed)
		}
		if c.Email == nil || *c.Email != "bob@x.example" {
			t.Errorf("got %+v", c)
		}
	})
	t.Run("later sync, after the revision", func(t *testing.T) {
		id := x.customer("crash_2")
		revision := put(id, bob)
		x.sync(`{"referenceId":"crash_2","email":"bob@x.example"}`)
		e := x.load(events.EntityCustomer, id)
		if e.EntityVersion != 2 || e.Data.Customer.ProfileRevision != revision || !slices.Equal(e.Data.Changed, []string{"email"}) {
			t.Errorf("got version %d with revision %d, changed %v", e.EntityVersion, e.Data.Customer.ProfileRevision, e.Data.Changed)
		}
		if there := x.revisions(revision); slices.Contains(there, revision-1) {
			t.Error("the older revision is still there")
		}
	})
	t.Run("after the revision, never repeated, another sync comes", func(t *testing.T) {
		id := x.customer("crash_3")
		put(id, bob)
		c := x.sync(`{"referenceId":"crash_3","name":"B"}`)
		e := x.load(events.EntityCustomer, id)
		if !slices.Equal(e.Data.Changed, []string{"email", "name"}) || c.Email == nil || c.Name == nil {
			t.Errorf("got %+v, changed %v", c, e.Data.Changed)
		}
	})
	t.Run("after the revision, never repeated, it is taken back", func(t *testing.T) {
		id := x.customer("crash_4")
		put(id, bob)
		c := x.sync(`{"referenceId":"crash_4","email":null}`)
		e := x.load(events.EntityCustomer, id)
		// The provider may have been told of the revision that nobody announced, so it is told of its end.
		if e.EntityVersion != 2 || c.Email != nil || x.profile(id).Sequence != e.Data.Customer.ProfileRevision {
			t.Errorf("got version %d, %+v", e.EntityVersion, c)
		}
	})
	t.Run("after the event, before the older ones are erased", func(t *testing.T) {
		id := x.customer("crash_5")
		old := x.profile(id).Sequence
		revision := put(id, bob)
		x.append(events.EntityCustomer, id, func(last *events.Event, c events.Cause) (*events.Event, error) {
			return events.DecideCustomer(last, events.SyncCustomer{ReferenceID: "crash_5", Revision: revision, Changed: []string{"email"}}, c)
		})
		if !slices.Contains(x.revisions(revision), old) {
			t.Fatal("the older revision is not there to begin with")
		}
		before := x.last()
		x.sync(`{"referenceId":"crash_5","email":"bob@x.example"}`)
		if x.last() != before {
			t.Error("the repetition appended an event")
		}
		if slices.Contains(x.revisions(revision), old) {
			t.Error("the older revision is still there")
		}
	})
	t.Run("revival, after the revision", func(t *testing.T) {
		id := x.customer("crash_6")
		x.run("customer.delete", `{"referenceId":"crash_6"}`, Meta{})
		deleted := x.load(events.EntityCustomer, id).Data.Customer.ProfileRevision
		revision := put(id, bob)
		x.sync(`{"referenceId":"crash_6","email":"bob@x.example"}`)
		if got := x.load(events.EntityCustomer, id).Data.Customer; got.ProfileRevision != revision || got.Deleted() || revision <= deleted {
			t.Errorf("got revision %d (deleted up to %d), want %d", got.ProfileRevision, deleted, revision)
		}
	})
	t.Run("revival with another body, after a revision that nobody announced", func(t *testing.T) {
		id := x.customer("crash_7")
		x.run("customer.delete", `{"referenceId":"crash_7"}`, Meta{})
		put(id, bob)
		if c := x.sync(`{"referenceId":"crash_7","name":"B"}`); c.Email != nil || c.Name == nil {
			t.Errorf("got %+v, want nothing of a profile that was never announced", c)
		}
	})
}

// TestCustomerSyncByMany: syncs of different fields at once, from two processes, all take effect.
func TestCustomerSyncByMany(t *testing.T) {
	x := newHarness(t)
	other, _ := ingest(t, x.server)
	const n = 8
	errs := make(chan error, 2*n)
	for i := range n {
		for which, h := range []*Handler{x.h, other} {
			go func() {
				field := []string{"email", "name"}[which]
				value := []string{fmt.Sprintf("a%d@x.example", i), fmt.Sprintf("N%d", i)}[which]
				body := fmt.Sprintf(`{"referenceId":"many",%q:%q}`, field, value)
				_, err := h.Execute(t.Context(), "customer.sync", []byte(body), Meta{})
				errs <- err
			}()
		}
	}
	for range 2 * n {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	id := events.CustomerID("many")
	c, newest := x.load(events.EntityCustomer, id).Data.Customer, x.profile(id)
	if newest.Profile.Email == nil || newest.Profile.Name == nil {
		t.Errorf("a change was lost: %+v", newest.Profile)
	}
	if c.ProfileRevision != newest.Sequence {
		t.Errorf("the last event announces %d, the newest revision is %d", c.ProfileRevision, newest.Sequence)
	}
	x.sync(`{"referenceId":"many"}`)
	if there := x.revisions(newest.Sequence); !slices.Equal(there, []uint64{newest.Sequence}) {
		t.Errorf("revisions %v are there, want only %d", there, newest.Sequence)
	}
}

func TestCustomerDelete(t *testing.T) {
	x := newHarness(t)
	x.refused("customer.delete", `{"referenceId":"nobody"}`, Meta{}, events.CodeCustomerNotFound, "referenceId")
	x.refused("customer.delete", `{"customerId":"nobody"}`, Meta{}, events.CodeCustomerNotFound, "customerId")
	x.refused("customer.delete", fmt.Sprintf(`{"customerId":%q}`, events.CustomerID("nobody")), Meta{}, events.CodeCustomerNotFound, "customerId")
	x.refused("customer.delete", `{}`, Meta{}, events.CodeInvalidRequest, "customerId")

	id := events.CustomerID("user_1")
	x.sync(`{"referenceId":"user_1","email":"a@x.example","name":"A","metadata":{"k":"v"}}`)
	revision := x.profile(id).Sequence
	r := x.run("customer.delete", fmt.Sprintf(`{"customerId":%q,"referenceId":"user_1"}`, id), Meta{})
	c := decoded[events.CustomerResult](t, r)
	if c.DeletedAt == nil || c.Email != nil || c.Name != nil || len(c.Metadata) != 0 || c.Metadata == nil || c.ID != id {
		t.Errorf("got %+v", c)
	}
	e := x.load(events.EntityCustomer, id)
	if e.Type != events.CustomerDeleted || e.Data.Customer.ProfileRevision != revision || r.Sequence != x.last() {
		t.Errorf("got %s up to revision %d, want %d", e.Type, e.Data.Customer.ProfileRevision, revision)
	}
	// Again, by either name: as it is.
	again := x.run("customer.delete", `{"referenceId":"user_1"}`, Meta{})
	if string(again.Body) != string(r.Body) || again.Sequence != r.Sequence || x.last() != r.Sequence {
		t.Errorf("again: got %s at %d", again.Body, again.Sequence)
	}
	// Nothing is begun for it.
	for verb, body := range payerCommands(id) {
		x.refused(verb, body, Meta{}, events.CodeCustomerNotFound, "customerId")
	}
	// Revived, with nothing of the old profile, also while the worker has not erased it yet.
	c = x.sync(`{"referenceId":"user_1","name":"B"}`)
	e = x.load(events.EntityCustomer, id)
	if c.DeletedAt != nil || c.Email != nil || c.Name == nil || *c.Name != "B" || len(c.Metadata) != 0 || e.Type != events.CustomerUpdated {
		t.Errorf("revived by %s: %+v", e.Type, c)
	}
	if !slices.Equal(e.Data.Changed, []string{"name"}) || e.Data.Customer.ProfileRevision <= revision {
		t.Errorf("changed %v, revision %d", e.Data.Changed, e.Data.Customer.ProfileRevision)
	}
	// Revived as it was: the old revision is about to be erased, so it can't be announced again.
	x.run("customer.delete", `{"referenceId":"user_1"}`, Meta{})
	deleted := x.load(events.EntityCustomer, id).Data.Customer.ProfileRevision
	x.sync(`{"referenceId":"user_1","name":"B"}`)
	if got := x.load(events.EntityCustomer, id).Data.Customer.ProfileRevision; got <= deleted {
		t.Errorf("revived with revision %d, and all up to %d are erased", got, deleted)
	}
	// A revision that nobody announced is erased too.
	orphan, err := x.log.PutProfile(t.Context(), id, eventlog.Profile{Name: new("C")}, x.profile(id).Sequence)
	if err != nil {
		t.Fatal(err)
	}
	x.run("customer.delete", `{"referenceId":"user_1"}`, Meta{})
	if got := x.load(events.EntityCustomer, id).Data.Customer.ProfileRevision; got != orphan {
		t.Errorf("deleted up to revision %d, and %d is there", got, orphan)
	}
	x.sync(`{"referenceId":"user_1","name":"B"}`)
	// Revived with no profile at all, after everything was erased.
	x.run("customer.delete", `{"referenceId":"user_1"}`, Meta{})
	deleted = x.load(events.EntityCustomer, id).Data.Customer.ProfileRevision
	if _, err := x.log.EraseProfiles(t.Context(), id, deleted+1); err != nil {
		t.Fatal(err)
	}
	c = x.sync(`{"referenceId":"user_1"}`)
	if got := x.load(events.EntityCustomer, id).Data.Customer; c.Name != nil || got.ProfileRevision <= deleted {
		t.Errorf("revived with %+v, revision %d", c, got.ProfileRevision)
	}
}

// payerCommands are the commands that name a customer.
func payerCommands(customerID string) map[string]string {
	method := events.PaymentMethodID(stripe, "pm_1")
	payer := fmt.Sprintf(`"providerId":"stripe","customerId":%q`, customerID)
	return map[string]string{
		"checkout.create":            `{` + payer + `,"amount":4900,"description":"Pro","successURL":"https://x.example/ok"}`,
		"payment_method.attach":      `{` + payer + `,"returnURL":"https://x.example/ok"}`,
		"payment_method.set_default": `{` + payer + fmt.Sprintf(`,"paymentMethodId":%q}`, method),
		"payment_method.detach":      `{` + payer + fmt.Sprintf(`,"paymentMethodId":%q}`, method),
		"charge.create":              `{` + payer + fmt.Sprintf(`,"paymentMethodId":%q,"amount":4900,"description":"Pro"}`, method),
	}
}

func TestCustomerResultNamesLinkedAccounts(t *testing.T) {
	x := newHarness(t)
	id := x.customer("user_1")
	link := func(providerID, providerCustomerID string) {
		t.Helper()
		x.append(events.EntityProviderAccount, events.ProviderAccountID(id, providerID), func(last *events.Event, c events.Cause) (*events.Event, error) {
			c.Customer = events.CustomerRef{ID: id, ReferenceID: "user_1"}
			return events.DecideProviderAccount(last, events.LinkAccount{ProviderID: providerID, ProviderCustomerID: providerCustomerID}, c)
		})
	}
	link(stripe, "cus_1")
	link("other", "cus_2")
	x.append(events.EntityProviderAccount, events.ProviderAccountID(id, "other"), func(last *events.Event, c events.Cause) (*events.Event, error) {
		return events.DecideProviderAccount(last, events.UnlinkAccount{ProviderCustomerID: "cus_2"}, c)
	})
	want := []events.ProviderAccountRef{{ID: events.ProviderAccountID(id, stripe), ProviderID: stripe, ProviderCustomerID: "cus_1"}}
	if d := cmp.Diff(want, x.sync(`{"referenceId":"user_1"}`).ProviderAccounts); d != "" {
		t.Errorf("accounts (-want +got):\n%s", d)
	}
}

// TestStateIsSetAgain: a key of a verb that sets a state does not stand for the body it came with first.
func TestStateIsSetAgain(t *testing.T) {
	x := newHarness(t)
	key := Meta{IdempotencyKey: "sync"}
	x.run("customer.sync", `{"referenceId":"user_1","name":"A"}`, key)
	r := x.run("customer.sync", `{"referenceId":"user_1","name":"B"}`, key)
	if c := decoded[events.CustomerResult](t, r); c.Name == nil || *c.Name != "B" {
		t.Errorf("another body under the same key was taken for a repetition: %s", r.Body)
	}
	before := x.last()
	x.run("customer.sync", `{"name":"B","referenceId":"user_1"}`, key)
	if x.last() != before {
		t.Error("the same command again appended an event")
	}
	// Nor does it touch the profile, whatever came after it.
	id := events.CustomerID("user_1")
	newer, err := x.log.PutProfile(t.Context(), id, eventlog.Profile{Name: new("C")}, x.profile(id).Sequence)
	if err != nil {
		t.Fatal(err)
	}
	x.run("customer.sync", `{"name":"B","referenceId":"user_1"}`, key)
	if got := x.profile(id).Sequence; got != newer {
		t.Errorf("the same command again stored revision %d", got)
	}
}
