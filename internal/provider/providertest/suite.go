package providertest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
)

// Run tests all that [provider.API] promises. fresh makes a new world for each test.
func Run(t *testing.T, fresh func(t *testing.T) World) {
	t.Helper()
	for _, tt := range []struct {
		name string
		test func(*scene)
	}{
		{"customer is made once", customerIsMadeOnce},
		{"profile is set and unset", profileIsSetAndUnset},
		{"deleted customer is gone", deletedCustomerIsGone},
		{"session is made once and paid", sessionIsMadeOnceAndPaid},
		{"session is expired", sessionIsExpired},
		{"setup saves a method", setupSavesMethod},
		{"payment takes money once", paymentTakesMoneyOnce},
		{"decline is an answer", declineIsAnAnswer},
		{"authentication", authentication},
		{"canceled payment stays canceled", canceledPaymentStaysCanceled},
		{"method is detached", methodIsDetached},
		{"refunds", refunds},
		{"all pages of refunds", allPagesOfRefunds},
		{"look-ups match exactly", lookupsMatchExactly},
		{"deliveries", deliveries},
		{"metadata is ours on top", metadataIsOursOnTop},
		{"nothing is asked without an id", nothingIsAskedWithoutAnID},
		{"keys are needed", keysAreNeeded},
	} {
		t.Run(strings.ReplaceAll(tt.name, " ", "_"), func(t *testing.T) { tt.test(newScene(t, fresh(t))) })
	}
}

func customerIsMadeOnce(s *scene) {
	again, err := s.API.CreateCustomer(s.Context(), s.key("customer"), s.owner)
	s.must(err)
	s.must(sameID(again, s.customer))
	s.counted(CreateCustomer, 1)
	id, err := s.API.FindCustomer(s.Context(), s.owner, provider.Span{Since: s.Start})
	s.must(err)
	s.must(sameID(id, s.customer))
}

func profileIsSetAndUnset(s *scene) {
	for i, want := range []provider.Profile{
		{Email: "a@example.com", Name: "A", Metadata: map[string]string{"team": "red", "seat": "1"}},
		{Email: "b@example.com", Metadata: map[string]string{"team": "blue"}},
		{},
	} {
		want.Owner = s.owner
		for range 2 { // the second with the same key, when there is nothing left to unset
			s.must(s.API.UpdateCustomer(s.Context(), s.key(fmt.Sprint("profile ", i)), s.customer, want))
		}
		got, err := s.Profile(s.Context(), s.customer)
		s.must(err)
		wantMetadata := s.owner.Metadata()
		maps.Copy(wantMetadata, want.Metadata)
		if got.Email != want.Email || got.Name != want.Name || !maps.Equal(got.Metadata, wantMetadata) {
			s.Fatalf("profile %d: got %+v, want %+v", i, got, want)
		}
	}
	m := s.method(CardGood)
	s.must(s.API.SetDefaultMethod(s.Context(), s.key("default"), s.customer, m))
	s.must(s.API.SetDefaultMethod(s.Context(), s.key("default"), s.customer, m))
}

func deletedCustomerIsGone(s *scene) {
	m := s.method(CardGood)
	s.must(s.API.DeleteCustomer(s.Context(), s.key("delete"), s.customer))
	s.must(s.API.DeleteCustomer(s.Context(), s.key("delete"), s.customer))
	s.must(s.API.DeleteCustomer(s.Context(), s.key("delete again"), s.customer))
	if id, err := s.API.FindCustomer(s.Context(), s.owner, provider.Span{Since: s.Start}); err != nil || id != "" {
		s.Fatalf("found %q, %v", id, err)
	}
	_, created := s.API.CreatePayment(s.Context(), s.key("payment"), s.paymentRequest(m, "1"))
	_, paged := s.API.CreateSession(s.Context(), s.key("session"), s.sessionRequest("1"))
	updated := s.API.UpdateCustomer(s.Context(), s.key("profile"), s.customer, provider.Profile{Name: "A", Owner: s.owner})
	preferred := s.API.SetDefaultMethod(s.Context(), s.key("default"), s.customer, m)
	for what, err := range map[string]error{"payment": created, "session": paged, "update": updated, "default": preferred} {
		if !provider.NoCustomer(err) || provider.ClassOf(err) != provider.Invalid {
			s.Errorf("%s: got %v, want that there is no such customer", what, err)
		}
	}
}

