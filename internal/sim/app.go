package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/paykit-go/paykit/internal/commands"
	engine "github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
)

// app is everybody outside: the app that sends commands, buyers on pages, people in Stripe's dashboard.
type app struct {
	w         *World
	customers []string   // ids
	charges   []string   // that commands asked for
	checkouts []string   //
	setups    []string   //
	accepted  []accepted // commands that were taken in
	open      int        // commands that are not answered yet
	canaries  []string   // personal data, which must not get out
	profiles  int
	keys      int
}

// accepted is a command that was taken in: it must come to an end.
type accepted struct{ verb, id, part string }

// reply is what an ingest answered.
type reply struct {
	result commands.Result
	err    error
}

func newApp(w *World) *app { return &app{w: w} }

const (
	commandsMost = 14
	seeded       = 0.6 // of the customers are there from the beginning, with a method
)

// begin plans what happens: customers first, then commands and people at random times.
func (a *app) begin() {
	random := a.w.sc.stream(3)
	for i := range 1 + random.IntN(3) {
		reference := fmt.Sprintf("user_%d_%d", a.w.sc.Seed%1000, i)
		a.customers = append(a.customers, engine.CustomerID(reference))
		if random.Float64() < seeded {
			a.seed(reference, 1+random.IntN(2))
		} else {
			a.sync(reference, random)
		}
	}
	n := 3 + random.IntN(commandsMost-3)
	for i := range n {
		at := time.Duration(random.Int64N(int64(20 * time.Minute)))
		if random.IntN(6) == 0 {
			at = time.Duration(random.Int64N(int64(30 * time.Hour)))
		}
		drop := false
		for _, d := range a.w.sc.DropCommands {
			drop = drop || d == i
		}
		if drop {
			continue
		}
		own := a.w.sc.stream(100 + uint64(i))
		a.open++
		a.w.sched.after(at, func() {
			a.open--
			a.act(i, own)
		})
	}
}

// seed makes a customer that was there before, with an account and methods, as the engine would have made it.
func (a *app) seed(reference string, methods int) {
	w := a.w
	ref := engine.CustomerRef{ID: engine.CustomerID(reference), ReferenceID: reference}
	c := engine.Cause{Now: w.sched.now, Source: "/paykit/ingest", Customer: ref}
	put := func(ev *engine.Event, err error) {
		if err == nil {
			var raw []byte
			if raw, err = ev.Encode(); err == nil {
				_, err = w.server.append(ev, raw, 0)
			}
		}
		if err != nil {
			panic(err) // the model's own beginning
		}
	}
	put(engine.DecideCustomer(nil, engine.SyncCustomer{ReferenceID: reference}, c))
	cus := &customer{id: w.stripe.id("cus"), created: w.sched.now, owner: engine.Owner{Env: env, Customer: ref.ID}}
	w.stripe.customers[cus.id] = cus
	w.stripe.order.customers = append(w.stripe.order.customers, cus)
	w.server.links[providerID+" "+cus.id] = linkTo(ref.ID)
	put(engine.DecideProviderAccount(nil, engine.LinkAccount{ProviderID: providerID, ProviderCustomerID: cus.id}, c))
	for range methods {
		m := w.stripe.newMethod(cus.id, behaviour(w.random.IntN(int(behaviours))))
		put(engine.DecidePaymentMethod(nil, engine.MethodObserved{ProviderID: providerID, Method: m.now()}, c))
	}
}

// act does the i-th thing that somebody does.
func (a *app) act(i int, random *rand.Rand) {
	key := fmt.Sprintf("k%d", i)
	customerID := a.customers[random.IntN(len(a.customers))]
	what := random.IntN(100)
	a.w.trace("act %d: %d of %s", i, what, customerID)
	switch {
	case what < 40:
		a.charge(key, customerID, random)
	case what < 50:
		a.checkout(key, customerID, random)
	case what < 56:
		a.setup(key, customerID, random)
	case what < 68:
		a.refund(key, random)
	case what < 75:
		a.cancel(random)
	case what < 78:
		a.expire(random)
	case what < 84:
		a.method(customerID, random)
	case what < 88:
		a.sync("", random)
	case what < 90:
		a.send("customer.delete", "", fmt.Sprintf(`{"customerId":%q}`, customerID), random)
	default:
		a.dashboard(customerID, random)
	}
}

