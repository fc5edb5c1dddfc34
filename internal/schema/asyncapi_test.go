package schema_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/paykit-go/paykit/internal/commands"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/natsapi"
	"github.com/paykit-go/paykit/internal/projections"
)

// tree is an object of the AsyncAPI document: names and values in turns, in the order in which they are written.
type tree []any

func (t tree) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i := 0; i+1 < len(t); i += 2 {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(t[i])
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(t[i+1])
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// plain is text that YAML takes as it is.
var plain = regexp.MustCompile(`^[A-Za-z$][A-Za-z0-9_.$-]*$`)

// yaml writes a value at a depth; a tree or a list begins on the next line.
func yaml(b *bytes.Buffer, v any, depth int) {
	indent := strings.Repeat("  ", depth)
	switch v := v.(type) {
	case tree:
		for i := 0; i+1 < len(v); i += 2 {
			b.WriteString("\n" + indent + word(v[i]) + ":")
			yaml(b, v[i+1], depth+1)
		}
	case []any:
		for _, one := range v {
			b.WriteString("\n" + indent + "-")
			var item bytes.Buffer
			yaml(&item, one, depth+1)
			b.WriteString(strings.Replace(item.String(), "\n"+indent+"  ", " ", 1))
		}
	default:
		b.WriteString(" " + word(v))
	}
}

func word(v any) string {
	text, ok := v.(string)
	if ok && plain.MatchString(text) && !slices.Contains([]string{"true", "false", "null", "yes", "no", "on", "off", "y", "n"}, strings.ToLower(text)) {
		return text
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // text, numbers and nil always encode
	}
	return strings.TrimSpace(b.String())
}

func list[T any](items ...T) []any {
	all := []any{}
	for _, one := range items {
		all = append(all, one)
	}
	return all
}

func to(path ...string) tree { return tree{"$ref", "#/" + strings.Join(path, "/")} }

func payload(file, definition string) tree {
	return tree{"$ref", "../internal/schema/files/" + file + ".json#/$defs/" + definition}
}

// document is the whole contract: what travels on which subject, with which headers.
func document(t testing.TB) tree {
	t.Helper()
	d := parts{t: t}
	for _, r := range requests() {
		d.request(r)
	}
	says := sayings(t)
	for _, entity := range events.Entities() {
		d.entity(entity, says)
	}
	d.webhooks()
	d.message("refusal", "A refusal", payload("error", "answer.error"), "refusalHeaders")
	return tree{
		"asyncapi", "3.0.0",
		"id", "urn:paykit",
		"info",
		tree{
			"title", "PayKit", "version", "1.0.0", "license",
			tree{"name", "Apache-2.0"},
			"description", "An event-sourced billing engine on NATS JetStream. docs/reference.md says the same in words, with examples. " +
				"Operations are PayKit's own: what it receives and what it sends.",
		},
		"defaultContentType", "application/json",
		"servers",
		tree{
			"nats",
			tree{"host", "127.0.0.1:4222", "protocol", "nats", "description", "Where NATS_URL points to."},
			"http",
			tree{"host", "127.0.0.1:8420", "protocol", "http", "description", "The webhook door of ingest, PAYKIT_HTTP_ADDR."},
		},
		"channels", d.channels,
		"operations", d.operations,
		"components",
		tree{"messages", d.messages, "schemas", headers(), "parameters", parameters()},
	}
}

type parts struct {
	t                              testing.TB
	channels, operations, messages tree
}

func (d *parts) message(name, title string, payload tree, headers string) {
	m := tree{"name", name, "title", title}
	if headers != "" {
		m = append(m, "headers", to("components", "schemas", headers))
	}
	d.messages = append(d.messages, name, append(m, "payload", payload))
}

func onNATS() []any { return list(to("servers", "nats")) }

// request is a command, over the api and over the queue, or a query.
func (d *parts) request(r request) {
	name, subject, headers, queue := r.kind+"."+r.verb, "api", "commandHeaders", "paykit-api"
	says := "The command " + r.verb + ", and its outcome."
	if r.kind == "query" {
		subject, headers, queue, says = "query", "queryHeaders", "paykit-query", "The query "+r.verb+"."
	}
	d.message(name, "Body of "+r.verb, payload(r.file, name), headers)
	if !slices.Contains(names(d.messages), "answer."+r.verb) {
		d.message("answer."+r.verb, "Answer to "+r.verb, payload(r.file, "answer."+r.verb), "answerHeaders")
	}
	channel := subject + "." + r.verb
	d.channels = append(d.channels,
		channel, tree{
			"address", "{prefix}." + channel, "description", says, "servers", onNATS(), "parameters",
			tree{"prefix", to("components", "parameters", "prefix")},
			"messages",
			tree{"request", to("components", "messages", name)},
		},
		channel+".answer", tree{
			"address", nil, "servers", onNATS(),
			"description", "The reply subject that the NATS request names: the subject is what ties an answer to its request.",
			"messages",
			tree{"answer", to("components", "messages", "answer."+r.verb), "refusal", to("components", "messages", "refusal")},
		})
	d.operations = append(d.operations, channel, tree{
		"action", "receive", "channel", to("channels", channel), "messages", list(to("channels", channel, "messages", "request")),
		"reply",
		tree{"channel", to("channels", channel+".answer"), "messages", list(
			to("channels", channel+".answer", "messages", "answer"), to("channels", channel+".answer", "messages", "refusal"),
		)},
		"bindings",
		tree{"nats", tree{"queue", queue, "bindingVersion", "0.1.0"}},
	})
	if r.kind == "query" || r.verb == "charge.resolve" { // for operators, who wait
		return
	}
	channel = "cmd." + r.verb
	d.channels = append(d.channels, channel, tree{
		"address", "{prefix}." + channel, "servers", onNATS(), "parameters",
		tree{"prefix", to("components", "parameters", "prefix")},
		"description", "The same, left in the JetStream work queue PAYKIT_COMMANDS without waiting: the publish acknowledgement means accepted, a refusal becomes the event command.rejected.",
		"messages",
		tree{"request", to("components", "messages", name)},
	})
	d.operations = append(d.operations, channel, tree{
		"action", "receive", "channel", to("channels", channel), "messages", list(to("channels", channel, "messages", "request")),
	})
}

// names lists the names of a tree.
func names(t tree) []string {
	var all []string
	for i := 0; i < len(t); i += 2 {
		all = append(all, fmt.Sprint(t[i]))
	}
	return all
}

// entity is what happens to one kind of thing: the stored log, and the feed that the server republishes it on.
func (d *parts) entity(entity events.Entity, says map[events.Type]string) {
	var types []string
	messages := tree{}
	for _, typ := range events.Types() {
		if typ.Entity() == entity {
			d.message("event."+string(typ), says[typ], payload(string(entity), "event."+string(typ)), "")
			messages = append(messages, typ.Name(), to("components", "messages", "event."+string(typ)))
			types = append(types, typ.Name())
		}
	}
	event := tree{"enum", list(types...), "description", "What happened."}
	prefix, customer := to("components", "parameters", "prefix"), to("components", "parameters", "customerId")
	for _, c := range []struct {
		kind, address, says string
		parameters          tree
	}{
		{
			"log", "{prefix}.log." + string(entity) + ".{event}.{entityId}.{customerId}",
			"Every event, for ever: the JetStream stream PAYKIT_LOG. Read it with a consumer, from the first event or from any sequence, which also catches up with what was missed; without JetStream the subject also shows writes that are refused a moment later.",
			tree{"prefix", prefix, "event", event, "entityId", to("components", "parameters", "entityId"), "customerId", customer},
		},
		{
			"events", "{prefix}.events." + string(entity) + ".{event}.{customerId}",
			"The live feed: the server republishes each event once it is stored, with the headers Nats-Sequence, Nats-Subject and Nats-Stream. What is sent while nobody listens is not sent again.",
			tree{"prefix", prefix, "event", event, "customerId", customer},
		},
		{
			"replay", "{to}." + string(entity) + ".{event}.{customerId}",
			"Stored events given out again by \"paykit replay --subject\", the stored bytes with the headers Paykit-Sequence and Paykit-Time, on subjects that no live subscriber listens to.",
			tree{"to", to("components", "parameters", "to"), "event", event, "customerId", customer},
		},
	} {
		channel := c.kind + "." + string(entity)
		d.channels = append(d.channels, channel, tree{
			"address", c.address, "description", c.says, "servers", onNATS(), "parameters", c.parameters, "messages", messages,
		})
		d.operations = append(d.operations, channel, tree{"action", "send", "channel", to("channels", channel)})
	}
}

// webhooks is the door for the provider's deliveries.
func (d *parts) webhooks() {
	d.message("delivery", "A signed delivery of the provider", tree{
		"type", "object", "required", list("id", "type"), "properties", tree{"id", tree{"type", "string"}, "type", tree{"type", "string"}},
	}, "deliveryHeaders")
	d.channels = append(d.channels, "webhooks", tree{
		"address", "/webhooks/{providerId}", "servers", list(to("servers", "http")),
		"description", "Answered 200 only after the delivery is stored; 400 for a bad signature, 503 where it could not be stored, and the provider sends it again.",
		"parameters",
		tree{"providerId", tree{"description", "The provider.", "enum", list("stripe"), "default", "stripe"}},
		"messages",
		tree{"delivery", to("components", "messages", "delivery")},
	})
	d.operations = append(d.operations, "webhooks", tree{
		"action", "receive", "channel", to("channels", "webhooks"), "bindings", tree{"http", tree{"method", "POST", "bindingVersion", "0.3.0"}},
	})
}

func parameters() tree {
	return tree{
		"prefix",
		tree{"description", "The installation's prefix, PAYKIT_PREFIX.", "default", "paykit"},
		"to",
		tree{"description", "What was given as --subject.", "default", "copy"},
		"customerId",
		tree{"description", "The customer's id, or none."},
		"entityId",
		tree{"description", "The entity's id."},
	}
}

// headers are what NATS messages carry beside their bodies.
func headers() tree {
	text := func(says, pattern string) tree {
		return tree{"type", "string", "pattern", pattern, "description", says}
	}
	object := func(properties ...any) tree { return tree{"type", "object", "properties", tree(properties)} }
	const digits = "^[0-9]+$"
	return tree{
		"commandHeaders", object(
			commands.HeaderIdempotencyKey, tree{"type", "string", "minLength", 1, "maxLength", 255, "description", "Your name for what is to be done: the same key and body give the same thing for ever."},
			commands.HeaderWait, text("How long to wait for the outcome, a Go duration; 4s if it is missing, 0s = not at all, at most 60s.", "^([0-9.]+(ns|us|µs|ms|s|m|h))+$|^0$"),
		),
		"queryHeaders", object(
			"Paykit-Min-Sequence", text("Answer once the views have the event at this sequence, to read your own writes.", digits),
			"Paykit-At", text("Answer from the views as they were: a sequence, or a time in RFC 3339.", "^([0-9]+|[0-9]{4}-.+)$"),
		),
		"answerHeaders", object(natsapi.HeaderSequence, text("Where the entity's last event stands in the log; of a list, how far the views are.", digits)),
		"refusalHeaders", object(
			"Nats-Service-Error-Code", text("The status.", "^(400|404|409|422|429|500|503)$"),
			"Nats-Service-Error", text("The code, as in the body.", "^[a-z_]+$"),
		),
		"deliveryHeaders", object("Stripe-Signature", tree{"type", "string"}),
	}
}

const (
	asyncDocument = "../../docs/asyncapi.yaml"
	asyncEmbedded = "asyncapi.json"
)

// TestAsyncAPICurrent: the document is what the registries say. Write it with "make schema".
func TestAsyncAPICurrent(t *testing.T) {
	t.Parallel()
	d := document(t)
	var text bytes.Buffer
	text.WriteString("# Generated from the program's registries (make schema); checked by the official parser (make check-asyncapi).")
	yaml(&text, d, 0)
	text.WriteByte('\n')
	compact, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][]byte{asyncDocument: text.Bytes(), asyncEmbedded: append(compact, '\n')} {
		if *write {
			if err := os.WriteFile(path, want, 0o644); err != nil { //nolint:gosec // G306: a file of the repository
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the registries say: run \"make schema\" and look at the difference", path)
		}
	}
}

