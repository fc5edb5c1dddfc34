package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/paykit-go/paykit/internal/daemon"
	"github.com/paykit-go/paykit/internal/schema"
)

type schemaCmd struct {
	Show     schemaShow     `cmd:"" default:"withargs" help:"List the schemas, or print some."`
	Validate schemaValidate `cmd:"" help:"Check a JSON document against a schema."`
	Asyncapi schemaAsyncAPI `cmd:"" help:"Print the AsyncAPI document, with the schemas in it."`
}

func (schemaCmd) Help() string {
	return `JSON Schemas (2020-12) of commands, queries, answers, events, their data and the entities' snapshots. Needs no server.

  paykit schema                              list
  paykit schema charge.create                the body of a command
  paykit schema answer charge.create
  paykit schema event charge.succeeded
  paykit schema urn:paykit:charge:1          what an event's "dataschema" names
  paykit schema --all
  paykit schema validate charge.create body.json
  paykit schema asyncapi                     subjects, headers and messages, as JSON`
}

type schemaAsyncAPI struct{}

func (schemaAsyncAPI) Help() string {
	return `docs/asyncapi.yaml as one document that needs no other file, for tools that read AsyncAPI 3.0.

  paykit schema asyncapi > paykit.json`
}

func (schemaAsyncAPI) Run(a *app) error {
	catalog, err := schema.Open()
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	doc, err := catalog.AsyncAPI()
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	return a.printJSON(doc)
}

type schemaShow struct {
	Name []string `arg:"" optional:"" help:"A name or an id as listed, its kind before it where several have the name."`
	All  bool     `help:"Print every schema, in one JSON list."`
}

// listedSchema is a schema as it is listed.
type listedSchema struct {
	schema.Name
	Description string `json:"description,omitempty"`
}

func (c schemaShow) Run(a *app) error {
	catalog, err := schema.Open()
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	switch {
	case c.All && len(c.Name) > 0:
		return &daemon.UsageError{Err: errors.New("give a name or --all, not both")}
	case c.All:
		var all []map[string]any
		for _, n := range catalog.Names() {
			all = append(all, catalog.Document(n))
		}
		return a.printJSON(all)
	case len(c.Name) == 0:
		return a.schemas(catalog)
	}
	n, err := schemaNamed(catalog, c.Name)
	if err != nil {
		return err
	}
	return a.printJSON(catalog.Document(n))
}

// schemas lists what there is.
func (a *app) schemas(catalog *schema.Catalog) error {
	var items []listedSchema
	var rows [][]string
	for _, n := range catalog.Names() {
		items = append(items, listedSchema{n, catalog.Description(n)})
		rows = append(rows, []string{string(n.Kind), n.Name, n.ID})
	}
	return a.show(struct {
		Items []listedSchema `json:"items"`
	}{items}, []string{"KIND", "NAME", "ID"}, rows...)
}

// schemaNamed finds the schema of "charge.create", "event charge.succeeded" or an id.
func schemaNamed(catalog *schema.Catalog, words []string) (schema.Name, error) {
	words = strings.Fields(strings.Join(words, " ")) // "event charge.succeeded" may be one word to the shell
	var n schema.Name
	err := schema.ErrUnknown
	switch {
	case len(words) == 1:
		n, err = catalog.Find("", words[0])
	case len(words) == 2 && slices.Contains(schema.Kinds(), schema.Kind(words[0])):
		n, err = catalog.Find(schema.Kind(words[0]), words[1])
	}
	if err != nil {
		return schema.Name{}, &daemon.UsageError{
			Err: fmt.Errorf("%w: %s; \"paykit schema\" lists them", schema.ErrUnknown, strings.Join(words, " ")),
		}
	}
	return n, nil
}

type schemaValidate struct {
	Words []string `arg:"" name:"name-and-file" help:"A name as listed, then the file; - is standard input."`
}

func (schemaValidate) Help() string {
	return `The exit status is 1 if the document is not as the schema says, and each field at fault is named.

  paykit schema validate charge.create body.json
  paykit schema validate event charge.succeeded - < event.json`
}

// errNotValid says that a document is not as its schema says.
var errNotValid = errors.New("the document is not valid")

func (c schemaValidate) Run(a *app) error {
	last := len(c.Words) - 1
	if last < 1 {
		return &daemon.UsageError{Err: errors.New("give a schema's name and a file: paykit schema validate charge.create body.json")}
	}
	catalog, err := schema.Open()
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	n, err := schemaNamed(catalog, c.Words[:last])
	if err != nil {
		return err
	}
	document, err := readDocument(c.Words[last])
	if err != nil {
		return err
	}
	validator, err := catalog.Validator()
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	problems, err := validator.Validate(n, document)
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	if err := a.problems(n, problems); err != nil {
		return err
	}
	if len(problems) > 0 {
		return fmt.Errorf("%w (problems: %d)", errNotValid, len(problems))
	}
	return nil
}

// readDocument reads a file, or standard input.
func readDocument(path string) ([]byte, error) {
	if path == "-" {
		b, err := io.ReadAll(os.Stdin)
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		return b, nil
	}
	b, err := os.ReadFile(path) //nolint:gosec // G304: the operator names the file
	if err != nil {
		return nil, fmt.Errorf("read the document: %w", err)
	}
	return b, nil
}

// problems prints what a validation found.
func (a *app) problems(n schema.Name, problems []schema.Problem) error {
	if a.json {
		return a.printJSON(struct {
			OK       bool             `json:"ok"`
			Schema   string           `json:"schema"`
			Problems []schema.Problem `json:"problems"`
		}{len(problems) == 0, n.ID, append([]schema.Problem{}, problems...)})
	}
	if len(problems) == 0 {
		fmt.Fprintf(a.out, "valid: %s\n", n.ID)
		return nil
	}
	var rows [][]string
	for _, p := range problems {
		field := p.Field
		if field == "" {
			field = "(the document)"
		}
		rows = append(rows, []string{field, p.Message})
	}
	return a.show(nil, []string{"FIELD", "PROBLEM"}, rows...)
}