// send gives a command to an ingest, again and again under its key until there is an answer.
func (a *app) send(verb, key, body string, random *rand.Rand) {
	if key == "" { // the engine would make one up, another in each run
		a.keys++
		key = fmt.Sprintf("s%d", a.keys)
	}
	queued := random.IntN(4) == 0
	a.open++
	if queued {
		a.leave(verb, key, body, 1)
		return
	}
	a.ask(verb, key, body, 1)
}

// leave puts a command into the queue. The app tries again until that is acknowledged.
func (a *app) leave(verb, key, body string, try int) {
	w := a.w
	switch {
	case w.server.full, w.mix.hits(natsRefused, 1), w.mix.hits(natsUnknown, 1):
		w.sched.after(time.Second<<min(try, 6), func() { a.leave(verb, key, body, try+1) })
		return
	}
	header := nats.Header{}
	if key != "" {
		header.Set(commands.HeaderIdempotencyKey, key)
	}
	w.trace("queued %s %s %s", verb, key, body)
	w.server.enqueue(prefix+".cmd."+verb, []byte(body), header)
	if key != "" && w.mix.hits(natsAnswer, 1) { // stored, and the acknowledgement lost: once more
		w.sched.after(time.Second<<min(try, 6), func() { a.leave(verb, key, body, try+1) })
		return
	}
	a.open--
	a.took(verb, key)
}

func (a *app) ask(verb, key, body string, try int) {
	w := a.w
	again := func() {
		w.sched.after(time.Second<<min(try, 7), func() { a.ask(verb, key, body, try+1) })
	}
	var live []*process
	for _, p := range w.processes {
		if p.role == ingest && p.alive {
			live = append(live, p)
		}
	}
	if len(live) == 0 {
		again()
		return
	}
	p := live[w.random.IntN(len(live))]
	var got reply
	p.run(func(ctx context.Context, _ *task) {
		w.trace("%s: %s %s %s", p.name, verb, key, body)
		got.result, got.err = p.command.Execute(ctx, verb, []byte(body), commands.Meta{IdempotencyKey: key})
	}, func(killed bool) {
		if refusal, ok := errors.AsType[*engine.Error](got.err); ok && !killed {
			w.trace("%s %s refused: %s", verb, key, refusal.Code)
			a.open--
			return
		}
		if killed || got.err != nil {
			again()
			return
		}
		a.open--
		if s := got.result.Sequence; s < 1 || s > uint64(len(w.server.entries)) {
			w.problem("I8: %s %s was answered with event %d, which is not stored", verb, key, s)
		}
		a.took(verb, key)
	})
}

// took notes a command that was taken in.
func (a *app) took(verb, key string) {
	id := ""
	switch verb {
	case "charge.create":
		id = engine.ChargeID(key)
		a.charges = append(a.charges, id)
	case "checkout.create":
		id = engine.CheckoutID(key)
		a.checkouts = append(a.checkouts, id)
	case "payment_method.attach":
		id = engine.SetupID(key)
		a.setups = append(a.setups, id)
	}
	a.accepted = append(a.accepted, accepted{verb: verb, id: id, part: engine.CommandID(verb, key)})
}

func (a *app) sync(reference string, random *rand.Rand) {
	if reference == "" {
		reference = fmt.Sprintf("user_%d_%d", a.w.sc.Seed%1000, random.IntN(len(a.customers)))
	}
	a.profiles++
	email := fmt.Sprintf("canary.%d.%d@example.com", a.w.sc.Seed, a.profiles)
	name := fmt.Sprintf("Canary Bird %d %d", a.w.sc.Seed, a.profiles)
	a.canaries = append(a.canaries, email, name)
	a.send("customer.sync", "", fmt.Sprintf(`{"referenceId":%q,"email":%q,"name":%q}`, reference, email, name), random)
}

