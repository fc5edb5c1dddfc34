package sandbox_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stripe/stripe-go/v76"
)

func TestAPI_keys(t *testing.T) {
	w := newWorld(t)
	rows := []struct {
		name   string
		header string
		status int
	}{
		{"bearer", "Bearer sk_test_abc", 200},
		{"basic", "Basic c2tfdGVzdF9hYmM6", 200}, // sk_test_abc:
		{"live", "Bearer sk_live_abc", 401},
		{"publishable", "Bearer pk_test_abc", 401},
		{"prefix only", "Bearer sk_test_", 401},
		{"none", "", 401},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.base+"/v1/customers", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			if row.header != "" {
				req.Header.Set("Authorization", row.header)
			}
			var out map[string]any
			if got := w.roundTrip(req, &out); got != row.status {
				t.Errorf("status %d, want %d", got, row.status)
			}
			if row.status == 401 && (at(out, "error", "type") != "invalid_request_error" || at(out, "error", "message") == "") {
				t.Errorf("body %v", out)
			}
			if strings.Contains(strings.ToLower(as[string](t, at(out, "error", "message"))), "sk_live_abc") {
				t.Error("the key is in the answer")
			}
		})
	}
}

func TestAPI_unknown_path(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/v1/subscriptions", "/v1/payment_intents/search", "/v1/customers/cus_1/sources"} {
		status, _, body := w.raw(http.MethodGet, path, "", "")
		if status != 404 || !strings.HasPrefix(as[string](t, at(mustJSON(t, body), "error", "message")), "Unrecognized request URL (GET: "+path+")") {
			t.Errorf("%d %s", status, body)
		}
	}
}

func TestAPI_parameters(t *testing.T) {
	w := newWorld(t)
	cus := w.customer()
	deep := "a" + strings.Repeat("[b]", 20) + "=1"
	many := url.Values{}
	for i := range 51 {
		many.Set("metadata[k"+strings.Repeat("x", i%30)+string(rune('a'+i/30))+"]", "v")
	}
	rows := []struct {
		name, method, path, form string
		status                   int
		code, param, says        string
	}{
		{"unknown", "POST", "/v1/customers", "nme=x", 400, "parameter_unknown", "nme", "Received unknown parameter: nme"},
		{"unknown, nested", "POST", "/v1/customers", "invoice_settings[foo]=x", 400, "parameter_unknown", "invoice_settings[foo]", "unknown parameter: invoice_settings[foo]"},
		{"unknown in a list", "GET", "/v1/customers?foo=1", "", 400, "parameter_unknown", "foo", "unknown parameter"},
		{"too deep", "POST", "/v1/customers", deep, 400, "", deep[:len(deep)-2], "nested too deeply"},
		{"value and object", "POST", "/v1/customers", "metadata=x&metadata[a]=b", 400, "", "metadata", "both"},
		{"object for a value", "POST", "/v1/customers", "name[a]=b", 400, "", "name", "plain value"},
		{"missing amount", "POST", "/v1/payment_intents", "currency=usd", 400, "parameter_missing", "amount", "Missing required param: amount."},
		{"missing currency", "POST", "/v1/payment_intents", "amount=100", 400, "parameter_missing", "currency", "Missing required param: currency."},
		{"zero", "POST", "/v1/payment_intents", "amount=0&currency=usd", 400, "parameter_invalid_integer", "amount", "greater than or equal to 1"},
		{"negative", "POST", "/v1/payment_intents", "amount=-5&currency=usd", 400, "parameter_invalid_integer", "amount", "greater than or equal to 1"},
		{"fraction", "POST", "/v1/payment_intents", "amount=1.5&currency=usd", 400, "parameter_invalid_integer", "amount", "Invalid integer: 1.5"},
		{"too small", "POST", "/v1/payment_intents", "amount=49&currency=usd", 400, "amount_too_small", "amount", "at least $0.50 usd"},
		{"too small in pounds", "POST", "/v1/payment_intents", "amount=29&currency=gbp", 400, "amount_too_small", "amount", "at least £0.30 gbp"},
		{"too large", "POST", "/v1/payment_intents", "amount=100000000&currency=usd", 400, "amount_too_large", "amount", "no more than $999,999.99"},
		{"currency", "POST", "/v1/payment_intents", "amount=100&currency=xxx", 400, "", "currency", "Invalid currency: xxx"},
		{"enum", "POST", "/v1/payment_intents", "amount=100&currency=usd&capture_method=later", 400, "", "capture_method", "must be one of automatic, automatic_async, or manual"},
		{"boolean", "POST", "/v1/payment_intents", "amount=100&currency=usd&confirm=yes", 400, "", "confirm", "Invalid boolean: yes"},
		{"unknown id in the path", "GET", "/v1/customers/cus_none", "", 404, "resource_missing", "id", "No such customer: 'cus_none'"},
		{"unknown payment", "GET", "/v1/payment_intents/pi_none", "", 404, "resource_missing", "intent", "No such payment_intent: 'pi_none'"},
		{"unknown id in a parameter", "POST", "/v1/payment_intents", "amount=100&currency=usd&customer=cus_none", 400, "resource_missing", "customer", "No such customer: 'cus_none'"},
		{"metadata key", "POST", "/v1/customers", "metadata[" + strings.Repeat("k", 41) + "]=v", 400, "", "metadata[" + strings.Repeat("k", 41) + "]", "up to 40"},
		{"metadata value", "POST", "/v1/customers", "metadata[a]=" + strings.Repeat("v", 501), 400, "", "metadata[a]", "up to 500"},
		{"metadata count", "POST", "/v1/customers", many.Encode(), 400, "", "metadata", "up to 50 keys"},
		{"e-mail", "POST", "/v1/customers", "email=nobody", 400, "email_invalid", "email", "Invalid email address: nobody"},
		{"limit", "GET", "/v1/customers?limit=101", "", 400, "parameter_invalid_integer", "limit", "between 1 and 100"},
		{"expand", "GET", "/v1/customers/" + cus.ID + "?expand[]=name", "", 400, "", "expand", "cannot be expanded (name)"},
		{"expand of a list", "GET", "/v1/payment_intents?expand[]=customer", "", 400, "", "expand", "data.customer"},
		{"off_session without confirm", "POST", "/v1/payment_intents", "amount=100&currency=usd&off_session=true", 400, "", "off_session", "confirm"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			status, _, body := w.raw(row.method, row.path, row.form, "")
			m := mustJSON(t, body)
			got := []any{status, at(m, "error", "type"), at(m, "error", "code"), at(m, "error", "param")}
			want := []any{row.status, "invalid_request_error", any(row.code), any(row.param)}
			for i := range want {
				if want[i] == "" {
					want[i] = nil
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s\n%s", diff, body)
			}
			if message, _ := at(m, "error", "message").(string); !strings.Contains(message, row.says) {
				t.Errorf("message %q does not say %q", message, row.says)
			}
		})
	}
	if n := len(w.ledger()); n != 0 {
		t.Errorf("refused requests made %d payments", n)
	}
}

