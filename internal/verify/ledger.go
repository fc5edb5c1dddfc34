package verify

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/paykit-go/paykit/internal/events"
)

// Payment is one payment as its provider has it: what [Report.Ledger] holds the log against. Whoever lists them fills in
// what the provider shows.
type Payment struct {
	ID       string // "" for a charge that has none
	ChargeID string // the provider's, "" if there is none
	Amount   int64  // minor units: what was taken if it is paid, else what is asked for
	Refunded int64  // minor units: the sum of its refunds that did not fail and were not canceled
	Currency string
	Paid     bool   // money was taken
	Captures int    // how often money was taken; 0 where the provider does not count
	Payable  bool   // not paid, and still could be, without the buyer's doing anything more than pay
	Customer string // the provider's, "" if there is none
	Env      string // paykit_env; the other two count only if it is ours
	Charge   string // paykit_charge
	Checkout string // paykit_checkout
}

// name is how a payment is called in a problem.
func (p Payment) name() string { return cmp.Or(p.ID, p.ChargeID) }

// LedgerOptions say what to hold against what.
type LedgerOptions struct {
	ProviderID string
	Env        string // whose objects are ours
	// PaymentsOnly says that charges without a payment, made by other software, are not among the payments: those of the log
	// are left out.
	PaymentsOnly bool
	// Returned says how a charge that was paid twice is judged. False: PayKit never makes a second payment that takes money,
	// given back or not. True: whoever paid, a person must see it until all but one were given back ([PaidTwice]).
	Returned bool
}

// books are what the log says of money.
type books struct {
	charges  map[string]*book  // by charge id
	accounts map[string]string // provider's customer → ours, of linked accounts, by provider
}

// book is what the log's last event of a charge says of its money.
type book struct {
	id, customer, provider string
	payment, charge        string // the provider's
	currency               string
	amount, refunded       int64
	sequence               uint64
	status                 events.ChargeStatus
	ours                   bool // PayKit began it, not a page's buyer or somebody at the provider
	again                  bool // its retry ladder goes on: the payment is to be paid yet
}

func newBooks() *books { return &books{charges: map[string]*book{}, accounts: map[string]string{}} }

// charge notes a charge's newest snapshot.
func (b *books) charge(sequence uint64, c *events.Charge) {
	if b == nil {
		return
	}
	one := book{
		id: c.ID, customer: c.CustomerID, provider: c.ProviderID, payment: c.ProviderPaymentID, charge: c.ProviderChargeID,
		currency: c.Currency, amount: c.Amount, sequence: sequence, status: c.Status,
		ours:  c.CheckoutID == "" && !c.ReportedByProvider,
		again: c.Retry != nil && c.Retry.Status != events.RetryEnded,
	}
	for _, r := range c.Refunds {
		if r.ProviderRefundID != "" && refundRank(r.Status) < refundRank(events.RefundFailed) {
			one.refunded += r.Amount
		}
	}
	b.charges[c.ID] = &one
}

// account notes whose a provider's customer is.
func (b *books) account(a *events.ProviderAccount) {
	if b == nil {
		return
	}
	key := a.ProviderID + " " + a.ProviderCustomerID
	if a.Status == events.AccountLinked {
		b.accounts[key] = a.CustomerID
	} else {
		delete(b.accounts, key)
	}
}

// Ledger holds what the log says of money against the provider's own list of payments, and reports every difference:
//
//	I1  no charge of ours was paid twice
//	I3  each payment that took money is one charge, and only one
//	I4  each charge that succeeded has a payment that took that amount in that currency
//	I6  what was taken and given back, by customer and currency, is the same on both sides
//
// and that no payment of PayKit's can be paid any more after its charge has ended. The payments must be complete from the log's first event on, and read after the log was. It needs [Options].Books.
//
// It judges a moment at which nothing is under way. On a system that runs there is none: a payment was taken, a refund
// failed, and the log hears of it a second later; nothing that the provider shows tells how long ago it happened. There
// take [Report.Compare] of two moments, and keep what [Lasting] keeps.
func (r *Report) Ledger(o LedgerOptions, payments []Payment) {
	for _, p := range r.Compare(o, payments) {
		r.Add(p)
	}
}

