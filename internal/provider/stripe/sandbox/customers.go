package sandbox

import (
	"net/http"
	"strings"
)

type customer struct {
	ID                  string            `json:"id"`
	Object              string            `json:"object"`
	Address             *address          `json:"address"`
	Balance             int64             `json:"balance"`
	Created             int64             `json:"created"`
	Currency            nullable          `json:"currency"`
	DefaultSource       null              `json:"default_source"`
	Delinquent          bool              `json:"delinquent"`
	Description         nullable          `json:"description"`
	Discount            null              `json:"discount"`
	Email               nullable          `json:"email"`
	InvoicePrefix       string            `json:"invoice_prefix"`
	InvoiceSettings     invoiceSettings   `json:"invoice_settings"`
	Livemode            bool              `json:"livemode"`
	Metadata            map[string]string `json:"metadata"`
	Name                nullable          `json:"name"`
	NextInvoiceSequence int64             `json:"next_invoice_sequence"`
	Phone               nullable          `json:"phone"`
	PreferredLocales    []string          `json:"preferred_locales"`
	Shipping            *shippingDetails  `json:"shipping"`
	TaxExempt           string            `json:"tax_exempt"`
	TestClock           null              `json:"test_clock"`

	deleted bool
}

func (cus *customer) hidden() any {
	return &struct {
		Deleted *bool `json:"deleted"`
	}{&cus.deleted}
}

type invoiceSettings struct {
	CustomFields         null     `json:"custom_fields"`
	DefaultPaymentMethod nullable `json:"default_payment_method"`
	Footer               nullable `json:"footer"`
	RenderingOptions     null     `json:"rendering_options"`
}

func customerRoutes() []route {
	return []route{
		{"POST /v1/customers", "customers.create", createCustomer},
		{"GET /v1/customers", "customers.list", listCustomers},
		{"GET /v1/customers/{id}", "customers.retrieve", retrieveCustomer},
		{"POST /v1/customers/{id}", "customers.update", updateCustomer},
		{"DELETE /v1/customers/{id}", "customers.delete", deleteCustomer},
	}
}

// customer finds a live customer. A deleted one is as good as none.
func (s *Server) customer(id, param string, status int) (*customer, *apiError) {
	cus, ok := s.customers.find(id)
	if !ok || cus.deleted {
		return nil, noSuch(status, "customer", id, param)
	}
	return cus, nil
}

// customerPatch is what create and update have in common.
type customerPatch struct {
	fields        map[string]string // plain fields that were sent
	address       *address
	addressSent   bool
	shipping      *shippingDetails
	shippingSent  bool
	metadata      metadataPatch
	locales       []string
	localesSent   bool
	defaultMethod string
	defaultSent   bool
	footer        string
	footerSent    bool
	balance       int64
	balanceSent   bool
}

func (p *params) customerPatch() customerPatch {
	patch := customerPatch{fields: map[string]string{}}
	for name, limit := range map[string]int{"description": 5000, "email": 512, "name": 256, "phone": 256, "tax_exempt": 10, "invoice_prefix": 12} {
		if p.has(name) {
			patch.fields[name] = p.textMax(name, limit)
		}
	}
	if email := patch.fields["email"]; email != "" && !strings.Contains(email, "@") {
		p.fail(badParam("email_invalid", "email", "Invalid email address: %s", email))
	}
	p.enum("tax_exempt", "none", "exempt", "reverse")
	patch.address, patch.addressSent = p.address("address"), p.has("address")
	patch.shipping, patch.shippingSent = p.shipping()
	patch.metadata = p.metadata()
	patch.locales, patch.localesSent = p.list("preferred_locales"), p.has("preferred_locales")
	patch.balance, patch.balanceSent = p.integer("balance")
	settings := p.sub("invoice_settings")
	patch.defaultMethod, patch.defaultSent = settings.value("default_payment_method")
	patch.footer, patch.footerSent = settings.value("footer")
	settings.ignore("custom_fields", "rendering_options")
	p.ignore("cash_balance", "coupon", "promotion_code", "next_invoice_sequence", "source", "tax", "tax_id_data", "test_clock", "default_source")
	return patch
}

