package sandbox

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	maxFormDepth     = 8
	maxMetadataKeys  = 50
	maxMetadataKey   = 40
	maxMetadataValue = 500
	maxAmount        = 99_999_999
)

// node is one level of a nested form: a value, or children by name (list items by index).
type node struct {
	value string
	leaf  bool
	kids  map[string]*node
}

// form is a parsed request: the tree, what the handler has read of it, and the first thing wrong with it.
type form struct {
	root *node
	flat map[string]string // full name → value, e.g. "metadata[a]" → "b"
	used map[string]bool   // full names read so far; a name ending in "[" stands for everything below it
	err  *apiError
}

// parseForm decodes a query string or an urlencoded body. Stripe's encoding nests with brackets: a[b][0][c]=v; a[]=v appends.
func parseForm(raw string) (*form, *apiError) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, badParam("", "", "Invalid request body: it is not a valid URL encoded form.")
	}
	f := &form{root: &node{kids: map[string]*node{}}, flat: map[string]string{}, used: map[string]bool{}}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		for i, v := range values[key] {
			path := splitKey(key)
			if len(path) > maxFormDepth {
				return nil, badParam("", key, "Invalid parameter: %s is nested too deeply.", key)
			}
			if path[len(path)-1] == "" {
				path[len(path)-1] = strconv.Itoa(i)
			}
			if !f.root.put(path, v) {
				return nil, badParam("", path[0], "Invalid %s: it is given both as a value and as an object.", path[0])
			}
			f.flat[joinKey(path)] = v
		}
	}
	return f, nil
}

func splitKey(key string) []string {
	head, rest, nested := strings.Cut(key, "[")
	path := []string{head}
	for nested {
		var part string
		part, rest, _ = strings.Cut(rest, "]")
		_, rest, nested = strings.Cut(rest, "[")
		if part == "" && nested {
			part = "0" // a[][b]: some clients leave the index of a single item out
		}
		path = append(path, part)
	}
	return path
}

func joinKey(path []string) string {
	if len(path) == 1 {
		return path[0]
	}
	return path[0] + "[" + strings.Join(path[1:], "][") + "]"
}

func (n *node) put(path []string, value string) bool {
	for _, part := range path {
		if n.leaf {
			return false
		}
		if n.kids == nil {
			n.kids = map[string]*node{}
		}
		kid, ok := n.kids[part]
		if !ok {
			kid = &node{}
			n.kids[part] = kid
		}
		n = kid
	}
	if n.kids != nil {
		return false
	}
	n.value, n.leaf = value, true
	return true
}

// canonical is the same for two requests that mean the same, whatever the order of their parameters.
func (f *form) canonical() string {
	lines := make([]string, 0, len(f.flat))
	for k, v := range f.flat {
		lines = append(lines, strconv.Quote(k)+"="+strconv.Quote(v))
	}
	slices.Sort(lines)
	return strings.Join(lines, "&")
}

// params reads one level of a form. Handlers read every parameter they know, then ask done: what was not read is unknown.
// Reading never fails; the first wrong value is kept and reported by done, so a handler must not act before it.
type params struct {
	f      *form
	n      *node
	prefix string
}

func (f *form) params() *params { return &params{f: f, n: f.root} }

func (p *params) full(name string) string {
	if p.prefix == "" {
		return name
	}
	return p.prefix + "[" + name + "]"
}

func (p *params) fail(err *apiError) {
	if p.f.err == nil {
		p.f.err = err
	}
}

func (p *params) kid(name string) *node {
	if p == nil || p.n == nil {
		return nil
	}
	return p.n.kids[name]
}

// has says whether the parameter was sent, as a value or as an object.
func (p *params) has(name string) bool { return p.kid(name) != nil }

// value returns a plain parameter and whether it was sent; an empty one means "unset" to Stripe.
func (p *params) value(name string) (string, bool) {
	n := p.kid(name)
	if n == nil {
		return "", false
	}
	if !n.leaf {
		p.ignore(name)
		p.fail(badParam("", p.full(name), "Invalid string: {...}: %s must be a plain value.", p.full(name)))
		return "", false
	}
	p.f.used[p.full(name)] = true
	return n.value, true
}

// text is value without the distinction between empty and absent.
func (p *params) text(name string) string {
	v, _ := p.value(name)
	return v
}

