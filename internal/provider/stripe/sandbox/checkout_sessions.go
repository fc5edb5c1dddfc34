package sandbox

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	sessionOpen     = "open"
	sessionComplete = "complete"
	sessionExpired  = "expired"

	modePayment = "payment"
	modeSetup   = "setup"

	sessionLife    = 24 * time.Hour
	sessionMinLife = 30 * time.Minute
	sessionSlack   = time.Minute // what a caller's clock may differ from the sandbox's
	maxLineItems   = 100
)

type checkoutSession struct {
	ID                                string            `json:"id"`
	Object                            string            `json:"object"`
	AfterExpiration                   null              `json:"after_expiration"`
	AllowPromotionCodes               null              `json:"allow_promotion_codes"`
	AmountSubtotal                    *int64            `json:"amount_subtotal"`
	AmountTotal                       *int64            `json:"amount_total"`
	AutomaticTax                      automaticTax      `json:"automatic_tax"`
	BillingAddressCollection          nullable          `json:"billing_address_collection"`
	CancelURL                         nullable          `json:"cancel_url"`
	ClientReferenceID                 nullable          `json:"client_reference_id"`
	ClientSecret                      null              `json:"client_secret"`
	Consent                           null              `json:"consent"`
	ConsentCollection                 null              `json:"consent_collection"`
	Created                           int64             `json:"created"`
	Currency                          nullable          `json:"currency"`
	CurrencyConversion                null              `json:"currency_conversion"`
	CustomFields                      []none            `json:"custom_fields"`
	CustomText                        customText        `json:"custom_text"`
	Customer                          nullable          `json:"customer"`
	CustomerCreation                  nullable          `json:"customer_creation"`
	CustomerDetails                   *customerDetails  `json:"customer_details"`
	CustomerEmail                     nullable          `json:"customer_email"`
	ExpiresAt                         int64             `json:"expires_at"`
	Invoice                           null              `json:"invoice"`
	InvoiceCreation                   *invoiceCreation  `json:"invoice_creation"`
	Livemode                          bool              `json:"livemode"`
	Locale                            nullable          `json:"locale"`
	Metadata                          map[string]string `json:"metadata"`
	Mode                              string            `json:"mode"`
	PaymentIntent                     nullable          `json:"payment_intent"`
	PaymentLink                       null              `json:"payment_link"`
	PaymentMethodCollection           nullable          `json:"payment_method_collection"`
	PaymentMethodConfigurationDetails null              `json:"payment_method_configuration_details"`
	PaymentMethodOptions              none              `json:"payment_method_options"`
	PaymentMethodTypes                []string          `json:"payment_method_types"`
	PaymentStatus                     string            `json:"payment_status"`
	PhoneNumberCollection             enabled           `json:"phone_number_collection"`
	RecoveredFrom                     null              `json:"recovered_from"`
	SetupIntent                       nullable          `json:"setup_intent"`
	ShippingAddressCollection         null              `json:"shipping_address_collection"`
	ShippingCost                      null              `json:"shipping_cost"`
	ShippingDetails                   null              `json:"shipping_details"`
	ShippingOptions                   []none            `json:"shipping_options"`
	Status                            string            `json:"status"`
	SubmitType                        nullable          `json:"submit_type"`
	Subscription                      null              `json:"subscription"`
	SuccessURL                        nullable          `json:"success_url"`
	TotalDetails                      *totalDetails     `json:"total_details"`
	UIMode                            string            `json:"ui_mode"`
	URL                               nullable          `json:"url"`

	base   string // of the hosted pages, as the creating request saw it
	items  []*lineItem
	intent intentPlan
}

