package sim

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	engine "github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
)

// keyLife is how long Stripe remembers an idempotency key: https://docs.stripe.com/api/idempotent_requests
const keyLife = 24 * time.Hour

// clientTimeout is how long the adapter waits for an answer.
const clientTimeout = 20 * time.Second

// Stripe is a model of Stripe: objects, states, keys with their stored answers, a list of events. It knows nothing of
// HTTP; its errors are what the adapter makes of Stripe's.
type Stripe struct {
	now   func() time.Time
	later func(d time.Duration, do func()) // plans what Stripe does by itself
	late  bool                             // a call is carried out that nobody waits for any more
	tell  func(e *webhook)                 // is told each event

	n         int
	customers map[string]*customer
	methods   map[string]*method
	payments  map[string]*payment
	sessions  map[string]*session
	refunds   map[string]*refund
	order     order
	keys      map[string]*stored
	events    []*webhook
	byID      map[string]*webhook
}

// order is in which order things were made.
type order struct {
	customers []*customer
	payments  []*payment
	sessions  []*session
	refunds   []*refund
}

type customer struct {
	id      string
	owner   engine.Owner
	profile provider.Profile
	def     string
	deleted bool
	stale   bool // the profile is of a push that was carried out when nobody waited for it any more
	created time.Time
}

// behaviour is what happens when a method is charged.
type behaviour int

const (
	cardGood behaviour = iota
	cardDeclined
	cardAuthenticates
	cardSlow // processing at first
	behaviours
)

type method struct {
	id, customer string
	attached     bool
	does         behaviour
	created      time.Time
}

type payment struct {
	now      engine.Payment
	method   string
	session  *session
	captures int
}

type session struct {
	now   engine.Session
	save  bool
	asked provider.SessionRequest
	paid  *payment
}

type refund struct{ now engine.RefundReport }

// stored is what is kept under a key.
type stored struct {
	params string // with the operation: what must be the same and parameters
	at     time.Time
	ended  bool
	answer any
	err    *provider.Error
}

// webhook is one event of Stripe's.
type webhook struct {
	body     []byte
	delivery provider.Delivery
}

// NewStripe makes an empty account. later plans what it does by itself, tell is told each of its events.
func NewStripe(now func() time.Time, later func(time.Duration, func()), tell func(*webhook)) *Stripe {
	return &Stripe{
		now: now, later: later, tell: tell, customers: map[string]*customer{}, methods: map[string]*method{},
		payments: map[string]*payment{}, sessions: map[string]*session{}, refunds: map[string]*refund{},
		keys: map[string]*stored{}, byID: map[string]*webhook{},
	}
}

func (s *Stripe) id(prefix string) string {
	s.n++
	return fmt.Sprintf("%s_%06d", prefix, s.n)
}

// emit makes an event, with its object as it is now.
func (s *Stripe) emit(typ, customerID string, seen ...provider.Observation) {
	id := s.id("evt")
	w := &webhook{body: []byte(`{"id":"` + id + `"}`), delivery: provider.Delivery{
		ID: id, Type: typ, CustomerID: customerID, CreatedAt: s.now().Truncate(time.Second), Observations: seen,
	}}
	s.events = append(s.events, w)
	s.byID[id] = w
	s.tell(w)
}

func missing(operation, param string) *provider.Error {
	return &provider.Error{
		Class: provider.Invalid, Operation: operation, Code: "resource_missing", Param: param, Status: http.StatusBadRequest, NotFound: true,
	}
}

func invalid(operation, param, why string) *provider.Error {
	return &provider.Error{Class: provider.Invalid, Operation: operation, Param: param, Status: http.StatusBadRequest, Err: errors.New(why)}
}

// live finds a customer that can be used.
func (s *Stripe) live(operation, id string) (*customer, *provider.Error) {
	if c := s.customers[id]; c != nil && !c.deleted {
		return c, nil
	}
	return nil, missing(operation, "customer")
}

// seen is the event payload of a payment.
func (p *payment) seen() provider.PaymentSeen { return provider.PaymentSeen{Payment: p.now} }

// attempt charges a payment's method.
func (s *Stripe) attempt(p *payment, onSession bool) {
	m := s.methods[p.method]
	p.now.ProviderMethodID = p.method
	p.now.Failure, p.now.ActionURL = nil, ""
	switch does := m.does; {
	case does == cardGood:
		s.succeed(p)
	case does == cardSlow:
		p.now.Status = engine.PaymentProcessing
		p.now.ChargeID = s.id("ch")
		s.emit("payment_intent.processing", p.now.ProviderCustomerID, p.seen())
	case does == cardAuthenticates && onSession:
		p.now.Status = engine.PaymentRequiresAction
		p.now.ActionURL = "https://bank.example/" + p.now.ID
		s.emit("payment_intent.requires_action", p.now.ProviderCustomerID)
	case does == cardAuthenticates:
		s.fail(p, engine.FailureAuthenticationRequired, "authentication_required")
	default:
		s.fail(p, engine.FailureCardDeclined, "generic_decline")
	}
}

