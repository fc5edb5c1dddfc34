package sandbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// Types of Stripe's errors, and the codes used in more than one place.
const (
	typeInvalidRequest = "invalid_request_error"
	typeCard           = "card_error"
	typeIdempotency    = "idempotency_error"
	typeAPI            = "api_error"

	codeMissingParam    = "parameter_missing"
	codeUnknownParam    = "parameter_unknown"
	codeInvalidInteger  = "parameter_invalid_integer"
	codeResourceMissing = "resource_missing"
	codeCardDeclined    = "card_declined"
	codeAuthRequired    = "authentication_required"
	codeIntentState     = "payment_intent_unexpected_state"
	codeSetupState      = "setup_intent_unexpected_state"
	codeIntentAuthFail  = "payment_intent_authentication_failure"
	codeSetupAuthFail   = "setup_intent_authentication_failure"
)

// apiError is one of Stripe's error answers, in the shape of https://stripe.com/docs/api/errors.
type apiError struct {
	status   int
	unstored bool // refused before execution: nothing is kept under the idempotency key
	headers  map[string]string

	Type          string         `json:"type"`
	Code          string         `json:"code,omitempty"`
	DeclineCode   string         `json:"decline_code,omitempty"`
	AdviceCode    string         `json:"advice_code,omitempty"`
	Message       string         `json:"message"`
	Param         string         `json:"param,omitempty"`
	DocURL        string         `json:"doc_url,omitempty"`
	Charge        string         `json:"charge,omitempty"`
	PaymentIntent *paymentIntent `json:"payment_intent,omitempty"`
	PaymentMethod *paymentMethod `json:"payment_method,omitempty"`
	SetupIntent   *setupIntent   `json:"setup_intent,omitempty"`
}

// Error makes apiError an error for the few places that need one.
func (e *apiError) Error() string { return e.Message }

// body is the whole answer.
func (e *apiError) body() []byte {
	if e.Code != "" && e.DocURL == "" {
		e.DocURL = "https://stripe.com/docs/error-codes/" + strings.ReplaceAll(e.Code, "_", "-")
	}
	return encode(struct {
		Error *apiError `json:"error"`
	}{e})
}

// encode renders v as Stripe does, indented by two. Everything it is given is made of plain data, so a failure is a bug.
func encode(v any) []byte {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("sandbox: encode %T: %v", v, err))
	}
	return append(b, '\n')
}

// badParam is a refused parameter: 400, not stored under the idempotency key.
func badParam(code, param, format string, args ...any) *apiError {
	return &apiError{
		status: http.StatusBadRequest, unstored: true,
		Type: typeInvalidRequest, Code: code, Param: param, Message: fmt.Sprintf(format, args...),
	}
}

func missingParam(param string) *apiError {
	return badParam(codeMissingParam, param, "Missing required param: %s.", param)
}

// noSuch is an unknown object. Named by the path it is 404, named by a parameter 400, as Stripe does.
func noSuch(status int, kind, id, param string) *apiError {
	return &apiError{
		status: status, unstored: true,
		Type: typeInvalidRequest, Code: codeResourceMissing, Param: param, Message: fmt.Sprintf("No such %s: '%s'", kind, id),
	}
}

// refused is a request that is well formed but not possible in the object's state: 400, stored under the key.
func refused(code, param, format string, args ...any) *apiError {
	return &apiError{
		status: http.StatusBadRequest,
		Type:   typeInvalidRequest, Code: code, Param: param, Message: fmt.Sprintf(format, args...),
	}
}

// errorForStatus is the body of an injected fault, as Stripe words that status.
func errorForStatus(status int, code string) *apiError {
	e := &apiError{status: status, Code: code, Type: typeInvalidRequest, unstored: true}
	switch {
	case status == http.StatusUnauthorized:
		e.Message = "Invalid API Key provided: sk_test_***"
	case status == http.StatusPaymentRequired:
		e.Type, e.Message = typeCard, "Your card was declined."
		if code == "" {
			e.Code, e.DeclineCode = codeCardDeclined, "generic_decline"
		}
	case status == http.StatusForbidden:
		e.Message = "The provided key does not have the required permissions for this endpoint."
	case status == http.StatusNotFound:
		e.Message = "No such object."
		if code == "" {
			e.Code = codeResourceMissing
		}
	case status == http.StatusConflict:
		e.Message = "There is currently another in-progress request using this object or key."
		if code == "" {
			e.Code = "idempotency_key_in_use"
		}
	case status == http.StatusTooManyRequests && code == "lock_timeout":
		e.Message = "This object cannot be accessed right now because another API request or Stripe process is currently accessing it."
	case status == http.StatusTooManyRequests:
		e.Message = "Request rate limit exceeded."
		if code == "" {
			e.Code = "rate_limit"
		}
	case status >= http.StatusInternalServerError:
		e.Type, e.Message = typeAPI, "An unknown error occurred. Contact us through support if you see this again."
	default:
		e.Message = "The request was refused by an injected fault."
	}
	return e
}