// Lasting keeps the problems of a second look that the first one had found too.
func Lasting(first, second []Problem) []Problem {
	type key struct{ entity, id, problem string }
	found := map[key]bool{}
	for _, p := range first {
		found[key{p.Entity, p.ID, p.Problem}] = true
	}
	return slices.DeleteFunc(slices.Clone(second), func(p Problem) bool { return !found[key{p.Entity, p.ID, p.Problem}] })
}

// Compare is [Report.Ledger], which leaves the report as it is.
func (r *Report) Compare(o LedgerOptions, payments []Payment) []Problem {
	if r.books == nil {
		return []Problem{{Sequence: r.LastSequence, Entity: "ledger", Problem: "the log's money was not kept: nothing was compared"}}
	}
	l := &ledger{LedgerOptions: o, report: r, byPayment: map[string]*book{}, seen: map[string]Payment{}, paid: map[string][]Payment{}}
	for _, id := range slices.Sorted(maps.Keys(r.books.charges)) {
		if c := r.books.charges[id]; c.provider == o.ProviderID && (c.payment != "" || !o.PaymentsOnly) {
			l.charges = append(l.charges, c)
			l.byPayment[cmp.Or(c.payment, c.charge)] = c
		}
	}
	for _, p := range payments {
		l.payment(p)
	}
	for _, c := range l.charges {
		l.charge(c)
	}
	l.sums(payments)
	if o.Returned {
		l.twice(payments)
	}
	return l.problems
}

// ledger is one comparison.
type ledger struct {
	LedgerOptions
	report    *Report
	problems  []Problem
	charges   []*book
	byPayment map[string]*book     // by the provider's payment, or charge
	seen      map[string]Payment   // by the same
	paid      map[string][]Payment // by the charge that they were made for
}

func (l *ledger) problem(c *book, format string, args ...any) {
	p := Problem{Sequence: l.report.LastSequence, Entity: "ledger", Problem: fmt.Sprintf(format, args...)}
	if c != nil {
		p.Sequence, p.Entity, p.ID = c.sequence, string(events.EntityCharge), c.id
	}
	l.problems = append(l.problems, p)
}

// payment holds one payment against the log.
func (l *ledger) payment(p Payment) {
	l.seen[p.name()] = p
	c := l.byPayment[p.name()]
	if p.Captures > 1 {
		l.problem(c, "payment %s took money %d times", p.name(), p.Captures)
	}
	ours := p.Env != "" && p.Env == l.Env
	if !p.Paid {
		if p.Payable && ours && p.Checkout == "" {
			l.payable(p)
		}
		return
	}
	if ours && p.Checkout == "" && p.Charge != "" && !l.Returned {
		l.paid[p.Charge] = append(l.paid[p.Charge], p)
		if twice := l.paid[p.Charge]; len(twice) == 2 {
			l.problem(l.report.books.charges[p.Charge], "charged twice: payments %s and %s", twice[0].name(), twice[1].name())
		}
	}
	_, mine := l.report.books.accounts[l.ProviderID+" "+p.Customer]
	switch {
	case p.Env != "" && p.Env != l.Env, !ours && !mine:
		// another environment's, nobody's
	case c == nil:
		l.problem(nil, "payment %s took %d %s and is no charge in the log", p.name(), p.Amount, p.Currency)
	case c.status != events.ChargeStatusSucceeded:
		l.problem(c, "payment %s took %d %s, and the charge is %s", p.name(), p.Amount, p.Currency, c.status)
	}
}

// payable reports a payment that can be paid although its charge has ended without it.
func (l *ledger) payable(p Payment) {
	c := l.report.books.charges[p.Charge]
	if c != nil && c.again {
		return
	}
	if _, linked := l.report.books.accounts[l.ProviderID+" "+p.Customer]; p.Customer != "" && !linked {
		return // its customer is gone, so nobody pays it
	}
	if c == nil || c.status == events.ChargeStatusFailed || c.status == events.ChargeStatusCanceled ||
		c.status == events.ChargeStatusSucceeded && c.payment != p.ID {
		l.problem(c, "payment %s can still be paid, and its charge has ended", p.name())
	}
}

