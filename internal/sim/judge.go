package sim

import (
	"bytes"
	"encoding/json"
	"strings"

	engine "github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/verify"
)

// judge holds everything against each other, when nothing is open any more.
func (w *World) judge() {
	for _, p := range w.stripe.ledger() {
		w.trace("ledger: %+v", p)
	}
	w.judgeQuiet()
	entries := w.decoded()
	report := verify.Entries(prefix, entries)
	report.Ledger(verify.LedgerOptions{ProviderID: providerID, Env: env}, w.stripe.ledger())
	for _, p := range report.Problems {
		w.problem("%s %s %s at %d: %s", "verify:", p.Entity, p.ID, p.Sequence, p.Problem)
	}
	last := map[string]*engine.Event{}
	for _, e := range entries {
		last[e.Event.Subject] = e.Event
	}
	w.judgeEnds(last)
	w.judgePersonal(last)
	w.judgeDead()
	w.judgeRefunds(last)
	w.judgeProfiles(last)
}

// decoded reads the log as it is stored: whoever changed an event in memory after it was stored has not changed it.
func (w *World) decoded() []eventlog.Entry {
	entries := make([]eventlog.Entry, 0, len(w.server.entries))
	for _, e := range w.server.entries {
		ev, err := engine.Decode(e.Raw)
		if err != nil {
			w.problem("event %d can't be read: %v", e.Sequence, err)
			continue
		}
		e.Event = ev
		entries = append(entries, e)
	}
	return entries
}

// judgeQuiet is I9: after the last fault everything came to rest.
func (w *World) judgeQuiet() {
	if w.app.open > 0 {
		w.problem("I2: %d commands were never answered", w.app.open)
	}
	for _, c := range w.consumers {
		var open []*pending
		for _, one := range c.open {
			open = append(open, one)
		}
		sortPending(open)
		for _, one := range open {
			m, _ := w.server.message(c.stream, one.sequence)
			if ev, err := m.Event(); c.stream == streamLog && err == nil && w.forPerson(ev.Subject) {
				continue
			}
			w.problem("I9: %s still has message %d, %s, after %d attempts", c.name, one.sequence, m.Subject, one.attempt)
		}
	}
}

// forPerson tells whether a charge waits for a person's decision: it is flagged, and looked at for ever.
func (w *World) forPerson(id string) bool {
	places := w.server.byEntity[entityKey(engine.EntityCharge, id)]
	return len(places) > 0 && w.server.entries[places[len(places)-1]].Event.Data.Charge.Review != nil
}

// judgeEnds is I2: each command that was taken in has come to its end.
func (w *World) judgeEnds(last map[string]*engine.Event) {
	dead := w.deadIDs()
	for _, a := range w.app.accepted {
		if a.id == "" || dead[a.id] {
			continue
		}
		ev := last[a.id]
		if ev == nil && last[a.part] == nil { // neither begun nor rejected
			w.problem("I2: %s %s was taken in and never begun", a.verb, a.id)
		}
	}
	for _, id := range sorted(last) {
		ev := last[id]
		if dead[id] || w.forPerson(id) {
			continue
		}
		switch d := ev.Data; {
		case d.Charge != nil && !d.Charge.Status.Final():
			w.problem("I2: charge %s is %s for ever", id, d.Charge.Status)
		case d.Checkout != nil && !d.Checkout.Status.Final() && !w.unpaid(d.Checkout):
			w.problem("I2: checkout %s is %s for ever", id, d.Checkout.Status)
		case d.Setup != nil && !d.Setup.Status.Final():
			w.problem("I2: setup %s is %s for ever", id, d.Setup.Status)
		case d.PaymentMethod != nil && d.PaymentMethod.Live() && !d.PaymentMethod.DefaultSettled():
			w.problem("I2: method %s was to be the default and is not", id)
		case d.PaymentMethod != nil && d.PaymentMethod.Live() && d.PaymentMethod.DetachRequestedAt != nil:
			w.problem("I2: method %s was to be detached and is not", id)
		}
		if c := ev.Data.Charge; c != nil {
			for _, r := range c.Refunds {
				if r.Status.Open() {
					w.problem("I2: refund %s of %s is %s for ever", r.ID, id, r.Status)
				}
			}
		}
	}
}

// unpaid tells whether a checkout's page was completed and its money never came, so that nothing ends it.
func (w *World) unpaid(*engine.Checkout) bool { return false }

// judgePersonal is I10: what is personal is nowhere but in the profiles, and of a deleted customer there is nothing.
func (w *World) judgePersonal(last map[string]*engine.Event) {
	for _, canary := range w.app.canaries {
		for _, e := range w.server.entries {
			if bytes.Contains(e.Raw, []byte(canary)) || strings.Contains(e.Subject, canary) {
				w.problem("I10: event %d holds %q", e.Sequence, canary)
			}
		}
		for i, m := range w.server.dead.list {
			if bytes.Contains(m.data, []byte(canary)) && !strings.Contains(m.subject, ".commands.") {
				w.problem("I10: dead letter %d holds %q", i+1, canary)
			}
		}
	}
	for i := range w.server.queue.list {
		if m := w.server.queue.list[i]; !m.gone {
			w.problem("I10: command %d is still in the queue", i+1)
		}
	}
	for i, p := range w.server.profiles {
		if ev := last[p.customer]; !p.gone && (ev == nil || ev.Data.Customer.Deleted()) {
			w.problem("I10: profile %d of the deleted customer %s is still there", i+1, p.customer)
		}
	}
}

