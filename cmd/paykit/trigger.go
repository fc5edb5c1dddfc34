package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/paykit-go/paykit"
	"github.com/paykit-go/paykit/internal/events"
)

// sandboxAt says where the sandbox is.
type sandboxAt struct {
	Sandbox string `env:"PAYKIT_SANDBOX_URL" default:"http://127.0.0.1:8421" help:"The sandbox's address (${env})."`
}

// complete pays a hosted page with a test card, as the page's form does.
func (s sandboxAt) complete(ctx context.Context, session, card string) error {
	return s.post(ctx, "/_sandbox/checkout/"+session+"/complete", map[string]string{"card": card})
}

// disputed opens a dispute of a payment and ends it.
func (s sandboxAt) disputed(ctx context.Context, payment, end string) error {
	var dispute struct {
		ID string `json:"id"`
	}
	if err := s.call(ctx, "/_sandbox/disputes", map[string]string{"payment": payment}, &dispute); err != nil {
		return err
	}
	return s.post(ctx, "/_sandbox/disputes/"+dispute.ID, map[string]string{"status": end})
}

func (s sandboxAt) post(ctx context.Context, path string, in any) error {
	return s.call(ctx, path, in, nil)
}

// call makes one control call; into may be nil.
func (s sandboxAt) call(ctx context.Context, path string, in, into any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(s.Sandbox, "/")+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	client := http.Client{Timeout: 15 * time.Second}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("sandbox at %s: %w (set --sandbox)", s.Sandbox, err)
	}
	defer res.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if res.StatusCode/100 == 2 {
		if into == nil {
			return nil
		}
		if err := json.Unmarshal(answer, into); err != nil {
			return fmt.Errorf("sandbox: %w", err)
		}
		return nil
	}
	var refusal struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(answer, &refusal) == nil && refusal.Error.Message != "" {
		return fmt.Errorf("sandbox: %s (status %d)", refusal.Error.Message, res.StatusCode)
	}
	return fmt.Errorf("sandbox: status %d", res.StatusCode)
}

type triggerCmd struct {
	sandboxAt
	Event   string        `arg:"" help:"An event, as charge.succeeded; --list shows which." optional:""`
	List    bool          `help:"List the events that can be triggered."`
	Timeout time.Duration `default:"30s" help:"How long to wait for the event."`
}

func (triggerCmd) Help() string {
	return `Makes a customer of its own and whatever else the event needs (a saved card, a paid checkout, …), through PayKit and the
sandbox, and waits until the event is stored:

  paykit trigger charge.succeeded`
}

// The test cards that make the rarer events happen.
const (
	cardGood       = "4242424242424242"
	cardFailsLater = "4000000000000341"
	cardNeedsAuth  = "4000002760003184"
	cardDispute    = "4000000000000259"
	cardFraud      = "4000000000005423"
	cardNoRefund   = "4000000000005126"

	triggerURL = "https://example.com/paykit-trigger"
)

// scene is what a recipe builds on.
type scene struct {
	a        *app
	pk       *paykit.Client
	at       sandboxAt
	customer *paykit.Customer
	method   string

	providerMethod string // the provider's id of method
}

// recipe makes an event happen and names the entity whose event it is.
type recipe func(ctx context.Context, s *scene) (entityID string, err error)

