package sandbox

import (
	"net/http"
	"slices"
	"strings"
)

// States of payment and setup intents.
const (
	needsMethod       = "requires_payment_method"
	needsConfirmation = "requires_confirmation"
	needsAction       = "requires_action"
	needsCapture      = "requires_capture"
	intentSucceeded   = "succeeded"
	intentCanceled    = "canceled"
)

type paymentIntent struct {
	ID                                string            `json:"id"`
	Object                            string            `json:"object"`
	Amount                            int64             `json:"amount"`
	AmountCapturable                  int64             `json:"amount_capturable"`
	AmountDetails                     amountDetails     `json:"amount_details"`
	AmountReceived                    int64             `json:"amount_received"`
	Application                       null              `json:"application"`
	ApplicationFeeAmount              null              `json:"application_fee_amount"`
	AutomaticPaymentMethods           *automaticMethods `json:"automatic_payment_methods"`
	CanceledAt                        nullInt           `json:"canceled_at"`
	CancellationReason                nullable          `json:"cancellation_reason"`
	CaptureMethod                     string            `json:"capture_method"`
	ClientSecret                      string            `json:"client_secret"`
	ConfirmationMethod                string            `json:"confirmation_method"`
	Created                           int64             `json:"created"`
	Currency                          string            `json:"currency"`
	Customer                          nullable          `json:"customer"`
	Description                       nullable          `json:"description"`
	Invoice                           null              `json:"invoice"`
	LastPaymentError                  *intentError      `json:"last_payment_error"`
	LatestCharge                      nullable          `json:"latest_charge"`
	Livemode                          bool              `json:"livemode"`
	Metadata                          map[string]string `json:"metadata"`
	NextAction                        *nextAction       `json:"next_action"`
	OnBehalfOf                        null              `json:"on_behalf_of"`
	PaymentMethod                     nullable          `json:"payment_method"`
	PaymentMethodConfigurationDetails null              `json:"payment_method_configuration_details"`
	PaymentMethodOptions              methodOptions     `json:"payment_method_options"`
	PaymentMethodTypes                []string          `json:"payment_method_types"`
	Processing                        null              `json:"processing"`
	ReceiptEmail                      nullable          `json:"receipt_email"`
	Review                            null              `json:"review"`
	SetupFutureUsage                  nullable          `json:"setup_future_usage"`
	Shipping                          *shippingDetails  `json:"shipping"`
	StatementDescriptor               nullable          `json:"statement_descriptor"`
	StatementDescriptorSuffix         nullable          `json:"statement_descriptor_suffix"`
	Status                            string            `json:"status"`
	TransferData                      null              `json:"transfer_data"`
	TransferGroup                     nullable          `json:"transfer_group"`

	session  string // the checkout session that made it, or empty
	action   string // the 3-D Secure step that it waits for, or empty
	captures int    // how often money was taken: never more than once
}

func (pi *paymentIntent) hidden() any {
	return &struct {
		Session  *string `json:"session"`
		Action   *string `json:"action"`
		Captures *int    `json:"captures"`
	}{&pi.session, &pi.action, &pi.captures}
}

type amountDetails struct {
	Tip none `json:"tip"`
}

type automaticMethods struct {
	AllowRedirects string `json:"allow_redirects"`
	Enabled        bool   `json:"enabled"`
}

type methodOptions struct {
	Card cardOptions `json:"card"`
}

type cardOptions struct {
	Installments        nullIfSet `json:"installments,omitzero"`
	MandateOptions      null      `json:"mandate_options"`
	Network             null      `json:"network"`
	RequestThreeDSecure string    `json:"request_three_d_secure"`
}

// intentError is why the last attempt failed.
type intentError struct {
	Charge        string         `json:"charge,omitempty"`
	Code          string         `json:"code"`
	DeclineCode   string         `json:"decline_code,omitempty"`
	AdviceCode    string         `json:"advice_code,omitempty"`
	DocURL        string         `json:"doc_url"`
	Message       string         `json:"message"`
	Param         string         `json:"param,omitempty"`
	PaymentMethod *paymentMethod `json:"payment_method,omitempty"`
	Type          string         `json:"type"`
}

// nextAction sends the buyer to a 3-D Secure page of the sandbox.
type nextAction struct {
	RedirectToURL *redirectAction `json:"redirect_to_url,omitempty"`
	Type          string          `json:"type"`
	UseStripeSDK  *sdkAction      `json:"use_stripe_sdk,omitempty"`
}

type redirectAction struct {
	ReturnURL nullable `json:"return_url"`
	URL       string   `json:"url"`
}

