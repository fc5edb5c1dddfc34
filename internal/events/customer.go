package events

import "time"

// Customer is a customer's snapshot. It holds no personal data: e-mail, name and metadata are in the profile whose
// revision ProfileRevision names. ReferenceID is the app's own word for the customer and stays for ever.
type Customer struct {
	Base
	ReferenceID     string     `json:"referenceId"`
	ProfileRevision uint64     `json:"profileRevision,omitempty"` // sequence in PROFILES; 0 = no profile was ever announced
	DeletedAt       *time.Time `json:"deletedAt,omitempty"`
}

// Deleted tells whether the customer was deleted and not revived since.
func (c Customer) Deleted() bool { return c.DeletedAt != nil }

// Ref is the customer's reference, as the events of its other entities carry it.
func (c Customer) Ref() CustomerRef { return CustomerRef{ID: c.ID, ReferenceID: c.ReferenceID} }

// CustomerInput is something that a customer's next event is decided from.
type CustomerInput interface{ customerInput() }

// SyncCustomer is the command customer.sync, after its profile revision was stored.
type SyncCustomer struct {
	ReferenceID string
	Revision    uint64   // the profile's revision, 0 if there is none
	Changed     []string // the profile's fields that differ from the revision last announced
}

// DeleteCustomer is the command customer.delete. Revision is the newest profile revision at that time: it and all
// before it will be erased.
type DeleteCustomer struct{ Revision uint64 }

func (SyncCustomer) customerInput()   {}
func (DeleteCustomer) customerInput() {}

// DecideCustomer answers a customer's next event, nil for nothing to do, or an [*Error]: customer_not_found for the
// deletion of a customer that never was.
func DecideCustomer(last *Event, in CustomerInput, c Cause) (*Event, error) {
	if c.repeated(last) {
		return nil, nil
	}
	var s Customer
	if last != nil {
		s = last.Data.Customer
	}
	now := c.at(last)
	s.UpdatedAt = now
	switch in := in.(type) {
	case SyncCustomer:
		if in.Changed == nil {
			in.Changed = []string{} // an empty list in JSON, and no key that is missing
		}
		switch {
		case last == nil:
			s.ID = CustomerID(in.ReferenceID)
			s.CustomerID = s.ID
			s.ReferenceID = in.ReferenceID
			s.ProfileRevision = in.Revision
			s.CreatedAt = now
			return next(nil, CustomerCreated, s.ID, c, Data{Customer: s, Changed: in.Changed}), nil
		case s.Deleted(): // revived; in.Revision is past the deletion's, so erasing does not touch it
			s.DeletedAt = nil
			s.ProfileRevision = in.Revision
			return next(last, CustomerUpdated, s.ID, c, Data{Customer: s, Changed: in.Changed}), nil
		case len(in.Changed) == 0:
			return nil, nil
		default:
			s.ProfileRevision = in.Revision
			return next(last, CustomerUpdated, s.ID, c, Data{Customer: s, Changed: in.Changed}), nil
		}
	case DeleteCustomer:
		if last == nil {
			return nil, refuse(CodeCustomerNotFound, "customerId", "there is no such customer")
		}
		if s.Deleted() {
			return nil, nil
		}
		s.DeletedAt = &now
		s.ProfileRevision = max(s.ProfileRevision, in.Revision)
		return next(last, CustomerDeleted, s.ID, c, Data{Customer: s}), nil
	}
	return nil, nil
}
