package main

import (
	"fmt"
	"os"
	"strconv"

	"github.com/paykit-go/paykit/internal/daemon"
	"github.com/paykit-go/paykit/internal/history"
)

type importCmd struct {
	File string `arg:"" type:"path" help:"A whole log, as \"paykit replay --file\" writes it."`
}

func (importCmd) Help() string {
	return `Takes a whole log into an installation that was provisioned and has no event yet. The file is checked from its first line to its
last before anything is written; then the events get the sequences that they had, and the views are the same. They are
history: the worker does nothing about them. An import that was interrupted is repeated, and goes on where it was. It runs as the
NATS user "provision"; let ingest and worker stand still until it is done.

  paykit replay --file all.ndjson                      there
  paykit provision && paykit import all.ndjson         here`
}

func (c importCmd) Run(a *app) error {
	f, err := os.Open(c.File)
	if err != nil {
		return &daemon.UsageError{Err: err}
	}
	defer f.Close()
	log, done, err := a.openLogAs("provision")
	if err != nil {
		return err
	}
	defer done()
	tell := map[string]func(done, of uint64){}
	r, err := history.Import(a.ctx, log, f, func(doing string, done, of uint64) {
		if tell[doing] == nil {
			tell[doing] = a.progress(doing)
		}
		tell[doing](done, of)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	return a.fields(r, "events", strconv.FormatUint(r.Events, 10), "appended", strconv.FormatUint(r.Appended, 10),
		"entities", strconv.Itoa(r.Entities), "links put back", strconv.Itoa(r.Links))
}