func sessionIsMadeOnceAndPaid(s *scene) {
	one := s.session()
	if one.Status != events.SessionOpen || one.Setup || one.Paid || one.URL == "" || !one.ExpiresAt.After(s.Start) || one.ProviderCustomerID != s.customer {
		s.Fatalf("made %+v", one)
	}
	if one.Owner != s.sessionRequest("1").Owner {
		s.Fatalf("owner %+v", one.Owner)
	}
	s.must(sameID(s.session().ID, one.ID))
	s.counted(CreateSession, 1)
	s.must(s.Complete(s.Context(), one.ID, CardGood))
	done, err := s.API.Session(s.Context(), one.ID)
	s.must(err)
	if done.Status != events.SessionComplete || !done.Paid || done.PaymentID == "" || done.PaymentFailed {
		s.Fatalf("paid %+v", done)
	}
	p, err := s.API.Payment(s.Context(), done.PaymentID)
	s.must(err)
	if p.Status != events.PaymentSucceeded || p.Amount != 4900 || p.Owner != one.Owner || p.ChargeID == "" || p.ProviderCustomerID != s.customer {
		s.Fatalf("the payment does not name its owner: %+v", p)
	}
	m, err := s.API.Method(s.Context(), p.ProviderMethodID)
	s.must(err)
	if !m.Attached || m.ProviderCustomerID != s.customer {
		s.Fatalf("the method was not saved: %+v", m)
	}
	late, err := s.API.ExpireSession(s.Context(), s.key("expire"), one.ID)
	s.must(err)
	if late.Status != events.SessionComplete || !late.Paid {
		s.Fatalf("a paid session does not answer as it is: %+v", late)
	}
	request := s.sessionRequest("2")
	request.SaveMethod, request.CancelURL = false, ""
	other, err := s.API.CreateSession(s.Context(), s.key("session 2"), request)
	s.must(err)
	s.must(s.Complete(s.Context(), other.ID, CardGood))
	if done, err = s.API.Session(s.Context(), other.ID); err != nil {
		s.Fatal(err)
	}
	p, err = s.API.Payment(s.Context(), done.PaymentID)
	s.must(err)
	m, err = s.API.Method(s.Context(), p.ProviderMethodID)
	s.must(err)
	if m.Attached {
		s.Fatalf("a method was saved unasked: %+v", m)
	}
}

func sessionIsExpired(s *scene) {
	one := s.session()
	for _, key := range []string{"expire", "expire", "expire again"} {
		got, err := s.API.ExpireSession(s.Context(), s.key(key), one.ID)
		s.must(err)
		if got.Status != events.SessionExpired || got.ID != one.ID {
			s.Fatalf("%s: %+v", key, got)
		}
	}
	_, err := s.API.ExpireSession(s.Context(), s.key("unknown"), "cs_unknown")
	notFound(s, err)
}

func setupSavesMethod(s *scene) {
	o := s.owner
	o.Setup = "set_1"
	request := provider.SessionRequest{Setup: true, CustomerID: s.customer, Owner: o, SuccessURL: "https://example.com/cards"}
	one, err := s.API.CreateSession(s.Context(), s.key("setup"), request)
	s.must(err)
	if !one.Setup || one.Status != events.SessionOpen || one.URL == "" || one.Owner != o {
		s.Fatalf("made %+v", one)
	}
	s.must(s.Complete(s.Context(), one.ID, CardGood))
	done, err := s.API.Session(s.Context(), one.ID)
	s.must(err)
	if done.Status != events.SessionComplete || done.Paid || done.ProviderMethodID == "" {
		s.Fatalf("the saved method is not named: %+v", done)
	}
	m, err := s.API.Method(s.Context(), done.ProviderMethodID)
	s.must(err)
	if !m.Attached || m.Type != "card" || m.Brand == "" || len(m.Last4) != 4 || m.ExpiryMonth < 1 || m.ExpiryYear < 2020 || m.Fingerprint == "" {
		s.Fatalf("method %+v", m)
	}
	again, ok, err := s.API.FindSession(s.Context(), s.customer, o, provider.Span{Since: s.Start})
	if err != nil || !ok || again.ID != one.ID || again.ProviderMethodID != done.ProviderMethodID {
		s.Fatalf("found %+v, %t, %v", again, ok, err)
	}
}

