package paykit_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit"
	"github.com/paykit-go/paykit/internal/dev"
)

// at is the engine that the package's tests and examples run on: all of it, in this process, on free ports.
var at dev.Addresses //nolint:gochecknoglobals // examples have no parameters

func TestMain(m *testing.M) {
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan dev.Addresses, 1), make(chan error, 1)
	go func() {
		done <- dev.Run(ctx, dev.Config{Logger: zerolog.Nop()}, func(a dev.Addresses) { ready <- a })
	}()
	var code int
	select {
	case at = <-ready:
		code = m.Run()
		cancel()
		if err := <-done; err != nil {
			fmt.Fprintln(os.Stderr, "dev:", err)
			code = 1
		}
	case err := <-done:
		fmt.Fprintln(os.Stderr, "dev:", err)
		code = 1
	}
	cancel()
	os.Exit(code)
}

// buyerPays does in the sandbox what a buyer does in a browser.
func buyerPays(ctx context.Context, session string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at.Sandbox+"/_sandbox/checkout/"+session+"/complete",
		strings.NewReader(`{"card":"4242424242424242"}`))
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("sandbox: status %d", res.StatusCode)
	}
	return nil
}

// savedMethod makes a customer with a saved card.
func savedMethod(ctx context.Context, pk *paykit.Client, reference string) (*paykit.Customer, *paykit.PaymentMethod, error) {
	customer, err := pk.Customer.Sync(ctx, paykit.CustomerSync{ReferenceID: reference, Email: "jane@example.com", Name: "Jane Doe"})
	if err != nil {
		return nil, nil, err
	}
	setup, err := pk.PaymentMethod.Attach(ctx, paykit.PaymentMethodAttach{CustomerID: customer.ID, ReturnURL: "https://app.example.com/back"}, paykit.WithWait(20*time.Second))
	if err != nil {
		return nil, nil, err
	}
	if err := buyerPays(ctx, setup.ProviderSessionID); err != nil {
		return nil, nil, err
	}
	method, err := firstMethod(ctx, pk, customer.ID)
	return customer, method, err
}

// firstMethod waits until the webhook about the saved card was taken in.
func firstMethod(ctx context.Context, pk *paykit.Client, customerID string) (*paykit.PaymentMethod, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		list, err := pk.PaymentMethod.List(ctx, paykit.PaymentMethodList{CustomerID: customerID})
		if err != nil {
			return nil, err
		}
		if len(list.Items) > 0 {
			return &list.Items[0], nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// conn is a plain connection.
func conn(t *testing.T) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(at.NATS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}
