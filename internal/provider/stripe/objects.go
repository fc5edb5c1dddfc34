package stripe

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
)

// The narrow shapes of Stripe's objects: the fields that an observation needs, in every API version since 2020-08-27.
// The same ones read API answers and deliveries, so both say the same about an object.

var errReference = errors.New("a reference is neither an id nor an object")

// ref is a field that holds an object's id, or, expanded, the object.
type ref struct {
	id     string
	object json.RawMessage // nil unless expanded
}

// UnmarshalJSON takes null, an id or an object.
func (r *ref) UnmarshalJSON(b []byte) error {
	*r = ref{}
	switch {
	case bytes.Equal(b, []byte("null")):
		return nil
	case len(b) > 0 && b[0] == '"':
		return json.Unmarshal(b, &r.id)
	case len(b) > 0 && b[0] == '{':
		var named struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal(b, &named); err != nil {
			return err
		}
		r.id, r.object = named.ID, bytes.Clone(b)
		return nil
	}
	return errReference
}

// expanded reads the object that a reference holds; ok is false if it holds only an id.
func expanded[T any](r ref) (v T, ok bool) {
	return v, r.object != nil && json.Unmarshal(r.object, &v) == nil
}

// listOf is a list object inside another one, in very old versions a plain array.
type listOf[T any] struct{ items []T }

// UnmarshalJSON takes null, a list object or an array. An item that is only an id says nothing and is left out: whatever it
// would have said is asked for, or comes in a delivery of its own.
func (l *listOf[T]) UnmarshalJSON(b []byte) error {
	l.items = nil
	var list struct {
		Data []json.RawMessage `json:"data"`
	}
	if len(b) > 0 && b[0] == '[' {
		if err := json.Unmarshal(b, &list.Data); err != nil {
			return err
		}
	} else if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	for _, raw := range list.Data {
		if len(raw) == 0 || raw[0] != '{' {
			continue
		}
		var item T
		if err := json.Unmarshal(raw, &item); err != nil {
			return err
		}
		l.items = append(l.items, item)
	}
	return nil
}

type paymentError struct {
	Code          string `json:"code"`
	DeclineCode   string `json:"decline_code"`
	AdviceCode    string `json:"advice_code"`
	Charge        ref    `json:"charge"`
	PaymentMethod ref    `json:"payment_method"`
}

// adviceDoNotTryAgain is the advice of an issuer that will never approve the card.
// Source: https://docs.stripe.com/declines/card#retrying-issuer-declines
const adviceDoNotTryAgain = "do_not_try_again"

func (e paymentError) failure() *events.Failure { return newFailure(e.Code, e.DeclineCode) }

// newFailure keeps a code only if it is one: what else stands there could quote the buyer.
func newFailure(code, declineCode string) *events.Failure {
	code = word(code)
	if code == "" {
		code = events.FailurePaymentFailed
	}
	f := events.NewFailure(code, word(declineCode))
	return &f
}

type paymentIntent struct {
	ID                 string               `json:"id"`
	Status             string               `json:"status"`
	Amount             int64                `json:"amount"`
	AmountReceived     int64                `json:"amount_received"`
	Currency           string               `json:"currency"`
	Customer           ref                  `json:"customer"`
	PaymentMethod      ref                  `json:"payment_method"`
	LatestCharge       ref                  `json:"latest_charge"`
	Charges            listOf[stripeCharge] `json:"charges"` // until 2022-08-01
	LastPaymentError   *paymentError        `json:"last_payment_error"`
	NextAction         *nextAction          `json:"next_action"`
	CancellationReason string               `json:"cancellation_reason"`
	Metadata           map[string]string    `json:"metadata"`
	Created            int64                `json:"created"`
}

type nextAction struct {
	RedirectToURL *struct {
		URL string `json:"url"`
	} `json:"redirect_to_url"`
}

// url is the page for the buyer. A next action meant for Stripe's own scripts has none.
func (a *nextAction) url() string {
	if a == nil || a.RedirectToURL == nil {
		return ""
	}
	return a.RedirectToURL.URL
}

