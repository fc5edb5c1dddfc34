package stripe

import (
	"context"
	"encoding/json"
	"errors"

	stripego "github.com/stripe/stripe-go/v76"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
)

// CreatePayment implements [provider.Payments]. It names the method's type, because with Stripe's automatic ones a
// confirm would ask for a return address.
func (c *Client) CreatePayment(ctx context.Context, key string, r provider.PaymentRequest) (events.Payment, error) {
	const operation = "payment_intents.create"
	if err := needID(operation, "customer", r.CustomerID); err != nil {
		return events.Payment{}, err
	}
	var out paymentIntent
	_, err := c.write(ctx, operation, key, func(p stripego.Params) error {
		made, err := c.api.PaymentIntents.New(&stripego.PaymentIntentParams{
			Params: p, Amount: new(r.Amount), Currency: new(r.Currency),
			Customer: new(r.CustomerID), PaymentMethod: text(r.MethodID),
			PaymentMethodTypes: stripego.StringSlice([]string{"card"}),
			Description:        text(r.Description), Metadata: c.metadata(r.Owner, r.Metadata),
		})
		if err != nil {
			return err
		}
		toldMade(p.Context, made.ID)
		return answered(made.LastResponse, &out)
	})
	if err != nil {
		return events.Payment{}, err
	}
	return out.payment(), nil
}

// ConfirmPayment implements [provider.Payments]. A payment that can't be confirmed as it stands, because it was paid or
// canceled meanwhile, answers as it is; so does one whose confirm was answered long ago, since what Stripe then repeats
// may no longer be true.
func (c *Client) ConfirmPayment(ctx context.Context, key, id string, r provider.ConfirmRequest) (events.Payment, error) {
	const operation = "payment_intents.confirm"
	if err := needID(operation, "payment_intent", id); err != nil {
		return events.Payment{}, err
	}
	var out paymentIntent
	var declined []byte
	w, err := c.write(ctx, operation, key, func(p stripego.Params) error {
		params := &stripego.PaymentIntentConfirmParams{Params: p, PaymentMethod: text(r.MethodID), ReturnURL: text(r.ReturnURL)}
		if r.ReturnURL == "" {
			params.OffSession = new(true)
		}
		params.AddExpand("latest_charge")
		confirmed, err := c.api.PaymentIntents.Confirm(id, params)
		if answer, ok := errors.AsType[*stripego.Error](err); ok && answer.LastResponse != nil {
			declined = answer.LastResponse.RawJSON
		}
		if err != nil {
			return err
		}
		return answered(confirmed.LastResponse, &out)
	})
	failed, ok := errors.AsType[*provider.Error](err)
	switch {
	case err != nil && !ok:
		return events.Payment{}, err
	case ok && failed.Class == provider.Declined && !w.replayed():
		return decline(id, declined, failed), nil
	case ok && failed.Class != provider.Declined && failed.Code != codeUnexpectedState:
		return events.Payment{}, err
	case ok || w.replayed():
		return c.afterConfirm(ctx, id)
	}
	return out.payment(), nil
}

// afterConfirm asks how a payment stands after a confirm that did not say so. What is not answered is in doubt.
func (c *Client) afterConfirm(ctx context.Context, id string) (events.Payment, error) {
	p, err := c.Payment(ctx, id)
	if failed, ok := errors.AsType[*provider.Error](err); ok && failed.Class == provider.Transient {
		failed.Class = provider.InDoubt
	}
	return p, err
}

// decline reads a payment out of the error that a declined confirm is.
func decline(id string, body []byte, failed *provider.Error) events.Payment {
	var answer struct {
		Error struct {
			Charge        ref            `json:"charge"`
			PaymentMethod ref            `json:"payment_method"`
			AdviceCode    string         `json:"advice_code"`
			PaymentIntent *paymentIntent `json:"payment_intent"`
		} `json:"error"`
	}
	p := events.Payment{ID: id}
	if err := json.Unmarshal(body, &answer); err == nil {
		if answer.Error.PaymentIntent != nil {
			p = answer.Error.PaymentIntent.payment()
		}
		p.DoNotRetry = p.DoNotRetry || answer.Error.AdviceCode == adviceDoNotTryAgain
		if answer.Error.Charge.id != "" {
			p.ChargeID = answer.Error.Charge.id
		}
		if p.ProviderMethodID == "" {
			p.ProviderMethodID = answer.Error.PaymentMethod.id
		}
	}
	p.Status = events.PaymentRequiresMethod
	p.Failure = newFailure(failed.Code, failed.DeclineCode)
	return p
}

