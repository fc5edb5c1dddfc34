package stripe

import (
	"context"
	"errors"

	stripego "github.com/stripe/stripe-go/v76"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
)

// DetachMethod implements [provider.Methods]. Stripe refuses to detach what is attached to nobody, without a code of
// its own; so after a refusal it is asked how the method stands.
func (c *Client) DetachMethod(ctx context.Context, key, id string) error {
	const operation = "payment_methods.detach"
	if err := needID(operation, "payment_method", id); err != nil {
		return err
	}
	_, err := c.write(ctx, operation, key, func(p stripego.Params) error {
		_, err := c.api.PaymentMethods.Detach(id, &stripego.PaymentMethodDetachParams{Params: p})
		return err
	})
	failed, ok := errors.AsType[*provider.Error](err)
	if !ok || failed.Class != provider.Invalid || failed.NotFound {
		return err
	}
	present, asked := c.Method(ctx, id)
	switch {
	case asked != nil:
		return asked // the refusal may mean just that it is detached: to be tried again
	case !present.Attached:
		return nil
	}
	return err
}

// Method implements [provider.Methods].
func (c *Client) Method(ctx context.Context, id string) (events.Method, error) {
	const operation = "payment_methods.retrieve"
	if err := needID(operation, "payment_method", id); err != nil {
		return events.Method{}, err
	}
	var out paymentMethod
	err := c.read(ctx, operation, func(p stripego.Params) error {
		found, err := c.api.PaymentMethods.Get(id, &stripego.PaymentMethodParams{Params: p})
		if err != nil {
			return err
		}
		return answered(found.LastResponse, &out)
	})
	if err != nil {
		return events.Method{}, err
	}
	return out.method(), nil
}
