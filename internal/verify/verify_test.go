package verify_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
	"github.com/paykit-go/paykit/internal/verify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	soon     = 20 * time.Second
	provider = "stripe"
)

// story writes events of one customer into a log: good ones as they are decided, and bad ones made of those.
type story struct {
	t    *testing.T
	nc   *nats.Conn
	name string // the customer's reference, and part of every id
	now  time.Time
	last map[string]*events.Event // by entity's id
	ids  []string                 // in the order of their beginning
}

func newStory(t *testing.T, nc *nats.Conn, name string) *story {
	t.Helper()
	return &story{t: t, nc: nc, name: name, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), last: map[string]*events.Event{}}
}

func (s *story) chargeID() string   { return events.ChargeID(s.name) }
func (s *story) customerID() string { return events.CustomerID(s.name) }

func (s *story) cause() events.Cause {
	s.now = s.now.Add(time.Second)
	return events.Cause{
		Now: s.now, Source: "/paykit/test", Customer: events.CustomerRef{ID: s.customerID(), ReferenceID: s.name},
	}
}

// keep stores what was decided.
func (s *story) keep(e *events.Event, err error) {
	s.t.Helper()
	if err != nil || e == nil {
		s.t.Fatalf("%s: decided %v, %v", s.name, e, err)
	}
	raw, err := e.Encode()
	if err != nil {
		s.t.Fatal(err)
	}
	s.store(subject(e), raw)
	s.remember(raw)
}

func (s *story) remember(raw []byte) {
	s.t.Helper()
	e, err := events.Decode(raw)
	if err != nil {
		s.t.Fatal(err)
	}
	if !slices.Contains(s.ids, e.Subject) {
		s.ids = append(s.ids, e.Subject)
	}
	s.last[e.Subject] = e
}

func subject(e *events.Event) string {
	return strings.Join([]string{"paykit.log", string(e.Entity()), e.Type.Name(), e.Subject, e.CustomerID()}, ".")
}

// store publishes as somebody would who may write to the log and asks no guard.
func (s *story) store(subject string, raw []byte) {
	s.t.Helper()
	request(s.t, s.nc, subject, raw)
}

func request(t *testing.T, nc *nats.Conn, subject string, body []byte) []byte {
	t.Helper()
	answer, err := nc.Request(subject, body, soon)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	if strings.Contains(string(answer.Data), `"error"`) {
		t.Fatalf("%s: %s", subject, answer.Data)
	}
	return answer.Data
}

// plant stores a bad event: a good successor of an entity's last event, changed.
func (s *story) plant(id string, typ events.Type, change func(*events.Event)) {
	s.t.Helper()
	s.plantAt(id, typ, change, subject)
}

func (s *story) plantAt(id string, typ events.Type, change func(*events.Event), subject func(*events.Event) string) {
	s.t.Helper()
	raw, err := s.last[id].Encode()
	if err != nil {
		s.t.Fatal(err)
	}
	e, err := events.Decode(raw)
	if err != nil {
		s.t.Fatal(err)
	}
	s.now = s.now.Add(time.Second)
	e.Type, e.Time, e.EntityVersion, e.PreviousDigest = typ, s.now, e.EntityVersion+1, e.Digest()
	e.Data.Refund, e.Data.Dispute, e.Data.FraudWarning, e.Data.Changed = nil, nil, nil, nil
	base(e).UpdatedAt = s.now
	change(e)
	if raw, err = e.Encode(); err != nil {
		s.t.Fatal(err)
	}
	s.store(subject(e), raw)
	if _, err := events.Decode(raw); err == nil {
		s.remember(raw)
	}
}

func base(e *events.Event) *events.Base {
	switch d := &e.Data; e.Entity() {
	case events.EntityCustomer:
		return &d.Customer.Base
	case events.EntityProviderAccount:
		return &d.ProviderAccount.Base
	case events.EntityCheckout:
		return &d.Checkout.Base
	case events.EntitySetup:
		return &d.Setup.Base
	case events.EntityPaymentMethod:
		return &d.PaymentMethod.Base
	case events.EntityCharge:
		return &d.Charge.Base
	case events.EntityCommand:
		return &d.Command.Base
	}
	return nil
}