// Payment implements [provider.Payments].
func (c *Client) Payment(ctx context.Context, id string) (events.Payment, error) {
	const operation = "payment_intents.retrieve"
	if err := needID(operation, "payment_intent", id); err != nil {
		return events.Payment{}, err
	}
	var out paymentIntent
	err := c.read(ctx, operation, func(p stripego.Params) error {
		params := &stripego.PaymentIntentParams{Params: p}
		params.AddExpand("latest_charge") // the sum refunded
		found, err := c.api.PaymentIntents.Get(id, params)
		if err != nil {
			return err
		}
		return answered(found.LastResponse, &out)
	})
	if err != nil {
		return events.Payment{}, err
	}
	return out.payment(), nil
}

// FindPayment implements [provider.Payments]. It lists, because a list shows what was just made and a search does not.
func (c *Client) FindPayment(ctx context.Context, customerID string, owner events.Owner, made provider.Span) (events.Payment, bool, error) {
	const operation = "payment_intents.list"
	if err := needID(operation, "customer", customerID); err != nil {
		return events.Payment{}, false, err
	}
	found := ""
	err := c.read(ctx, operation, func(p stripego.Params) error {
		it := c.api.PaymentIntents.List(&stripego.PaymentIntentListParams{
			ListParams: listParams(p), Customer: new(customerID), CreatedRange: createdIn(made),
		})
		for it.Next() {
			one := it.PaymentIntent()
			if !c.owns(owner, one.Metadata) {
				continue
			}
			found = one.ID // newest first, so the first made stays, unless one took money
			if one.Status == stripego.PaymentIntentStatusSucceeded {
				break
			}
		}
		return it.Err()
	})
	if err != nil || found == "" {
		return events.Payment{}, false, err
	}
	p, err := c.Payment(ctx, found)
	return p, err == nil, err
}

// CancelPayment implements [provider.Payments]. It asks first: Stripe would keep its refusal of a payment that is under
// way for this key, and give it again when the payment could be canceled.
func (c *Client) CancelPayment(ctx context.Context, key, id string, abandoned bool) (events.Payment, error) {
	const operation = "payment_intents.cancel"
	present, err := c.Payment(ctx, id)
	if err != nil || final(present) {
		return present, err
	}
	if present.Status == events.PaymentProcessing {
		return events.Payment{}, &provider.Error{
			Class: provider.Transient, Operation: operation, Code: codeUnexpectedState,
			Err: errors.New("not sent: the payment is under way"),
		}
	}
	reason := stripego.PaymentIntentCancellationReasonRequestedByCustomer
	if abandoned {
		reason = stripego.PaymentIntentCancellationReasonAbandoned
	}
	var out paymentIntent
	_, err = c.write(ctx, operation, key, func(p stripego.Params) error {
		canceled, err := c.api.PaymentIntents.Cancel(id, &stripego.PaymentIntentCancelParams{
			Params: p, CancellationReason: new(string(reason)),
		})
		if err != nil {
			return err
		}
		return answered(canceled.LastResponse, &out)
	})
	failed, ok := errors.AsType[*provider.Error](err)
	switch {
	case err == nil:
		return out.payment(), nil
	case !ok || failed.Code != codeUnexpectedState:
		return events.Payment{}, err
	}
	// It changed between the question and the cancel.
	if present, err = c.Payment(ctx, id); err != nil || final(present) {
		return present, err
	}
	failed.Class = provider.Transient
	return events.Payment{}, failed
}

func final(p events.Payment) bool {
	return p.Status == events.PaymentSucceeded || p.Status == events.PaymentCanceled
}
