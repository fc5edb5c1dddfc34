package provider_test

import (
	"slices"
	"testing"

	"github.com/paykit-go/paykit/internal/events"
)

// row is what deliveries lead to: the table of the design, one real delivery after the other.
type row struct {
	name    string
	prepare func(in *ingest) *buyer
	deliver func(b *buyer) []string
	want    []events.Type
	check   func(t *testing.T, b *buyer)
}

func asked(in *ingest) *buyer     { return in.buyer().charge("") }
func onSession(in *ingest) *buyer { return in.buyer().charge("https://example.com/back") }
func shopping(in *ingest) *buyer  { return in.buyer().checkout() }
func saving(in *ingest) *buyer    { return in.buyer().setup() }
func known(in *ingest) *buyer     { return in.buyer() }

// underWay is a charge that the provider works on.
func underWay(in *ingest) *buyer {
	b := in.buyer().charge("")
	in.deliver(b.event("payment_intent.processing", b.intent("processing")))
	return b
}

// paid is a delivery that makes the buyer's charge succeed.
func (b *buyer) paid() string { return b.event("payment_intent.succeeded", b.intent("succeeded")) }

// TestDeliveries delivers each row, then all of it again under other event ids, which must lead to nothing.
func TestDeliveries(t *testing.T) { //nolint:tparallel // its rows share one server, one after the other
	t.Parallel()
	in := newIngest(t, options{})
	for _, rows := range [][]row{paymentRows(), sessionRows(), refundRows(), disputeRows(), methodRows(), customerRows(), nothingRows()} {
		for _, r := range rows {
			t.Run(r.name, func(t *testing.T) {
				in.t = t
				b := r.prepare(in)
				after := in.last()
				bodies := r.deliver(b)
				in.deliver(bodies...)
				if got := in.types(after); !slices.Equal(got, r.want) {
					t.Fatalf("events %v, want %v", got, r.want)
				}
				if r.check != nil {
					r.check(t, b)
				}
				for _, body := range bodies {
					in.deliver(in.again(body))
				}
				if got := in.types(after); !slices.Equal(got, r.want) {
					t.Errorf("delivered again: events %v, want %v", got, r.want)
				}
			})
		}
	}
}

