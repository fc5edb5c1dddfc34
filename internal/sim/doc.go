// Package sim is the engine in one goroutine: the real commands, worker, normalizer, webhook door and fold, on an event
// store and a Stripe that are models in memory, in virtual time. Everything that happens comes out of one heap of events
// and one seed, so a run can be had again to the byte. Each call of a handler to a port is a point where others go on, an
// answer is lost, or its process is killed; two workers work at once, deliveries come twice, days late, in another order or
// never, clocks jump, keys expire.
//
// At the end of a run faults stop, the system gets quiet, and one judge, the shipped checker of internal/verify, holds the
// log, the provider's books and the views against each other. It proves the engine only as far as the models are right:
// both pass the suites that the real ones pass.
//
// It is for tests: nothing that ships imports it.
package sim