// charge holds one charge against the provider's payments.
func (l *ledger) charge(c *book) {
	if c.status != events.ChargeStatusSucceeded {
		return
	}
	p, ok := l.seen[cmp.Or(c.payment, c.charge)]
	switch {
	case !ok:
		l.problem(c, "succeeded by payment %s, which the provider does not have", cmp.Or(c.payment, c.charge))
	case !p.Paid:
		l.problem(c, "succeeded by payment %s, which took no money", p.name())
	case p.Amount != c.amount || p.Currency != c.currency:
		l.problem(c, "%d %s, and payment %s took %d %s", c.amount, c.currency, p.name(), p.Amount, p.Currency)
	case p.Refunded != c.refunded:
		l.problem(c, "%d was given back, and the provider says %d", c.refunded, p.Refunded)
	case c.ours && p.Env == l.Env && p.Charge != c.id:
		l.problem(c, "payment %s was made for charge %s", p.name(), p.Charge)
	}
}

// purse is one customer's money in one currency.
type purse struct{ customer, currency string }

// twice reports the charges that were paid more than once.
func (l *ledger) twice(payments []Payment) {
	found := PaidTwice(l.Env, payments)
	for _, id := range slices.Sorted(maps.Keys(found)) {
		l.problem(cmp.Or(l.report.books.charges[id], &book{id: id, sequence: l.report.LastSequence}),
			"charged twice: payments %s have money; give back all but one", strings.Join(found[id], ", "))
	}
}

// PaidTwice finds the charges, those of checkouts included, for which more than one payment of ours has money that was not
// given back, and gives these payments' names in order, by charge.
func PaidTwice(env string, payments []Payment) map[string][]string {
	found := map[string][]string{}
	for _, p := range payments {
		id := p.Charge
		if id == "" && p.Checkout != "" {
			id = events.CheckoutChargeID(p.Checkout)
		}
		if p.Env != "" && p.Env == env && id != "" && p.Paid && p.Refunded < p.Amount {
			found[id] = append(found[id], p.name())
		}
	}
	maps.DeleteFunc(found, func(_ string, list []string) bool { return len(list) < 2 })
	for _, list := range found {
		slices.Sort(list)
	}
	return found
}

// sums adds up both sides by customer and currency. It says nothing that the single differences don't, unless the rules
// above have a hole: it looks at neither ids nor states one by one.
func (l *ledger) sums(payments []Payment) {
	type sum struct{ taken, refunded int64 }
	log, provider := map[purse]sum{}, map[purse]sum{}
	add := func(to map[purse]sum, of purse, taken, refunded int64) {
		s := to[of]
		to[of] = sum{s.taken + taken, s.refunded + refunded}
	}
	for _, c := range l.charges {
		if c.status == events.ChargeStatusSucceeded {
			add(log, purse{c.customer, c.currency}, c.amount, c.refunded)
		}
	}
	for _, p := range payments {
		if !p.Paid {
			continue
		}
		owner := l.report.books.accounts[l.ProviderID+" "+p.Customer]
		if c := l.byPayment[p.name()]; c != nil {
			owner = c.customer
		}
		if owner != "" && (p.Env == "" || p.Env == l.Env) || l.byPayment[p.name()] != nil {
			add(provider, purse{owner, p.Currency}, p.Amount, p.Refunded)
		}
	}
	for of := range log {
		if _, ok := provider[of]; !ok {
			provider[of] = sum{}
		}
	}
	for _, of := range slices.SortedFunc(maps.Keys(provider), func(a, b purse) int {
		return cmp.Or(cmp.Compare(a.customer, b.customer), cmp.Compare(a.currency, b.currency))
	}) {
		if log[of] != provider[of] {
			l.problem(nil, "customer %s: the log has %d %s taken and %d given back, the provider %d and %d",
				of.customer, log[of].taken, of.currency, log[of].refunded, provider[of].taken, provider[of].refunded)
		}
	}
}