func (s *Stripe) succeed(p *payment) {
	if p.now.ChargeID == "" || p.now.Status != engine.PaymentProcessing {
		p.now.ChargeID = s.id("ch")
	}
	p.now.Status, p.now.Failure, p.now.ActionURL = engine.PaymentSucceeded, nil, ""
	p.captures++
	s.emit("payment_intent.succeeded", p.now.ProviderCustomerID, p.seen())
	s.emit("charge.succeeded", p.now.ProviderCustomerID, p.seen())
}

func (s *Stripe) fail(p *payment, code, decline string) {
	if p.now.Status != engine.PaymentProcessing {
		p.now.ChargeID = s.id("ch")
	}
	p.now.Status, p.now.ActionURL = engine.PaymentRequiresMethod, ""
	failure := engine.NewFailure(code, decline)
	p.now.Failure = &failure
	s.emit("payment_intent.payment_failed", p.now.ProviderCustomerID, p.seen())
	s.emit("charge.failed", p.now.ProviderCustomerID, p.seen())
}

func (s *Stripe) cancel(p *payment, abandoned bool) {
	p.now.Status, p.now.Abandoned, p.now.ActionURL = engine.PaymentCanceled, abandoned, ""
	s.emit("payment_intent.canceled", p.now.ProviderCustomerID, p.seen())
}

// Settle ends a payment that is under way, or a page's.
func (s *Stripe) settle(p *payment, well bool) {
	if p.now.Status != engine.PaymentProcessing {
		return
	}
	if well {
		s.succeed(p)
	} else {
		s.fail(p, engine.FailureCardDeclined, "generic_decline")
	}
	if page := p.session; page != nil {
		page.now.Paid, page.now.PaymentFailed = well, !well
		typ := "checkout.session.async_payment_succeeded"
		if !well {
			typ = "checkout.session.async_payment_failed"
		}
		s.emit(typ, page.now.ProviderCustomerID, page.seen())
	}
}

// Authenticate is what the buyer does at a payment's page.
func (s *Stripe) authenticate(p *payment, passed bool) {
	switch {
	case p.now.Status != engine.PaymentRequiresAction:
	case passed:
		s.succeed(p)
	default:
		s.fail(p, "payment_intent_authentication_failure", "")
	}
}

func (x *session) seen() provider.SessionSeen {
	now := x.now
	now.ProviderMethodID = "" // a delivery holds the intent's id only
	return provider.SessionSeen{Session: now}
}

// complete is what a buyer does on a page. A declined card leaves the page open.
func (s *Stripe) complete(x *session, does behaviour) {
	if x.now.Status != engine.SessionOpen {
		return
	}
	if c := s.customers[x.now.ProviderCustomerID]; c == nil || c.deleted {
		return
	}
	m := s.newMethod("", does)
	if x.now.Setup {
		if does == cardDeclined {
			return
		}
		m.customer, m.attached = x.now.ProviderCustomerID, true
		x.now.Status, x.now.ProviderMethodID, x.now.URL = engine.SessionComplete, m.id, ""
		s.emit("payment_method.attached", m.customer, provider.MethodSeen{Method: m.now(), First: true})
		s.emit("setup_intent.succeeded", m.customer, provider.SetupSeen{SetupReport: engine.SetupReport{
			Owner: x.now.Owner, ID: s.id("seti"), ProviderCustomerID: m.customer, Succeeded: true, ProviderMethodID: m.id,
		}})
		s.emit("checkout.session.completed", m.customer, x.seen())
		return
	}
	p := x.paid
	if p == nil {
		p = &payment{session: x, now: engine.Payment{
			Owner: x.now.Owner, ID: s.id("pi"), ProviderCustomerID: x.now.ProviderCustomerID, Status: engine.PaymentRequiresMethod,
			Amount: x.asked.Amount, Currency: x.asked.Currency, CreatedAt: s.now(),
		}}
		s.payments[p.now.ID] = p
		s.order.payments = append(s.order.payments, p)
		x.paid, x.now.PaymentID = p, p.now.ID
	}
	p.method = m.id
	if does == cardAuthenticates {
		m.does = cardGood // the buyer is there
		s.attempt(p, true)
		m.does = cardAuthenticates
	} else {
		s.attempt(p, true)
	}
	if p.now.Status == engine.PaymentRequiresMethod {
		return
	}
	x.now.Status, x.now.Paid, x.now.URL = engine.SessionComplete, p.now.Status == engine.PaymentSucceeded, ""
	if x.save {
		m.customer, m.attached = x.now.ProviderCustomerID, true
		s.emit("payment_method.attached", m.customer, provider.MethodSeen{Method: m.now(), First: true})
	}
	s.emit("checkout.session.completed", x.now.ProviderCustomerID, x.seen())
}