// methods are the customer's methods in the log that can be charged.
func (a *app) methods(customerID string) (ids []string) {
	last := map[string]*engine.PaymentMethod{}
	for _, e := range a.w.server.entries {
		if m := e.Event.Data.PaymentMethod; m != nil && m.CustomerID == customerID {
			last[m.ID] = m
		}
	}
	for _, id := range sorted(last) {
		if last[id].Chargeable() {
			ids = append(ids, id)
		}
	}
	return ids
}

func (a *app) charge(key, customerID string, random *rand.Rand) {
	methods := a.methods(customerID)
	if len(methods) == 0 {
		a.checkout(key, customerID, random)
		return
	}
	back := ""
	if random.IntN(3) > 0 {
		back = `,"returnURL":"https://app.example/back"`
	}
	amount := 100 + random.Int64N(9000)
	if random.IntN(4) == 0 {
		back += `,"retry":"steps"`
	}
	body := fmt.Sprintf(`{"providerId":%q,"customerId":%q,"paymentMethodId":%q,"amount":%d,"currency":"usd","description":"usage"%s}`,
		providerID, customerID, methods[random.IntN(len(methods))], amount, back)
	a.send("charge.create", key, body, random)
	id := engine.ChargeID(key)
	// The buyer authenticates at some time, or does not.
	for range random.IntN(3) {
		d, passed := time.Duration(random.Int64N(int64(3*time.Hour))), random.IntN(10) < 7
		if random.IntN(5) == 0 {
			d = time.Duration(random.Int64N(int64(26 * time.Hour)))
		}
		a.w.plan(d, func() {
			for _, p := range a.w.stripe.order.payments {
				if p.now.Owner.Charge == id {
					a.w.stripe.authenticate(p, passed)
				}
			}
		})
	}
}

func (a *app) checkout(key, customerID string, random *rand.Rand) {
	body := fmt.Sprintf(`{"providerId":%q,"customerId":%q,"amount":%d,"description":"plan","successURL":"https://app.example/ok","attachMethod":%t}`,
		providerID, customerID, 100+random.Int64N(9000), random.IntN(2) == 0)
	a.send("checkout.create", key, body, random)
	a.buyer(engine.CheckoutID(key), random)
}

func (a *app) setup(key, customerID string, random *rand.Rand) {
	body := fmt.Sprintf(`{"providerId":%q,"customerId":%q,"returnURL":"https://app.example/cards"}`, providerID, customerID)
	a.send("payment_method.attach", key, body, random)
	a.buyer(engine.SetupID(key), random)
}

// buyer comes to a page, perhaps, and pays or not.
func (a *app) buyer(id string, random *rand.Rand) {
	for range random.IntN(3) {
		does, well := behaviour(random.IntN(int(behaviours))), random.IntN(4) > 0
		d := time.Duration(random.Int64N(int64(2 * time.Hour)))
		takes := time.Duration(random.Int64N(int64(40 * time.Hour)))
		a.w.plan(d, func() {
			for _, x := range a.w.stripe.order.sessions {
				if x.now.Owner.Checkout != id && x.now.Owner.Setup != id {
					continue
				}
				a.w.stripe.complete(x, does)
				if p := x.paid; p != nil && p.now.Status == engine.PaymentProcessing {
					a.w.plan(takes, func() { a.w.stripe.settle(p, well) })
				}
			}
		})
	}
}

func (a *app) refund(key string, random *rand.Rand) {
	id := a.paid(random)
	if id == "" {
		return
	}
	amount := ""
	if random.IntN(4) > 0 {
		amount = fmt.Sprintf(`,"amount":%d`, 1+random.Int64N(3000))
	}
	a.send("charge.refund", key, fmt.Sprintf(`{"chargeId":%q%s}`, id, amount), random)
}

// paid picks a charge that has succeeded.
func (a *app) paid(random *rand.Rand) string {
	last := map[string]bool{}
	for _, e := range a.w.server.entries {
		if c := e.Event.Data.Charge; c != nil && c.Status == engine.ChargeStatusSucceeded {
			last[c.ID] = true
		}
	}
	if len(last) == 0 {
		return ""
	}
	return sorted(last)[random.IntN(len(last))]
}

