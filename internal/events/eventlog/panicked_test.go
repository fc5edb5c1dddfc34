package eventlog_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// What a handler panics with may quote a message: only its type is told, and of the runtime's own faults their text.
func TestPanickedQuotesNothing(t *testing.T) {
	t.Parallel()
	for _, value := range []any{"jane@example.com", errors.New("jane@example.com"), []byte("jane@example.com")} {
		if got := eventlog.Panicked(value).Error(); strings.Contains(got, "jane") || !strings.HasPrefix(got, "panic: ") {
			t.Errorf("%T: %s", value, got)
		}
	}
	defer func() {
		if got := eventlog.Panicked(recover()).Error(); !strings.Contains(got, "out of range") {
			t.Error(got)
		}
	}()
	var none []int
	_ = none[len(t.Name())]
}
