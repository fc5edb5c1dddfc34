package history

import (
	"fmt"
	"strings"
	"time"

	"github.com/paykit-go/paykit/internal/events"
)

// sentence says in words what became of an entity. was is nil if it did not exist.
func sentence(was, is *events.Event, fields []Field) string {
	var said string
	switch is.Entity() {
	case events.EntityCustomer:
		said = customerSaid(was, is)
	case events.EntityProviderAccount:
		said = accountSaid(is)
	case events.EntityCheckout:
		c := is.Data.Checkout
		said = moved("checkout "+c.ID, is, checkoutStatus(was), string(c.Status)) + ", " + events.FormatAmount(c.Amount, c.Currency)
	case events.EntitySetup:
		s := is.Data.Setup
		said = moved("setup "+s.ID, is, setupStatus(was), string(s.Status))
	case events.EntityPaymentMethod:
		said = methodSaid(was, is)
	case events.EntityCharge:
		said = chargeSaid(was, is)
	case events.EntityCommand:
		c := is.Data.Command
		said = fmt.Sprintf("command %s (%s)%s was refused: %s", c.ID, c.Type, owner(is), c.Error.Code)
	}
	if said == "" {
		names := make([]string, 0, len(fields))
		for _, f := range fields {
			names = append(names, f.Field)
		}
		said = fmt.Sprintf("%s %s%s: %s changed", strings.ReplaceAll(string(is.Entity()), "_", " "), is.Subject, owner(is), strings.Join(names, ", "))
	}
	return said
}

// owner is " of user_123".
func owner(e *events.Event) string {
	if ref := e.Data.Customer.ReferenceID; ref != "" {
		return " of " + ref
	}
	return ""
}

// moved is "charge chg_… of user_123: processing → succeeded".
func moved(what string, is *events.Event, from, to string) string {
	what += owner(is) + ": "
	if from == to {
		return what + to
	}
	return what + from + " → " + to
}

// missing is the status of what did not exist.
const missing = "new"

func checkoutStatus(e *events.Event) string {
	if e == nil {
		return missing
	}
	return string(e.Data.Checkout.Status)
}

func setupStatus(e *events.Event) string {
	if e == nil {
		return missing
	}
	return string(e.Data.Setup.Status)
}

func customerSaid(was, is *events.Event) string {
	c := is.Data.Customer
	who := "customer " + c.ReferenceID
	deleted := was != nil && was.Data.Customer.Deleted()
	switch {
	case was == nil && c.Deleted():
		return who + " created and deleted"
	case was == nil:
		return who + " created"
	case c.Deleted() && !deleted:
		return who + " deleted"
	case !c.Deleted() && deleted:
		return who + " came back"
	case was.Data.Customer.ProfileRevision != c.ProfileRevision:
		return who + ": profile changed" // to what is no part of history
	}
	return ""
}

func accountSaid(is *events.Event) string {
	a := is.Data.ProviderAccount
	if is.Type == events.ProviderAccountUnlinked {
		return fmt.Sprintf("account %s at %s%s unlinked", a.ProviderCustomerID, a.ProviderID, owner(is))
	}
	return fmt.Sprintf("account %s at %s%s linked", a.ProviderCustomerID, a.ProviderID, owner(is))
}

// methodSaid is "payment method meth_… visa …4242 of user_123 saved, became the default".
func methodSaid(was, is *events.Event) string {
	m := is.Data.PaymentMethod
	var before events.PaymentMethod
	if was != nil {
		before = *was.Data.PaymentMethod
	}
	var said []string
	tell := func(so bool, words string) {
		if so {
			said = append(said, words)
		}
	}
	tell(was == nil, "saved")
	tell(later(m.DefaultAt, before.DefaultAt), "became the default")
	tell(was != nil && (m.ExpiryMonth != before.ExpiryMonth || m.ExpiryYear != before.ExpiryYear),
		fmt.Sprintf("expires %02d/%d, not %02d/%d", m.ExpiryMonth, m.ExpiryYear, before.ExpiryMonth, before.ExpiryYear))
	tell(m.ExpiringFor != before.ExpiringFor && m.ExpiringFor != "", "is about to expire")
	tell(m.DetachedAt != nil && before.DetachedAt == nil, "detached")
	tell(m.DetachedAt == nil && later(m.DetachRequestedAt, before.DetachRequestedAt), "is to be detached")
	tell(m.DetachedAt == nil && later(m.DefaultRequestedAt, before.DefaultRequestedAt) && !later(m.DefaultAt, before.DefaultAt), "is to become the default")
	if len(said) == 0 {
		return ""
	}
	card := m.Type
	if m.Last4 != "" {
		card = strings.TrimSpace(m.Brand + " …" + m.Last4)
	}
	return fmt.Sprintf("payment method %s %s%s %s", m.ID, card, owner(is), strings.Join(said, ", "))
}

// later tells whether a time was set, or set anew.
func later(is, was *time.Time) bool {
	return is != nil && (was == nil || is.After(*was))
}

// chargeSaid is "charge chg_… of user_123: processing → succeeded, 49.00 USD; refund rfd_…: new → succeeded, 9.00 USD".
func chargeSaid(was, is *events.Event) string {
	c := is.Data.Charge
	from, before := missing, events.Charge{}
	if was != nil {
		before = *was.Data.Charge
		from = string(before.Status)
	}
	said := moved("charge "+c.ID, is, from, string(c.Status)) + ", " + events.FormatAmount(c.Amount, c.Currency)
	if c.Failure != nil && from != string(c.Status) {
		said += " (" + c.Failure.Code + ")"
	}
	parts := append([]string{said}, refundsSaid(&before, c)...)
	parts = append(parts, disputesSaid(&before, c)...)
	if len(c.FraudWarnings) > len(before.FraudWarnings) {
		parts = append(parts, "warned of fraud")
	}
	if c.Review != nil && before.Review == nil {
		parts = append(parts, "a person must look: "+string(c.Review.Reason))
	}
	if c.Retry != nil && (before.Retry == nil || len(before.Retry.Attempts) != len(c.Retry.Attempts)) {
		parts = append(parts, fmt.Sprintf("attempt %d of %d", len(c.Retry.Attempts), len(c.Retry.Delays)+1))
	}
	return strings.Join(parts, "; ")
}

func refundsSaid(before, c *events.Charge) []string {
	was := map[string]events.RefundStatus{}
	for _, r := range before.Refunds {
		was[r.ID] = r.Status
	}
	var said []string
	for _, r := range c.Refunds {
		if was[r.ID] != r.Status {
			said = append(said, fmt.Sprintf("refund %s: %s → %s, %s", r.ID, orMissing(string(was[r.ID])), r.Status, events.FormatAmount(r.Amount, c.Currency)))
		}
	}
	return said
}

func disputesSaid(before, c *events.Charge) []string {
	was := map[string]string{}
	for _, d := range before.Disputes {
		was[d.ProviderDisputeID] = d.Status
	}
	var said []string
	for _, d := range c.Disputes {
		currency := d.Currency
		if currency == "" {
			currency = c.Currency
		}
		if id := d.ProviderDisputeID; was[id] != d.Status {
			said = append(said, fmt.Sprintf("dispute %s: %s → %s, %s", id, orMissing(was[id]), d.Status, events.FormatAmount(d.Amount, currency)))
		}
	}
	return said
}

func orMissing(status string) string {
	if status == "" {
		return missing
	}
	return status
}
