package daemon

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

const (
	secretPoll   = 2 * time.Second        // between two looks at a secret's file
	secretSettle = 100 * time.Millisecond // a new text must still be there after it: a file may be written in place
)

// secretFile keeps a secret that came from a file in step with the file: it is read again every few seconds and on
// SIGHUP. A text that can't be used leaves the old secret in use, so a slip of the hand closes no door.
type secretFile struct {
	name  string                   // of its variable, without _FILE
	path  string                   // "" = the secret did not come from a file, and nothing is watched
	value string                   // in use
	apply func(value string) error // puts a value in use at once, or refuses it and changes nothing
	poll  time.Duration            // 0 = secretPoll
	log   zerolog.Logger

	reloads *prometheus.CounterVec
	broken  prometheus.Gauge
	hup     chan os.Signal
	last    string // what the last refusal said, so that each is logged once
}

// watched makes a secretFile ready: its metrics, and its ear for SIGHUP, which from now on no longer ends the process.
func (f *secretFile) watched(reg *prometheus.Registry) *secretFile {
	f.reloads = registered(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "paykit_secret_reloads_total",
		Help: "New texts in a secret's file: changed = now in use, refused = not usable, the old secret stays.",
	}, []string{"secret", "result"}))
	f.broken = registered(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "paykit_secret_file_broken",
		Help: "1 while a secret's file can't be used; the secret read before it stays in use.",
	}, []string{"secret"})).WithLabelValues(f.name)
	if f.poll == 0 {
		f.poll = secretPoll
	}
	f.hup = make(chan os.Signal, 1)
	if f.path != "" {
		signal.Notify(f.hup, syscall.SIGHUP)
	}
	return f
}

// registered gives the collector registered under c's name: in one process two parts watch a secret each.
func registered[C prometheus.Collector](reg *prometheus.Registry, c C) C {
	err := reg.Register(c)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if existing, ok := already.ExistingCollector.(C); ok {
			return existing
		}
	}
	if err != nil {
		panic("daemon: two metrics of one name and different shape: " + err.Error()) // a mistake in this package
	}
	return c
}

// watch looks at the file until ctx ends. It looks at the text and not at the file's time, which a rename or a mounted
// secret may leave as it was.
func (f *secretFile) watch(ctx context.Context) error {
	if f.path == "" {
		return nil
	}
	defer signal.Stop(f.hup)
	tick := time.NewTicker(f.poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.hup:
			f.last = "" // asked for: say it again
			f.log.Info().Str("secret", f.name).Msg("secret's file is read again")
		case <-tick.C:
		}
		f.look(ctx)
	}
}

// look reads the file once and puts a new text in use.
func (f *secretFile) look(ctx context.Context) {
	value, err := readSecret(f.name, f.path)
	if err == nil && value == f.value {
		f.broken.Set(0)
		f.last = ""
		return
	}
	select {
	case <-ctx.Done():
		return
	case <-time.After(secretSettle):
	}
	again, againErr := readSecret(f.name, f.path)
	if again != value || (againErr == nil) != (err == nil) {
		return // it is being written; the next look sees the end of it
	}
	if err == nil {
		err = f.apply(value)
	}
	if err != nil {
		f.broken.Set(1)
		if said := err.Error() + value; said != f.last {
			f.last = said
			f.reloads.WithLabelValues(f.name, "refused").Inc()
			f.log.Error().Err(err).Str("secret", f.name).Msg("new secret not usable, the old one stays in use")
		}
		return
	}
	f.value, f.last = value, ""
	f.broken.Set(0)
	f.reloads.WithLabelValues(f.name, "changed").Inc()
	f.log.Info().Str("secret", f.name).Msg("new secret in use")
}
