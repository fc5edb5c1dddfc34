package stripe

import (
	"context"
	"encoding/json"
	"errors"
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

// witnessPages bounds what is read of the events for one question, 2,000 of the newest: a busy account has as many within
// minutes, and each question would read all that came since its call.
const witnessPages = 20

// SawPayment implements [provider.Witnesses]. What is further back than it reads counts as nothing: a list shows what was
// just made, and a payment that nobody knows of was not confirmed, so it takes no money. Stripe lists events for 30 days: https://docs.stripe.com/api/events
func (c *Client) SawPayment(ctx context.Context, s provider.Sought) (string, error) {
	id := ""
	types := []string{
		"payment_intent.created", "payment_intent.requires_action", typePaymentProcessing, typePaymentSucceeded, typePaymentFailed,
		typePaymentCanceled,
	}
	_, err := c.eachEvent(ctx, s.Since, types, func(e witnessed) bool {
		object := lenient[witness](e.Data.Object)
		if object.Object == "payment_intent" && c.tells(e, object.Metadata, s) {
			id = object.ID
		}
		return id == ""
	})
	return id, err
}

// SawRefund implements [provider.Witnesses]. An event of the charge's, which is all that some versions have of a refund,
// tells that it was made, by the key that led to it. What is further back than it reads is not known, and that is no
// answer: a refund that is made a second time gives the money back twice.
func (c *Client) SawRefund(ctx context.Context, s provider.Sought) (events.RefundReport, bool, error) {
	var report events.RefundReport
	seen := false
	types := []string{prefixRefund + "created", prefixRefund + "updated", prefixRefund + "failed", typeChargeRefundUpdated, typeChargeRefunded}
	all, err := c.eachEvent(ctx, s.Since, types, func(e witnessed) bool {
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
	if err == nil && !all && !seen {
		err = &provider.Error{
			Class: provider.Transient, Operation: operationEvents, Code: "events_too_many", RetryAfter: tooManyEvents,
			Err: errors.New("the events since the call are more than are read"),
		}
	}
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

// tooManyEvents is when the same question is asked again: there will not be fewer, but the list of refunds may show it.
const tooManyEvents = 30 * time.Minute

// eachEvent gives the events of some types since a time, the newest first, until more says that it has seen enough. all
// is false if there are more than are read.
func (c *Client) eachEvent(ctx context.Context, since time.Time, types []string, more func(e witnessed) bool) (all bool, err error) {
	params := &stripego.EventListParams{CreatedRange: createdIn(provider.Span{Since: since}), Types: stripego.StringSlice(types)}
	for range witnessPages {
		page, err := c.eventPage(ctx, params)
		if err != nil {
			return false, err
		}
		last := ""
		for _, body := range page.Data {
			if last, err = eventID(body); err != nil {
				return false, err
			}
			if !more(lenient[witnessed](body)) {
				return true, nil
			}
		}
		if !page.HasMore || last == "" {
			return true, nil
		}
		params.StartingAfter = &last
	}
	return false, nil
}
