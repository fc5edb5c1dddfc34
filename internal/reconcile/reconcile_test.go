package reconcile_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
	"github.com/paykit-go/paykit/internal/reconcile"
)

// difference is what a row wants to be found: what of it repaired it, "" if nothing can.
type difference struct {
	kind  reconcile.Kind
	cause reconcile.Cause
	event events.Type
}

// row plants a difference.
type row struct {
	name  string
	plant func(w *world)
	want  []difference
}

// Each difference is found, reported with words, repaired if an event can, and then it is gone; what no event can repair
// stays and comes with a proposal. The log stays one that the checker has nothing against.
func TestDifferences(t *testing.T) {
	t.Parallel()
	for _, rows := range [][]row{customerRows(), methodRows(), paymentRows(), hangingRows(), pageRows(), contradictionRows()} {
		for _, r := range rows {
			t.Run(strings.ReplaceAll(r.name, " ", "_"), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				r.plant(w)
				check(w, r.want)
			})
		}
	}
}

func check(w *world, want []difference) {
	w.Helper()
	before := w.compare(reconcile.Options{})
	var found, remain []difference
	for _, d := range before.Differences {
		found = append(found, difference{kind: d.Kind, cause: d.Cause})
		if d.Message == "" || d.ProviderObjectID == "" || d.Repaired || d.Repairable == (d.Proposal != "") {
			w.Errorf("difference %+v", d)
		}
	}
	var plain []difference
	for _, d := range want {
		plain = append(plain, difference{kind: d.kind, cause: d.cause})
		if d.event == "" {
			remain = append(remain, d)
		}
	}
	if diff := cmp.Diff(plain, found, cmp.AllowUnexported(difference{})); diff != "" {
		w.Fatalf("found:\n%s\n%+v", diff, before.Differences)
	}
	if before.OK != (len(want) == 0) || before.Remaining != len(want) || before.Repaired != 0 {
		w.Errorf("report %+v", before)
	}

	fixed := w.compare(reconcile.Options{Fix: true})
	found = nil
	for i, d := range fixed.Differences {
		found = append(found, difference{d.Kind, d.Cause, events.Type(d.Event)})
		if d.Kind == reconcile.KindPayment && d.EntityID != before.Differences[i].EntityID {
			w.Errorf("the charge is %s, %s was said before", d.EntityID, before.Differences[i].EntityID)
		}
		if d.Repaired != (d.Event != "") {
			w.Errorf("difference %+v", d)
		}
		if d.Event != "" {
			if e := w.event(d.EntityID); e == nil || e.Source != provider.SourceReconcile {
				w.Errorf("%s: the event is %+v", d.EntityID, e)
			}
		}
	}
	if diff := cmp.Diff(want, found, cmp.AllowUnexported(difference{})); diff != "" {
		w.Errorf("repaired:\n%s\n%+v", diff, fixed.Differences)
	}
	after := w.compare(reconcile.Options{Fix: true})
	found = nil
	for _, d := range after.Differences {
		found = append(found, difference{kind: d.Kind, cause: d.Cause})
	}
	if diff := cmp.Diff(remain, found, cmp.AllowUnexported(difference{})); diff != "" || after.Repaired != 0 || after.OK != (len(remain) == 0) {
		w.Errorf("found again:\n%s\n%+v", diff, after.Differences)
	}
	w.verified()
}

// While a customer is not linked what is theirs is nobody's; one run links the customer and repairs all that then shows.
func TestOneRunRepairsWhatHangsTogether(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.customer()
	cus := b.made()
	b.pm = w.post("/v1/payment_methods/pm_card_visa/attach", "customer", cus)
	w.post("/v1/refunds", "payment_intent", b.paid(cus, 1500), "amount", "400")
	if r := w.compare(reconcile.Options{}); len(r.Differences) != 1 || r.Differences[0].Cause != reconcile.NotLinked {
		t.Errorf("found %+v", r.Differences)
	}
	var repaired []string
	for _, d := range w.compare(reconcile.Options{Fix: true}).Differences {
		repaired = append(repaired, d.Event)
	}
	if diff := cmp.Diff([]string{"provider_account.linked", "payment_method.attached", "charge.succeeded", "charge.refunded"}, repaired); diff != "" {
		t.Error(diff)
	}
	if r := w.compare(reconcile.Options{}); !r.OK {
		t.Errorf("then %+v", r.Differences)
	}
	w.verified()
}

