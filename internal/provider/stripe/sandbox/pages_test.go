package sandbox_test

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPages_paying(t *testing.T) {
	b := newBuyer(t)
	s := b.checkout()

	page := b.get(s.URL)
	if page.status != http.StatusOK {
		t.Fatalf("status %d: %s", page.status, page.body)
	}
	page.mustSay(t, "Pay Acme & Sons", "$49.00", "Pro plan", "Test mode", "This page is open for 23 hours")
	if !strings.Contains(page.body, `href="`+cancelURL+`"`) {
		t.Error("no link back to the cancel_url")
	}
	for field, autocomplete := range map[string]string{
		"cardNumber": "cc-number", "cardExpiry": "cc-exp", "cardCvc": "cc-csc", "billingName": "cc-name",
	} {
		if !strings.Contains(page.body, `<label for="`+field+`">`) {
			t.Errorf("no label for %s", field)
		}
		if !regexp.MustCompile(`<input id="` + field + `"[^>]* autocomplete="` + autocomplete + `"`).MatchString(page.body) {
			t.Errorf("browsers cannot fill in %s", field)
		}
	}

	action, _ := page.filled()
	paid := b.post(action, card("4242 4242 4242 4242"))
	if paid.status != http.StatusSeeOther || paid.location != thanks(s) {
		t.Fatalf("paid: %d to %q: %s", paid.status, paid.location, paid.body)
	}
	if got := b.status(s); got != "complete" {
		t.Errorf("session is %q", got)
	}

	again := b.post(action, card("4242424242424242"))
	if again.status != http.StatusSeeOther || again.location != thanks(s) {
		t.Errorf("the same form again: %d to %q", again.status, again.location)
	}
	if got := b.taken(); got != 1 {
		t.Errorf("money was taken %d times", got)
	}
	done := b.get(s.URL)
	if done.status != http.StatusOK || !strings.Contains(done.body, `href="`+html.EscapeString(thanks(s))+`"`) {
		t.Errorf("page of a paid session: %d: %s", done.status, done.text())
	}
	done.mustSay(t, "You have already paid", "$49.00")
}

func TestPages_declines(t *testing.T) {
	b := newBuyer(t)
	s := b.checkout()
	rows := []struct {
		name, number, says string
	}{
		{"generic", "4000000000000002", "Your card was declined. You have not been charged."},
		{"insufficient funds", "4000000000009995", "Your card has insufficient funds."},
		{"lost is not told", "4000000000009987", "Your card was declined. You have not been charged."},
		{"stolen is not told", "4000000000009979", "Your card was declined. You have not been charged."},
		{"expired", "4000000000000069", "Your card has expired."},
		{"wrong code", "4000000000000127", "security code (CVC) is incorrect"},
		{"processing error", "4000000000000119", "while your card was being processed"},
		{"too often", "4000000000006975", "used too often"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			page := b.post("/c/pay/"+s.ID, card(row.number))
			if page.status != http.StatusPaymentRequired {
				t.Errorf("status %d", page.status)
			}
			page.mustSay(t, row.says)
			if strings.Contains(page.body, "lost_card") || strings.Contains(page.body, "stolen_card") {
				t.Error("the page tells that the card is lost or stolen")
			}
			_, form := page.filled()
			form.Set("cardNumber", strings.ReplaceAll(form.Get("cardNumber"), " ", ""))
			want := card(row.number)
			want.Set("cardCvc", "")
			if diff := cmp.Diff(want, form); diff != "" {
				t.Errorf("the form was not kept, or the security code was (-want +got):\n%s", diff)
			}
		})
	}
	if got := b.taken(); got != 0 {
		t.Errorf("money was taken %d times", got)
	}
	if paid := b.post("/c/pay/"+s.ID, card("4242424242424242")); paid.location != thanks(s) {
		t.Errorf("after the declines: %d to %q", paid.status, paid.location)
	}
}

