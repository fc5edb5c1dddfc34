package sandbox_test

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stripe/stripe-go/v76"
)

// mockModule holds Stripe's OpenAPI document of API version 2022-11-15, the nearest to 2023-10-16 that is published as a
// Go module; every object of the later version that is used here is valid against it.
const mockModule = "github.com/stripe/stripe-mock@v0.148.0"

// stripeSchemas loads Stripe's own description of its objects.
func stripeSchemas(t *testing.T) openapi3.Schemas {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", mockModule)
	cmd.Dir = t.TempDir() // outside of any module, so that nothing is added to ours
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("download %s: %v: %s", mockModule, err, out)
	}
	var module struct {
		Dir string `json:"Dir"`
	}
	if err := json.Unmarshal(out, &module); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(module.Dir, "openapi", "spec3.json"))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := (&openapi3.Loader{Context: context.WithoutCancel(t.Context())}).LoadFromData(raw)
	if err != nil {
		t.Fatal(err)
	}
	return doc.Components.Schemas
}

// objectsOfEveryKind walks the sandbox through its states and collects what it answers, by kind of object.
func objectsOfEveryKind(t *testing.T, w *world) map[string][]map[string]any {
	t.Helper()
	var chains map[string]any
	w.control("POST", "/_sandbox/trigger", `{"event":"?"}`, &chains)
	message, _ := at(chains, "error", "message").(string)
	_, list, _ := strings.Cut(message, "[")
	for event := range strings.FieldsSeq(strings.TrimSuffix(list, "]")) {
		if status := w.control("POST", "/_sandbox/trigger", `{"event":"`+event+`"}`, nil); status != 200 {
			t.Fatalf("%s: %d", event, status)
		}
	}
	w.advance("1h") // what settles by itself has settled
	cus := w.customer().ID
	w.checkout(sessionParams(cus))
	setup := w.checkout(setupParams(cus))
	w.complete(setup.ID, "4000002500003155")
	if _, err := w.api.Customers.Update(cus, &stripe.CustomerParams{
		Address: &stripe.AddressParams{City: new("Berlin"), Country: new("DE")}, Phone: new("+49"),
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.api.WebhookEndpoints.New(&stripe.WebhookEndpointParams{URL: new("http://127.0.0.1:1/"), EnabledEvents: []*string{new("invoice.paid")}}); err != nil {
		t.Fatal(err)
	}

	found := map[string][]map[string]any{}
	for _, path := range []string{
		"/v1/customers", "/v1/payment_methods?customer=" + cus, "/v1/payment_intents", "/v1/payment_intents?expand[]=data.latest_charge&expand[]=data.customer&expand[]=data.payment_method",
		"/v1/setup_intents", "/v1/setup_intents?expand[]=data.payment_method", "/v1/charges", "/v1/charges?expand[]=data.balance_transaction&expand[]=data.refunds",
		"/v1/checkout/sessions", "/v1/checkout/sessions?expand[]=data.line_items&expand[]=data.payment_intent", "/v1/refunds", "/v1/refunds?expand[]=data.charge", "/v1/disputes",
		"/v1/radar/early_fraud_warnings", "/v1/radar/early_fraud_warnings?expand[]=data.charge",
		"/v1/events", "/v1/webhook_endpoints", "/v1/checkout/sessions/" + setup.ID + "/line_items",
	} {
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		status, _, body := w.raw("GET", path+sep+"limit=100", "", "")
		if status != 200 {
			t.Fatalf("%s: %d %s", path, status, body)
		}
		for _, object := range items(t, body) {
			kind := as[string](t, object["object"])
			found[kind] = append(found[kind], object)
		}
	}
	for _, path := range []string{"/v1/balance", "/v1/account"} {
		_, _, body := w.raw("GET", path, "", "")
		object := mustJSON(t, body)
		kind := as[string](t, object["object"])
		found[kind] = append(found[kind], object)
	}
	for _, e := range found["event"] { // what events carry is checked too
		object := as[map[string]any](t, at(e, "data", "object"))
		kind := as[string](t, object["object"])
		found[kind] = append(found[kind], object)
	}
	return found
}

func TestSchema(t *testing.T) {
	schemas := stripeSchemas(t)
	found := objectsOfEveryKind(t, newWorld(t, slowly))
	for _, kind := range []string{
		"customer", "payment_method", "payment_intent", "setup_intent", "charge", "checkout.session", "refund", "dispute", "event", "webhook_endpoint",
		"radar.early_fraud_warning", "balance", "account",
	} {
		if len(found[kind]) == 0 {
			t.Errorf("no %s was made", kind)
		}
	}
	statuses := map[string]map[string]bool{}
	for kind, objects := range found {
		ref, ok := schemas[kind]
		if !ok {
			t.Errorf("Stripe knows no %s", kind)
			continue
		}
		for _, object := range objects {
			if status, ok := object["status"].(string); ok {
				if statuses[kind] == nil {
					statuses[kind] = map[string]bool{}
				}
				statuses[kind][status] = true
			}
			if err := ref.Value.VisitJSON(object, openapi3.MultiErrors()); err != nil {
				t.Errorf("%s %v: %.600s", kind, object["id"], err)
			}
		}
	}
	for kind, want := range map[string]string{
		"payment_intent":   "requires_payment_method requires_action requires_capture processing succeeded canceled",
		"setup_intent":     "requires_payment_method requires_action succeeded canceled",
		"charge":           "pending succeeded failed",
		"checkout.session": "open complete expired",
		"refund":           "succeeded failed",
		"dispute":          "needs_response won lost",
	} {
		for status := range strings.FieldsSeq(want) {
			if !statuses[kind][status] {
				t.Errorf("no %s in state %s was checked, only %v", kind, status, statuses[kind])
			}
		}
	}

	// The oracle must be able to say no.
	for kind, damage := range map[string]func(map[string]any){
		"customer":         func(m map[string]any) { delete(m, "created") },
		"payment_method":   func(m map[string]any) { m["type"] = "shell" },
		"payment_intent":   func(m map[string]any) { m["amount"] = "4900" },
		"setup_intent":     func(m map[string]any) { m["status"] = "done" },
		"charge":           func(m map[string]any) { m["captured"] = nil },
		"checkout.session": func(m map[string]any) { m["mode"] = "gift" },
		"refund":           func(m map[string]any) { m["metadata"] = "none" },
		"dispute":          func(m map[string]any) { delete(m, "evidence") },
		"event":            func(m map[string]any) { m["pending_webhooks"] = "two" },
		"webhook_endpoint": func(m map[string]any) { m["enabled_events"] = nil },
	} {
		broken := maps.Clone(found[kind][0])
		damage(broken)
		if err := schemas[kind].Value.VisitJSON(broken); err == nil {
			t.Errorf("a broken %s is accepted", kind)
		}
	}
}