// Since leaves out what was made before; what is open here is asked about whatever its age.
func TestSince(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.linked("pm_card_visa")
	b.paid(b.cus, 1500)
	open := b.begun()
	b.confirm(open.ProviderPaymentID)
	w.control(http.MethodPost, "/_sandbox/clock/advance", `{"by":"48h"}`)
	b.paid(b.cus, 2500)
	r := w.compare(reconcile.Options{Since: time.Now().Add(24 * time.Hour)})
	var found []string
	for _, d := range r.Differences {
		found = append(found, string(d.Cause)+" "+d.There)
	}
	if diff := cmp.Diff([]string{"missing_here succeeded 25.00 USD", "status_differs succeeded 49.00 USD"}, found); diff != "" || r.Sums != nil {
		t.Errorf("%s\n%+v", diff, r)
	}
}

// A list is read to its end, page by page, and a page that fails for the moment is asked for again.
func TestManyPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.linked("pm_card_visa")
	const n = 230
	for range n {
		b.paid(b.cus, 1500)
	}
	w.control(http.MethodPost, "/_sandbox/faults", `{"operation":"payment_intents.list","kind":"status","status":503,"nth":2}`)
	r := w.compare(reconcile.Options{Fix: true})
	if r.Repaired != n || !r.OK || r.Compared.Payments != n {
		t.Errorf("repaired %d, %+v", r.Repaired, r.Compared)
	}
	if r := w.compare(reconcile.Options{}); !r.OK || len(r.Sums) != 1 || r.Sums[0].Here != r.Sums[0].There || r.Sums[0].Here.Amount != n*1500 {
		t.Errorf("then %+v", r)
	}
}

// All payments are handed on as they are there, with what was given back of each, for the checker of the log.
func TestPayments(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.linked("pm_card_visa")
	c := b.charged()
	second := b.paid(b.cus, 4900, "paykit_env", w.log.Env(), "paykit_charge", c.ID)
	w.post("/v1/refunds", "payment_intent", second, "amount", "900")
	w.post("/v1/refunds", "payment_intent", second)
	list := map[string]string{}
	for _, p := range w.compare(reconcile.Options{Fix: true, Money: true}).Payments {
		list[p.ID] = fmt.Sprintf("%s %s %d %d", p.Status, p.Owner.Charge, p.Amount, p.Refunded)
	}
	want := map[string]string{c.ProviderPaymentID: "succeeded " + c.ID + " 4900 0", second: "succeeded " + c.ID + " 4900 4900"}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Error(diff)
	}
}

func customerRows() []row {
	return []row{
		{"nothing differs", func(w *world) {
			b := w.linked("pm_card_visa")
			b.charged()
			b.paid(b.cus, 700, "paykit_env", "another", "paykit_charge", "chg_x") // of another environment
			cus := w.post("/v1/customers")                                        // nobody's
			b.pm = w.post("/v1/payment_methods/pm_card_visa/attach", "customer", cus)
			w.post("/v1/refunds", "payment_intent", b.paid(cus, 800))
		}, nil},
		{"a customer is not linked", func(w *world) { w.customer().made() }, []difference{
			{reconcile.KindCustomer, reconcile.NotLinked, events.ProviderAccountLinked},
		}},
		{"a customer is gone there", func(w *world) {
			w.send(http.MethodDelete, "/v1/customers/"+w.linked("pm_card_visa").cus, "", http.NoBody)
		}, []difference{{reconcile.KindCustomer, reconcile.DeletedThere, events.ProviderAccountUnlinked}}},
		{"a customer that the provider never had", func(w *world) {
			w.linked("pm_card_visa")
			b := w.customer()
			w.observe(provider.CustomerSeen{ID: "cus_never", Owner: events.Owner{Env: w.log.Env(), Customer: b.ref.ID}})
			w.observe(provider.MethodSeen{First: true, Method: events.Method{
				ID: "pm_never", ProviderCustomerID: "cus_never", Attached: true, Type: "card", Brand: "visa", Last4: "4242", ExpiryMonth: 1, ExpiryYear: 2040,
			}})
		}, []difference{{reconcile.KindCustomer, reconcile.MissingThere, ""}}},
		{"a customer is not known here", func(w *world) {
			(&buyer{world: w, ref: events.CustomerRef{ID: events.CustomerID("nobody")}}).made()
		}, []difference{{reconcile.KindCustomer, reconcile.MissingHere, ""}}},
		{"a customer was made twice", func(w *world) { w.linked("pm_card_visa").made() }, []difference{
			{reconcile.KindCustomer, reconcile.SecondCustomer, ""},
		}},
		{"a customer was deleted here", func(w *world) {
			b := w.linked("pm_card_visa")
			w.append(events.EntityCustomer, b.ref.ID, b.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
				return events.DecideCustomer(last, events.DeleteCustomer{}, c)
			})
		}, []difference{{reconcile.KindCustomer, reconcile.DeletedHere, ""}}},
	}
}