func paymentTakesMoneyOnce(s *scene) {
	m := s.method(CardGood)
	p := s.payment(m, "1")
	if p.Status != events.PaymentRequiresConfirmation || p.Owner != s.charge("1") || p.Amount != 4900 || p.Currency != "usd" {
		s.Fatalf("made %+v", p)
	}
	s.must(sameID(s.payment(m, "1").ID, p.ID))
	s.counted(CreatePayment, 1)
	s.counted(ConfirmPayment, 0)
	for _, key := range []string{"confirm", "confirm", "another confirm"} {
		got, err := s.API.ConfirmPayment(s.Context(), s.key(key), p.ID, provider.ConfirmRequest{MethodID: m})
		s.must(err)
		if got.ID != p.ID || got.Status != events.PaymentSucceeded || got.ChargeID == "" || got.ProviderMethodID != m || got.Failure != nil {
			s.Fatalf("%s: %+v", key, got)
		}
	}
	s.counted(ConfirmPayment, 1)
	changed := s.paymentRequest(m, "1")
	changed.Amount++
	_, err := s.API.CreatePayment(s.Context(), s.key("payment 1"), changed)
	s.class(err, provider.Invalid)
	_, err = s.API.Payment(s.Context(), "pi_unknown")
	notFound(s, err)
}

func declineIsAnAnswer(s *scene) {
	m := s.method(CardDeclined)
	p := s.payment(m, "1")
	for range 2 {
		got, err := s.API.ConfirmPayment(s.Context(), s.key("confirm"), p.ID, provider.ConfirmRequest{MethodID: m})
		s.must(err)
		if got.Status != events.PaymentRequiresMethod || got.Failure == nil || got.Failure.Code != events.FailureCardDeclined {
			s.Fatalf("declined %+v", got)
		}
		if got.Failure.Message != events.FailureMessage(got.Failure.Code, got.Failure.DeclineCode) {
			s.Fatalf("the message is not ours: %q", got.Failure.Message)
		}
		if got.ID != p.ID || got.ChargeID == "" || got.ProviderMethodID != m || got.Owner != p.Owner {
			s.Fatalf("ids %+v", got)
		}
		asked, err := s.API.Payment(s.Context(), p.ID)
		s.must(err)
		if asked.Status != got.Status || asked.Failure == nil || *asked.Failure != *got.Failure || asked.ChargeID != got.ChargeID {
			s.Fatalf("asked %+v, answered %+v", asked, got)
		}
	}
	s.counted(ConfirmPayment, 0)
}

func authentication(s *scene) {
	m := s.method(CardAuthenticates)
	for _, tt := range []struct {
		name   string
		passed bool
		status events.PaymentStatus
	}{{"passed", true, events.PaymentSucceeded}, {"failed", false, events.PaymentRequiresMethod}} {
		p := s.payment(m, tt.name)
		away, err := s.API.ConfirmPayment(s.Context(), s.key(tt.name+" off session"), p.ID, provider.ConfirmRequest{MethodID: m})
		s.must(err)
		if away.Status != events.PaymentRequiresMethod || away.Failure == nil || away.Failure.Code != events.FailureAuthenticationRequired {
			s.Fatalf("off session: %+v", away)
		}
		here, err := s.API.ConfirmPayment(s.Context(), s.key(tt.name+" on session"), p.ID,
			provider.ConfirmRequest{MethodID: m, ReturnURL: "https://example.com/return"})
		s.must(err)
		if here.Status != events.PaymentRequiresAction || here.ActionURL == "" || here.ID != p.ID {
			s.Fatalf("on session: %+v", here)
		}
		s.must(s.Authenticate(s.Context(), p.ID, tt.passed))
		got, err := s.API.Payment(s.Context(), p.ID)
		s.must(err)
		if got.Status != tt.status || (got.Failure == nil) != tt.passed {
			s.Fatalf("%s: %+v", tt.name, got)
		}
		// What the confirms answered is no longer true: the same keys must not bring it back.
		again, err := s.API.ConfirmPayment(s.Context(), s.key(tt.name+" on session"), p.ID,
			provider.ConfirmRequest{MethodID: m, ReturnURL: "https://example.com/return"})
		s.must(err)
		before, err := s.API.ConfirmPayment(s.Context(), s.key(tt.name+" off session"), p.ID, provider.ConfirmRequest{MethodID: m})
		s.must(err)
		if again.Status != tt.status || before.Status != tt.status {
			s.Fatalf("%s, asked again with the keys: %+v, %+v", tt.name, again, before)
		}
	}
	s.counted(ConfirmPayment, 1)
}