func (p paymentIntent) payment() events.Payment {
	out := events.Payment{
		Owner: events.OwnerOf(p.Metadata), ID: p.ID, ChargeID: p.LatestCharge.id,
		ProviderCustomerID: p.Customer.id, ProviderMethodID: p.PaymentMethod.id,
		Status: paymentStatus(p.Status), Amount: p.Amount, Currency: p.Currency, CreatedAt: unix(p.Created),
	}
	if out.Status == events.PaymentSucceeded && p.AmountReceived > 0 {
		out.Amount = p.AmountReceived // less than was asked for, if a part was captured
	}
	latest, ok := expanded[stripeCharge](p.LatestCharge)
	if !ok && len(p.Charges.items) > 0 {
		latest = p.Charges.items[0] // newest first
	}
	if out.ChargeID == "" {
		out.ChargeID = latest.ID
	}
	out.AmountRefunded = latest.AmountRefunded
	if out.Status == events.PaymentRequiresAction {
		out.ActionURL = p.NextAction.url()
	}
	if out.Status == events.PaymentCanceled {
		out.Abandoned = p.CancellationReason == "abandoned"
	}
	if e := p.LastPaymentError; e != nil {
		if out.ChargeID == "" {
			out.ChargeID = e.Charge.id
		}
		if out.ProviderMethodID == "" {
			out.ProviderMethodID = e.PaymentMethod.id // a decline takes the method off the payment
		}
		if out.Status == events.PaymentRequiresMethod || out.Status == events.PaymentCanceled {
			out.Failure = e.failure()
			out.DoNotRetry = e.AdviceCode == adviceDoNotTryAgain
		}
	}
	return out
}

func paymentStatus(s string) events.PaymentStatus {
	switch s {
	case "requires_capture":
		return events.PaymentProcessing // authorized, not taken: never one of ours
	case "requires_source":
		return events.PaymentRequiresMethod
	case "requires_source_action":
		return events.PaymentRequiresAction
	}
	return events.PaymentStatus(s)
}

// stripeCharge is one attempt to take money. Most belong to a payment intent.
type stripeCharge struct {
	ID             string               `json:"id"`
	Status         string               `json:"status"`
	Amount         int64                `json:"amount"`
	AmountCaptured int64                `json:"amount_captured"`
	AmountRefunded int64                `json:"amount_refunded"`
	Captured       *bool                `json:"captured"`
	Currency       string               `json:"currency"`
	Customer       ref                  `json:"customer"`
	PaymentIntent  ref                  `json:"payment_intent"`
	PaymentMethod  ref                  `json:"payment_method"`
	FailureCode    string               `json:"failure_code"`
	Outcome        *outcome             `json:"outcome"`
	Refunds        listOf[stripeRefund] `json:"refunds"` // until 2022-11-15
	Metadata       map[string]string    `json:"metadata"`
	Created        int64                `json:"created"`
}

type outcome struct {
	Reason     string `json:"reason"`
	AdviceCode string `json:"advice_code"`
}

// taken tells whether the charge is money, and not merely an authorization.
func (c stripeCharge) taken() bool {
	return c.Status == "succeeded" && (c.Captured == nil || *c.Captured)
}

func (c stripeCharge) payment() events.Payment {
	out := events.Payment{
		Owner: events.OwnerOf(c.Metadata), ID: c.PaymentIntent.id, ChargeID: c.ID,
		ProviderCustomerID: c.Customer.id, ProviderMethodID: c.PaymentMethod.id, Status: events.PaymentProcessing,
		Amount: c.Amount, AmountRefunded: c.AmountRefunded, Currency: c.Currency, CreatedAt: unix(c.Created),
	}
	switch {
	case c.taken():
		out.Status = events.PaymentSucceeded
		if c.AmountCaptured > 0 {
			out.Amount = c.AmountCaptured
		}
	case c.Status == "failed":
		out.Status = events.PaymentRequiresMethod
		declined := ""
		if c.Outcome != nil && c.FailureCode == events.FailureCardDeclined {
			declined = c.Outcome.Reason
		}
		out.Failure = newFailure(c.FailureCode, declined)
		out.DoNotRetry = c.Outcome != nil && c.Outcome.AdviceCode == adviceDoNotTryAgain
	}
	return out
}