func (s *story) charge(list ...events.ChargeInput) {
	s.t.Helper()
	for _, in := range list {
		s.keep(events.DecideCharge(s.last[s.chargeID()], in, s.cause()))
	}
}

func (s *story) create() events.CreateCharge {
	return events.CreateCharge{
		ID: s.chargeID(), ProviderID: provider, PaymentMethodID: events.PaymentMethodID(provider, "pm_"+s.name), Amount: 4900,
		Currency: "usd", Description: "March usage", CommandDigest: "sha256:aa", ReturnURL: "https://app.example.com/a%20b",
	}
}

func (s *story) payment(status events.PaymentStatus) events.PaymentObserved {
	p := events.Payment{ID: "pi_" + s.name, ChargeID: "ch_" + s.name, Status: status, Amount: 4900, Currency: "usd", ActionURL: "https://bank.example.com"}
	return events.PaymentObserved{ID: s.chargeID(), ProviderID: provider, Payment: p}
}

// paid is a charge that succeeded.
func (s *story) paid() {
	s.t.Helper()
	s.charge(s.create(), s.payment(events.PaymentProcessing), s.payment(events.PaymentSucceeded))
}

func (s *story) refundID() string { return events.RefundID(s.chargeID(), "r") }

// refunded is a charge with 900 paid back.
func (s *story) refunded() {
	s.t.Helper()
	s.paid()
	s.charge(events.RefundCharge{RefundID: s.refundID(), Amount: 900, CommandDigest: "sha256:bb"}, s.refund(events.RefundSucceeded))
}

func (s *story) refund(status events.RefundStatus) events.RefundObserved {
	return events.RefundObserved{RefundID: s.refundID(), Report: events.RefundReport{ID: "re_" + s.name, Status: status, Amount: 900}}
}

func (s *story) dispute(status string) events.DisputeObserved {
	return events.DisputeObserved{Report: events.DisputeReport{ID: "dp_" + s.name, Status: status, Amount: 4900}}
}

func (s *story) funds(status string, funds events.DisputeFunds) events.DisputeObserved {
	in := s.dispute(status)
	in.Report.Funds = funds
	return in
}

func (s *story) warning(actionable bool) events.FraudWarningObserved {
	return events.FraudWarningObserved{Report: events.FraudWarningReport{ID: "issfr_" + s.name, Type: "misc", Actionable: actionable}}
}

func (s *story) customer() {
	s.t.Helper()
	s.keep(events.DecideCustomer(s.last[s.customerID()], events.SyncCustomer{ReferenceID: s.name, Revision: 1, Changed: []string{"email"}}, s.cause()))
}

func (s *story) checkoutID() string { return events.CheckoutID(s.name) }

func (s *story) checkout(list ...events.CheckoutInput) {
	s.t.Helper()
	create := events.CreateCheckout{
		ID: s.checkoutID(), ProviderID: provider, Amount: 4900, Currency: "usd", Description: "Plan", SuccessURL: "https://app.example.com", CommandDigest: "sha256:cc",
	}
	for _, in := range append([]events.CheckoutInput{create}, list...) {
		s.keep(events.DecideCheckout(s.last[s.checkoutID()], in, s.cause()))
	}
}

func (s *story) session(status events.SessionStatus) events.CheckoutObserved {
	return events.CheckoutObserved{Session: events.Session{ID: "cs_" + s.name, Status: status, URL: "https://pay.example.com", Paid: status == events.SessionComplete}}
}

func (s *story) methodID() string { return events.PaymentMethodID(provider, "pm_"+s.name) }

func (s *story) method(list ...events.PaymentMethodInput) {
	s.t.Helper()
	seen := events.MethodObserved{ProviderID: provider, Method: events.Method{ID: "pm_" + s.name, Type: "card", Brand: "visa", Last4: "4242", Attached: true}}
	for _, in := range append([]events.PaymentMethodInput{seen}, list...) {
		s.keep(events.DecidePaymentMethod(s.last[s.methodID()], in, s.cause()))
	}
}