type sdkAction struct {
	StripeJS string `json:"stripe_js"`
	Type     string `json:"type"`
}

func paymentIntentRoutes() []route {
	return []route{
		{"POST /v1/payment_intents", "payment_intents.create", createPayment},
		{"GET /v1/payment_intents", "payment_intents.list", listPayments},
		{"GET /v1/payment_intents/{id}", "payment_intents.retrieve", retrievePayment},
		{"POST /v1/payment_intents/{id}", "payment_intents.update", updatePayment},
		{"POST /v1/payment_intents/{id}/confirm", "payment_intents.confirm", confirmPayment},
		{"POST /v1/payment_intents/{id}/capture", "payment_intents.capture", capturePayment},
		{"POST /v1/payment_intents/{id}/cancel", "payment_intents.cancel", cancelPayment},
	}
}

func (c *call) payment() (*paymentIntent, *apiError) {
	pi, ok := c.payments.find(c.id)
	if !ok {
		return nil, noSuch(http.StatusNotFound, "payment_intent", c.id, "intent")
	}
	return pi, nil
}

// paymentPatch is what create and update have in common.
type paymentPatch struct {
	amount                 int64
	amountSent             bool
	currency               string
	customer               string
	method                 string
	methodData             *methodData
	futureUsage            string
	types                  []string
	metadata               metadataPatch
	shipping               *shippingDetails
	shippingSent           bool
	captureMethod          string
	description, receipt   *string
	descriptor, descSuffix *string
	transferGroup          *string
}

// methodData makes a new card within a request about an intent.
type methodData struct {
	card    cardParams
	billing billingDetails
}

func (p *params) methodData() *methodData {
	if !p.has("payment_method_data") {
		return nil
	}
	d := p.sub("payment_method_data")
	d.onlyCards("type")
	out := &methodData{card: d.card(), billing: d.billing()}
	d.ignore("allow_redisplay", "metadata", "radar_options")
	return out
}

func (p *params) optional(name string, limit int) *string {
	if !p.has(name) {
		return nil
	}
	v := p.textMax(name, limit)
	return &v
}

// futureUsage reads setup_future_usage.
func (p *params) futureUsage() string {
	return p.enum("setup_future_usage", "off_session", "on_session")
}

// methodTypes reads payment_method_types.
func (p *params) methodTypes() []string {
	types := p.list("payment_method_types")
	for _, t := range types {
		if t != "card" && t != "link" && t != typeBankAccount {
			p.fail(badParam("payment_intent_invalid_parameter", p.full("payment_method_types"),
				"The payment method type provided: %s is invalid. The sandbox knows only card and us_bank_account.", t))
		}
	}
	return types
}

func (p *params) paymentPatch() paymentPatch {
	patch := paymentPatch{
		currency: p.currency(false), customer: p.text("customer"), method: p.text("payment_method"), methodData: p.methodData(),
		futureUsage: p.futureUsage(), types: p.methodTypes(), metadata: p.metadata(), captureMethod: p.captureMethod(),
		description: p.optional("description", 1000), receipt: p.optional("receipt_email", 800),
		descriptor: p.optional("statement_descriptor", 22), descSuffix: p.optional("statement_descriptor_suffix", 22),
		transferGroup: p.optional("transfer_group", 500),
	}
	patch.amount, patch.amountSent = p.amount("amount")
	patch.shipping, patch.shippingSent = p.shipping()
	p.ignore("payment_method_options", "payment_method_configuration", "application_fee_amount", "on_behalf_of", "transfer_data", "level3", "source")
	return patch
}

func (p *params) captureMethod() string {
	return p.enum("capture_method", "automatic", "automatic_async", "manual")
}

func (patch paymentPatch) apply(pi *paymentIntent) {
	if patch.amountSent {
		pi.Amount = patch.amount
	}
	pi.Currency = orDefault(patch.currency, pi.Currency)
	pi.CaptureMethod = orDefault(patch.captureMethod, pi.CaptureMethod)
	if patch.customer != "" {
		pi.Customer = nullable(patch.customer)
	}
	if patch.futureUsage != "" {
		pi.SetupFutureUsage = nullable(patch.futureUsage)
	}
	if len(patch.types) > 0 {
		pi.PaymentMethodTypes = patch.types
	}
	if patch.shippingSent {
		pi.Shipping = patch.shipping
	}
	set := func(v *string, dst *nullable) {
		if v != nil {
			*dst = nullable(*v)
		}
	}
	set(patch.description, &pi.Description)
	set(patch.receipt, &pi.ReceiptEmail)
	set(patch.descriptor, &pi.StatementDescriptor)
	set(patch.descSuffix, &pi.StatementDescriptorSuffix)
	set(patch.transferGroup, &pi.TransferGroup)
	pi.Metadata = patch.metadata.apply(pi.Metadata)
}

