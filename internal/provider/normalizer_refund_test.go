package provider_test

import (
	"testing"

	"github.com/paykit-go/paykit/internal/events"
)

func refundRows() []row {
	return []row{
		{"refund made elsewhere", asked, func(b *buyer) []string {
			return []string{
				b.paid(),
				b.event("refund.created", b.refund("", "pending", 900)),
				b.event("refund.updated", b.refund("", "succeeded", 900)),
				b.event("charge.refund.updated", b.refund("", "succeeded", 900)),
			}
		}, []events.Type{events.ChargeSucceeded, events.ChargeUpdated, events.ChargeRefunded}, func(t *testing.T, b *buyer) {
			t.Helper()
			c := b.in.chargeState(b.chargeID)
			want := events.ReportedRefundID(stripeID, "re_"+b.n)
			if c.AmountRefunded != 900 || len(c.Refunds) != 1 || c.Refunds[0].ID != want || c.Refunds[0].ProviderRefundID != "re_"+b.n {
				t.Errorf("%+v", c)
			}
		}},
		{"refund of ours, by its metadata", asked, func(b *buyer) []string {
			id := events.RefundID(b.chargeID, "key")
			return []string{b.paid(), b.event("refund.updated", b.refund("", "succeeded", 900,
				fields{"metadata": b.metadata(events.Owner{Charge: b.chargeID, Refund: id})}))}
		}, []events.Type{events.ChargeSucceeded, events.ChargeRefunded}, func(t *testing.T, b *buyer) {
			t.Helper()
			if c := b.in.chargeState(b.chargeID); c.Refund(events.RefundID(b.chargeID, "key")) == nil {
				t.Errorf("%+v", c.Refunds)
			}
		}},
		{"refund failed after it succeeded", asked, func(b *buyer) []string {
			return []string{
				b.paid(), b.event("refund.created", b.refund("", "succeeded", 900)), b.event("refund.failed", b.refund("", "failed", 900)),
			}
		}, []events.Type{events.ChargeSucceeded, events.ChargeRefunded, events.ChargeRefundFailed}, func(t *testing.T, b *buyer) {
			t.Helper()
			if c := b.in.chargeState(b.chargeID); c.AmountRefunded != 0 {
				t.Errorf("refunded %d", c.AmountRefunded)
			}
		}},
		{"a total with refunds that are not known: the worker asks, once", asked, func(b *buyer) []string {
			return []string{b.paid(), b.event("charge.refunded", b.chargeObject("succeeded", fields{"amount_refunded": 900}))}
		}, []events.Type{events.ChargeSucceeded, events.ChargeRefreshRequested}, func(t *testing.T, b *buyer) {
			t.Helper()
			if c := b.in.chargeState(b.chargeID); c.ProviderAmountRefunded != 900 || c.AmountRefunded != 0 {
				t.Errorf("%+v", c)
			}
		}},
		{"a total of refunds that are known", asked, func(b *buyer) []string {
			return []string{
				b.paid(), b.event("refund.created", b.refund("", "succeeded", 900)),
				b.event("charge.refunded", b.chargeObject("succeeded", fields{"amount_refunded": 900})),
			}
		}, []events.Type{events.ChargeSucceeded, events.ChargeRefunded}, nil},
		{"a refunded charge that is not known to have succeeded", asked, func(b *buyer) []string {
			return []string{b.event("charge.refunded", b.chargeObject("succeeded", fields{"amount_refunded": 900}))}
		}, []events.Type{events.ChargeSucceeded, events.ChargeRefreshRequested}, nil},
		{"a refunded charge of a checkout", shopping, func(b *buyer) []string {
			return []string{b.event("charge.refunded", b.chargeObject("succeeded", fields{"amount_refunded": 4900}))}
		}, []events.Type{events.ChargeSucceeded, events.ChargeRefreshRequested}, nil},
		{"a refund of another environment", asked, func(b *buyer) []string {
			return []string{b.paid(), b.event("refund.created", b.refund("", "succeeded", 900, fields{"metadata": fields{"paykit_env": "other"}}))}
		}, []events.Type{events.ChargeSucceeded}, nil},
	}
}

