package sandbox

import (
	"fmt"
	"maps"
	"net/http"
	"time"
)

const (
	chargeSucceeded = "succeeded"
	chargeFailed    = "failed"
)

type charge struct {
	ID                            string               `json:"id"`
	Object                        string               `json:"object"`
	Amount                        int64                `json:"amount"`
	AmountCaptured                int64                `json:"amount_captured"`
	AmountRefunded                int64                `json:"amount_refunded"`
	Application                   null                 `json:"application"`
	ApplicationFee                null                 `json:"application_fee"`
	ApplicationFeeAmount          null                 `json:"application_fee_amount"`
	BalanceTransaction            nullable             `json:"balance_transaction"`
	BillingDetails                billingDetails       `json:"billing_details"`
	CalculatedStatementDescriptor nullable             `json:"calculated_statement_descriptor"`
	Captured                      bool                 `json:"captured"`
	Created                       int64                `json:"created"`
	Currency                      string               `json:"currency"`
	Customer                      nullable             `json:"customer"`
	Description                   nullable             `json:"description"`
	Destination                   null                 `json:"destination"`
	Dispute                       nullable             `json:"dispute"`
	Disputed                      bool                 `json:"disputed"`
	FailureBalanceTransaction     null                 `json:"failure_balance_transaction"`
	FailureCode                   nullable             `json:"failure_code"`
	FailureMessage                nullable             `json:"failure_message"`
	FraudDetails                  map[string]string    `json:"fraud_details"`
	Invoice                       null                 `json:"invoice"`
	Livemode                      bool                 `json:"livemode"`
	Metadata                      map[string]string    `json:"metadata"`
	OnBehalfOf                    null                 `json:"on_behalf_of"`
	Order                         null                 `json:"order"`
	Outcome                       chargeOutcome        `json:"outcome"`
	Paid                          bool                 `json:"paid"`
	PaymentIntent                 nullable             `json:"payment_intent"`
	PaymentMethod                 nullable             `json:"payment_method"`
	PaymentMethodDetails          paymentMethodDetails `json:"payment_method_details"`
	ReceiptEmail                  nullable             `json:"receipt_email"`
	ReceiptNumber                 null                 `json:"receipt_number"`
	ReceiptURL                    null                 `json:"receipt_url"`
	Refunded                      bool                 `json:"refunded"`
	Review                        null                 `json:"review"`
	Shipping                      *shippingDetails     `json:"shipping"`
	Source                        null                 `json:"source"`
	SourceTransfer                null                 `json:"source_transfer"`
	StatementDescriptor           nullable             `json:"statement_descriptor"`
	StatementDescriptorSuffix     nullable             `json:"statement_descriptor_suffix"`
	Status                        string               `json:"status"`
	TransferData                  null                 `json:"transfer_data"`
	TransferGroup                 nullable             `json:"transfer_group"`

	rule cardRule
}

func (ch *charge) hidden() any {
	return &struct {
		Rule *cardRule `json:"rule"`
	}{&ch.rule}
}

type chargeOutcome struct {
	AdviceCode    string   `json:"advice_code,omitempty"`
	NetworkStatus string   `json:"network_status"`
	Reason        nullable `json:"reason"`
	RiskLevel     string   `json:"risk_level"`
	RiskScore     int      `json:"risk_score"`
	SellerMessage string   `json:"seller_message"`
	Type          string   `json:"type"`
}

type paymentMethodDetails struct {
	Card          chargedCard    `json:"card,omitzero"`
	Type          string         `json:"type"`
	USBankAccount *usBankAccount `json:"us_bank_account,omitempty"`
}

type chargedCard struct {
	AmountAuthorized         nullInt       `json:"amount_authorized"`
	Brand                    string        `json:"brand"`
	Checks                   cardChecks    `json:"checks"`
	Country                  string        `json:"country"`
	ExpMonth                 int64         `json:"exp_month"`
	ExpYear                  int64         `json:"exp_year"`
	ExtendedAuthorization    featureStatus `json:"extended_authorization"`
	Fingerprint              string        `json:"fingerprint"`
	Funding                  string        `json:"funding"`
	IncrementalAuthorization featureStatus `json:"incremental_authorization"`
	Installments             null          `json:"installments"`
	Last4                    string        `json:"last4"`
	Mandate                  null          `json:"mandate"`
	Multicapture             featureStatus `json:"multicapture"`
	Network                  string        `json:"network"`
	NetworkToken             tokenUsage    `json:"network_token"`
	Overcapture              overcapture   `json:"overcapture"`
	ThreeDSecure             null          `json:"three_d_secure"`
	Wallet                   null          `json:"wallet"`
}

