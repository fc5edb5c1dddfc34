package events_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/paykit-go/paykit/internal/events"
)

// What becomes of each input in each status: every pair is named, none is left to chance. A cell is the event's name
// with the status it leads to where that changes, "-" for nothing to do, or what is refused.

// column is a history that leads to a status.
type column[I any] struct {
	name string
	in   []I
}

// row is an input and its outcome in each column.
type row[I any] struct {
	name string
	in   I
	want string // cells
}

func matrix[I any](
	t *testing.T, columns []column[I], rows []row[I], decide func(*events.Event, I, events.Cause) (*events.Event, error),
	status func(*events.Event) string,
) {
	t.Helper()
	for _, r := range rows {
		want := strings.Split(r.want, " | ")
		if len(want) != len(columns) {
			t.Fatalf("%s: %d cells for %d columns", r.name, len(want), len(columns))
		}
		for i, col := range columns {
			h := newHistory(t)
			for _, in := range col.in {
				h.add(decide(h.last(), in, h.cause("")))
			}
			before := ""
			if h.last() != nil {
				before = status(h.last())
			}
			e, err := decide(h.last(), r.in, h.cause(""))
			got := "-"
			refusal, refused := errors.AsType[*events.Error](err)
			switch {
			case refused:
				got = string(refusal.Code)
			case errors.Is(err, events.ErrOtherPayment):
				got = "ErrOtherPayment"
			case errors.Is(err, events.ErrNoCharge):
				got = "ErrNoCharge"
			case err != nil:
				got = err.Error()
			case e != nil:
				got = e.Type.Name()
				if now := status(h.add(e, nil)); now != before && now != got {
					got += ":" + now
				}
			}
			if got != want[i] {
				t.Errorf("%s in %s: %s, want %s", r.name, col.name, got, want[i])
			}
		}
	}
}