func disputeRows() []row {
	return []row{
		{
			"dispute", asked, func(b *buyer) []string {
				return []string{
					b.paid(),
					b.event("charge.dispute.created", b.dispute("needs_response")),
					b.event("charge.dispute.funds_withdrawn", b.dispute("needs_response")),
					b.event("charge.dispute.updated", b.dispute("under_review")),
					b.event("charge.dispute.closed", b.dispute("lost")),
					b.event("charge.dispute.updated", b.dispute("under_review")),
				}
			},
			[]events.Type{events.ChargeSucceeded, events.ChargeDisputed, events.ChargeUpdated, events.ChargeDisputed, events.ChargeDisputeClosed},
			func(t *testing.T, b *buyer) {
				t.Helper()
				c := b.in.chargeState(b.chargeID)
				if len(c.Disputes) != 1 || c.Disputes[0].Status != "lost" || c.Status != events.ChargeStatusSucceeded {
					t.Errorf("%+v", c)
				}
			},
		},
		{"dispute of another amount", asked, func(b *buyer) []string {
			return []string{
				b.paid(), b.event("charge.dispute.created", b.dispute("needs_response")),
				b.event("charge.dispute.updated", b.dispute("needs_response", fields{"amount": 100})),
				b.event("charge.dispute.closed", b.dispute("won", fields{"amount": 100})),
			}
		}, []events.Type{events.ChargeSucceeded, events.ChargeDisputed, events.ChargeDisputed, events.ChargeDisputeClosed}, nil},
		{"dispute won: the money goes and comes back", asked, func(b *buyer) []string {
			return []string{
				b.paid(), b.event("charge.dispute.created", b.dispute("needs_response", withdrawn())),
				b.event("charge.dispute.funds_withdrawn", b.dispute("needs_response", withdrawn())), // known from the first
				b.event("charge.dispute.closed", b.dispute("won", withdrawn())),
				b.event("charge.dispute.funds_reinstated", b.dispute("won", withdrawn())),
			}
		}, []events.Type{events.ChargeSucceeded, events.ChargeDisputed, events.ChargeDisputeClosed, events.ChargeUpdated}, func(t *testing.T, b *buyer) {
			t.Helper()
			c := b.in.chargeState(b.chargeID)
			if d := c.Disputes[0]; d.Status != "won" || d.Funds != events.FundsReinstated || c.DisputeOpen() || c.Refundable() != 4900 {
				t.Errorf("%+v", c)
			}
		}},
		{"inquiry that closes", asked, func(b *buyer) []string {
			return []string{
				b.paid(), b.event("charge.dispute.created", b.dispute("warning_needs_response")),
				b.event("charge.dispute.updated", b.dispute("warning_under_review")), b.event("charge.dispute.closed", b.dispute("warning_closed")),
			}
		}, []events.Type{events.ChargeSucceeded, events.ChargeDisputed, events.ChargeDisputed, events.ChargeDisputeClosed}, nil},
		{"inquiry that becomes a chargeback", asked, func(b *buyer) []string {
			return []string{
				b.paid(), b.event("charge.dispute.created", b.dispute("warning_needs_response")),
				b.event("charge.dispute.updated", b.dispute("needs_response", withdrawn())), b.event("charge.dispute.closed", b.dispute("lost", withdrawn())),
			}
		}, []events.Type{events.ChargeSucceeded, events.ChargeDisputed, events.ChargeDisputed, events.ChargeDisputeClosed}, func(t *testing.T, b *buyer) {
			t.Helper()
			if c := b.in.chargeState(b.chargeID); c.Disputes[0].Funds != events.FundsWithdrawn || c.Refundable() != 0 {
				t.Errorf("%+v", c)
			}
		}},
		{"several disputes", asked, func(b *buyer) []string {
			other := fields{"id": "dp_other" + b.n, "amount": 900}
			return []string{
				b.paid(), b.event("charge.dispute.created", b.dispute("needs_response")), b.event("charge.dispute.created", b.dispute("needs_response", other)),
				b.event("charge.dispute.closed", b.dispute("won")),
			}
		}, []events.Type{events.ChargeSucceeded, events.ChargeDisputed, events.ChargeDisputed, events.ChargeDisputeClosed}, func(t *testing.T, b *buyer) {
			t.Helper()
			if c := b.in.chargeState(b.chargeID); len(c.Disputes) != 2 || !c.DisputeOpen() {
				t.Errorf("%+v", c)
			}
		}},
		{"dispute that ends without a judgment", asked, func(b *buyer) []string {
			return []string{b.paid(), b.event("charge.dispute.created", b.dispute("needs_response")), b.event("charge.dispute.closed", b.dispute("prevented"))}
		}, []events.Type{events.ChargeSucceeded, events.ChargeDisputed, events.ChargeDisputeClosed}, nil},
		{"early fraud warning, by the payment", asked, func(b *buyer) []string {
			return []string{
				b.paid(), b.event("radar.early_fraud_warning.created", b.warning(true)),
				b.event("radar.early_fraud_warning.updated", b.warning(false)), b.event("radar.early_fraud_warning.created", b.warning(true)),
			}
		}, []events.Type{events.ChargeSucceeded, events.ChargeFraudWarned, events.ChargeFraudWarned}, func(t *testing.T, b *buyer) {
			t.Helper()
			want := events.FraudWarning{ProviderWarningID: "issfr_" + b.n, Type: "made_with_stolen_card"}
			if c := b.in.chargeState(b.chargeID); len(c.FraudWarnings) != 1 || c.FraudWarnings[0] != want {
				t.Errorf("%+v", c.FraudWarnings)
			}
		}},
		{"early fraud warning, by a charge that has no payment", known, func(b *buyer) []string {
			return []string{
				b.event("charge.succeeded", b.chargeObject("succeeded", foreign(), fields{"payment_intent": nil})),
				b.event("radar.early_fraud_warning.created", b.warning(true, fields{"payment_intent": nil})),
			}
		}, []events.Type{events.ChargeSucceeded, events.ChargeFraudWarned}, nil},
	}
}