func methodRows() []row {
	return []row{
		{"a method is missing here", func(w *world) {
			w.post("/v1/payment_methods/pm_card_mastercard/attach", "customer", w.linked("pm_card_visa").cus)
		}, []difference{{reconcile.KindMethod, reconcile.MissingHere, events.PaymentMethodAttached}}},
		{"a method was detached there", func(w *world) {
			w.post("/v1/payment_methods/" + w.linked("pm_card_visa").pm + "/detach")
		}, []difference{{reconcile.KindMethod, reconcile.DetachedThere, events.PaymentMethodDetached}}},
		{"a method that the provider never had", func(w *world) {
			w.observe(provider.MethodSeen{First: true, Method: events.Method{
				ID: "pm_never", ProviderCustomerID: w.linked("pm_card_visa").cus, Attached: true, Type: "card", Brand: "visa", Last4: "4242", ExpiryMonth: 1, ExpiryYear: 2040,
			}})
		}, []difference{{reconcile.KindMethod, reconcile.MissingThere, ""}}},
		{"a card has another expiry", func(w *world) {
			w.post("/v1/payment_methods/"+w.linked("pm_card_visa").pm, "card[exp_month]", "2", "card[exp_year]", "2044")
		}, []difference{{reconcile.KindMethod, reconcile.DetailsDiffer, events.PaymentMethodUpdated}}},
		{"a method was detached here", func(w *world) {
			b := w.linked("pm_card_visa")
			w.append(events.EntityPaymentMethod, b.meth, b.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
				return events.DecidePaymentMethod(last, events.MethodGone{}, c)
			})
		}, []difference{{reconcile.KindMethod, reconcile.DetachedHere, ""}}},
	}
}

func paymentRows() []row {
	return []row{
		{"a payment was made in the dashboard", func(w *world) {
			b := w.linked("pm_card_visa")
			b.paid(b.cus, 1500)
		}, []difference{{reconcile.KindPayment, reconcile.MissingHere, events.ChargeSucceeded}}},
		{"a payment succeeded and nobody heard", func(w *world) {
			b := w.linked("pm_card_visa")
			b.confirm(b.begun().ProviderPaymentID)
		}, []difference{{reconcile.KindPayment, reconcile.StatusDiffers, events.ChargeSucceeded}}},
		{"a payment was declined and nobody heard", func(w *world) {
			b := w.linked("pm_card_chargeCustomerFail")
			b.confirm(b.begun().ProviderPaymentID)
		}, []difference{{reconcile.KindPayment, reconcile.StatusDiffers, events.ChargeFailed}}},
		{"a payment was canceled there", func(w *world) {
			w.post("/v1/payment_intents/" + w.linked("pm_card_visa").begun().ProviderPaymentID + "/cancel")
		}, []difference{{reconcile.KindPayment, reconcile.StatusDiffers, events.ChargeCanceled}}},
		{"a payment that waits is the worker's", func(w *world) { w.linked("pm_card_visa").begun() }, nil},
		{"a declined charge that is tried again tomorrow", func(w *world) {
			b := w.linked("pm_card_chargeCustomerFail")
			id := b.askedWith(&events.RetrySchedule{Name: "daily", Delays: []time.Duration{24 * time.Hour}})
			w.worker("the charge waits for its next attempt", func() bool {
				c := w.event(id).Data.Charge
				return c.Status == events.ChargeStatusFailed && c.Retry.Status == events.RetryWaiting
			})
		}, nil},
		{"a charge was paid twice", func(w *world) {
			b := w.linked("pm_card_visa")
			b.paid(b.cus, 4900, "paykit_env", w.log.Env(), "paykit_charge", b.charged().ID)
		}, []difference{{reconcile.KindPayment, reconcile.SecondPayment, events.ChargeReviewRequested}}},
		{"an orphan payment of a linked customer", func(w *world) {
			b := w.linked("pm_card_visa")
			b.paid(b.cus, 4900, "paykit_env", w.log.Env(), "paykit_charge", events.ChargeID("lost"))
		}, []difference{{reconcile.KindPayment, reconcile.OrphanPayment, events.ChargeSucceeded}}},
		{"an orphan payment of a linked customer's charge", func(w *world) {
			b := w.linked("pm_card_visa")
			b.paid(b.cus, 4900, "paykit_env", w.log.Env(), "paykit_customer", b.ref.ID, "paykit_charge", events.ChargeID("lost"))
		}, []difference{{reconcile.KindPayment, reconcile.OrphanPayment, events.ChargeSucceeded}}},
		{"an orphan payment of nobody", func(w *world) {
			b := w.linked("pm_card_visa")
			cus := w.post("/v1/customers")
			b.pm = w.post("/v1/payment_methods/pm_card_visa/attach", "customer", cus)
			b.paid(cus, 4900, "paykit_env", w.log.Env(), "paykit_charge", events.ChargeID("lost"))
		}, []difference{{reconcile.KindPayment, reconcile.OrphanPayment, ""}}},
	}
}

