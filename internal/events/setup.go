package events

import "time"

// Setup is the snapshot of a hosted page that saves a method without taking money.
type Setup struct {
	Base
	ReturnURL         string       `json:"returnURL"`
	ProviderSessionID string       `json:"providerSessionId,omitempty"`
	URL               string       `json:"url,omitempty"` // dropped once final
	Status            SessionState `json:"status"`
	PaymentMethodID   string       `json:"paymentMethodId,omitempty"` // once completed
	ExpiresAt         *time.Time   `json:"expiresAt,omitempty"`       // the provider's
	Failure           *Failure     `json:"failure,omitempty"`
	CommandDigest     string       `json:"commandDigest"`
}

// SetupInput is something that a setup's next event is decided from.
type SetupInput interface{ setupInput() }

// CreateSetup is the command payment_method.attach.
type CreateSetup struct {
	ID            string
	ProviderID    string
	ReturnURL     string
	CommandDigest string
}

// SetupSessionObserved is what the provider said about the setup's session.
type SetupSessionObserved struct{ Session Session }

// SetupIntentObserved is what the provider said about the saving itself.
type SetupIntentObserved struct{ Report SetupReport }

// SetupRejected says that the session can't be made.
type SetupRejected struct{ Failure Failure }

func (CreateSetup) setupInput()          {}
func (SetupSessionObserved) setupInput() {}
func (SetupIntentObserved) setupInput()  {}
func (SetupRejected) setupInput()        {}

// DecideSetup answers a setup's next event, nil for nothing to do, or an [*Error] (idempotency_conflict). A session
// that is complete without naming the saved method leads to setup.refresh_requested: ingest can't ask the provider,
// the worker can.
func DecideSetup(last *Event, in SetupInput, c Cause) (*Event, error) {
	if create, ok := in.(CreateSetup); ok {
		return createSetup(last, create, c)
	}
	if last == nil || c.repeated(last) {
		return nil, nil
	}
	s := *last.Data.Setup
	s.UpdatedAt = c.at(last)
	switch in := in.(type) {
	case CreateSetup: // handled above
	case SetupSessionObserved:
		return s.observe(last, in.Session, c), nil
	case SetupIntentObserved:
		if !in.Report.Succeeded || in.Report.ProviderMethodID == "" || !s.Status.reaches(StateCompleted) {
			return nil, nil
		}
		return s.complete(last, in.Report.ProviderMethodID, c), nil
	case SetupRejected:
		if !s.Status.reaches(StateFailed) {
			return nil, nil
		}
		s.Status = StateFailed
		s.URL = ""
		s.Failure = &in.Failure
		return next(last, SetupFailed, s.ID, c, Data{Setup: &s}), nil
	}
	return nil, nil
}

func createSetup(last *Event, in CreateSetup, c Cause) (*Event, error) {
	if last != nil {
		if last.Data.Setup.CommandDigest != in.CommandDigest {
			return nil, errConflict()
		}
		return nil, nil
	}
	now := c.at(nil)
	s := Setup{
		Base:      Base{ID: in.ID, CustomerID: c.Customer.ID, ProviderID: in.ProviderID, CreatedAt: now, UpdatedAt: now},
		ReturnURL: in.ReturnURL, Status: StateRequested, CommandDigest: in.CommandDigest,
	}
	return next(nil, SetupRequested, s.ID, c, Data{Setup: &s}), nil
}

func (s Setup) complete(last *Event, providerMethodID string, c Cause) *Event {
	s.Status = StateCompleted
	s.URL = ""
	s.Failure = nil
	s.PaymentMethodID = PaymentMethodID(s.ProviderID, providerMethodID)
	return next(last, SetupCompleted, s.ID, c, Data{Setup: &s})
}

func (s Setup) observe(last *Event, o Session, c Cause) *Event {
	if s.ProviderSessionID != "" && s.ProviderSessionID != o.ID && o.Status != SessionComplete {
		return nil
	}
	switch o.Status {
	case SessionComplete:
		if s.Status == StateCompleted {
			return nil
		}
		s.ProviderSessionID = o.ID
		if o.ProviderMethodID != "" {
			return s.complete(last, o.ProviderMethodID, c)
		}
		if last.Type == SetupRefreshRequested {
			return nil // asked already
		}
		return next(last, SetupRefreshRequested, s.ID, c, Data{Setup: &s})
	case SessionExpired:
		if !s.Status.reaches(StateExpired) {
			return nil
		}
		s.Status = StateExpired
		s.URL = ""
		s.ProviderSessionID = o.ID
		return next(last, SetupExpired, s.ID, c, Data{Setup: &s})
	case SessionOpen:
		if !s.Status.reaches(StateCreated) {
			return nil
		}
		s.Status = StateCreated
		s.URL = o.URL
		s.ProviderSessionID = o.ID
		s.ExpiresAt = timePtr(o.ExpiresAt)
		return next(last, SetupCreated, s.ID, c, Data{Setup: &s})
	}
	return nil
}