func canceledPaymentStaysCanceled(s *scene) {
	m := s.method(CardGood)
	for _, abandoned := range []bool{false, true} {
		charge := fmt.Sprint(abandoned)
		p := s.payment(m, charge)
		for _, key := range []string{"cancel", "cancel", "cancel again"} {
			got, err := s.API.CancelPayment(s.Context(), s.key(key+charge), p.ID, abandoned)
			s.must(err)
			if got.Status != events.PaymentCanceled || got.Abandoned != abandoned || got.ID != p.ID {
				s.Fatalf("%s: %+v", key, got)
			}
		}
		got, err := s.API.ConfirmPayment(s.Context(), s.key("confirm"+charge), p.ID, provider.ConfirmRequest{MethodID: m})
		s.must(err)
		if got.Status != events.PaymentCanceled {
			s.Fatalf("confirmed after the cancel: %+v", got)
		}
	}
	s.counted(ConfirmPayment, 0)
	paid := s.paid("paid")
	got, err := s.API.CancelPayment(s.Context(), s.key("too late"), paid.ID, false)
	s.must(err)
	if got.Status != events.PaymentSucceeded {
		s.Fatalf("a paid payment does not answer as it is: %+v", got)
	}
}

func methodIsDetached(s *scene) {
	m := s.method(CardGood)
	for _, key := range []string{"detach", "detach", "detach again"} {
		s.must(s.API.DetachMethod(s.Context(), s.key(key), m))
	}
	got, err := s.API.Method(s.Context(), m)
	s.must(err)
	if got.Attached || got.ID != m {
		s.Fatalf("detached %+v", got)
	}
	notFound(s, s.API.DetachMethod(s.Context(), s.key("unknown"), "pm_unknown"))
}

func refunds(s *scene) {
	p := s.paid("1")
	o := s.charge("1")
	o.Refund = "rfd_1"
	request := provider.RefundRequest{PaymentID: p.ID, Owner: o, Amount: 900, Reason: "requested_by_customer"}
	var id string
	for range 2 {
		r, err := s.API.CreateRefund(s.Context(), s.key("refund"), request)
		s.must(err)
		if r.Amount != 900 || r.Status != events.RefundSucceeded || r.Owner != o || r.ProviderPaymentID != p.ID || r.Reason != request.Reason {
			s.Fatalf("refund %+v", r)
		}
		if id == "" {
			id = r.ID
		}
		s.must(sameID(r.ID, id))
	}
	s.counted(CreateRefund, 1)
	all, err := s.API.RefundsOf(s.Context(), p.ID, "")
	s.must(err)
	if len(all) != 1 || all[0].ID != id || all[0].Owner != o || all[0].Amount != 900 || all[0].ProviderChargeID != p.ChargeID {
		s.Fatalf("refunds %+v", all)
	}
	byCharge, err := s.API.RefundsOf(s.Context(), "", p.ChargeID)
	s.must(err)
	if !slices.Equal(byCharge, all) {
		s.Fatalf("refunds of the charge %+v", byCharge)
	}
	asked, err := s.API.Payment(s.Context(), p.ID)
	s.must(err)
	if asked.AmountRefunded != 900 || asked.Status != events.PaymentSucceeded {
		s.Fatalf("payment %+v", asked)
	}
	request.Amount = 4001
	_, err = s.API.CreateRefund(s.Context(), s.key("too much"), request)
	s.class(err, provider.Invalid)
	request.Amount = 0
	_, err = s.API.CreateRefund(s.Context(), s.key("no amount"), request)
	s.class(err, provider.Invalid)
	s.counted(CreateRefund, 1)
}

