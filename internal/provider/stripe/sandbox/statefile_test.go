package sandbox_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stripe/stripe-go/v76"

	"github.com/paykit-go/paykit/internal/provider/stripe/sandbox"
)

// shown is what the API answers about everything that it lists.
func (w *world) shown() string {
	w.t.Helper()
	var b strings.Builder
	for _, path := range []string{
		"customers", "payment_intents", "setup_intents", "charges", "checkout/sessions", "refunds", "disputes", "radar/early_fraud_warnings",
		"events?limit=100", "webhook_endpoints", "balance",
	} {
		_, _, body := w.raw("GET", "/v1/"+path, "", "")
		fmt.Fprintf(&b, "%s %s", path, body)
		if path == "customers" {
			for _, cus := range items(w.t, body) {
				_, _, methods := w.raw("GET", "/v1/payment_methods?customer="+as[string](w.t, cus["id"]), "", "")
				b.Write(methods)
			}
		}
	}
	return b.String()
}

// A checkout that is paid with 3-D Secure and a later charge of the saved card, with the sandbox ended between any two
// steps, by the book and by a kill.
func TestState_every_step(t *testing.T) {
	for name, end := range map[string]func(*world){"restarted": (*world).restart, "killed": (*world).kill} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, slowly)
			step := func() {
				t.Helper()
				before, books := w.shown(), w.ledger()
				end(w)
				if after := w.shown(); after != before {
					t.Errorf("shown before\n%s\nand after\n%s", before, after)
				}
				if after := w.ledger(); fmt.Sprint(after) != fmt.Sprint(books) {
					t.Errorf("the books say %+v, then %+v", books, after)
				}
			}
			step()
			cus := w.customer().ID
			step()
			p := sessionParams(cus)
			p.PaymentIntentData.SetupFutureUsage = new("off_session")
			cs := w.checkout(p)
			step()
			w.submitPage(cs.ID, "4000002500003155")
			pi := w.sessionPayment(cs.ID)
			step()
			if status := w.control("POST", "/_sandbox/3ds/"+pi, `{"outcome":"complete"}`, nil); status != 200 {
				t.Fatalf("3-D Secure: %d", status)
			}
			step()
			got, err := w.api.CheckoutSessions.Get(cs.ID, nil)
			if err != nil || got.Status != "complete" || got.PaymentStatus != "paid" {
				t.Fatalf("%+v %v", got, err)
			}
			it := w.api.PaymentMethods.List(&stripe.PaymentMethodListParams{Customer: &cus})
			if !it.Next() {
				t.Fatalf("no card is saved: %v", it.Err())
			}
			later := w.payment(cus, it.PaymentMethod().ID)
			step()
			charged, err := w.confirmOffSession(later.ID) // the card was set up: it needs no 3-D Secure any more
			if err != nil || charged.Status != "succeeded" {
				t.Fatalf("%+v %v", charged, err)
			}
			step()
			if n := w.captures(); n != 2 {
				t.Errorf("%d captures", n)
			}
			if _, err := w.api.Customers.Del(cus, nil); err != nil {
				t.Fatal(err)
			}
			step()
		})
	}
}

// submitPage posts the form of a session's page.
func (w *world) submitPage(session, card string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.base+"/c/pay/"+session,
		strings.NewReader("cardNumber="+card+"&cardExpiry=12/34&cardCvc=123&billingName=Jenny+Rosen"))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSeeOther {
		w.t.Fatalf("the page: %d", resp.StatusCode)
	}
}

// sessionPayment is the payment of a session whose page was submitted.
func (w *world) sessionPayment(session string) string {
	w.t.Helper()
	cs, err := w.api.CheckoutSessions.Get(session, nil)
	if err != nil || cs.PaymentIntent == nil {
		w.t.Fatalf("%+v %v", cs, err)
	}
	return cs.PaymentIntent.ID
}

