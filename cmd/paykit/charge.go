package main

import (
	"cmp"
	"errors"
	"strconv"

	"github.com/paykit-go/paykit"
)

type chargeCmd struct {
	Create  chargeCreate  `cmd:"" help:"Charge a saved method."`
	Get     chargeGet     `cmd:"" help:"Show a charge."`
	List    chargeList    `cmd:"" help:"List charges, newest first."`
	Refund  chargeRefund  `cmd:"" help:"Give money back."`
	Cancel  chargeCancel  `cmd:"" help:"Stop a charge that has not ended."`
	Resolve chargeResolve `cmd:"" help:"Decide how a charge that stayed in doubt ended, or that a second payment stays."`
}

type chargeCreate struct {
	keyed
	Provider    string            `default:"stripe" help:"Provider."`
	Customer    string            `required:"" help:"Customer: cust_… or your own id."`
	Method      string            `help:"Method: meth_…; default: the customer's default."`
	Amount      int64             `required:"" help:"Amount in minor units: 1900 is 19.00 usd."`
	Currency    string            `help:"Lower-case ISO 4217; default: the installation's."`
	Description string            `required:"" help:"What is charged for."`
	ReturnURL   string            `name:"return-url" help:"Where the buyer comes back to if the bank asks for authentication."`
	Retry       string            `help:"Retry schedule of the installation, by its name, for a card that declines: standard, …"`
	Metadata    map[string]string `help:"key=value pairs; they stay in history and must not name a person."`
}

// errNoMethod says that there is nothing to charge.
var errNoMethod = errors.New("the customer has no saved method: save one with `paykit method attach` or `paykit checkout create --attach-method`")

func (chargeCreate) Help() string {
	return `Under one idempotency key money is taken at most once, whatever crashes. A declined card is not an error of the
command: the charge comes back failed, with the reason.

  paykit charge create --customer user_123 --amount 1900 --description "March usage" -k march-user_123
  paykit charge create --customer user_123 --method meth_… --amount 1900 --description "March usage" \
    --return-url https://app.example.com/back     (for banks that ask the buyer)
  paykit charge create --customer user_123 --amount 1900 --description "March usage" --retry standard
                                                  (a card that declines is tried again after 1 h, 1, 3 and 5 days)`
}

func (c chargeCreate) Run(a *app) error {
	pk, err := a.client()
	if err != nil {
		return err
	}
	defer pk.Close()
	id, err := a.customerID(pk, c.Customer)
	if err != nil {
		return err
	}
	if c.Method == "" {
		list, err := pk.PaymentMethod.List(a.ctx, paykit.PaymentMethodList{ProviderID: c.Provider, CustomerID: id})
		if err != nil {
			return err
		}
		if len(list.Items) == 0 {
			return errNoMethod
		}
		c.Method = list.Items[0].ID
	}
	charge, err := pk.Charge.Create(a.ctx, paykit.ChargeCreate{
		ProviderID: c.Provider, CustomerID: id, PaymentMethodID: c.Method, Amount: c.Amount, Currency: c.Currency,
		Description: c.Description, Metadata: c.Metadata, ReturnURL: c.ReturnURL, Retry: c.Retry,
	}, c.options()...)
	if err != nil {
		return err
	}
	return a.charge(charge)
}

type chargeGet struct {
	past
	Charge string `arg:"" help:"Charge: chg_…"`
}

func (c chargeGet) Run(a *app) error {
	pk, err := a.client()
	if err != nil {
		return err
	}
	defer pk.Close()
	charge, err := pk.Charge.Get(a.ctx, c.Charge, c.options()...)
	if err != nil {
		return err
	}
	return a.charge(charge)
}

type chargeList struct {
	page
	past
	Customer string `help:"Only this customer's: cust_… or your own id."`
	Status   string `help:"Only with this status." enum:",requested,processing,requires_action,in_doubt,failed,canceled,succeeded" default:""`
}

func (c chargeList) Run(a *app) error {
	pk, err := a.client()
	if err != nil {
		return err
	}
	defer pk.Close()
	in := paykit.ChargeList{Status: paykit.ChargeStatus(c.Status), Page: c.page.page()}
	if c.Customer != "" {
		if in.CustomerID, err = a.customerID(pk, c.Customer); err != nil {
			return err
		}
	}
	list, err := pk.Charge.List(a.ctx, in, c.options()...)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, one := range list.Items {
		rows = append(rows, []string{one.ID, string(one.Status), money(one.Amount, one.Currency), one.Description, one.CustomerID, when(one.CreatedAt)})
	}
	defer a.more(list.NextCursor)
	return a.show(list, []string{"ID", "STATUS", "AMOUNT", "DESCRIPTION", "CUSTOMER", "CREATED"}, rows...)
}

type chargeRefund struct {
	keyed
	Charge string `arg:"" help:"Charge: chg_…"`
	Amount int64  `help:"Amount in minor units; default: all that is left."`
	Reason string `help:"duplicate, fraudulent or requested_by_customer." enum:",duplicate,fraudulent,requested_by_customer" default:""`
}

func (chargeRefund) Help() string {
	return `  paykit charge refund chg_…                 all that is left
  paykit charge refund chg_… --amount 900 -k return-17 --reason requested_by_customer`
}

func (c chargeRefund) Run(a *app) error {
	pk, err := a.client()
	if err != nil {
		return err
	}
	defer pk.Close()
	charge, err := pk.Charge.Refund(a.ctx, paykit.ChargeRefund{ChargeID: c.Charge, Amount: c.Amount, Reason: c.Reason}, c.options()...)
	if err != nil {
		return err
	}
	return a.charge(charge)
}

