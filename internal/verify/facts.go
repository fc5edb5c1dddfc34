package verify

import (
	"hash/maphash"
	"time"

	"github.com/paykit-go/paykit/internal/events"
)

// rule says how a field of a snapshot may change from event to event.
type rule int

const (
	free   rule = iota // as it likes
	frozen             // never
	kept               // once it has a value, never
	grows              // upward only
)

// fact is a field of a snapshot and its rule. The value is a number, or the hash of a text; 0 is none.
type fact struct {
	name  string
	rule  rule
	value uint64
}

// seed is one for the whole program: hashes are compared within it only.
var seed = maphash.MakeSeed() //nolint:gochecknoglobals // never changes

func text(name string, r rule, s string) fact {
	f := fact{name: name, rule: r}
	if s != "" {
		f.value = maphash.String(seed, s)
	}
	return f
}

func number(name string, r rule, n int64) fact { return fact{name: name, rule: r, value: uint64(n)} } //nolint:gosec // G115: amounts are not negative, else reported

func moment(name string, r rule, t *time.Time) fact {
	if t == nil {
		return fact{name: name, rule: r}
	}
	return number(name, r, t.UnixMilli())
}

func flag(name string, r rule, b bool) fact {
	f := fact{name: name, rule: r}
	if b {
		f.value = 1
	}
	return f
}

// facts holds a snapshot's facts against those of the event before. Every entity of one kind has the same ones in the
// same order.
func (s *step) facts(b events.Base, list ...fact) {
	list = append(list, text("customerId", frozen, b.CustomerID), text("providerId", frozen, b.ProviderID), moment("createdAt", frozen, &b.CreatedAt))
	s.is.values = make([]uint64, len(list))
	for i, f := range list {
		s.is.values[i] = f.value
		if s.was == nil || s.was.values == nil {
			continue
		}
		before := s.was.values[i]
		switch {
		case f.rule == frozen && f.value != before, f.rule == kept && before != 0 && f.value != before:
			how := "changed"
			if f.value == 0 {
				how = "vanished"
			}
			s.problem("%s %s since sequence %d", f.name, how, s.was.sequence)
		case f.rule == grows && f.value < before:
			s.problem("%s went back since sequence %d", f.name, s.was.sequence)
		}
	}
}

// ladder orders statuses: their rank from 1 up, 0 for a word that is none. Statuses of the rank swap may replace each
// other.
type ladder struct {
	rank func(status string) int
	swap int
}

// statusIs checks a status: sets is the one that the event's type leads to, "" for a type that leaves it as it is.
func (s *step) statusIs(status, sets string, l ladder) {
	s.is.status = status
	rank := l.rank(status)
	if rank == 0 {
		s.problem("there is no status %q", status)
		return
	}
	if sets != "" && status != sets {
		s.problem("status is %s after %s", status, s.ev.Type)
	}
	if s.was == nil || s.was.status == "" {
		return
	}
	before := s.was.status
	switch was := l.rank(before); {
	case rank < was:
		s.problem("status went back from %s to %s since sequence %d", before, status, s.was.sequence)
	case status != before && rank == was && rank != l.swap:
		s.problem("status changed from %s to %s since sequence %d: the first stays", before, status, s.was.sequence)
	case status != before && sets == "":
		s.problem("status changed from %s to %s by %s", before, status, s.ev.Type)
	case status == before && sets != "":
		s.problem("%s again: the status was %s at sequence %d", s.ev.Type, before, s.was.sequence)
	}
}

// claim takes what belongs to one entity only and reports another that has it. It answers the claim.
func (s *step) claim(kind, providerID, id string) uint64 {
	if id == "" {
		return 0
	}
	key := maphash.String(seed, kind+" "+providerID+" "+id)
	switch owner := s.claims[key]; owner {
	case "":
		s.claims[key] = s.ev.Subject
	case s.ev.Subject:
	default:
		s.problem("the provider's %s %s is also of %s", kind, id, owner)
	}
	return key
}
