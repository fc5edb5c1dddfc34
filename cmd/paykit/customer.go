package main

import (
	"strings"

	"github.com/paykit-go/paykit"
)

type customerCmd struct {
	Sync   customerSync   `cmd:"" help:"Store a customer: made on first sight, changed where something differs."`
	Get    customerGet    `cmd:"" help:"Show a customer."`
	List   customerList   `cmd:"" help:"List customers, newest first."`
	Delete customerDelete `cmd:"" help:"Delete a customer and erase its personal data, here and at the provider."`
}

type customerSync struct {
	ReferenceID string            `arg:"" help:"Your own id of the customer."`
	Email       string            `help:"E-mail address."`
	Name        string            `help:"Name."`
	Metadata    map[string]string `help:"key=value pairs; replaces all there are."`
	Remove      []string          `enum:"email,name,metadata" help:"Fields to empty: email, name, metadata."`
}

func (customerSync) Help() string {
	return `Doing it again changes what differs; nothing changed means no event. What is left out keeps its value.

  paykit customer sync user_123 --email jane@example.com --name "Jane Doe" --metadata plan=pro
  paykit customer sync user_123 --remove email`
}

func (c customerSync) Run(a *app) error {
	pk, err := a.client()
	if err != nil {
		return err
	}
	defer pk.Close()
	customer, err := pk.Customer.Sync(a.ctx, paykit.CustomerSync{
		ReferenceID: c.ReferenceID, Email: c.Email, Name: c.Name, Metadata: c.Metadata, Remove: c.Remove,
	})
	if err != nil {
		return err
	}
	return a.customer(customer)
}

type customerGet struct {
	past
	Customer string `arg:"" help:"Customer: cust_… or your own id."`
}

func (customerGet) Help() string {
	return `  paykit customer get user_123
  paykit customer get user_123 --at -2h     as it was two hours ago`
}

func (c customerGet) Run(a *app) error {
	pk, err := a.client()
	if err != nil {
		return err
	}
	defer pk.Close()
	get := pk.Customer.GetByReference
	if strings.HasPrefix(c.Customer, "cust_") {
		get = pk.Customer.Get
	}
	customer, err := get(a.ctx, c.Customer, c.options()...)
	if err != nil {
		return err
	}
	return a.customer(customer)
}

type page struct {
	Limit  int    `default:"20" help:"How many, at most 100."`
	Cursor string `help:"Where the page before ended."`
}

func (p page) page() paykit.Page { return paykit.Page{Limit: p.Limit, Cursor: p.Cursor} }

type customerList struct {
	page
	past
}

func (c customerList) Run(a *app) error {
	pk, err := a.client()
	if err != nil {
		return err
	}
	defer pk.Close()
	list, err := pk.Customer.List(a.ctx, c.page.page(), c.options()...)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, one := range list.Items {
		rows = append(rows, []string{one.ID, one.ReferenceID, text(one.Email), text(one.Name), when(one.CreatedAt)})
	}
	defer a.more(list.NextCursor)
	return a.show(list, []string{"ID", "REFERENCE", "EMAIL", "NAME", "CREATED"}, rows...)
}

func (a *app) customer(c *paykit.Customer) error {
	var accounts []string
	for _, account := range c.ProviderAccounts {
		accounts = append(accounts, account.ProviderID+" "+account.ProviderCustomerID)
	}
	return a.fields(c,
		"id", c.ID, "referenceId", c.ReferenceID, "email", text(c.Email), "name", text(c.Name),
		"accounts", strings.Join(accounts, ", "), "created", when(c.CreatedAt), "deleted", whenPtr(c.DeletedAt))
}
