package eventlog

import (
	"sync"
	"time"
)

// Failure is one attempt at a message that failed.
type Failure struct {
	At      time.Time `json:"at"`
	Attempt int       `json:"attempt"` // as the consumer counts deliveries
	Reason  string    `json:"reason"`
}

// Failures remembers what went wrong with the messages of one consumer, until they are done or set aside. It is of this
// process and this run: of a message that moves between processes each knows its own part. It is safe for concurrent use.
type Failures struct {
	mu   sync.Mutex
	of   map[uint64]*failures // guarded by mu, by sequence
	kept int                  // guarded by mu: attempts in all histories
}

type failures struct {
	counted int
	history []Failure
}

// What bounds the memory when much fails at once for a reason that has nothing to do with the messages.
const (
	keptFailures = 50_000 // attempts in all histories, about 10 MB; what comes beyond is counted, without its reason
	remembered   = 20_000 // messages, from which on those that only the storage failed are let go of
)

// Note remembers a failed attempt. One that counts is the message's own; one that does not is the storage's or the
// connection's. It answers how many count so far.
func (f *Failures) Note(sequence uint64, one Failure, counts bool) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.of == nil {
		f.of = map[uint64]*failures{}
	}
	m := f.of[sequence]
	if m == nil {
		f.makeRoom()
		m = &failures{}
		f.of[sequence] = m
	}
	if counts {
		m.counted++
	}
	if f.kept < keptFailures {
		one.At, one.Reason = one.At.UTC().Truncate(time.Millisecond), cut(one.Reason)
		f.kept -= len(m.history)
		m.history = bounded(append(m.history, one))
		f.kept += len(m.history)
	}
	return m.counted
}

// makeRoom lets go of messages that only the storage failed, and that another process most likely has by now. It expects
// f.mu.
func (f *Failures) makeRoom() {
	if len(f.of) < remembered {
		return
	}
	for sequence, m := range f.of {
		if m.counted == 0 {
			f.kept -= len(m.history)
			delete(f.of, sequence)
		}
	}
}

// History gives a message's attempts that failed, oldest first, at most 10.
func (f *Failures) History(sequence uint64) []Failure {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m := f.of[sequence]; m != nil {
		return append([]Failure(nil), m.history...)
	}
	return nil
}

// Forget lets go of a message.
func (f *Failures) Forget(sequence uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m := f.of[sequence]; m != nil {
		f.kept -= len(m.history)
		delete(f.of, sequence)
	}
}

// Len is how many messages are remembered.
func (f *Failures) Len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.of)
}