// What time brings comes after a restart too, also when its time came while nothing ran.
func TestState_time(t *testing.T) {
	now := time.Now()
	var moving sync.Mutex
	w := newWorld(t, slowly, func(c *sandbox.Config) {
		c.Now = func() time.Time {
			moving.Lock()
			defer moving.Unlock()
			return now
		}
	})
	cs := w.checkout(sessionParams(""))
	pending := w.paid("pm_card_pendingRefund")
	r, err := w.api.Refunds.New(&stripe.RefundParams{PaymentIntent: &pending.ID})
	if err != nil || r.Status != "pending" {
		t.Fatalf("%+v %v", r, err)
	}
	disputed := w.paid("pm_card_createDispute")
	suspicious := w.paid("pm_card_createIssuerFraudRecord")
	w.advance("30m") // the clock itself is kept
	w.kill()
	if got := w.eventTypes("refund.updated", "charge.dispute.created", "radar.early_fraud_warning.created", "checkout.session.expired"); got != nil {
		t.Errorf("too early: %v", got)
	}
	w.stop()
	moving.Lock()
	now = now.Add(31 * time.Minute)
	moving.Unlock()
	w.begin()
	if got, err := w.api.Refunds.Get(r.ID, nil); err != nil || got.Status != "succeeded" {
		t.Errorf("%+v %v", got, err)
	}
	d := w.dispute(disputed)
	if _, err := w.api.Disputes.Update(d.ID, &stripe.DisputeParams{Evidence: &stripe.DisputeEvidenceParams{UncategorizedText: new("winning_evidence")}}); err != nil {
		t.Fatal(err)
	}
	if e := w.event("radar.early_fraud_warning.created"); e.Data.Object["charge"] != suspicious.LatestCharge.ID {
		t.Errorf("%+v", e)
	}
	w.kill()
	w.advance("24h")
	if got, err := w.api.Disputes.Get(d.ID, nil); err != nil || got.Status != "won" {
		t.Errorf("%+v %v", got, err)
	}
	if got, err := w.api.CheckoutSessions.Get(cs.ID, nil); err != nil || got.Status != "expired" {
		t.Errorf("%+v %v", got, err)
	}
	w.restart()
	if got := w.eventTypes("checkout.session.expired"); len(got) != 1 {
		t.Errorf("expired %d times", len(got))
	}
}

func TestState_idempotency(t *testing.T) {
	w := newWorld(t)
	const form = "amount=4900&currency=usd&confirm=true&payment_method=pm_card_visa&payment_method_types[]=card"
	status, _, first := w.raw("POST", "/v1/payment_intents", form, "key-1")
	if status != 200 {
		t.Fatalf("%d %s", status, first)
	}
	w.kill()
	status, head, again := w.raw("POST", "/v1/payment_intents", form, "key-1")
	if status != 200 || !bytes.Equal(first, again) || head.Get("Idempotent-Replayed") != "true" {
		t.Errorf("%d %v %s, at first %s", status, head, again, first)
	}
	if status, _, body := w.raw("POST", "/v1/payment_intents", form+"&description=other", "key-1"); status != 400 || at(mustJSON(t, body), "error", "type") != "idempotency_error" {
		t.Errorf("%d %s", status, body)
	}
	if n := w.captures(); n != 1 {
		t.Errorf("%d captures", n)
	}
	w.advance("25h")
	w.restart()
	if _, head, _ := w.raw("POST", "/v1/payment_intents", form, "key-1"); head.Get("Idempotent-Replayed") != "" {
		t.Error("the key outlived its day")
	}
	if n := w.captures(); n != 2 {
		t.Errorf("%d captures", n)
	}
}

