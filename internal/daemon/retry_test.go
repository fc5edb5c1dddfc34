package daemon

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
)

func TestRetrySchedules(t *testing.T) {
	standard := []time.Duration{time.Hour, 24 * time.Hour, 72 * time.Hour, 120 * time.Hour}
	for _, tt := range []struct {
		name, env, file string
		args            []string
		want            map[string][]time.Duration
		problem         string
	}{
		{"built in", "", "{}", nil, map[string][]time.Duration{"standard": standard}, ""},
		{
			"flags", "", "{}",
			[]string{"--retry-schedule=weekly=24h,168h", "--retry-schedule", "short=1s"},
			map[string][]time.Duration{"standard": standard, "weekly": {24 * time.Hour, 168 * time.Hour}, "short": {time.Second}},
			"",
		},
		{
			"environment", "weekly=24h, 168h;standard=2h", "{}", nil,
			map[string][]time.Duration{"standard": {2 * time.Hour}, "weekly": {24 * time.Hour, 168 * time.Hour}},
			"",
		},
		{
			"file", "", `{"retry-schedule": {"weekly": "24h,168h"}}`, nil,
			map[string][]time.Duration{"standard": standard, "weekly": {24 * time.Hour, 168 * time.Hour}},
			"",
		},
		{"no duration", "weekly=24h,soon", "{}", nil, nil, "soon"},
		{"nothing", "weekly=", "{}", nil, nil, "weekly"},
		{"too short", "weekly=24h,500ms", "{}", nil, nil, "500ms"},
		{"too long", "weekly=721h", "{}", nil, nil, "721h"},
		{"too many", "weekly=" + strings.Repeat("1h,", 10) + "1h", "{}", nil, nil, "11 delays"},
		{"bad name", "Weekly=1h", "{}", nil, nil, "Weekly"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.env != "" {
				t.Setenv("PAYKIT_RETRY_SCHEDULES", tt.env)
			}
			var c struct{ Retry }
			settings, err := configFile(strings.NewReader(tt.file))
			if err != nil {
				t.Fatal(err)
			}
			parser, err := kong.New(&c, kong.Resolvers(settings))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parser.Parse(tt.args); err != nil {
				t.Fatal(err)
			}
			err = c.Check()
			if tt.problem != "" {
				if _, ok := errors.AsType[*UsageError](err); !ok || !strings.Contains(err.Error(), tt.problem) || !strings.Contains(err.Error(), "PAYKIT_RETRY_SCHEDULES") {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.Schedules.Delays()
			if err != nil || len(got) != len(tt.want) {
				t.Fatalf("%v, %v", got, err)
			}
			for name, delays := range tt.want {
				if !slices.Equal(got[name], delays) {
					t.Errorf("%s is %v, want %v", name, got[name], delays)
				}
			}
		})
	}
}