func hangingRows() []row {
	refunded := func(card string, more ...string) func(w *world) {
		return func(w *world) {
			c := w.linked(card).charged()
			w.post("/v1/refunds", append([]string{"payment_intent", c.ProviderPaymentID}, more...)...)
		}
	}
	return []row{
		{"a refund in the dashboard", refunded("pm_card_visa", "amount", "900"), []difference{
			{reconcile.KindRefund, reconcile.MissingHere, events.ChargeRefunded},
		}},
		{"a payment and its refund in the dashboard", func(w *world) {
			b := w.linked("pm_card_visa")
			w.post("/v1/refunds", "payment_intent", b.paid(b.cus, 1500))
		}, []difference{
			{reconcile.KindPayment, reconcile.MissingHere, events.ChargeSucceeded},
			{reconcile.KindRefund, reconcile.MissingHere, events.ChargeRefunded},
		}},
		{"a refund that came through", func(w *world) {
			c := w.linked("pm_card_pendingRefund").charged()
			re := w.post("/v1/refunds", "payment_intent", c.ProviderPaymentID, "amount", "900")
			w.observe(provider.RefundSeen{RefundReport: events.RefundReport{
				ID: re, ProviderPaymentID: c.ProviderPaymentID, Amount: 900, Currency: "usd", Status: events.RefundPending,
			}})
			w.until("the refund succeeds", func() bool {
				list, err := w.api.RefundsOf(w.Context(), c.ProviderPaymentID, "")
				return err == nil && len(list) == 1 && list[0].Status == events.RefundSucceeded
			})
		}, []difference{{reconcile.KindRefund, reconcile.StatusDiffers, events.ChargeRefunded}}},
		{"a refund that failed", func(w *world) {
			c := w.linked("pm_card_refundFail").charged()
			re := w.post("/v1/refunds", "payment_intent", c.ProviderPaymentID)
			w.observe(provider.RefundSeen{RefundReport: events.RefundReport{
				ID: re, ProviderPaymentID: c.ProviderPaymentID, Amount: 4900, Currency: "usd", Status: events.RefundSucceeded,
			}})
			w.until("the refund fails", func() bool {
				list, err := w.api.RefundsOf(w.Context(), c.ProviderPaymentID, "")
				return err == nil && len(list) == 1 && list[0].Status == events.RefundFailed
			})
		}, []difference{{reconcile.KindRefund, reconcile.StatusDiffers, events.ChargeRefundFailed}}},
		{"a fraud warning", func(w *world) { w.warned() }, []difference{
			{reconcile.KindFraudWarning, reconcile.MissingHere, events.ChargeFraudWarned},
		}},
		{"a fraud warning of a payment in the dashboard", func(w *world) {
			b := w.linked("pm_card_createIssuerFraudRecord")
			b.paid(b.cus, 1500)
			w.warning()
		}, []difference{
			{reconcile.KindPayment, reconcile.MissingHere, events.ChargeSucceeded},
			{reconcile.KindFraudWarning, reconcile.MissingHere, events.ChargeFraudWarned},
		}},
		{"a fraud warning about which nothing is left to do", func(w *world) {
			w.observe(provider.FraudWarningSeen{FraudWarningReport: w.warned()})
			c := w.warning()
			w.post("/v1/refunds", "payment_intent", c.ProviderPaymentID)
		}, []difference{
			{reconcile.KindRefund, reconcile.MissingHere, events.ChargeRefunded},
			{reconcile.KindFraudWarning, reconcile.StatusDiffers, events.ChargeFraudWarned},
		}},
		{"a fraud warning that is not there", func(w *world) {
			c := w.linked("pm_card_visa").charged()
			w.observe(provider.FraudWarningSeen{FraudWarningReport: events.FraudWarningReport{
				ID: "issfr_never", ProviderPaymentID: c.ProviderPaymentID, Type: "misc", Actionable: true,
			}})
		}, []difference{{reconcile.KindFraudWarning, reconcile.MissingThere, ""}}},
		{"a dispute", func(w *world) { w.disputed() }, []difference{
			{reconcile.KindDispute, reconcile.MissingHere, events.ChargeDisputed},
		}},
		{"a dispute that was lost", func(w *world) {
			d := w.disputed()
			w.observe(provider.DisputeSeen{DisputeReport: d})
			w.post("/v1/disputes/" + d.ID + "/close")
		}, []difference{{reconcile.KindDispute, reconcile.StatusDiffers, events.ChargeDisputeClosed}}},
	}
}

