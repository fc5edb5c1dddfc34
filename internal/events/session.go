package events

import "time"

// SessionState is where a checkout or a setup stands: requested, created, then one of the final three. Completed beats
// all, because it is what the buyer did; else the first final status stays.
type SessionState string

// The states of checkouts and setups.
const (
	StateRequested SessionState = "requested"
	StateCreated   SessionState = "created"
	StateCompleted SessionState = "completed"
	StateExpired   SessionState = "expired"
	StateFailed    SessionState = "failed"
)

func (s SessionState) rank() int {
	switch s {
	case StateRequested:
		return 1
	case StateCreated:
		return 2
	case StateExpired, StateFailed:
		return 3
	case StateCompleted:
		return 4
	}
	return 0
}

// Final tells whether the state is an end.
func (s SessionState) Final() bool { return s.rank() >= StateExpired.rank() }

// reaches tells whether an event may move the state to "to": forward only.
func (s SessionState) reaches(to SessionState) bool { return to.rank() > s.rank() }

// timePtr is t for a snapshot, nil for the zero time.
func timePtr(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = Millis(t)
	return &t
}
