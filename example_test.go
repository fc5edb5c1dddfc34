package paykit_test

import (
	"context"
	"errors"
	"fmt"
	"log" //nolint:depguard // what an app's own example looks like
	"strings"
	"time"

	"github.com/paykit-go/paykit"
)

// Step 1: store a customer under the app's own id. Doing it again changes what differs.
func ExampleCustomerService_Sync() {
	ctx := context.Background()
	pk, err := paykit.Connect(ctx, at.NATS)
	if err != nil {
		log.Fatal(err)
	}
	defer pk.Close()
	customer, err := pk.Customer.Sync(ctx, paykit.CustomerSync{
		ReferenceID: "user_sync",
		Email:       "jane@example.com",
		Name:        "Jane Doe",
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(customer.ReferenceID, *customer.Email)
	// Output: user_sync jane@example.com
}

// Step 2: open a hosted checkout and send the buyer to its URL. The idempotency key is the app's order number.
func ExampleCheckoutService_Create() {
	ctx := context.Background()
	pk, err := paykit.Connect(ctx, at.NATS)
	if err != nil {
		log.Fatal(err)
	}
	defer pk.Close()
	customer, err := pk.Customer.Sync(ctx, paykit.CustomerSync{ReferenceID: "user_checkout"})
	if err != nil {
		log.Fatal(err)
	}
	checkout, err := pk.Checkout.Create(ctx, paykit.CheckoutCreate{
		CustomerID:   customer.ID,
		Amount:       4900,
		Description:  "Starter plan",
		SuccessURL:   "https://app.example.com/billing/success",
		CancelURL:    "https://app.example.com/billing/cancel",
		AttachMethod: true,
	}, paykit.WithIdempotencyKey("order-1"), paykit.WithWait(20*time.Second))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(checkout.Status, strings.HasPrefix(checkout.URL, "http"))
	// Output: created true
}

// Step 3: save a method without taking money.
func ExamplePaymentMethodService_Attach() {
	ctx := context.Background()
	pk, err := paykit.Connect(ctx, at.NATS)
	if err != nil {
		log.Fatal(err)
	}
	defer pk.Close()
	customer, err := pk.Customer.Sync(ctx, paykit.CustomerSync{ReferenceID: "user_attach"})
	if err != nil {
		log.Fatal(err)
	}
	setup, err := pk.PaymentMethod.Attach(ctx, paykit.PaymentMethodAttach{
		CustomerID: customer.ID,
		ReturnURL:  "https://app.example.com/settings/billing",
	}, paykit.WithWait(20*time.Second))
	if err != nil {
		log.Fatal(err)
	}
	// Redirect the buyer to setup.URL; here the sandbox plays the buyer.
	if err := buyerPays(ctx, setup.ProviderSessionID); err != nil {
		log.Fatal(err)
	}
	method, err := firstMethod(ctx, pk, customer.ID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(method.Brand, method.Last4, method.IsDefault)
	// Output: visa 4242 true
}

// Step 4: charge a saved method later. Under one key a charge happens once, whatever crashes.
func ExampleChargeService_Create() {
	ctx := context.Background()
	pk, err := paykit.Connect(ctx, at.NATS)
	if err != nil {
		log.Fatal(err)
	}
	defer pk.Close()
	customer, method, err := savedMethod(ctx, pk, "user_charge")
	if err != nil {
		log.Fatal(err)
	}
	create := paykit.ChargeCreate{
		CustomerID: customer.ID, PaymentMethodID: method.ID, Amount: 1900, Description: "March usage",
	}
	charge, err := pk.Charge.Create(ctx, create, paykit.WithIdempotencyKey("user_charge march"), paykit.WithWait(20*time.Second))
	if err != nil {
		log.Fatal(err)
	}
	again, err := pk.Charge.Create(ctx, create, paykit.WithIdempotencyKey("user_charge march"), paykit.WithWait(20*time.Second))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(charge.Status, charge.Amount, again.ID == charge.ID)
	// Output: succeeded 1900 true
}

// Step 5: react to normalized events, durably.
func ExampleClient_Subscribe() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	pk, err := paykit.Connect(ctx, at.NATS)
	if err != nil {
		log.Fatal(err)
	}
	defer pk.Close()
	customer, _, err := savedMethod(ctx, pk, "user_events")
	if err != nil {
		log.Fatal(err)
	}
	err = pk.Subscribe(ctx, "greetings", paykit.Handlers{
		PaymentMethodAttached: func(ctx context.Context, e paykit.PaymentMethodEvent) error {
			if e.Customer.ID != customer.ID {
				return nil
			}
			profile, err := e.Customer.Profile(ctx)
			if err != nil {
				return err // called again a little later
			}
			fmt.Println("saved", e.PaymentMethod.Last4, "for", e.Customer.ReferenceID, *profile.Name)
			cancel() // an app would go on
			return nil
		},
	}, paykit.FromBeginning())
	if err != nil {
		log.Fatal(err)
	}
	// Output: saved 4242 for user_events Jane Doe
}

// A refusal is a typed error; its code says what to do.
func ExampleError() {
	ctx := context.Background()
	pk, err := paykit.Connect(ctx, at.NATS)
	if err != nil {
		log.Fatal(err)
	}
	defer pk.Close()
	customer, err := pk.Customer.Sync(ctx, paykit.CustomerSync{ReferenceID: "user_error"})
	if err != nil {
		log.Fatal(err)
	}
	_, err = pk.Checkout.Create(ctx, paykit.CheckoutCreate{
		CustomerID: customer.ID, Amount: 10, Description: "Too little", SuccessURL: "https://app.example.com/ok",
	})
	if refusal, ok := errors.AsType[*paykit.Error](err); ok {
		fmt.Println(refusal.Code, refusal.Param)
	}
	// Output: invalid_request amount
}
