package sandbox

import (
	"fmt"
	"net/http"
	"strings"
)

// cardReplacement is what a card network tells of a new card in an old one's place; what is left out stays.
type cardReplacement struct {
	ExpMonth int64  `json:"exp_month"`
	ExpYear  int64  `json:"exp_year"`
	Last4    string `json:"last4"` // of another number, which has another fingerprint
}

// replaceCard is what happens by itself at Stripe when an issuer sends a customer a new card: the saved one goes on under
// its old id with new details.
func (s *Server) replaceCard(w http.ResponseWriter, r *http.Request) {
	var in cardReplacement
	if !readControl(w, r, &in) {
		return
	}
	s.enter()
	s.tick()
	c := s.newCall()
	m, ok := c.methods.find(r.PathValue("id"))
	failed := noSuch(http.StatusNotFound, "PaymentMethod", r.PathValue("id"), "payment_method")
	if ok {
		failed = c.automaticUpdate(m, in)
	}
	body := encode(m)
	s.leave()
	if failed != nil {
		controlError(w, failed.status, failed)
		return
	}
	writeAnswer(w, answer{status: http.StatusOK, body: body})
}

// automaticUpdate replaces a saved card. It refuses what no network would send.
func (c *call) automaticUpdate(m *paymentMethod, in cardReplacement) *apiError {
	switch {
	case m.Type != "card" || m.Customer == "":
		return badParam("", "", "%s is not a saved card", m.ID)
	case in.ExpMonth < 0 || in.ExpMonth > 12:
		return badParam("", "exp_month", "exp_month is %d: 1 to 12", in.ExpMonth)
	case in.ExpYear != 0 && (in.ExpYear < 2000 || in.ExpYear > 2999):
		return badParam("", "exp_year", "exp_year is %d: four digits", in.ExpYear)
	case in.Last4 != "" && (len(in.Last4) != 4 || strings.Trim(in.Last4, "0123456789") != ""):
		return badParam("", "last4", "last4 is %q: four digits", in.Last4)
	}
	before := snapshot(m)
	m.Card.ExpMonth, m.Card.ExpYear = orDefault(in.ExpMonth, m.Card.ExpMonth), orDefault(in.ExpYear, m.Card.ExpYear)
	if in.Last4 != "" && in.Last4 != m.Card.Last4 {
		m.Card.Fingerprint, m.Card.Last4 = fingerprint(fmt.Sprintf("%s replaced by %s", m.Card.Fingerprint, in.Last4)), in.Last4
	}
	c.emitIfChanged("payment_method.automatically_updated", before, m)
	return nil
}