func TestPages_form_mistakes(t *testing.T) {
	b := newBuyer(t)
	s := b.checkout()
	rows := []struct {
		name, field, value, says string
	}{
		{"no number", "cardNumber", "", "Enter the number on your card."},
		{"short number", "cardNumber", "4242", "not complete"},
		{"letters", "cardNumber", "4242 4242 4242 424x", "not complete"},
		{"a digit mistyped", "cardNumber", "4242 4242 4242 4241", "not valid"},
		{"no expiry", "cardExpiry", "", "Enter the expiry date."},
		{"month 13", "cardExpiry", "13 / 39", "Write month and year"},
		{"past", "cardExpiry", "12 / 19", "it has passed"},
		{"no code", "cardCvc", "", "Enter the security code."},
		{"code of two digits", "cardCvc", "12", "3 or 4 digits"},
		{"code of another brand", "cardCvc", "1234", "3 digits on the back"},
		{"endless name", "billingName", strings.Repeat("x", 201), "too long"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			form := card("4242424242424242")
			form.Set(row.field, row.value)
			page := b.post("/c/pay/"+s.ID, form)
			if page.status != http.StatusUnprocessableEntity {
				t.Errorf("status %d", page.status)
			}
			atField := regexp.MustCompile(`aria-describedby="` + row.field + `-error"`)
			if !atField.MatchString(page.body) || strings.Count(page.body, `aria-invalid="true"`) != 1 {
				t.Errorf("the error does not stand at the field %s, or not there alone", row.field)
			}
			page.mustSay(t, row.says)
		})
	}
	if got := b.taken(); got != 0 {
		t.Errorf("money was taken %d times", got)
	}
}

func TestPages_3DS(t *testing.T) {
	t.Run("complete", func(t *testing.T) {
		b := newBuyer(t)
		s := b.checkout()
		asked := b.post("/c/pay/"+s.ID, card("4000002500003155"))
		if asked.status != http.StatusSeeOther || !strings.Contains(asked.location, "/3ds/") {
			t.Fatalf("%d to %q", asked.status, asked.location)
		}
		bank := b.get(asked.location)
		bank.mustSay(t, "Test Bank", "Acme & Sons", "$49.00", "Visa •••• 3155", "Complete authentication", "Fail authentication")
		action, _ := bank.filled()
		for range 2 { // a second click is harmless
			done := b.post(action, url.Values{"result": {"complete"}})
			if done.status != http.StatusSeeOther || done.location != thanks(s) {
				t.Errorf("%d to %q", done.status, done.location)
			}
		}
		if got := b.taken(); got != 1 {
			t.Errorf("money was taken %d times", got)
		}
		b.get(asked.location).mustSay(t, "already done")
	})
	for name, row := range map[string]struct{ number, result, says string }{
		"fail":                   {"4000002500003155", "fail", "could not confirm that it is you"},
		"declined after success": {"4000008260003178", "complete", "insufficient funds"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBuyer(t)
			s := b.checkout()
			asked := b.post("/c/pay/"+s.ID, card(row.number))
			action, _ := b.get(asked.location).filled()
			back := b.post(action, url.Values{"result": {row.result}})
			if back.status != http.StatusSeeOther || !strings.Contains(back.location, "/c/pay/"+s.ID) {
				t.Fatalf("%d to %q", back.status, back.location)
			}
			b.get(back.location).mustSay(t, row.says, "You have not been charged.", "Pay $49.00")
			if got := b.taken(); got != 0 {
				t.Errorf("money was taken %d times", got)
			}
			if paid := b.post("/c/pay/"+s.ID, card("4242424242424242")); paid.location != thanks(s) {
				t.Errorf("with another card: %d to %q", paid.status, paid.location)
			}
		})
	}
	t.Run("left behind", func(t *testing.T) {
		b := newBuyer(t)
		s := b.checkout()
		asked := b.post("/c/pay/"+s.ID, card("4000002500003155"))
		action, _ := b.get(asked.location).filled()
		if paid := b.post("/c/pay/"+s.ID, card("4242424242424242")); paid.location != thanks(s) {
			t.Fatalf("with another card: %d to %q", paid.status, paid.location)
		}
		if late := b.post(action, url.Values{"result": {"complete"}}); late.status != http.StatusNotFound || !strings.Contains(late.text(), "This step is over") {
			t.Errorf("the old step: %d: %s", late.status, late.text())
		}
		if got := b.taken(); got != 1 {
			t.Errorf("money was taken %d times", got)
		}
	})
	t.Run("neither", func(t *testing.T) {
		b := newBuyer(t)
		s := b.checkout()
		asked := b.post("/c/pay/"+s.ID, card("4000002500003155"))
		action, _ := b.get(asked.location).filled()
		if r := b.post(action, url.Values{"result": {"perhaps"}}); r.status != http.StatusBadRequest {
			t.Errorf("status %d", r.status)
		}
		b.get(asked.location).mustSay(t, "Complete authentication")
	})
}