type featureStatus struct {
	Status string `json:"status"`
}

type tokenUsage struct {
	Used bool `json:"used"`
}

type overcapture struct {
	MaximumAmountCapturable int64  `json:"maximum_amount_capturable"`
	Status                  string `json:"status"`
}

// balanceTransaction is a movement of the account's money.
type balanceTransaction struct {
	ID                string      `json:"id"`
	Object            string      `json:"object"`
	Amount            int64       `json:"amount"`
	AvailableOn       int64       `json:"available_on"`
	Created           int64       `json:"created"`
	Currency          string      `json:"currency"`
	Description       nullable    `json:"description"`
	ExchangeRate      null        `json:"exchange_rate"`
	Fee               int64       `json:"fee"`
	FeeDetails        []feeDetail `json:"fee_details"`
	Net               int64       `json:"net"`
	ReportingCategory string      `json:"reporting_category"`
	Source            string      `json:"source"`
	Status            string      `json:"status"`
	Type              string      `json:"type"`
}

type feeDetail struct {
	Amount      int64  `json:"amount"`
	Application null   `json:"application"`
	Currency    string `json:"currency"`
	Description string `json:"description"`
	Type        string `json:"type"`
}

func chargeRoutes() []route {
	return []route{
		{"GET /v1/charges", "charges.list", listCharges},
		{"GET /v1/charges/{id}", "charges.retrieve", retrieveCharge},
		{"POST /v1/charges/{id}", "charges.update", updateCharge},
		{"GET /v1/balance_transactions/{id}", "balance_transactions.retrieve", retrieveBalanceTransaction},
	}
}

// newCharge is an authorized charge of a payment's whole amount; its money is not taken yet.
func (c *call) newCharge(pi *paymentIntent, m *paymentMethod) *charge {
	id := c.newID("ch_3", 23)
	checks := m.Card.Checks
	if checks.CVCCheck == "unchecked" {
		checks.CVCCheck = "pass"
	}
	ch := &charge{
		ID: id, Object: "charge", Amount: pi.Amount, BillingDetails: m.BillingDetails, CalculatedStatementDescriptor: "SANDBOX STORE",
		Created: c.now().Unix(), Currency: pi.Currency, Customer: pi.Customer, Description: pi.Description, FraudDetails: map[string]string{},
		Metadata: maps.Clone(pi.Metadata), Paid: true, PaymentIntent: nullable(pi.ID), PaymentMethod: nullable(m.ID), ReceiptEmail: pi.ReceiptEmail,
		Shipping: pi.Shipping, StatementDescriptor: pi.StatementDescriptor, StatementDescriptorSuffix: pi.StatementDescriptorSuffix,
		Status: chargeSucceeded, TransferGroup: pi.TransferGroup, rule: m.rule,
		Outcome: chargeOutcome{
			NetworkStatus: "approved_by_network", RiskLevel: "normal", RiskScore: 12, SellerMessage: "Payment complete.", Type: "authorized",
		},
	}
	ch.PaymentMethodDetails = paymentMethodDetails{Type: m.Type, USBankAccount: m.USBankAccount}
	if !m.rule.bank {
		ch.PaymentMethodDetails.Card = chargedCard{
			AmountAuthorized: nullInt(pi.Amount), Brand: m.Card.Brand, Checks: checks, Country: m.Card.Country, ExpMonth: m.Card.ExpMonth,
			ExpYear: m.Card.ExpYear, ExtendedAuthorization: featureStatus{"disabled"}, Fingerprint: m.Card.Fingerprint, Funding: m.Card.Funding,
			IncrementalAuthorization: featureStatus{"unavailable"}, Last4: m.Card.Last4, Multicapture: featureStatus{"unavailable"},
			Network: m.Card.Brand, Overcapture: overcapture{MaximumAmountCapturable: pi.Amount, Status: "unavailable"},
		}
	}
	c.charges.add(id, ch)
	return ch
}

// newFailedCharge is what remains of a declined attempt.
func (c *call) newFailedCharge(pi *paymentIntent, m *paymentMethod, d *decline) *charge {
	ch := c.newCharge(pi, m)
	ch.fail(d)
	if m.rule.blocked {
		ch.Outcome = chargeOutcome{
			NetworkStatus: "not_sent_to_network", Reason: "highest_risk_level", RiskLevel: "highest", RiskScore: 92,
			SellerMessage: "Stripe blocked this payment as too risky.", Type: "blocked",
		}
	}
	return ch
}

