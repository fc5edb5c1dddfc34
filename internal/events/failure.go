package events

// Failure says why something ended without success. Code and DeclineCode are the provider's words or ours below;
// Message is always our own text, because a provider's may quote what the buyer typed.
type Failure struct {
	Code        string `json:"code"`
	DeclineCode string `json:"declineCode,omitempty"`
	Message     string `json:"message"`
}

// Codes that decisions depend on or that PayKit itself gives.
const (
	FailureAuthenticationRequired = "authentication_required"
	FailureAuthenticationFailed   = "payment_intent_authentication_failure"
	FailureProviderRejected       = "provider_rejected"         // our request was refused as wrong
	FailureActionExpired          = "action_expired"            // the buyer did not authenticate in time
	FailureCustomerDeleted        = "customer_deleted"          // the customer was deleted before the call was made
	FailureMethodDetached         = "payment_method_detached"   // the method was detached before the call was made
	FailurePaymentFailed          = "payment_failed"            // a delayed payment did not arrive
	FailureCardDeclined           = "card_declined"             // with a DeclineCode
	FailureExpiredCard            = "expired_card"              //
	FailureIncorrectCVC           = "incorrect_cvc"             //
	FailureProcessingError        = "processing_error"          //
	FailureCanceledBeforeSent     = "canceled_before_execution" // canceled before the provider was asked
	FailureResolved               = "resolved_by_operator"      // an operator decided that no money was taken
)

// NewFailure is a failure with our text for its code.
func NewFailure(code, declineCode string) Failure {
	return Failure{Code: code, DeclineCode: declineCode, Message: FailureMessage(code, declineCode)}
}

// FailureMessage is our text for a failure: what happened, and what helps.
func FailureMessage(code, declineCode string) string {
	switch declineCode {
	case "insufficient_funds":
		return "The card has insufficient funds. Try another payment method."
	case "lost_card", "stolen_card", "pickup_card", "restricted_card":
		return "The card was declined. Try another payment method."
	case "card_velocity_exceeded", "withdrawal_count_limit_exceeded":
		return "The card's limit was exceeded. Try later or use another payment method."
	case "fraudulent":
		return "The payment was blocked. Try another payment method."
	}
	switch code {
	case FailureAuthenticationRequired:
		return "The bank asks the buyer to authenticate. Charge again with a returnURL, or let the buyer pay in a checkout."
	case FailureAuthenticationFailed:
		return "The buyer's authentication failed. Try again or use another payment method."
	case FailureActionExpired:
		return "The buyer did not authenticate in time."
	case FailureProviderRejected:
		return "The provider refused the request itself. The worker's log names the provider's request id."
	case FailureCustomerDeleted:
		return "The customer was deleted."
	case FailureMethodDetached:
		return "The payment method was detached."
	case FailurePaymentFailed:
		return "The payment did not arrive."
	case FailureCardDeclined:
		return "The card was declined. Try another payment method."
	case FailureExpiredCard:
		return "The card has expired. Try another payment method."
	case FailureIncorrectCVC:
		return "The card's security code is incorrect."
	case FailureProcessingError:
		return "The card could not be processed. Try again later."
	case FailureCanceledBeforeSent:
		return "The charge was canceled before it was sent."
	case FailureResolved:
		return "The provider's answer stayed unclear, and it was decided that the charge failed. Try again or use another payment method."
	}
	return "The payment failed. Try another payment method."
}
