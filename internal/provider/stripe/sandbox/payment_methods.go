package sandbox

import (
	"net/http"
)

// paymentMethod is a card, or a bank account. Number and security code are not kept.
type paymentMethod struct {
	ID             string            `json:"id"`
	Object         string            `json:"object"`
	BillingDetails billingDetails    `json:"billing_details"`
	Card           card              `json:"card,omitzero"`
	Created        int64             `json:"created"`
	Customer       nullable          `json:"customer"`
	Livemode       bool              `json:"livemode"`
	Metadata       map[string]string `json:"metadata"`
	Type           string            `json:"type"`
	USBankAccount  *usBankAccount    `json:"us_bank_account,omitempty"`

	rule     cardRule
	setUp    bool // 3-D Secure was passed for later off-session use
	consumed bool // used once without a customer, or detached: it can't be used again
	declines *plannedDecline
}

func (m *paymentMethod) hidden() any {
	return &struct {
		Rule     *cardRule        `json:"rule"`
		SetUp    *bool            `json:"set_up"`
		Consumed *bool            `json:"consumed"`
		Declines **plannedDecline `json:"declines,omitempty"`
	}{&m.rule, &m.setUp, &m.consumed, &m.declines}
}

type card struct {
	Brand             string       `json:"brand"`
	Checks            cardChecks   `json:"checks"`
	Country           string       `json:"country"`
	DisplayBrand      string       `json:"display_brand"`
	ExpMonth          int64        `json:"exp_month"`
	ExpYear           int64        `json:"exp_year"`
	Fingerprint       string       `json:"fingerprint"`
	Funding           string       `json:"funding"`
	GeneratedFrom     null         `json:"generated_from"`
	Last4             string       `json:"last4"`
	Networks          cardNetworks `json:"networks"`
	ThreeDSecureUsage supported    `json:"three_d_secure_usage"`
	Wallet            null         `json:"wallet"`
}

type cardChecks struct {
	AddressLine1Check      nullable `json:"address_line1_check"`
	AddressPostalCodeCheck nullable `json:"address_postal_code_check"`
	CVCCheck               nullable `json:"cvc_check"`
}

type cardNetworks struct {
	Available []string `json:"available"`
	Preferred null     `json:"preferred"`
}

type supported struct {
	Supported bool `json:"supported"`
}

func paymentMethodRoutes() []route {
	return []route{
		{"POST /v1/payment_methods", "payment_methods.create", createMethod},
		{"GET /v1/payment_methods", "payment_methods.list", listMethods},
		{"GET /v1/payment_methods/{id}", "payment_methods.retrieve", retrieveMethod},
		{"POST /v1/payment_methods/{id}", "payment_methods.update", updateMethod},
		{"POST /v1/payment_methods/{id}/attach", "payment_methods.attach", attachMethod},
		{"POST /v1/payment_methods/{id}/detach", "payment_methods.detach", detachMethod},
		{"GET /v1/customers/{id}/payment_methods", "customers.list_payment_methods", listCustomerMethods},
		{"GET /v1/customers/{id}/payment_methods/{sub}", "customers.retrieve_payment_method", retrieveCustomerMethod},
	}
}

// newMethod makes a card or a bank account that nobody owns yet and records no event, as Stripe does.
func (c *call) newMethod(t typedCard, billing billingDetails) *paymentMethod {
	m := &paymentMethod{
		ID: c.objectID("pm_"), Object: "payment_method", BillingDetails: billing, Created: c.now().Unix(), Metadata: map[string]string{}, Type: "card",
		rule: t.rule,
	}
	if t.rule.bank {
		m.Type, m.USBankAccount = typeBankAccount, newAccount(t.rule)
	} else {
		m.Card = card{
			Brand: t.rule.brand, Country: "US", DisplayBrand: t.rule.brand, ExpMonth: t.expMonth, ExpYear: t.expYear,
			Fingerprint: fingerprint(t.rule.number), Funding: orDefault(t.rule.funding, "credit"), Last4: t.rule.number[len(t.rule.number)-4:],
			Networks: cardNetworks{Available: []string{t.rule.brand}}, ThreeDSecureUsage: supported{Supported: true},
		}
	}
	m.rule.number = "" // not kept
	if t.cvcGiven && !t.rule.bank {
		m.Card.Checks.CVCCheck = "unchecked"
	}
	c.methods.add(m.ID, m)
	return m
}

