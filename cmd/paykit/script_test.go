package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"paykit": main})
}

// Scripts run the program as a person would. Each has ports of its own in $NATS_PORT, $HTTP_PORT and $SANDBOX_PORT.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/script",
		Setup: setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await": await, "publish": publish, "readme": readme, "retry": retry,
			"undelivered_refund": undeliveredRefund, "agekey": ageKey, "capture": capture, "faulty": faulty,
		},
	})
}

func setup(env *testscript.Env) error {
	for _, name := range []string{"NATS_PORT", "HTTP_PORT", "SANDBOX_PORT"} {
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // opened and closed at once
		if err != nil {
			return err
		}
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			return err
		}
		env.Setenv(name, port)
		if err := l.Close(); err != nil {
			return err
		}
	}
	env.Setenv("NATS_URL", "nats://127.0.0.1:"+env.Getenv("NATS_PORT"))
	env.Setenv("PAYKIT_SANDBOX_URL", "http://127.0.0.1:"+env.Getenv("SANDBOX_PORT"))
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	env.Setenv("ROOT", root+"/../..")
	return nil
}

// await waits until a URL answers 200.
func await(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, args[0], nil)
		ts.Check(err)
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("%s does not answer 200: %v", args[0], err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// retry runs a command until it succeeds and its output matches a pattern: `retry 'default' paykit method list …`.
func retry(ts *testscript.TestScript, _ bool, args []string) {
	want := regexp.MustCompile(args[0])
	var out string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		err := ts.Exec(args[1], args[2:]...)
		if out = ts.ReadFile("stdout"); err == nil && want.MatchString(out) {
			return
		}
	}
	ts.Fatalf("%v never printed %s; last:\n%s", args[1:], args[0], out)
}

// capture keeps what a pattern's first group matches in a file: `capture ID '"id": "(chg_\w+)"' stdout`.
func capture(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(args[2])
	m := regexp.MustCompile(args[1]).FindStringSubmatch(text)
	if m == nil {
		ts.Fatalf("%s is not in:\n%s", args[1], text)
	}
	ts.Setenv(args[0], m[1])
}

// publish stores a message as someone would who has the right to: `publish <subject> <file>`.
func publish(ts *testscript.TestScript, _ bool, args []string) {
	nc, err := nats.Connect(ts.Getenv("NATS_URL"))
	ts.Check(err)
	defer nc.Close()
	_, err = nc.Request(args[0], []byte(ts.ReadFile(args[1])), 5*time.Second)
	ts.Check(err)
}

// faulty has the sandbox answer no call of an operation any more: `faulty customers.delete`.
func faulty(ts *testscript.TestScript, _ bool, args []string) {
	body := fmt.Sprintf(`{"operation":%q,"nth":1,"times":1000,"kind":"status","status":500,"when":"before"}`, args[0])
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, ts.Getenv("PAYKIT_SANDBOX_URL")+"/_sandbox/faults", strings.NewReader(body))
	ts.Check(err)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	ts.Check(err)
	ts.Check(res.Body.Close())
	if res.StatusCode != http.StatusOK {
		ts.Fatalf("faults: %s", res.Status)
	}
}

// ageKey makes a key: `agekey k` gives k.txt, which decrypts, k.pub, and the recipient in $k.
func ageKey(ts *testscript.TestScript, _ bool, args []string) {
	id, err := age.GenerateX25519Identity()
	ts.Check(err)
	ts.Setenv(args[0], id.Recipient().String())
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".txt"), []byte(id.String()+"\n"), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".pub"), []byte(id.Recipient().String()+"\n"), 0o600))
}

