package projections

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/verify"
)

// Golden logs are whole logs as released versions of the program wrote them, an event's stored bytes a line. One that exists
// is never edited: whatever the program learns, it reads them all.
var golden = flag.Bool("golden", false, "write golden logs and digests that are missing") //nolint:gochecknoglobals // a test's flag

const goldenLogs = "testdata/logs"

// goldenNow names the log of what the program writes now. When a version with it was released, the next change of what is
// written takes the next name.
const goldenNow = "v0.2"

// outcome is what a golden log must come to, of a schema of the views' file: another layout has another digest, and a file
// of its own.
type outcome struct {
	Result

	Entities int `json:"entities"`
}

// TestGoldenLogs: the log of each released version is read, whole by the checker's rules, and folds into the views that it
// always did.
func TestGoldenLogs(t *testing.T) {
	t.Parallel()
	if *golden {
		writeMissing(t, filepath.Join(goldenLogs, goldenNow+".ndjson"), goldenHistory(t))
	}
	files, err := filepath.Glob(filepath.Join(goldenLogs, "*.ndjson"))
	if err != nil || len(files) < 2 {
		t.Fatalf("golden logs %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			entries := goldenLog(t, file)
			report := verify.Entries("paykit", entries)
			for _, p := range report.Problems {
				t.Errorf("%+v", p)
			}
			v, err := OpenViews(filepath.Join(t.TempDir(), FileName))
			if err != nil {
				t.Fatal(err)
			}
			if err := v.Apply(entries); err != nil {
				t.Fatal(err)
			}
			r, err := v.Digest(t.Context())
			if err := errors.Join(err, v.Close()); err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(outcome{Result: r, Entities: report.Entities}, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			wanted := fmt.Sprintf("%s.views%d.json", strings.TrimSuffix(file, ".ndjson"), schema)
			if *golden {
				writeMissing(t, wanted, got)
			}
			want, err := os.ReadFile(wanted)
			if err != nil {
				t.Fatalf("%v (make golden writes it)", err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("the views of an old log changed: that is a new schema of the views\n%s", diff)
			}
		})
	}
}

// TestGoldenLogIsOfNow: the program still writes what the newest golden log holds, which has an event of every type.
func TestGoldenLogIsOfNow(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile(filepath.Join(goldenLogs, goldenNow+".ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	if got := goldenHistory(t); !bytes.Equal(got, want) {
		t.Errorf("the program writes other events than in %s: if that is meant, give goldenNow the next name and `make golden`\n%s",
			goldenNow, cmp.Diff(string(want), string(got)))
	}
	seen := map[events.Type]bool{}
	for _, e := range goldenLog(t, filepath.Join(goldenLogs, goldenNow+".ndjson")) {
		seen[e.Event.Type] = true
	}
	for _, typ := range events.Types() {
		if !seen[typ] {
			t.Errorf("no %s in the golden log, which has %v", typ, slices.Sorted(maps.Keys(seen)))
		}
	}
}

// writeMissing never changes a file.
func writeMissing(t *testing.T, file string, content []byte) {
	t.Helper()
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err := os.WriteFile(file, content, 0o644); err != nil { //nolint:gosec // G306: a file of the repository
		t.Fatal(err)
	}
}

// goldenLog reads a log as the event log would.
func goldenLog(t *testing.T, file string) (entries []eventlog.Entry) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		raw := bytes.TrimSuffix(line, []byte("\n"))
		e, err := events.Decode(raw)
		if err != nil {
			t.Fatalf("%s, event %d: %v", file, len(entries)+1, err)
		}
		subject := strings.Join([]string{"paykit.log", string(e.Entity()), e.Type.Name(), e.Subject, owner(e.CustomerID())}, ".")
		entries = append(entries, eventlog.Entry{Event: e, Sequence: uint64(len(entries)) + 1, Subject: subject, Raw: raw})
	}
	return entries
}

