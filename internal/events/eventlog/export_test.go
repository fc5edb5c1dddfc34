package eventlog

import "time"

// SetPatience shortens how long a write waits for its acknowledgement.
func (l *Log) SetPatience(d time.Duration) { l.patience = d }

// AckWait is the consumers' AckWait.
const AckWait = ackWait

// SetReplicated has reads done as on a replicated log.
func (l *Log) SetReplicated() { l.replicated = true }
