package explain

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// Width is the most columns of a line of a tree.
const Width = 100

// WriteTree writes a story for people: what led to what as a tree, with the time since the beginning of each. No line is
// longer than [Width]; what does not fit is cut. A ">" marks what was asked about. style, if not nil, dresses up a piece of text for a terminal.
func WriteTree(w io.Writer, s *Story, style func(kind Kind, text string) string) error {
	p := &printer{story: s, style: style, children: map[string][]Node{}, known: map[string]bool{}}
	for _, n := range s.Nodes {
		p.known[n.ID] = true
	}
	p.keys = commonKeys(s.Nodes)
	p.head()
	var roots []Node
	for _, n := range s.Nodes {
		if n.Parent != "" && p.known[n.Parent] {
			p.children[n.Parent] = append(p.children[n.Parent], n)
		} else {
			roots = append(roots, n)
		}
	}
	if len(s.Nodes) > 0 && !s.Nodes[0].Time.IsZero() {
		p.begin = s.Nodes[0].Time
		p.line("")
		p.line(p.begin.UTC().Format("2006-01-02 15:04:05.000") + " UTC")
	}
	for _, n := range roots {
		p.node(n, "", "")
	}
	p.foot()
	if _, err := io.WriteString(w, p.out.String()); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// textAt is the column in which the tree begins, behind the time, a mark and the kind.
const textAt = 10 + 2 + 8 + 1

type printer struct {
	story    *Story
	style    func(Kind, string) string
	children map[string][]Node
	known    map[string]bool
	begin    time.Time
	keys     string // what all idempotency keys begin with
	out      strings.Builder
}

func (p *printer) line(text string) {
	if utf8.RuneCountInString(text) > Width {
		text = string([]rune(text)[:Width-1]) + "…"
	}
	p.out.WriteString(strings.TrimRight(text, " ") + "\n")
}

// head says what the story is about.
func (p *printer) head() {
	s := p.story
	words := []string{s.EntityID}
	if s.RefundID != "" {
		words = []string{s.RefundID}
	}
	if s.EntityID == "" {
		words = []string{s.ID}
	}
	words = append(words, s.Status, s.Detail)
	text := strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " ")
	p.line(text)
	if s.RefundID != "" {
		p.line("of " + s.EntityID)
	}
	if s.CustomerID != "" && s.CustomerID != s.EntityID {
		p.line("customer " + s.CustomerID + " (" + s.ReferenceID + ")")
	} else if s.ReferenceID != "" {
		p.line("referenceId " + s.ReferenceID)
	}
	for _, note := range s.Notes {
		p.line("note: " + note)
	}
	if p.keys != "" {
		p.line("idempotency keys: … stands for " + p.keys)
	}
}

// foot lists what else the story touches.
func (p *printer) foot() {
	if len(p.story.References) == 0 {
		return
	}
	p.line("")
	for _, r := range p.story.References {
		p.line(fmt.Sprintf("%-17s %s  %-10s %s", strings.ReplaceAll(string(r.Entity), "_", " "), r.ID, r.Status, r.Detail))
	}
}

// commonKeys is what the keys of all calls have in common up to a colon, "paykit:<environment>:"; "" for none.
func commonKeys(nodes []Node) string {
	common := ""
	for _, n := range nodes {
		if n.Call == nil || n.Call.IdempotencyKey == "" {
			continue
		}
		parts := strings.SplitN(n.Call.IdempotencyKey, ":", 3)
		if len(parts) < 3 {
			return ""
		}
		start := parts[0] + ":" + parts[1] + ":"
		if common != "" && common != start {
			return ""
		}
		common = start
	}
	return common
}

// node prints a node and what followed from it. branch is what stands before its own text, stem before what follows.
func (p *printer) node(n Node, branch, stem string) {
	first, detail, more := p.text(n)
	if detail != "" { // on one line where it fits
		if one := first + "  " + detail; utf8.RuneCountInString(one)+textAt+utf8.RuneCountInString(branch) <= Width {
			first = one
		} else {
			more = append([]string{detail}, more...)
		}
	}
	following := p.children[n.ID]
	at := ""
	if !n.Time.IsZero() {
		at = offset(n.Time.Sub(p.begin))
	}
	kind := fmt.Sprintf("%-8s", n.Kind)
	mark := " "
	if n.Asked {
		mark = ">"
	}
	p.dressed(n.Kind, fmt.Sprintf("%10s %s", at, mark), kind, " "+branch+first)
	rest := stem
	if len(following) > 0 {
		rest += "│ "
	} else {
		rest += "  "
	}
	for _, line := range more {
		for _, part := range wrapped(line, Width-textAt-utf8.RuneCountInString(rest)) {
			p.line(strings.Repeat(" ", textAt) + rest + part)
		}
	}
	for i, child := range following {
		if i < len(following)-1 {
			p.node(child, stem+"├─ ", stem+"│  ")
		} else {
			p.node(child, stem+"└─ ", stem+"   ")
		}
	}
}

