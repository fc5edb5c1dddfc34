package providertest

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
)

// faultRow is one kind of broken answer and the class that it must have on a write. The same on a read is always
// Transient, except for what is the caller's own fault.
type faultRow struct {
	kind   string
	status int
	class  provider.Class
	// kept says that the broken answer itself is stored under the key if it came after the call was carried out: the
	// key gives it again, and only asking shows what happened.
	kept bool
}

func faultRows() []faultRow {
	return []faultRow{
		{kind: "drop", class: provider.InDoubt},
		{kind: "cut", class: provider.InDoubt},
		{kind: "reset", class: provider.InDoubt},
		{kind: "status", status: http.StatusInternalServerError, class: provider.InDoubt, kept: true},
		{kind: "status", status: http.StatusBadGateway, class: provider.InDoubt},
		{kind: "status", status: http.StatusGatewayTimeout, class: provider.InDoubt},
		{kind: "status", status: http.StatusServiceUnavailable, class: provider.Transient},
		{kind: "status", status: http.StatusTooManyRequests, class: provider.Transient},
		{kind: "status", status: http.StatusConflict, class: provider.Transient},
		{kind: "status", status: http.StatusUnauthorized, class: provider.Blocked},
	}
}

// act is a write as the table of faults does it: do with one key, and see, which asks without a key what came of it.
// see fails with errNotFound while the thing has not been done.
type act struct {
	operation Operation
	counts    bool // Count knows how often it took effect
	settles   bool // it answers what is final as it is, whatever the key keeps
	prepare   func(*scene) (target string)
	do        func(s *scene, target string) error
	see       func(s *scene, target string) error
}

// RunFaults breaks every write in every way, once before and once after it is carried out, and tests the class of the
// error, that the same call again (or, where the key keeps the broken answer, asking) ends with the thing done, and
// that it was done once.
func RunFaults(t *testing.T, fresh func(t *testing.T) World) {
	t.Helper()
	for _, a := range acts() {
		t.Run(string(a.operation), func(t *testing.T) {
			world := fresh(t)
			for _, row := range faultRows() {
				for _, after := range []bool{false, true} {
					when := "before"
					if after {
						when = "after"
					}
					t.Run(fmt.Sprintf("%s_%d_%s", row.kind, row.status, when), func(t *testing.T) {
						breakOnce(newScene(t, world), a, row, after)
					})
				}
			}
		})
	}
	t.Run("reads", func(t *testing.T) {
		world := fresh(t)
		for _, row := range faultRows() {
			t.Run(fmt.Sprintf("%s_%d", row.kind, row.status), func(t *testing.T) { breakRead(newScene(t, world), row) })
		}
	})
}

func breakOnce(s *scene, a act, row faultRow, after bool) {
	target := a.prepare(s)
	s.must(s.Fault(s.Context(), Fault{Operation: a.operation, Kind: row.kind, Status: row.status, After: after}))
	err := a.do(s, target)
	s.class(err, row.class)
	s.must(s.Heal(s.Context()))
	if seen := a.see(s, target); errors.Is(seen, errNotFound) == after {
		s.Fatalf("after the fault: %v", seen)
	}
	again := a.do(s, target)
	if row.kept && after && !a.settles {
		s.class(again, row.class)
	} else {
		s.must(again)
		s.must(a.do(s, target))
	}
	s.must(a.see(s, target))
	if a.counts {
		s.counted(a.operation, 1)
	}
}

func breakRead(s *scene, row faultRow) {
	p := s.payment(s.method(CardGood), "1")
	s.must(s.Fault(s.Context(), Fault{Operation: GetPayment, Kind: row.kind, Status: row.status}))
	_, err := s.API.Payment(s.Context(), p.ID)
	want := row.class
	if want == provider.InDoubt {
		want = provider.Transient // nothing could have been done
	}
	s.class(err, want)
	s.must(s.Heal(s.Context()))
	got, err := s.API.Payment(s.Context(), p.ID)
	s.must(err)
	s.must(sameID(got.ID, p.ID))
}

