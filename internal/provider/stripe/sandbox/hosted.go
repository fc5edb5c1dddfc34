package sandbox

import (
	"errors"
	"net/http"
	"strings"
	"time"
)

// Errors of the hosted seam. The pages turn them into a plain page with status 404 or 410.
var (
	errHostedNotFound = errors.New("no such hosted page")
	errHostedClosed   = errors.New("the session is no longer open")
)

// hostedSession is what the checkout page of one session shows. Amount is in minor units of Currency, both zero in setup mode.
type hostedSession struct {
	ID            string
	Mode          string // payment or setup
	Status        string // open, complete or expired
	Description   string
	Currency      string // lower-case ISO 4217
	SuccessURL    string // {CHECKOUT_SESSION_ID} already replaced
	CancelURL     string // empty when the session has none
	CustomerEmail string // empty when not known
	MerchantName  string
	Amount        int64
	ExpiresAt     time.Time
	CompleteURL   string // the control call that completes the session without a page
	BankDebits    bool   // the page offers them
}

// cardInput is what a buyer types into the card form. Spaces in Number are allowed.
type cardInput struct {
	Number string
	Expiry string // MM/YY or MM/YYYY
	CVC    string
	Name   string
}

// hostedDecline says why a card was not taken, in Stripe's words.
type hostedDecline struct {
	Code        string // e.g. card_declined, incorrect_number, payment_intent_authentication_failure
	DeclineCode string // e.g. insufficient_funds; empty when there is none
	Message     string // fit to be shown to the buyer
	Param       string // number, exp_month, exp_year, cvc, or empty
}

// hostedOutcome is the result of submitting a card: exactly one field is set.
type hostedOutcome struct {
	RedirectURL string         // paid or saved: send the buyer here
	Decline     *hostedDecline // not taken: show the form again with this
	ActionURL   string         // 3-D Secure: send the buyer to this page of ours
}

// hostedAction is what the 3-D Secure page shows.
type hostedAction struct {
	ID           string // of the action, as in the URL /3ds/{id}
	Kind         string // payment or setup
	Status       string // pending, authenticated or failed
	Description  string
	Currency     string // empty for a setup
	MerchantName string
	CardBrand    string // e.g. visa
	CardLast4    string
	ReturnURL    string // where the buyer goes afterwards
	Amount       int64  // minor units, zero for a setup
}

// hostedSession returns what the page of a session shows, and false when there is no such session.
func (s *Server) hostedSession(id string) (hostedSession, bool) {
	s.enter()
	defer s.leave()
	s.tick()
	cs, ok := s.sessions.find(id)
	if !ok {
		return hostedSession{}, false
	}
	h := hostedSession{
		ID: cs.ID, Mode: cs.Mode, Status: cs.Status, Description: cs.description(), Currency: string(cs.Currency), SuccessURL: cs.successURL(),
		CancelURL: string(cs.CancelURL), CustomerEmail: string(cs.CustomerEmail), MerchantName: s.cfg.MerchantName, Amount: cs.total(),
		ExpiresAt: time.Unix(cs.ExpiresAt, 0).UTC(), CompleteURL: orDefault(s.baseURL, cs.base) + "/_sandbox/checkout/" + cs.ID + "/complete",
		BankDebits: cs.takesBankDebits(),
	}
	if cus := s.customers.get(string(cs.Customer)); cus != nil {
		h.CustomerEmail = string(cus.Email)
	}
	return h, true
}

// description is what the buyer pays for.
func (cs *checkoutSession) description() string {
	if len(cs.items) == 0 {
		return cs.intent.description
	}
	names := make([]string, 0, len(cs.items))
	for _, item := range cs.items {
		names = append(names, item.Description)
	}
	return strings.Join(names, ", ")
}

// submitCard does what the checkout form's button does, for payment and setup. It fails with errHostedNotFound, or with
// errHostedClosed when the session is complete or expired; a declined card is an outcome, not an error.
func (s *Server) submitCard(sessionID string, in cardInput) (hostedOutcome, error) {
	s.enter()
	defer s.leave()
	s.tick()
	return s.newCall().submit(sessionID, in)
}