// confirmation is how an attempt is to be made.
type confirmation struct {
	offSession    bool
	errorOnAction bool
	returnURL     string
}

func (p *params) confirmation() confirmation {
	var in confirmation
	switch v := p.text("off_session"); v {
	case "one_off", "recurring", "true":
		in.offSession = true
	case "", "false":
	default:
		p.fail(badParam("", "off_session", "Invalid boolean: %s", v))
	}
	in.errorOnAction, _ = p.boolean("error_on_requires_action")
	in.returnURL = p.returnURL("return_url")
	p.ignore("mandate", "mandate_data", "use_stripe_sdk", "radar_options", "confirmation_token")
	return in
}

// returnURL allows the schemes of apps too.
func (p *params) returnURL(name string) string {
	v := p.text(name)
	if v != "" && !strings.Contains(v, "://") {
		p.fail(badParam("url_invalid", p.full(name), "Not a valid URL"))
	}
	return v
}

func createPayment(c *call) (any, *apiError) {
	p := c.params
	if !p.has("amount") {
		p.fail(missingParam("amount"))
	}
	if p.text("currency") == "" {
		p.fail(missingParam("currency"))
	}
	patch := p.paymentPatch()
	confirmNow, _ := p.boolean("confirm")
	if !confirmNow {
		for _, name := range []string{"off_session", "return_url", "error_on_requires_action", "mandate_data"} {
			if p.has(name) {
				p.fail(badParam("", name, "You can only provide `%s` when creating a PaymentIntent if `confirm` is set to true.", name))
			}
		}
	}
	in := p.confirmation()
	automatic := p.automaticMethods(patch.types)
	manual := p.enum("confirmation_method", "automatic", "manual")
	if err := p.done(); err != nil {
		return nil, err
	}
	if err := tooSmall(patch.amount, patch.currency); err != nil {
		return nil, err
	}
	if err := c.checkPayer(patch.customer, patch.method); err != nil {
		return nil, err
	}
	if confirmNow {
		if err := needsReturnURL(automatic, in); err != nil {
			return nil, err
		}
		if patch.method == "" && patch.methodData == nil {
			return nil, noMethodToConfirm("PaymentIntent", codeIntentState)
		}
	}
	m, err := c.chosenMethod(patch.method, patch.methodData)
	if err != nil {
		return nil, err
	}
	pi := c.newPayment(automatic)
	patch.apply(pi)
	pi.ConfirmationMethod = orDefault(manual, "automatic")
	if m != nil {
		pi.PaymentMethod, pi.Status = nullable(m.ID), needsConfirmation
	}
	c.emit("payment_intent.created", pi)
	if confirmNow {
		return pi, c.attemptPayment(pi, m, in)
	}
	return pi, nil
}

// automaticMethods reads automatic_payment_methods, on by default since API 2023-08-16 unless types are named.
func (p *params) automaticMethods(types []string) *automaticMethods {
	a := p.sub("automatic_payment_methods")
	enabled, sent := a.boolean("enabled")
	redirects := a.enum("allow_redirects", "always", "never")
	if sent && enabled && len(types) > 0 {
		p.fail(badParam("", "payment_method_types", "You may only specify one of these parameters: automatic_payment_methods, payment_method_types."))
	}
	if len(types) > 0 || (sent && !enabled) {
		return nil
	}
	return &automaticMethods{AllowRedirects: orDefault(redirects, "always"), Enabled: true}
}

func (c *call) newPayment(automatic *automaticMethods) *paymentIntent {
	id := c.newID("pi_3", 23)
	pi := &paymentIntent{
		ID: id, Object: "payment_intent", AutomaticPaymentMethods: automatic, CaptureMethod: "automatic", ClientSecret: c.newID(id+"_secret_", 25),
		ConfirmationMethod: "automatic", Created: c.now().Unix(), Metadata: map[string]string{}, PaymentMethodTypes: []string{"card"},
		PaymentMethodOptions: methodOptions{Card: cardOptions{Installments: true, RequestThreeDSecure: "automatic"}}, Status: needsMethod,
	}
	c.payments.add(id, pi)
	return pi
}

