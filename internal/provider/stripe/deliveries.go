package stripe

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	stripego "github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/form"

	"github.com/paykit-go/paykit/internal/provider"
)

const operationEvents = "events.list"

// eventPage is a page of Stripe's event list, its events left as they are: stripe-go's own type can't read every
// version's, and what is stored is the body.
type eventPage struct {
	stripego.APIResource
	Data    []json.RawMessage `json:"data"`
	HasMore bool              `json:"has_more"`
}

// ListDeliveries implements [provider.Deliveries]. Stripe's list begins with the newest, and reaches back 30 days: it is
// read down to the oldest, of which only the id is kept, and from there up again, a page at a time.
func (c *Client) ListDeliveries(ctx context.Context, since time.Time, yield func(body []byte) error) error {
	params := eventsSince(since.Unix())
	page, err := c.eventPage(ctx, params)
	newer := false // there is a page of newer ones
	for err == nil && page.HasMore && len(page.Data) > 0 {
		last := ""
		if last, err = eventID(page.Data[len(page.Data)-1]); err != nil {
			break
		}
		params.StartingAfter = &last
		var older eventPage
		if older, err = c.eventPage(ctx, params); len(older.Data) == 0 {
			break // what was there has left the list meanwhile
		}
		page, newer = older, true
	}
	params.StartingAfter = nil
	for err == nil && len(page.Data) > 0 {
		for _, body := range slices.Backward(page.Data) {
			if err := yield(body); err != nil {
				return err
			}
		}
		if !newer {
			return nil
		}
		newest := ""
		if newest, err = eventID(page.Data[0]); err == nil {
			params.EndingBefore = &newest
			page, err = c.eventPage(ctx, params)
			newer = page.HasMore
		}
	}
	return err
}

func eventsSince(unix int64) *stripego.EventListParams {
	return &stripego.EventListParams{CreatedRange: &stripego.RangeQueryParams{GreaterThanOrEqual: max(unix, 1)}}
}

func (c *Client) eventPage(ctx context.Context, params *stripego.EventListParams) (eventPage, error) {
	var page eventPage
	err := c.read(ctx, operationEvents, func(p stripego.Params) error {
		sent := *params
		paging := listParams(p)
		paging.StartingAfter, paging.EndingBefore = params.StartingAfter, params.EndingBefore
		sent.ListParams = paging
		// As stripe-go's own lists do: Call itself panics on parameters that have no metadata.
		query := &form.Values{}
		form.AppendTo(query, &sent)
		return c.backend.CallRaw(http.MethodGet, "/v1/events", c.key, query, sent.GetParams(), &page)
	})
	return page, err
}

func eventID(body json.RawMessage) (string, error) {
	e, ok := parse(body)
	if !ok {
		return "", &provider.Error{Class: provider.Transient, Operation: operationEvents, Err: errUnreadable}
	}
	return e.ID, nil
}
