package stripe

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	stripego "github.com/stripe/stripe-go/v76"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
)

// witnessed is what is read of an event that may tell of a call. Request is an object with the key; until 2017-05-25 it
// was the request's id, which says nothing of the key.
type witnessed struct {
	Type    string          `json:"type"`
	Request json.RawMessage `json:"request"`
	Data    struct {
		Object json.RawMessage `json:"object"`
	} `json:"data"`
}

// witness is an object with metadata.
type witness struct {
	ID       string            `json:"id"`
	Object   string            `json:"object"`
	Metadata map[string]string `json:"metadata"`
}

// SawPayment implements [provider.Witnesses]. Stripe lists events for 30 days: https://docs.stripe.com/api/events
func (c *Client) SawPayment(ctx context.Context, s provider.Sought) (string, error) {
	id := ""
	types := []string{
		"payment_intent.created", "payment_intent.requires_action", typePaymentProcessing, typePaymentSucceeded, typePaymentFailed,
		typePaymentCanceled,
	}
	err := c.eachEvent(ctx, s.Since, types, func(e witnessed) bool {
		object := lenient[witness](e.Data.Object)
		if object.Object == "payment_intent" && c.tells(e, object.Metadata, s) {
			id = object.ID
		}
		return id == ""
	})
	return id, err
}

// SawRefund implements [provider.Witnesses]. An event of the charge's, which is all that some versions have of a refund,
// tells that it was made, by the key that led to it.
func (c *Client) SawRefund(ctx context.Context, s provider.Sought) (events.RefundReport, bool, error) {
	var report events.RefundReport
	seen := false
	types := []string{prefixRefund + "created", prefixRefund + "updated", prefixRefund + "failed", typeChargeRefundUpdated, typeChargeRefunded}
	err := c.eachEvent(ctx, s.Since, types, func(e witnessed) bool {
		object := lenient[witness](e.Data.Object)
		if object.Object != "refund" {
			seen = seen || s.Key != "" && e.key() == s.Key
			return true
		}
		if !c.tells(e, object.Metadata, s) {
			return true
		}
		report, seen = lenient[stripeRefund](e.Data.Object).report(), true
		return report.ID == ""
	})
	return report, seen, err
}

// tells says whether an event is about the object of a call: by the object's own metadata, or by the call's key.
func (c *Client) tells(e witnessed, metadata map[string]string, s provider.Sought) bool {
	return c.owns(s.Owner, metadata) || s.Key != "" && e.key() == s.Key
}

func (e witnessed) key() string {
	request := lenient[struct {
		Key string `json:"idempotency_key"`
	}](e.Request)
	return strings.TrimSpace(request.Key)
}

// eachEvent gives the events of some types since a time, the newest first, until more says that it has seen enough.
func (c *Client) eachEvent(ctx context.Context, since time.Time, types []string, more func(e witnessed) bool) error {
	params := &stripego.EventListParams{CreatedRange: createdSince(since), Types: stripego.StringSlice(types)}
	for {
		page, err := c.eventPage(ctx, params)
		if err != nil {
			return err
		}
		last := ""
		for _, body := range page.Data {
			if last, err = eventID(body); err != nil {
				return err
			}
			if !more(lenient[witnessed](body)) {
				return nil
			}
		}
		if !page.HasMore || last == "" {
			return nil
		}
		params.StartingAfter = &last
	}
}
