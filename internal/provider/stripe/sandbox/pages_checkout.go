package sandbox

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// cardForm is what stands in the form's fields.
type cardForm struct {
	Number, Expiry, CVC, Name string
}

// checkoutView is the checkout page, for payment and for setup.
type checkoutView struct {
	Title, Merchant, Initial         string
	Description, Amount              string // Amount is empty in setup mode
	CancelURL, Email, Action         string
	ExpiresIn, ExpiresAt, ExpiresISO string
	Alert                            string // why the last attempt failed
	Focus                            string // id of the field that gets the cursor
	Form                             cardForm
	Errors                           fieldErrors
	Cards, MoreCards                 []testCard
	Setup, MoreOpen, BankDebits      bool
}

// showCheckout is GET /c/pay/{session}. "card" in the query fills in one of the test cards, "declined" explains why a
// 3-D Secure step led back here; any other value of either is ignored or said in general words.
func (p *pages) showCheckout(w http.ResponseWriter, r *http.Request) {
	session, ok := p.server.hostedSession(r.PathValue("session"))
	if !ok {
		p.notFound(w)
		return
	}
	if session.Status != "open" {
		p.closed(w, session)
		return
	}
	chosen := r.URL.Query().Get("card")
	view := p.checkoutView(session, chosen)
	for _, card := range append(view.Cards, view.MoreCards...) {
		if card.Chosen {
			view.Form = cardForm{Number: card.Pretty(), Expiry: card.Expiry, CVC: card.CVC, Name: card.Name}
		}
	}
	if reason := r.URL.Query().Get("declined"); reason != "" && view.Form == (cardForm{}) {
		view.Alert, view.Errors = explainDecline(reason, view.Setup)
	}
	p.render(w, http.StatusOK, "checkout", view)
}

