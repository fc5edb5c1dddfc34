package sandbox

import "net/http"

// homeView is the landing page.
type homeView struct {
	Title, BaseURL string
	Sessions       []homeSession
	Endpoints      []endpoint
	Cards          []testCard
}

// homeSession is one row of the recent checkouts.
type homeSession struct {
	Href, ShortID, Description, Amount, Status string
}

// endpoint is one line of the landing page's overview.
type endpoint struct {
	Path, Does string
}

// home is GET /: what this server is and how to begin, for whoever opens its port in a browser.
func (p *pages) home(w http.ResponseWriter, r *http.Request) {
	p.render(w, http.StatusOK, "home", homeView{
		Title: "PayKit sandbox", BaseURL: "http://" + r.Host, Endpoints: endpoints(), Cards: append(commonCards(), rareCards()...),
	})
}

func endpoints() []endpoint {
	return []endpoint{
		{"/v1/customers", "Customers, their payment methods and default."},
		{"/v1/payment_methods", "Saved cards: retrieve, list, attach, detach."},
		{"/v1/payment_intents", "Payments: create, confirm, cancel, retrieve, list."},
		{"/v1/setup_intents", "Cards saved for later."},
		{"/v1/checkout/sessions", "Hosted pages for paying and for saving a card."},
		{"/v1/charges · /v1/refunds · /v1/disputes", "What became of the money."},
		{"/v1/events · /v1/webhook_endpoints", "What happened, and where it is delivered, signed."},
		{"GET /_sandbox/ledger", "Every payment and what was really taken."},
		{"POST /_sandbox/faults", "Lost answers, errors and delays on demand."},
		{"POST /_sandbox/webhooks", "Duplicate, delayed, reordered or dropped deliveries."},
		{"POST /_sandbox/clock/advance", "Moves the sandbox's clock."},
		{"POST /_sandbox/checkout/{id}/complete", "Does what the page's form does, without a browser."},
	}
}