// TestAsyncAPINamesEverything: each verb has its subjects, each type is on the log and the feed, each header is there.
func TestAsyncAPINamesEverything(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(asyncEmbedded)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Channels map[string]struct {
			Address  *string                   `json:"address"`
			Messages map[string]map[string]any `json:"messages"`
		} `json:"channels"`
		Components struct {
			Messages map[string]any `json:"messages"`
			Schemas  map[string]struct {
				Properties map[string]any `json:"properties"`
			} `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	addresses := map[string]bool{}
	for _, c := range d.Channels {
		if c.Address != nil {
			addresses[*c.Address] = true
		}
	}
	for _, verb := range commands.Verbs() {
		if !addresses["{prefix}.api."+verb] {
			t.Errorf("{prefix}.api.%s is no channel", verb)
		}
		if queued := addresses["{prefix}.cmd."+verb]; queued != (verb != "charge.resolve") {
			t.Errorf("{prefix}.cmd.%s: %v", verb, queued)
		}
	}
	for verb := range projections.QueryFields() {
		if !addresses["{prefix}.query."+verb] {
			t.Errorf("{prefix}.query.%s is no channel", verb)
		}
	}
	for _, typ := range events.Types() {
		if d.Components.Messages["event."+string(typ)] == nil {
			t.Errorf("%s is no message", typ)
		}
		for _, kind := range []string{"log.", "events.", "replay."} {
			want := "#/components/messages/event." + string(typ)
			if d.Channels[kind+string(typ.Entity())].Messages[typ.Name()]["$ref"] != want {
				t.Errorf("%s is not on the channel %s%s", typ, kind, typ.Entity())
			}
		}
	}
	for schema, header := range map[string]string{"commandHeaders": "Paykit-Idempotency-Key", "queryHeaders": "Paykit-At", "answerHeaders": "Paykit-Sequence"} {
		if d.Components.Schemas[schema].Properties[header] == nil {
			t.Errorf("%s lacks %s", schema, header)
		}
	}
}
