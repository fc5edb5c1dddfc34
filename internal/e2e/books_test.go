//go:build crashpoints

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// letter is a dead letter, as stored and as listed.
type letter struct {
	Stage   string `json:"stage"`
	ID      string `json:"id"`
	Subject string `json:"subject"`
	Reason  string `json:"reason"`
}

func (d letter) String() string {
	return fmt.Sprintf("%s %s (%s): %s", d.Stage, d.ID, d.Subject, d.Reason)
}

// watchLetters notes each dead letter when it is stored: those of a customer go when the customer is deleted.
func (l *load) watchLetters() {
	l.s.t.Helper()
	_, err := l.nc.Subscribe("paykit.dead.*.*.*", func(m *nats.Msg) {
		if strings.HasPrefix(m.Subject, "paykit.dead.decision.") {
			return
		}
		var d letter
		if err := json.Unmarshal(m.Data, &d); err != nil {
			d.Reason = fmt.Sprintf("unreadable: %v", err)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.letters = append(l.letters, d)
	})
	if err != nil {
		l.s.t.Fatal(err)
	}
}

// plant says which dead letters the load leads to; any other is a failure.
func (l *load) plant(planted func(letter) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.planted = planted
}

// closeBooks adds what the load has left behind to what the system keeps, and gives all of it.
func (l *load) closeBooks() *books {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := &l.s.books
	if b.want == nil {
		*b = books{want: map[string]paykit.ChargeStatus{}, letters: map[string]bool{}}
	}
	maps.Copy(b.want, l.want)
	b.customers = append(b.customers, l.deleted...)
	b.methods = append(b.methods, l.detached...)
	l.deleted, l.detached = nil, nil
	return b
}

// holdMoney holds the sandbox's ledger against how the charges ended: money was taken once for each that succeeded and
// for nothing else, whoever it was taken from and in whichever load.
func (l *load) holdMoney(ctx context.Context, b *books) {
	l.s.t.Helper()
	captures, refunded := map[string]int{}, map[string]int64{}
	for _, p := range l.s.ledger() { //nolint:contextcheck // the test's own
		captures[p.Metadata["paykit_charge"]] += p.Captures
		refunded[p.Metadata["paykit_charge"]] += p.AmountRefunded
	}
	for id, want := range b.want {
		times := captures[id]
		delete(captures, id)
		c, err := l.ended(ctx, id)
		if err != nil {
			l.s.t.Errorf("charge %s: %v", id, err)
			continue
		}
		taken := 0
		if want == paykit.ChargeSucceeded {
			taken = 1
		}
		if c.Status != want || times != taken || refunded[id] != c.AmountRefunded {
			l.s.t.Errorf("charge %s is %s, want %s; money was taken %d times; refunded %d here and %d there",
				id, c.Status, want, times, c.AmountRefunded, refunded[id])
		}
	}
	for id, n := range captures {
		if n > 0 {
			l.s.t.Errorf("money was taken %d times for %q, of which nobody knows", n, id)
		}
	}
}

// holdLetters wants no dead letter but those that were planted: neither one that was seen, nor one that is listed.
func (l *load) holdLetters(b *books) {
	l.s.t.Helper()
	l.mu.Lock()
	seen, planted := slices.Clone(l.letters), l.planted
	l.mu.Unlock()
	for _, d := range slices.Concat(seen, l.s.openLetters()) {
		key := d.Stage + " " + d.ID
		if planted != nil && planted(d) {
			b.letters[key] = true
		}
		if !b.letters[key] {
			l.s.t.Errorf("a dead letter that nobody planted: %s", d)
			b.letters[key] = true // said once
		}
	}
}

// openLetters is what `paykit dead list` prints.
func (s *system) openLetters() (open []letter) {
	s.t.Helper()
	p := start(s.t, s.env(), "paykit", "dead", "list", "-o", "json")
	status := p.status(60 * time.Second)
	var list struct {
		Items []struct {
			Letter letter `json:"letter"`
		} `json:"items"`
	}
	if err := json.Unmarshal([]byte(p.out.String()), &list); err != nil || status != 0 {
		s.t.Errorf("dead list: status %d: %v: %s", status, err, p.out)
	}
	for _, item := range list.Items {
		open = append(open, item.Letter)
	}
	return open
}

// holdGone wants what was deleted and detached here to be so at the provider.
func (l *load) holdGone(b *books) {
	l.s.t.Helper()
	for _, id := range b.customers {
		if o := l.s.object("customers/" + id); !o.Deleted {
			l.s.t.Errorf("customer %s was deleted here and lives at the provider: %+v", id, o)
		}
	}
	for _, id := range b.methods {
		if o := l.s.object("payment_methods/" + id); o.ID != id || o.Customer != "" {
			l.s.t.Errorf("method %s was detached here and is attached at the provider: %+v", id, o)
		}
	}
}

// reconcile compares provider and log and wants no difference.
func (s *system) reconcile(since time.Time) {
	s.t.Helper()
	p := start(s.t, s.stripeEnv(), "paykit", "reconcile", "--since", since.UTC().Format(time.RFC3339), "-o", "json")
	status := p.status(2 * time.Minute)
	var r struct {
		OK          bool  `json:"ok"`
		Differences []any `json:"differences"`
		PaidTwice   []any `json:"paidTwice"`
	}
	if err := json.Unmarshal([]byte(p.out.String()), &r); err != nil || status != 0 || !r.OK || len(r.Differences)+len(r.PaidTwice) > 0 {
		s.t.Errorf("reconcile: status %d: %v: %s", status, err, p.out)
	}
}

// nothingOpen waits until the log holds nothing that somebody has still to do something about.
func (l *load) nothingOpen(ctx context.Context) error {
	log, err := eventlog.Open(ctx, l.nc, eventlog.Config{Prefix: "paykit", Logger: zerolog.Nop()})
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	last, from := map[string]*events.Event{}, uint64(1)
	_, err = again(ctx, "nothing is open", func() (*[]string, error) {
		list, err := log.History(ctx, eventlog.HistoryFilter{}, from, 100_000)
		if err != nil {
			return nil, err //nolint:wrapcheck // says what it was
		}
		for _, e := range list {
			from = e.Sequence + 1
			last[e.Event.Subject] = e.Event
		}
		var open []string
		for id, e := range last {
			if what := openIn(e, last); what != "" {
				open = append(open, id+" "+what)
			}
		}
		if len(open) > 0 {
			return nil, fmt.Errorf("%w: %s", errNotYet, strings.Join(open, ", "))
		}
		return &open, nil
	}, nil)
	return err
}

// openIn says what an entity's last event leaves open, "" for nothing.
func openIn(e *events.Event, last map[string]*events.Event) string {
	gone := func(customerID string) bool {
		c := last[customerID]
		return c != nil && c.Data.Customer.Deleted()
	}
	switch d := e.Data; {
	case d.Charge != nil:
		c := d.Charge
		unsettled := slices.ContainsFunc(c.Refunds, func(r events.Refund) bool { return r.Status.Open() })
		if !c.Status.Final() || c.Retrying() || c.Review != nil || unsettled {
			return fmt.Sprintf("is %s, retry %+v, review %+v, refunds %+v", c.Status, c.Retry, c.Review, c.Refunds)
		}
	case d.Checkout != nil:
		if !d.Checkout.Status.Final() {
			return "is " + string(d.Checkout.Status)
		}
	case d.Setup != nil:
		if !d.Setup.Status.Final() {
			return "is " + string(d.Setup.Status)
		}
	case d.PaymentMethod != nil:
		if m := d.PaymentMethod; m.Live() && (m.DetachRequestedAt != nil || gone(e.CustomerID())) {
			return "is still attached"
		}
	case d.ProviderAccount != nil:
		if d.ProviderAccount.Status == events.AccountLinked && gone(e.CustomerID()) {
			return "is still linked"
		}
	}
	return ""
}