// goldenHistory is a log with an event of every type, as the program decides them now.
func goldenHistory(t *testing.T) []byte {
	t.Helper()
	s := newScript(t)
	id := events.CustomerID("user_123")
	customer := func(in events.CustomerInput) { s.store(events.DecideCustomer(s.last[id], in, s.cause(""))) }
	customer(events.SyncCustomer{ReferenceID: "user_123", Revision: 7, Changed: []string{"email", "name"}})
	customer(events.SyncCustomer{ReferenceID: "user_123", Revision: 8, Changed: []string{"email"}})
	account := events.ProviderAccountID(id, "stripe")
	s.store(events.DecideProviderAccount(nil, events.LinkAccount{ProviderID: "stripe", ProviderCustomerID: "cus_1"}, s.cause(id)))
	s.goldenSessions(id)
	s.goldenMethods(id)
	s.goldenCharges(id)
	command := events.CommandID("charge.create", "k")
	cause := s.cause(id)
	cause.CommandID = command
	s.store(events.DecideCommand(nil, events.RejectCommand{
		ID: command, Type: "charge.create", Error: events.Error{Code: events.CodeInvalidRequest, Message: "must be at least 50 for usd", Param: "amount"},
	}, cause))
	s.store(events.DecideProviderAccount(s.last[account], events.UnlinkAccount{ProviderCustomerID: "cus_1"}, s.cause(id)))
	customer(events.DeleteCustomer{Revision: 8})
	var log bytes.Buffer
	for _, e := range s.entries {
		log.Write(e.Raw)
		log.WriteByte('\n')
	}
	return log.Bytes()
}

func (s *script) goldenSessions(customer string) {
	s.tb.Helper()
	seen := func(name string, status events.SessionStatus) events.Session {
		o := events.Session{ID: "cs_" + name, Status: status, ExpiresAt: time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)}
		if status == events.SessionOpen {
			o.URL = "https://pay.example/" + o.ID
		}
		return o
	}
	paid := seen("paid", events.SessionComplete)
	paid.Paid = true
	for i, end := range []events.CheckoutInput{
		events.CheckoutObserved{Session: paid},
		events.CheckoutObserved{Session: seen("1", events.SessionExpired)},
		events.CheckoutRejected{Failure: events.NewFailure(events.FailureProviderRejected, "")},
	} {
		name := fmt.Sprint(i)
		if i == 0 {
			name = "paid"
		}
		id := events.CheckoutID(name)
		for _, in := range []events.CheckoutInput{
			events.CreateCheckout{
				ID: id, ProviderID: "stripe", Amount: 4900, Currency: "usd", Description: "Starter plan", AttachMethod: true,
				SuccessURL: "https://app.example.com/ok", Metadata: map[string]string{"plan": "starter"}, CommandDigest: events.Digest([]byte(name)),
			},
			events.CheckoutObserved{Session: seen(name, events.SessionOpen)},
			events.ExpireCheckout{},
			end,
		} {
			if i == 2 && in == (events.ExpireCheckout{}) {
				continue
			}
			s.store(events.DecideCheckout(s.last[id], in, s.cause(customer)))
		}
	}
	named := seen("setup 0", events.SessionComplete)
	named.ProviderMethodID = "pm_1"
	for i, end := range [][]events.SetupInput{
		{events.SetupSessionObserved{Session: seen("setup 0", events.SessionComplete)}, events.SetupSessionObserved{Session: named}},
		{events.SetupSessionObserved{Session: seen("setup 1", events.SessionExpired)}},
		{events.SetupRejected{Failure: events.NewFailure(events.FailureProviderRejected, "")}},
	} {
		name := fmt.Sprint("setup ", i)
		id := events.SetupID(name)
		create := events.CreateSetup{ID: id, ProviderID: "stripe", ReturnURL: "https://app.example.com/back", CommandDigest: events.Digest([]byte(name))}
		for _, in := range append([]events.SetupInput{create, events.SetupSessionObserved{Session: seen(name, events.SessionOpen)}}, end...) {
			s.store(events.DecideSetup(s.last[id], in, s.cause(customer)))
		}
	}
}

func (s *script) goldenMethods(customer string) {
	s.tb.Helper()
	card := func(last4 string) events.MethodObserved {
		return events.MethodObserved{ProviderID: "stripe", Method: events.Method{
			ID: "pm_1", ProviderCustomerID: "cus_1", Attached: true, Type: "card", Brand: "visa", Last4: last4,
			ExpiryMonth: int(s.now.Month()), ExpiryYear: s.now.Year(), Fingerprint: "f",
		}}
	}
	id := events.PaymentMethodID("stripe", "pm_1")
	for _, in := range []events.PaymentMethodInput{
		card("4242"), card("4444"),
		events.MethodExpiring{},
		events.SetDefaultMethod{},
		events.DefaultSet{RequestedAt: s.now.AddDate(0, 0, 1)},
		events.DetachMethod{},
		events.MethodGone{},
	} {
		s.method1(customer, id, in)
	}
	for i := range 3 { // that stay
		s.attach(customer, fmt.Sprint("pm_stays_", i))
	}
}

