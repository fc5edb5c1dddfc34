package sandbox

import (
	"fmt"
	"slices"
)

// A bank debit is the delayed method: the buyer is done at once, and the money comes, or does not, later.

const (
	typeBankAccount  = "us_bank_account"
	intentProcessing = "processing"
	chargePending    = "pending"

	sessionPaid = "paid"
)

// usBankAccount is what a payment method and a charge show of an account. The number is not kept.
type usBankAccount struct {
	AccountHolderType string `json:"account_holder_type"`
	AccountType       string `json:"account_type"`
	BankName          string `json:"bank_name"`
	Fingerprint       string `json:"fingerprint"`
	Last4             string `json:"last4"`
	RoutingNumber     string `json:"routing_number"`
}

// bankAccounts lists the test accounts, by the names that Stripe's test tokens have: pm_usBankAccount_success.
// Source: https://docs.stripe.com/payments/ach-direct-debit/accept-a-payment#test-account-numbers
func bankAccounts() []cardRule {
	return []cardRule{
		{number: "000123456789", name: "usBankAccount_success", bank: true},
		{number: "000222222227", name: "usBankAccount_insufficientFunds", bank: true, payDecline: &decline{
			code: "payment_method_customer_decline", declineCode: "insufficient_funds",
			message: "The customer's account has insufficient funds to cover this payment.",
		}},
	}
}

func bankAccountByName(name string) (cardRule, bool) {
	i := slices.IndexFunc(bankAccounts(), func(r cardRule) bool { return r.name == name })
	if i < 0 {
		return cardRule{}, false
	}
	return bankAccounts()[i], true
}

// newAccount is the account that a rule's number stands for.
func newAccount(rule cardRule) *usBankAccount {
	return &usBankAccount{
		AccountHolderType: "individual", AccountType: "checking", BankName: "STRIPE TEST BANK", Fingerprint: fingerprint(rule.number),
		Last4: rule.number[len(rule.number)-4:], RoutingNumber: "110000000",
	}
}

// delayedMethods are what the control call that completes a session may name instead of a card.
func delayedMethods() map[string]string {
	return map[string]string{"delayed_success": "usBankAccount_success", "delayed_failure": "usBankAccount_insufficientFunds"}
}

// submitBankDebit does what the checkout page's buttons of the test accounts do. Errors are those of submitCard, and one for
// a session that takes no bank debits.
func (s *Server) submitBankDebit(sessionID, method string) (hostedOutcome, error) {
	rule, known := bankAccountByName(delayedMethods()[method])
	if !known {
		return hostedOutcome{}, fmt.Errorf("method is %q: delayed_success or delayed_failure", method)
	}
	s.enter()
	defer s.leave()
	s.tick()
	c := s.newCall()
	cs, ok := c.sessions.find(sessionID)
	switch {
	case !ok:
		return hostedOutcome{}, errHostedNotFound
	case cs.Status != sessionOpen:
		return hostedOutcome{}, errHostedClosed
	case !cs.takesBankDebits():
		return hostedOutcome{}, fmt.Errorf("session %s takes no bank debits", sessionID)
	}
	c.base = orDefault(c.base, cs.base)
	return c.use(cs, c.newMethod(typedCard{rule: rule}, billingDetails{Email: c.buyerEmail(cs)})), nil
}

// takesBankDebits tells whether the session's page offers a bank debit.
func (cs *checkoutSession) takesBankDebits() bool {
	return cs.Mode == modePayment && slices.Contains(cs.PaymentMethodTypes, typeBankAccount)
}

// delayPayment begins a payment whose end comes later.
func (c *call) delayPayment(pi *paymentIntent, m *paymentMethod) {
	ch := c.newCharge(pi, m)
	ch.Status, ch.Paid = chargePending, false
	pi.LatestCharge, pi.LastPaymentError, pi.Status = nullable(ch.ID), nil, intentProcessing
	c.emit("payment_intent.processing", pi)
	c.emit("charge.pending", ch)
	c.keepMethod(pi, m)
	if session := c.sessions.get(pi.session); session != nil {
		c.completeSession(session, m, session.PaymentStatus)
	}
	c.after(c.cfg.DelayedAfter, taskEndPayment, pi.ID, "")
}

// endPayment ends a delayed payment: the money is here, or the bank says no.
func (c *call) endPayment(pi *paymentIntent) {
	ch, m := c.charges.get(string(pi.LatestCharge)), c.methods.get(string(pi.PaymentMethod))
	if pi.Status != intentProcessing || ch == nil || m == nil {
		return
	}
	session := c.sessions.get(pi.session)
	if d := m.rule.payDecline; d != nil {
		ch.fail(d)
		c.failPayment(pi, m, &intentError{Charge: ch.ID, Code: d.code, DeclineCode: d.declineCode, Message: d.message, Type: typeCard}, ch)
		if session != nil {
			c.emit("checkout.session.async_payment_failed", session)
		}
		return
	}
	ch.Status, ch.Paid = chargeSucceeded, true
	c.bookCharge(ch, ch.Amount)
	pi.Status, pi.AmountReceived = intentSucceeded, pi.Amount
	pi.captures++
	c.emit("charge.succeeded", ch)
	c.emit("payment_intent.succeeded", pi)
	if session != nil {
		session.PaymentStatus = sessionPaid
		c.emit("checkout.session.async_payment_succeeded", session)
	}
}
