package provider_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paykit-go/paykit/internal/events"
)

// version is how one API version, or one way of asking for it, renders an event: it changes one that is as of 2023-10-16.
type version struct {
	name   string
	render func(event, object fields)
}

// versions are the shapes of deliveries from 2020-08-27 to the newest, and the odd ones that accounts of any age bring.
// Sources: Stripe's changelog, https://docs.stripe.com/changelog, by the names of the releases.
func versions() []version {
	both := func(a, b func(event, object fields)) func(event, object fields) {
		return func(event, object fields) { a(event, object); b(event, object) }
	}
	return []version{
		{"2020-08-27", as2020},
		{"2020-08-27, made by an account of before 2017", both(as2020, func(event, _ fields) {
			event["request"] = "req_0123456789" // the id itself, before it became an object
			event["user_id"] = nil
		})},
		{"2022-08-01", as2022},
		{"2023-10-16", func(_, _ fields) {}},
		{"2024-09-30.acacia", asAcacia},
		{"2025-03-31.basil", asBasil},
		{"2025-09-30.clover", asClover},
		{"2026-08-26.dahlia", asDahlia},
		{"nulls", asNulls},
		{"no api_version", func(event, _ fields) {
			event["api_version"] = nil
			delete(event, "livemode")
			delete(event, "request")
			delete(event, "pending_webhooks")
		}},
		{"objects where ids are usual", asExpanded},
		{"dahlia, objects where ids are usual", both(asDahlia, asExpanded)},
		{"ids where objects are usual", both(as2020, asCollapsed)},
		{"previous_attributes: a list", withPrevious([]any{"customer", 7})},
		{"previous_attributes: a text", withPrevious("customer")},
		{"previous_attributes: null", withPrevious(nil)},
		{"previous_attributes: deep", withPrevious(fields{
			"customer": fields{"id": fields{"id": []any{}}}, "metadata": nil, "status": []any{fields{}}, "card": fields{"exp_month": "12"},
		})},
	}
}

// as2020 is before 2022-08-01 and 2022-11-15: charges and refunds stand in their parent, pages have no status.
func as2020(event, object fields) {
	event["api_version"] = "2020-08-27"
	switch object["object"] {
	case "payment_intent":
		charges := []any{}
		if id, ok := object["latest_charge"].(string); ok {
			charges = append(charges, fields{
				"id": id, "object": "charge", "amount": object["amount"], "amount_refunded": 0, "captured": true, "paid": true,
				"status": "succeeded", "payment_intent": object["id"], "customer": object["customer"], "refunds": page(), "source": nil,
			})
		}
		object["charges"] = page(charges...)
		object["source"], object["transfer_data"] = nil, nil
		delete(object, "latest_charge")
	case "charge":
		object["refunds"], object["source"], object["dispute"] = page(), nil, nil
		if n, ok := object["amount_refunded"].(float64); ok && n > 0 {
			id, _ := object["id"].(string)
			object["refunds"] = page(fields{
				"id": strings.Replace(id, "ch_", "re_", 1) + "a", "object": "refund", "amount": n, "charge": id, "currency": "usd",
				"payment_intent": object["payment_intent"], "status": "succeeded", "reason": nil, "metadata": fields{},
			})
		}
	case "checkout.session":
		delete(object, "status")
		object["shipping"], object["display_items"] = nil, []any{fields{"amount": 4900, "quantity": 1}}
	case "customer":
		object["sources"], object["subscriptions"], object["tax_ids"] = page(), page(), page()
		object["account_balance"] = 0
	case "dispute":
		object["evidence"], object["evidence_details"] = fields{"access_activity_log": nil}, fields{"due_by": 1700500000, "has_evidence": false}
		object["is_charge_refundable"] = false
	}
}

// as2022 has pages with a status; charges still stand in their payment.
func as2022(event, object fields) {
	status, isPage := object["status"], object["object"] == "checkout.session"
	as2020(event, object)
	event["api_version"] = "2022-08-01"
	if isPage {
		object["status"] = status
	}
}

