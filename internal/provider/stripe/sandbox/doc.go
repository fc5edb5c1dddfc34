// Package sandbox is an HTTP server that behaves as Stripe does, for development and for tests: customers, payment
// methods, setup and payment intents, charges, checkout sessions with hosted pages, refunds, disputes, events and signed
// webhook deliveries, in the object shapes of API version 2023-10-16, with Stripe's error bodies, idempotency rules and
// test cards. Control calls under /_sandbox/ inject faults, move its clock and show its ledger.
//
// It knows only Stripe's API: nothing of this module is imported here, so what passes against the sandbox speaks Stripe
// and not a private dialect. State ends with the process, unless Config.StateFile names a file to keep it in.
package sandbox
