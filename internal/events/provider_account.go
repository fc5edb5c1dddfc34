package events

// The statuses of a provider account.
const (
	AccountLinked   = "linked"
	AccountUnlinked = "unlinked"
)

// ProviderAccount is the snapshot of a customer's account at a provider. Version counts the provider customers that it
// has had: it is part of the provider's idempotency key, so a customer made anew after "unlinked" is a new one.
type ProviderAccount struct {
	Base
	ProviderCustomerID string `json:"providerCustomerId"`
	Status             string `json:"status"` // "linked" or "unlinked"
	Version            int    `json:"version"`
}

// ProviderAccountInput is something that a provider account's next event is decided from.
type ProviderAccountInput interface{ providerAccountInput() }

// LinkAccount says that the provider has this customer for us.
type LinkAccount struct{ ProviderID, ProviderCustomerID string }

// UnlinkAccount says that the provider no longer has this customer.
type UnlinkAccount struct{ ProviderCustomerID string }

func (LinkAccount) providerAccountInput()   {}
func (UnlinkAccount) providerAccountInput() {}

// DecideProviderAccount answers an account's next event, or nil for nothing to do. While an account is linked another
// provider customer is not taken in, and only its own can be unlinked.
func DecideProviderAccount(last *Event, in ProviderAccountInput, c Cause) (*Event, error) {
	now := c.at(last)
	switch in := in.(type) {
	case LinkAccount:
		s := ProviderAccount{Base: Base{
			ID: ProviderAccountID(c.Customer.ID, in.ProviderID), CustomerID: c.Customer.ID,
			ProviderID: in.ProviderID, CreatedAt: now,
		}}
		if last != nil {
			s = *last.Data.ProviderAccount
			// A late "created" of a customer that was deleted since must not bring it back.
			if s.Status == AccountLinked || s.ProviderCustomerID == in.ProviderCustomerID {
				return nil, nil
			}
		}
		s.ProviderCustomerID = in.ProviderCustomerID
		s.Status = AccountLinked
		s.Version++
		s.UpdatedAt = now
		return next(last, ProviderAccountLinked, s.ID, c, Data{ProviderAccount: &s}), nil
	case UnlinkAccount:
		if last == nil {
			return nil, nil
		}
		s := *last.Data.ProviderAccount
		if s.Status == AccountUnlinked || s.ProviderCustomerID != in.ProviderCustomerID {
			return nil, nil
		}
		s.Status = AccountUnlinked
		s.UpdatedAt = now
		return next(last, ProviderAccountUnlinked, s.ID, c, Data{ProviderAccount: &s}), nil
	}
	return nil, nil
}
