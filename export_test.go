package paykit

import "time"

// WithAckWait is for tests that can't wait half a minute.
func WithAckWait(d time.Duration) SubscribeOption { return func(s *subscription) { s.ackWait = d } }

// HandledTypes lists the events that handlers are called for.
func (h Handlers) HandledTypes() []EventType {
	var list []EventType
	for t := range h.byType(nil) {
		list = append(list, t)
	}
	return list
}
