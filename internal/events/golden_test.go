package events_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/paykit-go/paykit/internal/events"
)

// Golden files are the public JSON of version 1. One that exists is never edited: a changed shape is a new version.
var golden = flag.Bool("golden", false, "write golden files that are missing") //nolint:gochecknoglobals // a test's flag

// oneOfEach is an event of every type, decided as the program decides them.
func oneOfEach(t *testing.T) map[events.Type]*events.Event {
	t.Helper()
	all := map[events.Type]*events.Event{}
	keep := func(h *history) {
		for _, e := range h.list {
			if all[e.Type] == nil {
				all[e.Type] = e
			}
		}
	}
	h := newHistory(t)
	h.add(events.DecideCustomer(nil, events.SyncCustomer{ReferenceID: "user_123", Revision: 7, Changed: []string{"email", "name"}}, h.cause("cmd_0")))
	h.add(events.DecideCustomer(h.last(), events.SyncCustomer{ReferenceID: "user_123", Revision: 8, Changed: []string{"email"}}, h.cause("cmd_1")))
	h.add(events.DecideCustomer(h.last(), events.DeleteCustomer{Revision: 8}, h.cause("cmd_2")))
	keep(h)
	h = newHistory(t)
	h.add(events.DecideProviderAccount(nil, events.LinkAccount{ProviderID: provider, ProviderCustomerID: "cus_1"}, h.cause("")))
	h.add(events.DecideProviderAccount(h.last(), events.UnlinkAccount{ProviderCustomerID: "cus_1"}, h.cause("")))
	keep(h)
	for _, end := range []events.CheckoutInput{
		events.CheckoutObserved{Session: paidSession()},
		events.CheckoutObserved{Session: session(events.SessionExpired)},
		events.CheckoutRejected{Failure: events.NewFailure(events.FailureProviderRejected, "")},
	} {
		h = newHistory(t)
		for _, in := range []events.CheckoutInput{createCheckout(), events.CheckoutObserved{Session: session(events.SessionOpen)}, events.ExpireCheckout{}, end} {
			h.add(events.DecideCheckout(h.last(), in, h.cause("")))
		}
		keep(h)
	}
	named := session(events.SessionComplete)
	named.ProviderMethodID = "pm_1"
	for _, end := range [][]events.SetupInput{
		{events.SetupSessionObserved{Session: session(events.SessionComplete)}, events.SetupSessionObserved{Session: named}},
		{events.SetupSessionObserved{Session: session(events.SessionExpired)}},
		{events.SetupRejected{Failure: events.NewFailure(events.FailureProviderRejected, "")}},
	} {
		h = newHistory(t)
		create := events.CreateSetup{ID: events.SetupID("k"), ProviderID: provider, ReturnURL: "https://app.example.com/back", CommandDigest: "sha256:aa"}
		for _, in := range append([]events.SetupInput{create, events.SetupSessionObserved{Session: session(events.SessionOpen)}}, end...) {
			h.add(events.DecideSetup(h.last(), in, h.cause("")))
		}
		keep(h)
	}
	h = newHistory(t)
	for _, in := range []events.PaymentMethodInput{
		method(true, "4242"), method(true, "4444"),
		events.SetDefaultMethod{},
		events.DefaultSet{RequestedAt: h.now.AddDate(0, 0, 1)},
		events.DetachMethod{},
		events.MethodGone{},
	} {
		h.add(events.DecidePaymentMethod(h.last(), in, h.cause("")))
	}
	keep(h)
	h = newHistory(t)
	expiring := method(true, "4242")
	expiring.Method.ExpiryMonth, expiring.Method.ExpiryYear = int(start().Month()), start().Year()
	expiring.DuplicateOf = events.PaymentMethodID(provider, "pm_0")
	for _, in := range []events.PaymentMethodInput{expiring, events.MethodExpiring{}} {
		h.add(events.DecidePaymentMethod(h.last(), in, h.cause("")))
	}
	keep(h)
	keepCharges(t, keep)
	h = newHistory(t)
	h.add(events.DecideCommand(nil, events.RejectCommand{
		ID: events.CommandID("charge.create", "k"), Type: "charge.create",
		Error: events.Error{Code: events.CodeInvalidRequest, Message: "must be at least 50 for usd", Param: "amount"},
	}, h.cause(events.CommandID("charge.create", "k"))))
	keep(h)
	return all
}

