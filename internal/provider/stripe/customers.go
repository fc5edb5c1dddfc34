package stripe

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	stripego "github.com/stripe/stripe-go/v76"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
)

// CreateCustomer implements [provider.Customers].
func (c *Client) CreateCustomer(ctx context.Context, key string, owner events.Owner) (string, error) {
	var made *stripego.Customer
	_, err := c.write(ctx, "customers.create", key, func(p stripego.Params) (err error) {
		if made, err = c.api.Customers.New(&stripego.CustomerParams{Params: p, Metadata: c.metadata(owner, nil)}); err == nil {
			toldMade(p.Context, made.ID)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	return made.ID, nil
}

// FindCustomer implements [provider.Customers]. Of several, which only a key older than Stripe's memory could lead to,
// it is the first made.
func (c *Client) FindCustomer(ctx context.Context, owner events.Owner, made provider.Span) (string, error) {
	found := ""
	err := c.read(ctx, "customers.list", func(p stripego.Params) error {
		it := c.api.Customers.List(&stripego.CustomerListParams{ListParams: listParams(p), CreatedRange: createdIn(made)})
		for it.Next() {
			if one := it.Customer(); !one.Deleted && c.owns(owner, one.Metadata) {
				found = one.ID // newest first, so the last one stays
			}
		}
		return it.Err()
	})
	if err != nil {
		return "", err
	}
	return found, nil
}

// CustomersMade implements [provider.Customers].
func (c *Client) CustomersMade(ctx context.Context, made provider.Span, most int) (ids map[string]string, complete bool, err error) {
	ids, complete = map[string]string{}, true
	err = c.read(ctx, "customers.list", func(p stripego.Params) error {
		it := c.api.Customers.List(&stripego.CustomerListParams{ListParams: listParams(p), CreatedRange: createdIn(made)})
		for it.Next() {
			one := it.Customer()
			owner := events.OwnerOf(one.Metadata)
			if one.Deleted || owner.Customer == "" || owner.Env != c.env {
				continue
			}
			ids[owner.Customer] = one.ID // newest first, so the last one stays
			if len(ids) > most {
				complete = false
				return nil
			}
		}
		return it.Err()
	})
	if err != nil {
		return nil, false, err
	}
	return ids, complete, nil
}

// UpdateCustomer implements [provider.Customers].
func (c *Client) UpdateCustomer(ctx context.Context, key, id string, r provider.Profile) error {
	const operation = "customers.update"
	if err := needID(operation, "customer", id); err != nil {
		return err
	}
	present, err := c.presentMetadata(ctx, id)
	if err != nil {
		return err
	}
	metadata := c.metadata(r.Owner, r.Metadata)
	var gone []string
	for _, k := range sortedKeys(present) {
		if _, kept := metadata[k]; !kept && !strings.HasPrefix(k, events.ReservedMetadata) {
			metadata[k] = "" // unsets it
			gone = append(gone, k)
		}
	}
	if len(gone) > 0 {
		// What is to be unset depends on what is there, so a second try may send other parameters than the first. Stripe
		// refuses those under one key; under a key of their own they set the same state again.
		sum := sha256.Sum256([]byte(strings.Join(gone, "\n")))
		key += ":" + hex.EncodeToString(sum[:8])
	}
	_, err = c.write(ctx, operation, key, func(p stripego.Params) error {
		_, err := c.api.Customers.Update(id, &stripego.CustomerParams{
			Params: p, Email: new(r.Email), Name: new(r.Name), Metadata: metadata,
		})
		return err
	})
	return err
}

// presentMetadata asks for a customer's metadata. A deleted customer is answered with 200 and has none.
func (c *Client) presentMetadata(ctx context.Context, id string) (map[string]string, error) {
	var present *stripego.Customer
	err := c.read(ctx, "customers.retrieve", func(p stripego.Params) (err error) {
		present, err = c.api.Customers.Get(id, &stripego.CustomerParams{Params: p})
		return err
	})
	if err != nil {
		return nil, err
	}
	return present.Metadata, nil
}

// SetDefaultMethod implements [provider.Customers]. It is a mirror for those who look at Stripe's pages: every charge
// names its method.
func (c *Client) SetDefaultMethod(ctx context.Context, key, id, methodID string) error {
	const operation = "customers.update"
	if err := needID(operation, "customer", id); err != nil {
		return err
	}
	_, err := c.write(ctx, operation, key, func(p stripego.Params) error {
		_, err := c.api.Customers.Update(id, &stripego.CustomerParams{
			Params: p, InvoiceSettings: &stripego.CustomerInvoiceSettingsParams{DefaultPaymentMethod: new(methodID)},
		})
		return err
	})
	return err
}

// DeleteCustomer implements [provider.Customers].
func (c *Client) DeleteCustomer(ctx context.Context, key, id string) error {
	const operation = "customers.delete"
	if err := needID(operation, "customer", id); err != nil {
		return err
	}
	_, err := c.write(ctx, operation, key, func(p stripego.Params) error {
		_, err := c.api.Customers.Del(id, &stripego.CustomerParams{Params: p})
		return err
	})
	if provider.NoCustomer(err) {
		return nil
	}
	return err
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