func acts() []act {
	none := func(*scene) string { return "" }
	return []act{
		{
			operation: CreateCustomer, counts: true,
			prepare: func(s *scene) string { // another one than the scene's, which is gone before it is counted
				s.must(s.API.DeleteCustomer(s.Context(), s.key("prepare"), s.customer))
				return ""
			},
			do: func(s *scene, _ string) error {
				id, err := s.API.CreateCustomer(s.Context(), s.key("act"), s.owner)
				if err == nil {
					s.customer = id
				}
				return err
			},
			see: func(s *scene, _ string) error {
				id, err := s.API.FindCustomer(s.Context(), s.owner, provider.Span{Since: s.Start})
				id, err = found(id, true, err)
				s.customer = id
				return err
			},
		},
		{
			operation: UpdateCustomer, prepare: none,
			do: func(s *scene, _ string) error {
				return s.API.UpdateCustomer(s.Context(), s.key("act"), s.customer, provider.Profile{Name: "Done", Owner: s.owner})
			},
			see: func(s *scene, _ string) error {
				p, err := s.Profile(s.Context(), s.customer)
				return done(err, p.Name == "Done")
			},
		},
		{
			operation: DeleteCustomer, settles: true, prepare: none,
			do: func(s *scene, _ string) error {
				return s.API.DeleteCustomer(s.Context(), s.key("act"), s.customer)
			},
			see: func(s *scene, _ string) error {
				id, err := s.API.FindCustomer(s.Context(), s.owner, provider.Span{Since: s.Start})
				return done(err, id == "")
			},
		},
		{
			operation: CreateSession, counts: true, prepare: none,
			do: func(s *scene, _ string) error {
				_, err := s.API.CreateSession(s.Context(), s.key("act"), s.sessionRequest("1"))
				return err
			},
			see: func(s *scene, _ string) error {
				one, ok, err := s.API.FindSession(s.Context(), s.customer, s.sessionRequest("1").Owner, provider.Span{Since: s.Start})
				_, err = found(one.ID, ok, err)
				return err
			},
		},
		{
			operation: ExpireSession, prepare: func(s *scene) string { return s.session().ID },
			do: func(s *scene, id string) error {
				_, err := s.API.ExpireSession(s.Context(), s.key("act"), id)
				return err
			},
			see: func(s *scene, id string) error {
				one, err := s.API.Session(s.Context(), id)
				return done(err, one.Status == events.SessionExpired)
			},
		},
		{
			operation: CreatePayment, counts: true, prepare: func(s *scene) string { return s.method(CardGood) },
			do: func(s *scene, method string) error {
				_, err := s.API.CreatePayment(s.Context(), s.key("act"), s.paymentRequest(method, "1"))
				return err
			},
			see: func(s *scene, _ string) error {
				p, ok, err := s.API.FindPayment(s.Context(), s.customer, s.charge("1"), provider.Span{Since: s.Start})
				_, err = found(p.ID, ok, err)
				return err
			},
		},
		{
			operation: ConfirmPayment, counts: true, prepare: func(s *scene) string { return s.payment(s.method(CardGood), "1").ID },
			do: func(s *scene, id string) error {
				_, err := s.API.ConfirmPayment(s.Context(), s.key("act"), id, provider.ConfirmRequest{})
				return err
			},
			see: func(s *scene, id string) error {
				p, err := s.API.Payment(s.Context(), id)
				return done(err, p.Status == events.PaymentSucceeded)
			},
		},
		{
			operation: CancelPayment, settles: true, prepare: func(s *scene) string { return s.payment(s.method(CardGood), "1").ID },
			do: func(s *scene, id string) error {
				_, err := s.API.CancelPayment(s.Context(), s.key("act"), id, false)
				return err
			},
			see: func(s *scene, id string) error {
				p, err := s.API.Payment(s.Context(), id)
				return done(err, p.Status == events.PaymentCanceled)
			},
		},
		{
			operation: DetachMethod, prepare: func(s *scene) string { return s.method(CardGood) },
			do: func(s *scene, id string) error {
				return s.API.DetachMethod(s.Context(), s.key("act"), id)
			},
			see: func(s *scene, id string) error {
				m, err := s.API.Method(s.Context(), id)
				return done(err, !m.Attached)
			},
		},
		{
			operation: CreateRefund, counts: true, prepare: func(s *scene) string { return s.paid("1").ID },
			do: func(s *scene, id string) error {
				_, err := s.API.CreateRefund(s.Context(), s.key("act"), provider.RefundRequest{PaymentID: id, Owner: s.charge("1"), Amount: 900})
				return err
			},
			see: func(s *scene, id string) error {
				all, err := s.API.RefundsOf(s.Context(), id, "")
				return done(err, len(all) == 1)
			},
		},
	}
}

// done makes errNotFound of what has not been done.
func done(err error, yes bool) error {
	if err == nil && !yes {
		return errNotFound
	}
	return err
}
