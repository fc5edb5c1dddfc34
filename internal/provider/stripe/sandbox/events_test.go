package sandbox_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stripe/stripe-go/v76"

	"github.com/paykit-go/paykit/internal/provider/stripe/sandbox"
)

func TestEvents_log(t *testing.T) {
	w := newWorld(t)
	cus := w.customer()
	p := &stripe.CustomerParams{Name: new("New name"), Metadata: map[string]string{"a": "1"}}
	p.SetIdempotencyKey("rename-1")
	if _, err := w.api.Customers.Update(cus.ID, p); err != nil {
		t.Fatal(err)
	}
	if _, err := w.api.Customers.Update(cus.ID, &stripe.CustomerParams{Name: new("New name")}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"customer.created", "customer.updated"}, w.eventTypes()); diff != "" {
		t.Errorf("an update that changes nothing makes no event:\n%s", diff)
	}
	e := w.event("customer.updated")
	if !cmp.Equal(e.Data.PreviousAttributes, map[string]any{"name": "Jenny Rosen", "metadata": map[string]any{"a": nil}}) {
		t.Errorf("previous_attributes: %v", e.Data.PreviousAttributes)
	}
	if e.Request.IdempotencyKey != "rename-1" || e.APIVersion != "2023-10-16" || e.Data.Object["name"] != "New name" {
		t.Errorf("%+v", e)
	}
	if got := w.event("customer.created").Data.Object["name"]; got != "Jenny Rosen" {
		t.Errorf("the first event shows a later name: %v", got)
	}
	one, err := w.api.Events.Get(e.ID, nil)
	if err != nil || one.Type != "customer.updated" {
		t.Errorf("%+v %v", one, err)
	}
	_, err = w.api.Events.Get("evt_none", nil)
	wantError(t, err, 404, stripe.ErrorTypeInvalidRequest, "resource_missing")
}

func TestEvents_list(t *testing.T) {
	w := newWorld(t)
	w.paid("pm_card_visa")
	w.customer()
	list := func(query string) (types []string) {
		t.Helper()
		status, _, body := w.raw("GET", "/v1/events?"+query, "", "")
		if status != 200 {
			t.Fatalf("%s: %d %s", query, status, body)
		}
		for _, e := range items(t, body) {
			types = append(types, as[string](t, e["type"]))
		}
		return types
	}
	rows := []struct {
		query string
		want  []string
	}{
		{"type=charge.succeeded", []string{"charge.succeeded"}},
		{"type=payment_intent.*", []string{"payment_intent.succeeded", "payment_intent.created"}},
		{"types[]=charge.succeeded&types[]=customer.created", []string{"customer.created", "charge.succeeded"}},
		{"limit=2", []string{"customer.created", "payment_intent.succeeded"}},
		{"delivery_success=true", []string{"customer.created", "payment_intent.succeeded", "charge.succeeded", "payment_intent.created"}},
		{"delivery_success=false", nil},
	}
	for _, row := range rows {
		if got := list(row.query); !slices.Equal(got, row.want) {
			t.Errorf("%s: %v, want %v", row.query, got, row.want)
		}
	}
	if status, _, _ := w.raw("GET", "/v1/events?type=a&types[]=b", "", ""); status != 400 {
		t.Errorf("type and types: %d", status)
	}
	w.advance("721h")
	if got := list(""); got != nil {
		t.Errorf("after 30 days: %v", got)
	}
}

func TestEndpoints(t *testing.T) {
	w := newWorld(t)
	ep, err := w.api.WebhookEndpoints.New(&stripe.WebhookEndpointParams{
		URL: new("http://127.0.0.1:9/hook"), EnabledEvents: []*string{new("customer.created")}, APIVersion: new("2023-10-16"),
		Description: new("mine"), Metadata: map[string]string{"a": "b"},
	})
	if err != nil || !strings.HasPrefix(ep.Secret, "whsec_") || ep.Status != "enabled" || ep.APIVersion != "2023-10-16" {
		t.Fatalf("%+v %v", ep, err)
	}
	got, err := w.api.WebhookEndpoints.Get(ep.ID, nil)
	if err != nil || got.Secret != "" || got.Description != "mine" {
		t.Errorf("the secret is shown once: %+v %v", got, err)
	}
	got, err = w.api.WebhookEndpoints.Update(ep.ID, &stripe.WebhookEndpointParams{Disabled: new(true), EnabledEvents: []*string{new("*")}})
	if err != nil || got.Status != "disabled" || !slices.Equal(got.EnabledEvents, []string{"*"}) {
		t.Errorf("%+v %v", got, err)
	}
	if it := w.api.WebhookEndpoints.List(nil); !it.Next() || it.WebhookEndpoint().ID != ep.ID {
		t.Errorf("not listed: %v", it.Err())
	}
	if gone, err := w.api.WebhookEndpoints.Del(ep.ID, nil); err != nil || !gone.Deleted {
		t.Errorf("%+v %v", gone, err)
	}
	_, err = w.api.WebhookEndpoints.Get(ep.ID, nil)
	wantError(t, err, 404, stripe.ErrorTypeInvalidRequest, "resource_missing")
	_, err = w.api.WebhookEndpoints.New(&stripe.WebhookEndpointParams{URL: new("http://127.0.0.1:9/")})
	wantError(t, err, 400, stripe.ErrorTypeInvalidRequest, "parameter_missing")
	_, err = w.api.WebhookEndpoints.New(&stripe.WebhookEndpointParams{URL: new("ftp://x/"), EnabledEvents: []*string{new("*")}})
	wantError(t, err, 400, stripe.ErrorTypeInvalidRequest, "url_invalid")
}