func TestPages_3DS_of_a_payment_without_checkout(t *testing.T) {
	b := newBuyer(t)
	for _, result := range []string{"complete", "fail"} {
		t.Run(result, func(t *testing.T) {
			var payment struct {
				ID         string
				NextAction struct {
					RedirectToURL struct{ URL string } `json:"redirect_to_url"`
				} `json:"next_action"`
			}
			b.api(http.MethodPost, "/v1/payment_intents", url.Values{
				"amount": {"1200"}, "currency": {"eur"}, "payment_method": {"pm_card_authenticationRequired"}, "payment_method_types[]": {"card"},
				"confirm": {"true"}, "return_url": {"https://shop.example/back"}, "description": {"Top-up"},
			}, &payment)
			bank := b.get(payment.NextAction.RedirectToURL.URL)
			bank.mustSay(t, "€12.00", "Top-up", "Visa •••• 3184")
			action, _ := bank.filled()
			to := b.post(action, url.Values{"result": {result}})
			if to.status != http.StatusSeeOther || !strings.HasPrefix(to.location, "https://shop.example/back?payment_intent="+payment.ID) ||
				strings.Contains(to.location, "declined=") {
				t.Errorf("%d to %q", to.status, to.location)
			}
		})
	}
	if got := b.taken(); got != 1 {
		t.Errorf("money was taken %d times", got)
	}
}

func TestPages_saving_a_card(t *testing.T) {
	b := newBuyer(t)
	s := b.setup()
	page := b.get(s.URL)
	page.mustSay(t, "Save a card", "Nothing is charged today", "jenny@example.com")
	if strings.Contains(page.text(), "$") {
		t.Errorf("an amount on a page that charges nothing: %s", page.text())
	}
	b.post("/c/pay/"+s.ID, card("4000000000000002")).mustSay(t, "Your card was declined. The card has not been saved.")
	asked := b.post("/c/pay/"+s.ID, card("4000002500003155"))
	bank := b.get(asked.location)
	bank.mustSay(t, "Confirm this card", "nothing is charged")
	action, _ := bank.filled()
	if done := b.post(action, url.Values{"result": {"complete"}}); done.location != thanks(s) {
		t.Errorf("%d to %q: %s", done.status, done.location, done.text())
	}
	if got := b.status(s); got != "complete" {
		t.Errorf("session is %q", got)
	}
	b.get(s.URL).mustSay(t, "Your card is saved")
}

func TestPages_test_cards_without_script(t *testing.T) {
	b := newBuyer(t)
	for mode, open := range map[string]func(...string) session{"payment": b.checkout, "setup": b.setup} {
		t.Run(mode, func(t *testing.T) {
			links := cardLink.FindAllStringSubmatch(b.get(open().URL).body, -1)
			if len(links) < 10 {
				t.Fatalf("%d test cards offered", len(links))
			}
			for _, link := range links {
				number := regexp.MustCompile(`card=(\d+)`).FindStringSubmatch(link[2])[1]
				t.Run(number, func(t *testing.T) { b.followCard(t, open(), number, link[1]) })
			}
		})
	}
	other := b.get("/c/pay/" + b.checkout().ID + "?card=4111111111111111")
	if _, form := other.filled(); form.Get("cardNumber") != "" {
		t.Error("a link filled in a card that is no test card")
	}
}

