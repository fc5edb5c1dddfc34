package sim_test

import (
	"context"
	"testing"
	"time"

	"github.com/paykit-go/paykit/internal/provider"
	"github.com/paykit-go/paykit/internal/provider/providertest"
	"github.com/paykit-go/paykit/internal/sim"
)

// TestStripeSuite: the model of Stripe passes what the sandbox passes.
func TestStripeSuite(t *testing.T) { providertest.Run(t, newBench) }

// TestStripeFaults: so do its broken answers.
func TestStripeFaults(t *testing.T) { providertest.RunFaults(t, newBench) }

func newBench(t *testing.T) providertest.World {
	t.Helper()
	start := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	b := sim.NewBench(start)
	return providertest.World{
		API: b.API(), Webhooks: b.Webhooks(), Env: "sim", Start: start,
		SaveMethod: func(_ context.Context, customerID string, c providertest.Card) (string, error) {
			return b.SaveMethod(customerID, int(c)), nil
		},
		Complete: func(_ context.Context, sessionID string, c providertest.Card) error {
			return b.Complete(sessionID, int(c))
		},
		Authenticate: func(_ context.Context, paymentID string, passed bool) error {
			return b.Authenticate(paymentID, passed)
		},
		Profile: func(_ context.Context, customerID string) (provider.Profile, error) { return b.Profile(customerID) },
		Count: func(_ context.Context, op providertest.Operation, customerID string) (int, error) {
			customers, sessions, payments, captures, refunds := b.Counts(customerID)
			return map[providertest.Operation]int{
				providertest.CreateCustomer: customers, providertest.CreateSession: sessions, providertest.CreatePayment: payments,
				providertest.ConfirmPayment: captures, providertest.CreateRefund: refunds,
			}[op], nil
		},
		Fault: func(_ context.Context, f providertest.Fault) error {
			b.Break(string(f.Operation), f.Status, f.After)
			return nil
		},
		Heal: func(context.Context) error {
			b.Heal()
			return nil
		},
	}
}
