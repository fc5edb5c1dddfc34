package stripe

import (
	"context"
	"errors"

	stripego "github.com/stripe/stripe-go/v76"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
)

// maxProductName is the longest name of the one thing on a page, in characters; the payment keeps the whole text.
const maxProductName = 250

// CreateSession implements [provider.Sessions]. It sends no time of ours: Stripe lets a page expire after 24 h.
func (c *Client) CreateSession(ctx context.Context, key string, r provider.SessionRequest) (events.Session, error) {
	const operation = "checkout_sessions.create"
	if err := needID(operation, "customer", r.CustomerID); err != nil {
		return events.Session{}, err
	}
	var out checkoutSession
	_, err := c.write(ctx, operation, key, func(p stripego.Params) error {
		made, err := c.api.CheckoutSessions.New(c.sessionParams(p, r))
		if err != nil {
			return err
		}
		toldMade(p.Context, made.ID)
		return answered(made.LastResponse, &out)
	})
	if err != nil {
		return events.Session{}, err
	}
	return out.session(), nil
}

func (c *Client) sessionParams(p stripego.Params, r provider.SessionRequest) *stripego.CheckoutSessionParams {
	metadata := c.metadata(r.Owner, r.Metadata)
	cancel := r.CancelURL
	if cancel == "" {
		cancel = r.SuccessURL
	}
	params := &stripego.CheckoutSessionParams{
		Params: p, Customer: new(r.CustomerID), Metadata: metadata,
		SuccessURL: new(r.SuccessURL), CancelURL: new(cancel),
	}
	// A session's metadata is not copied to the intent that it makes, so the intent is given its own.
	if r.Setup {
		params.Mode = new(string(stripego.CheckoutSessionModeSetup))
		params.PaymentMethodTypes = stripego.StringSlice([]string{"card"})
		params.ClientReferenceID = text(r.Owner.Setup)
		params.SetupIntentData = &stripego.CheckoutSessionSetupIntentDataParams{Metadata: metadata}
		return params
	}
	params.Mode = new(string(stripego.CheckoutSessionModePayment))
	params.ClientReferenceID = text(r.Owner.Checkout)
	params.LineItems = []*stripego.CheckoutSessionLineItemParams{{
		Quantity: new(int64(1)),
		PriceData: &stripego.CheckoutSessionLineItemPriceDataParams{
			Currency: new(r.Currency), UnitAmount: new(r.Amount),
			ProductData: &stripego.CheckoutSessionLineItemPriceDataProductDataParams{Name: new(productName(r.Description))},
		},
	}}
	params.PaymentIntentData = &stripego.CheckoutSessionPaymentIntentDataParams{Description: text(r.Description), Metadata: metadata}
	if r.SaveMethod {
		params.PaymentIntentData.SetupFutureUsage = new(string(stripego.PaymentIntentSetupFutureUsageOffSession))
	}
	return params
}

func productName(description string) string {
	if description == "" {
		return "Payment"
	}
	if name := []rune(description); len(name) > maxProductName {
		return string(name[:maxProductName])
	}
	return description
}

// Session implements [provider.Sessions].
func (c *Client) Session(ctx context.Context, id string) (events.Session, error) {
	const operation = "checkout_sessions.retrieve"
	if err := needID(operation, "session", id); err != nil {
		return events.Session{}, err
	}
	var out checkoutSession
	err := c.read(ctx, operation, func(p stripego.Params) error {
		params := &stripego.CheckoutSessionParams{Params: p}
		params.AddExpand("payment_intent") // a delayed payment's end
		params.AddExpand("setup_intent")   // the saved method
		found, err := c.api.CheckoutSessions.Get(id, params)
		if err != nil {
			return err
		}
		return answered(found.LastResponse, &out)
	})
	if err != nil {
		return events.Session{}, err
	}
	return out.session(), nil
}

// FindSession implements [provider.Sessions].
func (c *Client) FindSession(ctx context.Context, customerID string, owner events.Owner, made provider.Span) (events.Session, bool, error) {
	const operation = "checkout_sessions.list"
	if err := needID(operation, "customer", customerID); err != nil {
		return events.Session{}, false, err
	}
	found := ""
	err := c.read(ctx, operation, func(p stripego.Params) error {
		it := c.api.CheckoutSessions.List(&stripego.CheckoutSessionListParams{
			ListParams: listParams(p), Customer: new(customerID), CreatedRange: createdIn(made),
		})
		for it.Next() {
			one := it.CheckoutSession()
			if !c.owns(owner, one.Metadata) {
				continue
			}
			found = one.ID // newest first, so the first made stays, unless one was completed
			if one.Status == stripego.CheckoutSessionStatusComplete {
				break
			}
		}
		return it.Err()
	})
	if err != nil || found == "" {
		return events.Session{}, false, err
	}
	s, err := c.Session(ctx, found)
	return s, err == nil, err
}

// ExpireSession implements [provider.Sessions]. A page that Stripe does not close because a buyer is paying on it is a
// transient error: it will be complete, or open for at most a day.
func (c *Client) ExpireSession(ctx context.Context, key, id string) (events.Session, error) {
	const operation = "checkout_sessions.expire"
	if err := needID(operation, "session", id); err != nil {
		return events.Session{}, err
	}
	var out checkoutSession
	_, err := c.write(ctx, operation, key, func(p stripego.Params) error {
		closed, err := c.api.CheckoutSessions.Expire(id, &stripego.CheckoutSessionExpireParams{Params: p})
		if err != nil {
			return err
		}
		return answered(closed.LastResponse, &out)
	})
	failed, ok := errors.AsType[*provider.Error](err)
	switch {
	case err == nil:
		return out.session(), nil
	case !ok || failed.Class != provider.Invalid || failed.NotFound:
		return events.Session{}, err
	}
	present, err := c.Session(ctx, id)
	if err != nil {
		return events.Session{}, err
	}
	if present.Status == events.SessionOpen {
		failed.Class = provider.Transient
		return events.Session{}, failed
	}
	return present, nil
}
