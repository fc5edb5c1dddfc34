package sandbox

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"time"
)

// maxRequestBody bounds what is read of one request, in bytes.
const maxRequestBody = 1 << 20

// call is one execution: of an API request, of a buyer's step on a hosted page, or of something that time brings.
// It lives while Server.mu is held.
type call struct {
	*Server
	base      string // of hosted URLs, without a trailing slash
	requestID string // empty unless an API request: events then name no request
	key       string // the request's idempotency key
	id        string // from the path
	sub       string // the second id of the path
	params    *params
}

// newCall is a call made by nobody: the buyer, or time.
func (s *Server) newCall() *call { return &call{Server: s, base: s.baseURL} }

// route is one endpoint: its name as faults use it (resource.verb) and what it does.
type route struct {
	pattern   string // of http.ServeMux
	operation string
	do        func(*call) (any, *apiError)
}

func (s *Server) registerAPI() {
	for _, rt := range routes() {
		s.mux.HandleFunc(rt.pattern, func(w http.ResponseWriter, r *http.Request) { s.serveAPI(w, r, rt) })
	}
	unknown := route{do: func(*call) (any, *apiError) { return nil, nil }}
	// Search is not played; without patterns of its own it would be taken for the id of an object.
	for _, pattern := range []string{"/v1/", "GET /v1/customers/search", "GET /v1/payment_intents/search", "GET /v1/charges/search"} {
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.serveAPI(w, r, unknown) })
	}
}

// serveAPI takes one API request through authentication, faults and idempotency to its handler.
func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request, rt route) {
	s.enter()
	requestID := s.newID("req_", 14)
	s.leave()
	h := w.Header()
	h.Set("Request-Id", requestID)
	h.Set("Stripe-Version", orDefault(r.Header.Get("Stripe-Version"), apiVersion))
	h.Set("Cache-Control", "no-cache, no-store")
	if err := authorize(r); err != nil {
		h.Set("WWW-Authenticate", `Basic realm="Stripe"`)
		writeAnswer(w, answer{status: err.status, body: err.body()})
		return
	}
	if rt.operation == "" {
		err := &apiError{status: http.StatusNotFound, Type: typeInvalidRequest, Message: "Unrecognized request URL (" + r.Method + ": " + r.URL.Path +
			"). If you are trying to list objects, remove the trailing slash. If you are trying to retrieve an object, make sure you passed a valid (non-empty) identifier in your code."}
		writeAnswer(w, answer{status: err.status, body: err.body()})
		return
	}
	f, bad := readForm(w, r)
	if bad != nil {
		writeAnswer(w, answer{status: bad.status, body: bad.body()})
		return
	}
	key := ""
	if r.Method == http.MethodPost {
		key = strings.TrimSpace(r.Header.Get("Idempotency-Key"))
	}
	if key != "" {
		h.Set("Idempotency-Key", key)
		h.Set("Original-Request", requestID)
	}
	s.execute(w, r, rt, f, requestID, key)
}

// execute runs the handler once, with the faults that match it, and answers.
func (s *Server) execute(w http.ResponseWriter, r *http.Request, rt route, f *form, requestID, key string) {
	c := &call{Server: s, requestID: requestID, key: key, id: r.PathValue("id"), sub: r.PathValue("sub"), params: f.params()}
	flt, stored, refusal := s.admit(c, r, rt, f)
	switch {
	case flt.refuses():
		flt.strike(w, answer{})
		return
	case refusal != nil:
		writeAnswer(w, answer{status: refusal.status, body: refusal.body()})
		return
	case flt.delays(faultBefore):
		// The key stays in use meanwhile, and the call is carried out even when its caller has gone: Stripe is slow, not away.
		s.pause(flt.wait)
	}
	a := s.carryOut(c, rt, f, flt, stored)
	if flt.delays(faultAfter) {
		s.pause(flt.wait)
	}
	if flt.breaks(faultAfter) {
		flt.strike(w, a)
		return
	}
	writeAnswer(w, a)
}