// submitCheckout is POST /c/pay/{session}: it sends the buyer on, or shows the form again with what is wrong. Sending
// the same form twice is harmless: the core takes a session's money once, and the second answer leads to the same place.
func (p *pages) submitCheckout(w http.ResponseWriter, r *http.Request) {
	session, ok := p.server.hostedSession(r.PathValue("session"))
	if !ok {
		p.notFound(w)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
	if err := r.ParseForm(); err != nil {
		p.badForm(w)
		return
	}
	form := cardForm{
		Number: strings.TrimSpace(r.PostForm.Get("cardNumber")), Expiry: strings.TrimSpace(r.PostForm.Get("cardExpiry")),
		CVC: strings.TrimSpace(r.PostForm.Get("cardCvc")), Name: strings.TrimSpace(r.PostForm.Get("billingName")),
	}
	if session.Status != "open" {
		p.closedAfterSubmit(w, r, session.ID)
		return
	}
	if account := r.PostForm.Get("bankAccount"); account != "" {
		p.submitBankDebit(w, r, session, account)
		return
	}
	input, wrong := checkForm(form)
	if wrong.any() {
		p.showAgain(w, http.StatusUnprocessableEntity, session, form, "", wrong)
		return
	}
	outcome, err := p.server.submitCard(session.ID, input)
	switch {
	case errors.Is(err, errHostedNotFound):
		p.notFound(w)
	case errors.Is(err, errHostedClosed):
		p.closedAfterSubmit(w, r, session.ID)
	case err != nil:
		p.failed(w, err, "checkout")
	case outcome.Decline != nil:
		alert, fields := explainDecline(outcome.Decline.reason(), session.Mode == "setup")
		status := http.StatusPaymentRequired
		if alert == "" {
			status = http.StatusUnprocessableEntity
		}
		p.showAgain(w, status, session, form, alert, fields)
	case outcome.ActionURL != "":
		redirect(w, r, outcome.ActionURL)
	default:
		redirect(w, r, outcome.RedirectURL)
	}
}

// submitBankDebit is what the buttons of the test accounts do.
func (p *pages) submitBankDebit(w http.ResponseWriter, r *http.Request, session hostedSession, account string) {
	if !session.BankDebits || delayedMethods()[account] == "" {
		p.badForm(w)
		return
	}
	outcome, err := p.server.submitBankDebit(session.ID, account)
	switch {
	case errors.Is(err, errHostedClosed):
		p.closedAfterSubmit(w, r, session.ID)
	case err != nil || outcome.RedirectURL == "":
		p.failed(w, err, "checkout")
	default:
		redirect(w, r, outcome.RedirectURL)
	}
}

// showAgain shows the form as the buyer left it, except the security code, which is never sent back.
func (p *pages) showAgain(w http.ResponseWriter, status int, session hostedSession, form cardForm, alert string, wrong fieldErrors) {
	view := p.checkoutView(session, strings.ReplaceAll(form.Number, " ", ""))
	form.CVC = ""
	form.Number = groupDigits(form.Number)
	view.Form, view.Alert, view.Errors = form, alert, wrong
	view.Focus = orDefault(wrong.first(), "cardNumber")
	view.Title = "Please check your card · " + view.Title
	p.render(w, status, "checkout", view)
}

// closedAfterSubmit answers a form that comes after the session's end. A buyer who has paid, by a second click or in
// another tab, goes on as after the first.
func (p *pages) closedAfterSubmit(w http.ResponseWriter, r *http.Request, sessionID string) {
	session, ok := p.server.hostedSession(sessionID)
	if ok && session.Status == "complete" && session.SuccessURL != "" {
		redirect(w, r, session.SuccessURL)
		return
	}
	p.closed(w, session)
}

// closed is the page of a session that takes no card any more.
func (p *pages) closed(w http.ResponseWriter, session hostedSession) {
	merchant := session.MerchantName
	if session.Status == "complete" {
		view := messageView{
			Title: "Paid · " + merchant, Mark: "done", Heading: "You have already paid",
			Text:    formatMoney(session.Amount, session.Currency) + " to " + merchant + ". Nothing more is to be done here.",
			LinkURL: session.SuccessURL, LinkText: "Continue to " + merchant,
		}
		if session.Mode == "setup" {
			view.Title, view.Heading = "Card saved · "+merchant, "Your card is saved"
			view.Text = merchant + " can use it for later payments. Nothing more is to be done here."
		}
		p.render(w, http.StatusOK, "message", view)
		return
	}
	p.render(w, http.StatusGone, "message", messageView{
		Title: "Expired · " + merchant, Mark: "late", Heading: "This page has expired",
		Text:    "It can no longer be used, and you have not been charged. Please go back to " + merchant + " and start again.",
		LinkURL: session.CancelURL, LinkText: "Back to " + merchant,
	})
}

func (p *pages) checkoutView(session hostedSession, chosen string) checkoutView {
	now := p.now()
	merchant := session.MerchantName
	view := checkoutView{
		Title: "Pay " + merchant, Merchant: merchant, Initial: initial(merchant),
		Description: orDefault(session.Description, "Your order"), CancelURL: session.CancelURL, Email: session.CustomerEmail,
		Action: checkoutPath(session.ID), Setup: session.Mode == "setup", BankDebits: session.BankDebits,
	}
	view.Cards = offerCards(commonCards(), session.ID, chosen, view.Setup, now)
	view.MoreCards = offerCards(rareCards(), session.ID, chosen, view.Setup, now)
	if view.Setup {
		view.Title = "Save a card · " + merchant
	} else {
		view.Amount = formatMoney(session.Amount, session.Currency)
	}
	for _, card := range view.MoreCards {
		view.MoreOpen = view.MoreOpen || card.Chosen
	}
	if left := session.ExpiresAt.Sub(now); left > 0 {
		at := session.ExpiresAt.UTC()
		view.ExpiresIn, view.ExpiresAt, view.ExpiresISO = spell(left), at.Format("2 January 2006, 15:04 UTC"), at.Format(time.RFC3339)
	}
	return view
}

// checkForm says what is wrong with the form itself, all fields at once; what only the core can know (a date that has
// passed, a card that is refused) comes from there.
func checkForm(form cardForm) (cardInput, fieldErrors) {
	var wrong fieldErrors
	number := strings.NewReplacer(" ", "", "-", "", "\u00a0", "").Replace(form.Number)
	switch {
	case number == "":
		wrong.Number = "Enter the number on your card."
	case !onlyDigits(number) || len(number) < 12 || len(number) > 19:
		wrong.Number = "This card number is not complete. Please check the digits."
	}
	expiry, ok := readExpiry(form.Expiry)
	switch {
	case form.Expiry == "":
		wrong.Expiry = "Enter the expiry date."
	case !ok:
		wrong.Expiry = "Write month and year, as in 04 / 30."
	}
	switch {
	case form.CVC == "":
		wrong.CVC = "Enter the security code."
	case !onlyDigits(form.CVC) || len(form.CVC) < 3 || len(form.CVC) > 4:
		wrong.CVC = "The code has 3 or 4 digits."
	}
	if len(form.Name) > 200 {
		wrong.Name = "This name is too long."
	}
	return cardInput{Number: number, Expiry: expiry, CVC: form.CVC, Name: form.Name}, wrong
}

// readExpiry takes what people and browsers write (04/30, 4 / 2030, 0430, 04-30) and returns MM/YY or MM/YYYY.
func readExpiry(text string) (string, bool) {
	text = strings.ReplaceAll(text, " ", "")
	month, year, found := strings.Cut(strings.ReplaceAll(text, "-", "/"), "/")
	if !found && (len(text) == 4 || len(text) == 6) {
		month, year = text[:2], text[2:]
	}
	if len(month) == 1 {
		month = "0" + month
	}
	if !onlyDigits(month+year) || len(month) != 2 || month < "01" || month > "12" || len(year) != 2 && len(year) != 4 {
		return "", false
	}
	return month + "/" + year, true
}

// spell says how long something is still open, in the largest fitting unit, rounded down.
func spell(d time.Duration) string {
	count, unit := int(d/time.Minute), "minute"
	if d >= time.Hour {
		count, unit = int(d/time.Hour), "hour"
	}
	switch count {
	case 0:
		return "less than a minute"
	case 1:
		return "1 " + unit
	default:
		return strconv.Itoa(count) + " " + unit + "s"
	}
}

// withDecline adds the reason of a decline to the address of a checkout page of ours; other addresses stay as they are.
func withDecline(to, host string, decline *hostedDecline) string {
	address, err := url.Parse(to)
	if err != nil || decline == nil || !strings.HasPrefix(address.Path, "/c/pay/") || address.Host != "" && address.Host != host {
		return to
	}
	query := address.Query()
	query.Set("declined", publicReason(decline.reason()))
	address.RawQuery = query.Encode()
	return address.String()
}
