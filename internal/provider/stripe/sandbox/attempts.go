package sandbox

import (
	"net/http"
	"net/url"
	"strings"
)

// action is one 3-D Secure step: a page of its own, resolved once. Guarded by Server.mu.
type action struct {
	id        string
	intent    string // pi_… or seti_…
	method    string
	returnURL string // the caller's, or empty
	session   string // the checkout session it belongs to, or empty
	status    string // pending, authenticated, failed
	decline   *hostedDecline
}

func (a *action) hidden() any {
	return &struct {
		ID        *string         `json:"id"`
		Intent    *string         `json:"intent"`
		Method    *string         `json:"method"`
		ReturnURL *string         `json:"return_url"`
		Session   *string         `json:"session"`
		Status    *string         `json:"status"`
		Decline   **hostedDecline `json:"decline"`
	}{&a.id, &a.intent, &a.method, &a.returnURL, &a.session, &a.status, &a.decline}
}

const (
	actionPending       = "pending"
	actionAuthenticated = "authenticated"
	actionFailed        = "failed"
)

// newAction begins a 3-D Secure step and returns what the intent shows of it.
func (c *call) newAction(intent, session string, m *paymentMethod, returnURL string) (*action, *nextAction) {
	a := &action{id: c.newID("tds_", 32), intent: intent, method: m.ID, returnURL: returnURL, session: session, status: actionPending}
	c.actions.add(a.id, a)
	page := c.base + "/3ds/" + a.id
	if session != "" {
		returnURL = c.base + "/c/pay/" + session
	}
	if returnURL == "" {
		return a, &nextAction{Type: "use_stripe_sdk", UseStripeSDK: &sdkAction{Type: "three_d_secure_redirect", StripeJS: page}}
	}
	return a, &nextAction{Type: "redirect_to_url", RedirectToURL: &redirectAction{ReturnURL: nullable(returnURL), URL: page}}
}

// dropAction forgets a 3-D Secure step that another attempt replaces.
func (c *call) dropAction(pi *paymentIntent) {
	c.actions.remove(pi.action)
	pi.action, pi.NextAction = "", nil
}

// attemptPayment tries to take the money, or sends the buyer to 3-D Secure. A decline is returned as Stripe's 402.
func (c *call) attemptPayment(pi *paymentIntent, m *paymentMethod, in confirmation) *apiError {
	pi.LastPaymentError = nil
	pi.PaymentMethod = nullable(m.ID)
	if !m.needsAuthentication(in.offSession) {
		return c.settlePayment(pi, m)
	}
	if in.offSession {
		return c.declinePayment(pi, m, authenticationNeeded())
	}
	if in.errorOnAction {
		d := authenticationNeeded()
		d.declineCode = "authentication_not_handled"
		return c.declinePayment(pi, m, d)
	}
	a, next := c.newAction(pi.ID, pi.session, m, in.returnURL)
	pi.action, pi.NextAction, pi.Status = a.id, next, needsAction
	c.emit("payment_intent.requires_action", pi)
	return nil
}

// settlePayment takes the money, or lets the issuer say no.
func (c *call) settlePayment(pi *paymentIntent, m *paymentMethod) *apiError {
	c.dropAction(pi)
	if planned := m.declines.next(); planned != nil {
		return c.declinePayment(pi, m, planned)
	}
	if m.rule.bank {
		c.delayPayment(pi, m)
		return nil
	}
	if m.rule.payDecline != nil {
		return c.declinePayment(pi, m, m.rule.payDecline)
	}
	ch := c.newCharge(pi, m)
	pi.LatestCharge, pi.LastPaymentError = nullable(ch.ID), nil
	if pi.CaptureMethod == "manual" {
		pi.Status, pi.AmountCapturable = needsCapture, pi.Amount
		c.emit("charge.succeeded", ch)
		c.emit("payment_intent.amount_capturable_updated", pi)
	} else {
		c.bookCharge(ch, ch.Amount)
		pi.Status, pi.AmountReceived = intentSucceeded, pi.Amount
		pi.captures++
		c.emit("charge.succeeded", ch)
		c.emit("payment_intent.succeeded", pi)
	}
	c.keepMethod(pi, m)
	c.afterCharge(ch, m.rule)
	if session := c.sessions.get(pi.session); session != nil {
		c.completeSession(session, m, sessionPaid)
	}
	return nil
}

// keepMethod attaches a card that was to be saved; one that nobody owns can't be used again.
func (c *call) keepMethod(pi *paymentIntent, m *paymentMethod) {
	if pi.SetupFutureUsage == "off_session" {
		m.setUp = true
	}
	cus := c.customers.get(string(pi.Customer))
	switch {
	case m.Customer != "":
	case pi.SetupFutureUsage != "" && cus != nil && !cus.deleted:
		c.attach(m, cus)
	default:
		m.consumed = true
	}
}