func allPagesOfRefunds(s *scene) {
	const many = 120 // more than a page
	p := s.paid("1")
	for i := range many {
		o := s.charge("1")
		o.Refund = fmt.Sprint("rfd_", i)
		_, err := s.API.CreateRefund(s.Context(), s.key(o.Refund), provider.RefundRequest{PaymentID: p.ID, Owner: o, Amount: 1})
		s.must(err)
	}
	all, err := s.API.RefundsOf(s.Context(), p.ID, "")
	s.must(err)
	seen := map[string]bool{}
	for _, r := range all {
		seen[r.Owner.Refund] = true
	}
	if len(all) != many || len(seen) != many {
		s.Fatalf("%d refunds, %d different, want %d", len(all), len(seen), many)
	}
}

func lookupsMatchExactly(s *scene) {
	p := s.payment(s.method(CardGood), "1")
	one := s.session()
	foreign := func(o events.Owner) events.Owner {
		o.Customer += "x"
		return o
	}
	other := s.charge("2")
	for _, tt := range []struct {
		name  string
		owner events.Owner
		want  string
	}{{"ours", s.charge("1"), p.ID}, {"another charge", other, ""}, {"another customer", foreign(s.charge("1")), ""}, {"nobody", events.Owner{Env: s.Env}, ""}} {
		got, ok, err := s.API.FindPayment(s.Context(), s.customer, tt.owner, provider.Span{Since: s.Start})
		if err != nil || ok != (tt.want != "") || got.ID != tt.want {
			s.Errorf("payment, %s: %q, %t, %v", tt.name, got.ID, ok, err)
		}
	}
	o := s.sessionRequest("1").Owner
	for _, tt := range []struct {
		name  string
		owner events.Owner
		want  string
	}{{"ours", o, one.ID}, {"another customer", foreign(o), ""}, {"nobody", events.Owner{}, ""}} {
		got, ok, err := s.API.FindSession(s.Context(), s.customer, tt.owner, provider.Span{Since: s.Start})
		if err != nil || ok != (tt.want != "") || got.ID != tt.want {
			s.Errorf("session, %s: %q, %t, %v", tt.name, got.ID, ok, err)
		}
	}
	for _, tt := range []struct {
		name  string
		owner events.Owner
		made  provider.Span
		want  string
	}{
		{"ours", s.owner, provider.Span{Since: s.Start}, s.customer},
		{"just before our clock", s.owner, provider.Span{Since: s.Start.Add(2 * time.Minute)}, s.customer},
		{"made long before", s.owner, provider.Span{Since: s.Start.Add(time.Hour)}, ""},
		{"in a time", s.owner, provider.Span{Since: s.Start.Add(-time.Hour), Until: s.Start.Add(time.Hour)}, s.customer},
		{"just behind our clock", s.owner, provider.Span{Since: s.Start.Add(-time.Hour), Until: s.Start.Add(-2 * time.Minute)}, s.customer},
		{"made long after", s.owner, provider.Span{Since: s.Start.Add(-2 * time.Hour), Until: s.Start.Add(-time.Hour)}, ""},
		{"another customer", foreign(s.owner), provider.Span{Since: s.Start}, ""},
	} {
		got, err := s.API.FindCustomer(s.Context(), tt.owner, tt.made)
		if err != nil || got != tt.want {
			s.Errorf("customer, %s: %q, %v", tt.name, got, err)
		}
		if tt.owner != s.owner {
			continue
		}
		ids, complete, err := s.API.CustomersMade(s.Context(), tt.made, 1)
		if err != nil || !complete || ids[s.owner.Customer] != tt.want {
			s.Errorf("customers, %s: %v, %t, %v", tt.name, ids, complete, err)
		}
	}
	if _, complete, err := s.API.CustomersMade(s.Context(), provider.Span{Since: s.Start}, 0); err != nil || complete {
		s.Errorf("customers, more than are wanted: %t, %v", complete, err)
	}
}

