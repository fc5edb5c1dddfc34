package main

import (
	"errors"
	"fmt"

	"github.com/paykit-go/paykit"
)

type checkoutCmd struct {
	Create checkoutCreate `cmd:"" help:"Open a hosted payment page."`
	Get    checkoutGet    `cmd:"" help:"Show a checkout."`
	Expire checkoutExpire `cmd:"" help:"Close an open payment page."`
	Pay    checkoutPay    `cmd:"" help:"Sandbox only: do what the page's form does with a test card."`
}

// keyed are the flags of every creating command.
type keyed struct {
	IdempotencyKey string `short:"k" help:"Same key, same request: the same thing, for ever. Default: a new one."`
}

func (k keyed) options() []paykit.CallOption {
	if k.IdempotencyKey == "" {
		return nil
	}
	return []paykit.CallOption{paykit.WithIdempotencyKey(k.IdempotencyKey)}
}

type checkoutCreate struct {
	keyed
	Provider     string            `default:"stripe" help:"Provider."`
	Customer     string            `required:"" help:"Customer: cust_… or your own id."`
	Amount       int64             `required:"" help:"Amount in minor units: 4900 is 49.00 usd."`
	Currency     string            `help:"Lower-case ISO 4217; default: the installation's."`
	Description  string            `required:"" help:"What is paid for; the buyer sees it."`
	SuccessURL   string            `name:"success-url" required:"" help:"Where the buyer goes after paying."`
	CancelURL    string            `name:"cancel-url" help:"Where the buyer goes on turning back."`
	AttachMethod bool              `help:"Also save the method, for charges later."`
	Metadata     map[string]string `help:"key=value pairs; they stay in history and must not name a person."`
}

func (checkoutCreate) Help() string {
	return `Prints the page's url: send the buyer there. With an idempotency key the command can be repeated, even days later.

  paykit checkout create --customer user_123 --amount 4900 --description "Starter plan" \
    --success-url https://app.example.com/ok --attach-method -k order-1`
}

func (c checkoutCreate) Run(a *app) error {
	pk, err := a.client()
	if err != nil {
		return err
	}
	defer pk.Close()
	id, err := a.customerID(pk, c.Customer)
	if err != nil {
		return err
	}
	checkout, err := pk.Checkout.Create(a.ctx, paykit.CheckoutCreate{
		ProviderID: c.Provider, CustomerID: id, Amount: c.Amount, Currency: c.Currency, Description: c.Description,
		SuccessURL: c.SuccessURL, CancelURL: c.CancelURL, AttachMethod: c.AttachMethod, Metadata: c.Metadata,
	}, c.options()...)
	if err != nil {
		return err
	}
	return a.checkout(checkout)
}

type checkoutGet struct {
	past
	Checkout string `arg:"" help:"Checkout: chk_…"`
}

func (c checkoutGet) Run(a *app) error {
	pk, err := a.client()
	if err != nil {
		return err
	}
	defer pk.Close()
	checkout, err := pk.Checkout.Get(a.ctx, c.Checkout, c.options()...)
	if err != nil {
		return err
	}
	return a.checkout(checkout)
}

type checkoutExpire struct {
	Checkout string `arg:"" help:"Checkout: chk_…"`
}

func (c checkoutExpire) Run(a *app) error {
	pk, err := a.client()
	if err != nil {
		return err
	}
	defer pk.Close()
	checkout, err := pk.Checkout.Expire(a.ctx, c.Checkout)
	if err != nil {
		return err
	}
	return a.checkout(checkout)
}

type checkoutPay struct {
	sandboxAt
	ID   string `arg:"" help:"Checkout chk_… or setup set_…"`
	Card string `default:"4242424242424242" help:"Test card's number."`
}

func (checkoutPay) Help() string {
	return `Pays a checkout, or completes a setup, with a test card (docs/sandbox.md has the list):

  paykit checkout pay chk_…                           succeeds
  paykit checkout pay chk_… --card 4000000000000002   is declined`
}

func (c checkoutPay) Run(a *app) error {
	pk, err := a.client()
	if err != nil {
		return err
	}
	defer pk.Close()
	session, err := providerSession(a, pk, c.ID)
	if err != nil {
		return err
	}
	if err := c.complete(a.ctx, session, c.Card); err != nil {
		return err
	}
	return a.fields(map[string]string{"id": c.ID, "providerSessionId": session, "status": "paid"},
		"id", c.ID, "session", session, "status", "done; its events arrive by webhook")
}

// errNoSession says that a checkout has no page yet.
var errNoSession = errors.New("has no page at the provider yet; try again in a moment")

// providerSession finds the provider's session of a checkout or a setup.
func providerSession(a *app, pk *paykit.Client, id string) (string, error) {
	var session string
	if len(id) > 4 && id[:4] == "set_" {
		setup, err := pk.Setup.Get(a.ctx, id)
		if err != nil {
			return "", err
		}
		session = setup.ProviderSessionID
	} else {
		checkout, err := pk.Checkout.Get(a.ctx, id)
		if err != nil {
			return "", err
		}
		session = checkout.ProviderSessionID
	}
	if session == "" {
		return "", fmt.Errorf("%s %w", id, errNoSession)
	}
	return session, nil
}

func (a *app) checkout(c *paykit.Checkout) error {
	failure := ""
	if c.Failure != nil {
		failure = c.Failure.Message
	}
	return a.fields(c,
		"id", c.ID, "status", string(c.Status), "amount", money(c.Amount, c.Currency), "description", c.Description,
		"customerId", c.CustomerID, "chargeId", c.ChargeID, "failure", failure, "url", c.URL, "expires", whenPtr(c.ExpiresAt))
}
