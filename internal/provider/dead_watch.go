package provider

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// openLettersEvery is the time between two counts of what is set aside.
const openLettersEvery = 30 * time.Second

// openLetters tells how many dead letters wait for somebody to decide.
type openLetters struct {
	counter *eventlog.OpenLetters
	logger  zerolog.Logger
	every   time.Duration
	gauge   *prometheus.GaugeVec
}

func newOpenLetters(log *eventlog.Log, logger zerolog.Logger, reg prometheus.Registerer) *openLetters {
	return &openLetters{
		counter: log.OpenLetters(), logger: logger, every: openLettersEvery,
		gauge: registered(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "paykit_dead_letters_open", Help: "Dead letters about which nobody has decided: someone must look.",
		}, []string{"stage"})),
	}
}

// WatchDeadLetters keeps the figure of open dead letters until ctx ends.
func WatchDeadLetters(ctx context.Context, log *eventlog.Log, logger zerolog.Logger, reg prometheus.Registerer) error {
	return newOpenLetters(log, logger, reg).watch(ctx)
}

// watch counts until ctx ends.
func (o *openLetters) watch(ctx context.Context) error {
	t := time.NewTicker(o.every)
	defer t.Stop()
	for {
		open, err := o.counter.Count(ctx)
		if err != nil && ctx.Err() == nil {
			o.logger.Warn().Err(err).Msg("dead letters not counted")
		}
		for stage, n := range open {
			o.gauge.WithLabelValues(stage).Set(float64(n))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}