func deliveries(s *scene) {
	const many = 60 // about three events each: more than a page
	for i := range many {
		s.paid(fmt.Sprint(i))
	}
	var seen []provider.Delivery
	ids := map[string]bool{}
	s.must(s.API.ListDeliveries(s.Context(), s.Start.Add(-time.Minute), func(body []byte) error {
		d, err := s.Webhooks.Decode(body)
		seen, ids[d.ID] = append(seen, d), true
		return err
	}))
	if len(ids) != len(seen) {
		s.Errorf("%d deliveries, %d different", len(seen), len(ids))
	}
	if !slices.IsSortedFunc(seen, func(a, b provider.Delivery) int { return a.CreatedAt.Compare(b.CreatedAt) }) {
		s.Error("the deliveries are not in order of time")
	}
	var want, paid []string // charges, in the order of their first success
	made := 0
	for i := range many {
		want = append(want, s.charge(fmt.Sprint(i)).Charge)
	}
	for _, d := range seen {
		if d.CustomerID != s.customer {
			s.Errorf("%s %s is about %q", d.ID, d.Type, d.CustomerID)
		}
		for _, o := range d.Observations {
			switch o := o.(type) {
			case provider.PaymentSeen:
				if o.Status == events.PaymentSucceeded && !slices.Contains(paid, o.Owner.Charge) {
					paid = append(paid, o.Owner.Charge)
				}
			case provider.CustomerSeen:
				made++
			}
		}
	}
	if !slices.Equal(paid, want) || made != 1 {
		s.Errorf("%d customers of 1; successes of %v, want %v", made, paid, want)
	}
	stop := errors.New("enough")
	n := 0
	err := s.API.ListDeliveries(s.Context(), s.Start.Add(-time.Minute), func([]byte) error {
		n++
		return stop
	})
	if !errors.Is(err, stop) || n != 1 {
		s.Errorf("stopped after %d with %v", n, err)
	}
	s.must(s.API.ListDeliveries(s.Context(), s.Start.Add(time.Hour), func(body []byte) error {
		return fmt.Errorf("older than asked for: %d bytes", len(body))
	}))
}

func metadataIsOursOnTop(s *scene) {
	request := s.paymentRequest(s.method(CardGood), "1")
	forged := map[string]string{events.MetadataCharge: "chg_forged", events.MetadataEnv: "forged", events.MetadataRefund: "forged"}
	full := map[string]string{}
	for i := range 50 { // as many as a caller may have
		full[fmt.Sprintf("k%02d", i)] = "v"
	}
	for key, metadata := range map[string]map[string]string{"forged": forged, "full": full} {
		request.Metadata = metadata
		p, err := s.API.CreatePayment(s.Context(), s.key(key), request)
		s.must(err)
		if p.Owner != s.charge("1") {
			s.Fatalf("%s: owner %+v", key, p.Owner)
		}
	}
}

func nothingIsAskedWithoutAnID(s *scene) {
	_, payment := s.API.Payment(s.Context(), "")
	_, session := s.API.Session(s.Context(), "")
	_, method := s.API.Method(s.Context(), "")
	_, refunds := s.API.RefundsOf(s.Context(), "", "")
	_, _, foundPayment := s.API.FindPayment(s.Context(), "", s.charge("1"), provider.Span{Since: s.Start})
	_, _, foundSession := s.API.FindSession(s.Context(), "", s.charge("1"), provider.Span{Since: s.Start})
	for _, err := range []error{
		payment, session, method, refunds, foundPayment, foundSession,
		s.API.DeleteCustomer(s.Context(), "k", ""), s.API.DetachMethod(s.Context(), "k", ""),
	} {
		s.class(err, provider.Invalid)
	}
}

func keysAreNeeded(s *scene) {
	for _, key := range []string{"", " k", "k\n", strings.Repeat("k", 256)} {
		_, err := s.API.CreateCustomer(s.Context(), key, s.owner)
		s.class(err, provider.Invalid)
		_, err = s.API.CreatePayment(s.Context(), key, s.paymentRequest("pm_1", "1"))
		s.class(err, provider.Invalid)
	}
	s.counted(CreateCustomer, 1)
}

func notFound(s *scene, err error) {
	s.Helper()
	e, ok := errors.AsType[*provider.Error](err)
	if !ok || !e.NotFound || e.Class != provider.Invalid {
		s.Fatalf("got %v, want that there is no such thing", err)
	}
}
