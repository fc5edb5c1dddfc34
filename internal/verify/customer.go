package verify

import "github.com/paykit-go/paykit/internal/events"

func (s *step) customer(c *events.Customer) {
	revision := grows
	s.is.status = "alive"
	if c.Deleted() {
		s.is.status = "deleted"
	}
	if deletes := s.ev.Type == events.CustomerDeleted; deletes != c.Deleted() {
		s.problem("deletedAt does not go with %s", s.ev.Type)
	}
	if s.was != nil && s.was.status == "deleted" {
		revision = free // revived, maybe without a profile
		if c.Deleted() {
			s.problem("deleted again, after sequence %d", s.was.sequence)
		}
	}
	s.profile()
	s.facts(c.Base, text("referenceId", frozen, c.ReferenceID), number("profileRevision", revision, int64(c.ProfileRevision))) //nolint:gosec // G115: a sequence
}

func (s *step) providerAccount(a *events.ProviderAccount) {
	if a.ID != events.ProviderAccountID(a.CustomerID, a.ProviderID) {
		s.problem("the id is not the one of its customer's account at its provider")
	}
	s.is.status = a.Status
	want, steps, account := events.AccountLinked, int64(1), free
	if s.ev.Type == events.ProviderAccountUnlinked {
		want, steps, account = events.AccountUnlinked, 0, frozen
	}
	if a.Status != want {
		s.problem("status is %s after %s", a.Status, s.ev.Type)
	}
	s.facts(a.Base, number("version", grows, int64(a.Version)), text("providerCustomerId", account, a.ProviderCustomerID))
	if s.was != nil && s.was.values != nil {
		if s.was.status == a.Status {
			s.problem("%s again: it was so at sequence %d", s.ev.Type, s.was.sequence)
		}
		if before := int64(s.was.values[0]); int64(a.Version) != before+steps { //nolint:gosec // G115: a small count
			s.problem("version is %d after %d", a.Version, before)
		}
	}
	s.claim("customer", a.ProviderID, a.ProviderCustomerID)
	s.report.books.account(a)
}

func (s *step) paymentMethod(m *events.PaymentMethod) {
	if m.ID != events.PaymentMethodID(m.ProviderID, m.ProviderMethodID) {
		s.problem("the id is not the one of the provider's method")
	}
	if detaches := s.ev.Type == events.PaymentMethodDetached; detaches == m.Live() {
		s.problem("detachedAt does not go with %s", s.ev.Type)
	}
	s.is.ended = !m.Live()
	s.expiring(m)
	if m.DuplicateOf != "" && (m.DuplicateOf == m.ID || !events.ValidID(events.EntityPaymentMethod, m.DuplicateOf)) {
		s.problem("duplicateOf is %q", m.DuplicateOf)
	}
	s.facts(m.Base, text("providerMethodId", frozen, m.ProviderMethodID), moment("detachRequestedAt", kept, m.DetachRequestedAt),
		moment("detachedAt", kept, m.DetachedAt), moment("defaultRequestedAt", grows, m.DefaultRequestedAt), moment("defaultAt", grows, m.DefaultAt),
		number("reportedAt", grows, max(0, m.ReportedAt.UnixMilli())))
}

// expiring checks that the end of a card is told once of each expiry, and by its own event only.
func (s *step) expiring(m *events.PaymentMethod) {
	before, known := "", s.was == nil || s.was.values != nil
	if s.was != nil {
		before = s.was.status
	}
	tells := s.ev.Type == events.PaymentMethodExpiring
	switch {
	case tells && (m.ExpiringFor == "" || m.ExpiringFor != m.Expiry()):
		s.problem("expiringFor is %q, the method expires %q", m.ExpiringFor, m.Expiry())
	case known && tells == (m.ExpiringFor == before):
		s.problem("expiringFor is %q after %q, by %s", m.ExpiringFor, before, s.ev.Type)
	}
	s.is.status = m.ExpiringFor
}
