package explain_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/explain"
)

func at(d time.Duration) time.Time {
	return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Add(d)
}

// told is a story with all that a tree can show.
func told() *explain.Story {
	call := func(operation, outcome string, attempt, status int, key string) *eventlog.Call {
		return &eventlog.Call{
			Operation: operation, Outcome: outcome, Attempt: attempt, Status: status, IdempotencyKey: key, RequestID: "req_" + outcome, DurationMs: 12,
		}
	}
	const long = "paykit:env_1:chg_00000000000000000000000000:cancel:pi_0000000000000000000000:01M8MAYEXZ8Q7GX94XTVZWNMW2"
	session := call("checkout_sessions.create", "ok", 1, 200, "")
	session.ObjectID = "cs_test_" + strings.Repeat("a", 58)
	replayed := call("payment_intents.confirm", "declined", 2, 402, long)
	replayed.Code, replayed.DeclineCode, replayed.Replayed, replayed.ObjectID = "card_declined", "generic_decline", true, "pi_1"
	lost := call("payment_intents.create", "in_doubt", 1, 0, "paykit:env_1:chg_0:create")
	lost.RequestID = ""
	return &explain.Story{
		ID: "chg_0", Entity: "charge", EntityID: "chg_0", Status: "failed", Detail: "19.00 USD", CustomerID: "cust_0", ReferenceID: "user_1",
		Notes:      []string{"found by a search"},
		References: []explain.Reference{{Entity: "payment_method", ID: "meth_0", Status: "attached", Detail: "visa …4242"}},
		Nodes: []explain.Node{
			{Time: at(0), Kind: explain.KindEvent, ID: "E0", Type: "checkout.requested", EntityID: "chk_0", Sequence: 7},
			{Time: at(time.Millisecond), Kind: explain.KindCommand, ID: "cmd_0", Type: "charge.create"},
			{Time: at(time.Millisecond), Kind: explain.KindEvent, ID: "E1", Type: "charge.requested", Parent: "cmd_0", Version: 1, Sequence: 8},
			{Time: at(2 * time.Millisecond), Kind: explain.KindCall, ID: "call 1", Parent: "E1", Call: lost},
			{Time: at(time.Second), Kind: explain.KindCall, ID: "call 2", Parent: "E1", Call: session},
			{Time: at(2 * time.Minute), Kind: explain.KindCall, ID: "call 3", Parent: "E1", Asked: true, Call: replayed},
			{
				Time: at(2*time.Minute + time.Second), Kind: explain.KindDelivery, ID: "evt_1", Parent: "call 3", Type: "payment_intent.payment_failed",
				Result: "changed", LedTo: []string{"checkout.failed chk_0"},
			},
			{Time: at(26 * time.Hour), Kind: explain.KindEvent, ID: "E2", Type: "charge.failed", Parent: "evt_1", Version: 2, Sequence: 9, Detail: "card_declined generic_decline"},
			{Time: at(200 * time.Hour), Kind: explain.KindDead, ID: "dead 3", Parent: "E2", Stage: "worker", Letter: "retry by ana", Reason: "customers.update: invalid"},
			{Kind: explain.KindView, ID: "view charges", Parent: "E2", Sequence: 9, Status: "failed"},
		},
	}
}

const tree = `chg_0 failed 19.00 USD
customer cust_0 (user_1)
note: found by a search
idempotency keys: … stands for paykit:env_1:

2026-03-01 12:00:00.000 UTC
  +0.000 s  event    checkout.requested chk_0 #7
  +0.001 s  command  charge.create cmd_0
  +0.001 s  event    └─ charge.requested v1 #8 E1
  +0.002 s  call        ├─ payment_intents.create attempt 1  in_doubt  12 ms
                        │    key …chg_0:create
  +1.000 s  call        ├─ checkout_sessions.create attempt 1  200 ok  12 ms
                        │    req_ok
                        │    → cs_test_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
    +2m00s >call        └─ payment_intents.confirm attempt 2  402 declined  12 ms
                           │ card_declined generic_decline replayed
                           │ req_declined → pi_1
                           │ key …chg_00000000000000000000000000:cancel:pi_0000000000000000000000:
                           │     01M8MAYEXZ8Q7GX94XTVZWNMW2
    +2m01s  delivery       └─ payment_intent.payment_failed evt_1  → checkout.failed chk_0
   +26h00m  event             └─ charge.failed v2 #9 E2  card_declined generic_decline
    +8d08h  dead                 ├─ dead 3 set aside by worker: retry by ana
                                 │    customers.update: invalid
            view                 └─ charges as of #9 failed

payment method    meth_0  attached   visa …4242
`

func TestTree(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := explain.WriteTree(&out, told(), nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tree, out.String()); diff != "" {
		t.Errorf("the tree (-want +got):\n%s", diff)
	}
	for line := range strings.Lines(out.String()) {
		if utf8.RuneCountInString(line) > explain.Width+1 {
			t.Errorf("too long: %s", line)
		}
	}
}

// On a terminal the kinds are dressed up, and nothing else changes.
func TestTreeOnATerminal(t *testing.T) {
	t.Parallel()
	var plain, styled strings.Builder
	if err := explain.WriteTree(&plain, told(), nil); err != nil {
		t.Fatal(err)
	}
	if err := explain.WriteTree(&styled, told(), func(k explain.Kind, text string) string { return "\x1b[" + string(k) + "m" + text + "\x1b[0m" }); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(styled.String(), "\x1b[callmcall    \x1b[0m") {
		t.Errorf("nothing is dressed up:\n%s", styled.String())
	}
	text := styled.String()
	for _, k := range []explain.Kind{explain.KindCommand, explain.KindEvent, explain.KindCall, explain.KindDelivery, explain.KindDead, explain.KindView} {
		text = strings.ReplaceAll(text, "\x1b["+string(k)+"m", "")
	}
	if diff := cmp.Diff(plain.String(), strings.ReplaceAll(text, "\x1b[0m", "")); diff != "" {
		t.Errorf("more than the kinds (-plain +styled):\n%s", diff)
	}
}
