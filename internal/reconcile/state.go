package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// state is the LOG as last read: the last event of each entity, and the ways to it from the provider's ids.
type state struct {
	log        *eventlog.Log
	providerID string
	last       map[string]eventlog.Entry // by entity id
	payments   map[string]string         // the provider's payment → charge
	charges    map[string]string         // the provider's charge → charge
	accounts   map[string]string         // the provider's customer → provider account, also of the past
	damaged    map[string]uint64         // entities whose newest event can't be read → its sequence
	problems   []Problem
}

// historyPage is how many events are asked for at once.
const historyPage = 5000

func newState(log *eventlog.Log, providerID string) *state {
	return &state{
		log: log, providerID: providerID, last: map[string]eventlog.Entry{},
		payments: map[string]string{}, charges: map[string]string{}, accounts: map[string]string{}, damaged: map[string]uint64{},
	}
}

// load reads the LOG from the first event to the last. It needs no consumer, so whoever may read the LOG can do it. An event
// that can't be read is noted and read past: it is no reason to compare nothing.
func (s *state) load(ctx context.Context) error {
	for from := uint64(1); ; {
		list, err := s.log.History(ctx, eventlog.HistoryFilter{}, from, historyPage)
		bad, unreadable := errors.AsType[*eventlog.UnreadableError](err)
		if err != nil && !unreadable {
			return fmt.Errorf("read the log: %w", err)
		}
		for _, e := range list {
			s.put(e)
			from = e.Sequence + 1
		}
		switch {
		case unreadable:
			s.unreadable(bad)
			from = bad.Sequence + 1
		case len(list) < historyPage:
			return nil
		}
	}
}

// unreadable notes an event that can't be read. Until a later one of its entity is, what is known of that entity is old.
func (s *state) unreadable(bad *eventlog.UnreadableError) {
	p := Problem{Sequence: bad.Sequence, Problem: "the log holds an event that can't be read; \"paykit verify\" says more"}
	if tokens := strings.Split(bad.Subject, "."); len(tokens) == subjectTokens {
		p.Entity, p.ID = tokens[2], tokens[4]
		s.damaged[p.ID] = max(s.damaged[p.ID], bad.Sequence)
	}
	if !slices.ContainsFunc(s.problems, func(known Problem) bool { return known.Sequence == p.Sequence }) {
		s.problems = append(s.problems, p)
	}
}

// subjectTokens are those of a subject in the LOG: <prefix>.log.<entity>.<event>.<entity id>.<customer id>.
const subjectTokens = 6

// put takes in an entity's newest event.
func (s *state) put(e eventlog.Entry) {
	ev := e.Event
	if ev == nil || e.Sequence < s.last[ev.Subject].Sequence {
		return
	}
	e.Raw = nil
	if e.Sequence > s.damaged[ev.Subject] {
		delete(s.damaged, ev.Subject)
	}
	switch ev.Entity() {
	case events.EntityCharge:
		c := ev.Data.Charge
		if c.ProviderID != s.providerID {
			return
		}
		if c.ProviderPaymentID != "" {
			s.payments[c.ProviderPaymentID] = c.ID
		}
		if c.ProviderChargeID != "" {
			s.charges[c.ProviderChargeID] = c.ID
		}
	case events.EntityProviderAccount:
		if a := ev.Data.ProviderAccount; a.ProviderID == s.providerID {
			s.accounts[a.ProviderCustomerID] = a.ID
		}
	case events.EntityCustomer, events.EntityCheckout, events.EntitySetup, events.EntityPaymentMethod:
	case events.EntityCommand:
		return
	}
	s.last[ev.Subject] = e
}

// refresh reads an entity's last event again, from whoever knows it for sure.
func (s *state) refresh(ctx context.Context, ids ...string) error {
	for _, id := range ids {
		entity, ok := events.EntityOf(id)
		if !ok {
			continue
		}
		e, err := s.log.LoadFromLeader(ctx, entity, id)
		if errors.Is(err, eventlog.ErrNotFound) {
			continue
		}
		if bad, unreadable := errors.AsType[*eventlog.UnreadableError](err); unreadable {
			s.unreadable(bad)
			continue
		}
		if err != nil {
			return err //nolint:wrapcheck // says what it was
		}
		s.put(e)
	}
	return nil
}

func (s *state) event(id string) *events.Event { return s.last[id].Event }

// charge gives a charge's snapshot, nil if there is none.
func (s *state) charge(id string) *events.Charge {
	if e := s.event(id); e != nil {
		return e.Data.Charge
	}
	return nil
}

// chargeOf finds the charge that the LOG has for a payment or a provider's charge, nil if none.
func (s *state) chargeOf(paymentID, chargeID string) *events.Charge {
	if id, ok := s.payments[paymentID]; ok && paymentID != "" {
		return s.charge(id)
	}
	if id, ok := s.charges[chargeID]; ok && chargeID != "" {
		return s.charge(id)
	}
	return nil
}

// linkedTo gives the customer whose linked account a provider's customer is, nil if none.
func (s *state) linkedTo(providerCustomerID string) *events.Customer {
	e := s.event(s.accounts[providerCustomerID])
	if e == nil || e.Data.ProviderAccount.Status != events.AccountLinked || e.Data.ProviderAccount.ProviderCustomerID != providerCustomerID {
		return nil
	}
	if c := s.event(e.CustomerID()); c != nil {
		return &c.Data.Customer
	}
	return nil
}
