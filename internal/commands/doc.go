// Package commands is what is asked: one file per command with its body, its validation and the event that it leads
// to, the NATS service and the queue that take commands in, and the wait for an outcome.
//
// A command goes through four steps, in this order: its shape (the body read strictly), its key (one that is known
// answers with the entity as it is, and nothing else is checked), its references (provider, customer, method), and the
// guarded append of one event. A command refused in the first three leaves nothing behind. What an append means for an
// entity is decided in internal/events; streams and sequences are the business of internal/events/eventlog.
//
// The package never calls a provider. It asks for the call by a request event; the worker carries it out.
package commands
