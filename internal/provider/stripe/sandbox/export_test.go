package sandbox

import (
	"maps"
	"os"
	"reflect"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// KillNow copies the state file to path as it is at this moment, as a kill would leave it, and says how a sandbox that
// starts on another copy differs from this one: in what it knows, in what it shows, in the order of things.
func (s *Server) KillNow(path string) (difference string, err error) {
	s.enter()
	defer s.leave()
	b, err := os.ReadFile(s.cfg.StateFile)
	if err != nil {
		return "", err
	}
	for _, file := range []string{path, path + ".started"} {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			return "", err
		}
	}
	cfg := s.cfg
	cfg.StateFile, cfg.BaseURL = path+".started", ""
	other, err := New(cfg)
	if err != nil {
		return "", err
	}
	defer other.Close()
	mine, theirs := contents(s), contents(other)
	everything := cmp.Exporter(func(reflect.Type) bool { return true })
	return cmp.Diff(mine, theirs, everything, cmpopts.EquateEmpty(),
		cmpopts.IgnoreFields(webhookEndpoint{}, "inFlight", "queue"), // what is on its way is due again
		cmpopts.IgnoreFields(delivery{}, "mixed"),
		cmpopts.IgnoreFields(intentError{}, "PaymentMethod"), // a copy to be shown
	), nil
}

// Rows is everything that the sandbox holds, one row a line.
func (s *Server) Rows() string {
	s.enter()
	defer s.leave()
	var b []byte
	for _, t := range s.stores() {
		for _, id := range t.ids() {
			b = append(t.appendRow(b, id), '\n')
		}
	}
	return string(b)
}

// contents is everything that must outlive the process, and how the API shows it.
func contents(s *Server) map[string]any {
	out := map[string]any{"seq": s.seq, "planned": len(s.planned)}
	put(out, &s.clock)
	put(out, &s.customers)
	put(out, &s.methods)
	put(out, &s.payments)
	put(out, &s.setups)
	put(out, &s.charges)
	put(out, &s.sessions)
	put(out, &s.refunds)
	put(out, &s.disputes)
	put(out, &s.warnings)
	put(out, &s.balances)
	put(out, &s.events)
	put(out, &s.endpoints)
	put(out, &s.deliveries)
	put(out, &s.tasks)
	put(out, &s.actions)
	put(out, &s.keys)
	delete(out, "order of actions")          // nobody lists them
	delete(out, "order of idempotency_keys") // the same
	delete(out, "seq")                       // what it numbered may be gone
	return out
}

func put[T any](out map[string]any, t *table[T]) {
	rows, shown, order := map[string]*T{}, map[string]string{}, []string{}
	for _, id := range t.order {
		v := t.peek(id)
		if p, ok := any(v).(passing); ok && p.passing() {
			continue
		}
		rows[id], shown[id], order = v, string(snapshot(v)), append(order, id)
	}
	maps.Copy(out, map[string]any{t.kind: rows, "shown of " + t.kind: shown, "order of " + t.kind: order})
}

// BreakState makes every later write of the state file fail.
func (s *Server) BreakState() error {
	s.enter()
	defer s.leave()
	f, err := os.Open(s.cfg.StateFile)
	if err != nil {
		return err
	}
	writable := s.state.f
	s.state.f = f
	return writable.Close()
}