func (cs *checkoutSession) hidden() any {
	plan := &cs.intent
	return &struct {
		Base          *string            `json:"base"`
		Items         *[]*lineItem       `json:"items"`
		Description   *string            `json:"intent_description"`
		CaptureMethod *string            `json:"intent_capture_method"`
		FutureUsage   *string            `json:"intent_future_usage"`
		ReceiptEmail  *string            `json:"intent_receipt_email"`
		Descriptor    *string            `json:"intent_descriptor"`
		Metadata      *map[string]string `json:"intent_metadata"`
	}{&cs.base, &cs.items, &plan.description, &plan.captureMethod, &plan.futureUsage, &plan.receiptEmail, &plan.descriptor, &plan.metadata}
}

type automaticTax struct {
	Enabled   bool `json:"enabled"`
	Liability null `json:"liability"`
	Status    null `json:"status"`
}

type customText struct {
	AfterSubmit                 null `json:"after_submit"`
	ShippingAddress             null `json:"shipping_address"`
	Submit                      null `json:"submit"`
	TermsOfServiceAcceptanceNow null `json:"terms_of_service_acceptance"`
}

type customerDetails struct {
	Address   *address `json:"address"`
	Email     nullable `json:"email"`
	Name      nullable `json:"name"`
	Phone     nullable `json:"phone"`
	TaxExempt string   `json:"tax_exempt"`
	TaxIDs    []none   `json:"tax_ids"`
}

type invoiceCreation struct {
	Enabled     bool               `json:"enabled"`
	InvoiceData invoiceCreationFor `json:"invoice_data"`
}

type invoiceCreationFor struct {
	AccountTaxIDs    null              `json:"account_tax_ids"`
	CustomFields     null              `json:"custom_fields"`
	Description      null              `json:"description"`
	Footer           null              `json:"footer"`
	Issuer           null              `json:"issuer"`
	Metadata         map[string]string `json:"metadata"`
	RenderingOptions null              `json:"rendering_options"`
}

type enabled struct {
	Enabled bool `json:"enabled"`
}

type totalDetails struct {
	AmountDiscount int64 `json:"amount_discount"`
	AmountShipping int64 `json:"amount_shipping"`
	AmountTax      int64 `json:"amount_tax"`
}

// lineItem is one thing that a session sells.
type lineItem struct {
	ID             string `json:"id"`
	Object         string `json:"object"`
	AmountDiscount int64  `json:"amount_discount"`
	AmountSubtotal int64  `json:"amount_subtotal"`
	AmountTax      int64  `json:"amount_tax"`
	AmountTotal    int64  `json:"amount_total"`
	Currency       string `json:"currency"`
	Description    string `json:"description"`
	Price          price  `json:"price"`
	Quantity       int64  `json:"quantity"`
}

type price struct {
	ID                string            `json:"id"`
	Object            string            `json:"object"`
	Active            bool              `json:"active"`
	BillingScheme     string            `json:"billing_scheme"`
	Created           int64             `json:"created"`
	Currency          string            `json:"currency"`
	CustomUnitAmount  null              `json:"custom_unit_amount"`
	Livemode          bool              `json:"livemode"`
	LookupKey         null              `json:"lookup_key"`
	Metadata          map[string]string `json:"metadata"`
	Nickname          null              `json:"nickname"`
	Product           string            `json:"product"`
	Recurring         null              `json:"recurring"`
	TaxBehavior       string            `json:"tax_behavior"`
	TiersMode         null              `json:"tiers_mode"`
	TransformQuantity null              `json:"transform_quantity"`
	Type              string            `json:"type"`
	UnitAmount        int64             `json:"unit_amount"`
	UnitAmountDecimal string            `json:"unit_amount_decimal"`
}

// intentPlan is what the session's payment or setup intent is made with, once the buyer acts.
type intentPlan struct {
	description, captureMethod, futureUsage, receiptEmail, descriptor string
	metadata                                                          map[string]string
}

func checkoutSessionRoutes() []route {
	return []route{
		{"POST /v1/checkout/sessions", "checkout_sessions.create", createSession},
		{"GET /v1/checkout/sessions", "checkout_sessions.list", listSessions},
		{"GET /v1/checkout/sessions/{id}", "checkout_sessions.retrieve", retrieveSession},
		{"POST /v1/checkout/sessions/{id}/expire", "checkout_sessions.expire", expireSession},
		{"GET /v1/checkout/sessions/{id}/line_items", "checkout_sessions.list_line_items", listLineItems},
	}
}