type stripeRefund struct {
	ID            string            `json:"id"`
	Amount        int64             `json:"amount"`
	Currency      string            `json:"currency"`
	Status        string            `json:"status"`
	Reason        string            `json:"reason"`
	Charge        ref               `json:"charge"`
	PaymentIntent ref               `json:"payment_intent"`
	FailureReason string            `json:"failure_reason"`
	Metadata      map[string]string `json:"metadata"`
}

func (r stripeRefund) report() events.RefundReport {
	out := events.RefundReport{
		Owner: events.OwnerOf(r.Metadata), ID: r.ID, ProviderPaymentID: r.PaymentIntent.id, ProviderChargeID: r.Charge.id,
		Amount: r.Amount, Currency: r.Currency, Status: refundStatus(r.Status), Reason: word(r.Reason),
	}
	if code := word(r.FailureReason); code != "" {
		f := events.NewRefundFailure(code, "")
		out.Failure = &f
	}
	return out
}

func refundStatus(s string) events.RefundStatus {
	switch s {
	case "succeeded":
		return events.RefundSucceeded
	case "failed":
		return events.RefundFailed
	case "canceled":
		return events.RefundCanceled
	}
	return events.RefundPending // pending, and requires_action: the buyer's bank details are awaited
}

type dispute struct {
	ID            string `json:"id"`
	Amount        int64  `json:"amount"`
	Currency      string `json:"currency"`
	Status        string `json:"status"`
	Reason        string `json:"reason"`
	Charge        ref    `json:"charge"`
	PaymentIntent ref    `json:"payment_intent"`

	BalanceTransactions json.RawMessage `json:"balance_transactions"`
}

func (d dispute) report() events.DisputeReport {
	return events.DisputeReport{
		ID: d.ID, ProviderPaymentID: d.PaymentIntent.id, ProviderChargeID: d.Charge.id,
		Amount: d.Amount, Currency: d.Currency, Status: word(d.Status), Reason: word(d.Reason), Funds: d.funds(),
	}
}

// funds reads where the money is from the balance's entries: the first takes it, another gives it back. There are none
// while nothing was moved. Source: https://docs.stripe.com/api/disputes/object#dispute_object-balance_transactions
func (d dispute) funds() events.DisputeFunds {
	var funds events.DisputeFunds
	for _, tx := range lenient[[]struct {
		Amount int64 `json:"amount"`
	}](d.BalanceTransactions) {
		switch {
		case tx.Amount > 0:
			return events.FundsReinstated
		case tx.Amount < 0:
			funds = events.FundsWithdrawn
		}
	}
	return funds
}

// fraudWarning is an issuer's early warning. It has neither metadata nor a customer.
type fraudWarning struct {
	ID            string `json:"id"`
	Actionable    bool   `json:"actionable"`
	FraudType     string `json:"fraud_type"`
	Charge        ref    `json:"charge"`
	PaymentIntent ref    `json:"payment_intent"`
}

func (f fraudWarning) report() events.FraudWarningReport {
	out := events.FraudWarningReport{
		ID: f.ID, ProviderPaymentID: f.PaymentIntent.id, ProviderChargeID: f.Charge.id, Type: word(f.FraudType), Actionable: f.Actionable,
	}
	if charge, ok := expanded[stripeCharge](f.Charge); ok && out.ProviderPaymentID == "" {
		out.ProviderPaymentID = charge.PaymentIntent.id
	}
	return out
}

