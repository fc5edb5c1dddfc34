package events

// Words that say more of a refund that the provider refused, as DeclineCode of a [FailureProviderRejected].
const (
	RefundAlreadyRefunded = "charge_already_refunded" // nothing is left: refunded elsewhere, in the provider's dashboard say
	RefundChargeDisputed  = "charge_disputed"         // a dispute has taken the money
	RefundTooLarge        = "refund_too_large"        // less is left than was asked for
)

// NewRefundFailure is a refund's failure with our text for its code.
func NewRefundFailure(code, declineCode string) Failure {
	return Failure{Code: code, DeclineCode: declineCode, Message: refundFailureMessage(code, declineCode)}
}

// refundFailureMessage is our text for why a refund gave no money back, and what helps. Beside ours the codes are Stripe's:
// https://docs.stripe.com/api/refunds/object#refund_object-failure_reason
func refundFailureMessage(code, declineCode string) string {
	switch declineCode {
	case RefundAlreadyRefunded:
		return "The charge is fully refunded at the provider already."
	case RefundChargeDisputed:
		return "A dispute of the charge has taken the money back already."
	case RefundTooLarge:
		return "Less is left at the provider than was to be refunded. Refund what is left."
	}
	switch code {
	case FailureResolved:
		return "Whether the refund was made stayed unclear, and it was decided that it was not. Refund again."
	case FailureProviderRejected:
		return "The provider refused the refund. The worker's log names the provider's request id."
	case "lost_or_stolen_card", "expired_or_canceled_card":
		return "The buyer's card can't take the refund any more, and the money has come back. Pay the buyer another way."
	case "charge_for_pending_refund_disputed":
		return "The charge was disputed before the refund arrived, and the money has come back."
	case "insufficient_funds":
		return "The account at the provider had not enough money for the refund. Refund again once it has."
	case "declined":
		return "The buyer's bank refused the refund, and the money has come back. Pay the buyer another way."
	case "merchant_request":
		return "The refund was canceled at the provider."
	}
	return "The refund did not arrive, and the money has come back. Refund again or pay the buyer another way."
}
