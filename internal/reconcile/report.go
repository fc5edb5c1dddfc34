package reconcile

import (
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
)

// Kind is what a difference is about.
type Kind string

// The kinds.
const (
	KindCustomer Kind = "customer"
	KindMethod   Kind = "payment_method"
	KindPayment  Kind = "payment"
	KindRefund   Kind = "refund"
	KindDispute  Kind = "dispute"
	KindCheckout Kind = "checkout"
	KindSetup    Kind = "setup"

	KindFraudWarning Kind = "fraud_warning"
)

// Cause is how the provider ("there") and the LOG ("here") differ.
type Cause string

// The causes.
const (
	MissingHere    Cause = "missing_here"    // the provider has it, the LOG does not
	MissingThere   Cause = "missing_there"   // the LOG has it, the provider does not
	StatusDiffers  Cause = "status_differs"  // both have it
	AmountDiffers  Cause = "amount_differs"  // both have it
	DetailsDiffer  Cause = "details_differ"  // of a method: its card
	NotLinked      Cause = "not_linked"      // a customer made for us whose account is not linked here
	SecondCustomer Cause = "second_customer" // a customer made for us beside the linked one
	SecondPayment  Cause = "second_payment"  // a further payment of a charge that had succeeded
	OrphanPayment  Cause = "orphan_payment"  // a payment that PayKit made and never recorded
	DeletedThere   Cause = "deleted_there"
	DetachedThere  Cause = "detached_there"
	DeletedHere    Cause = "deleted_here"  // and still there
	DetachedHere   Cause = "detached_here" // and still attached there
)

// Difference is one thing in which provider and LOG differ.
type Difference struct {
	Kind             Kind   `json:"kind"`
	Cause            Cause  `json:"cause"`
	Message          string `json:"message"`              // the cause in words
	ProviderObjectID string `json:"providerObjectId"`     // the provider's id of it
	EntityID         string `json:"entityId,omitempty"`   // ours, or the one that it will have
	CustomerID       string `json:"customerId,omitempty"` // ours
	Here             string `json:"here,omitempty"`       // what the LOG says
	There            string `json:"there,omitempty"`      // what the provider says
	Repairable       bool   `json:"repairable"`           // by an event
	Repaired         bool   `json:"repaired"`             // by this run
	Event            string `json:"event,omitempty"`      // that repaired it
	Proposal         string `json:"proposal,omitempty"`   // what to do about what no event can repair

	repair provider.Observation // what the Applier is told; nil = no event can repair it
}

// Problem is an event of the LOG that can't be read. Entity and ID are "" where its subject does not tell them.
type Problem struct {
	Sequence uint64 `json:"sequence"`
	Entity   string `json:"entity"`
	ID       string `json:"id"`
	Problem  string `json:"problem"`
}

// Counts is how much was compared.
type Counts struct {
	Customers int `json:"customers"`
	Methods   int `json:"paymentMethods"`
	Payments  int `json:"payments"`
	Refunds   int `json:"refunds"`
	Disputes  int `json:"disputes"`
	Warnings  int `json:"fraudWarnings"`
	Pages     int `json:"pages"` // checkouts and setups that are open here
}

// Sum is what one currency comes to in one state, here and there.
type Sum struct {
	Currency string `json:"currency"`
	Status   string `json:"status"` // "succeeded", "refunded" or "disputed"
	Here     Total  `json:"here"`
	There    Total  `json:"there"`
}

// Total is a number of objects and what they sum up to, in minor units.
type Total struct {
	Count  int   `json:"count"`
	Amount int64 `json:"amount"`
}

// Paid is a charge for which more than one payment has money that was not given back.
type Paid struct {
	ChargeID string   `json:"chargeId"`
	Payments []string `json:"payments"` // the provider's ids
}

// Payment is one of the provider's payments as it was listed, or as it was when it was looked at again.
type Payment struct {
	events.Payment
	Refunded int64 // minor units: the sum of its listed refunds that did not fail and were not canceled
}

// Report is what [Run] found.
type Report struct {
	OK          bool         `json:"ok"` // nothing differs any more, and the whole log was read
	ProviderID  string       `json:"providerId"`
	Since       time.Time    `json:"since,omitzero"` // what was made there since then; zero = everything
	Compared    Counts       `json:"compared"`
	Differences []Difference `json:"differences"`
	Repaired    int          `json:"repaired"`
	Remaining   int          `json:"remaining"`
	Problems    []Problem    `json:"problems,omitempty"` // events of the LOG that were left out
	// Sums are compared only where everything was: since the zero time.
	Sums []Sum `json:"sums,omitempty"`
	// PaidTwice lists the charges with more than one payment that has money; a difference only if one is not in the LOG.
	// Whoever runs the comparison fills it in, by the rule that the checker of the log has for it.
	PaidTwice []Paid `json:"paidTwice,omitempty"`

	Payments []Payment `json:"-"` // all that were listed, by id: what the log's money is held against
}
