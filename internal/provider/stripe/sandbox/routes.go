package sandbox

import (
	"net/http"
	"slices"
	"strings"
)

// routes lists every endpoint of the API.
func routes() []route {
	return slices.Concat(customerRoutes(), paymentMethodRoutes(), paymentIntentRoutes(), setupIntentRoutes(), chargeRoutes(),
		checkoutSessionRoutes(), refundRoutes(), disputeRoutes(), fraudWarningRoutes(), eventRoutes(), webhookEndpointRoutes(), accountRoutes())
}

// operations lists the names that faults take.
func operations() []string {
	var out []string
	for _, rt := range routes() {
		out = append(out, rt.operation)
	}
	return out
}

func accountRoutes() []route {
	return []route{
		{"GET /v1/account", "account.retrieve", retrieveAccount},
		{"GET /v1/balance", "balance.retrieve", retrieveBalance},
	}
}

type account struct {
	ID              string            `json:"id"`
	Object          string            `json:"object"`
	BusinessProfile businessProfile   `json:"business_profile"`
	Capabilities    map[string]string `json:"capabilities"`
	ChargesEnabled  bool              `json:"charges_enabled"`
	Country         string            `json:"country"`
	DefaultCurrency string            `json:"default_currency"`
	DetailsSubmit   bool              `json:"details_submitted"`
	Email           null              `json:"email"`
	Metadata        map[string]string `json:"metadata"`
	PayoutsEnabled  bool              `json:"payouts_enabled"`
	Type            string            `json:"type"`
}

type businessProfile struct {
	Name string `json:"name"`
}

func retrieveAccount(c *call) (any, *apiError) {
	if err := c.params.done(); err != nil {
		return nil, err
	}
	return account{
		ID: c.cfg.AccountID, Object: "account", BusinessProfile: businessProfile{Name: c.cfg.MerchantName},
		Capabilities: map[string]string{"card_payments": "active"}, ChargesEnabled: true, Country: "US", DefaultCurrency: "usd",
		DetailsSubmit: true, Metadata: map[string]string{}, PayoutsEnabled: true, Type: "standard",
	}, nil
}

type balance struct {
	Object    string         `json:"object"`
	Available []balanceFunds `json:"available"`
	Livemode  bool           `json:"livemode"`
	Pending   []balanceFunds `json:"pending"`
}

type balanceFunds struct {
	Amount      int64            `json:"amount"`
	Currency    string           `json:"currency"`
	SourceTypes map[string]int64 `json:"source_types"`
}

// retrieveBalance sums what came and went, by currency; nothing is ever paid out.
func retrieveBalance(c *call) (any, *apiError) {
	if err := c.params.done(); err != nil {
		return nil, err
	}
	sums := map[string]int64{"usd": 0}
	for _, tx := range c.balances.all {
		sums[tx.Currency] += tx.Net
	}
	out := balance{Object: "balance", Available: []balanceFunds{}, Pending: []balanceFunds{}}
	for currency, sum := range sums {
		out.Available = append(out.Available, balanceFunds{Currency: currency, SourceTypes: map[string]int64{"card": 0}})
		out.Pending = append(out.Pending, balanceFunds{Amount: sum, Currency: currency, SourceTypes: map[string]int64{"card": sum}})
	}
	byCurrency := func(a, b balanceFunds) int { return strings.Compare(a.Currency, b.Currency) }
	slices.SortFunc(out.Available, byCurrency)
	slices.SortFunc(out.Pending, byCurrency)
	return out, nil
}

var _ http.Handler = (*Server)(nil)
