package daemon

import (
	"errors"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/rs/zerolog"
)

// TestPrecedence: flag > environment > file > default.
func TestPrecedence(t *testing.T) {
	const file = `{"stripe-rate": 20, "log-level": "debug", "nats-url": "nats://file:4222", "http-addr": "unknown to this program"}`
	for name, row := range map[string]struct {
		file, env string
		args      []string
		want      float64
	}{
		"default":          {"{}", "", nil, 80},
		"file":             {file, "", nil, 20},
		"environment":      {file, "30", nil, 30},
		"flag":             {file, "30", []string{"--stripe-rate=40"}, 40},
		"flag over a file": {file, "", []string{"--stripe-rate=40"}, 40},
	} {
		t.Run(name, func(t *testing.T) {
			if row.env != "" {
				t.Setenv("PAYKIT_STRIPE_RATE", row.env)
			}
			var c struct {
				NATS
				Logging
				StripeAPI
			}
			settings, err := configFile(strings.NewReader(row.file))
			if err != nil {
				t.Fatal(err)
			}
			parser, err := kong.New(&c, kong.Resolvers(settings))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parser.Parse(row.args); err != nil {
				t.Fatal(err)
			}
			if c.Rate != row.want {
				t.Errorf("rate is %v, want %v", c.Rate, row.want)
			}
			if fromFile := row.file == file; fromFile != (c.LogLevel == "debug" && c.URL == "nats://file:4222") {
				t.Errorf("log level %q, NATS at %s", c.LogLevel, c.URL)
			}
		})
	}
}

func TestFileOfSettingsMustBeAnObject(t *testing.T) {
	for _, text := range []string{"", "[]", "nats-url=x"} {
		if _, err := configFile(strings.NewReader(text)); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

func TestPasswordOfNATSIsNotShown(t *testing.T) {
	const secret = "p4sswort"
	for _, urls := range []string{
		"nats://ingest:" + secret + "@127.0.0.1:1",
		"nats://ingest:" + secret + "@127.0.0.1:1, nats://ingest:" + secret + "@127.0.0.1:2",
		"ingest:" + secret + "@127.0.0.1:1",
		"nats://ingest:" + secret + "%zz@127.0.0.1:1",
	} {
		_, err := NATS{URL: urls}.Connect("test", zerolog.Nop())
		if err == nil {
			t.Fatalf("connected to %s", urls)
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error shows the password: %v", err)
		}
		if strings.Contains(urls, "%zz") != errors.Is(err, errURL) {
			t.Errorf("%s: %v", urls, err)
		}
	}
}
