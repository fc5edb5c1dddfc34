package events

import "slices"

// FraudWarning is an early warning of a charge: the card's issuer says that it may be fraudulent, before any dispute. A
// refund in time can spare the dispute and its fee. Source: https://docs.stripe.com/disputes/measuring#early-fraud-warnings
type FraudWarning struct {
	ProviderWarningID string `json:"providerWarningId"`
	Type              string `json:"type,omitempty"` // the provider's word, "unauthorized_use_of_card"
	Actionable        bool   `json:"actionable"`     // neither disputed nor fully refunded yet
}

// FraudWarningObserved is what a provider said about one early fraud warning.
type FraudWarningObserved struct{ Report FraudWarningReport }

func (FraudWarningObserved) chargeInput() {}

// observeFraudWarning takes in a warning: charge.fraud_warned when it is new, and when nothing is left to be done about
// it. That it could be acted on once does not come back, whatever the order of the reports.
func observeFraudWarning(last *Event, in FraudWarningObserved, c Cause) (*Event, error) {
	if last == nil {
		return nil, ErrNoCharge
	}
	s := copyCharge(last)
	if s.Status != ChargeStatusSucceeded {
		return nil, ErrNoCharge
	}
	warning := FraudWarning{ProviderWarningID: in.Report.ID, Type: in.Report.Type, Actionable: in.Report.Actionable}
	i := slices.IndexFunc(s.FraudWarnings, func(known FraudWarning) bool {
		return known.ProviderWarningID == warning.ProviderWarningID
	})
	switch {
	case i < 0:
		s.FraudWarnings = append(s.FraudWarnings, warning)
	case s.FraudWarnings[i].Actionable && !warning.Actionable:
		s.FraudWarnings[i] = warning
	default:
		return nil, nil
	}
	e := s.next(last, ChargeFraudWarned, c)
	e.Data.FraudWarning = &warning
	return e, nil
}