// checkPayer refuses unknown customers and methods, and a method of somebody else.
func (c *call) checkPayer(customerID, methodID string) *apiError {
	if customerID != "" {
		if _, err := c.customer(customerID, "customer", http.StatusBadRequest); err != nil {
			return err
		}
	}
	if _, named := ruleByName(methodID); named || methodID == "" {
		return nil
	}
	m, err := c.method(methodID, http.StatusBadRequest)
	if err != nil {
		return err
	}
	return usableBy(m, customerID)
}

func usableBy(m *paymentMethod, customerID string) *apiError {
	switch owner := string(m.Customer); {
	case owner == customerID && owner != "":
	case owner != "" && customerID == "":
		return refused("", "payment_method", "The PaymentMethod supplied (%s) belongs to the Customer %s. Please include the Customer in the `customer` parameter.", m.ID, owner)
	case owner != "":
		return refused("", "payment_method", "The customer does not have a payment method with the ID %s. The payment method must be attached to the customer.", m.ID)
	case m.consumed:
		return consumedMethod()
	}
	return nil
}

// chosenMethod is the method that a request names or describes, or nil.
func (c *call) chosenMethod(id string, data *methodData) (*paymentMethod, *apiError) {
	switch {
	case data != nil:
		t, err := c.typed(data.card)
		if err != nil {
			return nil, err
		}
		return c.newMethod(t, data.billing), nil
	case id != "":
		return c.method(id, http.StatusBadRequest)
	}
	return nil, nil
}

func needsReturnURL(automatic *automaticMethods, in confirmation) *apiError {
	if automatic == nil || automatic.AllowRedirects == "never" || in.returnURL != "" {
		return nil
	}
	return badParam("", "return_url", "This PaymentIntent is configured to accept payment methods enabled in your Dashboard. Because some of these payment "+
		"methods might redirect your customer off of your page, you must provide a `return_url`. If you don't want to accept redirect-based payment methods, "+
		"set `automatic_payment_methods[enabled]` to `true` and `automatic_payment_methods[allow_redirects]` to `never` when creating Setup Intents and Payment Intents.")
}

func noMethodToConfirm(kind, code string) *apiError {
	return refused(code, "", "You cannot confirm this %s because it's missing a payment method. You can either update the %s with a payment method "+
		"and then confirm it again, or confirm it again directly with a payment method or ConfirmationToken.", kind, kind)
}

func retrievePayment(c *call) (any, *apiError) {
	c.params.ignore("client_secret")
	if err := c.params.done(); err != nil {
		return nil, err
	}
	return c.payment()
}

func listPayments(c *call) (any, *apiError) {
	owner := c.params.text("customer")
	return listOf(c, &c.payments, "/v1/payment_intents", "payment_intent", func(pi *paymentIntent) int64 { return pi.Created },
		func(pi *paymentIntent) bool { return owner == "" || string(pi.Customer) == owner })
}

func updatePayment(c *call) (any, *apiError) {
	patch := c.params.paymentPatch()
	if err := c.params.done(); err != nil {
		return nil, err
	}
	pi, err := c.payment()
	if err != nil {
		return nil, err
	}
	settled := pi.Status == intentSucceeded || pi.Status == intentCanceled || pi.Status == needsCapture || pi.Status == intentProcessing
	if settled && (patch.amountSent || patch.currency != "" || patch.method != "" || patch.methodData != nil || patch.customer != "") {
		return nil, intentState(pi, "This PaymentIntent's amount, currency, customer and payment method could not be updated because it has a status of "+pi.Status+".")
	}
	if patch.amountSent || patch.currency != "" {
		if err := tooSmall(orDefault(patch.amount, pi.Amount), orDefault(patch.currency, pi.Currency)); err != nil {
			return nil, err
		}
	}
	if pi.Customer != "" && patch.customer != "" && string(pi.Customer) != patch.customer {
		return nil, refused("", "customer", "You cannot modify `customer` on a PaymentIntent once it already has been set.")
	}
	if err := c.checkPayer(orDefault(patch.customer, string(pi.Customer)), patch.method); err != nil {
		return nil, err
	}
	if err := checkMetadata(pi.Metadata, patch.metadata); err != nil {
		return nil, err
	}
	m, err := c.chosenMethod(patch.method, patch.methodData)
	if err != nil {
		return nil, err
	}
	patch.apply(pi)
	if m != nil {
		c.dropAction(pi)
		pi.PaymentMethod, pi.Status = nullable(m.ID), needsConfirmation
	}
	return pi, nil
}

// intentState is the refusal of a step that the intent's state does not allow; Stripe sends the intent along.
func intentState(pi *paymentIntent, message string) *apiError {
	err := refused(codeIntentState, "", "%s", message)
	err.PaymentIntent = pi
	return err
}

