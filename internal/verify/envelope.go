package verify

import (
	"strings"
	"time"

	"github.com/paykit-go/paykit/internal/events"
)

// maxEvent is the most that an event may have, in bytes.
const maxEvent = 256 << 10

// subjectTokens: prefix, "log", entity, event, entity's id, customer's id or "none".
const subjectTokens = 6

// envelope checks the event by itself: its attributes, its ids, and the subject that it is stored under.
func (s *step) envelope() {
	e := s.ev
	customer := e.CustomerID()
	if customer == "" {
		customer = events.None
	}
	want := strings.Join([]string{s.prefix, "log", string(e.Entity()), e.Type.Name(), e.Subject, customer}, ".")
	if s.entry.Subject != want {
		s.problem("stored under %s, which is not the event's own subject %s", s.entry.Subject, want)
	}
	if !events.ValidID(e.Entity(), e.Subject) {
		s.problem("%q is no id of a %s", e.Subject, e.Entity())
	}
	if customer != events.None && !events.ValidID(events.EntityCustomer, customer) {
		s.problem("%q is no id of a customer", customer)
	}
	if ref := e.Data.Customer.ReferenceID; ref != "" && events.CustomerID(ref) != customer {
		s.problem("the customer %s is not the one of its referenceId", customer)
	}
	if !ulid(e.ID) {
		s.problem("%q is no id of an event", e.ID)
	}
	if !strings.HasPrefix(e.DataSchema, "urn:paykit:"+string(e.Entity())+":") {
		s.problem("dataschema is %q", e.DataSchema)
	}
	if len(s.entry.Raw) > maxEvent {
		s.problem("the event has %d bytes, over 256 KiB", len(s.entry.Raw))
	}
}

// ulid tells whether s is 26 characters of Crockford's base 32.
func ulid(s string) bool { return events.ValidID(events.EntityCustomer, "cust_"+s) }

// chain checks the event against the entity's one before: version, digest, time, and what may begin or follow.
func (s *step) chain() {
	e, was := s.ev, s.was
	begins, only := begins(e.Type)
	switch {
	case was == nil && e.EntityVersion != 1:
		s.problem("entityversion is %d, and there is no event before it", e.EntityVersion)
		return
	case was == nil:
		if e.PreviousDigest != "" {
			s.problem("previousdigest is %s on an entity's first event", e.PreviousDigest)
		}
		if !begins {
			s.problem("%s begins an entity", e.Type)
		}
		return
	}
	switch {
	case e.EntityVersion != was.version+1:
		s.problem("entityversion is %d after %d at sequence %d", e.EntityVersion, was.version, was.sequence)
	case e.PreviousDigest != was.digest:
		s.problem("previousdigest is not of the event at sequence %d: that one was changed, or this one is not its successor", was.sequence)
	}
	if e.Time.Before(was.at) {
		s.problem("time runs back: %s after %s at sequence %d", stamp(e.Time), stamp(was.at), was.sequence)
	}
	if only {
		s.problem("%s does not begin an entity, which began before", e.Type)
	}
	if was.ended {
		s.problem("%s after the entity's end at sequence %d", e.Type, was.sequence)
	}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// begins tells whether an entity may begin with an event of a type, and whether such an event does nothing else.
func begins(t events.Type) (may, only bool) {
	switch t { //nolint:exhaustive // the others begin nothing
	case events.CustomerCreated, events.CheckoutRequested, events.SetupRequested, events.PaymentMethodAttached,
		events.ChargeRequested, events.CommandRejected:
		return true, true
	case events.ProviderAccountLinked, events.PaymentMethodDetached, events.ChargeProcessing, events.ChargeSucceeded:
		return true, false
	}
	return false, false
}

// snapshot checks the entity's state by the rules of its kind.
func (s *step) snapshot() {
	d := s.ev.Data
	switch s.ev.Entity() {
	case events.EntityCustomer:
		s.base(d.Customer.Base)
		s.customer(&d.Customer)
	case events.EntityProviderAccount:
		s.base(d.ProviderAccount.Base)
		s.providerAccount(d.ProviderAccount)
	case events.EntityCheckout:
		s.base(d.Checkout.Base)
		s.checkout(d.Checkout)
	case events.EntitySetup:
		s.base(d.Setup.Base)
		s.setup(d.Setup)
	case events.EntityPaymentMethod:
		s.base(d.PaymentMethod.Base)
		s.paymentMethod(d.PaymentMethod)
	case events.EntityCharge:
		s.base(d.Charge.Base)
		s.charge(d.Charge)
	case events.EntityCommand:
		s.base(d.Command.Base)
		s.is.ended = true
	}
}

// base checks what every snapshot begins with. Its id is the event's subject, or the event could not be read.
func (s *step) base(b events.Base) {
	if b.CustomerID != s.ev.CustomerID() {
		s.problem("the snapshot's customerId is %q, the event's customer %q", b.CustomerID, s.ev.CustomerID())
	}
	if !b.UpdatedAt.Equal(s.ev.Time) {
		s.problem("updatedAt is %s, the event's time %s", stamp(b.UpdatedAt), stamp(s.ev.Time))
	}
	if s.ev.EntityVersion == 1 && !b.CreatedAt.Equal(s.ev.Time) {
		s.problem("createdAt is %s, the first event's time %s", stamp(b.CreatedAt), stamp(s.ev.Time))
	}
}