func paymentRows() []row {
	return []row{
		{
			"payment succeeded", asked, func(b *buyer) []string { return []string{b.paid()} },
			[]events.Type{events.ChargeSucceeded},
			func(t *testing.T, b *buyer) {
				t.Helper()
				c := b.in.chargeState(b.chargeID)
				if c.ProviderPaymentID != "pi_"+b.n || c.ProviderChargeID != "ch_"+b.n || c.Status != events.ChargeStatusSucceeded || c.ReportedByProvider {
					t.Errorf("%+v", c)
				}
				e := b.in.state(events.EntityCharge, b.chargeID)
				if e.Source != "/paykit/ingest" || e.CausationID[:4] != "evt_" || e.CorrelationID != events.CommandID("test", b.chargeID) {
					t.Errorf("source %s, cause %s, correlation %s", e.Source, e.CausationID, e.CorrelationID)
				}
			},
		},
		{"charge succeeded", asked, func(b *buyer) []string {
			return []string{b.event("charge.succeeded", b.chargeObject("succeeded"))}
		}, []events.Type{events.ChargeSucceeded}, nil},
		{"both", asked, func(b *buyer) []string {
			return []string{b.event("charge.succeeded", b.chargeObject("succeeded")), b.paid()}
		}, []events.Type{events.ChargeSucceeded}, nil},
		{"charge authorized, not captured", asked, func(b *buyer) []string {
			return []string{b.event("charge.succeeded", b.chargeObject("succeeded", fields{"captured": false}))}
		}, []events.Type{}, nil},
		{"payment declined", asked, func(b *buyer) []string {
			return []string{b.event("payment_intent.payment_failed", b.intent("requires_payment_method", declined("card_declined", "insufficient_funds")))}
		}, []events.Type{events.ChargeFailed}, func(t *testing.T, b *buyer) {
			t.Helper()
			f := b.in.chargeState(b.chargeID).Failure
			if f == nil || f.Code != "card_declined" || f.DeclineCode != "insufficient_funds" || f.Message == "" {
				t.Errorf("failure %+v", f)
			}
		}},
		{"charge declined", asked, func(b *buyer) []string {
			return []string{b.event("charge.failed", b.chargeObject("failed", fields{"failure_code": "card_declined"}))}
		}, []events.Type{events.ChargeFailed}, nil},
		{"declined, then paid: money wins", asked, func(b *buyer) []string {
			return []string{b.event("charge.failed", b.chargeObject("failed", fields{"failure_code": "card_declined"})), b.paid()}
		}, []events.Type{events.ChargeFailed, events.ChargeSucceeded}, nil},
		{"authentication wanted, without a page to return to", asked, func(b *buyer) []string {
			return []string{b.event("payment_intent.payment_failed", b.intent("requires_payment_method", declined("authentication_required", "")))}
		}, []events.Type{events.ChargeFailed}, nil},
		{"authentication wanted, with a page to return to: detail", onSession, func(b *buyer) []string {
			return []string{b.event("payment_intent.payment_failed", b.intent("requires_payment_method", declined("authentication_required", "")))}
		}, []events.Type{}, nil},
		{"authentication failed", onSession, func(b *buyer) []string {
			return []string{b.event("payment_intent.payment_failed", b.intent("requires_payment_method", declined("payment_intent_authentication_failure", "")))}
		}, []events.Type{events.ChargeFailed}, nil},
		{"a declined card on an open checkout: detail", shopping, func(b *buyer) []string {
			return []string{
				b.event("payment_intent.payment_failed", b.intent("requires_payment_method", declined("card_declined", ""))),
				b.event("charge.failed", b.chargeObject("failed", fields{"failure_code": "card_declined"})),
			}
		}, []events.Type{}, nil},
		{"under way", asked, func(b *buyer) []string {
			return []string{b.event("payment_intent.processing", b.intent("processing")), b.paid()}
		}, []events.Type{events.ChargeProcessing, events.ChargeSucceeded}, nil},
		{"under way, late", asked, func(b *buyer) []string {
			return []string{b.paid(), b.event("payment_intent.processing", b.intent("processing"))}
		}, []events.Type{events.ChargeSucceeded}, nil},
		{"a checkout's payment under way", shopping, func(b *buyer) []string {
			return []string{b.event("payment_intent.processing", b.intent("processing")), b.paid()}
		}, []events.Type{events.ChargeProcessing, events.ChargeSucceeded}, nil},
		{"canceled", asked, func(b *buyer) []string {
			return []string{b.event("payment_intent.canceled", b.intent("canceled"))}
		}, []events.Type{events.ChargeCanceled}, nil},
		{"canceled because nobody acted", onSession, func(b *buyer) []string {
			return []string{b.event("payment_intent.canceled", b.intent("canceled", fields{"cancellation_reason": "abandoned"}))}
		}, []events.Type{events.ChargeCanceled}, func(t *testing.T, b *buyer) {
			t.Helper()
			if f := b.in.chargeState(b.chargeID).Failure; f == nil || f.Code != events.FailureActionExpired {
				t.Errorf("failure %+v", f)
			}
		}},
		{
			"a checkout's payment", shopping, func(b *buyer) []string { return []string{b.paid()} },
			[]events.Type{events.ChargeSucceeded},
			func(t *testing.T, b *buyer) {
				t.Helper()
				c := b.in.chargeState(events.CheckoutChargeID(b.checkoutID))
				if c.CheckoutID != b.checkoutID || c.Description != "Pro plan" || c.Metadata["plan"] != "pro" || c.ReportedByProvider || c.Amount != 4900 {
					t.Errorf("%+v", c)
				}
			},
		},
		{"a foreign payment of our customer", known, func(b *buyer) []string {
			return []string{b.event("payment_intent.succeeded", b.intent("succeeded", foreign())), b.event("charge.succeeded", b.chargeObject("succeeded", foreign()))}
		}, []events.Type{events.ChargeSucceeded}, func(t *testing.T, b *buyer) {
			t.Helper()
			c := b.in.chargeState(events.ReportedChargeID(stripeID, "pi_"+b.n, ""))
			if !c.ReportedByProvider || c.Description != "" || len(c.Metadata) != 0 || c.CustomerID != b.ref.ID {
				t.Errorf("%+v", c)
			}
		}},
		{"a foreign charge without a payment", known, func(b *buyer) []string {
			return []string{
				b.event("charge.succeeded", b.chargeObject("succeeded", foreign(), fields{"payment_intent": nil})),
				b.event("refund.created", b.refund("", "succeeded", 100, fields{"payment_intent": nil})),
			}
		}, []events.Type{events.ChargeSucceeded, events.ChargeRefunded}, func(t *testing.T, b *buyer) {
			t.Helper()
			if c := b.in.chargeState(events.ReportedChargeID(stripeID, "", "ch_"+b.n)); c.AmountRefunded != 100 {
				t.Errorf("%+v", c)
			}
		}},
		{"foreign, and not paid", known, func(b *buyer) []string {
			return []string{
				b.event("payment_intent.processing", b.intent("processing", foreign())),
				b.event("payment_intent.payment_failed", b.intent("requires_payment_method", foreign(), declined("card_declined", ""))),
				b.event("payment_intent.canceled", b.intent("canceled", foreign())),
			}
		}, []events.Type{}, nil},
	}
}