func TestChargeMatrix(t *testing.T) {
	t.Parallel()
	back := createCharge("https://app.example.com/back")
	otherBody := back
	otherBody.CommandDigest = "sha256:bb"
	other := func(s events.PaymentStatus) events.PaymentObserved {
		p := payment(s)
		p.Payment.ID, p.Payment.ChargeID = "pi_2", "ch_2"
		return p
	}
	unmade := payment(events.PaymentCanceled)
	unmade.Payment.ID, unmade.Payment.ChargeID = "", ""
	untried := payment(events.PaymentRequiresMethod)
	refund := func(s events.RefundStatus) events.RefundObserved {
		return events.RefundObserved{RefundID: "r", Report: events.RefundReport{ID: "re_1", Amount: 900, Status: s}}
	}
	made := payment(events.PaymentRequiresConfirmation)
	columns := []column[events.ChargeInput]{
		{"nothing", nil},
		{"requested", []events.ChargeInput{back}},
		{"processing", []events.ChargeInput{back, made}},
		{"requires_action", []events.ChargeInput{back, made, action("https://bank.example/1")}},
		{"in_doubt", []events.ChargeInput{back, made, events.ConfirmUnanswered{}}},
		{"failed", []events.ChargeInput{back, made, declined("card_declined", "")}},
		{"canceled", []events.ChargeInput{back, made, payment(events.PaymentCanceled)}},
		{"succeeded", []events.ChargeInput{back, made, payment(events.PaymentSucceeded)}},
	}
	rows := []row[events.ChargeInput]{
		{"create", back, "requested | - | - | - | - | - | - | -"},
		{"create with another body", otherBody, "requested | idempotency_conflict | idempotency_conflict | idempotency_conflict | idempotency_conflict | idempotency_conflict | idempotency_conflict | idempotency_conflict"},
		{"cancel", events.CancelCharge{}, "charge_not_found | cancel_requested | cancel_requested | cancel_requested | cancel_requested | - | - | -"},
		{"payment waits for its confirm", made, "- | processing | - | - | - | - | - | -"},
		{"payment under way", payment(events.PaymentProcessing), "- | processing | - | - | - | - | - | -"},
		{"payment wants the buyer", action("https://bank.example/2"), "- | requires_action | requires_action | - | requires_action | - | - | -"},
		{"payment wants the buyer, nowhere", action(""), "- | - | - | - | - | - | - | -"},
		{"payment succeeded", payment(events.PaymentSucceeded), "succeeded | succeeded | succeeded | succeeded | succeeded | succeeded | succeeded | -"},
		{"payment canceled", payment(events.PaymentCanceled), "- | canceled | canceled | canceled | canceled | - | - | -"},
		{"canceled before a payment", unmade, "- | canceled | - | - | - | - | - | -"},
		{"payment never tried", untried, "- | - | - | - | - | - | - | -"},
		{"payment declined", declined("card_declined", "lost_card"), "- | failed | failed | failed | failed | - | - | -"},
		{"payment wants authentication", declined("authentication_required", ""), "- | - | - | - | - | - | - | -"},
		{"authentication failed", declined("payment_intent_authentication_failure", ""), "- | failed | failed | failed | failed | - | - | -"},
		{"another payment succeeded", other(events.PaymentSucceeded), "succeeded | succeeded | succeeded | succeeded | succeeded | succeeded | succeeded | ErrOtherPayment"},
		{"another payment canceled", other(events.PaymentCanceled), "- | canceled | - | - | - | - | - | -"},
		{"another payment under way", other(events.PaymentProcessing), "- | processing | - | - | - | - | - | -"},
		{"confirm unanswered", events.ConfirmUnanswered{}, "- | in_doubt | in_doubt | in_doubt | - | - | - | -"},
		{"rejected", events.ChargeRejected{Failure: events.NewFailure(events.FailureProviderRejected, "")}, "- | failed | failed | failed | failed | - | - | -"},
		{"refund", events.RefundCharge{RefundID: "r"}, "charge_not_found | charge_not_refundable | charge_not_refundable | charge_not_refundable | charge_not_refundable | charge_not_refundable | charge_not_refundable | refund_requested"},
		{"refund pending", refund(events.RefundPending), "ErrNoCharge | ErrNoCharge | ErrNoCharge | ErrNoCharge | ErrNoCharge | ErrNoCharge | ErrNoCharge | updated"},
		{"refund succeeded", refund(events.RefundSucceeded), "ErrNoCharge | ErrNoCharge | ErrNoCharge | ErrNoCharge | ErrNoCharge | ErrNoCharge | ErrNoCharge | refunded"},
		{"refund failed", refund(events.RefundFailed), "ErrNoCharge | ErrNoCharge | ErrNoCharge | ErrNoCharge | ErrNoCharge | ErrNoCharge | ErrNoCharge | refund_failed"},
		{"refund of nothing that was made", events.RefundObserved{RefundID: "r", Report: events.RefundReport{Status: events.RefundFailed}}, "ErrNoCharge | ErrNoCharge | ErrNoCharge | ErrNoCharge | ErrNoCharge | ErrNoCharge | ErrNoCharge | -"},
		{"refunded total", events.RefundTotalObserved{Total: 900}, "- | - | - | - | - | - | - | refresh_requested"},
		{"dispute", events.DisputeObserved{Report: events.DisputeReport{ID: "dp_1", Amount: 1900, Status: "needs_response"}}, "ErrNoCharge | ErrNoCharge | ErrNoCharge | ErrNoCharge | ErrNoCharge | ErrNoCharge | ErrNoCharge | disputed"},
		{"dispute lost", events.DisputeObserved{Report: events.DisputeReport{ID: "dp_1", Amount: 1900, Status: "lost"}}, "ErrNoCharge | ErrNoCharge | ErrNoCharge | ErrNoCharge | ErrNoCharge | ErrNoCharge | ErrNoCharge | dispute_closed"},
		{"fraud warning", events.FraudWarningObserved{Report: events.FraudWarningReport{ID: "issfr_1", Actionable: true}}, "ErrNoCharge | ErrNoCharge | ErrNoCharge | ErrNoCharge | ErrNoCharge | ErrNoCharge | ErrNoCharge | fraud_warned"},
	}
	matrix(t, columns, rows, events.DecideCharge, func(e *events.Event) string { return string(e.Data.Charge.Status) })
}