// followCard opens the link of a test card, sends the form as it then stands, and expects what the card promises.
func (b *buyer) followCard(t *testing.T, s session, number, outcome string) {
	t.Helper()
	href := regexp.MustCompile(`href="(/c/pay/[^"]*` + number + `[^"]*)"`).FindStringSubmatch(b.get(s.URL).body)
	if href == nil {
		t.Fatal("the card is not offered")
	}
	action, form := b.get(html.UnescapeString(href[1])).filled()
	if got := strings.ReplaceAll(form.Get("cardNumber"), " ", ""); got != number {
		t.Errorf("filled in %q", got)
	}
	sent := b.post(action, form)
	kept := false
	switch outcome {
	case "good", "later":
		kept = sent.status == http.StatusSeeOther && sent.location == thanks(s)
	case "ask":
		kept = sent.status == http.StatusSeeOther && strings.Contains(sent.location, "/3ds/")
	case "bad":
		kept = sent.status == http.StatusPaymentRequired
	}
	if !kept {
		t.Errorf("the card promises %q: %d to %q: %s", outcome, sent.status, sent.location, sent.text())
	}
}

func TestPages_closed_sessions(t *testing.T) {
	b := newBuyer(t)
	for path, says := range map[string]string{"/c/pay/cs_test_unknown": "This page does not exist", "/3ds/unknown": "This step is over"} {
		if r := b.get(path); r.status != http.StatusNotFound || !strings.Contains(r.text(), says) {
			t.Errorf("GET %s: %d: %s", path, r.status, r.text())
		}
		form := card("4242424242424242")
		form.Set("result", "complete")
		if r := b.post(path, form); r.status != http.StatusNotFound {
			t.Errorf("POST %s: %d", path, r.status)
		}
	}

	expired := map[string]session{"by the app": b.checkout(), "by its age": b.checkout()}
	b.api(http.MethodPost, "/v1/checkout/sessions/"+expired["by the app"].ID+"/expire", url.Values{}, nil)
	b.advance("25h")
	for name, s := range expired {
		t.Run(name, func(t *testing.T) {
			for _, r := range []reply{b.get(s.URL), b.post("/c/pay/"+s.ID, card("4242424242424242"))} {
				if r.status != http.StatusGone || !strings.Contains(r.body, `href="`+cancelURL+`"`) {
					t.Errorf("status %d: %s", r.status, r.text())
				}
				r.mustSay(t, "This page has expired", "you have not been charged")
			}
		})
	}
	if got := b.taken(); got != 0 {
		t.Errorf("money was taken %d times", got)
	}
}

func TestPages_amounts(t *testing.T) {
	b := newBuyer(t)
	for currency, row := range map[string]struct{ minor, shown string }{
		"jpy": {"4900", "Pay ¥4,900"},
		"bhd": {"1234560", "Pay BHD\u00a01,234.560"},
		"eur": {"100000", "Pay €1,000.00"},
	} {
		s := b.checkout("line_items[0][price_data][currency]", currency, "line_items[0][price_data][unit_amount]", row.minor)
		if page := b.get(s.URL); !strings.Contains(page.body, row.shown) {
			t.Errorf("%s %s: no %q on the page: %s", row.minor, currency, row.shown, page.text())
		}
	}
}