func TestAPI_metadata_is_merged(t *testing.T) {
	w := newWorld(t)
	cus, err := w.api.Customers.New(&stripe.CustomerParams{Metadata: map[string]string{"a": "1", "b": "2"}})
	if err != nil {
		t.Fatal(err)
	}
	update := func(p *stripe.CustomerParams) map[string]string {
		t.Helper()
		got, err := w.api.Customers.Update(cus.ID, p)
		if err != nil {
			t.Fatal(err)
		}
		return got.Metadata
	}
	if got := update(&stripe.CustomerParams{Metadata: map[string]string{"b": "", "c": "3"}}); !cmp.Equal(got, map[string]string{"a": "1", "c": "3"}) {
		t.Errorf("merged: %v", got)
	}
	if got := update(&stripe.CustomerParams{Name: new("x")}); !cmp.Equal(got, map[string]string{"a": "1", "c": "3"}) {
		t.Errorf("left alone: %v", got)
	}
	_, _, body := w.raw("POST", "/v1/customers/"+cus.ID, "metadata=", "")
	if got := at(mustJSON(t, body), "metadata"); !cmp.Equal(got, map[string]any{}) {
		t.Errorf("emptied: %v", got)
	}
}

func TestAPI_unset_by_empty_value(t *testing.T) {
	w := newWorld(t)
	cus := w.customer()
	_, _, body := w.raw("POST", "/v1/customers/"+cus.ID, "name=&email=new@example.com", "")
	m := mustJSON(t, body)
	if m["name"] != nil || m["email"] != "new@example.com" {
		t.Errorf("%s", body)
	}
}