type checkoutSession struct {
	ID            string            `json:"id"`
	Mode          string            `json:"mode"`
	Status        string            `json:"status"`
	PaymentStatus string            `json:"payment_status"`
	PaymentIntent ref               `json:"payment_intent"`
	SetupIntent   ref               `json:"setup_intent"`
	Customer      ref               `json:"customer"`
	URL           string            `json:"url"`
	ExpiresAt     int64             `json:"expires_at"`
	Metadata      map[string]string `json:"metadata"`
	Created       int64             `json:"created"`
}

func (s checkoutSession) session() events.Session {
	out := events.Session{
		Owner: events.OwnerOf(s.Metadata), ID: s.ID, Setup: s.Mode == "setup", ProviderCustomerID: s.Customer.id,
		URL: s.URL, Status: events.SessionStatus(s.Status), PaymentID: s.PaymentIntent.id,
		ExpiresAt: unix(s.ExpiresAt), CreatedAt: unix(s.Created),
	}
	if out.Status != events.SessionComplete {
		return out
	}
	if setup, ok := expanded[setupIntent](s.SetupIntent); ok {
		out.ProviderMethodID = setup.PaymentMethod.id
	}
	if out.Setup {
		return out
	}
	out.Paid = s.PaymentStatus == "paid" || s.PaymentStatus == "no_payment_required"
	if p, ok := expanded[paymentIntent](s.PaymentIntent); ok && !out.Paid {
		status := paymentStatus(p.Status)
		out.PaymentFailed = status == events.PaymentRequiresMethod || status == events.PaymentCanceled
	}
	return out
}

type setupIntent struct {
	ID            string            `json:"id"`
	Status        string            `json:"status"`
	Customer      ref               `json:"customer"`
	PaymentMethod ref               `json:"payment_method"`
	Metadata      map[string]string `json:"metadata"`
}

func (s setupIntent) report() events.SetupReport {
	return events.SetupReport{
		Owner: events.OwnerOf(s.Metadata), ID: s.ID, ProviderCustomerID: s.Customer.id,
		Succeeded: s.Status == "succeeded", ProviderMethodID: s.PaymentMethod.id,
	}
}

// paymentMethod is a saved method. Its details stand in a field named like its type.
type paymentMethod struct {
	ID       string
	Type     string
	Customer ref
	Created  int64
	Details  methodDetails
}

type methodDetails struct {
	Brand       string `json:"brand"`
	Last4       string `json:"last4"`
	ExpMonth    int    `json:"exp_month"`
	ExpYear     int    `json:"exp_year"`
	Fingerprint string `json:"fingerprint"`
}

// UnmarshalJSON reads the method, and its details by its type.
func (m *paymentMethod) UnmarshalJSON(b []byte) error {
	var head struct {
		ID       string `json:"id"`
		Type     string `json:"type"`
		Customer ref    `json:"customer"`
		Created  int64  `json:"created"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return err
	}
	*m = paymentMethod{ID: head.ID, Type: head.Type, Customer: head.Customer, Created: head.Created}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return err
	}
	if details, ok := fields[m.Type]; ok && len(details) > 0 && details[0] == '{' {
		return json.Unmarshal(details, &m.Details)
	}
	return nil
}

func (m paymentMethod) method() events.Method {
	return events.Method{
		ID: m.ID, ProviderCustomerID: m.Customer.id, Attached: m.Customer.id != "", Type: m.Type,
		Brand: m.Details.Brand, Last4: m.Details.Last4, ExpiryMonth: m.Details.ExpMonth, ExpiryYear: m.Details.ExpYear,
		Fingerprint: m.Details.Fingerprint, CreatedAt: unix(m.Created),
	}
}

type customer struct {
	ID       string            `json:"id"`
	Deleted  bool              `json:"deleted"`
	Metadata map[string]string `json:"metadata"`
}

func (c customer) seen(deleted bool) provider.CustomerSeen {
	return provider.CustomerSeen{Owner: events.OwnerOf(c.Metadata), ID: c.ID, Deleted: deleted}
}

// unix is Stripe's time; a time that is not there stays zero.
func unix(s int64) time.Time {
	if s <= 0 {
		return time.Time{}
	}
	return time.Unix(s, 0).UTC()
}
