package daemon

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/paykit-go/paykit/internal/events"
)

// RetrySchedules are retry schedules as they are set: the delays between the attempts, separated by commas, by name.
type RetrySchedules map[string]string

// standardSchedule is the built-in one, unless one of this name is set.
const standardSchedule = "standard"

// Retry says which retry schedules a charge can name.
type Retry struct {
	Schedules RetrySchedules `name:"retry-schedule" env:"PAYKIT_RETRY_SCHEDULES" mapsep:";" placeholder:"NAME=DELAY,…" help:"Delays between the attempts of a declined charge, by the name that charge.create gives as retry, as in weekly=24h,168h; several times, or separated by semicolons (${env}). Built in: standard=1h,24h,72h,120h."`
}

// Delays reads the schedules and adds the built-in one. What can't be used is an error that names the setting.
func (s RetrySchedules) Delays() (map[string][]time.Duration, error) {
	all := map[string][]time.Duration{standardSchedule: {time.Hour, 24 * time.Hour, 72 * time.Hour, 120 * time.Hour}}
	for _, name := range slices.Sorted(maps.Keys(s)) {
		schedule := events.RetrySchedule{Name: name}
		for word := range strings.SplitSeq(s[name], ",") {
			delay, err := time.ParseDuration(strings.TrimSpace(word))
			if err != nil {
				return nil, fmt.Errorf("PAYKIT_RETRY_SCHEDULES: %s: %q is no duration such as 24h", name, word)
			}
			schedule.Delays = append(schedule.Delays, delay)
		}
		if err := schedule.Check(); err != nil {
			return nil, fmt.Errorf("PAYKIT_RETRY_SCHEDULES: %w", err)
		}
		all[name] = schedule.Delays
	}
	return all, nil
}

// Check says early, before anything is connected to, whether the schedules can be used.
func (r Retry) Check() error {
	if _, err := r.Schedules.Delays(); err != nil {
		return &UsageError{Err: err}
	}
	return nil
}
