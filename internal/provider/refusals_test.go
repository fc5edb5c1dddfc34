package provider_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/paykit-go/paykit/internal/provider"
)

// A restricted key lacks one right: what needs it waits and shows, and the rest goes on. Without a right that charging
// needs, all wait.
func TestKeyWithoutOneRight(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, operation string
		call            func(ctx context.Context, api provider.API) error
		shown           string
		stopsAll        bool
	}{
		{"events", "events.list", func(ctx context.Context, api provider.API) error {
			return api.ListDeliveries(ctx, time.Now().Add(-time.Hour), func([]byte) error { return nil })
		}, "deliveries.list", false},
		{"methods", "payment_methods.retrieve", func(ctx context.Context, api provider.API) error {
			_, err := api.Method(ctx, "pm_1")
			return err
		}, "methods.retrieve", false},
		{"payments", "payment_intents.create", func(ctx context.Context, api provider.API) error {
			_, err := api.CreatePayment(ctx, "key", provider.PaymentRequest{CustomerID: "cus_1", Amount: 100, Currency: "usd"})
			return err
		}, "payments.create", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			api := provider.Guard(stripeID, w.api, 1000, w.now)
			w.fault(`{"operation":"` + tt.operation + `","times":2,"kind":"status","status":403}`)
			other := func() provider.Class {
				_, err := api.Payment(t.Context(), "pi_1")
				return provider.ClassOf(err)
			}
			want := provider.Invalid // there is no such payment: it was asked for
			if tt.stopsAll {
				want = provider.Blocked
			}
			for range 3 {
				if got := provider.ClassOf(tt.call(t.Context(), api)); got != provider.Blocked {
					t.Errorf("the refused one is %s", got)
				}
				if got := other(); got != want {
					t.Errorf("another one is %s, want %s", got, want)
				}
			}
			if n := len(w.called()); tt.stopsAll && n != 1 || n > 4 {
				t.Errorf("%d calls were made", n)
			}
			if err := api.Ready(); err == nil || !strings.Contains(err.Error(), tt.shown) {
				t.Errorf("ready: %v", err)
			}
			w.advance(time.Minute)
			if got := other(); got != provider.Invalid {
				t.Errorf("after a while another one is %s", got)
			}
			if api.Ready() == nil {
				t.Error("ready, though the refused one was not made since")
			}
			if got := provider.ClassOf(tt.call(t.Context(), api)); got != provider.Blocked { // refused a second time
				t.Errorf("after a while it is %s", got)
			}
			w.advance(time.Minute)
			if got := provider.ClassOf(tt.call(t.Context(), api)); got == provider.Blocked || api.Ready() != nil {
				t.Errorf("with the right it is %s, ready: %v", got, api.Ready())
			}
		})
	}
}

// What is not called for any more does not show for ever.
func TestRefusalThatIsOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	api := provider.Guard(stripeID, w.api, 1000, w.now)
	w.fault(`{"operation":"payment_methods.retrieve","kind":"status","status":403}`)
	_, _ = api.Method(t.Context(), "pm_1")
	if api.Ready() == nil {
		t.Fatal("it does not show")
	}
	w.advance(16 * time.Minute)
	if err := api.Ready(); err != nil {
		t.Error(err)
	}
}