func (s *story) accountID() string { return events.ProviderAccountID(s.customerID(), provider) }

func (s *story) account(list ...events.ProviderAccountInput) {
	s.t.Helper()
	for _, in := range append([]events.ProviderAccountInput{events.LinkAccount{ProviderID: provider, ProviderCustomerID: "cus_" + s.name}}, list...) {
		s.keep(events.DecideProviderAccount(s.last[s.accountID()], in, s.cause()))
	}
}

// good is every way that things go well or badly for a customer, but rightly.
func (s *story) good() {
	s.t.Helper()
	s.customer()
	s.keep(events.DecideCustomer(s.last[s.customerID()], events.DeleteCustomer{Revision: 2}, s.cause()))
	s.keep(events.DecideCustomer(s.last[s.customerID()], events.SyncCustomer{ReferenceID: s.name}, s.cause()))
	s.account(events.UnlinkAccount{ProviderCustomerID: "cus_" + s.name}, events.LinkAccount{ProviderID: provider, ProviderCustomerID: "cus_2" + s.name})
	s.method(events.SetDefaultMethod{}, events.DefaultSet{RequestedAt: s.now.Add(time.Hour)}, events.DetachMethod{}, events.MethodGone{})
	s.checkout(s.session(events.SessionOpen), events.ExpireCheckout{}, s.session(events.SessionExpired), s.session(events.SessionComplete))
	setup := events.SetupID(s.name)
	for _, in := range []events.SetupInput{
		events.CreateSetup{ID: setup, ProviderID: provider, ReturnURL: "https://app.example.com", CommandDigest: "sha256:dd"},
		events.SetupSessionObserved{Session: events.Session{ID: "cs_set", Status: events.SessionOpen, URL: "https://pay.example.com"}},
		events.SetupSessionObserved{Session: events.Session{ID: "cs_set", Status: events.SessionComplete}},
		events.SetupIntentObserved{Report: events.SetupReport{Succeeded: true, ProviderMethodID: "pm_" + s.name}},
	} {
		s.keep(events.DecideSetup(s.last[setup], in, s.cause()))
	}
	s.charge(s.create(), s.payment(events.PaymentProcessing), events.ConfirmUnanswered{}, events.RequestReview{Reason: events.ReviewInDoubt},
		s.payment(events.PaymentRequiresAction), events.CancelCharge{}, events.ConfirmUnanswered{}, events.RequestReview{Reason: events.ReviewInDoubt},
		events.ResolveCharge{Outcome: events.ChargeStatusCanceled, Operator: "anna", Reason: "not in the dashboard"})
	other := s.payment(events.PaymentSucceeded) // of more, and another payment: the first success is the charge
	other.Payment.ID, other.Payment.ChargeID, other.Payment.Amount = "pi_other_"+s.name, "ch_other_"+s.name, 5000
	s.charge(other, events.RefundCharge{RefundID: s.refundID(), Amount: 900, CommandDigest: "sha256:bb"}, s.refund(events.RefundPending),
		s.refund(events.RefundSucceeded), s.refund(events.RefundFailed), events.RefundTotalObserved{Total: 6000},
		events.RefundObserved{ // by the provider, more than there was
			RefundID: events.ReportedRefundID(provider, "re_2"+s.name), Report: events.RefundReport{ID: "re_2" + s.name, Status: events.RefundSucceeded, Amount: 6000},
		},
		s.dispute("warning_needs_response"), s.dispute("warning_closed"), s.dispute("needs_response"), s.dispute("under_review"),
		s.funds("under_review", events.FundsWithdrawn), s.dispute("won"), s.funds("won", events.FundsReinstated), s.warning(true), s.warning(false))
	late := s.payment(events.PaymentSucceeded) // the payment that the charge gave up: now it is a charge of its own
	late.ID = events.ReportedChargeID(provider, late.Payment.ID, "")
	s.keep(events.DecideCharge(nil, late, s.cause()))
	for _, in := range []events.ChargeInput{ // which a person keeps
		events.RequestReview{Reason: events.ReviewSecondPayment, RelatedChargeID: s.chargeID(), Proposal: events.ProposalRefund},
		events.ResolveCharge{Outcome: events.ChargeStatusSucceeded, Operator: "anna", Reason: "they bought two"},
		events.DisputeObserved{Report: events.DisputeReport{ID: "dp_late" + s.name, Amount: 100, Status: "lost"}},
	} {
		s.keep(events.DecideCharge(s.last[late.ID], in, s.cause()))
	}
	s.keep(events.DecideCommand(nil, events.RejectCommand{ID: events.CommandID("charge.create", s.name), Type: "charge.create", Error: events.Error{Code: events.CodeInvalidRequest}}, s.cause()))
}

