package events

import (
	"maps"
	"time"
)

// Checkout is a hosted payment page's snapshot. URL is dropped once the checkout is final.
type Checkout struct {
	Base
	Amount            int64             `json:"amount"`   // minor units
	Currency          string            `json:"currency"` // lower-case ISO 4217
	Description       string            `json:"description"`
	SuccessURL        string            `json:"successURL"`
	CancelURL         string            `json:"cancelURL,omitempty"`
	AttachMethod      bool              `json:"attachMethod"`
	ChargeID          string            `json:"chargeId,omitempty"` // the charge it led to, once completed
	ProviderSessionID string            `json:"providerSessionId,omitempty"`
	URL               string            `json:"url,omitempty"`
	Status            SessionState      `json:"status"`
	ExpiresAt         *time.Time        `json:"expiresAt,omitempty"` // the provider's
	ExpireRequestedAt *time.Time        `json:"expireRequestedAt,omitempty"`
	Metadata          map[string]string `json:"metadata"`
	Failure           *Failure          `json:"failure,omitempty"`
	CommandDigest     string            `json:"commandDigest"`
}

// CheckoutInput is something that a checkout's next event is decided from.
type CheckoutInput interface{ checkoutInput() }

// CreateCheckout is the command checkout.create with its defaults filled in.
type CreateCheckout struct {
	ID            string
	ProviderID    string
	Amount        int64
	Currency      string
	Description   string
	SuccessURL    string
	CancelURL     string
	AttachMethod  bool
	Metadata      map[string]string
	CommandDigest string
}

// ExpireCheckout is the command checkout.expire.
type ExpireCheckout struct{}

// CheckoutObserved is what the provider said about the checkout's session.
type CheckoutObserved struct{ Session Session }

// CheckoutRejected says that the session can't be made.
type CheckoutRejected struct{ Failure Failure }

func (CreateCheckout) checkoutInput()   {}
func (ExpireCheckout) checkoutInput()   {}
func (CheckoutObserved) checkoutInput() {}
func (CheckoutRejected) checkoutInput() {}

// DecideCheckout answers a checkout's next event, nil for nothing to do, or an [*Error]: idempotency_conflict for a
// known key with another body, checkout_not_found for a command about a checkout that never was. A report about a
// checkout that never was is nothing to do: PayKit makes its sessions itself.
func DecideCheckout(last *Event, in CheckoutInput, c Cause) (*Event, error) {
	if create, ok := in.(CreateCheckout); ok {
		return createCheckout(last, create, c)
	}
	if c.repeated(last) {
		return nil, nil
	}
	_, asked := in.(ExpireCheckout)
	if last == nil {
		if asked {
			return nil, refuse(CodeCheckoutNotFound, "checkoutId", "there is no such checkout")
		}
		return nil, nil
	}
	now := c.at(last)
	s := *last.Data.Checkout
	s.UpdatedAt = now
	switch in := in.(type) {
	case CreateCheckout: // handled above
	case ExpireCheckout:
		if s.Status.Final() || s.ExpireRequestedAt != nil {
			return nil, nil
		}
		s.ExpireRequestedAt = &now
		return next(last, CheckoutExpireRequested, s.ID, c, Data{Checkout: &s}), nil
	case CheckoutRejected:
		if !s.Status.reaches(StateFailed) {
			return nil, nil
		}
		s.Failure = &in.Failure
		return s.end(last, StateFailed, CheckoutFailed, c), nil
	case CheckoutObserved:
		return s.observe(last, in.Session, c), nil
	}
	return nil, nil
}

func createCheckout(last *Event, in CreateCheckout, c Cause) (*Event, error) {
	if last != nil {
		if last.Data.Checkout.CommandDigest != in.CommandDigest {
			return nil, errConflict()
		}
		return nil, nil
	}
	now := c.at(nil)
	s := Checkout{
		Base:   Base{ID: in.ID, CustomerID: c.Customer.ID, ProviderID: in.ProviderID, CreatedAt: now, UpdatedAt: now},
		Amount: in.Amount, Currency: in.Currency, Description: in.Description,
		SuccessURL: in.SuccessURL, CancelURL: in.CancelURL, AttachMethod: in.AttachMethod,
		Metadata: cloneMetadata(in.Metadata), Status: StateRequested, CommandDigest: in.CommandDigest,
	}
	return next(nil, CheckoutRequested, s.ID, c, Data{Checkout: &s}), nil
}

// end closes the checkout: the page's address is dropped, since nobody shall open it again.
func (s Checkout) end(last *Event, to SessionState, typ Type, c Cause) *Event {
	s.Status = to
	s.URL = ""
	return next(last, typ, s.ID, c, Data{Checkout: &s})
}

// observe takes in a report about a session. A session other than the recorded one counts only when it was paid.
func (s Checkout) observe(last *Event, o Session, c Cause) *Event {
	paid := o.Status == SessionComplete && o.Paid
	if s.ProviderSessionID != "" && s.ProviderSessionID != o.ID && !paid {
		return nil
	}
	to, typ := s.Status, Type("")
	switch {
	case paid:
		to, typ = StateCompleted, CheckoutCompleted
	case o.PaymentFailed:
		to, typ = StateFailed, CheckoutFailed
	case o.Status == SessionExpired:
		to, typ = StateExpired, CheckoutExpired
	case o.Status == SessionOpen:
		to, typ = StateCreated, CheckoutCreated
	}
	if typ == "" || !s.Status.reaches(to) {
		return nil // complete and unpaid: a delayed method, nothing yet
	}
	s.ProviderSessionID = o.ID
	if expires := timePtr(o.ExpiresAt); expires != nil {
		s.ExpiresAt = expires
	}
	if to == StateCreated {
		s.Status = to
		s.URL = o.URL
		return next(last, typ, s.ID, c, Data{Checkout: &s})
	}
	if to == StateCompleted {
		s.ChargeID = CheckoutChargeID(s.ID)
		s.Failure = nil
	}
	if o.PaymentFailed {
		s.Failure = &Failure{Code: FailurePaymentFailed, Message: FailureMessage(FailurePaymentFailed, "")}
	}
	return s.end(last, to, typ, c)
}

// errConflict is the refusal of a known idempotency key with another body.
func errConflict() *Error {
	return refuse(CodeIdempotencyConflict, "",
		"this idempotency key was used with another body; send the same body again, or a new key for a new request")
}

// cloneMetadata keeps a snapshot's map apart from its caller's, and never nil, so that it reads as {} in JSON.
func cloneMetadata(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return maps.Clone(m)
}