func recipes() map[events.Type]recipe {
	charge := func(card, returnURL string, then func(context.Context, *scene, *paykit.Charge) error) recipe {
		return func(ctx context.Context, s *scene) (string, error) {
			if err := s.save(ctx, card); err != nil {
				return "", err
			}
			c, err := s.pk.Charge.Create(ctx, paykit.ChargeCreate{
				CustomerID: s.customer.ID, PaymentMethodID: s.method, Amount: 1900, Description: "paykit trigger", ReturnURL: returnURL,
			}, paykit.WithWait(15*time.Second))
			if err != nil {
				return "", err
			}
			if then != nil {
				err = then(ctx, s, c)
			}
			return c.ID, err
		}
	}
	checkout := func(then func(context.Context, *scene, *paykit.Checkout) error) recipe {
		return func(ctx context.Context, s *scene) (string, error) {
			c, err := s.checkout(ctx)
			if err != nil {
				return "", err
			}
			return c.ID, then(ctx, s, c)
		}
	}
	saved := func(then func(context.Context, *scene, paykit.PaymentMethodRef) error) recipe {
		return func(ctx context.Context, s *scene) (string, error) {
			if err := s.save(ctx, cardGood); err != nil {
				return "", err
			}
			return s.method, then(ctx, s, paykit.PaymentMethodRef{CustomerID: s.customer.ID, PaymentMethodID: s.method})
		}
	}
	onCustomer := func(then func(context.Context, *scene) error) recipe {
		return func(ctx context.Context, s *scene) (string, error) { return s.customer.ID, then(ctx, s) }
	}
	return map[events.Type]recipe{
		events.CustomerCreated: onCustomer(func(context.Context, *scene) error { return nil }),
		events.CustomerUpdated: onCustomer(func(ctx context.Context, s *scene) error {
			_, err := s.pk.Customer.Sync(ctx, paykit.CustomerSync{ReferenceID: s.customer.ReferenceID, Name: "Trigger Updated"})
			return err
		}),
		events.CustomerDeleted: onCustomer(func(ctx context.Context, s *scene) error {
			_, err := s.pk.Customer.Delete(ctx, s.customer.ID)
			return err
		}),
		events.CheckoutCreated: checkout(func(context.Context, *scene, *paykit.Checkout) error { return nil }),
		events.CheckoutCompleted: checkout(func(ctx context.Context, s *scene, c *paykit.Checkout) error {
			return s.at.complete(ctx, c.ProviderSessionID, cardGood)
		}),
		events.CheckoutFailed: checkout(func(ctx context.Context, s *scene, c *paykit.Checkout) error {
			return s.at.post(ctx, "/_sandbox/checkout/"+c.ProviderSessionID+"/complete", map[string]string{"method": "delayed_failure"})
		}),
		events.CheckoutExpired: checkout(func(ctx context.Context, s *scene, c *paykit.Checkout) error {
			_, err := s.pk.Checkout.Expire(ctx, c.ID)
			return err
		}),
		events.PaymentMethodAttached: saved(func(context.Context, *scene, paykit.PaymentMethodRef) error { return nil }),
		events.PaymentMethodUpdated: saved(func(ctx context.Context, s *scene, _ paykit.PaymentMethodRef) error {
			return s.at.post(ctx, "/_sandbox/payment_methods/"+s.providerMethod+"/update", map[string]int{"exp_year": 2050})
		}),
		events.PaymentMethodDefaultSet: saved(func(ctx context.Context, s *scene, ref paykit.PaymentMethodRef) error {
			_, err := s.pk.PaymentMethod.SetDefault(ctx, ref)
			return err
		}),
		events.PaymentMethodDetached: saved(func(ctx context.Context, s *scene, ref paykit.PaymentMethodRef) error {
			_, err := s.pk.PaymentMethod.Detach(ctx, ref)
			return err
		}),
		events.ChargeSucceeded:      charge(cardGood, "", nil),
		events.ChargeFailed:         charge(cardFailsLater, "", nil),
		events.ChargeRequiresAction: charge(cardNeedsAuth, triggerURL, nil),
		events.ChargeCanceled: charge(cardNeedsAuth, triggerURL, func(ctx context.Context, s *scene, c *paykit.Charge) error {
			_, err := s.pk.Charge.Cancel(ctx, c.ID)
			return err
		}),
		events.ChargeRefunded: charge(cardGood, "", func(ctx context.Context, s *scene, c *paykit.Charge) error {
			_, err := s.pk.Charge.Refund(ctx, paykit.ChargeRefund{ChargeID: c.ID})
			return err
		}),
		events.ChargeRefundFailed: charge(cardNoRefund, "", func(ctx context.Context, s *scene, c *paykit.Charge) error {
			_, err := s.pk.Charge.Refund(ctx, paykit.ChargeRefund{ChargeID: c.ID})
			return err
		}),
		events.ChargeDisputed: charge(cardDispute, "", nil),
		events.ChargeDisputeClosed: charge(cardGood, "", func(ctx context.Context, s *scene, c *paykit.Charge) error {
			return s.at.disputed(ctx, c.ProviderPaymentID, "won")
		}),
		events.ChargeFraudWarned: charge(cardFraud, "", nil),
	}
}

