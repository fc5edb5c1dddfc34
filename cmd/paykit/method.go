package main

import (
	"fmt"

	"github.com/paykit-go/paykit"
)

type methodCmd struct {
	Attach     methodAttach     `cmd:"" help:"Open a hosted page that saves a method."`
	List       methodList       `cmd:"" help:"List a customer's methods, the default first."`
	Get        methodGet        `cmd:"" help:"Show a method."`
	SetDefault methodSetDefault `cmd:"" help:"Make a method the customer's default."`
	Detach     methodDetach     `cmd:"" help:"Take a method off its customer, for good."`
}

type methodAttach struct {
	keyed
	Provider  string `default:"stripe" help:"Provider."`
	Customer  string `required:"" help:"Customer: cust_… or your own id."`
	ReturnURL string `name:"return-url" required:"" help:"Where the buyer goes afterwards."`
}

func (methodAttach) Help() string {
	return `Prints the page's url: send the buyer there. The method appears when the provider reports it.

  paykit method attach --customer user_123 --return-url https://app.example.com/settings`
}

func (c methodAttach) Run(a *app) error {
	pk, err := a.client()
	if err != nil {
		return err
	}
	defer pk.Close()
	id, err := a.customerID(pk, c.Customer)
	if err != nil {
		return err
	}
	setup, err := pk.PaymentMethod.Attach(a.ctx, paykit.PaymentMethodAttach{
		ProviderID: c.Provider, CustomerID: id, ReturnURL: c.ReturnURL,
	}, c.options()...)
	if err != nil {
		return err
	}
	return a.fields(setup, "id", setup.ID, "status", string(setup.Status), "customerId", setup.CustomerID,
		"url", setup.URL, "expires", whenPtr(setup.ExpiresAt))
}

type methodList struct {
	page
	past
	Provider string `help:"Only this provider's."`
	Customer string `required:"" help:"Customer: cust_… or your own id."`
}

func (c methodList) Run(a *app) error {
	pk, err := a.client()
	if err != nil {
		return err
	}
	defer pk.Close()
	id, err := a.customerID(pk, c.Customer)
	if err != nil {
		return err
	}
	list, err := pk.PaymentMethod.List(a.ctx, paykit.PaymentMethodList{ProviderID: c.Provider, CustomerID: id, Page: c.page.page()}, c.options()...)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, m := range list.Items {
		isDefault := ""
		if m.IsDefault {
			isDefault = "default"
		}
		rows = append(rows, []string{
			m.ID, m.Type, m.Brand + " …" + m.Last4, fmt.Sprintf("%02d/%d", m.ExpiryMonth, m.ExpiryYear), isDefault, when(m.CreatedAt),
		})
	}
	defer a.more(list.NextCursor)
	return a.show(list, []string{"ID", "TYPE", "CARD", "EXPIRES", "", "SAVED"}, rows...)
}

type methodGet struct {
	past
	Method string `arg:"" help:"Method: meth_…"`
}

func (methodGet) Help() string {
	return `  paykit method get meth_…
  paykit method get meth_… --at 2026-11-22     as it was when that day began`
}

func (c methodGet) Run(a *app) error {
	pk, err := a.client()
	if err != nil {
		return err
	}
	defer pk.Close()
	m, err := pk.PaymentMethod.Get(a.ctx, c.Method, c.options()...)
	if err != nil {
		return err
	}
	return a.method(m)
}

// methodRef are the flags of commands about one method.
type methodRef struct {
	Provider string `default:"stripe" help:"Provider."`
	Customer string `required:"" help:"Customer: cust_… or your own id."`
	Method   string `arg:"" help:"Method: meth_…"`
}

func (c methodRef) ref(a *app, pk *paykit.Client) (paykit.PaymentMethodRef, error) {
	id, err := a.customerID(pk, c.Customer)
	return paykit.PaymentMethodRef{ProviderID: c.Provider, CustomerID: id, PaymentMethodID: c.Method}, err
}

type methodSetDefault struct{ methodRef }

func (c methodSetDefault) Run(a *app) error {
	pk, err := a.client()
	if err != nil {
		return err
	}
	defer pk.Close()
	ref, err := c.ref(a, pk)
	if err != nil {
		return err
	}
	m, err := pk.PaymentMethod.SetDefault(a.ctx, ref)
	if err != nil {
		return err
	}
	return a.method(m)
}

type methodDetach struct{ methodRef }

func (c methodDetach) Run(a *app) error {
	pk, err := a.client()
	if err != nil {
		return err
	}
	defer pk.Close()
	ref, err := c.ref(a, pk)
	if err != nil {
		return err
	}
	m, err := pk.PaymentMethod.Detach(a.ctx, ref)
	if err != nil {
		return err
	}
	return a.method(m)
}

func (a *app) method(m *paykit.PaymentMethod) error {
	return a.fields(m, "id", m.ID, "card", m.Brand+" …"+m.Last4, "default since", whenPtr(m.DefaultAt),
		"default requested", whenPtr(m.DefaultRequestedAt), "detach requested", whenPtr(m.DetachRequestedAt), "detached", whenPtr(m.DetachedAt))
}
