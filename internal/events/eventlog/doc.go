// Package eventlog is the only package that knows streams, subjects, headers and sequences. It owns the seven JetStream
// streams of an installation: LOG (every event, for ever), LINKS (from a provider's object back to ours), INBOX (signed
// deliveries before they are understood), COMMANDS (the queue), PROFILES (personal data), DEAD (what could not be
// processed) and CALLS (what providers were asked, for explanations), their settings, and the durable consumers on them.
//
// It gives the LOG its one discipline: an entity's events are appended under a guard, the sequence of the entity's last
// event, so of two writers one wins and the other decides again. [Log.Update] is that loop. It turns every doubtful
// answer (a lost guard, a timeout, a cut connection) into "load from the leader and decide again" and never into a
// false conflict or a second event.
//
// What happened and what follows from it is decided in package events; this package knows none of it.
package eventlog
