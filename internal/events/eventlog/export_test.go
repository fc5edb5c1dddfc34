package eventlog

import (
	"time"

	"github.com/nats-io/nats.go"
)

// SetPatience shortens how long a write waits for its acknowledgement.
func (l *Log) SetPatience(d time.Duration) { l.patience = d }

// AckWait is the consumers' AckWait.
const AckWait = ackWait

// SetReplicated has reads done as on a replicated log.
func (l *Log) SetReplicated() { l.replicated = true }

// InboxUnanswered counts the deliveries that wait or are under way.
func (l *Log) InboxUnanswered() int {
	l.inbox.mu.Lock()
	defer l.inbox.mu.Unlock()
	return len(l.inbox.known)
}

// InboxMeasured tells the log what a single write and a batch take.
func (l *Log) InboxMeasured(single, batch time.Duration) {
	l.inbox.single, l.inbox.batch = single, batch
}

// InboxPays tells whether so many deliveries would go as a batch.
func (l *Log) InboxPays(n int) bool { return l.inbox.pays(n) }

// InboxSingle has the log believe that n single writes took so long.
func (l *Log) InboxSingle(n int, took time.Duration) { l.inbox.measuredSingle(n, took) }

// SnapshotEnd reads the message behind a snapshot's last part.
func SnapshotEnd(h nats.Header) error { return snapshotEnd(h) }
