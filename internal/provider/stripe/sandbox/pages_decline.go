package sandbox

// fieldErrors are the sentences beside the fields of the card form; empty means no error.
type fieldErrors struct {
	Number, Expiry, CVC, Name string
}

func (e fieldErrors) any() bool { return e != fieldErrors{} }

// first is the field that the buyer should correct first, empty without errors.
func (e fieldErrors) first() string {
	switch {
	case e.Number != "":
		return "cardNumber"
	case e.Expiry != "":
		return "cardExpiry"
	case e.CVC != "":
		return "cardCvc"
	default:
		return ""
	}
}

// reason is the one word under which a decline is explained: the bank's if it gave one, else Stripe's code.
func (d hostedDecline) reason() string {
	if d.DeclineCode != "" {
		return d.DeclineCode
	}
	return d.Code
}

// publicReason is reason as it may stand in an address: what is explained in general words is not named there either.
func publicReason(reason string) string {
	general, _ := explainDecline("", false)
	if alert, _ := explainDecline(reason, false); alert == general {
		return "card_declined"
	}
	return reason
}

// explainDecline says a decline in words that help a buyer: what happened, and what to do now. Whatever is not listed is
// said in the general words, lost, stolen and suspicious cards on purpose: whoever holds one must not learn of it.
// Some reasons belong to one field of the form as well. setup is true when a card was to be saved, not charged.
func explainDecline(reason string, setup bool) (alert string, fields fieldErrors) {
	nothing := "You have not been charged."
	if setup {
		nothing = "The card has not been saved."
	}
	switch reason {
	case "insufficient_funds":
		return "Your card has insufficient funds. " + nothing + " Please use another card.", fields
	case "expired_card":
		fields.Expiry = "This card has expired."
		return "Your card has expired. " + nothing + " Please use another card.", fields
	case "invalid_cvc":
		fields.CVC = "The code has 3 digits on the back, or 4 on the front of American Express."
		return "", fields
	case "incorrect_cvc":
		fields.CVC = "Check the security code."
		return "Your card’s security code (CVC) is incorrect. " + nothing + " Please correct it and try again.", fields
	case "incorrect_number", "invalid_number":
		fields.Number = "This card number is not valid. Please check the digits."
		return "", fields
	case "invalid_expiry_month", "invalid_expiry_year":
		fields.Expiry = "This expiry date is not valid, or it has passed."
		return "", fields
	case "processing_error":
		return "Something went wrong while your card was being processed. " + nothing + " Please try again in a moment.", fields
	case "card_velocity_exceeded":
		return "Your card was used too often or beyond its limit. " + nothing + " Please use another card, or try again later.", fields
	case "payment_intent_authentication_failure", "setup_intent_authentication_failure", "authentication_required",
		"authentication_not_handled":
		return "Your bank could not confirm that it is you. " + nothing + " Please try again, or use another card.", fields
	default:
		return "Your card was declined. " + nothing + " Please use another card, or ask your bank.", fields
	}
}
