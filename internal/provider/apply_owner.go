package provider

import (
	"context"

	"github.com/paykit-go/paykit/internal/events"
)

// OwnerOf tells which customer a delivery is about, "" if none of ours. It asks nothing of the delivery's effect, so it
// also knows the owner of what leads to no event: personal data is the customer's whether it mattered or not.
func (a *Applier) OwnerOf(ctx context.Context, providerID string, d Delivery) (string, error) {
	k, ok, err := a.link(ctx, providerID, d.CustomerID, events.EntityCustomer)
	if err != nil || ok {
		return k.ID, err
	}
	for _, o := range d.Observations {
		id, err := a.ownerOfObject(ctx, providerID, partsOf(o))
		if err != nil || id != "" {
			return id, err
		}
	}
	return "", nil
}

// parts are the ways that lead from an observation to its owner.
type parts struct {
	owner    events.Owner
	customer string   // the provider's
	objects  []string // payment and charge
	method   string
}

func partsOf(o Observation) parts {
	switch o := o.(type) {
	case PaymentSeen:
		return parts{owner: o.Owner, customer: o.ProviderCustomerID, objects: []string{o.ID, o.ChargeID}}
	case RefundTotalSeen:
		p := o.Payment
		return parts{owner: p.Owner, customer: p.ProviderCustomerID, objects: []string{p.ID, p.ChargeID}}
	case RefundSeen:
		return parts{owner: o.Owner, objects: []string{o.ProviderPaymentID, o.ProviderChargeID}}
	case DisputeSeen:
		return parts{objects: []string{o.ProviderPaymentID, o.ProviderChargeID}}
	case FraudWarningSeen:
		return parts{objects: []string{o.ProviderPaymentID, o.ProviderChargeID}}
	case SessionSeen:
		return parts{owner: o.Owner, customer: o.ProviderCustomerID}
	case SetupSeen:
		return parts{owner: o.Owner, customer: o.ProviderCustomerID}
	case MethodSeen:
		return parts{customer: o.ProviderCustomerID, method: o.ID}
	case CustomerSeen:
		return parts{owner: o.Owner, customer: o.ID}
	}
	return parts{}
}

func (a *Applier) ownerOfObject(ctx context.Context, providerID string, p parts) (string, error) {
	if a.foreign(p.owner) {
		return "", nil
	}
	k, ok, err := a.link(ctx, providerID, p.customer, events.EntityCustomer)
	if err != nil || ok {
		return k.ID, err
	}
	for _, objectID := range p.objects {
		k, ok, err := a.link(ctx, providerID, objectID, events.EntityCharge)
		if err != nil || ok {
			return k.CustomerID, err
		}
	}
	type entityID struct {
		entity events.Entity
		id     string
	}
	var tries []entityID
	if a.ours(p.owner) {
		tries = []entityID{
			{events.EntityCustomer, p.owner.Customer},
			{events.EntityCharge, p.owner.Charge},
			{events.EntityCheckout, p.owner.Checkout},
			{events.EntitySetup, p.owner.Setup},
		}
	}
	if p.method != "" {
		tries = append(tries, entityID{events.EntityPaymentMethod, events.PaymentMethodID(providerID, p.method)})
	}
	for _, try := range tries {
		entry, err := a.load(ctx, try.entity, try.id)
		if err != nil {
			return "", err
		}
		if entry.Event != nil {
			return entry.Event.CustomerID(), nil
		}
	}
	return "", nil
}

// Erasable tells whether a delivery about this customer must not be kept once it is understood: the customer was
// deleted, or it speaks of a provider customer in whose place there is another now, which happens when a deleted
// customer came back.
func (a *Applier) Erasable(ctx context.Context, providerID, customerID, providerCustomerID string) (bool, error) {
	if customerID == "" {
		return false, nil
	}
	customer, err := a.load(ctx, events.EntityCustomer, customerID)
	if err != nil || customer.Event == nil {
		return false, err
	}
	if customer.Event.Data.Customer.Deleted() {
		return true, nil
	}
	if providerCustomerID == "" {
		return false, nil
	}
	account, err := a.load(ctx, events.EntityProviderAccount, events.ProviderAccountID(customerID, providerID))
	if err != nil || account.Event == nil {
		return false, err
	}
	s := account.Event.Data.ProviderAccount
	return s.Status == events.AccountLinked && s.ProviderCustomerID != providerCustomerID, nil
}
