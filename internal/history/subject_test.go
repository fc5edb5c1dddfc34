package history_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
	"github.com/paykit-go/paykit/internal/history"
)

// TestReplayToASubject: each event under a subject of its own, the stored bytes, with where it stood and when it was; and
// nothing gets to those who listen to live events, nor into the log.
func TestReplayToASubject(t *testing.T) {
	t.Parallel()
	log := filled(t)
	n := last(t, log)
	live, err := log.Conn().SubscribeSync("paykit.>")
	if err != nil {
		t.Fatal(err)
	}
	heard, err := log.Conn().SubscribeSync("copy.november.>")
	if err != nil {
		t.Fatal(err)
	}
	p, err := history.NewPublisher(t.Context(), log.Conn(), log.Prefix(), "copy.november")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := history.Replay(t.Context(), log, history.ReplayOptions{To: n}, func(e history.Event) error { return p.Give(t.Context(), e) }); err != nil {
		t.Fatal(err)
	}
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, line := range bytesOf(t, log) {
		subject, raw, _ := strings.Cut(line, " ")
		tokens := strings.Split(subject, ".")
		msg, err := heard.NextMsg(20 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		want := "copy.november." + tokens[2] + "." + tokens[3] + "." + tokens[5]
		at, err := time.Parse(time.RFC3339Nano, msg.Header.Get("Paykit-Time"))
		if msg.Subject != want || string(msg.Data) != raw || msg.Header.Get("Paykit-Sequence") != strconv.Itoa(i+1) || err != nil || !strings.Contains(raw, at.Format(time.RFC3339Nano)) {
			t.Fatalf("event %d: %s %v %s", i+1, msg.Subject, msg.Header, msg.Data)
		}
	}
	if msgs, _, err := live.Pending(); msgs != 0 || err != nil {
		t.Errorf("%d messages under the prefix, %v", msgs, err)
	}
	if last(t, log) != n {
		t.Error("the log grew")
	}
}

// TestSubjectsThatAreRefused: those of installations, of the server and of answers, and those that name no one place.
func TestSubjectsThatAreRefused(t *testing.T) {
	t.Parallel()
	srv := eventlogtest.Start(t)
	log := eventlogtest.Open(t, srv.Conn(t))
	if _, err := eventlog.Provision(t.Context(), srv.Conn(t), eventlog.Config{Prefix: "other", MaxBytes: 16 << 20}); err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{
		"paykit", "paykit.log", "paykit.events", "paykit.copy", "other", "other.events", "other.log.x", "$JS.API", "$SYS", "_INBOX.x", "_INBOX_app", "_R_.x",
		"", ".", "a.", ".a", "a..b", "a.*", "a.>", "*", ">", "a b", "a.\tb", "a.b\n", "a.x>",
	} {
		_, err := history.NewPublisher(t.Context(), log.Conn(), log.Prefix(), subject)
		var refused *history.SubjectError
		if !errors.As(err, &refused) || refused.Subject != subject || refused.Reason == "" {
			t.Errorf("%q: %v", subject, err)
		}
	}
	for _, subject := range []string{"copy", "copy.november", "paykit-copy", "paykitlog.paykit.log", "logs"} {
		if _, err := history.NewPublisher(t.Context(), log.Conn(), log.Prefix(), subject); err != nil {
			t.Errorf("%q: %v", subject, err)
		}
	}
	plain := eventlogtest.Start(t, func(o *server.Options) { o.JetStream = false })
	if _, err := history.NewPublisher(t.Context(), plain.Conn(t), "paykit", "copy"); err != nil {
		t.Errorf("without JetStream: %v", err)
	}
}

// TestReplayWithoutTheRight: a subject that the user may not publish to is an error, and not silence.
func TestReplayWithoutTheRight(t *testing.T) {
	t.Parallel()
	srv := eventlogtest.Start(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Deny: []string{"copy.>"}},
		}}}
	})
	nc := srv.Conn(t, nats.UserInfo("u", "p"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	p, err := history.NewPublisher(t.Context(), nc, "paykit", "copy")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Give(t.Context(), history.Event{Entity: "charge", Name: "succeeded", Customer: "none"}); err != nil {
		t.Fatal(err)
	}
	if err := p.Flush(t.Context()); !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("%v", err)
	}
}