func run(t *testing.T, l *eventlog.Log) *verify.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*soon)
	defer cancel()
	r, err := verify.Log(ctx, l, verify.Options{Patience: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCleanLog(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	if r := run(t, l); !r.OK || r.LastSequence != 0 || r.Problems == nil {
		t.Errorf("an empty log: %+v", r)
	}
	for _, name := range []string{"a", "b"} {
		newStory(t, l.Conn(), name).good()
	}
	r := run(t, l)
	if !r.OK || len(r.Problems) > 0 || r.Events != r.LastSequence || r.Events < 80 || r.Entities != 16 {
		t.Errorf("%+v", r)
	}
}

// Each row plants one thing and names the problems that must be reported, and no others.
func TestPlanted(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	stories := map[string]*story{}
	rows := slices.Concat(envelopes(), charges(), refunds(), disputes(), reviews(), others(), ladders())
	for _, row := range rows {
		if stories[row.name] != nil {
			t.Fatalf("two rows %q", row.name)
		}
		s := newStory(t, l.Conn(), row.name)
		row.plant(s)
		stories[row.name] = s
	}
	r := run(t, l)
	if r.OK || r.Events != r.LastSequence {
		t.Errorf("%+v", r)
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, p := range r.Problems {
				if slices.Contains(stories[row.name].ids, p.ID) {
					got = append(got, p.Problem)
					if entity, _ := events.EntityOf(p.ID); entity != "" && string(entity) != p.Entity {
						t.Errorf("%s is no %s", p.ID, p.Entity)
					}
				}
			}
			if len(got) != len(row.want) {
				t.Fatalf("reported %q, want %q", got, row.want)
			}
			for i, want := range row.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("reported %q, want %q", got[i], want)
				}
			}
		})
	}
}

// gappy makes a log that messages can be deleted from, which no installation has.
func gappy(t *testing.T) *eventlog.Log {
	t.Helper()
	l := eventlogtest.Provisioned(t)
	var info struct {
		Config map[string]any `json:"config"`
	}
	if err := json.Unmarshal(request(t, l.Conn(), "$JS.API.STREAM.INFO.PAYKIT_LOG", nil), &info); err != nil {
		t.Fatal(err)
	}
	info.Config["deny_delete"] = false
	config, err := json.Marshal(info.Config)
	if err != nil {
		t.Fatal(err)
	}
	request(t, l.Conn(), "$JS.API.STREAM.DELETE.PAYKIT_LOG", nil)
	request(t, l.Conn(), "$JS.API.STREAM.CREATE.PAYKIT_LOG", config)
	return l
}

func remove(t *testing.T, l *eventlog.Log, sequence int) {
	t.Helper()
	request(t, l.Conn(), "$JS.API.STREAM.MSG.DELETE.PAYKIT_LOG", fmt.Appendf(nil, `{"seq":%d,"no_erase":true}`, sequence))
}