// namedCard is the card behind a test token: good until the end of next year's month.
func (c *call) namedCard(rule cardRule) typedCard {
	now := c.now()
	return typedCard{rule: rule, expMonth: int64(now.Month()), expYear: int64(now.Year()) + 1, cvcGiven: true}
}

// method finds a payment method named by a parameter. A test name (pm_card_visa) makes a new one each time.
func (c *call) method(id string, status int) (*paymentMethod, *apiError) {
	if rule, ok := ruleByName(id); ok {
		return c.newMethod(c.namedCard(rule), billingDetails{}), nil
	}
	m, ok := c.methods.find(id)
	if !ok {
		return nil, noSuch(status, "PaymentMethod", id, "payment_method")
	}
	return m, nil
}

// billing reads billing_details.
func (p *params) billing() billingDetails {
	var out billingDetails
	b := p.sub("billing_details")
	if a := b.address("address"); a != nil {
		out.Address = *a
	}
	b.set("email", &out.Email)
	b.set("name", &out.Name)
	b.set("phone", &out.Phone)
	return out
}

// cardParams is a card hash as sent: raw numbers or a test token.
type cardParams struct {
	sent               bool
	token, number, cvc string
	month, year        int64
	param              string
}

func (p *params) card() cardParams {
	c := p.sub("card")
	out := cardParams{sent: p.has("card"), token: c.text("token"), number: c.text("number"), cvc: c.text("cvc"), param: p.full("card")}
	out.month, _ = c.integer("exp_month")
	out.year, _ = c.integer("exp_year")
	c.ignore("networks")
	return out
}

// typed checks a card hash.
func (c *call) typed(in cardParams) (typedCard, *apiError) {
	switch {
	case !in.sent:
		return typedCard{}, missingParam(in.param)
	case in.token != "":
		rule, ok := ruleByName(in.token)
		if !ok {
			return typedCard{}, noSuch(http.StatusBadRequest, "token", in.token, in.param+"[token]")
		}
		return c.namedCard(rule), nil
	case in.number == "":
		return typedCard{}, missingParam(in.param + "[number]")
	}
	return checkCard(in.number, in.month, in.year, in.cvc, c.now())
}

// onlyCards refuses the kinds of payment that the sandbox does not play.
func (p *params) onlyCards(name string) {
	if t := p.need(name); t != "" && t != "card" {
		p.fail(badParam("", p.full(name), "Invalid %s: the sandbox knows only card.", p.full(name)))
	}
}

func createMethod(c *call) (any, *apiError) {
	p := c.params
	p.onlyCards("type")
	in := p.card()
	billing := p.billing()
	metadata := p.metadata()
	p.ignore("allow_redisplay", "radar_options")
	if err := p.done(); err != nil {
		return nil, err
	}
	t, err := c.typed(in)
	if err != nil {
		return nil, err
	}
	m := c.newMethod(t, billing)
	m.Metadata = metadata.apply(nil)
	return m, nil
}

func retrieveMethod(c *call) (any, *apiError) {
	if err := c.params.done(); err != nil {
		return nil, err
	}
	return c.method(c.id, http.StatusNotFound)
}

func updateMethod(c *call) (any, *apiError) {
	p := c.params
	billed, billing, metadata := p.has("billing_details"), p.billing(), p.metadata()
	in := p.sub("card")
	month, monthSent := in.integer("exp_month")
	year, yearSent := in.integer("exp_year")
	in.ignore("networks")
	p.ignore("allow_redisplay")
	if err := p.done(); err != nil {
		return nil, err
	}
	m, err := c.method(c.id, http.StatusNotFound)
	if err != nil {
		return nil, err
	}
	if m.Customer == "" {
		return nil, refused("", "", "You must save this PaymentMethod to a customer before you can update it.")
	}
	if err := checkMetadata(m.Metadata, metadata); err != nil {
		return nil, err
	}
	if monthSent && (month < 1 || month > 12) {
		return nil, cardError("invalid_expiry_month", "exp_month", "Your card's expiration month is invalid.")
	}
	before := snapshot(m)
	if billed {
		m.BillingDetails = billing
	}
	if monthSent {
		m.Card.ExpMonth = month
	}
	if yearSent {
		m.Card.ExpYear = year
	}
	m.Metadata = metadata.apply(m.Metadata)
	c.emitIfChanged("payment_method.updated", before, m)
	return m, nil
}

