package provider_test

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/projections"
)

// told is a story that deliveries tell, in whatever order: what leads up to it, and the deliveries.
type told struct {
	name  string
	begin func(*ingest) *buyer
	all   func(*buyer) []string
	// aside are event types that some orders need and others don't, and plain takes out of the views what hangs on that.
	aside []events.Type
	plain func(view string) string
}

func toldStories() []told {
	return []told{
		{
			name: "a paid checkout", begin: func(in *ingest) *buyer { return in.buyer().checkout() },
			all: func(b *buyer) []string {
				return []string{
					b.event("checkout.session.completed", b.session("complete", "paid")),
					b.event("payment_intent.succeeded", b.intent("succeeded")),
					b.event("charge.succeeded", b.chargeObject("succeeded")),
					b.event("payment_method.attached", b.method()),
				}
			},
		},
		{
			// The worker knows of the success, and a refund is asked for, before anything is delivered.
			name: "a charge with a refund of ours", begin: func(in *ingest) *buyer {
				b := in.buyer().charge("")
				b.update(events.EntityCharge, b.chargeID, func(last *events.Event, c events.Cause) (*events.Event, error) {
					return events.DecideCharge(last, events.PaymentObserved{ID: b.chargeID, ProviderID: stripeID, Payment: events.Payment{
						ID: "pi_" + b.n, ChargeID: "ch_" + b.n, Status: events.PaymentSucceeded, Amount: 4900, Currency: "usd",
						ProviderCustomerID: b.cus,
					}}, c)
				})
				b.update(events.EntityCharge, b.chargeID, func(last *events.Event, c events.Cause) (*events.Event, error) {
					c.CommandID = events.CommandID("charge.refund", b.n)
					return events.DecideCharge(last, events.RefundCharge{
						RefundID: events.RefundID(b.chargeID, "key"), Amount: 900, CommandDigest: events.Digest([]byte("y")),
					}, c)
				})
				return b
			},
			all: func(b *buyer) []string {
				return refundDeliveries(b, fields{"metadata": b.metadata(events.Owner{Charge: b.chargeID, Refund: events.RefundID(b.chargeID, "key")})})
			},
		},
		{
			// Nothing is known but the request. A total that comes before its refund has the worker asked what it is made of.
			name: "a charge with a refund made elsewhere", begin: func(in *ingest) *buyer { return in.buyer().charge("") },
			all:   func(b *buyer) []string { return refundDeliveries(b, fields{}) },
			aside: []events.Type{events.ChargeRefreshRequested},
			plain: func(view string) string {
				return regexp.MustCompile(`"providerAmountRefunded":\d+,?`).ReplaceAllString(view, "")
			},
		},
		{
			// How many steps of it are seen hangs on the order; its end is one.
			name: "a disputed charge", begin: func(in *ingest) *buyer { return in.buyer().charge("") },
			all: func(b *buyer) []string {
				of := fields{"customer": b.cus} // so that they are worked on in their order
				return []string{
					b.event("payment_intent.succeeded", b.intent("succeeded")),
					b.event("charge.dispute.created", b.dispute("needs_response", of)),
					b.event("charge.dispute.updated", b.dispute("under_review", of)),
					b.event("charge.dispute.funds_withdrawn", b.dispute("needs_response", of, withdrawn())),
					b.event("charge.dispute.closed", b.dispute("lost", of, withdrawn())),
				}
			},
			aside: []events.Type{events.ChargeDisputed, events.ChargeUpdated},
		},
	}
}

func refundDeliveries(b *buyer, refund fields) []string {
	return []string{
		b.event("payment_intent.succeeded", b.intent("succeeded")),
		b.event("charge.succeeded", b.chargeObject("succeeded")),
		b.event("charge.refunded", b.chargeObject("succeeded", fields{"amount_refunded": 900})),
		b.event("refund.created", b.refund("", "succeeded", 900, refund, fields{"customer": b.cus})),
		b.event("charge.refund.updated", b.refund("", "succeeded", 900, refund, fields{"customer": b.cus})),
	}
}

// Deliveries in every order there is, with some of them twice, under their own id and under another: the same events,
// and the same views.
func TestEveryOrderTellsTheSame(t *testing.T) {
	t.Parallel()
	for _, story := range toldStories() {
		t.Run(story.name, func(t *testing.T) {
			t.Parallel()
			in := newIngest(t, options{retryFirst: 20 * time.Millisecond, lanes: 32})
			orders := permutations(len(story.all(story.begin(in))))
			buyers := make([]*buyer, len(orders))
			var sent atomic.Int64
			var group errgroup.Group
			group.SetLimit(16)
			for i, order := range orders {
				group.Go(func() error {
					buyers[i] = story.begin(in)
					sent.Add(int64(in.tell(story.all(buyers[i]), order, i)))
					return nil
				})
			}
			_ = group.Wait()
			for finished := int64(0); finished < sent.Load(); {
				if in.wait(1)[0] != "parked" {
					finished++
				}
			}
			views := in.views()
			wantEvents, wantViews := views.of(buyers[0], story)
			if len(wantEvents) < 3 {
				t.Fatalf("the first order gives %v", wantEvents)
			}
			for i, b := range buyers {
				gotEvents, gotViews := views.of(b, story)
				if d := cmp.Diff(wantEvents, gotEvents); d != "" {
					t.Errorf("order %v gives other events than %v (-want +got):\n%s", orders[i], orders[0], d)
				}
				if d := cmp.Diff(wantViews, gotViews); d != "" {
					t.Errorf("order %v gives other views than %v (-want +got):\n%s", orders[i], orders[0], d)
				}
			}
			t.Logf("%d orders", len(orders))
		})
	}
}