// warned is a charge of which a fraud warning came.
func (w *world) warned() events.FraudWarningReport {
	w.Helper()
	w.linked("pm_card_createIssuerFraudRecord").charged()
	return w.warning()
}

// warning waits for the fraud warning.
func (w *world) warning() (f events.FraudWarningReport) {
	w.Helper()
	w.until("there is a fraud warning", func() bool {
		err := w.api.ListFraudWarnings(w.Context(), time.Time{}, func(one events.FraudWarningReport) error {
			f = one
			return nil
		})
		return err == nil && f.ID != ""
	})
	return f
}

// disputed is a charge that was disputed.
func (w *world) disputed() (d events.DisputeReport) {
	w.Helper()
	w.linked("pm_card_createDispute").charged()
	w.until("there is a dispute", func() bool {
		err := w.api.ListDisputes(w.Context(), time.Time{}, func(one events.DisputeReport) error {
			d = one
			return nil
		})
		return err == nil && d.ID != ""
	})
	return d
}

func pageRows() []row {
	return []row{
		{"a checkout was paid and nobody heard", func(w *world) {
			b := w.linked("pm_card_visa")
			w.complete(b.page(true))
		}, []difference{
			{reconcile.KindMethod, reconcile.MissingHere, events.PaymentMethodAttached},
			{reconcile.KindPayment, reconcile.MissingHere, events.ChargeSucceeded},
			{reconcile.KindCheckout, reconcile.StatusDiffers, events.CheckoutCompleted},
		}},
		{"a checkout expired and nobody heard", func(w *world) {
			w.post("/v1/checkout/sessions/" + w.linked("pm_card_visa").page(true) + "/expire")
		}, []difference{{reconcile.KindCheckout, reconcile.StatusDiffers, events.CheckoutExpired}}},
		{"a card was saved and nobody heard", func(w *world) {
			w.complete(w.linked("pm_card_visa").page(false))
		}, []difference{
			{reconcile.KindMethod, reconcile.MissingHere, events.PaymentMethodAttached},
			{reconcile.KindSetup, reconcile.StatusDiffers, events.SetupCompleted},
		}},
		{"a page that waits for its buyer", func(w *world) { w.linked("pm_card_visa").page(true) }, nil},
	}
}

func (w *world) complete(session string) {
	w.Helper()
	w.control(http.MethodPost, "/_sandbox/checkout/"+session+"/complete", `{"card":"5555555555554444"}`)
}