func attachMethod(c *call) (any, *apiError) {
	owner := c.params.need("customer")
	if err := c.params.done(); err != nil {
		return nil, err
	}
	cus, err := c.customer(owner, "customer", http.StatusBadRequest)
	if err != nil {
		return nil, err
	}
	m, err := c.method(c.id, http.StatusNotFound)
	if err != nil {
		return nil, err
	}
	switch {
	case string(m.Customer) == cus.ID:
		return m, nil
	case m.Customer != "":
		return nil, refused("", "", "The payment method you provided has already been attached to a customer.")
	case m.consumed:
		return nil, consumedMethod()
	case m.rule.saveDecline != nil:
		d := m.rule.saveDecline
		return nil, &apiError{status: http.StatusPaymentRequired, Type: typeCard, Code: d.code, DeclineCode: d.declineCode, Message: d.message, Param: d.param}
	}
	c.attach(m, cus)
	return m, nil
}

func consumedMethod() *apiError {
	return refused("", "", "This PaymentMethod was previously used without being attached to a Customer or was detached from a Customer, and may not be used again.")
}

// attach gives a card to a customer.
func (c *call) attach(m *paymentMethod, cus *customer) {
	m.Customer = nullable(cus.ID)
	if m.Card.Checks.CVCCheck == "unchecked" {
		m.Card.Checks.CVCCheck = "pass"
	}
	c.emit("payment_method.attached", m)
}

func detachMethod(c *call) (any, *apiError) {
	if err := c.params.done(); err != nil {
		return nil, err
	}
	m, err := c.method(c.id, http.StatusNotFound)
	if err != nil {
		return nil, err
	}
	if m.Customer == "" {
		return nil, refused("", "", "The payment method you provided is not attached to a customer so detachment is impossible.")
	}
	cus := c.customers.get(string(m.Customer))
	before := snapshot(m)
	m.Customer, m.consumed = "", true
	c.emitChange("payment_method.detached", before, m)
	if cus != nil && string(cus.InvoiceSettings.DefaultPaymentMethod) == m.ID {
		was := snapshot(cus)
		cus.InvoiceSettings.DefaultPaymentMethod = ""
		c.emitChange("customer.updated", was, cus)
	}
	return m, nil
}

func listMethods(c *call) (any, *apiError) {
	owner := c.params.text("customer")
	kind := c.params.text("type")
	if owner != "" {
		if _, err := c.customer(owner, "customer", http.StatusBadRequest); err != nil {
			return nil, err
		}
	}
	return c.methodsOf(owner, kind, "/v1/payment_methods")
}

// methodsOf lists a customer's cards. Stripe lists nothing without a customer.
func (c *call) methodsOf(owner, kind, url string) (any, *apiError) {
	return listOf(c, &c.methods, url, "PaymentMethod", func(m *paymentMethod) int64 { return m.Created }, func(m *paymentMethod) bool {
		return owner != "" && string(m.Customer) == owner && (kind == "" || kind == m.Type)
	})
}

func listCustomerMethods(c *call) (any, *apiError) {
	kind := c.params.text("type")
	c.params.ignore("allow_redisplay")
	if _, err := c.customer(c.id, "customer", http.StatusNotFound); err != nil {
		return nil, err
	}
	return c.methodsOf(c.id, kind, "/v1/customers/"+c.id+"/payment_methods")
}

func retrieveCustomerMethod(c *call) (any, *apiError) {
	if err := c.params.done(); err != nil {
		return nil, err
	}
	m, ok := c.methods.find(c.sub)
	if !ok || string(m.Customer) != c.id {
		return nil, noSuch(http.StatusNotFound, "PaymentMethod", c.sub, "payment_method")
	}
	return m, nil
}
