package sandbox

import (
	"regexp"
)

const (
	endpointEnabled  = "enabled"
	endpointDisabled = "disabled"
)

// webhookEndpoint is a receiver of events. Its secret is shown once, in the answer to its creation.
type webhookEndpoint struct {
	ID            string            `json:"id"`
	Object        string            `json:"object"`
	APIVersion    nullable          `json:"api_version"`
	Application   null              `json:"application"`
	Created       int64             `json:"created"`
	Description   nullable          `json:"description"`
	EnabledEvents []string          `json:"enabled_events"`
	Livemode      bool              `json:"livemode"`
	Metadata      map[string]string `json:"metadata"`
	Secret        string            `json:"secret,omitempty"`
	Status        string            `json:"status"`
	URL           string            `json:"url"`

	secret   string
	given    string // the name under which SetWebhookEndpoint finds it again
	inFlight int
	queue    []*delivery
}

func (ep *webhookEndpoint) hidden() any {
	return &struct {
		Secret *string `json:"secret"`
		Given  *string `json:"given"`
	}{&ep.secret, &ep.given}
}

// SetWebhookEndpoint is AddWebhookEndpoint for a program that starts again on the same state file: the endpoint of that
// name is there once, with the address, secret and events of the last call, and keeps its id and what is to be delivered.
func (s *Server) SetWebhookEndpoint(name, url, secret string, events ...string) string {
	s.enter()
	defer s.leave()
	if len(events) == 0 {
		events = []string{"*"}
	}
	for id, ep := range s.endpoints.all {
		if ep.given == name {
			ep = s.endpoints.get(id)
			ep.URL, ep.secret, ep.EnabledEvents = url, secret, events
			s.signal()
			return id
		}
	}
	ep := s.newCall().addEndpoint(url, secret, events)
	ep.given = name
	return ep.ID
}

// AddWebhookEndpoint makes an endpoint with a secret of the caller's choice, as a fixed one in development, and returns
// its id. Without events it gets them all.
func (s *Server) AddWebhookEndpoint(url, secret string, events ...string) string {
	s.enter()
	defer s.leave()
	if len(events) == 0 {
		events = []string{"*"}
	}
	return s.newCall().addEndpoint(url, secret, events).ID
}

func (c *call) addEndpoint(url, secret string, events []string) *webhookEndpoint {
	ep := &webhookEndpoint{
		ID: c.objectID("we_"), Object: "webhook_endpoint", APIVersion: apiVersion, Created: c.now().Unix(),
		EnabledEvents: events, Metadata: map[string]string{}, Status: endpointEnabled, URL: url, secret: secret,
	}
	c.endpoints.add(ep.ID, ep)
	return ep
}

func webhookEndpointRoutes() []route {
	return []route{
		{"POST /v1/webhook_endpoints", "webhook_endpoints.create", createEndpoint},
		{"GET /v1/webhook_endpoints", "webhook_endpoints.list", listEndpoints},
		{"GET /v1/webhook_endpoints/{id}", "webhook_endpoints.retrieve", retrieveEndpoint},
		{"POST /v1/webhook_endpoints/{id}", "webhook_endpoints.update", updateEndpoint},
		{"DELETE /v1/webhook_endpoints/{id}", "webhook_endpoints.delete", deleteEndpoint},
	}
}

func (p *params) enabledEvents() []string {
	known := regexp.MustCompile(`^(\*|[a-z0-9_]+(\.[a-z0-9_]+)+)$`)
	events := p.list("enabled_events")
	for _, e := range events {
		if !known.MatchString(e) {
			p.fail(badParam("", "enabled_events", "Invalid enabled_events: '%s' is not a type of event.", e))
		}
	}
	return events
}

func createEndpoint(c *call) (any, *apiError) {
	p := c.params
	url := p.httpURL("url", true)
	events := p.enabledEvents()
	if len(events) == 0 {
		p.fail(missingParam("enabled_events"))
	}
	version := p.text("api_version")
	description := p.textMax("description", 5000)
	metadata := p.metadata()
	p.ignore("connect")
	if err := p.done(); err != nil {
		return nil, err
	}
	ep := c.addEndpoint(url, c.newID("whsec_", 32), events)
	ep.APIVersion = nullable(orDefault(version, apiVersion))
	ep.Description = nullable(description)
	ep.Metadata = metadata.apply(nil)
	shown := *ep
	shown.Secret = ep.secret
	return &shown, nil
}

func retrieveEndpoint(c *call) (any, *apiError) {
	if err := c.params.done(); err != nil {
		return nil, err
	}
	return c.endpoint()
}

func (c *call) endpoint() (*webhookEndpoint, *apiError) {
	ep, ok := c.endpoints.find(c.id)
	if !ok {
		return nil, noSuch(404, "webhook endpoint", c.id, "id")
	}
	return ep, nil
}

func updateEndpoint(c *call) (any, *apiError) {
	p := c.params
	url := p.httpURL("url", false)
	events := p.enabledEvents()
	disabled, sent := p.boolean("disabled")
	metadata := p.metadata()
	description, described := p.value("description")
	if err := p.done(); err != nil {
		return nil, err
	}
	ep, err := c.endpoint()
	if err != nil {
		return nil, err
	}
	ep.URL = orDefault(url, ep.URL)
	if len(events) > 0 {
		ep.EnabledEvents = events
	}
	if described {
		ep.Description = nullable(description)
	}
	if sent && disabled {
		ep.Status = endpointDisabled
	} else if sent {
		ep.Status = endpointEnabled
	}
	ep.Metadata = metadata.apply(ep.Metadata)
	return ep, nil
}

func deleteEndpoint(c *call) (any, *apiError) {
	if err := c.params.done(); err != nil {
		return nil, err
	}
	ep, err := c.endpoint()
	if err != nil {
		return nil, err
	}
	for _, d := range ep.queue {
		c.giveUp(d)
	}
	ep.queue = nil
	c.endpoints.remove(ep.ID)
	return deletedObject{ID: ep.ID, Object: ep.Object, Deleted: true}, nil
}

func listEndpoints(c *call) (any, *apiError) {
	return listOf(c, &c.endpoints, "/v1/webhook_endpoints", "webhook endpoint",
		func(e *webhookEndpoint) int64 { return e.Created }, func(*webhookEndpoint) bool { return true })
}
