package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"time"
)

// registerControl adds the calls that steer the sandbox. They need no key: the sandbox is a tool for one machine.
func (s *Server) registerControl() {
	s.mux.HandleFunc("GET /_sandbox/ledger", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, map[string]any{"payments": s.ledger()})
	})
	s.mux.HandleFunc("POST /_sandbox/faults", s.addFault)
	s.mux.HandleFunc("GET /_sandbox/faults", s.listFaults)
	s.mux.HandleFunc("DELETE /_sandbox/faults", s.clearFaults)
	s.mux.HandleFunc("POST /_sandbox/webhooks", s.setDeliveries)
	s.mux.HandleFunc("POST /_sandbox/clock/advance", s.advanceClock)
	s.mux.HandleFunc("POST /_sandbox/checkout/{id}/complete", s.completeCheckout)
	s.mux.HandleFunc("POST /_sandbox/payment_methods/{id}/update", s.replaceCard)
	s.mux.HandleFunc("POST /_sandbox/3ds/{id}", s.resolveIntent)
	s.mux.HandleFunc("POST /_sandbox/payment_methods/{id}/decline", s.declineMethod)
	s.mux.HandleFunc("POST /_sandbox/trigger", s.trigger)
	s.registerMoney()
	s.mux.HandleFunc("/_sandbox/", func(w http.ResponseWriter, r *http.Request) {
		controlError(w, http.StatusNotFound, fmt.Errorf("no control call %s %s", r.Method, r.URL.Path))
	})
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(encode(v)) // a caller that has gone needs no answer
}

// controlError answers in the shape of Stripe's errors, so that one client can read both.
func controlError(w http.ResponseWriter, status int, err error) {
	e := &apiError{}
	if !errors.As(err, &e) {
		e = &apiError{Type: typeInvalidRequest, Message: err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(e.body()) // a caller that has gone needs no answer
}

// readControl decodes a control call's JSON body; an empty one is {}. Unknown fields are refused, since a misspelt fault
// would never strike.
func readControl(w http.ResponseWriter, r *http.Request, into any) bool {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequestBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		controlError(w, http.StatusBadRequest, fmt.Errorf("body: %w", err))
		return false
	}
	return true
}

func (s *Server) addFault(w http.ResponseWriter, r *http.Request) {
	var f fault
	if !readControl(w, r, &f) {
		return
	}
	if err := f.complete(); err != nil {
		controlError(w, http.StatusBadRequest, err)
		return
	}
	s.enter()
	f.ID = s.newID("flt_", 14)
	s.faults = append(s.faults, &f)
	s.leave()
	writeJSON(w, map[string]string{"id": f.ID})
}

func (s *Server) listFaults(w http.ResponseWriter, _ *http.Request) {
	s.enter()
	out := make([]fault, 0, len(s.faults))
	for _, f := range s.faults {
		out = append(out, *f)
	}
	s.leave()
	writeJSON(w, map[string]any{"faults": out})
}

func (s *Server) clearFaults(w http.ResponseWriter, _ *http.Request) {
	s.enter()
	n := len(s.faults)
	s.faults = nil
	s.leave()
	writeJSON(w, map[string]int{"removed": n})
}

func (s *Server) setDeliveries(w http.ResponseWriter, r *http.Request) {
	var b deliveryBehavior
	if !readControl(w, r, &b) {
		return
	}
	if err := b.complete(); err != nil {
		controlError(w, http.StatusBadRequest, err)
		return
	}
	s.enter()
	s.behavior = b
	s.leave()
	s.signal()
	writeJSON(w, b)
}

func (s *Server) advanceClock(w http.ResponseWriter, r *http.Request) {
	var in struct {
		By string `json:"by"`
	}
	if !readControl(w, r, &in) {
		return
	}
	by, err := time.ParseDuration(in.By)
	if err != nil || by < 0 {
		controlError(w, http.StatusBadRequest, fmt.Errorf("by is %q: a duration like 25h; the clock does not go back", in.By))
		return
	}
	writeJSON(w, map[string]string{"now": s.advance(by).Format(time.RFC3339Nano)})
}

// completeCheckout pays a session, or saves its card, as a buyer would: a 3-D Secure step is passed (or failed, if asked). With
// a method instead of a card it is a bank debit.
func (s *Server) completeCheckout(w http.ResponseWriter, r *http.Request) {
	in := struct {
		Card           string `json:"card"`
		Expiry         string `json:"expiry"`
		CVC            string `json:"cvc"`
		Name           string `json:"name"`
		Authentication string `json:"authentication"`
		Method         string `json:"method"`
	}{}
	if !readControl(w, r, &in) {
		return
	}
	id := r.PathValue("id")
	if in.Method != "" {
		_, err := s.submitBankDebit(id, in.Method)
		s.answerCompleted(w, id, nil, err)
		return
	}
	card := cardInput{Number: in.Card, Expiry: orDefault(in.Expiry, "12/34"), CVC: in.CVC, Name: in.Name}
	if rule, ok := ruleByName(in.Card); ok { // pm_card_visa instead of its number
		card.Number = rule.number
	}
	if rule, ok := ruleByNumber(plainNumber(card.Number)); ok && card.CVC == "" {
		card.CVC = "1234"[:cvcLength(rule.brand)]
	}
	outcome, err := s.submitCard(id, card)
	decline := outcome.Decline
	if err == nil && outcome.ActionURL != "" {
		_, decline, err = s.resolveAction(path.Base(outcome.ActionURL), in.Authentication != "fail")
	}
	s.answerCompleted(w, id, decline, err)
}

// answerCompleted answers with the session as it now is, or with why it is not complete.
func (s *Server) answerCompleted(w http.ResponseWriter, id string, decline *hostedDecline, err error) {
	switch {
	case errors.Is(err, errHostedNotFound):
		controlError(w, http.StatusNotFound, noSuch(http.StatusNotFound, "checkout.session", id, "session"))
	case err != nil:
		controlError(w, http.StatusBadRequest, err)
	case decline != nil:
		controlError(w, http.StatusPaymentRequired, &apiError{
			Type: typeCard, Code: decline.Code, DeclineCode: decline.DeclineCode, Message: decline.Message, Param: decline.Param,
		})
	default:
		s.enter()
		body := encode(s.sessions.get(id))
		s.leave()
		writeAnswer(w, answer{status: http.StatusOK, body: body})
	}
}

// resolveIntent passes or fails the 3-D Secure step of a payment or setup intent.
func (s *Server) resolveIntent(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Outcome string `json:"outcome"`
	}
	if !readControl(w, r, &in) {
		return
	}
	if in.Outcome != "complete" && in.Outcome != "fail" {
		controlError(w, http.StatusBadRequest, fmt.Errorf("outcome is %q: complete or fail", in.Outcome))
		return
	}
	id := r.PathValue("id")
	s.enter()
	actionID := id
	if pi, ok := s.payments.find(id); ok {
		actionID = pi.action
	} else if si, ok := s.setups.find(id); ok {
		actionID = si.action
	}
	s.leave()
	redirect, decline, err := s.resolveAction(actionID, in.Outcome == "complete")
	if err != nil {
		controlError(w, http.StatusNotFound, fmt.Errorf("%s waits for no 3-D Secure step", id))
		return
	}
	answer := map[string]any{"id": id, "redirectUrl": redirect, "outcome": in.Outcome}
	if decline != nil {
		answer["decline"] = map[string]string{"code": decline.Code, "declineCode": decline.DeclineCode, "message": decline.Message}
	}
	writeJSON(w, answer)
}