// need is text that must be there.
func (p *params) need(name string) string {
	v, _ := p.value(name)
	if v == "" {
		p.fail(missingParam(p.full(name)))
	}
	return v
}

// set assigns a parameter that was sent to dst.
func (p *params) set(name string, dst *nullable) {
	if v, ok := p.value(name); ok {
		*dst = nullable(v)
	}
}

// integer reads a whole number.
func (p *params) integer(name string) (int64, bool) {
	v, ok := p.value(name)
	if !ok {
		return 0, false
	}
	i, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		p.fail(badParam(codeInvalidInteger, p.full(name), "Invalid integer: %s", v))
		return 0, false
	}
	return i, true
}

// amount reads a positive number of minor units.
func (p *params) amount(name string) (int64, bool) {
	i, ok := p.integer(name)
	switch {
	case !ok:
		return 0, false
	case i < 1:
		p.fail(badParam(codeInvalidInteger, p.full(name), "This value must be greater than or equal to 1."))
		return 0, false
	case i > maxAmount:
		p.fail(badParam("amount_too_large", p.full(name), "Amount must be no more than $999,999.99"))
		return 0, false
	}
	return i, true
}

// boolean reads true or false.
func (p *params) boolean(name string) (value, sent bool) {
	v, ok := p.value(name)
	if !ok {
		return false, false
	}
	switch v {
	case "true":
		return true, true
	case "false", "":
		return false, true
	}
	p.fail(badParam("", p.full(name), "Invalid boolean: %s", v))
	return false, false
}

// enum reads one of the allowed words, or "" when absent.
func (p *params) enum(name string, allowed ...string) string {
	v, ok := p.value(name)
	if !ok || v == "" || slices.Contains(allowed, v) {
		return v
	}
	p.fail(badParam("", p.full(name), "Invalid %s: must be one of %s", p.full(name), oneOf(allowed)))
	return ""
}

func oneOf(words []string) string {
	switch len(words) {
	case 1:
		return words[0]
	case 2:
		return words[0] + " or " + words[1]
	}
	return strings.Join(words[:len(words)-1], ", ") + ", or " + words[len(words)-1]
}

// list reads an array of plain values.
func (p *params) list(name string) []string {
	n := p.kid(name)
	if n == nil {
		return nil
	}
	if n.leaf {
		p.f.used[p.full(name)] = true
		if n.value != "" {
			p.fail(badParam("", p.full(name), "Invalid array"))
		}
		return nil
	}
	p.ignore(name)
	var out []string
	for _, k := range n.inOrder() {
		if !n.kids[k].leaf {
			p.fail(badParam("", p.full(name), "Invalid array"))
			return nil
		}
		out = append(out, n.kids[k].value)
	}
	return out
}

// inOrder lists the children by index, then by name.
func (n *node) inOrder() []string {
	keys := make([]string, 0, len(n.kids))
	for k := range n.kids {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int {
		i, errA := strconv.Atoi(a)
		j, errB := strconv.Atoi(b)
		if errA == nil && errB == nil {
			return i - j
		}
		return strings.Compare(a, b)
	})
	return keys
}

// sub reads an object. It is never nil; has tells whether it was sent.
func (p *params) sub(name string) *params {
	n := p.kid(name)
	if n != nil && n.leaf {
		p.f.used[p.full(name)] = true
		if n.value != "" {
			p.fail(badParam("", p.full(name), "Invalid object"))
		}
		n = nil
	}
	return &params{f: p.f, n: n, prefix: p.full(name)}
}

// items reads an array of objects.
func (p *params) items(name string) []*params {
	n := p.kid(name)
	if n == nil {
		return nil
	}
	if n.leaf {
		p.f.used[p.full(name)] = true
		p.fail(badParam("", p.full(name), "Invalid array"))
		return nil
	}
	var out []*params
	for _, k := range n.inOrder() {
		out = append(out, &params{f: p.f, n: n.kids[k], prefix: p.full(name) + "[" + k + "]"})
	}
	return out
}

// ignore accepts parameters of Stripe's that change nothing here.
func (p *params) ignore(names ...string) {
	for _, name := range names {
		p.f.used[p.full(name)] = true
		p.f.used[p.full(name)+"["] = true
	}
}

