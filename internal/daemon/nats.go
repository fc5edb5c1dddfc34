package daemon

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
)

// Logger makes a process's logger.
func (c Logging) Logger(w io.Writer, service string) zerolog.Logger {
	if c.LogFormat == "text" {
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: time.TimeOnly, NoColor: !terminal(w)}
	}
	level, err := zerolog.ParseLevel(c.LogLevel)
	if err != nil {
		level = zerolog.InfoLevel
	}
	return zerolog.New(w).Level(level).With().Timestamp().Str("service", service).Logger()
}

// terminal tells whether w shows colours: it is a terminal, and NO_COLOR is not set.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// Connect connects to NATS. It fails at once if no server answers, so that a wrong address shows at start; once
// connected it reconnects for ever, and readiness says so meanwhile.
func (c NATS) Connect(name string, log zerolog.Logger, more ...nats.Option) (*nats.Conn, error) {
	opts := append([]nats.Option{
		nats.Name("paykit " + name),
		nats.Timeout(5 * time.Second),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(500 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, time.Second),
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DrainTimeout(3 * time.Second),
		nats.CustomInboxPrefix("_INBOX_" + strings.ReplaceAll(name, " ", "_")),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn().Err(err).Msg("nats disconnected")
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			log.Info().Str("server", nc.ConnectedServerName()).Msg("nats reconnected")
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			log.Error().Err(err).Msg("nats reports an error")
		}),
	}, more...)
	if c.Creds != "" {
		opts = append(opts, nats.UserCredentials(c.Creds))
	}
	shown, err := withoutPasswords(c.URL)
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect(c.URL, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w (set NATS_URL)", shown, err)
	}
	return nc, nil
}

// errURL does not quote the URL: it may hold a password.
var errURL = errors.New("NATS_URL is no URL, or no list of them; a password in it must be percent-encoded")

// withoutPasswords is a list of URLs as it may be shown.
func withoutPasswords(urls string) (string, error) {
	list := strings.Split(urls, ",")
	for i, text := range list {
		text = strings.TrimSpace(text)
		if !strings.Contains(text, "://") { // as the client reads it
			text = "nats://" + text
		}
		u, err := url.Parse(text)
		if err != nil {
			return "", errURL
		}
		list[i] = u.Redacted()
	}
	return strings.Join(list, ","), nil
}

// errNotConnected is what readiness says while NATS can't be reached.
var errNotConnected = errors.New("not connected to NATS")

// NATSCheck is the readiness of a connection.
func NATSCheck(nc *nats.Conn) Check {
	return Check{Name: "nats", Ready: func() error {
		if !nc.IsConnected() {
			return errNotConnected
		}
		return nil
	}}
}

// Drain lets the connection send what it holds and closes it, bounded by its drain timeout.
func Drain(nc *nats.Conn) {
	closed := nc.StatusChanged(nats.CLOSED)
	if err := nc.Drain(); err != nil {
		nc.Close()
		return
	}
	select {
	case <-closed:
	case <-time.After(4 * time.Second):
		nc.Close()
	}
}