// tell delivers in an order, and between that what was delivered before: each once more somewhere after itself, under its
// own id or another. Where, is another place for each order. One customer's deliveries are worked on in the order in which
// they come, but for what waits for its owner. It gives how many the normalizer will see.
func (in *ingest) tell(all []string, order []int, salt int) (sent int) {
	in.t.Helper()
	for n, i := range order {
		in.store(all[i])
		sent++
		before := all[order[(salt+n)%(n+1)]]
		if (salt+n)%2 == 0 {
			in.store(in.again(before))
			sent++
		} else {
			in.store(before) // the INBOX has it: nothing comes of it
		}
	}
	return sent
}

// orderViews are the views of a log that is told to its end.
type orderViews struct {
	in *ingest
}

// views folds the log into views that answer queries until the test ends.
func (in *ingest) views() *orderViews {
	in.t.Helper()
	p, err := projections.Open(in.t.TempDir(), in.log, projections.Config{Logger: zerolog.Nop()})
	if err != nil {
		in.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(in.t.Context()))
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	in.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			in.t.Errorf("the projector ended with %v", err)
		}
		if err := p.Close(); err != nil {
			in.t.Error(err)
		}
	})
	deadline := time.After(patience)
	for p.Ready() != nil || p.Sequence() < in.last() {
		select {
		case <-deadline:
			in.t.Fatalf("the views are at %d: %v", p.Sequence(), p.Ready())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return &orderViews{in: in}
}

func (v *orderViews) ask(query, body string) string {
	v.in.t.Helper()
	answer, err := v.in.log.Conn().Request("paykit.query."+query, []byte(body), patience)
	if err != nil || answer.Header.Get("Nats-Service-Error-Code") != "" {
		v.in.t.Fatalf("%s %s: %v %v", query, body, err, answer)
	}
	return string(answer.Data)
}

// of gives a buyer's events, as a set, and views, in words that are the same for every buyer.
func (v *orderViews) of(b *buyer, story told) (list, views []string) {
	v.in.t.Helper()
	var history struct {
		Items []*events.Event `json:"items"`
	}
	if err := json.Unmarshal([]byte(v.ask("event.list", `{"customerId":"`+b.ref.ID+`","limit":100}`)), &history); err != nil {
		v.in.t.Fatal(err)
	}
	skipped := map[string]int{}
	for _, e := range history.Items {
		if slices.Contains(story.aside, e.Type) {
			skipped[e.Subject]++
			continue
		}
		list = append(list, v.anonymous(b, fmt.Sprintf("%s %s version %d", e.Type, e.Subject, e.EntityVersion-skipped[e.Subject])))
	}
	slices.Sort(list)
	queries := []string{"customer.get", "payment_method.list", "charge.list"}
	for _, query := range queries {
		views = append(views, v.anonymous(b, v.ask(query, `{"customerId":"`+b.ref.ID+`"}`)))
	}
	if b.checkoutID != "" {
		views = append(views, v.anonymous(b, v.ask("checkout.get", `{"checkoutId":"`+b.checkoutID+`"}`)))
	}
	if story.plain != nil {
		for i := range views {
			views[i] = story.plain(views[i])
		}
	}
	return list, views
}

var aTime = regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:.]+Z`)

// anonymous puts the same words in the place of what is a buyer's own.
func (v *orderViews) anonymous(b *buyer, text string) string {
	names := []string{
		b.ref.ID, "customer", b.ref.ReferenceID + `"`, `reference"`, events.ProviderAccountID(b.ref.ID, stripeID), "account",
		events.PaymentMethodID(stripeID, "pm_"+b.n), "method",
	}
	for _, object := range []string{"cus_", "pi_", "ch_", "pm_", "re_", "dp_", "cs_"} {
		names = append(names, `"`+object+b.n+`"`, `"`+object+`"`)
	}
	names = append(names, `"fp`+b.n+`"`, `"fp"`, events.ReportedRefundID(stripeID, "re_"+b.n), "refund")
	if b.chargeID != "" {
		names = append(names, b.chargeID, "charge", events.RefundID(b.chargeID, "key"), "refund")
	}
	if b.checkoutID != "" {
		names = append(names, b.checkoutID, "checkout", events.CheckoutChargeID(b.checkoutID), "charge")
	}
	return aTime.ReplaceAllString(strings.NewReplacer(names...).Replace(text), "time")
}