func TestCheckoutMatrix(t *testing.T) {
	t.Parallel()
	seen := func(s events.Session) events.CheckoutObserved { return events.CheckoutObserved{Session: s} }
	stranger := func(s events.Session) events.CheckoutObserved {
		s.ID = "cs_2"
		return seen(s)
	}
	failed := session(events.SessionComplete)
	failed.PaymentFailed = true
	unmade := events.CheckoutObserved{Session: events.Session{Status: events.SessionExpired}}
	open := seen(session(events.SessionOpen))
	columns := []column[events.CheckoutInput]{
		{"nothing", nil},
		{"requested", []events.CheckoutInput{createCheckout()}},
		{"created", []events.CheckoutInput{createCheckout(), open}},
		{"expire requested", []events.CheckoutInput{createCheckout(), open, events.ExpireCheckout{}}},
		{"expired", []events.CheckoutInput{createCheckout(), open, seen(session(events.SessionExpired))}},
		{"failed", []events.CheckoutInput{createCheckout(), open, seen(failed)}},
		{"completed", []events.CheckoutInput{createCheckout(), open, seen(paidSession())}},
	}
	rows := []row[events.CheckoutInput]{
		{"create", createCheckout(), "requested | - | - | - | - | - | -"},
		{"expire", events.ExpireCheckout{}, "checkout_not_found | expire_requested | expire_requested | - | - | - | -"},
		{"open", open, "- | created | - | - | - | - | -"},
		{"paid", seen(paidSession()), "- | completed | completed | completed | completed | completed | -"},
		{"complete and unpaid", seen(session(events.SessionComplete)), "- | - | - | - | - | - | -"},
		{"delayed payment failed", seen(failed), "- | failed | failed | failed | - | - | -"},
		{"expired", seen(session(events.SessionExpired)), "- | expired | expired | expired | - | - | -"},
		{"expired before it was made", unmade, "- | expired | - | - | - | - | -"},
		{"rejected", events.CheckoutRejected{Failure: events.NewFailure(events.FailureProviderRejected, "")}, "- | failed | failed | failed | - | - | -"},
		{"another session open", stranger(session(events.SessionOpen)), "- | created | - | - | - | - | -"},
		{"another session expired", stranger(session(events.SessionExpired)), "- | expired | - | - | - | - | -"},
		{"another session paid", stranger(paidSession()), "- | completed | completed | completed | completed | completed | -"},
	}
	matrix(t, columns, rows, events.DecideCheckout, func(e *events.Event) string { return string(e.Data.Checkout.Status) })
}

func TestSetupMatrix(t *testing.T) {
	t.Parallel()
	seen := func(s events.Session) events.SetupSessionObserved { return events.SetupSessionObserved{Session: s} }
	named := session(events.SessionComplete)
	named.ProviderMethodID = "pm_1"
	open := seen(session(events.SessionOpen))
	saved := events.SetupIntentObserved{Report: events.SetupReport{ID: "seti_1", Succeeded: true, ProviderMethodID: "pm_1"}}
	rejected := events.SetupRejected{Failure: events.NewFailure(events.FailureProviderRejected, "")}
	columns := []column[events.SetupInput]{
		{"nothing", nil},
		{"requested", []events.SetupInput{createSetup()}},
		{"created", []events.SetupInput{createSetup(), open}},
		{"refresh requested", []events.SetupInput{createSetup(), open, seen(session(events.SessionComplete))}},
		{"expired", []events.SetupInput{createSetup(), open, seen(session(events.SessionExpired))}},
		{"failed", []events.SetupInput{createSetup(), rejected}},
		{"completed", []events.SetupInput{createSetup(), open, saved}},
	}
	rows := []row[events.SetupInput]{
		{"create", createSetup(), "requested | - | - | - | - | - | -"},
		{"open", open, "- | created | - | - | - | - | -"},
		{"complete", seen(session(events.SessionComplete)), "- | refresh_requested | refresh_requested | - | refresh_requested | refresh_requested | -"},
		{"complete with its method", seen(named), "- | completed | completed | completed | completed | completed | -"},
		{"expired", seen(session(events.SessionExpired)), "- | expired | expired | expired | - | - | -"},
		{"saved", saved, "- | completed | completed | completed | completed | completed | -"},
		{"saving failed", events.SetupIntentObserved{Report: events.SetupReport{ID: "seti_1", ProviderMethodID: "pm_1"}}, "- | - | - | - | - | - | -"},
		{"rejected", rejected, "- | failed | failed | failed | - | - | -"},
	}
	matrix(t, columns, rows, events.DecideSetup, func(e *events.Event) string { return string(e.Data.Setup.Status) })
}

