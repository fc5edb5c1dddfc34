package verify_test

import (
	"strconv"
	"strings"
	"time"

	"github.com/paykit-go/paykit/internal/events"
)

type row struct {
	name  string
	plant func(*story)
	want  []string // the problems, each by a part of its words
}

// updated plants a bad charge.updated on a paid charge.
func updated(change func(*events.Event)) func(*story) {
	return func(s *story) {
		s.t.Helper()
		s.refunded()
		s.plant(s.chargeID(), events.ChargeUpdated, change)
	}
}

func charge(change func(*events.Charge)) func(*story) {
	return updated(func(e *events.Event) { change(e.Data.Charge) })
}

func envelopes() []row {
	at := func(token int, with string) func(*story) {
		return func(s *story) {
			s.paid()
			s.plantAt(s.chargeID(), events.ChargeUpdated, func(*events.Event) {}, func(e *events.Event) string {
				tokens := strings.Split(subject(e), ".")
				tokens[token] = with
				return strings.Join(tokens, ".")
			})
		}
	}
	const stored = "which is not the event's own subject"
	return []row{
		{"subject: entity", at(2, "checkout"), []string{stored}},
		{"subject: event", at(3, "succeeded"), []string{stored}},
		{"subject: id", at(4, events.ChargeID("else")), []string{stored}},
		{"subject: customer", at(5, events.CustomerID("else")), []string{stored}},
		{"subject: no customer", at(5, events.None), []string{stored}},
		{"version skipped", updated(func(e *events.Event) { e.EntityVersion++ }), []string{"entityversion is 7 after 5"}},
		{"version again", updated(func(e *events.Event) { e.EntityVersion-- }), []string{"entityversion is 5 after 5"}},
		{"first with version 2", func(s *story) {
			s.customer()
			s.plant(s.customerID(), events.CustomerUpdated, func(e *events.Event) {
				e.Subject = events.CustomerID("new" + s.name)
				e.Data.Customer.ID, e.Data.Customer.CustomerID, e.Data.Customer.ReferenceID = e.Subject, e.Subject, "new"+s.name
			})
		}, []string{"entityversion is 2, and there is no event before it"}},
		{"digest of another", updated(func(e *events.Event) { e.PreviousDigest = events.Digest(nil) }), []string{"previousdigest is not of the event"}},
		{"first with a digest", func(s *story) {
			e, err := events.DecideCharge(nil, s.create(), s.cause())
			e.PreviousDigest = events.Digest(nil)
			s.keep(e, err)
		}, []string{"previousdigest is sha256:"}},
		{"begins in the middle", func(s *story) {
			e, err := events.DecideCharge(nil, s.create(), s.cause())
			e.Type = events.ChargeUpdated
			s.keep(e, err)
		}, []string{"charge.updated begins an entity"}},
		{"begins again", func(s *story) {
			s.charge(s.create())
			s.plant(s.chargeID(), events.ChargeRequested, func(*events.Event) {})
		}, []string{"does not begin an entity", "charge.requested again"}},
		{"time runs back", updated(func(e *events.Event) {
			e.Time = e.Time.Add(-time.Hour)
			e.Data.Charge.UpdatedAt = e.Time
		}), []string{"time runs back"}},
		{"updatedAt", charge(func(c *events.Charge) { c.UpdatedAt = c.UpdatedAt.Add(-time.Millisecond) }), []string{"updatedAt is"}},
		{"createdAt of the first", func(s *story) {
			e, err := events.DecideCharge(nil, s.create(), s.cause())
			e.Data.Charge.CreatedAt = e.Time.Add(-time.Hour)
			s.keep(e, err)
		}, []string{"createdAt is"}},
		{"entity's id", func(s *story) {
			in := s.create()
			in.ID = "chg_1"
			s.keep(events.DecideCharge(nil, in, s.cause()))
		}, []string{`"chg_1" is no id of a charge`}},
		{"customer's id", updated(func(e *events.Event) {
			e.Data.Customer.ID, e.Data.Customer.ReferenceID, e.Data.Charge.CustomerID = "cust_1", "", "cust_1"
		}), []string{"is no id of a customer", "customerId changed"}},
		{"customer's reference", updated(func(e *events.Event) { e.Data.Customer.ReferenceID = "else" }), []string{"not the one of its referenceId"}},
		{"event's id", updated(func(e *events.Event) { e.ID = "1" }), []string{"no id of an event"}},
		{"schema", updated(func(e *events.Event) { e.DataSchema = "urn:paykit:checkout:1" }), []string{"dataschema is"}},
		{"too large", charge(func(c *events.Charge) { c.Action = &events.Action{URL: strings.Repeat("x", 256<<10)} }), []string{"over 256 KiB"}},
		{"snapshot's id", charge(func(c *events.Charge) { c.ID = events.ChargeID("else") }), []string{"unreadable: malformed event"}},
	}
}

