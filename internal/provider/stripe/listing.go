package stripe

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	stripego "github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/form"
	"golang.org/x/time/rate"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
)

var _ provider.Listing = (*Client)(nil)

const (
	pageTries    = 6                      // of one page: about 15 s
	pageFirstTry = 500 * time.Millisecond // doubled with each
)

// paceTransport keeps below a number of requests a second, whatever a call is made of.
type paceTransport struct {
	limiter *rate.Limiter
	base    http.RoundTripper
}

func (t paceTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := t.limiter.Wait(r.Context()); err != nil {
		return nil, err //nolint:wrapcheck // of the context
	}
	return t.base.RoundTrip(r)
}

// paced is base, limited if a rate is given.
func paced(base http.RoundTripper, perSecond float64) http.RoundTripper {
	if perSecond <= 0 {
		return base
	}
	return paceTransport{limiter: rate.NewLimiter(rate.Limit(perSecond), 1), base: base}
}

// rawPage is a page of any list, its items as they came.
type rawPage struct {
	stripego.APIResource
	Data    []json.RawMessage `json:"data"`
	HasMore bool              `json:"has_more"`
}

// list reads a whole list by its address. The items are read by our own structs, as answers and deliveries are.
func list[T any](ctx context.Context, c *Client, operation, path string, since time.Time, yield func(T) error) error {
	after := ""
	for {
		page, err := c.page(ctx, operation, path, since, after)
		if err != nil {
			return err
		}
		for _, raw := range page.Data {
			var named struct {
				ID string `json:"id"`
			}
			var item T
			if json.Unmarshal(raw, &named) != nil || named.ID == "" || json.Unmarshal(raw, &item) != nil {
				return &provider.Error{Class: provider.Invalid, Operation: operation, Err: errUnreadable}
			}
			after = named.ID
			if err := yield(item); err != nil {
				return err
			}
		}
		if !page.HasMore || len(page.Data) == 0 {
			return nil
		}
	}
}

// page asks for one page, again for a while if the provider has no answer just now: a long list is not begun anew for it.
func (c *Client) page(ctx context.Context, operation, path string, since time.Time, after string) (rawPage, error) {
	query := &form.Values{}
	query.Add("limit", strconv.Itoa(pageSize))
	if !since.IsZero() {
		query.Add("created[gte]", strconv.FormatInt(max(since.Unix(), 1), 10))
	}
	if after != "" {
		query.Add("starting_after", after)
	}
	wait := pageFirstTry
	for try := 1; ; try++ {
		var page rawPage
		err := c.read(ctx, operation, func(p stripego.Params) error {
			return c.backend.CallRaw(http.MethodGet, path, c.key, query, &p, &page)
		})
		if err == nil || try == pageTries || provider.ClassOf(err) != provider.Transient {
			return page, err
		}
		select {
		case <-ctx.Done():
			return page, err
		case <-time.After(wait + rand.N(wait/2)): //nolint:gosec // G404: spreads retries, keeps no secret
		}
		wait *= 2
	}
}

// Customer implements [provider.Listing].
func (c *Client) Customer(ctx context.Context, id string) (provider.CustomerSeen, error) {
	const operation = "customers.retrieve"
	if err := needID(operation, "customer", id); err != nil {
		return provider.CustomerSeen{}, err
	}
	var out customer
	err := c.read(ctx, operation, func(p stripego.Params) error {
		found, err := c.api.Customers.Get(id, &stripego.CustomerParams{Params: p})
		if err != nil {
			return err
		}
		return answered(found.LastResponse, &out)
	})
	if err != nil {
		return provider.CustomerSeen{}, err
	}
	return out.seen(out.Deleted), nil
}

// ListCustomers implements [provider.Listing].
func (c *Client) ListCustomers(ctx context.Context, since time.Time, yield func(provider.CustomerSeen) error) error {
	return list(ctx, c, "customers.list", "/v1/customers", since, func(one customer) error {
		return yield(one.seen(one.Deleted))
	})
}

// ListMethods implements [provider.Listing].
func (c *Client) ListMethods(ctx context.Context, customerID string, yield func(events.Method) error) error {
	const operation = "customers.list_payment_methods"
	if err := needID(operation, "customer", customerID); err != nil {
		return err
	}
	path := stripego.FormatURLPath("/v1/customers/%s/payment_methods", customerID)
	return list(ctx, c, operation, path, time.Time{}, func(m paymentMethod) error { return yield(m.method()) })
}

// ListPayments implements [provider.Listing].
func (c *Client) ListPayments(ctx context.Context, since time.Time, yield func(events.Payment) error) error {
	return list(ctx, c, "payment_intents.list", "/v1/payment_intents", since, func(p paymentIntent) error {
		return yield(p.payment())
	})
}

// ListRefunds implements [provider.Listing].
func (c *Client) ListRefunds(ctx context.Context, since time.Time, yield func(events.RefundReport) error) error {
	return list(ctx, c, "refunds.list", "/v1/refunds", since, func(r stripeRefund) error { return yield(r.report()) })
}

// ListDisputes implements [provider.Listing].
func (c *Client) ListDisputes(ctx context.Context, since time.Time, yield func(events.DisputeReport) error) error {
	return list(ctx, c, "disputes.list", "/v1/disputes", since, func(d dispute) error { return yield(d.report()) })
}

// ListFraudWarnings lists early fraud warnings, those of which nothing is left to be done included.
func (c *Client) ListFraudWarnings(ctx context.Context, since time.Time, yield func(events.FraudWarningReport) error) error {
	return list(ctx, c, "early_fraud_warnings.list", "/v1/radar/early_fraud_warnings", since, func(f fraudWarning) error {
		return yield(f.report())
	})
}