func TestPaymentMethodMatrix(t *testing.T) {
	t.Parallel()
	attached := method(true, "4242")
	bare := events.MethodObserved{ProviderID: provider, Method: events.Method{ID: "pm_1", Attached: true}}
	asked := start().AddDate(0, 0, 1)
	last := attached // in its last month
	last.Method.ExpiryMonth, last.Method.ExpiryYear = int(start().Month()), start().Year()
	columns := []column[events.PaymentMethodInput]{
		{"nothing", nil},
		{"live", []events.PaymentMethodInput{attached}},
		{"default requested", []events.PaymentMethodInput{attached, events.SetDefaultMethod{}}},
		{"default set", []events.PaymentMethodInput{attached, events.SetDefaultMethod{}, events.DefaultSet{RequestedAt: asked}}},
		{"detach requested", []events.PaymentMethodInput{attached, events.DetachMethod{}}},
		{"detached", []events.PaymentMethodInput{attached, events.DetachMethod{}, events.MethodGone{}}},
		{"begun detached", []events.PaymentMethodInput{method(false, "4242")}},
		{"expiring told", []events.PaymentMethodInput{last, events.MethodExpiring{}}},
	}
	rows := []row[events.PaymentMethodInput]{
		{"attached", attached, "attached | - | - | - | - | - | - | updated"},
		{"attached, nothing of the card said", bare, "attached | - | - | - | - | - | - | -"},
		{"changed", method(true, "4444"), "attached | updated | updated | updated | updated | - | - | updated"},
		{"off its customer", method(false, "4242"), "detached | detached | detached | detached | detached | - | - | detached"},
		{"set default", events.SetDefaultMethod{}, "payment_method_not_found | default_requested | default_requested | default_requested | payment_method_not_found | payment_method_not_found | payment_method_not_found | default_requested"},
		{"default set", events.DefaultSet{RequestedAt: asked}, "payment_method_not_found | default_set | default_set | - | default_set | - | - | default_set"},
		{"detach", events.DetachMethod{}, "payment_method_not_found | detach_requested | detach_requested | detach_requested | - | - | - | detach_requested"},
		{"gone", events.MethodGone{}, "- | detached | detached | detached | detached | - | - | detached"},
		{"promoted", events.PromoteMethod{At: asked}, "- | default_requested | default_requested | - | - | - | - | default_requested"},
		{"promoted in the past", events.PromoteMethod{At: start()}, "- | - | - | - | - | - | - | -"},
		{"looked at long before it expires", events.MethodExpiring{}, "- | - | - | - | - | - | - | -"},
	}
	matrix(t, columns, rows, events.DecidePaymentMethod, func(*events.Event) string { return "" })
}

func TestProviderAccountMatrix(t *testing.T) {
	t.Parallel()
	link := func(id string) events.LinkAccount {
		return events.LinkAccount{ProviderID: provider, ProviderCustomerID: id}
	}
	unlink := func(id string) events.UnlinkAccount { return events.UnlinkAccount{ProviderCustomerID: id} }
	columns := []column[events.ProviderAccountInput]{
		{"nothing", nil},
		{"linked", []events.ProviderAccountInput{link("cus_1")}},
		{"unlinked", []events.ProviderAccountInput{link("cus_1"), unlink("cus_1")}},
		{"linked anew", []events.ProviderAccountInput{link("cus_1"), unlink("cus_1"), link("cus_2")}},
	}
	rows := []row[events.ProviderAccountInput]{
		{"link", link("cus_1"), "linked | - | - | -"},
		{"link another", link("cus_2"), "linked | - | linked | -"},
		{"unlink", unlink("cus_1"), "- | unlinked | - | -"},
		{"unlink another", unlink("cus_2"), "- | - | - | unlinked"},
	}
	matrix(t, columns, rows, events.DecideProviderAccount, func(*events.Event) string { return "" })
}

func TestCustomerMatrix(t *testing.T) {
	t.Parallel()
	sync := func(revision uint64, changed ...string) events.SyncCustomer {
		return events.SyncCustomer{ReferenceID: "user_123", Revision: revision, Changed: changed}
	}
	columns := []column[events.CustomerInput]{
		{"nothing", nil},
		{"live", []events.CustomerInput{sync(1, "email")}},
		{"deleted", []events.CustomerInput{sync(1, "email"), events.DeleteCustomer{Revision: 1}}},
		{"revived", []events.CustomerInput{sync(1, "email"), events.DeleteCustomer{Revision: 1}, sync(2)}},
	}
	rows := []row[events.CustomerInput]{
		{"sync", sync(3, "name"), "created | updated | updated | updated"},
		{"sync without a change", sync(3), "created | - | updated | -"},
		{"delete", events.DeleteCustomer{Revision: 3}, "customer_not_found | deleted | - | deleted"},
	}
	matrix(t, columns, rows, events.DecideCustomer, func(*events.Event) string { return "" })
}

func createSetup() events.CreateSetup {
	return events.CreateSetup{
		ID: events.SetupID("k"), ProviderID: provider, ReturnURL: "https://app.example.com/back", CommandDigest: "sha256:aa",
	}
}
