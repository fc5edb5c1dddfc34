package events

import "time"

// PaymentMethod is a saved method's snapshot. A customer's default is the live method with the newest DefaultAt: of a
// method just attached its time, of one made the default the time at which that was asked for.
type PaymentMethod struct {
	Base
	ProviderMethodID   string     `json:"providerMethodId"`
	Type               string     `json:"type"` // "card"
	Brand              string     `json:"brand,omitempty"`
	Last4              string     `json:"last4,omitempty"`
	ExpiryMonth        int        `json:"expiryMonth,omitempty"` // 1–12
	ExpiryYear         int        `json:"expiryYear,omitempty"`  // four digits
	Fingerprint        string     `json:"fingerprint,omitempty"` // the same for the same card
	DefaultRequestedAt *time.Time `json:"defaultRequestedAt,omitempty"`
	DefaultAt          *time.Time `json:"defaultAt,omitempty"`
	DetachRequestedAt  *time.Time `json:"detachRequestedAt,omitempty"`
	DetachedAt         *time.Time `json:"detachedAt,omitempty"`
}

// Live tells whether the method is listed: attached and not detached.
func (m *PaymentMethod) Live() bool { return m.DetachedAt == nil }

// Chargeable tells whether a new charge may use the method: live, and nobody has asked to detach it.
func (m *PaymentMethod) Chargeable() bool { return m.Live() && m.DetachRequestedAt == nil }

// DefaultSettled tells whether the last request to make it the default was carried out.
func (m *PaymentMethod) DefaultSettled() bool {
	return m.DefaultRequestedAt == nil || m.DefaultAt != nil && !m.DefaultAt.Before(*m.DefaultRequestedAt)
}

// PaymentMethodInput is something that a method's next event is decided from.
type PaymentMethodInput interface{ paymentMethodInput() }

// MethodObserved is what the provider said about the method.
type MethodObserved struct {
	ProviderID string
	Method     Method
}

// SetDefaultMethod is the command payment_method.set_default.
type SetDefaultMethod struct{}

// DefaultSet says that the request at RequestedAt was carried out at the provider.
type DefaultSet struct{ RequestedAt time.Time }

// DetachMethod is the command payment_method.detach.
type DetachMethod struct{}

// MethodGone says that the provider no longer has the method on the customer.
type MethodGone struct{}

func (MethodObserved) paymentMethodInput()   {}
func (SetDefaultMethod) paymentMethodInput() {}
func (DefaultSet) paymentMethodInput()       {}
func (DetachMethod) paymentMethodInput()     {}
func (MethodGone) paymentMethodInput()       {}

// DecidePaymentMethod answers a method's next event, nil for nothing to do, or an [*Error] (payment_method_not_found:
// never seen, or detached when it is to be the default). "detached" is final.
func DecidePaymentMethod(last *Event, in PaymentMethodInput, c Cause) (*Event, error) {
	if c.repeated(last) {
		return nil, nil
	}
	if in, ok := in.(MethodObserved); ok {
		return observeMethod(last, in, c), nil
	}
	if last == nil {
		if _, gone := in.(MethodGone); gone {
			return nil, nil
		}
		return nil, refuse(CodePaymentMethodNotFound, "paymentMethodId", "the customer has no such payment method")
	}
	now := c.at(last)
	s := *last.Data.PaymentMethod
	s.UpdatedAt = now
	switch in := in.(type) {
	case MethodObserved: // handled above
	case SetDefaultMethod:
		if !s.Chargeable() {
			return nil, refuse(CodePaymentMethodNotFound, "paymentMethodId", "the payment method was detached; attach another")
		}
		// Later than any DefaultAt, or the answer to this request could not be told from an older one.
		if s.DefaultAt != nil && !now.After(*s.DefaultAt) {
			now = s.DefaultAt.Add(time.Millisecond)
		}
		s.DefaultRequestedAt = &now
		return next(last, PaymentMethodDefaultRequested, s.ID, c, Data{PaymentMethod: &s}), nil
	case DefaultSet:
		at := Millis(in.RequestedAt)
		if !s.Live() || s.DefaultAt != nil && !s.DefaultAt.Before(at) {
			return nil, nil
		}
		s.DefaultAt = &at
		return next(last, PaymentMethodDefaultSet, s.ID, c, Data{PaymentMethod: &s}), nil
	case DetachMethod:
		if !s.Chargeable() {
			return nil, nil
		}
		s.DetachRequestedAt = &now
		return next(last, PaymentMethodDetachRequested, s.ID, c, Data{PaymentMethod: &s}), nil
	case MethodGone:
		if !s.Live() {
			return nil, nil
		}
		s.DetachedAt = &now
		return next(last, PaymentMethodDetached, s.ID, c, Data{PaymentMethod: &s}), nil
	}
	return nil, nil
}

// observeMethod takes in a report. A method may begin with its end: "detached" can be delivered first, and then a late
// "attached" must not bring it to life.
func observeMethod(last *Event, in MethodObserved, c Cause) *Event {
	m := in.Method
	now := c.at(last)
	s := PaymentMethod{
		Base: Base{
			ID: PaymentMethodID(in.ProviderID, m.ID), CustomerID: c.Customer.ID,
			ProviderID: in.ProviderID, CreatedAt: now,
		},
		ProviderMethodID: m.ID,
	}
	var before PaymentMethod
	if last != nil {
		s = *last.Data.PaymentMethod
		before = s
		if !s.Live() {
			return nil
		}
	}
	if m.Type != "" { // a report that leaves the card out changes nothing of it
		s.Type, s.Brand, s.Last4, s.Fingerprint = m.Type, m.Brand, m.Last4, m.Fingerprint
		s.ExpiryMonth, s.ExpiryYear = m.ExpiryMonth, m.ExpiryYear
	}
	changed := s != before
	s.UpdatedAt = now
	switch {
	case !m.Attached:
		s.DetachedAt = &now
		return next(last, PaymentMethodDetached, s.ID, c, Data{PaymentMethod: &s})
	case last == nil:
		s.DefaultAt = &now
		return next(nil, PaymentMethodAttached, s.ID, c, Data{PaymentMethod: &s})
	case changed:
		return next(last, PaymentMethodUpdated, s.ID, c, Data{PaymentMethod: &s})
	}
	return nil
}
