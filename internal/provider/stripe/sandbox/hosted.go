package sandbox

import (
	"errors"
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
	return hostedSession{ID: id}, false
}

// submitCard does what the checkout form's button does, for payment and setup. It fails with errHostedNotFound, or with
// errHostedClosed when the session is complete or expired; a declined card is an outcome, not an error.
func (s *Server) submitCard(sessionID string, c cardInput) (hostedOutcome, error) {
	return hostedOutcome{}, errHostedNotFound
}

// hostedAction returns what the 3-D Secure page /3ds/{id} shows, and false when there is no such action.
func (s *Server) hostedAction(id string) (hostedAction, bool) {
	return hostedAction{ID: id}, false
}

// resolveAction does what the buttons of the 3-D Secure page do. It returns where the buyer goes next; a decline is
// returned as well when authentication failed or the card was declined after it. Resolving an action again returns the same address.
// It fails with errHostedNotFound.
func (s *Server) resolveAction(id string, authenticated bool) (redirectURL string, decline *hostedDecline, err error) {
	return "", nil, errHostedNotFound
}