func confirmPayment(c *call) (any, *apiError) {
	p := c.params
	in := p.confirmation()
	methodID, data, usage := p.text("payment_method"), p.methodData(), p.futureUsage()
	receipt, captureMethod, types := p.optional("receipt_email", 800), p.captureMethod(), p.methodTypes()
	shipping, shipped := p.shipping()
	p.ignore("payment_method_options", "client_secret")
	if err := p.done(); err != nil {
		return nil, err
	}
	pi, err := c.payment()
	if err != nil {
		return nil, err
	}
	if !slices.Contains([]string{needsMethod, needsConfirmation, needsAction}, pi.Status) {
		reason := "it has a status of " + pi.Status
		if pi.Status == intentSucceeded {
			reason = "it has already succeeded after being previously confirmed"
		}
		return nil, intentState(pi, "You cannot confirm this PaymentIntent because "+reason+".")
	}
	if methodID == "" && data == nil {
		if methodID = string(pi.PaymentMethod); methodID == "" {
			err := noMethodToConfirm("PaymentIntent", codeIntentState)
			err.PaymentIntent = pi
			return nil, err
		}
	}
	if err := needsReturnURL(pi.AutomaticPaymentMethods, in); err != nil {
		return nil, err
	}
	if err := c.checkPayer(string(pi.Customer), methodID); err != nil {
		return nil, err
	}
	m, err := c.chosenMethod(methodID, data)
	if err != nil {
		return nil, err
	}
	paymentPatch{futureUsage: usage, receipt: receipt, captureMethod: captureMethod, types: types, shipping: shipping, shippingSent: shipped}.apply(pi)
	c.dropAction(pi)
	return pi, c.attemptPayment(pi, m, in)
}

func capturePayment(c *call) (any, *apiError) {
	p := c.params
	amount, sent := p.amount("amount_to_capture")
	metadata := p.metadata()
	p.ignore("application_fee_amount", "final_capture", "statement_descriptor", "statement_descriptor_suffix", "transfer_data")
	if err := p.done(); err != nil {
		return nil, err
	}
	pi, err := c.payment()
	if err != nil {
		return nil, err
	}
	if pi.Status != needsCapture {
		return nil, intentState(pi, "This PaymentIntent could not be captured because it has a status of "+pi.Status+
			". Only a PaymentIntent with one of the following statuses may be captured: requires_capture.")
	}
	if !sent {
		amount = pi.AmountCapturable
	}
	if amount > pi.AmountCapturable {
		return nil, refused("amount_too_large", "amount_to_capture", "The amount to capture (%d) is greater than what can be captured (%d).", amount, pi.AmountCapturable)
	}
	pi.Metadata = metadata.apply(pi.Metadata)
	c.captureCharge(pi, c.charges.get(string(pi.LatestCharge)), amount)
	return pi, nil
}

func cancelPayment(c *call) (any, *apiError) {
	reason := c.params.enum("cancellation_reason", "duplicate", "fraudulent", "requested_by_customer", "abandoned")
	if err := c.params.done(); err != nil {
		return nil, err
	}
	pi, err := c.payment()
	if err != nil {
		return nil, err
	}
	if pi.Status == intentSucceeded || pi.Status == intentCanceled || pi.Status == intentProcessing {
		return nil, intentState(pi, "You cannot cancel this PaymentIntent because it has a status of "+pi.Status+". Only a PaymentIntent with one of the "+
			"following statuses may be canceled: requires_payment_method, requires_capture, requires_confirmation, requires_action, processing.")
	}
	if session := c.sessions.get(pi.session); session != nil && session.Status == sessionOpen {
		return nil, intentState(pi, "You cannot cancel this PaymentIntent because it belongs to a Checkout Session that is still open. Expire the Checkout Session instead.")
	}
	c.cancel(pi, reason)
	return pi, nil
}

// cancel ends a payment that took no money; what was only authorized is given back.
func (c *call) cancel(pi *paymentIntent, reason string) {
	c.dropAction(pi)
	if ch := c.charges.get(string(pi.LatestCharge)); pi.Status == needsCapture && ch != nil {
		before := snapshot(ch)
		ch.AmountRefunded, ch.Refunded = ch.Amount, true
		c.emitChange("charge.refunded", before, ch)
	}
	pi.AmountCapturable = 0
	pi.Status, pi.CanceledAt, pi.CancellationReason = intentCanceled, nullInt(c.now().Unix()), nullable(reason)
	c.emit("payment_intent.canceled", pi)
}
