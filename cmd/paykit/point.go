package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit"
	"github.com/paykit-go/paykit/internal/daemon"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// point is a place in history as people write it: a sequence of the log, a time, a day (its first moment in UTC), or how
// long ago. The zero value is none.
type point struct {
	set      bool
	sequence uint64
	time     time.Time // zero if it is a sequence
}

var errPoint = errors.New("is no point in history: give a sequence, as 1200, a time, as 2026-11-22T06:14:00Z, a day, as 2026-11-22, or how long ago, as -2h")

// UnmarshalText reads a flag's value.
func (p *point) UnmarshalText(b []byte) error {
	text := string(b)
	*p = point{set: true}
	if text != "" && strings.Trim(text, "0123456789") == "" {
		sequence, err := strconv.ParseUint(text, 10, 64)
		p.sequence = sequence
		if err != nil {
			return fmt.Errorf("%q %w", text, errPoint)
		}
		return nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			p.time = t
			return nil
		}
	}
	ago, err := time.ParseDuration(strings.TrimPrefix(text, "-"))
	if err != nil || ago < 0 || strings.Contains(text, "+") {
		return fmt.Errorf("%q %w", text, errPoint)
	}
	p.time = time.Now().Add(-ago)
	return nil
}

// agoArgs writes "--at -2h" as "--at=-2h": a value that begins with a dash would be taken for a flag.
func agoArgs(args []string) []string {
	ago := regexp.MustCompile(`^-[0-9.]+[a-zµ]`)
	var joined []string
	for i := 0; i < len(args); i++ {
		if (args[i] == "--at" || args[i] == "--from" || args[i] == "--to") && i+1 < len(args) && ago.MatchString(args[i+1]) {
			joined = append(joined, args[i]+"="+args[i+1])
			i++
			continue
		}
		joined = append(joined, args[i])
	}
	return joined
}

// past is the flag of every query.
type past struct {
	At point `placeholder:"POINT" help:"As it was then: a sequence of the log, a time, a day, or how long ago, as -2h. Without e-mail and name, which are no history."`
}

// options are what the client is told of it.
func (c past) options() []paykit.QueryOption {
	switch {
	case !c.At.set:
		return nil
	case c.At.time.IsZero():
		return []paykit.QueryOption{paykit.At(c.At.sequence)}
	}
	return []paykit.QueryOption{paykit.At(c.At.time)}
}

// openLog opens the installation for commands that read the log themselves, as the operator may.
func (a *app) openLog() (*eventlog.Log, func(), error) { return a.openLogAs("cli") }

// openLogAs opens it with the inbox of a user of the server.
func (a *app) openLogAs(user string) (*eventlog.Log, func(), error) {
	nc, err := a.nats.Connect(user, a.logger(), silentDisconnect())
	if err != nil {
		return nil, nil, err
	}
	log, err := eventlog.Open(a.ctx, nc, eventlog.Config{Prefix: a.nats.Prefix, Env: a.nats.Env, Logger: zerolog.Nop()})
	if err != nil {
		nc.Close()
		return nil, nil, err //nolint:wrapcheck // says what it was
	}
	return log, nc.Close, nil
}

// at is the point's sequence: where the log ends if there is no point. One that is still to come is refused.
func (p point) at(ctx context.Context, log *eventlog.Log, flag string) (uint64, error) {
	if p.set && !p.time.IsZero() {
		if p.time.After(time.Now().Add(time.Second)) {
			return 0, &daemon.UsageError{Err: fmt.Errorf("%s: %s %w", flag, p.time.Format(time.RFC3339), errFuture)}
		}
		return log.SequenceAt(ctx, p.time) //nolint:wrapcheck // says what it was
	}
	info, err := log.Info(ctx)
	if err != nil {
		return 0, err //nolint:wrapcheck // says what it was
	}
	if !p.set {
		return info.LastSequence, nil
	}
	if p.sequence > info.LastSequence {
		return 0, &daemon.UsageError{Err: fmt.Errorf("%s: sequence %d %w, which is at %d", flag, p.sequence, errBehindEnd, info.LastSequence)}
	}
	return p.sequence, nil
}

var (
	errFuture    = errors.New("is in the future")
	errBehindEnd = errors.New("is behind the end of the log")
)
