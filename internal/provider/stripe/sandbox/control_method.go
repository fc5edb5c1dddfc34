package sandbox

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// plannedDecline is what POST /_sandbox/payment_methods/{id}/decline asks for: the next payments with a saved card are
// declined whatever card it is, and those after them go as the card goes.
type plannedDecline struct {
	Times       int    `json:"times"`
	Code        string `json:"code"`
	DeclineCode string `json:"declineCode,omitempty"`
	AdviceCode  string `json:"adviceCode,omitempty"`
}

// maxPlannedDeclines keeps a slip of the keyboard from spoiling a card for ever.
const maxPlannedDeclines = 1000

func (d *plannedDecline) complete() error {
	if d.Code == "" {
		d.Code = codeCardDeclined
	}
	if d.Code == codeCardDeclined && d.DeclineCode == "" {
		d.DeclineCode = "generic_decline"
	}
	if d.Times < 0 || d.Times > maxPlannedDeclines {
		return fmt.Errorf("times is %d: 0 to %d", d.Times, maxPlannedDeclines)
	}
	for _, code := range []string{d.Code, d.DeclineCode, d.AdviceCode} {
		if strings.Trim(code, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			return fmt.Errorf("%q is no code", code)
		}
	}
	return nil
}

// next is the decline of a payment that is made now, nil if it goes as the card goes.
func (d *plannedDecline) next() *decline {
	if d == nil || d.Times == 0 {
		return nil
	}
	d.Times--
	return &decline{code: d.Code, declineCode: d.DeclineCode, adviceCode: d.AdviceCode, message: "Your card was declined."}
}

// declineMethod has the next payments with a saved card declined.
func (s *Server) declineMethod(w http.ResponseWriter, r *http.Request) {
	d := plannedDecline{Times: 1}
	if !readControl(w, r, &d) {
		return
	}
	if err := d.complete(); err != nil {
		controlError(w, http.StatusBadRequest, err)
		return
	}
	id := r.PathValue("id")
	s.enter()
	m, ok := s.methods.find(id)
	if ok {
		m.declines = &d
	}
	s.leave()
	if !ok {
		controlError(w, http.StatusNotFound, errors.New("no payment method "+id+" was saved"))
		return
	}
	writeJSON(w, d)
}
