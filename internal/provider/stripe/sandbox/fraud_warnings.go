package sandbox

import "net/http"

// earlyFraudWarning is the issuer's word that a payment may be fraudulent.
type earlyFraudWarning struct {
	ID            string   `json:"id"`
	Object        string   `json:"object"`
	Actionable    bool     `json:"actionable"`
	Charge        string   `json:"charge"`
	Created       int64    `json:"created"`
	FraudType     string   `json:"fraud_type"`
	Livemode      bool     `json:"livemode"`
	PaymentIntent nullable `json:"payment_intent"`
}

func fraudWarningRoutes() []route {
	return []route{
		{"GET /v1/radar/early_fraud_warnings", "early_fraud_warnings.list", listFraudWarnings},
		{"GET /v1/radar/early_fraud_warnings/{id}", "early_fraud_warnings.retrieve", retrieveFraudWarning},
	}
}

func (c *call) warnOfFraud(ch *charge) *earlyFraudWarning {
	f := &earlyFraudWarning{
		ID: c.objectID("issfr_"), Object: "radar.early_fraud_warning", Actionable: !ch.Refunded && !ch.Disputed, Charge: ch.ID,
		Created: c.now().Unix(), FraudType: "misc", PaymentIntent: ch.PaymentIntent,
	}
	c.warnings.add(f.ID, f)
	c.emit("radar.early_fraud_warning.created", f)
	return f
}

// spendWarnings takes a charge's warnings back once nothing is left to be done about them: it is fully refunded, or the
// dispute has come. Source: https://docs.stripe.com/api/radar/early_fraud_warnings/object
func (c *call) spendWarnings(ch *charge) {
	if !ch.Refunded && !ch.Disputed {
		return
	}
	for id, f := range c.warnings.all {
		if f.Charge != ch.ID || !f.Actionable {
			continue
		}
		f = c.warnings.get(id)
		before := snapshot(f)
		f.Actionable = false
		c.emitChange("radar.early_fraud_warning.updated", before, f)
	}
}

func retrieveFraudWarning(c *call) (any, *apiError) {
	if err := c.params.done(); err != nil {
		return nil, err
	}
	f, ok := c.warnings.find(c.id)
	if !ok {
		return nil, noSuch(http.StatusNotFound, "early_fraud_warning", c.id, "early_fraud_warning")
	}
	return f, nil
}

func listFraudWarnings(c *call) (any, *apiError) {
	chargeID, paymentID := c.params.text("charge"), c.params.text("payment_intent")
	created := func(f *earlyFraudWarning) int64 { return f.Created }
	return listOf(c, &c.warnings, "/v1/radar/early_fraud_warnings", "early_fraud_warning", created, func(f *earlyFraudWarning) bool {
		return (chargeID == "" || f.Charge == chargeID) && (paymentID == "" || string(f.PaymentIntent) == paymentID)
	})
}
