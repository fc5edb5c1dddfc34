package provider

import (
	"context"
	"errors"
	"fmt"

	"github.com/paykit-go/paykit/internal/events"
)

func (w *Worker) updateSetup(ctx context.Context, r request, id string, in events.SetupInput) error {
	_, _, err := w.log.Update(ctx, events.EntitySetup, id, func(last *events.Event) (*events.Event, error) {
		return events.DecideSetup(last, in, w.cause(r))
	})
	if err != nil {
		return fmt.Errorf("update setup %s: %w", id, err)
	}
	return nil
}

// setupRequested makes the page on which a method is saved.
func (w *Worker) setupRequested(ctx context.Context, r request) error {
	e, err := w.subject(ctx, r)
	if err != nil {
		return err
	}
	set := e.Event.Data.Setup
	if set.Status != events.StateRequested {
		return nil
	}
	p, err := w.provider(set.ProviderID)
	if err != nil {
		return err
	}
	customer, err := w.customer(ctx, set.CustomerID)
	if err != nil {
		return err
	}
	if customer.Deleted() {
		return w.rejectSetup(ctx, r, set.ID, events.FailureCustomerDeleted)
	}
	s, err := w.session(ctx, r, p, SessionRequest{
		Setup: true, SuccessURL: set.ReturnURL, CancelURL: set.ReturnURL,
		Owner: events.Owner{Env: w.log.Env(), Customer: set.CustomerID, Setup: set.ID},
	}, set.ID)
	if refused(err) {
		w.logRefusal(r, err)
		return w.rejectSetup(ctx, r, set.ID, events.FailureProviderRejected)
	}
	if err != nil {
		return err // an unanswered call appends nothing: it is repeated with its key
	}
	if err := w.point("setup_created"); err != nil {
		return err
	}
	// A crash right before leaves a page that nobody has the address of; the next try's key answers with it.
	return w.updateSetup(ctx, r, set.ID, events.SetupSessionObserved{Session: s})
}

// rejectSetup ends a setup that can't be carried out. A crash right after leaves it ended and the request open: it
// comes again and finds nothing to do.
func (w *Worker) rejectSetup(ctx context.Context, r request, id, code string) error {
	return w.updateSetup(ctx, r, id, events.SetupRejected{Failure: events.NewFailure(code, "")})
}

// setupRefreshRequested asks which method a completed page saved: its delivery did not say.
func (w *Worker) setupRefreshRequested(ctx context.Context, r request) error {
	e, err := w.subject(ctx, r)
	if err != nil {
		return err
	}
	set := e.Event.Data.Setup
	if set.Status == events.StateCompleted {
		return nil
	}
	p, err := w.provider(set.ProviderID)
	if err != nil {
		return err
	}
	return w.lookAtSetup(ctx, r, p, set)
}

// lookAtSetup asks how a setup's page stands and, if it saved a method, for the method. The method comes first: a crash
// between the two leaves the setup open, so that the look is repeated, and not a completed setup without its method.
func (w *Worker) lookAtSetup(ctx context.Context, r request, p *guardedAPI, set *events.Setup) error {
	s, err := p.Session(ctx, set.ProviderSessionID)
	if err != nil {
		return err
	}
	if s.Status == events.SessionComplete && s.ProviderMethodID != "" {
		if err := w.observeMethod(ctx, r, p, s.ProviderMethodID); err != nil {
			return err
		}
	}
	return w.updateSetup(ctx, r, set.ID, events.SetupSessionObserved{Session: s})
}

// observeMethod asks for a method and takes it in if a customer has it.
func (w *Worker) observeMethod(ctx context.Context, r request, p *guardedAPI, providerMethodID string) error {
	if providerMethodID == "" {
		return nil
	}
	m, err := p.Method(ctx, providerMethodID)
	if notFound(err) {
		return nil // gone already
	}
	if err != nil {
		return err
	}
	if !m.Attached {
		return nil // used once and not saved
	}
	if _, err := w.applier.Observe(ctx, p.id, MethodSeen{Method: m}, r.event.ID); err != nil && !errors.Is(err, ErrOwnerUnknown) {
		return err
	}
	return nil
}