func (a *app) cancel(random *rand.Rand) {
	if len(a.charges) > 0 {
		id := a.charges[random.IntN(len(a.charges))]
		a.send("charge.cancel", "", fmt.Sprintf(`{"chargeId":%q}`, id), random)
	}
}

func (a *app) expire(random *rand.Rand) {
	if len(a.checkouts) > 0 {
		id := a.checkouts[random.IntN(len(a.checkouts))]
		a.send("checkout.expire", "", fmt.Sprintf(`{"checkoutId":%q}`, id), random)
	}
}

func (a *app) method(customerID string, random *rand.Rand) {
	methods := a.methods(customerID)
	if len(methods) == 0 {
		return
	}
	verb := "payment_method.set_default"
	if random.IntN(2) == 0 {
		verb = "payment_method.detach"
	}
	body := fmt.Sprintf(`{"providerId":%q,"customerId":%q,"paymentMethodId":%q}`, providerID, customerID, methods[random.IntN(len(methods))])
	a.send(verb, "", body, random)
}

// dashboard is what people do at Stripe.
func (a *app) dashboard(customerID string, random *rand.Rand) {
	s := a.w.stripe
	var cus *customer
	for _, c := range s.order.customers {
		if c.owner.Customer == customerID && !c.deleted {
			cus = c
		}
	}
	var paid []*payment
	for _, p := range s.order.payments {
		if p.now.Status == engine.PaymentSucceeded {
			paid = append(paid, p)
		}
	}
	switch what := random.IntN(10); {
	case what < 4 && len(paid) > 0:
		p := paid[random.IntN(len(paid))]
		if left := p.now.Amount - p.now.AmountRefunded; left > 0 {
			s.giveBack(p, engine.Owner{}, 1+random.Int64N(left), "", engine.RefundSucceeded)
		}
	case what < 7 && len(paid) > 0:
		a.dispute(paid[random.IntN(len(paid))], random)
	case what < 8 && cus != nil:
		for _, id := range sorted(s.methods) {
			if m := s.methods[id]; m.customer == cus.id && m.attached {
				s.detach(m)
				return
			}
		}
	case what < 9 && len(paid) > 0 && random.IntN(2) == 0:
		p := paid[random.IntN(len(paid))]
		s.emit("radar.early_fraud_warning.created", "", provider.FraudWarningSeen{FraudWarningReport: engine.FraudWarningReport{
			ID: s.id("issfr"), ProviderPaymentID: p.now.ID, ProviderChargeID: p.now.ChargeID, Type: "misc", Actionable: true,
		}})
	case what < 9 && cus != nil:
		p := &payment{now: engine.Payment{
			ID: s.id("pi"), ProviderCustomerID: cus.id, Status: engine.PaymentRequiresMethod, Amount: 500, Currency: "usd", CreatedAt: s.now(),
		}}
		m := s.newMethod("", cardGood)
		p.method = m.id
		s.payments[p.now.ID] = p
		s.order.payments = append(s.order.payments, p)
		s.attempt(p, true)
	case cus != nil && random.IntN(3) == 0:
		s.remove(cus)
	}
}

func (a *app) dispute(p *payment, random *rand.Rand) {
	s := a.w.stripe
	report := engine.DisputeReport{
		ID: s.id("dp"), ProviderPaymentID: p.now.ID, ProviderChargeID: p.now.ChargeID, Amount: p.now.Amount, Currency: p.now.Currency,
		Status: "needs_response", Reason: "fraudulent",
	}
	tell := func(typ, status string) {
		report.Status = status
		s.emit("charge.dispute."+typ, "", provider.DisputeSeen{DisputeReport: report})
	}
	tell("created", "needs_response")
	end := "won"
	if random.IntN(2) == 0 {
		end = "lost"
	}
	a.w.plan(time.Duration(random.Int64N(int64(10*time.Hour))), func() { tell("updated", "under_review") })
	a.w.plan(10*time.Hour+time.Duration(random.Int64N(int64(10*time.Hour))), func() { tell("closed", end) })
}
