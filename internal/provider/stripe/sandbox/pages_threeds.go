package sandbox

import (
	"errors"
	"net/http"
	"net/url"
)

// actionView is the bank's page of the 3-D Secure step.
type actionView struct {
	Title, Merchant, Description string
	Amount                       string // empty when a card is saved
	Brand, Last4, Date, Action   string
	Setup                        bool
}

// showAction is GET /3ds/{action}. A step that is done leads on: a reload or the back button does no harm.
func (p *pages) showAction(w http.ResponseWriter, r *http.Request) {
	action, ok := p.server.hostedAction(r.PathValue("action"))
	if !ok {
		p.noStep(w)
		return
	}
	if action.Status != "pending" {
		merchant := action.MerchantName
		p.render(w, http.StatusOK, "message", messageView{
			Title: "Done · Test Bank", Mark: "done", Heading: "This step is already done",
			Text:    "Your bank has given its answer. Nothing more is to be done here.",
			LinkURL: action.ReturnURL, LinkText: "Continue to " + merchant,
		})
		return
	}
	view := actionView{
		Title: "Confirm your payment · Test Bank", Merchant: action.MerchantName, Description: action.Description,
		Brand: brandName(action.CardBrand), Last4: action.CardLast4, Setup: action.Kind == "setup",
		Date: p.now().UTC().Format("2 January 2006, 15:04 UTC"), Action: "/3ds/" + url.PathEscape(action.ID),
	}
	if view.Setup {
		view.Title = "Confirm this card · Test Bank"
	} else {
		view.Amount = formatMoney(action.Amount, action.Currency)
	}
	p.render(w, http.StatusOK, "threeds", view)
}

// submitAction is POST /3ds/{action} with result=complete or result=fail. Anything else changes nothing: the answer to
// "was it you" must never be guessed.
func (p *pages) submitAction(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
	if err := r.ParseForm(); err != nil {
		p.badForm(w)
		return
	}
	result := r.PostForm.Get("result")
	if result != "complete" && result != "fail" {
		p.badForm(w)
		return
	}
	to, decline, err := p.server.resolveAction(r.PathValue("action"), result == "complete")
	switch {
	case errors.Is(err, errHostedNotFound):
		p.noStep(w)
	case err != nil:
		p.failed(w, err, "3ds")
	default:
		redirect(w, r, withDecline(to, r.Host, decline))
	}
}

// noStep is for a step that never was, and for one that a later attempt with another card has replaced.
func (p *pages) noStep(w http.ResponseWriter) {
	p.render(w, http.StatusNotFound, "message", messageView{
		Title: "Step not found · Test Bank", Mark: "late", Heading: "This step is over",
		Text:   "Another attempt has taken its place, or the link is incomplete. Nothing was charged here.",
		Detail: "Please go back to the shop.",
	})
}
