package stripe

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
)

// endless is a list of events, none of ours, that never ends but for the event of a page that is given.
func endless(t *testing.T, told map[int64]string) (c *Client, pages *atomic.Int64) {
	t.Helper()
	pages = &atomic.Int64{}
	return newClient(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
		n := pages.Add(1)
		object, ok := told[n]
		if !ok {
			object = `{"id":"re_other","object":"refund"}`
		}
		_, _ = fmt.Fprintf(w, `{"object":"list","has_more":true,"data":[{"id":"evt_%d","type":"refund.created","data":{"object":%s}}]}`, n, object)
	}), nil), pages
}

// A busy account has more events than one question may read. Of a payment that is no answer at all; of a refund it is
// none that a second one could be made on.
func TestWitnessesReadSoMuchAndNoMore(t *testing.T) {
	sought := provider.Sought{Owner: events.Owner{Env: "env_test", Charge: "chg_1", Refund: "rfd_1"}, Key: "k", Since: unix(1)}
	t.Run("payment", func(t *testing.T) {
		c, pages := endless(t, nil)
		id, err := c.SawPayment(t.Context(), sought)
		if id != "" || err != nil || pages.Load() != witnessPages {
			t.Errorf("got %q, %v after %d pages", id, err, pages.Load())
		}
	})
	t.Run("refund", func(t *testing.T) {
		c, pages := endless(t, nil)
		_, seen, err := c.SawRefund(t.Context(), sought)
		e, ok := errors.AsType[*provider.Error](err)
		if seen || !ok || e.Class != provider.Transient || e.RetryAfter < 10*time.Minute || pages.Load() != witnessPages {
			t.Errorf("got %v, %v after %d pages", seen, err, pages.Load())
		}
	})
	t.Run("refund on the last page", func(t *testing.T) {
		ours := `{"id":"re_1","object":"refund","metadata":{"paykit_env":"env_test","paykit_charge":"chg_1","paykit_refund":"rfd_1"}}`
		c, pages := endless(t, map[int64]string{witnessPages: ours})
		r, seen, err := c.SawRefund(t.Context(), sought)
		if !seen || err != nil || r.ID != "re_1" || pages.Load() != witnessPages {
			t.Errorf("got %+v, %v, %v after %d pages", r, seen, err, pages.Load())
		}
	})
}
