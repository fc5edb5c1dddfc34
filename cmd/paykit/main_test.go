package main

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/paykit-go/paykit"
	"github.com/paykit-go/paykit/internal/daemon"
)

// A command that was told to end has not done what it was asked for, unless it was asked to run until then.
func TestEnded(t *testing.T) {
	t.Parallel()
	told, tell := context.WithCancel(t.Context())
	tell()
	canceled := fmt.Errorf("backup: %w", context.Canceled)
	point := fmt.Errorf("list: %w", &paykit.Error{Code: paykit.CodeInvalidRequest, Param: "Paykit-At"})
	other := &paykit.Error{Code: paykit.CodeInvalidRequest, Param: "chargeId"}
	for _, c := range []struct {
		name, command string
		ctx           context.Context //nolint:containedctx // a row of the table
		err           error
		status        int
	}{
		{"a backup that was interrupted", "backup <file>", told, canceled, 1},
		{"a walk that was interrupted", "verify", told, canceled, 1},
		{"who follows is told to end", "events tail", told, canceled, 0},
		{"dev is told to end", "dev", told, context.Canceled, 0},
		{"done in spite of it", "backup <file>", told, nil, 0},
		{"the point is at fault", "charge list", t.Context(), point, 2},
		{"something else is at fault", "charge get <id>", t.Context(), other, 1},
	} {
		err := ended(c.ctx, c.command, c.err)
		if got := daemon.ExitStatus("paykit", err, t.Output()); got != c.status {
			t.Errorf("%s: status %d (%v), want %d", c.name, got, err, c.status)
		}
		if c.status == 1 && !errors.Is(c.err, context.Canceled) && !errors.Is(err, c.err) {
			t.Errorf("%s: %v hides %v", c.name, err, c.err)
		}
	}
}

func TestPointRefusesASign(t *testing.T) {
	t.Parallel()
	var p point
	if err := p.UnmarshalText([]byte("+2h")); !errors.Is(err, errPoint) {
		t.Errorf("+2h, which is still to come, is read as %v, %v", p, err)
	}
	if err := p.UnmarshalText([]byte("-2h")); err != nil {
		t.Error(err)
	}
}