func TestLists_paging(t *testing.T) {
	w := newWorld(t)
	var ids []string // newest first
	for range 25 {
		ids = append([]string{w.customer().ID}, ids...)
	}
	list := func(query string) (got []string, more bool) {
		t.Helper()
		status, _, body := w.raw("GET", "/v1/customers?"+query, "", "")
		m := mustJSON(t, body)
		if status != 200 || m["object"] != "list" || m["url"] != "/v1/customers" {
			t.Fatalf("%d %s", status, body)
		}
		for _, item := range items(t, body) {
			got = append(got, as[string](t, item["id"]))
		}
		return got, as[bool](t, m["has_more"])
	}
	rows := []struct {
		name, query string
		want        []string
		more        bool
	}{
		{"default is ten", "", ids[:10], true},
		{"limit", "limit=3", ids[:3], true},
		{"after", "limit=3&starting_after=" + ids[2], ids[3:6], true},
		{"last page", "limit=10&starting_after=" + ids[14], ids[15:25], false},
		{"before is the page that ends there", "limit=3&ending_before=" + ids[10], ids[7:10], true},
		{"before, near the top", "limit=5&ending_before=" + ids[2], ids[:2], false},
		{"all", "limit=100", ids, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			got, more := list(row.query)
			if diff := cmp.Diff(row.want, got); diff != "" || more != row.more {
				t.Errorf("has_more %v, want %v\n%s", more, row.more, diff)
			}
		})
	}
	it := w.api.Customers.List(&stripe.CustomerListParams{})
	n := 0
	for it.Next() {
		n++
	}
	if n != 25 || it.Err() != nil {
		t.Errorf("stripe-go's iterator saw %d: %v", n, it.Err())
	}
	if status, _, body := w.raw("GET", "/v1/customers?starting_after=cus_none", "", ""); status != 400 || at(mustJSON(t, body), "error", "param") != "starting_after" {
		t.Errorf("unknown cursor: %d %s", status, body)
	}
}

func TestLists_created(t *testing.T) {
	w := newWorld(t)
	old := w.customer()
	w.advance("1h")
	young := w.customer()
	count := func(r *stripe.RangeQueryParams) []string {
		it := w.api.Customers.List(&stripe.CustomerListParams{CreatedRange: r})
		var ids []string
		for it.Next() {
			ids = append(ids, it.Customer().ID)
		}
		return ids
	}
	rows := []struct {
		name string
		r    stripe.RangeQueryParams
		want []string
	}{
		{"gt", stripe.RangeQueryParams{GreaterThan: old.Created}, []string{young.ID}},
		{"gte", stripe.RangeQueryParams{GreaterThanOrEqual: old.Created}, []string{young.ID, old.ID}},
		{"lt", stripe.RangeQueryParams{LesserThan: young.Created}, []string{old.ID}},
		{"lte", stripe.RangeQueryParams{LesserThanOrEqual: young.Created}, []string{young.ID, old.ID}},
	}
	for _, row := range rows {
		if got := count(&row.r); !slices.Equal(got, row.want) {
			t.Errorf("%s: %v, want %v", row.name, got, row.want)
		}
	}
}

func TestCustomers_list_by_email(t *testing.T) {
	w := newWorld(t)
	w.customer()
	other, err := w.api.Customers.New(&stripe.CustomerParams{Email: new("other@example.com")})
	if err != nil {
		t.Fatal(err)
	}
	it := w.api.Customers.List(&stripe.CustomerListParams{Email: new("other@example.com")})
	var ids []string
	for it.Next() {
		ids = append(ids, it.Customer().ID)
	}
	if !slices.Equal(ids, []string{other.ID}) {
		t.Errorf("%v", ids)
	}
}

func TestCustomers_delete(t *testing.T) {
	w := newWorld(t)
	cus := w.customer()
	m := w.saved(cus.ID, "pm_card_visa")
	gone, err := w.api.Customers.Del(cus.ID, nil)
	if err != nil || !gone.Deleted || gone.ID != cus.ID {
		t.Fatalf("%+v %v", gone, err)
	}
	again, err := w.api.Customers.Get(cus.ID, nil)
	if err != nil || !again.Deleted || again.Email != "" {
		t.Errorf("deleted customer: %+v %v", again, err)
	}
	_, err = w.api.Customers.Update(cus.ID, &stripe.CustomerParams{Name: new("x")})
	wantError(t, err, 404, stripe.ErrorTypeInvalidRequest, "resource_missing")
	_, err = w.api.Customers.Del(cus.ID, nil)
	wantError(t, err, 404, stripe.ErrorTypeInvalidRequest, "resource_missing")
	_, err = w.api.PaymentIntents.New(&stripe.PaymentIntentParams{Amount: stripe.Int64(100), Currency: new("usd"), Customer: &cus.ID})
	wantError(t, err, 400, stripe.ErrorTypeInvalidRequest, "resource_missing")
	if it := w.api.Customers.List(&stripe.CustomerListParams{}); it.Next() {
		t.Error("a deleted customer is listed")
	}
	if got, err := w.api.PaymentMethods.Get(m.ID, nil); err != nil || got.Customer != nil {
		t.Errorf("its card: %+v %v", got.Customer, err)
	}
	if got := w.event("customer.deleted").Data.Object["email"]; got != "jenny@example.com" {
		t.Errorf("the event shows the customer as it was: %v", got)
	}
}

