package sandbox

import "net/http"

// maxRecent is how many checkout sessions the landing page links to.
const maxRecent = 10

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
	view := homeView{
		Title: "PayKit sandbox", BaseURL: p.server.publicBase(r), Endpoints: endpoints(), Cards: append(commonCards(), rareCards()...),
	}
	for _, id := range p.server.recentSessions(maxRecent) {
		session, ok := p.server.hostedSession(id)
		if !ok {
			continue
		}
		row := homeSession{Href: checkoutPath(id), ShortID: shorten(id), Description: session.Description, Status: session.Status}
		if session.Mode == "setup" {
			row.Description = orDefault(row.Description, "Save a card")
		} else {
			row.Amount = formatMoney(session.Amount, session.Currency)
		}
		view.Sessions = append(view.Sessions, row)
	}
	p.render(w, http.StatusOK, "home", view)
}

// publicBase is the address under which whoever sent r reaches the sandbox.
func (s *Server) publicBase(r *http.Request) string {
	s.enter()
	defer s.leave()
	return orDefault(s.baseURL, "http://"+r.Host)
}

// recentSessions returns the ids of the newest checkout sessions, newest first.
func (s *Server) recentSessions(limit int) []string {
	s.enter()
	defer s.leave()
	var ids []string
	for id := range s.sessions.all {
		if len(ids) == limit {
			break
		}
		ids = append(ids, id)
	}
	return ids
}

// shorten keeps the beginning of an id and the end, by which people tell it from others.
func shorten(id string) string {
	if len(id) <= 20 {
		return id
	}
	return id[:8] + "…" + id[len(id)-6:]
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