// admit finds the fault that this call meets and, unless that one breaks it at once, takes its idempotency key.
func (s *Server) admit(c *call, r *http.Request, rt route, f *form) (*fault, *storedAnswer, *apiError) {
	s.enter()
	defer s.leave()
	s.tick()
	c.base = orDefault(s.baseURL, "http://"+r.Host)
	flt := s.matchFault(rt.operation, c)
	if flt.refuses() {
		return flt, nil, nil
	}
	stored, refusal := s.beginKeyed(c.key, requestDigest(r.Method+" "+r.URL.Path+"?"+f.canonical()))
	return flt, stored, refusal
}

// carryOut executes the call, or finds the answer that its key already has.
func (s *Server) carryOut(c *call, rt route, f *form, flt *fault, stored *storedAnswer) answer {
	s.enter()
	defer s.leave()
	s.tick()
	if a, ok := stored.replay(); ok {
		return a
	}
	a := answer{status: http.StatusInternalServerError, unstored: true}
	defer func() { s.finishKeyed(c.key, stored, c.requestID, a) }() // also when the handler panics: the key must not stay in use
	if !flt.fails() {
		a = c.run(rt, f)
	}
	if flt.fails() || flt.becomes500() {
		fail := errorForStatus(flt.Status, flt.Code)
		a = answer{status: fail.status, body: fail.body()}
	}
	return a
}

// run calls the handler and renders what it returns. Called with mu held.
func (c *call) run(rt route, f *form) answer {
	expand := f.params().list("expand")
	if err := checkExpand(rt.operation, expand); err != nil {
		return answer{status: err.status, body: err.body(), unstored: true}
	}
	v, err := rt.do(c)
	if err != nil {
		return answer{status: err.status, body: err.body(), headers: err.headers, unstored: err.unstored}
	}
	if len(expand) > 0 {
		return answer{status: http.StatusOK, body: encode(c.expanded(v, expand))}
	}
	return answer{status: http.StatusOK, body: encode(v)}
}

// pause waits d by the real clock, or until the sandbox is closed.
func (s *Server) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.done:
	}
}

// authorize accepts any secret test key, as a bearer token or as the user name of basic authentication.
func authorize(r *http.Request) *apiError {
	key := strings.TrimSpace(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	if user, _, ok := r.BasicAuth(); ok {
		key = user
	}
	if strings.HasPrefix(key, "sk_test_") && len(key) > len("sk_test_") {
		return nil
	}
	err := &apiError{status: http.StatusUnauthorized, Type: typeInvalidRequest, unstored: true}
	switch {
	case key == "":
		err.Message = "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer auth " +
			"(e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See https://stripe.com/docs/api#authentication for details."
	case strings.HasPrefix(key, "sk_live_"):
		err.Message = "Invalid API Key provided: sk_live_***. This is a sandbox: it takes no live keys."
	default:
		err.Message = "Invalid API Key provided: ***"
	}
	return err
}

// readForm takes parameters from the body of a POST, and from the query string of everything else.
func readForm(w http.ResponseWriter, r *http.Request) (*form, *apiError) {
	raw := r.URL.RawQuery
	if r.Method == http.MethodPost || r.Method == http.MethodDelete {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequestBody))
		if err != nil {
			return nil, badParam("", "", "The request body could not be read.")
		}
		if media := r.Header.Get("Content-Type"); len(body) > 0 && !strings.HasPrefix(media, "application/x-www-form-urlencoded") {
			return nil, badParam("", "", "Invalid request: this API takes application/x-www-form-urlencoded bodies.")
		}
		if raw != "" && len(body) > 0 {
			raw += "&"
		}
		raw += string(body)
	}
	return parseForm(raw)
}

// text is a body, which the state file keeps as a string.
type text []byte

// MarshalText returns the body.
func (b text) MarshalText() ([]byte, error) { return b, nil }

// UnmarshalText takes the body.
func (b *text) UnmarshalText(in []byte) error {
	*b = bytes.Clone(in)
	return nil
}

// answer is a rendered response.
type answer struct {
	status   int
	body     text
	headers  map[string]string
	unstored bool
}

func writeAnswer(w http.ResponseWriter, a answer) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if a.status < http.StatusConflict {
		// Stripe's hint to its client libraries. For 409, 429 and 5xx they decide by themselves, by the same table.
		h.Set("Stripe-Should-Retry", "false")
	}
	for k, v := range a.headers {
		h.Set(k, v)
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // a caller that has gone needs no answer
}