func charges() []row {
	paid := func(typ events.Type, status events.ChargeStatus) func(*story) {
		return func(s *story) {
			s.paid()
			s.plant(s.chargeID(), typ, func(e *events.Event) { e.Data.Charge.Status = status })
		}
	}
	return []row{
		{"amount", charge(func(c *events.Charge) { c.Amount++ }), []string{"amount changed since sequence"}},
		{"amount below nothing", func(s *story) {
			in := s.create()
			in.Amount = -1
			s.charge(in)
		}, []string{"amount is -1"}},
		{"currency", charge(func(c *events.Charge) { c.Currency = "eur" }), []string{"currency changed"}},
		{"currency in capitals", func(s *story) {
			in := s.create()
			in.Currency = "USD"
			s.charge(in)
		}, []string{`currency is "USD"`}},
		{"customerId", charge(func(c *events.Charge) { c.CustomerID = events.CustomerID("else") }), []string{"the snapshot's customerId", "customerId changed"}},
		{"providerId", charge(func(c *events.Charge) { c.ProviderID = "other" }), []string{"providerId changed"}},
		{"createdAt", charge(func(c *events.Charge) { c.CreatedAt = c.CreatedAt.Add(time.Second) }), []string{"createdAt changed"}},
		{"commandDigest", charge(func(c *events.Charge) { c.CommandDigest = "" }), []string{"commandDigest vanished"}},
		{"payment", charge(func(c *events.Charge) { c.ProviderPaymentID = "pi_else" }), []string{"providerPaymentId changed"}},
		{"method", charge(func(c *events.Charge) { c.PaymentMethodID = "" }), []string{"paymentMethodId vanished"}},
		{"back to processing", paid(events.ChargeProcessing, events.ChargeStatusProcessing), []string{"status went back from succeeded to processing"}},
		{"succeeded twice", paid(events.ChargeSucceeded, events.ChargeStatusSucceeded), []string{"charge.succeeded again"}},
		{"no such status", paid(events.ChargeUpdated, "settled"), []string{`there is no status "settled"`}},
		{"status by another event", func(s *story) {
			s.charge(s.create())
			s.plant(s.chargeID(), events.ChargeUpdated, func(e *events.Event) { e.Data.Charge.Status = events.ChargeStatusProcessing })
		}, []string{"changed from requested to processing by charge.updated"}},
		{"status of another event", func(s *story) {
			s.charge(s.create())
			s.plant(s.chargeID(), events.ChargeProcessing, func(e *events.Event) { e.Data.Charge.Status = events.ChargeStatusInDoubt })
		}, []string{"status is in_doubt after charge.processing"}},
		{"failed, then canceled", func(s *story) {
			s.charge(s.create(), events.ChargeRejected{Failure: events.NewFailure(events.FailureProviderRejected, "")})
			s.plant(s.chargeID(), events.ChargeCanceled, func(e *events.Event) { e.Data.Charge.Status = events.ChargeStatusCanceled })
		}, []string{"changed from failed to canceled"}},
		{"failed for no reason", func(s *story) {
			s.charge(s.create())
			s.plant(s.chargeID(), events.ChargeFailed, func(e *events.Event) { e.Data.Charge.Status = events.ChargeStatusFailed })
		}, []string{"does not go with its failure"}},
		{"money from nowhere", func(s *story) {
			s.charge(s.create())
			s.plant(s.chargeID(), events.ChargeSucceeded, func(e *events.Event) { e.Data.Charge.Status = events.ChargeStatusSucceeded })
		}, []string{"succeeded without a payment"}},
		{"one payment, two charges", func(s *story) {
			s.paid()
			in := s.payment(events.PaymentSucceeded)
			in.ID = events.ReportedChargeID(provider, "pi_2"+s.name, "")
			s.keep(events.DecideCharge(nil, in, s.cause()))
		}, []string{"is also of " + events.ChargeID("one payment, two charges")}},
		{"cancel forgotten", func(s *story) {
			s.charge(s.create(), events.CancelCharge{})
			s.plant(s.chargeID(), events.ChargeUpdated, func(e *events.Event) { e.Data.Charge.CancelRequestedAt = nil })
		}, []string{"cancelRequestedAt vanished"}},
		{"checkout of another id", func(s *story) {
			in := s.payment(events.PaymentSucceeded)
			in.Checkout = &events.Checkout{Base: events.Base{ID: events.CheckoutID(s.name)}}
			s.charge(in)
		}, []string{"not the one of its checkout's charge"}},
		{"an e-mail", func(s *story) {
			in := s.create()
			in.Description = "for jane@example.com"
			s.charge(in)
		}, []string{"description holds an e-mail address"}},
		{"a card", func(s *story) {
			in := s.create()
			in.Metadata = map[string]string{"note": "paid by 4242 4242 4242 4242", "order": "4242424242424241"}
			s.charge(in)
		}, []string{"metadata holds a card number"}},
		{"an e-mail in an address", func(s *story) {
			in := s.create()
			in.ReturnURL = "https://app.example.com/?for=jane%40example.com"
			s.charge(in)
		}, []string{"returnURL holds an e-mail address"}},
		{"an e-mail as a key", func(s *story) {
			in := s.create()
			in.Metadata = map[string]string{"jane@example.com": "1"}
			s.charge(in)
		}, []string{"a key of metadata holds an e-mail address"}},
	}
}