func asAcacia(event, object fields) {
	event["api_version"] = "2024-09-30.acacia"
	switch object["object"] {
	case "payment_intent":
		object["capture_method"] = "automatic_async"
		object["payment_method_configuration_details"] = fields{"id": "pmc_1", "parent": nil}
		object["amount_details"] = fields{"tip": fields{}}
	case "charge":
		object["balance_transaction"] = nil // filled by charge.updated
		object["radar_options"] = fields{}
	case "refund":
		object["destination_details"] = fields{"card": fields{"reference_status": "pending", "type": "refund"}, "type": "card"}
	case "checkout.session":
		object["adaptive_pricing"], object["saved_payment_method_options"] = fields{"enabled": true}, fields{"payment_method_save": nil}
	case "payment_method":
		object["allow_redisplay"] = "limited"
	}
}

// asBasil has no invoice on payments and charges.
func asBasil(event, object fields) {
	asAcacia(event, object)
	event["api_version"] = "2025-03-31.basil"
	delete(object, "invoice")
	object["presentment_details"] = fields{"presentment_amount": 4500, "presentment_currency": "eur"}
	if object["object"] == "payment_intent" {
		object["source"] = nil
	}
}

func asClover(event, object fields) {
	asBasil(event, object)
	event["api_version"] = "2025-09-30.clover"
	switch object["object"] {
	case "payment_intent":
		object["excluded_payment_method_types"], object["hooks"] = nil, fields{"inputs": fields{}}
	case "checkout.session":
		object["ui_mode"], object["collected_information"] = "hosted", fields{"business_name": nil}
	case "dispute":
		object["enhanced_eligibility_types"] = []any{"visa_compelling_evidence_3"}
		object["payment_method_details"] = fields{"type": "card", "card": fields{"brand": "visa", "case_type": "chargeback"}}
	}
}

// asDahlia has another word for the page's mode and other details of a dispute.
func asDahlia(event, object fields) {
	asClover(event, object)
	event["api_version"], event["context"] = "2026-08-26.dahlia", nil
	switch object["object"] {
	case "checkout.session":
		object["ui_mode"] = "hosted_page"
	case "dispute":
		delete(object, "is_charge_refundable")
		object["evidence"] = nil
		object["payment_method_details"] = fields{"type": "card", "card": fields{"network_reason_code": "10.4"}, "amount_details": nil}
	}
}

// asNulls has null wherever a value is not what makes the event.
func asNulls(event, object fields) {
	event["request"], event["pending_webhooks"] = nil, nil
	for _, name := range []string{
		"description", "invoice", "next_action", "cancellation_reason", "receipt_email", "shipping", "statement_descriptor", "balance_transaction",
		"charges", "refunds", "outcome", "amount_details", "payment_method_details", "billing_details", "reason", "url", "expires_at", "created",
		"failure_code", "failure_message", "setup_future_usage", "captured", "source",
	} {
		if name == "captured" && object["status"] != "succeeded" || name == "reason" && object["object"] == "dispute" {
			continue
		}
		object[name] = nil
	}
	if metadata, ok := object["metadata"].(map[string]any); ok && len(metadata) == 0 {
		object["metadata"] = nil
	}
}

// asExpanded has objects where there are ids usually.
func asExpanded(_, object fields) {
	for name, kind := range map[string]string{
		"customer": "customer", "payment_method": "payment_method", "payment_intent": "payment_intent", "latest_charge": "charge",
		"charge": "charge", "setup_intent": "setup_intent", "balance_transaction": "balance_transaction",
	} {
		if id, ok := object[name].(string); ok && object["object"] != kind {
			object[name] = fields{"id": id, "object": kind, "metadata": fields{}, "deleted": false, "livemode": false}
		}
	}
}

// asCollapsed has ids where there are objects usually.
func asCollapsed(_, object fields) {
	for _, name := range []string{"charges", "refunds"} {
		list, ok := object[name].(fields)
		if !ok {
			continue
		}
		items, _ := list["data"].([]any)
		for i, item := range items {
			items[i] = item.(fields)["id"] //nolint:forcetypeassert // made above
		}
	}
	if e, ok := object["last_payment_error"].(map[string]any); ok {
		e["payment_method"], e["charge"] = "pm_other", "ch_other"
	}
	object["balance_transaction"], object["next_action"] = "txn_1", nil
}

