package eventlog_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

// A server that gives a restored queue the creation time that it had must not give a new command without a key the id of one
// that was done between the backup and the restore; and what a message is called stays, at every start and restore.
func TestRestoredQueueThatKeptItsTime(t *testing.T) {
	t.Parallel()
	nc := eventlogtest.Start(t).Conn(t)
	j := js(t, eventlogtest.Open(t, nc))
	mark := func(stream, key, value string) {
		t.Helper()
		s, err := j.Stream(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		config := s.CachedInfo().Config
		config.Metadata = maps.Clone(config.Metadata)
		config.Metadata[key] = value
		if _, err := j.UpdateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	open := func() *eventlog.Log {
		t.Helper()
		l, err := eventlog.Open(t.Context(), nc, eventlog.Config{})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	at := func(l *eventlog.Log, sequence uint64) time.Time {
		_, created := l.CommandsCreated(t.Context(), sequence)
		return created
	}
	s, err := j.Stream(t.Context(), "PAYKIT_COMMANDS")
	if err != nil {
		t.Fatal(err)
	}
	kept := s.CachedInfo().Created
	var queues, forgotten []string
	// As three restores on such servers leave it, the queue having 2, 5 and 9 messages at the times of their backups.
	var before []time.Time // of a message of each queue
	for i, last := range []uint64{2, 5, 9} {
		queues = append(queues, fmt.Sprintf("%d@%d", last, kept.UnixNano()))
		until := kept.Add(time.Duration(i+1) * time.Hour)
		forgotten = append(forgotten, fmt.Sprintf("%d@%d", until.Add(-time.Minute).UnixNano(), until.UnixNano()))
		before = append(before, at(open(), last))
		mark("PAYKIT_COMMANDS", "paykit_earlier_queue", strings.Join(queues, " "))
		mark("PAYKIT_LOG", "paykit_forgotten", strings.Join(forgotten, " "))
		l := open()
		if got := at(l, last+1); !got.Equal(until) {
			t.Errorf("restore %d: the new queue is of %v, want the restore's end, %v", i+1, got, until)
		}
		for n, sequence := range []uint64{2, 5, 9}[:i+1] {
			if got := at(l, sequence); !got.Equal(before[n]) {
				t.Errorf("restore %d: message %d is of %v, was of %v", i+1, sequence, got, before[n])
			}
		}
	}
	// A server of today made the queue anew: its creation time counts, as it did before.
	mark("PAYKIT_COMMANDS", "paykit_earlier_queue", fmt.Sprintf("2@%d", kept.Add(-time.Hour).UnixNano()))
	mark("PAYKIT_LOG", "paykit_forgotten", forgotten[0])
	if got := at(open(), 3); !got.Equal(kept) {
		t.Errorf("the queue is of %v, want %v", got, kept)
	}
}