// Missing at the beginning, in the middle, at the end; and everything.
func TestMissing(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		removed []int
		want    []string
		events  uint64
	}{
		"first":  {[]int{1, 2}, []string{"1: missing: the log has no events 1 to 2"}, 4},
		"middle": {[]int{3}, []string{"3: missing: the log has no events 3 to 3", "4: entityversion is 2, and there is no event before it"}, 5},
		"last":   {[]int{5, 6}, []string{"5: missing: the log has no events 5 to 6"}, 4},
		"all":    {[]int{1, 2, 3, 4, 5, 6}, []string{"1: missing: the log has no events 1 to 6"}, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := gappy(t)
			a, b := newStory(t, l.Conn(), "a"), newStory(t, l.Conn(), "b")
			a.customer()
			a.method()
			b.charge(b.create(), b.payment(events.PaymentProcessing))
			a.account()
			b.charge(b.payment(events.PaymentSucceeded))
			for _, sequence := range tt.removed {
				remove(t, l, sequence)
			}
			l = eventlogtest.Open(t, l.Conn())
			r := run(t, l)
			var got []string
			for _, p := range r.Problems {
				got = append(got, fmt.Sprintf("%d: %s", p.Sequence, p.Problem))
			}
			if r.OK || r.LastSequence != 6 || r.Events != tt.events || len(got) < len(tt.want) {
				t.Fatalf("%+v", r)
			}
			for i, want := range tt.want {
				if !strings.HasPrefix(got[i], want) {
					t.Errorf("reported %q, want %q", got[i], want)
				}
			}
		})
	}
}

// What can't be read is one problem, wherever it stands, and hides nothing behind it.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	s := newStory(t, l.Conn(), "a")
	bad := []byte(`{"type":"nonsense"}`)
	nobody := events.ChargeID("nobody")
	s.store("paykit.log.charge.requested."+nobody+".none", []byte("jane@example.com is no JSON"))
	s.paid()
	s.store("paykit.log.charge.updated."+s.chargeID()+"."+s.customerID(), bad)
	s.last[s.chargeID()].EntityVersion++ // a good successor of the bad event
	s.plant(s.chargeID(), events.ChargeUpdated, func(e *events.Event) { e.PreviousDigest = events.Digest(bad) })
	s.store("paykit.log.charge.updated."+s.chargeID()+"."+s.customerID(), bad)
	r := run(t, l)
	want := []verify.Problem{
		{Sequence: 1, Entity: "charge", ID: nobody, Problem: "unreadable: malformed event"},
		{Sequence: 5, Entity: "charge", ID: s.chargeID(), Problem: `unreadable: unknown event type: "nonsense"`},
		{Sequence: 7, Entity: "charge", ID: s.chargeID(), Problem: `unreadable: unknown event type: "nonsense"`},
	}
	if !slices.Equal(r.Problems, want) || r.Events != 7 || r.Entities != 2 || r.OK {
		t.Errorf("%+v", r)
	}
}

func TestProblemsAreBounded(t *testing.T) {
	t.Parallel()
	l := eventlogtest.Provisioned(t)
	s := newStory(t, l.Conn(), "a")
	s.customer()
	for range verify.MaxProblems + 50 {
		s.store("paykit.log.customer.updated."+s.customerID()+".none", []byte("{}"))
	}
	if r := run(t, l); r.OK || len(r.Problems) != verify.MaxProblems || r.LastSequence != verify.MaxProblems+51 {
		t.Errorf("%d problems, %d events of %d", len(r.Problems), r.Events, r.LastSequence)
	}
}

// A walk that fails says so, and does not call the log good or bad.
func TestFailures(t *testing.T) {
	t.Parallel()
	srv := eventlogtest.Start(t)
	l := eventlogtest.Open(t, srv.Conn(t))
	newStory(t, l.Conn(), "a").customer()
	ctx, cancel := context.WithCancel(t.Context())
	progressed := false
	_, err := verify.Log(ctx, l, verify.Options{Progress: func(uint64, uint64) { progressed = true }})
	if err != nil || progressed { // one batch, whose end is the end
		t.Errorf("%v, %v", err, progressed)
	}
	cancel()
	if r, err := verify.Log(ctx, l, verify.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %+v, %v", r, err)
	}
	srv.Stop()
	if r, err := verify.Log(t.Context(), l, verify.Options{}); !eventlog.IsUnavailable(err) {
		t.Errorf("without a server: %+v, %v", r, err)
	}
}