func sessionRows() []row {
	return []row{
		{"checkout paid", shopping, func(b *buyer) []string {
			return []string{b.event("checkout.session.completed", b.session("complete", "paid"))}
		}, []events.Type{events.CheckoutCompleted}, func(t *testing.T, b *buyer) {
			t.Helper()
			c := b.in.state(events.EntityCheckout, b.checkoutID).Data.Checkout
			if c.ChargeID != events.CheckoutChargeID(b.checkoutID) || c.ProviderSessionID != "cs_"+b.n || c.URL != "" {
				t.Errorf("%+v", c)
			}
		}},
		{"checkout complete, not paid yet", shopping, func(b *buyer) []string {
			return []string{b.event("checkout.session.completed", b.session("complete", "unpaid"))}
		}, []events.Type{}, nil},
		{"checkout paid later", shopping, func(b *buyer) []string {
			return []string{
				b.event("checkout.session.completed", b.session("complete", "unpaid")),
				b.event("checkout.session.async_payment_succeeded", b.session("complete", "paid")),
			}
		}, []events.Type{events.CheckoutCompleted}, nil},
		{"checkout's payment failed later", shopping, func(b *buyer) []string {
			return []string{b.event("checkout.session.async_payment_failed", b.session("complete", "unpaid"))}
		}, []events.Type{events.CheckoutFailed}, nil},
		{"checkout expired", shopping, func(b *buyer) []string {
			return []string{b.event("checkout.session.expired", b.session("expired", "unpaid"))}
		}, []events.Type{events.CheckoutExpired}, nil},
		{"checkout expired, and paid after all", shopping, func(b *buyer) []string {
			return []string{
				b.event("checkout.session.expired", b.session("expired", "unpaid")),
				b.event("checkout.session.completed", b.session("complete", "paid")),
			}
		}, []events.Type{events.CheckoutExpired, events.CheckoutCompleted}, nil},
		{"checkout paid, and a late expiry", shopping, func(b *buyer) []string {
			return []string{
				b.event("checkout.session.completed", b.session("complete", "paid")),
				b.event("checkout.session.expired", b.session("expired", "unpaid")),
			}
		}, []events.Type{events.CheckoutCompleted}, nil},
		{"setup saved", saving, func(b *buyer) []string {
			return []string{b.event("setup_intent.succeeded", b.setupIntent())}
		}, []events.Type{events.SetupCompleted}, func(t *testing.T, b *buyer) {
			t.Helper()
			if s := b.in.state(events.EntitySetup, b.setupID).Data.Setup; s.PaymentMethodID != events.PaymentMethodID(stripeID, "pm_"+b.n) {
				t.Errorf("%+v", s)
			}
		}},
		{"setup saved, without the customer's name on it", saving, func(b *buyer) []string {
			return []string{b.event("setup_intent.succeeded", b.setupIntent(fields{"customer": nil}))}
		}, []events.Type{events.SetupCompleted}, nil},
		{"setup's page complete: the worker asks for the method", saving, func(b *buyer) []string {
			return []string{b.event("checkout.session.completed", b.setupSession("complete"))}
		}, []events.Type{events.SetupRefreshRequested}, nil},
		{"setup's page complete after it was saved", saving, func(b *buyer) []string {
			return []string{
				b.event("setup_intent.succeeded", b.setupIntent()),
				b.event("checkout.session.completed", b.setupSession("complete")),
			}
		}, []events.Type{events.SetupCompleted}, nil},
		{"setup's page complete before it was saved", saving, func(b *buyer) []string {
			return []string{
				b.event("checkout.session.completed", b.setupSession("complete")),
				b.event("setup_intent.succeeded", b.setupIntent()),
			}
		}, []events.Type{events.SetupRefreshRequested, events.SetupCompleted}, nil},
		{"setup's page expired", saving, func(b *buyer) []string {
			return []string{b.event("checkout.session.expired", b.setupSession("expired"))}
		}, []events.Type{events.SetupExpired}, nil},
	}
}