// page opens a checkout or a setup and gives the session's id.
func (b *buyer) page(pay bool) (session string) {
	b.Helper()
	b.n++
	id := events.SetupID(fmt.Sprint("page ", b.n))
	if pay {
		id = events.CheckoutID(fmt.Sprint("page ", b.n))
		b.append(events.EntityCheckout, id, b.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
			return events.DecideCheckout(last, events.CreateCheckout{
				ID: id, ProviderID: stripeID, Amount: 4900, Currency: "usd", SuccessURL: "https://example.com/ok", AttachMethod: true, CommandDigest: "sha256:x",
			}, c)
		})
	} else {
		b.append(events.EntitySetup, id, b.ref, func(last *events.Event, c events.Cause) (*events.Event, error) {
			return events.DecideSetup(last, events.CreateSetup{ID: id, ProviderID: stripeID, ReturnURL: "https://example.com/back", CommandDigest: "sha256:x"}, c)
		})
	}
	b.worker("the page is made", func() bool {
		switch d := b.event(id).Data; {
		case d.Checkout != nil:
			session = d.Checkout.ProviderSessionID
		case d.Setup != nil:
			session = d.Setup.ProviderSessionID
		}
		return session != ""
	})
	return session
}

// contradictionRows are what the log says and the provider does not: no event takes an event back.
func contradictionRows() []row {
	return []row{
		{"a payment is not there", func(w *world) {
			b := w.linked("pm_card_visa")
			w.observe(provider.PaymentSeen{Payment: events.Payment{
				ID: "pi_gone", ProviderCustomerID: b.cus, Status: events.PaymentSucceeded, Amount: 100, Currency: "usd",
			}})
		}, []difference{{reconcile.KindPayment, reconcile.MissingThere, ""}}},
		{"another amount", func(w *world) {
			b := w.linked("pm_card_visa")
			w.observe(provider.PaymentSeen{Payment: events.Payment{
				ID: b.paid(b.cus, 1500), ProviderCustomerID: b.cus, Status: events.PaymentSucceeded, Amount: 1400, Currency: "usd",
			}})
		}, []difference{{reconcile.KindPayment, reconcile.AmountDiffers, ""}}},
		{"a success that is none", func(w *world) {
			b := w.linked("pm_card_visa")
			pi := w.post("/v1/payment_intents", "amount", "1500", "currency", "usd", "customer", b.cus)
			w.observe(provider.PaymentSeen{Payment: events.Payment{
				ID: pi, ProviderCustomerID: b.cus, Status: events.PaymentSucceeded, Amount: 1500, Currency: "usd",
			}})
		}, []difference{{reconcile.KindPayment, reconcile.StatusDiffers, ""}}},
		{"refunds and disputes that are not there", func(w *world) {
			c := w.linked("pm_card_visa").charged()
			w.observe(provider.RefundSeen{RefundReport: events.RefundReport{
				ID: "re_gone", ProviderPaymentID: c.ProviderPaymentID, Amount: 100, Currency: "usd", Status: events.RefundSucceeded,
			}})
			w.observe(provider.DisputeSeen{DisputeReport: events.DisputeReport{
				ID: "dp_gone", ProviderPaymentID: c.ProviderPaymentID, Amount: 100, Currency: "usd", Status: "needs_response",
			}})
		}, []difference{{reconcile.KindRefund, reconcile.MissingThere, ""}, {reconcile.KindDispute, reconcile.MissingThere, ""}}},
		{"a refund of another amount", func(w *world) {
			c := w.linked("pm_card_visa").charged()
			w.observe(provider.RefundSeen{RefundReport: events.RefundReport{
				ID: w.post("/v1/refunds", "payment_intent", c.ProviderPaymentID, "amount", "900"), ProviderPaymentID: c.ProviderPaymentID,
				Amount: 800, Currency: "usd", Status: events.RefundSucceeded,
			}})
		}, []difference{{reconcile.KindRefund, reconcile.AmountDiffers, ""}}},
		{"a dispute that was lost here only", func(w *world) {
			d := w.disputed()
			d.Status = "lost"
			w.observe(provider.DisputeSeen{DisputeReport: d})
		}, []difference{{reconcile.KindDispute, reconcile.StatusDiffers, ""}}},
	}
}
