package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Run is a program without its process: everything a test wants to vary is a parameter.
type Run func(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error

// UsageError is a command line or a setting that can't be used. The exit status is 2.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *UsageError) Unwrap() error { return e.Err }

// shutdownBound is how long a process may take to end after SIGTERM. A process that is stuck ends all the same: every
// write is made for a crash right after it.
const shutdownBound = 7500 * time.Millisecond

// Main runs a program until it ends or a signal asks it to, and exits: 0 good, 1 failed, 2 usage.
func Main(name string, run Run) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, func() {
		stop() // a second Ctrl-C ends at once
		time.AfterFunc(shutdownBound, func() {
			fmt.Fprintln(os.Stderr, name+": did not end in time; what was in hand is taken up by the next start")
			os.Exit(1)
		})
	})
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	os.Exit(ExitStatus(name, err, os.Stderr))
}

// ExitStatus says what went wrong, in one line, and gives the status to exit with.
func ExitStatus(name string, err error, stderr io.Writer) int {
	if err == nil || errors.Is(err, context.Canceled) {
		return 0
	}
	fmt.Fprintln(stderr, name+": "+err.Error())
	if _, ok := errors.AsType[*UsageError](err); ok {
		return 2
	}
	return 1
}