// refundsMore adds n refunds that have failed.
func refundsMore(n int) func(*events.Charge) {
	return func(c *events.Charge) {
		for i := range n {
			c.Refunds = append(c.Refunds, events.Refund{ID: events.RefundID(c.ID, strconv.Itoa(i)), Amount: 1, Status: events.RefundFailed})
		}
	}
}

func refunds() []row {
	refund := func(change func(*events.Refund)) func(*story) {
		return charge(func(c *events.Charge) { change(&c.Refunds[0]) })
	}
	disputed := func(status string) func(*story) {
		return func(s *story) {
			s.paid()
			s.charge(s.dispute("under_review"), s.dispute("won"))
			s.plant(s.chargeID(), events.ChargeDisputed, func(e *events.Event) {
				e.Data.Charge.Disputes[0].Status = status
				e.Data.Dispute = &e.Data.Charge.Disputes[0]
			})
		}
	}
	// second adds a refund to one of 900 that succeeded.
	second := func(typ events.Type, r events.Refund) func(*story) {
		return func(s *story) {
			s.refunded()
			s.plant(s.chargeID(), typ, func(e *events.Event) {
				r.ID = events.RefundID(s.chargeID(), "2")
				e.Data.Charge.Refunds = append(e.Data.Charge.Refunds, r)
				e.Data.Refund = &r
			})
		}
	}
	return []row{
		{"sum", charge(func(c *events.Charge) { c.AmountRefunded = 1 }), []string{"amountRefunded is 1, the succeeded refunds are 900"}},
		{"refund vanished", charge(func(c *events.Charge) { c.Refunds, c.AmountRefunded = nil, 0 }), []string{"a refund of 900 vanished"}},
		{"refund's amount", charge(func(c *events.Charge) { c.Refunds[0].Amount, c.AmountRefunded = 800, 800 }), []string{"amount changed"}},
		{"refund's provider's id", refund(func(r *events.Refund) { r.ProviderRefundID = "re_else" }), []string{"providerRefundId changed"}},
		{"refund's digest", refund(func(r *events.Refund) { r.CommandDigest = "" }), []string{"commandDigest changed"}},
		{"refund's id", func(s *story) {
			s.paid()
			s.charge(events.RefundCharge{RefundID: "rfd_1", CommandDigest: "sha256:bb"})
		}, []string{`"rfd_1" is no id of a refund`}},
		{"refund went back", charge(func(c *events.Charge) { c.Refunds[0].Status, c.AmountRefunded = events.RefundPending, 0 }), []string{"status went back to pending"}},
		{"refund's status", charge(func(c *events.Charge) { c.Refunds[0].Status, c.AmountRefunded = "done", 0 }), []string{`no status "done"`, "went back to done"}},
		{"refund twice", charge(func(c *events.Charge) { c.Refunds, c.AmountRefunded = append(c.Refunds, c.Refunds[0]), 1800 }), []string{"is there twice", "is also of another"}},
		{"too many refunds", charge(refundsMore(events.MaxKeptRefunds)), []string{"401 refunds, at most 400"}},
		{"as many as the provider says", charge(refundsMore(events.MaxKeptRefunds - 1)), nil},
		{"too many asked for", func(s *story) {
			s.refunded()
			s.plant(s.chargeID(), events.ChargeRefundRequested, func(e *events.Event) {
				refundsMore(events.MaxRefunds)(e.Data.Charge)
				e.Data.Refund = &e.Data.Charge.Refunds[events.MaxRefunds]
			})
		}, []string{"101 refunds, at most 100"}},
		{"refund of nothing", second(events.ChargeRefundRequested, events.Refund{Status: events.RefundRequested, CommandDigest: "sha256:ee"}), []string{"amount is 0"}},
		{"too much asked for", second(events.ChargeRefundRequested, events.Refund{Amount: 4001, Status: events.RefundRequested, CommandDigest: "sha256:ee"}), []string{"refunds of 4901 on a charge of 4900"}},
		{"the provider's word", second(events.ChargeUpdated, events.Refund{Amount: 4001, Status: events.RefundPending, ProviderRefundID: "re_word"}), nil},
		{"refunded again", func(s *story) {
			s.refunded()
			s.plant(s.chargeID(), events.ChargeRefunded, func(e *events.Event) { e.Data.Refund = &e.Data.Charge.Refunds[0] })
		}, []string{"charge.refunded again"}},
		{"refunded, but which", func(s *story) {
			s.refunded()
			s.plant(s.chargeID(), events.ChargeRefundFailed, func(*events.Event) {})
		}, []string{"charge.refund_failed names no refund"}},
		{"refunded, another", func(s *story) {
			s.refunded()
			s.plant(s.chargeID(), events.ChargeRefunded, func(e *events.Event) { e.Data.Refund = &events.Refund{ID: "rfd_else"} })
		}, []string{"names the refund rfd_else, which is not so"}},
		{"refund before the money", func(s *story) {
			s.charge(s.create())
			s.plant(s.chargeID(), events.ChargeUpdated, func(e *events.Event) {
				e.Data.Charge.Refunds = []events.Refund{{ID: s.refundID(), Amount: 1, Status: events.RefundRequested}}
				e.Data.Charge.Disputes = []events.Dispute{{ProviderDisputeID: "dp_early", Status: "won"}}
			})
		}, []string{"refunds on a charge that is requested", "disputes on a charge that is requested"}},
		{"dispute opened again", disputed("under_review"), []string{"status went back to under_review"}},
		{"dispute lost after all", disputed("lost"), []string{"status went back to lost", "charge.disputed of a dispute that is lost"}},
		{"dispute vanished", func(s *story) {
			s.paid()
			s.charge(s.dispute("under_review"))
			s.plant(s.chargeID(), events.ChargeDisputeClosed, func(e *events.Event) { e.Data.Charge.Disputes = nil })
		}, []string{"a dispute of 4900 vanished", "names no dispute"}},
		{"dispute twice", func(s *story) {
			s.paid()
			s.charge(s.dispute("under_review"))
			s.plant(s.chargeID(), events.ChargeUpdated, func(e *events.Event) {
				e.Data.Charge.Disputes = append(e.Data.Charge.Disputes, e.Data.Charge.Disputes[0])
			})
		}, []string{"is there twice"}},
		{"refund with a failure that came through", refund(func(r *events.Refund) { r.Failure = &events.Failure{Code: "declined"} }), []string{"succeeded, with a failure"}},
	}
}

