package sandbox

import (
	"net/http"
	"slices"
	"strings"
)

type setupIntent struct {
	ID                                string            `json:"id"`
	Object                            string            `json:"object"`
	Application                       null              `json:"application"`
	AutomaticPaymentMethods           *automaticMethods `json:"automatic_payment_methods"`
	CancellationReason                nullable          `json:"cancellation_reason"`
	ClientSecret                      string            `json:"client_secret"`
	Created                           int64             `json:"created"`
	Customer                          nullable          `json:"customer"`
	Description                       nullable          `json:"description"`
	FlowDirections                    null              `json:"flow_directions"`
	LastSetupError                    *intentError      `json:"last_setup_error"`
	LatestAttempt                     nullable          `json:"latest_attempt"`
	Livemode                          bool              `json:"livemode"`
	Mandate                           null              `json:"mandate"`
	Metadata                          map[string]string `json:"metadata"`
	NextAction                        *nextAction       `json:"next_action"`
	OnBehalfOf                        null              `json:"on_behalf_of"`
	PaymentMethod                     nullable          `json:"payment_method"`
	PaymentMethodConfigurationDetails null              `json:"payment_method_configuration_details"`
	PaymentMethodOptions              methodOptions     `json:"payment_method_options"`
	PaymentMethodTypes                []string          `json:"payment_method_types"`
	SingleUseMandate                  null              `json:"single_use_mandate"`
	Status                            string            `json:"status"`
	Usage                             string            `json:"usage"`

	session string
	action  string
}

func (si *setupIntent) hidden() any {
	return &struct {
		Session *string `json:"session"`
		Action  *string `json:"action"`
	}{&si.session, &si.action}
}

func setupIntentRoutes() []route {
	return []route{
		{"POST /v1/setup_intents", "setup_intents.create", createSetup},
		{"GET /v1/setup_intents", "setup_intents.list", listSetups},
		{"GET /v1/setup_intents/{id}", "setup_intents.retrieve", retrieveSetup},
		{"POST /v1/setup_intents/{id}", "setup_intents.update", updateSetup},
		{"POST /v1/setup_intents/{id}/confirm", "setup_intents.confirm", confirmSetup},
		{"POST /v1/setup_intents/{id}/cancel", "setup_intents.cancel", cancelSetup},
	}
}

func (c *call) setup() (*setupIntent, *apiError) {
	si, ok := c.setups.find(c.id)
	if !ok {
		return nil, noSuch(http.StatusNotFound, "setupintent", c.id, "intent")
	}
	return si, nil
}

func createSetup(c *call) (any, *apiError) {
	p := c.params
	owner, methodID, data := p.text("customer"), p.text("payment_method"), p.methodData()
	types, metadata := p.methodTypes(), p.metadata()
	automatic := p.automaticMethods(types)
	usage := p.enum("usage", "off_session", "on_session")
	description := p.optional("description", 1000)
	confirmNow, _ := p.boolean("confirm")
	in := p.confirmation()
	p.ignore("attach_to_self", "flow_directions", "on_behalf_of", "payment_method_options", "payment_method_configuration", "single_use")
	if err := p.done(); err != nil {
		return nil, err
	}
	if err := c.checkPayer(owner, methodID); err != nil {
		return nil, err
	}
	if confirmNow {
		if err := needsReturnURL(automatic, in); err != nil {
			return nil, err
		}
		if methodID == "" && data == nil {
			return nil, noMethodToConfirm("SetupIntent", codeSetupState)
		}
	}
	m, err := c.chosenMethod(methodID, data)
	if err != nil {
		return nil, err
	}
	si := c.newSetup(automatic)
	si.Customer, si.Metadata, si.Usage = nullable(owner), metadata.apply(nil), orDefault(usage, "off_session")
	if len(types) > 0 {
		si.PaymentMethodTypes = types
	}
	if description != nil {
		si.Description = nullable(*description)
	}
	if m != nil {
		si.PaymentMethod, si.Status = nullable(m.ID), needsConfirmation
	}
	c.emit("setup_intent.created", si)
	if confirmNow {
		return si, c.attemptSetup(si, m, in)
	}
	return si, nil
}