func TestDeliveries_signed_and_filtered(t *testing.T) {
	w := newWorld(t)
	all, some := newReceiver(t, "whsec_fixed"), newReceiver(t, "")
	w.sand.AddWebhookEndpoint(all.url, "whsec_fixed")
	ep, err := w.api.WebhookEndpoints.New(&stripe.WebhookEndpointParams{URL: &some.url, EnabledEvents: []*string{new("charge.succeeded"), new("customer.created")}})
	if err != nil {
		t.Fatal(err)
	}
	some.mu.Lock()
	some.secret = ep.Secret
	some.mu.Unlock()
	w.paid("pm_card_visa")
	w.customer()
	var types []string
	for range 4 {
		e := all.next(t)
		types = append(types, string(e.Type))
		if e.PendingWebhooks < 1 {
			t.Errorf("%s: pending_webhooks %d while being delivered", e.Type, e.PendingWebhooks)
		}
	}
	slices.Sort(types)
	if diff := cmp.Diff([]string{"charge.succeeded", "customer.created", "payment_intent.created", "payment_intent.succeeded"}, types); diff != "" {
		t.Error(diff)
	}
	filtered := []string{string(some.next(t).Type), string(some.next(t).Type)}
	slices.Sort(filtered)
	if !slices.Equal(filtered, []string{"charge.succeeded", "customer.created"}) {
		t.Errorf("filtered: %v", filtered)
	}
	w.until("all deliveries to be counted", func() bool {
		return !slices.ContainsFunc(w.events(), func(e *stripe.Event) bool { return e.PendingWebhooks != 0 })
	})
	all.quiet(t)
	some.quiet(t)
}

func TestDeliveries_retried_and_signed_again(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t, "whsec_1")
	r.answer = func(attempt int, _ *stripe.Event) int {
		return map[int]int{1: http.StatusInternalServerError, 2: http.StatusFound, 3: http.StatusNotFound}[min(attempt, 4)] + map[bool]int{true: 200}[attempt > 3]
	}
	w.sand.AddWebhookEndpoint(r.url, "whsec_1", "customer.created")
	w.customer()
	first := r.next(t)
	for range 3 {
		w.until("the delivery to be counted as failed", func() bool { return w.event("customer.created").PendingWebhooks == 1 })
		w.advance("10s")
		r.next(t)
	}
	w.until("the delivery to be accepted", func() bool { return w.event("customer.created").PendingWebhooks == 0 })
	n, stamps := r.attempts(first.ID)
	if n != 4 || len(stamps) != 4 {
		t.Errorf("%d attempts", n)
	}
	w.advance("24h")
	w.customer()
	if e := r.next(t); e.ID == first.ID {
		t.Error("delivered again after it was accepted")
	}
}

func TestDeliveries_first_retry_after_one_second(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t, "whsec_1")
	r.answer = func(attempt int, _ *stripe.Event) int { return map[bool]int{true: 503, false: 200}[attempt == 1] }
	w.sand.AddWebhookEndpoint(r.url, "whsec_1")
	w.customer()
	r.next(t)
	began := time.Now()
	r.next(t)
	if took := time.Since(began); took < 900*time.Millisecond || took > 5*time.Second {
		t.Errorf("retried after %s", took)
	}
}

func TestDeliveries_to_nobody(t *testing.T) {
	w := newWorld(t, func(c *sandbox.Config) { c.DeliveryTimeout = 50 * time.Millisecond })
	gone, hanging := newReceiver(t, "whsec_1"), newReceiver(t, "whsec_1")
	id := w.sand.AddWebhookEndpoint("http://127.0.0.1:1/hook", "whsec_1")
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	hanging.answer = func(int, *stripe.Event) int { <-release; return 200 }
	w.sand.AddWebhookEndpoint(hanging.url, "whsec_1")
	w.sand.AddWebhookEndpoint(gone.url, "whsec_1")
	w.customer()
	gone.next(t) // a dead and a hanging endpoint do not hold up a good one
	if status, _, body := w.raw("GET", "/v1/events?delivery_success=true", "", ""); status != 200 || len(items(t, body)) != 0 {
		t.Errorf("listed as delivered: %s", body)
	}
	if _, err := w.api.WebhookEndpoints.Del(id, nil); err != nil {
		t.Error(err)
	}
}