// What was not delivered is delivered after a restart, once, by the address and secret of that time.
func TestState_deliveries(t *testing.T) {
	w := newWorld(t)
	down := newReceiver(t, "whsec_old")
	down.answer = func(int, *stripe.Event) int { return http.StatusServiceUnavailable }
	id := w.sand.SetWebhookEndpoint("start", down.url, "whsec_old")
	w.customer()
	down.next(t)
	w.kill()
	up := newReceiver(t, "whsec_new")
	if again := w.sand.SetWebhookEndpoint("start", up.url, "whsec_new"); again != id {
		t.Errorf("the endpoint was %s and is %s", id, again)
	}
	w.advance("1m")
	if e := up.next(t); e.Type != "customer.created" {
		t.Errorf("delivered %s", e.Type)
	}
	w.until("the delivery is settled", func() bool { return w.event("customer.created").PendingWebhooks == 0 })
	w.kill()
	w.sand.SetWebhookEndpoint("start", up.url, "whsec_new")
	w.paid("pm_card_visa")
	var types []string
	for range 3 {
		types = append(types, string(up.next(t).Type))
	}
	slices.Sort(types)
	if want := []string{"charge.succeeded", "payment_intent.created", "payment_intent.succeeded"}; !slices.Equal(types, want) {
		t.Errorf("delivered %v, want %v: an accepted delivery came again, or one is missing", types, want)
	}
	up.quiet(t)
	if _, _, body := w.raw("GET", "/v1/webhook_endpoints", "", ""); len(items(t, body)) != 1 {
		t.Errorf("%s", body)
	}
}

// A step that was cut off in the middle of its line never happened; the steps before it did.
func TestState_cut_off(t *testing.T) {
	w := newWorld(t)
	cus := w.customer().ID
	w.saved(cus, "pm_card_visa")
	before, _ := w.left()
	w.advance("1h")
	after, _ := w.left()
	if _, err := w.api.Customers.Update(cus, &stripe.CustomerParams{Name: new("Other")}); err != nil {
		t.Fatal(err)
	}
	last, whole := w.left()
	steps := strings.SplitAfter(whole, "\n")
	small, big := steps[len(steps)-3], steps[len(steps)-2]
	if !strings.Contains(small, `"clock"`) || !strings.Contains(big, `"customer.updated"`) {
		t.Fatalf("the last steps are %s and %s", small, big)
	}
	upTo := strings.TrimSuffix(whole, small+big)
	for n := range len(small) {
		w.reopens(upTo+small[:n], before)
	}
	w.reopens(upTo+small, after)
	for n := 0; n < len(big); n += 61 {
		w.reopens(upTo+small+big[:n], after)
	}
	w.reopens(upTo+small+big[:len(big)-1], after)
	w.reopens(whole, last)
}

// left is what a kill would leave, as the sandbox has it and as the file does.
func (w *world) left() (rows, content string) {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), "left.jsonl")
	if diff, err := w.sand.KillNow(file); err != nil || diff != "" {
		w.t.Fatalf("%v %s", err, diff)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.sand.Rows(), string(b)
}

// reopens starts a sandbox on a file, twice, and compares what it makes of it.
func (w *world) reopens(content, want string) {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), "cut.jsonl")
	for range 2 {
		got, aside := reopen(w.t, file, content)
		if aside != "" {
			w.t.Fatalf("%s was put aside", aside)
		}
		if got != want {
			w.t.Fatalf("got\n%s\nwant\n%s", got, want)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			w.t.Fatal(err)
		}
		content = string(b)
	}
}

// reopen starts a sandbox on a file of that content and returns what it then holds, and the name of the file put aside.
func reopen(t *testing.T, file, content string) (rows, aside string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	sand, err := sandbox.New(sandbox.Config{StateFile: file, Logger: zerolog.New(&log)})
	if err != nil {
		t.Fatal(err)
	}
	defer sand.Close()
	found, err := filepath.Glob(file + ".*")
	if err != nil || len(found) > 1 {
		t.Fatalf("%v %v", found, err)
	}
	if len(found) == 1 {
		aside = found[0]
	}
	if warned := strings.Contains(log.String(), `"level":"warn"`); warned != (aside != "") {
		t.Errorf("aside %q, the log says %q", aside, log.String())
	}
	return sand.Rows(), aside
}

