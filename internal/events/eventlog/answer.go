package eventlog

import "strings"

// MayAnswer tells whether an answer may be published on a reply subject, which the caller chooses freely. A subject of
// this installation or of the server's own API would turn the answer into an event, a delivery or a call: the process
// that answers has rights there that its caller has not.
func (l *Log) MayAnswer(reply string) bool {
	return reply != "" && !strings.HasPrefix(reply, l.Prefix()+".") && !strings.HasPrefix(reply, "$")
}