// fail ends a charge with the issuer's no.
func (ch *charge) fail(d *decline) {
	ch.Status, ch.Paid = chargeFailed, false
	ch.FailureCode, ch.FailureMessage = nullable(d.code), nullable(d.message)
	ch.PaymentMethodDetails.Card.AmountAuthorized = 0
	ch.Outcome = chargeOutcome{
		NetworkStatus: "declined_by_network", Reason: nullable(orDefault(d.declineCode, d.code)), RiskLevel: "normal", RiskScore: 30,
		SellerMessage: "The bank did not return any further details with this decline.", Type: "issuer_declined", AdviceCode: d.adviceCode,
	}
}

// bookCharge takes the money: Stripe's fee is 2.9 % and 30.
func (c *call) bookCharge(ch *charge, amount int64) {
	fee := min(amount, (amount*29+500)/1000+30)
	tx := c.newBalanceTransaction(ch.ID, ch.Currency, "charge", amount, fee)
	tx.Description = ch.Description
	ch.Captured, ch.AmountCaptured, ch.BalanceTransaction = true, amount, nullable(tx.ID)
}

func (c *call) newBalanceTransaction(source, currency, kind string, amount, fee int64) *balanceTransaction {
	now := c.now()
	tx := &balanceTransaction{
		ID: c.newID("txn_3", 23), Object: "balance_transaction", Amount: amount, AvailableOn: now.Add(48 * time.Hour).Unix(), Created: now.Unix(),
		Currency: currency, Fee: fee, FeeDetails: []feeDetail{}, Net: amount - fee, ReportingCategory: kind, Source: source, Status: "pending", Type: kind,
	}
	if fee > 0 {
		tx.FeeDetails = append(tx.FeeDetails, feeDetail{Amount: fee, Currency: currency, Description: "Stripe processing fees", Type: "stripe_fee"})
	}
	c.balances.add(tx.ID, tx)
	return tx
}

// afterCharge plans what a test card brings later: a dispute, or a fraud warning.
func (c *call) afterCharge(ch *charge, rule cardRule) {
	if rule.dispute != "" {
		c.after(c.cfg.SettleAfter, taskOpenDispute, ch.ID, rule.dispute)
	}
	if rule.fraudReport {
		c.after(c.cfg.SettleAfter, taskWarnOfFraud, ch.ID, "")
	}
}

func retrieveCharge(c *call) (any, *apiError) {
	if err := c.params.done(); err != nil {
		return nil, err
	}
	return c.charge()
}

func (c *call) charge() (*charge, *apiError) {
	ch, ok := c.charges.find(c.id)
	if !ok {
		return nil, noSuch(http.StatusNotFound, "charge", c.id, "id")
	}
	return ch, nil
}

func updateCharge(c *call) (any, *apiError) {
	p := c.params
	description, receipt, metadata := p.optional("description", 1000), p.optional("receipt_email", 800), p.metadata()
	fraud := p.sub("fraud_details").enum("user_report", "fraudulent", "safe")
	shipping, shipped := p.shipping()
	group := p.optional("transfer_group", 500)
	if err := p.done(); err != nil {
		return nil, err
	}
	ch, err := c.charge()
	if err != nil {
		return nil, err
	}
	if err := checkMetadata(ch.Metadata, metadata); err != nil {
		return nil, err
	}
	before := snapshot(ch)
	for dst, v := range map[*nullable]*string{&ch.Description: description, &ch.ReceiptEmail: receipt, &ch.TransferGroup: group} {
		if v != nil {
			*dst = nullable(*v)
		}
	}
	if fraud != "" {
		ch.FraudDetails = map[string]string{"user_report": fraud}
	}
	if shipped {
		ch.Shipping = shipping
	}
	ch.Metadata = metadata.apply(ch.Metadata)
	c.emitIfChanged("charge.updated", before, ch)
	return ch, nil
}

func listCharges(c *call) (any, *apiError) {
	payment, owner := c.params.text("payment_intent"), c.params.text("customer")
	c.params.ignore("transfer_group")
	return listOf(c, &c.charges, "/v1/charges", "charge", func(ch *charge) int64 { return ch.Created }, func(ch *charge) bool {
		return (payment == "" || string(ch.PaymentIntent) == payment) && (owner == "" || string(ch.Customer) == owner)
	})
}

func retrieveBalanceTransaction(c *call) (any, *apiError) {
	if err := c.params.done(); err != nil {
		return nil, err
	}
	tx, ok := c.balances.find(c.id)
	if !ok {
		return nil, noSuch(http.StatusNotFound, "balance_transaction", c.id, "id")
	}
	return tx, nil
}

// plainAmount writes an amount as Stripe's messages do.
func plainAmount(amount int64, currency string) string {
	return fmt.Sprintf("(%s)", formatMoney(amount, currency))
}