func (c *call) session() (*checkoutSession, *apiError) {
	session, ok := c.sessions.find(c.id)
	if !ok {
		return nil, noSuch(http.StatusNotFound, "checkout.session", c.id, "session")
	}
	return session, nil
}

func retrieveSession(c *call) (any, *apiError) {
	if err := c.params.done(); err != nil {
		return nil, err
	}
	return c.session()
}

func listSessions(c *call) (any, *apiError) {
	p := c.params
	owner, payment := p.text("customer"), p.text("payment_intent")
	status := p.enum("status", sessionOpen, sessionComplete, sessionExpired)
	email := p.sub("customer_details").text("email")
	p.ignore("subscription", "payment_link")
	return listOf(c, &c.sessions, "/v1/checkout/sessions", "checkout.session", func(cs *checkoutSession) int64 { return cs.Created }, func(cs *checkoutSession) bool {
		return (owner == "" || string(cs.Customer) == owner) && (payment == "" || string(cs.PaymentIntent) == payment) &&
			(status == "" || cs.Status == status) && (email == "" || cs.CustomerDetails != nil && string(cs.CustomerDetails.Email) == email)
	})
}

func listLineItems(c *call) (any, *apiError) {
	session, err := c.session()
	if err != nil {
		return nil, err
	}
	items := newTable[lineItem]("line_items")
	for _, item := range slices.Backward(session.items) { // a list runs newest first, line items run as they were given
		items.add(item.ID, item)
	}
	return listOf(c, &items, "/v1/checkout/sessions/"+session.ID+"/line_items", "line_item",
		func(*lineItem) int64 { return session.Created }, func(*lineItem) bool { return true })
}

func expireSession(c *call) (any, *apiError) {
	if err := c.params.done(); err != nil {
		return nil, err
	}
	session, err := c.session()
	if err != nil {
		return nil, err
	}
	if session.Status != sessionOpen {
		return nil, refused("", "", "Only Checkout Sessions with a status in [\"open\"] can be expired. This Checkout Session has a status of %s", session.Status)
	}
	c.expire(session)
	return session, nil
}

// expire ends an open session. A payment that was begun in it is canceled, so that nobody can pay it later.
func (c *call) expire(session *checkoutSession) {
	session.Status, session.URL = sessionExpired, ""
	if pi := c.payments.get(string(session.PaymentIntent)); pi != nil && pi.Status != intentCanceled {
		c.cancel(pi, "automatic")
	}
	if si := c.setups.get(string(session.SetupIntent)); si != nil && si.Status != intentCanceled {
		c.cancelSetupIntent(si, "")
	}
	c.emit("checkout.session.expired", session)
}

// completeSession ends a session that was paid, or will be by a delayed method, or whose card was saved.
func (c *call) completeSession(session *checkoutSession, m *paymentMethod, payment string) {
	if session.Status != sessionOpen {
		return
	}
	session.Status, session.URL, session.PaymentStatus = sessionComplete, "", payment
	details := &customerDetails{Email: orDefault(m.BillingDetails.Email, session.CustomerEmail), Name: m.BillingDetails.Name, TaxExempt: "none", TaxIDs: []none{}}
	if cus := c.customers.get(string(session.Customer)); cus != nil {
		details.Email = orDefault(cus.Email, details.Email)
	}
	session.CustomerDetails = details
	c.emit("checkout.session.completed", session)
}

// successURL is where a buyer who is done goes.
func (cs *checkoutSession) successURL() string {
	return strings.ReplaceAll(string(cs.SuccessURL), "{CHECKOUT_SESSION_ID}", cs.ID)
}

// total is what the session costs, zero in setup mode.
func (cs *checkoutSession) total() int64 {
	if cs.AmountTotal == nil {
		return 0
	}
	return *cs.AmountTotal
}