// A file that is mostly past is written anew at a start; what a crash left of an earlier attempt is in nobody's way.
func TestState_rewritten(t *testing.T) {
	w := newWorld(t)
	cus := w.customer().ID
	hook := w.sand.AddWebhookEndpoint("http://127.0.0.1:9/", "whsec_x")
	for n := range 200 {
		if status, _, body := w.raw("POST", "/v1/webhook_endpoints/"+hook, "description="+strings.Repeat(fmt.Sprint(n), 300), ""); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
	}
	rows, content := w.left()
	if err := os.WriteFile(w.cfg.StateFile+".new", []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.restart()
	now, short := w.left()
	if now != rows || len(short) > len(content)/20 {
		t.Errorf("%d bytes became %d, the same rows: %v", len(content), len(short), now == rows)
	}
	if found, err := filepath.Glob(w.cfg.StateFile + ".*"); err != nil || len(found) > 0 {
		t.Errorf("%v %v", found, err)
	}
	w.saved(cus, "pm_card_visa")
	w.kill()
	if _, again := w.left(); !strings.HasPrefix(again, short) {
		t.Error("a file that is not mostly past was written anew")
	}
}

// A file that can't be used is put aside as it is, and the sandbox is empty.
func TestState_damaged(t *testing.T) {
	w := newWorld(t)
	w.saved(w.customer().ID, "pm_card_visa")
	w.paid("pm_card_visa")
	_, whole := w.left()
	lines := strings.SplitAfter(whole, "\n")
	empty, _ := reopen(t, filepath.Join(t.TempDir(), "none.jsonl"), "")
	for name, content := range map[string]string{
		"another version":     strings.Replace(whole, `"version":1`, `"version":2`, 1),
		"another format":      "hello\n",
		"no whole line":       `{"format":"paykit`,
		"a changed byte":      strings.Replace(whole, "jenny@", "penny@", 1),
		"a changed sum":       strings.Replace(whole, `{"sum":"`, `{"sum":"x`, 1),
		"a line missing":      strings.Join(slices.Delete(slices.Clone(lines), 3, 4), ""),
		"a line twice":        strings.Join(slices.Insert(slices.Clone(lines), 3, lines[3]), ""),
		"lines in a row":      strings.Join(lines[:3], "") + lines[4] + lines[3] + strings.Join(lines[5:], ""),
		"nothing but zeros":   strings.Repeat("\x00", 100) + "\n",
		"an empty line":       lines[0] + "\n" + strings.Join(lines[1:], ""),
		"the beginning":       strings.Join(lines[1:], ""),
		"zeros where it ends": whole + strings.Repeat("\x00", 10) + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			got, aside := reopen(t, filepath.Join(t.TempDir(), "state.jsonl"), content)
			if got != empty {
				t.Errorf("it holds %s", got)
			}
			kept, err := os.ReadFile(aside)
			if err != nil || string(kept) != content {
				t.Errorf("aside: %v %s", err, kept)
			}
		})
	}
}

func TestState_one_at_a_time(t *testing.T) {
	w := newWorld(t)
	w.customer()
	_, before := w.left()
	if _, err := sandbox.New(w.cfg); !errors.Is(err, sandbox.ErrInUse) {
		t.Errorf("a second sandbox on the file: %v", err)
	}
	if _, after := w.left(); after != before {
		t.Error("it changed the file")
	}
	w.restart()
}

// Nothing is told before it is kept: whatever was answered is in the file at that moment, and complete.
func TestState_kept_before_answered(t *testing.T) {
	w := newWorld(t)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 10 {
				_, _, body := w.raw("POST", "/v1/customers", "name=Jenny", "")
				b, err := os.ReadFile(w.cfg.StateFile)
				if err != nil {
					t.Error(err)
				}
				whole := b[:bytes.LastIndexByte(b, '\n')+1]
				if id := as[string](t, mustJSON(t, body)["id"]); !bytes.Contains(whole, []byte(`"put":"customers","id":"`+id+`"`)) {
					t.Errorf("%s was answered and is not kept", id)
				}
			}
		})
	}
	group.Wait()
}

