package sandbox

const (
	defaultPage = 10
	maxPage     = 100
)

// page is Stripe's list object.
type page[T any] struct {
	Object  string `json:"object"`
	Data    []*T   `json:"data"`
	HasMore bool   `json:"has_more"`
	URL     string `json:"url"`
}

// timeRange is the filter created, as a moment or as bounds.
type timeRange struct {
	gt, gte, lt, lte, exact *int64
}

func (p *params) timeRange(name string) timeRange {
	n := p.kid(name)
	if n == nil {
		return timeRange{}
	}
	read := func(from *params, field string) *int64 {
		if v, ok := from.integer(field); ok {
			return &v
		}
		return nil
	}
	if n.leaf {
		return timeRange{exact: read(p, name)}
	}
	r := p.sub(name)
	return timeRange{gt: read(r, "gt"), gte: read(r, "gte"), lt: read(r, "lt"), lte: read(r, "lte")}
}

func (r timeRange) holds(t int64) bool {
	return (r.exact == nil || t == *r.exact) && (r.gt == nil || t > *r.gt) && (r.gte == nil || t >= *r.gte) &&
		(r.lt == nil || t < *r.lt) && (r.lte == nil || t <= *r.lte)
}

// cursor is the paging of a list: limit, and the id after or before which it stands.
type cursor struct {
	limit         int
	after, before string
}

func (p *params) cursor() cursor {
	cur := cursor{limit: defaultPage, after: p.text("starting_after"), before: p.text("ending_before")}
	if v, ok := p.integer("limit"); ok {
		if v < 1 || v > maxPage {
			p.fail(badParam(codeInvalidInteger, "limit", "This value must be between 1 and %d.", maxPage))
			v = defaultPage
		}
		cur.limit = int(v)
	}
	if cur.after != "" && cur.before != "" {
		p.fail(badParam("", "ending_before", "You may only specify one of these parameters: ending_before, starting_after."))
	}
	return cur
}

// listOf answers a list request: reads the paging and the created filter, refuses what is unknown, then pages through
// the table, newest first. The handler has read its own filters before.
func listOf[T any](c *call, t *table[T], url, kind string, created func(*T) int64, keep func(*T) bool) (any, *apiError) {
	cur := c.params.cursor()
	within := c.params.timeRange("created")
	if err := c.params.done(); err != nil {
		return nil, err
	}
	for param, id := range map[string]string{"starting_after": cur.after, "ending_before": cur.before} {
		if id != "" && t.peek(id) == nil {
			return nil, noSuch(400, kind, id, param)
		}
	}
	out := page[T]{Object: "list", Data: []*T{}, URL: url}
	passed := cur.after == ""
	for id, v := range t.all {
		if id == cur.before {
			break
		}
		if passed && within.holds(created(v)) && keep(v) {
			out.Data = append(out.Data, v)
		}
		if id == cur.after {
			passed = true
		}
		// Forwards, one more than the page tells that there is more. Backwards the page is the last of what comes before.
		if cur.before == "" && len(out.Data) > cur.limit {
			break
		}
	}
	if len(out.Data) > cur.limit {
		out.HasMore = true
		if cur.before == "" {
			out.Data = out.Data[:cur.limit]
		} else {
			out.Data = out.Data[len(out.Data)-cur.limit:]
		}
	}
	return out, nil
}