func keepCharges(t *testing.T, keep func(*history)) {
	t.Helper()
	back := createCharge("https://app.example.com/back")
	back.Metadata = map[string]string{"invoice": "2026-03"}
	refund := func(s events.RefundStatus) events.RefundObserved {
		return events.RefundObserved{RefundID: "rfd_1", Report: events.RefundReport{ID: "re_1", Amount: 900, Status: s}}
	}
	dispute := func(s string) events.DisputeObserved {
		return events.DisputeObserved{Report: events.DisputeReport{ID: "dp_1", Amount: 1900, Status: s, Reason: "fraudulent"}}
	}
	for _, list := range [][]events.ChargeInput{
		{
			back, payment(events.PaymentRequiresConfirmation), action("https://bank.example/1"),
			events.ConfirmUnanswered{},
			payment(events.PaymentSucceeded),
			events.RefundCharge{RefundID: "rfd_1", Amount: 900, Reason: "requested_by_customer", CommandDigest: "sha256:bb"},
			refund(events.RefundPending),
			refund(events.RefundSucceeded),
			events.RefundTotalObserved{Total: 1000},
			refund(events.RefundFailed), dispute("needs_response"), dispute("lost"),
			events.FraudWarningObserved{Report: events.FraudWarningReport{ID: "issfr_1", Type: "unauthorized_use_of_card"}},
		},
		{back, declined("card_declined", "insufficient_funds")},
		{back, events.CancelCharge{}, payment(events.PaymentCanceled)},
		{back, payment(events.PaymentRequiresConfirmation), events.ConfirmUnanswered{}, events.RequestReview{Reason: events.ReviewInDoubt}},
		{laddered(time.Hour, 24*time.Hour), declined("card_declined", "insufficient_funds"), retryDue{}},
	} {
		h := newHistory(t)
		for _, in := range list {
			if _, ok := in.(retryDue); ok {
				h.now = *h.last().Data.Charge.Retry.NextAttemptAt
				in = events.RetryDue{}
			}
			h.charge(in)
		}
		keep(h)
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	all := oneOfEach(t)
	for _, typ := range events.Types() {
		e := all[typ]
		if e == nil {
			t.Errorf("no example of %s", typ)
			continue
		}
		b, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if err := json.Indent(&got, b, "", "  "); err != nil {
			t.Fatal(err)
		}
		got.WriteByte('\n')
		file := filepath.Join("testdata", "v1", string(typ)+".json")
		want, err := os.ReadFile(file)
		if os.IsNotExist(err) && *golden {
			if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil { //nolint:gosec // G306: a file of the repository
				t.Fatal(err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got.String()); diff != "" {
			t.Errorf("%s: the public JSON changed: make it a new version\n%s", typ, diff)
		}
		// Read back and written again, every byte stays: snapshots lose nothing.
		back, err := events.Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := back.Encode(); !bytes.Equal(again, b) {
			t.Errorf("%s does not survive a round trip:\n%s\n%s", typ, b, again)
		}
	}
}

// The envelope is what CloudEvents' own SDK takes it for.
func TestCloudEvents(t *testing.T) {
	t.Parallel()
	for typ, e := range oneOfEach(t) {
		b, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		var ce cloudevents.Event
		if err := json.Unmarshal(b, &ce); err != nil {
			t.Errorf("%s: the SDK can't read it: %v", typ, err)
			continue
		}
		if err := ce.Validate(); err != nil {
			t.Errorf("%s: %v", typ, err)
		}
		if ce.ID() != e.ID || ce.Type() != string(e.Type) || ce.Source() != e.Source || ce.Subject() != e.Subject ||
			!ce.Time().Equal(e.Time) || ce.DataSchema() != e.DataSchema || ce.DataContentType() != "application/json" {
			t.Errorf("%s: attributes differ: %v", typ, ce)
		}
		if v, ok := ce.Extensions()["entityversion"].(int32); !ok || int(v) != e.EntityVersion {
			t.Errorf("%s: entityversion %v", typ, ce.Extensions())
		}
		var data events.Data
		if err := ce.DataAs(&data); err != nil {
			t.Errorf("%s: data: %v", typ, err)
		}
		if diff := cmp.Diff(e.Data, data); diff != "" {
			t.Errorf("%s: data differ\n%s", typ, diff)
		}
		out, err := json.Marshal(ce)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := events.Decode(out); err != nil || back.ID != e.ID || back.PreviousDigest != e.PreviousDigest {
			t.Errorf("%s: what the SDK writes can't be read: %v", typ, err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		body string
		want error
	}{
		"no JSON":           {`{`, events.ErrMalformed},
		"unknown type":      {`{"specversion":"1.0","id":"1","type":"charge.exploded","subject":"chg_1","entityversion":1}`, events.ErrUnknownType},
		"no version":        {`{"specversion":"1.0","id":"1","type":"charge.succeeded","subject":"chg_1","data":{"charge":{}}}`, events.ErrMalformed},
		"no snapshot":       {`{"specversion":"1.0","id":"1","type":"charge.succeeded","subject":"chg_1","entityversion":1,"data":{}}`, events.ErrMalformed},
		"another's":         {`{"specversion":"1.0","id":"1","type":"charge.succeeded","subject":"chg_1","entityversion":1,"data":{"charge":{"id":"chg_2"}}}`, events.ErrMalformed},
		"another entity":    {`{"specversion":"1.0","id":"1","type":"charge.succeeded","subject":"x","entityversion":1,"data":{"checkout":{"id":"x"}}}`, events.ErrMalformed},
		"other specversion": {`{"specversion":"0.3","id":"1","type":"charge.succeeded","subject":"chg_1","entityversion":1,"data":{"charge":{}}}`, events.ErrMalformed},
	} {
		if _, err := events.Decode([]byte(tc.body)); !errorIs(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, b := range goldenFiles(f) {
		f.Add(b)
	}
	f.Add([]byte(`null`))
	f.Add([]byte(`{"type":"charge.succeeded","data":{"charge":null}}`))
	f.Add([]byte(`{"specversion":"1.0","id":"1","type":"customer.created","subject":"cust_1","entityversion":1,"data":{"customer":{"id":"cust_1"},"changed":null}}`))
	f.Add([]byte(`{"specversion":"1.0","id":"1","type":"charge.succeeded","subject":"chg_1","entityversion":1,"data":{"charge":{"id":"chg_1"}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := events.Decode(b)
		if err != nil {
			return
		}
		again, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := events.Decode(again); err != nil {
			t.Fatalf("%s does not decode again: %v", again, err)
		}
	})
}