func withPrevious(previous any) func(event, object fields) {
	return func(event, _ fields) {
		if event["type"] == "payment_method.detached" {
			return // there it says whose the method was
		}
		event["data"].(fields)["previous_attributes"] = previous //nolint:forcetypeassert // made by rendered
	}
}

func page(items ...any) fields {
	return fields{"object": "list", "data": append([]any{}, items...), "has_more": false, "total_count": len(items), "url": "/v1/x"}
}

// rendered is a delivery as a version shows it.
func (in *ingest) rendered(v version, body string) string {
	in.t.Helper()
	var event, data, obj fields
	for _, step := range []struct {
		from any
		into *fields
	}{{json.RawMessage(body), &event}, {nil, &data}, {nil, &obj}} {
		raw, ok := step.from.(json.RawMessage)
		if !ok {
			from := event["data"]
			if step.into == &obj {
				from = data["object"]
			}
			var err error
			if raw, err = json.Marshal(from); err != nil {
				in.t.Fatal(err)
			}
		}
		if err := json.Unmarshal(raw, step.into); err != nil {
			in.t.Fatal(err)
		}
	}
	event["data"] = data
	v.render(event, obj)
	data["object"] = obj
	return object(event)
}

// Every version tells the same story: a charge that is refunded and disputed, a card that comes, changes and goes, a paid
// page, a saved card, a decline; and between them what means nothing.
func TestVersionsTellTheSame(t *testing.T) { //nolint:tparallel // its rows share one server, one after the other
	t.Parallel()
	in := newIngest(t, options{})
	for _, v := range versions() {
		t.Run(v.name, func(t *testing.T) {
			in.t = t
			tell := func(want []events.Type, bodies ...string) {
				t.Helper()
				after := in.last()
				for _, body := range bodies {
					shown := in.rendered(v, body)
					if got := in.deliver(shown)[0]; got != "changed" && got != "unchanged" {
						t.Errorf("%s: %s", got, shown)
					}
				}
				if got := in.types(after); !slices.Equal(got, want) {
					t.Errorf("events %v, want %v", got, want)
				}
				for _, body := range bodies { // again, under other ids and in the version of the endpoint before
					in.deliver(in.again(body))
				}
				if got := in.types(after); !slices.Equal(got, want) {
					t.Errorf("told again: events %v, want %v", got, want)
				}
			}
			b := in.buyer().charge("")
			tell([]events.Type{
				events.ChargeSucceeded, events.ChargeRefunded, events.ChargeDisputed, events.ChargeDisputeClosed,
			}, b.event("payment_intent.created", b.intent("requires_confirmation")), b.paid(),
				b.event("charge.succeeded", b.chargeObject("succeeded")), b.event("charge.updated", b.chargeObject("succeeded")),
				b.event("refund.created", b.refund("a", "succeeded", 900)),
				b.event("charge.refunded", b.chargeObject("succeeded", fields{"amount_refunded": 900})),
				b.event("charge.refund.updated", b.refund("a", "succeeded", 900)),
				b.event("charge.dispute.created", b.dispute("needs_response")),
				b.event("charge.dispute.closed", b.dispute("lost")))
			if c := in.chargeState(b.chargeID); c.ProviderPaymentID != "pi_"+b.n || c.Amount != 4900 || c.AmountRefunded != 900 || len(c.Disputes) != 1 {
				t.Errorf("charge %+v", c)
			}
			tell([]events.Type{events.PaymentMethodAttached, events.PaymentMethodUpdated, events.PaymentMethodDetached},
				b.event("payment_method.attached", b.method()),
				b.event("payment_method.automatically_updated", b.method(fields{"card": fields{
					"brand": "visa", "last4": "4242", "exp_month": 11, "exp_year": 2039, "fingerprint": "fp" + b.n,
				}})), b.detached(), b.event("customer.updated", b.customerObject()))
			b = in.buyer().checkout()
			tell([]events.Type{events.CheckoutCompleted, events.ChargeSucceeded},
				b.event("checkout.session.completed", b.session("complete", "paid")), b.paid())
			b = in.buyer().setup()
			tell([]events.Type{events.SetupCompleted}, b.event("setup_intent.succeeded", b.setupIntent()))
			b = in.buyer().charge("")
			tell([]events.Type{events.ChargeFailed},
				b.event("payment_intent.payment_failed", b.intent("requires_payment_method", declined("card_declined", "insufficient_funds"))))
			if f := in.chargeState(b.chargeID).Failure; f == nil || f.Code != "card_declined" || f.DeclineCode != "insufficient_funds" {
				t.Errorf("failure %+v", f)
			}
		})
	}
	in.t = t
	if n := in.streamMessages("PAYKIT_DEAD"); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

// An old payment's delivery alone brings its refund along; a newer one says only how much, and the worker is asked to
// look. One whose list holds only ids is like a newer one.
func TestRefundsThatStandInTheCharge(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{})
	for name, want := range map[string]events.Type{
		"2020-08-27": events.ChargeRefunded, "2023-10-16": events.ChargeRefreshRequested, "ids where objects are usual": events.ChargeRefreshRequested,
	} {
		i := slices.IndexFunc(versions(), func(v version) bool { return v.name == name })
		b := in.buyer().charge("")
		after := in.last()
		in.deliver(in.rendered(versions()[i], b.event("charge.refunded", b.chargeObject("succeeded", fields{"amount_refunded": 900}))))
		if got := in.types(after); !slices.Equal(got, []events.Type{events.ChargeSucceeded, want}) {
			t.Errorf("%s: events %v", name, got)
		}
	}
}