func TestPages_escape_what_the_app_wrote(t *testing.T) {
	b := newBuyer(t)
	s := b.checkout("line_items[0][price_data][product_data][name]", `<script>alert("x")</script>`)
	asked := b.post("/c/pay/"+s.ID, card("4000002500003155"))
	wrong := card(`"><script>alert(1)</script>`)
	wrong.Set("billingName", `"><script>alert(2)</script>`)
	for _, r := range []reply{b.get(s.URL), b.get(asked.location), b.get("/"), b.post("/c/pay/"+s.ID, wrong), b.get(s.URL + "?declined=<script>alert(3)")} {
		if strings.Contains(r.body, "<script>") || !strings.Contains(r.body, "&lt;script&gt;") {
			t.Errorf("not escaped: %s", r.body)
		}
	}
}

func TestPages_headers(t *testing.T) {
	b := newBuyer(t)
	s := b.checkout()
	asked := b.post("/c/pay/"+s.ID, card("4000002500003155"))
	pages := []reply{b.get("/"), b.get(s.URL), b.get(asked.location), b.get("/c/pay/unknown"), b.post("/c/pay/"+s.ID, card(""))}
	for _, r := range pages {
		policy := r.header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("Content-Security-Policy %q", policy)
		}
		for name, want := range map[string]string{
			"X-Frame-Options": "DENY", "Referrer-Policy": "same-origin", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
			"Content-Type": "text/html; charset=utf-8",
		} {
			if got := r.header.Get(name); got != want {
				t.Errorf("%s is %q", name, got)
			}
		}
		for _, inline := range []string{" style=", "<style", " onclick=", " onsubmit="} {
			if strings.Contains(r.body, inline) {
				t.Errorf("the page has %q, which its own policy forbids", inline)
			}
		}
		for _, m := range regexp.MustCompile(`(?:src|href)="(/static/[^"]+)"`).FindAllStringSubmatch(r.body, -1) {
			file := b.get(m[1])
			if file.status != http.StatusOK || !strings.Contains(file.header.Get("Cache-Control"), "immutable") {
				t.Errorf("%s: %d, Cache-Control %q", m[1], file.status, file.header.Get("Cache-Control"))
			}
		}
		if strings.Contains(r.body, `"//`) || regexp.MustCompile(`(?:src|<link[^>]*href)="https?:`).MatchString(r.body) {
			t.Error("the page loads something from elsewhere")
		}
	}
	if r := b.get("/static/none.css"); r.status != http.StatusNotFound {
		t.Errorf("unknown file: %d", r.status)
	}
}

func TestPages_refuse_forms_of_other_sites(t *testing.T) {
	b := newBuyer(t)
	s := b.checkout()
	for _, header := range []http.Header{{"Origin": {"https://evil.example"}}, {"Sec-Fetch-Site": {"cross-site"}}} {
		if r := b.send(http.MethodPost, "/c/pay/"+s.ID, card("4242424242424242"), header); r.status != http.StatusForbidden {
			t.Errorf("%v: status %d", header, r.status)
		}
	}
	huge := card("4242424242424242")
	huge.Set("billingName", strings.Repeat("x", 1<<20))
	if r := b.post("/c/pay/"+s.ID, huge); r.status != http.StatusBadRequest {
		t.Errorf("a form of 1 MiB: %d", r.status)
	}
	if got := b.status(s); got != "open" {
		t.Errorf("session is %q", got)
	}
}

func TestPages_landing(t *testing.T) {
	b := newBuyer(t)
	b.get("/").mustSay(t, "PayKit sandbox", "None yet", "/v1/checkout/sessions", "/_sandbox/ledger")
	open, paid := b.checkout(), b.checkout()
	b.post("/c/pay/"+paid.ID, card("4242424242424242"))
	page := b.get("/")
	page.mustSay(t, "Pro plan", "$49.00", "open", "complete")
	var order []string
	for _, m := range regexp.MustCompile(`href="/c/pay/([^"]+)"`).FindAllStringSubmatch(page.body, -1) {
		order = append(order, m[1])
	}
	if want := []string{paid.ID, open.ID}; !slices.Equal(order, want) {
		t.Errorf("sessions %v, want the newest first: %v", order, want)
	}
}