func TestCustomers_default_method(t *testing.T) {
	w := newWorld(t)
	cus, other := w.customer(), w.customer()
	m := w.saved(cus.ID, "pm_card_visa")
	foreign := w.saved(other.ID, "pm_card_visa")
	set := func(id string) (*stripe.Customer, error) {
		return w.api.Customers.Update(cus.ID, &stripe.CustomerParams{InvoiceSettings: &stripe.CustomerInvoiceSettingsParams{DefaultPaymentMethod: new(id)}})
	}
	_, err := set(foreign.ID)
	wantError(t, err, 400, stripe.ErrorTypeInvalidRequest, "resource_missing")
	got, err := set(m.ID)
	if err != nil || got.InvoiceSettings.DefaultPaymentMethod.ID != m.ID {
		t.Fatalf("%+v %v", got.InvoiceSettings, err)
	}
	p := &stripe.CustomerParams{}
	p.AddExpand("invoice_settings.default_payment_method")
	got, err = w.api.Customers.Get(cus.ID, p)
	if err != nil || got.InvoiceSettings.DefaultPaymentMethod.Card.Last4 != "4242" {
		t.Errorf("expanded: %+v %v", got.InvoiceSettings.DefaultPaymentMethod, err)
	}
	if _, err := w.api.PaymentMethods.Detach(m.ID, nil); err != nil {
		t.Fatal(err)
	}
	got, err = w.api.Customers.Get(cus.ID, nil)
	if err != nil || got.InvoiceSettings.DefaultPaymentMethod != nil {
		t.Errorf("after detach: %+v %v", got.InvoiceSettings.DefaultPaymentMethod, err)
	}
}

func TestExpand(t *testing.T) {
	w := newWorld(t)
	cus := w.customer()
	m := w.saved(cus.ID, "pm_card_visa")
	pi := w.payment(cus.ID, m.ID)
	if _, err := w.confirmOffSession(pi.ID); err != nil {
		t.Fatal(err)
	}
	p := &stripe.PaymentIntentParams{}
	p.AddExpand("latest_charge.balance_transaction")
	p.AddExpand("latest_charge.refunds")
	p.AddExpand("customer")
	p.AddExpand("payment_method")
	got, err := w.api.PaymentIntents.Get(pi.ID, p)
	if err != nil {
		t.Fatal(err)
	}
	if got.LatestCharge.Amount != 4900 || got.LatestCharge.BalanceTransaction.Net != 4900-172 || got.LatestCharge.Refunds == nil ||
		got.Customer.Email != "jenny@example.com" || got.PaymentMethod.Card.Last4 != "4242" {
		t.Errorf("%+v", got)
	}
	lp := &stripe.PaymentIntentListParams{Customer: &cus.ID}
	lp.AddExpand("data.latest_charge.payment_intent")
	it := w.api.PaymentIntents.List(lp)
	if !it.Next() || it.PaymentIntent().LatestCharge.PaymentIntent.Amount != 4900 {
		t.Errorf("in a list: %v", it.Err())
	}
}

func TestAccount(t *testing.T) {
	w := newWorld(t)
	acct, err := w.api.Accounts.Get()
	if err != nil || !strings.HasPrefix(acct.ID, "acct_") || !acct.ChargesEnabled {
		t.Errorf("%+v %v", acct, err)
	}
	if _, err := w.confirmOffSession(w.payment("", "pm_card_visa").ID); err != nil {
		t.Fatal(err)
	}
	balance, err := w.api.Balance.Get(nil)
	if err != nil || len(balance.Pending) != 1 || balance.Pending[0].Amount != 4900-172 {
		t.Errorf("%+v %v", balance, err)
	}
}
