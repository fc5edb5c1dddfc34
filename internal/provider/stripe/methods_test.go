package stripe

import (
	"maps"
	"net/http"
	"testing"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
	"github.com/paykit-go/paykit/internal/provider/providertest"
)

// A refused detach is looked into, and a look-up that fails tells nothing: the worker must try again, and neither take the
// method for detached nor end the request as refused.
func TestDetachWithAFailingLookup(t *testing.T) {
	t.Parallel()
	faults := map[string]struct {
		fault map[string]any
		class provider.Class
	}{
		"no answer":           {map[string]any{"kind": "drop"}, provider.Transient},
		"a server error":      {map[string]any{"kind": "status", "status": http.StatusInternalServerError}, provider.Transient},
		"unavailable":         {map[string]any{"kind": "status", "status": http.StatusServiceUnavailable}, provider.Transient},
		"credentials refused": {map[string]any{"kind": "status", "status": http.StatusUnauthorized}, provider.Blocked},
	}
	for name, tt := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSimulator(t)
			c := newClient(t, s.base, func(cfg *Config) {
				cfg.HTTPClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			})
			ctx := t.Context()
			customer, err := c.CreateCustomer(ctx, "k:customer", events.Owner{Env: "env_test", Customer: events.CustomerID("detacher")})
			if err != nil {
				t.Fatal(err)
			}
			id, err := s.saveMethod(ctx, customer, providertest.CardGood)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.DetachMethod(ctx, "k:first", id); err != nil {
				t.Fatalf("detach: %v", err)
			}
			fault := map[string]any{"operation": "payment_methods.retrieve", "when": "before"}
			maps.Copy(fault, tt.fault)
			if err := s.control(ctx, "/_sandbox/faults", fault); err != nil {
				t.Fatal(err)
			}
			// Detached in the dashboard meanwhile, as it were: Stripe refuses, and can't be asked.
			if err := c.DetachMethod(ctx, "k:second", id); err == nil || provider.ClassOf(err) != tt.class {
				t.Errorf("the look-up failed: %v, class %v; want class %v", err, provider.ClassOf(err), tt.class)
			}
			// The same call again: its key keeps the refusal, and the look-up tells that all is well.
			if err := c.DetachMethod(ctx, "k:second", id); err != nil {
				t.Errorf("again: %v", err)
			}
		})
	}
}