// errNoRecipe says that an event can't be triggered.
var errNoRecipe = errors.New("can't be triggered")

func (c triggerCmd) Run(a *app) error {
	all := recipes()
	names := slices.Sorted(maps.Keys(all))
	if c.List || c.Event == "" {
		var rows [][]string
		for _, name := range names {
			rows = append(rows, []string{string(name)})
		}
		return a.show(names, []string{"EVENT"}, rows...)
	}
	do := all[events.Type(c.Event)]
	if do == nil {
		return fmt.Errorf("%s %w; these can: %v", c.Event, errNoRecipe, names)
	}
	pk, err := a.client()
	if err != nil {
		return err
	}
	defer pk.Close()
	ctx, cancel := context.WithTimeout(a.ctx, c.Timeout)
	defer cancel()
	s := &scene{a: a, pk: pk, at: c.sandboxAt}
	reference := "trigger_" + strings.ToLower(ulid.Make().String())
	if s.customer, err = pk.Customer.Sync(ctx, paykit.CustomerSync{ReferenceID: reference, Email: reference + "@example.com", Name: "Trigger"}); err != nil {
		return err
	}
	id, err := do(ctx, s)
	if err != nil {
		return err
	}
	e, err := s.await(ctx, events.Type(c.Event), id)
	if err != nil {
		return err
	}
	return a.eventTable(e, []paykit.Event{*e})
}

func (s *scene) checkout(ctx context.Context) (*paykit.Checkout, error) {
	c, err := s.pk.Checkout.Create(ctx, paykit.CheckoutCreate{
		CustomerID: s.customer.ID, Amount: 4900, Description: "paykit trigger", SuccessURL: triggerURL, AttachMethod: true,
	}, paykit.WithWait(15*time.Second))
	if err == nil && c.ProviderSessionID == "" {
		return nil, fmt.Errorf("%s %w", c.ID, errNoSession)
	}
	return c, err
}

// save saves a card through a hosted setup page and waits for the method.
func (s *scene) save(ctx context.Context, card string) error {
	setup, err := s.pk.PaymentMethod.Attach(ctx, paykit.PaymentMethodAttach{CustomerID: s.customer.ID, ReturnURL: triggerURL}, paykit.WithWait(15*time.Second))
	if err != nil {
		return err
	}
	if setup.ProviderSessionID == "" {
		return fmt.Errorf("%s %w", setup.ID, errNoSession)
	}
	if err := s.at.complete(ctx, setup.ProviderSessionID, card); err != nil {
		return err
	}
	for {
		list, err := s.pk.PaymentMethod.List(ctx, paykit.PaymentMethodList{CustomerID: s.customer.ID})
		if err != nil {
			return err
		}
		if len(list.Items) > 0 {
			s.method, s.providerMethod = list.Items[0].ID, list.Items[0].ProviderMethodID
			return nil
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("the saved card did not arrive: %w", err)
		}
	}
}

// await waits until the entity has the event.
func (s *scene) await(ctx context.Context, typ events.Type, entityID string) (*paykit.Event, error) {
	for {
		list, err := s.pk.Event.List(ctx, paykit.EventList{EntityID: entityID, Page: paykit.Page{Limit: 100}})
		if err != nil {
			return nil, err
		}
		for _, e := range list.Items {
			if e.Type == typ {
				return &e, nil
			}
		}
		if err := pause(ctx); err != nil {
			return nil, fmt.Errorf("%s of %s did not arrive: %w", typ, entityID, err)
		}
	}
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err() //nolint:wrapcheck // the caller says what it waited for
	case <-time.After(100 * time.Millisecond):
		return nil
	}
}