// withdrawn is a dispute that has taken the money.
func withdrawn() fields {
	return fields{"balance_transactions": []fields{{"id": "txn_1", "object": "balance_transaction", "amount": -4900}}}
}

func methodRows() []row {
	attached := func(b *buyer) string { return b.event("payment_method.attached", b.method()) }
	newer := fields{"card": fields{"brand": "visa", "last4": "4242", "exp_month": 1, "exp_year": 2039, "fingerprint": "fp"}}
	return []row{
		{
			"method attached", known, func(b *buyer) []string { return []string{attached(b)} },
			[]events.Type{events.PaymentMethodAttached},
			func(t *testing.T, b *buyer) {
				t.Helper()
				m := b.in.state(events.EntityPaymentMethod, events.PaymentMethodID(stripeID, "pm_"+b.n)).Data.PaymentMethod
				if m.CustomerID != b.ref.ID || m.Brand != "visa" || m.Last4 != "4242" || m.ExpiryYear != 2034 || m.DefaultAt == nil {
					t.Errorf("%+v", m)
				}
			},
		},
		{"method updated, nothing changed", known, func(b *buyer) []string {
			return []string{attached(b), b.event("payment_method.updated", b.method())}
		}, []events.Type{events.PaymentMethodAttached}, nil},
		{"method updated", known, func(b *buyer) []string {
			return []string{attached(b), b.event("payment_method.automatically_updated", b.method(newer))}
		}, []events.Type{events.PaymentMethodAttached, events.PaymentMethodUpdated}, nil},
		{"method attached, delivered after its update", known, func(b *buyer) []string {
			return []string{b.event("payment_method.updated", b.method(newer)), attached(b)}
		}, []events.Type{events.PaymentMethodAttached}, func(t *testing.T, b *buyer) {
			t.Helper()
			m := b.in.state(events.EntityPaymentMethod, events.PaymentMethodID(stripeID, "pm_"+b.n)).Data.PaymentMethod
			if m.ExpiryYear != 2039 {
				t.Errorf("%+v", m)
			}
		}},
		{
			"method detached", known, func(b *buyer) []string { return []string{attached(b), b.detached()} },
			[]events.Type{events.PaymentMethodAttached, events.PaymentMethodDetached},
			nil,
		},
		{
			"method detached, delivered first", known, func(b *buyer) []string { return []string{b.detached(), attached(b)} },
			[]events.Type{events.PaymentMethodDetached},
			func(t *testing.T, b *buyer) {
				t.Helper()
				m := b.in.state(events.EntityPaymentMethod, events.PaymentMethodID(stripeID, "pm_"+b.n)).Data.PaymentMethod
				if m.CustomerID != b.ref.ID || m.Live() {
					t.Errorf("%+v", m)
				}
			},
		},
	}
}

