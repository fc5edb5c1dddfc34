//go:build crashpoints

package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// retried is how many dead letters are planted and retried, so that a process comes by three times at least.
const retried = 4

// eventLog opens the log itself, as the operator's tool does.
func (l *load) eventLog(ctx context.Context) (*eventlog.Log, error) {
	return eventlog.Open(ctx, l.nc, eventlog.Config{Prefix: "paykit", Logger: zerolog.Nop()}) //nolint:wrapcheck // says what it was
}

// retry waits for so many letters of the load's at a stage and has each tried again.
func (l *load) retry(stage string) {
	ctx := l.s.t.Context()
	_, err := again(ctx, "decide", func() (*int, error) {
		log, err := l.eventLog(ctx)
		if err != nil {
			return nil, err
		}
		list, err := log.DeadLetters(ctx, "")
		if err != nil {
			return nil, err //nolint:wrapcheck // says what it was
		}
		n := 0
		for _, e := range list {
			if e.Stage != stage || e.RetryOf != 0 || !strings.Contains(e.ID, l.name) {
				continue
			}
			n++
			if e.Decision != nil {
				continue
			}
			if _, err := log.Decide(ctx, e, eventlog.Decision{Decision: eventlog.DecisionRetry, Operator: "e2e", Reason: "mended"}); err != nil {
				return nil, err //nolint:wrapcheck // says what it was
			}
		}
		if n < retried {
			return nil, fmt.Errorf("%d letters: %w", n, errNotYet)
		}
		return &n, nil
	}, nil)
	if err != nil {
		l.s.t.Error(err)
	}
}

// bury plants dead letters, which made gives by their number.
func (l *load) bury(stage string, made func(n int) eventlog.DeadLetter) {
	l.plant(func(d letter) bool { return d.Stage == stage && strings.HasPrefix(d.ID, l.name) })
	ctx := l.s.t.Context()
	log, err := l.eventLog(ctx)
	for n := 0; n < retried && err == nil; n++ {
		d := made(n)
		d.Stage, d.ID, d.Reason, d.Attempts, d.At = stage, fmt.Sprintf("%s_%d", l.name, n), "planted", 1, time.Now()
		err = log.Bury(ctx, d)
	}
	if err != nil {
		l.s.t.Error(err)
	}
}

// retryCommands has commands that were set aside put back.
func retryCommands(l *load) {
	l.bury(eventlog.StageCommands, func(n int) eventlog.DeadLetter {
		return eventlog.DeadLetter{
			Subject: "paykit.cmd.customer.sync", Body: fmt.Appendf(nil, `{"referenceId":"%s_letter_%d"}`, l.name, n),
			Header: map[string][]string{"Paykit-Idempotency-Key": {fmt.Sprint(l.name, " letter ", n)}},
		}
	})
	l.retry(eventlog.StageCommands)
}

// retryDeliveries has deliveries that can't be read tried again, which makes each another letter.
func retryDeliveries(l *load) {
	sendUnreadable(l)
	l.retry(eventlog.StageNormalizer)
}

// retryRequests has the request of a charge that was paid worked on again, which finds it paid.
func retryRequests(l *load) {
	ctx := l.s.t.Context()
	customer, method := l.s.saved(l.pk, l.name+"_letters", card4242)
	id := l.s.charged(l.pk, customer, method, l.name+" letters")
	l.expect(id, paykit.ChargeSucceeded)
	log, err := l.eventLog(ctx)
	if err != nil {
		l.s.t.Error(err)
		return
	}
	list, err := log.History(ctx, eventlog.HistoryFilter{Entity: events.EntityCharge, EntityID: id}, 1, 1)
	if err != nil || len(list) != 1 {
		l.s.t.Errorf("%d events of %s: %v", len(list), id, err)
		return
	}
	l.bury(eventlog.StageWorker, func(int) eventlog.DeadLetter {
		return eventlog.DeadLetter{
			CustomerID: customer, Stream: "PAYKIT_LOG", Sequence: list[0].Sequence,
			Subject: "paykit.log.charge.requested." + id + "." + customer,
		}
	})
	l.retry(eventlog.StageWorker)
}