// judgeDead: no fault of the catalogue is a reason to set anything aside.
func (w *World) judgeDead() {
	for i, m := range w.server.dead.list {
		if m.gone {
			continue
		}
		var d eventlog.DeadLetter
		if err := json.Unmarshal(m.data, &d); err != nil {
			w.problem("dead letter %d can't be read", i+1)
			continue
		}
		w.problem("I2: %s of %s was set aside: %s", d.Subject, d.Stage, d.Reason)
	}
}

func (w *World) deadIDs() map[string]bool {
	ids := map[string]bool{}
	for _, m := range w.server.dead.list {
		var d eventlog.DeadLetter
		if json.Unmarshal(m.data, &d) == nil {
			if tokens := strings.Split(d.Subject, "."); len(tokens) == 6 {
				ids[tokens[4]] = true
			}
		}
	}
	return ids
}

// judgeRefunds is I3 for refunds: each of the provider's is one of ours, with its amount and end.
func (w *World) judgeRefunds(last map[string]*engine.Event) {
	ours := map[string]engine.Refund{}
	charged := map[string]bool{} // by payment
	for _, id := range sorted(last) {
		if c := last[id].Data.Charge; c != nil {
			charged[c.ProviderPaymentID] = true
			for _, r := range c.Refunds {
				if _, twice := ours[r.ProviderRefundID]; twice && r.ProviderRefundID != "" {
					w.problem("I3: refund %s is there twice", r.ProviderRefundID)
				}
				ours[r.ProviderRefundID] = r
			}
		}
	}
	made := map[string]string{} // by our id
	for _, r := range w.stripe.order.refunds {
		got, ok := ours[r.now.ID]
		if p := w.stripe.payments[r.now.ProviderPaymentID]; !ok && p != nil && p.now.Owner.Env == "" && !charged[p.now.ID] {
			continue // of a payment that is nobody's: made elsewhere for a customer who was deleted before it came
		}
		if !ok || got.Amount != r.now.Amount || got.Status != r.now.Status {
			w.problem("I3: refund %s of %d is %s there, here %+v", r.now.ID, r.now.Amount, r.now.Status, got)
		}
		if id := r.now.Owner.Refund; id != "" {
			if other := made[id]; other != "" {
				w.problem("I1: refund %s was made twice: %s and %s", id, other, r.now.ID)
			}
			made[id] = r.now.ID
		}
	}
}

// judgeProfiles: the provider was last told of the newest profile, and a deleted customer is gone there. A push that was
// not answered and that the provider carries out after a newer one is not noticed: docs/reliability.md says so.
func (w *World) judgeProfiles(last map[string]*engine.Event) {
	for _, id := range sorted(last) {
		a := last[id].Data.ProviderAccount
		if a == nil || a.Status != engine.AccountLinked {
			continue
		}
		there := w.stripe.customers[a.ProviderCustomerID]
		customer := last[a.CustomerID].Data.Customer
		switch {
		case there == nil:
			w.problem("I4: account %s is linked to %s, which was never made", id, a.ProviderCustomerID)
		case there.deleted:
			w.problem("I3: account %s is linked to %s, which was deleted", id, a.ProviderCustomerID)
		case customer.Deleted():
			w.problem("I10: the deleted customer %s is still at the provider as %s", a.CustomerID, a.ProviderCustomerID)
		default:
			newest := ""
			for _, p := range w.server.profiles {
				if p.customer == a.CustomerID && !p.gone && p.what.Email != nil {
					newest = *p.what.Email
				}
			}
			if newest != there.profile.Email && !there.stale {
				w.problem("I3: the provider was told %q of %s, the profile is %q", there.profile.Email, a.CustomerID, newest)
			}
		}
	}
}

// payable tells whether a payment can still take money by what a buyer does. One that waits for our confirm takes none
// without it, and the methods of a deleted customer are gone.
func (s *Stripe) payable(p *payment) bool {
	switch p.now.Status {
	case engine.PaymentRequiresAction, engine.PaymentRequiresMethod:
		c := s.customers[p.now.ProviderCustomerID]
		return c != nil && !c.deleted
	case engine.PaymentRequiresConfirmation, engine.PaymentProcessing, engine.PaymentSucceeded, engine.PaymentCanceled:
	}
	return false
}

// ledger is the provider's list of payments.
func (s *Stripe) ledger() (list []verify.Payment) {
	for _, p := range s.order.payments {
		list = append(list, verify.Payment{
			ID: p.now.ID, ChargeID: p.now.ChargeID, Amount: p.now.Amount, Refunded: p.now.AmountRefunded, Currency: p.now.Currency,
			Paid: p.captures > 0, Captures: p.captures, Customer: p.now.ProviderCustomerID, Env: p.now.Owner.Env,
			Payable: s.payable(p),
			Charge:  p.now.Owner.Charge, Checkout: p.now.Owner.Checkout,
		})
	}
	return list
}
