package events

import (
	"fmt"
	"time"
)

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
	DuplicateOf        string     `json:"duplicateOf,omitempty"` // our id of the customer's earlier live method of the same card, when this one was saved
	ExpiringFor        string     `json:"expiringFor,omitempty"` // the expiry that was last told of, "2026-12"
	DefaultRequestedAt *time.Time `json:"defaultRequestedAt,omitempty"`
	DefaultAt          *time.Time `json:"defaultAt,omitempty"`
	DetachRequestedAt  *time.Time `json:"detachRequestedAt,omitempty"`
	DetachedAt         *time.Time `json:"detachedAt,omitempty"`
	ReportedAt         time.Time  `json:"reportedAt,omitzero"` // when the provider reported the card as it is here
}

// Live tells whether the method is listed: attached and not detached.
func (m *PaymentMethod) Live() bool { return m.DetachedAt == nil }

// Chargeable tells whether a new charge may use the method: live, and nobody has asked to detach it.
func (m *PaymentMethod) Chargeable() bool { return m.Live() && m.DetachRequestedAt == nil }

// DefaultSettled tells whether the last request to make it the default was carried out.
func (m *PaymentMethod) DefaultSettled() bool {
	return m.DefaultRequestedAt == nil || m.DefaultAt != nil && !m.DefaultAt.Before(*m.DefaultRequestedAt)
}

// DefaultTime is when the method became the default, or was asked to; the zero time if neither.
func (m *PaymentMethod) DefaultTime() time.Time {
	var t time.Time
	if m.DefaultAt != nil {
		t = *m.DefaultAt
	}
	if m.DefaultRequestedAt != nil && m.DefaultRequestedAt.After(t) {
		t = *m.DefaultRequestedAt
	}
	return t
}

// Expiry is the month at whose end the method expires, "2026-12"; "" for one that does not.
func (m *PaymentMethod) Expiry() string {
	if m.ExpiryYear < 1 || m.ExpiryMonth < 1 || m.ExpiryMonth > 12 {
		return ""
	}
	return fmt.Sprintf("%04d-%02d", m.ExpiryYear, m.ExpiryMonth)
}

// Expiring tells whether the method is in its last month: from a month before its last day, in a shorter month from that
// one's last day, to the end of it.
func (m *PaymentMethod) Expiring(now time.Time) bool {
	if m.Expiry() == "" {
		return false
	}
	month := time.Month(m.ExpiryMonth)
	end := time.Date(m.ExpiryYear, month+1, 1, 0, 0, 0, 0, time.UTC)
	last := end.AddDate(0, 0, -1).Day()
	before := time.Date(m.ExpiryYear, month, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, -1) // the last day of the month before
	from := before.AddDate(0, 0, min(0, last-before.Day()))
	return !now.Before(from) && now.Before(end)
}

// PaymentMethodInput is something that a method's next event is decided from.
type PaymentMethodInput interface{ paymentMethodInput() }

// MethodObserved is what the provider said about the method.
type MethodObserved struct {
	ProviderID  string
	Method      Method
	DuplicateOf string // the customer's earlier live method of the same card, "" for none; counts when the card is new to the method
}

// SetDefaultMethod is the command payment_method.set_default.
type SetDefaultMethod struct{}

// DefaultSet says that the request at RequestedAt was carried out at the provider.
type DefaultSet struct{ RequestedAt time.Time }

// DetachMethod is the command payment_method.detach.
type DetachMethod struct{}

// MethodGone says that the provider no longer has the method on the customer.
type MethodGone struct{}

// PromoteMethod says that the default was detached at At, and that this method is the next. Whatever was made the default
// since then is the newer one and stays it.
type PromoteMethod struct{ At time.Time }

// MethodExpiring says that the method was looked at for whether it is in its last month. That is told once of each expiry.
type MethodExpiring struct{}

func (PromoteMethod) paymentMethodInput()    {}
func (MethodExpiring) paymentMethodInput()   {}
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
		switch in.(type) {
		case MethodGone, PromoteMethod, MethodExpiring:
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
	case PromoteMethod:
		at := Millis(in.At)
		if !s.Chargeable() || !s.DefaultTime().Before(at) {
			return nil, nil
		}
		s.DefaultRequestedAt = &at
		return next(last, PaymentMethodDefaultRequested, s.ID, c, Data{PaymentMethod: &s}), nil
	case MethodExpiring:
		if !s.Chargeable() || !s.Expiring(now) || s.ExpiringFor == s.Expiry() {
			return nil, nil
		}
		s.ExpiringFor = s.Expiry()
		return next(last, PaymentMethodExpiring, s.ID, c, Data{PaymentMethod: &s}), nil
	}
	return nil, nil
}

// observeMethod takes in a report. A method may begin with its end: "detached" can be delivered first, and then a late
// "attached" must not bring it to life. Of two reports about the card the one that the provider made later counts, whichever
// comes first; within the same second, which is all that the provider tells, the one that comes last. A report that changes
// nothing leaves no event, so its time is not remembered either.
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
	older := !m.ReportedAt.IsZero() && m.ReportedAt.Before(s.ReportedAt)
	if m.Type != "" && !older { // a report that leaves the card out changes nothing of it
		if m.Fingerprint != s.Fingerprint && in.DuplicateOf != s.ID {
			s.DuplicateOf = in.DuplicateOf
		}
		s.Type, s.Brand, s.Last4, s.Fingerprint = m.Type, m.Brand, m.Last4, m.Fingerprint
		s.ExpiryMonth, s.ExpiryYear = m.ExpiryMonth, m.ExpiryYear
	}
	changed := s != before
	if m.Type != "" && m.ReportedAt.After(s.ReportedAt) {
		s.ReportedAt = Millis(m.ReportedAt)
	}
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