// captureCharge takes the money of an authorized charge; the rest of the authorization is given back.
func (c *call) captureCharge(pi *paymentIntent, ch *charge, amount int64) {
	before := snapshot(ch)
	c.bookCharge(ch, amount)
	ch.AmountRefunded = ch.Amount - amount
	pi.Status, pi.AmountReceived, pi.AmountCapturable = intentSucceeded, amount, 0
	pi.captures++
	c.emitChange("charge.captured", before, ch)
	c.emit("payment_intent.succeeded", pi)
}

// declinePayment records a failed charge. The intent is back at the beginning, without a method.
func (c *call) declinePayment(pi *paymentIntent, m *paymentMethod, d *decline) *apiError {
	ch := c.newFailedCharge(pi, m, d)
	pi.LatestCharge = nullable(ch.ID)
	failure := c.failPayment(pi, m, &intentError{Charge: ch.ID, Code: d.code, DeclineCode: d.declineCode, AdviceCode: d.adviceCode, Message: d.message, Param: d.param, Type: typeCard}, ch)
	return &apiError{
		status: http.StatusPaymentRequired, Type: typeCard, Code: failure.Code, DeclineCode: failure.DeclineCode, AdviceCode: failure.AdviceCode, Message: failure.Message,
		Param: failure.Param, Charge: failure.Charge, PaymentIntent: pi, PaymentMethod: m,
	}
}

// failPayment puts the intent back to requires_payment_method and records the events, the charge's first if there is one.
func (c *call) failPayment(pi *paymentIntent, m *paymentMethod, failure *intentError, ch *charge) *intentError {
	c.dropAction(pi)
	shown := *m
	failure.PaymentMethod = &shown
	failure.DocURL = "https://stripe.com/docs/error-codes/" + strings.ReplaceAll(failure.Code, "_", "-")
	pi.Status, pi.PaymentMethod, pi.LastPaymentError = needsMethod, "", failure
	if ch != nil {
		c.emit("charge.failed", ch)
	}
	c.emit("payment_intent.payment_failed", pi)
	return failure
}

// resolve ends a 3-D Secure step as the buyer did. A step that was resolved, or replaced, is left as it is.
func (c *call) resolve(a *action, authenticated bool) {
	m := c.methods.get(a.method)
	pi, si := c.payments.get(a.intent), c.setups.get(a.intent)
	switch {
	case a.status != actionPending:
		return
	case pi != nil && pi.action == a.id && pi.Status == needsAction:
		c.resolvePayment(a, pi, m, authenticated)
	case si != nil && si.action == a.id && si.Status == needsAction:
		c.resolveSetup(a, si, m, authenticated)
	default:
		a.status = actionFailed
	}
	// The step stays known, so that a page opened twice still leads on.
	if c.actions.peek(a.id) == nil {
		c.actions.add(a.id, a)
	}
}

func (c *call) resolvePayment(a *action, pi *paymentIntent, m *paymentMethod, authenticated bool) {
	if authenticated {
		a.status = actionAuthenticated
		a.decline = declineOf(c.settlePayment(pi, m))
		return
	}
	a.status = actionFailed
	failure := c.failPayment(pi, m, &intentError{
		Code: codeIntentAuthFail, Type: typeInvalidRequest,
		Message: "The provided PaymentMethod has failed authentication. You can provide payment_method_data or a new PaymentMethod to attempt to fulfill this PaymentIntent again.",
	}, nil)
	a.decline = &hostedDecline{Code: failure.Code, Message: authenticationFailedText}
}

// authenticationFailedText is what a buyer reads; the API's sentence is meant for programmers.
const authenticationFailedText = "We are unable to authenticate your payment method. Please choose a different payment method and try again."

// declineOf is what a page shows of an error, nil for none.
func declineOf(err *apiError) *hostedDecline {
	if err == nil {
		return nil
	}
	return &hostedDecline{Code: err.Code, DeclineCode: err.DeclineCode, Message: err.Message, Param: err.Param}
}

// leadsTo is where the buyer goes after a 3-D Secure step.
func (c *call) leadsTo(a *action) string {
	if session := c.sessions.get(a.session); session != nil {
		if session.Status == sessionComplete {
			return session.successURL()
		}
		return c.base + "/c/pay/" + session.ID
	}
	u, err := url.Parse(a.returnURL)
	if err != nil || a.returnURL == "" {
		return ""
	}
	status := intentSucceeded
	if a.status != actionAuthenticated || a.decline != nil {
		status = "failed"
	}
	q := u.Query()
	kind, secret := "setup_intent", ""
	if pi := c.payments.get(a.intent); pi != nil {
		kind, secret = "payment_intent", pi.ClientSecret
	} else if si := c.setups.get(a.intent); si != nil {
		secret = si.ClientSecret
	}
	q.Set(kind, a.intent)
	q.Set(kind+"_client_secret", secret)
	q.Set("redirect_status", status)
	u.RawQuery = q.Encode()
	return u.String()
}