func customerRows() []row {
	unlinked := func(in *ingest) *buyer { return in.unlinkedBuyer() }
	return []row{
		{"customer made for us", unlinked, func(b *buyer) []string {
			return []string{b.event("customer.created", b.customerObject())}
		}, []events.Type{events.ProviderAccountLinked}, func(t *testing.T, b *buyer) {
			t.Helper()
			a := b.in.state(events.EntityProviderAccount, events.ProviderAccountID(b.ref.ID, stripeID)).Data.ProviderAccount
			if a.ProviderCustomerID != b.cus || a.Status != events.AccountLinked || a.Version != 1 {
				t.Errorf("%+v", a)
			}
		}},
		{"customer made for us, and a first foreign payment", unlinked, func(b *buyer) []string {
			return []string{b.event("customer.created", b.customerObject()), b.event("payment_intent.succeeded", b.intent("succeeded", foreign()))}
		}, []events.Type{events.ProviderAccountLinked, events.ChargeSucceeded}, nil},
		{"customer made elsewhere", unlinked, func(b *buyer) []string {
			return []string{b.event("customer.created", b.customerObject(foreign()))}
		}, []events.Type{}, nil},
		{"customer of another environment", unlinked, func(b *buyer) []string {
			return []string{b.event("customer.created", b.customerObject(fields{"metadata": fields{"paykit_env": "other", "paykit_customer": b.ref.ID}}))}
		}, []events.Type{}, nil},
		{"customer that we never had", unlinked, func(b *buyer) []string {
			return []string{b.event("customer.created", b.customerObject(fields{"metadata": b.metadata(events.Owner{Customer: events.CustomerID("nobody")})}))}
		}, []events.Type{}, nil},
		{"second customer while one is linked", known, func(b *buyer) []string {
			return []string{b.event("customer.created", b.customerObject(fields{"id": "cus_second" + b.n}))}
		}, []events.Type{}, nil},
		{"customer updated: the app owns the profile", known, func(b *buyer) []string {
			return []string{b.event("customer.updated", b.customerObject())}
		}, []events.Type{}, nil},
		{"customer deleted at the provider", known, func(b *buyer) []string {
			return []string{b.event("customer.deleted", b.customerObject())}
		}, []events.Type{events.ProviderAccountUnlinked}, nil},
		{"customer deleted, whose metadata says nothing", known, func(b *buyer) []string {
			return []string{b.event("customer.deleted", b.customerObject(foreign())), b.event("customer.created", b.customerObject())}
		}, []events.Type{events.ProviderAccountUnlinked}, nil},
		{"unlinked: payments of that customer are nobody's", known, func(b *buyer) []string {
			return []string{b.event("customer.deleted", b.customerObject()), b.event("payment_intent.succeeded", b.intent("succeeded", foreign()))}
		}, []events.Type{events.ProviderAccountUnlinked}, nil},
	}
}

func nothingRows() []row {
	other := fields{"metadata": fields{"paykit_env": "other", "paykit_charge": events.ChargeID("x")}}
	return []row{
		{"another environment's payment", asked, func(b *buyer) []string {
			return []string{b.event("payment_intent.succeeded", b.intent("succeeded", other)), b.event("charge.succeeded", b.chargeObject("succeeded", other))}
		}, []events.Type{}, nil},
		{"another environment's checkout", shopping, func(b *buyer) []string {
			return []string{b.event("checkout.session.completed", b.session("complete", "paid",
				fields{"metadata": fields{"paykit_env": "other", "paykit_checkout": b.checkoutID}}))}
		}, []events.Type{}, nil},
		{"reserved metadata without an environment", shopping, func(b *buyer) []string {
			return []string{b.event("checkout.session.completed", b.session("complete", "paid", fields{"metadata": fields{"paykit_checkout": b.checkoutID}}))}
		}, []events.Type{}, nil},
		{"somebody else's payment", asked, func(b *buyer) []string {
			return []string{b.event("payment_intent.succeeded", b.intent("succeeded", foreign(), fields{"id": "pi_x", "customer": "cus_x"}))}
		}, []events.Type{}, nil},
		{"a guest's payment", asked, func(b *buyer) []string {
			return []string{b.event("payment_intent.succeeded", b.intent("succeeded", foreign(), fields{"id": "pi_y", "customer": nil}))}
		}, []events.Type{}, nil},
		{"a checkout that never was", shopping, func(b *buyer) []string {
			return []string{b.event("checkout.session.completed", b.session("complete", "paid",
				fields{"metadata": b.metadata(events.Owner{Checkout: events.CheckoutID("never")})}))}
		}, []events.Type{}, nil},
		{"ids that are none", shopping, func(b *buyer) []string {
			return []string{b.event("checkout.session.completed", b.session("complete", "paid", fields{"metadata": b.metadata(events.Owner{Checkout: "*"})}))}
		}, []events.Type{}, nil},
		{"types that mean nothing", asked, func(b *buyer) []string {
			return []string{
				b.event("payment_intent.created", b.intent("requires_confirmation")),
				b.event("payment_intent.requires_action", b.intent("requires_action",
					fields{"next_action": fields{"type": "redirect_to_url", "redirect_to_url": fields{"url": "https://bank.example"}}})),
				b.event("charge.updated", b.chargeObject("succeeded")), b.event("invoice.paid", `{"id":"in_1"}`), b.event("mystery.happened", "null"),
			}
		}, []events.Type{}, nil},
		{"a connected account's payment", asked, func(b *buyer) []string {
			return []string{b.in.eventWith("payment_intent.succeeded", b.intent("succeeded"), `,"account":"acct_1"`)}
		}, []events.Type{}, nil},
	}
}