// Days late is signed anew and says what was: it adds what is missing and takes nothing back.
func TestDaysLate(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{})
	b := in.buyer().charge("")
	late := func(body string) string {
		return in.rendered(version{render: func(event, _ fields) {
			event["created"] = time.Now().Add(-5 * 24 * time.Hour).Unix()
		}}, body)
	}
	after := in.last()
	in.deliver(late(b.paid()), late(b.event("payment_intent.processing", b.intent("processing"))),
		late(b.event("payment_intent.payment_failed", b.intent("requires_payment_method", declined("card_declined", "")))),
		late(b.event("payment_intent.canceled", b.intent("canceled"))))
	if got := in.types(after); !slices.Equal(got, []events.Type{events.ChargeSucceeded}) {
		t.Errorf("events %v", got)
	}
	if e := in.state(events.EntityCharge, b.chargeID); time.Since(e.Time) > time.Minute {
		t.Errorf("the event's time is %s: events carry the time at which they are known", e.Time)
	}
}

// A delivery of a connected account, or of a type nobody knows, is kept, counted and silent.
func TestKeptCountedSilent(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{})
	b := in.buyer().charge("")
	after, before, lines := in.last(), in.deliveries(), in.logs.String()
	got := in.deliver(
		in.rendered(version{render: func(event, _ fields) { event["account"] = "acct_other" }}, b.paid()),
		b.event("mystery.object.happened", b.intent("succeeded")),
		b.event("payment_intent.succeeded", b.intent("succeeded", fields{"customer": "cus_nobody", "metadata": fields{"paykit_env": "another", "paykit_charge": b.chargeID}})),
		b.event("payment_intent.succeeded", b.intent("succeeded", fields{"id": "pi_nobody", "customer": nil, "metadata": fields{}})),
		b.event("customer.deleted", object(fields{"id": "cus_nobody", "object": "customer"})),
	)
	if !slices.Equal(got, []string{"other_mode", "unchanged", "not_ours", "not_ours", "not_ours"}) {
		t.Errorf("results %v", got)
	}
	said := slices.DeleteFunc(slices.Collect(strings.Lines(strings.TrimPrefix(in.logs.String(), lines))), func(line string) bool {
		return strings.Contains(line, "first delivery of a mode") // said once, whatever it is
	})
	if events := in.types(after); len(events) != 0 || in.deliveries() != before+5 || len(said) != 0 {
		t.Errorf("events %v, %d stored, said: %s", events, in.deliveries()-before, said)
	}
	if n := in.counted("paykit_normalizer_deliveries_total", map[string]string{"result": "not_ours"}); n != 3 {
		t.Errorf("counted %v", n)
	}
}