// wrapped breaks a line that is too long behind a colon, where the parts of a key end, or a space.
func wrapped(line string, room int) []string {
	const indent = "    "
	var list []string
	for utf8.RuneCountInString(line) > room {
		head := string([]rune(line)[:room])
		at := strings.LastIndexAny(head, ": ") + 1
		if at <= len(indent) {
			break
		}
		list, line = append(list, head[:at]), indent+line[at:]
	}
	return append(list, line)
}

// dressed prints a line whose kind is dressed up, which takes no columns.
func (p *printer) dressed(k Kind, before, kind, after string) {
	if p.style == nil {
		p.line(before + kind + after)
		return
	}
	room := Width - utf8.RuneCountInString(before+kind)
	if text := []rune(after); len(text) > room {
		after = string(text[:room-1]) + "…"
	}
	p.out.WriteString(before + p.style(k, kind) + strings.TrimRight(after, " ") + "\n")
}

// text is a node in a line, what else matters, and what stands below it.
func (p *printer) text(n Node) (first, detail string, more []string) {
	switch n.Kind {
	case KindCommand:
		return words(n.Type, n.ID), "", nil
	case KindEvent:
		if n.EntityID != "" {
			return words(n.Type, n.EntityID, "#"+number(n.Sequence)), "", nil
		}
		return words(n.Type, "v"+strconv.Itoa(n.Version), "#"+number(n.Sequence), n.ID), n.Detail, nil
	case KindCall:
		return callText(n.Call, p.keys)
	case KindDelivery:
		result := n.Result
		if len(n.LedTo) > 0 {
			result = "→ " + strings.Join(n.LedTo, ", ")
		} else if result == "changed" {
			result = ""
		}
		return words(n.Type, n.ID), result, nil
	case KindDead:
		return words(n.ID, "set aside by", n.Stage+":", n.Letter), n.Reason, nil
	case KindView:
		return words(strings.TrimPrefix(n.ID, "view "), "as of", "#"+number(n.Sequence), n.Status), "", nil
	}
	return n.ID, "", nil
}

// longID is how long an id of the provider's may be to share a line.
const longID = 40

func callText(c *eventlog.Call, keys string) (first, detail string, more []string) {
	outcome := c.Outcome
	if c.Status != 0 {
		outcome = words(strconv.Itoa(c.Status), outcome)
	}
	first = words(c.Operation, "attempt", strconv.Itoa(c.Attempt), " "+outcome, " "+took(c.DurationMs))
	detail = words(c.Code, c.DeclineCode)
	if c.Replayed {
		detail = words(detail, "replayed")
	}
	switch asked := words(c.RequestID, "→", c.ObjectID); {
	case c.ObjectID == "" && c.RequestID == "":
	case c.ObjectID == "":
		more = append(more, c.RequestID)
	case len(c.ObjectID) <= longID:
		more = append(more, asked)
	default: // a session's id takes a line
		more = append(more, c.RequestID, "→ "+c.ObjectID)
	}
	if c.IdempotencyKey != "" {
		more = append(more, "key …"+strings.TrimPrefix(c.IdempotencyKey, keys))
	}
	return first, detail, more
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

// words joins what is not empty.
func words(list ...string) string {
	return strings.Join(slices.DeleteFunc(list, func(w string) bool { return w == "" }), " ")
}

// offset is a time since the beginning, the coarser the longer it is.
func offset(d time.Duration) string {
	sign := "+"
	if d < 0 {
		sign, d = "-", -d
	}
	switch {
	case d < 100*time.Second:
		return fmt.Sprintf("%s%.3f s", sign, d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%s%dm%02ds", sign, int(d.Minutes()), int(d.Seconds())%60)
	case d < 100*time.Hour:
		return fmt.Sprintf("%s%dh%02dm", sign, int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%s%dd%02dh", sign, int(d.Hours())/24, int(d.Hours())%24)
}