func (s *Stripe) expire(x *session) {
	if x.now.Status != engine.SessionOpen {
		return
	}
	x.now.Status, x.now.URL = engine.SessionExpired, ""
	s.emit("checkout.session.expired", x.now.ProviderCustomerID, x.seen())
	if p := x.paid; p != nil && p.now.Status == engine.PaymentRequiresMethod {
		s.cancel(p, false)
	}
}

func (s *Stripe) newMethod(customerID string, does behaviour) *method {
	m := &method{id: s.id("pm"), customer: customerID, attached: customerID != "", does: does, created: s.now()}
	s.methods[m.id] = m
	return m
}

func (m *method) now() engine.Method {
	n := engine.Method{
		ID: m.id, Attached: m.attached, Type: "card", Brand: "visa", Last4: "4242", ExpiryMonth: 12, ExpiryYear: 2034,
		Fingerprint: "fp_" + m.id, CreatedAt: m.created,
	}
	if m.attached {
		n.ProviderCustomerID = m.customer
	}
	return n
}

func (s *Stripe) detach(m *method) {
	if !m.attached {
		return
	}
	m.attached = false
	gone := m.now()
	gone.ProviderCustomerID = m.customer
	s.emit("payment_method.detached", m.customer, provider.MethodSeen{Method: gone})
}

// giveBack makes a refund.
func (s *Stripe) giveBack(p *payment, owner engine.Owner, amount int64, reason string, status engine.RefundStatus) *refund {
	r := &refund{now: engine.RefundReport{
		Owner: owner, ID: s.id("re"), ProviderPaymentID: p.now.ID, ProviderChargeID: p.now.ChargeID, Amount: amount,
		Currency: p.now.Currency, Status: status, Reason: reason,
	}}
	s.refunds[r.now.ID] = r
	s.order.refunds = append(s.order.refunds, r)
	p.now.AmountRefunded += amount
	s.emit("refund.created", "", provider.RefundSeen{RefundReport: r.now})
	s.emit("charge.refunded", p.now.ProviderCustomerID, p.seen(), provider.RefundTotalSeen{Payment: p.now, Total: p.now.AmountRefunded})
	return r
}

func (s *Stripe) endRefund(r *refund, status engine.RefundStatus) {
	if !r.now.Status.Open() && (r.now.Status != engine.RefundSucceeded || status != engine.RefundFailed) {
		return
	}
	r.now.Status = status
	if p := s.payments[r.now.ProviderPaymentID]; p != nil && status == engine.RefundFailed {
		p.now.AmountRefunded -= r.now.Amount
	}
	s.emit("refund.updated", "", provider.RefundSeen{RefundReport: r.now})
}

func (s *Stripe) remove(c *customer) {
	if c.deleted {
		return
	}
	c.deleted = true
	for _, id := range sorted(s.methods) {
		if m := s.methods[id]; m.customer == c.id {
			m.attached = false
		}
	}
	s.emit("customer.deleted", c.id, provider.CustomerSeen{Owner: c.owner, ID: c.id, Deleted: true})
}

// Webhooks reads the model's deliveries. The signature is a word: what matters is that it is asked for.
type Webhooks struct{ stripe *Stripe }

// The model's signature.
const (
	signatureHeader = "Sim-Signature"
	signature       = "signed"
	timeHeader      = "Sim-Time"
	maxAge          = 300 * time.Second
)

// Verify implements [provider.Webhooks].
func (w Webhooks) Verify(body []byte, header map[string][]string, now time.Time) (provider.Delivery, error) {
	h := http.Header(header)
	at, err := time.Parse(time.RFC3339, h.Get(timeHeader))
	switch {
	case h.Get(signatureHeader) != signature || err != nil:
		return provider.Delivery{}, provider.ErrBadSignature
	case now.Sub(at) > maxAge:
		return provider.Delivery{}, provider.ErrTooOld
	case at.Sub(now) > maxAge:
		return provider.Delivery{}, provider.ErrTooEarly
	}
	return w.Decode(body)
}

// Decode implements [provider.Webhooks].
func (w Webhooks) Decode(body []byte) (provider.Delivery, error) {
	id, ok := strings.CutPrefix(string(body), `{"id":"`)
	id, cut := strings.CutSuffix(id, `"}`)
	if one := w.stripe.byID[id]; ok && cut && one != nil {
		return one.delivery, nil
	}
	return provider.Delivery{}, provider.ErrNotAnEvent
}

var _ provider.Webhooks = Webhooks{}
