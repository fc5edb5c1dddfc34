package verify

import (
	"strings"

	"github.com/paykit-go/paykit/internal/events"
)

func sessions() ladder {
	return ladder{rank: func(status string) int {
		switch events.SessionState(status) {
		case events.StateRequested:
			return 1
		case events.StateCreated:
			return 2
		case events.StateExpired, events.StateFailed:
			return 3
		case events.StateCompleted:
			return 4
		}
		return 0
	}}
}

// sessionSets is the status that an event of a checkout or a setup leads to.
func sessionSets(t events.Type) events.SessionState {
	switch t { //nolint:exhaustive // the others leave it
	case events.CheckoutRequested, events.SetupRequested:
		return events.StateRequested
	case events.CheckoutCreated, events.SetupCreated:
		return events.StateCreated
	case events.CheckoutCompleted, events.SetupCompleted:
		return events.StateCompleted
	case events.CheckoutExpired, events.SetupExpired:
		return events.StateExpired
	case events.CheckoutFailed, events.SetupFailed:
		return events.StateFailed
	}
	return ""
}

func (s *step) checkout(c *events.Checkout) {
	s.statusIs(string(c.Status), string(sessionSets(s.ev.Type)), sessions())
	if c.Status.Final() && c.URL != "" {
		s.problem("the page's url is still there in status %s", c.Status)
	}
	if want := events.CheckoutChargeID(c.ID); c.Status == events.StateCompleted && c.ChargeID != want {
		s.problem("completed with the charge %q, want %s", c.ChargeID, want)
	}
	s.facts(c.Base, number("amount", frozen, c.Amount), text("currency", frozen, c.Currency), text("commandDigest", frozen, c.CommandDigest),
		text("description", frozen, c.Description), text("successURL", frozen, c.SuccessURL), text("cancelURL", frozen, c.CancelURL),
		flag("attachMethod", frozen, c.AttachMethod), text("chargeId", kept, c.ChargeID), moment("expireRequestedAt", kept, c.ExpireRequestedAt))
	s.money(c.Amount, c.Currency)
	s.words("description", c.Description)
	s.address("successURL", c.SuccessURL)
	s.address("cancelURL", c.CancelURL)
	s.metadata(c.Metadata)
}

func (s *step) setup(u *events.Setup) {
	s.statusIs(string(u.Status), string(sessionSets(s.ev.Type)), sessions())
	if u.Status.Final() && u.URL != "" {
		s.problem("the page's url is still there in status %s", u.Status)
	}
	if u.Status == events.StateCompleted && !events.ValidID(events.EntityPaymentMethod, u.PaymentMethodID) {
		s.problem("completed with the payment method %q, which is no id", u.PaymentMethodID)
	}
	s.facts(u.Base, text("commandDigest", frozen, u.CommandDigest), text("returnURL", frozen, u.ReturnURL), text("paymentMethodId", kept, u.PaymentMethodID))
	s.address("returnURL", u.ReturnURL)
}

// money checks an amount: minor units of an ISO 4217 currency.
func (s *step) money(amount int64, currency string) {
	if amount < 0 {
		s.problem("amount is %d", amount)
	}
	if len(currency) != 3 || currency != strings.ToLower(currency) {
		s.problem("currency is %q", currency)
	}
}