func (s *script) method1(customer, id string, in events.PaymentMethodInput) {
	s.tb.Helper()
	s.store(events.DecidePaymentMethod(s.last[id], in, s.cause(customer)))
}

func (s *script) goldenCharges(customer string) {
	s.tb.Helper()
	type inputs = func(id string) []events.ChargeInput
	pay := func(id string, status events.PaymentStatus) events.PaymentObserved {
		return events.PaymentObserved{ID: id, ProviderID: "stripe", Payment: events.Payment{
			ID: "pi_" + id, ChargeID: "ch_" + id, Status: status, Amount: 1900, Currency: "usd",
		}}
	}
	action := func(id string) events.PaymentObserved {
		p := pay(id, events.PaymentRequiresAction)
		p.Payment.ActionURL = "https://bank.example/1"
		return p
	}
	declined := func(id string) events.PaymentObserved {
		p := pay(id, events.PaymentRequiresMethod)
		p.Payment.Failure = &events.Failure{Code: "card_declined", DeclineCode: "insufficient_funds"}
		return p
	}
	refund := func(id string, status events.RefundStatus) events.RefundObserved {
		return events.RefundObserved{RefundID: events.RefundID(id, "r"), Report: events.RefundReport{
			ID: "re_1", ProviderPaymentID: "pi_" + id, ProviderChargeID: "ch_" + id, Amount: 900, Currency: "usd", Status: status,
		}}
	}
	dispute := func(status string) events.DisputeObserved {
		return events.DisputeObserved{Report: events.DisputeReport{ID: "dp_1", Amount: 1900, Status: status, Reason: "fraudulent"}}
	}
	for i, list := range []inputs{
		func(id string) []events.ChargeInput {
			return []events.ChargeInput{
				pay(id, events.PaymentRequiresConfirmation), action(id),
				events.ConfirmUnanswered{},
				pay(id, events.PaymentSucceeded),
				events.RefundCharge{RefundID: events.RefundID(id, "r"), Amount: 900, Reason: "requested_by_customer", CommandDigest: events.Digest([]byte("r"))},
				refund(id, events.RefundPending), refund(id, events.RefundSucceeded),
				events.RefundTotalObserved{Total: 1000},
				refund(id, events.RefundFailed), dispute("needs_response"), dispute("lost"),
				events.FraudWarningObserved{Report: events.FraudWarningReport{ID: "issfr_1", Type: "unauthorized_use_of_card"}},
			}
		},
		func(id string) []events.ChargeInput { return []events.ChargeInput{declined(id)} },
		func(id string) []events.ChargeInput {
			return []events.ChargeInput{events.CancelCharge{}, pay(id, events.PaymentCanceled)}
		},
		func(id string) []events.ChargeInput {
			return []events.ChargeInput{
				pay(id, events.PaymentRequiresConfirmation), events.ConfirmUnanswered{}, events.RequestReview{Reason: events.ReviewInDoubt},
			}
		},
		func(id string) []events.ChargeInput { return []events.ChargeInput{declined(id), events.RetryDue{}} },
	} {
		id := events.ChargeID(fmt.Sprint("golden ", i))
		create := events.CreateCharge{
			ID: id, ProviderID: "stripe", PaymentMethodID: events.PaymentMethodID("stripe", "pm_stays_0"), Amount: 1900, Currency: "usd",
			Description: "March usage", ReturnURL: "https://app.example.com/back", Metadata: map[string]string{"invoice": "2026-03"},
			CommandDigest: events.Digest([]byte(id)),
		}
		if i == 4 {
			create.ReturnURL, create.Retry = "", &events.RetrySchedule{Name: "standard", Delays: []time.Duration{time.Hour, 24 * time.Hour}}
		}
		for _, in := range append([]events.ChargeInput{create}, list(id)...) {
			if _, due := in.(events.RetryDue); due {
				s.now = *s.last[id].Data.Charge.Retry.NextAttemptAt
			}
			s.store(events.DecideCharge(s.last[id], in, s.cause(customer)))
		}
	}
}
