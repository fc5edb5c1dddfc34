package daemon

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/rs/zerolog"
)

// part is a Part that is made of a function.
type part func(ctx context.Context, e Env) (func(context.Context) error, error)

func (p part) Start(ctx context.Context, e Env) (func(context.Context) error, error) {
	return p(ctx, e)
}

// Where a part can't be started, those started before it have ended when Serve returns: their connections are closed then.
func TestServeEndsStartedPartsWhenALaterOneFails(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	errRefused := errors.New("refused")
	ended := false
	first := part(func(context.Context, Env) (func(context.Context) error, error) {
		return func(ctx context.Context) error {
			<-ctx.Done()
			ended = true
			return nil
		}, nil
	})
	second := part(func(context.Context, Env) (func(context.Context) error, error) { return nil, errRefused })
	ready := func() { t.Error("it was called ready") }

	err = Serve(t.Context(), l, Env{HTTP: NewHTTP(), Logger: zerolog.Nop()}, ready, first, second)

	if !errors.Is(err, errRefused) {
		t.Errorf("error %v, want %v", err, errRefused)
	}
	if !ended {
		t.Error("the first part still runs")
	}
}
