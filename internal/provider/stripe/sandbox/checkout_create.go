package sandbox

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

func createSession(c *call) (any, *apiError) {
	p := c.params
	cs := c.readSession(p)
	c.readLineItems(p, cs)
	if cs.Mode == modePayment && cs.Currency == "usd" && !p.has("payment_method_types") {
		cs.PaymentMethodTypes = append(cs.PaymentMethodTypes, typeBankAccount) // as if it were switched on in the dashboard
	}
	c.readIntentPlan(p, cs)
	expiresAt, limited := p.integer("expires_at")
	p.ignore("after_expiration", "allow_promotion_codes", "automatic_tax", "consent_collection", "custom_fields", "custom_text", "customer_update",
		"invoice_creation", "payment_method_collection", "payment_method_configuration", "payment_method_options", "phone_number_collection",
		"shipping_address_collection", "shipping_options", "tax_id_collection", "saved_payment_method_options")
	for _, name := range []string{"subscription_data", "discounts", "return_url", "redirect_on_completion"} {
		if p.has(name) {
			p.ignore(name)
			p.fail(badParam("", name, "The sandbox does not play %s.", name))
		}
	}
	if err := p.done(); err != nil {
		return nil, err
	}
	if err := c.checkSession(cs, expiresAt, limited); err != nil {
		return nil, err
	}
	cs.ID = c.newID("cs_test_a1", 58)
	cs.base = c.base
	cs.URL = nullable(c.base + "/c/pay/" + cs.ID)
	c.sessions.add(cs.ID, cs)
	if cs.Mode == modeSetup {
		c.sessionSetup(cs)
	}
	c.after(time.Unix(cs.ExpiresAt, 0).Sub(c.now()), taskExpireSession, cs.ID, "")
	return cs, nil
}

// readSession reads what both modes have.
func (c *call) readSession(p *params) *checkoutSession {
	now := c.now()
	cs := &checkoutSession{
		Object: "checkout.session", Created: now.Unix(), CustomFields: []none{}, ExpiresAt: now.Add(sessionLife).Unix(), PaymentMethodTypes: []string{"card"},
		PaymentStatus: "unpaid", ShippingOptions: []none{}, Status: sessionOpen, UIMode: "hosted",
	}
	cs.Mode = p.enum("mode", modePayment, modeSetup, "subscription")
	switch cs.Mode {
	case "":
		p.fail(missingParam("mode"))
	case "subscription":
		p.fail(badParam("", "mode", "Invalid mode: the sandbox plays payment and setup, not subscription."))
	}
	if types := p.methodTypes(); len(types) > 0 {
		cs.PaymentMethodTypes = types
	} else if cs.Mode == modeSetup && !p.has("currency") {
		p.fail(badParam(codeMissingParam, "currency", "You must provide a `currency` or `payment_method_types` in setup mode."))
	}
	cs.Currency = nullable(p.currency(false))
	p.enum("ui_mode", "hosted")
	cs.SuccessURL = nullable(p.httpURL("success_url", true))
	cs.CancelURL = nullable(p.httpURL("cancel_url", false))
	cs.ClientReferenceID = nullable(p.textMax("client_reference_id", 200))
	cs.Customer, cs.CustomerEmail = nullable(p.text("customer")), nullable(p.textMax("customer_email", 800))
	if cs.Customer != "" && cs.CustomerEmail != "" {
		p.fail(badParam("", "customer_email", "You may only specify one of these parameters: customer, customer_email."))
	}
	cs.CustomerCreation = nullable(p.enum("customer_creation", "always", "if_required"))
	if cs.CustomerCreation != "" && cs.Customer != "" {
		p.fail(badParam("", "customer_creation", "You may only specify one of these parameters: customer, customer_creation."))
	}
	if cs.Customer == "" && cs.CustomerCreation == "" && cs.Mode == modePayment {
		cs.CustomerCreation = "if_required"
	}
	cs.Locale = nullable(p.text("locale"))
	cs.SubmitType = nullable(p.enum("submit_type", "auto", "book", "donate", "pay"))
	cs.BillingAddressCollection = nullable(p.enum("billing_address_collection", "auto", "required"))
	cs.Metadata = p.metadata().apply(nil)
	return cs
}

// readLineItems reads what is sold and sums it up.
func (c *call) readLineItems(p *params, cs *checkoutSession) {
	items := p.items("line_items")
	switch {
	case len(items) > maxLineItems:
		p.fail(badParam("", "line_items", "You may have up to %d line items.", maxLineItems))
		return
	case cs.Mode == modeSetup && len(items) > 0:
		p.fail(badParam("", "line_items", "You cannot use `line_items` in setup mode."))
	case cs.Mode == modePayment && len(items) == 0:
		p.fail(badParam(codeMissingParam, "line_items", "You must provide at least one line item in payment mode."))
	}
	var total int64
	for _, item := range items {
		line := c.readLineItem(item)
		if cs.Currency != "" && line.Currency != "" && string(cs.Currency) != line.Currency {
			p.fail(badParam("", "line_items", "All line items must have the same currency, that of the session."))
		}
		cs.Currency = orDefault(cs.Currency, nullable(line.Currency))
		cs.items = append(cs.items, line)
		if total += line.AmountTotal; total > maxAmount || line.AmountTotal > maxAmount {
			p.fail(badParam("amount_too_large", "line_items", "The Checkout Session's total amount must be no more than $999,999.99"))
			return
		}
	}
	if cs.Mode == modePayment {
		subtotal := total
		cs.AmountSubtotal, cs.AmountTotal, cs.TotalDetails = &subtotal, &total, &totalDetails{}
		cs.InvoiceCreation = &invoiceCreation{InvoiceData: invoiceCreationFor{Metadata: map[string]string{}}}
	} else {
		cs.PaymentStatus = "no_payment_required"
	}
}