func disputes() []row {
	// after plants an event behind a charge with a dispute whose money was withdrawn, and a warning that can't be acted on.
	after := func(typ events.Type, change func(*events.Event)) func(*story) {
		return func(s *story) {
			s.paid()
			s.charge(s.funds("under_review", events.FundsWithdrawn), s.warning(false))
			s.plant(s.chargeID(), typ, change)
		}
	}
	named := func(change func(*events.Dispute)) func(*events.Event) {
		return func(e *events.Event) {
			d := e.Data.Charge.Disputes[0]
			change(&d)
			e.Data.Dispute = &d
		}
	}
	warned := func(change func(*events.FraudWarning)) func(*events.Event) {
		return func(e *events.Event) {
			f := e.Data.Charge.FraudWarnings[0]
			change(&f)
			e.Data.FraudWarning = &f
		}
	}
	refund := func(e *events.Event) {
		r := events.Refund{ID: events.RefundID(e.Subject, "2"), Amount: 900, Status: events.RefundRequested, CommandDigest: "sha256:ee"}
		e.Data.Charge.Refunds, e.Data.Refund = append(e.Data.Charge.Refunds, r), &r
	}
	return []row{
		{"funds went back", after(events.ChargeUpdated, func(e *events.Event) { e.Data.Charge.Disputes[0].Funds = "" }), []string{`funds went back to ""`}},
		{"funds that are none", after(events.ChargeUpdated, func(e *events.Event) { e.Data.Charge.Disputes[0].Funds = "spent" }), []string{`no funds "spent"`, "funds went back"}},
		{"disputed again", after(events.ChargeDisputed, named(func(*events.Dispute) {})), []string{"charge.disputed again"}},
		{"money moved again", after(events.ChargeUpdated, named(func(*events.Dispute) {})), []string{"charge.updated again"}},
		{"disputed, another", after(events.ChargeDisputed, named(func(d *events.Dispute) { d.Amount++ })), []string{"which is not so in the charge"}},
		{"closed and open", after(events.ChargeDisputeClosed, func(e *events.Event) {
			e.Data.Charge.Disputes[0].Amount--
			e.Data.Dispute = &e.Data.Charge.Disputes[0]
		}), []string{"charge.dispute_closed of a dispute that is under_review"}},
		{"refund while disputed", after(events.ChargeRefundRequested, refund), []string{"a refund was asked for while the dispute"}},
		{"refund of what a dispute took", func(s *story) {
			s.paid()
			s.charge(s.dispute("lost"))
			s.plant(s.chargeID(), events.ChargeRefundRequested, refund)
		}, []string{"refunds of 900 and lost disputes of 4900 on a charge of 4900"}},
		{"dispute in the charge's currency", after(events.ChargeUpdated, func(e *events.Event) {
			e.Data.Charge.Disputes[0].Currency = e.Data.Charge.Currency
		}), []string{"names the charge's own currency"}},
		{"refund after a loss that was taken back", func(s *story) {
			s.paid()
			s.charge(s.funds("lost", events.FundsReinstated))
			s.plant(s.chargeID(), events.ChargeRefundRequested, refund)
		}, nil},
		{"refund after a dispute in another currency", func(s *story) {
			s.paid()
			yen := s.dispute("lost")
			yen.Report.Currency = "jpy"
			s.charge(yen)
			s.plant(s.chargeID(), events.ChargeRefundRequested, refund)
		}, nil},
		{"warning vanished", after(events.ChargeUpdated, func(e *events.Event) { e.Data.Charge.FraudWarnings = nil }), []string{"a fraud warning vanished"}},
		{"warning twice", after(events.ChargeUpdated, func(e *events.Event) {
			e.Data.Charge.FraudWarnings = append(e.Data.Charge.FraudWarnings, e.Data.Charge.FraudWarnings[0])
		}), []string{"is there twice"}},
		{"warned again", after(events.ChargeFraudWarned, warned(func(*events.FraudWarning) {})), []string{"charge.fraud_warned again"}},
		{"warned, another", after(events.ChargeFraudWarned, warned(func(f *events.FraudWarning) { f.Type = "else" })), []string{"names the fraud warning"}},
		{"warned, but which", after(events.ChargeFraudWarned, func(*events.Event) {}), []string{"names no fraud warning"}},
		{"actionable again", after(events.ChargeFraudWarned, func(e *events.Event) {
			e.Data.Charge.FraudWarnings[0].Actionable = true
			e.Data.FraudWarning = &e.Data.Charge.FraudWarnings[0]
		}), []string{"actionable again"}},
		{"warned before the money", func(s *story) {
			s.charge(s.create())
			s.plant(s.chargeID(), events.ChargeUpdated, func(e *events.Event) {
				e.Data.Charge.FraudWarnings = []events.FraudWarning{{ProviderWarningID: "issfr_early"}}
			})
		}, []string{"fraud warnings on a charge that is requested"}},
	}
}

