package sandbox

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// eventRetention is how long /v1/events shows an event.
const eventRetention = 30 * 24 * time.Hour

// event is one entry of the event log, in Stripe's shape. Data.Object is the object as it was.
type event struct {
	ID              string       `json:"id"`
	Object          string       `json:"object"`
	APIVersion      string       `json:"api_version"`
	Created         int64        `json:"created"`
	Data            eventData    `json:"data"`
	Livemode        bool         `json:"livemode"`
	PendingWebhooks int          `json:"pending_webhooks"` // deliveries not yet answered with 2xx
	Request         eventRequest `json:"request"`
	Type            string       `json:"type"`

	undelivered bool // some delivery was given up or dropped
}

func (e *event) hidden() any {
	return &struct {
		Undelivered *bool `json:"undelivered"`
	}{&e.undelivered}
}

type eventData struct {
	Object             json.RawMessage `json:"object"`
	PreviousAttributes map[string]any  `json:"previous_attributes,omitempty"`
}

// eventRequest names the API request that caused the event; both are null when the buyer or time did.
type eventRequest struct {
	ID             nullable `json:"id"`
	IdempotencyKey nullable `json:"idempotency_key"`
}

// emit writes an event about obj as it is now and queues its deliveries.
func (c *call) emit(eventType string, obj any) { c.record(eventType, snapshot(obj), nil) }

// emitChange writes an event about obj with what changed since before was taken.
func (c *call) emitChange(eventType string, before json.RawMessage, obj any) {
	after := snapshot(obj)
	c.record(eventType, after, changed(decodeObject(before), decodeObject(after)))
}

// emitIfChanged is emitChange for updates, which make no event when they change nothing.
func (c *call) emitIfChanged(eventType string, before json.RawMessage, obj any) {
	if string(before) != string(snapshot(obj)) {
		c.emitChange(eventType, before, obj)
	}
}

func (c *call) record(eventType string, object json.RawMessage, previous map[string]any) {
	e := &event{
		ID: c.objectID("evt_"), Object: "event", APIVersion: apiVersion, Created: c.now().Unix(), Type: eventType,
		Data:    eventData{Object: object, PreviousAttributes: previous},
		Request: eventRequest{ID: nullable(c.requestID), IdempotencyKey: nullable(c.key)},
	}
	c.events.add(e.ID, e)
	c.queueDeliveries(e)
}

func eventRoutes() []route {
	return []route{
		{"GET /v1/events", "events.list", listEvents},
		{"GET /v1/events/{id}", "events.retrieve", retrieveEvent},
	}
}

func retrieveEvent(c *call) (any, *apiError) {
	if err := c.params.done(); err != nil {
		return nil, err
	}
	e, ok := c.events.find(c.id)
	if !ok || c.tooOld(e) {
		return nil, noSuch(404, "event", c.id, "id")
	}
	return e, nil
}

func (c *call) tooOld(e *event) bool {
	return time.Unix(e.Created, 0).Before(c.now().Add(-eventRetention))
}

func listEvents(c *call) (any, *apiError) {
	types := c.params.list("types")
	one := c.params.text("type")
	success, filtered := c.params.boolean("delivery_success")
	if one != "" && len(types) > 0 {
		c.params.fail(badParam("", "types", "You may only specify one of these parameters: type, types."))
	}
	if len(types) > 20 {
		c.params.fail(badParam("", "types", "You may pass up to 20 event types."))
	}
	if one != "" {
		types = []string{one}
	}
	return listOf(c, &c.events, "/v1/events", "event", func(e *event) int64 { return e.Created }, func(e *event) bool {
		if len(types) > 0 && !slices.ContainsFunc(types, func(t string) bool { return typeMatches(t, e.Type) }) {
			return false
		}
		if filtered && success == (e.undelivered || e.PendingWebhooks > 0) {
			return false
		}
		return !c.tooOld(e)
	})
}

// typeMatches compares an event type with a wanted one, which may end in a wildcard: charge.*
func typeMatches(want, got string) bool {
	if want == "*" {
		return true
	}
	if prefix, wild := strings.CutSuffix(want, "*"); wild {
		return strings.HasPrefix(got, prefix)
	}
	return want == got
}