// metadata is a patch: keys to set, and keys with an empty value to remove. clear empties the whole map first.
type metadataPatch struct {
	clear bool
	keys  map[string]string
}

// metadata reads a metadata hash and checks Stripe's limits, except the number of keys that results.
func (p *params) metadata() metadataPatch {
	n := p.kid("metadata")
	if n == nil {
		return metadataPatch{}
	}
	p.ignore("metadata")
	if n.leaf {
		if n.value != "" {
			p.fail(badParam("", p.full("metadata"), "Invalid object"))
		}
		return metadataPatch{clear: true}
	}
	patch := metadataPatch{keys: map[string]string{}}
	for k, kid := range n.kids {
		param := p.full("metadata") + "[" + k + "]"
		switch {
		case !kid.leaf:
			p.fail(badParam("", param, "Invalid metadata value: it must be a string."))
		case len([]rune(k)) > maxMetadataKey:
			p.fail(badParam("", param, "Invalid metadata key: keys can have up to %d characters.", maxMetadataKey))
		case len([]rune(kid.value)) > maxMetadataValue:
			p.fail(badParam("", param, "Metadata values can have up to %d characters.", maxMetadataValue))
		}
		patch.keys[k] = kid.value
	}
	if len(patch.keys) > maxMetadataKeys {
		p.fail(badParam("", p.full("metadata"), "Metadata can have up to %d keys.", maxMetadataKeys))
	}
	return patch
}

// apply returns the map after the patch; old is not changed.
func (m metadataPatch) apply(old map[string]string) map[string]string {
	out := map[string]string{}
	if !m.clear {
		maps.Copy(out, old)
	}
	for k, v := range m.keys {
		if v == "" {
			delete(out, k)
		} else {
			out[k] = v
		}
	}
	return out
}

// checkMetadata refuses a patch that would leave too many keys.
func checkMetadata(old map[string]string, patch metadataPatch) *apiError {
	if len(patch.apply(old)) > maxMetadataKeys {
		return badParam("", "metadata", "Metadata can have up to %d keys.", maxMetadataKeys)
	}
	return nil
}

// done reports an unknown parameter, or the first wrong one, or nil.
func (p *params) done() *apiError {
	var unknown []string
	for name := range p.f.flat {
		if !p.f.known(name) {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return badParam(codeUnknownParam, unknown[0], "Received unknown parameter%s: %s", plural(unknown), strings.Join(unknown, ", "))
	}
	return p.f.err
}

func plural(names []string) string {
	if len(names) > 1 {
		return "s"
	}
	return ""
}

func (f *form) known(name string) bool {
	if f.used[name] {
		return true
	}
	for i, r := range name {
		if r == '[' && f.used[name[:i]+"["] {
			return true
		}
	}
	return false
}

// address, shipping and billing details share their shapes.
func (p *params) address(name string) *address {
	if !p.has(name) {
		return nil
	}
	a := p.sub(name)
	out := &address{}
	for field, dst := range map[string]*nullable{
		"city": &out.City, "country": &out.Country, "line1": &out.Line1, "line2": &out.Line2, "postal_code": &out.PostalCode, "state": &out.State,
	} {
		a.set(field, dst)
	}
	return out
}

// httpURL checks an absolute http or https address, which may hold Stripe's {CHECKOUT_SESSION_ID}.
func (p *params) httpURL(name string, required bool) string {
	v := p.text(name)
	if required {
		v = p.need(name)
	}
	if v == "" {
		return ""
	}
	u, err := url.Parse(strings.ReplaceAll(v, "{CHECKOUT_SESSION_ID}", "id"))
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		p.fail(badParam("url_invalid", p.full(name), "Not a valid URL"))
	case len(v) > 5000:
		p.fail(badParam("", p.full(name), "Invalid %s: URL must be 5000 characters or less.", p.full(name)))
	}
	return v
}

// textMax refuses text over a limit of characters.
func (p *params) textMax(name string, limit int) string {
	v := p.text(name)
	if n := len([]rune(v)); n > limit {
		p.fail(badParam("", p.full(name), "%s", fmt.Sprintf("Invalid string: %s is %d characters long; at most %d are allowed.", p.full(name), n, limit)))
	}
	return v
}