type chargeCancel struct {
	Charge string `arg:"" help:"Charge: chg_…"`
}

func (c chargeCancel) Run(a *app) error {
	pk, err := a.client()
	if err != nil {
		return err
	}
	defer pk.Close()
	charge, err := pk.Charge.Cancel(a.ctx, c.Charge)
	if err != nil {
		return err
	}
	return a.charge(charge)
}

type chargeResolve struct {
	Charge   string `arg:"" help:"Charge: chg_…"`
	Outcome  string `required:"" enum:"succeeded,failed,canceled" help:"How it ended: succeeded, failed or canceled."`
	Operator string `required:"" help:"Your name, no e-mail address; it stays in history."`
	Reason   string `required:"" help:"What you saw at the provider; it stays in history."`
	Payment  string `help:"The provider's payment that took the money, if it is not the one that is known: pi_…"`
	Refund   string `help:"Decide this refund of the charge instead, with --outcome failed: rfd_…"`
}

func (chargeResolve) Help() string {
	return `A charge is in_doubt while it is not known whether money was taken. PayKit asks the provider until it knows; what is
still unclear after a day is flagged (charge.review_requested). Look at the provider's dashboard, then decide:

  paykit charge resolve chg_… --outcome failed --operator anna --reason "no payment in the dashboard, ticket 4711"

After failed and canceled the worker cancels the payment, so that nobody can pay it later. A success that the provider
reports later still wins. A refund that stayed requested and was not made at the provider:

  paykit charge resolve chg_… --refund rfd_… --outcome failed --operator anna --reason "not in the dashboard, ticket 4711"

A charge that is a second payment for the same thing is flagged too. Give it back (paykit charge refund), or keep it:

  paykit charge resolve chg_… --outcome succeeded --operator anna --reason "they bought two, ticket 4712"

Where nothing is in doubt (any more) the decision is refused; the same one sent again is shown as it was made.`
}

func (c chargeResolve) Run(a *app) error {
	pk, err := a.client()
	if err != nil {
		return err
	}
	defer pk.Close()
	charge, err := pk.Charge.Resolve(a.ctx, paykit.ChargeResolve{
		ChargeID: c.Charge, Outcome: paykit.ChargeStatus(c.Outcome), Operator: c.Operator, Reason: c.Reason, ProviderPaymentID: c.Payment, RefundID: c.Refund,
	})
	if err != nil {
		return err
	}
	return a.charge(charge)
}

func (a *app) charge(c *paykit.Charge) error {
	failure, action, refunded, review, resolution := "", "", "", "", ""
	if c.Review != nil {
		review = string(c.Review.Reason) + " since " + when(c.Review.RequestedAt)
		if c.Review.RelatedChargeID != "" {
			review += ", beside " + c.Review.RelatedChargeID
		}
		if c.Review.Proposal != "" {
			review += ", proposed: " + c.Review.Proposal
		}
	}
	if c.Resolution != nil {
		resolution = string(c.Resolution.Outcome) + " by " + c.Resolution.Operator + ": " + c.Resolution.Reason
	}
	if c.Failure != nil {
		failure = c.Failure.Message + " (" + c.Failure.Code + ")"
	}
	if c.Action != nil {
		action = c.Action.URL + " until " + when(c.Action.ExpiresAt)
	}
	if len(c.Refunds) > 0 {
		refunded = money(c.AmountRefunded, c.Currency) + " in " + strconv.Itoa(len(c.Refunds)) + " refund(s)"
	}
	retry := ""
	if c.Retry != nil {
		retry = ladder(c.Retry)
	}
	pairs := []string{
		"id", c.ID, "status", string(c.Status), "amount", money(c.Amount, c.Currency), "description", c.Description,
		"customerId", c.CustomerID, "paymentMethodId", c.PaymentMethodID, "checkoutId", c.CheckoutID,
		"failure", failure, "retry", retry, "action", action, "refunded", refunded, "review", review, "resolution", resolution, "payment", c.ProviderPaymentID, "created", when(c.CreatedAt),
	}
	return a.fields(c, append(pairs, troubles(c)...)...)
}

// troubles are the lines of a charge's refunds that failed, disputes and fraud warnings.
func troubles(c *paykit.Charge) (pairs []string) {
	for _, r := range c.Refunds {
		if r.Failure != nil {
			pairs = append(pairs, "refund "+string(r.Status), money(r.Amount, c.Currency)+": "+r.Failure.Message+" ("+cmp.Or(r.Failure.DeclineCode, r.Failure.Code)+")")
		}
	}
	for _, d := range c.Disputes {
		line := money(d.Amount, c.Currency) + ", " + d.Status
		if d.Reason != "" {
			line += ", reason " + d.Reason
		}
		if d.Funds != "" {
			line += ", funds " + string(d.Funds)
		}
		pairs = append(pairs, "dispute "+d.ProviderDisputeID, line)
	}
	for _, f := range c.FraudWarnings {
		line := cmp.Or(f.Type, "fraud")
		if f.Actionable {
			line += ", a refund can still spare a dispute"
		}
		pairs = append(pairs, "fraud warning "+f.ProviderWarningID, line)
	}
	return pairs
}

// ladder says in one line how far a retry ladder is.
func ladder(r *paykit.Retry) string {
	text := r.Schedule + ", attempt " + strconv.Itoa(len(r.Attempts)) + " of " + strconv.Itoa(len(r.Delays)+1) + ", " + string(r.Status)
	if r.NextAttemptAt != nil {
		text += " until " + when(*r.NextAttemptAt)
	}
	return text
}
