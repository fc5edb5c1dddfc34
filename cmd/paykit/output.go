package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/daemon"
	"github.com/paykit-go/paykit/internal/events"
)

// logger is for what goes wrong on the connection; commands themselves report errors.
func (a *app) logger() zerolog.Logger {
	return daemon.Logging{LogLevel: "error", LogFormat: "text"}.Logger(a.err, "paykit")
}

// silentDisconnect keeps a command that ends from reporting that it did.
func silentDisconnect() nats.Option {
	return nats.DisconnectErrHandler(func(*nats.Conn, error) {})
}

// show prints v as JSON, or as the table that rows make of it.
func (a *app) show(v any, header []string, rows ...[]string) error {
	if a.json {
		return a.printJSON(v)
	}
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	if len(header) > 0 {
		fmt.Fprintln(w, strings.Join(header, "\t"))
	}
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// fields prints one thing, a line a field; fields without a value are left out.
func (a *app) fields(v any, pairs ...string) error {
	var rows [][]string
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			rows = append(rows, []string{pairs[i], pairs[i+1]})
		}
	}
	return a.show(v, nil, rows...)
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

func whenPtr(t *time.Time) string {
	if t == nil {
		return ""
	}
	return when(*t)
}

func money(amount int64, currency string) string { return events.FormatAmount(amount, currency) }

// more tells how to get the next page.
func (a *app) more(cursor string) {
	if cursor != "" && !a.json {
		fmt.Fprintln(a.out, "\nmore: --cursor "+cursor)
	}
}