func others() []row {
	checkout := func(typ events.Type, change func(*events.Checkout)) func(*story) {
		return func(s *story) {
			s.checkout(s.session(events.SessionOpen), s.session(events.SessionComplete))
			s.plant(s.checkoutID(), typ, func(e *events.Event) { change(e.Data.Checkout) })
		}
	}
	account := func(typ events.Type, change func(*events.ProviderAccount)) func(*story) {
		return func(s *story) {
			s.account()
			s.plant(s.accountID(), typ, func(e *events.Event) { change(e.Data.ProviderAccount) })
		}
	}
	return []row{
		{"checkout went back", checkout(events.CheckoutExpired, func(c *events.Checkout) { c.Status = events.StateExpired }), []string{"status went back from completed to expired"}},
		{"checkout's page", checkout(events.CheckoutExpireRequested, func(c *events.Checkout) { c.URL = "https://pay.example.com" }), []string{"url is still there"}},
		{"checkout's charge", checkout(events.CheckoutExpireRequested, func(c *events.Checkout) { c.ChargeID = "" }), []string{"completed with the charge", "chargeId vanished"}},
		{"checkout's amount", checkout(events.CheckoutExpireRequested, func(c *events.Checkout) { c.Amount = 1 }), []string{"amount changed"}},
		{"setup", func(s *story) {
			id := events.SetupID(s.name)
			s.keep(events.DecideSetup(nil, events.CreateSetup{ID: id, ProviderID: provider, ReturnURL: "https://app.example.com", CommandDigest: "sha256:dd"}, s.cause()))
			s.plant(id, events.SetupCompleted, func(e *events.Event) { e.Data.Setup.Status = events.StateCompleted })
			s.plant(id, events.SetupFailed, func(e *events.Event) { e.Data.Setup.Status = events.StateFailed })
		}, []string{"completed with the payment method", "status went back from completed to failed"}},
		{"setup's page", func(s *story) {
			id := events.SetupID(s.name)
			s.keep(events.DecideSetup(nil, events.CreateSetup{ID: id, ProviderID: provider, ReturnURL: "https://app.example.com", CommandDigest: "sha256:dd"}, s.cause()))
			s.plant(id, events.SetupExpired, func(e *events.Event) {
				e.Data.Setup.Status, e.Data.Setup.URL = events.StateExpired, "https://pay.example.com"
			})
		}, []string{"url is still there"}},
		{"account of another id", func(s *story) {
			e, err := events.DecideProviderAccount(nil, events.LinkAccount{ProviderID: provider, ProviderCustomerID: "cus_" + s.name}, s.cause())
			e.Data.ProviderAccount.ProviderID = "other"
			s.keep(e, err)
		}, []string{"not the one of its customer's account"}},
		{"detached comes back", func(s *story) {
			s.method(events.MethodGone{})
			s.plant(s.methodID(), events.PaymentMethodUpdated, func(e *events.Event) { e.Data.PaymentMethod.DetachedAt = nil })
		}, []string{"after the entity's end", "detachedAt vanished"}},
		{"detached, but when", func(s *story) {
			s.method()
			s.plant(s.methodID(), events.PaymentMethodDetached, func(*events.Event) {})
		}, []string{"detachedAt does not go with"}},
		{"method of another id", func(s *story) {
			s.method()
			s.plant(s.methodID(), events.PaymentMethodUpdated, func(e *events.Event) { e.Data.PaymentMethod.ProviderMethodID = "pm_else" })
		}, []string{"not the one of the provider's method", "providerMethodId changed"}},
		{"expiring, but for what", func(s *story) {
			s.method()
			s.plant(s.methodID(), events.PaymentMethodExpiring, func(e *events.Event) { e.Data.PaymentMethod.ExpiringFor = "2020-01" })
		}, []string{`expiringFor is "2020-01"`}},
		{"expiring by the way", func(s *story) {
			s.method()
			s.plant(s.methodID(), events.PaymentMethodUpdated, func(e *events.Event) { e.Data.PaymentMethod.ExpiringFor = "2034-12" })
		}, []string{"by payment_method.updated"}},
		{"duplicate of itself", func(s *story) {
			s.method()
			s.plant(s.methodID(), events.PaymentMethodUpdated, func(e *events.Event) { e.Data.PaymentMethod.DuplicateOf = e.Subject })
		}, []string{"duplicateOf is"}},
		{"default went back", func(s *story) {
			s.method()
			s.plant(s.methodID(), events.PaymentMethodDefaultSet, func(e *events.Event) {
				at := e.Time.Add(-time.Hour)
				e.Data.PaymentMethod.DefaultAt = &at
			})
		}, []string{"defaultAt went back"}},
		{"linked again", account(events.ProviderAccountLinked, func(a *events.ProviderAccount) { a.Version++ }), []string{"provider_account.linked again"}},
		{"account's version", account(events.ProviderAccountUnlinked, func(a *events.ProviderAccount) { a.Status, a.Version = events.AccountUnlinked, 3 }), []string{"version is 3 after 1"}},
		{"account's customer", account(events.ProviderAccountUnlinked, func(a *events.ProviderAccount) {
			a.Status, a.ProviderCustomerID = events.AccountUnlinked, "cus_else"
		}), []string{"providerCustomerId changed"}},
		{"account's status", account(events.ProviderAccountUnlinked, func(*events.ProviderAccount) {}), []string{"status is linked after", "again"}},
		{"one provider customer", func(s *story) {
			s.account()
			s.keep(events.DecideProviderAccount(nil, events.LinkAccount{ProviderID: "other", ProviderCustomerID: "cus_else_2"}, s.cause()))
			s.name += " 2"
			s.keep(events.DecideProviderAccount(nil, events.LinkAccount{ProviderID: provider, ProviderCustomerID: strings.TrimSuffix("cus_"+s.name, " 2")}, s.cause()))
		}, []string{"the provider's customer"}},
		{"deleted twice", func(s *story) {
			s.customer()
			s.keep(events.DecideCustomer(s.last[s.customerID()], events.DeleteCustomer{Revision: 1}, s.cause()))
			s.plant(s.customerID(), events.CustomerDeleted, func(*events.Event) {})
		}, []string{"deleted again"}},
		{"deleted, but when", func(s *story) {
			s.customer()
			s.plant(s.customerID(), events.CustomerDeleted, func(*events.Event) {})
		}, []string{"deletedAt does not go with"}},
		{"profile went back", func(s *story) {
			s.customer()
			s.plant(s.customerID(), events.CustomerUpdated, func(e *events.Event) { e.Data.Customer.ProfileRevision = 0 })
		}, []string{"profileRevision went back"}},
		{"rejected twice", func(s *story) {
			id := events.CommandID("charge.create", s.name)
			s.keep(events.DecideCommand(nil, events.RejectCommand{ID: id, Type: "charge.create"}, s.cause()))
			s.plant(id, events.CommandRejected, func(*events.Event) {})
		}, []string{"does not begin an entity", "after the entity's end"}},
	}
}