func (c *call) readLineItem(item *params) *lineItem {
	if item.has("price") {
		id := item.text("price")
		item.fail(noSuch(http.StatusBadRequest, "price", id, item.full("price")))
	} else if !item.has("price_data") {
		item.fail(missingParam(item.full("price_data")))
	}
	quantity := int64(1)
	if n, sent := item.integer("quantity"); sent {
		quantity = n
	} else {
		item.fail(missingParam(item.full("quantity")))
	}
	if quantity < 1 || quantity > maxAmount {
		item.fail(badParam(codeInvalidInteger, item.full("quantity"), "This value must be between 1 and %d.", maxAmount))
		quantity = 1
	}
	data := item.sub("price_data")
	currency := data.currency(item.has("price_data"))
	unit, sent := data.integer("unit_amount")
	if !sent && item.has("price_data") {
		item.fail(missingParam(data.full("unit_amount")))
	}
	if unit < 0 || unit > maxAmount {
		item.fail(badParam(codeInvalidInteger, data.full("unit_amount"), "This value must be between 0 and %d.", maxAmount))
		unit = 0
	}
	product := data.sub("product_data")
	name := data.text("product")
	if data.has("product_data") {
		name = product.need("name")
	} else if name == "" && item.has("price_data") {
		item.fail(missingParam(data.full("product_data")))
	}
	product.ignore("description", "images", "metadata", "tax_code")
	data.ignore("tax_behavior", "unit_amount_decimal")
	item.ignore("adjustable_quantity", "tax_rates", "dynamic_tax_rates")
	return &lineItem{
		ID: c.objectID("li_"), Object: "item", AmountSubtotal: unit * quantity, AmountTotal: unit * quantity, Currency: currency, Description: name,
		Quantity: quantity, Price: price{
			ID: c.objectID("price_"), Object: "price", BillingScheme: "per_unit", Created: c.now().Unix(), Currency: currency, Metadata: map[string]string{},
			Product: c.newID("prod_", 14), TaxBehavior: "unspecified", Type: "one_time", UnitAmount: unit, UnitAmountDecimal: strconv.FormatInt(unit, 10),
		},
	}
}

// readIntentPlan reads what the intent will be made with. A session's own metadata does not reach it.
func (c *call) readIntentPlan(p *params, cs *checkoutSession) {
	data := p.sub("payment_intent_data")
	wrong := "setup_intent_data"
	if cs.Mode == modeSetup {
		data, wrong = p.sub("setup_intent_data"), "payment_intent_data"
	}
	if p.has(wrong) {
		p.ignore(wrong)
		p.fail(badParam("", wrong, "You can not pass `%s` in `%s` mode.", wrong, cs.Mode))
	}
	cs.intent = intentPlan{description: data.textMax("description", 1000), metadata: data.metadata().apply(nil)}
	data.ignore("on_behalf_of")
	if cs.Mode == modeSetup {
		return
	}
	cs.intent.captureMethod = data.captureMethod()
	cs.intent.futureUsage = data.futureUsage()
	cs.intent.receiptEmail = data.text("receipt_email")
	cs.intent.descriptor = data.textMax("statement_descriptor", 22)
	data.ignore("application_fee_amount", "shipping", "statement_descriptor_suffix", "transfer_data", "transfer_group")
}

// checkSession checks what depends on the sandbox's state and clock.
func (c *call) checkSession(cs *checkoutSession, expiresAt int64, limited bool) *apiError {
	if cs.Customer != "" {
		if _, err := c.customer(string(cs.Customer), "customer", http.StatusBadRequest); err != nil {
			return err
		}
	}
	if cs.Mode == modePayment && cs.total() < minimumAmount(string(cs.Currency)) {
		return badParam("amount_too_small", "", "The Checkout Session's total amount due must add up to at least %s %s",
			formatMoney(minimumAmount(string(cs.Currency)), string(cs.Currency)), strings.ToLower(string(cs.Currency)))
	}
	if !limited {
		return nil
	}
	switch life := time.Unix(expiresAt, 0).Sub(c.now()); {
	case life < sessionMinLife-sessionSlack:
		return badParam("", "expires_at", "The `expires_at` timestamp must be at least 30 minutes from Checkout Session creation.")
	case life > sessionLife+sessionSlack:
		return badParam("", "expires_at", "The `expires_at` timestamp must be less than 24 hours from Checkout Session creation.")
	}
	cs.ExpiresAt = expiresAt
	return nil
}

// sessionSetup is the setup intent of a session, made with it. (A payment's intent is made when the buyer pays.)
func (c *call) sessionSetup(cs *checkoutSession) {
	if cs.Customer == "" && cs.CustomerCreation == "always" {
		cus := c.newCustomer()
		cus.Email = cs.CustomerEmail
		cs.Customer = nullable(cus.ID)
		c.emit("customer.created", cus)
	}
	si := c.newSetup(nil)
	si.Customer, si.Description, si.Metadata, si.session = cs.Customer, nullable(cs.intent.description), cs.intent.metadata, cs.ID
	si.PaymentMethodTypes = cs.PaymentMethodTypes
	cs.SetupIntent = nullable(si.ID)
	c.emit("setup_intent.created", si)
}
