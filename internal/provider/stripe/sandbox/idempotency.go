package sandbox

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"time"
)

// keyLifetime is how long an idempotency key is remembered: https://stripe.com/docs/api/idempotent_requests.
const (
	keyLifetime  = 24 * time.Hour
	maxKeyLength = 255
)

// storedAnswer is what the sandbox remembers of an idempotency key. Guarded by Server.mu.
type storedAnswer struct {
	fingerprint string // requestDigest of method, path and parsed parameters of the first request
	running     bool
	requestID   string
	answer      answer
}

func (k *storedAnswer) hidden() any {
	return &struct {
		Fingerprint *string `json:"fingerprint"`
		RequestID   *string `json:"request_id"`
		Status      *int    `json:"status"`
		Body        *text   `json:"body"`
	}{&k.fingerprint, &k.requestID, &k.answer.status, &k.answer.body}
}

// passing says that a request which has no answer yet leaves its key free when the sandbox ends.
func (k *storedAnswer) passing() bool { return k.running }

// requestDigest is what is kept of a request's parameters, which may hold a card number or an address: enough to tell
// whether another request is the same.
func requestDigest(request string) string {
	sum := sha256.Sum256([]byte(request))
	return hex.EncodeToString(sum[:])
}

// beginKeyed takes a key for a request. It returns the key's entry, whose replay tells whether there is an answer already,
// or the refusal: the key belongs to another request (400), or to one that is still running (409). Called with mu held.
func (s *Server) beginKeyed(key, fingerprint string) (*storedAnswer, *apiError) {
	if key == "" {
		return nil, nil
	}
	if len(key) > maxKeyLength {
		return nil, badParam("", "", "Idempotency keys can be at most %d characters long.", maxKeyLength)
	}
	known, ok := s.keys.find(key)
	switch {
	case !ok:
		fresh := &storedAnswer{fingerprint: fingerprint, running: true}
		s.keys.add(key, fresh)
		return fresh, nil
	case known.fingerprint != fingerprint:
		return nil, &apiError{
			status: http.StatusBadRequest, Type: typeIdempotency,
			Message: "Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a key other than '" +
				key + "' if you meant to execute a different request.",
		}
	case known.running:
		return nil, &apiError{
			status: http.StatusConflict, Type: typeInvalidRequest, Code: "idempotency_key_in_use",
			Message: "There is currently another in-progress request using this Idempotent Key (that probably means you submitted twice, " +
				"and the other request is still going through): " + key + ". Please try again later.",
		}
	}
	return known, nil
}

// replay returns the answer of an earlier request with this key.
func (k *storedAnswer) replay() (answer, bool) {
	if k == nil || k.running {
		return answer{}, false
	}
	a := k.answer
	a.headers = map[string]string{"Idempotent-Replayed": "true", "Original-Request": k.requestID}
	return a, true
}

// finishKeyed keeps the answer under its key, 402 and 500 included. What was refused before it was executed (parameters,
// unknown objects, limits) leaves the key free. Called with mu held.
func (s *Server) finishKeyed(key string, k *storedAnswer, requestID string, a answer) {
	if k == nil {
		return
	}
	if a.unstored || a.status == http.StatusUnauthorized || a.status == http.StatusTooManyRequests {
		s.keys.remove(key)
		return
	}
	k.running, k.requestID, k.answer = false, requestID, a
	s.keys.get(key) // noted: it has changed
	s.after(keyLifetime, taskForgetKey, key, requestID)
}
