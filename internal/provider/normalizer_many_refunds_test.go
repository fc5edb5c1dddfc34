package provider_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/paykit-go/paykit/internal/events"
)

// A refund that its charge has no room for is not lost in silence: an alarm is raised, and the delivery is done with.
func TestRefundThatIsNotKept(t *testing.T) {
	t.Parallel()
	in := newIngest(t, options{})
	b := in.buyer().charge("")
	in.deliver(b.paid())
	b.update(events.EntityCharge, b.chargeID, func(last *events.Event, c events.Cause) (*events.Event, error) {
		c.CommandID = ""
		e, err := events.DecideCharge(last, events.RefundObserved{
			RefundID: events.ReportedRefundID(stripeID, "re_0"),
			Report:   events.RefundReport{ID: "re_0", Amount: 1, Status: events.RefundSucceeded},
		}, c)
		for i := 1; i < events.MaxKeptRefunds; i++ {
			id := fmt.Sprintf("re_x%d", i)
			e.Data.Charge.Refunds = append(e.Data.Charge.Refunds, events.Refund{
				ID: events.ReportedRefundID(stripeID, id), ProviderRefundID: id, Amount: 1, Status: events.RefundSucceeded,
			})
			e.Data.Charge.AmountRefunded++
		}
		return e, err
	})
	before := in.last()
	got := in.deliver(b.event("refund.created", b.refund("one_more", "succeeded", 1)))
	if got[0] != "unchanged" || in.last() != before {
		t.Errorf("the delivery is %v", got)
	}
	if n := in.counted("paykit_refunds_not_kept_total", map[string]string{"provider": stripeID}); n != 1 || !strings.Contains(in.logs.String(), "a refund is not kept") {
		t.Errorf("%v alarms:\n%s", n, in.logs)
	}
}
