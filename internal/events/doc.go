// Package events is what happened: the envelope every event travels in, one file per entity with its snapshot, its
// events and the pure function that decides the next one, the ids and how they are derived, and the JSON of all of it.
//
// An entity is the thing whose events are ordered and decided together (a customer, a charge, …). Every event carries
// the entity's whole snapshot, so an entity's state is its last event. A decision takes that last event, an input (a
// command, or an observation of what a provider said) and its [Cause], and answers with the next event, with "nothing
// to do", or with a refusal. It is the same function whether the input came as an API answer, a webhook, a duplicate
// or a backfill, which is why one real happening gives exactly one event.
//
// The package does no I/O, has no clock and no randomness of its own, and knows neither NATS nor any provider.
package events