// When the file can't be written any more, callers see no answer at all, and Run says why.
func TestState_not_writable(t *testing.T) {
	sand, err := sandbox.New(sandbox.Config{StateFile: filepath.Join(t.TempDir(), "state.jsonl")})
	if err != nil {
		t.Fatal(err)
	}
	defer sand.Close()
	ended := make(chan error, 1)
	go func() { ended <- sand.Run(t.Context()) }()
	w := newWorld(t, func(c *sandbox.Config) { c.StateFile = "" })
	kept := w.now.Swap(sand)
	defer w.now.Store(kept)
	w.customer()
	if err := sand.BreakState(); err != nil {
		t.Fatal(err)
	}
	if cus, err := w.api.Customers.New(&stripe.CustomerParams{}); err == nil {
		t.Errorf("answered %s", cus.ID)
	} else if se, ok := errors.AsType[*stripe.Error](err); ok {
		t.Errorf("answered %v", se)
	}
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "state.jsonl") {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(longEnough):
		t.Fatal("Run goes on")
	}
}

// Pages are where the sandbox is, not where it was.
func TestState_moves(t *testing.T) {
	w := newWorld(t)
	w.cfg.BaseURL = w.base
	w.restart()
	cus := w.customer().ID
	p := sessionParams(cus)
	p.SetIdempotencyKey("session-1")
	cs := w.checkout(p)
	w.submitPage(cs.ID, "4000002760003184")
	pi := w.sessionPayment(cs.ID)
	left := filepath.Join(t.TempDir(), "left.jsonl")
	if diff, err := w.sand.KillNow(left); err != nil || diff != "" {
		t.Fatalf("%v %s", err, diff)
	}
	there := newWorld(t, func(c *sandbox.Config) { c.StateFile = "" })
	there.stop()
	there.cfg.StateFile, there.cfg.BaseURL = left, there.base
	there.begin()
	moved, err := there.api.CheckoutSessions.Get(cs.ID, nil)
	if err != nil || moved.URL != there.base+"/c/pay/"+cs.ID {
		t.Fatalf("%s %v", moved.URL, err)
	}
	if again := there.checkout(p); again.URL != moved.URL || again.ID != cs.ID {
		t.Errorf("the key still gives %s", again.URL)
	}
	got, err := there.api.PaymentIntents.Get(pi, nil)
	if err != nil || !strings.HasPrefix(got.NextAction.RedirectToURL.URL, there.base+"/3ds/") || got.NextAction.RedirectToURL.ReturnURL != moved.URL {
		t.Errorf("%+v %v", got.NextAction, err)
	}
	if status, body := there.complete(cs.ID, "4242424242424242"); status != 200 {
		t.Errorf("%d %v", status, body)
	}
	if cs, err := w.api.CheckoutSessions.Get(cs.ID, nil); err != nil || !strings.HasPrefix(cs.URL, w.base) {
		t.Errorf("%+v %v", cs, err)
	}
}

// Card numbers are not written down.
func TestState_no_card_numbers(t *testing.T) {
	w := newWorld(t)
	cus := w.customer().ID
	status, _, body := w.raw("POST", "/v1/payment_methods", "type=card&card[number]=4111111111111111&card[exp_month]=12&card[exp_year]=2044&card[cvc]=987", "key-1")
	if status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	w.submitPage(w.checkout(sessionParams(cus)).ID, "5555 5555 5555 4444")
	w.kill()
	if _, err := w.api.PaymentMethods.Attach(as[string](t, mustJSON(t, body)["id"]), &stripe.PaymentMethodAttachParams{Customer: &cus}); err != nil {
		t.Error(err)
	}
	_, whole := w.left()
	for _, secret := range []string{"41111111", "55555555", "5555 5555"} {
		if strings.Contains(whole, secret) {
			t.Errorf("%q is in the state file", secret)
		}
	}
	if info, err := os.Stat(w.cfg.StateFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}