// undeliveredRefund refunds a part of the sandbox's first payment while nothing is delivered any more.
func undeliveredRefund(ts *testscript.TestScript, _ bool, _ []string) {
	base := ts.Getenv("PAYKIT_SANDBOX_URL")
	call := func(method, path, kind, body string) []byte {
		req, err := http.NewRequestWithContext(context.Background(), method, base+path, strings.NewReader(body))
		ts.Check(err)
		req.Header.Set("Content-Type", kind)
		req.Header.Set("Authorization", "Bearer sk_test_script")
		res, err := http.DefaultClient.Do(req)
		ts.Check(err)
		defer func() { _ = res.Body.Close() }()
		text, err := io.ReadAll(res.Body)
		ts.Check(err)
		if res.StatusCode != http.StatusOK {
			ts.Fatalf("%s: %d %s", path, res.StatusCode, text)
		}
		return text
	}
	var ledger struct {
		Payments []struct {
			ID string `json:"id"`
		} `json:"payments"`
	}
	ts.Check(json.Unmarshal(call(http.MethodGet, "/_sandbox/ledger", "", ""), &ledger))
	call(http.MethodPost, "/_sandbox/webhooks", "application/json", `{"drop":true}`)
	call(http.MethodPost, "/v1/refunds", "application/x-www-form-urlencoded", "amount=100&payment_intent="+ledger.Payments[0].ID)
}

// step is one command of the README's loop and what it says that it prints.
type step struct{ command, output string }

// steps reads the loop out of the README: each ```sh block is followed by a ```text block.
func steps(markdown string) []step {
	_, loop, _ := strings.Cut(markdown, "## The loop")
	loop, _, _ = strings.Cut(loop, "\n## ")
	var list []step
	for _, m := range regexp.MustCompile("(?s)```sh\n(.*?)```\n+```text\n(.*?)```").FindAllStringSubmatch(loop, -1) {
		list = append(list, step{m[1], m[2]})
	}
	return list
}

// readme runs the README's steps as they are written and holds their output against what is written. Between the
// second and the third it does what the README asks the reader to do in a browser.
func readme(ts *testscript.TestScript, _ bool, _ []string) {
	list := steps(ts.ReadFile(ts.Getenv("ROOT") + "/README.md"))
	if len(list) != 5 {
		ts.Fatalf("the README's loop has %d steps, not five", len(list))
	}
	for i, s := range list {
		var got string
		for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			got = shell(ts, s.command)
			if normal(got) == normal(s.output) {
				break
			}
			if time.Now().After(deadline) {
				ts.Fatalf("step %d prints something else than the README says:\n%s\nin full:\n%s", i+1, cmp.Diff(normal(s.output), normal(got)), got)
			}
		}
		if id := regexp.MustCompile(`chk_[0-9A-Z]{26}`).FindString(got); i == 1 {
			ts.Check(ts.Exec("paykit", "checkout", "pay", id))
		}
	}
}

// shell runs a README command with the program under test in place of `go run ./cmd/paykit`.
func shell(ts *testscript.TestScript, command string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", strings.ReplaceAll(command, "go run ./cmd/paykit", "paykit")) //nolint:gosec // our README
	for _, name := range []string{"PATH", "NATS_URL", "PAYKIT_SANDBOX_URL", "HOME"} {
		cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%s", name, ts.Getenv(name)))
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		ts.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

// normal takes out what differs from run to run: ids, times, addresses, widths of columns. The order of the events that
// one webhook after another brings is not promised either, so lines of the checkout's outcome are sorted.
func normal(s string) string {
	for _, r := range [][2]string{
		{`\b(cust|chk|chg|meth|pa|set)_([0-9A-Z]{26}|…)`, "${1}_"},
		{`\b(cus|pi)_([0-9A-Za-z]+|…)`, "${1}_"},
		{`http://127\.0\.0\.1:\d+/c/pay/cs_test_(\w+|…)`, "URL"},
		{`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`, "TIME"},
		{`\b01([0-9A-Z]{24}|…)`, "ULID"},
		{`[ \t]+`, " "},
		{` ?\n`, "\n"},
	} {
		s = regexp.MustCompile(r[0]).ReplaceAllString(s, r[1])
	}
	lines := strings.Split(strings.TrimSpace(s), "\n")
	var outcome []int
	for i, line := range lines {
		if strings.Contains(line, "payment_method.attached") || strings.Contains(line, "checkout.completed") || strings.Contains(line, "charge.succeeded chg_ 49.00") {
			outcome = append(outcome, i)
		}
	}
	for a := range outcome {
		for b := a + 1; b < len(outcome); b++ {
			if lines[outcome[a]] > lines[outcome[b]] {
				lines[outcome[a]], lines[outcome[b]] = lines[outcome[b]], lines[outcome[a]]
			}
		}
	}
	return strings.Join(lines, "\n")
}
