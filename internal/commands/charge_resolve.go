package commands

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
)

const maxOperator = 100 // characters

// chargeResolve is the command charge.resolve: an operator decides how a charge that stayed in doubt ended, or that a
// refund which stayed unanswered was not made. It is for
// people who have looked at the provider, so the queue, which apps write to, does not take it.
type chargeResolve struct {
	chargeID string
	in       events.ResolveCharge
}

func parseChargeResolve(f *fields, _ Config) command {
	c := chargeResolve{chargeID: f.text("chargeId")}
	c.in.Outcome = events.ChargeStatus(f.text("outcome"))
	c.in.Operator = f.lastingText("operator", maxOperator)
	c.in.Reason = f.lastingText("reason", maxDescription)
	c.in.ProviderPaymentID = f.optionalID("providerPaymentId")
	c.in.RefundID = f.optionalID("refundId")
	if !c.in.Outcome.Final() && c.in.Outcome != "" {
		f.refuse(invalid("outcome", "must be succeeded, failed or canceled"))
	}
	if id := c.in.ProviderPaymentID; id != "" && !providerID.MatchString(id) {
		f.refuse(invalid("providerPaymentId", "must be the provider's id of a payment"))
	}
	return c
}

// providerID is what a provider's id looks like.
var providerID = regexp.MustCompile(`^[A-Za-z0-9_]{1,255}$`)

// lastingText is a required text of an operator's, which stays for ever.
func (f *fields) lastingText(name string, most int) string {
	s := f.text(name)
	switch {
	case s != "" && strings.TrimSpace(s) == "":
		f.refuse(invalid(name, "must not be blank"))
	case utf8.RuneCountInString(s) > most:
		f.refuse(invalid(name, "must be at most %d characters long", most))
	case strings.ContainsFunc(s, unicode.IsControl):
		f.refuse(invalid(name, "must not hold control characters"))
	}
	f.impersonal(name, personalData(s))
	return s
}

func (c chargeResolve) plan(h *Handler, _ call) plan {
	return plan{
		entity: events.EntityCharge, id: c.chargeID,
		decide: func(ctx context.Context, last *events.Event, cause events.Cause) (*events.Event, error) {
			e, err := events.DecideCharge(last, c.in, cause)
			if err != nil || e == nil {
				return e, err
			}
			if id := e.Data.Charge.ProviderPaymentID; id != last.Data.Charge.ProviderPaymentID {
				err = h.claimPayment(ctx, last, id)
			}
			return e, err
		},
	}
}

// claimPayment makes sure that the payment which an operator names is no other charge's, and links it to this one. A
// crash right after leaves a link to a charge that does not know the payment: the command, sent again, finds it its own,
// and whoever else reads the link sees that the charge does not know the payment.
func (h *Handler) claimPayment(ctx context.Context, last *events.Event, paymentID string) error {
	c := last.Data.Charge
	taken := &events.Error{
		Code: events.CodeChargeNotResolvable, Param: "providerPaymentId", Message: "the payment is another charge's",
	}
	_, ok, err := h.find(ctx, events.EntityCharge, events.ReportedChargeID(c.ProviderID, paymentID, ""),
		func(*events.Event) bool { return true })
	if err != nil {
		return err
	}
	if ok {
		return taken
	}
	link := eventlog.Link{Entity: events.EntityCharge, ID: c.ID, CustomerID: c.CustomerID}
	err = h.log.PutLink(ctx, c.ProviderID, paymentID, link)
	if _, other := errors.AsType[*eventlog.LinkTakenError](err); other {
		return taken
	}
	if err != nil {
		return fmt.Errorf("link %s: %w", paymentID, err)
	}
	return nil
}