func (c *call) submit(sessionID string, in cardInput) (hostedOutcome, error) {
	cs, ok := c.sessions.find(sessionID)
	switch {
	case !ok:
		return hostedOutcome{}, errHostedNotFound
	case cs.Status != sessionOpen:
		return hostedOutcome{}, errHostedClosed
	}
	c.base = orDefault(c.base, cs.base)
	month, year := parseExpiry(in.Expiry)
	t, bad := checkCard(in.Number, month, year, in.CVC, c.now())
	if bad == nil && in.CVC == "" {
		bad = cardError("invalid_cvc", "cvc", "Your card's security code is incomplete.")
	}
	if bad == nil && cs.Customer != "" {
		_, bad = c.customer(string(cs.Customer), "customer", http.StatusBadRequest)
	}
	if bad != nil {
		return hostedOutcome{Decline: declineOf(bad)}, nil
	}
	return c.use(cs, c.newMethod(t, billingDetails{Name: nullable(in.Name), Email: c.buyerEmail(cs)})), nil
}

// use pays a session with a method, or saves it.
func (c *call) use(cs *checkoutSession, m *paymentMethod) hostedOutcome {
	var next *nextAction
	var bad *apiError
	if cs.Mode == modePayment {
		pi := c.sessionPayment(cs)
		bad = c.attemptPayment(pi, m, confirmation{})
		next = pi.NextAction
	} else {
		si := c.setups.get(string(cs.SetupIntent))
		bad = c.attemptSetup(si, m, confirmation{})
		next = si.NextAction
	}
	switch {
	case bad != nil:
		return hostedOutcome{Decline: declineOf(bad)}
	case next != nil:
		return hostedOutcome{ActionURL: next.RedirectToURL.URL}
	}
	return hostedOutcome{RedirectURL: cs.successURL()}
}

func (c *call) buyerEmail(cs *checkoutSession) nullable {
	if cus := c.customers.get(string(cs.Customer)); cus != nil {
		return cus.Email
	}
	return cs.CustomerEmail
}

// sessionPayment is the payment of a session, made when the buyer first pays and used again after a decline.
func (c *call) sessionPayment(cs *checkoutSession) *paymentIntent {
	if pi, ok := c.payments.find(string(cs.PaymentIntent)); ok {
		return pi
	}
	plan := cs.intent
	if cs.Customer == "" && (cs.CustomerCreation == "always" || plan.futureUsage != "") {
		cus := c.newCustomer()
		cus.Email = cs.CustomerEmail
		cs.Customer = nullable(cus.ID)
		c.emit("customer.created", cus)
	}
	pi := c.newPayment(nil)
	pi.Amount, pi.Currency, pi.Customer, pi.session = cs.total(), string(cs.Currency), cs.Customer, cs.ID
	pi.CaptureMethod = orDefault(plan.captureMethod, pi.CaptureMethod)
	pi.Description, pi.SetupFutureUsage = nullable(plan.description), nullable(plan.futureUsage)
	pi.ReceiptEmail, pi.StatementDescriptor = nullable(plan.receiptEmail), nullable(plan.descriptor)
	pi.Metadata = plan.metadata
	pi.PaymentMethodTypes = cs.PaymentMethodTypes
	cs.PaymentIntent = nullable(pi.ID)
	c.emit("payment_intent.created", pi)
	return pi
}

// hostedAction returns what the 3-D Secure page /3ds/{id} shows, and false when there is no such action.
func (s *Server) hostedAction(id string) (hostedAction, bool) {
	s.enter()
	defer s.leave()
	s.tick()
	a, ok := s.actions.find(id)
	if !ok {
		return hostedAction{}, false
	}
	m := s.methods.get(a.method)
	h := hostedAction{
		ID: a.id, Kind: modeSetup, Status: a.status, MerchantName: s.cfg.MerchantName, CardBrand: m.Card.Brand, CardLast4: m.Card.Last4,
		ReturnURL: s.newCall().leadsTo(a),
	}
	if pi, ok := s.payments.find(a.intent); ok {
		h.Kind, h.Amount, h.Currency, h.Description = modePayment, pi.Amount, pi.Currency, string(pi.Description)
	} else if si, ok := s.setups.find(a.intent); ok {
		h.Description = string(si.Description)
	}
	if cs, ok := s.sessions.find(a.session); ok && h.Description == "" {
		h.Description = cs.description()
	}
	return h, true
}

// resolveAction does what the buttons of the 3-D Secure page do. It returns where the buyer goes next; a decline is
// returned as well when authentication failed or the card was declined after it. Resolving an action again returns the same address.
// It fails with errHostedNotFound.
func (s *Server) resolveAction(id string, authenticated bool) (redirectURL string, decline *hostedDecline, err error) {
	s.enter()
	defer s.leave()
	s.tick()
	a, ok := s.actions.find(id)
	if !ok {
		return "", nil, errHostedNotFound
	}
	c := s.newCall()
	if cs, ok := s.sessions.find(a.session); ok {
		c.base = orDefault(c.base, cs.base)
	}
	c.resolve(a, authenticated)
	return c.leadsTo(a), a.decline, nil
}