func (c *call) newSetup(automatic *automaticMethods) *setupIntent {
	id := c.objectID("seti_")
	si := &setupIntent{
		ID: id, Object: "setup_intent", AutomaticPaymentMethods: automatic, ClientSecret: c.newID(id+"_secret_", 31), Created: c.now().Unix(),
		Metadata: map[string]string{}, PaymentMethodOptions: methodOptions{Card: cardOptions{RequestThreeDSecure: "automatic"}},
		PaymentMethodTypes: []string{"card"}, Status: needsMethod, Usage: "off_session",
	}
	c.setups.add(id, si)
	return si
}

// attemptSetup saves the card, or sends the buyer to 3-D Secure.
func (c *call) attemptSetup(si *setupIntent, m *paymentMethod, in confirmation) *apiError {
	si.LastSetupError = nil
	si.PaymentMethod = nullable(m.ID)
	si.LatestAttempt = nullable(c.objectID("setatt_"))
	if d := m.rule.saveDecline; d != nil {
		return c.declineSetup(si, m, d)
	}
	if !m.setupNeedsAuthentication() {
		c.succeedSetup(si, m)
		return nil
	}
	if in.offSession || in.errorOnAction {
		return c.declineSetup(si, m, authenticationNeeded())
	}
	a, next := c.newAction(si.ID, si.session, m, in.returnURL)
	si.action, si.NextAction, si.Status = a.id, next, needsAction
	c.emit("setup_intent.requires_action", si)
	return nil
}

func (c *call) succeedSetup(si *setupIntent, m *paymentMethod) {
	c.dropSetupAction(si)
	si.Status, si.LastSetupError = intentSucceeded, nil
	m.setUp = true
	if cus := c.customers.get(string(si.Customer)); cus != nil && !cus.deleted && m.Customer == "" {
		c.attach(m, cus)
	}
	c.emit("setup_intent.succeeded", si)
	if session := c.sessions.get(si.session); session != nil {
		c.completeSession(session, m, session.PaymentStatus)
	}
}

func (c *call) dropSetupAction(si *setupIntent) {
	c.actions.remove(si.action)
	si.action, si.NextAction = "", nil
}

func (c *call) declineSetup(si *setupIntent, m *paymentMethod, d *decline) *apiError {
	failure := c.failSetup(si, m, &intentError{Code: d.code, DeclineCode: d.declineCode, Message: d.message, Param: d.param, Type: typeCard})
	return &apiError{
		status: http.StatusPaymentRequired, Type: typeCard, Code: failure.Code, DeclineCode: failure.DeclineCode, Message: failure.Message,
		Param: failure.Param, PaymentMethod: m, SetupIntent: si,
	}
}

func (c *call) failSetup(si *setupIntent, m *paymentMethod, failure *intentError) *intentError {
	c.dropSetupAction(si)
	shown := *m
	failure.PaymentMethod = &shown
	failure.DocURL = "https://stripe.com/docs/error-codes/" + strings.ReplaceAll(failure.Code, "_", "-")
	si.Status, si.PaymentMethod, si.LastSetupError = needsMethod, "", failure
	c.emit("setup_intent.setup_failed", si)
	return failure
}

func (c *call) resolveSetup(a *action, si *setupIntent, m *paymentMethod, authenticated bool) {
	if authenticated {
		a.status = actionAuthenticated
		c.succeedSetup(si, m)
		return
	}
	a.status = actionFailed
	failure := c.failSetup(si, m, &intentError{
		Code: codeSetupAuthFail, Type: typeInvalidRequest,
		Message: "The latest attempt to set up the payment method has failed because authentication failed.",
	})
	a.decline = &hostedDecline{Code: failure.Code, Message: authenticationFailedText}
}

func retrieveSetup(c *call) (any, *apiError) {
	c.params.ignore("client_secret")
	if err := c.params.done(); err != nil {
		return nil, err
	}
	return c.setup()
}

func listSetups(c *call) (any, *apiError) {
	owner, methodID := c.params.text("customer"), c.params.text("payment_method")
	c.params.ignore("attach_to_self")
	return listOf(c, &c.setups, "/v1/setup_intents", "setupintent", func(si *setupIntent) int64 { return si.Created }, func(si *setupIntent) bool {
		return (owner == "" || string(si.Customer) == owner) && (methodID == "" || string(si.PaymentMethod) == methodID)
	})
}

