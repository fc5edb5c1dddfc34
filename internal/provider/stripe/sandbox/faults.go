package sandbox

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// The kinds of faults, and the moments at which they strike.
const (
	faultDrop   = "drop"   // the connection closes without an answer
	faultCut    = "cut"    // headers and half of the body, then the connection closes
	faultReset  = "reset"  // a TCP reset
	faultStatus = "status" // another status, with Stripe's error body for it
	faultDelay  = "delay"  // a slow answer

	faultBefore = "before" // nothing executed, nothing stored under the key (delay: the execution waits)
	faultAfter  = "after"  // executed and committed (delay: the answer waits)
)

// maxFaultDelay bounds an injected delay, so that a forgotten fault cannot hold a caller for ever.
const maxFaultDelay = 10 * time.Minute

// fault is one injected failure, as posted to /_sandbox/faults. Guarded by Server.mu, except that a fault handed to a
// request is a copy.
type fault struct {
	ID        string            `json:"id"`
	Operation string            `json:"operation"`
	Customer  string            `json:"customer,omitempty"`
	Nth       int               `json:"nth"`
	Times     int               `json:"times"`
	Kind      string            `json:"kind"`
	Status    int               `json:"status,omitempty"`
	Code      string            `json:"code,omitempty"`
	Headers   map[string]string `json:"headers,omitempty"`
	When      string            `json:"when"`
	Stored    bool              `json:"stored,omitempty"` // of a status before: kept under the key, though nothing was executed
	Delay     string            `json:"delay,omitempty"`
	Calls     int               `json:"calls"` // matching calls since the fault was posted
	Hits      int               `json:"hits"`  // how many of them it struck

	wait time.Duration // Delay, parsed
}

// complete fills in what was left out and refuses what makes no sense.
func (f *fault) complete() error {
	f.Nth = max(1, f.Nth)
	f.Times = max(1, f.Times)
	f.When = orDefault(f.When, faultBefore)
	f.Calls, f.Hits = 0, 0
	switch {
	case f.Operation != "*" && !slices.Contains(operations(), f.Operation):
		return fmt.Errorf("unknown operation %q: one of * %v", f.Operation, operations())
	case f.Stored && (f.Kind != faultStatus || f.When != faultBefore):
		return errors.New("stored goes with kind status and when before")
	case f.When != faultBefore && f.When != faultAfter:
		return fmt.Errorf("when is %q: before or after", f.When)
	}
	switch f.Kind {
	case faultDrop, faultCut, faultReset:
	case faultStatus:
		f.Status = orDefault(f.Status, http.StatusInternalServerError)
		if f.Status < 400 || f.Status > 599 {
			return fmt.Errorf("status is %d: 400 to 599", f.Status)
		}
	case faultDelay:
		d, err := time.ParseDuration(f.Delay)
		if err != nil || d < 0 || d > maxFaultDelay {
			return fmt.Errorf("delay is %q: a duration up to %s, like 3s", f.Delay, maxFaultDelay)
		}
		f.wait = d
	default:
		return fmt.Errorf("kind is %q: drop, cut, reset, status or delay", f.Kind)
	}
	return nil
}

// matchFault counts this call for every fault it matches and returns a copy of the first that strikes it, or nil.
// Called with mu held.
func (s *Server) matchFault(operation string, c *call) *fault {
	var struck *fault
	customer, resolved := "", false
	for _, f := range s.faults {
		if f.Operation != "*" && f.Operation != operation {
			continue
		}
		if f.Customer != "" {
			if !resolved {
				customer, resolved = c.actsFor(), true
			}
			if customer != f.Customer {
				continue
			}
		}
		f.Calls++
		if struck == nil && f.Calls >= f.Nth && f.Calls < f.Nth+f.Times {
			f.Hits++
			hit := *f
			struck = &hit
		}
	}
	if struck != nil {
		s.cfg.Logger.Info().Str("fault", struck.ID).Str("operation", operation).Str("kind", struck.Kind).Str("when", struck.When).Msg("fault injected")
	}
	return struck
}

// breaks says whether the call's answer is spoilt at this moment.
func (f *fault) breaks(when string) bool { return f != nil && f.When == when && f.Kind != faultDelay }

// refuses says whether the call is broken before anything is known of it, its key included.
func (f *fault) refuses() bool { return f.breaks(faultBefore) && !f.Stored }

// fails says whether the call ends in an error that is kept under its key, without being executed: after a 500 of
// Stripe's nobody knows whether it was.
func (f *fault) fails() bool { return f.breaks(faultBefore) && f.Stored }

// delays says whether the call waits at this moment.
func (f *fault) delays(when string) bool { return f != nil && f.When == when && f.Kind == faultDelay }

// becomes500 says whether the executed call is kept under its key as the server error that its caller sees: Stripe stores
// and replays a 500, so asking again with the key does not show what happened.
func (f *fault) becomes500() bool {
	return f.breaks(faultAfter) && f.Kind == faultStatus && f.Status == http.StatusInternalServerError
}

// strike answers a in the fault's broken way. It does not return for drop and cut: aborting the handler is net/http's
// way to close a connection without a complete answer.
func (f *fault) strike(w http.ResponseWriter, a answer) {
	switch f.Kind {
	case faultStatus:
		if !f.becomes500() {
			e := errorForStatus(f.Status, f.Code)
			a = answer{status: e.status, body: e.body()}
		}
		a.headers = f.Headers
		writeAnswer(w, a)
	case faultReset:
		if err := reset(w); err != nil {
			panic(http.ErrAbortHandler)
		}
	case faultCut:
		body := a.body
		if len(body) == 0 {
			body = []byte("{\n  \"id\": \"cut_before_execution\",\n  \"object\": \"none\"\n}\n")
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(orDefault(a.status, http.StatusOK))
		_, _ = w.Write(body[:len(body)/2]) // the caller may have gone already
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	default:
		panic(http.ErrAbortHandler)
	}
}

// reset closes the connection so that the caller sees a TCP reset.
func reset(w http.ResponseWriter) error {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return errors.Join(errors.New("not a TCP connection"), conn.Close())
	}
	return errors.Join(tcp.SetLinger(0), tcp.Close())
}

// actsFor names the customer that a call acts for: the one it names, or the one its object belongs to. Called with mu held.
func (c *call) actsFor() string {
	peek := func(name string) string {
		if n := c.params.kid(name); n != nil {
			return n.value
		}
		return ""
	}
	if id := peek("customer"); id != "" {
		return id
	}
	if _, ok := c.customers.find(c.id); ok {
		return c.id
	}
	for _, id := range []string{c.id, peek("payment_intent"), peek("charge"), peek("payment_method")} {
		if owner := c.ownerOf(id); owner != "" {
			return owner
		}
	}
	return ""
}

// ownerOf names the customer of any object. Called with mu held.
func (s *Server) ownerOf(id string) string {
	if o, ok := s.methods.find(id); ok {
		return string(o.Customer)
	}
	if o, ok := s.payments.find(id); ok {
		return string(o.Customer)
	}
	if o, ok := s.setups.find(id); ok {
		return string(o.Customer)
	}
	if o, ok := s.charges.find(id); ok {
		return string(o.Customer)
	}
	if o, ok := s.sessions.find(id); ok {
		return string(o.Customer)
	}
	if o, ok := s.refunds.find(id); ok {
		return s.ownerOf(o.Charge)
	}
	if o, ok := s.disputes.find(id); ok {
		return s.ownerOf(o.Charge)
	}
	if o, ok := s.warnings.find(id); ok {
		return s.ownerOf(o.Charge)
	}
	return ""
}
