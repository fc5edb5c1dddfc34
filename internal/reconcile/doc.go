// Package reconcile compares what a provider has with what the LOG says, in both directions: customers, saved methods,
// payments, refunds, disputes, and the pages that are open here. It owns the comparison and its words. What can be put
// right by an event is put right by the same [provider.Applier] that takes deliveries in, so it decides nothing about
// money itself, and it never charges, cancels or refunds: what needs that is reported with a proposal.
package reconcile