func TestDeliveries_behavior(t *testing.T) {
	set := func(w *world, body string) {
		t.Helper()
		if status := w.control("POST", "/_sandbox/webhooks", body, nil); status != 200 {
			t.Fatalf("%s: %d", body, status)
		}
	}
	t.Run("copies", func(t *testing.T) {
		w := newWorld(t)
		r := newReceiver(t, "whsec_1")
		w.sand.AddWebhookEndpoint(r.url, "whsec_1")
		set(w, `{"copies":3}`)
		w.customer()
		ids := []string{r.next(t).ID, r.next(t).ID, r.next(t).ID}
		if ids[0] != ids[1] || ids[1] != ids[2] {
			t.Errorf("%v", ids)
		}
		set(w, `{}`)
		w.customer()
		if r.next(t).ID == ids[0] {
			t.Error("a fourth copy")
		}
	})
	t.Run("drop", func(t *testing.T) {
		w := newWorld(t)
		r := newReceiver(t, "whsec_1")
		w.sand.AddWebhookEndpoint(r.url, "whsec_1")
		set(w, `{"drop":true}`)
		lost := w.customer()
		set(w, `{}`)
		kept := w.customer()
		if e := r.next(t); e.Data.Object["id"] != kept.ID {
			t.Errorf("delivered %v", e.Data.Object["id"])
		}
		w.advance("48h")
		r.quiet(t)
		w.until("only the lost event to be undelivered", func() bool {
			_, _, body := w.raw("GET", "/v1/events?delivery_success=false", "", "")
			data := items(t, body)
			return len(data) == 1 && at(data[0], "data", "object", "id") == lost.ID
		})
	})
	t.Run("delay", func(t *testing.T) {
		w := newWorld(t)
		r := newReceiver(t, "whsec_1")
		w.sand.AddWebhookEndpoint(r.url, "whsec_1")
		set(w, `{"delay":"1h"}`)
		slow := w.customer()
		set(w, `{}`)
		fast := w.customer()
		if e := r.next(t); e.Data.Object["id"] != fast.ID {
			t.Errorf("first %v", e.Data.Object["id"])
		}
		r.quiet(t)
		w.advance("61m")
		if e := r.next(t); e.Data.Object["id"] != slow.ID {
			t.Errorf("then %v", e.Data.Object["id"])
		}
	})
	t.Run("reorder", func(t *testing.T) {
		w := newWorld(t)
		r := newReceiver(t, "whsec_1")
		w.sand.AddWebhookEndpoint(r.url, "whsec_1")
		set(w, `{"reorder":true,"window":"1h"}`)
		for _, n := range []int{8, 2, 2, 2, 2, 2} { // two can only be swapped
			var made, got []string
			for range n {
				made = append(made, w.customer().ID)
			}
			r.quiet(t)
			w.advance("61m")
			for range made {
				got = append(got, as[string](t, r.next(t).Data.Object["id"]))
			}
			if made[0] == got[0] {
				t.Errorf("the order stayed: %v", got)
			}
			slices.Sort(made)
			slices.Sort(got)
			if diff := cmp.Diff(made, got); diff != "" {
				t.Error(diff)
			}
		}
	})
}

func TestTriggers(t *testing.T) {
	w := newWorld(t)
	var help map[string]any
	w.control("POST", "/_sandbox/trigger", `{"event":"?"}`, &help)
	message, _ := at(help, "error", "message").(string)
	_, list, _ := strings.Cut(message, "[")
	names := strings.Fields(strings.TrimSuffix(list, "]"))
	if len(names) < 30 {
		t.Fatalf("%d triggers in %q", len(names), message)
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var out struct {
				Event   string
				Objects map[string]string
			}
			if status := w.control("POST", "/_sandbox/trigger", `{"event":"`+name+`","amount":1234}`, &out); status != 200 || out.Event != name || len(out.Objects) == 0 {
				t.Fatalf("%d %+v", status, out)
			}
			w.until(name, func() bool { return len(w.eventTypes(name)) > 0 })
		})
	}
	cus := w.customer().ID
	var out struct{ Objects map[string]string }
	w.control("POST", "/_sandbox/trigger", `{"event":"charge.succeeded","customer":"`+cus+`","currency":"eur"}`, &out)
	ch, err := w.api.Charges.Get(out.Objects["charge"], nil)
	if err != nil || ch.Customer.ID != cus || ch.Currency != "eur" {
		t.Errorf("%+v %v", ch, err)
	}
	if status := w.control("POST", "/_sandbox/trigger", `{"event":"charge.succeeded","amount":1}`, nil); status != 400 {
		t.Errorf("too small an amount: %d", status)
	}
}

func TestTwo_sandboxes_share_nothing(t *testing.T) {
	a, b := newWorld(t), newWorld(t)
	cus := a.customer().ID
	_, err := b.api.Customers.Get(cus, nil)
	wantError(t, err, 404, stripe.ErrorTypeInvalidRequest, "resource_missing")
}