func setupState(si *setupIntent, message string) *apiError {
	err := refused(codeSetupState, "", "%s", message)
	err.SetupIntent = si
	return err
}

func updateSetup(c *call) (any, *apiError) {
	p := c.params
	owner, methodID, data := p.text("customer"), p.text("payment_method"), p.methodData()
	metadata, types, description := p.metadata(), p.methodTypes(), p.optional("description", 1000)
	p.ignore("attach_to_self", "flow_directions", "payment_method_options", "payment_method_configuration")
	if err := p.done(); err != nil {
		return nil, err
	}
	si, err := c.setup()
	if err != nil {
		return nil, err
	}
	if (methodID != "" || data != nil || owner != "") && (si.Status == intentSucceeded || si.Status == intentCanceled) {
		return nil, setupState(si, "You cannot update this SetupIntent because it has a status of "+si.Status+".")
	}
	if si.Customer != "" && owner != "" && string(si.Customer) != owner {
		return nil, refused("", "customer", "You cannot modify `customer` on a SetupIntent once it already has been set.")
	}
	if err := c.checkPayer(orDefault(owner, string(si.Customer)), methodID); err != nil {
		return nil, err
	}
	if err := checkMetadata(si.Metadata, metadata); err != nil {
		return nil, err
	}
	m, err := c.chosenMethod(methodID, data)
	if err != nil {
		return nil, err
	}
	si.Customer = orDefault(nullable(owner), si.Customer)
	si.Metadata = metadata.apply(si.Metadata)
	if len(types) > 0 {
		si.PaymentMethodTypes = types
	}
	if description != nil {
		si.Description = nullable(*description)
	}
	if m != nil {
		c.dropSetupAction(si)
		si.PaymentMethod, si.Status = nullable(m.ID), needsConfirmation
	}
	return si, nil
}

func confirmSetup(c *call) (any, *apiError) {
	p := c.params
	in := p.confirmation()
	methodID, data := p.text("payment_method"), p.methodData()
	p.ignore("client_secret", "payment_method_options")
	if err := p.done(); err != nil {
		return nil, err
	}
	si, err := c.setup()
	if err != nil {
		return nil, err
	}
	if !slices.Contains([]string{needsMethod, needsConfirmation, needsAction}, si.Status) {
		return nil, setupState(si, "You cannot confirm this SetupIntent because it has a status of "+si.Status+".")
	}
	if methodID == "" && data == nil {
		if methodID = string(si.PaymentMethod); methodID == "" {
			err := noMethodToConfirm("SetupIntent", codeSetupState)
			err.SetupIntent = si
			return nil, err
		}
	}
	if err := needsReturnURL(si.AutomaticPaymentMethods, in); err != nil {
		return nil, err
	}
	if err := c.checkPayer(string(si.Customer), methodID); err != nil {
		return nil, err
	}
	m, err := c.chosenMethod(methodID, data)
	if err != nil {
		return nil, err
	}
	c.dropSetupAction(si)
	return si, c.attemptSetup(si, m, in)
}

func cancelSetup(c *call) (any, *apiError) {
	reason := c.params.enum("cancellation_reason", "abandoned", "requested_by_customer", "duplicate")
	if err := c.params.done(); err != nil {
		return nil, err
	}
	si, err := c.setup()
	if err != nil {
		return nil, err
	}
	if si.Status == intentSucceeded || si.Status == intentCanceled {
		return nil, setupState(si, "You cannot cancel this SetupIntent because it has a status of "+si.Status+
			". Only a SetupIntent with one of the following statuses may be canceled: requires_payment_method, requires_confirmation, requires_action.")
	}
	if session := c.sessions.get(si.session); session != nil && session.Status == sessionOpen {
		return nil, setupState(si, "You cannot cancel this SetupIntent because it belongs to a Checkout Session that is still open. Expire the Checkout Session instead.")
	}
	c.cancelSetupIntent(si, reason)
	return si, nil
}

func (c *call) cancelSetupIntent(si *setupIntent, reason string) {
	c.dropSetupAction(si)
	si.Status, si.CancellationReason = intentCanceled, nullable(reason)
	c.emit("setup_intent.canceled", si)
}
