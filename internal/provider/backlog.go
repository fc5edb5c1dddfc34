package provider

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// backlogEvery is the time between two looks at a consumer.
const backlogEvery = 15 * time.Second

// backlog watches what a durable consumer still has to do. What is put off counts as open, and there is a limit to that:
// reached, the consumer stands still for everything new until something open is done, which someone must know.
type backlog struct {
	log      Consumers
	consumer eventlog.ConsumerName
	logger   zerolog.Logger
	every    time.Duration
	waiting  prometheus.Gauge
	open     prometheus.Gauge
	limit    prometheus.Gauge
	oldest   prometheus.Gauge

	mu   sync.Mutex
	last eventlog.Backlog // guarded by mu
}

func newBacklog(log Consumers, consumer eventlog.ConsumerName, logger zerolog.Logger, reg prometheus.Registerer) *backlog {
	gauge := func(o prometheus.GaugeOpts) prometheus.Gauge {
		return registered(reg, prometheus.NewGaugeVec(o, []string{"consumer"})).WithLabelValues(string(consumer))
	}
	return &backlog{
		log: log, consumer: consumer, logger: logger, every: backlogEvery,
		waiting: gauge(prometheus.GaugeOpts{
			Name: "paykit_consumer_waiting", Help: "Messages that a durable consumer has not delivered yet.",
		}),
		open: gauge(prometheus.GaugeOpts{
			Name: "paykit_consumer_open", Help: "Messages of a durable consumer in hand or put off.",
		}),
		limit: gauge(prometheus.GaugeOpts{
			Name: "paykit_consumer_limit", Help: "How many may be open; at the limit nothing new is delivered. -1 = no limit.",
		}),
		oldest: gauge(prometheus.GaugeOpts{
			Name: "paykit_consumer_oldest_seconds",
			Help: "Age of the oldest message of a durable consumer that is not done, 0 if there is none.",
		}),
	}
}

// watch looks until ctx ends.
func (b *backlog) watch(ctx context.Context) error {
	t := time.NewTicker(b.every)
	defer t.Stop()
	for {
		b.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

func (b *backlog) look(ctx context.Context) {
	now, err := b.log.Backlog(ctx, b.consumer)
	if err != nil {
		if ctx.Err() == nil {
			b.logger.Warn().Err(err).Str("consumer", string(b.consumer)).Msg("backlog not known")
		}
		return // what was known stays
	}
	b.waiting.Set(float64(now.Waiting))
	b.open.Set(float64(now.Open))
	b.limit.Set(float64(now.Limit))
	age := 0.0
	if !now.Oldest.IsZero() {
		age = max(time.Since(now.Oldest).Seconds(), 0)
	}
	b.oldest.Set(age)
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Full() && !b.last.Full() {
		b.logger.Error().Str("consumer", string(b.consumer)).Int("open", now.Open).Int("waiting", now.Waiting).
			Msg("as much is open as may be, nothing new is worked on")
	}
	b.last = now
}

// ready says that nothing new is worked on, nil if it is.
func (b *backlog) ready() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.last.Full() {
		return nil
	}
	return fmt.Errorf("%w: %s has %d open, which is the limit; %d wait", errFull, b.consumer, b.last.Open, b.last.Waiting)
}

var errFull = errors.New("nothing new is worked on")

// WatchBacklog keeps the figures of a durable consumer until ctx ends, for one that nobody else watches.
func WatchBacklog(ctx context.Context, log *eventlog.Log, consumer eventlog.ConsumerName, logger zerolog.Logger, reg prometheus.Registerer) error {
	return newBacklog(log, consumer, logger, reg).watch(ctx)
}