func (patch customerPatch) apply(cus *customer) {
	for name, dst := range map[string]*nullable{"description": &cus.Description, "email": &cus.Email, "name": &cus.Name, "phone": &cus.Phone} {
		if v, sent := patch.fields[name]; sent {
			*dst = nullable(v)
		}
	}
	if v := patch.fields["tax_exempt"]; v != "" {
		cus.TaxExempt = v
	}
	if v := patch.fields["invoice_prefix"]; v != "" {
		cus.InvoicePrefix = v
	}
	if patch.addressSent {
		cus.Address = patch.address
	}
	if patch.shippingSent {
		cus.Shipping = patch.shipping
	}
	if patch.localesSent {
		cus.PreferredLocales = append([]string{}, patch.locales...)
	}
	if patch.defaultSent {
		cus.InvoiceSettings.DefaultPaymentMethod = nullable(patch.defaultMethod)
	}
	if patch.footerSent {
		cus.InvoiceSettings.Footer = nullable(patch.footer)
	}
	if patch.balanceSent {
		cus.Balance = patch.balance
	}
	cus.Metadata = patch.metadata.apply(cus.Metadata)
}

func createCustomer(c *call) (any, *apiError) {
	p := c.params
	patch := p.customerPatch()
	first := p.text("payment_method")
	if err := p.done(); err != nil {
		return nil, err
	}
	var m *paymentMethod
	if first != "" {
		var err *apiError
		if m, err = c.method(first, http.StatusBadRequest); err != nil {
			return nil, err
		}
		if d := m.rule.saveDecline; d != nil {
			return nil, &apiError{status: http.StatusPaymentRequired, Type: typeCard, Code: d.code, DeclineCode: d.declineCode, Message: d.message, Param: d.param}
		}
		if m.Customer != "" || m.consumed {
			return nil, consumedMethod()
		}
	}
	if patch.defaultMethod != "" && patch.defaultMethod != first {
		return nil, notTheirMethod(patch.defaultMethod)
	}
	cus := c.newCustomer()
	patch.apply(cus)
	c.emit("customer.created", cus)
	if m != nil {
		c.attach(m, cus)
	}
	return cus, nil
}

func (c *call) newCustomer() *customer {
	cus := &customer{
		ID: c.newID("cus_", 14), Object: "customer", Created: c.now().Unix(), InvoicePrefix: strings.ToUpper(c.newID("", 8)),
		Metadata: map[string]string{}, NextInvoiceSequence: 1, PreferredLocales: []string{}, TaxExempt: "none",
	}
	c.customers.add(cus.ID, cus)
	return cus
}

func notTheirMethod(id string) *apiError {
	return refused(codeResourceMissing, "invoice_settings[default_payment_method]",
		"The customer does not have a payment method with the ID %s. The payment method must be attached to the customer.", id)
}

func retrieveCustomer(c *call) (any, *apiError) {
	if err := c.params.done(); err != nil {
		return nil, err
	}
	if cus, ok := c.customers.find(c.id); ok && cus.deleted {
		return deletedObject{ID: cus.ID, Object: cus.Object, Deleted: true}, nil
	}
	return c.customer(c.id, "id", http.StatusNotFound)
}

func updateCustomer(c *call) (any, *apiError) {
	patch := c.params.customerPatch()
	if err := c.params.done(); err != nil {
		return nil, err
	}
	cus, err := c.customer(c.id, "id", http.StatusNotFound)
	if err != nil {
		return nil, err
	}
	if id := patch.defaultMethod; id != "" {
		if m, ok := c.methods.find(id); !ok || string(m.Customer) != cus.ID {
			return nil, notTheirMethod(id)
		}
	}
	if err := checkMetadata(cus.Metadata, patch.metadata); err != nil {
		return nil, err
	}
	before := snapshot(cus)
	patch.apply(cus)
	c.emitIfChanged("customer.updated", before, cus)
	return cus, nil
}

// deleteCustomer ends the customer and frees its cards, which can't be used again. As with Stripe there is one event.
func deleteCustomer(c *call) (any, *apiError) {
	if err := c.params.done(); err != nil {
		return nil, err
	}
	cus, err := c.customer(c.id, "id", http.StatusNotFound)
	if err != nil {
		return nil, err
	}
	cus.deleted = true
	c.emit("customer.deleted", cus)
	for id, m := range c.methods.all {
		if string(m.Customer) == cus.ID {
			m = c.methods.get(id)
			m.Customer, m.consumed = "", true
		}
	}
	// The personal fields go with the customer; its events keep the snapshot that they had, as Stripe's do.
	*cus = customer{ID: cus.ID, Object: cus.Object, Created: cus.Created, deleted: true}
	return deletedObject{ID: cus.ID, Object: cus.Object, Deleted: true}, nil
}

func listCustomers(c *call) (any, *apiError) {
	email := c.params.text("email")
	c.params.ignore("test_clock")
	return listOf(c, &c.customers, "/v1/customers", "customer", func(cus *customer) int64 { return cus.Created }, func(cus *customer) bool {
		return !cus.deleted && (email == "" || string(cus.Email) == email)
	})
}
